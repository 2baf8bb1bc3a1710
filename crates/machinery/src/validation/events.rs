//! Validation of Events, as they are written through the core group and through `events.k8s.io`, which asks for more.
//! Source: `pkg/apis/core/validation/events.go` of Kubernetes v1.35. Its errors name the fields of the core group.

use super::errors::{Errors, IMMUTABLE};
use super::{internal, metadata, names};
use crate::walk::{At, same};
use kinds::KindInfo;
use kinds::field::Path;
use serde_json::Value;

/// Fields of `events.k8s.io` with the names of the core group.
const NAMES: [(&str, &str); 9] = [
    ("regarding", "involvedObject"),
    ("reason", "reason"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reason", "reason"),
    ("type", "type"),
];
const LATER_NAMES: [&str; 5] = [
    "eventTime",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];

/// What both groups ask of an Event.
pub(super) fn check(obj: &Value, modern: bool, errors: &mut Errors) {
    let [about, text, reporter] = match modern {
        true => ["regarding", "note", "reportingController"],
        false => ["involvedObject", "message", "reportingComponent"],
    };
    let namespace = obj.str_at("metadata.namespace");
    let concerned = obj.at(about).str_at("namespace");
    let strange = match (obj.has("eventTime"), concerned.is_empty()) {
        (false, true) => !matches!(namespace, "" | "default"),
        (false, false) => namespace != concerned,
        (true, true) => !matches!(namespace, "default" | "kube-system"),
        (true, false) => false,
    };
    if strange {
        let place = Path::new("involvedObject").child("namespace");
        errors.invalid(&place, concerned, "does not match event.namespace");
    }
    if !obj.has("eventTime") {
        return;
    }
    let (name, place) = (obj.str_at(reporter), Path::new(reporter));
    if name.is_empty() {
        errors.required(&place, "");
    }
    errors.each(&place, name, names::qualified_name(name));
    for (field, told, limit) in [
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
        (text, "message", 1024),
    ] {
        let value = obj.str_at(field);
        if value.is_empty() && told != "message" {
            errors.required(&Path::new(told), "");
        }
        if value.len() > limit {
            errors.invalid(
                &Path::new(told),
                "",
                format!("can have at most {limit} characters"),
            );
        }
    }
}

/// What is wrong with a new Event. Its metadata comes late, and in the core group only if nothing else is wrong.
pub(super) fn create(kind: &KindInfo, obj: &Value, errors: &mut Errors) {
    let modern = !kind.group.is_empty();
    check(obj, modern, errors);
    if modern || errors.0.is_empty() {
        metadata::create(kind, obj, errors);
        metadata::builtin_finalizers(kind.group, obj, errors);
    }
    if modern {
        create_modern(obj, errors);
    }
}

/// What `events.k8s.io` asks of a new Event besides.
fn create_modern(obj: &Value, errors: &mut Errors) {
    series(obj, errors);
    if !obj.has("eventTime") {
        errors.required(&Path::new("eventTime"), "");
    }
    let kind = obj.str_at("type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
    }
    // The source is told last.
    for (field, told) in NAMES[4..7].iter().chain(&NAMES[3..4]) {
        let value = obj.at(field);
        let unset = value
            .as_object()
            .is_some_and(|source| source.values().all(|v| v == ""))
            || *value == 0
            || value.is_null();
        if !unset {
            errors.invalid(&Path::new(told), "", "needs to be unset");
        }
    }
}

fn series(obj: &Value, errors: &mut Errors) {
    let series = obj.at("series");
    if series.is_null() {
        return;
    }
    if series.int_at("count").unwrap_or(0) < 2 {
        errors.invalid(&Path::new("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        errors.required(&Path::new("series.lastObservedTime"), "");
    }
}

/// What `events.k8s.io` lets nobody change: all but the series.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.at("series"), old.at("series")) {
        series(new, errors);
    }
    let later = LATER_NAMES.iter().map(|name| (name, name));
    for (field, told) in NAMES.iter().map(|(field, told)| (field, told)).chain(later) {
        if same(new.at(field), old.at(field)) {
            continue;
        }
        let (place, value) = (Path::new(told), new.at(field));
        match *field {
            "regarding" | "related" if value.is_object() => {
                errors.invalid_shown(&place, &internal::line("ObjectReference", value), IMMUTABLE);
            }
            "deprecatedSource" => {
                errors.invalid_shown(&place, &internal::line("EventSource", value), IMMUTABLE);
            }
            // What is no text there is a time or a number, or may be missing.
            "eventTime" | "related" => errors.invalid(&place, value.clone(), IMMUTABLE),
            _ if value.is_null() && !told.ends_with("Timestamp") && *told != "count" => {
                errors.invalid(&place, "", IMMUTABLE);
            }
            _ => errors.invalid(&place, value.clone(), IMMUTABLE),
        }
    }
}
