//! Batch files: every line is a request of its own
//! (<https://platform.openai.com/docs/api-reference/batch/request-input>).

use std::borrow::Cow;

use super::endpoint::{Class, Request, classify};
use super::error::{Result, WireError};
use super::json::{Kind, Reader, Scratch};
use super::request::{self, RequestFacts};

/// Reads the lines of a batch file; calls `each` with what every one of them asks for.
///
/// # Errors
/// When a line is not exactly one request to an endpoint that runs a model and can be read here.
pub(crate) fn read<'a>(
    file: &'a [u8],
    bases: &[String],
    mut each: impl FnMut(RequestFacts<'a>),
) -> Result<()> {
    let mut scratch = Scratch::default();
    for line in file.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            continue;
        }
        let (method, url, body) = read_line(line, &mut scratch)?;
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let endpoint = classify(&method, path, bases)
            .map_err(|_| WireError::new("a line of the batch is no request to a known endpoint"))?;
        let (Class::Model, Request::Json(fields) | Request::Form(fields)) =
            (endpoint.class, endpoint.request)
        else {
            return Err(WireError::new(
                "a line of the batch is a request that can't be inspected",
            ));
        };
        let mut facts = request::read(line.get(body).unwrap_or_default(), fields, &mut scratch)?;
        // A deployment in a line's path is a model too.
        facts
            .more_models
            .extend(endpoint.deployment.map(Cow::Owned));
        each(facts);
    }
    Ok(())
}

fn read_line(
    line: &[u8],
    scratch: &mut Scratch,
) -> Result<(String, String, std::ops::Range<usize>)> {
    let (mut method, mut url, mut body) = (None, None, None);
    let mut reader = Reader::new(line, scratch)?;
    if reader.kind()? != Kind::Object {
        return Err(WireError::new("a line of the batch is not an object"));
    }
    reader.object(|r, key| {
        match key {
            "method" => method = Some(r.string()?.into_owned()),
            "url" => url = Some(r.string()?.into_owned()),
            "body" => {
                if r.kind()? != Kind::Object {
                    return Err(WireError::new("a batched request's body is not an object"));
                }
                let start = r.position();
                r.skip()?;
                body = Some(start..r.position());
            }
            other if super::json::is_case_variant(other, &["body", "method", "url"]) => {
                return Err(WireError::at(
                    "a key that is a known key in another case",
                    r.position(),
                ));
            }
            _ => r.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    match (method, url, body) {
        (Some(method), Some(url), Some(body)) => Ok((method, url, body)),
        _ => Err(WireError::new(
            "a line of the batch lacks its method, url or body",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(file: &str) -> Result<Vec<Option<String>>> {
        let mut models = Vec::new();
        read(file.as_bytes(), &[], |facts| {
            models.push(facts.model.map(Cow::into_owned))
        })?;
        Ok(models)
    }

    const LINE: &str = r#"{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o"}}"#;

    #[test]
    fn every_line_is_read_as_its_own_request() {
        let second = LINE
            .replace("chat/completions", "responses")
            .replace("gpt-4o", "o3");
        assert_eq!(
            models(&format!("{LINE}\r\n{second}")),
            Ok(vec![Some("gpt-4o".into()), Some("o3".into())])
        );
        assert_eq!(
            models(&format!("{LINE}\n\n")),
            Ok(vec![Some("gpt-4o".into())])
        );
    }

    #[test]
    fn one_line_that_can_not_be_read_refuses_the_file() {
        for bad in [
            LINE.replace("POST", "GET"),
            LINE.replace("/v1/chat/completions", "/v1/files"),
            LINE.replace("/v1/chat/completions", "/v1//chat/completions"),
            LINE.replace("\"method\"", "\"Method\""),
            LINE.replace(
                "{\"model\":\"gpt-4o\"}",
                "{\"model\":\"gpt-4o\",\"model\":\"o3\"}",
            ),
            LINE.replace("{\"model\":\"gpt-4o\"}", "null"),
            format!("\u{feff}{LINE}"),
            "[]".to_owned(),
            "{}".to_owned(),
            format!("{LINE}{LINE}"),
        ] {
            assert!(models(&format!("{LINE}\n{bad}\n")).is_err(), "{bad}");
        }
    }
}
