//! What calls are counted in, and what they hold of it: the policy's limits over the ledger, or over a store that
//! several processes share.

use std::sync::Arc;
use std::time::Duration;

use super::{LimitUsage, Mode, PolicyEnforcer, Run, Runs};
use crate::limits::{
    Ask, Call, Counted, Exceeded, Lease, LimitStore, Models, Refusal, StoreFuture, StoreRefusal,
    Ticket,
};
use crate::policy::{Limit, LimitScope, LimitUnit};
use crate::violation::{PolicyViolation, Rule, Seen};

/// How long a client is told to wait for a store that can't be reached.
const STORE_WAIT: Duration = Duration::from_secs(1);

/// What a call holds of its limits until it is settled.
#[derive(Debug)]
pub(crate) enum Held {
    /// In this process.
    Here(Ticket),
    /// In a store.
    There {
        lease: Lease,
        /// The policy's limits, in the order of the lease's windows.
        limits: Vec<usize>,
    },
}

impl Held {
    /// Tokens that may be used: what is reserved in the tightest limit.
    pub(crate) fn reserved(&self) -> u64 {
        match self {
            Self::Here(ticket) => ticket.reserved(),
            Self::There { lease, .. } => lease.reserved(),
        }
    }

    /// Tokens to charge for a call of which nobody saw what it used. Above what is reserved where a limit is smaller
    /// than the call was expected to be.
    pub(crate) fn estimate(&self) -> u64 {
        match self {
            Self::Here(ticket) => ticket.estimate(),
            Self::There { lease, .. } => lease.estimate(),
        }
    }

    /// Tokens that may be used beyond what is needed before more should be asked for.
    pub(crate) fn spare(&self, needed: u64) -> u64 {
        let left = self.reserved().saturating_sub(needed);
        match self {
            Self::Here(_) => left,
            // Its answer takes a while: asked for ahead of need.
            Self::There { .. } => left / 2,
        }
    }
}

/// Whether a call may go ahead, as far as limits are concerned.
pub(crate) enum Admission {
    Told(Option<Held>, Result<(), PolicyViolation>),
    /// The store was asked.
    Asked(Asking),
}

/// A store's answer on its way. Dropping it leaves a lease that came too late to expire in the store.
pub(crate) struct Asking {
    pub(crate) answer: StoreFuture<Result<Lease, StoreRefusal>>,
    /// The policy's limits, in the order in which they were asked for.
    limits: Vec<usize>,
}

impl PolicyEnforcer {
    /// Counts in a store that several processes share, in place of this process's memory. The layers made from this
    /// enforcer ask it before each call that runs a model.
    ///
    /// [`enforce_rate_limit`](Self::enforce_rate_limit) and [`usage`](Self::usage) go on telling of this process alone.
    ///
    /// ```
    /// use tower_sekuire::{MemoryStore, Policy, PolicyEnforcer, SekuireLayer};
    ///
    /// let policy = Policy::from_yaml("rate_limits: { global: { tokens_per_day: 1000000 } }")?;
    /// // A store of one's own; two enforcers with this one share a budget.
    /// let store = MemoryStore::default();
    /// let layer = SekuireLayer::from_enforcer(PolicyEnforcer::new(policy).limit_store(store.clone()));
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn limit_store(mut self, store: impl LimitStore) -> Self {
        Arc::make_mut(&mut self.inner).store = Some(Arc::new(store));
        self
    }

    /// What each agent that counts something has used of each limit, in the order of their names. Limits that agents
    /// share are listed for each; of the policy's own agent alone, where none counts by itself.
    #[must_use]
    pub fn usage_by_agent(&self) -> Vec<(Arc<str>, Vec<LimitUsage>)> {
        let agents = self.inner.ledger.agents();
        if agents.is_empty() {
            let own = self.usage_of(self.agent());
            let counts = own.iter().any(|usage| usage.used > 0 || usage.reserved > 0);
            return counts
                .then(|| (self.agent().clone(), own))
                .into_iter()
                .collect();
        }
        agents
            .into_iter()
            .map(|agent| {
                let usage = self.usage_of(&agent);
                (agent, usage)
            })
            .collect()
    }

    pub(crate) fn usage_of(&self, agent: &Arc<str>) -> Vec<LimitUsage> {
        let used = self.inner.ledger.usage(self.inner.clock.now(), agent);
        let limits = self.inner.policy.limits();
        used.into_iter()
            .filter_map(|usage| {
                let limit = limits.get(usage.limit)?.clone();
                Some(LimitUsage {
                    limit,
                    used: usage.used,
                    reserved: usage.reserved,
                    reset: usage.reset,
                })
            })
            .collect()
    }

    /// The key under which calls count unless something else names them.
    pub(crate) fn agent(&self) -> &Arc<str> {
        &self.inner.call.agent
    }

    /// Whether any limit counts tokens.
    pub(crate) fn limits_tokens(&self) -> bool {
        let limits = self.inner.policy.limits();
        limits.iter().any(|limit| limit.unit() == LimitUnit::Tokens)
    }

    /// Counts a call of this agent that names these models in every window that applies, and reserves `estimate`
    /// tokens for it. A call that goes ahead although a limit refuses it, in warn and audit modes, is counted too.
    pub(crate) fn admit<'m>(
        &self,
        now: Duration,
        agent: &Arc<str>,
        models: impl Iterator<Item = &'m str>,
        estimate: u64,
    ) -> Admission {
        let call = Call {
            agent: agent.clone(),
            models: self.model_limits(models),
        };
        if let Some(store) = &self.inner.store {
            return self.ask(store, &call, estimate);
        }
        // A call that is refused isn't needed any more, unless it goes ahead.
        let observed = (self.inner.mode != Mode::Block).then(|| call.clone());
        match self.inner.ledger.admit(now, call, estimate) {
            Ok(ticket) => Admission::Told(Some(Held::Here(ticket)), Ok(())),
            Err(refusal) => {
                let ticket =
                    observed.map(|call| self.inner.ledger.admit_anyway(now, call, estimate));
                let violation = self.limit_violation(refusal, Seen::Request);
                Admission::Told(ticket.map(Held::Here), Err(violation))
            }
        }
    }

    fn ask(&self, store: &Arc<dyn LimitStore>, call: &Call, estimate: u64) -> Admission {
        let governing = |(index, limit): &(usize, &Limit)| match limit.scope() {
            LimitScope::PerModel(_) => call.models.contains(index),
            LimitScope::PerAgent | LimitScope::Global => true,
        };
        let (limits, asks) = self.asks(governing, &call.agent, estimate);
        if asks.is_empty() {
            return Admission::Told(None, Ok(()));
        }
        Admission::Asked(Asking {
            answer: store.reserve(asks, self.inner.mode == Mode::Block),
            limits,
        })
    }

    /// The limits that govern, and what is asked of a store for them. Of limits that count the same, the lowest.
    fn asks(
        &self,
        governing: impl Fn(&(usize, &Limit)) -> bool,
        agent: &str,
        estimate: u64,
    ) -> (Vec<usize>, Vec<Ask>) {
        let mut limits = Vec::new();
        let mut asks: Vec<Ask> = Vec::new();
        for (index, limit) in self.inner.policy.limits().iter().enumerate() {
            if !governing(&(index, limit)) {
                continue;
            }
            let ask = ask_of(limit, agent, estimate);
            let mut known = asks.iter_mut().zip(&mut limits);
            match known.find(|(known, _)| known.key == ask.key) {
                Some((known, at)) => {
                    if ask.max < known.max {
                        (*known, *at) = (ask, index);
                    }
                }
                None => {
                    limits.push(index);
                    asks.push(ask);
                }
            }
        }
        (limits, asks)
    }

    /// What an agent has used of each limit as the [store](Self::limit_store) counts it, for all who share it; without
    /// a store, as [`usage`](Self::usage).
    ///
    /// # Errors
    /// [`Unavailable`](StoreRefusal::Unavailable) when the store can't be reached.
    pub async fn shared_usage(&self, agent: &str) -> Result<Vec<LimitUsage>, StoreRefusal> {
        let Some(store) = &self.inner.store else {
            return Ok(self.usage_of(&Arc::from(agent)));
        };
        let (limits, asks) = self.asks(|_| true, agent, 0);
        let counted = store.usage(asks).await?;
        Ok(self.counted_usage(&limits, &counted))
    }

    /// What of the limits is counted for a call's agent, as far as it is known without asking.
    pub(crate) fn usage_for(&self, agent: &Arc<str>, held: Option<&Held>) -> Vec<LimitUsage> {
        match held {
            Some(Held::There { lease, limits }) => {
                self.counted_usage(limits, lease.counted().unwrap_or_default())
            }
            _ if self.inner.store.is_some() => Vec::new(),
            _ => self.usage_of(agent),
        }
    }

    fn counted_usage(&self, limits: &[usize], counted: &[Counted]) -> Vec<LimitUsage> {
        let each = limits.iter().zip(counted);
        each.filter_map(|(index, counted)| {
            Some(LimitUsage {
                limit: self.inner.policy.limits().get(*index)?.clone(),
                used: counted.used,
                reserved: counted.reserved,
                reset: counted.reset,
            })
        })
        .collect()
    }

    /// What a store's answer comes to.
    pub(crate) fn told(
        &self,
        asking: &Asking,
        answer: Result<Lease, StoreRefusal>,
    ) -> (Option<Held>, Result<(), PolicyViolation>) {
        let limits = &asking.limits;
        match answer {
            Ok(lease) => {
                let observed = lease.observed();
                let told = observed.map_or(Ok(()), |refusal| {
                    Err(self.store_violation(limits, refusal, Seen::Request))
                });
                let held = Held::There {
                    lease,
                    limits: limits.clone(),
                };
                (Some(held), told)
            }
            Err(refusal) => {
                let violation = self.store_violation(limits, refusal, Seen::Request);
                (None, Err(violation))
            }
        }
    }

    fn store_violation(
        &self,
        limits: &[usize],
        refusal: StoreRefusal,
        seen: Seen,
    ) -> PolicyViolation {
        match refusal {
            StoreRefusal::Full { ask, wait } => {
                let limit = limits.get(ask).copied().unwrap_or(usize::MAX);
                self.limit_violation(Refusal::Exceeded(Exceeded { limit, wait }), seen)
            }
            StoreRefusal::Unavailable => PolicyViolation::new(
                Rule::RateLimitExceeded,
                seen,
                "Rate limit exceeded: the store that counts the limits does not answer",
            )
            .with_retry_after(Some(STORE_WAIT)),
        }
    }

    /// Reserves up to `more` tokens for a call that outgrows what was reserved for it. A store is asked, and its answer
    /// not waited for: the stream goes on until it says no.
    pub(crate) fn extend(
        &self,
        now: Duration,
        held: &mut Held,
        more: u64,
    ) -> Result<(), PolicyViolation> {
        let refusal = match held {
            Held::Here(ticket) => match self.inner.ledger.extend(now, ticket, more) {
                Ok(()) => return Ok(()),
                Err(exceeded) => Refusal::Exceeded(exceeded),
            },
            Held::There { lease, limits } => {
                let Some(full) = lease.refused_by() else {
                    if let Some(store) = &self.inner.store
                        && lease.begins_extension()
                    {
                        store.extend(lease, more);
                    }
                    return Ok(());
                };
                let limit = limits.get(full).copied().unwrap_or(usize::MAX);
                Refusal::Exceeded(Exceeded { limit, wait: None })
            }
        };
        Err(self
            .limit_violation(refusal, Seen::Response)
            .after_the_call())
    }

    /// Charges what an admitted call used, and ends its reservation. The charge stands also when it crosses a budget.
    pub(crate) fn settle(
        &self,
        now: Duration,
        held: Held,
        tokens: u64,
    ) -> Result<(), PolicyViolation> {
        match held {
            Held::Here(ticket) => {
                self.inner
                    .ledger
                    .settle(now, ticket, tokens)
                    .map_err(|exceeded| {
                        self.limit_violation(Refusal::Exceeded(exceeded), Seen::Response)
                            .after_the_call()
                    })
            }
            Held::There { lease, .. } => {
                if let Some(store) = &self.inner.store {
                    store.settle(&lease, tokens);
                }
                Ok(())
            }
        }
    }

    /// The calls that go on after their answer.
    pub(crate) fn runs(&self) -> &Runs {
        &self.inner.runs
    }

    /// Keeps a call's reservation until somebody reads how its run ended. A run that nobody asked for in time is
    /// charged what it reserved.
    pub(crate) fn wait_for_run(&self, run: Run) {
        if let Some(Run { held, enforcer, .. }) = self.inner.runs.wait_for(run) {
            let estimate = held.estimate();
            // Over the budget or not, its answer is long gone.
            let _ = enforcer.settle(enforcer.now(), held, estimate);
        }
    }

    pub(super) fn model_limits<'m>(&self, models: impl Iterator<Item = &'m str>) -> Models {
        let per_model = |limit: &&Limit| matches!(limit.scope(), LimitScope::PerModel(_));
        if !self
            .inner
            .policy
            .limits()
            .iter()
            .any(|limit| per_model(&limit))
        {
            return Models::default();
        }
        let models: Vec<&str> = models.collect();
        let limits = self.inner.policy.limits().iter().enumerate();
        limits
            .filter(|(_, limit)| match limit.scope() {
                LimitScope::PerModel(entry) => models.iter().any(|model| entry.matches(model)),
                _ => false,
            })
            .map(|(index, _)| index)
            .collect()
    }

    pub(super) fn limit_violation(&self, refusal: Refusal, seen: Seen) -> PolicyViolation {
        let Exceeded { limit, wait } = match refusal {
            Refusal::Exceeded(exceeded) => exceeded,
            Refusal::KeysFull => {
                return PolicyViolation::new(
                    Rule::RateLimitExceeded,
                    seen,
                    "Rate limit exceeded: too many agents are counted at once",
                );
            }
        };
        let Some(limit) = self.inner.policy.limits().get(limit) else {
            return PolicyViolation::new(Rule::RateLimitExceeded, seen, "Rate limit exceeded")
                .with_retry_after(wait);
        };
        let (rule, what) = match limit.unit() {
            LimitUnit::Tokens => (Rule::TokenBudgetExceeded, "Token budget exceeded"),
            LimitUnit::Requests => (Rule::RateLimitExceeded, "Rate limit exceeded"),
        };
        let scope = limit.scope();
        let counts = match scope {
            LimitScope::PerAgent => "for each agent by itself",
            LimitScope::PerModel(_) => "for the models that match, all agents together",
            LimitScope::Global => "for all agents together",
        };
        let less = match limit.unit() {
            LimitUnit::Tokens => "; a call with a lower cap on its output may fit in sooner",
            LimitUnit::Requests => "",
        };
        PolicyViolation::new(rule, seen, format!("{what}: {limit}"))
            .with_value(&scope.to_string())
            .with_help(format!(
                "`rate_limits.{scope}` counts {counts}: wait until there is room{less}"
            ))
            .with_retry_after(wait)
    }
}

/// One of the policy's limits as a store counts it, for one agent.
fn ask_of(limit: &Limit, agent: &str, estimate: u64) -> Ask {
    let (unit, amount) = match limit.unit() {
        LimitUnit::Requests => ("requests", 1),
        LimitUnit::Tokens => ("tokens", estimate.min(limit.max())),
    };
    let seconds = limit.window().as_secs();
    let scope = match limit.scope() {
        LimitScope::PerAgent => format!("agent:{agent}"),
        LimitScope::PerModel(entry) => format!("model:{entry}"),
        LimitScope::Global => "global".to_owned(),
    };
    Ask {
        key: format!("{unit}:{seconds}:{scope}"),
        unit: limit.unit(),
        window: limit.window(),
        max: limit.max(),
        amount,
    }
}
