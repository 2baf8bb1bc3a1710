//! Which objects a controller has to look at: those that are concerned by what has changed since its last look, and no others.
//!
//! The rule. A controller looks after the objects of one resource, the primaries. One of them is looked at again
//!
//! - when it has come or changed itself;
//! - when an object that it depends on has come, changed or gone. Each relation by which it depends on others is a [`By`] of
//!   its [`Concern`]; both states of a change count, the one before and the one after, so that whoever loses an owner, a
//!   label or its life is missed by whom it belonged to as much as it is noticed by whom it belongs to now;
//! - when its last look asked for it ([`Round::note`]): at a time, or after a failure;
//! - and all of them at the start, when it is no longer known what has changed, when somebody has set the clock, and
//!   rarely ([`ALL`]) for what nobody has thought of.
//!
//! A look sees the present state of everything, so that it may be done once for many changes, and once too often. Nothing is
//! crossed off before its look is over: a sweep may be left anywhere.

pub(crate) mod agenda;
mod selectors;
#[cfg(test)]
pub(crate) mod tests;

use crate::manager::RETRY;
use crate::world::{World, WorldError};
use agenda::{Agenda, Clock};
use cache::{Change, ChangeKind, Object};
use kinds::selector::LabelSelector;
use parking_lot::Mutex;
use selectors::Selectors;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// All are looked at after this time, whatever has changed.
pub(crate) const ALL: Duration = Duration::from_secs(600);

/// A relation of objects to the primaries that depend on them.
pub(crate) enum By {
    /// They name primaries among their owners.
    Owner,
    /// Primaries name them among their owners; those that have gone, and of the others those of which this holds.
    Owned(fn(&Object) -> bool),
    /// Primaries select them by their labels.
    Labels,
    /// They decide about what primaries select by its labels.
    LabelsOf(fn(&World, &Object) -> Vec<Arc<Object>>),
    /// They tell the names of primaries, or what may be names of some, with their namespaces (`namespace/name`).
    Name(fn(&Object) -> Vec<String>),
    /// All primaries depend on them: when this holds of the states before and after a change.
    All(fn(Option<&Value>, Option<&Value>) -> bool),
}

/// The resources that primaries depend on, and how.
pub(crate) type Ties = &'static [(&'static str, &'static [By])];

/// What a controller looks after, and what of it is to be looked at.
pub(crate) struct Concern {
    primary: &'static str,
    ties: Ties,
    wanted: fn(&Object) -> bool,
    selector: fn(&Value) -> Option<LabelSelector>,
    state: Mutex<State>,
    looks: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The revision of each resource up to which its changes are taken in.
    seen: HashMap<&'static str, u64>,
    /// When all were looked at.
    all: Option<Instant>,
    agenda: Agenda,
    selectors: Selectors,
    clock: Clock,
}

impl Concern {
    /// Looks after the objects of a resource that depend on others by these ties.
    pub(crate) fn new(primary: &'static str, ties: Ties) -> Concern {
        Concern {
            primary,
            ties,
            wanted: |_| true,
            selector: |_| None,
            state: Mutex::default(),
            looks: AtomicU64::new(0),
        }
    }

    /// Where a primary says which labels it selects.
    pub(crate) fn selecting(self, selector: fn(&Value) -> Option<LabelSelector>) -> Concern {
        Concern { selector, ..self }
    }

    /// Leaves out those primaries of which the cache's index does not say this.
    pub(crate) fn only(self, wanted: fn(&Object) -> bool) -> Concern {
        Concern { wanted, ..self }
    }

    /// The resources whose changes are of interest.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.primary).chain(self.ties.iter().map(|(resource, _)| *resource))
    }

    /// How many looks there were at primaries.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Begins a round over what is to be looked at now.
    pub(crate) fn begin(&self, world: &World) -> Round<'_> {
        self.begin_at(world, Instant::now(), SystemTime::now())
    }

    fn begin_at(&self, world: &World, now: Instant, clock: SystemTime) -> Round<'_> {
        let mut locked = self.state.lock();
        let state = &mut *locked;
        let mut all = state.clock.was_set(now, clock);
        all |= state.all.is_none_or(|at| now.duration_since(at) >= ALL);
        let mut concerned = BTreeSet::new();
        // The primaries first: what else has changed is then held against what they select by now. Whoever selects something
        // else a moment later has changed, and is looked at for that.
        match state.news(world, self.primary) {
            Some(changes) if !all => {
                for change in changes {
                    let states = std::iter::once(&change.object).chain(&change.previous);
                    if !states.into_iter().any(|object| (self.wanted)(object)) {
                        continue;
                    }
                    let object = Some(&change.object).filter(|_| change.kind != ChangeKind::Deleted);
                    self.index(world, &mut state.selectors, change.object.key(), object);
                    concerned.insert(change.object.key().to_owned());
                }
            }
            _ => all = true,
        }
        for (resource, ties) in self.ties {
            match state.news(world, resource) {
                Some(changes) if !all => {
                    for change in &changes {
                        all |= ties
                            .iter()
                            .any(|tie| self.follow(world, tie, change, &state.selectors, &mut concerned));
                    }
                }
                _ => all = true,
            }
        }
        if all {
            state.selectors = Selectors::default();
            state.all = Some(now);
            concerned = state.agenda.all();
            for object in world.entries(self.primary, "", self.wanted) {
                self.index(world, &mut state.selectors, object.key(), Some(&object));
                concerned.insert(object.key().to_owned());
            }
        }
        for key in &concerned {
            state.agenda.hasten(key, now);
        }
        Round {
            concern: self,
            due: state.agenda.due(now).into_iter(),
            current: None,
            lost: false,
            failed: None,
        }
    }

    fn index(&self, world: &World, selectors: &mut Selectors, key: &str, object: Option<&Arc<Object>>) {
        if !self.ties.iter().any(|(_, ties)| ties.iter().any(By::selects)) {
            return;
        }
        let object = object.filter(|object| (self.wanted)(object));
        let selector = object.and_then(|object| (self.selector)(&world.value(object)));
        selectors.put(key, selector);
    }

    /// Adds the primaries that depend on what has changed; true when all do.
    fn follow(
        &self,
        world: &World,
        tie: &By,
        change: &Change,
        selectors: &Selectors,
        concerned: &mut BTreeSet<String>,
    ) -> bool {
        let gone = change.kind == ChangeKind::Deleted;
        if let By::All(matters) = tie {
            let value = |object: &Arc<Object>| world.value(object);
            let after = (!gone).then(|| value(&change.object));
            return matters(change.previous.as_ref().map(value).as_deref(), after.as_deref());
        }
        for state in std::iter::once(&change.object).chain(&change.previous) {
            match tie {
                By::Owner => {
                    let owners = state.links().owners.iter();
                    let found = owners.filter_map(|owner| world.primary(self.primary, *owner));
                    concerned.extend(found.map(|owner| owner.key().to_owned()));
                }
                By::Owned(matters) if gone || matters(state) => {
                    let owned = world.owned(self.primary, state.links().uid);
                    concerned.extend(owned.iter().map(|object| object.key().to_owned()));
                }
                By::Labels => selectors.matching(state, concerned),
                By::LabelsOf(others) if !selectors.is_empty() => {
                    for other in others(world, state) {
                        selectors.matching(&other, concerned);
                    }
                }
                By::Name(names) => concerned.extend(names(state)),
                By::Owned(_) | By::LabelsOf(_) | By::All(_) => {}
            }
        }
        false
    }
}

impl By {
    fn selects(&self) -> bool {
        matches!(self, By::Labels | By::LabelsOf(_))
    }
}

impl State {
    /// What has happened to a resource since the last call; `None` when that is not known.
    fn news(&mut self, world: &World, resource: &'static str) -> Option<Vec<Arc<Change>>> {
        let seen = self.seen.get(resource).copied();
        let since = world.since(resource, seen.unwrap_or(u64::MAX))?;
        self.seen.insert(resource, since.upto);
        seen.and(since.changes)
    }
}

/// One sweep over what is to be looked at.
pub(crate) struct Round<'c> {
    concern: &'c Concern,
    due: std::vec::IntoIter<String>,
    current: Option<String>,
    lost: bool,
    failed: Option<WorldError>,
}

impl Round<'_> {
    /// The primaries that are still to be looked at, with their keys; `None` for those that are gone.
    pub(crate) fn ahead(&self, world: &World) -> Vec<(String, Option<Arc<Value>>)> {
        let keys = self.due.as_slice().iter();
        keys.map(|key| (key.clone(), self.find(world, key))).collect()
    }

    fn find(&self, world: &World, key: &str) -> Option<Arc<Value>> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let found = world.entry(self.concern.primary, namespace, name)?;
        (self.concern.wanted)(&found).then(|| world.value(&found))
    }

    /// The next primary to look at, as it is now. How that goes is to be [noted](Round::note).
    pub(crate) fn next(&mut self, world: &World) -> Option<Arc<Value>> {
        for key in self.due.by_ref() {
            let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
            let found = world.entry(self.concern.primary, namespace, name);
            let Some(found) = found.filter(|found| (self.concern.wanted)(found)) else {
                self.lost = true;
                self.concern.state.lock().agenda.forget(&key);
                continue;
            };
            self.concern.looks.fetch_add(1, Ordering::Relaxed);
            self.current = Some(key);
            return Some(world.value(&found));
        }
        None
    }

    /// Whether primaries that were to be looked at had gone.
    pub(crate) fn lost(&self) -> bool {
        self.lost
    }

    /// Has these looked at in this round as well, though no change concerns them.
    pub(crate) fn join(&mut self, keys: impl IntoIterator<Item = String>) {
        let mut due: BTreeSet<String> = self.due.by_ref().collect();
        due.extend(keys);
        self.due = due.into_iter().collect::<Vec<_>>().into_iter();
    }

    /// How the look at the last primary went: it is looked at again after this time, or after a failure; otherwise when
    /// something concerns it.
    pub(crate) fn note(&mut self, result: Result<Option<Duration>, WorldError>) {
        let Some(key) = self.current.take() else { return };
        let again = match result {
            Ok(again) => again,
            Err(error) => {
                self.failed = Some(error);
                Some(RETRY)
            }
        };
        let mut state = self.concern.state.lock();
        match again {
            Some(again) => state.agenda.set(&key, Instant::now() + again),
            None => state.agenda.forget(&key),
        }
    }

    /// The outcome of the sweep: when the next look is due, or what has failed.
    pub(crate) fn end(self) -> Result<Option<Duration>, WorldError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.concern.state.lock().agenda.next(Instant::now())),
        }
    }
}

/// `namespace/name`, the very same name as that of the object.
pub(crate) fn same_name(object: &Object) -> Vec<String> {
    vec![object.key().to_owned()]
}
