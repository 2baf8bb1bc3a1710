//! The one wait of all tests: ask again until it holds, or say what was last seen.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to pause between two looks. The look itself is what matters; it is level-triggered.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls `look` until it returns `Ok`, at most for `limit`; fails with the last `Err` it gave.
///
/// `look` must only read: it may be called any number of times.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let seen = match look() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if Instant::now() >= end {
            bail!("{what}: not within {} s; last seen: {seen:#}", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}
