//! The calls that led to a state.

use super::network::StateId;
use std::collections::HashMap;

/// The calls that led to a state, as an entry of [`Stacks`].
pub(super) type StackId = u32;

/// No calls: the beginning, or nobody knows.
pub(super) const EMPTY: StackId = 0;

/// Calls upon calls, each chain stored once.
#[derive(Debug)]
pub(super) struct Stacks {
    /// What is below, and the state to go on in.
    entries: Vec<(StackId, StateId)>,
    known: HashMap<(StackId, StateId), StackId>,
}

impl Stacks {
    pub(super) fn new() -> Stacks {
        Stacks {
            entries: vec![(EMPTY, 0)],
            known: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, below: StackId, back: StateId) -> StackId {
        *self.known.entry((below, back)).or_insert_with(|| {
            self.entries.push((below, back));
            (self.entries.len() - 1) as StackId
        })
    }

    /// What is below the last call, and where it goes on.
    pub(super) fn last(&self, stack: StackId) -> (StackId, StateId) {
        self.entries[stack as usize]
    }

    /// Whether all that is known of `stack` is what `other` says more about.
    pub(super) fn covers(&self, mut stack: StackId, mut other: StackId) -> bool {
        while stack != EMPTY {
            let (below, back) = self.entries[stack as usize];
            let (other_below, other_back) = self.entries[other as usize];
            if other == EMPTY || back != other_back {
                return false;
            }
            (stack, other) = (below, other_below);
        }
        true
    }
}
