//! How much may be used, what happens to a call that is refused, and in which form a client is told.

#![cfg(test)]

mod support;

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use support::{
    ASK, Outcome, ScriptBody, Stand, Step, Upstream, answer, chat, cut, request, request_to, run,
};
use tower::ServiceExt;
use tower_sekuire::{
    End, LimitUsage, ManualClock, Mode, Phase, Policy, PolicyEnforcer, PolicyViolation, RateLimit,
    Respond, Rule, Seen, Verdict,
};

const AGENT: &str = "
agent:
  name: tested
  models: { allowed_models: [gpt-4o], blocked_models: [gpt-3.5-turbo] }
  toolsets: { allowed_tools: [safe], blocked_tools: [evil] }
";

fn with_limits(limits: &str) -> (Stand, ManualClock) {
    let policy = format!("{AGENT}rate_limits:\n  per_agent: {{ {limits} }}\n");
    let clock = ManualClock::new();
    let enforcer = PolicyEnforcer::new(Policy::from_yaml(&policy).unwrap()).clock(clock.clone());
    (Stand::from_enforcer(enforcer), clock)
}

/// Tokens are counted when an answer ends, and nothing is reserved for one that hasn't.
fn counting_after(limits: &str) -> (Stand, ManualClock) {
    let (stand, clock) = with_limits(limits);
    let stand = stand.with(|layer| layer.reserve_tokens(false).ask_for_usage(false));
    (stand, clock)
}

fn in_mode(mode: Mode) -> Stand {
    let policy = format!(
        "{AGENT}rate_limits:\n  per_agent: {{ tokens_per_day: 1000000, requests_per_day: 1000 }}\n"
    );
    Stand::from_enforcer(PolicyEnforcer::new(Policy::from_yaml(&policy).unwrap()).mode(mode))
}

fn openai(stand: Stand) -> Stand {
    stand.with(|layer| layer.respond(Respond::OpenAi))
}

fn whole() -> String {
    chat::answer(&json!({"content": "hello"}))
}

fn costing(tokens: u64) -> String {
    json!({"choices": [{"index": 0, "message": {"content": "hello"}}], "usage": {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}})
        .to_string()
}

fn streamed(tokens: u64) -> String {
    chat::text("hello") + &chat::usage(tokens) + chat::DONE
}

/// As [`ASK`], with one part of it changed.
fn asking(from: &str, to: &str) -> Request<Full<bytes::Bytes>> {
    let changed = ASK.replace(from, to);
    assert_ne!(changed, ASK);
    request(changed)
}

#[test]
fn ten_requests_a_minute_are_ten() {
    let (stand, clock) = with_limits("requests_per_minute: 10");
    let upstream = Upstream::json(whole());
    for second in 0..10 {
        let outcome = stand.call(&upstream, request(ASK));
        assert!(outcome.error.is_none(), "request {}", second + 1);
        clock.advance(Duration::from_secs(1));
    }
    for _ in 0..3 {
        let outcome = stand.call(&upstream, request(ASK));
        let violation = outcome.violation().unwrap();
        assert_eq!(violation.rule(), Rule::RateLimitExceeded);
        assert_eq!(
            violation.to_string(),
            "[rate_limit_exceeded] Rate limit exceeded: 10 requests per minute"
        );
        assert_eq!(violation.retry_after(), Some(Duration::from_secs(50)));
        assert_eq!(violation.seen(), Seen::Request);
    }
    assert_eq!(upstream.calls(), 10, "what is refused is not sent");
    clock.advance(Duration::from_secs(49));
    assert!(stand.call(&upstream, request(ASK)).error.is_some());
    // The first leaves its window, and makes room for one.
    clock.advance(Duration::from_secs(1));
    assert!(stand.call(&upstream, request(ASK)).error.is_none());
    assert!(stand.call(&upstream, request(ASK)).error.is_some());
}

#[test]
fn a_request_that_a_rule_refuses_does_not_spend_the_limit() {
    let (stand, _) = with_limits("requests_per_minute: 1");
    let upstream = Upstream::json(whole());
    let refused = [
        asking("gpt-4o", "gpt-3.5-turbo"),
        asking("gpt-4o", "o3"),
        asking(
            "\"stream\"",
            "\"functions\":[{\"name\":\"evil\"}],\"stream\"",
        ),
        request("{"),
        request_to("https://api.openai.com/v1/batches", ASK),
    ];
    for request in refused {
        assert!(stand.call(&upstream, request).violation().is_some());
    }
    assert_eq!(stand.used(), 0);
    assert!(stand.call(&upstream, request(ASK)).error.is_none());
    assert_eq!(stand.used(), 1);
    // An endpoint that runs no model spends nothing.
    let mut get = request_to("https://api.openai.com/v1/models", "");
    *get.method_mut() = http::Method::GET;
    assert!(stand.call(&upstream, get).error.is_none());
    assert_eq!(stand.used(), 1);
}

#[test]
fn a_request_refused_for_its_answer_stays_counted() {
    let (stand, _) = with_limits("requests_per_minute: 5");
    for upstream in [
        Upstream::stream(chat::opened(0, "evil")),
        Upstream::json("{"),
        Upstream::new(|| Err("no route".into())),
        Upstream::steps(500, "application/json", vec![Step::data("{\"error\":{}}")]),
    ] {
        stand.call(&upstream, request(ASK));
    }
    assert_eq!(stand.used(), 4);
}

#[test]
fn a_document_that_crosses_the_budget_is_paid_for_and_not_delivered() {
    let (stand, clock) = counting_after("tokens_per_hour: 100");
    let (sixty, upstream) = (Upstream::json(costing(60)), Upstream::json(costing(10)));
    assert!(stand.call(&sixty, request(ASK)).error.is_none());
    let outcome = stand.call(&sixty, request(ASK));
    let violation = outcome.violation().unwrap();
    assert_eq!(
        violation.to_string(),
        "[token_budget_exceeded] Token budget exceeded: 100 tokens per hour"
    );
    assert!(violation.is_after_the_call());
    assert_eq!(violation.seen(), Seen::Response);
    assert!(outcome.head.is_none());
    assert_eq!(stand.used(), 120);
    assert_eq!(stand.ends(), [End::Complete, End::Violation]);

    let outcome = stand.call(&upstream, request(ASK));
    let violation = outcome.violation().unwrap();
    assert_eq!(violation.rule(), Rule::TokenBudgetExceeded);
    assert!(!violation.is_after_the_call());
    assert_eq!(violation.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!(upstream.calls(), 0, "refused before it leaves");
    clock.advance(Duration::from_secs(3_600));
    assert!(stand.call(&upstream, request(ASK)).error.is_none());
}

#[test]
fn a_stream_that_crosses_the_budget_ends_with_an_error_behind_its_content() {
    let (stand, _) = counting_after("tokens_per_hour: 100");
    let upstream = Upstream::stream(streamed(101));
    let outcome = stand.call(&upstream, request(ASK));
    assert_eq!(outcome.rule(), Some(Rule::TokenBudgetExceeded));
    assert_eq!(outcome.text(), chat::text("hello") + &chat::usage(101));
    assert_eq!(stand.used(), 101);
    assert_eq!(stand.ends(), [End::Violation]);
    let outcome = stand.call(&upstream, request(ASK));
    assert_eq!(outcome.rule(), Some(Rule::TokenBudgetExceeded));
    assert_eq!(upstream.calls(), 1);

    // Without an end marker it is the end of the body that says so.
    let (stand, _) = counting_after("tokens_per_hour: 100");
    let unmarked = Upstream::stream(chat::text("hello") + &chat::usage(101));
    let outcome = stand.call(&unmarked, request(ASK));
    assert_eq!(outcome.rule(), Some(Rule::TokenBudgetExceeded));
    assert_eq!(stand.used(), 101);
    // Up to the budget, and not a token more.
    let (stand, _) = counting_after("tokens_per_hour: 100");
    let outcome = stand.call(&Upstream::stream(streamed(100)), request(ASK));
    assert!(outcome.error.is_none());
}

#[test]
fn an_answer_without_usable_usage_is_charged_an_estimate_that_is_never_nothing() {
    let (stand, _) = with_limits("tokens_per_day: 1000000000");
    let long = "x".repeat(3_000);
    for usage in [
        json!(null),
        json!({}),
        json!({"total_tokens": -5}),
        json!({"total_tokens": 1.5}),
        json!({"total_tokens": "7"}),
        json!({"prompt_tokens": 3}),
        json!([1]),
    ] {
        let before = stand.used();
        let body = json!({"choices": [{"index": 0, "message": {"content": long}}], "usage": usage});
        stand.call(&Upstream::json(body.to_string()), request(ASK));
        assert!(stand.used() - before >= 1_000, "{usage}");
        let before = stand.used();
        let stream =
            chat::text(&long) + &chat::event(&json!({"choices": [], "usage": usage})) + chat::DONE;
        stand.call(&Upstream::stream(stream), request(ASK));
        assert!(stand.used() - before >= 1_000, "{usage}");
    }
    // Nothing said, nothing counted by the server: the prompt was read all the same.
    let before = stand.used();
    stand.call(&Upstream::stream(chat::DONE), request(ASK));
    assert!(stand.used() > before);
    let told = stand.told();
    let ends = told.iter().filter(|told| told.phase == Phase::End);
    assert!(ends.clone().count() > 10);
    for end in ends {
        assert!(end.estimated);
        assert!(end.tokens.unwrap() > 0);
    }
}

#[test]
fn a_later_report_of_usage_never_lowers_an_earlier_one_and_none_counts_twice() {
    let (stand, _) = with_limits("tokens_per_day: 1000000000");
    let cases = [
        (chat::usage(50) + &chat::usage(20) + chat::DONE, 50),
        (chat::usage(20) + &chat::usage(50) + chat::DONE, 50),
        (
            chat::usage(50) + &chat::event(&json!({"choices": [], "usage": null})),
            50,
        ),
        (
            chat::event(
                &json!({"choices": [], "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}}),
            ),
            7,
        ),
        // Some leave hidden reasoning out of one of the figures.
        (
            chat::event(
                &json!({"choices": [], "usage": {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}}),
            ),
            109,
        ),
        (
            chat::event(
                &json!({"choices": [], "usage": {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 0}}),
            ),
            47,
        ),
    ];
    for (stream, tokens) in cases {
        let before = stand.used();
        let outcome = stand.call(&Upstream::stream(stream.clone()), request(ASK));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert_eq!(stand.used() - before, tokens, "{stream}");
    }
    // No figure is large enough to come out small.
    for huge in ["18446744073709551615", "99999999999999999999", "1e308"] {
        let (stand, _) = with_limits("tokens_per_day: 1000");
        let stream = format!(
            "{}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{huge},\"completion_tokens\":{huge},\"total_tokens\":{huge}}}}}\n\n",
            chat::text("x")
        );
        stand.call(&Upstream::stream(stream), request(ASK));
        assert!(stand.used() > 0, "{huge}");
    }
}

#[test]
fn an_error_answer_without_usage_costs_no_tokens() {
    let (stand, _) = with_limits("tokens_per_day: 1000");
    for status in [400, 401, 429, 500, 503] {
        let error = vec![Step::data(r#"{"error":{"message":"no"}}"#)];
        let outcome = stand.call(
            &Upstream::steps(status, "application/json", error),
            request(ASK),
        );
        assert!(outcome.error.is_none());
    }
    assert_eq!(stand.used(), 0);
    let told = Upstream::steps(400, "application/json", vec![Step::data(costing(9))]);
    stand.call(&told, request(ASK));
    assert_eq!(stand.used(), 9);
}

#[test]
fn layers_made_from_one_enforcer_share_what_is_counted() {
    let policy =
        Policy::from_yaml("rate_limits: { per_agent: { requests_per_minute: 2 } }").unwrap();
    let enforcer = PolicyEnforcer::new(policy).clock(ManualClock::new());
    let (first, second) = (
        Stand::from_enforcer(enforcer.clone()),
        Stand::from_enforcer(enforcer.clone()),
    );
    let upstream = Upstream::json(whole());
    assert!(first.call(&upstream, request(ASK)).error.is_none());
    assert!(second.call(&upstream, request(ASK)).error.is_none());
    assert!(first.call(&upstream, request(ASK)).error.is_some());
    assert!(second.call(&upstream, request(ASK)).error.is_some());
    assert_eq!(enforcer.usage()[0].used(), 2);
}

#[test]
fn many_tasks_at_once_never_get_more_than_the_limit() {
    let (stand, _) = with_limits("requests_per_minute: 37");
    let upstream = Upstream::json(whole());
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..20)
                        .filter(|_| stand.call(&upstream, request(ASK)).error.is_none())
                        .count()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(passed, 37);
    assert_eq!(upstream.calls(), 37);
}

/// Calls that violate the policy, or can't be read, in all kinds of ways.
fn violations() -> Vec<(&'static str, Request<Full<bytes::Bytes>>, Upstream, Rule)> {
    let fine = || Upstream::stream(streamed(5));
    vec![
        (
            "a blocked model",
            asking("gpt-4o", "gpt-3.5-turbo"),
            fine(),
            Rule::ModelBlocked,
        ),
        (
            "a model off the list",
            asking("gpt-4o", "o3"),
            fine(),
            Rule::ModelNotAllowed,
        ),
        (
            "a forbidden tool declared",
            asking(
                "\"stream\"",
                "\"functions\":[{\"name\":\"evil\"}],\"stream\"",
            ),
            fine(),
            Rule::ToolBlocked,
        ),
        (
            "an unreadable request",
            request("{\"model\":"),
            fine(),
            Rule::RequestUnreadable,
        ),
        (
            "an endpoint that isn't read",
            request_to("https://api.openai.com/v1/batches", ASK),
            fine(),
            Rule::EndpointNotAllowed,
        ),
        (
            "a forbidden call in a stream",
            request(ASK),
            Upstream::stream(chat::text("a") + &chat::opened(0, "evil") + &streamed(5)),
            Rule::ToolBlocked,
        ),
        (
            "a forbidden call in a document",
            request(ASK),
            Upstream::json(chat::answer(
                &json!({"tool_calls": [{"function": {"name": "evil"}}]}),
            )),
            Rule::ToolBlocked,
        ),
        (
            "an unreadable stream",
            request(ASK),
            Upstream::stream("data: {\n\ndata: [DONE]x\n\nrest"),
            Rule::ResponseUnreadable,
        ),
        (
            "an unreadable document",
            request(ASK),
            Upstream::json("{\"a\":1,\"a\":2}"),
            Rule::ResponseUnreadable,
        ),
        (
            "a kind that isn't read",
            request(ASK),
            Upstream::steps(200, "text/html", vec![Step::data("<p>")]),
            Rule::ResponseUnreadable,
        ),
        (
            "a redirect",
            request(ASK),
            Upstream::steps(302, "text/html", vec![Step::data("<p>")]),
            Rule::ResponseUnreadable,
        ),
    ]
}

#[test]
fn what_goes_over_a_limit_in_warn_and_audit_is_counted_all_the_same() {
    for mode in [Mode::Warn, Mode::Audit] {
        let policy = "rate_limits: { per_agent: { requests_per_minute: 1, tokens_per_hour: 50 } }";
        let enforcer = PolicyEnforcer::new(Policy::from_yaml(policy).unwrap()).mode(mode);
        for _ in 0..3 {
            assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_ok());
            assert!(enforcer.enforce_rate_limit(RateLimit::Tokens(30)).is_ok());
        }
        let used: Vec<u64> = enforcer.usage().iter().map(LimitUsage::used).collect();
        assert_eq!(used, [3, 90]);
    }
}

#[test]
fn what_block_refuses_passes_untouched_in_warn_and_audit_and_is_recorded() {
    for (name, request, upstream, rule) in violations() {
        let outcome = in_mode(Mode::Block).call(&upstream, request);
        assert_eq!(outcome.rule(), Some(rule), "{name}");
    }
    for mode in [Mode::Warn, Mode::Audit] {
        for (name, request, upstream, rule) in violations() {
            let stand = in_mode(mode);
            let plain = plainly(&upstream, request.clone());
            let outcome = stand.call(&upstream, request);
            assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
            assert_eq!(outcome.bytes, plain.bytes, "{name}");
            let (head, plain) = (outcome.head.unwrap(), plain.head.unwrap());
            assert_eq!(head.status, plain.status, "{name}");
            assert_eq!(head.headers, plain.headers, "{name}");
            let received = upstream.received();
            let (below, sent) = (&received[1], &received[0]);
            assert_eq!(below.1, sent.1, "{name}: the request's body");
            assert_eq!(
                below.0.headers, sent.0.headers,
                "{name}: the request's headers"
            );

            let told = stand.told();
            let first = told.iter().find_map(|told| told.rule);
            assert_eq!(first, Some(rule), "{name}");
            assert!(
                told.iter()
                    .any(|told| matches!(told.verdict, Verdict::Observed | Verdict::NotInspected)),
                "{name}: {told:?}"
            );
            assert!(
                told.iter().all(|told| told.verdict != Verdict::Refused),
                "{name}"
            );
        }
    }
}

#[test]
fn an_event_over_the_cap_passes_in_warn_and_audit_and_the_rest_is_recorded_as_not_inspected() {
    for mode in [Mode::Warn, Mode::Audit] {
        let stand = in_mode(mode).with(|layer| layer.event_cap(1_000));
        let large = chat::text(&"x".repeat(2_000));
        let stream = bytes::Bytes::from(chat::text("a") + &large + &chat::opened(0, "evil"));
        for size in [100, stream.len()] {
            let steps = cut(&stream, (0..stream.len()).step_by(size));
            let steps = steps.into_iter().map(Step::Data).collect();
            let upstream = Upstream::steps(200, "text/event-stream", steps);
            let outcome = stand.call(&upstream, request(ASK));
            assert!(outcome.error.is_none(), "{:?}", outcome.error);
            assert_eq!(outcome.bytes, stream);
            let told = stand.told();
            let last = told.last().unwrap();
            assert_eq!(last.rule, Some(Rule::ResponseUnreadable), "{told:?}");
            assert_eq!(last.verdict, Verdict::NotInspected, "{told:?}");
            assert!(last.tokens.is_some_and(|tokens| tokens > 0), "{told:?}");
        }
    }
}

/// The same call without the layer.
fn plainly(upstream: &Upstream, request: Request<Full<bytes::Bytes>>) -> Outcome {
    use http_body_util::BodyExt;
    let response = support::run(tower::ServiceExt::oneshot(upstream.clone(), request)).unwrap();
    let (head, body) = response.into_parts();
    Outcome {
        head: Some(head),
        bytes: support::run(body.collect()).unwrap().to_bytes().to_vec(),
        ..Outcome::default()
    }
}

#[test]
fn nothing_is_changed_or_held_in_warn_and_audit() {
    let again = chat::opened(0, "safe");
    let stream = chat::arguments(0, "{}") + &again + &again + chat::DONE;
    for mode in [Mode::Warn, Mode::Audit] {
        let stand = in_mode(mode);
        let steps: Vec<Step> = stream
            .as_bytes()
            .chunks(7)
            .map(|piece| Step::data(piece.to_vec()))
            .collect();
        let count = steps.len();
        let upstream = Upstream::new(move || {
            let body = ScriptBody::new(steps.clone()).exact();
            let mut response = answer(200, "text/event-stream", body);
            response
                .headers_mut()
                .insert("content-length", 1_000.into());
            Ok(response)
        });
        let mut asked = request(ASK);
        asked
            .headers_mut()
            .insert("accept-encoding", "gzip".parse().unwrap());
        let governed = stand.around(upstream.clone());
        let response = support::run(tower::ServiceExt::oneshot(governed, asked)).unwrap();
        assert_eq!(response.headers()["content-length"], "1000");
        assert_eq!(upstream.received()[0].0.headers["accept-encoding"], "gzip");
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        for _ in 0..count {
            let frame = support::run(http_body_util::BodyExt::frame(&mut body))
                .unwrap()
                .unwrap();
            bytes.push(frame.into_data().unwrap().len());
        }
        assert!(
            bytes.iter().rev().skip(1).all(|length| *length == 7),
            "frame by frame: {bytes:?}"
        );
    }
}

#[test]
fn limits_are_charged_in_warn_and_audit_and_refuse_nothing() {
    for mode in [Mode::Warn, Mode::Audit] {
        for (limit, rule, crossed) in [
            ("requests_per_day: 2", Rule::RateLimitExceeded, 3),
            ("tokens_per_day: 100", Rule::TokenBudgetExceeded, 2),
        ] {
            let policy = format!("rate_limits: {{ per_agent: {{ {limit} }} }}");
            let enforcer = PolicyEnforcer::new(Policy::from_yaml(&policy).unwrap());
            let enforcer = enforcer.mode(mode).clock(ManualClock::new());
            let stand = Stand::from_enforcer(enforcer);
            for call in 1..=5 {
                let outcome = stand.call(&Upstream::stream(streamed(60)), request(ASK));
                assert!(outcome.error.is_none());
                assert_eq!(outcome.text(), streamed(60));
                let told = stand.told();
                assert_eq!(told.last().unwrap().end, Some(End::Complete));
                let found = told.last().unwrap().rule;
                assert_eq!(
                    found,
                    (call >= crossed).then_some(rule),
                    "{limit}, call {call}"
                );
            }
            let usage = &stand.layer.enforcer().usage()[0];
            assert!(usage.used() >= usage.limit().max(), "{usage:?}");
        }
    }
}

fn error_of(outcome: &Outcome) -> Value {
    let body: Value = serde_json::from_slice(&outcome.bytes).unwrap();
    body["error"].clone()
}

#[test]
fn a_refusal_as_openai_gives_it_is_an_answer_that_no_sdk_retries() {
    let cases = [
        (
            asking("gpt-4o", "gpt-3.5-turbo"),
            "model_blocked",
            json!("model"),
            "Model gpt-3.5-turbo is not allowed",
        ),
        (
            asking("gpt-4o", "o3"),
            "model_not_allowed",
            json!("model"),
            "Model o3 is not in the allowlist",
        ),
        (
            asking(
                "\"stream\"",
                "\"functions\":[{\"name\":\"evil\"}],\"stream\"",
            ),
            "tool_blocked",
            json!("tools"),
            "Tool evil is blocked",
        ),
        (
            asking("\"stream\"", "\"functions\":[{\"name\":\"x\"}],\"stream\""),
            "tool_not_allowed",
            json!("tools"),
            "Tool x is not in the allowlist",
        ),
    ];
    for (request, code, param, message) in cases {
        let upstream = Upstream::json(whole());
        let stand = openai(in_mode(Mode::Block));
        let outcome = stand.call(&upstream, request);
        assert_eq!(upstream.calls(), 0);
        assert_eq!(
            error_of(&outcome),
            json!({"message": message, "type": "policy_violation", "param": param, "code": code})
        );
        let head = outcome.head.unwrap();
        assert_eq!(head.status, 403);
        assert_eq!(head.headers["content-type"], "application/json");
        assert_eq!(head.headers["x-should-retry"], "false");
        assert!(!head.headers.contains_key("retry-after"));
        let violation = head.extensions.get::<PolicyViolation>().unwrap();
        assert_eq!(violation.rule().as_str(), code);
        assert_eq!(stand.told().len(), 1, "told once");
    }
}

#[test]
fn a_forbidden_call_as_openai_gives_it_is_an_error_answer_or_the_last_event() {
    let stand = openai(in_mode(Mode::Block));
    let document = Upstream::json(chat::answer(
        &json!({"tool_calls": [{"function": {"name": "evil"}}]}),
    ));
    let outcome = stand.call(&document, request(ASK));
    assert!(outcome.error.is_none());
    assert_eq!(error_of(&outcome)["code"], "tool_blocked");
    let head = outcome.head.unwrap();
    assert_eq!(
        (head.status.as_u16(), &head.headers["x-should-retry"]),
        (403, &"false".parse().unwrap())
    );
    assert_eq!(
        head.extensions.get::<PolicyViolation>().unwrap().seen(),
        Seen::Response
    );

    let text = chat::text("a");
    let stream = Upstream::stream(text.clone() + &chat::opened(0, "evil") + &text + chat::DONE);
    let outcome = stand.call(&stream, request(ASK));
    assert!(outcome.error.is_none());
    assert_eq!(outcome.head.as_ref().unwrap().status, 200);
    let released = outcome.text();
    let last = released.strip_prefix(&text).unwrap();
    let data = last
        .strip_prefix("data: ")
        .unwrap()
        .strip_suffix("\n\n")
        .unwrap();
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        event,
        json!({"error": {"message": "Tool evil is blocked", "type": "policy_violation", "param": "tools", "code": "tool_blocked"}})
    );
    assert!(
        !released.contains("[DONE]"),
        "an end marker would end some clients' loop in silence"
    );
    assert_eq!(stand.ends(), [End::Violation, End::Violation]);
}

#[test]
fn limits_as_openai_gives_them_say_when_to_try_again() {
    let (stand, clock) = with_limits("requests_per_minute: 1");
    let stand = openai(stand);
    let upstream = Upstream::json(whole());
    stand.call(&upstream, request(ASK));
    clock.advance(Duration::from_millis(500));
    let outcome = stand.call(&upstream, request(ASK));
    assert_eq!(error_of(&outcome)["code"], "rate_limit_exceeded");
    let head = outcome.head.unwrap();
    assert_eq!(head.status, 429);
    assert_eq!(head.headers["retry-after"], "60", "rounded up");
    assert_eq!(head.headers["retry-after-ms"], "59500");
    assert!(!head.headers.contains_key("x-should-retry"));

    let (stand, _) = with_limits("tokens_per_day: 10");
    let stand = openai(stand);
    let outcome = stand.call(&Upstream::json(costing(11)), request(ASK));
    assert_eq!(error_of(&outcome)["code"], "token_budget_exceeded");
    assert_eq!(error_of(&outcome)["type"], "policy_violation");
    let head = outcome.head.unwrap();
    assert_eq!(head.status, 403, "it was paid for: a retry pays again");
    assert_eq!(head.headers["x-should-retry"], "false");
    let outcome = stand.call(&upstream, request(ASK));
    assert_eq!(error_of(&outcome)["type"], "insufficient_quota");
    let head = outcome.head.unwrap();
    assert_eq!(head.status, 429);
    assert_eq!(head.headers["retry-after"], "86400");
    assert_eq!(head.headers["x-should-retry"], "false");

    let (stand, _) = with_limits("tokens_per_day: 10");
    let outcome = openai(stand).call(&Upstream::stream(streamed(11)), request(ASK));
    assert!(outcome.error.is_none());
    let released = outcome.text();
    assert!(released.starts_with(&chat::text("hello")));
    assert!(
        released.contains("\"code\":\"token_budget_exceeded\""),
        "{released}"
    );
    assert!(!released.contains("[DONE]"));
}

#[test]
fn every_call_is_told_at_its_start_and_at_its_end() {
    let stand = in_mode(Mode::Block);
    stand.call(&Upstream::stream(streamed(5)), request(ASK));
    let told = stand.told();
    let phases: Vec<_> = told
        .iter()
        .map(|told| (told.phase, told.verdict, told.end))
        .collect();
    assert_eq!(
        phases,
        [
            (Phase::Request, Verdict::Allowed, None),
            (Phase::End, Verdict::Allowed, Some(End::Complete))
        ]
    );
    assert_eq!(
        (told[0].tokens, told[1].tokens, told[1].estimated),
        (None, Some(5), false)
    );
    stand.call(&Upstream::json(whole()), asking("gpt-4o", "o3"));
    let told = stand.told();
    assert_eq!(
        told.len(),
        1,
        "a refused request has no answer that could end"
    );
    assert_eq!(
        (told[0].phase, told[0].verdict),
        (Phase::Request, Verdict::Refused)
    );
    stand.call(&Upstream::stream(chat::opened(0, "evil")), request(ASK));
    let told = stand.told();
    let last = (told[1].verdict, told[1].end, told[1].rule);
    assert_eq!(
        last,
        (
            Verdict::Refused,
            Some(End::Violation),
            Some(Rule::ToolBlocked)
        )
    );
}

#[test]
fn every_decision_tells_the_id_that_sekuire_gave_the_agent() {
    for (id, told) in [
        ("agent: { sekuire_id: a1 }", "sekuire_id: Some(\"a1\")"),
        ("x-none: 1", "sekuire_id: None"),
    ] {
        let stand = Stand::yaml(&format!("models: {{ allowed_models: [gpt-4o] }}\n{id}"));
        let outcome = stand.call(
            &Upstream::json("{}"),
            request(r#"{"model":"gpt-4o","messages":[]}"#),
        );
        assert!(outcome.error.is_none());
        let decisions = stand.told();
        assert_eq!(decisions.len(), 2);
        assert!(
            decisions
                .iter()
                .all(|decision| decision.debug.contains(told)),
            "{id}"
        );
    }
}

#[test]
fn whoever_reads_no_further_than_the_announced_length_has_the_whole_answer() {
    let body = json!({
        "id": "c", "object": "chat.completion", "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "evil", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300},
    })
    .to_string();
    for mode in [Mode::Warn, Mode::Audit] {
        // As hyper's client bodies know their own end, and as a body that was mapped may not.
        for knows in [true, false] {
            let (whole, length) = (body.clone(), body.len());
            let upstream = Upstream::new(move || {
                let (first, rest) = whole.split_at(100);
                let steps = [first, rest].map(|part| Step::data(part.to_owned()));
                let script = ScriptBody::new(steps);
                let script = if knows { script.exact() } else { script };
                let mut answer = answer(200, "application/json", script);
                answer.headers_mut().insert("content-length", length.into());
                Ok(answer)
            });
            let stand = in_mode(mode);
            let question = request(r#"{"model":"gpt-4o","messages":[]}"#);
            let answer = run(stand.around(upstream).oneshot(question)).unwrap();
            let mut answer = answer.into_body();
            // A server stops so, once it has written as much as the head says.
            let mut left = length;
            while left > 0 {
                let frame = run(answer.frame()).unwrap().unwrap();
                left -= frame.into_data().unwrap().len();
            }
            drop(answer);
            let told = stand.told();
            let end = told.last().unwrap();
            assert_eq!(end.rule, Some(Rule::ToolBlocked), "{mode:?} {told:?}");
            assert_eq!(end.end, Some(End::Complete));
            assert_eq!((end.tokens, end.estimated), (Some(300), false));
        }
    }
}

#[test]
fn limits_that_all_share_are_told_though_no_agent_counts_by_itself() {
    for limits in [
        "global: { requests_per_minute: 2 }",
        "per_model: { gpt-4o: { tokens_per_hour: 1000 } }",
    ] {
        let stand = Stand::yaml(&format!("{AGENT}rate_limits: {{ {limits} }}\n"));
        assert_eq!(stand.layer.usage().len(), 0, "{limits}");
        let question = request(r#"{"model":"gpt-4o","messages":[]}"#);
        let outcome = stand.call(&Upstream::json(costing(30)), question);
        assert!(outcome.error.is_none());
        let usage = stand.layer.usage();
        assert_eq!(usage.len(), 1, "{limits}");
        assert_eq!(&*usage[0].0, "tested");
        assert!(usage[0].1[0].used() > 0, "{usage:?}");
    }
}

#[test]
fn a_limit_that_refuses_says_whom_it_counts_for() {
    for (limits, value, help) in [
        (
            "per_agent: { requests_per_minute: 1 }",
            "per_agent",
            "`rate_limits.per_agent` counts for each agent by itself: wait until there is room",
        ),
        (
            "per_model: { gpt-4*: { requests_per_minute: 1 } }",
            "per_model.gpt-4*",
            "`rate_limits.per_model.gpt-4*` counts for the models that match, all agents together: wait until there is room",
        ),
        (
            "global: { tokens_per_hour: 1000 }",
            "global",
            "`rate_limits.global` counts for all agents together: wait until there is room; a call with a lower cap on its output may fit in sooner",
        ),
    ] {
        let stand = Stand::yaml(&format!("{AGENT}rate_limits: {{ {limits} }}\n"));
        let ask = || request(r#"{"model":"gpt-4o","max_tokens":900,"messages":[]}"#);
        stand.call(&Upstream::json(costing(901)), ask());
        let outcome = stand.call(&Upstream::json(costing(30)), ask());
        let violation = outcome.violation().unwrap();
        assert_eq!(
            (violation.value(), violation.help()),
            (Some(value), Some(help))
        );
    }
}
