//! A `reqwest::Client` under a policy, composed with tower's own utilities.
//!
//! `cargo run --example reqwest_client`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]
#![expect(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks reads as null"
)]

mod support;

use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_sekuire::{BoxError, Policy, PolicyViolation, SekuireLayer};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant-loopback.yml"
);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = support::Provider::start().await?;
    let url = format!("http://{}/v1/chat/completions", provider.address());

    // reqwest would follow a redirect below the layer, to an address that no rule was asked about.
    let reqwest = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    // From the top: reqwest's request as an `http` one, the policy, and back again for the client.
    let client = ServiceBuilder::new()
        .filter(|request: reqwest::Request| http::Request::try_from(request))
        .layer(SekuireLayer::new(Policy::from_path(POLICY)?))
        .map_response(http::Response::<reqwest::Body>::from)
        .filter(|request: http::Request<_>| reqwest::Request::try_from(request))
        .service(reqwest.clone());

    let ask = |model: &str, question: &str, stream: bool| {
        let messages = json!([{"role": "user", "content": question}]);
        let body = json!({"model": model, "messages": messages, "stream": stream});
        reqwest.post(&url).json(&body).build()
    };

    let request = ask("gpt-4o-mini", "A word on rules, please.", false)?;
    let response = client.clone().oneshot(request).await?;
    let response = reqwest::Response::from(response.map(reqwest::Body::wrap));
    let answer: Value = response.json().await?;
    println!(
        "gpt-4o-mini: {}",
        answer["choices"][0]["message"]["content"]
    );

    let request = ask("gpt-3.5-turbo", "A word on rules, please.", false)?;
    let refused = client.clone().oneshot(request).await.err();
    report("gpt-3.5-turbo", refused)?;

    // A stream that calls a forbidden tool ends with the violation inside reqwest's own error.
    let request = ask("gpt-4o-mini", "Please clean up the archive.", true)?;
    let response = client.oneshot(request).await?;
    let mut response = reqwest::Response::from(response.map(reqwest::Body::wrap));
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
