//! A request's body to facts: which models, which tools, how it wants its answer.
//!
//! Only chat completions are read here (<https://platform.openai.com/docs/api-reference/chat/create>). Every
//! place that can name a model or a tool is listed in one `match`; a key that is one of them but for its case is
//! refused, because some servers would read it as that key.

use std::borrow::Cow;

use super::error::{Result, WireError};
use super::json::{Kind, Reader, Scratch, is_case_variant};
use super::tool::Tool;

/// A tool definition list this long is no agent's.
const MAX_TOOLS: usize = 4_096;
/// An image or file in a message counts as this many tokens in an estimate.
const TOKENS_PER_PART: u64 = 1_500;
/// Text of this many bytes counts as one token in an estimate: fewer than real text needs, so it errs upwards.
const BYTES_PER_TOKEN: u64 = 3;

/// What a request asks for, as far as a policy can care.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// `model` as the request states it; `None` when it is absent.
    pub(crate) model: Option<String>,
    /// Further models that the request could end up at, such as a list of fallbacks.
    pub(crate) more_models: Vec<String>,
    /// A key that lets the server choose a model that the request doesn't name.
    pub(crate) hidden_model: Option<&'static str>,
    pub(crate) tools: Vec<Tool>,
    /// Tools that the conversation so far names.
    pub(crate) history: Vec<String>,
    pub(crate) stream: bool,
    /// How many choices the answer may have (`n`).
    pub(crate) choices: Option<u64>,
    /// The most tokens the answer may have, as the request itself caps it.
    pub(crate) output_cap: Option<u64>,
    /// An upper estimate of the prompt's length in tokens.
    pub(crate) prompt_tokens: u64,
}

/// The keys of a chat request whose meaning this module knows.
const CHAT_KEYS: &[&str] = &[
    "agent_id",
    "compound_custom",
    "data_sources",
    "extra_body",
    "fallbacks",
    "function_call",
    "functions",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "models",
    "moderation",
    "n",
    "plugins",
    "response_format",
    "route",
    "search_parameters",
    "search_settings",
    "stream",
    "stream_options",
    "tool_choice",
    "tools",
    "web_search_options",
];

/// Reads the body of a chat completion request.
///
/// # Errors
/// When the body is not strict JSON, or a field that names a model or a tool has another shape than documented.
pub(crate) fn read_chat(body: &[u8], scratch: &mut Scratch) -> Result<RequestFacts> {
    let mut facts = RequestFacts::default();
    let mut size = PromptSize::default();
    let mut reader = Reader::new(body, scratch)?;
    if reader.kind()? != Kind::Object {
        return Err(WireError::new("the body is not a JSON object"));
    }
    reader.object(|r, key| match key {
        "model" => {
            if r.kind()? != Kind::String {
                return Err(WireError::at("`model` is not a string", r.position()));
            }
            facts.model = Some(r.string()?.into_owned());
            Ok(())
        }
        "models" => optional(r, |r| {
            r.array(|r| {
                let model = named(r, "`models` holds something other than model names")?;
                facts.more_models.push(model.into_owned());
                Ok(())
            })
        }),
        "moderation" => optional(r, |r| {
            fields(r, "`moderation` is not an object", &["model"], |r, key| {
                if key == "model" {
                    facts
                        .more_models
                        .push(named(r, "`moderation.model` is not a string")?.into_owned());
                    return Ok(());
                }
                r.skip()
            })
        }),
        "fallbacks" => present(r, || facts.hidden_model = Some("fallbacks")),
        "agent_id" => present(r, || facts.hidden_model = Some("agent_id")),
        "route" => present(r, || facts.hidden_model = Some("route")),
        "extra_body" => present(r, || facts.hidden_model = Some("extra_body")),
        "tools" => optional(r, |r| {
            let start = r.position();
            list(r, "`tools` is not a list", |r| {
                let tools = &mut facts.tools;
                bounded(tools, r)?;
                tool(r, tools)
            })?;
            size.text += (r.position() - start) as u64;
            Ok(())
        }),
        "functions" => optional(r, |r| {
            let start = r.position();
            list(r, "`functions` is not a list", |r| {
                bounded(&facts.tools, r)?;
                let mut name = None;
                fields(r, "a function is not an object", &["name"], |r, key| {
                    if key == "name" {
                        name = Some(named(r, "a function's name is not a string")?.into_owned());
                        return Ok(());
                    }
                    r.skip()
                })?;
                let Some(name) = name else {
                    return Err(WireError::at("a function without a name", r.position()));
                };
                facts.tools.push(Tool::function(name));
                Ok(())
            })?;
            size.text += (r.position() - start) as u64;
            Ok(())
        }),
        "function_call" => optional(r, |r| match r.kind()? {
            Kind::String => {
                let mode = r.string()?;
                if matches!(&*mode, "none" | "auto") {
                    return Ok(());
                }
                Err(WireError::at(
                    "`function_call` is neither `none`, `auto` nor an object",
                    r.position(),
                ))
            }
            _ => fields(
                r,
                "`function_call` is neither a string nor an object",
                &["name"],
                |r, key| {
                    if key == "name" {
                        facts.tools.push(Tool::function(named(
                            r,
                            "`function_call.name` is not a string",
                        )?));
                        return Ok(());
                    }
                    r.skip()
                },
            ),
        }),
        "tool_choice" => optional(r, |r| match r.kind()? {
            Kind::String => {
                let mode = r.string()?;
                if matches!(&*mode, "none" | "auto" | "required" | "any") {
                    return Ok(());
                }
                Err(WireError::at(
                    "`tool_choice` is a word that is not documented",
                    r.position(),
                ))
            }
            _ => tool(r, &mut facts.tools),
        }),
        "web_search_options" => present(r, || facts.tools.push(Tool::typed("web_search"))),
        // Keys of compatible providers that switch on tools the provider runs.
        "plugins" => present(r, || facts.tools.push(Tool::typed("plugins"))),
        "search_parameters" => present(r, || facts.tools.push(Tool::typed("search_parameters"))),
        "search_settings" => present(r, || facts.tools.push(Tool::typed("search_settings"))),
        "compound_custom" => present(r, || facts.tools.push(Tool::typed("compound_custom"))),
        "data_sources" => present(r, || facts.tools.push(Tool::typed("data_sources"))),
        "stream" => optional(r, |r| {
            if r.kind()? != Kind::Bool {
                return Err(WireError::at("`stream` is not a boolean", r.position()));
            }
            facts.stream = r.boolean()?;
            Ok(())
        }),
        "stream_options" => optional(r, |r| {
            fields(
                r,
                "`stream_options` is not an object",
                &["include_usage"],
                |r, _| r.skip(),
            )
        }),
        "n" => optional(r, |r| {
            if r.kind()? != Kind::Number {
                return Err(WireError::at("`n` is not a number", r.position()));
            }
            facts.choices = Some(
                r.unsigned()?
                    .ok_or_else(|| WireError::new("`n` is not a whole number"))?,
            );
            Ok(())
        }),
        "max_tokens" | "max_completion_tokens" => optional(r, |r| {
            if r.kind()? != Kind::Number {
                return Err(WireError::at(
                    "the cap on output tokens is not a number",
                    r.position(),
                ));
            }
            let cap = r.unsigned()?;
            facts.output_cap = facts.output_cap.max(cap);
            Ok(())
        }),
        "messages" => list(r, "`messages` is not a list", |r| {
            message(r, &mut facts.history, &mut size)
        }),
        "response_format" => {
            let start = r.position();
            r.skip()?;
            size.text += (r.position() - start) as u64;
            Ok(())
        }
        other => not_a_variant(r, other, CHAT_KEYS),
    })?;
    reader.end()?;
    facts.prompt_tokens = size.tokens();
    Ok(facts)
}

/// A tool definition, or a `tool_choice` that names tools. Every name in it counts, whatever `type` says: which
/// of two names a server takes is the server's affair.
fn tool(r: &mut Reader<'_, '_>, tools: &mut Vec<Tool>) -> Result<()> {
    let before = tools.len();
    let mut kind: Option<String> = None;
    let keys = &[
        "type",
        "name",
        "function",
        "custom",
        "allowed_tools",
        "tools",
    ];
    fields(r, "a tool is not an object", keys, |r, key| match key {
        "type" => {
            kind = Some(named(r, "a tool's type is not a string")?.into_owned());
            Ok(())
        }
        "name" => {
            tools.push(Tool::function(named(r, "a tool's name is not a string")?));
            Ok(())
        }
        "function" | "custom" => optional(r, |r| {
            fields(
                r,
                "a tool's definition is not an object",
                &["name"],
                |r, key| {
                    if key == "name" {
                        tools.push(Tool::function(named(r, "a tool's name is not a string")?));
                        return Ok(());
                    }
                    r.skip()
                },
            )
        }),
        "allowed_tools" => optional(r, |r| {
            fields(
                r,
                "`allowed_tools` is not an object",
                &["tools"],
                |r, key| {
                    if key == "tools" {
                        return list(r, "`allowed_tools.tools` is not a list", |r| {
                            bounded(tools, r)?;
                            tool(r, tools)
                        });
                    }
                    r.skip()
                },
            )
        }),
        "tools" => optional(r, |r| {
            list(r, "a tool's `tools` is not a list", |r| {
                bounded(tools, r)?;
                tool(r, tools)
            })
        }),
        _ => r.skip(),
    })?;
    match kind.as_deref() {
        Some("function" | "custom" | "allowed_tools") if tools.len() > before => {}
        Some("allowed_tools") => {}
        Some("function" | "custom") => {
            return Err(WireError::at("a tool without a name", r.position()));
        }
        Some(hosted) => tools.push(Tool::typed(hosted)),
        None => tools.push(Tool {
            name: String::new(),
            kind: super::tool::Kind::Unknown,
        }),
    }
    Ok(())
}

/// One message of the conversation so far: the tools it names, and how much text it is.
fn message(r: &mut Reader<'_, '_>, history: &mut Vec<String>, size: &mut PromptSize) -> Result<()> {
    if r.kind()? != Kind::Object {
        return Err(WireError::at("a message is not an object", r.position()));
    }
    let mut note = |name: Cow<'_, str>| {
        if history.len() < MAX_TOOLS
            && !name.is_empty()
            && !history.iter().any(|known| *known == name)
        {
            history.push(name.into_owned());
        }
    };
    r.object(|r, key| match key {
        "content" => content(r, size),
        "tool_calls" if r.kind()? == Kind::Array => r.array(|r| {
            if r.kind()? != Kind::Object {
                return r.skip();
            }
            r.object(|r, key| match key {
                "function" | "custom" if r.kind()? == Kind::Object => {
                    r.object(|r, key| call_part(r, key, &mut note, size))
                }
                _ => r.skip(),
            })
        }),
        "function_call" if r.kind()? == Kind::Object => {
            r.object(|r, key| call_part(r, key, &mut note, size))
        }
        _ => text(r, size),
    })
}

fn call_part(
    r: &mut Reader<'_, '_>,
    key: &str,
    note: &mut impl FnMut(Cow<'_, str>),
    size: &mut PromptSize,
) -> Result<()> {
    if key == "name" && r.kind()? == Kind::String {
        note(r.string()?);
        return Ok(());
    }
    text(r, size)
}

/// A message's content: a string, or parts of which some are images, sound or files.
fn content(r: &mut Reader<'_, '_>, size: &mut PromptSize) -> Result<()> {
    if r.kind()? != Kind::Array {
        return text(r, size);
    }
    r.array(|r| {
        if r.kind()? != Kind::Object {
            return text(r, size);
        }
        r.object(|r, key| match key {
            "text" | "refusal" => text(r, size),
            "image_url" | "input_audio" | "file" => {
                size.parts += 1;
                r.skip()
            }
            _ => r.skip(),
        })
    })
}

/// Counts a string's bytes; other values count nothing.
fn text(r: &mut Reader<'_, '_>, size: &mut PromptSize) -> Result<()> {
    if r.kind()? == Kind::String {
        size.text += r.string_len()? as u64;
        return Ok(());
    }
    r.skip()
}

/// How much a prompt holds.
#[derive(Debug, Default)]
struct PromptSize {
    /// In bytes.
    text: u64,
    /// Images, sounds and files.
    parts: u64,
}

impl PromptSize {
    fn tokens(&self) -> u64 {
        text_tokens(self.text).saturating_add(self.parts.saturating_mul(TOKENS_PER_PART))
    }
}

/// An upper estimate of the tokens in this many bytes of text.
pub(crate) const fn text_tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

fn bounded(tools: &[Tool], r: &Reader<'_, '_>) -> Result<()> {
    if tools.len() >= MAX_TOOLS {
        return Err(WireError::at("more than 4096 tools", r.position()));
    }
    Ok(())
}

/// `null` in an optional field means that the field is absent.
fn optional(
    r: &mut Reader<'_, '_>,
    read: impl FnOnce(&mut Reader<'_, '_>) -> Result<()>,
) -> Result<()> {
    if r.null()? { Ok(()) } else { read(r) }
}

/// A field that matters by being there at all.
fn present(r: &mut Reader<'_, '_>, found: impl FnOnce()) -> Result<()> {
    optional(r, |r| {
        found();
        r.skip()
    })
}

fn list(
    r: &mut Reader<'_, '_>,
    wrong: &'static str,
    item: impl FnMut(&mut Reader<'_, '_>) -> Result<()>,
) -> Result<()> {
    if r.kind()? != Kind::Array {
        return Err(WireError::at(wrong, r.position()));
    }
    // The closure's reader has the list's own lifetimes.
    let mut item = item;
    r.array(|r| item(r))
}

/// An object of which `keys` have a meaning here; `read` reads those and skips the rest.
fn fields(
    r: &mut Reader<'_, '_>,
    wrong: &'static str,
    keys: &[&str],
    mut read: impl FnMut(&mut Reader<'_, '_>, &str) -> Result<()>,
) -> Result<()> {
    if r.kind()? != Kind::Object {
        return Err(WireError::at(wrong, r.position()));
    }
    r.object(|r, key| {
        if keys.contains(&key) {
            read(r, key)
        } else {
            not_a_variant(r, key, keys)
        }
    })
}

fn not_a_variant(r: &mut Reader<'_, '_>, key: &str, governed: &[&str]) -> Result<()> {
    if is_case_variant(key, governed) {
        return Err(WireError::at(
            "a key that is a known key in another case",
            r.key_start(),
        ));
    }
    r.skip()
}

fn named<'a>(r: &mut Reader<'a, '_>, wrong: &'static str) -> Result<Cow<'a, str>> {
    if r.kind()? != Kind::String {
        return Err(WireError::at(wrong, r.position()));
    }
    r.string()
}
