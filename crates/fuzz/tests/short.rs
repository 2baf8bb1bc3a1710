//! Each target for a moment, with all its samples. The inputs are the same each time; new ones are for the long form.

#![allow(clippy::unwrap_used)]

use fuzz::targets::ALL;
use std::time::Duration;

/// Where the inputs begin.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[test]
fn no_target_fails() {
    let run = |target| fuzz::run(target, Duration::from_millis(400), SEED);
    let faults: Vec<String> = ALL
        .iter()
        .filter_map(|target| run(target).err())
        .map(|e| format!("{e:#}"))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
