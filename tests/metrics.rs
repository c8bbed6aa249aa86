//! What is counted through the `metrics` facade, as a recorder meets it.

#![cfg(test)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use http_body_util::BodyExt;
use metrics::with_local_recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::json;
use support::{ASK, Stand, Step, Upstream, allowing, chat, request, request_to, run};
use tower::ServiceExt;
use tower_sekuire::{
    AuditLog, ManualClock, Mode, Policy, PolicyEnforcer, SekuireLayer, describe_metrics,
};

/// What a recorder was told, one line each.
struct Told(String);

impl Told {
    fn of(recorder: &PrometheusRecorder) -> Self {
        Self(recorder.handle().render())
    }

    /// The value of one series; zero when there is none.
    fn value(&self, series: &str) -> f64 {
        let found = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }

    #[track_caller]
    fn is(&self, series: &str, value: f64) {
        let series = series.replace("{", r#"{agent="tested","#);
        assert!(
            (self.value(&series) - value).abs() < 1e-9,
            "{series} isn't {value}:\n{}",
            self.0
        );
    }
}

fn enforcer() -> (PolicyEnforcer, ManualClock) {
    let clock = ManualClock::new();
    (
        PolicyEnforcer::new(allowing(&["safe"])).clock(clock.clone()),
        clock,
    )
}

fn counted(run: impl FnOnce()) -> Told {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, run);
    Told::of(&recorder)
}

#[test]
fn decisions_tokens_and_fail_modes_are_counted() {
    let told = counted(|| {
        let stand = Stand::from_enforcer(enforcer().0);
        let usage = chat::text("hello") + &chat::usage(7) + chat::DONE;
        stand.call(&Upstream::stream(usage), request(ASK));
        stand.call(
            &Upstream::stream(chat::text("hello") + chat::DONE),
            request(ASK),
        );
        stand.call(&Upstream::stream(chat::opened(0, "evil")), request(ASK));
        stand.call(&Upstream::json("{"), request("no json"));
        stand.call(
            &Upstream::json("{}"),
            request_to("https://api.openai.com/v1/none", ASK),
        );
        let mut models = request_to("https://api.openai.com/v1/models", "");
        *models.method_mut() = http::Method::GET;
        stand.call(&Upstream::json("{}"), models);
        stand.call(
            &Upstream::steps(500, "application/json", vec![Step::data("{}")]),
            request(ASK),
        );
    });
    told.is(r#"sekuire_requests_total{endpoint="model"}"#, 5.0);
    told.is(r#"sekuire_requests_total{endpoint="neutral"}"#, 1.0);
    told.is(r#"sekuire_requests_total{endpoint="unknown"}"#, 1.0);
    let decided = |phase: &str, verdict: &str, rule: &str| {
        format!(
            r#"sekuire_decisions_total{{phase="{phase}",verdict="{verdict}",rule="{rule}",mode="block"}}"#
        )
    };
    told.is(&decided("request", "allowed", "none"), 4.0);
    told.is(&decided("end", "allowed", "none"), 3.0);
    told.is(&decided("end", "refused", "tool_not_allowed"), 1.0);
    told.is(&decided("request", "refused", "request_unreadable"), 1.0);
    told.is(&decided("request", "refused", "endpoint_not_allowed"), 1.0);
    told.is(&decided("request", "not_inspected", "none"), 1.0);
    told.is(r#"sekuire_not_inspected_total{endpoint="neutral"}"#, 1.0);
    told.is(r#"sekuire_tokens_total{direction="input"}"#, 6.0);
    told.is(r#"sekuire_tokens_total{direction="output"}"#, 1.0);
    told.is(r#"sekuire_charged_tokens_total{source="usage"}"#, 7.0);
    told.is(
        r#"sekuire_settled_by_estimate_total{endpoint="model"}"#,
        2.0,
    );
    told.is(r#"sekuire_usage_missing_total{endpoint="model"}"#, 1.0);
    let ended = |form: &str, end: &str| {
        format!(r#"sekuire_answer_duration_seconds_count{{form="{form}",end="{end}"}}"#)
    };
    told.is(&ended("stream", "complete"), 2.0);
    told.is(&ended("stream", "violation"), 1.0);
    told.is(&ended("document", "complete"), 1.0);
}

#[test]
fn what_passes_unread_is_counted_once_and_by_its_mode() {
    let told = counted(|| {
        let stand = Stand::from_enforcer(enforcer().0.mode(Mode::Audit));
        stand.call(&Upstream::json("{}"), request("no json"));
    });
    told.is(r#"sekuire_not_inspected_total{endpoint="model"}"#, 1.0);
    told.is(
        r#"sekuire_decisions_total{phase="end",verdict="not_inspected",rule="request_unreadable",mode="audit"}"#,
        1.0,
    );
}

#[test]
fn times_are_those_of_the_limits_clock() {
    let told = counted(|| {
        let (enforcer, clock) = enforcer();
        let stand = Stand::from_enforcer(enforcer);
        let answer = Upstream::new(move || {
            clock.advance(Duration::from_millis(1_500));
            Ok(support::answer(
                200,
                "text/event-stream",
                support::ScriptBody::new(vec![Step::data(chat::text("hello") + chat::DONE)]),
            ))
        });
        stand.call(&answer, request(ASK));
    });
    told.is(
        r#"sekuire_answer_duration_seconds_sum{form="stream",end="complete"}"#,
        1.5,
    );
    told.is(r#"sekuire_inspection_seconds_count{part="request"}"#, 1.0);
    told.is(r#"sekuire_inspection_seconds_sum{part="request"}"#, 0.0);
}

#[test]
fn of_a_long_stream_some_frames_are_timed() {
    let told = counted(|| {
        let stand = Stand::from_enforcer(enforcer().0);
        let frames = (0..200).map(|_| Step::data(chat::text("hello")));
        let frames = frames.chain([Step::data(chat::DONE)]).collect();
        stand.call(
            &Upstream::steps(200, "text/event-stream", frames),
            request(ASK),
        );
    });
    told.is(r#"sekuire_inspection_seconds_count{part="frame"}"#, 4.0);
}

#[test]
fn bytes_are_held_until_they_are_judged_or_let_go() {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        let stand = Stand::from_enforcer(enforcer().0);
        let event = chat::text("hello");
        let (first, rest) = event.split_at(30);
        let steps = vec![
            Step::data(event.clone() + first),
            Step::data(rest.to_owned()),
            Step::data(first.to_owned()),
        ];
        let upstream = Upstream::steps(200, "text/event-stream", steps);
        let answer = run(stand.around(upstream).oneshot(request(ASK))).unwrap();
        let mut body = answer.into_body();
        run(body.frame()).unwrap().unwrap();
        let held = r#"sekuire_held_bytes{what="event"}"#;
        Told::of(&recorder).is(held, 30.0);
        run(body.frame()).unwrap().unwrap();
        Told::of(&recorder).is(held, 0.0);
        assert!(run(body.frame()).unwrap().is_err());
        drop(body);
        Told::of(&recorder).is(held, 0.0);
        Told::of(&recorder).is(r#"sekuire_held_bytes{what="request"}"#, 0.0);
    });
}

#[test]
fn dropped_lines_of_the_audit_log_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let told = counted(|| {
        let log = AuditLog::with_capacity(folder.path().join("audit.jsonl"), 1).unwrap();
        let stand = Stand::from_enforcer(enforcer().0)
            .with(|layer: SekuireLayer| layer.on_decision(move |decision| log.record(decision)));
        stand.call(&Upstream::json(chat::answer(&json!({}))), request(ASK));
    });
    assert!(
        (told.value("sekuire_audit_lines_dropped_total") - 2.0).abs() < 1e-9,
        "{}",
        told.0
    );
}

/// A label is the policy's agent, however a request names its own.
#[test]
fn agents_that_requests_name_are_no_labels() {
    let told = counted(|| {
        let stand = Stand::from_enforcer(enforcer().0)
            .with(|layer| layer.agent_key(|_| Some(tower_sekuire::AgentKey::new("from-the-wire"))));
        stand.call(&Upstream::json(chat::answer(&json!({}))), request(ASK));
    });
    assert!(
        told.0.contains(r#"agent="tested""#) && !told.0.contains("wire"),
        "{}",
        told.0
    );
}

#[test]
fn a_replaced_policy_goes_on_under_its_own_name() {
    let told = counted(|| {
        let live = tower_sekuire::LivePolicy::new(enforcer().0);
        let stand = Stand::around_layer(SekuireLayer::from_source(live.clone()));
        let answer = Upstream::json(chat::answer(&json!({})));
        stand.call(&answer, request(ASK));
        live.replace(
            Policy::from_yaml("agent: { name: other, models: { allowed_models: ['*'] } }").unwrap(),
        );
        stand.call(&answer, request(ASK));
    });
    for agent in ["tested", "other"] {
        let series = format!(r#"sekuire_requests_total{{agent="{agent}",endpoint="model"}}"#);
        assert!((told.value(&series) - 1.0).abs() < 1e-9, "{}", told.0);
    }
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(path.join("docs/observability.md")).unwrap();
    let documented: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `sekuire_")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let source = std::fs::read_to_string(path.join("src/meters/on.rs")).unwrap();
    let counted: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.split_once("&str = \"sekuire_")?.1.strip_suffix("\";"))
        .collect();
    assert!(counted.len() > 10);
    assert_eq!(documented, counted);
    let told = counted_descriptions();
    for name in counted {
        assert!(
            told.contains(&format!("# HELP sekuire_{name} ")),
            "{name}: {told}"
        );
    }
}

/// A description is told beside a value only.
fn counted_descriptions() -> String {
    let folder = tempfile::tempdir().unwrap();
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        describe_metrics();
        let log = AuditLog::with_capacity(folder.path().join("audit.jsonl"), 1).unwrap();
        let stand = Stand::from_enforcer(enforcer().0.mode(Mode::Audit))
            .with(|layer: SekuireLayer| layer.on_decision(move |decision| log.record(decision)));
        stand.call(&Upstream::json("{"), request("no json"));
        let usage = chat::text("hello") + &chat::usage(7) + chat::DONE;
        for stream in [usage, chat::text("hello") + chat::DONE] {
            stand.call(&Upstream::stream(stream), request(ASK));
        }
    });
    Told::of(&recorder).0
}
