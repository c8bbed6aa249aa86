//! Admission: one request against one window of one key, beside one read of the clock it takes its time from and
//! beside `governor`, whose cells know less (a rate, not "any 60 seconds") and hold it in less memory.
//!
//! With two threads, both ask for the same key at once; the time is the slower thread's, per its own request.
//!
//! ```text
//! cargo bench --bench limits
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench that can't go on must stop, and this one measures the clock itself"
)]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use governor::clock::MonotonicClock;
use governor::{Quota, RateLimiter};
use tower_sekuire::{Clock, Policy, PolicyEnforcer, RateLimit, SystemClock};

fn enforcer(requests_per_minute: u64) -> PolicyEnforcer {
    let policy =
        format!("rate_limits: {{ per_agent: {{ requests_per_minute: {requests_per_minute} }} }}");
    PolicyEnforcer::new(Policy::from_yaml(&policy).unwrap())
}

/// The time that this many runs of `check` take on each of two threads: the slower one's.
fn two_threads(runs: u64, check: impl Fn() + Sync) -> Duration {
    let barrier = Barrier::new(2);
    let work = || {
        barrier.wait();
        let started = Instant::now();
        for _ in 0..runs {
            check();
        }
        started.elapsed()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        work().max(other.join().unwrap())
    })
}

fn admission(criterion: &mut Criterion) {
    let clock = SystemClock::new();
    let many = enforcer(1_000_000_000);
    let exact = enforcer(1_000);
    let billion = Quota::per_minute(NonZeroU32::new(1_000_000_000).unwrap());
    let keyed = RateLimiter::dashmap_with_clock(billion, MonotonicClock);
    let thousand = Quota::per_minute(NonZeroU32::new(1_000).unwrap());
    let keyed_full = RateLimiter::dashmap_with_clock(thousand, MonotonicClock);

    let lock = Mutex::new(0_u64);

    let checks: [(&str, &(dyn Fn() + Sync)); 7] = [
        ("Instant::now", &|| {
            black_box(Instant::now());
        }),
        ("SystemClock", &|| {
            black_box(clock.now());
        }),
        // What any admission under a lock costs at least.
        ("SystemClock and a lock", &|| {
            let now = clock.now().subsec_nanos();
            let mut counted = lock.lock().unwrap();
            *counted = counted.wrapping_add(u64::from(now));
        }),
        ("sekuire, admitted", &|| {
            assert!(many.enforce_rate_limit(RateLimit::Request).is_ok());
        }),
        ("sekuire, refused", &|| {
            drop(black_box(exact.enforce_rate_limit(RateLimit::Request)));
        }),
        ("governor keyed, admitted", &|| {
            assert!(keyed.check_key(&"agent").is_ok());
        }),
        ("governor keyed, refused", &|| {
            drop(black_box(keyed_full.check_key(&"agent")));
        }),
    ];
    // From here on these windows are full.
    for _ in 0..1_000 {
        assert!(exact.enforce_rate_limit(RateLimit::Request).is_ok());
        assert!(keyed_full.check_key(&"agent").is_ok());
    }
    let mut group = criterion.benchmark_group("admission/1 thread");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(1));
    for (name, check) in checks {
        group.bench_function(name, |bencher| bencher.iter(check));
    }
    group.finish();
    let mut group = criterion.benchmark_group("admission/2 threads");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(1));
    for (name, check) in checks {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| two_threads(runs, check));
        });
    }
    group.finish();
}

criterion_group!(benches, admission);
criterion_main!(benches);
