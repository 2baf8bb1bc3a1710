//! The work queue of one reconciler: keys, each at most once, each worked on by one worker at a time.
//!
//! A key added while it is being worked on is worked on again afterwards; a failed key comes back later and later
//! (5 ms doubling to 60 s). The queue is bounded by the number of objects, since a key is in it once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cache::Key;

const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LAST_BACKOFF: Duration = Duration::from_secs(60);

/// See the module's words.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// Keys that want work: those in `ready`, and those added while being worked on.
    dirty: HashSet<Key>,
    working: HashSet<Key>,
    later: BTreeMap<(Instant, u64), Key>,
    /// The earliest time a key waits for; a later wish for the same key adds nothing.
    due: HashMap<Key, (Instant, u64)>,
    failures: HashMap<Key, u32>,
    sequence: u64,
}

impl State {
    fn add(&mut self, key: Key) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

impl Queue {
    /// Wants `key` worked on now.
    pub fn add(&self, key: Key) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// Wants `key` worked on after a while; the earliest such wish wins.
    pub fn add_after(&self, key: Key, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.state.lock();
        state.sequence += 1;
        let at = (Instant::now() + delay, state.sequence);
        match state.due.get(&key).copied() {
            Some(known) if known.0 <= at.0 => return,
            Some(known) => drop(state.later.remove(&known)),
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.later.insert(at, key);
        drop(state);
        self.wake.notify_one();
    }

    /// The next key; the caller owns it until [`Queue::done`].
    pub async fn next(&self) -> Key {
        loop {
            let wait = {
                let mut state = self.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        // A permit of `Notify` does not count: pass the rest on to the next worker.
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.later.first_key_value().map(|((at, _), _)| *at)
            };
            match wait {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Gives a key back.
    pub fn done(&self, key: &Key) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &Key) {
        self.state.lock().failures.remove(key);
    }

    /// Counts a failure of a key and wants it again after the back-off that it has earned.
    pub fn retry(&self, key: Key) {
        let failures = {
            let mut state = self.state.lock();
            let count = state.failures.entry(key.clone()).or_default();
            *count = count.saturating_add(1);
            *count
        };
        let delay = FIRST_BACKOFF.saturating_mul(1_u32 << (failures - 1).min(20)).min(LAST_BACKOFF);
        self.add_after(key, delay);
    }

    /// Keys that wait for a worker now.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// True when no key waits for a worker now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_worked_on_by_one_at_a_time() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        let first = queue.next().await;
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("b"), "a is being worked on");
        assert!(queue.is_empty());
        queue.done(&first);
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn later_means_later_and_the_earliest_wish_wins() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add_after(key("a"), Duration::from_secs(3));
        queue.add_after(key("a"), Duration::from_secs(5));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&key("a"));
        for _ in 0..30 {
            queue.retry(key("a"));
            queue.next().await;
            queue.done(&key("a"));
        }
        let before = Instant::now();
        queue.retry(key("a"));
        queue.next().await;
        assert_eq!(before.elapsed().as_secs(), 60, "back-off has an end");
    }
}
