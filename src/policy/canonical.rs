//! A JSON value as the one text that hashes and signatures are made of.
//!
//! The text is what `serde_json` writes for a value whose objects are sorted by key: no white space, keys in the
//! order of their bytes. It must not be written through `serde_json::Value`, whose order and numbers change when any
//! crate of a build turns on `preserve_order`, `arbitrary_precision` or `float_roundtrip`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::document::{Node, Value};
use super::error::Draft;

/// The canonical text, or why there is none; `path` is where the value stands.
pub(super) fn canonical(node: &Node, path: &str) -> Result<String, Draft> {
    let mut text = String::new();
    match write(node, &mut text) {
        Ok(()) => Ok(text),
        Err((at, (message, help))) => Err(Draft::new(path, message, help).at(at.id)),
    }
}

/// What is wrong and what to write instead.
type Unclear = (&'static str, &'static str);

fn write<'a>(node: &'a Node, out: &mut String) -> Result<(), (&'a Node, Unclear)> {
    let here = |unclear| (node, unclear);
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Err(_), Err(_)) => float(&value.to_string(), out).map_err(here)?,
            _ => out.push_str(&value.to_string()),
        },
        Value::Float(digits) => float(digits, out).map_err(here)?,
        Value::Text(value) => text(value, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let mut sorted = BTreeMap::new();
            for (key, value) in entries {
                let name = key.text().ok_or((key, NO_TEXT))?;
                if sorted.insert(name, value).is_some() {
                    return Err((key, TWICE));
                }
            }
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                text(key, out);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// A number that isn't a 64-bit integer, in its shortest form.
///
/// With more than 15 digits, at 10^15 and above, or with more than 22 places after the point, what the parser makes of
/// it depends on how the parser was built.
fn float(digits: &str, out: &mut String) -> Result<(), Unclear> {
    let value: f64 = digits.parse().map_err(|_| INEXACT)?;
    let shortest = format!("{value:e}");
    let (mantissa, power) = shortest.split_once('e').ok_or(INEXACT)?;
    let power: i32 = power.parse().map_err(|_| INEXACT)?;
    let places = mantissa
        .split_once('.')
        .map_or(0, |(_, places)| places.len());
    let exact = i32::try_from(places)
        .is_ok_and(|places| places < 15 && power < 15 && power.saturating_sub(places) >= -22);
    if !exact {
        return Err(INEXACT);
    }
    out.push_str(&serde_json::to_string(&value).map_err(|_| INEXACT)?);
    Ok(())
}

const NO_TEXT: Unclear = ("has a key that is not text", "put the key in quotes");

const TWICE: Unclear = ("has a key given twice", "keep one of them");

const INEXACT: Unclear = (
    "has a number that is not read exactly everywhere",
    "write it with fewer digits and a smaller exponent, or as text",
);

/// A string, with as few escapes as RFC 8259 lets it have.
fn text(value: &str, out: &mut String) {
    out.push('"');
    for char in value.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                // Writing to a `String` doesn't fail.
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::document::{Format, parse};
    use super::super::error::PolicyError;
    use super::canonical;

    fn written(json: &str) -> Result<String, String> {
        let canonical = canonical(&parse(json, Format::Json).unwrap(), "");
        canonical.map_err(|draft| PolicyError::of(draft).problems()[0].message().to_owned())
    }

    #[test]
    fn objects_are_sorted_by_bytes_and_nothing_else_is() {
        for (json, expected) in [
            (r#"{"b": [2, 1], "a": {}}"#, r#"{"a":{},"b":[2,1]}"#),
            (r#"{"é":1,"z":2,"Z":3,"":4}"#, r#"{"":4,"Z":3,"z":2,"é":1}"#),
            (
                "[1, -1, 1.0, 0.7, 1e2, -0, 1e-7]",
                "[1,-1,1.0,0.7,100.0,-0.0,1e-7]",
            ),
            (
                "[18446744073709551615, 1e14]",
                "[18446744073709551615,100000000000000.0]",
            ),
            (
                r#"["\u0001\b\f\n\r\t\"\\\/\u007f\u00e9\ud83d\ude00"]"#,
                "[\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\/\u{7f}é😀\"]",
            ),
            ("[null,true,false]", "[null,true,false]"),
        ] {
            assert_eq!(written(json).unwrap(), expected);
        }
    }

    #[test]
    fn what_readers_differ_on_has_no_canonical_text() {
        assert_eq!(
            written(r#"{"a":1,"\u0061":2}"#).unwrap_err(),
            "has a key given twice"
        );
        for inexact in [
            "1e23",
            "1e-23",
            "18446744073709551616",
            "0.1234567890123456",
        ] {
            let why = "has a number that is not read exactly everywhere";
            assert_eq!(written(inexact).unwrap_err(), why, "{inexact}");
        }
        for yaml in ["[.inf]", "[.nan]", "{1: a}"] {
            assert!(
                canonical(&parse(yaml, Format::Yaml).unwrap(), "").is_err(),
                "{yaml}"
            );
        }
    }

    proptest::proptest! {
        /// It is what serde_json writes, once that sorts.
        #[test]
        fn the_text_is_what_a_sorted_value_is_written_as(
            key in "[a-c\"\\\\\u{0}-\u{1f}é]{0,4}",
            mantissa in -999_999_999_999_999_i64..=999_999_999_999_999,
            power in -22..=0_i32,
            integer: i64,
        ) {
            let number: f64 = format!("{mantissa}e{power}").parse().unwrap();
            let json = serde_json::json!({"z": [number, integer], &key: key}).to_string();
            let text = written(&json).unwrap();
            let parsed: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
            proptest::prop_assert_eq!(&text, &serde_json::to_string(&parsed).unwrap());
            proptest::prop_assert_eq!(&written(&text).unwrap(), &text);
        }
    }
}
