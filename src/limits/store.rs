//! Limits counted elsewhere, so that several processes share one budget.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
#[cfg(feature = "redis")]
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::window::Window;
use super::{Clock, SystemClock};
use crate::policy::LimitUnit;

/// A future that a [`LimitStore`] answers with.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Counts requests and tokens for all who share it.
///
/// A policy without a store counts in its own process, without waiting for anything; a store is for fleets. Whatever
/// it is made of, a store keeps these promises, of which the first is the hard one:
///
/// - [`reserve`](Self::reserve) looks at all windows and charges all of them in one step, or none.
/// - In any stretch of a window's length, what is counted and what is reserved never exceeds the maximum together,
///   unless it was counted without being enforced, or an answer used more than was reserved for it.
/// - A lease counts until it is settled; one that nobody settles, because its process died, counts until the store
///   lets it expire, and is then charged as if it had used all that it reserved.
/// - [`extend`](Self::extend) and [`settle`](Self::settle) never block and spawn nothing outside a runtime: they hand
///   over to a task that the store owns. What is lost on the way stays charged.
/// - A store that can't be reached answers so ([`StoreRefusal::Unavailable`]) within a bounded time.
pub trait LimitStore: fmt::Debug + Send + Sync + 'static {
    /// Counts a call in all of these windows if each has room, or, when `enforce` is false, whether or not they have.
    ///
    /// # Errors
    /// When a window has no room and the limits are enforced, or the store can't be reached.
    fn reserve(&self, asks: Vec<Ask>, enforce: bool) -> StoreFuture<Result<Lease, StoreRefusal>>;

    /// Asks for up to so many tokens more. The answer is told by [`Lease::granted`] or [`Lease::refuse`].
    fn extend(&self, lease: &Lease, tokens: u64);

    /// Ends a reservation and charges what the call used.
    fn settle(&self, lease: &Lease, tokens: u64);

    /// What is counted in these windows; the amounts asked for don't matter.
    ///
    /// # Errors
    /// When the store can't be reached.
    fn usage(&self, asks: Vec<Ask>) -> StoreFuture<Result<Vec<Counted>, StoreRefusal>>;
}

/// One window, and what a call wants of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// What names the window among all who share the store: the same for the same limit of the same agent.
    pub key: String,
    /// Requests are counted when they are reserved, tokens when they are settled.
    pub unit: LimitUnit,
    /// The length of the sliding window.
    pub window: Duration,
    /// Requests or tokens per window.
    pub max: u64,
    /// One request; or the tokens to reserve, at most `max`. No tokens ask for room for one, and reserve none.
    pub amount: u64,
}

impl Ask {
    /// What a call wants of a window, to test a store with: the layer makes its own.
    #[must_use]
    pub fn new(key: String, unit: LimitUnit, window: Duration, max: u64, amount: u64) -> Self {
        Self {
            key,
            unit,
            window,
            max,
            amount,
        }
    }
}

/// What a window has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests or tokens.
    pub used: u64,
    /// Tokens of calls in flight.
    pub reserved: u64,
    /// How long until nothing counts any more, if nothing is added.
    pub reset: Duration,
}

/// Why a store doesn't admit a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreRefusal {
    /// A window has no room.
    Full {
        /// Which of those that were asked: the one that takes longest to recover.
        ask: usize,
        /// How long until it has room, at the earliest; `None` is never.
        wait: Option<Duration>,
    },
    /// The store can't be reached, or didn't answer in time.
    Unavailable,
}

/// A call that a store has counted, until it is settled.
#[derive(Clone, Debug)]
pub struct Lease(Arc<LeaseState>);

#[derive(Debug)]
struct LeaseState {
    id: String,
    asks: Vec<Ask>,
    /// Of a call that was let through although this said no.
    observed: Option<StoreRefusal>,
    /// What the windows counted when this was reserved, it included.
    counted: OnceLock<Vec<Counted>>,
    tokens: AtomicU64,
    /// Nothing, or the place of the window that was full, counted from one.
    refused: AtomicUsize,
    /// An extension was asked for, and not answered.
    extending: AtomicBool,
}

impl Lease {
    /// A lease by the store's name for it. `observed` is why the call would have been refused, had it been enforced.
    #[must_use]
    pub fn new(id: String, asks: Vec<Ask>, observed: Option<StoreRefusal>) -> Self {
        let tokens = asks.iter().filter(|ask| ask.unit == LimitUnit::Tokens);
        let tokens = tokens.map(|ask| ask.amount).min().unwrap_or(0);
        Self(Arc::new(LeaseState {
            id,
            asks,
            observed,
            counted: OnceLock::new(),
            tokens: AtomicU64::new(tokens),
            refused: AtomicUsize::new(0),
            extending: AtomicBool::new(false),
        }))
    }

    /// Says what each window counts, this lease included, so that the answer's `x-ratelimit` headers can tell it. A
    /// store that doesn't say leaves them out. Said once; of a second time nothing is kept.
    #[must_use]
    pub fn with_counted(self, counted: Vec<Counted>) -> Self {
        let _ = self.0.counted.set(counted);
        self
    }

    /// What each window counted when this was reserved, in the order of [`asks`](Self::asks).
    #[must_use]
    pub fn counted(&self) -> Option<&[Counted]> {
        self.0.counted.get().map(Vec::as_slice)
    }

    /// The store's name for it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The windows in which the call is counted.
    #[must_use]
    pub fn asks(&self) -> &[Ask] {
        &self.0.asks
    }

    /// Tokens that are reserved, in the window that has reserved the fewest.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.0.tokens.load(Ordering::Acquire)
    }

    /// Tokens that are reserved in the window that has reserved the most.
    pub(crate) fn estimate(&self) -> u64 {
        let tokens = self.0.asks.iter();
        let tokens = tokens
            .filter(|ask| ask.unit == LimitUnit::Tokens)
            .map(|ask| ask.amount);
        let (least, most) = tokens.fold((u64::MAX, 0), |(least, most), amount| {
            (least.min(amount), most.max(amount))
        });
        let extended = self.reserved().saturating_sub(least);
        most.saturating_add(extended)
    }

    /// Tells that so many tokens more are reserved.
    pub fn granted(&self, tokens: u64) {
        let add = |reserved: u64| Some(reserved.saturating_add(tokens));
        let tokens = &self.0.tokens;
        let _ = tokens.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        self.0.extending.store(false, Ordering::Release);
    }

    /// Tells that nothing more can be reserved.
    pub fn refuse(&self) {
        let tokens = |ask: &Ask| ask.unit == LimitUnit::Tokens;
        self.refuse_by(self.0.asks.iter().position(tokens).unwrap_or(0));
    }

    /// As [`refuse`](Self::refuse), with the window that is full: its place among [`asks`](Self::asks).
    pub fn refuse_by(&self, ask: usize) {
        self.0
            .refused
            .store(ask.saturating_add(1), Ordering::Release);
    }

    /// The window whose room ran out, by its place among [`asks`](Self::asks), if an extension was refused.
    #[must_use]
    pub fn refused_by(&self) -> Option<usize> {
        self.0.refused.load(Ordering::Acquire).checked_sub(1)
    }

    /// Whether an extension was refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused_by().is_some()
    }

    /// Whether an extension is to be asked for: one at a time.
    pub(crate) fn begins_extension(&self) -> bool {
        !self.0.extending.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn observed(&self) -> Option<StoreRefusal> {
        self.0.observed
    }
}

/// A lease as long as somebody holds it.
#[cfg(feature = "redis")]
#[derive(Debug)]
pub(super) struct WeakLease(Weak<LeaseState>);

#[cfg(feature = "redis")]
impl WeakLease {
    pub(super) fn upgrade(&self) -> Option<Lease> {
        self.0.upgrade().map(Lease)
    }
}

#[cfg(feature = "redis")]
impl Lease {
    pub(super) fn downgrade(&self) -> WeakLease {
        WeakLease(Arc::downgrade(&self.0))
    }
}

/// A store in this process's memory: the least that keeps a store's promises, for tests and as a local share when
/// another store can't be reached.
#[derive(Clone)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counters: HashMap<String, Counter>,
    /// The tokens that each open lease has reserved beyond what it asked for at first.
    leases: HashMap<String, u64>,
    next: u64,
}

#[derive(Debug)]
struct Counter {
    window: Window,
    reserved: u64,
}

/// Windows counted at once, unless they are idle.
const MAX_WINDOWS: usize = 100_000;

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(SystemClock::new())
    }
}

impl MemoryStore {
    /// An empty store that takes its time from `clock`.
    #[must_use]
    pub fn new(clock: impl Clock) -> Self {
        Self {
            clock: Arc::new(clock),
            state: Arc::default(),
        }
    }

    /// As [`LimitStore::reserve`], at once.
    ///
    /// # Errors
    /// When a window has no room and the limits are enforced, or there are too many windows.
    pub fn reserve_now(&self, asks: Vec<Ask>, enforce: bool) -> Result<Lease, StoreRefusal> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.counters.len().saturating_add(asks.len()) > MAX_WINDOWS {
            state.counters.retain(|_, counter| {
                counter.reserved > 0 || !counter.window.empty_in(now).is_zero()
            });
            if state.counters.len().saturating_add(asks.len()) > MAX_WINDOWS {
                return Err(StoreRefusal::Unavailable);
            }
        }
        let mut slowest: Option<(Duration, usize)> = None;
        for (place, ask) in asks.iter().enumerate() {
            let counter = counter(&mut state.counters, ask);
            let wait = counter
                .window
                .wait_for(now, ask.amount.max(1), counter.reserved)
                .unwrap_or(Duration::MAX);
            if !wait.is_zero() && slowest.is_none_or(|(slowest, _)| wait > slowest) {
                slowest = Some((wait, place));
            }
        }
        let refusal = slowest.map(|(wait, ask)| StoreRefusal::Full {
            ask,
            wait: (wait < Duration::MAX).then_some(wait),
        });
        if let Some(refusal) = refusal
            && enforce
        {
            return Err(refusal);
        }
        for ask in &asks {
            let counter = counter(&mut state.counters, ask);
            match ask.unit {
                LimitUnit::Tokens => counter.reserved = counter.reserved.saturating_add(ask.amount),
                _ => counter.window.add(now, ask.amount),
            }
        }
        let id = state.next.to_string();
        state.next = state.next.wrapping_add(1);
        state.leases.insert(id.clone(), 0);
        let counted = counted(&mut state.counters, &asks, now);
        Ok(Lease::new(id, asks, refusal).with_counted(counted))
    }

    /// What is counted in these windows, now.
    #[must_use]
    pub fn usage_now(&self, asks: &[Ask]) -> Vec<Counted> {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        counted(&mut state.counters, asks, now)
    }
}

fn counted(counters: &mut HashMap<String, Counter>, asks: &[Ask], now: Duration) -> Vec<Counted> {
    let each = asks.iter();
    let counted = each.map(|ask| match counters.get_mut(&ask.key) {
        None => Counted::default(),
        Some(counter) => Counted {
            used: counter.window.used(now),
            reserved: counter.reserved,
            reset: counter.window.empty_in(now),
        },
    });
    counted.collect()
}

fn counter<'a>(counters: &'a mut HashMap<String, Counter>, ask: &Ask) -> &'a mut Counter {
    counters.entry(ask.key.clone()).or_insert_with(|| Counter {
        window: Window::new(ask.window, ask.max),
        reserved: 0,
    })
}

impl LimitStore for MemoryStore {
    fn reserve(&self, asks: Vec<Ask>, enforce: bool) -> StoreFuture<Result<Lease, StoreRefusal>> {
        Box::pin(std::future::ready(self.reserve_now(asks, enforce)))
    }

    fn extend(&self, lease: &Lease, tokens: u64) {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            counters, leases, ..
        } = &mut *state;
        let Some(extra) = leases.get_mut(lease.id()) else {
            return;
        };
        let windows = || {
            let asks = lease.asks().iter().enumerate();
            asks.filter(|(_, ask)| ask.unit == LimitUnit::Tokens)
        };
        let rooms = windows().map(|(place, ask)| {
            let counter = counter(counters, ask);
            (counter.window.room(now, counter.reserved), place)
        });
        let (room, tightest) = rooms.min().unwrap_or((u64::MAX, 0));
        let granted = room.min(tokens);
        if granted == 0 {
            lease.refuse_by(tightest);
            return;
        }
        for (_, ask) in windows() {
            let counter = counter(counters, ask);
            counter.reserved = counter.reserved.saturating_add(granted);
        }
        *extra = extra.saturating_add(granted);
        lease.granted(granted);
    }

    fn settle(&self, lease: &Lease, tokens: u64) {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            counters, leases, ..
        } = &mut *state;
        // Once: whoever settles again settles nothing.
        let Some(extra) = leases.remove(lease.id()) else {
            return;
        };
        for ask in lease
            .asks()
            .iter()
            .filter(|ask| ask.unit == LimitUnit::Tokens)
        {
            let counter = counter(counters, ask);
            let held = ask.amount.saturating_add(extra);
            counter.reserved = counter.reserved.saturating_sub(held);
            counter.window.add(now, tokens);
        }
    }

    fn usage(&self, asks: Vec<Ask>) -> StoreFuture<Result<Vec<Counted>, StoreRefusal>> {
        Box::pin(std::future::ready(Ok(self.usage_now(&asks))))
    }
}
