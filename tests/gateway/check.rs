//! `sekuire-gateway check`: lines, JSON and exit codes.

use crate::support::{policy_file, run, text};

const POLICY: &str = r#"
agent:
  name: Research Assistant
  models:
    allowed_models: [gpt-4o-mini, gpt-4o]
    blocked_models: [gpt-3.5-turbo]
  toolsets:
    allowed_tools:
      - name: web_search
      - name: "files:read"
      - name: calculator
    blocked_tools: [file_delete, env_set]
permissions:
  network:
    enabled: true
    require_tls: true
    allowed_domains: [api.openai.com, "*.wikipedia.org"]
    blocked_domains: ["*.malware.net"]
rate_limits:
  per_agent:
    requests_per_minute: 10
"#;

const OPEN_POLICY: &str = "
agent:
  name: Open
  models:
    allowed_models: []
";

async fn check(policy: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let policy = policy_file(policy);
    let path = policy.path().to_str().unwrap();
    let output = run(&[&["check", "--policy", path], args].concat(), &[]).await;
    (
        output.status.code(),
        text(&output.stdout).replace(path, "FILE"),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn every_question_has_its_line() {
    let (code, out, err) = check(
        POLICY,
        &[
            "--domain",
            "http://api.openai.com",
            "--tool",
            "web_search",
            "--model",
            "gpt-4o-mini",
            "--model",
            "gpt-3.5-turbo",
            "--model",
            "o3",
            "--tool",
            "file_delete",
            "--tool",
            "bash",
            "--domain",
            "api.openai.com",
            "--requests",
            "12",
        ],
    )
    .await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let head = "Policy FILE, agent `Research Assistant`
Enforced:
  models: allowed gpt-4o-mini, gpt-4o; blocked gpt-3.5-turbo
  tools: allowed web_search, files:read, calculator; blocked file_delete, env_set
  network: TLS required; allowed api.openai.com, *.wikipedia.org; blocked *.malware.net
  limits: 10 requests per minute
Warnings:
  agent.toolsets.allowed_tools[1]: `files:read` is sent as `files_read` by some SDKs, which is another name: list both
";
    assert!(out.starts_with(head), "{out}");
    let lines: Vec<&str> = out.split("\n\n").last().unwrap().lines().collect();
    assert_eq!(
        lines[..6],
        [
            "gpt-4o-mini: ALLOWED",
            "gpt-3.5-turbo: BLOCKED [model_blocked] Model gpt-3.5-turbo is not allowed",
            "o3: BLOCKED [model_not_allowed] Model o3 is not in the allowlist",
            "web_search: ALLOWED",
            "file_delete: BLOCKED [tool_blocked] Tool file_delete is blocked",
            "bash: BLOCKED [tool_not_allowed] Tool bash is not in the allowlist",
        ]
    );
    assert!(
        lines[6].starts_with("http://api.openai.com: BLOCKED [network_tls_required] "),
        "{out}"
    );
    assert_eq!(lines[7], "api.openai.com: ALLOWED");
    for (index, line) in lines[8..].iter().enumerate() {
        let number = index + 1;
        let verdict = match number {
            1..=10 => "ALLOWED",
            _ => "BLOCKED [rate_limit_exceeded] Rate limit exceeded: 10 requests per minute",
        };
        assert_eq!(*line, format!("Request {number}: {verdict}"));
    }
    assert_eq!(lines.len(), 20);
}

#[tokio::test]
async fn what_is_not_restricted_is_said() {
    let (code, out, err) = check(OPEN_POLICY, &[]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let head = "Policy FILE, agent `Open`
Enforced:
  models: none allowed
Not restricted:
  tools
  network
  limits
";
    assert!(out.starts_with(head), "{out}");
}

#[tokio::test]
async fn the_exit_code_is_the_verdict() {
    for (args, expected) in [
        (&[][..], 0),
        (&["--model", "gpt-4o"][..], 0),
        (&["--model", "gpt-4o", "--model", "o3"][..], 1),
        (&["--requests", "10"][..], 0),
        (&["--requests", "11"][..], 1),
        (&["--domain", "https://api.openai.com"][..], 0),
        (&["--domain", "https://api.openai.com/v1"][..], 2),
        (&["--domain", "ftp://api.openai.com"][..], 2),
        (&["--requests", "-1"][..], 2),
        (&["--agent", "Nobody"][..], 2),
        (&["--unknown"][..], 2),
    ] {
        let (code, out, err) = check(POLICY, args).await;
        assert_eq!(code, Some(expected), "{args:?} {err}");
        if expected == 2 {
            assert!(out.is_empty() && !err.is_empty(), "{args:?} {out}");
        }
    }
    let output = run(
        &["check", "--policy", "/nonexistent/sekuire.yml", "--json"],
        &[],
    )
    .await;
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(text(&output.stderr).contains("/nonexistent/sekuire.yml"));
}

#[tokio::test]
async fn json_says_the_same() {
    let (code, out, err) = check(
        POLICY,
        &[
            "--json", "--model", "gpt-4o", "--tool", "env_set", "--domain", "http://h",
        ],
    )
    .await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["policy"], "FILE");
    assert_eq!(report["agent"], "Research Assistant");
    assert_eq!(
        report["models"],
        serde_json::json!({
            "restricted": true,
            "allowed": ["gpt-4o-mini", "gpt-4o"],
            "blocked": ["gpt-3.5-turbo"],
        })
    );
    assert_eq!(
        report["network"],
        serde_json::json!({
            "enabled": true,
            "require_tls": true,
            "allowed": ["api.openai.com", "*.wikipedia.org"],
            "blocked": ["*.malware.net"],
        })
    );
    assert_eq!(
        report["limits"],
        serde_json::json!(["10 requests per minute"])
    );
    assert!(report["unenforced"].is_array() && report["warnings"].is_array());
    assert_eq!(report["allowed"], false);
    let results = report["results"].as_array().unwrap();
    assert_eq!(
        results[0],
        serde_json::json!({
            "kind": "model", "subject": "gpt-4o", "allowed": true, "rule": null, "message": null,
        })
    );
    assert_eq!(
        results[1],
        serde_json::json!({
            "kind": "tool", "subject": "env_set", "allowed": false, "rule": "tool_blocked",
            "message": "Tool env_set is blocked",
        })
    );
    assert_eq!(results[2]["rule"], "network_tls_required");
}

#[tokio::test]
async fn a_missing_restriction_is_null_in_json() {
    let (_, out, _) = check(OPEN_POLICY, &["--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["models"]["allowed"], serde_json::json!([]));
    assert!(report["tools"]["allowed"].is_null());
    assert_eq!(report["tools"]["restricted"], false);
    assert!(report["network"].is_null());
    assert_eq!(report["allowed"], true);
}

#[cfg(unix)]
#[tokio::test]
async fn a_reader_that_goes_away_changes_nothing() {
    let policy = policy_file(POLICY);
    let script = format!(
        "set -o pipefail; {} check --policy {} --requests 100000 | head -n 1 >/dev/null; \
         exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_sekuire-gateway"),
        policy.path().display()
    );
    let output = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "");
}
