//! What a call is taken to cost while nobody has said what it did, and who pays.

use std::fmt;
use std::sync::Arc;

use http::request;

use crate::policy::DomainPattern;
use crate::violation::{PolicyViolation, Rule, Seen};
use crate::wire::request::RequestFacts;

/// An image or file in a prompt counts as this many tokens.
const TOKENS_PER_FILE: u64 = 1_500;
/// Text of this many bytes counts as one token: fewer than real text needs, so it errs upwards.
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens that an answer may have when its request doesn't say.
const DEFAULT_OUTPUT_TOKENS: u64 = 4_096;
/// An answer whose length the provider caps outgrows its cap when there are so many bytes to each token of it: more
/// than any text has, so only a provider that ignores the cap is caught.
const CAPPED_BYTES_PER_TOKEN: u64 = 8;
/// The longest key that an agent may count under, in bytes.
const MAX_KEY: usize = 256;

/// What is known of a prompt, for an estimate of its tokens.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Prompt<'a> {
    /// The model that the request names.
    pub model: Option<&'a str>,
    /// Bytes of text in messages, instructions and definitions, as they stand in JSON; base64 and data URLs left out.
    pub text_bytes: u64,
    /// Images, sounds and files.
    pub files: u64,
    /// The request's body, whole. It holds what must not be logged.
    pub body: &'a [u8],
}

impl fmt::Debug for Prompt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt")
            .field("model", &self.model)
            .field("text_bytes", &self.text_bytes)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Estimates tokens where a provider has not reported them: before a call, and when a stream ends without usage.
///
/// An estimate below the truth lets calls in flight cross a budget together; one above it refuses calls that would
/// have fitted. The default errs upwards: three bytes of text a token, 1,500 tokens a file.
///
/// ```
/// use tower_sekuire::{EstimateTokens, Policy, Prompt, SekuireLayer};
///
/// /// Four bytes a token, as English has it.
/// struct English;
///
/// impl EstimateTokens for English {
///     fn prompt_tokens(&self, prompt: &Prompt<'_>) -> u64 {
///         prompt.text_bytes.div_ceil(4) + prompt.files * 1_000
///     }
///     fn output_tokens(&self, text_bytes: u64) -> u64 {
///         text_bytes.div_ceil(4)
///     }
/// }
///
/// let policy = Policy::from_yaml("rate_limits: { per_agent: { tokens_per_hour: 100000 } }")?;
/// let layer = SekuireLayer::new(policy).estimate_tokens(English);
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
pub trait EstimateTokens: Send + Sync + 'static {
    /// Tokens of a prompt. Called once a request, on its own task: it must not block.
    fn prompt_tokens(&self, prompt: &Prompt<'_>) -> u64;

    /// Tokens of so many bytes of generated text, escapes counted as written.
    fn output_tokens(&self, text_bytes: u64) -> u64 {
        text_bytes.div_ceil(BYTES_PER_TOKEN)
    }
}

/// The estimate unless configured.
#[derive(Debug)]
struct Bytes;

impl EstimateTokens for Bytes {
    fn prompt_tokens(&self, prompt: &Prompt<'_>) -> u64 {
        let files = prompt.files.saturating_mul(TOKENS_PER_FILE);
        prompt
            .text_bytes
            .div_ceil(BYTES_PER_TOKEN)
            .saturating_add(files)
    }
}

/// The agent that a request counts for, among the request's extensions: its limits `per_agent` are its own.
///
/// Without one, and without [`SekuireLayer::agent_key`](crate::SekuireLayer::agent_key), all requests count for the
/// policy's agent. Whoever lets callers choose their key lets them choose their budget: authenticate it first. A key
/// has at most 256 bytes.
///
/// ```
/// use tower_sekuire::AgentKey;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(AgentKey::new("billing-bot"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentKey(Arc<str>);

impl AgentKey {
    /// A key. Cloning it doesn't allocate.
    #[must_use]
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which agent a request counts for; none is the policy's.
pub(crate) type KeyOf = Arc<dyn Fn(&request::Parts) -> Option<AgentKey> + Send + Sync>;

/// How calls are charged.
#[derive(Clone)]
pub(crate) struct Accounting {
    pub(crate) estimate: Arc<dyn EstimateTokens>,
    /// An estimate is reserved when a call is admitted.
    pub(crate) reserves: bool,
    pub(crate) default_output_tokens: u64,
    /// A stream that outgrows its reservation, where nothing is left, is cut.
    pub(crate) cuts: bool,
    /// Streams are asked for their usage.
    pub(crate) asks_for_usage: bool,
    /// Hosts that refuse to be asked.
    pub(crate) no_stream_options: Vec<DomainPattern>,
    /// Answers say what is left.
    pub(crate) headers: bool,
    pub(crate) key_of: Option<KeyOf>,
}

impl Default for Accounting {
    fn default() -> Self {
        Self {
            estimate: Arc::new(Bytes),
            reserves: true,
            default_output_tokens: DEFAULT_OUTPUT_TOKENS,
            cuts: true,
            asks_for_usage: true,
            no_stream_options: Vec::new(),
            headers: false,
            key_of: None,
        }
    }
}

impl fmt::Debug for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounting")
            .field("reserves", &self.reserves)
            .field("default_output_tokens", &self.default_output_tokens)
            .field("cuts", &self.cuts)
            .field("asks_for_usage", &self.asks_for_usage)
            .field("no_stream_options", &self.no_stream_options)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Accounting {
    /// The agent that a request counts for; `None` is the policy's.
    ///
    /// # Errors
    /// When the key is longer than one may be: it would be kept for as long as its windows count.
    pub(crate) fn agent(&self, head: &request::Parts) -> Result<Option<Arc<str>>, PolicyViolation> {
        let chosen = self.key_of.as_ref().and_then(|key_of| key_of(head));
        let key = match chosen.or_else(|| head.extensions.get::<AgentKey>().cloned()) {
            None => return Ok(None),
            Some(AgentKey(key)) => key,
        };
        if key.len() > MAX_KEY {
            return Err(PolicyViolation::new(
                Rule::RequestUnreadable,
                Seen::Request,
                "the agent's key is longer than 256 bytes",
            ));
        }
        Ok(Some(key))
    }

    pub(crate) fn prompt_tokens(&self, facts: &RequestFacts<'_>, body: &[u8]) -> u64 {
        self.estimate.prompt_tokens(&Prompt {
            model: facts.model.as_deref(),
            text_bytes: facts.text,
            files: facts.parts,
            body,
        })
    }

    /// The most tokens that the answer to a request may have, as far as anyone says.
    pub(crate) fn output_tokens(&self, facts: &RequestFacts<'_>) -> u64 {
        facts
            .output_cap
            .unwrap_or(self.default_output_tokens)
            .saturating_mul(facts.choices.unwrap_or(1).max(1))
            .saturating_mul(facts.prompts.max(1))
    }

    /// At least this many tokens were generated when there were so many bytes; where the request capped them, less is
    /// assumed of each byte.
    pub(crate) fn surely_generated(&self, text_bytes: u64, capped: bool) -> u64 {
        if capped {
            text_bytes / CAPPED_BYTES_PER_TOKEN
        } else {
            self.estimate.output_tokens(text_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fields;
    use crate::wire::json::Scratch;

    fn facts(fields: fields::Fields, body: &str) -> RequestFacts<'_> {
        crate::wire::request::read(body.as_bytes(), fields, &mut Scratch::default()).unwrap()
    }

    #[test]
    fn a_prompt_is_estimated_from_its_text_and_its_parts() {
        let tokens =
            |body: &str| Accounting::default().prompt_tokens(&facts(fields::CHAT, body), b"");
        assert_eq!(
            tokens(r#"{"messages":[{"role":"user","content":"123456"}]}"#),
            2
        );
        assert_eq!(
            tokens(
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"1234567"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#
            ),
            1_503
        );
        assert_eq!(
            Accounting::default()
                .prompt_tokens(&facts(fields::COMPLETIONS, r#"{"prompt":[1,2,3,4]}"#), b""),
            4
        );
    }

    #[test]
    fn an_answer_may_have_what_its_request_says_or_the_default_for_each_choice() {
        let tokens = |body: &str| Accounting::default().output_tokens(&facts(fields::CHAT, body));
        assert_eq!(tokens("{}"), 4_096);
        assert_eq!(tokens(r#"{"n":3}"#), 3 * 4_096);
        assert_eq!(tokens(r#"{"max_tokens":10,"n":3}"#), 30);
        assert_eq!(
            tokens(r#"{"max_tokens":10,"max_completion_tokens":20}"#),
            20
        );
        assert_eq!(tokens(r#"{"max_tokens":null}"#), 4_096);
        for unbounded in ["-1", "1e9", "1.5", "99999999999999999999"] {
            let body = format!(r#"{{"max_tokens":{unbounded},"n":2}}"#);
            assert_eq!(tokens(&body), u64::MAX, "{unbounded}");
        }
    }
}
