//! A user id for each VM: two QEMU processes of one user could signal each other.
//!
//! Ids come from a range that no account has. Where to begin is drawn from the run directory, so that two host agents
//! on one machine rarely meet in the range; within one agent no two VMs share an id.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Ids in the range; far more than a host has VMs.
const COUNT: u32 = 1 << 16;

/// The ids in use below one driver.
#[derive(Debug, Clone, Default)]
pub(super) struct Users(Arc<Mutex<BTreeSet<u32>>>);

/// An id in use; free again when dropped.
#[derive(Debug)]
pub(super) struct User {
    id: u32,
    users: Users,
}

impl Users {
    /// An id of the range that begins at `first`, for the VM of a run directory.
    pub fn take(&self, first: u32, run_dir: &Path) -> User {
        let mut hasher = DefaultHasher::new();
        run_dir.hash(&mut hasher);
        let start = (hasher.finish() % u64::from(COUNT)) as u32;
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..COUNT)
            .map(|step| first + (start + step) % COUNT)
            .find(|id| !used.contains(id));
        // A host with more VMs than the range has ids would share some: still no account's.
        let id = free.unwrap_or(first + start);
        used.insert(id);
        drop(used);
        User {
            id,
            users: self.clone(),
        }
    }

    /// The id that a VM has already.
    pub fn claim(&self, id: u32) -> User {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        User {
            id,
            users: self.clone(),
        }
    }
}

impl User {
    /// The number.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut used = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_vms_share_an_id_while_both_live() {
        let users = Users::default();
        let directory = Path::new("/run/vm");
        let (one, two) = (users.take(1000, directory), users.take(1000, directory));
        assert_ne!(one.id(), two.id());
        let id = one.id();
        drop(one);
        assert_eq!(users.take(1000, directory).id(), id);
        let claimed = users.claim(id);
        assert_ne!(users.take(1000, directory).id(), claimed.id());
    }
}
