//! A streamed answer, whole and cut into frames: the cuts change neither what is released nor the verdict, nor does
//! reading every event in full instead of by its learned shape; what is released is the beginning of what came, and no
//! forbidden name is in it.
//!
//! Input: the API (a byte, even for chat completions), a number of cuts, as many lengths (a byte each), and the stream.
#![no_main]

#[allow(dead_code)]
mod common;

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower_sekuire::SekuireLayer;

use common::{TOOLS, call, layer};

const CHAT: (&str, &[u8]) = (
    "/chat/completions",
    br#"{"model":"gpt-4o","stream":true,"n":2,"messages":[]}"#,
);
const RESPONSES: (&str, &[u8]) = (
    "/responses",
    br#"{"model":"gpt-4o","stream":true,"input":""}"#,
);

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(([api, cuts], rest)) = input.split_first_chunk() else {
        return Corpus::Reject;
    };
    let (path, request) = if api % 2 == 0 { CHAT } else { RESPONSES };
    let Some((lengths, stream)) = rest.split_at_checked(usize::from(*cuts)) else {
        return Corpus::Reject;
    };
    let stream = Bytes::copy_from_slice(stream);
    let layer = layer();
    let judge_by = |layer: &SekuireLayer, frames| {
        call(
            layer,
            path,
            Bytes::from_static(request),
            "text/event-stream",
            frames,
        )
    };
    let judge = |frames| judge_by(&layer, frames);
    let whole = judge(vec![stream.clone()]);
    let in_full = layer.clone().in_full();
    assert_eq!(
        judge_by(&in_full, vec![stream.clone()]),
        whole,
        "read in full"
    );

    let mut frames = Vec::new();
    let mut rest = stream.clone();
    for length in lengths {
        frames.push(rest.split_to(rest.len().min(usize::from(*length))));
    }
    frames.push(rest);
    assert_eq!(judge(frames), whole, "cut as given");
    let bytes = (0..stream.len()).map(|at| stream.slice(at..=at)).collect();
    assert_eq!(judge(bytes), whole, "cut into bytes");

    if !stream.starts_with(&whole.released) {
        // Only a name that is said again may be left out, so one was said before.
        assert!(is_subsequence(&whole.released, &stream));
        assert!(stream.len() - whole.released.len() >= r#""name":"x""#.len());
    }
    if whole.violation.is_none() && stream.starts_with(&whole.released) {
        assert_eq!(whole.released, stream, "bytes are missing without a reason");
    }
    check_names(&whole.released);
    Corpus::Keep
});

fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|byte| rest.any(|other| other == byte))
}

/// The slow reference: every line of data by itself and every event as a whole, by a parser that isn't ours.
fn check_names(released: &[u8]) {
    let text = String::from_utf8_lossy(released);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut event = String::new();
    for line in text.replace("\r\n", "\n").split(['\n', '\r']) {
        if line.is_empty() {
            check_payload(&std::mem::take(&mut event));
            continue;
        }
        if let Some(data) = line.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            check_payload(data);
            if !event.is_empty() {
                event.push('\n');
            }
            event.push_str(data);
        }
    }
}

fn check_payload(payload: &str) {
    let Ok(document) = serde_json::from_str::<Value>(payload) else {
        return;
    };
    let outputs = document["response"]["output"]
        .as_array()
        .into_iter()
        .flatten();
    for item in outputs.chain([&document["item"]]) {
        if item["type"] == "function_call" {
            check_name(&item["name"]);
        }
    }
    for choice in document["choices"].as_array().into_iter().flatten() {
        for message in [&choice["delta"], &choice["message"]] {
            check_name(&message["function_call"]["name"]);
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                check_name(&call["function"]["name"]);
                check_name(&call["custom"]["name"]);
            }
        }
    }
}

fn check_name(name: &Value) {
    let name = name.as_str().unwrap_or_default();
    assert!(
        name.is_empty() || is_allowed(name),
        "a forbidden name was released: {name:?}"
    );
}

/// A hosted tool's other names are the same tool.
fn is_allowed(name: &str) -> bool {
    TOOLS.contains(&name) || name.starts_with("web_search")
}
