//! What every store of limits keeps to, asked of each there is.
//!
//! The tests of the Redis store need a `redis-server` on the path and are ignored without being asked for:
//! `cargo test --all-features --test limit_store -- --ignored`.

#![cfg(test)]

#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod suite;

use std::sync::Arc;

use suite::{Subject, suite};
use tower_sekuire::{LimitStore, MemoryStore};

struct Memory(MemoryStore);

impl Subject for Memory {
    fn store(&self) -> Arc<dyn LimitStore> {
        Arc::new(self.0.clone())
    }

    async fn settled(&self) {}
}

async fn memory() -> Memory {
    Memory(MemoryStore::default())
}

suite!(memory);
