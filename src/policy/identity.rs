//! The id that Sekuire gives an agent: a hash of what it is made of.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::de::IgnoredAny;

use super::Notice;
use super::canonical::canonical;
use super::compile::Rules;
use super::document::{self, Format};
use super::error::{PolicyError, Problem, shown};
use super::loader;
use super::reader::{Field, Spot};

/// The id by which Sekuire knows an agent of this model, system prompt and tools: 64 hexadecimal digits, the same for
/// the same agent on every machine.
///
/// `tools` is the text of the agent's `tools.json`. White space in it and the order of keys make no difference; text
/// that isn't JSON is taken as it is. White space around the prompt makes no difference either.
///
/// ```
/// let id = tower_sekuire::sekuire_id("gpt-4o", "You are a helpful assistant.", "[]")?;
/// assert_eq!(id, "28da5805f90c0b2d7437e448f40853092cc38f5fa223cae21994a8b76d338b53");
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
///
/// # Errors
///
/// When `tools` is JSON that can't be read here for certain: over 256 KiB, nested deeper than 32 levels, with a key
/// given twice in an object, or with a number that binary fractions don't hold exactly enough.
pub fn sekuire_id(model: &str, system_prompt: &str, tools: &str) -> Result<String, PolicyError> {
    Ok(id_of(
        model,
        &hash_of_prompt(system_prompt),
        &hash_of_tools(tools)?,
    ))
}

fn id_of(model: &str, prompt: &str, tools: &str) -> String {
    hash(&format!("model:{model}|prompt:{prompt}|tools:{tools}"))
}

fn hash_of_prompt(text: &str) -> String {
    hash(text.trim())
}

fn hash_of_tools(text: &str) -> Result<String, PolicyError> {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Ok(hash(text));
    }
    let refused = |draft| PolicyError::new(vec![draft], text, Format::Json);
    let root = document::parse(text, Format::Json).map_err(refused)?;
    let canonical = canonical(&root, "").map_err(refused)?;
    Ok(hash(&canonical))
}

/// What a policy says an agent's id is made of: a model, and the paths of a prompt and of tools.
#[derive(Clone, Debug)]
pub(super) struct MadeOf {
    /// The section that says so.
    section: String,
    model: String,
    prompt: (Spot, String),
    tools: (Spot, String),
    stated: Option<(Spot, String)>,
    /// The section is there for the id, so that a file that isn't there is missing. In an agent's own section a text
    /// may be the prompt itself, unless it can be nothing but a path.
    for_the_id: bool,
}

impl MadeOf {
    /// Of `identity`; `None` unless all three are named.
    pub(super) fn read(identity: &Field<'_>) -> Option<Self> {
        Some(Self {
            section: identity.path.clone(),
            model: named(identity, "model")?.1,
            prompt: named(identity, "system_prompt_path")?,
            tools: named(identity, "tools_path")?,
            stated: None,
            for_the_id: true,
        })
    }

    /// Of an agent's own section; `None` unless all three are named, and one model.
    pub(super) fn of_agent(agent: &Field<'_>) -> Option<Self> {
        let own = named(agent, "model");
        let llm = agent.below("llm").and_then(|llm| named(&llm, "model"));
        let model = match (own, llm) {
            (Some((_, own)), Some((_, other))) if own != other => return None,
            (own, llm) => own.or(llm)?.1,
        };
        Some(Self {
            section: agent.path.clone(),
            model,
            prompt: named(agent, "system_prompt")?,
            tools: named(agent, "tools")?,
            stated: None,
            for_the_id: false,
        })
    }

    /// With the id that the file states beside it.
    pub(super) fn stated(self, stated: Option<(Spot, &str)>) -> Self {
        Self {
            stated: stated.map(|(spot, id)| (spot, id.to_owned())),
            ..self
        }
    }

    /// The files that it is made of, whether they are there or not.
    fn files(&self, folder: &Path) -> impl Iterator<Item = PathBuf> {
        let files = [&self.prompt, &self.tools];
        let inside = files.into_iter().filter(|(_, path)| is_inside(path));
        inside.map(|(_, path)| folder.join(path))
    }

    /// `None` where nothing promised one.
    fn id(&self, folder: &Path) -> Option<Result<String, Notice>> {
        // A text that is the prompt itself must not be told as a path that can't be read.
        let is_file = |path: &str| is_inside(path) && folder.join(path).is_file();
        let names_file = |path: &str| is_file(path) || is_plainly_a_path(path);
        let named = names_file(&self.prompt.1) && names_file(&self.tools.1);
        if !self.for_the_id && !named {
            return None;
        }
        let id = || {
            let prompt = text_of(folder, &self.prompt)?;
            let tools = text_of(folder, &self.tools)?;
            sekuire_id(&self.model, &prompt, &tools)
                .map_err(|error| not_computed(&self.tools, &error))
        };
        Some(id())
    }

    /// What to remark where the file states another id than this one.
    fn differs_from(&self, id: &str) -> Option<Notice> {
        let (spot, stated) = self.stated.as_ref()?;
        let (told, section) = (shown(stated), &self.section);
        let message = format!(
            "is `{told}`, but the model and files under `{section}` make `{id}`, which is told instead"
        );
        (stated != id).then(|| spot.notice(message))
    }

    /// What to remark if the policy is signed: nothing that is signed says what the files make.
    fn is_open(&self) -> Option<Notice> {
        let ((spot, prompt), (_, tools)) = (&self.prompt, &self.tools);
        let (prompt, tools) = (shown(prompt), shown(tools));
        let message = format!(
            "`{prompt}` and `{tools}` are not signed, and whoever changes them changes the agent's id: \
             state it as `sekuire_id`, so that another one is remarked on"
        );
        self.stated.is_none().then(|| spot.notice(message))
    }
}

fn named(section: &Field<'_>, key: &str) -> Option<(Spot, String)> {
    let field = section.below(key)?;
    let text = field.node.text().filter(|text| !text.is_empty())?;
    Some((field.spot(), text.to_owned()))
}

impl Rules {
    /// Computes the agent's id from the files beside the policy, and those of the file's other agents. They are no
    /// rules, so that one that can't be read is worth a remark and no more.
    pub(super) fn identify(&mut self, folder: &Path) {
        let all = self
            .made_of
            .iter()
            .chain(self.others.iter().map(|(_, made_of)| made_of));
        let files: BTreeSet<_> = all.flat_map(|made_of| made_of.files(folder)).collect();
        self.inner.beside.extend(files);
        // Agents may share a file, and a policy may name one for each of them.
        let (mut prompts, mut tools) = (HashMap::new(), HashMap::new());
        for (agent, made_of) in &self.others {
            let text = |named| text_of(folder, named).ok();
            let prompt = prompts
                .entry(folder.join(&made_of.prompt.1))
                .or_insert_with(|| Some(hash_of_prompt(&text(&made_of.prompt)?)));
            let tools = tools
                .entry(folder.join(&made_of.tools.1))
                .or_insert_with(|| hash_of_tools(&text(&made_of.tools)?).ok());
            if let (Some(prompt), Some(tools)) = (prompt, tools) {
                let id = id_of(&made_of.model, prompt, tools);
                self.inner.warnings.extend(made_of.differs_from(&id));
                self.unsigned_id = self.unsigned_id.take().or_else(|| made_of.is_open());
                self.inner.other_ids.insert(agent.clone(), Some(id));
            }
        }
        let Some(made_of) = self.made_of.take() else {
            return;
        };
        match made_of.id(folder) {
            Some(Ok(id)) => {
                self.inner.warnings.extend(made_of.differs_from(&id));
                self.unsigned_id = made_of.is_open().or(self.unsigned_id.take());
                self.inner.sekuire_id = Some(id);
            }
            Some(Err(notice)) => self.inner.warnings.push(notice),
            None => {}
        }
    }
}

/// Whether a text can be nothing but a path: one word that begins or ends as paths do. A prompt, which may hold what
/// nobody should read in a log, is a sentence.
fn is_plainly_a_path(text: &str) -> bool {
    let begins = ["./", "../", "/"]
        .iter()
        .any(|start| text.starts_with(start));
    let ends = [".md", ".txt", ".json", ".yml", ".yaml"]
        .iter()
        .any(|end| text.ends_with(end));
    !text.contains(char::is_whitespace) && (begins || ends)
}

/// Whether a path that is named from the policy's folder lies in it.
fn is_inside(path: &str) -> bool {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    Path::new(path).components().all(inside)
}

/// Reads a file that is named from the policy's folder and lies in it.
fn text_of(folder: &Path, named @ (spot, path): &(Spot, String)) -> Result<String, Notice> {
    if !is_inside(path) {
        let path = shown(path);
        let message = format!(
            "`{path}` leads out of the policy's folder and is not read: the agent's id is not computed"
        );
        return Err(spot.notice(message));
    }
    loader::read(&folder.join(path)).map_err(|error| not_computed(named, &error))
}

fn not_computed((spot, path): &(Spot, String), error: &PolicyError) -> Notice {
    let source = error.source().and_then(|source| source.downcast_ref());
    let why = match source.map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => "there is no such file",
        _ => error.problems().first().map_or("", Problem::message),
    };
    let path = shown(path);
    spot.notice(format!("`{path}`: {why}: the agent's id is not computed"))
}

/// BLAKE3, in hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Of how many agents ids are computed, besides the one that is chosen: each costs reading two files.
pub(super) const MOST_OTHERS: usize = 100;

#[cfg(test)]
mod tests {
    use super::sekuire_id;

    #[test]
    fn an_agent_has_the_id_that_sekuire_gives_it() {
        let search = "3245e125eef4bf5373ce3c7ef1117f97803134da57da937dc7b0dbe020a36105";
        let hello = "fa70f9f2f6f05c7fa9bedd2143b1c9e2086539a38a15fa664a6c27d0f31a6be1";
        for (model, prompt, tools, id) in [
            (
                "claude-3.5-sonnet",
                "Analyze documents.",
                r#"{"name":"search","type":"function"}"#,
                search,
            ),
            (
                "claude-3.5-sonnet",
                "Analyze documents.",
                r#"{ "type" :  "function", "name":"search" }"#,
                search,
            ),
            ("gpt-4o", "hello", "[]", hello),
            ("gpt-4o", "  hello\n", " [ ] ", hello),
        ] {
            assert_eq!(sekuire_id(model, prompt, tools).unwrap(), id);
        }
    }

    #[test]
    fn tools_that_are_not_json_are_taken_as_they_are() {
        assert_ne!(
            sekuire_id("m", "p", "[").unwrap(),
            sekuire_id("m", "p", "[ ").unwrap()
        );
    }

    #[test]
    fn tools_that_two_readers_take_differently_have_no_id() {
        let error = sekuire_id("m", "p", r#"{"a":1,"a":2}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1, column 8: has a key given twice\n  help: keep one of them"
        );
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(sekuire_id("m", "p", &deep).is_err());
    }
}
