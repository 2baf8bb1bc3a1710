//! How long a node's failed Pod stays before the next one is made: 1 s, 2 s, 4 s, … up to 15 min, as upstream's
//! `failedPodsBackoff` (cmd/kube-controller-manager/app/apps.go), forgotten after twice the longest.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The pauses by what failed.
#[derive(Default)]
pub(super) struct Pauses(Mutex<HashMap<String, (Instant, Duration)>>);

impl Pauses {
    /// The rest of a pause; nothing when it may go on, after which the next pause begins, twice as long.
    pub(super) fn wait(&self, key: &str) -> Option<Duration> {
        self.wait_at(key, Instant::now())
    }

    fn wait_at(&self, key: &str, now: Instant) -> Option<Duration> {
        let mut pauses = self.0.lock();
        pauses.retain(|_, (since, _)| now.duration_since(*since) <= LONGEST * 2);
        let next = match pauses.get(key) {
            Some((since, pause)) => {
                let left = pause.saturating_sub(now.duration_since(*since));
                if !left.is_zero() {
                    return Some(left);
                }
                (*pause * 2).min(LONGEST)
            }
            None => FIRST,
        };
        pauses.insert(key.to_owned(), (now, next));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double() {
        let pauses = Pauses::default();
        let start = Instant::now();
        // Seconds since the start, and what is left of the pause then.
        let cases = [
            (0, None),
            (0, Some(1)),
            (1, None),
            (2, Some(1)),
            (3, None),
            (5, Some(2)),
            (7, None),
            (7 + 1801, None),
            (7 + 1801, Some(1)),
        ];
        for (at, left) in cases {
            let now = start + Duration::from_secs(at);
            assert_eq!(
                pauses.wait_at("n", now),
                left.map(Duration::from_secs),
                "at {at} s"
            );
        }
    }
}
