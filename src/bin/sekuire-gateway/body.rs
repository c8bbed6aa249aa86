//! The request body on its way through the layer: the client's own, or bytes put in its place.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower_sekuire::BoxError;

pin_project! {
    /// A request body that streams as it came, unless the layer has read it whole.
    #[derive(Debug)]
    pub(crate) struct ProxyBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProjection]
    #[derive(Debug)]
    enum Inner<B> {
        Streamed { #[pin] body: B },
        Whole { #[pin] body: Full<Bytes> },
    }
}

impl<B> ProxyBody<B> {
    pub(crate) fn streamed(body: B) -> Self {
        Self {
            inner: Inner::Streamed { body },
        }
    }
}

impl<B> From<Bytes> for ProxyBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self {
            inner: Inner::Whole {
                body: Full::new(bytes),
            },
        }
    }
}

impl<B> Body for ProxyBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().inner.project() {
            InnerProjection::Streamed { body } => body
                .poll_frame(context)
                .map_err(|error| ClientBodyError(error.into()).into()),
            InnerProjection::Whole { body } => {
                body.poll_frame(context).map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Streamed { body } => body.is_end_stream(),
            Inner::Whole { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Streamed { body } => body.size_hint(),
            Inner::Whole { body } => body.size_hint(),
        }
    }
}

/// The client broke off its own request body, or framed it wrongly.
///
/// Marks whose failure it was: by the time it comes back from the upstream client it looks like
/// any other broken exchange.
#[derive(Debug)]
pub(crate) struct ClientBodyError(BoxError);

impl ClientBodyError {
    pub(crate) fn caused(error: &(dyn Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl fmt::Display for ClientBodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client's request body broke off")
    }
}

impl Error for ClientBodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};

    use super::*;

    #[tokio::test]
    async fn sizes_and_ends_are_those_of_the_body_inside() {
        let empty = ProxyBody::streamed(Empty::<Bytes>::new());
        assert!(empty.is_end_stream());
        assert_eq!(empty.size_hint().exact(), Some(0));

        let streamed = ProxyBody::streamed(Full::new(Bytes::from_static(b"four")));
        assert!(!streamed.is_end_stream());
        assert_eq!(streamed.size_hint().exact(), Some(4));
        assert_eq!(streamed.collect().await.unwrap().to_bytes(), "four");

        let whole = ProxyBody::<Empty<Bytes>>::from(Bytes::from_static(b"three"));
        assert_eq!(whole.size_hint().exact(), Some(5));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "three");
    }

    #[tokio::test]
    async fn a_broken_body_says_whose_it_was() {
        let (sender, body) = http_body_util::channel::Channel::<Bytes, BoxError>::new(1);
        sender.abort("reset".into());
        let error = ProxyBody::streamed(body).collect().await.unwrap_err();
        assert!(ClientBodyError::caused(&*error));
    }
}
