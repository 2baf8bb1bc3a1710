//! Back-off for sign-in: each further wrong password for a user makes the next try wait longer.
//!
//! Counted by user name only (a proxy hides addresses), bounded in time, so nobody stays locked out, and in memory.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Wrong passwords that cost nothing.
const FREE: u32 = 5;
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// Failures are forgotten after this time without another.
const FORGET: Duration = Duration::from_secs(900);
/// Users remembered at most; the least recent failure goes first.
const CAPACITY: usize = 10_000;

struct Failures {
    count: u32,
    last: Instant,
}

/// Counts failed sign-ins by user.
#[derive(Default)]
pub struct Throttle {
    failures: Mutex<HashMap<String, Failures>>,
}

impl Throttle {
    /// How long `user` has to wait from `now` on; zero means go on.
    pub fn wait(&self, user: &str, now: Instant) -> Duration {
        let failures = self.failures.lock();
        let Some(f) = failures.get(user) else {
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(f.last);
        if f.count < FREE || since >= FORGET {
            return Duration::ZERO;
        }
        let penalty = Duration::from_secs(1 << (f.count - FREE).min(6)).min(LONGEST);
        penalty.saturating_sub(since)
    }

    /// A wrong password was given.
    pub fn failed(&self, user: &str, now: Instant) {
        let mut failures = self.failures.lock();
        if failures.len() >= CAPACITY && !failures.contains_key(user) {
            failures.retain(|_, f| now.saturating_duration_since(f.last) < FORGET);
            if failures.len() >= CAPACITY {
                let oldest = failures
                    .iter()
                    .min_by_key(|(_, f)| f.last)
                    .map(|(k, _)| k.clone());
                if let Some(oldest) = oldest {
                    failures.remove(&oldest);
                }
            }
        }
        let entry = failures
            .entry(user.to_string())
            .or_insert(Failures { count: 0, last: now });
        if now.saturating_duration_since(entry.last) >= FORGET {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
    }

    /// The right password was given: all is forgiven.
    pub fn succeeded(&self, user: &str) {
        self.failures.lock().remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for want in [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(throttle.wait("alice", start), Duration::from_secs(want));
            throttle.failed("alice", start);
        }
        assert_eq!(throttle.wait("bob", start), Duration::ZERO);
        assert_eq!(throttle.wait("alice", start + LONGEST), Duration::ZERO);
        throttle.succeeded("alice");
        assert_eq!(throttle.wait("alice", start), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..CAPACITY + 50 {
            throttle.failed(&n.to_string(), now);
        }
        assert_eq!(throttle.failures.lock().len(), CAPACITY);
    }
}
