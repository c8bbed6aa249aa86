//! The OpenAI wire: bytes to facts. It knows no policy and no service.

pub(crate) mod answer;
pub(crate) mod batch;
pub(crate) mod calls;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod event;
mod fast;
pub(crate) mod fields;
pub(crate) mod json;
pub(crate) mod known_answers;
mod known_keys;
mod known_messages;
mod known_tools;
pub(crate) mod multipart;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod responses;
pub(crate) mod run;
mod shape;
pub(crate) mod splice;
pub(crate) mod sse;
mod strings;
pub(crate) mod tool;
#[cfg(test)]
mod vectors;

/// Makes this thread read in full, without what it has read before and without learning from it; or in the usual ways.
#[cfg(fuzzing)]
pub(crate) fn read_in_full(in_full: bool) {
    shape::reference::want(in_full);
    if in_full {
        known_answers::forget();
        known_messages::forget();
        known_tools::forget();
        request::forget_keys();
    }
}
