//! The proxy without inspection: the gateway's own client and threads, and a server set up as the gateway's.

use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Service;

use crate::BoxError;
use crate::client::upstream_client;
use crate::workers::Workers;

pub(crate) async fn serve(upstream: Authority) -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::announce(listener.local_addr()?)?;
    let workers = Workers::start(move || {
        let (client, upstream) = (upstream_client(), upstream.clone());
        move |stream| {
            stream.set_nodelay(true)?;
            let (client, upstream) = (client.clone(), upstream.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                let (mut client, upstream) = (client.clone(), upstream.clone());
                async move {
                    let mut parts = std::mem::take(request.uri_mut()).into_parts();
                    parts.scheme = Some(Scheme::HTTP);
                    parts.authority = Some(upstream);
                    *request.uri_mut() = Uri::from_parts(parts).unwrap();
                    request.headers_mut().remove(header::HOST);
                    client.call(request).await
                }
            });
            Ok(http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30))
                .serve_connection(TokioIo::new(stream), service))
        }
    })?;
    let slots = std::sync::Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    loop {
        let (stream, _) = listener.accept().await?;
        workers.take(stream, slots.clone().acquire_owned().await?)?;
    }
}
