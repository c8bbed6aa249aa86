//! Questions on files and services: which rule answers, with which words.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use proptest::prelude::*;
use tower_sekuire::{FilesystemMatch, Mode, Policy, PolicyEnforcer, Rule};

const POLICY: &str = "
permissions:
  filesystem:
    enabled: true
    allowed_paths: [/tmp/*, /home/user/data]
    blocked_paths: [/etc/*, /root/*, /tmp/keys]
    allowed_extensions: [.txt, .json, .tar.gz]
  api:
    enabled: true
    allowed_services: [{service_name: openai, endpoints: [chat]}, {service_name: 'aws-*'}]
";

fn enforcer(policy: &str) -> PolicyEnforcer {
    PolicyEnforcer::new(Policy::from_yaml(policy).unwrap())
}

/// The violation's text and Sekuire's id, or an empty text.
fn file(policy: &str, path: &str) -> (String, Option<&'static str>) {
    match enforcer(policy).enforce_filesystem(path, "read") {
        Ok(()) => (String::new(), None),
        Err(violation) => (violation.to_string(), violation.rule().sekuire_id()),
    }
}

fn service(policy: &str, name: &str) -> (String, Option<&'static str>) {
    match enforcer(policy).enforce_api(name) {
        Ok(()) => (String::new(), None),
        Err(violation) => (violation.to_string(), violation.rule().sekuire_id()),
    }
}

fn refused(text: &str, id: &'static str) -> (String, Option<&'static str>) {
    (text.to_owned(), Some(id))
}

#[test]
fn a_path_is_answered_by_the_first_rule_that_speaks() {
    let allowed = (String::new(), None);
    for path in [
        "/tmp/a.txt",
        "/tmp/b/c.tar.gz",
        "/tmp/README",
        "/tmp/.hidden",
        "/home/user/data",
    ] {
        assert_eq!(file(POLICY, path), allowed, "{path}");
    }
    for path in [
        "/etc/passwd",
        "/etc",
        "/etc/a.txt",
        "/tmp/keys",
        "/tmp/keys/a.txt",
        "//etc/./passwd",
    ] {
        let text = format!("[fs_blocked] Path {path} is blocked");
        assert_eq!(file(POLICY, path), refused(&text, "fs.blocked"));
    }
    for path in [
        "/tmpfoo/a.txt",
        "/tmp",
        "/etcetera",
        "/home/user/data/a.txt",
        "/",
        "/TMP/a.txt",
    ] {
        let text = format!("[fs_not_allowed] Path {path} is not in the allowlist");
        assert_eq!(file(POLICY, path), refused(&text, "fs.not_allowed"));
    }
    assert_eq!(
        file(POLICY, "/tmp/run.sh"),
        refused("[fs_ext] Extension .sh is not allowed", "fs.ext")
    );
    assert_eq!(
        file(POLICY, "/tmp/a.gz"),
        refused("[fs_ext] Extension .gz is not allowed", "fs.ext")
    );
    assert_eq!(
        file(
            "permissions: {filesystem: {allowed_extensions: []}}",
            "/README"
        ),
        refused(
            "[fs_ext] Path /README has no extension, and none is allowed",
            "fs.ext"
        )
    );
    assert_eq!(
        file("permissions: {filesystem: {enabled: false}}", "../a"),
        refused("[fs_disabled] Filesystem access is disabled", "fs.disabled")
    );
    assert_eq!(file("models: {}", "anything at all"), allowed);
}

#[test]
fn a_path_that_could_be_another_is_refused() {
    for path in [
        "/tmp/../etc/passwd",
        "/tmp/..",
        "tmp/a.txt",
        "",
        "./a",
        "~/a",
        "/tmp\\a",
        "/tmp/a\0.txt",
        "file:///tmp/a",
    ] {
        let violation = enforcer(POLICY)
            .enforce_filesystem(path, "write")
            .unwrap_err();
        assert_eq!(violation.rule(), Rule::RequestUnreadable, "{path:?}");
        assert_eq!(
            violation.help(),
            Some("give the absolute path, with `..` and links resolved")
        );
    }
    assert_eq!(
        file(POLICY, "/tmp/../etc/passwd").0,
        "[request_unreadable] path `/tmp/../etc/passwd` is not spelled in a way that file rules can be compared with"
    );
}

#[test]
fn a_service_is_allowed_by_name() {
    let allowed = (String::new(), None);
    assert_eq!(service(POLICY, "openai"), allowed);
    assert_eq!(service(POLICY, "aws-s3"), allowed);
    for name in ["OpenAI", "stripe", ""] {
        let text = format!("[api_not_allowed] Service {name} is not in the allowlist");
        assert_eq!(service(POLICY, name), refused(&text, "api.not_allowed"));
    }
    assert_eq!(
        service("permissions: {api: {enabled: false}}", "openai"),
        refused("[api_disabled] API access is disabled", "api.disabled")
    );
    assert_eq!(
        service("permissions: {api: {allowed_services: []}}", "openai").1,
        Some("api.not_allowed")
    );
    assert_eq!(service("models: {}", "openai"), allowed);
}

#[test]
fn warn_mode_lets_files_and_services_pass() {
    let enforcer = enforcer(POLICY).mode(Mode::Warn);
    assert!(enforcer.enforce_filesystem("/etc/passwd", "read").is_ok());
    assert!(enforcer.enforce_api("stripe").is_ok());
}

#[test]
fn what_the_file_rules_hold_can_be_read_back() {
    let policy = Policy::from_yaml(POLICY).unwrap();
    let files = policy.filesystem().unwrap();
    assert!(files.enabled());
    let texts = |entries: &[tower_sekuire::PathPattern]| -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        texts(files.allowed().unwrap()),
        ["/tmp/*", "/home/user/data"]
    );
    assert_eq!(texts(files.blocked()), ["/etc/*", "/root/*", "/tmp/keys"]);
    let extensions: Vec<&str> = files
        .extensions()
        .unwrap()
        .iter()
        .map(|one| &**one)
        .collect();
    assert_eq!(extensions, [".txt", ".json", ".tar.gz"]);
    let services = policy.api().unwrap().allowed().unwrap();
    assert_eq!(services[0].endpoints().unwrap()[0].as_str(), "chat");
    assert!(services[1].endpoints().is_none());
}

#[test]
fn what_is_hardly_meant_is_pointed_out() {
    let policy = Policy::from_yaml(
        "
permissions:
  filesystem: {allowed_paths: [/etc/ssl/*, /tmp/*, /tmp/*], blocked_paths: [/etc], allowed_extensions: []}
  api: {}
",
    )
    .unwrap();
    let lines = |notices: &[tower_sekuire::Notice]| -> Vec<String> {
        notices.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(policy.warnings()),
        [
            "permissions.filesystem: an empty list of extensions allows no file",
            "permissions.filesystem.allowed_paths[0]: `/etc/ssl/*` is allowed, but `/etc` is blocked: it is blocked",
            "permissions.filesystem.allowed_paths[2]: `/tmp/*` is listed twice",
            "permissions.api: restricts nothing: every service is allowed; write `allowed_services`",
        ]
    );
    assert_eq!(
        lines(policy.unenforced()),
        ["permissions.filesystem: answers questions only, not enforced at the HTTP layer",]
    );
}

proptest! {
    /// Whatever way a path is written, an allow entry lets nothing pass that a careful reader puts elsewhere.
    #[test]
    fn what_is_allowed_lies_below_the_folder(path in "[/.a*~\\\\]{0,12}") {
        let policy = Policy::from_yaml("permissions: {filesystem: {allowed_paths: [/a/*]}}").unwrap();
        if policy.filesystem().unwrap().check(&path) == FilesystemMatch::Allowed {
            let mut parts = Vec::new();
            for part in path.split('/') {
                match part {
                    "" | "." => {}
                    ".." => { parts.pop(); }
                    part => parts.push(part),
                }
            }
            prop_assert!(path.starts_with('/') && parts.len() > 1 && parts[0] == "a", "{path}");
        }
    }
}
