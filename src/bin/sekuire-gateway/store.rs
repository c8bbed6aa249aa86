//! `--redis`: limits counted in a server that several gateways share.

use std::str::FromStr;
use std::time::Duration;

use tower_sekuire::{OnFailure, RedisStore};

use crate::cli::StoreArgs;

/// The store that the flags ask for; `None` is this process's memory.
///
/// # Errors
///
/// Which flag can't be used, and why. The address, which may hold a password, isn't repeated.
pub(crate) fn store(args: &StoreArgs) -> Result<Option<RedisStore>, (String, String)> {
    let (flag, url) = match (&args.redis, &args.redis_env) {
        (Some(url), _) => ("--redis".to_owned(), url.clone()),
        (None, Some(name)) => {
            let flag = format!("--redis-env {name}");
            match std::env::var(name) {
                Ok(url) => (flag, url),
                Err(std::env::VarError::NotPresent) => {
                    return Err((flag, "the variable is not set".to_owned()));
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err((flag, "the value is not text".to_owned()));
                }
            }
        }
        (None, None) => return Ok(None),
    };
    let store = RedisStore::builder(url)
        .prefix(&*args.redis_prefix)
        .timeout(Duration::from_millis(args.redis_timeout_ms))
        .on_failure(args.redis_on_failure.0)
        .build();
    store.map(Some).map_err(|error| (flag, error.to_string()))
}

/// [`OnFailure`] as it is typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FailureArg(OnFailure);

impl FromStr for FailureArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "refuse" {
            return Ok(Self(OnFailure::Refuse));
        }
        let share = text.strip_prefix("local:").map(str::parse::<f64>);
        match share {
            Some(Ok(share)) if (0.0..=1.0).contains(&share) => {
                Ok(Self(OnFailure::LocalShare(share)))
            }
            _ => Err("expected refuse, or local:FRACTION with a fraction between 0 and 1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_refused_or_shared() {
        let parsed = |text: &str| text.parse::<FailureArg>().map(|failure| failure.0);
        assert_eq!(parsed("refuse"), Ok(OnFailure::Refuse));
        assert_eq!(parsed("local:0.25"), Ok(OnFailure::LocalShare(0.25)));
        for text in [
            "",
            "local",
            "local:",
            "local:2",
            "local:-0.1",
            "local:NaN",
            "Refuse",
            "allow",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
