//! Quiet events by their learned shape: the verdict of the slow reader, without reading JSON again.
//!
//! An event that the slow reader has read and found quiet (no name, no usage, nothing to cut, no change of state) is
//! remembered as its bytes with *holes*: the contents of a few strings of which nothing but the length counts, such as
//! `delta.content`, and the digits of a response's `sequence_number`. A later event that equals it in every byte outside
//! the holes, and whose holes hold well-formed contents, is quiet too.
//!
//! Why this is sound: outside the holes the bytes are those of a strict document in one data line, with the same
//! `event:` line before it or none, so the keys, the nesting, the types, the indexes and the line ends are the same. A
//! string hole's contents can't end their string early: they hold no bare quote, no control character (hence no line
//! end either), only whole escapes and whole UTF-8. A number hole holds digits only, as JSON writes them, and the
//! literal that follows begins with what ended the number before. So the two documents differ in the values of those
//! members alone, and the facts in the strings' lengths and that number alone. An escaped key, a second key, a name, a
//! non-null usage or another framing differs outside the holes, and is read slowly.

use std::ops::Range;

use super::answer::AnswerFacts;
use super::endpoint::Format;
use super::error::{Result, WireError};
use super::json::{Kind, Reader, Scratch};
use super::strings;

/// A stream alternates between few shapes: content, reasoning, the arguments of a call.
const SHAPES: usize = 3;
/// Content, arguments, obfuscation, and one to spare.
const HOLES: usize = 4;
/// Larger events are no deltas; remembering them would cost every open stream memory.
const MAX_LENGTH: usize = 2 * 1024;
/// After so many shapes that matched nothing, only every 32nd event is learned.
const TRIALS: u32 = 8;

/// The shapes of one stream, the last that matched first.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    shapes: [Shape; SHAPES],
    /// Shapes that may still be learned before one has to match.
    trials: Trials,
}

#[derive(Debug)]
struct Trials {
    left: u32,
    skipped: u32,
}

impl Default for Trials {
    fn default() -> Self {
        Self {
            left: TRIALS,
            skipped: 0,
        }
    }
}

/// A block whose bytes are known but for its holes. Without literals it matches nothing.
#[derive(Debug, Default)]
struct Shape {
    /// The bytes outside the holes.
    literals: Vec<u8>,
    holes: [Hole; HOLES],
    count: usize,
    /// Bytes of generated text outside the holes.
    text: u64,
}

/// The contents of a string in the block, between its quotes, or the digits of a number.
#[derive(Clone, Copy, Debug, Default)]
struct Hole {
    /// How many bytes lie between it and the hole before it, or the block's start.
    lead: usize,
    filling: Filling,
}

/// What a hole may hold, and what becomes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Filling {
    /// A string that nobody counts.
    #[default]
    Padding,
    /// Generated text: its length counts.
    Text,
    /// The event's number in its stream.
    Sequence,
}

/// A quiet event at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    /// The block's length, its blank line included.
    pub(super) length: usize,
    /// Bytes of generated text in it.
    pub(super) text: u64,
    /// The number of the event after it, in formats that number events; otherwise 0.
    pub(super) next_sequence: u64,
}

/// Quiet events side by side at the beginning of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quiets {
    pub(super) events: u64,
    /// Their length together, blank lines included.
    pub(super) length: usize,
    /// Bytes of generated text in them.
    pub(super) text: u64,
    /// The highest number of an event after one of them, in formats that number events; otherwise 0.
    pub(super) next_sequence: u64,
}

impl Shapes {
    /// Whether `bytes`, which begin with a block, begin with one of a known shape.
    pub(super) fn skim(&mut self, bytes: &[u8]) -> Option<Quiet> {
        let [usual, others @ ..] = &mut self.shapes;
        let quiet = usual
            .skim(bytes)
            .or_else(|| skim_as_another(usual, others, bytes))?;
        self.trials.left = TRIALS;
        Some(quiet)
    }

    /// All blocks of known shapes that `bytes`, which begin with a block, begin with: up to one that isn't whole or not
    /// known, that is longer than `most_length`, or with which their text would be longer than `most_text`.
    #[inline]
    pub(super) fn skim_all(&mut self, bytes: &[u8], most_text: u64, most_length: usize) -> Quiets {
        let [usual, others @ ..] = &mut self.shapes;
        let mut all = Quiets::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let quiet = match usual.skim(rest) {
                Some(quiet) => quiet,
                None => match skim_as_another(usual, others, rest) {
                    Some(quiet) => quiet,
                    None => break,
                },
            };
            let text = all.text.saturating_add(quiet.text);
            if text > most_text || quiet.length > most_length {
                break;
            }
            rest = rest.get(quiet.length..).unwrap_or_default();
            all.text = text;
            all.events += 1;
            all.next_sequence = all.next_sequence.max(quiet.next_sequence);
        }
        all.length = bytes.len() - rest.len();
        if all.events > 0 {
            self.trials.left = TRIALS;
        }
        all
    }

    /// Remembers the shape of a block that the slow reader found quiet.
    pub(super) fn learn(
        &mut self,
        block: &[u8],
        format: Format,
        facts: &AnswerFacts,
        scratch: &mut Scratch,
    ) {
        // A stream whose events differ in other places (log probabilities, say) isn't read twice for nothing.
        if self.trials.left == 0 {
            self.trials.skipped += 1;
            if self.trials.skipped < 32 {
                return;
            }
            self.trials.skipped = 0;
        }
        self.trials.left = self.trials.left.saturating_sub(1);
        self.shapes.rotate_right(1);
        let [newest, ..] = &mut self.shapes;
        newest.learn(block, format, facts, scratch);
    }
}

/// Of shapes that aren't the usual one, the one that matches becomes it.
#[inline(never)]
fn skim_as_another(usual: &mut Shape, others: &mut [Shape], bytes: &[u8]) -> Option<Quiet> {
    others.iter_mut().find_map(|other| {
        let quiet = other.skim(bytes)?;
        std::mem::swap(usual, other);
        Some(quiet)
    })
}

impl Shape {
    // In the loop over a frame's events, which keeps what it needs in registers.
    #[inline(always)]
    fn skim(&self, bytes: &[u8]) -> Option<Quiet> {
        if self.literals.is_empty() {
            return None;
        }
        let (mut rest, mut literals) = (bytes, &*self.literals);
        let (mut text, mut next_sequence) = (self.text, 0);
        for hole in self.holes.get(..self.count)? {
            let (literal, after) = literals.split_at_checked(hole.lead)?;
            literals = after;
            rest = rest.strip_prefix(literal)?;
            let length = match hole.filling {
                Filling::Padding => strings::end(rest)?,
                Filling::Text => {
                    let length = strings::end(rest)?;
                    text = text.saturating_add(length as u64);
                    length
                }
                Filling::Sequence => {
                    let (number, length) = whole_number(rest)?;
                    // Of at most 15 digits.
                    next_sequence = number + 1;
                    length
                }
            };
            rest = rest.get(length..)?;
        }
        rest = rest.strip_prefix(literals)?;
        Some(Quiet {
            length: bytes.len() - rest.len(),
            text,
            next_sequence,
        })
    }

    fn learn(&mut self, block: &[u8], format: Format, facts: &AnswerFacts, scratch: &mut Scratch) {
        self.literals.clear();
        self.count = 0;
        let Some((start, payload)) = single_payload(block) else {
            return;
        };
        let mut places = Places::default();
        let found = match format {
            Format::Chat => places.find_chunk_holes(payload, scratch),
            Format::Responses => places.find_event_holes(payload, scratch),
            Format::Any | Format::Media => return,
        };
        if found.is_err() {
            return;
        }
        self.literals.reserve(block.len());
        let (mut text, mut known) = (facts.text, 0);
        let found = places.found.iter().take(places.count);
        for (hole, (place, filling)) in self.holes.iter_mut().zip(found) {
            let (from, to) = (start + place.start, start + place.end);
            // Both hold by the way in which places are found: in order, and inside the block.
            let Some(literal) = block.get(known..from) else {
                return self.literals.clear();
            };
            if *filling == Filling::Text {
                let Some(others) = text.checked_sub((to - from) as u64) else {
                    return self.literals.clear();
                };
                text = others;
            }
            *hole = Hole {
                lead: literal.len(),
                filling: *filling,
            };
            self.literals.extend_from_slice(literal);
            known = to;
        }
        self.text = text;
        self.count = places.count;
        self.literals
            .extend_from_slice(block.get(known..).unwrap_or_default());
    }
}

/// Where the holes of a block are to be, in bytes from its payload's start, in order.
#[derive(Default)]
struct Places {
    found: [(Range<usize>, Filling); HOLES],
    count: usize,
}

impl Places {
    fn find_event_holes(&mut self, payload: &[u8], scratch: &mut Scratch) -> Result<()> {
        let mut reader = Reader::new(payload, scratch)?;
        reader.object(|r, key| match key {
            "obfuscation" => self.hole(r, Filling::Padding),
            "delta" => self.hole(r, Filling::Text),
            "sequence_number" => self.number_hole(r, payload),
            _ => r.skip(),
        })
    }

    fn find_chunk_holes(&mut self, payload: &[u8], scratch: &mut Scratch) -> Result<()> {
        let mut reader = Reader::new(payload, scratch)?;
        reader.object(|r, key| match key {
            "obfuscation" => self.hole(r, Filling::Padding),
            "choices" if r.kind()? == Kind::Array => r.array(|r| {
                members(r, |r, key| match key {
                    "delta" => members(r, |r, key| self.delta(r, key)),
                    _ => r.skip(),
                })
            }),
            _ => r.skip(),
        })
    }

    fn delta(&mut self, r: &mut Reader<'_, '_>, key: &str) -> Result<()> {
        match key {
            "content" | "reasoning_content" | "reasoning" | "refusal" => {
                self.hole(r, Filling::Text)
            }
            "tool_calls" if r.kind()? == Kind::Array => r.array(|r| {
                members(r, |r, key| match key {
                    "function" | "custom" => members(r, |r, key| match key {
                        "arguments" | "input" => self.hole(r, Filling::Text),
                        _ => r.skip(),
                    }),
                    _ => r.skip(),
                })
            }),
            _ => r.skip(),
        }
    }

    /// Makes the next value a hole, if it is a string.
    fn hole(&mut self, r: &mut Reader<'_, '_>, filling: Filling) -> Result<()> {
        if r.kind()? != Kind::String {
            return r.skip();
        }
        // `kind` stepped over the white space: the quote is next.
        let start = r.position() + 1;
        let end = start + r.string_len()?;
        self.push(start..end, filling)
    }

    /// Makes the next value a hole, if it is a whole number in digits.
    fn number_hole(&mut self, r: &mut Reader<'_, '_>, payload: &[u8]) -> Result<()> {
        if r.kind()? != Kind::Number {
            return r.skip();
        }
        let start = r.position();
        r.skip()?;
        match payload.get(start..r.position()).and_then(whole_number) {
            Some((_, length)) if start + length == r.position() => {
                self.push(start..r.position(), Filling::Sequence)
            }
            // Literal, so it matches nothing but itself.
            _ => Ok(()),
        }
    }

    fn push(&mut self, place: Range<usize>, filling: Filling) -> Result<()> {
        let Some(hole) = self.found.get_mut(self.count) else {
            return Err(WireError::new("more holes than a shape may have"));
        };
        *hole = (place, filling);
        self.count += 1;
        Ok(())
    }
}

/// Reads an object's members, and past anything else.
fn members(
    r: &mut Reader<'_, '_>,
    member: impl FnMut(&mut Reader<'_, '_>, &str) -> Result<()>,
) -> Result<()> {
    if r.kind()? == Kind::Object {
        return r.object(member);
    }
    r.skip()
}

const DATA: &[u8] = b"data: ";

/// The payload of a block that is one data line and its blank line, perhaps after one line that says the event's type,
/// as servers write it; and where it starts.
fn single_payload(block: &[u8]) -> Option<(usize, &[u8])> {
    if block.len() > MAX_LENGTH {
        return None;
    }
    let data = if block.starts_with(b"event: ") {
        let (kind, data) = block.split_at_checked(memchr::memchr(b'\n', block)? + 1)?;
        // A payload of its own, which some clients read: the slow reader judges and counts it beside the data's.
        if kind.contains(&b'{') {
            return None;
        }
        data
    } else {
        block
    };
    let rest = data.strip_prefix(DATA)?;
    // Not for CR alone: whether an LF that follows belongs to the block is known only with the next byte.
    let payload = rest
        .strip_suffix(b"\r\n\r\n")
        .or_else(|| rest.strip_suffix(b"\n\n"))?;
    memchr::memchr2(b'\n', b'\r', payload)
        .is_none()
        .then_some((block.len() - rest.len(), payload))
}

/// A whole number as JSON writes it, in at most 15 digits, so that every client reads it exactly; and their count.
pub(super) fn whole_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let digits = bytes
        .iter()
        .take(16)
        .take_while(|byte| byte.is_ascii_digit());
    let (number, length) = digits.fold((0_u64, 0), |(number, length), digit| {
        (number * 10 + u64::from(digit - b'0'), length + 1)
    });
    let leading_zero = length > 1 && bytes.first() == Some(&b'0');
    (matches!(length, 1..=15) && !leading_zero).then_some((number, length))
}
