//! What keeps `serve` from starting: exit code 2, the reason on standard error, nothing printed.

use crate::support::{CHAT_REQUEST, Gateway, POLICY, Upstream, chat, policy_file, run, text};

async fn refused(policy: &str, args: &[&str], envs: &[(&str, &str)]) -> String {
    let policy = policy_file(policy);
    let mut all = vec!["serve", "--policy", policy.path().to_str().unwrap()];
    if !args.contains(&"--listen") {
        all.extend(["--listen", "127.0.0.1:0"]);
    }
    all.extend(args);
    let output = run(&all, envs).await;
    let reason = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{reason}");
    assert!(output.stdout.is_empty());
    reason
}

#[tokio::test]
async fn a_policy_that_cannot_be_loaded() {
    let output = run(&["serve", "--policy", "/nonexistent/sekuire.yml"], &[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains("/nonexistent/sekuire.yml"));

    let reason = refused("agent: [unclosed", &[], &[("RUST_LOG", "off")]).await;
    assert!(reason.contains("the policy can't be loaded"), "{reason}");
    let reason = refused(POLICY, &["--agent", "Nobody"], &[]).await;
    assert!(reason.contains("Nobody"), "{reason}");
}

#[tokio::test]
async fn an_upstream_that_is_none() {
    for upstream in [
        "ftp://api.openai.com",
        "api.openai.com",
        "https://user:hunter2@api.openai.com",
        "https://api.openai.com/v1?x=1",
        "https://api.openai.com/v1#x",
    ] {
        let reason = refused(POLICY, &["--upstream", upstream], &[]).await;
        assert!(reason.contains("--upstream: "), "{reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
    }
}

const NETWORK_POLICY: &str = "
agent:
  name: Test Agent
  models:
    allowed_models: [gpt-4o-mini]
permissions:
  network:
    enabled: true
    require_tls: true
    allowed_domains: [api.openai.com]
";

#[tokio::test]
async fn an_upstream_that_the_policy_forbids() {
    for (upstream, rule) in [
        ("https://api.example.com", "network_not_allowed"),
        ("http://api.openai.com", "network_tls_required"),
    ] {
        let reason = refused(NETWORK_POLICY, &["--upstream", upstream], &[]).await;
        assert!(
            reason.contains(rule) && reason.contains(upstream),
            "{reason}"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_forbidden_upstream_is_only_logged_outside_block() {
    for mode in ["warn", "audit"] {
        let upstream = "https://api.example.com";
        let gateway = Gateway::start_with(NETWORK_POLICY, upstream, &["--mode", mode], &[]).await;
        gateway.signal("-TERM").await;
        let (code, _, log) = gateway.ended().await;
        assert_eq!(code, Some(0));
        assert!(log.contains("network_not_allowed"), "{log}");
    }
}

#[tokio::test]
async fn a_key_that_strangers_could_use() {
    let key = [("TEST_UPSTREAM_KEY", "sk-gateway")];
    let lend = ["--api-key-env", "TEST_UPSTREAM_KEY"];
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let args = [&["--listen", listen], &lend[..]].concat();
        let reason = refused(POLICY, &args, &key).await;
        assert!(
            reason.contains("--allow-anonymous") && reason.contains("--agent-tokens"),
            "{reason}"
        );
    }
    let args = [&["--listen", "0.0.0.0:0", "--allow-anonymous"], &lend[..]].concat();
    Gateway::start_with(POLICY, "http://127.0.0.1:1", &args, &key).await;
}

#[tokio::test]
async fn a_key_that_is_not_there() {
    let args = ["--api-key-env", "TEST_UPSTREAM_KEY"];
    let reason = refused(POLICY, &args, &[]).await;
    assert!(
        reason.contains("TEST_UPSTREAM_KEY: the variable is not set"),
        "{reason}"
    );
    let reason = refused(POLICY, &args, &[("TEST_UPSTREAM_KEY", " ")]).await;
    assert!(
        reason.contains("TEST_UPSTREAM_KEY: the variable is empty"),
        "{reason}"
    );
    let reason = refused(POLICY, &args, &[("TEST_UPSTREAM_KEY", "sk-1\nx: y")]).await;
    assert!(!reason.contains("sk-1"), "{reason}");
}

#[tokio::test]
async fn tokens_that_are_not_understood() {
    let reason = refused(POLICY, &["--agent-tokens", "/nonexistent/tokens"], &[]).await;
    assert!(
        reason.contains("--agent-tokens /nonexistent/tokens: "),
        "{reason}"
    );
    for (text, said) in [
        ("# nobody\n", "no token"),
        ("# who\nsk-secret writer\n", "line 2: expected `sha256:`"),
    ] {
        let file = policy_file(text);
        let path = file.path().to_str().unwrap();
        let reason = refused(POLICY, &["--agent-tokens", path], &[]).await;
        assert!(reason.contains(said), "{reason}");
        assert!(!reason.contains("sk-secret"), "{reason}");
    }
}

#[tokio::test]
async fn an_admin_listener_that_others_could_reach() {
    for admin in ["0.0.0.0:0", "[::]:0"] {
        let reason = refused(POLICY, &["--admin", admin], &[]).await;
        assert!(
            reason.contains("--admin: ") && reason.contains("loopback"),
            "{reason}"
        );
    }
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let reason = refused(POLICY, &["--admin", &address], &[]).await;
    assert!(
        reason.contains(&format!("can't listen on {address}")),
        "{reason}"
    );
}

#[tokio::test]
async fn an_address_that_is_taken() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let reason = refused(POLICY, &["--listen", &address], &[]).await;
    assert!(
        reason.contains(&format!("can't listen on {address}")),
        "{reason}"
    );
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense() {
    for args in [
        &["--mode", "off"][..],
        &["--host", "http://gateway"],
        &["--max-connections", "0"],
        &["--listen", "nowhere"],
        &["--admin", "nowhere"],
        &["--agent-header", "x agent"],
        &["--agent-header", "Authorization"],
        &["--agent-header", "x-agent", "--agent-tokens", "tokens"],
        &["--default-output-tokens", "-1"],
        &["--open-endpoint", "POST /v1/batches"],
        &["--open-endpoint", "/batches"],
        &["--open-stored", ""],
        &["--mcp-server", "docs"],
        &["--mcp-server", "docs=https://mcp.example.com"],
        &[
            "--mcp-server",
            "docs=a.example",
            "--mcp-server",
            "docs=b.example",
        ],
        &["--base-path", "proxy/v1"],
        &["--base-path", "/proxy/../v1"],
    ] {
        refused(POLICY, args, &[]).await;
    }
}

#[tokio::test]
async fn an_upstream_must_be_a_service_that_the_policy_allows() {
    let file = policy_file("permissions: {api: {allowed_services: [{service_name: openai}]}}");
    let path = file.path().to_str().unwrap();
    let serve = [
        "serve",
        "--policy",
        path,
        "--listen",
        "127.0.0.1:0",
        "--upstream",
    ];
    for (upstream, why) in [
        (
            "http://127.0.0.1:1",
            "the policy restricts services, and the upstream 127.0.0.1 is no known one: say which it is by --service-host SERVICE=127.0.0.1",
        ),
        (
            "https://api.groq.com",
            "the policy forbids the upstream api.groq.com: [api_not_allowed] Service groq is not in the allowlist",
        ),
    ] {
        let output = run(&[&serve[..], &[upstream]].concat(), &[]).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(
            text(&output.stderr).contains(why),
            "{}",
            text(&output.stderr)
        );
    }
    let upstream = Upstream::chat().await;
    let policy =
        "permissions: {api: {allowed_services: [{service_name: openai, endpoints: [chat]}]}}";
    let named = ["--service-host", "openai=127.0.0.1"];
    let gateway = Gateway::start_with(policy, &upstream.url(), &named, &[]).await;
    assert_eq!(gateway.send(chat(), CHAT_REQUEST).await.status(), 200);
    let models = http::Request::get("/v1/models");
    assert_eq!(gateway.send(models, "").await.error().1, "api_not_allowed");
}
