//! The command line: what can be asked for, and nothing of how it is done.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tower_sekuire::{Mode, Policy, PolicyError};

use crate::{check::DomainQuestion, host::HostName};

/// Governs AI agents by a `sekuire.yml`, between any OpenAI SDK and its provider.
#[derive(Debug, Parser)]
#[command(name = "sekuire-gateway", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward requests to the upstream, judging each request and each answer by the policy.
    Serve(ServeArgs),
    /// Say what the policy enforces and how it decides, without any traffic.
    ///
    /// Exits with 0 when everything asked is allowed, 1 when something is blocked, 2 when the
    /// policy can't be loaded.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The policy: a `sekuire.yml` or `policy.json`.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// The agent in the policy; needed when it names several.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Load a policy that asks for something nobody here enforces, such as approvals.
    #[arg(long)]
    pub(crate) accept_unenforced: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// The address to listen on; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8787")]
    pub(crate) listen: String,
    /// The provider, with its base path if it has one.
    #[arg(long, value_name = "URL", default_value = "https://api.openai.com")]
    // Parsed later: an error here would repeat the value, which may hold a password.
    pub(crate) upstream: String,
    /// What a violation does: stop the request, be logged, or be recorded.
    #[arg(long, value_enum, default_value_t = ModeArg::Block)]
    pub(crate) mode: ModeArg,
    /// Send the key in this environment variable upstream instead of the clients' own.
    #[arg(long, value_name = "NAME")]
    pub(crate) api_key_env: Option<String>,
    /// Lend the key of --api-key-env to whoever can reach an address that isn't loopback.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
    /// A name that clients may reach the gateway by, besides its own address; with a port, only
    /// that port. May be given several times.
    #[arg(long = "host", value_name = "NAME[:PORT]")]
    pub(crate) hosts: Vec<HostName>,
    /// Connections served at the same time; further ones wait in the listen queue.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Ask whether this model may be used. May be given several times, as the next two.
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Ask whether this tool may be used.
    #[arg(long = "tool", value_name = "TOOL")]
    pub(crate) tools: Vec<String>,
    /// Ask whether this host may be reached: over https, or over http when written `http://HOST`.
    #[arg(long = "domain", value_name = "DOMAIN")]
    pub(crate) domains: Vec<DomainQuestion>,
    /// Ask how many of this many requests, all made now, the limits let through.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) requests: u32,
    /// Print one JSON document instead of lines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// [`Mode`] as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Refuse what the policy forbids.
    Block,
    /// Let everything pass and log violations as warnings.
    Warn,
    /// Let everything pass and record every decision.
    Audit,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Block => Self::Block,
            ModeArg::Warn => Self::Warn,
            ModeArg::Audit => Self::Audit,
        }
    }
}

impl PolicyArgs {
    pub(crate) fn load(&self) -> Result<Policy, PolicyError> {
        let mut loader = Policy::loader().accept_unenforced(self.accept_unenforced);
        if let Some(agent) = &self.agent {
            loader = loader.agent(agent.as_str());
        }
        loader.from_path(&self.policy)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
