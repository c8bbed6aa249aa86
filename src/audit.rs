//! What is told about every decision: one structured event, and a callback, whatever form the refusal takes.
//!
//! Nothing of a prompt, an answer, a tool's arguments or a header is ever told.

mod log;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::enforcer::Mode;
use crate::violation::PolicyViolation;
pub use log::AuditLog;

/// When in a call's life a decision was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Before anything was sent.
    Request,
    /// At the end of the answer, however it ended.
    End,
}

impl Phase {
    /// The stable snake_case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::End => "end",
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing speaks against it.
    Allowed,
    /// It was refused.
    Refused,
    /// It violates the policy and went ahead, because the mode is warn or audit.
    Observed,
    /// It went ahead unread: the endpoint is neutral, opened by name, or could not be read in warn or audit mode.
    NotInspected,
}

impl Verdict {
    /// The stable snake_case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Observed => "observed",
            Self::NotInspected => "not_inspected",
        }
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// It was delivered whole.
    Complete,
    /// It was cut off by a violation.
    Violation,
    /// The server or the connection failed.
    Error,
    /// The client left before the end.
    Dropped,
}

impl End {
    /// The stable snake_case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Violation => "violation",
            Self::Error => "error",
            Self::Dropped => "dropped",
        }
    }
}

/// One decision, as told to [`SekuireLayer::on_decision`](crate::SekuireLayer::on_decision) and to `tracing`
/// (target `tower_sekuire`).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Decision<'a> {
    /// Which of the process's calls it is about, counted from 1: what was decided of a request and the end of its
    /// answer have the same number.
    pub call: u64,
    /// When it was taken.
    pub phase: Phase,
    /// What was decided.
    pub verdict: Verdict,
    /// What a violation does to a call.
    pub mode: Mode,
    /// Whose policy decided.
    pub agent: &'a str,
    /// The id by which Sekuire knows this agent, where it is known; of an agent that the policy's file doesn't list, that of
    /// the policy's own.
    pub sekuire_id: Option<&'a str>,
    /// Which of its source's policies decided, counted from 1.
    pub policy_version: u64,
    /// Method and path below the base, with `{}` for what varies: `POST /chat/completions`. Empty when the call is
    /// on no known endpoint.
    pub endpoint: &'a str,
    /// The model that the request names.
    pub model: Option<&'a str>,
    /// The tools that the request declares and, at the end, those that the answer called.
    pub tools: &'a [String],
    /// The first violation, where there is one.
    pub violation: Option<&'a PolicyViolation>,
    /// Tokens charged; at the end only.
    pub tokens: Option<u64>,
    /// The charge is an estimate, because the answer did not tell its usage.
    pub estimated: bool,
    /// Tokens of the prompt, as the answer tells them; at the end only, and whether or not tokens are limited.
    pub input_tokens: Option<u64>,
    /// Tokens of the output, likewise.
    pub output_tokens: Option<u64>,
    /// How the answer ended; at the end only.
    pub end: Option<End>,
    /// Since the request was first seen.
    pub duration: Duration,
}

/// A user's callback.
pub(crate) type OnDecision = Arc<dyn for<'a> Fn(&Decision<'a>) + Send + Sync>;

impl Decision<'_> {
    pub(crate) fn tell(&self, callback: Option<&OnDecision>) {
        let rule = self.violation.map(|violation| violation.rule().as_str());
        let value = self.violation.and_then(PolicyViolation::value);
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    target: "tower_sekuire",
                    call = self.call,
                    phase = self.phase.as_str(),
                    verdict = self.verdict.as_str(),
                    gen_ai.agent.name = &*crate::violation::shown(self.agent),
                    gen_ai.agent.id = self.sekuire_id,
                    mode = self.mode.as_str(),
                    policy_version = self.policy_version,
                    endpoint = self.endpoint,
                    gen_ai.operation.name = crate::span::operation(self.endpoint),
                    gen_ai.request.model = self.model.map(|model| crate::violation::shown(model)).as_deref(),
                    tools = %Names(self.tools),
                    rule,
                    value,
                    gen_ai.usage.input_tokens = self.input_tokens,
                    gen_ai.usage.output_tokens = self.output_tokens,
                    tokens = self.tokens,
                    estimated = self.estimated,
                    end = self.end.map(End::as_str),
                    duration_us = micros(self.duration),
                    "{}", Reason(self.violation)
                )
            };
        }
        match self.verdict {
            Verdict::Refused | Verdict::Observed if self.mode != Mode::Audit => event!(warn),
            _ => event!(info),
        }
        if let Some(callback) = callback {
            // The decision stands and is carried out whatever the callback does; a panic that left here could
            // meet another in a destructor and end the process.
            if catch_unwind(AssertUnwindSafe(|| callback(self))).is_err() {
                tracing::error!(target: "tower_sekuire", "the decision callback panicked");
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Tool names on one line, each escaped.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", crate::violation::shown(name))?;
        }
        Ok(())
    }
}

struct Reason<'a>(Option<&'a PolicyViolation>);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(violation) => f.write_str(violation.message()),
            None => f.write_str("policy decision"),
        }
    }
}
