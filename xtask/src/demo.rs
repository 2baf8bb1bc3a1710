//! `cargo xtask demo`: the whole guestbook scenario in a Lab, from a fresh machine.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use e2e::guestbook::{ALICE, BOB, NAMESPACE};
use e2e::lab::ADMIN_USER;
use e2e::{Guestbook, Lab, LabOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::build::{self, Profile};
use crate::run::step;
use crate::setup;

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo              stays up until Ctrl-C, with the console published on loopback
  cargo xtask demo --check      ends by itself with 0 or a clear failure")]
pub struct Arguments {
    /// End by itself: 0 when every step held.
    #[arg(long)]
    check: bool,
    /// The loopback port of this machine that leads to the console.
    #[arg(long, default_value_t = 8443, value_name = "PORT")]
    port: u16,
    /// Build and use the optimised binary.
    #[arg(long)]
    release: bool,
}

/// Sets up, plays the scenario, and stays or ends.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::programs(false)?;
    let profile = Profile::of(arguments.release);
    build::all(profile)?;
    build::demo_images()?;
    // From here on Ctrl-C is an answer, or fails the running step, and never an end without clean-up.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let options = LabOptions {
        podvisor: Some(profile.podvisor()),
        ..LabOptions::default()
    };
    let lab = step(
        "Starting the Lab: namespace, registry, Supervisor and host",
        || Lab::start(options),
    )?;
    let result = play(&lab, arguments, &mut signals);
    step("Removing the Lab", || lab.stop())?;
    result
}

fn play(lab: &Lab, arguments: &Arguments, signals: &mut Signals) -> Result<()> {
    let mut guestbook = Guestbook::new(lab);
    step(&format!("Namespace {NAMESPACE}, people and grants"), || {
        guestbook.prepare_namespace()
    })?;
    let welcome = step("Signing in as alice and bob", || {
        guestbook.sign_in(BOB)?;
        guestbook.sign_in(ALICE)
    })?;
    println!("{}", welcome.trim());
    let running = step("kubectl apply: six Pods, six VMs", || guestbook.apply())?;
    println!("    all six ready after {:.1} s", running.as_secs_f64());
    println!(
        "{}",
        guestbook.kubectl(ALICE, &["get", "pods", "-o", "wide"])?.trim()
    );
    step("One VM a Pod, each with its own kernel", || {
        guestbook.check_machines()
    })?;
    let vip = step(
        "The page at its load-balancer address; a message through Redis",
        || guestbook.use_the_page(),
    )?;
    step("bob reads and cannot write; limits hold", || {
        guestbook.check_tenancy()
    })?;
    if !arguments.check {
        let port = lab
            .publish(arguments.port, SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)))
            .with_context(|| "choose another loopback port with --port")?;
        println!("\nGuestbook   http://{vip}/ (inside the Lab)");
        println!("Console     https://127.0.0.1:{port}/console");
        println!("Sign-in     {ADMIN_USER}   password {}", lab.admin_password()?);
        println!("kubectl     KUBECONFIG={}", lab.kubeconfig().display());
        println!("\nCtrl-C removes everything.");
        signals.forever().next();
        println!();
    }
    let gone = step("kubectl delete: nothing is left", || guestbook.delete())?;
    println!("    gone after {:.1} s", gone.as_secs_f64());
    Ok(())
}
