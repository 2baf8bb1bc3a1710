//! Validation of security contexts. Since privilege ends at the Pod's VM, nothing is refused here that upstream allows.

use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::{Value, json};

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
pub(super) fn pod(spec: &Value, at: &Path, errors: &mut Errors) {
    let context = spec.at("securityContext");
    let place = at.child("securityContext");
    super::windows::options(context, &place, errors);
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
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
    errors.one_of_if_set(
        context,
        "fsGroupChangePolicy",
        &place,
        &["Always", "OnRootMismatch"],
    );
    errors.one_of_if_set(context, "supplementalGroupsPolicy", &place, &["Merge", "Strict"]);
    if spec.bool_at("shareProcessNamespace") && spec.bool_at("hostPID") {
        let text = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&place.child("shareProcessNamespace"), true, text);
    }
    sysctls(context, &place, errors);
    profiles(context, &place, errors);
}

fn sysctls(context: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (i, sysctl) in context.list_at("sysctls").iter().enumerate() {
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
        } else if !seen.insert(name) {
            errors.duplicate(&place, name);
        }
    }
}

/// Checks what users of their own (`hostUsers: false`, KEP-127) go with, and what goes with them alone.
pub(super) fn users(spec: &Value, at: &Path, errors: &mut Errors) {
    let own = spec.at("hostUsers") == &Value::Bool(false);
    if own {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec.bool_at(field) {
                errors.forbidden(&at.child(field), "when `hostUsers` is false");
            }
        }
        return;
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in spec.list_at(list).iter().enumerate() {
            if container.str_at("securityContext.procMount") == "Unmasked" {
                let place = at
                    .child(list)
                    .index(i)
                    .child("securityContext")
                    .child("procMount");
                errors.invalid(&place, "Unmasked", "`hostUsers` must be false to use `Unmasked`");
            }
        }
    }
}

/// Checks a container's own context.
pub(super) fn container(context: &Value, at: &Path, errors: &mut Errors) {
    super::windows::options(context, at, errors);
    if context.is_null() {
        return;
    }
    id(context, "runAsUser", at, errors);
    id(context, "runAsGroup", at, errors);
    errors.one_of_if_set(context, "procMount", at, &["Default", "Unmasked"]);
    if context.at("allowPrivilegeEscalation") == &Value::Bool(false) {
        if context.bool_at("privileged") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(at, context.clone(), text);
        }
        for capability in context.strings_at("capabilities.add") {
            if capability.trim_start_matches("CAP_") == "SYS_ADMIN" {
                let text =
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
                errors.invalid(at, context.clone(), text);
            }
        }
    }
    profiles(context, at, errors);
}

/// Checks the seccomp and AppArmor profiles of a context.
fn profiles(context: &Value, at: &Path, errors: &mut Errors) {
    for field in ["seccompProfile", "appArmorProfile"] {
        let profile = context.at(field);
        if profile.is_null() {
            continue;
        }
        let place = at.child(field);
        errors.one_of(
            profile,
            "type",
            &place,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        );
        match (
            profile.str_at("type") == "Localhost",
            profile.is_empty_at("localhostProfile"),
        ) {
            (true, true) => errors.required(
                &place.child("localhostProfile"),
                match field {
                    "seccompProfile" => "must be set when seccomp type is Localhost",
                    _ => "must be set when AppArmor type is Localhost",
                },
            ),
            (true, false) => super::container::descending_path(profile, "localhostProfile", &place, errors),
            (false, false) => errors.invalid(
                &place.child("localhostProfile"),
                match field {
                    "seccompProfile" => json!({"Type": profile.at("type"), "LocalhostProfile": profile.at("localhostProfile")}),
                    _ => profile.at("localhostProfile").clone(),
                },
                match field {
                    "seccompProfile" => "can only be set when seccomp type is Localhost",
                    _ => "can only be set when AppArmor type is Localhost",
                },
            ),
            (false, true) => {}
        }
    }
}
