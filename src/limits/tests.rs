//! The promises of this module against an oracle that is too slow and simple to be wrong, on clocks
//! that jump; and under threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::ledger::Usage;
use super::window::Window;
use super::{Call, Clock, Exceeded, Ledger, LimitSpec, ManualClock, Models};
use super::{Refusal, Scope, Ticket, Unit};

const NANOSECOND: Duration = Duration::from_nanos(1);

/// One limit, counted the obvious way: everything is kept for ever and summed up again each time.
#[derive(Default)]
struct Oracle {
    length: u64,
    max: u64,
    counted: Vec<(u64, u64)>,
}

impl Oracle {
    fn new(length: u64, max: u64) -> Self {
        Self {
            length,
            max,
            counted: Vec::new(),
        }
    }

    fn add(&mut self, now: u64, amount: u64) {
        self.counted.push((now, amount));
    }

    fn used(&self, now: u64) -> u64 {
        self.used_within(now, self.length)
    }

    fn used_within(&self, now: u64, length: u64) -> u64 {
        let live = self.counted.iter().filter(|(at, _)| now - at < length);
        live.map(|(_, amount)| amount).sum()
    }

    /// By trying every moment at which something could change.
    fn wait_for(&self, now: u64, amount: u64) -> Option<u64> {
        self.wait_beside(now, amount, 0)
    }

    /// What is reserved counts from now on at best.
    fn wait_beside(&self, now: u64, amount: u64, reserved: u64) -> Option<u64> {
        let settled = now + self.length;
        let expiries = self.counted.iter().map(|(at, _)| at + self.length);
        let moments = expiries
            .filter(|moment| *moment > now)
            .chain([now, settled]);
        let free = moments.filter(|moment| {
            let reserved = if *moment < settled { reserved } else { 0 };
            self.used(*moment) + reserved + amount <= self.max
        });
        let free = free.min().map(|moment| moment - now);
        free.filter(|_| self.max > 0)
    }

    /// The most in any stretch of the length. A fullest stretch can be moved to begin at an entry.
    fn most_in_any_stretch(&self) -> u64 {
        let starts = self.counted.iter().map(|(start, _)| {
            let stretch = *start..*start + self.length;
            let inside = self.counted.iter().filter(|(at, _)| stretch.contains(at));
            inside.map(|(_, amount)| amount).sum()
        });
        starts.max().unwrap_or(0)
    }
}

/// How the clock moves before an arrival, in nanoseconds.
#[derive(Clone, Copy, Debug)]
enum Move {
    On(u64),
    Back(u64),
}

impl Move {
    fn apply(self, clock: &ManualClock) {
        match self {
            Self::On(by) => clock.advance(Duration::from_nanos(by)),
            Self::Back(by) => {
                clock.set(clock.now().saturating_sub(Duration::from_nanos(by)));
            }
        }
    }
}

/// Mostly bursts and steps within a window, sometimes a jump over it or back.
fn moves(length: u64) -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => Just(Move::On(0)),
        6 => (0..=length / 8 + 1).prop_map(Move::On),
        2 => (0..=length + length / 4).prop_map(Move::On),
        1 => Just(Move::On(length)),
        1 => (0..=length * 2).prop_map(Move::Back),
    ]
}

/// Lengths at which rounding shows, and a minute.
fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![1..40_u64, 900..5_000_u64, Just(60_000_000_000)]
}

fn arrivals(most: usize, amounts: u64) -> impl Strategy<Value = (u64, Vec<(Move, u64)>)> {
    lengths().prop_flat_map(move |length| {
        let arrival = (moves(length), 0..=amounts);
        (Just(length), proptest::collection::vec(arrival, 1..most))
    })
}

/// Many small steps, so that slots fill up and their edges matter.
fn dense_arrivals() -> impl Strategy<Value = (u64, Vec<(Move, u64)>)> {
    prop_oneof![1_000..6_000_u64, 20_000..80_000_u64].prop_flat_map(|length| {
        let step = length / 1_024;
        let moves = prop_oneof![
            8 => (0..=step * 2 + 1).prop_map(Move::On),
            1 => (0..=length / 16).prop_map(Move::On),
            1 => (0..=length / 16).prop_map(Move::Back),
        ];
        let arrival = (moves, 0..60_u64);
        (Just(length), proptest::collection::vec(arrival, 50..250))
    })
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap()
}

proptest! {
    #[test]
    fn an_exact_window_decides_as_the_oracle_does_to_the_nanosecond(
        (length, arrivals) in arrivals(120, 4),
        max in 0..30_u64,
    ) {
        let clock = ManualClock::new();
        let mut window = Window::new(Duration::from_nanos(length), max);
        let mut oracle = Oracle::new(length, max);
        let mut latest = 0;
        for (step, amount) in arrivals {
            step.apply(&clock);
            let now = clock.now();
            latest = latest.max(nanoseconds(now));
            let wait = window.wait_for(now, amount, 0);
            prop_assert_eq!(wait.map(nanoseconds), oracle.wait_for(latest, amount));
            prop_assert_eq!(window.used(now), oracle.used(latest));
            if wait == Some(Duration::ZERO) {
                window.add(now, amount);
                oracle.add(latest, amount);
            }
        }
        prop_assert!(oracle.most_in_any_stretch() <= max);
    }

    #[test]
    fn an_exact_window_counts_charges_beyond_the_limit_as_the_oracle_does(
        (length, arrivals) in arrivals(120, 40),
        max in 0..30_u64,
    ) {
        let clock = ManualClock::new();
        let mut window = Window::new(Duration::from_nanos(length), max);
        let mut oracle = Oracle::new(length, max);
        let mut latest = 0;
        for (step, amount) in arrivals {
            step.apply(&clock);
            let now = clock.now();
            latest = latest.max(nanoseconds(now));
            window.add(now, amount);
            oracle.add(latest, amount);
            prop_assert_eq!(window.used(now), oracle.used(latest));
            let wait = window.wait_for(now, 1, 0);
            prop_assert_eq!(wait.map(nanoseconds), oracle.wait_for(latest, 1));
        }
    }

    #[test]
    fn a_window_of_slots_is_never_laxer_and_hardly_stricter_than_the_oracle(
        (length, arrivals) in prop_oneof![arrivals(100, 2_000), dense_arrivals()],
        max in 1_025..4_000_u64,
    ) {
        let clock = ManualClock::new();
        let mut window = Window::new(Duration::from_nanos(length), max);
        let mut oracle = Oracle::new(length, max);
        let mut latest = 0;
        for (step, amount) in arrivals {
            step.apply(&clock);
            let now = clock.now();
            latest = latest.max(nanoseconds(now));
            let used = window.used(now);
            prop_assert!(used >= oracle.used(latest));
            prop_assert!(used <= oracle.used_within(latest, length + length / 1_024));
            match window.wait_for(now, amount, 0) {
                Some(Duration::ZERO) => {
                    window.add(now, amount);
                    oracle.add(latest, amount);
                }
                Some(wait) => {
                    prop_assert!(used + amount > max);
                    // The wait is what the true window asks for, and at most a slot more.
                    let true_wait = oracle.wait_for(latest, amount).unwrap();
                    prop_assert!(nanoseconds(wait) >= true_wait);
                    prop_assert!(nanoseconds(wait) <= true_wait + length / 1_024);
                }
                None => prop_assert!(amount > max),
            }
        }
        prop_assert!(oracle.most_in_any_stretch() <= max);
    }

    #[test]
    fn a_wait_is_over_exactly_when_it_says(
        (length, arrivals) in arrivals(100, 700),
        max in prop_oneof![1..30_u64, 1_000..1_050_u64, 1_025..9_000_u64],
        amount in 1..40_u64,
    ) {
        let clock = ManualClock::new();
        let fill = || {
            clock.set(Duration::ZERO);
            let mut window = Window::new(Duration::from_nanos(length), max);
            for (step, amount) in &arrivals {
                step.apply(&clock);
                window.add(clock.now(), *amount);
            }
            // To the latest time seen, from which waits are counted.
            clock.set(clock.now().max(latest(&arrivals)));
            window
        };
        let Some(wait) = fill().wait_for(clock.now(), amount, 0) else {
            prop_assert!(amount > max);
            return Ok(());
        };
        let then = clock.now() + wait;
        prop_assert_eq!(fill().wait_for(then, amount, 0), Some(Duration::ZERO));
        if !wait.is_zero() {
            prop_assert_eq!(fill().wait_for(then - NANOSECOND, amount, 0), Some(NANOSECOND));
        }
    }

    #[test]
    fn a_ledger_charges_every_limit_or_none_as_the_oracles_do(
        limits in proptest::collection::vec(specs(), 1..6),
        steps in proptest::collection::vec((moves(LONGEST), operations()), 1..150),
    ) {
        let clock = ManualClock::new();
        let ledger = Ledger::new(limits.clone()).max_keys(2);
        let mut oracles = Oracles::new(limits);
        let mut tickets: Vec<(Ticket, Call)> = Vec::new();
        let mut latest = 0;
        for (step, (operation, agent, models, tokens)) in steps {
            step.apply(&clock);
            let now = clock.now();
            latest = latest.max(nanoseconds(now));
            let call = Call { agent: AGENTS[agent].into(), models: models.iter().copied().collect() };
            match operation {
                Operation::Admit => {
                    let expected = oracles.room(latest, &call, tokens);
                    let admitted = ledger.admit(now, call.clone(), tokens);
                    prop_assert_eq!(admitted.as_ref().map(|_| ()).map_err(|e| *e), expected);
                    if let Ok(ticket) = admitted {
                        oracles.charge(latest, &call, Unit::Requests, 1);
                        prop_assert_eq!(ticket.reserved(), oracles.least(&call, tokens));
                        oracles.reserve(&call, tokens);
                        tickets.push((ticket, call));
                    }
                }
                Operation::Extend => {
                    if let Some((mut ticket, call)) = tickets.pop() {
                        let before = ticket.reserved();
                        let extended = ledger.extend(now, &mut ticket, tokens);
                        let room = oracles.left(latest, &call);
                        match room {
                            Err(exceeded) => prop_assert_eq!(extended, Err(exceeded)),
                            Ok(room) => {
                                prop_assert_eq!(extended, Ok(()));
                                let granted = room.min(tokens);
                                prop_assert_eq!(ticket.reserved(), before + granted);
                                oracles.reserve(&call, granted);
                            }
                        }
                        tickets.push((ticket, call));
                    }
                }
                Operation::Settle => {
                    if let Some((ticket, call)) = tickets.pop() {
                        oracles.release(&call, ticket.estimate());
                        let settled = ledger.settle(now, ticket, tokens);
                        let crossed = oracles.charge(latest, &call, Unit::Tokens, tokens);
                        prop_assert_eq!(settled.err(), crossed);
                    }
                }
                Operation::ChargeTokens => {
                    let charged = ledger.charge_tokens(now, &call, tokens);
                    prop_assert_eq!(charged.err(), oracles.charge(latest, &call, Unit::Tokens, tokens));
                }
            }
            // Also shows the ledger the time when nothing was left to settle.
            for (index, agent) in AGENTS.iter().enumerate() {
                let usage = ledger.usage(now, &Arc::from(*agent));
                let used: Vec<_> =
                    usage.iter().map(|Usage { used, reserved, .. }| (*used, *reserved)).collect();
                prop_assert_eq!(used, oracles.used(latest, index));
            }
        }
    }
}

#[test]
fn a_thousand_concurrent_calls_fill_a_limit_of_a_hundred_exactly() {
    let ledger = Ledger::new(vec![
        LimitSpec {
            scope: Scope::Global,
            unit: Unit::Requests,
            window: Duration::from_secs(60),
            max: 100,
        },
        LimitSpec {
            scope: Scope::PerAgent,
            unit: Unit::Requests,
            window: Duration::from_secs(60),
            max: 40,
        },
    ]);
    let admitted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..10 {
            let (ledger, admitted) = (&ledger, &admitted);
            scope.spawn(move || {
                for n in 0..100 {
                    let call = Call {
                        agent: AGENTS[(thread + n) % AGENTS.len()].into(),
                        models: Models::default(),
                    };
                    if ledger
                        .admit(Duration::from_millis(n as u64), call.clone(), 0)
                        .is_ok()
                    {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 100);
    let now = Duration::from_secs(1);
    let own = AGENTS.map(|agent| ledger.usage(now, &agent.into())[1].used);
    assert_eq!(own.iter().sum::<u64>(), 100);
    assert!(own.iter().all(|used| *used <= 40));
}

#[test]
fn settlements_from_many_threads_add_up() {
    let ledger = Ledger::new(vec![LimitSpec {
        scope: Scope::PerAgent,
        unit: Unit::Tokens,
        window: Duration::from_secs(60),
        max: 1_000_000,
    }]);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let call = Call {
                    agent: "a".into(),
                    models: Models::default(),
                };
                for _ in 0..100 {
                    let ticket = ledger.admit(Duration::ZERO, call.clone(), 900).unwrap();
                    ledger.settle(Duration::ZERO, ticket, 7).unwrap();
                }
            });
        }
    });
    let usage = &ledger.usage(Duration::ZERO, &"a".into())[0];
    assert_eq!((usage.used, usage.reserved), (7_000, 0));
}

/// A limit of tokens that all calls share.
fn tokens(max: u64) -> Ledger {
    Ledger::new(vec![LimitSpec {
        scope: Scope::Global,
        unit: Unit::Tokens,
        window: Duration::from_secs(60),
        max,
    }])
}

#[test]
fn what_a_call_extends_under_a_raised_limit_is_given_back() {
    for (estimate, more) in [(4_096, 256), (60, 256), (0, 1)] {
        let old = tokens(100);
        let call = Call {
            agent: "a".into(),
            models: Models::default(),
        };
        let mut ticket = old.admit(Duration::ZERO, call.clone(), estimate).unwrap();
        let raised = LimitSpec {
            scope: Scope::Global,
            unit: Unit::Tokens,
            window: Duration::from_secs(60),
            max: 1_000,
        };
        let new = old.succeeded(vec![raised], &[Some(0)]);
        for _ in 0..3 {
            let _ = old.extend(Duration::ZERO, &mut ticket, more);
        }
        let usage = &new.usage(Duration::ZERO, &"a".into())[0];
        assert!(usage.reserved <= 100, "a call is held to its own limit");
        old.settle(Duration::ZERO, ticket, 7).unwrap();
        let usage = &new.usage(Duration::ZERO, &"a".into())[0];
        assert_eq!(
            (usage.used, usage.reserved),
            (7, 0),
            "{estimate} and {more}"
        );
    }
}

#[test]
fn a_thousand_concurrent_reservations_never_exceed_the_budget() {
    let ledger = tokens(1_000);
    let spent = AtomicUsize::new(0);
    let check = |ledger: &Ledger| {
        let usage = &ledger.usage(Duration::ZERO, &"a".into())[0];
        assert!(usage.used + usage.reserved <= 1_000);
    };
    thread::scope(|scope| {
        for thread in 0..10 {
            let (ledger, spent) = (&ledger, &spent);
            scope.spawn(move || {
                let call = Call {
                    agent: "a".into(),
                    models: Models::default(),
                };
                for n in 0..100_usize {
                    let Ok(mut ticket) = ledger.admit(Duration::ZERO, call.clone(), 30) else {
                        continue;
                    };
                    check(ledger);
                    let _ = ledger.extend(Duration::ZERO, &mut ticket, 5);
                    check(ledger);
                    // Most use less than was reserved, and none more.
                    let tokens = (thread + n) % 30;
                    spent.fetch_add(tokens, Ordering::Relaxed);
                    ledger
                        .settle(Duration::ZERO, ticket, tokens as u64)
                        .unwrap();
                    check(ledger);
                }
            });
        }
    });
    let usage = &ledger.usage(Duration::ZERO, &"a".into())[0];
    assert_eq!(usage.reserved, 0);
    assert_eq!(usage.used, spent.into_inner() as u64);
}

fn latest(arrivals: &[(Move, u64)]) -> Duration {
    let clock = ManualClock::new();
    let times = arrivals.iter().map(|(step, _)| {
        step.apply(&clock);
        clock.now()
    });
    times.max().unwrap_or_default()
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const LONGEST: u64 = 5_000;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Admit,
    Extend,
    Settle,
    ChargeTokens,
}

fn operations() -> impl Strategy<Value = (Operation, usize, Vec<usize>, u64)> {
    let operation = prop_oneof![
        3 => Just(Operation::Admit),
        1 => Just(Operation::Extend),
        2 => Just(Operation::Settle),
        1 => Just(Operation::ChargeTokens),
    ];
    let models = proptest::collection::vec(0..3_usize, 0..3);
    (operation, 0..AGENTS.len(), models, 0..20_u64)
}

/// Limits that stay exact, so that the oracle's decision is the only right one.
fn specs() -> impl Strategy<Value = LimitSpec> {
    let scope = prop_oneof![
        2 => Just(Scope::PerAgent),
        1 => (0..3_usize).prop_map(Scope::PerModel),
        1 => Just(Scope::Global),
    ];
    let unit = prop_oneof![Just(Unit::Requests), Just(Unit::Tokens)];
    let window = prop_oneof![1..100_u64, 1_000..=LONGEST];
    (scope, unit, window, 0..60_u64).prop_map(|(scope, unit, window, max)| LimitSpec {
        scope,
        unit,
        window: Duration::from_nanos(window),
        max,
    })
}

/// An oracle for every limit and agent; limits that agents share use the first agent's.
struct Oracles {
    limits: Vec<LimitSpec>,
    counted: Vec<[Oracle; AGENTS.len()]>,
    reserved: Vec<[u64; AGENTS.len()]>,
    /// The keys that the ledger should be tracking.
    keys: Vec<usize>,
}

impl Oracles {
    fn new(limits: Vec<LimitSpec>) -> Self {
        let counted = limits
            .iter()
            .map(|limit| AGENTS.map(|_| Oracle::new(nanoseconds(limit.window), limit.max)));
        Self {
            counted: counted.collect(),
            reserved: vec![[0; AGENTS.len()]; limits.len()],
            limits,
            keys: Vec::new(),
        }
    }

    fn place(&self, limit: usize, agent: usize) -> usize {
        if self.is_own(limit) { agent } else { 0 }
    }

    fn governing(&self, call: &Call) -> Vec<(usize, usize)> {
        let governs = |limit: &usize| match self.limits[*limit].scope {
            Scope::PerModel(model) => call.models.contains(&model),
            Scope::PerAgent | Scope::Global => true,
        };
        let limits = (0..self.limits.len()).filter(governs);
        let agent = index_of(call);
        limits
            .map(|limit| (limit, self.place(limit, agent)))
            .collect()
    }

    fn is_own(&self, limit: usize) -> bool {
        self.limits[limit].scope == Scope::PerAgent
    }

    fn is_busy(&self, now: u64, agent: usize) -> bool {
        let own = (0..self.limits.len()).filter(|limit| self.is_own(*limit));
        own.map(|limit| self.counted[limit][agent].used(now) + self.reserved[limit][agent])
            .any(|used| used > 0)
    }

    fn governing_tokens(&self, call: &Call) -> Vec<(usize, usize)> {
        let mut governing = self.governing(call);
        governing.retain(|(limit, _)| self.limits[*limit].unit == Unit::Tokens);
        governing
    }

    fn reserve(&mut self, call: &Call, tokens: u64) {
        for (limit, place) in self.governing_tokens(call) {
            let amount = tokens.min(self.limits[limit].max);
            self.reserved[limit][place] += amount;
            if amount > 0 && self.is_own(limit) && !self.keys.contains(&place) {
                self.keys.push(place);
            }
        }
    }

    fn release(&mut self, call: &Call, tokens: u64) {
        for (limit, place) in self.governing_tokens(call) {
            self.reserved[limit][place] -= tokens.min(self.limits[limit].max);
        }
    }

    /// How much every limit has left beside what is used and reserved.
    fn left(&self, now: u64, call: &Call) -> Result<u64, Exceeded> {
        let (mut left, mut slowest) = (u64::MAX, None);
        for (limit, place) in self.governing_tokens(call) {
            let (oracle, reserved) = (&self.counted[limit][place], self.reserved[limit][place]);
            let room = oracle.max.saturating_sub(oracle.used(now) + reserved);
            left = left.min(room);
            if room == 0 {
                let wait = oracle.wait_beside(now, 1, reserved);
                slowest = Some(slower(slowest, limit, wait));
            }
        }
        slowest.map_or(Ok(left), Err)
    }

    /// What an estimate comes to in the tightest limit of tokens.
    fn least(&self, call: &Call, estimate: u64) -> u64 {
        let governing = self.governing(call).into_iter();
        let specs = governing.map(|(limit, _)| &self.limits[limit]);
        let tokens = specs.filter(|spec| spec.unit == Unit::Tokens);
        tokens.map(|spec| spec.max).fold(estimate, u64::min)
    }

    /// The ledger under test tracks two keys: a third finds room only if one of them is idle.
    fn room(&mut self, now: u64, call: &Call, estimate: u64) -> Result<(), Refusal> {
        let has_own = (0..self.limits.len()).any(|limit| self.is_own(limit));
        if has_own && !self.keys.contains(&index_of(call)) && self.keys.len() >= 2 {
            let mut keys = std::mem::take(&mut self.keys);
            keys.retain(|agent| self.is_busy(now, *agent));
            self.keys = keys;
            if self.keys.len() >= 2 {
                return Err(Refusal::KeysFull);
            }
        }
        let mut slowest: Option<Exceeded> = None;
        for (limit, place) in self.governing(call) {
            let spec = &self.limits[limit];
            let asked = match spec.unit {
                Unit::Requests => 1,
                Unit::Tokens => estimate.min(spec.max).max(1),
            };
            let reserved = self.reserved[limit][place];
            let wait = self.counted[limit][place].wait_beside(now, asked, reserved);
            if wait != Some(0) {
                slowest = Some(slower(slowest, limit, wait));
            }
        }
        slowest.map(Refusal::Exceeded).map_or(Ok(()), Err)
    }

    fn charge(&mut self, now: u64, call: &Call, unit: Unit, amount: u64) -> Option<Exceeded> {
        let mut slowest = None;
        for (limit, place) in self.governing(call) {
            if self.limits[limit].unit == unit && amount > 0 {
                if self.is_own(limit) && !self.keys.contains(&place) {
                    self.keys.push(place);
                }
                let oracle = &mut self.counted[limit][place];
                oracle.add(now, amount);
                if oracle.used(now) > oracle.max {
                    let wait = oracle.wait_beside(now, 1, self.reserved[limit][place]);
                    slowest = Some(slower(slowest, limit, wait));
                }
            }
        }
        slowest
    }

    fn used(&self, now: u64, agent: usize) -> Vec<(u64, u64)> {
        let used = |limit| {
            let place = self.place(limit, agent);
            (
                self.counted[limit][place].used(now),
                self.reserved[limit][place],
            )
        };
        (0..self.limits.len()).map(used).collect()
    }
}

fn index_of(call: &Call) -> usize {
    let mut agents = AGENTS.iter();
    agents.position(|agent| **agent == *call.agent).unwrap()
}

fn slower(known: Option<Exceeded>, limit: usize, wait: Option<u64>) -> Exceeded {
    let wait = wait.map(Duration::from_nanos);
    match known {
        Some(known) if known.wait.is_none() => known,
        Some(known) if wait.is_some() && known.wait >= wait => known,
        _ => Exceeded { limit, wait },
    }
}
