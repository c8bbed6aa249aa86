//! Tower middleware that governs AI agents at the HTTP layer.
//!
//! An agent is code that calls a model, runs the tools that the answer asks for, and calls again. [`SekuireLayer`] sits
//! around the HTTP client that carries those calls and holds both directions to one policy, a `sekuire.yml`: the
//! request before it is sent, the answer before it is delivered.
//!
//! ```text
//!              before the call: network, endpoint, model, declared tools, limits
//!           ┌──────────────────────────────────────────────────────────────────┐
//!   agent ──┤                 SekuireService<S>, by one Policy                 ├── S: the HTTP client
//!           └──────────────────────────────────────────────────────────────────┘
//!              after it: called tools, token usage; in a stream event by event
//! ```
//!
//! # Example
//!
//! The service below stands for a client. It answers every request with a stream that calls `file_delete`.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//! use tower_sekuire::{BoxError, Policy, PolicyViolation, Rule, SekuireLayer, Seen};
//!
//! # async fn client(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
//! #     let events = concat!(
//! #         r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Let me tidy up."}}]}"#, "\n\n",
//! #         r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","#,
//! #         r#""function":{"name":"file_delete","arguments":"{}"}}]}}]}"#, "\n\n",
//! #     );
//! #     Ok(Response::builder().header("content-type", "text/event-stream").body(Full::from(events))?)
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = Policy::from_yaml("
//! agent:
//!   models: { allowed_models: [gpt-4o, gpt-4o-mini] }
//!   toolsets: { allowed_tools: [web_search], blocked_tools: [file_delete] }
//! permissions:
//!   network: { require_tls: true, allowed_domains: [api.openai.com] }
//! rate_limits:
//!   per_agent: { requests_per_minute: 10 }
//! ")?;
//! let mut client = ServiceBuilder::new()
//!     .layer(SekuireLayer::new(policy))
//!     .service_fn(client);
//!
//! let ask = |body: &'static str| {
//!     Request::post("https://api.openai.com/v1/chat/completions")
//!         .header("content-type", "application/json")
//!         .body(Full::from(body))
//! };
//!
//! // A request that breaks a rule is an error, and nothing is sent.
//! let error = client.ready().await?.call(ask(r#"{"model":"o3","messages":[]}"#)?).await.unwrap_err();
//! let violation = PolicyViolation::find(&*error).expect("the layer's own error");
//! assert_eq!(violation.to_string(), "[model_not_allowed] Model o3 is not in the allowlist");
//!
//! // An answer that breaks one ends where it does so.
//! let request = ask(r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Tidy up."}]}"#)?;
//! let mut answer = client.ready().await?.call(request).await?.into_body();
//! let text = answer.frame().await.expect("an event")?.into_data().expect("data");
//! assert!(text.starts_with(b"data: ") && !text.windows(11).any(|part| part == b"file_delete"));
//!
//! let error = answer.frame().await.expect("an error").unwrap_err();
//! let violation = PolicyViolation::find(&*error).expect("the layer's own error");
//! assert_eq!(violation.rule(), Rule::ToolBlocked);
//! assert_eq!(violation.seen(), Seen::Event(2));
//! assert!(answer.frame().await.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! # Which host to use
//!
//! | you have | use |
//! |---|---|
//! | a `tower` or hyper-util client | [`SekuireLayer`] around it; for a boxed body see [`SekuireService`] |
//! | a `reqwest::Client` | `SekuireLayer::reqwest_client`, feature `reqwest` |
//! | a `reqwest_middleware` client, or agents of rig's | `SekuireMiddleware`, feature `reqwest-middleware` |
//! | an async-openai client | `SekuireOpenAi`, feature `async-openai` |
//! | an agent in another language, or one that you can't change | the `sekuire-gateway` binary, feature `gateway` |
//! | a gateway of your own | [`SekuireLayer`] with [`Respond::OpenAi`] around its client |
//! | no HTTP: a form, a test, a planner | [`PolicyEnforcer`] |
//!
//! Place the layer directly around the client: below retries, so that every attempt is judged and counted; above
//! redirects, decompression and connectors, so that it sees what the agent gets. `docs/hosts.md` in the repository tells
//! more of each.
//!
//! # What is enforced
//!
//! | | before the call | after it |
//! |---|---|---|
//! | models | `model` in the body, an Azure deployment in the path | |
//! | tools | declared tools, in every form that a request has for them | calls, in JSON and in every event |
//! | network | scheme and host of the request's URI | a redirect is refused |
//! | limits | one request, and an estimate of its tokens, reserved | tokens, from `usage` or an estimate |
//! | reading | strict JSON: what two readers could understand differently is refused | the same, and strict framing of events |
//!
//! **Models and tools.** Names are compared as they stand on the wire, exactly or by `*`; deny wins over allow. A
//! forbidden tool is refused where a request declares it and where an answer calls it, because a model can call a tool
//! that nobody declared.
//!
//! **Endpoints.** Calls that run a model (chat completions, Responses, embeddings, images, audio, video, assistants' runs
//! and more) are read in both directions and spend the limits. Calls that store models or tools for later, or return what a
//! model produced, are read and never charged. Requests that do none of this (lists of models and files, vector stores,
//! most deletes) pass under the network rules alone. What can't be inspected, such as starting a batch or a realtime call, is
//! refused with [`Rule::EndpointNotAllowed`] until it is opened by [`SekuireLayer::open_endpoint`], and so is every unknown
//! path. `docs/surface.md` in the repository lists all endpoints.
//!
//! **Services.** `permissions.api` names services and their endpoints; the layer takes each request's host for the service
//! that it is. [`SekuireLayer::service_hosts`] names those that aren't known.
//!
//! **What a request brings along.** An MCP server's label must lead where network rules or
//! [`SekuireLayer::mcp_server`] say. Stored prompts and agents are refused until [`SekuireLayer::open_stored`] names them.
//! State at the provider and history pass, unless [`SekuireLayer::strict_state`] and [`SekuireLayer::strict_history`] say
//! otherwise. Hosts that are no providers are named by [`SekuireLayer::plain_hosts`].
//!
//! **Streams.** An event leaves in the poll in which it was judged, byte for byte as it came. A forbidden call's event
//! never leaves; the body ends and the server's body is dropped at once. A JSON answer is held until it was judged, so that a
//! refusal is a clean error and not a broken answer.
//!
//! **Limits.** Sliding windows, counted in memory and shared by all clones, or in a [`LimitStore`] that several processes
//! share (Redis, by feature `redis`): in *any* window of the length never more requests than allowed. A call reserves the tokens that it may use when
//! it is admitted, so that calls under way together can't cross a budget, and is charged what it used when it ends.
//!
//! **Modes.** [`Mode::Warn`] and [`Mode::Audit`] decide and count as [`Mode::Block`] does, and let everything pass but a
//! governed body with trailers, which can't be sent on whole.
//!
//! **Refusals.** An error with a [`PolicyViolation`] in it, which [`PolicyViolation::find`] finds through the errors of
//! reqwest, hyper and `io`; or, with [`Respond::OpenAi`], what OpenAI's SDKs raise as their own error and don't retry.
//!
//! **Audit.** Each decision and each answer's end is one `tracing` event of target `tower_sekuire`, in a span of
//! `tower_sekuire::call` that lasts as long as the call and bears OpenTelemetry's names, and one call of
//! [`SekuireLayer::on_decision`]; [`AuditLog`] writes them to a file. Prompts, arguments, keys and queries are never told.
//!
//! # What can't be seen from here
//!
//! - **Redirects below the layer.** A client that follows one itself sends a request that was never judged. Turn that off
//!   (`reqwest::redirect::Policy::none()`); hyper follows none.
//! - **Retries below the layer** are neither judged nor counted. Retry above it.
//! - **WebSockets.** Upgrades are refused; a realtime socket opened by another library doesn't come through here.
//! - **Calls past the client**: an SDK's telemetry, downloads by another client, a tool's own connections. The network
//!   rules hold for the requests of this client only.
//! - **Tools that the provider runs**, such as web search or a code sandbox: that they are declared is judged, what they do
//!   is not.
//! - **State kept by the provider** under keys that are also used without the layer.
//!
//! # Cost
//!
//! A governed request is held whole while it is judged (32 MiB at most, [`SekuireLayer::request_cap`]; a form 64 MiB,
//! [`SekuireLayer::form_cap`]), and so is a JSON answer ([`SekuireLayer::answer_cap`]). Of a stream at most one event
//! is held ([`SekuireLayer::event_cap`]). A body that need not be read is passed on as it came. A thread keeps a few
//! lists of functions that it read (256 KiB at most), which agents send again with every request.
//! `docs/performance.md` in the repository tells what an event, a request and an answer cost beside a client without the
//! layer and beside parsers, and how to measure it.
//!
//! # Cargo features
//!
//! None is on by default; each adds API and changes no decision.
//!
//! - **`gateway`**: the `sekuire-gateway` binary, with its command line, server and TLS client. A library
//!   doesn't need it.
//! - **`async-openai`**: `SekuireOpenAi`, the same decisions below an async-openai client, whose retries stand above.
//! - **`reqwest`**: [`SekuireService`] takes reqwest's requests; `SekuireLayer::reqwest_client` makes a governed client that
//!   follows no redirects.
//! - **`reqwest-middleware`**: the same decisions as a middleware for `reqwest_middleware` clients, which aren't tower
//!   services.
//! - **`decompression`**: `SekuireLayer::decompressing`, for answers that arrive encoded although the layer asks for
//!   `identity`: they are decoded within bounds and then judged.
//! - **`metrics`**: decisions, tokens, durations and what is held, counted through the `metrics` facade;
//!   `describe_metrics`.
//! - **`redis`**, **`redis-tls`**: `RedisStore`, limits that several processes share through Redis or Valkey.
//! - **`signed`**: `Trust` and `PolicyLoader::trust`, for policies in signed envelopes, verified against pinned keys;
//!   `sekuire_id`, the id that Sekuire gives an agent.
//! - **`watch`**: `PolicyFile` and `PolicyWatch`, a policy file that is loaded anew when it changes.
//! - **`full`**: all of them.

mod accounting;
mod audit;
mod body;
#[cfg(feature = "decompression")]
mod decompression;
mod enforcer;
mod exchange;
mod future;
mod governor;
mod held;
mod hosts;
mod kill_switch;
mod layer;
mod limits;
mod meters;
mod policy;
mod respond;
mod service;
mod services;
mod source;
mod span;
mod steps;
mod violation;
#[cfg(feature = "watch")]
mod watch;
mod wire;

pub use accounting::{AgentKey, EstimateTokens, Prompt};
pub use audit::{AuditLog, Decision, End, Phase, Verdict};
pub use body::ResponseBody;
#[cfg(feature = "decompression")]
pub use decompression::{Decoded, DecodedBody, DecodedFuture, DecompressingLayer};
pub use enforcer::{LimitUsage, Mode, PolicyEnforcer, RateLimit};
pub use future::{HttpResponse, ResponseFuture};
#[cfg(feature = "async-openai")]
pub use hosts::async_openai::SekuireOpenAi;
#[cfg(feature = "reqwest")]
pub use hosts::reqwest::ReqwestFuture;
#[cfg(feature = "reqwest-middleware")]
pub use hosts::reqwest_middleware::SekuireMiddleware;
pub use kill_switch::{KillScope, KillSwitch};
pub use layer::SekuireLayer;
pub use limits::{
    Ask, Clock, Counted, Lease, LimitStore, ManualClock, MemoryStore, StoreFuture, StoreRefusal,
    SystemClock,
};
#[cfg(feature = "redis")]
pub use limits::{OnFailure, RedisStatus, RedisStore, RedisStoreBuilder, RedisStoreError};
#[cfg(feature = "metrics")]
pub use meters::describe_metrics;
pub use policy::{
    ApiMatch, ApiRules, ApiService, DomainPattern, FilesystemMatch, FilesystemRules, Limit,
    LimitScope, LimitUnit, NameMatch, NamePattern, NameRules, NetworkMatch, NetworkRules, Notice,
    PathPattern, Policy, PolicyError, PolicyLoader, Problem,
};
#[cfg(feature = "signed")]
pub use policy::{Envelope, Trust, sekuire_id};
pub use respond::Respond;
pub use service::SekuireService;
pub use source::{LivePolicy, PerRequest, PolicySource, PolicyStatus};
pub use violation::{PolicyViolation, Rule, Seen};
#[cfg(feature = "watch")]
pub use watch::{PolicyFile, PolicyWatch};

/// The error type of governed services and bodies: whatever failed, boxed.
/// [`PolicyViolation::find`] finds a violation in it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The snippets of the README, compiled and run; one is for a feature.
#[cfg(all(doctest, feature = "reqwest"))]
#[doc = include_str!("../README.md")]
struct Readme;
