//! The guest agent: PID 1 of a Pod VM, and the whole of its initramfs.
//!
//! ```text
//! boot      mounts
//! port      the virtio-serial port as a byte stream
//! service   the calls of `guest_api`, one session after another
//! identity  names, addresses, clock, entropy: set at run time, never baked into the boot
//! disks     block devices by serial number
//! grow      processors and memory that the VM did not start with
//! shares    directories of the host (hostPath)
//! volumes   files of configMaps and secrets, swapped in atomically
//! container root file systems, processes, cgroups, output
//! reaper    every child that ends, ours or adopted
//! probe     what probes and hooks ask; when probes ask is `guest_api::probing`'s to say
//! ```
//! Containers are made by our own code and not by youki's `libcontainer`: that forks twice and execs itself for each
//! container, and wants a bundle on disk, and under emulation every fork and exec costs tens of milliseconds; as
//! PID 1 of a VM that is one Pod there is less to do (the network, IPC and UTS namespaces are the VM's own).
//!
//! The process has one thread, always: only so may a child of a plain fork run ordinary code before its exec.

mod boot;
mod container;
mod disks;
mod files;
mod grow;
mod identity;
mod port;
mod probe;
mod reaper;
mod service;
mod shares;
mod sync;
mod sys;
mod users;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    if container::pause::is_wanted() {
        boot::log(&format!("guest agent: pause: {}", container::pause::run()));
        return ExitCode::FAILURE;
    }
    if std::process::id() != 1 {
        eprintln!("the guest agent is PID 1 of a Pod VM and does nothing elsewhere");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run() {
        boot::log(&format!("guest agent: {error}"));
    }
    // PID 1 must not return: the kernel would panic.
    sys::end_machine();
    ExitCode::FAILURE
}

fn run() -> std::io::Result<()> {
    boot::prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let agent = service::Agent::new()?;
        agent.reap();
        loop {
            let port = port::Port::open().await?;
            // A session that breaks is over; the next host agent begins another.
            if let Err(error) = guest_api::serve(port, agent.clone()).await {
                boot::log(&format!("guest agent: session: {error}"));
            }
        }
    })
}
