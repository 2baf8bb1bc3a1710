//! Where faults of expressions stand among the others of an object. Upstream looks at an expression where it stands; here
//! they are compiled by themselves, and what is wrong with them takes its place afterwards.

use kinds::field::FieldError;
use std::cmp::Ordering;

/// The fields of a holder of expressions, in the order in which upstream looks at them.
fn order(holder: &str) -> &'static [&'static str] {
    match holder {
        "" => &["metadata", "spec", "webhooks"],
        "webhooks" => &[
            "name",
            "rules",
            "failurePolicy",
            "matchPolicy",
            "sideEffects",
            "timeoutSeconds",
            "namespaceSelector",
            "objectSelector",
            "reinvocationPolicy",
            "clientConfig",
            "matchConditions",
            "admissionReviewVersions",
        ],
        // Of policies, and of classes of devices.
        "spec" => &[
            "failurePolicy",
            "paramKind",
            "matchConstraints",
            "matchConditions",
            "variables",
            "validations",
            "auditAnnotations",
            "mutations",
            "reinvocationPolicy",
            "selectors",
            "config",
            "extendedResourceName",
        ],
        "matchConditions" => &["expression", "name"],
        "variables" => &["name", "expression"],
        "validations" => &["expression", "messageExpression", "message", "reason"],
        "auditAnnotations" => &["key", "valueExpression"],
        "mutations" => &["patchType", "jsonPatch", "applyConfiguration"],
        "devices" => &["requests", "constraints", "config"],
        "requests" => &["name", "exactly", "firstAvailable"],
        "exactly" | "firstAvailable" => &[
            "name",
            "deviceClassName",
            "selectors",
            "allocationMode",
            "count",
            "adminAccess",
            "tolerations",
        ],
        _ => &[],
    }
}

/// Puts the faults of expressions where they belong. Both lists are in order.
pub fn interleaved(mut errors: Vec<FieldError>, found: Vec<FieldError>) -> Vec<FieldError> {
    let mut from = 0;
    for fault in found {
        let after =
            |error: &FieldError| compared(error.path.as_str(), fault.path.as_str()) == Ordering::Greater;
        let place = errors[from..].iter().position(after);
        let place = place.map_or(errors.len(), |place| from + place);
        errors.insert(place, fault);
        from = place + 1;
    }
    errors
}

/// Which of two fields is looked at first.
fn compared(a: &str, b: &str) -> Ordering {
    let (mut holder, mut left, mut right) = ("", a.split('.'), b.split('.'));
    loop {
        let (one, other) = match (left.next(), right.next()) {
            (Some(one), Some(other)) => (one, other),
            // What holds a field is looked at after it.
            (None, Some(_)) => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (None, None) => return Ordering::Equal,
        };
        let ((name, index), (other_name, other_index)) = (step(one), step(other));
        if name != other_name {
            return ranked(holder, name, other_name);
        }
        if index != other_index {
            return index.cmp(&other_index);
        }
        holder = name;
    }
}

/// A step of a path, and its index in a list.
fn step(step: &str) -> (&str, Option<usize>) {
    match step.split_once('[') {
        Some((name, index)) => (name, index.trim_end_matches(']').parse().ok()),
        None => (step, None),
    }
}

fn ranked(holder: &str, a: &str, b: &str) -> Ordering {
    let place = |field: &str| order(holder).iter().position(|name| *name == field);
    match (place(a), place(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => Ordering::Less,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinds::field::Path;

    fn faults(paths: &str) -> Vec<FieldError> {
        let one = |path: &str| FieldError::required(&Path::new(path), "");
        paths.split_whitespace().map(one).collect()
    }

    #[test]
    fn faults_of_expressions_stand_where_the_expressions_do() {
        for (others, found, wanted) in [
            (
                "metadata.name webhooks[0].name webhooks[0].matchConditions[0].name webhooks[0].admissionReviewVersions[0] \
                 webhooks[1].name",
                "webhooks[0].matchConditions[0].expression webhooks[1].matchConditions[2].expression",
                "metadata.name webhooks[0].name webhooks[0].matchConditions[0].expression webhooks[0].matchConditions[0].name \
                 webhooks[0].admissionReviewVersions[0] webhooks[1].name webhooks[1].matchConditions[2].expression",
            ),
            (
                "spec.variables[0].name spec.variables[1].name spec.validations[1].reason",
                "spec.matchConditions[0].expression spec.variables[0].expression spec.validations[0].messageExpression \
                 spec.validations[1].expression",
                "spec.matchConditions[0].expression spec.variables[0].name spec.variables[0].expression \
                 spec.variables[1].name spec.validations[0].messageExpression spec.validations[1].expression \
                 spec.validations[1].reason",
            ),
            (
                "spec.selectors[1].cel spec.config[0].opaque",
                "spec.selectors[0].cel.expression spec.selectors[2].cel.expression",
                "spec.selectors[0].cel.expression spec.selectors[1].cel spec.selectors[2].cel.expression \
                 spec.config[0].opaque",
            ),
        ] {
            let told = interleaved(faults(others), faults(found));
            let told: Vec<&str> = told.iter().map(|error| error.path.as_str()).collect();
            assert_eq!(
                told.join(" "),
                faults(wanted)
                    .iter()
                    .map(|e| e.path.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            );
        }
    }
}
