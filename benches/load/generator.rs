//! The clients: each has a connection of its own and asks again as soon as it was answered.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::BoxError;
use crate::calls::{Call, KIND, Kind};
use crate::process::Program;

/// What a proxy did in one turn.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    /// The proxy's CPU time for each call, in microseconds.
    pub(crate) cpu: f64,
    /// Milliseconds until the answer was whole.
    pub(crate) whole: Percentiles,
    /// Milliseconds until the first byte of the answer's body.
    pub(crate) first: Percentiles,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent / 100).min(times.len() - 1);
            times[index].as_secs_f64() * 1e3
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }
}

/// When an answer began and when it was whole, from the moment of asking.
struct Timing {
    first: Duration,
    whole: Duration,
}

/// Asks for as long as `duration`, and waits for what is under way then.
pub(crate) async fn load(
    proxy: &Program,
    call: &Call,
    connections: usize,
    duration: Duration,
) -> Result<Sample, BoxError> {
    let mut clients = try_join_all((0..connections).map(|_| Client::connect(proxy, call))).await?;
    // Once each, so that the proxy's own connections are there.
    try_join_all(clients.iter_mut().map(Client::ask)).await?;
    let cpu = proxy.cpu()?;
    let start = Instant::now();
    let timings = try_join_all(clients.iter_mut().map(async |client| {
        let mut timings = Vec::new();
        while timings.is_empty() || start.elapsed() < duration {
            timings.push(client.ask().await?);
        }
        Ok::<_, BoxError>(timings)
    }))
    .await?;
    let elapsed = start.elapsed();
    let cpu = proxy.cpu()?.saturating_sub(cpu);
    let timings: Vec<Timing> = timings.into_iter().flatten().collect();
    let calls = timings.len() as f64;
    Ok(Sample {
        per_second: calls / elapsed.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / calls,
        whole: Percentiles::of(timings.iter().map(|timing| timing.whole).collect()),
        first: Percentiles::of(timings.iter().map(|timing| timing.first).collect()),
    })
}

/// Streams that have begun and wait. Closed when this is dropped.
pub(crate) struct Idle {
    _streams: Vec<(Client<'static>, Incoming)>,
}

impl Idle {
    pub(crate) async fn open(
        proxy: &Program,
        call: &Call,
        streams: usize,
    ) -> Result<Self, BoxError> {
        let call: &'static Call = Box::leak(Box::new(call.clone()));
        let mut open = Vec::with_capacity(streams);
        while open.len() < streams {
            let some = (streams - open.len()).min(32);
            let begun = (0..some).map(async |_| {
                let mut client = Client::connect(proxy, call).await?;
                let mut body = client.send().await?;
                read(&mut body, call, || {}).await?;
                Ok::<_, BoxError>((client, body))
            });
            open.extend(try_join_all(begun).await?);
        }
        Ok(Self { _streams: open })
    }
}

struct Client<'a> {
    call: &'a Call,
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

impl<'a> Client<'a> {
    async fn connect(proxy: &Program, call: &'a Call) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(proxy.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Whoever waits for an answer is told of a failure.
            let _ = connection.await;
        });
        Ok(Self {
            call,
            host: proxy.address.to_string(),
            sender,
        })
    }

    /// Asks, and returns the answer's body when its head was as it must be.
    async fn send(&mut self) -> Result<Incoming, BoxError> {
        let request = Request::post("/v1/chat/completions")
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, "Bearer sk-none")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "load")
            .header(KIND, self.call.kind.as_str())
            .body(Full::new(self.call.request.clone()))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("status {}", answer.status()).into());
        }
        match answer.headers().get(header::CONTENT_TYPE) {
            Some(value) if value == self.call.content_type => Ok(answer.into_body()),
            other => Err(format!("content type {other:?}").into()),
        }
    }

    async fn ask(&mut self) -> Result<Timing, BoxError> {
        let asked = Instant::now();
        let mut body = self.send().await?;
        let mut first = Duration::ZERO;
        read(&mut body, self.call, || first = asked.elapsed()).await?;
        Ok(Timing {
            first,
            whole: asked.elapsed(),
        })
    }
}

/// Reads an answer, or what comes of an idle stream; an error when a byte of it is missing, too much or changed.
async fn read(body: &mut Incoming, call: &Call, at_first: impl FnOnce()) -> Result<(), BoxError> {
    let mut left = &call.answer[..];
    let mut at_first = Some(at_first);
    while !left.is_empty() || call.kind != Kind::Idle {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
            break;
        };
        if let Some(at_first) = at_first.take() {
            at_first();
        }
        let data = frame?.into_data().map_err(|_| "trailers")?;
        left = left
            .strip_prefix(&*data)
            .ok_or("the answer is not the one that the upstream gave")?;
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("the answer lacks its last {} bytes", left.len()).into())
    }
}
