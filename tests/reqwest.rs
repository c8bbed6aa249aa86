//! The layer around a `reqwest::Client`, against a server on loopback.

#![cfg(test)]

mod loopback;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream;
use http::{StatusCode, header};
use loopback::{Answer, DOCUMENT, FORBIDDEN_STREAM as STREAM, REQUEST, Server, layer, policy};
use tower::{Layer, Service, ServiceExt};
use tower_sekuire::{
    AgentKey, BoxError, Mode, PerRequest, Policy, PolicyEnforcer, PolicyViolation, Respond, Rule,
    Seen, SekuireLayer, SekuireService,
};

fn client(layer: &SekuireLayer) -> SekuireService<reqwest::Client> {
    layer.reqwest_client(reqwest::Client::builder()).unwrap()
}

fn post(url: &str, body: impl Into<reqwest::Body>) -> reqwest::Request {
    reqwest::Client::new()
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .build()
        .unwrap()
}

async fn send<S>(
    client: &SekuireService<S>,
    request: reqwest::Request,
) -> Result<reqwest::Response, BoxError>
where
    S: Service<reqwest::Request, Response = reqwest::Response> + Clone,
    S::Error: Into<BoxError>,
{
    client.clone().ready().await?.call(request).await
}

fn violation(error: &BoxError) -> PolicyViolation {
    PolicyViolation::find(&**error)
        .unwrap_or_else(|| panic!("no violation in {error:?}"))
        .clone()
}

#[tokio::test]
async fn an_allowed_call_passes_byte_for_byte_both_ways_and_tells_its_url() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let url = format!("{}?trace=1", server.url());
    let answer = send(&client(&layer()), post(&url, REQUEST)).await.unwrap();
    assert_eq!(answer.url().as_str(), url);
    assert_eq!(answer.content_length(), Some(DOCUMENT.len() as u64));
    assert_eq!(answer.text().await.unwrap(), DOCUMENT);

    let requests = server.requests();
    let [(headers, body)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(body, REQUEST);
    assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
}

#[tokio::test]
async fn a_streaming_request_body_is_judged_and_sent_on() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let (first, second) = REQUEST.split_at(20);
    let body = reqwest::Body::wrap_stream(stream::iter([Ok::<_, Infallible>(first), Ok(second)]));
    send(&client(&layer()), post(&server.url(), body))
        .await
        .unwrap();
    assert_eq!(server.requests()[0].1, REQUEST);
}

#[tokio::test]
async fn a_blocked_model_is_refused_before_anything_is_sent() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let body = REQUEST.replace("gpt-4o-mini", "gpt-3.5-turbo");
    let error = send(&client(&layer()), post(&server.url(), body))
        .await
        .unwrap_err();
    let found = violation(&error);
    assert_eq!(
        (found.rule(), found.seen()),
        (Rule::ModelBlocked, Seen::Request)
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_forbidden_tool_ends_the_stream_and_never_leaves() {
    let server = Server::start(Answer::Events(&STREAM)).await;
    let mut answer = send(&client(&layer()), post(&server.url(), REQUEST))
        .await
        .unwrap();
    assert_eq!(answer.url().as_str(), server.url());
    let mut received = Vec::new();
    let error: BoxError = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => panic!("the stream ended well"),
            Err(error) => break error.into(),
        }
    };
    assert_eq!(received, STREAM[0].as_bytes());
    assert_eq!(violation(&error).seen(), Seen::Event(2));
}

#[tokio::test]
async fn refusals_are_openai_answers_when_asked_for() {
    let server = Server::start(Answer::Events(&STREAM)).await;
    let client = client(&layer().respond(Respond::OpenAi));
    let body = REQUEST.replace("gpt-4o-mini", "gpt-3.5-turbo");
    let answer = send(&client, post(&server.url(), body)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.url().as_str(), server.url());
    assert!(answer.extensions().get::<PolicyViolation>().is_some());

    let answer = send(&client, post(&server.url(), REQUEST)).await.unwrap();
    let text = answer.text().await.unwrap();
    let last = text.strip_prefix(STREAM[0]).unwrap();
    assert!(last.contains("\"code\":\"tool_blocked\""), "{last}");
}

#[tokio::test]
async fn a_stream_can_end_in_an_event_where_requests_fail_with_an_error() {
    let server = Server::start(Answer::Events(&STREAM)).await;
    let client = client(&layer().respond(Respond::OpenAiInStream));
    let body = REQUEST.replace("gpt-4o-mini", "gpt-3.5-turbo");
    let error = send(&client, post(&server.url(), body)).await.unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::ModelBlocked);

    let answer = send(&client, post(&server.url(), REQUEST)).await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"code\":\"tool_blocked\""), "{text}");
}

#[tokio::test]
async fn a_redirect_does_not_lead_past_the_policy() {
    let server = Server::start(Answer::Redirect(DOCUMENT)).await;
    // Not even the first step is taken, whatever the builder says.
    let following = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(3));
    let governed = layer().reqwest_client(following()).unwrap();
    let error = send(&governed, post(&server.url(), REQUEST))
        .await
        .unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::ResponseUnreadable);
    assert_eq!(server.requests().len(), 1);

    // A client that is given as it is follows, and its answer is refused.
    let governed = layer().layer(following().build().unwrap());
    let error = send(&governed, post(&server.url(), REQUEST))
        .await
        .unwrap_err();
    assert_eq!(
        violation(&error).message(),
        "the answer comes from another address than was asked, past the policy"
    );

    // In audit mode it passes, and tells where it came from.
    let enforcer = PolicyEnforcer::new(policy()).mode(Mode::Audit);
    let governed = SekuireLayer::from_enforcer(enforcer).layer(following().build().unwrap());
    let answer = send(&governed, post(&server.url(), REQUEST)).await.unwrap();
    assert_eq!(answer.url().path(), "/elsewhere");
}

#[tokio::test]
async fn a_request_keeps_its_extensions_and_its_timeout() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let nobody = Policy::from_yaml("permissions: { network: { enabled: false } }").unwrap();
    let governed = client(&SekuireLayer::from_source(PerRequest::or(
        PolicyEnforcer::new(nobody),
    )));
    let tenant = PolicyEnforcer::new(policy());
    let request = http::Request::post(server.url())
        .header(header::CONTENT_TYPE, "application/json")
        .extension(tenant.clone())
        .extension(AgentKey::new("team"))
        .body(REQUEST)
        .unwrap();
    let request = reqwest::Request::try_from(request).unwrap();
    send(&governed, request).await.unwrap();
    let error = send(&governed, post(&server.url(), REQUEST))
        .await
        .unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::NetworkDisabled);
    let layer = SekuireLayer::from_enforcer(tenant);
    let agents: Vec<_> = layer.usage().into_iter().map(|(agent, _)| agent).collect();
    assert_eq!(agents.len(), 1);
    assert_eq!(&*agents[0], "team");

    let server = Server::start(Answer::Never).await;
    let mut request = post(&server.url(), REQUEST);
    *request.timeout_mut() = Some(Duration::from_millis(50));
    let error = send(&client(&self::layer()), request).await.unwrap_err();
    assert!(error.downcast_ref::<reqwest::Error>().unwrap().is_timeout());
}

#[tokio::test]
async fn a_call_that_runs_no_model_passes_as_it_is() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let url = server.url().replace("chat/completions", "models");
    let request = reqwest::Client::new().get(&url).build().unwrap();
    let answer = send(&client(&layer()), request).await.unwrap();
    assert_eq!(answer.url().as_str(), url);
    assert_eq!(answer.text().await.unwrap(), DOCUMENT);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_violation() {
    let url = format!("http://{}/v1/chat/completions", loopback::nobody().await);
    let error = send(&client(&layer()), post(&url, REQUEST))
        .await
        .unwrap_err();
    assert!(PolicyViolation::find(&*error).is_none());
    assert!(error.downcast_ref::<reqwest::Error>().unwrap().is_connect());
}
