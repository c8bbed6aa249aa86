//! A gateway process, an upstream to put behind it, and a client to put before it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::SendRequest,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type AnyBody = BoxBody<Bytes, BoxError>;

/// Long enough for a busy machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

/// A policy that governs something and lets the test's requests through.
pub(crate) const POLICY: &str = "
agent:
  name: Test Agent
  models:
    allowed_models: [gpt-4o-mini]
";

pub(crate) fn policy_file(text: &str) -> NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Runs the binary to its end.
pub(crate) async fn run(args: &[&str], envs: &[(&str, &str)]) -> Output {
    let output = command(args, envs).output();
    soon("the program", output).await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the binary to its end with this on its standard input.
pub(crate) async fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child = command(args, &[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have read enough before all is written.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    soon("the program", child.wait_with_output()).await.unwrap()
}

fn command(args: &[&str], envs: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekuire-gateway"));
    command
        .args(args)
        .env_remove("RUST_LOG")
        .envs(envs.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A running `sekuire-gateway serve` on a free port.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: tokio::task::JoinHandle<String>,
    log: Arc<Mutex<String>>,
    policy: NamedTempFile,
}

impl Gateway {
    pub(crate) async fn start(upstream: &str, args: &[&str]) -> Self {
        Self::start_with(POLICY, upstream, args, &[]).await
    }

    pub(crate) async fn start_with(
        policy: &str,
        upstream: &str,
        args: &[&str],
        envs: &[(&str, &str)],
    ) -> Self {
        let policy = policy_file(policy);
        let path = policy.path().to_str().unwrap();
        let mut all = vec!["serve", "--policy", path, "--upstream", upstream];
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        let mut child = command(&all, envs).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::<Mutex<String>>::default();
        let record = Arc::clone(&log);
        let stderr = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                let mut log = record.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
            std::mem::take(&mut *record.lock().unwrap())
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        soon("start", stdout.read_line(&mut line)).await.unwrap();
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|rest| rest.strip_suffix('\n'))
            .unwrap_or_else(|| panic!("unexpected first line {line:?}"))
            .parse()
            .unwrap();
        Self {
            address,
            child,
            stdout,
            stderr,
            log,
            policy,
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The address of the admin listener, from the log.
    pub(crate) async fn admin(&self) -> SocketAddr {
        let said = async {
            loop {
                let log = self.log.lock().unwrap().clone();
                if let Some((_, rest)) = log.split_once("admin listening on http://") {
                    return rest.lines().next().unwrap().parse().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the admin listener", said).await
    }

    /// Puts another policy in the file's place, whole.
    pub(crate) fn rewrite_policy(&self, text: &str) {
        let path = self.policy.path();
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, path).unwrap();
    }

    /// Waits until the log says so, `times` times.
    pub(crate) async fn logged(&self, text: &str, times: usize) {
        let said = async {
            while self.log.lock().unwrap().matches(text).count() < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(text, said).await;
    }

    /// One request to the admin listener.
    pub(crate) async fn ask_admin(&self, request: http::request::Builder) -> Answer {
        self.order_admin(request, "").await
    }

    /// The same with a body.
    pub(crate) async fn order_admin(
        &self,
        request: http::request::Builder,
        body: &'static str,
    ) -> Answer {
        let request = request.body(whole(body)).unwrap();
        let mut client = Client::connect(self.admin().await).await;
        client.send(request).await.whole().await
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: http::request::Builder, body: &str) -> Answer {
        let request = request
            .body(
                Full::new(Bytes::from(body.to_owned()))
                    .map_err(|never| match never {})
                    .boxed(),
            )
            .unwrap();
        self.connect().await.send(request).await.whole().await
    }

    /// Sends bytes as they are and reads until the connection closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let request = request.replace("{HOST}", &self.address.to_string());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon("a raw answer", stream.read_to_end(&mut answer))
            .await
            .unwrap();
        text(&answer)
    }

    /// As [`raw`](Self::raw), and nothing more will be sent.
    pub(crate) async fn raw_and_done(&self, request: &str) -> String {
        let request = request.replace("{HOST}", &self.address.to_string());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A gateway that refuses before it has read everything may reset the connection.
        let _ = soon("a raw answer", stream.read_to_end(&mut answer)).await;
        text(&answer)
    }

    #[cfg(unix)]
    pub(crate) async fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let status = Command::new("kill")
            .args([signal, &id])
            .status()
            .await
            .unwrap();
        assert!(status.success());
    }

    /// The most memory that the process has ever had in use, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_memory(&self) -> usize {
        let id = self.child.id().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.unwrap().trim().parse::<usize>().unwrap() << 10
    }

    /// Waits for the end of the process: exit code, what else it printed, what it logged.
    pub(crate) async fn ended(mut self) -> (Option<i32>, String, String) {
        let status = soon("the end", self.child.wait()).await.unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).await.unwrap();
        (status.code(), rest, self.stderr.await.unwrap())
    }
}

/// One client connection; dropping it closes the connection.
pub(crate) struct Client {
    host: String,
    sender: SendRequest<AnyBody>,
    connection: tokio::task::JoinHandle<()>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Self {
            host: address.to_string(),
            sender,
            connection: tokio::spawn(async move {
                let _ = connection.await;
            }),
        }
    }

    pub(crate) async fn send(&mut self, mut request: Request<AnyBody>) -> Answer {
        if !request.headers().contains_key("host") {
            request
                .headers_mut()
                .insert("host", self.host.parse().unwrap());
        }
        let response = soon("an answer", self.sender.send_request(request))
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        Answer {
            head,
            body: Some(body),
            bytes: Vec::new(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    body: Option<Incoming>,
    bytes: Vec<u8>,
}

impl Answer {
    /// The next piece of the body; `None` at its clean end.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let body = self.body.as_mut().unwrap();
        soon("a piece of the body", body.frame())
            .await
            .map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    pub(crate) async fn whole(mut self) -> Self {
        let body = self.body.take().unwrap();
        self.bytes = soon("the body", body.collect())
            .await
            .unwrap()
            .to_bytes()
            .to_vec();
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn text(&self) -> String {
        text(&self.bytes)
    }

    /// The `type` and `code` of an OpenAI error body.
    pub(crate) fn error(&self) -> (String, String) {
        assert_eq!(self.head.headers["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_slice(&self.bytes).unwrap();
        let error = &body["error"];
        assert!(error["message"].is_string(), "{body}");
        assert!(error["param"].is_null(), "{body}");
        let field = |name: &str| error[name].as_str().unwrap().to_owned();
        (field("type"), field("code"))
    }
}

/// What the upstream was sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A provider on loopback.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Answers every request with `handler`, which reads the body itself.
    pub(crate) async fn streaming<H>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> BoxFuture<'static, Response<AnyBody>> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Arc::new(handler);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Arc::clone(&handler);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = handler(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            seen: Arc::default(),
            server,
        }
    }

    /// Records each request and answers it with a copy of `answer`.
    pub(crate) async fn answering(answer: Response<&'static str>) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let record = Arc::clone(&seen);
        let mut upstream = Self::streaming(move |request| {
            let record = Arc::clone(&record);
            let answer = answer.clone();
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                record.lock().unwrap().push(Seen {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    headers: head.headers,
                    body,
                });
                answer.map(whole)
            })
        })
        .await;
        upstream.seen = seen;
        upstream
    }

    /// Answers a chat completion.
    pub(crate) async fn chat() -> Self {
        let answer = Response::builder().header("content-type", "application/json");
        Self::answering(answer.body(CHAT_ANSWER).unwrap()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn whole(body: &'static str) -> AnyBody {
    Full::new(Bytes::from_static(body.as_bytes()))
        .map_err(|never| match never {})
        .boxed()
}

/// A body that the test feeds: the sender's end and the body's.
pub(crate) fn fed() -> (http_body_util::channel::Sender<Bytes, BoxError>, AnyBody) {
    let (sender, body) = http_body_util::channel::Channel::new(1);
    (sender, boxed(body))
}

pub(crate) fn boxed<B>(body: B) -> AnyBody
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed()
}

pub(crate) fn chat() -> http::request::Builder {
    Request::post("/v1/chat/completions").header("content-type", "application/json")
}

pub(crate) const CHAT_REQUEST: &str =
    r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;

pub(crate) const STREAM_REQUEST: &str =
    r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"stream":true}"#;

pub(crate) const CHAT_ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Hi!"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

/// One event of a chat stream.
pub(crate) fn event(content: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
         \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\
         \"{content}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

pub(crate) const DONE: &str = "data: [DONE]\n\n";
