//! What holds for every answer and every way in which a transport can cut it.
//!
//! `PROPTEST_CASES` sets how many are tried.

#![cfg(test)]

mod support;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use support::{ASK, Outcome, Stand, Step, Upstream, chat, cut, request};
use tower_sekuire::{Policy, Rule, Seen};

const TOOLS: [&str; 4] = ["safe", "sicher", "evil", "worse"];

fn stand() -> Stand {
    Stand::new(
        Policy::from_json(
            &json!({
                "agent": {"toolsets": {"allowed_tools": ["safe", "sicher"], "blocked_tools": ["worse"]}},
                "rate_limits": {"per_agent": {"tokens_per_day": 1_000_000_000}},
            })
            .to_string(),
        )
        .unwrap(),
    )
}

/// One thing that a stream can hold.
#[derive(Clone, Debug)]
enum Item {
    Text(String),
    /// A call, and then its arguments in pieces.
    Call(usize, Vec<String>),
    /// A call that states its arguments before its name.
    Late(usize, String),
    Comment(String),
    Field(&'static str),
    Blank,
    Usage(u32),
    Error,
    /// Something that is refused, by its form.
    Broken(usize),
    /// An event of two data lines.
    Folded,
}

const BROKEN: [&str; 8] = [
    "data: {\"choices\":[]\n\n",
    "data: {\"choices\":[],\"choices\":[]}\n\n",
    "data: {\"choices\":[{\"index\":3,\"delta\":{}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":-1}]}}]}\n\n",
    "event: x\n\u{feff}data: {}\n\n",
    "data: [DONE]x\n\n",
    "data\n\n",
    ": \u{1c}\n",
];

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        6 => any::<String>().prop_map(Item::Text),
        // Allowed names more often than others, so that many streams come to their end.
        3 => ((0..2_usize), vec(any::<String>(), 0..4)).prop_map(|(tool, pieces)| Item::Call(tool, pieces)),
        1 => ((0..4_usize), vec(any::<String>(), 0..2)).prop_map(|(tool, pieces)| Item::Call(tool, pieces)),
        1 => ((0..3_usize), "[a-z]{1,5}").prop_map(|(tool, piece)| Item::Late(tool, piece)),
        2 => "[ -~äß🌉]{0,12}".prop_map(Item::Comment),
        1 => prop_oneof![Just("event: x"), Just("id: 1"), Just("retry: 5"), Just("other")].prop_map(Item::Field),
        1 => Just(Item::Blank),
        1 => (2_u32..100_000).prop_map(Item::Usage),
        1 => Just(Item::Error),
        1 => Just(Item::Folded),
        1 => (0..BROKEN.len()).prop_map(Item::Broken),
    ]
}

/// Each item's text with its own end of line, and the end marker or none.
fn stream() -> impl Strategy<Value = String> {
    let line_end = prop_oneof![3 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
    (vec((item(), line_end), 0..12), any::<bool>()).prop_map(|(items, done)| {
        let mut text = String::new();
        let mut next = 0;
        for (item, line_end) in items {
            text.push_str(&written(item, &mut next).replace('\n', line_end));
        }
        if done {
            text.push_str(chat::DONE);
        }
        text
    })
}

fn written(item: Item, next: &mut u64) -> String {
    match item {
        Item::Text(text) => chat::text(&text),
        Item::Call(tool, pieces) => {
            let index = *next;
            *next += 1;
            let opened = chat::opened(index, TOOLS[tool]);
            let pieces = pieces.iter().map(|piece| chat::arguments(index, piece));
            opened + &pieces.collect::<String>()
        }
        Item::Late(tool, piece) => {
            let index = *next;
            *next += 1;
            let named = chat::opened(index, TOOLS[tool]);
            chat::arguments(index, &piece) + ": waiting\n\n" + &chat::text("between") + &named
        }
        Item::Comment(text) => format!(":{text}\n\n"),
        Item::Field(field) => format!("{field}\n\n"),
        Item::Blank => "\n".to_owned(),
        Item::Usage(total) => chat::usage(total.into()),
        Item::Error => chat::event(&json!({"error": {"message": "x", "code": 500}})),
        Item::Broken(which) => BROKEN[which].to_owned(),
        Item::Folded => chat::text("folded").replacen(",\"delta\"", "\ndata: ,\"delta\"", 1),
    }
}

/// A way to cut: places, and what comes between the pieces.
fn cutting() -> impl Strategy<Value = Vec<(Index, Vec<Step>)>> {
    let between = vec(
        prop_oneof![Just(Step::Pending), Just(Step::data(Bytes::new()))],
        0..3,
    );
    vec((any::<Index>(), between), 0..24)
}

fn steps(stream: &Bytes, mut cutting: Vec<(Index, Vec<Step>)>) -> Vec<Step> {
    let length = stream.len() + 1;
    cutting.sort_by_key(|(place, _)| place.index(length));
    let places: Vec<usize> = cutting
        .iter()
        .map(|(place, _)| place.index(length))
        .collect();
    let mut pieces = cut(stream, places).into_iter();
    let mut steps = Vec::new();
    for (_, between) in cutting {
        steps.extend(pieces.next().map(Step::Data));
        steps.extend(between);
    }
    steps.extend(pieces.map(Step::Data));
    steps
}

type Verdict = Option<(Rule, Seen, Option<String>)>;

fn verdict(outcome: &Outcome) -> Verdict {
    let violation = outcome.violation()?;
    Some((
        violation.rule(),
        violation.seen(),
        violation.value().map(str::to_owned),
    ))
}

/// Bytes, verdict and tokens of a streamed answer.
fn judge(
    stand: &Stand,
    asked: &str,
    content_type: &'static str,
    steps: Vec<Step>,
) -> (Vec<u8>, Verdict, u64) {
    let before = stand.used();
    let upstream = Upstream::steps(200, content_type, steps);
    let outcome = stand.call(&upstream, request(asked.to_owned()));
    if outcome.violation().is_none() {
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
    }
    let verdict = verdict(&outcome);
    (outcome.bytes, verdict, stand.used() - before)
}

const SSE: &str = "text/event-stream";

/// An answer that can be rendered whole or streamed.
#[derive(Clone, Debug)]
struct Spoken {
    text: Vec<String>,
    calls: Vec<(usize, Vec<String>)>,
}

fn spoken() -> impl Strategy<Value = Spoken> {
    let call = (0..4_usize, vec(any::<String>(), 1..3));
    (vec(any::<String>(), 0..4), vec(call, 0..3)).prop_map(|(text, calls)| Spoken { text, calls })
}

impl Spoken {
    fn message(&self) -> Value {
        let calls: Vec<Value> = self
            .calls
            .iter()
            .enumerate()
            .map(|(index, (tool, pieces))| {
                json!({"id": format!("call_{index}"), "type": "function", "function": {"name": TOOLS[*tool], "arguments": pieces.concat()}})
            })
            .collect();
        json!({"role": "assistant", "content": self.text.concat(), "tool_calls": calls})
    }

    fn deltas(&self, choice: u64) -> Vec<String> {
        let event =
            |delta: Value| chat::event(&json!({"choices": [{"index": choice, "delta": delta}]}));
        let mut events: Vec<String> = self
            .text
            .iter()
            .map(|text| event(json!({"content": text})))
            .collect();
        for (index, (tool, pieces)) in self.calls.iter().enumerate() {
            events.push(event(
                json!({"tool_calls": [{"index": index, "id": format!("call_{index}"), "type": "function", "function": {"name": TOOLS[*tool], "arguments": ""}}]}),
            ));
            events.extend(pieces.iter().map(|piece| {
                event(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
            }));
        }
        events
    }

    fn is_allowed(&self) -> bool {
        self.calls.iter().all(|(tool, _)| *tool < 2)
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_stream_is_judged_the_same_however_it_is_cut(stream in stream(), cutting in cutting()) {
        let stream = Bytes::from(stream);
        let stand = stand();
        let whole = judge(&stand, ASK, SSE, vec![Step::Data(stream.clone())]);
        prop_assert!(stream.starts_with(&whole.0), "released what never came");
        if whole.1.is_none() {
            prop_assert_eq!(&whole.0, &stream);
            prop_assert!(whole.2 > 0);
        }
        let pieces = steps(&stream, cutting);
        prop_assert_eq!(&judge(&stand, ASK, SSE, pieces), &whole);
        let bytes = (0..stream.len()).map(|at| Step::Data(stream.slice(at..=at))).collect();
        prop_assert_eq!(&judge(&stand, ASK, SSE, bytes), &whole);
    }

    #[test]
    fn any_bytes_at_all_are_judged_the_same_however_they_are_cut(
        pieces in vec(prop_oneof![
            Just(b"data: ".to_vec()), Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b"\n\n".to_vec()),
            Just(b":".to_vec()), Just(b"\xef\xbb\xbf".to_vec()), Just(b"[DONE]".to_vec()), Just(b"{}".to_vec()),
            Just(b"{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"evil\"}}]}}]}".to_vec()),
            vec(any::<u8>(), 0..4),
        ], 0..16),
        cutting in cutting(),
    ) {
        let stream = Bytes::from(pieces.concat());
        let stand = stand();
        let whole = judge(&stand, ASK, SSE, vec![Step::Data(stream.clone())]);
        prop_assert!(stream.starts_with(&whole.0));
        let released = support::events(&whole.0);
        let calls = released.iter().filter_map(|event| serde_json::from_str(&event.data).ok());
        prop_assert_eq!(calls.flat_map(|chunk: Value| support::called(&chunk)).count(), 0);
        prop_assert_eq!(&judge(&stand, ASK, SSE, steps(&stream, cutting)), &whole);
    }

    #[test]
    fn nothing_of_a_refused_event_leaves_and_everything_before_it_does(stream in stream()) {
        // CR and LF of neighbouring items can meet, so this one keeps to one end of line.
        let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
        let stand = stand();
        let (released, verdict, _) = judge(&stand, ASK, SSE, vec![Step::data(stream.clone())]);
        if let Some((_, Seen::Event(number), _)) = verdict {
            let all = support::events(stream.as_bytes());
            let kept = support::events(&released);
            prop_assert!(kept.len() < all.len().max(1) || all.len() as u64 <= number);
            prop_assert!((kept.len() as u64) < number);
            prop_assert!(released.is_empty() || released.ends_with(b"\n"));
        }
    }

    #[test]
    fn a_document_and_its_stream_get_the_same_verdict_and_charge(
        first in spoken(), second in spoken(), usage in proptest::option::of(2_u64..1_000_000), cutting in cutting(),
    ) {
        let stand = stand();
        let asked = ASK.replace("\"stream\"", "\"n\":2,\"stream\"");
        let mut document = json!({"choices": [{"index": 0, "message": first.message()}, {"index": 1, "message": second.message()}]});
        let mut events = first.deltas(0);
        events.extend(second.deltas(1));
        if let Some(total) = usage {
            document["usage"] = json!({"prompt_tokens": 1, "completion_tokens": total - 1, "total_tokens": total});
            events.push(chat::usage(total));
        }
        events.push(chat::DONE.to_owned());
        let (bytes, whole, whole_tokens) =
            judge(&stand, &asked, "application/json", vec![Step::data(document.to_string())]);
        let stream = Bytes::from(events.concat());
        let (released, streamed, streamed_tokens) = judge(&stand, &asked, SSE, steps(&stream, cutting));
        let of = |verdict: Verdict| verdict.map(|(rule, _, value)| (rule, value));
        prop_assert_eq!(of(whole.clone()), of(streamed));
        prop_assert_eq!(whole.is_none(), first.is_allowed() && second.is_allowed());
        if whole.is_none() {
            prop_assert_eq!(bytes, document.to_string().into_bytes());
            prop_assert_eq!(released, stream);
            prop_assert_eq!(whole_tokens, streamed_tokens);
            if let Some(total) = usage {
                prop_assert_eq!(whole_tokens, total);
            }
        } else {
            prop_assert!(bytes.is_empty());
        }
    }

    #[test]
    fn choices_are_judged_the_same_in_any_order(
        first in spoken(), second in spoken(), order in vec(any::<bool>(), 0..32),
    ) {
        let stand = stand();
        let asked = ASK.replace("\"stream\"", "\"n\":2,\"stream\"");
        let (mut first_events, mut second_events) = (first.deltas(0).into_iter(), second.deltas(1).into_iter());
        let mut stream = String::new();
        for from_first in order {
            let next = if from_first { first_events.next() } else { second_events.next() };
            stream.extend(next);
        }
        stream.extend(first_events.chain(second_events));
        let (_, verdict, _) = judge(&stand, &asked, SSE, vec![Step::data(stream)]);
        prop_assert_eq!(verdict.is_none(), first.is_allowed() && second.is_allowed());
    }

    #[test]
    fn a_longer_block_list_or_a_shorter_allow_list_never_lets_more_through(
        stream in stream(), blocked in 0..4_usize, kept in 0..4_usize,
    ) {
        let stream = Bytes::from(stream);
        let verdict = |allowed: &[&str], blocked: &[&str]| {
            let policy = json!({"agent": {"toolsets": {"allowed_tools": allowed, "blocked_tools": blocked}}, "rate_limits": {"per_agent": {"tokens_per_day": 1_000_000_000}}});
            let stand = Stand::new(Policy::from_json(&policy.to_string()).unwrap());
            judge(&stand, ASK, SSE, vec![Step::Data(stream.clone())]).1
        };
        let base = verdict(&TOOLS[..3], &[TOOLS[3]]);
        if base.is_some() {
            prop_assert!(verdict(&TOOLS[..3], &[TOOLS[3], TOOLS[blocked]]).is_some());
            prop_assert!(verdict(&TOOLS[..kept.min(3)], &[TOOLS[3]]).is_some());
        }
    }
}
