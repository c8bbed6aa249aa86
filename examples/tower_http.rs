//! tower-http's middleware around a policy and below it, in the order that serves each.
//!
//! `cargo run --example tower_http`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod support;

use std::time::Duration;

use axum::middleware::map_request;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::compression::CompressionLayer;
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
    // A provider behind a proxy that encodes documents, although the policy asks for none that are encoded.
    let provider = support::Provider::start_behind(|router| {
        let router = router.layer(CompressionLayer::new());
        router.layer(map_request(async |mut request: axum::extract::Request| {
            let gzip = HeaderValue::from_static("gzip");
            request.headers_mut().insert(header::ACCEPT_ENCODING, gzip);
            request
        }))
    })
    .await?;
    let url = format!("http://{}/v1/chat/completions", provider.address());

    let layer = SekuireLayer::new(Policy::from_path(POLICY)?);
    // The order, from the top.
    let client = |patience: Duration| {
        ServiceBuilder::new()
            // Keys are marked before anything below could write them down.
            .layer(SetSensitiveHeadersLayer::new([header::AUTHORIZATION]))
            // Spans tell of calls that the policy refuses, too: as failures, which no status could show.
            .layer(TraceLayer::new_for_http().on_failure(
                |error: ServerErrorsFailureClass, _: Duration, _: &tracing::Span| {
                    println!("trace: {error}");
                },
            ))
            // Each wait for a call's head, then for each frame: a stream may last, but not stall. Above the policy, so that
            // a JSON answer, which is held until it was judged, is waited for as well.
            .timeout(patience)
            .layer(ResponseBodyTimeoutLayer::new(patience))
            .layer(layer.clone())
            // What comes from the server encoded is decoded before the policy reads it.
            .layer(DecompressionLayer::new())
            .map_response(|response: Response<_>| {
                if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING) {
                    println!("on the wire: {encoding:?}");
                }
                response
            })
            .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>())
    };
    let mut patient = client(Duration::from_secs(30));
    // Too short for a model, and long enough to show what a timeout does.
    let mut impatient = client(Duration::from_secs(2));

    let question = "A word on rules, please.";
    let request = chat(&url, "gpt-4o-mini", question, false)?;
    println!("document: {}", ask(&mut patient, request).await?);
    let request = chat(&url, "gpt-4o-mini", question, true)?;
    print!("stream: {}", ask(&mut patient, request).await?);
    let request = chat(&url, "gpt-3.5-turbo", question, true)?;
    report("request", ask(&mut patient, request).await)?;

    // The document's forbidden call is encoded, and found all the same. What ends a stream, the spans don't tell.
    for (what, stream) in [("forbidden document", false), ("forbidden stream", true)] {
        let request = chat(&url, "gpt-4o-mini", "Please clean up the archive.", stream)?;
        report(what, ask(&mut patient, request).await)?;
    }

    // The server begins both answers at once and ends neither.
    for (what, stream) in [("stalled document", false), ("stalled stream", true)] {
        let request = chat(&url, "gpt-4o-mini", "Take your time.", stream)?;
        report(what, ask(&mut impatient, request).await)?;
    }
    Ok(())
}

fn chat(
    url: &str,
    model: &str,
    question: &str,
    stream: bool,
) -> http::Result<Request<Full<Bytes>>> {
    let body = json!({
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": stream,
    });
    Request::post(url)
        .header(header::AUTHORIZATION, "Bearer none is needed here")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
}

/// All of an answer.
async fn ask<S, B>(client: &mut S, request: Request<Full<Bytes>>) -> Result<String, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error = BoxError>,
{
    let answer = client.ready().await?.call(request).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn report(what: &str, answer: Result<String, BoxError>) -> Result<(), BoxError> {
    let error = answer.err().ok_or("nothing stopped it")?;
    match PolicyViolation::find(&*error) {
        Some(violation) => println!("{what}: {violation}"),
        None => println!("{what}: {error}"),
    }
    Ok(())
}
