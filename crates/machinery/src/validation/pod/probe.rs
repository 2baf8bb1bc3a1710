//! Validation of probes and lifecycle hooks, which share their handlers.

use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Checks a probe, if there is one. `once`: success can only be counted once (liveness and startup).
pub(super) fn probe(probe: &Value, at: &Path, once: bool, errors: &mut Errors) {
    if probe.is_null() {
        return;
    }
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, at, errors);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        errors.not_negative(probe, field, at);
    }
    if let Some(seconds) = probe.int_at("terminationGracePeriodSeconds") {
        let place = at.child("terminationGracePeriodSeconds");
        if seconds <= 0 {
            errors.invalid(&place, seconds, "must be greater than 0");
        }
        if !once {
            errors.invalid(&place, seconds, "must not be set for readinessProbes");
        }
    }
    let threshold = probe.int_at("successThreshold").unwrap_or(0);
    if once && threshold != 1 {
        errors.invalid(&at.child("successThreshold"), threshold, "must be 1");
    }
}

/// Checks the hooks of a container, if there are any; they must be done within the grace of the Pod.
pub(super) fn lifecycle(lifecycle: &Value, grace: Option<i64>, at: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        if lifecycle.has(hook) {
            handler(
                lifecycle.at(hook),
                &["exec", "httpGet", "tcpSocket", "sleep"],
                grace,
                &at.child(hook),
                errors,
            );
        }
    }
}

fn handler(holder: &Value, kinds: &[&str], grace: Option<i64>, at: &Path, errors: &mut Errors) {
    let mut count = 0;
    for kind in kinds.iter().filter(|k| holder.has(k)) {
        let place = at.child(kind);
        count += 1;
        if count > 1 {
            errors.forbidden(&place, "may not specify more than 1 handler type");
            continue;
        }
        let action = holder.at(kind);
        match *kind {
            "exec" if action.is_empty_at("command") => errors.required(&place.child("command"), ""),
            "httpGet" => http_get(action, &place, errors),
            "tcpSocket" => port(action, &place, errors),
            "grpc" => {
                let number = action.int_at("port").unwrap_or(0);
                for text in names::port_number(number) {
                    errors.invalid(&place.child("port"), number, text);
                }
            }
            "sleep" => {
                let seconds = action.int_at("seconds").unwrap_or(0);
                if let Some(grace) = grace
                    && !(0..=grace).contains(&seconds)
                {
                    let text =
                        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&place, seconds, text);
                }
            }
            _ => {}
        }
    }
    if count == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(action: &Value, at: &Path, errors: &mut Errors) {
    if action.is_empty_at("path") {
        errors.required(&at.child("path"), "");
    }
    port(action, at, errors);
    let schemes = ["HTTP", "HTTPS"];
    if !schemes.contains(&action.str_at("scheme")) {
        errors.not_supported(&at.child("scheme"), action.str_at("scheme"), &schemes);
    }
    for header in action.list_at("httpHeaders") {
        let name = header.str_at("name");
        errors.each(&at.child("httpHeaders"), name, names::header_name(name));
    }
}

/// A port by number or by name.
fn port(action: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("port");
    match action.at("port") {
        Value::String(name) => errors.each(&place, name, names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or(0);
            for text in names::port_number(number) {
                errors.invalid(&place, number, text);
            }
        }
    }
}
