//! What is due when.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

/// The times of the next looks, one a key.
#[derive(Default)]
pub(crate) struct Agenda {
    times: HashMap<String, Instant>,
    order: BTreeSet<(Instant, String)>,
}

impl Agenda {
    /// Due at this time and at no other.
    pub(crate) fn set(&mut self, key: &str, at: Instant) {
        self.forget(key);
        self.times.insert(key.to_owned(), at);
        self.order.insert((at, key.to_owned()));
    }

    /// Due at this time at the latest.
    pub(crate) fn hasten(&mut self, key: &str, at: Instant) {
        if self.times.get(key).is_none_or(|due| *due > at) {
            self.set(key, at);
        }
    }

    /// Not due any more.
    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(at) = self.times.remove(key) {
            self.order.remove(&(at, key.to_owned()));
        }
    }

    /// The keys that are due, the longest first.
    pub(crate) fn due(&self, now: Instant) -> Vec<String> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, key)| key.clone()).collect()
    }

    /// All keys that will be due some time.
    pub(crate) fn all(&self) -> BTreeSet<String> {
        self.times.keys().cloned().collect()
    }

    /// How long it is until something is due.
    pub(crate) fn next(&self, now: Instant) -> Option<Duration> {
        let (at, _) = self.order.first()?;
        Some(at.saturating_duration_since(now))
    }
}

/// So much may the clock on the wall drift against time within one look at it.
const DRIFT: Duration = Duration::from_secs(2);

/// Notices when somebody sets the clock, or the machine has slept: times of day are then due at other moments.
#[derive(Default)]
pub(crate) struct Clock(Option<(Instant, SystemTime)>);

impl Clock {
    /// The clock shows something else than the time that has passed since the last look makes expect.
    pub(crate) fn was_set(&mut self, now: Instant, clock: SystemTime) -> bool {
        let Some((then, before)) = self.0.replace((now, clock)) else {
            return false;
        };
        let expected = before + now.duration_since(then);
        let off = clock.duration_since(expected).unwrap_or_else(|e| e.duration());
        off > DRIFT
    }
}
