//! The tool calls of a streamed answer: who is who, from one delta to the next.
//!
//! Clients disagree on what a second name at the same place means: some join it to the first, some replace the
//! first, some start another call. So a call's name is fixed by the first that is not empty; the same name
//! again is to be cut from the bytes, and a different one is refused. Then every client executes the same tool.

use super::answer::{CallPart, Slot};
use super::error::{Result, WireError};
use super::json::Span;

/// A stream may hold this many calls open.
const MAX_CALLS: usize = 1_024;

/// The calls that a stream has opened so far.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: Vec<Call>,
    /// How many of them brought arguments but no name yet.
    nameless: usize,
}

#[derive(Debug)]
struct Call {
    choice: u64,
    slot: Slot,
    id: Option<String>,
    name: Option<String>,
}

/// What a part means for what may be released.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// More of a call whose name is settled, or nothing.
    Known,
    /// These tools are called.
    Names,
    /// A settled name once more, at this place.
    Repeated(Span),
}

impl Calls {
    /// True while a call waits for its name: nothing from that call on may be released.
    pub(crate) const fn waiting(&self) -> bool {
        self.nameless > 0
    }

    /// Takes in one part of a delta.
    pub(crate) fn take(&mut self, part: &CallPart) -> Result<Meaning> {
        if part.slot == Slot::Whole {
            return Ok(if part.names.is_empty() {
                Meaning::Known
            } else {
                Meaning::Names
            });
        }
        if part.names.len() > 1 {
            return Err(WireError::new("a tool call with two names"));
        }
        let known = self
            .open
            .iter_mut()
            .find(|call| call.choice == part.choice && call.slot == part.slot);
        match (part.names.first(), known) {
            (None, Some(_)) => {
                if part.slot == Slot::NoIndex {
                    return Err(WireError::new("a piece of a tool call without an index"));
                }
                Ok(Meaning::Known)
            }
            (None, None) => {
                if part.arguments {
                    if part.slot == Slot::NoIndex {
                        return Err(WireError::new("a piece of a tool call without an index"));
                    }
                    self.open(part)?;
                    self.nameless += 1;
                }
                Ok(Meaning::Known)
            }
            (Some(_), None) => {
                let beside_unindexed =
                    part.slot == Slot::NoIndex || self.has_unindexed(part.choice);
                let has_another = self
                    .open
                    .iter()
                    .any(|call| call.choice == part.choice && call.slot != Slot::Legacy);
                if beside_unindexed && part.slot != Slot::Legacy && has_another {
                    return Err(WireError::new(
                        "several tool calls, one of them without an index",
                    ));
                }
                self.open(part)?;
                Ok(Meaning::Names)
            }
            // Without an index nothing says that this is the same call.
            (Some(_), Some(_)) if part.slot == Slot::NoIndex => Err(WireError::new(
                "several tool calls, one of them without an index",
            )),
            (Some(name), Some(call)) => match &call.name {
                None => {
                    call.name = Some(name.text.clone());
                    self.nameless -= 1;
                    Ok(Meaning::Names)
                }
                Some(settled) if *settled != name.text => {
                    Err(WireError::new("a second, different name for one tool call"))
                }
                Some(_) if part.id.is_some() && call.id.is_some() && part.id != call.id => Err(
                    WireError::new("the index of one tool call used again for another"),
                ),
                Some(_) => Ok(Meaning::Repeated(name.span)),
            },
        }
    }

    /// Whether the part belongs to a call that is open and goes on by its index.
    pub(crate) fn is_open(&self, part: &CallPart) -> bool {
        matches!(part.slot, Slot::Index(_))
            && self
                .open
                .iter()
                .any(|call| call.choice == part.choice && call.slot == part.slot)
    }

    fn has_unindexed(&self, choice: u64) -> bool {
        self.open
            .iter()
            .any(|call| call.choice == choice && call.slot == Slot::NoIndex)
    }

    fn open(&mut self, part: &CallPart) -> Result<()> {
        if self.open.len() >= MAX_CALLS {
            return Err(WireError::new("more than 1024 tool calls in one stream"));
        }
        self.open.push(Call {
            choice: part.choice,
            slot: part.slot,
            id: part.id.clone(),
            name: part.names.first().map(|name| name.text.clone()),
        });
        Ok(())
    }
}
