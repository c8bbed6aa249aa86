//! How much an agent may use: requests and tokens, in sliding windows, by key, by model and overall.
//!
//! Three layers, each ignorant of the one above it. [`clock`] is the only place that reads a clock;
//! everything else is handed the time, read once per request. [`window`] counts one limit for one
//! key. [`ledger`] holds all windows of a policy and charges a call to every one that governs it, or
//! to none. [`store`] is the same for budgets that several processes share,
//! and `redis` one such store.
//!
//! The rule that is easily broken without noticing: every inexactness must be on the strict side. An
//! entry may leave its window late, never early; time may stand still, never run backwards; a key may
//! be refused, never forgotten while it still counts.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod clock;
mod ledger;
#[cfg(all(test, sekuire_loom))]
mod loom;
#[cfg(feature = "redis")]
mod redis;
mod store;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use clock::date;
pub use clock::{Clock, ManualClock, SystemClock};
pub(crate) use ledger::{Call, Exceeded, Ledger, LimitSpec, Models, Refusal, Scope, Ticket, Unit};
#[cfg(feature = "redis")]
pub use redis::{OnFailure, RedisStatus, RedisStore, RedisStoreBuilder, RedisStoreError};
pub use store::{Ask, Counted, Lease, LimitStore, MemoryStore, StoreFuture, StoreRefusal};
