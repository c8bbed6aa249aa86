//! The id that Sekuire gives an agent: a hash of what it is made of.

use serde::de::IgnoredAny;

use super::canonical::canonical;
use super::document::{self, Format};
use super::error::{Draft, PolicyError};

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
