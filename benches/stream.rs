//! Streamed answers through the layer, beside what users write today and beside no inspection at all.
//!
//! One iteration is one call with its whole stream, so divide by the events (criterion's throughput does). Everything
//! in a group reads the same frames; before it is timed, each must have found the same events, calls and tokens. The
//! layer must also have released every byte unchanged.
//!
//! ```text
//! cargo bench --bench stream                  # everything
//! cargo bench --bench stream -- text/event    # one group
//! cargo bench --bench ratios                  # ratios, interleaved: the table of the README
//! ```
//!
//! Wall time is noisy on shared machines; instructions are not. Two runs of different length give instructions per
//! event, free of start-up:
//!
//! ```text
//! cargo build --release --example callgrind_stream
//! for n in 2 12; do
//!     valgrind --tool=callgrind --callgrind-out-file=callgrind.$n \
//!         target/release/examples/callgrind_stream text $n
//! done
//! # (instructions at 12 - instructions at 2) / 10 / 1004 events
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that can't go on must stop"
)]

#[expect(dead_code, reason = "the other benches use the rest")]
mod corpus;
#[expect(dead_code, reason = "the other benches use the rest")]
mod drive;
mod rivals;

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use corpus::{Exchange, FRAMINGS, Framing};
use drive::{Server, head, length, send};
use rivals::{FORWARD, RIVALS, SEKUIRE};

/// Which corpora are cut in which ways: text in all, the others where the way matters.
const GROUPS: [(&str, &[usize]); 7] = [
    ("text", &[0, 1, 2, 3]),
    ("usage", &[0, 1]),
    ("responses", &[0, 1]),
    ("escaped", &[0, 1]),
    ("tools", &[0, 1, 2]),
    ("denied-first", &[0]),
    ("denied-last", &[0, 1]),
];

fn groups(criterion: &mut Criterion) {
    for (corpus, framings) in GROUPS {
        let exchange = corpus::exchange(corpus).unwrap();
        for at in framings {
            let (name, framing) = FRAMINGS[*at];
            let mut group = criterion.benchmark_group(format!("{corpus}/{name}"));
            group
                .throughput(Throughput::Elements(exchange.found.events))
                .sample_size(20)
                .warm_up_time(Duration::from_millis(300))
                .measurement_time(Duration::from_secs(1));
            compare(&mut group, &exchange, framing);
            group.finish();
        }
    }
}

fn compare(group: &mut BenchmarkGroup<'_, WallTime>, exchange: &Exchange, framing: Framing) {
    let mut bare = Server::new(exchange.content_type, exchange.frames(framing));
    let mut governed = bare.governed();
    let head = head(exchange.path);
    let (request, found) = (&exchange.request, exchange.found);
    let bytes = exchange.answer().len();

    let body = send(&mut governed, &head, request);
    rivals::check_released(body, exchange);

    group.bench_function(FORWARD, |bencher| {
        bencher.iter(|| {
            let (length, _) = length(send(&mut bare, &head, request));
            assert_eq!(length, bytes);
        });
    });
    group.bench_function(SEKUIRE, |bencher| {
        bencher.iter(|| {
            let (length, whole) = length(send(&mut governed, &head, request));
            assert!(whole == (length == bytes) && whole != found.forbidden);
        });
    });
    for (name, rival) in RIVALS {
        let seen = rival(send(&mut bare, &head, request));
        if name == "newline scan" {
            assert!(seen.events >= found.events);
        } else {
            assert_eq!(seen, found, "{name}");
        }
        if framing == Framing::Bytes(1) && name.starts_with("eventsource") {
            // Quadratic in the length of an event: it says nothing that 37-byte frames don't.
            continue;
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(rival(send(&mut bare, &head, request))));
        });
    }
}

criterion_group!(benches, groups);
criterion_main!(benches);
