//! Back-off of container restarts and image pulls, with the kubelet's numbers: 10 s doubling to 5 min, forgotten
//! after ten minutes without use (`client-go/util/flowcontrol`, `MaxContainerBackOff`).
//!
//! The first restart is immediate; only the ones after it wait. Time comes from the caller, so that the rules can be
//! tested as a table.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The first delay.
pub const INITIAL: Duration = Duration::from_secs(10);
/// By how much clocks that are read one after the other may differ.
const SLACK: Duration = Duration::from_secs(2);
/// The longest delay.
pub const MAX: Duration = Duration::from_secs(300);

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go ahead.
    Go,
    /// Wait until then; the second value is the whole delay, for messages.
    Wait(Timestamp, Duration),
}

/// The back-off of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    entry: Option<(Duration, Timestamp)>,
}

impl Backoff {
    /// May something that ended at `since` be tried again now?
    pub fn check(&self, since: Timestamp, now: Timestamp) -> Verdict {
        match self.entry {
            Some((delay, updated)) if !expired(updated, since) => {
                let until = since.saturating_add(signed(delay)).unwrap_or(since);
                if ahead(until, now, delay) {
                    Verdict::Wait(until, delay)
                } else {
                    Verdict::Go
                }
            }
            _ => Verdict::Go,
        }
    }

    /// Notes a try (of a restart) or a failure (of a pull): the next delay doubles.
    pub fn next(&mut self, event: Timestamp, now: Timestamp) {
        let delay = match self.entry {
            Some((delay, updated)) if !expired(updated, event) => (delay * 2).min(MAX),
            _ => INITIAL,
        };
        self.entry = Some((delay, now));
    }

    /// The moment of the last note and the delay it set; for things that wait from the failure itself.
    pub fn pending(&self, now: Timestamp) -> Verdict {
        match self.entry {
            Some((_, updated)) => self.check(updated, now),
            None => Verdict::Go,
        }
    }
}

/// Whether `until` is to be waited for. A wait longer than it can be means that the clock was set back since it began:
/// how much of it has passed nobody knows, and it ends.
pub fn ahead(until: Timestamp, now: Timestamp, most: Duration) -> bool {
    now < until && until.duration_since(now) <= signed(most.saturating_add(SLACK))
}

fn expired(updated: Timestamp, event: Timestamp) -> bool {
    event.duration_since(updated) > signed(MAX * 2)
}

fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("in range")
    }

    #[test]
    fn restarts_wait_longer_and_longer() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..8 {
            let finished = now;
            if let Verdict::Wait(until, delay) = backoff.check(at(finished), at(now)) {
                assert_eq!(until, at(finished + delay.as_secs() as i64));
                now = finished + delay.as_secs() as i64;
                delays.push(delay.as_secs());
                assert_eq!(backoff.check(at(finished), at(now)), Verdict::Go);
            } else {
                delays.push(0);
            }
            backoff.next(at(finished), at(now));
            now += 1;
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        // Ten minutes of health forget everything.
        let finished = now + 700;
        assert_eq!(backoff.check(at(finished), at(finished)), Verdict::Go);
        backoff.next(at(finished), at(finished));
        assert_eq!(
            backoff.check(at(finished + 1), at(finished + 1)),
            Verdict::Wait(at(finished + 11), INITIAL)
        );
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_nothing() {
        let mut backoff = Backoff::default();
        backoff.next(at(0), at(0));
        assert_eq!(backoff.check(at(0), at(-3600)), Verdict::Go);
        assert_eq!(backoff.check(at(0), at(3600)), Verdict::Go);
        assert_eq!(backoff.check(at(0), at(-1)), Verdict::Wait(at(10), INITIAL));
    }

    #[test]
    fn pulls_wait_from_their_failure() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pending(at(0)), Verdict::Go);
        backoff.next(at(0), at(0));
        assert_eq!(backoff.pending(at(5)), Verdict::Wait(at(10), INITIAL));
        assert_eq!(backoff.pending(at(10)), Verdict::Go);
    }
}
