//! Which of several hosts that can take a Pod is the best: the emptiest and best balanced, the one that has the images,
//! the one that meets most wishes. Each part is 0 to 100, made so and weighted as upstream's plugins do.

use crate::amounts::{Millis, presumed, requests};
use crate::between::{attraction, drawn};
use crate::filter::Host;
use crate::plan::Known;
use crate::spread;
use controllers::obj::{int, items, text};
use kinds::placement::{term, tolerates};
use serde_json::Value;

const AFFINITY: i128 = 2;
const BETWEEN: i128 = 2;
const SPREAD: i128 = 2;
const TAINTS: i128 = 3;
/// Image sizes between which the score rises, bytes.
const SMALL: i128 = 23 << 20;
const LARGE: i128 = 1 << 30;

/// The best of these hosts (indexes into `hosts`); the first of equals.
pub(crate) fn best(pod: &Value, able: &[usize], hosts: &[Host], known: &Known) -> Option<usize> {
    if let [only] = able {
        return Some(*only);
    }
    let each = |of: &dyn Fn(&Host) -> i128| -> Vec<i128> { able.iter().map(|at| of(&hosts[*at])).collect() };
    let pull = attraction(pod, hosts, &known.snapshot.namespaces);
    let parts = [
        (1, each(&|host| room(pod, host) + images(pod, host))),
        (AFFINITY, share_of_most(each(&|host| preferred(pod, &host.node)))),
        (BETWEEN, between_extremes(each(&|host| drawn(&pull, host)))),
        (SPREAD, spread::scores(pod, able, hosts, &known.snapshot.groups)),
        (
            TAINTS,
            reversed(share_of_most(each(&|host| disliked(pod, &host.node)))),
        ),
    ];
    let total = |n: usize| -> i128 { parts.iter().map(|(weight, scores)| weight * scores[n]).sum() };
    let mut best: Option<(i128, usize)> = None;
    for (n, at) in able.iter().enumerate() {
        let score = total(n);
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, *at));
        }
    }
    best.map(|(_, at)| at)
}

/// The most becomes 100, nothing stays 0 (`DefaultNormalizeScore`).
fn share_of_most(scores: Vec<i128>) -> Vec<i128> {
    let most = scores.iter().copied().max().unwrap_or(0).max(1);
    scores.into_iter().map(|score| score * 100 / most).collect()
}

/// The most becomes 100, the least 0.
fn between_extremes(scores: Vec<i128>) -> Vec<i128> {
    let most = scores.iter().copied().max().unwrap_or(0);
    let least = scores.iter().copied().min().unwrap_or(0);
    let range = (most - least).max(1);
    scores
        .into_iter()
        .map(|score| (score - least) * 100 / range)
        .collect()
}

fn reversed(scores: Vec<i128>) -> Vec<i128> {
    scores.into_iter().map(|score| 100 - score).collect()
}

/// Least allocated and most balanced, each up to 100.
fn room(pod: &Value, host: &Host) -> i128 {
    let all = |name: &str| *host.allocatable.get(name).unwrap_or(&0);
    let of = |amounts: &Millis, name: &str| *amounts.get(name).unwrap_or(&0);
    let presumed = presumed(pod);
    let free = |name: &str| {
        let wanted = of(&host.presumed, name) + of(&presumed, name);
        match all(name) {
            0 => 0,
            all => ((all - wanted) * 100 / all).max(0),
        }
    };
    let wanted = requests(pod);
    let used = |name: &str, own: i128| (of(&host.used, name) + own) as f64 / (all(name).max(1)) as f64;
    let even = |cpu: i128, memory: i128| {
        let apart = used("cpu", cpu).min(1.0) - used("memory", memory).min(1.0);
        ((1.0 - apart.abs() / 2.0) * 100.0) as i128
    };
    let (cpu, memory) = (of(&wanted, "cpu"), of(&wanted, "memory"));
    // What asks for nothing changes no balance; what does is judged by whether it makes it better.
    let balance = match (cpu, memory) {
        (0, 0) => 0,
        (cpu, memory) => 50 + (50 + even(cpu, memory) - even(0, 0)) / 2,
    };
    (free("cpu") + free("memory")) / 2 + balance
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
