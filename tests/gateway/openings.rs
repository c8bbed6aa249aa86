//! What the flags of `serve` open and close, and that refusals name them.

use http::{Method, Request};
use serde_json::json;

use crate::support::{CHAT_REQUEST, Gateway, Upstream, chat};

const RESTRICTED: &str = "
agent:
  name: Test Agent
  models:
    allowed_models: [gpt-4o-mini]
  toolsets:
    allowed_tools: [\"mcp:docs\", web_search]
";

fn post(path: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("content-type", "application/json")
}

/// Sends one body to one path of two gateways, without and with the flags; returns what the first one's refusal says.
async fn opened(path: &str, body: &str, flags: &[&str]) -> String {
    let upstream = Upstream::chat().await;
    let plain = Gateway::start_with(RESTRICTED, &upstream.url(), &[], &[]).await;
    let refused = plain.send(post(path), body).await;
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert!(upstream.seen().is_empty());
    let open = Gateway::start_with(RESTRICTED, &upstream.url(), flags, &[]).await;
    let passed = open.send(post(path), body).await;
    assert_eq!(passed.status(), 200, "{}", passed.text());
    assert_eq!(upstream.seen().len(), 1);
    refused.text()
}

#[tokio::test]
async fn an_endpoint_that_is_not_inspected() {
    let said = opened("/v1/batches", "{}", &["--open-endpoint", "POST /batches"]).await;
    assert!(
        said.contains("`POST /batches` runs what a file says"),
        "{said}"
    );
    assert!(said.contains("--open-endpoint"), "{said}");
}

#[tokio::test]
async fn a_base_path() {
    let said = opened(
        "/tenants/a/chat/completions",
        CHAT_REQUEST,
        &["--base-path", "/tenants/a"],
    )
    .await;
    assert!(said.contains("--base-path"), "{said}");
}

#[tokio::test]
async fn a_stored_prompt() {
    let body = json!({"model": "gpt-4o-mini", "prompt": {"id": "pmpt_1"}, "input": "hi"});
    let said = opened(
        "/v1/responses",
        &body.to_string(),
        &["--open-stored", "pmpt_1"],
    )
    .await;
    assert!(
        said.contains("`pmpt_1` is stored") && said.contains("--open-stored"),
        "{said}"
    );
}

#[tokio::test]
async fn an_mcp_server() {
    let body = json!({
        "model": "gpt-4o-mini",
        "input": "hi",
        "tools": [{"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example.com:8443/sse"}],
    });
    let said = opened(
        "/v1/responses",
        &body.to_string(),
        &["--mcp-server", "docs=mcp.example.com:8443"],
    )
    .await;
    assert!(said.contains("--mcp-server"), "{said}");
}

#[tokio::test]
async fn history_and_state_are_refused_when_asked() {
    let history = json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "file_delete", "arguments": "{}"}},
        ]}],
    });
    let state = json!({"model": "gpt-4o-mini", "input": "hi", "previous_response_id": "resp_1"});
    for (path, body, flag) in [
        ("/v1/chat/completions", history, "--strict-history"),
        ("/v1/responses", state, "--strict-state"),
    ] {
        let upstream = Upstream::chat().await;
        for (flags, status) in [(&[][..], 200), (&[flag][..], 403)] {
            let gateway = Gateway::start_with(RESTRICTED, &upstream.url(), flags, &[]).await;
            let answer = gateway.send(post(path), &body.to_string()).await;
            assert_eq!(answer.status(), status, "{flag}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn the_upstreams_own_base_is_known() {
    let upstream = Upstream::chat().await;
    for (base, target, joined) in [
        (
            "/proxy/v1",
            "/v1/chat/completions",
            "/proxy/v1/chat/completions",
        ),
        (
            "/proxy/v1",
            "/chat/completions",
            "/proxy/v1/chat/completions",
        ),
        (
            "/proxy",
            "/v1/chat/completions",
            "/proxy/v1/chat/completions",
        ),
        ("/proxy", "/chat/completions", "/proxy/chat/completions"),
    ] {
        let gateway = Gateway::start(&format!("{}{base}", upstream.url()), &[]).await;
        let answer = gateway.send(post(target), CHAT_REQUEST).await;
        assert_eq!(answer.status(), 200, "{base} {target}: {}", answer.text());
        assert_eq!(upstream.seen().last().unwrap().target, joined);
        // It is read there, too.
        let answer = gateway
            .send(post(target), &CHAT_REQUEST.replace("gpt-4o-mini", "o3"))
            .await;
        assert!(
            answer.text().contains("model_not_allowed"),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn what_is_not_opened_stays_closed() {
    let upstream = Upstream::chat().await;
    let flags = [
        "--open-endpoint",
        "POST /batches",
        "--open-endpoint",
        "POST /uploads",
    ];
    let gateway = Gateway::start_with(RESTRICTED, &upstream.url(), &flags, &[]).await;
    for (path, status) in [
        ("/v1/batches", 200),
        ("/v1/uploads", 200),
        ("/v1/skills", 403),
    ] {
        assert_eq!(
            gateway.send(post(path), "{}").await.status(),
            status,
            "{path}"
        );
    }
    let forbidden = CHAT_REQUEST.replace("gpt-4o-mini", "o3");
    assert_eq!(gateway.send(chat(), &forbidden).await.status(), 403);
}

#[tokio::test]
async fn what_a_call_reserves_and_what_is_said_of_it() {
    const LIMITED: &str = "rate_limits: { global: { tokens_per_day: 100000 } }";
    const STREAM: &str = r#"{"model":"gpt-4o-mini","stream":true,"messages":[]}"#;
    let upstream = Upstream::chat().await;
    for (flags, body, remaining, asked) in [
        (vec![], CHAT_REQUEST, None, false),
        (
            vec!["--rate-limit-headers"],
            STREAM,
            Some(95_000..=95_904),
            true,
        ),
        (
            vec![
                "--rate-limit-headers",
                "--default-output-tokens",
                "1000",
                "--no-stream-options",
            ],
            STREAM,
            Some(98_000..=99_000),
            false,
        ),
    ] {
        let gateway = Gateway::start_with(LIMITED, &upstream.url(), &flags, &[]).await;
        let answer = gateway.send(post("/v1/chat/completions"), body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let said = answer.head.headers.get("x-ratelimit-remaining-tokens");
        let said = said.map(|said| said.to_str().unwrap().parse::<u64>().unwrap());
        match (said, remaining) {
            (None, None) => {}
            (Some(said), Some(remaining)) => {
                assert!(remaining.contains(&said), "{flags:?}: {said}")
            }
            other => panic!("{flags:?}: {other:?}"),
        }
        let sent = upstream.seen().last().unwrap().body.clone();
        let sent = String::from_utf8_lossy(sent.as_ref()).into_owned();
        assert_eq!(sent.contains("include_usage"), asked, "{flags:?}: {sent}");
    }
}
