//! What an error holds and does not name as its source.
//!
//! INVARIANT: here are errors of other crates and no types of this one, so that any module may ask. An error of a host
//! belongs here, not with the host, which knows the policy and must not be known by it.

use std::error::Error;
use std::io;

/// The error inside `error`, where `source()` skips it.
pub(crate) fn inside<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let inner = error.get_ref()?;
        return Some(inner);
    }
    inside_openais(error)
}

/// async-openai's error stands in for the one inside it, whose source it tells as its own.
#[cfg(feature = "async-openai")]
fn inside_openais<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    use async_openai::error::OpenAIError;

    match error.downcast_ref()? {
        OpenAIError::Boxed(inner) => Some(&**inner),
        _ => None,
    }
}

#[cfg(not(feature = "async-openai"))]
const fn inside_openais<'e>(_: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    None
}
