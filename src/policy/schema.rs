//! The keys of a policy file, as tables, and how to find the nearest of them.
//!
//! A key that is in no table is an error, so a table that grows loosens what
//! loads: add a key only with the code that reads it, or where it restricts
//! nothing.

use super::sections;

/// What may stand in a field that restricts nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Anything that doesn't look like a rule.
    Free,
    /// A mapping of these keys.
    Keys(&'static [(&'static str, Self)]),
    /// A request for enforcement that isn't done here.
    Request,
}

use Kind::{Free, Keys, Request};

/// Top-level sections that restrict nothing.
pub(super) const SECTIONS: &[(&str, Kind)] = &[
    ("spec_version", Free),
    ("version", Free),
    ("name", Free),
    ("description", Free),
    (
        "project",
        Keys(&[
            ("name", Free),
            ("version", Free),
            ("description", Free),
            ("author", Free),
            ("authors", Free),
            ("license", Free),
            ("sekuire_id", Free),
        ]),
    ),
    (
        "identity",
        Keys(&[
            ("name", Free),
            ("version", Free),
            ("description", Free),
            ("sekuire_id", Free),
            ("model", Free),
            ("system_prompt_path", Free),
            ("system_prompt_hash", Free),
            ("tools_path", Free),
            ("tools_hash", Free),
        ]),
    ),
    ("llm", LLM),
    ("memory", MEMORY),
    (
        "logger",
        Keys(&[
            ("api_base_url", Free),
            ("environment", Free),
            ("enabled", Free),
        ]),
    ),
    (
        "deployment",
        Keys(&[("docker_image", Free), ("notes", Free), ("env", Free)]),
    ),
    ("server", Free),
    (
        "a2a",
        Keys(&[
            ("upstream_url", Free),
            ("public_base_url", Free),
            ("timeout_ms", Free),
        ]),
    ),
    ("capabilities", CAPABILITIES),
    ("compliance", COMPLIANCE),
    (
        "audit",
        Keys(&[("enabled", Free), ("level", Free), ("sign_events", Free)]),
    ),
];

/// The same, of an agent.
pub(super) const AGENT_SECTIONS: &[(&str, Kind)] = &[
    ("description", Free),
    ("version", Free),
    ("sekuire_id", Free),
    ("model", Free),
    ("system_prompt", Free),
    ("llm", LLM),
    ("memory", MEMORY),
    ("capabilities", CAPABILITIES),
    ("compliance", COMPLIANCE),
];

const LLM: Kind = Keys(&[
    ("provider", Free),
    ("model", Free),
    ("api_key_env", Free),
    ("temperature", Free),
    ("max_tokens", Free),
    ("streaming", Free),
    ("base_url", Free),
]);

const MEMORY: Kind = Keys(&[("type", Free), ("max_messages", Free), ("config", Free)]);

const CAPABILITIES: Kind = Keys(&[
    ("provides", Free),
    ("requires", Free),
    ("delegates_to", Free),
    ("require_tool_approval", Request),
]);

const COMPLIANCE: Kind = Keys(&[
    ("framework", Free),
    ("frameworks", Free),
    ("audit_logging", Free),
    ("require_audit_logging", Free),
    ("sensitive_data_detection", Free),
    ("require_approval", Request),
    ("require_tool_approval", Request),
    ("require_confirmation", Request),
    ("data_residency", Request),
]);

/// The keys of an envelope around the rules, other than `content`.
pub(super) const ENVELOPE: &[&str] = &[
    "policy_id",
    "workspace_id",
    "version",
    "status",
    "hash",
    "activated_at",
    "updated_at",
    "signature",
    "signing_key_id",
    "signing_public_key",
];

pub(super) const TOP_LEVEL_RULES: &[&str] = &[
    "agent",
    "agents",
    "models",
    "toolsets",
    "tools",
    "permissions",
    "rate_limits",
];

pub(super) const AGENT_RULES: &[&str] = &["name", "models", "toolsets", "tools"];

pub(super) const MODELS: &[&str] = &["allowed_models", "blocked_models", "allowed_providers"];

pub(super) const TOOLSETS: &[&str] = &["allowed_tools", "blocked_tools"];

pub(super) const TOOL: &[&str] = &["name", "description"];

pub(super) const PERMISSIONS: &[&str] = &["network", "filesystem", "api"];

pub(super) const NETWORK: &[&str] = &[
    "enabled",
    "require_tls",
    "allowed_domains",
    "blocked_domains",
];

pub(super) const FILESYSTEM: &[&str] = &[
    "enabled",
    "allowed_paths",
    "blocked_paths",
    "allowed_extensions",
];

pub(super) const API: &[&str] = &["enabled", "allowed_services"];

pub(super) const SERVICE: &[&str] = &["service_name", "endpoints"];

pub(super) const RATE_LIMITS: &[&str] = &["per_agent", "per_model", "global"];

/// Why a section that restricts nothing is listed as not enforced.
pub(super) const DESCRIBES: &str = "describes, restricts nothing";

/// The same, of a section that held rules, too.
pub(super) const DESCRIBES_THE_REST: &str = "what else is in it describes, restricts nothing";

/// Every key of a place that has both rules and descriptive sections.
pub(super) fn known(
    rules: &[&'static str],
    sections: &[(&'static str, Kind)],
) -> Vec<&'static str> {
    let sections = sections.iter().map(|(name, _)| *name);
    rules.iter().copied().chain(sections).collect()
}

/// The section that a key belongs to, where there is only one.
pub(super) fn home(key: &str) -> Option<&'static str> {
    let home = match key {
        "allowed_models" | "blocked_models" => "models",
        "allowed_tools" | "blocked_tools" => "toolsets",
        "allowed_domains" | "blocked_domains" | "require_tls" => "permissions.network",
        "allowed_paths" | "blocked_paths" | "allowed_extensions" => "permissions.filesystem",
        "allowed_services" => "permissions.api",
        "service_name" => "permissions.api.allowed_services",
        "filesystem" => "permissions",
        "per_agent" | "per_model" => "rate_limits",
        _ if is_limit(key) => "rate_limits.per_agent",
        _ => return None,
    };
    Some(home)
}

pub(super) fn is_limit(key: &str) -> bool {
    sections::LIMITS.iter().any(|(limit, ..)| *limit == key)
}

/// Whether a key leads to rules somewhere.
pub(super) fn is_of_rules(key: &str) -> bool {
    let tables = [
        TOP_LEVEL_RULES,
        AGENT_RULES,
        MODELS,
        TOOLSETS,
        PERMISSIONS,
        NETWORK,
        FILESYSTEM,
        API,
        SERVICE,
        RATE_LIMITS,
    ];
    tables.iter().any(|keys| keys.contains(&key))
}

/// Keys that ask for enforcement that isn't done here, wherever they stand.
pub(super) fn is_request(key: &str) -> bool {
    matches!(
        key,
        "require_approval"
            | "require_tool_approval"
            | "require_confirmation"
            | "data_residency"
            | "allowed_providers"
    )
}

/// Whether a key in a place without rules is named like one.
pub(super) fn looks_like_a_rule(key: &str) -> bool {
    const STARTS: &[&str] = &[
        "allowed_",
        "blocked_",
        "denied_",
        "allow_",
        "block_",
        "deny_",
        "require_",
        "max_requests",
        "max_per_",
        "requests_per_",
        "tokens_per_",
        "rate_limit",
    ];
    const KEYS: &[&str] = &[
        "models",
        "toolsets",
        "permissions",
        "policy",
        "Statement",
        "allow",
        "block",
        "deny",
    ];
    KEYS.contains(&key) || STARTS.iter().any(|start| key.starts_with(start))
}

/// The known key that a key was probably meant to be.
pub(super) fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    if key.len() > 64 {
        return None;
    }
    let allowed = (key.len() / 4).max(1);
    known
        .iter()
        .filter(|known| !are_opposites(key, known))
        .map(|known| (distance(key, known), *known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Whether one allows what the other forbids, however near their letters are.
fn are_opposites(key: &str, known: &str) -> bool {
    let allows = |key: &str| key.to_lowercase().starts_with("allow");
    let blocks = |key: &str| {
        let key = key.to_lowercase();
        ["block", "den", "forbid", "disallow"]
            .iter()
            .any(|start| key.starts_with(start))
    };
    (allows(key) && blocks(known)) || (blocks(key) && allows(known))
}

/// How many letters have to be added, removed, replaced or swapped with their
/// neighbour to make one word of the other. Case and `-` for `_` are free.
fn distance(from: &str, to: &str) -> usize {
    let fold =
        |word: &str| -> Vec<char> { word.to_lowercase().replace('-', "_").chars().collect() };
    let (from, to) = (fold(from), fold(to));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, &a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        let mut last_to = None;
        for (j, &b) in to.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&row, j) + usize::from(a != b);
            let mut best = replaced.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if j > 0 && last == Some(b) && last_to == Some(a) {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
            last_to = Some(b);
        }
        before = row;
        row = next;
        last = Some(a);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn the_nearest_key_is_the_one_a_typo_was_meant_for() {
        let known = ["allowed_models", "blocked_models", "allowed_providers"];
        assert_eq!(nearest("allowed_model", &known), Some("allowed_models"));
        assert_eq!(nearest("allowed-models", &known), Some("allowed_models"));
        assert_eq!(nearest("AllowedModels", &known), Some("allowed_models"));
        assert_eq!(nearest("bolcked_models", &known), Some("blocked_models"));
        assert_eq!(nearest("temperature", &known), None);
        // What is near by its letters must not be the contrary by its meaning.
        assert_eq!(nearest("blocked_providers", &known), None);
        assert_eq!(nearest("blocked_services", &["allowed_services"]), None);
        assert_eq!(nearest("disallowed_services", &["allowed_services"]), None);
        assert_eq!(nearest(&"a".repeat(65), &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
