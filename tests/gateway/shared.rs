//! `--redis`: several gateways that share one budget.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::redis_server::Server;
use crate::support::{
    Answer, CHAT_ANSWER, CHAT_REQUEST, Gateway, POLICY, Upstream, chat, policy_file, run, soon,
    text, whole,
};

async fn gateway(limits: &str, upstream: &Upstream, redis: &str, flags: &[&str]) -> Gateway {
    let policy = format!("{POLICY}rate_limits: {limits}");
    let common = ["--redis", redis, "--admin", "127.0.0.1:0"];
    let flags = [&common[..], flags].concat();
    Gateway::start_with(&policy, &upstream.url(), &flags, &[]).await
}

async fn usage(gateway: &Gateway) -> Option<Value> {
    let answer = gateway.ask_admin(Request::get("/sekuire/usage")).await;
    if answer.status() == 503 {
        assert_eq!(answer.error().1, "store_unavailable");
        return None;
    }
    serde_json::from_str(&answer.text()).ok()
}

/// Used and reserved of the one limit.
async fn counted(gateway: &Gateway) -> Option<(u64, u64)> {
    let usage = usage(gateway).await?;
    let limit = &usage["agents"][0]["limits"][0];
    Some((limit["used"].as_u64()?, limit["reserved"].as_u64()?))
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.head.headers[name].to_str().unwrap()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn two_gateways_share_one_budget_and_tell_of_it() {
    let (server, upstream) = (Server::start(), Upstream::chat().await);
    let limits = "{ per_agent: { requests_per_minute: 3, tokens_per_day: 50000 } }";
    // Far beyond what a busy machine needs.
    let flags = ["--rate-limit-headers", "--redis-timeout-ms", "10000"];
    let one = gateway(limits, &upstream, &server.url(), &flags).await;
    let two = gateway(limits, &upstream, &server.url(), &flags).await;
    for (gateway, left) in [(&one, "2"), (&two, "1"), (&one, "0")] {
        let answer = gateway.send(chat(), CHAT_REQUEST).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), "3");
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), left);
        assert_eq!(header(&answer, "x-ratelimit-limit-tokens"), "50000");
    }
    let refused = two.send(chat(), CHAT_REQUEST).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.error().1, "rate_limit_exceeded");
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((30..=60).contains(&wait), "{wait}");
    assert_eq!(upstream.seen().len(), 3);

    let told = async {
        loop {
            let told = usage(&two).await.unwrap();
            if told["agents"][0]["limits"][1]["reserved"] == 0 {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = soon("settlements", told).await;
    assert_eq!(told["agents"].as_array().unwrap().len(), 1);
    let agent = &told["agents"][0];
    assert_eq!(agent["agent"], "Test Agent");
    let limits = &agent["limits"];
    assert_eq!(
        (&limits[0]["used"], &limits[0]["limit"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(
        (&limits[1]["used"], &limits[1]["unit"]),
        (&json!(9), &json!("tokens"))
    );
    assert_eq!(told["store"]["reachable"], true);
    assert_eq!(told["store"]["unanswered"], 0);
}

/// Through two processes, while the server stalls and restarts.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_thousand_calls_come_out_even() {
    const MAX: u64 = 30_000;
    let (mut server, upstream) = (Server::start(), Upstream::chat().await);
    let limits = format!("{{ global: {{ tokens_per_day: {MAX} }} }}");
    let flags = [
        "--default-output-tokens",
        "700",
        "--redis-timeout-ms",
        "2000",
    ];
    let gateways = [
        gateway(&limits, &upstream, &server.url(), &flags).await,
        gateway(&limits, &upstream, &server.url(), &flags).await,
    ];
    // Each is taken to need 700 tokens and needs 3, so some forty fit in at a time.
    let calls = (0..1_000_u64).map(|number| {
        let gateway = &gateways[usize::from(number % 2 == 0)];
        async move {
            tokio::time::sleep(Duration::from_millis(number * 2)).await;
            let mut client = gateway.connect().await;
            let request = || chat().body(whole(CHAT_REQUEST)).unwrap();
            let answer = client.send(request()).await.whole().await;
            match answer.status() {
                200 => 3,
                429 => 0,
                other => panic!("{other}: {}", answer.text()),
            }
        }
    });
    let calls = futures_util::future::join_all(calls);
    let trouble = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.signal("-STOP");
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.signal("-CONT");
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.restart(Duration::from_millis(100));
    };
    let watch = async {
        loop {
            if let Some((used, reserved)) = counted(&gateways[0]).await {
                assert!(used + reserved <= MAX, "{used} + {reserved}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let spent: u64 = tokio::select! {
        (spent, ()) = async { tokio::join!(calls, trouble) } => spent.iter().sum(),
        () = watch => 0,
    };
    assert!(spent > 600, "{spent}");
    assert_eq!(spent, 3 * upstream.seen().len() as u64);
    let settled = async {
        while counted(&gateways[1]).await != Some((spent, 0)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(15), settled).await;
    assert!(settled.is_ok(), "{spent} {:?}", counted(&gateways[1]).await);
}

/// Clients that go away before their answer, at any moment, while others stay.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn calls_that_are_given_up_leave_nothing_reserved() {
    const MAX: u64 = 50_000;
    let server = Server::start();
    let upstream = Upstream::streaming(|request| {
        Box::pin(async move {
            request.into_body().collect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = http::Response::builder().header("content-type", "application/json");
            answer.body(whole(CHAT_ANSWER)).unwrap()
        })
    })
    .await;
    let limits = format!("{{ global: {{ tokens_per_day: {MAX} }} }}");
    let flags = [
        "--default-output-tokens",
        "700",
        "--redis-timeout-ms",
        "10000",
    ];
    let gateways = [
        gateway(&limits, &upstream, &server.url(), &flags).await,
        gateway(&limits, &upstream, &server.url(), &flags).await,
    ];
    let calls = (0..400_u64).map(|number| {
        let gateway = &gateways[usize::from(number % 2 == 0)];
        async move {
            tokio::time::sleep(Duration::from_millis(number)).await;
            let mut client = gateway.connect().await;
            let answer = client.send(chat().body(whole(CHAT_REQUEST)).unwrap());
            if number % 3 == 0 {
                let soon = Duration::from_millis(number % 40);
                return u64::from(tokio::time::timeout(soon, answer).await.is_ok());
            }
            match answer.await.whole().await.status() {
                200 => 3,
                429 => 0,
                other => panic!("{other}"),
            }
        }
    });
    let least: u64 = futures_util::future::join_all(calls).await.iter().sum();
    let idle = async {
        loop {
            let (used, reserved) = counted(&gateways[0]).await.unwrap();
            assert!(used + reserved <= MAX);
            if reserved == 0 {
                return used;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let used = soon("settlements", idle).await;
    // Those that were given up cost their prompt at least, and no answer was longer than three tokens.
    assert!(used >= least && used <= 400 * 24, "{used} {least}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_was_spent_is_told_before_the_end() {
    let (server, upstream) = (Server::start(), Upstream::chat().await);
    let limits = "{ global: { tokens_per_day: 50000 } }";
    let flags = ["--redis-timeout-ms", "10000"];
    let first = gateway(limits, &upstream, &server.url(), &flags).await;
    for _ in 0..5 {
        assert_eq!(first.send(chat(), CHAT_REQUEST).await.status(), 200);
    }
    first.signal("-TERM").await;
    let (code, _, log) = first.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let second = gateway(limits, &upstream, &server.url(), &flags).await;
    assert_eq!(counted(&second).await, Some((15, 0)));
}

#[tokio::test]
async fn a_server_that_is_away_refuses_or_leaves_a_share() {
    let upstream = Upstream::chat().await;
    let limits = "{ per_agent: { requests_per_minute: 4 } }";
    let away = "redis://127.0.0.1:1";
    let refuses = gateway(limits, &upstream, away, &[]).await;
    let refused = refuses.send(chat(), CHAT_REQUEST).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.error().1, "rate_limit_exceeded");
    assert_eq!(header(&refused, "retry-after"), "1");
    assert!(
        refused
            .text()
            .contains("the store that counts the limits does not answer")
    );
    assert_eq!(usage(&refuses).await, None);
    assert!(upstream.seen().is_empty());

    let shares = ["--redis-on-failure", "local:0.5"];
    let shares = gateway(limits, &upstream, away, &shares).await;
    for status in [200, 200, 429] {
        assert_eq!(shares.send(chat(), CHAT_REQUEST).await.status(), status);
    }
}

#[tokio::test]
async fn an_address_that_can_t_be_used_is_not_repeated() {
    let policy = policy_file(POLICY);
    let path = policy.path().to_str().unwrap();
    let serve = ["serve", "--policy", path, "--listen", "127.0.0.1:0"];
    let secret = "hunter2";
    let wrong = format!("http://:{secret}@127.0.0.1");
    for (flags, why) in [
        (
            &["--redis", &wrong][..],
            "--redis: the Redis address can't be used",
        ),
        (
            &["--redis-env", "REDIS"],
            "--redis-env REDIS: the Redis address can't be used",
        ),
        (
            &["--redis-env", "MISSING"],
            "--redis-env MISSING: the variable is not set",
        ),
        (
            &["--redis", "redis://h", "--redis-env", "REDIS"],
            "cannot be used with",
        ),
        (
            &["--redis", "redis://h", "--redis-prefix", "{}"],
            "the key prefix must not be empty",
        ),
        (
            &["--redis", "redis://h", "--redis-on-failure", "open"],
            "expected refuse, or local",
        ),
        (
            &["--redis", "redis://h", "--redis-timeout-ms", "0"],
            "0 is not in 1..=60000",
        ),
    ] {
        let output = run(&[&serve[..], flags].concat(), &[("REDIS", &wrong)]).await;
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.contains(why), "{log}");
        assert!(!log.contains(secret), "{log}");
    }
}
