//! Admission, extension and settlement under every order in which threads can take turns.
//!
//! Run by `RUSTFLAGS='--cfg sekuire_loom' cargo test --lib loom`: the ledger's lock is then loom's. The cfg has a name of its
//! own because dependencies change under `--cfg loom` too.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::{Call, Ledger, LimitSpec, Models, Refusal, Scope, Unit};

const NOW: Duration = Duration::from_secs(1);
const MAX: u64 = 10;

fn ledger(requests: u64) -> Arc<Ledger> {
    let limit = |scope, unit, max| LimitSpec {
        scope,
        unit,
        window: Duration::from_secs(60),
        max,
    };
    Arc::new(Ledger::new(vec![
        limit(Scope::PerAgent, Unit::Requests, requests),
        limit(Scope::PerAgent, Unit::Tokens, MAX),
        limit(Scope::Global, Unit::Tokens, MAX),
    ]))
}

fn call() -> Call {
    Call {
        agent: Arc::from("agent"),
        models: Models::default(),
    }
}

/// Used and reserved of a limit.
fn counted(ledger: &Ledger, limit: usize) -> (u64, u64) {
    let usage = ledger.usage(NOW, &call().agent);
    let usage = usage.iter().find(|usage| usage.limit == limit);
    usage.map_or((0, 0), |usage| (usage.used, usage.reserved))
}

#[test]
fn what_is_used_and_reserved_never_exceeds_a_limit() {
    loom::model(|| {
        let ledger = ledger(100);
        let spends = |tokens: u64| {
            let ledger = Arc::clone(&ledger);
            thread::spawn(move || {
                let Ok(mut ticket) = ledger.admit(NOW, call(), 6) else {
                    return 0;
                };
                let more = ledger.extend(NOW, &mut ticket, 1).is_ok();
                let tokens = tokens + u64::from(more);
                assert!(ledger.settle(NOW, ticket, tokens).is_ok());
                tokens
            })
        };
        let calls = [spends(3), spends(4)];
        for limit in [1, 2] {
            let (used, reserved) = counted(&ledger, limit);
            assert!(used + reserved <= MAX, "{used} + {reserved}");
        }
        let spent: u64 = calls.map(|call| call.join().unwrap()).iter().sum();
        assert!(spent >= 4);
        for limit in [1, 2] {
            assert_eq!(counted(&ledger, limit), (spent, 0));
        }
    });
}

#[test]
fn of_two_calls_under_a_limit_of_one_exactly_one_is_admitted() {
    loom::model(|| {
        let ledger = ledger(1);
        let calls = || {
            let ledger = Arc::clone(&ledger);
            thread::spawn(move || match ledger.admit(NOW, call(), 1) {
                Ok(ticket) => {
                    assert!(ledger.settle(NOW, ticket, 1).is_ok());
                    1
                }
                Err(Refusal::Exceeded(exceeded)) => {
                    assert_eq!(exceeded.limit, 0);
                    0
                }
                Err(Refusal::KeysFull) => panic!("one key"),
            })
        };
        let calls = [calls(), calls()];
        let admitted: u64 = calls.map(|call| call.join().unwrap()).iter().sum();
        assert_eq!(admitted, 1);
        // Who was refused has charged nothing.
        assert_eq!(counted(&ledger, 0), (1, 0));
        assert_eq!(counted(&ledger, 1), (1, 0));
    });
}
