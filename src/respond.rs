//! The form in which a client meets a violation.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::enforcer::LimitUsage;
use crate::policy::LimitUnit;
use crate::violation::{PolicyViolation, Rule};
use crate::wire::endpoint::Format;
use crate::wire::refusal::ErrorObject;

/// The longest wait, in seconds, that every SDK honours before it tries again. The Node SDK ignores longer ones and
/// tries again at once.
const LONGEST_RETRY: u64 = 60;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Overrides what OpenAI's SDKs would do for a status by themselves.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What a client meets when the policy refuses its call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Respond {
    /// A Rust error: the service, or the body's next frame, fails with a [`PolicyViolation`] inside the error. It
    /// can't be mistaken for an answer and no retry layer takes it for a busy server.
    #[default]
    Error,
    /// An answer as OpenAI would give it: status 403 (429 for limits) with an error object, or an error event as the
    /// stream's last. Every OpenAI SDK raises it as its own typed error, and none retries a refusal. For
    /// gateways, and for clients that lose the sources of errors.
    ///
    /// The violation is also in the response's extensions.
    OpenAi,
    /// As [`Error`](Self::Error) while the answer's head is not released, as [`OpenAi`](Self::OpenAi) in a stream that has
    /// begun. For Rust clients that try again at a status of 429 and lose the sources of a body's errors.
    OpenAiInStream,
}

fn seconds(wait: Duration) -> u64 {
    // Rounded up, and never zero: an earlier attempt would be refused again.
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}

fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

const fn is_limit(violation: &PolicyViolation) -> bool {
    matches!(
        violation.rule(),
        Rule::RateLimitExceeded | Rule::TokenBudgetExceeded
    ) && !violation.is_after_the_call()
}

/// Waiting will help, soon enough for a client to do it.
fn is_worth_waiting(violation: &PolicyViolation) -> bool {
    is_limit(violation)
        && violation
            .retry_after()
            .is_some_and(|wait| seconds(wait) <= LONGEST_RETRY)
}

fn error_object(violation: &PolicyViolation) -> ErrorObject<'_> {
    let spent = is_limit(violation) && !is_worth_waiting(violation);
    ErrorObject {
        message: violation.message(),
        // The one type for which also the Rust SDK's retry layer gives up: it doesn't read `x-should-retry`, and would
        // sleep for all of `retry-after`.
        kind: if spent {
            "insufficient_quota"
        } else {
            "policy_violation"
        },
        param: violation.param(),
        code: violation.rule().as_str(),
    }
}

/// The whole answer to a refused call.
pub(crate) fn answer(violation: PolicyViolation) -> Response<Bytes> {
    let body = error_object(&violation).body();
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(wait) = violation.retry_after().filter(|_| is_limit(&violation)) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        if is_worth_waiting(&violation) {
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(milliseconds(wait)));
        }
    }
    if !is_worth_waiting(&violation) {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    *response.status_mut() = if is_limit(&violation) {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::FORBIDDEN
    };
    response.extensions_mut().insert(violation);
    response
}

/// Says what is left of the limits, as OpenAI's API does
/// (<https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>): of requests and of tokens, the limit
/// of which least is left. What the server said of its own limits is replaced.
pub(crate) fn state_limits(headers: &mut HeaderMap, usage: &[LimitUsage]) {
    for (unit, names) in [
        (LimitUnit::Requests, REQUEST_HEADERS),
        (LimitUnit::Tokens, TOKEN_HEADERS),
    ] {
        let [limit, remaining, reset] = names;
        for name in [&limit, &remaining, &reset] {
            headers.remove(name);
        }
        let counts = usage.iter().filter(|usage| usage.limit().unit() == unit);
        let Some(least) = counts.min_by_key(|usage| usage.remaining()) else {
            continue;
        };
        headers.insert(limit, HeaderValue::from(least.limit().max()));
        headers.insert(remaining, HeaderValue::from(least.remaining()));
        if let Ok(wait) = HeaderValue::from_str(&duration(least.reset())) {
            headers.insert(reset, wait);
        }
    }
}

const REQUEST_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKEN_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// A wait as OpenAI writes it, `1h2m3s` or `20ms`, rounded up.
fn duration(wait: Duration) -> String {
    if wait < Duration::from_secs(1) {
        return format!("{}ms", wait.as_nanos().div_ceil(1_000_000));
    }
    let seconds = wait
        .as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0));
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The last event of a stream that is cut off; `sequence` is its number, where the format numbers events.
pub(crate) fn event(violation: &PolicyViolation, format: Format, sequence: u64) -> Bytes {
    match format {
        Format::Responses => error_object(violation).responses_event(sequence),
        Format::Chat | Format::Any | Format::Media => error_object(violation).chat_event(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violation::Seen;

    fn headers(violation: PolicyViolation) -> (u16, Vec<(String, String)>, String) {
        let response = answer(violation);
        let mut headers: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .filter(|(name, _)| name != "content-type")
            .collect();
        headers.sort();
        (
            response.status().as_u16(),
            headers,
            String::from_utf8(response.into_body().to_vec()).unwrap(),
        )
    }

    #[test]
    fn waits_are_written_as_openai_writes_them() {
        for (milliseconds, expected) in [
            (0, "0ms"),
            (20, "20ms"),
            (1_000, "1s"),
            (59_001, "1m0s"),
            (60_000, "1m0s"),
            (3_723_000, "1h2m3s"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
        assert_eq!(duration(Duration::from_nanos(1)), "1ms");
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_refusal_is_a_403_that_nobody_retries() {
        let violation =
            PolicyViolation::new(Rule::ModelBlocked, Seen::Request, "Model x is not allowed")
                .with_param("model");
        assert_eq!(
            headers(violation),
            (403, vec![pair("x-should-retry", "false")], r#"{"error":{"code":"model_blocked","message":"Model x is not allowed","param":"model","type":"policy_violation"}}"#.to_owned())
        );
    }

    #[test]
    fn a_limit_that_recovers_soon_is_a_429_with_the_wait_rounded_up() {
        let limit = |wait| {
            PolicyViolation::new(Rule::RateLimitExceeded, Seen::Request, "m")
                .with_retry_after(Some(wait))
        };
        let (status, found, _) = headers(limit(Duration::from_micros(1_000_001)));
        assert_eq!(
            (status, found),
            (
                429,
                vec![pair("retry-after", "2"), pair("retry-after-ms", "1001")]
            )
        );
        let (status, found, _) = headers(limit(Duration::ZERO));
        assert_eq!(
            (status, found),
            (
                429,
                vec![pair("retry-after", "1"), pair("retry-after-ms", "1")]
            )
        );
        let (status, found, body) = headers(limit(Duration::from_secs(3_600)));
        assert_eq!(
            (status, found),
            (
                429,
                vec![pair("retry-after", "3600"), pair("x-should-retry", "false")]
            )
        );
        assert!(body.contains(r#""type":"insufficient_quota""#), "{body}");
        assert!(body.contains(r#""code":"rate_limit_exceeded""#), "{body}");
    }

    #[test]
    fn a_budget_that_is_spent_for_long_is_an_exhausted_quota() {
        let spent = PolicyViolation::new(Rule::TokenBudgetExceeded, Seen::Request, "m");
        let (status, found, body) = headers(spent.clone());
        assert_eq!(
            (status, found),
            (429, vec![pair("x-should-retry", "false")])
        );
        assert!(body.contains(r#""type":"insufficient_quota""#), "{body}");
        let (status, found, body) = headers(
            spent
                .with_retry_after(Some(Duration::from_secs(5)))
                .after_the_call(),
        );
        assert_eq!(
            (status, found),
            (403, vec![pair("x-should-retry", "false")])
        );
        assert!(body.contains(r#""type":"policy_violation""#), "{body}");
    }
}
