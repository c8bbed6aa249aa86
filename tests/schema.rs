//! The policy file's JSON Schema, held against the loader: what loads is valid.

#![cfg(test)]
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};
use tower_sekuire::Policy;

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&Policy::json_schema()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::validator_for(&schema).unwrap()
}

fn of_yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn the_file_beside_the_policies_is_this_schema() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/sekuire.schema.json");
    let written = fs::read_to_string(file).unwrap();
    assert!(
        written == Policy::json_schema(),
        "run `sekuire-gateway schema > policies/sekuire.schema.json`"
    );
}

#[test]
fn the_ready_made_policies_are_valid() {
    let validator = validator();
    let mut seen = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            let policy = of_yaml(&fs::read_to_string(&path).unwrap());
            let problem = validator
                .validate(&policy)
                .err()
                .map(|error| error.to_string());
            assert_eq!(problem, None, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 5);
}

/// Everything that may stand in a policy, or nearly.
fn everything() -> Value {
    of_yaml(
        "
name: n
version: 1
x-own: { anything: [1] }
agent:
  name: A
  models: { allowed_models: [gpt-4o, 'o*'], blocked_models: [o1] }
  toolsets: { allowed_tools: [{ name: search, description: d }, plain], blocked_tools: [rm] }
  llm: { provider: p, model: gpt-4o, temperature: 0.5 }
  capabilities: { provides: [a] }
permissions:
  network: { enabled: true, require_tls: true, allowed_domains: [a.example], blocked_domains: [b.example] }
  filesystem: { enabled: true, allowed_paths: [/tmp/*], blocked_paths: [/etc], allowed_extensions: [.txt] }
  api: { enabled: true, allowed_services: [{ service_name: openai, endpoints: [chat] }] }
rate_limits:
  per_agent: { requests_per_minute: 1, requests_per_hour: 2, requests_per_day: 3, tokens_per_minute: 4, tokens_per_hour: 5, tokens_per_day: 6 }
  per_model: { 'gpt-4*': { requests_per_minute: 1 } }
  global: { tokens_per_day: 1 }
memory: { type: buffer }
project: { name: p, version: v }
",
    )
}

/// Every place in a document.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Each place holds each of these values in turn; and each key is renamed, given up, or joined by another.
fn changed(policy: &Value) -> Vec<Value> {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!("text"),
        json!(""),
        json!([]),
        json!(["a"]),
        json!([1]),
        json!({}),
        json!({"name": "a"}),
        json!({"allowed_models": ["a"]}),
    ];
    let mut found = Vec::new();
    places(policy, "", &mut found);
    let mut all = Vec::new();
    for place in &found {
        for value in &values {
            let mut changed = policy.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            all.push(changed);
        }
        if let Some(members) = policy.pointer(place).and_then(Value::as_object) {
            for key in members.keys() {
                for new in [
                    None,
                    Some("x-a"),
                    Some("unknown"),
                    Some("models"),
                    Some("tools"),
                ] {
                    let mut changed = policy.clone();
                    let members = changed.pointer_mut(place).unwrap().as_object_mut().unwrap();
                    let value = members.remove(key).unwrap();
                    if let Some(new) = new {
                        members.insert(new.to_owned(), value);
                    }
                    all.push(changed);
                }
            }
        }
    }
    all
}

#[test]
fn whatever_loads_is_valid() {
    let validator = validator();
    let agents =
        json!({"agents": {"a": {"models": {"allowed_models": ["m"]}, "tools": "tools.json"}}});
    let envelope = json!({"policy_id": "p", "status": "active", "content": everything()});
    let (mut loads, mut refused, mut caught) = (0, 0, 0);
    for policy in [everything(), agents, envelope].iter().flat_map(changed) {
        let loaded = Policy::loader()
            .accept_unenforced(true)
            .from_json(&policy.to_string());
        let problem = validator
            .validate(&policy)
            .err()
            .map(|error| error.to_string());
        match (loaded, problem) {
            (Ok(_), problem) => {
                loads += 1;
                assert_eq!(problem, None, "{policy}");
            }
            (Err(_), problem) => {
                refused += 1;
                caught += u32::from(problem.is_some());
            }
        }
    }
    println!("{loads} load; of {refused} that don't, the schema catches {caught}");
    assert!(loads > 300 && refused > 1_000);
    // The rest is the loader's to say, as what an entry may hold.
    assert!(caught * 10 > refused * 9, "{caught} of {refused}");
}

#[test]
fn what_an_editor_should_underline_is_invalid() {
    let validator = validator();
    for text in [
        "agent: { modles: {} }",
        "models: { allowed_models: null }",
        "models: { allowed_models: gpt-4o }",
        "models: { allow: [a] }",
        "tools: { allowed_tools: [{ title: a }] }",
        "permissions: { network: { require_tls: 'yes' } }",
        "permissions: { api: { allowed_services: [openai] } }",
        "rate_limits: { per_agent: { requests_per_second: 1 } }",
        "rate_limits: { global: { requests_per_day: -1 } }",
        "rate_limits: { global: { requests_per_day: '10' } }",
        "content: { policies: {} }",
    ] {
        let policy = of_yaml(text);
        assert!(Policy::from_yaml(text).is_err(), "{text}");
        assert!(!validator.is_valid(&policy), "{text}");
    }
}
