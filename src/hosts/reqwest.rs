//! The layer around `reqwest::Client`, which is a tower service of requests and answers of its own.
//!
//! They are taken for `http`'s on the way to the policy and back. What `http` has no place for must come along in the
//! extensions: the answer's address, and the request's timeout (reqwest keeps that one there by itself).

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Extensions;
use pin_project_lite::pin_project;
use reqwest::{Body, ClientBuilder, Error, Request, Response, ResponseBuilderExt, Url};
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::future::ResponseFuture;
use crate::layer::SekuireLayer;
use crate::service::SekuireService;
use crate::steps::{Astray, Governed};
use crate::violation::{PolicyViolation, Rule, Seen};

impl SekuireLayer {
    /// The client that `builder` makes, governed, with its redirects turned off: reqwest follows them below the layer, where
    /// no policy sees the new address. A redirect of an inspected call is refused; other calls get it as the answer.
    ///
    /// The builder's retries, proxies and default headers stay as they are. Retries there are neither judged nor counted
    /// (by default only calls are repeated that a server said it never looked at), and default headers aren't judged.
    ///
    /// ```
    /// use tower::{Service, ServiceExt};
    /// use tower_sekuire::{Policy, PolicyViolation, SekuireLayer};
    ///
    /// # tokio_test::block_on(async {
    /// let policy = Policy::from_yaml("agent: { models: { blocked_models: [gpt-3.5-turbo] } }")?;
    /// let mut client = SekuireLayer::new(policy).reqwest_client(reqwest::Client::builder())?;
    ///
    /// let request = client
    ///     .get_ref()
    ///     .post("https://api.openai.com/v1/chat/completions")
    ///     .header("content-type", "application/json")
    ///     .body(r#"{"model":"gpt-3.5-turbo","messages":[]}"#)
    ///     .build()?;
    /// let refused = client.ready().await?.call(request).await.unwrap_err();
    /// let violation = PolicyViolation::find(&*refused).unwrap();
    /// assert_eq!(violation.to_string(), "[model_blocked] Model gpt-3.5-turbo is not allowed");
    /// # Ok::<(), tower_sekuire::BoxError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// When reqwest can't make the client.
    pub fn reqwest_client(
        &self,
        builder: ClientBuilder,
    ) -> Result<SekuireService<reqwest::Client>, Error> {
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(self.layer(client))
    }
}

/// A `reqwest::Client`, or what stands around one, under the policy. [`SekuireLayer::reqwest_client`] makes one that
/// follows no redirects.
///
/// An inspected request is read whole and sent on as the same bytes, which makes a streaming body reusable. The
/// answer tells its URL, and its body passes event by event. An answer to an inspected call that comes from another
/// address than was asked, because the client followed a redirect, is refused; the request has been there by then.
///
/// A request that is made of an `http::Request` keeps its extensions, such as an [`AgentKey`](crate::AgentKey).
impl<S> Service<Request> for SekuireService<S>
where
    S: Service<Request, Response = Response> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = ReqwestFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.get_mut().poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> ReqwestFuture<S> {
        let mut governed = self.take_ready(Http);
        let url = request.url().clone();
        let state = match http::Request::<Body>::try_from(request) {
            Ok(request) => State::Call {
                call: governed.call(request),
                url: Some(url),
            },
            Err(error) => State::Failed { error: Some(error) },
        };
        ReqwestFuture { state }
    }
}

pin_project! {
    /// The future of a governed call of a reqwest client.
    ///
    /// Resolves and ends as [`ResponseFuture`] does.
    ///
    /// # Errors
    ///
    /// With a [`PolicyViolation`] inside when the policy refuses the request or the answer (unless
    /// [`Respond::OpenAi`](crate::Respond::OpenAi) is set), or with the client's own error.
    pub struct ReqwestFuture<S>
    where
        S: Service<Request, Response = Response>,
        S::Error: Into<BoxError>,
    {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S>
    where
        S: Service<Request, Response = Response>,
        S::Error: Into<BoxError>,
    {
        /// The URL is gone when the answer came.
        Call { #[pin] call: ResponseFuture<Http<S>, Body>, url: Option<Url> },
        /// The request's address is none that `http` can hold.
        Failed { error: Option<Error> },
    }
}

impl<S> fmt::Debug for ReqwestFuture<S>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestFuture").finish_non_exhaustive()
    }
}

impl<S> Future for ReqwestFuture<S>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled again after the end, which no caller may do, neither state is ever ready.
        match self.project().state.project() {
            StateProj::Call { call, url } => {
                let answer = ready!(call.poll(cx));
                url.take().map_or(Poll::Pending, |url| {
                    Poll::Ready(answer.map(|answer| released(answer, url)))
                })
            }
            StateProj::Failed { error } => error
                .take()
                .map_or(Poll::Pending, |error| Poll::Ready(Err(error.into()))),
        }
    }
}

/// A service of reqwest's requests, as one of `http`'s.
#[derive(Clone, Debug)]
struct Http<S>(S);

impl<S> Service<http::Request<Body>> for Http<S>
where
    S: Service<Request, Response = Response>,
    S::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Sent<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Sent<S::Future> {
        match Request::try_from(request) {
            Ok(request) => Sent::Call {
                asked: request.url().clone(),
                call: self.0.call(request),
            },
            Err(error) => Sent::Failed { error: Some(error) },
        }
    }
}

pin_project! {
    #[project = SentProj]
    enum Sent<F> {
        Call { #[pin] call: F, asked: Url },
        Failed { error: Option<Error> },
    }
}

impl<F, E> Future for Sent<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<BoxError>,
{
    type Output = Result<http::Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            SentProj::Call { call, asked } => Poll::Ready(
                ready!(call.poll(cx))
                    .map(|answer| received(asked, answer))
                    .map_err(Into::into),
            ),
            SentProj::Failed { error } => error
                .take()
                .map_or(Poll::Pending, |error| Poll::Ready(Err(error.into()))),
        }
    }
}

/// An answer as the policy reads it, with what it has no place for: the URL, and whether that is another than was asked.
pub(crate) fn received(asked: &Url, answer: Response) -> http::Response<Body> {
    let from = answer.url().clone();
    let astray = from.origin() != asked.origin()
        || from.path() != asked.path()
        || from.query() != asked.query();
    let mut answer = http::Response::<Body>::from(answer);
    answer.extensions_mut().extend(bearing(from));
    if astray {
        answer.extensions_mut().insert(Astray(redirected()));
    }
    answer
}

/// A governed answer as a client of reqwest's reads it; one that the policy gave itself comes from the URL that was asked.
pub(crate) fn released(governed: Governed<Body>, asked: Url) -> Response {
    let (mut head, body) = governed.into_parts();
    let mut extensions = bearing(asked);
    extensions.extend(mem::take(&mut head.extensions));
    head.extensions = extensions;
    http::Response::from_parts(head, Body::wrap(body)).into()
}

/// reqwest's own way to keep a URL in an answer of `http`'s.
fn bearing(url: Url) -> Extensions {
    let mut bearer = http::Response::builder().url(url);
    bearer.extensions_mut().map(mem::take).unwrap_or_default()
}

fn redirected() -> PolicyViolation {
    PolicyViolation::new(
        Rule::ResponseUnreadable,
        Seen::Response,
        "the answer comes from another address than was asked, past the policy",
    )
    .with_help("let the client follow no redirects: `reqwest::redirect::Policy::none()`")
}
