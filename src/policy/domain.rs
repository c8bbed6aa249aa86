//! How a host is read, and how it matches an entry.
//!
//! Both sides are brought to one form before they are compared: lower-case
//! A-labels without port or trailing dot, or an address. A host that can be
//! spelled in a way that resolves elsewhere than it reads (`0x7f.1`, `127.1`,
//! `2130706433`) has no such form and is never compared.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use idna::AsciiDenyList;

/// One entry of a list of domains.
///
/// `api.openai.com` matches that host, `*.example.com` matches `example.com` and
/// every host below it, `*` matches every host. Addresses match as addresses:
/// `[::ffff:127.0.0.1]` is `127.0.0.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Below(Box<str>),
    Name(Box<str>),
    Address(IpAddr),
}

impl DomainPattern {
    /// Reads an entry; the error is what is wrong and what to write instead.
    pub(super) fn new(text: &str) -> Result<Self, (&'static str, &'static str)> {
        let kind = Kind::read(text)?;
        Ok(Self {
            text: text.into(),
            kind,
        })
    }

    /// The entry as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Reads an entry as a policy would, outside of one. `None` when it can't be compared with hosts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }

    /// Whether a request's host, with or without port, is matched. A host that can't be compared is not.
    pub(crate) fn matches_host(&self, host: &str) -> bool {
        Host::read(host).is_some_and(|host| self.matches(&host))
    }

    pub(super) fn matches(&self, host: &Host<'_>) -> bool {
        match (&self.kind, host) {
            (Kind::Any, _) => true,
            (Kind::Name(name), Host::Name(host)) => **name == **host,
            (Kind::Below(apex), Host::Name(host)) => host
                .strip_suffix(&**apex)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            (Kind::Address(address), Host::Address(host)) => address == host,
            (Kind::Name(_) | Kind::Below(_), Host::Address(_))
            | (Kind::Address(_), Host::Name(_)) => false,
        }
    }

    /// Whether every host that `other` matches is matched here too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match &other.kind {
            Kind::Any => self.kind == Kind::Any,
            Kind::Below(apex) => {
                !matches!(self.kind, Kind::Name(_))
                    && self.matches(&Host::Name(Cow::Borrowed(apex)))
            }
            Kind::Name(name) => self.matches(&Host::Name(Cow::Borrowed(name))),
            Kind::Address(address) => self.matches(&Host::Address(*address)),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Kind {
    fn read(text: &str) -> Result<Self, (&'static str, &'static str)> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains([',', ';']) || text.contains(char::is_whitespace) {
            return Err((
                "holds a comma, a semicolon or white space",
                "write each host as an entry of its own",
            ));
        }
        if text.contains([
            '$', '{', '}', '(', ')', '|', '"', '\'', '`', '!', '=', '&', '+', '~',
        ]) {
            return Err((
                "holds a character that no host has",
                "write the host itself, as in `api.openai.com` or `*.openai.com`; variables are not expanded",
            ));
        }
        if text.contains("://") {
            return Err((
                "is a URL, not a host",
                "write the host alone, as in `api.openai.com`",
            ));
        }
        if text.contains('@') {
            return Err(("has user information", "write the host alone"));
        }
        if is_range(text) {
            return Err((
                "is a range of addresses",
                "address ranges are not supported: write each address, or the names of the hosts",
            ));
        }
        if text.contains(['/', '?', '#', '\\']) {
            return Err(("has a path", "write the host alone"));
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err((
                "has a `*` that is not a whole first label",
                "write `*.example.com` for a domain and all below it, or `*` for every host",
            ));
        }
        let bare_v6 = name.parse::<Ipv6Addr>().is_ok();
        if !bare_v6 && (name.rsplit_once(']').map_or(name, |(_, port)| port)).contains(':') {
            return Err(("has a port", "remove the port: an entry is for every port"));
        }
        match Host::read(name) {
            Some(Host::Name(name)) if below => Ok(Self::Below(name.into())),
            Some(Host::Name(name)) => Ok(Self::Name(name.into())),
            Some(Host::Address(address)) if !below => Ok(Self::Address(address)),
            Some(Host::Address(_)) => Err((
                "has a `*` before an address",
                "write each address that is meant",
            )),
            None if ends_in_number(name) => Err((
                "is not an address in its usual form",
                "write four decimal numbers, as in `127.0.0.1`",
            )),
            None => Err((
                "is not a host name",
                "write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
            )),
        }
    }
}

/// As in `10.0.0.0/8`.
fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    !bits.is_empty()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && address.parse::<IpAddr>().is_ok()
}

/// A host in the one form in which hosts are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host<'a> {
    Name(Cow<'a, str>),
    Address(IpAddr),
}

impl<'a> Host<'a> {
    /// Reads a host with or without a port; `None` when it has no such form.
    ///
    /// Allocates only for names that aren't in that form already.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        if is_usual_name(text) {
            return Some(Self::Name(Cow::Borrowed(text)));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            is_port_or_empty(port).then_some(())?;
            return Some(Self::v6(address.parse().ok()?));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::v6(address));
        }
        let name = match text.split_once(':') {
            Some((name, _)) => {
                is_port_or_empty(text.get(name.len()..)?).then_some(())?;
                name
            }
            None => text,
        };
        let name = without_dot(ascii_name(name)?);
        if name.len() > 253
            || name
                .split('.')
                .any(|label| label.is_empty() || label.len() > 63)
        {
            return None;
        }
        if ends_in_number(&name) {
            // Rust's parser takes four decimal numbers without leading zeros and
            // nothing else, which is the one spelling that is unambiguous.
            return Some(Self::Address(IpAddr::V4(name.parse::<Ipv4Addr>().ok()?)));
        }
        Some(Self::Name(name))
    }

    fn v6(address: Ipv6Addr) -> Self {
        Self::Address(match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(address),
        })
    }
}

/// A host's name in the form in which names are compared; `None` of an address, and of what can't be compared.
pub(crate) fn name_of(host: &str) -> Option<Cow<'_, str>> {
    match Host::read(host)? {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    }
}

/// Whether this is a name in the form in which names are compared, as most hosts are. Only tells so in plain cases, and
/// then all that [`Host::read`] asks holds: there is no bracket and no colon, so it is no address of version 6 and has no
/// port; its labels are of lower-case letters, digits and single hyphens, so none claims to be encoded; none is empty or
/// too long; and the last begins with a letter, so the name doesn't end in a number.
fn is_usual_name(text: &str) -> bool {
    let (mut label, mut last, mut first_of_label) = (0_usize, b'.', 0);
    for byte in text.bytes() {
        match byte {
            b'.' if label == 0 => return false,
            b'.' => label = 0,
            b'-' if last == b'-' => return false,
            b'a'..=b'z' | b'0'..=b'9' | b'-' => {
                if label == 0 {
                    first_of_label = byte;
                }
                label += 1;
                if label > 63 {
                    return false;
                }
            }
            _ => return false,
        }
        last = byte;
    }
    label > 0 && first_of_label.is_ascii_lowercase() && text.len() <= 253
}

fn is_port_or_empty(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    }
}

/// The name in lower-case A-labels (UTS 46, as URLs use it).
fn ascii_name(name: &str) -> Option<Cow<'_, str>> {
    let plain = name
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    // Labels that claim to be encoded have to be checked.
    if plain && !name.contains("xn--") {
        return Some(Cow::Borrowed(name));
    }
    idna::domain_to_ascii_cow(name.as_bytes(), AsciiDenyList::URL).ok()
}

fn without_dot(name: Cow<'_, str>) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
        Cow::Owned(mut name) => {
            if name.ends_with('.') {
                name.pop();
            }
            Cow::Owned(name)
        }
    }
}

/// Whether a URL parser would read the name as an IPv4 address (WHATWG URL,
/// "ends in a number").
fn ends_in_number(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{DomainPattern, Host};

    fn name(text: &str) -> Option<String> {
        match Host::read(text) {
            Some(Host::Name(name)) => Some(name.into_owned()),
            Some(Host::Address(_)) | None => None,
        }
    }

    fn address(text: &str) -> Option<IpAddr> {
        match Host::read(text) {
            Some(Host::Address(address)) => Some(address),
            Some(Host::Name(_)) | None => None,
        }
    }

    #[test]
    fn a_usual_name_is_read_as_any_other() {
        let label = "a".repeat(63);
        let long = [&*label, &label, &label, &label].join(".");
        for text in [
            "api.openai.com",
            "a",
            "a-b.c",
            "a--b.c",
            "xn--a.c",
            "1.2.3.4",
            "1.2.3.a4",
            "1.2.3.4a",
            "a.0x1f",
            "a.1",
            "a..b",
            ".a",
            "a.",
            "",
            "-",
            "a.-",
            "-a.b-",
            "A.b",
            "a_b.c",
            &label,
            &format!("{label}a"),
            &long,
            "localhost",
        ] {
            // With a port a name is never read as a usual one.
            assert!(!super::is_usual_name(&format!("{text}:1")), "{text}");
            if super::is_usual_name(text) {
                assert_eq!(Host::read(text), Host::read(&format!("{text}:1")), "{text}");
                assert_eq!(name(text).as_deref(), Some(text));
            }
        }
        assert!(super::is_usual_name("api.openai.com"));
        for text in ["127.1", "a.0x1f", "xn--a.c", "a.", "A.b", &long] {
            assert!(!super::is_usual_name(text), "{text}");
        }
    }

    #[test]
    fn one_host_has_one_form() {
        for spelling in [
            "api.openai.com",
            "API.OpenAI.com",
            "api.openai.com.",
            "api.openai.com:443",
            "api.openai.com.:443",
            "api。openai.com",
            "ａｐｉ.openai.com",
        ] {
            assert_eq!(
                name(spelling).as_deref(),
                Some("api.openai.com"),
                "{spelling}"
            );
        }
        assert_eq!(
            name("BÜCHER.example").as_deref(),
            Some("xn--bcher-kva.example")
        );
        assert_eq!(
            name("xn--bcher-kva.example").as_deref(),
            Some("xn--bcher-kva.example")
        );
        assert_eq!(name("a_b.example").as_deref(), Some("a_b.example"));
    }

    #[test]
    fn an_address_has_one_form() {
        let loopback = Some(IpAddr::from([127, 0, 0, 1]));
        for spelling in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.0.0.1:80",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f00:1]:80",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(address(spelling), loopback, "{spelling}");
        }
        assert_eq!(address("[::1]:80"), address("0:0:0:0:0:0:0:1"));
        assert!(address("[::1]").is_some());
    }

    #[test]
    fn a_host_that_reads_two_ways_has_no_form() {
        for spelling in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a%2eb",
            "a@b",
            "user:pass@host",
            "host:",
            "host:+80",
            "host:65536",
            "host:80:80",
            "127.1",
            "127.0.0.01",
            "0127.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "2130706433",
            "1.2.3.4.5",
            "256.0.0.1",
            "example.1",
            "example.0x",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "xn--a",
            "a\u{ff1a}80",
            "a\0b",
        ] {
            assert_eq!(Host::read(spelling), None, "{spelling}");
        }
        assert_eq!(Host::read(&"a".repeat(64)), None);
        assert!(Host::read(&"a.".repeat(126)).is_some());
        assert_eq!(Host::read(&"a.".repeat(128)), None);
    }

    #[test]
    fn a_star_label_covers_the_apex_and_everything_below() {
        let pattern = DomainPattern::new("*.Example.com.").unwrap();
        for (host, expected) in [
            ("example.com", true),
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("evilexample.com", false),
            ("example.com.evil.net", false),
            ("com", false),
        ] {
            assert_eq!(
                pattern.matches(&Host::read(host).unwrap()),
                expected,
                "{host}"
            );
        }
        assert_eq!(pattern.as_str(), "*.Example.com.");
    }

    #[test]
    fn an_entry_covers_what_it_matches_wholly() {
        let covers = |a: &str, b: &str| {
            DomainPattern::new(a)
                .unwrap()
                .covers(&DomainPattern::new(b).unwrap())
        };
        assert!(covers("*", "*"));
        assert!(covers("*", "*.a.com"));
        assert!(covers("*", "[::1]"));
        assert!(covers("*.a.com", "a.com"));
        assert!(covers("*.a.com", "*.b.a.com"));
        assert!(covers("*.a.com", "*.a.com"));
        assert!(!covers("*.b.a.com", "*.a.com"));
        assert!(!covers("a.com", "*.a.com"));
        assert!(!covers("*.a.com", "*"));
        assert!(covers("127.0.0.1", "[::ffff:127.0.0.1]"));
    }
}
