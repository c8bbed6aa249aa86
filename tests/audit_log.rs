//! The audit log: what a line holds, and what becomes of lines that can't be written.

#![cfg(test)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{ASK, Stand, Upstream, allowing, chat, request};
#[cfg(feature = "signed")]
use tower_sekuire::{AgentKey, Policy, PolicyEnforcer};
use tower_sekuire::{AuditLog, SekuireLayer};

const WAIT: Duration = Duration::from_secs(20);

fn audited(log: &AuditLog) -> Stand {
    let log = log.clone();
    Stand::new(allowing(&["safe"]))
        .with(|layer: SekuireLayer| layer.on_decision(move |decision| log.record(decision)))
}

fn call(stand: &Stand) {
    let stream = chat::text("hello") + &chat::usage(7) + chat::DONE;
    stand.call(&Upstream::stream(stream), request(ASK));
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_decision_is_a_line_with_stable_members() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    let stand = audited(&log);
    call(&stand);
    let stream = chat::text("hello") + &chat::opened(0, "evil\n{\"x\":1}");
    stand.call(&Upstream::stream(stream), request(ASK));
    assert!(log.flush(WAIT));
    let mut lines = lines(&path);
    let calls: Vec<u64> = lines
        .iter()
        .map(|line| line["call"].as_u64().unwrap())
        .collect();
    assert_eq!(calls.len(), 4);
    assert!(calls[0] == calls[1] && calls[2] == calls[3] && calls[1] < calls[2]);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        let time = line.remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'));
        assert!(line.remove("duration_us").unwrap().is_u64());
        line.remove("call").unwrap();
    }
    let asked = json!({"phase": "request", "verdict": "allowed", "mode": "block", "agent": "tested",
        "policy_version": 1, "endpoint": "POST /chat/completions", "model": "gpt-4o"});
    assert_eq!(lines[0], asked);
    let ended = json!({"phase": "end", "verdict": "allowed", "mode": "block", "agent": "tested",
        "policy_version": 1, "endpoint": "POST /chat/completions", "model": "gpt-4o", "end": "complete",
        "tokens": 7, "estimated": false, "input_tokens": 6, "output_tokens": 1});
    assert_eq!(lines[1], ended);
    assert_eq!(lines[2], asked);
    let shown = "evil\\u{a}{\"x\":1}";
    let refused = json!({"phase": "end", "verdict": "refused", "mode": "block", "agent": "tested",
        "policy_version": 1, "endpoint": "POST /chat/completions", "model": "gpt-4o", "tools": [shown],
        "rule": "tool_not_allowed", "message": format!("Tool {shown} is not in the allowlist"), "value": shown,
        "event": 2, "end": "violation", "estimated": true});
    let tokens = lines[3].as_object_mut().unwrap().remove("tokens");
    assert!(tokens.unwrap().as_u64().unwrap() > 0);
    assert_eq!(lines[3], refused);
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_log_is_added_to_and_a_torn_line_stays_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    for before in ["", "{\"kept\":1}\n", "{\"torn\":"] {
        fs::write(&path, before).unwrap();
        let log = AuditLog::open(&path).unwrap();
        call(&audited(&log));
        assert!(log.flush(WAIT));
        let text = fs::read_to_string(&path).unwrap();
        let rest = text.strip_prefix(before).unwrap();
        let rest = rest.strip_prefix('\n').unwrap_or(rest);
        assert_eq!(rest.lines().count(), 2, "{text}");
        for line in rest.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_was_rotated_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (
        folder.path().join("audit.jsonl"),
        folder.path().join("audit.jsonl.1"),
    );
    let log = AuditLog::open(&path).unwrap();
    let stand = audited(&log);
    call(&stand);
    assert!(log.flush(WAIT));
    fs::rename(&path, &moved).unwrap();
    call(&stand);
    assert!(log.flush(WAIT));
    assert_eq!((lines(&moved).len(), lines(&path).len()), (2, 2));

    // Removed, and replaced by another file as `logrotate` does by `create`.
    fs::remove_file(&path).unwrap();
    call(&stand);
    assert!(log.flush(WAIT));
    assert_eq!(lines(&path).len(), 2);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    call(&stand);
    assert!(log.flush(WAIT));
    assert_eq!((lines(&path).len(), log.dropped()), (2, 0));
}

#[cfg(unix)]
#[test]
fn lines_that_are_lost_are_counted_and_told_of_later() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    let stand = audited(&log);
    fs::remove_dir_all(&inner).unwrap();
    call(&stand);
    assert!(!log.flush(Duration::from_millis(100)));
    while log.dropped() < 2 {
        std::thread::yield_now();
    }
    fs::create_dir(&inner).unwrap();
    assert!(log.flush(WAIT));
    let told = lines(&path);
    assert_eq!((told.len(), &told[0]["dropped"]), (1, &json!(2)));
    call(&stand);
    assert!(log.flush(WAIT));
    assert_eq!((lines(&path).len(), log.dropped()), (3, 2));
}

#[test]
fn what_waits_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::with_capacity(&path, 10).unwrap();
    call(&audited(&log));
    assert!(log.flush(WAIT));
    assert_eq!(log.dropped(), 2);
    let told: u64 = lines(&path)
        .iter()
        .map(|line| line["dropped"].as_u64().unwrap())
        .sum();
    assert_eq!(told, 2);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(AuditLog::open(folder.path()).is_err());
    assert!(AuditLog::open(folder.path().join("none/audit.jsonl")).is_err());
}

#[test]
fn the_last_lines_are_written_when_the_log_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    call(&audited(&log));
    drop(log);
    while lines_so_far(&path) < 2 {
        std::thread::yield_now();
    }
}

fn lines_so_far(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

/// A call by somebody: the agent and the id that both of its decisions are told under, to a callback and to the log.
#[cfg(feature = "signed")]
fn told(policy: Policy, by: Option<&str>) -> (String, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    let (told, lines) = (std::sync::Arc::default(), log.clone());
    let telling = std::sync::Arc::<std::sync::Mutex<Vec<_>>>::clone(&told);
    let stand = Stand::from_enforcer(PolicyEnforcer::new(policy)).with(|layer: SekuireLayer| {
        layer.on_decision(move |decision| {
            let id = decision.sekuire_id.map(str::to_owned);
            telling
                .lock()
                .unwrap()
                .push((decision.agent.to_owned(), id));
            lines.record(decision);
        })
    });
    let mut request = request(r#"{"model":"gpt-4o","messages":[]}"#);
    if let Some(agent) = by {
        request.extensions_mut().insert(AgentKey::new(agent));
    }
    let outcome = stand.call(&Upstream::json(r#"{"choices":[]}"#), request);
    assert!(outcome.error.is_none());
    assert!(log.flush(WAIT));
    let text = fs::read_to_string(path).unwrap();
    let written = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let id = line
            .get("sekuire_id")
            .map(|id| id.as_str().unwrap().to_owned());
        (line["agent"].as_str().unwrap().to_owned(), id)
    });
    let told = told.lock().unwrap().clone();
    assert_eq!(written.collect::<Vec<_>>(), told);
    let [asked, ended] = &*told else {
        panic!("two decisions, not {told:?}");
    };
    assert_eq!(asked, ended);
    asked.clone()
}

#[cfg(feature = "signed")]
#[test]
fn every_decision_and_every_line_tells_the_id_that_the_agents_files_make() {
    let folder = tempfile::tempdir().unwrap();
    let files = "system_prompt: prompt.md, tools: tools.json";
    let policy = format!(
        "agents:
  writer: {{ model: gpt-4o, {files} }}
  reader: {{ model: o3, {files} }}
  stating: {{ sekuire_id: b2 }}
  nobody: {{}}
models: {{ allowed_models: [gpt-4o] }}
"
    );
    let alone = "identity: { model: o1, system_prompt_path: prompt.md, tools_path: tools.json }\nmodels: {}\n";
    for (name, text) in [
        ("several.yml", &*policy),
        ("alone.yml", alone),
        ("prompt.md", "hello"),
        ("tools.json", "[]"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let id = |model| tower_sekuire::sekuire_id(model, "hello", "[]").ok();
    let policy = Policy::from_path(folder.path().join("alone.yml")).unwrap();
    assert_eq!(told(policy, None), ("default".to_owned(), id("o1")));

    let loader = Policy::loader().agent("writer");
    let several = loader.from_path(folder.path().join("several.yml")).unwrap();
    for (by, agent, id) in [
        (None, "writer", id("gpt-4o")),
        (Some("writer"), "writer", id("gpt-4o")),
        (Some("reader"), "reader", id("o3")),
        (Some("stating"), "stating", Some("b2".to_owned())),
        (Some("nobody"), "nobody", None),
        // A key that limits are counted under, and no agent of the file's.
        (Some("tenant 7"), "tenant 7", id("gpt-4o")),
    ] {
        assert_eq!(told(several.clone(), by), (agent.to_owned(), id));
    }
}
