//! Where a JSON string ends (RFC 8259 section 7), and what its escapes spell.
//!
//! Strings are most of what agents send and get, so they are searched sixteen bytes at a time for what is special in them:
//! the closing quote, backslashes, and the control characters that a string must not hold.

use wide::u8x16;

/// How a string is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Its text is between the quotes.
    Plain,
    Escaped,
    /// It is no string, or no text.
    Bad,
}

/// What [`scan`] found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanned {
    /// The place of the closing quote, or of what is wrong.
    pub(super) end: usize,
    pub(super) how: How,
}

/// Bytes of a block, whose marks fit a word.
const BLOCK: usize = 32;
/// After so many blocks without anything special comes a long stretch without, such as an image.
const FAR: usize = 16;
/// Long stretches are searched in windows of this many bytes, which stay in the nearest cache from one look to the next.
const WINDOW: usize = 8 * 1024;

/// A bit for each byte.
#[derive(Clone, Copy)]
struct Marks {
    /// Quotes, backslashes and control characters.
    special: u32,
    /// Bytes beyond ASCII.
    high: u32,
}

#[inline(always)]
fn marks(bytes: [u8; 16]) -> Marks {
    let bytes = u8x16::from(bytes);
    let is = |byte: u8| bytes.simd_eq(u8x16::splat(byte));
    let control = bytes.simd_eq(bytes.min(u8x16::splat(0x1f)));
    Marks {
        special: (is(b'"') | is(b'\\') | control).to_bitmask(),
        high: bytes.to_bitmask(),
    }
}

// Where the compiler sees what becomes of the marks, it takes them apart into single bits.
#[inline(never)]
fn marks_of_block(block: &[u8; BLOCK]) -> Marks {
    let (halves, _) = block.as_chunks();
    match halves {
        [first, second] => {
            let (first, second) = (marks(*first), marks(*second));
            Marks {
                special: first.special | second.special << 16,
                high: first.high | second.high << 16,
            }
        }
        _ => Marks {
            special: u32::MAX,
            high: 0,
        },
    }
}

/// The marks of the first bytes, of which there are fewer than this.
const fn below(marks: u32, place: usize) -> u32 {
    marks & !(u32::MAX << place)
}

/// Finds the end of the string whose contents begin these bytes.
#[inline(always)]
pub(super) fn scan(bytes: &[u8]) -> Scanned {
    // Most strings are short, plain and end here.
    let Some(sixteen) = bytes.first_chunk() else {
        return scan_on(bytes, 0, true);
    };
    let Marks { special, high } = marks(*sixteen);
    if special == 0 {
        return scan_on(bytes, 16, high == 0);
    }
    let end = special.trailing_zeros() as usize;
    if bytes.get(end) == Some(&b'"') && below(high, end) == 0 {
        return Scanned {
            end,
            how: How::Plain,
        };
    }
    scan_on(bytes, 0, true)
}

/// The place of the quote that ends the string whose contents begin these bytes, if it is one.
#[inline(always)]
pub(super) fn end(bytes: &[u8]) -> Option<usize> {
    let scanned = scan(bytes);
    (scanned.how != How::Bad).then_some(scanned.end)
}

/// As [`scan`], of a string whose first `at` bytes are nothing special.
#[inline(never)]
fn scan_on(bytes: &[u8], mut at: usize, mut is_ascii: bool) -> Scanned {
    let mut how = How::Plain;
    let mut plain_blocks = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Marks { mut special, high } = match rest.first_chunk() {
            Some(block) => marks_of_block(block),
            None => {
                // What isn't there reads as control characters.
                let mut block = [0; BLOCK];
                for (to, from) in block.iter_mut().zip(rest) {
                    *to = *from;
                }
                marks_of_block(&block)
            }
        };
        if special == 0 {
            is_ascii &= high == 0;
            at += BLOCK;
            plain_blocks += 1;
            if plain_blocks == FAR {
                plain_blocks = 0;
                at += plain_stretch(bytes.get(at..).unwrap_or_default(), &mut is_ascii);
            }
            continue;
        }
        plain_blocks = 0;
        loop {
            let place = special.trailing_zeros() as usize;
            let bad = Scanned {
                end: at + place,
                how: How::Bad,
            };
            let length = match rest.get(place) {
                Some(b'"') => {
                    let end = at + place;
                    is_ascii &= below(high, place) == 0;
                    let is_text = || std::str::from_utf8(bytes.get(..end)?).ok();
                    return match is_ascii || is_text().is_some() {
                        true => Scanned { end, how },
                        false => bad,
                    };
                }
                Some(b'\\') => match rest.get(place + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                    _ => match escape(rest.get(place..).unwrap_or_default()) {
                        Ok(length) => length,
                        Err(_) => return bad,
                    },
                },
                _ => return bad,
            };
            how = How::Escaped;
            let after = place + length;
            if after >= BLOCK {
                at += after;
                break;
            }
            special &= u32::MAX << after;
            if special == 0 {
                at += BLOCK;
                break;
            }
        }
        is_ascii &= high == 0;
    }
}

/// The length of the stretch without anything special that these bytes begin with, or of a part of it.
#[inline(never)]
fn plain_stretch(bytes: &[u8], is_ascii: &mut bool) -> usize {
    let mut length = 0;
    loop {
        let rest = bytes.get(length..).unwrap_or_default();
        let window = rest.get(..WINDOW).unwrap_or(rest);
        let end = memchr::memchr2(b'"', b'\\', window);
        let found = end.and_then(|end| window.get(..end)).unwrap_or(window);
        if !is_printable_ascii(found) {
            *is_ascii = false;
            if let Some(control) = found.iter().position(|byte| *byte < 0x20) {
                return length + control;
            }
        }
        length += found.len();
        if end.is_some() || window.len() == rest.len() {
            return length;
        }
    }
}

fn is_printable_ascii(bytes: &[u8]) -> bool {
    // As signed numbers control characters and all beyond ASCII are below the space, and less the space they are
    // negative: one subtraction a byte, which compilers turn into vector instructions.
    let signs = bytes.iter().fold(0, |signs, byte| {
        signs | byte.cast_signed().saturating_sub(b' '.cast_signed())
    });
    signs >= 0
}

/// The length of the escape that these bytes begin with, both halves of a surrogate pair included, or what is wrong
/// with it.
pub(super) fn escape(bytes: &[u8]) -> Result<usize, &'static str> {
    const BAD: &str = "not valid JSON: a bad escape";
    const HALF: &str = "half of a surrogate pair in a string";
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') => match hex4(bytes.get(2..6)).ok_or(BAD)? {
            0xD800..=0xDBFF => {
                let low = match bytes.get(6..8) {
                    Some(b"\\u") => hex4(bytes.get(8..12)),
                    _ => None,
                };
                match low {
                    Some(0xDC00..=0xDFFF) => Ok(12),
                    _ => Err(HALF),
                }
            }
            0xDC00..=0xDFFF => Err(HALF),
            _ => Ok(6),
        },
        _ => Err(BAD),
    }
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    digits?.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// Undoes the escapes of a string that was scanned before.
pub(super) fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(rest.get(..at)?);
        let escape = rest.get(at + 1..)?;
        let mut used = 1;
        out.push(match escape.as_bytes().first()? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let bytes = escape.as_bytes();
                let unit = hex4(bytes.get(1..5))?;
                used = 5;
                let code = if (0xD800..0xDC00).contains(&unit) {
                    used = 11;
                    let low = hex4(bytes.get(7..11))?.checked_sub(0xDC00)?;
                    0x1_0000 + ((unit - 0xD800) << 10) + low
                } else {
                    unit
                };
                char::from_u32(code)?
            }
            _ => return None,
        });
        rest = escape.get(used..)?;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Byte by byte, as RFC 8259 section 7 has it.
    fn slowly(bytes: &[u8]) -> Option<usize> {
        let end = (0..bytes.len()).find(|end| {
            let slashes = bytes[..*end].iter().rev().take_while(|b| **b == b'\\');
            bytes[*end] == b'"' && slashes.count() % 2 == 0
        })?;
        let quoted = [b"\"", &bytes[..=end]].concat();
        serde_json::from_slice::<String>(&quoted).ok().map(|_| end)
    }

    #[test]
    fn every_byte_at_every_place_is_told_apart() {
        // Up to the end of the second block, and with less than a block after it.
        for byte in 0..=u8::MAX {
            for at in 0..70 {
                for length in [70, 75, 130] {
                    let mut text = vec![b'a'; length];
                    text.extend_from_slice(b"\" and more");
                    text[at] = byte;
                    assert_eq!(end(&text), slowly(&text), "{byte:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_long_stretch_ends_where_something_special_is() {
        for length in [511, 512, 528, 529, 8_000, 9_000, 20_000] {
            for stop in ["\"", "\n", "\\n\"", "\\x", "é\"", "\u{1}\"", ""] {
                let text = "a".repeat(length) + stop + &"b".repeat(700) + "\"";
                assert_eq!(
                    end(text.as_bytes()),
                    slowly(text.as_bytes()),
                    "{length} {stop:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn contents_end_where_a_json_parser_ends_them(
            pieces in prop::collection::vec(
                prop_oneof![
                    "[a-z ]{0,9}", "[\u{4f60}\u{1f600}]{0,3}", Just("\\\\".to_owned()), Just("\\\"".to_owned()),
                    Just("\\u4f60".to_owned()), Just("\\ud83d\\ude00".to_owned()), Just("\\ud83d".to_owned()),
                    Just("\"".to_owned()), Just("\n".to_owned()), Just("\u{7f}".to_owned()),
                ],
                0..40
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let text = pieces.concat().into_bytes();
            let text = &text[..text.len() - cut.index(text.len().max(1)).min(3)];
            prop_assert_eq!(end(text), slowly(text));
        }
    }
}
