//! Controllers: what turns wishes (Deployments, Services, SupervisorNamespaces, …) into objects.
//!
//! One module per reconciler: a plan computed from the shared caches of [`world`], carried out by plain requests.
//! Reconcilers are level-triggered: woken by changes of what they read, or by their own timer, they look at
//! what these concern (of some kinds at everything) and correct what differs. Which objects a change concerns is told in one
//! place, `concern`.

mod aggregation;
mod autoscale;
mod certificates;
mod claim;
mod concern;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod disruption_target;
mod endpoints;
mod gc;
mod job;
mod loadbalancer;
mod manager;
mod mirror;
mod namespace;
mod node;
mod node_ttl;
pub mod obj;
mod pauses;
mod podgc;
mod quota;
mod replicaset;
mod revision;
mod scale;
mod serviceaccount;
mod statefulset;
pub mod storage;
mod supervisor;
#[cfg(test)]
mod tests;
mod token_secrets;
mod trust;
mod victims;
mod workqueue;
pub mod world;

pub use certificates::Signer;
pub use manager::{Config, Manager, timed};
pub use token_secrets::TokenMaker;
pub use workqueue::WorkQueues;
