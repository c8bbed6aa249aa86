//! The events of a streamed response (<https://platform.openai.com/docs/api-reference/responses-streaming>).
//!
//! An item is sent whole several times: when it is added, when it is done, and in the response at the end. Clients
//! differ on which of these counts, so what an item calls is fixed when it is first seen, and a later word that
//! says otherwise is refused. After the terminal event clients go on reading, so nothing may follow it.

use std::borrow::Cow;

use super::answer::{AnswerFacts, Item, push_item, thing, thing_member};
use super::error::{Result, WireError};
use super::json::{Kind, Reader, Scratch};
use super::tool::Tool;

/// A response has at most this many calls, or items that wait for their name.
const MAX_ITEMS: usize = 1_024;

/// The items of one streamed response.
#[derive(Debug, Default)]
pub(crate) struct Items {
    /// Calls by their place in the output.
    announced: Vec<(u64, Item)>,
    /// Places whose arguments came before anything said what is called.
    nameless: Vec<u64>,
    ended: bool,
    sequence: u64,
}

impl Items {
    /// True while arguments came for a call that nobody has named.
    pub(crate) const fn waiting(&self) -> bool {
        !self.nameless.is_empty()
    }

    /// The number that the stream's next event has.
    pub(crate) const fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// The stream's next event has this number, unless a higher one is known.
    #[inline]
    pub(crate) fn goes_on_with(&mut self, number: u64) {
        self.sequence = self.sequence.max(number);
    }

    /// The terminal event was read.
    pub(crate) const fn ended(&self) -> bool {
        self.ended
    }

    /// Reads an event and adds the tools that are called in it for the first time.
    pub(crate) fn read(
        &mut self,
        payload: &[u8],
        scratch: &mut Scratch,
        facts: &mut AnswerFacts,
        tools: &mut Vec<Tool>,
    ) -> Result<()> {
        facts.clear();
        if self.ended {
            return Err(WireError::new("an event after the response has ended"));
        }
        let mut r = Reader::new(payload, scratch)?;
        if r.kind()? != Kind::Object {
            return Err(WireError::new("the answer is not a JSON object"));
        }
        let mut kind = Cow::Borrowed("");
        let mut place = None;
        let mut item = 0..0;
        let mut own = Item::default();
        r.object(|r, key| match key {
            "type" => {
                if r.kind()? != Kind::String {
                    return Err(WireError::at(
                        "an event's type is not a string",
                        r.position(),
                    ));
                }
                kind = r.string()?;
                Ok(())
            }
            "output_index" => {
                place = match r.kind()? {
                    Kind::Number => r.unsigned()?,
                    _ => None,
                };
                if place.is_none() {
                    return Err(WireError::at(
                        "an item's place is not a whole number",
                        r.position(),
                    ));
                }
                Ok(())
            }
            "sequence_number" if r.kind()? == Kind::Number => {
                if let Some(number) = r.unsigned()? {
                    self.goes_on_with(number.saturating_add(1));
                }
                Ok(())
            }
            "item" if r.kind()? == Kind::Object => {
                let start = facts.items.len();
                thing(r, facts)?;
                item = start..facts.items.len();
                Ok(())
            }
            other => thing_member(r, other, &mut own, facts),
        })?;
        if kind.is_empty() && !facts.error {
            return Err(WireError::new("an event without a type"));
        }
        // A later revision puts the name of a called function beside its arguments.
        let named_by_event = own.name.clone().filter(|name| !name.is_empty());
        push_item(&r, own, facts)?;
        r.end()?;

        for seen in facts.items.get(item.clone()).unwrap_or_default() {
            self.announce(place, seen)?;
        }
        if item.is_empty() {
            self.progress(&kind, place, named_by_event, tools)?;
        }
        for seen in &facts.items {
            self.agrees_by_id(seen)?;
            tools.extend(seen.tool());
        }
        if matches!(
            &*kind,
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled"
        ) {
            self.ended = true;
            if self.waiting() {
                return Err(WireError::new("a tool call without a name"));
            }
        }
        Ok(())
    }

    /// Fixes what the item at a place calls.
    fn announce(&mut self, place: Option<u64>, item: &Item) -> Result<()> {
        let Some(place) = place else { return Ok(()) };
        self.nameless.retain(|waiting| *waiting != place);
        if let Some((_, known)) = self.announced.iter().find(|(at, _)| *at == place) {
            return if same_call(known, item) {
                Ok(())
            } else {
                Err(WireError::new("one item calls two different tools"))
            };
        }
        if self.announced.len() >= MAX_ITEMS {
            return Err(WireError::new("more than 1024 tool calls in one stream"));
        }
        self.announced.push((place, item.clone()));
        Ok(())
    }

    /// The same call elsewhere, such as in the response at the end, must call the same.
    fn agrees_by_id(&self, item: &Item) -> Result<()> {
        let Some(id) = &item.call_id else {
            return Ok(());
        };
        let known = self
            .announced
            .iter()
            .find(|(_, known)| known.call_id.as_ref() == Some(id) && known.kind == item.kind);
        match known {
            Some((_, known)) if !same_call(known, item) => {
                Err(WireError::new("one item calls two different tools"))
            }
            _ => Ok(()),
        }
    }

    /// An event about an item that should have been announced before, `response.KIND_call...`.
    fn progress(
        &mut self,
        kind: &str,
        place: Option<u64>,
        name: Option<String>,
        tools: &mut Vec<Tool>,
    ) -> Result<()> {
        let Some(step) = kind.strip_prefix("response.") else {
            return Ok(());
        };
        let Some(end) = step.find("_call") else {
            return Ok(());
        };
        let Some(call) = step.get(..end + "_call".len()) else {
            return Ok(());
        };
        let known = self.announced.iter().find(|(at, _)| Some(*at) == place);
        if let Some((_, known)) = known {
            return match name {
                Some(name) if known.name.as_deref() != Some(&name) => {
                    Err(WireError::new("one item calls two different tools"))
                }
                _ => Ok(()),
            };
        }
        match (call, name, place) {
            ("function_call" | "custom_tool_call", Some(name), _) => {
                tools.push(Tool::function(name));
                self.nameless.retain(|waiting| Some(*waiting) != place);
            }
            // What is called will be known when the item comes.
            ("function_call" | "custom_tool_call" | "mcp_call", None, Some(place)) => {
                if !self.nameless.contains(&place) {
                    if self.nameless.len() >= MAX_ITEMS {
                        return Err(WireError::new("more than 1024 tool calls in one stream"));
                    }
                    self.nameless.push(place);
                }
            }
            ("function_call" | "custom_tool_call" | "mcp_call", _, _) => {
                return Err(WireError::new(
                    "arguments of a call that has no place in the output",
                ));
            }
            (hosted, _, _) => tools.push(Tool::typed(hosted)),
        }
        Ok(())
    }
}

fn same_call(a: &Item, b: &Item) -> bool {
    let id = a.call_id.is_none() || b.call_id.is_none() || a.call_id == b.call_id;
    id && a.kind == b.kind && a.name == b.name && a.namespace == b.namespace && a.label == b.label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(events: &[&str]) -> std::result::Result<Vec<String>, String> {
        let (mut items, mut tools) = (Items::default(), Vec::new());
        for event in events {
            items
                .read(
                    event.as_bytes(),
                    &mut Scratch::default(),
                    &mut AnswerFacts::default(),
                    &mut tools,
                )
                .map_err(|error| error.to_string())?;
        }
        if items.waiting() {
            return Err("waiting".to_owned());
        }
        Ok(tools.into_iter().map(|tool| tool.name).collect())
    }

    fn item(event: &str, index: u32, name: &str) -> String {
        format!(
            r#"{{"type":"response.output_item.{event}","output_index":{index},"item":{{"type":"function_call","call_id":"c{index}","name":"{name}","arguments":""}}}}"#
        )
    }

    #[test]
    fn what_an_item_calls_is_fixed_at_first_sight() {
        assert_eq!(
            read(&[&item("added", 0, "safe"), &item("done", 0, "safe")]),
            Ok(vec!["safe".into(), "safe".into()])
        );
        assert_eq!(
            read(&[&item("added", 0, "safe"), &item("done", 0, "other")]),
            Err("one item calls two different tools".to_owned())
        );
        assert_eq!(
            read(&[&item("added", 0, "a"), &item("added", 1, "b")]),
            Ok(vec!["a".into(), "b".into()])
        );
        let changed = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"x","name":"safe"}}"#;
        assert_eq!(
            read(&[&item("added", 0, "safe"), changed]),
            Err("one item calls two different tools".to_owned())
        );
        let namespaced = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"c0","namespace":"n","name":"safe"}}"#;
        assert_eq!(
            read(&[&item("added", 0, "safe"), namespaced]),
            Err("one item calls two different tools".to_owned())
        );
        let terminal = r#"{"type":"response.completed","response":{"output":[{"type":"function_call","call_id":"c0","name":"other"}]}}"#;
        assert_eq!(
            read(&[&item("added", 0, "safe"), terminal]),
            Err("one item calls two different tools".to_owned())
        );
    }

    #[test]
    fn a_call_is_read_wherever_a_response_is() {
        for kind in [
            "created",
            "queued",
            "in_progress",
            "completed",
            "incomplete",
            "failed",
        ] {
            let event = format!(
                r#"{{"response":{{"output":[{{"type":"function_call","name":"evil"}}]}},"type":"response.{kind}"}}"#
            );
            assert_eq!(read(&[&event]), Ok(vec!["evil".to_owned()]), "{kind}");
        }
    }

    #[test]
    fn nothing_follows_the_terminal_event() {
        let end = r#"{"type":"response.completed","response":{"output":[]}}"#;
        assert_eq!(
            read(&[end, r#"{"type":"response.output_text.delta","delta":"x"}"#]),
            Err("an event after the response has ended".to_owned())
        );
        let error = r#"{"type":"error","error":{"message":"x"}}"#;
        assert_eq!(
            read(&[error, r#"{"type":"response.failed","response":{}}"#]),
            Ok(vec![])
        );
    }

    #[test]
    fn arguments_before_their_item_are_waited_for() {
        let delta =
            r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{"}"#;
        assert_eq!(read(&[delta]), Err("waiting".to_owned()));
        assert_eq!(
            read(&[delta, &item("done", 0, "late")]),
            Ok(vec!["late".to_owned()])
        );
        let done = r#"{"type":"response.function_call_arguments.done","output_index":0,"name":"late","arguments":"{}"}"#;
        assert_eq!(
            read(&[delta, done]).map(|mut tools| {
                tools.dedup();
                tools
            }),
            Ok(vec!["late".to_owned()])
        );
        assert_eq!(
            read(&[&item("added", 0, "safe"), done]),
            Err("one item calls two different tools".to_owned())
        );
        assert_eq!(
            read(&[delta, r#"{"type":"response.completed","response":{}}"#]),
            Err("a tool call without a name".to_owned())
        );
        assert_eq!(
            read(&[r#"{"type":"response.mcp_call_arguments.delta","delta":"{"}"#]),
            Err("arguments of a call that has no place in the output".to_owned())
        );
    }

    #[test]
    fn progress_of_a_hosted_call_that_was_not_announced_is_a_call() {
        assert_eq!(
            read(&[r#"{"type":"response.web_search_call.searching","output_index":0}"#]),
            Ok(vec!["web_search_call".to_owned()])
        );
        assert_eq!(
            read(&[r#"{"type":"response.shell_call_command.delta","output_index":0}"#]),
            Ok(vec!["shell_call".to_owned()])
        );
        let announced = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"shell_call"}}"#;
        assert_eq!(
            read(&[
                announced,
                r#"{"type":"response.shell_call_command.delta","output_index":0}"#
            ]),
            Ok(vec!["shell_call".to_owned()])
        );
    }

    #[test]
    fn an_event_without_a_type_is_refused() {
        assert_eq!(
            read(&[r#"{"item":{"type":"message"}}"#]),
            Err("an event without a type".to_owned())
        );
        assert_eq!(
            read(&[r#"{"type":"a","type":"b"}"#]),
            Err("the same key occurs twice in an object (byte 12)".to_owned())
        );
    }
}
