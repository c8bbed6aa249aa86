//! Where a layer takes its policy from: one that stays, one that is replaced while calls are under way, or one that each
//! request brings along.
//!
//! INVARIANT: a call asks once, when its request is first seen, and is held to that policy in both directions. What
//! is replaced meanwhile holds for the calls after it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use http::request;

use crate::enforcer::PolicyEnforcer;
use crate::policy::Policy;

/// What decides about each call of a layer, given to [`SekuireLayer::from_source`](crate::SekuireLayer::from_source).
///
/// Implemented by a [`PolicyEnforcer`] that stays as it is, a [`LivePolicy`] that can be replaced, and [`PerRequest`].
/// The cost of each call is that of one [`choose`](Self::choose).
pub trait PolicySource: Send + Sync + 'static {
    /// The enforcer of this moment, for questions that no request asks.
    fn current(&self) -> PolicyEnforcer;

    /// The enforcer of a call, asked for once, when its request comes. Must not wait. [`current`](Self::current) unless
    /// implemented.
    fn choose(&self, request: &request::Parts) -> PolicyEnforcer {
        let _ = request;
        self.current()
    }
}

impl PolicySource for PolicyEnforcer {
    fn current(&self) -> Self {
        self.clone()
    }
}

/// A policy for each request: the [`PolicyEnforcer`] among its extensions, which something above the layer puts there,
/// or else a common one.
///
/// Keep one enforcer for each tenant and clone it into their requests: its clones share their counters. Requests
/// that must not go out without a tenant's policy are kept from it by a common policy that allows nothing.
///
/// ```
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use std::convert::Infallible;
/// # tokio_test::block_on(async {
/// use tower::{Service, ServiceBuilder, ServiceExt};
/// use tower_sekuire::{PerRequest, Policy, PolicyEnforcer, PolicyViolation, Rule, SekuireLayer};
///
/// # let client = tower::service_fn(|_: Request<Full<Bytes>>| async {
/// #     Ok::<_, Infallible>(Response::builder().header("content-type", "application/json").body(Full::from("{}")).unwrap())
/// # });
/// let nobody = Policy::from_yaml("permissions: { network: { enabled: false } }")?;
/// let source = PerRequest::or(PolicyEnforcer::new(nobody));
/// let mut governed = ServiceBuilder::new().layer(SekuireLayer::from_source(source)).service(client);
///
/// let writer = PolicyEnforcer::new(Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?);
/// let ask = |tenant: Option<&PolicyEnforcer>| {
///     let request = Request::post("https://api.openai.com/v1/chat/completions").header("content-type", "application/json");
///     let request = match tenant {
///         Some(tenant) => request.extension(tenant.clone()),
///         None => request,
///     };
///     request.body(Full::from(r#"{"model":"gpt-4o","messages":[]}"#))
/// };
/// assert!(governed.ready().await?.call(ask(Some(&writer))?).await.is_ok());
/// let error = governed.ready().await?.call(ask(None)?).await.unwrap_err();
/// assert_eq!(PolicyViolation::find(&*error).unwrap().rule(), Rule::NetworkDisabled);
/// # Ok::<(), tower_sekuire::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct PerRequest {
    common: PolicyEnforcer,
}

impl PerRequest {
    /// The request's own policy, or else `common`.
    #[must_use]
    pub const fn or(common: PolicyEnforcer) -> Self {
        Self { common }
    }
}

impl PolicySource for PerRequest {
    fn current(&self) -> PolicyEnforcer {
        self.common.clone()
    }

    fn choose(&self, request: &request::Parts) -> PolicyEnforcer {
        let own = request.extensions.get::<PolicyEnforcer>();
        own.unwrap_or(&self.common).clone()
    }
}

/// A policy that can be replaced while calls are under way. Clones are one policy.
///
/// A call under way ends by the policy under which it began; those after the replacement begin by the new one, and what
/// was counted [goes on counting](PolicyEnforcer::with_policy).
///
/// ```
/// use tower_sekuire::{LivePolicy, Policy, PolicyEnforcer, SekuireLayer};
///
/// let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
/// let live = LivePolicy::new(PolicyEnforcer::new(policy));
/// let layer = SekuireLayer::from_source(live.clone());
///
/// live.replace(Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o, o3] } }")?);
/// assert!(layer.enforcer().enforce_model("o3").is_ok());
/// assert_eq!(live.status().version(), 2);
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct LivePolicy {
    shared: Arc<Shared>,
}

struct Shared {
    now: RwLock<PolicyEnforcer>,
    status: Mutex<Standing>,
}

/// A status, and when its policy came in force.
struct Standing {
    status: PolicyStatus,
    since: Duration,
}

/// How a [`LivePolicy`] came to be what it is.
#[derive(Clone, Debug)]
pub struct PolicyStatus {
    version: u64,
    hash: Option<String>,
    age: Duration,
    failures: u64,
    last_error: Option<String>,
}

impl PolicyStatus {
    /// Which policy is in force, counted from 1 with each replacement.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The SHA-256 of the file that is in force, in hexadecimal digits as `sha256sum` prints them. `None` for a policy that was
    /// no file.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_deref()
    }

    /// How long the policy has been in force.
    #[must_use]
    pub const fn age(&self) -> Duration {
        self.age
    }

    /// How many times a replacement was refused since the start.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Why the latest replacement was refused; `None` when it was not.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

impl LivePolicy {
    /// A policy that is `enforcer`'s until it is replaced.
    #[must_use]
    pub fn new(enforcer: PolicyEnforcer) -> Self {
        let status = PolicyStatus {
            version: enforcer.version(),
            hash: None,
            age: Duration::ZERO,
            failures: 0,
            last_error: None,
        };
        let since = enforcer.now();
        Self {
            shared: Arc::new(Shared {
                now: RwLock::new(enforcer),
                status: Mutex::new(Standing { status, since }),
            }),
        }
    }

    /// Puts another policy in force, for all calls that begin from now on.
    pub fn replace(&self, policy: Policy) {
        self.put(policy, None);
    }

    /// What is in force, why, and since when.
    #[must_use]
    pub fn status(&self) -> PolicyStatus {
        let now = self.current().now();
        let standing = self.lock();
        PolicyStatus {
            age: now.saturating_sub(standing.since),
            ..standing.status.clone()
        }
    }

    /// As [`replace`](Self::replace), of a file with this hash.
    pub(crate) fn put(&self, policy: Policy, hash: Option<String>) -> u64 {
        // One after the other: each version succeeds the one before it.
        let mut standing = self.lock();
        let enforcer = self.current().with_policy(policy);
        let version = enforcer.version();
        standing.since = enforcer.now();
        let mut now = self
            .shared
            .now
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = enforcer;
        standing.status.version = version;
        standing.status.hash = hash;
        standing.status.last_error = None;
        version
    }

    /// What is in force is what a file with this hash says.
    #[cfg(feature = "watch")]
    pub(crate) fn is_of(&self, hash: String) {
        self.lock().status.hash = Some(hash);
    }

    /// Nothing asks to replace what is in force any more.
    #[cfg(feature = "watch")]
    pub(crate) fn recovered(&self) {
        self.lock().status.last_error = None;
    }

    /// A replacement was refused; what is in force stays.
    #[cfg(feature = "watch")]
    pub(crate) fn refused(&self, reason: String) {
        let status = &mut self.lock().status;
        status.failures = status.failures.saturating_add(1);
        status.last_error = Some(reason);
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        let status = self.shared.status.lock();
        status.unwrap_or_else(PoisonError::into_inner)
    }
}

impl PolicySource for LivePolicy {
    fn current(&self) -> PolicyEnforcer {
        let now = self.shared.now.read();
        now.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for LivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LivePolicy").field(&self.current()).finish()
    }
}

/// A source as a layer keeps it. The usual one is asked without a call through a table.
#[derive(Clone)]
pub(crate) enum Source {
    Fixed(PolicyEnforcer),
    Other(Arc<dyn PolicySource>),
}

impl Source {
    pub(crate) fn choose(&self, request: &request::Parts) -> PolicyEnforcer {
        match self {
            Self::Fixed(enforcer) => enforcer.clone(),
            Self::Other(source) => source.choose(request),
        }
    }

    pub(crate) fn current(&self) -> PolicyEnforcer {
        match self {
            Self::Fixed(enforcer) => enforcer.clone(),
            Self::Other(source) => source.current(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}
