//! A policy inside an axum gateway of one's own: any SDK that is pointed at it meets violations as OpenAI errors.
//!
//! `cargo run --example gateway_embedded`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod support;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use http::uri::{Authority, Scheme};
use http::{Response, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_sekuire::{BoxError, Policy, Respond, SekuireLayer, SekuireService};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;

    // An SDK can't be given a Rust error, so violations are answered in the form that it knows.
    let layer = SekuireLayer::new(Policy::from_path(POLICY)?).respond(Respond::OpenAi);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let upstream = Upstream {
        authority: provider.address().to_string().parse()?,
        client: layer.layer(client),
    };
    let gateway = Router::new().fallback(forward).with_state(upstream);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/v1", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, gateway).await });

    // From here on, what any client sees.
    for (model, question) in [
        ("gpt-4o-mini", "A word on rules, please."),
        ("gpt-3.5-turbo", "A word on rules, please."),
        ("gpt-4o-mini", "Please clean up the archive."),
    ] {
        let messages = json!([{"role": "user", "content": question}]);
        let response = reqwest::Client::new()
            .post(format!("{base}/chat/completions"))
            .json(&json!({"model": model, "messages": messages, "stream": true}))
            .send()
            .await?;
        println!("== {model}: {question}\n{}", response.status());
        println!("{}", response.text().await?);
    }

    server.abort();
    Ok(())
}

#[derive(Clone)]
struct Upstream {
    authority: Authority,
    client: SekuireService<Client<HttpConnector, Body>>,
}

/// Sends the request on. Bodies stream through in both directions; the policy reads those that it has to judge.
async fn forward(State(upstream): State<Upstream>, mut request: Request) -> Response<Body> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(upstream.authority);
    let Ok(uri) = Uri::from_parts(uri) else {
        return failed(StatusCode::BAD_REQUEST);
    };
    *request.uri_mut() = uri;
    // It named this gateway; the client below writes the one that fits the URI.
    request.headers_mut().remove(header::HOST);
    match upstream.client.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        // Violations are answers, so this is a provider that can't be reached.
        Err(_) => failed(StatusCode::BAD_GATEWAY),
    }
}

fn failed(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
