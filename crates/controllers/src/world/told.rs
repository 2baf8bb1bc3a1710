//! Keeps the Events of a source within bounds, as the correlator of upstream's recorders does
//! (`staging/src/k8s.io/client-go/tools/record/events_cache.go`): many that differ in their words alone become one, and an
//! object about which too much is said is silent for a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// So many messages for one reason are told one by one, within [`TOGETHER`]; further ones become one Event.
const SINGLE: usize = 10;
const TOGETHER: Duration = Duration::from_secs(600);
/// So many Events about one object are told at once; then one each [`REFILL`].
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// At most so many objects and reasons are remembered, as upstream.
const REMEMBERED: usize = 4096;

/// An Event about to be told.
pub(super) struct Saying<'a> {
    pub source: &'a str,
    /// Who it is about: the uid.
    pub about: &'a str,
    pub kind: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

/// What is to be told.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It, as it is.
    Single,
    /// One Event for all that are like it.
    Combined,
    /// Nothing.
    Silent,
}

/// What has been told.
#[derive(Default)]
pub(super) struct Told {
    similar: HashMap<String, Similar>,
    left: HashMap<String, Bucket>,
}

struct Similar {
    messages: HashSet<String>,
    last: Instant,
}

struct Bucket {
    /// Events that may be told at once.
    tokens: f64,
    last: Instant,
}

impl Told {
    /// Judges an Event, and takes it as told unless the answer is silence.
    pub fn judge(&mut self, saying: &Saying<'_>, now: Instant) -> Verdict {
        self.forget(now);
        let Saying { source, about, .. } = saying;
        let key = format!("{source} {about} {} {}", saying.kind, saying.reason);
        let similar = self.similar.entry(key).or_insert_with(|| Similar {
            messages: HashSet::new(),
            last: now,
        });
        if now.duration_since(similar.last) > TOGETHER {
            similar.messages.clear();
        }
        similar.last = now;
        let known = similar.messages.contains(saying.message);
        let combined = !known && similar.messages.len() >= SINGLE;
        if !combined && !known {
            similar.messages.insert(saying.message.to_owned());
        }
        let full = f64::from(BURST);
        let bucket = self.left.entry(format!("{source} {about}")).or_insert(Bucket {
            tokens: full,
            last: now,
        });
        let refilled = now.duration_since(bucket.last).as_secs_f64() / REFILL.as_secs_f64();
        bucket.tokens = (bucket.tokens + refilled).min(full);
        bucket.last = now;
        if bucket.tokens < 1.0 {
            return Verdict::Silent;
        }
        bucket.tokens -= 1.0;
        match combined {
            true => Verdict::Combined,
            false => Verdict::Single,
        }
    }

    /// Drops what has no bearing any more, and everything when there is too much of it.
    fn forget(&mut self, now: Instant) {
        if self.similar.len() < REMEMBERED && self.left.len() < REMEMBERED {
            return;
        }
        self.similar.retain(|_, s| now.duration_since(s.last) <= TOGETHER);
        self.left
            .retain(|_, bucket| now.duration_since(bucket.last) < REFILL * BURST);
        if self.similar.len() >= REMEMBERED {
            self.similar.clear();
        }
        if self.left.len() >= REMEMBERED {
            self.left.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_that_are_alike_become_one_and_then_none() {
        let mut told = Told::default();
        let start = Instant::now();
        let mut say = |message: &str, reason: &str, after: u64| {
            let saying = Saying {
                source: "replicaset-controller",
                about: "u",
                kind: "Warning",
                reason,
                message,
            };
            told.judge(&saying, start + Duration::from_secs(after))
        };
        let verdicts: Vec<Verdict> = (0..30)
            .map(|n| say(&format!("pod {n}"), "FailedCreate", 0))
            .collect();
        let count = |wanted: &Verdict| verdicts.iter().filter(|v| *v == wanted).count();
        assert_eq!(count(&Verdict::Single), 10);
        assert_eq!(count(&Verdict::Combined), 15);
        assert_eq!(count(&Verdict::Silent), 5);
        // One more each five minutes, whatever it says.
        assert_eq!(say("something else", "Other", 1), Verdict::Silent);
        assert_eq!(say("something else", "Other", 302), Verdict::Single);
        assert_eq!(say("something else", "Other", 303), Verdict::Silent);
        // After ten quiet minutes, similar ones are told one by one again.
        assert_eq!(say("pod 31", "FailedCreate", 2000), Verdict::Single);
    }

    #[test]
    fn the_same_message_is_no_other_one() {
        let mut told = Told::default();
        let now = Instant::now();
        for n in 0..20 {
            let saying = Saying {
                source: "s",
                about: "u",
                kind: "Normal",
                reason: "R",
                message: "same",
            };
            assert_eq!(told.judge(&saying, now), Verdict::Single, "{n}");
        }
    }
}
