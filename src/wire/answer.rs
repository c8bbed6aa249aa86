//! An answer's JSON document to facts: which tools it calls and what it cost.
//!
//! A whole answer and one event of a streamed answer are read by the same code, because clients accept each
//! other's shapes: `message` inside an event and `delta` inside a whole answer are both acted upon
//! (<https://platform.openai.com/docs/api-reference/chat/object>,
//! <https://platform.openai.com/docs/api-reference/chat-streaming>).

use super::error::{Result, WireError};
use super::json::{Kind, Reader, Scratch, Span, is_case_variant};

/// Indexes of choices and of tool calls end here: no client asks for more, and each open call costs memory.
pub(crate) const MAX_INDEX: u64 = 127;
/// One document may mention this many calls.
const MAX_PARTS: usize = 4_096;

/// What one document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerFacts {
    pub(crate) parts: Vec<CallPart>,
    pub(crate) usage: Option<Usage>,
    /// The document carries a non-null `error`.
    pub(crate) error: bool,
    /// Bytes of generated text, escapes counted as written.
    pub(crate) text: u64,
    /// The indexes of the choices it holds.
    pub(crate) choices: Vec<u64>,
}

impl AnswerFacts {
    fn clear(&mut self) {
        self.parts.clear();
        self.choices.clear();
        self.usage = None;
        self.error = false;
        self.text = 0;
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
    facts.clear();
    let mut reader = Reader::new(document, scratch)?;
    if reader.kind()? != Kind::Object {
        return Err(WireError::new("the answer is not a JSON object"));
    }
    reader.object(|r, key| match key {
        "choices" => optional(r, |r| {
            if r.kind()? != Kind::Array {
                return wrong(r, "`choices` is not a list");
            }
            r.array(|r| choice(r, facts))
        }),
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
    if facts.choices.contains(&index) {
        return wrong(r, "two choices with the same index");
    }
    facts.choices.push(index);
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
    r.object(|r, key| match key {
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
                let id = r.string()?;
                part.id = (!id.is_empty()).then(|| id.into_owned());
                return Ok(());
            }
            r.skip()
        }
        "function" | "custom" => optional(r, |r| called(r, part, facts)),
        "name" => name(r, part),
        other => not_a_variant(r, other, &["custom", "function", "index", "name"]),
    })
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
                let length = r.string_len()? as u64;
                part.arguments |= length > 0;
                facts.text = facts.text.saturating_add(length);
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
        let count = match key {
            "prompt_tokens" | "input_tokens" => &mut seen.input,
            "completion_tokens" | "output_tokens" => &mut seen.output,
            "total_tokens" => &mut seen.total,
            _ => return r.skip(),
        };
        if r.kind()? != Kind::Number {
            return r.skip();
        }
        *count = (*count).max(r.unsigned()?);
        Ok(())
    })?;
    facts.usage = Some(seen);
    Ok(())
}

/// Counts generated text.
fn text(r: &mut Reader<'_, '_>, facts: &mut AnswerFacts) -> Result<()> {
    if r.kind()? == Kind::String {
        facts.text = facts.text.saturating_add(r.string_len()? as u64);
        return Ok(());
    }
    r.skip()
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

    #[test]
    fn arguments_of_any_type_are_read_past() {
        let facts = read(r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":{"a":1}}},{"index":1,"function":{"arguments":null}},{"index":2,"function":{"arguments":"xy"}}]}}]}"#).unwrap();
        let arguments: Vec<bool> = facts.parts.iter().map(|part| part.arguments).collect();
        assert_eq!(arguments, [true, false, true]);
        assert_eq!(facts.text, 2);
    }
}
