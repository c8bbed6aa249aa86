//! hyper's own client under a policy: one layer, and no type below it changes.
//!
//! `cargo run --example hyper_client`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod support;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_sekuire::{BoxError, Policy, PolicyViolation, SekuireLayer};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;
    let url = format!("http://{}/v1/chat/completions", provider.address());

    let mut client = ServiceBuilder::new()
        .layer(SekuireLayer::new(Policy::from_path(POLICY)?))
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    // Events arrive here as the provider sends them, each judged on its way.
    let response = client
        .ready()
        .await?
        .call(chat(&url, "gpt-4o-mini")?)
        .await?;
    println!("gpt-4o-mini: {}", response.status());
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            print!("{}", String::from_utf8_lossy(&data));
        }
    }

    // What the policy refuses is an error, never an answer, and nothing was sent.
    let refused = client
        .ready()
        .await?
        .call(chat(&url, "gpt-3.5-turbo")?)
        .await;
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
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
}
