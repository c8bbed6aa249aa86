//! Signed policies: what loads under pinned keys, and everything that must not.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers as well"
)]

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use tower_sekuire::{NameMatch, Policy, PolicyError, Trust};

/// The seed of Sekuire's test key, and its public half.
const SEED: [u8; 32] = [
    0x5c, 0x71, 0xe9, 0xc2, 0x6a, 0x3b, 0x71, 0x88, 0x94, 0xe0, 0x77, 0xe0, 0xc2, 0xe0, 0x8c, 0x71,
    0xb4, 0x2c, 0xf6, 0x1b, 0x2a, 0xaa, 0x83, 0x37, 0x60, 0xc5, 0x62, 0xe1, 0x6e, 0x37, 0xf5, 0xf9,
];
const PUBLIC: &str = "6240377d826c36c087404e4187dc21ecdbdc4db84e209fc386ac5d48bd08679e";

/// Its keys are in order, and there is no white space in it: its own canonical text.
const CONTENT: &str = r#"{"agent":{"models":{"allowed_models":["gpt-4o"]}},"tools":{"blocked_tools":["file_delete"]}}"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sign(key: &SigningKey, id: &str, version: &str, content: &str) -> (String, String) {
    let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
    let signature = key.sign(format!("{id}:{version}:{hash}").as_bytes());
    (hash, hex(&signature.to_bytes()))
}

fn envelope_of(version: &str) -> Value {
    let (hash, signature) = sign(&SigningKey::from_bytes(&SEED), "policy_1", version, CONTENT);
    json!({
        "policy_id": "policy_1",
        "workspace_id": "ws_1",
        "version": version,
        "status": "active",
        "hash": hash,
        "content": serde_json::from_str::<Value>(CONTENT).unwrap(),
        "activated_at": "2026-01-01T00:00:00Z",
        "updated_at": null,
        "signature": signature,
        "signing_key_id": "key_1",
        "signing_public_key": PUBLIC,
    })
}

fn trust() -> Trust {
    Trust::new("ws_1").key("key_1", PUBLIC).unwrap()
}

fn load(trust: Trust, envelope: &Value) -> Result<Policy, PolicyError> {
    Policy::loader()
        .trust(trust)
        .from_json(&envelope.to_string())
}

/// The problems with what is advised, each at the place where its field's value begins.
fn refused(trust: Trust, envelope: &Value) -> Vec<String> {
    let text = envelope.to_string();
    let error = load(trust, envelope).unwrap_err();
    let problems = error.problems().iter().map(|problem| {
        let named = format!("\"{}\":", problem.path());
        let begins = text.find(&named).map_or(1, |at| at + named.len() + 1);
        if !problem.message().starts_with("the policy is not signed") {
            assert_eq!((problem.line(), problem.column()), (Some(1), Some(begins)));
        }
        match problem.help() {
            Some(help) => format!("{problem}\n  help: {help}"),
            None => problem.to_string(),
        }
    });
    problems.collect()
}

fn with(key: &str, value: Value) -> Value {
    let mut envelope = envelope_of("3");
    envelope[key] = value;
    envelope
}

fn without(key: &str) -> Value {
    let mut envelope = envelope_of("3");
    envelope.as_object_mut().unwrap().remove(key);
    envelope
}

#[test]
fn a_policy_signed_by_a_trusted_key_loads() {
    let policy = load(trust(), &envelope_of("3")).unwrap();
    assert_eq!(policy.models().check("o3"), NameMatch::NotListed);
    let envelope = policy.envelope().unwrap();
    assert_eq!(
        (envelope.policy_id(), envelope.workspace_id()),
        ("policy_1", "ws_1")
    );
    assert_eq!(
        (envelope.version(), envelope.signing_key_id()),
        (3, Some("key_1"))
    );
    let notes: Vec<String> = policy
        .unenforced()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        notes,
        [
            "activated_at: part of the envelope, not verified",
            "updated_at: part of the envelope, not verified",
        ]
    );
    assert!(policy.warnings().is_empty());
    // The key of the envelope is not needed.
    assert!(load(trust(), &without("signing_public_key")).is_ok());
}

#[test]
fn the_official_content_has_the_hash_and_signature_that_sekuire_gives_it() {
    let content = r#"{"agent":{"models":{"allowed_models":["gpt-4o","gpt-4","claude-3.5-sonnet"],"blocked_models":["gpt-4-32k"]}},"tools":{"allowed_tools":[{"name":"calculator"},{"name":"web_search"},{"name":"file_read"}],"blocked_tools":["exec_command","file_delete"]},"permissions":{"network":{"enabled":true,"require_tls":true,"allowed_domains":["api.openai.com","*.example.com"],"blocked_domains":["malicious.com","evil.org"]},"filesystem":{"enabled":true,"allowed_paths":["/tmp/*","/home/user/data"],"blocked_paths":["/etc/*","/root/*"],"allowed_extensions":[".txt",".json",".csv"]},"api":{"enabled":true,"allowed_services":[{"service_name":"openai","endpoints":["chat","completions"]},{"service_name":"stripe"}]}},"rate_limits":{"per_agent":{"requests_per_minute":60,"requests_per_hour":3600,"tokens_per_minute":100000}}}"#;
    let envelope = format!(
        r#"{{"policy_id":"policy_abc123","workspace_id":"ws_1","version":"1","status":"active","hash":"4f8ba705cca20d6172ecf39c5444e9f002d0c4c58d6973ba310545cc63760da2","content":{content},"signature":"f98fdaf6a0fbf34ebe73c497db93d588bc6bf803a745082cd79168fe7d7f3cef7e257d9a2f143c1facbc6d03b19c6961b84e861dfaf4cd087c35594f8ac78009","signing_key_id":"key_1"}}"#
    );
    let policy = Policy::loader()
        .trust(trust())
        .from_json(&envelope)
        .unwrap();
    assert_eq!(policy.limits().len(), 3);
}

#[test]
fn the_order_of_keys_and_white_space_are_not_signed() {
    let envelope = envelope_of("3").to_string().replace(
        CONTENT,
        r#"{ "tools": {"blocked_tools": ["file_delete"]},
             "agent": {"models": {"allowed_models": ["gpt-4\u006f"]}} }"#,
    );
    assert!(Policy::loader().trust(trust()).from_json(&envelope).is_ok());
}

#[test]
fn each_field_that_was_changed_is_named() {
    let other = hex(&SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes());
    let changed = "signature: does not verify with the key `key_1`\n  \
        help: the policy was changed after it was signed, or signed by somebody else";
    let other_hash = "hash: is not the hash of the content\n  \
        help: the policy was changed after it was signed, or signed by somebody else";
    let no_signature = "signature: must be an Ed25519 signature, as 128 hexadecimal digits\n  help: load the envelope whole, as Sekuire wrote it";
    let unsigned = "the policy is not signed\n  \
        help: load a signed one, or allow unsigned ones knowingly (`allow_unsigned`)";
    let mut signature = envelope_of("3")["signature"].as_str().unwrap().to_owned();
    signature.replace_range(..1, if signature.starts_with('0') { "1" } else { "0" });
    let mut hash = envelope_of("3")["hash"].as_str().unwrap().to_owned();
    hash.replace_range(..1, if hash.starts_with('0') { "1" } else { "0" });
    for (envelope, expected) in [
        (with("policy_id", json!("policy_2")), vec![changed]),
        (
            with("workspace_id", json!("ws_2")),
            vec![
                "workspace_id: is `ws_2`, not `ws_1`\n  help: load a policy of the trusted workspace, or trust this one (`workspace` of the trust file)",
            ],
        ),
        (with("version", json!("4")), vec![changed]),
        (
            with("version", json!("03")),
            vec![
                "version: must be a whole number as text, not `03`\n  help: write digits alone, in quotes, as in `\"3\"`",
            ],
        ),
        (
            with("version", json!(3)),
            vec![
                "version: must be text, not the number `3`\n  help: put it in quotes, as it is written",
            ],
        ),
        (
            with("status", json!("draft")),
            vec![
                "status: is `draft`, not `active`\n  help: load the version that is active, or activate this one",
            ],
        ),
        (with("hash", json!(hash)), vec![other_hash]),
        (
            with("content", json!({"models": {}})),
            vec![other_hash, changed],
        ),
        (with("signature", json!(signature)), vec![changed]),
        (with("signature", json!("00")), vec![no_signature]),
        (
            with("signature", json!("0g".repeat(64))),
            vec![no_signature],
        ),
        (with("signature", json!("00".repeat(64))), vec![changed]),
        (with("signature", Value::Null), vec![unsigned]),
        (
            with("signing_key_id", json!("key_2")),
            vec!["signing_key_id: `key_2` is no trusted key\n  help: trusted: `key_1`"],
        ),
        (
            with("signing_public_key", json!(other)),
            vec![
                "signing_public_key: is another key than the one trusted as `key_1`\n  help: fetch the policy again, or trust that key if it is meant",
            ],
        ),
        (
            without("signing_key_id"),
            vec![
                "signature: stands without a `signing_key_id`\n  help: name the key that signed, by the id under which it is trusted",
            ],
        ),
        (
            without("hash"),
            vec![
                "the envelope has no `hash`\n  help: load the envelope whole, as Sekuire wrote it",
            ],
        ),
        (
            without("version"),
            vec![
                "the envelope has no `version`\n  help: load the envelope whole, as Sekuire wrote it",
            ],
        ),
        (
            without("status"),
            vec![
                "the envelope has no `status`\n  help: load the envelope whole, as Sekuire wrote it",
            ],
        ),
        (without("content"), vec![unsigned]),
    ] {
        assert_eq!(refused(trust(), &envelope), expected, "{envelope}");
    }
}

#[test]
fn a_key_that_somebody_made_is_not_trusted() {
    let own = SigningKey::from_bytes(&[7; 32]);
    let content = r#"{"agent":{"models":{"allowed_models":["*"]}}}"#;
    let (hash, signature) = sign(&own, "policy_1", "3", content);
    let mut envelope = envelope_of("3");
    envelope["content"] = serde_json::from_str(content).unwrap();
    envelope["hash"] = json!(hash);
    envelope["signature"] = json!(signature);
    envelope["signing_public_key"] = json!(hex(&own.verifying_key().to_bytes()));
    assert_eq!(
        refused(trust(), &envelope),
        [
            "signature: does not verify with the key `key_1`\n  help: the policy was changed after it was signed, or signed by somebody else",
            "signing_public_key: is another key than the one trusted as `key_1`\n  help: fetch the policy again, or trust that key if it is meant",
        ]
    );
    envelope["signing_public_key"] = Value::Null;
    assert_eq!(
        refused(trust(), &envelope),
        [
            "signature: does not verify with the key `key_1`\n  help: the policy was changed after it was signed, or signed by somebody else"
        ]
    );
    envelope["signing_key_id"] = json!("own");
    assert_eq!(
        refused(trust(), &envelope),
        ["signing_key_id: `own` is no trusted key\n  help: trusted: `key_1`"]
    );
}

#[test]
fn a_version_that_was_replaced_does_not_come_back() {
    assert_eq!(
        refused(trust().minimum_version(4), &envelope_of("3")),
        ["version: is 3, older than 4\n  help: a version that was replaced doesn't come back"]
    );
    let newest = load(trust(), &envelope_of("10")).unwrap();
    assert_eq!(
        refused(trust().after(&newest), &envelope_of("9")),
        ["version: is 9, older than 10\n  help: a version that was replaced doesn't come back"]
    );
    assert!(load(trust().after(&newest), &envelope_of("10")).is_ok());
    assert!(load(trust().after(&newest), &envelope_of("11")).is_ok());
    // A later version of another policy is no successor.
    let (hash, signature) = sign(&SigningKey::from_bytes(&SEED), "policy_2", "11", CONTENT);
    let mut other = envelope_of("11");
    other["policy_id"] = json!("policy_2");
    other["hash"] = json!(hash);
    other["signature"] = json!(signature);
    assert!(load(trust(), &other).is_ok());
    assert_eq!(
        refused(trust().after(&newest), &other),
        [
            "policy_id: is `policy_2`, not `policy_1`\n  help: load the trusted policy, or trust this one (`policy` of the trust file)"
        ]
    );
}

#[test]
fn an_unsigned_policy_loads_only_where_that_is_allowed() {
    let bare = "models: {allowed_models: [gpt-4o]}";
    let error = Policy::loader().trust(trust()).from_yaml(bare).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1, column 1: the policy is not signed\n  help: load a signed one, or allow unsigned ones knowingly (`allow_unsigned`)"
    );
    let trust = trust().allow_unsigned(true);
    let policy = Policy::loader()
        .trust(trust.clone())
        .from_yaml(bare)
        .unwrap();
    assert!(policy.envelope().is_none());
    assert_eq!(
        policy.warnings()[0].to_string(),
        "signature: the policy is not signed"
    );

    let policy = load(trust.clone(), &without("signature")).unwrap();
    assert_eq!(policy.envelope().unwrap().signing_key_id(), None);
    assert_eq!(
        policy.warnings()[0].to_string(),
        "signature: the policy is not signed"
    );
    // What is there must be right all the same.
    let mut envelope = without("signature");
    envelope["hash"] = json!("00");
    assert_eq!(
        refused(trust.clone(), &envelope),
        [
            "hash: is not the hash of the content\n  help: the policy was changed after it was signed, or signed by somebody else"
        ]
    );
    assert_eq!(
        refused(trust, &with("signature", json!("00"))),
        [
            "signature: must be an Ed25519 signature, as 128 hexadecimal digits\n  help: load the envelope whole, as Sekuire wrote it"
        ]
    );
}

#[test]
fn no_changed_byte_changes_the_rules() {
    let text = envelope_of("3").to_string();
    let rules = |policy: &Policy| {
        format!(
            "{:?} {:?} {:?}",
            policy.models(),
            policy.tools(),
            policy.envelope()
        )
    };
    let signed = rules(&load(trust(), &envelope_of("3")).unwrap());
    let (mut loaded, mut seen) = (0, 0);
    for at in 0..text.len() {
        for byte in [b'x', b'0', b'"'] {
            let mut changed = text.clone().into_bytes();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            seen += 1;
            if let Ok(policy) = Policy::loader().trust(trust()).from_json(&changed) {
                loaded += 1;
                assert_eq!(rules(&policy), signed, "{changed}");
            }
        }
    }
    // Dates, and bytes that were this byte before.
    assert!(loaded < seen / 10, "{loaded} of {seen}");
}

#[test]
fn no_prefix_of_a_signed_policy_loads() {
    let text = envelope_of("3").to_string();
    for end in 0..text.len() {
        let prefix = text.get(..end).unwrap();
        assert!(Policy::loader().trust(trust()).from_json(prefix).is_err());
        assert!(Policy::loader().trust(trust()).from_yaml(prefix).is_err());
    }
}

#[test]
fn the_files_beside_a_signed_policy_are_not_signed_and_that_is_told() {
    const CONTENT: &str = r#"{"identity":{"model":"gpt-4o","system_prompt_path":"prompt.md","tools_path":"tools.json"},"toolsets":{"allowed_tools":["search","files:*"],"blocked_tools":["web:*"]}}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let write = |content: &str| {
        let (hash, signature) = sign(&SigningKey::from_bytes(&SEED), "policy_1", "3", content);
        let mut envelope = envelope_of("3");
        envelope["content"] = serde_json::from_str(content).unwrap();
        envelope["hash"] = json!(hash);
        envelope["signature"] = json!(signature);
        std::fs::write(&path, envelope.to_string()).unwrap();
    };
    write(CONTENT);
    let warnings = |trust: Option<Trust>| -> Vec<String> {
        let loader = match trust {
            Some(trust) => Policy::loader().trust(trust),
            None => Policy::loader(),
        };
        let policy = loader.from_path(&path).unwrap();
        let warnings = policy.warnings().iter();
        let of_signature = warnings.filter(|notice| notice.message().contains("sign"));
        of_signature
            .inspect(|notice| assert!(notice.line().is_some()))
            .map(ToString::to_string)
            .collect()
    };
    let tools = "toolsets.allowed_tools[1]: `files:*` means the tools that `tools.json` says, which is not signed: \
        list the tools by name, or let nobody change that file who may not change the policy";
    // Somebody may put it there.
    assert_eq!(warnings(Some(trust())), [tools]);
    std::fs::write(folder.path().join("prompt.md"), "hello").unwrap();
    std::fs::write(folder.path().join("tools.json"), "[]").unwrap();
    let id = "identity.system_prompt_path: `prompt.md` and `tools.json` are not signed, and whoever changes them changes \
        the agent's id: state it as `sekuire_id`, so that another one is remarked on";
    assert_eq!(warnings(Some(trust())), [id, tools]);
    // Of a policy whose signature nobody looks at, it says nothing new.
    assert_eq!(warnings(None), [""; 0]);
    // With the id stated under the signature, other files are told by another id.
    let stated = tower_sekuire::sekuire_id("gpt-4o", "hello", "[]").unwrap();
    let prompt = r#""system_prompt_path""#;
    let both = format!(r#""sekuire_id":"{stated}",{prompt}"#);
    write(&CONTENT.replace(prompt, &both));
    assert_eq!(warnings(Some(trust())), [tools]);
    // Without files there are none to tell of.
    assert!(
        load(trust(), &envelope_of("3"))
            .unwrap()
            .warnings()
            .is_empty()
    );
}

#[test]
fn content_that_has_no_one_text_can_not_be_signed() {
    let head = "policy_id: policy_1\nworkspace_id: ws_1\nversion: \"3\"\nstatus: active\nhash: a\ncontent: ";
    for (content, said) in [
        (
            "{models: {1: a}}",
            "line 6, column 20: content: has a key that is not text\n  help: put the key in quotes",
        ),
        (
            "{models: {}, models: {}}",
            "line 6, column 23: content: has a key given twice\n  help: keep one of them",
        ),
        (
            "{llm: {temperature: 0.1234567890123456789}}",
            "line 6, column 30: content: has a number that is not read exactly everywhere\n  help: write it with fewer digits and a smaller exponent, or as text",
        ),
    ] {
        let text = format!("{head}{content}\n");
        let error = Policy::loader().trust(trust()).from_yaml(&text);
        assert_eq!(error.unwrap_err().to_string(), said);
    }
}

#[test]
fn a_trust_file_is_read_strictly() {
    let read = |text: &str| {
        Trust::from_yaml(text)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        read(&format!(
            "workspace: ws_1\nkeys: {{key_1: \"{PUBLIC}\"}}\npolicy: p\nminimum_version: 2\nallow_unsigned: false"
        )),
        Ok(())
    );
    assert_eq!(read("workspace: ws_1\nallow_unsigned: true"), Ok(()));
    for (text, expected) in [
        ("workspace: ws_1", "line 1, column 1: trusts no key\n  help: write at least one under `keys`".to_owned()),
        (
            "keys: {a: b}\nminimum_versoin: 1",
            "line 1, column 1: has no `workspace`\n  help: write the workspace's id\n\
             line 1, column 11: keys.a: must be an Ed25519 public key, as 64 hexadecimal digits\n  \
             help: copy the workspace's public key, in quotes, without prefix or spaces\n\
             line 2, column 1: minimum_versoin: unknown key\n  help: did you mean `minimum_version`?"
                .to_owned(),
        ),
        (
            // A key of small order verifies nearly anything.
            "workspace: w\nkeys: {a: \"0100000000000000000000000000000000000000000000000000000000000000\"}",
            "line 2, column 11: keys.a: must be an Ed25519 public key, as 64 hexadecimal digits\n  help: copy the workspace's public key, in quotes, without prefix or spaces".to_owned(),
        ),
    ] {
        assert_eq!(read(text), Err(expected), "{text}");
    }
    let twice = trust().key("key_1", PUBLIC).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "keys.key_1: given twice\n  help: give each key an id of its own"
    );
    // Of what a program gives there is no place.
    let none = Trust::new("w").key("key_1", "00").unwrap_err();
    assert_eq!(none.problems()[0].line(), None);
    assert!(none.problems()[0].help().is_some());
    let error = Policy::loader()
        .trust(Trust::new("ws_1"))
        .from_json(&envelope_of("3").to_string());
    assert_eq!(
        error.unwrap_err().problems()[0].help(),
        Some("trust the key that signed (`keys` of the trust file)")
    );
}
