//! Stops calls at once, whatever the policy says: all of them, or one agent's.
//!
//! INVARIANT: whoever waits has left its waker before it looks whether it was stopped, and whoever stops says so before it
//! wakes. So no order of the two leaves a call asleep that was stopped.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
#[cfg(feature = "reqwest-middleware")]
use std::{
    future::{Future, poll_fn},
    pin::pin,
};

use crate::accounting::AgentKey;
use crate::respond::Respond;
use crate::violation::{PolicyViolation, Rule, Seen, shown};

/// Whom a [`KillSwitch`] stops.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KillScope {
    /// Every call of the layers that have the switch.
    Everything,
    /// The calls that count for this agent: by their own [`AgentKey`], or by the name of the policy's agent.
    Agent(AgentKey),
}

impl fmt::Display for KillScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Agent(agent) => write!(f, "agent {}", shown(agent.as_str())),
        }
    }
}

/// A handle that stops calls at once. Clones are one switch, and several layers may have it.
///
/// While a scope is stopped, each of its calls is refused with [`Rule::KillSwitch`] before anything leaves (403 with
/// [`Respond::OpenAi`](crate::Respond::OpenAi)), and each that is under way ends with the same violation: a call that waits
/// for its answer is given up, a stream ends in the middle. That holds in every [`Mode`](crate::Mode), for calls that pass
/// unread too: it is somebody's order, not the policy's. The server's connection is dropped with the body; what the call used is
/// charged.
///
/// A JSON answer that was judged and handed over is delivered. A body that nobody polls keeps its connection until somebody does, but
/// no more of it leaves.
///
/// A call that passes unread and is stopped under way fails like the others, but no decision is told of its end, as none is of
/// any such call's.
///
/// It costs each poll of a call one atomic load, each call one allocation, and each that has to wait a lock that its thread
/// shares with few others.
///
/// ```
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use std::convert::Infallible;
/// # tokio_test::block_on(async {
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_sekuire::{KillScope, KillSwitch, Policy, PolicyViolation, Rule, SekuireLayer};
///
/// # let client = tower::service_fn(|_: Request<Full<Bytes>>| async {
/// #     Ok::<_, Infallible>(Response::builder().header("content-type", "application/json").body(Full::from("{}")).unwrap())
/// # });
/// let switch = KillSwitch::new();
/// let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
/// let layer = SekuireLayer::new(policy).kill_switch(&switch);
/// let mut governed = ServiceBuilder::new().layer(layer).service(client);
/// let request = || {
///     Request::post("https://api.openai.com/v1/chat/completions")
///         .header("content-type", "application/json")
///         .body(Full::from(r#"{"model":"gpt-4o","messages":[]}"#))
/// };
///
/// switch.kill(KillScope::Everything, "it deletes things");
/// let error = governed.ready().await?.call(request()?).await.unwrap_err();
/// let violation = PolicyViolation::find(&*error).unwrap();
/// assert_eq!(violation.rule(), Rule::KillSwitch);
/// assert_eq!(violation.message(), "calls are stopped by the kill switch: it deletes things");
///
/// switch.restore(&KillScope::Everything);
/// assert!(governed.ready().await?.call(request()?).await.is_ok());
/// # Ok::<(), tower_sekuire::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct KillSwitch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How many scopes are stopped. Mostly none, and then nobody looks which.
    stopped: AtomicUsize,
    /// With the reason for each.
    scopes: Mutex<HashMap<KillScope, String>>,
    waiting: [Shard; SHARDS],
}

/// The calls that have something to wait for are kept in so many places, so that threads needn't wait for each other.
const SHARDS: usize = 16;

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shard(Mutex<Waiting>);

/// Calls that wait, each at a place of its own.
#[derive(Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    /// Places that are free.
    free: Vec<usize>,
}

impl Waiting {
    fn enter(&mut self, waker: Waker) -> usize {
        let place = self.free.pop().unwrap_or(self.wakers.len());
        match self.wakers.get_mut(place) {
            Some(free) => *free = Some(waker),
            None => self.wakers.push(Some(waker)),
        }
        place
    }

    /// Returns the waker that was there before: to drop it may run anything.
    fn change(&mut self, place: usize, waker: Waker) -> Option<Waker> {
        self.wakers.get_mut(place)?.replace(waker)
    }

    /// Returns the waker that was left there: to drop it may run anything.
    fn leave(&mut self, place: usize) -> Option<Waker> {
        let left = self.wakers.get_mut(place)?.take();
        self.free.push(place);
        if self.free.len() == self.wakers.len() {
            // The memory of the busiest hour isn't kept.
            self.wakers.truncate(0);
            self.free.truncate(0);
            self.wakers.shrink_to(KEPT_PLACES);
            self.free.shrink_to(KEPT_PLACES);
        }
        left
    }
}

/// Places for which there is room when nobody waits.
const KEPT_PLACES: usize = 64;

thread_local! {
    /// Where this thread's calls wait.
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let known = SHARD.try_with(Cell::get).ok().flatten();
    known.unwrap_or_else(|| {
        let shard = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let _ = SHARD.try_with(|known| known.set(Some(shard)));
        shard
    })
}

impl KillSwitch {
    /// A switch that stops nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the calls of this scope, those under way included, until it is [restored](Self::restore).
    ///
    /// The reason is told to whoever is refused: escaped, and at most 128 characters of it. It may be empty.
    pub fn kill(&self, scope: KillScope, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::warn!(target: "tower_sekuire", %scope, reason = %shown(&reason), "the kill switch stops calls");
        let mut scopes = lock(&self.shared.scopes);
        scopes.insert(scope, reason);
        self.shared.stopped.store(scopes.len(), Ordering::Release);
        drop(scopes);
        for shard in &self.shared.waiting {
            // Copied, since a waker may run anything.
            let waiting: Vec<_> = lock(&shard.0).wakers.iter().flatten().cloned().collect();
            for waker in waiting {
                waker.wake();
            }
        }
    }

    /// Lets the calls of this scope through again, unless another one that is stopped has them. Returns whether it was stopped.
    pub fn restore(&self, scope: &KillScope) -> bool {
        let mut scopes = lock(&self.shared.scopes);
        let was_stopped = scopes.remove(scope).is_some();
        self.shared.stopped.store(scopes.len(), Ordering::Release);
        drop(scopes);
        if was_stopped {
            tracing::warn!(target: "tower_sekuire", %scope, "the kill switch lets calls through again");
        }
        was_stopped
    }

    /// What is stopped, and why, in no particular order.
    #[must_use]
    pub fn killed(&self) -> Vec<(KillScope, String)> {
        let scopes = lock(&self.shared.scopes);
        scopes
            .iter()
            .map(|(scope, reason)| (scope.clone(), reason.clone()))
            .collect()
    }

    #[inline]
    fn violation(&self, agents: &Agents) -> Option<PolicyViolation> {
        if self.shared.stopped.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.look(agents)
    }

    #[cold]
    fn look(&self, agents: &Agents) -> Option<PolicyViolation> {
        let scopes = lock(&self.shared.scopes);
        let everything = scopes.get(&KillScope::Everything);
        let (stopped, reason) = match everything {
            Some(reason) => (None, reason),
            None => [&agents.counted, &agents.policys]
                .into_iter()
                .find_map(|agent| {
                    let scope = KillScope::Agent(AgentKey::new(agent.clone()));
                    scopes.get(&scope).map(|reason| (Some(agent), reason))
                })?,
        };
        let mut message = match stopped {
            None => "calls are stopped by the kill switch".to_owned(),
            Some(agent) => format!(
                "calls of agent {} are stopped by the kill switch",
                shown(agent)
            ),
        };
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(&shown(reason));
        }
        let violation = PolicyViolation::new(Rule::KillSwitch, Seen::Request, message)
            .with_help("whoever stopped them lets them through again: `KillSwitch::restore`, `POST /sekuire/restore` of the gateway's admin listener");
        Some(match stopped {
            None => violation,
            Some(agent) => violation.with_value(agent),
        })
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("killed", &self.killed())
            .finish_non_exhaustive()
    }
}

/// By which names a call may be stopped.
#[derive(Debug)]
struct Agents {
    counted: Arc<str>,
    policys: Arc<str>,
}

/// A call that a switch may stop.
pub(crate) struct Leash {
    switch: KillSwitch,
    agents: Agents,
    respond: Respond,
    /// What was left where the switch finds it, from the first wait on.
    waits: Option<Waits>,
}

struct Waits {
    shard: usize,
    place: usize,
    /// As it was left there; compared without the lock.
    waker: Waker,
}

impl Leash {
    /// A call that counts for `counted` under the policy of `policys`.
    pub(crate) fn new(
        switch: &KillSwitch,
        counted: Arc<str>,
        policys: Arc<str>,
        respond: Respond,
    ) -> Self {
        Self {
            switch: switch.clone(),
            agents: Agents { counted, policys },
            respond,
            waits: None,
        }
    }

    /// How the client is to meet that.
    pub(crate) const fn respond(&self) -> Respond {
        self.respond
    }

    /// Why the call is stopped, if it is.
    #[inline]
    pub(crate) fn pulled(&self) -> Option<PolicyViolation> {
        self.switch.violation(&self.agents)
    }

    /// As [`pulled`](Self::pulled); otherwise the task is woken when it is.
    pub(crate) fn poll_pulled(&mut self, cx: &Context<'_>) -> Poll<PolicyViolation> {
        let waker = cx.waker();
        match &mut self.waits {
            Some(waits) if waits.waker.will_wake(waker) => {}
            Some(waits) => {
                waits.waker.clone_from(waker);
                if let Some(shard) = self.switch.shared.waiting.get(waits.shard) {
                    let before = lock(&shard.0).change(waits.place, waker.clone());
                    drop(before);
                }
            }
            None => {
                let at = shard();
                if let Some(shard) = self.switch.shared.waiting.get(at) {
                    self.waits = Some(Waits {
                        shard: at,
                        place: lock(&shard.0).enter(waker.clone()),
                        waker: waker.clone(),
                    });
                }
            }
        }
        self.pulled().map_or(Poll::Pending, Poll::Ready)
    }

    /// What `future` comes to, unless the call is stopped before.
    #[cfg(feature = "reqwest-middleware")]
    pub(crate) async fn unless_pulled<F: Future>(
        leash: Option<&mut Self>,
        future: F,
    ) -> Result<F::Output, PolicyViolation> {
        let Some(leash) = leash else {
            return Ok(future.await);
        };
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(violation) = leash.pulled() {
                return Poll::Ready(Err(violation));
            }
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => leash.poll_pulled(cx).map(Err),
            }
        })
        .await
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(waits) = &self.waits
            && let Some(shard) = self.switch.shared.waiting.get(waits.shard)
        {
            let left = lock(&shard.0).leave(waits.place);
            drop(left);
        }
    }
}

impl fmt::Debug for Leash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leash").field(&self.agents).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole whenever its lock is free.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
