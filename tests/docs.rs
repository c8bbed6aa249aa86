//! What the documents say, held against what is so.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking that it failed"
)]

use std::fs;
use std::path::Path;

use tower_sekuire::Policy;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "docs/policy.md",
    "docs/gateway.md",
    "docs/hosts.md",
    "docs/limits.md",
    "docs/observability.md",
    "docs/performance.md",
    "docs/surface.md",
];

/// The fenced blocks of a document: line, info string, content.
fn blocks(document: &str) -> Vec<(usize, String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let mut found = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((index + 1, info.to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, _, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn policies_in_the_documents_load_or_fail_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sekuire.yml");
    let mut seen = 0;
    for document in DOCUMENTS {
        let blocks = blocks(document);
        for (index, (line, info, content)) in blocks.iter().enumerate() {
            if !matches!(&**info, "yaml" | "yaml agents" | "yaml error") {
                continue;
            }
            seen += 1;
            fs::write(&file, content).unwrap();
            let mut loaded = Policy::from_path(&file);
            if info == "yaml agents" {
                // One has to be chosen; what the others say is read as well.
                let name = content.lines().nth(1).unwrap().trim().split(':').next();
                loaded = Policy::loader().agent(name.unwrap()).from_path(&file);
            }
            if info != "yaml error" {
                assert!(loaded.is_ok(), "{document}:{line}: {}", loaded.unwrap_err());
            } else {
                let folder = format!("{}/", folder.path().display());
                let said = loaded.unwrap_err().to_string().replace(&folder, "");
                let (_, _, expected) = &blocks[index + 1];
                assert_eq!(said, expected.trim_end(), "{document}:{line}");
            }
        }
    }
    assert!(seen > 5, "{seen} policies found");
}

#[cfg(feature = "gateway")]
#[test]
fn every_flag_of_the_gateway_is_documented_and_no_other() {
    let document =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gateway.md")).unwrap();
    let words = |text: &str| -> std::collections::BTreeSet<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .filter(|word| word.starts_with("--") && word.len() > 2 && !word.starts_with("---"))
            .filter(|word| !["--help", "--version", "--features", "--path"].contains(word))
            .map(str::to_owned)
            .collect()
    };
    let mut flags = std::collections::BTreeSet::new();
    for command in ["serve", "check"] {
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_sekuire-gateway"))
            .args([command, "--help"])
            .output()
            .unwrap();
        flags.extend(words(&String::from_utf8(help.stdout).unwrap()));
    }
    assert_eq!(words(&document), flags);
}
