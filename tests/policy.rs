//! What a policy file means, and what is said about one that means nothing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers as well"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "how long a hostile file takes is measured in real time"
)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tower_sekuire::{LimitScope, LimitUnit, NameMatch, NetworkMatch, Notice, Policy, PolicyError};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn ready_made(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("policies")
        .join(name)
}

fn load(name: &str) -> Policy {
    Policy::from_path(ready_made(name)).unwrap()
}

fn refused(text: &str) -> String {
    Policy::from_yaml(text).unwrap_err().to_string()
}

fn refused_json(text: &str) -> String {
    Policy::from_json(text).unwrap_err().to_string()
}

fn lines(notices: &[Notice]) -> Vec<String> {
    notices.iter().map(ToString::to_string).collect()
}

fn model(policy: &Policy, name: &str) -> NameMatch {
    policy.models().check(name)
}

fn tool(policy: &Policy, name: &str) -> NameMatch {
    policy.tools().check(name)
}

fn host(policy: &Policy, host: &str, scheme: &str) -> NetworkMatch {
    policy.network().unwrap().check(host, scheme)
}

mod ready_made_policies {
    use super::*;

    fn assert_research_assistant(policy: &Policy) {
        assert_eq!(policy.agent(), "Research Assistant");
        assert_eq!(model(policy, "gpt-4o-mini"), NameMatch::Allowed);
        assert_eq!(model(policy, "gpt-4o"), NameMatch::Allowed);
        assert_eq!(model(policy, "gpt-4o-2024-08-06"), NameMatch::NotListed);
        assert_eq!(model(policy, "GPT-4o"), NameMatch::NotListed);
        assert_eq!(model(policy, "gpt-3.5-turbo"), NameMatch::Blocked);
        assert_eq!(tool(policy, "web_search"), NameMatch::Allowed);
        assert_eq!(tool(policy, "files:read"), NameMatch::Allowed);
        assert_eq!(tool(policy, "calculator"), NameMatch::Allowed);
        assert_eq!(tool(policy, "files:write"), NameMatch::NotListed);
        assert_eq!(tool(policy, "file_delete"), NameMatch::Blocked);
        assert_eq!(tool(policy, "env_set"), NameMatch::Blocked);
        let [limit] = policy.limits() else {
            panic!("one limit, not {:?}", policy.limits());
        };
        assert_eq!(limit.scope(), &LimitScope::PerAgent);
        assert_eq!(limit.unit(), LimitUnit::Requests);
        assert_eq!(limit.window(), MINUTE);
        assert_eq!(limit.max(), 10);
        assert_eq!(limit.to_string(), "10 requests per minute");
        assert_eq!(
            lines(policy.warnings()),
            [
                "agent.toolsets.allowed_tools[1]: `files:read` is sent as `files_read` by some SDKs, \
                 which is another name: list both"
            ]
        );
        assert_eq!(
            lines(policy.unenforced()),
            [
                "project: describes, restricts nothing",
                "agent.system_prompt: describes, restricts nothing",
                "agent.llm: describes, restricts nothing",
            ]
        );
    }

    #[test]
    fn the_research_assistant_means_what_it_says() {
        let policy = load("research-assistant.yml");
        assert_research_assistant(&policy);
        let network = policy.network().unwrap();
        assert!(network.enabled());
        assert!(network.require_tls());
        assert_eq!(network.allowed().unwrap().len(), 2);
        assert_eq!(network.blocked()[0].as_str(), "*.malware.net");
        assert_eq!(
            host(&policy, "api.openai.com", "https"),
            NetworkMatch::Allowed
        );
        assert_eq!(
            host(&policy, "wikipedia.org", "https"),
            NetworkMatch::Allowed
        );
        assert_eq!(
            host(&policy, "en.wikipedia.org", "wss"),
            NetworkMatch::Allowed
        );
        assert_eq!(
            host(&policy, "api.openai.com", "http"),
            NetworkMatch::TlsRequired
        );
        assert_eq!(
            host(&policy, "a.malware.net", "https"),
            NetworkMatch::Blocked
        );
        assert_eq!(
            host(&policy, "example.com", "https"),
            NetworkMatch::NotListed
        );
    }

    #[test]
    fn the_loopback_variant_differs_only_in_its_network() {
        let policy = load("research-assistant-loopback.yml");
        assert_research_assistant(&policy);
        for local in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"] {
            assert_eq!(
                host(&policy, local, "http"),
                NetworkMatch::Allowed,
                "{local}"
            );
        }
        assert_eq!(
            host(&policy, "api.openai.com", "https"),
            NetworkMatch::NotListed
        );
        assert_eq!(
            host(&policy, "a.malware.net", "https"),
            NetworkMatch::Blocked
        );
    }

    #[test]
    fn the_minimal_policy_restricts_one_model() {
        let policy = load("minimal.yml");
        assert_eq!(policy.agent(), "default");
        assert_eq!(model(&policy, "gpt-3.5-turbo"), NameMatch::Blocked);
        assert_eq!(model(&policy, "o3"), NameMatch::Allowed);
        assert!(policy.models().allowed().is_none());
        assert!(!policy.tools().is_restricted());
        assert!(policy.network().is_none());
        assert!(policy.limits().is_empty());
        assert!(policy.warnings().is_empty());
    }

    #[test]
    fn deny_by_default_lets_nothing_through() {
        let policy = load("deny-by-default.yml");
        assert_eq!(model(&policy, "gpt-4o"), NameMatch::NotListed);
        assert_eq!(tool(&policy, "web_search"), NameMatch::NotListed);
        assert_eq!(
            host(&policy, "api.openai.com", "https"),
            NetworkMatch::NotListed
        );
        assert_eq!(
            host(&policy, "api.openai.com", "http"),
            NetworkMatch::TlsRequired
        );
        assert_eq!(policy.limits()[0].max(), 0);
        assert_eq!(
            lines(policy.warnings()),
            [
                "permissions.network: an empty allow list allows no host",
                "rate_limits.per_agent.requests_per_minute: 0 allows nothing",
                "agent.models: an empty allow list allows no model",
                "agent.toolsets: an empty allow list allows no tool",
            ]
        );
    }

    #[test]
    fn azure_deployments_are_model_names() {
        let policy = load("azure.yml");
        assert_eq!(model(&policy, "assistant-prod"), NameMatch::Allowed);
        assert_eq!(model(&policy, "assistant-experimental"), NameMatch::Blocked);
        assert_eq!(model(&policy, "assistant-dev"), NameMatch::NotListed);
        assert_eq!(
            host(&policy, "contoso.openai.azure.com", "https"),
            NetworkMatch::Allowed
        );
        assert_eq!(
            host(&policy, "contoso.azure.com", "https"),
            NetworkMatch::NotListed
        );
        assert!(policy.warnings().is_empty());
    }

    #[test]
    fn token_budgets_hold_per_agent_model_and_in_all() {
        let policy = load("token-budgets.yml");
        let limits: Vec<_> = policy
            .limits()
            .iter()
            .map(|limit| {
                let scope = match limit.scope() {
                    LimitScope::PerAgent => "agent".to_owned(),
                    LimitScope::PerModel(model) => model.to_string(),
                    LimitScope::Global => "global".to_owned(),
                    _ => panic!("a scope without a test"),
                };
                format!("{scope}: {limit}")
            })
            .collect();
        assert_eq!(
            limits,
            [
                "agent: 60 requests per minute",
                "agent: 40000 tokens per minute",
                "agent: 100000 tokens per hour",
                "agent: 1000000 tokens per day",
                "gpt-4o*: 80000 tokens per hour",
                "gpt-4o-mini: 30 requests per minute",
                "o3: 20 requests per hour",
                "o3: 200000 tokens per day",
                "global: 10000 requests per day",
                "global: 5000000 tokens per day",
            ]
        );
        let windows: Vec<_> = policy.limits().iter().map(|limit| limit.window()).collect();
        assert_eq!(
            windows,
            [MINUTE, MINUTE, HOUR, DAY, HOUR, MINUTE, HOUR, DAY, DAY, DAY]
        );
        assert!(policy.warnings().is_empty());
    }

    #[test]
    fn a_local_provider_is_reached_over_plain_http() {
        let policy = load("local-provider.yml");
        assert_eq!(model(&policy, "llama3.2:3b"), NameMatch::Allowed);
        assert_eq!(model(&policy, "llama3.2"), NameMatch::NotListed);
        assert_eq!(
            host(&policy, "localhost:11434", "http"),
            NetworkMatch::Allowed
        );
        assert_eq!(host(&policy, "[::1]:11434", "http"), NetworkMatch::Allowed);
        assert_eq!(
            host(&policy, "192.168.0.2", "http"),
            NetworkMatch::NotListed
        );
        assert!(policy.warnings().is_empty());
    }

    #[test]
    fn every_ready_made_policy_has_a_test() {
        let mut names: Vec<_> = fs::read_dir(ready_made(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "sekuire.schema.json")
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "azure.yml",
                "deny-by-default.yml",
                "local-provider.yml",
                "minimal.yml",
                "research-assistant-loopback.yml",
                "research-assistant.yml",
                "token-budgets.yml",
            ]
        );
    }
}

mod names {
    use super::*;

    #[test]
    fn deny_wins_over_allow() {
        let policy =
            Policy::from_yaml("models: {allowed_models: [gpt-4o], blocked_models: ['gpt*']}")
                .unwrap();
        assert_eq!(model(&policy, "gpt-4o"), NameMatch::Blocked);
        assert_eq!(
            lines(policy.warnings()),
            ["models.allowed_models[0]: `gpt-4o` is allowed, but `gpt*` is blocked: it is blocked"]
        );
    }

    #[test]
    fn an_empty_list_differs_from_none() {
        let policy = Policy::from_yaml("models: {allowed_models: []}\ntools: {}").unwrap();
        assert_eq!(policy.models().allowed(), Some(&[][..]));
        assert_eq!(model(&policy, "gpt-4o"), NameMatch::NotListed);
        assert_eq!(policy.tools().allowed(), None);
        assert_eq!(tool(&policy, "anything"), NameMatch::Allowed);
        assert_eq!(
            lines(policy.warnings()),
            [
                "models: an empty allow list allows no model",
                "tools: restricts nothing",
            ]
        );
    }

    #[test]
    fn names_that_some_sdks_rewrite_are_pointed_out() {
        let policy = Policy::from_yaml(
            "toolsets:\n  allowed_tools: ['files:read', 'files:*', 'mcp:docs/read', a.b, 'web:get', 'web_*']\n  \
             blocked_tools: ['files:delete', 'env:set', env_set]",
        )
        .unwrap();
        let rewritten: Vec<_> = lines(policy.warnings())
            .into_iter()
            .filter(|line| line.contains("SDKs"))
            .collect();
        assert_eq!(
            rewritten,
            [
                "toolsets.allowed_tools[0]: `files:read` is sent as `files_read` by some SDKs, \
                 which is another name: list both",
                "toolsets.blocked_tools[0]: `files:delete` is sent as `files_delete` by some SDKs, \
                 which is another name: list both",
            ]
        );
    }

    #[test]
    fn tools_are_listed_by_name_or_as_objects() {
        let policy = Policy::from_yaml(
            "toolsets: {allowed_tools: [a, {name: b, description: the second}], blocked_tools: [{name: c}]}",
        )
        .unwrap();
        assert_eq!(tool(&policy, "a"), NameMatch::Allowed);
        assert_eq!(tool(&policy, "b"), NameMatch::Allowed);
        assert_eq!(tool(&policy, "c"), NameMatch::Blocked);
    }

    #[test]
    fn a_model_that_the_agent_uses_but_may_not_is_pointed_out() {
        let policy = Policy::from_yaml(
            "agent: {model: a, llm: {model: b}, models: {allowed_models: [c], blocked_models: [b]}}\n\
             identity: {model: d}\nllm: {model: c}",
        )
        .unwrap();
        assert_eq!(
            lines(policy.warnings()),
            [
                "agent.model: `a` is not in `allowed_models`: every request for it is refused",
                "agent.llm.model: `b` is in `blocked_models`: every request for it is refused",
                "identity.model: `d` is not in `allowed_models`: every request for it is refused",
            ]
        );
    }

    #[test]
    fn entries_listed_twice_or_on_both_sides_are_pointed_out() {
        let policy = Policy::from_yaml(
            "models: {allowed_models: [a, a], blocked_models: [a]}\n\
             permissions: {network: {allowed_domains: [b.com], blocked_domains: ['*.b.com']}}",
        )
        .unwrap();
        assert_eq!(
            lines(policy.warnings()),
            [
                "models.allowed_models[1]: `a` is listed twice",
                "models.allowed_models[0]: `a` is both allowed and blocked: it is blocked",
                "models.allowed_models[1]: `a` is both allowed and blocked: it is blocked",
                "permissions.network.allowed_domains[0]: `b.com` is allowed, but `*.b.com` is blocked: it is blocked",
            ]
        );
    }
}

/// What is enforced as written, but was hardly meant: told with its place and what it collides with.
mod remarks {
    use super::*;

    fn placed(text: &str) -> Vec<String> {
        let policy = Policy::from_yaml(text).unwrap_or_else(|error| panic!("{error}"));
        let warnings = policy.warnings().iter();
        let placed = warnings.map(|notice| {
            let (line, column) = (notice.line().unwrap(), notice.column().unwrap());
            format!("{line}:{column}: {notice}")
        });
        placed.collect()
    }

    #[test]
    fn an_entry_that_another_one_shadows() {
        assert_eq!(
            placed(
                "models:
  allowed_models:
    - gpt-4o
    - gpt-4*
    - gpt-4o-*
    - o3
  blocked_models: [o1-pro, 'o1*', '*-pro', 'o1**']
toolsets:
  allowed_tools: [{name: web_search}, 'web_*', search, 'files:*', 'files*', 'f*']
  blocked_tools: [rm, 'rm*']
permissions:
  network:
    allowed_domains:
      - api.example.com
      - '*.example.com'
      - example.com
      - API.openai.com
      - api.openai.com
      - '*.eu.example.com'
    blocked_domains: [127.0.0.1, '[::ffff:127.0.0.1]']
  filesystem:
    allowed_paths: [/tmp/*, /tmp/a/*, /tmp, '/tmp/*/c']
    blocked_paths: [/etc, /etc/*, /etc/passwd]
    allowed_extensions: [.tar.gz, .gz, .txt]
  api:
    allowed_services:
      - service_name: openai
        endpoints: [chat, chat/completions, chat.completions, models]
      - service_name: open*
        endpoints: [chat, models, responses]
      - { service_name: stripe, endpoints: [charges] }
      - service_name: stripe
      - { service_name: x*, endpoints: [chat] }
      - { service_name: '*', endpoints: [chat] }
"
            ),
            [
                "3:7: models.allowed_models[0]: `gpt-4o` adds nothing: `gpt-4*` matches it too",
                "5:7: models.allowed_models[2]: `gpt-4o-*` adds nothing: `gpt-4*` matches it too",
                "7:20: models.blocked_models[0]: `o1-pro` adds nothing: `o1*` matches it too",
                "7:44: models.blocked_models[3]: `o1**` adds nothing: `o1*` matches it too",
                "9:19: toolsets.allowed_tools[0]: `web_search` adds nothing: `web_*` matches it too",
                "9:67: toolsets.allowed_tools[4]: `files*` adds nothing: `f*` matches it too",
                "10:19: toolsets.blocked_tools[0]: `rm` adds nothing: `rm*` matches it too",
                "14:9: permissions.network.allowed_domains[0]: `api.example.com` adds nothing: `*.example.com` matches it too",
                "16:9: permissions.network.allowed_domains[2]: `example.com` adds nothing: `*.example.com` matches it too",
                "18:9: permissions.network.allowed_domains[4]: `api.openai.com` adds nothing: `API.openai.com` matches it too",
                "19:9: permissions.network.allowed_domains[5]: `*.eu.example.com` adds nothing: `*.example.com` matches it too",
                "20:34: permissions.network.blocked_domains[1]: `[::ffff:127.0.0.1]` adds nothing: `127.0.0.1` matches it too",
                "22:29: permissions.filesystem.allowed_paths[1]: `/tmp/a/*` adds nothing: `/tmp/*` matches it too",
                "22:45: permissions.filesystem.allowed_paths[3]: `/tmp/*/c` adds nothing: `/tmp/*` matches it too",
                "23:27: permissions.filesystem.blocked_paths[1]: `/etc/*` adds nothing: `/etc` matches it too",
                "23:35: permissions.filesystem.blocked_paths[2]: `/etc/passwd` adds nothing: `/etc` matches it too",
                "24:26: permissions.filesystem.allowed_extensions[0]: `.tar.gz` adds nothing: `.gz` matches it too",
                "28:27: permissions.api.allowed_services[0].endpoints[1]: `chat/completions` adds nothing: `chat` matches it too",
                "28:45: permissions.api.allowed_services[0].endpoints[2]: `chat.completions` adds nothing: `chat` matches it too",
                "27:9: permissions.api.allowed_services[0]: `openai` adds nothing: `open*` allows it too",
                "31:9: permissions.api.allowed_services[2]: the `endpoints` of `stripe` restrict nothing: it is also listed without",
                "33:9: permissions.api.allowed_services[4]: `x*` adds nothing: `*` allows it too",
                "9:56: toolsets.allowed_tools[3]: no `tools.json` was read to say which tools are meant: `files:*` matches only names that begin with `files:`",
            ]
        );
    }

    #[test]
    fn an_entry_that_is_both_allowed_and_blocked() {
        assert_eq!(
            placed(
                "
models: { allowed_models: [a, b-1], blocked_models: ['b*', a] }
toolsets: { allowed_tools: [c, d, 'files:*'], blocked_tools: [{name: c}, 'd*', 'files*'] }
permissions:
  network: { allowed_domains: [a.example, b.example], blocked_domains: ['*.a.example', B.example] }
  filesystem: { allowed_paths: [/etc/a, '/tmp/*'], blocked_paths: [/etc, '/tmp/*'] }
"
            ),
            [
                "2:28: models.allowed_models[0]: `a` is both allowed and blocked: it is blocked",
                "2:31: models.allowed_models[1]: `b-1` is allowed, but `b*` is blocked: it is blocked",
                "3:29: toolsets.allowed_tools[0]: `c` is both allowed and blocked: it is blocked",
                "3:32: toolsets.allowed_tools[1]: `d` is allowed, but `d*` is blocked: it is blocked",
                "5:32: permissions.network.allowed_domains[0]: `a.example` is allowed, but `*.a.example` is blocked: it is blocked",
                "5:43: permissions.network.allowed_domains[1]: `b.example` is allowed, but `B.example` is blocked: it is blocked",
                "6:33: permissions.filesystem.allowed_paths[0]: `/etc/a` is allowed, but `/etc` is blocked: it is blocked",
                "6:41: permissions.filesystem.allowed_paths[1]: `/tmp/*` is both allowed and blocked: it is blocked",
                "3:35: toolsets.allowed_tools[2]: no `tools.json` was read to say which tools are meant: `files:*` matches only names that begin with `files:`",
            ]
        );
        // By category, which the names don't show.
        let policy = Policy::loader()
            .tool_categories([("read_file", "files")])
            .from_yaml("toolsets: {allowed_tools: [read_file], blocked_tools: ['files:*']}")
            .unwrap();
        assert_eq!(tool(&policy, "read_file"), NameMatch::Blocked);
        assert_eq!(
            lines(policy.warnings()),
            [
                "toolsets.allowed_tools[0]: `read_file` is allowed, but `files:*` is blocked: it is blocked"
            ]
        );
    }

    #[test]
    fn a_limit_that_is_never_reached() {
        assert_eq!(
            placed(
                "
models: { allowed_models: ['gpt-4*', o3], blocked_models: [gpt-4-32k] }
rate_limits:
  per_agent: { requests_per_minute: 1, requests_per_hour: 60, requests_per_day: 59, tokens_per_hour: 100 }
  per_model:
    gpt-4*: { requests_per_minute: 5, tokens_per_day: 1000 }
    gpt-4o: { requests_per_minute: 5, requests_per_hour: 299, tokens_per_day: 999 }
    gpt-4-32k: { tokens_per_minute: 1 }
    o1: { tokens_per_minute: 2 }
  global: { tokens_per_minute: 10, requests_per_hour: 100 }
"
            ),
            [
                "4:40: rate_limits.per_agent.requests_per_hour: never refuses anything: 1 request per minute allows no more",
                "7:15: rate_limits.per_model.gpt-4o.requests_per_minute: never refuses anything: 5 requests per minute for `gpt-4*` allow no more",
                "7:39: rate_limits.per_model.gpt-4o.requests_per_hour: never refuses anything: 100 requests per hour in all allow no more",
                "8:18: rate_limits.per_model.gpt-4-32k.tokens_per_minute: never refuses anything: `gpt-4-32k` may not be used anyway",
                "9:11: rate_limits.per_model.o1.tokens_per_minute: never refuses anything: `o1` may not be used anyway",
            ]
        );
        assert_eq!(
            placed(
                "rate_limits: {global: {tokens_per_minute: 10}, per_agent: {tokens_per_minute: 10, tokens_per_hour: 599}}"
            ),
            [
                "1:60: rate_limits.per_agent.tokens_per_minute: refuses nothing, unless calls cost more than was reserved for them: 10 tokens per minute in all allow no more",
            ]
        );
    }

    #[test]
    fn a_model_that_may_not_be_used() {
        assert_eq!(
            placed("agent:\n  llm: {model: o1}\n  models: {allowed_models: [o3]}\n"),
            [
                "2:9: agent.llm.model: `o1` is not in `allowed_models`: every request for it is refused"
            ]
        );
    }

    #[test]
    fn many_remarks_cost_no_more_than_few() {
        let entries: Vec<_> = (0..300).map(|number| format!("m{number}")).collect();
        let text = format!("models: {{allowed_models: ['*', {}]}}", entries.join(", "));
        let started = Instant::now();
        let policy = Policy::from_yaml(&text).unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(policy.warnings().len(), 300);
    }
}

mod categories {
    use super::*;

    const POLICY: &str =
        "agent:\n  tools: ./tools.json\n  toolsets:\n    allowed_tools: ['files:*', 'web:*']\n";

    fn beside(policy: &str, tools: &str) -> Result<Policy, PolicyError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sekuire.yml"), policy).unwrap();
        fs::write(folder.path().join("tools.json"), tools).unwrap();
        Policy::from_path(folder.path().join("sekuire.yml"))
    }

    #[test]
    fn a_category_entry_matches_the_tools_in_it() {
        for tools in [
            r#"[{"name": "read_file", "category": "files", "parameters": {}}, {"name": "ls"}]"#,
            r#"{"version": 1, "tools": [{"name": "read_file", "category": "files"}]}"#,
        ] {
            let policy = beside(POLICY, tools).unwrap();
            assert_eq!(tool(&policy, "read_file"), NameMatch::Allowed);
            assert_eq!(tool(&policy, "files:anything"), NameMatch::Allowed);
            assert_eq!(tool(&policy, "ls"), NameMatch::NotListed);
            assert_eq!(
                lines(policy.warnings()),
                [
                    "agent.toolsets.allowed_tools[1]: no tool in ./tools.json has this category: \
                  `web:*` matches only names that begin with `web:`"
                ]
            );
        }
    }

    #[test]
    fn a_blocked_category_blocks_the_tools_in_it() {
        let policy = beside(
            "toolsets: {blocked_tools: ['files:*']}",
            r#"[{"name": "read_file", "category": "files"}]"#,
        )
        .unwrap();
        assert_eq!(tool(&policy, "read_file"), NameMatch::Blocked);
    }

    #[test]
    fn categories_can_be_given_in_code() {
        let policy = Policy::loader()
            .tool_categories([("read_file", "files"), ("fetch", "web")])
            .from_yaml(POLICY)
            .unwrap();
        assert_eq!(tool(&policy, "read_file"), NameMatch::Allowed);
        assert_eq!(tool(&policy, "fetch"), NameMatch::Allowed);
        assert!(policy.warnings().is_empty());
    }

    #[test]
    fn a_category_that_nothing_resolves_is_pointed_out() {
        let policy = Policy::from_yaml("toolsets: {allowed_tools: ['files:*']}").unwrap();
        assert_eq!(tool(&policy, "read_file"), NameMatch::NotListed);
        assert_eq!(
            lines(policy.warnings()),
            [
                "toolsets.allowed_tools[0]: no `tools.json` was read to say which tools are meant: \
              `files:*` matches only names that begin with `files:`"
            ]
        );
    }

    #[test]
    fn a_tools_file_is_read_only_for_categories() {
        let policy = beside("toolsets: {allowed_tools: [a]}", "not json").unwrap();
        assert_eq!(tool(&policy, "a"), NameMatch::Allowed);
    }

    #[test]
    fn a_tools_file_that_can_be_read_two_ways_is_refused() {
        for (tools, expected) in [
            (
                "{",
                "1:1: not readable as JSON: EOF while parsing an object",
            ),
            ("3", "1:1: must be a list of tools, not the number `3`"),
            (
                r#"{"tools": {}}"#,
                "1:11: tools: must be a list of tools, not a mapping",
            ),
            ("[3]", "1:2: [0]: must be an object, not the number `3`"),
            (
                r#"[{"name": "a", "category": "files", "category": "web"}]"#,
                "1:37: category: given twice",
            ),
            (
                r#"[{"name": "a", "category": "files"}, {"name": "a", "category": "web"}]"#,
                "1:38: [1]: `a` is in two categories",
            ),
            (
                r#"[{"name": "a", "category": 3}]"#,
                "1:2: [0]: `name` and `category` must be text",
            ),
        ] {
            let error = beside(POLICY, tools).unwrap_err();
            assert!(error.file().unwrap().ends_with("tools.json"));
            let text = error.to_string();
            assert_eq!(text.split_once("tools.json:").unwrap().1, expected);
        }
    }
}

mod agents {
    use super::*;

    const TWO: &str = "agents:\n  writer: {models: {allowed_models: [a]}, llm: {model: x}}\n  reader: {toolsets: {allowed_tools: []}}\n";

    #[test]
    fn one_of_several_is_chosen_by_name() {
        let writer = Policy::loader().agent("writer").from_yaml(TWO).unwrap();
        assert_eq!(writer.agent(), "writer");
        assert_eq!(model(&writer, "a"), NameMatch::Allowed);
        assert!(!writer.tools().is_restricted());
        assert_eq!(writer.warnings().len(), 1);
        let reader = Policy::loader().agent("reader").from_yaml(TWO).unwrap();
        assert!(!reader.models().is_restricted());
        assert_eq!(tool(&reader, "a"), NameMatch::NotListed);
        assert!(reader.unenforced().is_empty());
    }

    #[test]
    fn several_without_a_choice_are_refused() {
        assert_eq!(
            refused(TWO),
            "line 1, column 1: agents: has several agents: `writer`, `reader`\n  \
             help: choose one of them by name (`PolicyLoader::agent`, `--agent` of the gateway)"
        );
    }

    #[test]
    fn an_agent_that_is_not_there_is_refused() {
        let missing = |text: &str| {
            Policy::loader()
                .agent("x")
                .from_yaml(text)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            missing(TWO),
            "line 1, column 1: agents: no agent is named `x`\n  help: available: `writer`, `reader`"
        );
        assert_eq!(
            missing("agent: {name: y, models: {}}"),
            "line 1, column 1: agent: no agent is named `x`\n  help: available: `y`"
        );
        assert_eq!(
            missing("models: {}"),
            "no agent is named `x`\n  help: available: `default`"
        );
    }

    #[test]
    fn a_single_one_needs_no_name() {
        let policy = Policy::from_yaml("agents: {a: {models: {blocked_models: [x]}}}").unwrap();
        assert_eq!(policy.agent(), "a");
    }

    #[test]
    fn the_others_must_be_right_too() {
        let error = Policy::loader()
            .agent("writer")
            .from_yaml("agents:\n  writer: {models: {}}\n  reader: {modles: {}}\n")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 3, column 12: agents.reader.modles: unknown key\n  help: did you mean `models`?"
        );
    }

    #[test]
    fn the_same_section_in_two_places_is_refused() {
        assert_eq!(
            refused("agent: {models: {}}\nmodels: {}"),
            "line 2, column 1: models: given twice, here and as `agent.models`\n  help: keep one of them"
        );
        assert_eq!(
            refused("agent:\n  tools: {}\n  toolsets: {}\n"),
            "line 3, column 3: agent.toolsets: given twice, here and as `agent.tools`\n  help: keep one of them"
        );
        assert_eq!(
            refused("agent: {models: {}}\nagents: {}"),
            "line 2, column 1: agents: given beside `agent`\n  help: keep one of them\n\
             line 2, column 9: agents: has no agent\n  help: write at least one, or remove the key"
        );
    }
}

mod refusals {
    use super::*;

    const ADD: &str = "help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`";

    #[test]
    fn a_document_without_rules_does_not_load() {
        for empty in ["", "\n", "# nothing\n", "---\n", "null", "~"] {
            assert_eq!(
                refused(empty),
                format!("the document is empty\n  {ADD}"),
                "{empty:?}"
            );
        }
        for idle in [
            "{}",
            "project: {name: a}",
            "agent: {name: a}",
            "x-models: {}",
            "permissions: {}",
        ] {
            assert_eq!(
                refused(idle),
                format!("no policy configuration\n  {ADD}"),
                "{idle:?}"
            );
        }
        assert_eq!(
            refused("[a]"),
            "line 1, column 1: must be a mapping, not a list"
        );
        assert_eq!(
            refused("a"),
            "line 1, column 1: must be a mapping, not text"
        );
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let error = Policy::from_yaml(
            "agent:\n  models:\n    allowed_model: [gpt-4o]\npermissions:\n  network:\n    enabled: yes\nrate_limits:\n  per_agent: {requests_per_minute: -1}\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 3, column 5: agent.models.allowed_model: unknown key\n  \
             help: did you mean `allowed_models`?\n\
             line 6, column 14: permissions.network.enabled: must be `true` or `false`, not the text `yes`\n  \
             help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`\n\
             line 8, column 36: rate_limits.per_agent.requests_per_minute: must not be negative: `-1`\n  \
             help: write 0 to allow nothing, or remove the key for no limit"
        );
        let problem = &error.problems()[0];
        assert_eq!((problem.line(), problem.column()), (Some(3), Some(5)));
        assert_eq!(problem.path(), "agent.models.allowed_model");
        assert_eq!(problem.message(), "unknown key");
        assert_eq!(problem.help(), Some("did you mean `allowed_models`?"));
        assert_eq!(
            problem.to_string(),
            "agent.models.allowed_model: unknown key"
        );
        assert_eq!(error.file(), None);
    }

    #[test]
    fn lists_must_be_lists_of_text() {
        for (list, expected) in [
            (
                "",
                "18: models.allowed_models: must be a list, not null\n  help: remove the key to allow everything, or write `[]` to allow nothing",
            ),
            (
                " a",
                "19: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
            ),
            (
                " {a: b}",
                "19: models.allowed_models: must be a list, not a mapping\n  help: begin each entry with `- `",
            ),
            (
                " !t [a]",
                "19: models.allowed_models: must be a list, not a value tagged `!t`\n  help: remove the tag",
            ),
            (
                " [4]",
                "20: models.allowed_models[0]: must be text, not the number `4`\n  help: quote it: \"4\"",
            ),
            (
                " [4.10]",
                "20: models.allowed_models[0]: must be text, not the number `4.1`\n  help: quote it: \"4.1\"",
            ),
            (
                " [true]",
                "20: models.allowed_models[0]: must be text, not `true`\n  help: quote it: \"true\"",
            ),
            (
                " [~]",
                "20: models.allowed_models[0]: must be text, not null",
            ),
            (
                " [[a]]",
                "20: models.allowed_models[0]: must be text, not a list",
            ),
            (
                " [!t a]",
                "20: models.allowed_models[0]: must be text, not a value tagged `!t`",
            ),
            (
                " ['']",
                "20: models.allowed_models[0]: must not be empty\n  help: remove the entry",
            ),
            (
                " [' a']",
                "20: models.allowed_models[0]: begins or ends with white space: ` a`\n  help: remove the white space",
            ),
            (
                r#" ["a\u202eb"]"#,
                "20: models.allowed_models[0]: has a character that can't be seen: `a\\u{202e}b`\n  help: remove control and direction characters",
            ),
            (
                r#" ["a\0b"]"#,
                "20: models.allowed_models[0]: has a character that can't be seen: `a\\u{0}b`\n  help: remove control and direction characters",
            ),
        ] {
            let text = format!("models:\n  allowed_models:{list}\n");
            assert_eq!(
                refused(&text),
                format!("line 2, column {expected}"),
                "{list}"
            );
        }
    }

    #[test]
    fn a_bool_is_true_or_false_and_nothing_else() {
        for word in ["yes", "no", "on", "off", "y", "'true'", "1", "null", "[]"] {
            for key in ["enabled", "require_tls"] {
                let text = format!("permissions: {{network: {{{key}: {word}}}}}");
                let error = Policy::from_yaml(&text).unwrap_err();
                assert_eq!(error.problems().len(), 1);
                assert!(
                    error.problems()[0]
                        .message()
                        .starts_with("must be `true` or `false`, not ")
                );
            }
        }
    }

    #[test]
    fn a_limit_is_a_whole_number() {
        for (value, expected) in [
            ("1.5", "must be a whole number, not the number `1.5`"),
            ("10.0", "must be a whole number, not the number `10.0`"),
            ("1e3", "must be a whole number, not the number `1000.0`"),
            ("'10'", "must be a whole number, not the text `10`"),
            ("1_000", "must be a whole number, not the text `1_000`"),
            (
                "10 per minute",
                "must be a whole number, not the text `10 per minute`",
            ),
            ("null", "must be a whole number, not null"),
            ("true", "must be a whole number, not `true`"),
            ("[10]", "must be a whole number, not a list"),
            ("-1", "must not be negative: `-1`"),
            (".inf", "must be a whole number, not the number `inf`"),
            (
                "18446744073709551616",
                "is too large: `18446744073709551616`",
            ),
        ] {
            let text = format!("rate_limits: {{per_agent: {{requests_per_minute: {value}}}}}");
            let error = Policy::from_yaml(&text).unwrap_err();
            assert_eq!(error.problems().len(), 1);
            assert_eq!(error.problems()[0].message(), expected);
        }
        let policy =
            Policy::from_yaml("rate_limits: {per_agent: {tokens_per_day: 18446744073709551615}}")
                .unwrap();
        assert_eq!(policy.limits()[0].max(), u64::MAX);
    }

    #[test]
    fn a_domain_is_a_host_and_nothing_else() {
        for (entry, expected) in [
            ("https://api.openai.com", "is a URL, not a host"),
            ("user@host", "has user information"),
            ("host:443", "has a port"),
            ("[::1]:443", "has a port"),
            ("host/path", "has a path"),
            ("a.*.com", "has a `*` that is not a whole first label"),
            ("*example.com", "has a `*` that is not a whole first label"),
            ("**", "has a `*` that is not a whole first label"),
            ("*.127.0.0.1", "has a `*` before an address"),
            ("127.1", "is not an address in its usual form"),
            ("0x7f000001", "is not an address in its usual form"),
            ("127.0.0.01", "is not an address in its usual form"),
            ("xn--a", "is not a host name"),
            ("a..b", "is not a host name"),
            ("*.", "is not a host name"),
        ] {
            for list in ["allowed_domains", "blocked_domains"] {
                let text = format!("permissions: {{network: {{{list}: ['{entry}']}}}}");
                let error = Policy::from_yaml(&text).unwrap_err();
                assert_eq!(error.problems().len(), 1);
                assert_eq!(
                    error.problems()[0].message(),
                    format!("`{entry}` {expected}")
                );
                assert!(error.problems()[0].help().is_some());
            }
        }
    }

    #[test]
    fn an_unquoted_star_is_explained() {
        assert_eq!(
            refused("permissions:\n  network:\n    allowed_domains:\n      - *.wikipedia.org\n"),
            "line 4, column 10: not readable as YAML: did not find expected alphabetic or numeric character\n  \
             help: quote an entry that begins with `*`, as in \"*.example.com\""
        );
    }

    #[test]
    fn what_yaml_could_hide_is_refused() {
        for (text, expected) in [
            (
                "models: {blocked_models: [a], blocked_models: []}",
                "line 1, column 31: models.blocked_models: given twice\n  help: keep one of them",
            ),
            (
                "models: {<<: {blocked_models: [a]}}",
                "line 1, column 10: models.\"<<\": merge keys are not supported\n  help: write the keys out where they are used",
            ),
            (
                "models: {1: a}",
                "line 1, column 10: models: has a key that is the number `1`\n  help: write keys as text; quote one that reads as a number",
            ),
            (
                "a: &a [b]\nmodels: {blocked_models: *a}",
                "line 2, column 26: anchors and aliases are not supported\n  help: write the value out where it is used",
            ),
            (
                "models: {}\n---\nmodels: {}",
                "more than one document\n  help: keep one document in a file; remove the `---` between them",
            ),
            (
                "!policy\nmodels: {}",
                "line 1, column 1: must be a mapping, not a value tagged `!policy`",
            ),
            (
                "%TAG ! tag:example.com,2024:\n---\nmodels: {}",
                "line 1, column 1: tag directives are not supported\n  help: remove the `%TAG` line",
            ),
            (
                "models: {}\nserver: {a: [!t b]}",
                "line 2, column 14: server.a[0]: is a value tagged `!t`\n  help: remove the tag",
            ),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
        assert!(Policy::from_yaml("%YAML 1.2\n---\nmodels: {}").is_ok());
    }

    #[test]
    fn a_line_break_that_only_some_readers_see_is_refused() {
        for (line_break, shown) in [
            ("\u{85}", "\\u{85}"),
            ("\u{2028}", "\\u{2028}"),
            ("\u{2029}", "\\u{2029}"),
            ("\r", "\\u{d}"),
        ] {
            // To an editor the second entry is the end of a comment.
            let text = format!(
                "models:\n  allowed_models:\n    - gpt-4o # only{line_break}    - 'gpt*'\n"
            );
            assert_eq!(
                refused(&text),
                format!(
                    "line 3, column 20: has a line break that not every reader sees: `{shown}`\n  \
                     help: end lines with a line feed; write the character as an escape where it is meant"
                )
            );
        }
        assert!(Policy::from_yaml("models:\r\n  blocked_models: [a]\r\n").is_ok());
    }

    #[test]
    fn forms_that_are_not_sekuires_own_are_refused_key_by_key() {
        assert_eq!(
            refused(
                "Version: '2024-12-02'
Statement: [{Sid: a, Effect: Allow, Action: ['tool:bash:execute'], Resource: ['https://a/*']}]
ResourceLimits: {tokens: 5}
RequireApproval: [a]
AuditLog: true
"
            ),
            "line 1, column 1: Version: belongs to another form of policy, not read here
  help: remove it: it belongs to the statements
line 2, column 1: Statement: belongs to another form of policy, not read here
  help: write the statements as `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`
line 3, column 1: ResourceLimits: belongs to another form of policy, not read here
  help: write requests and tokens under `rate_limits`; nothing else is limited here
line 4, column 1: RequireApproval: belongs to another form of policy, not read here
  help: remove it, or block the tools: nobody is asked for approval here
line 5, column 1: AuditLog: belongs to another form of policy, not read here
  help: remove it: every decision is logged"
        );
        assert_eq!(
            refused(
                "permissions:
  model: {allowed_models: [a], max_temperature: 1}
  tools: {enforce_whitelist: true, blocked_patterns: [b], timeout_seconds: 3}
  network: {allow: [a], block: [b], default_deny: true}
  content: {blocked_input_patterns: [x]}
"
            ),
            "line 2, column 11: permissions.model.allowed_models: belongs to another form of policy, not read here
  help: write `allowed_models` under `agent.models`
line 2, column 32: permissions.model.max_temperature: belongs to another form of policy, not read here
  help: remove it: parameters of a call are not judged here
line 3, column 11: permissions.tools.enforce_whitelist: belongs to another form of policy, not read here
  help: write `allowed_tools` under `agent.toolsets`
line 3, column 36: permissions.tools.blocked_patterns: belongs to another form of policy, not read here
  help: write `blocked_tools` under `agent.toolsets`
line 3, column 59: permissions.tools.timeout_seconds: belongs to another form of policy, not read here
  help: remove it: parameters of a call are not judged here
line 4, column 13: permissions.network.allow: belongs to another form of policy, not read here
  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path
line 4, column 25: permissions.network.block: belongs to another form of policy, not read here
  help: write `blocked_domains` under `permissions.network`, hosts without scheme or path
line 4, column 37: permissions.network.default_deny: belongs to another form of policy, not read here
  help: remove it: `permissions.network.allowed_domains` refuses everything else already
line 5, column 13: permissions.content.blocked_input_patterns: belongs to another form of policy, not read here
  help: remove it: what messages say is not judged here"
        );
    }

    #[test]
    fn the_id_that_sekuire_gave_an_agent_is_kept() {
        for (text, id) in [
            (
                "agent: {sekuire_id: a1, models: {}}\nidentity: {sekuire_id: b2}",
                Some("a1"),
            ),
            (
                "identity: {sekuire_id: b2}\nproject: {sekuire_id: c3}\nmodels: {}",
                Some("b2"),
            ),
            (
                "project: {sekuire_id: c3}\nidentity: {sekuire_id: b2}\nmodels: {}",
                Some("b2"),
            ),
            ("project: {sekuire_id: c3}\nmodels: {}", Some("c3")),
            ("agents: {x: {sekuire_id: a1, models: {}}}", Some("a1")),
            // As templates leave it.
            ("identity: {sekuire_id: ''}\nmodels: {}", None),
            ("identity: {sekuire_id: null}\nmodels: {}", None),
            ("identity: {sekuire_id: \"a b\"}\nmodels: {}", None),
            ("models: {}", None),
        ] {
            assert_eq!(Policy::from_yaml(text).unwrap().sekuire_id(), id, "{text}");
        }
    }

    #[test]
    fn rules_of_other_forms_are_named_and_never_read() {
        for (text, path, help) in [
            (
                "agent: {models: {allowed: [a]}}",
                "agent.models.allowed",
                "write `allowed_models` under `agent.models`",
            ),
            (
                "tools: {denied: [a]}",
                "tools.denied",
                "write `blocked_tools` under `agent.toolsets`",
            ),
            (
                "agents: {a: {network: {allow: [a]}}}",
                "agents.a.network.allow",
                "write `allowed_domains` under `permissions.network`, hosts without scheme or path",
            ),
            (
                "permissions: {network: {allow: [a]}}",
                "permissions.network.allow",
                "write `allowed_domains` under `permissions.network`, hosts without scheme or path",
            ),
            (
                "policy: {network: {deny_all_other: false}}",
                "policy.network.deny_all_other",
                "remove it: `permissions.network.allowed_domains` refuses everything else already",
            ),
            (
                "Statement: [{Effect: Allow}]",
                "Statement",
                "write the statements as `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
            ),
            (
                "permissions: {model: {allowed_models: [a]}}",
                "permissions.model.allowed_models",
                "write `allowed_models` under `agent.models`",
            ),
            (
                "agent: {permissions: {}}",
                "agent.permissions",
                "write the section at the top level of the file",
            ),
            (
                "policy: {other: 1}",
                "policy.other",
                "write the rule under `models`, `toolsets`, `permissions.network` or `rate_limits`",
            ),
            (
                "policy: []",
                "policy",
                "write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
            ),
        ] {
            let error = Policy::loader()
                .accept_unenforced(true)
                .from_yaml(text)
                .unwrap_err();
            let [problem] = error.problems() else {
                panic!("one problem: {error}");
            };
            assert_eq!(problem.path(), path);
            assert_eq!(
                problem.message(),
                "belongs to another form of policy, not read here"
            );
            assert_eq!(problem.help(), Some(help));
            assert!(problem.line().is_some());
        }
    }

    #[test]
    fn requests_for_other_enforcement_are_refused_unless_accepted() {
        for (section, path) in [
            (
                "agent: {compliance: {require_approval: [a]}}",
                "agent.compliance.require_approval",
            ),
            (
                "agent: {capabilities: {require_tool_approval: true}}",
                "agent.capabilities.require_tool_approval",
            ),
            (
                "compliance: {data_residency: eu}",
                "compliance.data_residency",
            ),
            (
                "toolsets: {require_confirmation: [a]}",
                "toolsets.require_confirmation",
            ),
            (
                "agent: {models: {allowed_providers: [openai]}}",
                "agent.models.allowed_providers",
            ),
        ] {
            let text = format!("{section}\nrate_limits: {{}}");
            let error = Policy::from_yaml(&text).unwrap_err();
            let [problem] = error.problems() else {
                panic!("one problem: {error}");
            };
            assert_eq!(
                problem.to_string(),
                format!("{path}: asks for something that is not enforced here")
            );
            assert_eq!(
                problem.help(),
                Some(
                    "remove it, or load the policy with `accept_unenforced` \
                     (`--accept-unenforced` of the gateway)"
                )
            );
            let policy = Policy::loader()
                .accept_unenforced(true)
                .from_yaml(&text)
                .unwrap();
            assert!(
                policy
                    .unenforced()
                    .iter()
                    .any(|notice| notice.path() == path)
            );
        }
        let text = "compliance: {require_approval: [], data_residency: null}\n\
                    models: {allowed_providers: []}";
        assert!(Policy::from_yaml(text).is_ok());
    }

    #[test]
    fn a_rule_where_none_are_read_is_refused() {
        for section in ["server", "memory: {config", "agent: {memory: {config"] {
            let closing = "}".repeat(section.matches('{').count());
            for key in [
                "allowed_tools",
                "blocked_hosts",
                "require_login",
                "rate_limits",
                "deny",
            ] {
                let text = format!("models: {{}}\n{section}: {{{key}: [a]}}{closing}");
                let error = Policy::from_yaml(&text).unwrap_err();
                let message = error.problems()[0].message();
                assert_eq!(
                    message, "looks like a rule, but no rules are read here",
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused_everywhere() {
        for (text, path, help) in [
            ("agnet: {}", "agnet", "did you mean `agent`?"),
            ("project: {nam: a}", "project.nam", "did you mean `name`?"),
            (
                "agent: {llm: {modle: a}}",
                "agent.llm.modle",
                "did you mean `model`?",
            ),
            (
                "permissions: {netwrok: {}}",
                "permissions.netwrok",
                "did you mean `network`?",
            ),
            (
                "permissions: {network: {allow_domains: []}}",
                "permissions.network.allow_domains",
                "did you mean `allowed_domains`?",
            ),
            (
                "permissions: {filesystem: {root: a}}",
                "permissions.filesystem.root",
                "known here: `enabled`, `allowed_paths`, `blocked_paths`, `allowed_extensions`",
            ),
            (
                "permissions: {api: {allowed_services: [{service: a}]}}",
                "permissions.api.allowed_services[0].service",
                "known here: `service_name`, `endpoints`",
            ),
            (
                "rate_limits: {per_user: {}}",
                "rate_limits.per_user",
                "known here: `per_agent`, `per_model`, `global`",
            ),
            (
                "tools: {allowed_tools: [{nmae: a}]}",
                "tools.allowed_tools[0].nmae",
                "did you mean `name`?",
            ),
            ("\"a b\\u202e\": 1", "\"a b\\u{202e}\"", "known here"),
        ] {
            let error = Policy::from_yaml(text).unwrap_err();
            let problem = &error.problems()[0];
            assert_eq!(problem.path(), path);
            assert_eq!(problem.message(), "unknown key");
            assert!(problem.help().unwrap().starts_with(help), "{problem:?}");
        }
    }

    #[test]
    fn files_and_services_are_read_as_strictly_as_the_rest() {
        assert_eq!(
            refused(
                "permissions: {filesystem: {enabled: yes, allowed_paths: null}, api: {allowed_services: [a]}}"
            ),
            "line 1, column 37: permissions.filesystem.enabled: must be `true` or `false`, not the text `yes`\n  \
             help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`\n\
             line 1, column 57: permissions.filesystem.allowed_paths: must be a list, not null\n  \
             help: remove the key to allow everything, or write `[]` to allow nothing\n\
             line 1, column 89: permissions.api.allowed_services[0]: must be a mapping, not text"
        );
        assert_eq!(
            refused("permissions: {api: {allowed_services: [{endpoints: [chat]}]}}"),
            "line 1, column 40: permissions.api.allowed_services[0]: has no `service_name`\n  \
             help: write the service's name"
        );
    }

    #[test]
    fn a_path_is_absolute_and_leads_to_one_place() {
        for (path, message, help) in [
            ("data/*", "is not a path from the root", RELATIVE),
            ("~/data", "is not a path from the root", RELATIVE),
            ("*.env", "is not a path from the root", RELATIVE),
            (
                "file:///tmp",
                "is a URL, not a path",
                "write the path alone, as in `/srv/data/*`",
            ),
            (
                "C:\\tmp",
                "has a backslash",
                "separate the parts of a path with `/`",
            ),
            (
                "/tmp/**",
                "has `**`",
                "write `/*` at the end: it means everything below, at any depth",
            ),
            (
                "/tmp/",
                "ends with a slash",
                "write the path without it, or with `/*` for everything below",
            ),
            ("/tmp/../etc", EMPTY_PART, "write the path that it leads to"),
            ("/tmp//a", EMPTY_PART, "write the path that it leads to"),
        ] {
            let text = format!("permissions: {{filesystem: {{blocked_paths: ['{path}']}}}}");
            assert_eq!(
                refused(&text),
                format!(
                    "line 1, column 44: permissions.filesystem.blocked_paths[0]: `{path}` {message}\n  help: {help}"
                )
            );
        }
    }

    const RELATIVE: &str =
        "write it whole, as in `/srv/data/*`; `~` and relative paths are not resolved";
    const EMPTY_PART: &str = "has a part that is empty, `.` or `..`";

    #[test]
    fn an_extension_has_its_dot() {
        for (extension, help) in [
            ("txt", "write it with its dot, as in `.txt`"),
            ("a.", "write it with its dot, as in `.txt`"),
            (
                "*.txt",
                "write it with its dot, as in `.txt`, or remove the list to allow every extension",
            ),
        ] {
            let text =
                format!("permissions: {{filesystem: {{allowed_extensions: ['{extension}']}}}}");
            assert_eq!(
                refused(&text),
                format!(
                    "line 1, column 49: permissions.filesystem.allowed_extensions[0]: `{extension}` is not an extension\n  help: {help}"
                )
            );
        }
    }
}

mod json {
    use super::*;

    #[test]
    fn the_rules_are_read_with_and_without_an_envelope() {
        let bare = r#"{"agent": {"models": {"allowed_models": ["gpt-4o"]}}}"#;
        let policy = Policy::from_json(bare).unwrap();
        assert_eq!(model(&policy, "gpt-4o"), NameMatch::Allowed);
        assert!(policy.unenforced().is_empty());
        let envelope = format!(
            r#"{{"policy_id": "p", "version": "1", "status": "active", "hash": "ab", "content": {bare}, "signature": "cd"}}"#
        );
        let policy = Policy::from_json(&envelope).unwrap();
        assert_eq!(model(&policy, "o3"), NameMatch::NotListed);
        assert_eq!(
            lines(policy.unenforced()),
            [
                "policy_id: part of the envelope, not verified",
                "version: part of the envelope, not verified",
                "status: part of the envelope, not verified",
                "hash: part of the envelope, not verified",
                "signature: signature is not verified",
            ]
        );
    }

    #[test]
    fn an_envelope_has_its_rules_inside() {
        assert_eq!(
            refused_json(r#"{"content": {"models": {}}, "rate_limits": {}}"#),
            "line 1, column 29: rate_limits: stands beside `content`\n  help: move it inside `content`"
        );
        assert_eq!(
            refused_json(r#"{"content": null}"#),
            "line 1, column 13: content: must be a mapping, not null"
        );
        let draft = Policy::from_json(
            r#"{"status": "draft", "content": {"models": {"blocked_models": ["a"]}}}"#,
        );
        assert_eq!(
            lines(draft.unwrap().warnings()),
            ["status: the policy is marked `draft`, not `active`"]
        );
    }

    #[test]
    fn repeated_keys_are_refused_after_unescaping() {
        assert_eq!(
            refused_json(r#"{"models": {"blocked_models": ["a"], "blocked_model\u0073": []}}"#),
            "line 1, column 38: models.blocked_models: given twice\n  help: keep one of them"
        );
    }

    #[test]
    fn a_mapping_is_no_number() {
        let text = r#"{"rate_limits":{"per_agent":{"requests_per_minute":{"$serde_json::private::Number":"5"}}}}"#;
        assert_eq!(
            refused_json(text),
            "line 1, column 52: rate_limits.per_agent.requests_per_minute: must be a whole number, not a mapping"
        );
    }

    #[test]
    fn no_prefix_is_a_policy() {
        let text = r#"{"agent": {"models": {"allowed_models": ["gpt-4o"], "blocked_models": ["o1"]}},
"toolsets": {"blocked_tools": ["rm*"]}, "rate_limits": {"per_agent": {"requests_per_minute": 10}}}"#;
        assert!(Policy::from_json(text).is_ok());
        for end in 0..text.len() {
            let prefix = text.get(..end).unwrap();
            assert!(Policy::from_json(prefix).is_err(), "{prefix}");
            assert!(Policy::from_yaml(prefix).is_err(), "{prefix}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_in_place() {
        for (text, expected) in [
            (
                "{\"models\": {}} x",
                "line 1, column 16: not readable as JSON: trailing characters",
            ),
            (
                "{\"models\": {},}",
                "line 1, column 15: not readable as JSON: trailing comma",
            ),
            (
                "{\n  'models': {}}",
                "line 2, column 3: not readable as JSON: key must be a string",
            ),
            ("", "not readable as JSON: EOF while parsing a value"),
        ] {
            assert!(
                refused_json(text).ends_with(expected),
                "{}",
                refused_json(text)
            );
        }
    }
}

mod files {
    use super::*;

    fn write(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn refused_file(name: &str, bytes: &[u8]) -> String {
        let (_folder, path) = write(name, bytes);
        let error = Policy::from_path(&path).unwrap_err();
        assert_eq!(error.file(), Some(&*path));
        error.to_string().replace(&path.display().to_string(), name)
    }

    #[test]
    fn an_error_names_file_line_and_column() {
        assert_eq!(
            refused_file("sekuire.yml", b"models:\n  allowed_model: [a]\n"),
            "sekuire.yml:2:3: models.allowed_model: unknown key\n  help: did you mean `allowed_models`?"
        );
        assert_eq!(
            refused_file("policy.json", b"{\n\"models\": {\"allowed_model\": []}}"),
            "policy.json:2:12: models.allowed_model: unknown key\n  help: did you mean `allowed_models`?"
        );
    }

    #[test]
    fn the_language_is_told_by_extension_and_then_by_content() {
        let json = b" {\"models\": {\t\"blocked_models\": [\"a\"]}}";
        for name in ["policy.json", "policy.JSON", "policy", "policy.conf"] {
            let (_folder, path) = write(name, json);
            assert!(Policy::from_path(path).is_ok(), "{name}");
        }
        for name in ["a.yml", "a.YAML", "a", "a.conf"] {
            let (_folder, path) = write(name, b"models: {blocked_models: [a]}");
            assert!(Policy::from_path(path).is_ok(), "{name}");
        }
        assert!(refused_file("a.json", b"models: {}").contains("not readable as JSON"));
    }

    #[test]
    fn only_regular_files_of_bearable_size_in_utf8_are_read() {
        assert_eq!(
            refused_file("a.yml", b"models: {}\n# \xff"),
            "a.yml: not UTF-8 from byte 13 on\n  help: save the file as UTF-8"
        );
        let mut large = b"models: {blocked_models: [a]}\n".to_vec();
        large.resize(256 * 1024, b'\n');
        let (_folder, path) = write("a.yml", &large);
        assert!(Policy::from_path(path).is_ok());
        large.push(b'\n');
        assert_eq!(refused_file("a.yml", &large), "a.yml: larger than 256 KiB");
        assert_eq!(
            refused(str::from_utf8(&large).unwrap()),
            "larger than 256 KiB"
        );
        let folder = tempfile::tempdir().unwrap();
        let error = Policy::from_path(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with(": not a regular file"));
    }

    #[test]
    fn a_file_that_is_not_there_keeps_its_cause() {
        let error = Policy::from_path("no/such/sekuire.yml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no/such/sekuire.yml: the file can't be read"
        );
        let source = std::error::Error::source(&error).unwrap();
        let source = source.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("sekuire.yml");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe, PathBuf::from("/dev/zero")] {
            let error = Policy::from_path(path).unwrap_err();
            assert_eq!(error.problems()[0].message(), "not a regular file");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles() {
        let (folder, path) = write("a.yml", b"models: {}");
        let link = folder.path().join("b.yml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Policy::from_path(&link).is_ok());
        let ring = folder.path().join("c.yml");
        std::os::unix::fs::symlink(&ring, &ring).unwrap();
        assert!(Policy::from_path(&ring).is_err());
    }
}

mod hostile {
    use super::*;

    /// Generous, as the checks run unoptimised on busy machines.
    const SOON: Duration = Duration::from_secs(4);

    fn refused_soon(text: &str) -> String {
        let start = Instant::now();
        let error = refused(text);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        error
    }

    #[test]
    fn deep_nesting_is_refused_without_using_the_stack() {
        for opening in ["[", "- ", "? ", "{a: ", "- - ? "] {
            let text = opening.repeat(4_000);
            let error = refused_soon(&text);
            assert!(
                error.contains("nested deeper than 32 levels") || error.contains("not readable"),
                "{error}"
            );
        }
        assert_eq!(refused_soon(&"[".repeat(200_000)), "more than 20000 values");
        let text = "[".repeat(20_000);
        assert_eq!(
            refused_json(&text),
            "line 1, column 34: nested deeper than 32 levels"
        );
    }

    #[test]
    fn aliases_can_not_multiply() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..7 {
            let before = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(","));
        }
        assert_eq!(
            refused_soon(&text),
            "line 2, column 10: anchors and aliases are not supported\n  \
             help: write the value out where it is used"
        );
        assert!(refused_soon("&a [*a]").contains("anchors and aliases"));
        assert!(refused_soon("{\"a\":&a [b],\"c\":*a}").contains("anchors and aliases"));
    }

    /// Half a second and 16 MiB, whatever the file. The time is generous here, as the checks run unoptimised on busy machines.
    #[test]
    fn no_file_costs_much() {
        let stars = "*a".repeat(120);
        let long = |count: usize, end: &str| format!("'{stars}{end}*', ").repeat(count);
        let many = |count: usize, entry: &dyn Fn(usize) -> String| {
            (0..count).map(entry).collect::<String>()
        };
        let bomb = |indent: &str| {
            let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
            for level in 1..9 {
                let before = format!("{indent}*a{}", level - 1);
                text += &format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(","));
            }
            text
        };
        for text in [
            bomb(""),
            bomb(" "),
            "[".repeat(200_000),
            "x".repeat(256 * 1024),
            format!("models: {{allowed_models: [{}]}}", "a, ".repeat(19_000)),
            format!("models: {{allowed_models: [{}]}}", "4, ".repeat(15_000)),
            format!("models: {{allowed_models: [{}]}}", long(310, "")),
            format!(
                "models: {{allowed_models: [{}], blocked_models: [{}]}}",
                long(300, ""),
                long(300, "b")
            ),
            format!("{{{}}}", many(9_000, &|number| format!("k{number}: 1, "))),
            format!(
                "permissions: {{api: {{allowed_services: [{}]}}}}",
                many(100, &|_| format!(
                    "{{service_name: a, endpoints: [{}]}}, ",
                    many(90, &|number| format!("e{number}, "))
                ))
            ),
            format!(
                "rate_limits: {{per_model: {{{}}}}}",
                many(2_500, &|number| format!(
                    "m{number}: {{requests_per_minute: 1}}, "
                ))
            ),
        ] {
            let started = Instant::now();
            let cost = allocation_counter::measure(|| drop(Policy::from_yaml(&text)));
            let start = text.get(..40).unwrap();
            assert!(started.elapsed() < SOON, "{start} {:?}", started.elapsed());
            assert!(
                cost.bytes_max < 16 * 1024 * 1024,
                "{start} {}",
                cost.bytes_max
            );
        }
    }

    #[test]
    fn a_flood_of_problems_is_cut_off() {
        let text = format!("models: {{allowed_models: [{}]}}", "4,".repeat(15_000));
        let start = Instant::now();
        let error = Policy::from_yaml(&text).unwrap_err();
        assert!(start.elapsed() < SOON);
        assert_eq!(error.problems().len(), 50);
        assert!(error.to_string().ends_with("\nand 14950 more"));
    }

    #[test]
    fn values_are_shown_escaped_and_cut() {
        let long = "\u{1b}".repeat(100) + &"é".repeat(1_000);
        let text = serde_json::json!({"permissions": {"network": {"enabled": long}}}).to_string();
        let error = refused_json(&text);
        assert!(error.len() < 500);
        assert!(!error.contains('\u{1b}'));
    }
}

/// What `*` means, in the fewest words.
fn oracle(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|skip| oracle(rest, &name[skip..])),
        [first, rest @ ..] => name.first() == Some(first) && oracle(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn a_pattern_matches_as_its_definition_says(pattern in "[ab*é]{1,8}", name in "[abé]{0,10}") {
        let text = serde_json::json!({"models": {"allowed_models": [pattern]}}).to_string();
        let policy = Policy::from_json(&text).unwrap();
        let pattern: Vec<char> = pattern.chars().collect();
        let name_chars: Vec<char> = name.chars().collect();
        let expected = if oracle(&pattern, &name_chars) { NameMatch::Allowed } else { NameMatch::NotListed };
        prop_assert_eq!(model(&policy, &name), expected);
    }

    #[test]
    fn every_prefix_of_a_policy_is_read_or_refused(end in 0_usize..2_000) {
        let text = fs::read_to_string(ready_made("research-assistant.yml")).unwrap();
        let end = end.min(text.len());
        if let Some(prefix) = text.get(..end) {
            drop(Policy::from_yaml(prefix));
            drop(Policy::from_json(prefix));
        }
    }

    #[test]
    fn a_policy_with_a_changed_byte_is_read_or_refused(
        at in 0_usize..2_000,
        with in "[\\[\\]{}:,&*!%|>'\"#?@`\\-\t\n \\\\a0\u{0}\u{feff}\u{85}é]{0,3}",
    ) {
        let mut text = fs::read_to_string(ready_made("token-budgets.yml")).unwrap();
        let at = at.min(text.len() - 1);
        text.replace_range(at..=at, &with);
        if let Err(error) = Policy::from_yaml(&text) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([\\[\\]{}:,&*!%|>'\"#?\\-\n ]|models|a|0|é){0,40}") {
        drop(Policy::from_yaml(&text));
        drop(Policy::from_json(&text));
    }

    #[test]
    fn no_host_makes_the_check_panic(host in "[a-zA-Z0-9.:\\[\\]%@*_\u{ff0e}é-]{0,20}") {
        let policy = Policy::from_yaml("permissions: {network: {allowed_domains: ['*']}}").unwrap();
        let network = policy.network().unwrap();
        let found = network.check(&host, "https");
        prop_assert!(matches!(found, NetworkMatch::Allowed | NetworkMatch::Unreadable));
        prop_assert_eq!(network.check(&host.to_uppercase(), "https"), found);
    }
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn assert_shared<T: Clone + Send + Sync + 'static>() {}
    assert_shared::<Policy>();
    assert_shared::<tower_sekuire::PolicyLoader>();
    fn assert_error<T: std::error::Error + Send + Sync + 'static>() {}
    assert_error::<PolicyError>();
}
