//! The states that are followed at once while looking ahead, and what they say about the ways that led there.

use super::network::StateId;
use super::stacks::StackId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A state that is being followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Head {
    pub state: StateId,
    /// The way of the fork that led here.
    pub way: u8,
    /// The rank an operator on the way has, when that decides whether the way is open.
    pub rank: Option<u8>,
}

/// How a state that is being followed was come by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Trail {
    pub stacks: Vec<StackId>,
    /// The rule of the fork was over on the way.
    pub out: bool,
    /// It was left into one that would take it at any rank.
    pub freed: bool,
}

/// All states that are being followed.
pub(super) type Front = BTreeMap<Head, Trail>;

/// In the loop of a left-recursive rule: what the loop itself can take is not left to an outer one.
pub(super) fn inner_first(front: Front, rank: u8) -> Front {
    let mut kept = Front::new();
    for (head, trail) in front.iter().filter(|(head, _)| head.way == 0) {
        if head.rank.is_none_or(|own| own >= rank) {
            kept.insert(Head { rank: None, ..*head }, trail.clone());
        }
    }
    for (head, trail) in front.iter().filter(|(head, _)| head.way != 0) {
        let inner = kept.get(&Head { way: 0, ..*head });
        if trail.freed || inner.is_none_or(|inner| inner.stacks != trail.stacks) {
            kept.insert(*head, trail.clone());
        }
    }
    kept
}

pub(super) fn only_way(front: &Front) -> Option<u8> {
    let mut ways = front.keys().map(|head| head.way);
    let first = ways.next()?;
    ways.all(|way| way == first).then_some(first)
}

/// Per place, that is state and calls: the ways that lead there.
pub(super) fn ways_of_places(front: &Front) -> Vec<Vec<u8>> {
    let mut places: HashMap<(StateId, &[StackId]), Vec<u8>> = HashMap::new();
    for (head, trail) in front {
        let ways = places.entry((head.state, &trail.stacks)).or_default();
        if !ways.contains(&head.way) {
            ways.push(head.way);
        }
    }
    places.into_values().collect()
}

pub(super) fn some_state_has_one_way(front: &Front) -> bool {
    let mut ways: HashMap<StateId, HashSet<u8>> = HashMap::new();
    for head in front.keys() {
        ways.entry(head.state).or_default().insert(head.way);
    }
    ways.values().any(|ways| ways.len() == 1)
}

/// The way that is the first in every place, if it is one.
pub(super) fn one_best_way(front: &Front) -> Option<u8> {
    let mut bests = ways_of_places(front)
        .into_iter()
        .filter_map(|ways| ways.into_iter().min());
    let first = bests.next()?;
    bests.all(|best| best == first).then_some(first)
}
