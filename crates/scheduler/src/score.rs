//! Which of several hosts that can take a Pod is the best: the emptiest and best balanced, the one that has the images,
//! the one that meets most wishes. Each part is 0 to 100, weighted as upstream weights its plugins.

use crate::between::wishes;
use crate::filter::{Host, requests};
use controllers::obj::{int, items, text};
use kinds::placement::{term, tolerates};
use serde_json::Value;

const AFFINITY: i128 = 2;
const BETWEEN: i128 = 2;
const TAINTS: i128 = 3;
/// Image sizes between which the score rises, bytes.
const SMALL: i128 = 23 << 20;
const LARGE: i128 = 1 << 30;

/// Parts of a score that are only comparable between hosts.
struct Raw {
    fixed: i128,
    affinity: i128,
    between: i128,
    taints: i128,
}

/// The best of these hosts (indexes into `hosts`); the first of equals.
pub(crate) fn best(pod: &Value, able: &[usize], hosts: &[Host]) -> Option<usize> {
    if let [only] = able {
        return Some(*only);
    }
    let raw: Vec<Raw> = able.iter().map(|at| raw(pod, &hosts[*at], hosts)).collect();
    let range = |f: fn(&Raw) -> i128| {
        let (low, high) = (
            raw.iter().map(f).min().unwrap_or(0),
            raw.iter().map(f).max().unwrap_or(0),
        );
        move |r: &Raw| {
            if high > low {
                (f(r) - low) * 100 / (high - low)
            } else {
                0
            }
        }
    };
    let (affinity, between, taints) = (range(|r| r.affinity), range(|r| r.between), range(|r| -r.taints));
    let total = |r: &Raw| r.fixed + AFFINITY * affinity(r) + BETWEEN * between(r) + TAINTS * taints(r);
    let mut best: Option<(i128, usize)> = None;
    for (at, raw) in able.iter().zip(&raw) {
        let score = total(raw);
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, *at));
        }
    }
    best.map(|(_, at)| at)
}

fn raw(pod: &Value, host: &Host, hosts: &[Host]) -> Raw {
    Raw {
        fixed: room(pod, host) + images(pod, host),
        affinity: preferred(pod, &host.node),
        between: wishes(pod, host, hosts),
        taints: disliked(pod, &host.node),
    }
}

/// Least allocated and most balanced, each up to 100.
fn room(pod: &Value, host: &Host) -> i128 {
    let wanted = requests(pod);
    let share = |name: &str, least: i128| {
        let all = *host.allocatable.get(name).unwrap_or(&0);
        // A Pod that asks for nothing still counts as a small one, as upstream.
        let own = wanted.get(name).copied().filter(|n| *n > 0).unwrap_or(least);
        let used = host.used.get(name).unwrap_or(&0) + own;
        if all > 0 {
            (used * 1000 / all).clamp(0, 1000)
        } else {
            1000
        }
    };
    let (cpu, memory) = (share("cpu", 100), share("memory", 200 * 1024 * 1024 * 1000));
    let free = (2000 - cpu - memory) / 20;
    let balance = 100 - (cpu - memory).abs() / 20;
    free + balance
}

/// Images that are here already save a pull.
fn images(pod: &Value, host: &Host) -> i128 {
    let containers = items(pod, "/spec/containers");
    let size = |image: &str| {
        let here = items(&host.node, "/status/images").iter();
        let found = here.filter(|i| items(i, "/names").iter().any(|n| n == image));
        found
            .map(|i| i128::from(int(i, "/sizeBytes", 0)))
            .next()
            .unwrap_or(0)
    };
    let sum: i128 = containers.iter().map(|c| size(text(c, "/image"))).sum();
    let most = LARGE * (containers.len().max(1) as i128);
    (sum.clamp(SMALL, most) - SMALL) * 100 / (most - SMALL)
}

/// Weight of the preferences the node meets.
fn preferred(pod: &Value, node: &Value) -> i128 {
    let at = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
    let met = items(pod, at).iter().filter(|p| term(&p["preference"], node));
    met.map(|p| i128::from(int(p, "/weight", 0))).sum()
}

/// Taints that would rather not have the Pod.
fn disliked(pod: &Value, node: &Value) -> i128 {
    let tolerations = items(pod, "/spec/tolerations");
    let soft = items(node, "/spec/taints")
        .iter()
        .filter(|t| t["effect"] == "PreferNoSchedule");
    soft.filter(|t| !tolerations.iter().any(|o| tolerates(o, t)))
        .count() as i128
}
