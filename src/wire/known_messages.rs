//! Messages and items of a conversation by their learned shape: the facts of the slow reader, without reading JSON again.
//!
//! An agent sends the whole conversation with every request, and its messages differ in little but their text. Why reading
//! by a [shape](super::shape) is sound is said there. Where an object ends is told by its own bytes, so a conversation that
//! goes on with the bytes of a known shape, its holes filled, has that object there and nothing else. What an object says
//! depends on nothing around it but on how deep it may nest: the depth must be the same.
//!
//! What is kept is the object without the contents of its holes: keys, types and words such as `auto`, the keys of arguments
//! that are objects among them; no text, no id and no name.

use std::borrow::Cow;
use std::cell::Cell;

use super::error::Result;
use super::json::{Kind, Reader};
use super::request::RequestFacts;
use super::shape::{Filling, Holes, Patience, Shape, Trials};

/// How many shapes a thread keeps: text of each role, with a part or two, and calls and their results.
const SHAPES: usize = 12;

/// What is read in which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A message of a chat.
    Message,
    /// An item of a response's input.
    Item,
}

/// What a thread knows.
#[derive(Debug, Default)]
pub(super) struct Messages {
    known: Vec<Known>,
    /// The one that came last.
    last: usize,
    /// The one that makes room for the next.
    oldest: usize,
    holes: Holes,
    trials: Trials,
}

#[derive(Debug)]
struct Known {
    site: Site,
    depth: usize,
    shape: Shape,
    /// The one that came after it last time: conversations take turns.
    next: usize,
    /// Bytes of text outside of the holes, and what counts as some.
    text: u64,
    parts: u64,
}

thread_local! {
    static KNOWN: Cell<Messages> = const { Cell::new(Messages::new()) };
}

impl Messages {
    const fn new() -> Self {
        Self {
            known: Vec::new(),
            last: 0,
            oldest: 0,
            holes: Holes::new(),
            trials: Trials::new(),
        }
    }

    /// Lends what this thread knows.
    pub(super) fn lend<T>(read: impl FnOnce(&mut Self) -> T) -> T {
        // Taken rather than borrowed: a thread that ends gets a fresh one.
        let mut messages = KNOWN.try_with(Cell::take).unwrap_or_default();
        let read = read(&mut messages);
        let _ = KNOWN.try_with(|known| known.set(messages));
        read
    }

    /// Reads an object by `read`, which tells of it nothing but text, parts and names of the past; or knows it.
    pub(super) fn read<'a, 's>(
        &mut self,
        r: &mut Reader<'a, 's>,
        facts: &mut RequestFacts<'a>,
        site: Site,
        read: impl FnOnce(&mut Reader<'a, 's>, &mut RequestFacts<'a>) -> Result<()>,
    ) -> Result<()> {
        if r.kind()? != Kind::Object {
            return read(r, facts);
        }
        let (rest, depth) = (r.rest(), r.depth());
        if let Some(length) = self.find(rest, depth, site, facts) {
            r.step_over(length);
            return Ok(());
        }
        if !self.trials.may_learn() {
            return read(r, facts);
        }
        let (start, before) = (r.position(), (facts.text, facts.parts));
        r.start_noting(std::mem::take(&mut self.holes));
        let done = read(r, facts);
        self.holes = r.stop_noting();
        done?;
        let object = rest.get(..r.position() - start).unwrap_or_default();
        let mut held = 0;
        let shape = Shape::of(object, start, &self.holes, |filling, contents| {
            held += text_in(filling, contents)?;
            Some(())
        });
        let text = (facts.text - before.0).checked_sub(held);
        if let (Some(shape), Some(text)) = (shape, text) {
            self.keep(Known {
                site,
                depth,
                shape,
                // Until something else follows, what comes once comes again.
                next: self.oldest,
                text,
                parts: facts.parts - before.1,
            });
        }
        Ok(())
    }

    fn keep(&mut self, known: Known) {
        let at = self.oldest;
        match self.known.get_mut(at) {
            Some(oldest) => *oldest = known,
            None => self.known.push(known),
        }
        self.oldest = (at + 1) % SHAPES;
        self.came(at);
    }

    fn came(&mut self, at: usize) {
        if let Some(last) = self.known.get_mut(self.last) {
            last.next = at;
        }
        self.last = at;
    }

    /// Takes in the object that these bytes begin with, if it is known; returns its length.
    fn find<'a>(
        &mut self,
        rest: &'a [u8],
        depth: usize,
        site: Site,
        facts: &mut RequestFacts<'a>,
    ) -> Option<usize> {
        let mut patience = Patience::new();
        let mut take = |at: usize| {
            let known = self.known.get(at)?;
            let here = known.site == site && known.depth == depth;
            here.then(|| known.take(rest, &mut patience, facts))?
        };
        let likely = self.known.get(self.last).map_or(0, |last| last.next);
        let (at, length) = match take(likely) {
            Some(length) => (likely, length),
            None if self.trials.are_in_vain() => return None,
            None => (0..self.known.len())
                .filter(|at| *at != likely)
                .find_map(|at| Some((at, take(at)?)))?,
        };
        self.trials.fitted();
        self.came(at);
        Some(length)
    }
}

impl Known {
    #[inline]
    fn take<'a>(
        &self,
        rest: &'a [u8],
        patience: &mut Patience,
        facts: &mut RequestFacts<'a>,
    ) -> Option<usize> {
        let (mut text, names) = (self.text, facts.history.len());
        let length = self.shape.fill(rest, patience, |filling, contents| {
            text = text.saturating_add(text_in(filling, contents)?);
            if filling == Filling::Name {
                facts.note_perhaps(Cow::Borrowed(std::str::from_utf8(contents).ok()?));
            }
            Some(())
        });
        if length.is_none() {
            facts.history.truncate(names);
            return None;
        }
        // Not before it is known that they are names: each is compared with all others.
        facts.settle(names);
        facts.text = facts.text.saturating_add(text);
        facts.parts = facts.parts.saturating_add(self.parts);
        length
    }
}

/// The text that a hole counts, in bytes, if it may hold this.
#[inline]
fn text_in(filling: Filling, contents: &[u8]) -> Option<u64> {
    match filling {
        Filling::String | Filling::Number => Some(0),
        // Data counts as a part.
        Filling::Text if contents.starts_with(b"data:") => None,
        Filling::Text => Some(contents.len() as u64),
        // Written with escapes it is another name than its bytes say.
        Filling::Name => (!contents.contains(&b'\\')).then_some(0),
        Filling::SomeText | Filling::Tokens(_) => None,
    }
}

#[cfg(fuzzing)]
pub(super) fn forget() {
    KNOWN.take();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::{self, Fields};
    use super::super::json::Scratch;
    use super::super::request::read;
    use super::super::shape::reference;
    use super::*;

    /// What a body says to a thread that has read these before; without any, to the slow reader.
    fn read_after(known: &[&str], body: &str, fields: Fields) -> String {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                reference::want(known.is_empty());
                for known in known {
                    let _ = read(known.as_bytes(), fields, &mut Scratch::default());
                }
                let read = read(body.as_bytes(), fields, &mut Scratch::default());
                format!("{read:?}")
            });
            reader.join().unwrap()
        })
    }

    fn shapes_after(body: &str, fields: Fields) -> Vec<String> {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                read(body.as_bytes(), fields, &mut Scratch::default()).unwrap();
                let known = KNOWN.take().known;
                known.iter().map(|known| known.shape.literals()).collect()
            });
            reader.join().unwrap()
        })
    }

    fn chat(messages: &[&str]) -> String {
        format!(
            r#"{{"model":"o3","messages":[{}],"temperature":0.5}}"#,
            messages.join(",")
        )
    }

    fn response(items: &[&str]) -> String {
        format!(r#"{{"model":"o3", "input":[{}]}}"#, items.join(", "))
    }

    const MESSAGES: [&str; 8] = [
        r#"{"role":"system","content":"Be helpful."}"#,
        r#"{"role":"user","content":"a\\\"b\u00e9é"}"#,
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"file_read","arguments":"{\"a\":1}"}}]}"#,
        r#"{"role":"tool","tool_call_id":"call_1","content":"secret"}"#,
        r#"{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}"#,
        r#"{"role":"user","content":"data:image/png;base64,AAAA"}"#,
        r#"{"role":"assistant","content":"","function_call":{"name":"web_search","arguments":"{}"}}"#,
        r#"{"role":"user","content":[7, 8, {"type":"file","file":{"file_id":"f"}}]}"#,
    ];

    const ITEMS: [&str; 9] = [
        r#"{"role":"user","content":"hello"}"#,
        r#"{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"x"}]}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"call_1","name":"file_read","arguments":"{}"}"#,
        r#"{"type":"function_call_output","call_id":"call_1","output":"secret"}"#,
        r#"{"type":"mcp_approval_request","id":"a1","server_label":"s","name":"t","arguments":"{}"}"#,
        r#"{"type":"mcp_approval_response","approval_request_id":"a1","approve":true}"#,
        r#"{"type":"item_reference","id":"msg_1"}"#,
        r#"{"type":"web_search_call","id":"w","status":"completed"}"#,
        r#"{"type":"message","name":"file_read","role":"user","content":"x","tools":[{"type":"function","name":"y"}]}"#,
    ];

    #[test]
    fn a_conversation_that_goes_on_is_known() {
        let first = chat(&MESSAGES[..4]);
        let other = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_22","type":"function","function":{"name":"web_search","arguments":"{}"}}]}"#;
        let longer = chat(&[
            MESSAGES[0],
            r#"{"role":"user","content":"something else"}"#,
            other,
            r#"{"role":"tool","tool_call_id":"call_22","content":""}"#,
            MESSAGES[1],
        ]);
        let known = shapes_after(&first, fields::CHAT);
        assert_eq!(known.len(), 4);
        let says = read_after(&[&first], &longer, fields::CHAT);
        assert_eq!(says, read_after(&[], &longer, fields::CHAT));
        assert!(says.contains(r#"history: ["web_search"]"#), "{says}");
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for body in [&first, &longer] {
                    read(body.as_bytes(), fields::CHAT, &mut Scratch::default()).unwrap();
                }
                assert_eq!(KNOWN.take().known.len(), 4);
            });
        });
    }

    #[test]
    fn no_text_no_id_and_no_name_is_kept() {
        let chats = shapes_after(&chat(&MESSAGES), fields::CHAT).concat();
        let items = shapes_after(&response(&ITEMS), fields::RESPONSES).concat();
        for secret in ["helpful", "secret", "call_1", "file_read", "AAAA", "msg_1"] {
            assert!(!chats.contains(secret), "{chats}");
            assert!(!items.contains(secret), "{items}");
        }
    }

    #[test]
    fn names_count_once_and_only_in_the_shape_that_fits() {
        let call = |name: &str, role: &str| {
            format!(
                r#"{{"tool_calls":[{{"function":{{"name":"{name}"}}}},{{"function":{{"name":""}}}}],"role":"{role}"}}"#
            )
        };
        let body = |calls: &[(&str, &str)]| {
            let calls: Vec<String> = calls.iter().map(|(name, role)| call(name, role)).collect();
            chat(&calls.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let known = body(&[("a", "x"), ("a", "y"), ("a", "z")]);
        let then = body(&[("b", "z"), ("c", "w"), ("b", "y"), ("a", "x"), ("c", "z")]);
        let says = read_after(&[&known], &then, fields::CHAT);
        assert!(says.contains(r#"history: ["b", "c", "a"]"#), "{says}");
        assert_eq!(says, read_after(&[], &then, fields::CHAT));
    }

    #[test]
    fn what_does_more_than_speak_has_no_shape() {
        for (item, shapes) in ITEMS.iter().zip([1, 1, 1, 1, 0, 0, 0, 0, 0]) {
            let known = shapes_after(&response(&[item]), fields::RESPONSES);
            assert_eq!(known.len(), shapes, "{item}");
        }
        // A name with an escape is another name than its bytes.
        let escaped = MESSAGES[2].replace("file_read", r"file\u005fread");
        assert_eq!(shapes_after(&chat(&[&escaped]), fields::CHAT).len(), 0);
        let known = chat(&MESSAGES[2..3]);
        let says = read_after(&[&known], &chat(&[&escaped]), fields::CHAT);
        assert!(says.contains(r#"history: ["file_read"]"#), "{says}");
    }

    #[test]
    fn data_in_place_of_text_is_a_part() {
        let (text, data) = (chat(&MESSAGES[1..2]), chat(&MESSAGES[5..6]));
        let says = read_after(&[&text], &data, fields::CHAT);
        assert!(says.contains("text: 0, parts: 1"), "{says}");
        assert_eq!(says, read_after(&[], &data, fields::CHAT));
    }

    #[test]
    fn whatever_byte_differs_it_says_what_the_slow_reader_says() {
        for (body, fields) in [
            (chat(&MESSAGES), fields::CHAT),
            (response(&ITEMS), fields::RESPONSES),
        ] {
            for (at, char) in body.char_indices() {
                let end = at + char.len_utf8();
                for other in ["", "x", "\"", "\\", "}", ",", "\n", "é"] {
                    let mut changed = body.clone();
                    changed.replace_range(at..end, other);
                    assert_eq!(
                        read_after(&[&body], &changed, fields),
                        read_after(&[], &changed, fields),
                        "{changed}"
                    );
                }
            }
        }
    }

    #[test]
    fn as_deep_as_it_was_and_no_deeper() {
        let nested = format!("{}{}", "[".repeat(125), "]".repeat(125));
        let message = format!(r#"{{"role":"user","content":"x","note":{nested}}}"#);
        let body = chat(&[&message]);
        assert_eq!(shapes_after(&body, fields::CHAT).len(), 1);
        let deeper = format!(r#"{{"source":{}}}"#, chat(&[&message]));
        const DEEPER: Fields = &[("source", fields::Read::Object(fields::CHAT))];
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut scratch = Scratch::default();
                read(body.as_bytes(), fields::CHAT, &mut scratch).unwrap();
                let refused = read(deeper.as_bytes(), DEEPER, &mut scratch).unwrap_err();
                assert!(refused.to_string().contains("deeper than 128"), "{refused}");
            });
        });
    }

    proptest! {
        #[test]
        fn conversations_in_any_order_say_what_the_slow_reader_says(
            before in prop::collection::vec(0..MESSAGES.len(), 0..20),
            after in prop::collection::vec((0..MESSAGES.len(), any::<u16>(), prop::sample::select(vec!["", "\"", "\\", "a", "{", "}", "0", "name"])), 0..8),
        ) {
            let before: Vec<&str> = before.into_iter().map(|at| MESSAGES[at]).collect();
            let changed: Vec<String> = after
                .into_iter()
                .map(|(at, place, other)| {
                    let mut message = MESSAGES[at].replace('é', "e");
                    let place = usize::from(place) % (message.len() * 3);
                    if place < message.len() {
                        message.replace_range(place..=place, other);
                    }
                    message
                })
                .collect();
            let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
            let (known, body) = (chat(&before), chat(&changed));
            prop_assert_eq!(
                read_after(&[&known, &known], &body, fields::CHAT),
                read_after(&[], &body, fields::CHAT)
            );
        }
    }
}
