//! What inspection costs a whole gateway: `sekuire-gateway` beside the same proxy without the layer, in front of the
//! same upstream, under the same load, in the same minute. All of it on loopback.
//!
//! ```text
//! cargo bench --features gateway --bench load                     # Markdown on stdout, in well under two minutes
//! cargo bench --features gateway --bench load -- --seconds 3 --rounds 7 --connections 1,16,64 --idle 9000
//! ```
//!
//! The upstream and each proxy are processes of their own, so that what the kernel says of a proxy's CPU time and
//! memory is the proxy's alone. A round asks every proxy in turn, in an order that changes from round to round; a
//! ratio is the median over the rounds' own ratios, which is steadier on a busy machine than the figures themselves.
//! Every answer is compared byte by byte with what the upstream sent; one that differs ends the run with an error.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a bench that can't go on must stop, takes the time itself and prints its table"
)]

mod bare;
mod calls;
#[path = "../../src/bin/sekuire-gateway/client.rs"]
mod client;
#[expect(dead_code, reason = "the other benches use the rest")]
#[path = "../corpus/mod.rs"]
mod corpus;
mod generator;
mod mock;
mod process;
mod report;
#[expect(dead_code, reason = "a bare proxy is stopped by its end")]
#[path = "../../src/bin/sekuire-gateway/workers.rs"]
mod workers;

use std::io::Write;
use std::time::Duration;

use clap::{Parser, Subcommand};

use calls::{Call, Kind};
use generator::{Idle, Sample};
use process::{Program, descriptors};
use report::Report;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Compares the gateway with the same proxy without inspection.
#[derive(Debug, Parser)]
struct Options {
    /// How long a proxy is asked at a time.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// How often each proxy is asked the same.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of connections, each with one call at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    connections: Vec<usize>,
    /// Streams that are open at the same time when memory is measured; 0 measures none.
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// Everything once and shortly: says only that it works.
    #[arg(long)]
    test: bool,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What a child process is.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Mock,
    #[command(hide = true)]
    Bare { upstream: http::uri::Authority },
}

fn main() -> Result<(), BoxError> {
    let mut options = Options::parse();
    if options.test {
        options.seconds = 0.1;
        options.rounds = 1;
        options.idle = options.idle.min(20);
    }
    match options.part {
        Some(Part::Mock) => one_thread(mock::serve()),
        Some(Part::Bare { upstream }) => one_thread(bare::serve(upstream)),
        None => one_thread(compare(&options)),
    }
}

/// One thread is enough for what only asks and answers, and leaves more to the proxies.
fn one_thread(part: impl Future<Output = Result<(), BoxError>>) -> Result<(), BoxError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(part)
}

/// Child processes say where they are as the gateway does.
fn announce(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()
}

/// The proxies, the bare one first: the others are compared with it.
const NAMES: [&str; 3] = ["bare", "gateway", "gateway, logging"];

/// The row in which the gateway that logs every decision is asked too.
const LOGGED_AT: usize = 16;

async fn compare(options: &Options) -> Result<(), BoxError> {
    let mock = Program::mock()?;
    let policy = calls::policy_file()?;
    let start = |name| match name {
        "bare" => Program::bare(&mock),
        "gateway" => Program::gateway(&mock, policy.path(), "warn"),
        _ => Program::gateway(&mock, policy.path(), "info"),
    };
    let mut report = Report::default();
    let proxies: Vec<Program> = NAMES.into_iter().map(start).collect::<Result<_, _>>()?;
    for kind in [Kind::Plain, Kind::Stream] {
        let call = Call::new(kind);
        for &connections in &options.connections {
            eprintln!("{kind}, {connections} at a time");
            let asked = if connections == LOGGED_AT { 3 } else { 2 };
            let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); asked];
            for round in 0..options.rounds {
                for turn in 0..asked {
                    let at = (turn + round) % asked;
                    let duration = Duration::from_secs_f64(options.seconds);
                    let sample = generator::load(&proxies[at], &call, connections, duration).await;
                    samples[at].push(sample.map_err(|error| {
                        format!("{}, {kind}, {connections} at a time: {error}", NAMES[at])
                    })?);
                }
            }
            report.add(kind, connections, &samples);
        }
    }
    drop(proxies);
    if options.idle > 0 {
        let idle = fitting(options.idle);
        eprintln!("{idle} open streams");
        let mut each = Vec::new();
        // Fresh processes: what the load before has left behind is nobody's stream.
        for name in [NAMES[0], NAMES[1]] {
            each.push(
                memory(&start(name)?, idle)
                    .await
                    .map_err(|error| format!("{name}, {idle} open streams: {error}"))?,
            );
        }
        report.memory(idle, each[0], each[1]);
    }
    print!("{report}");
    Ok(())
}

/// As many streams as the limit on open files allows: a proxy has two connections for each.
fn fitting(wanted: usize) -> usize {
    let Some(limit) = descriptors() else {
        return wanted;
    };
    let fitting = limit.saturating_sub(200) / 2;
    if fitting < wanted {
        eprintln!(
            "{wanted} streams need {} open files in a proxy, and {limit} are allowed: {fitting} streams instead \
             (`ulimit -n` raises the limit)",
            wanted * 2 + 200
        );
    }
    wanted.min(fitting)
}

/// Resident KiB for each stream that is open and waits.
async fn memory(proxy: &Program, streams: usize) -> Result<f64, BoxError> {
    let call = Call::new(Kind::Idle);
    // What the first calls bring in for good: code, pools, tables.
    drop(Idle::open(proxy, &call, 32).await?);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = proxy.resident()?;
    let open = Idle::open(proxy, &call, streams).await?;
    // Buffers of the moment are given back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = proxy.resident()?;
    drop(open);
    Ok(after.saturating_sub(before) as f64 / streams as f64)
}
