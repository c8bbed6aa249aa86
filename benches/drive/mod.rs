//! Drives one call after another on one thread, with and without the layer: an in-process service, a body of
//! ready-made frames and a waker that does nothing, so that only inspection costs anything.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, request};
use http_body::{Body, Frame};
use http_body_util::Full;
use tower_layer::Layer;
use tower_sekuire::{Policy, SekuireLayer, SekuireService};
use tower_service::Service;

use super::corpus::{FORBIDDEN, MODEL, TOOLS};

/// Models, tools, hosts and limits, none of which the traffic of the benches exhausts.
pub(crate) fn policy() -> Policy {
    let tools: Vec<String> = TOOLS.iter().map(|name| format!("\"{name}\"")).collect();
    let document = format!(
        "
agent:
  models: {{ allowed_models: [{MODEL}, gpt-4o], blocked_models: [gpt-3.5-turbo] }}
  toolsets: {{ allowed_tools: [{}], blocked_tools: [{FORBIDDEN}, env_set] }}
permissions:
  network: {{ enabled: true, require_tls: true, allowed_domains: [api.openai.com] }}
rate_limits:
  per_agent: {{ requests_per_minute: 1000000000, tokens_per_hour: 1000000000000000 }}
",
        tools.join(", ")
    );
    Policy::from_yaml(&document).expect("the benches' policy loads")
}

/// A server that gives the same answer to every request.
#[derive(Clone)]
pub(crate) struct Server {
    status: StatusCode,
    content_type: Option<&'static str>,
    frames: Arc<[Bytes]>,
}

impl Server {
    pub(crate) fn new(content_type: &'static str, frames: Vec<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: Some(content_type),
            frames: frames.into(),
        }
    }

    /// Answers `204 No Content`.
    pub(crate) fn silent() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            content_type: None,
            frames: Arc::new([]),
        }
    }

    /// The same server behind the layer.
    pub(crate) fn governed(&self) -> SekuireService<Self> {
        SekuireLayer::new(policy()).layer(self.clone())
    }
}

impl Service<Request<Full<Bytes>>> for Server {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        // A client reads what it sends.
        std::hint::black_box(request.body().size_hint());
        let mut answer = Response::new(Frames {
            frames: self.frames.clone(),
            next: 0,
        });
        *answer.status_mut() = self.status;
        if let Some(content_type) = self.content_type {
            answer.headers_mut().insert(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static(content_type),
            );
        }
        ready(Ok(answer))
    }
}

/// A body of these frames.
pub(crate) struct Frames {
    frames: Arc<[Bytes]>,
    next: usize,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}

/// The head of a request to this path, to be sent again and again.
pub(crate) fn head(path: &str) -> request::Parts {
    Request::post(format!("https://api.openai.com/v1{path}"))
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk-none")
        .body(())
        .expect("the head is well formed")
        .into_parts()
        .0
}

/// Sends a request that is answered without waiting.
pub(crate) fn send<S, B>(service: &mut S, head: &request::Parts, body: &Bytes) -> B
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    service
        .call(Request::from_parts(head.clone(), Full::new(body.clone())))
        .now_or_never()
        .expect("the service answers at once")
        .expect("the request is allowed")
        .into_body()
}

/// Reads a body, frame by frame, to its end or until `each` is false; the error that ended it, if one did.
pub(crate) fn drain<B: Body<Data = Bytes>>(
    body: B,
    mut each: impl FnMut(Bytes) -> bool,
) -> Result<(), B::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut body = pin!(body);
    loop {
        match body.as_mut().poll_frame(&mut cx) {
            // The body lets other tasks have their turn.
            Poll::Pending => {}
            Poll::Ready(None) => return Ok(()),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(Some(Ok(frame))) => {
                if !frame.into_data().is_ok_and(&mut each) {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads a body to its end: its length in bytes, and whether it ended well.
pub(crate) fn length<B: Body<Data = Bytes>>(body: B) -> (usize, bool) {
    let mut length = 0;
    let ended = drain(body, |frame| {
        length += std::hint::black_box(frame).len();
        true
    });
    (length, ended.is_ok())
}
