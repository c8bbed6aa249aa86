//! A governed call as a future: collect, judge, send, judge, release.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow::{Break, Continue};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, request, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;
use tracing::Span;

use crate::BoxError;
use crate::body::ResponseBody;
use crate::body::collect::{Collected, Uncollected};
use crate::enforcer::Asking;
use crate::exchange::Exchange;
use crate::kill_switch::Leash;
use crate::respond::Respond;
use crate::steps::{self, Admitted, Governed, Receipt, Received, Stop};
use crate::violation::PolicyViolation;

mod sealed {
    #[expect(
        unnameable_types,
        reason = "a trait that nobody else can implement is one that nobody else can name"
    )]
    pub trait Sealed {}
    impl<R> Sealed for http::Response<R> {}
}

/// An `http::Response` whose body can be governed. Implemented for nothing else; it lets
/// [`ResponseFuture`] name the body of the service's answer.
pub trait HttpResponse: sealed::Sealed {
    /// The body.
    type Body: Body<Data = Bytes, Error: Into<BoxError>>;

    #[doc(hidden)]
    fn into_parts(self) -> (response::Parts, Self::Body);
}

impl<R: Body<Data = Bytes, Error: Into<BoxError>>> HttpResponse for Response<R> {
    type Body = R;

    fn into_parts(self) -> (response::Parts, R) {
        self.into_parts()
    }
}

pin_project! {
    /// The future of a governed call.
    ///
    /// Resolves to the answer's head: for an event stream as soon as the server sent it, for a JSON answer when the whole
    /// of it was judged. Dropping it before that cancels the call; a request that was counted stays counted.
    ///
    /// # Errors
    ///
    /// With a [`PolicyViolation`] inside when the policy refuses the request or the answer (unless
    /// [`Respond::OpenAi`] is set), or with the service's or a body's own error.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
        S::Response: HttpResponse,
    {
        #[pin]
        state: State<S, B, S::Future, <S::Response as HttpResponse>::Body>,
        leash: Option<Box<Leash>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, R> {
        Refused { violation: Option<PolicyViolation>, respond: Respond },
        /// The request's body comes in.
        Collect { #[pin] body: B, call: Option<Call<S>> },
        /// A store counts the call.
        Ask { asked: Option<Box<Asked<S>>> },
        /// Not governed.
        Pass { #[pin] future: F, span: Span },
        Send { #[pin] future: F, exchange: Option<Box<Exchange>> },
        /// The answer's body comes in.
        Receive { #[pin] body: R, receipt: Option<Receipt> },
        Done,
    }
}

/// A request on its way to be judged.
struct Call<S> {
    service: S,
    head: request::Parts,
    exchange: Box<Exchange>,
    collected: Collected,
}

/// A judged request that waits for a store.
struct Asked<S> {
    service: S,
    head: request::Parts,
    exchange: Box<Exchange>,
    body: Bytes,
    asking: Asking,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
    S::Response: HttpResponse,
{
    pub(crate) const fn refused(violation: PolicyViolation, respond: Respond) -> Self {
        Self {
            state: State::Refused {
                violation: Some(violation),
                respond,
            },
            leash: None,
        }
    }

    pub(crate) const fn pass(future: S::Future, span: Span, leash: Option<Box<Leash>>) -> Self {
        Self {
            state: State::Pass { future, span },
            leash,
        }
    }

    pub(crate) fn collect(
        service: S,
        head: request::Parts,
        body: B,
        exchange: Box<Exchange>,
        leash: Option<Box<Leash>>,
    ) -> Self {
        let collected = exchange.collects_request();
        Self {
            state: State::Collect {
                body,
                call: Some(Call {
                    service,
                    head,
                    exchange,
                    collected,
                }),
            },
            leash,
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
    S::Response: HttpResponse,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body + From<Bytes>,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Output = Result<Governed<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(leash) = this.leash else {
            return this.state.poll_answer(cx);
        };
        let stopped = match leash.pulled() {
            Some(violation) => violation,
            None => match this.state.as_mut().poll_answer(cx) {
                Poll::Pending => ready!(leash.poll_pulled(cx)),
                Poll::Ready(mut answer) => {
                    if let (Ok(answer), Some(leash)) = (&mut answer, this.leash.take()) {
                        answer.body_mut().hold_by(leash);
                    }
                    return Poll::Ready(answer);
                }
            },
        };
        let respond = leash.respond();
        *this.leash = None;
        Poll::Ready(this.state.stop(stopped, respond))
    }
}

impl<S, B, R> State<S, B, S::Future, R>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body + From<Bytes>,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    /// Somebody stopped the call: nothing of it goes on.
    fn stop(
        mut self: Pin<&mut Self>,
        violation: PolicyViolation,
        respond: Respond,
    ) -> Result<Governed<R>, BoxError> {
        let exchange = match self.as_mut().project() {
            StateProj::Collect { call, .. } => call.as_mut().map(|call| &mut call.exchange),
            StateProj::Ask { asked } => asked.as_mut().map(|asked| &mut asked.exchange),
            StateProj::Send { exchange, .. } => exchange.as_mut(),
            StateProj::Receive { receipt, .. } => {
                receipt.as_mut().map(|receipt| &mut receipt.exchange)
            }
            StateProj::Refused { .. } | StateProj::Pass { .. } | StateProj::Done => None,
        };
        if let Some(exchange) = exchange {
            exchange.stopped(&violation);
        }
        self.set(Self::Done);
        steps::refuse(violation, respond).map_err(Into::into)
    }

    fn poll_answer(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Governed<R>, BoxError>> {
        let mut state = self;
        loop {
            let step = match state.as_mut().project() {
                StateProj::Refused { violation, respond } => {
                    let Some(violation) = violation.take() else {
                        return Poll::Pending;
                    };
                    Break(steps::refuse(violation, *respond).map_err(Into::into))
                }
                StateProj::Pass { future, span } => Break(
                    ready!(span.in_scope(|| future.poll(cx)))
                        .map(|answer| answer.map(ResponseBody::pass))
                        .map_err(Into::into),
                ),
                StateProj::Collect { body, call } => {
                    let Some(collecting) = call else {
                        return Poll::Pending;
                    };
                    let whole = ready!(collecting.collected.poll_from(body, cx));
                    let Some(call) = call.take() else {
                        return Poll::Pending;
                    };
                    let Call {
                        mut service,
                        mut head,
                        mut exchange,
                        collected,
                    } = call;
                    let respond = exchange.governor().respond;
                    match steps::admit(&mut exchange, &mut head, collected, whole) {
                        Ok(Admitted::Send(body)) => Continue(Self::Send {
                            future: exchange.span().in_scope(|| {
                                service.call(Request::from_parts(head, B::from(body)))
                            }),
                            exchange: Some(exchange),
                        }),
                        Ok(Admitted::Ask(asking, body)) => Continue(Self::Ask {
                            asked: Some(Box::new(Asked {
                                service,
                                head,
                                exchange,
                                body,
                                asking,
                            })),
                        }),
                        Err(stop) => Break(end(stop, respond)),
                    }
                }
                StateProj::Ask { asked } => {
                    let Some(waiting) = asked else {
                        return Poll::Pending;
                    };
                    let answer = ready!(waiting.asking.answer.as_mut().poll(cx));
                    let Some(asked) = asked.take() else {
                        return Poll::Pending;
                    };
                    let Asked {
                        mut service,
                        head,
                        mut exchange,
                        body,
                        asking,
                    } = *asked;
                    match steps::resume(&mut exchange, &asking, answer) {
                        Ok(()) => Continue(Self::Send {
                            future: exchange.span().in_scope(|| {
                                service.call(Request::from_parts(head, B::from(body)))
                            }),
                            exchange: Some(exchange),
                        }),
                        Err(violation) => {
                            let respond = exchange.governor().respond;
                            Break(steps::refuse(violation, respond).map_err(Into::into))
                        }
                    }
                }
                StateProj::Send { future, exchange } => {
                    // What the service below tells belongs to the call.
                    let entered = exchange.as_ref().map(|exchange| exchange.span().enter());
                    let polled = future.poll(cx);
                    drop(entered);
                    let answer = ready!(polled);
                    let Some(mut exchange) = exchange.take() else {
                        return Poll::Pending;
                    };
                    let respond = exchange.governor().respond;
                    match answer {
                        Err(error) => {
                            exchange.failed();
                            Break(Err(error.into()))
                        }
                        Ok(answer) => match steps::receive(answer, exchange) {
                            Ok(Received::Release(answer)) => Break(Ok(answer)),
                            Ok(Received::Collect(body, receipt)) => Continue(Self::Receive {
                                body,
                                receipt: Some(receipt),
                            }),
                            Err(violation) => {
                                Break(steps::refuse(violation, respond).map_err(Into::into))
                            }
                        },
                    }
                }
                StateProj::Receive { body, receipt } => {
                    let Some(receiving) = receipt else {
                        return Poll::Pending;
                    };
                    let whole = ready!(receiving.collected.poll_from(body, cx));
                    let whole = whole.map_err(Uncollected::boxed);
                    let Some(receipt) = receipt.take() else {
                        return Poll::Pending;
                    };
                    let respond = receipt.exchange.governor().respond;
                    let found = |error: &BoxError| PolicyViolation::find(&**error).cloned();
                    Break(
                        receipt
                            .judge(whole, found)
                            .or_else(|stop| end(stop, respond)),
                    )
                }
                // Polled again after the end, which no caller may do: never ready, as nothing is left to tell.
                StateProj::Done => return Poll::Pending,
            };
            match step {
                Continue(next) => state.set(next),
                Break(output) => {
                    state.set(Self::Done);
                    return Poll::Ready(output);
                }
            }
        }
    }
}

fn end<R, E: Into<BoxError>>(stop: Stop<E>, respond: Respond) -> Result<Governed<R>, BoxError> {
    match stop {
        Stop::Refused(violation) => steps::refuse(violation, respond).map_err(Into::into),
        Stop::Failed(error) => Err(error.into()),
    }
}
