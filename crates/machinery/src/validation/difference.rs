//! The difference between two texts, line by line, as upstream shows it in errors: a unified diff by the algorithm of
//! Python's difflib, which Go programs took over with all its habits.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

/// Lines shown around a change.
const CONTEXT: usize = 3;
/// From so many lines on, those that come often are no anchors.
const MANY: usize = 200;

/// A stretch of lines that are the same, or are not.
struct Step {
    same: bool,
    old: Range<usize>,
    new: Range<usize>,
}

/// A unified diff without names of files.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in groups(steps(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            range(first.old.start..last.old.end),
            range(first.new.start..last.new.end)
        );
        for step in group {
            if step.same {
                lines(' ', &old[step.old], &mut out);
            } else {
                lines('-', &old[step.old], &mut out);
                lines('+', &new[step.new], &mut out);
            }
        }
    }
    out
}

fn lines(sign: char, lines: &[&str], out: &mut String) {
    for line in lines {
        let _ = writeln!(out, "{sign}{line}");
    }
}

fn range(range: Range<usize>) -> String {
    match range.len() {
        1 => (range.start + 1).to_string(),
        // Nothing stands after the line before.
        0 => format!("{},0", range.start),
        length => format!("{},{length}", range.start + 1),
    }
}

/// Where each line that is an anchor stands in the new text.
type Places<'a> = BTreeMap<&'a str, Vec<usize>>;

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let mut places: Places = BTreeMap::new();
    for (j, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if new.len() >= MANY {
        places.retain(|_, at| at.len() <= new.len() / 100 + 1);
    }
    let mut blocks = Vec::new();
    matching(old, new, &places, 0..old.len(), 0..new.len(), &mut blocks);
    blocks.push((old.len(), new.len(), 0));
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    for (at_old, at_new, length) in blocks {
        if i < at_old || j < at_new {
            out.push(Step {
                same: false,
                old: i..at_old,
                new: j..at_new,
            });
        }
        (i, j) = (at_old + length, at_new + length);
        match out.last_mut() {
            // Blocks that touch are one.
            Some(last) if last.same && last.old.end == at_old && last.new.end == at_new => {
                (last.old.end, last.new.end) = (i, j);
            }
            _ if length > 0 => out.push(Step {
                same: true,
                old: at_old..i,
                new: at_new..j,
            }),
            _ => {}
        }
    }
    out
}

/// The longest stretch that both have, then those before and after it.
fn matching(
    old: &[&str],
    new: &[&str],
    places: &Places,
    within: Range<usize>,
    of: Range<usize>,
    out: &mut Vec<(usize, usize, usize)>,
) {
    let (mut i, mut j, mut length) = (within.start, of.start, 0);
    let mut ending: BTreeMap<usize, usize> = BTreeMap::new();
    for at in within.clone() {
        let mut next = BTreeMap::new();
        for &place in places
            .get(old[at])
            .into_iter()
            .flatten()
            .filter(|place| of.contains(place))
        {
            let before = place.checked_sub(1).and_then(|before| ending.get(&before));
            let run = before.copied().unwrap_or(0) + 1;
            next.insert(place, run);
            if run > length {
                (i, j, length) = (at + 1 - run, place + 1 - run, run);
            }
        }
        ending = next;
    }
    // Lines that are no anchors go on from one.
    while i > within.start && j > of.start && old[i - 1] == new[j - 1] {
        (i, j, length) = (i - 1, j - 1, length + 1);
    }
    while i + length < within.end && j + length < of.end && old[i + length] == new[j + length] {
        length += 1;
    }
    if length == 0 {
        return;
    }
    matching(old, new, places, within.start..i, of.start..j, out);
    out.push((i, j, length));
    matching(old, new, places, i + length..within.end, j + length..of.end, out);
}

/// Changes with what is around them, together when they are near.
fn groups(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let (mut groups, mut group) = (Vec::new(), Vec::new());
    let last = steps.len().saturating_sub(1);
    for (k, mut step) in steps.into_iter().enumerate() {
        let ahead = |range: &Range<usize>| range.end.saturating_sub(CONTEXT).max(range.start)..range.end;
        let behind = |range: &Range<usize>| range.start..range.end.min(range.start + CONTEXT);
        if step.same && k == 0 {
            (step.old, step.new) = (ahead(&step.old), ahead(&step.new));
        }
        if step.same && k == last {
            (step.old, step.new) = (behind(&step.old), behind(&step.new));
        }
        if step.same && step.old.len() > 2 * CONTEXT {
            group.push(Step {
                same: true,
                old: behind(&step.old),
                new: behind(&step.new),
            });
            groups.push(std::mem::take(&mut group));
            (step.old, step.new) = (ahead(&step.old), ahead(&step.new));
        }
        group.push(step);
    }
    if group.iter().any(|step| !step.same) {
        groups.push(group);
    }
    groups
}
