//! The tower layer and its options.

use std::sync::Arc;

use tower_layer::Layer;

use crate::audit::Decision;
use crate::enforcer::PolicyEnforcer;
use crate::exchange::Governor;
use crate::policy::Policy;
use crate::respond::Respond;
use crate::service::SekuireService;

/// Governs every call that goes through a client service by a policy.
///
/// Place it where request URIs are absolute and bodies are not yet encoded: directly around the HTTP client, above
/// connectors, redirects and decompression, below retries (so that every attempt is judged and counted).
///
/// ```
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use std::convert::Infallible;
/// # tokio_test::block_on(async {
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_sekuire::{Policy, PolicyViolation, Rule, SekuireLayer};
///
/// # let client = tower::service_fn(|_: Request<Full<Bytes>>| async {
/// #     Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
/// # });
/// let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
/// let governed = ServiceBuilder::new().layer(SekuireLayer::new(policy)).service(client);
///
/// let request = Request::post("https://api.openai.com/v1/chat/completions")
///     .header("content-type", "application/json")
///     .body(Full::from(r#"{"model":"o3","messages":[]}"#))?;
/// let error = governed.oneshot(request).await.unwrap_err();
/// let violation = PolicyViolation::find(&*error).unwrap();
/// assert_eq!(violation.rule(), Rule::ModelNotAllowed);
/// # Ok::<(), tower_sekuire::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SekuireLayer {
    governor: Arc<Governor>,
}

impl SekuireLayer {
    /// A layer that enforces `policy`, with limits of its own.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::from_enforcer(PolicyEnforcer::new(policy))
    }

    /// A layer that shares its limits, clock and mode with `enforcer` and with all other layers made from it.
    #[must_use]
    pub fn from_enforcer(enforcer: PolicyEnforcer) -> Self {
        Self {
            governor: Arc::new(Governor::new(enforcer)),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Governor)) -> Self {
        change(Arc::make_mut(&mut self.governor));
        self
    }

    /// Sets the form in which a client meets a violation. A Rust error by default.
    #[must_use]
    pub fn respond(self, respond: Respond) -> Self {
        self.with(|governor| governor.respond = respond)
    }

    /// Adds a path under which the server's API begins, such as `/tenants/a/v1`. The usual ones (`/v1`,
    /// `/openai/v1`, Azure deployments, none, ...) are known.
    #[must_use]
    pub fn base_path(self, base: impl Into<String>) -> Self {
        let base = base.into();
        let base = base.trim_end_matches('/').to_owned();
        self.with(|governor| governor.bases.push(base))
    }

    /// Lets an endpoint pass that is not inspected, named as the refusal names it: `POST /embeddings`. Its models
    /// and tools are **not** judged and its usage is not counted; only the network rules hold.
    #[must_use]
    pub fn open_endpoint(self, endpoint: impl Into<String>) -> Self {
        let endpoint = endpoint.into();
        self.with(|governor| governor.opened.push(endpoint))
    }

    /// The most bytes of a request's body; larger ones are refused. 32 MiB by default. A governed request is held
    /// whole while it is judged, so this bounds the memory of each.
    #[must_use]
    pub fn request_cap(self, bytes: usize) -> Self {
        self.with(|governor| governor.caps.request = bytes)
    }

    /// The most bytes of a JSON answer; larger ones are refused. 64 MiB by default. It is held whole until it was judged.
    #[must_use]
    pub fn answer_cap(self, bytes: usize) -> Self {
        self.with(|governor| governor.caps.answer = bytes)
    }

    /// The most bytes of one event of a stream; a larger one ends the stream. 64 MiB by default; choose it at
    /// least as large as the largest image that is streamed.
    #[must_use]
    pub fn event_cap(self, bytes: usize) -> Self {
        self.with(|governor| governor.caps.event = bytes)
    }

    /// Calls `callback` with every decision and at the end of every answer, before the event goes to `tracing`'s
    /// subscribers' users. It runs on the call's own task: hand over what takes time. A panic in it is caught.
    #[must_use]
    pub fn on_decision(self, callback: impl Fn(&Decision<'_>) + Send + Sync + 'static) -> Self {
        self.with(|governor| governor.on_decision = Some(Arc::new(callback)))
    }

    /// The enforcer that decides, which shares its counters with this layer.
    #[must_use]
    pub fn enforcer(&self) -> &PolicyEnforcer {
        &self.governor.enforcer
    }
}

impl<S> Layer<S> for SekuireLayer {
    type Service = SekuireService<S>;

    fn layer(&self, inner: S) -> SekuireService<S> {
        SekuireService::new(inner, self.governor.clone())
    }
}
