//! Models, tools, hosts and services: the same decision and rule as Sekuire's own enforcer, but for the deviations that are
//! listed here, each with its reason. A difference that none of them explains fails the test, and so does a deviation that
//! none of the questions met.

use std::collections::BTreeMap;

use sekuire::policy::{ActivePolicy, PolicyEnforcer as Reference, PolicyError};
use serde_json::{Map, Value, json};
use tower_sekuire::{Policy, PolicyEnforcer, PolicyViolation};

/// Where this crate decides differently on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deviation {
    /// A section without `enabled` is on here and off there: a missing key restricts nothing, everywhere the same.
    EnabledIsMissing,
    /// An empty `allowed_domains` allows no host here, and every host there: an empty list allows nothing, everywhere the
    /// same.
    NoDomainIsListed,
    /// An entry with `*` is a pattern here, and a name there, for models, tools and services.
    EntryIsAPattern,
    /// An allowed tool may be written as plain text here; there it is passed over.
    ToolIsPlainText,
    /// A name with white space around it is on no list here: servers may take it for the name without.
    NameIsSpelledOtherwise,
    /// `wss` is TLS here.
    WebSocketOverTls,
    /// Hosts are compared without regard to case, a last dot and a port.
    HostIsSpelledOtherwise,
    /// A host that can be spelled in several ways, or is none, is refused as unreadable here.
    HostIsUnreadable,
}

use Deviation::*;

const ALL: [Deviation; 8] = [
    EnabledIsMissing,
    NoDomainIsListed,
    EntryIsAPattern,
    ToolIsPlainText,
    NameIsSpelledOtherwise,
    WebSocketOverTls,
    HostIsSpelledOtherwise,
    HostIsUnreadable,
];

#[derive(Clone, Copy, Debug)]
enum Question {
    Model(&'static str),
    Tool(&'static str),
    Host(&'static str, &'static str),
    Service(&'static str),
}

const NAMES: [&str; 9] = [
    "gpt-4o",
    "gpt-4o-mini",
    "GPT-4o",
    "gpt-4o ",
    "o3",
    "file_delete",
    "file_read",
    "files:read",
    "x*",
];
const NAME_ENTRIES: [&str; 8] = [
    "gpt-4o",
    "gpt-4o-mini",
    "o3",
    "gpt-4o*",
    "file_*",
    "file_delete",
    "*",
    "files:read",
];
const HOSTS: [&str; 11] = [
    "api.openai.com",
    "API.OpenAI.com",
    "api.openai.com.",
    "api.openai.com:443",
    "example.com",
    "a.example.com",
    "evilexample.com",
    "127.0.0.1",
    "127.1",
    "",
    "a.b.example.com",
];
const HOST_ENTRIES: [&str; 6] = [
    "api.openai.com",
    "*.example.com",
    "example.com",
    "*",
    "127.0.0.1",
    "a.example.com",
];
const PROTOCOLS: [&str; 4] = ["https", "http", "wss", "ws"];
const SERVICES: [&str; 4] = ["openai", "OpenAI", "stripe", "aws-s3"];
const SERVICE_ENTRIES: [&str; 4] = ["openai", "stripe", "aws-*", "azure"];

/// Numbers that are random enough, and the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Some of them, none twice; sometimes none.
    fn some(&mut self, all: &[&'static str]) -> Vec<&'static str> {
        let mut all = all.to_vec();
        (0..self.below(4))
            .map(|_| all.swap_remove(self.below(all.len())))
            .collect()
    }

    /// Puts a value there three times of four.
    fn maybe(
        &mut self,
        map: &mut Map<String, Value>,
        key: &str,
        value: impl FnOnce(&mut Self) -> Value,
    ) {
        if self.below(4) > 0 {
            let value = value(self);
            map.insert(key.to_owned(), value);
        }
    }
}

fn policy(numbers: &mut Numbers) -> Value {
    let mut models = Map::new();
    numbers.maybe(&mut models, "allowed_models", |n| {
        json!(n.some(&NAME_ENTRIES))
    });
    numbers.maybe(&mut models, "blocked_models", |n| {
        json!(n.some(&NAME_ENTRIES))
    });
    let mut tools = Map::new();
    numbers.maybe(&mut tools, "allowed_tools", |n| {
        let tools = n.some(&NAME_ENTRIES).into_iter();
        let tools = tools.map(|name| {
            if n.below(4) == 0 {
                json!(name)
            } else {
                json!({"name": name})
            }
        });
        tools.collect()
    });
    numbers.maybe(&mut tools, "blocked_tools", |n| {
        json!(n.some(&NAME_ENTRIES))
    });
    let mut network = Map::new();
    numbers.maybe(&mut network, "enabled", |n| json!(n.below(8) > 0));
    numbers.maybe(&mut network, "require_tls", |n| json!(n.below(2) > 0));
    numbers.maybe(&mut network, "allowed_domains", |n| {
        json!(n.some(&HOST_ENTRIES))
    });
    numbers.maybe(&mut network, "blocked_domains", |n| {
        json!(n.some(&HOST_ENTRIES))
    });
    let mut api = Map::new();
    numbers.maybe(&mut api, "enabled", |n| json!(n.below(8) > 0));
    numbers.maybe(&mut api, "allowed_services", |n| {
        let services = n.some(&SERVICE_ENTRIES).into_iter();
        services.map(|name| json!({"service_name": name})).collect()
    });
    let mut permissions = Map::new();
    numbers.maybe(&mut permissions, "network", |_| network.into());
    numbers.maybe(&mut permissions, "api", |_| api.into());
    let mut policy = Map::new();
    numbers.maybe(&mut policy, "agent", |_| json!({"models": models}));
    numbers.maybe(&mut policy, "tools", |_| tools.into());
    policy.insert("permissions".to_owned(), permissions.into());
    policy.insert(
        "rate_limits".to_owned(),
        json!({"per_agent": {"requests_per_minute": 60}}),
    );
    policy.into()
}

fn question(numbers: &mut Numbers) -> Question {
    match numbers.below(4) {
        0 => Question::Model(numbers.of(&NAMES)),
        1 => Question::Tool(numbers.of(&NAMES)),
        2 => Question::Host(numbers.of(&HOSTS), numbers.of(&PROTOCOLS)),
        _ => Question::Service(numbers.of(&SERVICES)),
    }
}

/// The rule's id, or nothing.
fn ours(enforcer: &PolicyEnforcer, question: Question) -> Option<String> {
    let decision = match question {
        Question::Model(model) => enforcer.enforce_model(model),
        Question::Tool(tool) => enforcer.enforce_tool(tool),
        Question::Host(host, protocol) => enforcer.enforce_network(host, protocol),
        Question::Service(service) => enforcer.enforce_api(service),
    };
    let id = |violation: PolicyViolation| {
        let rule = violation.rule();
        rule.sekuire_id().unwrap_or(rule.as_str()).to_owned()
    };
    decision.err().map(id)
}

fn theirs(enforcer: &Reference, question: Question) -> Option<String> {
    let decision = match question {
        Question::Model(model) => enforcer.enforce_model(model),
        Question::Tool(tool) => enforcer.enforce_tool(tool),
        Question::Host(host, protocol) => enforcer.enforce_network(host, protocol),
        Question::Service(service) => enforcer.enforce_api(service),
    };
    match decision {
        Ok(()) => None,
        Err(PolicyError::Violation(rule)) => Some(rule),
        Err(other) => panic!("{other}"),
    }
}

/// What of a policy and a question this crate means differently.
fn deviations(policy: &Value, question: Question) -> Vec<Deviation> {
    let list = |path: &str| policy.pointer(path).and_then(Value::as_array).cloned();
    let starred = |path: &str| {
        let entries = list(path).unwrap_or_default();
        let text = |entry: &Value| {
            let name = entry
                .get("name")
                .or(entry.get("service_name"))
                .unwrap_or(entry);
            name.as_str().unwrap().contains('*')
        };
        entries.iter().any(text)
    };
    let off = |path: &str| {
        policy
            .pointer(path)
            .is_some_and(|section| section.get("enabled").is_none())
    };
    let mut found = Vec::new();
    let mut add = |applies: bool, deviation| {
        if applies {
            found.push(deviation);
        }
    };
    if let Question::Model(name) | Question::Tool(name) = question {
        add(name.trim() != name, NameIsSpelledOtherwise);
    }
    match question {
        Question::Model(_) => {
            let lists = [
                "/agent/models/allowed_models",
                "/agent/models/blocked_models",
            ];
            add(lists.iter().any(|list| starred(list)), EntryIsAPattern);
        }
        Question::Tool(_) => {
            let lists = ["/tools/allowed_tools", "/tools/blocked_tools"];
            add(lists.iter().any(|list| starred(list)), EntryIsAPattern);
            let tools = list("/tools/allowed_tools").unwrap_or_default();
            add(tools.iter().any(Value::is_string), ToolIsPlainText);
        }
        Question::Host(host, protocol) => {
            let network = "/permissions/network";
            add(off(network), EnabledIsMissing);
            add(
                list("/permissions/network/allowed_domains").is_some_and(|list| list.is_empty()),
                NoDomainIsListed,
            );
            add(protocol == "wss", WebSocketOverTls);
            let plain = host.to_lowercase();
            add(
                plain != host || host.ends_with('.') || host.contains(':'),
                HostIsSpelledOtherwise,
            );
            add(matches!(host, "" | "127.1"), HostIsUnreadable);
        }
        Question::Service(_) => {
            add(off("/permissions/api"), EnabledIsMissing);
            add(
                starred("/permissions/api/allowed_services"),
                EntryIsAPattern,
            );
        }
    }
    found
}

#[test]
fn every_decision_is_the_reference_s_but_for_the_listed_deviations() {
    let mut numbers = Numbers(0x5E_C0_17_E5_EC_01);
    let mut differs: BTreeMap<Deviation, u32> = BTreeMap::new();
    let (mut same, mut strict, mut refused) = (0_u32, 0_u32, 0_u32);
    for _ in 0..4_000 {
        let content = policy(&mut numbers);
        let enforcer = PolicyEnforcer::new(Policy::from_json(&content.to_string()).unwrap());
        let reference = Reference::new_with_override(envelope(&content), false);
        for _ in 0..20 {
            let question = question(&mut numbers);
            let (here, there) = (ours(&enforcer, question), theirs(&reference, question));
            let deviations = deviations(&content, question);
            if deviations.is_empty() {
                strict += 1;
                refused += u32::from(here.is_some());
                assert_eq!(here, there, "{question:?} of {content}");
            }
            if here == there {
                same += 1;
            } else if let [deviation] = *deviations {
                *differs.entry(deviation).or_default() += 1;
            }
        }
    }
    println!(
        "{same} the same; of {strict} that no deviation touches all, {refused} of them refused; differing by {differs:?}"
    );
    assert!(
        strict > 25_000 && refused > 8_000 && strict - refused > 8_000,
        "{strict} {refused}"
    );
    for deviation in ALL {
        assert!(
            differs.get(&deviation).is_some_and(|times| *times > 10),
            "{deviation:?}: {differs:?}"
        );
    }
}

/// Each deviation, by what it comes to.
#[test]
fn the_deviations_are_as_they_are_told() {
    let decided = |content: Value, question: Question| {
        let enforcer = PolicyEnforcer::new(Policy::from_json(&content.to_string()).unwrap());
        let reference = Reference::new_with_override(envelope(&content), false);
        (ours(&enforcer, question), theirs(&reference, question))
    };
    let rule = |rule: &str| Some(rule.to_owned());
    let network = |network: Value| json!({"permissions": {"network": network}});
    assert_eq!(
        decided(network(json!({})), Question::Host("h", "http")),
        (None, rule("network.disabled"))
    );
    assert_eq!(
        decided(
            network(json!({"enabled": true, "allowed_domains": []})),
            Question::Host("h", "http")
        ),
        (rule("network.not_allowed"), None)
    );
    let pattern = json!({"agent": {"models": {"allowed_models": ["gpt-4o*"]}}});
    assert_eq!(
        decided(pattern, Question::Model("gpt-4o-mini")),
        (None, rule("model.not_allowed"))
    );
    let blocked = json!({"agent": {"models": {"blocked_models": ["o3"]}}});
    assert_eq!(
        decided(blocked, Question::Model("o3 ")),
        (rule("model.not_allowed"), None)
    );
    let plain = json!({"tools": {"allowed_tools": ["search"]}});
    assert_eq!(
        decided(plain, Question::Tool("search")),
        (None, rule("tool.not_allowed"))
    );
    let tls = network(json!({"enabled": true, "require_tls": true}));
    assert_eq!(
        decided(tls, Question::Host("h", "wss")),
        (None, rule("network.tls_required"))
    );
    let blocked = network(json!({"enabled": true, "blocked_domains": ["evil.example"]}));
    assert_eq!(
        decided(blocked.clone(), Question::Host("EVIL.example.", "https")),
        (rule("network.blocked"), None)
    );
    assert_eq!(
        decided(blocked, Question::Host("127.1", "https")),
        (rule("request_unreadable"), None)
    );
}

fn envelope(content: &Value) -> ActivePolicy {
    ActivePolicy {
        policy_id: "p".to_owned(),
        workspace_id: "w".to_owned(),
        version: "1".to_owned(),
        status: "active".to_owned(),
        hash: String::new(),
        content: content.clone(),
        activated_at: None,
        updated_at: None,
        signature: None,
        signing_key_id: None,
        signing_public_key: None,
    }
}
