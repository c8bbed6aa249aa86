//! Where in a document stands what its reader didn't look at: the holes of a shape that later documents may have too.
//!
//! A reader that [notes](super::json::Reader::noting) its holes reads as it always does. Whoever takes a value notes
//! what it took of it: nothing, the length, or the number. What isn't noted was looked at, and belongs to the shape.

/// More than any answer has that isn't made of numbers.
const MAX_HOLES: usize = 64;

/// The contents of a string, between its quotes, or a whole number or other number.
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
    /// A string whose length counts as generated text.
    Text,
    /// As text, where it makes a difference whether there is any: there is.
    SomeText,
    /// A number of which nothing counts.
    Number,
    /// How many tokens: whole, in at most 15 digits.
    Tokens(Tokens),
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
    /// There are too many, or something in the document must not be taken for a shape.
    unusable: bool,
}

impl Holes {
    pub(super) fn clear(&mut self) {
        self.found.clear();
        self.unusable = false;
    }

    pub(super) fn note(&mut self, hole: Hole) {
        let in_order = self.found.last().is_none_or(|last| last.end <= hole.start);
        if in_order && self.found.len() < MAX_HOLES {
            self.found.push(hole);
        } else {
            self.unusable = true;
        }
    }

    pub(super) fn give_up(&mut self) {
        self.unusable = true;
    }

    /// All of them, if all could be noted.
    pub(super) fn usable(&self) -> Option<&[Hole]> {
        (!self.unusable).then_some(&self.found)
    }
}
