//! What is wrong with a policy file: where, what, and what to write instead.
//!
//! Every value that is repeated from a file goes through [`shown`]: messages end
//! up in terminals and logs, which must not be written to by a policy's author.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::document::{self, Format};

/// Why a policy was not loaded: every problem found, not only the first.
///
/// Displays as one line per problem, each followed by an indented line of advice:
///
/// ```text
/// sekuire.yml:14:5: agent.models.allowed_model: unknown key
///   help: did you mean `allowed_models`?
/// ```
#[derive(Debug)]
pub struct PolicyError {
    file: Option<PathBuf>,
    problems: Vec<Problem>,
    more: usize,
    source: Option<io::Error>,
}

/// One thing that is wrong with a policy.
///
/// Displays without file and place, as `agent.models: must be a list, not null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    line: Option<usize>,
    column: Option<usize>,
    path: String,
    message: String,
    help: String,
}

impl PolicyError {
    /// The problems, in the order of the file; never empty, and no more than 50: see [`more`](Self::more).
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many further problems were found, and are not told.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// The file that was read, when it was one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// A file that could not be read at all.
    pub(super) fn io(file: &Path, source: io::Error) -> Self {
        Self {
            file: Some(file.to_owned()),
            problems: vec![unreadable(&source).problem],
            more: 0,
            source: Some(source),
        }
    }

    /// Of a problem that has its place already, or none: there is no text to look it up in.
    pub(super) fn of(draft: Draft) -> Self {
        Self {
            file: None,
            problems: vec![draft.problem],
            more: 0,
            source: None,
        }
    }

    /// Looks up the place of each problem in `text`.
    pub(super) fn new(drafts: Vec<Draft>, text: &str, format: Format) -> Self {
        let more = drafts.len().saturating_sub(MAX_PROBLEMS);
        let mut reread = 0;
        let mut problems: Vec<_> = drafts
            .into_iter()
            .take(MAX_PROBLEMS)
            .map(|draft| {
                let mut problem = draft.problem;
                if let Some(node) = draft.node
                    && reread < MAX_REREAD
                {
                    reread += text.len();
                    let at = document::locate(text, format, node);
                    // A document that holds nothing begins with its text.
                    let at = at.or((node == document::ROOT).then_some((1, 1)));
                    (problem.line, problem.column) = at.unzip();
                }
                problem
            })
            .collect();
        // What has no place, for want of time to look it up, comes last.
        problems.sort_by_key(|problem| {
            let place = problem.line.zip(problem.column);
            (place.is_none(), place)
        });
        Self {
            file: None,
            problems,
            more,
            source: None,
        }
    }

    pub(super) fn in_file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match (&self.file, problem.line, problem.column) {
                (Some(file), Some(line), Some(column)) => {
                    write!(f, "{}:{line}:{column}: ", file.display())?;
                }
                (Some(file), ..) => write!(f, "{}: ", file.display())?,
                (None, Some(line), Some(column)) => {
                    write!(f, "line {line}, column {column}: ")?;
                }
                (None, ..) => {}
            }
            write!(f, "{problem}\n  help: {}", problem.help)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl Error for PolicyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl Problem {
    /// The line it begins on, from 1. Known unless no text was read, or there are too many problems in a large file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The column it begins at, in characters from 1, where known.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    /// The field, such as `agent.models.allowed_models[1]`; empty for the
    /// document as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead. Every problem says so.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        Some(&self.help)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A problem whose place has yet to be looked up.
#[derive(Debug)]
pub(super) struct Draft {
    problem: Problem,
    node: Option<u32>,
}

impl Draft {
    /// A problem with the document as a whole, unless it is said where it is.
    pub(super) fn new(
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            problem: Problem {
                line: None,
                column: None,
                path: path.into(),
                message: message.into(),
                help: help.into(),
            },
            node: Some(document::ROOT),
        }
    }

    /// One of more than are told.
    pub(super) fn counted() -> Self {
        Self::new("", "", "")
    }

    /// The node to point at.
    pub(super) fn at(mut self, node: u32) -> Self {
        self.node = Some(node);
        self
    }

    /// The place, where it is known without a node.
    pub(super) fn located(mut self, (line, column): (usize, usize)) -> Self {
        self.problem.line = Some(line);
        self.problem.column = Some(column);
        self.node = None;
        self
    }
}

/// A file that the system doesn't let be read.
fn unreadable(error: &io::Error) -> Draft {
    let (why, help) = match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            "check the path: it is taken from the folder that the program runs in",
        ),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "let the user that the program runs as read the file and enter its folders",
        ),
        _ => (
            shown(&error.to_string()),
            "check the path, and what it leads to",
        ),
    };
    Draft::new("", format!("the file can't be read: {why}"), help)
}

/// Text from a file as it may be shown: escaped, and cut to 128 characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for char in text.chars() {
        let mut piece = String::new();
        if is_invisible(char) {
            piece.extend(char.escape_unicode());
        } else {
            piece.push(char);
        }
        length += piece.chars().count();
        if length >= MAX_SHOWN {
            shown.push('…');
            break;
        }
        shown.push_str(&piece);
    }
    shown
}

/// Control characters, those that reorder the text around them, and those that
/// take no room: what a reader of the file would not see.
pub(super) fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The problems kept; a file with more is not this kind of file.
pub(super) const MAX_PROBLEMS: usize = 50;

/// How much text is read again to find places, in bytes. A file of up to 40 KiB
/// gets a place for every problem, a hostile one costs no more than this.
const MAX_REREAD: usize = 2 * 1024 * 1024;

/// The longest value repeated in a message, in characters.
const MAX_SHOWN: usize = 128;

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::{PolicyError, shown};

    #[test]
    fn a_file_that_may_not_be_read_is_told_so() {
        let error = PolicyError::io(Path::new("a.yml"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            error.to_string(),
            "a.yml: the file can't be read: permission denied\n  \
             help: let the user that the program runs as read the file and enter its folders"
        );
    }

    #[test]
    fn what_is_shown_can_be_seen_and_is_short() {
        assert_eq!(shown("gpt-4o"), "gpt-4o");
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\u{a}b\\u{1b}[31m");
        assert_eq!(shown("\u{202e}abc"), "\\u{202e}abc");
        assert_eq!(shown(&"é".repeat(500)).chars().count(), 128);
        assert_eq!(shown(&"\u{202e}".repeat(500)).chars().count(), 121);
    }
}
