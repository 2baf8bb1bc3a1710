//! Bounds per user: how many requests may run and how many watches may be open at the same time.
//!
//! A user beyond the bound waits for a place, up to a few seconds, and is then told to come back. Other users do not
//! notice: each has places of their own.

use kinds::status::Status;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for a place.
const WAIT: Duration = Duration::from_secs(15);
/// Lists of one user that are answered at the same time, to the last byte: they cost a hundred times what a read does.
const LISTS: usize = 4;
/// Users remembered; idle ones are forgotten beyond it.
const REMEMBERED: usize = 4096;

/// The places of one user.
struct Places {
    requests: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    waiting: AtomicUsize,
    watches: Arc<AtomicUsize>,
}

/// The bounds of one server.
pub struct Limits {
    per_user: usize,
    watches_per_user: usize,
    users: Mutex<HashMap<String, Arc<Places>>>,
}

/// Held while a request is served.
pub struct Ticket {
    _place: Option<OwnedSemaphorePermit>,
}

/// Held while a watch is open.
pub struct WatchTicket {
    open: Option<Arc<AtomicUsize>>,
}

impl Drop for WatchTicket {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Limits {
    /// Bounds of so many requests and watches a user.
    pub fn new(per_user: usize, watches_per_user: usize) -> Limits {
        Limits {
            per_user,
            watches_per_user,
            users: Mutex::default(),
        }
    }

    fn places(&self, user: &str) -> Arc<Places> {
        let mut users = self.users.lock();
        if users.len() >= REMEMBERED && !users.contains_key(user) {
            users.retain(|_, p| Arc::strong_count(p) > 1 || p.watches.load(Ordering::Relaxed) > 0);
        }
        let new = || {
            Arc::new(Places {
                requests: Arc::new(Semaphore::new(self.per_user)),
                lists: Arc::new(Semaphore::new(LISTS.min(self.per_user))),
                waiting: AtomicUsize::new(0),
                watches: Arc::default(),
            })
        };
        users.entry(user.to_string()).or_insert_with(new).clone()
    }

    /// Takes a place for a request.
    pub async fn request(&self, user: &str) -> Result<Ticket, Status> {
        let places = self.places(user);
        if let Ok(place) = places.requests.clone().try_acquire_owned() {
            return Ok(Ticket { _place: Some(place) });
        }
        let refused = || Status::too_many_requests("too many requests, please try again later", 1);
        // As many may wait as may run.
        if places.waiting.fetch_add(1, Ordering::Relaxed) >= self.per_user {
            places.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(refused());
        }
        let waited = tokio::time::timeout(WAIT, places.requests.clone().acquire_owned()).await;
        places.waiting.fetch_sub(1, Ordering::Relaxed);
        match waited {
            Ok(Ok(place)) => Ok(Ticket { _place: Some(place) }),
            _ => Err(refused()),
        }
    }

    /// Takes a place for a list, to be held until the last byte of the answer is sent.
    pub async fn list(&self, user: &str) -> Result<(Ticket, Ticket), Status> {
        let request = self.request(user).await?;
        let lists = self.places(user).lists.clone();
        match tokio::time::timeout(WAIT, lists.acquire_owned()).await {
            Ok(Ok(place)) => Ok((request, Ticket { _place: Some(place) })),
            _ => Err(Status::too_many_requests(
                "too many requests, please try again later",
                1,
            )),
        }
    }

    /// A place that counts for nobody: requests that last, and the server's own.
    pub fn free(&self) -> Ticket {
        Ticket { _place: None }
    }

    /// Counts an open watch.
    pub fn watch(&self, user: &str) -> Result<WatchTicket, Status> {
        let open = self.places(user).watches.clone();
        if open.fetch_add(1, Ordering::Relaxed) >= self.watches_per_user {
            open.fetch_sub(1, Ordering::Relaxed);
            return Err(Status::too_many_requests(
                "too many watches are open for this user, please try again later",
                1,
            ));
        }
        Ok(WatchTicket { open: Some(open) })
    }
}
