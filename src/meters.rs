//! What is counted for whoever watches a fleet: the `metrics` facade, or nothing at all without the feature.
//!
//! INVARIANT: a label's value is a word of this crate or the name of a policy's agent. Whatever comes off the wire
//! would let a client fill the memory of whoever keeps the counts, and tell there what must not be told.

#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;

use std::time::Duration;

use crate::audit::{End, Phase, Verdict};
use crate::enforcer::Mode;
use crate::violation::Rule;
use crate::wire::endpoint::{Answer, Class};

#[cfg(not(feature = "metrics"))]
pub(crate) use off::{HeldBytes, Meters, Moment, Sampler, lines_dropped};
#[cfg(feature = "metrics")]
pub use on::describe_metrics;
#[cfg(feature = "metrics")]
pub(crate) use on::{HeldBytes, Meters, Moment, Sampler, lines_dropped};

/// Whether anything is counted: what costs something only for the counts is asked for under this.
pub(crate) const COUNTS: bool = cfg!(feature = "metrics");

/// What a decision adds to the counts.
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "there is nobody who counts")
)]
pub(crate) struct Counted {
    pub(crate) phase: Phase,
    pub(crate) verdict: Verdict,
    pub(crate) rule: Option<Rule>,
    pub(crate) mode: Mode,
    pub(crate) class: Option<Class>,
    /// The call passes unread, which was not counted before.
    pub(crate) unread: bool,
    pub(crate) ended: Option<Ended>,
}

/// What the end of an answer adds.
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "there is nobody who counts")
)]
pub(crate) struct Ended {
    pub(crate) end: End,
    /// `None` when no answer's head was seen.
    pub(crate) form: Option<Answer>,
    pub(crate) duration: Duration,
    pub(crate) charged: u64,
    pub(crate) estimated: bool,
    /// A model answered and didn't tell what it used.
    pub(crate) usage_missing: bool,
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
}

/// What time is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// A request, from its head to its verdict, but for waiting.
    Request,
    /// An answer that was judged whole.
    Answer,
    /// A frame of a stream.
    Frame,
}

/// What is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holds {
    Request,
    Answer,
    /// What of a stream waits for its verdict.
    Event,
}
