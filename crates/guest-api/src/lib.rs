//! The contract between a host and the guest agent of a Pod VM: gRPC over one byte stream.
//!
//! - [`v1`]: messages, client and server, generated from `proto/guest.proto`, which is the documentation;
//! - [`connect`] and [`serve`]: the two ends of a session on a stream that has no connections of its own;
//! - [`probing`]: when probes are asked and what the answers mean;
//! - [`http`], [`tls`] and [`health`]: what probes and hooks ask of a container's servers;
//! - [`simulated`]: a guest without a VM, for simulated hosts and for tests of the host agent.

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
pub mod v1 {
    //! Generated from `proto/guest.proto`.
    tonic::include_proto!("podvisor.guest.v1");
}

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
pub mod health {
    //! Generated from `proto/health.proto`: what gRPC probes ask.
    tonic::include_proto!("grpc.health.v1");
}

pub mod http;
pub mod probing;
mod session;
pub mod simulated;
pub mod tls;

pub use session::{ConnectError, connect, serve};

/// How the error begins with which a container is refused whose `subPath` cannot be had, before the path of its mount.
pub const SUB_PATH_PROBLEM: &str = "failed to prepare subPath at ";

/// A client of the guest agent.
pub type GuestClient = v1::guest_client::GuestClient<tonic::transport::Channel>;
/// The service that a guest implements.
pub use v1::guest_server::Guest;
