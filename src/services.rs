//! Which service a host is: policies name services, requests name hosts.

use std::sync::LazyLock;

use crate::policy::DomainPattern;

/// The hosts of well-known services, as `permissions.api` names them; an entry with `*.` means the host itself too.
const KNOWN: &[(&str, &[&str])] = &[
    // Its regions have names below it.
    ("openai", &["*.api.openai.com"]),
    (
        "azure",
        &[
            "*.openai.azure.com",
            "*.services.ai.azure.com",
            "*.cognitiveservices.azure.com",
            // Its regions.
            "*.api.cognitive.microsoft.com",
        ],
    ),
    ("anthropic", &["api.anthropic.com"]),
    ("cerebras", &["api.cerebras.ai"]),
    ("cohere", &["api.cohere.ai", "api.cohere.com"]),
    ("deepseek", &["api.deepseek.com"]),
    ("fireworks", &["api.fireworks.ai"]),
    (
        "google",
        &[
            "generativelanguage.googleapis.com",
            "*.aiplatform.googleapis.com",
        ],
    ),
    ("groq", &["api.groq.com"]),
    ("mistral", &["api.mistral.ai"]),
    ("openrouter", &["openrouter.ai"]),
    ("perplexity", &["api.perplexity.ai"]),
    ("stripe", &["*.stripe.com"]),
    ("together", &["api.together.ai", "api.together.xyz"]),
    ("xai", &["*.api.x.ai"]),
];

/// The hosts that somebody named, and those that are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    named: Vec<(String, DomainPattern)>,
}

impl Services {
    pub(crate) fn add(&mut self, service: &str, host: DomainPattern) {
        self.named.push((service.to_owned(), host));
    }

    /// The service that a host is, given with or without a port. What was named counts before what is known.
    pub(crate) fn of(&self, host: &str) -> Option<&str> {
        static PATTERNS: LazyLock<Vec<(&str, DomainPattern)>> = LazyLock::new(|| {
            let each = KNOWN.iter().flat_map(|(service, hosts)| {
                let patterns = hosts.iter().filter_map(|host| DomainPattern::parse(host));
                patterns.map(|pattern| (*service, pattern))
            });
            each.collect()
        });
        let named = self.named.iter().map(|(service, host)| (&**service, host));
        let known = PATTERNS.iter().map(|(service, host)| (*service, host));
        let mut all = named.chain(known);
        let found = all.find(|(_, pattern)| pattern.matches_host(host));
        found.map(|(service, _)| service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_host_is_its_service() {
        let services = Services::default();
        for (service, hosts) in KNOWN {
            for host in *hosts {
                assert!(DomainPattern::parse(host).is_some(), "{host}");
                let host = host.trim_start_matches("*.");
                assert_eq!(services.of(host), Some(*service), "{host}");
            }
        }
        for (host, service) in [
            ("EU.api.openai.com:443", Some("openai")),
            ("my-resource.openai.azure.com", Some("azure")),
            ("openai.com", None),
            ("evilapi.openai.com.example", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(services.of(host), service, "{host}");
        }
    }

    #[test]
    fn what_was_named_counts_first() {
        let mut services = Services::default();
        services.add("proxy", DomainPattern::parse("*.api.openai.com").unwrap());
        services.add("mine", DomainPattern::parse("localhost").unwrap());
        assert_eq!(services.of("api.openai.com"), Some("proxy"));
        assert_eq!(services.of("localhost:8000"), Some("mine"));
    }
}
