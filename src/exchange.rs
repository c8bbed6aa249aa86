//! One governed call, from its request's head to its answer's last byte, without waiting for anything.
//!
//! Hosts (the tower service, the reqwest-middleware adapter) move bytes and ask here what to do with them. So
//! each host judges the same way, and an exchange is settled and told exactly once however it ends: a guard in
//! `Drop` does what nobody did before.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version, request, response};

use crate::audit::{Decision, End, OnDecision, Phase, Verdict};
use crate::enforcer::{Mode, PolicyEnforcer};
use crate::limits::Ticket;
use crate::respond::Respond;
use crate::violation::{PolicyViolation, Rule, Seen, shown};
use crate::wire::answer::{self, AnswerFacts, Usage};
use crate::wire::endpoint::{self, Class, Endpoint, NoEndpoint};
use crate::wire::error::WireError;
use crate::wire::event::EventReader;
use crate::wire::json::Scratch;
use crate::wire::request::{RequestFacts, read_chat, text_tokens};
use crate::wire::tool::Tool;

const MIB: usize = 1 << 20;
/// Headers by which some servers take another method than the one that was judged.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];
/// A call that names more tools than this is told with the first ones.
const MAX_TOLD_TOOLS: usize = 64;

/// How many bytes may be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) request: usize,
    pub(crate) answer: usize,
    pub(crate) event: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            request: 32 * MIB,
            answer: 64 * MIB,
            event: 64 * MIB,
        }
    }
}

/// Everything that the exchanges of one layer have in common.
#[derive(Clone)]
pub(crate) struct Governor {
    pub(crate) enforcer: PolicyEnforcer,
    pub(crate) respond: Respond,
    pub(crate) caps: Caps,
    /// Base paths beside the known ones.
    pub(crate) bases: Vec<String>,
    /// Endpoints that pass unread, as `METHOD /path`.
    pub(crate) opened: Vec<String>,
    pub(crate) on_decision: Option<OnDecision>,
}

/// What to do with a request, judged by its head.
#[derive(Debug)]
pub(crate) enum Begin {
    Refuse(PolicyViolation),
    /// Send it as it is and pass the answer on unread.
    Pass,
    /// Collect the body and show it to [`Exchange::request`].
    Read(Box<Exchange>),
}

/// What to do with an answer, judged by its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Collect it whole and show it to [`Exchange::document`].
    Document,
    /// As `Document`, for an error answer in prose.
    Prose,
    /// Feed it to an event reader.
    Stream,
}

impl Governor {
    pub(crate) fn new(enforcer: PolicyEnforcer) -> Self {
        Self {
            enforcer,
            respond: Respond::default(),
            caps: Caps::default(),
            bases: Vec::new(),
            opened: Vec::new(),
            on_decision: None,
        }
    }

    pub(crate) fn blocks(&self) -> bool {
        self.enforcer.current_mode() == Mode::Block
    }

    /// Judges a request's head.
    pub(crate) fn begin(self: &Arc<Self>, head: &request::Parts) -> Begin {
        let started = self.enforcer.now();
        let network = self.judge_network(head);
        let found = endpoint::classify(head.method.as_str(), head.uri.path(), &self.bases);
        let (found, lost) = match found {
            Ok(found) => (Some(found), None),
            Err(lost) => (None, Some(lost)),
        };
        let mut exchange = Exchange::new(self.clone(), started, found);
        if let Err(violation) = network.or_else(|violation| exchange.decide_request(violation)) {
            return Begin::Refuse(violation);
        }
        match self.judge_head(head, exchange.endpoint.as_ref(), lost) {
            Ok(true) => Begin::Read(Box::new(exchange)),
            Ok(false) => {
                exchange.pass(Verdict::NotInspected);
                Begin::Pass
            }
            Err(violation) => match exchange.decide_request(violation) {
                Err(violation) => Begin::Refuse(violation),
                // In warn and audit modes what can't be read passes, and is told as not inspected.
                Ok(()) => {
                    exchange.pass(Verdict::NotInspected);
                    Begin::Pass
                }
            },
        }
    }

    /// The network rules on where the request goes.
    fn judge_network(&self, head: &request::Parts) -> Result<(), PolicyViolation> {
        if self.enforcer.policy().network().is_none() {
            return Ok(());
        }
        let unreadable = |message: &'static str| {
            PolicyViolation::new(Rule::RequestUnreadable, Seen::Request, message)
        };
        let (Some(scheme), Some(authority)) = (head.uri.scheme_str(), head.uri.authority()) else {
            return Err(unreadable("network rules need the request's scheme and host, and its URI has none")
                .with_help("place the layer where request URIs are absolute: around the client, above its connector"));
        };
        if authority.as_str().contains('@') {
            return Err(unreadable("the request's URI carries credentials"));
        }
        let mut hosts = head.headers.get_all(header::HOST).iter();
        if let Some(host) = hosts.next() {
            let same = host
                .to_str()
                .is_ok_and(|host| same_host(host, authority.as_str(), scheme));
            if !same || hosts.next().is_some() {
                return Err(unreadable(
                    "the request's `host` header and its URI name different hosts",
                ));
            }
        }
        self.enforcer
            .judge_network(authority.host(), scheme, Seen::Request)
    }

    /// Whether the request is to be read (`true`) or passes unread (`false`).
    fn judge_head(
        &self,
        head: &request::Parts,
        found: Option<&Endpoint>,
        lost: Option<NoEndpoint>,
    ) -> Result<bool, PolicyViolation> {
        if head.method == Method::CONNECT || head.headers.contains_key(header::UPGRADE) {
            return Err(PolicyViolation::new(
                Rule::EndpointNotAllowed,
                Seen::Request,
                "connection upgrades (WebSocket) are refused: their frames can't be inspected here",
            ));
        }
        if METHOD_OVERRIDES
            .iter()
            .any(|name| head.headers.contains_key(*name))
        {
            return Err(unreadable_request(
                "a header overrides the request's method",
            ));
        }
        let Some(endpoint) = found else {
            return Err(no_endpoint(head, lost));
        };
        let name = endpoint_name(endpoint);
        if self.opened.contains(&name) {
            return Ok(false);
        }
        match (endpoint.class, endpoint.api) {
            (Class::Neutral, _) => Ok(false),
            (_, Some(_)) => judge_body_headers(&head.headers).map(|()| true),
            (class, None) => {
                let does = match class {
                    Class::Model => "runs a model",
                    Class::Define => "stores a model or tools for a later run",
                    Class::Output => "returns what a model produced",
                    Class::Indirect => "runs what a file says",
                    Class::Neutral | Class::Denied => "reaches beyond what a policy can govern",
                };
                Err(PolicyViolation::new(
                    Rule::EndpointNotAllowed,
                    Seen::Request,
                    format!("`{name}` {does} and is not inspected; open it knowingly with `SekuireLayer::open_endpoint(\"{name}\")`"),
                )
                .with_value(&name))
            }
        }
    }
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

fn endpoint_name(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.method, endpoint.path)
}

fn no_endpoint(head: &request::Parts, lost: Option<NoEndpoint>) -> PolicyViolation {
    let (method, path) = (shown(head.method.as_str()), shown(head.uri.path()));
    let message = match lost {
        Some(NoEndpoint::Ambiguous(reason)) => {
            format!("path `{path}` could mean different things to different servers: {reason}")
        }
        Some(NoEndpoint::Method) => format!("`{method}` is no documented method of `{path}`"),
        Some(NoEndpoint::Unknown) | None => format!(
            "`{method} {path}` is no known endpoint; if the API begins at another base path, name it with `SekuireLayer::base_path`"
        ),
    };
    PolicyViolation::new(Rule::EndpointNotAllowed, Seen::Request, message)
        .with_value(head.uri.path())
}

fn unreadable_request(message: impl Into<std::borrow::Cow<'static, str>>) -> PolicyViolation {
    PolicyViolation::new(Rule::RequestUnreadable, Seen::Request, message)
}

fn unreadable_answer(message: impl Into<std::borrow::Cow<'static, str>>) -> PolicyViolation {
    PolicyViolation::new(Rule::ResponseUnreadable, Seen::Response, message)
}

/// One JSON content type, no encoding, one framing.
fn judge_body_headers(headers: &HeaderMap) -> Result<(), PolicyViolation> {
    if content_type(headers) != Some(ContentType::Json) {
        return Err(unreadable_request(
            "the request's content type is not exactly one `application/json`",
        ));
    }
    if is_encoded(headers) {
        return Err(unreadable_request(
            "the request's body is encoded (`content-encoding`) and can't be inspected",
        ));
    }
    let framed = headers.contains_key(header::CONTENT_LENGTH)
        && headers.contains_key(header::TRANSFER_ENCODING);
    if framed || headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(unreadable_request(
            "the request states its length more than once",
        ));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentType {
    Json,
    EventStream,
}

/// The content type, when there is exactly one and it is one that is read here.
fn content_type(headers: &HeaderMap) -> Option<ContentType> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() || value.contains(',') {
        return None;
    }
    let mut parts = value.split(';');
    let essence = parts.next()?.trim().to_ascii_lowercase();
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !(value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8"))
        {
            return None;
        }
    }
    match essence.as_str() {
        "text/event-stream" => Some(ContentType::EventStream),
        "application/json" => Some(ContentType::Json),
        other => (other.starts_with("application/") && other.ends_with("+json"))
            .then_some(ContentType::Json),
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity") && !value.is_empty())
}

/// A governed call in flight.
#[derive(Debug)]
pub(crate) struct Exchange {
    governor: Arc<Governor>,
    started: Duration,
    endpoint: Option<Endpoint>,
    model: Option<String>,
    /// The tools to be told: declared, then called.
    tools: Vec<String>,
    prompt_tokens: u64,
    choices: u64,
    /// The first violation, refused or observed.
    violation: Option<PolicyViolation>,
    /// Held from admission to settlement.
    ticket: Option<Ticket>,
    sent: bool,
    failed_status: bool,
    usage: Option<u64>,
    /// Bytes of generated text.
    text: u64,
    /// What was seen can't be judged, and passed in warn or audit mode.
    unread: bool,
    /// The answer's end was seen.
    whole: bool,
    told: bool,
}

impl std::fmt::Debug for Governor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governor")
            .field("enforcer", &self.enforcer)
            .field("respond", &self.respond)
            .field("caps", &self.caps)
            .field("bases", &self.bases)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    fn new(governor: Arc<Governor>, started: Duration, endpoint: Option<Endpoint>) -> Self {
        Self {
            governor,
            started,
            endpoint,
            model: None,
            tools: Vec::new(),
            prompt_tokens: 0,
            choices: 1,
            violation: None,
            ticket: None,
            sent: false,
            failed_status: false,
            usage: None,
            text: 0,
            unread: false,
            whole: false,
            told: false,
        }
    }

    pub(crate) fn governor(&self) -> &Arc<Governor> {
        &self.governor
    }

    /// The most bytes of a request's body to collect. Without blocking nothing is refused, whatever its size: the
    /// body is the caller's own.
    pub(crate) fn request_cap(&self) -> usize {
        if self.governor.blocks() {
            self.governor.caps.request
        } else {
            usize::MAX
        }
    }

    /// Carries out a violation: refused in block mode (and told), noted otherwise.
    fn decide(&mut self, violation: PolicyViolation) -> Result<(), PolicyViolation> {
        self.violation.get_or_insert_with(|| violation.clone());
        if !self.governor.blocks() {
            return Ok(());
        }
        Err(violation)
    }

    /// As [`decide`](Self::decide), before the request was sent: a refusal is the end of it.
    fn decide_request(&mut self, violation: PolicyViolation) -> Result<(), PolicyViolation> {
        let decided = self.decide(violation);
        if decided.is_err() {
            self.tell(Phase::Request, Verdict::Refused, None);
            self.told = true;
        }
        decided
    }

    /// The body was too large or had trailers: it can't be judged, nor sent on in pieces.
    pub(crate) fn unreadable_body(&mut self, message: &'static str) -> PolicyViolation {
        let violation = unreadable_request(message);
        self.violation.get_or_insert_with(|| violation.clone());
        self.tell(Phase::Request, Verdict::Refused, None);
        self.told = true;
        violation
    }

    /// The request passes unread, and so does its answer.
    fn pass(&mut self, verdict: Verdict) {
        self.tell(Phase::Request, verdict, None);
        self.told = true;
    }

    /// Judges and admits a request by its body.
    pub(crate) fn request(&mut self, body: &[u8]) -> Result<(), PolicyViolation> {
        let facts = match read_chat(body, &mut Scratch::default()) {
            Ok(facts) => facts,
            Err(error) => {
                self.decide_request(unreadable_request(format!(
                    "the request can't be read: {error}"
                )))?;
                self.unread = true;
                RequestFacts::default()
            }
        };
        let governor = self.governor.clone();
        let enforcer = &governor.enforcer;
        self.note(&facts);
        let deployment = self
            .endpoint
            .as_ref()
            .and_then(|endpoint| endpoint.deployment.as_deref());
        if let Err(violation) = enforcer.judge_request(&facts, deployment) {
            self.decide_request(violation)?;
        }
        let deployment = self
            .endpoint
            .as_ref()
            .and_then(|endpoint| endpoint.deployment.as_deref());
        let models = deployment
            .into_iter()
            .chain(facts.model.as_deref())
            .chain(facts.more_models.iter().map(String::as_str));
        match enforcer.admit(self.started, models) {
            Ok(ticket) => self.ticket = Some(ticket),
            Err(violation) => self.decide_request(violation)?,
        }
        let verdict = if self.unread {
            Verdict::NotInspected
        } else {
            self.verdict()
        };
        self.tell(Phase::Request, verdict, None);
        self.sent = true;
        Ok(())
    }

    /// Keeps what a later decision or the audit needs of a request.
    fn note(&mut self, facts: &RequestFacts) {
        self.model = facts.model.clone();
        for tool in &facts.tools {
            self.note_tool(tool);
        }
        self.prompt_tokens = facts.prompt_tokens;
        self.choices = facts.choices.unwrap_or(1).max(1);
    }

    fn note_tool(&mut self, tool: &Tool) {
        if self.tools.len() < MAX_TOLD_TOOLS && !self.tools.contains(&tool.name) {
            self.tools.push(tool.name.clone());
        }
    }

    /// Prepares the head of an admitted request: the answer must come back in a form that can be read, and the length
    /// is that of the collected body.
    pub(crate) fn prepare(&self, head: &mut request::Parts, body: &Bytes) {
        if !self.governor.blocks() {
            return;
        }
        head.headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        // The body is whole by now: nothing is left to wait for or to send in pieces.
        head.headers.remove(header::EXPECT);
        if head.version != Version::HTTP_2
            && head.headers.remove(header::TRANSFER_ENCODING).is_some()
            || head.headers.contains_key(header::CONTENT_LENGTH)
        {
            head.headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
    }

    /// The call failed below, before an answer came.
    pub(crate) fn failed(&mut self) {
        // Nothing says that a model ran: a refused connection must not cost tokens.
        self.finish_with(Some(0), End::Error);
    }

    /// Judges an answer's head. In warn and audit modes an answer that can't be read is `None`: it passes.
    pub(crate) fn answer(
        &mut self,
        head: &mut response::Parts,
    ) -> Result<Option<Answer>, PolicyViolation> {
        self.failed_status = head.status.is_client_error() || head.status.is_server_error();
        match judge_answer_head(head) {
            Ok(answer) => {
                if answer == Answer::Stream && self.governor.blocks() {
                    // Events may be changed or withheld, so no length can be promised.
                    head.headers.remove(header::CONTENT_LENGTH);
                }
                Ok(Some(answer))
            }
            Err(violation) => {
                self.refuse_answer(violation)?;
                self.unread = true;
                Ok(None)
            }
        }
    }

    /// Judges an answer that was collected whole.
    pub(crate) fn document(&mut self, kind: Answer, body: &[u8]) -> Result<(), PolicyViolation> {
        if body.is_empty() && kind == Answer::Prose {
            return self.complete();
        }
        if kind == Answer::Prose {
            if looks_like_an_answer(body) {
                self.refuse_answer(unreadable_answer(
                    "the error answer is labelled as text but could be read as JSON or events",
                ))?;
                self.unread = true;
            }
            return self.complete();
        }
        let mut facts = AnswerFacts::default();
        if let Err(error) = answer::read_chat(body, &mut Scratch::default(), &mut facts) {
            self.refuse_answer(unreadable_answer(format!(
                "the answer can't be read: {error}"
            )))?;
            self.unread = true;
            return self.complete();
        }
        self.usage = facts.usage.and_then(Usage::tokens);
        self.text = facts.text;
        if facts.choices.iter().any(|index| *index >= self.choices) {
            self.refuse_answer(unreadable_answer(
                "the answer holds a choice that the request didn't ask for",
            ))?;
        }
        for name in facts.parts.into_iter().flat_map(|part| part.names) {
            self.called(&Tool::function(name.text), Seen::Response)?;
        }
        self.complete()
    }

    /// Judges a tool that the answer calls.
    pub(crate) fn called(&mut self, tool: &Tool, seen: Seen) -> Result<(), PolicyViolation> {
        self.note_tool(tool);
        match self.governor.enforcer.judge_called(tool, seen) {
            Ok(()) => Ok(()),
            Err(violation) => self.refuse_answer(violation),
        }
    }

    /// Carries out a violation in the answer: the call ends with it in block mode.
    pub(crate) fn refuse_answer(
        &mut self,
        violation: PolicyViolation,
    ) -> Result<(), PolicyViolation> {
        let refused = self.decide(violation);
        if refused.is_err() {
            self.finish_with(None, End::Violation);
        }
        refused
    }

    pub(crate) fn unreadable(
        &mut self,
        error: WireError,
        seen: Seen,
    ) -> Result<(), PolicyViolation> {
        self.unread = true;
        self.refuse_answer(unreadable_answer(format!("the answer can't be read: {error}")).at(seen))
    }

    pub(crate) fn over_cap(&mut self, what: &'static str) -> Result<(), PolicyViolation> {
        self.unread = true;
        self.refuse_answer(unreadable_answer(what))
    }

    /// A reader for this call's event stream.
    pub(crate) fn event_reader(&self) -> EventReader {
        EventReader::new(self.choices)
    }

    /// What the stream has used so far.
    pub(crate) fn progress(&mut self, reader: &EventReader) {
        self.usage = reader.tokens();
        self.text = reader.text();
    }

    /// The answer says that it is whole: charges it. The call that crosses a budget doesn't deliver its answer.
    ///
    /// Clients stop reading here, so an exchange that is dropped from now on has ended well.
    pub(crate) fn charge(&mut self) -> Result<(), PolicyViolation> {
        self.whole = true;
        self.settle(None)
            .or_else(|violation| self.refuse_answer(violation))
    }

    /// The answer is whole and its body has ended.
    pub(crate) fn complete(&mut self) -> Result<(), PolicyViolation> {
        self.charge()?;
        self.finish_with(None, End::Complete);
        Ok(())
    }

    /// The upstream broke off.
    pub(crate) fn broken(&mut self) {
        self.finish_with(None, End::Error);
    }

    /// Settles once; `tokens` overrides what is known of the answer.
    fn settle(&mut self, tokens: Option<u64>) -> Result<(), PolicyViolation> {
        let Some(ticket) = self.ticket.take() else {
            return Ok(());
        };
        let tokens = tokens.unwrap_or_else(|| self.tokens());
        let enforcer = &self.governor.enforcer;
        enforcer.settle(enforcer.now(), &ticket, tokens)
    }

    /// What to charge, in tokens: the reported usage, or an upper estimate of prompt and output.
    fn tokens(&self) -> u64 {
        match self.usage {
            Some(tokens) => tokens,
            // A failed call without usage ran no model, as far as anyone can tell.
            None if self.failed_status => 0,
            None => self.prompt_tokens.saturating_add(text_tokens(self.text)),
        }
    }

    /// Settles and tells the end, unless that was done before.
    fn finish_with(&mut self, tokens: Option<u64>, end: End) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        // Over the budget or not, there is nothing left to withhold.
        let _ = self.settle(tokens);
        let verdict = match end {
            End::Violation => Verdict::Refused,
            _ => self.verdict(),
        };
        self.tell(Phase::End, verdict, Some(end));
    }

    fn verdict(&self) -> Verdict {
        match self.violation {
            None => Verdict::Allowed,
            Some(_) if self.unread => Verdict::NotInspected,
            Some(_) if self.governor.blocks() => Verdict::Refused,
            Some(_) => Verdict::Observed,
        }
    }

    fn tell(&self, phase: Phase, verdict: Verdict, end: Option<End>) {
        let enforcer = &self.governor.enforcer;
        let name = self.endpoint.as_ref().map(endpoint_name);
        let ended = phase == Phase::End;
        Decision {
            phase,
            verdict,
            agent: enforcer.policy().agent(),
            endpoint: name.as_deref().unwrap_or_default(),
            model: self.model.as_deref(),
            tools: &self.tools,
            violation: self.violation.as_ref(),
            tokens: ended.then(|| self.tokens()),
            estimated: ended && self.usage.is_none(),
            end,
            duration: enforcer.now().saturating_sub(self.started),
        }
        .tell(enforcer.current_mode(), self.governor.on_decision.as_ref());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.sent {
            // Whoever leaves early pays for the prompt and for what was seen of the answer.
            self.finish_with(
                None,
                if self.whole {
                    End::Complete
                } else {
                    End::Dropped
                },
            );
        }
    }
}

/// Which way an answer is to be read.
fn judge_answer_head(head: &response::Parts) -> Result<Answer, PolicyViolation> {
    let status = head.status;
    if status.is_redirection() {
        return Err(unreadable_answer(format!(
            "the server redirects ({}), and following it would leave the policy",
            status.as_u16()
        ))
        .with_help("point the client at the final address"));
    }
    if status.is_informational() {
        return Err(unreadable_answer(
            "the server switches protocols, which can't be inspected",
        ));
    }
    if is_encoded(&head.headers) {
        return Err(unreadable_answer(
            "the answer is encoded (`content-encoding`) and can't be inspected",
        )
        .with_help("the layer asks for `identity`; a server or proxy below it ignored that"));
    }
    match content_type(&head.headers) {
        Some(ContentType::Json) => Ok(Answer::Document),
        Some(ContentType::EventStream) => Ok(Answer::Stream),
        None if status.is_client_error()
            || status.is_server_error()
            || status == StatusCode::NO_CONTENT =>
        {
            Ok(Answer::Prose)
        }
        None => Err(unreadable_answer(
            "the answer's content type is neither `application/json` nor `text/event-stream`",
        )),
    }
}

/// Whether some client could take this text for an answer: a JSON document, in whatever encoding, or events.
fn looks_like_an_answer(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return true;
    };
    let text = text.trim_start();
    let opens_json = text.starts_with(['{', '[', '\u{feff}', '\0']) || text.contains('\0');
    opens_json
        || text.lines().any(|line| {
            line.trim_start()
                .get(..4)
                .is_some_and(|word| word.eq_ignore_ascii_case("data"))
        })
}
