//! Validation of label selectors, and the question whether one matches a set of labels.

use super::errors::Errors;
use super::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Checks a label selector, if there is one.
pub(crate) fn label_selector(selector: &Value, at: &Path, errors: &mut Errors) {
    if selector.is_null() {
        return;
    }
    super::metadata::labels(selector.at("matchLabels"), &at.child("matchLabels"), errors);
    for (i, e) in selector.list_at("matchExpressions").iter().enumerate() {
        let place = at.child("matchExpressions").index(i);
        let values = e.list_at("values");
        match e.str_at("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(
                    &place.child("values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&place.child("values"), text);
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&place.child("operator"), other, "not a valid selector operator"),
        }
        errors.each(
            &place.child("key"),
            e.str_at("key"),
            names::qualified_name(e.str_at("key")),
        );
        for (j, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            errors.each(&place.child("values").index(j), value, names::label_value(value));
        }
    }
}

/// Whether a selector is well-formed enough to select by it.
pub(super) fn understood(selector: &Value) -> bool {
    let key = |key: &str| names::qualified_name(key).is_empty();
    let value = |value: &Value| names::label_value(value.as_str().unwrap_or_default()).is_empty();
    let labels = selector.entries_at("matchLabels");
    let labels = labels.into_iter().all(|(name, label)| key(name) && value(label));
    let mut expressions = selector.list_at("matchExpressions").iter();
    labels
        && expressions.all(|e| {
            let values = !e.is_empty_at("values");
            let known = match e.str_at("operator") {
                "In" | "NotIn" => values,
                "Exists" | "DoesNotExist" => !values,
                _ => false,
            };
            known && key(e.str_at("key")) && e.list_at("values").iter().all(value)
        })
}

/// A selector as it is shown: its labels come first.
pub(super) fn shown(selector: &Value) -> String {
    match selector {
        Value::Null => "null".to_owned(),
        selector => super::internal::line("LabelSelector", selector),
    }
}

/// A selector that an update must leave alone.
pub(super) fn immutable(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    if !crate::walk::same(new.at("selector"), old.at("selector")) {
        let shown = shown(new.at("selector"));
        errors.invalid_shown(&at.child("selector"), &shown, super::errors::IMMUTABLE);
    }
}

/// Whether a selector selects everything.
pub(super) fn is_empty(selector: &Value) -> bool {
    selector.is_empty_at("matchLabels") && selector.is_empty_at("matchExpressions")
}

/// Whether a selector matches labels.
pub(super) fn matches(selector: &Value, labels: &Value) -> bool {
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    selector
        .entries_at("matchLabels")
        .into_iter()
        .all(|(k, v)| label(k) == v.as_str())
        && selector.list_at("matchExpressions").iter().all(|e| {
            let (have, values) = (label(e.str_at("key")), e.strings_at("values"));
            match e.str_at("operator") {
                "In" => have.is_some_and(|v| values.contains(&v)),
                "NotIn" => have.is_none_or(|v| !values.contains(&v)),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => true,
            }
        })
}
