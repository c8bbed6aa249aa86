//! What is refused before the policy is asked: requests that aren't for this gateway, or that
//! would leave the ways that the policy can see.

use std::net::SocketAddr;

use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, header};

use crate::{
    headers,
    host::{HostName, HostPort},
    refusal::Refusal,
};

/// Lets requests in.
///
/// A loopback address keeps the network out, not a web page: a page's host name can be pointed at
/// 127.0.0.1 after it was loaded (DNS rebinding), and its scripts then reach the gateway with that
/// name in `Host`. So the name is checked on every request.
#[derive(Debug)]
pub(crate) struct Door {
    names: Vec<HostName>,
    lends_a_key: bool,
}

impl Door {
    /// `names` are accepted besides the listener's own; `lends_a_key` says that requests leave
    /// with a key that their sender need not have.
    pub(crate) fn new(names: Vec<HostName>, lends_a_key: bool) -> Self {
        Self { names, lends_a_key }
    }

    /// # Errors
    ///
    /// The answer for a request that must not pass, which came in on `local`.
    pub(crate) fn admit<B>(&self, request: &Request<B>, local: SocketAddr) -> Result<(), Refusal> {
        if request.version() != Version::HTTP_11 {
            // HTTP/1.0 marks the end of a stream by closing, so a client couldn't tell an answer
            // that was cut off from one that is complete.
            return Err(Refusal::request(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "http_version_not_supported",
                "the gateway speaks HTTP/1.1",
            ));
        }
        refuse_upgrades(request)?;
        refuse_method_overrides(request.headers())?;
        refuse_foreign_targets(request.uri())?;
        self.refuse_foreign_hosts(request.headers(), local)?;
        self.refuse_foreign_pages(request.headers(), local)
    }

    fn refuse_foreign_hosts(&self, headers: &HeaderMap, local: SocketAddr) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::request(
                StatusCode::BAD_REQUEST,
                "host_unreadable",
                "a request carries exactly one Host header",
            ));
        };
        let host = host.to_str().ok().and_then(HostPort::parse);
        if host.is_some_and(|host| host.names_this_gateway(80, local, &self.names)) {
            return Ok(());
        }
        Err(Refusal::host(
            "the Host header names neither the gateway's own address nor a name that it was \
             started with; add the name with --host if it is meant",
        ))
    }

    /// A page may also send simple requests (forms, plain `fetch`) to the gateway's real address,
    /// without reading the answers. Without a key it does no more than it could do itself; with
    /// the gateway's key it would act for whoever runs the gateway.
    fn refuse_foreign_pages(&self, headers: &HeaderMap, local: SocketAddr) -> Result<(), Refusal> {
        if !self.lends_a_key {
            return Ok(());
        }
        let is_ours = |origin: &http::HeaderValue| {
            let (host, default_port) = match origin.to_str().ok()?.split_once("://")? {
                ("http", host) => (host, 80),
                ("https", host) => (host, 443),
                _ => return None,
            };
            Some(HostPort::parse(host)?.names_this_gateway(default_port, local, &self.names))
        };
        if headers
            .get_all(header::ORIGIN)
            .iter()
            .all(|origin| is_ours(origin) == Some(true))
        {
            return Ok(());
        }
        Err(Refusal::host(
            "requests from other web pages are refused while the gateway lends its key",
        ))
    }
}

/// What follows an upgrade isn't HTTP any more, and no rule would see it.
fn refuse_upgrades<B>(request: &Request<B>) -> Result<(), Refusal> {
    if request.method() == Method::CONNECT {
        return Err(Refusal::endpoint(
            "tunnels are refused: what passes through one can't be inspected",
        ));
    }
    if request.headers().contains_key(header::UPGRADE)
        || headers::connection_names(request.headers(), "upgrade")
    {
        return Err(Refusal::endpoint(
            "upgrades are refused: websockets can't be inspected; use the HTTP API, which streams \
             by server-sent events",
        ));
    }
    Ok(())
}

/// The rules judge the method of the request line; an upstream that honours one of these headers
/// would carry out another.
fn refuse_method_overrides(map: &HeaderMap) -> Result<(), Refusal> {
    if headers::override_method(map) {
        return Err(Refusal::endpoint(
            "method override headers are refused: send the method itself",
        ));
    }
    Ok(())
}

/// Only `/path?query`: with a host in the target there would be two hosts to choose from, and `*`
/// names no resource.
fn refuse_foreign_targets(uri: &Uri) -> Result<(), Refusal> {
    if uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(Refusal::host(
            "the gateway is not a forward proxy: the request target must be a path",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::post("/v1/chat/completions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn code(lends_a_key: bool, request: &Request<()>) -> Option<&'static str> {
        Door::new(Vec::new(), lends_a_key)
            .admit(request, "127.0.0.1:8787".parse().unwrap())
            .err()
            .map(|refusal| refusal.code)
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8787");

    #[test]
    fn an_ordinary_request_is_let_in() {
        assert_eq!(
            code(true, &request(&[HOST, ("connection", "keep-alive, te")])),
            None
        );
    }

    #[test]
    fn upgrades_and_tunnels_are_refused() {
        for headers in [
            [HOST, ("upgrade", "websocket")],
            [HOST, ("upgrade", "h2c")],
            [HOST, ("connection", "keep-alive, Upgrade")],
        ] {
            assert_eq!(
                code(false, &request(&headers)),
                Some("endpoint_not_allowed")
            );
        }
        let mut connect = request(&[HOST]);
        *connect.method_mut() = Method::CONNECT;
        *connect.uri_mut() = "api.openai.com:443".parse().unwrap();
        assert_eq!(code(false, &connect), Some("endpoint_not_allowed"));
    }

    #[test]
    fn method_overrides_are_refused() {
        for name in [
            "X-HTTP-Method-Override",
            "X-HTTP-Method",
            "X-Method-Override",
        ] {
            assert_eq!(
                code(false, &request(&[HOST, (name, "DELETE")])),
                Some("endpoint_not_allowed")
            );
        }
    }

    #[test]
    fn one_host_header_is_required_and_must_be_ours() {
        assert_eq!(code(false, &request(&[])), Some("host_unreadable"));
        assert_eq!(
            code(false, &request(&[HOST, HOST])),
            Some("host_unreadable")
        );
        assert_eq!(
            code(false, &request(&[("host", "evil.example")])),
            Some("host_not_allowed")
        );
    }

    #[test]
    fn targets_that_are_not_a_path_are_refused() {
        for target in ["http://127.0.0.1:8787/v1/models", "*"] {
            let mut request = request(&[HOST]);
            *request.uri_mut() = target.parse().unwrap();
            assert_eq!(code(false, &request), Some("host_not_allowed"), "{target}");
        }
    }

    #[test]
    fn old_http_is_refused() {
        let mut request = request(&[HOST]);
        *request.version_mut() = Version::HTTP_10;
        assert_eq!(code(false, &request), Some("http_version_not_supported"));
    }

    #[test]
    fn other_pages_are_refused_only_when_a_key_is_lent() {
        for origin in [
            "http://evil.example",
            "null",
            "file://",
            "http://localhost:3000",
        ] {
            let request = request(&[HOST, ("origin", origin)]);
            assert_eq!(code(true, &request), Some("host_not_allowed"), "{origin}");
            assert_eq!(code(false, &request), None, "{origin}");
        }
        let own = request(&[HOST, ("origin", "http://localhost:8787")]);
        assert_eq!(code(true, &own), None);
    }
}
