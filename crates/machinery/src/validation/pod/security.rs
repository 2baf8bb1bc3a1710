//! Validation of security contexts. Since privilege ends at the Pod's VM, nothing is refused here that upstream allows.

use super::{Of, all_containers, windows};
use crate::validation::errors::Errors;
use crate::validation::{internal, names};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Highest user and group id.
const MAX_ID: i64 = 2_147_483_647;

fn id(holder: &Value, field: &str, at: &Path, errors: &mut Errors) {
    if let Some(id) = holder.int_at(field)
        && !(0..=MAX_ID).contains(&id)
    {
        errors.invalid(&at.child(field), id, names::range(0, MAX_ID));
    }
}

/// Checks what a Pod says for all its containers.
pub(super) fn pod(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let place = at.child("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, field, &place, errors);
    }
    for (i, group) in context.list_at("supplementalGroups").iter().enumerate() {
        if let Some(group) = group.as_i64()
            && !(0..=MAX_ID).contains(&group)
        {
            errors.invalid(
                &place.child("supplementalGroups").index(i),
                group,
                names::range(0, MAX_ID),
            );
        }
    }
    if spec.bool_at("shareProcessNamespace") && spec.bool_at("hostPID") {
        let text = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&place.child("shareProcessNamespace"), true, text);
    }
    sysctls(spec, of, &place, errors);
    policy(
        context,
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
        &place,
        errors,
    );
    seccomp(context, &place, errors);
    windows::options(
        context.at("windowsOptions"),
        &place.child("windowsOptions"),
        errors,
    );
    app_armor(context, &place, errors);
    policy(
        context,
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
        &place,
        errors,
    );
    // Another is of a feature that v1.35 has switched off, and which who has any may have.
    let change = "seLinuxChangePolicy";
    let known = match of.old.at("securityContext").has(change) {
        true => &["MountOption", "Recursive"][..],
        false => &["Recursive"],
    };
    policy(context, change, known, &place, errors);
}

/// A text that, when there, is one of some.
fn policy(context: &Value, field: &str, valid: &[&str], at: &Path, errors: &mut Errors) {
    let value = context.str_at(field);
    if context.has(field) && !valid.contains(&value) {
        errors.not_supported(&at.child(field), value, valid);
    }
}

/// Why a Pod that shares its host's namespaces may not set something of the kernel.
fn of_the_host(spec: &Value, name: &str) -> Option<&'static str> {
    const IPC: [&str; 4] = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."];
    // A name with a slash first has slashes for dots, and dots for slashes.
    let name: String = match name.find(['.', '/']) {
        Some(i) if name[i..].starts_with('/') => {
            let swap = |c| if c == '.' { '/' } else { '.' };
            name.chars()
                .map(|c| if c == '.' || c == '/' { swap(c) } else { c })
                .collect()
        }
        _ => name.to_owned(),
    };
    let ipc = name == IPC[0] || IPC[1..].iter().any(|prefix| name.starts_with(prefix));
    if spec.bool_at("hostNetwork") && name.starts_with("net.") {
        Some("may not be specified when 'hostNetwork' is true")
    } else if spec.bool_at("hostIPC") && ipc {
        Some("may not be specified when 'hostIPC' is true")
    } else {
        None
    }
}

fn sysctls(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let mut before = of.old.list_at("securityContext.sysctls").iter();
    let kept = before.any(|sysctl| of_the_host(of.old, sysctl.str_at("name")).is_some());
    let mut seen = std::collections::BTreeSet::new();
    for (i, sysctl) in spec.list_at("securityContext.sysctls").iter().enumerate() {
        let (name, place) = (sysctl.str_at("name"), at.child("sysctls").index(i).child("name"));
        let solid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let step = |s: &str| {
            // `-` and `_` stand inside only.
            s.bytes().next().is_some_and(solid)
                && s.bytes().next_back().is_some_and(solid)
                && s.bytes().all(|b| solid(b) || b == b'-' || b == b'_')
        };
        if name.is_empty() {
            errors.required(&place, "");
        } else if name.len() > 253 || !name.split(['.', '/']).all(step) {
            errors.invalid(
                &place,
                name,
                "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*\
                 [a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            );
        } else if seen.contains(name) {
            errors.duplicate(&place, name);
        }
        seen.insert(name);
        if let Some(text) = of_the_host(spec, name)
            && !kept
        {
            errors.invalid(&place, name, text);
        }
    }
}

/// Checks what users of their own (`hostUsers: false`, KEP-127) go with.
pub(super) fn users(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    const WHY: &str = "when `hostUsers` is false";
    let own = |spec: &Value| spec.at("hostUsers") == &Value::Bool(false);
    if !own(spec) {
        return;
    }
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.bool_at(field) {
            errors.forbidden(&at.child(shown), WHY);
        }
    }
    let devices = |(container, _): &(&Value, Path)| !container.is_empty_at("volumeDevices");
    if own(of.old) && all_containers(of.old, at).any(|container| devices(&container)) {
        return;
    }
    for (_, place) in all_containers(spec, at).filter(devices) {
        errors.forbidden(&place.child("volumeDevices"), WHY);
    }
}

/// Checks a container's own context; `own_users` says whether its Pod has users of its own.
pub(super) fn container(context: &Value, own_users: bool, at: &Path, errors: &mut Errors) {
    if context.is_null() {
        return;
    }
    id(context, "runAsUser", at, errors);
    id(context, "runAsGroup", at, errors);
    if context.has("procMount") {
        let (place, valid) = (at.child("procMount"), ["Default", "Unmasked"]);
        let value = context.str_at("procMount");
        if !valid.contains(&value) {
            errors.not_supported(&place, value, &valid);
        }
        if value == "Unmasked" && !own_users {
            errors.invalid(&place, value, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(context, at, errors);
    if context.at("allowPrivilegeEscalation") == &Value::Bool(false) {
        let shown = || internal::line("SecurityContext", context);
        if context.bool_at("privileged") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid_shown(at, &shown(), text);
        }
        for _ in context
            .strings_at("capabilities.add")
            .iter()
            .filter(|c| **c == "CAP_SYS_ADMIN")
        {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid_shown(at, &shown(), text);
        }
    }
    windows::options(context.at("windowsOptions"), &at.child("windowsOptions"), errors);
    app_armor(context, at, errors);
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// The type of a profile, which must be there. Answers whether it is one on the host.
fn profile_type(profile: &Value, what: &str, at: &Path, errors: &mut Errors) -> bool {
    let (place, kind) = (at.child("type"), profile.str_at("type"));
    if kind.is_empty() {
        errors.required(&place, format!("type is required when {what} is set"));
    } else if !PROFILES.contains(&kind) {
        errors.not_supported(&place, kind, &PROFILES);
    }
    kind == "Localhost"
}

fn seccomp(context: &Value, at: &Path, errors: &mut Errors) {
    let (profile, at) = (context.at("seccompProfile"), at.child("seccompProfile"));
    if profile.is_null() {
        return;
    }
    let place = at.child("localhostProfile");
    match (
        profile_type(profile, "seccompProfile", &at, errors),
        profile.has("localhostProfile"),
    ) {
        (true, false) => errors.required(&place, "must be set when seccomp type is Localhost"),
        (true, true) => super::container::descending(profile.str_at("localhostProfile"), &place, errors),
        (false, true) => {
            let text = "can only be set when seccomp type is Localhost";
            errors.invalid_shown(&place, &internal::line("SeccompProfile", profile), text);
        }
        (false, false) => {}
    }
}

fn app_armor(context: &Value, at: &Path, errors: &mut Errors) {
    const MAX_PATH: usize = 4095;
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    let (profile, at) = (context.at("appArmorProfile"), at.child("appArmorProfile"));
    if profile.is_null() {
        return;
    }
    let (place, name) = (at.child("localhostProfile"), profile.str_at("localhostProfile"));
    if !profile_type(profile, "appArmorProfile", &at, errors) {
        if profile.has("localhostProfile") && PROFILES.contains(&profile.str_at("type")) {
            errors.invalid(&place, name, "can only be set when AppArmor type is Localhost");
        }
        return;
    }
    if name.trim() != name {
        errors.invalid(&place, name, "must not be padded with whitespace");
    } else if name.is_empty() {
        errors.required(&place, NEEDED);
    }
    if name.len() > MAX_PATH {
        errors.too_long(&place, MAX_PATH);
    }
}
