//! A governed call as a future: collect, judge, send, judge, release.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, request, response};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::BoxError;
use crate::body::ResponseBody;
use crate::body::collect::{Collected, OverCap};
use crate::exchange::{Answer, Exchange};
use crate::respond::{self, Respond};
use crate::violation::PolicyViolation;

/// Frames taken in without pause; see the same figure of streamed bodies.
const FRAMES_PER_POLL: u32 = 256;

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
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, R> {
        Refused { violation: Option<PolicyViolation>, respond: Respond },
        /// The request's body comes in.
        Collect { #[pin] body: B, call: Option<Box<Call<S>>> },
        /// Not governed.
        Pass { #[pin] future: F },
        Send { #[pin] future: F, exchange: Option<Box<Exchange>> },
        /// The answer's body comes in.
        Receive { #[pin] body: R, receipt: Option<Box<Receipt>> },
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

/// An answer on its way to be judged.
struct Receipt {
    head: response::Parts,
    kind: Answer,
    exchange: Box<Exchange>,
    collected: Collected,
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
        }
    }

    pub(crate) const fn pass(future: S::Future) -> Self {
        Self {
            state: State::Pass { future },
        }
    }

    pub(crate) fn collect(
        service: S,
        head: request::Parts,
        body: B,
        exchange: Box<Exchange>,
    ) -> Self {
        let collected = Collected::new(exchange.request_cap());
        Self {
            state: State::Collect {
                body,
                call: Some(Box::new(Call {
                    service,
                    head,
                    exchange,
                    collected,
                })),
            },
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

type Output<R> = Result<Response<ResponseBody<R>>, BoxError>;

fn refuse<R>(violation: PolicyViolation, respond: Respond) -> Output<R> {
    match respond {
        Respond::Error => Err(violation.into()),
        Respond::OpenAi => {
            Ok(respond::answer(violation).map(|body| ResponseBody::whole(body, None)))
        }
    }
}

/// What a body in collection has come to.
enum Progress<E> {
    Whole,
    OverCap,
    Failed(E),
}

fn poll_collect<B: Body>(
    mut body: Pin<&mut B>,
    collected: &mut Collected,
    cx: &mut Context<'_>,
) -> Poll<Progress<B::Error>> {
    for _ in 0..FRAMES_PER_POLL {
        let frame: Frame<B::Data> = match ready!(body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Progress::Failed(error)),
            None => return Poll::Ready(Progress::Whole),
        };
        match frame.into_data() {
            Ok(data) => {
                if let Err(OverCap) = collected.push(data) {
                    return Poll::Ready(Progress::OverCap);
                }
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    collected.set_trailers(trailers);
                }
            }
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
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
    type Output = Output<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Refused { violation, respond } => {
                    let Some(violation) = violation.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(refuse(violation, *respond));
                }
                StateProj::Pass { future } => {
                    let answer = ready!(future.poll(cx));
                    return Poll::Ready(
                        answer
                            .map(|answer| answer.map(ResponseBody::pass))
                            .map_err(Into::into),
                    );
                }
                StateProj::Collect { body, call } => {
                    let Some(collecting) = call else {
                        return Poll::Pending;
                    };
                    // A length that is announced over the cap needs no collecting.
                    let hopeless =
                        body.size_hint().lower() > collecting.exchange.request_cap() as u64;
                    let progress = if hopeless {
                        Progress::OverCap
                    } else {
                        ready!(poll_collect(body, &mut collecting.collected, cx))
                    };
                    let Some(call) = call.take() else {
                        return Poll::Pending;
                    };
                    match (*call).send(progress) {
                        Ok(Ok((future, exchange))) => State::Send {
                            future,
                            exchange: Some(exchange),
                        },
                        Ok(Err((violation, respond))) => State::Refused {
                            violation: Some(violation),
                            respond,
                        },
                        Err(error) => {
                            state.set(State::Done);
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                StateProj::Send { future, exchange } => {
                    let answer = ready!(future.poll(cx));
                    let Some(mut exchange) = exchange.take() else {
                        return Poll::Pending;
                    };
                    let answer = match answer {
                        Ok(answer) => answer,
                        Err(error) => {
                            exchange.failed();
                            state.set(State::Done);
                            return Poll::Ready(Err(error.into()));
                        }
                    };
                    match receive(answer, exchange) {
                        Ok(Receiving::Release(answer)) => {
                            state.set(State::Done);
                            return Poll::Ready(Ok(answer));
                        }
                        Ok(Receiving::Collect(body, receipt)) => State::Receive {
                            body,
                            receipt: Some(receipt),
                        },
                        Err((violation, respond)) => State::Refused {
                            violation: Some(violation),
                            respond,
                        },
                    }
                }
                StateProj::Receive { body, receipt } => {
                    let Some(receiving) = receipt else {
                        return Poll::Pending;
                    };
                    let progress = ready!(poll_collect(body, &mut receiving.collected, cx));
                    let Some(receipt) = receipt.take() else {
                        return Poll::Pending;
                    };
                    let judged = receipt.judge(progress);
                    state.set(State::Done);
                    return Poll::Ready(judged);
                }
                // Polled again after the end, which no caller may do: never ready, as nothing is left to tell.
                StateProj::Done => return Poll::Pending,
            };
            state.set(next);
        }
    }
}

impl<S> Call<S> {
    /// Judges the collected request and hands it to the service.
    #[expect(
        clippy::type_complexity,
        reason = "two kinds of ending early, told apart once, right at the caller"
    )]
    fn send<B>(
        mut self,
        progress: Progress<B::Error>,
    ) -> Result<Result<(S::Future, Box<Exchange>), (PolicyViolation, Respond)>, BoxError>
    where
        S: Service<Request<B>>,
        B: Body + From<Bytes>,
        B::Error: Into<BoxError>,
    {
        let respond = self.exchange.governor().respond;
        match progress {
            Progress::Whole => {}
            Progress::OverCap => {
                let violation = self
                    .exchange
                    .unreadable_body("the request's body is larger than the cap on requests");
                return Ok(Err((violation, respond)));
            }
            Progress::Failed(error) => return Err(error.into()),
        }
        let (body, trailers) = self.collected.finish();
        if trailers.is_some() {
            let violation = self
                .exchange
                .unreadable_body("the request's body has trailers, which would be lost");
            return Ok(Err((violation, respond)));
        }
        if let Err(violation) = self.exchange.request(&body) {
            return Ok(Err((violation, respond)));
        }
        self.exchange.prepare(&mut self.head, &body);
        let future = self
            .service
            .call(Request::from_parts(self.head, B::from(body)));
        Ok(Ok((future, self.exchange)))
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "returned once and taken apart at once"
)]
enum Receiving<R> {
    Release(Response<ResponseBody<R>>),
    Collect(R, Box<Receipt>),
}

/// Judges an answer's head and decides how its body is to be read.
fn receive<R: Body<Data = Bytes>>(
    answer: Response<R>,
    mut exchange: Box<Exchange>,
) -> Result<Receiving<R>, (PolicyViolation, Respond)> {
    let (mut head, body) = answer.into_parts();
    let respond = exchange.governor().respond;
    let kind = exchange
        .answer(&mut head)
        .map_err(|violation| (violation, respond))?;
    if !exchange.governor().blocks() {
        return Ok(Receiving::Release(Response::from_parts(
            head,
            ResponseBody::observed(body, exchange, kind),
        )));
    }
    match kind {
        Some(Answer::Stream) => Ok(Receiving::Release(Response::from_parts(
            head,
            ResponseBody::stream(body, exchange),
        ))),
        Some(Answer::Data) => Ok(Receiving::Release(Response::from_parts(
            head,
            ResponseBody::data(body, exchange),
        ))),
        Some(kind) => {
            let collected = Collected::new(exchange.governor().caps.answer);
            Ok(Receiving::Collect(
                body,
                Box::new(Receipt {
                    head,
                    kind,
                    exchange,
                    collected,
                }),
            ))
        }
        // In block mode an answer that can't be read was refused above.
        None => Ok(Receiving::Release(Response::from_parts(
            head,
            ResponseBody::whole(Bytes::new(), None),
        ))),
    }
}

impl Receipt {
    /// Judges the collected answer.
    fn judge<R, E: Into<BoxError>>(mut self: Box<Self>, progress: Progress<E>) -> Output<R> {
        let respond = self.exchange.governor().respond;
        let judged = match progress {
            Progress::Whole => {
                let (body, trailers) = self.collected.finish();
                self.exchange
                    .document(self.kind, &body)
                    .map(|()| (body, trailers))
            }
            Progress::OverCap => self
                .exchange
                .over_cap("the answer is larger than the cap on answers")
                .map(|()| (Bytes::new(), None)),
            Progress::Failed(error) => {
                self.exchange.broken();
                return Err(error.into());
            }
        };
        match judged {
            Ok((body, trailers)) => Ok(Response::from_parts(
                self.head,
                ResponseBody::whole(body, trailers),
            )),
            Err(violation) => refuse(violation, respond),
        }
    }
}
