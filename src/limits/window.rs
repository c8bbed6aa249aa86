//! One sliding window: what was counted during the last so-and-so long.
//!
//! In *any* stretch `[t, t + length)` a caller that asks before it adds never counts more than the
//! maximum, not only in stretches that begin on a full minute. That needs a log of what was counted
//! when. The log is bounded by letting neighbours share an entry that leaves when the newest of them
//! would: merging can make the window stricter, never laxer.

use std::collections::VecDeque;
use std::time::Duration;

/// How much of one unit may be counted in any stretch of one length.
///
/// - Up to a maximum of 1,024, the log is exact: an amount counted at `t` stops counting at exactly
///   `t + length`. Where more than 1,024 entries would be live (amounts charged beyond the maximum),
///   the newest entry takes the rest in.
/// - Above, entries are slots: whatever is counted within 1/1,024 of the length after a slot was
///   opened joins it, and the slot leaves whole, `length` after its newest amount. An amount
///   therefore counts for at most 1/1,024 of the length too long.
///
/// Time is handed in. An earlier time than the latest one seen is taken for the latest, so a clock
/// that jumps back frees nothing.
///
/// Memory: 80 bytes, and 16 bytes an entry, allocated as the log grows and kept for reuse. There are
/// at most 1,025 entries (a stretch that begins inside a slot touches one slot more than it is long),
/// so at most 16.1 KiB in all; a limit of 60 requests takes 1.1 KiB.
#[derive(Debug)]
pub(crate) struct Window {
    /// Oldest first. INVARIANT: `newest` doesn't decrease from front to back, no amount is zero.
    log: VecDeque<Entry>,
    /// INVARIANT: the sum of the log's amounts. 1,025 times `u64::MAX` can't overflow it, so what
    /// leaves can be subtracted again without losing count.
    used: u128,
    /// In nanoseconds, at least 1.
    length: u64,
    max: u64,
    /// When the newest entry was opened, in nanoseconds. Of no meaning while the log is empty.
    opened: u64,
    /// The latest time seen, in nanoseconds.
    latest: u64,
}

#[derive(Debug)]
struct Entry {
    /// When the last amount joined this entry, in nanoseconds.
    newest: u64,
    amount: u64,
}

impl Window {
    /// An empty window. Doesn't allocate. A length of zero counts as one nanosecond.
    pub(crate) fn new(length: Duration, max: u64) -> Self {
        Self {
            log: VecDeque::new(),
            used: 0,
            length: nanoseconds(length).max(1),
            max,
            opened: 0,
            latest: 0,
        }
    }

    /// Takes another maximum. What counts goes on counting, as long as it would have.
    pub(crate) const fn set_max(&mut self, max: u64) {
        self.max = max;
    }

    /// What counts at `now`. More than the maximum if more was added.
    pub(crate) fn used(&mut self, now: Duration) -> u64 {
        self.advance(now);
        u64::try_from(self.used).unwrap_or(u64::MAX)
    }

    /// Whether more than the maximum counts at `now`.
    pub(crate) fn is_exceeded(&mut self, now: Duration) -> bool {
        self.advance(now);
        self.used > self.max.into()
    }

    /// How long after `now` there is room for `amount` beside what is `reserved`, if nothing else is added until then:
    /// zero if there is room at once, `None` if there never is, because the amount is above the maximum or the
    /// maximum is zero.
    ///
    /// The wait is exact without reservations: one nanosecond less and there is no room yet. With them it is the
    /// earliest if none settles at less than it reserved: it then counts from now on at best. It begins at the latest
    /// time seen, if that is later than `now`. Walks the log as far as entries have to leave, which for one request is
    /// one entry.
    #[inline]
    pub(crate) fn wait_for(
        &mut self,
        now: Duration,
        amount: u64,
        reserved: u64,
    ) -> Option<Duration> {
        self.advance(now);
        if amount > self.max || self.max == 0 {
            return None;
        }
        let mut excess = self
            .used
            .saturating_add(amount.into())
            .saturating_add(reserved.into())
            .saturating_sub(self.max.into());
        if excess == 0 {
            return Some(Duration::ZERO);
        }
        let mut wait = 0;
        for entry in &self.log {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(entry.amount.into());
            wait = self.remaining(entry);
        }
        if excess > 0 {
            wait = self.length;
        }
        Some(Duration::from_nanos(wait))
    }

    /// How much fits in beside what is `reserved`.
    pub(crate) fn room(&mut self, now: Duration, reserved: u64) -> u64 {
        self.advance(now);
        let taken = self.used.saturating_add(reserved.into());
        let room = u128::from(self.max).saturating_sub(taken);
        u64::try_from(room).unwrap_or(u64::MAX)
    }

    /// How long after `now` nothing counts any more, if nothing is added until then; zero if nothing
    /// does now.
    pub(crate) fn empty_in(&mut self, now: Duration) -> Duration {
        self.advance(now);
        let wait = self.log.back().map_or(0, |entry| self.remaining(entry));
        Duration::from_nanos(wait)
    }

    /// Counts `amount` at `now`, whether or not there is room.
    ///
    /// Allocates only while the log grows. Counting again in a window that has been as busy before
    /// doesn't.
    pub(crate) fn add(&mut self, now: Duration, amount: u64) {
        self.advance(now);
        self.count(amount);
    }

    /// As [`add`](Self::add), at the latest time seen: for who has just asked for the room.
    #[inline]
    pub(crate) fn count(&mut self, amount: u64) {
        if amount == 0 {
            return;
        }
        let exact = self.max <= EXACT_ENTRIES;
        // In an exact log, what arrives at the same instant shares an entry at no loss.
        let (reach, bound) = if exact {
            (0, MAX_EXACT_LOG)
        } else {
            (self.length / SLOTS, MAX_SLOT_LOG)
        };
        let joins = self.latest.saturating_sub(self.opened) <= reach || self.log.len() >= bound;
        match self.log.back_mut() {
            Some(entry) if joins => {
                let sum = entry.amount.saturating_add(amount);
                let added = sum.saturating_sub(entry.amount);
                self.used = self.used.saturating_add(added.into());
                entry.amount = sum;
                entry.newest = self.latest;
            }
            _ => {
                self.grow(bound);
                self.log.push_back(Entry {
                    newest: self.latest,
                    amount,
                });
                self.used = self.used.saturating_add(amount.into());
                self.opened = self.latest;
            }
        }
    }

    /// Takes note of the time and drops what has stopped counting.
    #[inline]
    fn advance(&mut self, now: Duration) {
        self.latest = self.latest.max(nanoseconds(now));
        while let Some(entry) = self.log.front()
            && self.remaining(entry) == 0
        {
            self.used = self.used.saturating_sub(entry.amount.into());
            self.log.pop_front();
        }
    }

    /// How many nanoseconds after the latest time an entry stops counting.
    #[inline]
    fn remaining(&self, entry: &Entry) -> u64 {
        // By age, not by a stored time of expiry: near the end of u64 that would saturate, and
        // everything would expire at once.
        self.length
            .saturating_sub(self.latest.saturating_sub(entry.newest))
    }

    /// Makes room for one more entry by doubling, but never beyond `bound`, where doubling would leave
    /// nearly half unused.
    fn grow(&mut self, bound: usize) {
        let len = self.log.len();
        if len == self.log.capacity() {
            let more = len.max(4).min(bound.saturating_sub(len));
            self.log.reserve_exact(more);
        }
    }
}

/// Whole nanoseconds; what is beyond `u64::MAX` of them (584 years) counts as that.
#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(duration.subsec_nanos().into())
}

/// The largest maximum for which every amount is logged by itself.
const EXACT_ENTRIES: u64 = 1_024;

/// Slots per window length, above that.
const SLOTS: u64 = 1_024;

/// Entries of an exact log.
const MAX_EXACT_LOG: usize = 1_024;

/// Entries of a log of slots. One more than there are slots to the length: the oldest may have begun
/// before the stretch that is looked at.
const MAX_SLOT_LOG: usize = 1_025;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn ten_a_minute_lets_ten_through_at_once_and_refuses_the_eleventh() {
        let mut window = Window::new(MINUTE, 10);
        for _ in 0..10 {
            assert_eq!(window.wait_for(seconds(5), 1, 0), Some(Duration::ZERO));
            window.add(seconds(5), 1);
        }
        assert_eq!(window.used(seconds(5)), 10);
        assert_eq!(window.wait_for(seconds(5), 1, 0), Some(MINUTE));
        assert_eq!(window.wait_for(seconds(50), 1, 0), Some(seconds(15)));
    }

    #[test]
    fn an_entry_stops_counting_at_exactly_its_length() {
        let mut window = Window::new(MINUTE, 1);
        window.add(seconds(7), 1);
        assert_eq!(window.used(seconds(67) - NANOSECOND), 1);
        assert_eq!(
            window.wait_for(seconds(67) - NANOSECOND, 1, 0),
            Some(NANOSECOND)
        );
        assert_eq!(window.used(seconds(67)), 0);
        assert_eq!(window.wait_for(seconds(67), 1, 0), Some(Duration::ZERO));
    }

    #[test]
    fn a_burst_across_a_full_minute_is_still_one_burst() {
        let mut window = Window::new(MINUTE, 10);
        for _ in 0..10 {
            window.add(seconds(59), 1);
        }
        assert_eq!(window.wait_for(seconds(61), 1, 0), Some(seconds(58)));
    }

    #[test]
    fn the_wait_for_several_is_until_enough_have_left() {
        let mut window = Window::new(MINUTE, 10);
        window.add(seconds(0), 4);
        window.add(seconds(10), 4);
        window.add(seconds(20), 2);
        assert_eq!(window.wait_for(seconds(30), 4, 0), Some(seconds(30)));
        assert_eq!(window.wait_for(seconds(30), 5, 0), Some(seconds(40)));
        assert_eq!(window.wait_for(seconds(30), 10, 0), Some(seconds(50)));
        assert_eq!(window.wait_for(seconds(30), 11, 0), None);
    }

    #[test]
    fn a_maximum_of_zero_never_has_room() {
        let mut window = Window::new(MINUTE, 0);
        assert_eq!(window.wait_for(seconds(1_000), 1, 0), None);
        assert_eq!(window.wait_for(seconds(1_000), 0, 0), None);
        assert!(!window.is_exceeded(seconds(1_000)));
    }

    #[test]
    fn a_clock_that_jumps_back_frees_nothing() {
        let mut window = Window::new(MINUTE, 1);
        window.add(seconds(100), 1);
        assert_eq!(window.wait_for(seconds(10), 1, 0), Some(MINUTE));
        // What is added during the jump counts from the latest time seen, too.
        window.add(seconds(20), 1);
        assert_eq!(window.used(seconds(160) - NANOSECOND), 2);
        assert_eq!(window.used(seconds(160)), 0);
    }

    #[test]
    fn looking_at_a_later_time_is_seeing_it() {
        let mut window = Window::new(MINUTE, 1);
        assert_eq!(window.used(seconds(100)), 0);
        window.add(seconds(10), 1);
        assert_eq!(window.empty_in(seconds(100)), MINUTE);
    }

    #[test]
    fn more_than_the_maximum_is_counted_and_reported() {
        let mut window = Window::new(MINUTE, 100);
        window.add(seconds(0), 90);
        assert!(!window.is_exceeded(seconds(0)));
        window.add(seconds(30), 60);
        assert!(window.is_exceeded(seconds(30)));
        assert_eq!(window.used(seconds(30)), 150);
        assert_eq!(window.wait_for(seconds(30), 1, 0), Some(seconds(30)));
        assert_eq!(window.wait_for(seconds(30), 41, 0), Some(MINUTE));
    }

    #[test]
    fn adding_nothing_leaves_nothing_behind() {
        let mut window = Window::new(MINUTE, 100);
        window.add(seconds(1), 0);
        assert_eq!(window.empty_in(seconds(1)), Duration::ZERO);
        assert_eq!(window.log.capacity(), 0);
    }

    #[test]
    fn absurd_amounts_saturate_and_still_expire() {
        for max in [100, u64::MAX] {
            let mut window = Window::new(MINUTE, max);
            for second in 0..3 {
                window.add(seconds(second), u64::MAX);
                window.add(seconds(second), u64::MAX);
            }
            assert_eq!(window.used(seconds(3)), u64::MAX);
            let until_one_fits = window.wait_for(seconds(3), 1, 0);
            assert_eq!(until_one_fits, Some(seconds(59)), "limit {max}");
            assert_eq!(window.used(seconds(61)), u64::MAX);
            assert_eq!(window.used(seconds(62)), 0);
        }
    }

    #[test]
    fn at_the_end_of_time_nothing_expires_and_nothing_overflows() {
        let mut window = Window::new(Duration::MAX, 5);
        window.add(Duration::MAX, 5);
        window.add(Duration::MAX, 5);
        assert_eq!(window.used(Duration::MAX), 10);
        assert_ne!(window.wait_for(Duration::MAX, 5, 0), Some(Duration::ZERO));
    }

    #[test]
    fn a_length_of_zero_still_counts_an_instant() {
        let mut window = Window::new(Duration::ZERO, 1);
        window.add(seconds(1), 1);
        assert_eq!(window.wait_for(seconds(1), 1, 0), Some(NANOSECOND));
    }

    #[test]
    fn a_large_limit_keeps_a_bounded_log_that_expires_late_by_at_most_a_slot() {
        let mut window = Window::new(Duration::from_nanos(1_024 * 2_000), 100_000);
        // Each pair fills a slot to its full reach of 2,000 ns; the next slot opens one later.
        let mut most = 0;
        for slot in 0..3_000_u64 {
            window.add(Duration::from_nanos(slot * 2_001), 1);
            most = most.max(window.log.len());
            window.add(Duration::from_nanos(slot * 2_001 + 2_000), 1);
        }
        assert_eq!(most, 1_025);
        assert_eq!(window.log.capacity(), 1_025);

        let mut window = Window::new(Duration::from_nanos(1_024 * 1_000), 2_000);
        window.add(Duration::from_nanos(0), 1_500);
        window.add(Duration::from_nanos(1_000), 500);
        assert_eq!(window.log.len(), 1);
        let late = Duration::from_nanos(1_025 * 1_000);
        assert_eq!(
            window.wait_for(Duration::ZERO, 1, 0),
            Some(late - Duration::from_nanos(1_000))
        );
        assert_eq!(window.used(late - NANOSECOND), 2_000);
        assert_eq!(window.used(late), 0);
    }

    #[test]
    fn an_exact_log_stays_bounded_when_charges_go_beyond_the_limit() {
        let mut window = Window::new(MINUTE, 1_024);
        for n in 0..3_000 {
            window.add(Duration::from_millis(n), 1);
        }
        assert_eq!(window.log.len(), 1_024);
        assert_eq!(window.log.capacity(), 1_024);
        // The first 1,023 leave on time; the rest share an entry that leaves with its newest.
        let when_only_the_shared_entry_is_left = Duration::from_millis(60_000 + 1_022);
        assert_eq!(
            window.used(when_only_the_shared_entry_is_left),
            3_000 - 1_023
        );
        assert_eq!(
            window.used(Duration::from_millis(60_000 + 2_998)),
            3_000 - 1_023
        );
        assert_eq!(window.used(Duration::from_millis(60_000 + 2_999)), 0);
    }

    #[test]
    fn a_steady_window_reuses_its_memory() {
        let mut window = Window::new(MINUTE, 60);
        for second in 0..600 {
            assert_eq!(window.wait_for(seconds(second), 1, 0), Some(Duration::ZERO));
            window.add(seconds(second), 1);
        }
        assert_eq!(window.log.capacity(), 64);
    }

    #[test]
    fn the_documented_sizes_are_right() {
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(size_of::<Window>(), 80);
    }
}
