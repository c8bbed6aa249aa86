//! A provider for the examples, on loopback: it answers chat completions in OpenAI's form, whole and streamed.
//!
//! It follows a script where a model would think: it calls the tools that the request offers, one after the other, and
//! then answers with the last result. Asked to clean up, it calls `file_delete`, which nobody offered it. Asked to take its
//! time, it begins an answer and never ends it.

#![allow(dead_code, reason = "each example uses its own part")]
#![expect(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks reads as null"
)]

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use http::header;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running provider. Dropping it closes its port.
pub(crate) struct Provider {
    address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Provider {
    pub(crate) async fn start() -> io::Result<Self> {
        Self::start_behind(|router| router).await
    }

    /// A provider with something around it.
    pub(crate) async fn start_behind(
        around: impl FnOnce(Router) -> Router + Send,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = around(Router::new().route("/v1/chat/completions", post(answer)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, task })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(Json(request): Json<Value>) -> Response {
    let turn = Turn::next(&request);
    if request["stream"] == true {
        turn.stream(&request)
    } else if turn.ends {
        Json(turn.document(&request)).into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], begun("{")).into_response()
    }
}

/// A body that begins so and never ends.
fn begun(text: impl Into<String>) -> Body {
    let first = stream::iter([Ok::<_, Infallible>(text.into())]);
    Body::from_stream(first.chain(stream::pending()))
}

/// What the assistant says and which tool it calls.
struct Turn {
    text: String,
    call: Option<(String, Value)>,
    ends: bool,
}

impl Turn {
    fn next(request: &Value) -> Self {
        let list = |name: &str| request[name].as_array().cloned().unwrap_or_default();
        let said_by = |role: &str| -> Vec<String> {
            let messages = list("messages").into_iter();
            let messages = messages.filter(|message| message["role"] == role);
            messages
                .filter_map(|message| message["content"].as_str().map(str::to_owned))
                .collect()
        };
        let (questions, results) = (said_by("user"), said_by("tool"));
        if questions.iter().any(|text| text.contains("clean up")) {
            return Self {
                text: "Removing old files.".to_owned(),
                call: Some(("file_delete".to_owned(), json!({"path": "/srv/archive"}))),
                ends: true,
            };
        }
        let tools = list("tools");
        if let Some(tool) = tools.get(results.len()) {
            let name = tool["function"]["name"].as_str().unwrap_or_default();
            let arguments = match name {
                "web_search" => json!({"query": "distance from the Sun to the Earth"}),
                "calculator" => json!({"left": 149_597_871, "operator": "/", "right": 299_792}),
                _ => json!({}),
            };
            return Self {
                text: String::new(),
                call: Some((name.to_owned(), arguments)),
                ends: true,
            };
        }
        let text = match results.last() {
            Some(result) => format!("Light needs {result} seconds from the Sun to the Earth."),
            None => "Few, clear, kept.".to_owned(),
        };
        Self {
            text,
            call: None,
            ends: !questions.iter().any(|text| text.contains("your time")),
        }
    }

    fn document(&self, request: &Value) -> Value {
        let mut message =
            json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
        if !self.text.is_empty() {
            message["content"] = json!(self.text);
        }
        if let Some((name, arguments)) = &self.call {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            message["tool_calls"] =
                json!([{"id": "call_1", "type": "function", "function": function}]);
        }
        json!({
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": request["model"],
            "choices": [
                {"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason()}
            ],
            "usage": {"prompt_tokens": 64, "completion_tokens": 16, "total_tokens": 80},
            "service_tier": "default",
            "system_fingerprint": "fp_1",
        })
    }

    fn stream(&self, request: &Value) -> Response {
        let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
        for word in self.text.split_inclusive(' ') {
            deltas.push(json!({"content": word}));
        }
        if let Some((name, arguments)) = &self.call {
            let function = json!({"name": name, "arguments": ""});
            deltas.push(json!({"tool_calls": [
                {"index": 0, "id": "call_1", "type": "function", "function": function}
            ]}));
            // A real model's arguments come in pieces, too.
            for piece in arguments.to_string().split_inclusive(',') {
                deltas
                    .push(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}));
            }
        }
        let event = |delta: Value, finish_reason: Option<&str>| {
            let chunk = json!({
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1_760_000_000,
                "model": request["model"],
                "service_tier": "default",
                "system_fingerprint": "fp_1",
                "choices": [
                    {"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}
                ],
            });
            format!("data: {chunk}\n\n")
        };
        if !self.ends {
            let first = deltas.into_iter().take(2).map(|delta| event(delta, None));
            let body = begun(first.collect::<String>());
            return ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
        }
        let mut events: Vec<_> = deltas.into_iter().map(|delta| event(delta, None)).collect();
        events.push(event(json!({}), Some(self.finish_reason())));
        events.push("data: [DONE]\n\n".to_owned());
        let body = Body::from_stream(stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    }

    const fn finish_reason(&self) -> &'static str {
        if self.call.is_some() {
            "tool_calls"
        } else {
            "stop"
        }
    }
}
