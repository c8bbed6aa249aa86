//! What inspection allocates, counted per call and per event: the memory of a stream must not grow with its events.
//!
//! The figures are those of the layer alone: a call through it, request included, less the same call to the service
//! without it.

#![cfg(test)]

#[expect(dead_code, reason = "the benches use the rest")]
#[path = "../benches/corpus/mod.rs"]
mod corpus;
#[path = "../benches/drive/mod.rs"]
mod drive;

use allocation_counter::measure;

use corpus::Framing;
use drive::{Server, head, length, send};

/// Allocations of one call to this server.
fn allocations<S, B>(service: &mut S, path: &str, request: &bytes::Bytes) -> u64
where
    S: tower_service::Service<
            http::Request<http_body_util::Full<bytes::Bytes>>,
            Response = http::Response<B>,
        >,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Data = bytes::Bytes>,
{
    let head = head(path);
    // What is set up once (windows, searchers, tracing's call sites) is no cost of a call.
    for _ in 0..3 {
        length(send(service, &head, request));
    }
    measure(|| {
        length(send(service, &head, request));
    })
    .count_total
}

/// Allocations that the layer adds to this server's answer to this request.
fn added(server: &Server, path: &str, request: &bytes::Bytes) -> u64 {
    let mut bare = server.clone();
    let governed = allocations(&mut server.governed(), path, request);
    governed - allocations(&mut bare, path, request)
}

/// What a stream of the first `events` events costs.
fn of_stream(corpus: &str, framing: Framing, events: usize) -> u64 {
    let mut exchange = corpus::exchange(corpus).unwrap();
    exchange.pieces.truncate(events);
    let server = Server::new(exchange.content_type, exchange.frames(framing));
    added(&server, exchange.path, &exchange.request)
}

/// Allocations of the events from one place in a stream to another.
fn between(corpus: &str, framing: Framing, from: usize, to: usize) -> u64 {
    of_stream(corpus, framing, to) - of_stream(corpus, framing, from)
}

#[test]
fn steady_text_events_allocate_nothing() {
    for corpus in ["text", "usage", "escaped", "responses"] {
        assert_eq!(between(corpus, Framing::Event, 5, 300), 0, "{corpus}");
    }
}

#[test]
fn steady_text_events_cut_into_small_frames_allocate_nothing() {
    for corpus in ["text", "usage", "escaped"] {
        // One buffer grows to the longest event so far and stays: some events are the longest yet.
        assert!(between(corpus, Framing::Bytes(37), 3, 300) <= 6, "{corpus}");
        assert_eq!(between(corpus, Framing::Bytes(1), 3, 100), 0, "{corpus}");
    }
}

#[test]
fn a_text_stream_allocates_at_most_11_times() {
    for corpus in ["text", "usage", "escaped"] {
        let count = of_stream(corpus, Framing::Event, usize::MAX);
        assert!(count <= 11, "{corpus}: {count}");
    }
}

#[test]
fn frames_of_many_events_allocate_less_than_twice_a_frame() {
    for corpus in ["text", "usage", "escaped"] {
        let exchange = corpus::exchange(corpus).unwrap();
        let frames = exchange.frames(Framing::Bytes(16 * 1024)).len() as u64;
        let count = of_stream(corpus, Framing::Bytes(16 * 1024), usize::MAX);
        assert!(count <= 11 + 2 * frames, "{corpus}: {count}");
    }
}

#[test]
fn argument_deltas_allocate_nothing_once_their_call_was_judged() {
    // The second event names the first call, the third teaches the shape of its deltas, the 53rd names the next.
    assert_eq!(between("tools", Framing::Event, 3, 52), 0);
}

#[test]
fn a_call_in_a_stream_allocates_at_most_14_times() {
    let first = between("tools", Framing::Event, 1, 2);
    let second = between("tools", Framing::Event, 52, 53);
    assert!(first <= 14 && second <= 14, "{first} and {second}");
}

#[test]
fn a_request_allocates_twice() {
    // Beyond collecting the body: the exchange, and a header more (for which the same client rarely has to make room).
    // Names are copied only for somebody who is told of decisions.
    for (name, most) in [("1KB", 2), ("20KB", 2), ("1MB", 2)] {
        let count = added(
            &Server::silent(),
            corpus::CHAT,
            &corpus::request(name).unwrap(),
        );
        assert!(count <= most, "{name}: {count}");
    }
}

#[test]
fn a_json_answer_allocates_for_its_names_and_not_for_its_length() {
    // One call in the first answer, eight in the second: names, ids and call parts are copied.
    for (name, most) in [("json-1k", 2), ("json-20k", 2)] {
        let exchange = corpus::exchange(name).unwrap();
        let server = Server::new(exchange.content_type, exchange.frames(Framing::Event));
        let count = added(&server, exchange.path, &exchange.request);
        assert!(count <= most, "{name}: {count}");
    }
}
