//! A `reqwest::Client` under a policy.
//!
//! `cargo run --example reqwest_client --features reqwest`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks reads as null"
)]

mod support;

use serde_json::{Value, json};
use tower::{Service, ServiceExt};
use tower_sekuire::{BoxError, Policy, PolicyViolation, SekuireLayer};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;
    let url = format!("http://{}/v1/chat/completions", provider.address());

    // Its redirects are off: reqwest would follow them below the layer, to an address that no rule was asked about.
    let layer = SekuireLayer::new(Policy::from_path(POLICY)?);
    let mut client = layer.reqwest_client(reqwest::Client::builder())?;
    // The client inside makes requests; only the governed one sends them.
    let builder = client.get_ref().clone();
    let ask = |model: &str, question: &str, stream: bool| {
        let messages = json!([{"role": "user", "content": question}]);
        let body = json!({"model": model, "messages": messages, "stream": stream});
        builder.post(&url).json(&body).build()
    };

    let request = ask("gpt-4o-mini", "A word on rules, please.", false)?;
    let answer: Value = client.ready().await?.call(request).await?.json().await?;
    println!(
        "gpt-4o-mini: {}",
        answer["choices"][0]["message"]["content"]
    );

    let request = ask("gpt-3.5-turbo", "A word on rules, please.", false)?;
    let refused = client.ready().await?.call(request).await.err();
    report("gpt-3.5-turbo", refused)?;

    // A stream that calls a forbidden tool ends with the violation inside reqwest's own error.
    let request = ask("gpt-4o-mini", "Please clean up the archive.", true)?;
    let mut response = client.ready().await?.call(request).await?;
    let stopped = loop {
        match response.chunk().await {
            Ok(Some(events)) => print!("{}", String::from_utf8_lossy(&events)),
            Ok(None) => break None,
            Err(error) => break Some(error.into()),
        }
    };
    report("stream", stopped)
}

fn report(what: &str, refused: Option<BoxError>) -> Result<(), BoxError> {
    let error = refused.ok_or("the policy let it through")?;
    match PolicyViolation::find(&*error) {
        Some(violation) => println!("{what}: {violation}"),
        None => return Err(error),
    }
    Ok(())
}
