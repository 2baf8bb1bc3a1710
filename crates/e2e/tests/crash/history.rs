//! What clients did and what watchers saw, and whether one server that never failed could have answered so.
//!
//! Every value that is written is unique, so each event belongs to one call. The checks, in the order of [`check`]:
//! watchers see strictly increasing revisions, all the same; events fit to the state before them; an answered write
//! is there with the revision that was answered, a refused one is not, one without answer is there at most once and
//! whole; whatever begins after another has ended has the greater revision; a read shows a state that was current at
//! some moment between its beginning and its end.

use std::collections::{BTreeMap, HashMap};

/// A moment, in nanoseconds since the run began.
pub type Moment = u64;

/// What a call wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A key that must not be there.
    Create(String),
    /// A new value for the key at this revision.
    Update(String, u64),
    /// Removal of the key at this revision.
    Delete(u64),
    /// What is there.
    Read,
}

/// What a call was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Written, at this revision (deletions are not told theirs).
    Written(Option<u64>),
    /// Read: revision and value, or nothing there.
    Seen(Option<(u64, String)>),
    /// Certainly not done.
    Refused(String),
    /// Nobody knows: the connection broke, or the server failed.
    Unknown,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    pub key: String,
    pub wish: Wish,
    pub begin: Moment,
    pub end: Moment,
    pub answer: Answer,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub change: Change,
    pub key: String,
    pub revision: u64,
    pub value: String,
}

/// A version of a key: from its revision until the next one; no value when it was gone.
struct Version {
    from: u64,
    until: u64,
    value: Option<String>,
    /// When the call that made it began.
    begun: Moment,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub faults: Vec<String>,
    pub answered: usize,
    pub unknown: usize,
    /// Of those without answer, how many were done.
    pub unknown_done: usize,
    pub reads: usize,
    pub events: usize,
}

/// Judges a run: all calls, and what each watcher saw from the beginning to the end.
pub fn check(calls: &[Call], watchers: &[Vec<Event>]) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(history) = same_history(watchers, &mut verdict.faults) else {
        return verdict;
    };
    verdict.events = history.len();
    let mut versions = versions(&history, &mut verdict.faults);
    writes(calls, &history, &mut versions, &mut verdict);
    order(calls, &versions, &mut verdict);
    verdict
}

/// All watchers saw the same, in strictly increasing order.
fn same_history(watchers: &[Vec<Event>], faults: &mut Vec<String>) -> Option<Vec<Event>> {
    for (number, events) in watchers.iter().enumerate() {
        for pair in events.windows(2) {
            if pair[1].revision <= pair[0].revision {
                faults.push(format!(
                    "watcher {number} saw revision {} after {}: {:?}",
                    pair[1].revision, pair[0].revision, pair[1]
                ));
            }
        }
    }
    let first = watchers.first()?;
    for (number, events) in watchers.iter().enumerate().skip(1) {
        let here: BTreeMap<u64, &Event> = events.iter().map(|e| (e.revision, e)).collect();
        let there: BTreeMap<u64, &Event> = first.iter().map(|e| (e.revision, e)).collect();
        for revision in here.keys().chain(there.keys()) {
            if here.get(revision) != there.get(revision) {
                faults.push(format!(
                    "at revision {revision} watcher {number} saw {:?}, watcher 0 {:?}",
                    here.get(revision),
                    there.get(revision)
                ));
            }
        }
    }
    Some(first.clone())
}

/// The versions of each key; events must fit to the state before them.
fn versions(history: &[Event], faults: &mut Vec<String>) -> HashMap<String, Vec<Version>> {
    let mut all: HashMap<String, Vec<Version>> = HashMap::new();
    for event in history {
        let list = all.entry(event.key.clone()).or_insert_with(|| {
            vec![Version {
                from: 0,
                until: u64::MAX,
                value: None,
                begun: 0,
            }]
        });
        let before = list.last_mut().expect("a first version");
        let fits = match event.change {
            Change::Added => before.value.is_none(),
            Change::Modified => before.value.is_some(),
            Change::Deleted => before.value.as_deref() == Some(&event.value),
        };
        if !fits {
            faults.push(format!("{event:?} does not fit to {:?} before it", before.value));
        }
        before.until = event.revision;
        list.push(Version {
            from: event.revision,
            until: u64::MAX,
            value: (event.change != Change::Deleted).then(|| event.value.clone()),
            begun: 0,
        });
    }
    all
}

/// Whether a value is whole, as [`value`] made it.
pub fn is_whole(text: &str) -> bool {
    let Some((name, filler)) = text.split_once(':') else {
        return false;
    };
    value(name) == text && !filler.is_empty()
}

/// A value that tells whether it is whole: its name, again and again, of a length that follows from it.
pub fn value(name: &str) -> String {
    let length = 50 + name.bytes().map(usize::from).sum::<usize>() * 7 % 3000;
    let filler: String = name.chars().cycle().take(length).collect();
    format!("{name}:{filler}")
}

/// Every call is in the history as it was answered.
fn writes(
    calls: &[Call],
    history: &[Event],
    versions: &mut HashMap<String, Vec<Version>>,
    verdict: &mut Verdict,
) {
    let mut by_value: HashMap<&str, &Event> = HashMap::new();
    // The revision that a deletion ended, by key.
    let mut deleted: HashMap<(&str, u64), u64> = HashMap::new();
    let mut before: HashMap<&str, u64> = HashMap::new();
    for event in history {
        if !is_whole(&event.value) {
            verdict.faults.push(format!("half a value: {event:?}"));
        }
        if event.change == Change::Deleted {
            if let Some(old) = before.get(event.key.as_str()) {
                deleted.insert((&event.key, *old), event.revision);
            }
        } else if let Some(twice) = by_value.insert(&event.value, event) {
            verdict
                .faults
                .push(format!("one value twice: {twice:?} and {event:?}"));
        }
        before.insert(&event.key, event.revision);
    }
    let mut explained = 0;
    for call in calls {
        let done = match &call.wish {
            Wish::Read => continue,
            Wish::Create(value) | Wish::Update(value, _) => {
                by_value.get(value.as_str()).map(|event| event.revision)
            }
            Wish::Delete(at) => deleted.get(&(call.key.as_str(), *at)).copied(),
        };
        // Two may have wished the same deletion; only one has done it, and the others were refused or not answered.
        let is_deletion = matches!(call.wish, Wish::Delete(_));
        match (&call.answer, done) {
            (Answer::Written(None), Some(_)) => verdict.answered += 1,
            (Answer::Written(Some(revision)), Some(at)) if *revision == at => verdict.answered += 1,
            (Answer::Unknown, None) => verdict.unknown += 1,
            (Answer::Unknown, Some(_)) => {
                verdict.unknown += 1;
                verdict.unknown_done += 1;
            }
            (Answer::Refused(_), None) => {}
            (Answer::Refused(_), Some(_)) if is_deletion => {}
            (Answer::Written(_), None) => verdict
                .faults
                .push(format!("an answered write is lost: {call:?}")),
            _ => verdict
                .faults
                .push(format!("answered otherwise than done ({done:?}): {call:?}")),
        }
        let Some(revision) = done else { continue };
        if !(is_deletion && matches!(call.answer, Answer::Refused(_))) {
            explained += 1;
        }
        let made = versions
            .get_mut(&call.key)
            .and_then(|list| list.iter_mut().find(|v| v.from == revision));
        match made {
            // The first of those that may have done it.
            Some(version) if version.begun == 0 || call.begin < version.begun => version.begun = call.begin,
            Some(_) => {}
            None => verdict.faults.push(format!("another key was written: {call:?}")),
        }
    }
    if explained < history.len() {
        verdict.faults.push(format!(
            "{} events, but only {explained} calls that could have made them",
            history.len()
        ));
    }
}

/// Real time: what begins after another's end comes after it.
fn order(calls: &[Call], versions: &HashMap<String, Vec<Version>>, verdict: &mut Verdict) {
    let revision_of = |call: &Call| match &call.answer {
        Answer::Written(revision) => *revision,
        Answer::Seen(seen) => seen.as_ref().map(|(revision, _)| *revision),
        _ => None,
    };
    let mut ended: Vec<(Moment, u64)> = calls
        .iter()
        .filter_map(|c| Some((c.end, revision_of(c)?)))
        .collect();
    ended.sort_unstable();
    let mut by_begin: Vec<&Call> = calls.iter().collect();
    by_begin.sort_by_key(|c| c.begin);
    let (mut next, mut known) = (0, 0);
    for call in by_begin {
        // The greatest revision that somebody knew before this call began.
        while next < ended.len() && ended[next].0 < call.begin {
            known = known.max(ended[next].1);
            next += 1;
        }
        match &call.answer {
            Answer::Written(Some(revision)) if *revision <= known => verdict.faults.push(format!(
                "a write was given revision {revision} when {known} was known: {call:?}"
            )),
            Answer::Seen(seen) => {
                verdict.reads += 1;
                let could_be = |v: &Version| {
                    let same = match (seen, &v.value) {
                        (Some((revision, value)), Some(there)) => *revision == v.from && value == there,
                        (None, None) => true,
                        _ => false,
                    };
                    same && v.until > known && v.begun < call.end
                };
                let never = seen.is_none() && !versions.contains_key(&call.key);
                let list = versions.get(&call.key);
                if !never && !list.is_some_and(|list| list.iter().any(could_be)) {
                    verdict.faults.push(format!(
                        "a read shows what was not current after revision {known}: {call:?}"
                    ));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(key: &str, wish: Wish, begin: Moment, end: Moment, answer: Answer) -> Call {
        Call {
            key: key.into(),
            wish,
            begin,
            end,
            answer,
        }
    }

    fn event(change: Change, revision: u64, name: &str) -> Event {
        Event {
            change,
            key: "a".into(),
            revision,
            value: value(name),
        }
    }

    /// A run in which all is well.
    fn good() -> (Vec<Call>, Vec<Event>) {
        let calls = vec![
            call("a", Wish::Create(value("1")), 0, 10, Answer::Written(Some(5))),
            call("a", Wish::Update(value("2"), 5), 20, 30, Answer::Written(Some(6))),
            call("a", Wish::Read, 32, 34, Answer::Seen(Some((6, value("2"))))),
            call("a", Wish::Update(value("3"), 6), 40, 50, Answer::Unknown),
            call(
                "a",
                Wish::Update(value("4"), 6),
                52,
                55,
                Answer::Refused("conflict".into()),
            ),
            call("a", Wish::Delete(7), 60, 70, Answer::Written(None)),
            call("a", Wish::Read, 80, 90, Answer::Seen(None)),
        ];
        let events = vec![
            event(Change::Added, 5, "1"),
            event(Change::Modified, 6, "2"),
            event(Change::Modified, 7, "3"),
            event(Change::Deleted, 9, "3"),
        ];
        (calls, events)
    }

    #[test]
    fn a_good_run_passes() {
        let (calls, events) = good();
        let verdict = check(&calls, &[events.clone(), events]);
        assert_eq!(verdict.faults, Vec::<String>::new());
        assert_eq!(
            (
                verdict.answered,
                verdict.unknown,
                verdict.unknown_done,
                verdict.reads
            ),
            (3, 1, 1, 2)
        );
    }

    #[test]
    fn planted_faults_are_found() {
        type Plant = fn(&mut Vec<Call>, &mut Vec<Event>, &mut Vec<Event>);
        let cases: [(&str, Plant, &str); 11] = [
            (
                "a lost write",
                |_, a, b| {
                    a.remove(1);
                    b.remove(1);
                },
                "an answered write is lost",
            ),
            (
                "a gap",
                |_, _, b| {
                    b.remove(2);
                },
                "at revision 7 watcher 1 saw None",
            ),
            (
                "a duplicate",
                |_, _, b| {
                    let e = b[2].clone();
                    b.insert(3, e);
                },
                "watcher 1 saw revision 7 after 7",
            ),
            (
                "half a value",
                |_, a, b| {
                    for e in [a, b] {
                        e[2].value.pop();
                    }
                },
                "half a value",
            ),
            (
                "another revision",
                |c, _, _| c[1].answer = Answer::Written(Some(66)),
                "answered otherwise than done",
            ),
            (
                "a refused write",
                |c, _, _| c[1].answer = Answer::Refused("x".into()),
                "answered otherwise than done",
            ),
            (
                "a stale read",
                |c, _, _| c[2].answer = Answer::Seen(Some((5, value("1")))),
                "a read shows",
            ),
            (
                "a read of nothing",
                |c, _, _| c[2].answer = Answer::Seen(None),
                "a read shows",
            ),
            (
                "a read from the future",
                |c, _, _| {
                    c[0].end = 4;
                    c[2].begin = 5;
                    c[2].end = 6;
                    c[2].answer = Answer::Seen(Some((7, value("3"))));
                },
                "a read shows",
            ),
            (
                "a revision again",
                |c, _, _| {
                    c[1].begin = 100;
                    c[1].end = 110;
                    c[2].begin = 95;
                    c[2].end = 99;
                    c[2].answer = Answer::Seen(Some((6, value("2"))));
                },
                "when 6 was known",
            ),
            (
                "an event of nobody",
                |_, a, b| {
                    for e in [a, b] {
                        e.push(event(Change::Added, 11, "9"));
                    }
                },
                "5 events, but only 4 calls",
            ),
        ];
        for (name, plant, expected) in cases {
            let (mut calls, events) = good();
            let (mut a, mut b) = (events.clone(), events);
            plant(&mut calls, &mut a, &mut b);
            let verdict = check(&calls, &[a, b]);
            assert!(
                verdict.faults.iter().any(|f| f.contains(expected)),
                "{name}: {:#?}",
                verdict.faults
            );
        }
    }
}
