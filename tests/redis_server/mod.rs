//! A Redis server of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// Below those that the system gives to clients: else whoever asks whether the server is there yet might be given its port.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    let ports =
        (0..10_000).map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    ports
        .into_iter()
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A `redis-server` on loopback that ends with the test.
pub(crate) struct Server {
    process: Child,
    port: u16,
    /// What survives a restart.
    data: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_at(free_port(), tempfile::tempdir().unwrap())
    }

    fn start_at(port: u16, data: TempDir) -> Self {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args([
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .current_dir(data.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self {
            process,
            port,
            data,
        };
        let patience = Instant::now();
        while !server.answers() {
            assert!(patience.elapsed() < Duration::from_secs(10), "no server");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn answers(&self) -> bool {
        // One that is about to serve may take a connection and reset it.
        self.ask(&["PING"]).is_ok_and(|said| said == "PONG")
    }

    /// Kills it, and starts it again later with what it had.
    pub(crate) fn restart(&mut self, later: Duration) {
        self.end();
        std::thread::sleep(later);
        let data = std::mem::replace(&mut self.data, tempfile::tempdir().unwrap());
        *self = Self::start_at(self.port, data);
    }

    /// Kills it.
    pub(crate) fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` would be told.
    pub(crate) fn ask(&self, command: &[&str]) -> std::io::Result<String> {
        use std::io::{BufRead, BufReader, Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        let mut text = format!("*{}\r\n", command.len());
        for word in command {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(text.as_bytes())?;
        let mut answer = BufReader::new(stream);
        let mut head = String::new();
        answer.read_line(&mut head)?;
        let head = head.trim_end();
        let Some(length) = head.strip_prefix('$') else {
            return Ok(head.trim_start_matches([':', '+', '-', '*']).to_owned());
        };
        let mut body = vec![0; length.parse().unwrap()];
        answer.read_exact(&mut body)?;
        Ok(String::from_utf8(body).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
