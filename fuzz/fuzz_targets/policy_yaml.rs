//! A policy's text: it loads or it is refused with every reason printable, and a loaded one answers questions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_sekuire::{Policy, PolicyEnforcer, RateLimit};

fuzz_target!(|text: &str| {
    let _ = Policy::from_json(text).map_err(|error| error.to_string());
    match Policy::from_yaml(text) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let _ = format!("{error:?}");
        }
        Ok(policy) => {
            let enforcer = PolicyEnforcer::new(policy);
            let _ = enforcer.enforce_model("gpt-4o");
            let _ = enforcer.enforce_tool("web_search");
            let _ = enforcer.enforce_network("api.openai.com", "https");
            let _ = enforcer.enforce_rate_limit(RateLimit::Request);
            let _ = enforcer.enforce_rate_limit(RateLimit::Tokens(7));
            assert_eq!(enforcer.usage().len(), enforcer.policy().limits().len());
        }
    }
});
