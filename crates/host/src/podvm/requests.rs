//! What the Pods of a host have asked for, and who among those that wait for more comes first: what a resize may not go
//! beyond (kubelet: `allocation_manager.go`).

use std::cmp::Reverse;
use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Capacity;
use crate::size;

/// What a Pod asks its host for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

impl Asked {
    /// The requests of a Pod, with its overhead.
    pub fn of(pod: &Pod) -> Self {
        let asked = |name| pod.spec.as_ref().map_or(0, |spec| size::requested(spec, name));
        Self {
            cpu_millis: asked("cpu"),
            memory_bytes: asked("memory").div_ceil(1000),
        }
    }

    /// Each resource by name, of this and of what a host can give.
    pub fn each(self, capacity: &Capacity) -> [(&'static str, u64, u64); 2] {
        [
            ("cpu", self.cpu_millis, capacity.cpu_millis),
            ("memory", self.memory_bytes, capacity.memory_bytes),
        ]
    }

    fn amount(self, resource: &str) -> u64 {
        match resource {
            "cpu" => self.cpu_millis,
            _ => self.memory_bytes,
        }
    }
}

/// Where a Pod stands among those that wait for room (kubelet: `sortPendingResizes`).
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The Pod's priority.
    pub priority: i32,
    /// Its quality of service is the best.
    pub guaranteed: bool,
    /// Since when it waits.
    pub since: Instant,
}

impl Place {
    /// Less is earlier.
    fn order(&self) -> (Reverse<i32>, Reverse<bool>, Instant) {
        (Reverse(self.priority), Reverse(self.guaranteed), self.since)
    }
}

/// Requests of the Pods of a host: what a resize may not go beyond.
#[derive(Debug, Default)]
pub struct Requests {
    all: Mutex<Book>,
    freed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Book {
    /// What each Pod has.
    given: HashMap<String, Asked>,
    /// What Pods wait for.
    waiting: HashMap<String, (Place, Asked)>,
}

impl Book {
    /// Why a Pod cannot have this much, when these others have what they have.
    fn lacking(
        given: &HashMap<String, Asked>,
        uid: &str,
        asked: Asked,
        capacity: &Capacity,
    ) -> Option<String> {
        let own = given.get(uid).copied().unwrap_or_default();
        asked.each(capacity).into_iter().find_map(|(resource, requested, capacity)| {
            let own = own.amount(resource);
            let sum: u64 = given.values().map(|asked| asked.amount(resource)).sum();
            let used = sum.saturating_sub(own);
            (requested > own && used.saturating_add(requested) > capacity).then(|| {
                format!(
                    "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: \
                     {capacity}"
                )
            })
        })
    }

    /// What all have once those who come before this place have got what fits.
    fn after_those_before(&self, uid: &str, place: &Place, capacity: &Capacity) -> HashMap<String, Asked> {
        let mut before: Vec<_> = self
            .waiting
            .iter()
            .filter(|(other, (known, _))| *other != uid && known.order() < place.order())
            .collect();
        before.sort_by_key(|(_, (place, _))| place.order());
        let mut given = self.given.clone();
        for (other, (_, asked)) in before {
            if Self::lacking(&given, other, *asked, capacity).is_none() {
                given.insert(other.clone(), *asked);
            }
        }
        given
    }
}

impl Requests {
    /// Notes what a Pod has; nothing once it has ended.
    pub fn note(&self, uid: &str, asked: Asked) {
        let mut all = self.all.lock();
        let before = match asked == Asked::default() {
            true => all.given.remove(uid),
            false => all.given.insert(uid.to_owned(), asked),
        };
        let less =
            |before: Asked| asked.cpu_millis < before.cpu_millis || asked.memory_bytes < before.memory_bytes;
        if before.is_some_and(less) {
            self.freed.send_replace(());
        }
    }

    /// Tells when some Pod has less than before.
    pub fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    /// A Pod waits for nothing any more.
    pub fn withdraw(&self, uid: &str) {
        self.all.lock().waiting.remove(uid);
    }

    /// Gives a Pod this much, if all together have room, and those that come before it, too; else the words of what is lacking.
    pub fn take(&self, uid: &str, asked: Asked, place: Place, capacity: &Capacity) -> Result<(), String> {
        let mut all = self.all.lock();
        let place = Place {
            since: all.waiting.get(uid).map_or(place.since, |(known, _)| known.since),
            ..place
        };
        let given = all.after_those_before(uid, &place, capacity);
        if let Some(problem) = Book::lacking(&given, uid, asked, capacity) {
            all.waiting.insert(uid.to_owned(), (place, asked));
            return Err(problem);
        }
        all.waiting.remove(uid);
        all.given.insert(uid.to_owned(), asked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ROOM: Capacity = Capacity {
        cpu_millis: 1900,
        memory_bytes: 4096,
        pods: 10,
        ephemeral_bytes: 0,
    };

    fn asking((cpu_millis, memory_bytes): (u64, u64)) -> Asked {
        Asked {
            cpu_millis,
            memory_bytes,
        }
    }

    fn place(priority: i32, guaranteed: bool, since: Instant) -> Place {
        Place {
            priority,
            guaranteed,
            since,
        }
    }

    #[test]
    fn a_host_gives_what_it_has() {
        let requests = Requests::default();
        let place = place(0, false, Instant::now());
        let take = |uid, asked| requests.take(uid, asking(asked), place, &ROOM);
        requests.note("a", asking((1000, 1024)));
        requests.note("b", asking((500, 1024)));
        let lacking = |resource, [requested, used, capacity]: [u64; 3]| {
            Err(format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            ))
        };
        assert_eq!(take("a", (1500, 1024)), lacking("cpu", [1500, 500, 1900]));
        assert_eq!(take("a", (1000, 3073)), lacking("memory", [3073, 1024, 4096]));
        assert_eq!(take("a", (1400, 3072)), Ok(()));
        assert_eq!(take("b", (501, 1024)), lacking("cpu", [501, 1400, 1900]));
        // Less is always had.
        assert_eq!(take("b", (400, 1000)), Ok(()));
        requests.note("a", Asked::default());
        assert_eq!(take("b", (1900, 4096)), Ok(()));
    }

    #[test]
    fn who_comes_first_among_those_that_wait() {
        let requests = Requests::default();
        for uid in ["late", "early", "guaranteed", "important"] {
            requests.note(uid, asking((100, 1)));
        }
        requests.note("other", asking((1500, 1)));
        let now = Instant::now();
        let places = [
            ("late", place(0, false, now + Duration::from_secs(9))),
            ("early", place(0, false, now)),
            ("guaranteed", place(0, true, now + Duration::from_secs(9))),
            ("important", place(7, false, now + Duration::from_secs(9))),
        ];
        let granted = || {
            let take = |(uid, place): &(&'static str, Place)| {
                requests
                    .take(uid, asking((600, 1)), *place, &ROOM)
                    .is_ok()
                    .then_some(*uid)
            };
            places.iter().filter_map(take).collect::<Vec<_>>()
        };
        assert_eq!(granted(), [""; 0]);
        let mut order = Vec::new();
        for left in [1000, 500, 0] {
            requests.note("other", asking((left, 1)));
            let given = granted().into_iter().filter(|uid| !order.contains(uid));
            order.extend(given.collect::<Vec<_>>());
        }
        assert_eq!(order, ["important", "guaranteed", "early"]);
        requests.withdraw("late");
        requests.note("important", Asked::default());
        assert_eq!(granted(), ["late", "early", "guaranteed"]);
    }
}
