//! What the test programs share: a scripted service to put below the layer, and a client that polls it by hand.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request, response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, Service};
use tower_sekuire::{
    BoxError, Decision, End, Phase, Policy, PolicyEnforcer, PolicyViolation, ResponseBody, Rule,
    SekuireLayer, SekuireService, Verdict,
};

pub(crate) const URL: &str = "https://api.openai.com/v1/chat/completions";

/// Polls a future to its end by hand. A future that is pending without having arranged to be woken would hang
/// its caller for ever: that fails here at once.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let mut seen = 0;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let now = wakes.count();
        assert!(
            now > seen,
            "pending, and nothing will wake the task: it would hang"
        );
        seen = now;
    }
}

/// Counts how often a task was woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a scripted body does at one poll.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Not yet: wakes the task and is ready at the next poll.
    Pending,
    /// The connection breaks.
    Fail,
}

impl Step {
    pub(crate) fn data(bytes: impl Into<Bytes>) -> Self {
        Self::Data(bytes.into())
    }
}

/// What became of a scripted body.
#[derive(Default)]
pub(crate) struct Fate {
    pub(crate) polls: AtomicUsize,
    pub(crate) drops: AtomicUsize,
}

impl Fate {
    pub(crate) fn is_dropped(&self) -> bool {
        self.drops.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }
}

/// A body that follows a script, and fails the test when it is polled after its end.
pub(crate) struct ScriptBody {
    steps: VecDeque<Step>,
    /// States its remaining length.
    exact: bool,
    ended: bool,
    fate: Arc<Fate>,
}

impl ScriptBody {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            exact: false,
            ended: false,
            fate: Arc::default(),
        }
    }

    pub(crate) fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(crate) fn fate(&self) -> Arc<Fate> {
        self.fate.clone()
    }
}

impl Drop for ScriptBody {
    fn drop(&mut self) {
        self.fate.drops.fetch_add(1, Ordering::SeqCst);
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.fate.polls.fetch_add(1, Ordering::SeqCst);
        assert!(!self.ended, "a body was polled after its end");
        match self.steps.pop_front() {
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Fail) => {
                self.ended = true;
                Poll::Ready(Some(Err("the connection was reset".into())))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exact && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.exact {
            return SizeHint::default();
        }
        SizeHint::with_exact(
            self.steps
                .iter()
                .map(|step| match step {
                    Step::Data(data) => data.len() as u64,
                    _ => 0,
                })
                .sum(),
        )
    }
}

type Script = dyn Fn() -> Result<Response<ScriptBody>, BoxError> + Send + Sync;

/// A service that answers by a script and keeps the requests that reached it. It insists on tower's contract: only
/// an instance that was polled ready may be called, and once.
pub(crate) struct Upstream {
    answer: Arc<Script>,
    received: Arc<Mutex<Vec<(request::Parts, Bytes)>>>,
    ready: bool,
}

impl Clone for Upstream {
    fn clone(&self) -> Self {
        Self {
            answer: self.answer.clone(),
            received: self.received.clone(),
            ready: false,
        }
    }
}

impl Upstream {
    pub(crate) fn new(
        answer: impl Fn() -> Result<Response<ScriptBody>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            answer: Arc::new(answer),
            received: Arc::default(),
            ready: false,
        }
    }

    /// Answers every request with these steps.
    pub(crate) fn steps(status: u16, content_type: &'static str, steps: Vec<Step>) -> Self {
        Self::new(move || Ok(answer(status, content_type, ScriptBody::new(steps.clone()))))
    }

    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::steps(200, "application/json", vec![Step::Data(body)])
    }

    pub(crate) fn stream(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::steps(200, "text/event-stream", vec![Step::Data(body)])
    }

    pub(crate) fn received(&self) -> Vec<(request::Parts, Bytes)> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

pub(crate) fn answer<B>(status: u16, content_type: &str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if !content_type.is_empty() {
        let value = content_type.parse().unwrap();
        response.headers_mut().insert("content-type", value);
    }
    response
}

impl Service<Request<Full<Bytes>>> for Upstream {
    type Response = Response<ScriptBody>;
    type Error = BoxError;
    type Future = Ready<Result<Response<ScriptBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "a service was called that had not been polled ready"
        );
        let (head, body) = request.into_parts();
        let body = run(body.collect())
            .unwrap_or_else(|never: Infallible| match never {})
            .to_bytes();
        self.received.lock().unwrap().push((head, body));
        ready((self.answer)())
    }
}

/// A decision as a callback was told it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) phase: Phase,
    pub(crate) verdict: Verdict,
    pub(crate) rule: Option<Rule>,
    pub(crate) tokens: Option<u64>,
    pub(crate) estimated: bool,
    pub(crate) end: Option<End>,
    pub(crate) policy_version: u64,
    /// The whole of it, for tests that look for what must not be in it.
    pub(crate) debug: String,
}

/// A layer, and what it told.
#[derive(Clone)]
pub(crate) struct Stand {
    pub(crate) layer: SekuireLayer,
    pub(crate) told: Arc<Mutex<Vec<Told>>>,
}

impl Stand {
    pub(crate) fn new(policy: Policy) -> Self {
        Self::from_enforcer(PolicyEnforcer::new(policy))
    }

    pub(crate) fn yaml(policy: &str) -> Self {
        Self::new(Policy::from_yaml(policy).unwrap())
    }

    pub(crate) fn from_enforcer(enforcer: PolicyEnforcer) -> Self {
        Self::around_layer(SekuireLayer::from_enforcer(enforcer))
    }

    pub(crate) fn around_layer(layer: SekuireLayer) -> Self {
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let sink = told.clone();
        let layer = layer.on_decision(move |decision: &Decision<'_>| {
            sink.lock().unwrap().push(Told {
                phase: decision.phase,
                verdict: decision.verdict,
                rule: decision.violation.map(PolicyViolation::rule),
                tokens: decision.tokens,
                estimated: decision.estimated,
                end: decision.end,
                policy_version: decision.policy_version,
                debug: format!("{decision:?}"),
            });
        });
        Self { layer, told }
    }

    /// Changes the layer's options.
    pub(crate) fn with(mut self, change: impl FnOnce(SekuireLayer) -> SekuireLayer) -> Self {
        self.layer = change(self.layer);
        self
    }

    pub(crate) fn around<S>(&self, inner: S) -> SekuireService<S> {
        self.layer.layer(inner)
    }

    /// What was told since the last time.
    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// How answers ended since the last time.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.told()
            .into_iter()
            .filter_map(|told| told.end)
            .collect()
    }

    /// What the first limit of the policy has counted.
    pub(crate) fn used(&self) -> u64 {
        self.layer.enforcer().usage()[0].used()
    }

    /// Sends one request through the layer and reads all of its answer.
    pub(crate) fn call(&self, upstream: &Upstream, request: Request<Full<Bytes>>) -> Outcome {
        exchange(&mut self.around(upstream.clone()), request)
    }
}

/// A policy that allows these tools and counts tokens without ever running out of them.
pub(crate) fn allowing<T: AsRef<str>>(tools: &[T]) -> Policy {
    let tools: Vec<&str> = tools.iter().map(AsRef::as_ref).collect();
    policy(&json!({"allowed_tools": tools}))
}

/// As [`allowing`], for a policy that forbids one tool and allows all others.
pub(crate) fn forbidding(tool: &str) -> Policy {
    policy(&json!({"blocked_tools": [tool]}))
}

fn policy(toolsets: &Value) -> Policy {
    let document = json!({
        "agent": {"name": "tested", "toolsets": toolsets},
        "rate_limits": {"per_agent": {"tokens_per_day": 1_000_000_000_000_u64}},
    });
    Policy::from_json(&document.to_string()).unwrap()
}

/// A policy that governs, but restricts neither models nor tools.
pub(crate) fn unrestricted() -> Policy {
    Policy::from_yaml("rate_limits: { per_agent: { tokens_per_day: 1000000000000 } }").unwrap()
}

pub(crate) fn request(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request_to(URL, body)
}

pub(crate) fn request_to(url: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(url)
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

/// A request for a streamed answer.
pub(crate) const ASK: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;

/// What a client got.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// `None` when the call failed before an answer's head came.
    pub(crate) head: Option<response::Parts>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    pub(crate) error: Option<BoxError>,
}

impl Outcome {
    pub(crate) fn violation(&self) -> Option<&PolicyViolation> {
        PolicyViolation::find(&**self.error.as_ref()?)
    }

    pub(crate) fn rule(&self) -> Option<Rule> {
        self.violation().map(PolicyViolation::rule)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

pub(crate) fn exchange(
    service: &mut SekuireService<Upstream>,
    request: Request<Full<Bytes>>,
) -> Outcome {
    let ready =
        std::future::poll_fn(|cx| Service::<Request<Full<Bytes>>>::poll_ready(&mut *service, cx));
    if let Err(error) = run(ready) {
        return Outcome {
            error: Some(error),
            ..Outcome::default()
        };
    }
    match run(service.call(request)) {
        Ok(response) => read(response),
        Err(error) => Outcome {
            error: Some(error),
            ..Outcome::default()
        },
    }
}

/// Reads an answer to its end, as a client would.
pub(crate) fn read<B: Body<Data = Bytes>>(response: Response<ResponseBody<B>>) -> Outcome
where
    B::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let mut outcome = Outcome {
        head: Some(head),
        ..Outcome::default()
    };
    let mut body = pin!(body);
    while let Some(frame) = run(body.as_mut().frame()) {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => outcome.bytes.extend_from_slice(&data),
            Ok(Err(frame)) => outcome.trailers = frame.into_trailers().ok(),
            Err(error) => {
                outcome.error = Some(error);
                break;
            }
        }
    }
    outcome
}

/// Cuts bytes at these places.
pub(crate) fn cut(bytes: &Bytes, at: impl IntoIterator<Item = usize>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in at {
        let place = place.clamp(from, bytes.len());
        pieces.push(bytes.slice(from..place));
        from = place;
    }
    pieces.push(bytes.slice(from..));
    pieces
}

/// One event of a stream, as the standard reads it: where its block lies and what it says. Written apart from the
/// crate's own reader, and as plainly as possible.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) data: String,
}

pub(crate) fn events(stream: &[u8]) -> Vec<Event> {
    let mut found = Vec::new();
    let (mut start, mut data) = (0, None::<String>);
    let mut at = 0;
    while at < stream.len() {
        let length = stream[at..]
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .unwrap_or(stream.len() - at);
        let line = &stream[at..at + length];
        let crlf = stream[at + length..].starts_with(b"\r\n");
        let next = (at + length + if crlf { 2 } else { 1 }).min(stream.len());
        let line = String::from_utf8(line.to_vec()).unwrap();
        if let Some(value) = line.strip_prefix("data:") {
            let value = value.strip_prefix(' ').unwrap_or(value);
            data = Some(match data {
                Some(before) => before + "\n" + value,
                None => value.to_owned(),
            });
        }
        // A comment alone is no event's.
        let alone = line.starts_with(':') && at == start;
        if line.is_empty() || alone {
            if let Some(data) = data.take() {
                found.push(Event {
                    start,
                    end: next,
                    data,
                });
            }
            start = next;
        }
        at = next;
    }
    found
}

/// The names that an answer's document calls, delta or whole.
pub(crate) fn called(document: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for choice in document["choices"].as_array().into_iter().flatten() {
        for spoken in [&choice["delta"], &choice["message"]] {
            for call in spoken["tool_calls"].as_array().into_iter().flatten() {
                for carrier in [&call["function"], &call["custom"]] {
                    names.extend(carrier["name"].as_str().map(str::to_owned));
                }
            }
            names.extend(spoken["function_call"]["name"].as_str().map(str::to_owned));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The same stream with another end of line.
pub(crate) fn reframed(stream: &str, line_end: &str) -> String {
    stream.replace('\n', line_end)
}

/// The folder with recorded traffic and vectors, which is not part of the crate.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SEKUIRE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is absent", path.display());
    None
}

/// A folder of this crate's own test data.
pub(crate) fn own(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes chat streams and answers the way providers do.
pub(crate) mod chat {
    use serde_json::{Value, json};

    pub(crate) fn event(document: &Value) -> String {
        format!("data: {document}\n\n")
    }

    pub(crate) fn delta(delta: &Value) -> String {
        event(
            &json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
        )
    }

    pub(crate) fn text(text: &str) -> String {
        delta(&json!({"content": text}))
    }

    pub(crate) fn opened(index: u64, name: &str) -> String {
        delta(
            &json!({"tool_calls": [{"index": index, "id": format!("call_{index}"), "type": "function", "function": {"name": name, "arguments": ""}}]}),
        )
    }

    pub(crate) fn arguments(index: u64, piece: &str) -> String {
        delta(&json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    }

    pub(crate) fn usage(total: u64) -> String {
        event(
            &json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": total - 1, "completion_tokens": 1, "total_tokens": total}}),
        )
    }

    pub(crate) const DONE: &str = "data: [DONE]\n\n";

    pub(crate) fn answer(message: &Value) -> String {
        json!({"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
            .to_string()
    }
}
