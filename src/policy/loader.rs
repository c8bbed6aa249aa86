//! Where a policy comes from: files, text, and what the caller adds.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::compile::{self, Categories};
use super::document::{self, Format, Node, Value};
use super::error::{Draft, PolicyError, shown};
use super::schema::{DESCRIBES, DESCRIBES_THE_REST};
use super::translate::translate;
use super::{Notice, Policy, pattern::NamePattern};

/// Loads a [`Policy`] with choices that the file can't make.
///
/// ```
/// use tower_sekuire::{NameMatch, Policy};
///
/// let policy = Policy::loader()
///     .agent("writer")
///     .tool_categories([("read_file", "files")])
///     .from_yaml("agents: {writer: {toolsets: {allowed_tools: ['files:*']}}, reader: {}}")?;
/// assert_eq!(policy.tools().check("read_file"), NameMatch::Allowed);
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a loader does nothing until it is given a file or text"]
pub struct PolicyLoader {
    agent: Option<String>,
    accept_unenforced: bool,
    sekuire_id: Option<String>,
    categories: Vec<(String, String)>,
    #[cfg(feature = "signed")]
    pub(super) trust: Option<super::Trust>,
}

impl PolicyLoader {
    /// The id by which Sekuire knows the agent, in place of what the file says or names. Told with every decision.
    ///
    /// ```
    /// use tower_sekuire::Policy;
    ///
    /// let policy = Policy::loader().sekuire_id("28da5805").from_yaml("models: {allowed_models: [gpt-4o]}")?;
    /// assert_eq!(policy.sekuire_id(), Some("28da5805"));
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    pub fn sekuire_id(mut self, id: impl Into<String>) -> Self {
        self.sekuire_id = Some(id.into());
        self
    }

    /// Chooses the agent by name. Needed only for a file with several; with one
    /// it must be that one's name.
    pub fn agent(mut self, name: impl Into<String>) -> Self {
        self.agent = Some(name.into());
        self
    }

    /// Whether to load a policy that asks for something that isn't enforced here,
    /// such as approval by a person. Off by default, so that nobody relies on
    /// what doesn't happen; [`Policy::unenforced`] lists what was accepted.
    pub fn accept_unenforced(mut self, accept: bool) -> Self {
        self.accept_unenforced = accept;
        self
    }

    /// Adds pairs of tool and category, for entries such as `files:*`. They
    /// count beside those of a `tools.json`.
    pub fn tool_categories<T, C>(mut self, pairs: impl IntoIterator<Item = (T, C)>) -> Self
    where
        T: Into<String>,
        C: Into<String>,
    {
        let pairs = pairs.into_iter();
        self.categories
            .extend(pairs.map(|(tool, category)| (tool.into(), category.into())));
        self
    }

    /// As [`Policy::from_path`].
    ///
    /// # Errors
    ///
    /// As [`Policy::from_path`].
    pub fn from_path(self, path: impl AsRef<Path>) -> Result<Policy, PolicyError> {
        let path = path.as_ref();
        let text = read(path)?;
        self.read_from(path, &text)
    }

    /// As [`from_path`](Self::from_path), of a file that was read before.
    pub(crate) fn read_from(self, path: &Path, text: &str) -> Result<Policy, PolicyError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let format = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("yml" | "yaml") => Format::Yaml,
            Some("json") => Format::Json,
            _ if text
                .trim_start_matches('\u{feff}')
                .trim_start()
                .starts_with('{') =>
            {
                Format::Json
            }
            _ => Format::Yaml,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        self.load(text, format, Some(folder), &|error| error.in_file(path))
    }

    /// As [`Policy::from_yaml`].
    ///
    /// # Errors
    ///
    /// As [`Policy::from_yaml`].
    pub fn from_yaml(self, text: &str) -> Result<Policy, PolicyError> {
        self.load(text, Format::Yaml, None, &|error| error)
    }

    /// As [`Policy::from_json`].
    ///
    /// # Errors
    ///
    /// As [`Policy::from_json`].
    pub fn from_json(self, text: &str) -> Result<Policy, PolicyError> {
        self.load(text, Format::Json, None, &|error| error)
    }

    /// For a policy that is to replace this one.
    #[cfg(feature = "watch")]
    pub(crate) fn succeeding(self, in_force: &Policy) -> Self {
        #[cfg(feature = "signed")]
        let loader = Self {
            trust: self.trust.map(|trust| trust.after(in_force)),
            ..self
        };
        #[cfg(not(feature = "signed"))]
        let loader = {
            let _ = in_force;
            self
        };
        loader
    }

    fn load(
        self,
        text: &str,
        format: Format,
        folder: Option<&Path>,
        named: &dyn Fn(PolicyError) -> PolicyError,
    ) -> Result<Policy, PolicyError> {
        let refused = |problems| named(PolicyError::new(problems, text, format));
        let mut root = document::parse(text, format).map_err(|draft| refused(vec![draft]))?;
        // What nobody vouches for is not read any further.
        #[cfg(feature = "signed")]
        let envelope = match &self.trust {
            Some(trust) => Some(trust.verify(&root).map_err(refused)?),
            None => None,
        };
        let translated = translate(&mut root);
        let mut rules = compile::compile(&root, self.agent.as_deref(), self.accept_unenforced)
            .map_err(refused)?;
        for section in &mut rules.inner.unenforced {
            let within = |notice: &Notice| {
                let rest = notice.path.strip_prefix(&*section.path);
                rest.is_some_and(|rest| rest.starts_with('.'))
            };
            if translated.iter().any(within) && section.message == DESCRIBES {
                section.message = DESCRIBES_THE_REST.to_owned();
            }
        }
        rules.inner.translated = translated;
        #[cfg(feature = "signed")]
        if let Some(folder) = folder {
            if self.sekuire_id.is_some() {
                rules.made_of = None;
            }
            rules.identify(folder);
        }
        if self.sekuire_id.is_some() {
            rules.inner.sekuire_id.clone_from(&self.sekuire_id);
        }
        #[cfg(feature = "signed")]
        if let Some(envelope) = envelope {
            rules.verified(envelope);
        }
        let mentioned: Vec<_> = rules
            .tool_patterns()
            .filter_map(NamePattern::category)
            .collect();
        if !mentioned.is_empty() {
            let file = folder.map(|folder| folder.join(rules.tools_file()));
            rules.inner.beside.extend(file.clone());
            let mut known = Categories {
                source: None,
                missing: None,
                tools: BTreeMap::new(),
            };
            if let Some(file) = file {
                let path = rules.tools_file().to_owned();
                let exists = file.try_exists();
                if exists.map_err(|error| PolicyError::io(&file, error))? {
                    known.tools = read_tools(&file)?;
                    known.source = Some(path);
                } else {
                    known.missing = Some(path);
                }
            }
            for (tool, category) in self.categories {
                let source = known.source.get_or_insert_default();
                if source.is_empty() {
                    "the categories given".clone_into(source);
                }
                known.tools.entry(category).or_default().push(tool);
            }
            rules.resolve(&known);
        }
        #[cfg(feature = "signed")]
        if folder.is_some() {
            rules.warn_of_unsigned_files();
        }
        Ok(rules.into_policy(text, format))
    }
}

/// Reads a whole file as text, if it is a regular file of bearable size.
pub(crate) fn read(path: &Path) -> Result<String, PolicyError> {
    let failed = |error| PolicyError::io(path, error);
    let refused = |draft| PolicyError::of(draft).in_file(path);
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let kind = fs::metadata(path).map_err(failed)?;
    if kind.is_dir() {
        let help = "give the path of the file in it";
        return Err(refused(Draft::new("", "is a folder, not a file", help)));
    }
    if !kind.is_file() {
        let help = "save it as a file: pipes and devices are not read";
        return Err(refused(Draft::new("", "not a regular file", help)));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let limit = document::MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > document::MAX_BYTES {
        return Err(refused(document::too_large(&bytes)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let message = format!("not UTF-8 from byte {valid} on");
        let at = document::place(error.as_bytes(), valid);
        refused(Draft::new("", message, "save the file as UTF-8").located(at))
    })
}

/// The tools of a `tools.json`, by category: a list, or an object with the list
/// under `tools`, of objects with `name` and `category`. Other keys are the
/// agent's own affair.
fn read_tools(path: &Path) -> Result<BTreeMap<String, Vec<String>>, PolicyError> {
    let text = read(path)?;
    let refused = |problems| PolicyError::new(problems, &text, Format::Json).in_file(path);
    let root = document::parse(&text, Format::Json).map_err(|draft| refused(vec![draft]))?;
    let (at, list) = match &root.value {
        Value::Map(_) => ("tools", entry(&root, "tools").unwrap_or(&root)),
        _ => ("", &root),
    };
    let Value::List(tools) = &list.value else {
        let message = format!("must be a list of tools, not {}", list.described());
        let help = "write a list of tools, or an object with the list under `tools`";
        return Err(refused(vec![Draft::new(at, message, help).at(list.id)]));
    };
    let mut problems = Vec::new();
    repeated_keys(&root, &mut problems);
    let mut by_category: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, tool) in tools.iter().enumerate() {
        let place = format!("{at}[{index}]");
        if !matches!(tool.value, Value::Map(_)) {
            let message = format!("must be an object, not {}", tool.described());
            problems.push(Draft::new(place, message, TOOL).at(tool.id));
            continue;
        }
        let (Some(name), Some(category)) = (entry(tool, "name"), entry(tool, "category")) else {
            continue;
        };
        let (Some(name), Some(category)) = (name.text(), category.text()) else {
            let message = "`name` and `category` must be text";
            problems.push(Draft::new(place, message, TOOL).at(tool.id));
            continue;
        };
        match seen.insert(name, category) {
            Some(other) if other != category => {
                let message = format!("`{}` is in two categories", shown(name));
                problems.push(Draft::new(place, message, "keep one of them").at(tool.id));
            }
            Some(_) => {}
            None => by_category
                .entry(category.to_owned())
                .or_default()
                .push(name.to_owned()),
        }
    }
    if problems.is_empty() {
        Ok(by_category)
    } else {
        Err(refused(problems))
    }
}

/// How a tool of a `tools.json` is written.
const TOOL: &str = "write it as in `{\"name\": \"read_file\", \"category\": \"files\"}`";

/// Reports keys that appear twice in one object, wherever it is.
fn repeated_keys(node: &Node, problems: &mut Vec<Draft>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| repeated_keys(item, problems)),
        Value::Map(entries) => {
            let mut seen = HashSet::new();
            for (key, value) in entries {
                let name = key.text().unwrap_or_default();
                if !seen.insert(name) {
                    let draft = Draft::new(shown(name), "given twice", "keep one of them");
                    problems.push(draft.at(key.id));
                }
                repeated_keys(value, problems);
            }
        }
        _ => {}
    }
}

fn entry<'a>(map: &'a Node, key: &str) -> Option<&'a Node> {
    match &map.value {
        Value::Map(entries) => entries
            .iter()
            .find(|(name, _)| name.text() == Some(key))
            .map(|(_, value)| value),
        _ => None,
    }
}
