//! `cargo xtask bench NAME`: figures, each measured here and now beside what it is compared with.
//!
//! Every bench prints a table and writes `target/bench/NAME.json`: one flat object of metric names with their units.

mod bare;
mod lab;

use std::fs;

use anyhow::Result;

use crate::run::make_dir;

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench lab              the guestbook, single Pods, bare QEMU, memory
  cargo xtask bench lab --dev        the same with the unoptimised binary: quicker to build, slower to run")]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Apply to serving, create to Running, memory: real VMs in a Lab.
    Lab(lab::Arguments),
}

/// Runs one bench.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.bench {
        Bench::Lab(arguments) => lab::run(arguments),
    }
}

/// The metrics of one bench, in the order in which they were measured.
#[derive(Default)]
struct Report(Vec<(&'static str, f64)>);

impl Report {
    /// Notes a figure; `name` ends with its unit.
    fn add(&mut self, name: &'static str, value: f64) {
        println!("    {name:<44} {value:>10.1}");
        self.0.push((name, value));
    }

    /// Prints the table and writes `target/bench/NAME.json`.
    fn write(&self, bench: &str) -> Result<()> {
        println!("\n{:<44} {:>10}", "metric", "value");
        let mut object = serde_json::Map::new();
        for (name, value) in &self.0 {
            println!("{name:<44} {value:>10.1}");
            let rounded = (value * 10.0).round() / 10.0;
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
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The largest value.
fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}
