//! What is reserved for a call, who pays for it, and how a stream comes to report its usage.

#![cfg(test)]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use support::{ASK, ScriptBody, Stand, Step, Upstream, answer, chat, request, request_to};
use tower::ServiceExt;
use tower_sekuire::{
    AgentKey, End, EstimateTokens, ManualClock, MemoryStore, Policy, PolicyEnforcer, Prompt, Rule,
};

fn limited(limits: &str) -> (Stand, ManualClock) {
    let clock = ManualClock::new();
    let policy = Policy::from_yaml(&format!("rate_limits: {limits}")).unwrap();
    let enforcer = PolicyEnforcer::new(policy).clock(clock.clone());
    (Stand::from_enforcer(enforcer), clock)
}

/// Used and reserved of the policy's first limit.
fn counted(stand: &Stand) -> (u64, u64) {
    let usage = &stand.layer.enforcer().usage()[0];
    (usage.used(), usage.reserved())
}

fn asking(members: &Value) -> Request<Full<Bytes>> {
    let mut body =
        json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "123456789"}]});
    for (key, value) in members.as_object().unwrap() {
        body[key] = value.clone();
    }
    request(body.to_string())
}

fn costing(tokens: u64) -> String {
    json!({"choices": [{"index": 0, "message": {"content": "hello"}}], "usage": {"total_tokens": tokens}}).to_string()
}

/// What is reserved while the server has the request.
fn reserved_for(stand: &Stand, request: Request<Full<Bytes>>) -> u64 {
    let layer = stand.layer.clone();
    let upstream = Upstream::new(move || {
        let reserved = layer.enforcer().usage()[0].reserved();
        let body = costing(reserved);
        Ok(answer(
            200,
            "application/json",
            ScriptBody::new([Step::data(body)]),
        ))
    });
    assert!(stand.call(&upstream, request).error.is_none());
    // The answer's usage was what was reserved, so it is what was charged.
    stand.told().last().unwrap().tokens.unwrap()
}

#[test]
fn the_prompt_and_the_answer_s_cap_are_reserved_for_each_choice() {
    for (members, output) in [
        (json!({}), 4_096),
        (json!({"max_tokens": 10}), 10),
        (json!({"max_completion_tokens": 20, "n": 3}), 60),
        (json!({"n": 2}), 8_192),
        (json!({"max_tokens": null}), 4_096),
    ] {
        let (stand, _) = limited("{ global: { tokens_per_day: 1000000 } }");
        assert_eq!(
            reserved_for(&stand, asking(&members)),
            3 + output,
            "{members}"
        );
        assert_eq!(counted(&stand), (3 + output, 0));
    }
    let (stand, _) = limited("{ global: { tokens_per_day: 1000000 } }");
    let stand = stand.with(|layer| layer.default_output_tokens(100));
    assert_eq!(reserved_for(&stand, asking(&json!({}))), 103);
    let url = "https://api.openai.com/v1/embeddings";
    let embed = request_to(url, r#"{"model":"m","input":"123456"}"#);
    assert_eq!(reserved_for(&stand, embed), 2);
}

#[test]
fn a_call_without_bounds_reserves_the_whole_budget_and_no_more() {
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 500 } }");
    assert_eq!(
        reserved_for(&stand, asking(&json!({"max_tokens": 1_000_000_000}))),
        500
    );
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 500 } }");
    assert_eq!(
        reserved_for(&stand, asking(&json!({"max_tokens": -1}))),
        500
    );
}

#[test]
fn a_call_that_may_not_fit_beside_what_is_in_flight_is_refused_before_it_leaves() {
    let (stand, clock) = limited("{ per_agent: { tokens_per_minute: 100 } }");
    let ask = || asking(&json!({"max_tokens": 57}));
    let upstream = Upstream::stream(chat::text("hello") + &chat::usage(40) + chat::DONE);
    let first = stand.around(upstream.clone());
    let in_flight = support::run(first.oneshot(ask())).unwrap();
    assert_eq!(counted(&stand), (0, 60));
    let second = stand.call(&upstream, ask());
    let violation = second.violation().unwrap();
    assert_eq!(violation.rule(), Rule::TokenBudgetExceeded);
    assert!(!violation.is_after_the_call());
    // If what is in flight costs what it reserved, from now on.
    assert_eq!(violation.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(upstream.calls(), 1);
    assert!(support::read(in_flight).error.is_none());
    assert_eq!(counted(&stand), (40, 0));
    assert!(stand.call(&upstream, ask()).error.is_none());
    assert_eq!(counted(&stand), (80, 0));
    clock.advance(Duration::from_secs(60));
    assert_eq!(counted(&stand), (0, 0));
}

#[test]
fn what_a_failed_call_reserved_is_free_again_and_the_request_stays_counted() {
    let limits = "{ per_agent: { requests_per_day: 100 }, global: { tokens_per_day: 100000 } }";
    let (stand, _) = limited(limits);
    let tokens = |stand: &Stand| {
        let usage = &stand.layer.enforcer().usage()[1];
        (usage.used(), usage.reserved())
    };
    let broken = Upstream::new(|| Err("connection refused".into()));
    assert!(stand.call(&broken, asking(&json!({}))).error.is_some());
    assert_eq!((counted(&stand).0, tokens(&stand)), (1, (0, 0)));
    let error = || vec![Step::data(r#"{"error":{"message":"no"}}"#)];
    for status in [400, 429, 500] {
        let upstream = Upstream::steps(status, "application/json", error());
        stand.call(&upstream, asking(&json!({})));
    }
    assert_eq!((counted(&stand).0, tokens(&stand)), (4, (0, 0)));
    // A request that a rule refuses reserves nothing.
    assert!(stand.call(&broken, request("{")).violation().is_some());
    assert_eq!((counted(&stand).0, tokens(&stand)), (4, (0, 0)));
}

#[test]
fn leaving_early_costs_the_prompt_and_what_was_seen_of_the_answer() {
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 100000 } }");
    let steps = vec![
        Step::data(chat::text(&"x".repeat(300))),
        Step::data(chat::text("and more")),
    ];
    let upstream = Upstream::steps(200, "text/event-stream", steps);
    let service = stand.around(upstream);
    let response = support::run(service.oneshot(asking(&json!({"stream": true})))).unwrap();
    assert!(counted(&stand).1 > 0);
    let mut body = response.into_body();
    let frame = support::run(http_body_util::BodyExt::frame(&mut body));
    assert!(frame.unwrap().is_ok());
    drop(body);
    assert_eq!(counted(&stand), (3 + 100, 0));
    assert_eq!(stand.ends(), [End::Dropped]);
}

#[test]
fn a_panic_below_settles_the_call_too() {
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 100000 } }");
    let upstream = Upstream::new(|| panic!("a bug in the client"));
    let service = stand.around(upstream);
    let call = AssertUnwindSafe(|| support::run(service.oneshot(asking(&json!({})))).is_ok());
    assert!(catch_unwind(call).is_err());
    // Whether it was sent nobody knows: the prompt is charged.
    assert_eq!(counted(&stand), (3, 0));
}

#[test]
fn a_thousand_concurrent_calls_never_reserve_more_than_the_budget_and_leave_nothing_behind() {
    const BUDGET: u64 = 2_000;
    let (stand, _) = limited("{ global: { tokens_per_day: 2000 } }");
    let stand = stand.with(|layer| layer.default_output_tokens(97));
    let within = |stand: &Stand| {
        let (used, reserved) = counted(stand);
        assert!(
            used + reserved <= BUDGET,
            "{used} used, {reserved} reserved"
        );
    };
    std::thread::scope(|scope| {
        for thread in 0..10_u64 {
            let stand = &stand;
            scope.spawn(move || {
                for n in 0..100_u64 {
                    let service = stand.around(Upstream::new(move || match n % 5 {
                        0 => Err("gone".into()),
                        1 => panic!("a bug in the client"),
                        _ => {
                            let text = chat::text("hello") + &chat::usage(n % 7 + 1);
                            let steps = [Step::data(text), Step::data(chat::DONE)];
                            Ok(answer(200, "text/event-stream", ScriptBody::new(steps)))
                        }
                    }));
                    let ask = asking(&json!({"stream": true}));
                    let call = AssertUnwindSafe(|| support::run(service.oneshot(ask)).ok());
                    let answered = catch_unwind(call).ok().flatten();
                    within(stand);
                    // Some leave without reading.
                    if let Some(answered) = answered
                        && (thread + n) % 3 > 0
                    {
                        support::read(answered);
                    }
                    within(stand);
                }
            });
        }
    });
    let charged: u64 = stand.told().iter().filter_map(|told| told.tokens).sum();
    assert_eq!(counted(&stand), (charged, 0));
    assert!(charged > 0);
}

#[test]
fn a_stream_that_outgrows_its_reservation_takes_more_and_is_cut_when_nothing_is_left() {
    let long = || {
        let events: String = (0..100).map(|_| chat::text(&"y".repeat(30))).collect();
        Upstream::stream(events + &chat::usage(400) + chat::DONE)
    };
    let ask = || asking(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let small = |layer: tower_sekuire::SekuireLayer| layer.default_output_tokens(100);

    // 1,000 tokens of output by estimate: there is room.
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 2000 } }");
    let stand = stand.with(small);
    assert!(stand.call(&long(), ask()).error.is_none());
    assert_eq!(counted(&stand), (400, 0));

    // There is room for 500: what was released fits, and is charged.
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 500 } }");
    let stand = stand.with(small);
    let outcome = stand.call(&long(), ask());
    let violation = outcome.violation().unwrap();
    assert_eq!(violation.rule(), Rule::TokenBudgetExceeded);
    assert!(violation.is_after_the_call());
    let released = outcome.text().matches('y').count() as u64;
    assert!((1_400..1_500).contains(&released), "{released}");
    let (used, reserved) = counted(&stand);
    assert!((used, reserved) >= (480, 0) && used <= 510, "{used}");
    assert_eq!(stand.ends(), [End::Violation]);

    // It may be let go on.
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 500 } }");
    let stand = stand
        .with(small)
        .with(|layer| layer.cut_streams_over_budget(false));
    assert!(stand.call(&long(), ask()).error.is_none());
    assert_eq!(counted(&stand), (400, 0));

    // Also where what it used crosses the limit.
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 300 } }");
    let stand = stand
        .with(small)
        .with(|layer| layer.cut_streams_over_budget(false));
    let outcome = stand.call(&long(), ask());
    assert!(outcome.error.is_none());
    assert!(outcome.text().ends_with(chat::DONE));
    assert_eq!(counted(&stand), (400, 0));
    assert_eq!(
        stand.call(&long(), ask()).rule(),
        Some(Rule::TokenBudgetExceeded)
    );

    // An answer that the provider caps is not cut for being wordy.
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 503 } }");
    let capped =
        json!({"max_tokens": 500, "stream": true, "stream_options": {"include_usage": true}});
    assert!(stand.call(&long(), asking(&capped)).error.is_none());
    // Unless the provider ignores the cap.
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 103 } }");
    let capped =
        json!({"max_tokens": 100, "stream": true, "stream_options": {"include_usage": true}});
    let outcome = stand.call(&long(), asking(&capped));
    assert_eq!(outcome.rule(), Some(Rule::TokenBudgetExceeded));
}

/// What is reserved is at most the limit, however much more the call was expected to use: it ends where that does.
#[test]
fn a_stream_whose_estimate_is_above_the_limit_is_cut_at_the_limit() {
    let ask = || asking(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let long = || {
        let events: String = (0..100).map(|_| chat::text(&"y".repeat(30))).collect();
        Upstream::stream(events + &chat::usage(1_000) + chat::DONE)
    };
    for limits in [
        "{ per_agent: { tokens_per_day: 200 } }",
        // The tightest of several decides.
        "{ per_agent: { tokens_per_hour: 200, tokens_per_day: 100000 } }",
        "{ per_agent: { tokens_per_hour: 200 }, global: { tokens_per_day: 2000 } }",
    ] {
        let (stand, _) = limited(limits);
        let outcome = stand.call(&long(), ask());
        assert_eq!(outcome.rule(), Some(Rule::TokenBudgetExceeded), "{limits}");
        let released = outcome.text().matches('y').count() as u64;
        assert!((500..600).contains(&released), "{limits}: {released}");
        for usage in stand.layer.enforcer().usage() {
            let (used, reserved) = (usage.used(), usage.reserved());
            assert!((180..=210).contains(&used), "{limits}: {used}");
            assert_eq!(reserved, 0, "{limits}");
        }
    }

    // The same in a store.
    let policy = Policy::from_yaml(
        "rate_limits: { global: { tokens_per_minute: 200, tokens_per_day: 9000 } }",
    );
    let store = MemoryStore::new(ManualClock::new());
    let enforcer = PolicyEnforcer::new(policy.unwrap()).limit_store(store);
    let outcome = Stand::from_enforcer(enforcer).call(&long(), ask());
    assert_eq!(outcome.rule(), Some(Rule::TokenBudgetExceeded));
    assert!(outcome.text().matches('y').count() < 600);
}

#[test]
fn a_tokenizer_can_be_plugged_in() {
    struct Words;
    impl EstimateTokens for Words {
        fn prompt_tokens(&self, prompt: &Prompt<'_>) -> u64 {
            assert_eq!(prompt.model, Some("gpt-4o"));
            assert!(prompt.body.starts_with(b"{"));
            prompt.text_bytes + 1_000
        }
        fn output_tokens(&self, text_bytes: u64) -> u64 {
            text_bytes * 2
        }
    }
    let (stand, _) = limited("{ per_agent: { tokens_per_day: 100000 } }");
    let stand = stand.with(|layer| layer.estimate_tokens(Words).default_output_tokens(7));
    assert_eq!(reserved_for(&stand, asking(&json!({}))), 9 + 1_000 + 7);
    let told = json!({"choices": [{"index": 0, "message": {"content": "hello"}}]}).to_string();
    stand.call(&Upstream::json(told), asking(&json!({})));
    assert_eq!(stand.told().last().unwrap().tokens, Some(1_009 + 10));
}

/// What the server got, and what the client got of a stream that ends with a report of usage.
fn streamed(stand: &Stand, body: &str) -> (String, String) {
    let upstream = Upstream::stream(chat::text("hello") + &chat::usage(7) + chat::DONE);
    let mut request = request(body.to_owned());
    request
        .headers_mut()
        .insert("content-digest", "sha-256=:x:".parse().unwrap());
    request
        .headers_mut()
        .insert("content-length", body.len().into());
    let outcome = stand.call(&upstream, request);
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let (head, sent) = upstream.received().remove(0);
    assert_eq!(head.headers["content-length"], sent.len().to_string());
    let as_it_came = sent == body;
    assert_eq!(head.headers.contains_key("content-digest"), as_it_came);
    (String::from_utf8(sent.to_vec()).unwrap(), outcome.text())
}

#[test]
fn a_stream_reports_its_usage_whether_its_client_asks_or_not() {
    let (stand, _) = limited("{ global: { tokens_per_day: 100000 } }");
    let without = chat::text("hello") + chat::DONE;
    let with = chat::text("hello") + &chat::usage(7) + chat::DONE;
    for (asked, sent) in [
        (
            r#"{"model":"m","stream":true,"messages":[]}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[]}"#,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false},"messages":[]}"#,
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#,
        ),
        (
            r#"{"model":"m","stream":true, "stream_options" : {},"messages":[]}"#,
            r#"{"model":"m","stream":true, "stream_options" : {"include_usage":true},"messages":[]}"#,
        ),
    ] {
        assert_eq!(streamed(&stand, asked), (sent.to_owned(), without.clone()));
        assert_eq!(stand.told().last().unwrap().tokens, Some(7));
    }
    let asks =
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    assert_eq!(streamed(&stand, asks), (asks.to_owned(), with.clone()));

    // Nothing is asked where nothing would be charged, or the host would refuse it.
    let plain = r#"{"model":"m","stream":true,"messages":[]}"#;
    let as_it_came = (plain.to_owned(), with);
    let (requests, _) = limited("{ global: { requests_per_day: 100000 } }");
    assert_eq!(streamed(&requests, plain), as_it_came);
    let silent = stand.clone().with(|layer| layer.ask_for_usage(false));
    assert_eq!(streamed(&silent, plain), as_it_came);
    let excluded = stand.with(|layer| layer.no_stream_options(["*.openai.com"]));
    assert_eq!(streamed(&excluded, plain), as_it_came);
}

#[test]
fn only_the_event_that_reports_usage_alone_is_removed() {
    let (stand, _) = limited("{ global: { tokens_per_day: 100000 } }");
    let events = [
        // Azure's first event has no choices, and no usage.
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n".to_owned(),
        chat::text("hello"),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"total_tokens\":9}}\n\n".to_owned(),
        "data: {\"choices\":[],\"error\":{\"message\":\"x\"},\"usage\":{\"total_tokens\":9}}\n\n".to_owned(),
        ": bye\n\n".to_owned(),
        chat::DONE.to_owned(),
    ];
    let removed = "data: {\"choices\":[],\"usage\":{\"total_tokens\":10}}\n\n";
    let upstream = Upstream::stream(events[..4].concat() + removed + &events[4..].concat());
    let outcome = stand.call(&upstream, asking(&json!({"stream": true})));
    assert_eq!(outcome.text(), events.concat());
    assert_eq!(counted(&stand), (10, 0));
}

#[test]
fn a_usage_that_lies_neither_refunds_nor_overflows() {
    for usage in [
        json!({"total_tokens": -5}),
        json!({"total_tokens": 1.5}),
        json!({"total_tokens": "9"}),
        json!({"total_tokens": null}),
        json!({}),
        json!("none"),
    ] {
        let (stand, _) = limited("{ global: { tokens_per_day: 100000 } }");
        let body =
            json!({"choices": [{"index": 0, "message": {"content": "123"}}], "usage": usage});
        stand.call(&Upstream::json(body.to_string()), asking(&json!({})));
        assert_eq!(counted(&stand), (3 + 1, 0), "{usage}");
    }
}

#[test]
fn every_agent_has_its_own_budget_by_extension_or_extractor() {
    let (stand, _) = limited("{ per_agent: { requests_per_minute: 1 } }");
    let upstream = Upstream::json(costing(1));
    let ask = |agent: Option<&'static str>, team: Option<&'static str>| {
        let mut request = request(ASK);
        if let Some(agent) = agent {
            request.extensions_mut().insert(AgentKey::new(agent));
        }
        if let Some(team) = team {
            request
                .headers_mut()
                .insert("x-team", team.parse().unwrap());
        }
        request
    };
    let by_team = stand.clone().with(|layer| {
        layer.agent_key(|head| Some(AgentKey::new(head.headers.get("x-team")?.to_str().ok()?)))
    });
    for (agent, team) in [
        (None, None),
        (Some("a"), None),
        (Some("b"), None),
        (None, Some("red")),
        (Some("a"), Some("blue")),
    ] {
        assert!(
            by_team.call(&upstream, ask(agent, team)).error.is_none(),
            "{agent:?} {team:?}"
        );
        let again = by_team.call(&upstream, ask(agent, team));
        assert_eq!(
            again.rule(),
            Some(Rule::RateLimitExceeded),
            "{agent:?} {team:?}"
        );
    }
    let usage = by_team.layer.usage();
    let agents: Vec<_> = usage.iter().map(|(agent, _)| &**agent).collect();
    let enforcer = by_team.layer.enforcer();
    let own = enforcer.policy().agent();
    let mut expected = vec!["a", "b", "blue", "red", own];
    expected.sort_unstable();
    assert_eq!(agents, expected);
    assert!(
        usage
            .iter()
            .all(|(_, limits)| limits[0].used() == 1 && limits[0].remaining() == 0)
    );

    let long = request(ASK);
    let (mut head, body) = long.into_parts();
    head.extensions.insert(AgentKey::new("x".repeat(257)));
    let outcome = stand.call(&upstream, Request::from_parts(head, body));
    assert_eq!(outcome.rule(), Some(Rule::RequestUnreadable));
}

#[test]
fn answers_say_what_is_left_when_asked_to() {
    let limits = "{ per_agent: { requests_per_minute: 10, requests_per_day: 2000, tokens_per_hour: 100000 } }";
    let (stand, _) = limited(limits);
    let upstream = || {
        Upstream::new(|| {
            let mut answer = answer(
                200,
                "application/json",
                ScriptBody::new([Step::data(costing(5))]),
            );
            let headers = answer.headers_mut();
            headers.insert("x-ratelimit-remaining-requests", "777".parse().unwrap());
            Ok(answer)
        })
    };
    let silent = stand.call(&upstream(), asking(&json!({"max_tokens": 10})));
    assert_eq!(
        silent.head.unwrap().headers["x-ratelimit-remaining-requests"],
        "777"
    );
    let stand = stand.with(|layer| layer.rate_limit_headers(true));
    let stated = stand.call(&upstream(), asking(&json!({"max_tokens": 10})));
    let headers = stated.head.unwrap().headers;
    for (name, value) in [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "8"),
        ("x-ratelimit-reset-requests", "1m0s"),
        ("x-ratelimit-limit-tokens", "100000"),
        // What the first used, and what the second reserved.
        ("x-ratelimit-remaining-tokens", "99982"),
        ("x-ratelimit-reset-tokens", "1h0m0s"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

const RESPONSES: &str = "https://api.openai.com/v1/responses";

fn run(status: &str, usage: &Value) -> Upstream {
    let run = json!({"id": "resp_1", "object": "response", "status": status, "output": [], "usage": usage});
    Upstream::json(run.to_string())
}

fn read_run(path: &str, method: &str) -> Request<Full<Bytes>> {
    let mut request = request_to(&format!("{RESPONSES}/{path}"), "");
    *request.method_mut() = method.parse().unwrap();
    request
}

#[test]
fn a_background_run_is_settled_by_whoever_reads_its_end() {
    let begin = || {
        let body =
            json!({"model": "m", "input": "123456", "background": true, "max_output_tokens": 50});
        request_to(RESPONSES, body.to_string())
    };
    for (path, method) in [
        ("resp_1", "GET"),
        ("resp_1/cancel", "POST"),
        ("resp_1/", "GET"),
    ] {
        let (stand, _) = limited("{ global: { tokens_per_day: 100 } }");
        assert!(
            stand
                .call(&run("queued", &json!(null)), begin())
                .error
                .is_none()
        );
        assert_eq!(counted(&stand), (0, 52), "it runs on");
        let second = stand.call(&run("queued", &json!(null)), begin());
        assert_eq!(second.rule(), Some(Rule::TokenBudgetExceeded));
        for _ in 0..3 {
            let polled = stand.call(&run("in_progress", &json!(null)), read_run(path, method));
            assert!(polled.error.is_none());
            assert_eq!(counted(&stand), (0, 52));
        }
        let usage = json!({"total_tokens": 31});
        assert!(
            stand
                .call(&run("completed", &usage), read_run(path, method))
                .error
                .is_none()
        );
        assert_eq!(counted(&stand), (31, 0));
        assert!(
            stand
                .call(&run("completed", &usage), read_run(path, method))
                .error
                .is_none()
        );
        assert_eq!(counted(&stand), (31, 0), "reading it again costs nothing");
    }
    // A run that somebody else began is read for nothing.
    let (stand, _) = limited("{ global: { tokens_per_day: 100 } }");
    let usage = json!({"total_tokens": 31});
    assert!(
        stand
            .call(&run("completed", &usage), read_run("resp_1", "GET"))
            .error
            .is_none()
    );
    assert_eq!(counted(&stand), (0, 0));
}

#[test]
fn a_background_run_is_settled_by_the_stream_that_shows_its_end() {
    let (stand, _) = limited("{ global: { tokens_per_day: 1000 } }");
    let body =
        json!({"model": "m", "input": "123456", "background": true, "max_output_tokens": 50});
    stand.call(
        &run("queued", &json!(null)),
        request_to(RESPONSES, body.to_string()),
    );
    let delta =
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\",\"sequence_number\":3}\n\n";
    let end = "data: {\"type\":\"response.completed\",\"sequence_number\":4,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[],\"usage\":{\"total_tokens\":20}}}\n\n";
    let resume = || read_run("resp_1?stream=true&starting_after=2", "GET");
    // It breaks off before the run's end.
    stand.call(&Upstream::stream(delta), resume());
    assert_eq!(counted(&stand), (0, 52));
    assert!(
        stand
            .call(&Upstream::stream(delta.to_owned() + end), resume())
            .error
            .is_none()
    );
    assert_eq!(counted(&stand), (20, 0));
}

#[test]
fn a_background_stream_that_is_left_costs_all_that_was_reserved() {
    let (stand, _) = limited("{ global: { tokens_per_day: 1000 } }");
    let body = json!({"model": "m", "input": "123456", "background": true, "stream": true, "max_output_tokens": 50});
    let created = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"queued\"}}\n\n";
    let service = stand.around(Upstream::stream(created));
    let response = support::run(service.oneshot(request_to(RESPONSES, body.to_string()))).unwrap();
    drop(response);
    assert_eq!(counted(&stand), (52, 0));
}

/// A store that says yes, no or nothing, and remembers.
mod shared {
    use super::*;
    use tower_sekuire::{
        Ask, Counted, Lease, LimitStore, MemoryStore, Mode, SekuireLayer, StoreFuture, StoreRefusal,
    };

    fn with_store(limits: &str, store: impl LimitStore) -> Stand {
        let policy = Policy::from_yaml(&format!("rate_limits: {limits}")).unwrap();
        Stand::from_enforcer(PolicyEnforcer::new(policy).limit_store(store))
    }

    fn used(store: &MemoryStore, key: &str) -> (u64, u64) {
        let mut asks = Vec::new();
        // A store's windows are known by their keys alone.
        let recorder = Recorder::default();
        let stand = with_store(LIMITS, recorder.clone());
        let _ = stand.call(&Upstream::json(costing(1)), asking(&json!({})));
        asks.extend(recorder.asks().into_iter().filter(|ask| ask.key == key));
        assert_eq!(asks.len(), 1, "{key}");
        let counted = store.usage_now(&asks)[0];
        (counted.used, counted.reserved)
    }

    const LIMITS: &str =
        "{ per_agent: { requests_per_minute: 3 }, global: { tokens_per_day: 100 } }";
    const TOKENS: &str = "tokens:86400:global";

    #[derive(Clone, Debug, Default)]
    struct Recorder(std::sync::Arc<std::sync::Mutex<Vec<Ask>>>);

    impl Recorder {
        fn asks(&self) -> Vec<Ask> {
            self.0.lock().unwrap().clone()
        }
    }

    impl LimitStore for Recorder {
        fn reserve(&self, asks: Vec<Ask>, _: bool) -> StoreFuture<Result<Lease, StoreRefusal>> {
            self.0.lock().unwrap().extend(asks);
            let waits = tokio::task::yield_now();
            Box::pin(async move {
                waits.await;
                Err(StoreRefusal::Unavailable)
            })
        }
        fn extend(&self, _: &Lease, _: u64) {}
        fn settle(&self, _: &Lease, _: u64) {}
        fn usage(&self, _: Vec<Ask>) -> StoreFuture<Result<Vec<Counted>, StoreRefusal>> {
            Box::pin(std::future::ready(Err(StoreRefusal::Unavailable)))
        }
    }

    #[test]
    fn several_layers_share_one_budget() {
        let store = MemoryStore::default();
        let (one, other) = (
            with_store(LIMITS, store.clone()),
            with_store(LIMITS, store.clone()),
        );
        let upstream = Upstream::json(costing(20));
        let ask = || asking(&json!({"max_tokens": 30}));
        assert!(one.call(&upstream, ask()).error.is_none());
        assert_eq!(used(&store, TOKENS), (20, 0));
        let in_flight = support::run(
            other
                .around(Upstream::stream(
                    chat::text("hi") + &chat::usage(5) + chat::DONE,
                ))
                .oneshot(ask()),
        )
        .unwrap();
        assert_eq!(used(&store, TOKENS), (20, 33));
        let refused = one.call(&upstream, asking(&json!({"max_tokens": 60})));
        let violation = refused.violation().unwrap();
        assert_eq!(
            violation.message(),
            "Token budget exceeded: 100 tokens per day"
        );
        assert!(violation.retry_after().is_some());
        assert!(support::read(in_flight).error.is_none());
        assert_eq!(used(&store, TOKENS), (25, 0));
        assert!(other.call(&upstream, ask()).error.is_none());
        let refused = one.call(&upstream, ask());
        assert_eq!(refused.rule(), Some(Rule::RateLimitExceeded));
        assert_eq!(upstream.calls(), 2);
    }

    #[test]
    fn a_store_that_does_not_answer_refuses_and_in_warn_mode_does_not() {
        let stand = with_store(LIMITS, Recorder::default());
        let upstream = Upstream::json(costing(20));
        let outcome = stand.call(&upstream, asking(&json!({})));
        let violation = outcome.violation().unwrap();
        assert_eq!(violation.rule(), Rule::RateLimitExceeded);
        assert_eq!(violation.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(upstream.calls(), 0);

        let policy = Policy::from_yaml(&format!("rate_limits: {LIMITS}")).unwrap();
        let enforcer = PolicyEnforcer::new(policy).mode(Mode::Warn);
        let stand = Stand::from_enforcer(enforcer.limit_store(Recorder::default()));
        assert!(stand.call(&upstream, asking(&json!({}))).error.is_none());
        assert_eq!(upstream.calls(), 1);
    }

    #[test]
    fn what_is_not_enforced_is_counted_all_the_same() {
        let store = MemoryStore::default();
        let policy = Policy::from_yaml(&format!("rate_limits: {LIMITS}")).unwrap();
        let enforcer = PolicyEnforcer::new(policy).mode(Mode::Audit);
        let stand = Stand::from_enforcer(enforcer.limit_store(store.clone()));
        for _ in 0..5 {
            let upstream = Upstream::json(costing(50));
            assert!(stand.call(&upstream, asking(&json!({}))).error.is_none());
        }
        assert_eq!(used(&store, TOKENS), (250, 0));
        let told = stand.told();
        let over = told.iter().filter(|told| told.rule.is_some()).count();
        assert!(over >= 3, "{told:?}");
    }

    #[test]
    fn a_stream_asks_its_store_for_more_ahead_of_need_and_is_cut_when_that_says_no() {
        let long = || {
            let events: Vec<_> = (0..100)
                .map(|_| Step::data(chat::text(&"y".repeat(30))))
                .collect();
            Upstream::steps(200, "text/event-stream", events)
        };
        let ask = || asking(&json!({"stream": true}));
        let small = |layer: SekuireLayer| layer.default_output_tokens(100);
        let store = MemoryStore::default();
        let roomy = with_store("{ global: { tokens_per_day: 5000 } }", store.clone()).with(small);
        assert!(roomy.call(&long(), ask()).error.is_none());
        assert_eq!(
            used(&store, TOKENS),
            (1_003, 0),
            "the estimate, as none was reported"
        );

        let store = MemoryStore::default();
        let limits = "{ per_agent: { tokens_per_hour: 5000 }, global: { tokens_per_day: 500 } }";
        let tight = with_store(limits, store.clone()).with(small);
        let outcome = tight.call(&long(), ask());
        assert_eq!(
            outcome.violation().unwrap().message(),
            "Token budget exceeded: 500 tokens per day"
        );
        let (used, reserved) = used(&store, TOKENS);
        assert!((480..=510).contains(&used) && reserved == 0, "{used}");
    }

    #[test]
    fn a_call_that_fails_or_panics_leaves_nothing_reserved_in_its_store() {
        let store = MemoryStore::default();
        let stand = with_store("{ global: { tokens_per_day: 5000 } }", store.clone());
        let broken = Upstream::new(|| Err("connection refused".into()));
        assert!(stand.call(&broken, asking(&json!({}))).error.is_some());
        assert_eq!(used(&store, TOKENS), (0, 0));
        let service = stand.around(Upstream::new(|| panic!("a bug in the client")));
        let call = AssertUnwindSafe(|| support::run(service.oneshot(asking(&json!({})))).is_ok());
        assert!(catch_unwind(call).is_err());
        assert_eq!(used(&store, TOKENS), (3, 0));
    }
}
