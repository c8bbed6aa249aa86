//! Here are only tests.
