//! Limits counted in Redis or Valkey, so that several processes share one budget.
//!
//! [`scripts`] is what the server does, in one step each; [`queue`] is what is sent behind the calls. Here is the store
//! itself: who is asked, for how long, and what holds when nobody answers.

mod queue;
mod scripts;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, RedisError, RedisResult};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use self::queue::{Queue, Work};
use self::scripts::Scripts;
use super::store::{Ask, Counted, Lease, LimitStore, MemoryStore, StoreFuture, StoreRefusal};

/// A [`LimitStore`] in Redis (6.2 or later) or Valkey.
///
/// Every process whose store has the same server and [prefix](RedisStoreBuilder::prefix) shares one budget. The windows
/// are exact as in memory, by the server's clock; one admission is one script and one round trip, and so is one
/// settlement, which nobody waits for. A reservation whose process died counts until its
/// [lease](RedisStoreBuilder::lease_time) expires, and is charged in full then.
///
/// Making one neither connects nor spawns; the first call does both, in its own tokio runtime, which needs I/O and time
/// enabled. Its settlements are sent by a task in the background: [`flush`](Self::flush) before the process ends.
///
/// A window takes up to three keys in the server, which expire when nothing in them counts any more: about 0.5 KiB, 22
/// bytes for each of at most 1,025 entries (23 KiB), and 150 bytes for each call in flight.
///
/// ```no_run
/// use tower_sekuire::{Policy, PolicyEnforcer, RedisStore, SekuireLayer};
///
/// let policy = Policy::from_yaml("rate_limits: { global: { tokens_per_day: 1000000 } }")?;
/// let store = RedisStore::builder("redis://127.0.0.1:6379").build()?;
/// let enforcer = PolicyEnforcer::new(policy).limit_store(store.clone());
/// let layer = SekuireLayer::from_enforcer(enforcer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Handles>);

/// Closes the queue when the last handle is gone; its task lives on until everything is sent.
struct Handles(Arc<Shared>);

impl Drop for Handles {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("RedisStore")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// What holds while the server can't be reached, or answers too late.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Calls are refused, and streams that need more than was reserved for them end.
    Refuse,
    /// Calls are counted in this process alone, under this fraction of each limit, between 0 and 1: with ten gateways,
    /// a tenth each keeps the budget whole. What is counted so isn't carried over when the server is back, nor is what
    /// the server has counted known meanwhile, so a window may see up to twice its limit across an outage. Streams may
    /// outgrow what was reserved for them.
    LocalShare(f64),
}

/// Makes a [`RedisStore`].
#[derive(Clone)]
#[must_use]
pub struct RedisStoreBuilder {
    url: String,
    prefix: String,
    timeout: Duration,
    lease_time: Duration,
    on_failure: OnFailure,
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("lease_time", &self.lease_time)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

/// Why there is no store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisStoreError(String);

impl fmt::Display for RedisStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RedisStoreError {}

impl RedisStoreBuilder {
    /// What the store's keys begin with, `sekuire` by default: processes with the same share a budget. In braces, so
    /// that a cluster keeps all of them on one node.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a call waits for the server, 250 ms by default, before [what holds on failure](Self::on_failure) does.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a reservation counts after its process was last heard of, a minute by default. Reservations of calls in
    /// flight are renewed three times in it, however long the calls take.
    pub fn lease_time(mut self, time: Duration) -> Self {
        self.lease_time = time;
        self
    }

    /// What holds while the server can't be reached: by default, calls are refused.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// The store. Nothing is connected yet.
    ///
    /// # Errors
    /// When the address can't be read or needs TLS without the feature `redis-tls`, the prefix is empty or has braces, a
    /// time is zero, or a share isn't between 0 and 1. The address, which may hold a password, is never told.
    pub fn build(self) -> Result<RedisStore, RedisStoreError> {
        let wrong = |why: &str| Err(RedisStoreError(why.to_owned()));
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return wrong("the key prefix must not be empty, nor have braces");
        }
        if self.timeout.is_zero() || self.lease_time < Duration::from_millis(10) {
            return wrong("the timeout must be above zero, and the lease time at least 10 ms");
        }
        if let OnFailure::LocalShare(share) = self.on_failure
            && !(0.0..=1.0).contains(&share)
        {
            return wrong("the local share must be between 0 and 1");
        }
        let client = Client::open(self.url).map_err(|error| {
            // Its details may quote the address.
            let what = "the Redis address can't be used: expected redis://HOST:PORT/DATABASE";
            match error.kind() {
                ::redis::ErrorKind::InvalidClientConfig if cfg!(not(feature = "redis-tls")) => {
                    RedisStoreError(format!("{what}; rediss:// needs the feature `redis-tls`"))
                }
                _ => RedisStoreError(what.to_owned()),
            }
        })?;
        #[cfg(feature = "redis-tls")]
        if matches!(
            client.get_connection_info().addr(),
            ::redis::ConnectionAddr::TcpTls { .. }
        ) && rustls::crypto::CryptoProvider::get_default().is_none()
        {
            // Without one the client would panic where several are compiled in. Somebody was faster: theirs is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let shared = Shared {
            scripts: Scripts::new(&self.prefix, self.lease_time),
            client,
            timeout: self.timeout,
            lease_time: self.lease_time,
            on_failure: self.on_failure,
            names: random_name(),
            next: AtomicU64::new(0),
            link: Mutex::default(),
            queue: Queue::default(),
            local: MemoryStore::default(),
            unanswered: AtomicU64::new(0),
            counted_here: AtomicU64::new(0),
        };
        Ok(RedisStore(Arc::new(Handles(Arc::new(shared)))))
    }
}

/// How a [`RedisStore`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStatus {
    /// Whether the latest question was answered. True before the first.
    pub reachable: bool,
    /// Admissions that the server didn't answer in time.
    pub unanswered: u64,
    /// Of those, the ones that were counted in this process instead.
    pub counted_here: u64,
    /// Settlements and extensions on their way.
    pub waiting: usize,
    /// Settlements that were given up. Their reservations expire, and are charged in full.
    pub lost: u64,
    /// Reservations that are open.
    pub open: usize,
}

impl RedisStore {
    /// A store at an address such as `redis://:PASSWORD@HOST:PORT/DATABASE`, `unix:///PATH`, or, with feature
    /// `redis-tls`, `rediss://HOST:PORT`.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            url: url.into(),
            prefix: "sekuire".to_owned(),
            timeout: Duration::from_millis(250),
            lease_time: Duration::from_secs(60),
            on_failure: OnFailure::Refuse,
        }
    }

    /// How the store does, for a dashboard or an alarm.
    #[must_use]
    pub fn status(&self) -> RedisStatus {
        let shared = &self.0.0;
        RedisStatus {
            reachable: shared.lock().failures == 0,
            unanswered: shared.unanswered.load(Ordering::Relaxed),
            counted_here: shared.counted_here.load(Ordering::Relaxed),
            waiting: shared.queue.waiting(),
            lost: shared.queue.lost(),
            open: shared.queue.open(),
        }
    }

    /// Waits until the settlements so far are with the server, but not for longer than `timeout`. Tells whether they
    /// are. For the end of a process: what isn't sent then stays reserved until it expires, and is charged in full.
    pub async fn flush(&self, timeout: Duration) -> bool {
        let idle = Queue::idle(&self.0.0);
        tokio::time::timeout(timeout, idle).await.is_ok()
    }
}

/// What the handles and the task in the background share.
struct Shared {
    client: Client,
    scripts: Scripts,
    timeout: Duration,
    lease_time: Duration,
    on_failure: OnFailure,
    /// What this process's leases begin with.
    names: String,
    next: AtomicU64,
    link: Mutex<Link>,
    queue: Queue,
    /// Counts while the server can't be reached.
    local: MemoryStore,
    unanswered: AtomicU64,
    counted_here: AtomicU64,
}

/// The connection, and how it does.
#[derive(Default)]
struct Link {
    manager: Option<ConnectionManager>,
    /// Since something was last answered.
    failures: u32,
    down_until: Option<Instant>,
}

/// What is worth a line in the log.
enum Change {
    Away,
    Back,
}

/// As many questions in a row without an answer, and nobody is asked for [`REST`].
const PATIENCE: u32 = 3;

const REST: Duration = Duration::from_millis(500);

/// Between attempts at a connection.
const LEAST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_millis(500);

/// Commands on their way to the connection's task.
const PIPELINE: usize = 1_024;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, unless the server is known to be away. To be called in a runtime.
    fn link(&self) -> Option<ConnectionManager> {
        tokio::runtime::Handle::try_current().ok()?;
        let mut link = self.lock();
        if link.down_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        if link.manager.is_none() {
            let config = ConnectionManagerConfig::new()
                .set_min_delay(LEAST_DELAY)
                .set_max_delay(LONGEST_DELAY)
                .set_number_of_retries(2)
                // Whoever asks has a deadline of its own.
                .set_response_timeout(None)
                .set_connection_timeout(Some(self.timeout.max(Duration::from_secs(1))))
                .set_pipeline_buffer_size(PIPELINE);
            let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config);
            link.manager = manager.ok();
        }
        link.manager.clone()
    }

    /// Takes note of whether there was an answer, and gives it on.
    fn heard<T>(&self, answer: Result<RedisResult<T>, Elapsed>) -> Option<T> {
        let (answer, why) = match answer {
            Ok(Ok(answer)) => (Some(answer), String::new()),
            Ok(Err(error)) => (None, describe(&error)),
            Err(_) => (None, "no answer in time".to_owned()),
        };
        // Told when the lock is free again: whoever listens may ask how the store does.
        match self.note(answer.is_some()) {
            Some(Change::Away) => tracing::warn!(why, "the limit store doesn't answer"),
            Some(Change::Back) => tracing::info!("the limit store answers again"),
            None => {}
        }
        answer
    }

    fn note(&self, answered: bool) -> Option<Change> {
        let mut link = self.lock();
        if answered {
            let back = (link.failures >= PATIENCE).then_some(Change::Back);
            link.failures = 0;
            link.down_until = None;
            return back;
        }
        link.failures = link.failures.saturating_add(1);
        if link.failures >= PATIENCE {
            link.down_until = Instant::now().checked_add(REST);
            // It may be one whose peer vanished without a word, or whose runtime has ended.
            link.manager = None;
        }
        (link.failures == PATIENCE).then_some(Change::Away)
    }

    async fn reserve(
        self: Arc<Self>,
        asks: Vec<Ask>,
        enforce: bool,
    ) -> Result<Lease, StoreRefusal> {
        Queue::work(&self);
        let id = format!(
            "{}:{}",
            self.names,
            self.next.fetch_add(1, Ordering::Relaxed)
        );
        let Some(link) = self.link() else {
            return self.reserve_here(asks, enforce);
        };
        let mut release = Release {
            shared: &self,
            lease: Some(Lease::new(id, asks, None)),
        };
        let Some(lease) = release.lease.clone() else {
            return Err(StoreRefusal::Unavailable);
        };
        let asked = self.ask_until_answered(link, &lease, enforce);
        let answer = self.heard(tokio::time::timeout(self.timeout, asked).await);
        let Some(answer) = answer else {
            // It is released as well: the server may have done what was asked, and only the answer be missing.
            return self.reserve_here(lease.asks().to_vec(), enforce);
        };
        release.lease = None;
        let counted = answer.counted;
        match answer.refusal {
            Some(refusal) if enforce => Err(refusal),
            refusal => {
                let lease = Lease::new(lease.id().to_owned(), lease.asks().to_vec(), refusal);
                let lease = lease.with_counted(counted);
                self.queue.opened(&lease);
                Ok(lease)
            }
        }
    }

    /// A connection that breaks while it is used is one that the server closed long ago, as at its restart: asked
    /// again, for as long as the caller waits.
    async fn ask_until_answered(
        &self,
        mut link: ConnectionManager,
        lease: &Lease,
        enforce: bool,
    ) -> RedisResult<scripts::Reserved> {
        let mut again = false;
        let mut pause = Duration::from_millis(1);
        loop {
            let scripts = &self.scripts;
            let answer = scripts.reserve(&mut link, lease.id(), lease.asks(), enforce, again);
            match answer.await {
                Err(error) if error.is_connection_dropped() => {}
                answer => return answer,
            }
            again = true;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    fn reserve_here(&self, asks: Vec<Ask>, enforce: bool) -> Result<Lease, StoreRefusal> {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let OnFailure::LocalShare(share) = self.on_failure else {
            return Err(StoreRefusal::Unavailable);
        };
        self.counted_here.fetch_add(1, Ordering::Relaxed);
        let asks = asks.into_iter().map(|ask| share_of(ask, share)).collect();
        self.local.reserve_now(asks, enforce)
    }

    /// Whether a lease is of the server, not of this process.
    fn is_shared(&self, lease: &Lease) -> bool {
        lease.id().starts_with(&self.names)
    }
}

fn share_of(mut ask: Ask, share: f64) -> Ask {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of a limit, rounded down: `as` saturates, and a share is between 0 and 1"
    )]
    let max = (ask.max as f64 * share) as u64;
    ask.max = max.min(ask.max);
    ask.amount = ask.amount.min(ask.max.max(1));
    ask
}

/// Gives back what was asked for when its answer never came: the caller lost patience, or went away.
struct Release<'a> {
    shared: &'a Arc<Shared>,
    lease: Option<Lease>,
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            Queue::push(self.shared, &lease, Work::Settle(0));
        }
    }
}

impl LimitStore for RedisStore {
    fn reserve(&self, asks: Vec<Ask>, enforce: bool) -> StoreFuture<Result<Lease, StoreRefusal>> {
        Box::pin(Arc::clone(&self.0.0).reserve(asks, enforce))
    }

    fn extend(&self, lease: &Lease, tokens: u64) {
        let shared = &self.0.0;
        if shared.is_shared(lease) {
            Queue::push(shared, lease, Work::Extend(tokens));
        } else {
            shared.local.extend(lease, tokens);
        }
    }

    fn settle(&self, lease: &Lease, tokens: u64) {
        let shared = &self.0.0;
        if shared.is_shared(lease) {
            Queue::push(shared, lease, Work::Settle(tokens));
        } else {
            shared.local.settle(lease, tokens);
        }
    }

    fn usage(&self, asks: Vec<Ask>) -> StoreFuture<Result<Vec<Counted>, StoreRefusal>> {
        let shared = Arc::clone(&self.0.0);
        Box::pin(async move {
            let Some(mut link) = shared.link() else {
                return Err(StoreRefusal::Unavailable);
            };
            let usage = shared.scripts.usage(&mut link, &asks);
            let answer = tokio::time::timeout(shared.timeout, usage).await;
            shared.heard(answer).ok_or(StoreRefusal::Unavailable)
        })
    }
}

/// What went wrong, without the server's own words: they may quote what was sent.
fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{}: {code}", error.category()),
        None => error.category().to_owned(),
    }
}

/// Tells one process's leases from another's. Each [`RandomState`] is keyed by the system's randomness.
fn random_name() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
