//! From the first line to the last connection.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::support::{
    CHAT_REQUEST, DONE, Gateway, STREAM_REQUEST, Upstream, chat, event, fed, soon, whole,
};

#[cfg(unix)]
#[tokio::test]
async fn the_address_is_all_that_is_printed() {
    let upstream = Upstream::chat().await;
    for signal in ["-TERM", "-INT"] {
        let gateway = Gateway::start(&upstream.url(), &[]).await;
        assert_ne!(gateway.address.port(), 0);
        assert_eq!(gateway.send(chat(), CHAT_REQUEST).await.status(), 200);
        gateway.signal(signal).await;
        let (code, rest, log) = gateway.ended().await;
        assert_eq!((code, rest.as_str()), (Some(0), ""), "{log}");
        assert!(log.contains("policy loaded"), "{log}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn requests_under_way_are_finished_before_the_end() {
    let (give, mut given) = mpsc::channel(1);
    let upstream = Upstream::streaming(move |request| {
        let give = give.clone();
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let (sender, body) = fed();
            give.send(sender).await.unwrap();
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap()
        })
    })
    .await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let idle = gateway.connect().await;
    let mut client = gateway.connect().await;
    let mut stream = client
        .send(chat().body(whole(STREAM_REQUEST)).unwrap())
        .await;
    let mut answer = given.recv().await.unwrap();
    answer.send_data(Bytes::from(event("one"))).await.unwrap();
    assert!(stream.piece().await.unwrap().is_ok());

    gateway.signal("-TERM").await;
    soon("the listener's end", async {
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    answer.send_data(Bytes::from(event("two"))).await.unwrap();
    answer.send_data(Bytes::from(DONE)).await.unwrap();
    drop(answer);
    let mut rest = Vec::new();
    while let Some(piece) = stream.piece().await {
        rest.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(rest, format!("{}{DONE}", event("two")).into_bytes());
    let (code, printed, log) = gateway.ended().await;
    assert_eq!((code, printed.as_str()), (Some(0), ""), "{log}");
    drop(idle);
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let (arrived, mut arrivals) = mpsc::channel(1);
    let upstream = Upstream::streaming(move |_| {
        let arrived = arrived.clone();
        Box::pin(async move {
            arrived.send(()).await.unwrap();
            std::future::pending().await
        })
    })
    .await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{CHAT_REQUEST}",
        gateway.address,
        CHAT_REQUEST.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    soon("the request", arrivals.recv()).await.unwrap();
    gateway.signal("-TERM").await;
    soon("the listener's end", async {
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gateway.signal("-TERM").await;
    let (code, _, log) = gateway.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_their_turn() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &["--max-connections", "1"]).await;
    let mut first = gateway.connect().await;
    let request = || chat().body(whole(CHAT_REQUEST)).unwrap();
    assert_eq!(first.send(request()).await.whole().await.status(), 200);

    let mut second = gateway.connect().await;
    let mut waiting = std::pin::pin!(second.send(request()));
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    assert_eq!(first.send(request()).await.whole().await.status(), 200);
    drop(first);
    assert_eq!(waiting.await.whole().await.status(), 200);
}

#[tokio::test]
async fn a_kept_connection_serves_one_request_after_another() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        let answer = client.send(chat().body(whole(CHAT_REQUEST)).unwrap()).await;
        assert_eq!(answer.whole().await.status(), 200);
    }
}

#[tokio::test]
async fn the_http2_preface_opens_nothing() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    soon("the end", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
}
