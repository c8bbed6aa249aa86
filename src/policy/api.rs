//! Which services an agent may call, by name.

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
}

impl ApiService {
    /// The service's name, as in `openai`.
    #[must_use]
    pub fn name(&self) -> &NamePattern {
        &self.name
    }

    /// The service's endpoints that are named, or `None` when none is. They are not enforced: Sekuire doesn't define
    /// what they are compared with.
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
