//! What passes: heads, bodies and streams, in both directions.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::support::{
    CHAT_ANSWER, CHAT_REQUEST, DONE, Gateway, STREAM_REQUEST, Upstream, boxed, chat, event, fed,
    soon, whole,
};

#[tokio::test]
async fn method_path_query_headers_and_body_arrive_as_sent() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let request = Request::post("/v1/chat/completions?trace=a%20b+c&x=")
        .header("content-type", "application/json")
        .header("authorization", "Bearer client-key")
        .header("openai-organization", "org-1")
        .header("x-custom", "kept");
    let answer = gateway.send(request, CHAT_REQUEST).await;
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (200, CHAT_ANSWER)
    );

    let [seen] = &upstream.seen()[..] else {
        panic!("one request")
    };
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.target, "/v1/chat/completions?trace=a%20b+c&x=");
    assert_eq!(seen.body, CHAT_REQUEST);
    assert_eq!(seen.headers["host"], upstream.address.to_string());
    assert_eq!(seen.headers["authorization"], "Bearer client-key");
    assert_eq!(seen.headers["openai-organization"], "org-1");
    assert_eq!(seen.headers["x-custom"], "kept");
}

#[tokio::test]
async fn connection_headers_end_at_the_gateway_in_both_directions() {
    let answer = Response::builder()
        .header("content-type", "application/json")
        .header("connection", "x-hop")
        .header("x-hop", "upstream")
        .header("keep-alive", "timeout=5")
        .header("proxy-authenticate", "Basic")
        .header("x-request-id", "req-1");
    let upstream = Upstream::answering(answer.body(CHAT_ANSWER).unwrap()).await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let request = chat()
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "client")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic c2VjcmV0")
        .header("proxy-connection", "keep-alive")
        .header("expect", "100-continue");
    let answer = gateway.send(request, CHAT_REQUEST).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.headers["x-request-id"], "req-1");
    for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert!(!answer.head.headers.contains_key(name), "{name}");
    }
    let [seen] = &upstream.seen()[..] else {
        panic!("one request")
    };
    for name in [
        "x-hop",
        "keep-alive",
        "te",
        "proxy-authorization",
        "proxy-connection",
        "expect",
    ] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn a_version_in_both_base_urls_is_sent_once() {
    let upstream = Upstream::chat().await;
    for (base, path, expected) in [
        ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/", "/chat/completions", "/v1/chat/completions"),
        (
            "/openai/v1",
            "/v1/chat/completions",
            "/openai/v1/chat/completions",
        ),
        (
            "/openai/v1",
            "/openai/v1/chat/completions",
            "/openai/v1/chat/completions",
        ),
    ] {
        let gateway = Gateway::start(&format!("{}{base}", upstream.url()), &[]).await;
        let request = Request::post(path).header("content-type", "application/json");
        assert_eq!(gateway.send(request, CHAT_REQUEST).await.status(), 200);
        assert_eq!(upstream.seen().last().unwrap().target, expected);
    }
}

#[tokio::test]
async fn a_stream_reaches_the_client_event_by_event_and_byte_for_byte() {
    let (answer, body) = fed();
    let body = Mutex::new(Some(body));
    let body = std::sync::Arc::new(body);
    let upstream = Upstream::streaming(move |request| {
        let body = std::sync::Arc::clone(&body);
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let body = body.lock().await.take().unwrap();
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(body)
                .unwrap()
        })
    })
    .await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let mut answer = answer;
    let mut client = gateway.connect().await;
    let mut stream = client
        .send(chat().body(whole(STREAM_REQUEST)).unwrap())
        .await;
    assert_eq!(stream.status(), 200);
    assert!(!stream.head.headers.contains_key("content-length"));

    // Each event is sent only after the one before it has arrived.
    for piece in [
        event("one"),
        event("zwei \u{1F600}"),
        event("three"),
        DONE.to_owned(),
    ] {
        answer.send_data(Bytes::from(piece.clone())).await.unwrap();
        let mut got = Vec::new();
        while got.len() < piece.len() {
            got.extend_from_slice(&stream.piece().await.unwrap().unwrap());
        }
        assert_eq!(got, piece.as_bytes());
    }
    drop(answer);
    assert!(stream.piece().await.is_none());
}

#[tokio::test]
async fn a_large_upload_is_passed_on_while_it_arrives() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 256;
    let (first, mut first_arrived) = mpsc::channel(1);
    let upstream = Upstream::streaming(move |request| {
        let first = first.clone();
        Box::pin(async move {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.iter().all(|byte| *byte == b'u'));
                length += data.len();
                let _ = first.try_send(());
            }
            Response::builder()
                .header("x-length", length)
                .header("content-type", "application/json")
                .body(whole("{}"))
                .unwrap()
        })
    })
    .await;
    // Outside `block` an endpoint that no rule governs passes unread.
    let gateway = Gateway::start(&upstream.url(), &["--mode", "audit"]).await;
    let (mut upload, body) = fed();
    let request = Request::post("/v1/uploads/upload_1/parts")
        .header("content-type", "application/octet-stream")
        .body(body)
        .unwrap();
    let mut client = gateway.connect().await;
    let answer = tokio::spawn(async move { client.send(request).await.whole().await });
    let piece = Bytes::from(vec![b'u'; PIECE]);
    upload.send_data(piece.clone()).await.unwrap();
    soon("the first piece", first_arrived.recv()).await.unwrap();
    for _ in 1..PIECES {
        soon("sending", upload.send_data(piece.clone()))
            .await
            .unwrap();
    }
    drop(upload);
    let answer = answer.await.unwrap();
    assert_eq!(
        answer.head.headers["x-length"],
        (PIECE * PIECES).to_string()
    );
}

#[tokio::test]
async fn redirects_are_passed_on_and_not_followed() {
    let answer = Response::builder()
        .status(307)
        .header("location", "http://127.0.0.1:1/elsewhere");
    let upstream = Upstream::answering(answer.body("").unwrap()).await;
    let gateway = Gateway::start(&upstream.url(), &["--mode", "audit"]).await;
    let answer = gateway.send(chat(), CHAT_REQUEST).await;
    assert_eq!(answer.status(), 307);
    assert_eq!(
        answer.head.headers["location"],
        "http://127.0.0.1:1/elsewhere"
    );
}

#[tokio::test]
async fn proxy_settings_of_the_environment_are_not_read() {
    let upstream = Upstream::chat().await;
    let proxy = Upstream::chat().await;
    let url = proxy.url();
    let envs = ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"].map(|name| (name, &*url));
    let gateway = Gateway::start_with(crate::support::POLICY, &upstream.url(), &[], &envs).await;
    assert_eq!(gateway.send(chat(), CHAT_REQUEST).await.status(), 200);
    assert_eq!((upstream.seen().len(), proxy.seen().len()), (1, 0));
}

#[tokio::test]
async fn the_gateways_key_replaces_the_clients_account() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start_with(
        crate::support::POLICY,
        &upstream.url(),
        &["--api-key-env", "TEST_UPSTREAM_KEY"],
        &[("TEST_UPSTREAM_KEY", "sk-gateway"), ("RUST_LOG", "trace")],
    )
    .await;
    let request = chat()
        .header("authorization", "Bearer client-key")
        .header("api-key", "client-key")
        .header("openai-organization", "org-1")
        .header("openai-project", "proj-1");
    assert_eq!(gateway.send(request, CHAT_REQUEST).await.status(), 200);
    let [seen] = &upstream.seen()[..] else {
        panic!("one request")
    };
    assert_eq!(seen.headers["authorization"], "Bearer sk-gateway");
    for name in ["api-key", "openai-organization", "openai-project"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    #[cfg(unix)]
    {
        gateway.signal("-TERM").await;
        let (_, _, log) = gateway.ended().await;
        assert!(!log.contains("sk-gateway"), "the key was logged");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_cancels_the_upstream_call() {
    let (arrived, mut arrivals) = mpsc::channel(1);
    let (gone, mut departures) = mpsc::channel(1);
    let upstream = Upstream::streaming(move |request| {
        let arrived = arrived.clone();
        // Dropped with the handler, which hyper does when the connection closes.
        let guard = OnDrop(gone.clone());
        Box::pin(async move {
            let _guard = guard;
            request.into_body().collect().await.unwrap();
            arrived.send(()).await.unwrap();
            std::future::pending().await
        })
    })
    .await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let mut client = gateway.connect().await;
    let request = chat().body(whole(CHAT_REQUEST)).unwrap();
    {
        let mut answer = std::pin::pin!(client.send(request));
        tokio::select! {
            _ = &mut answer => panic!("nothing was answered"),
            arrival = soon("the request", arrivals.recv()) => arrival.unwrap(),
        }
    }
    drop(client);
    soon("the cancellation", departures.recv()).await.unwrap();
}

struct OnDrop(mpsc::Sender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_cancels_the_upstream_call() {
    let (give, mut given) = mpsc::channel(1);
    let upstream = Upstream::streaming(move |request| {
        let give = give.clone();
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let (sender, body) = fed();
            give.send(sender).await.unwrap();
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(boxed(body))
                .unwrap()
        })
    })
    .await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let mut client = gateway.connect().await;
    let sending = client.send(chat().body(whole(STREAM_REQUEST)).unwrap());
    let mut stream = sending.await;
    let mut answer = given.recv().await.unwrap();
    answer.send_data(Bytes::from(event("one"))).await.unwrap();
    assert!(stream.piece().await.unwrap().is_ok());
    drop(stream);
    drop(client);
    soon("the cancellation", async {
        while answer.send_data(Bytes::from(event("more"))).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_upstream_never_ends_cleanly() {
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
    let gateway = Gateway::start(&upstream.url(), &["--mode", "audit"]).await;
    let mut client = gateway.connect().await;
    let request = chat().body(whole(STREAM_REQUEST)).unwrap();
    let mut stream = client.send(request).await;
    let mut answer = given.recv().await.unwrap();
    answer.send_data(Bytes::from(event("one"))).await.unwrap();
    assert!(stream.piece().await.unwrap().is_ok());
    answer.abort("reset".into());
    loop {
        match stream.piece().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => break,
            None => panic!("the broken stream ended cleanly"),
        }
    }
}

#[tokio::test]
async fn conflicting_framing_is_resolved_before_the_upstream() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let size = format!("{:x}", CHAT_REQUEST.len());
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        // The connection is closed after such a request, so that nothing can hide behind it.
        let answer = gateway
            .raw(&format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: {{HOST}}\r\nContent-Type: \
                 application/json\r\n{framing}\r\n\r\n{size}\r\n{CHAT_REQUEST}\r\n0\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for seen in upstream.seen() {
        assert_eq!(seen.body, CHAT_REQUEST);
        let lengths = ["content-length", "transfer-encoding"]
            .map(|name| seen.headers.get_all(name).iter().count());
        assert_eq!(lengths.iter().sum::<usize>(), 1);
    }
}

#[tokio::test]
async fn odd_framing_is_refused_or_resolved_and_never_passed_on() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let (length, size) = (CHAT_REQUEST.len(), format!("{:x}", CHAT_REQUEST.len()));
    let chunked = format!("{size}\r\n{CHAT_REQUEST}\r\n0\r\n\r\n");
    let extended = format!("{size};a=1;b=\"x\"\r\n{CHAT_REQUEST}\r\n0;c\r\n\r\n");
    let trailed = format!("{size}\r\n{CHAT_REQUEST}\r\n0\r\nContent-Length: 3\r\n\r\n");
    let short = format!("{size}0\r\n{CHAT_REQUEST}\r\n0\r\n\r\n");
    let plain = CHAT_REQUEST.to_owned();
    let exact = format!("Content-Length: {length}");
    for (framing, body, passes) in [
        (exact.clone(), &plain, true),
        ("Transfer-Encoding: chunked".to_owned(), &chunked, true),
        ("Transfer-Encoding: Chunked".to_owned(), &chunked, true),
        ("transfer-encoding:\t chunked ".to_owned(), &chunked, true),
        ("Transfer-Encoding: chunked".to_owned(), &extended, true),
        ("Transfer-Encoding: chunked".to_owned(), &trailed, false),
        (format!("{exact}\r\nContent-Length: 3"), &plain, false),
        (format!("Content-Length: 3\r\n{exact}"), &plain, false),
        (format!("Content-Length: {length}, 3"), &plain, false),
        (format!("Content-Length: +{length}"), &plain, false),
        ("Content-Length: -1".to_owned(), &plain, false),
        ("Transfer-Encoding : chunked".to_owned(), &chunked, false),
        ("Transfer-Encoding: xchunked".to_owned(), &chunked, false),
        (
            "Transfer-Encoding: chunked, identity".to_owned(),
            &chunked,
            false,
        ),
        ("Transfer-Encoding: gzip".to_owned(), &chunked, false),
        ("Transfer-Encoding: chunked".to_owned(), &plain, false),
        ("Transfer-Encoding: chunked".to_owned(), &short, false),
    ] {
        let before = upstream.seen().len();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {{HOST}}\r\nContent-Type: \
             application/json\r\nConnection: close\r\n{framing}\r\n\r\n{body}"
        );
        // Only where more is announced than comes is the end of it said; to all others it would mean a client that left.
        let answer = if body == &short {
            gateway.raw_and_done(&request).await
        } else {
            gateway.raw(&request).await
        };
        let status = answer.get(9..12).unwrap_or("none");
        let seen = upstream.seen().split_off(before);
        assert_eq!(status == "200", passes, "{framing}: {answer}");
        assert_eq!(seen.len(), usize::from(passes), "{framing}: {answer}");
        for seen in seen {
            assert_eq!(seen.body, CHAT_REQUEST);
            assert!(!seen.headers.contains_key("transfer-encoding"), "{framing}");
            let lengths: Vec<_> = seen.headers.get_all("content-length").iter().collect();
            assert_eq!(lengths, [&length.to_string()], "{framing}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    // A port that was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let gateway = Gateway::start(&format!("http://{address}/v1"), &[]).await;
    let request =
        Request::post("/v1/chat/completions?key=secret").header("content-type", "application/json");
    let answer = gateway.send(request, CHAT_REQUEST).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.error(),
        (
            "upstream_error".to_owned(),
            "upstream_unreachable".to_owned()
        )
    );
    assert!(!answer.head.headers.contains_key("x-should-retry"));
    for inside in ["secret", "127.0.0.1", &address.port().to_string()] {
        assert!(!answer.text().contains(inside), "{inside}");
    }
}

#[tokio::test]
async fn an_upstream_that_closes_before_the_head_is_a_502() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        tokio::select! {
            _ = stopped => {}
            () = async {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut some = [0; 16];
                    let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
                }
            } => {}
        }
    });
    let gateway = Gateway::start(&format!("http://{address}"), &[]).await;
    let answer = gateway.send(chat(), CHAT_REQUEST).await;
    assert_eq!(answer.status(), 502);
    drop(stop);
}
