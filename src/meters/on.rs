//! Counts through the `metrics` facade.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};

use super::{Counted, Ended, Holds, Part};
use crate::enforcer::PolicyEnforcer;
use crate::wire::endpoint::Class;

const REQUESTS: &str = "sekuire_requests_total";
const DECISIONS: &str = "sekuire_decisions_total";
const TOKENS: &str = "sekuire_tokens_total";
const CHARGED: &str = "sekuire_charged_tokens_total";
const NOT_INSPECTED: &str = "sekuire_not_inspected_total";
const ESTIMATED: &str = "sekuire_settled_by_estimate_total";
const USAGE_MISSING: &str = "sekuire_usage_missing_total";
const LINES_DROPPED: &str = "sekuire_audit_lines_dropped_total";
const HELD: &str = "sekuire_held_bytes";
const DURATION: &str = "sekuire_answer_duration_seconds";
const INSPECTION: &str = "sekuire_inspection_seconds";

/// Of a stream, the time of every so many frames is taken: to read the clock for each would cost more than to judge most
/// of them.
const SAMPLED: u32 = 64;
/// The one of these that is taken: the first few teach the reader what the rest looks like.
const SAMPLE: u32 = 8;

/// Tells the recorder that is installed what each metric of this crate means. Without it they are counted all the same.
///
/// The recorder must be installed before the first call goes through a layer: what was counted first, is counted where
/// it was first counted. `docs/observability.md` in the repository lists the metrics and their labels.
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(REQUESTS, "Requests that were judged.");
    describe_counter!(
        DECISIONS,
        "Decisions on requests and at the end of answers, by the rule of the first violation."
    );
    describe_counter!(TOKENS, "Tokens that answers told.");
    describe_counter!(CHARGED, "Tokens that were charged to limits.");
    describe_counter!(NOT_INSPECTED, "Calls that passed unread.");
    describe_counter!(
        ESTIMATED,
        "Calls that were charged an estimate, because the answer didn't tell its usage."
    );
    describe_counter!(
        USAGE_MISSING,
        "Whole answers of a model that didn't tell their usage."
    );
    describe_counter!(
        LINES_DROPPED,
        "Lines of the audit log that were dropped, because its file couldn't be written or not fast enough."
    );
    describe_gauge!(HELD, Unit::Bytes, "Bytes that are held to be judged.");
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "From a request to the end of its answer."
    );
    describe_histogram!(INSPECTION, Unit::Seconds, "Time that was added by judging.");
}

/// The counts of one policy's agent. Each is made when it is first needed, by the recorder of that moment.
#[derive(Clone)]
pub(crate) struct Meters(Arc<Made>);

struct Made {
    agent: Arc<str>,
    counters: Known<Counter>,
    gauges: Known<Gauge>,
    histograms: Known<Histogram>,
}

/// A label besides the agent.
type Pair = (&'static str, &'static str);
type Id = (&'static str, [Pair; 4]);
type Known<T> = RwLock<HashMap<Id, T>>;

const NONE: Pair = ("", "");

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meters").field(&self.0.agent).finish()
    }
}

/// Uses what is known under this id, or makes it. Making it costs its labels' memory, using it costs none.
fn with<T>(known: &Known<T>, id: Id, make: impl FnOnce() -> T, used: impl FnOnce(&T)) {
    if let Some(found) = known
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&id)
    {
        return used(found);
    }
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    used(known.entry(id).or_insert_with(make));
}

impl Meters {
    pub(crate) fn new(agent: &Arc<str>) -> Self {
        Self(Arc::new(Made {
            agent: Arc::clone(agent),
            counters: Known::default(),
            gauges: Known::default(),
            histograms: Known::default(),
        }))
    }

    fn labels(&self, (_, pairs): Id) -> Vec<Label> {
        let agent = Label::new("agent", Arc::clone(&self.0.agent));
        let pairs = pairs.into_iter().filter(|pair| *pair != NONE);
        let others = pairs.map(|(key, value)| Label::from_static_parts(key, value));
        std::iter::once(agent).chain(others).collect()
    }

    fn count(&self, name: &'static str, pairs: [Pair; 4], by: u64) {
        let id = (name, pairs);
        with(
            &self.0.counters,
            id,
            || metrics::counter!(name, self.labels(id)),
            |counter| counter.increment(by),
        );
    }

    fn time(&self, name: &'static str, pairs: [Pair; 4], time: Duration) {
        let id = (name, pairs);
        with(
            &self.0.histograms,
            id,
            || metrics::histogram!(name, self.labels(id)),
            |histogram| histogram.record(time.as_secs_f64()),
        );
    }

    pub(crate) fn request(&self, class: Option<Class>) {
        let endpoint = ("endpoint", name_of(class));
        self.count(REQUESTS, [endpoint, NONE, NONE, NONE], 1);
    }

    pub(crate) fn decided(&self, counted: &Counted) {
        let labels = [
            ("phase", counted.phase.as_str()),
            ("verdict", counted.verdict.as_str()),
            ("rule", counted.rule.map_or("none", |rule| rule.as_str())),
            ("mode", counted.mode.as_str()),
        ];
        self.count(DECISIONS, labels, 1);
        let endpoint = [("endpoint", name_of(counted.class)), NONE, NONE, NONE];
        if counted.unread {
            self.count(NOT_INSPECTED, endpoint, 1);
        }
        if let Some(ended) = &counted.ended {
            self.ended(ended, endpoint);
        }
    }

    fn ended(&self, ended: &Ended, endpoint: [Pair; 4]) {
        let labels = [
            ("form", ended.form),
            ("end", ended.end.as_str()),
            NONE,
            NONE,
        ];
        self.time(DURATION, labels, ended.duration);
        for (direction, tokens) in [("input", ended.input), ("output", ended.output)] {
            if let Some(tokens) = tokens {
                let labels = [("direction", direction), NONE, NONE, NONE];
                self.count(TOKENS, labels, tokens);
            }
        }
        if ended.charged > 0 {
            let source = if ended.estimated { "estimate" } else { "usage" };
            let labels = [("source", source), NONE, NONE, NONE];
            self.count(CHARGED, labels, ended.charged);
        }
        if ended.estimated {
            self.count(ESTIMATED, endpoint, 1);
        }
        if ended.usage_missing {
            self.count(USAGE_MISSING, endpoint, 1);
        }
    }

    pub(crate) fn inspected(&self, part: Part, time: Moment) {
        let part = match part {
            Part::Request => "request",
            Part::Answer => "answer",
            Part::Frame => "frame",
        };
        self.time(INSPECTION, [("part", part), NONE, NONE, NONE], time.0);
    }

    pub(crate) fn held(&self, what: Holds) -> HeldBytes {
        let what = match what {
            Holds::Request => "request",
            Holds::Answer => "answer",
            Holds::Event => "event",
        };
        let id = (HELD, [("what", what), NONE, NONE, NONE]);
        let mut held = HeldBytes::default();
        with(
            &self.0.gauges,
            id,
            || metrics::gauge!(HELD, self.labels(id)),
            |gauge| held.gauge = Some(gauge.clone()),
        );
        held
    }
}

fn name_of(class: Option<Class>) -> &'static str {
    match class {
        Some(Class::Model) => "model",
        Some(Class::Define) => "define",
        Some(Class::Output) => "output",
        Some(Class::Indirect) => "indirect",
        Some(Class::Neutral) => "neutral",
        Some(Class::Denied) => "denied",
        None => "unknown",
    }
}

/// A moment of the enforcer's clock, or the time between two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now(enforcer: &PolicyEnforcer) -> Self {
        Self(enforcer.now())
    }

    pub(crate) const fn at(time: Duration) -> Self {
        Self(time)
    }

    pub(crate) fn since(self, enforcer: &PolicyEnforcer) -> Self {
        Self(enforcer.now().saturating_sub(self.0))
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Bytes that are held now, counted among all until they are let go.
#[derive(Default)]
pub(crate) struct HeldBytes {
    gauge: Option<Gauge>,
    bytes: usize,
}

impl HeldBytes {
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let Some(gauge) = &self.gauge else { return };
        if bytes > before {
            gauge.increment(as_number(bytes.saturating_sub(before)));
        } else if bytes < before {
            gauge.decrement(as_number(before.saturating_sub(bytes)));
        }
    }
}

/// Whole up to 2^53, which no memory reaches.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn as_number(bytes: usize) -> f64 {
    bytes as f64
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeldBytes").field(&self.bytes).finish()
    }
}

/// Chooses the frames whose time is taken.
#[derive(Debug, Default)]
pub(crate) struct Sampler(u32);

impl Sampler {
    pub(crate) fn begin(&mut self, enforcer: &PolicyEnforcer) -> Option<Moment> {
        self.0 = self.0.wrapping_add(1);
        (self.0 % SAMPLED == SAMPLE).then(|| Moment::now(enforcer))
    }
}

pub(crate) fn lines_dropped(count: u64) {
    metrics::counter!(LINES_DROPPED).increment(count);
}
