//! The Redis store, on a server of each test's own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_sekuire::{LimitStore, OnFailure, RedisStore, StoreRefusal};

use crate::redis_server::Server;
use crate::suite::{Numbers, Subject, requests, suite, tokens};

fn store_at(server: &Server) -> RedisStore {
    // Far beyond what a busy machine needs: these tests are of what is counted.
    let patient = RedisStore::builder(server.url()).timeout(Duration::from_secs(10));
    patient.build().unwrap()
}

struct Redis {
    store: RedisStore,
    _server: Server,
}

impl Subject for Redis {
    fn store(&self) -> Arc<dyn LimitStore> {
        Arc::new(self.store.clone())
    }

    async fn settled(&self) {
        assert!(self.store.flush(Duration::from_secs(10)).await);
    }
}

async fn redis() -> Redis {
    let server = Server::start();
    Redis {
        store: store_at(&server),
        _server: server,
    }
}

suite!(redis, ignore = "needs redis-server");

async fn counted(store: &RedisStore, ask: tower_sekuire::Ask) -> (u64, u64) {
    let usage = store.usage(vec![ask]).await.unwrap();
    (usage[0].used, usage[0].reserved)
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_admission_is_one_round_trip_and_so_is_a_settlement() {
    let server = Server::start();
    let store = store_at(&server);
    let asks = vec![
        requests("r", 1_000),
        tokens("t", 1_000_000, 10),
        tokens("u", 1_000_000, 10),
    ];
    // The first makes the scripts known.
    let lease = store.reserve(asks.clone(), true).await.unwrap();
    store.settle(&lease, 1);
    assert!(store.flush(Duration::from_secs(5)).await);
    let commands = || {
        let stats = server.ask(&["INFO", "commandstats"]).unwrap();
        let calls = |name: &str| -> u64 {
            let line = stats
                .lines()
                .find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            let calls = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next());
            calls.map_or(0, |calls| calls.parse().unwrap())
        };
        let from_clients = calls("evalsha") + calls("eval") + calls("script|load");
        (from_clients, server.ask(&["INFO", "stats"]).unwrap())
    };
    let (before, _) = commands();
    for _ in 0..50 {
        let lease = store.reserve(asks.clone(), true).await.unwrap();
        store.settle(&lease, 1);
    }
    assert!(store.flush(Duration::from_secs(5)).await);
    assert_eq!(commands().0 - before, 100);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn two_processes_share_one_budget_and_two_prefixes_do_not() {
    let server = Server::start();
    let (one, two) = (store_at(&server), store_at(&server));
    let ask = || vec![requests("k", 2)];
    one.reserve(ask(), true).await.unwrap();
    two.reserve(ask(), true).await.unwrap();
    assert!(one.reserve(ask(), true).await.is_err());
    let other = RedisStore::builder(server.url()).prefix("other");
    let other = other.timeout(Duration::from_secs(10)).build().unwrap();
    other.reserve(ask(), true).await.unwrap();
    assert_eq!(counted(&one, requests("k", 2)).await, (2, 0));
    assert_eq!(counted(&other, requests("k", 2)).await, (1, 0));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_reservations_of_a_process_that_died_expire_and_are_charged() {
    let server = Server::start();
    let short = || {
        RedisStore::builder(server.url())
            .timeout(Duration::from_secs(10))
            .lease_time(Duration::from_millis(600))
            .build()
            .unwrap()
    };
    let (dies, lives) = (short(), short());
    let ask = || tokens("k", 100, 40);
    let lost = dies.reserve(vec![ask()], true).await.unwrap();
    let held = lives.reserve(vec![ask()], true).await.unwrap();
    // Nobody holds the lease any more, so nobody renews it.
    drop(lost);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // What is held is renewed meanwhile.
    assert_eq!(counted(&lives, ask()).await, (40, 40));
    lives.settle(&held, 5);
    assert!(lives.flush(Duration::from_secs(5)).await);
    assert_eq!(counted(&lives, ask()).await, (45, 0));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn nothing_stays_in_the_server_for_good() {
    let server = Server::start();
    let store = RedisStore::builder(server.url()).timeout(Duration::from_secs(10));
    let store = store
        .lease_time(Duration::from_millis(500))
        .build()
        .unwrap();
    let mut short = [requests("r", 10), tokens("t", 100, 10)];
    for ask in &mut short {
        ask.window = Duration::from_millis(200);
    }
    let lease = store.reserve(short.to_vec(), true).await.unwrap();
    store.settle(&lease, 5);
    let unsettled = store.reserve(short.to_vec(), true).await.unwrap();
    assert!(store.flush(Duration::from_secs(5)).await);
    assert_eq!(server.ask(&["DBSIZE"]).unwrap(), "5");
    drop(unsettled);
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(server.ask(&["DBSIZE"]).unwrap(), "0");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_is_away_refuses_within_the_timeout() {
    let store = RedisStore::builder("redis://127.0.0.1:1").build().unwrap();
    for _ in 0..10 {
        let begun = Instant::now();
        let refused = store.reserve(vec![requests("k", 2)], true).await;
        assert_eq!(refused.unwrap_err(), StoreRefusal::Unavailable);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    let status = store.status();
    assert_eq!((status.reachable, status.unanswered), (false, 10));
    assert_eq!(status.counted_here, 0);
    assert!(store.usage(vec![requests("k", 2)]).await.is_err());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_local_share_holds_while_the_server_is_away() {
    let mut server = Server::start();
    let store = RedisStore::builder(server.url())
        .on_failure(OnFailure::LocalShare(0.5))
        .build()
        .unwrap();
    server.end();
    let ask = || vec![requests("k", 5), tokens("t", 100, 10)];
    let mut leases = Vec::new();
    for _ in 0..2 {
        leases.push(store.reserve(ask(), true).await.unwrap());
    }
    let refused = store.reserve(ask(), true).await.unwrap_err();
    assert!(matches!(refused, StoreRefusal::Full { ask: 0, .. }));
    store.settle(&leases[0], 7);
    store.extend(&leases[1], 1_000);
    assert_eq!(leases[1].reserved(), 43);
    store.settle(&leases[1], 43);
    assert_eq!(store.status().counted_here, 3);

    server.restart(Duration::ZERO);
    let patience = Instant::now();
    loop {
        let lease = store.reserve(ask(), true).await;
        if lease.is_ok_and(|lease| lease.id().contains(':')) {
            break;
        }
        assert!(patience.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(store.status().reachable);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_restarted_server_is_found_again_without_a_refusal() {
    let mut server = Server::start();
    let store = store_at(&server);
    store.reserve(vec![requests("k", 100)], true).await.unwrap();
    server.restart(Duration::ZERO);
    // It has forgotten the scripts; the next call doesn't see that.
    let lease = store.reserve(vec![requests("k", 100)], true).await.unwrap();
    assert_eq!(lease.counted().unwrap()[0].used, 2);
    assert_eq!(store.status().unanswered, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_stalls_costs_a_refusal_and_no_budget() {
    let server = Server::start();
    let store = RedisStore::builder(server.url())
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let ask = || vec![tokens("k", 100, 60)];
    let lease = store.reserve(ask(), true).await;
    let lease = match lease {
        Ok(lease) => lease,
        // A busy machine: the connection alone took too long.
        Err(_) => store.reserve(ask(), true).await.unwrap(),
    };
    store.settle(&lease, 10);
    assert!(store.flush(Duration::from_secs(5)).await);
    server.signal("-STOP");
    let refused = store.reserve(ask(), true).await.unwrap_err();
    assert_eq!(refused, StoreRefusal::Unavailable);
    // Settled while nobody listens.
    server.signal("-CONT");
    let patience = Instant::now();
    // The server may have reserved for the call that gave up; that is given back.
    while counted_or_away(&store).await != Some((10, 0)) {
        assert!(
            patience.elapsed() < Duration::from_secs(10),
            "{:?} {store:?}",
            counted_or_away(&store).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn counted_or_away(store: &RedisStore) -> Option<(u64, u64)> {
    let usage = store.usage(vec![tokens("k", 100, 0)]).await.ok()?;
    Some((usage[0].used, usage[0].reserved))
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn settlements_wait_for_a_server_that_is_away_for_a_while() {
    let server = Server::start();
    let store = store_at(&server);
    let mut leases = Vec::new();
    for _ in 0..300 {
        leases.push(
            store
                .reserve(vec![tokens("k", 100_000, 50)], true)
                .await
                .unwrap(),
        );
    }
    server.signal("-STOP");
    for lease in &leases {
        store.settle(lease, 3);
    }
    assert!(!store.flush(Duration::from_millis(300)).await);
    assert!(store.status().waiting > 0);
    server.signal("-CONT");
    assert!(store.flush(Duration::from_secs(20)).await);
    assert_eq!(counted(&store, tokens("k", 100_000, 0)).await, (900, 0));
    assert_eq!((store.status().lost, store.status().open), (0, 0));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_extension_that_nobody_answers_ends_the_stream() {
    let mut server = Server::start();
    let store = store_at(&server);
    let lease = store
        .reserve(vec![tokens("k", 100, 50)], true)
        .await
        .unwrap();
    server.end();
    store.extend(&lease, 10);
    let patience = Instant::now();
    while !lease.is_refused() {
        assert!(patience.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_store_outlives_the_runtime_that_used_it_first() {
    let server = Server::start();
    let store = store_at(&server);
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let first = runtime();
    let ask = || vec![tokens("k", 100, 30)];
    let lease = first.block_on(store.reserve(ask(), true)).unwrap();
    // Nothing runs it any more, nor is there a runtime where it is settled.
    drop(first);
    store.settle(&lease, 7);
    let second = runtime();
    second.block_on(async {
        let patience = Instant::now();
        while store.reserve(ask(), true).await.is_err() {
            assert!(patience.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(store.flush(Duration::from_secs(5)).await);
        assert_eq!(counted(&store, tokens("k", 100, 0)).await, (7, 30));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_thousand_calls_through_two_stores_come_out_even_across_a_stall() {
    const MAX: u64 = 30_000;
    let server = Server::start();
    let stores = [store_at(&server), store_at(&server)];
    let mut calls = tokio::task::JoinSet::new();
    for number in 1..=1_000_u64 {
        let store = stores[usize::from(number % 2 == 0)].clone();
        calls.spawn(async move {
            let mut numbers = Numbers(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            tokio::time::sleep(Duration::from_millis(numbers.below(400))).await;
            let asks = vec![tokens("budget", MAX, 1 + numbers.below(100))];
            let asking = store.reserve(asks, true);
            if numbers.below(10) == 0 {
                let soon = Duration::from_micros(numbers.below(2_000));
                return match tokio::time::timeout(soon, asking).await {
                    Ok(Ok(lease)) => {
                        store.settle(&lease, 1);
                        1
                    }
                    _ => 0,
                };
            }
            let Ok(lease) = asking.await else {
                return 0;
            };
            tokio::time::sleep(Duration::from_millis(numbers.below(100))).await;
            let spent = numbers.below(lease.reserved() + 1);
            store.settle(&lease, spent);
            spent
        });
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    server.signal("-STOP");
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("-CONT");
    let spent: u64 = calls.join_all().await.iter().sum();
    for store in &stores {
        assert!(store.flush(Duration::from_secs(20)).await);
        assert_eq!(store.status().lost, 0);
    }
    let (used, reserved) = counted(&stores[0], tokens("budget", MAX, 0)).await;
    assert_eq!((used, reserved), (spent, 0));
    assert!(used <= MAX && used > 10_000, "{used}");
}

#[test]
fn without_a_runtime_nothing_panics_and_nobody_is_admitted() {
    let store = RedisStore::builder("redis://127.0.0.1:1").build().unwrap();
    let refused = tokio_test::block_on(async { store.clone() });
    drop(refused);
    let mut asking = tokio_test::task::spawn(store.reserve(vec![requests("k", 1)], true));
    tokio_test::assert_ready_err!(asking.poll());
}

#[test]
fn what_cannot_be_meant_is_refused_at_once_and_never_quoted() {
    let secret = "hunter2";
    for (store, why) in [
        (
            RedisStore::builder(format!("http://:{secret}@x")),
            "the Redis address can't be used",
        ),
        (
            RedisStore::builder(secret),
            "the Redis address can't be used",
        ),
        (
            RedisStore::builder("redis://x").prefix("a{b"),
            "the key prefix must not be empty, nor have braces",
        ),
        (
            RedisStore::builder("redis://x").timeout(Duration::ZERO),
            "the timeout must be above zero",
        ),
        (
            RedisStore::builder("redis://x").lease_time(Duration::ZERO),
            "the lease time at least 10 ms",
        ),
        (
            RedisStore::builder("redis://x").on_failure(OnFailure::LocalShare(f64::NAN)),
            "the local share must be between 0 and 1",
        ),
    ] {
        assert!(!format!("{store:?}").contains(secret));
        let error = store.build().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains(secret), "{error}");
    }
    let store = RedisStore::builder(format!("redis://:{secret}@127.0.0.1:1"));
    assert!(!format!("{:?}", store.build().unwrap()).contains(secret));
}
