//! The tower service: judges a request, then hands it to the service below.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::BoxError;
use crate::body::ResponseBody;
use crate::future::ResponseFuture;
use crate::governor::{Begin, Governor};

/// A client service governed by a policy. Made by [`SekuireLayer`](crate::SekuireLayer).
///
/// The request's body type is kept, so the layer can be added or removed without touching a type below it. The
/// body must be constructible from [`Bytes`], because a governed request is read whole and sent on as the
/// same bytes. For a client over a boxed body, map below the layer:
///
/// ```
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::{BodyExt, Full, combinators::BoxBody};
/// # use std::convert::Infallible;
/// # use tower::{ServiceBuilder, ServiceExt};
/// # use tower_sekuire::{Policy, SekuireLayer};
/// # let policy = Policy::from_yaml("agent: { models: { allowed_models: [gpt-4o] } }")?;
/// # let client = tower::service_fn(|_: Request<BoxBody<Bytes, Infallible>>| async {
/// #     Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
/// # });
/// let governed = ServiceBuilder::new()
///     .layer(SekuireLayer::new(policy))
///     .map_request(|request: Request<Full<Bytes>>| request.map(BodyExt::boxed))
///     .service(client);
/// # drop(governed.oneshot(Request::new(Full::default())));
/// # Ok::<(), tower_sekuire::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SekuireService<S> {
    inner: S,
    governor: Arc<Governor>,
}

impl<S> SekuireService<S> {
    pub(crate) const fn new(inner: S, governor: Arc<Governor>) -> Self {
        Self { inner, governor }
    }

    /// The service below.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    #[cfg(feature = "reqwest")]
    pub(crate) const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service that was polled ready, in another form; its clone stays here and is polled before the next call.
    #[cfg(feature = "reqwest")]
    pub(crate) fn take_ready<T>(&mut self, form: impl FnOnce(S) -> T) -> SekuireService<T>
    where
        S: Clone,
    {
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        SekuireService::new(form(ready), self.governor.clone())
    }

    #[cfg(feature = "async-openai")]
    pub(crate) fn respond(mut self, respond: crate::Respond) -> Self {
        Arc::make_mut(&mut self.governor).respond = respond;
        self
    }

    /// Takes the service below out of the policy.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for SekuireService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body + From<Bytes>,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        // The service that was polled ready is the one that is called; its clone is polled before the next call.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let (head, body) = request.into_parts();
        match self.governor.begin(&head) {
            Begin::Refuse(violation) => ResponseFuture::refused(violation, self.governor.respond),
            Begin::Pass(span, leash) => {
                let future = span.in_scope(|| ready.call(Request::from_parts(head, body)));
                ResponseFuture::pass(future, span, leash)
            }
            Begin::Read(exchange, leash) => {
                ResponseFuture::collect(ready, head, body, exchange, leash)
            }
        }
    }
}
