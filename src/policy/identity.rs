//! The id that Sekuire gives an agent: a hash of what it is made of.

use std::error::Error;
use std::io;
use std::path::{Component, Path};

use serde::de::IgnoredAny;

use super::Notice;
use super::canonical::canonical;
use super::compile::Rules;
use super::document::{self, Format};
use super::error::{Draft, PolicyError, Problem, shown};
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
    let refused = |draft| PolicyError::new(vec![draft], tools, Format::Json);
    let prompt = hash(system_prompt.trim());
    let tools = if serde_json::from_str::<IgnoredAny>(tools).is_ok() {
        let root = document::parse(tools, Format::Json).map_err(refused)?;
        let text = canonical(&root);
        hash(&text.map_err(|why| refused(Draft::new("", why)))?)
    } else {
        hash(tools)
    };
    Ok(hash(&format!(
        "model:{model}|prompt:{prompt}|tools:{tools}"
    )))
}

/// What a policy says its agent's id is made of: `identity`, with the paths of the prompt and of the tools.
#[derive(Clone, Debug)]
pub(super) struct MadeOf {
    model: String,
    prompt: (Spot, String),
    tools: (Spot, String),
    stated: Option<(Spot, String)>,
}

impl MadeOf {
    /// `None` unless all three are named.
    pub(super) fn read(identity: &Field<'_>) -> Option<Self> {
        let named = |key: &str| {
            let field = identity.below(key)?;
            let text = field.node.text().filter(|text| !text.is_empty())?;
            Some((field.spot(), text.to_owned()))
        };
        Some(Self {
            model: named("model")?.1,
            prompt: named("system_prompt_path")?,
            tools: named("tools_path")?,
            stated: None,
        })
    }

    /// With the id that the file states beside it.
    pub(super) fn stated(self, stated: Option<(Spot, &str)>) -> Self {
        Self {
            stated: stated.map(|(spot, id)| (spot, id.to_owned())),
            ..self
        }
    }

    fn id(&self, folder: &Path) -> Result<String, Notice> {
        let prompt = text_of(folder, &self.prompt)?;
        let tools = text_of(folder, &self.tools)?;
        sekuire_id(&self.model, &prompt, &tools).map_err(|error| not_computed(&self.tools, &error))
    }
}

impl Rules {
    /// Computes the agent's id from the files beside the policy. They are no rules, so that one that can't be read is
    /// worth a remark and no more.
    pub(super) fn identify(&mut self, folder: &Path) {
        let Some(made_of) = self.made_of.take() else {
            return;
        };
        match made_of.id(folder) {
            Ok(id) => {
                if let Some((spot, stated)) = made_of.stated
                    && stated != id
                {
                    let stated = shown(&stated);
                    let message = format!(
                        "is `{stated}`, but the model and files under `identity` make `{id}`, which is told instead"
                    );
                    self.inner.warnings.push(spot.notice(message));
                }
                self.inner.sekuire_id = Some(id);
            }
            Err(notice) => self.inner.warnings.push(notice),
        }
    }
}

/// Reads a file that is named from the policy's folder and lies in it.
fn text_of(folder: &Path, named @ (spot, path): &(Spot, String)) -> Result<String, Notice> {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(path).components().all(inside) {
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
        assert_eq!(error.to_string(), "has a key given twice");
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert!(sekuire_id("m", "p", &deep).is_err());
    }
}
