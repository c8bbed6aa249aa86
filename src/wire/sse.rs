//! Event streams: bytes to blocks, blocks to lines, lines to fields
//! (WHATWG HTML, section 9.2.6 "Interpreting an event stream").
//!
//! A *block* is what is released or held as one: the lines up to and including a blank line, or a comment line by
//! itself while no other line is waiting (nobody's event depends on it, so a keep-alive need not wait).
//! Lines end with LF, CRLF or CR, and any of them may be cut in two by the transport.

/// Finds where blocks end, over any cutting of the stream into slices.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// The next byte is the first of its line.
    at_line_start: bool,
    /// The next byte is the first of its block.
    at_block_start: bool,
    /// The last line ended with CR at the end of a slice: an LF that follows belongs to it.
    after_cr: bool,
    /// The line begun is a comment.
    in_comment: bool,
    /// No line but comments since the block began.
    only_comments: bool,
}

impl Scanner {
    pub(crate) const fn new() -> Self {
        Self {
            at_line_start: true,
            at_block_start: true,
            after_cr: false,
            in_comment: false,
            only_comments: true,
        }
    }

    /// The next byte is the first of a block, whatever it is.
    pub(crate) const fn is_at_start(&self) -> bool {
        self.at_block_start && !self.after_cr
    }

    const fn start_block(&mut self) {
        self.at_line_start = true;
        self.at_block_start = true;
        self.only_comments = true;
    }

    /// Scans the bytes that follow those scanned before, up to the next end of a block: the number of bytes up to
    /// and including it, or `None` when all of `bytes` belong to a block that goes on.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            if bytes.first() == Some(&b'\n') {
                if self.at_block_start {
                    return Some(1);
                }
                at = 1;
            }
        }
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let first = rest.first()?;
            if self.at_line_start {
                self.in_comment = *first == b':';
            }
            self.at_block_start = false;
            let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.at_line_start = false;
                return None;
            };
            let blank = self.at_line_start && length == 0;
            let end = at + length + 1;
            let (mut next, cr) = (end, rest.get(length) == Some(&b'\r'));
            if cr {
                match bytes.get(end) {
                    Some(b'\n') => next = end + 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.only_comments &= self.in_comment || blank;
            if blank || self.only_comments {
                self.start_block();
                return Some(next);
            }
            self.at_line_start = true;
            at = next;
        }
    }
}

/// The lines of a block, without their ends, and where each begins.
pub(crate) fn lines(block: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = block.len() - rest.len();
        let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
            return Some((start, std::mem::take(&mut rest)));
        };
        let (line, end) = rest.split_at_checked(length)?;
        rest = end
            .strip_prefix(b"\r\n")
            .or_else(|| end.get(1..))
            .unwrap_or_default();
        Some((start, line))
    })
}

/// A line as every specified parser reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Blank,
    Comment,
    Data(&'a [u8]),
    /// `event`, `id`, `retry`, or a field that parsers ignore.
    Other,
}

pub(crate) fn line(bytes: &[u8]) -> Line<'_> {
    match bytes.first() {
        None => return Line::Blank,
        Some(b':') => return Line::Comment,
        Some(_) => {}
    }
    match bytes.strip_prefix(b"data") {
        Some([]) => Line::Data(&[]),
        Some([b':', value @ ..]) => Line::Data(value.strip_prefix(b" ").unwrap_or(value)),
        _ => Line::Other,
    }
}

/// Text in a line that is not data for specified parsers, but that some clients would take for a JSON payload: those
/// that trim lines, ignore case, search for `data:`, or parse any line that looks like JSON.
pub(crate) fn lenient_payloads(line: &str) -> impl Iterator<Item = &str> {
    let whole = std::iter::once(line.trim());
    let bytes = line.as_bytes();
    let after_data = memchr::memchr2_iter(b'd', b'D', bytes).filter_map(move |at| {
        let word = line.get(at..at + 4)?;
        if !word.eq_ignore_ascii_case("data") {
            return None;
        }
        line.get(at + 4..)?
            .trim_start()
            .strip_prefix(':')
            .map(str::trim)
    });
    whole
        .chain(after_data)
        .filter(|payload| payload.starts_with('{'))
}

/// Whether some line splitters would break this line in two: VT, FF, FS, GS, RS, NEL, U+2028 and U+2029 end lines in
/// Python's `splitlines`, and other control characters have no business outside data.
pub(crate) fn has_hidden_break(line: &str) -> bool {
    line.chars()
        .any(|c| (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(slices: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut scanner = Scanner::new();
        let (mut out, mut open) = (Vec::new(), Vec::new());
        for slice in slices {
            let mut rest = *slice;
            while let Some(length) = scanner.scan(rest) {
                open.extend_from_slice(&rest[..length]);
                out.push(std::mem::take(&mut open));
                rest = &rest[length..];
            }
            open.extend_from_slice(rest);
        }
        out.push(open);
        out
    }

    /// Blocks without the line feed that a carriage return at a slice's end may leave on its own.
    fn events(slices: &[&[u8]]) -> Vec<Vec<Vec<u8>>> {
        blocks(slices)
            .iter()
            .map(|block| {
                lines(block)
                    .map(|(_, line)| line.to_vec())
                    .filter(|line| !line.is_empty())
                    .collect::<Vec<_>>()
            })
            .filter(|lines| !lines.is_empty())
            .collect()
    }

    #[test]
    fn a_block_ends_at_its_blank_line_whatever_ends_lines() {
        assert_eq!(
            blocks(&[b"data: a\n\ndata: b\n\n"]),
            [&b"data: a\n\n"[..], b"data: b\n\n", b""]
        );
        assert_eq!(
            blocks(&[b"data: a\r\n\r\ndata: b\r\n"]),
            [&b"data: a\r\n\r\n"[..], b"data: b\r\n"]
        );
        assert_eq!(
            blocks(&[b"data: a\r\rdata: b\r\r"]),
            [&b"data: a\r\r"[..], b"data: b\r\r", b""]
        );
        assert_eq!(
            blocks(&[b"data: a\r\r", b"\ndata: b\n\n"]),
            [&b"data: a\r\r"[..], b"\n", b"data: b\n\n", b""]
        );
        assert_eq!(blocks(&[b"\n\n"]), [&b"\n"[..], b"\n", b""]);
    }

    #[test]
    fn a_comment_on_its_own_waits_for_nothing() {
        assert_eq!(
            blocks(&[b": ping\ndata: a\n: x\n\n"]),
            [&b": ping\n"[..], b"data: a\n: x\n\n", b""]
        );
        assert_eq!(
            blocks(&[b":", b" ping\r", b"\n\n"]),
            [&b": ping\r"[..], b"\n", b"\n", b""]
        );
    }

    #[test]
    fn every_cut_finds_the_same_lines() {
        for text in [
            "data: a\r\n\r\ndata: b\r\rdata: c\n\n: k\r\nid\rdata\n\r",
            "\r\n\r\n\n\rdata: x\r\n\n:\n",
        ] {
            let whole = events(&[text.as_bytes()]);
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let (a, rest) = text.as_bytes().split_at(first);
                    let (b, c) = rest.split_at(second - first);
                    assert_eq!(
                        events(&[a, b, b"", c]),
                        whole,
                        "{text:?} at {first} and {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_space_after_the_colon_goes() {
        assert_eq!(line(b"data: {}"), Line::Data(b"{}"));
        assert_eq!(line(b"data:{}"), Line::Data(b"{}"));
        assert_eq!(line(b"data:  {}"), Line::Data(b" {}"));
        assert_eq!(line(b"data"), Line::Data(b""));
        for other in [
            &b"datax: 1"[..],
            b" data: 1",
            b"DATA: 1",
            b"data : 1",
            b"event: x",
        ] {
            assert_eq!(line(other), Line::Other);
        }
    }

    #[test]
    fn what_lenient_clients_take_for_data_is_found() {
        for text in [
            " data: {}",
            "data : {}",
            "DATA:{}",
            "{}",
            " {}",
            ": data: {}",
            "xdata:{}",
            "\u{a0}data\u{3000}: {}",
        ] {
            assert_eq!(lenient_payloads(text).next(), Some("{}"), "{text}");
        }
        for text in ["event: x", ": ping", "id: {", "data: [DONE]", "retry: 5"] {
            assert_eq!(lenient_payloads(text).next(), None, "{text}");
        }
    }
}
