//! Each target for a moment, with all its samples.

#![allow(clippy::unwrap_used)]

use fuzz::targets::ALL;
use std::time::Duration;

#[test]
fn no_target_fails() {
    // Another seed each time: what is found once stays as a sample.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let faults: Vec<String> = ALL
        .iter()
        .filter_map(|target| fuzz::run(target, Duration::from_millis(400), now.as_nanos() as u64).err())
        .map(|e| format!("{e:#}"))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
