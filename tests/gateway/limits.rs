//! The flags for how limits are counted and told.

use bytes::Bytes;
use futures_util::stream::pending;
use http::Response;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::support::{
    BoxError, CHAT_REQUEST, DONE, Gateway, POLICY, STREAM_REQUEST, Upstream, boxed, chat, event,
    whole,
};

fn limited(tokens: u64) -> String {
    format!(
        "{POLICY}rate_limits: {{ per_agent: {{ requests_per_minute: 5, tokens_per_hour: {tokens} }} }}"
    )
}

#[tokio::test]
async fn answers_say_what_is_left_when_asked_to() {
    let upstream = Upstream::chat().await;
    for (flags, told) in [(&[][..], None), (&["--rate-limit-headers"], Some("4"))] {
        let gateway = Gateway::start_with(&limited(9_000), &upstream.url(), flags, &[]).await;
        let answer = gateway.send(chat(), CHAT_REQUEST).await;
        assert_eq!(answer.status(), 200);
        let left = answer.head.headers.get("x-ratelimit-remaining-requests");
        assert_eq!(left.map(|left| left.to_str().unwrap()), told);
    }
}

#[tokio::test]
async fn streams_are_asked_for_their_usage_unless_told_not_to() {
    for (flags, asked) in [(&[][..], true), (&["--no-stream-options"], false)] {
        let upstream = Upstream::chat().await;
        let gateway = Gateway::start_with(&limited(9_000), &upstream.url(), flags, &[]).await;
        gateway.send(chat(), STREAM_REQUEST).await;
        let seen = upstream.seen();
        let body = std::str::from_utf8(&seen[0].body).unwrap();
        assert_eq!(body.contains("stream_options"), asked, "{body}");
        assert_eq!(body == STREAM_REQUEST, !asked);
    }
}

/// Statuses of two calls under way together.
async fn two_together(tokens: u64, flags: &[&str]) -> [u16; 2] {
    let upstream = Upstream::streaming(|request| {
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let pending = pending::<Result<Frame<Bytes>, BoxError>>();
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(boxed(StreamBody::new(pending)))
                .unwrap()
        })
    })
    .await;
    let gateway = Gateway::start_with(&limited(tokens), &upstream.url(), flags, &[]).await;
    let request = || chat().body(whole(STREAM_REQUEST)).unwrap();
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    let held = first.send(request()).await;
    [held.status(), second.send(request()).await.status()]
}

#[tokio::test]
async fn calls_reserve_what_they_may_cost() {
    // Each is taken to need 4,096 tokens for its answer.
    assert_eq!(two_together(5_000, &[]).await, [200, 429]);
    let smaller = ["--default-output-tokens", "100"];
    assert_eq!(two_together(5_000, &smaller).await, [200, 200]);
    assert_eq!(
        two_together(5_000, &["--no-reservations"]).await,
        [200, 200]
    );
}

/// Less than so much text is estimated at.
const USAGE: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
    \"model\":\"gpt-4o-mini\",\"choices\":[],\
    \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":99,\"total_tokens\":100}}\n\n";

#[tokio::test]
async fn a_stream_that_outgrows_its_budget_is_cut_unless_told_not_to() {
    let upstream = Upstream::streaming(|request| {
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            let text = event(&"word ".repeat(2_000)) + &event("last") + USAGE + DONE;
            let body = Full::new(Bytes::from(text));
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(boxed(body))
                .unwrap()
        })
    })
    .await;
    for (flag, cut) in [(None, true), (Some("--let-streams-outgrow"), false)] {
        let mut flags = vec!["--default-output-tokens", "50"];
        flags.extend(flag);
        let gateway = Gateway::start_with(&limited(200), &upstream.url(), &flags, &[]).await;
        let answer = gateway.send(chat(), STREAM_REQUEST).await;
        assert_eq!(answer.status(), 200);
        let text = answer.text();
        assert_eq!(text.contains("token_budget_exceeded"), cut, "{text}");
        assert_eq!(text.contains("last"), !cut);
    }
}
