//! `cargo xtask bench NAME`: figures, each measured here and now beside what it is compared with.
//!
//! Every bench prints a table and writes `target/bench/NAME.json`: one flat object of metric names with their units.

mod api;
mod bare;
mod lab;

use std::fs;

use anyhow::Result;

use crate::run::make_dir;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench lab              the guestbook, single Pods, bare QEMU, memory
  cargo xtask bench lab --dev        the same with the unoptimised binary: quicker to build, slower to run
  cargo xtask bench api              the API server under load, beside upstream's figures and etcd alone
  cargo xtask bench api --upstream /usr/local/bin/kube-apiserver
                                     the same with upstream measured on this machine
  cargo xtask bench api --small      a hundredth of that load: does the bench work?")]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Apply to serving, create to Running, memory: real VMs in a Lab.
    Lab(lab::Arguments),
    /// CPU, memory, rates and latencies of the API server, driven over TLS and HTTP/2 from another process.
    Api(api::Arguments),
}

/// Runs one bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.bench {
        Bench::Lab(arguments) => lab::run(arguments),
        Bench::Api(arguments) => api::run(arguments),
    }
}

/// The metrics of one bench, in the order in which they were measured.
#[derive(Default)]
struct Report(Vec<(&'static str, f64)>);

impl Report {
    /// Notes a figure; `name` ends with its unit.
    fn add(&mut self, name: &'static str, value: f64) {
        println!("    {name:<44} {value:>10.3}");
        self.0.push((name, value));
    }

    /// A figure that was noted.
    fn get(&self, name: &str) -> Option<f64> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }

    /// Prints the table and writes `target/bench/NAME.json`.
    fn write(&self, bench: &str) -> Result<()> {
        println!("\n{:<44} {:>10}", "metric", "value");
        let mut object = serde_json::Map::new();
        for (name, value) in &self.0 {
            println!("{name:<44} {value:>10.3}");
            let rounded = (value * 1000.0).round() / 1000.0;
            object.insert((*name).to_owned(), serde_json::json!(rounded));
        }
        let directory = e2e::paths::target().join("bench");
        make_dir(&directory)?;
        let file = directory.join(format!("{bench}.json"));
        fs::write(&file, format!("{:#}\n", serde_json::Value::Object(object)))?;
        println!("\nwritten: {}", file.display());
        Ok(())
    }
}

/// The middle value.
fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The value that `percent` of a hundred do not exceed.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = sorted.len() * percent / 100;
    sorted
        .get(place.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The largest value.
fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}
