//! The sections that hold rules, each read into its part of a policy.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::advice;
use super::agents::{ToolEntries, ToolRules};
use super::api::{ApiMatch, ApiRules, ApiService, endpoint_covers, family_of};
use super::document::Value;
use super::domain::DomainPattern;
use super::error::shown;
use super::filesystem::{FilesystemRules, PathPattern, extension_entry};
use super::names::{Named, warn_of_spelling};
use super::pattern::NamePattern;
use super::reader::{Field, Reader, Spot};
use super::rules::{Limit, LimitScope, LimitUnit, NameMatch, NameRules, Names, NetworkRules};
use super::schema;
use crate::services::{self, Services};
use crate::wire::{endpoint::families, tool};

/// `models`.
pub(super) fn models(reader: &mut Reader, field: &Field<'_>) -> NameRules {
    let mut lists = Lists::default();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "allowed_models" => lists.allowed = Some(names(reader, &entry, model_name)),
            "blocked_models" => lists.blocked = names(reader, &entry, model_name),
            "allowed_providers" => reader.ask(&entry),
            _ => reader.unknown(&entry, schema::MODELS),
        }
    }
    lists.warn(reader, field, "model", &Covers::of(NamePattern::covers));
    let rules = lists.into_rules();
    if !rules.is_restricted() {
        let message =
            "restricts nothing: every model is allowed; write `allowed_models` or `blocked_models`";
        reader.warn(field, message);
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
    lists.warn(
        reader,
        field,
        "tool",
        &Covers::of(NamePattern::covers_tools),
    );
    lists.warn_of_other_names(reader);
    lists.warn_of_rewriting(reader);
    let entries = ToolEntries {
        allowed: lists.allowed.clone().unwrap_or_default(),
        blocked: lists.blocked.clone(),
    };
    let rules = lists.into_rules();
    if !rules.is_restricted() {
        let message =
            "restricts nothing: every tool is allowed; write `allowed_tools` or `blocked_tools`";
        reader.warn(field, message);
    }
    (rules, entries)
}

fn model_name<'a>(reader: &mut Reader, field: &Field<'a>) -> Option<&'a str> {
    let name = reader.entry(field)?;
    warn_of_spelling(reader, field, name, Named::Model);
    Some(name)
}

/// A tool's name, alone or in a mapping.
fn tool_name<'a>(reader: &mut Reader, field: &Field<'a>) -> Option<&'a str> {
    let name = tool_entry(reader, field)?;
    warn_of_spelling(reader, field, name, Named::Tool);
    Some(name)
}

fn tool_entry<'a>(reader: &mut Reader, field: &Field<'a>) -> Option<&'a str> {
    let Value::Map(entries) = &field.node.value else {
        return reader.entry(field);
    };
    // A name such as `files: read` is a mapping unless it stands in quotes.
    if let [(key, value)] = &**entries
        && let Some(key) = key.text()
        && !matches!(value.value, Value::List(_) | Value::Map(_))
        && schema::nearest(key, schema::TOOL).is_none()
        && !schema::is_request(key)
        && !key.starts_with("x-")
    {
        let message = format!("must be text, not {}", field.node.described());
        let help = advice::alone(&field.place, key, &value.value);
        reader.problem(field, message, &help);
        return None;
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
    /// Whether there is any rule.
    pub(super) fn restrict(&self) -> bool {
        let network = self.network.as_ref().is_some_and(|rules| {
            let lists = rules.allowed.is_some() || !rules.blocked.is_empty();
            !rules.enabled || rules.require_tls || lists
        });
        let files = self.filesystem.as_ref().is_some_and(|rules| {
            let lists = rules.allowed.is_some() || !rules.blocked.is_empty();
            !rules.enabled || lists || rules.extensions.is_some()
        });
        network || files || self.api.as_ref().is_some_and(ApiRules::is_restricted)
    }

    pub(super) fn is_some(&self) -> bool {
        self.network.is_some() || self.filesystem.is_some() || self.api.is_some()
    }
}

/// `permissions`.
pub(super) fn permissions(reader: &mut Reader, field: &Field<'_>) -> Permissions {
    let mut rules = Permissions::default();
    let mut hosts = Vec::new();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "network" => rules.network = Some(network(reader, &entry, &mut hosts)),
            "filesystem" => rules.filesystem = Some(filesystem(reader, &entry)),
            "api" => rules.api = Some(api(reader, &entry)),
            _ => reader.unknown(&entry, schema::PERMISSIONS),
        }
    }
    if let Some(api) = rules.api.as_ref().filter(|api| api.is_restricted()) {
        warn_of_refused_hosts(reader, api, &hosts);
    }
    rules
}

/// Remarks on hosts that are allowed, and whose service is not. What is no known service may be named to the layer.
fn warn_of_refused_hosts(reader: &mut Reader, api: &ApiRules, hosts: &[(Spot, DomainPattern)]) {
    let known = Services::default();
    let hosts = hosts.iter().take(MAX_HOSTS);
    for (spot, host) in hosts.filter(|(_, host)| !host.as_str().contains('*')) {
        let Some(service) = known.of(host.as_str()) else {
            continue;
        };
        let why = match api.check(service) {
            ApiMatch::Disabled => "`permissions.api` is off".to_owned(),
            ApiMatch::NotListed => format!("its service `{service}` is not in `allowed_services`"),
            _ => continue,
        };
        let message = format!("`{host}` is allowed, but {why}: it is refused");
        reader.warn_at(spot, message);
    }
}

/// Also gives the allow list with its places.
fn network(
    reader: &mut Reader,
    field: &Field<'_>,
    hosts: &mut Vec<(Spot, DomainPattern)>,
) -> NetworkRules {
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
        let message = "restricts nothing: every host is allowed; write `allowed_domains`, `blocked_domains` or `require_tls: true`";
        reader.warn(field, message);
    }
    lists.warn(reader, field, "host", &Covers::of(DomainPattern::covers));
    *hosts = lists.allowed.clone().unwrap_or_default();
    NetworkRules {
        enabled,
        require_tls,
        allowed: lists.allowed.map(without_spot),
        blocked: without_spot(lists.blocked),
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
        reader.warn(field, "an empty list of extensions allows no file");
    }
    let open = enabled && extensions.is_none();
    if open && lists.allowed.is_none() && lists.blocked.is_empty() {
        let message = "restricts nothing: every file is allowed; write `allowed_paths`, `blocked_paths` or `allowed_extensions`";
        reader.warn(field, message);
    }
    let covers = Covers {
        allowed: PathPattern::allows_all_of,
        blocked: PathPattern::blocks_all_of,
    };
    lists.warn(reader, field, "path", &covers);
    // The end of a name is compared, so that `.gz` allows what `.tar.gz` does.
    warn_of_shadows(
        reader,
        extensions.as_deref().unwrap_or_default(),
        |by, entry| entry.ends_with(&**by),
    );
    reader.not_enforced(field, NOT_HERE);
    FilesystemRules {
        enabled,
        allowed: lists.allowed.map(without_spot),
        blocked: without_spot(lists.blocked),
        extensions: extensions.map(without_spot),
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
                let services: Vec<_> = services.collect();
                warn_of_services(reader, &services);
                allowed = Some(without_spot(services));
            }
            _ => reader.unknown(&entry, schema::API),
        }
    }
    match &allowed {
        None if enabled => reader.warn(
            field,
            "restricts nothing: every service is allowed; write `allowed_services`",
        ),
        Some(services) if services.is_empty() => {
            reader.warn(field, "an empty allow list allows no service");
        }
        _ => {}
    }
    ApiRules { enabled, allowed }
}

/// Remarks on services that another entry allows already. Several entries for one service add up, so that one without
/// `endpoints` makes those of the others worthless.
fn warn_of_services(reader: &mut Reader, services: &[(Spot, ApiService)]) {
    let endpoints = services
        .iter()
        .filter_map(|(_, entry)| entry.endpoints.as_ref());
    let names = endpoints.map(Vec::len).sum::<usize>() + services.len();
    if names.saturating_mul(names) > MAX_COMPARED {
        return;
    }
    for_each_shadowed(services, ApiService::covers, |spot, entry, by| {
        let every = by.endpoints.is_none() && entry.endpoints.is_some();
        let message = match (by.name == entry.name, every) {
            (true, false) => format!("`{entry}` is listed twice"),
            (true, true) => {
                format!("the `endpoints` of `{entry}` restrict nothing: it is also listed without")
            }
            (false, false) => format!("`{entry}` adds nothing: `{by}` allows it too"),
            (false, true) => {
                format!(
                    "the `endpoints` of `{entry}` restrict nothing: `{by}` allows every endpoint"
                )
            }
        };
        reader.warn_at(spot, message);
    });
}

/// An entry of `endpoints`.
fn endpoint<'a>(reader: &mut Reader, field: &Field<'a>) -> Option<&'a str> {
    let text = reader.entry(field)?;
    if let Some(why) = no_endpoint(text) {
        reader.warn(field, format!("`{}` {why}", shown(text)));
        return Some(text);
    }
    let family = family_of(&NamePattern::new(text));
    reader.warn_of_typo(field, &family, families(), "endpoint");
    Some(text)
}

/// Why an entry of `endpoints` is the path of none.
fn no_endpoint(text: &str) -> Option<&'static str> {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let first = text.split_whitespace().next().unwrap_or_default();
    if METHODS.contains(&first) {
        Some("begins with a method: write the path alone, as in `chat/completions`")
    } else if text.contains("://") {
        Some("is a URL: write the path alone, as in `chat/completions`")
    } else if text.contains([',', ';']) || text.contains(char::is_whitespace) {
        Some("holds a comma, a semicolon or white space: write each path as an entry of its own")
    } else if matches!(text.trim_matches('/'), "v1" | "") {
        Some("names no endpoint: write what comes after `/v1/`, as in `chat/completions`")
    } else {
        None
    }
}

/// Remarks on a service that is named as its host is.
fn warn_of_host(reader: &mut Reader, field: &Field<'_>, name: &str) {
    let host = name.split_once("://").map_or(name, |(_, host)| host);
    let host = host.split('/').next().unwrap_or_default();
    if name.contains('*') {
        return;
    }
    if let Some(service) = Services::default().of(host) {
        let message = format!(
            "`{}` is no service's name: write `{service}`, which this host is of",
            shown(name)
        );
        reader.warn(field, message);
    } else if name.contains(['.', '/']) {
        let message = format!(
            "`{}` is no service's name: write one, and say by `--service-host` which hosts it has",
            shown(name)
        );
        reader.warn(field, message);
    }
}

fn api_service(reader: &mut Reader, field: &Field<'_>) -> Option<(Spot, ApiService)> {
    let (mut name, mut endpoints) = (None, None);
    for entry in reader.mapping(field)? {
        match entry.key {
            "service_name" => {
                name = Some(reader.entry(&entry).map(NamePattern::new));
                if let Some(Some(name)) = &name {
                    warn_of_variables(reader, &entry.spot(), name);
                    warn_of_host(reader, &entry, name.as_str());
                    reader.warn_of_typo(&entry, name.as_str(), services::names(), "service");
                }
            }
            "endpoints" => {
                let list = names(reader, &entry, endpoint);
                warn_of_shadows(reader, &list, endpoint_covers);
                endpoints = Some(without_spot(list));
                if endpoints.as_ref().is_some_and(Vec::is_empty) {
                    reader.warn(&entry, "an empty list of endpoints allows none");
                }
            }
            _ => reader.unknown(&entry, schema::SERVICE),
        }
    }
    if name.is_none() {
        reader.problem(field, "has no `service_name`", "write the service's name");
    }
    let name = name.flatten()?;
    Some((field.spot(), ApiService { name, endpoints }))
}

/// `rate_limits`.
pub(super) fn rate_limits(reader: &mut Reader, field: &Field<'_>) -> Vec<(Spot, Limit)> {
    let mut limits = Vec::new();
    for entry in reader.mapping(field).unwrap_or_default() {
        match entry.key {
            "per_agent" => limits_of(reader, &entry, &LimitScope::PerAgent, &mut limits),
            "global" => limits_of(reader, &entry, &LimitScope::Global, &mut limits),
            "per_model" => {
                for model in reader.mapping(&entry).unwrap_or_default() {
                    if reader.spelling(&model, model.key_id, model.key) {
                        warn_of_spelling(reader, &model, model.key, Named::Model);
                        let scope = LimitScope::PerModel(NamePattern::new(model.key));
                        limits_of(reader, &model, &scope, &mut limits);
                    }
                }
            }
            _ => reader.unknown(&entry, schema::RATE_LIMITS),
        }
    }
    if limits.is_empty() {
        let message = "sets no limit: write one under `per_agent`, `per_model` or `global`, as in `requests_per_minute: 10`";
        reader.warn(field, message);
    }
    if limits.len().saturating_mul(limits.len()) <= MAX_COMPARED {
        for (spot, limit) in &limits {
            let others = || limits.iter().map(|(_, other)| other);
            if let Some(other) = others().find(|other| never_reached(limit, other)) {
                reader.warn_at(spot, never_refuses(limit, other));
            } else if let Some(other) = others().find(|other| never_filled(limit, other)) {
                reader.warn_at(spot, never_refuses(limit, other));
            }
        }
    }
    limits
}

/// Remarks on limits of models that may not be used anyway.
pub(super) fn warn_of_unused_limits(
    reader: &mut Reader,
    models: &NameRules,
    limits: &[(Spot, Limit)],
) {
    for (spot, limit) in limits {
        if let LimitScope::PerModel(model) = &limit.scope
            && !model.is_wildcard()
            && models.check(model.as_str()) != NameMatch::Allowed
        {
            let message = format!("never refuses anything: `{model}` may not be used anyway");
            reader.warn_at(spot, message);
        }
    }
}

fn limits_of(
    reader: &mut Reader,
    field: &Field<'_>,
    scope: &LimitScope,
    limits: &mut Vec<(Spot, Limit)>,
) {
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
            reader.warn(&entry, "0 allows nothing");
        }
        let limit = Limit {
            scope: scope.clone(),
            unit: *unit,
            window: Duration::from_secs(*seconds),
            max,
        };
        limits.push((entry.spot(), limit));
    }
}

/// Whether what another limit lets through in this one's window is no more than this one allows: it counts at least
/// the same calls, in a window that is no longer.
fn never_reached(limit: &Limit, other: &Limit) -> bool {
    let sooner = match limit.window.cmp(&other.window) {
        Ordering::Greater => counts_the_same(other, limit),
        Ordering::Equal => limit.scope != other.scope && counts_the_same(other, limit),
        Ordering::Less => false,
    };
    let times = limit.window.as_secs().checked_div(other.window.as_secs());
    let most = times.map(|times| times.saturating_mul(other.max));
    limit.unit == other.unit && sooner && most.is_some_and(|most| most <= limit.max)
}

/// Whether whatever a limit counts, another one counts too.
fn counts_the_same(other: &Limit, limit: &Limit) -> bool {
    match (&other.scope, &limit.scope) {
        (LimitScope::Global, LimitScope::PerAgent | LimitScope::PerModel(_)) => true,
        (LimitScope::PerModel(other), LimitScope::PerModel(model)) => other.covers(model),
        (other, limit) => other == limit,
    }
}

/// Whether another limit of a longer window, which counts at least the same calls, is used up no later than this one:
/// so many calls are never within this one's window.
fn never_filled(limit: &Limit, other: &Limit) -> bool {
    limit.unit == other.unit
        && limit.window < other.window
        && counts_the_same(other, limit)
        && other.max <= limit.max
        && other.max > 0
}

fn never_refuses(limit: &Limit, other: &Limit) -> String {
    let whose = match &other.scope {
        scope if *scope == limit.scope => String::new(),
        LimitScope::PerModel(model) => format!(" for `{model}`"),
        LimitScope::PerAgent | LimitScope::Global => " in all".to_owned(),
    };
    let allow = if other.max == 1 { "allows" } else { "allow" };
    match limit.unit {
        LimitUnit::Requests => format!("never refuses anything: {other}{whose} {allow} no more"),
        // What a call cost is known when it is over, and may be more than was left.
        LimitUnit::Tokens => format!(
            "refuses nothing, unless calls cost more than was reserved for them: {other}{whose} {allow} no more"
        ),
    }
}

/// An allow and a deny list, each entry with its place.
struct Lists<P> {
    allowed: Option<Vec<(Spot, P)>>,
    blocked: Vec<(Spot, P)>,
}

/// Whether the first of two entries matches whatever the second, an allow entry or a deny entry, matches.
struct Covers<P> {
    allowed: fn(&P, &P) -> bool,
    blocked: fn(&P, &P) -> bool,
}

impl<P> Covers<P> {
    fn of(both: fn(&P, &P) -> bool) -> Self {
        Self {
            allowed: both,
            blocked: both,
        }
    }
}

impl<P> Default for Lists<P> {
    fn default() -> Self {
        Self {
            allowed: None,
            blocked: Vec::new(),
        }
    }
}

impl<P: Display> Lists<P> {
    /// Remarks on what is enforced as written, but was hardly meant.
    fn warn(&self, reader: &mut Reader, field: &Field<'_>, noun: &str, covers: &Covers<P>) {
        if self.allowed.as_ref().is_some_and(Vec::is_empty) {
            reader.warn(field, format!("an empty allow list allows no {noun}"));
        }
        let allowed = self.allowed.as_deref().unwrap_or_default();
        for (spot, entry) in allowed.iter().chain(&self.blocked) {
            warn_of_variables(reader, spot, entry);
        }
        warn_of_shadows(reader, allowed, covers.allowed);
        warn_of_shadows(reader, &self.blocked, covers.blocked);
        if takes_long(allowed, &self.blocked) {
            return;
        }
        for (spot, entry) in allowed {
            let mut blocked = self.blocked.iter();
            if let Some((_, by)) = blocked.find(|(_, by)| (covers.blocked)(by, entry)) {
                let message = if by.to_string() == entry.to_string() {
                    format!("`{entry}` is both allowed and blocked: it is blocked")
                } else {
                    format!("`{entry}` is allowed, but `{by}` is blocked: it is blocked")
                };
                reader.warn_at(spot, message);
            }
        }
    }
}

/// Remarks on entries of one list that another one makes superfluous.
fn warn_of_shadows<P: Display>(
    reader: &mut Reader,
    list: &[(Spot, P)],
    covers: impl Fn(&P, &P) -> bool,
) {
    for_each_shadowed(list, covers, |spot, entry, by| {
        let message = if by.to_string() == entry.to_string() {
            format!("`{entry}` is listed twice")
        } else {
            format!("`{entry}` adds nothing: `{by}` matches it too")
        };
        reader.warn_at(spot, message);
    });
}

/// Whether a file has longer lists than a person writes, so that comparing each with each would take noticeable time.
fn takes_long<P: Display>(list: &[(Spot, P)], with: &[(Spot, P)]) -> bool {
    let bytes: usize = list.iter().map(|(_, entry)| entry.to_string().len()).sum();
    list.len().saturating_mul(with.len()) > MAX_COMPARED
        || bytes.saturating_mul(with.len()) > MAX_COMPARED_BYTES
}

/// Of entries that match the same, all but the first are shadowed.
fn for_each_shadowed<P: Display>(
    list: &[(Spot, P)],
    covers: impl Fn(&P, &P) -> bool,
    mut tell: impl FnMut(&Spot, &P, &P),
) {
    if takes_long(list, list) {
        return;
    }
    for (index, (spot, entry)) in list.iter().enumerate() {
        let by = list.iter().enumerate().find(|(other, (_, by))| {
            *other != index && covers(by, entry) && (*other < index || !covers(entry, by))
        });
        if let Some((_, (_, by))) = by {
            tell(spot, entry, by);
        }
    }
}

fn warn_of_variables(reader: &mut Reader, spot: &Spot, entry: &impl Display) {
    let entry = entry.to_string();
    if entry.contains("${") {
        let message = format!("`{entry}` is compared as it is: variables are not expanded here");
        reader.warn_at(spot, message);
    }
}

impl Lists<NamePattern> {
    /// Remarks on tools that are allowed, and blocked by another of their names.
    fn warn_of_other_names(&self, reader: &mut Reader) {
        let allowed = self.allowed.as_deref().unwrap_or_default();
        if takes_long(allowed, &self.blocked) {
            return;
        }
        for (spot, entry) in allowed.iter().filter(|(_, entry)| !entry.is_wildcard()) {
            let name = entry.as_str();
            if self.blocked.iter().any(|(_, by)| by.covers_tools(entry)) {
                // That is told already.
                continue;
            }
            let family = tool::hosted_family(name);
            let server = name.strip_prefix("mcp:").map(|rest| {
                let label = rest.split_once('/').map_or(rest, |(label, _)| label);
                format!("mcp:{label}")
            });
            let means_it = |by: &NamePattern| {
                let names = [family, server.as_deref(), server.as_ref().map(|_| "mcp")];
                let own = tool::hosted_family(by.as_str());
                names.iter().flatten().any(|name| by.matches(name))
                    || (own.is_some() && own == family)
            };
            if let Some((_, by)) = self.blocked.iter().find(|(_, by)| means_it(by)) {
                let message = format!(
                    "`{entry}` is allowed, but `{by}`, which means it too, is blocked: it is blocked"
                );
                reader.warn_at(spot, message);
            }
        }
    }

    /// Remarks on names that can't stand on the wire: OpenAI takes letters, digits, `_` and `-` in a function's name, and
    /// some SDKs put `_` for the rest.
    fn warn_of_rewriting(&self, reader: &mut Reader) {
        for list in [self.allowed.as_deref().unwrap_or_default(), &self.blocked] {
            if list.len().saturating_mul(list.len()) > MAX_COMPARED {
                continue;
            }
            for (spot, entry) in list {
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
                    reader.warn_at(spot, format!("`{entry}` is sent as `{sent}` by some SDKs, which is another name: list both"));
                }
            }
        }
    }

    fn into_rules(self) -> NameRules {
        let list = |entries: Vec<(Spot, NamePattern)>| {
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

fn names(reader: &mut Reader, field: &Field<'_>, read: ReadName) -> Vec<(Spot, NamePattern)> {
    let mut names = Vec::new();
    for entry in reader.list(field).unwrap_or_default() {
        if let Some(name) = read(reader, &entry) {
            // What is indented further than the entry before goes on with that.
            if name.contains(" - ") {
                let message = format!(
                    "`{}` is one entry: begin each in the same column",
                    shown(name)
                );
                reader.warn(&entry, message);
            }
            names.push((entry.spot(), NamePattern::new(name)));
        }
    }
    names
}

/// A list of entries in a notation of their own.
fn read<P>(
    reader: &mut Reader,
    field: &Field<'_>,
    new: impl Fn(&str) -> Result<P, (&'static str, &'static str)>,
) -> Vec<(Spot, P)> {
    let mut entries = Vec::new();
    for entry in reader.list(field).unwrap_or_default() {
        let Some(text) = reader.entry(&entry) else {
            continue;
        };
        match new(text) {
            Ok(read) => entries.push((entry.spot(), read)),
            Err((message, help)) => {
                let message = format!("`{}` {message}", shown(text));
                reader.problem(&entry, message, help);
            }
        }
    }
    entries
}

pub(super) fn without_spot<P>(list: Vec<(Spot, P)>) -> Vec<P> {
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

/// The same, of the bytes that are gone through.
const MAX_COMPARED_BYTES: usize = 3_000_000;

/// The most hosts that are looked up among those of services.
const MAX_HOSTS: usize = 1_000;
