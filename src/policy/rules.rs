//! The rules of a policy, as data: lists of names, network rules, limits.
//!
//! Deny wins over allow everywhere, and no list at all differs from an empty
//! one: without a list anything goes, an empty list lets nothing through.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::domain::{DomainPattern, Host};
use super::pattern::NamePattern;

/// Which models, or which tools, an agent may use.
#[derive(Clone, Debug, Default)]
pub struct NameRules {
    pub(super) allowed: Option<Names>,
    pub(super) blocked: Names,
    /// Categories that the lists mention, with the tools in them.
    pub(super) categories: BTreeMap<Box<str>, Vec<Box<str>>>,
}

/// What [`NameRules::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameMatch {
    /// The name may be used.
    Allowed,
    /// An entry of the deny list matches, whatever the allow list says.
    Blocked,
    /// There is an allow list, and no entry of it matches.
    NotListed,
}

impl NameRules {
    /// Whether there is any rule. Without one every name is allowed.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.allowed.is_some() || !self.blocked.patterns.is_empty()
    }

    /// The allow list in the order written, or `None` when there is none and
    /// every name that isn't blocked is allowed.
    #[must_use]
    pub fn allowed(&self) -> Option<&[NamePattern]> {
        self.allowed.as_ref().map(|names| &*names.patterns)
    }

    /// The deny list in the order written.
    #[must_use]
    pub fn blocked(&self) -> &[NamePattern] {
        &self.blocked.patterns
    }

    /// Judges a name. Allocates nothing; takes time in proportion to the number
    /// of wildcard entries and the length of the name.
    ///
    /// ```
    /// # use tower_sekuire::{NameMatch, Policy};
    /// let policy = Policy::from_yaml(
    ///     "models: {allowed_models: [gpt-4o*], blocked_models: [gpt-4o-audio]}",
    /// )?;
    /// assert_eq!(policy.models().check("gpt-4o-mini"), NameMatch::Allowed);
    /// assert_eq!(policy.models().check("gpt-4o-audio"), NameMatch::Blocked);
    /// assert_eq!(policy.models().check("o3"), NameMatch::NotListed);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn check(&self, name: &str) -> NameMatch {
        if self.lists(&self.blocked, name) {
            return NameMatch::Blocked;
        }
        match &self.allowed {
            Some(allowed) if !self.lists(allowed, name) => NameMatch::NotListed,
            _ => NameMatch::Allowed,
        }
    }

    /// As [`check`](Self::check), with the entry that decided: the first that matches, of the deny list if any does.
    /// `None` when no entry did, because there is no allow list or none of it matches. Slower than `check`; for people.
    ///
    /// ```
    /// # use tower_sekuire::{NameMatch, Policy};
    /// let policy = Policy::from_yaml("models: {allowed_models: [o3, gpt-4o*]}")?;
    /// let (found, entry) = policy.models().deciding("gpt-4o-mini");
    /// assert_eq!(found, NameMatch::Allowed);
    /// assert_eq!(entry.unwrap().as_str(), "gpt-4o*");
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn deciding(&self, name: &str) -> (NameMatch, Option<&NamePattern>) {
        let found = self.check(name);
        let list = match (found, &self.allowed) {
            (NameMatch::Blocked, _) => &self.blocked,
            (NameMatch::Allowed, Some(allowed)) => allowed,
            _ => return (found, None),
        };
        let mut entries = list.patterns.iter();
        let entry = entries.find(|entry| {
            let category = entry.category();
            entry.matches(name) || category.is_some_and(|category| self.is_in(category, name))
        });
        (found, entry)
    }

    fn lists(&self, names: &Names, name: &str) -> bool {
        names
            .exact
            .binary_search_by(|entry| (**entry).cmp(name))
            .is_ok()
            || names.wild.iter().any(|pattern| {
                pattern.matches(name)
                    || pattern
                        .category()
                        .is_some_and(|category| self.is_in(category, name))
            })
    }

    fn is_in(&self, category: &str, name: &str) -> bool {
        self.categories
            .get(category)
            .is_some_and(|tools| tools.iter().any(|tool| **tool == *name))
    }
}

/// A list of names: as written, and split into what can be looked up and what
/// has to be tried.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    patterns: Vec<NamePattern>,
    /// INVARIANT: sorted.
    exact: Vec<Box<str>>,
    wild: Vec<NamePattern>,
}

impl Names {
    pub(super) fn new(patterns: Vec<NamePattern>) -> Self {
        let (wild, exact): (Vec<_>, Vec<_>) =
            patterns.iter().cloned().partition(NamePattern::is_wildcard);
        let mut exact: Vec<Box<str>> = exact.iter().map(|name| name.as_str().into()).collect();
        exact.sort_unstable();
        Self {
            patterns,
            exact,
            wild,
        }
    }
}

/// Which hosts an agent may reach.
#[derive(Clone, Debug)]
pub struct NetworkRules {
    pub(super) enabled: bool,
    pub(super) require_tls: bool,
    pub(super) allowed: Option<Vec<DomainPattern>>,
    pub(super) blocked: Vec<DomainPattern>,
}

/// What [`NetworkRules::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetworkMatch {
    /// The host may be reached.
    Allowed,
    /// The network is off.
    Disabled,
    /// The scheme is neither `https` nor `wss`.
    TlsRequired,
    /// An entry of the deny list matches, whatever the allow list says.
    Blocked,
    /// There is an allow list, and no entry of it matches.
    NotListed,
    /// The host isn't spelled in a way that can be compared: it is empty, not a
    /// host name, or an address in a form other than the usual one.
    Unreadable,
}

impl NetworkRules {
    /// Whether any host may be reached. A policy that doesn't say so means yes.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Whether every scheme but `https` and `wss` is refused. A policy that
    /// doesn't say so means no.
    #[must_use]
    pub fn require_tls(&self) -> bool {
        self.require_tls
    }

    /// The allow list in the order written, or `None` when there is none and
    /// every host that isn't blocked is allowed.
    #[must_use]
    pub fn allowed(&self) -> Option<&[DomainPattern]> {
        self.allowed.as_deref()
    }

    /// The deny list in the order written.
    #[must_use]
    pub fn blocked(&self) -> &[DomainPattern] {
        &self.blocked
    }

    /// Judges a host, given with or without a port, and the scheme of its URL.
    ///
    /// Case, a trailing dot and Unicode spelling make no difference. The order
    /// is: network off, TLS, deny list, allow list.
    ///
    /// ```
    /// # use tower_sekuire::{NetworkMatch, Policy};
    /// let policy = Policy::from_yaml(
    ///     "permissions: {network: {require_tls: true, allowed_domains: ['*.wikipedia.org']}}",
    /// )?;
    /// let network = policy.network().unwrap();
    /// assert_eq!(network.check("EN.wikipedia.org.:443", "https"), NetworkMatch::Allowed);
    /// assert_eq!(network.check("en.wikipedia.org", "http"), NetworkMatch::TlsRequired);
    /// assert_eq!(network.check("evilwikipedia.org", "https"), NetworkMatch::NotListed);
    /// assert_eq!(network.check("127.1", "https"), NetworkMatch::Unreadable);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn check(&self, host: &str, scheme: &str) -> NetworkMatch {
        if !self.enabled {
            return NetworkMatch::Disabled;
        }
        let tls = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss");
        if self.require_tls && !tls {
            return NetworkMatch::TlsRequired;
        }
        let Some(host) = Host::read(host) else {
            return NetworkMatch::Unreadable;
        };
        if self.blocked.iter().any(|entry| entry.matches(&host)) {
            return NetworkMatch::Blocked;
        }
        match &self.allowed {
            Some(allowed) if !allowed.iter().any(|entry| entry.matches(&host)) => {
                NetworkMatch::NotListed
            }
            _ => NetworkMatch::Allowed,
        }
    }

    /// As [`check`](Self::check), with the entry that decided: the first that matches, of the deny list if any does.
    /// `None` when no entry did.
    #[must_use]
    pub fn deciding(&self, host: &str, scheme: &str) -> (NetworkMatch, Option<&DomainPattern>) {
        let found = self.check(host, scheme);
        let list = match (found, &self.allowed) {
            (NetworkMatch::Blocked, _) => &self.blocked,
            (NetworkMatch::Allowed, Some(allowed)) => allowed,
            _ => return (found, None),
        };
        (found, list.iter().find(|entry| entry.matches_host(host)))
    }
}

/// So many requests or tokens in so much time.
///
/// Displays as `10 requests per minute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub(super) scope: LimitScope,
    pub(super) unit: LimitUnit,
    pub(super) window: Duration,
    pub(super) max: u64,
}

/// What a limit is counted for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitScope {
    /// Each agent by itself.
    PerAgent,
    /// The models that match, all agents together.
    PerModel(NamePattern),
    /// All agents together.
    Global,
}

impl LimitScope {
    /// The stable snake_case name, which is the policy's key: `per_agent`, `per_model` or `global`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::PerAgent => "per_agent",
            Self::PerModel(_) => "per_model",
            Self::Global => "global",
        }
    }

    /// The models whose calls it counts, where it isn't all.
    #[must_use]
    pub const fn model(&self) -> Option<&NamePattern> {
        match self {
            Self::PerModel(entry) => Some(entry),
            Self::PerAgent | Self::Global => None,
        }
    }
}

/// As the path in the policy: `per_agent`, `per_model.gpt-4o*` or `global`.
impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self.model() {
            Some(entry) => write!(f, ".{entry}"),
            None => Ok(()),
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitUnit {
    /// Requests that run a model.
    Requests,
    /// Tokens, prompt and answer together.
    Tokens,
}

impl Limit {
    /// What it is counted for.
    #[must_use]
    pub fn scope(&self) -> &LimitScope {
        &self.scope
    }

    /// Whether both count the same, whatever their maximum.
    pub(crate) fn counts_as(&self, other: &Self) -> bool {
        self.scope == other.scope && self.unit == other.unit && self.window == other.window
    }

    /// What it counts.
    #[must_use]
    pub fn unit(&self) -> LimitUnit {
        self.unit
    }

    /// The length of time it holds for: a minute, an hour or a day.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// The most that is allowed within a window, in the limit's unit. 0 allows
    /// nothing.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match (self.unit, self.max) {
            (LimitUnit::Requests, 1) => "request",
            (LimitUnit::Requests, _) => "requests",
            (LimitUnit::Tokens, 1) => "token",
            (LimitUnit::Tokens, _) => "tokens",
        };
        write!(f, "{} {unit} per ", self.max)?;
        match self.window.as_secs() {
            60 => f.write_str("minute"),
            3_600 => f.write_str("hour"),
            86_400 => f.write_str("day"),
            seconds => write!(f, "{seconds} seconds"),
        }
    }
}
