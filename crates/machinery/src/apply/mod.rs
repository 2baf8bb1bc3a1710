//! Server-side apply (KEP-555): an applier says which fields it wants, the server keeps in `metadata.managedFields` who
//! owns which, refuses to take fields from others silently, and removes what an applier no longer asks for and nobody else
//! owns. Writes of every other form take the fields that they change (`update_managers`).
//! Source: sigs.k8s.io/structured-merge-diff, `merge`, and `apimachinery/pkg/util/managedfields`.

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

/// Leaves out what nobody owns, and what a write by this way cannot change.
fn owned(kind: &KindInfo, mut fields: Set, subresource: Option<&str>) -> Set {
    UNOWNED.iter().for_each(|path| fields.cut(path));
    match subresource {
        None if kind.has_status => fields.cut(&["f:status"]),
        Some("status") => fields.cut(&["f:spec"]),
        _ => {}
    }
    fields
}

/// Whether a field at the top or in the metadata is one that nobody owns, or that a write by this way cannot change.
fn is_unowned(kind: &KindInfo, path: &[&str], subresource: Option<&str>) -> bool {
    let status = kind.has_status && subresource.is_none();
    match path {
        ["status"] if status => true,
        ["spec"] if subresource == Some("status") => true,
        _ => UNOWNED.iter().any(|unowned| {
            let names = unowned.iter().filter_map(|element| element.strip_prefix("f:"));
            names.eq(path.iter().copied())
        }),
    }
}

/// Applies a configuration: answers the live object as it shall become (to be defaulted, validated and stored), with its
/// managed fields. An apply that changes nothing answers the live object itself, times included.
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
    unset(&mut config, "metadata.managedFields");
    match subresource {
        None if kind.has_status => unset(&mut config, "status"),
        Some("status") => unset(&mut config, "spec"),
        _ => {}
    }
    let mut old = live
        .cloned()
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let mut managers = Managers::of(&old);
    unset(&mut old, "metadata.managedFields");
    let me = Manager::applier(manager, subresource);
    let last = managers.fields(&me).map(Cow::into_owned).unwrap_or_default();
    let wanted = owned(kind, walker.set_of(&config), subresource);
    let merged = walker.merge(&old, &config);
    managers.set(&me, &kind.api_version(), wanted.clone(), now);

    // What was asked for before, is not any more, and belongs to nobody goes.
    let everyone = managers.all_fields();
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
    let taken = change.added.union(&change.modified);
    let conflicts: Vec<(Manager, Set)> = managers
        .others(&me)
        .map(|(other, fields)| (other.clone(), fields.intersection(&taken)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    for (other, fields) in &conflicts {
        managers.subtract(other, fields);
    }
    managers.subtract_from_others(&me, &change.removed);
    if change.is_same()
        && last == wanted
        && let Some(live) = live
    {
        return Ok(live.clone());
    }
    let mut out = new;
    set(&mut out, "metadata.managedFields", managers.encode());
    Ok(out)
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
fn conflict(conflicts: &[(Manager, Set)]) -> Status {
    let mut causes = Vec::new();
    let mut texts = Vec::new();
    for (manager, fields) in conflicts {
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
    let me = Manager::writer(manager, operation, &kind.api_version(), subresource);
    let Some(old) = live else {
        unset(new, "metadata.managedFields");
        let fields = walker.created(new, |path| is_unowned(kind, path, subresource));
        if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
            let entry = me.entry(kind.api_version(), now.to_owned(), fields);
            set(new, "metadata.managedFields", vec![entry]);
        }
        return;
    };
    let list = new
        .get_mut("metadata")
        .and_then(|metadata| metadata.as_object_mut()?.remove("managedFields"))
        .unwrap_or_default();
    let mut managers = match &list {
        // A client may edit the list itself; an empty one resets it, and one that cannot be read does not count.
        Value::Array(entries) if entries.iter().all(|e| e.as_object().is_some_and(Map::is_empty)) => {
            Managers::default()
        }
        Value::Array(_) if list == *old.at("metadata.managedFields") => match list {
            Value::Array(entries) => Managers::written(entries),
            _ => Managers::default(),
        },
        Value::Null => Managers::written(old.list_at("metadata.managedFields").to_vec()),
        _ => Managers::of_list(&list),
    };
    // Whose fields are whose is no change of the object.
    let change = walker.compare(old, new);
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
        managers.give(&me, &kind.api_version(), taken, now);
    }
    if !managers.is_empty() {
        set(new, "metadata.managedFields", managers.encode());
    }
}
