//! Selectors of many objects, such that those that match one object's labels are found without asking all of them: each is
//! kept at the labels of one of its conditions.

use cache::Object;
use kinds::selector::{LabelSelector, Requirement};
use std::collections::{BTreeSet, HashMap};

/// The selectors by the keys of those who have them.
#[derive(Default)]
pub(super) struct Selectors {
    all: HashMap<String, Kept>,
    /// By namespace, label and value.
    by_label: HashMap<Place, BTreeSet<String>>,
    /// By namespace, those that name no label with its values.
    others: HashMap<String, BTreeSet<String>>,
}

struct Kept {
    selector: LabelSelector,
    /// Empty for one that is kept among the others.
    places: Vec<Place>,
}

type Place = (String, String, String);

fn namespace(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

fn places(namespace: &str, selector: &LabelSelector) -> Vec<Place> {
    let choices = selector
        .requirements
        .iter()
        .filter_map(|requirement| match requirement {
            Requirement::In(label, values) => Some((label, values)),
            _ => None,
        });
    let narrowest = choices.min_by_key(|(_, values)| values.len());
    let (label, values) = match narrowest {
        Some((label, values)) => (label.as_str(), values.as_slice()),
        None => ("", &[][..]),
    };
    let place = |value: &String| (namespace.to_owned(), label.to_owned(), value.clone());
    values.iter().map(place).collect()
}

impl Selectors {
    /// This selector, or none, is what the one with this key has from now on.
    pub(super) fn put(&mut self, key: &str, selector: Option<LabelSelector>) {
        let namespace = namespace(key);
        if let Some(before) = self.all.remove(key) {
            for place in &before.places {
                withdraw(&mut self.by_label, place, key);
            }
            if before.places.is_empty() {
                withdraw(&mut self.others, &namespace.to_owned(), key);
            }
        }
        let Some(selector) = selector else { return };
        let places = places(namespace, &selector);
        for place in &places {
            let here = self.by_label.entry(place.clone()).or_default();
            here.insert(key.to_owned());
        }
        if places.is_empty() {
            let here = self.others.entry(namespace.to_owned()).or_default();
            here.insert(key.to_owned());
        }
        self.all.insert(key.to_owned(), Kept { selector, places });
    }

    /// Nobody selects anything.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds the keys of those in the object's namespace whose selector its labels match.
    pub(super) fn matching(&self, object: &Object, found: &mut BTreeSet<String>) {
        if self.is_empty() {
            return;
        }
        let namespace = object.namespace();
        let labels = object.labels().iter();
        let at_labels = labels.filter_map(|(label, value)| {
            let place = (namespace.to_owned(), label.to_string(), value.to_string());
            self.by_label.get(&place)
        });
        for key in at_labels.chain(self.others.get(namespace)).flatten() {
            let kept = self.all.get(key);
            if kept.is_some_and(|kept| kept.selector.matches_with(|label| object.label(label))) {
                found.insert(key.clone());
            }
        }
    }
}

fn withdraw<P: std::hash::Hash + Eq>(from: &mut HashMap<P, BTreeSet<String>>, place: &P, key: &str) {
    if let Some(here) = from.get_mut(place) {
        here.remove(key);
        if here.is_empty() {
            from.remove(place);
        }
    }
}
