//! Which service a host is: policies name services, requests name hosts.

use std::sync::LazyLock;

use crate::policy::{DomainPattern, domain};

/// The hosts of well-known services, as `permissions.api` names them; an entry with `*.` means the host itself too.
const KNOWN: &[(&str, &[&str])] = &[
    // Its regions have names below it.
    ("openai", &["*.api.openai.com"]),
    (
        "azure",
        &[
            "*.openai.azure.com",
            "*.services.ai.azure.com",
            "*.models.ai.azure.com",
            "*.cognitiveservices.azure.com",
            // Its regions.
            "*.api.cognitive.microsoft.com",
            // For the government of the United States.
            "*.openai.azure.us",
            "*.cognitiveservices.azure.us",
            "*.api.cognitive.microsoft.us",
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

/// A service that has a host for each region: what comes before the region and after it, and how regions are named.
struct Regional {
    service: &'static str,
    before: &'static str,
    after: &'static str,
    is_region: fn(&str) -> bool,
}

/// The shape of a region is asked for, since others give names beside these: a bucket of anybody's choice is
/// `bedrock-runtime.s3.amazonaws.com`.
const REGIONAL: &[Regional] = &[
    Regional {
        service: "google",
        before: "",
        after: "-aiplatform.googleapis.com",
        is_region: is_region_of_google,
    },
    Regional {
        service: "google",
        before: "aiplatform.",
        after: ".rep.googleapis.com",
        is_region: |region| matches!(region, "us" | "eu") || is_region_of_google(region),
    },
    Regional {
        service: "bedrock",
        before: "bedrock-runtime.",
        after: ".amazonaws.com",
        is_region: is_region_of_aws,
    },
    Regional {
        service: "bedrock",
        before: "bedrock-runtime-fips.",
        after: ".amazonaws.com",
        is_region: is_region_of_aws,
    },
    Regional {
        service: "bedrock",
        before: "bedrock-mantle.",
        after: ".api.aws",
        is_region: is_region_of_aws,
    },
];

/// As in `us-central1`: letters, and letters that end in a number.
fn is_region_of_google(text: &str) -> bool {
    let Some((area, place)) = text.split_once('-') else {
        return false;
    };
    let name = place.trim_end_matches(|char: char| char.is_ascii_digit());
    let digits = place.len() - name.len();
    is_letters(area) && is_letters(name) && (1..=2).contains(&digits)
}

/// As in `us-east-1` and `us-gov-west-1`: two letters, words, and a number.
fn is_region_of_aws(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    match &*parts {
        [area, words @ .., number] => {
            area.len() == 2
                && is_letters(area)
                && (1..=2).contains(&words.len())
                && words.iter().all(|word| is_letters(word))
                && number.len() == 1
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

fn is_letters(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// The service that has a host for each region, if this is one of them.
fn regional(host: &str) -> Option<&'static str> {
    let name = domain::name_of(host)?;
    let found = REGIONAL.iter().find(|known| {
        let region = name
            .strip_prefix(known.before)
            .and_then(|rest| rest.strip_suffix(known.after));
        region.is_some_and(known.is_region)
    });
    found.map(|known| known.service)
}

/// The names of the services that are known without anybody naming their hosts.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let known = KNOWN.iter().map(|(service, _)| *service);
    known.chain(REGIONAL.iter().map(|known| known.service))
}

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
        found.map(|(service, _)| service).or_else(|| regional(host))
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
            ("me.openai.azure.us", Some("azure")),
            ("llama.eastus2.models.ai.azure.com", Some("azure")),
            ("virginia.api.cognitive.microsoft.us", Some("azure")),
            ("us-east-1.api.x.ai", Some("xai")),
            ("openai.com", None),
            ("evilapi.openai.com.example", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(services.of(host), service, "{host}");
        }
    }

    #[test]
    fn a_host_of_a_region_is_its_service_and_what_only_looks_so_is_none() {
        let services = Services::default();
        for (host, service) in [
            ("aiplatform.googleapis.com", Some("google")),
            ("us-central1-aiplatform.googleapis.com", Some("google")),
            (
                "Europe-West12-AIPlatform.GoogleAPIs.com.:443",
                Some("google"),
            ),
            (
                "northamerica-northeast1-aiplatform.googleapis.com",
                Some("google"),
            ),
            ("aiplatform.us.rep.googleapis.com", Some("google")),
            ("aiplatform.eu.rep.googleapis.com", Some("google")),
            ("aiplatform.us-central1.rep.googleapis.com", Some("google")),
            ("-aiplatform.googleapis.com", None),
            ("evil-aiplatform.googleapis.com", None),
            ("us-aiplatform.googleapis.com", None),
            ("us-central-aiplatform.googleapis.com", None),
            ("us-central111-aiplatform.googleapis.com", None),
            ("us-central1a-aiplatform.googleapis.com", None),
            ("us--central1-aiplatform.googleapis.com", None),
            ("1-central1-aiplatform.googleapis.com", None),
            ("x.us-central1-aiplatform.googleapis.com", None),
            ("us.central1-aiplatform.googleapis.com", None),
            ("us-central1-aiplatform.googleapis.com.evil.example", None),
            ("evil-aiplatform.googleapis.com.evil.example", None),
            ("us-central1-aiplatformxgoogleapis.com", None),
            ("us-central1-aiplatform.googleapis.com@evil.example", None),
            ("aiplatform.storage.rep.googleapis.com", None),
            ("storage.us.rep.googleapis.com", None),
            ("us-central1-storage.googleapis.com", None),
            ("bedrock-runtime.us-east-1.amazonaws.com", Some("bedrock")),
            (
                "bedrock-runtime.us-gov-west-1.amazonaws.com:443",
                Some("bedrock"),
            ),
            (
                "BEDROCK-runtime.ap-southeast-2.amazonaws.com",
                Some("bedrock"),
            ),
            (
                "bedrock-runtime-fips.us-east-2.amazonaws.com",
                Some("bedrock"),
            ),
            ("bedrock-mantle.eu-west-1.api.aws", Some("bedrock")),
            // Buckets and load balancers have names that others choose.
            ("bedrock-runtime.s3.amazonaws.com", None),
            ("bedrock-runtime.s3-us-west-2.amazonaws.com", None),
            ("bedrock-runtime.s3-website-1.amazonaws.com", None),
            ("bedrock-runtime.us-east-1.elb.amazonaws.com", None),
            ("evil.bedrock-runtime.us-east-1.amazonaws.com", None),
            ("bedrock-runtime.us-east-1.amazonaws.com.evil.example", None),
            ("bedrock-runtime.us-east-10.amazonaws.com", None),
            ("bedrock-runtime.us-east.amazonaws.com", None),
            ("bedrock-runtime.us-1.amazonaws.com", None),
            ("bedrock-runtime.us--1.amazonaws.com", None),
            ("bedrock-runtime..amazonaws.com", None),
            ("bedrock-runtime.amazonaws.com", None),
            // What isn't for running models.
            ("bedrock.us-east-1.amazonaws.com", None),
            ("s3.us-east-1.amazonaws.com", None),
            ("bedrock-mantle.us-east-1.amazonaws.com", None),
        ] {
            assert_eq!(services.of(host), service, "{host}");
        }
        let mut named = Services::default();
        let host = "us-central1-aiplatform.googleapis.com";
        named.add("vertex", DomainPattern::parse(host).unwrap());
        assert_eq!(named.of(host), Some("vertex"));
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
