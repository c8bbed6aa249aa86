//! A request's body: whatever it holds, nothing panics; what is let through arrives unchanged, is JSON to everybody,
//! and names only what is allowed, whichever of two equal keys a server reads.
#![no_main]

#[allow(dead_code)]
mod common;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

use common::{MODELS, TOOLS, call, layer};

fuzz_target!(|body: &[u8]| {
    let answer = Bytes::from_static(b"{}");
    let outcome = call(
        &layer(),
        "/chat/completions",
        Bytes::copy_from_slice(body),
        "application/json",
        vec![answer],
    );
    let Some(sent) = outcome.sent else {
        assert!(outcome.violation.is_some());
        return;
    };
    assert_eq!(sent, body);
    assert_eq!(outcome.violation, None);
    assert_eq!(outcome.released, b"{}");
    let document: Value = serde_json::from_slice(body).expect("what was let through is JSON");
    let model = document["model"].as_str().expect("a model is named");
    assert!(MODELS.contains(&model), "{model:?}");
    for tool in document["tools"].as_array().into_iter().flatten() {
        for name in [
            &tool["function"]["name"],
            &tool["custom"]["name"],
            &tool["name"],
        ] {
            let name = name.as_str().unwrap_or("web_search");
            assert!(
                TOOLS.contains(&name) || name.starts_with("web_search"),
                "{name:?}"
            );
        }
    }
});
