//! Real recorded traffic, of every API: allowed bytes are untouched, forbidden calls never arrive, tokens add up.
//!
//! The recordings lie beside the repository, where they are present; the crate's own fixtures have the same form.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test program fails by panicking"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, ServiceExt};
use tower_sekuire::{Policy, PolicyEnforcer, PolicyViolation, Rule, SekuireLayer};

struct Recording {
    file: String,
    method: String,
    path: String,
    status: u16,
    tools: Vec<String>,
    tokens: Option<u64>,
    answer: Vec<u8>,
    request: Option<Vec<u8>>,
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [root.join("tests/fixtures"), root.join("../shared/fixtures")]
        .into_iter()
        .filter(|folder| folder.join("MANIFEST.tsv").exists())
        .collect()
}

fn recordings() -> Vec<Recording> {
    let mut found = Vec::new();
    for folder in folders() {
        let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
        for line in manifest.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [file, _, endpoint, _, _, _, tools, tokens, notes] = columns[..] else {
                panic!("{line}")
            };
            let (method, path) = endpoint.split_once(' ').unwrap();
            let stem = file.rsplit_once('.').unwrap().0;
            let status = notes
                .split("HTTP ")
                .nth(1)
                .and_then(|rest| rest.get(..3))
                .and_then(|code| code.parse().ok());
            found.push(Recording {
                file: file.to_owned(),
                method: method.to_owned(),
                path: path.to_owned(),
                status: status.unwrap_or(200),
                tools: if tools == "-" {
                    Vec::new()
                } else {
                    tools.split(',').map(str::to_owned).collect()
                },
                tokens: tokens.parse().ok(),
                answer: std::fs::read(folder.join(file)).unwrap(),
                request: std::fs::read(folder.join(format!("{stem}.request.json"))).ok(),
            });
        }
    }
    assert!(!found.is_empty(), "the crate's own fixtures are missing");
    found
}

impl Recording {
    fn content_type(&self) -> &'static str {
        if Path::new(&self.file)
            .extension()
            .is_some_and(|extension| extension == "sse")
        {
            "text/event-stream"
        } else {
            "application/json"
        }
    }

    /// A body that asks for what the answer gives.
    fn body(&self) -> Vec<u8> {
        if self.method == "GET" {
            return Vec::new();
        }
        self.request
            .clone()
            .unwrap_or_else(|| br#"{"model":"m","n":9}"#.to_vec())
    }
}

type Outcome = (Vec<u8>, Option<PolicyViolation>);

/// Sends the recording through a governed service whose answer comes in these frames.
async fn run(recording: &Recording, layer: &SekuireLayer, frames: Vec<Bytes>) -> Outcome {
    let (status, content_type) = (recording.status, recording.content_type());
    let upstream = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let frames = frames.clone();
        async move {
            let frames = frames
                .into_iter()
                .map(|frame| Ok::<_, Infallible>(http_body::Frame::data(frame)));
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let answer = Response::builder()
                .status(status)
                .header("content-type", content_type)
                .body(body);
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let request = Request::builder()
        .method(recording.method.as_str())
        .uri(format!("https://api.openai.com{}", recording.path))
        .header("content-type", "application/json")
        .body(Full::from(recording.body()))
        .unwrap();
    let answer = match layer.layer(upstream).oneshot(request).await {
        Ok(answer) => answer,
        Err(error) => return (Vec::new(), Some(found(&*error))),
    };
    let (mut out, mut body) = (Vec::new(), answer.into_body());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => out.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => return (out, Some(found(&*error))),
        }
    }
    (out, None)
}

fn found(error: &(dyn std::error::Error + 'static)) -> PolicyViolation {
    PolicyViolation::find(error)
        .unwrap_or_else(|| panic!("no violation in {error}"))
        .clone()
}

fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("{:?}", name.as_ref()))
        .collect();
    names.join(", ")
}

fn layer(tools: &str) -> (SekuireLayer, PolicyEnforcer) {
    let text = format!(
        "agent:\n  toolsets: {{ {tools} }}\nrate_limits: {{ per_agent: {{ tokens_per_day: 1000000000 }} }}\n"
    );
    let enforcer = PolicyEnforcer::new(Policy::from_yaml(&text).unwrap());
    (SekuireLayer::from_enforcer(enforcer.clone()), enforcer)
}

fn split_at(bytes: &[u8], at: usize) -> Vec<Bytes> {
    let (first, second) = bytes.split_at(at);
    vec![
        Bytes::copy_from_slice(first),
        Bytes::new(),
        Bytes::copy_from_slice(second),
    ]
}

/// Cuts worth trying: each of a short recording, and a spread of a long one's.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(if length <= 3_000 { 1 } else { length / 250 + 1 })
}

/// What the repeated name of one recording becomes: the second is removed, and nothing else is.
fn expected(recording: &Recording) -> Vec<u8> {
    let text = String::from_utf8(recording.answer.clone()).unwrap();
    if !recording.file.contains("name-repeated") {
        return recording.answer.clone();
    }
    let name = format!("\"name\":\"{}\",", recording.tools[0]);
    let second = text.rfind(&name).unwrap();
    assert_ne!(text.find(&name), Some(second));
    [&text[..second], &text[second + name.len()..]]
        .concat()
        .into_bytes()
}

#[tokio::test]
async fn a_recording_whose_tools_are_allowed_passes_untouched_and_is_charged_what_it_says() {
    for recording in recordings() {
        // Assistants run hosted tools that the manifest doesn't list.
        let extra = if recording.path.contains("/threads/") {
            Some("code_interpreter".to_owned())
        } else {
            None
        };
        let request_tools = declared(&recording);
        let allowed: BTreeSet<String> = recording
            .tools
            .iter()
            .cloned()
            .chain(extra)
            .chain(request_tools)
            .collect();
        let tools = format!("allowed_tools: [{}]", quoted(&allowed));
        let expected = expected(&recording);
        let (mut layer_, enforcer) = layer(&tools);
        for (label, host) in servers(&recording) {
            layer_ = layer_.mcp_server(label, host);
        }
        let whole = vec![Bytes::from(recording.answer.clone())];
        assert_eq!(
            run(&recording, &layer_, whole).await,
            (expected.clone(), None),
            "{}",
            recording.file
        );
        let charged = enforcer.usage()[0].used();
        match recording.tokens {
            Some(tokens) if recording.method != "GET" => {
                assert_eq!(charged, tokens, "{}", recording.file)
            }
            _ if recording.status >= 400 => assert_eq!(charged, 0, "{}", recording.file),
            _ if recording.method != "GET" => assert!(charged > 0, "{}", recording.file),
            _ => assert_eq!(charged, 0, "{}", recording.file),
        }
        let bytes: Vec<Bytes> = recording
            .answer
            .iter()
            .map(|byte| Bytes::copy_from_slice(&[*byte]))
            .collect();
        assert_eq!(
            run(&recording, &layer_, bytes).await,
            (expected.clone(), None),
            "{} byte by byte",
            recording.file
        );
        for at in cuts(recording.answer.len()) {
            let outcome = run(&recording, &layer_, split_at(&recording.answer, at)).await;
            assert!(
                outcome == (expected.clone(), None),
                "{} split at {at}: {:?}",
                recording.file,
                outcome.1
            );
        }
    }
}

/// The MCP servers that a recorded request brings, with their hosts.
fn servers(recording: &Recording) -> Vec<(String, String)> {
    let Some(request) = &recording.request else {
        return Vec::new();
    };
    let request: serde_json::Value = serde_json::from_slice(request).unwrap();
    let tools = request["tools"].as_array().into_iter().flatten();
    let host = |url: &str| url.split('/').nth(2).unwrap().to_owned();
    tools
        .filter_map(|tool| {
            Some((
                tool["server_label"].as_str()?.to_owned(),
                host(tool["server_url"].as_str()?),
            ))
        })
        .collect()
}

/// The tools that a recorded request declares, as ids.
fn declared(recording: &Recording) -> Vec<String> {
    let Some(request) = &recording.request else {
        return Vec::new();
    };
    let request: serde_json::Value = serde_json::from_slice(request).unwrap();
    let mut names = Vec::new();
    let lists = [&request["tools"], &request["functions"]];
    let items = request["input"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["tools"].as_array());
    for tool in lists
        .into_iter()
        .filter_map(|list| list.as_array())
        .chain(items)
        .flatten()
    {
        let name = tool["function"]["name"]
            .as_str()
            .or(tool["name"].as_str())
            .or(tool["type"].as_str());
        match tool["server_label"].as_str() {
            Some(label) => names.push(format!("mcp:{label}")),
            None => names.push(name.unwrap().to_owned()),
        }
    }
    names
}

#[tokio::test]
async fn a_recording_with_a_forbidden_tool_stops_before_the_call() {
    for recording in recordings() {
        for (position, tool) in recording.tools.iter().enumerate() {
            // The request must be allowed, so that the answer is what stops.
            let blind = Recording {
                request: None,
                tools: Vec::new(),
                ..clone(&recording)
            };
            let (layer, _) = layer(&format!("blocked_tools: [{}]", quoted([tool])));
            let length = recording.answer.len();
            let mut framings = vec![vec![Bytes::from(recording.answer.clone())]];
            framings.push(
                recording
                    .answer
                    .chunks(37)
                    .map(Bytes::copy_from_slice)
                    .collect(),
            );
            framings.extend(
                cuts(length)
                    .step_by(7)
                    .map(|at| split_at(&recording.answer, at)),
            );
            let mut released = None;
            for frames in framings {
                let (out, violation) = run(&blind, &layer, frames).await;
                let violation =
                    violation.unwrap_or_else(|| panic!("{} let {tool} through", recording.file));
                assert_eq!(
                    violation.rule(),
                    Rule::ToolBlocked,
                    "{}: {violation}",
                    recording.file
                );
                assert!(recording.answer.starts_with(&out), "{}", recording.file);
                assert_eq!(
                    *released.get_or_insert(out.clone()),
                    out,
                    "{}: the cut decides what is released",
                    recording.file
                );
                if position == 0 {
                    let short = tool.rsplit(['.', '/']).next().unwrap();
                    let call = format!("\"name\":\"{short}\"");
                    let text = String::from_utf8_lossy(&out);
                    let calls = text.lines().filter(|line| {
                        line.starts_with("data:") && line.contains(&call) && !echoes(line)
                    });
                    let announced = calls
                        .filter(|line| line.contains("call\"") || line.contains("tool_calls"))
                        .count();
                    assert_eq!(announced, 0, "{}: {text}", recording.file);
                }
            }
        }
    }
}

/// The first events of a response repeat the definitions that the request brought.
fn echoes(line: &str) -> bool {
    [
        "response.created",
        "response.in_progress",
        "response.queued",
    ]
    .iter()
    .any(|kind| line.contains(kind))
}

fn clone(recording: &Recording) -> Recording {
    Recording {
        file: recording.file.clone(),
        method: recording.method.clone(),
        path: recording.path.clone(),
        status: recording.status,
        tools: recording.tools.clone(),
        tokens: recording.tokens,
        answer: recording.answer.clone(),
        request: recording.request.clone(),
    }
}
