//! The command line: what can be asked for, and nothing of how it is done.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::HeaderName;
use tower_sekuire::{Mode, Policy, PolicyError, PolicyLoader, SekuireLayer, Trust};

use crate::{
    agents::header_name,
    check::DomainQuestion,
    host::{HostName, HostPort},
    store::FailureArg,
    target::BasePath,
};

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
    Serve(Box<ServeArgs>),
    /// Say what the policy enforces and how it decides, without any traffic.
    ///
    /// Exits with 0 when everything asked is allowed, 1 when something is blocked, 2 when the
    /// policy can't be loaded.
    Check(CheckArgs),
    /// Print the policy file's JSON Schema, for editors that complete and check it.
    Schema,
    /// Print the form in which the file of --agent-tokens keeps the token on standard input.
    HashToken,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The policy: a `sekuire.yml` or `policy.json`.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// The agent in the policy; needed when the policy names several.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Load a policy also when it asks for something that isn't enforced here, such as approvals.
    #[arg(long)]
    pub(crate) accept_unenforced: bool,
    /// Load only a policy that is signed by a key in this file, which also names the workspace.
    #[arg(long, value_name = "KEYFILE")]
    pub(crate) trust: Option<PathBuf>,
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
    #[command(flatten)]
    pub(crate) agents: AgentArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Put in force what the policy file comes to say as soon as it says it; without this, on SIGHUP.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Tell on this loopback address which policy is in force and what each agent has used of its limits.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,
    /// Take orders there, to stop agents and let them go on, from whoever shows the token in this environment variable.
    #[arg(long, value_name = "NAME", requires = "admin")]
    pub(crate) admin_token_env: Option<String>,
    /// Add a line of JSON to this file for each decision.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// A name that clients may reach the gateway by, besides its own address; with a port, only
    /// that port. May be given several times.
    #[arg(long = "host", value_name = "NAME[:PORT]")]
    pub(crate) hosts: Vec<HostName>,
    /// Connections served at the same time; further ones wait in the listen queue.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,
    /// A path at the upstream under which the API begins, besides the known ones and that of
    /// --upstream; a last segment `{}` stands for an Azure deployment. May be given several times,
    /// as all below.
    #[arg(long = "base-path", value_name = "PATH")]
    pub(crate) base_paths: Vec<BasePath>,
    /// Let this endpoint pass unread, named as its refusal names it: "POST /batches".
    #[arg(long = "open-endpoint", value_name = "METHOD /PATH")]
    pub(crate) open_endpoints: Vec<EndpointName>,
    /// Let requests use the stored prompt, agent or workflow of this id.
    #[arg(long = "open-stored", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) open_stored: Vec<String>,
    /// Bind an MCP server's label to the host, with its port if it has one, or to the connector
    /// that it may stand for.
    #[arg(long = "mcp-server", value_name = "LABEL=HOST")]
    pub(crate) mcp_servers: Vec<McpServer>,
    /// Say which service a host is, for a policy that restricts services (`permissions.api`).
    #[arg(long = "service-host", value_name = "SERVICE=HOST")]
    pub(crate) service_hosts: Vec<ServiceHost>,
    /// Refuse conversations that name a tool that isn't allowed, as history too.
    #[arg(long)]
    pub(crate) strict_history: bool,
    /// Refuse requests that go on from state that the provider keeps.
    #[arg(long)]
    pub(crate) strict_state: bool,
}

/// Who a request comes from.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Serve only requests with a bearer token from this file, and count each for its token's agent.
    #[arg(long, value_name = "FILE")]
    pub(crate) agent_tokens: Option<PathBuf>,
    /// Count each request for the agent that this header names. Whoever sets it chooses the budget.
    #[arg(long, value_name = "NAME", conflicts_with = "agent_tokens", value_parser = header_name)]
    pub(crate) agent_header: Option<HeaderName>,
}

/// How the policy's limits are counted and told.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Say on answers what is left of the limits, in OpenAI's `x-ratelimit-*` headers.
    #[arg(long)]
    pub(crate) rate_limit_headers: bool,
    /// Tokens to reserve for each choice of an answer that its request doesn't cap.
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    pub(crate) default_output_tokens: u64,
    /// Never write `stream_options` into requests: the upstream refuses the field, so streams are
    /// charged an estimate.
    #[arg(long)]
    pub(crate) no_stream_options: bool,
    /// Count tokens after the call only; calls under way together can then cross a limit.
    #[arg(long)]
    pub(crate) no_reservations: bool,
    /// Let a stream go on that outgrows what is reserved for it when nothing is left; the next call is refused.
    #[arg(long)]
    pub(crate) let_streams_outgrow: bool,
}

/// Where the policy's limits are counted, unless in this process.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Count the limits in this Redis or Valkey, for all gateways that share it: redis://HOST:PORT/DATABASE,
    /// rediss:// with TLS.
    #[arg(long, value_name = "URL", conflicts_with = "redis_env")]
    pub(crate) redis: Option<String>,
    /// As --redis, with the address, which may hold a password, in this environment variable.
    #[arg(long, value_name = "NAME")]
    pub(crate) redis_env: Option<String>,
    /// What the keys in Redis begin with: gateways with the same share a budget.
    #[arg(long, value_name = "TEXT", default_value = "sekuire")]
    pub(crate) redis_prefix: String,
    /// How long a request waits for Redis, in milliseconds.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) redis_timeout_ms: u64,
    /// What holds while Redis doesn't answer: `refuse` requests, or count them here under a fraction
    /// of each limit, `local:0.5`.
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    pub(crate) redis_on_failure: FailureArg,
}

/// An `--open-endpoint`: one that the layer knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointName(pub(crate) String);

impl FromStr for EndpointName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !SekuireLayer::is_endpoint(text) {
            return Err(
                "no known endpoint; write it as its refusal does, below the base path and with `{}` for what varies: \
                 \"POST /uploads/{}/parts\"",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

/// An `--mcp-server`: a label, and what it may stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct McpServer {
    pub(crate) label: String,
    pub(crate) host: String,
}

impl FromStr for McpServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (label, host) = text
            .split_once('=')
            .filter(|(label, _)| !label.is_empty())
            .ok_or("expected LABEL=HOST, LABEL=HOST:PORT or LABEL=CONNECTOR")?;
        if HostPort::parse(host).is_none() {
            return Err(
                "after the label: expected a host, host:port or a connector's id, not a URL",
            );
        }
        Ok(Self {
            label: label.to_owned(),
            host: host.to_owned(),
        })
    }
}

/// A `--service-host`: a service, and a host that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceHost {
    pub(crate) service: String,
    pub(crate) host: String,
}

impl FromStr for ServiceHost {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.split_once('=');
        let named = split.filter(|(service, _)| !service.is_empty());
        let (service, host) = named.ok_or("expected SERVICE=HOST")?;
        match HostPort::parse(host) {
            Some(place) if place.port.is_none() => Ok(Self {
                service: service.to_owned(),
                host: host.to_owned(),
            }),
            _ => Err("after the service: expected a host, without scheme or port"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Ask whether this model may be used. May be given several times, as the next four.
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Ask whether this tool may be used.
    #[arg(long = "tool", value_name = "TOOL")]
    pub(crate) tools: Vec<String>,
    /// Ask whether this host may be reached: over https, or over http when written `http://HOST`.
    #[arg(long = "domain", value_name = "DOMAIN")]
    pub(crate) domains: Vec<DomainQuestion>,
    /// Say which service a host is, for --domain and a policy that restricts services (`permissions.api`).
    #[arg(long = "service-host", value_name = "SERVICE=HOST")]
    pub(crate) service_hosts: Vec<ServiceHost>,
    /// Ask whether this service may be called, named as in `permissions.api`.
    #[arg(long = "service", value_name = "SERVICE")]
    pub(crate) services: Vec<String>,
    /// Ask how many of this many requests, all made now, the limits let through. Limits per model are asked of each
    /// --model by itself.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) requests: u32,
    /// Say with each answer which entry of the policy decided.
    #[arg(long)]
    pub(crate) explain: bool,
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
        self.loader()?.from_path(&self.policy)
    }

    pub(crate) fn loader(&self) -> Result<PolicyLoader, PolicyError> {
        let mut loader = Policy::loader().accept_unenforced(self.accept_unenforced);
        if let Some(agent) = &self.agent {
            loader = loader.agent(agent.as_str());
        }
        if let Some(keys) = &self.trust {
            loader = loader.trust(Trust::from_path(keys)?);
        }
        Ok(loader)
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

    #[test]
    fn an_endpoint_is_one_that_the_layer_knows() {
        for name in ["POST /batches", "POST /uploads/{}/parts", "GET /realtime"] {
            assert!(name.parse::<EndpointName>().is_ok(), "{name}");
        }
        for name in [
            "",
            "/batches",
            "POST  /batches",
            "post /batches",
            "POST /v1/batches",
            "POST /uploads/upload_1/parts",
            "PUT /batches",
            "POST /batches ",
        ] {
            assert!(name.parse::<EndpointName>().is_err(), "{name}");
        }
    }

    #[test]
    fn an_mcp_server_is_a_label_and_a_place() {
        for (text, host) in [
            ("docs=mcp.example.com", "mcp.example.com"),
            ("docs=mcp.example.com:8443", "mcp.example.com:8443"),
            ("docs=connector_gmail", "connector_gmail"),
        ] {
            let server: McpServer = text.parse().unwrap();
            assert_eq!((&*server.label, &*server.host), ("docs", host));
        }
        for text in [
            "docs",
            "=mcp.example.com",
            "docs=",
            "docs=https://h",
            "docs=h/sse",
            "docs=a=b",
        ] {
            assert!(text.parse::<McpServer>().is_err(), "{text}");
        }
    }
}
