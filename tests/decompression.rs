//! Encoded answers: decoded within bounds where that is asked for, refused where it isn't.

#![expect(clippy::unwrap_used, reason = "a test program fails by panicking")]

use std::convert::Infallible;
use std::fmt::Write as _;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::AsyncWriteExt;
use tower::{Layer, ServiceExt};
use tower_sekuire::{BoxError, Policy, PolicyViolation, Rule, SekuireLayer};

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

async fn encode(encoding: &str, plain: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut encoder = GzipEncoder::new(Vec::new());
            encoder.write_all(plain).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
        "br" => {
            let mut encoder = BrotliEncoder::new(Vec::new());
            encoder.write_all(plain).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new());
            encoder.write_all(plain).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
        _ => {
            let mut encoder = ZstdEncoder::new(Vec::new());
            encoder.write_all(plain).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }
    }
}

/// Sends one call through a layer below which the answer is encoded like this.
async fn call(
    decoding: bool,
    encodings: &[&str],
    content_type: &'static str,
    body: Vec<u8>,
) -> (Vec<u8>, Option<BoxError>) {
    let policy = Policy::from_yaml("agent: { toolsets: { allowed_tools: [safe] } }").unwrap();
    let layer = SekuireLayer::new(policy);
    let encodings: Vec<HeaderValue> = encodings
        .iter()
        .map(|value| HeaderValue::from_str(value).unwrap())
        .collect();
    let upstream = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let frames: Vec<_> = body
            .chunks(1_000)
            .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
            .collect();
        let mut answer = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
        answer
            .headers_mut()
            .insert("content-type", HeaderValue::from_static(content_type));
        for value in &encodings {
            answer
                .headers_mut()
                .append("content-encoding", value.clone());
        }
        async { Ok::<_, Infallible>(answer) }
    });
    let request = Request::post("https://api.openai.com/v1/chat/completions")
        .header("content-type", JSON)
        .body(Full::from(r#"{"model":"m","stream":true,"messages":[]}"#))
        .unwrap();
    if decoding {
        collect(layer.decompressing().layer(upstream).oneshot(request).await).await
    } else {
        collect(layer.layer(upstream).oneshot(request).await).await
    }
}

async fn collect<B>(answer: Result<Response<B>, BoxError>) -> (Vec<u8>, Option<BoxError>)
where
    B: http_body::Body<Data = Bytes, Error = BoxError>,
{
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let (mut out, mut body) = (Vec::new(), Box::pin(answer.into_body()));
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => out.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => return (out, Some(error)),
        }
    }
    (out, None)
}

fn message(error: Option<BoxError>) -> String {
    let error = error.unwrap();
    let violation = PolicyViolation::find(&*error).unwrap();
    violation.to_string()
}

fn stream(tool: &str) -> String {
    let mut text = String::new();
    for n in 0..50 {
        write!(
            text,
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word {n}\"}}}}]}}\n\n"
        )
        .unwrap();
    }
    write!(text, "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":\"c\",\"function\":{{\"name\":\"{tool}\",\"arguments\":\"\"}}}}]}}}}]}}\n\n").unwrap();
    text.push_str("data: [DONE]\n\n");
    text
}

#[tokio::test]
async fn an_encoded_stream_is_decoded_and_judged() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let allowed = stream("safe");
        let (out, error) = call(
            true,
            &[encoding],
            SSE,
            encode(encoding, allowed.as_bytes()).await,
        )
        .await;
        assert!(error.is_none(), "{encoding}: {error:?}");
        assert_eq!(String::from_utf8(out).unwrap(), allowed);

        let (out, error) = call(
            true,
            &[encoding],
            SSE,
            encode(encoding, stream("evil").as_bytes()).await,
        )
        .await;
        assert_eq!(
            message(error),
            "[tool_not_allowed] Tool evil is not in the allowlist"
        );
        assert!(!String::from_utf8(out).unwrap().contains("evil"));
    }
}

#[tokio::test]
async fn without_the_feature_in_use_an_encoded_answer_is_refused() {
    let body = encode("gzip", stream("safe").as_bytes()).await;
    let (out, error) = call(false, &["gzip"], SSE, body).await;
    assert_eq!(
        message(error),
        "[response_unreadable] the answer is encoded (`content-encoding`) and can't be inspected"
    );
    assert!(out.is_empty());
}

#[tokio::test]
async fn stacked_and_unknown_encodings_stay_refused() {
    let once = encode("gzip", stream("evil").as_bytes()).await;
    let twice = encode("gzip", &once).await;
    for encodings in [
        &["gzip, gzip"][..],
        &["gzip", "gzip"],
        &["identity", "gzip"],
        &["GZIP"],
        &["x-unknown"],
        &["gzip", "br"],
    ] {
        for body in [&once, &twice] {
            let (out, error) = call(true, encodings, SSE, body.clone()).await;
            assert!(
                message(error).starts_with("[response_unreadable]"),
                "{encodings:?}"
            );
            assert!(out.is_empty(), "{encodings:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_grows_out_of_proportion_is_refused_in_flight() {
    let mut bomb = b"{\"choices\":[],\"x\":\"".to_vec();
    bomb.resize(20 << 20, b'a');
    for encoding in ["gzip", "br", "zstd"] {
        let small = encode(encoding, &bomb).await;
        assert!(small.len() < 64 << 10);
        let (out, error) = call(true, &[encoding], JSON, small).await;
        assert_eq!(
            message(error),
            "[response_unreadable] the encoded answer grows out of proportion when decoded",
            "{encoding}"
        );
        assert!(out.is_empty());
    }
}

#[tokio::test]
async fn an_encoding_of_several_members_is_judged_as_a_whole_or_refused() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        for tool in ["safe", "evil"] {
            let plain = stream(tool);
            // Between two events, and in the middle of the name that is called.
            for at in [
                plain.find("data: [DONE]").unwrap(),
                plain.find(tool).unwrap() + 2,
            ] {
                let (first, second) = plain.split_at(at);
                let mut body = encode(encoding, first.as_bytes()).await;
                body.extend(encode(encoding, second.as_bytes()).await);
                let (out, error) = call(true, &[encoding], SSE, body).await;
                let out = String::from_utf8(out).unwrap();
                assert!(plain.starts_with(&out), "{encoding} at {at}");
                assert!(!out.contains("evil"), "{encoding} at {at}");
                // zstd alone is written in several members.
                if encoding == "zstd" && tool == "safe" {
                    assert!(error.is_none(), "{at}: {error:?}");
                    assert_eq!(out, plain);
                } else if encoding == "zstd" {
                    let expected = "[tool_not_allowed] Tool evil is not in the allowlist";
                    assert_eq!(message(error), expected);
                } else {
                    assert!(error.is_some(), "{encoding} at {at}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_follows_an_encoded_answer_is_an_error_however_little_it_is() {
    let document = r#"{"choices":[]}"#;
    let plain = stream("safe");
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let whole = encode(encoding, document.as_bytes()).await;
        let events = encode(encoding, plain.as_bytes()).await;
        for garbage in [
            &b"x"[..],
            b"\0",
            b"\n",
            b"behind",
            stream("evil").as_bytes(),
        ] {
            let body = [&whole, garbage].concat();
            let (out, error) = call(true, &[encoding], JSON, body).await;
            assert!(error.is_some(), "{encoding} with {garbage:?}");
            assert!(out.is_empty(), "{encoding} with {garbage:?}");

            let body = [&events, garbage].concat();
            let (out, error) = call(true, &[encoding], SSE, body).await;
            assert!(error.is_some(), "{encoding} with {garbage:?}");
            let out = String::from_utf8(out).unwrap();
            assert!(plain.starts_with(&out), "{encoding} with {garbage:?}");
        }
        let (out, error) = call(true, &[encoding], JSON, whole).await;
        assert!(error.is_none(), "{encoding}: {error:?}");
        assert_eq!(out, document.as_bytes());
    }
}

#[tokio::test]
async fn an_encoding_other_than_the_one_announced_is_never_passed_on() {
    for (content_type, plain) in [
        (SSE, stream("safe")),
        (JSON, r#"{"choices":[]}"#.to_owned()),
    ] {
        // Encoded without a word, or otherwise than it is said.
        for actual in ["gzip", "br", "zstd", "deflate"] {
            let body = encode(actual, plain.as_bytes()).await;
            for decoding in [true, false] {
                for announced in [&[][..], &["identity"]] {
                    let (out, error) = call(decoding, announced, content_type, body.clone()).await;
                    assert!(
                        message(error).starts_with("[response_unreadable]"),
                        "{actual} as {announced:?}"
                    );
                    assert!(out.is_empty(), "{actual} as {announced:?}");
                }
            }
            for announced in ["gzip", "br", "zstd", "deflate"] {
                if announced != actual {
                    let (out, error) = call(true, &[announced], content_type, body.clone()).await;
                    assert!(error.is_some(), "{actual} as {announced}");
                    assert!(out.is_empty(), "{actual} as {announced}");
                }
            }
        }
        // Announced, and not encoded at all.
        for announced in ["gzip", "br", "zstd", "deflate"] {
            let body = plain.clone().into_bytes();
            let (out, error) = call(true, &[announced], content_type, body).await;
            assert!(error.is_some(), "plain as {announced}");
            assert!(out.is_empty(), "plain as {announced}");
        }
    }
}

#[tokio::test]
async fn a_truncated_encoding_is_an_error() {
    let mut body = encode("gzip", stream("safe").as_bytes()).await;
    body.truncate(body.len() - 9);
    let (_, error) = call(true, &["gzip"], SSE, body).await;
    assert!(error.is_some());
}

#[tokio::test]
async fn the_rule_of_a_decoding_refusal_is_found_through_the_decoder() {
    let bomb = encode("gzip", &vec![b' '; 20 << 20]).await;
    let (_, error) = call(true, &["gzip"], JSON, bomb).await;
    let error = error.unwrap();
    assert_eq!(
        PolicyViolation::find(&*error).map(PolicyViolation::rule),
        Some(Rule::ResponseUnreadable)
    );
}
