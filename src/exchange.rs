//! One governed call, from its request's head to its answer's last byte, without waiting for anything.
//!
//! Hosts (the tower service, the reqwest-middleware adapter) move bytes and ask here what to do with them. So
//! each host judges the same way, and an exchange is settled and told exactly once however it ends: a guard in
//! `Drop` does what nobody did before.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{StatusCode, Version, request, response};
use tracing::Span;

use crate::audit::{Decision, End, Phase, Verdict};
use crate::body::collect::Collected;
use crate::enforcer::{Admission, Asked, Asking, Held, Mode, PolicyEnforcer, Run};
use crate::governor::{ContentType, Governor, content_type, form_boundary, is_encoded};
use crate::kill_switch::{KillSwitch, Leash};
use crate::limits::{Lease, StoreRefusal};
use crate::meters::{self, Counted, Ended, Holds, Moment, Part};
use crate::respond;
use crate::span;
use crate::violation::{PolicyViolation, Rule, Seen};
use crate::wire::answer::{self, AnswerFacts, DocumentFacts, Usage};
use crate::wire::endpoint::{Answer, Class, Endpoint, Format, Request};
use crate::wire::error::WireError;
use crate::wire::event::EventReader;
use crate::wire::json::Scratch;
use crate::wire::known_answers::{self, Api};
use crate::wire::request::{self as body, RequestFacts};
use crate::wire::tool::Tool;
use crate::wire::{batch, multipart, run, splice};

/// A stream that outgrows its reservation asks for at least so many tokens more.
const EXTENSION: u64 = 256;
/// Bytes of text after which a stream that has nothing to spare looks again.
const LEAST_ALLOWANCE: u64 = 1;
/// How many calls were told of.
static CALLS: AtomicU64 = AtomicU64::new(0);
/// A call that names more tools than this is told with the first ones.
const MAX_TOLD_TOOLS: usize = 64;

/// What says of a body that it is as it was, which one that was written into isn't.
const BODY_DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// A request that may leave, unless a store says no.
#[derive(Default)]
pub(crate) struct Judged {
    /// The body to send in place of the client's, where that differs.
    pub(crate) body: Option<Bytes>,
    pub(crate) asking: Option<Asking>,
}

/// A governed call in flight.
#[derive(Debug)]
pub(crate) struct Exchange {
    governor: Arc<Governor>,
    /// The policy as it was when the request came: one for both directions.
    enforcer: PolicyEnforcer,
    started: Duration,
    /// When the step began that is under way, where the clock was read then: nothing in it reads it again.
    step: Option<Duration>,
    /// By this number what is told of it belongs together; 0 where nobody is told.
    number: u64,
    span: Span,
    endpoint: Option<Endpoint>,
    /// The request is a form with this boundary.
    boundary: Option<String>,
    model: Option<String>,
    /// The tools to be told, if there is anybody to tell: declared, then called.
    tools: Vec<String>,
    /// Whose limits count; `None` is the policy's agent.
    agent: Option<Arc<str>>,
    prompt_tokens: u64,
    choices: u64,
    /// The request itself caps the answer's tokens.
    capped: bool,
    /// Bytes of text up to which the answer can't have outgrown its reservation.
    allowance: u64,
    /// It spends from limits.
    counts: bool,
    /// The run goes on after its answer.
    background: bool,
    /// The run whose result is read, by its id.
    reads: Option<String>,
    /// The host takes `stream_options`.
    may_ask_for_usage: bool,
    /// The stream was asked for its usage, and not by the client.
    hides_usage: bool,
    /// The first violation, refused or observed.
    violation: Option<PolicyViolation>,
    /// Held from admission to settlement.
    held: Option<Held>,
    /// Where that is settled, if not here: a run may have begun under an earlier policy.
    began_with: Option<PolicyEnforcer>,
    sent: bool,
    /// How the answer comes, once its head was seen.
    form: Option<Answer>,
    /// What it took to judge the request's head.
    judging: Moment,
    failed_status: bool,
    status: Option<StatusCode>,
    usage: Option<u64>,
    /// What the answer tells of it, for whoever counts more than limits do.
    reported: Usage,
    /// Bytes of generated text.
    text: u64,
    charged: u64,
    /// What was seen can't be judged, and passed in warn or audit mode.
    unread: bool,
    /// That it passes unread was counted.
    unread_counted: bool,
    /// The answer's end was seen.
    whole: bool,
    told: bool,
}

/// What a body asks for: a request, or those on the lines of a file.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and in a box the usual one would cost an allocation"
)]
enum Asks<'b> {
    One(RequestFacts<'b>),
    Several(Vec<RequestFacts<'b>>),
}

impl<'b> Asks<'b> {
    fn all(&self) -> &[RequestFacts<'b>] {
        match self {
            Self::One(facts) => std::slice::from_ref(facts),
            Self::Several(several) => several,
        }
    }
}

impl Exchange {
    pub(crate) fn new(
        governor: Arc<Governor>,
        enforcer: PolicyEnforcer,
        started: Duration,
        endpoint: Option<Endpoint>,
    ) -> Self {
        let number = if governor.is_heard() {
            CALLS.fetch_add(1, Ordering::Relaxed).saturating_add(1)
        } else {
            0
        };
        let span = span::of_call(&enforcer, endpoint.as_ref(), number);
        Self {
            governor,
            enforcer,
            started,
            step: None,
            number,
            span,
            endpoint,
            boundary: None,
            model: None,
            tools: Vec::new(),
            agent: None,
            prompt_tokens: 0,
            choices: 1,
            capped: false,
            allowance: u64::MAX,
            counts: false,
            background: false,
            reads: None,
            may_ask_for_usage: false,
            hides_usage: false,
            violation: None,
            held: None,
            began_with: None,
            sent: false,
            form: None,
            judging: Moment::default(),
            failed_status: false,
            status: None,
            usage: None,
            reported: Usage::default(),
            text: 0,
            charged: 0,
            unread: false,
            unread_counted: false,
            whole: false,
            told: false,
        }
    }

    fn now(&self) -> Duration {
        self.step.unwrap_or_else(|| self.enforcer.now())
    }

    pub(crate) const fn governor(&self) -> &Arc<Governor> {
        &self.governor
    }

    pub(crate) const fn enforcer(&self) -> &PolicyEnforcer {
        &self.enforcer
    }

    /// Whether violations are refused, and not only told.
    pub(crate) fn blocks(&self) -> bool {
        self.enforcer.current_mode() == Mode::Block
    }

    pub(crate) const fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    pub(crate) fn format(&self) -> Format {
        self.endpoint
            .as_ref()
            .map_or(Format::Any, |endpoint| endpoint.format)
    }

    pub(crate) fn set_boundary(&mut self, head: &request::Parts) {
        // Only then was the content type judged to be no form.
        if let Some(endpoint) = &self.endpoint
            && matches!(endpoint.request, Request::Json(_))
        {
            return;
        }
        self.boundary = form_boundary(&head.headers).map(str::to_owned);
    }

    pub(crate) fn set_payer(&mut self, agent: Option<Arc<str>>) {
        self.agent = agent;
    }

    /// Notes which run's result the call reads. The path is the one that was classified.
    pub(crate) fn set_run(&mut self, path: &str) {
        let path = path.strip_suffix('/').unwrap_or(path);
        let path = match self.endpoint.as_ref().map(|endpoint| endpoint.path) {
            Some("/responses/{}") => Some(path),
            Some("/responses/{}/cancel") => path.strip_suffix("/cancel"),
            _ => None,
        };
        let id = path.and_then(|path| path.rsplit('/').next());
        self.reads = id
            .filter(|id| self.enforcer.runs().contains(id))
            .map(str::to_owned);
    }

    pub(crate) fn set_may_ask_for_usage(&mut self) {
        self.may_ask_for_usage = true;
    }

    fn agent(&self) -> &Arc<str> {
        let policy = self.enforcer.agent();
        self.agent.as_ref().unwrap_or(policy)
    }

    /// By what a switch may stop this call.
    pub(crate) fn leash(&self, switch: &KillSwitch) -> Leash {
        let policys = self.enforcer.agent().clone();
        Leash::new(switch, self.agent().clone(), policys, self.governor.respond)
    }

    /// Somebody stopped the call, in whatever mode and wherever it was.
    pub(crate) fn stopped(&mut self, violation: &PolicyViolation) {
        self.violation = Some(violation.clone());
        if self.sent {
            self.finish_with(None, End::Violation);
        } else {
            self.tell(Phase::Request, Verdict::Refused, None);
            self.told = true;
        }
    }

    /// What is done for the whole of the call is done in here.
    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }

    /// Tells the span who is called.
    pub(crate) fn name_provider(&self, host: Option<&str>) {
        if !self.span.is_disabled() {
            let service = host.and_then(|host| self.governor.services.of(host));
            span::name_provider(&self.span, service);
        }
    }

    /// The request's head was judged; its body is waited for from here on.
    pub(crate) fn head_judged(&mut self) {
        self.judging = Moment::at(self.started).since(&self.enforcer);
    }

    /// What collects the request's body.
    pub(crate) fn collects_request(&self) -> Collected {
        let held = self.enforcer.meters().held(Holds::Request);
        Collected::new(self.request_cap()).counted(held)
    }

    /// What collects an answer that is judged whole.
    pub(crate) fn collects_answer(&self) -> Collected {
        let held = self.enforcer.meters().held(Holds::Answer);
        Collected::new(self.governor.caps.answer).counted(held)
    }

    /// The most bytes of a request's body to collect. Without blocking nothing is refused, whatever its size: the
    /// body is the caller's own.
    pub(crate) fn request_cap(&self) -> usize {
        let caps = &self.governor.caps;
        match (self.blocks(), &self.boundary) {
            (true, None) => caps.request,
            (true, Some(_)) => caps.form,
            (false, _) => usize::MAX,
        }
    }

    /// Carries out a violation: refused in block mode, noted otherwise.
    fn decide(&mut self, violation: PolicyViolation) -> Result<(), PolicyViolation> {
        self.violation.get_or_insert_with(|| violation.clone());
        if self.blocks() {
            Err(violation)
        } else {
            Ok(())
        }
    }

    /// As [`decide`](Self::decide), before the request was sent: a refusal is the end of it.
    pub(crate) fn decide_request(
        &mut self,
        violation: PolicyViolation,
    ) -> Result<(), PolicyViolation> {
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
    pub(crate) fn pass(&mut self) {
        self.tell(Phase::Request, Verdict::NotInspected, None);
        self.told = true;
    }

    /// Judges a request by its body, and counts it unless a store is to be asked first.
    pub(crate) fn request(&mut self, body: &[u8]) -> Result<Judged, PolicyViolation> {
        let begun = Moment::now(&self.enforcer);
        self.step = begun.time();
        let judged = self.judge_body(body);
        self.step = None;
        let took = begun.since(&self.enforcer).plus(self.judging);
        self.enforcer.meters().inspected(Part::Request, took);
        judged
    }

    fn judge_body(&mut self, body: &[u8]) -> Result<Judged, PolicyViolation> {
        #[cfg(fuzzing)]
        crate::wire::read_in_full(self.governor.slow);
        let asks = match self.read_request(body) {
            Ok(asks) => asks,
            Err(error) => {
                self.decide_request(unreadable_request(format!(
                    "the request can't be read: {error}"
                )))?;
                self.unread = true;
                Asks::Several(Vec::new())
            }
        };
        let several = asks.all();
        for facts in several {
            self.note(facts, body);
        }
        let class = self.endpoint.as_ref().map(|endpoint| endpoint.class);
        let deployment = self
            .endpoint
            .as_ref()
            .and_then(|endpoint| endpoint.deployment.clone());
        let continues = self
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.path.ends_with("/submit_tool_outputs"));
        for facts in several {
            let asked = Asked {
                deployment: deployment.as_deref(),
                // Every line of a batch runs a model; a run that goes on had its model judged when it began.
                needs_model: matches!(class, Some(Class::Model | Class::Indirect)) && !continues,
                openings: &self.governor.openings,
            };
            if let Err(violation) = self.enforcer.judge_request(facts, &asked) {
                self.decide_request(violation)?;
            }
        }
        let mut judged = Judged::default();
        if class == Some(Class::Model) {
            judged.asking = self.admit(several, deployment.as_deref())?;
            judged.body = several
                .first()
                .and_then(|facts| self.ask_for_usage(facts, body));
        }
        if judged.asking.is_none() {
            self.leaves();
        }
        if let Asks::One(facts) = asks {
            facts.recycle();
        }
        Ok(judged)
    }

    /// Takes in what a store told of the call that it was asked for.
    pub(crate) fn told_by_store(
        &mut self,
        asking: &Asking,
        answer: Result<Lease, StoreRefusal>,
    ) -> Result<(), PolicyViolation> {
        let (held, admitted) = self.enforcer.told(asking, answer);
        self.hold(held);
        admitted.or_else(|violation| self.decide_request(violation))?;
        self.leaves();
        Ok(())
    }

    /// The request goes to the server from here on.
    fn leaves(&mut self) {
        let verdict = if self.unread {
            Verdict::NotInspected
        } else {
            self.verdict()
        };
        self.tell(Phase::Request, verdict, None);
        self.sent = true;
    }

    /// Counts the call and reserves what it may cost, or asks a store to.
    fn admit(
        &mut self,
        several: &[RequestFacts<'_>],
        deployment: Option<&str>,
    ) -> Result<Option<Asking>, PolicyViolation> {
        let named = several
            .iter()
            .flat_map(|facts| facts.model.iter().chain(&facts.more_models));
        let models = deployment.into_iter().chain(named.map(|model| &**model));
        let accounting = &self.governor.accounting;
        let estimate = if self.reserves() {
            let output = |facts: &RequestFacts<'_>| accounting.output_tokens(facts);
            let output = match self.generates_text() {
                true => several.iter().map(output).fold(0, u64::saturating_add),
                false => 0,
            };
            self.prompt_tokens.saturating_add(output)
        } else {
            0
        };
        self.counts = true;
        self.background = several.iter().any(|facts| facts.background);
        self.capped = several.iter().any(|facts| facts.output_cap.is_some());
        match self
            .enforcer
            .admit(self.started, self.agent(), models, estimate)
        {
            Admission::Asked(asking) => Ok(Some(asking)),
            Admission::Told(held, admitted) => {
                self.hold(held);
                admitted.or_else(|violation| self.decide_request(violation))?;
                Ok(None)
            }
        }
    }

    fn reserves(&self) -> bool {
        self.governor.accounting.reserves && self.enforcer.limits_tokens()
    }

    fn hold(&mut self, held: Option<Held>) {
        if let Some(held) = &held
            && self.reserves()
        {
            self.allowance = held.spare(self.prompt_tokens);
        }
        self.held = held;
    }

    /// The answer is as long as the model likes.
    fn generates_text(&self) -> bool {
        let path = self.endpoint.as_ref().map(|endpoint| endpoint.path);
        !matches!(path, Some("/embeddings" | "/moderations"))
    }

    /// The body by which a stream reports its usage although the client didn't ask, if its tokens are limited.
    fn ask_for_usage(&mut self, facts: &RequestFacts<'_>, body: &[u8]) -> Option<Bytes> {
        let wanted = facts.stream
            && self.may_ask_for_usage
            && self.format() == Format::Chat
            && self.blocks()
            && self.governor.accounting.asks_for_usage
            && self.enforcer.limits_tokens();
        let asking = wanted
            .then(|| splice::ask_for_usage(body, facts.usage_asked))
            .flatten();
        self.hides_usage = asking.is_some();
        asking
    }

    /// An event that reports usage alone is one that the client didn't ask for.
    pub(crate) const fn hides_usage(&self) -> bool {
        self.hides_usage
    }

    /// What the body asks for: one request, or each line of a batch.
    fn read_request<'b>(&self, body: &'b [u8]) -> Result<Asks<'b>, WireError> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(Asks::Several(Vec::new()));
        };
        match (endpoint.request, self.boundary.as_deref()) {
            (Request::Unread, _) => Ok(Asks::Several(Vec::new())),
            // Some clients send an empty object where nothing is due.
            (Request::Empty, _) if matches!(body, b"" | b"{}") => {
                Ok(Asks::One(RequestFacts::default()))
            }
            (Request::Empty, _) => Err(WireError::new("a body where none is documented")),
            (Request::Form(fields), Some(boundary)) => {
                let mut facts = RequestFacts::default();
                for part in multipart::read(body, boundary)? {
                    let known = fields.iter().any(|(key, _)| *key == part.name);
                    if part.file && known && part.name != "prompt" {
                        return Err(WireError::new(
                            "a form field that names a model or tools is a file",
                        ));
                    }
                    if part.file {
                        facts.parts = facts.parts.saturating_add(1);
                    } else {
                        body::read_form_field(part.name, part.content, fields, &mut facts)?;
                    }
                }
                Ok(Asks::One(facts))
            }
            (Request::File, Some(boundary)) => self.read_file(body, boundary),
            (Request::Json(fields) | Request::Form(fields), _) => {
                Scratch::lend(|scratch| body::read(body, fields, scratch)).map(Asks::One)
            }
            (Request::File, None) => Err(WireError::new("an upload that is not a form")),
        }
    }

    /// An upload: a batch is judged line by line, and other files pass unless a model is trained on them.
    fn read_file<'b>(&self, body: &'b [u8], boundary: &str) -> Result<Asks<'b>, WireError> {
        let parts = multipart::read(body, boundary)?;
        // To many servers `purpose[]` is a list of purposes.
        let is = |part: &multipart::Part<'_>, name: &str| {
            let head = part.name.split(['[', '.']).next();
            head.is_some_and(|head| head.eq_ignore_ascii_case(name))
        };
        let mut purposes = parts.iter().filter(|part| is(part, "purpose"));
        let purpose = match (purposes.next(), purposes.next()) {
            (Some(part), None) if part.name == "purpose" && !part.file => part.content,
            _ => return Err(WireError::new("an upload without exactly one purpose")),
        };
        match purpose {
            b"batch" => {}
            b"assistants" | b"vision" | b"user_data" | b"evals" => {
                return Ok(Asks::Several(Vec::new()));
            }
            _ => return Err(WireError::new("an upload whose purpose can't be governed")),
        }
        let mut several = Vec::new();
        // Without a file's name some servers take the content all the same.
        let is_file =
            |part: &&multipart::Part<'_>| part.name != "purpose" && (part.file || is(part, "file"));
        if !parts.iter().any(|part| is_file(&part)) {
            return Err(WireError::new("an upload without a file"));
        }
        for part in parts.iter().filter(is_file) {
            batch::read(part.content, &self.governor.bases, |facts| {
                several.push(facts)
            })?;
        }
        Ok(Asks::Several(several))
    }

    /// Keeps what a later decision or the audit needs of a request.
    fn note(&mut self, facts: &RequestFacts<'_>, body: &[u8]) {
        let is_heard = self.governor.is_heard();
        if self.model.is_none() && is_heard {
            self.model = facts.model.as_deref().map(str::to_owned);
            if let Some(model) = &self.model {
                span::name_model(&self.span, self.endpoint.as_ref(), model);
            }
        }
        if is_heard {
            for tool in &facts.tools {
                self.note_tool(&tool.name);
            }
            for server in &facts.mcp {
                self.note_tool(&Tool::mcp(&server.label, None).name);
            }
        }
        let prompt = self.governor.accounting.prompt_tokens(facts, body);
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt);
        let reads = |endpoint: &Endpoint| endpoint.class == Class::Output;
        self.choices = if self.endpoint.as_ref().is_some_and(reads) {
            // They were asked for when the answer was made.
            u64::MAX
        } else {
            let each = facts.choices.unwrap_or(1).max(1);
            each.saturating_mul(facts.prompts.max(1))
        };
    }

    fn note_tool(&mut self, name: &str) {
        if self.tools.len() < MAX_TOLD_TOOLS && !self.tools.iter().any(|known| known == name) {
            self.tools.push(name.to_owned());
        }
    }

    /// Prepares the head of an admitted request: the answer must come back in a form that can be read, and the length
    /// is that of the collected body.
    pub(crate) fn prepare(&self, head: &mut request::Parts, body: &Bytes) {
        if !self.blocks() {
            return;
        }
        head.headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if self.hides_usage {
            for digest in BODY_DIGESTS {
                head.headers.remove(digest);
            }
        }
        // The body is whole by now: nothing is left to wait for or to send in pieces.
        head.headers.remove(header::EXPECT);
        let pieces = head.version != Version::HTTP_2
            && head.headers.remove(header::TRANSFER_ENCODING).is_some();
        if pieces || head.headers.contains_key(header::CONTENT_LENGTH) {
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
        self.span
            .record("http.response.status_code", head.status.as_u16());
        self.status = Some(head.status);
        self.failed_status = head.status.is_client_error() || head.status.is_server_error();
        if self.counts && self.governor.accounting.headers && self.blocks() {
            let enforcer = &self.enforcer;
            let usage = enforcer.usage_for(self.agent(), self.held.as_ref());
            respond::state_limits(&mut head.headers, &usage);
        }
        match judge_answer_head(head, self.format()) {
            Ok(answer) => {
                self.form = Some(answer);
                if answer == Answer::Stream && self.blocks() {
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
        let begun = self.enforcer.now();
        self.step = Some(begun);
        let judged = self.judge_document(kind, body);
        self.step = None;
        let took = Moment::at(begun).since(&self.enforcer);
        self.enforcer.meters().inspected(Part::Answer, took);
        judged
    }

    fn judge_document(&mut self, kind: Answer, body: &[u8]) -> Result<(), PolicyViolation> {
        if kind == Answer::Prose {
            self.text = body.len() as u64;
            if looks_like_an_answer(body) && !self.is_lines(body)? {
                self.refuse_answer(unreadable_answer(
                    "the answer is labelled as text but could be read as JSON or events",
                ))?;
                self.unread = true;
            }
            return self.complete();
        }
        self.one_document(body)?;
        self.complete()
    }

    /// The content of a file may be a batch's output: one JSON document on each line.
    fn is_lines(&mut self, body: &[u8]) -> Result<bool, PolicyViolation> {
        if self.format() != Format::Media
            || self
                .endpoint
                .as_ref()
                .is_none_or(|endpoint| endpoint.class != Class::Output)
        {
            return Ok(false);
        }
        let read = |scratch: &mut _| answer::read_any(body, scratch, &mut AnswerFacts::default());
        if Scratch::lend(read).is_ok() {
            self.one_document(body)?;
            return Ok(true);
        }
        for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            if !line.is_empty() {
                self.one_document(line)?;
            }
        }
        Ok(true)
    }

    fn one_document(&mut self, document: &[u8]) -> Result<(), PolicyViolation> {
        #[cfg(fuzzing)]
        crate::wire::read_in_full(self.governor.slow);
        let api = match self.format() {
            Format::Chat => Api::Chat,
            Format::Responses | Format::Any | Format::Media => Api::Other,
        };
        known_answers::read(document, api, |read| self.judge_answer(document, api, read))
    }

    fn judge_answer(
        &mut self,
        document: &[u8],
        api: Api,
        read: Result<&DocumentFacts, WireError>,
    ) -> Result<(), PolicyViolation> {
        let facts = match read {
            Ok(facts) => facts,
            Err(error) => {
                self.refuse_answer(unreadable_answer(format!(
                    "the answer can't be read: {error}"
                )))?;
                self.unread = true;
                return Ok(());
            }
        };
        self.usage = self.usage.max(facts.usage.and_then(Usage::tokens));
        self.reported.raise(facts.usage.unwrap_or_default());
        self.text = self.text.saturating_add(facts.text);
        if self.background || self.reads.is_some() {
            self.hand_over(document);
        }
        if api == Api::Chat && facts.choices.reach(self.choices) {
            self.refuse_answer(unreadable_answer(
                "the answer holds a choice that the request didn't ask for",
            ))?;
        }
        facts
            .calls
            .iter()
            .try_for_each(|tool| self.called(tool, Seen::Response))
    }

    /// Hands the reservation of a run that goes on to whoever reads how it ended, or takes it over from the call that
    /// began the run.
    fn hand_over(&mut self, document: &[u8]) {
        let Some(run) = run::read(document) else {
            return;
        };
        if run.ended {
            self.take_over();
        } else if self.background
            && let Some(held) = self.held.take()
        {
            self.enforcer.wait_for_run(Run {
                id: run.id,
                held,
                prompt_tokens: self.prompt_tokens,
                enforcer: self.enforcer.apart(),
            });
        }
    }

    /// The run has ended whose result is read: what was reserved for it is settled here.
    pub(crate) fn take_over(&mut self) {
        let runs = self.enforcer.runs();
        if let Some(run) = self.reads.take().and_then(|id| runs.take(&id)) {
            self.held = Some(run.held);
            self.began_with = Some(run.enforcer);
            self.prompt_tokens = run.prompt_tokens;
        }
    }

    /// Judges a tool that the answer calls.
    pub(crate) fn called(&mut self, tool: &Tool, seen: Seen) -> Result<(), PolicyViolation> {
        if self.governor.is_heard() {
            self.note_tool(&tool.name);
        }
        match self.enforcer.judge_tool(tool, seen) {
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
        let reader = EventReader::new(self.format(), self.choices);
        #[cfg(fuzzing)]
        let reader = reader.in_full(self.governor.slow);
        reader
    }

    /// What the stream has used so far.
    pub(crate) fn progress(&mut self, reader: &EventReader) {
        self.usage = reader.tokens();
        self.reported = reader.usage().unwrap_or_default();
        self.text = reader.text();
    }

    /// As [`progress`](Self::progress), after an event that brought nothing but text. An answer that outgrows its
    /// reservation where nothing is left ends here.
    #[inline]
    pub(crate) fn spoken(&mut self, text: u64) -> Result<(), PolicyViolation> {
        self.text = text;
        if text <= self.allowance {
            return Ok(());
        }
        self.outgrown()
    }

    /// Bytes of text up to which [`spoken`](Self::spoken) says nothing.
    #[inline]
    pub(crate) const fn allowance(&self) -> u64 {
        self.allowance
    }

    /// As [`spoken`](Self::spoken), of no more than the [`allowance`](Self::allowance).
    #[inline]
    pub(crate) const fn spoken_within_allowance(&mut self, text: u64) {
        self.text = text;
    }

    /// Reserves more for an answer that needs it.
    #[cold]
    fn outgrown(&mut self) -> Result<(), PolicyViolation> {
        let governor = self.governor.clone();
        let Some(held) = &mut self.held else {
            self.allowance = u64::MAX;
            return Ok(());
        };
        let output = governor.accounting.surely_generated(self.text, self.capped);
        let needed = self.prompt_tokens.saturating_add(output);
        let missing = needed.saturating_sub(held.reserved());
        if governor.accounting.cuts {
            let more = missing.max(EXTENSION);
            let enforcer = &self.enforcer;
            if let Err(violation) = enforcer.extend(enforcer.now(), held, more)
                && missing > 0
            {
                // Observed once; where nothing is refused, nothing more is to be said.
                self.allowance = u64::MAX;
                return self.refuse_answer(violation);
            }
        }
        // A token has at least one byte, so less text than this can't need more than is reserved.
        let spare = held.spare(needed).max(LEAST_ALLOWANCE);
        self.allowance = self.text.saturating_add(spare);
        Ok(())
    }

    /// The answer says that it is whole: charges it. The call that crosses a budget doesn't deliver its answer.
    ///
    /// Clients stop reading here, so an exchange that is dropped from now on has ended well.
    pub(crate) fn charge(&mut self) -> Result<(), PolicyViolation> {
        self.whole = true;
        self.settle(None)
            .or_else(|violation| self.refuse_answer(violation))
    }

    /// As [`charge`](Self::charge), of a stream: where streams aren't cut, the last event isn't withheld either.
    pub(crate) fn charge_stream(&mut self) -> Result<(), PolicyViolation> {
        if self.governor.accounting.cuts {
            return self.charge();
        }
        self.whole = true;
        // Charged all the same: the next call is refused.
        let _ = self.settle(None);
        Ok(())
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
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        self.charged = tokens.unwrap_or_else(|| self.tokens(held.estimate()));
        self.allowance = u64::MAX;
        match &self.began_with {
            Some(enforcer) => enforcer.settle(enforcer.now(), held, self.charged),
            None => self.enforcer.settle(self.now(), held, self.charged),
        }
    }

    /// What to charge, in tokens: the reported usage, or an upper estimate of prompt and output.
    fn tokens(&self, estimate: u64) -> u64 {
        match self.usage {
            Some(tokens) => tokens,
            // A failed call without usage ran no model, as far as anyone can tell.
            None if self.failed_status => 0,
            // It runs on unseen.
            None if self.background => estimate.max(1),
            // An answer that came was never free.
            None => self
                .prompt_tokens
                .saturating_add(self.governor.accounting.estimate.output_tokens(self.text))
                .max(1),
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
            Some(_) if self.blocks() => Verdict::Refused,
            Some(_) => Verdict::Observed,
        }
    }

    /// What was charged is no more than an estimate.
    fn is_estimated(&self) -> bool {
        self.usage.is_none() && self.charged > 0
    }

    fn count(&mut self, phase: Phase, verdict: Verdict, end: Option<End>, duration: Duration) {
        let class = self.endpoint.as_ref().map(|endpoint| endpoint.class);
        let unread =
            verdict == Verdict::NotInspected && !std::mem::replace(&mut self.unread_counted, true);
        let ended = end.map(|end| Ended {
            end,
            form: self.form,
            duration,
            charged: self.charged,
            estimated: self.is_estimated(),
            usage_missing: end == End::Complete
                && class == Some(Class::Model)
                && self.usage.is_none()
                && !self.failed_status
                && !self.background,
            input: self.reported.input,
            output: self.reported.output,
        });
        let counted = Counted {
            phase,
            verdict,
            rule: self.violation.as_ref().map(PolicyViolation::rule),
            mode: self.enforcer.current_mode(),
            class,
            unread,
            ended,
        };
        self.enforcer.meters().decided(&counted);
    }

    fn tell(&mut self, phase: Phase, verdict: Verdict, end: Option<End>) {
        let is_heard = self.governor.is_heard();
        if !is_heard && !meters::COUNTS {
            return;
        }
        let duration = self.now().saturating_sub(self.started);
        if meters::COUNTS {
            self.count(phase, verdict, end, duration);
        }
        if !is_heard {
            return;
        }
        let enforcer = &self.enforcer;
        let outcome = span::Outcome {
            agent: self.agent(),
            sekuire_id: enforcer.policy().sekuire_id_of(self.agent()),
            verdict,
            rule: self
                .violation
                .as_ref()
                .map(|violation| violation.rule().as_str()),
            failed: self
                .status
                .filter(|_| self.failed_status)
                .map(|status| status.as_u16()),
            end,
            tokens: self.charged,
            estimated: self.is_estimated(),
            input: self.reported.input,
            output: self.reported.output,
        };
        span::record(&self.span, &outcome);
        let name = self.endpoint.as_ref().map(|endpoint| endpoint.name);
        let ended = phase == Phase::End;
        let reported = if ended {
            self.reported
        } else {
            Usage::default()
        };
        let decision = Decision {
            call: self.number,
            phase,
            verdict,
            mode: enforcer.current_mode(),
            agent: self.agent(),
            sekuire_id: enforcer.policy().sekuire_id_of(self.agent()),
            policy_version: enforcer.version(),
            endpoint: name.unwrap_or_default(),
            model: self.model.as_deref(),
            tools: &self.tools,
            violation: self.violation.as_ref(),
            tokens: ended.then_some(self.charged),
            estimated: ended && self.is_estimated(),
            input_tokens: reported.input,
            output_tokens: reported.output,
            end,
            duration,
        };
        let callback = self.governor.on_decision.as_ref();
        self.span.in_scope(|| decision.tell(callback));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.sent {
            // Nothing was sent: what was reserved is free again.
            let _ = self.settle(Some(0));
        } else {
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

fn unreadable_request(message: impl Into<Cow<'static, str>>) -> PolicyViolation {
    PolicyViolation::new(Rule::RequestUnreadable, Seen::Request, message)
}

fn unreadable_answer(message: impl Into<Cow<'static, str>>) -> PolicyViolation {
    PolicyViolation::new(Rule::ResponseUnreadable, Seen::Response, message)
}

/// Which way an answer is to be read.
fn judge_answer_head(head: &response::Parts, format: Format) -> Result<Answer, PolicyViolation> {
    let status = head.status;
    if status.is_redirection() {
        let message = format!(
            "the server redirects ({}), and following it would leave the policy",
            status.as_u16()
        );
        return Err(unreadable_answer(message).with_help("point the client at the final address"));
    }
    if head.headers.contains_key(header::REFRESH) {
        return Err(unreadable_answer(
            "the server redirects (`refresh`), and following it would leave the policy",
        ));
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
    // There is no body to read, whatever its type would be.
    if status == StatusCode::NO_CONTENT {
        return Ok(Answer::Prose);
    }
    match content_type(&head.headers) {
        Some(ContentType::Json) => Ok(Answer::Document),
        Some(ContentType::EventStream) => Ok(Answer::Stream),
        None if format == Format::Media && is_media(head) => Ok(Answer::Data),
        None if format == Format::Media => Ok(Answer::Prose),
        None if status.is_client_error() || status.is_server_error() => Ok(Answer::Prose),
        None => Err(unreadable_answer(
            "the answer's content type is neither `application/json` nor `text/event-stream`",
        )),
    }
}

/// One content type that says sound, picture or film.
fn is_media(head: &response::Parts) -> bool {
    let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
    let first = types
        .next()
        .and_then(|value| value.to_str().ok())
        .map(str::to_ascii_lowercase);
    let media = first.is_some_and(|value| {
        ["audio/", "image/", "video/"]
            .iter()
            .any(|kind| value.starts_with(kind))
            && !value.contains([',', '+'])
    });
    media && types.next().is_none()
}

/// Whether some client could take this text for an answer: a JSON document, in whatever encoding, or events.
fn looks_like_an_answer(body: &[u8]) -> bool {
    let filler = |byte: &&u8| {
        !matches!(
            **byte,
            b' ' | b'\t' | b'\r' | b'\n' | 0 | 0xEF | 0xBB | 0xBF | 0xFE | 0xFF
        )
    };
    let opens_json = matches!(body.iter().find(filler), Some(b'{' | b'['));
    let is_data = |line: &[u8]| {
        let word = line.trim_ascii_start().split_at_checked(4);
        word.is_some_and(|(word, rest)| {
            word.eq_ignore_ascii_case(b"data") && rest.trim_ascii_start().starts_with(b":")
        })
    };
    opens_json
        || body
            .split(|byte| matches!(byte, b'\n' | b'\r'))
            .any(is_data)
}
