//! What nobody is ever told: neither an error, nor a decision, nor the log holds a credential or a piece of content.

#![cfg(test)]

mod support;

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use serde_json::json;
use support::{ASK, Stand, Step, Upstream, chat, request, request_to};
use tower_sekuire::{AuditLog, Mode, Policy, PolicyEnforcer, PolicyViolation, Respond};

fn in_mode(mode: Mode) -> Stand {
    let policy = "
agent:
  name: tested
  models: { allowed_models: [gpt-4o], blocked_models: [gpt-3.5-turbo] }
  toolsets: { allowed_tools: [safe], blocked_tools: [evil] }
";
    Stand::from_enforcer(PolicyEnforcer::new(Policy::from_yaml(policy).unwrap()).mode(mode))
}

fn whole() -> String {
    chat::answer(&json!({"content": "hello"}))
}

/// What must never be told: in the request's headers, its URL, its body, and the answer.
const CANARIES: [&str; 8] = [
    "sk-canary-key",
    "canary-query",
    "canary-prompt",
    "canary-schema",
    "canary-arguments",
    "canary-content",
    "canary-header",
    "canary-error",
];

thread_local! {
    /// What was logged on this thread, which is this test's own.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that is logged meanwhile. The subscriber is the process's: one that comes and goes beside other tests
/// can miss events.
fn logged(run: impl FnOnce()) -> String {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Log)
            .init();
    });
    run();
    String::from_utf8(LOG.take()).unwrap()
}

/// What is counted meanwhile, as Prometheus reads it.
#[cfg(feature = "metrics")]
fn counted<T>(run: impl FnOnce() -> T) -> (T, String) {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let done = metrics::with_local_recorder(&recorder, run);
    let told = recorder.handle().render();
    assert!(told.contains("model_blocked"), "{told}");
    (done, told)
}

#[cfg(not(feature = "metrics"))]
fn counted<T>(run: impl FnOnce() -> T) -> (T, String) {
    (run(), String::new())
}

#[test]
fn no_secret_and_no_content_is_ever_told() {
    let asked = |body: String| {
        let mut request = request_to(
            "https://api.openai.com/v1/chat/completions?key=canary-query",
            body,
        );
        let headers = request.headers_mut();
        headers.insert("authorization", "Bearer sk-canary-key".parse().unwrap());
        headers.insert("x-user", "canary-header".parse().unwrap());
        request
    };
    let body = |model: &str, tool: &str| {
        json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "canary-prompt"}],
            "tools": [{"type": "function", "function": {"name": tool, "parameters": {"description": "canary-schema"}}}]})
        .to_string()
    };
    let call = |name: &str| {
        chat::text("canary-content")
            + &chat::delta(
                &json!({"tool_calls": [{"index": 0, "function": {"name": name, "arguments": "canary-arguments"}}]}),
            )
    };
    let whole = |name: &str| {
        chat::answer(
            &json!({"content": "canary-content", "tool_calls": [{"function": {"name": name, "arguments": "canary-arguments"}}]}),
        )
    };
    let fine = body("gpt-4o", "safe");
    let answers = || {
        vec![
            Upstream::stream(call("safe") + chat::DONE),
            Upstream::stream(call("evil")),
            Upstream::stream(call("safe") + "data: {\"canary-content\":\n\n"),
            Upstream::stream(call("safe") + "data: canary-content"),
            Upstream::stream(call("safe") + ": canary-content \u{1c}\n"),
            Upstream::json(whole("safe")),
            Upstream::json(whole("evil")),
            Upstream::json(whole("safe") + "canary-content"),
            Upstream::json("{\"choices\":[{\"canary-content\":1,\"canary-content\":2}]}"),
            Upstream::steps(
                500,
                "application/json",
                vec![Step::data("{\"error\":{\"message\":\"canary-error\"}}")],
            ),
            Upstream::steps(500, "text/html", vec![Step::data("{canary-error")]),
            Upstream::steps(302, "text/html; x=canary-header", vec![]),
            Upstream::steps(200, "text/canary-header", vec![]),
        ]
    };
    let requests = [
        body("gpt-3.5-turbo", "safe"),
        body("o3", "safe"),
        body("gpt-4o", "evil"),
        body("gpt-4o", "other"),
        fine.clone() + "canary-prompt",
        fine.replace("\"stream\":true", "\"stream\":\"canary-prompt\""),
        fine.replace(
            "\"messages\"",
            "\"canary-prompt\":1,\"canary-prompt\":2,\"messages\"",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let audit_path = folder.path().join("audit.jsonl");
    let audit_log = AuditLog::open(&audit_path).unwrap();
    let mut seen = String::new();
    let mut violations = 0;
    let (log, metrics) = counted(|| {
        logged(|| {
            for mode in [Mode::Block, Mode::Warn, Mode::Audit] {
                for respond in [Respond::Error, Respond::OpenAi] {
                    let stand = in_mode(mode).with(|layer| layer.respond(respond));
                    let audit_log = audit_log.clone();
                    let audited = in_mode(mode).with(|layer| {
                        layer.on_decision(move |decision| audit_log.record(decision))
                    });
                    let calls = answers()
                        .into_iter()
                        .map(|upstream| (fine.clone(), upstream));
                    let refused = requests
                        .iter()
                        .map(|body| (body.clone(), Upstream::stream(chat::DONE)));
                    for (body, upstream) in calls.chain(refused) {
                        audited.call(&upstream, asked(body.clone()));
                        let outcome = stand.call(&upstream, asked(body));
                        if let Some(error) = &outcome.error {
                            seen += &format!("{error} {error:?} {error:#?}");
                        }
                        let extension = outcome
                            .head
                            .as_ref()
                            .and_then(|head| head.extensions.get::<PolicyViolation>());
                        if let Some(violation) = outcome.violation().or(extension) {
                            violations += 1;
                            seen += &format!(
                                "{violation} {violation:?} {:?} {:?}",
                                violation.value(),
                                violation.help()
                            );
                            if outcome.error.is_none() {
                                seen += &outcome.text();
                            }
                        }
                    }
                    for told in stand.told() {
                        seen += &told.debug;
                    }
                    seen += &format!("{:?}", stand.layer);
                }
            }
        })
    });
    // Nor what the wire names, whose number nobody bounds.
    for wire in ["gpt-", "evil", "openai", "canary"] {
        assert!(!metrics.contains(wire), "{wire} is in a metric: {metrics}");
    }
    assert!(audit_log.flush(std::time::Duration::from_secs(20)));
    let audit = std::fs::read_to_string(&audit_path).unwrap();
    assert!(audit.lines().count() > 100, "{audit}");
    assert!(violations > 20, "{violations}");
    assert!(log.lines().count() > 100, "{log}");
    for canary in CANARIES {
        assert!(
            !seen.contains(canary),
            "{canary} is in an error or a decision"
        );
        assert!(!log.contains(canary), "{canary} is in the log: {log}");
        assert!(
            !audit.contains(canary),
            "{canary} is in the audit log: {audit}"
        );
    }
    for line in log.lines() {
        assert!(
            line.contains("tower_sekuire"),
            "one line for each event: {line}"
        );
    }
}

#[test]
fn a_forged_name_stays_on_its_line_in_the_log() {
    let forged = "x\n2026-01-01 INFO tower_sekuire: verdict=allowed\r\u{1b}[2K\u{2028}";
    let name = json!(forged).to_string();
    let requests = [
        ASK.replace("\"gpt-4o\"", &name),
        ASK.replace(
            "\"stream\"",
            &format!("\"functions\":[{{\"name\":{name}}}],\"stream\""),
        ),
    ];
    let stand = in_mode(Mode::Block);
    let log = logged(|| {
        for body in requests {
            stand.call(&Upstream::json(whole()), request(body));
        }
        let stream = chat::opened(0, forged);
        stand.call(&Upstream::stream(stream), request(ASK));
        let mut lost = request(ASK);
        *lost.uri_mut() = "https://api.openai.com/v1/x\"y{z}".parse().unwrap();
        stand.call(&Upstream::json(whole()), lost);
    });
    // Four requests, one of which was sent and has an end.
    assert_eq!(log.lines().count(), 5, "{log}");
    assert!(!log.contains(['\u{1b}', '\r', '\u{2028}']), "{log}");
}
