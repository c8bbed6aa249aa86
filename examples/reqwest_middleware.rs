//! A reqwest-middleware client under a policy.
//!
//! `cargo run --example reqwest_middleware --features reqwest-middleware`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks reads as null"
)]

mod support;

use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, RequestBuilder};
use serde_json::{Value, json};
use tower_sekuire::{BoxError, Policy, PolicyViolation, SekuireLayer, SekuireMiddleware};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;
    let url = format!("http://{}/v1/chat/completions", provider.address());

    // reqwest would follow a redirect below the middleware, to an address that no rule was asked about.
    let reqwest = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let layer = SekuireLayer::new(Policy::from_path(POLICY)?);
    // The last one is the nearest to the client: retries go above it, so that every attempt is judged and counted.
    let client = ClientBuilder::new(reqwest)
        .with(SekuireMiddleware::new(&layer))
        .build();

    let question = "A word on rules, please.";
    let response = chat(&client, &url, "gpt-4o-mini", question, false)
        .send()
        .await?;
    let answer: Value = response.json().await?;
    println!(
        "gpt-4o-mini: {}",
        answer["choices"][0]["message"]["content"]
    );

    let refused = chat(&client, &url, "gpt-3.5-turbo", question, false)
        .send()
        .await;
    report("gpt-3.5-turbo", refused.err().map(Into::into))?;

    // A stream that calls a forbidden tool ends with the violation inside reqwest's own error.
    let question = "Please clean up the archive.";
    let mut response = chat(&client, &url, "gpt-4o-mini", question, true)
        .send()
        .await?;
    let stopped = loop {
        match response.chunk().await {
            Ok(Some(events)) => print!("{}", String::from_utf8_lossy(&events)),
            Ok(None) => break None,
            Err(error) => break Some(error.into()),
        }
    };
    report("stream", stopped)
}

fn chat(
    client: &ClientWithMiddleware,
    url: &str,
    model: &str,
    question: &str,
    stream: bool,
) -> RequestBuilder {
    let messages = json!([{"role": "user", "content": question}]);
    client
        .post(url)
        .json(&json!({"model": model, "messages": messages, "stream": stream}))
}

fn report(what: &str, refused: Option<BoxError>) -> Result<(), BoxError> {
    let error = refused.ok_or("the policy let it through")?;
    match PolicyViolation::find(&*error) {
        Some(violation) => println!("{what}: {violation}"),
        None => return Err(error),
    }
    Ok(())
}
