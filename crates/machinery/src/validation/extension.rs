//! Validation of the remaining kinds with rules of their own: leases, scaling, priorities, extensions, and the
//! kinds of `podvisor.io`.

use super::errors::{Errors, IMMUTABLE};
use super::pod::quantity;
use super::{certificates, names};
use crate::walk::At;
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

/// Highest priority that a user may give a class.
const MAX_USER_PRIORITY: i64 = 1_000_000_000;

/// A lease may have no holder: a leader that steps down writes an empty name.
pub(super) fn lease(spec: &Value, at: &Path, errors: &mut Errors) {
    if let Some(seconds) = spec.int_at("leaseDurationSeconds")
        && seconds <= 0
    {
        errors.invalid(
            &at.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
    errors.not_negative(spec, "leaseTransitions", at);
}

pub(super) fn controller_revision(obj: &Value, old: &Value, errors: &mut Errors) {
    errors.not_negative(obj, "revision", &Path::root());
    if !old.is_null() {
        // What is for life is looked at as such.
    } else if !obj.has("data") {
        errors.required(&Path::new("data"), "data is mandatory");
    } else if !obj.at("data").is_object() {
        errors.required(&Path::new("data"), "data must be a valid JSON object");
    }
}

pub(super) fn priority_class(obj: &Value, old: &Value, errors: &mut Errors) {
    // Nothing of this can change later.
    if !old.is_null() {
        return;
    }
    let (name, value) = (obj.str_at("metadata.name"), obj.int_at("value").unwrap_or(0));
    if name.starts_with("system-")
        && let Some(why) = no_system_class(name, value, obj.bool_at("globalDefault"))
    {
        let text = "priority class names with 'system-' prefix are reserved for system use only. error: ";
        errors.forbidden(&Path::new("metadata").child("name"), format!("{text}{why}"));
    }
    if !name.starts_with("system-") && value > MAX_USER_PRIORITY {
        let text = format!("maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}");
        errors.forbidden(&Path::new("value"), text);
    }
    let policies = ["PreemptLowerPriority", "Never"];
    if obj.has("preemptionPolicy") {
        errors.one_of_in_order(obj, "preemptionPolicy", &Path::root(), &policies);
    }
}

/// Classes that every cluster has, and their values.
const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// Why a class is none of the system's.
fn no_system_class(name: &str, value: i64, global: bool) -> Option<String> {
    match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, wanted)) if *wanted != value => {
            Some(format!("value of {name} PriorityClass must be {wanted}"))
        }
        Some(_) => global.then(|| format!("globalDefault of {name} PriorityClass must be false")),
    }
}

pub(super) fn priority_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["value", "preemptionPolicy"] {
        if new.at(field) != old.at(field) {
            match field {
                "value" => errors.forbidden(&Path::new(field), "may not be changed in an update."),
                _ => errors.invalid(&Path::new(field), new.at(field).clone(), IMMUTABLE),
            }
        }
    }
}

pub(super) fn runtime_class(obj: &Value, errors: &mut Errors) {
    let handler = obj.str_at("handler");
    match handler {
        "" => errors.required(&Path::new("handler"), ""),
        _ => errors.each(&Path::new("handler"), handler, names::dns_label(handler)),
    }
    super::pod::overhead(obj.at("overhead.podFixed"), &Path::new("overhead"), errors);
    let at = Path::new("scheduling");
    let selector = obj.at("scheduling.nodeSelector");
    super::metadata::labels(selector, &at.child("nodeSelector"), errors);
    let place = at.child("tolerations");
    super::pod::tolerations(obj.at("scheduling.tolerations"), &place, errors);
    let list = obj.list_at("scheduling.tolerations");
    let fields = ["key", "operator", "value", "effect"];
    for (i, toleration) in list.iter().enumerate() {
        let same = |other: &Value| {
            fields
                .iter()
                .all(|field| other.str_at(field) == toleration.str_at(field))
        };
        if list[..i].iter().any(same) {
            let [key, operator, value, effect] = fields.map(|field| toleration.str_at(field));
            let shown = format!(
                "{{\"Key\":{key:?},\"Operator\":{operator:?},\"Value\":{value:?},\"Effect\":{effect:?},\
                 \"TolerationSeconds\":{}}}",
                toleration.at("tolerationSeconds")
            );
            let error = FieldError::duplicate(&place.index(i), toleration.clone());
            errors.0.push(error.shown_as(shown));
        }
    }
}

pub(super) fn api_service(obj: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (group, version) = (obj.str_at("spec.group"), obj.str_at("spec.version"));
    let place = at.child("group");
    match (group, version) {
        ("", "v1") => {}
        ("", _) => {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.required(&place, why);
        }
        _ => errors.each(&place, group, names::dns_subdomain(group)),
    }
    errors.each(&at.child("version"), version, names::dns_1035_label(version));
    for field in ["groupPriorityMinimum", "versionPriority"] {
        let value = obj.at("spec").int_at(field).unwrap_or(0);
        let high = if field == "versionPriority" { 1000 } else { 20_000 };
        if !(1..=high).contains(&value) {
            errors.invalid(
                &at.child(field),
                value,
                format!("must be positive and less than {high}"),
            );
        }
    }
    let (trusted, insecure) = (
        !obj.is_empty_at("spec.caBundle"),
        obj.bool_at("spec.insecureSkipTLSVerify"),
    );
    let place = at.child("insecureSkipTLSVerify");
    if !obj.has("spec.service") {
        if trusted {
            let text = "local APIServices may not have a caBundle";
            let bundle = decoded(obj.str_at("spec.caBundle"));
            errors.invalid(&at.child("caBundle"), format!("{} bytes", bundle.len()), text);
        }
        if insecure {
            errors.invalid(
                &place,
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    let service = at.child("service");
    for field in ["namespace", "name"] {
        if obj.at("spec.service").is_empty_at(field) {
            errors.required(&service.child(field), "");
        }
    }
    if let Some(port) = obj.int_at("spec.service.port") {
        for why in names::port_number(port) {
            errors.invalid(&service.child("port"), port, format!("port is not valid: {why}"));
        }
    }
    if insecure && trusted {
        errors.invalid(&place, true, "may not be true if caBundle is present");
    }
}

/// The bytes of base64 text; none when it is none, which is told elsewhere.
fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    bytes.unwrap_or_default()
}

/// A request for a certificate, with what is in the request itself.
pub(super) fn signing_request(spec: &Value, at: &Path, errors: &mut Errors) {
    const USAGES: [&str; 23] = [
        "any",
        "cert sign",
        "client auth",
        "code signing",
        "content commitment",
        "crl sign",
        "data encipherment",
        "decipher only",
        "digital signature",
        "email protection",
        "encipher only",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "key agreement",
        "key encipherment",
        "microsoft sgc",
        "netscape sgc",
        "ocsp signing",
        "s/mime",
        "server auth",
        "signing",
        "timestamping",
    ];
    let (usages, place) = (spec.strings_at("usages"), at.child("usages"));
    if let Some(why) = super::pkcs10::fault(spec.str_at("request")) {
        errors.invalid(&at.child("request"), spec.at("request").clone(), why);
    }
    if usages.is_empty() {
        errors.required(&place, "");
    }
    for (i, usage) in usages.iter().enumerate() {
        if !USAGES.contains(usage) {
            errors.not_supported(&place.index(i), *usage, &USAGES);
        }
    }
    let mut seen = BTreeSet::new();
    for (i, usage) in usages.into_iter().enumerate() {
        if !seen.insert(usage) {
            errors.duplicate(&place.index(i), usage);
        }
    }
    let (signer, place) = (spec.str_at("signerName"), at.child("signerName"));
    certificates::signer_name(&place, signer, errors);
    if signer == "kubernetes.io/legacy-unknown" {
        let text = "the legacy signerName is not allowed via this API version";
        errors.invalid(&place, signer, text);
    }
    if let Some(seconds) = spec.int_at("expirationSeconds")
        && seconds < 600
    {
        let text = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&at.child("expirationSeconds"), seconds, text);
    }
}

/// Checks the names of a definition, those that are there.
pub fn definition_names(all: &Value, at: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let mut label = |place: &Path, name: &str, checked: &str, mixed: &str| {
        let faults = names::dns_1035_label(checked).join(",");
        if !faults.is_empty() {
            errors.invalid(place, name, format!("{mixed}{faults}"));
        }
    };
    for field in ["plural", "singular", "kind", "listKind"] {
        let (name, place) = (all.str_at(field), at.child(field));
        // Kinds have capitals, and are labels apart from these.
        match field.ends_with("ind") {
            _ if name.is_empty() => {}
            true => {
                let mixed = "may have mixed case, but should otherwise match: ";
                label(&place, name, &name.to_lowercase(), mixed);
            }
            false => label(&place, name, name, ""),
        }
    }
    for (i, name) in all.strings_at("shortNames").into_iter().enumerate() {
        label(&at.child("shortNames").index(i), name, name, "");
    }
    let kind = all.str_at("kind");
    if !kind.is_empty() && kind == all.str_at("listKind") {
        let text = "kind and listKind may not be the same";
        errors.invalid(&at.child("listKind"), kind, text);
    }
    for (i, name) in all.strings_at("categories").into_iter().enumerate() {
        let faults = names::dns_1035_label(name).join(",");
        if !faults.is_empty() {
            errors.invalid(&at.child("categories").index(i), name, faults);
        }
    }
    errors.0
}

fn bundle(crd: &Value) -> &str {
    crd.str_at("spec.conversion.webhook.clientConfig.caBundle")
}

/// Whether the certificates that a definition's conversion webhook is trusted by can be read. None are, too.
pub fn has_usable_bundle(crd: &Value) -> bool {
    bundle(crd).is_empty() || holds_certificate(bundle(crd))
}

/// Whether base64 text holds a certificate in PEM.
fn holds_certificate(text: &str) -> bool {
    String::from_utf8_lossy(&decoded(text)).contains("-----BEGIN CERTIFICATE-----")
}

pub(super) fn supervisor_namespace(spec: &Value, at: &Path, errors: &mut Errors) {
    for field in ["limits", "containerDefaults"] {
        limits(spec.at(field), &at.child(field), errors);
    }
    let mut seen = BTreeSet::new();
    for (i, permission) in spec.list_at("permissions").iter().enumerate() {
        let place = at.child("permissions").index(i);
        let subject = permission.str_at("subject");
        person(subject, &place.child("subject"), errors);
        errors.one_of(permission, "kind", &place, &["Group", "User"]);
        errors.one_of(permission, "role", &place, &["edit", "owner", "view"]);
        if !seen.insert((permission.str_at("kind"), subject)) {
            errors.duplicate(&place.child("subject"), subject);
        }
    }
}

/// Quantities, at any depth.
fn limits(value: &Value, at: &Path, errors: &mut Errors) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let place = at.child(name);
        if value.is_object() {
            limits(value, &place, errors);
        } else if quantity(value, &place, errors).is_none() {
            errors.invalid(&place, value.clone(), "must be a quantity, such as 500m or 4Gi");
        }
    }
}

/// `name@domain`.
fn person(text: &str, at: &Path, errors: &mut Errors) {
    match text.split_once('@') {
        _ if text.is_empty() => errors.required(at, ""),
        Some((name, domain)) if !name.is_empty() && names::dns_subdomain(domain).is_empty() => {}
        _ => errors.invalid(
            at,
            text,
            "must be of the form name@domain, such as alice@podvisor.local",
        ),
    }
}

pub(super) fn user(obj: &Value, errors: &mut Errors) {
    person(
        obj.str_at("metadata.name"),
        &Path::new("metadata").child("name"),
        errors,
    );
}

pub(super) fn virtual_ip_pool(spec: &Value, at: &Path, errors: &mut Errors) {
    if spec.is_empty_at("cidrs") {
        errors.required(&at.child("cidrs"), "");
    }
    for (i, cidr) in spec.strings_at("cidrs").into_iter().enumerate() {
        errors.each(&at.child("cidrs").index(i), cidr, names::cidr(cidr));
    }
}
