//! The admin listener: what was counted, and that the process lives.

use http::Request;
use serde_json::{Value, json};

use crate::support::{CHAT_REQUEST, Gateway, Upstream, chat};

const LIMITED: &str = "
agent:
  name: Test Agent
  models:
    allowed_models: [gpt-4o-mini]
rate_limits:
  per_agent: { requests_per_minute: 5, tokens_per_day: 100000 }
  per_model: { 'gpt-4o*': { requests_per_hour: 9 } }
  global: { requests_per_day: 1000 }
";

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

async fn usage(gateway: &Gateway) -> Value {
    let answer = gateway.ask_admin(Request::get("/sekuire/usage")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.headers["content-type"], "application/json");
    serde_json::from_str(&answer.text()).unwrap()
}

#[tokio::test]
async fn usage_is_told_by_agent_and_limit() {
    let upstream = Upstream::chat().await;
    let args = [&ADMIN[..], &["--agent-header", "x-agent"]].concat();
    let gateway = Gateway::start_with(LIMITED, &upstream.url(), &args, &[]).await;
    assert_eq!(usage(&gateway).await, json!({"agents": []}));

    for request in [chat(), chat(), chat().header("x-agent", "other")] {
        assert_eq!(gateway.send(request, CHAT_REQUEST).await.status(), 200);
    }
    let told = usage(&gateway).await;
    let agents = told["agents"].as_array().unwrap();
    let names: Vec<_> = agents.iter().map(|agent| &agent["agent"]).collect();
    assert_eq!(names, ["Test Agent", "other"]);
    for (agent, requests, tokens) in [(&agents[0], 2, 6), (&agents[1], 1, 3)] {
        let limits = agent["limits"].as_array().unwrap();
        let limit = |scope: &str, unit: &str| {
            let found = limits
                .iter()
                .find(|limit| limit["scope"] == scope && limit["unit"] == unit);
            found.unwrap_or_else(|| panic!("{scope} {unit} in {agent}"))
        };
        let own = limit("per_agent", "requests");
        assert_eq!(own["window_seconds"], 60);
        assert_eq!(own["limit"], 5);
        assert_eq!(own["used"], requests);
        assert_eq!(own["remaining"], 5 - requests);
        let reset = own["reset_seconds"].as_u64().unwrap();
        assert!((1..=60).contains(&reset), "{reset}");

        let own = limit("per_agent", "tokens");
        assert_eq!(
            (&own["used"], &own["reserved"]),
            (&json!(tokens), &json!(0))
        );
        assert_eq!(limit("per_model", "requests")["model"], "gpt-4o*");
        assert_eq!(limit("global", "requests")["used"], 3);
    }
}

#[tokio::test]
async fn health_and_what_is_not_there() {
    let gateway = Gateway::start("http://127.0.0.1:1", &ADMIN).await;
    let answer = gateway.ask_admin(Request::get("/healthz")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));

    let rebound = format!("evil.example:{}", gateway.admin().await.port());
    for (request, status, code) in [
        (Request::get("/"), 404, "not_found"),
        (Request::post("/v1/chat/completions"), 404, "not_found"),
        (Request::post("/sekuire/usage"), 405, "method_not_allowed"),
        (Request::delete("/healthz"), 405, "method_not_allowed"),
        (
            Request::get("/sekuire/usage").header("host", &rebound),
            403,
            "host_not_allowed",
        ),
        (
            Request::get("/sekuire/usage").header("origin", "http://evil.example"),
            403,
            "host_not_allowed",
        ),
    ] {
        let answer = gateway.ask_admin(request).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.error().1, code);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_address_is_told_on_standard_error_only() {
    let gateway = Gateway::start("http://127.0.0.1:1", &ADMIN).await;
    let admin = gateway.admin().await;
    assert_ne!(admin.port(), gateway.address.port());
    gateway.signal("-TERM").await;
    let (code, rest, log) = gateway.ended().await;
    assert_eq!((code, rest.as_str()), (Some(0), ""), "{log}");
}

#[tokio::test]
async fn agents_cannot_ask_at_their_own_door() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start(&upstream.url(), &[]).await;
    for path in ["/sekuire/usage", "/healthz"] {
        let answer = gateway.send(Request::get(path), "").await;
        assert_eq!(answer.status(), 403, "{}", answer.text());
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn metrics_are_told_in_prometheus_text() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start_with(LIMITED, &upstream.url(), &ADMIN, &[]).await;
    let forbidden = CHAT_REQUEST.replace("gpt-4o-mini", "secret-model");
    assert_eq!(gateway.send(chat(), CHAT_REQUEST).await.status(), 200);
    assert_eq!(gateway.send(chat(), &forbidden).await.status(), 403);
    let answer = gateway.ask_admin(Request::get("/metrics")).await;
    assert_eq!(answer.status(), 200);
    let kind = &answer.head.headers["content-type"];
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let told = answer.text();
    let agent = r#"agent="Test Agent""#;
    for line in [
        format!(r#"sekuire_requests_total{{{agent},endpoint="model"}} 2"#),
        format!(
            r#"sekuire_decisions_total{{{agent},phase="request",verdict="refused",rule="model_not_allowed",mode="block"}} 1"#
        ),
        format!(
            r#"sekuire_decisions_total{{{agent},phase="end",verdict="allowed",rule="none",mode="block"}} 1"#
        ),
        format!(r#"sekuire_charged_tokens_total{{{agent},source="usage"}} 3"#),
        format!(r#"sekuire_held_bytes{{{agent},what="request"}} 0"#),
        format!(
            r#"sekuire_answer_duration_seconds_count{{{agent},form="document",end="complete"}} 1"#
        ),
        format!(r#"sekuire_inspection_seconds_bucket{{{agent},part="request",le="+Inf"}} 2"#),
        "# TYPE sekuire_inspection_seconds histogram".to_owned(),
        "# HELP sekuire_requests_total Requests that were judged.".to_owned(),
    ] {
        assert!(
            told.lines().any(|told| told == line),
            "{line} is not in\n{told}"
        );
    }
    assert!(
        !told.contains("secret-model") && !told.contains("gpt-4o"),
        "{told}"
    );
    // Agents can't ask at their own door.
    assert_eq!(
        gateway.send(Request::get("/metrics"), "").await.status(),
        403
    );
}
