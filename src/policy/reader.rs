//! Reads typed fields off the tree, and collects what is wrong with them.
//!
//! A method that finds a problem records it and returns nothing; the caller goes
//! on with the next field, so that one reading reports everything.

use std::collections::HashSet;

use super::Notice;
use super::advice;
use super::dialect;
use super::document::{Node, Value};
use super::error::{Draft, MAX_PROBLEMS, is_invisible, shown};
use super::schema::{self, Kind};

/// A value with the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    /// The path as the schema knows it: the same for every agent of a file.
    pub(super) place: String,
    /// The last part of the path.
    pub(super) key: &'a str,
    /// The node of the key, or of the value where there is no key.
    pub(super) key_id: u32,
    pub(super) node: &'a Node,
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self {
            path: String::new(),
            place: String::new(),
            key: "",
            key_id: node.id,
            node,
        }
    }

    /// Where it is, for remarks that are made once the field is out of reach.
    pub(super) fn spot(&self) -> Spot {
        Spot {
            path: self.path.clone(),
            node: self.key_id,
        }
    }

    fn child(&self, key: &'a Node, name: &'a str, node: &'a Node) -> Self {
        Self {
            path: join(&self.path, name),
            place: join(&self.place, name),
            key: name,
            key_id: key.id,
            node,
        }
    }

    /// A key's value, without a look at the rest of the mapping.
    pub(super) fn below(&self, name: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let (key, node) = entries.iter().find(|(key, _)| key.text() == Some(name))?;
        Some(self.child(key, key.text()?, node))
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            place: format!("{}[]", self.place),
            key: "",
            key_id: node.id,
            node,
        }
    }
}

/// A place in the document.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    path: String,
    node: u32,
}

impl Spot {
    /// A remark on what is there.
    pub(super) fn notice(&self, message: impl Into<String>) -> Notice {
        Notice::new(self.path.clone(), message).at(self.node)
    }
}

/// The path of a key below another path.
fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-'));
    let key = if plain && key.len() < 128 {
        key.to_owned()
    } else {
        format!("\"{}\"", shown(key))
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) accept_unenforced: bool,
    pub(super) problems: Vec<Draft>,
    pub(super) unenforced: Vec<Notice>,
    pub(super) warnings: Vec<Notice>,
    /// How many names were compared with those that are known.
    pub(super) compared: usize,
}

impl Reader {
    /// A problem with a field's value.
    pub(super) fn problem(&mut self, field: &Field<'_>, message: impl Into<String>, help: &str) {
        self.report(field, field.node.id, message, help);
    }

    /// A problem with the document as a whole.
    pub(super) fn document_problem(&mut self, message: String, help: &str) {
        self.problems.push(Draft::new("", message, help));
    }

    /// A problem with a field being there at all.
    pub(super) fn key_problem(
        &mut self,
        field: &Field<'_>,
        message: impl Into<String>,
        help: &str,
    ) {
        self.report(field, field.key_id, message, help);
    }

    fn report(&mut self, field: &Field<'_>, id: u32, message: impl Into<String>, help: &str) {
        if self.is_flooded() {
            self.problems.push(Draft::counted());
            return;
        }
        let draft = Draft::new(field.path.clone(), message, help);
        self.problems.push(draft.at(id));
    }

    /// Whether there are more problems than are told, so that what is wrong with another one need not be found out.
    fn is_flooded(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub(super) fn warn(&mut self, field: &Field<'_>, message: impl Into<String>) {
        self.warn_at(&field.spot(), message);
    }

    pub(super) fn warn_at(&mut self, spot: &Spot, message: impl Into<String>) {
        self.warnings.push(spot.notice(message));
    }

    /// Remarks on a name that is none of those that are known, and near to one of them.
    pub(super) fn warn_of_typo(
        &mut self,
        field: &Field<'_>,
        name: &str,
        known: impl Iterator<Item = &'static str>,
        what: &str,
    ) {
        self.compared += 1;
        if self.compared > MAX_COMPARED || name.contains('*') {
            return;
        }
        let mut known: Vec<_> = known.collect();
        known.dedup();
        if known.contains(&name) {
            return;
        }
        if let Some(near) = schema::nearest(name, &known) {
            let message = format!(
                "`{}` is no known {what}: did you mean `{near}`?",
                shown(name)
            );
            self.warn(field, message);
        }
    }

    pub(super) fn not_enforced(&mut self, field: &Field<'_>, message: impl Into<String>) {
        self.unenforced.push(field.spot().notice(message));
    }

    /// A field that asks for something that isn't done here.
    pub(super) fn ask(&mut self, field: &Field<'_>) {
        let asks = match &field.node.value {
            Value::Null | Value::Bool(false) => false,
            Value::List(list) => !list.is_empty(),
            Value::Map(map) => !map.is_empty(),
            Value::Bool(true) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => true,
        };
        if !asks {
            return;
        }
        if self.accept_unenforced {
            self.not_enforced(field, "asks for something that is not enforced here");
        } else {
            self.key_problem(
                field,
                "asks for something that is not enforced here",
                "remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)",
            );
        }
    }

    /// The entries of a mapping. Keys that repeat, merge or aren't text are
    /// reported, extension keys noted; neither is returned.
    pub(super) fn mapping<'a>(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let Value::Map(entries) = &field.node.value else {
            let message = format!("must be a mapping, not {}", field.node.described());
            self.problem(field, message, &advice::on_mapping(field));
            return None;
        };
        let mut seen = HashSet::new();
        let mut fields = Vec::new();
        for (key, node) in entries {
            let Some(name) = key.text() else {
                let entry = Field {
                    key_id: key.id,
                    ..field.clone()
                };
                let message = format!("has a key that is {}", key.described());
                self.key_problem(
                    &entry,
                    message,
                    "write keys as text; quote one that reads as a number",
                );
                continue;
            };
            let entry = field.child(key, name, node);
            if !seen.insert(name) {
                self.key_problem(&entry, "given twice", "keep one of them");
            } else if name == "<<" {
                self.key_problem(
                    &entry,
                    "merge keys are not supported",
                    "write the keys out where they are used",
                );
            } else if name.starts_with("x-") {
                self.not_enforced(&entry, "extension key, not read");
            } else {
                fields.push(entry);
            }
        }
        Some(fields)
    }

    /// The items of a list.
    pub(super) fn list<'a>(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let help = match &field.node.value {
            Value::List(items) => {
                let items = items.iter().enumerate();
                return Some(items.map(|(index, node)| field.item(index, node)).collect());
            }
            Value::Null if field.key.starts_with("allowed") => {
                "remove the key to allow everything, or write `[]` to allow nothing"
            }
            Value::Null => "remove the key, or list what is meant",
            Value::Text(_) if field.place.ends_with("allowed_services") => advice::SERVICE,
            Value::Text(text) if text.starts_with('-') && !text.starts_with("- ") => {
                "put a space after each `-`"
            }
            Value::Text(_) | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                "write it as a list, as in `[one, two]`"
            }
            Value::Map(entries) => {
                let message = format!("must be a list, not {}", field.node.described());
                self.problem(field, message, &advice::on_list_of_keys(field, entries));
                return None;
            }
        };
        let message = format!("must be a list, not {}", field.node.described());
        self.problem(field, message, help);
        None
    }

    pub(super) fn bool(&mut self, field: &Field<'_>) -> Option<bool> {
        if let Value::Bool(value) = field.node.value {
            return Some(value);
        }
        let message = match field.node.text() {
            Some(text) => format!("must be `true` or `false`, not the text `{}`", shown(text)),
            None => format!("must be `true` or `false`, not {}", field.node.described()),
        };
        let help = match field.node.text() {
            Some("true" | "false") => "remove the quotes",
            Some(_) => "only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
            None if matches!(field.node.value, Value::Null) => {
                "write `true` or `false`, or remove the key"
            }
            None => "write `true` or `false`",
        };
        self.problem(field, message, help);
        None
    }

    /// A whole number, 0 included.
    pub(super) fn count(&mut self, field: &Field<'_>) -> Option<u64> {
        let (message, help) = match &field.node.value {
            Value::Integer(value) => match u64::try_from(*value) {
                Ok(value) => return Some(value),
                Err(_) if *value < 0 => (
                    format!("must not be negative: `{value}`"),
                    "write 0 to allow nothing, or remove the key for no limit",
                ),
                Err(_) => (
                    format!("is too large: `{value}`"),
                    "remove the key for no limit",
                ),
            },
            Value::Null => (
                "must be a whole number, not null".to_owned(),
                "remove the key for no limit",
            ),
            Value::Text(text) => {
                let message = format!("must be a whole number, not the text `{}`", shown(text));
                self.problem(field, message, &advice::on_count_as_text(text));
                return None;
            }
            Value::Float(number) => {
                let message = format!("must be a whole number, not {}", field.node.described());
                self.problem(field, message, &advice::on_count(number));
                return None;
            }
            Value::Bool(_) | Value::List(_) | Value::Map(_) => (
                format!("must be a whole number, not {}", field.node.described()),
                "write one number in digits, as in `10`",
            ),
        };
        self.problem(field, message, help);
        None
    }

    /// Text, empty or not.
    pub(super) fn text<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        if let Some(text) = field.node.text() {
            return Some(text);
        }
        let message = format!("must be text, not {}", field.node.described());
        self.problem(field, message, &advice::on_text(field));
        None
    }

    /// Text that something is compared with: what can't be seen in it, or can't
    /// be meant, is a problem.
    pub(super) fn entry<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        let text = self.text(field)?;
        self.spelling(field, field.node.id, text).then_some(text)
    }

    /// Whether a text can serve as an entry.
    pub(super) fn spelling(&mut self, field: &Field<'_>, id: u32, text: &str) -> bool {
        let value = shown(text);
        let (message, help) = if text.is_empty() {
            ("must not be empty".to_owned(), "remove the entry")
        } else if text.chars().any(is_invisible) {
            (
                format!("has a character that can't be seen: `{value}`"),
                "remove control and direction characters",
            )
        } else if text.trim() != text {
            (
                format!("begins or ends with white space: `{value}`"),
                "remove the white space",
            )
        } else if text.len() > MAX_ENTRY {
            (
                format!("is longer than {MAX_ENTRY} bytes: `{value}`"),
                "write the name alone, or its beginning and `*`",
            )
        } else {
            return true;
        };
        self.report(field, id, message, help);
        false
    }

    /// A field that describes something and restricts nothing. Its keys are
    /// checked all the same: a rule in the wrong place must not go unnoticed.
    pub(super) fn described(&mut self, field: &Field<'_>, kind: Kind) {
        match kind {
            Kind::Request => self.ask(field),
            Kind::Free => self.free(field),
            Kind::Keys(_) if matches!(field.node.value, Value::Null) => {}
            Kind::Keys(keys) => {
                for entry in self.mapping(field).unwrap_or_default() {
                    match keys.iter().find(|(key, _)| *key == entry.key) {
                        Some((_, kind)) => self.described(&entry, *kind),
                        None => {
                            let known: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
                            self.unknown(&entry, &known);
                        }
                    }
                }
            }
        }
    }

    /// A value of any shape, as long as nothing in it looks like a rule.
    fn free(&mut self, field: &Field<'_>) {
        if is_rule_for_models(field) {
            self.key_problem(
                field,
                "looks like a rule, but no rules are read here",
                "write the rule under `agent.models`",
            );
            return;
        }
        match &field.node.value {
            Value::Map(_) => {
                for entry in self.mapping(field).unwrap_or_default() {
                    if schema::is_request(entry.key) {
                        self.ask(&entry);
                    } else if schema::looks_like_a_rule(entry.key) {
                        self.key_problem(
                            &entry,
                            "looks like a rule, but no rules are read here",
                            "move it under `models`, `toolsets`, `permissions.network` or `rate_limits`",
                        );
                    } else {
                        self.free(&entry);
                    }
                }
            }
            Value::List(items) => {
                for (index, node) in items.iter().enumerate() {
                    self.free(&field.item(index, node));
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
            }
        }
    }

    /// A key that has no place where it is, given what could be there.
    pub(super) fn unknown(&mut self, field: &Field<'_>, known: &[&str]) {
        if field.place == "policy.network.deny_all_other" {
            let (message, help) = advice::on_deny_all_other(field);
            self.problem(field, message, help);
            return;
        }
        match dialect::foreign(&field.place) {
            Some(dialect::Foreign::Key(help)) => {
                self.key_problem(
                    field,
                    "belongs to another form of policy, not read here",
                    help,
                );
            }
            Some(dialect::Foreign::Section) => self.unknown_section(field, known),
            None if self.is_flooded() => self.problems.push(Draft::counted()),
            None => {
                let also = dialect::also(&field.place, field.key);
                let help = advice::on_key(field.key, known, also);
                self.key_problem(field, "unknown key", &help);
            }
        }
    }

    /// A section of another dialect: its keys are named one by one.
    fn unknown_section(&mut self, field: &Field<'_>, known: &[&str]) {
        let before = (self.problems.len(), self.unenforced.len());
        if let Value::Map(_) = field.node.value
            && let Some(entries) = self.mapping(field)
        {
            for entry in entries {
                if dialect::foreign(&entry.place).is_some() {
                    self.unknown(&entry, known);
                } else if schema::is_request(entry.key) {
                    self.ask(&entry);
                } else if let also = dialect::also(&entry.place, entry.key)
                    && let Some(help) = advice::on_key_of_dialect(entry.key, also)
                {
                    self.key_problem(&entry, "unknown key", &help);
                } else {
                    self.key_problem(
                        &entry,
                        "belongs to another form of policy, not read here",
                        "write the rule under `models`, `toolsets`, `permissions.network` or `rate_limits`",
                    );
                }
            }
        }
        if (self.problems.len(), self.unenforced.len()) == before {
            self.key_problem(
                field,
                "belongs to another form of policy, not read here",
                "write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
            );
        }
    }
}

/// Whether the model that an agent is set up with is a list of models, or lists of them.
fn is_rule_for_models(field: &Field<'_>) -> bool {
    let is_model = matches!(
        &*field.place,
        "agent.model" | "agent.llm.model" | "llm.model" | "identity.model"
    );
    let lists = ["allowed", "blocked", "denied"];
    is_model
        && match &field.node.value {
            Value::List(_) => true,
            Value::Map(_) => lists.iter().any(|list| field.below(list).is_some()),
            _ => false,
        }
}

/// The most names compared with those that are known; more were hardly written by hand.
const MAX_COMPARED: usize = 200;

/// The longest entry, in bytes. Names and hosts on the wire are shorter.
const MAX_ENTRY: usize = 256;
