//! The steps of a governed call that every host takes alike.
//!
//! A host waits and moves bytes; what a step says is final. The order is: begin, collect the request, [`admit`]
//! (and [`resume`], where a store counts), send, [`receive`], collect the answer, [`Receipt::judge`].

use bytes::Bytes;
use http::{Response, header, request, response};

use crate::body::ResponseBody;
use crate::body::collect::{Collected, Uncollected};
use crate::enforcer::Asking;
use crate::exchange::Exchange;
use crate::limits::{Lease, StoreRefusal};
use crate::respond::{self, Respond};
use crate::violation::PolicyViolation;
use crate::wire::endpoint::Answer;

/// An answer that may be handed to the client.
pub(crate) type Governed<R> = Response<ResponseBody<R>>;

/// Why a call ends before its time.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    Refused(PolicyViolation),
    /// A body failed.
    Failed(E),
}

impl<E> From<PolicyViolation> for Stop<E> {
    fn from(violation: PolicyViolation) -> Self {
        Self::Refused(violation)
    }
}

/// The form in which the client meets a refusal.
pub(crate) fn refuse<R>(
    violation: PolicyViolation,
    respond: Respond,
) -> Result<Governed<R>, PolicyViolation> {
    match respond {
        Respond::Error | Respond::OpenAiInStream => Err(violation),
        Respond::OpenAi => {
            Ok(respond::answer(violation).map(|body| ResponseBody::whole(body, None)))
        }
    }
}

/// A collected request that was judged.
pub(crate) enum Admitted {
    /// Send this body under the prepared head.
    Send(Bytes),
    /// Wait for the store's answer and show it to [`resume`].
    Ask(Asking, Bytes),
}

/// Judges a collected request.
pub(crate) fn admit<E>(
    exchange: &mut Exchange,
    head: &mut request::Parts,
    collected: Collected,
    whole: Result<(), Uncollected<E>>,
) -> Result<Admitted, Stop<E>> {
    match whole {
        Ok(()) => {}
        Err(Uncollected::OverCap) => {
            let message = "the request's body is larger than the cap on requests";
            return Err(exchange.unreadable_body(message).into());
        }
        Err(Uncollected::Failed(error)) => return Err(Stop::Failed(error)),
    }
    let (body, trailers) = collected.finish();
    if trailers.is_some() {
        // In every mode: the body is sent on as bytes, and to drop a part of it silently is worse than to refuse.
        let message = "the request's body has trailers, which can't be sent on once it was read";
        return Err(exchange.unreadable_body(message).into());
    }
    let judged = exchange.request(&body)?;
    let body = judged.body.unwrap_or(body);
    exchange.prepare(head, &body);
    Ok(match judged.asking {
        None => Admitted::Send(body),
        Some(asking) => Admitted::Ask(asking, body),
    })
}

/// Takes in what the store answered: the request may leave, or not.
pub(crate) fn resume(
    exchange: &mut Exchange,
    asking: &Asking,
    answer: Result<Lease, StoreRefusal>,
) -> Result<(), PolicyViolation> {
    exchange.told_by_store(asking, answer)
}

/// What an answer's head says about its body.
pub(crate) enum Received<R> {
    Release(Governed<R>),
    /// Collect the body and show it to [`Receipt::judge`].
    Collect(R, Receipt),
}

/// An answer on its way to be judged whole.
pub(crate) struct Receipt {
    head: response::Parts,
    kind: Answer,
    pub(crate) exchange: Box<Exchange>,
    pub(crate) collected: Collected,
}

/// Among an answer's extensions: why a host that brought it wants it refused.
#[derive(Clone, Debug)]
pub(crate) struct Astray(pub(crate) PolicyViolation);

/// Judges an answer's head and decides how its body is to be read.
pub(crate) fn receive<R>(
    answer: Response<R>,
    mut exchange: Box<Exchange>,
) -> Result<Received<R>, PolicyViolation> {
    let (mut head, body) = answer.into_parts();
    if let Some(Astray(violation)) = head.extensions.remove::<Astray>() {
        exchange.refuse_answer(violation)?;
    }
    let kind = exchange.answer(&mut head)?;
    let body = if exchange.blocks() {
        match kind {
            Some(Answer::Stream) => ResponseBody::stream(body, exchange),
            Some(Answer::Data) => {
                let length = announced(&head);
                ResponseBody::data(body, exchange, length)
            }
            Some(kind) => {
                let collected = exchange.collects_answer();
                let receipt = Receipt {
                    head,
                    kind,
                    exchange,
                    collected,
                };
                return Ok(Received::Collect(body, receipt));
            }
            // In block mode an answer that can't be read was refused above.
            None => ResponseBody::whole(Bytes::new(), None),
        }
    } else {
        let length = announced(&head);
        ResponseBody::observed(body, exchange, kind, length)
    };
    Ok(Received::Release(Response::from_parts(head, body)))
}

/// The length that an answer's head promises, in bytes.
fn announced(head: &response::Parts) -> Option<u64> {
    let length = head.headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

impl Receipt {
    /// Judges the collected answer. `refused` finds a violation in the error of a body.
    pub(crate) fn judge<R, E>(
        mut self,
        whole: Result<(), Uncollected<E>>,
        refused: impl FnOnce(&E) -> Option<PolicyViolation>,
    ) -> Result<Governed<R>, Stop<E>> {
        match whole {
            Ok(()) => {
                let (body, trailers) = self.collected.finish();
                self.exchange.document(self.kind, &body)?;
                let body = ResponseBody::whole(body, trailers);
                Ok(Response::from_parts(self.head, body))
            }
            Err(Uncollected::OverCap) => {
                let message = "the answer is larger than the cap on answers";
                self.exchange.over_cap(message)?;
                // Only block mode collects, and it refuses what is over the cap.
                Ok(Response::from_parts(
                    self.head,
                    ResponseBody::whole(Bytes::new(), None),
                ))
            }
            Err(Uncollected::Failed(error)) => {
                // A body below may refuse too, such as one that decodes.
                if let Some(violation) = refused(&error) {
                    self.exchange.refuse_answer(violation)?;
                }
                self.exchange.broken();
                Err(Stop::Failed(error))
            }
        }
    }
}
