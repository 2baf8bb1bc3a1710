//! `cargo xtask`: the only developer entry.
//!
//! One module per task; `run` holds the small helpers that they share. Nothing here is part of the
//! product: what a user runs is the `podvisor` binary.

mod bench;
mod build;
mod bundle;
mod clients;
mod compare;
mod crash;
mod demo;
mod demo_images;
mod fuzz;
mod gen_profile;
mod gen_protobuf;
mod gen_schema;
mod guest_kernel;
mod kube_apiserver;
mod lab;
mod run;
mod setup;
mod test;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests and shows Podvisor.
#[derive(Parser)]
#[command(name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "Examples:
  cargo xtask demo                    the whole scenario on this machine, until Ctrl-C
  cargo xtask demo --check            the same, ending by itself with 0 or a clear failure
  cargo xtask test                    every test: unit, API, end to end with VMs, console in Chromium
  cargo xtask lab                     a shell inside a network namespace with a Supervisor in it
  cargo xtask lab -- kubectl get pods -A";

#[derive(Subcommand)]
enum Task {
    /// Install what is missing and build everything that the Lab needs.
    Setup(setup::Arguments),
    /// Build the binary, the guest bundle and the console.
    Build(build::Arguments),
    /// Play the whole guestbook scenario in a Lab.
    Demo(demo::Arguments),
    /// Run a command, or a shell, in a Lab.
    Lab(lab::Arguments),
    /// Run all tests.
    Test(test::Arguments),
    /// Kill a Supervisor again and again under load, and judge the history.
    Crash(crash::Arguments),
    /// Feed every parser of foreign bytes with mutated samples.
    Fuzz(fuzz::Arguments),
    /// Send the same random requests to our API server and to upstream's.
    Compare(compare::Arguments),
    /// Write which ways the code takes under load, for the compiler of releases.
    GenProfile(gen_profile::Arguments),
    /// Write the table of protobuf field numbers.
    GenProtobuf(gen_protobuf::Arguments),
    /// Write the table of upstream's definitions.
    GenSchema(gen_schema::Arguments),
    /// Measure, with a baseline beside it, and write target/bench/NAME.json.
    Bench(bench::Arguments),
    /// Check the layers, sizes, headers, licences and dependencies.
    Tidy,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Build(arguments) => build::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Lab(arguments) => lab::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Crash(arguments) => crash::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Compare(arguments) => compare::run(&arguments),
        Task::GenProfile(arguments) => gen_profile::run(&arguments),
        Task::GenProtobuf(arguments) => gen_protobuf::run(&arguments),
        Task::GenSchema(arguments) => gen_schema::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Tidy => tidy::run(),
    }
}
