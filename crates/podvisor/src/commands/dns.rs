//! `podvisor dns`, which the host agent starts: answers cluster DNS and goes on while there is no agent.

use anyhow::{Context, Result};

/// Memory for the names of some ten thousand Services, twice while one snapshot replaces another.
const MEMORY_MIB: u64 = 512;

#[derive(clap::Args)]
pub struct Arguments {
    /// The cgroup to be in.
    #[arg(long)]
    cgroup: String,
}

/// Answers until it is ended.
pub fn run(arguments: &Arguments) -> Result<()> {
    vmm::qemu::enter_cgroup(&arguments.cgroup, MEMORY_MIB).context("the cgroup of cluster DNS")?;
    dataplane::answer_names().context("cluster DNS")
}
