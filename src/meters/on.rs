//! Counts through the `metrics` facade.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};

use super::{Counted, Ended, Holds, Part};
use crate::audit::{End, Phase, Verdict};
use crate::enforcer::{Mode, PolicyEnforcer};
use crate::violation::Rule;
use crate::wire::endpoint::{Answer, Class};

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

const CLASSES: usize = Class::Denied as usize + 2;
const PHASES: usize = Phase::End as usize + 1;
const VERDICTS: usize = Verdict::NotInspected as usize + 1;
const RULES: usize = Rule::ResponseUnreadable as usize + 2;
const MODES: usize = Mode::Audit as usize + 1;
const FORMS: usize = Answer::Data as usize + 2;
const ENDS: usize = End::Dropped as usize + 1;

/// A place for each series: what a label may say is known, so that none has to be looked for by its labels.
struct Made {
    agent: Arc<str>,
    requests: Family<Counter, CLASSES>,
    decisions: Family<Counter, { PHASES * VERDICTS * RULES * MODES }>,
    not_inspected: Family<Counter, CLASSES>,
    estimated: Family<Counter, CLASSES>,
    usage_missing: Family<Counter, CLASSES>,
    tokens: Family<Counter, 2>,
    charged: Family<Counter, 2>,
    held: Family<Gauge, 3>,
    durations: Family<Histogram, { FORMS * ENDS }>,
    inspections: Family<Histogram, 3>,
}

/// The series of one metric that were needed so far.
struct Family<T, const N: usize>([OnceLock<T>; N]);

impl<T, const N: usize> Family<T, N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }

    /// Uses a series, which is made unless it is known. Making it costs its labels' memory, using it costs none.
    fn with<R>(&self, at: usize, make: impl FnOnce() -> T, used: impl FnOnce(&T) -> R) -> R {
        match self.0.get(at) {
            Some(cell) => used(cell.get_or_init(make)),
            None => used(&make()),
        }
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meters").field(&self.0.agent).finish()
    }
}

impl Meters {
    pub(crate) fn new(agent: &Arc<str>) -> Self {
        Self(Arc::new(Made {
            agent: Arc::clone(agent),
            requests: Family::new(),
            decisions: Family::new(),
            not_inspected: Family::new(),
            estimated: Family::new(),
            usage_missing: Family::new(),
            tokens: Family::new(),
            charged: Family::new(),
            held: Family::new(),
            durations: Family::new(),
            inspections: Family::new(),
        }))
    }

    /// The agent, and what else a series says of itself.
    fn labels<const N: usize>(&self, pairs: [(&'static str, &'static str); N]) -> Vec<Label> {
        let agent = Label::new("agent", Arc::clone(&self.0.agent));
        let others = pairs.map(|(key, value)| Label::from_static_parts(key, value));
        std::iter::once(agent).chain(others).collect()
    }

    fn count<const N: usize, const L: usize>(
        &self,
        (name, family): (&'static str, &Family<Counter, N>),
        at: usize,
        labels: impl FnOnce() -> [(&'static str, &'static str); L],
        by: u64,
    ) {
        let make = || metrics::counter!(name, self.labels(labels()));
        family.with(at, make, |counter| counter.increment(by));
    }

    fn time<const N: usize, const L: usize>(
        &self,
        (name, family): (&'static str, &Family<Histogram, N>),
        at: usize,
        labels: impl FnOnce() -> [(&'static str, &'static str); L],
        time: Duration,
    ) {
        let make = || metrics::histogram!(name, self.labels(labels()));
        family.with(at, make, |histogram| histogram.record(time.as_secs_f64()));
    }

    /// Counts by what the endpoint does.
    fn by_class(&self, of: (&'static str, &Family<Counter, CLASSES>), class: Option<Class>) {
        let at = class.map_or(0, |class| class as usize + 1);
        self.count(of, at, || [("endpoint", name_of(class))], 1);
    }

    pub(crate) fn request(&self, class: Option<Class>) {
        self.by_class((REQUESTS, &self.0.requests), class);
    }

    pub(crate) fn decided(&self, counted: &Counted) {
        let Counted {
            phase,
            verdict,
            rule,
            mode,
            class,
            ..
        } = *counted;
        let rule_at = rule.map_or(0, |rule| rule as usize + 1);
        let at = ((rule_at * PHASES + phase as usize) * VERDICTS + verdict as usize) * MODES
            + mode as usize;
        let labels = || {
            [
                ("phase", phase.as_str()),
                ("verdict", verdict.as_str()),
                ("rule", rule.map_or("none", |rule| rule.as_str())),
                ("mode", mode.as_str()),
            ]
        };
        self.count((DECISIONS, &self.0.decisions), at, labels, 1);
        if counted.unread {
            self.by_class((NOT_INSPECTED, &self.0.not_inspected), class);
        }
        if let Some(ended) = &counted.ended {
            self.ended(ended, class);
        }
    }

    fn ended(&self, ended: &Ended, class: Option<Class>) {
        let (form, end) = (ended.form, ended.end);
        let at = form.map_or(0, |form| form as usize + 1) * ENDS + end as usize;
        let labels = || [("form", name_of_form(form)), ("end", end.as_str())];
        self.time((DURATION, &self.0.durations), at, labels, ended.duration);
        for (at, direction, tokens) in [(0, "input", ended.input), (1, "output", ended.output)] {
            if let Some(tokens) = tokens {
                let labels = || [("direction", direction)];
                self.count((TOKENS, &self.0.tokens), at, labels, tokens);
            }
        }
        if ended.charged > 0 {
            let source = if ended.estimated { "estimate" } else { "usage" };
            let at = usize::from(ended.estimated);
            let labels = || [("source", source)];
            self.count((CHARGED, &self.0.charged), at, labels, ended.charged);
        }
        if ended.estimated {
            self.by_class((ESTIMATED, &self.0.estimated), class);
        }
        if ended.usage_missing {
            self.by_class((USAGE_MISSING, &self.0.usage_missing), class);
        }
    }

    pub(crate) fn inspected(&self, part: Part, time: Moment) {
        let labels = || {
            [(
                "part",
                match part {
                    Part::Request => "request",
                    Part::Answer => "answer",
                    Part::Frame => "frame",
                },
            )]
        };
        let family = (INSPECTION, &self.0.inspections);
        self.time(family, part as usize, labels, time.0);
    }

    pub(crate) fn held(&self, what: Holds) -> HeldBytes {
        let name = match what {
            Holds::Request => "request",
            Holds::Answer => "answer",
            Holds::Event => "event",
        };
        let make = || metrics::gauge!(HELD, self.labels([("what", name)]));
        HeldBytes {
            gauge: Some(self.0.held.with(what as usize, make, Gauge::clone)),
            bytes: 0,
        }
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

const fn name_of_form(form: Option<Answer>) -> &'static str {
    match form {
        Some(Answer::Document) => "document",
        Some(Answer::Prose) => "text",
        Some(Answer::Stream) => "stream",
        Some(Answer::Data) => "data",
        None => "none",
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

    /// The time, where it was read.
    pub(crate) const fn time(self) -> Option<Duration> {
        Some(self.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A new variant doesn't compile here: it needs a place, and a line below.
    const fn is_listed(phase: Phase, verdict: Verdict, mode: Mode, end: End) {
        match phase {
            Phase::Request | Phase::End => {}
        }
        match verdict {
            Verdict::Allowed | Verdict::Refused | Verdict::Observed | Verdict::NotInspected => {}
        }
        match mode {
            Mode::Block | Mode::Warn | Mode::Audit => {}
        }
        match end {
            End::Complete | End::Violation | End::Error | End::Dropped => {}
        }
    }

    #[test]
    fn every_label_has_a_place_of_its_own() {
        is_listed(Phase::End, Verdict::Allowed, Mode::Block, End::Complete);
        let phases = [Phase::Request, Phase::End];
        let verdicts = [
            Verdict::Allowed,
            Verdict::Refused,
            Verdict::Observed,
            Verdict::NotInspected,
        ];
        let modes = [Mode::Block, Mode::Warn, Mode::Audit];
        let ends = [End::Complete, End::Violation, End::Error, End::Dropped];
        let places = |of: &[usize]| of.iter().copied().eq(0..of.len());
        assert!(places(&phases.map(|phase| phase as usize)));
        assert!(places(&verdicts.map(|verdict| verdict as usize)));
        assert!(places(&modes.map(|mode| mode as usize)));
        assert!(places(&ends.map(|end| end as usize)));
        assert_eq!(
            (PHASES, VERDICTS, MODES, ENDS),
            (phases.len(), verdicts.len(), modes.len(), ends.len())
        );
    }
}
