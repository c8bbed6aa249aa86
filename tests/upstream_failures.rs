//! A real server over loopback that fails in every way that servers fail: the client gets an error in good time, and
//! never a byte that was not judged.

#![cfg(test)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::{ASK, Outcome, Stand, allowing, chat};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;
use tower_sekuire::{BoxError, End, Rule, SekuireLayer};

/// Long enough for a busy machine; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it hangs")
}

/// What a server does once it has read a request.
#[derive(Clone, Debug)]
enum Act {
    Write(Vec<u8>),
    /// Leaves the time in which a client can read what was written.
    Wait,
    /// Closes the connection, as if all were well.
    Close,
    /// Resets the connection.
    Reset,
}

fn write(text: impl Into<Vec<u8>>) -> Act {
    Act::Write(text.into())
}

/// A server that does the same at every connection. It speaks HTTP in writing only, so that it can break all rules.
async fn server(acts: Vec<Act>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, acts.clone()));
        }
    });
    address
}

async fn serve(mut connection: TcpStream, acts: Vec<Act>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4_096];
    while !request.ends_with(ASK.as_bytes()) {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    for act in acts {
        match act {
            Act::Write(bytes) => connection.write_all(&bytes).await?,
            Act::Wait => tokio::time::sleep(Duration::from_millis(30)).await,
            Act::Close => {
                connection.shutdown().await?;
                return Ok(());
            }
            Act::Reset => {
                connection.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    // Neither closed nor answered to the end: the client has to know by itself when it is done.
    std::future::pending().await
}

fn stand() -> Stand {
    Stand::new(allowing(&["safe"]))
}

fn client(stand: &Stand) -> tower_sekuire::SekuireService<Client<HttpConnector, Full<Bytes>>> {
    stand.around(Client::builder(TokioExecutor::new()).build_http())
}

async fn call(stand: &Stand, server: SocketAddr) -> Outcome {
    let request = Request::post(format!("http://{server}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::from(ASK))
        .unwrap();
    soon(async {
        let mut outcome = Outcome::default();
        match client(stand).oneshot(request).await {
            Ok(response) => {
                let (head, mut body) = response.into_parts();
                outcome.head = Some(head);
                while let Some(frame) = body.frame().await {
                    match frame.map(Frame::into_data) {
                        Ok(Ok(data)) => outcome.bytes.extend_from_slice(&data),
                        Ok(Err(frame)) => outcome.trailers = frame.into_trailers().ok(),
                        Err(error) => outcome.error = Some(error),
                    }
                }
            }
            Err(error) => outcome.error = Some(error),
        }
        outcome
    })
    .await
}

async fn answered(acts: Vec<Act>) -> Outcome {
    let stand = stand();
    let outcome = call(&stand, server(acts).await).await;
    let ends = stand.ends();
    assert_eq!(ends.len(), 1, "told once how it ended: {ends:?}");
    outcome
}

fn head(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}\r\n")
}

fn stream_head() -> String {
    head("200 OK", "content-type: text/event-stream\r\n")
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn chunked_stream_head() -> String {
    head(
        "200 OK",
        "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n",
    )
}

fn document(status: &str, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![write(
        head(status, &format!("content-length: {length}\r\n{headers}")) + body,
    )]
}

fn whole() -> String {
    chat::answer(&json!({"content": "hello"}))
}

fn evil() -> String {
    chat::opened(0, "evil")
}

#[tokio::test]
async fn a_server_that_works_is_heard() {
    let outcome = answered(document(
        "200 OK",
        "content-type: application/json\r\n",
        &whole(),
    ))
    .await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.text(), whole());

    let stream = chat::text("a") + chat::DONE;
    let acts = vec![write(
        chunked_stream_head() + &chunk(&stream) + "0\r\nx-sum: 1\r\n\r\n",
    )];
    let outcome = answered(acts).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.text(), stream);
}

#[tokio::test]
async fn an_event_reaches_the_client_while_the_next_is_not_even_written() {
    let stand = stand();
    let event = chat::text("a");
    // The server writes no more, and does not close.
    let address = server(vec![write(chunked_stream_head() + &chunk(&event))]).await;
    let request = Request::post(format!("http://{address}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::from(ASK))
        .unwrap();
    let response = soon(client(&stand).oneshot(request)).await.unwrap();
    let mut body = response.into_body();
    let frame = soon(body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), event);
    drop(body);
    assert_eq!(stand.ends(), [End::Dropped]);
}

#[tokio::test]
async fn a_connection_that_ends_inside_an_event_releases_nothing_of_it() {
    let text = chat::text("a");
    let evil = evil();
    for part in [1, 6, evil.len() / 2, evil.len() - 2, evil.len() - 1] {
        let event = format!("{text}{}", evil.get(..part).unwrap());
        let begun = chunked_stream_head() + &chunk(&event);
        for (name, acts) in [
            ("reset", vec![write(begun.clone()), Act::Wait, Act::Reset]),
            (
                "closed without the last chunk",
                vec![write(begun.clone()), Act::Close],
            ),
            ("ended in order", vec![write(begun + "0\r\n\r\n")]),
            (
                "closed, where that is the end",
                vec![write(stream_head() + &event), Act::Close],
            ),
        ] {
            let outcome = answered(acts).await;
            assert!(
                outcome.error.is_some(),
                "{name} after {part} bytes of an event"
            );
            assert_eq!(
                outcome.text(),
                text,
                "{name} after {part} bytes of an event"
            );
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_between_events_is_an_error_unless_it_ends_in_order() {
    let text = chat::text("a");
    let begun = chunked_stream_head() + &chunk(&text);
    let outcome = answered(vec![write(begun.clone()), Act::Wait, Act::Reset]).await;
    assert!(outcome.error.is_some());
    assert_eq!(outcome.text(), text);
    let outcome = answered(vec![write(begun.clone()), Act::Close]).await;
    assert!(outcome.error.is_some());
    let outcome = answered(vec![write(begun + "0\r\n\r\n")]).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.text(), text);
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_is_an_error() {
    for acts in [
        vec![Act::Close],
        vec![Act::Reset],
        vec![write("HTTP/1.1 200 O"), Act::Close],
        vec![
            write("HTTP/1.1 200 OK\r\ncontent-type: text/ev"),
            Act::Reset,
        ],
        vec![write("SSH-2.0-OpenSSH_9.9\r\n"), Act::Close],
    ] {
        let outcome = answered(acts.clone()).await;
        assert!(outcome.error.is_some(), "{acts:?}");
        assert!(
            outcome.violation().is_none(),
            "{acts:?}: it is no decision of the policy"
        );
        assert!(outcome.head.is_none(), "{acts:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let outcome = call(&stand(), address).await;
    assert!(outcome.error.is_some());
}

#[tokio::test]
async fn error_answers_pass_when_they_hold_no_call() {
    let error =
        json!({"error": {"message": "no", "type": "server_error", "param": null, "code": "x"}})
            .to_string();
    let html = "<!doctype html><html><body><h1>502 Bad Gateway</h1><p>{oops}</p></body></html>";
    for (status, kind, body) in [
        (
            "400 Bad Request",
            "content-type: application/json\r\n",
            &*error,
        ),
        (
            "429 Too Many Requests",
            "content-type: application/json\r\nretry-after: 7\r\n",
            &error,
        ),
        (
            "500 Internal Server Error",
            "content-type: application/json; charset=utf-8\r\n",
            &error,
        ),
        ("502 Bad Gateway", "content-type: text/html\r\n", html),
        (
            "503 Service Unavailable",
            "content-type: text/plain\r\n",
            "upstream connect error",
        ),
        ("503 Service Unavailable", "", "busy"),
        ("504 Gateway Timeout", "content-type: text/html\r\n", ""),
        ("401 Unauthorized", "", ""),
        (
            "404 Not Found",
            "content-type: text/html; charset=iso-8859-1\r\n",
            "<p>not found",
        ),
    ] {
        let outcome = answered(document(status, kind, body)).await;
        assert!(
            outcome.error.is_none(),
            "{status} {kind}: {:?}",
            outcome.error
        );
        assert_eq!(outcome.text(), body, "{status} {kind}");
        let head = outcome.head.unwrap();
        assert!(status.starts_with(head.status.as_str()));
        assert_eq!(
            head.headers.contains_key("retry-after"),
            kind.contains("retry-after")
        );
    }
}

#[tokio::test]
async fn error_answers_that_some_client_could_take_for_more_are_refused() {
    let call = chat::answer(&json!({"tool_calls": [{"function": {"name": "evil"}}]}));
    for (status, kind, body) in [
        (
            "500 Internal Server Error",
            "content-type: text/html\r\n",
            &*call,
        ),
        ("500 Internal Server Error", "", &call),
        (
            "500 Internal Server Error",
            "content-type: text/plain\r\n",
            &*evil(),
        ),
        (
            "400 Bad Request",
            "content-type: application/json\r\n",
            "<html>",
        ),
        ("400 Bad Request", "content-type: application/json\r\n", ""),
        (
            "400 Bad Request",
            "content-type: application/json\r\n",
            &call,
        ),
    ] {
        let outcome = answered(document(status, kind, body)).await;
        assert!(
            outcome.violation().is_some(),
            "{status} {kind} {body}: {:?}",
            outcome.error
        );
        assert!(outcome.head.is_none());
    }
}

#[tokio::test]
async fn answers_of_a_kind_that_is_not_read_are_refused() {
    for kind in [
        "",
        "content-type: text/html\r\n",
        "content-type: text/plain\r\n",
        "content-type: application/octet-stream\r\n",
        "content-type: application/json\r\ncontent-type: text/event-stream\r\n",
        "content-type: application/json\r\ncontent-encoding: gzip\r\n",
        "content-type: application/json\r\ncontent-encoding: br\r\n",
        "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n",
    ] {
        for body in [whole(), evil(), String::new()] {
            let outcome = answered(document("200 OK", kind, &body)).await;
            assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable), "{kind}");
            assert!(outcome.head.is_none(), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
        "304 Not Modified",
    ] {
        let headers = "location: http://127.0.0.1:9/v1/chat/completions\r\n";
        let outcome = answered(document(status, headers, "")).await;
        assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable), "{status}");
        assert!(outcome.head.is_none());
    }
}

#[tokio::test]
async fn a_header_that_redirects_is_refused_and_not_followed() {
    for (kind, body) in [
        ("application/json", whole()),
        ("text/event-stream", chat::text("a")),
    ] {
        let headers = format!("content-type: {kind}\r\nrefresh: 0; url=http://127.0.0.1:9/\r\n");
        let outcome = answered(document("200 OK", &headers, &body)).await;
        assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable), "{kind}");
        assert!(outcome.head.is_none(), "{kind}");
    }
}

#[tokio::test]
async fn a_provisional_answer_changes_nothing_about_the_final_one() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: <https://evil.example/>; rel=preload\r\n\r\n";
    let after = |body: &str| {
        let length = body.len();
        let headers = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        let head = head("200 OK", &headers);
        answered(vec![write(format!("{hints}{hints}{head}{body}"))])
    };
    let outcome = after(&whole()).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.text(), whole());
    let head = outcome.head.unwrap();
    assert_eq!(
        (head.status, head.headers.get("link")),
        (StatusCode::OK, None)
    );
    let call = chat::answer(&json!({"tool_calls": [{"function": {"name": "evil"}}]}));
    let outcome = after(&call).await;
    assert_eq!(outcome.rule(), Some(Rule::ToolNotAllowed));
    // As the last word there is, it is no answer.
    let outcome = answered(vec![write(hints), Act::Close]).await;
    assert!(outcome.error.is_some() && outcome.head.is_none());
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    let outcome = answered(vec![write(switch.to_owned() + &evil()), Act::Close]).await;
    assert!(outcome.error.is_some() && outcome.head.is_none());
    assert_eq!(outcome.text(), "");
}

#[tokio::test]
async fn trailers_that_claim_another_length_change_nothing() {
    let text = chat::text("a");
    let end = |length: usize| format!("0\r\ncontent-length: {length}\r\nx-sum: 1\r\n\r\n");
    for length in [0, 3, text.len() - 1, text.len(), 1_000_000] {
        let acts = vec![write(chunked_stream_head() + &chunk(&text) + &end(length))];
        let outcome = answered(acts).await;
        assert!(outcome.error.is_none(), "{length}: {:?}", outcome.error);
        assert_eq!(outcome.text(), text, "{length}");
        assert!(!outcome.head.unwrap().headers.contains_key("content-length"));

        let begun = format!("{text}{}", evil().get(..40).unwrap());
        let acts = vec![write(chunked_stream_head() + &chunk(&begun) + &end(length))];
        let outcome = answered(acts).await;
        assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable), "{length}");
        assert_eq!(outcome.text(), text, "{length}");
        assert!(outcome.trailers.is_none(), "{length}");

        let headers = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
        let acts = vec![write(
            head("200 OK", headers) + &chunk(&whole()) + &end(length),
        )];
        let outcome = answered(acts).await;
        assert!(outcome.error.is_none(), "{length}: {:?}", outcome.error);
        assert_eq!(outcome.text(), whole(), "{length}");
    }
}

#[tokio::test]
async fn an_announced_length_that_is_wrong_is_an_error() {
    let body = whole();
    let lengthy = |length: usize, kind: &str| {
        head(
            "200 OK",
            &format!("content-length: {length}\r\ncontent-type: {kind}\r\n"),
        )
    };
    // Less than announced.
    for end in [Act::Close, Act::Reset] {
        let acts = vec![
            write(lengthy(body.len() + 1, "application/json") + &body),
            Act::Wait,
            end,
        ];
        let outcome = answered(acts).await;
        assert!(outcome.error.is_some());
        assert!(
            outcome.head.is_none(),
            "nothing of an unfinished document is released"
        );
    }
    let text = chat::text("a");
    let acts = vec![
        write(lengthy(text.len() + 1, "text/event-stream") + &text),
        Act::Close,
    ];
    let outcome = answered(acts).await;
    assert!(outcome.error.is_some());
    assert_eq!(outcome.text(), text);
    // More than announced: what is over belongs to no answer.
    let outcome = answered(vec![write(
        lengthy(body.len(), "application/json") + &body + &evil(),
    )])
    .await;
    assert_eq!(outcome.text(), body);
    let outcome = answered(vec![write(
        lengthy(text.len(), "text/event-stream") + &text + &evil(),
    )])
    .await;
    assert_eq!(outcome.text(), text);
    let cut = vec![write(
        lengthy(text.len() + 20, "text/event-stream") + &text + &evil(),
    )];
    let outcome = answered(cut).await;
    assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable));
    assert_eq!(outcome.text(), text);
}

#[tokio::test]
async fn an_answer_or_event_over_its_cap_is_refused_before_it_has_come_whole() {
    let caps = |layer: SekuireLayer| layer.answer_cap(2_000).event_cap(2_000);
    let stand = stand().with(caps);
    let long = "x".repeat(50_000);
    // The server writes no more than this, and does not close: waiting for the rest would never end.
    let begun = head(
        "200 OK",
        "content-type: application/json\r\ntransfer-encoding: chunked\r\n",
    );
    let begun = begun + &chunk(&format!("{{\"choices\":[],\"x\":\"{long}"));
    let outcome = call(&stand, server(vec![write(begun)]).await).await;
    assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable));
    assert!(outcome.head.is_none());

    let text = chat::text("a");
    let begun = chunked_stream_head() + &chunk(&text) + &chunk(&format!("data: {{\"x\":\"{long}"));
    let outcome = call(&stand, server(vec![write(begun)]).await).await;
    assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable));
    assert_eq!(outcome.text(), text);
    assert_eq!(stand.ends(), [End::Violation, End::Violation]);

    // Up to the cap all is well.
    let fits = chat::answer(&json!({"content": "x".repeat(1_000)}));
    let acts = document("200 OK", "content-type: application/json\r\n", &fits);
    let outcome = call(&stand, server(acts).await).await;
    assert_eq!(outcome.text(), fits);
}

#[tokio::test]
async fn a_forbidden_call_over_a_real_connection_ends_it() {
    let text = chat::text("a");
    let stream = chunked_stream_head() + &chunk(&text) + &chunk(&evil()) + &chunk(&text);
    // The server never ends the answer: the client is told at once all the same.
    let outcome = answered(vec![write(stream)]).await;
    assert_eq!(outcome.rule(), Some(Rule::ToolNotAllowed));
    assert_eq!(outcome.text(), text);
}

#[tokio::test]
async fn what_is_not_read_passes_with_all_its_faults() {
    let acts = vec![write(
        head(
            "302 Found",
            "location: /elsewhere\r\ncontent-length: 2\r\ncontent-encoding: gzip\r\n",
        ) + "\u{1f}x",
    )];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4_096];
        let _ = connection.read(&mut buffer).await.unwrap();
        for act in acts {
            if let Act::Write(bytes) = act {
                connection.write_all(&bytes).await.unwrap();
            }
        }
        std::future::pending::<()>().await;
    });
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = format!("http://{address}/v1/models").parse().unwrap();
    let response = soon(client(&stand()).oneshot(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    let body = soon(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(&*body, b"\x1fx");
}

#[tokio::test]
async fn a_proper_http_server_and_client_work_through_the_layer() {
    // hyper on both ends, with keep-alive: a refused answer must not harm the next call.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let number = Arc::new(AtomicUsize::new(0));
        while let Ok((connection, _)) = listener.accept().await {
            let number = number.clone();
            let answer = hyper::service::service_fn(move |_| {
                let name = if number.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                    "evil"
                } else {
                    "safe"
                };
                let body = chat::opened(0, name) + chat::DONE;
                async move {
                    Ok::<_, BoxError>(support::answer(
                        200,
                        "text/event-stream",
                        Full::new(Bytes::from(body)),
                    ))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), answer),
            );
        }
    });
    let stand = stand();
    let mut governed = client(&stand);
    for number in 0..6 {
        let request = Request::post(format!("http://{address}/v1/chat/completions"))
            .header("content-type", "application/json")
            .body(Full::from(ASK))
            .unwrap();
        let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut governed);
        let response = soon(tower::Service::call(soon(ready).await.unwrap(), request)).await;
        let body = soon(response.unwrap().into_body().collect()).await;
        assert_eq!(body.is_err(), number % 2 == 1);
        match body {
            Ok(body) => assert_eq!(body.to_bytes(), chat::opened(0, "safe") + chat::DONE),
            Err(error) => {
                assert!(
                    tower_sekuire::PolicyViolation::find(&*error).is_some(),
                    "{number}: {error}"
                );
            }
        }
    }
    assert_eq!(stand.ends().len(), 6);
}
