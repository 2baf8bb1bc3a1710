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
    open_many_files();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Takes as many file descriptors as the system gives: services are started with 1,024, which a few hundred clients use up.
fn open_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("warning: the number of open files stays as it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_file_descriptors_are_ours() {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(1024);
        setrlimit(Resource::Nofile, limit).expect("lowered");
        open_many_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }
}
