//! Server-side apply (KEP-555): an applier says which fields it wants, the server keeps in `metadata.managedFields` who
//! owns which, refuses to take fields from others silently, and removes what an applier no longer asks for and nobody else
//! owns. Writes of every other form take the fields that they change (`update_managers`).
//! Source: sigs.k8s.io/structured-merge-diff, `merge`, and `apimachinery/pkg/util/managedfields`.

mod client_side;
mod managers;

pub use crate::fields::Typed;
use crate::fields::{Set, Walker};
use crate::walk::{At, set, unset};
use kinds::KindInfo;
use kinds::status::{Cause, Status};
use managers::{Manager, Managers};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Metadata that the server sets and nobody owns.
const UNOWNED: [&[&str]; 10] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// Where an object says who owns what.
const MANAGED: &str = "metadata.managedFields";

/// Metadata that the server sets, which a null in a configuration is no wish to change.
const SERVERS: [&str; 5] = [
    "metadata.creationTimestamp",
    "metadata.generation",
    "metadata.resourceVersion",
    "metadata.selfLink",
    "metadata.uid",
];

/// Kinds whose status is written without any of the metadata.
pub(crate) fn status_alone(kind: &KindInfo) -> bool {
    matches!(
        (kind.group, kind.kind),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("networking.k8s.io", "ServiceCIDR")
            | ("resource.k8s.io", "ResourceClaim")
            | ("storage.k8s.io", "VolumeAttachment")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("apiregistration.k8s.io", "APIService")
    ) || kinds::schema::builtin().definition(kind.schema).is_none()
}

/// What a write by this way cannot change: `GetResetFields` of upstream's strategies.
fn reset(kind: &KindInfo, subresource: Option<&str>) -> &'static [&'static [&'static str]] {
    match (kind.group, kind.kind, subresource) {
        ("certificates.k8s.io", "CertificateSigningRequest", None) => &[&["spec"], &["status"]],
        ("certificates.k8s.io", "CertificateSigningRequest", Some("status")) => {
            &[&["spec"], &["status", "conditions"]]
        }
        ("certificates.k8s.io", _, Some("approval")) => &[&["spec"], &["status", "certificate"]],
        ("apps", "Deployment", Some("status")) => &[&["spec"], &["metadata", "labels"]],
        ("", "Pod", Some("status")) => &[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ],
        (_, _, Some("status")) if status_alone(kind) => &[&["spec"], &["metadata"]],
        (_, _, Some("status")) => &[&["spec"]],
        (_, _, None) if kind.has_status => &[&["status"]],
        _ => &[],
    }
}

/// Leaves out what nobody owns, and what a write by this way cannot change.
fn owned(kind: &KindInfo, mut fields: Set, subresource: Option<&str>) -> Set {
    UNOWNED.iter().for_each(|path| fields.cut(path));
    fields.cut_itself("f:metadata");
    for path in reset(kind, subresource) {
        let elements: Vec<String> = path.iter().map(|name| format!("f:{name}")).collect();
        let elements: Vec<&str> = elements.iter().map(String::as_str).collect();
        fields.cut(&elements);
    }
    fields
}

/// Whether a field at the top or in the metadata is one that nobody owns, or that a write by this way cannot change.
fn is_unowned(kind: &KindInfo, path: &[&str], subresource: Option<&str>) -> bool {
    reset(kind, subresource).contains(&path)
        || UNOWNED.iter().any(|unowned| {
            let names = unowned.iter().filter_map(|element| element.strip_prefix("f:"));
            names.eq(path.iter().copied())
        })
}

/// Applies a configuration: answers the live object as it shall become (to be defaulted, validated and stored), with its
/// managed fields. An apply that changes nothing answers the live object itself, times included. What `kubectl` applied before
/// without the server's help (`client_side`) is no conflict, and its note of it is kept up to date.
///
/// `now` is the time of the write in RFC 3339.
///
/// # Errors
/// 409 when other managers own fields that would change and `force` is not set, one cause for each field.
pub fn apply<'k>(
    kind: impl Into<Typed<'k>>,
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    force: bool,
    subresource: Option<&str>,
    now: &str,
) -> Result<Value, Status> {
    let typed = kind.into();
    let (walker, kind) = (Walker::new(typed), typed.kind);
    let mut config = applied.clone();
    unset(&mut config, MANAGED);
    let mut old = live
        .cloned()
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let mut managers = Managers::of(&old);
    unset(&mut old, MANAGED);
    let unwatched = live.is_some() && managers.is_empty();
    if unwatched {
        // Nobody has been noted so far: what is there belongs to whoever wrote it, by the names of upstream.
        let before = Manager::writer("before-first-apply", "Update", &kind.api_version(), None);
        let fields = walker.created(&old, |path| is_unowned(kind, path, subresource));
        managers.set(&before, &kind.api_version(), Set::decode(&fields));
        managers.touch(&before, now);
    }
    let me = Manager::applier(manager, subresource);
    let last = managers.fields(&me).map(Cow::into_owned).unwrap_or_default();
    let wanted = owned(kind, walker.set_of(&config), subresource);
    let merged = walker.merge(&old, &config);
    managers.set(&me, &kind.api_version(), wanted.clone());

    // What was asked for before, is not any more, and belongs to nobody goes.
    // Of the metadata, name and namespace are the applier's here, though nobody is noted for them.
    let everyone = managers.all_fields().union(&walker.set_of(&config));
    let gone = walker
        .with_structs(&last)
        .intersection(&walker.with_structs(&walker.set_of(&merged)))
        .difference(&walker.with_structs(&everyone));
    let new = if gone.is_empty() {
        merged
    } else {
        walker.remove(&merged, &gone)
    };

    let change = walker.compare(&old, &new);
    // What this way cannot change is a change of the object none the less, but takes nothing from anybody.
    let taken = owned(kind, change.added.union(&change.modified), subresource);
    let conflicts: Vec<(Manager, Set)> = managers
        .others(&me)
        .map(|(other, fields)| (other.clone(), fields.intersection(&taken)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        let own = match manager {
            client_side::MANAGER => client_side::fields(&walker, kind, &old),
            _ => Set::default(),
        };
        let refused: Vec<(Manager, Set)> = conflicts
            .iter()
            .map(|(other, fields)| (other.clone(), fields.difference(&own)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        if !refused.is_empty() {
            return Err(conflict(refused));
        }
    }
    for (other, fields) in &conflicts {
        managers.subtract(other, fields);
    }
    let same = change.is_same();
    managers.subtract_from_others(&me, &owned(kind, change.removed, subresource));
    match live {
        Some(live) if same && last == wanted && !unwatched => {
            let mut out = live.clone();
            client_side::note(&mut out, manager, applied);
            return Ok(out);
        }
        // Who only comes to own what is there already has no time yet.
        Some(_) if same => {}
        _ => managers.touch(&me, now),
    }
    let mut out = new;
    for place in SERVERS {
        if out.at(place).is_null() {
            match old.at(place) {
                Value::Null => unset(&mut out, place),
                before => set(&mut out, place, before.clone()),
            }
        }
    }
    client_side::note(&mut out, manager, applied);
    // None is no empty list: that would be a wish to forget all.
    match managers.encode() {
        Value::Array(entries) if entries.is_empty() => unset(&mut out, MANAGED),
        entries => set(&mut out, MANAGED, entries),
    }
    Ok(out)
}

/// What is wrong with the types of a configuration, which nobody can own then.
pub fn type_faults<'k>(kind: impl Into<Typed<'k>>, configuration: &Value) -> Vec<String> {
    let mut known = configuration.clone();
    unset(&mut known, "apiVersion");
    unset(&mut known, "kind");
    Walker::new(kind.into()).faults(&known, false)
}

/// Merges a configuration into an object as apply does, without owners: what a mutating admission policy makes.
///
/// # Errors
/// When it would change a part of what is owned as a whole (an atomic list, map or struct), and when it is no object.
pub fn merge_configuration<'k>(
    kind: impl Into<Typed<'k>>,
    object: &Value,
    configuration: &Value,
) -> Result<Value, String> {
    let walker = Walker::new(kind.into());
    if !configuration.is_object() {
        return Err("an apply configuration must be an object".into());
    }
    let wholes = walker.wholes(configuration);
    if !wholes.is_empty() {
        return Err(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            wholes.paths().join(", ")
        ));
    }
    Ok(walker.merge(object, configuration))
}

/// The 409, worded as upstream words it.
fn conflict(mut conflicts: Vec<(Manager, Set)>) -> Status {
    conflicts.sort_by_cached_key(|(manager, _)| manager.identifier());
    let mut causes = Vec::new();
    let mut texts = Vec::new();
    for (manager, fields) in &conflicts {
        let paths = fields.paths();
        texts.push((manager.shown(), paths.clone()));
        causes.extend(paths.into_iter().map(|path| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {}", manager.shown()),
            field: path,
        }));
    }
    let message = match (causes.as_slice(), texts.as_slice()) {
        ([_], [(manager, paths)]) => {
            format!(
                "Apply failed with 1 conflict: conflict with {manager}: {}",
                paths.concat()
            )
        }
        _ => {
            let by_manager: Vec<String> = texts
                .iter()
                .map(|(manager, paths)| {
                    let lines: Vec<String> = paths.iter().map(|p| format!("- {p}")).collect();
                    format!("conflicts with {manager}:\n{}", lines.join("\n"))
                })
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                causes.len(),
                by_manager.join("\n")
            )
        }
    };
    Status::apply_conflict(message, causes)
}

/// Writes the managed fields of a write that is no apply: the manager owns what it changed, and nobody owns what it
/// removed. `operation` is `Update`; `now` is the time of the write in RFC 3339.
pub fn update_managers<'k>(
    kind: impl Into<Typed<'k>>,
    live: Option<&Value>,
    new: &mut Value,
    manager: &str,
    operation: &str,
    subresource: Option<&str>,
    now: &str,
) {
    let typed = kind.into();
    let (walker, kind) = (Walker::new(typed), typed.kind);
    // Of what has a wrong type, which custom objects may have where it is not looked at, nobody owns anything.
    if typed.custom.is_some() && !walker.faults(new, true).is_empty() {
        unset(new, MANAGED);
        return;
    }
    let me = Manager::writer(manager, operation, &kind.api_version(), subresource);
    let Some(old) = live else {
        unset(new, MANAGED);
        let fields = walker.created(new, |path| is_unowned(kind, path, subresource));
        let some = fields.as_object().is_some_and(|fields| !fields.is_empty());
        if some && !walker.met_keyless() {
            let entry = me.entry(kind.api_version(), now.to_owned(), fields);
            set(new, MANAGED, vec![entry]);
        }
        return;
    };
    let list = new
        .get_mut("metadata")
        .and_then(|metadata| metadata.as_object_mut()?.remove("managedFields"))
        .unwrap_or_default();
    let mut managers = match &list {
        // By way of a subresource nobody edits it.
        _ if subresource.is_some() => Managers::written(old.list_at(MANAGED).to_vec()),
        // A client may edit the list itself; an empty one resets it.
        Value::Array(entries) if entries.iter().all(|e| e.as_object().is_some_and(Map::is_empty)) => {
            Managers::default()
        }
        Value::Array(_) if list == *old.at(MANAGED) => match list {
            Value::Array(entries) => Managers::written(entries),
            _ => Managers::default(),
        },
        // One that says nothing, or that nobody can read, does not count.
        _ if list.is_null() || list_fault(&list).is_some() => {
            Managers::written(old.list_at(MANAGED).to_vec())
        }
        _ => Managers::of_list(&list),
    };
    // What nobody has been noted for is not watched before somebody applies.
    if managers.is_empty() {
        return;
    }
    // Whose fields are whose is no change of the object.
    let change = walker.compare(old, new);
    if walker.met_keyless() {
        return;
    }
    let mut taken = change.added;
    taken.absorb(change.modified);
    let taken = owned(kind, taken, subresource);
    // A body without the part that this way cannot change removes nothing of it.
    let removed = owned(kind, change.removed, subresource);
    if managers.has_others(&me) {
        managers.subtract_from_others(&me, &taken);
        managers.subtract_from_others(&me, &removed);
    }
    managers.subtract(&me, &removed);
    if !taken.is_empty() {
        managers.give(&me, &kind.api_version(), taken);
        managers.touch(&me, now);
    }
    managers.fold_old_writers();
    match managers.encode() {
        Value::Array(entries) if entries.is_empty() => {}
        entries => set(new, MANAGED, entries),
    }
}

/// What is wrong with a list of managed fields as a whole: nobody could read it.
pub fn list_fault(list: &Value) -> Option<String> {
    let at = |index: usize, field: &str| format!("metadata.managedFields[{index}].{field}");
    let entries = list.as_array()?;
    let mut errors = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let (operation, form) = (entry.str_at("operation"), entry.str_at("fieldsType"));
        if !matches!(operation, "Apply" | "Update") {
            let place = at(i, "operation");
            errors.push(format!(
                "{place}: Invalid value: {operation:?}: must be `Apply` or `Update`"
            ));
        }
        if !matches!(form, "" | "FieldsV1") {
            let place = at(i, "fieldsType");
            errors.push(format!("{place}: Invalid value: {form:?}: must be `FieldsV1`"));
        }
    }
    match errors.as_slice() {
        [] => entries.iter().enumerate().find_map(|(i, entry)| {
            if entry.str_at("apiVersion").is_empty() {
                return Some("apiVersion must not be empty".to_owned());
            }
            let unnamed = entry.str_at("fieldsType").is_empty();
            unnamed.then(|| format!("missing fieldsType in managed fields entry {i}"))
        }),
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

/// Leaves the times of the managers as they were where a write changes nothing else, so that nothing is written.
pub fn keep_times(new: &mut Value, old: &Value) {
    let (Some(after), Some(before)) = (new.as_object(), old.as_object()) else {
        return;
    };
    let (now, then) = (new.list_at(MANAGED), old.list_at(MANAGED));
    if now.len() != then.len() || now == then {
        return;
    }
    let known = |entry: &Value| then.iter().any(|other| is_same_but_for_time(entry, other));
    if !now.iter().all(known) {
        return;
    }
    let same = |(name, value): (&String, &Value)| match name.as_str() {
        "metadata" => {
            let (Some(a), Some(b)) = (value.as_object(), before.get(name).and_then(Value::as_object)) else {
                return false;
            };
            a.len() == b.len() && a.iter().all(|(k, v)| k == "managedFields" || b.get(k) == Some(v))
        }
        _ => before.get(name) == Some(value),
    };
    if after.len() == before.len() && after.iter().all(same) {
        // In the order in which they stood.
        let then = then.to_vec();
        set(new, MANAGED, then);
    }
}

fn is_same_but_for_time(entry: &Value, other: &Value) -> bool {
    fn fields(entry: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let all = entry.as_object().into_iter().flatten();
        all.filter(|(name, _)| *name != "time")
    }
    fields(entry).eq(fields(other))
}
