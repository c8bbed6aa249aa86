//! Every text that loading a policy can produce stands in a string of a test, word for word but for what is filled in.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(at(folder)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

/// The string literals of Rust code, with their escapes resolved, outside of comments.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '/', '\'', 'r']) {
        let (before, here) = rest.split_at(at);
        let word = before.ends_with(|char: char| char.is_alphanumeric() || char == '_');
        if here.starts_with("//") {
            rest = here.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(raw) = here.strip_prefix("r#\"").filter(|_| !word) {
            let (text, after) = raw.split_once("\"#").unwrap();
            found.push(text.to_owned());
            rest = after;
        } else if let Some(raw) = here.strip_prefix("r\"").filter(|_| !word) {
            let (text, after) = raw.split_once('"').unwrap();
            found.push(text.to_owned());
            rest = after;
        } else if let Some(text) = here.strip_prefix('"') {
            let (literal, after) = plain(text);
            // What is said to whoever compiles the crate is told to nobody else.
            let before = code.split_at(code.len() - here.len()).0;
            if !before.ends_with("must_use = ") && !before.ends_with("reason = ") {
                found.push(literal);
            }
            rest = after;
        } else if here.starts_with("'\"'") || here.starts_with("'\\\"'") {
            rest = here.split_at(here.find("\"'").unwrap() + 2).1;
        } else {
            let mut chars = here.chars();
            chars.next();
            rest = chars.as_str();
        }
    }
    found
}

/// The text up to the closing quote, and what comes after that.
fn plain(text: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut rest = text;
    loop {
        let (before, here) = rest.split_at(rest.find(['"', '\\']).unwrap());
        literal += before;
        if let Some(after) = here.strip_prefix('"') {
            return (literal, after);
        }
        let mut chars = here.chars();
        chars.next();
        match chars.next().unwrap() {
            '\n' => {
                rest = chars.as_str().trim_start();
                continue;
            }
            'n' => literal.push('\n'),
            '"' => literal.push('"'),
            '\\' => literal.push('\\'),
            // What can't be seen is no part of a text.
            _ => literal.push(' '),
        }
        rest = chars.as_str();
    }
}

/// What is between the places of a format string that are filled in.
fn fixed_parts(literal: &str) -> Vec<String> {
    let literal = literal.replace("{{", "\0").replace("}}", "\u{1}");
    let mut parts = Vec::new();
    let mut rest = &*literal;
    while let Some((part, after)) = rest.split_once('{') {
        parts.push(part);
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    parts.push(rest);
    let parts = parts.into_iter().map(|part| {
        part.replace('\0', "{")
            .replace('\u{1}', "}")
            .trim()
            .to_owned()
    });
    parts
        .filter(|part| part.contains(char::is_alphabetic))
        .collect()
}

#[test]
fn every_text_of_the_loader_stands_in_a_test() {
    let tests = rust_files("tests")
        .into_iter()
        .filter(|path| !path.ends_with("error_texts.rs"));
    let asserted: Vec<_> = tests
        .flat_map(|path| literals(&fs::read_to_string(path).unwrap()))
        .collect();
    let mut missing = Vec::new();
    let mut seen = 0;
    // What the schema says is compared as a whole with the file that has it.
    let sources = rust_files("src/policy")
        .into_iter()
        .filter(|path| !path.ends_with("json_schema.rs"));
    for path in sources {
        let code = fs::read_to_string(&path).unwrap();
        let code = code.split("#[cfg(test)]\nmod tests").next().unwrap();
        // Texts are of several words; keys, names and reasons for lints aren't told to anybody.
        for literal in literals(code)
            .iter()
            .filter(|literal| literal.trim().contains(' ') && *literal != PARSERS)
        {
            let parts = fixed_parts(literal);
            let stands = |text: &String| {
                let mut rest = &**text;
                parts.iter().all(|part| match rest.split_once(&**part) {
                    Some((_, after)) => {
                        rest = after;
                        true
                    }
                    None => false,
                })
            };
            seen += 1;
            if !asserted.iter().any(stands) {
                missing.push(format!(
                    "{}: {literal}",
                    path.file_name().unwrap().display()
                ));
            }
        }
    }
    assert!(seen > 150, "only {seen} texts were found");
    assert_eq!(missing, [""; 0], "{} of {seen}", missing.len());
}

/// What the parsers end their messages with, and is cut off.
const PARSERS: &str = " at line ";
