//! `serve`: everything that must hold before the first request, the connections, and the end.

use std::{
    collections::HashSet, convert::Infallible, fmt::Display, io::IsTerminal, net::SocketAddr,
    path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::{Layer, Service};
use tower_sekuire::{
    ApiRules, AuditLog, BoxError, KillSwitch, LivePolicy, Mode, Policy, PolicyEnforcer, PolicyFile,
    PolicyWatch, Respond, SekuireLayer,
};
use tracing_subscriber::EnvFilter;

use crate::{
    admin::{self, Admin},
    agents::{AgentHeader, Agents},
    body::ProxyBody,
    cli::{EndpointName, ModeArg, ServeArgs, ServiceHost},
    client::upstream_client,
    door::Door,
    headers::Credential,
    metrics,
    proxy::Proxy,
    store::store,
    target::{BasePath, Upstream},
    tokens::TokenTable,
    workers::Workers,
};

/// Serves until it is told to stop. Exit code 2 when it can't start.
pub(crate) fn run(args: ServeArgs) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG)))
        .init();
    // It accepts; other threads serve.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return crate::refuse_to_run(&error),
    };
    let served = runtime.block_on(serve(args));
    // Nothing is waited for any more; a name lookup under way would otherwise hold the exit.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => crate::refuse_to_run(&reason),
    }
}

/// Why the gateway doesn't start, for the person who starts it.
#[derive(Debug)]
struct StartError(String);

impl StartError {
    fn new(what: impl Display, reason: impl Display) -> Self {
        Self(format!("{what}: {reason}"))
    }
}

impl Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

async fn serve(args: ServeArgs) -> Result<(), StartError> {
    distinct_labels(&args)?;
    let unloadable = |error| StartError::new("the policy can't be loaded", error);
    let loader = args.policy.loader().map_err(unloadable)?;
    let mut file = PolicyFile::new(&args.policy.policy, loader);
    let policy = file.load().map_err(unloadable)?;
    let upstream: Upstream = args
        .upstream
        .parse()
        .map_err(|error| StartError::new("--upstream", error))?;
    announce(&policy, &file, &args);
    let agents = agents(&args, &policy)?;
    if !matches!(agents, Agents::Policys) && policy.agents().len() > 1 {
        tracing::warn!(
            "the policy lists several agents, and the rules are those of `{}` for everybody: only \
             limits, logs and the kill switch tell agents apart",
            policy.agent().escape_debug()
        );
    }
    allowed_upstream(&policy, &upstream, args.mode)?;
    let mut enforcer = PolicyEnforcer::new(policy).mode(args.mode.into());
    let store = store(&args.store).map_err(|(flag, reason)| StartError::new(flag, reason))?;
    if let Some(store) = &store {
        tracing::info!("limits are counted in Redis");
        enforcer = enforcer.limit_store(store.clone());
    }
    let addresses = lookup("--listen", &args.listen).await?;
    let credential = credential(&args, &addresses)?;

    let (listener, address) = bind(&args.listen, &addresses).await?;
    let admin = admin_listener(&args).await?;
    let admin_token = match &args.admin_token_env {
        Some(name) => Some(secret("--admin-token-env", name)?),
        None => None,
    };
    // Before the line is printed: whoever reads it may send the signal at once.
    let mut stop = StopSignal::new().map_err(|error| StartError::new("signals", error))?;
    let hangup = Hangup::new().map_err(|error| StartError::new("signals", error))?;

    let live = LivePolicy::new(enforcer);
    let switch = KillSwitch::new();
    let mut layer = layer(live.clone(), &args, &upstream);
    let audit_log = audit_log(&args)?;
    if let Some(log) = audit_log.clone() {
        layer = layer.on_decision(move |decision| log.record(decision));
    }
    known_service(layer.enforcer().policy(), &layer, &upstream, args.mode)?;
    let file = file.accept(acceptable(&layer, &upstream, &args));
    let watch = if args.watch {
        file.watch(&live)
    } else {
        file.on_request(&live)
    };
    let watch = watch.map_err(|error| StartError::new("the policy can't be watched", error))?;
    tokio::spawn(reload_on(hangup, Arc::new(watch)));
    if let Some((listener, address)) = admin {
        let metrics = metrics::install().map_err(|error| StartError::new("metrics", error))?;
        tracing::info!("admin listening on http://{address}");
        let admin = Admin {
            door: Door::new(args.hosts.clone(), true),
            layer: layer.clone(),
            store: store.clone(),
            known: agents.known(),
            takes_any: agents.takes_any(),
            live,
            switch: switch.clone(),
            token: admin_token,
            metrics: Some(metrics),
        };
        tokio::spawn(admin::accept(listener, admin));
    }
    let door = Arc::new(Door::new(args.hosts, credential.is_some()));
    let agents = Arc::new(agents);
    let workers = Workers::start(move || {
        // A client for each thread, since its connections are served where they were made, and
        // settings of the layer, so that threads don't count together which calls use them. What calls
        // count there is one of.
        let layer = layer.clone().kill_switch(&switch);
        let proxy = Arc::new(Proxy {
            service: layer.layer(upstream_client()),
            agents: Arc::clone(&agents),
            door: Arc::clone(&door),
            upstream: upstream.clone(),
            credential: credential.clone(),
        });
        move |stream| connection(stream, Arc::clone(&proxy))
    });
    let workers = workers.map_err(|error| StartError::new("threads", error))?;
    if let Err(error) = crate::print(&format!("listening on http://{address}\n")) {
        tracing::warn!(%error, "the listening address could not be printed");
    }
    let connections = usize::try_from(args.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
    accept(listener, workers, connections, &mut stop).await;
    if let Some(store) = store
        && !store.flush(FLUSH_TIME).await
    {
        tracing::warn!("the latest usage didn't reach Redis; it is charged as it was reserved");
    }
    if let Some(log) = audit_log
        && !log.flush(FLUSH_TIME)
    {
        tracing::warn!("the last lines of the audit log could not be written");
    }
    Ok(())
}

fn audit_log(args: &ServeArgs) -> Result<Option<AuditLog>, StartError> {
    let open = |path: &PathBuf| {
        AuditLog::open(path)
            .map_err(|error| StartError::new(format_args!("--audit-log {}", path.display()), error))
    };
    args.audit_log.as_ref().map(open).transpose()
}

async fn lookup(flag: &str, address: &str) -> Result<Vec<SocketAddr>, StartError> {
    tokio::net::lookup_host(address)
        .await
        .map(Iterator::collect)
        .map_err(|error| StartError::new(format_args!("{flag} {address}"), error))
}

async fn bind(
    name: &str,
    addresses: &[SocketAddr],
) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = TcpListener::bind(addresses)
        .await
        .map_err(|error| StartError::new(format_args!("can't listen on {name}"), error))?;
    let address = listener
        .local_addr()
        .map_err(|error| StartError::new("the listening address", error))?;
    Ok((listener, address))
}

/// The listener of `--admin`, unless the network could reach it: nobody is asked who they are there.
async fn admin_listener(args: &ServeArgs) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(name) = &args.admin else {
        return Ok(None);
    };
    let addresses = lookup("--admin", name).await?;
    if !addresses.iter().all(is_loopback) {
        return Err(StartError::new(
            "--admin",
            format_args!(
                "{name} isn't a loopback address, and whoever can reach it could read what agents use"
            ),
        ));
    }
    bind(name, &addresses).await.map(Some)
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// How requests are told apart.
fn agents(args: &ServeArgs, policy: &Policy) -> Result<Agents, StartError> {
    if let Some(path) = &args.agents.agent_tokens {
        let tokens = TokenTable::from_path(path).map_err(|reason| {
            StartError::new(format_args!("--agent-tokens {}", path.display()), reason)
        })?;
        tracing::info!(tokens = tokens.len(), "clients need a token");
        if args.api_key_env.is_none() {
            tracing::warn!("requests go upstream without a key: there is no --api-key-env");
        }
        return Ok(Agents::ByToken(tokens));
    }
    Ok(match &args.agents.agent_header {
        Some(name) => Agents::ByHeader(AgentHeader::new(name.clone(), policy)),
        None => Agents::Policys,
    })
}

fn announce(policy: &Policy, file: &PolicyFile, args: &ServeArgs) {
    let (mode, path) = (args.mode, &args.policy.policy);
    let hash = file.hash().unwrap_or_default();
    // Those that replace it count on from there.
    let version = 1;
    tracing::info!(
        agent = policy.agent(),
        ?mode,
        version,
        hash,
        "policy loaded"
    );
    for notice in policy.warnings() {
        tracing::warn!("{}", notice.in_file(path));
    }
    for notice in policy.translated() {
        tracing::info!("translated: {}", notice.in_file(path));
    }
    for notice in policy.unenforced() {
        tracing::info!("not enforced: {}", notice.in_file(path));
    }
    if mode != ModeArg::Block {
        tracing::warn!(?mode, "violations are not stopped");
    }
}

/// Whether the policy allows the upstream.
///
/// Every request goes to the one upstream, so a forbidden one would refuse them all; better to
/// learn that from whoever starts the gateway, or changes its policy, than from its clients.
fn allowed_upstream(policy: &Policy, upstream: &Upstream, mode: ModeArg) -> Result<(), StartError> {
    // In the mode that says no: what follows from it is decided here.
    let enforcer = PolicyEnforcer::new(policy.clone()).mode(Mode::Block);
    if let Err(violation) = enforcer.enforce_network(upstream.host(), upstream.scheme()) {
        let what = format!(
            "the policy forbids the upstream {}://{}",
            upstream.scheme(),
            upstream.host()
        );
        if mode == ModeArg::Block {
            return Err(StartError::new(what, violation));
        }
        tracing::warn!(rule = violation.rule().as_str(), "{what}: {violation}");
    }
    Ok(())
}

/// Says early what every request would be refused for: the upstream is no service that the policy allows.
fn known_service(
    policy: &Policy,
    layer: &SekuireLayer,
    upstream: &Upstream,
    mode: ModeArg,
) -> Result<(), StartError> {
    if !policy.api().is_some_and(ApiRules::is_restricted) {
        return Ok(());
    }
    let host = upstream.host();
    let what = match layer.service_of(host) {
        None => format!(
            "the policy restricts services, and the upstream {host} is no known one: say which it is by --service-host SERVICE={host}"
        ),
        Some(service) => match PolicyEnforcer::new(policy.clone()).enforce_api(service) {
            Ok(()) => return Ok(()),
            Err(violation) => format!("the policy forbids the upstream {host}: {violation}"),
        },
    };
    if mode == ModeArg::Block {
        return Err(StartError(what));
    }
    tracing::warn!("{what}");
    Ok(())
}

/// What a policy must be to take the place of the one that the gateway started with.
fn acceptable(
    layer: &SekuireLayer,
    upstream: &Upstream,
    args: &ServeArgs,
) -> impl Fn(&Policy) -> Result<(), BoxError> + Send + 'static {
    let (layer, upstream, mode) = (layer.clone(), upstream.clone(), args.mode);
    let by_header = args.agents.agent_header.is_some();
    let listed = layer.enforcer().policy().agents().to_vec();
    move |policy| {
        allowed_upstream(policy, &upstream, mode)
            .and_then(|()| known_service(policy, &layer, &upstream, mode))
            .map_err(|error| error.0)?;
        if by_header && policy.agents() != listed {
            return Err("the policy lists other agents than at the start, when --agent-header learned them: restart the gateway".into());
        }
        Ok(())
    }
}

/// Loads the policy anew whenever it is asked to.
async fn reload_on(mut hangup: Hangup, watch: Arc<PolicyWatch>) {
    while hangup.received().await {
        let watch = Arc::clone(&watch);
        // What came of it, `reload` has logged.
        let _ = tokio::task::spawn_blocking(move || watch.reload()).await;
    }
}

/// The layer over the upstream's client, with everything that the flags open or close.
fn layer(live: LivePolicy, args: &ServeArgs, upstream: &Upstream) -> SekuireLayer {
    let mut layer = SekuireLayer::from_source(live)
        .respond(Respond::OpenAi)
        .strict_history(args.strict_history)
        .strict_state(args.strict_state)
        .rate_limit_headers(args.limits.rate_limit_headers)
        .default_output_tokens(args.limits.default_output_tokens)
        .ask_for_usage(!args.limits.no_stream_options)
        .reserve_tokens(!args.limits.no_reservations)
        .cut_streams_over_budget(!args.limits.let_streams_outgrow);
    for base in upstream.bases() {
        layer = layer.base_path(base);
    }
    for BasePath(base) in &args.base_paths {
        layer = layer.base_path(base.as_str());
    }
    for EndpointName(endpoint) in &args.open_endpoints {
        tracing::warn!(%endpoint, "open: passes unread");
        layer = layer.open_endpoint(endpoint.as_str());
    }
    for id in &args.open_stored {
        layer = layer.open_stored(id.as_str());
    }
    for ServiceHost { service, host } in &args.service_hosts {
        layer = layer.service_hosts(service, [host]);
    }
    for server in &args.mcp_servers {
        layer = layer.mcp_server(server.label.as_str(), server.host.as_str());
    }
    layer
}

/// A label stands for one place; which of two was meant can't be known.
fn distinct_labels(args: &ServeArgs) -> Result<(), StartError> {
    let mut labels = HashSet::new();
    for server in &args.mcp_servers {
        if !labels.insert(&server.label) {
            return Err(StartError::new(
                "--mcp-server",
                format_args!("the label `{}` is given twice", server.label.escape_debug()),
            ));
        }
    }
    Ok(())
}

/// The key to lend, unless it would be lent to strangers.
fn credential(
    args: &ServeArgs,
    addresses: &[SocketAddr],
) -> Result<Option<Credential>, StartError> {
    let Some(name) = &args.api_key_env else {
        return Ok(None);
    };
    let may_be_lent = args.agents.agent_tokens.is_some() || args.allow_anonymous;
    if !may_be_lent && !addresses.iter().all(is_loopback) {
        return Err(StartError::new(
            "--api-key-env",
            format_args!(
                "{} isn't a loopback address, so whoever can reach it could use the key; give \
                 clients tokens by --agent-tokens, or say --allow-anonymous if that is meant",
                args.listen
            ),
        ));
    }
    let key = secret("--api-key-env", name)?;
    Credential::bearer(&key).map(Some).map_err(|_| {
        StartError::new(
            format_args!("--api-key-env {name}"),
            "the value holds characters that a header can't carry",
        )
    })
}

/// The value of an environment variable that a flag names. No message repeats it.
fn secret(flag: &str, name: &str) -> Result<String, StartError> {
    let what = format!("{flag} {name}");
    let key = std::env::var(name).map_err(|error| match error {
        std::env::VarError::NotPresent => StartError::new(&what, "the variable is not set"),
        std::env::VarError::NotUnicode(_) => StartError::new(&what, "the value is not text"),
    })?;
    if key.trim().is_empty() {
        return Err(StartError::new(&what, "the variable is empty"));
    }
    Ok(key)
}

/// Accepts connections until `stop`, then waits for the requests under way.
async fn accept(
    listener: TcpListener,
    workers: Workers,
    max_connections: usize,
    stop: &mut StopSignal,
) {
    let slots = Arc::new(Semaphore::new(max_connections));
    loop {
        // The slot comes first: a connection that can't be served yet stays in the listen queue,
        // where it costs nothing.
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stop.received() => break,
            next = next => next,
        };
        // The semaphore is never closed.
        let Ok(slot) = slot else { break };
        let taken = accepted.and_then(|(stream, _)| workers.take(stream, slot));
        if let Err(error) = taken {
            tracing::warn!(%error, "accept");
            // Out of file descriptors, mostly: asking again at once would only spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    drop(listener);
    tracing::info!(connections = workers.open(), "stopping");
    tokio::select! {
        () = workers.end() => {}
        () = stop.received() => tracing::warn!("told to stop twice: requests under way are cut off"),
    }
}

fn connection<S, R>(
    stream: TcpStream,
    proxy: Arc<Proxy<S>>,
) -> std::io::Result<
    impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send,
>
where
    S: Service<Request<ProxyBody<Incoming>>, Response = Response<R>>,
    S: Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let local = stream.local_addr()?;
    // Events are small and each is wanted at once.
    stream.set_nodelay(true)?;
    let service = service_fn(move |request: Request<Incoming>| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.answer(request, local).await) }
    });
    // No `with_upgrades`: a connection that was let through could then become anything.
    Ok(http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service))
}

/// SIGTERM or SIGINT.
struct StopSignal {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignal {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl StopSignal {
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn received(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// SIGHUP: the policy file is to be loaded anew.
struct Hangup(#[cfg(unix)] tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangup {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    async fn received(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}

#[cfg(not(unix))]
impl Hangup {
    fn new() -> std::io::Result<Self> {
        Ok(Self())
    }

    /// There is no such signal, and the file may be watched all the same.
    async fn received(&mut self) -> bool {
        std::future::pending().await
    }
}

/// Without the spans of calls: on standard error they would only repeat what the events say.
const LOG: &str = "info,tower_sekuire::call=off";

/// Also how long an idle connection is kept: longer than the SDKs keep theirs, so that it is they
/// who close and no request meets a closing connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What an end waits for Redis, and for the audit log.
const FLUSH_TIME: Duration = Duration::from_secs(2);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
