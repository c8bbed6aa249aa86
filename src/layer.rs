//! The tower layer and its options.

use std::sync::Arc;

use tower_layer::Layer;

use crate::accounting::{AgentKey, EstimateTokens};
use crate::audit::Decision;
use crate::enforcer::{LimitUsage, PolicyEnforcer};
use crate::governor::Governor;
use crate::kill_switch::KillSwitch;
use crate::policy::{DomainPattern, Policy};
use crate::respond::Respond;
use crate::service::SekuireService;
use crate::source::{PolicySource, Source};
use crate::wire::endpoint;

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
            governor: Arc::new(Governor::new(Source::Fixed(enforcer))),
        }
    }

    /// A layer whose policy may change or differ from request to request: a [`LivePolicy`](crate::LivePolicy), or
    /// [`PerRequest`](crate::PerRequest).
    #[must_use]
    pub fn from_source(source: impl PolicySource) -> Self {
        Self {
            governor: Arc::new(Governor::new(Source::Other(Arc::new(source)))),
        }
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(crate) const fn governor(&self) -> &Arc<Governor> {
        &self.governor
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
    /// `/openai/v1`, Azure deployments, none, ...) are known. A last segment `{}` stands for the name of an Azure
    /// deployment: `/tenants/a/openai/deployments/{}`.
    #[must_use]
    pub fn base_path(self, base: impl Into<String>) -> Self {
        let base = base.into();
        let base = base.trim_end_matches('/').to_owned();
        self.with(|governor| governor.bases.push(base))
    }

    /// Lets an endpoint pass that is not inspected, named as the refusal names it: `POST /batches`. Its models
    /// and tools are **not** judged and its usage is not counted; only the network rules hold. A text that
    /// [names no endpoint](Self::is_endpoint) opens nothing.
    #[must_use]
    pub fn open_endpoint(self, endpoint: impl Into<String>) -> Self {
        let endpoint = endpoint.into();
        if !Self::is_endpoint(&endpoint) {
            tracing::error!(target: "tower_sekuire", "an entry of `open_endpoint` is no known endpoint and opens nothing");
        }
        self.with(|governor| governor.opened.push(endpoint))
    }

    /// Whether this names an endpoint that the layer knows, as [`open_endpoint`](Self::open_endpoint) takes it: the
    /// method and the path below the base, with `{}` for what varies.
    ///
    /// ```
    /// use tower_sekuire::SekuireLayer;
    ///
    /// assert!(SekuireLayer::is_endpoint("POST /uploads/{}/parts"));
    /// assert!(!SekuireLayer::is_endpoint("POST /v1/uploads/upload_1/parts"));
    /// ```
    #[must_use]
    pub fn is_endpoint(name: &str) -> bool {
        endpoint::is_listed(name)
    }

    /// Names hosts that are no model providers (`*.wikipedia.org`; none by default): calls to them are judged by the
    /// network rules alone. A provider's path there is refused all the same. An entry that can't be compared with
    /// hosts, such as a URL, opens nothing.
    #[must_use]
    pub fn plain_hosts<H: AsRef<str>>(self, hosts: impl IntoIterator<Item = H>) -> Self {
        let hosts = patterns(hosts, "plain_hosts");
        self.with(|governor| governor.plain_hosts.extend(hosts))
    }

    /// Names hosts of a service (`llm.internal`, `*.example.com`), for policies that say which services may be called
    /// (`permissions.api`). The well-known ones need no naming: `api.openai.com` and its regions are `openai`,
    /// `*.openai.azure.com` is `azure`. A host that is no service is refused while services are restricted. An entry
    /// that can't be compared with hosts, such as a URL, names nothing.
    #[must_use]
    pub fn service_hosts<H: AsRef<str>>(
        self,
        service: &str,
        hosts: impl IntoIterator<Item = H>,
    ) -> Self {
        let hosts = patterns(hosts, "service_hosts");
        self.with(|governor| {
            for host in hosts {
                governor.services.add(service, host);
            }
        })
    }

    /// The service that a host is, as policies name it: one of [`service_hosts`](Self::service_hosts), or a well-known
    /// one.
    ///
    /// ```
    /// use tower_sekuire::{Policy, SekuireLayer};
    ///
    /// let policy = Policy::from_yaml("permissions: {api: {allowed_services: [{service_name: openai}]}}")?;
    /// let layer = SekuireLayer::new(policy).service_hosts("openai", ["llm.internal"]);
    /// assert_eq!(layer.service_of("eu.api.openai.com"), Some("openai"));
    /// assert_eq!(layer.service_of("llm.internal:8080"), Some("openai"));
    /// assert_eq!(layer.service_of("example.com"), None);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn service_of(&self, host: &str) -> Option<&str> {
        self.governor.services.of(host)
    }

    /// Lets requests use what is stored at the server under this id: a prompt, an agent, a workflow. It brings a
    /// model and tools that the policy can't see; the answer is judged as any other.
    #[must_use]
    pub fn open_stored(self, id: impl Into<String>) -> Self {
        let id = id.into();
        self.with(|governor| governor.openings.stored.push(id))
    }

    /// Binds an MCP server's label to the host (with its port, if it has one) or the connector that it may stand
    /// for. Needed where tools are restricted and no network rules say which hosts may be reached.
    #[must_use]
    pub fn mcp_server(self, label: impl Into<String>, host: impl Into<String>) -> Self {
        let bound = (label.into(), host.into());
        self.with(|governor| governor.openings.mcp_hosts.push(bound))
    }

    /// Refuses requests whose conversation names a tool that isn't allowed, or more than 4096 different ones. Off by default: what was called before is
    /// history, and what is called next is judged. Turn it on for keys that are also used outside the layer.
    #[must_use]
    pub fn strict_history(self, strict: bool) -> Self {
        self.with(|governor| governor.openings.strict_history = strict)
    }

    /// Refuses requests that go on from state that the server keeps (`previous_response_id`, `conversation`,
    /// `item_reference`, an assistant). Off by default: state made through the layer was judged when it was made.
    /// Turn it on for keys that are also used outside the layer.
    #[must_use]
    pub fn strict_state(self, strict: bool) -> Self {
        self.with(|governor| governor.openings.strict_state = strict)
    }

    /// The most bytes of a form, such as one with sound or images; larger ones are refused. 64 MiB by default.
    #[must_use]
    pub fn form_cap(self, bytes: usize) -> Self {
        self.with(|governor| governor.caps.form = bytes)
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

    /// Which agent a request counts for, in limits `per_agent`; `None` is the agent of an [`AgentKey`] among the
    /// request's extensions, or else the policy's.
    ///
    /// A header that anyone may set is advisory: who chooses the key chooses the budget.
    ///
    /// ```
    /// use tower_sekuire::{AgentKey, Policy, SekuireLayer};
    ///
    /// let policy = Policy::from_yaml("rate_limits: { per_agent: { requests_per_minute: 10 } }")?;
    /// let layer = SekuireLayer::new(policy).agent_key(|request| {
    ///     let team = request.headers.get("x-team")?.to_str().ok()?;
    ///     Some(AgentKey::new(team))
    /// });
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn agent_key(
        self,
        key: impl Fn(&http::request::Parts) -> Option<AgentKey> + Send + Sync + 'static,
    ) -> Self {
        self.with(|governor| governor.accounting.key_of = Some(Arc::new(key)))
    }

    /// How tokens are estimated before a provider reports them. Three bytes of text a token by default.
    #[must_use]
    pub fn estimate_tokens(self, estimate: impl EstimateTokens) -> Self {
        self.with(|governor| governor.accounting.estimate = Arc::new(estimate))
    }

    /// Whether a call reserves what it may cost when it is admitted, so that calls in flight can't cross a limit of
    /// tokens together. On by default.
    ///
    /// Off, tokens are counted after the call alone: a call is admitted while anything is left, the one that crosses a
    /// budget is refused its answer, and so may be all that were in flight with it.
    #[must_use]
    pub fn reserve_tokens(self, reserve: bool) -> Self {
        self.with(|governor| governor.accounting.reserves = reserve)
    }

    /// Tokens to reserve for each choice of an answer whose request doesn't cap it (`max_tokens`,
    /// `max_completion_tokens`, `max_output_tokens`). 4,096 by default. What isn't used is given back when the answer
    /// ends.
    #[must_use]
    pub fn default_output_tokens(self, tokens: u64) -> Self {
        self.with(|governor| governor.accounting.default_output_tokens = tokens)
    }

    /// Whether a stream that outgrows what is reserved for it ends with [`Rule::TokenBudgetExceeded`] when nothing is
    /// left in a limit. On by default; off, it goes on to its end, what it used is charged, and the next call is refused.
    ///
    /// [`Rule::TokenBudgetExceeded`]: crate::Rule::TokenBudgetExceeded
    #[must_use]
    pub fn cut_streams_over_budget(self, cut: bool) -> Self {
        self.with(|governor| governor.accounting.cuts = cut)
    }

    /// Whether streamed chat completions are asked for their usage
    /// (`stream_options.include_usage`, <https://platform.openai.com/docs/api-reference/chat/create>) under a limit of
    /// tokens, whatever the client says. The extra event is removed for clients that didn't ask. On by default; off, a
    /// stream without usage is charged an estimate.
    #[must_use]
    pub fn ask_for_usage(self, ask: bool) -> Self {
        self.with(|governor| governor.accounting.asks_for_usage = ask)
    }

    /// Whether answers to calls that spend from limits say what is left, in the headers of OpenAI's API:
    /// `x-ratelimit-limit-requests`, `-remaining-requests`, `-reset-requests` and the same for tokens, of the limit with
    /// least left. They replace what the server says of its own. Off by default.
    #[must_use]
    pub fn rate_limit_headers(self, state: bool) -> Self {
        self.with(|governor| governor.accounting.headers = state)
    }

    /// Hosts that refuse requests with `stream_options`, and so are not asked for usage: `example.com` or
    /// `*.example.com`. An entry that can't be compared with hosts, such as a URL, has no effect.
    #[must_use]
    pub fn no_stream_options<H: AsRef<str>>(self, hosts: impl IntoIterator<Item = H>) -> Self {
        let hosts = patterns(hosts, "no_stream_options");
        self.with(|governor| governor.accounting.no_stream_options.extend(hosts))
    }

    /// Calls `callback` with every decision and at the end of every answer, before the event goes to `tracing`'s
    /// subscribers' users. It runs on the call's own task: hand over what takes time. A panic in it is caught.
    #[must_use]
    pub fn on_decision(self, callback: impl Fn(&Decision<'_>) + Send + Sync + 'static) -> Self {
        self.with(|governor| governor.on_decision = Some(Arc::new(callback)))
    }

    /// Reads everything in full, as if nothing like it had been read before: the reference that the fast ways are
    /// compared with.
    #[cfg(fuzzing)]
    #[doc(hidden)]
    #[must_use]
    pub fn in_full(self) -> Self {
        self.with(|governor| governor.slow = true)
    }

    /// Lets this switch stop calls, those under way included. A later one takes the place of an earlier one.
    #[must_use]
    pub fn kill_switch(self, switch: &KillSwitch) -> Self {
        self.with(|governor| governor.kill_switch = Some(switch.clone()))
    }

    /// What each agent that counts something has used and reserved of each limit, in the order of their names.
    #[must_use]
    pub fn usage(&self) -> Vec<(Arc<str>, Vec<LimitUsage>)> {
        self.enforcer().usage_by_agent()
    }

    /// The enforcer that decides at this moment, where a request brings none along. It shares its counters with this
    /// layer.
    #[must_use]
    pub fn enforcer(&self) -> PolicyEnforcer {
        self.governor.source.current()
    }
}

/// The entries that can be compared with hosts.
fn patterns<H: AsRef<str>>(hosts: impl IntoIterator<Item = H>, option: &str) -> Vec<DomainPattern> {
    let parse = |host: H| {
        let pattern = DomainPattern::parse(host.as_ref());
        if pattern.is_none() {
            tracing::error!(target: "tower_sekuire", "an entry of `{option}` is no host and has no effect");
        }
        pattern
    };
    hosts.into_iter().filter_map(parse).collect()
}

impl<S> Layer<S> for SekuireLayer {
    type Service = SekuireService<S>;

    fn layer(&self, inner: S) -> SekuireService<S> {
        SekuireService::new(inner, self.governor.clone())
    }
}
