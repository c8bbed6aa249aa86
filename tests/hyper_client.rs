//! The layer around hyper-util's client, against a server on loopback.

#![cfg(test)]

use axum::Router;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};
use tower_sekuire::{BoxError, Policy, PolicyViolation, Rule, SekuireLayer};

const DOCUMENT: &str = r#"{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}"#;

/// The address of a server that tells, in a header, what it was sent.
async fn server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |body: Bytes| async move {
        let echo = String::from_utf8(body.to_vec()).unwrap();
        let headers = [(header::CONTENT_TYPE, "application/json".to_owned())];
        (headers, [("x-echo", echo)], DOCUMENT)
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    address
}

#[tokio::test]
async fn a_client_over_a_boxed_body_takes_one_line_below_the_layer() {
    type Boxed = BoxBody<Bytes, BoxError>;
    let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }").unwrap();
    let client = ServiceBuilder::new()
        .layer(SekuireLayer::new(policy))
        .map_request(|request: Request<Full<Bytes>>| {
            request.map(|body| body.map_err(|never| match never {}).boxed())
        })
        .service(Client::builder(TokioExecutor::new()).build_http::<Boxed>());

    let url = format!("http://{}/v1/chat/completions", server().await);
    let ask = |body: &'static str| {
        Request::post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .unwrap()
    };
    let allowed = "{ \"model\" : \"gpt-4o\", \"messages\":[]}";
    let answer = client.clone().oneshot(ask(allowed)).await.unwrap();
    assert_eq!(answer.headers()["x-echo"], allowed);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, DOCUMENT);

    let refused = client.oneshot(ask(r#"{"model":"o3","messages":[]}"#)).await;
    let error = refused.unwrap_err();
    let violation = PolicyViolation::find(&*error).unwrap();
    assert_eq!(violation.rule(), Rule::ModelNotAllowed);
}
