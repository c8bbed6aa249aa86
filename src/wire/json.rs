//! A strict pull reader for JSON: what it accepts, every client reads the same way.
//!
//! RFC 8259 in UTF-8 without a byte order mark, and stricter where real decoders differ: a key that occurs twice
//! in an object (after unescaping), a lone surrogate, a number beyond the range of a double and nesting
//! beyond 128 levels are refused at any depth, also in the parts that nobody asks for.
//!
//! The caller pulls the fields that it knows and [`skip`](Reader::skip)s the rest; a skipped value is checked as
//! strictly as a read one. Reading allocates nothing unless a string that is asked for, or a key, holds
//! an escape, or an object has more keys than a person writes.

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::{Result, WireError};

/// Containers may nest this deep. The deepest recorded request, answer or event nests 12.
pub(crate) const MAX_DEPTH: usize = 128;

/// From this many keys on an object's keys go into a hash set: comparing each with all others would be quadratic.
const LINEAR_KEYS: usize = 48;

/// Memory that one reader after another uses again, so that steady reading allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Vec<KeySpan>,
    /// The unescaped text of keys that were written with escapes.
    unescaped: String,
}

#[derive(Clone, Copy, Debug)]
struct KeySpan {
    start: usize,
    end: usize,
    /// The span lies in `Scratch::unescaped`, not in the document.
    unescaped: bool,
}

/// The type of the value that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// The place of an object's member in the document, in bytes: from its key's quote to its value's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Debug)]
pub(crate) struct Reader<'a, 's> {
    text: &'a str,
    pos: usize,
    depth: usize,
    key_start: usize,
    scratch: &'s mut Scratch,
}

impl<'a, 's> Reader<'a, 's> {
    /// # Errors
    /// When the bytes are not UTF-8 or begin with a byte order mark.
    pub(crate) fn new(bytes: &'a [u8], scratch: &'s mut Scratch) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| WireError::at("not valid UTF-8", error.valid_up_to()))?;
        if text.starts_with('\u{feff}') {
            return Err(WireError::at("a byte order mark before the JSON", 0));
        }
        scratch.keys.clear();
        scratch.unescaped.clear();
        Ok(Self {
            text,
            pos: 0,
            depth: 0,
            key_start: 0,
            scratch,
        })
    }

    fn fail<T>(&self, reason: &'static str) -> Result<T> {
        Err(WireError::at(reason, self.pos))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.pos..).unwrap_or_default()
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.pos += 1;
        }
    }

    /// The number of bytes read so far.
    pub(crate) const fn position(&self) -> usize {
        self.pos
    }

    /// Where the key of the member now being read starts. Reading a nested object changes it: ask first.
    pub(crate) const fn key_start(&self) -> usize {
        self.key_start
    }

    /// Whether the document has `text` at this byte.
    pub(crate) fn starts_with(&self, at: usize, text: &str) -> bool {
        self.text
            .get(at..)
            .is_some_and(|rest| rest.starts_with(text))
    }

    /// The type of the next value, without reading it.
    pub(crate) fn kind(&mut self) -> Result<Kind> {
        self.whitespace();
        match self.peek() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) => self.fail("not valid JSON: a value was expected"),
            None => self.fail("not valid JSON: it ends where a value was expected"),
        }
    }

    /// Nothing but white space may follow the document.
    pub(crate) fn end(mut self) -> Result<()> {
        self.whitespace();
        if self.peek().is_some() {
            return self.fail("not valid JSON: more follows after the value");
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("the JSON nests deeper than 128 levels");
        }
        Ok(())
    }

    /// Reads an object; `member` must read or skip the value of each key it is called with.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        if self.kind()? != Kind::Object {
            return self.fail("an object was expected");
        }
        self.descend()?;
        self.pos += 1;
        self.whitespace();
        if self.peek() == Some(b'}') {
            self.pos += 1;
            self.depth -= 1;
            return Ok(());
        }
        let first_key = self.scratch.keys.len();
        let first_unescaped = self.scratch.unescaped.len();
        let mut many: Option<HashSet<Cow<'a, str>>> = None;
        loop {
            self.whitespace();
            if self.peek() != Some(b'"') {
                return self.fail("not valid JSON: a key was expected");
            }
            let key_start = self.pos;
            let key = self.string()?;
            self.remember(&key, key_start, first_key, &mut many)?;
            self.whitespace();
            if self.peek() != Some(b':') {
                return self.fail("not valid JSON: a colon was expected");
            }
            self.pos += 1;
            self.key_start = key_start;
            member(self, &key)?;
            self.whitespace();
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b'}') => break,
                _ => return self.fail("not valid JSON: a comma or a closing brace was expected"),
            }
        }
        self.pos += 1;
        self.depth -= 1;
        self.scratch.keys.truncate(first_key);
        self.scratch.unescaped.truncate(first_unescaped);
        Ok(())
    }

    /// Notes an object's key and refuses one that the object already has.
    #[expect(
        clippy::ptr_arg,
        reason = "whether it is borrowed tells where its text lies"
    )]
    fn remember(
        &mut self,
        key: &Cow<'a, str>,
        key_start: usize,
        first_key: usize,
        many: &mut Option<HashSet<Cow<'a, str>>>,
    ) -> Result<()> {
        const TWICE: &str = "the same key occurs twice in an object";
        if let Some(many) = many {
            return if many.insert(key.clone()) {
                Ok(())
            } else {
                Err(WireError::at(TWICE, key_start))
            };
        }
        let known = self.scratch.keys.get(first_key..).unwrap_or_default();
        for span in known {
            if span.end - span.start == key.len() && self.key_text(*span) == key.as_ref() {
                return Err(WireError::at(TWICE, key_start));
            }
        }
        if known.len() >= LINEAR_KEYS {
            let mut set: HashSet<Cow<'a, str>> = known
                .iter()
                .map(|span| {
                    if span.unescaped {
                        Cow::Owned(self.key_text(*span).to_owned())
                    } else {
                        Cow::Borrowed(self.slice(span.start, span.end))
                    }
                })
                .collect();
            set.insert(key.clone());
            *many = Some(set);
            return Ok(());
        }
        let span = match key {
            Cow::Borrowed(key) => KeySpan {
                start: key_start + 1,
                end: key_start + 1 + key.len(),
                unescaped: false,
            },
            Cow::Owned(key) => {
                let start = self.scratch.unescaped.len();
                self.scratch.unescaped.push_str(key);
                KeySpan {
                    start,
                    end: self.scratch.unescaped.len(),
                    unescaped: true,
                }
            }
        };
        self.scratch.keys.push(span);
        Ok(())
    }

    fn key_text(&self, span: KeySpan) -> &str {
        let text = if span.unescaped {
            &self.scratch.unescaped
        } else {
            self.text
        };
        text.get(span.start..span.end).unwrap_or_default()
    }

    /// Reads an array; `item` must read or skip each item.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.kind()? != Kind::Array {
            return self.fail("an array was expected");
        }
        self.descend()?;
        self.pos += 1;
        self.whitespace();
        if self.peek() == Some(b']') {
            self.pos += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.whitespace();
            match self.peek() {
                Some(b',') => self.pos += 1,
                Some(b']') => break,
                _ => return self.fail("not valid JSON: a comma or a closing bracket was expected"),
            }
        }
        self.pos += 1;
        self.depth -= 1;
        Ok(())
    }

    /// Reads a string and undoes its escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        let start = self.pos_of_string()?;
        let escaped = self.scan_string()?;
        let raw = self.slice(start, self.pos - 1);
        if escaped {
            unescape(raw)
                .map(Cow::Owned)
                .ok_or_else(|| WireError::at("not valid JSON: a bad escape", start))
        } else {
            Ok(Cow::Borrowed(raw))
        }
    }

    /// Reads past a string and returns the length of its text in bytes, escapes counted as written.
    pub(crate) fn string_len(&mut self) -> Result<usize> {
        let start = self.pos_of_string()?;
        self.scan_string()?;
        Ok(self.pos - 1 - start)
    }

    /// Steps over the opening quote.
    fn pos_of_string(&mut self) -> Result<usize> {
        if self.kind()? != Kind::String {
            return self.fail("a string was expected");
        }
        self.pos += 1;
        Ok(self.pos)
    }

    /// Reads to just behind the closing quote; true when the string holds an escape.
    fn scan_string(&mut self) -> Result<bool> {
        let mut escaped = false;
        loop {
            self.pos += plain_prefix(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.scan_escape()?;
                }
                Some(_) => return self.fail("not valid JSON: a control character in a string"),
                None => return self.fail("not valid JSON: it ends inside a string"),
            }
        }
    }

    fn scan_escape(&mut self) -> Result<()> {
        match self.rest().get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 2,
            Some(b'u') => {
                let Some(unit) = hex4(self.rest().get(2..6)) else {
                    return self.fail("not valid JSON: a bad escape");
                };
                match unit {
                    0xD800..=0xDBFF => {
                        let low = match self.rest().get(6..8) {
                            Some(b"\\u") => hex4(self.rest().get(8..12)),
                            _ => None,
                        };
                        if !matches!(low, Some(0xDC00..=0xDFFF)) {
                            return self.fail("half of a surrogate pair in a string");
                        }
                        self.pos += 12;
                    }
                    0xDC00..=0xDFFF => return self.fail("half of a surrogate pair in a string"),
                    _ => self.pos += 6,
                }
            }
            _ => return self.fail("not valid JSON: a bad escape"),
        }
        Ok(())
    }

    /// Reads a boolean.
    pub(crate) fn boolean(&mut self) -> Result<bool> {
        self.whitespace();
        if self.literal(b"true") {
            Ok(true)
        } else if self.literal(b"false") {
            Ok(false)
        } else {
            self.fail("a boolean was expected")
        }
    }

    /// Reads `null` if it comes next.
    pub(crate) fn null(&mut self) -> Result<bool> {
        if self.kind()? != Kind::Null {
            return Ok(false);
        }
        if self.literal(b"null") {
            Ok(true)
        } else {
            self.fail("not valid JSON: a value was expected")
        }
    }

    fn literal(&mut self, word: &[u8]) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.pos += word.len();
        }
        found
    }

    /// Reads a number; `Some` when it is written as a non-negative integer below 2^53, which every client reads
    /// exactly.
    pub(crate) fn unsigned(&mut self) -> Result<Option<u64>> {
        if self.kind()? != Kind::Number {
            return self.fail("a number was expected");
        }
        let start = self.pos;
        self.scan_number()?;
        let text = self.slice(start, self.pos);
        Ok(text.parse::<u64>().ok().filter(|value| *value < 1 << 53))
    }

    fn digits(&mut self) -> usize {
        let count = self
            .rest()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.pos += count;
        count
    }

    fn scan_number(&mut self) -> Result<()> {
        const BAD: &str = "not valid JSON: a bad number";
        let start = self.pos;
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return self.fail(BAD);
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            if self.digits() == 0 {
                return self.fail(BAD);
            }
        }
        let mut check_range = whole > 300;
        if let Some(b'e' | b'E') = self.peek() {
            check_range = true;
            self.pos += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.pos += 1;
            }
            if self.digits() == 0 {
                return self.fail(BAD);
            }
        }
        // Python and JavaScript read an overflowing number as infinity, serde_json refuses it.
        if check_range
            && !self
                .slice(start, self.pos)
                .parse::<f64>()
                .is_ok_and(f64::is_finite)
        {
            return self.fail("a number beyond the range of a double");
        }
        Ok(())
    }

    /// Reads past the next value, as strictly as if it were read.
    pub(crate) fn skip(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::Object => self.object(|reader, _| reader.skip()),
            Kind::Array => self.array(Self::skip),
            Kind::String => self.string_len().map(|_| ()),
            Kind::Number => self.scan_number(),
            Kind::Bool => self.boolean().map(|_| ()),
            Kind::Null => self.null().map(|_| ()),
        }
    }
}

/// How many bytes from the start need no attention in a string: no quote, no backslash, no control character.
fn plain_prefix(bytes: &[u8]) -> usize {
    const LANES: usize = 32;
    let special = |byte: u8| (byte == b'"') | (byte == b'\\') | (byte < 0x20);
    let mut at = 0;
    // Whole blocks without branches, which compilers turn into vector instructions.
    let (blocks, _) = bytes.as_chunks::<LANES>();
    for block in blocks {
        if block.iter().fold(false, |any, byte| any | special(*byte)) {
            break;
        }
        at += LANES;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail
        .iter()
        .position(|byte| special(*byte))
        .unwrap_or(tail.len())
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Undoes the escapes of a string that was scanned before.
fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(rest.get(..at)?);
        let escape = rest.get(at + 1..)?;
        let mut used = 1;
        out.push(match escape.as_bytes().first()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let bytes = escape.as_bytes();
                let unit = hex4(bytes.get(1..5))?;
                used = 5;
                let code = if (0xD800..0xDC00).contains(&unit) {
                    used = 11;
                    let low = hex4(bytes.get(7..11))?.checked_sub(0xDC00)?;
                    0x1_0000 + ((unit - 0xD800) << 10) + low
                } else {
                    unit
                };
                char::from_u32(code)?
            }
            _ => return None,
        });
        rest = escape.get(used..)?;
    }
    out.push_str(rest);
    Some(out)
}

/// Whether a key would be one of `governed` if case were ignored, though it is not that key itself.
///
/// Some decoders match keys without regard to case; Go's also fold U+017F to `s` and U+212A to `k`.
pub(crate) fn is_case_variant(key: &str, governed: &[&str]) -> bool {
    // A key in lower-case ASCII can be no variant of another.
    if !key
        .bytes()
        .any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
    {
        return false;
    }
    let folded: String = key
        .chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect();
    governed.contains(&folded.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8]) -> Result<()> {
        let mut scratch = Scratch::default();
        let mut reader = Reader::new(text, &mut scratch)?;
        reader.skip()?;
        reader.end()
    }

    #[test]
    fn accepts_what_every_client_reads_the_same() {
        for text in [
            "{}",
            "[]",
            "null",
            " true ",
            "-0",
            "0.5e-3",
            "1e10",
            "\"\"",
            r#"{"a":[1,{"b":"\u00e9\ud83d\ude00\n"}],"c":null}"#,
            "\"\u{2028}\u{feff}\"",
            r#"{"a":1,"A":2}"#,
            "100000000000000000000",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_clients_read_differently() {
        for (text, reason) in [
            (
                &br#"{"a":1,"a":2}"#[..],
                "the same key occurs twice in an object (byte 7)",
            ),
            (
                br#"{"a":1,"\u0061":2}"#,
                "the same key occurs twice in an object (byte 7)",
            ),
            (
                br#"[{"x":{"a":1,"b":2,"a":3}}]"#,
                "the same key occurs twice in an object (byte 19)",
            ),
            (
                b"\xEF\xBB\xBF{}",
                "a byte order mark before the JSON (byte 0)",
            ),
            (b"{\"a\":\"\xff\"}", "not valid UTF-8 (byte 6)"),
            (
                br#""\ud800""#,
                "half of a surrogate pair in a string (byte 1)",
            ),
            (
                br#""\ude00\ud83d""#,
                "half of a surrogate pair in a string (byte 1)",
            ),
            (b"1e400", "a number beyond the range of a double (byte 5)"),
            (b"NaN", "not valid JSON: a value was expected (byte 0)"),
            (b"nul", "not valid JSON: a value was expected (byte 0)"),
            (b"01", "not valid JSON: a bad number (byte 2)"),
            (
                b"{} {}",
                "not valid JSON: more follows after the value (byte 3)",
            ),
            (b"[1,]", "not valid JSON: a value was expected (byte 3)"),
            (b"{\"a\":1,}", "not valid JSON: a key was expected (byte 7)"),
            (
                b"\"a\nb\"",
                "not valid JSON: a control character in a string (byte 2)",
            ),
            (b"\"a", "not valid JSON: it ends inside a string (byte 2)"),
            (
                b"",
                "not valid JSON: it ends where a value was expected (byte 0)",
            ),
            (b"// c\n1", "not valid JSON: a value was expected (byte 0)"),
        ] {
            let error = check(text).unwrap_err();
            assert_eq!(
                error.to_string(),
                reason,
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn nesting_ends_at_128_levels() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(check(nested(128).as_bytes()).is_ok());
        assert!(check(nested(129).as_bytes()).is_err());
        assert!(check("[".repeat(1_000_000).as_bytes()).is_err());
        assert!(check(r#"{"a":"#.repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn a_duplicate_is_found_among_a_hundred_thousand_keys() {
        let mut text: String = (0..100_000).map(|n| format!("\"k{n}\":0,")).collect();
        text.insert(0, '{');
        assert!(check(format!("{text}\"new\":0}}").as_bytes()).is_ok());
        assert!(check(format!("{text}\"k7\":0}}").as_bytes()).is_err());
        assert!(check(format!("{text}\"\\u006b99999\":0}}").as_bytes()).is_err());
    }

    #[test]
    fn case_variants_of_governed_keys_are_known() {
        for key in ["Model", "MODEL", "mOdel"] {
            assert!(is_case_variant(key, &["model"]), "{key}");
        }
        assert!(is_case_variant("tool\u{17f}", &["tools"]));
        assert!(is_case_variant("\u{212a}ind", &["kind"]));
        assert!(!is_case_variant("model", &["model"]));
        assert!(!is_case_variant("Models", &["model"]));
        assert!(!is_case_variant("modèl", &["model"]));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_serde_json_accepts_too(text in "[\\[\\]{}:,\"\\\\a-cu0-9eE.+\\- \n\u{e9}-]{0,24}") {
            if check(text.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }

        #[test]
        fn strings_are_unescaped_as_serde_json_does(value in any::<String>()) {
            let quoted = serde_json::to_string(&value).unwrap();
            let ascii: String = quoted.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }).collect();
            for text in [quoted, ascii] {
                let mut scratch = Scratch::default();
                let mut reader = Reader::new(text.as_bytes(), &mut scratch).unwrap();
                prop_assert_eq!(reader.string().unwrap(), value.as_str());
                prop_assert!(reader.end().is_ok());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = check(&bytes);
        }
    }
}
