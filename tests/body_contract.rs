//! The layer as a tower service and its answers as bodies: readiness, trailers, size hints, wake-ups, drops.

#![cfg(test)]

mod support;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Channel, Full};
use serde_json::json;
use support::{
    ASK, Fate, Outcome, ScriptBody, Stand, Step, URL, Upstream, Wakes, allowing, answer, chat,
    read, request, request_to, run,
};
use tower::{Layer, Service, ServiceExt};
use tower_sekuire::{
    BoxError, End, Mode, Policy, PolicyEnforcer, PolicyViolation, Respond, ResponseBody, Rule,
    SekuireLayer,
};

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

fn stand() -> Stand {
    Stand::new(allowing(&["safe"]))
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().unwrap());
    trailers
}

fn whole() -> String {
    chat::answer(&json!({"content": "hello"}))
}

fn stream() -> String {
    chat::text("a") + &chat::text("b") + chat::DONE
}

/// Sends a request whose answer has this body; the answer, and what becomes of the server's body.
fn send(
    stand: &Stand,
    content_type: &'static str,
    body: ScriptBody,
) -> (
    Result<Response<ResponseBody<ScriptBody>>, BoxError>,
    Arc<Fate>,
) {
    let fate = body.fate();
    let body = Mutex::new(Some(body));
    let upstream = Upstream::new(move || {
        Ok(answer(
            200,
            content_type,
            body.lock().unwrap().take().unwrap(),
        ))
    });
    (run(stand.around(upstream).oneshot(request(ASK))), fate)
}

fn poll_once<B: Body<Data = Bytes> + Unpin>(
    body: &mut B,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn trailers_are_kept() {
    for (content_type, data) in [(JSON, whole()), (SSE, stream())] {
        let body = ScriptBody::new([Step::data(data.clone()), Step::Trailers(trailers())]);
        let (response, _) = send(&stand(), content_type, body);
        let outcome = read(response.unwrap());
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert_eq!(outcome.text(), data);
        assert_eq!(outcome.trailers, Some(trailers()), "{content_type}");
    }
    // An endpoint that isn't read.
    let upstream = Upstream::steps(
        200,
        JSON,
        vec![Step::data("not even JSON"), Step::Trailers(trailers())],
    );
    let mut get = request_to("https://api.openai.com/v1/models", "");
    *get.method_mut() = http::Method::GET;
    let outcome = stand().call(&upstream, get);
    assert_eq!(outcome.text(), "not even JSON");
    assert_eq!(outcome.trailers, Some(trailers()));
}

#[test]
fn trailers_do_not_hide_an_unfinished_event() {
    let body = ScriptBody::new([Step::data("data: {"), Step::Trailers(trailers())]);
    let outcome = read(send(&stand(), SSE, body).0.unwrap());
    assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable));
    assert_eq!(outcome.trailers, None);
}

/// Every way to come to an end, and how the end must be told.
fn endings() -> Vec<(&'static str, &'static str, Vec<Step>, End)> {
    let (text, evil) = (chat::text("a"), chat::opened(0, "evil"));
    let late = chat::arguments(0, "{}") + &chat::opened(0, "safe");
    vec![
        ("a stream", SSE, vec![Step::data(stream())], End::Complete),
        (
            "a stream in pieces",
            SSE,
            vec![
                Step::Pending,
                Step::data(text.get(..9).unwrap().to_owned()),
                Step::Pending,
                Step::data(""),
                Step::data(text.get(9..).unwrap().to_owned()),
                Step::data(chat::DONE),
                Step::Pending,
                Step::Trailers(trailers()),
            ],
            End::Complete,
        ),
        (
            "a stream without its end marker",
            SSE,
            vec![Step::data(text.clone()), Step::Pending],
            End::Complete,
        ),
        (
            "a name after its arguments",
            SSE,
            vec![Step::data(text.clone()), Step::data(late), Step::Pending],
            End::Complete,
        ),
        (
            "a forbidden call",
            SSE,
            vec![
                Step::data(text.clone()),
                Step::data(text.clone() + &evil),
                Step::data(text.clone()),
            ],
            End::Violation,
        ),
        (
            "an unfinished event",
            SSE,
            vec![Step::data(text.clone() + "data: {")],
            End::Violation,
        ),
        (
            "a broken connection",
            SSE,
            vec![Step::data(text + "data: {"), Step::Pending, Step::Fail],
            End::Error,
        ),
        ("no bytes", SSE, vec![], End::Complete),
        ("a document", JSON, vec![Step::data(whole())], End::Complete),
        (
            "a document with trailers",
            JSON,
            vec![Step::data(whole()), Step::Trailers(trailers())],
            End::Complete,
        ),
    ]
}

/// All modes and forms of refusal in which an answer can be read.
fn stands() -> Vec<(&'static str, Stand)> {
    let enforcer = |mode| PolicyEnforcer::new(allowing(&["safe"])).mode(mode);
    vec![
        ("block", stand()),
        (
            "block, as OpenAI",
            stand().with(|layer| layer.respond(Respond::OpenAi)),
        ),
        ("warn", Stand::from_enforcer(enforcer(Mode::Warn))),
        ("audit", Stand::from_enforcer(enforcer(Mode::Audit))),
    ]
}

#[test]
fn hints_are_true_at_every_step_and_nothing_follows_the_end() {
    for (form, stand) in stands() {
        for (name, content_type, steps, _) in endings() {
            for exact in [false, true] {
                let name = format!("{name}, {form}");
                let mut body = ScriptBody::new(steps.clone());
                if exact {
                    body = body.exact();
                }
                let (response, _) = send(&stand, content_type, body);
                let mut body = response.unwrap().into_body();
                // Bytes that came before each question, and the answers.
                let mut hints: Vec<(u64, SizeHint, bool)> = Vec::new();
                let (mut bytes, mut frames, mut failed) = (0, 0, false);
                loop {
                    hints.push((bytes, body.size_hint(), body.is_end_stream()));
                    match poll_once(&mut body) {
                        Poll::Pending => {}
                        Poll::Ready(None) => break,
                        Poll::Ready(Some(Ok(frame))) => {
                            frames += 1;
                            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                            if body.is_end_stream() {
                                assert!(
                                    matches!(poll_once(&mut body), Poll::Ready(None)),
                                    "{name}: it said that it had ended"
                                );
                            }
                        }
                        Poll::Ready(Some(Err(_))) => {
                            failed = true;
                            break;
                        }
                    }
                    assert!(frames < 100, "{name}: no end");
                }
                for (before, hint, ended) in hints {
                    let left = bytes - before;
                    if !failed {
                        assert!(hint.lower() <= left, "{name}: {hint:?}, {left} came");
                    }
                    assert!(
                        hint.upper().is_none_or(|upper| left <= upper),
                        "{name}: {hint:?}, {left} came"
                    );
                    assert!(!ended || (left == 0 && !failed), "{name}: ended too early");
                }
                for _ in 0..3 {
                    assert!(body.is_end_stream(), "{name}");
                    assert_eq!(body.size_hint().exact(), Some(0), "{name}");
                    assert!(matches!(poll_once(&mut body), Poll::Ready(None)), "{name}");
                }
            }
        }
    }
}

#[test]
fn the_servers_body_is_dropped_as_soon_as_nothing_more_is_wanted_from_it() {
    for (name, content_type, steps, _) in endings() {
        let (response, fate) = send(&stand(), content_type, ScriptBody::new(steps));
        let mut body = response.unwrap().into_body();
        loop {
            match poll_once(&mut body) {
                Poll::Ready(None | Some(Err(_))) => break,
                Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            }
        }
        // The answer's body is still held by the client.
        assert!(fate.is_dropped(), "{name}");
    }
    // A violation ends it even before what was released ahead of it has been taken.
    let frame = chat::text("a") + &chat::opened(0, "evil");
    let body = ScriptBody::new([Step::data(frame), Step::data(chat::text("b"))]);
    let (response, fate) = send(&stand(), SSE, body);
    let mut body = response.unwrap().into_body();
    let Poll::Ready(Some(Ok(frame))) = poll_once(&mut body) else {
        panic!("the allowed event leaves in the poll in which it came");
    };
    assert_eq!(frame.into_data().unwrap(), chat::text("a"));
    assert!(fate.is_dropped());
    assert_eq!(fate.polls(), 1);
    let Poll::Ready(Some(Err(error))) = poll_once(&mut body) else {
        panic!("then comes the error");
    };
    let violation = PolicyViolation::find(&*error).unwrap();
    assert_eq!(violation.rule(), Rule::ToolNotAllowed);

    let evil = chat::answer(&json!({"tool_calls": [{"function": {"name": "evil"}}]}));
    let (response, fate) = send(&stand(), JSON, ScriptBody::new([Step::data(evil)]));
    assert!(response.is_err());
    assert!(fate.is_dropped());
}

#[test]
fn a_body_dropped_at_any_poll_is_settled_and_told_exactly_once() {
    for (form, stand) in stands() {
        for (name, content_type, steps, end) in endings() {
            let mut last = None;
            for polls in 0..12 {
                let before = stand.used();
                stand.told();
                let (response, fate) = send(&stand, content_type, ScriptBody::new(steps.clone()));
                let mut body = response.unwrap().into_body();
                for _ in 0..polls {
                    let _ = poll_once(&mut body);
                }
                drop(body);
                let name = format!("{name}, {form}, dropped after {polls} polls");
                assert!(fate.is_dropped(), "{name}");
                let ends = stand.ends();
                assert_eq!(ends.len(), 1, "{name}: {ends:?}");
                let told = ends[0];
                let expected = if form.starts_with("block") {
                    end
                } else {
                    last_in_observed(end)
                };
                assert!(told == End::Dropped || told == expected, "{name}: {told:?}");
                assert!(stand.used() > before, "{name}: nothing was charged");
                last = Some((told, expected));
            }
            let (told, expected) = last.unwrap();
            assert_eq!(told, expected, "{name}, {form}: the end was reached");
        }
    }
}

/// Where nothing is refused, an answer with a violation in it comes to its end.
fn last_in_observed(end: End) -> End {
    match end {
        End::Violation => End::Complete,
        end => end,
    }
}

/// A service whose answer never comes, until it is told to.
#[derive(Clone, Default)]
struct Silent {
    calls: Arc<Mutex<u32>>,
}

impl Service<Request<Full<Bytes>>> for Silent {
    type Response = Response<ScriptBody>;
    type Error = BoxError;
    type Future = std::future::Pending<Result<Response<ScriptBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        *self.calls.lock().unwrap() += 1;
        std::future::pending()
    }
}

#[test]
fn a_call_dropped_before_it_was_sent_costs_nothing_and_one_dropped_later_costs_a_request() {
    let policy = "rate_limits: { per_agent: { requests_per_minute: 5, tokens_per_day: 1000000 } }";
    let stand = Stand::yaml(policy);
    let used = || {
        let usage = stand.layer.enforcer().usage();
        (usage[0].used(), usage[1].used())
    };
    let silent = Silent::default();
    let mut governed = stand.around(silent.clone());
    drop(governed.call(request(ASK)));
    assert_eq!((used(), *silent.calls.lock().unwrap()), ((0, 0), 0));
    assert!(stand.told().is_empty());

    let mut future = Box::pin(governed.call(request(ASK)));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    drop(future);
    assert_eq!(*silent.calls.lock().unwrap(), 1);
    assert_eq!(stand.ends(), [End::Dropped]);
    let (requests, tokens) = used();
    assert_eq!(requests, 1);
    assert!(tokens > 0, "a call that was sent may have run a model");
}

#[test]
fn a_call_that_failed_below_is_told_and_costs_a_request_but_no_tokens() {
    let policy = "rate_limits: { per_agent: { requests_per_minute: 5, tokens_per_day: 1000000 } }";
    let stand = Stand::yaml(policy);
    let outcome = stand.call(&Upstream::new(|| Err("no route".into())), request(ASK));
    assert_eq!(outcome.error.unwrap().to_string(), "no route");
    assert_eq!(stand.ends(), [End::Error]);
    let usage = stand.layer.enforcer().usage();
    assert_eq!((usage[0].used(), usage[1].used()), (1, 0));
}

#[test]
fn a_task_is_woken_when_more_comes() {
    let (mut sender, channel) = Channel::<Bytes, BoxError>::new(8);
    let channel = Arc::new(Mutex::new(Some(channel)));
    let server = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let response = answer(200, SSE, channel.lock().unwrap().take().unwrap());
        async { Ok::<_, BoxError>(response) }
    });
    let response = run(stand().around(server).oneshot(request(ASK))).unwrap();
    let mut body = response.into_body();
    let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut poll = |wakes: &Arc<Wakes>| {
        let waker = Waker::from(wakes.clone());
        Pin::new(&mut body).poll_frame(&mut Context::from_waker(&waker))
    };
    let event = chat::text("a");
    assert!(poll(&first).is_pending());
    run(sender.send_data(Bytes::from(event.get(..5).unwrap().to_owned()))).unwrap();
    assert_eq!(first.count(), 1);
    // Half an event: taken in, nothing to release. The task may have moved to another waker by now.
    assert!(poll(&second).is_pending());
    run(sender.send_data(Bytes::from(event.get(5..).unwrap().to_owned()))).unwrap();
    assert_eq!((first.count(), second.count()), (1, 1));
    let Poll::Ready(Some(Ok(frame))) = poll(&second) else {
        panic!("an event leaves in the poll in which its last byte came");
    };
    assert_eq!(frame.into_data().unwrap(), event);
    assert!(poll(&first).is_pending());
    drop(sender);
    assert!(first.count() > 1);
    assert!(matches!(poll(&first), Poll::Ready(None)));
}

/// A body that never ends, never waits and never says anything.
struct Hollow;

impl Body for Hollow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
    }
}

impl From<Bytes> for Hollow {
    fn from(_: Bytes) -> Self {
        Self
    }
}

#[test]
fn an_endless_row_of_empty_frames_leaves_the_thread_to_others() {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let server = |content_type: &'static str| {
        tower::service_fn(move |_: Request<Full<Bytes>>| async move {
            Ok::<_, BoxError>(answer(200, content_type, Hollow))
        })
    };
    // A streamed answer.
    let response = run(stand().around(server(SSE)).oneshot(request(ASK))).unwrap();
    let mut body = response.into_body();
    for polls in 1..5 {
        assert!(Pin::new(&mut body).poll_frame(&mut context).is_pending());
        assert_eq!(wakes.count(), polls, "it must come back by itself");
    }
    // An answer that is collected.
    let mut call = Box::pin(stand().around(server(JSON)).oneshot(request(ASK)));
    for polls in 5..9 {
        assert!(call.as_mut().poll(&mut context).is_pending());
        assert_eq!(wakes.count(), polls);
    }
    // A request that is collected.
    let server = tower::service_fn(|_: Request<Hollow>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let request = Request::post(URL)
        .header("content-type", JSON)
        .body(Hollow)
        .unwrap();
    let mut call = Box::pin(stand().around(server).oneshot(request));
    for polls in 9..13 {
        assert!(call.as_mut().poll(&mut context).is_pending());
        assert_eq!(wakes.count(), polls);
    }
}

#[test]
fn bytes_that_need_no_change_are_not_copied() {
    for (content_type, data) in [(JSON, whole()), (SSE, stream())] {
        let data = Bytes::from(data);
        let body = ScriptBody::new([Step::Data(data.clone())]);
        let (response, _) = send(&stand(), content_type, body);
        let mut body = response.unwrap().into_body();
        let Poll::Ready(Some(Ok(frame))) = poll_once(&mut body) else {
            panic!("it is there");
        };
        let frame = frame.into_data().unwrap();
        assert_eq!(frame.as_ptr(), data.as_ptr(), "{content_type}");
        assert_eq!(frame.len(), data.len(), "{content_type}");
    }
}

#[test]
fn a_request_in_one_piece_is_not_copied() {
    let asked = Bytes::from(ASK);
    let upstream = Upstream::json(whole());
    stand().call(&upstream, request(asked.clone()));
    assert_eq!(upstream.received()[0].1.as_ptr(), asked.as_ptr());
}

/// A body that nobody may look into.
struct Sealed;

impl Body for Sealed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        panic!("the body of a request that isn't read was polled");
    }
}

impl From<Bytes> for Sealed {
    fn from(_: Bytes) -> Self {
        panic!("the body of a request that isn't read was replaced");
    }
}

#[test]
fn a_body_that_need_not_be_read_is_passed_on_as_it_came() {
    let server = tower::service_fn(|request: Request<Sealed>| async move {
        let Sealed = request.into_body();
        Ok::<_, BoxError>(Response::new(Full::new(Bytes::from_static(b"\x1f\x8b"))))
    });
    let mut request = Request::get("https://api.openai.com/v1/models")
        .body(Sealed)
        .unwrap();
    let accepts = "gzip".parse().unwrap();
    request.headers_mut().insert("accept-encoding", accepts);
    let response = run(stand().around(server).oneshot(request)).unwrap();
    let body = run(response.into_body().collect()).unwrap().to_bytes();
    assert_eq!(&*body, b"\x1f\x8b");
}

#[test]
fn a_refused_request_reaches_nobody_and_drops_its_body() {
    let server = tower::service_fn(|_: Request<Sealed>| async {
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    let request = Request::post("https://api.openai.com/v1/batches")
        .body(Sealed)
        .unwrap();
    let error = run(stand().around(server).oneshot(request)).unwrap_err();
    let violation = PolicyViolation::find(&*error).unwrap();
    assert_eq!(violation.rule(), Rule::EndpointNotAllowed);
}

/// A service that becomes ready one instance at a time.
struct Picky {
    script: Arc<Mutex<VecDeque<Result<(), &'static str>>>>,
    ready: bool,
}

impl Clone for Picky {
    fn clone(&self) -> Self {
        Self {
            script: self.script.clone(),
            ready: false,
        }
    }
}

impl Service<Request<Full<Bytes>>> for Picky {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.script.lock().unwrap().pop_front() {
            Some(Ok(())) => {
                self.ready = true;
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(error.into())),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        std::future::ready(Ok(answer(200, JSON, Full::from(whole()))))
    }
}

#[test]
fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    let script: Arc<Mutex<VecDeque<_>>> = Arc::default();
    let mut governed = stand().around(Picky {
        script: script.clone(),
        ready: false,
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(governed.poll_ready(&mut context).is_pending());
    script.lock().unwrap().extend([Ok(()), Ok(()), Err("full")]);
    assert!(governed.poll_ready(&mut context).is_ready());
    // Two calls in flight, each by an instance that was ready.
    let first = governed.call(request(ASK));
    assert!(governed.poll_ready(&mut context).is_ready());
    let second = governed.call(request(ASK));
    assert!(run(second).is_ok());
    assert!(run(first).is_ok());
    let Poll::Ready(Err(error)) = governed.poll_ready(&mut context) else {
        panic!("a service that fails says so");
    };
    assert_eq!(error.to_string(), "full");
}

#[test]
fn what_a_panicking_callback_is_told_is_carried_out_all_the_same() {
    let layer = SekuireLayer::new(allowing(&["safe"])).on_decision(|_| panic!("in a callback"));
    let governed = layer.layer(Upstream::stream(chat::opened(0, "evil")));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let response = run(governed.oneshot(request(ASK)));
    let outcome = response.map(read);
    std::panic::set_hook(hook);
    let outcome: Outcome = outcome.unwrap();
    assert_eq!(outcome.rule(), Some(Rule::ToolNotAllowed));
    assert!(outcome.bytes.is_empty());
}

#[test]
fn futures_and_bodies_can_move_between_threads() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    fn sync<T: Sync>(_: &T) {}
    let governed = stand().around(Upstream::json(whole()));
    let future = send(governed.oneshot(request(ASK)));
    let response = run(pin!(future)).unwrap();
    sync(response.body());
    send(response);
}

#[test]
fn a_policy_without_limits_counts_nothing_and_still_tells_the_end() {
    let policy = Policy::from_yaml("agent: { toolsets: { blocked_tools: [evil] } }").unwrap();
    let stand = Stand::new(policy);
    stand.call(&Upstream::stream(stream()), request(ASK));
    assert_eq!(stand.ends(), [End::Complete]);
    stand.call(&Upstream::stream(chat::opened(0, "evil")), request(ASK));
    assert_eq!(stand.ends(), [End::Violation]);
}
