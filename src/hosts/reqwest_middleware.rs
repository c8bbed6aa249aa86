//! The policy as a middleware of reqwest-middleware clients.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;

use http::{Extensions, request};
use reqwest::{Body, Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tracing::Instrument;

use crate::accounting::AgentKey;
use crate::body::ResponseBody;
use crate::body::collect::{Collected, Uncollected};
use crate::enforcer::PolicyEnforcer;
use crate::exchange::Exchange;
use crate::governor::{Begin, Governor};
use crate::hosts::reqwest::{received, released};
use crate::kill_switch::Leash;
use crate::layer::SekuireLayer;
use crate::steps::{self, Admitted, Governed, Received, Stop};
use crate::violation::PolicyViolation;

/// Governs every call of a reqwest-middleware client by a policy, as [`SekuireLayer`] governs a tower service: the
/// same decisions, and one count with the layer that it was made from.
///
/// Add it **last**, so that it is the nearest to the client: what a middleware below it changes is not judged. A retry above
/// it makes attempts that are each judged and counted, and a limit ends them; one below it is not seen. Build the client with [`redirect::Policy::none`](reqwest::redirect::Policy::none):
/// reqwest follows redirects below every middleware, where no policy sees the new address. (The answer to an
/// inspected call that was redirected is refused, but the request has been there by then.) The client's default
/// headers are added below, too, and are not judged.
///
/// An inspected request is read whole and sent on as the same bytes, which makes a streaming body reusable. Event
/// streams pass through event by event.
///
/// A refused call fails with an error in which [`PolicyViolation::find`] finds the reason, and so does the body of a
/// stream that is cut off; with [`Respond::OpenAi`](crate::Respond::OpenAi) both become what an OpenAI server would answer.
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_sekuire::{Policy, PolicyViolation, SekuireLayer, SekuireMiddleware};
///
/// # tokio_test::block_on(async {
/// let policy = Policy::from_yaml("agent: { models: { blocked_models: [gpt-3.5-turbo] } }")?;
/// let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
/// let client = ClientBuilder::new(client)
///     .with(SekuireMiddleware::from(SekuireLayer::new(policy)))
///     .build();
///
/// let refused = client
///     .post("https://api.openai.com/v1/chat/completions")
///     .header("content-type", "application/json")
///     .body(r#"{"model":"gpt-3.5-turbo","messages":[]}"#)
///     .send()
///     .await
///     .unwrap_err();
/// let violation = PolicyViolation::find(&refused).unwrap();
/// assert_eq!(violation.to_string(), "[model_blocked] Model gpt-3.5-turbo is not allowed");
/// # Ok::<(), tower_sekuire::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SekuireMiddleware {
    governor: Arc<Governor>,
}

impl SekuireMiddleware {
    /// A middleware with the options of `layer`, which shares its limits, clock and mode.
    #[must_use]
    pub fn new(layer: &SekuireLayer) -> Self {
        Self {
            governor: layer.governor().clone(),
        }
    }
}

impl From<SekuireLayer> for SekuireMiddleware {
    fn from(layer: SekuireLayer) -> Self {
        Self::new(&layer)
    }
}

#[async_trait::async_trait]
impl Middleware for SekuireMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let url = request.url().clone();
        let mut head = take_head(&mut request)?;
        if let Some(agent) = extensions.get::<AgentKey>() {
            head.extensions.insert(agent.clone());
        }
        if let Some(policy) = extensions.get::<PolicyEnforcer>() {
            head.extensions.insert(policy.clone());
        }
        let governed = match self.governor.begin(&head) {
            Begin::Refuse(violation) => Err(Stop::Refused(violation)),
            Begin::Pass(span, leash) => {
                *request.headers_mut() = head.headers;
                let Some(leash) = leash else {
                    return next.run(request, extensions).instrument(span).await;
                };
                match pass(leash, request, extensions, next)
                    .instrument(span)
                    .await
                {
                    Ok(answer) => return Ok(answer),
                    Err(stop) => Err(stop),
                }
            }
            Begin::Read(exchange, leash) => {
                govern(exchange, leash, head, request, extensions, next).await
            }
        };
        let answer = governed.or_else(|stop| match stop {
            Stop::Refused(violation) => steps::refuse(violation, self.governor.respond)
                .map_err(|violation| Error::middleware(Refused(violation))),
            Stop::Failed(error) => Err(error),
        })?;
        Ok(released(answer, url))
    }
}

/// The request's head, as the policy reads it. The headers are taken from the request, all else is copied.
fn take_head(request: &mut Request) -> Result<request::Parts> {
    let (mut head, ()) = http::Request::builder()
        .method(request.method().clone())
        .uri(request.url().as_str())
        .version(request.version())
        .body(())
        .map_err(Error::middleware)?
        .into_parts();
    head.headers = mem::take(request.headers_mut());
    Ok(head)
}

/// A call that passes unread, unless somebody stops it.
async fn pass(
    mut leash: Box<Leash>,
    request: Request,
    extensions: &mut Extensions,
    next: Next<'_>,
) -> std::result::Result<Response, Stop<Error>> {
    let answer = next.run(request, extensions);
    let answer = Leash::unless_pulled(Some(&mut leash), answer).await?;
    let answer = answer.map_err(Stop::Failed)?;
    let url = answer.url().clone();
    let answer = http::Response::from(answer).map(ResponseBody::pass);
    Ok(released(held(Some(leash), answer), url))
}

/// An answer whose body a switch may end.
fn held(leash: Option<Box<Leash>>, mut answer: Governed<Body>) -> Governed<Body> {
    if let Some(leash) = leash {
        answer.body_mut().hold_by(leash);
    }
    answer
}

async fn govern(
    mut exchange: Box<Exchange>,
    mut leash: Option<Box<Leash>>,
    mut head: request::Parts,
    mut request: Request,
    extensions: &mut Extensions,
    next: Next<'_>,
) -> std::result::Result<Governed<Body>, Stop<Error>> {
    let asked = request.url().clone();

    let mut collected = exchange.collects_request();
    let whole = match request.body_mut().take() {
        Some(body) => {
            let collecting = collect(&mut collected, body);
            let whole = Leash::unless_pulled(leash.as_deref_mut(), collecting).await;
            whole.map_err(|violation| stopped(&mut exchange, violation))?
        }
        None => Ok(()),
    };
    let body = match steps::admit(&mut exchange, &mut head, collected, whole)? {
        Admitted::Send(body) => body,
        Admitted::Ask(mut asking, body) => {
            let answer = Leash::unless_pulled(leash.as_deref_mut(), asking.answer.as_mut()).await;
            let answer = answer.map_err(|violation| stopped(&mut exchange, violation))?;
            steps::resume(&mut exchange, &asking, answer)?;
            body
        }
    };
    *request.body_mut() = Some(Body::from(body));
    *request.headers_mut() = head.headers;

    let span = exchange.span().clone();
    let answer = next.run(request, extensions).instrument(span);
    let answer = Leash::unless_pulled(leash.as_deref_mut(), answer).await;
    let answer = match answer {
        Err(violation) => return Err(stopped(&mut exchange, violation).into()),
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            exchange.failed();
            return Err(Stop::Failed(error));
        }
    };
    match steps::receive(received(&asked, answer), exchange)? {
        Received::Release(answer) => Ok(held(leash, answer)),
        Received::Collect(body, mut receipt) => {
            let collecting = collect(&mut receipt.collected, body);
            let whole = Leash::unless_pulled(leash.as_deref_mut(), collecting).await;
            let whole = whole.map_err(|violation| stopped(&mut receipt.exchange, violation))?;
            receipt.judge(whole, |error| PolicyViolation::find(error).cloned())
        }
    }
}

fn stopped(exchange: &mut Exchange, violation: PolicyViolation) -> PolicyViolation {
    exchange.stopped(&violation);
    violation
}

async fn collect(
    collected: &mut Collected,
    body: Body,
) -> std::result::Result<(), Uncollected<Error>> {
    let mut body = pin!(body);
    poll_fn(|cx| collected.poll_from(body.as_mut(), cx))
        .await
        .map_err(|why| match why {
            Uncollected::OverCap => Uncollected::OverCap,
            Uncollected::Failed(error) => Uncollected::Failed(error.into()),
        })
}

/// Stands around the violation because reqwest-middleware's error is transparent: it tells the source of the error
/// that it is given, and a violation itself would not be found in the chain.
#[derive(Debug)]
struct Refused(PolicyViolation);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the policy refused the call")
    }
}

impl StdError for Refused {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}
