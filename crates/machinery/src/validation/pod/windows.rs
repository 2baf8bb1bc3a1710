//! Validation of what security contexts say to Windows, which is checked although no Windows runs here: Pods are kept for
//! others to read.

use super::super::errors::Errors;
use super::super::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Bytes of a credential specification.
const MAX_SPEC: usize = 64 * 1024;
/// Letters of a user's name, and of its domain as a DNS name.
const MAX_USER: usize = 104;
const MAX_DOMAIN: usize = 256;
/// Letters that no user's name has.
const NOT_IN_USER: &str = r#""/\:;|=,+*?<>@[]"#;

/// Checks the `windowsOptions` of a security context.
pub(super) fn options(context: &Value, at: &Path, errors: &mut Errors) {
    let options = context.at("windowsOptions");
    if options.is_null() {
        return;
    }
    let at = at.child("windowsOptions");
    if let Some(name) = options.at("gmsaCredentialSpecName").as_str() {
        errors.each(
            &at.child("gmsaCredentialSpecName"),
            name,
            names::dns_subdomain(name),
        );
    }
    if let Some(spec) = options.at("gmsaCredentialSpec").as_str() {
        let place = at.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&place, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > MAX_SPEC {
            let text = format!("gmsaCredentialSpec size must be under {} KiB", MAX_SPEC / 1024);
            errors.invalid(&place, spec, text);
        }
    }
    if let Some(user) = options.at("runAsUserName").as_str() {
        run_as(user, &at.child("runAsUserName"), errors);
    }
}

fn run_as(name: &str, at: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.invalid(at, name, "runAsUserName cannot be an empty string");
    }
    if name.chars().any(char::is_control) {
        return errors.invalid(at, name, "runAsUserName cannot contain control characters");
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return errors.invalid(at, name, "runAsUserName cannot contain more than one backslash"),
    };
    if let Some(domain) = domain
        && domain.len() >= MAX_DOMAIN
    {
        let text = format!("runAsUserName's Domain length must be under {MAX_DOMAIN} characters");
        errors.invalid(at, name, text);
    }
    if user.is_empty() {
        errors.invalid(at, name, "runAsUserName's User cannot be empty");
    } else if user.chars().count() > MAX_USER {
        let text = format!("runAsUserName's User length must not be longer than {MAX_USER} characters");
        errors.invalid(at, name, text);
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        errors.invalid(
            at,
            name,
            "runAsUserName's User cannot contain only periods or spaces",
        );
    }
    if user.contains(|c| NOT_IN_USER.contains(c)) {
        let text = format!("runAsUserName's User cannot contain the following characters: {NOT_IN_USER}");
        errors.invalid(at, name, text);
    }
}
