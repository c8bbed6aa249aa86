//! What the gateway refuses whatever its policy says.

use http::Request;

use crate::support::{Answer, CHAT_REQUEST, Gateway, POLICY, Upstream, chat};

fn assert_refused(answer: &Answer, kind: &str, code: &str) {
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.error(), (kind.to_owned(), code.to_owned()));
    assert_eq!(answer.head.headers["x-should-retry"], "false");
}

#[tokio::test]
async fn only_the_listeners_own_names_are_accepted_as_host() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let port = gateway.address.port();
    let ours =
        ["127.0.0.1", "localhost", "LocalHost", "[::1]"].map(|host| format!("{host}:{port}"));
    for host in &ours {
        let answer = gateway
            .send(chat().header("host", host), CHAT_REQUEST)
            .await;
        assert_eq!(answer.status(), 200, "{host}");
    }
    let other_port = format!("127.0.0.1:{}", port ^ 1);
    let rebound = format!("evil.example:{port}");
    for host in [
        "evil.example",
        &rebound,
        &other_port,
        "127.0.0.1",
        "localhost",
    ] {
        let answer = gateway
            .send(chat().header("host", host), CHAT_REQUEST)
            .await;
        assert_refused(&answer, "invalid_request_error", "host_not_allowed");
    }
    assert_eq!(upstream.seen().len(), ours.len());
}

#[tokio::test]
async fn a_named_host_is_accepted() {
    let upstream = Upstream::chat().await;
    let args = ["--host", "gateway.internal", "--host", "other:9000"];
    let gateway = Gateway::start(&upstream.url(), &args).await;
    for (host, status) in [
        ("gateway.internal", 200),
        ("gateway.internal:1234", 200),
        ("other:9000", 200),
        ("other:9001", 403),
        ("sub.gateway.internal", 403),
    ] {
        let answer = gateway
            .send(chat().header("host", host), CHAT_REQUEST)
            .await;
        assert_eq!(answer.status(), status, "{host}");
    }
}

#[tokio::test]
async fn one_host_header_and_a_path_are_required() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    for (request, status) in [
        (
            "GET /v1/models HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}\r\n",
            400,
        ),
        (
            "GET /v1/models HTTP/1.1\r\nHost: {HOST}\r\nHost: evil.example\r\n",
            400,
        ),
        ("GET /v1/models HTTP/1.1\r\n", 400),
        (
            "GET http://{HOST}/v1/models HTTP/1.1\r\nHost: {HOST}\r\n",
            403,
        ),
        (
            "GET http://evil.example/v1/models HTTP/1.1\r\nHost: {HOST}\r\n",
            403,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n", 403),
        (
            "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: {HOST}\r\n",
            403,
        ),
        ("GET /v1/models HTTP/1.0\r\nHost: {HOST}\r\n", 505),
    ] {
        let answer = gateway
            .raw(&format!("{request}Connection: close\r\n\r\n"))
            .await;
        let expected = format!(" {status} ");
        assert!(
            answer.lines().next().unwrap().contains(&expected),
            "{request}{answer}"
        );
        assert!(answer.contains(r#"{"error":{"#), "{answer}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn upgrades_are_refused_with_a_reason() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    let websocket = Request::get("/v1/realtime?model=gpt-realtime")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = gateway.send(websocket, "").await;
    assert_refused(&answer, "policy_violation", "endpoint_not_allowed");
    assert!(
        answer.text().contains("websockets can't be inspected"),
        "{}",
        answer.text()
    );

    let plain = chat().header("connection", "keep-alive, upgrade");
    let answer = gateway.send(plain, CHAT_REQUEST).await;
    assert_refused(&answer, "policy_violation", "endpoint_not_allowed");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn method_overrides_are_refused_in_every_mode() {
    let upstream = Upstream::chat().await;
    for mode in ["block", "warn", "audit"] {
        let gateway = Gateway::start(&upstream.url(), &["--mode", mode]).await;
        for name in [
            "X-HTTP-Method-Override",
            "X-HTTP-Method",
            "X-Method-Override",
        ] {
            let answer = gateway
                .send(chat().header(name, "DELETE"), CHAT_REQUEST)
                .await;
            assert_refused(&answer, "policy_violation", "endpoint_not_allowed");
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_web_page_cannot_use_the_gateways_key() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start_with(
        POLICY,
        &upstream.url(),
        &["--api-key-env", "TEST_UPSTREAM_KEY"],
        &[("TEST_UPSTREAM_KEY", "sk-gateway")],
    )
    .await;
    for origin in ["https://evil.example", "null"] {
        let answer = gateway
            .send(chat().header("origin", origin), CHAT_REQUEST)
            .await;
        assert_refused(&answer, "invalid_request_error", "host_not_allowed");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(gateway.send(chat(), CHAT_REQUEST).await.status(), 200);
}
