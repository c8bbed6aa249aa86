//! Policies as Sekuire writes them in other places: the same rules as in the form that is documented here, or refused.

#![cfg(test)]

use tower_sekuire::{LimitScope, NameMatch, NetworkMatch, Policy};

/// The rules as text, without where they were written.
fn rules(policy: &Policy) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        policy.models(),
        policy.tools(),
        policy.network(),
        policy.limits()
    )
}

fn load(text: &str) -> Policy {
    Policy::from_yaml(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn told(policy: &Policy) -> Vec<String> {
    policy
        .translated()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn refused(text: &str) -> String {
    Policy::from_yaml(text).unwrap_err().to_string()
}

#[test]
fn the_form_that_is_documented_is_not_translated() {
    let policy = load("agent: {models: {blocked_models: [a]}, toolsets: {allowed_tools: [b]}}");
    assert!(policy.translated().is_empty());
}

#[test]
fn the_policy_guide() {
    let theirs = load(
        "
agent:
  name: support
  models:
    allowed_models: [gpt-4o]
    denied_models: [gpt-4o-audio]
  capabilities:
    provides: [support]
    allowed_tools: [search, read_ticket]
    denied_tools: [delete_ticket]
compliance:
  frameworks: [soc2]
  require_audit_logging: true
",
    );
    let ours = load(
        "
agent:
  name: support
  models: { allowed_models: [gpt-4o], blocked_models: [gpt-4o-audio] }
  toolsets: { allowed_tools: [search, read_ticket], blocked_tools: [delete_ticket] }
",
    );
    assert_eq!(rules(&theirs), rules(&ours));
    assert_eq!(
        told(&theirs),
        [
            "agent.models.denied_models: read as `blocked_models`, as Sekuire's policy guide writes it",
            "agent.capabilities.allowed_tools: read as `allowed_tools`, as Sekuire's policy guide writes it",
            "agent.capabilities.denied_tools: read as `blocked_tools`, as Sekuire's policy guide writes it",
        ]
    );
    assert_eq!(theirs.models().check("gpt-4o-audio"), NameMatch::Blocked);
    assert_eq!(theirs.tools().check("delete_ticket"), NameMatch::Blocked);

    // What asks for enforcement that isn't done here is refused as ever.
    for (request, place) in [
        (
            "agent: {models: {denied_models: [a], allowed_providers: [openai]}}",
            "line 1, column 38: agent.models.allowed_providers",
        ),
        (
            "agent: {capabilities: {denied_tools: [a], require_tool_approval: true}}",
            "line 1, column 43: agent.capabilities.require_tool_approval",
        ),
    ] {
        assert_eq!(
            refused(request),
            format!(
                "{place}: asks for something that is not enforced here\n  \
                 help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)"
            )
        );
        assert!(
            Policy::loader()
                .accept_unenforced(true)
                .from_yaml(request)
                .is_ok()
        );
    }
}

#[test]
fn sekuire_init() {
    let theirs = load(
        "
project: { name: writer, version: 0.1.0 }
identity: { model: gpt-4o, system_prompt_path: ./prompt.md, tools_path: ./tools.json }
agent:
  name: writer
  allowed_tools: ['files:*', search]
  network:
    allow: ['https://api.openai.com', 'https://*.wikipedia.org/']
    block: ['http://evil.example', tracker.example]
llm: { provider: openai, model: gpt-4o, api_key_env: '${OPENAI_API_KEY}', base_url: '${BASE:-https://api.openai.com}' }
",
    );
    let ours = load(
        "
agent: { name: writer, toolsets: { allowed_tools: ['files:*', search] } }
permissions:
  network:
    require_tls: true
    allowed_domains: [api.openai.com, '*.wikipedia.org']
    blocked_domains: [evil.example, tracker.example]
",
    );
    assert_eq!(rules(&theirs), rules(&ours));
    assert_eq!(
        told(&theirs),
        [
            "agent.allowed_tools: read as `allowed_tools`, as `sekuire init` writes it",
            "agent.network.allow: read as `allowed_domains`, as `sekuire init` writes it",
            "agent.network.block: read as `blocked_domains`, as `sekuire init` writes it",
        ]
    );
    let network = theirs.network().unwrap();
    assert_eq!(
        network.check("api.openai.com", "http"),
        NetworkMatch::TlsRequired
    );
    assert_eq!(
        network.check("en.wikipedia.org", "https"),
        NetworkMatch::Allowed
    );

    let plain = load("agent: {network: {allow: [a.example, 'http://b.example']}}");
    assert_eq!(
        plain.network().unwrap().check("b.example", "http"),
        NetworkMatch::Allowed
    );
    // Empty lists stay what they are: nothing.
    let nothing = load("agent: {network: {allow: []}, allowed_tools: []}");
    assert_eq!(
        nothing.network().unwrap().check("a", "https"),
        NetworkMatch::NotListed
    );
    assert_eq!(nothing.tools().check("a"), NameMatch::NotListed);
}

#[test]
fn the_workspace_agent() {
    let theirs = load(
        "
permissions:
  network: { enabled: true, allowed_hosts: [api.openai.com, '*.googleapis.com'], blocked_hosts: [evil.example] }
rate_limits:
  requests: { max_per_minute: 60, max_per_hour: 1000 }
  tokens: { max_per_minute: 100000, max_per_day: 2000000 }
",
    );
    let ours = load(
        "
permissions:
  network: { enabled: true, allowed_domains: [api.openai.com, '*.googleapis.com'], blocked_domains: [evil.example] }
rate_limits:
  per_agent: { requests_per_minute: 60, requests_per_hour: 1000, tokens_per_minute: 100000, tokens_per_day: 2000000 }
",
    );
    assert_eq!(rules(&theirs), rules(&ours));
    assert_eq!(theirs.limits().len(), 4);
    assert!(
        theirs
            .limits()
            .iter()
            .all(|limit| *limit.scope() == LimitScope::PerAgent)
    );
    assert_eq!(
        told(&theirs)[2],
        "rate_limits.requests.max_per_minute: read as `requests_per_minute`, as Sekuire's workspace agent writes it"
    );
}

#[test]
fn the_oags_page() {
    let theirs = load(
        "
agent: { name: claims, model: gpt-4o }
policy:
  tools: { allowed: [search], denied: [transfer] }
  models: { allowed: [gpt-4o] }
  network: { allowed_domains: [api.openai.com], deny_all_other: true }
  rate_limits: { max_requests_per_minute: 30, max_tokens_per_hour: 50000 }
audit: { level: full, sign_events: true }
",
    );
    let ours = load(
        "
agent:
  name: claims
  models: { allowed_models: [gpt-4o] }
  toolsets: { allowed_tools: [search], blocked_tools: [transfer] }
permissions: { network: { allowed_domains: [api.openai.com] } }
rate_limits: { per_agent: { requests_per_minute: 30, tokens_per_hour: 50000 } }
",
    );
    assert_eq!(rules(&theirs), rules(&ours));
    assert_eq!(
        told(&theirs),
        [
            "policy.tools.allowed: read as `allowed_tools`, as the OAGS page writes it",
            "policy.tools.denied: read as `blocked_tools`, as the OAGS page writes it",
            "policy.models.allowed: read as `allowed_models`, as the OAGS page writes it",
            "policy.network.allowed_domains: read as `allowed_domains`, as the OAGS page writes it",
            "policy.network.deny_all_other: meant by `permissions.network.allowed_domains`, as the OAGS page writes it",
            "policy.rate_limits.max_requests_per_minute: read as `requests_per_minute`, as the OAGS page writes it",
            "policy.rate_limits.max_tokens_per_hour: read as `tokens_per_hour`, as the OAGS page writes it",
        ]
    );
    let none = load("policy: {network: {deny_all_other: true}}");
    assert_eq!(
        none.network().unwrap().check("a", "https"),
        NetworkMatch::NotListed
    );
    let asked = "policy: {tools: {allowed: [a], require_confirmation: [b]}}";
    assert_eq!(
        refused(asked),
        "line 1, column 32: policy.tools.require_confirmation: asks for something that is not enforced here\n  \
         help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)"
    );
    let accepted = Policy::loader()
        .accept_unenforced(true)
        .from_yaml(asked)
        .unwrap();
    assert_eq!(accepted.tools().check("b"), NameMatch::NotListed);
}

#[test]
fn several_agents_and_envelopes_are_translated_too() {
    let agents = "agents: {a: {allowed_tools: [x], models: {denied_models: [m]}}, b: {capabilities: {denied_tools: [y]}}}";
    let a = Policy::loader().agent("a").from_yaml(agents).unwrap();
    assert_eq!(a.tools().check("y"), NameMatch::NotListed);
    assert_eq!(a.models().check("m"), NameMatch::Blocked);
    let b = Policy::loader().agent("b").from_yaml(agents).unwrap();
    assert_eq!(b.tools().check("y"), NameMatch::Blocked);
    let envelope =
        r#"{"policy_id":"p","content":{"permissions":{"network":{"allowed_hosts":["a"]}}}}"#;
    let policy = Policy::from_json(envelope).unwrap();
    assert_eq!(
        policy.network().unwrap().check("b", "https"),
        NetworkMatch::NotListed
    );
}

#[test]
fn nothing_is_lost_or_guessed() {
    for (text, said) in [
        // The same rule in two ways.
        (
            "agent: {allowed_tools: [a], capabilities: {allowed_tools: [b]}}",
            "line 1, column 9: agent.toolsets.allowed_tools: given twice\n  help: keep one of them",
        ),
        (
            "agent: {allowed_tools: [a], tools: {blocked_tools: [b]}}",
            "line 1, column 9: agent.toolsets: given twice, here and as `agent.tools`\n  help: keep one of them",
        ),
        (
            "agent: {denied_tools: [a]}\ntools: {allowed_tools: [b]}",
            "line 2, column 1: tools: given twice, here and as `agent.toolsets`\n  help: keep one of them",
        ),
        (
            "agent: {network: {allow: [a], allow: [b]}}",
            "line 1, column 31: permissions.network.allowed_domains: given twice\n  help: keep one of them",
        ),
        (
            "policy: {tools: {blocked: [a], denied: [b]}}",
            "line 1, column 32: toolsets.blocked_tools: given twice\n  help: keep one of them",
        ),
        (
            "policy: {models: {allowed: [a]}}\nagent: {models: {allowed_models: [b]}}",
            "line 1, column 19: models: given twice, here and as `agent.models`\n  help: keep one of them",
        ),
        // What a key of another form stands beside, and can't be moved to.
        (
            "models: 5\nagent: {models: {denied_models: [a]}}",
            "line 1, column 1: models: given twice, here and as `agent.models`\n  help: keep one of them\nline 1, column 9: models: must be a mapping, not the number `5`\n  help: write its keys below it, indented",
        ),
        (
            "agent: {toolsets: [], allowed_tools: [a]}",
            "line 1, column 19: agent.toolsets: must be a mapping, not a list\n  help: write the tools under `allowed_tools` or `blocked_tools`",
        ),
        (
            "permissions: null\nagent: {network: {allow: [a]}}",
            "line 1, column 14: permissions: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line",
        ),
        // URLs that mean more than a host.
        (
            "agent: {network: {allow: ['https://a/v1']}}",
            "line 1, column 27: permissions.network.allowed_domains[0]: `https://a/v1` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
        (
            "agent: {network: {block: ['https://a/v1']}}",
            "line 1, column 27: permissions.network.blocked_domains[0]: `https://a/v1` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
        (
            "agent: {network: {allow: ['https://a', 'http://b']}}",
            "line 1, column 27: permissions.network.allowed_domains[0]: `https://a` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`\nline 1, column 40: permissions.network.allowed_domains[1]: `http://b` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
        (
            "agent: {network: {allow: ['ftp://a']}}",
            "line 1, column 27: permissions.network.allowed_domains[0]: `ftp://a` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
        (
            "agent: {network: {allow: ['https://u@a']}}",
            "line 1, column 27: permissions.network.allowed_domains[0]: `https://u@a` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
        // Keys that nobody knows.
        (
            "agent: {network: {}}",
            "line 1, column 9: agent.network: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
        (
            "rate_limits: {requests: {max_per_minute: 1, max_per_year: 2}}",
            "line 1, column 45: rate_limits.requests.max_per_year: unknown key\n  help: there is no such window; use `max_per_minute`, `max_per_hour` or `max_per_day`",
        ),
        (
            "rate_limits: {requests: {}}",
            "line 1, column 15: rate_limits.requests: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
        (
            "policy: {tools: {allowed: [a], timeout: 1}}",
            "line 1, column 32: policy.tools.timeout: belongs to another form of policy, not read here\n  help: write the rule under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
        (
            "policy: {}",
            "line 1, column 1: policy: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
        (
            "policy: {rate_limits: {max_cost_per_day: 1}}",
            "line 1, column 24: policy.rate_limits.max_cost_per_day: belongs to another form of policy, not read here\n  help: write the rule under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
        (
            "agents: {a: {network: {allow: [x]}}, b: {}}",
            "line 1, column 1: agents: has several agents: `a`, `b`\n  help: choose one of them by name (`PolicyLoader::agent`, `--agent` of the gateway)\nline 1, column 24: agents.a.network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path",
        ),
        // Values of the wrong type.
        (
            "agent: {allowed_tools: all}",
            "line 1, column 24: agent.toolsets.allowed_tools: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
        (
            "models: {denied_models: null}",
            "line 1, column 25: models.blocked_models: must be a list, not null\n  help: remove the key, or list what is meant",
        ),
        (
            "rate_limits: {requests: {max_per_minute: '60'}}",
            "line 1, column 42: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `60`\n  help: write digits only, without quotes, separators or units",
        ),
        (
            "policy: {network: {deny_all_other: 'true'}}",
            "line 1, column 36: policy.network.deny_all_other: must be `true`, not the text `true`\n  help: remove the quotes",
        ),
        // The place is that of what was written.
        (
            "agent:\n  capabilities:\n    denied_tools: [1]\n",
            "line 3, column 20: agent.toolsets.blocked_tools[0]: must be text, not the number `1`\n  help: put it in quotes, as it is written",
        ),
    ] {
        assert_eq!(refused(text), said, "{text}");
    }
}

#[test]
fn variables_are_not_expanded() {
    let policy = load("models: {allowed_models: ['${MODEL:-gpt-4o}']}");
    assert_eq!(policy.models().check("gpt-4o"), NameMatch::NotListed);
    assert_eq!(
        policy.warnings()[0].to_string(),
        "models.allowed_models[0]: `${MODEL:-gpt-4o}` is compared as it is: variables are not expanded here"
    );
}
