//! A driver for callgrind: one kind of call, so many times, and nothing else.
//!
//! ```text
//! cargo run --release --example callgrind_stream -- text 12 [sekuire|RIVAL] [event|16KiB|37B|1B]
//! cargo run --release --example callgrind_stream -- 20KB 12 [sekuire|PARSER]
//! cargo run --release --example callgrind_stream -- admission 12000 [sekuire|clock]
//! cargo run --release --example callgrind_stream -- text 12 sekuire event 3
//! ```
//!
//! A number at the end sends the middle of the stream so many times over: two runs that differ in nothing else give a
//! steady event's cost, without the call's own and without that of the first events and the last.
//!
//! The corpora are those of the benches: `text`, `usage`, `responses`, `escaped`, `tools`, `json-1k`, `json-20k`, and the requests
//! `1KB`, `20KB`, `1MB`, or `1KB-unlike` for many that aren't like each other. A rival is a name from the benches' output, or `bare forward`.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a driver that can't go on must stop"
)]

#[path = "../corpus/mod.rs"]
mod corpus;
#[path = "../drive/mod.rs"]
mod drive;
#[path = "../parsers/mod.rs"]
mod parsers;
#[expect(dead_code, reason = "the benches use the rest")]
#[path = "../rivals/mod.rs"]
mod rivals;

use corpus::{Exchange, FRAMINGS, Found};
use drive::{Server, head, length, send};
use parsers::PARSERS;
use rivals::{FORWARD, RIVALS, SEKUIRE};
use tower_sekuire::{Policy, PolicyEnforcer, RateLimit};

/// Events at either end of a stream.
const SPARED: usize = 16;

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "text".to_owned());
    let runs: usize = words
        .next()
        .map_or(12, |runs| runs.parse().expect("the number of runs"));
    let way = words.next().unwrap_or_else(|| SEKUIRE.to_owned());
    if name == "admission" {
        return admissions(runs, &way);
    }
    let framing = words.next().unwrap_or_else(|| "event".to_owned());
    let framing = FRAMINGS
        .into_iter()
        .find(|(name, _)| *name == framing)
        .expect("a known framing")
        .1;
    let times: usize = words
        .next()
        .map_or(1, |times| times.parse().expect("the number of times"));
    let request = name.strip_suffix("-unlike").unwrap_or(&name);
    let mut exchange = corpus::exchange(&name).unwrap_or_else(|| Exchange {
        path: corpus::CHAT,
        request: corpus::request(request).expect("a known corpus"),
        content_type: "",
        pieces: Vec::new(),
        found: Found::default(),
    });
    // Events that open and close a stream aren't steady.
    if let Some(last) = exchange
        .pieces
        .len()
        .checked_sub(SPARED)
        .filter(|_| times > 1)
    {
        let middle = vec![exchange.pieces[SPARED..last].to_vec(); times - 1].concat();
        exchange.pieces.splice(last..last, middle);
    }
    let mut bare = match exchange.content_type {
        "" => Server::silent(),
        content_type => Server::new(content_type, exchange.frames(framing)),
    };
    let mut governed = bare.governed();
    let head = head(exchange.path);
    let requests = match request == name {
        true => vec![exchange.request.clone()],
        false => corpus::unlike(request),
    };
    let rival = RIVALS.into_iter().find(|(name, _)| *name == way);
    let parser = PARSERS.into_iter().find(|(name, _)| *name == way);
    for request in requests.iter().cycle().take(runs) {
        if way == SEKUIRE {
            length(send(&mut governed, &head, request));
        } else if way == FORWARD {
            length(send(&mut bare, &head, request));
        } else if let Some((_, rival)) = rival {
            rival(send(&mut bare, &head, request));
        } else {
            let (_, parse) = parser.expect("a known rival or parser");
            assert!(parse(request).is_allowed());
            length(send(&mut bare, &head, request));
        }
    }
    println!(
        "{runs} x {name}, {way}: {} events or documents of {} bytes, a request of {} bytes",
        exchange.pieces.len(),
        exchange.answer().len(),
        exchange.request.len(),
    );
}

/// Admissions of one agent under one window of requests, or as many reads of the clock that they read.
fn admissions(runs: usize, way: &str) {
    use std::hint::black_box;
    if way == "clock" {
        for _ in 0..runs {
            black_box(std::time::Instant::now());
        }
    } else {
        let policy =
            Policy::from_yaml("rate_limits: { per_agent: { requests_per_minute: 1000000000 } }");
        let enforcer = PolicyEnforcer::new(policy.expect("the policy loads"));
        for _ in 0..runs {
            assert!(enforcer.enforce_rate_limit(RateLimit::Request).is_ok());
        }
    }
    println!("{runs} x admission, {way}");
}
