//! `cargo xtask lab`: a command or a shell inside a Lab.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, bail};
use e2e::{Lab, LabOptions};

use crate::{build, setup};

/// Arguments of `cargo xtask lab`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask lab
  cargo xtask lab -- kubectl get nodes
  cargo xtask lab --publish 8443:6443          then open https://127.0.0.1:8443/console
  cargo xtask lab --simulated-hosts 3 -- kubectl create deployment web --image=web
  PODVISOR_VIP_POOL=203.0.113.0/28 cargo xtask lab")]
pub struct Arguments {
    /// Open a loopback port of this machine onto a port inside the Lab (repeatable).
    #[arg(long, value_name = "LOOPBACK_PORT:PORT", value_parser = parse_publish)]
    publish: Vec<(u16, u16)>,
    /// Run simulated hosts instead of a real one: Pods become Running without a VM.
    #[arg(long, value_name = "N")]
    simulated_hosts: Option<u32>,
    /// Build and use the optimised binary.
    #[arg(long)]
    release: bool,
    /// The command to run; a shell when none is given.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Builds, starts the Lab, runs the command, removes the Lab. Ends with the command's exit status.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::programs(false)?;
    let profile = build::Profile::of(arguments.release);
    build::all(profile)?;
    build::demo_images()?;
    let lab = Lab::start(LabOptions {
        simulated_hosts: arguments.simulated_hosts,
        podvisor: Some(profile.podvisor()),
        ..LabOptions::default()
    })?;
    for (port, to) in &arguments.publish {
        let port = lab.publish(*port, SocketAddr::from((Ipv4Addr::LOCALHOST, *to)))?;
        eprintln!("published: 127.0.0.1:{port} -> port {to} of the Lab");
    }
    let shell = env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let words = if arguments.command.is_empty() {
        vec![shell]
    } else {
        arguments.command.clone()
    };
    eprintln!("KUBECONFIG={} (set for the command)", lab.kubeconfig().display());
    let status = command(&lab, &words)
        .status()
        .with_context(|| format!("cannot run {}", words[0]))?;
    lab.stop()?;
    if !status.success() {
        bail!("{} ended with {status}", words[0]);
    }
    Ok(())
}

fn command(lab: &Lab, words: &[String]) -> Command {
    let mut command = lab.command(&words[0]);
    command.args(&words[1..]);
    command
}

fn parse_publish(text: &str) -> Result<(u16, u16), String> {
    let parse = || {
        let (loopback, inside) = text.split_once(':')?;
        Some((loopback.parse().ok()?, inside.parse().ok()?))
    };
    parse().ok_or_else(|| format!("`{text}` is not LOOPBACK_PORT:PORT, for example 8443:6443"))
}
