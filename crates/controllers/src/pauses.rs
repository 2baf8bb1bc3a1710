//! How long is waited before what was refused is tried again: each time twice as long, up to a bound. In memory alone: a
//! new process tries at once.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The first pause after a refusal.
const FIRST: Duration = Duration::from_millis(100);
/// The longest one. (Upstream's queues go up to 1000 s, and whoever frees a quota waits for that.)
const LONGEST: Duration = Duration::from_secs(60);

/// The pauses of objects, by keys that say which object, and in which generation: another wish is tried at once.
#[derive(Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, Pause>>);

struct Pause {
    until: Instant,
    length: Duration,
}

impl Pauses {
    /// What is left of the pause of a key.
    pub(crate) fn left(&self, key: &str) -> Option<Duration> {
        self.left_at(key, Instant::now())
    }

    fn left_at(&self, key: &str, now: Instant) -> Option<Duration> {
        let left = self.0.lock().get(key)?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Begins the next pause, and says how long it is.
    pub(crate) fn refused(&self, key: &str) -> Duration {
        self.refused_at(key, Instant::now())
    }

    fn refused_at(&self, key: &str, now: Instant) -> Duration {
        let mut all = self.0.lock();
        // Nobody says when an object is gone: what has not been tried for long is forgotten.
        all.retain(|_, pause| now.saturating_duration_since(pause.until) <= LONGEST * 2);
        let length = all.get(key).map_or(FIRST, |last| (last.length * 2).min(LONGEST));
        let until = now + length;
        all.insert(key.to_owned(), Pause { until, length });
        length
    }

    /// Forgets a key: it was not refused.
    pub(crate) fn passed(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_something_passes() {
        let pauses = Pauses::default();
        let start = Instant::now();
        let mut now = start;
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let length = pauses.refused_at("a", now);
            assert_eq!(pauses.left_at("a", now), Some(length));
            now += length;
            assert_eq!(pauses.left_at("a", now), None);
            lengths.push(length.as_millis());
        }
        assert_eq!(lengths[..4], [100, 200, 400, 800]);
        assert_eq!(lengths[11], 60_000);
        assert_eq!(pauses.left_at("b", now), None);
        pauses.passed("a");
        assert_eq!(pauses.refused_at("a", now), FIRST);
        // Long after, it is as if nothing had been.
        pauses.refused_at("b", now + LONGEST * 4);
        assert_eq!(pauses.refused_at("a", now + LONGEST * 4), FIRST);
    }
}
