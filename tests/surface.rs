//! Every endpoint of the API under every rule: judged, refused because nobody here can read it, or known to run no
//! model. Nothing else passes.

#![cfg(test)]

mod support;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Outcome, Stand, Upstream, chat, request_to};
use tower_sekuire::{Phase, Rule, Verdict};

const HOST: &str = "https://api.openai.com";

/// What must become of a call to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It runs a model: every rule holds.
    Runs,
    /// It stores models or tools, or returns what a model said: judged, but nothing is counted.
    Judged,
    /// It runs no model and returns nothing that one said.
    Passes,
    /// It could, and can't be read.
    Refused,
}

/// What a request says, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Chat,
    /// A model and no tools.
    Model,
    /// As `Model`, and it may be a form.
    Form,
    Responses,
    /// A model, and a history.
    Decision,
    /// Items that may bring tools.
    Items,
    Assistant,
    Run,
    /// The results of tools that a run asked for.
    Results,
    Thread,
    Message,
    Eval,
    Tuning,
    Grader,
    Session,
    Agent,
    /// A form with a file.
    File,
}

use Fate::{Judged, Passes, Refused, Runs};
use Says::{
    Agent, Assistant, Chat, Decision, Eval, File, Form, Grader, Items, Message, Model, Nothing,
    Responses, Results, Run, Session, Thread, Tuning,
};

type Row = (&'static str, &'static str, Fate, Says);

/// The API reference, in its order. `{}` stands for an id.
#[rustfmt::skip]
const API: &[Row] = &[
    ("POST",   "/responses",                                   Runs,    Responses),
    ("GET",    "/responses/{}",                                Judged,  Nothing),
    ("DELETE", "/responses/{}",                                Passes,  Nothing),
    ("POST",   "/responses/{}/cancel",                         Judged,  Nothing),
    ("POST",   "/responses/compact",                           Runs,    Responses),
    ("GET",    "/responses/{}/input_items",                    Judged,  Nothing),
    ("POST",   "/responses/input_tokens",                      Judged,  Responses),
    ("POST",   "/decisions",                                   Runs,    Decision),
    ("POST",   "/conversations",                               Judged,  Items),
    ("GET",    "/conversations/{}",                            Passes,  Nothing),
    ("POST",   "/conversations/{}",                            Passes,  Nothing),
    ("DELETE", "/conversations/{}",                            Passes,  Nothing),
    ("GET",    "/conversations/{}/items",                      Judged,  Nothing),
    ("POST",   "/conversations/{}/items",                      Judged,  Items),
    ("GET",    "/conversations/{}/items/{}",                   Judged,  Nothing),
    ("DELETE", "/conversations/{}/items/{}",                   Passes,  Nothing),
    ("POST",   "/audio/speech",                                Runs,    Model),
    ("POST",   "/audio/transcriptions",                        Runs,    Form),
    ("POST",   "/audio/translations",                          Runs,    Form),
    ("POST",   "/audio/voices",                                Refused, Nothing),
    ("POST",   "/audio/voice_consents",                        Refused, Nothing),
    ("POST",   "/audio/voice_consents/{}",                     Refused, Nothing),
    ("POST",   "/videos",                                      Runs,    Form),
    ("POST",   "/videos/edits",                                Runs,    Form),
    ("POST",   "/videos/extensions",                           Runs,    Form),
    ("POST",   "/videos/characters",                           Runs,    Form),
    ("POST",   "/videos/{}/remix",                             Runs,    Form),
    ("GET",    "/videos",                                      Passes,  Nothing),
    ("GET",    "/videos/{}",                                   Passes,  Nothing),
    ("GET",    "/videos/{}/content",                           Passes,  Nothing),
    ("DELETE", "/videos/{}",                                   Passes,  Nothing),
    ("POST",   "/images/generations",                          Runs,    Model),
    ("POST",   "/images/edits",                                Runs,    Form),
    ("POST",   "/images/variations",                           Runs,    Form),
    ("POST",   "/embeddings",                                  Runs,    Model),
    ("POST",   "/evals",                                       Judged,  Eval),
    ("GET",    "/evals",                                       Passes,  Nothing),
    ("GET",    "/evals/{}",                                    Passes,  Nothing),
    ("POST",   "/evals/{}",                                    Judged,  Eval),
    ("DELETE", "/evals/{}",                                    Passes,  Nothing),
    ("POST",   "/evals/{}/runs",                               Runs,    Eval),
    ("GET",    "/evals/{}/runs",                               Passes,  Nothing),
    ("GET",    "/evals/{}/runs/{}",                            Passes,  Nothing),
    ("DELETE", "/evals/{}/runs/{}",                            Passes,  Nothing),
    ("GET",    "/evals/{}/runs/{}/output_items",               Judged,  Nothing),
    ("GET",    "/evals/{}/runs/{}/output_items/{}",            Judged,  Nothing),
    ("POST",   "/fine_tuning/jobs",                            Judged,  Tuning),
    ("GET",    "/fine_tuning/jobs",                            Passes,  Nothing),
    ("GET",    "/fine_tuning/jobs/{}",                         Passes,  Nothing),
    ("POST",   "/fine_tuning/jobs/{}/cancel",                  Passes,  Nothing),
    ("GET",    "/fine_tuning/jobs/{}/events",                  Passes,  Nothing),
    ("GET",    "/fine_tuning/jobs/{}/checkpoints",             Passes,  Nothing),
    ("POST",   "/fine_tuning/alpha/graders/run",               Runs,    Grader),
    ("POST",   "/fine_tuning/alpha/graders/validate",          Runs,    Grader),
    ("GET",    "/fine_tuning/checkpoints/{}/permissions",      Refused, Nothing),
    ("POST",   "/fine_tuning/checkpoints/{}/permissions",      Refused, Nothing),
    ("DELETE", "/fine_tuning/checkpoints/{}/permissions/{}",   Refused, Nothing),
    ("POST",   "/batches",                                     Refused, Nothing),
    ("GET",    "/batches",                                     Passes,  Nothing),
    ("GET",    "/batches/{}",                                  Passes,  Nothing),
    ("POST",   "/batches/{}/cancel",                           Passes,  Nothing),
    ("POST",   "/files",                                       Judged,  File),
    ("GET",    "/files",                                       Passes,  Nothing),
    ("GET",    "/files/{}",                                    Passes,  Nothing),
    ("DELETE", "/files/{}",                                    Passes,  Nothing),
    ("GET",    "/files/{}/content",                            Judged,  Nothing),
    ("POST",   "/uploads",                                     Refused, Nothing),
    ("POST",   "/uploads/{}/parts",                            Refused, Nothing),
    ("POST",   "/uploads/{}/complete",                         Refused, Nothing),
    ("POST",   "/uploads/{}/cancel",                           Passes,  Nothing),
    ("GET",    "/models",                                      Passes,  Nothing),
    ("GET",    "/models/{}",                                   Passes,  Nothing),
    ("DELETE", "/models/{}",                                   Refused, Nothing),
    ("POST",   "/moderations",                                 Runs,    Model),
    ("POST",   "/vector_stores",                               Passes,  Nothing),
    ("GET",    "/vector_stores",                               Passes,  Nothing),
    ("GET",    "/vector_stores/{}",                            Passes,  Nothing),
    ("POST",   "/vector_stores/{}",                            Passes,  Nothing),
    ("DELETE", "/vector_stores/{}",                            Passes,  Nothing),
    ("POST",   "/vector_stores/{}/search",                     Passes,  Nothing),
    ("POST",   "/vector_stores/{}/files",                      Passes,  Nothing),
    ("GET",    "/vector_stores/{}/files",                      Passes,  Nothing),
    ("GET",    "/vector_stores/{}/files/{}",                   Passes,  Nothing),
    ("POST",   "/vector_stores/{}/files/{}",                   Passes,  Nothing),
    ("DELETE", "/vector_stores/{}/files/{}",                   Passes,  Nothing),
    ("GET",    "/vector_stores/{}/files/{}/content",           Passes,  Nothing),
    ("POST",   "/vector_stores/{}/file_batches",               Passes,  Nothing),
    ("GET",    "/vector_stores/{}/file_batches/{}",            Passes,  Nothing),
    ("POST",   "/vector_stores/{}/file_batches/{}/cancel",     Passes,  Nothing),
    ("GET",    "/vector_stores/{}/file_batches/{}/files",      Passes,  Nothing),
    ("POST",   "/chatkit/sessions",                            Refused, Nothing),
    ("POST",   "/containers",                                  Refused, Nothing),
    ("GET",    "/containers",                                  Passes,  Nothing),
    ("GET",    "/containers/{}",                               Passes,  Nothing),
    ("DELETE", "/containers/{}",                               Passes,  Nothing),
    ("POST",   "/containers/{}/files",                         Refused, Nothing),
    ("GET",    "/containers/{}/files",                         Passes,  Nothing),
    ("GET",    "/containers/{}/files/{}",                      Passes,  Nothing),
    ("DELETE", "/containers/{}/files/{}",                      Passes,  Nothing),
    ("POST",   "/skills",                                      Refused, Nothing),
    ("POST",   "/skills/{}",                                   Refused, Nothing),
    ("POST",   "/skills/{}/versions",                          Refused, Nothing),
    ("GET",    "/skills",                                      Passes,  Nothing),
    ("GET",    "/skills/{}",                                   Passes,  Nothing),
    ("DELETE", "/skills/{}",                                   Passes,  Nothing),
    ("GET",    "/realtime",                                    Refused, Nothing),
    ("POST",   "/realtime/sessions",                           Judged,  Session),
    ("POST",   "/realtime/client_secrets",                     Refused, Nothing),
    ("POST",   "/realtime/transcription_sessions",             Judged,  Session),
    ("POST",   "/realtime/translations/client_secrets",        Refused, Nothing),
    ("POST",   "/realtime/calls",                              Refused, Nothing),
    ("POST",   "/realtime/calls/{}/accept",                    Runs,    Session),
    ("POST",   "/realtime/calls/{}/hangup",                    Passes,  Nothing),
    ("POST",   "/realtime/calls/{}/refer",                     Passes,  Nothing),
    ("POST",   "/realtime/calls/{}/reject",                    Passes,  Nothing),
    ("POST",   "/live/sessions",                               Runs,    Session),
    ("POST",   "/live/sessions/{}/accept",                     Runs,    Session),
    ("POST",   "/live/sessions/{}/fork",                       Runs,    Session),
    ("POST",   "/chat/completions",                            Runs,    Chat),
    ("GET",    "/chat/completions",                            Judged,  Nothing),
    ("GET",    "/chat/completions/{}",                         Judged,  Nothing),
    ("GET",    "/chat/completions/{}/messages",                Judged,  Nothing),
    ("POST",   "/chat/completions/{}",                         Passes,  Nothing),
    ("DELETE", "/chat/completions/{}",                         Passes,  Nothing),
    ("POST",   "/assistants",                                  Judged,  Assistant),
    ("GET",    "/assistants",                                  Passes,  Nothing),
    ("GET",    "/assistants/{}",                               Passes,  Nothing),
    ("POST",   "/assistants/{}",                               Judged,  Assistant),
    ("DELETE", "/assistants/{}",                               Passes,  Nothing),
    ("POST",   "/threads",                                     Judged,  Thread),
    ("POST",   "/threads/runs",                                Runs,    Run),
    ("GET",    "/threads/{}",                                  Passes,  Nothing),
    ("POST",   "/threads/{}",                                  Judged,  Thread),
    ("DELETE", "/threads/{}",                                  Passes,  Nothing),
    ("POST",   "/threads/{}/messages",                         Judged,  Message),
    ("GET",    "/threads/{}/messages",                         Judged,  Nothing),
    ("GET",    "/threads/{}/messages/{}",                      Judged,  Nothing),
    ("POST",   "/threads/{}/messages/{}",                      Passes,  Nothing),
    ("DELETE", "/threads/{}/messages/{}",                      Passes,  Nothing),
    ("POST",   "/threads/{}/runs",                             Runs,    Run),
    ("GET",    "/threads/{}/runs",                             Judged,  Nothing),
    ("GET",    "/threads/{}/runs/{}",                          Judged,  Nothing),
    ("POST",   "/threads/{}/runs/{}",                          Passes,  Nothing),
    ("POST",   "/threads/{}/runs/{}/cancel",                   Judged,  Nothing),
    ("POST",   "/threads/{}/runs/{}/submit_tool_outputs",      Runs,    Results),
    ("GET",    "/threads/{}/runs/{}/steps",                    Judged,  Nothing),
    ("GET",    "/threads/{}/runs/{}/steps/{}",                 Judged,  Nothing),
    ("POST",   "/completions",                                 Runs,    Model),
    ("POST",   "/agents",                                      Judged,  Assistant),
    ("POST",   "/agents/{}",                                   Refused, Nothing),
    ("POST",   "/agents/sessions",                             Runs,    Agent),
    ("POST",   "/agents/sessions/{}",                          Runs,    Agent),
    ("POST",   "/agents/sessions/{}/events",                   Runs,    Agent),
    ("POST",   "/agents/automations",                          Refused, Nothing),
    ("POST",   "/agents/automations/{}/invocations",           Refused, Nothing),
    ("POST",   "/agents/environments",                         Refused, Nothing),
    ("POST",   "/vaults",                                      Refused, Nothing),
    ("POST",   "/content_provenance_checks",                   Refused, Nothing),
    ("POST",   "/webhook_endpoints",                           Refused, Nothing),
    ("GET",    "/organization/users",                          Refused, Nothing),
    ("POST",   "/organization/admin_api_keys",                 Refused, Nothing),
    ("POST",   "/projects/{}/service_accounts",                Refused, Nothing),
    ("POST",   "/engines/{}/completions",                      Refused, Nothing),
    ("POST",   "/edits",                                       Refused, Nothing),
    ("POST",   "/answers",                                     Refused, Nothing),
    ("POST",   "/fine_tunes",                                  Refused, Nothing),
];

const POLICY: &str = "
agent:
  name: tested
  models: { allowed_models: [gpt-4o] }
  toolsets: { allowed_tools: [safe] }
";

/// A policy under which not one request may be made.
const FULL: &str = "rate_limits: { per_agent: { requests_per_minute: 0 } }";

const BOUNDARY: &str = "edge";

fn form(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        let filename = if *name == "file" {
            "; filename=\"f\""
        } else {
            ""
        };
        body.push_str(&format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{value}\r\n"
        ));
    }
    body + &format!("--{BOUNDARY}--\r\n")
}

fn line(model: &str, tool: &str) -> String {
    json!({"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": body(Responses, model, tool)})
        .to_string()
}

/// A request that names this model and this tool, wherever it can.
fn body(says: Says, model: &str, tool: &str) -> Value {
    let flat = json!([{"type": "function", "name": tool}]);
    let nested = json!([{"type": "function", "function": {"name": tool}}]);
    let painter = json!({"type": "image_generation", "model": model});
    match says {
        Nothing => Value::Null,
        Chat => json!({"model": model, "messages": [], "tools": nested}),
        Model | Form => json!({"model": model, "input": "x", "prompt": "x"}),
        Responses => json!({"model": model, "input": "x", "tools": flat}),
        Decision => {
            json!({"model": model, "input": [{"type": "additional_tools", "tools": flat}]})
        }
        // Without a model of its own: the tool that paints has one.
        Items if model != "gpt-4o" => {
            json!({"items": [{"type": "additional_tools", "tools": [painter]}]})
        }
        Items => json!({"items": [{"type": "additional_tools", "tools": flat}]}),
        Assistant => json!({"model": model, "tools": nested}),
        Run => json!({"assistant_id": "a", "model": model, "tools": nested}),
        Results => json!({"tool_outputs": [{"tool_call_id": "c", "output": "x"}]}),
        Thread => {
            json!({"messages": [{"role": "user", "content": "x", "attachments": [{"file_id": "f", "tools": nested}]}]})
        }
        Message => {
            json!({"role": "user", "content": "x", "attachments": [{"file_id": "f", "tools": nested}]})
        }
        Eval => {
            json!({"testing_criteria": [{"model": model}], "data_source": {"model": model, "sampling_params": {"tools": flat}}})
        }
        Tuning => json!({"model": model, "training_file": "f"}),
        Grader => json!({"grader": {"type": "score_model", "model": model}}),
        Session => json!({"model": model, "tools": flat}),
        Agent => json!({"agent": {"model": model, "tools": flat}, "input": []}),
        File => Value::Null,
    }
}

const fn names_a_model(says: Says) -> bool {
    !matches!(says, Nothing | Results | Thread | Message)
}

const fn names_a_tool(says: Says) -> bool {
    !matches!(says, Nothing | Model | Form | Results | Tuning | Grader)
}

fn raw(method: &str, url: &str, kind: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = request_to(url, body);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    request.headers_mut().remove("content-type");
    if !kind.is_empty() {
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
    }
    request
}

/// The request of a row, in every form that it may have.
fn requests(row: &Row, base: &str, model: &str, tool: &str) -> Vec<Request<Full<Bytes>>> {
    let (method, path, _, says) = *row;
    let url = format!("{HOST}{base}{}", path.replace("{}", "id1"));
    let json = || {
        raw(
            method,
            &url,
            "application/json",
            body(says, model, tool).to_string(),
        )
    };
    let multipart = format!("multipart/form-data; boundary={BOUNDARY}");
    match says {
        Nothing => vec![raw(method, &url, "", "")],
        Form => {
            let form = form(&[("model", model), ("file", "RIFF"), ("prompt", "x")]);
            vec![json(), raw(method, &url, &multipart, form)]
        }
        File => {
            let line = line(model, tool);
            let form = form(&[("purpose", "batch"), ("file", &line)]);
            vec![raw(method, &url, &multipart, form)]
        }
        _ => vec![json()],
    }
}

/// Answers in which this tool is called, each in a form that some endpoint has, as documents and as event streams.
fn answers(row: &Row, tool: &str) -> Vec<(bool, String)> {
    let call = json!({"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": tool, "arguments": "{}"});
    let nested =
        json!({"id": "call_1", "type": "function", "function": {"name": tool, "arguments": "{}"}});
    let event = |document: &Value| format!("data: {document}\n\n");
    if row.1 == "/chat/completions/{}/messages" {
        let list = json!({"object": "list", "data": [{"id": "m", "role": "assistant", "content": null, "tool_calls": [nested]}]});
        return vec![(false, list.to_string()), (true, event(&list))];
    }
    if row.1.starts_with("/chat/completions") || row.1 == "/completions" {
        let document = chat::answer(&json!({"role": "assistant", "tool_calls": [nested]}));
        let mut forms = vec![
            (false, document.clone()),
            (true, chat::opened(0, tool) + chat::DONE),
        ];
        if (row.0, row.1) == ("GET", "/chat/completions") {
            forms.push((false, format!(r#"{{"object":"list","data":[{document}]}}"#)));
        }
        return forms;
    }
    let run = json!({"object": "thread.run", "status": "requires_action", "required_action": {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [nested]}}});
    let step = json!({"object": "thread.run.step", "step_details": {"type": "tool_calls", "tool_calls": [nested]}});
    let response = json!({"object": "response", "status": "completed", "output": [call]});
    let list = json!({"object": "list", "data": [call]});
    let added = json!({"type": "response.output_item.added", "output_index": 0, "item": call});
    let completed = json!({"type": "response.completed", "response": response});
    vec![
        (false, run.to_string()),
        (false, step.to_string()),
        (false, response.to_string()),
        (false, list.to_string()),
        (false, call.to_string()),
        (true, event(&added) + &event(&completed)),
        (true, event(&completed)),
    ]
}

/// An answer that calls nothing, which every format can be.
fn calm(row: &Row, stream: bool) -> Upstream {
    let chat = row.1.starts_with("/chat/completions") || row.1 == "/completions";
    match (stream, chat) {
        (false, true) => Upstream::json(chat::answer(&json!({"content": "hello"}))),
        (true, true) => Upstream::stream(chat::text("hello") + chat::DONE),
        (false, false) => Upstream::json(r#"{"object":"thing","usage":{"total_tokens":7}}"#),
        (true, false) => {
            Upstream::stream("data: {\"type\":\"response.completed\",\"response\":{}}\n\n")
        }
    }
}

fn upstream(answer: &(bool, String)) -> Upstream {
    if answer.0 {
        Upstream::stream(answer.1.clone())
    } else {
        Upstream::json(answer.1.clone())
    }
}

/// A cell of the table: the rule that refuses, after checking that a refused request was not sent.
#[track_caller]
fn judged(cell: &str, upstream: &Upstream, outcome: &Outcome) -> Option<Rule> {
    let rule = outcome.rule();
    if outcome.error.is_some() {
        assert!(rule.is_some(), "{cell}: {:?}", outcome.error);
    }
    if outcome.error.is_some() && outcome.head.is_none() {
        assert!(upstream.calls() <= 1, "{cell}");
    }
    assert!(
        !outcome.text().contains("evil"),
        "{cell}: {}",
        outcome.text()
    );
    rule
}

/// What a call under this policy comes to before it is sent, whatever the answer.
#[track_caller]
fn cell(policy: &str, row: &Row, base: &str, model: &str, tool: &str, expected: Option<Rule>) {
    for stream in [false, true] {
        for request in requests(row, base, model, tool) {
            let stand = Stand::yaml(policy);
            let upstream = calm(row, stream);
            let sent = request.body().clone();
            let name = format!("{} {base}{} {model} {tool} stream={stream}", row.0, row.1);
            let outcome = stand.call(&upstream, request);
            assert_eq!(
                judged(&name, &upstream, &outcome),
                expected,
                "{name}: {:?}",
                outcome.error
            );
            assert_eq!(upstream.calls(), usize::from(expected.is_none()), "{name}");
            let verdict = stand.told()[0].verdict;
            let told = match (row.2, expected) {
                (_, Some(_)) => Verdict::Refused,
                (Passes, None) => Verdict::NotInspected,
                (_, None) => Verdict::Allowed,
            };
            assert_eq!(verdict, told, "{name}");
            if expected.is_none() {
                let received = support::run(http_body_util::BodyExt::collect(sent));
                assert_eq!(
                    upstream.received()[0].1,
                    received.unwrap().to_bytes(),
                    "{name}: sent as it came"
                );
            }
        }
    }
}

#[test]
fn a_model_that_is_not_allowed_reaches_no_endpoint() {
    for row in API {
        let expected = match row.2 {
            Refused => Some(Rule::EndpointNotAllowed),
            Passes => None,
            Runs | Judged => names_a_model(row.3).then_some(Rule::ModelNotAllowed),
        };
        for base in ["/v1", "/openai/v1", ""] {
            cell(POLICY, row, base, "o3", "safe", expected);
        }
    }
}

#[test]
fn a_model_that_nobody_names_is_not_allowed_where_one_runs() {
    for row in API.iter().filter(|row| row.2 == Runs && row.3 != Results) {
        let url = format!("{HOST}/v1{}", row.1.replace("{}", "id1"));
        let upstream = calm(row, false);
        let outcome = Stand::yaml(POLICY).call(&upstream, request_to(&url, "{}"));
        assert_eq!(
            outcome.rule(),
            Some(Rule::ModelNotAllowed),
            "{} {}",
            row.0,
            row.1
        );
        assert_eq!(upstream.calls(), 0);
    }
}

#[test]
fn a_tool_that_is_not_allowed_reaches_no_endpoint() {
    for row in API {
        let expected = match row.2 {
            Refused => Some(Rule::EndpointNotAllowed),
            Passes => None,
            Runs | Judged => names_a_tool(row.3).then_some(Rule::ToolNotAllowed),
        };
        cell(POLICY, row, "/v1", "gpt-4o", "evil", expected);
    }
}

#[test]
fn a_full_limit_stops_what_runs_a_model_and_nothing_else() {
    for row in API {
        let expected = match row.2 {
            Refused => Some(Rule::EndpointNotAllowed),
            Runs => Some(Rule::RateLimitExceeded),
            Passes | Judged => None,
        };
        cell(FULL, row, "/v1", "gpt-4o", "safe", expected);
    }
}

#[test]
fn what_the_policy_allows_passes_on_every_endpoint_that_is_read() {
    for row in API {
        let expected = (row.2 == Refused).then_some(Rule::EndpointNotAllowed);
        cell(POLICY, row, "/v1", "gpt-4o", "safe", expected);
    }
}

#[test]
fn a_call_in_an_answer_is_judged_on_every_endpoint_that_is_read() {
    for row in API.iter().filter(|row| matches!(row.2, Runs | Judged)) {
        for (tool, expected) in [("safe", None), ("evil", Some(Rule::ToolNotAllowed))] {
            for answer in answers(row, tool) {
                for request in requests(row, "/v1", "gpt-4o", "safe") {
                    let (stand, upstream) = (Stand::yaml(POLICY), upstream(&answer));
                    let outcome = stand.call(&upstream, request);
                    let name = format!("{} {} {}", row.0, row.1, answer.1);
                    assert_eq!(
                        judged(&name, &upstream, &outcome),
                        expected,
                        "{name}: {:?}",
                        outcome.error
                    );
                    if expected.is_none() {
                        assert_eq!(outcome.text(), answer.1, "{name}");
                    }
                    assert_eq!(stand.told().last().unwrap().phase, Phase::End, "{name}");
                }
            }
        }
    }
}

#[test]
fn only_what_runs_a_model_is_charged() {
    let policy = "rate_limits: { per_agent: { tokens_per_day: 1000000 } }";
    let usage = r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
    for row in API.iter().filter(|row| row.2 != Refused) {
        for request in requests(row, "/v1", "gpt-4o", "safe") {
            for upstream in [
                Upstream::json(usage),
                Upstream::stream(format!(
                    "data: {{\"type\":\"response.completed\",\"response\":{usage},{}}}\n\n",
                    usage
                        .strip_prefix('{')
                        .and_then(|text| text.strip_suffix('}'))
                        .unwrap()
                )),
            ] {
                let stand = Stand::yaml(policy);
                let outcome = stand.call(&upstream, request.clone());
                assert!(outcome.error.is_none(), "{} {}", row.0, row.1);
                let expected = if row.2 == Runs { 7 } else { 0 };
                assert_eq!(stand.used(), expected, "{} {}", row.0, row.1);
            }
        }
    }
}

/// Whether the list above has this method for this path.
fn is_listed(method: &str, path: &str) -> bool {
    API.iter().any(|row| {
        let (mut known, mut segments) = (row.1.split('/'), path.split('/'));
        let matches = known.by_ref().all(|known| {
            segments
                .next()
                .is_some_and(|found| known == "{}" || known == found)
        });
        row.0 == method && matches && segments.next().is_none()
    })
}

#[test]
fn a_method_that_is_not_documented_reaches_no_endpoint() {
    let methods = [
        "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "QUERY",
        "post", "Get", "POSTX",
    ];
    for row in API {
        let path = row.1.replace("{}", "id1");
        for method in methods.iter().filter(|method| !is_listed(method, &path)) {
            let upstream = calm(row, false);
            let request = raw(
                method,
                &format!("{HOST}/v1{path}"),
                "application/json",
                "{}",
            );
            let outcome = Stand::yaml(FULL).call(&upstream, request);
            assert_eq!(
                outcome.rule(),
                Some(Rule::EndpointNotAllowed),
                "{method} {path}"
            );
            assert_eq!(upstream.calls(), 0, "{method} {path}");
        }
    }
}

#[test]
fn an_upgrade_to_a_websocket_is_refused_and_told_why() {
    for (method, path) in [
        ("GET", "/v1/responses"),
        ("GET", "/v1/realtime?model=gpt-4o"),
        ("GET", "/v1/live/sessions"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/wiki/Rust"),
    ] {
        for protocol in ["websocket", "WebSocket", "h2c", "websocket, h2c"] {
            let mut request = raw(method, &format!("{HOST}{path}"), "", "");
            let headers = request.headers_mut();
            headers.insert("connection", "Upgrade".parse().unwrap());
            headers.insert("upgrade", protocol.parse().unwrap());
            let upstream = Upstream::json("{}");
            let stand = Stand::yaml(POLICY).with(|layer| layer.plain_hosts(["api.openai.com"]));
            for stand in [Stand::yaml(POLICY), stand] {
                let outcome = stand.call(&upstream, request.clone());
                assert_eq!(outcome.rule(), Some(Rule::EndpointNotAllowed), "{path}");
                let message = outcome.violation().unwrap().message().to_owned();
                assert!(message.contains("WebSocket"), "{message}");
                assert_eq!(upstream.calls(), 0);
            }
        }
    }
}

#[test]
fn a_deployment_in_the_path_is_judged_on_every_endpoint() {
    for row in API {
        let (runs, other) = match row.2 {
            Refused => (
                Some(Rule::EndpointNotAllowed),
                Some(Rule::EndpointNotAllowed),
            ),
            Passes => (None, None),
            Runs | Judged => (None, Some(Rule::ModelNotAllowed)),
        };
        cell(
            POLICY,
            row,
            "/openai/deployments/gpt-4o",
            "gpt-4o",
            "safe",
            runs,
        );
        cell(
            POLICY,
            row,
            "/openai/deployments/o3",
            "gpt-4o",
            "safe",
            other,
        );
        if row.2 == Runs && names_a_model(row.3) {
            cell(
                POLICY,
                row,
                "/openai/deployments/gpt-4o",
                "o3",
                "safe",
                other,
            );
        }
        if row.2 == Runs {
            let mut named = requests(row, "/openai/deployments/gpt-4o", "gpt-4o", "safe").remove(0);
            *named.body_mut() = Full::from("{}");
            let outcome = Stand::yaml(POLICY).call(&calm(row, false), named);
            assert!(outcome.error.is_none(), "{}: the path names a model", row.1);
        }
    }
}

#[test]
fn an_endpoint_opened_by_name_passes_unread_and_its_neighbours_do_not() {
    let stand = Stand::yaml(POLICY).with(|layer| layer.open_endpoint("POST /batches"));
    let upstream = Upstream::json(r#"{"output":[{"type":"function_call","name":"evil"}]}"#);
    let url = format!("{HOST}/v1/batches");
    let outcome = stand.call(&upstream, raw("POST", &url, "text/plain", "anything"));
    assert!(outcome.error.is_none());
    assert_eq!(stand.told()[0].verdict, Verdict::NotInspected);
    for (method, path) in [
        ("POST", "/v1/uploads"),
        ("PUT", "/v1/batches"),
        ("POST", "/v1//batches"),
        ("POST", "/v1/batches/x/y"),
    ] {
        let outcome = stand.call(&upstream, raw(method, &format!("{HOST}{path}"), "", ""));
        assert_eq!(outcome.rule(), Some(Rule::EndpointNotAllowed), "{path}");
    }
    assert_eq!(upstream.calls(), 1);
}

#[test]
fn a_listed_endpoint_that_is_refused_says_how_to_open_it() {
    for row in API.iter().filter(|row| row.2 == Refused) {
        let request = requests(row, "/v1", "gpt-4o", "safe").remove(0);
        let outcome = Stand::yaml(POLICY).call(&Upstream::json("{}"), request);
        let message = outcome.violation().unwrap().message().to_owned();
        assert!(
            message.contains("open_endpoint") || message.contains("plain_hosts"),
            "{}: {message}",
            row.1
        );
        let name = format!("{} {}", row.0, row.1);
        if message.contains("open_endpoint") {
            assert!(message.contains(&format!("`{name}`")), "{message}");
            assert!(
                message.contains("`--open-endpoint` of the gateway"),
                "{message}"
            );
            let stand = Stand::yaml(POLICY).with(|layer| layer.open_endpoint(name));
            let request = requests(row, "/v1", "gpt-4o", "safe").remove(0);
            assert!(stand.call(&Upstream::json("{}"), request).error.is_none());
        }
    }
}

#[test]
fn a_plain_host_is_judged_by_the_network_rules_alone() {
    const WIKI: &str = "https://en.wikipedia.org";
    let network = "
agent: { name: tested, models: { allowed_models: [gpt-4o] }, toolsets: { allowed_tools: [safe] } }
permissions: { network: { enabled: true, require_tls: true, allowed_domains: ['*.wikipedia.org', example.com] } }
";
    let send = |stand: &Stand, method: &str, url: &str| {
        let upstream = Upstream::steps(200, "text/html", vec![support::Step::data("<p>evil</p>")]);
        let outcome = stand.call(&upstream, raw(method, url, "", ""));
        assert_eq!(upstream.calls(), usize::from(outcome.error.is_none()));
        (
            outcome.rule(),
            outcome.violation().map(|v| v.message().to_owned()),
        )
    };
    let closed = Stand::yaml(network);
    for path in ["/wiki/Rust", "/w/api.php?action=query", "/", ""] {
        let (rule, message) = send(&closed, "GET", &format!("{WIKI}{path}"));
        assert_eq!(rule, Some(Rule::EndpointNotAllowed), "{path}");
        assert!(message.unwrap().contains("SekuireLayer::plain_hosts"));
    }
    let open = Stand::yaml(network).with(|layer| layer.plain_hosts(["*.wikipedia.org"]));
    for (method, path) in [
        ("GET", "/wiki/Rust"),
        ("GET", "/wiki/Caf%C3%A9"),
        ("GET", "/wiki/AC%2FDC"),
        ("POST", "/w/api.php?action=query"),
        ("GET", "/"),
        ("HEAD", "/wiki/Main_Page"),
    ] {
        assert_eq!(
            send(&open, method, &format!("{WIKI}{path}")).0,
            None,
            "{path}"
        );
    }
    for (method, path) in [
        ("POST", "/v1/chat/completions"),
        ("POST", "/chat/completions"),
        ("POST", "/openai/deployments/gpt-4o/chat/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/batches"),
        ("POST", "/v1/files"),
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/chat/completions/"),
        ("PUT", "/v1/chat/completions"),
        ("POST", "/v1/%63hat/completions"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/wiki/../v1/responses"),
        ("POST", "/V1/Chat/Completions"),
    ] {
        let found = send(&open, method, &format!("{WIKI}{path}")).0;
        assert_eq!(found, Some(Rule::EndpointNotAllowed), "{path}");
    }
    for (url, expected) in [
        (
            "http://en.wikipedia.org/wiki/Rust",
            Rule::NetworkTlsRequired,
        ),
        ("https://evil.example/wiki/Rust", Rule::NetworkNotAllowed),
        ("https://example.com/wiki/Rust", Rule::EndpointNotAllowed),
        (
            "https://wikipedia.org.evil.example/",
            Rule::NetworkNotAllowed,
        ),
    ] {
        assert_eq!(send(&open, "GET", url).0, Some(expected), "{url}");
    }
    // What can't be compared with a host opens nothing.
    let odd =
        Stand::yaml(network).with(|layer| layer.plain_hosts(["https://en.wikipedia.org", "en.*"]));
    let found = send(&odd, "GET", "https://en.wikipedia.org/wiki/Rust").0;
    assert_eq!(found, Some(Rule::EndpointNotAllowed));
}

/// The rule that refuses this body at this path.
fn rule(stand: &Stand, path: &str, body: &Value) -> Option<Rule> {
    let upstream = Upstream::json(r#"{"object":"thing"}"#);
    let outcome = stand.call(
        &upstream,
        request_to(&format!("{HOST}{path}"), body.to_string()),
    );
    assert_eq!(upstream.calls(), usize::from(outcome.error.is_none()));
    outcome.rule()
}

#[test]
fn what_is_stored_at_the_server_is_opened_by_its_id() {
    let stand =
        Stand::yaml(POLICY).with(|layer| layer.open_stored("pmpt_1").open_stored("agent_1"));
    for (path, body, expected) in [
        ("/v1/responses", json!({"prompt": {"id": "pmpt_1"}}), None),
        (
            "/v1/responses",
            json!({"prompt": {"id": "pmpt_1", "version": "2", "variables": {"x": "y"}}}),
            None,
        ),
        (
            "/v1/responses",
            json!({"prompt": {"id": "pmpt_1"}, "model": "o3"}),
            Some(Rule::ModelNotAllowed),
        ),
        (
            "/v1/responses",
            json!({"prompt": {"id": "pmpt_1"}, "tools": [{"type": "function", "name": "evil"}]}),
            Some(Rule::ToolNotAllowed),
        ),
        (
            "/v1/responses",
            json!({"prompt": {"id": "pmpt_2"}, "model": "gpt-4o"}),
            Some(Rule::ModelNotAllowed),
        ),
        (
            "/v1/responses",
            json!({"prompt": {"version": "1"}, "model": "gpt-4o"}),
            Some(Rule::ModelNotAllowed),
        ),
        (
            "/v1/responses",
            json!({"prompt": null, "model": "gpt-4o"}),
            None,
        ),
        ("/v1/agents/sessions", json!({"agent_id": "agent_1"}), None),
        (
            "/v1/agents/sessions",
            json!({"agent_id": "agent_2"}),
            Some(Rule::ModelNotAllowed),
        ),
        (
            "/v1/chat/completions",
            json!({"agent_id": "agent_2", "model": "gpt-4o"}),
            Some(Rule::ModelNotAllowed),
        ),
        (
            "/v1/realtime/sessions",
            json!({"prompt": {"id": "pmpt_2"}, "model": "gpt-4o"}),
            Some(Rule::ModelNotAllowed),
        ),
    ] {
        assert_eq!(rule(&stand, path, &body), expected, "{path} {body}");
    }
    let tools = Stand::yaml("agent: { toolsets: { blocked_tools: [evil] } }");
    let body = json!({"prompt": {"id": "pmpt_1"}});
    assert_eq!(
        rule(&tools, "/v1/responses", &body),
        Some(Rule::ToolNotAllowed)
    );
    let neither = Stand::yaml("rate_limits: { per_agent: { requests_per_day: 100 } }");
    assert_eq!(rule(&neither, "/v1/responses", &body), None);
}

#[test]
fn the_servers_own_state_passes_unless_it_is_closed() {
    let plain = Stand::yaml(POLICY);
    let strict = Stand::yaml(POLICY).with(|layer| layer.strict_state(true));
    for (path, body) in [
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "input": "x", "previous_response_id": "resp_1"}),
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "input": "x", "conversation": "conv_1"}),
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "input": "x", "conversation": {"id": "conv_1"}}),
        ),
        (
            "/v1/responses",
            json!({"model": "gpt-4o", "input": [{"type": "item_reference", "id": "msg_1"}]}),
        ),
        (
            "/v1/threads/runs",
            json!({"model": "gpt-4o", "assistant_id": "asst_1"}),
        ),
    ] {
        assert_eq!(rule(&plain, path, &body), None, "{body}");
        assert_eq!(
            rule(&strict, path, &body),
            Some(Rule::RequestUnreadable),
            "{body}"
        );
    }
    let absent = json!({"model": "gpt-4o", "input": "x", "previous_response_id": null, "conversation": null});
    assert_eq!(rule(&strict, "/v1/responses", &absent), None);
}

#[test]
fn a_history_passes_unless_it_is_closed() {
    let plain = Stand::yaml(POLICY);
    let strict = Stand::yaml(POLICY).with(|layer| layer.strict_history(true));
    for item in [
        json!({"type": "function_call", "call_id": "c", "name": "evil", "arguments": "{}"}),
        json!({"type": "custom_tool_call", "call_id": "c", "name": "evil", "input": "x"}),
        json!({"type": "mcp_call", "id": "m", "server_label": "evil", "name": "x", "arguments": "{}"}),
        json!({"type": "mcp_approval_request", "id": "m", "server_label": "evil", "name": "x", "arguments": "{}"}),
        json!({"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}),
        json!({"type": "web_search_call", "id": "w", "status": "completed"}),
    ] {
        let body = json!({"model": "gpt-4o", "input": [item]});
        assert_eq!(rule(&plain, "/v1/responses", &body), None, "{body}");
        assert_eq!(
            rule(&strict, "/v1/responses", &body),
            Some(Rule::ToolNotAllowed),
            "{body}"
        );
    }
    let body = json!({"model": "gpt-4o", "input": [{"type": "function_call", "call_id": "c", "name": "safe", "arguments": "{}"}]});
    assert_eq!(rule(&strict, "/v1/responses", &body), None);
}

#[test]
fn a_closed_history_names_no_more_tools_than_can_be_judged() {
    let policy = "agent: { toolsets: { allowed_tools: ['files:*'] } }";
    let plain = Stand::yaml(policy);
    let strict = Stand::yaml(policy).with(|layer| layer.strict_history(true));
    let body = |last: &str| {
        let names = (0..512).map(|number| format!("files:{number}"));
        let calls = names.chain([last.to_owned()]).map(|name| {
            json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}]})
        });
        json!({"model": "gpt-4o", "messages": calls.collect::<Vec<_>>()})
    };
    let chat = "/v1/chat/completions";
    assert_eq!(rule(&strict, chat, &body("files:7")), None);
    for last in ["evil", "files:512"] {
        assert_eq!(rule(&plain, chat, &body(last)), None);
        assert_eq!(
            rule(&strict, chat, &body(last)),
            Some(Rule::RequestUnreadable),
            "{last}"
        );
    }
}

#[test]
fn an_mcp_server_is_bound_to_its_place() {
    let policy = "agent: { toolsets: { allowed_tools: ['mcp:docs'] } }";
    let stand = Stand::yaml(policy).with(|layer| layer.mcp_server("docs", "mcp.example.com"));
    let ask = |stand: &Stand, server: Value| {
        rule(
            stand,
            "/v1/responses",
            &json!({"model": "gpt-4o", "input": "x", "tools": [server]}),
        )
    };
    let server = |url: &str| json!({"type": "mcp", "server_label": "docs", "server_url": url});
    assert_eq!(ask(&stand, server("https://mcp.example.com/sse")), None);
    assert_eq!(ask(&stand, server("https://MCP.example.com/sse")), None);
    for url in [
        "https://evil.example/sse",
        "https://mcp.example.com.evil.example/",
        "https://mcp.example.com:8443/",
    ] {
        assert_eq!(
            ask(&stand, server(url)),
            Some(Rule::ToolNotAllowed),
            "{url}"
        );
    }
    for url in [
        "https://mcp.example.com@evil.example/",
        "mcp.example.com",
        "https://",
    ] {
        assert_eq!(
            ask(&stand, server(url)),
            Some(Rule::RequestUnreadable),
            "{url}"
        );
    }
    let unbound = Stand::yaml(policy);
    assert_eq!(
        ask(&unbound, server("https://mcp.example.com/sse")),
        Some(Rule::ToolNotAllowed)
    );
    let network = Stand::yaml(
        "
agent: { toolsets: { allowed_tools: ['mcp:docs'] } }
permissions: { network: { enabled: true, require_tls: true, allowed_domains: [api.openai.com, mcp.example.com] } }
",
    );
    assert_eq!(ask(&network, server("https://mcp.example.com/sse")), None);
    assert_eq!(
        ask(&network, server("http://mcp.example.com/sse")),
        Some(Rule::NetworkTlsRequired)
    );
    assert_eq!(
        ask(&network, server("https://evil.example/sse")),
        Some(Rule::NetworkNotAllowed)
    );
    for (connector, expected) in [
        ("connector_dropbox", None),
        ("connector_brand_new", Some(Rule::ToolNotAllowed)),
    ] {
        let server = json!({"type": "mcp", "server_label": "docs", "connector_id": connector});
        assert_eq!(ask(&unbound, server), expected, "{connector}");
    }
    let tunnel = json!({"type": "mcp", "server_label": "docs", "tunnel_id": "t"});
    assert_eq!(ask(&stand, tunnel), Some(Rule::ToolNotAllowed));
}

#[test]
fn a_base_path_opens_the_same_table() {
    let stand = || Stand::yaml(POLICY).with(|layer| layer.base_path("/tenants/a/v1/"));
    for row in API {
        let expected = match row.2 {
            Refused => Some(Rule::EndpointNotAllowed),
            Passes => None,
            Runs | Judged => names_a_model(row.3).then_some(Rule::ModelNotAllowed),
        };
        for request in requests(row, "/tenants/a/v1", "o3", "safe") {
            let outcome = stand().call(&calm(row, false), request.clone());
            assert_eq!(outcome.rule(), expected, "{} {}", row.0, row.1);
            let outcome = Stand::yaml(POLICY).call(&calm(row, false), request);
            assert_eq!(outcome.rule(), Some(Rule::EndpointNotAllowed), "{}", row.1);
        }
    }
}
