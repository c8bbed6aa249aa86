//! The child processes, and what the kernel says of them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::BoxError;

/// A process that listens. It is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Program {
    pub(crate) fn mock() -> Result<Self, BoxError> {
        Self::start(Command::new(std::env::current_exe()?).arg("mock"))
    }

    pub(crate) fn bare(upstream: &Self) -> Result<Self, BoxError> {
        let upstream = upstream.address.to_string();
        Self::start(Command::new(std::env::current_exe()?).args(["bare", &upstream]))
    }

    pub(crate) fn gateway(upstream: &Self, policy: &Path, log: &str) -> Result<Self, BoxError> {
        let upstream = format!("http://{}", upstream.address);
        Self::start(
            Command::new(env!("CARGO_BIN_EXE_sekuire-gateway"))
                .args(["serve", "--listen", "127.0.0.1:0", "--upstream", &upstream])
                .arg("--policy")
                .arg(policy)
                .args(["--max-connections", "100000"])
                .env("RUST_LOG", log)
                .stderr(Stdio::null()),
        )
    }

    fn start(command: &mut Command) -> Result<Self, BoxError> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut program = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
        };
        let stdout = program.child.stdout.take();
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no output")?).read_line(&mut line)?;
        program.address = line
            .trim_end()
            .strip_prefix("listening on http://")
            .ok_or("a program didn't start")?
            .parse()?;
        Ok(program)
    }

    /// The CPU time that its threads have used. Threads live as long as the process here.
    pub(crate) fn cpu(&self) -> Result<Duration, BoxError> {
        let process = format!("/proc/{}", self.child.id());
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("{process}/task"))? {
            let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
                // Not every kernel counts so finely.
                return ticks(&std::fs::read_to_string(format!("{process}/stat"))?);
            };
            nanoseconds += text.split(' ').next().ok_or("schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// KiB of resident memory.
    pub(crate) fn resident(&self) -> Result<u64, BoxError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let text = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(text.ok_or("VmRSS")?.parse()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time, which `/proc/PID/stat` counts in hundredths of a second.
fn ticks(stat: &str) -> Result<Duration, BoxError> {
    // The second field, a name in parentheses, may hold blanks.
    let (_, fields) = stat.rsplit_once(") ").ok_or("stat")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || Ok::<u64, BoxError>(fields.next().ok_or("stat")?.parse()?);
    Ok(Duration::from_millis(10 * (next()? + next()?)))
}

/// How many files this process and its children may have open.
pub(crate) fn descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
