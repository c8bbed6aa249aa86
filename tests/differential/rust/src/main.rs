//! Asks for every answer of streams.json with async-openai, and prints the names of the tools that it saw (run.mjs
//! says how).

use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::CreateChatCompletionRequest;
use async_openai::types::responses::CreateResponse;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};

/// Whatever failed, in the client or in making sense of what it handed over.
type Failure = Box<dyn std::error::Error>;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let ways = [
        ("direct", variable("DIRECT")),
        ("governed", variable("GOVERNED")),
    ];
    let only = std::env::var("SEKUIRE_ONLY").unwrap_or_default();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../streams.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for (number, case) in cases.iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        if !name.contains(&only) {
            continue;
        }
        for (way, origin) in &ways {
            let streamed = case["stream"].as_bool().unwrap();
            let cuts: &[u32] = if *way == "governed" && case["hostile"] == true && streamed {
                &[0, 1, 7]
            } else {
                &[0]
            };
            for cut in cuts {
                let mut seen = Vec::new();
                let model = format!("{number}-{cut}");
                let asked = ask(case, origin, &model, &mut seen);
                let error = match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("timed out".to_owned()),
                };
                let line = json!({"client": "async-openai", "case": number, "way": way, "cut": cut, "seen": seen, "error": error});
                println!("{line}");
            }
        }
    }
}

async fn ask(
    case: &Value,
    origin: &str,
    model: &str,
    seen: &mut Vec<String>,
) -> Result<(), Failure> {
    let config = OpenAIConfig::new()
        .with_api_base(format!("{origin}/v1"))
        .with_api_key("sk-test");
    let client = Client::with_config(config);
    let streamed = case["stream"] == true;
    if case["api"] == "chat" {
        let request = json!({"model": model, "stream": streamed, "messages": [{"role": "user", "content": "hello"}]});
        let request: CreateChatCompletionRequest = serde_json::from_value(request)?;
        if streamed {
            return read(client.chat().create_stream(request).await?, seen).await;
        }
        names(
            &serde_json::to_value(client.chat().create(request).await?)?,
            seen,
        );
    } else {
        let request: CreateResponse =
            serde_json::from_value(json!({"model": model, "stream": streamed, "input": "hello"}))?;
        if streamed {
            return read(client.responses().create_stream(request).await?, seen).await;
        }
        names(
            &serde_json::to_value(client.responses().create(request).await?)?,
            seen,
        );
    }
    Ok(())
}

/// Reads to the end, also past errors, as an application may.
async fn read<T: serde::Serialize>(
    mut stream: impl Stream<Item = Result<T, OpenAIError>> + Unpin,
    seen: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut first: Result<(), Failure> = Ok(());
    while let Some(item) = stream.next().await {
        match item {
            Ok(item) => names(&serde_json::to_value(item)?, seen),
            Err(error) if first.is_ok() => first = Err(error.into()),
            Err(_) => {}
        }
    }
    first
}

/// Every name in what the client handed over, and the types of calls that bear none.
fn names(value: &Value, seen: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| names(item, seen)),
        Value::Object(members) => {
            let kind = members
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            match members.get("name").and_then(Value::as_str) {
                Some(name) if !name.is_empty() => {
                    let space = members.get("namespace").and_then(Value::as_str);
                    seen.push(
                        space.map_or_else(|| name.to_owned(), |space| format!("{space}.{name}")),
                    );
                }
                _ if kind.ends_with("_call") => seen.push(kind.to_owned()),
                _ => {}
            }
            members.values().for_each(|member| names(member, seen));
        }
        _ => {}
    }
}
