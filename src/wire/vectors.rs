//! The readers of this module against parser vectors that others wrote. The vectors are no part of the crate: without
//! them these tests say so and pass.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::json::{Reader, Scratch};
use super::sse::{Line, Scanner, line, lines};

fn vectors() -> Option<PathBuf> {
    let root = std::env::var_os("SEKUIRE_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join("vectors");
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is absent", path.display());
    None
}

/// The lines of a file of JSON documents.
fn cases(file: &str) -> Vec<Value> {
    let Some(folder) = vectors() else {
        return Vec::new();
    };
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let cases: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(cases.len() > 40, "{file} has {} cases", cases.len());
    cases
}

fn decoded(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn decoded_all(value: &Value) -> Vec<Vec<u8>> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(decoded)
        .collect()
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Event {
    event: Option<String>,
    data: String,
    id: String,
}

/// The stream's blocks, cut as this crate cuts them.
fn blocks<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut scanner = Scanner::new();
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for slice in slices {
        let mut rest = slice;
        while let Some(length) = scanner.scan(rest) {
            open.extend_from_slice(&rest[..length]);
            found.push(std::mem::take(&mut open));
            rest = &rest[length..];
        }
        open.extend_from_slice(rest);
    }
    found
}

/// The standard's interpretation of those blocks: framing and data by this crate's reader, the rest (which the crate
/// has no use for) as the standard says.
fn events<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut found = Vec::new();
    let (mut next, mut data) = (Event::default(), None::<Vec<u8>>);
    for (number, block) in blocks(slices).into_iter().enumerate() {
        let text = match number {
            0 => block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&block),
            _ => &block,
        };
        for (_, bytes) in lines(text) {
            match line(bytes) {
                Line::Comment => {}
                Line::Data(value) => {
                    data = Some(match data {
                        Some(before) => [&before, b"\n".as_slice(), value].concat(),
                        None => value.to_vec(),
                    });
                }
                Line::Other => {
                    let text = String::from_utf8_lossy(bytes);
                    let (field, value) = text.split_once(':').unwrap_or((&text, ""));
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match field {
                        "event" => next.event = Some(value.to_owned()),
                        "id" if !value.contains('\0') => next.id = value.to_owned(),
                        _ => {}
                    }
                }
                Line::Blank => {
                    let event = next.event.take().filter(|name| !name.is_empty());
                    if let Some(data) = data.take() {
                        found.push(Event {
                            event,
                            data: String::from_utf8_lossy(&data).into_owned(),
                            id: next.id.clone(),
                        });
                    }
                }
            }
        }
    }
    found
}

fn expected(case: &Value) -> Vec<Event> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    case["expected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| Event {
            event: text(&event["event"]),
            data: text(&event["data"]).unwrap(),
            id: text(&event["id"]).unwrap_or_default(),
        })
        .collect()
}

#[test]
fn event_streams_are_framed_as_the_standard_says_however_they_are_cut() {
    for case in cases("sse.jsonl") {
        let (name, expected) = (&case["name"], expected(&case));
        let bytes = decoded(&case["bytes_b64"]);
        // The standard dispatches no event without data; an empty `data` field is data.
        assert_eq!(events([&*bytes]), expected, "{name}");
        let chunks = decoded_all(&case["chunks_b64"]);
        if !chunks.is_empty() {
            assert_eq!(
                events(chunks.iter().map(Vec::as_slice)),
                expected,
                "{name} in its chunks"
            );
        }
        assert_eq!(events(bytes.chunks(1)), expected, "{name} byte by byte");
        // Every cut where that is cheap, and cuts all over the few long streams.
        let step = if bytes.len() < 2_500 {
            1
        } else {
            bytes.len() / 60
        };
        for at in (0..=bytes.len()).step_by(step) {
            let (first, second) = bytes.split_at(at);
            assert_eq!(events([first, second]), expected, "{name} cut at {at}");
        }
    }
}

#[test]
fn lines_end_where_the_clients_end_them() {
    for case in cases("lines.jsonl") {
        let name = &case["name"];
        let Some(expected) = case["expected_lines"].as_array() else {
            continue;
        };
        let bytes = decoded_all(&case["chunks_b64"]).concat();
        let mut found: Vec<&[u8]> = lines(&bytes).map(|(_, line)| line).collect();
        let unfinished = !bytes.ends_with(b"\n") && !bytes.ends_with(b"\r");
        if case["flush"] == false && unfinished {
            found.pop();
        }
        let expected: Vec<&[u8]> = expected
            .iter()
            .map(|line| line.as_str().unwrap().as_bytes())
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn blocks_end_where_the_clients_end_them() {
    for case in cases("lines.jsonl") {
        let name = &case["name"];
        let Some(expected) = case["expected_index_after_first_event"].as_i64() else {
            continue;
        };
        let bytes = decoded(&case["bytes_b64"]);
        let mut ends = blocks([&*bytes]).into_iter().scan(0, |end, block| {
            *end += block.len();
            Some(*end)
        });
        match usize::try_from(expected) {
            Err(_) => assert_eq!(ends.next(), None, "{name}"),
            // To this crate a blank line before anything else is a block of its own.
            Ok(end) if bytes.starts_with(b"\n") || bytes.starts_with(b"\r") => {
                assert!(ends.any(|found| found == end), "{name}");
            }
            Ok(end) => assert_eq!(ends.next(), Some(end), "{name}"),
        }
    }
}

fn accepts(bytes: &[u8]) -> bool {
    let mut scratch = Scratch::default();
    let mut read = || {
        let mut reader = Reader::new(bytes, &mut scratch)?;
        reader.skip()?;
        reader.end()
    };
    read().is_ok()
}

/// The suite's documents by name, and what CPython and V8 do with them.
fn json_suite(folder: &str) -> BTreeMap<String, (Vec<u8>, bool)> {
    let Some(root) = vectors() else {
        return BTreeMap::new();
    };
    let root = root.join("JSONTestSuite");
    let manifest = fs::read_to_string(root.join("manifest.jsonl")).unwrap();
    let mut found = BTreeMap::new();
    for row in manifest.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let file = row["file"].as_str().unwrap();
        let Some(name) = file.strip_prefix(&format!("{folder}/")) else {
            continue;
        };
        let everybody = ["cpython_json", "v8_json", "v8_json_fatal_utf8"]
            .iter()
            .all(|client| row[*client] == "accept");
        found.insert(
            name.to_owned(),
            (fs::read(root.join(file)).unwrap(), everybody),
        );
    }
    assert!(found.len() > 20, "{folder} has {} documents", found.len());
    found
}

/// Valid JSON that is refused nevertheless: clients disagree on which of two values a key has.
const REFUSED: &[&str] = &[
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
];

/// Documents on which the standard leaves the choice, and that are accepted. All others are refused.
const ACCEPTED: &[&str] = &[
    "i_number_double_huge_neg_exp.json",
    "i_number_real_underflow.json",
    "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",
    "i_number_very_big_negative_int.json",
];

#[test]
fn json_is_accepted_and_refused_as_the_suite_says() {
    for (name, (bytes, everybody)) in json_suite("test_parsing") {
        let accepted = accepts(&bytes);
        match name.get(..2) {
            Some("y_") => assert_eq!(accepted, !REFUSED.contains(&&*name), "{name}"),
            Some("n_") => assert!(!accepted, "{name}"),
            _ => {
                assert_eq!(accepted, ACCEPTED.contains(&&*name), "{name}");
                assert!(
                    !accepted || everybody,
                    "{name} is accepted here and refused by a client"
                );
            }
        }
    }
}

#[test]
fn what_parsers_transform_differently_is_refused_where_it_could_matter() {
    for (name, (bytes, _)) in json_suite("test_transform") {
        // Numbers and the normal forms of text are passed on as they stand and never compared.
        let expected = name.starts_with("number_")
            || name.starts_with("object_key_nf")
            || name == "string_with_escaped_NULL.json";
        assert_eq!(accepts(&bytes), expected, "{name}");
    }
}

#[test]
fn a_document_cut_short_is_refused_at_every_length() {
    for (name, (bytes, _)) in json_suite("test_parsing") {
        if !name.starts_with("y_") || !(bytes.starts_with(b"[") || bytes.starts_with(b"{")) {
            continue;
        }
        let end = bytes.trim_ascii_end().len();
        for length in 0..end {
            assert!(!accepts(&bytes[..length]), "{name} at {length}");
        }
    }
}
