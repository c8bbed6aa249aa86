//! Questions that no HTTP call answers by itself: files and services.

use super::PolicyEnforcer;
use crate::policy::{ApiMatch, ApiRules, FilesystemMatch, extension};
use crate::violation::{PolicyViolation, Rule, Seen, shown};

impl PolicyEnforcer {
    /// Whether this file may be touched. Ask before it is opened: a layer around an HTTP client sees no files.
    ///
    /// Give the absolute path that is opened, with links resolved (`std::fs::canonicalize`): it is compared as text.
    /// The operation (`read`, `write`, ...) makes no difference, as Sekuire's rules don't tell them apart; it is taken
    /// so that a question reads as Sekuire's own.
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer};
    ///
    /// let policy = Policy::from_yaml("permissions: {filesystem: {allowed_paths: [/tmp/*], blocked_paths: [/etc/*]}}")?;
    /// let enforcer = PolicyEnforcer::new(policy);
    /// assert!(enforcer.enforce_filesystem("/tmp/notes.txt", "write").is_ok());
    /// let refused = enforcer.enforce_filesystem("/etc/passwd", "read").unwrap_err();
    /// assert_eq!(refused.to_string(), "[fs_blocked] Path /etc/passwd is blocked");
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    ///
    /// # Errors
    /// One of the `Rule::Fs*`, or [`Rule::RequestUnreadable`] for a path that can't be compared (relative, or with a
    /// `..`), in [`Mode::Block`](crate::Mode::Block).
    pub fn enforce_filesystem(&self, path: &str, _operation: &str) -> Result<(), PolicyViolation> {
        self.answer(self.judge_filesystem(path))
    }

    /// Whether this service may be called, named as the policy names it: `openai`, `stripe`.
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer};
    ///
    /// let policy = Policy::from_yaml("permissions: {api: {allowed_services: [{service_name: openai}]}}")?;
    /// let enforcer = PolicyEnforcer::new(policy);
    /// assert!(enforcer.enforce_api("openai").is_ok());
    /// let refused = enforcer.enforce_api("stripe").unwrap_err();
    /// assert_eq!(refused.to_string(), "[api_not_allowed] Service stripe is not in the allowlist");
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    ///
    /// # Errors
    /// [`Rule::ApiDisabled`] or [`Rule::ApiNotAllowed`], in [`Mode::Block`](crate::Mode::Block).
    pub fn enforce_api(&self, service: &str) -> Result<(), PolicyViolation> {
        self.answer(self.judge_api(service, None, Seen::Question))
    }

    /// Whether a host may be called as far as the rules on services go, given the service that it is
    /// ([`SekuireLayer::service_of`](crate::SekuireLayer::service_of)): while services are restricted, a host that is
    /// none is refused.
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer};
    ///
    /// let policy = Policy::from_yaml("permissions: {api: {allowed_services: [{service_name: openai}]}}")?;
    /// let enforcer = PolicyEnforcer::new(policy);
    /// assert!(enforcer.enforce_service_of("api.openai.com", Some("openai")).is_ok());
    /// assert!(enforcer.enforce_service_of("api.example.com", None).is_err());
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    ///
    /// # Errors
    /// [`Rule::ApiDisabled`] or [`Rule::ApiNotAllowed`], in [`Mode::Block`](crate::Mode::Block).
    pub fn enforce_service_of(
        &self,
        host: &str,
        service: Option<&str>,
    ) -> Result<(), PolicyViolation> {
        let api = self.inner.policy.api();
        self.answer(match service {
            Some(service) => self.judge_api(service, None, Seen::Question),
            None if api.is_some_and(ApiRules::is_restricted) => self
                .judge_unknown_service(host)
                .map_err(|violation| violation.at(Seen::Question)),
            None => Ok(()),
        })
    }

    fn judge_filesystem(&self, path: &str) -> Result<(), PolicyViolation> {
        let Some(rules) = self.inner.policy.filesystem() else {
            return Ok(());
        };
        let (rule, message) = match rules.check(path) {
            FilesystemMatch::Allowed => return Ok(()),
            FilesystemMatch::Disabled => {
                (Rule::FsDisabled, "Filesystem access is disabled".to_owned())
            }
            FilesystemMatch::Blocked => {
                (Rule::FsBlocked, format!("Path {} is blocked", shown(path)))
            }
            FilesystemMatch::NotListed => (
                Rule::FsNotAllowed,
                format!("Path {} is not in the allowlist", shown(path)),
            ),
            FilesystemMatch::Extension => (
                Rule::FsExt,
                match extension(path) {
                    Some(extension) => format!("Extension {} is not allowed", shown(extension)),
                    None => format!("Path {} has no extension, and none is allowed", shown(path)),
                },
            ),
            FilesystemMatch::Unreadable => (
                Rule::RequestUnreadable,
                format!(
                    "path `{}` is not spelled in a way that file rules can be compared with",
                    shown(path)
                ),
            ),
        };
        let violation = PolicyViolation::new(rule, Seen::Question, message).with_value(path);
        Err(if rule == Rule::RequestUnreadable {
            violation.with_help("give the absolute path, with `..` and links resolved")
        } else {
            violation
        })
    }

    /// Whether a service may be called, and, of a request, its endpoint: the path below the API's base.
    pub(crate) fn judge_api(
        &self,
        service: &str,
        path: Option<&str>,
        seen: Seen,
    ) -> Result<(), PolicyViolation> {
        let Some(rules) = self.inner.policy.api() else {
            return Ok(());
        };
        let found = match path {
            Some(path) => rules.check_endpoint(service, path),
            None => rules.check(service),
        };
        let (rule, message) = match found {
            ApiMatch::Allowed => return Ok(()),
            ApiMatch::Disabled => (Rule::ApiDisabled, "API access is disabled".to_owned()),
            ApiMatch::NotListed => (
                Rule::ApiNotAllowed,
                format!("Service {} is not in the allowlist", shown(service)),
            ),
            ApiMatch::EndpointNotListed => (
                Rule::ApiNotAllowed,
                format!(
                    "Endpoint {} of service {} is not in the allowlist",
                    shown(path.unwrap_or_default()),
                    shown(service)
                ),
            ),
        };
        Err(PolicyViolation::new(rule, seen, message).with_value(service))
    }

    /// What rules on services say to a host that is none that they could name.
    pub(crate) fn judge_unknown_service(&self, host: &str) -> Result<(), PolicyViolation> {
        // Off is off for all.
        match self.judge_api("", None, Seen::Request) {
            Err(violation) if violation.rule() == Rule::ApiDisabled => Err(violation),
            _ => Err(PolicyViolation::new(
                Rule::ApiNotAllowed,
                Seen::Request,
                format!(
                    "Host {} is no known service, and services are restricted",
                    shown(host)
                ),
            )
            .with_value(host)
            .with_help("say which service it is: `SekuireLayer::service_hosts`, `--service-host`")),
        }
    }
}
