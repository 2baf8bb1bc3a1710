//! The real thing in network namespaces of its own: rules, routes, taps, names, and nothing left afterwards.
//!
//! Each test runs on threads that have left the machine's network namespace; child processes follow them. Needs root.
//! `host` looks from the host, `names` asks cluster DNS, `pods` looks from inside of Pods: `guest` gives each a network stack of its own.

mod guest;
mod host;
mod names;
mod pods;
mod support;
mod sys;
