//! What a resize may change, which is CPU and memory and nothing else (KEP-1287), and the quality of service that it must
//! leave alone. Source: `ValidatePodResize` in `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::{annotations, resources};
use crate::validation::errors::Errors;
use crate::walk::{At, same, set};
use kinds::field::Path;
use serde_json::{Map, Value, json};

const ONLY: &str = "only cpu and memory resources are mutable";
const AMOUNTS: [&str; 2] = ["requests", "limits"];

/// Checks an update of `resize`.
pub(crate) fn resize(new: &Value, old: &Value, errors: &mut Errors) {
    let (at, whole) = (Path::new("spec"), Path::root().key(""));
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    super::update::whole_pod(new, old, new.at("spec") == old.at("spec"), errors);
    let why_not = if old.at("metadata.annotations").get(annotations::MIRROR).is_some() {
        Some("static pods cannot be resized")
    } else if old_spec.str_at("os.name") == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(text) = why_not {
        errors.0.clear();
        return errors.forbidden(&whole, text);
    }
    let before = match old.str_at("status.qosClass") {
        "" => quality(old_spec),
        class => class,
    };
    if before != quality(new_spec) {
        let text = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&at, new.str_at("status.qosClass"), text);
    }
    let mut running = old.list_at("status.containerStatuses").iter();
    if running
        .find(|status| status.has("state.running"))
        .is_some_and(|status| !status.has("resources"))
    {
        errors.forbidden(&at, "Pod running on node without support for resize");
    }
    let whole_set = |spec: &Value| AMOUNTS.iter().any(|kind| !spec.at("resources").is_empty_at(kind));
    if whole_set(old_spec) || whole_set(new_spec) {
        let text = "resize of pods with pod-level resources is forbidden when \
                    InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled";
        return errors.forbidden(&whole, text);
    }
    if other_containers(new_spec, old_spec, &at, errors) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (i, (now, was)) in new_spec
            .list_at(list)
            .iter()
            .zip(old_spec.list_at(list))
            .enumerate()
        {
            if list == "containers" || was.str_at("restartPolicy") == "Always" {
                removals(now, was, &at.child(list).index(i).child("resources"), errors);
            }
        }
    }
    let mut masked = new_spec.clone();
    for list in ["containers", "initContainers"] {
        let mut i = 0;
        crate::walk::each_mut(&mut masked, list, |container| {
            let before = &old_spec.list_at(list)[i];
            i += 1;
            let fixed = list == "initContainers" && container.str_at("restartPolicy") != "Always";
            if fixed {
                if !same(container, before) {
                    errors.forbidden(&at, "resources for non-sidecar init containers are immutable");
                }
                return;
            }
            mask(container, before);
            if same(container, before) {
            } else if list == "containers" {
                errors.forbidden(&at, ONLY);
            } else {
                let text = "only cpu and memory resources for init or sidecar containers are mutable";
                errors.forbidden(&at.child(list).index(i - 1), text);
            }
        });
    }
    if errors.0.is_empty() && !same(&masked, old_spec) {
        errors.forbidden(&at, ONLY);
    }
}

/// What was asked for once may be asked for otherwise, not no more.
fn removals(now: &Value, was: &Value, at: &Path, errors: &mut Errors) {
    for kind in AMOUNTS {
        let of = |c: &Value| {
            c.at("resources")
                .at(kind)
                .as_object()
                .cloned()
                .unwrap_or_default()
        };
        let (now, was) = (of(now), of(was));
        if was.len() > now.len() || was.keys().any(|name| !now.contains_key(name)) {
            errors.forbidden(&at.child(kind), format!("resource {kind} cannot be removed"));
        }
    }
}

/// Puts back CPU and memory, so that what still differs may not; claims are dropped, and so are never equal.
fn mask(container: &mut Value, before: &Value) {
    let mut out = Map::new();
    for kind in AMOUNTS {
        let of = |c: &Value| c.at("resources").at(kind).as_object().cloned();
        let (now, was) = (of(container), of(before).unwrap_or_default());
        let mut amounts = now.unwrap_or_default();
        for name in ["cpu", "memory"] {
            amounts.remove(name);
            if let Some(amount) = was.get(name) {
                amounts.insert(name.into(), amount.clone());
            }
        }
        if !amounts.is_empty() {
            out.insert(kind.into(), json!(amounts));
        }
    }
    set(container, "resources", out);
}

/// Whether containers were added, removed, renamed or reordered, which a resize does not do.
fn other_containers(new_spec: &Value, old_spec: &Value, at: &Path, errors: &mut Errors) -> bool {
    let mut found = false;
    for list in ["containers", "initContainers"] {
        let (now, was) = (new_spec.list_at(list), old_spec.list_at(list));
        let place = at.child(list);
        if now.len() != was.len() {
            errors.forbidden(&place, format!("{list} may not be added or removed on resize"));
            found = true;
            continue;
        }
        for (i, (now, was)) in now.iter().zip(was).enumerate() {
            if now.str_at("name") != was.str_at("name") {
                let text = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&place.index(i).child("name"), text);
                found = true;
            }
        }
    }
    found
}

/// The quality-of-service class of a Pod: by what it says as a whole, else by what its containers say. Nothing is asked for
/// by an amount of zero.
pub(crate) fn quality(spec: &Value) -> &'static str {
    let whole = spec.at("resources");
    let lists = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| spec.list_at(list));
    let holders: Vec<&Value> = match whole {
        Value::Null => lists.map(|container| container.at("resources")).collect(),
        whole => vec![whole],
    };
    let amount = |holder: &Value, kind: &str, name: &str| {
        let amount = holder.at(kind).get(name).and_then(resources::parse);
        amount.filter(|amount| !amount.is_zero() && !amount.is_negative())
    };
    let sum = |kind: &str, name: &str| {
        let all = holders.iter().filter_map(|holder| amount(holder, kind, name));
        all.reduce(|a, b| a.add(&b))
    };
    let names = ["cpu", "memory"];
    let [requests, limits] = AMOUNTS.map(|kind| names.map(|name| sum(kind, name)));
    if requests.iter().chain(&limits).all(Option::is_none) {
        return "BestEffort";
    }
    let limited = |holder: &&Value| {
        let whole_without = !whole.is_null() && holder.is_empty_at("limits");
        whole_without || names.iter().all(|name| amount(holder, "limits", name).is_some())
    };
    if holders.iter().all(limited) && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
