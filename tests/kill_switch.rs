//! Calls that somebody stops: those that begin, those that wait, and streams in the middle.

#![cfg(test)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Full};
use support::{ASK, Stand, Upstream, chat, request};
use tower::util::BoxService;
use tower::{Layer, ServiceExt};
use tower_sekuire::{
    AgentKey, BoxError, End, KillScope, KillSwitch, Mode, Phase, Policy, PolicyEnforcer,
    PolicyViolation, Respond, ResponseBody, Rule, SekuireLayer, Verdict,
};

const POLICY: &str = "
agent: { name: writer, toolsets: { allowed_tools: [search] } }
rate_limits: { global: { tokens_per_day: 100000 } }
";
const TO_GPT_4O: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const SAID: &str =
    r#"{"choices":[{"index":0,"message":{"content":"hello"}}],"usage":{"total_tokens":40}}"#;
const MESSAGE: &str = "calls are stopped by the kill switch: it deletes things";

fn enforcer() -> PolicyEnforcer {
    PolicyEnforcer::new(Policy::from_yaml(POLICY).unwrap())
}

fn stand(switch: &KillSwitch) -> Stand {
    Stand::from_enforcer(enforcer()).with(|layer| layer.kill_switch(switch))
}

fn kill(switch: &KillSwitch) {
    switch.kill(KillScope::Everything, "it deletes things");
}

fn agent(name: &str) -> KillScope {
    KillScope::Agent(AgentKey::new(name))
}

fn of(agent: &str) -> Request<Full<Bytes>> {
    let mut request = request(TO_GPT_4O);
    request.extensions_mut().insert(AgentKey::new(agent));
    request
}

fn message(error: &BoxError) -> String {
    let violation = PolicyViolation::find(&**error).expect("a violation");
    assert_eq!(violation.rule(), Rule::KillSwitch);
    violation.message().to_owned()
}

type Governed = BoxService<Request<Full<Bytes>>, Response<ResponseBody<Channel<Bytes>>>, BoxError>;

/// A layer over a service that answers once, with a body that the test writes.
fn written(layer: &SekuireLayer, content_type: &'static str) -> (Sender<Bytes>, Governed) {
    let (sender, body) = Channel::<Bytes>::new(16);
    let body = Arc::new(Mutex::new(Some(body)));
    let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let body = body.lock().unwrap().take().unwrap();
        let response = Response::builder().header("content-type", content_type);
        std::future::ready(Ok::<_, BoxError>(response.body(body).unwrap()))
    });
    (sender, BoxService::new(layer.layer(service)))
}

/// Until nothing is there to take what is sent.
async fn is_dropped(sender: &mut Sender<Bytes>) -> bool {
    sender
        .send_data(Bytes::from_static(b":\n\n"))
        .await
        .is_err()
}

#[test]
fn no_call_leaves_while_everything_is_stopped() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let upstream = Upstream::json(SAID);
    kill(&switch);
    let refused = stand.call(&upstream, request(TO_GPT_4O));
    assert_eq!(message(&refused.error.unwrap()), MESSAGE);
    assert_eq!(upstream.calls(), 0);
    let told = stand.told();
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].phase, told[0].verdict, told[0].rule),
        (Phase::Request, Verdict::Refused, Some(Rule::KillSwitch))
    );
    // A refused call costs nothing.
    assert_eq!(stand.layer.enforcer().usage()[0].used(), 0);

    assert!(switch.restore(&KillScope::Everything));
    assert!(!switch.restore(&KillScope::Everything));
    assert!(stand.call(&upstream, request(TO_GPT_4O)).error.is_none());
    assert_eq!(upstream.calls(), 1);
}

#[test]
fn it_stops_in_every_mode_and_what_passes_unread_too() {
    for mode in [Mode::Block, Mode::Warn, Mode::Audit] {
        let switch = KillSwitch::new();
        let stand = Stand::from_enforcer(enforcer().mode(mode))
            .with(|layer| layer.kill_switch(&switch).open_endpoint("POST /batches"));
        let upstream = Upstream::json(SAID);
        kill(&switch);
        let refused = stand.call(&upstream, request(TO_GPT_4O));
        assert_eq!(refused.rule(), Some(Rule::KillSwitch), "{mode:?}");
        for (method, url) in [
            ("GET", "https://api.openai.com/v1/models"),
            ("POST", "https://api.openai.com/v1/batches"),
        ] {
            let request = Request::builder().method(method).uri(url);
            let request = request.body(Full::default()).unwrap();
            let refused = stand.call(&upstream, request);
            assert_eq!(refused.rule(), Some(Rule::KillSwitch), "{mode:?} {url}");
        }
        assert_eq!(upstream.calls(), 0);
        assert!(
            stand
                .told()
                .iter()
                .all(|told| told.verdict == Verdict::Refused)
        );
    }
}

#[test]
fn one_agent_is_stopped_by_its_key_or_by_its_policy_s_name() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let upstream = Upstream::json(SAID);
    let rule = |request| stand.call(&upstream, request).rule();

    switch.kill(agent("alice"), "");
    assert_eq!(rule(of("alice")), Some(Rule::KillSwitch));
    assert_eq!(rule(of("bob")), None);
    assert_eq!(rule(request(TO_GPT_4O)), None);

    switch.kill(agent("writer"), "");
    assert_eq!(rule(of("bob")), Some(Rule::KillSwitch));
    assert_eq!(rule(request(TO_GPT_4O)), Some(Rule::KillSwitch));

    // Each scope is restored by itself.
    kill(&switch);
    assert!(switch.restore(&KillScope::Everything));
    assert_eq!(rule(of("bob")), Some(Rule::KillSwitch));
    assert!(switch.restore(&agent("writer")));
    assert_eq!(rule(of("bob")), None);
    assert_eq!(rule(of("alice")), Some(Rule::KillSwitch));
    assert_eq!(switch.killed(), [(agent("alice"), String::new())]);

    let refused = stand.call(&upstream, of("alice"));
    let refused = refused.error.unwrap();
    let violation = PolicyViolation::find(&*refused).unwrap();
    assert_eq!(
        violation.to_string(),
        "[kill_switch] calls of agent alice are stopped by the kill switch"
    );
    assert_eq!(violation.value(), Some("alice"));
}

#[test]
fn a_reason_is_told_escaped_and_cut() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    switch.kill(
        KillScope::Everything,
        format!("a\r\nb{}", "x".repeat(10_000)),
    );
    let refused = stand.call(&Upstream::json(SAID), request(TO_GPT_4O));
    let message = message(&refused.error.unwrap());
    assert!(
        message.contains("a\\u{d}\\u{a}bxxx") && message.len() < 300,
        "{message}"
    );
}

#[tokio::test]
async fn a_stream_in_the_middle_ends_with_an_error_and_lets_its_server_go() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let (mut sender, service) = written(&stand.layer, "text/event-stream");
    let mut body = service.oneshot(request(ASK)).await.unwrap().into_body();
    sender.send_data(chat::text("hello").into()).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    // It waits for more, on a task of its own: only the switch can wake it.
    let reader = tokio::spawn(async move {
        let error = body.frame().await.unwrap().unwrap_err();
        (error, body.frame().await.is_none())
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!reader.is_finished());
    kill(&switch);
    let (error, has_ended) = reader.await.unwrap();
    assert_eq!((message(&error).as_str(), has_ended), (MESSAGE, true));
    assert!(is_dropped(&mut sender).await);
    // What was seen of it is paid, and nothing stays reserved.
    let usage = &stand.layer.enforcer().usage()[0];
    assert_eq!((usage.reserved(), usage.used() > 0), (0, true));
    let last = stand.told().pop().unwrap();
    assert_eq!(
        (last.end, last.rule),
        (Some(End::Violation), Some(Rule::KillSwitch))
    );
}

#[tokio::test]
async fn nothing_that_was_judged_and_not_fetched_leaves_afterwards() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let (mut sender, service) = written(&stand.layer, "text/event-stream");
    let mut body = service.oneshot(request(ASK)).await.unwrap().into_body();
    for text in ["one", "two", "three"] {
        sender.send_data(chat::text(text).into()).await.unwrap();
    }
    assert!(body.frame().await.unwrap().is_ok());
    kill(&switch);
    assert_eq!(message(&body.frame().await.unwrap().unwrap_err()), MESSAGE);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_stream_ends_with_an_event_where_violations_are_answers() {
    let switch = KillSwitch::new();
    let stand = stand(&switch).with(|layer| layer.respond(Respond::OpenAi));
    let (mut sender, service) = written(&stand.layer, "text/event-stream");
    let mut body = service.oneshot(request(ASK)).await.unwrap().into_body();
    sender.send_data(chat::text("hello").into()).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    kill(&switch);
    let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(
        std::str::from_utf8(&last).unwrap(),
        format!(
            "data: {{\"error\":{{\"code\":\"kill_switch\",\"message\":\"{MESSAGE}\",\"param\":null,\"type\":\"policy_violation\"}}}}\n\n"
        )
    );
    assert!(body.frame().await.is_none());

    let refused = stand.call(&Upstream::json(SAID), request(TO_GPT_4O));
    assert_eq!(refused.head.unwrap().status, 403);
}

#[tokio::test]
async fn streams_that_are_only_watched_or_not_read_end_too() {
    for (mode, url) in [
        (Mode::Audit, support::URL),
        (Mode::Block, "https://api.openai.com/v1/batches"),
    ] {
        let switch = KillSwitch::new();
        let stand = Stand::from_enforcer(enforcer().mode(mode))
            .with(|layer| layer.kill_switch(&switch).open_endpoint("POST /batches"));
        let (mut sender, service) = written(&stand.layer, "text/event-stream");
        let mut request = request(ASK);
        *request.uri_mut() = url.parse().unwrap();
        let mut body = service.oneshot(request).await.unwrap().into_body();
        sender.send_data(chat::text("hello").into()).await.unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        let reader = tokio::spawn(async move { body.frame().await.unwrap().unwrap_err() });
        tokio::task::yield_now().await;
        kill(&switch);
        assert_eq!(message(&reader.await.unwrap()), MESSAGE, "{mode:?}");
        assert!(is_dropped(&mut sender).await);
    }
}

#[tokio::test]
async fn another_agent_s_stream_goes_on() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let (mut sender, service) = written(&stand.layer, "text/event-stream");
    let mut request = request(ASK);
    request.extensions_mut().insert(AgentKey::new("bob"));
    let mut body = service.oneshot(request).await.unwrap().into_body();
    let reader = tokio::spawn(async move {
        let first = body.frame().await.unwrap().is_ok();
        (first, body.frame().await.unwrap().unwrap_err())
    });
    tokio::task::yield_now().await;
    switch.kill(agent("alice"), "");
    // The switch woke it for nothing; it must find it again.
    tokio::task::yield_now().await;
    sender.send_data(chat::text("hello").into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!reader.is_finished());
    switch.kill(agent("bob"), "");
    let (first, error) = reader.await.unwrap();
    assert!(first);
    assert_eq!(
        message(&error),
        "calls of agent bob are stopped by the kill switch"
    );
}

#[tokio::test]
async fn a_call_that_waits_for_its_server_is_given_up() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counted = dropped.clone();
    let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let counts = Counts(counted.clone());
        async move {
            let _counts = counts;
            std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>().await
        }
    });
    let call = tokio::spawn(stand.layer.layer(service).oneshot(request(TO_GPT_4O)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    kill(&switch);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(message(&error), MESSAGE);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(stand.layer.enforcer().usage()[0].reserved(), 0);
    let last = stand.told().pop().unwrap();
    assert_eq!(
        (last.end, last.rule),
        (Some(End::Violation), Some(Rule::KillSwitch))
    );
}

#[tokio::test]
async fn an_answer_that_is_still_coming_in_is_given_up() {
    let switch = KillSwitch::new();
    let stand = stand(&switch);
    let (mut sender, service) = written(&stand.layer, "application/json");
    let call = tokio::spawn(service.oneshot(request(TO_GPT_4O)));
    sender
        .send_data(Bytes::from_static(b"{\"choices\":"))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    kill(&switch);
    assert_eq!(message(&call.await.unwrap().unwrap_err()), MESSAGE);
    assert!(is_dropped(&mut sender).await);
}

/// Whenever the switch is thrown while many tasks begin, wait and read: each of them ends, and nothing is left reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_sleeps_through_the_switch() {
    for round in 0..50_u32 {
        let switch = KillSwitch::new();
        let stand = stand(&switch);
        let readers: Vec<_> = (0..40)
            .map(|_| {
                let (mut sender, service) = written(&stand.layer, "text/event-stream");
                tokio::spawn(async move {
                    let Ok(answer) = service.oneshot(request(ASK)).await else {
                        return;
                    };
                    let mut body = answer.into_body();
                    let _ = sender.send_data(chat::text("hello").into()).await;
                    while let Some(frame) = body.frame().await {
                        if let Err(error) = frame {
                            assert_eq!(message(&error), MESSAGE);
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 20)).await;
        kill(&switch);
        for reader in readers {
            let ended = tokio::time::timeout(Duration::from_secs(10), reader).await;
            ended.expect("a call slept on").unwrap();
        }
        assert_eq!(stand.layer.enforcer().usage()[0].reserved(), 0);
    }
}
