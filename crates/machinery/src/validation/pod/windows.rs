//! Validation of what belongs to one operating system alone. Sources: `validateOS`, `validateLinux`, `validateWindows` and
//! `validateWindowsHostProcessPod` in `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::all_containers;
use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

const OPTIONS: &str = "securityContext.windowsOptions";
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

/// Checks that the spec says nothing that its operating system does not know.
pub(super) fn operating_system(spec: &Value, at: &Path, errors: &mut Errors) {
    if !spec.has("os") {
        return;
    }
    match spec.str_at("os.name") {
        "" => errors.required(&at.child("os").child("name"), ""),
        "linux" => linux(spec, at, errors),
        "windows" => windows(spec, at, errors),
        other => errors.not_supported(&at.child("os"), other, &["linux", "windows"]),
    }
}

fn linux(spec: &Value, at: &Path, errors: &mut Errors) {
    let all = std::iter::once((spec, at.clone())).chain(all_containers(spec, at));
    for (_, place) in all.filter(|(holder, _)| holder.has(OPTIONS)) {
        let place = place.child("securityContext").child("windowsOptions");
        errors.forbidden(&place, "windows options cannot be set for a linux pod");
    }
}

fn windows(spec: &Value, at: &Path, errors: &mut Errors) {
    let set = |field: &str| match field {
        "hostPID" | "hostIPC" => spec.bool_at(field),
        "securityContext.sysctls" => !spec.is_empty_at(field),
        _ => spec.has(field),
    };
    for field in [
        "securityContext.appArmorProfile",
        "securityContext.seLinuxOptions",
        "hostUsers",
        "hostPID",
        "hostIPC",
        "securityContext.seccompProfile",
        "securityContext.fsGroup",
        "securityContext.fsGroupChangePolicy",
        "securityContext.sysctls",
        "shareProcessNamespace",
        "securityContext.runAsUser",
        "securityContext.runAsGroup",
        "securityContext.supplementalGroups",
        "securityContext.supplementalGroupsPolicy",
        "securityContext.seLinuxChangePolicy",
    ] {
        if set(field) {
            errors.forbidden(&at.child(field), NOT_ON_WINDOWS);
        }
    }
    for (container, place) in all_containers(spec, at) {
        for field in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if container.at("securityContext").has(field) {
                errors.forbidden(&place.child("securityContext").child(field), NOT_ON_WINDOWS);
            }
        }
    }
}

/// Processes of a Windows host: all containers are such, or none.
pub(super) fn host_processes(spec: &Value, at: &Path, errors: &mut Errors) {
    let whole = spec.at(OPTIONS).at("hostProcess").as_bool();
    let (mut all, mut such) = (0, 0);
    for (container, place) in all_containers(spec, at) {
        let own = container.at(OPTIONS).at("hostProcess").as_bool();
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let text = format!("pod hostProcess value must be identical if both are specified, was {whole}");
            let place = place.child("securityContext").child("windowsOptions");
            errors.invalid(&place.child("hostProcess"), own, text);
        }
        all += 1;
        such += u32::from(own.or(whole) == Some(true));
    }
    if such > 0 && such != all {
        let text =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(at, "", text);
    }
    if such > 0 && !spec.bool_at("hostNetwork") {
        let text = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&at.child("hostNetwork"), false, text);
    }
}

/// Checks what only Windows knows of a security context.
pub(super) fn options(options: &Value, at: &Path, errors: &mut Errors) {
    const MAX_SPEC: usize = 64 * 1024;
    if options.has("gmsaCredentialSpecName") {
        let name = options.str_at("gmsaCredentialSpecName");
        errors.each(
            &at.child("gmsaCredentialSpecName"),
            name,
            names::dns_subdomain(name),
        );
    }
    let field = "gmsaCredentialSpec";
    if options.has(field) {
        let text = options.str_at(field);
        if text.is_empty() {
            errors.invalid(
                &at.child(field),
                text,
                "gmsaCredentialSpec cannot be an empty string",
            );
        } else if text.len() > MAX_SPEC {
            errors.invalid(
                &at.child(field),
                text,
                "gmsaCredentialSpec size must be under 64 KiB",
            );
        }
    }
    if options.has("runAsUserName") {
        let name = options.str_at("runAsUserName");
        errors.each(&at.child("runAsUserName"), name, user_name(name));
    }
}

/// `DOMAIN\USER`, the domain being left out or not.
fn user_name(name: &str) -> Vec<String> {
    const MAX_DOMAIN: usize = 256;
    const MAX_USER: usize = 104;
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        _ if name.is_empty() => return vec!["runAsUserName cannot be an empty string".into()],
        _ if name.bytes().any(|b| b.is_ascii_control()) => {
            return vec!["runAsUserName cannot contain control characters".into()];
        }
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".into()],
    };
    let mut out = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= MAX_DOMAIN) {
        out.push(format!(
            "runAsUserName's Domain length must be under {MAX_DOMAIN} characters"
        ));
    }
    if domain.is_some_and(|domain| !net_bios(domain) && !host_name(domain)) {
        out.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".into());
    }
    if user.is_empty() {
        out.push("runAsUserName's User cannot be empty".into());
    } else if user.len() > MAX_USER {
        out.push(format!(
            "runAsUserName's User length must not be longer than {MAX_USER} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        out.push("runAsUserName's User cannot contain only periods or spaces".into());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        let which = "\"/\\:;|=,+*?<>@[]";
        out.push(format!(
            "runAsUserName's User cannot contain the following characters: {which}"
        ));
    }
    out
}

fn net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn host_name(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}
