//! A request's body to facts: which models, which tools, how it wants its answer.
//!
//! Which key means what stands in [`fields`](super::fields); here is how each meaning is read. Every name of a tool
//! counts, whatever the `type` beside it says: which of two names a server takes is the server's affair.

use std::borrow::Cow;
use std::cell::Cell;

use super::error::{Result, WireError};
use super::fields::{Fields, Read};
use super::json::{Kind, Reader, Scratch, is_case_variant, is_unusual};
use super::known_keys::Orders;
use super::known_messages::{Messages, Site};
use super::known_tools;
use super::shape::Filling;
use super::splice::{self, UsageAsked};
use super::tool::{Mcp, Mention, Tool};

/// More tools than any agent has.
const MAX_TOOLS: usize = 4_096;

/// So many names and approvals are remembered of a conversation: each that comes is compared with those before it.
const MAX_REMEMBERED: usize = 512;

/// Room for the first few of a list is made at once: few agents have more tools.
const SEVERAL: usize = 8;

/// What a request asks for, as far as a policy can care.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFacts<'a> {
    /// `model` as the request states it; `None` when it is absent.
    pub(crate) model: Option<Cow<'a, str>>,
    /// Further models that the request could end up at, such as a list of fallbacks.
    pub(crate) more_models: Vec<Cow<'a, str>>,
    /// A key that lets the server choose a model that the request doesn't name.
    pub(crate) hidden_model: Option<&'static str>,
    /// Ids of stored prompts, agents and workflows, which bring models and tools of their own.
    pub(crate) stored: Vec<Cow<'a, str>>,
    pub(crate) tools: Vec<Mention<Cow<'a, str>>>,
    pub(crate) mcp: Vec<Mcp<'a>>,
    /// Hosted MCP calls that the request approves; `None` when it can't be known which.
    pub(crate) approvals: Vec<Option<Tool>>,
    /// Tools that the conversation so far names.
    pub(crate) history: Vec<Cow<'a, str>>,
    /// It names more of them than are kept.
    pub(crate) more_history: bool,
    /// The conversation goes on from state that the server keeps.
    pub(crate) server_state: bool,
    pub(crate) stream: bool,
    /// Whether and where the request asks for the stream's usage.
    pub(crate) usage_asked: UsageAsked,
    /// The run goes on after the answer to this request.
    pub(crate) background: bool,
    /// How many choices the answer may have (`n`).
    pub(crate) choices: Option<u64>,
    /// How many prompts get that many choices each; 0 where there is no list of them.
    pub(crate) prompts: u64,
    /// The most tokens the answer may have, as the request itself caps it.
    pub(crate) output_cap: Option<u64>,
    /// Bytes of text in the prompt.
    pub(crate) text: u64,
    /// Images, sounds and files in the prompt.
    pub(crate) parts: u64,
}

/// Room for lists, which one request after another uses again.
#[derive(Debug, Default)]
struct Room {
    tools: Vec<Mention<Cow<'static, str>>>,
    history: Vec<Cow<'static, str>>,
}

thread_local! {
    static ROOM: Cell<Room> = const { Cell::new(Room { tools: Vec::new(), history: Vec::new() }) };
}

/// No more room than this is kept, in entries of a list. Few agents have as many tools.
const KEPT_ROOM: usize = 256;

impl<'a> RequestFacts<'a> {
    fn new() -> Self {
        let room = ROOM.try_with(Cell::take).unwrap_or_default();
        Self {
            tools: room.tools,
            history: room.history,
            ..Self::default()
        }
    }

    /// Leaves the lists' room to the next request.
    pub(crate) fn recycle(mut self) {
        self.tools.clear();
        self.history.clear();
        if self.tools.capacity().max(self.history.capacity()) > KEPT_ROOM {
            return;
        }
        // Empty as they are: collected in place, which keeps the room.
        let owned = |name: Cow<'a, str>| Cow::Owned(name.into_owned());
        let tools = self.tools.into_iter();
        let room = Room {
            tools: tools
                .map(|tool| Mention {
                    name: owned(tool.name),
                    kind: tool.kind,
                    short_name: tool.short_name.map(owned),
                })
                .collect(),
            history: self.history.into_iter().map(owned).collect(),
        };
        let _ = ROOM.try_with(|kept| kept.set(room));
    }

    pub(super) fn note(&mut self, name: Cow<'a, str>) {
        let known = self.history.len();
        self.note_perhaps(name);
        self.settle(known);
    }

    /// Notes a name that is yet to be [settled](Self::settle), or else taken away again.
    pub(super) fn note_perhaps(&mut self, name: Cow<'a, str>) {
        make_room(&mut self.history);
        self.history.push(name);
    }

    /// Keeps of the names from this place on those that are new.
    pub(super) fn settle(&mut self, from: usize) {
        let mut end = from;
        for at in from..self.history.len() {
            let (known, names) = self.history.split_at(end);
            let is_new = |name: &Cow<'_, str>| !name.is_empty() && !known.contains(name);
            if self.more_history || !names.get(at - end).is_some_and(is_new) {
                continue;
            }
            if end >= MAX_REMEMBERED {
                self.more_history = true;
                continue;
            }
            self.history.swap(end, at);
            end += 1;
        }
        self.history.truncate(end);
    }

    /// Whether another tool may be declared.
    pub(super) fn has_room(&self) -> bool {
        self.tools.len() < MAX_TOOLS
    }

    pub(super) fn declare(&mut self, tool: Mention<Cow<'a, str>>) {
        make_room(&mut self.tools);
        self.tools.push(tool);
    }
}

fn make_room<T>(list: &mut Vec<T>) {
    if list.capacity() == 0 {
        list.reserve_exact(SEVERAL);
    }
}

#[cfg(fuzzing)]
pub(super) fn forget_keys() {
    ORDERS.take();
}

/// Reads the JSON body of a request whose keys mean what `fields` says.
///
/// # Errors
/// When the body is not strict JSON, or a field that names a model or a tool has another shape than documented.
pub(crate) fn read<'a>(
    body: &'a [u8],
    fields: Fields,
    scratch: &mut Scratch,
) -> Result<RequestFacts<'a>> {
    let mut facts = RequestFacts::new();
    let mut reader = Reader::new(body, scratch)?;
    if reader.kind()? != Kind::Object {
        return Err(WireError::new("the body is not a JSON object"));
    }
    Orders::lend(&ORDERS, |orders| {
        orders.object(
            &mut reader,
            fields,
            |r, key| meaning(r, key, fields),
            |r, meaning| member(r, meaning, &mut facts),
        )
    })?;
    reader.end()?;
    Ok(facts)
}

/// Reads one field of a form as its JSON counterpart is read: text that is no JSON by itself is a string.
///
/// # Errors
/// When the value doesn't fit the field's meaning.
pub(crate) fn read_form_field<'a>(
    name: &str,
    value: &'a [u8],
    fields: Fields,
    facts: &mut RequestFacts<'a>,
) -> Result<()> {
    let text =
        std::str::from_utf8(value).map_err(|_| WireError::new("a form field is not UTF-8"))?;
    let Some((key, meaning)) = fields.iter().find(|(key, _)| *key == name) else {
        if is_variant(name, fields) {
            return Err(WireError::new(
                "a form field that is a known field in another case",
            ));
        }
        // `svg[model]` is a member of `svg` to many servers, and `model[]` a list of models.
        let head = name.split(['[', '.']).next().unwrap_or_default();
        if head != name && fields.iter().any(|(key, _)| key.eq_ignore_ascii_case(head)) {
            return Err(WireError::new(
                "a form field that is a part of a known field",
            ));
        }
        return Ok(());
    };
    match meaning {
        Read::Model if facts.model.is_some() => {
            Err(WireError::new("two form fields name the model"))
        }
        Read::Model => {
            facts.model = Some(Cow::Borrowed(text));
            Ok(())
        }
        Read::Text => {
            facts.text = facts.text.saturating_add(text.len() as u64);
            Ok(())
        }
        _ => {
            let mut scratch = Scratch::default();
            let mut reader = Reader::new(text.as_bytes(), &mut scratch)?;
            self::value(&mut reader, key, *meaning, facts)?;
            reader.end()
        }
    }
}

fn is_variant(key: &str, fields: Fields) -> bool {
    is_unusual(key)
        && fields
            .iter()
            .any(|(known, _)| is_case_variant(key, &[known]))
}

/// What a key means.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    Field(&'static str, Read),
    /// Anything but `null` continues from state that the server keeps.
    ServerState,
    /// Nothing to a policy.
    Nothing,
}

fn meaning(r: &Reader<'_, '_>, key: &str, fields: Fields) -> Result<Meaning> {
    if let Some((name, meaning)) = fields.iter().find(|(known, _)| *known == key) {
        return Ok(Meaning::Field(name, *meaning));
    }
    if is_variant(key, fields) {
        return wrong(r, "a key that is a known key in another case");
    }
    Ok(match key {
        "previous_response_id" | "conversation" | "assistant_id" => Meaning::ServerState,
        _ => Meaning::Nothing,
    })
}

fn member<'a>(
    r: &mut Reader<'a, '_>,
    meaning: Meaning,
    facts: &mut RequestFacts<'a>,
) -> Result<()> {
    match meaning {
        Meaning::Field(name, meaning) => return value(r, name, meaning, facts),
        Meaning::ServerState => facts.server_state |= r.kind()? != Kind::Null,
        Meaning::Nothing => {}
    }
    r.skip()
}

fn object<'a>(r: &mut Reader<'a, '_>, fields: Fields, facts: &mut RequestFacts<'a>) -> Result<()> {
    r.object(|r, key| {
        let meaning = meaning(r, key, fields)?;
        member(r, meaning, facts)
    })
}

thread_local! {
    static ORDERS: Cell<Orders<Meaning>> = const { Cell::new(Orders::new()) };
}

fn value<'a>(
    r: &mut Reader<'a, '_>,
    name: &'static str,
    meaning: Read,
    facts: &mut RequestFacts<'a>,
) -> Result<()> {
    if let Read::Model = meaning {
        if r.kind()? != Kind::String {
            return wrong(r, "`model` is not a string");
        }
        let model = r.string()?;
        // One body names one main model; a nested object may name another.
        match facts.model {
            None => facts.model = Some(model),
            Some(_) => facts.more_models.push(model),
        }
        return Ok(());
    }
    if let Read::StreamOptions = meaning {
        facts.usage_asked = splice::read(r)?;
        return Ok(());
    }
    if r.null()? {
        return Ok(());
    }
    match meaning {
        Read::Model | Read::StreamOptions => Ok(()),
        Read::OtherModel => {
            facts
                .more_models
                .push(named(r, "a model's name is not a string")?);
            Ok(())
        }
        Read::OtherModels => list(r, "`models` is not a list", |r| {
            facts
                .more_models
                .push(named(r, "`models` holds something other than model names")?);
            bounded(facts.more_models.len(), r)
        }),
        Read::HiddenModel => {
            facts.hidden_model = Some(name);
            r.skip()
        }
        Read::Stored => stored(r, facts),
        Read::Tools => counted(r, facts, |r, facts| {
            known_tools::read(r, facts, |r, facts| {
                list(r, "`tools` is not a list", |r| {
                    bounded(facts.tools.len(), r)?;
                    definition(r)?.declare("", facts, r)
                })
            })
        }),
        Read::Functions => counted(r, facts, |r, facts| {
            list(r, "`functions` is not a list", |r| {
                bounded(facts.tools.len(), r)?;
                let function = Definition {
                    kind: Some(Cow::Borrowed("function")),
                    ..definition(r)?
                };
                function.declare("", facts, r)
            })
        }),
        Read::ToolChoice => match r.kind()? {
            Kind::String if is_mode(&r.string()?) => Ok(()),
            Kind::String => wrong(r, "`tool_choice` is a word that is not documented"),
            _ => definition(r)?.declare("", facts, r),
        },
        Read::FunctionCall => match r.kind()? {
            Kind::String if is_mode(&r.string()?) => Ok(()),
            Kind::String => wrong(r, "`function_call` is a word that is not documented"),
            _ => {
                let function = Definition {
                    kind: Some(Cow::Borrowed("function")),
                    ..definition(r)?
                };
                function.declare("", facts, r)
            }
        },
        Read::Switch(tool) => {
            facts.declare(Mention::of_type(Cow::Borrowed(tool)));
            r.skip()
        }
        Read::Messages => Messages::lend(|known| {
            list(r, "`messages` is not a list", |r| {
                known.read(r, facts, Site::Message, message)
            })
        }),
        Read::Items => match r.kind()? {
            Kind::Array => items(r, facts),
            _ => text(r, facts),
        },
        Read::Text => text(r, facts),
        Read::Prompts if r.kind()? == Kind::Array => r.array(|r| {
            // A list of numbers is one prompt, in tokens.
            facts.prompts += u64::from(r.kind()? != Kind::Number);
            text(r, facts)
        }),
        Read::Prompts => text(r, facts),
        Read::Stream => {
            if r.kind()? != Kind::Bool {
                return wrong(r, "`stream` is not a boolean");
            }
            facts.stream = r.boolean()?;
            Ok(())
        }
        Read::Background => {
            if r.kind()? != Kind::Bool {
                return wrong(r, "`background` is not a boolean");
            }
            facts.background = r.boolean()?;
            Ok(())
        }
        Read::Choices => {
            if r.kind()? != Kind::Number {
                return wrong(r, "a number of choices is not a number");
            }
            let Some(choices) = r.unsigned()? else {
                return wrong(r, "a number of choices is not a whole number");
            };
            facts.choices = facts.choices.max(Some(choices));
            Ok(())
        }
        Read::OutputCap => {
            if r.kind()? != Kind::Number {
                return wrong(r, "the cap on output tokens is not a number");
            }
            // `-1`, `1e9`: to some server it means as much as it likes.
            let cap = r.unsigned()?.unwrap_or(u64::MAX);
            facts.output_cap = facts.output_cap.max(Some(cap));
            Ok(())
        }
        Read::Object(fields) => {
            expect(
                r,
                Kind::Object,
                "a field that holds models or tools is not an object",
            )?;
            object(r, fields, facts)
        }
        Read::Objects(fields) => list(r, "a field that holds models or tools is not a list", |r| {
            expect(
                r,
                Kind::Object,
                "a list that holds models or tools has an item that is not an object",
            )?;
            object(r, fields, facts)
        }),
        Read::Members(fields) => {
            expect(
                r,
                Kind::Object,
                "a field that holds models or tools is not an object",
            )?;
            r.object(|r, _| {
                expect(
                    r,
                    Kind::Object,
                    "a field that holds models or tools has a member that is not an object",
                )?;
                object(r, fields, facts)
            })
        }
    }
}

fn is_mode(word: &str) -> bool {
    // `any` is a compatible server's `required`.
    matches!(word, "none" | "auto" | "required" | "any")
}

/// The text of definitions is part of the prompt.
fn counted<'a, 's>(
    r: &mut Reader<'a, 's>,
    facts: &mut RequestFacts<'a>,
    read: impl FnOnce(&mut Reader<'a, 's>, &mut RequestFacts<'a>) -> Result<()>,
) -> Result<()> {
    let start = r.position();
    read(r, facts)?;
    facts.text = facts.text.saturating_add((r.position() - start) as u64);
    Ok(())
}

fn stored<'a>(r: &mut Reader<'a, '_>, facts: &mut RequestFacts<'a>) -> Result<()> {
    if r.kind()? == Kind::String {
        facts.stored.push(r.string()?);
        return Ok(());
    }
    expect(
        r,
        Kind::Object,
        "a stored prompt is neither a string nor an object",
    )?;
    let mut id = Cow::Borrowed("");
    r.object(|r, key| match key {
        "id" => {
            id = named(r, "a stored prompt's id is not a string")?;
            Ok(())
        }
        "variables" => text(r, facts),
        _ => r.skip(),
    })?;
    facts.stored.push(id);
    Ok(())
}

/// A tool definition, or another object that names tools the same way.
#[derive(Debug, Default)]
struct Definition<'a> {
    kind: Option<Cow<'a, str>>,
    names: Names<'a>,
    inner: Vec<Self>,
    /// The names in an MCP tool's `allowed_tools`; `None` when it is absent.
    mcp_tools: Option<Vec<Cow<'a, str>>>,
    server_label: Option<Cow<'a, str>>,
    server_url: Option<Cow<'a, str>>,
    connector: Option<Cow<'a, str>>,
    tunnel: bool,
    models: Vec<Cow<'a, str>>,
}

/// The names in a definition: one, as a rule, which needs no list.
#[derive(Debug, Default)]
struct Names<'a> {
    first: Option<Cow<'a, str>>,
    more: Vec<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    fn push(&mut self, name: Cow<'a, str>) {
        match self.first {
            None => self.first = Some(name),
            Some(_) => self.more.push(name),
        }
    }

    fn into_iter(self) -> impl Iterator<Item = Cow<'a, str>> {
        self.first.into_iter().chain(self.more)
    }

    fn iter(&self) -> impl Iterator<Item = &Cow<'a, str>> {
        self.first.iter().chain(&self.more)
    }
}

const DEFINITION_KEYS: &[&str] = &[
    "allowed_tools",
    "connector_id",
    "custom",
    "function",
    "model",
    "name",
    "server_label",
    "server_url",
    "svg",
    "tools",
    "tunnel_id",
    "type",
];

fn definition<'a>(r: &mut Reader<'a, '_>) -> Result<Definition<'a>> {
    expect(r, Kind::Object, "a tool is not an object")?;
    let mut found = Definition::default();
    r.object(|r, key| {
        if !DEFINITION_KEYS.contains(&key) {
            if is_case_variant(key, DEFINITION_KEYS) {
                return wrong(r, "a key that is a known key in another case");
            }
            return r.skip();
        }
        if r.null()? {
            return Ok(());
        }
        match key {
            "type" => found.kind = Some(named(r, "a tool's type is not a string")?),
            "name" => found.names.push(named(r, "a tool's name is not a string")?),
            "server_label" => {
                found.server_label = Some(named(r, "a server's label is not a string")?)
            }
            "server_url" => {
                found.server_url = Some(named(r, "a server's address is not a string")?)
            }
            "connector_id" => found.connector = Some(named(r, "a connector's id is not a string")?),
            "model" => found
                .models
                .push(named(r, "a tool's model is not a string")?),
            "tunnel_id" => {
                found.tunnel = true;
                r.skip()?;
            }
            "svg" => {
                expect(r, Kind::Object, "a tool's `svg` is not an object")?;
                r.object(|r, key| match key {
                    "model" => {
                        found
                            .models
                            .push(named(r, "a tool's model is not a string")?);
                        Ok(())
                    }
                    _ => r.skip(),
                })?;
            }
            "function" | "custom" => {
                expect(r, Kind::Object, "a tool's definition is not an object")?;
                r.object(|r, key| match key {
                    "name" => {
                        found.names.push(named(r, "a tool's name is not a string")?);
                        Ok(())
                    }
                    other if is_case_variant(other, &["name"]) => {
                        wrong(r, "a key that is a known key in another case")
                    }
                    _ => r.skip(),
                })?;
            }
            "tools" => definitions(r, &mut found.inner)?,
            // Two shapes share the name: a choice among definitions, and an MCP server's list of names.
            _ => match r.kind()? {
                Kind::Array => {
                    let names = found.mcp_tools.get_or_insert_default();
                    list(r, "", |r| {
                        names.push(named(r, "a tool's name is not a string")?);
                        bounded(names.len(), r)
                    })?;
                }
                _ => allowed_tools(r, &mut found)?,
            },
        }
        Ok(())
    })?;
    Ok(found)
}

fn definitions<'a>(r: &mut Reader<'a, '_>, found: &mut Vec<Definition<'a>>) -> Result<()> {
    list(r, "a list of tools is not a list", |r| {
        bounded(found.len(), r)?;
        found.push(definition(r)?);
        Ok(())
    })
}

fn allowed_tools<'a>(r: &mut Reader<'a, '_>, found: &mut Definition<'a>) -> Result<()> {
    expect(
        r,
        Kind::Object,
        "`allowed_tools` is neither a list nor an object",
    )?;
    r.object(|r, key| {
        if r.kind()? == Kind::Null {
            return r.skip();
        }
        match key {
            "tools" => definitions(r, &mut found.inner),
            "tool_names" => {
                let names = found.mcp_tools.get_or_insert_default();
                list(r, "`tool_names` is not a list", |r| {
                    names.push(named(r, "a tool's name is not a string")?);
                    bounded(names.len(), r)
                })
            }
            other if is_case_variant(other, &["tool_names", "tools"]) => {
                wrong(r, "a key that is a known key in another case")
            }
            _ => r.skip(),
        }
    })
}

impl<'a> Definition<'a> {
    /// Adds what the definition declares, as part of a namespace or of none (`""`).
    fn declare(
        self,
        namespace: &str,
        facts: &mut RequestFacts<'a>,
        r: &Reader<'_, '_>,
    ) -> Result<()> {
        bounded(facts.tools.len(), r)?;
        facts.more_models.extend(self.models);
        let kind = self.kind.as_deref();
        let inner_namespace = match (kind, &self.names.first) {
            (Some("namespace"), Some(name)) => name.clone(),
            _ => Cow::Borrowed(""),
        };
        let inner_namespace = match kind {
            Some("namespace") if self.names.first.is_some() => &*inner_namespace,
            _ => namespace,
        };
        let named = self.names.first.is_some();
        if kind != Some("namespace") && kind != Some("mcp") {
            for name in self
                .names
                .iter()
                .filter(|name| !name.is_empty() || kind == Some("function"))
            {
                facts.declare(Mention::named(name.clone()).in_namespace(namespace));
            }
        }
        match self.kind {
            Some(kind) => match &*kind {
                "function" | "custom" if !named => return wrong(r, "a tool without a name"),
                "function" | "custom" | "namespace" | "allowed_tools" => {}
                "mcp" => {
                    let Some(label) = self.server_label else {
                        return wrong(r, "an MCP server without a label");
                    };
                    // A choice names its tool beside the label.
                    let tools = if named {
                        let tools = self.mcp_tools.into_iter().flatten();
                        Some(tools.chain(self.names.into_iter()).collect())
                    } else {
                        self.mcp_tools
                    };
                    let placed =
                        self.server_url.is_some() || self.connector.is_some() || self.tunnel;
                    facts.mcp.push(Mcp {
                        label,
                        url: self.server_url,
                        connector: self.connector,
                        tunnel: self.tunnel,
                        tools,
                        placed,
                    });
                }
                _ => facts.declare(Mention::of_type(kind)),
            },
            None => facts.declare(Mention::of_type(Cow::Borrowed(""))),
        }
        self.inner
            .into_iter()
            .try_for_each(|inner| inner.declare(inner_namespace, facts, r))
    }
}

/// One message of a chat: the tools it names, and how much text it is.
fn message<'a>(r: &mut Reader<'a, '_>, facts: &mut RequestFacts<'a>) -> Result<()> {
    expect(r, Kind::Object, "a message is not an object")?;
    r.object(|r, key| match key {
        "tool_calls" if r.kind()? == Kind::Array => r.array(|r| {
            if r.kind()? != Kind::Object {
                return r.skip();
            }
            r.object(|r, key| match key {
                "function" | "custom" if r.kind()? == Kind::Object => {
                    r.object(|r, key| call_part(r, key, facts))
                }
                _ => r.skip(),
            })
        }),
        "function_call" if r.kind()? == Kind::Object => r.object(|r, key| call_part(r, key, facts)),
        "role" => role(r),
        _ => text(r, facts),
    })
}

/// Reads past a role. It is no hole: messages of another role look different in the rest, too.
fn role(r: &mut Reader<'_, '_>) -> Result<()> {
    match r.kind()? {
        Kind::String => r.string_len().map(|_| ()),
        _ => r.skip(),
    }
}

fn call_part<'a>(r: &mut Reader<'a, '_>, key: &str, facts: &mut RequestFacts<'a>) -> Result<()> {
    if key == "name" && r.kind()? == Kind::String {
        let start = r.position();
        let name = r.string()?;
        r.note_hole(start, Filling::Name);
        facts.note(name);
        return Ok(());
    }
    text(r, facts)
}

/// The keys of an item whose meaning depends on its type.
#[derive(Debug, Default)]
struct Item<'a> {
    kind: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    label: Option<Cow<'a, str>>,
    approved: Option<Cow<'a, str>>,
    approves: bool,
    tools: Vec<Definition<'a>>,
}

impl Item<'_> {
    /// Whether it brings nothing but text and the name of a tool that was called, and its id means nothing.
    fn is_told_by_its_shape(&self, kind: &str) -> bool {
        let quiet = match kind {
            "function_call" | "custom_tool_call" => true,
            "message" | "reasoning" | "function_call_output" | "custom_tool_call_output" => {
                self.name.is_none()
            }
            _ => false,
        };
        quiet && self.tools.is_empty()
    }
}

const ITEM_KEYS: &[&str] = &[
    "approval_request_id",
    "approve",
    "id",
    "name",
    "server_label",
    "tools",
    "type",
];

/// The items of a conversation (API reference, create response, `input`): history for the most part, but some
/// bring tools or let one run.
fn items<'a, 's>(r: &mut Reader<'a, 's>, facts: &mut RequestFacts<'a>) -> Result<()> {
    // Requests for approval seen so far, by their ids.
    let mut requests: Vec<(Cow<'_, str>, Tool)> = Vec::new();
    let mut read = |r: &mut Reader<'a, 's>, facts: &mut RequestFacts<'a>| {
        if r.kind()? != Kind::Object {
            return text(r, facts);
        }
        let item = item(r, facts)?;
        let kind = item.kind.as_deref().unwrap_or("message");
        if !item.is_told_by_its_shape(kind) {
            r.note_no_shape();
        }
        let mcp = |tool: Option<&str>| {
            let label = item.label.clone().unwrap_or_default();
            Tool::mcp(&label, tool)
        };
        match kind {
            "mcp_list_tools" => {
                for tool in &item.tools {
                    bounded(facts.tools.len(), r)?;
                    facts
                        .tools
                        .extend(tool.names.iter().map(|name| mcp(Some(name)).into()));
                }
                return Ok(());
            }
            "mcp_approval_request" | "mcp_call" => {
                let tool = mcp(item.name.as_deref());
                facts.note(Cow::Owned(tool.name.clone()));
                if let (Some(id), true) = (item.id, requests.len() < MAX_REMEMBERED) {
                    requests.push((id, tool));
                }
            }
            "mcp_approval_response" if item.approves => {
                let asked = requests
                    .iter()
                    .find(|(id, _)| Some(id) == item.approved.as_ref());
                facts.approvals.push(asked.map(|(_, tool)| tool.clone()));
            }
            "item_reference" => facts.server_state = true,
            "function_call" | "custom_tool_call" => facts.note(item.name.unwrap_or_default()),
            other if other.ends_with("_call") => facts.note(Cow::Owned(other.to_owned())),
            _ => {}
        }
        // Whatever the type: tools in an item are tools for the rest of the conversation.
        item.tools
            .into_iter()
            .try_for_each(|tool| tool.declare("", facts, r))
    };
    Messages::lend(|known| r.array(|r| known.read(r, facts, Site::Item, &mut read)))
}

fn item<'a>(r: &mut Reader<'a, '_>, facts: &mut RequestFacts<'a>) -> Result<Item<'a>> {
    let mut found = Item::default();
    r.object(|r, key| {
        if is_case_variant(key, ITEM_KEYS) {
            return wrong(r, "a key that is a known key in another case");
        }
        if r.kind()? == Kind::Null {
            return r.skip();
        }
        match key {
            "type" => found.kind = Some(named(r, "an item's type is not a string")?),
            "tools" => definitions(r, &mut found.tools)?,
            "approve" => {
                if r.kind()? != Kind::Bool {
                    return wrong(r, "an approval is not a boolean");
                }
                found.approves = r.boolean()?;
            }
            "id" | "name" | "server_label" | "approval_request_id" if r.kind()? == Kind::String => {
                let start = r.position();
                let value = Some(r.string()?);
                // Of what else they name nothing is taken by a shape.
                let filling = match key {
                    "name" => Filling::Name,
                    _ => Filling::String,
                };
                r.note_hole(start, filling);
                match key {
                    "id" => found.id = value,
                    "name" => found.name = value,
                    "server_label" => found.label = value,
                    _ => found.approved = value,
                }
            }
            "role" => role(r)?,
            "status" | "call_id" => r.skip()?,
            _ => text(r, facts)?,
        }
        Ok(())
    })?;
    Ok(found)
}

/// Counts what a value says: the bytes of its strings, and its images, sounds and files as such. Only the values of
/// keys that hold prose or data count; encoded data is a part, not text.
fn text<'a>(r: &mut Reader<'a, '_>, facts: &mut RequestFacts<'a>) -> Result<()> {
    match r.kind()? {
        Kind::String => {
            let start = r.position();
            let length = r.string_len()? as u64;
            if r.starts_with(start + 1, "data:") {
                // Neither a hole nor to be kept.
                r.note_no_shape();
                facts.parts = facts.parts.saturating_add(1);
            } else {
                facts.text = facts.text.saturating_add(length);
                r.note_hole(start, Filling::Text);
            }
            Ok(())
        }
        Kind::Array => r.array(|r| text(r, facts)),
        Kind::Object => r.object(|r, key| match key {
            "image_url" | "input_audio" | "file" | "file_data" | "file_url" | "file_id"
            | "encrypted_content" => {
                facts.parts = facts.parts.saturating_add(1);
                r.skip()
            }
            "type" => r.skip(),
            _ => text(r, facts),
        }),
        // A prompt may be a list of tokens; each counts as text of one token's usual length in an estimate.
        Kind::Number => {
            facts.text = facts.text.saturating_add(3);
            r.skip()
        }
        Kind::Bool | Kind::Null => r.skip(),
    }
}

fn bounded(count: usize, r: &Reader<'_, '_>) -> Result<()> {
    if count >= MAX_TOOLS {
        return wrong(r, "more than 4096 tools or models");
    }
    Ok(())
}

fn expect(r: &mut Reader<'_, '_>, kind: Kind, reason: &'static str) -> Result<()> {
    if r.kind()? == kind {
        Ok(())
    } else {
        wrong(r, reason)
    }
}

fn list<'a, 's>(
    r: &mut Reader<'a, 's>,
    reason: &'static str,
    item: impl FnMut(&mut Reader<'a, 's>) -> Result<()>,
) -> Result<()> {
    expect(r, Kind::Array, reason)?;
    r.array(item)
}

fn named<'a>(r: &mut Reader<'a, '_>, reason: &'static str) -> Result<Cow<'a, str>> {
    expect(r, Kind::String, reason)?;
    r.string()
}

fn wrong<T>(r: &Reader<'_, '_>, reason: &'static str) -> Result<T> {
    Err(WireError::at(reason, r.position()))
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::*;

    fn facts(fields: Fields, body: &str) -> RequestFacts<'_> {
        read(body.as_bytes(), fields, &mut Scratch::default())
            .unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    fn tools(fields: Fields, body: &str) -> Vec<String> {
        facts(fields, body)
            .tools
            .into_iter()
            .map(|tool| tool.name.into_owned())
            .collect()
    }

    fn refusal(fields: Fields, body: &str) -> String {
        match read(body.as_bytes(), fields, &mut Scratch::default()) {
            Ok(facts) => panic!("{body}: {facts:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_carrier_of_a_chat_tool_is_read() {
        for (body, expected) in [
            (
                r#"{"tools":[{"type":"function","function":{"name":"a"},"custom":{"name":"b"},"name":"c"}]}"#,
                vec!["a", "b", "c"],
            ),
            (
                r#"{"functions":[{"name":"a"}],"function_call":{"name":"b"}}"#,
                vec!["a", "b"],
            ),
            (
                r#"{"tool_choice":{"type":"function","function":{"name":"a"}}}"#,
                vec!["a"],
            ),
            (
                r#"{"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"a"}}]}}}"#,
                vec!["a"],
            ),
            (
                r#"{"tool_choice":"required","function_call":"auto","tools":null}"#,
                vec![],
            ),
            (r#"{"web_search_options":{}}"#, vec!["web_search"]),
            (r#"{"web_search_options":null}"#, vec![]),
            (r#"{"plugins":[{"id":"web"}]}"#, vec!["plugins"]),
            (
                r#"{"tools":[{"type":"web_search_2031_01_01"}]}"#,
                vec!["web_search_2031_01_01"],
            ),
            (r#"{"tools":[{"name":"a"}]}"#, vec!["a", ""]),
        ] {
            assert_eq!(tools(fields::CHAT, body), expected, "{body}");
        }
    }

    #[test]
    fn every_carrier_of_a_responses_tool_is_read() {
        for (body, expected) in [
            (
                r#"{"tools":[{"type":"function","name":"a"},{"type":"custom","name":"b"},{"type":"shell"}]}"#,
                vec!["a", "b", "shell"],
            ),
            (
                r#"{"tools":[{"type":"namespace","name":"ns","tools":[{"type":"function","name":"a"}]}]}"#,
                vec!["ns.a"],
            ),
            (
                r#"{"tools":[{"tools":[{"type":"function","name":"a"}],"name":"ns","type":"namespace"}]}"#,
                vec!["ns.a"],
            ),
            (
                r#"{"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"a"}]}}"#,
                vec!["a"],
            ),
            (
                r#"{"tool_choice":{"type":"file_search"}}"#,
                vec!["file_search"],
            ),
            (
                r#"{"input":[{"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"a"}]}]}"#,
                vec!["a"],
            ),
            (
                r#"{"input":[{"tools":[{"type":"function","name":"a"}],"type":"tool_search_output"}]}"#,
                vec!["a"],
            ),
            (
                r#"{"input":[{"tools":[{"type":"function","name":"a"}],"type":"brand_new"}]}"#,
                vec!["a"],
            ),
            (
                r#"{"input":[{"type":"mcp_list_tools","tools":[{"name":"t"}],"server_label":"s"}]}"#,
                vec!["mcp:s/t"],
            ),
            (r#"{"input":"tools"}"#, vec![]),
        ] {
            assert_eq!(tools(fields::RESPONSES, body), expected, "{body}");
        }
    }

    #[test]
    fn models_are_read_wherever_they_hide() {
        let found = facts(
            fields::RESPONSES,
            r#"{"model":"a","moderation":{"model":"b"},"tools":[{"type":"image_generation","model":"c","svg":{"model":"d"}}],"input":[{"type":"additional_tools","tools":[{"type":"image_generation","model":"e"}]}]}"#,
        );
        assert_eq!(found.model.as_deref(), Some("a"));
        assert_eq!(found.more_models, ["b", "c", "d", "e"]);
        let found = facts(
            fields::EVAL,
            r#"{"testing_criteria":[{"model":"a"}],"data_source":{"model":"b","source":{"model":"c"}}}"#,
        );
        assert_eq!(found.more_models, ["a", "b", "c"]);
        let found = facts(
            fields::FINE_TUNING,
            r#"{"model":"a","method":{"reinforcement":{"grader":{"model":"b","graders":{"x":{"model":"c"}}}}}}"#,
        );
        assert_eq!(found.more_models, ["b", "c"]);
    }

    #[test]
    fn an_mcp_server_is_known_by_label_place_and_tools() {
        let found = facts(
            fields::RESPONSES,
            r#"{"tools":[{"type":"mcp","server_label":"s","server_url":"https://x","allowed_tools":["a"]},{"type":"mcp","server_label":"t","connector_id":"connector_dropbox","allowed_tools":{"tool_names":["b"]}},{"type":"mcp","server_label":"u","tunnel_id":"z"}],"tool_choice":{"type":"mcp","server_label":"s","name":"c"}}"#,
        );
        let mcp: Vec<_> = found
            .mcp
            .iter()
            .map(|mcp| (&*mcp.label, mcp.tools.clone(), mcp.placed))
            .collect();
        let names = |names: &[&'static str]| {
            Some(
                names
                    .iter()
                    .map(|name| Cow::Borrowed(*name))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            mcp,
            [
                ("s", names(&["a"]), true),
                ("t", names(&["b"]), true),
                ("u", None, true),
                ("s", names(&["c"]), false)
            ]
        );
    }

    #[test]
    fn an_approval_is_tied_to_what_it_approves() {
        let found = facts(
            fields::RESPONSES,
            r#"{"input":[{"type":"mcp_approval_request","id":"r1","server_label":"s","name":"t","arguments":"{}"},{"type":"mcp_approval_response","approval_request_id":"r1","approve":true},{"type":"mcp_approval_response","approval_request_id":"r2","approve":true},{"type":"mcp_approval_response","approval_request_id":"r3","approve":false}]}"#,
        );
        assert_eq!(found.approvals, [Some(Tool::mcp("s", Some("t"))), None]);
    }

    #[test]
    fn a_shape_nobody_documented_is_refused() {
        for (body, reason) in [
            (r#"[]"#, "the body is not a JSON object"),
            (r#"{"model":null}"#, "`model` is not a string (byte 9)"),
            (
                r#"{"model":["gpt-4o"]}"#,
                "`model` is not a string (byte 9)",
            ),
            (
                r#"{"Model":"o3"}"#,
                "a key that is a known key in another case (byte 9)",
            ),
            (
                r#"{"tool\u017f":[]}"#,
                "a key that is a known key in another case (byte 14)",
            ),
            (r#"{"tools":{}}"#, "`tools` is not a list (byte 9)"),
            (
                r#"{"tools":[{"type":"function"}]}"#,
                "a tool without a name (byte 29)",
            ),
            (
                r#"{"tools":[{"type":"function","function":{"Name":"x"}}]}"#,
                "a key that is a known key in another case (byte 48)",
            ),
            (
                r#"{"stream":"true"}"#,
                "`stream` is not a boolean (byte 10)",
            ),
            (r#"{"stream":1}"#, "`stream` is not a boolean (byte 10)"),
            (
                r#"{"n":1.5}"#,
                "a number of choices is not a whole number (byte 8)",
            ),
            (
                r#"{"tool_choice":"web_search"}"#,
                "`tool_choice` is a word that is not documented (byte 27)",
            ),
        ] {
            assert_eq!(refusal(fields::CHAT, body), reason, "{body}");
        }
    }

    #[test]
    fn schemas_arguments_and_metadata_may_use_any_key() {
        tools(
            fields::CHAT,
            r#"{"tools":[{"type":"function","function":{"name":"a","parameters":{"Model":{},"Tools":1,"NAME":2}}}],"metadata":{"Model":"x"},"messages":[{"role":"user","content":"x","Model":"y"}]}"#,
        );
    }

    #[test]
    fn history_is_noted_not_judged() {
        let found = facts(
            fields::CHAT,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"evil","arguments":"{}"}}]}]}"#,
        );
        assert_eq!(
            (found.history, found.tools.len()),
            (vec![Cow::Borrowed("evil")], 0)
        );
    }
}
