//! The answers that the gateway gives itself, in the form that OpenAI clients raise as their own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

/// A request that goes no further, and what its client is told.
///
/// The layer answers violations of the policy itself; these are the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    /// The request is on a way round the policy.
    pub(crate) fn endpoint(message: &str) -> Self {
        Self::forbidden("policy_violation", "endpoint_not_allowed", message)
    }

    /// The request isn't addressed to this gateway.
    pub(crate) fn host(message: &str) -> Self {
        Self::forbidden("invalid_request_error", "host_not_allowed", message)
    }

    /// The request doesn't come from an agent that there is.
    pub(crate) fn agent(message: &str) -> Self {
        Self::forbidden("invalid_request_error", "agent_not_allowed", message)
    }

    /// No valid token. Missing and wrong aren't told apart.
    pub(crate) fn unauthenticated() -> Self {
        Self::request(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "the gateway knows its clients by token: send one of its own as the API key, in Authorization: Bearer",
        )
    }

    fn forbidden(kind: &'static str, code: &'static str, message: &str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            kind,
            code,
            message: message.to_owned(),
        }
    }

    /// The request can't be understood as it was sent.
    pub(crate) fn request(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code,
            message: message.to_owned(),
        }
    }

    /// No answer came from the upstream. Says no more: the cause may hold addresses, and belongs
    /// in the log.
    pub(crate) fn upstream_unreachable() -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            kind: "upstream_error",
            code: "upstream_unreachable",
            message: "the upstream could not be reached, or gave no answer".to_owned(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let body = json!({
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": null,
                "code": self.code,
            }
        });
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            // What RFC 9110 (15.5.2) requires of such an answer.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // A refusal stays one however often it is asked for; an upstream may come back.
        if self.status.is_client_error() {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
