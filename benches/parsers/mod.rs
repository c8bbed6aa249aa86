//! Ways to find a request's model and tools, each made to find the same.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::corpus::{MODEL, TOOLS};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    pub(crate) model: Cow<'a, str>,
    pub(crate) tools: Vec<Cow<'a, str>>,
    pub(crate) stream: bool,
}

impl Asked<'_> {
    pub(crate) fn is_allowed(&self) -> bool {
        self.model == MODEL && self.tools.iter().all(|tool| TOOLS.contains(&&**tool))
    }
}

/// A way to read a request.
pub(crate) type Parser = fn(&[u8]) -> Asked<'_>;

/// The parsers by name.
pub(crate) const PARSERS: [(&str, Parser); 3] = [
    ("sonic-rs typed", sonic),
    ("serde_json typed", typed),
    ("serde_json Value", value),
];

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow, default)]
    tools: Vec<Tool<'a>>,
    #[serde(default)]
    stream: bool,
    #[serde(rename = "messages")]
    _messages: IgnoredAny,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl<'a> From<Request<'a>> for Asked<'a> {
    fn from(request: Request<'a>) -> Self {
        Self {
            model: request.model,
            tools: request
                .tools
                .into_iter()
                .map(|tool| tool.function.name)
                .collect(),
            stream: request.stream,
        }
    }
}

pub(crate) fn sonic(body: &[u8]) -> Asked<'_> {
    sonic_rs::from_slice::<Request<'_>>(body)
        .expect("JSON")
        .into()
}

pub(crate) fn typed(body: &[u8]) -> Asked<'_> {
    serde_json::from_slice::<Request<'_>>(body)
        .expect("JSON")
        .into()
}

pub(crate) fn value(body: &[u8]) -> Asked<'_> {
    let request: Value = serde_json::from_slice(body).expect("JSON");
    let name = |value: &Value| Cow::Owned(value.as_str().unwrap_or_default().to_owned());
    let tools = request["tools"].as_array().into_iter().flatten();
    Asked {
        model: name(&request["model"]),
        tools: tools.map(|tool| name(&tool["function"]["name"])).collect(),
        stream: request["stream"] == true,
    }
}
