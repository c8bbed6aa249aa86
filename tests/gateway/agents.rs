//! Who a request comes from: by token, or by its own word.

use http::Request;
use tempfile::NamedTempFile;

use crate::support::{
    Answer, CHAT_REQUEST, Gateway, POLICY, Upstream, chat, policy_file, run_with_input, text,
};

const WRITER: &str = "tok-writer-3f9a8c7d6e5b4a39281706f5e4d3c2b1";
const READER: &str = "tok-reader-0918273645aabbccddeeff0011223344";

/// One request a minute for each agent.
const LIMITED: &str = "
agents:
  writer: {}
  reader: {}
  Night Shift: {}
models:
  allowed_models: [gpt-4o-mini]
rate_limits:
  per_agent: { requests_per_minute: 1 }
";

async fn hash(token: &str) -> String {
    let output = run_with_input(&["hash-token"], format!("{token}\n").as_bytes()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

async fn token_file() -> NamedTempFile {
    let (writer, reader) = (hash(WRITER).await, hash(READER).await);
    policy_file(&format!(
        "# who may come in\n{writer} writer\n\n{reader} reader\n"
    ))
}

fn shows(token: &str) -> http::request::Builder {
    chat().header("authorization", format!("Bearer {token}"))
}

fn assert_unauthenticated(answer: &Answer) {
    assert_eq!(answer.status(), 401);
    let (kind, code) = answer.error();
    assert_eq!(
        (kind.as_str(), code.as_str()),
        ("invalid_request_error", "invalid_api_key")
    );
    assert_eq!(answer.head.headers["x-should-retry"], "false");
    assert_eq!(answer.head.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_token_is_hashed_from_standard_input() {
    for input in ["abc", "abc\n", "abc\r\n"] {
        let output = run_with_input(&["hash-token"], input.as_bytes()).await;
        assert_eq!(
            text(&output.stdout),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
        );
        assert!(text(&output.stderr).contains("this token is short"));
    }
    let long = "a".repeat(100_000);
    for input in ["", "\n", "two words", "two\nlines", "\u{e4}", &long] {
        let output = run_with_input(&["hash-token"], input.as_bytes()).await;
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let reason = text(&output.stderr);
        assert!(
            !reason.contains("two") && !reason.contains("aaa"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn only_a_valid_token_is_let_in_and_it_goes_no_further() {
    let upstream = Upstream::chat().await;
    let tokens = token_file().await;
    let gateway = Gateway::start_with(
        POLICY,
        &upstream.url(),
        &[
            "--agent-tokens",
            tokens.path().to_str().unwrap(),
            "--api-key-env",
            "TEST_UPSTREAM_KEY",
        ],
        &[("TEST_UPSTREAM_KEY", "sk-gateway"), ("RUST_LOG", "trace")],
    )
    .await;
    let wrong = format!("{WRITER}x");
    let hashed = hash(WRITER).await;
    for request in [
        chat(),
        shows(&wrong),
        shows(&hashed),
        shows(""),
        shows(READER).header("authorization", format!("Bearer {WRITER}")),
        chat().header("authorization", WRITER),
        chat().header("api-key", WRITER),
        Request::get("/v1/models"),
        Request::options("/v1/models"),
    ] {
        assert_unauthenticated(&gateway.send(request, CHAT_REQUEST).await);
    }
    assert!(upstream.seen().is_empty());

    for request in [shows(WRITER), shows(READER)] {
        let request = request
            .header("api-key", WRITER)
            .header("openai-organization", "org-client")
            .header("openai-project", "proj-client");
        assert_eq!(gateway.send(request, CHAT_REQUEST).await.status(), 200);
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        let keys: Vec<_> = seen.headers.get_all("authorization").iter().collect();
        assert_eq!(keys, ["Bearer sk-gateway"]);
        for name in ["api-key", "openai-organization", "openai-project"] {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
    }
    assert_nothing_told(gateway, &[WRITER, READER, "sk-gateway"]).await;
}

#[cfg(unix)]
async fn assert_nothing_told(gateway: Gateway, secrets: &[&str]) {
    gateway.signal("-TERM").await;
    let (_, printed, log) = gateway.ended().await;
    for secret in secrets {
        assert!(!printed.contains(secret) && !log.contains(secret), "{log}");
    }
    assert!(log.contains("invalid_api_key"), "{log}");
}

#[cfg(not(unix))]
async fn assert_nothing_told(_: Gateway, _: &[&str]) {}

#[tokio::test]
async fn without_a_key_to_lend_nothing_of_the_clients_goes_upstream() {
    let upstream = Upstream::chat().await;
    let tokens = token_file().await;
    let path = tokens.path().to_str().unwrap();
    let gateway = Gateway::start(&upstream.url(), &["--agent-tokens", path]).await;
    let request = shows(WRITER)
        .header("api-key", "client")
        .header("openai-organization", "org-client")
        .header("openai-project", "proj-client");
    assert_eq!(gateway.send(request, CHAT_REQUEST).await.status(), 200);
    let headers = &upstream.seen()[0].headers;
    for name in [
        "authorization",
        "api-key",
        "openai-organization",
        "openai-project",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn each_tokens_agent_has_its_own_budget() {
    let upstream = Upstream::chat().await;
    let tokens = token_file().await;
    let path = tokens.path().to_str().unwrap();
    let args = ["--agent", "writer", "--agent-tokens", path];
    let gateway = Gateway::start_with(LIMITED, &upstream.url(), &args, &[]).await;
    for (token, status) in [(WRITER, 200), (WRITER, 429), (READER, 200), (READER, 429)] {
        let answer = gateway.send(shows(token), CHAT_REQUEST).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn that_all_agents_have_the_rules_of_one_is_told_at_the_start() {
    let said = "the rules are those of `writer` for everybody";
    let upstream = Upstream::chat().await;
    let tokens = token_file().await;
    let by_token: &[&str] = &["--agent-tokens", tokens.path().to_str().unwrap()];
    let by_header: &[&str] = &["--agent-header", "x-agent"];
    let one = "agents: { writer: {} }\nmodels: { allowed_models: [gpt-4o-mini] }";
    for (policy, args, is_told) in [
        (LIMITED, by_token, true),
        (LIMITED, by_header, true),
        // Everybody is the one that was chosen, or there is no other.
        (LIMITED, &[], false),
        (one, by_token, false),
        (one, by_header, false),
    ] {
        let args = [&["--agent", "writer"], args].concat();
        let gateway = Gateway::start_with(policy, &upstream.url(), &args, &[]).await;
        gateway.signal("-TERM").await;
        let (_, _, log) = gateway.ended().await;
        assert_eq!(log.contains(said), is_told, "{args:?}: {log}");
    }
}

#[tokio::test]
async fn tokens_make_a_key_safe_to_lend_to_the_network() {
    let upstream = Upstream::chat().await;
    let tokens = token_file().await;
    let gateway = Gateway::start_with(
        POLICY,
        &upstream.url(),
        &[
            "--listen",
            "0.0.0.0:0",
            "--api-key-env",
            "TEST_UPSTREAM_KEY",
            "--agent-tokens",
            tokens.path().to_str().unwrap(),
        ],
        &[("TEST_UPSTREAM_KEY", "sk-gateway")],
    )
    .await;
    let host = format!("127.0.0.1:{}", gateway.address.port());
    let answer = gateway
        .send(chat().header("host", &host), CHAT_REQUEST)
        .await;
    assert_unauthenticated(&answer);
    let answer = gateway
        .send(shows(WRITER).header("host", &host), CHAT_REQUEST)
        .await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_header_names_one_of_the_listed_agents() {
    let upstream = Upstream::chat().await;
    let args = ["--agent", "writer", "--agent-header", "X-Agent"];
    let gateway = Gateway::start_with(LIMITED, &upstream.url(), &args, &[]).await;
    for (agent, status) in [
        (Some("reader"), 200),
        (Some("reader"), 429),
        (Some("Night Shift"), 200),
        // The policy's own, named and not.
        (None, 200),
        (Some("writer"), 429),
        (Some("nobody"), 403),
        (Some(""), 403),
    ] {
        let request = match agent {
            Some(agent) => chat().header("x-agent", agent),
            None => chat(),
        };
        let request = request.header("authorization", "Bearer client");
        let answer = gateway.send(request, CHAT_REQUEST).await;
        assert_eq!(answer.status(), status, "{agent:?}: {}", answer.text());
        if status == 403 {
            assert_eq!(answer.error().1, "agent_not_allowed");
        }
    }
    let twice = chat()
        .header("x-agent", "reader")
        .header("x-agent", "writer");
    assert_eq!(gateway.send(twice, CHAT_REQUEST).await.status(), 400);
    // Named by `connection` it would be gone before it is read; it isn't.
    let hop = chat()
        .header("connection", "x-agent")
        .header("x-agent", "nobody");
    assert_eq!(gateway.send(hop, CHAT_REQUEST).await.status(), 403);

    assert_eq!(upstream.seen().len(), 3);
    for seen in upstream.seen() {
        assert!(!seen.headers.contains_key("x-agent"));
        assert_eq!(seen.headers["authorization"], "Bearer client");
    }
}

#[tokio::test]
async fn a_header_names_any_agent_where_none_is_listed() {
    let upstream = Upstream::chat().await;
    let gateway = Gateway::start_with(
        &format!("{POLICY}rate_limits: {{ per_agent: {{ requests_per_minute: 1 }} }}"),
        &upstream.url(),
        &["--agent-header", "x-agent"],
        &[],
    )
    .await;
    let (longest, longer) = ("a".repeat(256), "a".repeat(257));
    for (agent, status) in [
        ("one", 200),
        ("two", 200),
        ("one", 429),
        (&longest, 200),
        (&longer, 403),
        ("two words", 403),
    ] {
        let answer = gateway
            .send(chat().header("x-agent", agent), CHAT_REQUEST)
            .await;
        assert_eq!(answer.status(), status, "{agent}: {}", answer.text());
    }
}
