//! Requests that mean one thing to the layer and could mean another to a server: refused before anything is sent. The
//! policy allows the model `gpt-4o` and the tool `safe`.

#![cfg(test)]

mod support;

use bytes::Bytes;
use http::{Method, Request, Uri, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use support::{Stand, Step, URL, Upstream, chat, request, request_to, run};
use tower::{Service, ServiceExt};
use tower_sekuire::{BoxError, Mode, PolicyEnforcer, PolicyViolation, Rule, SekuireLayer};

const POLICY: &str = "
agent:
  name: tested
  models: { allowed_models: [gpt-4o] }
  toolsets: { allowed_tools: [safe] }
";

fn stand() -> Stand {
    Stand::yaml(POLICY)
}

fn upstream() -> Upstream {
    Upstream::json(chat::answer(&json!({"content": "hello"})))
}

/// The rule that refuses this request, after checking that nothing was sent; `None` when it was sent and answered.
fn rule(stand: &Stand, request: Request<Full<Bytes>>) -> Option<Rule> {
    let upstream = upstream();
    let outcome = stand.call(&upstream, request);
    let rule = outcome.rule();
    match &outcome.error {
        None => assert_eq!(upstream.calls(), 1),
        Some(error) => {
            assert!(rule.is_some(), "{error}");
            assert_eq!(upstream.calls(), 0, "refused, and sent all the same");
        }
    }
    rule
}

#[track_caller]
fn refused(rule_expected: Rule, name: &str, body: impl Into<Bytes>) {
    let body = body.into();
    let found = rule(&stand(), request(body.clone()));
    let shown: String = String::from_utf8_lossy(&body).chars().take(300).collect();
    assert_eq!(found, Some(rule_expected), "{name}: {shown}");
}

/// The body is sent as the bytes that came.
#[track_caller]
fn sent(name: &str, body: &str) {
    let upstream = upstream();
    let outcome = stand().call(&upstream, request(body.to_owned()));
    assert!(outcome.error.is_none(), "{name}: {:?}", outcome.error);
    assert_eq!(upstream.received()[0].1, body, "{name}");
}

fn with(members: &str) -> String {
    format!(r#"{{"model":"gpt-4o","messages":[],{members}}}"#)
}

#[test]
fn what_the_policy_allows_is_sent_as_it_came() {
    sent("plain", r#"{"model":"gpt-4o","messages":[]}"#);
    sent(
        "odd white space",
        " {\n\t\"model\" :\r\n\"gpt-4o\" , \"messages\":[ ] }\n",
    );
    sent("an escaped key", r#"{"mod\u0065l":"gpt-4o","messages":[]}"#);
    sent(
        "an escaped value",
        r#"{"model":"gpt-4\u006f","messages":[]}"#,
    );
    sent(
        "a tool",
        &with(r#""tools":[{"type":"function","function":{"name":"safe"}}],"tool_choice":"auto""#),
    );
    sent(
        "unknown keys",
        &with(r#""x":{"MODEL":"o3","tools":[{"name":"evil"}]},"metadata":{"Model":"o3"}"#),
    );
}

#[test]
fn a_key_has_one_value() {
    for body in [
        r#"{"model":"gpt-4o","model":"o3"}"#,
        r#"{"model":"o3","model":"gpt-4o"}"#,
        r#"{"model":"gpt-4o","model":"gpt-4o"}"#,
    ] {
        refused(Rule::RequestUnreadable, "", body);
    }
    refused(Rule::ModelNotAllowed, "", r#"{"mod\u0065l":"o3"}"#);
    refused(
        Rule::RequestUnreadable,
        "",
        r#"{"model":"gpt-4o","mod\u0065l":"o3"}"#,
    );
    for key in [
        "Model",
        "MODEL",
        "mODEL",
        "Tools",
        "tool\\u017f",
        "toolſ",
        "Tool_Choice",
        "Function_Call",
        "STREAM",
        "Messages",
        "me\\u017fsages",
        "Stream_Options",
    ] {
        refused(
            Rule::RequestUnreadable,
            "",
            with(&format!(r#""{key}":null"#)),
        );
    }
    refused(
        Rule::RequestUnreadable,
        "alone",
        r#"{"Model":"gpt-4o","messages":[]}"#,
    );
    refused(
        Rule::RequestUnreadable,
        "in a tool",
        with(r#""tools":[{"type":"function","function":{"name":"safe","Name":"evil"}}]"#),
    );
    refused(
        Rule::RequestUnreadable,
        "deep",
        with(r#""x":[{"y":{"a":1,"\u0061":2}}]"#),
    );
    // The names of a tool's parameters are the caller's own.
    sent(
        "in a schema",
        &with(
            r#""tools":[{"type":"function","function":{"name":"safe","parameters":{"properties":{"Name":{},"name":{},"model":{},"Model":{}}}}}]"#,
        ),
    );
}

#[test]
fn a_model_is_compared_as_it_stands() {
    for model in [
        "GPT-4O",
        " gpt-4o",
        "gpt-4o ",
        "gpt-4o\n",
        "gpt-4o\0",
        "gpt\u{ad}-4o",
        "gpt-4\u{43e}",
        "ｇｐｔ-4o",
        "",
        "gpt-4o-mini",
        "gpt-4o-2024-08-06",
        "ft:gpt-4o:acme::abc",
        "ft:gpt-4o:acme::abc:ckpt-step-90",
        "openai/gpt-4o",
        "gpt-4o:online",
        "gpt-4o,o3",
    ] {
        let body = json!({"model": model, "messages": []}).to_string();
        refused(Rule::ModelNotAllowed, "", body);
    }
    for model in [
        json!(["gpt-4o"]),
        json!({"id": "gpt-4o"}),
        json!(null),
        json!(4),
        json!(true),
    ] {
        let body = json!({"model": model, "messages": []}).to_string();
        refused(Rule::RequestUnreadable, "", body);
    }
    refused(Rule::ModelNotAllowed, "absent", r#"{"messages":[]}"#);
    for more in [
        r#""models":["o3"]"#,
        r#""models":["gpt-4o","o3"]"#,
        r#""fallbacks":["o3"]"#,
        r#""route":"fallback""#,
        r#""extra_body":{"model":"o3"}"#,
    ] {
        refused(Rule::ModelNotAllowed, "", with(more));
    }
    sent("allowed ones", &with(r#""models":["gpt-4o"]"#));
}

#[test]
fn a_pattern_matches_no_name_that_servers_trim_or_fold() {
    let stand = Stand::yaml("agent: { models: { allowed_models: ['gpt-*'] } }");
    for model in ["gpt-4o ", "gpt-4o\n", "gpt-\u{43e}", "gpt-4\u{200b}o"] {
        let body = json!({"model": model, "messages": []}).to_string();
        assert_eq!(rule(&stand, request(body)), Some(Rule::ModelNotAllowed));
    }
    assert_eq!(
        rule(&stand, request(r#"{"model":"gpt-5","messages":[]}"#)),
        None
    );
}

#[test]
fn only_json_in_utf_8_is_read() {
    let text = r#"{"model":"gpt-4o","messages":[]}"#;
    let units: Vec<u16> = text.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let wide: Vec<u8> = text
        .chars()
        .flat_map(|c| (c as u32).to_be_bytes())
        .collect();
    let mark = format!("\u{feff}{text}").into_bytes();
    let wild = [br#"{"model":"gpt-4o","x":""#.as_slice(), b"\xff\"}"].concat();
    for body in [
        little.clone(),
        big,
        wide,
        mark,
        [b"\xff\xfe".to_vec(), little].concat(),
        wild,
    ] {
        refused(Rule::RequestUnreadable, "", body);
    }
    for member in [r#""x":"\ud800""#, r#""x":"\udc00\ud800""#, r#""\ud800":1"#] {
        refused(Rule::RequestUnreadable, "", with(member));
    }
    refused(
        Rule::ModelNotAllowed,
        "",
        r#"{"model":"gpt-4o\u0000","messages":[]}"#,
    );
    for body in [
        r#"{"model":"gpt-4o","messages":[]} x"#,
        r#"{"model":"gpt-4o","messages":[]}{"model":"o3"}"#,
        "{\"model\":\"gpt-4o\",\"messages\":[]}\n{\"model\":\"o3\",\"messages\":[]}\n",
        "\0{\"model\":\"gpt-4o\",\"messages\":[]}",
        r#"/*c*/{"model":"gpt-4o","messages":[]}"#,
        r#"{"model":"gpt-4o",/*c*/"messages":[]}"#,
        r#"{"model":"gpt-4o","messages":[],}"#,
        r#"{"model":"gpt-4o","messages":[],"x":NaN}"#,
        r#"{'model':'gpt-4o','messages':[]}"#,
        r#"{model:"gpt-4o","messages":[]}"#,
        r#"{"model":"gpt-4o","messages":[]"#,
        "{\"model\":\"gpt-4o\",\"x\":\"a\nb\"}",
        "{\"model\":\"gpt-4o\"\u{a0},\"messages\":[]}",
        r#"{"model":"gpt-4o","x":1e999}"#,
    ] {
        refused(Rule::RequestUnreadable, "", body);
    }
    for body in [
        "[]",
        r#"["model"]"#,
        "\"str\"",
        "null",
        "true",
        "1",
        "",
        " ",
        "\n\t\r ",
    ] {
        refused(Rule::RequestUnreadable, "", body);
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        with(&format!(
            r#""x":{}{}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        ))
    };
    refused(Rule::RequestUnreadable, "", "[".repeat(100_000));
    refused(
        Rule::RequestUnreadable,
        "",
        with(&format!(r#""x":{}"#, "{\"a\":".repeat(100_000))),
    );
    refused(Rule::RequestUnreadable, "", nested(200));
    refused(Rule::RequestUnreadable, "", nested(128));
    sent("", &nested(127));
}

#[test]
fn headers_that_change_how_a_body_is_read_are_refused() {
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let send = |change: &dyn Fn(&mut Request<Full<Bytes>>)| {
        let mut request = request(body);
        change(&mut request);
        rule(&stand(), request)
    };
    let set = |name: &'static str, value: &'static str| {
        send(&move |request| {
            request.headers_mut().insert(name, value.parse().unwrap());
        })
    };
    for encoding in [
        "gzip",
        "GZIP",
        "br",
        "zstd",
        "deflate",
        "gzip, gzip",
        "identity, gzip",
        "unknown",
        "x",
    ] {
        assert_eq!(
            set("content-encoding", encoding),
            Some(Rule::RequestUnreadable),
            "{encoding}"
        );
    }
    assert_eq!(set("content-encoding", "identity"), None, "identity");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json, text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-16",
        "text/event-stream",
        "json",
        "",
        ";",
    ] {
        assert_eq!(
            set("content-type", kind),
            Some(Rule::RequestUnreadable),
            "{kind}"
        );
    }
    for kind in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;charset=\"UTF-8\"",
    ] {
        assert_eq!(set("content-type", kind), None, "{kind}");
    }
    let missing = send(&|request| {
        request.headers_mut().remove("content-type");
    });
    assert_eq!(missing, Some(Rule::RequestUnreadable), "missing");
    let twice = send(&|request| {
        request
            .headers_mut()
            .append("content-type", "application/json".parse().unwrap());
    });
    assert_eq!(twice, Some(Rule::RequestUnreadable), "twice");
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ] {
        let found = send(&|request| {
            request.headers_mut().insert(name, "GET".parse().unwrap());
        });
        assert_eq!(found, Some(Rule::RequestUnreadable), "{name}");
    }
    for protocol in ["websocket", "h2c", "TLS/1.0"] {
        assert_eq!(
            set("upgrade", protocol),
            Some(Rule::EndpointNotAllowed),
            "{protocol}"
        );
    }
    let framed_twice = send(&|request| {
        request
            .headers_mut()
            .insert("content-length", "32".parse().unwrap());
        request
            .headers_mut()
            .insert("transfer-encoding", "chunked".parse().unwrap());
    });
    assert_eq!(framed_twice, Some(Rule::RequestUnreadable), "");
}

#[test]
fn what_is_sent_states_its_own_length_and_asks_for_a_readable_answer() {
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let mut request = request(body);
    *request.version_mut() = Version::HTTP_11;
    for (name, value) in [
        ("content-length", "7"),
        ("accept-encoding", "gzip, br"),
        ("expect", "100-continue"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let upstream = upstream();
    assert!(stand().call(&upstream, request).error.is_none());
    let (head, sent) = upstream.received().remove(0);
    assert_eq!(sent, body);
    assert_eq!(head.headers["content-length"], body.len().to_string());
    assert_eq!(head.headers["accept-encoding"], "identity");
    assert!(!head.headers.contains_key("expect"));
}

/// Bodies that come in pieces, for what a client can do that a `Full` body can't.
type Piecewise = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

fn piecewise(steps: Vec<Step>) -> FromBytes {
    let body = support::ScriptBody::new(steps);
    FromBytes(body.boxed_unsync())
}

struct FromBytes(Piecewise);

impl From<Bytes> for FromBytes {
    fn from(bytes: Bytes) -> Self {
        Self(
            Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
    }
}

impl http_body::Body for FromBytes {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// Sends a body in pieces; what reached the server, and what came back.
fn send_piecewise(layer: &SekuireLayer, steps: Vec<Step>) -> (Vec<Bytes>, Result<(), BoxError>) {
    let received: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let sink = received.clone();
    let server = tower::service_fn(move |request: Request<FromBytes>| {
        let sink = sink.clone();
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            sink.lock().unwrap().push(body);
            let answer = chat::answer(&json!({"content": "hello"}));
            let mut response = http::Response::new(Full::new(Bytes::from(answer)));
            let json = "application/json".parse().unwrap();
            response.headers_mut().insert("content-type", json);
            Ok::<_, BoxError>(response)
        }
    });
    let governed = tower::Layer::layer(layer, server);
    let request = Request::post(URL)
        .header("content-type", "application/json")
        .body(piecewise(steps))
        .unwrap();
    let result = run(governed.oneshot(request)).map(drop);
    (std::mem::take(&mut *received.lock().unwrap()), result)
}

fn violated(result: &Result<(), BoxError>) -> Rule {
    let error = result.as_ref().unwrap_err();
    PolicyViolation::find(&**error)
        .unwrap_or_else(|| panic!("no violation: {error}"))
        .rule()
}

#[test]
fn a_body_of_unknown_length_is_collected_up_to_the_cap() {
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let layer = SekuireLayer::new(tower_sekuire::Policy::from_yaml(POLICY).unwrap());
    let bytes = || body.bytes().map(|byte| Step::data(vec![byte]));
    let slow: Vec<Step> = bytes()
        .flat_map(|step| [Step::Pending, step, Step::data("")])
        .collect();
    let (received, result) = send_piecewise(&layer, slow);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(received, [body]);

    let exact = layer.clone().request_cap(body.len());
    assert!(send_piecewise(&exact, bytes().collect()).1.is_ok());
    let small = layer.clone().request_cap(body.len() - 1);
    for steps in [bytes().collect(), vec![Step::data(body)]] {
        let (received, result) = send_piecewise(&small, steps);
        assert_eq!(violated(&result), Rule::RequestUnreadable, "");
        assert!(received.is_empty(), "");
    }
}

#[test]
fn a_body_that_breaks_off_is_not_sent_in_part() {
    let layer = SekuireLayer::new(tower_sekuire::Policy::from_yaml(POLICY).unwrap());
    let (received, result) = send_piecewise(
        &layer,
        vec![
            Step::data(r#"{"model":"gpt-4o","messages":[]}"#),
            Step::Fail,
        ],
    );
    assert!(received.is_empty(), "");
    assert_eq!(result.unwrap_err().to_string(), "the connection was reset");
}

#[test]
fn a_body_with_trailers_is_refused_in_every_mode() {
    for mode in [Mode::Block, Mode::Warn, Mode::Audit] {
        let policy = tower_sekuire::Policy::from_yaml(POLICY).unwrap();
        let layer = SekuireLayer::from_enforcer(PolicyEnforcer::new(policy).mode(mode));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("content-length", 1.into());
        let (received, result) = send_piecewise(
            &layer,
            vec![
                Step::data(r#"{"model":"gpt-4o","messages":[]}"#),
                Step::Trailers(trailers),
            ],
        );
        assert_eq!(violated(&result), Rule::RequestUnreadable);
        assert!(received.is_empty());
    }
}

#[test]
fn an_endless_body_is_given_up_at_the_cap() {
    let layer =
        SekuireLayer::new(tower_sekuire::Policy::from_yaml(POLICY).unwrap()).request_cap(10_000);
    let endless = futures_util::stream::repeat_with(|| {
        Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(b"          ")))
    });
    let server = tower::service_fn(|_: Request<FromBytes>| async {
        Ok::<_, BoxError>(http::Response::new(Full::<Bytes>::default()))
    });
    let body = FromBytes(StreamBody::new(endless).boxed_unsync());
    let request = Request::post(URL)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let result = run(tower::Layer::layer(&layer, server).oneshot(request)).map(drop);
    assert_eq!(violated(&result), Rule::RequestUnreadable);
}

#[test]
fn only_documented_methods_reach_an_endpoint() {
    for method in [
        "GET", "HEAD", "PUT", "PATCH", "post", "POSTX", "OPTIONS", "DELETE", "TRACE", "CONNECT",
    ] {
        let mut request = request(r#"{"model":"gpt-4o","messages":[]}"#);
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        // Stored completions are listed by GET, which has no body.
        let expected = if method == "GET" {
            Rule::RequestUnreadable
        } else {
            Rule::EndpointNotAllowed
        };
        assert_eq!(rule(&stand(), request), Some(expected), "{method}");
    }
}

#[test]
fn a_path_that_servers_could_normalise_is_refused() {
    let allowed = r#"{"model":"gpt-4o","messages":[]}"#;
    for path in [
        "//v1//chat/completions",
        "/v1/chat//completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/%63hat/completions",
        "/v1/chat%2Fcompletions",
        "/V1/Chat/Completions",
        "/v1/chat/completions;x",
        "/v1/chat/completions%00",
        "/v1/chat/completions%20",
        "/v1\\chat\\completions",
        "/v1/chat/completions//",
        "/v1/chat/completions/.",
        "/v1/chat/completion",
        "/v2/chat/completions",
        "/x/v1/chat/completions",
        "/tenant/chat/completions",
        "/",
        "",
    ] {
        let Ok(uri) = format!("https://api.openai.com{path}").parse::<Uri>() else {
            continue;
        };
        let mut request = request(allowed);
        *request.uri_mut() = uri;
        assert_eq!(
            rule(&stand(), request),
            Some(Rule::EndpointNotAllowed),
            "{path}"
        );
    }
    // The same decision as for the plain path, one way and the other.
    for path in [
        "/v1/chat/completions/",
        "/v1/chat/completions#x",
        "/v1/chat/completions?",
        "/chat/completions",
    ] {
        let url = format!("https://api.openai.com{path}");
        assert_eq!(rule(&stand(), request_to(&url, allowed)), None, "{path}");
        let denied = request_to(&url, r#"{"model":"o3","messages":[]}"#);
        assert_eq!(
            rule(&stand(), denied),
            Some(Rule::ModelNotAllowed),
            "{path}"
        );
    }
}

#[test]
fn a_query_changes_nothing() {
    for query in [
        "model=o3",
        "beta=true",
        "api-version=2024-02-01",
        "stream=true&x=/../files",
    ] {
        let url = format!("{URL}?{query}");
        let upstream = upstream();
        let outcome = stand().call(
            &upstream,
            request_to(&url, r#"{"model":"gpt-4o","messages":[]}"#),
        );
        assert!(outcome.error.is_none(), "{query}");
        assert_eq!(upstream.received()[0].0.uri.query(), Some(query), "");
        let denied = request_to(&url, r#"{"model":"o3","messages":[]}"#);
        assert_eq!(
            rule(&stand(), denied),
            Some(Rule::ModelNotAllowed),
            "{query}"
        );
    }
}

#[test]
fn network_rules_know_where_a_request_goes() {
    let policy = "permissions: { network: { enabled: true, require_tls: true, allowed_domains: [api.openai.com] } }";
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let to = |url: &str| rule(&Stand::yaml(policy), request_to(url, body));
    for url in [
        "https://api.openai.com/v1/chat/completions",
        "https://API.OpenAI.com:443/v1/chat/completions",
        "https://api.openai.com./v1/chat/completions",
    ] {
        assert_eq!(to(url), None, "{url}");
    }
    for (url, expected) in [
        (
            "http://api.openai.com/v1/chat/completions",
            Rule::NetworkTlsRequired,
        ),
        (
            "https://evil.example/v1/chat/completions",
            Rule::NetworkNotAllowed,
        ),
        (
            "https://api.openai.com.evil.example/v1/chat/completions",
            Rule::NetworkNotAllowed,
        ),
        (
            "https://x.api.openai.com/v1/chat/completions",
            Rule::NetworkNotAllowed,
        ),
        (
            "https://api.openai.com@evil.example/v1/chat/completions",
            Rule::RequestUnreadable,
        ),
        (
            "https://user:pw@api.openai.com/v1/chat/completions",
            Rule::RequestUnreadable,
        ),
        ("/v1/chat/completions", Rule::RequestUnreadable),
        (
            "https://0x7f.1/v1/chat/completions",
            Rule::RequestUnreadable,
        ),
    ] {
        assert_eq!(to(url), Some(expected), "{url}");
    }
    let with_host = |host: &[&'static str]| {
        let mut request = request(body);
        for host in host {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        rule(&Stand::yaml(policy), request)
    };
    assert_eq!(with_host(&["api.openai.com"]), None);
    assert_eq!(with_host(&["API.openai.com:443"]), None);
    assert_eq!(
        with_host(&["evil.example"]),
        Some(Rule::RequestUnreadable),
        ""
    );
    assert_eq!(
        with_host(&["api.openai.com:8443"]),
        Some(Rule::RequestUnreadable),
        ""
    );
    assert_eq!(
        with_host(&["api.openai.com", "evil.example"]),
        Some(Rule::RequestUnreadable),
        ""
    );
}

#[test]
fn a_deployment_is_a_model_too() {
    let to = |deployment: &str, model: Option<&str>| {
        let url = format!(
            "https://a.openai.azure.com/openai/deployments/{deployment}/chat/completions?api-version=2024-10-21"
        );
        let body = match model {
            Some(model) => json!({"model": model, "messages": []}),
            None => json!({"messages": []}),
        };
        let mut request = request(body.to_string());
        *request.uri_mut() = url.parse().unwrap();
        rule(&stand(), request)
    };
    assert_eq!(to("gpt-4o", None), None);
    assert_eq!(to("gpt-4o", Some("gpt-4o")), None);
    assert_eq!(to("o3", Some("gpt-4o")), Some(Rule::ModelNotAllowed), "");
    assert_eq!(to("o3", None), Some(Rule::ModelNotAllowed), "");
    assert_eq!(to("gpt-4o", Some("o3")), Some(Rule::ModelNotAllowed), "");
    assert_eq!(
        to("GPT-4o", Some("gpt-4o")),
        Some(Rule::ModelNotAllowed),
        ""
    );
    for odd in ["gpt%2D4o", "gpt-4o/../o3", ""] {
        assert_eq!(
            to(odd, Some("gpt-4o")),
            Some(Rule::EndpointNotAllowed),
            "{odd}"
        );
    }
}

#[test]
fn a_tool_is_found_in_every_place_that_names_one() {
    for carrier in [
        r#""tools":[{"type":"function","function":{"name":"evil"}}]"#,
        r#""tools":[{"type":"function","function":{"name":"safe"}},{"type":"function","function":{"name":"evil"}}]"#,
        r#""tools":[{"type":"custom","custom":{"name":"evil"}}]"#,
        r#""tools":[{"type":"function","name":"evil"}]"#,
        r#""functions":[{"name":"evil"}]"#,
        r#""function_call":{"name":"evil"}"#,
        r#""tool_choice":{"type":"function","function":{"name":"evil"}}"#,
        r#""tool_choice":{"type":"custom","custom":{"name":"evil"}}"#,
        r#""tool_choice":{"type":"function","name":"evil"}"#,
        r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"evil"}}]}}"#,
        r#""tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"evil"}]}"#,
        r#""tools":[{"type":"function","function":{"name":"safe"},"custom":{"name":"evil"}}]"#,
        r#""tools":[{"type":"function","name":"evil","function":{"name":"safe"}}]"#,
        r#""tools":[{"type":"function","name":"safe","function":{"name":"evil"}}]"#,
        r#""tools":[{"type":"web_search_2025_08_26"}]"#,
        r#""tools":[{"type":"web_search_2031_01_01"}]"#,
        r#""tools":[{"type":"brand_new_tool"}]"#,
        r#""tools":[{"type":"Function","function":{"name":"safe"}}]"#,
        r#""tools":[{"function":{"name":"safe"}}]"#,
        r#""tools":[{"type":"mcp","server_label":"safe"}]"#,
        r#""web_search_options":{}"#,
        r#""plugins":[{"id":"web"}]"#,
        r#""search_parameters":{"mode":"on"}"#,
    ] {
        refused(
            Rule::ToolNotAllowed,
            "a switch for a hosted tool",
            with(carrier),
        );
    }
    for carrier in [
        r#""tools":[{"type":"function","function":{}}]"#,
        r#""tools":[{"type":"function"}]"#,
        r#""tools":{"type":"function"}"#,
        r#""tools":["safe"]"#,
        r#""tools":"safe""#,
        r#""tool_choice":"evil""#,
        r#""function_call":"evil""#,
        r#""functions":[{}]"#,
    ] {
        refused(Rule::RequestUnreadable, "", with(carrier));
    }
    for absent in [
        r#""tools":null"#,
        r#""tools":[]"#,
        r#""tool_choice":null"#,
        r#""tool_choice":"none""#,
        r#""web_search_options":null"#,
        r#""functions":null,"function_call":"auto""#,
    ] {
        sent("absent", &with(absent));
    }
    sent(
        "allowed",
        &with(
            r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"safe"}}]}}"#,
        ),
    );
}

#[test]
fn the_forms_of_a_hosted_tool_are_one_entry() {
    let blocked = Stand::yaml("agent: { toolsets: { blocked_tools: [web_search] } }");
    for carrier in [
        r#""tools":[{"type":"web_search"}]"#,
        r#""tools":[{"type":"web_search_preview_2025_03_11"}]"#,
        r#""web_search_options":{}"#,
        r#""tools":[{"type":"function","function":{"name":"web_search"}}]"#,
    ] {
        assert_eq!(
            rule(&blocked, request(with(carrier))),
            Some(Rule::ToolBlocked),
            "{carrier}"
        );
    }
    let unknown = request(with(r#""tools":[{"type":"brand_new_tool"}]"#));
    assert_eq!(rule(&blocked, unknown), Some(Rule::ToolNotAllowed), "");
}

#[test]
fn stream_is_a_boolean() {
    for value in [r#""true""#, "1", r#""false""#, "[true]", "{}"] {
        refused(
            Rule::RequestUnreadable,
            "",
            with(&format!(r#""stream":{value}"#)),
        );
    }
    refused(
        Rule::RequestUnreadable,
        "",
        with(r#""stream":false,"stream":true"#),
    );
    for value in ["true", "false", "null"] {
        sent("", &with(&format!(r#""stream":{value}"#)));
    }
}

#[test]
fn a_tools_name_is_compared_as_it_stands() {
    let long = "x".repeat(65);
    for name in [
        &*long,
        "",
        "safe ",
        " safe",
        "sa fe",
        "safe\0",
        "SAFE",
        "saf\u{435}",
        "safe\n",
        "safe\u{200b}",
        "ｓafe",
    ] {
        let body = json!({"model": "gpt-4o", "messages": [], "tools": [{"type": "function", "function": {"name": name}}]});
        refused(Rule::ToolNotAllowed, "", body.to_string());
    }
    for name in [
        json!(12),
        json!(["safe"]),
        json!(null),
        json!({"name": "safe"}),
        json!(true),
    ] {
        let body = json!({"model": "gpt-4o", "messages": [], "tools": [{"type": "function", "function": {"name": name}}]});
        refused(Rule::RequestUnreadable, "", body.to_string());
    }
}

#[test]
fn what_is_refused_is_shown_escaped_and_cut() {
    let violation = |name: &str| {
        let body = json!({"model": "gpt-4o", "messages": [], "tools": [{"type": "function", "function": {"name": name}}]});
        let outcome = stand().call(&upstream(), request(body.to_string()));
        outcome.violation().unwrap().clone()
    };
    let long = violation(&"x".repeat(1_000_000));
    assert_eq!(long.rule(), Rule::ToolNotAllowed, "");
    assert!(long.to_string().len() < 400, "");
    assert!(long.value().unwrap().chars().count() <= 129, "");
    let forged = violation("x\r\n\r\ndata: {\u{202e}");
    assert!(
        !forged.to_string().contains(['\r', '\n', '\u{202e}']),
        "{forged}"
    );
}

#[test]
fn there_is_an_end_to_tools() {
    let tools: Vec<Value> =
        vec![json!({"type": "function", "function": {"name": "safe"}}); 100_000];
    let body = json!({"model": "gpt-4o", "messages": [], "tools": tools});
    refused(Rule::RequestUnreadable, "", body.to_string());
}

#[test]
fn a_deployment_s_api_version_is_named_once() {
    let to = |query: &str| {
        let url = format!(
            "https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions?{query}"
        );
        rule(&stand(), request_to(&url, r#"{"messages":[]}"#))
    };
    assert_eq!(to("api-version=2024-06-01"), None);
    assert_eq!(
        to("api-version=2024-06-01&api-version=2020-01-01"),
        Some(Rule::RequestUnreadable)
    );
}

#[test]
fn tools_that_the_conversation_names_pass() {
    sent(
        "",
        &with(r#""x":0,"user":"u""#).replace(
            r#""messages":[]"#,
            r#""messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"evil","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"x"}]"#,
        ),
    );
}

#[test]
fn endpoints_that_are_not_read_are_refused_and_neutral_ones_pass() {
    let send = |method: &str, path: &str| {
        let mut request = request_to(&format!("https://api.openai.com{path}"), "{}");
        *request.method_mut() = method.parse().unwrap();
        rule(&stand(), request)
    };
    for (method, path) in [
        ("POST", "/v1/batches"),
        ("POST", "/v1/uploads"),
        ("POST", "/v1/containers"),
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/chatkit/sessions"),
        ("POST", "/v1/something/new"),
    ] {
        assert_eq!(
            send(method, path),
            Some(Rule::EndpointNotAllowed),
            "{method} {path}"
        );
    }
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/gpt-4o"),
        ("GET", "/v1/files"),
        ("DELETE", "/v1/files/f"),
    ] {
        assert_eq!(send(method, path), None, "{method} {path}");
    }
    let opened = stand().with(|layer| {
        layer
            .open_endpoint("POST /batches")
            .base_path("/tenants/a/v1")
    });
    assert_eq!(
        rule(&opened, request_to("https://x/v1/batches", "not json")),
        None
    );
    let tenant = "https://x/tenants/a/v1/chat/completions";
    assert_eq!(
        rule(&opened, request_to(tenant, r#"{"model":"o3"}"#)),
        Some(Rule::ModelNotAllowed)
    );
    assert_eq!(
        rule(&opened, request_to(tenant, r#"{"model":"gpt-4o"}"#)),
        None
    );
}

#[test]
fn a_service_is_polled_ready_again_for_every_call() {
    let upstream = upstream();
    let mut governed = stand().around(upstream.clone());
    for _ in 0..3 {
        let request = request(r#"{"model":"gpt-4o","messages":[]}"#);
        run(async {
            ServiceExt::<Request<Full<Bytes>>>::ready(&mut governed)
                .await
                .unwrap();
            governed.call(request).await.unwrap();
        });
    }
    assert_eq!(upstream.calls(), 3);
}
