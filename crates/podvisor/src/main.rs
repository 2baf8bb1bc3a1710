//! The `podvisor` binary: command line, configuration, wiring. The only crate that knows all the others.
//!
//! `commands` has one module per subcommand, `wiring` starts what `podvisor up` runs. Called as `kubectl-podvisor`
//! or `kubectl-vsphere` (kubectl runs plug-ins by such names) the same binary offers `login` and `logout` alone.

mod cli;
mod commands;
mod config;
mod wiring;

use std::process::ExitCode;

/// Gives memory back soon after a burst (a sign-in's hash, an OpenAPI document, a large list), where glibc's allocator
/// would keep it; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One crypto provider for everything that speaks TLS; a second installation cannot happen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
