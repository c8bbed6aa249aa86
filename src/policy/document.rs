//! File text to a bounded tree of values, for YAML and JSON alike.
//!
//! The tree keeps everything that was written, duplicate keys included, so that what reads it can refuse them all at
//! once. Every value and every key has a number, given in reading order: a second reading that stops at that number is
//! how an error finds its line and column. Both readings must therefore visit the same nodes in the same order.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::LazyLock;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use super::advice;
use super::error::{Draft, shown};
use super::scan;

/// The language a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// A value, or a key, with its number in reading order.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u32,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    /// A number that isn't an exact integer, as it would be printed.
    Float(String),
    Text(String),
    List(Vec<Node>),
    /// Entries in the order written; keys may repeat and may be of any type.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What the node is, as the end of "must be a list, not ...".
    pub(super) fn described(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Integer(value) => format!("the number `{value}`"),
            Value::Float(value) => format!("the number `{value}`"),
            Value::Text(text) if text.is_empty() => "empty text".to_owned(),
            Value::Text(_) => "text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The node's text, if that is what it is.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads one document.
pub(super) fn parse(text: &str, format: Format) -> Result<Node, Draft> {
    if text.len() > MAX_BYTES {
        return Err(too_large(text.as_bytes()));
    }
    if format == Format::Yaml {
        scan::scan(text)?;
    }
    let reading = Reading::new(format, None);
    match read(text, &reading) {
        Ok(node) if format == Format::Yaml => refuse_tags(text, &node).map(|()| node),
        Ok(node) => Ok(node),
        Err(failure) => Err(reading.explain(text, &failure)),
    }
}

fn tags() -> Draft {
    Draft::new(
        "",
        "tags are not supported",
        "remove the tag; quote a value that is meant as text",
    )
}

/// Refuses a tag that the parser took note of and left out: it makes another value of what it stands before, to a reader
/// that decodes it or builds something of it.
///
/// Whether a `!` begins a tag or is part of a text or comment depends on all that comes before it, so the parser is asked
/// a second time, with another character in each one's place. Texts come back the same but for that character; what was a
/// tag comes back as part of a text, or not at all.
fn refuse_tags(text: &str, root: &Node) -> Result<(), Draft> {
    if !text.contains('!') {
        return Ok(());
    }
    let Some(mark) = ('\u{e000}'..='\u{f8ff}').find(|mark| !text.contains(*mark)) else {
        return Err(tags());
    };
    let marked = text.replace('!', mark.encode_utf8(&mut [0; 4]));
    let at = match read(&marked, &Reading::new(Format::Yaml, None)) {
        Ok(other) => match first_difference(root, &other, mark) {
            None => return Ok(()),
            Some(id) => locate(&marked, Format::Yaml, id),
        },
        // Without the tag's meaning, what follows it doesn't fit.
        Err(failure) => failure.at.and_then(|at| last_mark(text, at)),
    };
    Err(match at {
        Some(at) => tags().located(at),
        None => tags(),
    })
}

/// Where the last `!`, or run of them, before a place begins.
fn last_mark(text: &str, (line, column): (usize, usize)) -> Option<(usize, usize)> {
    let lines = text.split_inclusive('\n');
    let start: usize = lines.take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(start..)?;
    let inside = rest.char_indices().nth(column.saturating_sub(1));
    let end = start + inside.map_or(rest.len(), |(at, _)| at);
    let last = text.get(..end)?.rfind('!')?;
    let first = text.get(..last)?.trim_end_matches('!').len();
    Some(line_and_column(text, first))
}

/// The first node of `one` that isn't the same in `other`, where a mark stands for each `!`.
fn first_difference(one: &Node, other: &Node, mark: char) -> Option<u32> {
    let same = match (&one.value, &other.value) {
        (Value::Text(one), Value::Text(other)) => other.replace(mark, "!") == *one,
        (Value::List(one), Value::List(other)) => {
            let mut items = one.iter().zip(other);
            let inside = items.find_map(|(one, other)| first_difference(one, other, mark));
            if inside.is_some() {
                return inside;
            }
            one.len() == other.len()
        }
        (Value::Map(one), Value::Map(other)) => {
            let mut entries = one.iter().zip(other);
            let inside = entries.find_map(|(one, other)| {
                first_difference(&one.0, &other.0, mark)
                    .or_else(|| first_difference(&one.1, &other.1, mark))
            });
            if inside.is_some() {
                return inside;
            }
            one.len() == other.len()
        }
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Integer(one), Value::Integer(other)) => one == other,
        (Value::Float(one), Value::Float(other)) => one == other,
        _ => false,
    };
    (!same).then_some(one.id)
}

/// The line and column (from 1, in characters) at which a node begins.
pub(super) fn locate(text: &str, format: Format, id: u32) -> Option<(usize, usize)> {
    let reading = Reading::new(format, Some(id));
    match read(text, &reading) {
        Ok(_) => None,
        Err(failure) => failure.at,
    }
}

/// The error for a document over the size limit, at the first byte too many.
pub(super) fn too_large(document: &[u8]) -> Draft {
    let message = format!("larger than {} KiB", MAX_BYTES / 1024);
    Draft::new("", message, SHORTEN).located(place(document, MAX_BYTES))
}

/// Line and column (from 1, in characters) of a byte offset.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    place(text.as_bytes(), offset)
}

/// The same, of what need not be text throughout.
pub(super) fn place(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = bytes.get(..offset).unwrap_or(bytes);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let last = before.rsplit(|byte| *byte == b'\n').next();
    // All but the first byte of a character begin with these bits.
    let begins = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
    let column = last.unwrap_or_default().iter().filter(begins).count() + 1;
    (line, column)
}

pub(super) fn too_many() -> Draft {
    Draft::new("", format!("more than {MAX_NODES} values"), SHORTEN)
}

/// What to do with a document that holds more than a policy does.
const SHORTEN: &str = "keep only the policy in the file; one entry with `*` stands for many names";

/// The number of the document itself.
pub(super) const ROOT: u32 = 0;

/// One pass over a document.
struct Reading {
    format: Format,
    stop_at: Option<u32>,
    next: Cell<u32>,
    /// Why our own code stopped the parser, if it did.
    refused: RefCell<Option<Draft>>,
}

/// Where and why the parser gave up.
struct Failure {
    message: String,
    at: Option<(usize, usize)>,
    /// The line on which what it was about begins, as far as it says so.
    begun: Option<usize>,
}

impl Reading {
    fn new(format: Format, stop_at: Option<u32>) -> Self {
        Self {
            format,
            stop_at,
            next: Cell::new(0),
            refused: RefCell::new(None),
        }
    }

    /// The next number, or `None` when there have been too many.
    fn number(&self) -> Option<u32> {
        let id = self.next.get();
        self.next.set(id + 1);
        (usize::try_from(id).is_ok_and(|id| id < MAX_NODES)).then_some(id)
    }

    fn refuse<E: serde::de::Error>(&self, draft: Draft) -> E {
        *self.refused.borrow_mut() = Some(draft);
        E::custom("refused")
    }

    fn explain(&self, text: &str, failure: &Failure) -> Draft {
        let draft = match self.refused.borrow_mut().take() {
            Some(draft) => draft,
            None => syntax(text, self.format, failure),
        };
        match failure.at {
            Some(at) => draft.located(at),
            None => draft,
        }
    }
}

/// A document that the parser itself refused.
fn syntax(text: &str, format: Format, failure: &Failure) -> Draft {
    let message = shown(&failure.message);
    if message.contains("more than one document") {
        let draft = |help: &str| Draft::new("", "more than one document", help);
        return match second_document(text) {
            Some(at) => draft("keep one document in a file; remove the `---` between them")
                .located(line_and_column(text, at)),
            None => match without_mark(text) {
                Some(at) => draft("keep one document in a file").located(at),
                None => draft("keep one document in a file"),
            },
        };
    }
    let help = advice::on_syntax(text, format, &message, failure.at, failure.begun);
    let language = match format {
        Format::Yaml => "YAML",
        Format::Json => "JSON",
    };
    Draft::new("", format!("not readable as {language}: {message}"), help)
}

/// Where a `---` ends a document that has begun.
fn second_document(text: &str) -> Option<usize> {
    let mut at = 0;
    let mut begun = false;
    for line in text.trim_start_matches('\u{feff}').split_inclusive('\n') {
        let starts = line
            .strip_prefix("---")
            .is_some_and(|rest| !rest.starts_with(|char: char| !char.is_whitespace()));
        if starts && begun {
            return Some(at + text.len() - text.trim_start_matches('\u{feff}').len());
        }
        // Before the first document there are directives and comments only.
        begun |= starts || !(line.trim().is_empty() || line.starts_with(['#', '%']));
        at += line.len();
    }
    None
}

/// Where a second document begins that no `---` stands before.
fn without_mark(text: &str) -> Option<(usize, usize)> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    let error = second.deserialize_any(Stop).err()?;
    error.location().map(|at| (at.line(), at.column()))
}

fn read(text: &str, reading: &Reading) -> Result<Node, Failure> {
    let seed = Seed { reading, depth: 0 };
    match reading.format {
        Format::Yaml => {
            seed.deserialize(serde_yaml::Deserializer::from_str(text))
                .map_err(|error| {
                    let at = error.location().map(|at| (at.line(), at.column()));
                    let message = error.to_string();
                    // The place is reported apart from the message.
                    let (message, rest) = match message.split_once(" at line ") {
                        Some((message, rest)) => (message.to_owned(), rest.to_owned()),
                        None => (message, String::new()),
                    };
                    let begun = rest.rsplit_once(" at line ").and_then(|(_, rest)| {
                        let digits = rest.split(|char: char| !char.is_ascii_digit()).next()?;
                        digits.parse().ok()
                    });
                    Failure { message, at, begun }
                })
        }
        Format::Json => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            let mut json = serde_json::Deserializer::from_str(text);
            seed.deserialize(&mut json)
                .and_then(|node| json.end().map(|()| node))
                .map_err(|error| {
                    let message = error.to_string();
                    let message = match message.rsplit_once(" at line ") {
                        Some((message, _)) => message.to_owned(),
                        None => message,
                    };
                    let at = json_place(text, &error);
                    Failure {
                        message,
                        at,
                        begun: None,
                    }
                })
        }
    }
}

/// The JSON parser counts bytes. It points at what it could not read, but when
/// it was stopped by us, at the byte before the next one: there, what is wrong
/// begins past any white space. Stopped before it began, it says line 0.
fn json_place(text: &str, error: &serde_json::Error) -> Option<(usize, usize)> {
    let lines = text.split_inclusive('\n');
    let before = error.line().saturating_sub(1);
    let start: usize = lines.take(before).map(str::len).sum();
    let offset = if error.is_data() {
        let offset = start + error.column();
        let rest = text.get(offset..)?;
        offset + rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len()
    } else {
        start + error.column().saturating_sub(1)
    };
    Some(line_and_column(text, offset))
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Seed<'a> {
    reading: &'a Reading,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let Some(id) = self.reading.number() else {
            return Err(self.reading.refuse(too_many()));
        };
        if self.reading.stop_at == Some(id) {
            return match self.reading.format {
                // The YAML parser knows a node's place once it was asked for it,
                // the JSON parser only until then.
                Format::Yaml => deserializer.deserialize_any(Stop),
                Format::Json => Err(D::Error::custom("here")),
            };
        }
        // Each level costs stack; stopping here keeps that far below what the
        // smallest usual thread has.
        if self.depth > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            let draft = Draft::new("", message, "remove levels: a policy needs seven");
            return Err(self.reading.refuse(draft));
        }
        let value = deserializer.deserialize_any(self)?;
        Ok(Node { id, value })
    }
}

impl Seed<'_> {
    fn below(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(match i128::try_from(value) {
            Ok(value) => Value::Integer(value),
            Err(_) => Value::Float(value.to_string()),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(format!("{value:?}")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below())? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(self.below())? {
            let value = entries.next_value_seed(self.below())?;
            map.push((key, value));
        }
        Ok(json_number(self.reading.format, &map).unwrap_or(Value::Map(map)))
    }

    /// A value under a tag of somebody's own.
    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.reading.refuse(tags()))
    }
}

/// Whether numbers arrive in that way. Where they don't, a file that writes such a map means a map.
static ARBITRARY_PRECISION: LazyLock<bool> = LazyLock::new(|| {
    struct IsMap;
    impl<'de> Visitor<'de> for IsMap {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(true)
        }
    }
    // Read as a number it is of the wrong type for this visitor.
    serde_json::Deserializer::from_str("0.5")
        .deserialize_any(IsMap)
        .unwrap_or(false)
});

/// With serde_json's `arbitrary_precision` feature, which any crate in the build
/// can turn on for all, numbers arrive as a map of this one key.
fn json_number(format: Format, map: &[(Node, Node)]) -> Option<Value> {
    let [(key, value)] = map else {
        return None;
    };
    if format != Format::Json
        || key.text() != Some("$serde_json::private::Number")
        || !*ARBITRARY_PRECISION
    {
        return None;
    }
    let digits = value.text()?;
    Some(match digits.parse() {
        // An integer has no negative zero, and without the feature it isn't read as one.
        Ok(integer) if digits != "-0" => Value::Integer(integer),
        _ => Value::Float(digits.to_owned()),
    })
}

/// Refuses whatever it is shown: every method keeps its default.
struct Stop;

impl Visitor<'_> for Stop {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// The largest policy file read, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// The most values and keys in one document. The YAML parser keeps a list of
/// all of them, at about 200 bytes each.
pub(super) const MAX_NODES: usize = 20_000;

/// The deepest nesting read. A policy needs seven.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::{Format, Node, Value, locate, parse};

    /// Every node with the text it should begin with.
    fn nodes<'a>(node: &'a Node, found: &mut Vec<(u32, &'a str)>) {
        match &node.value {
            Value::Text(text) => found.push((node.id, text)),
            Value::List(items) => items.iter().for_each(|item| nodes(item, found)),
            Value::Map(entries) => {
                for (key, value) in entries {
                    nodes(key, found);
                    nodes(value, found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    fn every_text_is_found_where_it_stands(text: &str, format: Format) {
        let root = parse(text, format).unwrap();
        let mut found = Vec::new();
        nodes(&root, &mut found);
        assert!(found.len() > 5);
        for (id, word) in found {
            let (line, column) = locate(text, format, id).unwrap();
            let rest: String = text
                .lines()
                .nth(line - 1)
                .unwrap()
                .chars()
                .skip(column - 1)
                .collect();
            let rest = rest.trim_start_matches('"');
            assert!(rest.starts_with(word), "{word} at {line}:{column}: {rest}");
        }
    }

    #[test]
    fn every_yaml_node_is_found_again() {
        every_text_is_found_where_it_stands(
            "a: b\n# é\nc:\n  - d\n  - \"e\"\n  - {ü: [f,   g], h: i}\n\n  -   - j\nk:\n    l\n",
            Format::Yaml,
        );
    }

    #[test]
    fn every_json_node_is_found_again() {
        every_text_is_found_where_it_stands(
            "{\"a\": \"b\",\n\t\"c\"  :\n [\"d\", {\"é\": \"e\", \"f\":\"g\"}\n, [[\"h\"] ]], \"i\":{}}",
            Format::Json,
        );
    }

    #[test]
    fn a_document_is_as_deep_and_as_wide_as_allowed() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for format in [Format::Yaml, Format::Json] {
            assert!(parse(&deep(32), format).is_ok());
            assert!(parse(&deep(34), format).is_err());
            let wide = |items: usize| format!("[{}]", vec!["1"; items].join(","));
            assert!(parse(&wide(19_999), format).is_ok());
            assert!(parse(&wide(20_001), format).is_err());
        }
    }
}
