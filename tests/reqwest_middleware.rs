//! The policy in a reqwest-middleware client, against a server on loopback.

#![cfg(test)]

mod loopback;

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use loopback::{Answer, DOCUMENT, FORBIDDEN_STREAM, REQUEST, Server, layer, policy};
use reqwest::redirect;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Extension, Middleware, Next};
use tokio::net::TcpListener;
use tower_sekuire::{
    AgentKey, KillScope, KillSwitch, PolicyEnforcer, PolicyViolation, RateLimit, Respond, Rule,
    Seen, SekuireLayer, SekuireMiddleware,
};

/// Split where no event ends.
const STREAM: [&str; 3] = [
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel",
    "lo\"},\"finish_reason\":null}]}\n\n: keep-alive\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n",
    "\ndata: [DONE]\n\n",
];

fn governed(middleware: SekuireMiddleware) -> ClientWithMiddleware {
    governed_over(redirect::Policy::none(), middleware)
}

fn governed_over(
    redirects: redirect::Policy,
    middleware: SekuireMiddleware,
) -> ClientWithMiddleware {
    let client = reqwest::Client::builder()
        .redirect(redirects)
        .build()
        .unwrap();
    ClientBuilder::new(client).with(middleware).build()
}

fn post(
    client: &ClientWithMiddleware,
    url: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest_middleware::RequestBuilder {
    client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
}

fn violation(error: &(dyn Error + 'static)) -> PolicyViolation {
    PolicyViolation::find(error)
        .unwrap_or_else(|| panic!("no violation in {error:?}"))
        .clone()
}

#[tokio::test]
async fn an_allowed_call_passes_byte_for_byte_both_ways() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let client = governed(layer().into());
    let answer = post(&client, &server.url(), REQUEST).send().await.unwrap();

    assert_eq!(answer.url().as_str(), server.url());
    assert_eq!(answer.content_length(), Some(DOCUMENT.len() as u64));
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.text().await.unwrap(), DOCUMENT);

    let requests = server.requests();
    let [(headers, body)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(body, REQUEST);
    assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
    assert_eq!(headers[header::CONTENT_LENGTH], REQUEST.len().to_string());
}

#[tokio::test]
async fn a_streaming_request_body_is_judged_and_sent_on() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let client = governed(layer().into());
    let (first, second) = REQUEST.split_at(20);
    let body = reqwest::Body::wrap_stream(stream::iter([Ok::<_, Infallible>(first), Ok(second)]));
    post(&client, &server.url(), body).send().await.unwrap();
    assert_eq!(server.requests()[0].1, REQUEST);

    let body = reqwest::Body::wrap_stream(stream::iter([Err::<Bytes, _>("gone")]));
    let error = post(&client, &server.url(), body).send().await.unwrap_err();
    assert!(error.is_body(), "{error:?}");
    assert!(PolicyViolation::find(&error).is_none());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_allowed_stream_passes_byte_for_byte() {
    let server = Server::start(Answer::Events(&STREAM)).await;
    let client = governed(layer().into());
    let answer = post(&client, &server.url(), REQUEST).send().await.unwrap();
    assert_eq!(answer.url().as_str(), server.url());
    assert_eq!(answer.text().await.unwrap(), STREAM.concat());
}

#[tokio::test]
async fn a_blocked_model_is_refused_before_anything_is_sent() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let client = governed(layer().into());
    let request = REQUEST.replace("gpt-4o-mini", "gpt-3.5-turbo");
    let error = post(&client, &server.url(), request)
        .send()
        .await
        .unwrap_err();

    assert!(error.is_middleware());
    assert_eq!(error.to_string(), "the policy refused the call");
    let found = violation(&error);
    assert_eq!(
        found.to_string(),
        "[model_blocked] Model gpt-3.5-turbo is not allowed"
    );
    assert_eq!(found.seen(), Seen::Request);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_host_off_the_list_is_refused_by_the_head_alone() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let client = governed(layer().into());
    let url = server.url().replace("127.0.0.1", "localhost");
    let error = post(&client, &url, REQUEST).send().await.unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::NetworkNotAllowed);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_forbidden_tool_ends_the_stream_and_never_leaves() {
    let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
    let client = governed(layer().into());
    let mut answer = post(&client, &server.url(), REQUEST).send().await.unwrap();

    let mut received = Vec::new();
    let error = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => panic!("the stream ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!(received, FORBIDDEN_STREAM[0].as_bytes());
    let found = violation(&error);
    assert_eq!(
        found.to_string(),
        "[tool_blocked] Tool file_delete is blocked"
    );
    assert_eq!(found.seen(), Seen::Event(2));
}

#[tokio::test]
async fn the_rate_limit_is_shared_with_the_layer_it_was_made_from() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let enforcer = PolicyEnforcer::new(policy());
    let layer = SekuireLayer::from_enforcer(enforcer.clone());
    let client = governed(SekuireMiddleware::new(&layer));

    enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
    for _ in 0..2 {
        post(&client, &server.url(), REQUEST).send().await.unwrap();
    }
    let error = post(&client, &server.url(), REQUEST)
        .send()
        .await
        .unwrap_err();
    let found = violation(&error);
    assert_eq!(
        found.message(),
        "Rate limit exceeded: 3 requests per minute"
    );
    assert!(found.retry_after().is_some());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_request_or_its_client_tells_whose_limit_it_spends() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let layer = layer();
    let client = ClientBuilder::new(reqwest::Client::new())
        .with_init(Extension(AgentKey::new("writer")))
        .with(SekuireMiddleware::new(&layer))
        .build();
    post(&client, &server.url(), REQUEST).send().await.unwrap();
    post(&client, &server.url(), REQUEST)
        .with_extension(AgentKey::new("reviewer"))
        .send()
        .await
        .unwrap();
    let mut agents: Vec<_> = layer.usage().into_iter().map(|(agent, _)| agent).collect();
    agents.sort();
    assert_eq!(
        agents.iter().map(|agent| &**agent).collect::<Vec<_>>(),
        ["reviewer", "writer"]
    );
}

#[tokio::test]
async fn refusals_are_openai_answers_when_asked_for() {
    let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
    let client = governed(layer().respond(Respond::OpenAi).into());

    let request = REQUEST.replace("gpt-4o-mini", "gpt-3.5-turbo");
    let answer = post(&client, &server.url(), request).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(answer.url().as_str(), server.url());
    assert_eq!(answer.headers()["x-should-retry"], "false");
    assert!(answer.extensions().get::<PolicyViolation>().is_some());
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "model_blocked");

    let answer = post(&client, &server.url(), REQUEST).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let error = text.strip_prefix(FORBIDDEN_STREAM[0]).unwrap();
    assert!(error.starts_with("data: {\"error\":"), "{error}");
    assert!(error.contains("\"code\":\"tool_blocked\""), "{error}");
}

#[tokio::test]
async fn a_redirect_does_not_lead_past_the_policy() {
    let server = Server::start(Answer::Redirect(DOCUMENT)).await;
    for redirects in [redirect::Policy::none(), redirect::Policy::limited(3)] {
        let client = governed_over(redirects, layer().into());
        let error = post(&client, &server.url(), REQUEST)
            .send()
            .await
            .unwrap_err();
        assert_eq!(violation(&error).rule(), Rule::ResponseUnreadable);
    }
}

/// Tries again at a busy server, so many times in all.
struct RetryTimes(usize);

#[async_trait::async_trait]
impl Middleware for RetryTimes {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        for _ in 1..self.0 {
            let again = request.try_clone().unwrap();
            let answer = next.clone().run(again, extensions).await?;
            if !answer.status().is_server_error() {
                return Ok(answer);
            }
        }
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn each_attempt_of_a_retry_above_is_counted_and_the_limit_ends_it() {
    let server = Server::start(Answer::Busy).await;
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(RetryTimes(5))
        .with(SekuireMiddleware::from(layer()))
        .build();
    let sent = post(&client, &server.url(), REQUEST).send().await;
    assert_eq!(
        violation(&sent.unwrap_err()).rule(),
        Rule::RateLimitExceeded
    );
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn attempts_of_a_retry_below_are_not_counted() {
    let server = Server::start(Answer::Busy).await;
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(SekuireMiddleware::from(layer()))
        .with(RetryTimes(5))
        .build();
    let answer = post(&client, &server.url(), REQUEST).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn a_stream_can_end_in_an_event_where_requests_fail_with_an_error() {
    let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
    let client = governed(layer().respond(Respond::OpenAiInStream).into());
    let request = REQUEST.replace("gpt-4o-mini", "gpt-3.5-turbo");
    let sent = post(&client, &server.url(), request).send().await;
    assert_eq!(violation(&sent.unwrap_err()).rule(), Rule::ModelBlocked);
    let answer = post(&client, &server.url(), REQUEST).send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"code\":\"tool_blocked\""), "{text}");
}

#[tokio::test]
async fn a_call_that_runs_no_model_passes_as_it_is() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let client = governed(layer().into());
    let url = server.url().replace("chat/completions", "models");
    let answer = client
        .get(&url)
        .header("accept-encoding", "br")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.url().as_str(), url);
    assert_eq!(answer.text().await.unwrap(), DOCUMENT);
    assert_eq!(
        server.requests()[0].0[header::ACCEPT_ENCODING],
        "br",
        "the head is the caller's own"
    );
}

#[tokio::test]
async fn a_call_that_waits_is_given_up_when_somebody_stops_it() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    // One that is judged, and one that passes unread.
    for (path, plain) in [
        ("/v1/chat/completions", None),
        ("/weather", Some("127.0.0.1")),
    ] {
        let switch = KillSwitch::new();
        let layer = layer().kill_switch(&switch).plain_hosts(plain);
        let client = governed(SekuireMiddleware::from(layer));
        let call = client
            .post(format!("{url}{path}"))
            .header("content-type", "application/json")
            .body(REQUEST);
        let call = tokio::spawn(call.send());
        let (connection, _) = silent.accept().await.unwrap();
        switch.kill(KillScope::Everything, "");
        let refused = call.await.unwrap().unwrap_err();
        assert_eq!(violation(&refused).rule(), Rule::KillSwitch, "{path}");
        drop(connection);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_violation() {
    let client = governed(layer().into());
    let url = format!("http://{}/v1/chat/completions", loopback::nobody().await);
    let error = post(&client, &url, REQUEST).send().await.unwrap_err();
    assert!(error.is_connect());
    assert!(PolicyViolation::find(&error).is_none());
}
