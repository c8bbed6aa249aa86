//! Clients that are no tower services, each behind the feature that bears its name.
//!
//! A host moves bytes and takes the steps that all hosts take; it decides nothing.

#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;
