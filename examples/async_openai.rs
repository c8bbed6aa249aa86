//! An async-openai client under a policy, with its retries above.
//!
//! `cargo run --example async_openai --features async-openai`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod support;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::retry::OpenAIRetryLayer;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
};
use futures_util::StreamExt;
use tower::ServiceBuilder;
use tower_sekuire::{BoxError, Policy, PolicyViolation, SekuireLayer, SekuireOpenAi};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;

    let layer = SekuireLayer::new(Policy::from_path(POLICY)?);
    let governed = layer.reqwest_client(reqwest::Client::builder())?;
    // Retries go above, so that every attempt is judged and counted; what the policy refuses is never tried again.
    let service = ServiceBuilder::new()
        .layer(OpenAIRetryLayer::default())
        .service(SekuireOpenAi::new(governed));
    let config = OpenAIConfig::new()
        .with_api_base(format!("http://{}/v1", provider.address()))
        .with_api_key("none is needed here");
    let client = Client::with_config(config).with_http_service(service);

    let question = "A word on rules, please.";
    let answer = client.chat().create(ask("gpt-4o-mini", question)?).await?;
    let text = answer.choices.into_iter().next();
    let text = text.and_then(|choice| choice.message.content);
    println!("gpt-4o-mini: {}", text.unwrap_or_default());

    let refused = client.chat().create(ask("gpt-3.5-turbo", question)?).await;
    let error = refused.err().ok_or("the policy let the call through")?;
    match PolicyViolation::find(&error) {
        Some(violation) => println!("gpt-3.5-turbo: {violation}"),
        None => return Err(error.into()),
    }

    // A stream that calls a forbidden tool ends with an event that tells why: async-openai shows it as what it can't read.
    let request = ask("gpt-4o-mini", "Please clean up the archive.")?;
    let mut stream = client.chat().create_stream(request).await?;
    while let Some(event) = stream.next().await {
        match event {
            Ok(chunk) => {
                for choice in chunk.choices {
                    print!("{}", choice.delta.content.unwrap_or_default());
                }
            }
            Err(OpenAIError::JSONDeserialize(_, event)) => println!("\nstream: {event}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn ask(model: &str, question: &str) -> Result<CreateChatCompletionRequest, OpenAIError> {
    CreateChatCompletionRequestArgs::default()
        .model(model)
        .messages([ChatCompletionRequestUserMessage::from(question).into()])
        .build()
}
