//! Clients that are no services of `http` requests, each behind the feature that bears its name.
//!
//! A host moves bytes and takes the steps that all hosts take; it decides nothing.

#[cfg(feature = "async-openai")]
pub(crate) mod async_openai;
#[cfg(feature = "reqwest")]
pub(crate) mod reqwest;
#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;
