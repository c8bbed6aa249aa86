//! What the examples print.

#![cfg(test)]

use std::collections::HashMap;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

/// Long enough for a busy machine; reached only by an example that does not end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The examples' binaries, by name. Which of them lie beside this test, and how old they are, depends on how the tests
/// were started, so cargo is asked; most often it has nothing left to build.
static BINARIES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let mut features = Vec::new();
    for (name, is_on) in [
        ("async-openai", cfg!(feature = "async-openai")),
        ("full", cfg!(feature = "full")),
        ("gateway", cfg!(feature = "gateway")),
        ("reqwest", cfg!(feature = "reqwest")),
        ("reqwest-middleware", cfg!(feature = "reqwest-middleware")),
        ("signed", cfg!(feature = "signed")),
    ] {
        features.extend(is_on.then_some(name));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--examples", "--offline", "--quiet"])
        .args(["--message-format", "json", "--features"])
        .arg(features.join(","))
        .stderr(Stdio::inherit());
    // What cargo tells this test of its package, some build scripts would take for a change and build anew.
    for (name, _) in std::env::vars_os() {
        let of_package =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "the examples can't be built");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.to_owned()))
        })
        .collect()
});

async fn output(example: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(&BINARIES[example]);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in [
        "OPENAI_API_KEY",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("{example} does not end"))
        .unwrap()
}

/// The lines of an example that must end well.
async fn lines(example: &str, arguments: &[&str]) -> Vec<String> {
    let output = output(example, arguments).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {errors}\n{text}");
    assert_eq!(errors, "", "{example}");
    text.lines().map(str::to_owned).collect()
}

/// Asserts that the lines are there, in this order; others may be between them.
fn assert_in_order(lines: &[String], expected: &[&str]) {
    let mut rest = lines.iter();
    for line in expected {
        assert!(
            rest.any(|found| found == line),
            "`{line}` is not there, or not in its place, in:\n{}",
            lines.join("\n")
        );
    }
}

#[tokio::test]
async fn governed_agent_shows_the_policy_at_work_from_end_to_end() {
    let run = [
        r#"web_search {"query":"distance from the Sun to the Earth"} -> The Sun is 149597871 km from the Earth."#,
        r#"calculator {"left":149597871,"operator":"/","right":299792} -> 499"#,
        "Light needs 499 seconds from the Sun to the Earth.",
    ];
    let mut expected = vec!["== An agent run, answers whole =="];
    expected.extend(run);
    expected.push("== The same, streamed ==");
    expected.extend(run);
    expected.extend([
        "gpt-3.5-turbo blocked: [model_blocked] Model gpt-3.5-turbo is not allowed",
        "file_delete not offered: [tool_blocked] Tool file_delete is blocked",
        "Removing old files.",
        "stream stopped: [tool_blocked] Tool file_delete is blocked",
        "gpt-4o-mini: ALLOWED",
        "gpt-3.5-turbo: BLOCKED",
        "web_search: ALLOWED",
        "file_delete: BLOCKED",
        "env_set: BLOCKED",
        "https://api.openai.com: ALLOWED",
        "http://api.openai.com: BLOCKED",
        "Request 1: ALLOWED",
        "Request 10: ALLOWED",
        "Request 11: BLOCKED",
        "Request 12: BLOCKED",
    ]);
    let lines = lines("governed_agent", &[]).await;
    assert_in_order(&lines, &expected);
    let executed = lines.iter().any(|line| line.starts_with("file_delete {"));
    assert!(!executed, "{}", lines.join("\n"));
}

#[tokio::test]
async fn governed_agent_says_what_it_needs_to_go_live() {
    let output = output("governed_agent", &["--live"]).await;
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("--live needs OPENAI_API_KEY"), "{errors}");
}

#[tokio::test]
async fn check_policy_tells_what_is_enforced_and_what_is_not() {
    let user = lines("check_policy", &[]).await;
    assert_in_order(
        &user,
        &[
            "Agent: Research Assistant",
            "  allowed: gpt-4o-mini, gpt-4o",
            "  blocked: file_delete, env_set",
            "Network, TLS only:",
            "Limits: 10 requests per minute",
            "  gpt-4o-mini: ALLOWED",
            "  gpt-3.5-turbo: BLOCKED [model_blocked] Model gpt-3.5-turbo is not allowed",
        ],
    );
    assert!(
        user.iter()
            .any(|line| line.starts_with("Not enforced: agent.llm"))
    );

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sekuire.yml");
    std::fs::write(&path, "agent: { models: { allowed_models: [o3] } }").unwrap();
    let open = lines("check_policy", &[path.to_str().unwrap()]).await;
    assert_in_order(
        &open,
        &[
            "Tools: not restricted",
            "Network: not restricted",
            "Limits: none",
        ],
    );

    std::fs::write(&path, "agent: { models: { allowed: [o3] } }").unwrap();
    let refused = output("check_policy", &[path.to_str().unwrap()]).await;
    assert!(!refused.status.success());
}

#[tokio::test]
async fn hyper_client_streams_what_is_allowed_and_is_refused_the_rest() {
    assert_in_order(
        &lines("hyper_client", &[]).await,
        &[
            "gpt-4o-mini: 200 OK",
            "data: [DONE]",
            "gpt-3.5-turbo: [model_blocked] Model gpt-3.5-turbo is not allowed",
        ],
    );
}

#[tokio::test]
async fn tower_http_decodes_traces_and_times_out_where_each_belongs() {
    let gzip = r#"on the wire: "gzip""#;
    let lines = lines("tower_http", &[]).await;
    assert_in_order(
        &lines,
        &[
            gzip,
            "data: [DONE]",
            "trace: Error: [model_blocked] Model gpt-3.5-turbo is not allowed",
            "request: [model_blocked] Model gpt-3.5-turbo is not allowed",
            gzip,
            "trace: Error: [tool_blocked] Tool file_delete is blocked",
            "forbidden document: [tool_blocked] Tool file_delete is blocked",
            "forbidden stream: [tool_blocked] Tool file_delete is blocked",
            "trace: Error: request timed out",
            "stalled document: request timed out",
            "stalled stream: data was not received within the designated timeout",
        ],
    );
    let document = lines
        .iter()
        .find_map(|line| line.strip_prefix("document: "));
    let document: Value = serde_json::from_str(document.unwrap()).unwrap();
    let text = &document["choices"][0]["message"]["content"];
    assert_eq!(text, "Few, clear, kept.");
    let traces = lines.iter().filter(|line| line.starts_with("trace: "));
    assert_eq!(traces.count(), 3, "{}", lines.join("\n"));
    assert!(!lines.concat().contains("tool_calls"));
}

#[cfg(feature = "async-openai")]
#[tokio::test]
async fn async_openai_tells_why_a_stream_was_cut_off() {
    assert_eq!(
        lines("async_openai", &[]).await,
        [
            "gpt-4o-mini: Few, clear, kept.",
            "gpt-3.5-turbo: [model_blocked] Model gpt-3.5-turbo is not allowed",
            "Removing old files.",
            r#"stream: {"error":{"code":"tool_blocked","message":"Tool file_delete is blocked","param":"tools","type":"policy_violation"}}"#,
        ]
    );
}

#[cfg(feature = "reqwest")]
const REQWEST: [&str; 3] = [
    r#"gpt-4o-mini: "Few, clear, kept.""#,
    "gpt-3.5-turbo: [model_blocked] Model gpt-3.5-turbo is not allowed",
    "stream: [tool_blocked] Tool file_delete is blocked",
];

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn reqwest_client_finds_the_violation_in_errors_and_bodies() {
    let lines = lines("reqwest_client", &[]).await;
    assert_in_order(&lines, &REQWEST);
    assert!(!lines.concat().contains("tool_calls"));
}

#[cfg(feature = "reqwest-middleware")]
#[tokio::test]
async fn reqwest_middleware_does_the_same_as_the_layer() {
    assert_eq!(
        lines("reqwest_middleware", &[]).await,
        lines("reqwest_client", &[]).await
    );
}

#[tokio::test]
async fn gateway_embedded_answers_in_the_form_that_sdks_know() {
    let lines = lines("gateway_embedded", &[]).await;
    assert_in_order(
        &lines,
        &[
            "200 OK",
            "data: [DONE]",
            "403 Forbidden",
            r#"{"error":{"code":"model_blocked","message":"Model gpt-3.5-turbo is not allowed","param":"model","type":"policy_violation"}}"#,
            "200 OK",
            r#"data: {"error":{"code":"tool_blocked","message":"Tool file_delete is blocked","param":"tools","type":"policy_violation"}}"#,
        ],
    );
    assert!(!lines.concat().contains("tool_calls"));
}

#[tokio::test]
async fn gateway_tenants_holds_each_tenant_to_its_own_policy_and_limits() {
    assert_eq!(
        lines("gateway_tenants", &[]).await,
        [
            "writer gpt-4o: 200 OK answered",
            "writer gpt-4o-mini: 403 Forbidden model_not_allowed",
            "reviewer gpt-4o-mini: 200 OK answered",
            "reviewer gpt-4o: 403 Forbidden model_not_allowed",
            "writer gpt-4o: 200 OK answered",
            "writer gpt-4o: 429 Too Many Requests rate_limit_exceeded",
            "reviewer gpt-4o-mini: 200 OK answered",
            "nobody gpt-4o: 401 Unauthorized invalid_api_key",
        ]
    );
}

/// What the adapter answers to these lines.
#[cfg(feature = "signed")]
async fn adapter(commands: &[Value]) -> Vec<Value> {
    use tokio::io::AsyncWriteExt;

    let mut process = tokio::process::Command::new(&BINARIES["conformance_adapter"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines: String = commands.iter().map(|line| format!("{line}\n")).collect();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, process.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[cfg(feature = "signed")]
#[tokio::test]
async fn conformance_adapter_answers_line_by_line() {
    use serde_json::json;

    let seed = "5c71e9c26a3b718894e077e0c2e08c71b42cf61b2aaa833760c562e16e37f5f9";
    let public = "6240377d826c36c087404e4187dc21ecdbdc4db84e209fc386ac5d48bd08679e";
    let signature = "95fd8ab8c8e4baeff9275b551a5db9a26b2f33608ed07ab4210dc3c78b51cf57b172dd324d751b05d2dbaf3708c7b2ce6e690dfc064738f691982a3aed640105";
    let verify = |message: &str| json!({"operation": "verify", "params": {"message": message, "signature": signature, "publicKey": public}});
    let ask = |action: Value| {
        json!({"operation": "enforce_policy", "params": {
            "policy": {"content": {"rate_limits": {"per_agent": {"requests_per_minute": 60, "requests_per_hour": 100}}}},
            "action": action,
        }})
    };
    let answers = adapter(&[
        json!({"operation": "hash", "params": {"input": "hello"}}),
        json!({"operation": "sign", "params": {"message": "Hello, Sekuire!", "secretKey": seed}}),
        verify("Hello, Sekuire!"),
        verify("Hello, sekuire!"),
        ask(json!({"type": "rate_limit", "count": 60})),
        ask(json!({"type": "rate_limit_check", "count": 61})),
        ask(json!({"type": "rate_limit", "current_rph": 100})),
        ask(json!({"type": "rate_limit", "current_rph": 101})),
        ask(json!({"type": "teleport"})),
        json!({"operation": "sign", "params": {"message": "", "secretKey": "abc"}}),
        json!({"operation": "exit", "params": {}}),
        json!({"operation": "hash", "params": {"input": "nobody listens any more"}}),
    ])
    .await;
    assert_eq!(
        answers,
        [
            json!({"result": "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"}),
            json!({"result": signature}),
            json!({"result": true}),
            json!({"result": false}),
            json!({"result": "allow"}),
            json!({"result": "deny", "rule": "rate_limit.exceeded"}),
            json!({"result": "allow"}),
            json!({"result": "deny", "rule": "rate_limit.exceeded"}),
            json!({"error": "unknown type of action: teleport"}),
            json!({"error": "expected hexadecimal digits in pairs"}),
            json!({"result": "ok"}),
        ]
    );
}
