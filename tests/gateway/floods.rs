//! Answers that are too large, or never end: what is held of them stays within bounds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::support::{
    Answer, BoxError, DONE, Gateway, STREAM_REQUEST, Upstream, boxed, chat, event, text, whole,
};

const MIB: usize = 1 << 20;

/// The cap on events, which the gateway doesn't change.
const EVENT_CAP: usize = 64 * MIB;

/// What a connection holds, the allocator keeps and a busy machine delays, beyond what is held of an event.
const SLACK: usize = 48 * MIB;

/// A policy under which every answer is read, calls of other tools refused and tokens counted.
const POLICY: &str = "
agent:
  toolsets:
    allowed_tools: [safe]
rate_limits:
  per_agent:
    tokens_per_day: 1000000000000
";

/// An answer that is made while it is sent: these pieces, the middle one over and over.
#[derive(Clone)]
struct Flood {
    first: String,
    again: Bytes,
    times: usize,
    last: String,
}

impl Flood {
    fn length(&self) -> usize {
        self.first.len() + self.again.len() * self.times + self.last.len()
    }
}

/// An upstream that answers with a flood, and the number of bytes that it got rid of.
async fn flooding(content_type: &'static str, flood: &Flood) -> (Upstream, Arc<AtomicUsize>) {
    let sent = Arc::<AtomicUsize>::default();
    let (counter, flood) = (Arc::clone(&sent), flood.clone());
    let upstream = Upstream::streaming(move |request| {
        let (counter, flood) = (Arc::clone(&counter), flood.clone());
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let pieces = std::iter::once(Bytes::from(flood.first))
                .chain(std::iter::repeat_n(flood.again, flood.times))
                .chain([Bytes::from(flood.last)])
                .map(move |piece| {
                    counter.fetch_add(piece.len(), Ordering::Relaxed);
                    Ok::<_, BoxError>(Frame::data(piece))
                });
            Response::builder()
                .header("content-type", content_type)
                .body(boxed(StreamBody::new(stream::iter(pieces))))
                .unwrap()
        })
    })
    .await;
    (upstream, sent)
}

async fn ask(gateway: &Gateway) -> (crate::support::Client, Answer) {
    let mut client = gateway.connect().await;
    let answer = client
        .send(chat().body(whole(STREAM_REQUEST)).unwrap())
        .await;
    (client, answer)
}

/// Reads an answer that must be the flood, byte for byte, without holding it.
async fn assert_passes(mut answer: Answer, flood: &Flood) {
    assert_eq!(answer.status(), 200);
    let length = flood.again.len();
    let (head, tail) = (flood.first.len(), flood.length() - flood.last.len());
    let mut at = 0;
    while let Some(piece) = answer.piece().await {
        let mut piece = piece.unwrap();
        while !piece.is_empty() {
            let expected = if at < head {
                &flood.first.as_bytes()[at..]
            } else if at < tail {
                &flood.again[(at - head) % length..]
            } else {
                &flood.last.as_bytes()[at - tail..]
            };
            let part = piece.split_to(expected.len().min(piece.len()));
            assert!(!part.is_empty(), "more came than was sent");
            assert!(expected.starts_with(&part), "other bytes at {at}");
            at += part.len();
        }
    }
    assert_eq!(at, flood.length());
}

/// Reads an answer that must end with a refusal after `released`.
async fn assert_is_cut(mut answer: Answer, released: &str) {
    assert_eq!(answer.status(), 200);
    let mut got = Vec::new();
    while let Some(piece) = answer.piece().await {
        got.extend_from_slice(&piece.unwrap());
        assert!(got.len() < MIB, "what is over the cap was released");
    }
    let got = text(&got);
    let last = got
        .strip_prefix(released)
        .unwrap_or_else(|| panic!("{got}"));
    assert!(last.starts_with("data: {\"error\":"), "{last}");
    assert!(last.contains(r#""code":"response_unreadable""#), "{last}");
}

#[tokio::test]
async fn an_event_that_does_not_end_is_cut_off_at_the_cap_and_no_more_of_it_is_held() {
    let hello = event("hello");
    let opening = event("");
    let opening = opening.split_once("\"},\"finish").unwrap().0;
    let filler = Bytes::from(vec![b'a'; MIB]);
    for (name, begun, times, last) in [
        ("an event of 100 MB", opening, 100, "\"}}]}\n\n"),
        ("a line of 1 GB without an end", "data: ", 1_000, ""),
        ("a comment of 1 GB", ": ", 1_000, ""),
        ("an unknown field of 1 GB", "", 1_000, ""),
    ] {
        let flood = Flood {
            first: format!("{hello}{begun}"),
            again: filler.clone(),
            times,
            last: last.to_owned(),
        };
        let (upstream, sent) = flooding("text/event-stream", &flood).await;
        let gateway = Gateway::start_with(POLICY, &upstream.url(), &[], &[]).await;
        let before = gateway.peak_memory();
        let (_client, answer) = ask(&gateway).await;
        assert_is_cut(answer, &hello).await;
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent > EVENT_CAP, "{name}: cut off after {sent} bytes");
        assert!(
            sent < EVENT_CAP + SLACK,
            "{name}: {sent} bytes were taken in"
        );
        let held = gateway.peak_memory() - before;
        assert!(held < EVENT_CAP + SLACK, "{name}: {held} bytes were held");
    }
}

#[tokio::test]
async fn ten_million_tiny_events_pass_and_none_of_them_is_held() {
    const AT_ONCE: usize = 5_000;
    for (tiny, times) in [
        ("data: {\"choices\":[]}\n\n", 10_000_000),
        // A comment is read line by line, which takes more time than a known event.
        (": keep-alive\n\n", 1_000_000),
    ] {
        let flood = Flood {
            first: event("hello"),
            again: Bytes::from(tiny.repeat(AT_ONCE)),
            times: times / AT_ONCE,
            last: DONE.to_owned(),
        };
        let (upstream, _) = flooding("text/event-stream", &flood).await;
        let gateway = Gateway::start_with(POLICY, &upstream.url(), &[], &[]).await;
        let before = gateway.peak_memory();
        let (_client, answer) = ask(&gateway).await;
        assert_passes(answer, &flood).await;
        let held = gateway.peak_memory() - before;
        assert!(held < SLACK, "{held} bytes were held of {tiny:?}");
    }
}

/// A call whose name has not come.
const NAMELESS: &str = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}}]}\n\n";

#[tokio::test]
async fn what_waits_for_a_calls_name_is_held_up_to_the_cap_and_no_more() {
    let flood = Flood {
        first: event("hello") + NAMELESS,
        again: Bytes::from(event(&"a".repeat(1_000)).repeat(100)),
        times: 10_000,
        last: String::new(),
    };
    let (upstream, sent) = flooding("text/event-stream", &flood).await;
    let gateway = Gateway::start_with(POLICY, &upstream.url(), &[], &[]).await;
    let before = gateway.peak_memory();
    let (_client, answer) = ask(&gateway).await;
    assert_is_cut(answer, &event("hello")).await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < EVENT_CAP + SLACK, "{sent} bytes were taken in");
    let held = gateway.peak_memory() - before;
    assert!(held < EVENT_CAP + SLACK, "{held} bytes were held");
}

#[tokio::test]
async fn what_waits_for_a_calls_name_costs_its_length_however_small_its_pieces_are() {
    let flood = Flood {
        first: event("hello") + NAMELESS,
        again: Bytes::from("\n".repeat(50_000)),
        times: 100,
        last: NAMELESS.replace("\"arguments\":\"{}\"", "\"name\":\"safe\"") + DONE,
    };
    let (upstream, _) = flooding("text/event-stream", &flood).await;
    let gateway = Gateway::start_with(POLICY, &upstream.url(), &[], &[]).await;
    let before = gateway.peak_memory();
    let (_client, answer) = ask(&gateway).await;
    assert_passes(answer, &flood).await;
    let held = gateway.peak_memory() - before;
    assert!(held < SLACK, "{held} bytes were held");
}

#[tokio::test]
async fn what_is_only_watched_is_not_held_beyond_the_caps_either() {
    for (content_type, begun) in [
        ("text/event-stream", "data: "),
        ("application/json", "{\"x\":\""),
    ] {
        let flood = Flood {
            first: begun.to_owned(),
            again: Bytes::from(vec![b'a'; MIB]),
            times: 256,
            last: "\"}\n\n".to_owned(),
        };
        let (upstream, _) = flooding(content_type, &flood).await;
        let gateway = Gateway::start_with(POLICY, &upstream.url(), &["--mode", "audit"], &[]).await;
        let before = gateway.peak_memory();
        let (_client, answer) = ask(&gateway).await;
        assert_passes(answer, &flood).await;
        let held = gateway.peak_memory() - before;
        assert!(
            held < EVENT_CAP + SLACK,
            "{held} bytes were held of {content_type}"
        );
    }
}
