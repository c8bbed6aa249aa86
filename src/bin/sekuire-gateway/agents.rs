//! Which agent a request comes from, and so whose limits it spends.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};
use tower_sekuire::{AgentKey, Policy};

use crate::{headers, refusal::Refusal, tokens::TokenTable};

/// How requests are told apart.
#[derive(Debug)]
pub(crate) enum Agents {
    /// All come from the policy's agent.
    Policys,
    /// Each shows a token.
    ByToken(TokenTable),
    /// Each says who it is, and is believed.
    ByHeader(AgentHeader),
}

impl Agents {
    /// Marks a request with its agent, and removes what named it: nothing of that is the upstream's business.
    ///
    /// # Errors
    ///
    /// The answer for a request that names its agent wrongly, or must name it and doesn't. It doesn't
    /// repeat what the request said.
    pub(crate) fn identify(&self, head: &mut request::Parts) -> Result<(), Refusal> {
        let agent = match self {
            Self::Policys => None,
            Self::ByToken(tokens) => {
                let agent = bearer(&head.headers)
                    .and_then(|token| tokens.agent_of(token))
                    .ok_or_else(Refusal::unauthenticated)?;
                headers::remove_account(&mut head.headers);
                Some(agent.clone())
            }
            Self::ByHeader(header) => header.take(&mut head.headers)?,
        };
        if let Some(agent) = agent {
            head.extensions.insert(agent);
        }
        Ok(())
    }

    /// Whether a request may name any agent.
    pub(crate) const fn takes_any(&self) -> bool {
        matches!(self, Self::ByHeader(header) if header.known.is_empty())
    }

    /// The agents that are known by name, besides the policy's.
    pub(crate) fn known(&self) -> Vec<AgentKey> {
        match self {
            Self::Policys => Vec::new(),
            Self::ByToken(tokens) => tokens.agents().cloned().collect(),
            Self::ByHeader(header) => header.known.clone(),
        }
    }
}

/// The token of the one `Authorization: Bearer`. Of two it would be unclear which one counts.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// The header by which clients name their agent.
#[derive(Debug)]
pub(crate) struct AgentHeader {
    name: HeaderName,
    /// The agents there are; empty when the policy's file doesn't list them.
    known: Vec<AgentKey>,
}

impl AgentHeader {
    pub(crate) fn new(name: HeaderName, policy: &Policy) -> Self {
        let known = policy.agents().iter().map(|agent| AgentKey::new(&**agent));
        Self {
            name,
            known: known.collect(),
        }
    }

    /// The agent that the header names; without the header `None`, the policy's.
    fn take(&self, headers: &mut HeaderMap) -> Result<Option<AgentKey>, Refusal> {
        let mut values = headers.get_all(&self.name).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => value.clone(),
            (Some(_), Some(_)) => {
                return Err(Refusal::request(
                    StatusCode::BAD_REQUEST,
                    "agent_unreadable",
                    "a request names one agent: its header is there twice",
                ));
            }
        };
        headers.remove(&self.name);
        self.agent(&value).map(Some)
    }

    fn agent(&self, value: &HeaderValue) -> Result<AgentKey, Refusal> {
        let name = value.as_bytes();
        if !self.known.is_empty() {
            let known = self
                .known
                .iter()
                .find(|known| known.as_str().as_bytes() == name);
            return known.cloned().ok_or_else(|| {
                Refusal::agent("the request names an agent that the policy doesn't list")
            });
        }
        let plain = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(name) if plain => Ok(AgentKey::new(name)),
            _ => Err(Refusal::agent(
                "an agent's name is at most 256 bytes of visible ASCII without spaces",
            )),
        }
    }
}

/// The name of an `--agent-header`: one that means nothing else.
///
/// # Errors
///
/// When it is no header name, or its removal would change what the request is.
pub(crate) fn header_name(text: &str) -> Result<HeaderName, &'static str> {
    let name: HeaderName = text.parse().map_err(|_| "expected a header's name")?;
    if headers::has_meaning(&name) {
        return Err("this header has a meaning of its own; choose another, such as x-agent");
    }
    Ok(name)
}

/// The longest name of an agent that the layer counts under, in bytes.
pub(crate) const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The outcome: the agent or the refusal's code, and the headers that are left.
    fn outcome(
        agents: &Agents,
        pairs: &[(&str, &[u8])],
    ) -> (Result<String, &'static str>, Vec<String>) {
        let mut request = Request::get("/v1/models");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let identified = agents.identify(&mut head);
        let agent = head.extensions.get::<AgentKey>();
        let agent = agent.map_or("the policy's", AgentKey::as_str).to_owned();
        let left = head.headers.keys().map(ToString::to_string).collect();
        (
            identified.map(|()| agent).map_err(|refusal| refusal.code),
            left,
        )
    }

    fn by_token() -> Agents {
        // The hash of `abc`.
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad writer";
        std::fs::write(file.path(), text).unwrap();
        Agents::ByToken(TokenTable::from_path(file.path()).unwrap())
    }

    fn by_header(policy: &str) -> Agents {
        let policy = Policy::loader().agent("writer").from_yaml(policy).unwrap();
        Agents::ByHeader(AgentHeader::new(header_name("X-Agent").unwrap(), &policy))
    }

    #[test]
    fn a_token_names_its_agent_and_goes_no_further() {
        for value in [&b"Bearer abc"[..], b"bearer abc", b"BEARER   abc"] {
            let pairs = [
                ("authorization", value),
                ("api-key", b"abc"),
                ("openai-organization", b"org"),
                ("openai-project", b"proj"),
                ("accept", b"*/*"),
            ];
            let (agent, left) = outcome(&by_token(), &pairs);
            assert_eq!(
                (agent, left),
                (Ok("writer".to_owned()), vec!["accept".to_owned()])
            );
        }
    }

    #[test]
    fn without_a_valid_token_nobody_is_let_in() {
        for values in [
            &[][..],
            &["abc"],
            &["Bearer"],
            &["Bearer "],
            &["Bearerabc"],
            &["Basic abc"],
            &["Bearer abcd"],
            &["Bearer ABC"],
            &["Bearer äbc"],
            &["Bearer abc, Bearer abc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            let mut pairs = vec![("api-key", &b"abc"[..])];
            pairs.extend(
                values
                    .iter()
                    .map(|value| ("authorization", value.as_bytes())),
            );
            let (agent, _) = outcome(&by_token(), &pairs);
            assert_eq!(agent, Err("invalid_api_key"), "{values:?}");
        }
    }

    #[test]
    fn an_agent_named_by_a_header_is_one_of_the_listed() {
        let listed = by_header(
            "agents: { writer: {}, Résumé Reader: {} }\nmodels: { allowed_models: [gpt-4o] }",
        );
        for (name, agent) in [
            (&b"writer"[..], Ok("writer")),
            ("Résumé Reader".as_bytes(), Ok("Résumé Reader")),
            (b"Writer", Err("agent_not_allowed")),
            (b"other", Err("agent_not_allowed")),
            (b"", Err("agent_not_allowed")),
        ] {
            let (found, left) = outcome(&listed, &[("x-agent", name)]);
            assert_eq!(found, agent.map(ToOwned::to_owned));
            assert!(left.is_empty());
        }
        assert_eq!(outcome(&listed, &[]).0.unwrap(), "the policy's");
    }

    #[test]
    fn any_plain_name_will_do_where_none_is_listed() {
        let open = by_header("agent: { name: writer, models: { allowed_models: [gpt-4o] } }");
        let longest = [b'a'; 256];
        for name in [&b"other"[..], b"a/b:c", &longest] {
            let (found, left) = outcome(&open, &[("x-agent", name)]);
            assert_eq!(found.unwrap().as_bytes(), name);
            assert!(left.is_empty());
        }
        for name in [&b""[..], b"a b", "ä".as_bytes(), b"\xff", &[b'a'; 257]] {
            assert_eq!(
                outcome(&open, &[("x-agent", name)]).0,
                Err("agent_not_allowed")
            );
        }
        assert_eq!(
            outcome(&open, &[("x-agent", b"a"), ("x-agent", b"a")]).0,
            Err("agent_unreadable")
        );
        assert_eq!(outcome(&open, &[]).0.unwrap(), "the policy's");
    }

    #[test]
    fn a_header_that_means_something_else_names_no_agent() {
        assert_eq!(header_name("X-Agent").unwrap(), "x-agent");
        for name in [
            "",
            "x agent",
            "Authorization",
            "api-key",
            "openai-project",
            "host",
            "Content-Type",
            "content-length",
            "accept-encoding",
            "connection",
            "transfer-encoding",
            "upgrade",
            "expect",
            "origin",
            "proxy-agent",
            "x-http-method-override",
        ] {
            assert!(header_name(name).is_err(), "{name}");
        }
    }
}
