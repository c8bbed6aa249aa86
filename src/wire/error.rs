//! Why bytes could not be read as the wire format demands.

use std::fmt;

/// A refusal to read: a reason in fixed words and the byte at which reading stopped.
///
/// INVARIANT: no content. The words are static, so no prompt or argument can reach a log through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireError {
    reason: &'static str,
    at: Option<usize>,
}

pub(crate) type Result<T> = std::result::Result<T, WireError>;

impl WireError {
    pub(crate) const fn new(reason: &'static str) -> Self {
        Self { reason, at: None }
    }

    pub(crate) const fn at(reason: &'static str, at: usize) -> Self {
        Self {
            reason,
            at: Some(at),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        if let Some(at) = self.at {
            write!(f, " (byte {at})")?;
        }
        Ok(())
    }
}
