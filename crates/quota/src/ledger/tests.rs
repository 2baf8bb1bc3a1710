//! A ledger beside a namespace whose Pods come, change and go: its sum is always that of a new one, at the cost of the change.

#![allow(clippy::unwrap_used)]

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// The Pods of a namespace, and which of them each revision touched.
#[derive(Default)]
struct Pods(Mutex<State>);

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Arc<Value>>,
    log: Vec<String>,
    /// What happened up to this revision is not known any more.
    forgotten: usize,
    /// How often all were listed, and how often one was read.
    listed: usize,
    read: usize,
}

impl Pods {
    fn put(&self, name: &str, cpu: &str, going: bool) {
        let mut state = self.0.lock().unwrap();
        state.log.push(name.to_owned());
        let mut pod = json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": state.log.len().to_string()},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        if going {
            // Its time was over long ago.
            pod["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
        }
        state.pods.insert(name.to_owned(), Arc::new(pod));
    }

    fn remove(&self, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.log.push(name.to_owned());
        state.pods.remove(name);
    }

    fn forget(&self) {
        let mut state = self.0.lock().unwrap();
        state.forgotten = state.log.len();
    }
}

impl View for Pods {
    fn get(&self, _: &GroupResource, _: Option<&str>, name: &str) -> Option<Arc<Value>> {
        let mut state = self.0.lock().unwrap();
        state.read += 1;
        state.pods.get(name).cloned()
    }
    fn list(&self, _: &GroupResource, _: Option<&str>) -> Vec<Arc<Value>> {
        let mut state = self.0.lock().unwrap();
        state.listed += 1;
        state.pods.values().cloned().collect()
    }
    fn touched(&self, _: &GroupResource, _: &str, since: u64) -> Option<BTreeSet<String>> {
        let state = self.0.lock().unwrap();
        let since = since as usize;
        (since >= state.forgotten).then(|| state.log[since..].iter().cloned().collect())
    }
    fn revision(&self) -> u64 {
        self.0.lock().unwrap().log.len() as u64
    }
    fn resource_revision(&self, _: &GroupResource) -> u64 {
        self.revision()
    }
}

fn quota() -> Value {
    json!({"metadata": {"name": "q", "namespace": "n"},
        "spec": {"hard": {"pods": "9", "requests.cpu": "9", "count/pods": "9"}}})
}

fn used(ledger: &Ledger) -> String {
    let used = ledger.used().into_iter();
    let used: Vec<String> = used.map(|(_, amount)| amount.to_string()).collect();
    used.join(" ")
}

#[test]
fn what_changes_is_counted_without_a_look_at_the_rest() {
    let pods = Pods::default();
    for i in 0..100 {
        pods.put(&format!("pod-{i}"), "10m", false);
    }
    let mut ledger = Ledger::new(&quota());
    ledger.follow(&pods);
    assert_eq!(used(&ledger), "100 100 1");
    pods.put("pod-7", "20m", false);
    pods.put("pod-8", "1", true);
    pods.remove("pod-9");
    pods.put("more", "500m", false);
    ledger.follow(&pods);
    // One that goes and whose time is over counts as an object alone.
    assert_eq!(used(&ledger), "100 99 1490m");
    ledger.follow(&pods);
    let state = pods.0.lock().unwrap();
    assert_eq!((state.listed, state.read), (1, 4));
}

#[test]
fn whatever_happens_the_sum_is_that_of_a_new_ledger() {
    let pods = Pods::default();
    let mut ledger = Ledger::new(&quota());
    let mut state: u64 = 1;
    let mut dice = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % sides
    };
    for round in 0..2000 {
        let name = format!("pod-{}", dice(12));
        match dice(8) {
            0..=3 => pods.put(&name, &format!("{}m", dice(900)), false),
            4 => pods.put(&name, "1", true),
            5 | 6 => pods.remove(&name),
            _ => pods.forget(),
        }
        if dice(3) == 0 {
            ledger.follow(&pods);
            let mut anew = Ledger::new(&quota());
            anew.follow(&pods);
            assert_eq!(used(&ledger), used(&anew), "round {round}");
        }
    }
}

#[test]
fn a_write_on_its_way_counts_once() {
    let pods = Pods::default();
    pods.put("old", "100m", false);
    let version = pods.get(&GroupResource::new("", "pods"), None, "old").unwrap();
    let version = version["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let resource = GroupResource::new("", "pods");
    let of = |cpu: &str| {
        json!({"metadata": {"namespace": "n"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    let (new, larger) = (of("1"), of("300m"));
    let writes = || {
        let write = |name, object, replaces| Pending {
            resource: &resource,
            name,
            object,
            replaces,
        };
        [
            write("new", &new, None),
            write("old", &larger, Some(version.as_str())),
        ]
        .into_iter()
    };
    let with = |ledger: &Ledger| {
        let used = ledger.used_with(writes());
        (used["pods"].to_string(), used["requests.cpu"].to_string())
    };
    let expected = ("2".to_owned(), "1300m".to_owned());
    let mut ledger = Ledger::new(&quota());
    ledger.follow(&pods);
    assert_eq!(with(&ledger), expected);
    pods.put("new", "1", false);
    ledger.follow(&pods);
    assert_eq!(with(&ledger), expected, "one of them is visible");
    pods.put("old", "300m", false);
    ledger.follow(&pods);
    assert_eq!(with(&ledger), expected, "both are");
}

#[test]
fn amounts_that_stay_stand_as_they_were_written() {
    let pods = Pods::default();
    pods.put("a", "1500m", false);
    let mut ledger = Ledger::new(&quota());
    ledger.follow(&pods);
    let shown = json!({"used": {"pods": "3", "requests.cpu": "1.5"}});
    assert_eq!(
        ledger.status(&shown)["used"],
        json!({"count/pods": "1", "pods": "1", "requests.cpu": "1.5"})
    );
}
