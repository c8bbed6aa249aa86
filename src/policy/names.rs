//! Entries for models and tools that hold what no name holds: they load, and match nothing that was meant.

use super::error::shown;
use super::reader::{Field, Reader};

/// What a list names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Model,
    Tool,
}

/// Remarks on an entry that was hardly meant as it is compared. A name could be written so all the same.
pub(super) fn warn_of_spelling(reader: &mut Reader, field: &Field<'_>, text: &str, named: Named) {
    // Those have remarks of their own.
    if text.contains(" - ") || text.contains("${") {
        return;
    }
    let Some((holds, help)) = doubtful(text, named) else {
        return;
    };
    let message = format!("`{}` {holds}: {help}", shown(text));
    reader.warn(field, message);
}

/// What is doubtful about an entry, and what to write instead.
fn doubtful(text: &str, named: Named) -> Option<(String, &'static str)> {
    let holds = |char: char, help| Some((format!("holds `{char}`, which no name has"), help));
    let is_quote = |char| matches!(char, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '«' | '»');
    if let Some((name, "")) = text.split_once(',')
        && !name.contains(';')
    {
        return holds(',', "remove the comma");
    }
    if let Some(char) = text.chars().find(|char| matches!(char, ',' | ';')) {
        return holds(char, "write each name as an entry of its own");
    }
    if text.starts_with('!') {
        return Some((
            "begins with `!`, which negates nothing here".to_owned(),
            "write the name without it, in the list that is meant",
        ));
    }
    if let Some(char) = text.chars().find(|char| is_quote(*char)) {
        return holds(char, "write the name without quotes of its own");
    }
    if text.contains("//") {
        return Some((
            "holds `//`, which no name has".to_owned(),
            "write the name alone, not a URL",
        ));
    }
    if let Some(char) = text.chars().find(|char| SPECIAL.contains(char)) {
        return Some((
            format!("holds `{char}`, which means itself"),
            "only `*` is special, and stands for any characters; write each name as it is sent",
        ));
    }
    if text.chars().any(char::is_whitespace) {
        return Some((
            "holds white space, which no name has".to_owned(),
            "write each name as an entry of its own, as it is sent",
        ));
    }
    if let Some((before, after)) = text.split_once(".*") {
        // What is in a namespace of tools is `space.name`.
        let space = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        let is_space = named == Named::Tool
            && after.is_empty()
            && before.ends_with(|char: char| char.is_ascii_alphanumeric())
            && before.chars().all(space);
        if !is_space {
            return Some((
                "matches only names with a `.` there".to_owned(),
                "`*` alone stands for any characters",
            ));
        }
    }
    text.starts_with('-').then(|| {
        (
            "begins with `-`, as hardly any name does".to_owned(),
            "write one `-` and a space before each entry",
        )
    })
}

/// What means something in other kinds of patterns.
const SPECIAL: [char; 11] = ['?', '[', ']', '{', '}', '^', '$', '|', '(', ')', '\\'];
