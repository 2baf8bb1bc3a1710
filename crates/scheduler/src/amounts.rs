//! What Pods take of a node. A Pod that runs takes what it has as well as what it asks for: while it is resized these
//! differ, and a resize that is not feasible is not counted (upstream: `determineEffectiveRequests` of
//! `component-helpers/resource/helpers.go`).

use controllers::obj::{condition, items, meta};
use kinds::quantity::Quantity;
use quota::{Amounts, amounts, raise, total_by};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Amounts in thousandths (cpu) or thousandths of a unit (everything else).
pub type Millis = BTreeMap<String, i128>;

/// The amounts of a resource map.
pub(crate) fn millis(map: &Value) -> Millis {
    thousandths(amounts(map))
}

fn thousandths(amounts: Amounts) -> Millis {
    amounts.into_iter().map(|(k, q)| (k, q.as_milli())).collect()
}

/// What a container takes: the most of what it asks for, was granted and has.
fn effective(pod: &Value, container: &Value) -> Amounts {
    let asked = amounts(&container["resources"]["requests"]);
    let statuses = ["/status/containerStatuses", "/status/initContainerStatuses"];
    let known = statuses
        .iter()
        .flat_map(|list| items(pod, list))
        .find(|status| status["name"] == container["name"] && status["resources"].is_object());
    let Some(status) = known else {
        return asked;
    };
    let mut most = amounts(&status["resources"]["requests"]);
    raise(&mut most, &amounts(&status["allocatedResources"]));
    let infeasible = condition(pod, "PodResizePending").is_some_and(|c| c["reason"] == "Infeasible");
    if !infeasible {
        raise(&mut most, &asked);
    }
    most
}

/// What a Pod asks for or has, itself counted as one of `pods`.
pub fn requests(pod: &Value) -> Millis {
    let mut wanted = thousandths(total_by(&pod["spec"], "requests", |c| effective(pod, c)));
    wanted.insert("pods".into(), 1000);
    wanted
}

/// Processors and memory of a Pod, where a container that asks for none counts as a small one: so that Pods which ask
/// for nothing do not all seem to fit best in one place (upstream: `pkg/scheduler/util/pod_resources.go`).
pub(crate) fn presumed(pod: &Value) -> Millis {
    let small = ["100m", "200Mi"].map(|amount| Quantity::from_json(&json!(amount)).ok());
    let of = |container: &Value| {
        let mut own = effective(pod, container);
        for (name, amount) in ["cpu", "memory"].iter().zip(small) {
            if let (false, Some(amount)) = (own.contains_key(*name), amount) {
                own.insert((*name).to_string(), amount);
            }
        }
        own
    };
    let mut all = thousandths(total_by(&pod["spec"], "requests", of));
    all.retain(|name, _| name == "cpu" || name == "memory");
    all
}

/// Adds amounts to a sum, or with `-1` takes them away.
pub(crate) fn count(sum: &mut Millis, amounts: Millis, sign: i128) {
    for (name, amount) in amounts {
        *sum.entry(name).or_default() += sign * amount;
    }
}

/// The name by which Pods are told apart.
pub(crate) fn uid(pod: &Value) -> &str {
    meta(pod, "uid")
}
