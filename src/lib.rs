//! Tower middleware that governs AI agents at the HTTP layer.

mod audit;
mod body;
mod enforcer;
mod exchange;
mod future;
mod governor;
mod layer;
mod limits;
mod policy;
mod respond;
mod service;
mod steps;
mod violation;
mod wire;

pub use audit::{Decision, End, Phase, Verdict};
pub use body::ResponseBody;
pub use enforcer::{LimitUsage, Mode, PolicyEnforcer, RateLimit};
pub use future::{HttpResponse, ResponseFuture};
pub use layer::SekuireLayer;
pub use limits::{Clock, ManualClock, SystemClock};
pub use policy::{
    DomainPattern, Limit, LimitScope, LimitUnit, NameMatch, NamePattern, NameRules, NetworkMatch,
    NetworkRules, Notice, Policy, PolicyError, PolicyLoader, Problem,
};
pub use respond::Respond;
pub use service::SekuireService;
pub use violation::{PolicyViolation, Rule, Seen};

/// The error type of governed services and bodies: whatever failed, boxed.
/// [`PolicyViolation::find`] finds a violation in it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
