//! Other ways in which Sekuire writes policies, moved to where this crate reads them.
//!
//! Only keys are moved, and only those whose meaning is the same; what isn't understood stays where it is, to be refused
//! there. Nothing is merged: a rule that is written in two ways is then given twice, which is a problem. Every node keeps
//! its number, so that a problem is still told at its line and column.

use super::Notice;
use super::document::{Node, Value};

/// Where a way of writing comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// `denied_...`, `agent.capabilities.allowed_tools`.
    Guide,
    /// `agent.allowed_tools`, `agent.network.allow` with URLs.
    Init,
    /// `permissions.network.allowed_hosts`, `rate_limits.requests.max_per_minute`.
    Workspace,
    /// `policy.tools.allowed`, `policy.rate_limits.max_requests_per_minute`.
    Oags,
}

impl Dialect {
    fn name(self) -> &'static str {
        match self {
            Self::Guide => "Sekuire's policy guide",
            Self::Init => "`sekuire init`",
            Self::Workspace => "Sekuire's workspace agent",
            Self::Oags => "the OAGS page",
        }
    }
}

/// Moves what is written in another way. Tells of each key that was moved.
pub(super) fn translate(root: &mut Node) -> Vec<Notice> {
    let mut moved = Moved(Vec::new());
    let policy = if root.entry("content").is_some() {
        root.entry("content")
    } else {
        Some(root)
    };
    if let Some(policy) = policy {
        moved.document(policy);
    }
    moved.0
}

type Entry = (Node, Node);

/// What was moved so far.
struct Moved(Vec<Notice>);

impl Moved {
    fn document(&mut self, policy: &mut Node) {
        self.lists(policy, "");
        self.capabilities(policy, "");
        if let Some(agent) = policy.entry("agent") {
            self.agent(agent, "agent");
            // Rules for hosts are not one agent's own, so they can be told only of a file with one.
            if let Some(network) = agent.take_if("network", is_network_of_init) {
                self.network_of_init(policy, network);
            }
        }
        if let Some(Value::Map(agents)) = policy.entry("agents").map(|agents| &mut agents.value) {
            for (name, agent) in agents {
                let name = format!("agents.{}", name.text().unwrap_or_default());
                self.agent(agent, &name);
            }
        }
        if let Some(network) = policy
            .entry("permissions")
            .and_then(|node| node.entry("network"))
        {
            for (from, to) in [
                ("allowed_hosts", "allowed_domains"),
                ("blocked_hosts", "blocked_domains"),
            ] {
                self.rename(network, "permissions.network", from, to, Dialect::Workspace);
            }
        }
        self.limits_of_workspace(policy);
        self.oags(policy);
    }

    fn agent(&mut self, agent: &mut Node, path: &str) {
        self.lists(agent, path);
        self.capabilities(agent, path);
        for (from, to) in TOOLS {
            // At the top level of an agent.
            if let Some(entry) = agent.take(from) {
                self.place(agent, &["toolsets"], to, entry, path, from, Dialect::Init);
            }
        }
    }

    /// `denied_...` for `blocked_...`.
    fn lists(&mut self, node: &mut Node, path: &str) {
        for (section, from, to) in [
            ("models", "denied_models", "blocked_models"),
            ("toolsets", "denied_tools", "blocked_tools"),
            ("tools", "denied_tools", "blocked_tools"),
        ] {
            if let Some(list) = node.entry(section) {
                self.rename(list, &join(path, section), from, to, Dialect::Guide);
            }
        }
    }

    /// Tools among an agent's capabilities.
    fn capabilities(&mut self, agent: &mut Node, path: &str) {
        let before = self.0.len();
        for (from, to) in TOOLS {
            let taken = agent.entry("capabilities").and_then(|node| node.take(from));
            if let Some(entry) = taken {
                let place = join(path, "capabilities");
                self.place(
                    agent,
                    &["toolsets"],
                    to,
                    entry,
                    &place,
                    from,
                    Dialect::Guide,
                );
            }
        }
        if self.0.len() > before {
            // What is enforced is not told as what isn't.
            agent.take_if("capabilities", Node::is_emptied);
        }
    }

    /// Hosts written as URLs. What is allowed by `https://` alone is allowed by TLS alone.
    fn network_of_init(&mut self, policy: &mut Node, (_, mut network): Entry) {
        for (from, to) in [("allow", "allowed_domains"), ("block", "blocked_domains")] {
            // Given twice it is twice there too, for the reader to refuse.
            while let Some((key, mut list)) = network.take(from) {
                let tls = from == "allow" && all_https(&list);
                if tls || from == "block" || !any_https(&list) {
                    without_scheme(&mut list);
                }
                let id = key.id;
                let place = ["permissions", "network"];
                self.place(
                    policy,
                    &place,
                    to,
                    (key, list),
                    "agent.network",
                    from,
                    Dialect::Init,
                );
                if tls {
                    let key = Node::text_of(id, "require_tls");
                    policy.insert(&place, key, Node::of(id, Value::Bool(true)));
                }
            }
        }
    }

    /// `requests: {max_per_minute: ...}` for `per_agent: {requests_per_minute: ...}`.
    fn limits_of_workspace(&mut self, policy: &mut Node) {
        for unit in ["requests", "tokens"] {
            let before = self.0.len();
            for window in ["minute", "hour", "day"] {
                let from = format!("max_per_{window}");
                let limits = policy.entry("rate_limits");
                let taken = limits.and_then(|limits| limits.entry(unit)?.take(&from));
                if let Some(entry) = taken {
                    let (to, place) = (
                        format!("{unit}_per_{window}"),
                        format!("rate_limits.{unit}"),
                    );
                    let sections = ["rate_limits", "per_agent"];
                    self.place(
                        policy,
                        &sections,
                        &to,
                        entry,
                        &place,
                        &from,
                        Dialect::Workspace,
                    );
                }
            }
            if self.0.len() > before
                && let Some(limits) = policy.entry("rate_limits")
            {
                limits.take_if(unit, Node::is_emptied);
            }
        }
    }

    fn oags(&mut self, policy: &mut Node) {
        let before_all = self.0.len();
        for Section {
            name: section,
            keys,
            to,
        } in OAGS
        {
            let before = self.0.len();
            let path = format!("policy.{section}");
            if section == "network" {
                self.deny_all_other(policy);
            }
            for (from, key) in keys {
                let own = policy.entry("policy");
                let taken = own.and_then(|own| own.entry(section)?.take(from));
                if let Some(entry) = taken {
                    self.place(policy, to, key, entry, &path, from, Dialect::Oags);
                }
            }
            if self.0.len() > before
                && let Some(own) = policy.entry("policy")
            {
                own.take_if(section, Node::is_emptied);
            }
        }
        if self.0.len() > before_all {
            policy.take_if("policy", Node::is_emptied);
        }
    }

    /// An allow list refuses everything else anyway; without a list, everything.
    fn deny_all_other(&mut self, policy: &mut Node) {
        let Some(network) = policy.entry("policy").and_then(|own| own.entry("network")) else {
            return;
        };
        let is_true = |node: &Node| matches!(node.value, Value::Bool(true));
        let Some((key, _)) = network.take_if("deny_all_other", is_true) else {
            return;
        };
        let told = "meant by `permissions.network.allowed_domains`, as the OAGS page writes it";
        let notice = Notice::new("policy.network.deny_all_other", told);
        self.0.push(notice.at(key.id));
        if network.entry("allowed_domains").is_none() {
            let (id, list) = (key.id, Node::of(key.id, Value::List(Vec::new())));
            network.insert(&[], Node::text_of(id, "allowed_domains"), list);
        }
    }

    fn rename(&mut self, node: &mut Node, path: &str, from: &str, to: &str, dialect: Dialect) {
        if let Some(entry) = node.take(from) {
            self.place(node, &[], to, entry, path, from, dialect);
        }
    }

    /// Puts a taken entry there by another name, and tells of it.
    #[expect(
        clippy::too_many_arguments,
        reason = "from where to where, of what, as who writes it"
    )]
    fn place(
        &mut self,
        node: &mut Node,
        sections: &[&str],
        to: &str,
        (key, value): Entry,
        path: &str,
        from: &str,
        dialect: Dialect,
    ) {
        let message = format!("read as `{to}`, as {} writes it", dialect.name());
        let notice = Notice::new(join(path, from), message);
        self.0.push(notice.at(key.id));
        node.insert(sections, Node::text_of(key.id, to), value);
    }
}

/// A section of `policy`: its keys, what they are here, and where.
struct Section {
    name: &'static str,
    keys: &'static [(&'static str, &'static str)],
    to: &'static [&'static str],
}

const OAGS: [Section; 4] = [
    Section {
        name: "models",
        keys: &[
            ("allowed", "allowed_models"),
            ("blocked", "blocked_models"),
            ("denied", "blocked_models"),
        ],
        to: &["models"],
    },
    Section {
        name: "tools",
        keys: &[
            ("allowed", "allowed_tools"),
            ("blocked", "blocked_tools"),
            ("denied", "blocked_tools"),
        ],
        to: &["toolsets"],
    },
    Section {
        name: "network",
        keys: &[
            ("allowed_domains", "allowed_domains"),
            ("blocked_domains", "blocked_domains"),
            ("require_tls", "require_tls"),
        ],
        to: &["permissions", "network"],
    },
    Section {
        name: "rate_limits",
        keys: &[
            ("max_requests_per_minute", "requests_per_minute"),
            ("max_requests_per_hour", "requests_per_hour"),
            ("max_requests_per_day", "requests_per_day"),
            ("max_tokens_per_minute", "tokens_per_minute"),
            ("max_tokens_per_hour", "tokens_per_hour"),
            ("max_tokens_per_day", "tokens_per_day"),
        ],
        to: &["rate_limits", "per_agent"],
    },
];

/// Lists of tools, wherever they stand.
const TOOLS: [(&str, &str); 3] = [
    ("allowed_tools", "allowed_tools"),
    ("blocked_tools", "blocked_tools"),
    ("denied_tools", "blocked_tools"),
];

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Whether there is nothing in it but the two lists that are known.
fn is_network_of_init(node: &Node) -> bool {
    let known = |(key, value): &Entry| {
        matches!(key.text(), Some("allow" | "block")) && matches!(value.value, Value::List(_))
    };
    matches!(&node.value, Value::Map(entries) if !entries.is_empty() && entries.iter().all(known))
}

fn urls(list: &Node) -> impl Iterator<Item = &str> {
    let items: &[Node] = match &list.value {
        Value::List(items) => items,
        _ => &[],
    };
    items.iter().filter_map(Node::text)
}

fn all_https(list: &Node) -> bool {
    urls(list).next().is_some() && urls(list).all(|url| url.starts_with("https://"))
}

fn any_https(list: &Node) -> bool {
    urls(list).any(|url| url.starts_with("https://"))
}

/// Leaves the host of each URL; one with more than a host stays as it is, and is refused as an entry.
fn without_scheme(list: &mut Node) {
    let Value::List(items) = &mut list.value else {
        return;
    };
    for item in items {
        if let Value::Text(text) = &mut item.value
            && let Some(rest) = text
                .strip_prefix("https://")
                .or(text.strip_prefix("http://"))
            && let host = rest.strip_suffix('/').unwrap_or(rest)
            && !host.contains(['/', '?', '#', '@', ':'])
        {
            *text = host.to_owned();
        }
    }
}

impl Node {
    fn of(id: u32, value: Value) -> Self {
        Self { id, value }
    }

    fn text_of(id: u32, text: &str) -> Self {
        Self::of(id, Value::Text(text.to_owned()))
    }

    /// A key's value, the first if it is given twice.
    fn entry(&mut self, name: &str) -> Option<&mut Self> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let mut entries = entries.iter_mut();
        let (_, value) = entries.find(|(key, _)| key.text() == Some(name))?;
        Some(value)
    }

    fn take(&mut self, name: &str) -> Option<Entry> {
        self.take_if(name, |_| true)
    }

    fn take_if(&mut self, name: &str, is_meant: impl Fn(&Self) -> bool) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let meant = |(key, value): &Entry| key.text() == Some(name) && is_meant(value);
        let place = entries.iter().position(meant)?;
        Some(entries.remove(place))
    }

    /// Whether it is a mapping of which everything was taken.
    fn is_emptied(&self) -> bool {
        matches!(&self.value, Value::Map(entries) if entries.is_empty())
    }

    /// Adds an entry below sections that are made if they aren't there.
    fn insert(&mut self, sections: &[&str], key: Self, value: Self) {
        let Value::Map(entries) = &mut self.value else {
            return;
        };
        let Some((section, rest)) = sections.split_first() else {
            entries.push((key, value));
            return;
        };
        if !entries
            .iter()
            .any(|(name, _)| name.text() == Some(*section))
        {
            let made = Self::of(key.id, Value::Map(Vec::new()));
            entries.push((Self::text_of(key.id, section), made));
        }
        if let Some(section) = self.entry(section) {
            section.insert(rest, key, value);
        }
    }
}
