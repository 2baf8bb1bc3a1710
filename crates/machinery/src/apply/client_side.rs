//! From client-side to server-side apply: `kubectl apply` of old notes what it applied in an annotation, and owns the fields of
//! it under another name. Who goes on with `--server-side` under the name `kubectl` takes them over without a conflict, as far
//! as they are still as they were applied; and the annotation follows, so that there is a way back.
//! Source: `apimachinery/pkg/util/managedfields/internal`, `lastappliedmanager.go` and `lastappliedupdater.go`.

use crate::fields::{Set, Walker};
use crate::validation::escaped;
use kinds::KindInfo;
use serde_json::{Value, json};

/// The manager of `kubectl apply --server-side`; whoever wants none of this takes another name.
pub(super) const MANAGER: &str = "kubectl";
const NOTE: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// As much as annotations may be in all.
const MOST: usize = 256 * 1024;

/// The fields that were applied by the client and are still as they were then.
pub(super) fn fields(walker: &Walker, kind: &KindInfo, live: &Value) -> Set {
    let noted = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(noted) = noted.filter(|noted| noted["apiVersion"] == json!(kind.api_version())) else {
        return Set::default();
    };
    let change = walker.compare(&noted, live);
    walker
        .set_of(&noted)
        .difference(&change.modified)
        .difference(&change.added)
        .difference(&change.removed)
}

/// Writes what is applied now into the annotation, where there is one.
pub(super) fn note(object: &mut Value, manager: &str, applied: &Value) {
    if manager != MANAGER || annotation(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations") {
        annotations.as_object_mut().map(|all| all.remove(NOTE));
    }
    let text = escaped(&applied.to_string()) + "\n";
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(NOTE.into(), json!(text));
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MOST {
        annotations.remove(NOTE);
    }
}

fn annotation(object: &Value) -> Option<&str> {
    let annotations = object.pointer("/metadata/annotations")?;
    annotations.get(NOTE)?.as_str().filter(|text| !text.is_empty())
}
