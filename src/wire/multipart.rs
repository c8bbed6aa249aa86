//! Forms: `multipart/form-data` read so strictly that every server reads the same fields (RFC 7578, RFC 2046).

use super::error::{Result, WireError};

/// A form of more parts is no API call.
const MAX_PARTS: usize = 1_024;

/// One field of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) name: &'a str,
    /// It is a file, or is typed as something other than plain text.
    pub(crate) file: bool,
    pub(crate) content: &'a [u8],
}

/// The boundary that a content type names, when it is a `multipart/form-data` with exactly one.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = None;
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("boundary") {
            // A charset changes how some servers read names.
            return None;
        }
        let value = value.trim();
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
        if found.is_some() || value.is_empty() || value.len() > 70 || !value.bytes().all(plain) {
            return None;
        }
        found = Some(value);
    }
    found
}

/// Reads a form.
///
/// # Errors
/// When it is not exactly a list of plain parts between boundaries.
pub(crate) fn read<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>> {
    let delimiter = format!("\r\n--{boundary}");
    let opening = delimiter.trim_start();
    let mut rest = body
        .strip_prefix(opening.as_bytes())
        .ok_or(WireError::new("the form does not begin with its boundary"))?;
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return match end {
                [] | b"\r\n" => Ok(parts),
                _ => Err(WireError::new("more follows after the form")),
            };
        }
        rest = rest.strip_prefix(b"\r\n").ok_or(WireError::new(
            "a form's boundary is followed by other bytes",
        ))?;
        let length = finder
            .find(rest)
            .ok_or(WireError::new("the form has no final boundary"))?;
        let (part, after) = rest
            .split_at_checked(length)
            .ok_or(WireError::new("the form has no final boundary"))?;
        if parts.len() >= MAX_PARTS {
            return Err(WireError::new("more than 1024 form fields"));
        }
        parts.push(read_part(part)?);
        rest = after.get(delimiter.len()..).unwrap_or_default();
    }
}

fn read_part(part: &[u8]) -> Result<Part<'_>> {
    // A part without headers begins with its blank line.
    let end = memchr::memmem::find(part, b"\r\n\r\n")
        .ok_or(WireError::new("a form field without headers"))?;
    let headers = part.get(..end).unwrap_or_default();
    let content = part.get(end + 4..).unwrap_or_default();
    let headers = std::str::from_utf8(headers)
        .map_err(|_| WireError::new("a form field's header is not UTF-8"))?;
    let (mut name, mut file, mut typed) = (None, false, false);
    for line in headers.split("\r\n") {
        let (header, value) = line
            .split_once(':')
            .ok_or(WireError::new("a form field's header is malformed"))?;
        if line.contains(['\r', '\n', '\0']) || header.is_empty() || header.contains([' ', '\t']) {
            return Err(WireError::new("a form field's header is malformed"));
        }
        match header.to_ascii_lowercase().as_str() {
            "content-disposition" if name.is_none() => {
                let (found, is_file) = disposition(value.trim())?;
                name = Some(found);
                file |= is_file;
            }
            "content-type" if !typed => {
                typed = true;
                file |= !value.trim().to_ascii_lowercase().starts_with("text/plain");
            }
            "content-length" => {}
            _ => {
                return Err(WireError::new(
                    "a form field has a header that changes how it is read",
                ));
            }
        }
    }
    let name = name.ok_or(WireError::new("a form field without a name"))?;
    Ok(Part {
        name,
        file,
        content,
    })
}

/// `form-data; name="x"` with an optional `filename="y"`, in exactly this form.
fn disposition(value: &str) -> Result<(&str, bool)> {
    const BAD: WireError =
        WireError::new("a form field's name is not written as `form-data; name=\"...\"`");
    let rest = value.strip_prefix("form-data;").ok_or(BAD)?;
    let (name, rest) = quoted(rest, "name").ok_or(BAD)?;
    if rest.is_empty() {
        return Ok((name, false));
    }
    let (_, rest) = quoted(rest.strip_prefix(';').ok_or(BAD)?, "filename").ok_or(BAD)?;
    // The RFC 5987 form of the file's name, which says nothing about the field.
    let extended = rest
        .strip_prefix(';')
        .map(str::trim)
        .is_some_and(|rest| rest.starts_with("filename*=") && !rest.contains(';'));
    if rest.is_empty() || extended {
        Ok((name, true))
    } else {
        Err(BAD)
    }
}

fn quoted<'a>(text: &'a str, key: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.trim_start().strip_prefix(key)?.strip_prefix("=\"")?;
    let (value, rest) = rest.split_once('"')?;
    // Servers disagree on escapes in names.
    let plain =
        !value.contains('\\') && !(key == "name" && (value.is_empty() || value.contains('%')));
    plain.then_some((value, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &str) -> String {
        format!("{}--B--\r\n", parts.replace('\n', "\r\n"))
    }

    fn fields(body: &str) -> Result<Vec<(String, bool, String)>> {
        let parts = read(body.as_bytes(), "B")?;
        Ok(parts
            .iter()
            .map(|part| {
                (
                    part.name.to_owned(),
                    part.file,
                    String::from_utf8(part.content.to_vec()).unwrap(),
                )
            })
            .collect())
    }

    #[test]
    fn a_plain_form_is_read() {
        let body = form(
            "--B\nContent-Disposition: form-data; name=\"model\"\n\nwhisper-1\n--B\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\nContent-Type: audio/wav\n\n\r\n--X\n",
        );
        assert_eq!(
            fields(&body),
            Ok(vec![
                ("model".into(), false, "whisper-1".into()),
                ("file".into(), true, "\r\r\n--X".into())
            ])
        );
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        let field =
            |disposition: &str| form(&format!("--B\nContent-Disposition: {disposition}\n\nx\n"));
        for disposition in [
            "form-data; name=model",
            "form-data; Name=\"model\"",
            "form-data; name=\"model\"; name=\"x\"",
            "form-data; name*=UTF-8''model",
            "form-data; filename=\"x\"; name=\"model\"",
            "attachment; name=\"model\"",
            "form-data; name=\"mo\\del\"",
            "form-data; name=\"%6dodel\"",
            "form-data; name=\"\"",
            "form-data",
        ] {
            assert!(fields(&field(disposition)).is_err(), "{disposition}");
        }
        let good = "--B\nContent-Disposition: form-data; name=\"model\"\n\nx\n";
        assert!(fields(&form(good)).is_ok());
        for body in [
            format!("preamble\r\n{}", form(good)),
            good.replace('\n', "\r\n"),
            format!("{good}--B--\n"),
            format!("{}epilogue", form(good)),
            form(
                "--B\nContent-Disposition: form-data; name=\"model\"\nContent-Transfer-Encoding: base64\n\nx\n",
            ),
            form(
                "--B\nContent-Disposition: form-data; name=\"a\"\nContent-Disposition: form-data; name=\"b\"\n\nx\n",
            ),
            form("--B\n\nx\n"),
            String::new(),
        ] {
            assert!(fields(&body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn the_boundary_is_the_only_parameter() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some("abc"));
        assert_eq!(
            boundary("Multipart/Form-Data; Boundary=\"a-b\""),
            Some("a-b")
        );
        for bad in [
            "multipart/form-data",
            "multipart/mixed; boundary=a",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; charset=utf-16",
        ] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }
}
