//! Learned shapes of JSON: what was read before is compared, and only what differs is looked at.
//!
//! A reader that [notes](super::json::Reader::start_noting) its holes reads as it always does. Whoever takes a value notes
//! what it took of it: nothing, the length, or the number. What isn't noted was looked at, and belongs to the [`Shape`].
//!
//! Why that is sound: a value that equals the one that was read in every byte outside the holes, and whose holes hold
//! well-formed contents of the same type, is strict JSON with the same keys, the same nesting, the same types and the
//! same values wherever anybody looked. What is in a string's hole ends at its closing quote, as the slow reader finds it
//! and by the same code. What is in a number's hole is a number as JSON writes it, and the byte after it is one that ended
//! a number before. So the two differ in those values alone, and the slow reader would find the same in both but for the
//! lengths, numbers and names that are taken from the holes.

use super::{json, strings};

/// More than any message or answer has that isn't made of numbers.
const MAX_HOLES: usize = 64;
/// A value with more bytes outside of its holes has no shape.
const LONGEST: usize = 8 * 1024;

/// The contents of a string, between its quotes, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) filling: Filling,
}

/// What a hole may hold, and what of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// A string of which nothing counts.
    String,
    /// A string whose length counts as text.
    Text,
    /// As text, where it makes a difference whether there is any: there is.
    SomeText,
    /// The name of a tool that was called.
    Name,
    /// A number of which nothing counts.
    Number,
    /// How many tokens.
    Tokens(Tokens),
}

impl Filling {
    pub(super) const fn is_string(self) -> bool {
        !matches!(self, Self::Number | Self::Tokens(_))
    }
}

/// Which tokens a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    Input,
    Output,
    Total,
}

/// The holes of a document, in order.
#[derive(Debug, Default)]
pub(super) struct Holes {
    found: Vec<Hole>,
    /// There are too many, or something must not be taken for a shape.
    unusable: bool,
}

impl Holes {
    pub(super) const fn new() -> Self {
        Self {
            found: Vec::new(),
            unusable: false,
        }
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
        self.unusable = false;
    }

    pub(super) fn note(&mut self, hole: Hole) {
        if self.found.len() < MAX_HOLES {
            self.found.push(hole);
        } else {
            self.unusable = true;
        }
    }

    pub(super) fn give_up(&mut self) {
        self.unusable = true;
    }
}

/// A value whose bytes are known but for its holes.
#[derive(Debug)]
pub(super) struct Shape {
    /// The bytes outside of the holes.
    literals: Box<[u8]>,
    gaps: Box<[Gap]>,
}

/// A hole of a shape.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// How many bytes of literals lie between it and the hole before it, or the beginning.
    lead: usize,
    filling: Filling,
}

impl Shape {
    /// The shape of a value that was read and has these holes. In its document it begins at `start`. `take` is called with
    /// each hole's contents, and says whether these may be in a hole.
    pub(super) fn of(
        value: &[u8],
        start: usize,
        holes: &Holes,
        mut take: impl FnMut(Filling, &[u8]) -> Option<()>,
    ) -> Option<Self> {
        if holes.unusable {
            return None;
        }
        let open = holes.found.iter().map(|hole| hole.end - hole.start).sum();
        let length = value.len().checked_sub(open)?;
        if length > LONGEST {
            return None;
        }
        let mut literals = Vec::with_capacity(length);
        let mut gaps = Vec::with_capacity(holes.found.len());
        let mut known = 0;
        for hole in &holes.found {
            let (from, to) = (hole.start.checked_sub(start)?, hole.end.checked_sub(start)?);
            // In order, or there is none.
            let literal = value.get(known..from)?;
            let contents = value.get(from..to)?;
            // By the same code as later ones, so that a shape fits at least what it was made of.
            if contents_of(value.get(from..)?, hole.filling)? != contents {
                return None;
            }
            take(hole.filling, contents)?;
            gaps.push(Gap {
                lead: literal.len(),
                filling: hole.filling,
            });
            literals.extend_from_slice(literal);
            known = to;
        }
        literals.extend_from_slice(value.get(known..)?);
        Some(Self {
            literals: literals.into(),
            gaps: gaps.into(),
        })
    }

    /// The length of the value of this shape that these bytes begin with, if they do, and if there is patience left to find
    /// out. `take` is called with the contents of each hole in turn, and says whether it is of this shape with these.
    #[inline]
    pub(super) fn fill<'b>(
        &self,
        bytes: &'b [u8],
        patience: &mut Patience,
        take: impl FnMut(Filling, &'b [u8]) -> Option<()>,
    ) -> Option<usize> {
        if patience.left == 0 {
            return None;
        }
        let mut rest = bytes;
        let filled = self.fill_from(&mut rest, take);
        let length = bytes.len() - rest.len();
        if filled.is_none() {
            patience.lose(length);
        }
        filled.map(|()| length)
    }

    /// Steps over a value of this shape, or over what of it was looked at.
    #[inline(always)]
    fn fill_from<'b>(
        &self,
        rest: &mut &'b [u8],
        mut take: impl FnMut(Filling, &'b [u8]) -> Option<()>,
    ) -> Option<()> {
        let mut literals = &*self.literals;
        for gap in &self.gaps {
            let (literal, after) = literals.split_at_checked(gap.lead)?;
            literals = after;
            *rest = rest.strip_prefix(literal)?;
            let Some(contents) = contents_of(rest, gap.filling) else {
                // Of a string all of it may have been looked at.
                *rest = &[];
                return None;
            };
            *rest = rest.get(contents.len()..)?;
            take(gap.filling, contents)?;
        }
        *rest = rest.strip_prefix(literals)?;
        Some(())
    }

    #[cfg(test)]
    pub(super) fn literals(&self) -> String {
        String::from_utf8_lossy(&self.literals).into_owned()
    }
}

/// What fills a hole at the beginning of some bytes, if it is well formed.
#[inline]
fn contents_of(bytes: &[u8], filling: Filling) -> Option<&[u8]> {
    let end = match filling.is_string() {
        true => strings::end(bytes)?,
        false => json::number_end(bytes, 0)?,
    };
    bytes.get(..end)
}

/// How many bytes of a value are compared with shapes in vain before it is read. Whoever knows the shapes of a thread
/// could otherwise have all of what he sends looked at once for each of them.
#[derive(Debug)]
pub(super) struct Patience {
    left: usize,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { left: 4 * 1024 }
    }

    pub(super) const fn lose(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Whether it pays to learn another shape: where they never fit, few are learned.
#[derive(Debug, Default)]
pub(super) struct Trials {
    /// Shapes that were learned, or would have been, since one fitted.
    in_vain: u32,
}

/// After so many shapes in a row that fitted nothing, only one in [`RARELY`] is learned.
const TRIALS: u32 = 16;
const RARELY: u32 = 32;

impl Trials {
    pub(super) const fn new() -> Self {
        Self { in_vain: 0 }
    }

    pub(super) fn fitted(&mut self) {
        self.in_vain = 0;
    }

    /// Nothing has fitted for long: to compare with the likeliest alone is enough, until one fits again.
    pub(super) const fn are_in_vain(&self) -> bool {
        self.in_vain > TRIALS
    }

    pub(super) fn may_learn(&mut self) -> bool {
        #[cfg(any(test, fuzzing))]
        if reference::is_wanted() {
            return false;
        }
        self.in_vain = self.in_vain.saturating_add(1);
        self.in_vain <= TRIALS || self.in_vain.is_multiple_of(RARELY)
    }
}

/// The slow reader, with which the fast ways are compared: of one document, too, a part must not be read by what was
/// learned from another part.
#[cfg(any(test, fuzzing))]
pub(super) mod reference {
    use std::cell::Cell;

    thread_local! {
        static WANTED: Cell<bool> = const { Cell::new(false) };
    }

    /// Whether this thread learns nothing.
    pub(in super::super) fn is_wanted() -> bool {
        WANTED.get()
    }

    pub(in super::super) fn want(wanted: bool) {
        WANTED.set(wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{Reader, Scratch};
    use super::*;

    fn shape_of(value: &str) -> Shape {
        let mut scratch = Scratch::default();
        let mut reader = Reader::new(value.as_bytes(), &mut scratch).unwrap();
        reader.start_noting(Holes::new());
        reader.skip().unwrap();
        let holes = reader.stop_noting();
        Shape::of(value.as_bytes(), 0, &holes, |_, _| Some(())).unwrap()
    }

    #[test]
    fn a_long_value_is_compared_once_in_vain_and_a_short_one_with_every_shape() {
        let one = shape_of(r#"{"text":"","one":0}"#);
        let two = shape_of(r#"{"text":"","two":0}"#);
        for (text, length) in [("a", Some(20)), (&*"a".repeat(5_000), None)] {
            let value = format!(r#"{{"text":"{text}","two":0}}"#);
            let mut patience = Patience::new();
            let mut fill =
                |shape: &Shape| shape.fill(value.as_bytes(), &mut patience, |_, _| Some(()));
            assert_eq!(fill(&one), None);
            assert_eq!(fill(&two), length);
        }
        // Where a string doesn't end, all of it was looked at.
        let endless = r#"{"text":""#.to_owned() + &"a".repeat(5_000);
        let mut patience = Patience::new();
        assert_eq!(
            one.fill(endless.as_bytes(), &mut patience, |_, _| Some(())),
            None
        );
        assert_eq!(patience.left, 0);
    }
}
