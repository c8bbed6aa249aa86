//! Which services an agent may call, by name, and which of their endpoints.

use std::borrow::Cow;
use std::fmt;

use super::pattern::NamePattern;

/// Which services an agent may call: `permissions.api`.
#[derive(Clone, Debug)]
pub struct ApiRules {
    pub(super) enabled: bool,
    pub(super) allowed: Option<Vec<ApiService>>,
}

/// One entry of `allowed_services`. Displays as the service's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiService {
    pub(super) name: NamePattern,
    pub(super) endpoints: Option<Vec<NamePattern>>,
}

/// What [`ApiRules::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiMatch {
    /// The service may be called.
    Allowed,
    /// Services are off.
    Disabled,
    /// There is an allow list, and no entry of it matches.
    NotListed,
    /// The service is listed with its endpoints, and this is none of them.
    EndpointNotListed,
}

impl ApiRules {
    /// Whether any service may be called. A policy that doesn't say so means yes.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The allow list in the order written, or `None` when there is none and every service is allowed.
    #[must_use]
    pub fn allowed(&self) -> Option<&[ApiService]> {
        self.allowed.as_deref()
    }

    /// Whether there is any rule. Without one every service is allowed.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        !self.enabled || self.allowed.is_some()
    }

    /// Judges a service's name: exactly, case included, or by an entry with `*`.
    ///
    /// ```
    /// # use tower_sekuire::{ApiMatch, Policy};
    /// let policy = Policy::from_yaml("permissions: {api: {allowed_services: [{service_name: openai}]}}")?;
    /// let services = policy.api().unwrap();
    /// assert_eq!(services.check("openai"), ApiMatch::Allowed);
    /// assert_eq!(services.check("stripe"), ApiMatch::NotListed);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn check(&self, service: &str) -> ApiMatch {
        match &self.allowed {
            _ if !self.enabled => ApiMatch::Disabled,
            Some(allowed) if !allowed.iter().any(|entry| entry.name.matches(service)) => {
                ApiMatch::NotListed
            }
            _ => ApiMatch::Allowed,
        }
    }

    /// Judges an endpoint of a service, by its path below the API's base: `/chat/completions`.
    ///
    /// An entry of `endpoints` names a family by its first segment (`chat`, `responses`), or one path, with slashes or
    /// dots (`chat/completions`, `chat.completions`), a leading `/` or `/v1/` left out; it may hold `*`. A service
    /// without the list is allowed with every endpoint.
    ///
    /// ```
    /// # use tower_sekuire::{ApiMatch, Policy};
    /// let policy = Policy::from_yaml(
    ///     "permissions: {api: {allowed_services: [{service_name: openai, endpoints: [chat, models]}]}}",
    /// )?;
    /// let services = policy.api().unwrap();
    /// assert_eq!(services.check_endpoint("openai", "/chat/completions"), ApiMatch::Allowed);
    /// assert_eq!(services.check_endpoint("openai", "/embeddings"), ApiMatch::EndpointNotListed);
    /// assert_eq!(services.check_endpoint("stripe", "/charges"), ApiMatch::NotListed);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn check_endpoint(&self, service: &str, path: &str) -> ApiMatch {
        let found = self.check(service);
        let (ApiMatch::Allowed, Some(allowed)) = (found, &self.allowed) else {
            return found;
        };
        let entries = allowed.iter().filter(|entry| entry.name.matches(service));
        let mut lists = entries.map(|entry| entry.endpoints.as_deref());
        if lists.any(|list| list.is_none_or(|list| list.iter().any(|entry| names(entry, path)))) {
            ApiMatch::Allowed
        } else {
            ApiMatch::EndpointNotListed
        }
    }
}

/// Whether an entry of `endpoints` means this path.
fn names(entry: &NamePattern, path: &str) -> bool {
    let path = path.trim_start_matches('/');
    let family = path.split('/').next().unwrap_or_default();
    let entry = NamePattern::new(&path_of(entry));
    entry.matches(family) || entry.matches(path)
}

/// The family of endpoints that an entry is of.
pub(super) fn family_of(entry: &NamePattern) -> String {
    let path = path_of(entry);
    path.split('/').next().unwrap_or_default().to_owned()
}

/// The path that an entry of `endpoints` is written for, in the one form in which paths are compared.
fn path_of(entry: &NamePattern) -> Cow<'_, str> {
    let written = entry.as_str().trim_start_matches('/');
    let written = written.strip_prefix("v1/").unwrap_or(written);
    if written.contains('.') {
        Cow::Owned(written.replace('.', "/"))
    } else {
        Cow::Borrowed(written)
    }
}

/// Whether one entry of `endpoints` means whatever `other` means.
pub(super) fn endpoint_covers(entry: &NamePattern, other: &NamePattern) -> bool {
    let other = path_of(other);
    let own = NamePattern::new(&path_of(entry));
    // A `*` of the other's may run past its first segment, which is then no family's name.
    let family = other.split('/').next().filter(|name| !name.contains('*'));
    own.matches(&other) || family.is_some_and(|family| own.matches(family))
}

impl ApiService {
    /// Whether whatever `other` allows is allowed by this one entry too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        if !self.name.covers(&other.name) {
            return false;
        }
        match (&self.endpoints, &other.endpoints) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others
                .iter()
                .all(|other| own.iter().any(|entry| endpoint_covers(entry, other))),
        }
    }

    /// The service's name, as in `openai`.
    #[must_use]
    pub fn name(&self) -> &NamePattern {
        &self.name
    }

    /// The service's endpoints that may be called, or `None` when all may.
    #[must_use]
    pub fn endpoints(&self) -> Option<&[NamePattern]> {
        self.endpoints.as_deref()
    }
}

impl fmt::Display for ApiService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
