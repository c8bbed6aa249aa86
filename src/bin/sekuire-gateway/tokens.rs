//! Bearer tokens and the agents that they stand for. What is kept of a token is its hash.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    fs::File,
    io::{IsTerminal, Read, Write as _},
    path::Path,
    process::ExitCode,
};

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tower_sekuire::AgentKey;

use crate::agents::MAX_NAME;

/// The tokens that the gateway takes, each by its hash.
///
/// A plain hash is enough for what a token should be, random and long: there is nothing to guess, so
/// nothing that a slow hash would make slower. Agents may have several tokens, so that one can be replaced
/// while the other still works.
pub(crate) struct TokenTable(Vec<Entry>);

struct Entry {
    hash: Hash,
    agent: AgentKey,
}

type Hash = [u8; 32];

/// Shows no hash: nobody who reads a log needs one.
impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenTable")
            .field("tokens", &self.0.len())
            .finish_non_exhaustive()
    }
}

impl TokenTable {
    /// Reads the file of `--agent-tokens`.
    ///
    /// # Errors
    ///
    /// When it can't be read, or any line isn't understood. The reason repeats nothing of a line: it may
    /// hold the token itself.
    pub(crate) fn from_path(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("larger than {MAX_FILE} bytes"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned())?;
        Self::parse(text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut entries = Vec::new();
        let mut lines: HashMap<Hash, usize> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = Entry::parse(line).map_err(|reason| format!("line {number}: {reason}"))?;
            if let Some(first) = lines.insert(entry.hash, number) {
                return Err(format!("line {number}: the same token as in line {first}"));
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err("it has no token, so nobody could come in".to_owned());
        }
        Ok(Self(entries))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The agents that tokens stand for; one with several tokens several times.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &AgentKey> {
        self.0.iter().map(|entry| &entry.agent)
    }

    /// The agent whose token this is.
    ///
    /// Takes the same time whether and where it is found: every entry is compared, whole.
    pub(crate) fn agent_of(&self, token: &[u8]) -> Option<&AgentKey> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let hash = hash_of(token);
        let mut found = u64::MAX;
        for (index, entry) in (0..).zip(&self.0) {
            found.conditional_assign(&index, entry.hash.ct_eq(&hash));
        }
        let entry = self.0.get(usize::try_from(found).ok()?)?;
        Some(&entry.agent)
    }
}

impl Entry {
    /// One line: `sha256:HEX agent`. The name is all that follows, so it may hold spaces.
    fn parse(line: &str) -> Result<Self, &'static str> {
        let (hash, agent) = line
            .split_once([' ', '\t'])
            .map_or((line, ""), |(hash, agent)| (hash, agent.trim_start()));
        let hash = hash
            .strip_prefix(PREFIX)
            .and_then(from_hex)
            .ok_or(
                "expected `sha256:` with 64 hex digits, as `sekuire-gateway hash-token` prints it, then the agent's \
                 name; never the token itself",
            )?;
        if agent.is_empty() {
            return Err("the agent's name is missing after the token's hash");
        }
        if agent.len() > MAX_NAME {
            return Err("the agent's name is longer than 256 bytes");
        }
        if agent.contains(char::is_control) {
            return Err("the agent's name holds a control character");
        }
        if agent.starts_with('#') || agent.contains(" #") || agent.contains("\t#") {
            return Err("a comment stands on a line of its own");
        }
        Ok(Self {
            hash,
            agent: AgentKey::new(agent),
        })
    }
}

/// `hash-token`: prints the form in which the file keeps the token on standard input.
///
/// From there and not from an argument, which other users and the shell's history would see.
pub(crate) fn run() -> ExitCode {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        tell("type the token, then Enter and Ctrl-D");
    }
    let mut bytes = Vec::new();
    // Room for a line's end.
    let limit = MAX_TOKEN as u64 + 3;
    if let Err(error) = stdin.lock().take(limit).read_to_end(&mut bytes) {
        return crate::refuse_to_run(&format_args!("standard input: {error}"));
    }
    let token = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let token = token.strip_suffix(b"\r").unwrap_or(token);
    if let Err(reason) = sendable(token) {
        return crate::refuse_to_run(&reason);
    }
    if token.len() < SHORT_TOKEN {
        tell(
            "this token is short, and what is short can be guessed from its hash; better is one from \
             `openssl rand -hex 32`",
        );
    }
    match crate::print(&format!("{}\n", shown(&hash_of(token)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::refuse_to_run(&error),
    }
}

/// Whether a client can send this after `Bearer `.
fn sendable(token: &[u8]) -> Result<(), &'static str> {
    if token.is_empty() {
        return Err("no token on standard input");
    }
    if token.len() > MAX_TOKEN {
        return Err("the token is longer than 1024 bytes");
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("a token is one line of visible ASCII without spaces");
    }
    Ok(())
}

/// To the person at the terminal; nothing depends on its being read.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "sekuire-gateway: {text}");
}

fn hash_of(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

fn shown(hash: &Hash) -> String {
    let mut text = PREFIX.to_owned();
    for byte in hash {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn from_hex(text: &str) -> Option<Hash> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut hash = Hash::default();
    if pairs.len() != hash.len() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    }
    Some(hash)
}

const PREFIX: &str = "sha256:";

/// Thousands of tokens; every request is compared with all of them.
const MAX_FILE: u64 = 1 << 20;

/// In bytes. Longer ones aren't hashed, which would be work for a stranger.
const MAX_TOKEN: usize = 1024;

const SHORT_TOKEN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(token: &str, agent: &str) -> String {
        format!("{} {agent}\n", shown(&hash_of(token.as_bytes())))
    }

    fn table(text: &str) -> TokenTable {
        TokenTable::parse(text).unwrap()
    }

    #[test]
    fn a_hash_is_the_usual_one() {
        assert_eq!(
            shown(&hash_of(b"abc")),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            from_hex("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"),
            Some(hash_of(b"abc"))
        );
    }

    #[test]
    fn a_token_finds_its_agent_wherever_it_stands() {
        let table = table(&format!(
            "\u{feff}# who\n\n{}  {}\t{}# end",
            line("one", "writer"),
            line("two", "Research Assistant"),
            line("three", "writer"),
        ));
        assert_eq!(table.len(), 3);
        for (token, agent) in [
            ("one", Some("writer")),
            ("two", Some("Research Assistant")),
            ("three", Some("writer")),
            ("four", None),
            ("", None),
            ("one ", None),
        ] {
            let found = table.agent_of(token.as_bytes());
            assert_eq!(found.map(AgentKey::as_str), agent, "{token}");
        }
        assert!(table.agent_of(&[b'a'; 2000]).is_none());
    }

    #[test]
    fn windows_line_ends_are_line_ends() {
        let table = table(&line("one", "writer").replace('\n', "\r\n"));
        assert_eq!(table.agent_of(b"one").map(AgentKey::as_str), Some("writer"));
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_and_not_repeated() {
        let hash = shown(&hash_of(b"secret"));
        let long = "a".repeat(257);
        for (bad, reason) in [
            ("secret writer".to_owned(), "expected `sha256:`"),
            ("secret".to_owned(), "expected `sha256:`"),
            ("sha256:secret writer".to_owned(), "expected `sha256:`"),
            (format!("{hash}0 writer"), "expected `sha256:`"),
            (format!("{hash}é writer"), "expected `sha256:`"),
            (hash.replacen("sha256", "SHA256", 1) + " a", "expected"),
            (hash.replacen(':', ":+", 1) + " a", "expected"),
            (hash.clone(), "name is missing"),
            (format!("{hash} {long}"), "longer than 256"),
            (format!("{hash} wri\u{7}ter"), "control character"),
            (format!("{hash} writer # the first"), "line of its own"),
            (format!("{hash} # the first"), "line of its own"),
        ] {
            let text = format!("# a comment\n\n{}{bad}\n", line("other", "reader"));
            let error = TokenTable::parse(&text).unwrap_err();
            assert!(error.starts_with("line 4: "), "{error}");
            assert!(error.contains(reason), "{bad}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_token_stands_for_one_agent_and_a_file_has_one() {
        let twice = [line("one", "writer"), line("one", "reader")].concat();
        assert_eq!(
            TokenTable::parse(&twice).unwrap_err(),
            "line 2: the same token as in line 1"
        );
        for empty in ["", "# none\n"] {
            assert!(TokenTable::parse(empty).unwrap_err().contains("no token"));
        }
    }

    #[test]
    fn a_table_shows_no_hash() {
        let table = table(&line("abc", "writer"));
        assert_eq!(format!("{table:?}"), "TokenTable { tokens: 1, .. }");
    }

    #[test]
    fn a_token_is_what_a_header_can_carry() {
        for token in ["a", "sk-1_2.3~+/=", &"a".repeat(MAX_TOKEN)] {
            assert_eq!(sendable(token.as_bytes()), Ok(()));
        }
        for token in ["", "a b", "a\nb", "ä", "\t", &"a".repeat(MAX_TOKEN + 1)] {
            assert!(sendable(token.as_bytes()).is_err(), "{token}");
        }
    }
}
