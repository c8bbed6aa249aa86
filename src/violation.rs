//! What a refusal is: the rule that fired, the value it fired on, and what to do about it.
//!
//! A violation never carries prompts, tool arguments, credentials or a URL's query: it ends up in logs,
//! in error chains and in answers to clients.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::held;

/// The most characters of a foreign value that a violation repeats.
const SHOWN_CHARS: usize = 128;

/// The rule of a policy, or of safe reading, that refused a call.
///
/// [`as_str`](Self::as_str) is the stable id used in messages, error bodies (`code`) and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
// A new rule goes to the end: callers see the order, by `Ord` and by casts.
pub enum Rule {
    /// The model matches a `blocked_models` entry.
    ModelBlocked,
    /// The model matches no `allowed_models` entry, or its name can't be known.
    ModelNotAllowed,
    /// The tool matches a `blocked_tools` entry.
    ToolBlocked,
    /// The tool matches no `allowed_tools` entry.
    ToolNotAllowed,
    /// `permissions.network.enabled` is false.
    NetworkDisabled,
    /// `permissions.network.require_tls` is true and the scheme is neither `https` nor `wss`.
    NetworkTlsRequired,
    /// The host matches a `blocked_domains` entry.
    NetworkBlocked,
    /// The host matches no `allowed_domains` entry.
    NetworkNotAllowed,
    /// `permissions.filesystem.enabled` is false.
    FsDisabled,
    /// The path is, or is below, a `blocked_paths` entry.
    FsBlocked,
    /// The path matches no `allowed_paths` entry.
    FsNotAllowed,
    /// The file's extension is not in `allowed_extensions`.
    FsExt,
    /// `permissions.api.enabled` is false.
    ApiDisabled,
    /// The service matches no `allowed_services` entry.
    ApiNotAllowed,
    /// A request window of `rate_limits` is full.
    RateLimitExceeded,
    /// A token window of `rate_limits` is spent.
    TokenBudgetExceeded,
    /// Somebody stopped the call by a [`KillSwitch`](crate::KillSwitch).
    KillSwitch,
    /// The method and path are not governed and not opened by name.
    EndpointNotAllowed,
    /// The request is ambiguous, malformed, too large or encoded in a way that can't be inspected.
    RequestUnreadable,
    /// The answer is ambiguous, malformed, too large or encoded in a way that can't be inspected.
    ResponseUnreadable,
}

impl Rule {
    /// The stable snake_case id, such as `model_blocked`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModelBlocked => "model_blocked",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::ToolBlocked => "tool_blocked",
            Self::ToolNotAllowed => "tool_not_allowed",
            Self::NetworkDisabled => "network_disabled",
            Self::NetworkTlsRequired => "network_tls_required",
            Self::NetworkBlocked => "network_blocked",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::FsDisabled => "fs_disabled",
            Self::FsBlocked => "fs_blocked",
            Self::FsNotAllowed => "fs_not_allowed",
            Self::FsExt => "fs_ext",
            Self::ApiDisabled => "api_disabled",
            Self::ApiNotAllowed => "api_not_allowed",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::TokenBudgetExceeded => "token_budget_exceeded",
            Self::KillSwitch => "kill_switch",
            Self::EndpointNotAllowed => "endpoint_not_allowed",
            Self::RequestUnreadable => "request_unreadable",
            Self::ResponseUnreadable => "response_unreadable",
        }
    }

    /// Sekuire's own dotted id, such as `model.blocked`, where Sekuire has one.
    #[must_use]
    pub const fn sekuire_id(self) -> Option<&'static str> {
        match self {
            Self::ModelBlocked => Some("model.blocked"),
            Self::ModelNotAllowed => Some("model.not_allowed"),
            Self::ToolBlocked => Some("tool.blocked"),
            Self::ToolNotAllowed => Some("tool.not_allowed"),
            Self::NetworkDisabled => Some("network.disabled"),
            Self::NetworkTlsRequired => Some("network.tls_required"),
            Self::NetworkBlocked => Some("network.blocked"),
            Self::NetworkNotAllowed => Some("network.not_allowed"),
            Self::FsDisabled => Some("fs.disabled"),
            Self::FsBlocked => Some("fs.blocked"),
            Self::FsNotAllowed => Some("fs.not_allowed"),
            Self::FsExt => Some("fs.ext"),
            Self::ApiDisabled => Some("api.disabled"),
            Self::ApiNotAllowed => Some("api.not_allowed"),
            Self::RateLimitExceeded | Self::TokenBudgetExceeded => Some("rate_limit.exceeded"),
            Self::KillSwitch
            | Self::EndpointNotAllowed
            | Self::RequestUnreadable
            | Self::ResponseUnreadable => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the refused value was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Seen {
    /// In a question put to [`PolicyEnforcer`](crate::PolicyEnforcer), with no HTTP involved.
    Question,
    /// In the outgoing request, before anything was sent.
    Request,
    /// In the answer's head or its whole body.
    Response,
    /// In this event of a streamed answer, counted from 1.
    Event(u64),
}

/// A decision of the policy against a call: a typed error that explains itself.
///
/// Displays as `[model_blocked] Model gpt-3.5-turbo is not allowed`.
///
/// ```
/// use tower_sekuire::{Policy, PolicyEnforcer, Rule};
///
/// let policy = Policy::from_yaml("agent: { models: { blocked_models: [gpt-3.5-turbo] } }")?;
/// let violation = PolicyEnforcer::new(policy).enforce_model("gpt-3.5-turbo").unwrap_err();
/// assert_eq!(violation.rule(), Rule::ModelBlocked);
/// assert_eq!(violation.to_string(), "[model_blocked] Model gpt-3.5-turbo is not allowed");
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct PolicyViolation(Box<Inner>);

#[derive(Clone, PartialEq)]
struct Inner {
    rule: Rule,
    message: Cow<'static, str>,
    help: Option<Cow<'static, str>>,
    value: Option<String>,
    param: Option<&'static str>,
    seen: Seen,
    retry_after: Option<Duration>,
    paid: bool,
}

impl PolicyViolation {
    pub(crate) fn new(rule: Rule, seen: Seen, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            rule,
            message: message.into(),
            help: None,
            value: None,
            param: None,
            seen,
            retry_after: None,
            paid: false,
        }))
    }

    /// The offending value. It is shown escaped and cut.
    pub(crate) fn with_value(mut self, value: &str) -> Self {
        self.0.value = Some(shown(value).into_owned());
        self
    }

    pub(crate) fn with_help(mut self, help: impl Into<Cow<'static, str>>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// The request parameter at fault, as OpenAI's error objects name it.
    pub(crate) fn with_param(mut self, param: &'static str) -> Self {
        self.0.param = Some(param);
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// Marks an answer that was paid for before it was refused: trying again pays again.
    pub(crate) fn after_the_call(mut self) -> Self {
        self.0.paid = true;
        self
    }

    pub(crate) fn at(mut self, seen: Seen) -> Self {
        self.0.seen = seen;
        self
    }

    /// The rule that refused.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.0.rule
    }

    /// The reason, without the rule's id: `Model gpt-3.5-turbo is not allowed`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it, where there is something to say beyond the message.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The value that the rule refused, escaped and cut to 128 characters. Of a limit, whom it counts for: `per_agent`,
    /// `per_model.gpt-4o*` or `global`.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.0.value.as_deref()
    }

    /// The request parameter at fault (`model`, `tools`), where the refusal is about one.
    #[must_use]
    pub const fn param(&self) -> Option<&'static str> {
        self.0.param
    }

    /// Where the value was seen.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        self.0.seen
    }

    /// For limits: how long until the same call could be admitted. `None` for every other rule, and for a
    /// limit that no wait can satisfy.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// True when the refused answer had already been produced and charged, so that trying again pays again.
    #[must_use]
    pub const fn is_after_the_call(&self) -> bool {
        self.0.paid
    }

    /// Finds a violation in an error's chain of sources, through hyper, reqwest, reqwest-middleware, async-openai (with
    /// the feature `async-openai`) and [`std::io::Error`].
    ///
    /// ```
    /// use tower_sekuire::{Policy, PolicyEnforcer, PolicyViolation};
    ///
    /// let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
    /// let violation = PolicyEnforcer::new(policy).enforce_model("o3").unwrap_err();
    /// let wrapped = std::io::Error::other(violation);
    /// assert!(PolicyViolation::find(&wrapped).is_some());
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            if let Some(found) = held::inside(error).and_then(Self::find) {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl PartialEq for PolicyViolation {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Display for PolicyViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.0.rule, self.0.message)
    }
}

impl fmt::Debug for PolicyViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyViolation")
            .field("rule", &self.0.rule)
            .field("message", &self.0.message)
            .field("seen", &self.0.seen)
            .field("retry_after", &self.0.retry_after)
            .finish_non_exhaustive()
    }
}

impl Error for PolicyViolation {}

/// A foreign value fit for a message: control, bidirectional and other invisible characters escaped, and cut.
pub(crate) fn shown(value: &str) -> Cow<'_, str> {
    let plain = |c: char| !c.is_control() && (c.is_ascii() || c.is_alphanumeric());
    if value.len() <= SHOWN_CHARS && value.chars().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::new();
    let mut count = 0_usize;
    for c in value.chars() {
        let escaped: String = if plain(c) {
            c.into()
        } else {
            c.escape_unicode().to_string()
        };
        let len = escaped.chars().count();
        if count + len > SHOWN_CHARS {
            out.push('…');
            break;
        }
        count += len;
        out.push_str(&escaped);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_value_is_escaped_and_cut() {
        assert_eq!(shown("gpt-4o"), "gpt-4o");
        assert_eq!(shown("a\nb\u{202e}"), "a\\u{a}b\\u{202e}");
        let long = shown(&"x".repeat(1_000_000)).into_owned();
        assert_eq!(long.chars().count(), SHOWN_CHARS + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_violation_is_found_through_layers_of_errors() {
        let violation =
            PolicyViolation::new(Rule::ToolBlocked, Seen::Event(3), "Tool rm is blocked");
        let io = std::io::Error::other(std::io::Error::other(violation.clone()));
        assert_eq!(PolicyViolation::find(&io), Some(&violation));
        assert_eq!(PolicyViolation::find(&std::io::Error::other("else")), None);
    }
}
