//! The error bodies and events that OpenAI's SDKs raise as their own
//! (<https://platform.openai.com/docs/guides/error-codes>).

use bytes::Bytes;
use serde_json::json;

/// The members of an error object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorObject<'a> {
    pub(crate) message: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) param: Option<&'a str>,
    pub(crate) code: &'a str,
}

impl ErrorObject<'_> {
    fn document(self) -> String {
        // The serializer escapes line ends, so a foreign value can't start a line of its own in an event.
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}).to_string()
    }

    /// The body of an HTTP error answer.
    pub(crate) fn body(self) -> Bytes {
        self.document().into()
    }

    /// The last event of a streamed response, which has this number. SDKs differ on whether they look for the error's
    /// members at the top or below `error`, so they stand in both places.
    pub(crate) fn responses_event(self, sequence: u64) -> Bytes {
        let error = json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code});
        let event = json!({
            "type": "error",
            "sequence_number": sequence,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "error": error,
        });
        format!("event: error\ndata: {event}\n\n").into()
    }

    /// The last event of any other stream, such as of a chat stream. No `[DONE]` may follow: it would end some clients' iteration silently.
    pub(crate) fn chat_event(self) -> Bytes {
        format!("data: {}\n\n", self.document()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_value_can_not_forge_an_event() {
        let error = ErrorObject {
            message: "Tool x\n\ndata: {} is blocked",
            kind: "policy_violation",
            param: None,
            code: "tool_blocked",
        };
        let event = String::from_utf8(error.chat_event().to_vec()).unwrap();
        assert_eq!(event.matches('\n').count(), 2);
        assert!(event.starts_with("data: {\"error\":{") && event.ends_with("}}\n\n"));
    }
}
