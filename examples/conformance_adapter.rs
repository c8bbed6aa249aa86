//! Puts this crate to the test of Sekuire's own conformance runner, which talks to an implementation line by line:
//! a JSON command on standard input, a JSON answer on standard output.
//!
//! ```sh
//! cargo build --example conformance_adapter --features signed
//! python3 SEKUIRE_PROTOCOL/conformance/runner.py --adapter target/debug/examples/conformance_adapter --verbose
//! ```
//!
//! The runner and its vectors come with the crate `sekuire-protocol`.

#![expect(
    clippy::print_stdout,
    reason = "standard output is how the runner is answered"
)]

use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde_json::{Value, json};
use tower_sekuire::{ManualClock, Policy, PolicyEnforcer, PolicyViolation, RateLimit, sekuire_id};

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let command: Result<Value, _> = serde_json::from_str(&line);
        let answer = command.map_err(Failure::from);
        match answer.and_then(|command| obey(&command)) {
            Ok(Some(answer)) => println!("{answer}"),
            Ok(None) => {
                println!("{}", json!({ "result": "ok" }));
                return Ok(());
            }
            Err(error) => println!("{}", json!({ "error": error.to_string() })),
        }
    }
    Ok(())
}

/// The answer to a command, or `None` to leave.
fn obey(command: &Value) -> Result<Option<Value>, Failure> {
    let params = &command["params"];
    let result: Value = match text(command, &["operation"])? {
        "enforce_policy" => {
            // The runner reads the decision; the vectors also know the rule.
            let decision = decide(&params["policy"], &params["action"])?;
            return Ok(Some(match decision {
                Ok(()) => json!({ "result": "allow" }),
                Err(violation) => {
                    json!({ "result": "deny", "rule": violation.rule().sekuire_id() })
                }
            }));
        }
        "calculate_sekuire_id" => {
            let (model, tools) = (text(params, &["model"])?, text(params, &["tools"])?);
            sekuire_id(model, text(params, &["systemPrompt"])?, tools)?.into()
        }
        "sign" => {
            // The seed, alone or with the public key after it.
            let key = bytes(text(params, &["secretKey"])?)?;
            let seed = key.first_chunk().filter(|_| matches!(key.len(), 32 | 64));
            let seed = seed.ok_or("`secretKey` has neither 32 nor 64 bytes")?;
            let signature =
                SigningKey::from_bytes(seed).sign(text(params, &["message"])?.as_bytes());
            hex(&signature.to_bytes()).into()
        }
        "verify" => {
            let key = VerifyingKey::try_from(&*bytes(text(params, &["publicKey"])?)?)?;
            let signature = Signature::from_slice(&bytes(text(params, &["signature"])?)?)?;
            let message = text(params, &["message"])?.as_bytes();
            key.verify_strict(message, &signature).is_ok().into()
        }
        "hash" => {
            let hash = blake3::hash(text(params, &["input"])?.as_bytes());
            hash.to_hex().as_str().into()
        }
        "exit" => return Ok(None),
        other => return Err(format!("unknown operation: {other}").into()),
    };
    Ok(Some(json!({ "result": result })))
}

/// What the policy says to an action, each under both of its names.
fn decide(policy: &Value, action: &Value) -> Result<Result<(), PolicyViolation>, Failure> {
    let clock = ManualClock::new();
    let policy = Policy::from_json(&policy.to_string())?;
    let enforcer = PolicyEnforcer::new(policy).clock(clock.clone());
    Ok(match text(action, &["type"])? {
        "network" | "network_access" => {
            enforcer.enforce_network(text(action, &["domain"])?, text(action, &["protocol"])?)
        }
        "filesystem" | "file_access" => {
            let operation = action["operation"].as_str().unwrap_or("read");
            enforcer.enforce_filesystem(text(action, &["path"])?, operation)
        }
        "tool" | "tool_execution" => {
            enforcer.enforce_tool(text(action, &["toolName", "tool_name"])?)
        }
        "model" | "model_call" => enforcer.enforce_model(text(action, &["model", "model_name"])?),
        "api" | "api_access" => enforcer.enforce_api(text(action, &["service", "service_name"])?),
        "rate_limit" | "rate_limit_check" => count(&enforcer, &clock, action),
        other => return Err(format!("unknown type of action: {other}").into()),
    })
}

/// The runner tells how many requests there have been. They are made here, all in the same minute or spread evenly
/// over the hour, and the last one's verdict is the answer.
fn count(
    enforcer: &PolicyEnforcer,
    clock: &ManualClock,
    action: &Value,
) -> Result<(), PolicyViolation> {
    let number = |key: &str| action[key].as_u64();
    let count = number("count").unwrap_or(0);
    if action["limitType"] == "token" {
        return enforcer.enforce_rate_limit(RateLimit::Tokens(count));
    }
    let minute = number("current_rpm").unwrap_or(count);
    let hour = number("current_rph").unwrap_or(0);
    // One more than the largest limit is as good as any number above it.
    let limits = enforcer.policy().limits().iter().map(|limit| limit.max());
    let enough = limits.max().unwrap_or(0).saturating_add(1);
    for _ in 0..minute.min(enough) {
        enforcer.enforce_rate_limit(RateLimit::Request)?;
    }
    clock.advance(Duration::from_secs(3_600));
    let hour = hour.min(enough);
    for _ in 0..hour {
        clock.advance(Duration::from_secs(3_599) / u32::try_from(hour).unwrap_or(u32::MAX));
        enforcer.enforce_rate_limit(RateLimit::Request)?;
    }
    Ok(())
}

/// A field that must be text, under the first of its names that is there.
fn text<'a>(from: &'a Value, names: &[&str]) -> Result<&'a str, Failure> {
    let found = names.iter().find_map(|name| from[*name].as_str());
    Ok(found.ok_or_else(|| format!("`{}` must be text", names.join("` or `")))?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Result<Vec<u8>, Failure> {
    let digit = |char: u8| char::from(char).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    Ok(bytes.ok_or("expected hexadecimal digits in pairs")?)
}
