//! An agent of rig's under a policy, which stands in the HTTP client that the agent's model sends through.
//!
//! `cargo run --manifest-path tests/rig/Cargo.toml`

#[path = "../../../examples/support/mod.rs"]
mod support;

use std::io::Write;

use futures_util::StreamExt;
use reqwest_middleware::ClientBuilder;
use rig::prelude::*;
use rig::providers::openai::{OpenAI, OpenAIConfig};
use rig::rig_reqwest::ReqwestMiddlewareClient;
use rig::streaming::{Item, StreamEvent};
use rig::tool::ToolExecutionError;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_sekuire::{BoxError, Policy, Respond, SekuireLayer, SekuireMiddleware};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;

    // An agent of rig's keeps the words of an error and not its sources, and all that a provider answers. So refusals are
    // answers here, in OpenAI's form.
    let layer = SekuireLayer::new(Policy::from_path(POLICY)?).respond(Respond::OpenAi);
    // reqwest would follow a redirect below the middleware, to an address that no rule was asked about.
    let reqwest = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let client = ClientBuilder::new(reqwest)
        .with(SekuireMiddleware::new(&layer))
        .build();
    let openai = OpenAIConfig::new("none is needed here")
        .with_base_url(format!("http://{}/v1", provider.address()))
        .connect(ReqwestMiddlewareClient::from(client));

    let answer = agent(&openai, "gpt-4o-mini")
        .prompt("How long does light take from the Sun to the Earth?")
        .max_turns(2)
        .await?;
    println!("gpt-4o-mini: {}", answer.output());

    let refused = agent(&openai, "gpt-3.5-turbo").prompt("And to Mars?").await;
    println!("gpt-3.5-turbo: {}", refusal(refused.err())?);

    // The model calls a tool that nobody offered it. What it answered never reaches the agent.
    let question = "Please clean up the archive.";
    let refused = agent(&openai, "gpt-4o-mini").prompt(question).await;
    println!("answer: {}", refusal(refused.err())?);

    // In a stream, what came before that call does.
    let mut stream = agent(&openai, "gpt-4o-mini").prompt(question).stream();
    let stopped = loop {
        match stream.next().await {
            Some(Ok(MultiTurnStreamItem::StreamAssistantItem(Item::Event(
                StreamEvent::Text { text, .. },
            )))) => {
                print!("{text}");
                std::io::stdout().flush()?;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    println!("\nstream: {}", refusal(stopped)?);
    Ok(())
}

fn agent(openai: &OpenAI, model: &str) -> Agent {
    AgentBuilder::new(openai.chat(model))
        .tool(Calculator)
        .build()
}

/// What the policy answered in the provider's stead.
fn refusal(error: Option<PromptError>) -> Result<String, BoxError> {
    let error = error.ok_or("the policy let it through")?;
    match error.provider_response_json()? {
        Some(answer) => Ok(format!(
            "[{}] {}",
            answer["error"]["code"].as_str().unwrap_or_default(),
            answer["error"]["message"].as_str().unwrap_or_default(),
        )),
        None => Err(error.into()),
    }
}

struct Calculator;

#[derive(Deserialize)]
struct Term {
    left: u64,
    operator: String,
    right: u64,
}

impl Tool for Calculator {
    const NAME: &'static str = "calculator";
    type Args = Term;
    type Output = u64;
    type Error = ToolExecutionError;

    fn description(&self) -> String {
        "Calculates with whole numbers".to_owned()
    }

    fn parameters(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "left": {"type": "integer"},
                "operator": {"enum": ["+", "/"]},
                "right": {"type": "integer"},
            },
            "required": ["left", "operator", "right"],
        })
    }

    async fn call(&self, _: &mut ToolContext, term: Term) -> Result<u64, ToolExecutionError> {
        println!("calculator: {} {} {}", term.left, term.operator, term.right);
        let result = match term.operator.as_str() {
            "+" => term.left.checked_add(term.right),
            "/" => term.left.checked_div(term.right),
            _ => None,
        };
        result.ok_or_else(|| ToolExecutionError::invalid_args("that has no result"))
    }
}
