//! The Lab: a network namespace with a registry, a Supervisor and a host in it.
//!
//! Everything that sends packets to a Pod, a Service or a VIP runs inside such a namespace, so that
//! neither tests nor the demo ever touch the network of the machine they run on. `cargo xtask lab`,
//! `cargo xtask demo`, the benchmarks and every end-to-end test are users of this one harness.
//!
//! - [`netns`]: makes, enters and removes the namespace;
//! - [`process`]: children with a log file, stopped by their own id;
//! - [`publish`]: a loopback port of the machine that leads into the namespace;
//! - [`clients`]: kubectl, Helm and client libraries of others, pinned;
//! - [`lab`]: the Lab itself; [`pods`]: what tests ask of Pods in it; [`guestbook`]: the main scenario, step by step;
//! - [`faulty`]: a registry that misbehaves; [`private`]: one with a password;
//! - [`heir`]: removes the Lab of a process that was killed;
//! - [`traces`]: what Podvisor has left on the machine, to compare before and after;
//! - [`wait`]: the one level-triggered wait.

pub mod clients;
pub mod faulty;
pub mod guestbook;
pub mod heir;
pub mod lab;
pub mod machines;
pub mod netns;
pub mod paths;
pub mod pods;
pub mod private;
pub mod process;
pub mod publish;
pub mod traces;
pub mod wait;

pub use faulty::{Fault, FaultyRegistry};
pub use guestbook::Guestbook;
pub use lab::{Lab, LabOptions};
pub use machines::{Machine, machines};
pub use private::{Form, PrivateRegistry};
pub use traces::Traces;
pub use wait::wait_for;
