//! The policy below an async-openai client, against a server on loopback.

#![cfg(test)]

mod loopback;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_openai::middleware::retry::{OpenAIRetryLayer, SimpleRetryPolicy};
use async_openai::traits::RequestOptionsBuilder;
use async_openai::types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequest};
use async_openai::types::responses::{CreateResponse, InputParam, ResponseStreamEvent};
use futures_util::StreamExt;
use http::header;
use loopback::{
    Answer, DOCUMENT, FORBIDDEN_DOCUMENT, FORBIDDEN_RESPONSES_STREAM, FORBIDDEN_STREAM, REQUEST,
    Server, layer,
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_sekuire::{AgentKey, PolicyViolation, Respond, Rule, Seen, SekuireLayer, SekuireOpenAi};

const BUSY_TWICE: [Answer; 3] = [Answer::Busy, Answer::Busy, Answer::Json(DOCUMENT)];

fn config(server: &Server) -> OpenAIConfig {
    OpenAIConfig::new()
        .with_api_base(server.base())
        .with_api_key("sk-test")
}

/// A client under `layer`, with the retries that async-openai makes by itself.
fn client(server: &Server, layer: &SekuireLayer) -> Client<OpenAIConfig> {
    let governed = layer.reqwest_client(reqwest::Client::builder()).unwrap();
    let service = ServiceBuilder::new()
        .layer(OpenAIRetryLayer::default())
        .service(SekuireOpenAi::new(governed));
    Client::with_config(config(server)).with_http_service(service)
}

fn ask(model: &str) -> CreateChatCompletionRequest {
    CreateChatCompletionRequest {
        model: model.to_owned(),
        messages: vec![ChatCompletionRequestUserMessage::from("Hi").into()],
        ..Default::default()
    }
}

/// The violation, found in the error and as the error itself.
fn violation(error: &OpenAIError) -> PolicyViolation {
    let OpenAIError::Boxed(inner) = error else {
        panic!("{error:?}")
    };
    assert!(inner.downcast_ref::<PolicyViolation>().is_some());
    PolicyViolation::find(error).unwrap().clone()
}

#[tokio::test]
async fn an_allowed_call_is_answered() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let client = client(&server, &layer());
    let answer = client.chat().create(ask("gpt-4o-mini")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.choices[0].message.content.as_deref(), Some("Hello"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_blocked_model_is_an_error_and_never_tried_again() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    // Also a layer that would answer as a server does gives errors here.
    for layer in [layer(), layer().respond(Respond::OpenAi)] {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        let layer = layer.on_decision(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let client = client(&server, &layer);
        let refused = client.chat().create(ask("gpt-3.5-turbo")).await;
        let error = refused.unwrap_err();
        assert_eq!(
            error.to_string(),
            "[model_blocked] Model gpt-3.5-turbo is not allowed"
        );
        assert_eq!(violation(&error).seen(), Seen::Request);
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_limit_of_the_policy_is_never_waited_for() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let layer = layer().respond(Respond::OpenAi);
    let client = client(&server, &layer);
    for _ in 0..3 {
        client.chat().create(ask("gpt-4o-mini")).await.unwrap();
    }
    let refused = async { client.chat().create(ask("gpt-4o-mini")).await };
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await;
    let error = refused.unwrap().unwrap_err();
    let found = violation(&error);
    assert_eq!(found.rule(), Rule::RateLimitExceeded);
    assert!(found.retry_after().is_some());
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn every_attempt_of_a_retry_above_is_judged_and_counted() {
    let server = Server::in_turn(BUSY_TWICE).await;
    let layer = layer();
    let client = client(&server, &layer);
    client.chat().create(ask("gpt-4o-mini")).await.unwrap();
    assert_eq!(server.requests().len(), 3);
    // Three requests a minute are allowed, and three were sent.
    let error = client.chat().create(ask("gpt-4o-mini")).await.unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::RateLimitExceeded);
}

#[tokio::test]
async fn a_retry_policy_of_towers_does_as_well() {
    let server = Server::in_turn(BUSY_TWICE).await;
    let governed = layer().reqwest_client(reqwest::Client::builder()).unwrap();
    let service = ServiceBuilder::new()
        .retry(SimpleRetryPolicy::default())
        .service(SekuireOpenAi::new(governed));
    let client = Client::with_config(config(&server)).with_http_service(service);
    client.chat().create(ask("gpt-4o-mini")).await.unwrap();
    let error = client.chat().create(ask("o3")).await.unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::ModelNotAllowed);
    assert_eq!(server.requests().len(), 3);
}

/// What each agent has spent of its limit.
fn spent(layer: &SekuireLayer) -> Vec<(String, u64)> {
    let mut spent: Vec<_> = layer
        .usage()
        .into_iter()
        .map(|(agent, limits)| (agent.to_string(), limits[0].used()))
        .collect();
    spent.sort();
    spent
}

#[tokio::test]
async fn a_header_of_a_call_tells_whose_limit_it_spends() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let layer = layer().agent_key(|request| {
        let agent = request.headers.get("x-agent")?.to_str().ok()?;
        Some(AgentKey::new(agent))
    });
    let client = client(&server, &layer);
    for agent in ["writer", "reviewer", "writer"] {
        let chat = client.chat().header("x-agent", agent).unwrap();
        chat.create(ask("gpt-4o-mini")).await.unwrap();
    }
    let expected = [("reviewer".to_owned(), 1), ("writer".to_owned(), 2)];
    assert_eq!(spent(&layer), expected);
}

/// Puts an agent's key into the extensions of each request of a client.
fn of_agent(key: &str) -> impl Fn(HttpRequestFactory) -> HttpRequestFactory + Clone + use<> {
    let key = AgentKey::new(key);
    move |factory| {
        let key = key.clone();
        HttpRequestFactory::new(move || {
            let (factory, key) = (factory.clone(), key.clone());
            async move {
                let request = factory.build().await?;
                let mut request = http::Request::<reqwest::Body>::try_from(request)?;
                request.extensions_mut().insert(key);
                Ok(reqwest::Request::try_from(request)?)
            }
        })
    }
}

#[tokio::test]
async fn a_client_of_an_agents_own_tells_whose_limit_it_spends() {
    let server = Server::in_turn(BUSY_TWICE).await;
    let layer = layer();
    let governed = layer.reqwest_client(reqwest::Client::builder()).unwrap();
    for agent in ["writer", "reviewer"] {
        let service = ServiceBuilder::new()
            .layer(OpenAIRetryLayer::default())
            .map_request(of_agent(agent))
            .service(SekuireOpenAi::new(governed.clone()));
        let client = Client::with_config(config(&server)).with_http_service(service);
        client.chat().create(ask("gpt-4o-mini")).await.unwrap();
    }
    // The first call was tried three times.
    let expected = [("reviewer".to_owned(), 1), ("writer".to_owned(), 3)];
    assert_eq!(spent(&layer), expected);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let nobody = format!("http://{}/v1", loopback::nobody().await);
    let config = OpenAIConfig::new().with_api_base(nobody);
    let governed = layer().reqwest_client(reqwest::Client::builder()).unwrap();
    let service = ServiceBuilder::new()
        .layer(OpenAIRetryLayer::new(1))
        .service(SekuireOpenAi::new(governed.clone()));
    let client = Client::with_config(config).with_http_service(service);
    let error = client.chat().create(ask("gpt-4o-mini")).await.unwrap_err();
    let OpenAIError::Reqwest(error) = error else {
        panic!("{error:?}")
    };
    assert!(error.is_connect());
}

#[tokio::test]
async fn what_is_judged_is_what_is_sent() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let builds = Arc::new(AtomicUsize::new(0));
    let counted = builds.clone();
    let url = server.url();
    // A factory that makes an allowed request once, and forbidden ones from then on.
    let factory = HttpRequestFactory::new(move || {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let model = if first {
            "gpt-4o-mini"
        } else {
            "gpt-3.5-turbo"
        };
        let request = reqwest::Client::new()
            .post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(REQUEST.replace("gpt-4o-mini", model));
        async move { Ok(request.build()?) }
    });
    let governed = layer().reqwest_client(reqwest::Client::builder()).unwrap();
    let mut service = SekuireOpenAi::new(governed);
    let answer = service.ready().await.unwrap().call(factory.clone()).await;
    assert_eq!(
        answer.unwrap().url().path(),
        "/v1/chat/completions",
        "the answer tells its URL"
    );
    assert_eq!(builds.load(Ordering::SeqCst), 1);
    assert_eq!(server.requests()[0].1, REQUEST);

    let refused = service.ready().await.unwrap().call(factory).await;
    assert_eq!(violation(&refused.unwrap_err()).rule(), Rule::ModelBlocked);
    assert_eq!(builds.load(Ordering::SeqCst), 2);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_calls_a_forbidden_tool_is_an_error() {
    let server = Server::start(Answer::Json(FORBIDDEN_DOCUMENT)).await;
    let client = client(&server, &layer());
    let refused = client.chat().create(ask("gpt-4o-mini")).await;
    let found = violation(&refused.unwrap_err());
    assert_eq!(
        (found.rule(), found.seen()),
        (Rule::ToolBlocked, Seen::Response)
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_chat_stream_ends_with_the_words_of_the_violation() {
    let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
    let client = client(&server, &layer());
    let mut stream = client
        .chat()
        .create_stream(ask("gpt-4o-mini"))
        .await
        .unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.choices[0].delta.content.as_deref(), Some("On it"));
    let error = stream.next().await.unwrap().unwrap_err();
    let OpenAIError::JSONDeserialize(_, event) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        event,
        r#"{"error":{"code":"tool_blocked","message":"Tool file_delete is blocked","param":"tools","type":"policy_violation"}}"#
    );
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_of_responses_ends_with_an_error_event() {
    let server = Server::start(Answer::Events(&FORBIDDEN_RESPONSES_STREAM)).await;
    let client = client(&server, &layer());
    let request = CreateResponse {
        model: Some("gpt-4o-mini".to_owned()),
        input: InputParam::Text("Hi".to_owned()),
        ..Default::default()
    };
    let mut stream = client.responses().create_stream(request).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(
        first,
        ResponseStreamEvent::ResponseOutputTextDelta(_)
    ));
    let last = stream.next().await.unwrap().unwrap();
    let ResponseStreamEvent::ResponseError(error) = last else {
        panic!("{last:?}")
    };
    assert_eq!(error.message, "Tool file_delete is blocked");
    assert_eq!(error.code.as_deref(), Some("tool_blocked"));
    assert!(stream.next().await.is_none());
}
