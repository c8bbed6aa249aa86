//! The sections that hold rules, each read into its part of a policy.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::agents::ToolRules;
use super::api::{ApiRules, ApiService};
use super::document::Value;
use super::domain::DomainPattern;
use super::error::shown;
use super::filesystem::{FilesystemRules, PathPattern, extension_entry};
use super::pattern::NamePattern;
use super::reader::{Field, Reader};
use super::rules::{Limit, LimitScope, LimitUnit, NameRules, Names, NetworkRules};
use super::schema;

/// `models`.
pub(super) fn models(reader: &mut Reader, field: &Field<'_>) -> NameRules {
    let mut lists = Lists::default();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "allowed_models" => lists.allowed = Some(names(reader, &entry, Reader::entry)),
            "blocked_models" => lists.blocked = names(reader, &entry, Reader::entry),
            "allowed_providers" => reader.ask(&entry),
            _ => reader.unknown(&entry, schema::MODELS),
        }
    }
    lists.warn(reader, field, "model", NamePattern::covers);
    let rules = lists.into_rules();
    if !rules.is_restricted() {
        reader.warn(&field.path, "restricts nothing");
    }
    rules
}

/// `toolsets`: the rules, and every entry with its path.
pub(super) fn toolsets(reader: &mut Reader, field: &Field<'_>) -> ToolRules {
    let mut lists = Lists::default();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "allowed_tools" => lists.allowed = Some(names(reader, &entry, tool_name)),
            "blocked_tools" => lists.blocked = names(reader, &entry, tool_name),
            key if schema::is_request(key) => reader.ask(&entry),
            _ => reader.unknown(&entry, schema::TOOLSETS),
        }
    }
    lists.warn(reader, field, "tool", NamePattern::covers);
    lists.warn_of_rewriting(reader);
    let allowed = lists.allowed.iter().flatten();
    let entries = allowed.chain(&lists.blocked).cloned().collect();
    let rules = lists.into_rules();
    if !rules.is_restricted() {
        reader.warn(&field.path, "restricts nothing");
    }
    (rules, entries)
}

/// A tool's name, alone or in a mapping.
fn tool_name<'a>(reader: &mut Reader, field: &Field<'a>) -> Option<&'a str> {
    if !matches!(field.node.value, Value::Map(_)) {
        return reader.entry(field);
    }
    let mut name = None;
    for entry in reader.mapping(field)? {
        match entry.key {
            "name" => name = Some(reader.entry(&entry)),
            "description" => {
                reader.text(&entry);
            }
            key if schema::is_request(key) => reader.ask(&entry),
            _ => reader.unknown(&entry, schema::TOOL),
        }
    }
    if name.is_none() {
        reader.problem(
            field,
            "has no `name`",
            "write the tool's name, as in `- name: web_search`",
        );
    }
    name.flatten()
}

/// What `permissions` holds.
#[derive(Debug, Default)]
pub(super) struct Permissions {
    pub(super) network: Option<NetworkRules>,
    pub(super) filesystem: Option<FilesystemRules>,
    pub(super) api: Option<ApiRules>,
}

impl Permissions {
    pub(super) fn is_some(&self) -> bool {
        self.network.is_some() || self.filesystem.is_some() || self.api.is_some()
    }
}

/// `permissions`.
pub(super) fn permissions(reader: &mut Reader, field: &Field<'_>) -> Permissions {
    let mut rules = Permissions::default();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "network" => rules.network = Some(network(reader, &entry)),
            "filesystem" => rules.filesystem = Some(filesystem(reader, &entry)),
            "api" => rules.api = Some(api(reader, &entry)),
            _ => reader.unknown(&entry, schema::PERMISSIONS),
        }
    }
    rules
}

fn network(reader: &mut Reader, field: &Field<'_>) -> NetworkRules {
    let mut lists = Lists::default();
    let (mut enabled, mut require_tls) = (true, false);
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            // A value that isn't one is a problem already.
            "enabled" => enabled = reader.bool(&entry).unwrap_or_default(),
            "require_tls" => require_tls = reader.bool(&entry).unwrap_or_default(),
            "allowed_domains" => lists.allowed = Some(read(reader, &entry, DomainPattern::new)),
            "blocked_domains" => lists.blocked = read(reader, &entry, DomainPattern::new),
            _ => reader.unknown(&entry, schema::NETWORK),
        }
    }
    if enabled && !require_tls && lists.allowed.is_none() && lists.blocked.is_empty() {
        reader.warn(&field.path, "restricts nothing");
    }
    lists.warn(reader, field, "host", DomainPattern::covers);
    NetworkRules {
        enabled,
        require_tls,
        allowed: lists.allowed.map(without_path),
        blocked: without_path(lists.blocked),
    }
}

fn filesystem(reader: &mut Reader, field: &Field<'_>) -> FilesystemRules {
    let mut lists = Lists::default();
    let (mut enabled, mut extensions) = (true, None);
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "enabled" => enabled = reader.bool(&entry).unwrap_or_default(),
            "allowed_paths" => lists.allowed = Some(read(reader, &entry, PathPattern::new)),
            "blocked_paths" => lists.blocked = read(reader, &entry, PathPattern::new),
            "allowed_extensions" => extensions = Some(read(reader, &entry, extension_entry)),
            _ => reader.unknown(&entry, schema::FILESYSTEM),
        }
    }
    if extensions.as_ref().is_some_and(Vec::is_empty) {
        reader.warn(&field.path, "an empty list of extensions allows no file");
    }
    let open = enabled && extensions.is_none();
    if open && lists.allowed.is_none() && lists.blocked.is_empty() {
        reader.warn(&field.path, "restricts nothing");
    }
    lists.warn(reader, field, "path", PathPattern::covers);
    reader.not_enforced(&field.path, NOT_HERE);
    FilesystemRules {
        enabled,
        allowed: lists.allowed.map(without_path),
        blocked: without_path(lists.blocked),
        extensions: extensions.map(without_path),
    }
}

fn api(reader: &mut Reader, field: &Field<'_>) -> ApiRules {
    let (mut enabled, mut allowed) = (true, None);
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "enabled" => enabled = reader.bool(&entry).unwrap_or_default(),
            "allowed_services" => {
                let services = reader.list(&entry).unwrap_or_default();
                let services = services.iter().filter_map(|item| api_service(reader, item));
                allowed = Some(services.collect::<Vec<_>>());
            }
            _ => reader.unknown(&entry, schema::API),
        }
    }
    match &allowed {
        None if enabled => reader.warn(&field.path, "restricts nothing"),
        Some(services) if services.is_empty() => {
            reader.warn(&field.path, "an empty allow list allows no service");
        }
        _ => {}
    }
    ApiRules { enabled, allowed }
}

fn api_service(reader: &mut Reader, field: &Field<'_>) -> Option<ApiService> {
    let (mut name, mut endpoints) = (None, None);
    for entry in reader.mapping(field)? {
        match entry.key {
            "service_name" => name = Some(reader.entry(&entry).map(NamePattern::new)),
            "endpoints" => {
                endpoints = Some(without_path(names(reader, &entry, Reader::entry)));
                if endpoints.as_ref().is_some_and(Vec::is_empty) {
                    reader.warn(&entry.path, "an empty list of endpoints allows none");
                }
            }
            _ => reader.unknown(&entry, schema::SERVICE),
        }
    }
    if name.is_none() {
        reader.problem(field, "has no `service_name`", "write the service's name");
    }
    let name = name.flatten()?;
    Some(ApiService { name, endpoints })
}

/// `rate_limits`.
pub(super) fn rate_limits(reader: &mut Reader, field: &Field<'_>) -> Vec<Limit> {
    let mut limits = Vec::new();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "per_agent" => limits_of(reader, &entry, &LimitScope::PerAgent, &mut limits),
            "global" => limits_of(reader, &entry, &LimitScope::Global, &mut limits),
            "per_model" => {
                for model in reader.mapping(&entry).unwrap_or_default() {
                    if reader.spelling(&model, model.key_id, model.key) {
                        let scope = LimitScope::PerModel(NamePattern::new(model.key));
                        limits_of(reader, &model, &scope, &mut limits);
                    }
                }
            }
            _ => reader.unknown(&entry, schema::RATE_LIMITS),
        }
    }
    if limits.is_empty() {
        reader.warn(&field.path, "sets no limit");
    }
    limits
}

fn limits_of(reader: &mut Reader, field: &Field<'_>, scope: &LimitScope, limits: &mut Vec<Limit>) {
    let mut own: Vec<(String, Limit)> = Vec::new();
    for entry in reader.mapping(field).unwrap_or_default() {
        let Some((_, unit, seconds)) = LIMITS.iter().find(|(key, ..)| *key == entry.key) else {
            let known: Vec<_> = LIMITS.iter().map(|(key, ..)| *key).collect();
            reader.unknown(&entry, &known);
            continue;
        };
        let Some(max) = reader.count(&entry) else {
            continue;
        };
        if max == 0 {
            reader.warn(&entry.path, "0 allows nothing");
        }
        let limit = Limit {
            scope: scope.clone(),
            unit: *unit,
            window: Duration::from_secs(*seconds),
            max,
        };
        own.push((entry.path.clone(), limit));
    }
    for (path, limit) in &own {
        let others = own.iter().map(|(_, other)| other);
        if let Some(shorter) = others.clone().find(|shorter| never_reached(limit, shorter)) {
            reader.warn(
                path,
                format!("never refuses anything: {shorter} allow no more"),
            );
        }
    }
    limits.extend(own.into_iter().map(|(_, limit)| limit));
}

/// Whether what a limit of a shorter window lets through in the longer one's is no more than that allows.
fn never_reached(limit: &Limit, shorter: &Limit) -> bool {
    let times = limit.window.as_secs().checked_div(shorter.window.as_secs());
    let most = times.map(|times| times.saturating_mul(shorter.max));
    limit.unit == shorter.unit
        && limit.window > shorter.window
        && most.is_some_and(|most| most <= limit.max)
}

/// An allow and a deny list, each entry with its path.
struct Lists<P> {
    allowed: Option<Vec<(String, P)>>,
    blocked: Vec<(String, P)>,
}

impl<P> Default for Lists<P> {
    fn default() -> Self {
        Self {
            allowed: None,
            blocked: Vec::new(),
        }
    }
}

impl<P: std::fmt::Display> Lists<P> {
    /// Remarks on what is enforced as written, but was hardly meant.
    fn warn(&self, reader: &mut Reader, field: &Field<'_>, noun: &str, covers: fn(&P, &P) -> bool) {
        if self.allowed.as_ref().is_some_and(Vec::is_empty) {
            reader.warn(&field.path, format!("an empty allow list allows no {noun}"));
        }
        let allowed = self.allowed.as_deref().unwrap_or_default();
        for list in [allowed, &self.blocked] {
            let mut seen = HashSet::new();
            for (path, entry) in list {
                if !seen.insert(entry.to_string()) {
                    reader.warn(path, format!("`{entry}` is listed twice"));
                }
                if entry.to_string().contains("${") {
                    reader.warn(
                        path,
                        format!("`{entry}` is compared as it is: variables are not expanded here"),
                    );
                }
            }
        }
        if allowed.len().saturating_mul(self.blocked.len()) > MAX_COMPARED {
            return;
        }
        for (path, entry) in allowed {
            if let Some((_, by)) = self.blocked.iter().find(|(_, by)| covers(by, entry)) {
                let message = if by.to_string() == entry.to_string() {
                    format!("`{entry}` is both allowed and blocked: it is blocked")
                } else {
                    format!("`{entry}` is allowed, but `{by}` is blocked: it is blocked")
                };
                reader.warn(path, message);
            }
        }
    }
}

impl Lists<NamePattern> {
    /// Remarks on names that can't stand on the wire: OpenAI takes letters, digits, `_` and `-` in a function's name, and
    /// some SDKs put `_` for the rest.
    fn warn_of_rewriting(&self, reader: &mut Reader) {
        for list in [self.allowed.as_deref().unwrap_or_default(), &self.blocked] {
            if list.len().saturating_mul(list.len()) > MAX_COMPARED {
                continue;
            }
            for (path, entry) in list {
                let name = entry.as_str();
                // An entry such as `files:*` means a category, and a server's tools are never functions.
                if !name.contains(':') || entry.is_wildcard() || name.starts_with("mcp:") {
                    continue;
                }
                let sent = name.replace(
                    |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-',
                    "_",
                );
                if !list.iter().any(|(_, other)| other.matches(&sent)) {
                    reader.warn(path, format!("`{entry}` is sent as `{sent}` by some SDKs, which is another name: list both"));
                }
            }
        }
    }

    fn into_rules(self) -> NameRules {
        let list = |entries: Vec<(String, NamePattern)>| {
            Names::new(entries.into_iter().map(|(_, pattern)| pattern).collect())
        };
        NameRules {
            allowed: self.allowed.map(list),
            blocked: list(self.blocked),
            categories: BTreeMap::new(),
        }
    }
}

type ReadName = for<'a> fn(&mut Reader, &Field<'a>) -> Option<&'a str>;

fn names(reader: &mut Reader, field: &Field<'_>, read: ReadName) -> Vec<(String, NamePattern)> {
    let mut names = Vec::new();
    for entry in reader.list(field).unwrap_or_default() {
        if let Some(name) = read(reader, &entry) {
            names.push((entry.path, NamePattern::new(name)));
        }
    }
    names
}

/// A list of entries in a notation of their own.
fn read<P>(
    reader: &mut Reader,
    field: &Field<'_>,
    new: impl Fn(&str) -> Result<P, (&'static str, &'static str)>,
) -> Vec<(String, P)> {
    let mut entries = Vec::new();
    for entry in reader.list(field).unwrap_or_default() {
        let Some(text) = reader.entry(&entry) else {
            continue;
        };
        match new(text) {
            Ok(read) => entries.push((entry.path, read)),
            Err((message, help)) => {
                let message = format!("`{}` {message}", shown(text));
                reader.problem(&entry, message, help);
            }
        }
    }
    entries
}

fn without_path<P>(list: Vec<(String, P)>) -> Vec<P> {
    list.into_iter().map(|(_, entry)| entry).collect()
}

pub(super) const LIMITS: &[(&str, LimitUnit, u64)] = &[
    ("requests_per_minute", LimitUnit::Requests, 60),
    ("requests_per_hour", LimitUnit::Requests, 3_600),
    ("requests_per_day", LimitUnit::Requests, 86_400),
    ("tokens_per_minute", LimitUnit::Tokens, 60),
    ("tokens_per_hour", LimitUnit::Tokens, 3_600),
    ("tokens_per_day", LimitUnit::Tokens, 86_400),
];

/// Why permissions other than the network are listed as not enforced.
const NOT_HERE: &str = "answers questions only, not enforced at the HTTP layer";

/// The most pairs of entries compared for remarks; a file with longer lists was
/// hardly written by hand.
const MAX_COMPARED: usize = 100_000;
