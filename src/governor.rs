//! What the exchanges of one layer have in common, and the decisions that need no more than a request's head.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{Method, request};
use tracing::Span;
use tracing::level_filters::LevelFilter;

use crate::accounting::Accounting;
use crate::audit::OnDecision;
use crate::enforcer::{Openings, PolicyEnforcer};
use crate::exchange::Exchange;
use crate::kill_switch::{KillSwitch, Leash};
use crate::policy::{ApiRules, DomainPattern};
use crate::respond::Respond;
use crate::services::Services;
use crate::source::Source;
use crate::violation::{PolicyViolation, Rule, Seen, shown};
use crate::wire::endpoint::{self, Class, Endpoint, NoEndpoint, Request};
use crate::wire::multipart;

const MIB: usize = 1 << 20;
/// Headers by which some servers take another method than the one that was judged.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// How many bytes may be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) request: usize,
    /// A form, which may carry images or sound.
    pub(crate) form: usize,
    pub(crate) answer: usize,
    pub(crate) event: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            request: 32 * MIB,
            form: 64 * MIB,
            answer: 64 * MIB,
            event: 64 * MIB,
        }
    }
}

/// Everything that the exchanges of one layer have in common.
#[derive(Clone)]
pub(crate) struct Governor {
    pub(crate) source: Source,
    pub(crate) respond: Respond,
    pub(crate) caps: Caps,
    /// Base paths beside the known ones.
    pub(crate) bases: Vec<String>,
    /// Endpoints that pass unread, as `METHOD /path`.
    pub(crate) opened: Vec<String>,
    /// Hosts that are no providers: the network rules alone judge them.
    pub(crate) plain_hosts: Vec<DomainPattern>,
    pub(crate) services: Services,
    pub(crate) openings: Openings,
    pub(crate) accounting: Accounting,
    pub(crate) on_decision: Option<OnDecision>,
    pub(crate) kill_switch: Option<KillSwitch>,
    /// Everything is read without the fast ways, as the reference that they are compared with.
    #[cfg(fuzzing)]
    pub(crate) slow: bool,
}

/// What to do with a request, judged by its head.
#[derive(Debug)]
pub(crate) enum Begin {
    Refuse(PolicyViolation),
    /// Send it as it is, in this span, and pass the answer on unread.
    Pass(Span, Option<Box<Leash>>),
    /// Collect the body and show it to [`Exchange::request`].
    Read(Box<Exchange>, Option<Box<Leash>>),
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governor")
            .field("source", &self.source)
            .field("respond", &self.respond)
            .field("caps", &self.caps)
            .field("bases", &self.bases)
            .field("opened", &self.opened)
            .field("plain_hosts", &self.plain_hosts)
            .field("services", &self.services)
            .field("openings", &self.openings)
            .field("accounting", &self.accounting)
            .field("kill_switch", &self.kill_switch)
            .finish_non_exhaustive()
    }
}

impl Governor {
    pub(crate) fn new(source: Source) -> Self {
        Self {
            source,
            respond: Respond::default(),
            caps: Caps::default(),
            bases: Vec::new(),
            opened: Vec::new(),
            plain_hosts: Vec::new(),
            services: Services::default(),
            openings: Openings::default(),
            accounting: Accounting::default(),
            on_decision: None,
            kill_switch: None,
            #[cfg(fuzzing)]
            slow: false,
        }
    }

    /// Whether anybody could be told of decisions: the callback, or a subscriber, of which tracing itself asks no more
    /// before it builds an event.
    pub(crate) fn is_heard(&self) -> bool {
        self.on_decision.is_some() || LevelFilter::current() >= LevelFilter::WARN
    }

    /// Judges a request's head.
    pub(crate) fn begin(self: &Arc<Self>, head: &request::Parts) -> Begin {
        let enforcer = self.source.choose(head);
        let started = enforcer.now();
        // Asked of the URI once: each time it is searched for.
        let host = head.uri.host();
        let place = judge_place(&enforcer, head, host);
        let (found, lost) =
            match endpoint::classify(head.method.as_str(), head.uri.path(), &self.bases) {
                Ok(found) => (Some(found), None),
                Err(lost) => (None, Some(lost)),
            };
        enforcer
            .meters()
            .request(found.as_ref().map(|endpoint| endpoint.class));
        let mut exchange = Exchange::new(self.clone(), enforcer, started, found);
        exchange.name_provider(host);
        let payer = self
            .accounting
            .agent(head)
            .map(|agent| exchange.set_payer(agent));
        if let Err(violation) = payer.or_else(|violation| exchange.decide_request(violation)) {
            return Begin::Refuse(violation);
        }
        let switch = self.kill_switch.as_ref();
        let leash = switch.map(|switch| Box::new(exchange.leash(switch)));
        if let Some(violation) = leash.as_ref().and_then(|leash| leash.pulled()) {
            exchange.stopped(&violation);
            return Begin::Refuse(violation);
        }
        if let Err(violation) = place.or_else(|violation| exchange.decide_request(violation)) {
            return Begin::Refuse(violation);
        }
        let service =
            self.judge_service(exchange.enforcer(), head, host, exchange.endpoint(), lost);
        if let Err(violation) = service.or_else(|violation| exchange.decide_request(violation)) {
            return Begin::Refuse(violation);
        }
        match self.judge_head(head, host, exchange.endpoint(), lost) {
            Ok(true) => {
                exchange.set_boundary(head);
                exchange.set_run(head.uri.path());
                if !matches_host(host, &self.accounting.no_stream_options) {
                    exchange.set_may_ask_for_usage();
                }
                exchange.head_judged();
                Begin::Read(Box::new(exchange), leash)
            }
            Ok(false) => {
                exchange.pass();
                Begin::Pass(exchange.span().clone(), leash)
            }
            Err(violation) => match exchange.decide_request(violation) {
                Err(violation) => Begin::Refuse(violation),
                // In warn and audit modes what can't be read passes, and is told as not inspected.
                Ok(()) => {
                    exchange.pass();
                    Begin::Pass(exchange.span().clone(), leash)
                }
            },
        }
    }

    /// The rules on services, and on their endpoints.
    fn judge_service(
        &self,
        enforcer: &PolicyEnforcer,
        head: &request::Parts,
        host: Option<&str>,
        found: Option<&Endpoint>,
        lost: Option<NoEndpoint>,
    ) -> Result<(), PolicyViolation> {
        if !enforcer.policy().api().is_some_and(ApiRules::is_restricted) {
            return Ok(());
        }
        let host = host.unwrap_or_default();
        let Some(service) = self.services.of(host) else {
            return enforcer.judge_unknown_service(host);
        };
        let path = match (found, lost) {
            (Some(endpoint), _) => endpoint.path,
            // Which path a server makes of it can't be told.
            (None, Some(NoEndpoint::Ambiguous(_))) => "",
            (None, _) => {
                let path = head.uri.path();
                path.strip_prefix("/v1/").unwrap_or(path)
            }
        };
        enforcer.judge_api(service, Some(path), Seen::Request)
    }

    /// Whether the request is to be read (`true`) or passes unread (`false`).
    fn judge_head(
        &self,
        head: &request::Parts,
        host: Option<&str>,
        found: Option<&Endpoint>,
        lost: Option<NoEndpoint>,
    ) -> Result<bool, PolicyViolation> {
        let refused = |message: &'static str| {
            Err(PolicyViolation::new(
                Rule::EndpointNotAllowed,
                Seen::Request,
                message,
            ))
        };
        if head.method == Method::CONNECT || head.headers.contains_key(header::UPGRADE) {
            return refused(
                "connection upgrades (WebSocket) are refused: their frames can't be inspected here",
            );
        }
        // Compared with the few names that are there: to look up each of these costs more.
        if head
            .headers
            .keys()
            .any(|name| METHOD_OVERRIDES.contains(&name.as_str()))
        {
            return Err(unreadable("a header overrides the request's method"));
        }
        if matches_host(host, &self.plain_hosts) {
            let provider = match found {
                Some(endpoint) => endpoint.class != Class::Neutral,
                None => endpoint::resembles(head.method.as_str(), head.uri.path(), &self.bases),
            };
            if provider {
                return refused("a provider's path on a host that was declared to be no provider");
            }
            return Ok(false);
        }
        let Some(endpoint) = found else {
            return Err(no_endpoint(head, lost));
        };
        // Which of two versions Azure would take, and with it which meaning, is Azure's affair.
        let versions = head
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| pair.starts_with("api-version="));
        if endpoint.deployment.is_some() && versions.count() > 1 {
            return Err(unreadable(
                "the request names its `api-version` more than once",
            ));
        }
        let name = endpoint.name;
        if self.opened.iter().any(|opened| opened == name) {
            return Ok(false);
        }
        match (endpoint.class, endpoint.request) {
            (Class::Neutral, _) => Ok(false),
            (class, Request::Unread) => Err(not_inspected(name, class)),
            (_, request) => judge_body_headers(&head.headers, request).map(|()| true),
        }
    }
}

/// Whether the request says where it goes, where that matters, and the network rules on it.
fn judge_place(
    enforcer: &PolicyEnforcer,
    head: &request::Parts,
    host: Option<&str>,
) -> Result<(), PolicyViolation> {
    let policy = enforcer.policy();
    let network = policy.network().is_some();
    if !network && !policy.api().is_some_and(ApiRules::is_restricted) {
        return Ok(());
    }
    let (Some(scheme), Some(authority), Some(host)) =
        (head.uri.scheme_str(), head.uri.authority(), host)
    else {
        let message = if network {
            "network rules need the request's scheme and host, and its URI has none"
        } else {
            "rules on services need the request's scheme and host, and its URI has none"
        };
        return Err(unreadable(message)
            .with_help("place the layer where request URIs are absolute: around the client, above its connector"));
    };
    if authority.as_str().contains('@') {
        return Err(unreadable("the request's URI carries credentials"));
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    if let Some(stated) = hosts.next() {
        let same = stated
            .to_str()
            .is_ok_and(|stated| same_host(stated, authority.as_str(), scheme));
        if !same || hosts.next().is_some() {
            return Err(unreadable(
                "the request's `host` header and its URI name different hosts",
            ));
        }
    }
    enforcer.judge_network(host, scheme, Seen::Request)
}

fn matches_host(host: Option<&str>, patterns: &[DomainPattern]) -> bool {
    host.is_some_and(|host| patterns.iter().any(|pattern| pattern.matches_host(host)))
}

/// Whether a `host` header and a URI's authority are the same place.
fn same_host(host: &str, authority: &str, scheme: &str) -> bool {
    let bare = |text: &str| -> String {
        let default = if matches!(scheme, "https" | "wss") {
            ":443"
        } else {
            ":80"
        };
        let text = text.to_ascii_lowercase();
        text.strip_suffix(default)
            .unwrap_or(&text)
            .trim_end_matches('.')
            .to_owned()
    };
    bare(host) == bare(authority)
}

fn not_inspected(name: &str, class: Class) -> PolicyViolation {
    let does = match class {
        Class::Model => "runs a model",
        Class::Define => "stores a model or tools for a later run",
        Class::Output => "returns what a model produced",
        Class::Indirect => "runs what a file says",
        Class::Neutral | Class::Denied => "reaches beyond what a policy can govern",
    };
    let message = format!(
        "`{name}` {does} and can't be inspected; open it knowingly (`SekuireLayer::open_endpoint`, `--open-endpoint` of the gateway)"
    );
    PolicyViolation::new(Rule::EndpointNotAllowed, Seen::Request, message).with_value(name)
}

fn no_endpoint(head: &request::Parts, lost: Option<NoEndpoint>) -> PolicyViolation {
    let (method, path) = (shown(head.method.as_str()), shown(head.uri.path()));
    let message = match lost {
        Some(NoEndpoint::Ambiguous(reason)) => {
            format!("path `{path}` could mean different things to different servers: {reason}")
        }
        Some(NoEndpoint::Method) => format!("`{method}` is no documented method of `{path}`"),
        Some(NoEndpoint::Unknown) | None => format!(
            "`{method} {path}` is no known endpoint; if the API begins at another base path, name it \
             (`SekuireLayer::base_path`, `--base-path` of the gateway), and if the host is no model provider, name the \
             host (`SekuireLayer::plain_hosts`)"
        ),
    };
    PolicyViolation::new(Rule::EndpointNotAllowed, Seen::Request, message)
        .with_value(head.uri.path())
}

fn unreadable(message: impl Into<Cow<'static, str>>) -> PolicyViolation {
    PolicyViolation::new(Rule::RequestUnreadable, Seen::Request, message)
}

/// One content type that fits, no encoding, one framing.
fn judge_body_headers(headers: &HeaderMap, request: Request) -> Result<(), PolicyViolation> {
    if headers.contains_key(header::CONTENT_LENGTH)
        && headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().count() > 1
    {
        return Err(unreadable("the request states its length more than once"));
    }
    if is_encoded(headers) {
        return Err(unreadable(
            "the request's body is encoded (`content-encoding`) and can't be inspected",
        ));
    }
    let json = content_type(headers) == Some(ContentType::Json);
    let form = || form_boundary(headers).is_some();
    match request {
        Request::Json(_) if !json => Err(unreadable(
            "the request's content type is not exactly one `application/json`",
        )),
        Request::Form(_) if !json && !form() => Err(unreadable(
            "the request's content type is neither `application/json` nor one plain `multipart/form-data`",
        )),
        Request::File if !form() => Err(unreadable(
            "the request's content type is not one plain `multipart/form-data`",
        )),
        Request::Json(_) | Request::Form(_) | Request::File | Request::Empty | Request::Unread => {
            Ok(())
        }
    }
}

/// The boundary of a form, when the request is exactly one.
pub(crate) fn form_boundary(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        None
    } else {
        multipart::boundary(value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    EventStream,
}

/// The content type, when there is exactly one and it is one that is read here.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<ContentType> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    // As most write them.
    match value.as_bytes() {
        b"application/json" => return Some(ContentType::Json),
        b"text/event-stream" => return Some(ContentType::EventStream),
        _ => {}
    }
    let value = value.to_str().ok()?;
    if value.contains(',') {
        return None;
    }
    let mut parts = value.split(';');
    let essence = parts.next()?.trim();
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        let utf8 = value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8");
        if name.trim().eq_ignore_ascii_case("charset") && !utf8 {
            return None;
        }
    }
    let is = |kind: &str| essence.eq_ignore_ascii_case(kind);
    let begins = |kind: &str| {
        let start = essence.get(..kind.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
    };
    let ends = |kind: &str| {
        let at = essence.len().checked_sub(kind.len());
        let end = at.and_then(|at| essence.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(kind))
    };
    if is("text/event-stream") {
        Some(ContentType::EventStream)
    } else {
        (is("application/json") || begins("application/") && ends("+json"))
            .then_some(ContentType::Json)
    }
}

/// Whether the body is encoded in any way.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity") && !value.is_empty())
}
