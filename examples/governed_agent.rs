//! An agent with tools under a policy: what it may do, it does; what it may not is stopped where it happens.
//!
//! `cargo run --example governed_agent` needs no key: a provider in this process answers. With `OPENAI_API_KEY` set,
//! `cargo run --example governed_agent -- --live` asks the real API; only the connection differs.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks reads as null"
)]

mod support;

use std::collections::BTreeMap;
use std::pin::pin;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::{TryFutureExt, TryStreamExt};
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_sekuire::{
    BoxError, Policy, PolicyEnforcer, PolicyViolation, RateLimit, ResponseBody, SekuireLayer,
};

use support::Provider;

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant.yml"
);
const ENDPOINT: &str = "https://api.openai.com/v1/chat/completions";
const QUESTION: &str = "How many seconds does light need from the Sun to the Earth? Search the web for the distance in \
                        km, then divide it by the speed of light with the calculator.";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let policy = Policy::from_path(POLICY)?;
    let layer = SekuireLayer::new(policy.clone());

    if std::env::args().any(|argument| argument == "--live") {
        let key = std::env::var("OPENAI_API_KEY").map_err(|_| "--live needs OPENAI_API_KEY")?;
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_only()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let http = BoxCloneSyncService::new(layer.layer(client));
        Agent { http, key }.demonstrate().await?;
    } else {
        let provider = Provider::start().await?;
        let address = provider.address();
        // The request's URI stays that of the real API, and so does the policy's judgement of it.
        let connector =
            service_fn(move |_: Uri| Box::pin(TcpStream::connect(address).map_ok(TokioIo::new)));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let http = BoxCloneSyncService::new(layer.layer(client));
        let agent = Agent {
            http,
            key: "none".to_owned(),
        };
        agent.demonstrate().await?;
        agent.meet_a_forbidden_call().await?;
    }

    validate(policy);
    Ok(())
}

/// A client under the policy. Its parts are those of hyper's own client, so any service of this shape will do.
type Http = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody<Incoming>>, BoxError>;

struct Agent {
    http: Http,
    key: String,
}

impl Agent {
    async fn demonstrate(&self) -> Result<(), BoxError> {
        println!("== An agent run, answers whole ==");
        self.run(QUESTION, false).await?;

        println!("\n== The same, streamed ==");
        self.run(QUESTION, true).await?;

        println!("\n== A model that the policy blocks ==");
        let mut request = json!({"model": "gpt-3.5-turbo", "messages": [user("Hello")]});
        let refused = self.chat(&request).await.err();
        println!("gpt-3.5-turbo blocked: {}", reason(refused)?);

        println!("\n== A tool that the policy blocks, offered to the model ==");
        request["model"] = json!("gpt-4o-mini");
        request["tools"] = json!([tool("file_delete", &json!({"path": {"type": "string"}}))]);
        let refused = self.chat(&request).await.err();
        println!("file_delete not offered: {}", reason(refused)?);
        Ok(())
    }

    /// Nobody offered this tool; the answer calls it all the same, in the middle of a stream.
    async fn meet_a_forbidden_call(&self) -> Result<(), BoxError> {
        println!("\n== A tool that the policy blocks, called by the answer ==");
        let stopped = self.run("Please clean up the archive.", true).await.err();
        println!("\nstream stopped: {}", reason(stopped)?);
        Ok(())
    }

    /// Asks, runs the tools that the model calls, and asks again, until there is an answer.
    async fn run(&self, question: &str, stream: bool) -> Result<(), BoxError> {
        let mut messages = vec![user(question)];
        for _ in 0..4 {
            let answer = self
                .chat(&json!({
                    "model": "gpt-4o-mini",
                    "messages": messages,
                    "tools": [
                        tool("web_search", &json!({"query": {"type": "string"}})),
                        tool("calculator", &json!({
                            "left": {"type": "number"},
                            "operator": {"enum": ["+", "-", "*", "/"]},
                            "right": {"type": "number"},
                        })),
                    ],
                    "stream": stream,
                }))
                .await?;
            let calls = answer["tool_calls"].as_array().cloned().unwrap_or_default();
            if calls.is_empty() {
                if !stream {
                    print!("{}", answer["content"].as_str().unwrap_or_default());
                }
                println!();
                return Ok(());
            }
            messages.push(answer);
            for call in calls {
                let function = &call["function"];
                let name = function["name"].as_str().unwrap_or_default();
                let arguments = function["arguments"].as_str().unwrap_or_default();
                let result = run_tool(name, &serde_json::from_str(arguments)?)?;
                println!("{name} {arguments} -> {result}");
                messages
                    .push(json!({"role": "tool", "tool_call_id": call["id"], "content": result}));
            }
        }
        Err("the model never came to an answer".into())
    }

    /// One call; returns the assistant's message.
    async fn chat(&self, request: &Value) -> Result<Value, BoxError> {
        let request = Request::post(ENDPOINT)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(request.to_string()))?;
        let response = self.http.clone().oneshot(request).await?;
        let (head, body) = response.into_parts();
        if head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/json")
        {
            let body = body.collect().await?.to_bytes();
            if !head.status.is_success() {
                return Err(format!("{}: {}", head.status, String::from_utf8_lossy(&body)).into());
            }
            let mut answer: Value = serde_json::from_slice(&body)?;
            let message = answer.pointer_mut("/choices/0/message");
            return Ok(message.ok_or("the answer has no choice")?.take());
        }
        read_stream(body).await
    }
}

/// Prints a streamed answer as it comes and joins its pieces.
async fn read_stream(body: ResponseBody<Incoming>) -> Result<Value, BoxError> {
    let mut text = String::new();
    let mut calls = BTreeMap::<u64, [String; 3]>::new();
    let mut events = pin!(
        body.into_data_stream()
            .eventsource()
            .map_err(|error| match error {
                // Where the policy cuts the stream off, this is the violation.
                EventStreamError::Transport(error) => error,
                other => other.to_string().into(),
            })
    );
    while let Some(event) = events.try_next().await? {
        if event.data == "[DONE]" {
            break;
        }
        let chunk: Value = serde_json::from_str(&event.data)?;
        let delta = &chunk["choices"][0]["delta"];
        let piece = delta["content"].as_str().unwrap_or_default();
        print!("{piece}");
        text.push_str(piece);
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().unwrap_or_default();
            let function = &piece["function"];
            let parts = [&piece["id"], &function["name"], &function["arguments"]];
            for (whole, part) in calls.entry(index).or_default().iter_mut().zip(parts) {
                whole.push_str(part.as_str().unwrap_or_default());
            }
        }
    }
    let calls: Vec<_> = calls
        .into_values()
        .map(|[id, name, arguments]| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        })
        .collect();
    Ok(json!({"role": "assistant", "content": text, "tool_calls": calls}))
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn tool(name: &str, properties: &Value) -> Value {
    let parameters = json!({"type": "object", "properties": properties});
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

fn run_tool(name: &str, arguments: &Value) -> Result<String, BoxError> {
    let number = |name: &str| arguments[name].as_f64().ok_or("a number is missing");
    match name {
        "web_search" => Ok("The Sun is 149597871 km from the Earth.".to_owned()),
        "calculator" => {
            let (left, right) = (number("left")?, number("right")?);
            let result = match arguments["operator"].as_str() {
                Some("+") => left + right,
                Some("-") => left - right,
                Some("*") => left * right,
                _ => left / right,
            };
            Ok(format!("{result:.0}"))
        }
        _ => Err(format!("there is no tool {name}").into()),
    }
}

/// Why the policy refused. Any other end of the call is this program's failure.
fn reason(refused: Option<BoxError>) -> Result<PolicyViolation, BoxError> {
    let error = refused.ok_or("the policy let the call through")?;
    match PolicyViolation::find(&*error) {
        Some(violation) => Ok(violation.clone()),
        None => Err(error),
    }
}

/// The same decisions without HTTP, async or a key. The enforcer is a new one, so its limits are unspent.
fn validate(policy: Policy) {
    let enforcer = PolicyEnforcer::new(policy);
    println!("\n== The policy by itself ==");
    for model in ["gpt-4o-mini", "gpt-4o", "gpt-3.5-turbo"] {
        verdict(model, enforcer.enforce_model(model).is_ok());
    }
    for tool in [
        "web_search",
        "files:read",
        "calculator",
        "file_delete",
        "env_set",
    ] {
        verdict(tool, enforcer.enforce_tool(tool).is_ok());
    }
    for (scheme, host) in [
        ("https", "api.openai.com"),
        ("http", "api.openai.com"),
        ("https", "en.wikipedia.org"),
        ("https", "www.malware.net"),
    ] {
        let verdict_on_host = enforcer.enforce_network(host, scheme);
        verdict(&format!("{scheme}://{host}"), verdict_on_host.is_ok());
    }
    for number in 1..=12 {
        let counted = enforcer.enforce_rate_limit(RateLimit::Request);
        verdict(&format!("Request {number}"), counted.is_ok());
    }
}

fn verdict(what: &str, allowed: bool) {
    println!("{what}: {}", if allowed { "ALLOWED" } else { "BLOCKED" });
}
