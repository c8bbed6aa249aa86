//! One block of an event stream to facts: the slow, obvious reading of a streamed answer.
//!
//! Every payload that any client could take from the block is read in full. What real decoders disagree on is
//! refused rather than repaired: a byte order mark after the start, bytes that are not UTF-8, `[DONE]` in
//! another form, data after the end.

use super::answer::{AnswerFacts, Usage, read_any, read_chat};
use super::calls::{Calls, Meaning};
use super::endpoint::Format;
use super::error::{Result, WireError};
use super::fast::Shapes;
use super::json::{Scratch, Span};
use super::responses::Items;
use super::sse::{Line, has_hidden_break, lenient_payloads, line, lines};
use super::tool::Tool;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What one block says and asks for.
#[derive(Debug, Default)]
pub(crate) struct EventFacts {
    /// Tools that are called here for the first time.
    pub(crate) tools: Vec<Tool>,
    /// Members to be cut from the block, in order: names said again. In bytes from the block's start.
    pub(crate) cuts: Vec<Span>,
    /// The block reports what the stream has used, and nothing else.
    pub(crate) usage_alone: bool,
    /// The block carries data, so it counts as an event.
    pub(crate) event: bool,
    /// The answer is whole with this block.
    pub(crate) done: bool,
}

/// Reads the blocks of one streamed answer, in order.
#[derive(Debug)]
pub(crate) struct EventReader {
    format: Format,
    /// Choices that the request asked for: an index from here on is refused.
    choices: u64,
    started: bool,
    done: bool,
    calls: Calls,
    items: Items,
    /// The calls that a run's steps have opened: index, id and name.
    steps: Vec<(u64, Option<String>, String)>,
    answer: AnswerFacts,
    scratch: Scratch,
    joined: Vec<u8>,
    facts: EventFacts,
    usage: Option<Usage>,
    text: u64,
    shapes: Shapes,
    /// Every event is read slowly: the reference that the fast way is compared with.
    #[cfg(any(test, fuzzing))]
    slow: bool,
}

impl EventReader {
    pub(crate) fn new(format: Format, choices: u64) -> Self {
        Self {
            format,
            choices,
            started: false,
            done: false,
            calls: Calls::default(),
            items: Items::default(),
            steps: Vec::new(),
            answer: AnswerFacts::default(),
            scratch: Scratch::default(),
            joined: Vec::new(),
            facts: EventFacts::default(),
            usage: None,
            text: 0,
            shapes: Shapes::default(),
            #[cfg(any(test, fuzzing))]
            slow: false,
        }
    }

    /// Reads every event in full, as the reference that the fast way is compared with.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn in_full(mut self, slow: bool) -> Self {
        self.slow = slow;
        self
    }

    /// The largest token use reported so far.
    pub(crate) fn tokens(&self) -> Option<u64> {
        self.usage.and_then(Usage::tokens)
    }

    /// What was told of token use so far.
    pub(crate) const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Bytes of generated text so far.
    pub(crate) const fn text(&self) -> u64 {
        self.text
    }

    /// A call waits for its name: nothing may be released from the block that opened it on.
    pub(crate) const fn waiting(&self) -> bool {
        self.calls.waiting() || self.items.waiting()
    }

    /// The number of the next event, in formats that number them.
    pub(crate) const fn next_sequence(&self) -> u64 {
        self.items.next_sequence()
    }

    /// The stream may end here.
    ///
    /// # Errors
    /// When a call never got its name.
    pub(crate) const fn finish(&self) -> Result<()> {
        if self.waiting() {
            return Err(WireError::new("a tool call without a name"));
        }
        Ok(())
    }

    /// Reads the next block, if `bytes` begin with a whole one that is known to be quiet: an event that names nothing
    /// and changes nothing but the length of the text. The block's length.
    #[inline]
    pub(crate) fn skim(&mut self, bytes: &[u8]) -> Option<usize> {
        #[cfg(any(test, fuzzing))]
        if self.slow {
            return None;
        }
        if self.done || self.items.ended() || self.waiting() {
            return None;
        }
        let quiet = self.shapes.skim(bytes)?;
        self.text = self.text.saturating_add(quiet.text);
        self.items.goes_on_with(quiet.next_sequence);
        Some(quiet.length)
    }

    /// As [`skim`](Self::skim), of as many blocks as `bytes` begin with: up to one that is longer than `most_length`, or
    /// with which the stream's text would be longer than `most_text`. Their number and their length together.
    #[inline]
    pub(crate) fn skim_all(
        &mut self,
        bytes: &[u8],
        most_text: u64,
        most_length: usize,
    ) -> (u64, usize) {
        #[cfg(any(test, fuzzing))]
        if self.slow {
            return (0, 0);
        }
        // INVARIANT: a quiet block changes none of these, so what holds before the first holds before each.
        if self.done || self.items.ended() || self.waiting() {
            return (0, 0);
        }
        let Some(most_text) = most_text.checked_sub(self.text) else {
            return (0, 0);
        };
        let quiets = self.shapes.skim_all(bytes, most_text, most_length);
        self.text = self.text.saturating_add(quiets.text);
        self.items.goes_on_with(quiets.next_sequence);
        (quiets.events, quiets.length)
    }

    /// Reads the next block.
    ///
    /// # Errors
    /// When clients could read the block in different ways, or not at all.
    pub(crate) fn read(&mut self, block: &[u8]) -> Result<&EventFacts> {
        self.facts.tools.clear();
        self.facts.cuts.clear();
        self.facts.usage_alone = false;
        self.facts.event = false;
        self.facts.done = false;
        // INVARIANT: a block has no event's end but its own, so one that is skimmed is skimmed whole.
        if self.skim(block).is_some() {
            self.facts.event = true;
            return Ok(&self.facts);
        }
        let text = match std::mem::replace(&mut self.started, true) {
            true => block,
            false => block.strip_prefix(BOM).unwrap_or(block),
        };
        let start = block.len() - text.len();
        let mut data: Option<Span> = None;
        let mut several = false;
        for (offset, bytes) in lines(text) {
            // Some decoders strip a mark at the start of any line, and so see data where others see none.
            if bytes.starts_with(BOM) {
                return Err(WireError::new("a byte order mark inside the event stream"));
            }
            match line(bytes) {
                Line::Blank => {}
                Line::Data(value) => {
                    let end = start + offset + bytes.len();
                    let span = Span {
                        start: end - value.len(),
                        end,
                    };
                    if data.is_some() {
                        if !several {
                            several = true;
                            self.joined.clear();
                            self.joined.extend_from_slice(
                                data.and_then(|span| block.get(span.start..span.end))
                                    .unwrap_or_default(),
                            );
                        }
                        self.joined.push(b'\n');
                        self.joined.extend_from_slice(value);
                    }
                    data = Some(data.unwrap_or(span));
                }
                Line::Comment | Line::Other => self.aside(bytes)?,
            }
        }
        let Some(span) = data else {
            return Ok(&self.facts);
        };
        self.facts.event = true;
        if several {
            self.read_several(text)?;
        } else {
            self.payload(
                block.get(span.start..span.end).unwrap_or_default(),
                Some(span.start),
            )?;
            self.facts.usage_alone = self.is_usage_alone();
            if self.is_quiet() {
                self.shapes
                    .learn(block, self.format, &self.answer, &mut self.scratch);
            }
        }
        Ok(&self.facts)
    }

    /// Whether the event just read is the one that `stream_options.include_usage` adds.
    fn is_usage_alone(&self) -> bool {
        matches!(self.format, Format::Chat)
            && !self.facts.done
            && self.answer.usage.is_some()
            && self.answer.choices.is_empty()
            && self.answer.parts.is_empty()
            && self.answer.items.is_empty()
            && self.answer.text == 0
            && !self.answer.error
            && self.facts.tools.is_empty()
    }

    /// Whether the event just read would, with other text and another number in it, again name nothing and change
    /// nothing but the length of the text and that number.
    fn is_quiet(&self) -> bool {
        matches!(self.format, Format::Chat | Format::Responses)
            && !self.facts.done
            && !self.waiting()
            && self.facts.tools.is_empty()
            && self.facts.cuts.is_empty()
            && self.answer.usage.is_none()
            && !self.answer.error
            && self.answer.items.is_empty()
            // Arguments open a call where there was none, unless they are empty: so the call must be open already.
            && self
                .answer
                .parts
                .iter()
                .all(|part| part.names.is_empty() && self.calls.is_open(part))
    }

    /// A line that is no data for specified parsers, but may be for lenient ones.
    fn aside(&mut self, bytes: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| WireError::new("a line of the event stream is not UTF-8"))?;
        if has_hidden_break(text) {
            return Err(WireError::new(
                "a control character or hidden line break in a line of the event stream",
            ));
        }
        for payload in lenient_payloads(text) {
            self.payload(payload.as_bytes(), None)?;
        }
        Ok(())
    }

    /// An event of several data lines: most clients join them, some read each by itself.
    fn read_several(&mut self, block: &[u8]) -> Result<()> {
        let joined = std::mem::take(&mut self.joined);
        self.payload(&joined, None)?;
        self.joined = joined;
        for (_, bytes) in lines(block) {
            let Line::Data(value) = line(bytes) else {
                continue;
            };
            // A line that is no document by itself is nothing to a client that reads line by line: whatever a
            // lenient parser could still see in it is part of the joined document, which was read strictly.
            if read_any(value, &mut self.scratch, &mut AnswerFacts::default()).is_ok() {
                self.payload(value, None)?;
            }
        }
        Ok(())
    }

    /// One payload; `at` is its place in the block where it may be cut.
    fn payload(&mut self, payload: &[u8], at: Option<usize>) -> Result<()> {
        if self.done {
            return Err(WireError::new("data after `[DONE]`"));
        }
        if payload == b"[DONE]" && at.is_some() {
            self.done = true;
            self.facts.done = true;
            return self.finish();
        }
        if payload.trim_ascii_start().starts_with(b"[DONE") {
            return Err(WireError::new(
                "`[DONE]` in a form that clients read differently",
            ));
        }
        match self.format {
            Format::Chat => {
                read_chat(payload, &mut self.scratch, &mut self.answer)?;
                self.take_chat(at)?;
                self.facts.tools.extend(
                    self.answer
                        .items
                        .iter()
                        .filter_map(super::answer::Item::tool),
                );
            }
            Format::Responses => {
                self.items.read(
                    payload,
                    &mut self.scratch,
                    &mut self.answer,
                    &mut self.facts.tools,
                )?;
                self.facts.done |= self.items.ended();
                self.take_whole();
            }
            Format::Any | Format::Media => {
                read_any(payload, &mut self.scratch, &mut self.answer)?;
                self.take_items()?;
                self.take_whole();
            }
        }
        self.text = self.text.saturating_add(self.answer.text);
        if let Some(seen) = self.answer.usage {
            self.usage.get_or_insert_default().raise(seen);
        }
        Ok(())
    }

    /// Clients join what the deltas of a run's step say of a call, names as well: a call is named once, and first.
    fn take_items(&mut self) -> Result<()> {
        for item in &self.answer.items {
            let name = item.name.as_deref().unwrap_or_default();
            let Some((id, index)) = &item.piece else {
                self.facts.tools.extend(item.tool());
                continue;
            };
            if !matches!(item.kind.as_str(), "" | "function" | "custom") {
                self.facts.tools.extend(item.tool());
                continue;
            }
            let known = self.steps.iter_mut().find(|(at, ..)| at == index);
            match known {
                Some(_) if name.is_empty() => {}
                None if name.is_empty() => {
                    return Err(WireError::new("a tool call without a name"));
                }
                // The next step begins at the first index again.
                Some((_, known_id, known_name)) if id.is_some() && known_id != id => {
                    known_id.clone_from(id);
                    name.clone_into(known_name);
                    self.facts.tools.extend(item.tool());
                }
                Some((_, _, known_name)) if *known_name == name => {
                    return Err(WireError::new("a tool's name said again in a run's step"));
                }
                Some(_) => {
                    return Err(WireError::new("a second, different name for one tool call"));
                }
                None => {
                    self.steps.push((*index, id.clone(), name.to_owned()));
                    self.facts.tools.extend(item.tool());
                }
            }
        }
        Ok(())
    }

    /// Every name in a chunk counts, in a format that sends no chunks.
    fn take_whole(&mut self) {
        let names = self.answer.parts.iter().flat_map(|part| &part.names);
        self.facts
            .tools
            .extend(names.map(|name| Tool::function(name.text.as_str())));
    }

    fn take_chat(&mut self, at: Option<usize>) -> Result<()> {
        if self.answer.choices.reach(self.choices) {
            return Err(WireError::new("a choice that the request didn't ask for"));
        }
        let hosted = self.answer.hosted.iter();
        self.facts
            .tools
            .extend(hosted.map(|kind| Tool::typed(kind)));
        for part in &self.answer.parts {
            match self.calls.take(part)? {
                Meaning::Known => {}
                Meaning::Names => {
                    self.facts.tools.extend(
                        part.names
                            .iter()
                            .map(|name| Tool::function(name.text.as_str())),
                    );
                }
                Meaning::Repeated(span) => match at {
                    Some(at) => self.facts.cuts.push(Span {
                        start: at + span.start,
                        end: at + span.end,
                    }),
                    None => {
                        return Err(WireError::new(
                            "a tool's name said again over several lines",
                        ));
                    }
                },
            }
        }
        Ok(())
    }
}

/// The block without the members in `cuts`, each with one of its commas.
pub(crate) fn without(block: &[u8], cuts: &[Span]) -> Vec<u8> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let mut out: Vec<u8> = Vec::with_capacity(block.len());
    let mut from = 0;
    for cut in cuts {
        out.extend_from_slice(block.get(from..cut.start).unwrap_or_default());
        let rest = block.get(cut.end..).unwrap_or_default();
        let spaces = rest.iter().take_while(|byte| space(byte)).count();
        from = cut.end;
        if rest.get(spaces) == Some(&b',') {
            let after = rest.get(spaces + 1..).unwrap_or_default();
            from += spaces + 1 + after.iter().take_while(|byte| space(byte)).count();
        } else {
            // The last member takes the comma before it along.
            while out.last().is_some_and(space) {
                out.pop();
            }
            if out.last() == Some(&b',') {
                out.pop();
            }
        }
    }
    out.extend_from_slice(block.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> EventReader {
        EventReader::new(Format::Chat, 1)
    }

    /// The tools that a stream calls, or why it is refused.
    fn tools(stream: &[u8]) -> std::result::Result<Vec<String>, String> {
        let mut reader = reader();
        let mut scanner = super::super::sse::Scanner::new();
        let (mut rest, mut seen) = (stream, Vec::new());
        while let Some(length) = scanner.scan(rest) {
            let facts = reader
                .read(&rest[..length])
                .map_err(|error| error.to_string())?;
            seen.extend(facts.tools.iter().map(|tool| tool.name.clone()));
            rest = &rest[length..];
        }
        assert_eq!(rest, b"");
        reader.finish().map_err(|error| error.to_string())?;
        Ok(seen)
    }

    fn delta(calls: &str) -> String {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{calls}]}}}}]}}\n\n"
        )
    }

    fn call(index: &str, name: &str, arguments: &str) -> String {
        format!("{{\"index\":{index},\"function\":{{{name}\"arguments\":\"{arguments}\"}}}}")
    }

    #[test]
    fn a_name_is_fixed_by_the_first_that_is_not_empty() {
        let first = delta(&call("0", "\"name\":\"safe\",", ""));
        for (second, expected) in [
            (call("0", "", "x"), Ok(vec!["safe".to_owned()])),
            (
                call("0", "\"name\":\"\",", "x"),
                Ok(vec!["safe".to_owned()]),
            ),
            (
                call("0", "\"name\":null,", "x"),
                Ok(vec!["safe".to_owned()]),
            ),
            (
                call("0", "\"name\":\"safe\",", "x"),
                Ok(vec!["safe".to_owned()]),
            ),
            (
                call("0", "\"name\":\"evil\",", "x"),
                Err("a second, different name for one tool call".to_owned()),
            ),
            (
                call("1", "\"name\":\"evil\",", "x"),
                Ok(vec!["safe".to_owned(), "evil".to_owned()]),
            ),
            (
                call("5", "\"name\":\"evil\",", "x"),
                Ok(vec!["safe".to_owned(), "evil".to_owned()]),
            ),
            (
                call("null", "\"name\":\"evil\",", "x"),
                Err("several tool calls, one of them without an index".to_owned()),
            ),
            (
                call("null", "", "x"),
                Err("a piece of a tool call without an index".to_owned()),
            ),
        ] {
            assert_eq!(
                tools((first.clone() + &delta(&second)).as_bytes()),
                expected,
                "{second}"
            );
        }
        let both = delta(
            &[
                call("0", "\"name\":\"sa\",", ""),
                call("0", "\"name\":\"fe\",", ""),
            ]
            .join(","),
        );
        assert_eq!(
            tools(both.as_bytes()),
            Err("a second, different name for one tool call".to_owned())
        );
    }

    #[test]
    fn a_reused_index_is_refused() {
        let first = delta(r#"{"index":0,"id":"a","function":{"name":"safe"}}"#);
        let again = delta(r#"{"index":0,"id":"b","function":{"name":"safe"}}"#);
        assert_eq!(
            tools((first.clone() + &again).as_bytes()),
            Err("the index of one tool call used again for another".to_owned())
        );
        let more = delta(r#"{"index":0,"id":"b","function":{"arguments":"{}"}}"#);
        assert_eq!(
            tools((first + &more).as_bytes()),
            Ok(vec!["safe".to_owned()])
        );
    }

    #[test]
    fn a_name_after_its_arguments_is_waited_for() {
        let mut reader = reader();
        let first = delta(&call("0", "", "{}"));
        assert!(reader.read(first.as_bytes()).unwrap().tools.is_empty());
        assert!(reader.waiting());
        assert!(reader.finish().is_err());
        let second = delta(&call("0", "\"name\":\"late\",", ""));
        assert_eq!(
            reader.read(second.as_bytes()).unwrap().tools,
            [Tool::function("late")]
        );
        assert!(!reader.waiting());
    }

    #[test]
    fn filler_without_name_or_arguments_opens_no_call() {
        assert_eq!(
            tools(delta(r#"{"index":0,"function":{"name":"","arguments":""}}"#).as_bytes()),
            Ok(vec![])
        );
    }

    #[test]
    fn whole_messages_inside_events_are_read_every_time() {
        let event = "data: {\"choices\":[{\"index\":0,\"message\":{\"tool_calls\":[{\"function\":{\"name\":\"evil\"}}]}}]}\n\n";
        assert_eq!(tools(event.as_bytes()), Ok(vec!["evil".to_owned()]));
    }

    #[test]
    fn framing_that_decoders_disagree_on_is_refused() {
        let evil =
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"evil"}}]}}]}"#;
        for (stream, expected) in [
            (
                format!("\u{feff}data: {evil}\n\n"),
                Ok(vec!["evil".to_owned()]),
            ),
            (
                format!("data: {{}}\n\n\u{feff}data: {evil}\n\n"),
                Err("a byte order mark inside the event stream"),
            ),
            (
                format!("event: x\n\u{feff}data: {evil}\n\n"),
                Err("a byte order mark inside the event stream"),
            ),
            (
                format!(": keepalive\u{1c}data: {evil}\n"),
                Err("a control character or hidden line break in a line of the event stream"),
            ),
            (
                format!(": keepalive\u{2028}data: {evil}\n"),
                Err("a control character or hidden line break in a line of the event stream"),
            ),
            (format!(" data: {evil}\n\n"), Ok(vec!["evil".to_owned()])),
            (format!("DATA : {evil}\n\n"), Ok(vec!["evil".to_owned()])),
            (format!("{evil}\n\n"), Ok(vec!["evil".to_owned()])),
            (
                "data: {}\ndata: {}\n\n".to_owned(),
                Err("not valid JSON: more follows after the value (byte 3)"),
            ),
            (
                "data: [DONE] x\n\n".to_owned(),
                Err("`[DONE]` in a form that clients read differently"),
            ),
            (
                "data:  [DONE]\n\n".to_owned(),
                Err("`[DONE]` in a form that clients read differently"),
            ),
            (
                "data: [DONE]\n\ndata: {}\n\n".to_owned(),
                Err("data after `[DONE]`"),
            ),
            (
                "data: [DONE]\n\n data: {}\n\n".to_owned(),
                Err("data after `[DONE]`"),
            ),
            ("data: [DONE]\n\n: bye\n\n".to_owned(), Ok(vec![])),
            (
                "data:\n\n".to_owned(),
                Err("not valid JSON: it ends where a value was expected (byte 0)"),
            ),
            (
                "event: ping\nid: 1\nretry: 5\nunknown\n\n".to_owned(),
                Ok(vec![]),
            ),
            (
                "data: {\"choices\":[{\"index\":1,\"delta\":{}}]}\n\n".to_owned(),
                Err("a choice that the request didn't ask for"),
            ),
        ] {
            assert_eq!(
                tools(stream.as_bytes()),
                expected.map_err(str::to_owned),
                "{stream}"
            );
        }
        assert_eq!(
            tools(b": \xff\n"),
            Err("a line of the event stream is not UTF-8".to_owned())
        );
    }

    #[test]
    fn an_event_of_several_data_lines_is_read_joined_and_line_by_line() {
        let joined = "data: {\"choices\":\ndata: [{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"evil\"}}]}}]}\n\n";
        assert_eq!(tools(joined.as_bytes()), Ok(vec!["evil".to_owned()]));
        let inner = "data: {\"x\":\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"evil\"}}]}}]}\ndata: }\n\n";
        assert_eq!(tools(inner.as_bytes()), Ok(vec!["evil".to_owned()]));
    }

    #[test]
    fn a_name_said_again_is_cut_with_one_comma() {
        let cut = |block: &str, member: &str| {
            let start = block.find(member).unwrap();
            String::from_utf8(without(
                block.as_bytes(),
                &[Span {
                    start,
                    end: start + member.len(),
                }],
            ))
            .unwrap()
        };
        assert_eq!(
            cut(r#"{"name":"a","arguments":""}"#, r#""name":"a""#),
            r#"{"arguments":""}"#
        );
        assert_eq!(
            cut(r#"{"arguments":"" , "name":"a" }"#, r#""name":"a""#),
            r#"{"arguments":""  }"#
        );
        assert_eq!(cut(r#"{ "name" : "a" }"#, r#""name" : "a""#), "{ }");
        assert_eq!(
            cut(r#"{"x":1,"name":"a", "y":2}"#, r#""name":"a""#),
            r#"{"x":1,"y":2}"#
        );
    }

    #[test]
    fn a_repeated_name_is_to_be_cut_from_its_block() {
        let mut reader = reader();
        let block = format!(
            "event: x\r\n{}",
            delta(&call("0", "\"name\":\"a\",", "")).replace('\n', "\r\n")
        );
        reader.read(block.as_bytes()).unwrap();
        let cuts = reader.read(block.as_bytes()).unwrap().cuts.clone();
        let left = String::from_utf8(without(block.as_bytes(), &cuts)).unwrap();
        assert_eq!(left, block.replace("\"name\":\"a\",", ""));
    }

    mod fast_and_slow {
        use super::*;
        use proptest::prelude::*;

        /// The verdict on each block, up to the first that is refused, and what the stream came to.
        fn read(blocks: &[Vec<u8>], slow: bool) -> Vec<String> {
            read_as(Format::Chat, blocks, slow)
        }

        fn read_as(format: Format, blocks: &[Vec<u8>], slow: bool) -> Vec<String> {
            let mut reader = EventReader::new(format, 2).in_full(slow);
            let mut seen = Vec::new();
            for block in blocks {
                let verdict = format!("{:?}", reader.read(block));
                let state = (
                    reader.tokens(),
                    reader.text(),
                    reader.waiting(),
                    reader.finish(),
                    reader.next_sequence(),
                );
                seen.push(format!("{verdict} {state:?}"));
                if verdict.starts_with("Err") {
                    break;
                }
            }
            seen
        }

        /// How many of the blocks are read the fast way.
        fn skimmed(blocks: &[Vec<u8>]) -> usize {
            skimmed_as(Format::Chat, blocks)
        }

        fn skimmed_as(format: Format, blocks: &[Vec<u8>]) -> usize {
            let mut reader = EventReader::new(format, 2);
            let mut skimmed = 0;
            for block in blocks {
                if let Some(length) = reader.skim(block) {
                    assert_eq!(length, block.len());
                    skimmed += 1;
                } else {
                    reader.read(block).unwrap();
                }
            }
            skimmed
        }

        fn chunk(delta: &str) -> String {
            format!(
                "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"x9\"}}\n\n"
            )
        }

        fn text(content: &str) -> Vec<u8> {
            chunk(&format!("\"content\":\"{content}\"")).into()
        }

        fn arguments(index: u64, arguments: &str) -> Vec<u8> {
            chunk(&format!(
                "\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":\"{arguments}\"}}}}]"
            ))
            .into()
        }

        /// An event of a response, as the API sends it.
        fn event(kind: &str, number: impl std::fmt::Display, members: &str) -> Vec<u8> {
            let kind = format!("response.{kind}");
            format!(
                "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},\"output_index\":0,{members}}}\n\n"
            )
            .into()
        }

        fn spoken(number: impl std::fmt::Display, delta: &str) -> Vec<u8> {
            let members = format!("\"delta\":\"{delta}\",\"logprobs\":[],\"obfuscation\":\"x\"");
            event("output_text.delta", number, &members)
        }

        fn argued(number: impl std::fmt::Display, delta: &str) -> Vec<u8> {
            let members = format!("\"delta\":\"{delta}\"");
            event("function_call_arguments.delta", number, &members)
        }

        fn added(number: u64, name: &str) -> Vec<u8> {
            let members = format!(
                "\"item\":{{\"type\":\"function_call\",\"name\":\"{name}\",\"arguments\":\"\"}}"
            );
            event("output_item.added", number, &members)
        }

        #[test]
        fn steady_events_of_a_response_are_read_the_fast_way() {
            let blocks = [
                spoken(3, "a"),
                spoken(4, ""),
                spoken(99, r"\ud83d\ude00"),
                spoken(100, "\u{4f60}"),
                spoken(7, "back"),
            ];
            assert_eq!(skimmed_as(Format::Responses, &blocks), 4);
            let told = read_as(Format::Responses, &blocks, false);
            assert_eq!(told, read_as(Format::Responses, &blocks, true));
            assert!(told.last().unwrap().ends_with("Ok(()), 101)"), "{told:?}");

            let blocks = [
                added(1, "a"),
                argued(2, "{"),
                argued(3, "}"),
                argued(10, ""),
            ];
            assert_eq!(skimmed_as(Format::Responses, &blocks), 2);
            assert_eq!(
                read_as(Format::Responses, &blocks, false),
                read_as(Format::Responses, &blocks, true)
            );
        }

        #[test]
        fn what_is_no_plain_number_is_read_slowly() {
            for number in [
                "-1",
                "01",
                "1.0",
                "1e2",
                "\"5\"",
                "null",
                "",
                " 5",
                "1234567890123456",
                "99999999999999999999",
                "5,\"sequence_number\":6",
                "5,\"type\":\"x\"",
            ] {
                let blocks = [spoken(4, "a"), spoken(number, "b"), spoken(6, "c")];
                let mut reader = EventReader::new(Format::Responses, 1);
                reader.read(&blocks[0]).unwrap();
                assert_eq!(reader.skim(&blocks[1]), None, "{number}");
                assert_eq!(
                    read_as(Format::Responses, &blocks, false),
                    read_as(Format::Responses, &blocks, true),
                    "{number}"
                );
            }
        }

        #[test]
        fn after_the_terminal_event_nothing_is_read_the_fast_way() {
            let end = event("completed", 5, "\"response\":{\"output\":[]}");
            let blocks = [spoken(3, "a"), spoken(4, "b"), end, spoken(6, "c")];
            let told = read_as(Format::Responses, &blocks, false);
            assert!(told.last().unwrap().starts_with("Err"), "{told:?}");
            assert_eq!(told, read_as(Format::Responses, &blocks, true));
        }

        #[test]
        fn arguments_of_an_item_that_was_not_announced_are_never_learned() {
            let blocks = [
                argued(1, "{"),
                argued(2, "}"),
                added(3, "a"),
                argued(4, "{"),
            ];
            assert_eq!(skimmed_as(Format::Responses, &blocks), 0);
            assert_eq!(
                read_as(Format::Responses, &blocks, false),
                read_as(Format::Responses, &blocks, true)
            );
        }

        #[test]
        fn steady_events_are_read_the_fast_way() {
            let contents = [
                "",
                " a",
                r"\n",
                r#"\"q\""#,
                "\u{4f60}",
                r"\u4f60",
                r"\ud83d\ude00",
                "\u{feff}",
            ];
            let blocks: Vec<_> = contents.into_iter().map(text).collect();
            assert_eq!(skimmed(&blocks), contents.len() - 1);
            assert_eq!(read(&blocks, false), read(&blocks, true));

            let name = chunk(
                "\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"a\",\"arguments\":\"\"}}]",
            );
            let blocks = [
                name.into(),
                arguments(0, "{"),
                arguments(0, ""),
                arguments(0, "}"),
            ];
            assert_eq!(skimmed(&blocks), 2);
            assert_eq!(read(&blocks, false), read(&blocks, true));
        }

        #[test]
        fn what_is_not_well_formed_is_read_slowly() {
            let learned = text("a");
            for content in [
                "\"",
                r"\",
                r"\x",
                r"\u12",
                r"\ud83d",
                r"\ude00",
                r"\ud83d\u0041",
                "\t",
                "\n",
                "\r",
                "\0",
                r#"","content":"b"#,
                r#"","tool_calls":[{"index":0,"function":{"name":"evil"}}],"x":""#,
            ] {
                let blocks = [learned.clone(), text(content)];
                let mut reader = reader();
                reader.read(&blocks[0]).unwrap();
                assert_eq!(reader.skim(&blocks[1]), None, "{content}");
                assert_eq!(read(&blocks, false), read(&blocks, true), "{content}");
            }
            let mut not_text = learned.clone();
            let at = not_text.windows(2).position(|pair| pair == b"a\"").unwrap();
            not_text[at] = 0xC3;
            assert_eq!(
                read(&[learned.clone(), not_text.clone()], false),
                read(&[learned, not_text], true)
            );
        }

        #[test]
        fn arguments_of_a_call_that_is_not_open_are_never_learned() {
            // Empty arguments are filler; with text in them they would open a call without a name.
            let blocks = [arguments(0, ""), arguments(0, ""), arguments(0, "{}")];
            assert_eq!(read(&blocks, false), read(&blocks, true));
            assert_eq!(skimmed(&blocks), 0);
        }

        #[test]
        fn a_stream_of_changing_shapes_stops_being_learned_and_starts_again() {
            let mut blocks: Vec<Vec<u8>> = (0..100)
                .map(|at| chunk(&format!("\"content\":\"a\",\"at\":{at}")).into())
                .collect();
            assert_eq!(skimmed(&blocks), 0);
            blocks.extend((0..100).map(|_| text("a")));
            assert!(skimmed(&blocks) > 60);
        }

        fn block() -> impl Strategy<Value = Vec<u8>> {
            let content = prop_oneof![
                "[ a-z\u{4f60}\u{1f600}\u{2028}]{0,6}",
                Just(r#"\n\"\\"#.to_owned()),
                Just(r"\u4f60\ud83d\ude00".to_owned()),
            ];
            prop_oneof![
                6 => content.clone().prop_map(|content| text(&content)),
                3 => (0..3_u64, content).prop_map(|(index, content)| arguments(index, &content)),
                1 => (0..3_u64).prop_map(|index| {
                    chunk(&format!("\"tool_calls\":[{{\"index\":{index},\"function\":{{\"name\":\"a\",\"arguments\":\"\"}}}}]")).into()
                }),
                1 => prop::sample::select(vec![
                    "data: [DONE]\n\n", ": ping\n", "\n", "data: {}\n\n", "data: {\"usage\":{\"total_tokens\":7}}\n\n",
                ]).prop_map(|block| block.as_bytes().to_vec()),
            ]
        }

        fn response_block() -> impl Strategy<Value = Vec<u8>> {
            let content = "[ a-z\u{4f60}\u{1f600}\u{2028}]{0,6}";
            prop_oneof![
                6 => (0..200_u64, content).prop_map(|(number, delta)| spoken(number, &delta)),
                3 => (0..200_u64, content).prop_map(|(number, delta)| argued(number, &delta)),
                2 => (0..200_u64, "[ab]").prop_map(|(number, name)| added(number, &name)),
                1 => prop::sample::select(vec![
                    "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"total_tokens\":7}}}\n\n",
                    ": ping\n", "\n", "event: x\n", "data: [DONE]\n\n",
                ]).prop_map(|block| block.as_bytes().to_vec()),
            ]
        }

        /// A change of one block: a byte replaced, put in or taken out, or a piece said twice.
        fn mutated(block: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
            const BYTES: &[u8] = b"\"\\{}[],:0aN_u\n\r\t \x00\x1f\x7f\xc3\xef";
            (
                block,
                0..4_u8,
                any::<prop::sample::Index>(),
                any::<prop::sample::Index>(),
                prop::sample::select(BYTES),
            )
                .prop_map(|(mut block, how, at, to, byte)| {
                    let (at, to) = (at.index(block.len()), to.index(block.len()));
                    match how {
                        0 => block[at] = byte,
                        1 => block.insert(at, byte),
                        2 => drop(block.remove(at)),
                        _ => {
                            let piece = block[at.min(to)..at.max(to)].to_vec();
                            block.splice(at..at, piece);
                        }
                    }
                    block
                })
        }

        /// Blocks as they come from the scanner, however they were changed.
        fn scanned(stream: &[u8]) -> Vec<Vec<u8>> {
            let mut scanner = super::super::super::sse::Scanner::new();
            let (mut rest, mut blocks) = (stream, Vec::new());
            while let Some(length) = scanner.scan(rest) {
                blocks.push(rest[..length].to_vec());
                rest = &rest[length..];
            }
            blocks
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(2_000))]

            #[test]
            fn both_ways_give_the_same_verdicts(
                blocks in prop::collection::vec(prop_oneof![8 => block(), 1 => mutated(block())], 1..24)
            ) {
                let blocks = scanned(&blocks.concat());
                prop_assert_eq!(read(&blocks, false), read(&blocks, true));
            }

            #[test]
            fn both_ways_give_the_same_verdicts_on_responses(
                blocks in prop::collection::vec(
                    prop_oneof![8 => response_block(), 1 => mutated(response_block())],
                    1..24
                )
            ) {
                let blocks = scanned(&blocks.concat());
                prop_assert_eq!(
                    read_as(Format::Responses, &blocks, false),
                    read_as(Format::Responses, &blocks, true)
                );
            }

            #[test]
            fn a_skimmed_block_is_the_scanner_s_block(
                blocks in prop::collection::vec(prop_oneof![8 => block(), 1 => mutated(block())], 1..24)
            ) {
                let stream = blocks.concat();
                let mut reader = EventReader::new(Format::Chat, 2);
                let mut scanner = super::super::super::sse::Scanner::new();
                let mut rest = &stream[..];
                while let Some(length) = scanner.scan(rest) {
                    if let Some(skimmed) = reader.skim(rest) {
                        prop_assert_eq!(skimmed, length);
                    } else if reader.read(&rest[..length]).is_err() {
                        break;
                    }
                    rest = &rest[length..];
                }
            }
        }
    }
}
