//! Where requests go: the upstream, and the path below it.

use std::str::FromStr;

use http::{
    Uri,
    uri::{Authority, InvalidUri, PathAndQuery, Scheme},
};

use crate::host::HostPort;

/// The provider, as `--upstream` names it.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or a path that starts with a slash and doesn't end with one.
    base: String,
}

impl Upstream {
    pub(crate) fn host(&self) -> &str {
        self.authority.host()
    }

    pub(crate) fn scheme(&self) -> &str {
        self.scheme.as_str()
    }

    /// The paths under which the API begins at the upstream because of its base, as the layer sees them.
    pub(crate) fn bases(&self) -> Vec<String> {
        if self.base.is_empty() {
            return Vec::new();
        }
        let mut bases = vec![self.base.clone()];
        if !self.base.ends_with("/v1") {
            // A client's own `/v1` comes after it.
            bases.push(format!("{}/v1", self.base));
        }
        bases
    }

    /// The URI for a client's request target, whose bytes are kept, escapes and query included.
    ///
    /// # Errors
    ///
    /// When base and target together are longer than a URI may be.
    pub(crate) fn uri_for(&self, target: &PathAndQuery) -> Result<Uri, http::Error> {
        let base = self.base_not_repeated_by(target.path());
        let path = if base.is_empty() {
            target.clone()
        } else {
            PathAndQuery::try_from(format!("{base}{target}"))?
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    /// The part of the base that `path` doesn't begin with already.
    ///
    /// SDKs differ in what they call the base URL: with and without the `/v1`, and for some
    /// providers with a path before it. All of them mean the same resource.
    fn base_not_repeated_by(&self, path: &str) -> &str {
        if is_below(path, &self.base) {
            return "";
        }
        match self.base.strip_suffix("/v1") {
            Some(above) if is_below(path, "/v1") => above,
            _ => &self.base,
        }
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The parser drops a fragment silently.
        if text.contains(['?', '#']) {
            return Err("an upstream has no query and no fragment".to_owned());
        }
        let uri = text
            .parse::<Uri>()
            .map_err(|error: InvalidUri| error.to_string())?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err("expected http:// or https://, a host, and its base path".to_owned());
        };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(format!("`{scheme}` is not http or https"));
        }
        if authority.as_str().contains('@') {
            // Not repeated in the message: it may be a password.
            return Err("an upstream has no user name or password".to_owned());
        }
        // The parser takes an empty port, and any number for one.
        if HostPort::parse(authority.as_str()).is_none_or(|host| host.port == Some(0)) {
            return Err("the host or port is none that can be reached".to_owned());
        }
        let base = uri.path().trim_end_matches('/');
        if !is_plain(base) {
            return Err(
                "the base path must be plain: no empty or dot segments, no escapes".to_owned(),
            );
        }
        Ok(Self {
            scheme: scheme.clone(),
            authority: authority.clone(),
            base: base.to_owned(),
        })
    }
}

/// A `--base-path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BasePath(pub(crate) String);

impl FromStr for BasePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let base = text.trim_end_matches('/');
        let ascii = base.bytes().all(|byte| byte.is_ascii_graphic());
        if !base.starts_with('/') || !ascii || base.contains(['?', '#']) || !is_plain(base) {
            return Err("expected a plain path such as /tenants/a/v1");
        }
        // Only at the end does it stand for anything.
        let fixed = base.strip_suffix("/{}").unwrap_or(base);
        if fixed.contains(['{', '}']) {
            return Err("`{}` stands for an Azure deployment, as the last segment only");
        }
        Ok(Self(base.to_owned()))
    }
}

/// Whether a base path means the same to the rules and to every server.
fn is_plain(base: &str) -> bool {
    base.split('/')
        .skip(1)
        .all(|segment| !matches!(segment, "" | "." | "..") && !segment.contains(['%', '\\', ';']))
}

/// Whether `path` is `base` or a resource below it.
fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_never_repeated() {
        for (upstream, target, expected) in [
            (
                "https://api.openai.com",
                "/v1/models",
                "https://api.openai.com/v1/models",
            ),
            (
                "https://api.openai.com/",
                "/v1/models",
                "https://api.openai.com/v1/models",
            ),
            (
                "https://api.openai.com/v1",
                "/v1/models",
                "https://api.openai.com/v1/models",
            ),
            (
                "https://api.openai.com/v1/",
                "/v1/models",
                "https://api.openai.com/v1/models",
            ),
            (
                "https://api.openai.com/v1",
                "/models",
                "https://api.openai.com/v1/models",
            ),
            (
                "https://api.openai.com/v1",
                "/v1",
                "https://api.openai.com/v1",
            ),
            (
                "https://api.openai.com/v1",
                "/v1?a=/v1/",
                "https://api.openai.com/v1?a=/v1/",
            ),
            (
                "https://api.openai.com/v1",
                "/v1beta/x",
                "https://api.openai.com/v1/v1beta/x",
            ),
            (
                "https://api.openai.com/v1",
                "/",
                "https://api.openai.com/v1/",
            ),
            (
                "https://h/openai/v1",
                "/v1/models",
                "https://h/openai/v1/models",
            ),
            (
                "https://h/openai/v1",
                "/openai/v1/models",
                "https://h/openai/v1/models",
            ),
            (
                "https://h/openai/v1",
                "/models",
                "https://h/openai/v1/models",
            ),
            (
                "https://h/openai",
                "/openai/models",
                "https://h/openai/models",
            ),
            (
                "https://h/openai",
                "/v1/models",
                "https://h/openai/v1/models",
            ),
            ("https://h/openai", "/openaix", "https://h/openai/openaix"),
            (
                "http://[::1]:8080/v1",
                "/v1/models",
                "http://[::1]:8080/v1/models",
            ),
        ] {
            let target: PathAndQuery = target.parse().unwrap();
            let uri = upstream
                .parse::<Upstream>()
                .unwrap()
                .uri_for(&target)
                .unwrap();
            assert_eq!(uri.to_string(), expected, "{upstream} {target}");
        }
    }

    #[test]
    fn the_layer_learns_every_base_that_a_join_can_yield() {
        for (upstream, bases) in [
            ("https://h", &[][..]),
            ("https://h/v1", &["/v1"]),
            ("https://h/proxy/v1/", &["/proxy/v1"]),
            ("https://h/proxy", &["/proxy", "/proxy/v1"]),
        ] {
            assert_eq!(upstream.parse::<Upstream>().unwrap().bases(), bases);
        }
    }

    #[test]
    fn a_base_path_is_plain() {
        for (text, base) in [
            ("/tenants/a/v1", "/tenants/a/v1"),
            ("/a/", "/a"),
            ("/a/deployments/{}", "/a/deployments/{}"),
        ] {
            assert_eq!(text.parse(), Ok(BasePath(base.to_owned())));
        }
        for text in [
            "",
            "/",
            "a/v1",
            "https://h/v1",
            "/a//b",
            "/a/../b",
            "/a%2Fb",
            "/a?b",
            "/a#b",
            "/a b",
            "/{}/b",
            "/a{}",
        ] {
            assert!(text.parse::<BasePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn path_and_query_keep_their_bytes() {
        for target in [
            "/v1/%63hat%2Fcompletions",
            "//v1//chat",
            "/v1/../x/./y",
            "/v1/a;b=c",
            "/v1/models?",
            "/v1/models?a=%20+b&a=&=%zz",
        ] {
            let parsed: PathAndQuery = target.parse().unwrap();
            let upstream: Upstream = "https://h".parse().unwrap();
            assert_eq!(
                upstream.uri_for(&parsed).unwrap().to_string(),
                format!("https://h{target}")
            );
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for (upstream, reason) in [
            ("api.openai.com", "expected http://"),
            ("/v1", "expected http://"),
            ("ftp://api.openai.com", "not http or https"),
            (
                "https://user:secret@api.openai.com",
                "no user name or password",
            ),
            ("https://api.openai.com/v1?key=1", "no query"),
            ("https://api.openai.com/v1#x", "no fragment"),
            ("https://api.openai.com:/v1", "host or port"),
            ("https://api.openai.com:0/v1", "host or port"),
            ("https://api.openai.com:99999/v1", "host or port"),
            ("https://h/a/../v1", "plain"),
            ("https://h//v1", "plain"),
            ("https://h/%76%31", "plain"),
            ("https://", ""),
            ("", ""),
        ] {
            let error = upstream.parse::<Upstream>().unwrap_err();
            assert!(error.contains(reason), "{upstream}: {error}");
            assert!(!error.contains("secret"));
        }
    }
}
