//! What an agent may do, as data, read from a `sekuire.yml`.
//!
//! A file either loads whole or not at all: what is not understood might have
//! been a rule, so it is an error and never skipped. Nothing here knows of HTTP, but
//! for the names of services and endpoints, so that one that is misspelled is told.

mod advice;
mod agents;
mod api;
#[cfg(feature = "signed")]
mod canonical;
mod compile;
mod dialect;
mod document;
pub(crate) mod domain;
mod error;
mod filesystem;
#[cfg(feature = "signed")]
mod identity;
mod json_schema;
mod loader;
mod names;
mod pattern;
mod reader;
mod rules;
mod scan;
mod schema;
mod sections;
#[cfg(feature = "signed")]
mod signed;
mod translate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use api::{ApiMatch, ApiRules, ApiService};
pub use domain::DomainPattern;
pub use error::{PolicyError, Problem};
pub(crate) use filesystem::extension;
pub use filesystem::{FilesystemMatch, FilesystemRules, PathPattern};
#[cfg(feature = "signed")]
pub use identity::sekuire_id;
pub use loader::PolicyLoader;
#[cfg(feature = "watch")]
pub(crate) use loader::read;
pub use pattern::NamePattern;
pub use rules::{Limit, LimitScope, LimitUnit, NameMatch, NameRules, NetworkMatch, NetworkRules};
#[cfg(feature = "signed")]
pub use signed::{Envelope, Trust};

/// The rules for one agent.
///
/// A missing section or list restricts nothing; an empty allow list lets nothing
/// through; deny wins over allow. Clones share the same rules and cost nothing.
///
/// ```
/// use tower_sekuire::{NameMatch, Policy};
///
/// let policy = Policy::from_yaml(
///     r"
/// agent:
///   name: Research Assistant
///   models:
///     allowed_models: [gpt-4o-mini, gpt-4o]
///   toolsets:
///     blocked_tools: [file_*]
/// ",
/// )?;
/// assert_eq!(policy.agent(), "Research Assistant");
/// assert_eq!(policy.models().check("gpt-4o"), NameMatch::Allowed);
/// assert_eq!(policy.models().check("gpt-3.5-turbo"), NameMatch::NotListed);
/// assert_eq!(policy.tools().check("file_delete"), NameMatch::Blocked);
/// assert!(policy.network().is_none());
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    agent: String,
    sekuire_id: Option<String>,
    /// Of the file's other agents.
    other_ids: BTreeMap<String, Option<String>>,
    agents: Vec<String>,
    models: NameRules,
    tools: NameRules,
    network: Option<NetworkRules>,
    filesystem: Option<FilesystemRules>,
    api: Option<ApiRules>,
    limits: Vec<Limit>,
    unenforced: Vec<Notice>,
    warnings: Vec<Notice>,
    translated: Vec<Notice>,
    /// The files beside the policy that something of it was read from, whether they are there or not: which tools its
    /// entries mean, and what its agents' ids are made of.
    beside: Vec<PathBuf>,
    #[cfg(feature = "signed")]
    envelope: Option<Envelope>,
}

impl Policy {
    /// Reads a policy file: `.yml` and `.yaml` as YAML, `.json` as JSON, any
    /// other as JSON when it begins with `{`.
    ///
    /// When a tool list has an entry such as `files:*`, the agent's `tools.json`
    /// is read too: from the path that the file gives under `agent.tools`, or
    /// from beside the policy. It need not exist.
    ///
    /// Blocks while it reads; no file over 256 KiB is read.
    ///
    /// # Errors
    ///
    /// When the file can't be read, isn't a regular file, or holds anything that
    /// isn't understood; the error lists every problem.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, PolicyError> {
        Self::loader().from_path(path)
    }

    /// Reads a policy written in YAML. No file is read.
    ///
    /// # Errors
    ///
    /// When it holds anything that isn't understood:
    ///
    /// ```
    /// # use tower_sekuire::Policy;
    /// let error = Policy::from_yaml("models:\n  allowed_model: [gpt-4o]\n").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "line 2, column 3: models.allowed_model: unknown key\n  \
    ///      help: did you mean `allowed_models`?"
    /// );
    /// ```
    pub fn from_yaml(text: &str) -> Result<Self, PolicyError> {
        Self::loader().from_yaml(text)
    }

    /// The id by which Sekuire knows the agent. It is told with every decision and decides nothing.
    ///
    /// It is what [`PolicyLoader::sekuire_id`] gave. Without that, with feature `signed` and a policy read from a file
    /// that names `model`, `system_prompt_path` and `tools_path` under `identity`, or `model` (or `llm.model`),
    /// `system_prompt` and `tools` in the agent's own section, it is computed from them when the
    /// policy loads; the paths are from the policy's folder, and a file outside of it isn't read. Else it is what the
    /// file states: `sekuire_id` of the agent, of `identity` or of `project`. [`warnings`](Self::warnings) tell when a
    /// stated one is another than the computed one, and why one couldn't be computed.
    #[must_use]
    pub fn sekuire_id(&self) -> Option<&str> {
        self.inner.sekuire_id.as_deref()
    }

    /// The id of another agent of the file, by which its calls are told of; of an agent that the file doesn't list, that
    /// of the policy's own.
    ///
    /// ```
    /// # use tower_sekuire::Policy;
    /// let file = "agents: { writer: { sekuire_id: a1 }, reader: { sekuire_id: b2 } }\nmodels: { allowed_models: [gpt-4o] }";
    /// let policy = Policy::loader().agent("writer").from_yaml(file)?;
    /// assert_eq!(policy.sekuire_id(), Some("a1"));
    /// assert_eq!(policy.sekuire_id_of("reader"), Some("b2"));
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn sekuire_id_of(&self, agent: &str) -> Option<&str> {
        match self.inner.other_ids.get(agent) {
            Some(id) => id.as_deref(),
            None => self.sekuire_id(),
        }
    }

    /// What was written as another of Sekuire's dialects has it, and what it was read as. Empty for a policy in the form
    /// that the documents describe.
    ///
    /// ```
    /// # use tower_sekuire::Policy;
    /// let policy = Policy::from_yaml("permissions: {network: {allowed_hosts: [api.openai.com]}}")?;
    /// assert_eq!(
    ///     policy.translated()[0].to_string(),
    ///     "permissions.network.allowed_hosts: read as `allowed_domains`, as Sekuire's workspace agent writes it"
    /// );
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn translated(&self) -> &[Notice] {
        &self.inner.translated
    }

    /// The files beside the policy that something of it was read from, whether they are there or not.
    #[cfg(feature = "watch")]
    pub(crate) fn beside(&self) -> &[PathBuf] {
        &self.inner.beside
    }

    /// Reads a policy written in JSON: the rules themselves, or an envelope that
    /// has them under `content`. A signature in the envelope is not verified,
    /// and [`unenforced`](Self::unenforced) says so. No file is read.
    ///
    /// # Errors
    ///
    /// When it holds anything that isn't understood.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        Self::loader().from_json(text)
    }

    /// A loader, for what the plain constructors leave out: which agent of
    /// several, rules that aren't enforced here, categories of tools.
    pub fn loader() -> PolicyLoader {
        PolicyLoader::default()
    }

    /// The agent's name, or `default` when the file names none.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.inner.agent
    }

    /// The names of all agents that the file lists under `agents`, in the order written; none when it has no such
    /// list. The rules are those of [`agent`](Self::agent) alone.
    ///
    /// ```
    /// # use tower_sekuire::Policy;
    /// let file = "agents: { writer: {}, reader: {} }\nmodels: { allowed_models: [gpt-4o] }";
    /// let policy = Policy::loader().agent("writer").from_yaml(file)?;
    /// assert_eq!(policy.agents(), ["writer", "reader"]);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn agents(&self) -> &[String] {
        &self.inner.agents
    }

    /// Which models may be used.
    #[must_use]
    pub fn models(&self) -> &NameRules {
        &self.inner.models
    }

    /// Which tools may be used.
    #[must_use]
    pub fn tools(&self) -> &NameRules {
        &self.inner.tools
    }

    /// Which hosts may be reached, or `None` when the file has no
    /// `permissions.network` and every host may be.
    #[must_use]
    pub fn network(&self) -> Option<&NetworkRules> {
        self.inner.network.as_ref()
    }

    /// Which files may be touched, or `None` when the file has no `permissions.filesystem` and every one may be.
    #[must_use]
    pub fn filesystem(&self) -> Option<&FilesystemRules> {
        self.inner.filesystem.as_ref()
    }

    /// Which services may be called, or `None` when the file has no `permissions.api` and every one may be.
    #[must_use]
    pub fn api(&self) -> Option<&ApiRules> {
        self.inner.api.as_ref()
    }

    /// The limits, in the order written. Each holds by itself.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        &self.inner.limits
    }

    /// What the file holds that is accepted but not enforced.
    #[must_use]
    pub fn unenforced(&self) -> &[Notice] {
        &self.inner.unenforced
    }

    /// What is enforced as written, but is probably not what was meant: an entry
    /// both allowed and blocked or that another one shadows, a model that the
    /// agent uses and may not, a limit that is never reached, an empty allow list.
    /// In the order of the file; what is about no place in it comes last.
    #[must_use]
    pub fn warnings(&self) -> &[Notice] {
        &self.inner.warnings
    }
}

/// A remark about one field of a policy that loaded.
///
/// Displays without its place, as `agent.llm: describes the agent, restricts nothing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    path: String,
    message: String,
    line: Option<usize>,
    column: Option<usize>,
    /// What it points at, until its place was looked up.
    node: Option<u32>,
}

impl Notice {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            line: None,
            column: None,
            node: None,
        }
    }

    fn at(mut self, node: u32) -> Self {
        self.node = Some(node);
        self
    }

    /// The line of the file it is about, from 1. Known if there aren't too many, and if it isn't about the file as a whole.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The column, in characters from 1, where the line is known.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    /// The field, such as `agent.models.allowed_models[1]`; empty for the policy as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The remark.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl Notice {
    /// The remark with its place in a file, as compilers write it; without, where that isn't known.
    ///
    /// ```
    /// # use tower_sekuire::Policy;
    /// let policy = Policy::from_yaml("rate_limits:\n  global: { requests_per_day: 0 }\n")?;
    /// assert_eq!(
    ///     policy.warnings()[0].in_file("sekuire.yml"),
    ///     "sekuire.yml:2:13: rate_limits.global.requests_per_day: 0 allows nothing"
    /// );
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn in_file(&self, file: impl AsRef<Path>) -> String {
        let file = file.as_ref().display();
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{file}:{line}:{column}: {self}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
