//! The ratios that matter, measured in one run: every round runs every design once, so that a noisy moment hits all
//! of them, and a ratio is the median over the rounds' own ratios.
//!
//! ```text
//! cargo bench --bench ratios                  # Markdown on stdout
//! cargo bench --bench ratios -- 101 text      # so many rounds, only groups whose name contains this
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench that can't go on must stop, takes the time itself and prints its table"
)]

mod corpus;
mod drive;
mod parsers;
mod rivals;

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;

use corpus::{FRAMINGS, Found, Framing};
use drive::{Server, drain, head, length, send};
use parsers::PARSERS;
use rivals::{FORWARD, RIVALS, SEKUIRE};

/// A design under its name.
type Design<'a> = (&'static str, Box<dyn FnMut() + 'a>);

fn main() {
    // Cargo passes `--bench`.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let rounds = words
        .iter()
        .find_map(|word| word.parse::<usize>().ok())
        .unwrap_or(31);
    let filter = words.iter().find(|word| word.parse::<usize>().is_err());
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));

    for corpus in [
        "text",
        "usage",
        "responses",
        "escaped",
        "tools",
        "denied-last",
    ] {
        for (framing_name, framing) in FRAMINGS {
            let name = format!("{corpus}/{framing_name}");
            if wanted(&name) {
                streams(&name, corpus, framing, rounds);
            }
        }
    }
    for name in ["1KB", "20KB", "1MB"] {
        if wanted(name) {
            requests(name, &[corpus::request(name).unwrap()], rounds);
        }
    }
    for (name, request) in [("1KB-unlike", "1KB"), ("20KB-unlike", "20KB")] {
        if wanted(name) {
            requests(name, &corpus::unlike(request), rounds);
        }
    }
    for name in ["json-1k", "json-20k"] {
        if wanted(name) {
            answers(name, rounds);
        }
    }
}

fn streams(name: &str, corpus: &str, framing: Framing, rounds: usize) {
    let exchange = corpus::exchange(corpus).unwrap();
    let bare = Server::new(exchange.content_type, exchange.frames(framing));
    let (head, request) = (&head(exchange.path), &exchange.request);
    let mut governed = bare.governed();
    rivals::check_released(send(&mut governed, head, request), &exchange);
    let mut forward = bare.clone();
    let mut designs: Vec<Design<'_>> = vec![
        (
            FORWARD,
            Box::new(move || {
                black_box(length(send(&mut forward, head, request)));
            }),
        ),
        (
            SEKUIRE,
            Box::new(move || {
                black_box(length(send(&mut governed, head, request)));
            }),
        ),
    ];
    for (name, rival) in RIVALS {
        if framing == Framing::Bytes(1) && name.starts_with("eventsource") {
            continue;
        }
        let mut bare = bare.clone();
        designs.push((
            name,
            Box::new(move || {
                black_box(rival(send(&mut bare, head, request)));
            }),
        ));
    }
    let per = exchange.found.events;
    table(name, "event", per, 1, rounds, designs);
}

/// Sends these requests in turn.
fn requests(name: &str, bodies: &[Bytes], rounds: usize) {
    let turns = || bodies.iter().cycle();
    let head = &head(corpus::CHAT);
    let bare = Server::silent();
    let (mut governed, mut forward) = (bare.governed(), bare.clone());
    let mut designs: Vec<Design<'_>> = vec![
        (
            FORWARD,
            Box::new({
                let mut turns = turns();
                move || {
                    let body = turns.next().unwrap();
                    black_box(length(send(&mut forward, head, body)));
                }
            }),
        ),
        (
            SEKUIRE,
            Box::new({
                let mut turns = turns();
                move || {
                    let body = turns.next().unwrap();
                    black_box(length(send(&mut governed, head, body)));
                }
            }),
        ),
    ];
    for (name, parse) in PARSERS {
        let (mut bare, mut turns) = (bare.clone(), turns());
        designs.push((
            name,
            Box::new(move || {
                let body = turns.next().unwrap();
                assert!(parse(body).is_allowed());
                black_box(length(send(&mut bare, head, body)));
            }),
        ));
    }
    table(name, "request", 1, runs_for(&bodies[0]), rounds, designs);
}

fn answers(name: &str, rounds: usize) {
    let exchange = &corpus::exchange(name).unwrap();
    let (head, request) = (&head(exchange.path), &exchange.request);
    let bare = Server::new(exchange.content_type, exchange.frames(Framing::Event));
    let (mut governed, mut forward) = (bare.governed(), bare.clone());
    let mut designs: Vec<Design<'_>> = vec![
        (
            FORWARD,
            Box::new(move || {
                black_box(length(send(&mut forward, head, request)));
            }),
        ),
        (
            SEKUIRE,
            Box::new(move || {
                black_box(length(send(&mut governed, head, request)));
            }),
        ),
    ];
    let parses: [rivals::Parse; 3] = [
        rivals::sonic_typed,
        rivals::serde_typed,
        rivals::serde_value,
    ];
    for ((name, ask), parse) in PARSERS.into_iter().zip(parses) {
        let mut bare = bare.clone();
        designs.push((
            name,
            Box::new(move || {
                assert!(ask(request).is_allowed());
                let mut found = Found::default();
                let body: drive::Frames = send(&mut bare, head, request);
                let read = drain(body, |frame| {
                    parse(&frame, &mut found);
                    true
                });
                assert!(read.is_ok() && found == exchange.found);
            }),
        ));
    }
    let runs = runs_for(&exchange.pieces[0]);
    table(name, "call", 1, runs, rounds, designs);
}

/// So many runs that a sample is long against the clock's own cost.
fn runs_for(body: &Bytes) -> u64 {
    (200_000 / body.len() as u64).max(1)
}

fn table(
    name: &str,
    unit: &str,
    per_run: u64,
    runs: u64,
    rounds: usize,
    mut designs: Vec<Design<'_>>,
) {
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); designs.len()];
    // The first rounds warm caches up and don't count.
    for round in 0..rounds + 2 {
        for ((_, design), samples) in designs.iter_mut().zip(&mut samples) {
            let started = Instant::now();
            for _ in 0..runs {
                design();
            }
            if round >= 2 {
                samples.push(started.elapsed().as_secs_f64() * 1e9 / (runs * per_run) as f64);
            }
        }
    }
    let sekuire = samples[1].clone();
    println!(
        "\n| {name} | ns per {unit}, median | least | x sekuire, median | of the least |\n|---|---:|---:|---:|---:|"
    );
    for ((design, _), samples) in designs.iter().zip(samples) {
        let ratios = samples.iter().zip(&sekuire).map(|(it, ours)| it / ours);
        println!(
            "| {design} | {:.0} | {:.0} | {:.2} | {:.2} |",
            median(samples.clone()),
            least(&samples),
            median(ratios.collect()),
            least(&samples) / least(&sekuire),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// On a shared machine nothing makes a run faster than it is, and much makes it slower.
fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
