//! `check`: what a policy enforces, and how it decides, asked without any traffic.

use std::{fmt::Display, process::ExitCode, str::FromStr};

use serde_json::{Value, json};
use tower_sekuire::{
    ApiMatch, ApiRules, Limit, NameMatch, NamePattern, NameRules, NetworkMatch, NetworkRules,
    Notice, Policy, PolicyEnforcer, PolicyError, PolicyViolation, RateLimit, Rule, SekuireLayer,
};

use crate::cli::{CheckArgs, ServiceHost};

/// Answers every question. Exit code 0 when all are allowed, 1 when one is not, 2 when the policy
/// can't be loaded.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let policy = match args.policy.load() {
        Ok(policy) => policy,
        Err(error) => {
            if args.json
                && let Err(error) = crate::print(&format!("{:#}\n", problems(args, &error)))
            {
                return crate::refuse_to_run(&error);
            }
            return crate::refuse_to_run(&format_args!("the policy can't be loaded: {error}"));
        }
    };
    let enforcer = PolicyEnforcer::new(policy);
    let answers = answers(&enforcer, args);
    let report = Report {
        file: args.policy.policy.display().to_string(),
        policy: enforcer.policy(),
        answers: &answers,
        explain: args.explain,
    };
    let text = if args.json {
        format!("{:#}\n", report.json())
    } else {
        report.lines()
    };
    match crate::print(&text) {
        Err(error) => crate::refuse_to_run(&error),
        Ok(()) if answers.iter().all(Answer::is_allowed) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
    }
}

/// For programs: why the policy can't be loaded.
fn problems(args: &CheckArgs, error: &PolicyError) -> Value {
    let problems = error.problems().iter().map(|problem| {
        json!({
            "line": problem.line(),
            "column": problem.column(),
            "path": problem.path(),
            "message": problem.message(),
            "help": problem.help(),
        })
    });
    let file = error.file().unwrap_or(&args.policy.policy);
    json!({
        "policy": args.policy.policy.display().to_string(),
        "file": file.display().to_string(),
        "problems": problems.collect::<Vec<_>>(),
        "more": error.more(),
        "allowed": false,
    })
}

/// A `--domain`: a host, and the protocol to reach it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainQuestion {
    asked: String,
    domain: String,
    protocol: &'static str,
}

impl FromStr for DomainQuestion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, domain) = match text.split_once("://") {
            Some(("http", domain)) => ("http", domain),
            Some(("https", domain)) => ("https", domain),
            Some(_) => return Err("expected a domain, http://DOMAIN or https://DOMAIN"),
            None => ("https", text),
        };
        if domain.is_empty() || domain.contains(['/', '?', '#', '@']) {
            return Err("expected a domain, without user name, path or query");
        }
        Ok(Self {
            asked: text.to_owned(),
            domain: domain.to_owned(),
            protocol,
        })
    }
}

/// One question and the policy's verdict.
struct Answer {
    kind: &'static str,
    subject: String,
    verdict: Result<(), PolicyViolation>,
    /// What of the policy decided; not of limits, which the message names.
    decided_by: Option<String>,
}

impl Answer {
    fn is_allowed(&self) -> bool {
        self.verdict.is_ok()
    }
}

/// Asks in the order models, tools, domains, services, requests. All but the last don't spend the limits.
fn answers(enforcer: &PolicyEnforcer, args: &CheckArgs) -> Vec<Answer> {
    let policy = enforcer.policy();
    let models = args.models.iter().map(|model| Answer {
        kind: "model",
        subject: model.clone(),
        verdict: enforcer.enforce_model(model),
        decided_by: Some(decided_name(policy.models(), "models", model)),
    });
    let tools = args.tools.iter().map(|tool| {
        let verdict = enforcer.enforce_tool(tool);
        Answer {
            kind: "tool",
            subject: tool.clone(),
            decided_by: Some(decided_tool(policy.tools(), tool, &verdict)),
            verdict,
        }
    });
    let mut layer = SekuireLayer::new(policy.clone());
    for ServiceHost { service, host } in &args.service_hosts {
        layer = layer.service_hosts(service, [host]);
    }
    let domains = args.domains.iter().map(|question| {
        let service = layer.service_of(&question.domain);
        let network = enforcer.enforce_network(&question.domain, question.protocol);
        let by_network = network.is_err();
        let verdict = network.and_then(|()| enforcer.enforce_service_of(&question.domain, service));
        let decided_by = if verdict.is_err() && !by_network {
            decided_host(policy.api(), service)
        } else {
            decided_domain(policy.network(), question)
        };
        Answer {
            kind: "domain",
            subject: question.asked.clone(),
            verdict,
            decided_by: Some(decided_by),
        }
    });
    let services = args.services.iter().map(|service| Answer {
        kind: "service",
        subject: service.clone(),
        verdict: enforcer.enforce_api(service),
        decided_by: Some(decided_service(policy.api(), service)),
    });
    let questions = models.chain(tools).chain(domains).chain(services);
    let mut answers: Vec<_> = questions.collect();
    let limits = policy.limits();
    let per_model = limits.iter().any(|limit| limit.scope().model().is_some());
    if per_model && !args.models.is_empty() {
        for model in &args.models {
            // Each as if no other was asked for.
            let fresh = PolicyEnforcer::new(policy.clone());
            answers.extend((1..=args.requests).map(|number| Answer {
                kind: "request",
                subject: format!("Request {number} for {model}"),
                verdict: fresh.enforce_rate_limit_for(model, RateLimit::Request),
                decided_by: None,
            }));
        }
    } else {
        answers.extend((1..=args.requests).map(|number| Answer {
            kind: "request",
            subject: format!("Request {number}"),
            verdict: enforcer.enforce_rate_limit(RateLimit::Request),
            decided_by: None,
        }));
    }
    answers
}

/// The entry of a list that decided, or what decided without one.
fn decided_name(rules: &NameRules, noun: &str, name: &str) -> String {
    match rules.deciding(name) {
        (NameMatch::Blocked, Some(entry)) => format!("`{entry}` in `blocked_{noun}`"),
        (NameMatch::Allowed, Some(entry)) => format!("`{entry}` in `allowed_{noun}`"),
        (NameMatch::Allowed, None) => {
            format!("no `allowed_{noun}`: whatever isn't blocked is allowed")
        }
        _ => format!("`allowed_{noun}`, of which no entry matches"),
    }
}

/// As [`decided_name`], where a tool has further names, such as those of a hosted tool's versions.
fn decided_tool(rules: &NameRules, tool: &str, verdict: &Result<(), PolicyViolation>) -> String {
    let other = |list: &str, entries: &[NamePattern], allows: bool| match deciding_alone(
        list, entries, tool, allows,
    ) {
        Some(entry) => format!("`{entry}` in `{list}`, another name of the same tool"),
        None => format!("an entry of `{list}` for another name of the same tool"),
    };
    let rule = verdict.as_ref().err().map(PolicyViolation::rule);
    match (rules.check(tool), rule) {
        (NameMatch::NotListed, None) => {
            other("allowed_tools", rules.allowed().unwrap_or_default(), true)
        }
        (NameMatch::Allowed | NameMatch::NotListed, Some(Rule::ToolBlocked)) => {
            other("blocked_tools", rules.blocked(), false)
        }
        _ => decided_name(rules, "tools", tool),
    }
}

/// The entry that decides so by itself. Which names are one tool, the enforcer knows.
fn deciding_alone<'e>(
    list: &str,
    entries: &'e [NamePattern],
    tool: &str,
    allows: bool,
) -> Option<&'e NamePattern> {
    entries.iter().find(|entry| {
        let alone = json!({"toolsets": {list: [entry.as_str()]}});
        let policy = Policy::from_json(&alone.to_string());
        policy.is_ok_and(|policy| PolicyEnforcer::new(policy).enforce_tool(tool).is_ok() == allows)
    })
}

fn decided_domain(rules: Option<&NetworkRules>, question: &DomainQuestion) -> String {
    let Some(rules) = rules else {
        return "no `permissions.network`: every host is allowed".to_owned();
    };
    match rules.deciding(&question.domain, question.protocol) {
        (NetworkMatch::Disabled, _) => "`enabled: false`".to_owned(),
        (NetworkMatch::TlsRequired, _) => "`require_tls: true`".to_owned(),
        (NetworkMatch::Blocked, Some(entry)) => format!("`{entry}` in `blocked_domains`"),
        (NetworkMatch::Allowed, Some(entry)) => format!("`{entry}` in `allowed_domains`"),
        (NetworkMatch::Allowed, None) => {
            "no `allowed_domains`: whatever isn't blocked is allowed".to_owned()
        }
        (NetworkMatch::NotListed, _) => "`allowed_domains`, of which no entry matches".to_owned(),
        _ => "how the host is spelled".to_owned(),
    }
}

/// Of a host that the rules on services refuse.
fn decided_host(rules: Option<&ApiRules>, service: Option<&str>) -> String {
    if rules.is_some_and(|rules| !rules.enabled()) {
        return "`enabled: false` in `permissions.api`".to_owned();
    }
    match service {
        Some(service) => {
            format!("`allowed_services`, of which no entry matches the host's service `{service}`")
        }
        None => "`allowed_services`: the host is no known service".to_owned(),
    }
}

fn decided_service(rules: Option<&ApiRules>, service: &str) -> String {
    let Some(rules) = rules else {
        return "no `permissions.api`: every service is allowed".to_owned();
    };
    let mut entries = rules.allowed().unwrap_or_default().iter();
    let entry = entries.find(|entry| entry.name().matches(service));
    match (rules.check(service), entry) {
        (ApiMatch::Disabled, _) => "`enabled: false`".to_owned(),
        (ApiMatch::Allowed, Some(entry)) => format!("`{entry}` in `allowed_services`"),
        (ApiMatch::Allowed, None) => "no `allowed_services`: every service is allowed".to_owned(),
        _ => "`allowed_services`, of which no entry matches".to_owned(),
    }
}

fn service_rules(rules: &ApiRules) -> String {
    if !rules.enabled() {
        return "disabled, every service is refused".to_owned();
    }
    let services = rules.allowed().unwrap_or_default().iter();
    let services = services.map(|service| match service.endpoints() {
        None => format!("`{service}`"),
        Some([]) => format!("`{service}` (no endpoint)"),
        Some(endpoints) => format!("`{service}` ({})", joined(endpoints)),
    });
    let services: Vec<_> = services.collect();
    if services.is_empty() {
        return "none allowed".to_owned();
    }
    format!("allowed {}", services.join(", "))
}

fn limits(limits: &[Limit]) -> Value {
    let each = limits.iter().map(|limit| {
        let (scope, model) = (limit.scope().as_str(), limit.scope().model());
        json!({"limit": limit.to_string(), "scope": scope, "model": model.map(ToString::to_string)})
    });
    each.collect()
}

struct Report<'a> {
    file: String,
    policy: &'a Policy,
    answers: &'a [Answer],
    explain: bool,
}

impl Report<'_> {
    /// For people: what the policy covers, indented, then one line for each question.
    fn lines(&self) -> String {
        let policy = self.policy;
        let mut enforced = Vec::new();
        let mut open = Vec::new();
        for (what, rules) in [("models", policy.models()), ("tools", policy.tools())] {
            if rules.is_restricted() {
                let lists = lists(rules.allowed(), rules.blocked());
                enforced.push(format!("{what}: {}", lists.join("; ")));
            } else {
                open.push(what.to_owned());
            }
        }
        match policy.network().map(network_rules) {
            Some(rules) if !rules.is_empty() => {
                enforced.push(format!("network: {}", rules.join("; ")));
            }
            _ => open.push("network".to_owned()),
        }
        match policy.api().filter(|rules| rules.is_restricted()) {
            Some(rules) => enforced.push(format!("services: {}", service_rules(rules))),
            None => open.push("services".to_owned()),
        }
        if policy.limits().is_empty() {
            open.push("limits".to_owned());
        } else {
            let limits = policy.limits().iter();
            let limits = limits.map(|limit| format!("{limit} ({})", limit.scope()));
            enforced.push(format!("limits: {}", limits.collect::<Vec<_>>().join(", ")));
        }

        let mut text = format!("Policy {}, agent `{}`\n", self.file, policy.agent());
        if let Some(id) = policy.sekuire_id() {
            text.push_str(&format!("Sekuire id {id}\n"));
        }
        if let Some(envelope) = policy.envelope() {
            let signed = match envelope.signing_key_id() {
                Some(key) => format!("Signed by `{key}`"),
                None => "Not signed".to_owned(),
            };
            let (id, version) = (envelope.policy_id(), envelope.version());
            let workspace = envelope.workspace_id();
            text.push_str(&format!(
                "{signed}: policy `{id}`, version {version}, workspace `{workspace}`\n"
            ));
        }
        section(&mut text, "Enforced", &enforced);
        section(&mut text, "Not restricted", &open);
        for (title, notices) in [
            ("Translated", policy.translated()),
            ("Not enforced", policy.unenforced()),
            ("Warnings", policy.warnings()),
        ] {
            section(&mut text, title, &self.placed(notices));
        }
        if !self.answers.is_empty() {
            text.push('\n');
        }
        for answer in self.answers {
            let Answer {
                subject, verdict, ..
            } = answer;
            let line = match verdict {
                Ok(()) => format!("{subject}: ALLOWED\n"),
                Err(violation) => format!(
                    "{subject}: BLOCKED [{}] {}\n",
                    violation.rule().as_str(),
                    violation.message()
                ),
            };
            text.push_str(&line);
            if self.explain
                && let Some(decided_by) = &answer.decided_by
            {
                text.push_str(&format!("  decided by {decided_by}\n"));
            }
        }
        text
    }

    /// Each with its place, as compilers write it.
    fn placed(&self, notices: &[Notice]) -> Vec<String> {
        let placed = notices.iter().map(|notice| notice.in_file(&self.file));
        placed.collect()
    }

    /// For programs: the same facts.
    fn json(&self) -> Value {
        let policy = self.policy;
        let names = |rules: &NameRules| {
            json!({
                "restricted": rules.is_restricted(),
                "allowed": rules.allowed().map(texts),
                "blocked": texts(rules.blocked()),
            })
        };
        let envelope = policy.envelope().map(|envelope| {
            json!({
                "policy_id": envelope.policy_id(),
                "workspace_id": envelope.workspace_id(),
                "version": envelope.version(),
                "signing_key_id": envelope.signing_key_id(),
            })
        });
        let network = policy.network().map(|rules| {
            json!({
                "enabled": rules.enabled(),
                "require_tls": rules.require_tls(),
                "allowed": rules.allowed().map(texts),
                "blocked": texts(rules.blocked()),
            })
        });
        let files = policy.filesystem().map(|rules| {
            json!({
                "enabled": rules.enabled(),
                "allowed": rules.allowed().map(texts),
                "blocked": texts(rules.blocked()),
                "extensions": rules.extensions().map(texts),
            })
        });
        let services = policy.api().map(|rules| {
            json!({
                "enabled": rules.enabled(),
                "allowed": rules.allowed().map(|services| {
                    services.iter().map(|service| json!({
                        "service": service.to_string(),
                        "endpoints": service.endpoints().map(texts),
                    })).collect::<Vec<_>>()
                }),
            })
        });
        let results: Vec<Value> = self
            .answers
            .iter()
            .map(
                |Answer {
                     kind,
                     subject,
                     verdict,
                     decided_by,
                 }| {
                    let violation = verdict.as_ref().err();
                    json!({
                        "kind": kind,
                        "subject": subject,
                        "allowed": violation.is_none(),
                        "rule": violation.map(|violation| violation.rule().as_str()),
                        "message": violation.map(PolicyViolation::message),
                        "decided_by": decided_by,
                    })
                },
            )
            .collect();
        json!({
            "policy": self.file,
            "agent": policy.agent(),
            "sekuire_id": policy.sekuire_id(),
            "envelope": envelope,
            "models": names(policy.models()),
            "tools": names(policy.tools()),
            "network": network,
            "filesystem": files,
            "services": services,
            "limits": limits(policy.limits()),
            "translated": notices(policy.translated()),
            "unenforced": notices(policy.unenforced()),
            "warnings": notices(policy.warnings()),
            "results": results,
            "allowed": self.answers.iter().all(Answer::is_allowed),
        })
    }
}

fn notices(notices: &[Notice]) -> Vec<Value> {
    let each = notices.iter().map(|notice| {
        json!({
            "line": notice.line(),
            "column": notice.column(),
            "path": notice.path(),
            "message": notice.message(),
        })
    });
    each.collect()
}

/// What the network rules refuse; empty when they refuse nothing.
fn network_rules(rules: &NetworkRules) -> Vec<String> {
    if !rules.enabled() {
        return vec!["disabled, every host is refused".to_owned()];
    }
    let mut text = Vec::new();
    if rules.require_tls() {
        text.push("TLS required".to_owned());
    }
    text.extend(lists(rules.allowed(), rules.blocked()));
    text
}

/// No allow list means everything; an empty one means nothing, and has to say so.
fn lists<T: Display>(allowed: Option<&[T]>, blocked: &[T]) -> Vec<String> {
    let mut text = Vec::new();
    match allowed {
        Some([]) => text.push("none allowed".to_owned()),
        Some(allowed) => text.push(format!("allowed {}", joined(allowed))),
        None => {}
    }
    if !blocked.is_empty() {
        text.push(format!("blocked {}", joined(blocked)));
    }
    text
}

fn section<T: Display>(text: &mut String, title: &str, entries: &[T]) {
    if entries.is_empty() {
        return;
    }
    text.push_str(title);
    text.push_str(":\n");
    for entry in entries {
        text.push_str(&format!("  {entry}\n"));
    }
}

fn texts<T: Display>(entries: &[T]) -> Vec<String> {
    entries.iter().map(T::to_string).collect()
}

/// Each in backquotes, so that it can be seen where it ends.
fn joined<T: Display>(entries: &[T]) -> String {
    let entries: Vec<_> = entries.iter().map(|entry| format!("`{entry}`")).collect();
    entries.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_asked_over_https_unless_they_say_http() {
        for (asked, domain, protocol) in [
            ("api.openai.com", "api.openai.com", "https"),
            ("https://api.openai.com", "api.openai.com", "https"),
            ("http://api.openai.com", "api.openai.com", "http"),
        ] {
            let question: DomainQuestion = asked.parse().unwrap();
            assert_eq!((&*question.domain, question.protocol), (domain, protocol));
        }
        for asked in [
            "",
            "ftp://h",
            "https://h/v1",
            "http://user@h",
            "h?x",
            "https://",
        ] {
            assert!(asked.parse::<DomainQuestion>().is_err(), "{asked}");
        }
    }

    #[test]
    fn an_empty_allow_list_is_told_from_a_missing_one() {
        assert_eq!(lists::<&str>(Some(&[]), &[]), ["none allowed"]);
        assert_eq!(lists(None, &["a", "b"]), ["blocked `a`, `b`"]);
        assert_eq!(
            lists(Some(&["a, b"]), &["b"]),
            ["allowed `a, b`", "blocked `b`"]
        );
    }
}
