//! Which paths an agent may touch: entries, rules, and how a path is compared with them.
//!
//! Paths are compared as text, part by part between slashes, and nothing is looked up on disk. What could mean
//! different places to different readers (`..`, a relative path, a backslash) is never compared, only refused.

use std::fmt;

use super::pattern::NamePattern;

/// One entry of a list of paths: absolute, as in `/srv/data/*`.
///
/// Without `*` it is that path alone. `/*` at its end is everything below, at any depth; a `*` elsewhere stands for any
/// run of characters within one part, never for a slash; `*` alone is every path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: Box<str>,
    parts: Vec<NamePattern>,
    /// The entry ends in `/*`, or is `*` alone.
    below: bool,
}

impl PathPattern {
    /// Reads an entry; the error is what is wrong and what to write instead.
    pub(super) fn new(text: &str) -> Result<Self, (&'static str, &'static str)> {
        let (path, below) = match text.strip_suffix("/*") {
            _ if text == "*" => ("", true),
            Some(folder) => (folder, true),
            None => (text, false),
        };
        if text.contains("://") {
            return Err((
                "is a URL, not a path",
                "write the path alone, as in `/srv/data/*`",
            ));
        }
        if text.contains('\\') {
            return Err(("has a backslash", "separate the parts of a path with `/`"));
        }
        if text != "*" && !text.starts_with('/') {
            return Err((
                "is not a path from the root",
                "write it whole, as in `/srv/data/*`; `~` and relative paths are not resolved",
            ));
        }
        if text.contains("**") {
            return Err((
                "has `**`",
                "write `/*` at the end: it means everything below, at any depth",
            ));
        }
        let parts = path.strip_prefix('/').filter(|rest| !rest.is_empty());
        let parts: Vec<&str> = parts
            .map(|rest| rest.split('/').collect())
            .unwrap_or_default();
        if path.len() > 1 && path.ends_with('/') {
            return Err((
                "ends with a slash",
                "write the path without it, or with `/*` for everything below",
            ));
        }
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err((
                "has a part that is empty, `.` or `..`",
                "write the path that it leads to",
            ));
        }
        Ok(Self {
            text: text.into(),
            parts: parts.into_iter().map(NamePattern::new).collect(),
            below,
        })
    }

    /// The entry as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether an absolute path matches. `.` and doubled slashes make no difference; a path that can't be compared
    /// (relative, with `..` or a backslash) matches nothing.
    ///
    /// In `blocked_paths` an entry holds for more: see [`FilesystemRules::check`].
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        parts_of(path).is_some_and(|parts| self.allows(&parts))
    }

    fn allows(&self, path: &[&str]) -> bool {
        let deep_enough = if self.below && self.text.starts_with('/') {
            path.len() > self.parts.len()
        } else {
            self.below || path.len() == self.parts.len()
        };
        deep_enough && self.begins(path)
    }

    /// As an entry of a deny list, which holds for the path itself, what it contains, and for `/*` the folder too.
    fn blocks(&self, path: &[&str]) -> bool {
        path.len() >= self.parts.len() && self.begins(path)
    }

    fn begins(&self, path: &[&str]) -> bool {
        self.parts
            .iter()
            .zip(path)
            .all(|(part, name)| part.matches(name))
    }

    /// Whether a deny entry blocks whatever `other` allows or blocks. A `*` of `other` can only fall to a `*` here, so
    /// that it may be compared as if it were a name.
    pub(super) fn blocks_all_of(&self, other: &Self) -> bool {
        self.blocks(&other.names())
    }

    /// Whether an allow entry allows whatever `other` allows.
    pub(super) fn allows_all_of(&self, other: &Self) -> bool {
        let mut names = other.names();
        if other.below {
            if &*self.text == "*" {
                return true;
            }
            if &*other.text == "*" || !self.below {
                return false;
            }
            // Something below it stands for everything there.
            names.push("*");
        }
        self.allows(&names)
    }

    fn names(&self) -> Vec<&str> {
        self.parts.iter().map(NamePattern::as_str).collect()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which files an agent may touch: `permissions.filesystem`.
///
/// They answer [`PolicyEnforcer::enforce_filesystem`](crate::PolicyEnforcer::enforce_filesystem), which whoever opens
/// the file has to ask. A layer around an HTTP client sees no files and enforces none of this.
#[derive(Clone, Debug)]
pub struct FilesystemRules {
    pub(super) enabled: bool,
    pub(super) allowed: Option<Vec<PathPattern>>,
    pub(super) blocked: Vec<PathPattern>,
    pub(super) extensions: Option<Vec<Box<str>>>,
}

/// What [`FilesystemRules::check`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilesystemMatch {
    /// The path may be used.
    Allowed,
    /// The file system is off.
    Disabled,
    /// An entry of the deny list matches, whatever the allow list says.
    Blocked,
    /// There is an allow list, and no entry of it matches.
    NotListed,
    /// The file's extension is not among those allowed.
    Extension,
    /// The path isn't spelled in a way that can be compared: it is relative, or has a `..`, a backslash or a control
    /// character.
    Unreadable,
}

impl FilesystemRules {
    /// Whether any file may be touched. A policy that doesn't say so means yes.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The allow list in the order written, or `None` when there is none and every path that isn't blocked is
    /// allowed.
    #[must_use]
    pub fn allowed(&self) -> Option<&[PathPattern]> {
        self.allowed.as_deref()
    }

    /// The deny list in the order written.
    #[must_use]
    pub fn blocked(&self) -> &[PathPattern] {
        &self.blocked
    }

    /// The extensions allowed, each with its dot, or `None` when every one is.
    #[must_use]
    pub fn extensions(&self) -> Option<&[Box<str>]> {
        self.extensions.as_deref()
    }

    /// Judges an absolute path, as text. The order is: file system off, deny list, allow list, extension.
    ///
    /// A deny entry holds for the path it names and for everything below it, and `/etc/*` for `/etc` too; an allow
    /// entry only for what it matches. A name without a dot, or with one at its beginning only, has no extension,
    /// and passes unless the list of extensions is empty.
    ///
    /// Give the path that is opened, with links resolved (`std::fs::canonicalize`): a link's own path says nothing of
    /// where it leads. Letters are compared exactly; on a file system that ignores case a deny list does not.
    ///
    /// ```
    /// # use tower_sekuire::{FilesystemMatch, Policy};
    /// let policy = Policy::from_yaml("
    /// permissions:
    ///   filesystem: { allowed_paths: [/tmp/*], blocked_paths: [/tmp/keys], allowed_extensions: [.txt] }
    /// ")?;
    /// let files = policy.filesystem().unwrap();
    /// assert_eq!(files.check("/tmp/a/b.txt"), FilesystemMatch::Allowed);
    /// assert_eq!(files.check("/tmp/b.sh"), FilesystemMatch::Extension);
    /// assert_eq!(files.check("/tmp/keys/a.txt"), FilesystemMatch::Blocked);
    /// assert_eq!(files.check("/tmpfoo/b.txt"), FilesystemMatch::NotListed);
    /// assert_eq!(files.check("/tmp/../etc/passwd"), FilesystemMatch::Unreadable);
    /// # Ok::<(), tower_sekuire::PolicyError>(())
    /// ```
    #[must_use]
    pub fn check(&self, path: &str) -> FilesystemMatch {
        if !self.enabled {
            return FilesystemMatch::Disabled;
        }
        let Some(parts) = parts_of(path) else {
            return FilesystemMatch::Unreadable;
        };
        if self.blocked.iter().any(|entry| entry.blocks(&parts)) {
            return FilesystemMatch::Blocked;
        }
        if let Some(allowed) = &self.allowed
            && !allowed.iter().any(|entry| entry.allows(&parts))
        {
            return FilesystemMatch::NotListed;
        }
        let name = parts.last().copied().unwrap_or_default();
        match &self.extensions {
            Some(allowed) if !has_extension_of(name, allowed) => FilesystemMatch::Extension,
            _ => FilesystemMatch::Allowed,
        }
    }
}

fn has_extension_of(name: &str, allowed: &[Box<str>]) -> bool {
    match extension(name) {
        None => !allowed.is_empty(),
        Some(_) => {
            let ends = |entry: &str| name.len() > entry.len() && name.ends_with(entry);
            allowed.iter().any(|entry| ends(entry))
        }
    }
}

/// The last extension of a path's last part, with its dot. A dot that begins the name begins no extension.
pub(crate) fn extension(path: &str) -> Option<&str> {
    let name = path.rsplit('/').find(|part| !matches!(*part, "" | "."))?;
    let dot = name.rfind('.').filter(|dot| *dot > 0)?;
    name.get(dot..)
}

/// An extension's entry, or what is wrong with it and what to write instead.
pub(super) fn extension_entry(text: &str) -> Result<Box<str>, (&'static str, &'static str)> {
    if text.contains(['*', '/', '\\']) {
        return Err((
            "is not an extension",
            "write it with its dot, as in `.txt`, or remove the list to allow every extension",
        ));
    }
    if !text.starts_with('.') || text.ends_with('.') {
        return Err(("is not an extension", "write it with its dot, as in `.txt`"));
    }
    Ok(text.into())
}

/// The parts of an absolute path, if every reader takes it for the same place.
fn parts_of(path: &str) -> Option<Vec<&str>> {
    let rest = path.strip_prefix('/')?;
    if rest.contains('\\') || rest.chars().any(char::is_control) {
        return None;
    }
    let parts = rest.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    (!parts.contains(&"..")).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::{PathPattern, extension, parts_of};

    fn entry(text: &str) -> PathPattern {
        PathPattern::new(text).unwrap()
    }

    fn blocks(text: &str, path: &str) -> bool {
        entry(text).blocks(&parts_of(path).unwrap())
    }

    #[test]
    fn an_allow_entry_is_compared_part_by_part() {
        for (text, path, matches) in [
            ("/tmp/*", "/tmp/a", true),
            ("/tmp/*", "/tmp/a/b/c", true),
            ("/tmp/*", "/tmp//./a", true),
            ("/tmp/*", "/tmp", false),
            ("/tmp/*", "/tmp/", false),
            ("/tmp/*", "/tmpfoo", false),
            ("/tmp/*", "/tmpfoo/a", false),
            ("/tmp/*", "/tmp/../etc", false),
            ("/tmp/*", "tmp/a", false),
            ("/tmp/*", "/tmp\\a", false),
            ("/tmp/a", "/tmp/a", true),
            ("/tmp/a", "/tmp/a/", true),
            ("/tmp/a", "/tmp/a/b", false),
            ("/tmp/a", "/TMP/a", false),
            ("/home/*/data", "/home/ann/data", true),
            ("/home/*/data", "/home/ann/b/data", false),
            ("/var/*.log", "/var/a.log", true),
            ("/var/*.log", "/var/a/b.log", false),
            ("/tmp*", "/tmpfoo", true),
            ("/tmp*", "/tmpfoo/a", false),
            ("/*", "/a", true),
            ("/*", "/", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("*", "/", true),
            ("*", "/a/b", true),
            ("*", "a", false),
        ] {
            assert_eq!(entry(text).matches(path), matches, "{text} {path}");
        }
    }

    #[test]
    fn a_deny_entry_holds_for_everything_below_what_it_names() {
        for (text, path, matches) in [
            ("/etc/*", "/etc/passwd", true),
            ("/etc/*", "/etc", true),
            ("/etc/*", "/etcetera", false),
            ("/root", "/root/.ssh/id", true),
            ("/root", "/rooted", false),
            ("/tmp*", "/tmpfoo/a", true),
            ("/home/*/.ssh", "/home/ann/.ssh/id", true),
            ("/home/*/.ssh", "/home/ann", false),
            ("/", "/a", true),
            ("*", "/", true),
        ] {
            assert_eq!(blocks(text, path), matches, "{text} {path}");
        }
    }

    #[test]
    fn an_extension_begins_at_the_last_dot_inside_a_name() {
        for (path, found) in [
            ("/a/b.txt", Some(".txt")),
            ("/a/b.tar.gz", Some(".gz")),
            ("/a.d/b", None),
            ("/a/.bashrc", None),
            ("/a/b.", Some(".")),
            ("/a/b.txt/", Some(".txt")),
            ("/", None),
        ] {
            assert_eq!(extension(path), found, "{path}");
        }
    }

    #[test]
    fn an_entry_covers_what_it_would_block() {
        assert!(entry("/etc/*").blocks_all_of(&entry("/etc/*")));
        assert!(entry("/etc").blocks_all_of(&entry("/etc/a/*")));
        assert!(entry("*").blocks_all_of(&entry("/a")));
        assert!(!entry("/etc/a").blocks_all_of(&entry("/etc/*")));
        assert!(!entry("/etc").blocks_all_of(&entry("*")));
    }

    #[test]
    fn an_entry_covers_what_it_would_allow() {
        for (by, other, covers) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/*", true),
            ("/a/*", "/a/*", true),
            ("/a/*", "/a/*/c", true),
            ("/a*", "/ab", true),
            ("*", "/a/*", true),
            ("*", "/", true),
            ("*", "*", true),
            ("/*", "/a/*", true),
            ("/*", "*", false),
            ("/a/*", "/a", false),
            ("/a/*", "/*", false),
            ("/a", "/a/*", false),
            ("/a*", "/ab/*", false),
            ("/a/b", "/a/*", false),
            ("/a/*/c", "/a/*", false),
        ] {
            assert_eq!(
                entry(by).allows_all_of(&entry(other)),
                covers,
                "{by} {other}"
            );
        }
    }
}
