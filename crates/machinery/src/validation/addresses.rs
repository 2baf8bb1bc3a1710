//! Validation of the addresses of Services as objects: IPAddress and ServiceCIDR (KEP-1880). Source:
//! `pkg/apis/networking/validation` of Kubernetes v1.35.

use super::errors::{Errors, IMMUTABLE};
use super::names;
use crate::walk::At;
use kinds::field::{FieldError, Path};
use serde_json::Value;

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
        let shown = format!("{{\"CIDRs\":{}}}", spec.at("cidrs"));
        let error = FieldError::invalid(&at, spec.clone(), "may only hold up to 2 values");
        errors.0.push(error.shown_as(shown));
        return;
    }
    for (i, network) in networks.iter().enumerate() {
        errors.each(&at.index(i), network, crate::ip::strict_network(network));
    }
    let families: Vec<bool> = networks
        .iter()
        .filter_map(|network| Some(crate::ip::network(network)?.0.is_ipv4()))
        .collect();
    if families.len() == MAX_NETWORKS && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&at, spec.at("cidrs").clone(), why);
    }
}

/// The network of a ServiceCIDR stays; another may come, of the other family.
pub(super) fn range_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("cidrs");
    let (is, was) = (new.strings_at("cidrs"), old.strings_at("cidrs"));
    if is.len() != was.len() && (was.len(), is.len()) != (1, MAX_NETWORKS) {
        return errors.invalid(&place, new.at("cidrs").clone(), IMMUTABLE);
    }
    for (i, (is, was)) in is.iter().zip(&was).enumerate() {
        if is != was {
            errors.invalid(&place.index(i), *is, IMMUTABLE);
        }
    }
    if is.len() > was.len() {
        range(new, at, errors);
    }
}
