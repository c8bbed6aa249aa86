//! `--admin`: what was counted and what is in force, told on a listener of its own, which also takes orders.
//!
//! Apart from the door for agents, because they share that one and their budgets are nobody else's
//! business; on loopback only, because nobody who only reads is asked who they are here. An order needs a token: an
//! agent of this machine reaches loopback too, and must not let itself go on.

use std::{collections::BTreeSet, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_sekuire::{
    AgentKey, BoxError, KillScope, KillSwitch, LimitUnit, LimitUsage, LivePolicy, RedisStore,
    SekuireLayer, StoreRefusal,
};

use crate::{agents::bearer, door::Door, refusal::Refusal};

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
        async move { Ok::<_, Infallible>(admin.answer(request, local).await) }
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

/// What is told and ordered, and of what.
pub(crate) struct Admin {
    pub(crate) door: Door,
    pub(crate) layer: SekuireLayer,
    /// Where the limits are counted, unless here.
    pub(crate) store: Option<RedisStore>,
    /// The agents that are known by name besides the policy's: a store doesn't list those that it counts.
    pub(crate) known: Vec<AgentKey>,
    /// There may be agents of any name.
    pub(crate) takes_any: bool,
    pub(crate) live: LivePolicy,
    pub(crate) switch: KillSwitch,
    /// What whoever gives an order must show.
    pub(crate) token: Option<String>,
    /// What the layer counts.
    pub(crate) metrics: Option<PrometheusHandle>,
}

impl Admin {
    async fn answer<B>(&self, request: Request<B>, local: SocketAddr) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        if let Err(refusal) = self.door.admit(&request, local) {
            return refusal.into_response();
        }
        let Some(page) = Page::at(request.uri().path()) else {
            return Refusal::request(
                StatusCode::NOT_FOUND,
                "not_found",
                "here are GET /sekuire/usage, GET /sekuire/policy, GET and POST /sekuire/kill, POST /sekuire/restore, GET /metrics and GET /healthz",
            )
            .into_response();
        };
        let is_order = request.method() == Method::POST;
        if !(page.takes_orders() && is_order || page.is_read() && request.method() == Method::GET) {
            return page.wrong_method();
        }
        let answer = match page {
            Page::Health => return found("text/plain; charset=utf-8", "ok".to_owned()),
            Page::Metrics => {
                let told = self.metrics.as_ref().map(PrometheusHandle::render);
                return found(METRICS_TYPE, told.unwrap_or_default());
            }
            Page::Usage => self.usage().await.map_err(|_| {
                Refusal::request(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store_unavailable",
                    "Redis, where the limits are counted, doesn't answer",
                )
            }),
            Page::Policy => Ok(self.policy()),
            Page::Kill if !is_order => Ok(self.killed()),
            Page::Kill => self.order(request).await.map(|order| {
                self.switch.kill(order.scope, order.reason);
                self.killed()
            }),
            Page::Restore => self.order(request).await.map(|order| {
                self.switch.restore(&order.scope);
                self.killed()
            }),
        };
        match answer {
            Ok(told) => found("application/json", told.to_string()),
            Err(refusal) => refusal.into_response(),
        }
    }

    /// What an order says, if whoever gives it may.
    async fn order<B>(&self, request: Request<B>) -> Result<Order, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let Some(token) = &self.token else {
            return Err(Refusal::request(
                StatusCode::FORBIDDEN,
                "orders_not_taken",
                "no orders are taken: start the gateway with --admin-token-env",
            ));
        };
        let shown = bearer(request.headers());
        if !shown.is_some_and(|shown| bool::from(shown.ct_eq(token.trim().as_bytes()))) {
            return Err(Refusal::request(
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "an order needs the token of --admin-token-env, in Authorization: Bearer",
            ));
        }
        let body = Limited::new(request.into_body(), MAX_ORDER).collect().await;
        let order = body
            .ok()
            .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok())
            .and_then(|order| Order::read(&order));
        let Some(order) = order else {
            return Err(Refusal::request(
                StatusCode::BAD_REQUEST,
                "order_unreadable",
                r#"expected {"everything": true} or {"agent": "NAME"}, each with a "reason" if there is one"#,
            ));
        };
        match &order.scope {
            // An order for an agent that there isn't would only seem to be carried out.
            KillScope::Agent(agent) if !self.knows(agent) => Err(Refusal::request(
                StatusCode::NOT_FOUND,
                "agent_unknown",
                "there is no agent of this name: neither the policy's, nor one that it lists or that has a token",
            )),
            _ => Ok(order),
        }
    }

    fn knows(&self, agent: &AgentKey) -> bool {
        self.takes_any
            || self.known.contains(agent)
            || self.layer.enforcer().policy().agent() == agent.as_str()
            // It was known when it was stopped.
            || self.switch.killed().iter().any(|(scope, _)| matches!(scope, KillScope::Agent(killed) if killed == agent))
    }

    fn killed(&self) -> Value {
        let mut killed: Vec<Value> = Vec::new();
        for (scope, reason) in self.switch.killed() {
            killed.push(match scope {
                KillScope::Agent(agent) => json!({"agent": agent.as_str(), "reason": reason}),
                _ => json!({"everything": true, "reason": reason}),
            });
        }
        killed.sort_by_key(Value::to_string);
        json!({"killed": killed})
    }

    fn policy(&self) -> Value {
        let status = self.live.status();
        let enforcer = self.layer.enforcer();
        json!({
            "version": status.version(),
            "sha256": status.hash(),
            "age_seconds": status.age().as_secs(),
            "agent": enforcer.policy().agent(),
            "sekuire_id": enforcer.policy().sekuire_id(),
            "refused": status.failures(),
            "last_error": status.last_error(),
        })
    }

    /// Each agent that counts something, with each limit that it counts under; with a store, each that is known.
    async fn usage(&self) -> Result<Value, StoreRefusal> {
        let Some(store) = &self.store else {
            let agents = self.layer.usage();
            let agents = agents.iter().map(|(agent, limits)| of_agent(agent, limits));
            return Ok(json!({"agents": agents.collect::<Vec<_>>()}));
        };
        let mut agents = Vec::new();
        let enforcer = self.layer.enforcer();
        let mut known: BTreeSet<&str> = self.known.iter().map(AgentKey::as_str).collect();
        known.insert(enforcer.policy().agent());
        for agent in known {
            let limits = enforcer.shared_usage(agent).await?;
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

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Health,
    Metrics,
    Usage,
    Policy,
    Kill,
    Restore,
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/metrics" => Self::Metrics,
            "/sekuire/usage" => Self::Usage,
            "/sekuire/policy" => Self::Policy,
            "/sekuire/kill" => Self::Kill,
            "/sekuire/restore" => Self::Restore,
            _ => return None,
        })
    }

    const fn takes_orders(self) -> bool {
        matches!(self, Self::Kill | Self::Restore)
    }

    const fn is_read(self) -> bool {
        !matches!(self, Self::Restore)
    }

    fn wrong_method(self) -> Response<Full<Bytes>> {
        let (allowed, message) = match (self.is_read(), self.takes_orders()) {
            (true, true) => ("GET, POST", "this is read by GET and ordered by POST"),
            (false, _) => ("POST", "this is ordered by POST"),
            (true, false) => ("GET", "this is only read, by GET"),
        };
        let refused = Refusal::request(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        );
        let mut refused = refused.into_response();
        let headers = refused.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        refused
    }
}

/// Whom to stop, or to let go on.
struct Order {
    scope: KillScope,
    reason: String,
}

impl Order {
    /// Exactly one scope, and nothing that isn't understood: with a key misspelt, somebody else might be meant.
    fn read(order: &Value) -> Option<Self> {
        let order = order.as_object()?;
        let reason = match order.get("reason") {
            None => String::new(),
            Some(reason) => reason.as_str()?.to_owned(),
        };
        let scope = match (order.get("everything"), order.get("agent")) {
            (Some(Value::Bool(true)), None) => KillScope::Everything,
            (None, Some(Value::String(agent))) => KillScope::Agent(AgentKey::new(agent.as_str())),
            _ => return None,
        };
        let known = 1 + usize::from(order.contains_key("reason"));
        (order.len() == known).then_some(Self { scope, reason })
    }
}

/// In bytes.
const MAX_ORDER: usize = 16 << 10;

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
    let (scope, model) = (limit.scope().as_str(), limit.scope().model());
    let unit = match limit.unit() {
        LimitUnit::Requests => "requests",
        LimitUnit::Tokens => "tokens",
        _ => "other",
    };
    let reset = usage.reset();
    json!({
        "scope": scope,
        "model": model.map(ToString::to_string),
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
            known: vec![AgentKey::new("alice")],
            takes_any: false,
            live: LivePolicy::new(enforcer.clone()),
            switch: KillSwitch::new(),
            token: Some("t0ken".to_owned()),
            metrics: None,
        };
        (admin, enforcer, clock)
    }

    async fn ask(
        admin: &Admin,
        request: http::request::Builder,
    ) -> (http::response::Parts, String) {
        ask_with(admin, request, "").await
    }

    async fn ask_with(
        admin: &Admin,
        request: http::request::Builder,
        body: &'static str,
    ) -> (http::response::Parts, String) {
        let request = request.header("host", "127.0.0.1:9000");
        let request = request
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap();
        let answer = admin
            .answer(request, "127.0.0.1:9000".parse().unwrap())
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
    async fn orders_are_carried_out_for_whoever_shows_the_token() {
        let admin = admin().0;
        let order = |path: &str| Request::post(path).header("authorization", "Bearer t0ken");
        for (body, killed) in [
            (
                r#"{"agent":"alice","reason":"it deletes things"}"#,
                json!([{"agent": "alice", "reason": "it deletes things"}]),
            ),
            (
                r#"{"everything":true}"#,
                json!([{"agent": "alice", "reason": "it deletes things"}, {"everything": true, "reason": ""}]),
            ),
        ] {
            let (head, told) = ask_with(&admin, order("/sekuire/kill"), body).await;
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(
                (head.status.as_u16(), &told),
                (200, &json!({"killed": killed}))
            );
            let (_, read) = ask(&admin, Request::get("/sekuire/kill")).await;
            assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), told);
        }
        let restore = r#"{"everything":true}"#;
        let (_, told) = ask_with(&admin, order("/sekuire/restore"), restore).await;
        assert_eq!(
            told,
            r#"{"killed":[{"agent":"alice","reason":"it deletes things"}]}"#
        );
    }

    #[tokio::test]
    async fn an_order_that_is_not_understood_or_not_allowed_does_nothing() {
        let mut admin = admin().0;
        let all = r#"{"everything":true}"#;
        for (token, body, status, code) in [
            ("Bearer wrong", all, 401, "invalid_api_key"),
            ("t0ken", all, 401, "invalid_api_key"),
            ("Bearer ", all, 401, "invalid_api_key"),
            ("Bearer t0ken", "", 400, "order_unreadable"),
            ("Bearer t0ken", "{}", 400, "order_unreadable"),
            (
                "Bearer t0ken",
                r#"{"everything":false}"#,
                400,
                "order_unreadable",
            ),
            (
                "Bearer t0ken",
                r#"{"agnet":"alice"}"#,
                400,
                "order_unreadable",
            ),
            (
                "Bearer t0ken",
                r#"{"agent":"alice","everything":true}"#,
                400,
                "order_unreadable",
            ),
            (
                "Bearer t0ken",
                r#"{"agent":"alice","reason":1}"#,
                400,
                "order_unreadable",
            ),
            ("Bearer t0ken", r#"{"agent":"alicf"}"#, 404, "agent_unknown"),
        ] {
            let request = Request::post("/sekuire/kill").header("authorization", token);
            let (head, told) = ask_with(&admin, request, body).await;
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(
                (head.status.as_u16(), &told["error"]["code"]),
                (status, &json!(code))
            );
        }
        let long =
            Box::leak(format!(r#"{{"everything":true,"reason":"{}"}}"#, "x".repeat(20_000)).into());
        let request = Request::post("/sekuire/kill").header("authorization", "Bearer t0ken");
        assert_eq!(ask_with(&admin, request, long).await.0.status, 400);
        admin.token = None;
        let request = Request::post("/sekuire/kill").header("authorization", "Bearer t0ken");
        let (head, told) = ask_with(&admin, request, all).await;
        assert_eq!(head.status, 403);
        assert!(told.contains("--admin-token-env"), "{told}");
        assert!(admin.switch.killed().is_empty());
    }

    #[tokio::test]
    async fn the_policy_in_force_is_told() {
        let admin = admin().0;
        let (_, told) = ask(&admin, Request::get("/sekuire/policy")).await;
        assert_eq!(
            serde_json::from_str::<Value>(&told).unwrap(),
            json!({
                "version": 1, "sha256": null, "age_seconds": 0, "agent": "default", "sekuire_id": null,
                "refused": 0, "last_error": null,
            })
        );
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
            (Request::get("/sekuire/restore"), 405, "method_not_allowed"),
            (Request::put("/sekuire/kill"), 405, "method_not_allowed"),
            (Request::post("/sekuire/policy"), 405, "method_not_allowed"),
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
