//! What users of rig see of a policy in the client that their agents send through, against a server on loopback.

#![cfg(test)]

#[path = "../../loopback/mod.rs"]
mod loopback;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use loopback::{
    Answer, DOCUMENT, FORBIDDEN_DOCUMENT, FORBIDDEN_RESPONSES_STREAM, FORBIDDEN_STREAM, Server,
    layer,
};
use reqwest_middleware::{ClientBuilder, Extension};
use rig::completion::CompletionRequest;
use rig::core::error::{ErrorKind, ErrorReport, ProviderError};
use rig::prelude::*;
use rig::providers::openai::{OpenAI, OpenAIConfig};
use rig::rig_reqwest::ReqwestMiddlewareClient;
use rig::streaming::{Item, StreamEvent};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tower_sekuire::{
    AgentKey, KillScope, KillSwitch, PolicyViolation, Respond, Rule, Seen, SekuireLayer,
    SekuireMiddleware,
};

/// Long enough for a busy machine; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn openai(base: impl Into<String>, layer: &SekuireLayer) -> OpenAI {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let client = ClientBuilder::new(client)
        .with(SekuireMiddleware::new(layer))
        .build();
    OpenAIConfig::new("sk-test")
        .with_base_url(base)
        .connect(ReqwestMiddlewareClient::from(client))
}

/// As the documents recommend for agents.
fn answering() -> SekuireLayer {
    layer().respond(Respond::OpenAi)
}

fn agent(server: &Server, layer: &SekuireLayer, model: &str) -> Agent {
    AgentBuilder::new(openai(server.base(), layer).chat(model)).build()
}

async fn refused(agent: &Agent) -> PromptError {
    agent.prompt("Hi").await.unwrap_err()
}

/// An agent's error, in the one form in which the runtime passes a model's errors on.
fn report(error: &PromptError) -> &ErrorReport {
    let PromptError::Report(report) = error else {
        panic!("{error:?}")
    };
    report
}

/// Asserts that the error tells all of a refusal that is not worth trying again.
fn assert_refused(error: &PromptError, code: &str, message: &str) {
    let report = report(error);
    assert_eq!(report.kind, ErrorKind::ProviderResponse);
    assert_eq!(report.code.as_deref(), Some(code));
    assert!(!report.is_retryable());
    let answer = error.provider_response_json().unwrap().unwrap();
    assert_eq!(answer["error"]["code"], code);
    assert_eq!(answer["error"]["message"], message);
    assert_eq!(answer["error"]["type"], "policy_violation");
}

/// The text of a run's stream, and how it ended.
async fn read(agent: &Agent) -> (String, PromptError) {
    let mut stream = agent.prompt("Hi").stream();
    let mut text = String::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(MultiTurnStreamItem::StreamAssistantItem(Item::Event(StreamEvent::Text {
                text: piece,
                ..
            }))) => text.push_str(&piece),
            Ok(item) => {
                let item = format!("{item:?}");
                assert!(!item.contains("file_delete"), "{item}");
            }
            Err(error) => {
                assert!(stream.next().await.is_none());
                return (text, error);
            }
        }
    }
    panic!("the stream ended well, after {text:?}")
}

#[test]
fn the_example_shows_the_policy_at_work() {
    let output = Command::new(env!("CARGO_BIN_EXE_governed-rig"))
        .env_remove("OPENAI_API_KEY")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "calculator: 149597871 / 299792",
            "gpt-4o-mini: Light needs 499 seconds from the Sun to the Earth.",
            "gpt-3.5-turbo: [model_blocked] Model gpt-3.5-turbo is not allowed",
            "answer: [tool_blocked] Tool file_delete is blocked",
            "Removing old files.",
            "stream: [tool_blocked] Tool file_delete is blocked",
        ]
    );
}

#[tokio::test]
async fn an_allowed_call_is_answered() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let agent = agent(&server, &answering(), "gpt-4o-mini");
    assert_eq!(agent.prompt("Hi").await.unwrap().output(), "Hello");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_blocked_model_is_refused_before_anything_is_sent() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let agent = agent(&server, &answering(), "gpt-3.5-turbo");
    let message = "Model gpt-3.5-turbo is not allowed";
    let error = refused(&agent).await;
    assert_refused(&error, "model_blocked", message);
    assert_eq!(report(&error).http_status, Some(403));
    let (text, error) = read(&agent).await;
    assert_eq!(text, "");
    assert_refused(&error, "model_blocked", message);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_forbidden_tool_in_an_answer_never_reaches_the_agent() {
    let server = Server::start(Answer::Json(FORBIDDEN_DOCUMENT)).await;
    let agent = agent(&server, &answering(), "gpt-4o-mini");
    let error = refused(&agent).await;
    assert_refused(&error, "tool_blocked", "Tool file_delete is blocked");
    assert_eq!(report(&error).http_status, Some(403));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_stream_ends_with_the_violation_where_it_broke_a_rule() {
    // In a stream the policy answers so in either mode.
    for respond in [Respond::OpenAi, Respond::OpenAiInStream] {
        let layer = layer().respond(respond);
        let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
        let chat = agent(&server, &layer, "gpt-4o-mini");
        let (text, error) = read(&chat).await;
        assert_eq!(text, "On it");
        assert_refused(&error, "tool_blocked", "Tool file_delete is blocked");
        assert_eq!(report(&error).http_status, None, "its head was a good one");
    }
}

#[tokio::test]
async fn a_stream_of_responses_ends_with_the_violation_too() {
    let server = Server::start(Answer::Events(&FORBIDDEN_RESPONSES_STREAM)).await;
    let model = openai(server.base(), &answering()).responses("gpt-4o-mini");
    let (text, error) = read(&AgentBuilder::new(model).build()).await;
    assert_eq!(text, "On it");
    assert_refused(&error, "tool_blocked", "Tool file_delete is blocked");
}

#[tokio::test]
async fn a_limit_is_told_with_its_wait_and_never_waited_for() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    let layer = answering().on_decision(move |decision| {
        let refused = decision.violation.is_some();
        counted.fetch_add(usize::from(refused), Ordering::SeqCst);
    });
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let agent = agent(&server, &layer, "gpt-4o-mini");
    for _ in 0..3 {
        agent.prompt("Hi").await.unwrap();
    }
    let error = tokio::time::timeout(PATIENCE, refused(&agent))
        .await
        .unwrap();
    let report = report(&error);
    assert_eq!(report.http_status, Some(429));
    assert_eq!(report.code.as_deref(), Some("rate_limit_exceeded"));
    assert!(report.is_retryable(), "later");
    let headers = report.provider_response_headers().unwrap();
    let wait = headers[http::header::RETRY_AFTER].to_str().unwrap();
    assert!((1..=60).contains(&wait.parse::<u64>().unwrap()), "{wait}");
    assert_eq!(refusals.load(Ordering::SeqCst), 1);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn rig_tries_nothing_again_by_itself() {
    let server = Server::in_turn([Answer::Busy, Answer::Json(DOCUMENT)]).await;
    let agent = agent(&server, &answering(), "gpt-4o-mini");
    assert!(report(&refused(&agent).await).is_retryable());
    assert_eq!(server.requests().len(), 1);
}

/// Why refusals had better be answers. Should this fail because rig tells more, the documents can promise more.
#[tokio::test]
async fn an_agent_loses_the_sources_of_errors_and_takes_every_one_for_retryable() {
    let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
    let error = refused(&agent(&server, &layer(), "gpt-3.5-turbo")).await;
    assert!(PolicyViolation::find(&error).is_none());
    assert_eq!(
        error.to_string(),
        "HttpError: Http client error: the policy refused the call"
    );
    assert!(report(&error).is_retryable());
    assert!(report(&error).source_chain.is_empty());

    let (_, error) = read(&agent(&server, &layer(), "gpt-4o-mini")).await;
    assert!(PolicyViolation::find(&error).is_none());
    assert_eq!(
        error.to_string(),
        "HttpError: Http client error: error decoding response body"
    );
    assert!(report(&error).is_retryable());
}

/// What the client's own error tells: it has the violation, and rig's error around it names no source.
fn violation(error: &ProviderError) -> &PolicyViolation {
    assert!(PolicyViolation::find(error).is_none());
    let ProviderError::Http(error) = error else {
        panic!("{error:?}")
    };
    PolicyViolation::find(&**error).unwrap()
}

#[tokio::test]
async fn a_model_that_is_called_without_an_agent_keeps_the_violation() {
    let server = Server::start(Answer::Json(FORBIDDEN_DOCUMENT)).await;
    let openai = openai(server.base(), &layer());
    let hi = || CompletionRequest::new("Hi");
    let error = openai.chat("gpt-3.5-turbo").call(hi()).await.unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::ModelBlocked);
    assert_eq!(violation(&error).seen(), Seen::Request);
    let error = openai.chat("gpt-4o-mini").call(hi()).await.unwrap_err();
    assert_eq!(violation(&error).rule(), Rule::ToolBlocked);
    assert_eq!(violation(&error).seen(), Seen::Response);
}

#[tokio::test]
async fn a_stream_without_an_agent_keeps_the_violation_in_both_of_openais_forms() {
    let hi = || CompletionRequest::new("Hi");
    let server = Server::start(Answer::Events(&FORBIDDEN_STREAM)).await;
    let chat = openai(server.base(), &layer()).chat("gpt-4o-mini");
    let chat: Vec<_> = chat.stream(hi()).unwrap().collect().await;

    let server = Server::start(Answer::Events(&FORBIDDEN_RESPONSES_STREAM)).await;
    let responses = openai(server.base(), &layer()).responses("gpt-4o-mini");
    let responses: Vec<_> = responses.stream(hi()).unwrap().collect().await;

    for items in [chat, responses] {
        let (last, before) = items.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok), "{before:?}");
        let error = last.as_ref().unwrap_err();
        assert_eq!(violation(error).seen(), Seen::Event(2));
    }
}

#[tokio::test]
async fn a_client_tells_whose_limit_its_agents_spend() {
    let server = Server::start(Answer::Json(DOCUMENT)).await;
    let layer = answering();
    let client = ClientBuilder::new(reqwest::Client::new())
        .with_init(Extension(AgentKey::new("writer")))
        .with(SekuireMiddleware::new(&layer))
        .build();
    let openai = OpenAIConfig::new("sk-test")
        .with_base_url(server.base())
        .connect(ReqwestMiddlewareClient::from(client));
    let agent = AgentBuilder::new(openai.chat("gpt-4o-mini")).build();
    agent.prompt("Hi").await.unwrap();
    let usage = layer.usage();
    assert_eq!(usage.len(), 1);
    assert_eq!(&*usage[0].0, "writer");
}

#[tokio::test]
async fn a_call_that_waits_is_refused_when_somebody_stops_it() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", silent.local_addr().unwrap());
    let switch = KillSwitch::new();
    let layer = answering().kill_switch(&switch);
    let agent = AgentBuilder::new(openai(base, &layer).chat("gpt-4o-mini")).build();
    let call = tokio::spawn(async move { refused(&agent).await });
    let (_connection, _) = silent.accept().await.unwrap();
    switch.kill(KillScope::Everything, "");
    let error = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
    assert_eq!(report(&error).code.as_deref(), Some("kill_switch"));
}

#[tokio::test]
async fn an_agent_that_is_dropped_drops_its_call() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", silent.local_addr().unwrap());
    let agent = AgentBuilder::new(openai(base, &answering()).chat("gpt-4o-mini")).build();
    let call = tokio::spawn(async move { agent.prompt("Hi").await });
    let (mut connection, _) = silent.accept().await.unwrap();
    call.abort();
    // The client closes the connection of a call that nobody waits for.
    let mut request = Vec::new();
    tokio::time::timeout(PATIENCE, connection.read_to_end(&mut request))
        .await
        .expect("the call goes on")
        .ok();
}
