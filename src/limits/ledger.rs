//! All limits of a policy and what has been charged to them.
//!
//! A call is governed by several limits at once: its agent's, those of each model entry that it
//! falls under, and the global ones. Within one operation, either all of them agree and then all are
//! charged, or none is. That holds because an operation looks and charges under one lock; splitting
//! it in two is how a thousand concurrent calls get through a budget of one.
//!
//! A call's tokens are known only at its end, so an estimate is *reserved* for it when it is admitted. What is used
//! and what is reserved together never exceed a limit at admission.
//!
//! Settling is the other rule: it ends the reservation, and what has been spent is charged, whatever the limits say.
//! Only the answer may be refused then, not the accounting.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, sekuire_loom)))]
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

#[cfg(all(test, sekuire_loom))]
use loom::sync::{Mutex, MutexGuard};

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
    pub(crate) models: Models,
}

/// Places of model entries. Where there are none, as mostly, calls have nothing to share: to count who shares something
/// costs, where threads count at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Models(Option<Arc<[usize]>>);

impl Deref for Models {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl FromIterator<usize> for Models {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut places = places.into_iter().peekable();
        let any = places.peek().is_some();
        Self(any.then(|| places.collect()))
    }
}

/// An admitted call that hasn't been settled, and what is reserved for it.
///
/// It is meant to be held by the guard that settles the call when its body ends, however it ends: until then its
/// reservation counts. Not `Clone`, so that nobody else can settle it too.
#[derive(Debug)]
#[must_use = "an admitted call is to be settled at what it spent"]
pub(crate) struct Ticket {
    call: Call,
    /// Tokens; what counts in a limit is at most the limit's maximum.
    estimate: u64,
    /// Tokens that count in the tightest limit.
    reserved: u64,
}

impl Ticket {
    /// Tokens that the call may use before it needs an extension: what is reserved in the tightest limit, which may
    /// be less than the estimate.
    pub(crate) const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Tokens that the call was expected to use, what it was extended by included.
    pub(crate) const fn estimate(&self) -> u64 {
        self.estimate
    }
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
    /// Tokens that calls in flight may yet use.
    pub(crate) reserved: u64,
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
/// Memory: for each key its name, about 120 bytes, and for each per-agent limit the window's 88 bytes
/// and up to 16 bytes for each of `min(max, 1024)` entries: 5 KiB for a key with 60 requests a minute
/// and 250 an hour, at most 16.1 KiB a limit. With the default of 10,000 keys, all of them busy, that
/// is up to 157 MiB for each per-agent limit above 1,024. Global and per-model limits have one window
/// each.
///
/// A policy that takes another's place gets a ledger that [succeeds](Self::succeeded) the other's: both count in the same
/// windows, each by its own limits, for as long as calls admitted by the first are under way.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Counted in every key's counters.
    own: Vec<Limit>,
    /// Counted in [`State::shared`].
    shared: Vec<Limit>,
    max_keys: usize,
    state: Arc<Mutex<State>>,
}

/// A limit that knows its place in the policy and that of its counters.
#[derive(Debug)]
struct Limit {
    index: usize,
    place: usize,
    spec: LimitSpec,
}

/// What the counters at one place count.
#[derive(Debug)]
struct Place {
    window: Duration,
    max: u64,
    /// Ledgers with a limit here. Without one it waits for another limit.
    ledgers: u32,
}

/// What one limit has counted, for one key or for all.
#[derive(Debug)]
struct Counter {
    window: Window,
    /// Tokens of calls in flight.
    reserved: u64,
}

#[derive(Debug)]
struct State {
    /// The latest time seen. The windows keep theirs, but an idle key's are forgotten: without this,
    /// a clock that jumps back would give that key a second budget.
    latest: Duration,
    /// Of the per-model and global limits.
    shared: Vec<Counter>,
    shared_places: Vec<Place>,
    keys: Keys,
    /// Of the counters that each key has.
    own_places: Vec<Place>,
}

/// The agent keys that count something, and their counters.
#[derive(Debug)]
struct Keys {
    /// Places in `slots`.
    index: HashMap<Arc<str>, usize>,
    slots: Vec<Slot>,
    /// The place that was asked for last: most processes govern one agent, and need no hash to find it.
    recent: usize,
    /// INVARIANT: no key without a reservation is idle before this time. Charges only move it further away, and
    /// settling takes it back, so it may be kept from the last walk, and a full ledger needn't walk all keys for every
    /// stranger.
    none_idle_before: Duration,
}

#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    counters: Vec<Counter>,
}

impl Ledger {
    /// A ledger in which nothing has been charged. [`Exceeded::limit`] and [`Usage::limit`] index into
    /// `limits`.
    #[must_use]
    pub(crate) fn new(limits: Vec<LimitSpec>) -> Self {
        let state = State {
            latest: Duration::ZERO,
            shared: Vec::new(),
            shared_places: Vec::new(),
            keys: Keys {
                index: HashMap::new(),
                slots: Vec::new(),
                recent: 0,
                none_idle_before: Duration::MAX,
            },
            own_places: Vec::new(),
        };
        let none = Self {
            own: Vec::new(),
            shared: Vec::new(),
            max_keys: DEFAULT_MAX_KEYS,
            state: Arc::new(Mutex::new(state)),
        };
        none.succeeded(limits, &[])
    }

    /// The ledger of a policy that takes this one's place. `continues` tells for each of the new limits which of this
    /// ledger's, by its index, counts the same: it goes on with what that one counted, under its own maximum. No two
    /// continue the same one.
    ///
    /// From here on the windows' maxima are the new ones, also for calls that this ledger admitted: what they reserve
    /// and what is charged for them counts in both.
    #[must_use]
    pub(crate) fn succeeded(&self, limits: Vec<LimitSpec>, continues: &[Option<usize>]) -> Self {
        let mut state = self.lock();
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for (index, spec) in limits.into_iter().enumerate() {
            let is_own = spec.scope == Scope::PerAgent;
            let mine = if is_own { &self.own } else { &self.shared };
            let continued = continues.get(index).copied().flatten();
            let continued = continued.and_then(|old| mine.iter().find(|limit| limit.index == old));
            let place = state.place_for(&spec, continued.map(|limit| limit.place));
            let limits = if is_own { &mut own } else { &mut shared };
            limits.push(Limit { index, place, spec });
        }
        drop(state);
        Self {
            own,
            shared,
            max_keys: self.max_keys,
            state: self.state.clone(),
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
    /// window, reserves `estimate` tokens in each token window, and hands out the ticket to settle its tokens with.
    ///
    /// An estimate above a limit's maximum is reserved as that maximum, so that a call which may be larger than the
    /// whole budget can still be made when nothing of it is used. An estimate of nothing asks for room for one token.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when a request window is full, a token window has no room for the estimate beside what is used and
    /// reserved, or the key is new and there are too many. Nothing was charged or reserved then.
    pub(crate) fn admit(
        &self,
        now: Duration,
        call: Call,
        estimate: u64,
    ) -> Result<Ticket, Refusal> {
        let reserved = self.take_if_room(now, &call, estimate)?;
        Ok(Ticket {
            call,
            estimate,
            reserved,
        })
    }

    fn take_if_room(&self, now: Duration, call: &Call, estimate: u64) -> Result<u64, Refusal> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State {
            shared,
            keys,
            own_places,
            ..
        } = &mut *state;

        let mut fresh = Vec::new();
        let own = match keys.find(&call.agent) {
            Some(own) => own,
            None if self.own.is_empty() => &mut fresh,
            None => {
                // Asked also when nothing will be charged to the key yet, or calls of ever new keys
                // could all be in flight before the first of them settles.
                if !keys.has_room(now, self.max_keys) {
                    return Err(Refusal::KeysFull);
                }
                fresh = empty(own_places);
                &mut fresh
            }
        };
        let mut full = None;
        self.governing(call, own, shared, |limit, counter| {
            let asked = match limit.spec.unit {
                Unit::Requests => 1,
                Unit::Tokens => limit.clamped(estimate).max(1),
            };
            let wait = counter.wait_for(now, asked);
            if wait != Some(Duration::ZERO) {
                Exceeded::new(limit, wait).or_slower(&mut full);
            }
        });
        if let Some(exceeded) = full {
            return Err(Refusal::Exceeded(exceeded));
        }
        // Every window that governs has just seen the time.
        let reserved = self.take(call, own, shared, estimate);
        keys.keep_if_busy(now, call, fresh);
        Ok(reserved)
    }

    /// Counts a call that goes ahead whatever the limits say, room or not: what is observed but not enforced
    /// must count as it would if it were.
    pub(crate) fn admit_anyway(&self, now: Duration, call: Call, estimate: u64) -> Ticket {
        let mut state = self.lock();
        let now = state.observe(now);
        let State {
            shared,
            keys,
            own_places,
            ..
        } = &mut *state;
        let mut fresh = Vec::new();
        let own = keys.find_or(&call.agent, &mut fresh, own_places);
        self.governing(&call, own, shared, |_, counter| {
            counter.window.used(now);
        });
        let reserved = self.take(&call, own, shared, estimate);
        keys.keep_if_busy(now, &call, fresh);
        Ticket {
            call,
            estimate,
            reserved,
        }
    }

    /// Counts one request, at the latest time that the windows have seen, and reserves the estimate. Tells what is reserved
    /// in the tightest limit.
    fn take(&self, call: &Call, own: &mut [Counter], shared: &mut [Counter], estimate: u64) -> u64 {
        let mut least = estimate;
        self.governing(call, own, shared, |limit, counter| match limit.spec.unit {
            Unit::Requests => counter.window.count(1),
            Unit::Tokens => {
                let clamped = limit.clamped(estimate);
                least = least.min(clamped);
                counter.reserved = counter.reserved.saturating_add(clamped);
            }
        });
        least
    }

    /// Reserves up to `more` tokens beyond what the ticket holds, as far as every limit that governs the call has room.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when some limit has no room at all. Nothing changes then.
    pub(crate) fn extend(
        &self,
        now: Duration,
        ticket: &mut Ticket,
        more: u64,
    ) -> Result<(), Exceeded> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State {
            shared,
            keys,
            own_places,
            ..
        } = &mut *state;
        let mut fresh = Vec::new();
        let own = keys.find_or(&ticket.call.agent, &mut fresh, own_places);

        let mut granted = more;
        let mut full = None;
        self.governing(&ticket.call, own, shared, |limit, counter| {
            if limit.spec.unit != Unit::Tokens {
                return;
            }
            // Never beyond this ledger's own maximum, even where a ledger that succeeded it has raised the
            // window's: what is given back is clamped to it.
            let own = limit.spec.max.saturating_sub(ticket.estimate);
            let room = counter.window.room(now, counter.reserved).min(own);
            granted = granted.min(room);
            if room == 0 {
                Exceeded::new(limit, counter.wait_for(now, 1)).or_slower(&mut full);
            }
        });
        if let Some(exceeded) = full {
            return Err(exceeded);
        }
        // There is room in each, so none is clamped, now or when the whole is given back: what is reserved is the same
        // number everywhere.
        self.governing(&ticket.call, own, shared, |limit, counter| {
            if limit.spec.unit == Unit::Tokens {
                counter.reserved = counter.reserved.saturating_add(granted);
            }
        });
        ticket.estimate = ticket.estimate.saturating_add(granted);
        ticket.reserved = ticket.reserved.saturating_add(granted);
        keys.keep_if_busy(now, &ticket.call, fresh);
        Ok(())
    }

    /// Ends the ticket's reservation and charges what the call spent to every token window that governs it, room or
    /// not. A key that went idle and was forgotten meanwhile is taken up again, beyond the cap on keys if need
    /// be; there are never more of those than calls in flight.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] when a window that was charged is over its maximum now, by this call or by others
    /// that were in flight with it: the answer has crossed the budget. The charge stands. Using up
    /// exactly the maximum isn't crossing it, and neither is settling at nothing.
    pub(crate) fn settle(
        &self,
        now: Duration,
        ticket: Ticket,
        tokens: u64,
    ) -> Result<(), Exceeded> {
        let Ticket { call, estimate, .. } = ticket;
        self.spend(now, &call, estimate, tokens)
    }

    /// Counts one request like [`admit`](Self::admit), for callers that don't settle.
    ///
    /// # Errors
    ///
    /// As for `admit`.
    pub(crate) fn charge_request(&self, now: Duration, call: &Call) -> Result<(), Refusal> {
        self.take_if_room(now, call, 0).map(|_| ())
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
        self.spend(now, call, 0, tokens)
    }

    /// Ends a reservation and charges tokens, room or not; an error if that leaves a window over its maximum.
    fn spend(
        &self,
        now: Duration,
        call: &Call,
        reserved: u64,
        tokens: u64,
    ) -> Result<(), Exceeded> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State {
            shared,
            keys,
            own_places,
            ..
        } = &mut *state;
        let mut fresh = Vec::new();
        let own = keys.find_or(&call.agent, &mut fresh, own_places);
        let mut crossed = None;
        self.governing(call, own, shared, |limit, counter| {
            if limit.spec.unit != Unit::Tokens {
                return;
            }
            counter.reserved = counter.reserved.saturating_sub(limit.clamped(reserved));
            if tokens == 0 {
                return;
            }
            counter.window.add(now, tokens);
            if counter.window.is_exceeded(now) {
                Exceeded::new(limit, counter.wait_for(now, 1)).or_slower(&mut crossed);
            }
        });
        keys.keep_if_busy(now, call, fresh);
        keys.settled(now, &call.agent);
        crossed.map_or(Ok(()), Err)
    }

    /// What every limit has counted that can govern this agent's calls, in the order of the specs.
    /// All per-model limits are among them. Allocates the answer.
    pub(crate) fn usage(&self, now: Duration, agent: &Arc<str>) -> Vec<Usage> {
        let mut state = self.lock();
        let now = state.observe(now);
        let State {
            shared,
            keys,
            own_places,
            ..
        } = &mut *state;
        let mut unused = Vec::new();
        let own = keys.find_or(agent, &mut unused, own_places);
        let mut usage = Vec::new();
        self.each(own, shared, |limit, counter| {
            usage.push(Usage {
                limit: limit.index,
                used: counter.window.used(now),
                reserved: counter.reserved,
                max: limit.spec.max,
                reset: counter.window.empty_in(now),
            });
        });
        drop(state);
        usage.sort_unstable_by_key(|usage| usage.limit);
        usage
    }

    /// The agent keys that count something, in the order of their names. Allocates the answer.
    pub(crate) fn agents(&self) -> Vec<Arc<str>> {
        let mut agents: Vec<_> = self.lock().keys.index.keys().cloned().collect();
        agents.sort_unstable();
        agents
    }

    /// Visits the limits that govern a call, each with its counter.
    #[inline]
    fn governing(
        &self,
        call: &Call,
        own: &mut [Counter],
        shared: &mut [Counter],
        mut visit: impl FnMut(&Limit, &mut Counter),
    ) {
        self.each(own, shared, |limit, counter| {
            let governs = match limit.spec.scope {
                Scope::PerAgent | Scope::Global => true,
                Scope::PerModel(model) => call.models.contains(&model),
            };
            if governs {
                visit(limit, counter);
            }
        });
    }

    /// Visits every limit with its counter, given one key's counters and the shared ones.
    #[inline]
    fn each(
        &self,
        own: &mut [Counter],
        shared: &mut [Counter],
        mut visit: impl FnMut(&Limit, &mut Counter),
    ) {
        for (limits, counters) in [(&self.own, own), (&self.shared, shared)] {
            for limit in limits {
                if let Some(counter) = counters.get_mut(limit.place) {
                    visit(limit, counter);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics, and every step leaves windows that hold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let mut state = self.lock();
        let State {
            own_places,
            shared_places,
            ..
        } = &mut *state;
        for (limits, places) in [(&self.own, own_places), (&self.shared, shared_places)] {
            for limit in limits {
                if let Some(place) = places.get_mut(limit.place) {
                    place.ledgers = place.ledgers.saturating_sub(1);
                }
            }
        }
    }
}

impl Limit {
    /// What a reservation counts here.
    fn clamped(&self, estimate: u64) -> u64 {
        estimate.min(self.spec.max)
    }
}

impl Counter {
    fn of(place: &Place) -> Self {
        Self {
            window: Window::new(place.window, place.max),
            reserved: 0,
        }
    }

    fn wait_for(&mut self, now: Duration, amount: u64) -> Option<Duration> {
        self.window.wait_for(now, amount, self.reserved)
    }
}

impl State {
    /// A place for a limit: the one whose count it continues, or else an empty one.
    fn place_for(&mut self, spec: &LimitSpec, continued: Option<usize>) -> usize {
        let Self {
            shared,
            shared_places,
            keys,
            own_places,
            ..
        } = self;
        let is_own = spec.scope == Scope::PerAgent;
        let places = if is_own { own_places } else { shared_places };
        let known = continued.or_else(|| places.iter().position(|place| place.ledgers == 0));
        let at = known.unwrap_or(places.len());
        let ledgers = match places.get(at) {
            Some(place) => place.ledgers.saturating_add(1),
            None => 1,
        };
        let place = Place {
            window: spec.window,
            max: spec.max,
            ledgers,
        };
        let renew = |counters: &mut Vec<Counter>| match counters.get_mut(at) {
            Some(counter) if continued.is_some() => counter.window.set_max(spec.max),
            Some(counter) => *counter = Counter::of(&place),
            None => counters.push(Counter::of(&place)),
        };
        if is_own {
            // What a key counts may end sooner now.
            keys.none_idle_before = Duration::ZERO;
            keys.slots
                .iter_mut()
                .map(|slot| &mut slot.counters)
                .for_each(renew);
        } else {
            renew(shared);
        }
        match places.get_mut(at) {
            Some(known) => *known = place,
            None => places.push(place),
        }
        at
    }

    /// Takes note of the time; what it gives back never runs backwards.
    fn observe(&mut self, now: Duration) -> Duration {
        self.latest = self.latest.max(now);
        self.latest
    }
}

impl Keys {
    /// The counters of a key, if it has any.
    fn find(&mut self, agent: &Arc<str>) -> Option<&mut Vec<Counter>> {
        let recent = self.slots.get(self.recent);
        if !recent.is_some_and(|slot| Arc::ptr_eq(&slot.name, agent)) {
            self.recent = *self.index.get(agent)?;
        }
        self.slots
            .get_mut(self.recent)
            .map(|slot| &mut slot.counters)
    }

    /// The counters of a key, or fresh ones.
    fn find_or<'a>(
        &'a mut self,
        agent: &Arc<str>,
        fresh: &'a mut Vec<Counter>,
        places: &[Place],
    ) -> &'a mut Vec<Counter> {
        match self.find(agent) {
            Some(own) => own,
            None => {
                *fresh = empty(places);
                fresh
            }
        }
    }

    /// Whether there is room for one more key, if need be after forgetting the idle ones.
    fn has_room(&mut self, now: Duration, max: usize) -> bool {
        if self.slots.len() >= max && now >= self.none_idle_before {
            let mut none_idle_before = Duration::MAX;
            self.slots.retain_mut(|slot| {
                let busy = busy_for(&mut slot.counters, now);
                if let Some(busy) = busy {
                    none_idle_before = none_idle_before.min(now.saturating_add(busy));
                }
                busy != Some(Duration::ZERO)
            });
            self.none_idle_before = none_idle_before;
            self.index.clear();
            let places = self.slots.iter().enumerate();
            self.index
                .extend(places.map(|(place, slot)| (slot.name.clone(), place)));
        }
        self.slots.len() < max
    }

    /// Takes up the counters of a new key, unless nothing was charged to them.
    fn keep_if_busy(&mut self, now: Duration, call: &Call, mut fresh: Vec<Counter>) {
        if fresh.is_empty() {
            return;
        }
        let busy = busy_for(&mut fresh, now);
        if busy == Some(Duration::ZERO) {
            return;
        }
        self.recent = self.slots.len();
        self.index.insert(call.agent.clone(), self.recent);
        self.slots.push(Slot {
            name: call.agent.clone(),
            counters: fresh,
        });
        if let Some(busy) = busy {
            self.none_idle_before = self.none_idle_before.min(now.saturating_add(busy));
        }
    }

    /// A call of this key has settled: with the last reservation gone, the key may become idle.
    fn settled(&mut self, now: Duration, agent: &Arc<str>) {
        let busy = self.find(agent).and_then(|own| busy_for(own, now));
        if let Some(busy) = busy {
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

    /// Takes the place of one that recovers sooner; of equals, the policy's first stays.
    fn or_slower(self, slowest: &mut Option<Self>) {
        let key = |exceeded: &Self| {
            let wait = exceeded.wait.unwrap_or(Duration::MAX);
            (wait, Reverse(exceeded.limit))
        };
        if slowest.as_ref().is_none_or(|known| key(known) < key(&self)) {
            *slowest = Some(self);
        }
    }
}

/// How long one of the counters still counts something; `None` while something is reserved, for nobody knows.
fn busy_for(counters: &mut [Counter], now: Duration) -> Option<Duration> {
    if counters.iter().any(|counter| counter.reserved > 0) {
        return None;
    }
    let waits = counters
        .iter_mut()
        .map(|counter| counter.window.empty_in(now));
    Some(waits.max().unwrap_or(Duration::ZERO))
}

fn empty(places: &[Place]) -> Vec<Counter> {
    places.iter().map(Counter::of).collect()
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
            models: models.iter().copied().collect(),
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
        let usage = ledger.usage(now, &agent.into());
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
        let refusal = ledger.admit(at(0), call("a", &[0]), 0).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(never(1)));
        assert_eq!(used(&ledger, at(0), "a"), [1, 0]);
    }

    #[test]
    fn the_call_that_crosses_the_budget_is_charged_and_told() {
        let ledger = Ledger::new(vec![tokens(Scope::PerAgent, 100)]);
        let call = call("a", &[]);
        let first = ledger.admit(at(0), call.clone(), 0).unwrap();
        ledger.settle(at(1), first, 90).unwrap();
        let second = ledger.admit(at(2), call.clone(), 0).unwrap();
        assert_eq!(ledger.settle(at(31), second, 30), Err(exceeded(0, 30)));
        assert_eq!(used(&ledger, at(31), "a"), [120]);
        // The next is refused before it leaves, until the first has left the window.
        let refusal = ledger.admit(at(32), call.clone(), 0).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(0, 29)));
        assert!(ledger.admit(at(61), call.clone(), 0).is_ok());
    }

    #[test]
    fn using_up_a_budget_exactly_is_not_crossing_it() {
        let ledger = Ledger::new(vec![tokens(Scope::PerAgent, 100)]);
        let call = call("a", &[]);
        let ticket = ledger.admit(at(0), call.clone(), 0).unwrap();
        ledger.settle(at(0), ticket, 100).unwrap();
        let refusal = ledger.admit(at(0), call.clone(), 0).unwrap_err();
        assert_eq!(refusal, Refusal::Exceeded(exceeded(0, 60)));
    }

    #[test]
    fn calls_in_flight_are_charged_though_the_budget_is_gone() {
        let ledger = Ledger::new(vec![tokens(Scope::Global, 100)]);
        let call = call("a", &[]);
        let tickets: Vec<_> = (0..3)
            .map(|_| ledger.admit(at(0), call.clone(), 0))
            .collect();
        let settled: Vec<_> = tickets
            .into_iter()
            .map(|ticket| ledger.settle(at(1), ticket.unwrap(), 80))
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
        let (one, two) = (
            ledger.admit(at(0), call.clone(), 0),
            ledger.admit(at(0), call.clone(), 0),
        );
        assert!(ledger.settle(at(0), one.unwrap(), 101).is_err());
        assert_eq!(ledger.settle(at(0), two.unwrap(), 0), Ok(()));
    }

    #[test]
    fn absurd_usage_is_charged_without_overflow() {
        let ledger = Ledger::new(vec![tokens(Scope::Global, u64::MAX)]);
        let call = call("a", &[]);
        let (one, two) = (
            ledger.admit(at(0), call.clone(), 0),
            ledger.admit(at(0), call.clone(), 0),
        );
        assert_eq!(ledger.settle(at(0), one.unwrap(), u64::MAX), Ok(()));
        let crossed = ledger.settle(at(1), two.unwrap(), u64::MAX);
        assert_eq!(crossed, Err(exceeded(0, 60)));
        assert_eq!(used(&ledger, at(1), "a"), [u64::MAX]);
        assert!(ledger.admit(at(60), call.clone(), 0).is_err());
        assert!(ledger.admit(at(61), call.clone(), 0).is_ok());
    }

    #[test]
    fn tokens_settle_only_where_the_call_was_governed() {
        let ledger = Ledger::new(vec![
            requests(Scope::PerAgent, 10),
            tokens(Scope::PerModel(0), 100),
            tokens(Scope::PerModel(1), 100),
            tokens(Scope::Global, 1_000),
        ]);
        let ticket = ledger.admit(at(0), call("a", &[1]), 0).unwrap();
        ledger.settle(at(0), ticket, 70).unwrap();
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
        let ticket = ledger.admit(at(0), call("a", &[]), 0).unwrap();
        ledger.settle(at(0), ticket, 10).unwrap();
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
        let first = ledger.admit(at(0), call("a", &[]), 0).unwrap();
        let second = ledger.admit(at(0), call("b", &[]), 0).unwrap();
        let third = ledger.admit(at(0), call("c", &[]), 0).unwrap();
        assert!(ledger.admit(at(0), call("d", &[]), 0).is_err());
        // What they spent is charged all the same, beyond the cap where it must be.
        ledger.settle(at(1), first, 0).unwrap();
        ledger.settle(at(1), second, 60).unwrap();
        ledger.settle(at(1), third, 70).unwrap();
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
        let ticket = ledger.admit(at(10), call("a", &[]), 0).unwrap();
        ledger.settle(at(25), ticket, 400).unwrap();
        let expected = [
            Usage {
                limit: 0,
                used: 400,
                reserved: 0,
                max: 1_000,
                reset: at(55),
            },
            Usage {
                limit: 1,
                used: 1,
                reserved: 0,
                max: 10,
                reset: at(40),
            },
        ];
        assert_eq!(ledger.usage(at(30), &"a".into()), expected);
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
        let ticket = ledger.admit(at(0), call("a", &[1]), 0).unwrap();
        ledger.settle(at(0), ticket, u64::MAX).unwrap();
        assert!(ledger.usage(at(0), &"a".into()).is_empty());
    }
}
