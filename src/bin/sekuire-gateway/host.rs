//! Host names as a `Host` header, an `Origin` or `--host` spells them.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// A name that clients may reach the gateway by; without a port, by any port.
///
/// Any port is safe: the name is what a page of somebody else's can't have, and behind a port
/// mapping or a proxy the port that the client sees is not the listener's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName {
    host: String,
    port: Option<u16>,
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = HostPort::parse(text).ok_or("expected a host name, or host:port")?;
        Ok(Self {
            host: host.host.to_ascii_lowercase(),
            port: host.port,
        })
    }
}

/// `host[:port]`, taken apart and not yet judged. An IPv6 address is without its brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostPort<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// `None` for anything but a plain host name or address with an optional port: no userinfo,
    /// no empty port, no path.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':')?),
            };
            (address, port)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if host.is_empty() || !host.bytes().all(plain) {
                return None;
            }
            (host, port)
        };
        let port = match port {
            // `u16::from_str` takes a leading plus.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            Some(_) => return None,
            None => None,
        };
        Some(Self { host, port })
    }

    /// Whether this is the gateway: the address that the connection came in on (a rebound DNS
    /// name can't spell it), a loopback name on a loopback connection, or one of `names`.
    pub(crate) fn names_this_gateway(
        self,
        default_port: u16,
        local: SocketAddr,
        names: &[HostName],
    ) -> bool {
        let port = self.port.unwrap_or(default_port);
        let local_ip = local.ip().to_canonical();
        let is_listener = port == local.port()
            && match self.host.parse::<IpAddr>() {
                Ok(ip) => {
                    let ip = ip.to_canonical();
                    ip == local_ip || (ip.is_loopback() && local_ip.is_loopback())
                }
                Err(_) => self.host.eq_ignore_ascii_case("localhost") && local_ip.is_loopback(),
            };
        is_listener
            || names.iter().any(|name| {
                name.host.eq_ignore_ascii_case(self.host)
                    && name.port.is_none_or(|named| named == port)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(host: &str, local: &str, names: &[&str]) -> bool {
        let names: Vec<HostName> = names.iter().map(|name| name.parse().unwrap()).collect();
        HostPort::parse(host)
            .is_some_and(|host| host.names_this_gateway(80, local.parse().unwrap(), &names))
    }

    #[test]
    fn loopback_names_need_a_loopback_connection_and_its_port() {
        for host in [
            "127.0.0.1:8787",
            "localhost:8787",
            "LOCALHOST:8787",
            "[::1]:8787",
        ] {
            assert!(accepted(host, "127.0.0.1:8787", &[]), "{host}");
            assert!(accepted(host, "[::1]:8787", &[]), "{host}");
            assert!(accepted(host, "[::ffff:127.0.0.1]:8787", &[]), "{host}");
            assert!(!accepted(host, "127.0.0.1:8788", &[]), "{host}");
            assert!(!accepted(host, "10.0.0.5:8787", &[]), "{host}");
        }
        assert!(accepted("localhost", "127.0.0.1:80", &[]));
        assert!(!accepted("localhost", "127.0.0.1:8787", &[]));
    }

    #[test]
    fn other_names_are_refused_however_they_are_spelled() {
        for host in [
            "evil.example:8787",
            "127.0.0.1.evil.example:8787",
            "localhost.:8787",
            "localhost.evil.example:8787",
            "user@127.0.0.1:8787",
            "127.0.0.1:8787@evil.example",
            "127.0.0.1:",
            "127.0.0.1:+8787",
            "127.0.0.1:08787x",
            "127.1:8787",
            "0x7f000001:8787",
            "[::1",
            "[::1]8787",
            "::1:8787",
            "localhost:8787/",
            "http://localhost:8787",
            "",
            ":8787",
        ] {
            assert!(!accepted(host, "127.0.0.1:8787", &[]), "{host}");
        }
    }

    #[test]
    fn the_address_a_connection_came_in_on_is_accepted() {
        assert!(accepted("10.0.0.5:8787", "10.0.0.5:8787", &[]));
        assert!(!accepted("10.0.0.6:8787", "10.0.0.5:8787", &[]));
    }

    #[test]
    fn a_named_host_is_accepted_on_any_port_unless_it_names_one() {
        let local = "172.17.0.2:8787";
        assert!(accepted("gateway.internal", local, &["Gateway.Internal"]));
        assert!(accepted(
            "gateway.internal:9000",
            local,
            &["gateway.internal"]
        ));
        assert!(accepted("localhost:9000", local, &["localhost:9000"]));
        assert!(!accepted("localhost:9001", local, &["localhost:9000"]));
        assert!(!accepted(
            "a.gateway.internal",
            local,
            &["gateway.internal"]
        ));
        assert!("http://gateway".parse::<HostName>().is_err());
    }
}
