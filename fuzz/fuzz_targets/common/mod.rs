//! A call through the layer, with everything in memory.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower_layer::Layer;
use tower_sekuire::{Policy, PolicyViolation, SekuireLayer};
use tower_service::Service;

pub const MODELS: [&str; 2] = ["gpt-4o-mini", "gpt-4o"];
pub const TOOLS: [&str; 2] = ["web_search", "files:read"];

/// Only these models and tools are allowed.
pub fn layer() -> SekuireLayer {
    let policy = "
agent:
  models: { allowed_models: [gpt-4o-mini, gpt-4o] }
  toolsets: { allowed_tools: [web_search, \"files:read\"] }
";
    SekuireLayer::new(Policy::from_yaml(policy).expect("the policy loads"))
}

/// As [`layer`], with tokens that are counted, and more of them than a few answers can report: what is refused for a limit
/// says how long to wait, which is never the same twice.
pub fn counting_layer() -> SekuireLayer {
    let policy = "
agent:
  models: { allowed_models: [gpt-4o-mini, gpt-4o] }
  toolsets: { allowed_tools: [web_search, \"files:read\"] }
rate_limits: { per_agent: { tokens_per_day: 1000000000000000000 } }
";
    SekuireLayer::new(Policy::from_yaml(policy).expect("the policy loads"))
}

/// A server that answers with these frames and keeps what it was sent.
#[derive(Clone)]
pub struct Server {
    content_type: &'static str,
    frames: Arc<[Bytes]>,
    sent: Arc<Mutex<Option<Bytes>>>,
}

impl Service<Request<Full<Bytes>>> for Server {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let body = http_body_util::BodyExt::collect(request.into_body());
        let body = body
            .now_or_never()
            .expect("a whole body")
            .expect("no error");
        *self.sent.lock().expect("not poisoned") = Some(body.to_bytes());
        ready(Ok(Response::builder()
            .header("content-type", self.content_type)
            .body(Frames(self.frames.clone(), 0))
            .expect("a well-formed head")))
    }
}

pub struct Frames(Arc<[Bytes]>, usize);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.0.get(self.1).cloned();
        self.1 += 1;
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The request's body as the server got it.
    pub sent: Option<Bytes>,
    /// What of the answer's body reached the client.
    pub released: Vec<u8>,
    /// Why the call or its body ended early.
    pub violation: Option<String>,
}

/// Calls with this request's body and is answered with these frames.
pub fn call(
    layer: &SekuireLayer,
    path: &str,
    request: Bytes,
    content_type: &'static str,
    frames: Vec<Bytes>,
) -> Outcome {
    let server = Server {
        content_type,
        frames: frames.into(),
        sent: Arc::default(),
    };
    let mut outcome = Outcome {
        sent: None,
        released: Vec::new(),
        violation: None,
    };
    let request = Request::post(format!("https://api.openai.com/v1{path}"))
        .header("content-type", "application/json")
        .body(Full::new(request))
        .expect("a well-formed head");
    let answer = layer
        .layer(server.clone())
        .call(request)
        .now_or_never()
        .expect("answered at once");
    outcome.sent = server.sent.lock().expect("not poisoned").take();
    let mut cx = Context::from_waker(Waker::noop());
    match answer {
        Err(error) => outcome.violation = Some(why(&*error)),
        Ok(answer) => {
            let mut body = pin!(answer.into_body());
            loop {
                match body.as_mut().poll_frame(&mut cx) {
                    Poll::Pending => {}
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(Ok(frame))) => {
                        let data = frame.into_data().expect("no trailers were sent");
                        outcome.released.extend_from_slice(&data);
                    }
                    Poll::Ready(Some(Err(error))) => {
                        outcome.violation = Some(why(&*error));
                        let after = body.as_mut().poll_frame(&mut cx);
                        assert!(matches!(after, Poll::Ready(None)), "more after an error");
                        break;
                    }
                }
            }
        }
    }
    outcome
}

fn why(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let violation = PolicyViolation::find(error).expect("only the policy fails here");
    // Which event it was is part of it.
    format!("{violation:?} {violation}")
}
