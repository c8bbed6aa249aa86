//! A policy that is replaced while calls are under way, and one that each request brings along.

#![cfg(test)]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use support::{ASK, ScriptBody, Stand, Step, Upstream, answer, chat, request};
use tower::{Layer, ServiceExt};
use tower_sekuire::{
    LivePolicy, ManualClock, PerRequest, Policy, PolicyEnforcer, PolicyViolation, RateLimit, Rule,
    SekuireLayer,
};

fn policy(yaml: &str) -> Policy {
    Policy::from_yaml(yaml).unwrap()
}

fn live(yaml: &str) -> (LivePolicy, Stand) {
    let live = LivePolicy::new(PolicyEnforcer::new(policy(yaml)));
    let stand = Stand::around_layer(SekuireLayer::from_source(live.clone()));
    (live, stand)
}

fn json(body: &'static str) -> Upstream {
    Upstream::new(move || {
        let body = ScriptBody::new([Step::data(body)]);
        Ok(answer(200, "application/json", body))
    })
}

const SAID: &str =
    r#"{"choices":[{"index":0,"message":{"content":"hello"}}],"usage":{"total_tokens":40}}"#;

/// Restricts nothing that is asked for here.
const OPEN: &str = "agent: { toolsets: { blocked_tools: [nothing] } }";

const TO_GPT_4O: &str = r#"{"model":"gpt-4o","messages":[]}"#;

fn used(enforcer: &PolicyEnforcer) -> Vec<u64> {
    enforcer
        .usage()
        .iter()
        .map(tower_sekuire::LimitUsage::used)
        .collect()
}

#[test]
fn the_calls_after_a_replacement_are_judged_by_the_new_policy() {
    let (live, stand) = live("agent: { models: { allowed_models: [gpt-4o] } }");
    assert!(stand.call(&json(SAID), request(TO_GPT_4O)).error.is_none());
    live.replace(policy("agent: { models: { blocked_models: [gpt-4o] } }"));
    let refused = stand.call(&json(SAID), request(TO_GPT_4O));
    assert_eq!(refused.rule(), Some(Rule::ModelBlocked));
    let versions: Vec<u64> = stand
        .told()
        .iter()
        .map(|told| told.policy_version)
        .collect();
    assert_eq!(versions, [1, 1, 2]);
}

type Streamed = Response<tower_sekuire::ResponseBody<Channel<Bytes>>>;

/// A layer over a service whose only answer is a stream that the test writes.
fn streaming(
    stand: &Stand,
) -> (
    Sender<Bytes>,
    impl tower::Service<Request<Full<Bytes>>, Response = Streamed, Error = tower_sekuire::BoxError>,
) {
    let (sender, body) = Channel::<Bytes>::new(16);
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let body = body.lock().unwrap().take().unwrap();
        let response = Response::builder()
            .header("content-type", "text/event-stream")
            .body(body);
        std::future::ready(Ok::<_, Infallible>(response.unwrap()))
    });
    (sender, stand.layer.layer(service))
}

#[tokio::test]
async fn a_stream_ends_by_the_policy_under_which_it_began() {
    let (live, stand) = live(
        "agent: { toolsets: { allowed_tools: [search] } }\nrate_limits: { global: { tokens_per_day: 100000 } }",
    );
    let (mut sender, service) = streaming(&stand);
    let mut body = service.oneshot(request(ASK)).await.unwrap().into_body();
    sender.send_data(chat::text("hello").into()).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());

    live.replace(policy("agent: { toolsets: { allowed_tools: [other] } }\nrate_limits: { global: { tokens_per_day: 100000 } }"));
    sender
        .send_data(chat::opened(0, "search").into())
        .await
        .unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    sender
        .send_data(chat::opened(1, "other").into())
        .await
        .unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(
        PolicyViolation::find(&*error).unwrap().rule(),
        Rule::ToolNotAllowed
    );

    // What it had reserved is free again, and what it used is charged, where the new policy counts.
    let usage = &stand.layer.enforcer().usage()[0];
    assert_eq!((usage.reserved(), usage.used() > 0), (0, true));
    assert_eq!(stand.told().last().unwrap().policy_version, 1);
}

#[test]
fn what_was_counted_goes_on_counting_under_the_new_maximum() {
    let clock = ManualClock::new();
    let first = policy(
        "
rate_limits:
  per_agent: { requests_per_minute: 3, tokens_per_hour: 100000 }
  per_model: { 'gpt-4*': { requests_per_day: 9 } }
  global: { tokens_per_day: 500000 }
",
    );
    let enforcer = PolicyEnforcer::new(first).clock(clock.clone());
    let stand = Stand::from_enforcer(enforcer.clone());
    for _ in 0..3 {
        assert!(stand.call(&json(SAID), request(TO_GPT_4O)).error.is_none());
    }
    assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_err());
    // In another order, with other maxima, one more and one less.
    let second = enforcer.with_policy(policy(
        "
rate_limits:
  global: { tokens_per_day: 50, requests_per_day: 5 }
  per_model: { 'o*': { requests_per_day: 7 }, 'gpt-4*': { requests_per_day: 4 } }
  per_agent: { requests_per_minute: 5 }
",
    ));
    let counted: Vec<(String, u64)> = second
        .usage()
        .iter()
        .map(|usage| (usage.limit().to_string(), usage.used()))
        .collect();
    let of = |text: &str| {
        counted
            .iter()
            .find(|(limit, _)| limit.contains(text))
            .map(|(_, used)| *used)
    };
    assert_eq!(counted.len(), 5, "{counted:?}");
    assert_eq!(of("50 tokens"), Some(120), "{counted:?}");
    assert_eq!(of("5 requests per day"), Some(0), "{counted:?}");
    assert_eq!(of("5 requests per minute"), Some(3), "{counted:?}");
    let stand = Stand::from_enforcer(second);
    let refused = stand.call(&json(SAID), request(TO_GPT_4O));
    assert_eq!(refused.rule(), Some(Rule::TokenBudgetExceeded));
}

#[test]
fn a_limit_that_is_dropped_and_set_again_begins_anew() {
    let two = "rate_limits: { per_agent: { requests_per_minute: 2 } }";
    let enforcer = PolicyEnforcer::new(policy(two));
    enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
    let enforcer = enforcer.with_policy(policy(OPEN));
    assert!(enforcer.usage().is_empty());
    enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
    let enforcer = enforcer.with_policy(policy(two));
    assert_eq!(used(&enforcer), [0]);
    // And another limit doesn't inherit what a third one counted.
    enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
    let enforcer = enforcer.with_policy(policy(
        "rate_limits: { per_agent: { requests_per_hour: 2 } }",
    ));
    assert_eq!(used(&enforcer), [0]);
}

#[test]
fn two_enforcers_of_one_line_bind_each_other() {
    let old = PolicyEnforcer::new(policy(
        "rate_limits: { per_agent: { requests_per_minute: 4 } }",
    ));
    let new = old.with_policy(policy(
        "rate_limits: { per_agent: { requests_per_minute: 2 } }",
    ));
    old.enforce_rate_limit(RateLimit::Request).unwrap();
    new.enforce_rate_limit(RateLimit::Request).unwrap();
    assert!(new.enforce_rate_limit(RateLimit::Request).is_err());
    assert!(
        old.enforce_rate_limit(RateLimit::Request).is_err(),
        "the stricter holds"
    );
}

#[test]
fn a_status_tells_of_the_policy_in_force() {
    let (live, _) = live(OPEN);
    let status = live.status();
    assert_eq!(
        (
            status.version(),
            status.hash(),
            status.failures(),
            status.last_error()
        ),
        (1, None, 0, None)
    );
    live.replace(policy(OPEN));
    let status = live.status();
    assert_eq!(status.version(), 2);
    assert!(status.age() < Duration::from_secs(60));
}

#[test]
fn each_request_may_bring_its_own_policy() {
    let nobody = PolicyEnforcer::new(policy("permissions: { network: { enabled: false } }"));
    let stand = Stand::around_layer(SekuireLayer::from_source(PerRequest::or(nobody)));
    let one = PolicyEnforcer::new(policy(
        "agent: { name: one, models: { allowed_models: [gpt-4o] } }\nrate_limits: { per_agent: { requests_per_minute: 1 } }",
    ));
    let two = PolicyEnforcer::new(policy(
        "agent: { name: two, models: { allowed_models: [o3] } }",
    ));
    let of = |tenant: &PolicyEnforcer| {
        let mut request = request(TO_GPT_4O);
        request.extensions_mut().insert(tenant.clone());
        request
    };
    assert!(stand.call(&json(SAID), of(&one)).error.is_none());
    assert_eq!(
        stand.call(&json(SAID), of(&one)).rule(),
        Some(Rule::RateLimitExceeded)
    );
    assert_eq!(
        stand.call(&json(SAID), of(&two)).rule(),
        Some(Rule::ModelNotAllowed)
    );
    assert_eq!(
        stand.call(&json(SAID), request(TO_GPT_4O)).rule(),
        Some(Rule::NetworkDisabled)
    );
}

#[test]
fn a_request_s_own_policy_is_nothing_to_a_layer_that_wasn_t_told_to_take_it() {
    let stand = Stand::yaml("agent: { models: { allowed_models: [o3] } }");
    let mut request = request(TO_GPT_4O);
    request
        .extensions_mut()
        .insert(PolicyEnforcer::new(policy(OPEN)));
    assert_eq!(
        stand.call(&json(SAID), request).rule(),
        Some(Rule::ModelNotAllowed)
    );
}

#[derive(Clone, Debug)]
enum Happens {
    Begins { stranger: bool },
    Ends { which: usize, tokens: u64 },
    Replaced { limits: usize },
    Waits { seconds: u64 },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => any::<bool>().prop_map(|stranger| Happens::Begins { stranger }),
        4 => (0_usize..8, 0_u64..80).prop_map(|(which, tokens)| Happens::Ends { which, tokens }),
        2 => (0_usize..LIMITS.len()).prop_map(|limits| Happens::Replaced { limits }),
        1 => (0_u64..90).prop_map(|seconds| Happens::Waits { seconds }),
    ]
}

const LIMITS: [&str; 6] = [
    "{ global: { tokens_per_hour: 400 } }",
    "{ global: { tokens_per_hour: 90 }, per_agent: { requests_per_minute: 4 } }",
    "{ per_agent: { requests_per_minute: 2, tokens_per_hour: 100 } }",
    "{ per_model: { 'gpt-*': { tokens_per_hour: 150 } }, per_agent: { tokens_per_hour: 200 } }",
    "{ per_agent: { tokens_per_day: 1000 }, global: { tokens_per_hour: 50 } }",
    "{}",
];

proptest! {
    /// Whatever is replaced while calls are under way: no reservation outlives its call, and nothing is admitted beyond the
    /// limits that are in force.
    #[test]
    fn no_reservation_outlives_its_call_whatever_is_replaced(story in proptest::collection::vec(happens(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = ManualClock::new();
        let enforcer = PolicyEnforcer::new(policy(&format!("rate_limits: {}", LIMITS[0]))).clock(clock.clone());
        let live = LivePolicy::new(enforcer);
        let stand = Stand::around_layer(SekuireLayer::from_source(live.clone()));
        let mut open: Vec<(Sender<Bytes>, _)> = Vec::new();
        runtime.block_on(async {
            for step in story {
                match step {
                    Happens::Begins { stranger } => {
                        let (sender, service) = streaming(&stand);
                        let before = stand.layer.enforcer().usage();
                        let mut request = request(r#"{"model":"gpt-4o","stream":true,"max_tokens":30,"messages":[]}"#);
                        if stranger {
                            request.extensions_mut().insert(tower_sekuire::AgentKey::new("stranger"));
                        }
                        if let Ok(answer) = service.oneshot(request).await {
                            if !stranger {
                                for usage in &before {
                                    prop_assert!(usage.remaining() > 0, "admitted although {} was full", usage.limit());
                                }
                            }
                            open.push((sender, answer.into_body()));
                        }
                    }
                    Happens::Ends { which, tokens } if !open.is_empty() => {
                        let (mut sender, mut body) = open.swap_remove(which % open.len());
                        sender.send_data(chat::usage(tokens + 2).into()).await.unwrap();
                        sender.send_data(chat::DONE.into()).await.unwrap();
                        drop(sender);
                        while let Some(Ok(_)) = body.frame().await {}
                    }
                    Happens::Ends { .. } => {}
                    Happens::Replaced { limits } => {
                        live.replace(policy(&format!("rate_limits: {}", LIMITS[limits])));
                    }
                    Happens::Waits { seconds } => clock.advance(Duration::from_secs(seconds)),
                }
            }
            open.clear();
            for limits in LIMITS {
                let all = live.current_with(limits);
                for usage in all.usage() {
                    prop_assert_eq!(usage.reserved(), 0, "of {}", usage.limit());
                }
            }
            Ok(())
        })?;
    }
}

trait CurrentWith {
    fn current_with(&self, limits: &str) -> PolicyEnforcer;
}

impl CurrentWith for LivePolicy {
    fn current_with(&self, limits: &str) -> PolicyEnforcer {
        use tower_sekuire::PolicySource;
        self.current()
            .with_policy(policy(&format!("rate_limits: {limits}")))
    }
}
