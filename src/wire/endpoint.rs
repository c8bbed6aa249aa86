//! Method and path to endpoint: one table, and nothing that is not in it is ever let through unread.
//!
//! Paths are compared as raw bytes, segment by segment. A path that servers may normalise in different ways
//! (empty or dot segments, percent signs, backslashes, parameters) is refused before it is compared, so what is
//! classified here is what any server sees.

use std::sync::LazyLock;

use super::fields::{self, Fields};

/// What an endpoint does with models, which decides what happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Runs a model now.
    Model,
    /// Stores a model's name or tools for a later run.
    Define,
    /// Returns what a model produced earlier.
    Output,
    /// The content of a file decides what runs.
    Indirect,
    /// Neither runs a model nor returns its output.
    Neutral,
    /// Refused unless opened by name.
    Denied,
}

/// How a request's body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// There is nobody here who can read it.
    Unread,
    /// It has no body.
    Empty,
    Json(Fields),
    /// A form, or the same fields as JSON.
    Form(Fields),
    /// A form with a file whose lines are requests, if its purpose is `batch`.
    File,
}

/// How an answer is read. Whatever its format: a JSON document or an event stream of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Chat completions and completions.
    Chat,
    /// Responses, with events that name items by their place.
    Responses,
    /// Any other document: items, runs, steps, lists of them, or none of these.
    Any,
    /// As `Any`; and it may be text or data instead, which no client reads as calls.
    Media,
}

/// How an answer comes, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One document, collected whole.
    Document,
    /// As `Document`, for text that is no JSON.
    Prose,
    /// Events, read one by one.
    Stream,
    /// Sound or pictures: nothing that could be read as a call.
    Data,
}

/// A call's endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `METHOD /path`, as refusals and the audit name it.
    pub(crate) name: &'static str,
    /// The path below the base, with `{}` for what varies.
    pub(crate) path: &'static str,
    pub(crate) class: Class,
    pub(crate) request: Request,
    pub(crate) format: Format,
    /// Azure names a deployment in the path, and the deployment names the model.
    pub(crate) deployment: Option<String>,
}

/// Why a path is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEndpoint {
    /// Servers may read this path in more than one way.
    Ambiguous(&'static str),
    /// The path is listed, the method is not.
    Method,
    Unknown,
}

/// Where the OpenAI paths begin on servers that speak them. `{}` stands for an Azure deployment.
pub(crate) const BASES: &[&str] = &[
    "/v1",
    "/openai/v1",
    "/openai/deployments/{}",
    "",
    "/api/v1",
    "/beta",
    "/v1beta/openai",
    "/api/paas/v4",
    "/api/v2/cortex/v1",
    "/backend-api/codex",
];

use Class::{Define, Denied, Indirect, Model, Neutral, Output};
use Format::{Any, Chat, Media, Responses};
use Request::{Empty, File, Form, Json, Unread};

struct Row {
    method: &'static str,
    path: &'static str,
    class: Class,
    request: Request,
    format: Format,
}

const fn row(
    method: &'static str,
    path: &'static str,
    class: Class,
    request: Request,
    format: Format,
) -> Row {
    Row {
        method,
        path,
        class,
        request,
        format,
    }
}

/// Every endpoint of the API reference (<https://platform.openai.com/docs/api-reference>), below the base path: what
/// it does, how its request is read and how its answer. The first row that matches counts, so a literal segment
/// stands before `{}`.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Chat completions; stored ones carry tool calls.
    row("POST",   "/chat/completions",                         Model,    Json(fields::CHAT),           Chat),
    row("GET",    "/chat/completions",                         Output,   Empty,                        Chat),
    row("GET",    "/chat/completions/{}",                      Output,   Empty,                        Chat),
    row("GET",    "/chat/completions/{}/messages",             Output,   Empty,                        Chat),
    row("POST",   "/chat/completions/{}",                      Neutral,  Unread,                       Any),
    row("DELETE", "/chat/completions/{}",                      Neutral,  Unread,                       Any),
    row("POST",   "/completions",                              Model,    Json(fields::COMPLETIONS),    Chat),
    // Responses.
    row("POST",   "/responses",                                Model,    Json(fields::RESPONSES),      Responses),
    row("POST",   "/responses/compact",                        Model,    Json(fields::RESPONSES),      Any),
    row("POST",   "/responses/input_tokens",                   Define,   Json(fields::RESPONSES),      Any),
    row("GET",    "/responses/{}",                             Output,   Empty,                        Responses),
    row("DELETE", "/responses/{}",                             Neutral,  Unread,                       Any),
    row("POST",   "/responses/{}/cancel",                      Output,   Empty,                        Any),
    row("GET",    "/responses/{}/input_items",                 Output,   Empty,                        Any),
    row("POST",   "/decisions",                                Model,    Json(fields::DECISIONS),      Any),
    // Conversations.
    row("POST",   "/conversations",                            Define,   Json(fields::CONVERSATION),   Any),
    row("GET",    "/conversations/{}",                         Neutral,  Unread,                       Any),
    row("POST",   "/conversations/{}",                         Neutral,  Unread,                       Any),
    row("DELETE", "/conversations/{}",                         Neutral,  Unread,                       Any),
    row("POST",   "/conversations/{}/items",                   Define,   Json(fields::CONVERSATION),   Any),
    row("GET",    "/conversations/{}/items",                   Output,   Empty,                        Any),
    row("GET",    "/conversations/{}/items/{}",                Output,   Empty,                        Any),
    row("DELETE", "/conversations/{}/items/{}",                Neutral,  Unread,                       Any),
    // Single-shot models.
    row("POST",   "/embeddings",                               Model,    Json(fields::INPUT),          Any),
    row("POST",   "/moderations",                              Model,    Json(fields::INPUT),          Any),
    row("POST",   "/images/generations",                       Model,    Json(fields::IMAGES),         Any),
    row("POST",   "/images/edits",                             Model,    Form(fields::IMAGES),         Any),
    row("POST",   "/images/variations",                        Model,    Form(fields::IMAGES),         Any),
    row("POST",   "/audio/speech",                             Model,    Json(fields::AUDIO),          Media),
    row("POST",   "/audio/transcriptions",                     Model,    Form(fields::AUDIO),          Media),
    row("POST",   "/audio/translations",                       Model,    Form(fields::AUDIO),          Media),
    row("POST",   "/audio/voices",                             Denied,   Unread,                       Any),
    row("POST",   "/videos",                                   Model,    Form(fields::VIDEOS),         Any),
    row("POST",   "/videos/edits",                             Model,    Form(fields::VIDEOS),         Any),
    row("POST",   "/videos/extensions",                        Model,    Form(fields::VIDEOS),         Any),
    row("POST",   "/videos/characters",                        Model,    Form(fields::VIDEOS),         Any),
    row("POST",   "/videos/{}/remix",                          Model,    Form(fields::VIDEOS),         Any),
    row("GET",    "/videos",                                   Neutral,  Unread,                       Any),
    row("GET",    "/videos/{}",                                Neutral,  Unread,                       Any),
    row("GET",    "/videos/{}/content",                        Neutral,  Unread,                       Any),
    row("DELETE", "/videos/{}",                                Neutral,  Unread,                       Any),
    // Batches and files: the lines of a file are requests.
    row("POST",   "/batches",                                  Indirect, Unread,                       Any),
    row("GET",    "/batches",                                  Neutral,  Unread,                       Any),
    row("GET",    "/batches/{}",                               Neutral,  Unread,                       Any),
    row("POST",   "/batches/{}/cancel",                        Neutral,  Unread,                       Any),
    row("POST",   "/files",                                    Indirect, File,                         Any),
    row("GET",    "/files",                                    Neutral,  Unread,                       Any),
    row("GET",    "/files/{}",                                 Neutral,  Unread,                       Any),
    row("DELETE", "/files/{}",                                 Neutral,  Unread,                       Any),
    row("GET",    "/files/{}/content",                         Output,   Empty,                        Media),
    row("POST",   "/uploads",                                  Indirect, Unread,                       Any),
    row("POST",   "/uploads/{}/parts",                         Indirect, Unread,                       Any),
    row("POST",   "/uploads/{}/complete",                      Indirect, Unread,                       Any),
    row("POST",   "/uploads/{}/cancel",                        Neutral,  Unread,                       Any),
    // Assistants.
    row("POST",   "/assistants",                               Define,   Json(fields::ASSISTANT),      Any),
    row("GET",    "/assistants",                               Neutral,  Unread,                       Any),
    row("GET",    "/assistants/{}",                            Neutral,  Unread,                       Any),
    row("POST",   "/assistants/{}",                            Define,   Json(fields::ASSISTANT),      Any),
    row("DELETE", "/assistants/{}",                            Neutral,  Unread,                       Any),
    row("POST",   "/threads",                                  Define,   Json(fields::THREAD),         Any),
    row("POST",   "/threads/runs",                             Model,    Json(fields::RUN),            Any),
    row("GET",    "/threads/{}",                               Neutral,  Unread,                       Any),
    row("POST",   "/threads/{}",                               Define,   Json(fields::THREAD),         Any),
    row("DELETE", "/threads/{}",                               Neutral,  Unread,                       Any),
    row("POST",   "/threads/{}/messages",                      Define,   Json(fields::THREAD_MESSAGE), Any),
    row("GET",    "/threads/{}/messages",                      Output,   Empty,                        Any),
    row("GET",    "/threads/{}/messages/{}",                   Output,   Empty,                        Any),
    row("POST",   "/threads/{}/messages/{}",                   Neutral,  Unread,                       Any),
    row("DELETE", "/threads/{}/messages/{}",                   Neutral,  Unread,                       Any),
    row("POST",   "/threads/{}/runs",                          Model,    Json(fields::RUN),            Any),
    row("GET",    "/threads/{}/runs",                          Output,   Empty,                        Any),
    row("GET",    "/threads/{}/runs/{}",                       Output,   Empty,                        Any),
    row("POST",   "/threads/{}/runs/{}",                       Neutral,  Unread,                       Any),
    row("POST",   "/threads/{}/runs/{}/cancel",                Output,   Empty,                        Any),
    row("POST",   "/threads/{}/runs/{}/submit_tool_outputs",   Model,    Json(fields::RUN),            Any),
    row("GET",    "/threads/{}/runs/{}/steps",                 Output,   Empty,                        Any),
    row("GET",    "/threads/{}/runs/{}/steps/{}",              Output,   Empty,                        Any),
    // Evaluation and fine-tuning.
    row("POST",   "/evals",                                    Define,   Json(fields::EVAL),           Any),
    row("GET",    "/evals",                                    Neutral,  Unread,                       Any),
    row("GET",    "/evals/{}",                                 Neutral,  Unread,                       Any),
    row("POST",   "/evals/{}",                                 Define,   Json(fields::EVAL),           Any),
    row("DELETE", "/evals/{}",                                 Neutral,  Unread,                       Any),
    row("POST",   "/evals/{}/runs",                            Model,    Json(fields::EVAL),           Any),
    row("GET",    "/evals/{}/runs",                            Neutral,  Unread,                       Any),
    row("GET",    "/evals/{}/runs/{}",                         Neutral,  Unread,                       Any),
    row("DELETE", "/evals/{}/runs/{}",                         Neutral,  Unread,                       Any),
    row("GET",    "/evals/{}/runs/{}/output_items",            Output,   Empty,                        Any),
    row("GET",    "/evals/{}/runs/{}/output_items/{}",         Output,   Empty,                        Any),
    row("POST",   "/fine_tuning/jobs",                         Define,   Json(fields::FINE_TUNING),    Any),
    row("GET",    "/fine_tuning/jobs",                         Neutral,  Unread,                       Any),
    row("GET",    "/fine_tuning/jobs/{}",                      Neutral,  Unread,                       Any),
    row("POST",   "/fine_tuning/jobs/{}/cancel",               Neutral,  Unread,                       Any),
    row("GET",    "/fine_tuning/jobs/{}/events",               Neutral,  Unread,                       Any),
    row("GET",    "/fine_tuning/jobs/{}/checkpoints",          Neutral,  Unread,                       Any),
    row("POST",   "/fine_tuning/alpha/graders/run",            Model,    Json(fields::GRADERS),        Any),
    row("POST",   "/fine_tuning/alpha/graders/validate",       Model,    Json(fields::GRADERS),        Any),
    // Models.
    row("GET",    "/models",                                   Neutral,  Unread,                       Any),
    row("GET",    "/models/{}",                                Neutral,  Unread,                       Any),
    row("DELETE", "/models/{}",                                Denied,   Unread,                       Any),
    // Realtime and live sessions, and everything that mints a secret usable elsewhere.
    row("GET",    "/realtime",                                 Model,    Unread,                       Any),
    row("POST",   "/realtime/sessions",                        Define,   Json(fields::REALTIME),       Any),
    row("POST",   "/realtime/client_secrets",                  Denied,   Unread,                       Any),
    row("POST",   "/realtime/transcription_sessions",          Define,   Json(fields::REALTIME),       Any),
    row("POST",   "/realtime/translations/client_secrets",     Denied,   Unread,                       Any),
    row("POST",   "/realtime/calls",                           Model,    Unread,                       Any),
    row("POST",   "/realtime/calls/{}/accept",                 Model,    Json(fields::REALTIME),       Any),
    row("POST",   "/realtime/calls/{}/hangup",                 Neutral,  Unread,                       Any),
    row("POST",   "/realtime/calls/{}/refer",                  Neutral,  Unread,                       Any),
    row("POST",   "/realtime/calls/{}/reject",                 Neutral,  Unread,                       Any),
    row("POST",   "/live/sessions",                            Model,    Json(fields::REALTIME),       Any),
    row("POST",   "/live/sessions/{}/accept",                  Model,    Json(fields::REALTIME),       Any),
    row("POST",   "/live/sessions/{}/fork",                    Model,    Json(fields::REALTIME),       Any),
    row("POST",   "/chatkit/sessions",                         Denied,   Unread,                       Any),
    // Hosted agents.
    row("POST",   "/agents",                                   Define,   Json(fields::ASSISTANT),      Any),
    row("POST",   "/agents/sessions",                          Model,    Json(fields::AGENT_SESSION),  Any),
    row("POST",   "/agents/sessions/{}",                       Model,    Json(fields::AGENT_SESSION),  Any),
    row("POST",   "/agents/sessions/{}/events",                Model,    Json(fields::AGENT_SESSION),  Any),
    // Containers and skills run code.
    row("POST",   "/containers",                               Define,   Unread,                       Any),
    row("GET",    "/containers",                               Neutral,  Unread,                       Any),
    row("GET",    "/containers/{}",                            Neutral,  Unread,                       Any),
    row("DELETE", "/containers/{}",                            Neutral,  Unread,                       Any),
    row("POST",   "/containers/{}/files",                      Define,   Unread,                       Any),
    row("GET",    "/containers/{}/files",                      Neutral,  Unread,                       Any),
    row("GET",    "/containers/{}/files/{}",                   Neutral,  Unread,                       Any),
    row("DELETE", "/containers/{}/files/{}",                   Neutral,  Unread,                       Any),
    row("POST",   "/skills",                                   Define,   Unread,                       Any),
    row("POST",   "/skills/{}",                                Define,   Unread,                       Any),
    row("POST",   "/skills/{}/versions",                       Define,   Unread,                       Any),
    row("GET",    "/skills",                                   Neutral,  Unread,                       Any),
    row("GET",    "/skills/{}",                                Neutral,  Unread,                       Any),
    row("DELETE", "/skills/{}",                                Neutral,  Unread,                       Any),
    // Vector stores.
    row("POST",   "/vector_stores",                            Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores",                            Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores/{}",                         Neutral,  Unread,                       Any),
    row("POST",   "/vector_stores/{}",                         Neutral,  Unread,                       Any),
    row("DELETE", "/vector_stores/{}",                         Neutral,  Unread,                       Any),
    row("POST",   "/vector_stores/{}/search",                  Neutral,  Unread,                       Any),
    row("POST",   "/vector_stores/{}/files",                   Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores/{}/files",                   Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores/{}/files/{}",                Neutral,  Unread,                       Any),
    row("POST",   "/vector_stores/{}/files/{}",                Neutral,  Unread,                       Any),
    row("DELETE", "/vector_stores/{}/files/{}",                Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores/{}/files/{}/content",        Neutral,  Unread,                       Any),
    row("POST",   "/vector_stores/{}/file_batches",            Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores/{}/file_batches/{}",         Neutral,  Unread,                       Any),
    row("POST",   "/vector_stores/{}/file_batches/{}/cancel",  Neutral,  Unread,                       Any),
    row("GET",    "/vector_stores/{}/file_batches/{}/files",   Neutral,  Unread,                       Any),
];

/// The rows' names, put together once.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let name = |row: &Row| format!("{} {}", row.method, row.path);
    TABLE.iter().map(name).collect()
});

/// Finds the endpoint of a call. `bases` are further base paths beside [`BASES`].
pub(crate) fn classify(method: &str, path: &str, bases: &[String]) -> Result<Endpoint, NoEndpoint> {
    // What is written exactly as documented needs no look at each byte, unless a base of somebody's own could claim it.
    if bases.is_empty()
        && let Some(rest) = path.strip_prefix("/v1")
        && let Some((row, name)) = rows().find(|(row, _)| row.path == rest && row.method == method)
        && !row.path.contains('{')
    {
        return Ok(endpoint(row, name, None));
    }
    if let Some(reason) = ambiguity(path) {
        return Err(NoEndpoint::Ambiguous(reason));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut best = NoEndpoint::Unknown;
    // The configured ones first: whoever named them knows where the API begins.
    for base in bases
        .iter()
        .map(String::as_str)
        .chain(BASES.iter().copied())
    {
        let Some((deployment, rest)) = strip_base(base, path) else {
            continue;
        };
        for (row, name) in rows() {
            if !matches(row.path, rest) {
                continue;
            }
            if row.method != method {
                best = NoEndpoint::Method;
                continue;
            }
            return Ok(endpoint(row, name, deployment));
        }
    }
    Err(best)
}

fn rows() -> impl Iterator<Item = (&'static Row, &'static str)> {
    TABLE.iter().zip(NAMES.iter().map(String::as_str))
}

fn endpoint(row: &Row, name: &'static str, deployment: Option<&str>) -> Endpoint {
    Endpoint {
        name,
        path: row.path,
        class: row.class,
        request: row.request,
        format: row.format,
        deployment: deployment.map(str::to_owned),
    }
}

/// The first segments of all paths, as policies name families of endpoints.
pub(crate) fn families() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter_map(|row| row.path.split('/').nth(1))
}

/// Whether `METHOD /path` is a row of the table.
pub(crate) fn is_listed(name: &str) -> bool {
    NAMES.iter().any(|listed| listed == name)
}

/// Whether some server could take this call for an endpoint that must be read: after percent signs are decoded,
/// backslashes, doubled slashes and dot segments are resolved, parameters cut off and case is ignored. A method that
/// writes is taken for every other one that does.
///
/// Wider than any one server's reading, because it only ever refuses: it is asked on hosts that are said to be no
/// providers, where every other path passes.
pub(crate) fn resembles(method: &str, path: &str, bases: &[String]) -> bool {
    let reads = |method: &str| {
        ["GET", "HEAD"]
            .iter()
            .any(|read| method.eq_ignore_ascii_case(read))
    };
    // Twice, for servers behind a proxy that decodes once more.
    let decoded = percent_decoded(&percent_decoded(path.as_bytes()));
    let decoded = String::from_utf8_lossy(&decoded).to_ascii_lowercase();
    let mut segments = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        let end = segment.find([';', '?', '#', '\0']);
        let segment = end.and_then(|end| segment.get(..end)).unwrap_or(segment);
        match segment.trim() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let path = format!("/{}", segments.join("/"));
    let known = BASES.iter().copied();
    bases
        .iter()
        .map(String::as_str)
        .chain(known)
        .filter_map(|base| strip_base(base, &path))
        .any(|(_, rest)| {
            TABLE.iter().any(|row| {
                row.class != Neutral
                    && reads(row.method) == reads(method)
                    && matches(row.path, rest)
            })
        })
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match (byte, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                rest = after.get(2..).unwrap_or_default();
                u8::try_from(high * 16 + low).unwrap_or(byte)
            }
            _ => byte,
        });
    }
    decoded
}

/// What makes a path mean different things to different servers.
fn ambiguity(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("it does not start with a slash");
    }
    for byte in path.bytes() {
        match byte {
            b'%' => return Some("it holds a percent sign"),
            b'\\' => return Some("it holds a backslash"),
            b';' => return Some("it holds a semicolon"),
            b'#' => return Some("it holds a fragment"),
            0x21..=0x7e => {}
            _ => return Some("it holds a byte that is not printable ASCII"),
        }
    }
    // By bytes: for so few of them, searching text costs more.
    let inner = path.as_bytes().get(1..)?;
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    if inner.is_empty() {
        return None;
    }
    let mut segments = inner.split(|byte| *byte == b'/');
    segments.find_map(|segment| match segment {
        b"" => Some("it holds an empty segment"),
        b"." | b".." => Some("it holds a dot segment"),
        _ => None,
    })
}

/// The deployment that a base's `{}` stands for, and the path below the base.
fn strip_base<'p>(base: &str, path: &'p str) -> Option<(Option<&'p str>, &'p str)> {
    match base.strip_suffix("/{}") {
        Some(fixed) => {
            let (deployment, _) = path
                .strip_prefix(fixed)?
                .strip_prefix('/')?
                .split_once('/')?;
            let rest = path.get(fixed.len() + 1 + deployment.len()..)?;
            Some((Some(deployment), rest))
        }
        None => path
            .strip_prefix(base)
            .filter(|rest| rest.starts_with('/'))
            .map(|rest| (None, rest)),
    }
}

fn matches(row: &str, path: &str) -> bool {
    if row == path {
        return true;
    }
    let mut segments = path.split('/');
    let all = row.split('/').all(|expected| {
        segments
            .next()
            .is_some_and(|segment| expected == "{}" || expected == segment)
    });
    all && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(method: &str, path: &str) -> Result<Class, NoEndpoint> {
        classify(method, path, &[]).map(|endpoint| endpoint.class)
    }

    #[test]
    fn chat_is_found_below_every_recorded_base() {
        for path in [
            "/v1/chat/completions",
            "/openai/v1/chat/completions",
            "/chat/completions",
            "/api/v1/chat/completions",
            "/beta/chat/completions",
            "/v1beta/openai/chat/completions",
            "/api/paas/v4/chat/completions",
            "/api/v2/cortex/v1/chat/completions",
            "/v1/chat/completions/",
        ] {
            let endpoint = classify("POST", path, &[]).unwrap();
            assert_eq!(
                (endpoint.path, endpoint.deployment),
                ("/chat/completions", None),
                "{path}"
            );
        }
        let azure = classify("POST", "/openai/deployments/my-gpt/chat/completions", &[]).unwrap();
        assert_eq!(azure.deployment.as_deref(), Some("my-gpt"));
        assert_eq!(azure.format, Format::Chat);
    }

    #[test]
    fn a_path_that_servers_normalise_is_refused() {
        for path in [
            "//v1//chat/completions",
            "/v1/chat//completions",
            "/v1/./chat/completions",
            "/v1/x/../chat/completions",
            "/v1/%63hat/completions",
            "/v1/chat%2Fcompletions",
            "/v1/chat/completions;x",
            "/v1/chat/completions%00",
            "/v1/chat/completions%20",
            "/v1\\chat\\completions",
            "/v1/chat/completions#x",
            "v1/chat/completions",
            "",
            "/openai/deployments/gpt%2D4o/chat/completions",
            "/openai/deployments//chat/completions",
            "/openai/deployments/gpt-4o/../o3/chat/completions",
            "/v1/chat/completions//",
        ] {
            assert!(
                matches!(classify("POST", path, &[]), Err(NoEndpoint::Ambiguous(_))),
                "{path}"
            );
        }
    }

    #[test]
    fn nothing_is_matched_by_its_suffix_or_in_another_case() {
        for path in [
            "/anything/chat/completions",
            "/V1/Chat/Completions",
            "/v1/chat/completions/x/y",
            "/v2/chat/completions",
            "/",
        ] {
            assert_eq!(class("POST", path), Err(NoEndpoint::Unknown), "{path}");
        }
    }

    #[test]
    fn a_listed_path_with_another_method_is_no_endpoint() {
        for method in [
            "PUT", "PATCH", "HEAD", "OPTIONS", "post", "TRACE", "CONNECT", "BREW",
        ] {
            assert_eq!(
                class(method, "/v1/chat/completions"),
                Err(NoEndpoint::Method),
                "{method}"
            );
        }
        assert_eq!(class("POST", "/v1/models"), Err(NoEndpoint::Method));
    }

    #[test]
    fn every_spelling_that_some_server_normalises_resembles_its_endpoint() {
        for path in [
            "/v1/chat/completions",
            "//v1//chat/completions",
            "/v1/./chat/completions",
            "/v1/x/../chat/completions",
            "/v1/%63hat/completions",
            "/v1/%2563hat/completions",
            "/v1/chat%2Fcompletions",
            "/v1/chat%5ccompletions",
            "/v1/chat/completions;x",
            "/v1/chat/completions%00",
            "/v1/chat/completions%20",
            "/v1/chat/completions%3Fx",
            "/v1/chat/completions/",
            "/V1/Chat/Completions",
            "/v1\\chat\\completions",
            "/../v1/responses",
            "/openai/deployments/gpt%2D4o/chat/completions",
        ] {
            assert!(resembles("POST", path, &[]), "{path}");
            assert!(resembles("put", path, &[]), "{path}");
        }
        assert!(resembles(
            "POST",
            "/tenant/%61/responses",
            &["/tenant/a".to_owned()]
        ));
        assert!(resembles("HEAD", "/v1/%72esponses/resp_1", &[]));
        // A page that happens to bear an endpoint's name.
        assert!(!resembles("GET", "/decisions", &[]));
        for path in [
            "/wiki/C%2B%2B",
            "/wiki/100%",
            "/wiki/Foo;bar",
            "/wiki/chat/completions",
            "/v1/chat/completions/../../page",
            "/v1/models",
            "/",
            "",
            "%",
            "/%zz",
        ] {
            assert!(!resembles("POST", path, &[]), "{path}");
        }
    }

    #[test]
    fn a_configured_base_opens_the_same_table() {
        assert_eq!(
            class("POST", "/tenant/a/chat/completions"),
            Err(NoEndpoint::Unknown)
        );
        let endpoint = classify(
            "POST",
            "/tenant/a/chat/completions",
            &["/tenant/a".to_owned()],
        )
        .unwrap();
        assert_eq!(endpoint.path, "/chat/completions");
    }

    /// The rows of the document's tables, each with its first and last cell.
    fn documented() -> Vec<(&'static str, &'static str, &'static str)> {
        include_str!("../../docs/surface.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
            .flat_map(|line| {
                let cells: Vec<_> = line.split(" | ").collect();
                let (endpoints, request) = (cells[0], cells[1]);
                let limits = cells[cells.len() - 1];
                endpoints
                    .trim_end_matches('`')
                    .split("`, `")
                    .map(move |name| (name, request, limits))
            })
            .collect()
    }

    #[test]
    fn the_document_lists_every_row_and_no_other() {
        let documented = documented();
        for row in TABLE {
            let name = format!("{} {}", row.method, row.path);
            let unread = matches!(row.request, Unread);
            let limits = match row.class {
                Neutral => "not spent",
                _ if unread => "refused",
                Model => "spent",
                _ => "not spent",
            };
            let found: Vec<_> = documented
                .iter()
                .filter(|(listed, ..)| *listed == name)
                .collect();
            let [(_, request, said)] = found[..] else {
                panic!("{name} stands in docs/surface.md {} times", found.len());
            };
            assert_eq!(*said, limits, "{name}");
            assert_eq!(*request == "—", unread, "{name}");
        }
        assert_eq!(documented.len(), TABLE.len());
    }

    #[test]
    fn a_configured_base_is_tried_before_the_known_ones() {
        let bases = ["/conversations".to_owned()];
        let endpoint = classify("POST", "/conversations/responses", &bases).unwrap();
        assert_eq!(endpoint.path, "/responses");
    }

    #[test]
    fn only_the_first_row_that_matches_counts() {
        assert_eq!(class("POST", "/v1/responses/compact"), Ok(Model));
        assert_eq!(class("POST", "/v1/videos/edits"), Ok(Model));
        assert_eq!(class("GET", "/v1/models/gpt-4o"), Ok(Neutral));
    }
}
