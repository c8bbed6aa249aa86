//! Frames in, judged frames out: the event stream's gate.
//!
//! INVARIANT: no byte of a block leaves before the block was judged, and every byte that leaves is one that came, in
//! order, but for the members that [`EventFacts::cuts`](crate::wire::event::EventFacts) names. A block leaves in
//! the poll in which its last byte came; only what has no end yet is copied and held.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::exchange::Exchange;
use crate::meters::HeldBytes;
use crate::violation::{PolicyViolation, Seen};
use crate::wire::error::WireError;
use crate::wire::event::{EventReader, without};
use crate::wire::sse::Scanner;

#[derive(Debug)]
pub(crate) struct Gate {
    scanner: Scanner,
    reader: EventReader,
    /// The beginning of a block whose end has not come.
    pending: BytesMut,
    /// Judged blocks from a call on that waits for its name.
    held: BytesMut,
    /// The next piece that may leave: mostly there is one, in the poll in which it came.
    next: Option<Bytes>,
    /// The pieces after it.
    more: VecDeque<Bytes>,
    /// Events so far.
    events: u64,
    /// The number of the first event that has not left; `None` while none has.
    sequence: Option<u64>,
    cap: usize,
    counted: HeldBytes,
}

impl Gate {
    pub(crate) fn new(reader: EventReader, cap: usize, counted: HeldBytes) -> Self {
        Self {
            scanner: Scanner::new(),
            reader,
            pending: BytesMut::new(),
            held: BytesMut::new(),
            next: None,
            more: VecDeque::new(),
            events: 0,
            sequence: None,
            cap,
            counted,
        }
    }

    /// The next piece that may leave.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let next = self.next.take()?;
        if !self.more.is_empty() {
            self.next = self.more.pop_front();
        }
        Some(next)
    }

    pub(crate) fn push_out(&mut self, bytes: Bytes) {
        // Nothing is left of an event that was removed.
        if bytes.is_empty() {
            return;
        }
        match self.next {
            None => self.next = Some(bytes),
            Some(_) => self.more.push_back(bytes),
        }
    }

    pub(crate) const fn reader(&self) -> &EventReader {
        &self.reader
    }

    /// The number that an event in the place of what is withheld has, in formats that number them.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence
            .unwrap_or_else(|| self.reader.next_sequence().saturating_sub(1))
    }

    /// Forgets also what may leave and has not.
    pub(crate) fn clear(&mut self) {
        self.discard();
        self.next = None;
        self.more.clear();
    }

    /// Forgets what has not left and never may.
    pub(crate) fn discard(&mut self) {
        self.pending = BytesMut::new();
        self.held = BytesMut::new();
        self.counted.set(0);
    }

    /// Takes in a frame and judges every block that ends in it. A frame that holds nothing but quiet events comes back,
    /// to leave as it came: the usual case, in which nothing is queued.
    #[inline]
    pub(crate) fn push(
        &mut self,
        frame: Bytes,
        exchange: &mut Exchange,
    ) -> Result<Option<Bytes>, PolicyViolation> {
        let judged = self.skim(&frame, exchange);
        if judged == frame.len() && judged > 0 && self.next.is_none() {
            return Ok(Some(frame));
        }
        self.push_blocks(frame, judged, exchange)?;
        Ok(None)
    }

    /// Judges the quiet blocks that `bytes` begin with, and returns their length together. They bring their own ends, so
    /// the scanner need not look for them and stays at a block's start.
    ///
    /// One with which the answer outgrows what it may be, or that is over the cap, is left to the slow way.
    #[inline]
    fn skim(&mut self, bytes: &[u8], exchange: &mut Exchange) -> usize {
        if !self.scanner.is_at_start() {
            return 0;
        }
        let room = self.cap.saturating_sub(self.kept());
        let (events, length) = self.reader.skim_all(bytes, exchange.allowance(), room);
        if events > 0 {
            exchange.spoken_within_allowance(self.reader.text());
            self.events = self.events.saturating_add(events);
            self.sequence = Some(self.reader.next_sequence());
        }
        length
    }

    /// Judges the frame's blocks from `at` on; those before were judged.
    fn push_blocks(
        &mut self,
        frame: Bytes,
        mut at: usize,
        exchange: &mut Exchange,
    ) -> Result<(), PolicyViolation> {
        // Judged blocks that lie side by side in the frame leave as one slice of it.
        let mut ready = 0..at;
        let result = loop {
            let rest = frame.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            let length = self.skim(rest, exchange);
            if length > 0 {
                if ready.end != at {
                    self.release(&frame, &ready);
                    ready.start = at;
                }
                at += length;
                ready.end = at;
                continue;
            }
            let Some(length) = self.scanner.scan(rest) else {
                break self.keep(rest, exchange);
            };
            // A verdict must not depend on how the transport cut the event.
            if let Err(violation) = self.within_cap(length, exchange) {
                break Err(violation);
            }
            let block = at..at + length;
            at = block.end;
            let whole = if self.pending.is_empty() {
                None
            } else {
                self.pending
                    .extend_from_slice(frame.get(block.clone()).unwrap_or_default());
                Some(self.pending.split().freeze())
            };
            let bytes = whole
                .as_deref()
                .or_else(|| frame.get(block.clone()))
                .unwrap_or_default();
            let was_waiting = self.reader.waiting();
            let changed = match self.judge(bytes, exchange) {
                Ok(changed) => changed,
                Err(violation) => break Err(violation),
            };
            if !self.reader.waiting() {
                self.sequence = Some(self.reader.next_sequence());
            }
            let plain =
                whole.is_none() && changed.is_none() && !was_waiting && !self.reader.waiting();
            if plain {
                if ready.end != block.start {
                    self.release(&frame, &ready);
                    ready.start = block.start;
                }
                ready.end = block.end;
                continue;
            }
            self.release(&frame, &ready);
            ready = block.end..block.end;
            let piece = changed.or(whole).unwrap_or_else(|| frame.slice(block));
            if let Err(violation) = self.release_or_hold(piece, exchange) {
                break Err(violation);
            }
        };
        if ready == (0..frame.len()) {
            if !frame.is_empty() {
                // Neither sliced nor counted: most frames leave as they came.
                self.push_out(frame);
            }
        } else {
            self.release(&frame, &ready);
        }
        self.counted
            .set(self.pending.len().saturating_add(self.held.len()));
        result
    }

    fn release(&mut self, frame: &Bytes, ready: &std::ops::Range<usize>) {
        if !ready.is_empty() {
            self.push_out(frame.slice(ready.clone()));
        }
    }

    fn release_or_hold(
        &mut self,
        piece: Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), PolicyViolation> {
        if !self.reader.waiting() {
            if !self.held.is_empty() {
                let held = std::mem::take(&mut self.held).freeze();
                self.push_out(held);
            }
            self.push_out(piece);
            return Ok(());
        }
        // Copied: kept as they are, blocks of a few bytes would cost many times their length, and whole frames.
        self.held.extend_from_slice(&piece);
        self.within_cap(0, exchange)
    }

    fn keep(&mut self, rest: &[u8], exchange: &mut Exchange) -> Result<(), PolicyViolation> {
        self.pending.extend_from_slice(rest);
        self.within_cap(0, exchange)
    }

    /// More is held than the cap allows: where nothing is refused, reading must stop here.
    pub(crate) fn is_over_cap(&self) -> bool {
        self.exceeds_cap(0)
    }

    /// Bytes that wait here.
    fn kept(&self) -> usize {
        self.pending.len().saturating_add(self.held.len())
    }

    fn exceeds_cap(&self, more: usize) -> bool {
        self.kept().saturating_add(more) > self.cap
    }

    fn within_cap(&self, more: usize, exchange: &mut Exchange) -> Result<(), PolicyViolation> {
        if self.exceeds_cap(more) {
            return exchange.over_cap("an event of the answer is larger than the cap on events");
        }
        Ok(())
    }

    /// Judges one block; returns its bytes when they must differ from what came.
    fn judge(
        &mut self,
        block: &[u8],
        exchange: &mut Exchange,
    ) -> Result<Option<Bytes>, PolicyViolation> {
        let read = self.reader.read(block);
        let facts = match read {
            Ok(facts) => facts,
            Err(error) => {
                exchange.unreadable(error, Seen::Event(self.events.saturating_add(1)))?;
                return Ok(None);
            }
        };
        self.events = self.events.saturating_add(u64::from(facts.event));
        for tool in &facts.tools {
            exchange.called(tool, Seen::Event(self.events))?;
        }
        let changed = if facts.usage_alone && exchange.hides_usage() {
            Some(Bytes::new())
        } else {
            (!facts.cuts.is_empty()).then(|| without(block, &facts.cuts).into())
        };
        let done = facts.done;
        exchange.progress(&self.reader);
        exchange.spoken(self.reader.text())?;
        if done {
            exchange.take_over();
            // Over the budget, the end marker doesn't leave: the client must not take the answer for whole.
            exchange.charge_stream()?;
        }
        Ok(changed)
    }

    /// The stream has ended: nothing may be left over.
    pub(crate) fn finish(&mut self, exchange: &mut Exchange) -> Result<(), PolicyViolation> {
        let seen = Seen::Event(self.events.saturating_add(1));
        if !self.pending.is_empty() {
            // Some clients drop an event without its blank line, some deliver it.
            exchange.unreadable(
                WireError::new("the event stream ends inside an event"),
                seen,
            )?;
        }
        if let Err(error) = self.reader.finish() {
            exchange.unreadable(error, seen)?;
        }
        exchange.charge_stream()?;
        exchange.complete()
    }
}
