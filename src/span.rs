//! The span of a call, by the names that OpenTelemetry's conventions for generative AI have
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>).
//!
//! It lasts from the request's head to the answer's last byte. It is entered where something is done for the whole of
//! the call (the service below is polled, a decision is told) and not for each frame of a stream. While nobody
//! listens, all of this is one look at a level.

use tracing::Span;
use tracing::field::Empty;

use crate::audit::{End, Verdict};
use crate::enforcer::PolicyEnforcer;
use crate::violation::shown;
use crate::wire::endpoint::Endpoint;

/// A span, if anybody is interested in one.
pub(crate) fn of_call(enforcer: &PolicyEnforcer, endpoint: Option<&Endpoint>, number: u64) -> Span {
    let name = endpoint.map(|endpoint| endpoint.name);
    tracing::info_span!(
        target: "tower_sekuire::call",
        "call",
        otel.kind = "client",
        otel.name = name.and_then(operation),
        otel.status_code = Empty,
        error.type = Empty,
        gen_ai.operation.name = name.and_then(operation),
        gen_ai.provider.name = Empty,
        gen_ai.agent.name = Empty,
        gen_ai.agent.id = Empty,
        gen_ai.request.model = Empty,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        http.response.status_code = Empty,
        sekuire.call = number,
        sekuire.endpoint = name,
        sekuire.mode = enforcer.current_mode().as_str(),
        sekuire.policy_version = enforcer.version(),
        sekuire.verdict = Empty,
        sekuire.rule = Empty,
        sekuire.end = Empty,
        sekuire.tokens = Empty,
        sekuire.estimated = Empty,
    )
}

/// What an endpoint does, where the conventions have a word for it.
pub(crate) fn operation(endpoint: &str) -> Option<&'static str> {
    match endpoint {
        "POST /chat/completions" | "POST /responses" => Some("chat"),
        "POST /completions" => Some("text_completion"),
        "POST /embeddings" => Some("embeddings"),
        "POST /assistants" => Some("create_agent"),
        "POST /threads/runs" | "POST /threads/{}/runs" => Some("invoke_agent"),
        _ => None,
    }
}

/// The conventions' name of a service; those that they don't know keep their own.
fn provider(service: &str) -> &str {
    match service {
        "azure" => "azure.ai.openai",
        "bedrock" => "aws.bedrock",
        "mistral" => "mistral_ai",
        "google" => "gcp.gen_ai",
        "xai" => "x_ai",
        other => other,
    }
}

pub(crate) fn name_provider(span: &Span, service: Option<&str>) {
    if let Some(service) = service {
        span.record("gen_ai.provider.name", provider(service));
    }
}

pub(crate) fn name_model(span: &Span, endpoint: Option<&Endpoint>, model: &str) {
    if span.is_disabled() {
        return;
    }
    let model = shown(model);
    span.record("gen_ai.request.model", &*model);
    if let Some(operation) = endpoint.and_then(|endpoint| operation(endpoint.name)) {
        span.record("otel.name", format!("{operation} {model}"));
    }
}

/// How a call came out so far.
pub(crate) struct Outcome<'a> {
    pub(crate) agent: &'a str,
    pub(crate) sekuire_id: Option<&'a str>,
    pub(crate) verdict: Verdict,
    pub(crate) rule: Option<&'static str>,
    /// The status of an answer that is an error.
    pub(crate) failed: Option<u16>,
    pub(crate) end: Option<End>,
    pub(crate) tokens: u64,
    pub(crate) estimated: bool,
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
}

pub(crate) fn record(span: &Span, outcome: &Outcome<'_>) {
    if span.is_disabled() {
        return;
    }
    span.record("gen_ai.agent.name", &*shown(outcome.agent));
    span.record("gen_ai.agent.id", outcome.sekuire_id);
    span.record("sekuire.verdict", outcome.verdict.as_str());
    span.record("sekuire.rule", outcome.rule);
    if let Some(end) = outcome.end {
        span.record("sekuire.end", end.as_str());
        span.record("sekuire.tokens", outcome.tokens);
        span.record("sekuire.estimated", outcome.estimated);
        span.record("gen_ai.usage.input_tokens", outcome.input);
        span.record("gen_ai.usage.output_tokens", outcome.output);
    }
    let error = match (outcome.verdict, outcome.end, outcome.failed) {
        (Verdict::Refused, ..) => outcome.rule.unwrap_or("_OTHER").into(),
        (_, Some(_), Some(status)) => std::borrow::Cow::Owned(status.to_string()),
        (_, Some(End::Error), None) => "_OTHER".into(),
        _ => return,
    };
    span.record("error.type", &*error);
    span.record("otel.status_code", "ERROR");
}
