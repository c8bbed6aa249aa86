//! Policy files that are hostile, or that two readers could take for two things: each is refused, with the whole of what
//! is said, or accepted, with all that it means.
//!
//! A row is named after what is ambiguous in it. Two readings are never both possible: what another reader of YAML or JSON
//! could take for a different rule is refused, and what is accepted here has its meaning beside it. One thing is left to
//! names: a plain word that old readers take for something else than text (`no`, `1:30`) is a name among names.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "how long a hostile file takes is measured in real time"
)]

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use tower_sekuire::{LimitScope, Policy, PolicyError};

/// What a row is about, its file, and what comes of it.
type Row<F> = (&'static str, F, Comes);

#[derive(Debug)]
enum Comes {
    /// It doesn't load, and this is said.
    Refused(&'static str),
    /// It loads, and this is what it means.
    Means(&'static str),
}

use Comes::{Means, Refused};

/// A folder to put files in, and what comes of each.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn load(&self, name: &str, file: &[u8]) -> Result<Policy, PolicyError> {
        let path = self.0.path().join(name);
        fs::write(&path, file).unwrap();
        Policy::from_path(path)
    }

    /// As it is printed, but for where the folder is.
    fn said(&self, error: &PolicyError) -> String {
        let folder = format!("{}/", self.0.path().display());
        error.to_string().replace(&folder, "")
    }

    fn check<F: AsRef<[u8]>>(&self, name: &str, rows: &[Row<F>]) {
        for (about, file, expected) in rows {
            match (self.load(name, file.as_ref()), expected) {
                (Err(error), Refused(said)) => {
                    assert_helps(about, &error);
                    assert_eq!(&self.said(&error), said, "{about}");
                }
                (Ok(policy), Means(meaning)) => {
                    assert_eq!(&meaning_of(&policy), meaning, "{about}")
                }
                (Ok(policy), Refused(_)) => panic!("{about} means:\n{}", meaning_of(&policy)),
                (Err(error), Means(_)) => panic!("{about} is refused: {}", self.said(&error)),
            }
        }
        let mut names: Vec<_> = rows.iter().map(|(about, ..)| about).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len(), "two rows of one name");
    }
}

/// Whatever is wrong with a text is told with its place and with what to write instead.
fn assert_helps(about: &str, error: &PolicyError) {
    for problem in error.problems() {
        let help = problem.help().unwrap_or_default();
        assert!(help.len() > 5, "{about}: no help with {problem}");
        let at = problem.line().zip(problem.column());
        assert!(at.is_some(), "{about}: no place of {problem}");
    }
}

/// Everything that a policy says, a line for each of its parts that says something.
fn meaning_of(policy: &Policy) -> String {
    let mut said = String::new();
    let mut line = |text: String| writeln!(said, "{text}").unwrap();
    if policy.agent() != "default" {
        line(format!("agent {}", policy.agent()));
    }
    for (what, rules) in [("models", policy.models()), ("tools", policy.tools())] {
        if rules.is_restricted() {
            line(format!("{what}{}", lists(rules.allowed(), rules.blocked())));
        }
    }
    if let Some(rules) = policy.network() {
        let switches = match (rules.enabled(), rules.require_tls()) {
            (false, _) => ", off",
            (true, true) => ", TLS only",
            (true, false) => "",
        };
        let lists = lists(rules.allowed(), rules.blocked());
        line(format!("hosts{switches}{lists}"));
    }
    if let Some(rules) = policy.filesystem() {
        let lists = lists(rules.allowed(), rules.blocked());
        line(format!(
            "files{}{lists}",
            if rules.enabled() { "" } else { ", off" }
        ));
        if let Some(extensions) = rules.extensions() {
            line(format!("extensions {}", joined(extensions)));
        }
    }
    if let Some(rules) = policy.api() {
        let lists = lists(rules.allowed(), &[]);
        line(format!(
            "services{}{lists}",
            if rules.enabled() { "" } else { ", off" }
        ));
        for service in rules.allowed().unwrap_or_default() {
            if let Some(endpoints) = service.endpoints() {
                line(format!("endpoints of {service}: {}", joined(endpoints)));
            }
        }
    }
    for limit in policy.limits() {
        let scope = match limit.scope() {
            LimitScope::PerAgent => "each agent".to_owned(),
            LimitScope::PerModel(model) => model.to_string(),
            LimitScope::Global => "all".to_owned(),
            _ => panic!("a scope without a word"),
        };
        line(format!("{scope}: {limit}"));
    }
    for (title, notices) in [
        ("translated", policy.translated()),
        ("not enforced", policy.unenforced()),
        ("warning", policy.warnings()),
    ] {
        let sorted = notices.is_sorted_by_key(|notice| (notice.line(), notice.column()));
        assert!(sorted, "not in the order of the file: {notices:?}");
        for notice in notices {
            let (at, column) = notice.line().zip(notice.column()).unwrap();
            line(format!("{title}: {at}:{column}: {notice}"));
        }
    }
    if said.is_empty() {
        said.push_str("nothing is restricted\n");
    }
    said
}

/// An allow list that isn't there allows everything, and an empty one nothing.
fn lists<P: ToString>(allowed: Option<&[P]>, blocked: &[P]) -> String {
    let mut said = String::new();
    if let Some(allowed) = allowed {
        write!(said, ", allowed {}", joined(allowed)).unwrap();
    }
    if !blocked.is_empty() {
        write!(said, ", blocked {}", joined(blocked)).unwrap();
    }
    said
}

/// Each in its quotes, so that it can be seen where it ends.
fn joined<P: ToString>(entries: &[P]) -> String {
    let entries: Vec<_> = entries.iter().map(ToString::to_string).collect();
    format!("{entries:?}")
}

#[test]
fn a_file_is_one_document_that_has_rules() {
    Folder::new().check("sekuire.yml", DOCUMENTS);
}

#[test]
fn what_yaml_does_not_take_is_told_with_what_to_write() {
    Folder::new().check("sekuire.yml", SYNTAX);
}

#[test]
fn another_shape_than_is_due_is_told_with_what_to_write() {
    Folder::new().check("sekuire.yml", SHAPES);
}

#[test]
fn a_file_is_plain_text_in_utf_8() {
    Folder::new().check("sekuire.yml", BYTES);
}

#[test]
fn a_key_is_known_and_there_once() {
    Folder::new().check("sekuire.yml", KEYS);
}

#[test]
fn a_value_is_of_the_type_that_is_due() {
    Folder::new().check("sekuire.yml", TYPES);
}

#[test]
fn nothing_is_read_in_two_places() {
    Folder::new().check("sekuire.yml", ALIASES);
}

#[test]
fn a_limit_is_a_whole_number() {
    Folder::new().check("sekuire.yml", NUMBERS);
}

#[test]
fn an_empty_list_is_not_a_missing_one_and_no_rule_is_there_twice() {
    Folder::new().check("sekuire.yml", LISTS);
}

#[test]
fn a_name_is_what_is_seen_and_only_a_star_is_special() {
    Folder::new().check("sekuire.yml", NAMES);
}

#[test]
fn a_host_has_one_spelling() {
    Folder::new().check("sekuire.yml", HOSTS);
}

#[test]
fn a_path_leads_to_one_place_and_a_service_has_a_name() {
    Folder::new().check("sekuire.yml", PATHS);
}

#[test]
fn dialects_neither_contradict_each_other_nor_ask_for_what_isnt_done() {
    Folder::new().check("sekuire.yml", DIALECTS);
}

#[test]
fn what_is_of_another_form_is_named_and_never_read() {
    Folder::new().check("sekuire.yml", FOREIGN);
}

#[test]
fn json_is_read_as_strictly() {
    Folder::new().check("policy.json", JSON);
}

/// What is accepted knowingly is what asks for more than is done here, and not what is written in another form.
#[test]
fn accepting_what_isnt_enforced_accepts_no_other_form() {
    for (about, text, _) in FOREIGN {
        let loaded = Policy::loader().accept_unenforced(true).from_yaml(text);
        assert!(loaded.is_err(), "{about}");
    }
}

#[cfg(unix)]
#[test]
fn only_a_regular_file_of_bearable_size_is_read() {
    let folder = Folder::new();
    let at = |name: &str| folder.0.path().join(name);
    let made = std::process::Command::new("mkfifo")
        .arg(at("pipe"))
        .status();
    assert!(made.unwrap().success());
    fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink(at("circle"), at("circle")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", at("zeros")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("astray")).unwrap();
    let holes = fs::File::create(at("holes")).unwrap();
    holes.set_len(1 << 30).unwrap();
    for (name, said) in [
        (
            "pipe",
            "pipe: not a regular file\n  help: save it as a file: pipes and devices are not read",
        ),
        (
            "folder",
            "folder: is a folder, not a file\n  help: give the path of the file in it",
        ),
        (
            "zeros",
            "zeros: not a regular file\n  help: save it as a file: pipes and devices are not read",
        ),
        (
            "circle",
            "circle: the file can't be read: Too many levels of symbolic links (os error 40)\n  help: check the path, and what it leads to",
        ),
        (
            "astray",
            "astray: the file can't be read: there is no such file\n  help: check the path: it is taken from the folder that the program runs in",
        ),
        (
            "nothing",
            "nothing: the file can't be read: there is no such file\n  help: check the path: it is taken from the folder that the program runs in",
        ),
        (
            "holes",
            "holes:1:262145: larger than 256 KiB\n  help: keep only the policy in the file; one entry with `*` stands for many names",
        ),
    ] {
        let (started, mut refused) = (Instant::now(), None);
        let cost = allocation_counter::measure(|| refused = Policy::from_path(at(name)).err());
        assert_bearable(name, started, cost.bytes_max);
        assert_eq!(folder.said(&refused.unwrap()), said);
    }
    // Unless whoever runs the tests may read everything.
    fs::write(at("closed"), "").unwrap();
    fs::set_permissions(
        at("closed"),
        std::os::unix::fs::PermissionsExt::from_mode(0o0),
    )
    .unwrap();
    if fs::read(at("closed")).is_err() {
        let said = "closed: the file can't be read: permission denied\n  help: let the user that the program runs as read the file and enter its folders";
        assert_eq!(
            folder.said(&Policy::from_path(at("closed")).unwrap_err()),
            said
        );
    }
    // Of what isn't read there is no place.
    let error = Policy::from_path(at("nothing")).unwrap_err();
    assert_eq!(
        (error.problems()[0].line(), error.problems()[0].column()),
        (None, None)
    );
    // A link to a policy is one.
    fs::write(at("policy"), "models: {blocked_models: [a]}").unwrap();
    std::os::unix::fs::symlink(at("policy"), at("link.yml")).unwrap();
    let policy = Policy::from_path(at("link.yml")).unwrap();
    assert_eq!(meaning_of(&policy), "models, blocked [\"a\"]\n");
}

#[test]
fn a_file_is_as_large_as_allowed_and_no_larger() {
    let folder = Folder::new();
    let mut text = b"models: {blocked_models: [a]}\n".to_vec();
    text.resize(256 * 1024, b'\n');
    assert!(folder.load("sekuire.yml", &text).is_ok());
    text.push(b'\n');
    let error = folder.load("sekuire.yml", &text).unwrap_err();
    assert_eq!(folder.said(&error), format!("sekuire.yml:{LARGE}"));
    let text = String::from_utf8(text).unwrap();
    for read in [Policy::from_yaml, Policy::from_json] {
        let error = read(&text).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "line 262116, column 1: {}",
                LARGE.split_once(' ').unwrap().1
            )
        );
    }
}

/// What a policy may cost, whatever is in the file: half a second and 16 MiB. Unoptimised, as the checks mostly run, and on
/// busy machines, the time is no measure of that.
const LONGEST: Duration = match cfg!(debug_assertions) {
    true => Duration::from_secs(10),
    false => Duration::from_millis(500),
};
const MOST: u64 = 16 * 1024 * 1024;

fn assert_bearable(about: &str, started: Instant, bytes: u64) {
    let took = started.elapsed();
    assert!(took < LONGEST, "{about} takes {took:?}");
    assert!(bytes < MOST, "{about} takes {bytes} bytes");
    // Shown by `--nocapture`.
    println!("{took:>12?} {bytes:>10} bytes: {about}");
}

#[test]
fn no_file_costs_much() {
    fn measure<F: AsRef<[u8]>>(format: &str, rows: &[Row<F>]) {
        for (about, file, _) in rows {
            let Ok(text) = str::from_utf8(file.as_ref()) else {
                continue;
            };
            let started = Instant::now();
            let cost = allocation_counter::measure(|| match format {
                "json" => drop(Policy::from_json(text)),
                _ => drop(Policy::from_yaml(text)),
            });
            assert_bearable(about, started, cost.bytes_max);
        }
    }
    for rows in [
        DOCUMENTS, SYNTAX, SHAPES, KEYS, TYPES, ALIASES, NUMBERS, LISTS, NAMES, HOSTS, PATHS,
        DIALECTS, FOREIGN,
    ] {
        measure("yaml", rows);
    }
    measure("yaml", BYTES);
    measure("json", JSON);
    for (about, text, comes) in floods() {
        let (started, mut policy) = (Instant::now(), None);
        let cost = allocation_counter::measure(|| policy = Some(Policy::from_yaml(&text)));
        assert_bearable(about, started, cost.bytes_max);
        let (started, mut again) = (Instant::now(), None);
        let cost = allocation_counter::measure(|| again = Some(Policy::from_json(&text)));
        assert_bearable(about, started, cost.bytes_max);
        match (policy.unwrap(), comes) {
            (Err(error), Err(said)) => assert_eq!(error.to_string(), said, "{about}"),
            (Ok(policy), Ok(warnings)) => assert_eq!(policy.warnings().len(), warnings, "{about}"),
            (Ok(policy), Err(_)) => panic!("{about} loads: {policy:?}"),
            (Err(error), Ok(_)) => panic!("{about} is refused: {error}"),
        }
    }
}

const LARGE: &str = "262116:1: larger than 256 KiB\n  help: keep only the policy in the file; one entry with `*` stands for many names";

const ALIAS: &str =
    "anchors and aliases are not supported\n  help: write the value out where it is used";

const KNOWN: &str = "help: known here: `agent`, `agents`, `models`, `toolsets`, `tools`, `permissions`, `rate_limits`, `spec_version`, `version`, `name`, `description`, `project`, `identity`, `llm`, `memory`, `logger`, `deployment`, `server`, `a2a`, `capabilities`, `compliance`, `audit`";

/// Files that are large, deep or many: what each is about, and what is said, or how many warnings there are.
fn floods() -> Vec<(&'static str, String, Result<usize, String>)> {
    let many =
        |count: usize, entry: &dyn Fn(usize) -> String| (0..count).map(entry).collect::<String>();
    let models = |entries: &str| format!("models: {{allowed_models: [{entries}]}}");
    let bomb = |indent: &str| {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let before = format!("{indent}*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![before; 9].join(","));
        }
        text
    };
    let stars = "*a".repeat(120);
    let long = |count: usize, end: &str| format!("'{stars}{end}*', ").repeat(count);
    let alias = |column: usize| format!("line 2, column {column}: {ALIAS}");
    let first = |column: usize, what: &str| format!("line 1, column {column}: {what}");
    let deep = |column: usize| {
        let help = "help: remove levels: a policy needs seven";
        first(column, &format!("nested deeper than 32 levels\n  {help}"))
    };
    let cut = |text: &str| format!("{}…", text.repeat(127));
    // The first 50 are told, and where they are as long as finding that out costs no more than reading 2 MiB.
    let flood = |count: usize, length: usize, problem: &dyn Fn(usize) -> (usize, String)| {
        let placed = (2 * 1024 * 1024_usize).div_ceil(length);
        let told = (0..50).map(|number| match problem(number) {
            (column, what) if number < placed => first(column, &what) + "\n",
            (_, what) => what + "\n",
        });
        let told: String = told.collect();
        Err(format!("{told}and {} more", count - 50))
    };
    let too_many = |at: &str| {
        let help =
            "help: keep only the policy in the file; one entry with `*` stands for many names";
        format!("{at}: more than 20000 values\n  {help}")
    };
    let numbers = models(&"4, ".repeat(15_000));
    let unknown = format!("{{{}}}", many(9_000, &|number| format!("k{number}: 1, ")));
    let twice = format!("{{{}}}", "models: {}, ".repeat(6_000));
    vec![
        ("a bomb of aliases", bomb(""), Err(alias(10))),
        ("a bomb of aliases with spaces", bomb(" "), Err(alias(11))),
        (
            "an anchor that holds itself",
            "&a [*a]".to_owned(),
            Err(first(5, ALIAS)),
        ),
        ("lists in lists", "[".repeat(4_000), Err(deep(33))),
        (
            "more lists in lists than there may be values",
            "[".repeat(200_000),
            Err(too_many("line 1, column 20001")),
        ),
        (
            "lists in lists by hyphens",
            "- ".repeat(4_000),
            Err(deep(65)),
        ),
        (
            "keys that are keys of keys",
            "? ".repeat(4_000),
            Err(deep(65)),
        ),
        ("mappings in mappings", "{a: ".repeat(4_000), Err(deep(129))),
        ("lists in keys", "- - ? ".repeat(4_000), Err(deep(65))),
        (
            "lists in lists that end",
            "[".repeat(40) + &"]".repeat(40),
            Err(deep(33)),
        ),
        (
            "one word that fills the file",
            "x".repeat(256 * 1024),
            Err(first(
                1,
                "must be a mapping, not text\n  help: begin with a section, such as `models:`, and indent its keys below it",
            )),
        ),
        (
            "one entry that fills the file",
            models(&"x".repeat(200_000)),
            Err(first(
                27,
                &format!(
                    "models.allowed_models[0]: is longer than 256 bytes: `{}`\n  help: write the name alone, or its beginning and `*`",
                    cut("x")
                ),
            )),
        ),
        (
            "one entry in quotes that fills the file",
            models(&format!("\"{}\"", "\\u202e".repeat(40_000))),
            Err(first(
                27,
                &format!(
                    "models.allowed_models[0]: has a character that can't be seen: `{}…`\n  \
                     help: remove control and direction characters",
                    "\\u{202e}".repeat(15)
                ),
            )),
        ),
        (
            "one key that fills the file",
            format!("{}: a", "x".repeat(900)),
            Err(first(
                1,
                &format!("\"{}\": unknown key\n  {KNOWN}", cut("x")),
            )),
        ),
        (
            "one comment that fills the file",
            format!("# {}\nmodels: {{blocked_models: [a]}}", "x".repeat(200_000)),
            Ok(0),
        ),
        (
            "line breaks that fill the file",
            format!("{}models: {{blocked_models: [a]}}", "\n".repeat(200_000)),
            Ok(0),
        ),
        (
            "exclamation marks that fill the file",
            format!(
                "# {}\nmodels: {{blocked_models: [a]}}",
                "!! ".repeat(60_000)
            ),
            Ok(0),
        ),
        (
            "documents that fill the file",
            "---\n".repeat(60_000),
            Err(too_many("line 20001, column 3")),
        ),
        (
            "19,000 entries that are the same",
            models(&"a, ".repeat(19_000)),
            Ok(0),
        ),
        (
            "15,000 entries that are numbers",
            numbers.clone(),
            flood(15_000, numbers.len(), &|number| {
                let what = format!(
                    "models.allowed_models[{number}]: must be text, not the number `4`\n  \
                     help: put it in quotes, as it is written"
                );
                (27 + 3 * number, what)
            }),
        ),
        (
            "300 entries that `*` covers",
            models(&format!(
                "'*', {}",
                many(300, &|number| format!("m{number}, "))
            )),
            Ok(300),
        ),
        ("310 entries of many stars", models(&long(310, "")), Ok(0)),
        (
            "600 entries of many stars, allowed and blocked",
            format!(
                "models: {{allowed_models: [{}], blocked_models: [{}]}}",
                long(300, ""),
                long(300, "b")
            ),
            Ok(0),
        ),
        (
            "9,000 keys that nobody knows",
            unknown.clone(),
            flood(9_000, unknown.len(), &|number| {
                // From 10 on a key is a character longer.
                let column = 2 + 7 * number + number.saturating_sub(10);
                (column, format!("k{number}: unknown key\n  {KNOWN}"))
            }),
        ),
        (
            "6,000 keys that are the same",
            twice.clone(),
            flood(5_999, twice.len(), &|number| {
                (
                    14 + 12 * number,
                    "models: given twice\n  help: keep one of them".to_owned(),
                )
            }),
        ),
        (
            "100 services of 90 endpoints",
            format!(
                "permissions: {{api: {{allowed_services: [{}]}}}}",
                many(100, &|_| format!(
                    "{{service_name: a, endpoints: [{}]}}, ",
                    many(90, &|number| format!("e{number}, "))
                ))
            ),
            Ok(0),
        ),
        (
            "2,500 models with limits",
            format!(
                "rate_limits: {{per_model: {{{}}}}}",
                many(2_500, &|number| format!(
                    "m{number}: {{requests_per_minute: 1}}, "
                ))
            ),
            Ok(0),
        ),
        (
            "4,000 agents",
            format!(
                "agents: {{{}}}",
                many(4_000, &|number| format!("a{number}: {{models: {{}}}}, "))
            ),
            Err(too_many("line 1, column 82895")),
        ),
    ]
}

/// What a document is.
const DOCUMENTS: &[Row<&str>] = &[
    (
        "an empty file",
        "",
        Refused(
            "sekuire.yml:1:1: the document is empty\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "white space and comments alone",
        "\n  \n# models: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:4:1: the document is empty\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "a document that is null",
        "null\n",
        Refused(
            "sekuire.yml:1:1: the document is empty\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "a document that is null by another spelling",
        "---\n~\n...\n",
        Refused(
            "sekuire.yml:2:1: the document is empty\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "an empty mapping",
        "{}\n",
        Refused(
            "sekuire.yml:1:1: no policy configuration\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "a document that is a list",
        "- models: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: must be a mapping, not a list\n  help: begin with a section, such as `models:`, and indent its keys below it",
        ),
    ),
    (
        "a document that is text",
        "models\n",
        Refused(
            "sekuire.yml:1:1: must be a mapping, not text\n  help: put a colon behind `models`",
        ),
    ),
    (
        "a document that is a number",
        "4\n",
        Refused(
            "sekuire.yml:1:1: must be a mapping, not the number `4`\n  help: begin with a section, such as `models:`, and indent its keys below it",
        ),
    ),
    (
        "a second document",
        "models: {blocked_models: [a]}\n---\nmodels: {}\n",
        Refused(
            "sekuire.yml:2:1: more than one document\n  help: keep one document in a file; remove the `---` between them",
        ),
    ),
    (
        "a second document that is empty",
        "models: {blocked_models: [a]}\n---\n",
        Refused(
            "sekuire.yml:2:1: more than one document\n  help: keep one document in a file; remove the `---` between them",
        ),
    ),
    (
        "a first document that is empty",
        "---\n---\nmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:2:1: more than one document\n  help: keep one document in a file; remove the `---` between them",
        ),
    ),
    (
        "a second document after an end mark",
        "models: {blocked_models: [a]}\n...\nmodels: {}\n",
        Refused("sekuire.yml:3:1: more than one document\n  help: keep one document in a file"),
    ),
    (
        "an end mark and nothing behind it",
        "models: {blocked_models: [a]}\n...\n# end\n",
        Means("models, blocked [\"a\"]\n"),
    ),
    (
        "text behind the document",
        "{models: {blocked_models: [a]}}\nrate_limits: {}\n",
        Refused("sekuire.yml:2:1: more than one document\n  help: keep one document in a file"),
    ),
    (
        "a second document behind directives and comments",
        "%YAML 1.2\n# one\n--- # begins\nmodels: {}\n--- {}\n",
        Refused(
            "sekuire.yml:5:1: more than one document\n  help: keep one document in a file; remove the `---` between them",
        ),
    ),
    (
        "three hyphens that are no mark",
        "models:\n  blocked_models:\n    - '---'\n    - ---a\n",
        Means(
            "models, blocked [\"---\", \"---a\"]\nwarning: 3:7: models.blocked_models[0]: `---` begins with `-`, as hardly any name does: write one `-` and a space before each entry\nwarning: 4:7: models.blocked_models[1]: `---a` begins with `-`, as hardly any name does: write one `-` and a space before each entry\n",
        ),
    ),
    (
        "a start mark",
        "---\nmodels: {blocked_models: [a]}\n",
        Means("models, blocked [\"a\"]\n"),
    ),
    (
        "a version directive",
        "%YAML 1.2\n---\nmodels: {blocked_models: [a]}\n",
        Means("models, blocked [\"a\"]\n"),
    ),
    (
        "a directive for YAML 1.1",
        "%YAML 1.1\n---\nmodels: {blocked_models: [a]}\npermissions: {network: {require_tls: yes}}\n",
        Refused(
            "sekuire.yml:4:38: permissions.network.require_tls: must be `true` or `false`, not the text `yes`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a directive for a YAML to come",
        "%YAML 2.0\n---\nmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: not readable as YAML: found incompatible YAML document\n  help: remove the line that begins with `%`: a policy needs none",
        ),
    ),
    (
        "a directive that nobody knows",
        "%POLICY strict\n---\nmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:8: not readable as YAML: found unknown directive name\n  help: remove the line that begins with `%`: a policy needs none",
        ),
    ),
    (
        "a directive without a document",
        "%YAML 1.2\n",
        Refused(
            "sekuire.yml:2:1: not readable as YAML: did not find expected <document start>\n  help: remove the line that begins with `%`: a policy needs none",
        ),
    ),
    (
        "a directive given twice",
        "%YAML 1.2\n%YAML 1.2\n---\nmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:2:1: not readable as YAML: found duplicate %YAML directive\n  help: remove the line that begins with `%`: a policy needs none",
        ),
    ),
    (
        "a tag directive",
        "%TAG ! tag:example.com,2024:\n---\nmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: tag directives are not supported\n  help: remove the `%TAG` line",
        ),
    ),
    (
        "no rules but a description",
        "project: {name: a}\nagent: {name: b, llm: {model: gpt-4o}}\n",
        Refused(
            "sekuire.yml:1:1: no policy configuration\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "rules only under an extension key",
        "x-models: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: no policy configuration\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "an empty section of permissions",
        "permissions: {}\n",
        Refused(
            "sekuire.yml:1:1: no policy configuration\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "a list that was cut off",
        "models: {blocked_models: [a,\n",
        Refused(
            "sekuire.yml:2:1: not readable as YAML: did not find expected node content\n  help: close what is open with `]` or `}`; quote an entry that begins with a special character",
        ),
    ),
    (
        "a text that was cut off",
        "models: {blocked_models: ['a]}\n",
        Refused(
            "sekuire.yml:2:1: not readable as YAML: found unexpected end of stream\n  help: close the quotes, opened on line 1",
        ),
    ),
    (
        "JSON in a YAML file",
        "{\"models\": {\"blocked_models\": [\"a\"]}}\n",
        Means("models, blocked [\"a\"]\n"),
    ),
];

/// What YAML doesn't take, and what it takes for something else.
const SYNTAX: &[Row<&str>] = &[
    (
        "a list glued to its colon, and a key on the next line",
        "models:\n  allowed_models:[a]\n  blocked_models: [b]\n",
        Refused(
            "sekuire.yml:3:17: not readable as YAML: mapping values are not allowed in this context\n  help: put a space after the colon of `allowed_models:`",
        ),
    ),
    (
        "a text glued to its colon, in braces",
        "models: {allowed_models:x}\n",
        Refused(
            "sekuire.yml:1:10: models.\"allowed_models:x\": unknown key\n  help: put a space after the colon of `allowed_models:`",
        ),
    ),
    (
        "a text glued to its colon, behind another one",
        "models: allowed_models:x\n",
        Refused(
            "sekuire.yml:1:9: models: must be a mapping, not text\n  help: put a space after the colon of `allowed_models:`",
        ),
    ),
    (
        "a number glued to its colon",
        "rate_limits:\n  per_agent:\n    requests_per_minute:5\n",
        Refused(
            "sekuire.yml:3:5: rate_limits.per_agent: must be a mapping, not text\n  help: put a space after the colon of `requests_per_minute:`",
        ),
    ),
    (
        "a list glued to its colon in the last line",
        "agent:\n  toolsets:\n    allowed_tools: [a]\n    blocked_tools:[b]\n",
        Refused(
            "sekuire.yml:5:1: not readable as YAML: could not find expected ':'\n  help: put a space after the colon of `blocked_tools:`",
        ),
    ),
    (
        "a key that is indented too far",
        "models:\n  allowed_models: [a]\n   blocked_models: [b]\n",
        Refused(
            "sekuire.yml:3:4: not readable as YAML: did not find expected key\n  help: begin the keys of one mapping in the same column; quote a value whole or not at all",
        ),
    ),
    (
        "a key that is not indented far enough",
        "models:\n    allowed_models: [a]\n  blocked_models: [b]\n",
        Refused(
            "sekuire.yml:3:3: not readable as YAML: did not find expected key\n  help: begin the keys of one mapping in the same column; quote a value whole or not at all",
        ),
    ),
    (
        "a line of a list without its hyphen",
        "models:\n  allowed_models:\n    - a\n    b\n",
        Refused(
            "sekuire.yml:5:1: not readable as YAML: could not find expected ':'\n  help: write `: ` after each key, and quote text that takes several lines",
        ),
    ),
    (
        "a key in a list",
        "models:\n  allowed_models:\n    - a\n    b: c\n",
        Refused(
            "sekuire.yml:4:5: not readable as YAML: did not find expected '-' indicator\n  help: begin the entries of a list with `- ` in the same column, and no key among them",
        ),
    ),
    (
        "a list that begins on its key's line",
        "models:\n  allowed_models: - a\n",
        Refused(
            "sekuire.yml:2:19: not readable as YAML: block sequence entries are not allowed in this context\n  help: begin a list on the line below its key, or write it as in `[one, two]`",
        ),
    ),
    (
        "two entries without a comma",
        "models:\n  blocked_models: [\"a\" b]\n",
        Refused(
            "sekuire.yml:2:24: not readable as YAML: did not find expected ',' or ']'\n  help: put commas between entries, and close the list with `]`, opened on line 2",
        ),
    ),
    (
        "two keys without a comma",
        "models: {allowed_models: [a] blocked_models: [b]}\n",
        Refused(
            "sekuire.yml:1:30: not readable as YAML: did not find expected ',' or '}'\n  help: put commas between keys, and close the mapping with `}`, opened on line 1",
        ),
    ),
    (
        "a list that is not closed before the next key",
        "models:\n  allowed_models: [a, b\n  blocked_models: [c]\n",
        Refused(
            "sekuire.yml:3:17: not readable as YAML: did not find expected ',' or ']'\n  help: put commas between entries, and close the list with `]`, opened on line 2",
        ),
    ),
    (
        "a mapping that is not closed before the next key",
        "models: {allowed_models: [a]\nrate_limits: {}\n",
        Refused(
            "sekuire.yml:2:1: not readable as YAML: did not find expected ',' or '}'\n  help: put commas between keys, and close the mapping with `}`, opened on line 1",
        ),
    ),
    (
        "quotes that are not closed before the end",
        "models:\n  blocked_models: ['a, b]\n  # end\n",
        Refused(
            "sekuire.yml:4:1: not readable as YAML: found unexpected end of stream\n  help: close the quotes, opened on line 2",
        ),
    ),
    (
        "quotes that are not closed before a mark",
        "models:\n  blocked_models: ['a, b]\n---\n",
        Refused(
            "sekuire.yml:3:1: not readable as YAML: found unexpected document indicator\n  help: close the quotes before it, opened on line 2",
        ),
    ),
    (
        "an entry that begins with a reserved character",
        "models:\n  blocked_models: [@a]\n",
        Refused(
            "sekuire.yml:2:20: not readable as YAML: found character that cannot start any token\n  help: quote a value that begins with `@`, `%` or a backquote",
        ),
    ),
    (
        "a key without a colon",
        "models:\n  blocked_models\npermissions: {}\n",
        Refused(
            "sekuire.yml:2:3: models: must be a mapping, not text\n  help: put a colon behind `blocked_models`",
        ),
    ),
    (
        "a key without a colon, before its list",
        "models:\n  \"blocked_models\" [a]\n",
        Refused(
            "sekuire.yml:2:20: not readable as YAML: did not find expected key\n  help: begin the keys of one mapping in the same column; quote a value whole or not at all",
        ),
    ),
    (
        "a backslash in double quotes that escapes nothing",
        "models:\n  blocked_models: [\"a\\d\"]\n",
        Refused(
            "sekuire.yml:2:22: not readable as YAML: found unknown escape character\n  help: write `\\\\` for a backslash, or use single quotes, in which it is itself",
        ),
    ),
    (
        "a block of text that is indented by nothing",
        "models:\n  blocked_models: |0\n   a\n",
        Refused(
            "sekuire.yml:2:20: not readable as YAML: found an indentation indicator equal to 0\n  help: check the indentation, and quote a value that holds `: ` or ` #` or begins with a special character",
        ),
    ),
    (
        "a bracket too many",
        "models:\n  blocked_models: [a]]\n",
        Refused(
            "sekuire.yml:2:22: not readable as YAML: did not find expected key\n  help: begin the keys of one mapping in the same column; quote a value whole or not at all",
        ),
    ),
    (
        "a text with a colon in it",
        "name: it's: so\nmodels: {}\n",
        Refused(
            "sekuire.yml:1:11: not readable as YAML: mapping values are not allowed in this context\n  help: check the indentation of this line and the one before; quote a value that holds `: `",
        ),
    ),
    (
        "an entry that is indented less than the one before",
        "models:\n  blocked_models:\n  - a\n - b\n",
        Refused(
            "sekuire.yml:4:2: not readable as YAML: did not find expected key\n  help: begin the keys of one mapping in the same column; quote a value whole or not at all",
        ),
    ),
    (
        "an anchor without a name",
        "models: &\n",
        Refused(
            "sekuire.yml:1:10: not readable as YAML: did not find expected alphabetic or numeric character\n  help: quote an entry that begins with `*` or `&`",
        ),
    ),
    (
        "a comma behind a list",
        "models:\n  allowed_models: [gpt-4o],\n  blocked_models: [o3]\n",
        Refused(
            "sekuire.yml:2:27: not readable as YAML: did not find expected key\n  help: remove the comma: a line ends without one",
        ),
    ),
    (
        "a comma behind a mapping",
        "models: {allowed_models: [gpt-4o]}, # the end\ntoolsets: {allowed_tools: [a]}\n",
        Refused(
            "sekuire.yml:1:35: not readable as YAML: did not find expected key\n  help: remove the comma: a line ends without one",
        ),
    ),
    (
        "a comma behind a quoted entry",
        "models:\n  allowed_models:\n    - \"a\",\n    - \"b\"\n",
        Refused(
            "sekuire.yml:3:10: not readable as YAML: did not find expected '-' indicator\n  help: remove the comma: a line ends without one",
        ),
    ),
    (
        "two quoted texts behind a key",
        "models:\n  allowed_models: \"a\", \"b\"\n",
        Refused(
            "sekuire.yml:2:22: not readable as YAML: did not find expected key\n  help: begin the keys of one mapping in the same column; quote a value whole or not at all",
        ),
    ),
    (
        "a tab behind a hyphen",
        "models:\n  allowed_models:\n    - a\n    -\tb\n",
        Refused(
            "sekuire.yml:4:6: not readable as YAML: found character that cannot start any token\n  help: put a space after the `-`, not a tab",
        ),
    ),
];

/// What may be a text, a number, a list or a mapping, but not there.
const SHAPES: &[Row<&str>] = &[
    (
        "every section, and no rule",
        "models: {}\ntoolsets: {}\npermissions: {network: {}, filesystem: {}, api: {}}\nrate_limits: {per_agent: {}}\n",
        Means(
            "hosts\nfiles\nservices\nnot enforced: 3:28: permissions.filesystem: answers questions only, not enforced at the HTTP layer\nwarning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: models: restricts nothing: every model is allowed; write `allowed_models` or `blocked_models`\nwarning: 2:1: toolsets: restricts nothing: every tool is allowed; write `allowed_tools` or `blocked_tools`\nwarning: 3:15: permissions.network: restricts nothing: every host is allowed; write `allowed_domains`, `blocked_domains` or `require_tls: true`\nwarning: 3:28: permissions.filesystem: restricts nothing: every file is allowed; write `allowed_paths`, `blocked_paths` or `allowed_extensions`\nwarning: 3:44: permissions.api: restricts nothing: every service is allowed; write `allowed_services`\nwarning: 4:1: rate_limits: sets no limit: write one under `per_agent`, `per_model` or `global`, as in `requests_per_minute: 10`\n",
        ),
    ),
    (
        "a rule that is off for one category, and no other",
        "permissions: {api: {enabled: false}}\n",
        Means("services, off\n"),
    ),
    (
        "entries glued to their hyphens",
        "models:\n  allowed_models:\n    -a\n    -b\n",
        Refused(
            "sekuire.yml:3:5: models.allowed_models: must be a list, not text\n  help: put a space after each `-`",
        ),
    ),
    (
        "text and a mapping where lists are due",
        "models:\n  allowed_models: gpt-4o\n  blocked_models: {a: b}\n",
        Refused(
            "sekuire.yml:2:19: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`\nsekuire.yml:3:19: models.blocked_models: must be a list, not a mapping\n  help: write a list of names: `- a`",
        ),
    ),
    (
        "a tool's name that is a mapping without quotes",
        "toolsets: {allowed_tools: [files: read]}\n",
        Refused(
            "sekuire.yml:1:28: toolsets.allowed_tools[0]: must be text, not a mapping\n  help: write a name with a colon without a space after it: `- files:read`",
        ),
    ),
    (
        "tools that are mappings of one key",
        "toolsets:\n  allowed_tools:\n    - files:\n    - a: 4\n    - a: {b: c}\n    - nme: a\n    -\n",
        Refused(
            "sekuire.yml:3:7: toolsets.allowed_tools[0]: must be text, not a mapping\n  help: write the name alone: `- files`\nsekuire.yml:4:7: toolsets.allowed_tools[1]: must be text, not a mapping\n  help: write a name with a colon without a space after it: `- a:4`\nsekuire.yml:5:7: toolsets.allowed_tools[2].a: unknown key\n  help: known here: `name`, `description`\nsekuire.yml:5:7: toolsets.allowed_tools[2]: has no `name`\n  help: write the tool's name, as in `- name: web_search`\nsekuire.yml:6:7: toolsets.allowed_tools[3].nme: unknown key\n  help: did you mean `name`?\nsekuire.yml:6:7: toolsets.allowed_tools[3]: has no `name`\n  help: write the tool's name, as in `- name: web_search`\nsekuire.yml:7:6: toolsets.allowed_tools[4]: must be text, not null\n  help: write a text there, or remove the entry",
        ),
    ),
    (
        "a limit for each model without the model's name",
        "rate_limits: {per_model: {requests_per_minute: 3}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_model.requests_per_minute: must be a mapping, not the number `3`\n  help: write the model's name above it, as in `per_model: {gpt-4o: {requests_per_minute: 10}}`",
        ),
    ),
    (
        "limits without their key",
        "rate_limits: {per_agent: 3, global: [3]}\n",
        Refused(
            "sekuire.yml:1:26: rate_limits.per_agent: must be a mapping, not the number `3`\n  help: write a limit as in `requests_per_minute: 10`, indented below it\nsekuire.yml:1:37: rate_limits.global: must be a mapping, not a list\n  help: write a limit as in `requests_per_minute: 10`, indented below it",
        ),
    ),
    (
        "a number for all limits",
        "rate_limits: 3\n",
        Refused(
            "sekuire.yml:1:14: rate_limits: must be a mapping, not the number `3`\n  help: write limits under `per_agent`, `per_model` or `global`",
        ),
    ),
    (
        "permissions that are empty",
        "permissions:\n",
        Refused(
            "sekuire.yml:1:13: permissions: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line",
        ),
    ),
    (
        "lists where permissions are due",
        "permissions: {network: [a], filesystem: [/a], api: [openai]}\n",
        Refused(
            "sekuire.yml:1:24: permissions.network: must be a mapping, not a list\n  help: write the hosts under `allowed_domains` or `blocked_domains`\nsekuire.yml:1:41: permissions.filesystem: must be a mapping, not a list\n  help: write the paths under `allowed_paths` or `blocked_paths`\nsekuire.yml:1:52: permissions.api: must be a mapping, not a list\n  help: write the services under `allowed_services`",
        ),
    ),
    (
        "a service where a list of them is due",
        "permissions: {api: {allowed_services: openai}}\n",
        Refused(
            "sekuire.yml:1:39: permissions.api.allowed_services: must be a list, not text\n  help: write `- service_name: openai` for each",
        ),
    ),
    (
        "a list of tools without its key",
        "toolsets: [a]\n",
        Refused(
            "sekuire.yml:1:11: toolsets: must be a mapping, not a list\n  help: write the tools under `allowed_tools` or `blocked_tools`",
        ),
    ),
    (
        "numbers where hosts are due",
        "permissions: {network: {allowed_domains: [127.1, 4]}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: must be text, not the number `127.1`\n  help: put it in quotes; an address is four numbers, as in `\"127.0.0.1\"`\nsekuire.yml:1:50: permissions.network.allowed_domains[1]: must be text, not the number `4`\n  help: put it in quotes; an address is four numbers, as in `\"127.0.0.1\"`",
        ),
    ),
    (
        "numbers that are no whole ones",
        "rate_limits: {global: {requests_per_day: 1e6, tokens_per_day: 2.5, tokens_per_hour: .inf, tokens_per_minute: 1e30}}\n",
        Refused(
            "sekuire.yml:1:42: rate_limits.global.requests_per_day: must be a whole number, not the number `1000000.0`\n  help: write digits only, without point or exponent: `1000000`\nsekuire.yml:1:63: rate_limits.global.tokens_per_day: must be a whole number, not the number `2.5`\n  help: write digits only, without point or exponent\nsekuire.yml:1:85: rate_limits.global.tokens_per_hour: must be a whole number, not the number `inf`\n  help: write digits only, without point or exponent\nsekuire.yml:1:110: rate_limits.global.tokens_per_minute: must be a whole number, not the number `1e30`\n  help: write digits only, without point or exponent",
        ),
    ),
    (
        "an agent that is a list",
        "agents: {a: [models]}\n",
        Refused(
            "sekuire.yml:1:13: agents.a: must be a mapping, not a list\n  help: write its keys below it, indented, without `- `",
        ),
    ),
    (
        "mappings where text is due",
        "agent: {name: {a: b, c: d}}\nmodels: {allowed_models: [{a: b, c: d}, {1: 2}, {a: 1}]}\n",
        Refused(
            "sekuire.yml:1:15: agent.name: must be text, not a mapping\n  help: write one text, without keys below it\nsekuire.yml:2:27: models.allowed_models[0]: must be text, not a mapping\n  help: write one text, without keys below it\nsekuire.yml:2:41: models.allowed_models[1]: must be text, not a mapping\n  help: write the name alone, without keys\nsekuire.yml:2:49: models.allowed_models[2]: must be text, not a mapping\n  help: write a name with a colon without a space after it: `- a:1`",
        ),
    ),
];

/// What a file may hold as bytes.
const BYTES: &[Row<&[u8]>] = &[
    (
        "a byte order mark at the start",
        b"\xef\xbb\xbfmodels: {blocked_models: [a]}\n",
        Means("models, blocked [\"a\"]\n"),
    ),
    (
        "two byte order marks",
        b"\xef\xbb\xbf\xef\xbb\xbfmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:2: has a byte order mark that doesn't begin the file\n  help: remove it: at a line's beginning some readers leave it out and others take it for text",
        ),
    ),
    (
        "a byte order mark inside a key",
        b"mod\xef\xbb\xbfels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:4: has a byte order mark that doesn't begin the file\n  help: remove it: at a line's beginning some readers leave it out and others take it for text",
        ),
    ),
    (
        "a byte order mark inside an entry",
        b"models: {blocked_models: [\"a\xef\xbb\xbf\"]}\n",
        Refused(
            "sekuire.yml:1:29: has a byte order mark that doesn't begin the file\n  help: remove it: at a line's beginning some readers leave it out and others take it for text",
        ),
    ),
    (
        "a byte order mark before what is a comment to some readers",
        b"models: {blocked_models: [a,\n\xef\xbb\xbf# , o3\n]}\n",
        Refused(
            "sekuire.yml:2:1: has a byte order mark that doesn't begin the file\n  help: remove it: at a line's beginning some readers leave it out and others take it for text",
        ),
    ),
    (
        "a byte order mark at a line's beginning",
        b"models: {allowed_models: [gpt-4o-mini,\n\xef\xbb\xbfo3]}\n",
        Refused(
            "sekuire.yml:2:1: has a byte order mark that doesn't begin the file\n  help: remove it: at a line's beginning some readers leave it out and others take it for text",
        ),
    ),
    (
        "a byte order mark before a tag",
        b"models: {blocked_models: [\n\xef\xbb\xbf!!binary Z3B0LTRv ]}\n",
        Refused(
            "sekuire.yml:2:1: has a byte order mark that doesn't begin the file\n  help: remove it: at a line's beginning some readers leave it out and others take it for text",
        ),
    ),
    (
        "a byte order mark as an escape",
        b"models: {blocked_models: [\"a\\uFEFF\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: has a character that can't be seen: `a\\u{feff}`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a byte that is not UTF-8",
        b"models: {blocked_models: [a]} # \xff\n",
        Refused("sekuire.yml:1:33: not UTF-8 from byte 32 on\n  help: save the file as UTF-8"),
    ),
    (
        "an overlong form",
        b"models: {blocked_models: [\xc0\xaf]}\n",
        Refused("sekuire.yml:1:27: not UTF-8 from byte 26 on\n  help: save the file as UTF-8"),
    ),
    (
        "half of a surrogate pair",
        b"models: {blocked_models: [\xed\xa0\x80]}\n",
        Refused("sekuire.yml:1:27: not UTF-8 from byte 26 on\n  help: save the file as UTF-8"),
    ),
    (
        "UTF-16, little end first",
        b"\xff\xfem\x00o\x00d\x00e\x00l\x00s\x00:\x00 \x00{\x00}\x00\n\x00",
        Refused("sekuire.yml:1:1: not UTF-8 from byte 0 on\n  help: save the file as UTF-8"),
    ),
    (
        "UTF-16, big end first",
        b"\xfe\xff\x00m\x00o\x00d\x00e\x00l\x00s\x00:\x00 \x00{\x00}\x00\n",
        Refused("sekuire.yml:1:1: not UTF-8 from byte 0 on\n  help: save the file as UTF-8"),
    ),
    (
        "UTF-16 without mark",
        b"m\x00o\x00d\x00e\x00l\x00s\x00:\x00 \x00{\x00}\x00\n\x00",
        Refused(
            "sekuire.yml:1:2: has a control character: `\\u{0}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "a NUL byte in a comment",
        b"models: {blocked_models: [a]} # \x00\n",
        Refused(
            "sekuire.yml:1:33: has a control character: `\\u{0}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "a NUL byte at the end",
        b"models: {blocked_models: [a]}\n\x00",
        Refused(
            "sekuire.yml:2:1: has a control character: `\\u{0}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "an escape character in a comment",
        b"models: {blocked_models: [a]} # \x1b[31m\n",
        Refused(
            "sekuire.yml:1:33: has a control character: `\\u{1b}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "a carriage return alone",
        b"models:\n  blocked_models: # none\r    [a]\n  allowed_models: [b]\n",
        Refused(
            "sekuire.yml:2:25: has a line break that not every reader sees: `\\u{d}`\n  help: end lines with a line feed; write the character as an escape where it is meant",
        ),
    ),
    (
        "U+0085 at the end of a comment",
        b"models:\n  allowed_models:\n    - a # only\xc2\x85    - b\n",
        Refused(
            "sekuire.yml:3:15: has a line break that not every reader sees: `\\u{85}`\n  help: end lines with a line feed; write the character as an escape where it is meant",
        ),
    ),
    (
        "U+2028 at the end of a comment",
        b"models:\n  allowed_models:\n    - a # only\xe2\x80\xa8    - b\n",
        Refused(
            "sekuire.yml:3:15: has a line break that not every reader sees: `\\u{2028}`\n  help: end lines with a line feed; write the character as an escape where it is meant",
        ),
    ),
    (
        "U+2029 at the end of a comment",
        b"models:\n  allowed_models:\n    - a # only\xe2\x80\xa9    - b\n",
        Refused(
            "sekuire.yml:3:15: has a line break that not every reader sees: `\\u{2029}`\n  help: end lines with a line feed; write the character as an escape where it is meant",
        ),
    ),
    (
        "U+2028 inside quotes",
        b"models: {allowed_models: [\"a\xe2\x80\xa8b\"]}\n",
        Refused(
            "sekuire.yml:1:29: has a line break that not every reader sees: `\\u{2028}`\n  help: end lines with a line feed; write the character as an escape where it is meant",
        ),
    ),
    (
        "a form feed, which ends no line",
        b"models: {blocked_models: [a\x0cb]}\n",
        Refused(
            "sekuire.yml:1:28: has a control character: `\\u{c}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "a vertical tab as an escape",
        b"models: {blocked_models: [\"a\\vb\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: has a character that can't be seen: `a\\u{b}b`\n  help: remove control and direction characters",
        ),
    ),
    (
        "lines that end in carriage return and line feed",
        b"models:\r\n  blocked_models:\r\n    - a\r\n",
        Means("models, blocked [\"a\"]\n"),
    ),
    (
        "a non-character",
        b"models: {blocked_models: [a]} # \xef\xbf\xbf\n",
        Refused(
            "sekuire.yml:1:33: has a control character: `\\u{ffff}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "a control character of Latin 1",
        b"models: {blocked_models: [a]} # \xc2\x9b31m\n",
        Refused(
            "sekuire.yml:1:33: has a control character: `\\u{9b}`\n  help: save the file as plain text in UTF-8, and write the character as an escape where it is meant",
        ),
    ),
    (
        "a tab as indentation",
        b"models:\n\tblocked_models: [a]\n",
        Refused(
            "sekuire.yml:2:1: not readable as YAML: found character that cannot start any token\n  help: indent with spaces: YAML takes no tabs there",
        ),
    ),
    (
        "a no-break space as indentation",
        b"models:\n\xc2\xa0\xc2\xa0blocked_models: [a]\n",
        Refused(
            "sekuire.yml:1:8: models: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line\nsekuire.yml:2:1: \"\u{a0}\u{a0}blocked_models\": unknown key\n  help: indent with plain spaces: the key begins with another kind of space",
        ),
    ),
];

/// Keys.
const KEYS: &[Row<&str>] = &[
    (
        "a section given twice",
        "models: {blocked_models: [a]}\nmodels: {blocked_models: []}\n",
        Refused("sekuire.yml:2:1: models: given twice\n  help: keep one of them"),
    ),
    (
        "a list given twice",
        "models:\n  blocked_models: [a]\n  blocked_models: []\n",
        Refused("sekuire.yml:3:3: models.blocked_models: given twice\n  help: keep one of them"),
    ),
    (
        "a key given twice, once in quotes",
        "models: {blocked_models: [a], \"blocked_models\": []}\n",
        Refused("sekuire.yml:1:31: models.blocked_models: given twice\n  help: keep one of them"),
    ),
    (
        "a key given twice, once by an escape",
        "models: {blocked_models: [a], \"blocked_model\\x73\": []}\n",
        Refused("sekuire.yml:1:31: models.blocked_models: given twice\n  help: keep one of them"),
    ),
    (
        "a key given twice, once by its tag",
        "models: {blocked_models: [a], !!str blocked_models: []}\n",
        Refused(
            "sekuire.yml:1:31: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a key given three times",
        "models: {}\nmodels: {}\nmodels: {}\n",
        Refused(
            "sekuire.yml:2:1: models: given twice\n  help: keep one of them\nsekuire.yml:3:1: models: given twice\n  help: keep one of them",
        ),
    ),
    (
        "a key given twice in a tool's entry",
        "toolsets: {allowed_tools: [{name: a, name: b}]}\n",
        Refused(
            "sekuire.yml:1:38: toolsets.allowed_tools[0].name: given twice\n  help: keep one of them",
        ),
    ),
    (
        "a model's limits given twice",
        "rate_limits: {per_model: {a: {requests_per_day: 1}, a: {requests_per_day: 2}}}\n",
        Refused("sekuire.yml:1:53: rate_limits.per_model.a: given twice\n  help: keep one of them"),
    ),
    (
        "a key given twice where nothing is enforced",
        "models: {}\nllm: {model: a, model: b}\n",
        Refused("sekuire.yml:2:17: llm.model: given twice\n  help: keep one of them"),
    ),
    (
        "a key given twice under an extension key",
        "models: {}\nx-note: {a: 1, a: 2}\n",
        Means(
            "not enforced: 2:1: x-note: extension key, not read\nwarning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: models: restricts nothing: every model is allowed; write `allowed_models` or `blocked_models`\n",
        ),
    ),
    (
        "an agent given twice",
        "agents: {a: {models: {}}, a: {toolsets: {}}}\n",
        Refused("sekuire.yml:1:27: agents.a: given twice\n  help: keep one of them"),
    ),
    (
        "a merge key",
        "models: {<<: {blocked_models: [a]}, allowed_models: [b]}\n",
        Refused(
            "sekuire.yml:1:10: models.\"<<\": merge keys are not supported\n  help: write the keys out where they are used",
        ),
    ),
    (
        "a merge key with a list",
        "models: {<<: [{blocked_models: [a]}]}\n",
        Refused(
            "sekuire.yml:1:10: models.\"<<\": merge keys are not supported\n  help: write the keys out where they are used",
        ),
    ),
    (
        "a merge key in quotes",
        "models: {\"<<\": {blocked_models: [a]}}\n",
        Refused(
            "sekuire.yml:1:10: models.\"<<\": merge keys are not supported\n  help: write the keys out where they are used",
        ),
    ),
    (
        "a merge key at the top",
        "<<: {models: {blocked_models: [a]}}\n",
        Refused(
            "sekuire.yml:1:1: \"<<\": merge keys are not supported\n  help: write the keys out where they are used",
        ),
    ),
    (
        "a merge key where nothing is enforced",
        "models: {}\nserver: {<<: {allowed_tools: [a]}}\n",
        Refused(
            "sekuire.yml:2:10: server.\"<<\": merge keys are not supported\n  help: write the keys out where they are used",
        ),
    ),
    (
        "a key that is a number",
        "models: {1: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models: has a key that is the number `1`\n  help: write keys as text; quote one that reads as a number",
        ),
    ),
    (
        "a key that is null",
        "models: {~: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models: has a key that is null\n  help: write keys as text; quote one that reads as a number",
        ),
    ),
    (
        "a key that isn't there",
        "models: {: [a]}\n",
        Refused(
            "sekuire.yml:1:10: not readable as YAML: did not find expected node content\n  help: close what is open with `]` or `}`; quote an entry that begins with a special character",
        ),
    ),
    (
        "a key that is empty",
        "models: {\"\": [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.\"\": unknown key\n  help: known here: `allowed_models`, `blocked_models`, `allowed_providers`",
        ),
    ),
    (
        "a key that is a boolean",
        "rate_limits: {per_model: {true: {requests_per_day: 1}}}\n",
        Refused(
            "sekuire.yml:1:27: rate_limits.per_model: has a key that is `true`\n  help: write keys as text; quote one that reads as a number",
        ),
    ),
    (
        "a model's name that reads as a number",
        "rate_limits: {per_model: {4: {requests_per_day: 1}}}\n",
        Refused(
            "sekuire.yml:1:27: rate_limits.per_model: has a key that is the number `4`\n  help: write keys as text; quote one that reads as a number",
        ),
    ),
    (
        "a key that is a boolean in YAML 1.1 only",
        "rate_limits: {per_model: {on: {requests_per_day: 1}}}\n",
        Means("on: 1 request per day\n"),
    ),
    (
        "a key that is a list",
        "models: {? [blocked_models] : [a]}\n",
        Refused(
            "sekuire.yml:1:12: models: has a key that is a list\n  help: write keys as text; quote one that reads as a number",
        ),
    ),
    (
        "a key that is a mapping",
        "models: {{blocked_models: a}: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models: has a key that is a mapping\n  help: write keys as text; quote one that reads as a number",
        ),
    ),
    (
        "a set",
        "models:\n  blocked_models:\n    ? a\n    ? b\n",
        Refused(
            "sekuire.yml:3:5: models.blocked_models: must be a list, not a mapping\n  help: write a list of names: `- a`",
        ),
    ),
    (
        "a section that was misspelt",
        "modles: {blocked_models: [a]}\n",
        Refused("sekuire.yml:1:1: modles: unknown key\n  help: did you mean `models`?"),
    ),
    (
        "a list that was misspelt",
        "models: {blocked_model: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.blocked_model: unknown key\n  help: did you mean `blocked_models`?",
        ),
    ),
    (
        "a key of permissions that was misspelt",
        "permissions: {netwrok: {}}\n",
        Refused(
            "sekuire.yml:1:15: permissions.netwrok: unknown key\n  help: did you mean `network`?",
        ),
    ),
    (
        "a list of hosts that was misspelt",
        "permissions: {network: {allow_domains: []}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.network.allow_domains: unknown key\n  help: did you mean `allowed_domains`?",
        ),
    ),
    (
        "a key of a tool that was misspelt",
        "tools: {allowed_tools: [{nmae: a}]}\n",
        Refused(
            "sekuire.yml:1:25: tools.allowed_tools[0]: has no `name`\n  help: write the tool's name, as in `- name: web_search`\nsekuire.yml:1:26: tools.allowed_tools[0].nmae: unknown key\n  help: did you mean `name`?",
        ),
    ),
    (
        "a key of the project that was misspelt",
        "models: {}\nproject: {nam: a}\n",
        Refused("sekuire.yml:2:11: project.nam: unknown key\n  help: did you mean `name`?"),
    ),
    (
        "a key of an agent's model that was misspelt",
        "models: {}\nagent: {llm: {modle: a}}\n",
        Refused("sekuire.yml:2:15: agent.llm.modle: unknown key\n  help: did you mean `model`?"),
    ),
    (
        "a key of an agent that was misspelt",
        "agent: {toolset: {allowed_tools: [a]}}\n",
        Refused("sekuire.yml:1:9: agent.toolset: unknown key\n  help: did you mean `toolsets`?"),
    ),
    (
        "a key that is near to its contrary",
        "permissions: {api: {blocked_services: [a]}}\n",
        Refused(
            "sekuire.yml:1:21: permissions.api.blocked_services: unknown key\n  help: known here: `enabled`, `allowed_services`",
        ),
    ),
    (
        "a key in another case",
        "Models: {blocked_models: [a]}\n",
        Refused("sekuire.yml:1:1: Models: unknown key\n  help: did you mean `models`?"),
    ),
    (
        "a key in camel case",
        "models: {blockedModels: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.blockedModels: unknown key\n  help: did you mean `blocked_models`?",
        ),
    ),
    (
        "a key with a hyphen",
        "models: {blocked-models: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.blocked-models: unknown key\n  help: did you mean `blocked_models`?",
        ),
    ),
    (
        "a key with a letter of another alphabet",
        "models: {blоcked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.\"blоcked_models\": unknown key\n  help: did you mean `blocked_models`?",
        ),
    ),
    (
        "a key with a space at its end",
        "models: {\"blocked_models \": [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.\"blocked_models \": unknown key\n  help: did you mean `blocked_models`?",
        ),
    ),
    (
        "a key with a character that can't be seen",
        "models: {\"blocked_models\\u200b\": [a]}\n",
        Refused(
            "sekuire.yml:1:10: models.\"blocked_models\\u{200b}\": unknown key\n  help: did you mean `blocked_models`?",
        ),
    ),
    (
        "a key with a line break",
        "\"models\\nmodels\": {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: \"models\\u{a}models\": unknown key\n  help: known here: `agent`, `agents`, `models`, `toolsets`, `tools`, `permissions`, `rate_limits`, `spec_version`, `version`, `name`, `description`, `project`, `identity`, `llm`, `memory`, `logger`, `deployment`, `server`, `a2a`, `capabilities`, `compliance`, `audit`",
        ),
    ),
    (
        "a key that turns what follows it around",
        "\"\\u202emodels\": {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: \"\\u{202e}models\": unknown key\n  help: did you mean `models`?",
        ),
    ),
    (
        "a switch that turns enforcement off",
        "models: {blocked_models: [a]}\nmode: audit\n",
        Refused(
            "sekuire.yml:2:1: mode: unknown key\n  help: known here: `agent`, `agents`, `models`, `toolsets`, `tools`, `permissions`, `rate_limits`, `spec_version`, `version`, `name`, `description`, `project`, `identity`, `llm`, `memory`, `logger`, `deployment`, `server`, `a2a`, `capabilities`, `compliance`, `audit`",
        ),
    ),
    (
        "a switch that turns enforcement off in a section",
        "models: {blocked_models: [a], enabled: false}\n",
        Refused(
            "sekuire.yml:1:31: models.enabled: unknown key\n  help: known here: `allowed_models`, `blocked_models`, `allowed_providers`",
        ),
    ),
    (
        "an extension key",
        "models: {blocked_models: [a], x-why: {allowed_models: [a]}}\nx-owner: {a: [1, ~]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:31: models.x-why: extension key, not read\nnot enforced: 2:1: x-owner: extension key, not read\n",
        ),
    ),
    (
        "an extension key in another case",
        "models: {blocked_models: [a]}\nX-owner: me\n",
        Refused(
            "sekuire.yml:2:1: X-owner: unknown key\n  help: known here: `agent`, `agents`, `models`, `toolsets`, `tools`, `permissions`, `rate_limits`, `spec_version`, `version`, `name`, `description`, `project`, `identity`, `llm`, `memory`, `logger`, `deployment`, `server`, `a2a`, `capabilities`, `compliance`, `audit`",
        ),
    ),
    (
        "a colon without a space",
        "models: {blocked_models:[a]}\n",
        Refused(
            "sekuire.yml:1:24: not readable as YAML: found unexpected ':'\n  help: put a space after the colon of `blocked_models:`",
        ),
    ),
    (
        "a colon without a space behind a key that nobody knows",
        "models: {other:[a]}\n",
        Refused(
            "sekuire.yml:1:15: not readable as YAML: found unexpected ':'\n  help: put a space after the colon, or quote the text",
        ),
    ),
    (
        "a colon without a space, outside braces",
        "models:\n  blocked_models:[a]\n",
        Refused(
            "sekuire.yml:2:3: models: must be a mapping, not text\n  help: put a space after the colon of `blocked_models:`",
        ),
    ),
    (
        "lists in each other's sections",
        "agent:\n  models: {allowed_tools: [a], allowed_domains: [a], requests_per_day: 1}\n  toolsets: {blocked_models: [a], allowed_services: [a]}\nrate_limits: {allowed_models: [a], global: {require_tls: true}}\npermissions: {require_tls: true, allowed_domains: [a], allowed_paths: [/a], requests_per_minute: 1, per_agent: {}}\nservice_name: openai\n",
        Refused(
            "sekuire.yml:2:12: agent.models.allowed_tools: unknown key\n  help: write it under `toolsets`\nsekuire.yml:2:32: agent.models.allowed_domains: unknown key\n  help: write it under `permissions.network`\nsekuire.yml:2:54: agent.models.requests_per_day: unknown key\n  help: write it under `rate_limits.per_agent`\nsekuire.yml:3:14: agent.toolsets.blocked_models: unknown key\n  help: write it under `models`\nsekuire.yml:3:35: agent.toolsets.allowed_services: unknown key\n  help: write it under `permissions.api`\nsekuire.yml:4:15: rate_limits.allowed_models: unknown key\n  help: write it under `models`\nsekuire.yml:4:45: rate_limits.global.require_tls: unknown key\n  help: write it under `permissions.network`\nsekuire.yml:5:15: permissions.require_tls: unknown key\n  help: write it under `permissions.network`\nsekuire.yml:5:34: permissions.allowed_domains: unknown key\n  help: write it under `permissions.network`\nsekuire.yml:5:56: permissions.allowed_paths: unknown key\n  help: write it under `permissions.filesystem`\nsekuire.yml:5:77: permissions.requests_per_minute: unknown key\n  help: write it under `rate_limits.per_agent`\nsekuire.yml:5:101: permissions.per_agent: unknown key\n  help: write it under `rate_limits`\nsekuire.yml:6:1: service_name: unknown key\n  help: write it under `permissions.api.allowed_services`",
        ),
    ),
    (
        "a rule for the model that is used",
        "agent: {model: {allowed: [o3]}, llm: {model: [o3]}}\nllm: {model: {denied: [o3]}}\nidentity: {model: [o3]}\n",
        Refused(
            "sekuire.yml:1:9: agent.model: looks like a rule, but no rules are read here\n  help: write the rule under `agent.models`\nsekuire.yml:1:39: agent.llm.model: looks like a rule, but no rules are read here\n  help: write the rule under `agent.models`\nsekuire.yml:2:7: llm.model: looks like a rule, but no rules are read here\n  help: write the rule under `agent.models`\nsekuire.yml:3:12: identity.model: looks like a rule, but no rules are read here\n  help: write the rule under `agent.models`",
        ),
    ),
    (
        "a model that is described",
        "agent: {model: {provider: openai, name: o3}, models: {allowed_models: [o3]}}\n",
        Means(
            "models, allowed [\"o3\"]\nnot enforced: 1:9: agent.model: describes, restricts nothing\n",
        ),
    ),
];

/// Values of another type.
const TYPES: &[Row<&str>] = &[
    (
        "a list that is null",
        "models: {allowed_models: }\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not null\n  help: remove the key to allow everything, or write `[]` to allow nothing",
        ),
    ),
    (
        "a list that is null by a tilde",
        "models: {blocked_models: ~}\n",
        Refused(
            "sekuire.yml:1:26: models.blocked_models: must be a list, not null\n  help: remove the key, or list what is meant",
        ),
    ),
    (
        "a list that is null by a word",
        "models: {allowed_models: Null}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not null\n  help: remove the key to allow everything, or write `[]` to allow nothing",
        ),
    ),
    (
        "a list that is null by capitals",
        "models: {allowed_models: NULL}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not null\n  help: remove the key to allow everything, or write `[]` to allow nothing",
        ),
    ),
    (
        "a list that is null in YAML 1.1 only",
        "models: {allowed_models: nil}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list that is text",
        "models: {allowed_models: gpt-4o}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list that is text with commas",
        "models: {allowed_models: 'a, b'}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list that is a star",
        "models: {allowed_models: '*'}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list that is a boolean",
        "toolsets: {allowed_tools: false}\n",
        Refused(
            "sekuire.yml:1:27: toolsets.allowed_tools: must be a list, not `false`\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list that is a number",
        "toolsets: {allowed_tools: 0}\n",
        Refused(
            "sekuire.yml:1:27: toolsets.allowed_tools: must be a list, not the number `0`\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list that is a mapping",
        "models: {allowed_models: {a: b}}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not a mapping\n  help: write a list of names: `- a`",
        ),
    ),
    (
        "a list in a list",
        "models: {allowed_models: [[a]]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: must be text, not a list\n  help: write each entry by itself, without brackets",
        ),
    ),
    (
        "an entry that is null",
        "models:\n  allowed_models:\n    -\n    - a\n",
        Refused(
            "sekuire.yml:3:6: models.allowed_models[0]: must be text, not null\n  help: write a text there, or remove the entry",
        ),
    ),
    (
        "an entry that is null by a tilde",
        "models: {allowed_models: [~]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: must be text, not null\n  help: write a text there, or remove the entry",
        ),
    ),
    (
        "an entry between two commas",
        "models: {allowed_models: [a, , b]}\n",
        Refused(
            "sekuire.yml:1:30: not readable as YAML: did not find expected node content\n  help: write an entry before the comma, or remove the comma",
        ),
    ),
    (
        "an entry that is a number",
        "models: {allowed_models: [4]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: must be text, not the number `4`\n  help: put it in quotes, as it is written",
        ),
    ),
    (
        "an entry that is a number with a point",
        "models: {allowed_models: [4.10]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: must be text, not the number `4.1`\n  help: put it in quotes, as it is written",
        ),
    ),
    (
        "an entry that is a boolean",
        "models: {allowed_models: [true]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: must be text, not `true`\n  help: put it in quotes, as it is written",
        ),
    ),
    (
        "an entry that is a boolean in YAML 1.1 only",
        "models: {allowed_models: [no, Off, y]}\n",
        Means("models, allowed [\"no\", \"Off\", \"y\"]\n"),
    ),
    (
        "an entry that is a date in YAML 1.1 only",
        "models: {allowed_models: [2024-08-06]}\n",
        Means("models, allowed [\"2024-08-06\"]\n"),
    ),
    (
        "an entry that is a sexagesimal number in YAML 1.1 only",
        "models: {allowed_models: [1:30]}\n",
        Means("models, allowed [\"1:30\"]\n"),
    ),
    (
        "an entry that is a mapping by a colon and a space",
        "models:\n  allowed_models:\n    - gpt: 4o\n",
        Refused(
            "sekuire.yml:3:7: models.allowed_models[0]: must be text, not a mapping\n  help: write a name with a colon without a space after it: `- gpt:4o`",
        ),
    ),
    (
        "an entry that ends in a colon",
        "models:\n  allowed_models:\n    - gpt:\n",
        Refused(
            "sekuire.yml:3:7: models.allowed_models[0]: must be text, not a mapping\n  help: write the name alone: `- gpt`",
        ),
    ),
    (
        "an entry that is empty",
        "models: {allowed_models: ['']}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: must not be empty\n  help: remove the entry",
        ),
    ),
    (
        "an entry cut by a comment",
        "models:\n  allowed_models:\n    - gpt #-4o\n",
        Means("models, allowed [\"gpt\"]\n"),
    ),
    (
        "an entry with a number sign in it",
        "models: {allowed_models: [gpt#4o]}\n",
        Means("models, allowed [\"gpt#4o\"]\n"),
    ),
    (
        "an entry over two lines",
        "models:\n  allowed_models:\n    - gpt-4o\n      gpt-5\n",
        Means(
            "models, allowed [\"gpt-4o gpt-5\"]\nwarning: 3:7: models.allowed_models[0]: `gpt-4o gpt-5` holds white space, which no name has: write each name as an entry of its own, as it is sent\n",
        ),
    ),
    (
        "an entry as a literal block",
        "models:\n  allowed_models:\n    - |\n      gpt-4o\n",
        Refused(
            "sekuire.yml:3:7: models.allowed_models[0]: has a character that can't be seen: `gpt-4o\\u{a}`\n  help: remove control and direction characters",
        ),
    ),
    (
        "an entry as a literal block without its line break",
        "models:\n  allowed_models:\n    - |-\n      gpt-4o\n",
        Means("models, allowed [\"gpt-4o\"]\n"),
    ),
    (
        "a list as a literal block",
        "models:\n  allowed_models: |\n    - gpt-4o\n",
        Refused(
            "sekuire.yml:2:19: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a list in a text",
        "models: {allowed_models: '[a]'}\n",
        Refused(
            "sekuire.yml:1:26: models.allowed_models: must be a list, not text\n  help: write it as a list, as in `[one, two]`",
        ),
    ),
    (
        "a number that is text by its tag",
        "models: {allowed_models: [!!str 4]}\n",
        Refused(
            "sekuire.yml:1:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a text that is a number by its tag",
        "rate_limits: {per_agent: {requests_per_day: !!int \"4\"}}\n",
        Refused(
            "sekuire.yml:1:45: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a boolean by its tag",
        "permissions: {network: {enabled: !!bool \"false\"}}\n",
        Refused(
            "sekuire.yml:1:34: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "null by its tag",
        "models: {allowed_models: !!null \"\"}\n",
        Refused(
            "sekuire.yml:1:26: not readable as YAML: models.allowed_models: invalid value: string \"\", expected null\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a binary value",
        "models: {allowed_models: [!!binary Z3B0LTRv]}\n",
        Refused(
            "sekuire.yml:1:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a set by its tag",
        "models: {allowed_models: !!set {a, b}}\n",
        Refused(
            "sekuire.yml:1:26: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a tag on a list",
        "models: {allowed_models: !!seq [a]}\n",
        Refused(
            "sekuire.yml:1:26: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a local tag on a list",
        "models: {allowed_models: !only [a]}\n",
        Refused(
            "sekuire.yml:1:26: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a local tag on an entry",
        "models: {allowed_models: [!exact gpt-4o]}\n",
        Refused(
            "sekuire.yml:1:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a local tag on a mapping",
        "models: !replace {allowed_models: [a]}\n",
        Refused(
            "sekuire.yml:1:9: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a local tag on the document",
        "!policy\nmodels: {}\n",
        Refused(
            "sekuire.yml:1:1: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a local tag on a key",
        "!x models: {allowed_models: [a]}\n",
        Refused(
            "sekuire.yml:1:1: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a tag that includes a file",
        "models: !include models.yml\n",
        Refused(
            "sekuire.yml:1:9: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a tag that builds an object",
        "models: {allowed_models: !!python/object/apply:os.system [id]}\n",
        Refused(
            "sekuire.yml:1:26: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "the tag that says nothing",
        "models: {allowed_models: [! 4]}\n",
        Refused(
            "sekuire.yml:1:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a local tag where nothing is enforced",
        "models: {}\nserver: {a: [!t b]}\n",
        Refused(
            "sekuire.yml:2:14: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a section that is null",
        "models:\n",
        Refused(
            "sekuire.yml:1:8: models: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line",
        ),
    ),
    (
        "a section that is a list",
        "models: [gpt-4o]\n",
        Refused(
            "sekuire.yml:1:9: models: must be a mapping, not a list\n  help: write the models under `allowed_models` or `blocked_models`",
        ),
    ),
    (
        "a section that is text",
        "permissions: none\n",
        Refused(
            "sekuire.yml:1:14: permissions: must be a mapping, not text\n  help: write its keys below it, indented",
        ),
    ),
    (
        "a section that is empty text",
        "models: ''\n",
        Refused(
            "sekuire.yml:1:9: models: must be a mapping, not empty text\n  help: write the models under `allowed_models` or `blocked_models`",
        ),
    ),
    (
        "a section that is a boolean",
        "permissions: {network: false}\n",
        Refused(
            "sekuire.yml:1:24: permissions.network: must be a mapping, not `false`\n  help: write its keys below it, indented",
        ),
    ),
    (
        "a boolean that is `yes`",
        "permissions: {network: {require_tls: yes}}\n",
        Refused(
            "sekuire.yml:1:38: permissions.network.require_tls: must be `true` or `false`, not the text `yes`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a boolean that is `No`",
        "permissions: {network: {enabled: No}}\n",
        Refused(
            "sekuire.yml:1:34: permissions.network.enabled: must be `true` or `false`, not the text `No`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a boolean that is `on`",
        "permissions: {network: {require_tls: on}}\n",
        Refused(
            "sekuire.yml:1:38: permissions.network.require_tls: must be `true` or `false`, not the text `on`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a boolean that is `off`",
        "permissions: {network: {enabled: off}}\n",
        Refused(
            "sekuire.yml:1:34: permissions.network.enabled: must be `true` or `false`, not the text `off`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a boolean that is `y`",
        "permissions: {network: {require_tls: y}}\n",
        Refused(
            "sekuire.yml:1:38: permissions.network.require_tls: must be `true` or `false`, not the text `y`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a boolean in quotes",
        "permissions: {network: {enabled: 'false'}}\n",
        Refused(
            "sekuire.yml:1:34: permissions.network.enabled: must be `true` or `false`, not the text `false`\n  help: remove the quotes",
        ),
    ),
    (
        "a boolean in capitals",
        "permissions: {network: {require_tls: TRUE, enabled: True}}\n",
        Means("hosts, TLS only\n"),
    ),
    (
        "a boolean that is a number",
        "permissions: {network: {require_tls: 1}}\n",
        Refused(
            "sekuire.yml:1:38: permissions.network.require_tls: must be `true` or `false`, not the number `1`\n  help: write `true` or `false`",
        ),
    ),
    (
        "a boolean that is null",
        "permissions: {network: {require_tls: }}\n",
        Refused(
            "sekuire.yml:1:38: permissions.network.require_tls: must be `true` or `false`, not null\n  help: write `true` or `false`, or remove the key",
        ),
    ),
    (
        "a boolean that is a list",
        "permissions: {api: {enabled: [true]}}\n",
        Refused(
            "sekuire.yml:1:30: permissions.api.enabled: must be `true` or `false`, not a list\n  help: write `true` or `false`",
        ),
    ),
    (
        "an agent's name that is a number",
        "agent: {name: 7, models: {}}\n",
        Refused(
            "sekuire.yml:1:15: agent.name: must be text, not the number `7`\n  help: put it in quotes, as it is written",
        ),
    ),
    (
        "an agent's name that is null",
        "agent: {name: ~, models: {}}\n",
        Refused(
            "sekuire.yml:1:15: agent.name: must be text, not null\n  help: write it in quotes behind the colon, or remove the line",
        ),
    ),
    (
        "an agent's name that is empty",
        "agent: {name: '', models: {}}\n",
        Refused("sekuire.yml:1:15: agent.name: must not be empty\n  help: remove the entry"),
    ),
    (
        "a tools file that is a list",
        "agent: {tools: [a], models: {}}\n",
        Refused(
            "sekuire.yml:1:16: agent.tools: must be the path of a file, not a list\n  help: list tools under `agent.toolsets.allowed_tools`",
        ),
    ),
    (
        "a tool without a name",
        "toolsets: {allowed_tools: [{description: a}]}\n",
        Refused(
            "sekuire.yml:1:28: toolsets.allowed_tools[0]: has no `name`\n  help: write the tool's name, as in `- name: web_search`",
        ),
    ),
    (
        "a tool with a name that is a list",
        "toolsets: {allowed_tools: [{name: [a]}]}\n",
        Refused(
            "sekuire.yml:1:35: toolsets.allowed_tools[0].name: must be text, not a list\n  help: write one text, not a list",
        ),
    ),
    (
        "a tool with a description that is a number",
        "toolsets: {allowed_tools: [{name: a, description: 4}]}\n",
        Refused(
            "sekuire.yml:1:51: toolsets.allowed_tools[0].description: must be text, not the number `4`\n  help: put it in quotes, as it is written",
        ),
    ),
    (
        "a service as plain text",
        "permissions: {api: {allowed_services: [openai]}}\n",
        Refused(
            "sekuire.yml:1:40: permissions.api.allowed_services[0]: must be a mapping, not text\n  help: write `- service_name: openai` for each",
        ),
    ),
    (
        "a service without a name",
        "permissions: {api: {allowed_services: [{endpoints: [chat]}]}}\n",
        Refused(
            "sekuire.yml:1:40: permissions.api.allowed_services[0]: has no `service_name`\n  help: write the service's name",
        ),
    ),
    (
        "a service's endpoints that are null",
        "permissions: {api: {allowed_services: [{service_name: openai, endpoints: }]}}\n",
        Refused(
            "sekuire.yml:1:74: permissions.api.allowed_services[0].endpoints: must be a list, not null\n  help: remove the key, or list what is meant",
        ),
    ),
    (
        "a tag behind an anchor",
        "models: {allowed_models: [&a !!binary Z3B0LTRv]}\n",
        Refused(
            "sekuire.yml:1:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a tag on a line of its own",
        "models:\n  allowed_models:\n    - a\n!!binary tools: {}\n",
        Refused(
            "sekuire.yml:4:1: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a tag written out",
        "models: {allowed_models: [!<tag:yaml.org,2002:binary> Z3B0LTRv]}\n",
        Refused(
            "sekuire.yml:1:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "exclamation marks in double quotes",
        "description: \"Attention: !!! production\"\nmodels: {blocked_models: [a]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: description: describes, restricts nothing\n",
        ),
    ),
    (
        "exclamation marks in single quotes",
        "description: 'Hi, !! and - !! there'\nmodels: {blocked_models: [a]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: description: describes, restricts nothing\n",
        ),
    ),
    (
        "exclamation marks that begin a line of a literal text",
        "description: |\n  !!! IMPORTANT !!!\nmodels: {blocked_models: [a]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: description: describes, restricts nothing\n",
        ),
    ),
    (
        "exclamation marks that begin a line of a folded text",
        "description: >-\n  Rules:\n  !! all\nmodels: {blocked_models: [a]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: description: describes, restricts nothing\n",
        ),
    ),
    (
        "exclamation marks that begin a text's second line",
        "description: hello\n  !!world\nmodels: {blocked_models: [a]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: description: describes, restricts nothing\n",
        ),
    ),
    (
        "exclamation marks in a comment behind a value",
        "description: a # NOTE: !!! reviewed, - !! keep\nmodels: {blocked_models: [a]}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: description: describes, restricts nothing\n",
        ),
    ),
    (
        "a tag between texts that hold as many marks",
        "description: \"!\\x21 a\"\nmodels: {blocked_models: [\"!\\x21b\", !!str c]}\n",
        Refused(
            "sekuire.yml:2:37: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "a tag whose value holds another character of a user's own",
        "description: \u{e000}\nmodels: {blocked_models: [!!str \u{e000}]}\n",
        Refused(
            "sekuire.yml:2:27: tags are not supported\n  help: remove the tag; quote a value that is meant as text",
        ),
    ),
    (
        "two exclamation marks that are no tag",
        "# !!binary: [!!str a]\ndescription: beware !!binary\nmodels: {blocked_models: [a!!b, 'c !!d']}\n",
        Means(
            "models, blocked [\"a!!b\", \"c !!d\"]\nnot enforced: 2:1: description: describes, restricts nothing\nwarning: 3:33: models.blocked_models[1]: `c !!d` holds white space, which no name has: write each name as an entry of its own, as it is sent\n",
        ),
    ),
    (
        "a model by a key",
        "models:\n  allowed_models:\n    - name: o3\n    - id: gpt-4o\n    - files: read\n    - gpt-3.5: true\n    - name: [o3]\n    - {id: o1, note: x}\n",
        Refused(
            "sekuire.yml:3:7: models.allowed_models[0]: must be text, not a mapping\n  help: write the name alone: `- o3`\nsekuire.yml:4:7: models.allowed_models[1]: must be text, not a mapping\n  help: write the name alone: `- gpt-4o`\nsekuire.yml:5:7: models.allowed_models[2]: must be text, not a mapping\n  help: write a name with a colon without a space after it: `- files:read`\nsekuire.yml:6:7: models.allowed_models[3]: must be text, not a mapping\n  help: write the name alone: `- gpt-3.5`\nsekuire.yml:7:7: models.allowed_models[4]: must be text, not a mapping\n  help: write the name alone, without keys\nsekuire.yml:8:7: models.allowed_models[5]: must be text, not a mapping\n  help: write the name alone: `- o1`",
        ),
    ),
    (
        "a tool by another key",
        "toolsets:\n  blocked_tools:\n    - tool: rm\n    - id: ls\n    - files: read\n    - rm: true\n",
        Refused(
            "sekuire.yml:3:7: toolsets.blocked_tools[0]: must be text, not a mapping\n  help: write `- name: rm`\nsekuire.yml:4:7: toolsets.blocked_tools[1]: must be text, not a mapping\n  help: write `- name: ls`\nsekuire.yml:5:7: toolsets.blocked_tools[2]: must be text, not a mapping\n  help: write a name with a colon without a space after it: `- files:read`\nsekuire.yml:6:7: toolsets.blocked_tools[3]: must be text, not a mapping\n  help: write the name alone: `- rm`",
        ),
    ),
    (
        "a host by a key",
        "permissions:\n  network:\n    allowed_domains:\n      - host: api.openai.com\n      - api.openai.com: 443\n",
        Refused(
            "sekuire.yml:4:9: permissions.network.allowed_domains[0]: must be text, not a mapping\n  help: write the host alone: `- api.openai.com`\nsekuire.yml:5:9: permissions.network.allowed_domains[1]: must be text, not a mapping\n  help: write the host alone: `- api.openai.com`",
        ),
    ),
    (
        "names as keys",
        "models: {blocked_models: {gpt-3.5: true}, allowed_models: {name: o3}}\ntoolsets: {blocked_tools: {rm: true}, allowed_tools: {}}\npermissions: {network: {blocked_domains: {a.example: null}}}\n",
        Refused(
            "sekuire.yml:1:26: models.blocked_models: must be a list, not a mapping\n  help: write a list of names: `- gpt-3.5`\nsekuire.yml:1:59: models.allowed_models: must be a list, not a mapping\n  help: write a list of names: `- o3`\nsekuire.yml:2:27: toolsets.blocked_tools: must be a list, not a mapping\n  help: write a list of names: `- rm`\nsekuire.yml:2:54: toolsets.allowed_tools: must be a list, not a mapping\n  help: begin each entry with `- `\nsekuire.yml:3:42: permissions.network.blocked_domains: must be a list, not a mapping\n  help: write a list of hosts: `- a.example`",
        ),
    ),
    (
        "texts with a colon in them",
        "agent: {name: {a: [b]}}\npermissions: {filesystem: {allowed_paths: [c: /x]}}\n",
        Refused(
            "sekuire.yml:1:15: agent.name: must be text, not a mapping\n  help: put a text with a colon in quotes, as it is written\nsekuire.yml:2:44: permissions.filesystem.allowed_paths[0]: must be text, not a mapping\n  help: put a text with a colon in quotes: `\"c: /x\"`",
        ),
    ),
];

/// Anchors and aliases.
const ALIASES: &[Row<&str>] = &[
    (
        "an alias",
        "models:\n  allowed_models: &m [a]\n  blocked_models: *m\n",
        Refused(
            "sekuire.yml:3:19: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias in a list",
        "models: {allowed_models: [&m a, *m]}\n",
        Refused(
            "sekuire.yml:1:33: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias as a key",
        "models: {? &m allowed_models : [a], *m : [b]}\n",
        Refused(
            "sekuire.yml:1:37: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias before its anchor",
        "models: {allowed_models: [*m], blocked_models: [&m a]}\n",
        Refused(
            "sekuire.yml:1:27: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias without an anchor",
        "models: {allowed_models: [*m]}\n",
        Refused(
            "sekuire.yml:1:27: not readable as YAML: unknown anchor\n  help: quote an entry that begins with `*`, as in \"*.example.com\"",
        ),
    ),
    (
        "an anchor without an alias",
        "models: {allowed_models: &m [a]}\n",
        Means("models, allowed [\"a\"]\n"),
    ),
    (
        "an anchor given twice",
        "models: {allowed_models: [&m a, &m b, *m]}\n",
        Refused(
            "sekuire.yml:1:39: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias of what it is in",
        "models: &m {allowed_models: [*m]}\n",
        Refused(
            "sekuire.yml:1:30: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias in a merge key",
        "server: &m {allowed_models: [a]}\nmodels: {<<: *m}\n",
        Refused(
            "sekuire.yml:2:14: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "an alias where nothing is enforced",
        "models: {}\nserver: {a: &a 1, b: *a}\n",
        Refused(
            "sekuire.yml:2:22: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
    (
        "a star without quotes",
        "permissions: {network: {allowed_domains: [*.example.com]}}\n",
        Refused(
            "sekuire.yml:1:44: not readable as YAML: did not find expected alphabetic or numeric character\n  help: quote an entry that begins with `*`, as in \"*.example.com\"",
        ),
    ),
    (
        "a star alone without quotes",
        "models:\n  allowed_models:\n    - *\n",
        Refused(
            "sekuire.yml:3:8: not readable as YAML: did not find expected alphabetic or numeric character\n  help: quote an entry that begins with `*`, as in \"*.example.com\"",
        ),
    ),
    (
        "a star in quotes beside an anchor of that name",
        "models: {allowed_models: [&m a, '*m']}\n",
        Refused(
            "sekuire.yml:1:34: anchors and aliases are not supported\n  help: write the value out where it is used",
        ),
    ),
];

/// Limits.
const NUMBERS: &[Row<&str>] = &[
    (
        "no limit",
        "rate_limits: {}\n",
        Means(
            "warning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: rate_limits: sets no limit: write one under `per_agent`, `per_model` or `global`, as in `requests_per_minute: 10`\n",
        ),
    ),
    (
        "a scope without limits",
        "rate_limits: {per_agent: {}}\n",
        Means(
            "warning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: rate_limits: sets no limit: write one under `per_agent`, `per_model` or `global`, as in `requests_per_minute: 10`\n",
        ),
    ),
    (
        "zero",
        "rate_limits: {per_agent: {requests_per_minute: 0}}\n",
        Means(
            "each agent: 0 requests per minute\nwarning: 1:27: rate_limits.per_agent.requests_per_minute: 0 allows nothing\n",
        ),
    ),
    (
        "minus zero",
        "rate_limits: {per_agent: {requests_per_minute: -0}}\n",
        Means(
            "each agent: 0 requests per minute\nwarning: 1:27: rate_limits.per_agent.requests_per_minute: 0 allows nothing\n",
        ),
    ),
    (
        "a negative number",
        "rate_limits: {per_agent: {requests_per_minute: -1}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must not be negative: `-1`\n  help: write 0 to allow nothing, or remove the key for no limit",
        ),
    ),
    (
        "the largest number",
        "rate_limits: {per_agent: {tokens_per_day: 18446744073709551615}}\n",
        Means("each agent: 18446744073709551615 tokens per day\n"),
    ),
    (
        "a number that is too large by one",
        "rate_limits: {per_agent: {tokens_per_day: 18446744073709551616}}\n",
        Refused(
            "sekuire.yml:1:43: rate_limits.per_agent.tokens_per_day: is too large: `18446744073709551616`\n  help: remove the key for no limit",
        ),
    ),
    (
        "a number of many digits",
        "rate_limits: {per_agent: {tokens_per_day: 999999999999999999999999999999999999999999999999999999999999}}\n",
        Refused(
            "sekuire.yml:1:43: rate_limits.per_agent.tokens_per_day: must be a whole number, not the number `1e60`\n  help: write digits only, without point or exponent",
        ),
    ),
    (
        "a negative number of many digits",
        "rate_limits: {per_agent: {tokens_per_day: -999999999999999999999999999999}}\n",
        Refused(
            "sekuire.yml:1:43: rate_limits.per_agent.tokens_per_day: must not be negative: `-999999999999999999999999999999`\n  help: write 0 to allow nothing, or remove the key for no limit",
        ),
    ),
    (
        "a number that binary fractions don't hold",
        "rate_limits: {per_agent: {tokens_per_day: 9007199254740993}}\n",
        Means("each agent: 9007199254740993 tokens per day\n"),
    ),
    (
        "a number with a point",
        "rate_limits: {per_agent: {requests_per_minute: 10.0}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the number `10.0`\n  help: write digits only, without point or exponent: `10`",
        ),
    ),
    (
        "a number with an exponent",
        "rate_limits: {per_agent: {requests_per_minute: 1e3}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the number `1000.0`\n  help: write digits only, without point or exponent: `1000`",
        ),
    ),
    (
        "a number in quotes",
        "rate_limits: {per_agent: {requests_per_minute: '10'}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `10`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
    (
        "a number with underscores",
        "rate_limits: {per_agent: {requests_per_minute: 1_000}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `1_000`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
    (
        "a number with a comma",
        "rate_limits:\n  per_agent:\n    requests_per_minute: 1,000\n",
        Refused(
            "sekuire.yml:3:26: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `1,000`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
    (
        "a number with a plus sign",
        "rate_limits: {per_agent: {requests_per_minute: +10}}\n",
        Means("each agent: 10 requests per minute\n"),
    ),
    (
        "an octal number of YAML 1.1",
        "rate_limits: {per_agent: {requests_per_minute: 010}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `010`\n  help: write it without a zero in front: `10`",
        ),
    ),
    (
        "an octal number of YAML 1.2",
        "rate_limits: {per_agent: {requests_per_minute: 0o10}}\n",
        Means("each agent: 8 requests per minute\n"),
    ),
    (
        "a hexadecimal number",
        "rate_limits: {per_agent: {requests_per_minute: 0x10}}\n",
        Means("each agent: 16 requests per minute\n"),
    ),
    (
        "a binary number of YAML 1.1",
        "rate_limits: {per_agent: {requests_per_minute: 0b10}}\n",
        Means("each agent: 2 requests per minute\n"),
    ),
    (
        "a sexagesimal number of YAML 1.1",
        "rate_limits: {per_agent: {requests_per_minute: 1:30}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `1:30`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
    (
        "a number with a unit",
        "rate_limits: {per_agent: {requests_per_minute: 10/min}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `10/min`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
    (
        "infinity",
        "rate_limits: {per_agent: {requests_per_minute: .inf}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the number `inf`\n  help: write digits only, without point or exponent",
        ),
    ),
    (
        "not a number",
        "rate_limits: {per_agent: {requests_per_minute: .nan}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the number `NaN`\n  help: write digits only, without point or exponent",
        ),
    ),
    (
        "null for a number",
        "rate_limits: {per_agent: {requests_per_minute: }}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not null\n  help: remove the key for no limit",
        ),
    ),
    (
        "a boolean for a number",
        "rate_limits: {per_agent: {requests_per_minute: false}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not `false`\n  help: write one number in digits, as in `10`",
        ),
    ),
    (
        "a list for a number",
        "rate_limits: {per_agent: {requests_per_minute: [10]}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not a list\n  help: write one number in digits, as in `10`",
        ),
    ),
    (
        "digits of another script",
        "rate_limits: {per_agent: {requests_per_minute: ١٠}}\n",
        Refused(
            "sekuire.yml:1:48: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `١٠`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
    (
        "a limit by the second",
        "rate_limits: {per_agent: {requests_per_second: 1}}\n",
        Refused(
            "sekuire.yml:1:27: rate_limits.per_agent.requests_per_second: unknown key\n  help: there is no such window; use `requests_per_minute`, `requests_per_hour` or `requests_per_day`",
        ),
    ),
    (
        "a limit that names no scope",
        "rate_limits: {requests_per_minute: 10}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.requests_per_minute: belongs to another form of policy, not read here\n  help: write `requests_per_minute` under `rate_limits.per_agent`",
        ),
    ),
    (
        "a scope that nobody knows",
        "rate_limits: {per_user: {requests_per_minute: 10}}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.per_user: unknown key\n  help: known here: `per_agent`, `per_model`, `global`",
        ),
    ),
    (
        "a limit for a model whose name is empty",
        "rate_limits: {per_model: {'': {requests_per_minute: 10}}}\n",
        Refused(
            "sekuire.yml:1:27: rate_limits.per_model.\"\": must not be empty\n  help: remove the entry",
        ),
    ),
    (
        "a limit for a list of models",
        "rate_limits: {per_model: [{a: 1}]}\n",
        Refused(
            "sekuire.yml:1:26: rate_limits.per_model: must be a mapping, not a list\n  help: write each model's name as a key, with its limits indented below it",
        ),
    ),
    (
        "a limit for a model that is a number",
        "rate_limits: {per_model: {a: 10}}\n",
        Refused(
            "sekuire.yml:1:30: rate_limits.per_model.a: must be a mapping, not the number `10`\n  help: write a limit as in `requests_per_minute: 10`, indented below it",
        ),
    ),
    (
        "a window that isn't there",
        "rate_limits:\n  requests_per_month: 1\n  per_agent: {requests_per_week: 1, requests_per_seconds: 1, tokens_per_month: 2, tokens_per_year: 3, requests_per_minut: 4}\n",
        Refused(
            "sekuire.yml:2:3: rate_limits.requests_per_month: unknown key\n  help: there is no such window; use `requests_per_minute`, `requests_per_hour` or `requests_per_day`\nsekuire.yml:3:15: rate_limits.per_agent.requests_per_week: unknown key\n  help: there is no such window; use `requests_per_minute`, `requests_per_hour` or `requests_per_day`\nsekuire.yml:3:37: rate_limits.per_agent.requests_per_seconds: unknown key\n  help: there is no such window; use `requests_per_minute`, `requests_per_hour` or `requests_per_day`\nsekuire.yml:3:62: rate_limits.per_agent.tokens_per_month: unknown key\n  help: there is no such window; use `tokens_per_minute`, `tokens_per_hour` or `tokens_per_day`\nsekuire.yml:3:83: rate_limits.per_agent.tokens_per_year: unknown key\n  help: there is no such window; use `tokens_per_minute`, `tokens_per_hour` or `tokens_per_day`\nsekuire.yml:3:103: rate_limits.per_agent.requests_per_minut: unknown key\n  help: did you mean `requests_per_minute`?",
        ),
    ),
    (
        "a longer window that is used up first",
        "rate_limits:\n  per_agent: {requests_per_minute: 10, requests_per_hour: 5, tokens_per_minute: 100, tokens_per_day: 100}\n  global: {requests_per_day: 3}\n  per_model: {o3: {requests_per_minute: 3}, 'o*': {requests_per_day: 2}}\n",
        Means(
            "each agent: 10 requests per minute\neach agent: 5 requests per hour\neach agent: 100 tokens per minute\neach agent: 100 tokens per day\nall: 3 requests per day\no3: 3 requests per minute\no*: 2 requests per day\nwarning: 2:15: rate_limits.per_agent.requests_per_minute: never refuses anything: 5 requests per hour allow no more\nwarning: 2:40: rate_limits.per_agent.requests_per_hour: never refuses anything: 3 requests per day in all allow no more\nwarning: 2:62: rate_limits.per_agent.tokens_per_minute: refuses nothing, unless calls cost more than was reserved for them: 100 tokens per day allow no more\nwarning: 4:20: rate_limits.per_model.o3.requests_per_minute: never refuses anything: 3 requests per day in all allow no more\n",
        ),
    ),
    (
        "a longer window that allows more",
        "rate_limits: {per_agent: {requests_per_minute: 10, requests_per_hour: 11}, global: {requests_per_day: 12}}\n",
        Means(
            "each agent: 10 requests per minute\neach agent: 11 requests per hour\nall: 12 requests per day\n",
        ),
    ),
    (
        "zeros in front and commas behind",
        "rate_limits:\n  per_agent:\n    requests_per_minute: 010\n    requests_per_hour: 08\n    requests_per_day: 10,\n    tokens_per_day: 1,000\n",
        Refused(
            "sekuire.yml:3:26: rate_limits.per_agent.requests_per_minute: must be a whole number, not the text `010`\n  help: write it without a zero in front: `10`\nsekuire.yml:4:24: rate_limits.per_agent.requests_per_hour: must be a whole number, not the text `08`\n  help: write it without a zero in front: `8`\nsekuire.yml:5:23: rate_limits.per_agent.requests_per_day: must be a whole number, not the text `10,`\n  help: remove the comma: a line ends without one\nsekuire.yml:6:21: rate_limits.per_agent.tokens_per_day: must be a whole number, not the text `1,000`\n  help: write digits only, without quotes, separators or units",
        ),
    ),
];

/// Empty, missing, and contradictory lists.
const LISTS: &[Row<&str>] = &[
    (
        "an entry that is indented further than the one before",
        "models:\n  allowed_models:\n    - gpt-4o\n     - o3\n    - o1-mini\n",
        Means(
            "models, allowed [\"gpt-4o - o3\", \"o1-mini\"]\nwarning: 3:7: models.allowed_models[0]: `gpt-4o - o3` is one entry: begin each in the same column\n",
        ),
    ),
    (
        "an empty allow list of models",
        "models: {allowed_models: []}\n",
        Means("models, allowed []\nwarning: 1:1: models: an empty allow list allows no model\n"),
    ),
    (
        "an empty allow list of tools",
        "toolsets: {allowed_tools: []}\n",
        Means("tools, allowed []\nwarning: 1:1: toolsets: an empty allow list allows no tool\n"),
    ),
    (
        "an empty allow list of hosts",
        "permissions: {network: {allowed_domains: []}}\n",
        Means(
            "hosts, allowed []\nwarning: 1:15: permissions.network: an empty allow list allows no host\n",
        ),
    ),
    (
        "an empty allow list of paths",
        "permissions: {filesystem: {allowed_paths: []}}\n",
        Means(
            "files, allowed []\nnot enforced: 1:15: permissions.filesystem: answers questions only, not enforced at the HTTP layer\nwarning: 1:15: permissions.filesystem: an empty allow list allows no path\n",
        ),
    ),
    (
        "an empty allow list of extensions",
        "permissions: {filesystem: {allowed_extensions: []}}\n",
        Means(
            "files\nextensions []\nnot enforced: 1:15: permissions.filesystem: answers questions only, not enforced at the HTTP layer\nwarning: 1:15: permissions.filesystem: an empty list of extensions allows no file\n",
        ),
    ),
    (
        "an empty allow list of services",
        "permissions: {api: {allowed_services: []}}\n",
        Means(
            "services, allowed []\nwarning: 1:15: permissions.api: an empty allow list allows no service\n",
        ),
    ),
    (
        "an empty allow list of endpoints",
        "permissions: {api: {allowed_services: [{service_name: a, endpoints: []}]}}\n",
        Means(
            "services, allowed [\"a\"]\nendpoints of a: []\nwarning: 1:58: permissions.api.allowed_services[0].endpoints: an empty list of endpoints allows none\n",
        ),
    ),
    (
        "an empty deny list",
        "models: {blocked_models: []}\n",
        Means(
            "warning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: models: restricts nothing: every model is allowed; write `allowed_models` or `blocked_models`\n",
        ),
    ),
    (
        "an empty section",
        "toolsets: {}\n",
        Means(
            "warning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: toolsets: restricts nothing: every tool is allowed; write `allowed_tools` or `blocked_tools`\n",
        ),
    ),
    (
        "an empty section of hosts",
        "permissions: {network: {}}\n",
        Means(
            "hosts\nwarning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:15: permissions.network: restricts nothing: every host is allowed; write `allowed_domains`, `blocked_domains` or `require_tls: true`\n",
        ),
    ),
    (
        "hosts without the switch",
        "permissions: {network: {allowed_domains: [a.example]}}\n",
        Means("hosts, allowed [\"a.example\"]\n"),
    ),
    (
        "hosts that are off, and listed",
        "permissions: {network: {enabled: false, allowed_domains: [a.example]}}\n",
        Means("hosts, off, allowed [\"a.example\"]\n"),
    ),
    (
        "an entry that is allowed and blocked",
        "models: {allowed_models: [a], blocked_models: [a]}\n",
        Means(
            "models, allowed [\"a\"], blocked [\"a\"]\nwarning: 1:27: models.allowed_models[0]: `a` is both allowed and blocked: it is blocked\n",
        ),
    ),
    (
        "an entry that is allowed and blocked by a pattern",
        "toolsets: {allowed_tools: [file_read], blocked_tools: ['file_*']}\n",
        Means(
            "tools, allowed [\"file_read\"], blocked [\"file_*\"]\nwarning: 1:28: toolsets.allowed_tools[0]: `file_read` is allowed, but `file_*` is blocked: it is blocked\n",
        ),
    ),
    (
        "an entry that is listed twice",
        "models: {allowed_models: [a, a]}\n",
        Means(
            "models, allowed [\"a\", \"a\"]\nwarning: 1:30: models.allowed_models[1]: `a` is listed twice\n",
        ),
    ),
    (
        "models in two places",
        "agent: {models: {allowed_models: [a]}}\nmodels: {allowed_models: [b]}\n",
        Refused(
            "sekuire.yml:2:1: models: given twice, here and as `agent.models`\n  help: keep one of them",
        ),
    ),
    (
        "models in two places that say the same",
        "models: {blocked_models: [a]}\nagent: {models: {blocked_models: [a]}}\n",
        Refused(
            "sekuire.yml:1:1: models: given twice, here and as `agent.models`\n  help: keep one of them",
        ),
    ),
    (
        "tools by two names",
        "tools: {allowed_tools: [a]}\ntoolsets: {blocked_tools: [b]}\n",
        Refused(
            "sekuire.yml:2:1: toolsets: given twice, here and as `tools`\n  help: keep one of them",
        ),
    ),
    (
        "tools in two places",
        "agent: {toolsets: {allowed_tools: [a]}}\ntools: {blocked_tools: [b]}\n",
        Refused(
            "sekuire.yml:2:1: tools: given twice, here and as `agent.toolsets`\n  help: keep one of them",
        ),
    ),
    (
        "an agent beside agents",
        "agent: {models: {}}\nagents: {a: {}}\n",
        Refused("sekuire.yml:2:1: agents: given beside `agent`\n  help: keep one of them"),
    ),
    (
        "agents that are none",
        "agents: {}\n",
        Refused(
            "sekuire.yml:1:9: agents: has no agent\n  help: write at least one, or remove the key",
        ),
    ),
    (
        "agents that are null",
        "agents:\n",
        Refused(
            "sekuire.yml:1:8: agents: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line",
        ),
    ),
    (
        "agents as a list",
        "agents: [{name: a, models: {}}]\n",
        Refused(
            "sekuire.yml:1:9: agents: must be a mapping, not a list\n  help: write each agent's name as a key, with its sections indented below it",
        ),
    ),
    (
        "an agent that is null",
        "agents: {a: }\nmodels: {blocked_models: [a]}\n",
        Refused(
            "sekuire.yml:1:13: agents.a: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line",
        ),
    ),
    (
        "several agents and no choice",
        "agents: {a: {models: {}}, b: {models: {}}}\n",
        Refused(
            "sekuire.yml:1:1: agents: has several agents: `a`, `b`\n  help: choose one of them by name (`PolicyLoader::agent`, `--agent` of the gateway)",
        ),
    ),
    (
        "an agent whose name can't be seen",
        "agents: {\"a\\u200b\": {models: {}}}\n",
        Refused(
            "sekuire.yml:1:10: agents.\"a\\u{200b}\": has a character that can't be seen: `a\\u{200b}`\n  help: remove control and direction characters",
        ),
    ),
    (
        "an agent's name beside its key",
        "agents: {a: {name: b, models: {blocked_models: [x]}}}\n",
        Means("agent a\nmodels, blocked [\"x\"]\n"),
    ),
    (
        "a rule of another agent that is wrong",
        "agents: {a: {models: {}}, b: {modles: {}}}\n",
        Refused(
            "sekuire.yml:1:1: agents: has several agents: `a`, `b`\n  help: choose one of them by name (`PolicyLoader::agent`, `--agent` of the gateway)\nsekuire.yml:1:31: agents.b.modles: unknown key\n  help: did you mean `models`?",
        ),
    ),
];

/// Names and patterns: what is special, and what only looks so.
const NAMES: &[Row<&str>] = &[
    (
        "a star alone",
        "models: {allowed_models: ['*']}\n",
        Means("models, allowed [\"*\"]\n"),
    ),
    (
        "a star at the end, without quotes",
        "models: {allowed_models: [gpt-4o*]}\n",
        Means("models, allowed [\"gpt-4o*\"]\n"),
    ),
    (
        "a star in the middle",
        "models: {allowed_models: ['gpt-*-mini']}\n",
        Means("models, allowed [\"gpt-*-mini\"]\n"),
    ),
    (
        "two stars",
        "models: {allowed_models: ['gpt**']}\n",
        Means("models, allowed [\"gpt**\"]\n"),
    ),
    (
        "a question mark, a class and a group, which mean themselves",
        "models: {allowed_models: ['gpt-?', 'gpt-[45]', '{a,b}', '^a$', 'a|b', 'a\\b', '~a', '!a']}\n",
        Means(
            "models, allowed [\"gpt-?\", \"gpt-[45]\", \"{a,b}\", \"^a$\", \"a|b\", \"a\\\\b\", \"~a\", \"!a\"]\nwarning: 1:27: models.allowed_models[0]: `gpt-?` holds `?`, which means itself: only `*` is special, and stands for any characters; write each name as it is sent\nwarning: 1:36: models.allowed_models[1]: `gpt-[45]` holds `[`, which means itself: only `*` is special, and stands for any characters; write each name as it is sent\nwarning: 1:48: models.allowed_models[2]: `{a,b}` holds `,`, which no name has: write each name as an entry of its own\nwarning: 1:57: models.allowed_models[3]: `^a$` holds `^`, which means itself: only `*` is special, and stands for any characters; write each name as it is sent\nwarning: 1:64: models.allowed_models[4]: `a|b` holds `|`, which means itself: only `*` is special, and stands for any characters; write each name as it is sent\nwarning: 1:71: models.allowed_models[5]: `a\\b` holds `\\`, which means itself: only `*` is special, and stands for any characters; write each name as it is sent\nwarning: 1:84: models.allowed_models[7]: `!a` begins with `!`, which negates nothing here: write the name without it, in the list that is meant\n",
        ),
    ),
    (
        "a name in other letters",
        "models: {allowed_models: [GPT-4o]}\n",
        Means("models, allowed [\"GPT-4o\"]\n"),
    ),
    (
        "a name with a letter of another alphabet",
        "models: {blocked_models: [gрt-4o]}\n",
        Means("models, blocked [\"gрt-4o\"]\n"),
    ),
    (
        "a variable",
        "models: {allowed_models: ['${MODEL}']}\n",
        Means(
            "models, allowed [\"${MODEL}\"]\nwarning: 1:27: models.allowed_models[0]: `${MODEL}` is compared as it is: variables are not expanded here\n",
        ),
    ),
    (
        "a category without the tools that are in it",
        "toolsets: {allowed_tools: ['files:*']}\n",
        Means(
            "tools, allowed [\"files:*\"]\nwarning: 1:28: toolsets.allowed_tools[0]: there is no `tools.json` to say which tools are meant: `files:*` matches only names that begin with `files:`\n",
        ),
    ),
    (
        "a name with white space around it",
        "models: {allowed_models: [' a']}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: begins or ends with white space: ` a`\n  help: remove the white space",
        ),
    ),
    (
        "a name with a tab at its end",
        "models: {allowed_models: [\"a\\t\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: has a character that can't be seen: `a\\u{9}`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name with a NUL",
        "models: {allowed_models: [\"a\\0b\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: has a character that can't be seen: `a\\u{0}b`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name with a line break",
        "toolsets: {allowed_tools: [\"a\\nb\"]}\n",
        Refused(
            "sekuire.yml:1:28: toolsets.allowed_tools[0]: has a character that can't be seen: `a\\u{a}b`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name that colours a terminal",
        "toolsets: {allowed_tools: [\"\\e[31ma\"]}\n",
        Refused(
            "sekuire.yml:1:28: toolsets.allowed_tools[0]: has a character that can't be seen: `\\u{1b}[31ma`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name that is turned around",
        "models: {allowed_models: [\"a\\u202eb\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.allowed_models[0]: has a character that can't be seen: `a\\u{202e}b`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name with a character of no width",
        "models: {blocked_models: [\"gpt\\u200b-4o\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: has a character that can't be seen: `gpt\\u{200b}-4o`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name with a soft hyphen",
        "models: {blocked_models: [\"gpt\\xad-4o\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: has a character that can't be seen: `gpt\\u{ad}-4o`\n  help: remove control and direction characters",
        ),
    ),
    (
        "a name with a no-break space at its end",
        "models: {blocked_models: [\"a\\xa0\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: begins or ends with white space: `a\u{a0}`\n  help: remove the white space",
        ),
    ),
    (
        "a name with a tag character",
        "models: {blocked_models: [\"a\\U000E0041\"]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: has a character that can't be seen: `a\\u{e0041}`\n  help: remove control and direction characters",
        ),
    ),
    (
        "half of a surrogate pair as an escape",
        "models: {blocked_models: [\"\\ud800\"]}\n",
        Refused(
            "sekuire.yml:1:30: not readable as YAML: found invalid Unicode character escape code\n  help: write `\\\\` for a backslash, or use single quotes, in which it is itself",
        ),
    ),
    (
        "a name of 256 bytes",
        "models: {blocked_models: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]}\n",
        Means(
            "models, blocked [\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]\n",
        ),
    ),
    (
        "a name of 257 bytes",
        "models: {blocked_models: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]}\n",
        Refused(
            "sekuire.yml:1:27: models.blocked_models[0]: is longer than 256 bytes: `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`\n  help: write the name alone, or its beginning and `*`",
        ),
    ),
    (
        "several names in one entry",
        "models: {allowed_models: ['gpt-4o,o3'], blocked_models: [\"a; b\"]}\ntoolsets:\n  blocked_tools:\n    - file_delete, env_set\n    - name: a b\n",
        Means(
            "models, allowed [\"gpt-4o,o3\"], blocked [\"a; b\"]\ntools, blocked [\"file_delete, env_set\", \"a b\"]\nwarning: 1:27: models.allowed_models[0]: `gpt-4o,o3` holds `,`, which no name has: write each name as an entry of its own\nwarning: 1:58: models.blocked_models[0]: `a; b` holds `;`, which no name has: write each name as an entry of its own\nwarning: 4:7: toolsets.blocked_tools[0]: `file_delete, env_set` holds `,`, which no name has: write each name as an entry of its own\nwarning: 5:7: toolsets.blocked_tools[1]: `a b` holds white space, which no name has: write each name as an entry of its own, as it is sent\n",
        ),
    ),
    (
        "quotes inside of quotes",
        "toolsets: {allowed_tools: ['\"web\"', '‘a’']}\n",
        Means(
            "tools, allowed [\"\\\"web\\\"\", \"‘a’\"]\nwarning: 1:28: toolsets.allowed_tools[0]: `\"web\"` holds `\"`, which no name has: write the name without quotes of its own\nwarning: 1:37: toolsets.allowed_tools[1]: `‘a’` holds `‘`, which no name has: write the name without quotes of its own\n",
        ),
    ),
    (
        "a URL for a model",
        "models: {allowed_models: ['https://api.openai.com/o3']}\n",
        Means(
            "models, allowed [\"https://api.openai.com/o3\"]\nwarning: 1:27: models.allowed_models[0]: `https://api.openai.com/o3` holds `//`, which no name has: write the name alone, not a URL\n",
        ),
    ),
    (
        "a regular expression for a beginning",
        "models: {allowed_models: ['gpt-4.*', '.*']}\ntoolsets: {blocked_tools: ['.*delete.*', 'delete_.*']}\n",
        Means(
            "models, allowed [\"gpt-4.*\", \".*\"]\ntools, blocked [\".*delete.*\", \"delete_.*\"]\nwarning: 1:27: models.allowed_models[0]: `gpt-4.*` matches only names with a `.` there: `*` alone stands for any characters\nwarning: 1:38: models.allowed_models[1]: `.*` matches only names with a `.` there: `*` alone stands for any characters\nwarning: 2:28: toolsets.blocked_tools[0]: `.*delete.*` matches only names with a `.` there: `*` alone stands for any characters\nwarning: 2:42: toolsets.blocked_tools[1]: `delete_.*` matches only names with a `.` there: `*` alone stands for any characters\n",
        ),
    ),
    (
        "a hyphen too many",
        "models:\n  allowed_models:\n    - -o3\n",
        Means(
            "models, allowed [\"-o3\"]\nwarning: 3:7: models.allowed_models[0]: `-o3` begins with `-`, as hardly any name does: write one `-` and a space before each entry\n",
        ),
    ),
    (
        "a comma in the model of a limit",
        "rate_limits: {per_model: {'o3,gpt-4o': {requests_per_day: 1}}}\n",
        Means(
            "o3,gpt-4o: 1 request per day\nwarning: 1:27: rate_limits.per_model.\"o3,gpt-4o\": `o3,gpt-4o` holds `,`, which no name has: write each name as an entry of its own\n",
        ),
    ),
    (
        "names as others write them",
        "models: {allowed_models: ['ft:gpt-4o:org::id', anthropic/claude-3.5, accounts/x/models/y, gpt-4o-2024-08-06, '@cf/meta/llama', 'claude@20240229', 'hf.co/a/b:Q4_K_M', '*mini']}\ntoolsets: {allowed_tools: ['mcp:x/*', 'mcp:x/y', space.name, 'space.*', 'a_B-9']}\n",
        Means(
            "models, allowed [\"ft:gpt-4o:org::id\", \"anthropic/claude-3.5\", \"accounts/x/models/y\", \"gpt-4o-2024-08-06\", \"@cf/meta/llama\", \"claude@20240229\", \"hf.co/a/b:Q4_K_M\", \"*mini\"]\ntools, allowed [\"mcp:x/*\", \"mcp:x/y\", \"space.name\", \"space.*\", \"a_B-9\"]\nwarning: 2:39: toolsets.allowed_tools[1]: `mcp:x/y` adds nothing: `mcp:x/*` matches it too\nwarning: 2:50: toolsets.allowed_tools[2]: `space.name` adds nothing: `space.*` matches it too\n",
        ),
    ),
    (
        "tools that are blocked by another name",
        "toolsets:\n  allowed_tools: [web_search, 'mcp:x/y', 'mcp:z', shell, code_interpreter, own]\n  blocked_tools: [web_search_preview, 'mcp:x', code_interpreter, 'shel*']\n",
        Means(
            "tools, allowed [\"web_search\", \"mcp:x/y\", \"mcp:z\", \"shell\", \"code_interpreter\", \"own\"], blocked [\"web_search_preview\", \"mcp:x\", \"code_interpreter\", \"shel*\"]\nwarning: 2:19: toolsets.allowed_tools[0]: `web_search` is allowed, but `web_search_preview`, which means it too, is blocked: it is blocked\nwarning: 2:31: toolsets.allowed_tools[1]: `mcp:x/y` is allowed, but `mcp:x`, which means it too, is blocked: it is blocked\nwarning: 2:51: toolsets.allowed_tools[3]: `shell` is allowed, but `shel*` is blocked: it is blocked\nwarning: 2:58: toolsets.allowed_tools[4]: `code_interpreter` is both allowed and blocked: it is blocked\n",
        ),
    ),
    (
        "a server of which every one is blocked",
        "toolsets: {allowed_tools: ['mcp:x/y'], blocked_tools: [mcp]}\n",
        Means(
            "tools, allowed [\"mcp:x/y\"], blocked [\"mcp\"]\nwarning: 1:28: toolsets.allowed_tools[0]: `mcp:x/y` is allowed, but `mcp`, which means it too, is blocked: it is blocked\n",
        ),
    ),
    (
        "a comma behind a name",
        "models:\n  allowed_models:\n    - gpt-4o,\n    - o3,;\n",
        Means(
            "models, allowed [\"gpt-4o,\", \"o3,;\"]\nwarning: 3:7: models.allowed_models[0]: `gpt-4o,` holds `,`, which no name has: remove the comma\nwarning: 4:7: models.allowed_models[1]: `o3,;` holds `,`, which no name has: write each name as an entry of its own\n",
        ),
    ),
];

/// Hosts.
const HOSTS: &[Row<&str>] = &[
    (
        "a domain and all below it",
        "permissions: {network: {allowed_domains: ['*.example.com']}}\n",
        Means("hosts, allowed [\"*.example.com\"]\n"),
    ),
    (
        "every host",
        "permissions: {network: {allowed_domains: ['*']}}\n",
        Means("hosts, allowed [\"*\"]\n"),
    ),
    (
        "a star within a label",
        "permissions: {network: {allowed_domains: ['api*.example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `api*.example.com` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "a star before a name",
        "permissions: {network: {allowed_domains: ['*example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `*example.com` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "a star in the middle",
        "permissions: {network: {allowed_domains: ['api.*.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `api.*.com` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "a star at the end",
        "permissions: {network: {allowed_domains: ['example.*']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.*` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "two stars",
        "permissions: {network: {allowed_domains: ['**']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `**` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "two labels that are stars",
        "permissions: {network: {allowed_domains: ['*.*.example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `*.*.example.com` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "a star above nothing",
        "permissions: {network: {allowed_domains: ['*.']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `*.` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "a star above a top-level domain",
        "permissions: {network: {allowed_domains: ['*.com']}}\n",
        Means("hosts, allowed [\"*.com\"]\n"),
    ),
    (
        "a dot in front",
        "permissions: {network: {allowed_domains: ['.example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `.example.com` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "a dot at the end",
        "permissions: {network: {allowed_domains: ['example.com.']}}\n",
        Means("hosts, allowed [\"example.com.\"]\n"),
    ),
    (
        "two dots",
        "permissions: {network: {allowed_domains: ['example..com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example..com` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "capitals",
        "permissions: {network: {allowed_domains: ['API.Example.COM']}}\n",
        Means("hosts, allowed [\"API.Example.COM\"]\n"),
    ),
    (
        "another alphabet",
        "permissions: {network: {allowed_domains: ['bücher.example']}}\n",
        Means("hosts, allowed [\"bücher.example\"]\n"),
    ),
    (
        "its encoded form",
        "permissions: {network: {allowed_domains: ['xn--bcher-kva.example']}}\n",
        Means("hosts, allowed [\"xn--bcher-kva.example\"]\n"),
    ),
    (
        "an encoded form of nothing",
        "permissions: {network: {allowed_domains: ['xn--a.example']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `xn--a.example` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "letters of full width",
        "permissions: {network: {allowed_domains: ['ｅxample.com']}}\n",
        Means("hosts, allowed [\"ｅxample.com\"]\n"),
    ),
    (
        "a full stop of another script",
        "permissions: {network: {allowed_domains: ['example。com']}}\n",
        Means("hosts, allowed [\"example。com\"]\n"),
    ),
    (
        "a letter of another alphabet",
        "permissions: {network: {allowed_domains: ['еxample.com']}}\n",
        Means("hosts, allowed [\"еxample.com\"]\n"),
    ),
    (
        "a URL",
        "permissions: {network: {allowed_domains: ['https://example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `https://example.com` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
    ),
    (
        "a URL with a path",
        "permissions: {network: {allowed_domains: ['https://example.com/v1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `https://example.com/v1` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
    ),
    (
        "a URL without a scheme",
        "permissions: {network: {allowed_domains: ['//example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `//example.com` has a path\n  help: write the host alone",
        ),
    ),
    (
        "a port",
        "permissions: {network: {allowed_domains: ['example.com:443']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.com:443` has a port\n  help: remove the port: an entry is for every port",
        ),
    ),
    (
        "a port that is a star",
        "permissions: {network: {allowed_domains: ['example.com:*']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.com:*` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "an empty port",
        "permissions: {network: {allowed_domains: ['example.com:']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.com:` has a port\n  help: remove the port: an entry is for every port",
        ),
    ),
    (
        "a path",
        "permissions: {network: {allowed_domains: ['example.com/v1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.com/v1` has a path\n  help: write the host alone",
        ),
    ),
    (
        "a query",
        "permissions: {network: {allowed_domains: ['example.com?a']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.com?a` has a path\n  help: write the host alone",
        ),
    ),
    (
        "a backslash",
        "permissions: {network: {allowed_domains: ['example.com\\\\@evil.example']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example.com\\\\@evil.example` has user information\n  help: write the host alone",
        ),
    ),
    (
        "user information",
        "permissions: {network: {allowed_domains: ['user@example.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `user@example.com` has user information\n  help: write the host alone",
        ),
    ),
    (
        "white space inside",
        "permissions: {network: {allowed_domains: ['exa mple.com']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `exa mple.com` holds a comma, a semicolon or white space\n  help: write each host as an entry of its own",
        ),
    ),
    (
        "a percent sign",
        "permissions: {network: {allowed_domains: ['example%2ecom']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `example%2ecom` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "an underscore",
        "permissions: {network: {allowed_domains: ['a_b.example']}}\n",
        Means("hosts, allowed [\"a_b.example\"]\n"),
    ),
    (
        "an address",
        "permissions: {network: {allowed_domains: ['127.0.0.1']}}\n",
        Means("hosts, allowed [\"127.0.0.1\"]\n"),
    ),
    (
        "an address of version 6",
        "permissions: {network: {allowed_domains: ['[::1]']}}\n",
        Means("hosts, allowed [\"[::1]\"]\n"),
    ),
    (
        "an address of version 6 without brackets",
        "permissions: {network: {allowed_domains: ['::1']}}\n",
        Means("hosts, allowed [\"::1\"]\n"),
    ),
    (
        "an address of version 4 in version 6",
        "permissions: {network: {allowed_domains: ['::ffff:127.0.0.1']}}\n",
        Means("hosts, allowed [\"::ffff:127.0.0.1\"]\n"),
    ),
    (
        "an address of version 6 with a zone",
        "permissions: {network: {allowed_domains: ['[fe80::1%25eth0]']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `[fe80::1%25eth0]` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "an address of version 6 with a port",
        "permissions: {network: {allowed_domains: ['[::1]:443']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `[::1]:443` has a port\n  help: remove the port: an entry is for every port",
        ),
    ),
    (
        "an address that is short",
        "permissions: {network: {allowed_domains: ['127.1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `127.1` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address that is one number",
        "permissions: {network: {allowed_domains: ['2130706433']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `2130706433` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address in hexadecimal",
        "permissions: {network: {allowed_domains: ['0x7f000001']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `0x7f000001` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address in octal",
        "permissions: {network: {allowed_domains: ['0177.0.0.1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `0177.0.0.1` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address with leading zeros",
        "permissions: {network: {allowed_domains: ['127.0.0.01']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `127.0.0.01` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address that is too large",
        "permissions: {network: {allowed_domains: ['256.0.0.1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `256.0.0.1` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address of five numbers",
        "permissions: {network: {allowed_domains: ['1.2.3.4.5']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `1.2.3.4.5` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "an address without quotes, which is a number",
        "permissions: {network: {allowed_domains: [10.0]}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: must be text, not the number `10.0`\n  help: put it in quotes; an address is four numbers, as in `\"127.0.0.1\"`",
        ),
    ),
    (
        "a range of addresses",
        "permissions: {network: {allowed_domains: ['10.0.0.0/8']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `10.0.0.0/8` is a range of addresses\n  help: address ranges are not supported: write each address, or the names of the hosts",
        ),
    ),
    (
        "a star before an address",
        "permissions: {network: {allowed_domains: ['*.127.0.0.1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `*.127.0.0.1` has a `*` before an address\n  help: write each address that is meant",
        ),
    ),
    (
        "a star in an address",
        "permissions: {network: {allowed_domains: ['10.0.0.*']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `10.0.0.*` has a `*` that is not a whole first label\n  help: write `*.example.com` for a domain and all below it, or `*` for every host",
        ),
    ),
    (
        "a list of hosts in one entry",
        "permissions: {network: {allowed_domains: ['a.example, b.example']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `a.example, b.example` holds a comma, a semicolon or white space\n  help: write each host as an entry of its own",
        ),
    ),
    (
        "an empty host",
        "permissions: {network: {allowed_domains: ['']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: must not be empty\n  help: remove the entry",
        ),
    ),
    (
        "a label that is too long",
        "permissions: {network: {allowed_domains: ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example` is not a host name\n  help: write a name as in `api.openai.com`, or an address as in `127.0.0.1` or `[::1]`",
        ),
    ),
    (
        "localhost",
        "permissions: {network: {allowed_domains: ['localhost']}}\n",
        Means("hosts, allowed [\"localhost\"]\n"),
    ),
    (
        "a URL in a deny list",
        "permissions: {network: {blocked_domains: ['https://evil.example']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.blocked_domains[0]: `https://evil.example` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
    ),
    (
        "an address in hexadecimal in a deny list",
        "permissions: {network: {blocked_domains: ['0x7f.1']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.blocked_domains[0]: `0x7f.1` is not an address in its usual form\n  help: write four decimal numbers, as in `127.0.0.1`",
        ),
    ),
    (
        "two hosts in one entry",
        "permissions: {network: {allowed_domains: ['a.example,b.example', 'a.example;b.example', 'a.example b.example']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `a.example,b.example` holds a comma, a semicolon or white space\n  help: write each host as an entry of its own\nsekuire.yml:1:66: permissions.network.allowed_domains[1]: `a.example;b.example` holds a comma, a semicolon or white space\n  help: write each host as an entry of its own\nsekuire.yml:1:89: permissions.network.allowed_domains[2]: `a.example b.example` holds a comma, a semicolon or white space\n  help: write each host as an entry of its own",
        ),
    ),
    (
        "a variable, alternatives and quotes",
        "permissions: {network: {allowed_domains: ['${HOST}', '{a,b}.example', '(a|b).example', '\"a.example\"']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.allowed_domains[0]: `${HOST}` holds a character that no host has\n  help: write the host itself, as in `api.openai.com` or `*.openai.com`; variables are not expanded\nsekuire.yml:1:54: permissions.network.allowed_domains[1]: `{a,b}.example` holds a comma, a semicolon or white space\n  help: write each host as an entry of its own\nsekuire.yml:1:71: permissions.network.allowed_domains[2]: `(a|b).example` holds a character that no host has\n  help: write the host itself, as in `api.openai.com` or `*.openai.com`; variables are not expanded\nsekuire.yml:1:88: permissions.network.allowed_domains[3]: `\"a.example\"` holds a character that no host has\n  help: write the host itself, as in `api.openai.com` or `*.openai.com`; variables are not expanded",
        ),
    ),
    (
        "ranges of addresses",
        "permissions: {network: {blocked_domains: ['10.0.0.0/8', '[fd00::]/8', '10.0.0.0/']}}\n",
        Refused(
            "sekuire.yml:1:43: permissions.network.blocked_domains[0]: `10.0.0.0/8` is a range of addresses\n  help: address ranges are not supported: write each address, or the names of the hosts\nsekuire.yml:1:57: permissions.network.blocked_domains[1]: `[fd00::]/8` is a range of addresses\n  help: address ranges are not supported: write each address, or the names of the hosts\nsekuire.yml:1:71: permissions.network.blocked_domains[2]: `10.0.0.0/` has a path\n  help: write the host alone",
        ),
    ),
];

/// Paths, extensions and services.
const PATHS: &[Row<&str>] = &[
    (
        "names of services that are nearly known",
        "permissions: {api: {allowed_services: [{service_name: opnai}, {service_name: OpenAI}, {service_name: gorq}, {service_name: mine}, {service_name: 'opena*'}, {service_name: groq}]}}\n",
        Means(
            "services, allowed [\"opnai\", \"OpenAI\", \"gorq\", \"mine\", \"opena*\", \"groq\"]\nwarning: 1:41: permissions.api.allowed_services[0].service_name: `opnai` is no known service: did you mean `openai`?\nwarning: 1:64: permissions.api.allowed_services[1].service_name: `OpenAI` is no known service: did you mean `openai`?\nwarning: 1:88: permissions.api.allowed_services[2].service_name: `gorq` is no known service: did you mean `groq`?\n",
        ),
    ),
    (
        "endpoints that are nearly known",
        "permissions: {api: {allowed_services: [{service_name: openai, endpoints: [chats, /v1/embedding, image.generations, responses, Chat/completions, 'model*', charges]}]}}\n",
        Means(
            "services, allowed [\"openai\"]\nendpoints of openai: [\"chats\", \"/v1/embedding\", \"image.generations\", \"responses\", \"Chat/completions\", \"model*\", \"charges\"]\nwarning: 1:75: permissions.api.allowed_services[0].endpoints[0]: `chats` is no known endpoint: did you mean `chat`?\nwarning: 1:82: permissions.api.allowed_services[0].endpoints[1]: `embedding` is no known endpoint: did you mean `embeddings`?\nwarning: 1:97: permissions.api.allowed_services[0].endpoints[2]: `image` is no known endpoint: did you mean `images`?\nwarning: 1:127: permissions.api.allowed_services[0].endpoints[4]: `Chat` is no known endpoint: did you mean `chat`?\n",
        ),
    ),
    (
        "everything below a folder",
        "permissions: {filesystem: {allowed_paths: ['/srv/*']}}\n",
        Means(
            "files, allowed [\"/srv/*\"]\nnot enforced: 1:15: permissions.filesystem: answers questions only, not enforced at the HTTP layer\n",
        ),
    ),
    (
        "every path",
        "permissions: {filesystem: {allowed_paths: ['*']}}\n",
        Means(
            "files, allowed [\"*\"]\nnot enforced: 1:15: permissions.filesystem: answers questions only, not enforced at the HTTP layer\n",
        ),
    ),
    (
        "the root",
        "permissions: {filesystem: {allowed_paths: ['/']}}\n",
        Means(
            "files, allowed [\"/\"]\nnot enforced: 1:15: permissions.filesystem: answers questions only, not enforced at the HTTP layer\n",
        ),
    ),
    (
        "a relative path",
        "permissions: {filesystem: {allowed_paths: ['data/*']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `data/*` is not a path from the root\n  help: write it whole, as in `/srv/data/*`; `~` and relative paths are not resolved",
        ),
    ),
    (
        "a home folder",
        "permissions: {filesystem: {allowed_paths: ['~/data']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `~/data` is not a path from the root\n  help: write it whole, as in `/srv/data/*`; `~` and relative paths are not resolved",
        ),
    ),
    (
        "a path of Windows",
        "permissions: {filesystem: {allowed_paths: ['C:\\tmp']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `C:\\tmp` has a backslash\n  help: separate the parts of a path with `/`",
        ),
    ),
    (
        "a URL",
        "permissions: {filesystem: {allowed_paths: ['file:///tmp']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `file:///tmp` is a URL, not a path\n  help: write the path alone, as in `/srv/data/*`",
        ),
    ),
    (
        "two stars",
        "permissions: {filesystem: {allowed_paths: ['/tmp/**']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `/tmp/**` has `**`\n  help: write `/*` at the end: it means everything below, at any depth",
        ),
    ),
    (
        "a slash at the end",
        "permissions: {filesystem: {allowed_paths: ['/tmp/']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `/tmp/` ends with a slash\n  help: write the path without it, or with `/*` for everything below",
        ),
    ),
    (
        "a part that leads up",
        "permissions: {filesystem: {allowed_paths: ['/tmp/../etc']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `/tmp/../etc` has a part that is empty, `.` or `..`\n  help: write the path that it leads to",
        ),
    ),
    (
        "a part that is a dot",
        "permissions: {filesystem: {allowed_paths: ['/tmp/./a']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `/tmp/./a` has a part that is empty, `.` or `..`\n  help: write the path that it leads to",
        ),
    ),
    (
        "two slashes",
        "permissions: {filesystem: {allowed_paths: ['/tmp//a']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.allowed_paths[0]: `/tmp//a` has a part that is empty, `.` or `..`\n  help: write the path that it leads to",
        ),
    ),
    (
        "a variable",
        "permissions: {filesystem: {allowed_paths: ['/home/${USER}/*']}}\n",
        Means(
            "files, allowed [\"/home/${USER}/*\"]\nnot enforced: 1:15: permissions.filesystem: answers questions only, not enforced at the HTTP layer\nwarning: 1:44: permissions.filesystem.allowed_paths[0]: `/home/${USER}/*` is compared as it is: variables are not expanded here\n",
        ),
    ),
    (
        "paths that are null",
        "permissions: {filesystem: {allowed_paths: }}\n",
        Refused(
            "sekuire.yml:1:43: permissions.filesystem.allowed_paths: must be a list, not null\n  help: remove the key to allow everything, or write `[]` to allow nothing",
        ),
    ),
    (
        "a switch for files that is a word",
        "permissions: {filesystem: {enabled: yes}}\n",
        Refused(
            "sekuire.yml:1:37: permissions.filesystem.enabled: must be `true` or `false`, not the text `yes`\n  help: only `true` and `false` are read as such, not `yes`, `no`, `on` or `off`",
        ),
    ),
    (
        "a path to block that is relative",
        "permissions: {filesystem: {blocked_paths: ['*.env']}}\n",
        Refused(
            "sekuire.yml:1:44: permissions.filesystem.blocked_paths[0]: `*.env` is not a path from the root\n  help: write it whole, as in `/srv/data/*`; `~` and relative paths are not resolved",
        ),
    ),
    (
        "an extension that ends in a dot",
        "permissions: {filesystem: {allowed_extensions: [a.]}}\n",
        Refused(
            "sekuire.yml:1:49: permissions.filesystem.allowed_extensions[0]: `a.` is not an extension\n  help: write it with its dot, as in `.txt`",
        ),
    ),
    (
        "an extension without its dot",
        "permissions: {filesystem: {allowed_extensions: [txt]}}\n",
        Refused(
            "sekuire.yml:1:49: permissions.filesystem.allowed_extensions[0]: `txt` is not an extension\n  help: write it with its dot, as in `.txt`",
        ),
    ),
    (
        "an extension with a star",
        "permissions: {filesystem: {allowed_extensions: ['*.txt']}}\n",
        Refused(
            "sekuire.yml:1:49: permissions.filesystem.allowed_extensions[0]: `*.txt` is not an extension\n  help: write it with its dot, as in `.txt`, or remove the list to allow every extension",
        ),
    ),
    (
        "an extension that is a dot",
        "permissions: {filesystem: {allowed_extensions: ['.']}}\n",
        Refused(
            "sekuire.yml:1:49: permissions.filesystem.allowed_extensions[0]: `.` is not an extension\n  help: write it with its dot, as in `.txt`",
        ),
    ),
    (
        "a key that paths don't have",
        "permissions: {filesystem: {read_only: true}}\n",
        Refused(
            "sekuire.yml:1:28: permissions.filesystem.read_only: unknown key\n  help: known here: `enabled`, `allowed_paths`, `blocked_paths`, `allowed_extensions`",
        ),
    ),
    (
        "a key that services don't have",
        "permissions: {api: {allowed_services: [{service_name: a, methods: [GET]}]}}\n",
        Refused(
            "sekuire.yml:1:58: permissions.api.allowed_services[0].methods: unknown key\n  help: known here: `service_name`, `endpoints`",
        ),
    ),
    (
        "a deny list that services don't have",
        "permissions: {api: {blocked_services: [{service_name: a}]}}\n",
        Refused(
            "sekuire.yml:1:21: permissions.api.blocked_services: unknown key\n  help: known here: `enabled`, `allowed_services`",
        ),
    ),
    (
        "a service that a pattern allows with every endpoint",
        "permissions: {api: {allowed_services: [{service_name: a, endpoints: [x]}, {service_name: '*'}]}}\n",
        Means(
            "services, allowed [\"a\", \"*\"]\nendpoints of a: [\"x\"]\nwarning: 1:40: permissions.api.allowed_services[0]: the `endpoints` of `a` restrict nothing: `*` allows every endpoint\n",
        ),
    ),
    (
        "the same service twice",
        "permissions: {api: {allowed_services: [{service_name: a, endpoints: [x]}, {service_name: a}]}}\n",
        Means(
            "services, allowed [\"a\", \"a\"]\nendpoints of a: [\"x\"]\nwarning: 1:40: permissions.api.allowed_services[0]: the `endpoints` of `a` restrict nothing: it is also listed without\n",
        ),
    ),
    (
        "a host that is allowed, and its service isn't",
        "permissions:\n  network: {allowed_domains: [api.anthropic.com, api.openai.com, a.example, '*.stripe.com']}\n  api: {allowed_services: [{service_name: openai}]}\n",
        Means(
            "hosts, allowed [\"api.anthropic.com\", \"api.openai.com\", \"a.example\", \"*.stripe.com\"]\nservices, allowed [\"openai\"]\nwarning: 2:31: permissions.network.allowed_domains[0]: `api.anthropic.com` is allowed, but its service `anthropic` is not in `allowed_services`: it is refused\n",
        ),
    ),
    (
        "a host that is allowed, and no service is",
        "permissions:\n  api: {enabled: false}\n  network: {allowed_domains: [api.openai.com]}\n",
        Means(
            "hosts, allowed [\"api.openai.com\"]\nservices, off\nwarning: 3:31: permissions.network.allowed_domains[0]: `api.openai.com` is allowed, but `permissions.api` is off: it is refused\n",
        ),
    ),
    (
        "services that are named as hosts",
        "permissions:\n  api:\n    allowed_services:\n      - service_name: api.openai.com\n      - service_name: https://api.anthropic.com/v1\n      - service_name: https://a.example\n      - service_name: a.example\n      - service_name: '*.example'\n",
        Means(
            "services, allowed [\"api.openai.com\", \"https://api.anthropic.com/v1\", \"https://a.example\", \"a.example\", \"*.example\"]\nwarning: 4:9: permissions.api.allowed_services[0].service_name: `api.openai.com` is no service's name: write `openai`, which this host is of\nwarning: 5:9: permissions.api.allowed_services[1].service_name: `https://api.anthropic.com/v1` is no service's name: write `anthropic`, which this host is of\nwarning: 6:9: permissions.api.allowed_services[2]: `https://a.example` adds nothing: `*.example` allows it too\nwarning: 6:9: permissions.api.allowed_services[2].service_name: `https://a.example` is no service's name: write one, and say by `--service-host` which hosts it has\nwarning: 7:9: permissions.api.allowed_services[3]: `a.example` adds nothing: `*.example` allows it too\nwarning: 7:9: permissions.api.allowed_services[3].service_name: `a.example` is no service's name: write one, and say by `--service-host` which hosts it has\n",
        ),
    ),
    (
        "endpoints that are no paths",
        "permissions: {api: {allowed_services: [{service_name: openai, endpoints: [POST /chat/completions, 'https://api.openai.com/v1/chat', 'chat, models', /v1, /v1/chat/completions]}]}}\n",
        Means(
            "services, allowed [\"openai\"]\nendpoints of openai: [\"POST /chat/completions\", \"https://api.openai.com/v1/chat\", \"chat, models\", \"/v1\", \"/v1/chat/completions\"]\nwarning: 1:75: permissions.api.allowed_services[0].endpoints[0]: `POST /chat/completions` begins with a method: write the path alone, as in `chat/completions`\nwarning: 1:99: permissions.api.allowed_services[0].endpoints[1]: `https://api.openai.com/v1/chat` is a URL: write the path alone, as in `chat/completions`\nwarning: 1:133: permissions.api.allowed_services[0].endpoints[2]: `chat, models` holds a comma, a semicolon or white space: write each path as an entry of its own\nwarning: 1:149: permissions.api.allowed_services[0].endpoints[3]: `/v1` names no endpoint: write what comes after `/v1/`, as in `chat/completions`\n",
        ),
    ),
];

/// Dialects that contradict each other, or ask for what isn't done.
const DIALECTS: &[Row<&str>] = &[
    (
        "a list in two dialects",
        "models: {denied_models: [a], blocked_models: [b]}\n",
        Refused("sekuire.yml:1:10: models.blocked_models: given twice\n  help: keep one of them"),
    ),
    (
        "tools in two dialects",
        "agent: {allowed_tools: [a], toolsets: {allowed_tools: [b]}}\n",
        Refused(
            "sekuire.yml:1:9: agent.toolsets.allowed_tools: given twice\n  help: keep one of them",
        ),
    ),
    (
        "hosts in two dialects",
        "agent: {network: {allow: [a]}}\npermissions: {network: {allowed_domains: [b]}}\n",
        Refused(
            "sekuire.yml:1:19: permissions.network.allowed_domains: given twice\n  help: keep one of them",
        ),
    ),
    (
        "hosts of which some are URLs",
        "agent: {network: {allow: ['https://a', b]}}\n",
        Refused(
            "sekuire.yml:1:27: permissions.network.allowed_domains[0]: `https://a` is a URL, not a host\n  help: write the host alone, as in `api.openai.com`",
        ),
    ),
    (
        "TLS by URLs, and off",
        "agent: {network: {allow: ['https://a']}}\npermissions: {network: {require_tls: false}}\n",
        Refused(
            "sekuire.yml:1:19: permissions.network.require_tls: given twice\n  help: keep one of them",
        ),
    ),
    (
        "limits in two dialects",
        "rate_limits: {requests: {max_per_hour: 1}, per_agent: {requests_per_hour: 2}}\n",
        Refused(
            "sekuire.yml:1:26: rate_limits.per_agent.requests_per_hour: given twice\n  help: keep one of them",
        ),
    ),
    (
        "a default that contradicts itself",
        "policy: {network: {deny_all_other: false}}\n",
        Refused(
            "sekuire.yml:1:36: policy.network.deny_all_other: must be `true`, not `false`\n  help: write `true` to refuse every host that isn't in `allowed_domains`; without both, every host is allowed",
        ),
    ),
    (
        "a key of no dialect beside one that is",
        "agent: {network: {allow: [a], deny: [b]}}\n",
        Refused(
            "sekuire.yml:1:19: agent.network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path\nsekuire.yml:1:31: agent.network.deny: belongs to another form of policy, not read here\n  help: write the rule under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "statements",
        "Version: '2024-12-02'\nStatement: [{Effect: Allow, Action: '*', Resource: '*'}]\n",
        Refused(
            "sekuire.yml:1:1: Version: belongs to another form of policy, not read here\n  help: remove it: it belongs to the statements\nsekuire.yml:2:1: Statement: belongs to another form of policy, not read here\n  help: write the statements as `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "permissions of another form",
        "permissions: {model: {allowed_models: [a]}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.model.allowed_models: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`",
        ),
    ),
    (
        "rules inside an agent that are the file's",
        "agent: {permissions: {network: {}}}\n",
        Refused(
            "sekuire.yml:1:9: agent.permissions: belongs to another form of policy, not read here\n  help: write the section at the top level of the file",
        ),
    ),
    (
        "a rule where only descriptions are",
        "models: {}\nserver: {allowed_tools: [a]}\n",
        Refused(
            "sekuire.yml:2:10: server.allowed_tools: looks like a rule, but no rules are read here\n  help: move it under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "a rule deep inside a description",
        "models: {}\nmemory: {config: [{deny: [a]}]}\n",
        Refused(
            "sekuire.yml:2:20: memory.config[0].deny: looks like a rule, but no rules are read here\n  help: move it under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "approval by a person",
        "models: {}\ncompliance: {require_approval: [transfer]}\n",
        Refused(
            "sekuire.yml:2:14: compliance.require_approval: asks for something that is not enforced here\n  help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)",
        ),
    ),
    (
        "approval by nobody",
        "models: {}\ncompliance: {require_approval: [], data_residency: null}\n",
        Means(
            "not enforced: 2:1: compliance: describes, restricts nothing\nwarning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: models: restricts nothing: every model is allowed; write `allowed_models` or `blocked_models`\n",
        ),
    ),
    (
        "confirmation of a tool",
        "toolsets: {require_confirmation: [transfer]}\n",
        Refused(
            "sekuire.yml:1:12: toolsets.require_confirmation: asks for something that is not enforced here\n  help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)",
        ),
    ),
    (
        "where data may be",
        "models: {}\ncompliance: {data_residency: eu}\n",
        Refused(
            "sekuire.yml:2:14: compliance.data_residency: asks for something that is not enforced here\n  help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)",
        ),
    ),
    (
        "providers instead of models",
        "models: {allowed_providers: [openai]}\n",
        Refused(
            "sekuire.yml:1:10: models.allowed_providers: asks for something that is not enforced here\n  help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)",
        ),
    ),
    (
        "a setting that is no limit",
        "models: {}\nllm: {max_tokens: 10}\n",
        Means(
            "not enforced: 2:1: llm: describes, restricts nothing\nwarning: 1:1: nothing is enforced: whatever is asked is allowed; write at least one rule\nwarning: 1:1: models: restricts nothing: every model is allowed; write `allowed_models` or `blocked_models`\n",
        ),
    ),
    (
        "rules beside an envelope's content",
        "policy_id: p\ncontent: {models: {blocked_models: [a]}}\nmodels: {}\n",
        Refused(
            "sekuire.yml:3:1: models: stands beside `content`\n  help: move it inside `content`",
        ),
    ),
    (
        "an envelope in an envelope",
        "content: {content: {models: {blocked_models: [a]}}}\n",
        Refused(
            "sekuire.yml:1:11: content: unknown key\n  help: known here: `agent`, `agents`, `models`, `toolsets`, `tools`, `permissions`, `rate_limits`, `spec_version`, `version`, `name`, `description`, `project`, `identity`, `llm`, `memory`, `logger`, `deployment`, `server`, `a2a`, `capabilities`, `compliance`, `audit`",
        ),
    ),
    (
        "an envelope of nothing",
        "policy_id: p\ncontent: {}\n",
        Refused(
            "sekuire.yml:1:1: no policy configuration\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "an envelope of null",
        "policy_id: p\ncontent:\n",
        Refused(
            "sekuire.yml:2:9: content: must be a mapping, not null\n  help: write its keys below it, indented, or remove the line",
        ),
    ),
    (
        "a draft",
        "policy_id: p\nstatus: draft\ncontent: {models: {blocked_models: [a]}}\n",
        Means(
            "models, blocked [\"a\"]\nnot enforced: 1:1: policy_id: part of the envelope, not verified\nnot enforced: 2:1: status: part of the envelope, not verified\nwarning: 2:1: status: the policy is marked `draft`, not `active`\n",
        ),
    ),
    (
        "a key that envelopes don't have",
        "content: {models: {}}\nsignatur: a\n",
        Refused("sekuire.yml:2:1: signatur: unknown key\n  help: did you mean `signature`?"),
    ),
    (
        "everything else isn't refused",
        "policy: {network: {allowed_domains: [a.example], deny_all_other: no}}\n",
        Refused(
            "sekuire.yml:1:66: policy.network.deny_all_other: must be `true`, not the text `no`\n  help: write `true` to refuse every host that isn't in `allowed_domains`; without both, every host is allowed",
        ),
    ),
    (
        "everything else is refused by a text",
        "policy: {network: {deny_all_other: 'true'}}\n",
        Refused(
            "sekuire.yml:1:36: policy.network.deny_all_other: must be `true`, not the text `true`\n  help: remove the quotes",
        ),
    ),
    (
        "everything else is refused by nothing",
        "policy: {network: {deny_all_other: }}\n",
        Refused(
            "sekuire.yml:1:36: policy.network.deny_all_other: must be `true`, not null\n  help: write `true` to refuse every host that isn't in `allowed_domains`; without both, every host is allowed",
        ),
    ),
    (
        "capabilities that are rules",
        "capabilities: {allowed_tools: [a]}\n",
        Means(
            "tools, allowed [\"a\"]\ntranslated: 1:16: capabilities.allowed_tools: read as `allowed_tools`, as Sekuire's policy guide writes it\n",
        ),
    ),
    (
        "capabilities that are rules and more",
        "agent: {capabilities: {denied_tools: [a], provides: [b]}}\n",
        Means(
            "tools, blocked [\"a\"]\ntranslated: 1:24: agent.capabilities.denied_tools: read as `blocked_tools`, as Sekuire's policy guide writes it\nnot enforced: 1:9: agent.capabilities: what else is in it describes, restricts nothing\n",
        ),
    ),
    (
        "keys of dialects that are misspelt",
        "policy: {tools: {alowed: [a], deneid: [b]}, rate_limits: {max_request_per_minute: 1}, netwrk: {allowed_domains: [a]}}\nagent: {alowed_tools: [a], models: {denied_model: [a]}, capabilities: {denied_tool: [a]}}\nrate_limits: {requests: {max_per_minut: 1}}\npermissions: {network: {allowed_host: [a]}}\n",
        Refused(
            "sekuire.yml:1:18: policy.tools.alowed: unknown key\n  help: did you mean `allowed`?\nsekuire.yml:1:31: policy.tools.deneid: unknown key\n  help: did you mean `denied`?\nsekuire.yml:1:59: policy.rate_limits.max_request_per_minute: unknown key\n  help: did you mean `max_requests_per_minute`?\nsekuire.yml:1:87: policy.netwrk: unknown key\n  help: did you mean `network`?\nsekuire.yml:2:9: agent.alowed_tools: unknown key\n  help: did you mean `allowed_tools`?\nsekuire.yml:2:37: agent.models.denied_model: unknown key\n  help: did you mean `denied_models`?\nsekuire.yml:2:72: agent.capabilities.denied_tool: unknown key\n  help: did you mean `denied_tools`?\nsekuire.yml:3:26: rate_limits.requests.max_per_minut: unknown key\n  help: did you mean `max_per_minute`?\nsekuire.yml:4:25: permissions.network.allowed_host: unknown key\n  help: did you mean `allowed_hosts`?",
        ),
    ),
];

/// Keys of other forms of policy, each with what to write instead. None is read.
const FOREIGN: &[Row<&str>] = &[
    (
        "`models.allowed`",
        "models: {allowed: 1}\n",
        Refused(
            "sekuire.yml:1:10: models.allowed: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`",
        ),
    ),
    (
        "`models.blocked`",
        "models: {blocked: 1}\n",
        Refused(
            "sekuire.yml:1:10: models.blocked: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`models.denied`",
        "models: {denied: 1}\n",
        Refused(
            "sekuire.yml:1:10: models.denied: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`toolsets.allowed`",
        "toolsets: {allowed: 1}\n",
        Refused(
            "sekuire.yml:1:12: toolsets.allowed: belongs to another form of policy, not read here\n  help: write `allowed_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`toolsets.blocked`",
        "toolsets: {blocked: 1}\n",
        Refused(
            "sekuire.yml:1:12: toolsets.blocked: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`toolsets.denied`",
        "toolsets: {denied: 1}\n",
        Refused(
            "sekuire.yml:1:12: toolsets.denied: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`agent.allowed_models`",
        "agent: {allowed_models: 1}\n",
        Refused(
            "sekuire.yml:1:9: agent.allowed_models: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`",
        ),
    ),
    (
        "`agent.blocked_models`",
        "agent: {blocked_models: 1}\n",
        Refused(
            "sekuire.yml:1:9: agent.blocked_models: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`agent.denied_models`",
        "agent: {denied_models: 1}\n",
        Refused(
            "sekuire.yml:1:9: agent.denied_models: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`agent.network`",
        "agent: {network: 1}\n",
        Refused(
            "sekuire.yml:1:9: agent.network: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`agent.network.allow`",
        "agent: {network: {allow: 1}}\n",
        Refused(
            "sekuire.yml:1:19: agent.network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`agent.network.block`",
        "agent: {network: {block: 1}}\n",
        Refused(
            "sekuire.yml:1:19: agent.network.block: belongs to another form of policy, not read here\n  help: write `blocked_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`agent.permissions`",
        "agent: {permissions: 1}\n",
        Refused(
            "sekuire.yml:1:9: agent.permissions: belongs to another form of policy, not read here\n  help: write the section at the top level of the file",
        ),
    ),
    (
        "`agent.rate_limits`",
        "agent: {rate_limits: 1}\n",
        Refused(
            "sekuire.yml:1:9: agent.rate_limits: belongs to another form of policy, not read here\n  help: write the section at the top level of the file",
        ),
    ),
    (
        "`allowed_models`",
        "allowed_models: 1\n",
        Refused(
            "sekuire.yml:1:1: allowed_models: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`",
        ),
    ),
    (
        "`blocked_models`",
        "blocked_models: 1\n",
        Refused(
            "sekuire.yml:1:1: blocked_models: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`denied_models`",
        "denied_models: 1\n",
        Refused(
            "sekuire.yml:1:1: denied_models: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`allowed_tools`",
        "allowed_tools: 1\n",
        Refused(
            "sekuire.yml:1:1: allowed_tools: belongs to another form of policy, not read here\n  help: write `allowed_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`blocked_tools`",
        "blocked_tools: 1\n",
        Refused(
            "sekuire.yml:1:1: blocked_tools: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`denied_tools`",
        "denied_tools: 1\n",
        Refused(
            "sekuire.yml:1:1: denied_tools: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`network`",
        "network: 1\n",
        Refused(
            "sekuire.yml:1:1: network: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`network.allow`",
        "network: {allow: 1}\n",
        Refused(
            "sekuire.yml:1:11: network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`network.block`",
        "network: {block: 1}\n",
        Refused(
            "sekuire.yml:1:11: network.block: belongs to another form of policy, not read here\n  help: write `blocked_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`network.allowed_domains`",
        "network: {allowed_domains: 1}\n",
        Refused(
            "sekuire.yml:1:11: network.allowed_domains: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`network.blocked_domains`",
        "network: {blocked_domains: 1}\n",
        Refused(
            "sekuire.yml:1:11: network.blocked_domains: belongs to another form of policy, not read here\n  help: write `blocked_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`permissions.network.allow`",
        "permissions: {network: {allow: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`permissions.network.block`",
        "permissions: {network: {block: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.network.block: belongs to another form of policy, not read here\n  help: write `blocked_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`permissions.network.default_deny`",
        "permissions: {network: {default_deny: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.network.default_deny: belongs to another form of policy, not read here\n  help: write `allowed_domains`, which refuses every other host; without hosts in it, `[]`, every host is refused",
        ),
    ),
    (
        "`permissions.network.deny_all_other`",
        "permissions: {network: {deny_all_other: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.network.deny_all_other: belongs to another form of policy, not read here\n  help: write `allowed_domains`, which refuses every other host; without hosts in it, `[]`, every host is refused",
        ),
    ),
    (
        "`permissions.model`",
        "permissions: {model: 1}\n",
        Refused(
            "sekuire.yml:1:15: permissions.model: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`permissions.model.allowed_models`",
        "permissions: {model: {allowed_models: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.model.allowed_models: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`",
        ),
    ),
    (
        "`permissions.model.blocked_models`",
        "permissions: {model: {blocked_models: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.model.blocked_models: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`permissions.models`",
        "permissions: {models: 1}\n",
        Refused(
            "sekuire.yml:1:15: permissions.models: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`permissions.models.allowed_models`",
        "permissions: {models: {allowed_models: 1}}\n",
        Refused(
            "sekuire.yml:1:24: permissions.models.allowed_models: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`",
        ),
    ),
    (
        "`permissions.models.blocked_models`",
        "permissions: {models: {blocked_models: 1}}\n",
        Refused(
            "sekuire.yml:1:24: permissions.models.blocked_models: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`permissions.tools`",
        "permissions: {tools: 1}\n",
        Refused(
            "sekuire.yml:1:15: permissions.tools: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`permissions.tools.allowed_tools`",
        "permissions: {tools: {allowed_tools: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.tools.allowed_tools: belongs to another form of policy, not read here\n  help: write `allowed_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`permissions.tools.blocked_tools`",
        "permissions: {tools: {blocked_tools: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.tools.blocked_tools: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`permissions.tools.blocked_patterns`",
        "permissions: {tools: {blocked_patterns: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.tools.blocked_patterns: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`permissions.tools.enforce_whitelist`",
        "permissions: {tools: {enforce_whitelist: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.tools.enforce_whitelist: belongs to another form of policy, not read here\n  help: write `allowed_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`permissions.model.max_temperature`",
        "permissions: {model: {max_temperature: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.model.max_temperature: belongs to another form of policy, not read here\n  help: remove it: parameters of a call are not judged here",
        ),
    ),
    (
        "`permissions.model.max_tokens`",
        "permissions: {model: {max_tokens: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.model.max_tokens: belongs to another form of policy, not read here\n  help: remove it: parameters of a call are not judged here",
        ),
    ),
    (
        "`permissions.tools.timeout_seconds`",
        "permissions: {tools: {timeout_seconds: 1}}\n",
        Refused(
            "sekuire.yml:1:23: permissions.tools.timeout_seconds: belongs to another form of policy, not read here\n  help: remove it: parameters of a call are not judged here",
        ),
    ),
    (
        "`permissions.content`",
        "permissions: {content: 1}\n",
        Refused(
            "sekuire.yml:1:15: permissions.content: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`permissions.content.blocked_input_patterns`",
        "permissions: {content: {blocked_input_patterns: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.content.blocked_input_patterns: belongs to another form of policy, not read here\n  help: remove it: what messages say is not judged here",
        ),
    ),
    (
        "`permissions.content.blocked_output_patterns`",
        "permissions: {content: {blocked_output_patterns: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.content.blocked_output_patterns: belongs to another form of policy, not read here\n  help: remove it: what messages say is not judged here",
        ),
    ),
    (
        "`permissions.content.max_response_length`",
        "permissions: {content: {max_response_length: 1}}\n",
        Refused(
            "sekuire.yml:1:25: permissions.content.max_response_length: belongs to another form of policy, not read here\n  help: remove it: what messages say is not judged here",
        ),
    ),
    (
        "`rate_limits.requests`",
        "rate_limits: {requests: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.requests: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`rate_limits.tokens`",
        "rate_limits: {tokens: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.tokens: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`rate_limits.requests_per_minute`",
        "rate_limits: {requests_per_minute: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.requests_per_minute: belongs to another form of policy, not read here\n  help: write `requests_per_minute` under `rate_limits.per_agent`",
        ),
    ),
    (
        "`rate_limits.requests_per_hour`",
        "rate_limits: {requests_per_hour: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.requests_per_hour: belongs to another form of policy, not read here\n  help: write `requests_per_hour` under `rate_limits.per_agent`",
        ),
    ),
    (
        "`rate_limits.requests_per_day`",
        "rate_limits: {requests_per_day: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.requests_per_day: belongs to another form of policy, not read here\n  help: write `requests_per_day` under `rate_limits.per_agent`",
        ),
    ),
    (
        "`rate_limits.tokens_per_minute`",
        "rate_limits: {tokens_per_minute: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.tokens_per_minute: belongs to another form of policy, not read here\n  help: write `tokens_per_minute` under `rate_limits.per_agent`",
        ),
    ),
    (
        "`rate_limits.tokens_per_hour`",
        "rate_limits: {tokens_per_hour: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.tokens_per_hour: belongs to another form of policy, not read here\n  help: write `tokens_per_hour` under `rate_limits.per_agent`",
        ),
    ),
    (
        "`rate_limits.tokens_per_day`",
        "rate_limits: {tokens_per_day: 1}\n",
        Refused(
            "sekuire.yml:1:15: rate_limits.tokens_per_day: belongs to another form of policy, not read here\n  help: write `tokens_per_day` under `rate_limits.per_agent`",
        ),
    ),
    (
        "`policy`",
        "policy: 1\n",
        Refused(
            "sekuire.yml:1:1: policy: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`policy.models`",
        "policy: {models: 1}\n",
        Refused(
            "sekuire.yml:1:10: policy.models: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`policy.tools`",
        "policy: {tools: 1}\n",
        Refused(
            "sekuire.yml:1:10: policy.tools: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`policy.network`",
        "policy: {network: 1}\n",
        Refused(
            "sekuire.yml:1:10: policy.network: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`policy.network.deny_all_other`",
        "policy: {network: {deny_all_other: 1}}\n",
        Refused(
            "sekuire.yml:1:36: policy.network.deny_all_other: must be `true`, not the number `1`\n  help: write `true` to refuse every host that isn't in `allowed_domains`; without both, every host is allowed",
        ),
    ),
    (
        "`policy.rate_limits`",
        "policy: {rate_limits: 1}\n",
        Refused(
            "sekuire.yml:1:10: policy.rate_limits: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "`Version`",
        "Version: 1\n",
        Refused(
            "sekuire.yml:1:1: Version: belongs to another form of policy, not read here\n  help: remove it: it belongs to the statements",
        ),
    ),
    (
        "`Statement`",
        "Statement: 1\n",
        Refused(
            "sekuire.yml:1:1: Statement: belongs to another form of policy, not read here\n  help: write the statements as `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`",
        ),
    ),
    (
        "`ResourceLimits`",
        "ResourceLimits: 1\n",
        Refused(
            "sekuire.yml:1:1: ResourceLimits: belongs to another form of policy, not read here\n  help: write requests and tokens under `rate_limits`; nothing else is limited here",
        ),
    ),
    (
        "`RequireApproval`",
        "RequireApproval: 1\n",
        Refused(
            "sekuire.yml:1:1: RequireApproval: belongs to another form of policy, not read here\n  help: remove it, or block the tools: nobody is asked for approval here",
        ),
    ),
    (
        "`AuditLog`",
        "AuditLog: 1\n",
        Refused(
            "sekuire.yml:1:1: AuditLog: belongs to another form of policy, not read here\n  help: remove it: every decision is logged",
        ),
    ),
    (
        "`agents.NAME.network.allow`",
        "agents: {a: {network: {allow: [a]}}}\n",
        Refused(
            "sekuire.yml:1:24: agents.a.network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path",
        ),
    ),
    (
        "`agent.models.denied`",
        "agent: {models: {denied: [a]}}\n",
        Refused(
            "sekuire.yml:1:18: agent.models.denied: belongs to another form of policy, not read here\n  help: write `blocked_models` under `agent.models`",
        ),
    ),
    (
        "`agent.tools.allowed`",
        "agent: {tools: {allowed: [a]}}\n",
        Refused(
            "sekuire.yml:1:17: agent.tools.allowed: belongs to another form of policy, not read here\n  help: write `allowed_tools` under `agent.toolsets`",
        ),
    ),
    (
        "`tools.blocked`",
        "tools: {blocked: [a]}\n",
        Refused(
            "sekuire.yml:1:9: tools.blocked: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`",
        ),
    ),
    (
        "a section of several keys",
        "permissions:\n  model: {allowed_models: [a], max_temperature: 1}\n  tools: {enforce_whitelist: true, blocked_patterns: [b], timeout_seconds: 3}\n  network: {allow: [a], block: [b], default_deny: true}\n  content: {blocked_input_patterns: [x]}\n",
        Refused(
            "sekuire.yml:2:11: permissions.model.allowed_models: belongs to another form of policy, not read here\n  help: write `allowed_models` under `agent.models`\nsekuire.yml:2:32: permissions.model.max_temperature: belongs to another form of policy, not read here\n  help: remove it: parameters of a call are not judged here\nsekuire.yml:3:11: permissions.tools.enforce_whitelist: belongs to another form of policy, not read here\n  help: write `allowed_tools` under `agent.toolsets`\nsekuire.yml:3:36: permissions.tools.blocked_patterns: belongs to another form of policy, not read here\n  help: write `blocked_tools` under `agent.toolsets`\nsekuire.yml:3:59: permissions.tools.timeout_seconds: belongs to another form of policy, not read here\n  help: remove it: parameters of a call are not judged here\nsekuire.yml:4:13: permissions.network.allow: belongs to another form of policy, not read here\n  help: write `allowed_domains` under `permissions.network`, hosts without scheme or path\nsekuire.yml:4:25: permissions.network.block: belongs to another form of policy, not read here\n  help: write `blocked_domains` under `permissions.network`, hosts without scheme or path\nsekuire.yml:4:37: permissions.network.default_deny: belongs to another form of policy, not read here\n  help: write `allowed_domains`, which refuses every other host; without hosts in it, `[]`, every host is refused\nsekuire.yml:5:13: permissions.content.blocked_input_patterns: belongs to another form of policy, not read here\n  help: remove it: what messages say is not judged here",
        ),
    ),
    (
        "a section that asks for what isn't done",
        "policy: {tools: {require_confirmation: [b]}}\n",
        Refused(
            "sekuire.yml:1:18: policy.tools.require_confirmation: asks for something that is not enforced here\n  help: remove it, or load the policy with `accept_unenforced` (`--accept-unenforced` of the gateway)",
        ),
    ),
    (
        "a section that is a list",
        "policy: []\n",
        Refused(
            "sekuire.yml:1:1: policy: belongs to another form of policy, not read here\n  help: write the rules under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
    (
        "a section of keys that nobody knows",
        "policy: {other: 1}\n",
        Refused(
            "sekuire.yml:1:10: policy.other: belongs to another form of policy, not read here\n  help: write the rule under `models`, `toolsets`, `permissions.network` or `rate_limits`",
        ),
    ),
];

/// The same in JSON.
const JSON: &[Row<&[u8]>] = &[
    ("an empty file", b"", Refused("policy.json:1:1: not readable as JSON: EOF while parsing a value\n  help: close what is open: a quote, `]` or `}` is missing at the end")),
    ("null", b"null", Refused("policy.json:1:1: the document is empty\n  help: write at least one of `agent.models`, `agent.toolsets`, `permissions.network` and `rate_limits`")),
    ("a byte order mark", b"\xef\xbb\xbf{\"models\": {\"blocked_models\": [\"a\"]}}", Means("models, blocked [\"a\"]\n")),
    ("a key given twice", br#"{"models": {"blocked_models": ["a"], "blocked_models": []}}"#, Refused("policy.json:1:38: models.blocked_models: given twice\n  help: keep one of them")),
    ("a key given twice, once by an escape", br#"{"models": {"blocked_models": ["a"], "blocked_model\u0073": []}}"#, Refused("policy.json:1:38: models.blocked_models: given twice\n  help: keep one of them")),
    ("a comma at the end", br#"{"models": {},}"#, Refused("policy.json:1:15: not readable as JSON: trailing comma\n  help: remove the comma before the bracket")),
    ("a comment", b"{\"models\": {} // none\n}", Refused("policy.json:1:15: not readable as JSON: expected `,` or `}`\n  help: put commas between entries; JSON takes no comments")),
    ("single quotes", b"{'models': {}}", Refused("policy.json:1:2: not readable as JSON: key must be a string\n  help: write keys in double quotes")),
    ("text behind the document", br#"{"models": {}} {}"#, Refused("policy.json:1:16: not readable as JSON: trailing characters\n  help: keep one document in a file")),
    ("a cut-off document", br#"{"models": {"blocked_models": ["a""#, Refused("policy.json:1:34: not readable as JSON: EOF while parsing a list\n  help: close what is open: a quote, `]` or `}` is missing at the end")),
    ("a list that is null", br#"{"models": {"allowed_models": null}}"#, Refused("policy.json:1:31: models.allowed_models: must be a list, not null\n  help: remove the key to allow everything, or write `[]` to allow nothing")),
    ("an entry that is a number", br#"{"models": {"allowed_models": [4]}}"#, Refused("policy.json:1:32: models.allowed_models[0]: must be text, not the number `4`\n  help: put it in quotes, as it is written")),
    ("a number with a point", br#"{"rate_limits": {"per_agent": {"requests_per_day": 1.0}}}"#, Refused("policy.json:1:52: rate_limits.per_agent.requests_per_day: must be a whole number, not the number `1.0`\n  help: write digits only, without point or exponent: `1`")),
    ("a number with an exponent", br#"{"rate_limits": {"per_agent": {"requests_per_day": 1e2}}}"#, Refused("policy.json:1:52: rate_limits.per_agent.requests_per_day: must be a whole number, not the number `100.0`\n  help: write digits only, without point or exponent: `100`")),
    ("a number that is too large", br#"{"rate_limits": {"per_agent": {"requests_per_day": 18446744073709551616}}}"#, Refused("policy.json:1:52: rate_limits.per_agent.requests_per_day: must be a whole number, not the number `1.8446744073709552e19`\n  help: write digits only, without point or exponent")),
    ("minus zero", br#"{"rate_limits": {"per_agent": {"requests_per_day": -0}}}"#, Refused("policy.json:1:52: rate_limits.per_agent.requests_per_day: must be a whole number, not the number `-0.0`\n  help: write digits only, without point or exponent")),
    ("a number with a zero in front", br#"{"rate_limits": {"per_agent": {"requests_per_day": 010}}}"#, Refused("policy.json:1:53: not readable as JSON: invalid number\n  help: write digits without a zero or `+` in front")),
    ("a number beyond all", br#"{"version": 1e999}"#, Refused("policy.json:1:17: not readable as JSON: number out of range\n  help: check the quotes, commas and brackets before it")),
    ("a key without its colon", br#"{"models" {}}"#, Refused("policy.json:1:11: not readable as JSON: expected `:`\n  help: write `:` after each key")),
    ("infinity", br#"{"rate_limits": {"per_agent": {"requests_per_day": Infinity}}}"#, Refused("policy.json:1:52: not readable as JSON: expected value\n  help: write text in double quotes, and nothing but JSON in the file")),
    ("a boolean that is text", br#"{"permissions": {"network": {"enabled": "false"}}}"#, Refused("policy.json:1:41: permissions.network.enabled: must be `true` or `false`, not the text `false`\n  help: remove the quotes")),
    ("half of a surrogate pair", br#"{"models": {"allowed_models": ["\ud800"]}}"#, Refused("policy.json:1:39: not readable as JSON: unexpected end of hex escape\n  help: write `\\\\` for a backslash, and other characters as themselves")),
    ("a control character in text", b"{\"models\": {\"allowed_models\": [\"a\nb\"]}}", Refused("policy.json:2:1: not readable as JSON: control character (\\u0000-\\u001F) found while parsing a string\n  help: write it as an escape, as in `\\n`, or close the quotes before it")),
    ("a NUL as an escape", br#"{"models": {"allowed_models": ["a\u0000b"]}}"#, Refused("policy.json:1:32: models.allowed_models[0]: has a character that can't be seen: `a\\u{0}b`\n  help: remove control and direction characters")),
    ("a line break that only some readers see", b"{\"models\": {\"allowed_models\": [\"a\xe2\x80\xa8b\"]}}", Refused("policy.json:1:32: models.allowed_models[0]: has a character that can't be seen: `a\\u{2028}b`\n  help: remove control and direction characters")),
    ("a key that reads as a number to some parsers", br#"{"rate_limits":{"per_agent":{"requests_per_minute":{"$serde_json::private::Number":"5"}}}}"#, Refused("policy.json:1:52: rate_limits.per_agent.requests_per_minute: must be a whole number, not a mapping\n  help: write one number in digits, as in `10`")),
    ("a merge key", br#"{"models": {"<<": {"blocked_models": ["a"]}}}"#, Refused("policy.json:1:13: models.\"<<\": merge keys are not supported\n  help: write the keys out where they are used")),
    ("an unknown key", br#"{"models": {"allowed_model": []}}"#, Refused("policy.json:1:13: models.allowed_model: unknown key\n  help: did you mean `allowed_models`?")),
    ("a byte that is not UTF-8", b"{\"models\": {\"allowed_models\": [\"\xff\"]}}", Refused("policy.json:1:33: not UTF-8 from byte 32 on\n  help: save the file as UTF-8")),
    ("lists in lists", b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", Refused("policy.json:1:34: nested deeper than 32 levels\n  help: remove levels: a policy needs seven")),
    ("YAML in a JSON file", b"models: {}\n", Refused("policy.json:1:1: not readable as JSON: expected value\n  help: write text in double quotes, and nothing but JSON in the file")),
    ("UTF-16", b"{\x00\"\x00m\x00o\x00d\x00e\x00l\x00s\x00\"\x00:\x00 \x00{\x00}\x00}\x00", Refused("policy.json:1:2: not readable as JSON: key must be a string\n  help: write keys in double quotes")),
];
