//! Places that clients share: nobody holds more of them than are left for all others, so that one who takes all it can get
//! leaves half of them free, two a third, and whoever comes next finds one. An address is a client: that of a Pod is nobody
//! else's, which the host's network sees to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// A number of places.
pub struct Places(Mutex<State>);

struct State {
    free: usize,
    held: HashMap<IpAddr, usize>,
}

/// One of them, free again when this is dropped.
pub struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    /// So many places.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: count,
            held: HashMap::new(),
        })))
    }

    /// A place for this client, if it may have one more.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut state = self.0.lock();
        let held = state.held.get(&client).copied().unwrap_or(0);
        if held >= state.free {
            return None;
        }
        state.free -= 1;
        state.held.insert(client, held + 1);
        Some(Place {
            places: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.0.lock();
        state.free += 1;
        match state.held.get_mut(&self.client) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(state.held.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all() {
        let places = Places::new(12);
        let client = |number: u8| IpAddr::from([10, 244, 0, number]);
        let all = |number| std::iter::from_fn(|| places.take(client(number))).collect::<Vec<_>>();
        let first = all(1);
        let second = all(2);
        let third = all(3);
        assert_eq!([first.len(), second.len(), third.len()], [6, 3, 2]);
        drop(first);
        assert_eq!(all(2).len(), 2);
        drop((second, third));
        assert_eq!(all(3).len(), 6);
        assert!(places.0.lock().held.is_empty());
    }
}
