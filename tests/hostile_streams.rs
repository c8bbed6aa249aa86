//! Answers that mean one thing to one client and another thing to the next: refused, or untouched when every reading
//! of them is allowed. The policy allows the tool `safe` and nothing else.

#![cfg(test)]

mod support;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use support::{
    ASK, Outcome, ScriptBody, Stand, Step, URL, Upstream, allowing, answer, chat, cut, forbidding,
    request, request_to,
};
use tower_sekuire::{Rule, Seen};

/// What must become of an answer.
#[derive(Clone, Debug)]
enum Expected {
    /// The bytes that came.
    Untouched,
    /// These bytes instead.
    Changed(String),
    /// Refused after exactly these bytes.
    Refused(Rule, String),
}

use Expected::{Changed, Refused, Untouched};

fn refused(rule: Rule) -> Expected {
    Refused(rule, String::new())
}

fn unreadable() -> Expected {
    refused(Rule::ResponseUnreadable)
}

fn not_allowed() -> Expected {
    refused(Rule::ToolNotAllowed)
}

/// A case: its name, the body, what must become of it.
type Case = (&'static str, Vec<u8>, Expected);

fn case(name: &'static str, body: impl Into<Vec<u8>>, expected: Expected) -> Case {
    (name, body.into(), expected)
}

fn check(outcome: &Outcome, name: &str, body: &[u8], expected: &Expected) {
    let shown =
        |bytes: &[u8]| -> String { String::from_utf8_lossy(bytes).chars().take(2_000).collect() };
    let (rule, bytes) = match expected {
        Untouched => (None, body),
        Changed(bytes) => (None, bytes.as_bytes()),
        Refused(rule, bytes) => (Some(*rule), bytes.as_bytes()),
    };
    assert_eq!(
        outcome.rule(),
        rule,
        "{name}: {:?} after {}",
        outcome.error,
        outcome.text()
    );
    if rule.is_none() {
        assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
    }
    assert!(
        outcome.bytes == bytes,
        "{name}: released\n{}\nnot\n{}",
        shown(&outcome.bytes),
        shown(bytes)
    );
}

fn ask(choices: u64) -> String {
    ASK.replace("\"stream\"", &format!("\"n\":{choices},\"stream\""))
}

/// Runs streams whole, byte by byte and in pieces of three bytes.
fn streams(stand: &Stand, asked: &str, cases: impl IntoIterator<Item = Case>) {
    for (name, body, expected) in cases {
        let whole = Bytes::from(body.clone());
        let cuttings = if body.len() > 100_000 {
            vec![
                vec![whole.clone()],
                cut(&whole, (0..body.len()).step_by(1_021)),
            ]
        } else {
            vec![
                vec![whole.clone()],
                cut(&whole, 0..body.len()),
                cut(&whole, (0..body.len()).step_by(3)),
            ]
        };
        for (way, pieces) in cuttings.into_iter().enumerate() {
            let steps = pieces.into_iter().map(Step::Data).collect();
            let upstream = Upstream::steps(200, "text/event-stream", steps);
            let outcome = stand.call(&upstream, request(asked.to_owned()));
            check(&outcome, &format!("{name} (cut {way})"), &body, &expected);
        }
    }
}

fn chat_streams(cases: impl IntoIterator<Item = Case>) {
    streams(&Stand::new(allowing(&["safe"])), ASK, cases);
}

fn documents(asked: &str, cases: impl IntoIterator<Item = Case>) {
    let stand = Stand::new(allowing(&["safe"]));
    for (name, body, expected) in cases {
        let outcome = stand.call(&Upstream::json(body.clone()), request(asked.to_owned()));
        check(&outcome, name, &body, &expected);
    }
}

/// A delta with one piece of a call, given as text so that anything can be written.
fn piece(call: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{call}]}}}}]}}\n\n")
}

fn named(index: &str, name: &str) -> String {
    piece(&format!(
        r#"{{"index":{index},"function":{{"name":"{name}","arguments":""}}}}"#
    ))
}

fn evil() -> String {
    chat::opened(0, "evil")
}

fn safe() -> String {
    chat::opened(0, "safe")
}

fn finished(events: &[String]) -> String {
    events.concat() + chat::DONE
}

#[test]
fn a_name_has_one_meaning_for_every_client() {
    let (hello, safe, done) = (chat::text("hello"), safe(), chat::DONE);
    let again = chat::delta(
        &json!({"tool_calls": [{"index": 0, "id": "call_0", "type": "function", "function": {"name": "safe", "arguments": "{}"}}]}),
    );
    assert!(again.contains(r#","name":"safe"}"#), "{again}");
    let once = again.replace(r#","name":"safe"}"#, "}");
    let nameless = chat::arguments(0, "{}");
    let late = named("0", "evil");
    let in_time = named("0", "safe");
    chat_streams([
        case(
            "split, where its first part is no allowed name",
            format!("{hello}{}{}{done}", named("0", "sa"), named("0", "fe")),
            Refused(Rule::ToolNotAllowed, hello.clone()),
        ),
        case(
            "another name at the same index",
            format!("{hello}{safe}{}{done}", named("0", "evil")),
            Refused(Rule::ResponseUnreadable, format!("{hello}{safe}")),
        ),
        case(
            "both in one chunk",
            piece(
                r#"{"index":0,"function":{"name":"safe"}},{"index":0,"function":{"name":"evil"}}"#,
            ),
            unreadable(),
        ),
        case(
            "with a new id",
            format!(
                "{safe}{}",
                piece(r#"{"index":0,"id":"other","function":{"name":"evil","arguments":""}}"#)
            ),
            Refused(Rule::ResponseUnreadable, safe.clone()),
        ),
        case(
            "two names in one object",
            piece(r#"{"index":0,"name":"safe","function":{"name":"evil"}}"#),
            unreadable(),
        ),
        case(
            "forbidden, then null",
            format!(
                "{}{}",
                evil(),
                piece(r#"{"index":0,"function":{"name":null}}"#)
            ),
            not_allowed(),
        ),
        case(
            "forbidden, then absent",
            format!("{}{nameless}", evil()),
            not_allowed(),
        ),
        case(
            "another name at an index after a gap",
            named("5", "safe") + &named("5", "evil"),
            Refused(Rule::ResponseUnreadable, named("5", "safe")),
        ),
        case(
            "said again",
            format!("{safe}{again}{done}"),
            Changed(format!("{safe}{once}{done}")),
        ),
        case(
            "said again, twice",
            format!("{safe}{again}{again}{done}"),
            Changed(format!("{safe}{once}{once}{done}")),
        ),
        case(
            "forbidden, then empty",
            format!("{}{}", evil(), named("0", "")),
            not_allowed(),
        ),
        case(
            "then empty",
            format!("{safe}{}{done}", named("0", "")),
            Untouched,
        ),
        case(
            "then null",
            format!(
                "{safe}{}{done}",
                piece(r#"{"index":0,"function":{"name":null,"arguments":"{}"}}"#)
            ),
            Untouched,
        ),
        case("then absent", format!("{safe}{nameless}{done}"), Untouched),
        case(
            "forbidden, after its arguments",
            format!("{hello}{nameless}{late}{done}"),
            Refused(Rule::ToolNotAllowed, hello.clone()),
        ),
        case(
            "forbidden, after its arguments and more text",
            format!("{hello}{nameless}{}: wait\n\n{late}{done}", chat::text("x")),
            Refused(Rule::ToolNotAllowed, hello.clone()),
        ),
        case(
            "allowed, after its arguments",
            format!("{hello}{nameless}{}{in_time}{done}", chat::text("x")),
            Untouched,
        ),
        case(
            "never",
            format!("{hello}{nameless}"),
            Refused(Rule::ResponseUnreadable, hello.clone()),
        ),
        case(
            "not before the end",
            format!("{hello}{nameless}{done}{late}"),
            Refused(Rule::ResponseUnreadable, hello),
        ),
    ]);
    let parts = Stand::new(allowing(&["sa", "fe", "safe"]));
    streams(
        &parts,
        ASK,
        [case(
            "split into allowed names",
            format!("{}{}", named("0", "sa"), named("0", "fe")),
            Refused(Rule::ResponseUnreadable, named("0", "sa")),
        )],
    );
}

#[test]
fn an_index_is_a_small_whole_number_and_belongs_to_one_call() {
    let safe_call = r#"{"id":"a","function":{"name":"safe","arguments":"{}"}}"#;
    let mut cases = vec![
        case("a gap", named("5", "safe") + chat::DONE, Untouched),
        case("a gap, forbidden", named("5", "evil"), not_allowed()),
        case("the last", named("127", "safe") + chat::DONE, Untouched),
        case("none, whole call", piece(safe_call) + chat::DONE, Untouched),
        case(
            "none, forbidden",
            piece(&safe_call.replace("safe", "evil")),
            not_allowed(),
        ),
        case(
            "none, two calls",
            piece(&format!("{safe_call},{safe_call}")),
            unreadable(),
        ),
        case(
            "none, then a continuation",
            piece(safe_call) + &piece(r#"{"function":{"arguments":"{}"}}"#),
            Refused(Rule::ResponseUnreadable, piece(safe_call)),
        ),
        case(
            "null, whole call",
            piece(&safe_call.replace("{\"id\"", "{\"index\":null,\"id\"")) + chat::DONE,
            Untouched,
        ),
        case(
            "negative, after an allowed call",
            safe() + &named("-1", "evil"),
            Refused(Rule::ResponseUnreadable, safe()),
        ),
        case(
            "twice in one chunk",
            piece(
                r#"{"index":0,"id":"a","function":{"name":"safe"}},{"index":0,"id":"b","function":{"name":"safe"}}"#,
            ),
            unreadable(),
        ),
        case(
            "used again",
            safe() + &piece(r#"{"index":0,"id":"b","function":{"name":"safe","arguments":""}}"#),
            Refused(Rule::ResponseUnreadable, safe()),
        ),
    ];
    for index in [
        "-1",
        "\"0\"",
        "-0",
        "0.0",
        "0e0",
        "1e999",
        "9007199254740992",
        "18446744073709551616",
        "128",
        "true",
        "[0]",
    ] {
        cases.push(case("no index", named(index, "safe"), unreadable()));
    }
    chat_streams(cases);
}

#[test]
fn every_choice_is_judged_and_none_beyond_those_asked_for() {
    let in_choice = |index: u64, name: &str| {
        chat::event(
            &json!({"choices": [{"index": index, "delta": {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": ""}}]}}]}),
        )
    };
    chat_streams([
        case("a second choice", in_choice(1, "safe"), unreadable()),
        case("an eighth choice", in_choice(7, "safe"), unreadable()),
        case("forbidden in it", in_choice(7, "evil"), unreadable()),
        case(
            "without an index, forbidden",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"evil\"}}]}}]}\n\n",
            not_allowed(),
        ),
        case(
            "two without an index",
            "data: {\"choices\":[{\"delta\":{}},{\"delta\":{}}]}\n\n",
            unreadable(),
        ),
        case(
            "the first twice",
            chat::event(
                &json!({"choices": [{"index": 0, "delta": {}}, {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "evil"}}]}}]}),
            ),
            unreadable(),
        ),
        case(
            "no whole number",
            "data: {\"choices\":[{\"index\":\"0\",\"delta\":{}}]}\n\n",
            unreadable(),
        ),
    ]);
    let stand = Stand::new(allowing(&["safe"]));
    streams(
        &stand,
        &ask(2),
        [
            case(
                "allowed in both",
                in_choice(1, "safe") + &in_choice(0, "safe") + chat::DONE,
                Untouched,
            ),
            case(
                "forbidden in the second",
                in_choice(0, "safe") + &in_choice(1, "evil"),
                Refused(Rule::ToolNotAllowed, in_choice(0, "safe")),
            ),
            case("a third", in_choice(2, "safe"), unreadable()),
        ],
    );
}

#[test]
fn several_prompts_in_one_request_get_choices_of_their_own() {
    let stand = Stand::new(allowing(&["safe"]));
    let url = URL.replace("/chat/completions", "/completions");
    let choice = |index: u64| chat::event(&json!({"choices": [{"index": index, "text": "x"}]}));
    for (prompt, choices, expected) in [
        (json!("a"), 1, 1),
        (json!(["a"]), 1, 1),
        (json!(["a", "b", "c"]), 1, 3),
        (json!(["a", "b", "c"]), 2, 6),
        // One prompt in tokens, and two of them.
        (json!([1, 2, 3]), 1, 1),
        (json!([[1, 2, 3], [4]]), 1, 2),
        (json!([]), 1, 1),
    ] {
        let asked = json!({"model": "gpt-4o", "prompt": prompt, "n": choices, "stream": true});
        for (index, fine) in [(0, true), (expected - 1, true), (expected, false)] {
            let (released, rule) = if fine {
                (choice(index), None)
            } else {
                (String::new(), Some(Rule::ResponseUnreadable))
            };
            let upstream = Upstream::stream(choice(index));
            let outcome = stand.call(&upstream, request_to(&url, asked.to_string()));
            assert_eq!(outcome.rule(), rule, "{asked}: choice {index}");
            assert_eq!(outcome.text(), released, "{asked}: choice {index}");
            let whole = json!({"choices": [{"index": index, "text": "x"}]}).to_string();
            let outcome = stand.call(&Upstream::json(whole), request_to(&url, asked.to_string()));
            assert_eq!(outcome.rule(), rule, "{asked}: choice {index}");
        }
    }
}

#[test]
fn one_forbidden_call_holds_back_all_of_its_event() {
    let both = |first: &str, second: &str| {
        chat::delta(
            &json!({"tool_calls": [{"index": 0, "function": {"name": first, "arguments": "{}"}}, {"index": 1, "function": {"name": second, "arguments": "{}"}}]}),
        )
    };
    chat_streams([
        case("second of two", both("safe", "evil"), not_allowed()),
        case("first of two", both("evil", "safe"), not_allowed()),
        case(
            "in an event of its own",
            safe() + &chat::opened(1, "evil") + chat::DONE,
            Refused(Rule::ToolNotAllowed, safe()),
        ),
        case(
            "in one frame with an allowed event before and after",
            format!("{}{}{}", chat::text("a"), evil(), chat::text("b")),
            Refused(Rule::ToolNotAllowed, chat::text("a")),
        ),
    ]);
}

#[test]
fn a_call_is_found_in_every_place_that_some_client_reads() {
    let message = |name: &str| {
        chat::event(
            &json!({"choices": [{"index": 0, "delta": {}, "message": {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}}]}}]}),
        )
    };
    let whole = |name: &str| {
        chat::event(
            &json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"tool_calls": [{"function": {"name": name, "arguments": "{}"}}]}}]}),
        )
    };
    let legacy =
        |name: &str| chat::delta(&json!({"function_call": {"name": name, "arguments": ""}}));
    let custom = |name: &str| {
        chat::delta(
            &json!({"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": name, "input": "x"}}]}),
        )
    };
    let loud = |name: &str| {
        chat::delta(
            &json!({"tool_calls": [{"index": 0, "type": "FUNCTION", "function": {"name": name, "arguments": ""}}]}),
        )
    };
    let of_responses = |name: &str| {
        let call = json!({"type": "function_call", "call_id": "c", "name": name});
        chat::event(&json!({"type": "response.output_item.done", "item": call}))
            + &chat::event(&json!({"type": "response.completed", "response": {"output": [call]}}))
            + &chat::event(&json!({"object": "response", "output": [call]}))
    };
    let mut cases = vec![
        case(
            "a message without calls",
            chat::event(
                &json!({"choices": [{"index": 0, "delta": {"content": "a"}, "message": {"role": "assistant", "content": "a"}}]}),
            ),
            Untouched,
        ),
        case(
            "legacy, split",
            legacy("safe") + &legacy("evil"),
            Refused(Rule::ResponseUnreadable, legacy("safe")),
        ),
        case(
            "legacy, forbidden beside an allowed call",
            safe() + &legacy("evil"),
            Refused(Rule::ToolNotAllowed, safe()),
        ),
        case(
            "both carriers in a whole call, the second forbidden",
            chat::event(
                &json!({"choices": [{"index": 0, "message": {"tool_calls": [{"function": {"name": "safe"}, "custom": {"name": "evil"}}]}}]}),
            ),
            not_allowed(),
        ),
    ];
    for (function, custom) in [("safe", "evil"), ("evil", "safe"), ("safe", "safe")] {
        cases.push(case(
            "both carriers in one call",
            chat::delta(
                &json!({"tool_calls": [{"index": 0, "function": {"name": function}, "custom": {"name": custom}}]}),
            ),
            unreadable(),
        ));
    }
    for nothing in [json!(null), json!({}), json!({"name": ""})] {
        cases.push(case(
            "a second carrier without a name",
            chat::delta(
                &json!({"tool_calls": [{"index": 0, "function": {"name": "safe"}, "custom": nothing}]}),
            ) + chat::DONE,
            Untouched,
        ));
    }
    for form in [
        &message as &dyn Fn(&str) -> String,
        &whole,
        &legacy,
        &custom,
        &loud,
        &of_responses,
    ] {
        cases.push(case("forbidden", form("evil"), not_allowed()));
        cases.push(case("allowed", form("safe") + chat::DONE, Untouched));
    }
    chat_streams(cases);
    // Where only some names are forbidden, the parts of one may be allowed each by itself.
    let split = legacy("ev") + &legacy("il");
    streams(
        &Stand::new(forbidding("evil")),
        ASK,
        [
            case(
                "legacy, in two parts",
                split,
                Refused(Rule::ResponseUnreadable, legacy("ev")),
            ),
            case(
                "in two parts",
                named("0", "ev") + &named("0", "il"),
                Refused(Rule::ResponseUnreadable, named("0", "ev")),
            ),
        ],
    );
}

#[test]
fn an_error_beside_choices_changes_nothing_about_the_choices() {
    let beside = |error: Value, name: &str| {
        chat::event(
            &json!({"error": error, "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": ""}}]}}]}),
        )
    };
    let mut cases = vec![case(
        "an error alone",
        chat::event(&json!({"error": {"message": "overloaded", "code": 502}})),
        Untouched,
    )];
    let error = chat::event(&json!({"error": {"message": "overloaded"}}));
    cases.push(case(
        "a call after an error",
        format!("{error}{}", evil()),
        Refused(Rule::ToolNotAllowed, error),
    ));
    for error in [
        json!({"code": 502, "message": "x"}),
        json!(null),
        json!(""),
        json!({}),
    ] {
        cases.push(case(
            "forbidden",
            beside(error.clone(), "evil"),
            not_allowed(),
        ));
        cases.push(case(
            "allowed",
            beside(error, "safe") + chat::DONE,
            Untouched,
        ));
    }
    chat_streams(cases);
}

#[test]
fn nothing_follows_the_end_marker_and_nothing_else_looks_like_it() {
    let text = chat::text("a");
    let end = format!("{text}{}", chat::DONE);
    let mut cases = vec![
        case("missing", text.clone(), Untouched),
        case("comments behind it", format!("{end}: bye\n\n\n"), Untouched),
        case(
            "a call behind it",
            format!("{end}{}", evil()),
            Refused(Rule::ResponseUnreadable, end.clone()),
        ),
        case(
            "text behind it",
            format!("{end}{text}"),
            Refused(Rule::ResponseUnreadable, end.clone()),
        ),
        case(
            "a second one",
            format!("{end}{}", chat::DONE),
            Refused(Rule::ResponseUnreadable, end.clone()),
        ),
    ];
    for variant in [
        "[DONE] x",
        "[DONE]x",
        " [DONE]",
        "[DONE] ",
        "[DONE",
        "[done]",
        "\"[DONE]\"",
    ] {
        cases.push(case(
            "another form",
            format!("{text}data: {variant}\n\n{}", evil()),
            Refused(Rule::ResponseUnreadable, text.clone()),
        ));
    }
    chat_streams(cases);
}

#[test]
fn an_events_name_does_not_change_what_its_data_is() {
    let mut cases = Vec::new();
    for name in [
        "keepalive",
        "error",
        "thread.run",
        "ping",
        "done",
        "response.completed",
        "",
    ] {
        let event = |data: String| format!("event: {name}\n{data}");
        cases.push(case("forbidden", event(evil()), not_allowed()));
        cases.push(case("allowed", event(safe()) + chat::DONE, Untouched));
    }
    for array in ["[]", "[{}]", "null", "\"x\"", "7"] {
        cases.push(case(
            "no object",
            format!("data: {array}\n\n"),
            unreadable(),
        ));
    }
    cases.push(case(
        "a type that is none of chat's",
        chat::event(&json!({"type": "response.created", "choices": []})),
        Untouched,
    ));
    chat_streams(cases);
}

#[test]
fn keys_that_clients_resolve_differently_are_refused() {
    let call = |function: &str| piece(&format!(r#"{{"index":0,"function":{{{function}}}}}"#));
    let event = |document: &str| format!("data: {document}\n\n");
    let mut cases = vec![
        case(
            "case variants where nothing is governed",
            event(r#"{"id":"a","ID":"b","choices":[]}"#),
            Untouched,
        ),
        case(
            "__proto__",
            event(r#"{"choices":[],"__proto__":{"constructor":{"prototype":{}}}}"#),
            Untouched,
        ),
        case(
            "constructor",
            event(r#"{"choices":[],"constructor":{"prototype":{"name":"evil"}}}"#),
            Untouched,
        ),
        case(
            "constructor in a call",
            call(r#""name":"safe","constructor":{"prototype":{"name":"evil"}}"#) + chat::DONE,
            Untouched,
        ),
        case(
            "__proto__ in a call",
            call(r#""name":"safe","__proto__":{"name":"evil"}"#) + chat::DONE,
            Untouched,
        ),
    ];
    for document in [
        r#"{"choices":[],"choices":[]}"#,
        r#"{"choices":[],"choice\u0073":[]}"#,
        r#"{"choices":[],"Choices":[]}"#,
        r#"{"CHOICES":[]}"#,
        r#"{"choices":[],"x":{"a":1,"b":{"c":2,"c":3}}}"#,
        r#"{"choices":[{"index":0,"index":0}]}"#,
        r#"{"choices":[{"Delta":{}}]}"#,
        r#"{"choices":[{"delta":{"tool_call\u017f":[]}}]}"#,
        r#"{"choices":[{"delta":{},"delta":{}}]}"#,
    ] {
        cases.push(case("twice", event(document), unreadable()));
    }
    for function in [
        r#""name":"safe","name":"evil""#,
        r#""name":"evil","name":"safe""#,
        r#""name":"safe","n\u0061me":"evil""#,
        r#""name":"safe","Name":"evil""#,
        r#""Name":"evil""#,
        r#""name":"safe","arguments":"","arguments":"""#,
    ] {
        cases.push(case("twice in a call", call(function), unreadable()));
    }
    cases.push(case(
        "escaped",
        call(r#""n\u0061me":"evil""#),
        not_allowed(),
    ));
    cases.push(case(
        "a value escaped",
        call(r#""name":"\u0065vil""#),
        not_allowed(),
    ));
    cases.push(case(
        "an allowed value escaped",
        call(r#""name":"saf\u0065""#) + chat::DONE,
        Untouched,
    ));
    chat_streams(cases);
}

#[test]
fn json_that_only_some_parsers_take_is_refused() {
    let text = chat::text("a");
    let mut cases = Vec::new();
    for payload in [
        r#"{"choices":[],"x":NaN}"#,
        r#"{"choices":[],"x":Infinity}"#,
        r#"{"choices":[],"x":-Infinity}"#,
        "{\"choices\":[]} // c",
        r#"{"choices":[]} /* c */"#,
        r#"{"choices":[],}"#,
        r#"{"choices":[]} x"#,
        r#"{"choices":[]}{"choices":[]}"#,
        r#"{'choices':[]}"#,
        r#"{"choices":[]"#,
        r#"{"choices":[],"x":"\x41"}"#,
        r#"{"choices":[],"x":01}"#,
        "{\"choices\":[],\"x\":\"a\tb\"}",
        "{\"choices\":[],\"x\":\"a\u{b}b\"}",
        "{\"choices\":[],\"x\":\"a\u{c}b\"}",
        "{\"choices\":[],\"x\":\"a\0b\"}",
        "{\"choices\":[]}\0",
        "\0{\"choices\":[]}",
        "\u{feff}{\"choices\":[]}",
        "",
    ] {
        cases.push(case(
            "",
            format!("{text}data: {payload}\n\n{}", evil()),
            Refused(Rule::ResponseUnreadable, text.clone()),
        ));
    }
    cases.push(case(
        "too deep",
        format!(
            "data: {{\"x\":{}{}}}\n\n",
            "[".repeat(5_000),
            "]".repeat(5_000)
        ),
        unreadable(),
    ));
    // These end lines in some languages, not in event streams, and JSON allows them in strings.
    for allowed in ["\u{2028}", "\u{2029}", "\u{85}", "\u{7f}"] {
        cases.push(case(
            "in a string",
            format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"a{allowed}data: b\"}}}}]}}\n\n{}", chat::DONE),
            Untouched,
        ));
    }
    for name in [
        r#""\ud800""#,
        r#""safe\ud800""#,
        "12",
        "[\"safe\"]",
        "{\"a\":1}",
        "true",
    ] {
        cases.push(case(
            "no name",
            piece(&format!(r#"{{"index":0,"function":{{"name":{name}}}}}"#)),
            unreadable(),
        ));
    }
    for name in [
        r"safe\u0000",
        " safe",
        "safe ",
        "SAFE",
        "ѕafe",
        "safe\u{200b}",
    ] {
        cases.push(case("another name", named("0", name), not_allowed()));
    }
    cases.push(case(
        "not UTF-8",
        [b"data: {\"choices\":[],\"x\":\"".as_slice(), b"\xff\"}\n\n"].concat(),
        unreadable(),
    ));
    for bytes in [
        &b"\xff"[..],
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf8\x88\x80\x80\x80",
    ] {
        let [before, after] = [
            "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a",
            "b\"}}]}\n\n",
        ];
        cases.push(case(
            "not UTF-8 in text",
            [
                text.as_bytes(),
                b"data: ",
                before.as_bytes(),
                bytes,
                after.as_bytes(),
            ]
            .concat(),
            Refused(Rule::ResponseUnreadable, text.clone()),
        ));
    }
    cases.push(case(
        "not UTF-8 in a comment",
        [text.as_bytes(), b": \xc3\n\n", text.as_bytes()].concat(),
        Refused(Rule::ResponseUnreadable, text.clone()),
    ));
    chat_streams(cases);
}

#[test]
fn a_byte_order_mark_stands_at_the_start_or_nowhere() {
    let text = chat::text("a");
    chat_streams([
        case(
            "at the start",
            format!("\u{feff}{text}{}", chat::DONE),
            Untouched,
        ),
        case(
            "at the start of a call",
            format!("\u{feff}{}", evil()),
            not_allowed(),
        ),
        case(
            "before a later event",
            format!("{text}\u{feff}{}", evil()),
            Refused(Rule::ResponseUnreadable, text.clone()),
        ),
        case(
            "before a later line",
            format!("{text}event: x\n\u{feff}{}", evil()),
            Refused(Rule::ResponseUnreadable, text.clone()),
        ),
        case(
            "two of them",
            format!("\u{feff}\u{feff}{text}"),
            unreadable(),
        ),
        case(
            "inside a string",
            chat::text("a\u{feff}b") + chat::DONE,
            Untouched,
        ),
    ]);
}

#[test]
fn any_end_of_line_and_any_cut_gives_the_same() {
    let stream = finished(&[
        ": ping\n\n".to_owned(),
        chat::text("Æ 🌉"),
        safe(),
        chat::arguments(0, "{\"a\":\"ß\"}"),
        chat::usage(9),
    ]);
    let stand = Stand::new(allowing(&["safe"]));
    let mixed = stream
        .replacen("\n\n", "\r\n\n", 2)
        .replacen("\n\n", "\n\r\n", 1);
    let framings = [
        stream.clone(),
        stream.replace('\n', "\r\n"),
        stream.replace('\n', "\r"),
        mixed,
    ];
    for body in framings {
        let body = Bytes::from(body);
        for size in 1..=7 {
            let steps = cut(&body, (0..body.len()).step_by(size))
                .into_iter()
                .map(Step::Data)
                .collect();
            let before = stand.used();
            let upstream = Upstream::steps(200, "text/event-stream", steps);
            let outcome = stand.call(&upstream, request(ASK));
            check(&outcome, "", &body, &Untouched);
            assert_eq!(stand.used() - before, 9);
        }
    }
}

#[test]
fn an_event_without_its_end_never_leaves() {
    let text = chat::text("a");
    let mut cases = Vec::new();
    for tail in [
        evil().trim_end().to_owned(),
        evil().trim_end().to_owned() + "\n",
        safe().trim_end().to_owned(),
        chat::text("b").trim_end().to_owned() + "\r\n",
        "data: [DONE]".to_owned(),
        "data: {".to_owned(),
        "event: x".to_owned(),
        ":".to_owned(),
        "d".to_owned(),
    ] {
        cases.push(case(
            "",
            format!("{text}{tail}"),
            Refused(Rule::ResponseUnreadable, text.clone()),
        ));
    }
    chat_streams(cases);
}

#[test]
fn data_in_a_form_that_only_some_clients_read_is_judged_all_the_same() {
    let payload = |name: &str| {
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": ""}}]}}]})
            .to_string()
    };
    let mut cases = Vec::new();
    for field in [
        "data:", "data: ", "data:  ", "data:\t", "data :", " data:", "DATA:", "Data: ", "\tdata: ",
        "", " ", ": data: ", "xdata: ",
    ] {
        cases.push(case(
            "forbidden",
            format!("{field}{}\n\n", payload("evil")),
            not_allowed(),
        ));
        cases.push(case(
            "allowed",
            format!("{field}{}\n\n{}", payload("safe"), chat::DONE),
            Untouched,
        ));
    }
    cases.push(case("a field without a value", "data\n\n", unreadable()));
    cases.push(case("an empty value", "data: \n\n", unreadable()));
    // A lenient line and a strict one in the same event are two payloads.
    cases.push(case(
        "both",
        format!(" data: {}\n{}", payload("evil"), safe()),
        unreadable(),
    ));
    // Joined by a line feed, the JSON of several data lines may break anywhere between two tokens.
    let split = |name: &str| payload(name).replace(",\"delta\"", "\ndata: ,\"delta\"");
    cases.push(case(
        "forbidden",
        format!("data: {}\n\n", split("evil")),
        not_allowed(),
    ));
    cases.push(case(
        "allowed",
        format!("data: {}\n\n{}", split("safe"), chat::DONE),
        Untouched,
    ));
    cases.push(case(
        "each line a document",
        format!("data: {{}}\ndata: {}\n\n", payload("evil")),
        unreadable(),
    ));
    cases.push(case(
        "a document inside",
        format!("data: {{\"x\":\ndata: {}\ndata: }}\n\n", payload("evil")),
        not_allowed(),
    ));
    chat_streams(cases);
}

#[test]
fn lines_that_are_no_data_pass_untouched() {
    let text = chat::text("a");
    chat_streams([
        case(
            "comments",
            format!(": OPENROUTER PROCESSING\n\n:\n:x\n\n{text}"),
            Untouched,
        ),
        case(
            "fields",
            format!(
                "event: x\n\nid: 7\n\nretry: 3000\n\nid\nunknown\nfoo: bar\n\n{text}{}",
                chat::DONE
            ),
            Untouched,
        ),
        case("blank lines", format!("\n\n\r\n\r\n{text}\n\n"), Untouched),
        case(
            "very many comments",
            format!("{}{text}", ": keep-alive\n\n".repeat(50_000)),
            Untouched,
        ),
        case("only comments", ": ping\n\n".repeat(3), Untouched),
        case("only an event's name", "event: x\n\n", Untouched),
        case("only an id", "id: 1\n\n", Untouched),
        case("only a time to wait", "retry: 1\n\n", Untouched),
        case("very many events", text.repeat(20_000), Untouched),
    ]);
}

#[test]
fn a_comment_hides_no_line_from_anyone() {
    let (text, forbidden) = (chat::text("a"), evil());
    let mut cases = vec![
        // This ends a line for every client, so the comment hides nothing.
        case(
            "a carriage return, forbidden",
            format!("{text}: hidden\r{forbidden}"),
            Refused(Rule::ToolNotAllowed, format!("{text}: hidden\r")),
        ),
        case(
            "a carriage return, allowed",
            format!("{text}: shown\r{}{}", safe(), chat::DONE),
            Untouched,
        ),
    ];
    for hidden in [
        "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}", "\0",
    ] {
        for (begun, call) in [
            (":", &forbidden),
            ("event: x", &forbidden),
            ("id: 1", &forbidden),
            (":", &safe()),
        ] {
            cases.push(case(
                "a hidden end of line",
                format!("{text}{begun}{hidden}{call}"),
                Refused(Rule::ResponseUnreadable, text.clone()),
            ));
        }
    }
    chat_streams(cases);
}

#[test]
fn an_event_over_the_cap_ends_the_stream_before_it() {
    let stand = Stand::new(allowing(&["safe"])).with(|layer| layer.event_cap(1_000));
    let text = chat::text("a");
    let large = chat::text(&"x".repeat(2_000));
    let body = format!("{text}{large}{text}");
    for size in [1, 7, 400, body.len()] {
        let steps = cut(&body.clone().into(), (0..body.len()).step_by(size))
            .into_iter()
            .map(Step::Data)
            .collect();
        let upstream = Upstream::steps(200, "text/event-stream", steps);
        let outcome = stand.call(&upstream, request(ASK));
        let expected = Refused(Rule::ResponseUnreadable, text.clone());
        check(&outcome, "", body.as_bytes(), &expected);
    }
    // One that is read for the first time, and one whose call waits for its name.
    let nameless = chat::arguments(0, "{}");
    for (released, refused) in [
        ("", format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(2_000))),
        (&*text, format!(":{}\n\n", "x".repeat(2_000))),
        (&text, format!("{nameless}{}", text.repeat(20))),
    ] {
        let body = format!("{released}{refused}{text}");
        for size in [1, 7, 400, body.len()] {
            let steps = cut(&body.clone().into(), (0..body.len()).step_by(size))
                .into_iter()
                .map(Step::Data)
                .collect();
            let upstream = Upstream::steps(200, "text/event-stream", steps);
            let outcome = stand.call(&upstream, request(ASK));
            let expected = Refused(Rule::ResponseUnreadable, released.to_owned());
            check(&outcome, "", body.as_bytes(), &expected);
        }
    }
    // A line without an end is given up as soon as it is too long, not when it ends.
    let endless = ScriptBody::new((0..1_000).map(|_| Step::data("data: xxxxxxxxxxxx")));
    let fate = endless.fate();
    let endless = std::sync::Mutex::new(Some(endless));
    let upstream = Upstream::new(move || {
        Ok(answer(
            200,
            "text/event-stream",
            endless.lock().unwrap().take().unwrap(),
        ))
    });
    let outcome = stand.call(&upstream, request(ASK));
    assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable));
    assert!(fate.polls() < 70, "{} frames were taken in", fate.polls());
    assert!(fate.is_dropped());
}

#[test]
fn the_content_type_decides_how_an_answer_is_read_and_must_be_one_that_is() {
    let stand = Stand::new(allowing(&["safe"]));
    let whole = |name: &str| {
        chat::answer(
            &json!({"tool_calls": [{"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}}]}),
        )
    };
    let unstreamed = ASK.replace("\"stream\":true,", "");
    // Clients read what comes, whether they asked for a stream or not.
    let send = |content_type: &'static str, body: &str| {
        let upstream = Upstream::steps(200, content_type, vec![Step::data(body.to_owned())]);
        let outcome = stand.call(&upstream, request(ASK));
        let unasked = stand.call(&upstream, request(unstreamed.clone()));
        assert_eq!(unasked.rule(), outcome.rule(), "{content_type} {body}");
        assert_eq!(unasked.bytes, outcome.bytes, "{content_type} {body}");
        outcome
    };
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        "application/vnd.api+json",
    ] {
        check(
            &send(content_type, &whole("safe")),
            "",
            whole("safe").as_bytes(),
            &Untouched,
        );
        check(&send(content_type, &whole("evil")), "", b"", &not_allowed());
        check(
            &send(content_type, &safe()),
            "events as JSON",
            b"",
            &unreadable(),
        );
        check(
            &send(content_type, "<html>"),
            "HTML as JSON",
            b"",
            &unreadable(),
        );
    }
    for content_type in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
        let stream = safe() + chat::DONE;
        check(
            &send(content_type, &stream),
            "",
            stream.as_bytes(),
            &Untouched,
        );
        check(&send(content_type, &evil()), "", b"", &not_allowed());
        check(
            &send(content_type, &whole("evil")),
            "JSON as events",
            b"",
            &unreadable(),
        );
        let ended = whole("evil") + "\n\n";
        check(
            &send(content_type, &ended),
            "JSON as events, ended",
            b"",
            &not_allowed(),
        );
        check(
            &send(content_type, "<html>"),
            "HTML as events",
            b"",
            &unreadable(),
        );
    }
    for content_type in [
        "",
        "text/plain",
        "text/html",
        "text/json",
        "application/octet-stream",
        "application/json, text/event-stream",
        "application/json; charset=utf-16",
        "application/x-ndjson",
        "application/json-seq",
        "multipart/mixed",
    ] {
        for body in [whole("safe"), safe(), String::new(), "<html>".to_owned()] {
            let outcome = send(content_type, &body);
            check(&outcome, content_type, b"", &unreadable());
            assert_eq!(outcome.violation().unwrap().seen(), Seen::Response);
        }
    }
}

#[test]
fn a_document_in_another_encoding_is_refused() {
    let text = chat::answer(&json!({"content": "a"}));
    let wide = |little: bool| -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| {
                if little {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            })
            .collect()
    };
    let wider: Vec<u8> = text
        .chars()
        .flat_map(|c| (c as u32).to_le_bytes())
        .collect();
    let widest: Vec<u8> = text
        .chars()
        .flat_map(|c| (c as u32).to_be_bytes())
        .collect();
    documents(
        ASK,
        [
            case("UTF-16, little end first", wide(true), unreadable()),
            case("UTF-16, big end first", wide(false), unreadable()),
            case(
                "UTF-16 with a mark",
                [b"\xff\xfe".to_vec(), wide(true)].concat(),
                unreadable(),
            ),
            case(
                "UTF-16, big end first, with a mark",
                [b"\xfe\xff".to_vec(), wide(false)].concat(),
                unreadable(),
            ),
            case(
                "UTF-32 with a mark",
                [b"\xff\xfe\0\0".to_vec(), wider.clone()].concat(),
                unreadable(),
            ),
            case("UTF-32", wider, unreadable()),
            case("UTF-32, big end first", widest, unreadable()),
            case("a byte order mark", format!("\u{feff}{text}"), unreadable()),
            case("empty", "", unreadable()),
            case("plain", text, Untouched),
        ],
    );
}

#[test]
fn a_document_is_read_as_strictly_as_an_event() {
    let call = |name: &str| json!({"tool_calls": [{"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}}]});
    let both = json!({"tool_calls": [{"type": "function", "function": {"name": "safe"}, "custom": {"name": "evil"}}]});
    documents(
        ASK,
        [
            case("allowed", chat::answer(&call("safe")), Untouched),
            case("forbidden", chat::answer(&call("evil")), not_allowed()),
            case(
                "in a second choice",
                json!({"choices": [{"index": 0, "message": {}}, {"index": 1, "message": call("safe")}]}).to_string(),
                unreadable(),
            ),
            case("two carriers", chat::answer(&both), not_allowed()),
            case(
                "two carriers, allowed both",
                chat::answer(&both).replace("evil", "safe"),
                Untouched,
            ),
            case(
                "legacy",
                chat::answer(&json!({"function_call": {"name": "evil", "arguments": "{}"}})),
                not_allowed(),
            ),
            case(
                "a delta in a document",
                json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "evil"}}]}}]}).to_string(),
                not_allowed(),
            ),
            case(
                "a name twice",
                r#"{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"name":"safe","n\u0061me":"evil"}}]}}]}"#,
                unreadable(),
            ),
            case(
                "the second of two calls",
                chat::answer(&json!({"tool_calls": [{"function": {"name": "safe"}}, {"function": {"name": "evil"}}]})),
                not_allowed(),
            ),
            case("a call escaped", chat::answer(&call("evil")).replace("evil", "\\u0065vil"), not_allowed()),
            case("two documents", chat::answer(&json!({})).repeat(2), unreadable()),
            case("not a number", r#"{"choices":[],"x":NaN}"#, unreadable()),
            case("a comment", r#"{"choices":[]} /* c */"#, unreadable()),
            case("more behind it", r#"{"choices":[]} x"#, unreadable()),
            case("a NUL behind it", "{\"choices\":[]}\0", unreadable()),
            case("a control character", "{\"choices\":[],\"x\":\"a\u{b}b\"}", unreadable()),
            case("a NUL in a string", "{\"choices\":[],\"x\":\"a\0b\"}", unreadable()),
            case("not UTF-8", b"{\"choices\":[],\"x\":\"a\xffb\"}", unreadable()),
            case("a list", "[]", unreadable()),
            case("a list around it", format!("[{}]", chat::answer(&call("evil"))), unreadable()),
        ],
    );
    for key in [
        r#"{"choices":[],"choices":[]}"#,
        r#"{"choices":[],"choice\u0073":[]}"#,
        r#"{"choices":[],"Choices":[]}"#,
        r#"{"choices":[{"index":0,"message":{},"message":{}}]}"#,
        r#"{"choices":[{"index":0,"message":{},"Message":{}}]}"#,
        r#"{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"name":"safe","Name":"evil"}}]}}]}"#,
        r#"{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"name":"safe","name":"evil"}}]}}]}"#,
    ] {
        documents(ASK, [case("a key twice", key, unreadable())]);
    }
    for name in [
        r#""\ud800""#,
        r#""safe\ud800""#,
        "12",
        r#"["safe"]"#,
        "{}",
        "true",
    ] {
        let document = chat::answer(&call("safe")).replace("\"safe\"", name);
        documents(ASK, [case("no name", document, unreadable())]);
    }
    for name in [r"safe\u0000", " safe", "SAFE"] {
        let document = chat::answer(&call("safe")).replace("safe", name);
        documents(ASK, [case("another name", document, not_allowed())]);
    }
    documents(
        ASK,
        [case(
            "calls in arguments and text",
            chat::answer(&json!({
                "content": "data: {\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"evil\"}}}]}\n\ndata: [DONE]\n\n",
                "tool_calls": [{"function": {"name": "safe", "arguments": "{\"tool_calls\":[{\"function\":{\"name\":\"evil\"}}]}"}}],
            })),
            Untouched,
        )],
    );
    documents(
        &ask(2),
        [case(
            "forbidden in the second choice",
            json!({"choices": [{"index": 0, "message": call("safe")}, {"index": 1, "message": call("evil")}]}).to_string(),
            not_allowed(),
        )],
    );
}

#[test]
fn a_status_excuses_no_call() {
    let stand = Stand::new(allowing(&["safe"]));
    let whole = |name: &str| {
        chat::answer(&json!({"tool_calls": [{"function": {"name": name, "arguments": "{}"}}]}))
    };
    let error =
        json!({"error": {"message": "no", "type": "server_error", "param": null, "code": null}})
            .to_string();
    let error_and_call = |name: &str| {
        json!({"error": {"message": "no"}, "choices": [{"index": 0, "message": {"tool_calls": [{"function": {"name": name}}]}}]})
            .to_string()
    };
    for status in [200, 201, 203, 206, 400, 401, 403, 404, 409, 429, 500, 503] {
        let send = |body: String| {
            let upstream = Upstream::steps(status, "application/json", vec![Step::data(body)]);
            stand.call(&upstream, request(ASK))
        };
        let name = format!("status {status}");
        for allowed in [whole("safe"), error.clone(), error_and_call("safe")] {
            let outcome = send(allowed.clone());
            check(&outcome, &name, allowed.as_bytes(), &Untouched);
            assert_eq!(outcome.head.unwrap().status, status);
        }
        check(&send(whole("evil")), &name, b"", &not_allowed());
        check(&send(error_and_call("evil")), &name, b"", &not_allowed());
        let streamed = Upstream::steps(status, "text/event-stream", vec![Step::data(evil())]);
        check(
            &stand.call(&streamed, request(ASK)),
            &name,
            b"",
            &not_allowed(),
        );
        let labelled = Upstream::steps(status, "text/plain", vec![Step::data(whole("evil"))]);
        check(
            &stand.call(&labelled, request(ASK)),
            &name,
            b"",
            &unreadable(),
        );
    }
    let nothing = Upstream::steps(204, "", vec![]);
    check(
        &stand.call(&nothing, request(ASK)),
        "status 204",
        b"",
        &Untouched,
    );
    let something = Upstream::steps(204, "", vec![Step::data(whole("evil"))]);
    check(
        &stand.call(&something, request(ASK)),
        "status 204",
        b"",
        &unreadable(),
    );
}

#[test]
fn a_redirect_or_a_change_of_protocol_is_refused() {
    let stand = Stand::new(allowing(&["safe"]));
    for status in [300, 301, 302, 303, 304, 307, 308, 100, 101, 102, 103] {
        for location in [
            "https://api.openai.com/v2/chat/completions",
            "https://evil.example/",
        ] {
            let upstream = Upstream::new(move || {
                let mut response: Response<ScriptBody> = answer(
                    status,
                    "application/json",
                    ScriptBody::new([Step::data("{}")]),
                );
                let value = location.parse().unwrap();
                response.headers_mut().insert("location", value);
                Ok(response)
            });
            let outcome = stand.call(&upstream, request(ASK));
            check(&outcome, &format!("status {status}"), b"", &unreadable());
            assert!(outcome.head.is_none());
            let error = outcome.error.unwrap().to_string();
            assert!(!error.contains("evil.example"), "{error}");
        }
    }
}

#[test]
fn a_header_that_redirects_is_as_good_as_a_redirect() {
    let stand = Stand::new(allowing(&["safe"]));
    for status in [200, 201, 400, 503] {
        for (content_type, body) in [
            ("application/json", chat::answer(&json!({"content": "a"}))),
            ("text/event-stream", chat::text("a")),
        ] {
            let upstream = Upstream::new(move || {
                let script = ScriptBody::new([Step::data(body.clone())]);
                let mut response = answer(status, content_type, script);
                let value = "0; url=https://evil.example/".parse().unwrap();
                response.headers_mut().insert("refresh", value);
                Ok(response)
            });
            let outcome = stand.call(&upstream, request(ASK));
            check(&outcome, &format!("status {status}"), b"", &unreadable());
            assert!(outcome.head.is_none());
            let error = outcome.error.unwrap().to_string();
            assert!(!error.contains("evil.example"), "{error}");
        }
    }
}

#[test]
fn an_encoded_answer_is_refused() {
    let stand = Stand::new(allowing(&["safe"]));
    for (content_type, body) in [
        ("application/json", chat::answer(&json!({"content": "a"}))),
        ("text/event-stream", chat::text("a")),
    ] {
        for (encoding, fine) in [
            ("gzip", false),
            ("GZIP", false),
            ("br", false),
            ("zstd", false),
            ("deflate", false),
            ("gzip, gzip", false),
            ("identity, gzip", false),
            ("unknown", false),
            ("identity", true),
        ] {
            let sent = body.clone();
            let upstream = Upstream::new(move || {
                let mut response = answer(
                    200,
                    content_type,
                    ScriptBody::new([Step::data(sent.clone())]),
                );
                let value = encoding.parse().unwrap();
                response.headers_mut().insert("content-encoding", value);
                Ok(response)
            });
            let outcome = stand.call(&upstream, request(ASK));
            let expected = if fine { Untouched } else { unreadable() };
            check(&outcome, encoding, body.as_bytes(), &expected);
        }
    }
}

#[test]
fn an_answer_that_ends_early_or_says_no_is_no_violation() {
    let finish = |delta: Value, reason: &str| {
        chat::event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))
    };
    chat_streams([
        case(
            "refusal",
            finish(json!({"refusal": "I can't help with that."}), "stop") + chat::DONE,
            Untouched,
        ),
        case(
            "filtered",
            chat::event(
                &json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter", "content_filter_results": {"hate": {"filtered": true, "severity": "high"}}}]}),
            ),
            Untouched,
        ),
        case(
            "too long",
            finish(json!({"content": "and"}), "length"),
            Untouched,
        ),
        case(
            "calls announced, none made",
            finish(json!({}), "tool_calls") + chat::DONE,
            Untouched,
        ),
        case(
            "calls made, none announced",
            finish(
                json!({"tool_calls": [{"index": 0, "function": {"name": "evil", "arguments": "{}"}}]}),
                "stop",
            ),
            not_allowed(),
        ),
        case(
            "calls in arguments and text",
            safe()
                + &chat::arguments(
                    0,
                    r#"{"tool_calls":[{"function":{"name":"evil"}}],"name":"evil"}"#,
                )
                + &chat::text(
                    "data: {\"choices\":[{\"delta\":{\"function_call\":{\"name\":\"evil\"}}}]}\n\ndata: [DONE]\n\n",
                )
                + chat::DONE,
            Untouched,
        ),
    ]);
    let ended = |message: Value, reason: &str| {
        json!({"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": reason}]})
            .to_string()
    };
    let call = json!({"tool_calls": [{"type": "function", "function": {"name": "evil", "arguments": "{}"}}]});
    documents(
        ASK,
        [
            case(
                "refusal",
                ended(
                    json!({"content": null, "refusal": "I can't help with that."}),
                    "stop",
                ),
                Untouched,
            ),
            case(
                "filtered",
                ended(json!({"content": ""}), "content_filter"),
                Untouched,
            ),
            case(
                "too long",
                ended(json!({"content": "and"}), "length"),
                Untouched,
            ),
            case(
                "calls announced, none made",
                ended(json!({}), "tool_calls"),
                Untouched,
            ),
            case(
                "calls made, none announced",
                ended(call, "stop"),
                not_allowed(),
            ),
        ],
    );
}

#[test]
fn a_hosted_tool_that_runs_unasked_is_judged_by_its_type() {
    let hosted = |kind: &str| json!({"tool_calls": [{"index": 0, "id": "h", "type": kind, kind: {"query": "x"}}]});
    for kind in [
        "web_search_call",
        "shell_call",
        "x_search_call",
        "brand_new_call",
        "code_interpreter",
    ] {
        chat_streams([case(
            "in a stream",
            chat::delta(&hosted(kind)),
            not_allowed(),
        )]);
        documents(
            ASK,
            [case(
                "in a document",
                chat::answer(&hosted(kind)),
                not_allowed(),
            )],
        );
    }
}

#[test]
fn a_wrapper_around_other_calls_is_refused_even_where_all_tools_are_allowed() {
    let all = Stand::new(allowing(&["*"]));
    for name in ["parallel", "multi_tool_use.parallel"] {
        let stream = chat::opened(0, name)
            + &chat::arguments(0, r#"{"tool_uses":[{"recipient_name":"functions.evil"}]}"#);
        streams(&all, ASK, [case("", stream, not_allowed())]);
    }
}

#[test]
fn a_connection_that_breaks_off_inside_an_event_releases_nothing_of_it() {
    let stand = Stand::new(allowing(&["safe"]));
    let (text, call) = (chat::text("a"), evil());
    for at in 0..call.len() {
        for last in [Some(Step::Fail), None] {
            let mut steps = vec![Step::data(format!("{text}{}", call.get(..at).unwrap()))];
            let broke = last.is_some();
            steps.extend(last);
            let upstream = Upstream::steps(200, "text/event-stream", steps);
            let outcome = stand.call(&upstream, request(ASK));
            assert_eq!(outcome.bytes, text.as_bytes(), "at {at}");
            if broke {
                let error = outcome.error.unwrap().to_string();
                assert_eq!(error, "the connection was reset");
            } else if at > 0 {
                assert_eq!(outcome.rule(), Some(Rule::ResponseUnreadable), "at {at}");
            }
        }
    }
}
