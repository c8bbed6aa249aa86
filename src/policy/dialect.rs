//! What other forms of policy call things, and what to write here instead.
//!
//! None of them is read: half of a policy understood would be worse than none.
//! The table exists so that a person who brings one is told, key by key. What Sekuire
//! itself writes in other ways is read, see `translate`.

/// A key by which another form of policy is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// What to write instead.
    Key(&'static str),
    /// A section whose keys are each looked up in turn.
    Section,
}

/// Looks up a path, with `agent` for each agent of a file.
pub(super) fn foreign(place: &str) -> Option<Foreign> {
    // Models and toolsets are read in two places.
    let place = place
        .strip_prefix("agent.models.")
        .map(|key| format!("models.{key}"))
        .or_else(|| {
            ["agent.toolsets.", "agent.tools.", "tools."]
                .iter()
                .find_map(|prefix| place.strip_prefix(prefix))
                .map(|key| format!("toolsets.{key}"))
        })
        .unwrap_or_else(|| place.to_owned());
    FOREIGN
        .iter()
        .find(|(path, _)| *path == place)
        .map(|(_, foreign)| *foreign)
}

/// Keys that are read where `key` stands at `place`, since other dialects of Sekuire write them there.
pub(super) fn also(place: &str, key: &str) -> &'static [&'static str] {
    let parent = place.strip_suffix(key).unwrap_or_default();
    match parent {
        "models." | "agent.models." => &["denied_models"],
        "toolsets." | "tools." | "agent.toolsets." | "agent.tools." => &["denied_tools"],
        "agent." | "capabilities." | "agent.capabilities." => {
            &["allowed_tools", "blocked_tools", "denied_tools"]
        }
        "permissions.network." => &["allowed_hosts", "blocked_hosts"],
        "rate_limits.requests." | "rate_limits.tokens." => {
            &["max_per_minute", "max_per_hour", "max_per_day"]
        }
        "policy." => &["models", "tools", "network", "rate_limits"],
        "policy.models." | "policy.tools." => &["allowed", "blocked", "denied"],
        "policy.network." => &[
            "allowed_domains",
            "blocked_domains",
            "require_tls",
            "deny_all_other",
        ],
        "policy.rate_limits." => &[
            "max_requests_per_minute",
            "max_requests_per_hour",
            "max_requests_per_day",
            "max_tokens_per_minute",
            "max_tokens_per_hour",
            "max_tokens_per_day",
        ],
        _ => &[],
    }
}

const ALLOWED_MODELS: Foreign = Foreign::Key("write `allowed_models` under `agent.models`");
const BLOCKED_MODELS: Foreign = Foreign::Key("write `blocked_models` under `agent.models`");
const ALLOWED_TOOLS: Foreign = Foreign::Key("write `allowed_tools` under `agent.toolsets`");
const BLOCKED_TOOLS: Foreign = Foreign::Key("write `blocked_tools` under `agent.toolsets`");
const ALLOWED_DOMAINS: Foreign = Foreign::Key(
    "write `allowed_domains` under `permissions.network`, hosts without scheme or path",
);
const BLOCKED_DOMAINS: Foreign = Foreign::Key(
    "write `blocked_domains` under `permissions.network`, hosts without scheme or path",
);
const DENY_BY_DEFAULT: Foreign = Foreign::Key(
    "write `allowed_domains`, which refuses every other host; without hosts in it, `[]`, every host is refused",
);
const REQUESTS_PER_MINUTE: Foreign =
    Foreign::Key("write `requests_per_minute` under `rate_limits.per_agent`");
const REQUESTS_PER_HOUR: Foreign =
    Foreign::Key("write `requests_per_hour` under `rate_limits.per_agent`");
const REQUESTS_PER_DAY: Foreign =
    Foreign::Key("write `requests_per_day` under `rate_limits.per_agent`");
const TOKENS_PER_MINUTE: Foreign =
    Foreign::Key("write `tokens_per_minute` under `rate_limits.per_agent`");
const TOKENS_PER_HOUR: Foreign =
    Foreign::Key("write `tokens_per_hour` under `rate_limits.per_agent`");
const TOKENS_PER_DAY: Foreign =
    Foreign::Key("write `tokens_per_day` under `rate_limits.per_agent`");
const TOP_LEVEL: Foreign = Foreign::Key("write the section at the top level of the file");
const STATEMENTS: Foreign = Foreign::Key(
    "write the statements as `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
);

const NOT_JUDGED: Foreign = Foreign::Key("remove it: parameters of a call are not judged here");
const CONTENT: Foreign = Foreign::Key("remove it: what messages say is not judged here");

const FOREIGN: &[(&str, Foreign)] = &[
    ("models.allowed", ALLOWED_MODELS),
    ("models.blocked", BLOCKED_MODELS),
    ("models.denied", BLOCKED_MODELS),
    ("toolsets.allowed", ALLOWED_TOOLS),
    ("toolsets.blocked", BLOCKED_TOOLS),
    ("toolsets.denied", BLOCKED_TOOLS),
    ("agent.allowed_models", ALLOWED_MODELS),
    ("agent.blocked_models", BLOCKED_MODELS),
    ("agent.denied_models", BLOCKED_MODELS),
    ("agent.network", Foreign::Section),
    ("agent.network.allow", ALLOWED_DOMAINS),
    ("agent.network.block", BLOCKED_DOMAINS),
    ("agent.permissions", TOP_LEVEL),
    ("agent.rate_limits", TOP_LEVEL),
    ("allowed_models", ALLOWED_MODELS),
    ("blocked_models", BLOCKED_MODELS),
    ("denied_models", BLOCKED_MODELS),
    ("allowed_tools", ALLOWED_TOOLS),
    ("blocked_tools", BLOCKED_TOOLS),
    ("denied_tools", BLOCKED_TOOLS),
    ("network", Foreign::Section),
    ("network.allow", ALLOWED_DOMAINS),
    ("network.block", BLOCKED_DOMAINS),
    ("network.allowed_domains", ALLOWED_DOMAINS),
    ("network.blocked_domains", BLOCKED_DOMAINS),
    ("permissions.network.allow", ALLOWED_DOMAINS),
    ("permissions.network.block", BLOCKED_DOMAINS),
    ("permissions.network.default_deny", DENY_BY_DEFAULT),
    ("permissions.network.deny_all_other", DENY_BY_DEFAULT),
    ("permissions.model", Foreign::Section),
    ("permissions.model.allowed_models", ALLOWED_MODELS),
    ("permissions.model.blocked_models", BLOCKED_MODELS),
    ("permissions.models", Foreign::Section),
    ("permissions.models.allowed_models", ALLOWED_MODELS),
    ("permissions.models.blocked_models", BLOCKED_MODELS),
    ("permissions.tools", Foreign::Section),
    ("permissions.tools.allowed_tools", ALLOWED_TOOLS),
    ("permissions.tools.blocked_tools", BLOCKED_TOOLS),
    ("permissions.tools.blocked_patterns", BLOCKED_TOOLS),
    ("permissions.tools.enforce_whitelist", ALLOWED_TOOLS),
    ("permissions.model.max_temperature", NOT_JUDGED),
    ("permissions.model.max_tokens", NOT_JUDGED),
    ("permissions.tools.timeout_seconds", NOT_JUDGED),
    ("permissions.content", Foreign::Section),
    ("permissions.content.blocked_input_patterns", CONTENT),
    ("permissions.content.blocked_output_patterns", CONTENT),
    ("permissions.content.max_response_length", CONTENT),
    ("rate_limits.requests", Foreign::Section),
    ("rate_limits.tokens", Foreign::Section),
    ("rate_limits.requests_per_minute", REQUESTS_PER_MINUTE),
    ("rate_limits.requests_per_hour", REQUESTS_PER_HOUR),
    ("rate_limits.requests_per_day", REQUESTS_PER_DAY),
    ("rate_limits.tokens_per_minute", TOKENS_PER_MINUTE),
    ("rate_limits.tokens_per_hour", TOKENS_PER_HOUR),
    ("rate_limits.tokens_per_day", TOKENS_PER_DAY),
    ("policy", Foreign::Section),
    ("policy.models", Foreign::Section),
    ("policy.tools", Foreign::Section),
    ("policy.network", Foreign::Section),
    ("policy.network.deny_all_other", DENY_BY_DEFAULT),
    ("policy.rate_limits", Foreign::Section),
    (
        "Version",
        Foreign::Key("remove it: it belongs to the statements"),
    ),
    ("Statement", STATEMENTS),
    (
        "ResourceLimits",
        Foreign::Key("write requests and tokens under `rate_limits`; nothing else is limited here"),
    ),
    (
        "RequireApproval",
        Foreign::Key("remove it, or block the tools: nobody is asked for approval here"),
    ),
    (
        "AuditLog",
        Foreign::Key("remove it: every decision is logged"),
    ),
];

#[cfg(test)]
mod tests {
    use super::{Foreign, foreign};

    #[test]
    fn models_and_toolsets_are_looked_up_in_both_places() {
        let help = Foreign::Key("write `blocked_models` under `agent.models`");
        assert_eq!(foreign("models.denied"), Some(help));
        assert_eq!(foreign("agent.models.denied"), Some(help));
        assert!(foreign("agent.tools.denied").is_some());
        assert!(foreign("tools.denied").is_some());
        assert_eq!(foreign("agent.models.allowed_models"), None);
    }
}
