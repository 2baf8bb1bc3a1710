//! Amounts by the name of a resource, and what a whole Pod asks for.

use crate::{containers, items};
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a map of quantities; what is no quantity is left out (validation names it).
pub fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(k, v)| Some((k.clone(), Quantity::from_json(v).ok()?)))
        .collect()
}

/// Adds `more` to `sum`, resource by resource.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.add(amount);
    }
}

/// Raises `high` to `other` where that is more.
pub fn raise(high: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match high.get_mut(name) {
            Some(have) if *have >= *amount => {}
            Some(have) => *have = *amount,
            None => drop(high.insert(name.clone(), *amount)),
        }
    }
}

/// The `requests` or `limits` of a whole Pod: the containers' sum with sidecars, or what an init container needs while
/// it runs beside the sidecars started before it, whichever is more; Pod-level resources win; overhead is added
/// (KEP-753, KEP-2837).
pub fn total(spec: &Value, which: &str) -> Amounts {
    total_by(spec, which, |container| amounts(&container["resources"][which]))
}

/// The same, when each container asks for what `of` says.
pub fn total_by(spec: &Value, which: &str, of: impl Fn(&Value) -> Amounts) -> Amounts {
    let mut running = Amounts::new();
    for container in items(spec, "containers") {
        add(&mut running, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in items(spec, "initContainers") {
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &of(container));
            raise(&mut starting, &sidecars);
        } else {
            let mut now = of(container);
            add(&mut now, &sidecars);
            raise(&mut starting, &now);
        }
    }
    add(&mut running, &sidecars);
    raise(&mut running, &starting);
    running.extend(amounts(&spec["resources"][which]));
    let overhead = amounts(&spec["overhead"]);
    if which == "requests" {
        add(&mut running, &overhead);
    } else {
        // A limit that is not set stays unset.
        for (name, amount) in &overhead {
            if let Some(limit) = running.get_mut(name) {
                *limit = limit.add(amount);
            }
        }
    }
    running
}

/// Whether the Pod has no request and no limit of CPU or memory (quality of service `BestEffort`).
pub fn is_best_effort(spec: &Value) -> bool {
    let none = |resources: &Value| {
        ["requests", "limits"].iter().all(|which| {
            amounts(&resources[*which])
                .iter()
                .all(|(name, amount)| !(name == "cpu" || name == "memory") || amount.is_zero())
        })
    };
    none(&spec["resources"]) && containers(spec).all(|c| none(&c["resources"]))
}
