//! The `sekuire-gateway` binary as its users meet it: a process, its output, and its connections.

#![cfg(test)]

mod admin;
mod agents;
mod audit_log;
mod check;
#[cfg(target_os = "linux")]
mod floods;
mod forwarding;
mod lifetime;
mod limits;
mod live;
mod openings;
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod refusals;
#[cfg(unix)]
mod shared;
mod start;
mod support;
