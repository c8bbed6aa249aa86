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
use std::cell::Cell;
use std::collections::HashSet;

use super::error::{Result, WireError};
use super::shape::{Filling, Hole, Holes};
use super::strings::{self, How, Scanned, escape, unescape};

/// Containers may nest this deep. The deepest recorded request, answer or event nests 12.
pub(crate) const MAX_DEPTH: usize = 128;

/// From this many keys on an object's keys go into a hash set: comparing each with all others would be quadratic.
const LINEAR_KEYS: usize = 48;

/// A scratch with more memory than this is not kept for the next reader. No document that a person or a program has
/// a reason to send needs as much.
const KEPT_SCRATCH: usize = 64 * 1024;

/// Memory that one reader after another uses again, so that steady reading allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    keys: Vec<KnownKey>,
    /// The unescaped text of keys that were written with escapes.
    unescaped: String,
    /// Marks of the keys in a value that is skipped.
    marks: Vec<u64>,
}

thread_local! {
    /// For documents that come one at a time, each of which would have to allocate a scratch of its own.
    static SPARE: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

impl Scratch {
    const fn new() -> Self {
        Self {
            keys: Vec::new(),
            unescaped: String::new(),
            marks: Vec::new(),
        }
    }

    /// Lends this thread's scratch.
    pub(crate) fn lend<T>(read: impl FnOnce(&mut Self) -> T) -> T {
        // Taken rather than borrowed: a reader inside of a reader, or a thread that ends, gets a fresh one.
        let mut scratch = SPARE.try_with(Cell::take).unwrap_or_default();
        let read = read(&mut scratch);
        let kept = scratch.keys.capacity() * size_of::<KnownKey>()
            + scratch.marks.capacity() * size_of::<u64>()
            + scratch.unescaped.capacity();
        if kept <= KEPT_SCRATCH {
            let _ = SPARE.try_with(|spare| spare.set(scratch));
        }
        read
    }
}

/// A key of an object that is being read.
#[derive(Clone, Copy, Debug)]
struct KnownKey {
    /// Equal for equal keys.
    mark: u64,
    start: usize,
    end: usize,
    /// The span lies in `Scratch::unescaped`, not in the document.
    unescaped: bool,
}

/// A key as it is written as a rule: in quotes, without escapes, and with its colon right after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuotedKey {
    quoted: Box<str>,
    mark: u64,
}

impl QuotedKey {
    /// `None` of a key that can't be written without escapes, or is longer than any documented one.
    pub(super) fn new(key: &str) -> Option<Self> {
        if key.len() > LONGEST_KNOWN_KEY {
            return None;
        }
        let plain = strings::scan(format!("{key}\"").as_bytes());
        (plain.how == How::Plain && plain.end == key.len()).then(|| Self {
            quoted: format!("\"{key}\":").into(),
            mark: mark(key.as_bytes()),
        })
    }
}

/// Of an object with more keys none is a [`QuotedKey`] of which it is known that it is new.
pub(super) const MAX_KNOWN_KEYS: usize = LINEAR_KEYS - 1;

/// A longer key is no [`QuotedKey`], in bytes: these are kept for later documents.
const LONGEST_KNOWN_KEY: usize = 64;

/// The keys that an object has had so far: those in the scratch from `first` on.
pub(super) struct Keys<'a> {
    first: usize,
    first_unescaped: usize,
    /// A bit for each key, chosen by its mark: a key whose bit is new needs no comparing.
    bits: u64,
    /// All of them, once they are many. Seeded at random, so that nobody can choose keys that collide.
    many: Option<Many<'a>>,
}

type Many<'a> = Box<ManyKeys<'a>>;

struct ManyKeys<'a>(HashSet<Cow<'a, str>>);

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

/// Up to this many bytes are checked to be UTF-8 up front, which costs less than a check of each key. Of a longer document
/// most isn't keys.
const CHECKED_AT_ONCE: usize = 512;

/// Reads bytes, not text: outside of strings only ASCII is JSON, and a string is checked to be UTF-8 when it turns out
/// to hold more than ASCII.
#[derive(Debug)]
pub(crate) struct Reader<'a, 's> {
    bytes: &'a [u8],
    /// The same as text, of a document that is [short](CHECKED_AT_ONCE).
    text: Option<&'a str>,
    pos: usize,
    depth: usize,
    key_start: usize,
    scratch: &'s mut Scratch,
    holes: Option<Holes>,
}

const NOT_UTF8: &str = "not valid UTF-8";

impl<'a, 's> Reader<'a, 's> {
    /// # Errors
    /// When the bytes begin with a byte order mark, or are short and not UTF-8.
    pub(crate) fn new(bytes: &'a [u8], scratch: &'s mut Scratch) -> Result<Self> {
        if bytes.starts_with(b"\xEF\xBB\xBF") {
            return Err(WireError::at("a byte order mark before the JSON", 0));
        }
        let text = if bytes.len() <= CHECKED_AT_ONCE {
            Some(text(bytes, 0)?)
        } else {
            None
        };
        scratch.keys.clear();
        scratch.unescaped.clear();
        scratch.marks.clear();
        Ok(Self {
            bytes,
            text,
            pos: 0,
            depth: 0,
            key_start: 0,
            scratch,
            holes: None,
        })
    }

    /// Notes, from here on, what nobody looks at. These holes are forgotten.
    pub(super) fn start_noting(&mut self, mut holes: Holes) {
        holes.clear();
        self.holes = Some(holes);
    }

    /// The holes since noting started.
    pub(super) fn stop_noting(&mut self) -> Holes {
        self.holes.take().unwrap_or_default()
    }

    /// Notes that of the string or number that begins at `start`, and has just been read, no more is taken than
    /// `filling` says.
    pub(super) fn note_hole(&mut self, start: usize, filling: Filling) {
        let Some(holes) = &mut self.holes else {
            return;
        };
        let quote = usize::from(filling.is_string());
        holes.note(Hole {
            start: start + quote,
            end: self.pos - quote,
            filling,
        });
    }

    /// Notes that this value can't be told by its shape.
    pub(super) fn note_no_shape(&mut self) {
        if let Some(holes) = &mut self.holes {
            holes.give_up();
        }
    }

    #[cold]
    fn fail<T>(&self, reason: &'static str) -> Result<T> {
        Err(WireError::at(reason, self.pos))
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    /// What is not read yet.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.pos..).unwrap_or_default()
    }

    #[inline]
    fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Part of the document as text.
    #[inline]
    fn text(&self, start: usize, end: usize) -> Result<&'a str> {
        match self.text {
            Some(text) => Ok(text.get(start..end).unwrap_or_default()),
            None => text(self.slice(start, end), start),
        }
    }

    /// The next byte that is not white space, which is where the reader then stands.
    #[inline]
    fn token(&mut self) -> Option<u8> {
        self.pos = token(self.bytes, self.pos);
        self.peek()
    }

    /// How many containers are open.
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// Steps over a value of this length, of which the caller knows that it is well formed here.
    pub(super) fn step_over(&mut self, length: usize) {
        self.pos = self.pos.saturating_add(length).min(self.bytes.len());
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
        self.bytes
            .get(at..)
            .is_some_and(|rest| rest.starts_with(text.as_bytes()))
    }

    /// The type of the next value, without reading it.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind> {
        match self.token() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            next => self.no_value(next.is_some()),
        }
    }

    #[cold]
    fn no_value<T>(&self, more: bool) -> Result<T> {
        self.fail(if more {
            "not valid JSON: a value was expected"
        } else {
            "not valid JSON: it ends where a value was expected"
        })
    }

    /// Nothing but white space may follow the document.
    pub(crate) fn end(&mut self) -> Result<()> {
        if self.token().is_some() {
            return self.fail("not valid JSON: more follows after the value");
        }
        Ok(())
    }

    /// Steps into a container, whose opening bracket is next; false when it is empty, and then it was read.
    #[inline]
    fn open(&mut self, close: u8) -> Result<bool> {
        if self.depth >= MAX_DEPTH {
            return self.fail("the JSON nests deeper than 128 levels");
        }
        self.pos += 1;
        if self.token() == Some(close) {
            self.pos += 1;
            return Ok(false);
        }
        self.depth += 1;
        Ok(true)
    }

    /// Steps over the comma after a member or item, or, then false, over the closing bracket.
    #[inline]
    fn more(&mut self, close: u8, reason: &'static str) -> Result<bool> {
        match self.token() {
            Some(b',') => {
                self.pos += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.pos += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ => self.fail(reason),
        }
    }

    /// Reads an object; `member` must read or skip the value of each key it is called with.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        let Some(mut keys) = self.open_object()? else {
            return Ok(());
        };
        loop {
            if let Some(end) = self.plain_key(&mut keys) {
                let key = self.text(self.key_start + 1, end)?;
                member(self, key)?;
            } else {
                let key = self.key(&mut keys)?;
                member(self, &key)?;
            }
            if !self.more_members(&keys)? {
                return Ok(());
            }
        }
    }

    /// Steps into an object, whose first key is next; `None` when it is empty, and then it was read.
    pub(super) fn open_object(&mut self) -> Result<Option<Keys<'a>>> {
        if self.kind()? != Kind::Object {
            return self.fail("an object was expected");
        }
        let opened = self.open(b'}')?;
        Ok(opened.then(|| self.first_key()))
    }

    /// Reads the key that is next, and the colon after it.
    pub(super) fn next_key(&mut self, keys: &mut Keys<'a>) -> Result<Cow<'a, str>> {
        match self.plain_key(keys) {
            Some(end) => self.text(self.key_start + 1, end).map(Cow::Borrowed),
            None => self.key(keys),
        }
    }

    /// Reads the key that is next if it is this one, which the object hasn't had, as it came after the same keys before.
    #[inline]
    pub(super) fn known_key(&mut self, keys: &mut Keys<'a>, known: &QuotedKey) -> bool {
        self.token();
        let length = known.quoted.len();
        if !self.rest().starts_with(known.quoted.as_bytes()) {
            return false;
        }
        keys.bits |= 1 << (known.mark >> 58);
        self.scratch.keys.push(KnownKey {
            mark: known.mark,
            start: self.pos + 1,
            // Before its quote and its colon.
            end: self.pos + length.saturating_sub(2),
            unescaped: false,
        });
        self.key_start = self.pos;
        self.pos += length;
        true
    }

    /// Steps over the comma before the next member, or, then false, out of the object.
    #[inline]
    pub(super) fn more_members(&mut self, keys: &Keys<'a>) -> Result<bool> {
        let more = self.more(b'}', AFTER_MEMBER)?;
        if !more {
            self.scratch.keys.truncate(keys.first);
            self.scratch.unescaped.truncate(keys.first_unescaped);
        }
        Ok(more)
    }

    /// Reads a key that is written without escapes and can't be one of those before it, and the colon after it; returns
    /// where the key ends. Of anything else it reads nothing.
    #[inline(never)]
    fn plain_key(&mut self, keys: &mut Keys<'a>) -> Option<usize> {
        let start = token(self.bytes, self.pos);
        if self.bytes.get(start) != Some(&b'"') {
            return None;
        }
        let key = scan(self.bytes, start + 1);
        let mark = mark(self.bytes.get(start + 1..key.end)?);
        let bit = 1 << (mark >> 58);
        let colon = token(self.bytes, key.end + 1);
        let known = self.scratch.keys.len() - keys.first;
        if key.how != How::Plain
            || keys.bits & bit != 0
            || known >= LINEAR_KEYS
            || self.bytes.get(colon) != Some(&b':')
        {
            return None;
        }
        keys.bits |= bit;
        self.scratch.keys.push(KnownKey {
            mark,
            start: start + 1,
            end: key.end,
            unescaped: false,
        });
        self.key_start = start;
        self.pos = colon + 1;
        Some(key.end)
    }

    /// Reads a key, which the object may not have had, and the colon after it.
    #[inline(never)]
    fn key(&mut self, keys: &mut Keys<'a>) -> Result<Cow<'a, str>> {
        if self.token() != Some(b'"') {
            return self.fail("not valid JSON: a key was expected");
        }
        let key_start = self.pos;
        let key = self.string()?;
        self.remember(&key, key_start, keys)?;
        if self.token() != Some(b':') {
            return self.fail("not valid JSON: a colon was expected");
        }
        self.pos += 1;
        self.key_start = key_start;
        Ok(key)
    }

    fn first_key(&self) -> Keys<'a> {
        Keys {
            first: self.scratch.keys.len(),
            first_unescaped: self.scratch.unescaped.len(),
            bits: 0,
            many: None,
        }
    }

    /// Notes an object's key and refuses one that the object already has.
    #[inline]
    #[expect(
        clippy::ptr_arg,
        reason = "whether it is borrowed tells where its text lies"
    )]
    fn remember(
        &mut self,
        key: &Cow<'a, str>,
        key_start: usize,
        keys: &mut Keys<'a>,
    ) -> Result<()> {
        let mark = mark(key.as_bytes());
        let bit = 1_u64 << (mark >> 58);
        if keys.bits & bit != 0 && !self.is_new(key, mark, keys) {
            return Err(WireError::at(
                "the same key occurs twice in an object",
                key_start,
            ));
        }
        keys.bits |= bit;
        if keys.many.is_some() {
            return Ok(());
        }
        let (start, end, unescaped) = match key {
            Cow::Borrowed(key) => (key_start + 1, key_start + 1 + key.len(), false),
            Cow::Owned(key) => {
                let start = self.scratch.unescaped.len();
                self.scratch.unescaped.push_str(key);
                (start, self.scratch.unescaped.len(), true)
            }
        };
        self.scratch.keys.push(KnownKey {
            mark,
            start,
            end,
            unescaped,
        });
        if self.scratch.keys.len() - keys.first > LINEAR_KEYS {
            self.index(keys)?;
        }
        Ok(())
    }

    /// Compares a key with those that the object has.
    #[expect(
        clippy::ptr_arg,
        reason = "a borrowed key is kept for the document's lifetime"
    )]
    fn is_new(&self, key: &Cow<'a, str>, mark: u64, keys: &mut Keys<'a>) -> bool {
        if let Some(many) = &mut keys.many {
            return many.0.insert(key.clone());
        }
        let known = self.scratch.keys.get(keys.first..).unwrap_or_default();
        !known
            .iter()
            .any(|known| known.mark == mark && self.known(*known) == key.as_bytes())
    }

    /// Puts an object's keys into a set.
    #[cold]
    fn index(&self, keys: &mut Keys<'a>) -> Result<()> {
        let known = self.scratch.keys.get(keys.first..).unwrap_or_default();
        let all = known.iter().map(|known| {
            if known.unescaped {
                let text = self.scratch.unescaped.get(known.start..known.end);
                Ok(Cow::Owned(text.unwrap_or_default().to_owned()))
            } else {
                self.text(known.start, known.end).map(Cow::Borrowed)
            }
        });
        keys.many = Some(Box::new(ManyKeys(all.collect::<Result<_>>()?)));
        // From now on every key is looked up.
        keys.bits = u64::MAX;
        Ok(())
    }

    fn known(&self, key: KnownKey) -> &[u8] {
        let bytes = if key.unescaped {
            self.scratch.unescaped.as_bytes()
        } else {
            self.bytes
        };
        bytes.get(key.start..key.end).unwrap_or_default()
    }

    /// Reads an array; `item` must read or skip each item.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.kind()? != Kind::Array {
            return self.fail("an array was expected");
        }
        if !self.open(b']')? {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.more(b']', AFTER_ITEM)? {
                return Ok(());
            }
        }
    }

    /// Reads a string and undoes its escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        let start = self.pos_of_string()?;
        let escaped = self.scan_string()?;
        let raw = self.text(start, self.pos - 1)?;
        if !escaped {
            return Ok(Cow::Borrowed(raw));
        }
        unescape(raw)
            .map(Cow::Owned)
            .ok_or(WireError::at("not valid JSON: a bad escape", start))
    }

    /// Reads past a string and returns the length of its text in bytes, escapes counted as written.
    pub(crate) fn string_len(&mut self) -> Result<usize> {
        let start = self.pos_of_string()?;
        self.scan_string()?;
        Ok(self.pos - 1 - start)
    }

    /// Steps over the opening quote.
    #[inline]
    fn pos_of_string(&mut self) -> Result<usize> {
        if self.kind()? != Kind::String {
            return self.fail("a string was expected");
        }
        self.pos += 1;
        Ok(self.pos)
    }

    /// Reads to just behind the closing quote; true when the string holds an escape.
    #[inline(always)]
    fn scan_string(&mut self) -> Result<bool> {
        let scanned = scan(self.bytes, self.pos);
        if scanned.how == How::Bad {
            return self.bad_string();
        }
        self.pos = scanned.end + 1;
        Ok(scanned.how == How::Escaped)
    }

    /// Says why the string that begins here can't be read.
    #[cold]
    fn bad_string<T>(&mut self) -> Result<T> {
        let start = self.pos;
        loop {
            let special = |byte: &u8| matches!(*byte, b'"' | b'\\' | 0..0x20);
            let rest = self.rest();
            self.pos += rest.iter().position(special).unwrap_or(rest.len());
            match self.peek() {
                // What it spells is well formed, so its bytes are no text.
                Some(b'"') => {
                    text(self.slice(start, self.pos), start)?;
                    return self.fail(NOT_UTF8);
                }
                Some(b'\\') => match escape(self.rest()) {
                    Ok(length) => self.pos += length,
                    Err(reason) => return self.fail(reason),
                },
                Some(_) => return self.fail("not valid JSON: a control character in a string"),
                None => return self.fail("not valid JSON: it ends inside a string"),
            }
        }
    }

    /// Reads a boolean.
    pub(crate) fn boolean(&mut self) -> Result<bool> {
        self.token();
        if self.literal(b"true") {
            Ok(true)
        } else if self.literal(b"false") {
            Ok(false)
        } else {
            self.fail("a boolean was expected")
        }
    }

    /// Reads `null` if it comes next.
    #[inline]
    pub(crate) fn null(&mut self) -> Result<bool> {
        if self.kind()? != Kind::Null {
            return Ok(false);
        }
        if self.literal(b"null") {
            Ok(true)
        } else {
            self.no_value(true)
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
        let text = text(self.slice(start, self.pos), start)?;
        Ok(text.parse::<u64>().ok().filter(|value| *value < 1 << 53))
    }

    fn digits(&mut self) -> usize {
        let start = self.pos;
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        self.pos - start
    }

    fn scan_number(&mut self) -> Result<()> {
        const BAD: &str = "not valid JSON: a bad number";
        if let Some(end) = number_end(self.bytes, self.pos) {
            self.pos = end;
            return Ok(());
        }
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
            && !text(self.slice(start, self.pos), start)?
                .parse::<f64>()
                .is_ok_and(f64::is_finite)
        {
            return self.fail("a number beyond the range of a double");
        }
        Ok(())
    }

    /// Reads past the next value, as strictly as if it were read.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<()> {
        if self.holes.is_some() {
            return self.skip_with_care();
        }
        let depth = MAX_DEPTH - self.depth;
        match skip::value(self.bytes, self.pos, depth, &mut self.scratch.marks) {
            Some(end) => {
                self.pos = end;
                Ok(())
            }
            None => {
                self.scratch.marks.clear();
                self.skip_with_care()
            }
        }
    }

    /// As [`skip`](Self::skip), of what is wrong or unusual, or whose holes are noted: once there, everything below is
    /// read so, lest it be tried again at each level.
    fn skip_with_care(&mut self) -> Result<()> {
        match self.kind()? {
            Kind::Object => self.object(|reader, _| reader.skip_with_care()),
            Kind::Array => self.array(Self::skip_with_care),
            Kind::String => {
                let start = self.pos;
                self.string_len()?;
                self.note_hole(start, Filling::String);
                Ok(())
            }
            Kind::Number => {
                let start = self.pos;
                self.scan_number()?;
                self.note_hole(start, Filling::Number);
                Ok(())
            }
            Kind::Bool => self.boolean().map(|_| ()),
            Kind::Null => self.null().map(|_| ()),
        }
    }
}

/// Reading past values that are well formed, which nearly all are, and have nothing unusual in their keys.
///
/// Schemas and other data that no policy asks for are most of an agent's request. These functions know no error: they
/// return the place behind the value, or `None` for whatever is to be read with care instead. So they can keep where
/// they are in registers.
mod skip {
    use super::{How, LINEAR_KEYS, mark, number_end, scan, token};

    /// The place behind the value that comes next. Containers may nest `depth` deep in it.
    #[inline]
    pub(super) fn value(
        bytes: &[u8],
        at: usize,
        depth: usize,
        marks: &mut Vec<u64>,
    ) -> Option<usize> {
        let at = token(bytes, at);
        let rest = || bytes.get(at..).unwrap_or_default();
        match *bytes.get(at)? {
            b'"' => string(bytes, at),
            b'{' => object(bytes, at + 1, depth.checked_sub(1)?, marks),
            b'[' => array(bytes, at + 1, depth.checked_sub(1)?, marks),
            b'-' | b'0'..=b'9' => number_end(bytes, at),
            b't' => rest().starts_with(b"true").then_some(at + 4),
            b'f' => rest().starts_with(b"false").then_some(at + 5),
            b'n' => rest().starts_with(b"null").then_some(at + 4),
            _ => None,
        }
    }

    #[inline(always)]
    fn string(bytes: &[u8], quote: usize) -> Option<usize> {
        let scanned = scan(bytes, quote + 1);
        (scanned.how != How::Bad).then_some(scanned.end + 1)
    }

    fn array(bytes: &[u8], mut at: usize, depth: usize, marks: &mut Vec<u64>) -> Option<usize> {
        let first = token(bytes, at);
        if *bytes.get(first)? == b']' {
            return Some(first + 1);
        }
        loop {
            at = token(bytes, value(bytes, at, depth, marks)?);
            match *bytes.get(at)? {
                b',' => at += 1,
                b']' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    fn object(bytes: &[u8], mut at: usize, depth: usize, marks: &mut Vec<u64>) -> Option<usize> {
        at = token(bytes, at);
        if *bytes.get(at)? == b'}' {
            return Some(at + 1);
        }
        let first = marks.len();
        let mut bits = 0_u64;
        loop {
            if *bytes.get(at)? != b'"' {
                return None;
            }
            let key = scan(bytes, at + 1);
            if key.how != How::Plain {
                return None;
            }
            let mark = mark(bytes.get(at + 1..key.end)?);
            let bit = 1_u64 << (mark >> 58);
            if bits & bit != 0 {
                // Two keys with the same mark are hardly ever different keys.
                let known = marks.get(first..)?;
                if known.len() >= LINEAR_KEYS || known.contains(&mark) {
                    return None;
                }
            }
            bits |= bit;
            marks.push(mark);
            at = token(bytes, key.end + 1);
            if *bytes.get(at)? != b':' {
                return None;
            }
            at = token(bytes, value(bytes, at + 1, depth, marks)?);
            match *bytes.get(at)? {
                b',' => at = token(bytes, at + 1),
                b'}' => break,
                _ => return None,
            }
        }
        marks.truncate(first);
        Some(at + 1)
    }
}

/// The place of the next byte that is not white space.
#[inline(always)]
fn token(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        if *byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            break;
        }
        at += 1;
    }
    at
}

/// Finds the end of the string whose opening quote is just before `start`.
#[inline(always)]
fn scan(bytes: &[u8], start: usize) -> Scanned {
    let scanned = strings::scan(bytes.get(start..).unwrap_or_default());
    Scanned {
        end: start + scanned.end,
        how: scanned.how,
    }
}

/// The place behind a number that begins at `at`; `None` when it is none or could be beyond the range of a double.
#[inline]
pub(super) fn number_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let digits = |mut at: usize| {
        while let Some(b'0'..=b'9') = bytes.get(at) {
            at += 1;
        }
        at
    };
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    let whole = digits(at);
    let count = whole - at;
    if count == 0 || count > 300 || (count > 1 && bytes.get(at) == Some(&b'0')) {
        return None;
    }
    match bytes.get(whole) {
        Some(b'.') => {
            let end = digits(whole + 1);
            (end > whole + 1 && !matches!(bytes.get(end), Some(b'e' | b'E'))).then_some(end)
        }
        Some(b'e' | b'E') => None,
        _ => Some(whole),
    }
}

const AFTER_MEMBER: &str = "not valid JSON: a comma or a closing brace was expected";
const AFTER_ITEM: &str = "not valid JSON: a comma or a closing bracket was expected";

/// Part of a document as text.
fn text(bytes: &[u8], start: usize) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| WireError::at(NOT_UTF8, start + error.valid_up_to()))
}

/// A number that is equal for equal keys and differs for most others: of the ends and the length, because keys differ
/// in these and reading no more takes the same time for any key. Whoever makes keys collide gains nothing: up to
/// [`LINEAR_KEYS`] they are compared.
#[inline]
fn mark(key: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let (first, last) = match (key.first_chunk(), key.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (key.first_chunk(), key.last_chunk()) {
            (Some(first), Some(last)) => (
                u32::from_le_bytes(*first).into(),
                u32::from_le_bytes(*last).into(),
            ),
            _ => match key {
                [] => (0, 0),
                [first, .., last] => (u64::from(*first), u64::from(*last)),
                [only] => (u64::from(*only), 0),
            },
        },
    };
    let mixed = (first ^ (key.len() as u64)).wrapping_mul(ODD) ^ last;
    mixed.wrapping_mul(ODD)
}

/// Whether a key would be one of `governed` if case were ignored, though it is not that key itself.
///
/// Some decoders match keys without regard to case; Go's also fold U+017F to `s` and U+212A to `k`.
#[inline]
pub(crate) fn is_case_variant(key: &str, governed: &[&str]) -> bool {
    is_unusual(key) && {
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
}

/// A key in lower-case ASCII can be no variant of another.
#[inline]
pub(crate) fn is_unusual(key: &str) -> bool {
    // Without an early end: keys are short, and this becomes a few vector instructions.
    key.bytes().fold(false, |any, byte| {
        any | (byte.is_ascii_uppercase() | !byte.is_ascii())
    })
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

        /// Long strings and short ones, escapes and text beyond ASCII at every distance from each other.
        #[test]
        fn long_strings_are_read_as_serde_json_reads_them(
            pieces in proptest::collection::vec(("[a-z]{0,90}", any::<char>(), "(\\\\n|\\\\u00e9|\"|\u{1}|\\\\|)"), 0..24),
            length in 0_usize..40_000,
        ) {
            let mut text: String = "\"".into();
            for (plain, char, special) in &pieces {
                text.push_str(plain);
                text.push(*char);
                text.push_str(special);
            }
            text.push_str(&"x".repeat(length));
            text.push('"');
            let read = serde_json::from_str::<String>(&text);
            let mut scratch = Scratch::default();
            let mut reader = Reader::new(text.as_bytes(), &mut scratch).unwrap();
            let ours = reader.string().map(Cow::into_owned);
            let ours = ours.and_then(|string| reader.end().map(|()| string));
            prop_assert_eq!(ours.ok(), read.ok());
            prop_assert_eq!(check(text.as_bytes()).is_ok(), serde_json::from_str::<String>(&text).is_ok());
        }

        #[test]
        fn bytes_that_are_no_text_are_refused_wherever_they_stand(at in 0_usize..80_000, length in 1_usize..80_000, bad in 0x80_u8..) {
            let mut bytes = vec![b'x'; length.max(at + 1)];
            bytes[at] = bad;
            let quoted = [b"{\"", &*bytes, b"\":[\"", &bytes, b"\"]}"].concat();
            prop_assert!(check(&quoted).is_err());
        }

        /// One document, its keys in any order and escaped or not: refused if and only if two of them are equal.
        #[test]
        fn a_key_that_occurs_twice_is_refused(keys in proptest::collection::vec(("[ab]{0,2}(middle|muddle)[ab]{0,2}|[ab]{0,3}", any::<bool>()), 0..90)) {
            let member = |(key, escaped): &(String, bool)| match key.chars().next() {
                Some(first) if *escaped => format!("\"\\u{:04x}{}\":0", u32::from(first), key.get(1..).unwrap_or_default()),
                _ => format!("\"{key}\":0"),
            };
            let members: Vec<_> = keys.iter().map(member).collect();
            let text = format!("{{{}}}", members.join(","));
            let distinct: HashSet<_> = keys.iter().map(|(key, _)| key).collect();
            let expected = distinct.len() == keys.len();
            prop_assert_eq!(check(text.as_bytes()).is_ok(), expected);
            let mut scratch = Scratch::default();
            let mut reader = Reader::new(text.as_bytes(), &mut scratch).unwrap();
            prop_assert_eq!(reader.object(|reader, _| reader.skip()).is_ok(), expected);
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
