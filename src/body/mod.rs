//! The answer's body, judged on its way to the client.

pub(crate) mod collect;
mod gate;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::BoxError;
use crate::exchange::Exchange;
use crate::kill_switch::Leash;
use crate::meters::{Holds, Part, Sampler};
use crate::respond::{self, Respond};
use crate::violation::PolicyViolation;
use crate::wire::endpoint::Answer;
use gate::Gate;

/// Frames that bring nothing to release are taken in without pause up to this many; then the task yields, so that a
/// stream of tiny frames can't keep its thread to itself.
const FRAMES_PER_POLL: u32 = 256;

pin_project! {
    /// The body of a governed answer.
    ///
    /// An event stream is judged event by event: an allowed event leaves in the poll in which its last byte came, as the
    /// bytes that came; a forbidden tool call never leaves, the body ends with an error (or, with
    /// [`Respond::OpenAi`] and [`Respond::OpenAiInStream`], with an error event) and the server's body is dropped at once. A JSON answer was judged
    /// before its head was released and is delivered whole. Trailers are kept.
    ///
    /// Holds at most the event whose end has not come, up to the cap on events. Dropping the body at any time
    /// is safe and settles the call's token use.
    ///
    /// # Errors
    ///
    /// A frame is an error when the policy refuses the rest of the answer (then [`PolicyViolation::find`] finds the
    /// reason in it) or when the server's body failed. Nothing follows an error.
    pub struct ResponseBody<B> {
        // Taken away as soon as nothing more is wanted from it, so that the server stops producing.
        #[pin]
        inner: Option<B>,
        state: State,
        leash: Option<Box<Leash>>,
    }
}

enum State {
    /// The inner body passes as it is.
    Pass,
    /// A body that is known whole.
    Whole {
        data: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
    /// An event stream on its way.
    Stream(Box<Stream>),
    /// Passes as it is and is judged beside: in warn and audit modes, and data in any mode.
    Observed(Box<Observed>),
    /// Somebody stopped it, and whoever polls is yet to learn so.
    Stopped(PolicyViolation),
    Ended,
}

struct Stream {
    gate: Gate,
    exchange: Box<Exchange>,
    last: Option<Last>,
    sampler: Sampler,
}

/// What follows when everything that may leave has left.
enum Last {
    End(Option<HeaderMap>),
    Failed(BoxError),
}

struct Observed {
    exchange: Box<Exchange>,
    reading: Reading,
    /// Bytes of the length that the head announced which are still to come.
    left: Option<u64>,
    /// Its end was judged.
    ended: bool,
}

enum Reading {
    Stream(Box<Gate>),
    Document { kind: Answer, collected: BytesMut },
    Nothing,
}

impl<B> ResponseBody<B> {
    pub(crate) const fn pass(inner: B) -> Self {
        Self {
            inner: Some(inner),
            state: State::Pass,
            leash: None,
        }
    }

    pub(crate) const fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self {
            inner: None,
            state: State::Whole {
                data: Some(data),
                trailers,
            },
            leash: None,
        }
    }

    pub(crate) fn stream(inner: B, exchange: Box<Exchange>) -> Self {
        let gate = gate(&exchange);
        Self {
            inner: Some(inner),
            state: State::Stream(Box::new(Stream {
                gate,
                exchange,
                last: None,
                sampler: Sampler::default(),
            })),
            leash: None,
        }
    }

    /// Sound or pictures, which hold nothing to judge: only their end matters.
    pub(crate) fn data(inner: B, exchange: Box<Exchange>, length: Option<u64>) -> Self {
        Self::observed(inner, exchange, Some(Answer::Data), length)
    }

    /// `answer` is `None` when the answer can't be read, `length` the one that its head announces.
    pub(crate) fn observed(
        inner: B,
        exchange: Box<Exchange>,
        answer: Option<Answer>,
        length: Option<u64>,
    ) -> Self {
        let reading = match answer {
            Some(Answer::Stream) => Reading::Stream(Box::new(gate(&exchange))),
            Some(Answer::Data) | None => Reading::Nothing,
            Some(kind) => Reading::Document {
                kind,
                collected: BytesMut::new(),
            },
        };
        Self {
            inner: Some(inner),
            state: State::Observed(Box::new(Observed {
                exchange,
                reading,
                left: length,
                ended: false,
            })),
            leash: None,
        }
    }

    /// A switch may end it, unless it is whole and was judged.
    pub(crate) fn hold_by(&mut self, leash: Box<Leash>) {
        if !matches!(self.state, State::Whole { .. } | State::Ended) {
            self.leash = Some(leash);
        }
    }
}

fn gate(exchange: &Exchange) -> Gate {
    let held = exchange.enforcer().meters().held(Holds::Event);
    Gate::new(
        exchange.event_reader(),
        exchange.governor().caps.event,
        held,
    )
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody(")?;
        f.write_str(match self.state {
            State::Pass => "pass",
            State::Whole { .. } => "whole",
            State::Stream(_) => "stream",
            State::Observed(_) => "observed",
            State::Stopped(_) => "stopped",
            State::Ended => "ended",
        })?;
        f.write_str(")")
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.as_mut().project();
        let Some(leash) = this.leash else {
            return self.poll_judged(cx);
        };
        if let Some(violation) = leash.pulled() {
            self.as_mut().stop(violation);
            return self.poll_judged(cx);
        }
        if let Poll::Ready(frame) = self.as_mut().poll_judged(cx) {
            if !matches!(frame, Some(Ok(_))) {
                *self.project().leash = None;
            }
            return Poll::Ready(frame);
        }
        let Some(leash) = self.as_mut().project().leash else {
            return Poll::Pending;
        };
        let violation = ready!(leash.poll_pulled(cx));
        self.as_mut().stop(violation);
        self.poll_judged(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Ended => true,
            State::Pass => self.inner.as_ref().is_none_or(Body::is_end_stream),
            State::Whole { data, trailers } => {
                data.as_ref().is_none_or(Bytes::is_empty) && trailers.is_none()
            }
            // Whether the answer is whole is known only when its end has been judged.
            State::Stream(_) | State::Observed(_) | State::Stopped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Ended | State::Stopped(_) => SizeHint::with_exact(0),
            State::Whole { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64)
            }
            State::Pass | State::Observed(_) => self
                .inner
                .as_ref()
                .map_or_else(|| SizeHint::with_exact(0), Body::size_hint),
            // Events may be withheld or replaced by an error.
            State::Stream(_) => SizeHint::default(),
        }
    }
}

impl<B> ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// Somebody stopped the call: nothing more of the answer leaves.
    fn stop(self: Pin<&mut Self>, violation: PolicyViolation) {
        let mut this = self.project();
        *this.leash = None;
        this.inner.set(None);
        match this.state {
            State::Ended => return,
            State::Stream(stream) => {
                stream.exchange.progress(stream.gate.reader());
                stream.exchange.stopped(&violation);
                stream.gate.clear();
                stream.last = Some(stream.cut_off(violation));
                return;
            }
            State::Observed(observed) => observed.exchange.stopped(&violation),
            State::Pass | State::Whole { .. } | State::Stopped(_) => {}
        }
        *this.state = State::Stopped(violation);
    }

    #[inline]
    fn poll_judged(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match this.state {
            State::Ended => Poll::Ready(None),
            State::Stopped(violation) => {
                let violation = violation.clone();
                *this.state = State::Ended;
                Poll::Ready(Some(Err(violation.into())))
            }
            State::Pass => {
                let Some(inner) = this.inner.as_mut().as_pin_mut() else {
                    return Poll::Ready(None);
                };
                let frame = ready!(inner.poll_frame(cx));
                if !matches!(frame, Some(Ok(_))) {
                    this.inner.set(None);
                    *this.state = State::Ended;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            State::Whole { data, trailers } => {
                if let Some(data) = data.take().filter(|data| !data.is_empty()) {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                let trailers = trailers.take();
                *this.state = State::Ended;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            State::Stream(stream) => {
                for _ in 0..FRAMES_PER_POLL {
                    if let Some(bytes) = stream.gate.pop() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                    if let Some(last) = stream.last.take() {
                        this.inner.set(None);
                        *this.state = State::Ended;
                        return Poll::Ready(match last {
                            Last::End(trailers) => {
                                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                            }
                            Last::Failed(error) => Some(Err(error)),
                        });
                    }
                    let frame = match this.inner.as_mut().as_pin_mut() {
                        Some(inner) => ready!(inner.poll_frame(cx)),
                        None => None,
                    };
                    let data = match frame {
                        Some(Ok(frame)) => frame.into_data().map_err(|frame| Some(Ok(frame))),
                        other => Err(other),
                    };
                    match data {
                        Ok(data) => match stream.push(data) {
                            Ok(None) => {}
                            // Most frames leave as they came.
                            Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                            Err(violation) => {
                                stream.last = Some(stream.cut_off(violation));
                                this.inner.set(None);
                            }
                        },
                        Err(end) => {
                            stream.take(end);
                            this.inner.set(None);
                        }
                    }
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            State::Observed(observed) => {
                let Some(inner) = this.inner.as_mut().as_pin_mut() else {
                    return Poll::Ready(None);
                };
                let frame = ready!(inner.poll_frame(cx));
                let mut is_last = !matches!(frame, Some(Ok(_)));
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            observed.see(data);
                        }
                        // Whoever has as much as was announced may ask no further.
                        is_last = this
                            .inner
                            .as_ref()
                            .as_pin_ref()
                            .is_none_or(|inner| inner.is_end_stream());
                        if is_last || observed.left == Some(0) {
                            observed.end();
                        }
                    }
                    Some(Err(_)) => observed.exchange.broken(),
                    None => observed.end(),
                }
                if is_last {
                    this.inner.set(None);
                    *this.state = State::Ended;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }
}

impl Stream {
    /// Takes in how the server's body ended, if not with data: nothing more is wanted from it.
    fn take<E: Into<BoxError>>(&mut self, end: Option<Result<Frame<Bytes>, E>>) {
        let (judged, trailers) = match end {
            Some(Ok(frame)) => (
                self.gate.finish(&mut self.exchange),
                frame.into_trailers().ok(),
            ),
            Some(Err(error)) => {
                let error = error.into();
                self.gate.discard();
                self.exchange.progress(self.gate.reader());
                // A body below may refuse too, such as one that decodes.
                let refused = PolicyViolation::find(&*error).cloned();
                self.last = Some(
                    match refused.map(|violation| self.exchange.refuse_answer(violation)) {
                        Some(Err(violation)) => self.cut_off(violation),
                        Some(Ok(())) | None => {
                            self.exchange.broken();
                            Last::Failed(error)
                        }
                    },
                );
                return;
            }
            None => (self.gate.finish(&mut self.exchange), None),
        };
        self.last = Some(match judged {
            Ok(()) => Last::End(trailers),
            Err(violation) => self.cut_off(violation),
        });
    }

    #[inline]
    fn push(&mut self, data: Bytes) -> Result<Option<Bytes>, PolicyViolation> {
        let begun = self.sampler.begin(self.exchange.enforcer());
        let judged = self.gate.push(data, &mut self.exchange);
        if let Some(begun) = begun {
            let enforcer = self.exchange.enforcer();
            enforcer
                .meters()
                .inspected(Part::Frame, begun.since(enforcer));
        }
        judged
    }

    fn cut_off(&mut self, violation: PolicyViolation) -> Last {
        self.gate.discard();
        match self.exchange.governor().respond {
            Respond::Error => Last::Failed(violation.into()),
            Respond::OpenAi | Respond::OpenAiInStream => {
                let sequence = self.gate.next_sequence();
                self.gate
                    .push_out(respond::event(&violation, self.exchange.format(), sequence));
                Last::End(None)
            }
        }
    }
}

impl Observed {
    /// In these modes nothing refuses: results that would be violations were noted by the exchange.
    fn see(&mut self, data: &Bytes) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
        if self.ended {
            return;
        }
        match &mut self.reading {
            Reading::Stream(gate) => {
                let _ = gate.push(data.clone(), &mut self.exchange);
                while gate.pop().is_some() {}
                if gate.is_over_cap() {
                    self.reading = Reading::Nothing;
                }
            }
            Reading::Document { collected, .. } => {
                if collected.len().saturating_add(data.len()) > self.exchange.governor().caps.answer
                {
                    let _ = self
                        .exchange
                        .over_cap("the answer is larger than the cap on answers");
                    self.reading = Reading::Nothing;
                } else {
                    collected.extend_from_slice(data);
                }
            }
            Reading::Nothing => {}
        }
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _ = match &mut self.reading {
            Reading::Stream(gate) => gate.finish(&mut self.exchange),
            Reading::Document { kind, collected } => self.exchange.document(*kind, collected),
            Reading::Nothing => self.exchange.complete(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn send_and_sync<T: Send + Sync>() {}

    #[test]
    fn a_body_is_send_and_sync_whenever_the_body_inside_is() {
        send_and_sync::<ResponseBody<http_body_util::Full<Bytes>>>();
    }
}
