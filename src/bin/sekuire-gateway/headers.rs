//! Which headers end at the gateway, and whose key goes upstream.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, InvalidHeaderValue},
};

/// The key that the gateway sends upstream in place of its clients'.
///
/// INVARIANT: the value is marked sensitive, so that no `Debug` output shows it.
#[derive(Debug, Clone)]
pub(crate) struct Credential(HeaderValue);

impl Credential {
    /// # Errors
    ///
    /// When `key` holds characters that a header can't carry, such as a line break.
    pub(crate) fn bearer(key: &str) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {key}"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Removes every way in which a client could choose the account, then adds this key.
    fn replace_in(&self, headers: &mut HeaderMap) {
        remove_account(headers);
        headers.insert(header::AUTHORIZATION, self.0.clone());
    }
}

/// Removes every header by which a client chooses the account, its key included.
pub(crate) fn remove_account(headers: &mut HeaderMap) {
    for name in ACCOUNT_HEADERS {
        headers.remove(name);
    }
}

/// Whether a request would be another, or be handled otherwise, without this header.
pub(crate) fn has_meaning(name: &HeaderName) -> bool {
    let name = name.as_str();
    ACCOUNT_HEADERS.contains(&name)
        || is_hop_by_hop(name)
        || METHOD_OVERRIDES.contains(&name)
        || matches!(name, "expect" | "host" | "origin")
        || ["accept", "content-", "openai-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Makes a client's headers the gateway's own request headers.
pub(crate) fn prepare_request(headers: &mut HeaderMap, credential: Option<&Credential>) {
    remove_hop_by_hop(headers);
    // The client library writes the upstream's name here, from the URI.
    headers.remove(header::HOST);
    // Answered on this side already, when the body was first asked for.
    headers.remove(header::EXPECT);
    if let Some(credential) = credential {
        credential.replace_in(headers);
    } else if let Some(authorization) = headers.get_mut(header::AUTHORIZATION) {
        authorization.set_sensitive(true);
    }
}

/// Removes what concerns one connection only (RFC 9110, 7.6.1), in either direction.
///
/// One walk over the few names that are there: to look up each of those that could be costs ten times as much, and
/// nearly every message has one of them or none.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut ends_here: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()))
        .cloned()
        .collect();
    if ends_here.contains(&header::CONNECTION) {
        let named = connection_options(headers);
        ends_here.extend(named.filter_map(|option| HeaderName::from_bytes(option).ok()));
    }
    for name in ends_here {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name) || name.starts_with("proxy-")
}

/// Whether a header overrides the request line's method at some servers.
pub(crate) fn override_method(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| METHOD_OVERRIDES.contains(&name.as_str()))
}

/// Whether a `connection` header names `option`.
pub(crate) fn connection_names(headers: &HeaderMap, option: &str) -> bool {
    connection_options(headers).any(|named| named.eq_ignore_ascii_case(option.as_bytes()))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// By these a request line's method is overridden at some servers.
const METHOD_OVERRIDES: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

const ACCOUNT_HEADERS: [&str; 4] = [
    "authorization",
    "api-key",
    "openai-organization",
    "openai-project",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_hop_by_hop_header_is_removed_and_nothing_else() {
        for name in [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ] {
            let mut map = headers(&[(name, "x"), ("content-type", "application/json")]);
            remove_hop_by_hop(&mut map);
            assert_eq!(names(&map), ["content-type"], "{name}");
        }
    }

    #[test]
    fn headers_that_connection_names_are_removed() {
        for connection in ["X-One,x-two", " x-one , , X-TWO,", "close, x-two,x-one"] {
            let mut map = headers(&[("x-one", "1"), ("x-two", "2"), ("x-three", "3")]);
            map.insert(header::CONNECTION, HeaderValue::from_static(connection));
            remove_hop_by_hop(&mut map);
            assert_eq!(names(&map), ["x-three"], "{connection}");
        }
        let mut twice = headers(&[("x-one", "1"), ("x-two", "2")]);
        twice.append(header::CONNECTION, HeaderValue::from_static("x-one"));
        twice.append(header::CONNECTION, HeaderValue::from_static("x-two"));
        remove_hop_by_hop(&mut twice);
        assert!(twice.is_empty());
    }

    #[test]
    fn connection_options_that_are_no_header_name_are_skipped() {
        let mut map = headers(&[("x-one", "1")]);
        map.insert(
            header::CONNECTION,
            HeaderValue::from_bytes(b"\xff\xfe, (x), x-one").unwrap(),
        );
        remove_hop_by_hop(&mut map);
        assert!(map.is_empty());
    }

    #[test]
    fn authorization_is_forwarded_as_sent_without_a_credential() {
        let mut map = headers(&[
            ("authorization", "Bearer client"),
            ("api-key", "client"),
            ("openai-organization", "org"),
            ("openai-project", "proj"),
            ("host", "127.0.0.1:8787"),
            ("expect", "100-continue"),
        ]);
        prepare_request(&mut map, None);
        assert_eq!(
            names(&map),
            [
                "api-key",
                "authorization",
                "openai-organization",
                "openai-project"
            ]
        );
        assert_eq!(map["authorization"], "Bearer client");
    }

    #[test]
    fn a_credential_replaces_everything_that_chooses_the_account() {
        let mut map = headers(&[
            ("authorization", "Bearer client"),
            ("api-key", "client"),
            ("openai-organization", "org"),
            ("openai-project", "proj"),
        ]);
        map.append(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer second"),
        );
        prepare_request(&mut map, Some(&Credential::bearer("sk-gateway").unwrap()));
        assert_eq!(names(&map), ["authorization"]);
        assert_eq!(map.get_all("authorization").iter().count(), 1);
        assert_eq!(map["authorization"], "Bearer sk-gateway");
    }

    #[test]
    fn a_credential_is_never_shown() {
        let credential = Credential::bearer("sk-gateway").unwrap();
        assert!(!format!("{credential:?}").contains("sk-gateway"));
        assert!(Credential::bearer("sk-gateway\n").is_err());
    }
}
