//! The time that limits are measured in; the only place in the crate that reads a clock.
//!
//! Limits need durations, not dates, so a time is a `Duration` since an origin that each clock picks
//! for itself. Times of two clocks can't be compared: everything that shares a budget shares a clock.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Where limits take the time from.
///
/// The default is [`SystemClock`]; [`ManualClock`] lets a test of a policy pass an hour in no time.
///
/// `now` is called a few times per governed request and may be called from many threads at once, so it must
/// neither block nor be slow. It should never go backwards. If it does, limits hold: they take an
/// earlier time for the latest one they have seen, so nothing expires until the clock has caught up.
pub trait Clock: Send + Sync + 'static {
    /// The time since this clock's origin, which is arbitrary but fixed.
    ///
    /// Limits count in nanoseconds up to `u64::MAX` (584 years) and take later times for that one.
    fn now(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Duration {
        (**self).now()
    }
}

/// The operating system's monotonic clock, counted from this value's construction.
///
/// It isn't moved by changes of the date. Whether it runs while the machine sleeps depends on the
/// system (on Linux it doesn't): where it stops, budgets don't recover during sleep.
#[derive(Clone, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: instant() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        instant().saturating_duration_since(self.origin)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the injectable clock that the lint sends everybody else to"
)]
fn instant() -> Instant {
    Instant::now()
}

/// The date, as time since 1970-01-01 UTC: for what is written down, and never for limits.
#[expect(
    clippy::disallowed_methods,
    reason = "clocks are read here and nowhere else; a date that jumps changes no decision"
)]
pub(crate) fn date() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// A clock that moves only when it is told to, for tests.
///
/// Clones share the time, so a test keeps one and hands the other to what it tests.
///
/// ```
/// use std::time::Duration;
/// use tower_sekuire::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let shared = clock.clone();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(shared.now(), Duration::from_secs(60));
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    now: Arc<Mutex<Duration>>,
}

impl ManualClock {
    /// A clock that shows zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the time forward, for all clones. Stops at `Duration::MAX`.
    pub fn advance(&self, by: Duration) {
        self.change(|now| now.saturating_add(by));
    }

    /// Shows `now` from here on, for all clones; also an earlier time than before, to see what a
    /// clock that jumps back does to a policy.
    pub fn set(&self, now: Duration) {
        self.change(|_| now);
    }

    fn change(&self, change: impl FnOnce(Duration) -> Duration) -> Duration {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = change(*now);
        *now
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.change(|now| now)
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock")
            .field("now", &self.now())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_starts_near_zero_and_never_goes_back() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(first < Duration::from_secs(60));
        assert!(clock.now() >= first);
    }

    #[test]
    fn clones_of_a_manual_clock_share_the_time() {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        assert_eq!(shared.now(), Duration::ZERO);
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(shared.now(), Duration::from_millis(1_500));
        clock.set(Duration::from_secs(1));
        assert_eq!(shared.now(), Duration::from_secs(1));
    }

    #[test]
    fn a_manual_clock_stops_at_the_end_of_time() {
        let clock = ManualClock::new();
        clock.set(Duration::MAX);
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Duration::MAX);
    }

    #[test]
    fn debug_of_a_manual_clock_shows_the_time() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(5));
        assert_eq!(format!("{clock:?}"), "ManualClock { now: 5s }");
    }
}
