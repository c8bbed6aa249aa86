//! What a subscriber of `tracing` is told of a call: the names of spans and fields are part of the interface.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use serde_json::json;
use support::{ASK, Stand, Step, Upstream, allowing, chat, request, request_to, run};
use tower::ServiceExt;
use tower_sekuire::{AgentKey, BoxError, Policy};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

type Fields = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
struct Seen {
    target: String,
    name: String,
    fields: Fields,
    /// The spans or events inside, by their targets.
    inside: Vec<String>,
    closed: bool,
}

/// Spans in the order in which they began, and events.
#[derive(Clone, Default)]
struct Recorder {
    spans: Arc<Mutex<Vec<(u64, Seen)>>>,
    events: Arc<Mutex<Vec<Fields>>>,
}

struct Visitor<'a>(&'a mut Fields);

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Recorder {
    fn with(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut spans = self.spans.lock().unwrap();
        let found = spans
            .iter_mut()
            .rev()
            .find(|(known, _)| *known == id.into_u64());
        change(&mut found.unwrap().1);
    }

    /// The calls since the last time.
    fn calls(&self) -> Vec<Seen> {
        let spans = std::mem::take(&mut *self.spans.lock().unwrap());
        let spans = spans.into_iter().map(|(_, span)| span);
        spans
            .filter(|span| span.target == "tower_sekuire::call")
            .collect()
    }

    fn events(&self) -> Vec<Fields> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut span = Seen {
            target: attributes.metadata().target().to_owned(),
            name: attributes.metadata().name().to_owned(),
            ..Seen::default()
        };
        attributes.record(&mut Visitor(&mut span.fields));
        self.spans.lock().unwrap().push((id.into_u64(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.with(id, |span| values.record(&mut Visitor(&mut span.fields)));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let target = event.metadata().target();
        if let Some(span) = context.event_span(event) {
            self.with(&span.id(), |span| span.inside.push(target.to_owned()));
        }
        if target == "tower_sekuire" {
            let mut fields = Fields::new();
            event.record(&mut Visitor(&mut fields));
            self.events.lock().unwrap().push(fields);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(&id, |span| span.closed = true);
    }
}

#[track_caller]
fn has(fields: &Fields, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        let found = fields.get(*name).map(String::as_str);
        assert_eq!(found, Some(*value), "{name} in {fields:#?}");
    }
}

/// One test: subscribers that come and go beside each other can miss what is told.
#[test]
fn a_call_is_a_span_with_the_conventions_names() {
    let recorder = Recorder::default();
    let subscriber = tracing_subscriber::registry().with(recorder.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let stand = Stand::new(allowing(&["safe"]));

    // A stream: the span lasts until its end.
    let stream = vec![
        Step::data(chat::text("hello")),
        Step::data(chat::usage(7) + chat::DONE),
    ];
    let upstream = Upstream::steps(200, "text/event-stream", stream);
    let answer = run(stand.around(upstream).oneshot(request(ASK))).unwrap();
    assert!(!recorder.spans.lock().unwrap()[0].1.closed);
    support::read(answer);
    let calls = recorder.calls();
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    assert!(call.closed && call.name == "call");
    has(
        &call.fields,
        &[
            ("otel.kind", "client"),
            ("otel.name", "chat gpt-4o"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.agent.name", "tested"),
            ("gen_ai.request.model", "gpt-4o"),
            ("gen_ai.usage.input_tokens", "6"),
            ("gen_ai.usage.output_tokens", "1"),
            ("http.response.status_code", "200"),
            ("sekuire.endpoint", "POST /chat/completions"),
            ("sekuire.mode", "block"),
            ("sekuire.policy_version", "1"),
            ("sekuire.verdict", "allowed"),
            ("sekuire.end", "complete"),
            ("sekuire.tokens", "7"),
            ("sekuire.estimated", "false"),
        ],
    );
    for absent in ["error.type", "otel.status_code", "sekuire.rule"] {
        assert!(!call.fields.contains_key(absent), "{absent}");
    }
    assert_eq!(call.inside, ["tower_sekuire", "tower_sekuire"]);
    let events = recorder.events();
    assert_eq!(events.len(), 2);
    for event in &events {
        has(
            event,
            &[
                ("call", &*call.fields["sekuire.call"]),
                ("verdict", "allowed"),
                ("mode", "block"),
                ("gen_ai.operation.name", "chat"),
                ("gen_ai.agent.name", "tested"),
                ("gen_ai.request.model", "gpt-4o"),
                ("policy_version", "1"),
                ("endpoint", "POST /chat/completions"),
            ],
        );
    }
    has(&events[0], &[("phase", "request")]);
    has(
        &events[1],
        &[
            ("phase", "end"),
            ("end", "complete"),
            ("tokens", "7"),
            ("estimated", "false"),
            ("gen_ai.usage.input_tokens", "6"),
            ("gen_ai.usage.output_tokens", "1"),
        ],
    );

    // Refused, and failed.
    stand.call(
        &Upstream::json("{}"),
        request(ASK.replace("gpt-4o", "o3\n")),
    );
    stand.call(&Upstream::stream(chat::opened(0, "evil")), request(ASK));
    let error = vec![Step::data("{}")];
    stand.call(
        &Upstream::steps(503, "application/json", error),
        request(ASK),
    );
    stand.call(&Upstream::new(|| Err("no route".into())), request(ASK));
    let calls = recorder.calls();
    let errors: Vec<&str> = calls
        .iter()
        .map(|call| {
            has(&call.fields, &[("otel.status_code", "ERROR")]);
            &*call.fields["error.type"]
        })
        .collect();
    assert_eq!(
        errors,
        ["request_unreadable", "tool_not_allowed", "503", "_OTHER"]
    );
    assert_eq!(calls[1].fields["sekuire.rule"], "tool_not_allowed");

    // What the service below tells belongs to the call, whether or not it is read.
    let client = tower::service_fn(|_: http::Request<http_body_util::Full<bytes::Bytes>>| {
        tracing::info!(target: "below", "called");
        async {
            tracing::info!(target: "below", "polled");
            let answer = http::Response::builder().header("content-type", "application/json");
            let body = chat::answer(&json!({}));
            Ok::<_, BoxError>(answer.body(http_body_util::Full::<bytes::Bytes>::from(body))?)
        }
    });
    recorder.events();
    run(stand.around(client).oneshot(request(ASK))).unwrap();
    let mut models = request_to("https://api.openai.com/v1/models", "");
    *models.method_mut() = http::Method::GET;
    run(stand.around(client).oneshot(models)).unwrap();
    let calls = recorder.calls();
    let (read, passed) = (&calls[0], &calls[1]);
    assert_eq!(
        read.inside,
        ["tower_sekuire", "below", "below", "tower_sekuire"]
    );
    assert_eq!(passed.inside, ["tower_sekuire", "below", "below"]);
    has(&passed.fields, &[("sekuire.verdict", "not_inspected")]);
    assert!(!passed.fields.contains_key("gen_ai.operation.name"));
    assert!(read.closed && passed.closed);

    // Each agent of a file under its own id.
    let several = "agents: { a: { sekuire_id: a1 }, b: { sekuire_id: b2 } }\nmodels: {}";
    let policy = Policy::loader().agent("a").from_yaml(several).unwrap();
    let agents = Stand::new(policy);
    let mut as_b = request(ASK);
    as_b.extensions_mut().insert(AgentKey::new("b"));
    for (request, id) in [(request(ASK), "a1"), (as_b, "b2")] {
        recorder.events();
        agents.call(&Upstream::json("{}"), request);
        let id = [("gen_ai.agent.id", id)];
        has(&recorder.calls()[0].fields, &id);
        for event in recorder.events() {
            has(&event, &id);
        }
    }
    run(stand.around(client).oneshot(request(ASK))).unwrap();

    // The documented names are those that there are.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observability.md");
    let document = std::fs::read_to_string(path).unwrap();
    for name in read.fields.keys().chain(recorder.events()[0].keys()) {
        assert!(
            name == "message" || document.contains(&format!("`{name}`")),
            "{name} isn't documented"
        );
    }
}
