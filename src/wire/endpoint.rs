//! Method and path to endpoint: one table, and nothing that is not in it is ever let through unread.
//!
//! Paths are compared as raw bytes, segment by segment. A path that servers may normalise in different ways
//! (empty or dot segments, percent signs, backslashes, parameters) is refused before it is compared, so what is
//! classified here is what any server sees.

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

/// The format of an endpoint's bodies, where this crate reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// Chat completions: <https://platform.openai.com/docs/api-reference/chat>.
    Chat,
}

/// A call's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    /// The path below the base, with `{}` for what varies.
    pub(crate) path: &'static str,
    pub(crate) class: Class,
    /// `None`: nobody here can read it.
    pub(crate) api: Option<Api>,
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

/// Every endpoint of the API reference (<https://platform.openai.com/docs/api-reference>), below the base path.
/// The first row that matches counts, so a literal segment stands before `{}`.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Class)] = &[
    // Chat completions; stored ones carry tool calls.
    ("POST",   "/chat/completions", Model),
    ("GET",    "/chat/completions", Output),
    ("GET",    "/chat/completions/{}", Output),
    ("GET",    "/chat/completions/{}/messages", Output),
    ("POST",   "/chat/completions/{}", Neutral),
    ("DELETE", "/chat/completions/{}", Neutral),
    ("POST",   "/completions", Model),
    // Responses.
    ("POST",   "/responses", Model),
    ("POST",   "/responses/compact", Model),
    ("POST",   "/responses/input_tokens", Define),
    ("GET",    "/responses/{}", Output),
    ("DELETE", "/responses/{}", Neutral),
    ("POST",   "/responses/{}/cancel", Output),
    ("GET",    "/responses/{}/input_items", Output),
    ("POST",   "/decisions", Model),
    // Conversations.
    ("POST",   "/conversations", Define),
    ("GET",    "/conversations/{}", Neutral),
    ("POST",   "/conversations/{}", Neutral),
    ("DELETE", "/conversations/{}", Neutral),
    ("POST",   "/conversations/{}/items", Define),
    ("GET",    "/conversations/{}/items", Output),
    ("GET",    "/conversations/{}/items/{}", Output),
    ("DELETE", "/conversations/{}/items/{}", Neutral),
    // Single-shot models.
    ("POST",   "/embeddings", Model),
    ("POST",   "/moderations", Model),
    ("POST",   "/images/generations", Model),
    ("POST",   "/images/edits", Model),
    ("POST",   "/images/variations", Model),
    ("POST",   "/audio/speech", Model),
    ("POST",   "/audio/transcriptions", Model),
    ("POST",   "/audio/translations", Model),
    ("POST",   "/audio/voices", Denied),
    ("POST",   "/videos", Model),
    ("POST",   "/videos/edits", Model),
    ("POST",   "/videos/extensions", Model),
    ("POST",   "/videos/characters", Model),
    ("POST",   "/videos/{}/remix", Model),
    ("GET",    "/videos", Neutral),
    ("GET",    "/videos/{}", Neutral),
    ("GET",    "/videos/{}/content", Neutral),
    ("DELETE", "/videos/{}", Neutral),
    // Batches and files: the lines of a file are requests.
    ("POST",   "/batches", Indirect),
    ("GET",    "/batches", Neutral),
    ("GET",    "/batches/{}", Neutral),
    ("POST",   "/batches/{}/cancel", Neutral),
    ("POST",   "/files", Indirect),
    ("GET",    "/files", Neutral),
    ("GET",    "/files/{}", Neutral),
    ("DELETE", "/files/{}", Neutral),
    ("GET",    "/files/{}/content", Output),
    ("POST",   "/uploads", Indirect),
    ("POST",   "/uploads/{}/parts", Indirect),
    ("POST",   "/uploads/{}/complete", Indirect),
    ("POST",   "/uploads/{}/cancel", Neutral),
    // Assistants.
    ("POST",   "/assistants", Define),
    ("GET",    "/assistants", Neutral),
    ("GET",    "/assistants/{}", Neutral),
    ("POST",   "/assistants/{}", Define),
    ("DELETE", "/assistants/{}", Neutral),
    ("POST",   "/threads", Define),
    ("POST",   "/threads/runs", Model),
    ("GET",    "/threads/{}", Neutral),
    ("POST",   "/threads/{}", Define),
    ("DELETE", "/threads/{}", Neutral),
    ("POST",   "/threads/{}/messages", Define),
    ("GET",    "/threads/{}/messages", Output),
    ("GET",    "/threads/{}/messages/{}", Output),
    ("POST",   "/threads/{}/messages/{}", Neutral),
    ("DELETE", "/threads/{}/messages/{}", Neutral),
    ("POST",   "/threads/{}/runs", Model),
    ("GET",    "/threads/{}/runs", Output),
    ("GET",    "/threads/{}/runs/{}", Output),
    ("POST",   "/threads/{}/runs/{}", Neutral),
    ("POST",   "/threads/{}/runs/{}/cancel", Output),
    ("POST",   "/threads/{}/runs/{}/submit_tool_outputs", Model),
    ("GET",    "/threads/{}/runs/{}/steps", Output),
    ("GET",    "/threads/{}/runs/{}/steps/{}", Output),
    // Evaluation and fine-tuning.
    ("POST",   "/evals", Define),
    ("GET",    "/evals", Neutral),
    ("GET",    "/evals/{}", Neutral),
    ("POST",   "/evals/{}", Define),
    ("DELETE", "/evals/{}", Neutral),
    ("POST",   "/evals/{}/runs", Model),
    ("GET",    "/evals/{}/runs", Neutral),
    ("GET",    "/evals/{}/runs/{}", Neutral),
    ("DELETE", "/evals/{}/runs/{}", Neutral),
    ("GET",    "/evals/{}/runs/{}/output_items", Output),
    ("GET",    "/evals/{}/runs/{}/output_items/{}", Output),
    ("POST",   "/fine_tuning/jobs", Define),
    ("GET",    "/fine_tuning/jobs", Neutral),
    ("GET",    "/fine_tuning/jobs/{}", Neutral),
    ("POST",   "/fine_tuning/jobs/{}/cancel", Neutral),
    ("GET",    "/fine_tuning/jobs/{}/events", Neutral),
    ("GET",    "/fine_tuning/jobs/{}/checkpoints", Neutral),
    ("POST",   "/fine_tuning/alpha/graders/run", Model),
    ("POST",   "/fine_tuning/alpha/graders/validate", Model),
    // Models.
    ("GET",    "/models", Neutral),
    ("GET",    "/models/{}", Neutral),
    ("DELETE", "/models/{}", Denied),
    // Realtime and live sessions, and everything that mints a secret usable elsewhere.
    ("GET",    "/realtime", Model),
    ("POST",   "/realtime/sessions", Define),
    ("POST",   "/realtime/client_secrets", Denied),
    ("POST",   "/realtime/transcription_sessions", Define),
    ("POST",   "/realtime/translations/client_secrets", Denied),
    ("POST",   "/realtime/calls", Model),
    ("POST",   "/realtime/calls/{}/accept", Model),
    ("POST",   "/realtime/calls/{}/hangup", Neutral),
    ("POST",   "/realtime/calls/{}/refer", Neutral),
    ("POST",   "/realtime/calls/{}/reject", Neutral),
    ("POST",   "/live/sessions", Model),
    ("POST",   "/live/sessions/{}/accept", Model),
    ("POST",   "/live/sessions/{}/fork", Model),
    ("POST",   "/chatkit/sessions", Denied),
    // Hosted agents.
    ("POST",   "/agents", Define),
    ("POST",   "/agents/sessions", Model),
    ("POST",   "/agents/sessions/{}", Model),
    ("POST",   "/agents/sessions/{}/events", Model),
    // Containers and skills run code.
    ("POST",   "/containers", Define),
    ("GET",    "/containers", Neutral),
    ("GET",    "/containers/{}", Neutral),
    ("DELETE", "/containers/{}", Neutral),
    ("POST",   "/containers/{}/files", Define),
    ("GET",    "/containers/{}/files", Neutral),
    ("GET",    "/containers/{}/files/{}", Neutral),
    ("DELETE", "/containers/{}/files/{}", Neutral),
    ("POST",   "/skills", Define),
    ("POST",   "/skills/{}", Define),
    ("POST",   "/skills/{}/versions", Define),
    ("GET",    "/skills", Neutral),
    ("GET",    "/skills/{}", Neutral),
    ("DELETE", "/skills/{}", Neutral),
    // Vector stores.
    ("POST",   "/vector_stores", Neutral),
    ("GET",    "/vector_stores", Neutral),
    ("GET",    "/vector_stores/{}", Neutral),
    ("POST",   "/vector_stores/{}", Neutral),
    ("DELETE", "/vector_stores/{}", Neutral),
    ("POST",   "/vector_stores/{}/search", Neutral),
    ("POST",   "/vector_stores/{}/files", Neutral),
    ("GET",    "/vector_stores/{}/files", Neutral),
    ("GET",    "/vector_stores/{}/files/{}", Neutral),
    ("POST",   "/vector_stores/{}/files/{}", Neutral),
    ("DELETE", "/vector_stores/{}/files/{}", Neutral),
    ("GET",    "/vector_stores/{}/files/{}/content", Neutral),
    ("POST",   "/vector_stores/{}/file_batches", Neutral),
    ("GET",    "/vector_stores/{}/file_batches/{}", Neutral),
    ("POST",   "/vector_stores/{}/file_batches/{}/cancel", Neutral),
    ("GET",    "/vector_stores/{}/file_batches/{}/files", Neutral),
];

/// Finds the endpoint of a call. `bases` are further base paths beside [`BASES`].
pub(crate) fn classify(method: &str, path: &str, bases: &[String]) -> Result<Endpoint, NoEndpoint> {
    if let Some(reason) = ambiguity(path) {
        return Err(NoEndpoint::Ambiguous(reason));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut best = NoEndpoint::Unknown;
    for base in BASES
        .iter()
        .copied()
        .chain(bases.iter().map(String::as_str))
    {
        let Some((deployment, rest)) = strip_base(base, path) else {
            continue;
        };
        for (row_method, row_path, class) in TABLE {
            if !matches(row_path, rest) {
                continue;
            }
            if *row_method != method {
                best = NoEndpoint::Method;
                continue;
            }
            return Ok(Endpoint {
                method: row_method,
                path: row_path,
                class: *class,
                api: (*row_path == "/chat/completions" && *class == Model).then_some(Api::Chat),
                deployment: deployment.map(str::to_owned),
            });
        }
    }
    Err(best)
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
    let inner = path.get(1..)?;
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return None;
    }
    inner.split('/').find_map(|segment| match segment {
        "" => Some("it holds an empty segment"),
        "." | ".." => Some("it holds a dot segment"),
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
                (endpoint.api, endpoint.deployment),
                (Some(Api::Chat), None),
                "{path}"
            );
        }
        let azure = classify("POST", "/openai/deployments/my-gpt/chat/completions", &[]).unwrap();
        assert_eq!(azure.deployment.as_deref(), Some("my-gpt"));
        assert_eq!(azure.api, Some(Api::Chat));
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
        assert_eq!(endpoint.api, Some(Api::Chat));
    }

    #[test]
    fn only_the_first_row_that_matches_counts() {
        assert_eq!(class("POST", "/v1/responses/compact"), Ok(Model));
        assert_eq!(class("POST", "/v1/videos/edits"), Ok(Model));
        assert_eq!(class("GET", "/v1/models/gpt-4o"), Ok(Neutral));
    }
}
