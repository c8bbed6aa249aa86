//! The `sekuire-gateway` binary: point any SDK's base URL at it.
//!
//! Its modules in the order in which a request meets them: `serve` accepts the connection, `workers` serve it, `door`
//! refuses what must not pass whatever the policy says, `agents` finds out who asks (by `tokens`, if
//! there are any), `proxy` turns the rest into a request to the upstream (`target`, `headers`,
//! `body`), and the layer judges it on its way to `client`. `admin` tells what was counted, on a
//! listener of its own. `check` asks the same policy the same questions without any traffic.
//!
//! Standard output belongs to the answer (`listening on ...`, the lines of `check`); everything
//! said to a person goes to standard error.

mod admin;
mod agents;
mod body;
mod check;
mod cli;
mod client;
mod door;
mod headers;
mod host;
mod metrics;
mod proxy;
mod refusal;
mod serve;
mod store;
mod target;
mod tokens;
mod workers;

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Check(args) => check::run(&args),
        Command::Schema => match print(&tower_sekuire::Policy::json_schema()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse_to_run(&error),
        },
        Command::HashToken => tokens::run(),
    }
}

/// Ends the program with exit code 2 and its reason on standard error.
///
/// Not through `tracing`: a log filter must not be able to hide why nothing started.
fn refuse_to_run(reason: &dyn Display) -> ExitCode {
    // There is nobody left to tell when standard error is gone too.
    let _ = writeln!(std::io::stderr().lock(), "sekuire-gateway: {reason}");
    ExitCode::from(2)
}

/// Writes `text` to standard output at once. A reader that has gone away is not an error.
fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
