//! Stops calls at once, whatever the policy says: all of them, or one agent's.
//!
//! INVARIANT: whoever waits has left its waker before it looks whether it was stopped, and whoever stops says so before it
//! wakes. So no order of the two leaves a call asleep that was stopped.

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
/// It costs each poll of a call one atomic load, each call one allocation, and each that has to wait another.
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
    waiting: Mutex<Waiting>,
}

/// The calls that have something to wait for.
#[derive(Default)]
struct Waiting {
    next: u64,
    calls: HashMap<u64, Arc<Waiter>>,
}

#[derive(Default)]
struct Waiter(Mutex<Option<Waker>>);

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
        // Copied, since a waker may run anything.
        let waiting: Vec<_> = lock(&self.shared.waiting).calls.values().cloned().collect();
        for waiter in waiting {
            let waker = lock(&waiter.0).clone();
            if let Some(waker) = waker {
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
    place: u64,
    waiter: Arc<Waiter>,
    /// As in the waiter; compared without its lock.
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
                *lock(&waits.waiter.0) = Some(waker.clone());
            }
            None => {
                let waiter = Arc::new(Waiter(Mutex::new(Some(waker.clone()))));
                let mut waiting = lock(&self.switch.shared.waiting);
                let place = waiting.next;
                waiting.next = place.wrapping_add(1);
                waiting.calls.insert(place, waiter.clone());
                self.waits = Some(Waits {
                    place,
                    waiter,
                    waker: waker.clone(),
                });
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
        if let Some(waits) = &self.waits {
            lock(&self.switch.shared.waiting).calls.remove(&waits.place);
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
