//! Validation of conditions of the type that kinds share (`metav1.Condition`,
//! `apimachinery/pkg/apis/meta/v1/validation`).

use super::errors::Errors;
use super::names;
use crate::walk::At;
use kinds::field::Path;
use kinds::names::form;
use serde_json::Value;

/// Bytes of a condition's reason and message.
const MOST_REASON: usize = 1024;
const MOST_MESSAGE: usize = 32 * 1024;

/// Checks conditions of the type that all kinds share (`metav1.Condition`).
pub(super) fn check(conditions: &[Value], at: &Path, errors: &mut Errors) {
    for (i, condition) in conditions.iter().enumerate() {
        let place = at.index(i);
        let (ty, reason) = (condition.str_at("type"), condition.str_at("reason"));
        if conditions[..i].iter().any(|other| other.str_at("type") == ty) {
            errors.duplicate(&place.child("type"), ty);
        }
        errors.each(&place.child("type"), ty, names::qualified_name(ty));
        let known = ["False", "True", "Unknown"];
        if !known.contains(&condition.str_at("status")) {
            errors.not_supported(&place.child("status"), condition.str_at("status"), &known);
        }
        if let Some(generation) = condition
            .int_at("observedGeneration")
            .filter(|number| *number < 0)
        {
            let text = "must be greater than or equal to zero";
            errors.invalid(&place.child("observedGeneration"), generation, text);
        }
        if condition.str_at("lastTransitionTime").is_empty() {
            errors.required(&place.child("lastTransitionTime"), "");
        }
        if reason.is_empty() {
            errors.required(&place.child("reason"), "");
        } else if !is_reason(reason) {
            let examples = [
                "my_name",
                "MY_NAME",
                "MyName",
                "ReasonA,ReasonB",
                "ReasonA:ReasonB",
            ];
            let text = form(
                "a condition reason must start with alphabetic character, optionally followed by a string of \
                 alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
                "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
                &examples,
            );
            errors.invalid(&place.child("reason"), reason, text);
        }
        if reason.len() > MOST_REASON {
            errors.too_long(&place.child("reason"), MOST_REASON);
        }
        if condition.str_at("message").len() > MOST_MESSAGE {
            errors.too_long(&place.child("message"), MOST_MESSAGE);
        }
    }
}

fn is_reason(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_,:".contains(&byte);
    let ends = text
        .bytes()
        .last()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    text.bytes().all(inner) && ends && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
}
