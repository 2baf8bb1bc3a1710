//! Which of its names a definition gets: one that another definition of the group, or a built-in kind, has already is
//! refused, each field for itself, and what was accepted before stays until something else is.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The fields with names, and the reason for which each is refused. The last one is told.
const FIELDS: [(&str, &str); 5] = [
    ("plural", "PluralConflict"),
    ("singular", "SingularConflict"),
    ("shortNames", "ShortNamesConflict"),
    ("kind", "KindConflict"),
    ("listKind", "ListKindConflict"),
];

/// The names of a group that others have.
#[derive(Debug, Default)]
pub struct Used {
    /// Plural, singular and short names.
    pub resources: BTreeSet<String>,
    /// Kinds of objects and of lists.
    pub kinds: BTreeSet<String>,
}

impl Used {
    /// Adds what another definition was granted.
    pub fn add(&mut self, accepted: &Value) {
        for (field, _) in FIELDS {
            let set = match field {
                "kind" | "listKind" => &mut self.kinds,
                _ => &mut self.resources,
            };
            set.extend(names(&accepted[field]).map(str::to_string));
        }
    }
}

/// What becomes of the names that a definition asks for.
#[derive(Debug)]
pub struct Decision {
    /// `status.acceptedNames` as it will be.
    pub accepted: Value,
    /// Reason and message of the last refusal.
    pub refused: Option<(&'static str, String)>,
}

/// Compares the names asked for with those that the definition has and those of others.
pub fn decide(crd: &Value, used: &Used) -> Decision {
    let (asked, had) = (&crd["spec"]["names"], &crd["status"]["acceptedNames"]);
    let mut accepted = had.as_object().cloned().unwrap_or_default();
    let mut refused = None;
    for (field, reason) in FIELDS {
        let others = match field {
            "kind" | "listKind" => &used.kinds,
            _ => &used.resources,
        };
        let before: Vec<&str> = names(&had[field]).collect();
        let new = names(&asked[field]).filter(|name| !before.contains(name));
        let taken: Vec<String> = new
            .filter(|name| others.contains(*name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match taken.as_slice() {
            [] => take(&mut accepted, asked, field),
            [one] => refused = Some((reason, one.clone())),
            many => refused = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    take(&mut accepted, asked, "categories");
    for always in ["plural", "kind"] {
        accepted.entry(always).or_insert_with(|| json!(""));
    }
    Decision {
        accepted: accepted.into(),
        refused,
    }
}

/// The name or names of a field.
fn names(field: &Value) -> impl Iterator<Item = &str> {
    let many = field.as_array().into_iter().flatten();
    many.chain(field.is_string().then_some(field))
        .filter_map(Value::as_str)
        .filter(|name| !name.is_empty())
}

/// Grants a field as it was asked for.
fn take(accepted: &mut Map<String, Value>, asked: &Value, field: &str) {
    match asked.get(field) {
        Some(value) => accepted.insert(field.into(), value.clone()),
        None => accepted.remove(field),
    };
}
