//! Validation of what is reported about a Pod: addresses, conditions, states of containers, devices. Source:
//! `ValidatePodStatusUpdate` in `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::annotations;
use crate::validation::errors::{Errors, IMMUTABLE};
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The lists of statuses, and of the containers that they are of.
const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];
const NO_NUMBER: &str = "must be a non-negative integer";
const RUNS_AGAIN: &str = "may not be transitioned to non-terminated state";
/// Highest user and group id.
const MAX_ID: i64 = 2_147_483_647;

/// Checks a change of a Pod's status.
pub(crate) fn status_update(new: &Value, old: &Value, errors: &mut Errors) {
    annotations::update(new, old, errors);
    let (at, status, was, spec) = (
        Path::new("status"),
        new.at("status"),
        old.at("status"),
        old.at("spec"),
    );
    conditions(status, &at.child("conditions"), errors);
    nominated(status, was, spec, &at.child("nominatedNodeName"), errors);
    not_below_zero(status, &at, errors);
    if was.str_at("qosClass") != status.str_at("qosClass") {
        errors.invalid(&at.child("qosClass"), status.str_at("qosClass"), IMMUTABLE);
    }
    for (list, containers) in STATUSES {
        transitions(
            status.list_at(list),
            was.list_at(list),
            spec,
            containers,
            &at.child(list),
            errors,
        );
    }
    claims(status, spec, &at.child("resourceClaimStatuses"), errors);
    addresses(
        status.list_at("podIPs"),
        was.list_at("podIPs"),
        &at.child("podIPs"),
        errors,
    );
    if let [first, ..] = status.list_at("hostIPs") {
        let place = at.child("hostIPs");
        if first.str_at("ip") != status.str_at("hostIP") {
            errors.invalid(
                &place.index(0).child("ip"),
                first.str_at("ip"),
                "must be equal to `hostIP`",
            );
        }
        addresses(status.list_at("hostIPs"), was.list_at("hostIPs"), &place, errors);
    }
    for (list, _) in STATUSES {
        users(status.list_at(list), spec, &at.child(list), errors);
    }
}

fn not_below_zero(holder: &Value, at: &Path, errors: &mut Errors) {
    if let Some(number) = holder.int_at("observedGeneration").filter(|number| *number < 0) {
        errors.invalid(&at.child("observedGeneration"), number, NO_NUMBER);
    }
}

fn conditions(status: &Value, at: &Path, errors: &mut Errors) {
    for (i, condition) in status.list_at("conditions").iter().enumerate() {
        not_below_zero(condition, &at.index(i), errors);
        let kind = condition.str_at("type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            errors.each(&at.index(i).child("Type"), kind, names::qualified_name(kind));
        }
    }
}

/// A Pod waits for a Node only as long as it has none.
fn nominated(status: &Value, was: &Value, spec: &Value, at: &Path, errors: &mut Errors) {
    let name = status.str_at("nominatedNodeName");
    if name.is_empty() || name == was.str_at("nominatedNodeName") {
        return;
    }
    errors.each(at, name, names::dns_subdomain(name));
    if !spec.is_empty_at("nodeName") {
        errors.forbidden(at, "may not be set on pods that are already bound to a node");
    }
}

/// What has ended for good does not run again.
fn transitions(now: &[Value], was: &[Value], spec: &Value, containers: &str, at: &Path, errors: &mut Errors) {
    for (i, before) in was.iter().enumerate() {
        let name = before.str_at("name");
        let Some(ended) = before
            .at("state")
            .get("terminated")
            .filter(|ended| !ended.is_null())
        else {
            continue;
        };
        let again = |after: &&Value| after.str_at("name") == name && !after.has("state.terminated");
        if now.iter().any(|after| again(&after)) {
            let list = spec.list_at(containers).iter();
            let mut of_name = list.filter(|c| c.str_at("name") == name);
            let may = containers != "ephemeralContainers"
                && of_name
                    .next()
                    .is_some_and(|c| restarts(c, spec, ended.int_at("exitCode").unwrap_or(0)));
            if !may {
                errors.forbidden(&at.index(i).child("state"), RUNS_AGAIN);
            }
        }
    }
}

/// Whether a container that ended with a code is started again: by its rules, its own policy or the Pod's (KEP-5307).
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let rule = |rule: &&Value| {
        let listed = rule
            .list_at("exitCodes.values")
            .iter()
            .any(|v| v.as_i64() == Some(code));
        match rule.str_at("exitCodes.operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    let own = container.str_at("restartPolicy");
    let first = container.list_at("restartPolicyRules").iter().find(rule);
    if !own.is_empty() && first.is_some_and(|rule| rule.str_at("action") == "Restart") {
        return true;
    }
    let policy = if own.is_empty() {
        spec.str_at("restartPolicy")
    } else {
        own
    };
    match policy {
        "OnFailure" => code != 0,
        "Never" => false,
        _ => true,
    }
}

/// Claims that were made for the Pod are claims that it asks for.
fn claims(status: &Value, spec: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, claim) in status.list_at("resourceClaimStatuses").iter().enumerate() {
        let (place, name) = (at.index(i), claim.str_at("name"));
        let mut asked = spec.list_at("resourceClaims").iter();
        if !asked.any(|asked| asked.str_at("name") == name) {
            let text = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&place.child("name"), name, text);
        }
        if !seen.insert(name) {
            errors.duplicate(&place.child("name"), name);
        }
        if claim.has("resourceClaimName") {
            let made = claim.str_at("resourceClaimName");
            errors.each(
                &place.child("resourceClaimName"),
                made,
                names::dns_subdomain(made),
            );
        }
    }
}

/// Addresses of a Pod or of its host: valid ones, or ones that were there before; one of each family.
fn addresses(list: &[Value], was: &[Value], at: &Path, errors: &mut Errors) {
    for (i, address) in list.iter().enumerate() {
        let text = address.str_at("ip");
        if !was.iter().any(|old| old.str_at("ip") == text) {
            errors.each(&at.index(i), text, names::legacy_ip(text));
        }
    }
    if list.len() < 2 {
        return;
    }
    let (mut four, mut six) = (false, false);
    for (i, address) in list.iter().enumerate() {
        match crate::ip::address(address.str_at("ip")) {
            Some(IpAddr::V4(_)) => four = true,
            Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => four = true,
            Some(IpAddr::V6(_)) => six = true,
            None => {
                let text = format!(
                    "failed to check for dual stack with error:invalid IP[{i}]: {}",
                    address.str_at("ip")
                );
                errors.internal(at, text);
                (four, six) = (false, false);
                break;
            }
        }
    }
    if !(four && six) || list.len() > 2 {
        let shown: Vec<Value> = list
            .iter()
            .map(|address| json!({"IP": address.str_at("ip")}))
            .collect();
        errors.invalid(at, shown, "may specify no more than one IP for each IP family");
    }
}

/// Whom a container runs as.
fn users(statuses: &[Value], spec: &Value, at: &Path, errors: &mut Errors) {
    let windows = spec.str_at("os.name") == "windows";
    for (i, status) in statuses.iter().enumerate() {
        let user = status.at("user").at("linux");
        if user.is_null() {
            continue;
        }
        let place = at.index(i).child("user").child("linux");
        if windows {
            errors.forbidden(&place, "cannot be set for a windows pod");
            continue;
        }
        let mut id = |at: Path, id: &Value| {
            let id = id.as_i64().unwrap_or(0);
            if !(0..=MAX_ID).contains(&id) {
                errors.invalid(&at, id, names::range(0, MAX_ID));
            }
        };
        id(place.child("uid"), user.at("uid"));
        id(place.child("gid"), user.at("gid"));
        for (j, group) in user.list_at("supplementalGroups").iter().enumerate() {
            id(place.child("supplementalGroups").index(j), group);
        }
    }
}
