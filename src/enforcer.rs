//! Decisions: facts in, permit or violation out. No HTTP, no waiting.
//!
//! Everything that refuses a call on account of the policy is decided here, so that a question asked without HTTP
//! and a call on the wire can't be answered differently.

mod limits;
mod permissions;
mod runs;

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{
    Call, Clock, Ledger, LimitSpec, LimitStore, Models, Refusal, Scope, SystemClock, Unit,
};
use crate::meters::Meters;
use crate::policy::{
    Limit, LimitScope, LimitUnit, NameMatch, NamePattern, NameRules, NetworkMatch, Policy,
};
use crate::violation::{PolicyViolation, Rule, Seen, shown};
use crate::wire::request::RequestFacts;
use crate::wire::tool::{self, Kind, Mcp, Mention, Tool};
pub(crate) use limits::{Admission, Asking, Held};
pub(crate) use runs::{Run, Runs};

/// What happens to a call that the policy refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// It is refused.
    #[default]
    Block,
    /// It goes ahead, and the violation is logged at WARN. Limits are charged; nothing is held, cut or changed.
    ///
    /// One thing is refused all the same: the body of a governed request with trailers. It is sent on as bytes once it
    /// was read, so its trailers would be lost.
    Warn,
    /// It goes ahead, and every decision is logged at INFO. Otherwise as [`Warn`](Self::Warn).
    Audit,
}

impl Mode {
    /// The stable snake_case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

/// What to count in [`PolicyEnforcer::enforce_rate_limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimit {
    /// One request.
    Request,
    /// This many tokens, of prompt and output together.
    Tokens(u64),
}

/// What has been used of one limit.
#[derive(Clone, Debug)]
pub struct LimitUsage {
    limit: Limit,
    used: u64,
    reserved: u64,
    reset: Duration,
}

impl LimitUsage {
    /// The limit, as the policy states it.
    #[must_use]
    pub const fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Requests or tokens that count now. More than the limit's maximum when answers in flight crossed it.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Tokens that calls in flight have reserved beside what is used; 0 for requests, which count when they begin.
    #[must_use]
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Requests or tokens that are left now.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        let taken = self.used.saturating_add(self.reserved);
        self.limit.max().saturating_sub(taken)
    }

    /// How long until nothing counts any more, if nothing is added until then.
    #[must_use]
    pub const fn reset(&self) -> Duration {
        self.reset
    }
}

/// A policy's decisions, with no HTTP, no async and no API key.
///
/// Clones, and the layers built from them, share one ledger: a request counted by one counts for all.
///
/// ```
/// use tower_sekuire::{Policy, PolicyEnforcer, RateLimit};
///
/// let policy = Policy::from_yaml("
/// agent:
///   models: { allowed_models: [gpt-4o-mini], blocked_models: [gpt-3.5-turbo] }
///   toolsets: { blocked_tools: [file_delete] }
/// rate_limits:
///   per_agent: { requests_per_minute: 1 }
/// ")?;
/// let enforcer = PolicyEnforcer::new(policy);
///
/// assert!(enforcer.enforce_model("gpt-4o-mini").is_ok());
/// let refused = enforcer.enforce_tool("file_delete").unwrap_err();
/// assert_eq!(refused.to_string(), "[tool_blocked] Tool file_delete is blocked");
///
/// assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_ok());
/// let refused = enforcer.enforce_rate_limit(RateLimit::Request).unwrap_err();
/// assert_eq!(refused.message(), "Rate limit exceeded: 1 request per minute");
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct PolicyEnforcer {
    // Cloned with every call.
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    policy: Policy,
    /// Which of a source's policies it is.
    version: u64,
    ledger: Arc<Ledger>,
    runs: Arc<Runs>,
    /// Counts in place of the ledger.
    store: Option<Arc<dyn LimitStore>>,
    clock: Arc<dyn Clock>,
    meters: Meters,
    mode: Mode,
    /// A call that names no model, of the agent under whose key calls count unless something else names them.
    call: Call,
    hosted: Arc<HostedEntries>,
}

impl fmt::Debug for PolicyEnforcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyEnforcer")
            .field("agent", &self.inner.call.agent)
            .field("mode", &self.inner.mode)
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}

impl PolicyEnforcer {
    /// An enforcer with fresh counters, the system's monotonic clock and [`Mode::Block`].
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let call = call_of(&policy);
        let inner = Inner {
            version: 1,
            ledger: Arc::new(Ledger::new(limit_specs(&policy))),
            runs: Arc::default(),
            store: None,
            clock: Arc::new(SystemClock::new()),
            meters: Meters::new(&call.agent),
            mode: Mode::Block,
            call,
            hosted: Arc::new(HostedEntries::of(policy.tools())),
            policy,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// An enforcer of another policy, as the next version of this one: with its clock, mode and store, and with its
    /// counters, so that what was used stays used.
    ///
    /// A limit of the new policy goes on with what was counted under the old one if it counts the same, that is the
    /// same unit in the same window for an agent, an entry of models or all; its maximum may differ. Others begin
    /// empty. Calls under way end by the policy under which they began.
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer, RateLimit};
    ///
    /// let two = Policy::from_yaml("rate_limits: { per_agent: { requests_per_minute: 2 } }")?;
    /// let three = Policy::from_yaml("rate_limits: { per_agent: { requests_per_minute: 3 } }")?;
    /// let enforcer = PolicyEnforcer::new(two);
    /// enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
    /// enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
    /// let enforcer = enforcer.with_policy(three);
    /// assert_eq!(enforcer.version(), 2);
    /// assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_ok());
    /// assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_err());
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        let old = self.inner.policy.limits();
        // Each of the old limits is continued once, or one count would bind twice.
        let mut taken = vec![false; old.len()];
        let continues: Vec<Option<usize>> = policy
            .limits()
            .iter()
            .map(|limit| {
                let mut known = old.iter().zip(&mut taken).enumerate();
                let (index, (_, taken)) =
                    known.find(|(_, (old, taken))| !**taken && old.counts_as(limit))?;
                *taken = true;
                Some(index)
            })
            .collect();
        let ledger = self
            .inner
            .ledger
            .succeeded(limit_specs(&policy), &continues);
        let call = call_of(&policy);
        let inner = Inner {
            version: self.inner.version.saturating_add(1),
            ledger: Arc::new(ledger),
            meters: Meters::new(&call.agent),
            call,
            hosted: Arc::new(HostedEntries::of(policy.tools())),
            policy,
            ..(*self.inner).clone()
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Which policy this is, counted from 1 by [`with_policy`](Self::with_policy). Told with every decision.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.inner.version
    }

    /// Sets what happens to a refused call.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        Arc::make_mut(&mut self.inner).mode = mode;
        self
    }

    /// Takes the time from `clock`. Set it before the first decision: times of two clocks don't mix.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_sekuire::{ManualClock, Policy, PolicyEnforcer, RateLimit};
    ///
    /// let policy = Policy::from_yaml("rate_limits: { per_agent: { requests_per_minute: 1 } }")?;
    /// let clock = ManualClock::new();
    /// let enforcer = PolicyEnforcer::new(policy).clock(clock.clone());
    /// assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_ok());
    /// assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_err());
    /// clock.advance(Duration::from_secs(60));
    /// assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_ok());
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        Arc::make_mut(&mut self.inner).clock = Arc::new(clock);
        self
    }

    /// The policy that decides.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// The same, without the runs that are waited for: what one of them keeps must not keep them all.
    pub(crate) fn apart(&self) -> Self {
        let inner = Inner {
            runs: Arc::default(),
            ..(*self.inner).clone()
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    pub(crate) fn current_mode(&self) -> Mode {
        self.inner.mode
    }

    /// Whether this model may be used.
    ///
    /// # Errors
    /// [`Rule::ModelBlocked`] or [`Rule::ModelNotAllowed`], in [`Mode::Block`].
    pub fn enforce_model(&self, model: &str) -> Result<(), PolicyViolation> {
        self.answer(self.judge_model(model, Seen::Question))
    }

    /// Whether this tool may be declared and called. A hosted tool's dated, `_preview` and `_call` names are one tool.
    ///
    /// # Errors
    /// [`Rule::ToolBlocked`] or [`Rule::ToolNotAllowed`], in [`Mode::Block`].
    pub fn enforce_tool(&self, tool: &str) -> Result<(), PolicyViolation> {
        self.answer(self.judge_tool(&Tool::asked(tool), Seen::Question))
    }

    /// Whether this host may be called with this scheme (`https`). The host may carry a port.
    ///
    /// # Errors
    /// One of the `Rule::Network*`, or [`Rule::RequestUnreadable`] for a host that can't be compared, in
    /// [`Mode::Block`].
    pub fn enforce_network(&self, domain: &str, protocol: &str) -> Result<(), PolicyViolation> {
        self.answer(self.judge_network(domain, protocol, Seen::Question))
    }

    /// Counts a request or tokens, if every limit that applies has room for them.
    ///
    /// Tokens are charged even when they cross the budget, because they have been used by then.
    ///
    /// # Errors
    /// [`Rule::RateLimitExceeded`] or [`Rule::TokenBudgetExceeded`], in [`Mode::Block`].
    pub fn enforce_rate_limit(&self, what: RateLimit) -> Result<(), PolicyViolation> {
        self.count(&self.inner.call, what)
    }

    /// As [`enforce_rate_limit`](Self::enforce_rate_limit), of a request for this model: the limits per model that its
    /// name matches count too.
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer, RateLimit};
    ///
    /// let policy = Policy::from_yaml("rate_limits: { per_model: { o3: { requests_per_minute: 1 } } }")?;
    /// let enforcer = PolicyEnforcer::new(policy);
    /// assert!(enforcer.enforce_rate_limit_for("o3", RateLimit::Request).is_ok());
    /// assert!(enforcer.enforce_rate_limit_for("o3", RateLimit::Request).is_err());
    /// assert!(enforcer.enforce_rate_limit_for("gpt-4o", RateLimit::Request).is_ok());
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    ///
    /// # Errors
    /// [`Rule::RateLimitExceeded`] or [`Rule::TokenBudgetExceeded`], in [`Mode::Block`].
    pub fn enforce_rate_limit_for(
        &self,
        model: &str,
        what: RateLimit,
    ) -> Result<(), PolicyViolation> {
        let call = Call {
            agent: self.agent().clone(),
            models: self.model_limits(std::iter::once(model)),
        };
        self.count(&call, what)
    }

    fn count(&self, call: &Call, what: RateLimit) -> Result<(), PolicyViolation> {
        let now = self.inner.clock.now();
        let result = match what {
            RateLimit::Request => self
                .inner
                .ledger
                .charge_request(now, call)
                .inspect_err(|_| {
                    if self.inner.mode != Mode::Block {
                        let _ = self.inner.ledger.admit_anyway(now, call.clone(), 0);
                    }
                }),
            RateLimit::Tokens(tokens) => self
                .inner
                .ledger
                .charge_tokens(now, call, tokens)
                .map_err(Refusal::Exceeded),
        };
        self.answer(result.map_err(|refusal| self.limit_violation(refusal, Seen::Question)))
    }

    /// What the agent has used of each limit, in the policy's order.
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer, RateLimit};
    ///
    /// let policy = Policy::from_yaml("rate_limits: { per_agent: { tokens_per_hour: 1000 } }")?;
    /// let enforcer = PolicyEnforcer::new(policy);
    /// enforcer.enforce_rate_limit(RateLimit::Tokens(400)).unwrap();
    /// let usage = &enforcer.usage()[0];
    /// assert_eq!((usage.used(), usage.limit().max()), (400, 1000));
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn usage(&self) -> Vec<LimitUsage> {
        self.usage_of(&self.inner.call.agent)
    }

    /// What a decision comes to in this mode, for questions.
    fn answer(&self, decision: Result<(), PolicyViolation>) -> Result<(), PolicyViolation> {
        let Err(violation) = decision else {
            return Ok(());
        };
        match self.inner.mode {
            Mode::Block => return Err(violation),
            Mode::Warn => {
                tracing::warn!(gen_ai.agent.name = %self.inner.call.agent, rule = %violation.rule(), "{violation}")
            }
            Mode::Audit => {
                tracing::info!(gen_ai.agent.name = %self.inner.call.agent, rule = %violation.rule(), "{violation}")
            }
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Duration {
        self.inner.clock.now()
    }

    pub(crate) fn judge_model(&self, model: &str, seen: Seen) -> Result<(), PolicyViolation> {
        let rules = self.inner.policy.models();
        let (rule, reason) = match rules.check(model) {
            NameMatch::Blocked => (Rule::ModelBlocked, "is not allowed"),
            // A pattern may match a name with bytes in it that servers trim or fold.
            NameMatch::Allowed if !rules.is_restricted() || is_plain_name(model) => return Ok(()),
            _ => (Rule::ModelNotAllowed, "is not in the allowlist"),
        };
        Err(
            PolicyViolation::new(rule, seen, format!("Model {} {reason}", shown(model)))
                .with_value(model)
                .with_param("model"),
        )
    }

    /// Whether a tool that a request declares or an answer calls may be used.
    pub(crate) fn judge_tool(
        &self,
        tool: &Mention<impl Deref<Target = str>>,
        seen: Seen,
    ) -> Result<(), PolicyViolation> {
        let rules = self.inner.policy.tools();
        if !rules.is_restricted() {
            return Ok(());
        }
        let name = &*tool.name;
        let (rule, reason) = match self.match_tool(rules, tool) {
            NameMatch::Blocked => (Rule::ToolBlocked, "is blocked"),
            NameMatch::Allowed if is_knowable(rules, tool) => return Ok(()),
            _ => (Rule::ToolNotAllowed, "is not in the allowlist"),
        };
        Err(
            PolicyViolation::new(rule, seen, format!("Tool {} {reason}", shown(name)))
                .with_value(name)
                .with_param("tools"),
        )
    }

    /// Matches a tool by its own name and by every other name that means the same, or something wider.
    fn match_tool(&self, rules: &NameRules, tool: &Mention<impl Deref<Target = str>>) -> NameMatch {
        let own = rules.check(&tool.name);
        let short = tool.short_name.as_deref().map(|short| rules.check(short));
        let family = tool::hosted_family(&tool.name).or((tool.kind == Kind::Mcp).then_some("mcp"));
        let general = family.map(|family| rules.check(family));
        let listed = |families: &[&str]| family.is_some_and(|family| families.contains(&family));
        // A deny entry for the name without its namespace, or for the whole server, covers the tool.
        if [Some(own), short, general].contains(&Some(NameMatch::Blocked))
            || listed(&self.inner.hosted.blocked)
        {
            return NameMatch::Blocked;
        }
        let allowed = match tool.kind {
            // An allowed server is allowed with all of its tools; `mcp` alone names no server.
            Kind::Mcp => own == NameMatch::Allowed || short == Some(NameMatch::Allowed),
            // A tool of another namespace is another tool, so its short name vouches for nothing.
            Kind::Function | Kind::Hosted | Kind::Unknown => {
                own == NameMatch::Allowed
                    || general == Some(NameMatch::Allowed)
                    || listed(&self.inner.hosted.allowed)
            }
        };
        if allowed {
            NameMatch::Allowed
        } else {
            NameMatch::NotListed
        }
    }

    pub(crate) fn judge_network(
        &self,
        host: &str,
        scheme: &str,
        seen: Seen,
    ) -> Result<(), PolicyViolation> {
        let Some(rules) = self.inner.policy.network() else {
            return Ok(());
        };
        let (rule, message) = match rules.check(host, scheme) {
            NetworkMatch::Allowed => return Ok(()),
            NetworkMatch::Disabled => (
                Rule::NetworkDisabled,
                "Network access is disabled".to_owned(),
            ),
            NetworkMatch::TlsRequired => (
                Rule::NetworkTlsRequired,
                "TLS is required for network requests".to_owned(),
            ),
            NetworkMatch::Blocked => (
                Rule::NetworkBlocked,
                format!("Domain {} is blocked by policy", shown(host)),
            ),
            NetworkMatch::NotListed => (
                Rule::NetworkNotAllowed,
                format!("Domain {} is not in the allowlist", shown(host)),
            ),
            _ => (
                Rule::RequestUnreadable,
                format!(
                    "host `{}` is not spelled in a way that network rules can be compared with",
                    shown(host)
                ),
            ),
        };
        Err(PolicyViolation::new(rule, seen, message).with_value(host))
    }

    /// The rules on what a request asks for: its models first, then what it leaves to the server, then its tools.
    pub(crate) fn judge_request(
        &self,
        facts: &RequestFacts<'_>,
        asked: &Asked<'_>,
    ) -> Result<(), PolicyViolation> {
        let models = [asked.deployment, facts.model.as_deref()];
        let further = facts.more_models.iter().map(|model| &**model);
        for model in models.into_iter().flatten().chain(further) {
            self.judge_model(model, Seen::Request)?;
        }
        let models_restricted = self.inner.policy.models().is_restricted();
        let tools_restricted = self.inner.policy.tools().is_restricted();
        if models_restricted || tools_restricted {
            let opened = &asked.openings.stored;
            let unopened = |id: &&Cow<'_, str>| !opened.iter().any(|opened| opened == &**id);
            if let Some(id) = facts.stored.iter().find(unopened) {
                let rule = if models_restricted {
                    Rule::ModelNotAllowed
                } else {
                    Rule::ToolNotAllowed
                };
                let message = format!(
                    "`{}` is stored at the server and brings its own model and tools; open it knowingly (`SekuireLayer::open_stored`, `--open-stored` of the gateway)",
                    shown(id)
                );
                return Err(PolicyViolation::new(rule, Seen::Request, message).with_value(id));
            }
        }
        if models_restricted {
            let names_one = facts.model.is_some()
                || asked.deployment.is_some()
                || !facts.more_models.is_empty();
            if asked.needs_model && !names_one && facts.stored.is_empty() {
                let message = "the request names no model, and models are restricted";
                return Err(
                    PolicyViolation::new(Rule::ModelNotAllowed, Seen::Request, message)
                        .with_param("model"),
                );
            }
            if let Some(key) = facts.hidden_model {
                let message =
                    format!("`{key}` lets the server choose a model, and models are restricted");
                return Err(
                    PolicyViolation::new(Rule::ModelNotAllowed, Seen::Request, message)
                        .with_param("model"),
                );
            }
        }
        facts
            .tools
            .iter()
            .try_for_each(|tool| self.judge_tool(tool, Seen::Request))?;
        facts
            .mcp
            .iter()
            .try_for_each(|server| self.judge_server(server, asked.openings))?;
        self.judge_approvals(facts)?;
        self.judge_history(facts, asked.openings)
    }

    /// An MCP server: its tools by label, and, because the label is the agent's to choose, its place.
    fn judge_server(&self, server: &Mcp<'_>, openings: &Openings) -> Result<(), PolicyViolation> {
        match &server.tools {
            None => self.judge_tool(&Tool::mcp(&server.label, None), Seen::Request)?,
            Some(names) => names.iter().try_for_each(|name| {
                self.judge_tool(&Tool::mcp(&server.label, Some(name)), Seen::Request)
            })?,
        }
        if !server.placed {
            return Ok(());
        }
        let bound = openings
            .mcp_hosts
            .iter()
            .find(|(label, _)| *label == server.label)
            .map(|(_, host)| host.as_str());
        let refuse = |what: &str, value: &str| {
            let message = format!(
                "MCP server {} is reached by {what}, and nothing says that its label may be; bind it (`SekuireLayer::mcp_server`, `--mcp-server` of the gateway)",
                shown(&server.label)
            );
            Err(
                PolicyViolation::new(Rule::ToolNotAllowed, Seen::Request, message)
                    .with_value(value)
                    .with_param("tools"),
            )
        };
        let governed =
            self.inner.policy.network().is_some() || self.inner.policy.tools().is_restricted();
        if server.tunnel && governed {
            return refuse("a tunnel", &server.label);
        }
        if let Some(connector) = &server.connector
            && governed
            && !tool::is_documented_connector(connector)
            && bound != Some(&**connector)
        {
            return refuse("a connector that is not documented", connector);
        }
        let Some(url) = &server.url else {
            return Ok(());
        };
        let Some((scheme, host)) = tool::place(url) else {
            let message = "an MCP server's address is not a plain URL";
            return Err(
                PolicyViolation::new(Rule::RequestUnreadable, Seen::Request, message)
                    .with_param("tools"),
            );
        };
        match bound {
            Some(bound) if host.eq_ignore_ascii_case(bound) => Ok(()),
            Some(_) => refuse("another address than it is bound to", host),
            None if self.inner.policy.network().is_some() => self
                .judge_network(host, scheme, Seen::Request)
                .map_err(|violation| violation.with_param("tools")),
            None if self.inner.policy.tools().is_restricted() => refuse("an address", host),
            None => Ok(()),
        }
    }

    fn judge_approvals(&self, facts: &RequestFacts<'_>) -> Result<(), PolicyViolation> {
        if !self.inner.policy.tools().is_restricted() {
            return Ok(());
        }
        facts
            .approvals
            .iter()
            .try_for_each(|approved| {
                match approved {
            Some(tool) => self.judge_tool(tool, Seen::Request),
            None => Err(PolicyViolation::new(
                Rule::ToolNotAllowed,
                Seen::Request,
                "the request approves an MCP call that it doesn't name, and tools are restricted",
            )
            .with_help("send the `mcp_approval_request` item along with its response")
            .with_param("tools")),
        }
            })
    }

    fn judge_history(
        &self,
        facts: &RequestFacts<'_>,
        openings: &Openings,
    ) -> Result<(), PolicyViolation> {
        if openings.strict_history {
            for name in &facts.history {
                self.judge_tool(&Tool::asked(name), Seen::Request)?;
            }
            if facts.more_history {
                let message = "the conversation names more tools than can be judged, which is refused here (`SekuireLayer::strict_history`, `--strict-history` of the gateway)";
                return Err(PolicyViolation::new(
                    Rule::RequestUnreadable,
                    Seen::Request,
                    message,
                ));
            }
        }
        if openings.strict_state && facts.server_state {
            let message = "the request goes on from state that the server keeps, which is refused here (`SekuireLayer::strict_state`, `--strict-state` of the gateway)";
            return Err(PolicyViolation::new(
                Rule::RequestUnreadable,
                Seen::Request,
                message,
            ));
        }
        Ok(())
    }
}

/// A call that names no model, of the policy's own agent.
fn call_of(policy: &Policy) -> Call {
    Call {
        agent: policy.agent().into(),
        models: Models::default(),
    }
}

fn limit_specs(policy: &Policy) -> Vec<LimitSpec> {
    let limits = policy.limits().iter().enumerate();
    limits
        .map(|(index, limit)| LimitSpec {
            scope: match limit.scope() {
                LimitScope::PerAgent => Scope::PerAgent,
                LimitScope::PerModel(_) => Scope::PerModel(index),
                LimitScope::Global => Scope::Global,
            },
            unit: match limit.unit() {
                LimitUnit::Requests => Unit::Requests,
                LimitUnit::Tokens => Unit::Tokens,
            },
            window: limit.window(),
            max: limit.max(),
        })
        .collect()
}

/// What an operator opened or closed beyond the policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Openings {
    /// Ids of stored prompts, agents and workflows.
    pub(crate) stored: Vec<String>,
    /// MCP labels and the host, or connector, that each stands for.
    pub(crate) mcp_hosts: Vec<(String, String)>,
    /// Tools that a conversation's history names must be allowed.
    pub(crate) strict_history: bool,
    /// Conversations that go on from the server's state are refused.
    pub(crate) strict_state: bool,
}

/// What is known of a request beside its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) deployment: Option<&'a str>,
    /// The endpoint runs a model, so something must name it.
    pub(crate) needs_model: bool,
    pub(crate) openings: &'a Openings,
}

/// Whether a name that no entry forbids says what would run.
fn is_knowable(rules: &NameRules, tool: &Mention<impl Deref<Target = str>>) -> bool {
    // A wrapper's calls are named in its arguments, which arrive after its name was released.
    if tool::is_wrapper(&tool.name)
        || tool
            .name
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
    {
        return false;
    }
    // A type that nobody here knows is no tool's name: only an allow entry can vouch for it.
    tool.kind != Kind::Unknown || rules.allowed().is_some()
}

/// Printable ASCII without blanks: what a server can't trim, fold or normalise into another name.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The hosted tools that a policy's lists name by one of their other names.
#[derive(Debug, Default)]
struct HostedEntries {
    allowed: Vec<&'static str>,
    blocked: Vec<&'static str>,
}

impl HostedEntries {
    fn of(rules: &NameRules) -> Self {
        let families = |entries: &[NamePattern]| {
            entries
                .iter()
                .filter_map(|entry| tool::hosted_family(entry.as_str()))
                .collect()
        };
        Self {
            allowed: families(rules.allowed().unwrap_or_default()),
            blocked: families(rules.blocked()),
        }
    }
}
