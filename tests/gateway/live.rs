//! What changes while the gateway runs: the policy, and who is stopped.

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::support::{
    Answer, CHAT_REQUEST, DONE, Gateway, POLICY, STREAM_REQUEST, Upstream, chat, event, fed,
};

const OTHER: &str = "
agent:
  name: Test Agent
  models:
    allowed_models: [o3]
";
const ADMIN: [&str; 4] = ["--admin", "127.0.0.1:0", "--admin-token-env", "ADMIN_TOKEN"];
const TOKEN: [(&str, &str); 1] = [("ADMIN_TOKEN", "t0ken")];

async fn policy(gateway: &Gateway) -> Value {
    let answer = gateway.ask_admin(Request::get("/sekuire/policy")).await;
    assert_eq!(answer.status(), 200);
    serde_json::from_str(&answer.text()).unwrap()
}

async fn order(gateway: &Gateway, path: &str, body: &'static str) -> Answer {
    let request = Request::post(path).header("authorization", "Bearer t0ken");
    gateway.order_admin(request, body).await
}

async fn ask(gateway: &Gateway) -> Answer {
    gateway.send(chat(), CHAT_REQUEST).await
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    body["error"]["code"].as_str().unwrap_or("none").to_owned()
}

#[cfg(unix)]
#[tokio::test]
async fn a_hangup_puts_in_force_what_the_file_says_or_keeps_what_was() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start_with(POLICY, &upstream.url(), &ADMIN, &TOKEN).await;
    assert_eq!(ask(&gateway).await.status(), 200);
    let first = policy(&gateway).await;
    assert_eq!(
        (&first["version"], &first["agent"]),
        (&json!(1), &json!("Test Agent"))
    );
    assert_eq!(first["sha256"].as_str().unwrap().len(), 64);

    gateway.rewrite_policy(OTHER);
    assert_eq!(
        ask(&gateway).await.status(),
        200,
        "not before it is asked for"
    );
    gateway.signal("-HUP").await;
    gateway.logged("the policy was replaced", 1).await;
    assert_eq!(code(&ask(&gateway).await), "model_not_allowed");
    let second = policy(&gateway).await;
    assert_eq!(second["version"], 2);
    assert_ne!(second["sha256"], first["sha256"]);

    for (broken, reason) in [
        (
            "agent: { models: { allowed_modles: [] } }",
            "allowed_modles",
        ),
        (
            "permissions: { network: { allowed_domains: [api.openai.com] } }",
            "the policy forbids the upstream",
        ),
    ] {
        gateway.rewrite_policy(broken);
        gateway.signal("-HUP").await;
        gateway.logged(reason, 1).await;
        let now = policy(&gateway).await;
        assert_eq!(
            (&now["version"], &now["sha256"]),
            (&json!(2), &second["sha256"])
        );
        assert!(
            now["last_error"].as_str().unwrap().contains(reason),
            "{now}"
        );
    }
    assert_eq!(policy(&gateway).await["refused"], 2);
    assert_eq!(code(&ask(&gateway).await), "model_not_allowed");
}

#[tokio::test]
async fn a_watched_file_is_put_in_force_when_it_changes() {
    let upstream = Upstream::chat().await;
    let args = [&ADMIN[..], &["--watch"]].concat();
    let gateway = Gateway::start_with(POLICY, &upstream.url(), &args, &TOKEN).await;
    gateway.rewrite_policy(OTHER);
    gateway.logged("the policy was replaced", 1).await;
    assert_eq!(code(&ask(&gateway).await), "model_not_allowed");
    gateway.rewrite_policy("half: [");
    gateway.logged("the policy file is refused", 1).await;
    gateway.rewrite_policy(POLICY);
    gateway.logged("the policy was replaced", 2).await;
    assert_eq!(ask(&gateway).await.status(), 200);
    let now = policy(&gateway).await;
    assert_eq!(
        (&now["version"], &now["last_error"]),
        (&json!(3), &Value::Null)
    );
}

#[tokio::test]
async fn an_order_stops_new_calls_and_open_streams_until_another_lets_them_go_on() {
    let (mut sender, body) = fed();
    let body = std::sync::Mutex::new(Some(body));
    let upstream = Upstream::streaming(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        Box::pin(async move {
            let answer = Response::builder().header("content-type", "text/event-stream");
            answer.body(body).unwrap()
        })
    })
    .await;
    let gateway = Gateway::start_with(POLICY, &upstream.url(), &ADMIN, &TOKEN).await;
    let request = chat().body(crate::support::whole(STREAM_REQUEST)).unwrap();
    let mut client = gateway.connect().await;
    let mut stream = client.send(request).await;
    sender.send_data(event("hello").into()).await.unwrap();
    assert_eq!(
        stream.piece().await.unwrap().unwrap(),
        Bytes::from(event("hello"))
    );

    let stopped = order(
        &gateway,
        "/sekuire/kill",
        r#"{"agent":"Test Agent","reason":"it loops"}"#,
    )
    .await;
    assert_eq!(
        stopped.text(),
        r#"{"killed":[{"agent":"Test Agent","reason":"it loops"}]}"#
    );
    let last = stream.piece().await.unwrap().unwrap();
    let last = std::str::from_utf8(&last).unwrap();
    assert!(
        last.starts_with("data: {\"error\":{\"code\":\"kill_switch\"") && last.ends_with("\n\n"),
        "{last}"
    );
    assert!(stream.piece().await.is_none());
    // The server is let go: what it sends finds nobody, soon.
    crate::support::soon("the upstream's end", async {
        while sender.send_data(DONE.into()).await.is_ok() {}
    })
    .await;
    let refused = ask(&gateway).await;
    assert_eq!(
        (refused.status(), code(&refused).as_str()),
        (403, "kill_switch")
    );
    assert_eq!(refused.head.headers["x-should-retry"], "false");

    let restored = order(&gateway, "/sekuire/restore", r#"{"agent":"Test Agent"}"#).await;
    assert_eq!(restored.text(), r#"{"killed":[]}"#);
}

#[tokio::test]
async fn without_a_token_nobody_gives_orders() {
    let gateway = Gateway::start("http://127.0.0.1:1", &["--admin", "127.0.0.1:0"]).await;
    let refused = order(&gateway, "/sekuire/kill", r#"{"everything":true}"#).await;
    assert_eq!(
        (refused.status(), code(&refused).as_str()),
        (403, "orders_not_taken")
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_log_says_which_policy_it_is_and_where_it_is_remarked_on() {
    let upstream = Upstream::chat().await;
    let remarked = format!("{POLICY}rate_limits: {{ global: {{ requests_per_day: 0 }} }}\n");
    let gateway = Gateway::start_with(&remarked, &upstream.url(), &ADMIN, &TOKEN).await;
    let first = policy(&gateway).await;
    let hash = first["sha256"].as_str().unwrap();
    gateway
        .logged(&format!("version=1 hash=\"{hash}\""), 1)
        .await;
    let line = POLICY.lines().count() + 1;
    let remark = "rate_limits.global.requests_per_day: 0 allows nothing";
    gateway.logged(&format!(":{line}:26: {remark}"), 1).await;

    gateway.rewrite_policy("models: {}\n");
    gateway.signal("-HUP").await;
    let second = ":1:1: nothing is enforced: whatever is asked is allowed; write at least one rule version=2";
    gateway.logged(second, 1).await;
    let now = policy(&gateway).await;
    let hash = now["sha256"].as_str().unwrap();
    gateway
        .logged(&format!("the policy was replaced version=2 hash={hash}"), 1)
        .await;
}
