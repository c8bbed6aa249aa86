//! The HTTP client below the layer.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body::Body;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client, ResponseFuture,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tower::{Service, ServiceExt};
use tower_sekuire::BoxError;

/// A client that is cloned for each call without the many parts that hyper's has.
#[derive(Debug)]
pub(crate) struct UpstreamClient<C, B>(Arc<Client<C, B>>);

impl<C, B> Clone for UpstreamClient<C, B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, B> Service<Request<B>> for UpstreamClient<C, B>
where
    C: Connect + Clone + Send + Sync + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.0.request(request)
    }
}

/// A pooled client that follows no redirects and reads no proxy settings: both would send
/// requests to hosts that the policy wasn't asked about.
///
/// HTTP/1.1 only. Answers stream for minutes, and over HTTP/2 all of them would share one
/// connection, with its flow control and the server's limit on concurrent streams: one slow
/// reader, or the hundred-and-first, would hold up everybody else.
pub(crate) fn upstream_client<B>() -> UpstreamClient<impl Connect + Clone + Send + Sync + 'static, B>
where
    B: Body<Data = Bytes> + Send,
{
    let mut tcp = HttpConnector::new();
    // The scheme is the policy's business (`require_tls`).
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    // The timeout of the TCP connector ends with the TCP handshake; a peer that accepts and then
    // says nothing would hold the TLS handshake for ever.
    let connector = tower::service_fn(move |uri: Uri| {
        let https = https.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT_TIMEOUT, https.oneshot(uri))
                .await
                .map_err(|elapsed| BoxError::from(format!("connecting: {elapsed}")))?
        })
    });
    let client = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_MAX_IDLE)
        .build(connector);
    UpstreamClient(Arc::new(client))
}

/// Long enough for a lost SYN to be sent again three times.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Notices a peer that vanished without a word while an answer was awaited. There is no timeout
/// on the answer itself: reasoning models take minutes, and clients have their own.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Shorter than the idle timeouts of common servers and balancers (60 s and more), so that a
/// pooled connection is seldom one that the peer is just closing.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

const POOL_MAX_IDLE: usize = 64;
