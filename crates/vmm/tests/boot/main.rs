//! Real VMs: booted, spoken to, adopted, killed, and nothing left. Under emulation each takes a few seconds.
//!
//! Needs root, QEMU and the guest bundle (`cargo xtask build`); no network.

mod ends;
mod growth;
mod isolation;
mod life;
mod machine;
