//! A look at YAML text before it is parsed.

use std::collections::HashSet;

use super::document::{MAX_NODES, line_and_column, too_many};
use super::error::{Draft, shown};

/// May begin a file, and says nothing then.
const MARK: char = '\u{feff}';

/// Refuses what the YAML parser would read at a cost out of proportion to the
/// file, or differently from other parsers.
pub(super) fn scan(text: &str) -> Result<(), Draft> {
    let bytes = text.as_bytes();
    // Older readers of YAML begin a new line there, newer ones and editors don't: what one takes for the end of a
    // comment is a rule to another.
    let hidden = text.char_indices().find(|(at, char)| match char {
        '\r' => bytes.get(at + 1) != Some(&b'\n'),
        '\u{85}' | '\u{2028}' | '\u{2029}' => true,
        _ => false,
    });
    if let Some((at, char)) = hidden {
        let message = format!(
            "has a line break that not every reader sees: `{}`",
            shown(&char.to_string())
        );
        let help = "end lines with a line feed; write the character as an escape where it is meant";
        return Err(Draft::new("", message, help).located(line_and_column(text, at)));
    }
    let begin = if text.starts_with(MARK) {
        MARK.len_utf8()
    } else {
        0
    };
    if let Some(at) = text.get(begin..).and_then(|rest| rest.find(MARK)) {
        let message = "has a byte order mark that doesn't begin the file";
        let help = "remove it: at a line's beginning some readers leave it out and others take it for text";
        return Err(Draft::new("", message, help).located(line_and_column(text, begin + at)));
    }
    // Everything that YAML doesn't let a file hold, in whichever way it is meant.
    let control = text.char_indices().find(|(_, char)| match char {
        '\t' | '\n' | '\r' => false,
        char => char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}'),
    });
    if let Some((at, char)) = control {
        let message = format!("has a control character: `{}`", char.escape_unicode());
        let help = "save the file as plain text in UTF-8, and write the character as an escape where it is meant";
        return Err(Draft::new("", message, help).located(line_and_column(text, at)));
    }
    let mut separators = 0_usize;
    let mut anchors = HashSet::new();
    let mut aliases = Vec::new();
    for (at, &byte) in bytes.iter().enumerate().skip(begin) {
        let previous = at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
        let rest = bytes.get(at + 1..).unwrap_or_default();
        match byte {
            // Nothing becomes a node without one of these before or after it.
            b',' | b'[' | b'{' | b':' => separators += 1,
            b'-' | b'?' if rest.first().is_none_or(|next| !next.is_ascii_graphic()) => {
                separators += 1;
            }
            // A token can't begin right after a letter or digit: there the mark
            // is part of a plain scalar.
            b'&' | b'*' if !previous.is_some_and(|byte| byte.is_ascii_alphanumeric()) => {
                let length = rest
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
                    .count();
                let name = rest.get(..length).unwrap_or_default();
                if name.is_empty() {
                } else if byte == b'&' {
                    anchors.insert(name);
                } else {
                    aliases.push((at, name));
                }
            }
            // A line may begin after any of YAML's line breaks, some of which
            // end in a byte above 0x7f.
            b'%' if rest.starts_with(b"TAG")
                && previous.is_none_or(|byte| !(b' '..=b'~').contains(&byte)) =>
            {
                return Err(Draft::new(
                    "",
                    "tag directives are not supported",
                    "remove the `%TAG` line",
                )
                .located(line_and_column(text, at)));
            }
            _ => {}
        }
        if separators > MAX_NODES {
            return Err(too_many().located(line_and_column(text, at)));
        }
    }
    // The parser numbers anchors in a way that can give an alias the value of
    // another anchor once a name has been used twice. Without aliases the
    // question does not arise.
    if let Some((at, _)) = aliases.into_iter().find(|(_, name)| anchors.contains(name)) {
        return Err(Draft::new(
            "",
            "anchors and aliases are not supported",
            "write the value out where it is used",
        )
        .located(line_and_column(text, at)));
    }
    Ok(())
}
