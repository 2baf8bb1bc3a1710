//! Locks without poisoning. There is one thread, so nothing ever waits; the gRPC library asks for `Send` all the same.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. The guard must not live across an await.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
