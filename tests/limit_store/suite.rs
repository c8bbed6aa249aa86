//! The cases. Time is real, since a server keeps its own: what must not pass is asked within a window of a minute,
//! what must is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tower_sekuire::{Ask, Lease, LimitStore, LimitUnit, MemoryStore, StoreRefusal};

/// A store that is tested.
pub(crate) trait Subject {
    fn store(&self) -> Arc<dyn LimitStore>;

    /// Waits until what was settled and extended is counted.
    async fn settled(&self);
}

/// A test for each case, on a store of its own.
macro_rules! suite {
    ($subject:ident $(, $ignored:meta)?) => {
        $crate::suite::suite! { @ $subject, [$($ignored)?]
            requests_are_counted_up_to_the_limit
            all_windows_are_charged_or_none
            of_several_that_refuse_the_slowest_is_named
            an_amount_leaves_its_window_in_time
            what_is_reserved_counts_until_it_is_settled
            a_lease_is_settled_once
            an_extension_gets_what_is_left
            the_tightest_window_bounds_an_extension
            what_is_over_is_not_extended
            what_is_not_enforced_is_counted
            no_tokens_ask_for_room_for_one
            a_limit_of_nothing_never_has_room
            more_than_was_reserved_is_charged
            absurd_numbers_neither_overflow_nor_pass
            names_do_not_meet
            a_lease_tells_what_its_windows_count
            it_counts_as_memory_does
            concurrent_calls_never_exceed_the_budget
        }
    };
    (@ $subject:ident, $ignored:tt $($case:ident)*) => {
        $($crate::suite::suite! { @one $subject, $ignored $case })*
    };
    (@one $subject:ident, [$($ignored:meta)?] $case:ident) => {
        #[tokio::test]
        $(#[$ignored])?
        async fn $case() {
            $crate::suite::$case(&$subject().await).await;
        }
    };
}
pub(crate) use suite;

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn ask(key: &str, unit: LimitUnit, window: Duration, max: u64, amount: u64) -> Ask {
    Ask::new(key.to_owned(), unit, window, max, amount)
}

pub(crate) fn requests(key: &str, max: u64) -> Ask {
    ask(key, LimitUnit::Requests, MINUTE, max, 1)
}

pub(crate) fn tokens(key: &str, max: u64, amount: u64) -> Ask {
    ask(key, LimitUnit::Tokens, MINUTE, max, amount)
}

async fn reserve(subject: &impl Subject, asks: &[Ask]) -> Result<Lease, StoreRefusal> {
    subject.store().reserve(asks.to_vec(), true).await
}

/// Used and reserved.
async fn counted(subject: &impl Subject, ask: &Ask) -> (u64, u64) {
    let usage = subject.store().usage(vec![ask.clone()]).await.unwrap();
    (usage[0].used, usage[0].reserved)
}

fn wait_of(refusal: Result<Lease, StoreRefusal>) -> Duration {
    match refusal.unwrap_err() {
        StoreRefusal::Full {
            ask: 0,
            wait: Some(wait),
        } => wait,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn requests_are_counted_up_to_the_limit(subject: &impl Subject) {
    let ask = requests("k", 3);
    for _ in 0..3 {
        reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    }
    let wait = wait_of(reserve(subject, std::slice::from_ref(&ask)).await);
    assert!(wait <= MINUTE && wait > MINUTE / 2, "{wait:?}");
    assert_eq!(counted(subject, &ask).await, (3, 0));
}

pub(crate) async fn all_windows_are_charged_or_none(subject: &impl Subject) {
    let (wide, narrow, budget) = (
        requests("wide", 10),
        requests("narrow", 1),
        tokens("budget", 100, 30),
    );
    let all = [wide.clone(), budget.clone(), narrow.clone()];
    reserve(subject, &all).await.unwrap();
    let refused = reserve(subject, &all).await.unwrap_err();
    assert!(
        matches!(refused, StoreRefusal::Full { ask: 2, .. }),
        "{refused:?}"
    );
    assert_eq!(counted(subject, &wide).await, (1, 0));
    assert_eq!(counted(subject, &narrow).await, (1, 0));
    assert_eq!(counted(subject, &budget).await, (0, 30));
}

pub(crate) async fn of_several_that_refuse_the_slowest_is_named(subject: &impl Subject) {
    let hour = ask(
        "hour",
        LimitUnit::Requests,
        Duration::from_secs(3_600),
        1,
        1,
    );
    let asks = [requests("minute", 1), hour, requests("another", 1)];
    reserve(subject, &asks).await.unwrap();
    let refused = reserve(subject, &asks).await.unwrap_err();
    assert!(
        matches!(refused, StoreRefusal::Full { ask: 1, .. }),
        "{refused:?}"
    );
    let never = [requests("minute", 1), requests("never", 0)];
    let refused = reserve(subject, &never).await.unwrap_err();
    assert_eq!(refused, StoreRefusal::Full { ask: 1, wait: None });
}

pub(crate) async fn an_amount_leaves_its_window_in_time(subject: &impl Subject) {
    let ask = ask("k", LimitUnit::Requests, Duration::from_secs(1), 2, 1);
    for _ in 0..2 {
        reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    }
    let wait = wait_of(reserve(subject, std::slice::from_ref(&ask)).await);
    assert!(
        wait <= Duration::from_secs(1) && !wait.is_zero(),
        "{wait:?}"
    );
    tokio::time::sleep(wait + Duration::from_millis(10)).await;
    reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(counted(subject, &ask).await, (0, 0));
}

pub(crate) async fn what_is_reserved_counts_until_it_is_settled(subject: &impl Subject) {
    let ask = tokens("k", 100, 60);
    let first = reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    assert_eq!(first.reserved(), 60);
    wait_of(reserve(subject, std::slice::from_ref(&ask)).await);
    assert_eq!(counted(subject, &ask).await, (0, 60));
    subject.store().settle(&first, 10);
    subject.settled().await;
    assert_eq!(counted(subject, &ask).await, (10, 0));
    reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    assert_eq!(counted(subject, &ask).await, (10, 60));
}

pub(crate) async fn a_lease_is_settled_once(subject: &impl Subject) {
    let ask = tokens("k", 100, 60);
    let lease = reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    for tokens in [10, 20, 0] {
        subject.store().settle(&lease, tokens);
    }
    subject.settled().await;
    assert_eq!(counted(subject, &ask).await, (10, 0));
}

pub(crate) async fn an_extension_gets_what_is_left(subject: &impl Subject) {
    let ask = tokens("k", 100, 50);
    let lease = reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    subject.store().extend(&lease, 30);
    subject.settled().await;
    assert_eq!((lease.reserved(), lease.is_refused()), (80, false));
    subject.store().extend(&lease, 30);
    subject.settled().await;
    assert_eq!((lease.reserved(), lease.is_refused()), (100, false));
    subject.store().extend(&lease, 1);
    subject.settled().await;
    assert_eq!((lease.reserved(), lease.is_refused()), (100, true));
    assert_eq!(counted(subject, &ask).await, (0, 100));
    subject.store().settle(&lease, 90);
    subject.settled().await;
    assert_eq!(counted(subject, &ask).await, (90, 0));
}

pub(crate) async fn the_tightest_window_bounds_an_extension(subject: &impl Subject) {
    let asks = [
        requests("r", 5),
        tokens("wide", 1_000, 50),
        tokens("narrow", 60, 50),
    ];
    let lease = reserve(subject, &asks).await.unwrap();
    subject.store().extend(&lease, 500);
    subject.settled().await;
    assert_eq!(lease.reserved(), 60);
    subject.store().extend(&lease, 500);
    subject.settled().await;
    assert_eq!(lease.refused_by(), Some(2));
    assert_eq!(counted(subject, &asks[1]).await, (0, 60));
    assert_eq!(counted(subject, &asks[2]).await, (0, 60));
}

pub(crate) async fn what_is_over_is_not_extended(subject: &impl Subject) {
    let ask = tokens("k", 100, 50);
    let lease = reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    subject.store().settle(&lease, 5);
    subject.store().extend(&lease, 10);
    subject.settled().await;
    assert_eq!(counted(subject, &ask).await, (5, 0));
    assert_eq!(lease.reserved(), 50);
}

pub(crate) async fn what_is_not_enforced_is_counted(subject: &impl Subject) {
    let asks = [requests("r", 1), tokens("t", 100, 80)];
    for _ in 0..2 {
        let lease = subject.store().reserve(asks.to_vec(), false).await.unwrap();
        assert_eq!(lease.reserved(), 80);
    }
    assert_eq!(counted(subject, &asks[0]).await, (2, 0));
    assert_eq!(counted(subject, &asks[1]).await, (0, 160));
}

pub(crate) async fn no_tokens_ask_for_room_for_one(subject: &impl Subject) {
    let none = tokens("k", 100, 0);
    let lease = reserve(subject, std::slice::from_ref(&none)).await.unwrap();
    assert_eq!(counted(subject, &none).await, (0, 0));
    subject.store().settle(&lease, 100);
    subject.settled().await;
    assert_eq!(counted(subject, &none).await, (100, 0));
    wait_of(reserve(subject, std::slice::from_ref(&none)).await);
}

pub(crate) async fn a_limit_of_nothing_never_has_room(subject: &impl Subject) {
    for ask in [requests("r", 0), tokens("t", 0, 0)] {
        let refused = reserve(subject, std::slice::from_ref(&ask)).await;
        let never = StoreRefusal::Full { ask: 0, wait: None };
        assert_eq!(refused.unwrap_err(), never);
    }
}

pub(crate) async fn more_than_was_reserved_is_charged(subject: &impl Subject) {
    let ask = tokens("k", 100, 50);
    let lease = reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
    subject.store().settle(&lease, 500);
    subject.settled().await;
    assert_eq!(counted(subject, &ask).await, (500, 0));
    let wait = wait_of(reserve(subject, std::slice::from_ref(&ask)).await);
    assert!(wait > MINUTE / 2, "{wait:?}");
}

pub(crate) async fn absurd_numbers_neither_overflow_nor_pass(subject: &impl Subject) {
    for (key, max) in [("small", 1_000), ("large", u64::MAX)] {
        let ask = ask(
            key,
            LimitUnit::Tokens,
            Duration::from_secs(86_400),
            max,
            max,
        );
        let lease = reserve(subject, std::slice::from_ref(&ask)).await.unwrap();
        wait_of(reserve(subject, std::slice::from_ref(&ask)).await);
        subject.store().extend(&lease, u64::MAX);
        subject.store().settle(&lease, u64::MAX);
        subject.settled().await;
        let refused = reserve(subject, std::slice::from_ref(&ask)).await;
        assert!(refused.is_err(), "{key}");
        let (used, reserved) = counted(subject, &ask).await;
        assert_eq!(reserved, 0, "{key}");
        assert!(used >= max.min(1 << 42), "{key}: {used}");
    }
}

pub(crate) async fn names_do_not_meet(subject: &impl Subject) {
    let names = [
        "a", "a:log", "log:a", "", " ", "a\nb", "a\0", "{a}", "ä", "*", "a}:log:a", "window:a",
    ];
    for name in names {
        let asks = [requests(name, 1), tokens(&format!("t:{name}"), 10, 10)];
        reserve(subject, &asks).await.unwrap();
    }
    for name in names {
        assert_eq!(counted(subject, &requests(name, 1)).await, (1, 0));
        assert!(reserve(subject, &[requests(name, 1)]).await.is_err());
    }
}

pub(crate) async fn a_lease_tells_what_its_windows_count(subject: &impl Subject) {
    let asks = [requests("r", 5), tokens("t", 100, 30)];
    reserve(subject, &asks).await.unwrap();
    let second = reserve(subject, &asks).await.unwrap();
    let told = second.counted().unwrap();
    assert_eq!((told[0].used, told[0].reserved), (2, 0));
    assert!(told[0].reset > MINUTE / 2 && told[0].reset <= MINUTE);
    assert_eq!((told[1].used, told[1].reserved), (0, 60));
    assert_eq!(told[1].reset, Duration::ZERO);
}

/// A generator of numbers that are random enough, and the same in each run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The same random operations on this store and in memory come to the same, refusals included.
pub(crate) async fn it_counts_as_memory_does(subject: &impl Subject) {
    let (store, memory) = (subject.store(), MemoryStore::default());
    let mut numbers = Numbers(0x5EC0_17E5);
    let mut open: Vec<(Lease, Lease)> = Vec::new();
    let (mut admitted, mut refused) = (0, 0);
    let day = Duration::from_secs(86_400);
    let windows = [
        ("a", LimitUnit::Requests, 110),
        ("b", LimitUnit::Tokens, 1_000),
        ("c", LimitUnit::Tokens, 12_000),
        ("d", LimitUnit::Tokens, 25_000),
    ];
    for step in 0..600 {
        match numbers.below(4) {
            0 | 1 => {
                let amount = numbers.below(400);
                let which = numbers.below(15) + 1;
                let asks = windows.iter().enumerate();
                let asks = asks.filter(|(place, _)| which & (1 << place) != 0);
                let asks = asks.map(|(_, &(key, unit, max))| {
                    let amount = match unit {
                        LimitUnit::Requests => 1,
                        _ => amount,
                    };
                    ask(key, unit, day, max, amount)
                });
                let asks: Vec<_> = asks.collect();
                let enforce = numbers.below(8) > 0;
                let there = store.reserve(asks.clone(), enforce).await;
                match (there, memory.reserve_now(asks, enforce)) {
                    (Ok(there), Ok(here)) => {
                        admitted += 1;
                        open.push((there, here));
                    }
                    (
                        Err(StoreRefusal::Full {
                            ask: there,
                            wait: until,
                        }),
                        Err(StoreRefusal::Full { ask: here, wait }),
                    ) => {
                        refused += 1;
                        assert_eq!((there, until.is_some()), (here, wait.is_some()), "{step}");
                    }
                    other => panic!("step {step}: {other:?}"),
                }
            }
            2 if !open.is_empty() => {
                let (there, here) =
                    open.swap_remove(usize::try_from(numbers.below(open.len() as u64)).unwrap());
                let tokens = numbers.below(500);
                store.settle(&there, tokens);
                memory.settle(&here, tokens);
                subject.settled().await;
            }
            3 if !open.is_empty() => {
                let (there, here) =
                    &open[usize::try_from(numbers.below(open.len() as u64)).unwrap()];
                let tokens = numbers.below(200) + 1;
                if there.reserved() > 0 {
                    store.extend(there, tokens);
                    memory.extend(here, tokens);
                    subject.settled().await;
                }
                assert_eq!(
                    (there.reserved(), there.is_refused()),
                    (here.reserved(), here.is_refused()),
                    "{step}"
                );
            }
            _ => {}
        }
        let all: Vec<_> = windows
            .iter()
            .map(|&(key, unit, max)| ask(key, unit, day, max, 0))
            .collect();
        let there = store.usage(all.clone()).await.unwrap();
        for (there, here) in there.iter().zip(memory.usage_now(&all)) {
            assert_eq!(
                (there.used, there.reserved),
                (here.used, here.reserved),
                "{step}"
            );
        }
    }
    assert!(admitted > 50 && refused > 50, "{admitted} {refused}");
}

/// A thousand calls at once, settled at random costs up to what they reserved, some of them given up half-way.
pub(crate) async fn concurrent_calls_never_exceed_the_budget(subject: &impl Subject) {
    const MAX: u64 = 20_000;
    let (charged, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    let calls = (1..=1_000_u64).map(|number| {
        let (store, charged, admitted) = (subject.store(), &charged, &admitted);
        async move {
            let mut numbers = Numbers(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let asks = vec![
                tokens("budget", MAX, 1 + numbers.below(100)),
                requests("r", 5_000),
            ];
            let asking = store.reserve(asks, true);
            if numbers.below(8) == 0 {
                // The caller goes away.
                let soon = Duration::from_micros(numbers.below(3_000));
                if let Ok(Ok(lease)) = tokio::time::timeout(soon, asking).await {
                    store.settle(&lease, 0);
                }
                return;
            }
            let Ok(lease) = asking.await else {
                return;
            };
            admitted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_micros(numbers.below(5_000))).await;
            let spent = numbers.below(lease.reserved() + 1);
            charged.fetch_add(spent, Ordering::Relaxed);
            store.settle(&lease, spent);
        }
    });
    let watch = async {
        let budget = tokens("budget", MAX, 0);
        loop {
            let (used, reserved) = counted(subject, &budget).await;
            assert!(used + reserved <= MAX, "{used} + {reserved}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(calls) => {}
        () = watch => {}
    }
    subject.settled().await;
    let spent = charged.load(Ordering::Relaxed);
    assert!(admitted.load(Ordering::Relaxed) > 300);
    assert_eq!(
        counted(subject, &tokens("budget", MAX, 0)).await,
        (spent, 0)
    );
}
