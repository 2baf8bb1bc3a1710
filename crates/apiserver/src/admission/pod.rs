//! What several steps ask of a Pod: its containers and what they request together.

use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// The items of a list field; nothing when it is missing.
pub(crate) fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object[list].as_array().into_iter().flatten()
}

/// Init containers, then containers.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    items(spec, "initContainers").chain(items(spec, "containers"))
}

/// Reads a map of quantities; what is no quantity is left out (validation names it).
pub(crate) fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(k, v)| Some((k.clone(), Quantity::from_json(v).ok()?)))
        .collect()
}

/// Adds `more` to `sum`, resource by resource.
pub(crate) fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.add(amount);
    }
}

/// Raises `high` to `other` where that is more.
fn raise(high: &mut Amounts, other: &Amounts) {
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
pub(crate) fn total(spec: &Value, which: &str) -> Amounts {
    let of = |container: &Value| amounts(&container["resources"][which]);
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
pub(crate) fn is_best_effort(spec: &Value) -> bool {
    let none = |resources: &Value| {
        ["requests", "limits"].iter().all(|which| {
            amounts(&resources[*which])
                .iter()
                .all(|(name, amount)| !(name == "cpu" || name == "memory") || amount.is_zero())
        })
    };
    none(&spec["resources"]) && containers(spec).all(|c| none(&c["resources"]))
}
