//! The agents of a file, and the choice of one.

use super::document::Value;
use super::error::shown;
#[cfg(feature = "signed")]
use super::identity::MadeOf;
use super::pattern::NamePattern;
use super::reader::{Field, Reader, Spot};
use super::rules::{NameMatch, NameRules};
use super::{Notice, schema, sections};

/// One agent of the file.
#[derive(Debug, Default)]
pub(super) struct Agent<'a> {
    pub(super) name: String,
    pub(super) lists: NameSections<'a>,
    /// The id that the file says Sekuire gave it.
    pub(super) sekuire_id: Option<(Spot, &'a str)>,
    /// What its own section says the id is made of.
    #[cfg(feature = "signed")]
    pub(super) made_of: Option<MadeOf>,
    /// The path given for its `tools.json`.
    pub(super) tools_file: Option<&'a str>,
    /// Models that the file says it uses.
    pub(super) uses: Vec<Field<'a>>,
    /// Remarks that count only if this agent is chosen.
    pub(super) unenforced: Vec<Notice>,
    pub(super) warnings: Vec<Notice>,
}

/// The lists of names that stand either in an agent or at the top level.
#[derive(Debug, Default)]
pub(super) struct NameSections<'a> {
    pub(super) models: Option<(Field<'a>, NameRules)>,
    pub(super) tools: Option<(Field<'a>, ToolRules)>,
}

/// Rules for tools, and every entry with its place.
pub(super) type ToolRules = (NameRules, ToolEntries);

/// Entries of the allow list and of the deny list, each with its place.
#[derive(Debug, Default)]
pub(super) struct ToolEntries {
    pub(super) allowed: Vec<(Spot, NamePattern)>,
    pub(super) blocked: Vec<(Spot, NamePattern)>,
}

impl<'a> NameSections<'a> {
    pub(super) fn models(&mut self, reader: &mut Reader, field: Field<'a>) {
        let rules = sections::models(reader, &field);
        self.models = Some((field, rules));
    }

    pub(super) fn tools(&mut self, reader: &mut Reader, field: Field<'a>) {
        let rules = sections::toolsets(reader, &field);
        match &self.tools {
            Some((first, _)) => given_twice(reader, &field, first),
            None => self.tools = Some((field, rules)),
        }
    }

    /// Fills in what is at the top level of the file; both is a problem.
    fn fill(&mut self, reader: &mut Reader, top: Self) {
        either(reader, &mut self.models, top.models);
        either(reader, &mut self.tools, top.tools);
    }
}

fn either<'a, T>(
    reader: &mut Reader,
    own: &mut Option<(Field<'a>, T)>,
    top: Option<(Field<'a>, T)>,
) {
    match (&own, top) {
        (Some((own, _)), Some((top, _))) => given_twice(reader, &top, own),
        (None, top) => *own = top,
        (Some(_), None) => {}
    }
}

fn given_twice(reader: &mut Reader, field: &Field<'_>, first: &Field<'_>) {
    let message = format!("given twice, here and as `{}`", first.path);
    reader.key_problem(field, message, "keep one of them");
}

/// Reads `agents`.
pub(super) fn agents<'a>(reader: &mut Reader, field: &Field<'a>) -> Vec<Agent<'a>> {
    let Some(entries) = reader.mapping(field) else {
        return Vec::new();
    };
    if entries.is_empty() {
        let help = "write at least one, or remove the key";
        reader.problem(field, "has no agent", help);
    }
    let mut agents = Vec::new();
    for entry in entries {
        reader.spelling(&entry, entry.key_id, entry.key);
        let name = entry.key;
        agents.extend(agent(reader, entry, Some(name)));
    }
    agents
}

/// Reads `agent`, or one of `agents`, which then has its name already.
pub(super) fn agent<'a>(
    reader: &mut Reader,
    field: Field<'a>,
    named: Option<&str>,
) -> Option<Agent<'a>> {
    // One table of keys serves every agent.
    let field = Field {
        place: "agent".to_owned(),
        ..field
    };
    let before = (reader.unenforced.len(), reader.warnings.len());
    let mut found = Agent {
        name: named.unwrap_or(DEFAULT).to_owned(),
        ..Agent::default()
    };
    for entry in reader.mapping(&field)? {
        match entry.key {
            "name" => {
                if let (Some(name), None) = (reader.entry(&entry), named) {
                    name.clone_into(&mut found.name);
                }
            }
            "models" => found.lists.models(reader, entry),
            "tools" if entry.node.text().is_some() => found.tools_file = reader.entry(&entry),
            "tools" if !matches!(entry.node.value, Value::Map(_)) => {
                let message = format!("must be the path of a file, not {}", entry.node.described());
                let help = "list tools under `agent.toolsets.allowed_tools`";
                reader.problem(&entry, message, help);
            }
            "toolsets" | "tools" => found.lists.tools(reader, entry),
            key => match schema::AGENT_SECTIONS.iter().find(|(name, _)| *name == key) {
                Some((_, kind)) => {
                    reader.described(&entry, *kind);
                    reader.not_enforced(&entry, schema::DESCRIBES);
                    match key {
                        "llm" => found.uses.extend(entry.below("model")),
                        "sekuire_id" => found.sekuire_id = id(&entry),
                        "model" => found.uses.push(entry),
                        _ => {}
                    }
                }
                None => reader.unknown(
                    &entry,
                    &schema::known(schema::AGENT_RULES, schema::AGENT_SECTIONS),
                ),
            },
        }
    }
    #[cfg(feature = "signed")]
    {
        found.made_of = MadeOf::of_agent(&field);
    }
    found.unenforced = reader.unenforced.split_off(before.0);
    found.warnings = reader.warnings.split_off(before.1);
    Some(found)
}

/// An id as Sekuire writes them; templates leave it empty.
pub(super) fn id<'a>(field: &Field<'a>) -> Option<(Spot, &'a str)> {
    let plain = |id: &&str| {
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    Some((field.spot(), field.node.text().filter(plain)?))
}

/// Bytes of an id; a hash has 64.
const MAX_ID: usize = 128;

/// Chooses the agent asked for, with what the top level of the file gives it.
///
/// `section` is where the agents are, if anywhere; a file without has one agent,
/// of the default name.
pub(super) fn choose<'a>(
    reader: &mut Reader,
    section: Option<&Field<'a>>,
    mut agents: Vec<Agent<'a>>,
    top: NameSections<'a>,
    wanted: Option<&str>,
) -> Option<Agent<'a>> {
    if section.is_none() {
        agents.push(Agent {
            name: DEFAULT.to_owned(),
            ..Agent::default()
        });
    }
    if agents.is_empty() {
        // Reported as what is wrong with the section itself.
        return None;
    }
    let names = agents
        .iter()
        .map(|agent| format!("`{}`", shown(&agent.name)));
    let names = names.collect::<Vec<_>>().join(", ");
    let chosen = match wanted {
        Some(wanted) => agents.iter().position(|agent| agent.name == wanted),
        None => (agents.len() == 1).then_some(0),
    };
    let Some(chosen) = chosen else {
        let (message, help) = match wanted {
            Some(wanted) => (
                format!("no agent is named `{}`", shown(wanted)),
                format!("available: {names}"),
            ),
            None => (
                format!("has several agents: {names}"),
                "choose one of them by name (`PolicyLoader::agent`, `--agent` of the gateway)"
                    .to_owned(),
            ),
        };
        match section {
            Some(section) => reader.key_problem(section, message, &help),
            None => reader.document_problem(message, &help),
        }
        return None;
    };
    let mut agent = agents.swap_remove(chosen);
    agent.lists.fill(reader, top);
    reader.unenforced.append(&mut agent.unenforced);
    reader.warnings.append(&mut agent.warnings);
    if let Some((_, models)) = &agent.lists.models {
        for used in &agent.uses {
            warn_of_use(reader, models, used);
        }
    }
    Some(agent)
}

/// Remarks on an agent that is set up with a model that it may not use.
pub(super) fn warn_of_use(reader: &mut Reader, models: &NameRules, field: &Field<'_>) {
    let Some(model) = field.node.text() else {
        return;
    };
    let why = match models.check(model) {
        NameMatch::Allowed => return,
        NameMatch::Blocked => "is in `blocked_models`",
        NameMatch::NotListed => "is not in `allowed_models`",
    };
    let message = format!("`{}` {why}: every request for it is refused", shown(model));
    reader.warn(field, message);
}

/// The name of an agent that the file doesn't name.
const DEFAULT: &str = "default";
