//! Which services may be called: hosts by the names that policies give them, and their endpoints.

#![cfg(test)]

mod support;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use support::{Stand, Upstream, request_to};
use tower_sekuire::{Mode, Policy, PolicyEnforcer, Rule};

const OPENAI: &str = "permissions: {api: {allowed_services: [{service_name: openai, endpoints: [chat, /v1/models]}, {service_name: groq}]}}";

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
const EMBED: &str = r#"{"model":"m","input":"hi"}"#;

/// The violation's text, or nothing.
fn refused(stand: &Stand, request: Request<Full<Bytes>>) -> String {
    let upstream = Upstream::json(r#"{"choices":[],"data":[]}"#);
    let outcome = stand.call(&upstream, request);
    let sent = upstream.calls() == 1;
    let text = outcome.violation().map(ToString::to_string);
    assert_eq!(sent, text.is_none());
    text.unwrap_or_default()
}

fn post(stand: &Stand, url: &str, body: &'static str) -> String {
    refused(stand, request_to(url, body))
}

fn get(stand: &Stand, url: &str) -> String {
    let request = Request::builder().method(Method::GET).uri(url);
    refused(stand, request.body(Full::new(Bytes::new())).unwrap())
}

#[test]
fn a_host_is_judged_by_the_service_that_it_is() {
    let stand = Stand::yaml(OPENAI);
    for (host, text) in [
        ("api.openai.com", ""),
        ("eu.api.openai.com", ""),
        ("API.OPENAI.COM.:443", ""),
        ("api.groq.com", ""),
        (
            "me.openai.azure.com",
            "[api_not_allowed] Service azure is not in the allowlist",
        ),
        (
            "api.openai.com.example",
            "[api_not_allowed] Host api.openai.com.example is no known service, and services are restricted",
        ),
        (
            "127.0.0.1:8000",
            "[api_not_allowed] Host 127.0.0.1 is no known service, and services are restricted",
        ),
    ] {
        let url = format!("https://{host}/v1/chat/completions");
        assert_eq!(post(&stand, &url, CHAT), text, "{host}");
    }
    let named = Stand::yaml(OPENAI)
        .with(|layer| layer.service_hosts("openai", ["127.0.0.1", "*.internal"]));
    for host in ["127.0.0.1:8000", "llm.internal"] {
        let url = format!("http://{host}/v1/chat/completions");
        assert_eq!(post(&named, &url, CHAT), "", "{host}");
    }
}

#[test]
fn hosts_of_regions_are_known_and_look_alikes_are_not() {
    let stand = Stand::yaml(
        "permissions: {api: {allowed_services: [{service_name: google}, {service_name: bedrock}]}}",
    );
    let call = |host: &str| post(&stand, &format!("https://{host}/v1/chat/completions"), CHAT);
    for host in [
        "us-central1-aiplatform.googleapis.com",
        "aiplatform.eu.rep.googleapis.com",
        "bedrock-runtime.us-west-2.amazonaws.com",
        "bedrock-mantle.us-east-1.api.aws",
    ] {
        assert_eq!(call(host), "", "{host}");
    }
    for host in [
        "evil-aiplatform.googleapis.com.attacker.example",
        "us-central1-aiplatform.googleapis.com.attacker.example",
        "evil-aiplatform.googleapis.com",
        "bedrock-runtime.s3.amazonaws.com",
    ] {
        assert_eq!(
            call(host),
            format!(
                "[api_not_allowed] Host {host} is no known service, and services are restricted"
            )
        );
    }
}

#[test]
fn only_the_endpoints_that_are_listed_may_be_called() {
    let stand = Stand::yaml(OPENAI);
    let host = "https://api.openai.com";
    assert_eq!(get(&stand, &format!("{host}/v1/models")), "");
    assert_eq!(get(&stand, &format!("{host}/v1/models/gpt-4o")), "");
    assert_eq!(
        post(&stand, &format!("{host}/v1/embeddings"), EMBED),
        "[api_not_allowed] Endpoint /embeddings of service openai is not in the allowlist"
    );
    // A service without the list may be called everywhere.
    assert_eq!(
        post(&stand, "https://api.groq.com/openai/v1/embeddings", EMBED),
        ""
    );

    for (entry, chat, embed) in [
        ("chat/completions", true, false),
        ("/chat/completions", true, false),
        ("/v1/chat/completions", true, false),
        ("chat.completions", true, false),
        ("chat*", true, false),
        ("'*'", true, true),
        ("completions", false, false),
        ("Chat", false, false),
        ("embeddings", false, true),
    ] {
        let stand = Stand::yaml(&format!(
            "permissions: {{api: {{allowed_services: [{{service_name: openai, endpoints: [{entry}]}}]}}}}"
        ));
        let may = |path: &str, body| post(&stand, &format!("{host}/v1/{path}"), body).is_empty();
        assert_eq!(may("chat/completions", CHAT), chat, "{entry}");
        assert_eq!(may("embeddings", EMBED), embed, "{entry}");
    }
}

#[test]
fn other_hosts_have_services_and_endpoints_too() {
    let policy =
        "permissions: {api: {allowed_services: [{service_name: stripe, endpoints: [charges]}]}}";
    let stand =
        Stand::yaml(policy).with(|layer| layer.plain_hosts(["api.stripe.com", "x.example"]));
    let host = "https://api.stripe.com";
    assert_eq!(get(&stand, &format!("{host}/v1/charges/ch_1")), "");
    let refused = |path: &str| {
        let text = get(&stand, &format!("{host}{path}"));
        assert!(
            text.starts_with("[api_not_allowed] Endpoint "),
            "{path}: {text}"
        );
    };
    refused("/v1/refunds");
    refused("/v1charges");
    // Which of the two a server takes can't be told.
    refused("/v1/charges/../refunds");
    refused("/v1/charges%2f..%2frefunds");
    refused("/");
    assert_eq!(
        get(&stand, "https://x.example/v1/charges"),
        "[api_not_allowed] Host x.example is no known service, and services are restricted"
    );
}

#[test]
fn where_a_request_goes_must_be_said_and_said_once() {
    let stand = Stand::yaml(OPENAI);
    assert_eq!(
        post(&stand, "/v1/chat/completions", CHAT),
        "[request_unreadable] rules on services need the request's scheme and host, and its URI has none"
    );
    let mut request = request_to("https://api.openai.com/v1/chat/completions", CHAT);
    request
        .headers_mut()
        .insert("host", "evil.example".parse().unwrap());
    assert_eq!(
        refused(&stand, request),
        "[request_unreadable] the request's `host` header and its URI name different hosts"
    );
}

#[test]
fn off_is_off_and_no_rule_asks_nothing() {
    let url = "https://somewhere.example/v1/chat/completions";
    let off = Stand::yaml("permissions: {api: {enabled: false}}");
    assert_eq!(
        post(&off, url, CHAT),
        "[api_disabled] API access is disabled"
    );
    for open in ["permissions: {api: {enabled: true}}", "models: {}"] {
        assert_eq!(post(&Stand::yaml(open), url, CHAT), "", "{open}");
    }
}

#[test]
fn a_refusal_names_the_service_and_what_to_do() {
    let stand = Stand::yaml(OPENAI);
    let url = "http://127.0.0.1:8000/v1/chat/completions";
    let outcome = stand.call(&Upstream::json("{}"), request_to(url, CHAT));
    let violation = outcome.violation().unwrap();
    assert_eq!(violation.rule(), Rule::ApiNotAllowed);
    assert_eq!(violation.rule().sekuire_id(), Some("api.not_allowed"));
    assert_eq!(violation.value(), Some("127.0.0.1"));
    assert_eq!(
        violation.help(),
        Some("say which service it is: `SekuireLayer::service_hosts`, `--service-host`")
    );
}

#[test]
fn warn_and_audit_modes_let_it_pass_and_tell() {
    for mode in [Mode::Warn, Mode::Audit] {
        let enforcer = PolicyEnforcer::new(Policy::from_yaml(OPENAI).unwrap()).mode(mode);
        let stand = Stand::from_enforcer(enforcer);
        assert_eq!(
            post(&stand, "https://api.openai.com/v1/embeddings", EMBED),
            ""
        );
        let told = stand.told();
        assert!(
            told.iter()
                .any(|told| told.rule == Some(Rule::ApiNotAllowed))
        );
    }
}
