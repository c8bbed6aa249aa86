//! Asking for a stream's usage: one member written into the request, every other byte as it came.
//!
//! A stream of chat chunks reports what it used only when `stream_options.include_usage` asks for it
//! (<https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options>), and a client could switch
//! that off to be charged an estimate.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{Result, WireError};
use super::json::{Kind, Reader, Span, is_case_variant};

/// Whether a request asks for the stream's usage, and where it says so. Places are in bytes from the body's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum UsageAsked {
    /// The request has no `stream_options`.
    #[default]
    Nowhere,
    /// `stream_options` stands here and is no object.
    NoOptions(Span),
    /// `stream_options` is an object that begins here, and says nothing of usage.
    Unsaid { object: usize, empty: bool },
    /// `include_usage` stands here and is not `true`.
    No(Span),
    /// `include_usage` is `true`.
    Yes,
}

/// Reads the value of `stream_options`.
///
/// # Errors
/// When it is not strict JSON.
pub(crate) fn read(r: &mut Reader<'_, '_>) -> Result<UsageAsked> {
    let kind = r.kind()?;
    let start = r.position();
    if kind != Kind::Object {
        r.skip()?;
        return Ok(UsageAsked::NoOptions(Span {
            start,
            end: r.position(),
        }));
    }
    let (mut asked, mut empty) = (None, true);
    r.object(|r, key| {
        empty = false;
        if key != "include_usage" {
            if is_case_variant(key, &["include_usage"]) {
                return Err(WireError::at(
                    "a key that is a known key in another case",
                    r.position(),
                ));
            }
            return r.skip();
        }
        let kind = r.kind()?;
        let start = r.position();
        asked = Some(if kind == Kind::Bool && r.boolean()? {
            UsageAsked::Yes
        } else {
            if kind != Kind::Bool {
                r.skip()?;
            }
            UsageAsked::No(Span {
                start,
                end: r.position(),
            })
        });
        Ok(())
    })?;
    Ok(asked.unwrap_or(UsageAsked::Unsaid {
        object: start,
        empty,
    }))
}

/// The body of a request that asks for the stream's usage; `None` if this one does.
///
/// INVARIANT: `body` is an object with at least one member, and `asked` was read from it.
pub(crate) fn ask_for_usage(body: &[u8], asked: UsageAsked) -> Option<Bytes> {
    const ASKED: &[u8] = br#""include_usage":true"#;
    let (place, before, after): (_, &[u8], &[u8]) = match asked {
        UsageAsked::Yes => return None,
        UsageAsked::Nowhere => {
            let inside = body.iter().position(|byte| *byte == b'{')? + 1;
            (inside..inside, br#""stream_options":{"#, b"},")
        }
        UsageAsked::NoOptions(Span { start, end }) => (start..end, b"{", b"}"),
        UsageAsked::Unsaid { object, empty } => {
            let inside = object + 1;
            (inside..inside, b"", if empty { b"" } else { b"," })
        }
        UsageAsked::No(Span { start, end }) => {
            let mut asking = BytesMut::with_capacity(body.len() + 4);
            asking.put_slice(body.get(..start)?);
            asking.put_slice(b"true");
            asking.put_slice(body.get(end..)?);
            return Some(asking.freeze());
        }
    };
    let more = before.len() + ASKED.len() + after.len();
    let mut asking = BytesMut::with_capacity(body.len() + more);
    asking.put_slice(body.get(..place.start)?);
    asking.put_slice(before);
    asking.put_slice(ASKED);
    asking.put_slice(after);
    asking.put_slice(body.get(place.end..)?);
    Some(asking.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::fields::CHAT;
    use super::super::json::Scratch;
    use super::super::request;
    use super::*;

    fn asking(body: &str) -> Option<String> {
        let facts = request::read(body.as_bytes(), CHAT, &mut Scratch::default()).unwrap();
        let asking = ask_for_usage(body.as_bytes(), facts.usage_asked)?;
        let asking = String::from_utf8(asking.to_vec()).unwrap();
        let again = request::read(asking.as_bytes(), CHAT, &mut Scratch::default()).unwrap();
        assert_eq!(again.usage_asked, UsageAsked::Yes, "{asking}");
        Some(asking)
    }

    #[test]
    fn only_what_asks_for_usage_is_written() {
        for (body, expected) in [
            (
                r#" {"model":"m"}"#,
                r#" {"stream_options":{"include_usage":true},"model":"m"}"#,
            ),
            (
                r#"{ "stream_options" : null , "model":"m"}"#,
                r#"{ "stream_options" : {"include_usage":true} , "model":"m"}"#,
            ),
            (
                r#"{"stream_options": { } }"#,
                r#"{"stream_options": {"include_usage":true } }"#,
            ),
            (
                r#"{"stream_options":{"x":[1, 2]}}"#,
                r#"{"stream_options":{"include_usage":true,"x":[1, 2]}}"#,
            ),
            (
                r#"{"stream_options":{"x":1,"include_usage": false }}"#,
                r#"{"stream_options":{"x":1,"include_usage": true }}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":null}}"#,
                r#"{"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":"true"},"a":"\u4f60"}"#,
                r#"{"stream_options":{"include_usage":true},"a":"\u4f60"}"#,
            ),
            (
                r#"{"stream_options":{"include\u005fusage":0}}"#,
                r#"{"stream_options":{"include\u005fusage":true}}"#,
            ),
            (
                r#"{"stream_options":"no"}"#,
                r#"{"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(asking(body).as_deref(), Some(expected));
        }
        assert_eq!(asking(r#"{"stream_options":{"include_usage":true}}"#), None);
    }
}
