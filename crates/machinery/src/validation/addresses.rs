//! Validation of the addresses of Services as objects: IPAddress and ServiceCIDR (KEP-1880). Source:
//! `pkg/apis/networking/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::net::IpAddr;

/// Networks that a ServiceCIDR may hold: one of each family.
const MAX_NETWORKS: usize = 2;

/// An IPAddress says whose it is.
pub(super) fn address(spec: &Value, at: &Path, errors: &mut Errors) {
    let at = at.child("parentRef");
    if !spec.has("parentRef") {
        errors.required(&at, "");
        return;
    }
    let parent = spec.at("parentRef");
    let group = parent.str_at("group");
    if !group.is_empty() {
        errors.each(&at.child("group"), group, names::dns_subdomain(group));
    }
    for (field, required) in [("resource", true), ("name", true), ("namespace", false)] {
        match parent.str_at(field) {
            "" if required => errors.required(&at.child(field), ""),
            "" => {}
            name => errors.each(&at.child(field), name, names::path_segment(name)),
        }
    }
}

/// A ServiceCIDR has a network, or one of each family.
pub(super) fn range(spec: &Value, at: &Path, errors: &mut Errors) {
    let at = at.child("cidrs");
    let networks = spec.strings_at("cidrs");
    if networks.is_empty() {
        errors.required(&at, "at least one CIDR required");
        return;
    }
    if networks.len() > MAX_NETWORKS {
        errors.invalid(&at, spec.clone(), "may only hold up to 2 values");
        return;
    }
    let sixes = networks.iter().filter(|network| network.contains(':')).count();
    let well_formed = networks.iter().all(|network| names::cidr(network).is_empty());
    if networks.len() == MAX_NETWORKS && !(well_formed && sixes == 1) {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&at, spec.clone(), why);
        return;
    }
    for (i, network) in networks.into_iter().enumerate() {
        let mut faults = names::cidr(network);
        if faults.is_empty() && has_host_bits(network) {
            faults.push("must not have bits set beyond the prefix length".into());
        }
        errors.each(&at.index(i), network, faults);
    }
}

/// Whether a well-formed network has bits behind its prefix.
fn has_host_bits(network: &str) -> bool {
    let parsed = network
        .split_once('/')
        .and_then(|(ip, bits)| Some((ip.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?)));
    match parsed {
        Some((IpAddr::V4(ip), bits)) => ip.to_bits().checked_shl(bits).is_some_and(|rest| rest != 0),
        Some((IpAddr::V6(ip), bits)) => ip.to_bits().checked_shl(bits).is_some_and(|rest| rest != 0),
        None => false,
    }
}
