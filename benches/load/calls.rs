//! The calls: what is asked, what the upstream answers, and what must therefore arrive.

use std::fmt;
use std::io::Write;

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::corpus::{self, MODEL, TOOLS};

/// Tells the upstream which kind of answer is wanted.
pub(crate) const KIND: &str = "x-load";

/// Chunks of text in a stream, `[DONE]` and all.
const EVENTS: usize = 204;

/// Events that an idle stream brings before it waits.
const IDLE_EVENTS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A JSON answer of about 800 bytes.
    Plain,
    /// A stream of 204 events.
    Stream,
    /// A stream that has begun and doesn't go on.
    Idle,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Stream, Self::Idle];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
            Self::Idle => "idle",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain call",
            Self::Stream => "streamed answer",
            Self::Idle => "idle stream",
        })
    }
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    pub(crate) request: Bytes,
    pub(crate) content_type: &'static str,
    /// The answer as the upstream writes it, one piece at a time.
    pub(crate) pieces: Vec<Bytes>,
    /// The same in one.
    pub(crate) answer: Bytes,
}

impl Call {
    pub(crate) fn new(kind: Kind) -> Self {
        let request = corpus::request("1KB").unwrap();
        let (content_type, pieces) = if kind == Kind::Plain {
            ("application/json", vec![plain_answer()])
        } else {
            let stream = corpus::exchange("text").unwrap();
            let (text, end) = stream.pieces.split_at(stream.pieces.len() - 3);
            let pieces = if kind == Kind::Idle {
                text[..IDLE_EVENTS].to_vec()
            } else {
                [&text[..EVENTS - end.len()], end].concat()
            };
            (stream.content_type, pieces)
        };
        let request = if kind == Kind::Plain {
            let text = std::str::from_utf8(&request).unwrap();
            text.replace(r#""stream":true"#, r#""stream":false"#).into()
        } else {
            request
        };
        Self {
            kind,
            request,
            content_type,
            answer: pieces.concat().into(),
            pieces,
        }
    }
}

fn plain_answer() -> Bytes {
    let text = "The river rises in the mountains and reaches the sea after 1,200 km. ".repeat(5);
    format!(
        r#"{{"id":"chatcmpl-CR4f0mKjYQk2vWq1xXyZ8nB7tLpAe","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":120,"completion_tokens":90,"total_tokens":210,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_560af6e559"}}"#
    )
    .into()
}

/// Models, tools, hosts and limits, none of which the load exhausts.
pub(crate) fn policy_file() -> std::io::Result<NamedTempFile> {
    let tools = TOOLS.map(|name| format!("\"{name}\"")).join(", ");
    let mut file = tempfile::Builder::new().suffix(".yml").tempfile()?;
    write!(
        file,
        "
agent:
  models: {{ allowed_models: [{MODEL}, gpt-4o], blocked_models: [gpt-3.5-turbo] }}
  toolsets: {{ allowed_tools: [{tools}], blocked_tools: [file_delete, env_set] }}
permissions:
  network: {{ enabled: true, require_tls: false, allowed_domains: [127.0.0.1] }}
rate_limits:
  per_agent: {{ requests_per_minute: 1000000000, tokens_per_hour: 1000000000000000 }}
"
    )?;
    Ok(file)
}
