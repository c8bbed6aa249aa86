//! Answers that are encoded on the wire: decoded in flight, counted on both sides.
//!
//! tower-http decodes; here is what it leaves open. Bytes are counted below and above it, so that neither a
//! small answer that grows without end nor a long one that decodes to nothing costs more than the caps. Several
//! `content-encoding` headers are kept from it, because it would undo one and forget the rest. Bytes behind the end of
//! the encoding are an error to it only in a frame of their own, so the last byte of each frame gets one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::layer::SekuireLayer;
use crate::service::SekuireService;
use crate::violation::{PolicyViolation, Rule, Seen};

/// Decoded bytes for each encoded one. Event streams of repeated JSON reach about a hundred.
const RATIO: u64 = 200;
/// Below this many decoded bytes no ratio is suspicious.
const FREE: u64 = 4 << 20;
/// Encoded bytes that may come without a decoded one: more than any decoder's window.
const SILENT: u64 = 32 << 20;

impl SekuireLayer {
    /// Decodes answers (gzip, deflate, br, zstd) between the client and the policy. Feature `decompression`.
    ///
    /// Needed only where something below ignores that the layer asks for `accept-encoding: identity`. An answer that
    /// grows more than 200-fold (beyond 4 MiB) is refused in flight; an unknown or repeated encoding stays
    /// refused.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// # use http_body_util::Full;
    /// # use std::convert::Infallible;
    /// # use tower::ServiceBuilder;
    /// use tower_sekuire::{Policy, SekuireLayer};
    ///
    /// # let client = tower::service_fn(|_: Request<Full<Bytes>>| async {
    /// #     Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    /// # });
    /// let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
    /// let governed = ServiceBuilder::new().layer(SekuireLayer::new(policy).decompressing()).service(client);
    /// # drop(governed);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub const fn decompressing(self) -> DecompressingLayer {
        DecompressingLayer { layer: self }
    }
}

/// A [`SekuireLayer`] that decodes answers before it judges them.
#[derive(Clone, Debug)]
pub struct DecompressingLayer {
    layer: SekuireLayer,
}

impl<S> Layer<S> for DecompressingLayer {
    type Service = SekuireService<Decoded<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.layer.layer(Decoded {
            inner: Decompression::new(Counted { inner }),
        })
    }
}

/// A service whose answers are decoded within bounds.
#[derive(Clone, Debug)]
pub struct Decoded<S> {
    inner: Decompression<Counted<S>>,
}

#[derive(Clone, Debug)]
struct Counted<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<CountedBody<R>>;
    type Error = S::Error;
    type Future = CountedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        CountedFuture {
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    struct CountedFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, R, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<CountedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = ready!(self.project().inner.poll(cx))?;
        let headers = answer.headers_mut();
        if headers.get_all(header::CONTENT_ENCODING).iter().count() > 1 {
            headers.insert(
                header::CONTENT_ENCODING,
                HeaderValue::from_static("several"),
            );
        }
        let is_encoded = headers.contains_key(header::CONTENT_ENCODING);
        Poll::Ready(Ok(answer.map(|inner| CountedBody {
            inner,
            is_encoded,
            last: None,
            encoded: 0,
            decoded: Arc::default(),
        })))
    }
}

pin_project! {
    /// Counts what comes in, and stops what brings nothing out.
    struct CountedBody<R> {
        #[pin]
        inner: R,
        is_encoded: bool,
        // The last byte of a frame whose other bytes have been passed on.
        last: Option<Bytes>,
        encoded: u64,
        decoded: Arc<AtomicU64>,
    }
}

impl<R> Body for CountedBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let Some(frame) = ready!(this.inner.poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let mut data = match frame.map_err(Into::into)?.into_data() {
            Ok(data) => data,
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        *this.encoded = this.encoded.saturating_add(data.len() as u64);
        if *this.encoded > this.decoded.load(Ordering::Relaxed).saturating_add(SILENT) {
            return Poll::Ready(Some(Err(
                refusal("the encoded answer decodes to nothing").into()
            )));
        }
        if *this.is_encoded && data.len() > 1 {
            *this.last = Some(data.split_off(data.len() - 1));
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What is left of an encoded answer says nothing about what comes out of it.
        if self.is_encoded {
            SizeHint::default()
        } else {
            self.inner.size_hint()
        }
    }
}

fn refusal(message: &'static str) -> PolicyViolation {
    PolicyViolation::new(Rule::ResponseUnreadable, Seen::Response, message)
}

impl<S, B, R> Service<Request<B>> for Decoded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<DecodedBody<R>>;
    type Error = S::Error;
    type Future = DecodedFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        DecodedFuture {
            inner: self.inner.call(request),
            _body: std::marker::PhantomData,
        }
    }
}

pin_project! {
    /// The future of an answer that will be decoded.
    pub struct DecodedFuture<F, R> {
        #[pin]
        inner: tower_http::decompression::ResponseFuture<CountedFuture<F>>,
        _body: std::marker::PhantomData<fn() -> R>,
    }
}

impl<F, R> fmt::Debug for DecodedFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedFuture").finish_non_exhaustive()
    }
}

impl<F, R, E> Future for DecodedFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<DecodedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(self.project().inner.poll(cx))?;
        Poll::Ready(Ok(answer.map(|inner| DecodedBody { inner })))
    }
}

pin_project! {
    /// A decoded body that fails when it grows out of proportion.
    pub struct DecodedBody<R>
    where
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        #[pin]
        inner: DecompressionBody<CountedBody<R>>,
    }
}

impl<R> fmt::Debug for DecodedBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodedBody").finish_non_exhaustive()
    }
}

impl<R> Body for DecodedBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(Ok(data)) = frame
            .as_ref()
            .map(|frame| frame.as_ref().map(Frame::data_ref))
        {
            let counted = this.inner.get_ref();
            let length = data.map_or(0, Bytes::len) as u64;
            let decoded = counted
                .decoded
                .fetch_add(length, Ordering::Relaxed)
                .saturating_add(length);
            if decoded > FREE.max(counted.encoded.saturating_mul(RATIO)) {
                return Poll::Ready(Some(Err(refusal(
                    "the encoded answer grows out of proportion when decoded",
                )
                .into())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
