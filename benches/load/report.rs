//! The tables.

use std::fmt;

use crate::calls::Kind;
use crate::generator::Sample;

/// What is reported of a sample, by name.
type Figure = (&'static str, fn(&Sample) -> f64);

const FIGURES: [Figure; 6] = [
    ("calls/s", |sample| sample.per_second),
    ("CPU us per call", |sample| sample.cpu),
    ("p50 ms", |sample| sample.whole.p50),
    ("p99 ms", |sample| sample.whole.p99),
    ("first byte p50 ms", |sample| sample.first.p50),
    ("first byte p99 ms", |sample| sample.first.p99),
];

/// KiB that an idle stream may take over the bare proxy's.
const MEMORY: f64 = 16.0;

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// How many streams, and the KiB of each: bare, gateway.
    memory: Option<(usize, f64, f64)>,
}

#[derive(Debug)]
struct Row {
    kind: Kind,
    connections: usize,
    /// Each proxy's medians.
    medians: Vec<[f64; 6]>,
    /// Of each proxy but the first: its ratios to the first.
    ratios: Vec<[Spread; 6]>,
}

/// A median, and the least and most of what it is the median of.
#[derive(Clone, Copy, Debug)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Self {
            least: values[0],
            median,
            most: values[values.len() - 1],
        }
    }
}

impl Report {
    /// The samples by proxy and round, the bare proxy's first.
    pub(crate) fn add(&mut self, kind: Kind, connections: usize, samples: &[Vec<Sample>]) {
        let median =
            |of: &Vec<Sample>| FIGURES.map(|(_, figure)| Spread::of(of.iter().map(figure)).median);
        let (bare, others) = samples.split_first().unwrap();
        let ratio = |of: &Vec<Sample>| {
            FIGURES.map(|(_, figure)| {
                Spread::of(
                    of.iter()
                        .zip(bare)
                        .map(|(one, bare)| figure(one) / figure(bare)),
                )
            })
        };
        self.rows.push(Row {
            kind,
            connections,
            medians: samples.iter().map(median).collect(),
            ratios: others.iter().map(ratio).collect(),
        });
    }

    pub(crate) const fn memory(&mut self, streams: usize, bare: f64, gateway: f64) {
        self.memory = Some((streams, bare, gateway));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        writeln!(
            f,
            "Bare proxy / gateway / gateway that logs every decision, medians; {cores} cores for everything:\n"
        )?;
        write!(f, "| call | connections |")?;
        for (name, _) in FIGURES {
            write!(f, " {name} |")?;
        }
        writeln!(f, "\n|---|---|{}", "---|".repeat(FIGURES.len()))?;
        for row in &self.rows {
            write!(f, "| {} | {} |", row.kind, row.connections)?;
            for figure in 0..FIGURES.len() {
                let cells: Vec<String> = row
                    .medians
                    .iter()
                    .map(|medians| short(medians[figure]))
                    .collect();
                write!(f, " {} |", cells.join(" / "))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nGateway over bare proxy, medians of the rounds' ratios (least to most):\n"
        )?;
        writeln!(f, "| what | connections | measured | target | |")?;
        writeln!(f, "|---|---|---|---|---|")?;
        for row in &self.rows {
            let cpu_target = if row.kind == Kind::Plain { 1.10 } else { 1.05 };
            for (at, ratios) in row.ratios.iter().enumerate() {
                let logging = if at == 0 { "" } else { ", logging" };
                let [calls, cpu, ..] = ratios;
                let mut line = |what: &str, spread: &Spread, target: f64, at_least: bool| {
                    let met = if at > 0 {
                        ""
                    } else if (spread.median >= target) == at_least {
                        "met"
                    } else {
                        "missed"
                    };
                    let bound = if at > 0 {
                        String::new()
                    } else {
                        format!(
                            "{} {target:.2}x",
                            if at_least { "at least" } else { "at most" }
                        )
                    };
                    writeln!(
                        f,
                        "| {what}, {}{logging} | {} | {:.2}x ({:.2} to {:.2}) | {bound} | {met} |",
                        row.kind, row.connections, spread.median, spread.least, spread.most,
                    )
                };
                line("CPU", cpu, cpu_target, false)?;
                line("calls/s", calls, 0.9, true)?;
            }
        }
        if let Some((streams, bare, gateway)) = self.memory {
            let over = gateway - bare;
            writeln!(
                f,
                "| memory of an idle stream | {streams} | {over:.1} KiB over the bare proxy's {bare:.1} KiB | \
                 at most {MEMORY:.0} KiB | {} |",
                if over <= MEMORY { "met" } else { "missed" }
            )?;
        }
        Ok(())
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
