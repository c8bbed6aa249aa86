//! What the tests of the hosts share: a server on this machine that answers as it is told and keeps what it was sent,
//! and a policy with something to ask of it.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tower_sekuire::{Policy, SekuireLayer};

pub(crate) const POLICY: &str = "
agent:
  models: { allowed_models: [gpt-4o-mini], blocked_models: [gpt-3.5-turbo] }
  toolsets: { blocked_tools: [file_delete] }
permissions:
  network: { allowed_domains: [127.0.0.1] }
rate_limits:
  per_agent: { requests_per_minute: 3 }
";

/// White space and member order that no serializer would write: what arrives can only be the bytes that were sent.
pub(crate) const REQUEST: &str =
    "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"Hi\"} ],\t\"model\":\"gpt-4o-mini\"}";
pub(crate) const DOCUMENT: &str = "{\"id\":\"c\", \"object\":\"chat.completion\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[ {\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello\"},\"finish_reason\":\"stop\"}],\n\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}";
pub(crate) const FORBIDDEN_DOCUMENT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"file_delete","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#;
/// An event that may pass, and one that calls a forbidden tool.
pub(crate) const FORBIDDEN_STREAM: [&str; 2] = [
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"On it\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"file_delete\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n",
];
/// The same in the form of Responses.
pub(crate) const FORBIDDEN_RESPONSES_STREAM: [&str; 2] = [
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":0,\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"On it\"}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"output_index\":1,\"item\":{\"type\":\"function_call\",\"id\":\"f\",\"call_id\":\"t\",\"name\":\"file_delete\",\"arguments\":\"\",\"status\":\"in_progress\"}}\n\n",
];

pub(crate) fn policy() -> Policy {
    Policy::from_yaml(POLICY).unwrap()
}

pub(crate) fn layer() -> SekuireLayer {
    SekuireLayer::new(policy())
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Json(&'static str),
    /// One frame of the body for each.
    Events(&'static [&'static str]),
    /// Redirects once, to this document.
    Redirect(&'static str),
    /// Not now, but at once if asked again.
    Busy,
    Never,
}

#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    /// One after the other; the last one is given to all that come later.
    answers: Arc<[Answer]>,
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Server {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::in_turn([answer]).await
    }

    pub(crate) async fn in_turn(answers: impl Into<Arc<[Answer]>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answers: answers.into(),
            requests: Arc::default(),
        };
        let router = Router::new().fallback(reply).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// Where OpenAI's API is, for clients that add their paths to it.
    pub(crate) fn base(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/chat/completions", self.base())
    }

    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.requests.lock().unwrap().clone()
    }
}

async fn reply(State(server): State<Server>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let count = {
        let mut requests = server.requests.lock().unwrap();
        requests.push((head.headers, body));
        requests.len()
    };
    let answer = server.answers[count.min(server.answers.len()) - 1];
    let response = Response::builder();
    match answer {
        Answer::Redirect(_) if head.uri.path() != "/elsewhere" => response
            .status(StatusCode::TEMPORARY_REDIRECT)
            .header(header::LOCATION, "/elsewhere")
            .body(Body::empty()),
        Answer::Json(document) | Answer::Redirect(document) => response
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(document)),
        Answer::Events(events) => response
            .header(header::CONTENT_TYPE, "text/event-stream")
            .body(Body::from_stream(stream::iter(
                events.iter().map(|event| Ok::<_, Infallible>(*event)),
            ))),
        Answer::Busy => response
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header(header::RETRY_AFTER, "0")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(r#"{"error":{"message":"busy"}}"#)),
        Answer::Never => return std::future::pending().await,
    }
    .unwrap()
}
