//! Requests and answers of every API but chat that mean one thing here and could mean another to a server or a client.
//! The policy allows the model `gpt-4o` and the tool `safe`.

#![cfg(test)]

mod support;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use support::{Outcome, Stand, Step, Upstream, cut, request_to};
use tower_sekuire::{Respond, Rule, Seen};

const HOST: &str = "https://api.openai.com/v1";

const POLICY: &str = "
agent:
  name: tested
  models: { allowed_models: [gpt-4o] }
  toolsets: { allowed_tools: [safe] }
";

/// As `POLICY`, with a count of tokens that never runs out.
fn stand() -> Stand {
    Stand::yaml(&format!(
        "{POLICY}rate_limits: {{ per_agent: {{ tokens_per_day: 1000000000 }} }}"
    ))
}

/// The rule that refuses a request, after checking that it was not sent; `None` when it was sent as it came.
fn sent(stand: &Stand, request: Request<Full<Bytes>>) -> Option<Rule> {
    let upstream = Upstream::json(r#"{"object":"thing"}"#);
    let body = support::run(http_body_util::BodyExt::collect(request.body().clone()));
    let outcome = stand.call(&upstream, request);
    match &outcome.error {
        None => assert_eq!(upstream.received()[0].1, body.unwrap().to_bytes()),
        Some(error) => {
            assert!(outcome.rule().is_some(), "{error}");
            assert_eq!(upstream.calls(), 0, "refused, and sent all the same");
        }
    }
    outcome.rule()
}

fn asked(stand: &Stand, path: &str, body: &Value) -> Option<Rule> {
    sent(
        stand,
        request_to(&format!("{HOST}{path}"), body.to_string()),
    )
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal reads better without a reference before it"
)]
fn responses(members: Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "input": "x"});
    for (key, value) in members.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn form_request(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = request_to(&format!("{HOST}{path}"), body);
    let kind = "multipart/form-data; boundary=edge".parse().unwrap();
    request.headers_mut().insert("content-type", kind);
    request
}

/// A part as it stands in a form: its headers and its content.
fn part(headers: &str, content: &str) -> String {
    format!("--edge\r\n{headers}\r\n\r\n{content}\r\n")
}

fn field(name: &str, content: &str) -> String {
    part(
        &format!("Content-Disposition: form-data; name=\"{name}\""),
        content,
    )
}

fn file(content: &str) -> String {
    part(
        "Content-Disposition: form-data; name=\"file\"; filename=\"f.jsonl\"\r\nContent-Type: application/octet-stream",
        content,
    )
}

const END: &str = "--edge--\r\n";

#[test]
fn a_list_of_fallbacks_is_a_list_of_models() {
    for members in [
        json!({"models": ["o3"]}),
        json!({"models": ["gpt-4o", "o3"]}),
        json!({"fallbacks": ["o3"]}),
        json!({"route": "fallback"}),
        json!({"extra_body": {"model": "o3"}}),
        json!({"model": "gpt-4o:online"}),
    ] {
        let body = responses(members);
        let found = asked(&stand(), "/responses", &body);
        assert_eq!(found, Some(Rule::ModelNotAllowed), "{body}");
    }
    let body = responses(json!({"models": ["gpt-4o"]}));
    assert_eq!(asked(&stand(), "/responses", &body), None);
}

#[test]
fn a_model_is_found_in_every_place_that_names_one() {
    let painter = json!([{"type": "image_generation", "model": "o3"}]);
    let drawer = json!([{"type": "image_generation", "svg": {"model": "o3"}}]);
    for (path, body) in [
        (
            "/responses",
            responses(json!({"moderation": {"model": "o3"}})),
        ),
        ("/responses", responses(json!({"tools": painter}))),
        ("/responses", responses(json!({"tools": drawer}))),
        (
            "/responses",
            responses(json!({"input": [{"type": "additional_tools", "tools": painter}]})),
        ),
        (
            "/responses",
            responses(json!({"input": [{"type": "additional_tools", "tools": drawer}]})),
        ),
        (
            "/responses/compact",
            responses(json!({"input": [{"type": "additional_tools", "tools": drawer}]})),
        ),
        (
            "/responses/input_tokens",
            responses(json!({"tools": painter})),
        ),
        (
            "/conversations",
            json!({"items": [{"type": "additional_tools", "tools": painter}]}),
        ),
        (
            "/images/generations",
            json!({"model": "gpt-4o", "prompt": "x", "svg": {"model": "o3"}}),
        ),
        (
            "/images/edits",
            json!({"model": "gpt-4o", "prompt": "x", "svg": {"model": "o3"}}),
        ),
        (
            "/evals/e/runs",
            json!({"data_source": {"model": "gpt-4o", "source": {"model": "o3"}}}),
        ),
        ("/evals/e/runs", json!({"data_source": {"model": "o3"}})),
        (
            "/evals",
            json!({"testing_criteria": [{"model": "gpt-4o"}, {"model": "o3"}]}),
        ),
        (
            "/fine_tuning/jobs",
            json!({"model": "gpt-4o", "method": {"reinforcement": {"grader": {"model": "o3"}}}}),
        ),
        (
            "/fine_tuning/jobs",
            json!({"model": "gpt-4o", "method": {"reinforcement": {"grader": {"graders": {"a": {"model": "o3"}}}}}}),
        ),
        (
            "/fine_tuning/alpha/graders/run",
            json!({"grader": {"graders": {"a": {"model": "gpt-4o"}, "b": {"model": "o3"}}}}),
        ),
        (
            "/realtime/sessions",
            json!({"model": "gpt-4o", "input_audio_transcription": {"model": "o3"}}),
        ),
        (
            "/realtime/sessions",
            json!({"model": "gpt-4o", "audio": {"input": {"transcription": {"model": "o3"}}}}),
        ),
        ("/live/sessions", json!({"session": {"model": "o3"}})),
        (
            "/live/sessions",
            json!({"session": {"model": "gpt-4o", "delegation": {"responses": {"model": "o3"}}}}),
        ),
        (
            "/live/sessions",
            json!({"session": {"model": "gpt-4o", "delegation": {"decisions": {"model": "o3"}}}}),
        ),
        ("/agents/sessions", json!({"agent": {"model": "o3"}})),
    ] {
        let found = asked(&stand(), path, &body);
        assert_eq!(found, Some(Rule::ModelNotAllowed), "{path} {body}");
    }
}

#[test]
fn a_form_is_exactly_a_list_of_plain_parts() {
    let model = field("model", "gpt-4o");
    let sound = file("RIFF");
    let form = |parts: &[&str]| parts.concat() + END;
    let to = |body: String| sent(&stand(), form_request("/audio/transcriptions", body));
    assert_eq!(to(form(&[&model, &sound])), None);
    assert_eq!(to(form(&[&sound, &model])), None);
    assert_eq!(
        to(form(&[&sound, &field("model", "o3")])),
        Some(Rule::ModelNotAllowed)
    );
    assert_eq!(to(form(&[&sound])), Some(Rule::ModelNotAllowed), "no model");
    assert_eq!(
        to(form(&[&sound, &field("model", " gpt-4o")])),
        Some(Rule::ModelNotAllowed)
    );
    assert_eq!(
        to(form(&[&sound, &field("model", "gpt-4o\r\n")])),
        Some(Rule::ModelNotAllowed)
    );
    let bad = |name: &str, body: String| {
        let shown = body.clone();
        assert_eq!(to(body), Some(Rule::RequestUnreadable), "{name}: {shown}");
    };
    bad("two models", form(&[&model, &sound, &field("model", "o3")]));
    bad("two models", form(&[&field("model", "o3"), &model, &sound]));
    bad("two equal models", form(&[&model, &sound, &model]));
    for headers in [
        r#"Content-Disposition: form-data; name="model"; name="x""#,
        r#"Content-Disposition: form-data; name="x"; name="model""#,
        "Content-Disposition: form-data; name*=UTF-8''model",
        r#"Content-Disposition: form-data; name="x"; name*=UTF-8''model"#,
        "Content-Disposition: form-data; name=model",
        r#"Content-Disposition: form-data; Name="model""#,
        r#"Content-Disposition: form-data; name ="model""#,
        r#"Content-Disposition: form-data; name="mo\del""#,
        r#"Content-Disposition: form-data; name="mo%64el""#,
        r#"Content-Disposition: attachment; name="model""#,
        r#"Content-Disposition: form-data; filename="x"; name="model""#,
        r#"Content-Disposition: form-data; name="model"; filename="x""#,
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/html",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: multipart/mixed; boundary=x",
        "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Disposition : form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\nX: y",
        "Content-Type: text/plain",
        r#"Content-Disposition: form-data; name="Model""#,
        r#"Content-Disposition: form-data; name="MODEL""#,
        r#"Content-Disposition: form-data; name="model[]""#,
        r#"Content-Disposition: form-data; name="model[x]""#,
    ] {
        bad(headers, form(&[&part(headers, "o3"), &sound]));
        bad(headers, form(&[&model, &part(headers, "o3"), &sound]));
    }
    let whole = form(&[&model, &sound]);
    bad("line feeds only", whole.replace("\r\n", "\n"));
    bad("no end", whole.replace(END, ""));
    bad("no final boundary", whole.replace(END, "--edge\r\n"));
    bad(
        "a preamble",
        format!("{}x\r\n{whole}", field("model", "o3")),
    );
    bad("a preamble", format!("x\r\n{whole}"));
    bad("an epilogue", format!("{whole}{}", field("model", "o3")));
    bad("a second form", format!("{whole}{whole}"));
    bad(
        "another boundary inside",
        whole.replace("--edge\r\nC", "--edge \r\nC"),
    );
    bad(
        "a longer boundary",
        whole.replace("--edge\r\nC", "--edge2\r\nC"),
    );
    bad("nothing", String::new());
    bad("JSON", json!({"model": "gpt-4o"}).to_string());
    for kind in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=edge; boundary=other",
        "multipart/form-data; boundary=edge; charset=utf-7",
        "multipart/mixed; boundary=edge",
        "multipart/form-data; boundary=edge, application/json",
        "text/plain",
    ] {
        let mut request = form_request("/audio/transcriptions", whole.clone());
        request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap());
        assert_eq!(
            sent(&stand(), request),
            Some(Rule::RequestUnreadable),
            "{kind}"
        );
    }
    let mut request = form_request("/audio/transcriptions", whole.clone());
    request
        .headers_mut()
        .append("content-type", "application/json".parse().unwrap());
    assert_eq!(sent(&stand(), request), Some(Rule::RequestUnreadable));
    // Elsewhere a form is nothing that anyone reads.
    assert_eq!(
        sent(&stand(), form_request("/responses", whole)),
        Some(Rule::RequestUnreadable)
    );
}

#[test]
fn a_models_name_in_a_part_of_a_form_field_is_not_overlooked() {
    let picture = |field: String| {
        let body = [
            self::field("model", "gpt-4o"),
            self::field("prompt", "x"),
            field,
        ]
        .concat()
            + END;
        sent(&stand(), form_request("/images/edits", body))
    };
    assert_eq!(
        picture(field("svg", r#"{"model":"o3"}"#)),
        Some(Rule::ModelNotAllowed)
    );
    assert_eq!(
        picture(field("svg[model]", "o3")),
        Some(Rule::RequestUnreadable)
    );
    assert_eq!(
        picture(field("svg.model", "o3")),
        Some(Rule::RequestUnreadable)
    );
    assert_eq!(
        picture(field("Svg", r#"{"model":"o3"}"#)),
        Some(Rule::RequestUnreadable)
    );
    assert_eq!(picture(field("image[]", "x")), None);
    // A value says nothing about other fields.
    let forged = field("n", r#"1,"model":"gpt-4o""#) + &field("prompt", "x") + END;
    let found = sent(&stand(), form_request("/images/edits", forged));
    assert_eq!(found, Some(Rule::RequestUnreadable));
}

fn line(method: &str, url: &str, body: &Value) -> String {
    json!({"custom_id": "1", "method": method, "url": url, "body": body}).to_string()
}

fn upload(parts: &[&str]) -> Option<Rule> {
    sent(&stand(), form_request("/files", parts.concat() + END))
}

#[test]
fn every_line_of_a_batch_is_a_request_of_its_own() {
    let good = line(
        "POST",
        "/v1/chat/completions",
        &json!({"model": "gpt-4o", "messages": []}),
    );
    let purpose = field("purpose", "batch");
    let batch = |lines: &str| upload(&[&purpose, &file(lines)]);
    for lines in [
        format!("{good}\n"),
        good.clone(),
        format!("{good}\r\n{good}\r\n"),
        format!("{good}\n\n{good}"),
        line("POST", "/v1/responses", &responses(json!({}))),
        line(
            "POST",
            "/v1/embeddings",
            &json!({"model": "gpt-4o", "input": "x"}),
        ),
    ] {
        assert_eq!(batch(&lines), None, "{lines}");
    }
    for (url, body, expected) in [
        (
            "/v1/chat/completions",
            json!({"model": "o3", "messages": []}),
            Rule::ModelNotAllowed,
        ),
        (
            "/v1/responses",
            json!({"model": "o3", "input": "x"}),
            Rule::ModelNotAllowed,
        ),
        (
            "/v1/responses",
            responses(json!({"tools": [{"type": "function", "name": "evil"}]})),
            Rule::ToolNotAllowed,
        ),
        (
            "/v1/responses",
            responses(
                json!({"input": [{"type": "additional_tools", "tools": [{"type": "function", "name": "evil"}]}]}),
            ),
            Rule::ToolNotAllowed,
        ),
        (
            "/v1/chat/completions",
            json!({"messages": []}),
            Rule::ModelNotAllowed,
        ),
        (
            "/v1/embeddings",
            json!({"model": "o3", "input": "x"}),
            Rule::ModelNotAllowed,
        ),
        (
            "/openai/deployments/o3/chat/completions",
            json!({"model": "gpt-4o", "messages": []}),
            Rule::ModelNotAllowed,
        ),
        (
            "/v1/files",
            json!({"model": "gpt-4o"}),
            Rule::RequestUnreadable,
        ),
        (
            "/v1/batches",
            json!({"model": "gpt-4o"}),
            Rule::RequestUnreadable,
        ),
        (
            "/v1//chat/completions",
            json!({"model": "gpt-4o", "messages": []}),
            Rule::RequestUnreadable,
        ),
        (
            "https://evil.example/v1/chat/completions",
            json!({"model": "gpt-4o", "messages": []}),
            Rule::RequestUnreadable,
        ),
        (
            "/v1/brand/new",
            json!({"model": "gpt-4o"}),
            Rule::RequestUnreadable,
        ),
    ] {
        let bad = line("POST", url, &body);
        for lines in [
            format!("{good}\n{bad}\n"),
            format!("{bad}\r\n{good}\r\n"),
            format!("{good}\n{bad}"),
            bad.clone(),
        ] {
            assert_eq!(batch(&lines), Some(expected), "{lines}");
        }
    }
    for bad in [
        good.replace("POST", "GET"),
        good.replace("POST", "post"),
        good.replace(r#""method":"POST""#, r#""method":"POST","method":"GET""#),
        good.replace(r#""model":"gpt-4o""#, r#""model":"gpt-4o","model":"o3""#),
        good.replace(r#""model":"gpt-4o""#, r#""model":"gpt-4o","Model":"o3""#),
        good.replace(r#""url""#, r#""URL""#),
        format!("\u{feff}{good}"),
        format!("{good}{good}"),
        format!("{good}\r{good}"),
        good.replace("gpt-4o", "gpt-4o\u{0}"),
        "[]".to_owned(),
        "x".to_owned(),
    ] {
        assert_eq!(
            batch(&format!("{good}\n{bad}\n")),
            Some(Rule::RequestUnreadable),
            "{bad}"
        );
    }
}

#[test]
fn a_batch_is_known_by_its_one_purpose() {
    let evil = line(
        "POST",
        "/v1/chat/completions",
        &json!({"model": "o3", "messages": []}),
    );
    let purpose = |purpose: &str| field("purpose", purpose);
    let lines = file(&evil);
    assert_eq!(
        upload(&[&lines, &purpose("batch")]),
        Some(Rule::ModelNotAllowed),
        "after the file"
    );
    assert_eq!(
        upload(&[&purpose("batch"), &file(""), &lines]),
        Some(Rule::ModelNotAllowed),
        "the second file"
    );
    // Without a file's name some servers take the content all the same.
    assert_eq!(
        upload(&[&purpose("batch"), &field("file", &evil)]),
        Some(Rule::ModelNotAllowed),
        "no file name"
    );
    for parts in [
        vec![purpose("batch"), purpose("assistants"), lines.clone()],
        vec![purpose("assistants"), lines.clone(), purpose("batch")],
        vec![lines.clone()],
        vec![field("Purpose", "assistants"), lines.clone()],
        vec![
            field("purpose[]", "batch"),
            purpose("assistants"),
            lines.clone(),
        ],
        vec![purpose("batch ")],
        vec![purpose("Batch"), lines.clone()],
        vec![purpose(""), lines.clone()],
        vec![purpose("fine-tune"), lines.clone()],
        vec![purpose("brand_new"), lines.clone()],
        vec![purpose("batch")],
        vec![
            part(
                "Content-Disposition: form-data; name=\"purpose\"; filename=\"x\"",
                "assistants",
            ),
            lines.clone(),
        ],
    ] {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        assert_eq!(upload(&parts), Some(Rule::RequestUnreadable), "{parts:?}");
    }
    for harmless in ["assistants", "vision", "user_data", "evals"] {
        assert_eq!(upload(&[&purpose(harmless), &lines]), None, "{harmless}");
    }
    let body = json!({"purpose": "assistants"}).to_string();
    let plain = request_to(&format!("{HOST}/files"), body);
    assert_eq!(sent(&stand(), plain), Some(Rule::RequestUnreadable));
}

#[test]
fn what_can_not_be_read_piece_by_piece_is_refused_whole() {
    for (path, body) in [
        (
            "/batches",
            json!({"input_file_id": "f", "endpoint": "/v1/responses", "completion_window": "24h"}),
        ),
        (
            "/uploads",
            json!({"purpose": "batch", "bytes": 1, "filename": "f", "mime_type": "text/jsonl"}),
        ),
        (
            "/uploads",
            json!({"purpose": "assistants", "bytes": 1, "filename": "f", "mime_type": "text/plain"}),
        ),
        ("/uploads/u/parts", json!({})),
        ("/uploads/u/complete", json!({"part_ids": ["p"]})),
        (
            "/realtime/client_secrets",
            json!({"session": {"model": "gpt-4o"}}),
        ),
        (
            "/realtime/translations/client_secrets",
            json!({"session": {"model": "gpt-4o"}}),
        ),
        (
            "/chatkit/sessions",
            json!({"workflow": {"id": "wf"}, "user": "u"}),
        ),
    ] {
        assert_eq!(
            asked(&stand(), path, &body),
            Some(Rule::EndpointNotAllowed),
            "{path}"
        );
    }
    let mut upgrade = request_to(&format!("{HOST}/responses"), "");
    *upgrade.method_mut() = http::Method::GET;
    upgrade
        .headers_mut()
        .insert("connection", "Upgrade".parse().unwrap());
    upgrade
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    assert_eq!(sent(&stand(), upgrade), Some(Rule::EndpointNotAllowed));
}

#[test]
fn a_tool_is_found_in_every_place_that_brings_one() {
    let evil = json!({"type": "function", "name": "evil"});
    let item =
        |kind: &str, tools: Value| json!({"type": kind, "role": "developer", "tools": tools});
    for members in [
        json!({"tools": [evil]}),
        json!({"tools": [{"type": "custom", "name": "evil"}]}),
        json!({"tools": [{"type": "function", "function": {"name": "evil"}}]}),
        json!({"tools": [{"type": "function", "name": "safe", "function": {"name": "evil"}}]}),
        json!({"input": [item("additional_tools", json!([evil]))]}),
        json!({"input": [{"type": "message", "role": "user", "content": "x"}, item("additional_tools", json!([evil]))]}),
        json!({"input": [item("tool_search_output", json!([evil]))]}),
        json!({"input": [item("brand_new_item", json!([evil]))]}),
        json!({"input": [{"tools": [evil]}]}),
        json!({"input": [item("additional_tools", json!([{"type": "namespace", "name": "ns", "tools": [evil]}]))]}),
        json!({"input": [{"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "evil"}]}]}),
        json!({"input": [{"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "safe"}]}]}),
        json!({"tools": [{"type": "namespace", "name": "ns", "tools": [evil]}]}),
        json!({"tools": [{"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "safe"}]}]}),
        json!({"tools": [{"type": "web_search_2025_08_26"}]}),
        json!({"tools": [{"type": "code_interpreter", "container": "c"}]}),
        json!({"tools": [{"type": "x_search"}]}),
        json!({"tools": [{"type": "programmatic_tool_calling"}]}),
        json!({"tools": [{"type": "tool_search", "execution": "server"}]}),
        json!({"tool_choice": {"type": "function", "name": "evil"}}),
        json!({"tool_choice": {"type": "custom", "name": "evil"}}),
        json!({"tool_choice": {"type": "mcp", "server_label": "safe"}}),
        json!({"tool_choice": {"type": "mcp", "server_label": "safe", "name": "safe"}}),
        json!({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [evil]}}),
        json!({"tool_choice": {"type": "shell"}}),
        json!({"tool_choice": {"type": "apply_patch"}}),
        json!({"tool_choice": {"type": "programmatic_tool_calling"}}),
        json!({"multi_agent": {"enabled": true}}),
        json!({"plugins": [{"id": "web"}]}),
    ] {
        let body = responses(members);
        for path in [
            "/responses",
            "/responses?beta=true",
            "/responses/compact",
            "/responses/input_tokens",
        ] {
            let found = asked(&stand(), path, &body);
            assert_eq!(found, Some(Rule::ToolNotAllowed), "{path} {body}");
        }
    }
    for kind in ["additional_tools", "tool_search_output", "brand_new_item"] {
        let body = json!({"items": [item(kind, json!([evil]))]});
        for path in ["/conversations", "/conversations/c/items"] {
            assert_eq!(
                asked(&stand(), path, &body),
                Some(Rule::ToolNotAllowed),
                "{path} {body}"
            );
        }
    }
    for members in [
        json!({"input": [item("additional_tools", json!("evil"))]}),
        json!({"input": [{"type": "additional_tools", "Tools": [evil]}]}),
        json!({"tools": [{"type": "mcp", "server_url": "https://x"}]}),
        json!({"tools": [{"type": "function"}]}),
        json!({"tool_choice": "evil"}),
    ] {
        let body = responses(members);
        assert_eq!(
            asked(&stand(), "/responses", &body),
            Some(Rule::RequestUnreadable),
            "{body}"
        );
    }
    let namespaced = Stand::yaml("agent: { toolsets: { allowed_tools: [ns.safe] } }");
    let body = responses(
        json!({"tools": [{"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "safe"}]}]}),
    );
    assert_eq!(asked(&namespaced, "/responses", &body), None);
}

#[test]
fn an_mcp_server_needs_its_label_its_place_and_its_tools() {
    let stand = |tools: &str| {
        Stand::yaml(&format!(
            "agent: {{ toolsets: {{ allowed_tools: {tools} }} }}"
        ))
        .with(|layer| layer.mcp_server("docs", "mcp.example.com"))
    };
    let server = |more: Value| {
        let mut server = json!({"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example.com/"});
        for (key, value) in more.as_object().unwrap() {
            server[key] = value.clone();
        }
        responses(json!({"tools": [server]}))
    };
    let (all, one) = ("['mcp:docs']", "['mcp:docs/read']");
    for (tools, more, expected) in [
        (all, json!({}), None),
        (all, json!({"require_approval": "never"}), None),
        (all, json!({"allowed_tools": ["write"]}), None),
        (one, json!({"allowed_tools": ["read"]}), None),
        (
            one,
            json!({"allowed_tools": {"tool_names": ["read"]}}),
            None,
        ),
        (one, json!({}), Some(Rule::ToolNotAllowed)),
        (
            one,
            json!({"allowed_tools": null}),
            Some(Rule::ToolNotAllowed),
        ),
        (
            one,
            json!({"allowed_tools": {"read_only": true}}),
            Some(Rule::ToolNotAllowed),
        ),
        (
            one,
            json!({"allowed_tools": ["read", "write"]}),
            Some(Rule::ToolNotAllowed),
        ),
        (
            one,
            json!({"allowed_tools": {"tool_names": ["write"]}}),
            Some(Rule::ToolNotAllowed),
        ),
        (
            all,
            json!({"server_label": "other"}),
            Some(Rule::ToolNotAllowed),
        ),
        (
            all,
            json!({"server_url": "https://evil.example/"}),
            Some(Rule::ToolNotAllowed),
        ),
        (all, json!({"tunnel_id": "t"}), Some(Rule::ToolNotAllowed)),
        (
            all,
            json!({"connector_id": "connector_evil"}),
            Some(Rule::ToolNotAllowed),
        ),
        ("['mcp']", json!({}), Some(Rule::ToolNotAllowed)),
        ("[docs]", json!({}), Some(Rule::ToolNotAllowed)),
    ] {
        let body = server(more);
        assert_eq!(
            asked(&stand(tools), "/responses", &body),
            expected,
            "{tools} {body}"
        );
    }
}

#[test]
fn an_approval_is_as_good_as_a_call() {
    let request = json!({"type": "mcp_approval_request", "id": "r", "server_label": "docs", "name": "read", "arguments": "{}"});
    let response = |id: &str, approve: bool| json!({"type": "mcp_approval_response", "approval_request_id": id, "approve": approve});
    let allowing = Stand::yaml("agent: { toolsets: { allowed_tools: ['mcp:docs/read'] } }");
    for (input, allowed, restricted) in [
        (
            json!([request, response("r", true)]),
            None,
            Some(Rule::ToolNotAllowed),
        ),
        (
            json!([response("r", true)]),
            Some(Rule::ToolNotAllowed),
            Some(Rule::ToolNotAllowed),
        ),
        (
            json!([response("r", true), request]),
            Some(Rule::ToolNotAllowed),
            Some(Rule::ToolNotAllowed),
        ),
        (
            json!([request, response("other", true)]),
            Some(Rule::ToolNotAllowed),
            Some(Rule::ToolNotAllowed),
        ),
        (json!([request, response("r", false)]), None, None),
    ] {
        let body = responses(json!({"input": input}));
        assert_eq!(asked(&allowing, "/responses", &body), allowed, "{body}");
        assert_eq!(asked(&stand(), "/responses", &body), restricted, "{body}");
        let items = json!({"items": body["input"]});
        assert_eq!(
            asked(&stand(), "/conversations/c/items", &items),
            restricted,
            "{items}"
        );
    }
    let body = responses(
        json!({"input": [request, {"type": "mcp_approval_response", "approval_request_id": "r", "approve": "true"}]}),
    );
    assert_eq!(
        asked(&allowing, "/responses", &body),
        Some(Rule::RequestUnreadable)
    );
}

#[test]
fn what_brings_a_model_of_its_own_is_refused_and_the_servers_state_passes() {
    for members in [
        json!({"prompt": {"id": "pmpt_x"}}),
        json!({"prompt": "pmpt_x"}),
        json!({"agent_id": "a"}),
    ] {
        let body = responses(members);
        assert_eq!(
            asked(&stand(), "/responses", &body),
            Some(Rule::ModelNotAllowed),
            "{body}"
        );
    }
    for members in [
        json!({"previous_response_id": "resp_1"}),
        json!({"conversation": "conv_1"}),
        json!({"input": [{"type": "item_reference", "id": "i"}]}),
        json!({"input": [{"type": "function_call", "call_id": "c", "name": "evil", "arguments": "{}"}]}),
    ] {
        let body = responses(members);
        assert_eq!(asked(&stand(), "/responses", &body), None, "{body}");
    }
}

#[test]
fn a_call_without_a_body_may_say_so_with_an_empty_object() {
    let cancel = |body: &str| {
        sent(
            &stand(),
            request_to(&format!("{HOST}/responses/r/cancel"), body.to_owned()),
        )
    };
    assert_eq!(cancel(""), None);
    assert_eq!(cancel("{}"), None);
    for body in [r#"{"model":"gpt-4o"}"#, "[]", "null", " ", "x"] {
        assert_eq!(cancel(body), Some(Rule::RequestUnreadable), "{body}");
    }
}

#[test]
fn there_is_an_end_to_tools_and_to_names() {
    let tools = |tool: Value| responses(json!({"tools": vec![tool; 100_000]}));
    let tool = json!({"type": "function", "name": "safe"});
    assert_eq!(
        asked(&stand(), "/responses", &tools(tool)),
        Some(Rule::RequestUnreadable)
    );
    let name = "x".repeat(1 << 20);
    let body = responses(json!({"tools": [{"type": "function", "name": name}]}));
    let outcome = stand().call(
        &Upstream::json("{}"),
        request_to(&format!("{HOST}/responses"), body.to_string()),
    );
    let violation = outcome.violation().unwrap();
    assert_eq!(violation.rule(), Rule::ToolNotAllowed);
    assert!(violation.to_string().len() < 400);
}

/// What must become of an answer: the rule that ends it, and what was released until then.
type Expected = (Option<Rule>, String);

fn ask(method: &str, path: &str) -> Request<Full<Bytes>> {
    let body = match (method, path) {
        ("GET", _) => String::new(),
        (_, "/chat/completions") => {
            json!({"model": "gpt-4o", "messages": [], "stream": true}).to_string()
        }
        (_, "/threads/t/runs/r/submit_tool_outputs") => {
            json!({"tool_outputs": [], "stream": true}).to_string()
        }
        (_, path) if path.ends_with("/cancel") => String::new(),
        _ => json!({"model": "gpt-4o", "input": "x", "stream": true}).to_string(),
    };
    let mut request = request_to(&format!("{HOST}{path}"), body);
    *request.method_mut() = method.parse().unwrap();
    request
}

#[track_caller]
fn released(name: &str, outcome: &Outcome, (rule, bytes): &Expected) {
    assert_eq!(
        outcome.rule(),
        *rule,
        "{name}: {:?} after {}",
        outcome.error,
        outcome.text()
    );
    assert_eq!(
        outcome.error.is_some(),
        rule.is_some(),
        "{name}: {:?}",
        outcome.error
    );
    assert_eq!(outcome.text(), *bytes, "{name}");
}

/// A stream to this endpoint, whole and cut in two ways.
#[track_caller]
fn streamed(
    stand: &Stand,
    method: &str,
    path: &str,
    name: &str,
    stream: &str,
    expected: &Expected,
) {
    let whole = Bytes::from(stream.to_owned());
    for pieces in [
        vec![whole.clone()],
        cut(&whole, 0..whole.len()),
        cut(&whole, (0..whole.len()).step_by(7)),
    ] {
        let steps = pieces.into_iter().map(Step::Data).collect();
        let upstream = Upstream::steps(200, "text/event-stream", steps);
        released(name, &stand.call(&upstream, ask(method, path)), expected);
    }
}

#[track_caller]
fn document(method: &str, path: &str, body: &Value, rule: Option<Rule>) {
    let upstream = Upstream::json(body.to_string());
    let outcome = stand().call(&upstream, ask(method, path));
    let bytes = if rule.is_some() {
        String::new()
    } else {
        body.to_string()
    };
    released(&format!("{method} {path} {body}"), &outcome, &(rule, bytes));
}

fn event(document: &Value) -> String {
    let kind = document["type"].as_str().unwrap();
    format!("event: {kind}\ndata: {document}\n\n")
}

fn call(name: &str) -> Value {
    json!({"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": name, "arguments": "{}"})
}

fn item(event_kind: &str, place: u64, item: &Value) -> String {
    event(
        &json!({"type": format!("response.output_item.{event_kind}"), "output_index": place, "item": item}),
    )
}

fn response(kind: &str, output: &Value) -> String {
    event(
        &json!({"type": format!("response.{kind}"), "response": {"id": "resp_1", "object": "response", "status": kind, "output": output, "usage": null}}),
    )
}

fn created() -> String {
    response("created", &json!([]))
}

const RESPONSES: [(&str, &str); 2] = [
    ("POST", "/responses"),
    ("GET", "/responses/resp_1?stream=true"),
];

#[test]
fn a_call_is_found_in_every_event_that_carries_one() {
    let evil = call("evil");
    let custom = json!({"type": "custom_tool_call", "call_id": "c", "name": "evil", "input": "x"});
    let mcp = json!({"type": "mcp_call", "id": "m", "server_label": "safe", "name": "safe", "arguments": "{}"});
    let approval = json!({"type": "mcp_approval_request", "id": "m", "server_label": "safe", "name": "safe", "arguments": "{}"});
    let mut carriers = Vec::new();
    for one in [&evil, &custom, &mcp, &approval] {
        carriers.extend(["added", "done"].map(|kind| item(kind, 0, one)));
        carriers.extend(
            [
                "created",
                "queued",
                "in_progress",
                "completed",
                "incomplete",
                "failed",
                "cancelled",
                "brand_new",
            ]
            .map(|kind| response(kind, &json!([one]))),
        );
        carriers.push(response("completed", &json!([call("safe"), one])));
        carriers.push(event(&json!({"type": "brand.new", "item": one})));
        carriers.push(event(&json!({"type": "brand.new", "output": [one]})));
    }
    carriers.push(event(&json!({"type": "response.function_call_arguments.done", "item_id": "i", "output_index": 0, "name": "evil", "arguments": "{}"})));
    for (method, path) in RESPONSES {
        for carrier in &carriers {
            let stream = created() + carrier + &response("completed", &json!([]));
            let expected = (Some(Rule::ToolNotAllowed), created());
            streamed(&stand(), method, path, carrier, &stream, &expected);
        }
        let safe = [
            created(),
            item("added", 0, &call("safe")),
            item("done", 0, &call("safe")),
            response("completed", &json!([call("safe")])),
        ]
        .concat();
        streamed(&stand(), method, path, "safe", &safe, &(None, safe.clone()));
    }
}

#[test]
fn an_item_calls_what_it_called_at_first_sight() {
    let added = item("added", 0, &call("safe"));
    let with = |key: &str, value: &str| {
        let mut call = call("safe");
        call[key] = value.into();
        call
    };
    // With both tools allowed, what is left to refuse is the change.
    let both = Stand::yaml("agent: { toolsets: { allowed_tools: [safe, evil, admin.safe] } }");
    for changed in [
        with("name", "evil"),
        with("call_id", "call_2"),
        with("namespace", "admin"),
        with("type", "custom_tool_call"),
    ] {
        for stand in [&both, &stand()] {
            let stream = created() + &added + &item("done", 0, &changed);
            let expected = (Some(Rule::ResponseUnreadable), created() + &added);
            streamed(
                stand,
                "POST",
                "/responses",
                &changed.to_string(),
                &stream,
                &expected,
            );
        }
    }
    // All the way, and only in the end.
    let (evil, done) = (with("name", "evil"), item("done", 0, &call("safe")));
    let changed = item("done", 0, &evil) + &response("completed", &json!([evil]));
    for (before, after) in [
        (added.clone(), changed),
        (added.clone() + &done, response("completed", &json!([evil]))),
        (
            added.clone() + &done,
            response("completed", &json!([with("namespace", "admin")])),
        ),
    ] {
        let before = created() + &before;
        for stand in [&both, &stand()] {
            let expected = (Some(Rule::ResponseUnreadable), before.clone());
            let stream = before.clone() + &after;
            streamed(stand, "POST", "/responses", &after, &stream, &expected);
        }
    }
    let stream = created() + &added + &response("completed", &json!([with("name", "evil")]));
    let expected = (Some(Rule::ResponseUnreadable), created() + &added);
    streamed(
        &both,
        "POST",
        "/responses",
        "at the end",
        &stream,
        &expected,
    );
    let stream = created()
        + &added
        + &event(
            &json!({"type": "response.function_call_arguments.done", "output_index": 0, "name": "evil", "arguments": "{}"}),
        );
    streamed(
        &both,
        "POST",
        "/responses",
        "beside its arguments",
        &stream,
        &expected,
    );
}

#[test]
fn nothing_follows_the_end_of_a_response() {
    let text = event(&json!({"type": "response.output_text.delta", "delta": "x"}));
    let marker = "data: [DONE]\n\n";
    for kind in ["completed", "incomplete", "failed", "cancelled"] {
        let ended = created() + &response(kind, &json!([]));
        let marked = ended.clone() + marker;
        for (name, before, more) in [
            ("text", &ended, text.clone()),
            ("an allowed call", &ended, item("added", 0, &call("safe"))),
            ("a call", &ended, item("added", 0, &call("evil"))),
            ("the same end", &ended, response(kind, &json!([]))),
            (
                "another end with a call",
                &ended,
                response("completed", &json!([call("evil")])),
            ),
            ("another marker", &ended, "data: [DONE] x\n\n".to_owned()),
            ("data after the marker", &marked, text.clone()),
            ("the marker twice", &marked, marker.to_owned()),
        ] {
            let stream = before.clone() + &more;
            let expected = (Some(Rule::ResponseUnreadable), before.clone());
            for (method, path) in RESPONSES {
                streamed(&stand(), method, path, name, &stream, &expected);
            }
        }
        for whole in [ended.clone(), marked] {
            let expected = (None, whole.clone());
            streamed(&stand(), "POST", "/responses", kind, &whole, &expected);
        }
    }
}

#[test]
fn an_events_document_decides_and_must_say_what_it_is() {
    let evil =
        json!({"type": "response.output_item.added", "output_index": 0, "item": call("evil")});
    for line in [
        "event: response.output_text.delta",
        "event: keepalive",
        "event: error",
        "event: thread.run",
        "event:",
        "id: 1",
    ] {
        let stream = format!("{}{line}\ndata: {evil}\n\n", created());
        let expected = (Some(Rule::ToolNotAllowed), created());
        streamed(&stand(), "POST", "/responses", line, &stream, &expected);
    }
    for data in [
        json!({"item": call("safe")}).to_string(),
        json!({"type": 1, "item": call("safe")}).to_string(),
        json!({"type": null}).to_string(),
        json!({"type": ""}).to_string(),
        json!([evil]).to_string(),
        r#"{"type":"response.created","type":"response.completed"}"#.to_owned(),
        r#"{"type":"response.created","Type":"response.completed"}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"safe","name":"evil"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"safe","Name":"evil"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":-1,"item":{"type":"function_call","name":"safe"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":"0","item":{"type":"function_call","name":"safe"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":["safe"]}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"Item":{"type":"function_call","name":"evil"}}"#.to_owned(),
        "null".to_owned(),
        "\"x\"".to_owned(),
        String::new(),
        r#"{"type":"response.created"}{"type":"response.created"}"#.to_owned(),
        r#"{"type":"response.created"} x"#.to_owned(),
        r#"{"type":"response.created"} // c"#.to_owned(),
        r#"{"type":"response.created","x":NaN}"#.to_owned(),
        "{\"type\":\"response.created\",\"x\":\"\u{1}\"}".to_owned(),
        "{\"type\":\"response.created\",\"x\":\"\0\"}".to_owned(),
        "\u{feff}{\"type\":\"response.created\"}".to_owned(),
        r#"{"type":"response.created","typ\u0065":"response.completed"}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"safe","n\u0061me":"evil"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"safe\ud800"}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":12}}"#.to_owned(),
        r#"{"type":"response.output_item.added","output_index":0.0,"item":{"type":"function_call","name":"safe"}}"#.to_owned(),
    ] {
        let stream = format!("{}data: {data}\n\n", created());
        let expected = (Some(Rule::ResponseUnreadable), created());
        streamed(&stand(), "POST", "/responses", &data, &stream, &expected);
    }
}

#[test]
fn the_events_of_a_response_are_framed_like_any_others() {
    let added = |name: &str| item("added", 0, &call(name));
    let evil = added("evil");
    let unreadable = (Some(Rule::ResponseUnreadable), created());
    let not_allowed = (Some(Rule::ToolNotAllowed), created());
    let payload =
        json!({"type": "response.output_item.added", "output_index": 0, "item": call("evil")})
            .to_string();
    let halves = payload.replace(",\"output_index\"", "\ndata: ,\"output_index\"");
    assert_ne!(halves, payload);
    for (name, more, expected) in [
        ("no end", evil.trim_end().to_owned(), &unreadable),
        (
            "one end of line",
            format!("{}\n", evil.trim_end()),
            &unreadable,
        ),
        (
            "allowed, no end",
            added("safe").trim_end().to_owned(),
            &unreadable,
        ),
        ("a mark before it", format!("\u{feff}{evil}"), &unreadable),
        (
            "a hidden end of line",
            format!(": x\u{2028}{evil}"),
            &unreadable,
        ),
        (
            "over two lines",
            format!("data: {halves}\n\n"),
            &not_allowed,
        ),
        ("CR", evil.replace('\n', "\r"), &not_allowed),
        ("CRLF", evil.replace('\n', "\r\n"), &not_allowed),
        (
            "a space before",
            format!(" data: {payload}\n\n"),
            &not_allowed,
        ),
        (
            "a space behind",
            format!("data : {payload}\n\n"),
            &not_allowed,
        ),
        ("capitals", format!("DATA: {payload}\n\n"), &not_allowed),
    ] {
        for (method, path) in RESPONSES {
            let stream = created() + &more;
            streamed(&stand(), method, path, name, &stream, expected);
        }
    }
    let calm = [
        created(),
        ": ping\n\n".to_owned(),
        added("safe"),
        response("completed", &json!([call("safe")])),
    ]
    .concat();
    for stream in [
        calm.clone(),
        format!("\u{feff}{calm}"),
        calm.replace('\n', "\r\n"),
        calm.replace('\n', "\r"),
        calm.replace("\n\n", "\n\r\n"),
    ] {
        let expected = (None, stream.clone());
        streamed(&stand(), "POST", "/responses", "calm", &stream, &expected);
    }
}

#[test]
fn a_response_that_ends_early_or_says_no_is_no_violation() {
    let refusal = json!({"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I can't help with that."}]});
    for reason in ["max_output_tokens", "content_filter"] {
        let end = json!({"object": "response", "status": "incomplete", "incomplete_details": {"reason": reason}, "output": [refusal]});
        document("POST", "/responses", &end, None);
        let stream = [
            created(),
            event(&json!({"type": "response.refusal.delta", "output_index": 0, "delta": "I can't help with that."})),
            event(&json!({"type": "response.refusal.done", "output_index": 0, "refusal": "I can't help with that."})),
            item("done", 0, &refusal),
            event(&json!({"type": "response.incomplete", "response": end})),
        ]
        .concat();
        for (method, path) in RESPONSES {
            let expected = (None, stream.clone());
            streamed(&stand(), method, path, reason, &stream, &expected);
        }
    }
    // What arguments and text say is nothing that anybody calls.
    let quoted = json!({"type": "function_call", "call_id": "c", "name": "safe", "arguments": "{\"type\":\"function_call\",\"name\":\"evil\"}"});
    let said = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "data: {\"item\":{\"type\":\"function_call\",\"name\":\"evil\"}}\n\n"}]});
    document(
        "POST",
        "/responses",
        &json!({"object": "response", "output": [quoted, said]}),
        None,
    );
    let stream = created() + &item("done", 0, &quoted) + &item("done", 1, &said);
    let expected = (None, stream.clone());
    streamed(&stand(), "POST", "/responses", "quoted", &stream, &expected);
}

#[test]
fn a_response_is_read_as_strictly_as_its_events() {
    let output = |item: &str| format!(r#"{{"object":"response","output":[{item}]}}"#);
    let unreadable = Some(Rule::ResponseUnreadable);
    for body in [
        format!("{0}{0}", output("")),
        output("") + " x",
        output("") + " // c",
        output("") + "\0",
        r#"{"output":[],"x":NaN}"#.to_owned(),
        "{\"output\":[],\"x\":\"\u{1}\"}".to_owned(),
        r#"{"output":[],"output":[]}"#.to_owned(),
        r#"{"output":[],"outpu\u0074":[]}"#.to_owned(),
        r#"{"output":[],"Output":[]}"#.to_owned(),
        "[]".to_owned(),
        output(r#"{"type":"function_call","name":"safe","name":"evil"}"#),
        output(r#"{"type":"function_call","name":"safe","n\u0061me":"evil"}"#),
        output(r#"{"type":"function_call","name":"safe","Name":"evil"}"#),
        output(r#"{"type":"function_call","name":"safe\ud800"}"#),
        output(r#"{"type":"function_call","name":12}"#),
        output(r#"{"type":"function_call","name":["safe"]}"#),
    ] {
        for (method, path) in [("POST", "/responses"), ("GET", "/responses/r")] {
            let outcome = stand().call(&Upstream::json(body.clone()), ask(method, path));
            released(&body, &outcome, &(unreadable, String::new()));
        }
    }
    for name in [r"safe\u0000", " safe", "SAFE"] {
        let body = output(r#"{"type":"function_call","name":"NAME"}"#).replace("NAME", name);
        let outcome = stand().call(&Upstream::json(body.clone()), ask("POST", "/responses"));
        released(
            &body,
            &outcome,
            &(Some(Rule::ToolNotAllowed), String::new()),
        );
    }
}

#[test]
fn a_documents_encoding_status_or_label_excuses_nothing() {
    let evil = json!({"object": "response", "output": [call("evil")]}).to_string();
    let marked = [b"\xEF\xBB\xBF".as_slice(), evil.as_bytes()].concat();
    let wide: Vec<u8> = evil.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (method, path) in [
        ("POST", "/responses"),
        ("GET", "/responses/r"),
        ("GET", "/conversations/c/items"),
        ("POST", "/threads/t/runs"),
    ] {
        for body in [marked.clone(), wide.clone()] {
            let outcome = stand().call(&Upstream::json(body), ask(method, path));
            released(
                path,
                &outcome,
                &(Some(Rule::ResponseUnreadable), String::new()),
            );
        }
        for status in [200, 201, 202, 203, 206, 400, 404, 429, 500, 599] {
            let upstream =
                Upstream::steps(status, "application/json", vec![Step::data(evil.clone())]);
            let outcome = stand().call(&upstream, ask(method, path));
            released(path, &outcome, &(Some(Rule::ToolNotAllowed), String::new()));
        }
        for status in [200, 204, 400, 500] {
            for kind in ["", "text/plain", "application/octet-stream", "text/html"] {
                let upstream = Upstream::steps(status, kind, vec![Step::data(evil.clone())]);
                let outcome = stand().call(&upstream, ask(method, path));
                released(
                    path,
                    &outcome,
                    &(Some(Rule::ResponseUnreadable), String::new()),
                );
            }
        }
        for encoding in ["gzip", "br", "zstd", "gzip, gzip", "x"] {
            let body = evil.clone();
            let upstream = Upstream::new(move || {
                let script = support::ScriptBody::new([Step::data(body.clone())]);
                let mut answer = support::answer(200, "application/json", script);
                answer
                    .headers_mut()
                    .insert("content-encoding", encoding.parse().unwrap());
                Ok(answer)
            });
            let outcome = stand().call(&upstream, ask(method, path));
            released(
                path,
                &outcome,
                &(Some(Rule::ResponseUnreadable), String::new()),
            );
        }
        let error = json!({"error": {"message": "no", "type": "x", "param": null, "code": null}});
        document(method, path, &error, None);
        let beside = json!({"error": {"message": "no"}, "output": [call("evil")]});
        document(method, path, &beside, Some(Rule::ToolNotAllowed));
    }
}

#[test]
fn a_hosted_call_is_judged_though_nobody_asked_for_it() {
    for kind in [
        "web_search_call",
        "file_search_call",
        "computer_call",
        "code_interpreter_call",
        "image_generation_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "tool_search_call",
        "multi_agent_call",
        "x_search_call",
        "brand_new_call",
        "program",
    ] {
        let hosted = json!({"type": kind, "id": "h", "status": "completed"});
        for (method, path) in [
            ("POST", "/responses"),
            ("GET", "/responses/r"),
            ("POST", "/responses/compact"),
            ("POST", "/responses/r/cancel"),
        ] {
            document(
                method,
                path,
                &json!({"output": [hosted]}),
                Some(Rule::ToolNotAllowed),
            );
        }
        for path in ["/responses/r/input_items", "/conversations/c/items"] {
            document(
                "GET",
                path,
                &json!({"data": [hosted]}),
                Some(Rule::ToolNotAllowed),
            );
        }
        document(
            "GET",
            "/conversations/c/items/i",
            &hosted,
            Some(Rule::ToolNotAllowed),
        );
        let stream = created() + &item("added", 0, &hosted);
        streamed(
            &stand(),
            "POST",
            "/responses",
            kind,
            &stream,
            &(Some(Rule::ToolNotAllowed), created()),
        );
    }
    for step in [
        "web_search_call.searching",
        "code_interpreter_call_code.delta",
        "image_generation_call.partial_image",
        "shell_call_command.added",
        "apply_patch_call_operation_diff.delta",
        "brand_new_call.started",
    ] {
        let progress = event(&json!({"type": format!("response.{step}"), "output_index": 0}));
        let stream = created() + &progress;
        streamed(
            &stand(),
            "POST",
            "/responses",
            step,
            &stream,
            &(Some(Rule::ToolNotAllowed), created()),
        );
    }
    // One of its names is enough.
    let web = Stand::yaml("agent: { toolsets: { allowed_tools: [web_search_preview] } }");
    let search = json!({"type": "web_search_call", "id": "h", "status": "completed"});
    let progress = event(
        &json!({"type": "response.web_search_call.searching", "output_index": 0, "item_id": "h"}),
    );
    let stream = [
        created(),
        item("added", 0, &search),
        progress,
        item("done", 0, &search),
        response("completed", &json!([search])),
    ]
    .concat();
    streamed(
        &web,
        "POST",
        "/responses",
        "allowed",
        &stream,
        &(None, stream.clone()),
    );
}

#[test]
fn a_wrapper_a_namespace_and_a_program_hide_no_call() {
    let wrapper = json!({"type": "function_call", "call_id": "c", "name": "parallel", "arguments": "{\"tool_uses\":[{\"recipient_name\":\"functions.evil\",\"parameters\":{}}]}"});
    let admin = json!({"type": "function_call", "call_id": "c", "namespace": "admin", "name": "safe", "arguments": "{}"});
    let programmed = json!({"type": "function_call", "call_id": "c", "name": "evil", "arguments": "{}", "caller": {"type": "program", "id": "p"}});
    for hidden in [&wrapper, &admin, &programmed] {
        document(
            "POST",
            "/responses",
            &json!({"output": [hidden]}),
            Some(Rule::ToolNotAllowed),
        );
        for (method, path) in RESPONSES {
            let stream = created() + &item("added", 0, hidden);
            streamed(
                &stand(),
                method,
                path,
                &hidden.to_string(),
                &stream,
                &(Some(Rule::ToolNotAllowed), created()),
            );
        }
    }
    let blocking = Stand::yaml("agent: { toolsets: { blocked_tools: [evil] } }");
    let body = json!({"output": [wrapper]}).to_string();
    let outcome = blocking.call(&Upstream::json(body), ask("POST", "/responses"));
    assert_eq!(outcome.rule(), Some(Rule::ToolNotAllowed));
    // An entry that blocks the name blocks it in every namespace.
    let namespaced = json!({"type": "function_call", "call_id": "c", "namespace": "ns", "name": "evil", "arguments": "{}"});
    let body = json!({"output": [namespaced]}).to_string();
    let outcome = blocking.call(&Upstream::json(body), ask("POST", "/responses"));
    assert_eq!(outcome.rule(), Some(Rule::ToolBlocked));
}

#[test]
fn a_resumed_stream_is_held_until_a_call_is_named() {
    let path = "/responses/resp_1?stream=true&starting_after=4";
    let delta = event(
        &json!({"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc_1", "delta": "{\"a\":"}),
    );
    let text =
        event(&json!({"type": "response.output_text.delta", "output_index": 1, "delta": "x"}));
    for (name, rule) in [("safe", None), ("evil", Some(Rule::ToolNotAllowed))] {
        let stream = [
            text.clone(),
            delta.clone(),
            text.clone(),
            item("done", 0, &call(name)),
            response("completed", &json!([call(name)])),
        ]
        .concat();
        let bytes = if rule.is_none() {
            stream.clone()
        } else {
            text.clone()
        };
        streamed(&stand(), "GET", path, name, &stream, &(rule, bytes));
    }
    for end in [String::new(), response("completed", &json!([]))] {
        let stream = text.clone() + &delta + &end;
        streamed(
            &stand(),
            "GET",
            path,
            "never named",
            &stream,
            &(Some(Rule::ResponseUnreadable), text.clone()),
        );
    }
    for kind in ["custom_tool_call_input.delta", "mcp_call_arguments.delta"] {
        let delta =
            event(&json!({"type": format!("response.{kind}"), "output_index": 0, "delta": "x"}));
        let late = item(
            "done",
            0,
            &json!({"type": "custom_tool_call", "call_id": "c", "name": "evil", "input": "x"}),
        );
        let stream = text.clone() + &delta + &late;
        streamed(
            &stand(),
            "GET",
            path,
            kind,
            &stream,
            &(Some(Rule::ToolNotAllowed), text.clone()),
        );
    }
}

#[test]
fn a_run_is_judged_by_what_it_asks_for_and_by_its_steps() {
    let asks = |name: &str| json!({"id": "run_1", "object": "thread.run", "status": "requires_action", "required_action": {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}]}}, "tools": [{"type": "function", "function": {"name": "evil"}}]});
    let step = |call: Value| json!({"id": "step_1", "object": "thread.run.step", "step_details": {"type": "tool_calls", "tool_calls": [call]}});
    let paths = [
        "/threads/runs",
        "/threads/t/runs",
        "/threads/t/runs/r/submit_tool_outputs",
    ];
    for path in paths {
        document("POST", path, &asks("evil"), Some(Rule::ToolNotAllowed));
        document("POST", path, &asks("safe"), None);
    }
    for (path, body) in [
        ("/threads/t/runs", json!({"data": [asks("evil")]})),
        ("/threads/t/runs/r", asks("evil")),
        (
            "/threads/t/runs/r/steps",
            json!({"data": [step(json!({"id": "c", "type": "function", "function": {"name": "evil", "arguments": "{}"}}))]}),
        ),
        (
            "/threads/t/runs/r/steps/s",
            step(
                json!({"id": "c", "type": "function", "function": {"name": "evil", "arguments": "{}", "output": null}}),
            ),
        ),
        (
            "/threads/t/runs/r/steps/s",
            step(
                json!({"id": "c", "type": "code_interpreter", "code_interpreter": {"input": "1", "outputs": []}}),
            ),
        ),
        (
            "/threads/t/runs/r/steps/s",
            step(json!({"id": "c", "type": "file_search", "file_search": {}})),
        ),
        (
            "/threads/t/runs/r/steps/s",
            step(json!({"id": "c", "type": "brand_new", "brand_new": {}})),
        ),
    ] {
        document("GET", path, &body, Some(Rule::ToolNotAllowed));
    }
    let event = |kind: &str, data: &Value| format!("event: {kind}\ndata: {data}\n\n");
    let delta = |call: Value| {
        event(
            "thread.run.step.delta",
            &json!({"id": "step_1", "object": "thread.run.step.delta", "delta": {"step_details": {"type": "tool_calls", "tool_calls": [call]}}}),
        )
    };
    let begun = event(
        "thread.run.created",
        &json!({"id": "run_1", "object": "thread.run", "status": "queued"}),
    );
    let done = "event: done\ndata: [DONE]\n\n";
    for path in paths {
        for carrier in [
            event("thread.run.requires_action", &asks("evil")),
            event(
                "thread.run.step.created",
                &step(json!({"id": "c", "type": "function", "function": {"name": "evil"}})),
            ),
            event(
                "thread.run.step.completed",
                &step(json!({"id": "c", "type": "code_interpreter"})),
            ),
            delta(
                json!({"index": 0, "id": "c", "type": "function", "function": {"name": "evil", "arguments": ""}}),
            ),
            delta(
                json!({"index": 0, "id": "c", "type": "code_interpreter", "code_interpreter": {"input": "1"}}),
            ),
        ] {
            let stream = begun.clone() + &carrier + done;
            streamed(
                &stand(),
                "POST",
                path,
                &carrier,
                &stream,
                &(Some(Rule::ToolNotAllowed), begun.clone()),
            );
        }
        let stream = [
            begun.clone(),
            delta(json!({"index": 0, "id": "c", "type": "function", "function": {"name": "safe", "arguments": "", "output": null}})),
            delta(json!({"index": 0, "type": "function", "function": {"arguments": "{\"a\""}})),
            delta(json!({"index": 0, "type": "function", "function": {"arguments": ":1}"}})),
            event("thread.run.requires_action", &asks("safe")),
            done.to_owned(),
        ]
        .concat();
        streamed(
            &stand(),
            "POST",
            path,
            "in pieces",
            &stream,
            &(None, stream.clone()),
        );
        // Clients join the pieces of a name, whatever each of them is.
        let blocking = Stand::yaml("agent: { toolsets: { blocked_tools: [evil] } }");
        let first = begun.clone()
            + &delta(
                json!({"index": 0, "id": "c", "type": "function", "function": {"name": "ev", "arguments": ""}}),
            );
        let split = first.clone()
            + &delta(
                json!({"index": 0, "type": "function", "function": {"name": "il", "arguments": ""}}),
            )
            + done;
        streamed(
            &blocking,
            "POST",
            path,
            "split",
            &split,
            &(Some(Rule::ResponseUnreadable), first),
        );
    }
}

#[test]
fn a_stored_completion_is_judged_and_its_choices_were_asked_for_before() {
    let nested = |name: &str| json!([{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}]);
    let completion = |name: &str, choices: u64| {
        let choices: Vec<Value> = (0..choices).map(|index| json!({"index": index, "message": {"role": "assistant", "tool_calls": nested(name)}})).collect();
        json!({"id": "chatcmpl-1", "object": "chat.completion", "choices": choices})
    };
    let evil = Some(Rule::ToolNotAllowed);
    document("GET", "/chat/completions/c", &completion("evil", 1), evil);
    document("GET", "/chat/completions/c", &completion("safe", 2), None);
    document(
        "GET",
        "/chat/completions",
        &json!({"data": [completion("safe", 1), completion("evil", 1)]}),
        evil,
    );
    document(
        "GET",
        "/chat/completions",
        &json!({"data": [completion("safe", 1), completion("safe", 2)]}),
        None,
    );
    let path = "/chat/completions/c/messages";
    for message in [
        json!({"role": "assistant", "tool_calls": nested("evil")}),
        json!({"role": "assistant", "function_call": {"name": "evil", "arguments": ""}}),
        json!({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "evil", "input": "x"}}]}),
    ] {
        document("GET", path, &json!({"data": [message]}), evil);
    }
    document(
        "GET",
        path,
        &json!({"data": [{"role": "assistant", "tool_calls": nested("safe")}]}),
        None,
    );
}

#[test]
fn the_output_of_a_batch_is_judged_line_by_line() {
    let line = |body: Value| {
        json!({"id": "b", "custom_id": "1", "response": {"status_code": 200, "request_id": "r", "body": body}, "error": null}).to_string()
    };
    let chat = |name: &str| json!({"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}]}}]});
    let safe = line(chat("safe"));
    for kind in [
        "application/octet-stream",
        "text/plain",
        "application/jsonl",
        "",
        "application/x-ndjson",
    ] {
        let send = |body: &str| {
            let upstream = Upstream::steps(200, kind, vec![Step::data(body.to_owned())]);
            stand().call(&upstream, ask("GET", "/files/f/content"))
        };
        for body in [
            line(chat("evil")),
            line(json!({"object": "response", "output": [call("evil")]})),
            line(json!({"object": "response", "output": [{"type": "web_search_call"}]})),
        ] {
            for lines in [
                body.clone(),
                format!("{safe}\n{body}\n"),
                format!("{body}\r\n{safe}\r\n"),
                format!("\n{body}"),
            ] {
                let found = send(&lines);
                released(kind, &found, &(Some(Rule::ToolNotAllowed), String::new()));
            }
        }
        let lines = format!("{safe}\n{safe}\n");
        released(kind, &send(&lines), &(None, lines.clone()));
        released(kind, &send("a,b\n1,2\n"), &(None, "a,b\n1,2\n".to_owned()));
        let broken = format!("{safe}\n{{\n");
        released(
            kind,
            &send(&broken),
            &(Some(Rule::ResponseUnreadable), String::new()),
        );
    }
}

#[test]
fn what_media_endpoints_say_in_text_is_no_answer_in_disguise() {
    let said = |kind: &'static str, body: &str| {
        let form = field("model", "gpt-4o") + &file("RIFF") + END;
        let upstream = Upstream::steps(200, kind, vec![Step::data(body.to_owned())]);
        stand().call(&upstream, form_request("/audio/transcriptions", form))
    };
    for body in [
        "hello",
        "1\n00:00:00,000 --> 00:00:01,000\nDatabases are fun.\n",
        "WEBVTT\n\ndata that we have\n",
        "Data",
    ] {
        released(
            body,
            &said("text/plain; charset=utf-8", body),
            &(None, body.to_owned()),
        );
    }
    let evil = json!({"output": [call("evil")]}).to_string();
    for (kind, body) in [
        ("text/plain", evil.clone()),
        ("text/plain", format!("data: {evil}\n\n")),
        ("", format!("x\r DATA : {evil}\n\n")),
    ] {
        let outcome = said(kind, &body);
        released(
            &body,
            &outcome,
            &(Some(Rule::ResponseUnreadable), String::new()),
        );
    }
    released(
        "JSON",
        &said("application/json", &evil),
        &(Some(Rule::ToolNotAllowed), String::new()),
    );
    let sound = stand().call(
        &Upstream::steps(200, "audio/mpeg", vec![Step::data("{ID3")]),
        ask("POST", "/audio/speech"),
    );
    released("sound", &sound, &(None, "{ID3".to_owned()));
}

#[test]
fn what_a_model_used_is_charged_where_it_ran_and_reading_it_again_is_free() {
    let used = |request: Request<Full<Bytes>>, upstream: &Upstream| {
        let stand = Stand::yaml("rate_limits: { per_agent: { tokens_per_day: 1000000 } }");
        let outcome = stand.call(upstream, request);
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        stand.used()
    };
    let usage = json!({"input_tokens": 30, "output_tokens": 12, "total_tokens": 42});
    let response =
        json!({"object": "response", "status": "completed", "output": [], "usage": usage});
    let events = |document: Value| Upstream::stream(format!("data: {document}\n\n"));
    let completed = || events(json!({"type": "response.completed", "response": response}));
    let incomplete = || events(json!({"type": "response.incomplete", "response": response}));
    for upstream in [
        Upstream::json(response.to_string()),
        completed(),
        incomplete(),
    ] {
        assert_eq!(used(ask("POST", "/responses"), &upstream), 42);
        assert_eq!(used(ask("GET", "/responses/r"), &upstream), 0);
        assert_eq!(used(ask("POST", "/responses/r/cancel"), &upstream), 0);
    }
    let compacted =
        json!({"object": "response.compaction", "output": [], "usage": usage}).to_string();
    assert_eq!(
        used(
            ask("POST", "/responses/compact"),
            &Upstream::json(compacted)
        ),
        42
    );
    let counted = Upstream::json(r#"{"object":"response.input_tokens","input_tokens":11}"#);
    assert_eq!(used(ask("POST", "/responses/input_tokens"), &counted), 0);
    let embedded = Upstream::json(
        r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
    );
    assert_eq!(used(ask("POST", "/embeddings"), &embedded), 8);
    let painted =
        Upstream::json(json!({"data": [{"b64_json": "AAAA"}], "usage": usage}).to_string());
    assert_eq!(used(ask("POST", "/images/generations"), &painted), 42);
    assert_eq!(
        used(
            ask("POST", "/images/generations"),
            &events(
                json!({"type": "image_generation.completed", "b64_json": "AA", "usage": usage})
            )
        ),
        42
    );
    assert_eq!(
        used(
            ask("POST", "/images/edits"),
            &events(json!({"type": "image_edit.completed", "b64_json": "AA", "usage": usage}))
        ),
        42
    );
    let heard = json!({"type": "transcript.text.done", "text": "x", "usage": {"type": "tokens", "input_tokens": 30, "output_tokens": 12, "total_tokens": 42}});
    assert_eq!(
        used(ask("POST", "/audio/transcriptions"), &events(heard)),
        42
    );
    let spoken = json!({"type": "speech.audio.done", "usage": usage});
    assert_eq!(used(ask("POST", "/audio/speech"), &events(spoken)), 42);
    let run = json!({"object": "thread.run", "status": "completed", "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}});
    let streamed = Upstream::stream(format!(
        "event: thread.run.completed\ndata: {run}\n\nevent: done\ndata: [DONE]\n\n"
    ));
    for upstream in [Upstream::json(run.to_string()), streamed] {
        assert_eq!(used(ask("POST", "/threads/t/runs"), &upstream), 42);
        assert_eq!(used(ask("GET", "/threads/t/runs/r"), &upstream), 0);
    }
    let output = format!("{}\n", json!({"response": {"body": response}}));
    let output = Upstream::steps(200, "application/octet-stream", vec![Step::data(output)]);
    assert_eq!(used(ask("GET", "/files/f/content"), &output), 0);
    // An answer without a word on its usage was not free.
    let silent = Upstream::json(r#"{"results":[{"flagged":false}]}"#);
    assert!(used(ask("POST", "/moderations"), &silent) > 0);
}

#[test]
fn a_refusal_inside_a_stream_has_the_shape_that_the_apis_clients_raise() {
    let stand = Stand::yaml(POLICY).with(|layer| layer.respond(Respond::OpenAi));
    let numbered = |number: u64, mut document: Value| {
        document["sequence_number"] = number.into();
        event(&document)
    };
    let created = numbered(
        7,
        json!({"type": "response.created", "response": {"output": []}}),
    );
    let text = numbered(
        8,
        json!({"type": "response.output_text.delta", "delta": "x"}),
    );
    let evil = numbered(
        9,
        json!({"type": "response.output_item.added", "output_index": 0, "item": call("evil")}),
    );
    for (method, path) in RESPONSES {
        let upstream = Upstream::stream([&*created, &*text, &*evil].concat());
        let outcome = stand.call(&upstream, ask(method, path));
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        let last = outcome.text();
        let last = last.strip_prefix(&(created.clone() + &text)).unwrap();
        let data = last
            .strip_prefix("event: error\ndata: ")
            .unwrap()
            .strip_suffix("\n\n")
            .unwrap();
        let found: Value = serde_json::from_str(data).unwrap();
        let number = found["sequence_number"].as_u64().unwrap();
        assert!(number > 8, "{number}");
        let message = "Tool evil is not in the allowlist";
        let error = json!({"message": message, "type": "policy_violation", "param": "tools", "code": "tool_not_allowed"});
        assert_eq!(
            found,
            json!({"type": "error", "sequence_number": 9, "message": message, "param": "tools", "code": "tool_not_allowed", "error": error})
        );
    }
    let upstream = Upstream::json(json!({"output": [call("evil")]}).to_string());
    let outcome = stand.call(&upstream, ask("GET", "/responses/r"));
    assert_eq!(outcome.head.as_ref().unwrap().status, 403);
    assert!(outcome.text().contains(r#""code":"tool_not_allowed""#));
    // Assistants' streams carry the error object alone.
    let run = json!({"required_action": {"submit_tool_outputs": {"tool_calls": [{"type": "function", "function": {"name": "evil", "arguments": "{}"}}]}}});
    let upstream = Upstream::stream(format!(
        "event: thread.run.requires_action\ndata: {run}\n\n"
    ));
    let outcome = stand.call(&upstream, ask("POST", "/threads/t/runs"));
    let text = outcome.text();
    assert!(
        text.contains(r#""code":"tool_not_allowed""#) && !text.contains("[DONE]"),
        "{text}"
    );
}

#[test]
fn a_violation_says_in_which_event_it_was_seen() {
    let stream = created() + ": comment\n\n" + &item("added", 0, &call("evil"));
    let outcome = stand().call(&Upstream::stream(stream), ask("POST", "/responses"));
    assert_eq!(outcome.violation().unwrap().seen(), Seen::Event(2));
    let body = json!({"output": [call("evil")]}).to_string();
    let outcome = stand().call(&Upstream::json(body), ask("GET", "/responses/r"));
    assert_eq!(outcome.violation().unwrap().seen(), Seen::Response);
}
