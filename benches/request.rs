//! Requests and JSON answers through the layer, beside the parsers that one would write the same check with and
//! beside the same service without inspection.
//!
//! One iteration is one call: head, body, an answer of `204` (requests) or of the document (answers). The parsers run
//! on the collected body, in front of the same bare service, and check model and tools against the same lists. None of
//! them refuses duplicate keys at every depth, as the layer does.
//!
//! ```text
//! cargo bench --bench request
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that can't go on must stop"
)]

#[expect(dead_code, reason = "the other benches use the rest")]
mod corpus;
mod drive;
mod parsers;
#[expect(dead_code, reason = "the other benches use the rest")]
mod rivals;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use corpus::{Found, Framing};
use drive::{Server, drain, head, length, send};
use parsers::{PARSERS, Parser};

fn requests(criterion: &mut Criterion) {
    for name in ["1KB", "20KB", "1MB"] {
        let body = corpus::request(name).unwrap();
        let expected = parsers::value(&body);
        assert_eq!(expected.model, corpus::MODEL);
        let mut bare = Server::silent();
        let mut governed = bare.governed();
        let head = head(corpus::CHAT);
        let mut group = criterion.benchmark_group(format!("request/{name}"));
        group
            .throughput(Throughput::Bytes(body.len() as u64))
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        group.bench_function("bare forward", |bencher| {
            bencher.iter(|| length(send(&mut bare, &head, &body)));
        });
        group.bench_function("sekuire", |bencher| {
            bencher.iter(|| length(send(&mut governed, &head, &body)));
        });
        for (parser, parse) in PARSERS {
            assert_eq!(parse(&body), expected, "{parser}");
            group.bench_function(parser, |bencher| {
                bencher.iter(|| {
                    assert!(parse(&body).is_allowed());
                    length(send(&mut bare, &head, &body))
                });
            });
        }
        group.finish();
    }
}

fn answers(criterion: &mut Criterion) {
    for name in ["json-1k", "json-20k"] {
        let exchange = corpus::exchange(name).unwrap();
        let request = &exchange.request;
        let mut bare = Server::new(exchange.content_type, exchange.frames(Framing::Event));
        let mut governed = bare.governed();
        let head = head(exchange.path);
        rivals::check_released(send(&mut governed, &head, request), &exchange);
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Bytes(exchange.answer().len() as u64))
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        group.bench_function("bare forward", |bencher| {
            bencher.iter(|| length(send(&mut bare, &head, request)));
        });
        group.bench_function("sekuire", |bencher| {
            bencher.iter(|| length(send(&mut governed, &head, request)));
        });
        let parsers: [(&str, Parser, rivals::Parse); 3] = [
            ("sonic-rs typed", parsers::sonic, rivals::sonic_typed),
            ("serde_json typed", parsers::typed, rivals::serde_typed),
            ("serde_json Value", parsers::value, rivals::serde_value),
        ];
        for (parser, ask, parse) in parsers {
            group.bench_function(parser, |bencher| {
                bencher.iter(|| {
                    assert!(ask(request).is_allowed());
                    let mut found = Found::default();
                    let read = drain(
                        send::<_, drive::Frames>(&mut bare, &head, request),
                        |frame| {
                            parse(&frame, &mut found);
                            true
                        },
                    );
                    assert!(read.is_ok() && found == exchange.found);
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, requests, answers);
criterion_main!(benches);
