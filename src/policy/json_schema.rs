//! The policy file as a JSON Schema, for editors that complete and check it.
//!
//! Made of the same tables that the loader reads by, so that a key can't be in one and not in the other. It says less than
//! the loader: what loads is valid, and not all that is valid loads.

use serde_json::{Map, Value, json};

use super::Policy;
use super::schema::{self, Kind};
use super::sections::LIMITS;

impl Policy {
    /// The policy file as a JSON Schema (draft 2020-12), as text: what `sekuire-gateway schema` prints. Every policy that
    /// loads is valid under it, unless some of it was [translated](Policy::translated); the loader's own report says more.
    #[must_use]
    pub fn json_schema() -> String {
        format!("{:#}\n", document())
    }
}

fn document() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sekuire policy",
        "description": "What an AI agent may use: models, tools, hosts, services, requests and tokens.",
        "type": "object",
        "if": { "required": ["content"] },
        "then": { "$ref": "#/$defs/envelope" },
        "else": { "$ref": "#/$defs/policy" },
        "$defs": {
            "policy": policy(),
            "envelope": envelope(),
            "agent": agent(),
            "models": mapping(models()),
            "toolsets": mapping(toolsets()),
            "network": mapping(network()),
            "filesystem": mapping(filesystem()),
            "api": mapping(api()),
            "limits": mapping(limits()),
            "names": {
                "type": "array",
                "items": { "type": "string", "minLength": 1 },
            },
            "tools": {
                "type": "array",
                "items": {
                    "anyOf": [
                        { "type": "string", "minLength": 1 },
                        required(mapping(texts(schema::TOOL)), &["name"]),
                    ],
                },
            },
            "count": { "type": "integer", "minimum": 0 },
        },
    })
}

type Properties = Vec<(&'static str, Value)>;

/// A mapping with these keys and no others, but for those that begin with `x-`.
fn mapping(properties: Properties) -> Value {
    let properties: Map<String, Value> = properties
        .into_iter()
        .map(|(key, schema)| (key.to_owned(), schema))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
    })
}

fn required(mut schema: Value, keys: &[&str]) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".to_owned(), json!(keys));
    }
    schema
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn told(name: &str, description: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}"), "description": description })
}

/// The same schema for each key of a table.
fn each(keys: &'static [&'static str], schema: impl Fn(&str) -> Value) -> Properties {
    keys.iter().map(|key| (*key, schema(key))).collect()
}

fn texts(keys: &'static [&'static str]) -> Properties {
    each(keys, |_| json!({ "type": "string" }))
}

fn flag(description: &str, default: bool) -> Value {
    json!({ "type": "boolean", "description": description, "default": default })
}

/// Sections that describe and restrict nothing.
fn described(sections: &'static [(&'static str, Kind)]) -> Properties {
    sections
        .iter()
        .map(|(key, kind)| {
            let schema = match kind {
                // Whether it may stand there is the loader's choice, by `accept_unenforced`.
                Kind::Free | Kind::Request => json!(true),
                Kind::Keys(keys) => {
                    let mut schema = mapping(described(keys));
                    if let Some(kind) = schema.get_mut("type") {
                        *kind = json!(["object", "null"]);
                    }
                    schema
                }
            };
            (*key, schema)
        })
        .collect()
}

fn policy() -> Value {
    let mut properties = each(schema::TOP_LEVEL_RULES, |key| match key {
        "agent" => told("agent", "The agent that the policy is for."),
        "agents" => json!({
            "type": "object",
            "description": "Several agents by name, of which one is chosen when the policy is loaded.",
            "additionalProperties": { "$ref": "#/$defs/agent" },
        }),
        "models" => told("models", "Models that may be used."),
        "toolsets" | "tools" => told("toolsets", "Tools that may be declared and called."),
        "permissions" => mapping(each(schema::PERMISSIONS, |key| match key {
            "network" => told("network", "Hosts that may be reached."),
            "filesystem" => told("filesystem", "Files that may be touched: questions only."),
            _ => told("api", "Services that may be called, and their endpoints."),
        })),
        _ => mapping(each(schema::RATE_LIMITS, |key| match key {
            "per_model" => json!({
                "type": "object",
                "description": "Limits by model, each agent's own; a name may hold `*`.",
                "additionalProperties": { "$ref": "#/$defs/limits" },
            }),
            "global" => told("limits", "Limits of all agents together."),
            _ => told("limits", "Limits of each agent by itself."),
        })),
    });
    properties.extend(described(schema::SECTIONS));
    mapping(properties)
}

fn envelope() -> Value {
    let mut properties = each(schema::ENVELOPE, |_| json!(true));
    properties.push(("content", reference("policy")));
    mapping(properties)
}

fn agent() -> Value {
    let mut properties = each(schema::AGENT_RULES, |key| match key {
        "name" => json!({
            "type": "string",
            "minLength": 1,
            "description": "The name in decisions and logs, and the key that limits are counted under.",
        }),
        "models" => told("models", "Models that may be used."),
        "tools" => json!({
            "anyOf": [{ "$ref": "#/$defs/toolsets" }, { "type": "string", "minLength": 1 }],
            "description": "Tools that may be declared and called; or the path of a `tools.json` that says their categories.",
        }),
        _ => told("toolsets", "Tools that may be declared and called."),
    });
    properties.extend(described(schema::AGENT_SECTIONS));
    mapping(properties)
}

const EMPTY: &str = "Without the list every one is allowed; an empty one allows none. Deny wins.";

fn models() -> Properties {
    each(schema::MODELS, |key| match key {
        "allowed_models" => told("names", EMPTY),
        "blocked_models" => told("names", "Deny wins over allow."),
        _ => json!(true),
    })
}

fn toolsets() -> Properties {
    each(schema::TOOLSETS, |key| match key {
        "allowed_tools" => told("tools", EMPTY),
        _ => told("tools", "Deny wins over allow."),
    })
}

fn network() -> Properties {
    each(schema::NETWORK, |key| match key {
        "enabled" => flag("false refuses every host.", true),
        "require_tls" => flag("true refuses every scheme but https and wss.", false),
        "allowed_domains" => told("names", EMPTY),
        _ => told("names", "Deny wins over allow."),
    })
}

fn filesystem() -> Properties {
    each(schema::FILESYSTEM, |key| match key {
        "enabled" => flag("false refuses every file.", true),
        "allowed_paths" => told("names", EMPTY),
        "allowed_extensions" => told("names", "With their dot; an empty list allows no file."),
        _ => told("names", "Deny wins over allow."),
    })
}

fn api() -> Properties {
    let service = mapping(each(schema::SERVICE, |key| match key {
        "service_name" => json!({ "type": "string", "minLength": 1 }),
        _ => told(
            "names",
            "Endpoints below the base path: `chat`, `chat/completions`. Without the list, all.",
        ),
    }));
    each(schema::API, |key| match key {
        "enabled" => flag("false refuses every service.", true),
        _ => json!({
            "type": "array",
            "description": EMPTY,
            "items": required(service.clone(), &["service_name"]),
        }),
    })
}

fn limits() -> Properties {
    let keys = LIMITS.iter();
    keys.map(|(key, ..)| {
        (
            *key,
            told("count", "0 allows nothing; leave it out for no limit."),
        )
    })
    .collect()
}
