//! What users write today to find tool calls and usage in a stream, each made to count the same.
//!
//! None of them forwards the bytes that it read, holds an event back or refuses duplicate keys at every depth, which
//! is in their favour.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use eventsource_stream::Eventsource;
use futures_util::Stream;
use http_body_util::BodyDataStream;
use serde::Deserialize;
use serde_json::Value;

use super::corpus::{Exchange, Found, TOOLS};
use super::drive::{Frames, drain};

/// A way to read a stream.
pub(crate) type Rival = fn(Frames) -> Found;

pub(crate) const FORWARD: &str = "bare forward";
pub(crate) const SEKUIRE: &str = "sekuire";
pub(crate) const FASTEST_PARSE: &str = "own split + sonic-rs typed";
pub(crate) const USUAL: &str = "eventsource-stream + serde_json typed";

/// The full parses by name.
pub(crate) const RIVALS: [(&str, Rival); 6] = [
    (FASTEST_PARSE, |body| split(body, sonic_typed)),
    ("own split + serde_json typed", |body| {
        split(body, serde_typed)
    }),
    ("sse-stream + serde_json typed", sse_stream),
    (USUAL, |body| eventsource(body, serde_typed)),
    ("eventsource-stream + serde_json Value", |body| {
        eventsource(body, serde_value)
    }),
    ("newline scan", newlines),
];

#[derive(Deserialize)]
pub(crate) struct Document<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    usage: Option<Usage>,
    /// Of a response's event.
    #[serde(borrow)]
    item: Option<Item<'a>>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    output: Vec<Item<'a>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Message<'a>>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow)]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
}

impl Found {
    fn called(&mut self, name: &str) {
        if !name.is_empty() {
            self.calls += 1;
            self.forbidden |= !TOOLS.contains(&name);
        }
    }
}

impl Document<'_> {
    pub(crate) fn judge(&self, found: &mut Found) {
        for choice in &self.choices {
            for message in [&choice.delta, &choice.message].into_iter().flatten() {
                let calls = message.tool_calls.iter().flatten();
                let functions = calls.filter_map(|call| call.function.as_ref());
                for function in functions.chain(&message.function_call) {
                    found.called(&function.name);
                }
            }
        }
        let response = self.response.as_ref();
        let output = response.map_or(&[][..], |response| &response.output);
        for item in output.iter().chain(&self.item) {
            found.called(&item.name);
        }
        let usage = self.usage.as_ref();
        let usage = usage.or_else(|| response.and_then(|response| response.usage.as_ref()));
        if let Some(tokens) = usage.and_then(|usage| usage.total_tokens) {
            found.tokens = tokens;
        }
    }
}

/// Reads one payload.
pub(crate) type Parse = fn(&[u8], &mut Found);

pub(crate) fn serde_typed(payload: &[u8], found: &mut Found) {
    serde_json::from_slice::<Document<'_>>(payload)
        .expect("JSON")
        .judge(found);
}

pub(crate) fn sonic_typed(payload: &[u8], found: &mut Found) {
    sonic_rs::from_slice::<Document<'_>>(payload)
        .expect("JSON")
        .judge(found);
}

pub(crate) fn serde_value(payload: &[u8], found: &mut Found) {
    let document: Value = serde_json::from_slice(payload).expect("JSON");
    for choice in document["choices"].as_array().into_iter().flatten() {
        for message in [&choice["delta"], &choice["message"]] {
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                found.called(call["function"]["name"].as_str().unwrap_or_default());
            }
            found.called(
                message["function_call"]["name"]
                    .as_str()
                    .unwrap_or_default(),
            );
        }
    }
    let output = document["response"]["output"]
        .as_array()
        .into_iter()
        .flatten();
    for item in output.chain([&document["item"]]) {
        found.called(item["name"].as_str().unwrap_or_default());
    }
    for usage in [&document["usage"], &document["response"]["usage"]] {
        if let Some(tokens) = usage["total_tokens"].as_u64() {
            found.tokens = tokens;
        }
    }
}

/// Reads one event's data; false when reading is to stop.
fn event(data: &[u8], found: &mut Found, parse: Parse) -> bool {
    found.events += 1;
    if data != b"[DONE]" {
        parse(data, found);
    }
    !found.forbidden
}

fn eventsource(body: Frames, parse: Parse) -> Found {
    let mut events = pin!(BodyDataStream::new(body).eventsource());
    let mut found = Found::default();
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(next)) = events.as_mut().poll_next(&mut cx) {
        if !event(next.expect("an event").data.as_bytes(), &mut found, parse) {
            break;
        }
    }
    found
}

fn sse_stream(body: Frames) -> Found {
    let mut events = pin!(sse_stream::SseStream::new(body));
    let mut found = Found::default();
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(next)) = events.as_mut().poll_next(&mut cx) {
        let data = next.expect("an event").data.unwrap_or_default();
        if !event(data.as_bytes(), &mut found, serde_typed) {
            break;
        }
    }
    found
}

/// The data of an event that is one line of it, perhaps after one that says its type.
fn data(event: &[u8]) -> &[u8] {
    let line = if event.starts_with(b"event: ") {
        let end = memchr::memchr(b'\n', event).expect("a line of data");
        &event[end + 1..]
    } else {
        event
    };
    line.strip_prefix(b"data: ").expect("data")
}

/// A splitter as one would write it for this traffic alone: LF only, one data line per event.
fn split(body: Frames, parse: Parse) -> Found {
    const END: &[u8] = b"\n\n";
    let mut found = Found::default();
    let mut pending: Vec<u8> = Vec::new();
    let ended: Result<(), Infallible> = drain(body, |frame| {
        let mut rest = &frame[..];
        if !pending.is_empty() {
            // The end may lie across the frames' border.
            let from = pending.len().saturating_sub(1);
            pending.extend_from_slice(rest);
            let Some(at) = memchr::memmem::find(&pending[from..], END) else {
                return true;
            };
            let end = from + at;
            rest = &rest[rest.len() - (pending.len() - end - END.len())..];
            if !event(data(&pending[..end]), &mut found, parse) {
                return false;
            }
            pending.clear();
        }
        while let Some(at) = memchr::memmem::find(rest, END) {
            if !event(data(&rest[..at]), &mut found, parse) {
                return false;
            }
            rest = &rest[at + END.len()..];
        }
        pending.extend_from_slice(rest);
        true
    });
    let Ok(()) = ended;
    found
}

/// No inspection at all: the least that finding the ends of events can cost.
fn newlines(body: Frames) -> Found {
    let mut lines = 0;
    let ended: Result<(), Infallible> = drain(body, |frame| {
        lines += memchr::memchr_iter(b'\n', &frame).count() as u64;
        std::hint::black_box(frame);
        true
    });
    let Ok(()) = ended;
    Found {
        events: lines / 2,
        ..Found::default()
    }
}

/// Asserts that what the layer lets through is the answer, byte for byte: all of it, or all before the event with the
/// forbidden call.
pub(crate) fn check_released<B>(body: B, exchange: &Exchange)
where
    B: http_body::Body<Data = bytes::Bytes>,
{
    let mut released: Vec<u8> = Vec::new();
    let ended = drain(body, |frame| {
        released.extend_from_slice(&frame);
        true
    });
    let mut expected = &exchange.pieces[..];
    if exchange.found.forbidden {
        let events = usize::try_from(exchange.found.events).expect("few events");
        expected = &expected[..events - 1];
    }
    assert_eq!(released, expected.concat());
    assert_eq!(ended.is_err(), exchange.found.forbidden);
}
