//! An axum gateway whose tenants each have a policy and limits of their own, picked by the key that they present.
//!
//! `cargo run --example gateway_tenants`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::{Json, Router};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Response, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_sekuire::{
    BoxError, PerRequest, Policy, PolicyEnforcer, Respond, SekuireLayer, SekuireService,
};

/// What holds for a request that no tenant's policy is found for: nothing is reached.
const NOBODY: &str = "permissions: { network: { enabled: false } }";
const WRITER: &str = "
agent: { models: { allowed_models: [gpt-4o] } }
rate_limits: { per_agent: { requests_per_minute: 2 } }
";
const REVIEWER: &str = "agent: { models: { allowed_models: [gpt-4o-mini] } }";

/// Tenants by the header that they present. A real gateway keeps hashes of its keys and compares in constant time.
type Tenants = Arc<HashMap<&'static str, PolicyEnforcer>>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;

    // One enforcer for each tenant, for as long as the gateway runs: it holds the tenant's counters.
    let tenant = |policy| Policy::from_yaml(policy).map(PolicyEnforcer::new);
    let tenants = Tenants::new(HashMap::from([
        ("Bearer writer", tenant(WRITER)?),
        ("Bearer reviewer", tenant(REVIEWER)?),
    ]));
    let layer = SekuireLayer::from_source(PerRequest::or(tenant(NOBODY)?)).respond(Respond::OpenAi);
    let upstream = Upstream {
        authority: provider.address().to_string().parse()?,
        client: layer.layer(Client::builder(TokioExecutor::new()).build_http()),
    };
    let gateway = Router::new()
        .fallback(forward)
        .with_state(upstream)
        .layer(middleware::from_fn_with_state(tenants, pick_policy));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1/chat/completions", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, gateway).await });

    // From here on, what the tenants see.
    for (key, model) in [
        ("writer", "gpt-4o"),
        ("writer", "gpt-4o-mini"),
        ("reviewer", "gpt-4o-mini"),
        ("reviewer", "gpt-4o"),
        ("writer", "gpt-4o"),
        ("writer", "gpt-4o"),
        ("reviewer", "gpt-4o-mini"),
        ("nobody", "gpt-4o"),
    ] {
        let messages = json!([{"role": "user", "content": "A word on rules, please."}]);
        let response = reqwest::Client::new()
            .post(&url)
            .bearer_auth(key)
            .json(&json!({"model": model, "messages": messages}))
            .send()
            .await?;
        let status = response.status();
        let answer: serde_json::Value = response.json().await?;
        let code = answer.pointer("/error/code");
        let code = code.and_then(serde_json::Value::as_str);
        println!("{key} {model}: {status} {}", code.unwrap_or("answered"));
    }

    server.abort();
    Ok(())
}

/// Lets known tenants in, each with its policy. The policy's layer takes it from the request's extensions.
async fn pick_policy(
    State(tenants): State<Tenants>,
    mut request: Request,
    next: Next,
) -> axum::response::Response {
    let key = request.headers().get(header::AUTHORIZATION);
    let key = key.and_then(|key| key.to_str().ok());
    let Some(policy) = key.and_then(|key| tenants.get(key)) else {
        let error = json!({"message": "no tenant has this key", "code": "invalid_api_key"});
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": error}))).into_response();
    };
    request.extensions_mut().insert(policy.clone());
    // The tenant's key ends here; the provider gets the gateway's own.
    request.headers_mut().insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Bearer none is needed here"),
    );
    next.run(request).await
}

#[derive(Clone)]
struct Upstream {
    authority: Authority,
    client: SekuireService<Client<HttpConnector, Body>>,
}

/// Sends the request on; its extensions stay with it.
async fn forward(State(upstream): State<Upstream>, mut request: Request) -> Response<Body> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(upstream.authority);
    let Ok(uri) = Uri::from_parts(uri) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *request.uri_mut() = uri;
    // It named this gateway; the client below writes the one that fits the URI.
    request.headers_mut().remove(header::HOST);
    match upstream.client.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        // Violations are answers, so this is a provider that can't be reached.
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
