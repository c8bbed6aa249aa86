//! A policy file that is rewritten while calls are under way.

#![cfg(test)]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Stand, Upstream, request};
use tower_sekuire::{
    LivePolicy, Policy, PolicyEnforcer, PolicyFile, PolicyWatch, RateLimit, Rule, SekuireLayer,
};

const ASKED: &str = r#"{"model":"m0","messages":[]}"#;
const SAID: &str = r#"{"choices":[{"index":0,"message":{"content":"hi"}}]}"#;

/// Even numbers allow the model that is asked for, odd ones don't.
fn text(number: u64) -> String {
    format!(
        "# {number}\nagent: {{ models: {{ allowed_models: [m{}] }} }}\nrate_limits: {{ global: {{ requests_per_day: 1000000 }} }}\n",
        number % 2
    )
}

/// As careful writers do: beside its place, then renamed.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

fn watched(path: &Path) -> (LivePolicy, PolicyWatch) {
    let mut file = PolicyFile::new(path, Policy::loader());
    let live = LivePolicy::new(PolicyEnforcer::new(file.load().unwrap()));
    let watch = file.watch(&live).unwrap();
    (live, watch)
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no sign of {what}");
}

/// Ten thousand calls while the file is rewritten, half of the times with something that isn't a policy: each call
/// is decided by a version that was loaded whole, and none is lost.
#[test]
fn every_call_is_decided_by_a_policy_that_was_loaded_whole() {
    const CALLS: usize = 10_000;
    const VERSIONS: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekuire.yml");
    write(&path, &text(0));
    let mut file = PolicyFile::new(&path, Policy::loader());
    let live = LivePolicy::new(PolicyEnforcer::new(file.load().unwrap()));
    // On request, so that each version's text is known.
    let watch = file.on_request(&live).unwrap();
    let stand = Stand::around_layer(SekuireLayer::from_source(live.clone()));
    let done = Arc::new(AtomicBool::new(false));

    let writer = {
        let (path, done) = (path, done.clone());
        std::thread::spawn(move || {
            // Which of the texts each version was.
            let mut versions = HashMap::from([(1_u64, 0_u64)]);
            let mut number = 0;
            while !done.load(Ordering::SeqCst) {
                number += 1;
                let whole = text(number);
                // Cut off, as by a writer that isn't careful; or something else altogether.
                let broken = match number % 4 {
                    0 => whole.chars().take(whole.len() / 2).collect(),
                    1 => "agent: { models: { allowed_models: nothing } }".to_owned(),
                    2 => String::new(),
                    _ => "\u{0}".repeat(100),
                };
                write(&path, &broken);
                watch.reload().unwrap_err();
                write(&path, &whole);
                versions.insert(watch.reload().unwrap(), number);
            }
            versions
        })
    };

    let upstream = Upstream::json(SAID);
    let mut outcomes = Vec::new();
    while outcomes.len() < CALLS || live.status().version() < VERSIONS {
        outcomes.push(stand.call(&upstream, request(ASKED)).rule());
    }
    done.store(true, Ordering::SeqCst);
    let versions = writer.join().unwrap();
    // One decision a call on its request, in the order of the calls.
    let told = stand.told();
    let begun: Vec<_> = told
        .iter()
        .filter(|told| told.phase == tower_sekuire::Phase::Request)
        .collect();
    assert_eq!(outcomes.len(), begun.len());
    for (outcome, told) in outcomes.iter().zip(begun) {
        let number = versions[&told.policy_version];
        let expected = (number % 2 == 1).then_some(Rule::ModelNotAllowed);
        assert_eq!(
            (*outcome, told.rule),
            (expected, expected),
            "policy {number}"
        );
    }
    let passed = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    assert_eq!(upstream.calls(), passed);
    // What each counted, all counted.
    let counted = live.status();
    assert!(counted.failures() > 0);
    assert_eq!(stand.layer.enforcer().usage()[0].used(), passed as u64);
}

#[test]
fn a_change_is_noticed_and_a_bad_one_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekuire.yml");
    write(&path, &text(0));
    let (live, _watch) = watched(&path);
    let first = live.status();
    assert_eq!((first.version(), first.last_error()), (1, None));
    assert_eq!(first.hash().unwrap().len(), 64);

    write(&path, &text(1));
    wait_for("the second policy", || live.status().version() == 2);
    assert_ne!(live.status().hash(), first.hash());

    write(&path, "agent: { models: { allowed_modles: [m0] } }");
    wait_for("the refusal", || live.status().failures() == 1);
    let status = live.status();
    assert_eq!(status.version(), 2);
    let error = status.last_error().unwrap();
    assert!(
        error.contains("allowed_modles") && error.contains("allowed_models"),
        "{error}"
    );

    // Gone is no policy either.
    std::fs::remove_file(&path).unwrap();
    wait_for("the missing file", || live.status().failures() == 2);
    assert_eq!(live.status().version(), 2);

    // What is in force again is no new version.
    write(&path, &text(1));
    wait_for("the second policy again", || {
        live.status().last_error().is_none()
    });
    assert_eq!(live.status().version(), 2);
}

#[cfg(unix)]
#[test]
fn a_link_that_is_turned_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    // As a mounted ConfigMap: the file is a link to one in a folder that is a link.
    let place = |name: &str| folder.path().join(name);
    for (number, name) in [(0, "one"), (1, "two")] {
        std::fs::create_dir(place(name)).unwrap();
        std::fs::write(place(name).join("sekuire.yml"), text(number)).unwrap();
    }
    std::os::unix::fs::symlink("one", place("data")).unwrap();
    std::os::unix::fs::symlink("data/sekuire.yml", place("sekuire.yml")).unwrap();
    let (live, _watch) = watched(&place("sekuire.yml"));
    std::os::unix::fs::symlink("two", place("data.new")).unwrap();
    std::fs::rename(place("data.new"), place("data")).unwrap();
    wait_for("the other folder's policy", || live.status().version() == 2);
}

#[test]
fn a_condition_keeps_what_doesn_t_meet_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekuire.yml");
    write(&path, &text(0));
    let mut file = PolicyFile::new(&path, Policy::loader());
    let live = LivePolicy::new(PolicyEnforcer::new(file.load().unwrap()));
    let watch = file
        .accept(|policy| match policy.limits().is_empty() {
            true => Err("a policy must have limits here".into()),
            false => Ok(()),
        })
        .on_request(&live)
        .unwrap();
    let unlimited = "agent: { models: { allowed_models: [m0] } }";
    write(&path, unlimited);
    let error = watch.reload().unwrap_err();
    assert_eq!(error.to_string(), "a policy must have limits here");
    assert_eq!(
        live.status().last_error(),
        Some("a policy must have limits here")
    );
    // Nobody looks by himself.
    write(&path, &text(1));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(live.status().version(), 1);
    assert_eq!(watch.reload().unwrap(), 2);
    assert_eq!(live.status().failures(), 1);
}

#[test]
fn a_refusal_ends_when_what_is_beside_the_policy_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekuire.yml");
    let tools = folder.path().join("tools.json");
    write(&path, &text(0));
    write(&tools, "not json");
    let (live, _watch) = watched(&path);
    write(&path, "agent: { toolsets: { allowed_tools: ['files:*'] } }");
    wait_for("the refusal", || live.status().failures() == 1);
    write(&tools, r#"[{"name": "read_file", "category": "files"}]"#);
    wait_for("the mended tools", || live.status().version() == 2);
    let layer = SekuireLayer::from_source(live.clone());
    assert!(layer.enforcer().enforce_tool("read_file").is_ok());
    // And a change of them alone is one.
    write(&tools, r#"[{"name": "write_file", "category": "files"}]"#);
    wait_for("other tools", || live.status().version() == 3);
    assert!(layer.enforcer().enforce_tool("read_file").is_err());
}

/// Names files beside the policy.
const NAMING_FILES: &str =
    "identity: { model: gpt-4o, system_prompt_path: prompt.md, tools_path: tools.json }\n";

#[cfg(feature = "signed")]
#[test]
fn a_change_of_the_prompt_or_the_tools_alone_changes_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("sekuire.yml"), &format!("{NAMING_FILES}{}", text(0)));
    write(&at("tools.json"), "[]");
    let (live, _watch) = watched(&at("sekuire.yml"));
    let layer = SekuireLayer::from_source(live.clone());
    let id = || layer.enforcer().policy().sekuire_id().map(str::to_owned);
    let made_of = |prompt, tools| tower_sekuire::sekuire_id("gpt-4o", prompt, tools).ok();
    assert_eq!(id(), None);
    layer
        .enforcer()
        .enforce_rate_limit(RateLimit::Request)
        .unwrap();

    write(&at("prompt.md"), "hello");
    wait_for("the prompt", || live.status().version() == 2);
    assert_eq!(id(), made_of("hello", "[]"));
    write(&at("prompt.md"), "hello, you");
    wait_for("another prompt", || live.status().version() == 3);
    assert_eq!(id(), made_of("hello, you", "[]"));
    write(&at("tools.json"), r#"[{"name": "read_file"}]"#);
    wait_for("other tools", || live.status().version() == 4);
    assert_eq!(id(), made_of("hello, you", r#"[{"name":"read_file"}]"#));
    // Another id is no reason to count anew.
    assert_eq!(layer.enforcer().usage()[0].used(), 1);
    // What cannot be read any more leaves no id behind, and the rules in force.
    std::fs::remove_file(at("prompt.md")).unwrap();
    wait_for("the missing prompt", || live.status().version() == 5);
    assert_eq!((id(), live.status().failures()), (None, 0));
}

#[cfg(feature = "signed")]
#[test]
fn a_change_of_another_agents_files_changes_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = |name: &str| format!("model: gpt-4o, system_prompt: {name}.md, tools: tools.json");
    let policy = format!(
        "agents: {{ a: {{ {} }}, b: {{ {} }} }}\nmodels: {{ allowed_models: [m0] }}\n",
        file("a"),
        file("b")
    );
    for (name, text) in [
        ("sekuire.yml", &*policy),
        ("a.md", "a"),
        ("b.md", "b"),
        ("tools.json", "[]"),
    ] {
        write(&at(name), text);
    }
    let mut file = PolicyFile::new(at("sekuire.yml"), Policy::loader().agent("a"));
    let live = LivePolicy::new(PolicyEnforcer::new(file.load().unwrap()));
    let _watch = file.watch(&live).unwrap();
    let layer = SekuireLayer::from_source(live.clone());
    write(&at("b.md"), "b anew");
    wait_for("the other prompt", || live.status().version() == 2);
    for (agent, prompt) in [("a", "a"), ("b", "b anew")] {
        let id = tower_sekuire::sekuire_id("gpt-4o", prompt, "[]").unwrap();
        let policy = layer.enforcer();
        assert_eq!(policy.policy().sekuire_id_of(agent), Some(&*id));
    }
}

#[test]
fn a_condition_that_panics_refuses_and_the_file_stays_watched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekuire.yml");
    write(&path, &text(0));
    let mut file = PolicyFile::new(&path, Policy::loader());
    let live = LivePolicy::new(PolicyEnforcer::new(file.load().unwrap()));
    let watch = file
        .accept(|policy| {
            assert!(!policy.limits().is_empty(), "a condition of one's own");
            Ok(())
        })
        .on_request(&live)
        .unwrap();
    write(&path, "agent: { models: { allowed_models: [m0] } }");
    let error = watch.reload().unwrap_err();
    assert_eq!(error.to_string(), "the condition panicked");
    write(&path, &text(1));
    assert_eq!(watch.reload().unwrap(), 2);
}

#[test]
fn counters_survive_and_the_thread_ends_with_its_watch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sekuire.yml");
    write(&path, &text(0));
    let (live, watch) = watched(&path);
    let layer = SekuireLayer::from_source(live.clone());
    layer
        .enforcer()
        .enforce_rate_limit(RateLimit::Request)
        .unwrap();
    write(&path, &text(1));
    watch.reload().unwrap();
    assert_eq!(layer.enforcer().usage()[0].used(), 1);
    drop(watch);
    write(&path, &text(2));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(live.status().version(), 2);
}

#[test]
fn what_somebody_else_put_in_force_stays_until_the_file_says_something_new() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // With files beside it, which the policy that takes its place doesn't have.
    write(&at("sekuire.yml"), &format!("{NAMING_FILES}{}", text(0)));
    write(&at("prompt.md"), "hello");
    write(&at("tools.json"), "[]");
    let (live, _watch) = watched(&at("sekuire.yml"));
    live.replace(Policy::from_yaml("models: { allowed_models: [] }").unwrap());
    assert_eq!(live.status().version(), 2);
    // A notice, and time to look.
    write(&at("unrelated"), "");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(live.status().version(), 2);
    write(&at("sekuire.yml"), &format!("{NAMING_FILES}{}", text(1)));
    wait_for("the file's next state", || live.status().version() == 3);
}
