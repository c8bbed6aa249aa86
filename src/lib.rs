//! Tower middleware that governs AI agents at the HTTP layer.
mod violation;
mod wire;
