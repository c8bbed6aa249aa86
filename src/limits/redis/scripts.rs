//! The scripts, how they are called, and what their answers mean.

use std::time::Duration;

use ::redis::aio::ConnectionManager;
use ::redis::{RedisError, RedisResult, Script, ScriptInvocation};

use crate::limits::{Ask, Counted, StoreRefusal};
use crate::policy::LimitUnit;

/// Each is one atomic step on the server. Sent by their hash; a server that doesn't know one yet is sent the text.
#[derive(Debug)]
pub(super) struct Scripts {
    /// In braces, so that all keys are in one slot of a cluster.
    prefix: String,
    lease_time: String,
    reserve: Script,
    extend: Script,
    settle: Script,
    renew: Script,
    usage: Script,
}

/// What a call of [`Scripts::reserve`] comes to.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) refusal: Option<StoreRefusal>,
    pub(super) counted: Vec<Counted>,
}

impl Scripts {
    pub(super) fn new(prefix: &str, lease_time: Duration) -> Self {
        let script = |body: &str| Script::new(&format!("{}\n{body}", include_str!("window.lua")));
        Self {
            prefix: format!("{{{prefix}}}"),
            lease_time: microseconds(lease_time).to_string(),
            reserve: script(include_str!("reserve.lua")),
            extend: script(include_str!("extend.lua")),
            settle: script(include_str!("settle.lua")),
            renew: script(include_str!("renew.lua")),
            usage: script(include_str!("usage.lua")),
        }
    }

    /// `again` is whether the server may have been asked for the same lease before, without an answer.
    pub(super) async fn reserve(
        &self,
        link: &mut ConnectionManager,
        id: &str,
        asks: &[Ask],
        enforce: bool,
        again: bool,
    ) -> RedisResult<Reserved> {
        let (enforce, again) = (u8::from(enforce), u8::from(again));
        let mut call = self.call(&self.reserve, id, &enforce.to_string(), &again.to_string());
        self.windows(&mut call, asks.iter());
        let answer: Vec<i64> = call.invoke_async(link).await?;
        let &[refusing, wait, ref counted @ ..] = answer.as_slice() else {
            return Err(malformed());
        };
        // Lua counts from one.
        let ask = usize::try_from(refusing).unwrap_or(0).checked_sub(1);
        let refusal = ask.map(|ask| StoreRefusal::Full {
            ask,
            wait: u64::try_from(wait).ok().map(Duration::from_micros),
        });
        Ok(Reserved {
            refusal,
            counted: counts(counted),
        })
    }

    /// Answers how many tokens are reserved more: none when some window has no room, or the lease is over. And which of the
    /// asks bounds it.
    pub(super) async fn extend(
        &self,
        link: &mut ConnectionManager,
        id: &str,
        asks: &[Ask],
        tokens: u64,
    ) -> RedisResult<(u64, usize)> {
        let mut call = self.call(&self.extend, id, &amount(tokens).to_string(), "");
        self.windows(&mut call, token_windows(asks));
        let (granted, tightest): (u64, usize) = call.invoke_async(link).await?;
        // Lua counts from one, and has seen the windows of tokens alone.
        let places = asks.iter().enumerate();
        let mut places = places.filter(|(_, ask)| ask.unit == LimitUnit::Tokens);
        let tightest = places.nth(tightest.saturating_sub(1));
        Ok((granted, tightest.map_or(0, |(place, _)| place)))
    }

    pub(super) async fn settle(
        &self,
        link: &mut ConnectionManager,
        id: &str,
        asks: &[Ask],
        tokens: u64,
    ) -> RedisResult<()> {
        let mut call = self.call(&self.settle, id, &amount(tokens).to_string(), "");
        self.windows(&mut call, token_windows(asks));
        let _: u64 = call.invoke_async(link).await?;
        Ok(())
    }

    pub(super) async fn renew(
        &self,
        link: &mut ConnectionManager,
        id: &str,
        asks: &[Ask],
    ) -> RedisResult<()> {
        let mut call = self.call(&self.renew, id, "", "");
        self.windows(&mut call, token_windows(asks));
        let _: u64 = call.invoke_async(link).await?;
        Ok(())
    }

    pub(super) async fn usage(
        &self,
        link: &mut ConnectionManager,
        asks: &[Ask],
    ) -> RedisResult<Vec<Counted>> {
        let mut call = self.call(&self.usage, "", "", "");
        self.windows(&mut call, asks.iter());
        let answer: Vec<i64> = call.invoke_async(link).await?;
        Ok(counts(&answer))
    }

    fn call<'a>(
        &self,
        script: &'a Script,
        id: &str,
        first: &str,
        second: &str,
    ) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.arg(id).arg(&self.lease_time).arg(first).arg(second);
        call
    }

    fn windows<'a>(&self, call: &mut ScriptInvocation<'_>, asks: impl Iterator<Item = &'a Ask>) {
        for ask in asks {
            // The kind comes first: an agent's name is whatever it is, and can't make one key look like another.
            for kind in ["window", "log", "leases"] {
                call.key(format!("{}:{kind}:{}", self.prefix, ask.key));
            }
            let unit = match ask.unit {
                LimitUnit::Requests => "r",
                LimitUnit::Tokens => "t",
            };
            call.arg(microseconds(ask.window))
                .arg(amount(ask.max))
                .arg(amount(ask.amount))
                .arg(unit);
        }
    }
}

/// The windows in which something is reserved: all but those of requests, which are counted for good.
pub(super) fn token_windows(asks: &[Ask]) -> impl Iterator<Item = &Ask> {
    let tokens = |ask: &&Ask| ask.unit == LimitUnit::Tokens;
    asks.iter().filter(tokens)
}

fn counts(numbers: &[i64]) -> Vec<Counted> {
    let each = numbers.chunks_exact(3);
    each.filter_map(|window| match *window {
        [used, reserved, reset] => Some(Counted {
            used: u64::try_from(used).unwrap_or(0),
            reserved: u64::try_from(reserved).unwrap_or(0),
            reset: Duration::from_micros(u64::try_from(reset).unwrap_or(0)),
        }),
        _ => None,
    })
    .collect()
}

fn malformed() -> RedisError {
    let kind = ::redis::ErrorKind::UnexpectedReturnType;
    (kind, "the script's answer is too short").into()
}

/// At least one, and at most a century: an instant plus a length stays a whole number in Lua.
fn microseconds(length: Duration) -> u64 {
    let most = 100 * 366 * 24 * 3_600 * 1_000_000;
    u64::try_from(length.as_micros())
        .unwrap_or(most)
        .clamp(1, most)
}

/// A log's sum of 1,025 amounts stays a whole number in Lua, which ends at 2^53. A maximum above is taken for this,
/// about four million million tokens, and so is an amount, which fills it.
fn amount(amount: u64) -> u64 {
    amount.min(1 << 42)
}
