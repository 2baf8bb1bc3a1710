//! Validation of what becomes of requests for certificates: their conditions, and the certificate.
//! Source: `pkg/apis/certificates/validation` of v1.35.

use super::certificates::blocks;
use super::errors::Errors;
use crate::walk::{At, same};
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Stands for a certificate in messages: it is long.
const OMITTED: &str = "<certificate data>";
/// Conditions that can only be true, and never go away.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];

/// Checks a change by way of `status` or `approval`; only the latter approves and denies.
pub(super) fn update(new: &Value, old: &Value, approves: bool, errors: &mut Errors) {
    let at = Path::new("status");
    let list_at = at.child("conditions");
    conditions(new, &list_at, errors);
    let text = new.str_at("status.certificate");
    let (now, was) = (new.at("status.certificate"), old.at("status.certificate"));
    let changed =
        !same(now, was) && (!new.is_empty_at("status.certificate") || !old.is_empty_at("status.certificate"));
    if !text.is_empty() && changed {
        certificate(text, &at.child("certificate"), errors);
    }
    let of = |object: &Value, ty: &str| -> Vec<Value> {
        let list = object.list_at("status.conditions").iter();
        list.filter(|c| c.str_at("type") == ty).cloned().collect()
    };
    for ty in FINAL {
        if of(new, ty).len() < of(old, ty).len() {
            let text = format!("updates may not remove a condition of type {ty:?}");
            errors.forbidden(&list_at, text);
        }
    }
    if !approves {
        for ty in ["Approved", "Denied"] {
            if of(new, ty).len() > of(old, ty).len() {
                let text = format!("updates may not add a condition of type {ty:?}");
                errors.forbidden(&list_at, text);
            }
        }
    }
    if changed {
        let place = at.child("certificate");
        if approves {
            errors.forbidden(&place, "updates may not set certificate content");
        } else if !old.is_empty_at("status.certificate") {
            errors.forbidden(&place, "updates may not modify existing certificate content");
        }
    }
}

fn conditions(obj: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, condition) in obj.list_at("status.conditions").iter().enumerate() {
        let (ty, place) = (condition.str_at("type"), at.index(i));
        if ty.is_empty() {
            errors.required(&place.child("type"), "");
        }
        let known: &[&str] = match FINAL.contains(&ty) {
            true => &["True"],
            false => &["True", "False", "Unknown"],
        };
        errors.one_of(condition, "status", &place, known);
        if !seen.insert(ty) {
            errors.duplicate(&place.child("type"), ty);
        }
        let other = match ty {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => continue,
        };
        if seen.contains(other) {
            errors.invalid(at, ty, "Approved and Denied conditions are mutually exclusive");
        }
    }
}

fn certificate(text: &str, at: &Path, errors: &mut Errors) {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    let blocks = blocks(&String::from_utf8_lossy(&decoded));
    if blocks.is_empty() {
        return errors.invalid(at, OMITTED, "must contain at least one CERTIFICATE PEM block");
    }
    for block in blocks {
        if block.kind != "CERTIFICATE" {
            let why = format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.kind);
            errors.invalid(at, OMITTED, why);
        } else if block.headers {
            errors.invalid(at, OMITTED, "no PEM block headers are permitted");
        } else if block.content.is_empty() {
            errors.invalid(
                at,
                OMITTED,
                "found CERTIFICATE PEM block containing 0 certificates",
            );
        } else if !matches!(x509_parser::parse_x509_certificate(&block.content), Ok(([], _))) {
            errors.invalid(at, OMITTED, "x509: malformed certificate");
        }
    }
}
