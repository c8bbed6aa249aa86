//! Chat answers as providers send them: recorded traffic where it is at hand, and fixtures written after it.
//!
//! An answer whose tools are allowed leaves as the bytes that came, however the transport cuts it. With one of its
//! tools forbidden it stops before the event that carries the call.

#![cfg(test)]

mod support;

use std::fs;

use bytes::Bytes;
use serde_json::Value;
use support::{
    ASK, Event, Outcome, ScriptBody, Stand, Step, Upstream, allowing, answer, called, cut, events,
    forbidding, own, reframed, request, request_to, shared, unrestricted,
};
use tower_sekuire::{End, Policy, Rule, Seen};

/// One answer and what is known of it.
#[derive(Clone, Debug)]
struct Recording {
    name: String,
    url: String,
    status: u16,
    body: Bytes,
    /// In order of first appearance, a tool that is called twice listed once.
    tools: Vec<String>,
    tokens: Option<u64>,
    request: Option<Vec<u8>>,
}

/// Our own: name, tools called, tokens reported.
#[rustfmt::skip]
const OWN: &[(&str, &[&str], Option<u64>)] = &[
    ("text-usage.sse", &[], Some(35)),
    ("tool-split-arguments.sse", &["find_trains"], Some(106)),
    ("parallel-calls.sse", &["read_calendar", "send_invite"], Some(184)),
    ("legacy-function-call.sse", &["lookup_rate"], None),
    ("azure-prompt-filter-first.sse", &[], None),
    ("comments-and-keep-alives.sse", &["get_weather"], Some(75)),
    ("usage-on-every-chunk.sse", &[], Some(14)),
    ("name-repeated.sse", &["list_rooms"], Some(49)),
    ("no-index-whole-call.sse", &["book_table"], Some(118)),
    ("empty-name-on-continuation.sse", &["web_lookup"], Some(84)),
    ("error-event.sse", &[], None),
    ("tool-calls.json", &["find_trains", "run_query"], Some(119)),
    ("text.json", &[], Some(24)),
];

/// Above this size not every cut in two is tried alone, unless `SEKUIRE_EVERY_CUT` is set (that takes minutes): each
/// place is a cut in one of the runs that cut every event.
const EVERY_CUT_UP_TO: usize = 2_100;

fn every_cut(recording: &Recording) -> bool {
    let small = recording.body.len() <= EVERY_CUT_UP_TO && !recording.name.contains("(CR");
    small || std::env::var_os("SEKUIRE_EVERY_CUT").is_some()
}

fn ours() -> Vec<Recording> {
    let mut all = Vec::new();
    for (name, tools, tokens) in OWN {
        let text = own(name);
        let framings: &[(&str, &str)] = if name.ends_with(".sse") {
            &[("LF", "\n"), ("CRLF", "\r\n"), ("CR", "\r")]
        } else {
            &[("JSON", "\n")]
        };
        for (framing, line_end) in framings {
            all.push(Recording {
                name: format!("{name} ({framing})"),
                url: support::URL.to_owned(),
                status: 200,
                body: reframed(&text, line_end).into(),
                tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
                tokens: *tokens,
                request: None,
            });
        }
    }
    all
}

/// The recorded chat traffic, or nothing when it is absent.
fn recorded() -> Vec<Recording> {
    let Some(folder) = shared("fixtures") else {
        return Vec::new();
    };
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let mut all = Vec::new();
    for row in manifest.lines().skip(1) {
        let row: Vec<&str> = row.split('\t').collect();
        let (file, endpoint, tools, tokens, notes) = (row[0], row[2], row[6], row[7], row[8]);
        let Some(path) = endpoint.strip_prefix("POST ") else {
            continue;
        };
        if !path
            .split('?')
            .next()
            .unwrap()
            .ends_with("/chat/completions")
        {
            continue;
        }
        let stem = file.rsplit_once('.').unwrap().0;
        let mut names: Vec<String> = Vec::new();
        for tool in tools.split(',').filter(|tool| *tool != "-") {
            if !names.iter().any(|name| name == tool) {
                names.push(tool.to_owned());
            }
        }
        all.push(Recording {
            name: file.to_owned(),
            url: format!(
                "https://api.example.com{}",
                path.replace("{deployment}", "a")
            ),
            status: notes
                .strip_prefix("HTTP ")
                .map_or(200, |status| status.get(..3).unwrap().parse().unwrap()),
            body: fs::read(folder.join(file)).unwrap().into(),
            tools: names,
            tokens: tokens.parse().ok(),
            request: fs::read(folder.join(format!("{stem}.request.json"))).ok(),
        });
    }
    assert!(
        all.len() > 30,
        "the manifest lists {} chat answers",
        all.len()
    );
    all
}

impl Recording {
    fn is_stream(&self) -> bool {
        self.content_type() == "text/event-stream"
    }

    fn content_type(&self) -> &'static str {
        if self.name.contains(".sse") {
            "text/event-stream"
        } else {
            "application/json"
        }
    }

    fn upstream(&self, pieces: Vec<Bytes>) -> Upstream {
        let (status, content_type) = (self.status, self.content_type());
        let steps: Vec<Step> = pieces.into_iter().map(Step::Data).collect();
        Upstream::new(move || {
            Ok(answer(
                status,
                content_type,
                ScriptBody::new(steps.iter().cloned()),
            ))
        })
    }

    fn send(&self, stand: &Stand, pieces: Vec<Bytes>) -> Outcome {
        stand.call(&self.upstream(pieces), request_to(&self.url, ASK))
    }

    /// What a client must get when every tool is allowed.
    fn expected(&self) -> Vec<u8> {
        if !self.name.contains("name-repeated") {
            return self.body.to_vec();
        }
        // The one change that is ever made to an allowed answer: a name said again is taken out.
        let text = String::from_utf8(self.body.to_vec()).unwrap();
        let member = format!("\"name\":\"{}\",", self.tools[0]);
        let (first, second) = text.split_once(&member).unwrap();
        let expected = format!("{first}{member}{}", second.replacen(&member, "", 1));
        assert_eq!(expected.len(), text.len() - member.len(), "{}", self.name);
        expected.into_bytes()
    }

    /// Everything that is before the event in which `tool` is called first.
    fn before_the_call(&self, tool: &str) -> &[u8] {
        let Some(event) = self.events().into_iter().find(|event| {
            serde_json::from_str::<Value>(&event.data)
                .is_ok_and(|chunk| called(&chunk).iter().any(|name| name == tool))
        }) else {
            panic!("{}: no event calls {tool}", self.name);
        };
        &self.body[..event.start]
    }

    fn events(&self) -> Vec<Event> {
        let mut found = events(&self.body);
        // One recording begins with a line that only lenient clients read: no event for the reference.
        found.retain(|event| event.data != "[DONE]");
        found
    }

    /// Every way in which the tests let the transport cut this answer.
    fn cuttings(&self) -> Vec<(String, Vec<Bytes>)> {
        let length = self.body.len();
        let mut ways = vec![
            ("whole".to_owned(), vec![self.body.clone()]),
            ("byte by byte".to_owned(), cut(&self.body, 1..length)),
        ];
        if every_cut(self) {
            ways.extend((0..=length).map(|at| (format!("cut at {at}"), cut(&self.body, [at]))));
            return ways;
        }
        let events: Vec<Event> = events(&self.body);
        let longest = events
            .iter()
            .map(|event| event.end - event.start)
            .max()
            .unwrap_or(length);
        // The events of a long stream resemble each other: cut at five different places, they need a fifth of the runs.
        let step = if length > 6_000 { 5 } else { 1 };
        for offset in (0..longest).step_by(step) {
            let places = events
                .iter()
                .enumerate()
                .map(|(number, event)| (event.start + offset + number % step).min(event.end));
            ways.push((
                format!("cut {offset} bytes into each event"),
                cut(&self.body, places),
            ));
        }
        // Cuts in two alone, spread over the whole.
        ways.extend(
            (0..length)
                .step_by(length / 31)
                .map(|at| (format!("cut at {at}"), cut(&self.body, [at]))),
        );
        ways
    }
}

#[test]
fn an_answer_whose_tools_are_allowed_leaves_as_it_came_however_it_is_cut() {
    leave_as_they_came(ours());
}

#[test]
fn a_recorded_answer_whose_tools_are_allowed_leaves_as_it_came_however_it_is_cut() {
    leave_as_they_came(recorded());
}

/// A layer that asks for no usage beyond what the client asked for.
fn as_asked(policy: Policy) -> Stand {
    Stand::new(policy).with(|layer| layer.ask_for_usage(false))
}

fn leave_as_they_came(recordings: Vec<Recording>) {
    for recording in recordings {
        let stand = as_asked(allowing(&recording.tools));
        let expected = recording.expected();
        for (way, pieces) in recording.cuttings() {
            let before = stand.used();
            let outcome = recording.send(&stand, pieces);
            let name = format!("{}, {way}", recording.name);
            assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
            assert!(
                outcome.bytes == expected,
                "{name}: {}",
                String::from_utf8_lossy(&outcome.bytes)
            );
            assert_eq!(
                outcome.head.as_ref().unwrap().status,
                recording.status,
                "{name}"
            );
            let charged = stand.used() - before;
            match recording.tokens {
                Some(tokens) => assert_eq!(charged, tokens, "{name}"),
                // An answer always costs something; a refusal by the server without usage costs nothing.
                None if recording.status < 400 => assert!(charged > 0, "{name}"),
                None => assert_eq!(charged, 0, "{name}"),
            }
        }
        assert!(stand.ends().iter().all(|end| *end == End::Complete));
    }
}

#[test]
fn an_answer_that_calls_a_forbidden_tool_stops_before_the_call_however_it_is_cut() {
    stop_before_the_call(ours());
}

#[test]
fn a_recorded_answer_that_calls_a_forbidden_tool_stops_before_the_call_however_it_is_cut() {
    stop_before_the_call(recorded());
}

fn stop_before_the_call(recordings: Vec<Recording>) {
    for recording in recordings {
        for tool in &recording.tools {
            let stand = Stand::new(forbidding(tool));
            let expected = if recording.is_stream() {
                recording.before_the_call(tool)
            } else {
                &[]
            };
            for (way, pieces) in recording.cuttings() {
                let outcome = recording.send(&stand, pieces);
                let name = format!("{} without {tool}, {way}", recording.name);
                let violation = outcome
                    .violation()
                    .unwrap_or_else(|| panic!("{name}: {:?}", outcome.error));
                assert_eq!(violation.rule(), Rule::ToolBlocked, "{name}");
                assert_eq!(violation.value(), Some(&**tool), "{name}");
                assert!(
                    outcome.bytes == expected,
                    "{name}: released {}",
                    outcome.text()
                );
                let released_calls = events(&outcome.bytes)
                    .iter()
                    .filter_map(|event| serde_json::from_str(&event.data).ok())
                    .flat_map(|chunk: Value| called(&chunk))
                    .any(|name| name == *tool);
                assert!(!released_calls, "{name}");
                // A JSON answer is judged before its head is released.
                assert_eq!(outcome.head.is_some(), recording.is_stream(), "{name}");
            }
            assert!(stand.ends().iter().all(|end| *end == End::Violation));
        }
    }
}

#[test]
fn a_tool_that_no_entry_allows_stops_the_answer_as_well() {
    for recording in ours() {
        let Some((first, rest)) = recording.tools.split_first() else {
            continue;
        };
        let outcome = recording.send(&Stand::new(allowing(rest)), vec![recording.body.clone()]);
        assert_eq!(
            outcome.rule(),
            Some(Rule::ToolNotAllowed),
            "{}",
            recording.name
        );
        let seen = outcome.violation().unwrap().seen();
        if recording.is_stream() {
            let before = recording.before_the_call(first);
            assert_eq!(outcome.bytes, before, "{}", recording.name);
            let number = events(before).len() as u64 + 1;
            assert_eq!(seen, Seen::Event(number), "{}", recording.name);
        } else {
            assert_eq!(seen, Seen::Response);
        }
    }
}

#[test]
fn no_request_that_was_ever_recorded_is_refused_for_its_form() {
    let mut sent = 0;
    for recording in recorded() {
        let Some(body) = &recording.request else {
            continue;
        };
        let stand = as_asked(unrestricted());
        let upstream = recording.upstream(vec![recording.body.clone()]);
        let outcome = stand.call(&upstream, request_to(&recording.url, body.clone()));
        let name = &recording.name;
        assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
        assert!(outcome.bytes == recording.expected(), "{name}");
        let received = upstream.received();
        assert_eq!(received.len(), 1, "{name}");
        assert_eq!(received[0].1, body, "{name}: the request's bytes changed");
        sent += 1;
    }
    println!("{sent} recorded requests");
}

#[test]
fn a_stream_is_delivered_without_a_length_and_a_document_keeps_its_length() {
    let text = own("text-usage.sse");
    for (content_type, body, kept) in [
        ("text/event-stream", text.clone(), false),
        ("application/json", own("text.json"), true),
    ] {
        let upstream = Upstream::new(move || {
            let mut response = answer(
                200,
                content_type,
                ScriptBody::new([Step::data(body.clone())]),
            );
            let length = body.len().into();
            response.headers_mut().insert("content-length", length);
            Ok(response)
        });
        let outcome = Stand::new(allowing(&["x"])).call(&upstream, request(ASK));
        let head = outcome.head.unwrap();
        assert_eq!(head.headers.contains_key("content-length"), kept);
    }
}
