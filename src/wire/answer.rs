//! An answer's JSON document to facts: which tools it calls and what it cost.
//!
//! A whole answer and one event of a streamed answer are read by the same code, because clients accept each
//! other's shapes: `message` inside an event and `delta` inside a whole answer are both acted upon
//! (<https://platform.openai.com/docs/api-reference/chat/object>,
//! <https://platform.openai.com/docs/api-reference/chat-streaming>).

use super::error::{Result, WireError};
use super::json::{Kind, Reader, Scratch, Span, is_case_variant};
use super::shape::{Filling, Tokens};
use super::tool::Tool;

/// Indexes of choices and of tool calls end here: no client asks for more, and each open call costs memory.
pub(crate) const MAX_INDEX: u64 = 127;
/// One document may mention this many calls.
const MAX_PARTS: usize = 4_096;

/// What one document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerFacts {
    pub(crate) parts: Vec<CallPart>,
    /// The types of calls that are neither functions nor custom tools and bear no name: the type is the tool.
    pub(crate) hosted: Vec<String>,
    pub(crate) usage: Option<Usage>,
    /// The document carries a non-null `error`.
    pub(crate) error: bool,
    /// Bytes of generated text, escapes counted as written.
    pub(crate) text: u64,
    pub(crate) choices: Choices,
    /// Items, steps and runs that call tools, in APIs other than chat.
    pub(crate) items: Vec<Item>,
}

impl AnswerFacts {
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.hosted.clear();
        self.choices = Choices::default();
        self.items.clear();
        self.usage = None;
        self.error = false;
        self.text = 0;
    }
}

/// The indexes of the choices that a document holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choices(u128);

impl Choices {
    /// Adds an index of at most [`MAX_INDEX`]; false when it is there already, or larger.
    fn insert(&mut self, index: u64) -> bool {
        let bit = u32::try_from(index)
            .ok()
            .and_then(|at| 1_u128.checked_shl(at));
        let new = bit.filter(|bit| self.0 & bit == 0);
        self.0 |= new.unwrap_or_default();
        new.is_some()
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether there is one that an answer with so many choices hasn't.
    pub(crate) const fn reach(self, count: u64) -> bool {
        (u128::BITS - self.0.leading_zeros()) as u64 > count
    }
}

/// What a whole document says, as far as a policy can care.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DocumentFacts {
    pub(crate) calls: Vec<Tool>,
    pub(crate) usage: Option<Usage>,
    /// Bytes of generated text, escapes counted as written.
    pub(crate) text: u64,
    pub(crate) choices: Choices,
}

impl From<AnswerFacts> for DocumentFacts {
    fn from(facts: AnswerFacts) -> Self {
        let hosted = facts.hosted.iter().map(|kind| Tool::typed(kind));
        let names = facts.parts.into_iter().flat_map(|part| part.names);
        let named = names.map(|name| Tool::function(name.text));
        let items = facts.items.iter().filter_map(Item::tool);
        Self {
            calls: hosted.chain(named).chain(items).collect(),
            usage: facts.usage,
            text: facts.text,
            choices: facts.choices,
        }
    }
}

/// A tool call, or a piece of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallPart {
    pub(crate) choice: u64,
    pub(crate) slot: Slot,
    pub(crate) id: Option<String>,
    /// Names, none of them empty, in the order in which they occur.
    pub(crate) names: Vec<Name>,
    /// It brings arguments or input.
    pub(crate) arguments: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: String,
    /// The member that holds it, in the document.
    pub(crate) span: Span,
}

/// Something that calls a tool, outside of chat: whatever has the type of a call, or a name beside arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) call_id: Option<String>,
    /// Its own id, and its place among the calls of a run's step, where it comes in pieces.
    pub(crate) piece: Option<(Option<String>, u64)>,
    /// It stands in a list of tool calls, so it calls whatever its type is.
    listed: bool,
    arguments: bool,
}

impl Item {
    /// The tool that it calls, if it calls one.
    pub(crate) fn tool(&self) -> Option<Tool> {
        let name = self.name.as_deref().unwrap_or_default();
        let named =
            || Tool::function(name).in_namespace(self.namespace.as_deref().unwrap_or_default());
        match self.kind.as_str() {
            // An empty name is filler, and without arguments nobody could act on it.
            "function_call" | "custom_tool_call" | "function" | "custom" if name.is_empty() => {
                self.arguments.then(|| Tool::typed(""))
            }
            "function_call" | "custom_tool_call" | "function" | "custom" => Some(named()),
            "mcp_call" | "mcp_approval_request" => Some(Tool::mcp(
                self.label.as_deref().unwrap_or_default(),
                self.name.as_deref(),
            )),
            "program" => Some(Tool::typed("programmatic_tool_calling")),
            kind if kind.ends_with("_call") || self.listed && !kind.is_empty() => {
                Some(Tool::typed(kind))
            }
            _ if self.listed && !name.is_empty() => Some(named()),
            // Clients pass types that they don't know through to code that goes by the name.
            _ => (self.arguments && !name.is_empty()).then(named),
        }
    }
}

/// Which call of its choice a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A call of a whole message: complete in itself.
    Whole,
    /// A piece of the call with this `index`.
    Index(u64),
    /// A piece without an `index`.
    NoIndex,
    /// The legacy `function_call`.
    Legacy,
}

/// Reported token use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) total: Option<u64>,
}

impl Usage {
    /// A later report never lowers an earlier one.
    pub(crate) fn raise(&mut self, seen: Self) {
        self.input = self.input.max(seen.input);
        self.output = self.output.max(seen.output);
        self.total = self.total.max(seen.total);
    }

    /// What to charge, in tokens: the larger of the total and the sum of its parts, since some providers leave
    /// hidden reasoning out of one of them. `None` when neither can be known.
    pub(crate) fn tokens(self) -> Option<u64> {
        // One part alone is no cost: it would make the other free.
        let sum = self
            .input
            .zip(self.output)
            .map(|(input, output)| input.saturating_add(output));
        self.total.max(sum)
    }
}

/// Reads a chat completion, or one chunk of a streamed one, into `facts`.
///
/// # Errors
/// When the document is not strict JSON, or a field that a client acts upon has another shape than documented.
pub(crate) fn read_chat(
    document: &[u8],
    scratch: &mut Scratch,
    facts: &mut AnswerFacts,
) -> Result<()> {
    chat(&mut Reader::new(document, scratch)?, facts)
}

/// As [`read_chat`], by a reader that is at the document's beginning.
pub(super) fn chat(reader: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    facts.clear();
    if reader.kind()? != Kind::Object {
        return Err(WireError::new("the answer is not a JSON object"));
    }
    reader.object(|r, key| match key {
        "choices" => choices(r, facts),
        // A list of stored completions.
        "data" if r.kind()? == Kind::Array => r.array(|r| {
            if r.kind()? == Kind::Object {
                // Each of them counts its choices from 0.
                facts.choices = Choices::default();
                thing(r, facts)
            } else {
                r.skip()
            }
        }),
        // What the other API says of a call is a call to a client that reads both.
        "item" | "output" | "response" => match r.kind()? {
            Kind::Object => thing(r, facts),
            Kind::Array => r.array(|r| match r.kind()? {
                Kind::Object => thing(r, facts),
                _ => r.skip(),
            }),
            _ => r.skip(),
        },
        "usage" => usage(r, facts),
        "x_groq" => {
            if r.kind()? != Kind::Object {
                return r.skip();
            }
            r.object(|r, key| {
                if key == "usage" {
                    usage(r, facts)
                } else {
                    r.skip()
                }
            })
        }
        "error" => {
            facts.error = !r.null()?;
            if facts.error { r.skip() } else { Ok(()) }
        }
        other => not_a_variant(r, other, &["choices", "error", "usage"]),
    })?;
    reader.end()
}

/// Reads an answer of any other API: a response, an item, a run, a step, a list of them, or a completion.
///
/// It is read as all of these at once, so that no document passes because it was taken for another kind.
///
/// # Errors
/// As [`read_chat`].
pub(crate) fn read_any(
    document: &[u8],
    scratch: &mut Scratch,
    facts: &mut AnswerFacts,
) -> Result<()> {
    any(&mut Reader::new(document, scratch)?, facts)
}

/// As [`read_any`], by a reader that is at the document's beginning.
pub(super) fn any(reader: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    facts.clear();
    if reader.kind()? != Kind::Object {
        return Err(WireError::new("the answer is not a JSON object"));
    }
    thing(reader, facts)?;
    reader.end()
}

/// Keys whose objects, or lists of objects, are read like the document itself.
const CONTAINERS: &[&str] = &[
    // A batch's line holds the answer's body.
    "body",
    "data",
    "item",
    "output",
    "required_action",
    "response",
    // An evaluation's item holds what the model said.
    "sample",
    "step_details",
    "submit_tool_outputs",
    "tool_calls",
];

/// The other keys that tell what a thing calls.
const THING_KEYS: &[&str] = &[
    "arguments",
    "call_id",
    "choices",
    "custom",
    "error",
    "function",
    "function_call",
    "input",
    "name",
    "namespace",
    "server_label",
    "type",
    "usage",
];

/// Reads an object as whatever it may be.
pub(crate) fn thing(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    thing_as(r, Item::default(), facts)
}

/// As [`thing`], of an object about which something is known already.
fn thing_as(r: &mut Reader<'_, '_>, mut item: Item, facts: &mut AnswerFacts) -> Result<()> {
    let (mut id, mut index) = (None, None);
    let listed = item.listed;
    r.object(|r, key| match key {
        "id" if listed => item_id(r, &mut id, "a tool call's id is not a string"),
        "index" if listed => optional(r, |r| {
            index = Some(small_index(
                r,
                "a tool call's index is not a whole number from 0 to 127",
            )?);
            Ok(())
        }),
        other => thing_member(r, other, &mut item, facts),
    })?;
    item.piece = index.map(|index| (id, index));
    push_item(r, item, facts)
}

pub(crate) fn push_item(r: &Reader<'_, '_>, item: Item, facts: &mut AnswerFacts) -> Result<()> {
    if item.tool().is_some() {
        if facts.items.len() >= MAX_PARTS {
            return wrong(r, "more than 4096 tool calls");
        }
        facts.items.push(item);
    }
    Ok(())
}

/// Reads one member of a thing.
pub(crate) fn thing_member(
    r: &mut Reader<'_, '_>,
    key: &str,
    item: &mut Item,
    facts: &mut AnswerFacts,
) -> Result<()> {
    if CONTAINERS.contains(&key) {
        let inner = || Item {
            listed: key == "tool_calls",
            ..Item::default()
        };
        return match r.kind()? {
            Kind::Object => thing_as(r, inner(), facts),
            Kind::Array => r.array(|r| {
                if r.kind()? == Kind::Object {
                    thing_as(r, inner(), facts)
                } else {
                    text(r, facts)
                }
            }),
            _ => text(r, facts),
        };
    }
    match key {
        "type" => {
            if r.kind()? == Kind::String {
                item.kind = r.string()?.into_owned();
                return Ok(());
            }
            r.skip()
        }
        "name" => item_text(r, &mut item.name, "a called tool's name is not a string"),
        "namespace" => item_text(
            r,
            &mut item.namespace,
            "a called tool's namespace is not a string",
        ),
        "server_label" => item_text(r, &mut item.label, "a server's label is not a string"),
        "call_id" => item_id(r, &mut item.call_id, "a call's id is not a string"),
        "arguments" | "input" => optional(r, |r| {
            if r.kind()? == Kind::String {
                item.arguments |= arguments(r, facts)?;
                return Ok(());
            }
            item.arguments = true;
            r.skip()
        }),
        // A message of its own, in a list of them.
        "function_call" if r.kind()? == Kind::Object => {
            let call = Item {
                kind: key.to_owned(),
                ..Item::default()
            };
            thing_as(r, call, facts)
        }
        "function_call" => r.skip(),
        "custom" if r.kind()? != Kind::Object => r.skip(),
        // A run's call names its function one level down.
        "function" | "custom" => optional(r, |r| {
            if r.kind()? != Kind::Object {
                return wrong(r, "a called function is not an object");
            }
            r.object(|r, key| match key {
                "name" => item_text(r, &mut item.name, "a called tool's name is not a string"),
                "arguments" | "input" => {
                    item.arguments = true;
                    text(r, facts)
                }
                other => not_a_variant(r, other, &["arguments", "input", "name"]),
            })
        }),
        "choices" => choices(r, facts),
        // A delta is text in one API and a piece of a step in another.
        "delta" if r.kind()? == Kind::Object => thing(r, facts),
        "usage" => usage(r, facts),
        "error" => {
            facts.error = !r.null()?;
            if facts.error { r.skip() } else { Ok(()) }
        }
        "delta" | "text" | "summary" | "content" | "code" => text(r, facts),
        other if is_case_variant(other, CONTAINERS) || is_case_variant(other, THING_KEYS) => {
            wrong(r, "a key that is a known key in another case")
        }
        _ => r.skip(),
    }
}

/// An id tells the pieces of a stream apart: of a whole document it tells nothing.
fn item_id(r: &mut Reader<'_, '_>, slot: &mut Option<String>, reason: &'static str) -> Result<()> {
    let kind = r.kind()?;
    let start = r.position();
    item_text(r, slot, reason)?;
    if kind == Kind::String {
        r.note_hole(start, Filling::String);
    }
    Ok(())
}

fn item_text(
    r: &mut Reader<'_, '_>,
    slot: &mut Option<String>,
    reason: &'static str,
) -> Result<()> {
    optional(r, |r| {
        if r.kind()? != Kind::String {
            return wrong(r, reason);
        }
        *slot = Some(r.string()?.into_owned());
        Ok(())
    })
}

fn choices(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    optional(r, |r| {
        if r.kind()? != Kind::Array {
            return wrong(r, "`choices` is not a list");
        }
        r.array(|r| choice(r, facts))
    })
}

fn choice(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    if r.kind()? != Kind::Object {
        return wrong(r, "a choice is not an object");
    }
    // The index may follow the delta, so parts learn theirs afterwards.
    let first_part = facts.parts.len();
    let mut index = None;
    r.object(|r, key| match key {
        "index" => {
            index = Some(small_index(
                r,
                "a choice's index is not a whole number from 0 to 127",
            )?);
            Ok(())
        }
        "delta" => optional(r, |r| spoken(r, facts, false)),
        "message" => optional(r, |r| spoken(r, facts, true)),
        "text" => text(r, facts),
        // Moonshot reports a stream's usage here.
        "usage" => usage(r, facts),
        other => not_a_variant(r, other, &["delta", "index", "message"]),
    })?;
    // One old server leaves the index of its only choice out.
    let index = index.unwrap_or(0);
    if !facts.choices.insert(index) {
        return wrong(r, "two choices with the same index");
    }
    for part in facts.parts.get_mut(first_part..).unwrap_or_default() {
        part.choice = index;
    }
    Ok(())
}

/// A `message`, or the `delta` of one.
fn spoken(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts, whole: bool) -> Result<()> {
    if r.kind()? != Kind::Object {
        return wrong(r, "a message is not an object");
    }
    r.object(|r, key| match key {
        "tool_calls" => optional(r, |r| {
            if r.kind()? != Kind::Array {
                return wrong(r, "`tool_calls` is not a list");
            }
            r.array(|r| {
                let mut part = CallPart {
                    choice: 0,
                    slot: if whole { Slot::Whole } else { Slot::NoIndex },
                    id: None,
                    names: Vec::new(),
                    arguments: false,
                };
                tool_call(r, &mut part, facts, whole)?;
                push(r, facts, part)
            })
        }),
        "function_call" => optional(r, |r| {
            let slot = if whole { Slot::Whole } else { Slot::Legacy };
            let mut part = CallPart {
                choice: 0,
                slot,
                id: None,
                names: Vec::new(),
                arguments: false,
            };
            called(r, &mut part, facts)?;
            push(r, facts, part)
        }),
        "role" => r.skip(),
        other => {
            if is_case_variant(other, &["function_call", "tool_calls"]) {
                return wrong(r, "a key that is a known key in another case");
            }
            text(r, facts)
        }
    })
}

fn push(r: &Reader<'_, '_>, facts: &mut AnswerFacts, part: CallPart) -> Result<()> {
    if facts.parts.len() >= MAX_PARTS {
        return wrong(r, "more than 4096 tool calls");
    }
    facts.parts.push(part);
    Ok(())
}

fn tool_call(
    r: &mut Reader<'_, '_>,
    part: &mut CallPart,
    facts: &mut AnswerFacts,
    whole: bool,
) -> Result<()> {
    if r.kind()? != Kind::Object {
        return wrong(r, "a tool call is not an object");
    }
    let mut kind = None;
    r.object(|r, key| match key {
        "type" => {
            if r.kind()? != Kind::String {
                return r.skip();
            }
            let text = r.string()?;
            let named = |known: &&str| text.eq_ignore_ascii_case(known);
            if !["", "custom", "function"].iter().any(named) {
                kind = Some(text.into_owned());
            }
            Ok(())
        }
        "index" if whole => r.skip(),
        "index" => optional(r, |r| {
            part.slot = Slot::Index(small_index(
                r,
                "a tool call's index is not a whole number from 0 to 127",
            )?);
            Ok(())
        }),
        "id" => {
            if r.kind()? == Kind::String {
                let start = r.position();
                let id = r.string()?;
                r.note_hole(start, Filling::String);
                part.id = (!id.is_empty()).then(|| id.into_owned());
                return Ok(());
            }
            r.skip()
        }
        "function" | "custom" => optional(r, |r| called(r, part, facts)),
        "name" => name(r, part),
        other => not_a_variant(r, other, &["custom", "function", "index", "name"]),
    })?;
    if part.names.is_empty() {
        facts.hosted.extend(kind);
    }
    Ok(())
}

/// The object that names a function and brings its arguments.
fn called(r: &mut Reader<'_, '_>, part: &mut CallPart, facts: &mut AnswerFacts) -> Result<()> {
    if r.kind()? != Kind::Object {
        return wrong(r, "a called function is not an object");
    }
    r.object(|r, key| match key {
        "name" => name(r, part),
        "arguments" | "input" => {
            if r.kind()? == Kind::String {
                part.arguments |= arguments(r, facts)?;
                return Ok(());
            }
            optional(r, |r| {
                part.arguments = true;
                r.skip()
            })
        }
        other => not_a_variant(r, other, &["arguments", "input", "name"]),
    })
}

/// An empty name is filler that some servers send with every message: not a call.
fn name(r: &mut Reader<'_, '_>, part: &mut CallPart) -> Result<()> {
    let start = r.key_start();
    optional(r, |r| {
        if r.kind()? != Kind::String {
            return wrong(r, "a called tool's name is not a string");
        }
        let text = r.string()?;
        if !text.is_empty() {
            part.names.push(Name {
                text: text.into_owned(),
                span: Span {
                    start,
                    end: r.position(),
                },
            });
        }
        Ok(())
    })
}

/// Adds what a `usage` object reports. What can't be used (negative, fractional, text) is as good as absent, and a
/// later report never lowers an earlier one.
fn usage(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    if r.kind()? != Kind::Object {
        return r.skip();
    }
    let mut seen = facts.usage.unwrap_or_default();
    r.object(|r, key| {
        let (count, tokens) = match key {
            "prompt_tokens" | "input_tokens" => (&mut seen.input, Tokens::Input),
            "completion_tokens" | "output_tokens" => (&mut seen.output, Tokens::Output),
            "total_tokens" => (&mut seen.total, Tokens::Total),
            _ => return r.skip(),
        };
        if r.kind()? != Kind::Number {
            return r.skip();
        }
        let start = r.position();
        let stated = r.unsigned()?;
        match stated {
            Some(_) => r.note_hole(start, Filling::Tokens(tokens)),
            None => r.note_no_shape(),
        }
        *count = (*count).max(stated);
        Ok(())
    })?;
    facts.usage = Some(seen);
    Ok(())
}

/// Counts generated text.
fn text(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    if r.kind()? == Kind::String {
        let start = r.position();
        facts.text = facts.text.saturating_add(r.string_len()? as u64);
        r.note_hole(start, Filling::Text);
        return Ok(());
    }
    r.skip()
}

/// Counts the string that is next, which a call brings: is there any?
fn arguments(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<bool> {
    let start = r.position();
    let length = r.string_len()? as u64;
    if length > 0 {
        r.note_hole(start, Filling::SomeText);
    }
    facts.text = facts.text.saturating_add(length);
    Ok(length > 0)
}

fn small_index(r: &mut Reader<'_, '_>, reason: &'static str) -> Result<u64> {
    if r.kind()? != Kind::Number {
        return wrong(r, reason);
    }
    let at = r.position();
    r.unsigned()?
        .filter(|index| *index <= MAX_INDEX)
        .ok_or(WireError::at(reason, at))
}

fn optional(
    r: &mut Reader<'_, '_>,
    read: impl FnOnce(&mut Reader<'_, '_>) -> Result<()>,
) -> Result<()> {
    if r.null()? { Ok(()) } else { read(r) }
}

fn wrong<T>(r: &Reader<'_, '_>, reason: &'static str) -> Result<T> {
    Err(WireError::at(reason, r.position()))
}

fn not_a_variant(r: &mut Reader<'_, '_>, key: &str, governed: &[&str]) -> Result<()> {
    if is_case_variant(key, governed) {
        return wrong(r, "a key that is a known key in another case");
    }
    r.skip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str) -> Result<AnswerFacts> {
        let mut facts = AnswerFacts::default();
        read_chat(document.as_bytes(), &mut Scratch::default(), &mut facts)?;
        Ok(facts)
    }

    fn names(document: &str) -> Vec<String> {
        read(document)
            .unwrap()
            .parts
            .into_iter()
            .flat_map(|part| part.names)
            .map(|name| name.text)
            .collect()
    }

    #[test]
    fn every_carrier_of_a_call_is_read() {
        assert_eq!(
            names(
                r#"{"choices":[{"index":0,"message":{"tool_calls":[{"function":{"name":"a"},"custom":{"name":"b"},"name":"c"}],"function_call":{"name":"d"}}},{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"n\u0061me":"e"}}],"function_call":{"name":"f","arguments":""}}}]}"#
            ),
            ["a", "b", "c", "d", "e", "f"]
        );
        assert_eq!(
            names(
                r#"{"choices":[{"message":{"tool_calls":null,"function_call":{"name":"","arguments":""}}}]}"#
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_call_without_a_name_is_known_by_its_type() {
        let calls = r#"{"choices":[{"index":0,"message":{"tool_calls":[{"type":"web_search_call"},{"type":"function"},{"type":"FUNCTION","function":{"arguments":"x"}},{"type":"other","name":"a"},{"type":null}]}}]}"#;
        assert_eq!(read(calls).unwrap().hosted, ["web_search_call"]);
    }

    #[test]
    fn a_call_in_a_shape_nobody_documented_is_refused() {
        for (document, reason) in [
            (r#"[]"#, "the answer is not a JSON object"),
            (r#"{"choices":{}}"#, "`choices` is not a list (byte 11)"),
            (r#"{"choices":[[]]}"#, "a choice is not an object (byte 12)"),
            (
                r#"{"choices":[{"index":-1}]}"#,
                "a choice's index is not a whole number from 0 to 127 (byte 21)",
            ),
            (
                r#"{"choices":[{"index":0},{"index":0}]}"#,
                "two choices with the same index (byte 35)",
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":{}}}]}"#,
                "`tool_calls` is not a list (byte 35)",
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":"0"}]}}]}"#,
                "a tool call's index is not a whole number from 0 to 127 (byte 45)",
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0.0}]}}]}"#,
                "a tool call's index is not a whole number from 0 to 127 (byte 45)",
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":12}}]}}]}"#,
                "a called tool's name is not a string (byte 56)",
            ),
            (
                r#"{"choices":[{"delta":{"Tool_Calls":[]}}]}"#,
                "a key that is a known key in another case (byte 35)",
            ),
        ] {
            assert_eq!(
                read(document).unwrap_err().to_string(),
                reason,
                "{document}"
            );
        }
    }

    #[test]
    fn usage_is_the_larger_of_total_and_sum_and_never_what_can_not_be_used() {
        let tokens = |usage: &str| {
            read(&format!(r#"{{"usage":{usage}}}"#))
                .unwrap()
                .usage
                .and_then(Usage::tokens)
        };
        assert_eq!(
            tokens(r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#),
            Some(7)
        );
        assert_eq!(
            tokens(r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#),
            Some(109)
        );
        assert_eq!(
            tokens(r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":0}"#),
            Some(7)
        );
        assert_eq!(tokens(r#"{"total_tokens":5}"#), Some(5));
        assert_eq!(tokens("null"), None);
        assert_eq!(tokens(r#"{"total_tokens":-5}"#), None);
        assert_eq!(tokens(r#"{"total_tokens":1.5}"#), None);
        assert_eq!(tokens(r#"{"total_tokens":"5"}"#), None);
        assert_eq!(tokens(r#"{"total_tokens":99999999999999999999}"#), None);
        assert_eq!(tokens(r#"{"prompt_tokens":3}"#), None);
    }

    fn called(document: &str) -> Vec<String> {
        let mut facts = AnswerFacts::default();
        read_any(document.as_bytes(), &mut Scratch::default(), &mut facts).unwrap();
        facts
            .items
            .iter()
            .filter_map(Item::tool)
            .map(|tool| tool.name)
            .collect()
    }

    #[test]
    fn every_item_that_calls_a_tool_is_read() {
        for (document, expected) in [
            (
                r#"{"output":[{"type":"function_call","name":"a","namespace":"n"},{"type":"custom_tool_call","name":"b"}]}"#,
                vec!["n.a", "b"],
            ),
            (
                r#"{"output":[{"type":"mcp_call","server_label":"s","name":"t"},{"type":"mcp_approval_request","server_label":"s","name":"u"}]}"#,
                vec!["mcp:s/t", "mcp:s/u"],
            ),
            (
                r#"{"output":[{"type":"web_search_call"},{"type":"x_search_call"},{"type":"program","code":"x"}]}"#,
                vec![
                    "web_search_call",
                    "x_search_call",
                    "programmatic_tool_calling",
                ],
            ),
            (
                r#"{"output":[{"type":"brand_new","name":"a","arguments":"{}"},{"type":"brand_new","name":"b","input":{}}]}"#,
                vec!["a", "b"],
            ),
            (
                r#"{"output":[{"type":"message","content":[]},{"type":"reasoning"},{"type":"mcp_list_tools","tools":[{"name":"x"}]},{"type":"function_call_output","output":"x"}]}"#,
                vec![],
            ),
            (
                r#"{"sample":{"output":[{"tool_calls":[{"type":"function","function":{"name":"a"}}]}]}}"#,
                vec!["a"],
            ),
            (
                r#"{"data":[{"type":"function_call","name":"a"}]}"#,
                vec!["a"],
            ),
            (r#"{"type":"function_call","name":"a"}"#, vec!["a"]),
            (
                r#"{"type":"x","response":{"output":[{"type":"function_call","name":"a"}]},"item":{"type":"shell_call"}}"#,
                vec!["a", "shell_call"],
            ),
            (
                r#"{"required_action":{"submit_tool_outputs":{"tool_calls":[{"type":"function","function":{"name":"a","arguments":"{}"}}]}}}"#,
                vec!["a"],
            ),
            (
                r#"{"delta":{"step_details":{"tool_calls":[{"type":"function","function":{"name":"a"}}]}}}"#,
                vec!["a"],
            ),
        ] {
            assert_eq!(called(document), expected, "{document}");
        }
    }

    #[test]
    fn arguments_of_any_type_are_read_past() {
        let facts = read(r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":{"a":1}}},{"index":1,"function":{"arguments":null}},{"index":2,"function":{"arguments":"xy"}}]}}]}"#).unwrap();
        let arguments: Vec<bool> = facts.parts.iter().map(|part| part.arguments).collect();
        assert_eq!(arguments, [true, false, true]);
        assert_eq!(facts.text, 2);
    }
}
