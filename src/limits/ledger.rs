//! All limits of a policy and what has been charged to them.
//!
//! A call is governed by several limits at once: its agent's, those of each model entry that it
//! falls under, and the global ones. Within one operation, either all of them agree and then all are
//! charged, or none is. That holds because an operation looks and charges under one lock; splitting
//! it in two is how a thousand concurrent calls get through a budget of one.
//!
//! Settling is the other rule: what has been spent is charged, whatever the limits say. Only the
//! answer may be refused then, not the accounting.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::window::Window;

/// One limit of a policy: at most `max` of a unit in any stretch of `window`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitSpec {
    /// Who shares it.
    pub(crate) scope: Scope,
    /// What it counts.
    pub(crate) unit: Unit,
    /// The length of its sliding window.
    pub(crate) window: Duration,
    /// Requests or tokens per window; zero allows nothing.
    pub(crate) max: u64,
}

/// Which calls share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All calls of one agent key; every key has a budget of its own.
    PerAgent,
    /// All calls, of whatever agent, that name this model entry in [`Call::models`].
    PerModel(usize),
    /// All calls.
    Global,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Calls that were admitted.
    Requests,
    /// Tokens that calls were settled at, of prompt and output together.
    Tokens,
}

/// What about a call decides which limits govern it. Cloning doesn't allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The key under which [`Scope::PerAgent`] limits count. Kept for as long as its windows count,
    /// so whoever lets callers choose it should bound its length.
    pub(crate) agent: Arc<str>,
    /// The model entries that the call falls under; any order, repeats don't charge twice.
    pub(crate) models: Arc<[usize]>,
}

/// An admitted call that hasn't been settled.
///
/// It is meant to be held by the guard that settles the call when its body ends, however it ends.
/// Not `Clone`, so that nobody else can settle it too.
#[derive(Debug)]
#[must_use = "an admitted call is to be settled at what it spent"]
pub(crate) struct Ticket {
    call: Call,
}

/// A limit that said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Which: the index into the specs that the ledger was made of. Of several, the one that takes
    /// longest to recover, so that trying again after `wait` works unless others were faster.
    pub(crate) limit: usize,
    /// How long until it has room for one more, if nothing is charged until then. `None` is never.
    /// Exact for requests; for tokens the earliest time, as calls in flight may yet be charged. After
    /// a jump of the clock back it begins when the clock has caught up.
    pub(crate) wait: Option<Duration>,
}

/// Why a call was not admitted. Nothing was charged, unless the operation says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A limit has no room.
    Exceeded(Exceeded),
    /// The agent key is new, and as many keys as the ledger may track still count something.
    KeysFull,
}

/// What one limit has counted, for showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The index into the specs that the ledger was made of.
    pub(crate) limit: usize,
    /// Requests or tokens that count now. Above `max` when calls in flight crossed it together.
    pub(crate) used: u64,
    /// Requests or tokens per window.
    pub(crate) max: u64,
    /// How long until nothing counts any more, if nothing is charged until then.
    pub(crate) reset: Duration,
}

/// The windows of all limits, for every agent key.
///
/// Shared by reference between threads. Every operation takes one lock for a few window updates and
/// none of them waits for anything else. With a key that is known and as busy as before, nothing
/// allocates; a new key costs an allocation or two, and one walk over all keys when the ledger is
/// full of keys of which some may have become idle.
///
/// Times are of one clock. An earlier time than the latest one seen, by whatever key, is taken for
/// the latest.
///
/// Memory: for each key its name, about 100 bytes, and for each per-agent limit the window's 80 bytes
/// and up to 16 bytes for each of `min(max, 1024)` entries: 5 KiB for a key with 60 requests a minute
/// and 250 an hour, at most 16.1 KiB a limit. With the default of 10,000 keys, all of them busy, that
/// is up to 157 MiB for each per-agent limit above 1,024. Global and per-model limits have one window
/// each.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// In the order of every key's windows.
    own: Vec<Limit>,
    /// In the order of [`State::shared`].
    shared: Vec<Limit>,
    max_keys: usize,
    state: Mutex<State>,
}

/// A limit that knows its place in the policy.
#[derive(Debug)]
struct Limit {
    index: usize,
    spec: LimitSpec,
}

#[derive(Debug)]
struct State {
    /// The latest time seen. The windows keep theirs, but an idle key's are forgotten: without this,
    /// a clock that jumps back would give that key a second budget.
    latest: Duration,
    /// Of the per-model and global limits.
    shared: Vec<Window>,
    keys: Keys,
}

/// The agent keys that count something, and their windows.
#[derive(Debug)]
struct Keys {
    windows: HashMap<Arc<str>, Vec<Window>>,
    /// INVARIANT: no key is idle before this time. Charges only move it further away, so it may be
    /// kept from the last walk, and a full ledger needn't walk all keys for every stranger.
    none_idle_before: Duration,
}

impl Ledger {
    /// A ledger in which nothing has been charged. [`Exceeded::limit`] and [`Usage::limit`] index into
    /// `limits`.
    #[must_use]
    pub(crate) fn new(limits: Vec<LimitSpec>) -> Self {
        let (own, shared): (Vec<_>, Vec<_>) = limits
            .into_iter()
            .enumerate()
            .map(|(index, spec)| Limit { index, spec })
            .partition(|limit| limit.spec.scope == Scope::PerAgent);
        let state = State {
            latest: Duration::ZERO,
            shared: empty_windows(&shared),
            keys: Keys {
                windows: HashMap::new(),
                none_idle_before: Duration::MAX,
            },
        };
        Self {
            own,
            shared,
            max_keys: DEFAULT_MAX_KEYS,
            state: Mutex::new(state),
        }
    }

    /// How many agent keys may count something at once; 10,000 by default. Of no effect without
    /// per-agent limits.
    ///
    /// A new key beyond it is refused until some key is idle: forgetting a busy one would hand it a
    /// fresh budget. Choose it at least as large as the number of agents that call within the longest
    /// window, and mind the memory that each may take.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Admits a call if every limit that governs it has room: counts one request in each request
    /// window, and hands out the ticket to settle its tokens with.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when a request window is full, a token budget is spent (used up to its maximum or
    /// beyond), or the key is new and there are too many. Nothing was charged then.
    pub(crate) fn admit(&self, now: Duration, call: &Call) -> Result<Ticket, Refusal> {
        let either = [Unit::Requests, Unit::Tokens];
        self.charge_if_room(now, call, &either, Unit::Requests, 1)?;
        Ok(Ticket { call: call.clone() })
    }

    /// Counts a call that goes ahead whatever the limits say, room or not: what is observed but not enforced
    /// must count as it would if it were.
    pub(crate) fn admit_anyway(&self, now: Duration, call: &Call) -> Ticket {
        let _ = self.spend(now, call, Unit::Requests, 1);
        Ticket { call: call.clone() }
    }

    /// Charges what an admitted call spent to every token window that governs it, room or not. A key
    /// that went idle and was forgotten meanwhile is taken up again, beyond the cap on keys if need
    /// be; there are never more of those than calls in flight.
    ///
    /// Every settlement is charged; settling once is up to the holder of the ticket.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when a window that was charged is over its maximum now, by this call or by others
    /// that were in flight with it: the answer has crossed the budget. The charge stands. Using up
    /// exactly the maximum isn't crossing it, and neither is settling at nothing.
    pub(crate) fn settle(
        &self,
        now: Duration,
        ticket: &Ticket,
        tokens: u64,
    ) -> Result<(), Exceeded> {
        self.spend(now, &ticket.call, Unit::Tokens, tokens)
    }

    /// Charges windows of one unit, room or not.
    fn spend(&self, now: Duration, call: &Call, unit: Unit, amount: u64) -> Result<(), Exceeded> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State { shared, keys, .. } = &mut *state;

        let mut fresh = Vec::new();
        let own = match keys.windows.get_mut(&call.agent) {
            Some(own) => own,
            None => {
                fresh = empty_windows(&self.own);
                &mut fresh
            }
        };
        let crossed = self.charge(now, call, own, shared, unit, amount);
        keys.keep_if_busy(now, call, fresh);
        crossed
    }

    /// Counts one request like [`admit`](Self::admit), for callers that don't settle.
    ///
    /// # Errors
    ///
    /// As for `admit`.
    pub(crate) fn charge_request(&self, now: Duration, call: &Call) -> Result<(), Refusal> {
        let either = [Unit::Requests, Unit::Tokens];
        self.charge_if_room(now, call, &either, Unit::Requests, 1)
    }

    /// Charges tokens that were spent without a ticket, exactly as [`settle`](Self::settle) does: they
    /// are spent, so a budget that has no room for them doesn't make them uncounted.
    ///
    /// # Errors
    ///
    /// As for `settle`.
    pub(crate) fn charge_tokens(
        &self,
        now: Duration,
        call: &Call,
        tokens: u64,
    ) -> Result<(), Exceeded> {
        self.settle(now, &Ticket { call: call.clone() }, tokens)
    }

    /// What every limit has counted that can govern this agent's calls, in the order of the specs.
    /// All per-model limits are among them. Allocates the answer.
    pub(crate) fn usage(&self, now: Duration, agent: &str) -> Vec<Usage> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State { shared, keys, .. } = &mut *state;

        let mut unused;
        let own = match keys.windows.get_mut(agent) {
            Some(own) => own,
            None => {
                unused = empty_windows(&self.own);
                &mut unused
            }
        };
        let mut usage: Vec<_> = self
            .windows(own, shared)
            .map(|(limit, window)| Usage {
                limit: limit.index,
                used: window.used(now),
                max: limit.spec.max,
                reset: window.empty_in(now),
            })
            .collect();
        drop(state);
        usage.sort_unstable_by_key(|usage| usage.limit);
        usage
    }

    /// Charges `amount` to the windows of `unit` if every window of the `checked` units has room for
    /// at least one more.
    fn charge_if_room(
        &self,
        now: Duration,
        call: &Call,
        checked: &[Unit],
        unit: Unit,
        amount: u64,
    ) -> Result<(), Refusal> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State { shared, keys, .. } = &mut *state;

        let mut fresh = Vec::new();
        let own = match keys.windows.get_mut(&call.agent) {
            Some(own) => own,
            None if self.own.is_empty() => &mut fresh,
            None => {
                // Asked also when nothing will be charged to the key yet, or calls of ever new keys
                // could all be in flight before the first of them settles.
                if !keys.has_room(now, self.max_keys) {
                    return Err(Refusal::KeysFull);
                }
                fresh = empty_windows(&self.own);
                &mut fresh
            }
        };
        let full = self
            .governing(call, own, shared)
            .filter(|(limit, _)| checked.contains(&limit.spec.unit))
            .filter_map(|(limit, window)| match window.wait_for(now, 1) {
                Some(Duration::ZERO) => None,
                wait => Some(Exceeded::new(limit, wait)),
            });
        if let Some(exceeded) = slowest(full) {
            return Err(Refusal::Exceeded(exceeded));
        }
        let crossed = self.charge(now, call, own, shared, unit, amount);
        keys.keep_if_busy(now, call, fresh);
        crossed.map_err(Refusal::Exceeded)
    }

    /// Charges `amount` to the windows of `unit`, room or not; an error if that leaves one of them
    /// over its maximum.
    fn charge(
        &self,
        now: Duration,
        call: &Call,
        own: &mut [Window],
        shared: &mut [Window],
        unit: Unit,
        amount: u64,
    ) -> Result<(), Exceeded> {
        if amount == 0 {
            return Ok(());
        }
        let crossed = self
            .governing(call, own, shared)
            .filter(|(limit, _)| limit.spec.unit == unit)
            .filter_map(|(limit, window)| {
                window.add(now, amount);
                window
                    .is_exceeded(now)
                    .then(|| Exceeded::new(limit, window.wait_for(now, 1)))
            });
        slowest(crossed).map_or(Ok(()), Err)
    }

    /// The limits that govern a call, each with its window.
    fn governing<'a>(
        &'a self,
        call: &'a Call,
        own: &'a mut [Window],
        shared: &'a mut [Window],
    ) -> impl Iterator<Item = (&'a Limit, &'a mut Window)> {
        self.windows(own, shared)
            .filter(|(limit, _)| match limit.spec.scope {
                Scope::PerAgent | Scope::Global => true,
                Scope::PerModel(model) => call.models.contains(&model),
            })
    }

    /// Every limit with its window, given one key's windows and the shared ones.
    fn windows<'a>(
        &'a self,
        own: &'a mut [Window],
        shared: &'a mut [Window],
    ) -> impl Iterator<Item = (&'a Limit, &'a mut Window)> {
        let own = self.own.iter().zip(own);
        own.chain(self.shared.iter().zip(shared))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics, and every step leaves windows that hold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of the time; what it gives back never runs backwards.
    fn observe(&mut self, now: Duration) -> Duration {
        self.latest = self.latest.max(now);
        self.latest
    }
}

impl Keys {
    /// Whether there is room for one more key, if need be after forgetting the idle ones.
    fn has_room(&mut self, now: Duration, max: usize) -> bool {
        if self.windows.len() >= max && now >= self.none_idle_before {
            let mut none_idle_before = Duration::MAX;
            self.windows.retain(|_, windows| {
                let busy = busy_for(windows, now);
                none_idle_before = none_idle_before.min(now.saturating_add(busy));
                !busy.is_zero()
            });
            self.none_idle_before = none_idle_before;
        }
        self.windows.len() < max
    }

    /// Takes up the windows of a new key, unless nothing was charged to them.
    fn keep_if_busy(&mut self, now: Duration, call: &Call, mut fresh: Vec<Window>) {
        let busy = busy_for(&mut fresh, now);
        if !busy.is_zero() {
            self.windows.insert(call.agent.clone(), fresh);
            self.none_idle_before = self.none_idle_before.min(now.saturating_add(busy));
        }
    }
}

impl Exceeded {
    fn new(limit: &Limit, wait: Option<Duration>) -> Self {
        Self {
            limit: limit.index,
            wait,
        }
    }
}

/// The limit that takes longest to recover; of equals, the policy's first.
fn slowest(exceeded: impl Iterator<Item = Exceeded>) -> Option<Exceeded> {
    exceeded.max_by_key(|exceeded| {
        let wait = exceeded.wait.unwrap_or(Duration::MAX);
        (wait, Reverse(exceeded.limit))
    })
}

/// How long one of the windows still counts something.
fn busy_for(windows: &mut [Window], now: Duration) -> Duration {
    let waits = windows.iter_mut().map(|window| window.empty_in(now));
    waits.max().unwrap_or(Duration::ZERO)
}

fn empty_windows(limits: &[Limit]) -> Vec<Window> {
    limits
        .iter()
        .map(|limit| Window::new(limit.spec.window, limit.spec.max))
        .collect()
}

/// Agent keys that may count something at once, unless configured.
const DEFAULT_MAX_KEYS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn limit(scope: Scope, unit: Unit, window: Duration, max: u64) -> LimitSpec {
        LimitSpec {
            scope,
            unit,
            window,
            max,
        }
    }

    fn requests(scope: Scope, max: u64) -> LimitSpec {
        limit(scope, Unit::Requests, MINUTE, max)
    }

    fn tokens(scope: Scope, max: u64) -> LimitSpec {
        limit(scope, Unit::Tokens, MINUTE, max)
    }

    fn call(agent: &str, models: &[usize]) -> Call {
        Call {
            agent: agent.into(),
            models: models.into(),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn exceeded(limit: usize, seconds: u64) -> Exceeded {
        Exceeded {
            limit,
            wait: Some(at(seconds)),
        }
    }

    fn never(limit: usize) -> Exceeded {
        Exceeded { limit, wait: None }
    }

    fn used(ledger: &Ledger, now: Duration, agent: &str) -> Vec<u64> {
        let usage = ledger.usage(now, agent);
        usage.iter().map(|usage| usage.used).collect()
    }

    #[test]
    fn ten_a_minute_lets_ten_through_at_once_and_refuses_the_eleventh() {
        let ledger = Ledger::new(vec![requests(Scope::PerAgent, 10)]);
        let call = call("researcher", &[]);
        for _ in 0..10 {
            ledger.charge_request(at(3), &call).unwrap();
        }
        let refusal = ledger.charge_request(at(23), &call).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(0, 40)));
        ledger.charge_request(at(63), &call).unwrap();
    }

    #[test]
    fn every_agent_has_its_own_budget() {
        let ledger = Ledger::new(vec![requests(Scope::PerAgent, 1)]);
        let (one, other) = (call("one", &[]), call("other", &[]));
        ledger.charge_request(at(0), &one).unwrap();
        ledger.charge_request(at(0), &other).unwrap();
        assert!(ledger.charge_request(at(0), &one).is_err());
    }

    #[test]
    fn agents_share_global_and_model_limits() {
        let ledger = Ledger::new(vec![
            requests(Scope::Global, 3),
            requests(Scope::PerModel(7), 1),
        ]);
        ledger.charge_request(at(0), &call("one", &[7])).unwrap();
        let refusal = ledger.charge_request(at(0), &call("other", &[2, 7]));
        assert_eq!(refusal, Err(Refusal::Exceeded(exceeded(1, 60))));
        ledger.charge_request(at(0), &call("other", &[2])).unwrap();
        ledger.charge_request(at(0), &call("third", &[])).unwrap();
        let refusal = ledger.charge_request(at(0), &call("fourth", &[]));
        assert_eq!(refusal, Err(Refusal::Exceeded(exceeded(0, 60))));
    }

    #[test]
    fn a_model_named_twice_is_charged_once() {
        let ledger = Ledger::new(vec![requests(Scope::PerModel(1), 2)]);
        ledger.charge_request(at(0), &call("a", &[1, 1])).unwrap();
        ledger.charge_request(at(0), &call("a", &[1, 1])).unwrap();
    }

    #[test]
    fn when_one_limit_refuses_none_is_charged() {
        let ledger = Ledger::new(vec![
            requests(Scope::PerAgent, 5),
            requests(Scope::PerModel(0), 5),
            requests(Scope::Global, 1),
        ]);
        let call = call("a", &[0]);
        ledger.charge_request(at(0), &call).unwrap();
        for _ in 0..9 {
            assert!(ledger.charge_request(at(0), &call).is_err());
        }
        assert_eq!(used(&ledger, at(0), "a"), [1, 1, 1]);
    }

    #[test]
    fn of_several_full_limits_the_slowest_is_named() {
        let ledger = Ledger::new(vec![
            requests(Scope::Global, 1),
            limit(Scope::PerAgent, Unit::Requests, HOUR, 1),
            requests(Scope::PerAgent, 1),
        ]);
        let call = call("a", &[]);
        ledger.charge_request(at(0), &call).unwrap();
        let refusal = ledger.charge_request(at(10), &call).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(1, 3_590)));
        ledger.charge_request(at(3_600), &call).unwrap();
    }

    #[test]
    fn of_equally_slow_limits_the_first_is_named() {
        let ledger = Ledger::new(vec![
            requests(Scope::Global, 1),
            requests(Scope::PerAgent, 1),
        ]);
        let call = call("a", &[]);
        ledger.charge_request(at(0), &call).unwrap();
        let refusal = ledger.charge_request(at(0), &call).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(0, 60)));
    }

    #[test]
    fn a_limit_of_zero_is_never_worth_waiting_for() {
        let ledger = Ledger::new(vec![
            limit(Scope::PerAgent, Unit::Requests, HOUR, 1),
            tokens(Scope::PerModel(0), 0),
        ]);
        ledger.charge_request(at(0), &call("a", &[])).unwrap();
        let refusal = ledger.admit(at(0), &call("a", &[0])).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(never(1)));
        assert_eq!(used(&ledger, at(0), "a"), [1, 0]);
    }

    #[test]
    fn the_call_that_crosses_the_budget_is_charged_and_told() {
        let ledger = Ledger::new(vec![tokens(Scope::PerAgent, 100)]);
        let call = call("a", &[]);
        let first = ledger.admit(at(0), &call).unwrap();
        ledger.settle(at(1), &first, 90).unwrap();
        let second = ledger.admit(at(2), &call).unwrap();
        assert_eq!(ledger.settle(at(31), &second, 30), Err(exceeded(0, 30)));
        assert_eq!(used(&ledger, at(31), "a"), [120]);
        // The next is refused before it leaves, until the first has left the window.
        let refusal = ledger.admit(at(32), &call).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(0, 29)));
        assert!(ledger.admit(at(61), &call).is_ok());
    }

    #[test]
    fn using_up_a_budget_exactly_is_not_crossing_it() {
        let ledger = Ledger::new(vec![tokens(Scope::PerAgent, 100)]);
        let call = call("a", &[]);
        let ticket = ledger.admit(at(0), &call).unwrap();
        ledger.settle(at(0), &ticket, 100).unwrap();
        let refusal = ledger.admit(at(0), &call).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(0, 60)));
    }

    #[test]
    fn calls_in_flight_are_charged_though_the_budget_is_gone() {
        let ledger = Ledger::new(vec![tokens(Scope::Global, 100)]);
        let call = call("a", &[]);
        let tickets: Vec<_> = (0..3).map(|_| ledger.admit(at(0), &call)).collect();
        let settled: Vec<_> = tickets
            .into_iter()
            .map(|ticket| ledger.settle(at(1), &ticket.unwrap(), 80))
            .collect();
        assert_eq!(
            settled,
            [Ok(()), Err(exceeded(0, 60)), Err(exceeded(0, 60))]
        );
        assert_eq!(used(&ledger, at(1), "a"), [240]);
    }

    #[test]
    fn a_call_without_usage_crosses_nothing() {
        let ledger = Ledger::new(vec![tokens(Scope::PerAgent, 100)]);
        let call = call("a", &[]);
        let (one, two) = (ledger.admit(at(0), &call), ledger.admit(at(0), &call));
        assert!(ledger.settle(at(0), &one.unwrap(), 101).is_err());
        assert_eq!(ledger.settle(at(0), &two.unwrap(), 0), Ok(()));
    }

    #[test]
    fn absurd_usage_is_charged_without_overflow() {
        let ledger = Ledger::new(vec![tokens(Scope::Global, u64::MAX)]);
        let call = call("a", &[]);
        let (one, two) = (ledger.admit(at(0), &call), ledger.admit(at(0), &call));
        assert_eq!(ledger.settle(at(0), &one.unwrap(), u64::MAX), Ok(()));
        let crossed = ledger.settle(at(1), &two.unwrap(), u64::MAX);
        assert_eq!(crossed, Err(exceeded(0, 60)));
        assert_eq!(used(&ledger, at(1), "a"), [u64::MAX]);
        assert!(ledger.admit(at(60), &call).is_err());
        assert!(ledger.admit(at(61), &call).is_ok());
    }

    #[test]
    fn tokens_settle_only_where_the_call_was_governed() {
        let ledger = Ledger::new(vec![
            requests(Scope::PerAgent, 10),
            tokens(Scope::PerModel(0), 100),
            tokens(Scope::PerModel(1), 100),
            tokens(Scope::Global, 1_000),
        ]);
        let ticket = ledger.admit(at(0), &call("a", &[1])).unwrap();
        ledger.settle(at(0), &ticket, 70).unwrap();
        assert_eq!(used(&ledger, at(0), "a"), [1, 0, 70, 70]);
        assert_eq!(used(&ledger, at(0), "b"), [0, 0, 70, 70]);
    }

    #[test]
    fn tokens_without_a_ticket_are_charged_whether_there_is_room_or_not() {
        let ledger = Ledger::new(vec![tokens(Scope::PerAgent, 100)]);
        let call = call("a", &[]);
        assert_eq!(ledger.charge_tokens(at(0), &call, 60), Ok(()));
        assert_eq!(
            ledger.charge_tokens(at(10), &call, 60),
            Err(exceeded(0, 50))
        );
        assert_eq!(ledger.charge_tokens(at(20), &call, 1), Err(exceeded(0, 40)));
        assert_eq!(used(&ledger, at(20), "a"), [121]);
        assert_eq!(ledger.charge_tokens(at(20), &call, 0), Ok(()));
    }

    #[test]
    fn a_full_request_window_does_not_keep_tokens_from_being_charged() {
        let ledger = Ledger::new(vec![
            requests(Scope::PerAgent, 1),
            tokens(Scope::PerAgent, 100),
        ]);
        let call = call("a", &[]);
        ledger.charge_request(at(0), &call).unwrap();
        ledger.charge_tokens(at(0), &call, 100).unwrap();
        assert_eq!(used(&ledger, at(0), "a"), [1, 100]);
        assert!(ledger.charge_request(at(0), &call).is_err());
    }

    #[test]
    fn a_new_key_is_refused_while_all_keys_are_busy() {
        let ledger = Ledger::new(vec![requests(Scope::PerAgent, 10)]).max_keys(2);
        ledger.charge_request(at(0), &call("a", &[])).unwrap();
        ledger.charge_request(at(30), &call("b", &[])).unwrap();
        let refusal = ledger.charge_request(at(59), &call("c", &[]));
        assert_eq!(refusal, Err(Refusal::KeysFull));
        ledger.charge_request(at(59), &call("b", &[])).unwrap();
        ledger.charge_request(at(60), &call("c", &[])).unwrap();
        // "a" was forgotten, "b" was not.
        assert_eq!(used(&ledger, at(60), "a"), [0]);
        assert_eq!(used(&ledger, at(60), "b"), [2]);
        let refusal = ledger.charge_request(at(61), &call("a", &[]));
        assert_eq!(refusal, Err(Refusal::KeysFull));
    }

    #[test]
    fn a_key_stays_while_its_longest_window_counts() {
        let ledger = Ledger::new(vec![
            requests(Scope::PerAgent, 10),
            limit(Scope::PerAgent, Unit::Tokens, HOUR, 10),
        ])
        .max_keys(1);
        let ticket = ledger.admit(at(0), &call("a", &[])).unwrap();
        ledger.settle(at(0), &ticket, 10).unwrap();
        let refusal = ledger.charge_request(at(3_599), &call("b", &[]));
        assert_eq!(refusal, Err(Refusal::KeysFull));
        ledger.charge_request(at(3_600), &call("b", &[])).unwrap();
    }

    #[test]
    fn keys_are_not_counted_where_no_limit_is_per_agent() {
        let ledger = Ledger::new(vec![requests(Scope::Global, 10)]).max_keys(1);
        for agent in ["a", "b", "c"] {
            ledger.charge_request(at(0), &call(agent, &[])).unwrap();
        }
        assert_eq!(used(&ledger, at(0), "a"), [3]);
    }

    #[test]
    fn a_refused_or_uncharged_key_takes_no_place() {
        let ledger = Ledger::new(vec![
            tokens(Scope::PerAgent, 100),
            requests(Scope::Global, 3),
        ])
        .max_keys(1);
        let first = ledger.admit(at(0), &call("a", &[])).unwrap();
        let second = ledger.admit(at(0), &call("b", &[])).unwrap();
        let third = ledger.admit(at(0), &call("c", &[])).unwrap();
        assert!(ledger.admit(at(0), &call("d", &[])).is_err());
        // What they spent is charged all the same, beyond the cap where it must be.
        ledger.settle(at(1), &first, 0).unwrap();
        ledger.settle(at(1), &second, 60).unwrap();
        ledger.settle(at(1), &third, 70).unwrap();
        assert_eq!(used(&ledger, at(1), "b"), [60, 3]);
        assert_eq!(used(&ledger, at(1), "c"), [70, 3]);
    }

    #[test]
    fn a_forgotten_key_gets_no_second_budget_from_a_clock_that_jumps_back() {
        let ledger = Ledger::new(vec![requests(Scope::PerAgent, 1)]).max_keys(1);
        ledger.charge_request(at(40), &call("a", &[])).unwrap();
        ledger.charge_request(at(100), &call("b", &[])).unwrap();
        assert_eq!(used(&ledger, at(160), "b"), [0]);
        // "a" was forgotten at 100; its next request is one of 160, not of 50.
        ledger.charge_request(at(50), &call("a", &[])).unwrap();
        let refusal = ledger.charge_request(at(110), &call("a", &[]));
        assert_eq!(refusal, Err(Refusal::Exceeded(exceeded(0, 60))));
        ledger.charge_request(at(220), &call("a", &[])).unwrap();
    }

    #[test]
    fn usage_lists_every_limit_in_the_order_of_the_policy() {
        let ledger = Ledger::new(vec![
            tokens(Scope::Global, 1_000),
            requests(Scope::PerAgent, 10),
        ]);
        let ticket = ledger.admit(at(10), &call("a", &[])).unwrap();
        ledger.settle(at(25), &ticket, 400).unwrap();
        let expected = [
            Usage {
                limit: 0,
                used: 400,
                max: 1_000,
                reset: at(55),
            },
            Usage {
                limit: 1,
                used: 1,
                max: 10,
                reset: at(40),
            },
        ];
        assert_eq!(ledger.usage(at(30), "a"), expected);
    }

    #[test]
    fn looking_at_a_stranger_does_not_make_it_a_key() {
        let ledger = Ledger::new(vec![requests(Scope::PerAgent, 10)]).max_keys(1);
        assert_eq!(used(&ledger, at(0), "stranger"), [0]);
        ledger.charge_request(at(0), &call("a", &[])).unwrap();
    }

    #[test]
    fn a_policy_without_limits_admits_everything() {
        let ledger = Ledger::new(Vec::new());
        let ticket = ledger.admit(at(0), &call("a", &[1])).unwrap();
        ledger.settle(at(0), &ticket, u64::MAX).unwrap();
        assert!(ledger.usage(at(0), "a").is_empty());
    }
}
