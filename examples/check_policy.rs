//! What a policy file enforces, what it leaves open, and a few of its decisions.
//!
//! `cargo run --example check_policy -- path/to/sekuire.yml`, or without a path for the one that comes with the crate.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::fmt::Display;

use tower_sekuire::{Policy, PolicyEnforcer, PolicyError, PolicyViolation, RateLimit};

const POLICY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/policies/research-assistant.yml"
);

fn main() -> Result<(), PolicyError> {
    let path = std::env::args().nth(1).unwrap_or_else(|| POLICY.to_owned());
    // A file that is not understood whole does not load; the error lists every problem with its place.
    let policy = Policy::from_path(path)?;

    println!("Agent: {}", policy.agent());
    for (what, rules) in [("Models", policy.models()), ("Tools", policy.tools())] {
        if rules.is_restricted() {
            println!("{what}:");
            lists(rules.allowed(), rules.blocked());
        } else {
            println!("{what}: not restricted");
        }
    }
    match policy.network() {
        Some(network) if network.enabled() => {
            println!(
                "Network{}:",
                if network.require_tls() {
                    ", TLS only"
                } else {
                    ""
                }
            );
            lists(network.allowed(), network.blocked());
        }
        Some(_) => println!("Network: no host may be reached"),
        None => println!("Network: not restricted"),
    }
    println!("Limits: {}", joined(policy.limits()));
    for notice in policy.unenforced() {
        println!("Not enforced: {notice}");
    }
    for notice in policy.warnings() {
        println!("Warning: {notice}");
    }

    println!("\nDecisions:");
    let enforcer = PolicyEnforcer::new(policy);
    decision("gpt-4o-mini", enforcer.enforce_model("gpt-4o-mini"));
    decision("gpt-3.5-turbo", enforcer.enforce_model("gpt-3.5-turbo"));
    decision("web_search", enforcer.enforce_tool("web_search"));
    decision("shell", enforcer.enforce_tool("shell"));
    decision(
        "https://api.openai.com",
        enforcer.enforce_network("api.openai.com", "https"),
    );
    decision(
        "http://api.openai.com",
        enforcer.enforce_network("api.openai.com", "http"),
    );
    decision(
        "one request",
        enforcer.enforce_rate_limit(RateLimit::Request),
    );
    Ok(())
}

fn decision(what: &str, decision: Result<(), PolicyViolation>) {
    match decision {
        Ok(()) => println!("  {what}: ALLOWED"),
        Err(violation) => println!("  {what}: BLOCKED {violation}"),
    }
}

/// No allow list means everything; an empty one means nothing.
fn lists<T: Display>(allowed: Option<&[T]>, blocked: &[T]) {
    match allowed {
        Some(allowed) => println!("  allowed: {}", joined(allowed)),
        None => println!("  allowed: whatever is not blocked"),
    }
    println!("  blocked: {}", joined(blocked));
}

fn joined<T: Display>(entries: &[T]) -> String {
    if entries.is_empty() {
        return "none".to_owned();
    }
    let entries: Vec<_> = entries.iter().map(T::to_string).collect();
    entries.join(", ")
}
