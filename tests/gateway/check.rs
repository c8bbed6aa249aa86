//! `sekuire-gateway check`: lines, JSON and exit codes.

use ed25519_dalek::{Signer, SigningKey};

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
  models: allowed `gpt-4o-mini`, `gpt-4o`; blocked `gpt-3.5-turbo`
  tools: allowed `web_search`, `files:read`, `calculator`; blocked `file_delete`, `env_set`
  network: TLS required; allowed `api.openai.com`, `*.wikipedia.org`; blocked `*.malware.net`
  limits: 10 requests per minute (per_agent)
Not restricted:
  services
Warnings:
  FILE:10:9: agent.toolsets.allowed_tools[1]: `files:read` is sent as `files_read` by some SDKs, which is another name: list both
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
  services
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
        (&["--requests", "999999999"][..], 2),
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
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told["problems"][0]["message"],
        "the file can't be read: there is no such file"
    );
    assert!(text(&output.stderr).contains("/nonexistent/sekuire.yml"));
}

#[tokio::test]
async fn json_lists_what_keeps_a_policy_from_loading() {
    let (code, out, err) = check("models:\n  allowed_model: [a]\n", &["--json"]).await;
    assert_eq!(code, Some(2));
    assert!(
        err.contains(":2:3: models.allowed_model: unknown key"),
        "{err}"
    );
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "policy": "FILE",
            "file": "FILE",
            "problems": [{
                "line": 2,
                "column": 3,
                "path": "models.allowed_model",
                "message": "unknown key",
                "help": "did you mean `allowed_models`?",
            }],
            "more": 0,
            "allowed": false,
        })
    );
}

#[tokio::test]
async fn problems_are_in_the_order_of_the_file_and_those_left_out_are_counted() {
    let keys: String = (0..60).map(|key| format!("  zz{key}: 1\n")).collect();
    let (code, out, err) = check(&format!("models:\n{keys}"), &["--json"]).await;
    assert_eq!(code, Some(2));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 50);
    assert_eq!(told["more"], 10);
    assert!(err.ends_with("\nand 10 more\n"), "{err}");
    // The section without a name is found wrong once all of its keys are read.
    let policy = "tools:\n  allowed_tools:\n    - nme: a\n      nmae: b\n";
    let (_, out, _) = check(policy, &["--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let problems = told["problems"].as_array().unwrap().iter();
    let lines: Vec<_> = problems
        .map(|told| told["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [3, 3, 4]);
}

#[tokio::test]
async fn a_host_is_asked_of_the_rules_on_services_too() {
    let policy = "permissions: { network: { blocked_domains: [b.example] }, api: { allowed_services: [{ service_name: openai, endpoints: [] }] } }";
    let domains = [
        "api.openai.com",
        "api.anthropic.com",
        "a.example",
        "b.example",
        "llm.internal",
    ];
    let questions = domains.iter().flat_map(|domain| ["--domain", domain]);
    let mut args: Vec<_> = questions.collect();
    args.extend(["--explain", "--service-host", "openai=llm.internal"]);
    let (code, out, _) = check(policy, &args).await;
    assert_eq!(code, Some(1));
    let expected = "Policy FILE, agent `default`
Enforced:
  network: blocked `b.example`
  services: allowed `openai` (no endpoint)
Not restricted:
  models
  tools
  limits
Warnings:
  FILE:1:109: permissions.api.allowed_services[0].endpoints: an empty list of endpoints allows none

api.openai.com: ALLOWED
  decided by no `allowed_domains`: whatever isn't blocked is allowed
api.anthropic.com: BLOCKED [api_not_allowed] Service anthropic is not in the allowlist
  decided by `allowed_services`, of which no entry matches the host's service `anthropic`
a.example: BLOCKED [api_not_allowed] Host a.example is no known service, and services are restricted
  decided by `allowed_services`: the host is no known service
b.example: BLOCKED [network_blocked] Domain b.example is blocked by policy
  decided by `b.example` in `blocked_domains`
llm.internal: ALLOWED
  decided by no `allowed_domains`: whatever isn't blocked is allowed
";
    assert_eq!(out, expected);
    let off = "permissions: { api: { enabled: false } }";
    let (code, out, _) = check(off, &["--domain", "api.openai.com", "--explain"]).await;
    assert_eq!(code, Some(1));
    let expected = "Policy FILE, agent `default`
Enforced:
  services: disabled, every service is refused
Not restricted:
  models
  tools
  network
  limits

api.openai.com: BLOCKED [api_disabled] API access is disabled
  decided by `enabled: false` in `permissions.api`
";
    assert_eq!(out, expected);
}

#[tokio::test]
async fn warnings_have_their_places_in_lines_and_in_json() {
    let policy = "models:\n  allowed_models:\n    - gpt-4*\n    - gpt-4o\n";
    let (_, out, _) = check(policy, &[]).await;
    let warning = "models.allowed_models[1]: `gpt-4o` adds nothing: `gpt-4*` matches it too";
    assert!(
        out.contains(&format!("Warnings:\n  FILE:4:7: {warning}\n")),
        "{out}"
    );
    let (_, out, _) = check(policy, &["--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told["warnings"],
        serde_json::json!([{
            "line": 4,
            "column": 7,
            "path": "models.allowed_models[1]",
            "message": "`gpt-4o` adds nothing: `gpt-4*` matches it too",
        }])
    );
}

#[tokio::test]
async fn what_was_translated_and_what_is_not_enforced_have_their_places_too() {
    let policy = "project: {name: a}\nmodels:\n  denied_models: [gpt-4]\n  x-why: cost\n";
    let (_, out, _) = check(policy, &[]).await;
    let expected = "Policy FILE, agent `default`
Enforced:
  models: blocked `gpt-4`
Not restricted:
  tools
  network
  services
  limits
Translated:
  FILE:3:3: models.denied_models: read as `blocked_models`, as Sekuire's policy guide writes it
Not enforced:
  FILE:1:1: project: describes, restricts nothing
  FILE:4:3: models.x-why: extension key, not read
";
    assert_eq!(out, expected);
    let (_, out, _) = check(policy, &["--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told["translated"],
        serde_json::json!([{
            "line": 3,
            "column": 3,
            "path": "models.denied_models",
            "message": "read as `blocked_models`, as Sekuire's policy guide writes it",
        }])
    );
    assert_eq!(told["unenforced"][0]["line"], 1);
    assert_eq!(told["unenforced"][1]["path"], "models.x-why");
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
        serde_json::json!([{"limit": "10 requests per minute", "scope": "per_agent", "model": null}])
    );
    assert!(report["unenforced"].is_array() && report["warnings"].is_array());
    assert_eq!(report["allowed"], false);
    let results = report["results"].as_array().unwrap();
    assert_eq!(
        results[0],
        serde_json::json!({
            "kind": "model", "subject": "gpt-4o", "allowed": true, "rule": null, "message": null,
            "decided_by": "`gpt-4o` in `allowed_models`",
        })
    );
    assert_eq!(
        results[1],
        serde_json::json!({
            "kind": "tool", "subject": "env_set", "allowed": false, "rule": "tool_blocked",
            "message": "Tool env_set is blocked", "decided_by": "`env_set` in `blocked_tools`",
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

/// Sekuire's test key.
const TRUST: &str =
    "keys: {key_1: \"6240377d826c36c087404e4187dc21ecdbdc4db84e209fc386ac5d48bd08679e\"}";

/// Signed by it.
const SIGNED: &str = r#"{"policy_id":"policy_abc123","workspace_id":"ws_1","version":"1","status":"active","hash":"4f8ba705cca20d6172ecf39c5444e9f002d0c4c58d6973ba310545cc63760da2","content":{"agent":{"models":{"allowed_models":["gpt-4o","gpt-4","claude-3.5-sonnet"],"blocked_models":["gpt-4-32k"]}},"tools":{"allowed_tools":[{"name":"calculator"},{"name":"web_search"},{"name":"file_read"}],"blocked_tools":["exec_command","file_delete"]},"permissions":{"network":{"enabled":true,"require_tls":true,"allowed_domains":["api.openai.com","*.example.com"],"blocked_domains":["malicious.com","evil.org"]},"filesystem":{"enabled":true,"allowed_paths":["/tmp/*","/home/user/data"],"blocked_paths":["/etc/*","/root/*"],"allowed_extensions":[".txt",".json",".csv"]},"api":{"enabled":true,"allowed_services":[{"service_name":"openai","endpoints":["chat","completions"]},{"service_name":"stripe"}]}},"rate_limits":{"per_agent":{"requests_per_minute":60,"requests_per_hour":3600,"tokens_per_minute":100000}}},"signature":"f98fdaf6a0fbf34ebe73c497db93d588bc6bf803a745082cd79168fe7d7f3cef7e257d9a2f143c1facbc6d03b19c6961b84e861dfaf4cd087c35594f8ac78009","signing_key_id":"key_1"}"#;

#[tokio::test]
async fn a_policy_is_trusted_by_its_signature() {
    let (ours, theirs) = (
        policy_file(&format!("workspace: ws_1\n{TRUST}")),
        policy_file(&format!("workspace: ws_2\n{TRUST}")),
    );
    let trust = ["--trust", ours.path().to_str().unwrap()];
    let (code, out, err) = check(SIGNED, &trust).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let head = "Policy FILE, agent `default`\nSigned by `key_1`: policy `policy_abc123`, version 1, workspace `ws_1`\nEnforced:\n";
    assert!(out.starts_with(head), "{out}");
    let (_, out, _) = check(SIGNED, &[&trust[..], &["--json"]].concat()).await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["envelope"]["signing_key_id"], "key_1");

    let (code, _, err) = check(&SIGNED.replace("gpt-4o", "gpt-5o"), &trust).await;
    assert_eq!(code, Some(2));
    assert!(
        err.contains("hash: is not the hash of the content"),
        "{err}"
    );
    let (code, _, err) = check(POLICY, &trust).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("the policy is not signed"), "{err}");
    let other = ["--trust", theirs.path().to_str().unwrap()];
    let (code, _, err) = check(SIGNED, &other).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("workspace_id: is `ws_1`, not `ws_2`"), "{err}");

    // The same holds for `serve`.
    let policy = policy_file(POLICY);
    let policy = ["serve", "--policy", policy.path().to_str().unwrap()];
    let output = run(&[&policy[..], &trust].concat(), &[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("the policy is not signed"));
}

#[tokio::test]
async fn what_lies_beside_a_signed_policy_is_told_to_be_unsigned() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let content = r#"{"toolsets":{"allowed_tools":["files:*"]}}"#;
    let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
    let key = SigningKey::from_bytes(&[7; 32]);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let signature = hex(&key.sign(format!("p:1:{hash}").as_bytes()).to_bytes());
    let public = hex(&key.verifying_key().to_bytes());
    for (name, text) in [
        ("tools.json", r#"[{"name":"read_file","category":"files"}]"#),
        (
            "trust.yml",
            &format!("workspace: w\nkeys: {{k: \"{public}\"}}\n"),
        ),
        (
            "policy.json",
            &format!(
                r#"{{"policy_id":"p","workspace_id":"w","version":"1","status":"active","hash":"{hash}","content":{content},"signature":"{signature}","signing_key_id":"k"}}"#
            ),
        ),
    ] {
        std::fs::write(at(name), text).unwrap();
    }
    let (policy, trust) = (at("policy.json"), at("trust.yml"));
    let args = ["check", "--policy", &policy, "--trust", &trust];
    let output = run(&args, &[]).await;
    assert_eq!(
        (output.status.code(), &*text(&output.stderr)),
        (Some(0), "")
    );
    let column = std::fs::read_to_string(&policy)
        .unwrap()
        .find("\"files:*")
        .unwrap()
        + 1;
    let message = "`files:*` means the tools that `tools.json` says, which is not signed: list the tools by name, or let \
        nobody change that file who may not change the policy";
    let expected = format!(
        "Policy {policy}, agent `default`
Signed by `k`: policy `p`, version 1, workspace `w`
Enforced:
  tools: allowed `files:*`
Not restricted:
  models
  network
  services
  limits
Warnings:
  {policy}:1:{column}: toolsets.allowed_tools[0]: {message}
"
    );
    assert_eq!(text(&output.stdout), expected);

    let output = run(&[&args[..], &["--json"]].concat(), &[]).await;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told["warnings"],
        serde_json::json!([{
            "line": 1,
            "column": column,
            "path": "toolsets.allowed_tools[0]",
            "message": message,
        }])
    );
}

#[tokio::test]
async fn the_agents_id_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let policy = "identity: {model: gpt-4o, system_prompt_path: prompt.md, tools_path: tools.json}\nmodels: {blocked_models: [o1]}\n";
    for (name, text) in [
        ("sekuire.yml", policy),
        ("prompt.md", "hello"),
        ("tools.json", "[]"),
    ] {
        std::fs::write(at(name), text).unwrap();
    }
    let policy = at("sekuire.yml");
    let args = ["check", "--policy", &policy];
    let id = "fa70f9f2f6f05c7fa9bedd2143b1c9e2086539a38a15fa664a6c27d0f31a6be1";
    let output = run(&args, &[]).await;
    let head = format!("Policy {policy}, agent `default`\nSekuire id {id}\nEnforced:\n");
    assert!(
        text(&output.stdout).starts_with(&head),
        "{}",
        text(&output.stdout)
    );
    let output = run(&[&args[..], &["--json"]].concat(), &[]).await;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["sekuire_id"], id);

    // Stated, and not known at all.
    let (_, out, _) = check("agent: {sekuire_id: a1, models: {}}", &[]).await;
    assert!(
        out.starts_with("Policy FILE, agent `default`\nSekuire id a1\n"),
        "{out}"
    );
    let (_, out, _) = check(OPEN_POLICY, &[]).await;
    assert!(!out.contains("Sekuire id"), "{out}");
    let (_, out, _) = check(OPEN_POLICY, &["--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(told["sekuire_id"].is_null());
}

#[tokio::test]
async fn the_entry_that_decided_is_told_when_asked_for() {
    let policy = "
models: { allowed_models: [o3, gpt-4o*], blocked_models: [gpt-4o-audio*] }
permissions:
  network: { require_tls: true, blocked_domains: ['*.example'] }
  api: { allowed_services: [{ service_name: openai, endpoints: [chat] }, { service_name: 'x*' }] }
rate_limits:
  per_agent: { requests_per_minute: 10, requests_per_hour: 600, requests_per_day: 10000 }
";
    let questions = [
        &[
            "--explain",
            "--model",
            "gpt-4o-mini",
            "--model",
            "gpt-4o-audio-1",
            "--model",
            "o1",
        ][..],
        &[
            "--tool",
            "bash",
            "--domain",
            "a.example",
            "--domain",
            "http://b",
            "--domain",
            "b",
        ],
        &[
            "--service",
            "openai",
            "--service",
            "xai",
            "--service",
            "azure",
        ],
    ];
    let (code, out, err) = check(policy, &questions.concat()).await;
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let expected = "Policy FILE, agent `default`
Enforced:
  models: allowed `o3`, `gpt-4o*`; blocked `gpt-4o-audio*`
  network: TLS required; blocked `*.example`
  services: allowed `openai` (`chat`), `x*`
  limits: 10 requests per minute (per_agent), 600 requests per hour (per_agent), 10000 requests per day (per_agent)
Not restricted:
  tools
Warnings:
  FILE:7:41: rate_limits.per_agent.requests_per_hour: never refuses anything: 10 requests per minute allow no more

gpt-4o-mini: ALLOWED
  decided by `gpt-4o*` in `allowed_models`
gpt-4o-audio-1: BLOCKED [model_blocked] Model gpt-4o-audio-1 is not allowed
  decided by `gpt-4o-audio*` in `blocked_models`
o1: BLOCKED [model_not_allowed] Model o1 is not in the allowlist
  decided by `allowed_models`, of which no entry matches
bash: ALLOWED
  decided by no `allowed_tools`: whatever isn't blocked is allowed
a.example: BLOCKED [network_blocked] Domain a.example is blocked by policy
  decided by `*.example` in `blocked_domains`
http://b: BLOCKED [network_tls_required] TLS is required for network requests
  decided by `require_tls: true`
b: BLOCKED [api_not_allowed] Host b is no known service, and services are restricted
  decided by `allowed_services`: the host is no known service
openai: ALLOWED
  decided by `openai` in `allowed_services`
xai: ALLOWED
  decided by `x*` in `allowed_services`
azure: BLOCKED [api_not_allowed] Service azure is not in the allowlist
  decided by `allowed_services`, of which no entry matches
";
    assert_eq!(out, expected);
}

#[tokio::test]
async fn the_schema_is_printed() {
    let output = run(&["schema"], &[]).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), tower_sekuire::Policy::json_schema());
}

#[tokio::test]
async fn a_tools_other_names_are_explained_by_the_entry_that_means_them() {
    let policy = "
tools: { allowed_tools: [search, web_search], blocked_tools: [rm, code_interpreter] }
rate_limits:
  per_model: { o3: { requests_per_minute: 2 } }
  global: { tokens_per_day: 9 }
";
    let tools = [
        "--tool",
        "web_search_preview",
        "--tool",
        "code_interpreter_call",
    ];
    let (code, out, _) = check(policy, &[&tools[..], &["--explain"]].concat()).await;
    assert_eq!(code, Some(1));
    assert!(
        out.ends_with(
            "
web_search_preview: ALLOWED
  decided by `web_search` in `allowed_tools`, another name of the same tool
code_interpreter_call: BLOCKED [tool_blocked] Tool code_interpreter_call is blocked
  decided by `code_interpreter` in `blocked_tools`, another name of the same tool
"
        ),
        "{out}"
    );
    let limits = "  limits: 2 requests per minute (per_model.o3), 9 tokens per day (global)\n";
    assert!(out.contains(limits), "{out}");
}

#[tokio::test]
async fn limits_per_model_are_asked_of_each_model_by_itself() {
    let policy = "
rate_limits:
  per_agent: { requests_per_minute: 2 }
  per_model: { 'o3*': { requests_per_minute: 1 } }
";
    let asked = ["--model", "o3-pro", "--model", "gpt-4o", "--requests", "3"];
    let (code, out, _) = check(policy, &asked).await;
    assert_eq!(code, Some(1));
    assert!(
        out.ends_with(
            "
o3-pro: ALLOWED
gpt-4o: ALLOWED
Request 1 for o3-pro: ALLOWED
Request 2 for o3-pro: BLOCKED [rate_limit_exceeded] Rate limit exceeded: 1 request per minute
Request 3 for o3-pro: BLOCKED [rate_limit_exceeded] Rate limit exceeded: 1 request per minute
Request 1 for gpt-4o: ALLOWED
Request 2 for gpt-4o: ALLOWED
Request 3 for gpt-4o: BLOCKED [rate_limit_exceeded] Rate limit exceeded: 2 requests per minute
"
        ),
        "{out}"
    );
    // Without a model there is none that they could be about.
    let (_, out, _) = check(policy, &["--requests", "2"]).await;
    assert!(
        out.ends_with("\nRequest 1: ALLOWED\nRequest 2: ALLOWED\n"),
        "{out}"
    );
}
