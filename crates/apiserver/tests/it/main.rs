//! Tests of the public face of `apiserver`: each module is one area.
//!
//! They are one program: that it is linked once and not sixteen times saves minutes on a clean clone. Test runners give every
//! test a process of its own all the same.

mod access;
mod agents;
mod aggregation;
mod answers;
mod applied;
mod asked;
mod audit;
mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod conversion;
mod coverage;
mod custom;
mod definitions;
mod devices;
mod empties;
mod endings;
mod faults;
mod forms;
#[path = "../common/hook.rs"]
mod hook;
mod hosts;
mod judged;
mod kubectl;
mod leftovers;
mod lives;
mod local;
mod manners;
mod mutations;
mod names;
mod negotiated;
mod numbers;
mod options;
mod policies;
mod quotas;
#[path = "../common/raw.rs"]
mod raw;
mod replays;
mod rules;
mod sockets;
mod speed;
mod told;
mod upstream;
mod verbs;
mod webhooks;
mod wounds;
