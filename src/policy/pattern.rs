//! How a model or tool name matches an entry.
//!
//! An entry is compared exactly, case included, unless it contains `*`, which
//! stands for any run of characters, none included. Nothing else is special: a
//! name with brackets, dots or question marks is written as it is.

use std::fmt;

/// One entry of a list of models or tools.
///
/// `gpt-4o` matches that name alone, not `gpt-4o-mini` and not `GPT-4o`;
/// `gpt-4o*` matches every name that begins so.
///
/// A match takes time in proportion to the name, whatever the entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern {
    text: Box<str>,
}

impl NamePattern {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// The entry as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the entry contains `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.text.contains('*')
    }

    /// Whether `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((prefix, rest)) = self.text.split_once('*') else {
            return *self.text == *name;
        };
        let Some(name) = name.strip_prefix(prefix) else {
            return false;
        };
        let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut name) = name.strip_suffix(suffix) else {
            return false;
        };
        // The leftmost place for each piece leaves the most room for the next,
        // so the first try is the only one needed.
        for piece in middle.split('*') {
            match name.split_once(piece) {
                _ if piece.is_empty() => {}
                Some((_, rest)) => name = rest,
                None => return false,
            }
        }
        true
    }

    /// Whether every name that `other` matches is matched here too. A `*` of
    /// `other` can only fall to a `*` of this pattern, so it may be compared as
    /// if it were a name.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.matches(&other.text)
    }

    /// The same of tools, where an entry such as `files:*` also matches tools of that category, whatever their names.
    pub(super) fn covers_tools(&self, other: &Self) -> bool {
        let every = self.text.bytes().all(|byte| byte == b'*');
        self.covers(other) && (every || other.category().is_none() || self == other)
    }

    /// The category of an entry such as `files:*`.
    pub(super) fn category(&self) -> Option<&str> {
        let category = self.text.strip_suffix(":*")?;
        (!category.is_empty() && !category.contains('*')).then_some(category)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::NamePattern;

    fn matches(pattern: &str, name: &str) -> bool {
        NamePattern::new(pattern).matches(name)
    }

    #[test]
    fn an_entry_without_a_star_is_exact() {
        assert!(matches("gpt-4o", "gpt-4o"));
        assert!(!matches("gpt-4o", "gpt-4o-mini"));
        assert!(!matches("gpt-4o", "GPT-4o"));
        assert!(!matches("gpt-4o", "gpt-4o "));
        assert!(!matches("gpt.4o", "gpt-4o"));
        assert!(!matches("file_?", "file_a"));
        assert!(!matches("[ab]", "a"));
    }

    #[test]
    fn a_star_is_any_run_of_characters() {
        assert!(matches("*", ""));
        assert!(matches("*", "anything"));
        assert!(matches("gpt-4o*", "gpt-4o"));
        assert!(matches("gpt-4o*", "gpt-4o-mini"));
        assert!(!matches("gpt-4o*", "agpt-4o"));
        assert!(matches("*_delete", "file_delete"));
        assert!(matches("a*b*c", "axxbxxc"));
        assert!(!matches("a*b*c", "axxcxxb"));
        assert!(matches("a**b", "ab"));
        assert!(matches("*é*", "café au lait"));
    }

    #[test]
    fn the_ends_of_an_entry_do_not_share_characters() {
        assert!(!matches("ab*ba", "aba"));
        assert!(!matches("a*a", "a"));
        assert!(matches("a*a", "aa"));
        assert!(!matches("a*a*a", "aa"));
    }

    #[test]
    fn only_a_trailing_colon_star_names_a_category() {
        assert_eq!(NamePattern::new("files:*").category(), Some("files"));
        assert_eq!(NamePattern::new("a:b:*").category(), Some("a:b"));
        assert_eq!(NamePattern::new(":*").category(), None);
        assert_eq!(NamePattern::new("f*:*").category(), None);
        assert_eq!(NamePattern::new("files:read").category(), None);
        assert_eq!(NamePattern::new("files*").category(), None);
    }

    #[test]
    fn many_stars_cost_no_more_than_the_name_is_long() {
        let pattern = "*a".repeat(128) + "b";
        assert!(!matches(&pattern, &"a".repeat(1 << 20)));
    }
}
