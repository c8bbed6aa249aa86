//! A document's tree to the rules of one agent.
//!
//! Reads every section even after a problem, and every agent even when one is
//! chosen, so that the report is complete. What an agent that isn't chosen says
//! must be right all the same, but leaves no trace in the policy.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

#[cfg(feature = "signed")]
use super::Notice;
use super::agents::{self, NameSections, ToolEntries};
use super::document::{self, Format, Node, Value};
use super::error::{Draft, shown};
#[cfg(feature = "signed")]
use super::identity::{MOST_OTHERS, MadeOf};
use super::pattern::NamePattern;
use super::reader::{Field, Reader, Spot};
use super::rules::NameMatch;
use super::sections::{self, Permissions};
use super::{Inner, Policy, schema};

/// The rules of the chosen agent, before its tools' categories are known.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) inner: Inner,
    tool_entries: ToolEntries,
    tools_file: String,
    /// What the agent's id is made of, if the file names it.
    #[cfg(feature = "signed")]
    pub(super) made_of: Option<MadeOf>,
    /// The same of the file's other agents, by their names.
    #[cfg(feature = "signed")]
    pub(super) others: Vec<(String, MadeOf)>,
    /// What is to be remarked if the policy is signed: the files that the id is made of are not.
    #[cfg(feature = "signed")]
    pub(super) unsigned_id: Option<Notice>,
}

/// Tools by category, and where that was read.
#[derive(Debug)]
pub(super) struct Categories {
    pub(super) source: Option<String>,
    /// The path of the `tools.json` that isn't there.
    pub(super) missing: Option<String>,
    pub(super) tools: BTreeMap<String, Vec<String>>,
}

impl Rules {
    pub(super) fn tool_patterns(&self) -> impl Iterator<Item = &NamePattern> {
        self.tool_entries().map(|(_, pattern)| pattern)
    }

    /// Every entry for tools with its place, those that allow first.
    pub(super) fn tool_entries(&self) -> impl Iterator<Item = &(Spot, NamePattern)> {
        let ToolEntries { allowed, blocked } = &self.tool_entries;
        allowed.iter().chain(blocked)
    }

    /// The path of the agent's `tools.json`, from the policy's folder.
    pub(super) fn tools_file(&self) -> &str {
        &self.tools_file
    }

    /// Gives entries such as `files:*` the tools that they mean.
    pub(super) fn resolve(&mut self, known: &Categories) {
        let ToolEntries { allowed, blocked } = &self.tool_entries;
        for (spot, pattern) in allowed.iter().chain(blocked) {
            let Some(category) = pattern.category() else {
                continue;
            };
            let message = match (&known.source, &known.missing) {
                _ if known.tools.contains_key(category) => continue,
                (None, None) => "no `tools.json` was read to say which tools are meant".to_owned(),
                (None, Some(path)) => {
                    format!("there is no `{}` to say which tools are meant", shown(path))
                }
                (Some(source), _) => format!("no tool in {} has this category", shown(source)),
            };
            let message =
                format!("{message}: `{pattern}` matches only names that begin with `{category}:`");
            self.inner.warnings.push(spot.notice(message));
        }
        let mentioned: HashSet<_> = self
            .tool_patterns()
            .filter_map(NamePattern::category)
            .collect();
        let categories = known
            .tools
            .iter()
            .filter(|(category, _)| mentioned.contains(category.as_str()))
            .map(|(category, tools)| {
                let tools = tools.iter().map(|tool| tool.as_str().into()).collect();
                (category.as_str().into(), tools)
            })
            .collect();
        self.inner.tools.categories = categories;
        self.warn_of_blocked_categories();
    }

    /// Remarks on tools that are allowed by name and blocked by category, which their names alone don't show.
    fn warn_of_blocked_categories(&mut self) {
        let allowed = self.tool_entries.allowed.iter();
        for (spot, entry) in allowed.filter(|(_, entry)| !entry.is_wildcard()) {
            let name = entry.as_str();
            if let (NameMatch::Blocked, Some(by)) = self.inner.tools.deciding(name)
                && !by.matches(name)
            {
                let message = format!("`{entry}` is allowed, but `{by}` is blocked: it is blocked");
                self.inner.warnings.push(spot.notice(message));
            }
        }
    }

    /// Ends with the places of what there is to remark, in the text that was read.
    pub(super) fn into_policy(mut self, text: &str, format: Format) -> Policy {
        let mut reread = 0;
        let Inner {
            warnings,
            unenforced,
            translated,
            ..
        } = &mut self.inner;
        for notices in [&mut *warnings, unenforced, translated] {
            // In the order of the file, as nodes are numbered; what is about none of them comes last.
            notices.sort_by_key(|notice| notice.node.unwrap_or(u32::MAX));
        }
        for notice in warnings.iter_mut().chain(unenforced).chain(translated) {
            if let Some(node) = notice.node.take()
                && reread < MAX_REREAD
            {
                reread += text.len();
                let place = document::locate(text, format, node);
                (notice.line, notice.column) = place.unzip();
            }
        }
        Policy {
            inner: Arc::new(self.inner),
        }
    }
}

/// Reads the rules of the agent asked for.
pub(super) fn compile(
    root: &Node,
    agent: Option<&str>,
    accept_unenforced: bool,
) -> Result<Rules, Vec<Draft>> {
    if matches!(root.value, Value::Null) {
        return Err(vec![no_rules("the document is empty")]);
    }
    let mut reader = Reader {
        accept_unenforced,
        ..Reader::default()
    };
    let rules = document(&mut reader, &Field::root(root), agent);
    match rules {
        Some(rules) if reader.problems.is_empty() => Ok(Rules {
            inner: Inner {
                unenforced: reader.unenforced,
                warnings: reader.warnings,
                ..rules.inner
            },
            ..rules
        }),
        None if reader.problems.is_empty() => Err(vec![no_rules("no policy configuration")]),
        _ => Err(reader.problems),
    }
}

/// How much text is read again to find the places of remarks, in bytes: they are told each time a policy loads, so
/// that they must cost little.
const MAX_REREAD: usize = 1024 * 1024;

fn no_rules(message: &str) -> Draft {
    Draft::new(
        "",
        message,
        "write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
    )
}

fn document(reader: &mut Reader, root: &Field<'_>, wanted: Option<&str>) -> Option<Rules> {
    let content = envelope(reader, root)?;
    let mut lists = NameSections::default();
    let mut found_agents = Vec::new();
    let mut agent_section: Option<Field<'_>> = None;
    let mut given_twice = false;
    let mut permissions = Permissions::default();
    let mut limits = None;
    let mut uses = Vec::new();
    let mut tools_file = None;
    let mut sekuire_id = None;
    #[cfg(feature = "signed")]
    let mut made_of = None;
    for entry in reader.mapping(&content)? {
        match entry.key {
            "agent" | "agents" => {
                if let Some(other) = &agent_section {
                    let message = format!("given beside `{}`", other.key);
                    reader.key_problem(&entry, message, "keep one of them");
                    given_twice = true;
                }
                if entry.key == "agent" {
                    found_agents.extend(agents::agent(reader, entry.clone(), None));
                } else {
                    found_agents.extend(agents::agents(reader, &entry));
                }
                agent_section = Some(entry);
            }
            "models" => lists.models(reader, entry),
            "toolsets" | "tools" => lists.tools(reader, entry),
            "permissions" => permissions = sections::permissions(reader, &entry),
            "rate_limits" => limits = Some(sections::rate_limits(reader, &entry)),
            key => match schema::SECTIONS.iter().find(|(name, _)| *name == key) {
                Some((_, kind)) => {
                    reader.described(&entry, *kind);
                    reader.not_enforced(&entry, schema::DESCRIBES);
                    if matches!(key, "identity" | "llm") {
                        uses.extend(entry.below("model"));
                    }
                    if matches!(key, "identity" | "project") {
                        let id = entry.below("sekuire_id");
                        let id = id.as_ref().and_then(agents::id);
                        // The agent's own section is nearer to it than its project's.
                        sekuire_id = match key {
                            "identity" => id.or(sekuire_id),
                            _ => sekuire_id.or(id),
                        };
                    }
                    if key == "identity" {
                        let path = entry.below("tools_path");
                        tools_file = path.and_then(|path| path.node.text());
                        #[cfg(feature = "signed")]
                        {
                            made_of = MadeOf::read(&entry);
                        }
                    }
                }
                None => reader.unknown(
                    &entry,
                    &schema::known(schema::TOP_LEVEL_RULES, schema::SECTIONS),
                ),
            },
        }
    }
    if given_twice {
        // Which of them is meant can't be known, so none is asked for.
        return None;
    }
    let listed = match &agent_section {
        Some(section) if section.key == "agents" => found_agents
            .iter()
            .map(|agent| agent.name.clone())
            .collect(),
        _ => Vec::new(),
    };
    let mut other_ids: BTreeMap<_, _> = found_agents
        .iter()
        .map(|agent| {
            let id = agent.sekuire_id.as_ref().map(|(_, id)| (*id).to_owned());
            (agent.name.clone(), id)
        })
        .collect();
    #[cfg(feature = "signed")]
    let mut others: Vec<_> = found_agents
        .iter()
        .filter_map(|agent| {
            let made_of = agent.made_of.clone()?.stated(agent.sekuire_id.clone());
            Some((agent.name.clone(), made_of))
        })
        .collect();
    let agent = agents::choose(reader, agent_section.as_ref(), found_agents, lists, wanted)?;
    let NameSections { models, tools } = agent.lists;
    let governed = models.is_some() || tools.is_some() || permissions.is_some() || limits.is_some();
    let models = models.map(|(_, models)| models).unwrap_or_default();
    let (tools, tool_entries) = tools.map(|(_, tools)| tools).unwrap_or_default();
    for used in &uses {
        agents::warn_of_use(reader, &models, used);
    }
    let limits = limits.unwrap_or_default();
    // Another agent may use models that this one may not.
    if listed.len() < 2 {
        sections::warn_of_unused_limits(reader, &models, &limits);
    }
    let restricted = models.is_restricted() || tools.is_restricted() || permissions.restrict();
    if governed && !restricted && limits.is_empty() {
        let message = "nothing is enforced: whatever is asked is allowed; write at least one rule";
        reader.warn(&content, message);
    }
    let stated = agent.sekuire_id.or(sekuire_id);
    other_ids.remove(&agent.name);
    #[cfg(feature = "signed")]
    others.retain(|(name, _)| *name != agent.name);
    #[cfg(feature = "signed")]
    others.truncate(MOST_OTHERS);
    // Of several agents nobody knows which one `identity` is about.
    #[cfg(feature = "signed")]
    let made_of = made_of
        .filter(|_| listed.len() < 2)
        .or(agent.made_of)
        .map(|made_of| made_of.stated(stated.clone()));
    let tools_file = agent.tools_file.or(tools_file).unwrap_or("tools.json");
    governed.then(|| Rules {
        inner: Inner {
            agent: agent.name,
            sekuire_id: stated.map(|(_, id)| id.to_owned()),
            other_ids,
            agents: listed,
            models,
            tools,
            network: permissions.network,
            filesystem: permissions.filesystem,
            api: permissions.api,
            limits: sections::without_spot(limits),
            unenforced: Vec::new(),
            warnings: Vec::new(),
            translated: Vec::new(),
            beside: Vec::new(),
            #[cfg(feature = "signed")]
            envelope: None,
        },
        tool_entries,
        tools_file: tools_file.to_owned(),
        #[cfg(feature = "signed")]
        made_of,
        #[cfg(feature = "signed")]
        others,
        #[cfg(feature = "signed")]
        unsigned_id: None,
    })
}

/// The rules inside a signed or unsigned envelope, or the document itself.
fn envelope<'a>(reader: &mut Reader, root: &Field<'a>) -> Option<Field<'a>> {
    let Some(content) = root.below("content") else {
        return Some(root.clone());
    };
    for entry in reader.mapping(root)? {
        match entry.key {
            "content" => {}
            "signature" => reader.not_enforced(&entry, "signature is not verified"),
            key if schema::ENVELOPE.contains(&key) => {
                match entry.node.text() {
                    Some(status) if key == "status" && status != "active" => {
                        let message =
                            format!("the policy is marked `{}`, not `active`", shown(status));
                        reader.warn(&entry, message);
                    }
                    _ => reader.described(&entry, schema::Kind::Free),
                }
                reader.not_enforced(&entry, "part of the envelope, not verified");
            }
            key if schema::TOP_LEVEL_RULES.contains(&key) => {
                reader.key_problem(
                    &entry,
                    "stands beside `content`",
                    "move it inside `content`",
                );
            }
            _ => {
                let known: Vec<_> = schema::ENVELOPE
                    .iter()
                    .copied()
                    .chain(["content"])
                    .collect();
                reader.unknown(&entry, &known);
            }
        }
    }
    let content = Field {
        place: String::new(),
        ..content
    };
    if let Value::Map(_) = content.node.value {
        Some(Field {
            path: String::new(),
            ..content
        })
    } else {
        Some(content)
    }
}
