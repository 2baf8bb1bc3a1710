//! Runs the targets for a given time each: `fuzz SECONDS [TARGET…]`.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fuzz::targets::ALL;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().context("usage: fuzz SECONDS [TARGET…]")?;
    let seconds: u64 = seconds.parse().context("SECONDS is a number")?;
    let wanted: Vec<String> = arguments.collect();
    for name in &wanted {
        ensure!(ALL.iter().any(|t| t.name == name), "there is no target {name}");
    }
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_nanos() as u64;
    let mut failed = 0;
    for target in ALL
        .iter()
        .filter(|t| wanted.is_empty() || wanted.iter().any(|w| w == t.name))
    {
        match fuzz::run(target, Duration::from_secs(seconds), seed) {
            Ok(run) => println!(
                "{}: {} inputs, the slowest {:?}",
                target.name, run.inputs, run.slowest
            ),
            Err(error) => {
                failed += 1;
                println!("{error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} target(s) failed");
    Ok(())
}
