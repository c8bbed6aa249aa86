//! Messages and items of a conversation by their learned shape: the facts of the slow reader, without reading JSON again.
//!
//! An agent sends the whole conversation with every request, and its messages differ in little but their text. Why reading
//! by a [shape](super::shape) is sound is said there. Where an object ends is told by its own bytes, so a conversation that
//! goes on with the bytes of a known shape, its holes filled, has that object there and nothing else. What an object says
//! depends on nothing around it but on how deep it may nest: the depth must be the same.
//!
//! What is kept is the object without the contents of its holes: keys, types and words such as `auto`; no text, no
//! argument, no id and no name.

use std::borrow::Cow;
use std::cell::Cell;

use super::error::Result;
use super::json::{Kind, Reader};
use super::request::RequestFacts;
use super::shape::{Filling, Holes, Shape, Trials};

/// How many shapes a thread keeps: text of each role, with a part or two, and calls and their results.
const SHAPES: usize = 12;

/// What is read in which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A message of a chat.
    Message,
    /// An item of a response's input.
    Item,
}

/// What a thread knows.
#[derive(Debug, Default)]
pub(super) struct Messages {
    known: Vec<Known>,
    /// The one that came last.
    last: usize,
    /// The one that makes room for the next.
    oldest: usize,
    holes: Holes,
    trials: Trials,
}

#[derive(Debug)]
struct Known {
    site: Site,
    depth: usize,
    shape: Shape,
    /// The one that came after it last time: conversations take turns.
    next: usize,
    /// Bytes of text outside of the holes, and what counts as some.
    text: u64,
    parts: u64,
}

thread_local! {
    static KNOWN: Cell<Messages> = const { Cell::new(Messages::new()) };
}

impl Messages {
    const fn new() -> Self {
        Self {
            known: Vec::new(),
            last: 0,
            oldest: 0,
            holes: Holes::new(),
            trials: Trials::new(),
        }
    }

    /// Lends what this thread knows.
    pub(super) fn lend<T>(read: impl FnOnce(&mut Self) -> T) -> T {
        // Taken rather than borrowed: a thread that ends gets a fresh one.
        let mut messages = KNOWN.try_with(Cell::take).unwrap_or_default();
        let read = read(&mut messages);
        let _ = KNOWN.try_with(|known| known.set(messages));
        read
    }

    /// Reads an object by `read`, which tells of it nothing but text, parts and names of the past; or knows it.
    pub(super) fn read<'a, 's>(
        &mut self,
        r: &mut Reader<'a, 's>,
        facts: &mut RequestFacts<'a>,
        site: Site,
        read: impl FnOnce(&mut Reader<'a, 's>, &mut RequestFacts<'a>) -> Result<()>,
    ) -> Result<()> {
        if r.kind()? != Kind::Object {
            return read(r, facts);
        }
        let (rest, depth) = (r.rest(), r.depth());
        if let Some(length) = self.find(rest, depth, site, facts) {
            r.step_over(length);
            return Ok(());
        }
        if !self.trials.may_learn() {
            return read(r, facts);
        }
        let (start, before) = (r.position(), (facts.text, facts.parts));
        r.start_noting(std::mem::take(&mut self.holes));
        let done = read(r, facts);
        self.holes = r.stop_noting();
        done?;
        let object = rest.get(..r.position() - start).unwrap_or_default();
        let mut held = 0;
        let shape = Shape::of(object, start, &self.holes, |filling, contents| {
            held += text_in(filling, contents)?;
            Some(())
        });
        let text = (facts.text - before.0).checked_sub(held);
        if let (Some(shape), Some(text)) = (shape, text) {
            self.keep(Known {
                site,
                depth,
                shape,
                next: 0,
                text,
                parts: facts.parts - before.1,
            });
        }
        Ok(())
    }

    fn keep(&mut self, known: Known) {
        let at = self.oldest;
        match self.known.get_mut(at) {
            Some(oldest) => *oldest = known,
            None => self.known.push(known),
        }
        self.oldest = (at + 1) % SHAPES;
        self.came(at);
    }

    fn came(&mut self, at: usize) {
        if let Some(last) = self.known.get_mut(self.last) {
            last.next = at;
        }
        self.last = at;
    }

    /// Takes in the object that these bytes begin with, if it is known; returns its length.
    fn find<'a>(
        &mut self,
        rest: &'a [u8],
        depth: usize,
        site: Site,
        facts: &mut RequestFacts<'a>,
    ) -> Option<usize> {
        let mut take = |at: usize| {
            let known = self.known.get(at)?;
            let here = known.site == site && known.depth == depth;
            here.then(|| known.take(rest, facts))?
        };
        let likely = self.known.get(self.last).map_or(0, |last| last.next);
        let (at, length) = match take(likely) {
            Some(length) => (likely, length),
            None => (0..self.known.len())
                .filter(|at| *at != likely)
                .find_map(|at| Some((at, take(at)?)))?,
        };
        self.trials.fitted();
        self.came(at);
        Some(length)
    }
}

impl Known {
    #[inline]
    fn take<'a>(&self, rest: &'a [u8], facts: &mut RequestFacts<'a>) -> Option<usize> {
        let (mut text, names) = (self.text, facts.history.len());
        let length = self.shape.fill(rest, |filling, contents| {
            text = text.saturating_add(text_in(filling, contents)?);
            if filling == Filling::Name {
                facts.note(Cow::Borrowed(std::str::from_utf8(contents).ok()?));
            }
            Some(())
        });
        if length.is_none() {
            facts.history.truncate(names);
            return None;
        }
        facts.text = facts.text.saturating_add(text);
        facts.parts = facts.parts.saturating_add(self.parts);
        length
    }
}

/// The text that a hole counts, in bytes, if it may hold this.
#[inline]
fn text_in(filling: Filling, contents: &[u8]) -> Option<u64> {
    match filling {
        Filling::String | Filling::Number => Some(0),
        // Data counts as a part.
        Filling::Text if contents.starts_with(b"data:") => None,
        Filling::Text => Some(contents.len() as u64),
        // Written with escapes it is another name than its bytes say.
        Filling::Name => (!contents.contains(&b'\\')).then_some(0),
        Filling::SomeText | Filling::Tokens(_) => None,
    }
}
