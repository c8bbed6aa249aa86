//! tower-http's middleware around a policy and below it, in the order that serves each.
//!
//! `cargo run --example tower_http`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::decompression::DecompressionLayer;
use tower_http::sensitive_headers::SetSensitiveHeadersLayer;
use tower_http::timeout::ResponseBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_sekuire::{BoxError, Policy, PolicyViolation, SekuireLayer};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;
    let url = format!("http://{}/v1/chat/completions", provider.address());

    let client = ServiceBuilder::new()
        // Keys are marked before anything below could write them down.
        .layer(SetSensitiveHeadersLayer::new([header::AUTHORIZATION]))
        // Spans tell of calls that the policy refuses, too: as failures, which no status could show.
        .layer(TraceLayer::new_for_http().on_failure(
            |error: tower_http::classify::ServerErrorsFailureClass,
             _: Duration,
             _: &tracing::Span| println!("trace: {error}"),
        ))
        // Each wait for a call's head, then for each frame: a stream may last, but not stall. Above the policy, so that a
        // JSON answer, which is held until it was judged, is waited for as well.
        .timeout(Duration::from_secs(30))
        .layer(ResponseBodyTimeoutLayer::new(Duration::from_secs(30)))
        .layer(SekuireLayer::new(Policy::from_path(POLICY)?))
        // What comes from the server encoded is decoded before the policy reads it.
        .layer(DecompressionLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    let answer = client.clone().oneshot(chat(&url, "gpt-4o-mini")?).await?;
    println!("gpt-4o-mini: {}", answer.status());
    let body = answer.into_body().collect().await?.to_bytes();
    print!("{}", String::from_utf8_lossy(&body));

    let refused = client.oneshot(chat(&url, "gpt-3.5-turbo")?).await;
    let error = refused.err().ok_or("the policy let the call through")?;
    match PolicyViolation::find(&*error) {
        Some(violation) => println!("gpt-3.5-turbo: {violation}"),
        None => return Err(error),
    }
    Ok(())
}

fn chat(url: &str, model: &str) -> http::Result<Request<Full<Bytes>>> {
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "A word on rules, please."}],
        "stream": true,
    });
    Request::post(url)
        .header(header::AUTHORIZATION, "Bearer none is needed here")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
}
