//! What is done behind the calls: settlements, extensions and renewals, for which nobody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::scripts::token_windows;
use super::{OnFailure, Shared};
use crate::limits::store::{Lease, WeakLease};

/// Held in memory while the server can't be reached. Beyond it, settlements are dropped: their leases expire, charged
/// at what they reserved.
const MAX_JOBS: usize = 65_536;

/// Sent at once.
const BATCH: usize = 256;

const LEAST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Of a server that lets a batch wait.
const LEAST_BATCH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) lease: Lease,
    pub(super) work: Work,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Ends the lease and charges so many tokens.
    Settle(u64),
    /// Asks for so many tokens more.
    Extend(u64),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    /// Told whenever nothing is left to do.
    idle: Notify,
    /// Whether a task does the work. A runtime that ends takes its task along; the next call starts another.
    working: AtomicBool,
    /// Nobody holds the store any more.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The front is being sent, and leaves when it was answered: what is lost with a task isn't.
    jobs: VecDeque<Job>,
    /// Leases with tokens that aren't settled, to be renewed.
    open: HashMap<String, WeakLease>,
    lost: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn opened(&self, lease: &Lease) {
        if token_windows(lease.asks()).next().is_some() {
            let mut state = self.lock();
            state.open.insert(lease.id().to_owned(), lease.downgrade());
        }
    }

    /// Takes a job up, to be done by a task of the runtime that this is called in, or of one that calls later.
    pub(super) fn push(shared: &Arc<Shared>, lease: &Lease, work: Work) {
        if token_windows(lease.asks()).next().is_none() {
            return;
        }
        let queue = &shared.queue;
        let mut state = queue.lock();
        if matches!(work, Work::Settle(_)) {
            state.open.remove(lease.id());
        }
        if state.jobs.len() >= MAX_JOBS {
            state.lost = state.lost.saturating_add(1);
            drop(state);
            if let Work::Extend(tokens) = work {
                shared.extension_failed(lease, tokens);
            }
            return;
        }
        state.jobs.push_back(Job {
            lease: lease.clone(),
            work,
            since: Instant::now(),
        });
        drop(state);
        queue.wake.notify_one();
        Self::work(shared);
    }

    /// Starts the task, unless it runs or there is no runtime here.
    pub(super) fn work(shared: &Arc<Shared>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !shared.queue.working.swap(true, Ordering::AcqRel) {
            let working = Working(Arc::clone(shared));
            runtime.spawn(async move { working.run().await });
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits until nothing is left to do.
    pub(super) async fn idle(shared: &Arc<Shared>) {
        loop {
            let idle = shared.queue.idle.notified();
            Self::work(shared);
            if shared.queue.waiting() == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lock().lost
    }

    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    fn batch(&self) -> Vec<Job> {
        let state = self.lock();
        state.jobs.iter().take(BATCH).cloned().collect()
    }

    /// The leases that are still held by somebody. One that was dropped without being settled expires.
    fn held(&self) -> Vec<Lease> {
        let mut state = self.lock();
        state.open.retain(|_, lease| lease.upgrade().is_some());
        state.open.values().filter_map(WeakLease::upgrade).collect()
    }
}

/// The task. Whatever ends it, the next call sees that it has ended.
struct Working(Arc<Shared>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.queue.working.store(false, Ordering::Release);
    }
}

impl Working {
    async fn run(self) {
        let shared = &self.0;
        let every = shared.lease_time.checked_div(3).unwrap_or_default();
        let mut renewed = Instant::now();
        let mut pause = LEAST_PAUSE;
        loop {
            if renewed.elapsed() >= every {
                renewed = Instant::now();
                self.renew().await;
            }
            let batch = shared.queue.batch();
            if batch.is_empty() {
                shared.queue.idle.notify_waiters();
                if shared.queue.closed.load(Ordering::Acquire) {
                    return;
                }
                let rest = every.saturating_sub(renewed.elapsed());
                // Either way there is something to do.
                let _ = tokio::time::timeout(rest, shared.queue.wake.notified()).await;
                continue;
            }
            if self.send(batch).await {
                pause = LEAST_PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Tells whether all was answered. What wasn't is at the front again, unless it has come too late.
    async fn send(&self, batch: Vec<Job>) -> bool {
        let shared = &self.0;
        let within = shared.timeout.max(LEAST_BATCH_TIMEOUT);
        let each = batch.iter().map(|job| async move {
            let mut link = shared.link()?;
            let done = match job.work {
                Work::Settle(tokens) => {
                    let lease = &job.lease;
                    let settled =
                        shared
                            .scripts
                            .settle(&mut link, lease.id(), lease.asks(), tokens);
                    tokio::time::timeout(within, settled).await
                }
                Work::Extend(tokens) => {
                    let lease = &job.lease;
                    let granted =
                        shared
                            .scripts
                            .extend(&mut link, lease.id(), lease.asks(), tokens);
                    let granted = tokio::time::timeout(within, granted).await;
                    granted.map(|granted| {
                        granted.map(|granted| match granted {
                            (0, tightest) => lease.refuse_by(tightest),
                            (granted, _) => lease.granted(granted),
                        })
                    })
                }
            };
            shared.heard(done)
        });
        let done = join_all(each).await;
        let mut again = Vec::new();
        let mut lost: u64 = 0;
        for (job, done) in batch.into_iter().zip(&done) {
            match (done, job.work) {
                (Some(()), _) => {}
                // The stream goes on meanwhile, so it is told now.
                (None, Work::Extend(tokens)) => shared.extension_failed(&job.lease, tokens),
                // By now it has expired, or will before it could be settled.
                (None, Work::Settle(_)) if job.since.elapsed() > shared.lease_time => {
                    lost = lost.saturating_add(1);
                }
                (None, Work::Settle(_)) => again.push(job),
            }
        }
        let mut state = shared.queue.lock();
        state.jobs.drain(..done.len());
        let all = again.is_empty();
        for job in again.into_iter().rev() {
            state.jobs.push_front(job);
        }
        state.lost = state.lost.saturating_add(lost);
        all
    }

    async fn renew(&self) {
        let shared = &self.0;
        for leases in shared.queue.held().chunks(BATCH) {
            let each = leases.iter().map(|lease| async move {
                let mut link = shared.link()?;
                let renewed = shared.scripts.renew(&mut link, lease.id(), lease.asks());
                shared.heard(tokio::time::timeout(shared.timeout, renewed).await)
            });
            // Missed twice, a lease still has a third of its time.
            let _ = join_all(each).await;
        }
    }
}

impl Shared {
    /// A stream asked for more, and nobody could say whether there is.
    pub(super) fn extension_failed(&self, lease: &Lease, tokens: u64) {
        match self.on_failure {
            OnFailure::Refuse => lease.refuse(),
            OnFailure::LocalShare(_) => lease.granted(tokens),
        }
    }
}
