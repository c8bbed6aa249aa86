//! The layer around hyper-util's client, against a server on loopback.

#![cfg(test)]

mod loopback;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use loopback::{Answer, DOCUMENT, REQUEST, Server, layer};
use tower::{ServiceBuilder, ServiceExt};
use tower_sekuire::{BoxError, PolicyViolation, Rule};

#[tokio::test]
async fn a_client_over_a_boxed_body_takes_one_line_below_the_layer() {
    type Boxed = BoxBody<Bytes, BoxError>;
    let client = ServiceBuilder::new()
        .layer(layer())
        .map_request(|request: Request<Full<Bytes>>| {
            request.map(|body| body.map_err(|never| match never {}).boxed())
        })
        .service(Client::builder(TokioExecutor::new()).build_http::<Boxed>());

    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let ask = |body: &'static str| {
        Request::post(server.url())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .unwrap()
    };
    let answer = client.clone().oneshot(ask(REQUEST)).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, DOCUMENT);
    assert_eq!(server.requests()[0].1, REQUEST);

    let refused = client.oneshot(ask(r#"{"model":"o3","messages":[]}"#)).await;
    let error = refused.unwrap_err();
    let violation = PolicyViolation::find(&*error).unwrap();
    assert_eq!(violation.rule(), Rule::ModelNotAllowed);
}
