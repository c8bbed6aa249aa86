//! Clients that are no services of `http` requests, each behind the feature that bears its name.
//!
//! A host moves bytes and takes the steps that all hosts take; it decides nothing.

#[cfg(feature = "async-openai")]
pub(crate) mod async_openai;
#[cfg(feature = "reqwest")]
pub(crate) mod reqwest;
#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;

#[cfg(feature = "async-openai")]
pub(crate) use self::async_openai::kept;

/// The error that a host's own error keeps and doesn't tell as its source.
#[cfg(not(feature = "async-openai"))]
pub(crate) const fn kept<'e>(
    _: &'e (dyn std::error::Error + 'static),
) -> Option<&'e (dyn std::error::Error + 'static)> {
    None
}
