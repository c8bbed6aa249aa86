//! Realistic traffic, made in code: the same bytes on every machine, and nobody's data.
//!
//! The shapes and sizes are those of OpenAI's chat completions: a chunk of text is about 285 bytes long, one that
//! reports `"usage":null` and `obfuscation` about 330.

use bytes::Bytes;

/// How the transport cuts a stream into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One event per frame, as servers flush them.
    Event,
    /// Frames of this many bytes.
    Bytes(usize),
}

pub(crate) const FRAMINGS: [(&str, Framing); 4] = [
    ("event", Framing::Event),
    ("16KiB", Framing::Bytes(16 * 1024)),
    ("37B", Framing::Bytes(37)),
    ("1B", Framing::Bytes(1)),
];

/// What an inspection of an answer must find in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Events, `[DONE]` included; 0 for a JSON answer.
    pub(crate) events: u64,
    /// Tool calls named.
    pub(crate) calls: u64,
    /// Tokens reported.
    pub(crate) tokens: u64,
    /// A tool outside [`TOOLS`] was called: reading stopped there.
    pub(crate) forbidden: bool,
}

/// One answered call.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// Below the base.
    pub(crate) path: &'static str,
    pub(crate) request: Bytes,
    pub(crate) content_type: &'static str,
    /// The answer: its events, or its one document.
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) found: Found,
}

impl Exchange {
    pub(crate) fn answer(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    pub(crate) fn frames(&self, framing: Framing) -> Vec<Bytes> {
        match framing {
            Framing::Event => self.pieces.clone(),
            Framing::Bytes(length) => {
                let whole = Bytes::from(self.answer());
                (0..whole.len())
                    .step_by(length)
                    .map(|at| whole.slice(at..whole.len().min(at + length)))
                    .collect()
            }
        }
    }
}

pub(crate) const MODEL: &str = "gpt-4o-mini";

/// The tools that requests declare and answers call.
pub(crate) const TOOLS: [&str; 8] = [
    "web_search",
    "files:read",
    "calculator",
    "get_weather",
    "lookup_order",
    "send_summary",
    "list_events",
    "translate_text",
];

/// A tool that the policy of the benches doesn't allow.
pub(crate) const FORBIDDEN: &str = "file_delete";

/// The streams and answers by name.
pub(crate) fn exchange(name: &str) -> Option<Exchange> {
    Some(match name {
        "text" => stream(&Chunks::new(false).text(&mut English::new())),
        "usage" => stream(&Chunks::new(true).text(&mut English::new())),
        "responses" => response(&mut English::new()),
        "escaped" => stream(&Chunks::new(false).text(&mut Escaped::new())),
        "tools" => stream(&Chunks::new(true).tools()),
        "denied-first" => stream(&denied(0)),
        "denied-last" => stream(&denied(usize::MAX)),
        "json-1k" => document(answer(600, 1)),
        "json-20k" => document(answer(14_000, 8)),
        _ => return None,
    })
}

/// The requests by name.
pub(crate) fn request(name: &str) -> Option<Bytes> {
    Some(match name {
        "1KB" => small_request(),
        "20KB" => agent_request(),
        "1MB" => image_request(),
        _ => return None,
    })
}

/// The same request in so many forms, each with keys in an order of its own, messages of a shape of its own and tools that
/// no other declares.
pub(crate) fn unlike(name: &str) -> Vec<Bytes> {
    let request = request(name).unwrap_or_default();
    let request = String::from_utf8_lossy(&request);
    let form = |number: usize| {
        let messages = request.replace(r#"{"role""#, &format!(r#"{{"y{number:02}":1,"role""#));
        let keys = messages.replacen('{', &format!(r#"{{"x{number:02}":1,"#), 1);
        let tools = format!(r#""description":"{number:02}"#);
        Bytes::from(keys.replace(r#""description":""#, &tools))
    };
    (0..64).map(form).collect()
}

pub(crate) const CHAT: &str = "/chat/completions";

fn stream(events: &(Vec<String>, Found)) -> Exchange {
    Exchange {
        path: CHAT,
        request: format!(
            r#"{{"model":"{MODEL}","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"Tell me about rivers."}}]}}"#
        )
        .into(),
        content_type: "text/event-stream; charset=utf-8",
        pieces: events
            .0
            .iter()
            .map(|event| Bytes::from(format!("data: {event}\n\n")))
            .collect(),
        found: events.1,
    }
}

/// A streamed response of text: numbered events, each with a line that says its type.
fn response(tokens: &mut dyn Tokens) -> Exchange {
    const ID: &str = "resp_68e0f0b1c1d48197a0d1f2e3c4b5a6970";
    const ITEM: &str = "msg_68e0f0b2e5d88197b3c4d5e6f7a8b9c00";
    let head = |status: &str, output: &str, usage: &str| {
        format!(
            r#""response":{{"id":"{ID}","object":"response","created_at":1760000000,"status":"{status}","model":"gpt-4o-mini-2024-07-18","output":[{output}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{usage}}}"#
        )
    };
    let item = |status: &str| {
        format!(
            r#"{{"id":"{ITEM}","type":"message","status":"{status}","content":[],"role":"assistant"}}"#
        )
    };
    let mut events = vec![
        ("created", head("in_progress", "", "null")),
        ("in_progress", head("in_progress", "", "null")),
        (
            "output_item.added",
            format!(r#""output_index":0,"item":{}"#, item("in_progress")),
        ),
    ];
    let mut dice = Dice(3);
    for _ in 0..1_000 {
        let filler: String = (0..=dice.roll(12))
            .map(|_| dice.pick(&["a", "Q", "7", "z", "K", "0"]))
            .collect();
        let token = tokens.next();
        events.push((
            "output_text.delta",
            format!(
                r#""item_id":"{ITEM}","output_index":0,"content_index":0,"delta":"{token}","logprobs":[],"obfuscation":"{filler}""#
            ),
        ));
    }
    events.push((
        "output_item.done",
        format!(r#""output_index":0,"item":{}"#, item("completed")),
    ));
    events.push((
        "completed",
        head(
            "completed",
            &item("completed"),
            r#"{"input_tokens":38,"input_tokens_details":{"cached_tokens":0},"output_tokens":1000,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":1038}"#,
        ),
    ));
    Exchange {
        path: "/responses",
        request: format!(
            r#"{{"model":"{MODEL}","stream":true,"input":"Tell me about rivers."}}"#
        )
        .into(),
        content_type: "text/event-stream; charset=utf-8",
        found: Found {
            events: events.len() as u64,
            tokens: 1_038,
            ..Found::default()
        },
        pieces: events
            .into_iter()
            .enumerate()
            .map(|(number, (kind, members))| {
                Bytes::from(format!(
                    "event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",\"sequence_number\":{number},{members}}}\n\n"
                ))
            })
            .collect(),
    }
}

fn document((document, found): (String, Found)) -> Exchange {
    Exchange {
        path: CHAT,
        request: format!(
            r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"Tell me about rivers."}}]}}"#
        )
        .into(),
        content_type: "application/json",
        pieces: vec![document.into()],
        found,
    }
}

/// A small generator of numbers (Knuth's MMIX constants): repeatable, which is all that is asked of it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let at = self.roll(of.len());
        of.get(at).copied().unwrap_or_default()
    }
}

/// Pieces of generated text as they stand in JSON.
trait Tokens {
    fn next(&mut self) -> String;
}

struct English(Dice);

impl English {
    const fn new() -> Self {
        Self(Dice(7))
    }
}

impl Tokens for English {
    fn next(&mut self) -> String {
        const WORDS: &[&str] = &[
            " the",
            " river",
            " is",
            " of",
            " and",
            " water",
            " along",
            ",",
            ".",
            " its",
            " banks",
            " a",
            " centuries",
            " trade",
            " in",
            " which",
            " delta",
            "'s",
            " flows",
            " longest",
            " to",
            " sea",
            " (",
            ")",
            " 1,200",
            " km",
            ":",
            " **",
            "**",
            " source",
            " -",
            " mountain",
        ];
        match self.0.roll(40) {
            0 => r"\n\n".to_owned(),
            1 => r#" \"so"#.to_owned(),
            _ => self.0.pick(WORDS).to_owned(),
        }
    }
}

/// Chinese and emoji, as Python's `json.dumps` writes them.
struct Escaped(Dice);

impl Escaped {
    const fn new() -> Self {
        Self(Dice(11))
    }
}

impl Tokens for Escaped {
    fn next(&mut self) -> String {
        if self.0.roll(12) == 0 {
            return format!(r"\ud83d\ude{:02x}", self.0.roll(0x50));
        }
        (0..=self.0.roll(3))
            .map(|_| format!(r"\u{:04x}", 0x4e00 + self.0.roll(0x5000)))
            .collect()
    }
}

/// Makes chunks of one stream.
struct Chunks {
    /// `include_usage` is on, and so is `obfuscation`.
    usage: bool,
    dice: Dice,
}

impl Chunks {
    const fn new(usage: bool) -> Self {
        Self {
            usage,
            dice: Dice(3),
        }
    }

    fn chunk(&mut self, choices: &str, usage: &str) -> String {
        let mut end = String::new();
        if self.usage {
            let filler: String = (0..=self.dice.roll(12))
                .map(|_| self.dice.pick(&["a", "Q", "7", "z", "K", "0"]))
                .collect();
            end = format!(r#","usage":{usage},"obfuscation":"{filler}""#);
        } else if usage != "null" {
            end = format!(r#","usage":{usage}"#);
        }
        format!(
            r#"{{"id":"chatcmpl-CR4f0mKjYQk2vWq1xXyZ8nB7tLpAe","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_560af6e559","choices":[{choices}]{end}}}"#
        )
    }

    fn delta(&mut self, delta: &str) -> String {
        self.chunk(
            &format!(r#"{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":null}}"#),
            "null",
        )
    }

    /// The last chunks: the reason to stop, the usage, the end marker.
    fn end(&mut self, events: &mut Vec<String>, reason: &str) -> u64 {
        const TOKENS: u64 = 1_038;
        events.push(self.chunk(
            &format!(r#"{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}"#),
            "null",
        ));
        events.push(self.chunk("", r#"{"prompt_tokens":38,"completion_tokens":1000,"total_tokens":1038,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#));
        events.push("[DONE]".to_owned());
        TOKENS
    }

    fn text(mut self, tokens: &mut dyn Tokens) -> (Vec<String>, Found) {
        let mut events = vec![self.delta(r#""role":"assistant","content":"","refusal":null"#)];
        for _ in 0..1_000 {
            let token = tokens.next();
            events.push(self.delta(&format!(r#""content":"{token}""#)));
        }
        let tokens = self.end(&mut events, "stop");
        let found = Found {
            events: events.len() as u64,
            tokens,
            ..Found::default()
        };
        (events, found)
    }

    fn call(&mut self, index: usize, name: &str) -> String {
        let id = self.dice.roll(100_000);
        self.delta(&format!(
            r#""tool_calls":[{{"index":{index},"id":"call_Xk3mUq0Vd8Yt{id:08}","type":"function","function":{{"name":"{name}","arguments":""}}}}]"#
        ))
    }

    /// Four calls, a name and then its arguments in pieces.
    fn tools(mut self) -> (Vec<String>, Found) {
        const PIECES: &[&str] = &[
            r#"{\""#, "query", r#"\":\""#, "river", " length", r#"\",\""#, "limit", r#"\":"#, "10",
            r#",\""#, "language", " of", "en", " the", " delta", r#"\"}"#,
        ];
        let mut events = vec![self.delta(r#""role":"assistant","content":null"#)];
        for (index, name) in TOOLS.iter().take(4).enumerate() {
            events.push(self.call(index, name));
            for _ in 0..50 - usize::from(index == 3) {
                let piece = self.dice.pick(PIECES);
                events.push(self.delta(&format!(
                    r#""tool_calls":[{{"index":{index},"function":{{"arguments":"{piece}"}}}}]"#
                )));
            }
        }
        let tokens = self.end(&mut events, "tool_calls");
        let found = Found {
            events: events.len() as u64,
            calls: 4,
            tokens,
            forbidden: false,
        };
        (events, found)
    }
}

/// The text stream with a forbidden call at this place, or as the last chunk before its end.
fn denied(at: usize) -> (Vec<String>, Found) {
    let (mut events, _) = Chunks::new(false).text(&mut English::new());
    let at = at.min(events.len().saturating_sub(3));
    events.insert(at, Chunks::new(false).call(0, FORBIDDEN));
    let found = Found {
        events: at as u64 + 1,
        calls: 1,
        tokens: 0,
        forbidden: true,
    };
    (events, found)
}

fn prose(length: usize) -> String {
    let mut tokens = English::new();
    let mut text = String::new();
    while text.len() < length {
        text.push_str(&tokens.next());
    }
    text
}

fn answer(text: usize, calls: usize) -> (String, Found) {
    let calls: Vec<String> = TOOLS
        .iter()
        .take(calls)
        .map(|name| {
            let arguments = if calls == 1 { 30 } else { 500 };
            format!(
                r#"{{"id":"call_Xk3mUq0Vd8Yt00000001","type":"function","function":{{"name":"{name}","arguments":"{{\"query\":\"{}\"}}"}}}}"#,
                prose(arguments).replace('\\', r"\\").replace(r#"\\""#, r#"\\\""#)
            )
        })
        .collect();
    let document = format!(
        r#"{{"id":"chatcmpl-CR4f0mKjYQk2vWq1xXyZ8nB7tLpAe","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}","refusal":null,"annotations":[],"tool_calls":[{}]}},"logprobs":null,"finish_reason":"tool_calls"}}],"usage":{{"prompt_tokens":38,"completion_tokens":1000,"total_tokens":1038,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_560af6e559"}}"#,
        prose(text),
        calls.join(",")
    );
    let found = Found {
        events: 0,
        calls: calls.len() as u64,
        tokens: 1_038,
        forbidden: false,
    };
    (document, found)
}

fn tool(name: &str, description: usize) -> String {
    format!(
        r#"{{"type":"function","function":{{"name":"{name}","description":"{}","strict":true,"parameters":{{"type":"object","properties":{{"query":{{"type":"string","description":"What to look for."}},"limit":{{"type":"integer","minimum":1,"maximum":100}},"language":{{"type":["string","null"],"enum":["en","de","zh",null]}}}},"required":["query","limit","language"],"additionalProperties":false}}}}}}"#,
        prose(description)
    )
}

fn body(messages: &[String], tools: &[String], stream: bool) -> Bytes {
    let tools = if tools.is_empty() {
        String::new()
    } else {
        format!(r#","tools":[{}],"tool_choice":"auto""#, tools.join(","))
    };
    let stream = if stream {
        r#","stream":true,"stream_options":{"include_usage":true}"#
    } else {
        ""
    };
    format!(
        r#"{{"model":"{MODEL}","messages":[{}]{tools},"temperature":0.7,"max_tokens":1024{stream}}}"#,
        messages.join(",")
    )
    .into()
}

fn message(role: &str, length: usize) -> String {
    format!(r#"{{"role":"{role}","content":"{}"}}"#, prose(length))
}

fn small_request() -> Bytes {
    body(
        &[message("system", 120), message("user", 150)],
        &[tool("web_search", 40)],
        true,
    )
}

/// A conversation of an agent in its tenth turn, with eight tools.
fn agent_request() -> Bytes {
    let mut messages = vec![message("system", 1_800)];
    for turn in 0..10 {
        messages.push(message("user", 220));
        let name = TOOLS.get(turn % TOOLS.len()).copied().unwrap_or_default();
        messages.push(format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{turn:012}","type":"function","function":{{"name":"{name}","arguments":"{{\"query\":\"river length\",\"limit\":10,\"language\":\"en\"}}"}}}}]}}"#
        ));
        messages.push(format!(
            r#"{{"role":"tool","tool_call_id":"call_{turn:012}","content":"{{\"results\":[{{\"title\":\"Rivers\",\"score\":0.93}}],\"text\":\"{}\"}}"}}"#,
            prose(350).replace('\\', r"\\").replace(r#"\\""#, r#"\\\""#)
        ));
        messages.push(message("assistant", 320));
    }
    let tools: Vec<String> = TOOLS.iter().map(|name| tool(name, 180)).collect();
    body(&messages, &tools, true)
}

/// A question about an image of 768 KiB, in a data URL.
fn image_request() -> Bytes {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut dice = Dice(5);
    let image: String = (0..1 << 20)
        .map(|_| char::from(ALPHABET.get(dice.roll(64)).copied().unwrap_or(b'A')))
        .collect();
    body(
        &[
            message("system", 200),
            format!(
                r#"{{"role":"user","content":[{{"type":"text","text":"What is on it?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}","detail":"high"}}}}]}}"#
            ),
        ],
        &[],
        true,
    )
}
