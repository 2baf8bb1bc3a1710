//! Tests of the public face of `controllers`: each module is one area. They are one program, linked once.

mod budgets;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod credentials;
mod looks;
mod sets;
mod storage;
mod workloads;
