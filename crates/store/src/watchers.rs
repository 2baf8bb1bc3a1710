//! Hands committed events to watchers: bounded queues, the slow are cut off, the log never waits.

use crate::contract::{Batch, Event, Revision, StoreError, Watch};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that may wait for one watcher before it is cut off.
const QUEUE: usize = 4096;

struct Watcher {
    prefix: Vec<u8>,
    queue: mpsc::Sender<Result<Batch, StoreError>>,
}

/// The watchers of one store. The owner calls it under the same lock that orders its commits.
#[derive(Default)]
pub(crate) struct Watchers {
    all: Vec<Watcher>,
}

impl Watchers {
    /// Adds a watcher that first gets `history`, complete up to `current`.
    pub(crate) fn add(&mut self, prefix: &[u8], history: Vec<Event>, current: Revision) -> Watch {
        let (queue, events) = mpsc::channel(QUEUE);
        // The queue is empty, so there is room.
        let _ = queue.try_send(Ok(Batch {
            events: Arc::from(history),
            revision: current,
        }));
        self.all.push(Watcher {
            prefix: prefix.to_vec(),
            queue,
        });
        Watch { events }
    }

    /// Sends a committed batch to everybody; who has no part in it learns the revision.
    pub(crate) fn publish(&mut self, batch: &Arc<[Event]>, current: Revision) {
        self.all.retain(|w| {
            let all = batch.iter().all(|e| e.record.key.starts_with(&w.prefix));
            let events: Arc<[Event]> = if all {
                batch.clone()
            } else {
                batch
                    .iter()
                    .filter(|e| e.record.key.starts_with(&w.prefix))
                    .cloned()
                    .collect()
            };
            match w.queue.try_send(Ok(Batch {
                events,
                revision: current,
            })) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!(%current, "a watcher of the log did not keep up and was cut off");
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Ends all watches.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }
}
