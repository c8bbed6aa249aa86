//! The id by which Sekuire knows an agent: computed from the files that a policy names.

#![cfg(test)]

use std::fs;
use std::path::Path;

use tower_sekuire::{Policy, sekuire_id};

/// A policy in a folder of its own, with these files beside it.
fn in_folder(policy: &str, files: &[(&str, &str)]) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::write(folder.path().join("sekuire.yml"), policy).unwrap();
    Policy::from_path(folder.path().join("sekuire.yml")).unwrap()
}

fn warnings(policy: &Policy) -> Vec<String> {
    let warnings = policy.warnings().iter();
    let placed = warnings.map(|notice| {
        let (line, column) = (notice.line().unwrap(), notice.column().unwrap());
        format!("{line}:{column}: {notice}")
    });
    placed.collect()
}

const IDENTITY: &str = "models: {blocked_models: [a]}
identity:
  model: gpt-4o
  system_prompt_path: ./prompt.md
  tools_path: tools.json
";

/// Of `gpt-4o`, `hello` and `[]`, as Sekuire's vectors have it.
const HELLO: &str = "fa70f9f2f6f05c7fa9bedd2143b1c9e2086539a38a15fa664a6c27d0f31a6be1";

#[test]
fn an_agents_id_is_computed_from_the_files_that_the_policy_names() {
    let files = [("prompt.md", "  hello\n"), ("tools.json", " [ ]\n")];
    let policy = in_folder(IDENTITY, &files);
    assert_eq!(policy.sekuire_id(), Some(HELLO));
    assert!(policy.warnings().is_empty());

    let right = format!("{IDENTITY}  sekuire_id: {HELLO}\n");
    assert!(in_folder(&right, &files).warnings().is_empty());
    let wrong = format!("{IDENTITY}project: {{sekuire_id: a1}}\n");
    let policy = in_folder(&wrong, &files);
    assert_eq!(policy.sekuire_id(), Some(HELLO));
    assert_eq!(
        warnings(&policy),
        [format!(
            "6:11: project.sekuire_id: is `a1`, but the model and files under `identity` make `{HELLO}`, which is told instead"
        )]
    );

    // Text names no folder, and what the caller says counts.
    assert_eq!(Policy::from_yaml(IDENTITY).unwrap().sekuire_id(), None);
    assert_eq!(Policy::from_yaml(&wrong).unwrap().sekuire_id(), Some("a1"));
    let given = Policy::loader().sekuire_id("b2").from_yaml(&wrong).unwrap();
    assert_eq!(given.sekuire_id(), Some("b2"));
}

#[test]
fn a_file_that_can_not_be_hashed_is_a_remark_and_no_more() {
    let large = "x".repeat(256 * 1024 + 1);
    for (policy, files, expected) in [
        (
            IDENTITY.to_owned(),
            &[("tools.json", "[]")][..],
            "4:3: identity.system_prompt_path: `./prompt.md`: there is no such file: the agent's id is not computed".to_owned(),
        ),
        (
            IDENTITY.to_owned(),
            &[("prompt.md", "hello")],
            "5:3: identity.tools_path: `tools.json`: there is no such file: the agent's id is not computed".to_owned(),
        ),
        (
            IDENTITY.to_owned(),
            &[("prompt.md", "hello"), ("tools.json", "{\"a\":1,\"a\":2}")],
            "5:3: identity.tools_path: `tools.json`: has a key given twice: the agent's id is not computed".to_owned(),
        ),
        (
            IDENTITY.to_owned(),
            &[("prompt.md", &*large), ("tools.json", "[]")],
            "4:3: identity.system_prompt_path: `./prompt.md`: larger than 256 KiB: the agent's id is not computed".to_owned(),
        ),
        (
            IDENTITY.replace("./prompt.md", "."),
            &[("tools.json", "[]")],
            "4:3: identity.system_prompt_path: `.`: is a folder, not a file: the agent's id is not computed".to_owned(),
        ),
        (
            IDENTITY.replace("./prompt.md", "../prompt.md"),
            &[("tools.json", "[]")],
            "4:3: identity.system_prompt_path: `../prompt.md` leads out of the policy's folder and is not read: the agent's id is not computed".to_owned(),
        ),
        (
            IDENTITY.replace("tools.json", "/etc/hostname"),
            &[("prompt.md", "hello")],
            "5:3: identity.tools_path: `/etc/hostname` leads out of the policy's folder and is not read: the agent's id is not computed".to_owned(),
        ),
    ] {
        let policy = in_folder(&format!("{policy}  sekuire_id: a1\n"), files);
        assert_eq!(policy.sekuire_id(), Some("a1"));
        assert_eq!(warnings(&policy), [expected]);
    }
}

/// Two agents with files of their own, one that states its id, and one of which nothing is known.
const SEVERAL: &str = "agents:
  writer: { llm: { model: gpt-4o }, system_prompt: ./writer.md, tools: ./writer.json }
  reader: { model: gpt-4o-mini, system_prompt: prompts/reader.md, tools: tools.json, sekuire_id: a1 }
  stating: { sekuire_id: b2 }
  nobody: {}
models: { allowed_models: [gpt-4o] }
";

fn several(folder: &Path) -> Policy {
    fs::create_dir(folder.join("prompts")).unwrap();
    for (name, text) in [
        ("writer.md", "hello"),
        ("writer.json", "[]"),
        ("prompts/reader.md", "Read."),
        ("tools.json", r#"[{"name": "read_file"}]"#),
        ("sekuire.yml", SEVERAL),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let loader = Policy::loader().agent("writer");
    loader.from_path(folder.join("sekuire.yml")).unwrap()
}

fn readers() -> String {
    sekuire_id("gpt-4o-mini", "Read.", r#"[{"name":"read_file"}]"#).unwrap()
}

#[test]
fn each_of_several_agents_has_its_own_id() {
    let folder = tempfile::tempdir().unwrap();
    let writer = several(folder.path());
    assert_eq!(writer.sekuire_id(), Some(HELLO));
    assert_eq!(writer.sekuire_id_of("writer"), Some(HELLO));
    assert_eq!(writer.sekuire_id_of("reader"), Some(&*readers()));
    assert_eq!(writer.sekuire_id_of("stating"), Some("b2"));
    assert_eq!(writer.sekuire_id_of("nobody"), None);
    // A key that limits are counted under, and no agent of the file's.
    assert_eq!(writer.sekuire_id_of("tenant 7"), Some(HELLO));
    let of_reader = format!(
        "3:86: agents.reader.sekuire_id: is `a1`, but the model and files under `agents.reader` make `{}`, \
         which is told instead",
        readers()
    );
    assert_eq!(warnings(&writer), [&*of_reader]);

    let load = |agent: &str| {
        let loader = Policy::loader().agent(agent);
        loader.from_path(folder.path().join("sekuire.yml")).unwrap()
    };
    let reader = load("reader");
    assert_eq!(reader.sekuire_id(), Some(&*readers()));
    assert_eq!(warnings(&reader)[1..], [&*of_reader]);
    assert_eq!(load("stating").sekuire_id(), Some("b2"));
    assert_eq!(load("nobody").sekuire_id(), None);
    // What the caller says is about the agent that was chosen.
    let loader = Policy::loader().agent("writer").sekuire_id("c3");
    let given = loader.from_path(folder.path().join("sekuire.yml")).unwrap();
    assert_eq!(given.sekuire_id(), Some("c3"));
    assert_eq!(given.sekuire_id_of("reader"), Some(&*readers()));
}

#[test]
fn the_only_agent_is_known_by_what_its_own_section_names() {
    let files = [
        ("prompt.md", "hello"),
        ("tools.json", "[]"),
        ("other.md", "x"),
    ];
    let own =
        "agent: { model: gpt-4o, system_prompt: prompt.md, tools: ./tools.json, models: {} }\n";
    let id = |policy: &str| in_folder(policy, &files).sekuire_id().map(str::to_owned);
    assert_eq!(id(own).as_deref(), Some(HELLO));
    // The section that is there for the id counts before.
    let identity =
        "identity: { model: gpt-4o, system_prompt_path: other.md, tools_path: tools.json }\n";
    let other = sekuire_id("gpt-4o", "x", "[]").unwrap();
    assert_eq!(id(&format!("{own}{identity}")), Some(other));
    for (about, policy) in [
        (
            "two models",
            own.replace("model: gpt-4o,", "model: gpt-4o, llm: {model: o3},"),
        ),
        ("no model", own.replace("model: gpt-4o, ", "")),
        ("no prompt", own.replace("system_prompt: prompt.md, ", "")),
        ("no tools", own.replace("tools: ./tools.json, ", "")),
        (
            "a prompt that is no file's name",
            own.replace("prompt.md", "You are a writer."),
        ),
    ] {
        let policy = in_folder(&policy, &files);
        assert_eq!(policy.sekuire_id(), None, "{about}");
        let told = warnings(&policy);
        assert!(
            !told.iter().any(|line| line.contains("id is not")),
            "{about}: {told:?}"
        );
    }
    // Nor of a prompt that only looks like a path: nothing of it is told.
    for prompt in [
        "/no_think You are a writer. The password is hunter2.",
        "Never read ../secrets.\\nBe kind/../x.",
        "Hunter2.\\nprompt.md",
        "./hunter2\\tprompt.md",
        "hunter2",
    ] {
        let text = format!("\"{prompt}\"");
        let policy = in_folder(&own.replace("prompt.md", &text), &files);
        assert_eq!(policy.sekuire_id(), None, "{prompt}");
        let told = warnings(&policy);
        assert!(
            !told.iter().any(|line| line.contains("system_prompt")),
            "{told:?}"
        );
    }
}

#[test]
fn a_file_that_an_agents_own_section_plainly_names_is_missed() {
    let own = |prompt: &str, tools: &str| {
        let agent = format!("model: m, system_prompt: {prompt}, tools: {tools}");
        in_folder(
            &format!("agent: {{ {agent}, models: {{blocked_models: [a]}} }}\n"),
            &[("prompt.md", "hello"), ("tools.json", "[]")],
        )
    };
    let gone =
        |path: &str| format!("`{path}`: there is no such file: the agent's id is not computed");
    let out = |path: &str| {
        format!(
            "`{path}` leads out of the policy's folder and is not read: the agent's id is not computed"
        )
    };
    let (prompt, tools) = ("1:20: agent.system_prompt", "agent.tools");
    for (named, listed, expected) in [
        (
            "none.md",
            "tools.json",
            Some(format!("{prompt}: {}", gone("none.md"))),
        ),
        (
            "./none",
            "tools.json",
            Some(format!("{prompt}: {}", gone("./none"))),
        ),
        (
            "a/b.txt",
            "tools.json",
            Some(format!("{prompt}: {}", gone("a/b.txt"))),
        ),
        (
            "../prompt.md",
            "tools.json",
            Some(format!("{prompt}: {}", out("../prompt.md"))),
        ),
        (
            "/prompt",
            "tools.json",
            Some(format!("{prompt}: {}", out("/prompt"))),
        ),
        (
            "prompt.md",
            "none.yaml",
            Some(format!("1:46: {tools}: {}", gone("none.yaml"))),
        ),
        // Of what may be no file's name nothing is said, nor of tools without a prompt.
        ("prompt", "tools.json", None),
        ("Be kind.", "./none.json", None),
        ("prompt.md", "none", None),
    ] {
        let policy = own(named, listed);
        assert_eq!(policy.sekuire_id(), None, "{named} {listed}");
        assert_eq!(
            warnings(&policy),
            Vec::from_iter(expected),
            "{named} {listed}"
        );
    }
    assert_eq!(
        own("prompt.md", "tools.json").sekuire_id(),
        Some(&*sekuire_id("m", "hello", "[]").unwrap())
    );
}

#[test]
fn many_agents_with_the_largest_files_cost_no_more_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let agent = |number: usize| {
        let dots = "./".repeat(number % 7);
        format!(
            "a{number}: {{ model: m, system_prompt: {dots}prompt.md, tools: {dots}tools.json }}"
        )
    };
    let agents: Vec<_> = (0..1_000).map(agent).collect();
    let policy = format!(
        "agents: {{ {} }}\nmodels: {{ blocked_models: [a] }}",
        agents.join(", ")
    );
    let tools = format!("[{}0]", "0,".repeat(19_000));
    for (name, text) in [
        ("sekuire.yml", &policy),
        ("prompt.md", &"x".repeat(256 * 1024)),
        ("tools.json", &tools),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let loader = Policy::loader().agent("a0");
    let mut loaded = None;
    let cost = allocation_counter::measure(|| {
        loaded = Some(loader.from_path(folder.path().join("sekuire.yml")));
    });
    assert!(cost.bytes_max < 16 * 1024 * 1024, "{}", cost.bytes_max);
    let policy = loaded.unwrap().unwrap();
    let id = sekuire_id("m", &"x".repeat(256 * 1024), &tools).unwrap();
    for (agent, known) in [("a0", true), ("a1", true), ("a100", true), ("a101", false)] {
        assert_eq!(
            policy.sekuire_id_of(agent),
            known.then_some(&*id),
            "{agent}"
        );
    }
}
