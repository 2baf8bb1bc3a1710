//! Owner references that stand in an object twice: the second goes, and its sender is told.

use serde_json::Value;

/// Removes owner references that are like one before them; answers their uids.
pub fn deduplicate(object: &mut Value) -> Vec<String> {
    let mut duplicates = Vec::new();
    let Some(Value::Array(list)) = object.pointer_mut("/metadata/ownerReferences") else {
        return duplicates;
    };
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    for reference in list.drain(..) {
        if kept.contains(&reference) {
            duplicates.push(reference["uid"].as_str().unwrap_or("").to_string());
        } else {
            kept.push(reference);
        }
    }
    *list = kept;
    duplicates
}

/// What the sender is told.
pub fn warning(duplicates: &[String], when: &str) -> String {
    format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and \
         may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        duplicates.join(", ")
    )
}
