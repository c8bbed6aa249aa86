//! `--audit-log`: the file as whoever collects it meets it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{CHAT_REQUEST, Gateway, Upstream, chat, run, soon, text};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn until(path: &Path, count: usize) -> Vec<Value> {
    let there = async {
        loop {
            let lines = lines(path);
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon("the audit log", there).await
}

#[cfg(unix)]
#[tokio::test]
async fn decisions_are_lines_and_a_rotated_file_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("audit"), folder.path().join("audit.1"));
    let upstream = Upstream::chat().await;
    let args = ["--audit-log", path.to_str().unwrap()];
    let gateway = Gateway::start(&upstream.url(), &args).await;
    let ask = || {
        chat()
            .uri("/v1/chat/completions?secret=canary")
            .header("authorization", "Bearer sk-canary")
    };
    assert_eq!(gateway.send(ask(), CHAT_REQUEST).await.status(), 200);
    let told = until(&path, 2).await;
    assert_eq!(told[0]["call"], told[1]["call"]);
    assert_eq!(
        (&told[0]["phase"], &told[1]["phase"]),
        (&"request".into(), &"end".into())
    );
    assert_eq!(told[0]["agent"], "Test Agent");

    fs::rename(&path, &moved).unwrap();
    let forbidden = CHAT_REQUEST.replace("gpt-4o-mini", "o3");
    assert_eq!(gateway.send(ask(), &forbidden).await.status(), 403);
    let told = until(&path, 1).await;
    assert_eq!(told[0]["rule"], "model_not_allowed");
    assert_eq!(lines(&moved).len(), 2);

    // What is told last is there when the process is not.
    for _ in 0..20 {
        gateway.send(ask(), &forbidden).await;
    }
    gateway.signal("-TERM").await;
    let (code, _, log) = gateway.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(lines(&path).len(), 21);
    for file in [&path, &moved] {
        assert!(!fs::read_to_string(file).unwrap().contains("canary"));
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_keeps_it_from_starting() {
    let policy = crate::support::policy_file(crate::support::POLICY);
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        &[
            "serve",
            "--policy",
            policy.path().to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--audit-log",
            folder.path().to_str().unwrap(),
        ],
        &[],
    )
    .await;
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("--audit-log ") && output.stdout.is_empty(),
        "{said}"
    );
}
