//! `--admin`: what was counted, told on a listener of its own.
//!
//! Apart from the door for agents, because they share that one and their budgets are nobody else's
//! business; on loopback only, because nobody is asked who they are here.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_sekuire::{LimitScope, LimitUnit, LimitUsage, RedisStore, SekuireLayer, StoreRefusal};

use crate::{door::Door, refusal::Refusal};

/// Answers for as long as it is polled.
pub(crate) async fn accept(listener: TcpListener, admin: Admin) {
    let admin = Arc::new(admin);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept, admin");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, admin).await {
                tracing::debug!(%error, "admin connection ended");
            }
            drop(slot);
        });
    }
}

/// One request a connection: who looks now and then needs no more, and none is held open.
async fn serve(
    stream: TcpStream,
    admin: Arc<Admin>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let local = stream.local_addr()?;
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(&request, local).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Of the whole exchange: a reader that stalls must not keep a slot either.
    tokio::time::timeout(2 * REQUEST_TIMEOUT, served).await??;
    Ok(())
}

/// What is told, and of what.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) door: Door,
    pub(crate) layer: SekuireLayer,
    /// Where the limits are counted, unless here.
    pub(crate) store: Option<RedisStore>,
    /// The agents that are known by name: a store doesn't list those that it counts.
    pub(crate) known: Vec<String>,
    /// What the layer counts.
    pub(crate) metrics: Option<PrometheusHandle>,
}

impl Admin {
    async fn answer<B>(&self, request: &Request<B>, local: SocketAddr) -> Response<Full<Bytes>> {
        if let Err(refusal) = self.door.admit(request, local) {
            return refusal.into_response();
        }
        let path = request.uri().path();
        if !matches!(path, HEALTH | USAGE | METRICS) {
            return Refusal::request(
                StatusCode::NOT_FOUND,
                "not_found",
                "here are GET /sekuire/usage, GET /metrics and GET /healthz",
            )
            .into_response();
        }
        if request.method() != Method::GET {
            let mut refused = Refusal::request(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this is only read, by GET",
            )
            .into_response();
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        if path == HEALTH {
            return found("text/plain; charset=utf-8", "ok".to_owned());
        }
        if path == METRICS {
            let told = self.metrics.as_ref().map(PrometheusHandle::render);
            return found(METRICS_TYPE, told.unwrap_or_default());
        }
        match self.usage().await {
            Ok(usage) => found("application/json", usage.to_string()),
            Err(_) => Refusal::request(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "Redis, where the limits are counted, doesn't answer",
            )
            .into_response(),
        }
    }

    /// Each agent that counts something, with each limit that it counts under; with a store, each that is known.
    async fn usage(&self) -> Result<Value, StoreRefusal> {
        let Some(store) = &self.store else {
            let agents = self.layer.usage();
            let agents = agents.iter().map(|(agent, limits)| of_agent(agent, limits));
            return Ok(json!({"agents": agents.collect::<Vec<_>>()}));
        };
        let mut agents = Vec::new();
        for agent in &self.known {
            let limits = self.layer.enforcer().shared_usage(agent).await?;
            agents.push(of_agent(agent, &limits));
        }
        let status = store.status();
        let store = json!({
            "reachable": status.reachable,
            "unanswered": status.unanswered,
            "counted_here": status.counted_here,
            "waiting": status.waiting,
            "lost": status.lost,
            "open": status.open,
        });
        Ok(json!({"agents": agents, "store": store}))
    }
}

const HEALTH: &str = "/healthz";
const USAGE: &str = "/sekuire/usage";
const METRICS: &str = "/metrics";
/// Prometheus's own text.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn found(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn of_agent(agent: &str, limits: &[LimitUsage]) -> Value {
    let limits: Vec<Value> = limits.iter().map(of_limit).collect();
    json!({"agent": agent, "limits": limits})
}

fn of_limit(usage: &LimitUsage) -> Value {
    let limit = usage.limit();
    let (scope, models) = match limit.scope() {
        LimitScope::PerAgent => ("per_agent", None),
        LimitScope::PerModel(pattern) => ("per_model", Some(pattern.to_string())),
        LimitScope::Global => ("global", None),
        _ => ("other", None),
    };
    let unit = match limit.unit() {
        LimitUnit::Requests => "requests",
        LimitUnit::Tokens => "tokens",
        _ => "other",
    };
    let reset = usage.reset();
    json!({
        "scope": scope,
        "model": models,
        "unit": unit,
        "window_seconds": limit.window().as_secs(),
        "limit": limit.max(),
        "used": usage.used(),
        "reserved": usage.reserved(),
        "remaining": usage.remaining(),
        // Rounded up: by then it is so.
        "reset_seconds": reset.as_secs() + u64::from(reset.subsec_nanos() > 0),
    })
}

const MAX_CONNECTIONS: usize = 32;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower_sekuire::{ManualClock, Policy, PolicyEnforcer, RateLimit};

    use super::*;

    const LIMITS: &str = "
rate_limits:
  per_agent: { requests_per_minute: 10, tokens_per_hour: 100 }
  per_model: { 'gpt-4*': { requests_per_day: 5 } }
  global: { tokens_per_day: 50 }
";

    fn admin() -> (Admin, PolicyEnforcer, ManualClock) {
        let clock = ManualClock::new();
        let enforcer = PolicyEnforcer::new(Policy::from_yaml(LIMITS).unwrap()).clock(clock.clone());
        let admin = Admin {
            door: Door::new(Vec::new(), true),
            layer: SekuireLayer::from_enforcer(enforcer.clone()),
            store: None,
            known: Vec::new(),
            metrics: None,
        };
        (admin, enforcer, clock)
    }

    async fn ask(
        admin: &Admin,
        request: http::request::Builder,
    ) -> (http::response::Parts, String) {
        let request = request.header("host", "127.0.0.1:9000").body(()).unwrap();
        let answer = admin
            .answer(&request, "127.0.0.1:9000".parse().unwrap())
            .await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn usage_is_told_by_agent_and_limit() {
        let (admin, enforcer, clock) = admin();
        let (head, body) = ask(&admin, Request::get("/sekuire/usage")).await;
        assert_eq!(head.headers["content-type"], "application/json");
        assert_eq!(head.headers["cache-control"], "no-store");
        assert_eq!(body, r#"{"agents":[]}"#);

        enforcer.enforce_rate_limit(RateLimit::Request).unwrap();
        enforcer
            .enforce_rate_limit(RateLimit::Tokens(60))
            .unwrap_err();
        clock.advance(Duration::from_millis(18_500));
        let (_, body) = ask(&admin, Request::get("/sekuire/usage?now")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["agents"].as_array().unwrap().len(), 1);
        assert_eq!(body["agents"][0]["agent"], "default");
        let limits = body["agents"][0]["limits"].as_array().unwrap();
        let limit = |unit: &str, scope: &str| {
            let found = limits
                .iter()
                .find(|limit| limit["unit"] == unit && limit["scope"] == scope);
            found.unwrap().clone()
        };
        assert_eq!(
            limit("requests", "per_agent"),
            json!({
                "scope": "per_agent", "model": null, "unit": "requests", "window_seconds": 60, "limit": 10,
                "used": 1, "reserved": 0, "remaining": 9, "reset_seconds": 42,
            })
        );
        let all = limit("tokens", "global");
        assert_eq!((&all["used"], &all["remaining"]), (&json!(60), &json!(0)));
    }

    #[tokio::test]
    async fn health_is_two_letters() {
        let (head, body) = ask(&admin().0, Request::get("/healthz")).await;
        assert_eq!((head.status.as_u16(), body.as_str()), (200, "ok"));
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let admin = admin().0;
        for (request, status, code) in [
            (Request::get("/"), 404, "not_found"),
            (Request::get("/v1/models"), 404, "not_found"),
            (Request::get("/sekuire/usage/"), 404, "not_found"),
            (Request::post("/sekuire/usage"), 405, "method_not_allowed"),
            (Request::delete("/healthz"), 405, "method_not_allowed"),
            (
                Request::get("/healthz").header("host", "evil.example"),
                400,
                "host_unreadable",
            ),
            (
                Request::get("/healthz").header("origin", "http://evil.example"),
                403,
                "host_not_allowed",
            ),
        ] {
            let (head, body) = ask(&admin, request).await;
            assert_eq!(head.status, status, "{body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["code"], code);
            assert_eq!(head.headers.contains_key("allow"), status == 405);
        }
    }
}
