//! What a policy file means, and what is said about one that means nothing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers as well"
)]
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

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
        assert_eq!(tool(policy, "files_read"), NameMatch::Allowed);
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
        // The agent's own files aren't here.
        let gone = "agent.system_prompt: `./system_prompt.md`: there is no such file: the agent's id is not computed";
        let told = cfg!(feature = "signed").then_some(gone);
        assert_eq!(lines(policy.warnings()), Vec::from_iter(told));
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
                "agent.models: an empty allow list allows no model",
                "agent.toolsets: an empty allow list allows no tool",
                "permissions.network: an empty allow list allows no host",
                "rate_limits.per_agent.requests_per_minute: 0 allows nothing",
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
                "tools: restricts nothing: every tool is allowed; write `allowed_tools` or `blocked_tools`",
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
                "models.allowed_models[0]: `a` is both allowed and blocked: it is blocked",
                "models.allowed_models[1]: `a` is listed twice",
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
                "9:56: toolsets.allowed_tools[3]: no `tools.json` was read to say which tools are meant: `files:*` matches only names that begin with `files:`",
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
                "27:9: permissions.api.allowed_services[0]: `openai` adds nothing: `open*` allows it too",
                "28:27: permissions.api.allowed_services[0].endpoints[1]: `chat/completions` adds nothing: `chat` matches it too",
                "28:45: permissions.api.allowed_services[0].endpoints[2]: `chat.completions` adds nothing: `chat` matches it too",
                "31:9: permissions.api.allowed_services[2]: the `endpoints` of `stripe` restrict nothing: it is also listed without",
                "33:9: permissions.api.allowed_services[4]: `x*` adds nothing: `*` allows it too",
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
                "3:35: toolsets.allowed_tools[2]: no `tools.json` was read to say which tools are meant: `files:*` matches only names that begin with `files:`",
                "5:32: permissions.network.allowed_domains[0]: `a.example` is allowed, but `*.a.example` is blocked: it is blocked",
                "5:43: permissions.network.allowed_domains[1]: `b.example` is allowed, but `B.example` is blocked: it is blocked",
                "6:33: permissions.filesystem.allowed_paths[0]: `/etc/a` is allowed, but `/etc` is blocked: it is blocked",
                "6:41: permissions.filesystem.allowed_paths[1]: `/tmp/*` is both allowed and blocked: it is blocked",
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
        let policy = Policy::loader()
            .tool_categories([("read_file", "files")])
            .from_yaml(POLICY)
            .unwrap();
        assert_eq!(
            lines(policy.warnings()),
            [
                "agent.toolsets.allowed_tools[1]: no tool in the categories given has this category: \
                 `web:*` matches only names that begin with `web:`"
            ]
        );
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
        // Of a file it is told which one was looked for.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sekuire.yml");
        for (agent, name) in [
            ("", "tools.json"),
            ("tools: ./own/list.json, ", "./own/list.json"),
        ] {
            let text = format!("agent: {{{agent}toolsets: {{allowed_tools: ['files:*']}}}}");
            fs::write(&path, text).unwrap();
            assert_eq!(
                lines(Policy::from_path(&path).unwrap().warnings()),
                [format!(
                    "agent.toolsets.allowed_tools[0]: there is no `{name}` to say which tools are meant: \
                     `files:*` matches only names that begin with `files:`"
                )]
            );
        }
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
                "1:1: not readable as JSON: EOF while parsing an object\n  help: close what is open: a quote, `]` or `}` is missing at the end",
            ),
            (
                "3",
                "1:1: must be a list of tools, not the number `3`\n  help: write a list of tools, or an object with the list under `tools`",
            ),
            (
                r#"{"tools": {}}"#,
                "1:11: tools: must be a list of tools, not a mapping\n  help: write a list of tools, or an object with the list under `tools`",
            ),
            (
                "[3]",
                "1:2: [0]: must be an object, not the number `3`\n  help: write it as in `{\"name\": \"read_file\", \"category\": \"files\"}`",
            ),
            (
                r#"[{"name": "a", "category": "files", "category": "web"}]"#,
                "1:37: category: given twice\n  help: keep one of them",
            ),
            (
                r#"[{"name": "a", "category": "files"}, {"name": "a", "category": "web"}]"#,
                "1:38: [1]: `a` is in two categories\n  help: keep one of them",
            ),
            (
                r#"[{"name": "a", "category": 3}]"#,
                "1:2: [0]: `name` and `category` must be text\n  help: write it as in `{\"name\": \"read_file\", \"category\": \"files\"}`",
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
            "line 1, column 1: no agent is named `x`\n  help: available: `default`"
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
        for (empty, line) in [
            ("", 1),
            ("\n", 2),
            ("# nothing\n", 2),
            ("---\n", 2),
            ("null", 1),
            ("~", 1),
        ] {
            assert_eq!(
                refused(empty),
                format!("line {line}, column 1: the document is empty\n  {ADD}"),
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
                format!("line 1, column 1: no policy configuration\n  {ADD}"),
                "{idle:?}"
            );
        }
        assert_eq!(
            refused("[a]"),
            "line 1, column 1: must be a mapping, not a list\n  help: begin with a section, such as `models:`, and indent its keys below it"
        );
        assert_eq!(
            refused("a"),
            "line 1, column 1: must be a mapping, not text\n  help: begin with a section, such as `models:`, and indent its keys below it"
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
    fn requests_for_other_enforcement_are_refused_unless_accepted() {
        for (section, column, path) in [
            (
                "agent: {compliance: {require_approval: [a]}}",
                22,
                "agent.compliance.require_approval",
            ),
            (
                "agent: {capabilities: {require_tool_approval: true}}",
                24,
                "agent.capabilities.require_tool_approval",
            ),
            (
                "compliance: {data_residency: eu}",
                14,
                "compliance.data_residency",
            ),
            (
                "toolsets: {require_confirmation: [a]}",
                12,
                "toolsets.require_confirmation",
            ),
            (
                "agent: {models: {allowed_providers: [openai]}}",
                18,
                "agent.models.allowed_providers",
            ),
        ] {
            let text = format!("{section}\nrate_limits: {{}}");
            assert_eq!(
                refused(&text),
                format!(
                    "line 1, column {column}: {path}: asks for something that is not enforced here\n  \
                     help: remove it, or load the policy with `accept_unenforced` \
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
        for (section, path) in [
            ("server", "server"),
            ("memory: {config", "memory.config"),
            ("agent: {memory: {config", "agent.memory.config"),
        ] {
            let closing = "}".repeat(section.matches('{').count());
            let column = section.len() + 4;
            for key in [
                "allowed_tools",
                "blocked_hosts",
                "require_login",
                "rate_limits",
                "deny",
            ] {
                let text = format!("models: {{}}\n{section}: {{{key}: [a]}}{closing}");
                assert_eq!(
                    refused(&text),
                    format!(
                        "line 2, column {column}: {path}.{key}: looks like a rule, but no rules are read here\n  \
                         help: move it under `models`, `toolsets`, `permissions.network` or `rate_limits`"
                    )
                );
            }
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
            "line 1, column 13: content: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line"
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
        assert_eq!(
            refused_file("a.json", b"models: {}"),
            "a.json:1:1: not readable as JSON: expected value\n  help: write text in double quotes, and nothing but JSON in the file"
        );
    }

    #[test]
    fn a_file_that_is_not_there_keeps_its_cause() {
        let error = Policy::from_path("no/such/sekuire.yml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no/such/sekuire.yml: the file can't be read: there is no such file\n  help: check the path: it is taken from the folder that the program runs in"
        );
        let source = std::error::Error::source(&error).unwrap();
        let source = source.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
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
