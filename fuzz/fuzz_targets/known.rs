//! Calls one after another on one thread, which learns from each: what it knows of earlier ones changes neither what is
//! sent, nor what is released, nor the verdict, nor what is charged.
//!
//! Input: the API (a byte, even for chat completions), then, cut by 0xFF, request and answer of one call after another.
#![no_main]

#[allow(dead_code)]
mod common;

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};

use tower_sekuire::{LimitUsage, SekuireLayer};

use common::{call, counting_layer};

/// More calls bring nothing new.
const CALLS: usize = 6;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((api, rest)) = input.split_first() else {
        return Corpus::Reject;
    };
    let path = if api % 2 == 0 {
        "/chat/completions"
    } else {
        "/responses"
    };
    let pieces: Vec<Bytes> = rest
        .split(|byte| *byte == 0xff)
        .take(2 * CALLS)
        .map(Bytes::copy_from_slice)
        .collect();
    let judge = |layer: &SekuireLayer| {
        let mut outcomes = Vec::new();
        for pair in pieces.chunks(2) {
            let [request, answer] = pair else {
                break;
            };
            // Twice, so that what was learned from it is used.
            for _ in 0..2 {
                let answer = vec![answer.clone()];
                let outcome = call(layer, path, request.clone(), "application/json", answer);
                let usage = layer.usage();
                let charged = usage.first().and_then(|(_, limits)| limits.first());
                outcomes.push((outcome, charged.map(LimitUsage::used)));
            }
        }
        outcomes
    };
    let learning = counting_layer();
    assert_eq!(judge(&learning), judge(&counting_layer().in_full()));
    Corpus::Keep
});
