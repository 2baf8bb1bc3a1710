//! The command line: what can be typed, and which module answers it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::config::{Places, UpArguments};

/// Kubernetes Pods directly on the hypervisor: every Pod its own micro-VM.
#[derive(Parser)]
#[command(name = "podvisor", version, propagate_version = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  podvisor doctor                                    what is missing on this machine, and the cure
  podvisor up --vip-pool 198.51.100.0/24             Supervisor and host in one process
  podvisor namespace create demo --cpu 4 --memory 4Gi
  podvisor namespace grant demo alice@podvisor.local edit
  podvisor login --server 127.0.0.1 -u alice@podvisor.local";

#[derive(Subcommand)]
enum Command {
    /// Run the Supervisor and this machine's host agent.
    #[command(after_help = "Examples:
  podvisor up
  podvisor up --listen 0.0.0.0:6443 --listen 0.0.0.0:443 --vip-pool 192.0.2.128/26
  podvisor up --registry-mirror docker.io=https://mirror.example --registry-ca /etc/ssl/our-ca.pem
  podvisor up --config /etc/podvisor/supervisor.yaml
  podvisor up --store etcd://127.0.0.1:2379
  podvisor up --simulated-hosts 3 --data-dir ./lab   no VM, no privileges: to try the API")]
    Up(Box<UpArguments>),
    /// Stop the Supervisor and remove every VM, device, rule and route; the data directory stays.
    #[command(after_help = "Examples:
  podvisor down
  podvisor down --data-dir ./lab --run-dir ./lab/run")]
    Down(Places),
    /// Show whether the Supervisor runs, its hosts and its Pod VMs.
    #[command(after_help = "Examples:
  podvisor status
  podvisor status --data-dir ./lab")]
    Status(Places),
    /// Copy all objects of a running Supervisor, as they stand at one moment, into a file.
    #[command(after_help = "Examples:
  podvisor backup /var/backups/podvisor-$(date +%F)
  podvisor backup ./copy --data-dir ./lab")]
    Backup(commands::backup::Arguments),
    /// Make the embedded store of an empty data directory from a backup.
    #[command(after_help = "Examples:
  podvisor restore /var/backups/podvisor-2026-01-31 --data-dir /var/lib/podvisor
  podvisor restore ./copy --data-dir ./new-lab")]
    Restore(commands::backup::RestoreArguments),
    /// Answer cluster DNS by what the host agent says on standard input; `podvisor up` starts this.
    #[command(hide = true)]
    Dns(commands::dns::Arguments),
    /// Sign in and write a kubectl context for each of your namespaces.
    Login(commands::login::Arguments),
    /// Remove what `login` wrote.
    Logout(commands::login::LogoutArguments),
    /// Create Supervisor namespaces, set their limits, say who may use them.
    #[command(subcommand)]
    Namespace(commands::namespace::Command),
    /// Manage the people who can sign in.
    #[command(subcommand)]
    User(commands::user::Command),
    /// Take hosts out of service and put them back.
    #[command(subcommand)]
    Host(commands::host::Command),
    /// Bring images to this host without a registry.
    #[command(subcommand)]
    Image(commands::image::Command),
    /// Look behind a Pod: its VM, disks, channel and the timings of its start.
    #[command(subcommand)]
    Pod(commands::pod::Command),
    /// Say what is missing on this machine, and the cure.
    #[command(after_help = "Examples:
  podvisor doctor
  podvisor doctor --guest-bundle ./target/guest")]
    Doctor(commands::doctor::Arguments),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:
  podvisor completion bash > /etc/bash_completion.d/podvisor
  source <(podvisor completion zsh)")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What a kubectl plug-in of ours offers.
#[derive(Parser)]
#[command(version, after_help = PLUGIN_EXAMPLES)]
struct PluginArguments {
    #[command(subcommand)]
    command: PluginCommand,
}

const PLUGIN_EXAMPLES: &str = "Examples:
  kubectl podvisor login --server=127.0.0.1 -u alice@podvisor.local
  kubectl vsphere login --server=127.0.0.1 --vsphere-username alice@podvisor.local --insecure-skip-tls-verify
  kubectl config use-context demo-app-01";

#[derive(Subcommand)]
enum PluginCommand {
    /// Sign in and write a kubectl context for each of your namespaces.
    Login(commands::login::Arguments),
    /// Remove what `login` wrote.
    Logout(commands::login::LogoutArguments),
    /// Print the plug-in's version.
    Version,
}

/// Parses the command line and runs the command.
pub fn run() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program = arguments
        .first()
        .map(Path::new)
        .and_then(Path::file_stem)
        .unwrap_or_default();
    if program == "kubectl-podvisor" || program == "kubectl-vsphere" {
        return run_plugin(arguments);
    }
    match Arguments::parse_from(arguments).command {
        Command::Up(arguments) => commands::up::run(&arguments),
        Command::Down(places) => commands::down::run(&places),
        Command::Dns(arguments) => commands::dns::run(&arguments),
        Command::Status(places) => commands::status::run(&places),
        Command::Backup(arguments) => commands::backup::run(&arguments),
        Command::Restore(arguments) => commands::backup::restore(&arguments),
        Command::Login(arguments) => commands::login::run(&arguments),
        Command::Logout(arguments) => commands::login::logout(&arguments),
        Command::Namespace(command) => commands::namespace::run(&command),
        Command::User(command) => commands::user::run(&command),
        Command::Host(command) => commands::host::run(&command),
        Command::Image(command) => commands::image::run(&command),
        Command::Pod(command) => commands::pod::run(&command),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
        Command::Completion { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "podvisor", &mut script);
            match std::io::stdout().write_all(&script) {
                // A reader that has seen enough, such as `head`, is no fault.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(()),
            }
        }
    }
}

fn run_plugin(arguments: Vec<OsString>) -> Result<()> {
    match PluginArguments::parse_from(arguments).command {
        PluginCommand::Login(arguments) => commands::login::run(&arguments),
        PluginCommand::Logout(arguments) => commands::login::logout(&arguments),
        PluginCommand::Version => {
            println!("podvisor {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
