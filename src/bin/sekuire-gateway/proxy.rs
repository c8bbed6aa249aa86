//! From a client's request to the upstream's answer.

use std::{error::Error, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, Version, uri::PathAndQuery};
use http_body::Body;
use http_body_util::{Either, Full};
use tower::{Service, ServiceExt};
use tower_sekuire::{BoxError, PolicyViolation};

use crate::{
    agents::Agents,
    body::{ClientBodyError, ProxyBody},
    door::Door,
    headers::{self, Credential},
    refusal::Refusal,
    target::Upstream,
};

/// Forwards requests to a service that stands for the upstream, and its answers back.
///
/// Knows nothing of connections: `S` is the layer over the client, or whatever a test puts there.
/// Neither body is read here. Dropping the future or the answer's body drops what is below, which
/// cancels the upstream call.
#[derive(Debug)]
pub(crate) struct Proxy<S> {
    pub(crate) service: S,
    pub(crate) door: Arc<Door>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) upstream: Upstream,
    pub(crate) credential: Option<Credential>,
}

/// The upstream's answer, or the gateway's own.
pub(crate) type Reply<R> = Either<Full<Bytes>, R>;

impl<S> Proxy<S> {
    /// Answers one request, which came in on `local`. Never fails: what goes wrong is an answer.
    pub(crate) async fn answer<B, R>(
        &self,
        request: Request<B>,
        local: SocketAddr,
    ) -> Response<Reply<R>>
    where
        S: Service<Request<ProxyBody<B>>, Response = Response<R>> + Clone,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        let line = RequestLine::of(&request);
        let outgoing = self
            .door
            .admit(&request, local)
            .and_then(|()| self.outgoing(request));
        let outgoing = match outgoing {
            Ok(outgoing) => outgoing,
            Err(refusal) => return line.refused(refusal),
        };
        match self.service.clone().oneshot(outgoing).await {
            // Nothing was offered to switch to; hyper passes a 101 on all the same.
            Ok(answer) if answer.status().is_informational() => line.failed(&*BoxError::from(
                "the upstream answered with an informational status",
            )),
            Ok(mut answer) => {
                headers::remove_hop_by_hop(answer.headers_mut());
                // The version is that of a connection, too.
                *answer.version_mut() = Version::HTTP_11;
                answer.map(Either::Right)
            }
            Err(error) => line.failed(&*error.into()),
        }
    }

    fn outgoing<B>(&self, request: Request<B>) -> Result<Request<ProxyBody<B>>, Refusal> {
        let (mut parts, body) = request.into_parts();
        self.agents.identify(&mut parts)?;
        let too_long = || {
            Refusal::request(
                StatusCode::URI_TOO_LONG,
                "uri_too_long",
                "the request target is too long",
            )
        };
        let target = parts.uri.path_and_query();
        parts.uri = self
            .upstream
            .uri_for(target.unwrap_or(&PathAndQuery::from_static("/")))
            .map_err(|_| too_long())?;
        parts.version = Version::HTTP_11;
        headers::prepare_request(&mut parts.headers, self.credential.as_ref());
        Ok(Request::from_parts(parts, ProxyBody::streamed(body)))
    }
}

/// What the log may say about a request: no query (it can hold keys), no headers, no body.
struct RequestLine {
    method: Method,
    uri: Uri,
}

impl RequestLine {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }

    fn refused<R>(&self, refusal: Refusal) -> Response<Reply<R>> {
        tracing::warn!(
            method = %self.method,
            path = self.uri.path(),
            status = refusal.status.as_u16(),
            code = refusal.code,
            "request refused"
        );
        refusal.into_response().map(Either::Left)
    }

    fn failed<R>(&self, error: &(dyn Error + 'static)) -> Response<Reply<R>> {
        // The layer answers violations itself; one that comes back as an error must not look like
        // a failure that is worth a retry.
        if let Some(violation) = PolicyViolation::find(error) {
            return self.refused(Refusal {
                status: StatusCode::FORBIDDEN,
                kind: "policy_violation",
                code: violation.rule().as_str(),
                message: violation.message().to_owned(),
            });
        }
        if ClientBodyError::caused(error) {
            return self.refused(Refusal::request(
                StatusCode::BAD_REQUEST,
                "request_unreadable",
                "the request body broke off, or its framing is wrong",
            ));
        }
        tracing::warn!(
            method = %self.method,
            path = self.uri.path(),
            error = %chain(error),
            "no answer from the upstream"
        );
        Refusal::upstream_unreachable()
            .into_response()
            .map(Either::Left)
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http_body_util::{BodyExt, Empty};
    use tower::service_fn;

    use super::*;

    type Seen = Arc<Mutex<Vec<http::request::Parts>>>;

    async fn ask(
        request: Request<Empty<Bytes>>,
        answer: Result<Response<Empty<Bytes>>, &'static str>,
    ) -> (Response<Reply<Empty<Bytes>>>, Vec<http::request::Parts>) {
        let seen = Seen::default();
        let record = Arc::clone(&seen);
        let proxy = Proxy {
            service: service_fn(move |request: Request<ProxyBody<Empty<Bytes>>>| {
                record.lock().unwrap().push(request.into_parts().0);
                std::future::ready(answer.clone().map_err(BoxError::from))
            }),
            door: Arc::new(Door::new(Vec::new(), false)),
            agents: Arc::new(Agents::Policys),
            upstream: "https://api.openai.com/v1".parse().unwrap(),
            credential: None,
        };
        let reply = proxy
            .answer(request, "127.0.0.1:8787".parse().unwrap())
            .await;
        drop(proxy);
        let seen = Arc::into_inner(seen).unwrap().into_inner().unwrap();
        (reply, seen)
    }

    fn request() -> http::request::Builder {
        Request::get("/v1/models?after=x%20y").header("host", "127.0.0.1:8787")
    }

    #[tokio::test]
    async fn the_upstream_sees_its_own_uri_and_no_connection_headers() {
        let request = request()
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-end", "2")
            .body(Empty::new())
            .unwrap();
        let answer = Response::builder()
            .version(Version::HTTP_2)
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-end", "2")
            .body(Empty::new())
            .unwrap();
        let (reply, seen) = ask(request, Ok(answer)).await;
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].uri, "https://api.openai.com/v1/models?after=x%20y");
        assert_eq!(seen[0].version, Version::HTTP_11);
        for headers in [&seen[0].headers, reply.headers()] {
            assert_eq!(headers.len(), 1);
            assert_eq!(headers["x-end"], "2");
        }
        assert_eq!(reply.version(), Version::HTTP_11);
    }

    #[tokio::test]
    async fn what_the_door_refuses_never_reaches_the_upstream() {
        let request = request()
            .header("upgrade", "websocket")
            .body(Empty::new())
            .unwrap();
        let (reply, seen) = ask(request, Err("unasked")).await;
        assert!(seen.is_empty());
        assert_eq!(reply.status(), StatusCode::FORBIDDEN);
        assert_eq!(reply.headers()["x-should-retry"], "false");
    }

    #[tokio::test]
    async fn a_failed_upstream_is_named_without_its_details() {
        let request = request().body(Empty::new()).unwrap();
        let (reply, _) = ask(request, Err("connect 10.0.0.5?key=secret")).await;
        assert_eq!(reply.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(reply.headers()["content-type"], "application/json");
        assert!(!reply.headers().contains_key("x-should-retry"));
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "error": {
                    "message": "the upstream could not be reached, or gave no answer",
                    "type": "upstream_error",
                    "param": null,
                    "code": "upstream_unreachable",
                }
            })
        );
    }

    #[tokio::test]
    async fn an_upstream_that_switches_protocols_is_no_answer() {
        let answer = Response::builder().status(101).body(Empty::new()).unwrap();
        let (reply, _) = ask(request().body(Empty::new()).unwrap(), Ok(answer)).await;
        assert_eq!(reply.status(), StatusCode::BAD_GATEWAY);
    }
}
