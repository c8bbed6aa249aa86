//! A response that runs in the background: which it is, and whether it has ended
//! (<https://platform.openai.com/docs/guides/background>).

use super::error::Result;
use super::json::{Kind, Reader, Scratch};

/// A response as a document tells it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: String,
    /// It is neither queued nor in progress: what it used is known.
    pub(crate) ended: bool,
}

/// Reads a response; one without an id is no run.
pub(crate) fn read(document: &[u8]) -> Option<Run> {
    read_run(document).ok().filter(|run| !run.id.is_empty())
}

fn read_run(document: &[u8]) -> Result<Run> {
    let mut scratch = Scratch::default();
    let mut reader = Reader::new(document, &mut scratch)?;
    let mut run = Run::default();
    reader.object(|r, key| {
        if !matches!(key, "id" | "status") || r.kind()? != Kind::String {
            return r.skip();
        }
        let text = r.string()?;
        if key == "id" {
            run.id = text.into_owned();
        } else {
            run.ended = !matches!(&*text, "queued" | "in_progress");
        }
        Ok(())
    })?;
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_ended_when_its_status_says_so() {
        for (status, ended) in [
            ("queued", false),
            ("in_progress", false),
            ("completed", true),
            ("failed", true),
            ("incomplete", true),
            ("cancelled", true),
        ] {
            let document = format!(r#"{{"object":"response","status":"{status}","id":"resp_1"}}"#);
            let id = "resp_1".to_owned();
            assert_eq!(read(document.as_bytes()), Some(Run { id, ended }));
        }
        assert_eq!(read(b"{}"), None);
        assert_eq!(read(b"[]"), None);
        assert_eq!(read(br#"{"id":7}"#), None);
    }
}
