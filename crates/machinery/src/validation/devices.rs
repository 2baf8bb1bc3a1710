//! Validation of dynamic resource allocation (KEP-4381): claims, their templates, device classes and slices, as the gates
//! that v1.35 has on by default let them be. Source: `pkg/apis/resource/validation/validation.go`.
//!
//! Expressions are compiled elsewhere, where there is a compiler.

use super::errors::{Errors, IMMUTABLE};
use super::pod::selector_term;
use super::{conditions, names};
use crate::walk::{At, same};
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

/// Requests, constraints, configurations, selectors and results of a claim at most, each.
const MOST: usize = 32;
/// Alternatives of one request at most.
const MOST_ALTERNATIVES: usize = 8;
/// Users of a claim at most.
const MOST_USERS: usize = 256;
/// Devices of a slice at most, and if any of them has taints or counters.
const MOST_DEVICES: usize = 128;
const MOST_DEVICES_ADVANCED: usize = 64;
/// Attributes and capacities of a device together.
const MOST_ATTRIBUTES: usize = 32;
/// Bytes of an attribute's text.
const MOST_TEXT: usize = 64;
/// Bytes of what a configuration holds for its driver, and of an expression.
const MOST_PARAMETERS: usize = 10 * 1024;

/// Which sort of device is wanted, of a DeviceClass.
const SOURCES: [&str; 2] = ["FromClaim", "FromClass"];

/// A list that is not too long; answers its items with their places.
fn listed<'v>(
    holder: &'v Value,
    field: &str,
    most: usize,
    at: &Path,
    errors: &mut Errors,
) -> Vec<(&'v Value, Path)> {
    let (list, place) = (holder.list_at(field), at.child(field));
    if list.len() > most {
        errors.too_many(&place, list.len(), most);
    }
    let items = list.iter().enumerate();
    items.map(|(i, item)| (item, place.index(i))).collect()
}

/// No two items have the same key.
fn unique(items: &[(&Value, Path)], key: impl Fn(&Value) -> Value, errors: &mut Errors) {
    let mut seen: Vec<Value> = Vec::new();
    for (item, at) in items {
        let key = key(item);
        if seen.contains(&key) {
            errors.duplicate(at, key);
        } else {
            seen.push(key);
        }
    }
}

/// The name of a driver: a domain of at most 63 bytes.
fn driver(name: &str, at: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(at, "");
        return;
    }
    if name.len() > 63 {
        errors.too_long(at, 63);
    }
    errors.each(at, name, names::dns_subdomain(&name.to_lowercase()));
}

fn pool_name(name: &str, at: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(at, "");
        return;
    }
    if name.len() > 253 {
        errors.too_long(at, 253);
    }
    for part in name.split('/') {
        errors.each(at, part, names::dns_subdomain(part));
    }
}

/// Names of attributes and capacities: an identifier, maybe with a domain before it.
fn qualified(name: &str, at: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(id, at, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(at, "", "the domain must not be empty"),
                domain => driver(domain, at, errors),
            }
            match id {
                "" => errors.invalid(at, "", "the name must not be empty"),
                id => identifier(id, at, errors),
            }
        }
        // Upstream lets it pass.
        _ => {}
    }
}

fn identifier(id: &str, at: &Path, errors: &mut Errors) {
    if id.len() > 32 {
        errors.too_long(at, 32);
    }
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !id.starts_with(first) || !id.chars().all(|c| first(c) || c.is_ascii_digit()) {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                   characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
                   '[A-Za-z_][A-Za-z0-9_]*')";
        errors.invalid(at, id, why);
    }
}

fn fully_qualified(name: &str, at: &Path, errors: &mut Errors) {
    qualified(name, at, errors);
    if !name.contains('/') {
        let text = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(at, name, text);
    }
}

/// Names of the requests of a claim, and `REQUEST/ALTERNATIVE`.
struct Requests(BTreeSet<String>);

impl Requests {
    fn of(devices: &Value) -> Requests {
        let mut all = BTreeSet::new();
        for request in devices.list_at("requests") {
            let name = request.str_at("name");
            all.insert(name.to_owned());
            for alternative in request.list_at("firstAvailable") {
                all.insert(format!("{name}/{}", alternative.str_at("name")));
            }
        }
        Requests(all)
    }

    fn refers(&self, name: &str, at: &Path, errors: &mut Errors) {
        const WHY: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        if name.matches('/').count() > 1 {
            errors.invalid(at, name, WHY);
            return;
        }
        for part in name.split('/') {
            errors.each(at, part, names::dns_label(part));
        }
        if !self.0.contains(name) {
            errors.invalid(at, name, WHY);
        }
    }

    fn referred(&self, holder: &Value, at: &Path, errors: &mut Errors) {
        let items = listed(holder, "requests", MOST, at, errors);
        for (name, at) in &items {
            self.refers(name.as_str().unwrap_or(""), at, errors);
        }
        unique(&items, Value::clone, errors);
    }
}

/// The spec of a claim.
pub(super) fn claim(spec: &Value, at: &Path, errors: &mut Errors) {
    let (devices, at) = (spec.at("devices"), at.child("devices"));
    let names = Requests::of(devices);
    let requests = listed(devices, "requests", MOST, &at, errors);
    for (request, at) in &requests {
        self::request(request, at, errors);
    }
    unique(&requests, |r| r.str_at("name").into(), errors);
    for (constraint, at) in listed(devices, "constraints", MOST, &at, errors) {
        names.referred(constraint, &at, errors);
        let place = at.child("matchAttribute");
        if constraint.has("matchAttribute") {
            fully_qualified(constraint.str_at("matchAttribute"), &place, errors);
        } else {
            errors.required(&place, "");
        }
    }
    for (config, at) in listed(devices, "config", MOST, &at, errors) {
        names.referred(config, &at, errors);
        configuration(config, &at, errors);
    }
}

fn request(request: &Value, at: &Path, errors: &mut Errors) {
    let name = request.str_at("name");
    errors.each(&at.child("name"), name, names::dns_label(name));
    let (exactly, first) = (request.has("exactly"), !request.is_empty_at("firstAvailable"));
    match (exactly, first) {
        (false, false) => errors.required(at, "exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => errors.invalid(
            at,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, false) => wanted(request.at("exactly"), &at.child("exactly"), errors),
        (false, true) => {
            let all = listed(request, "firstAvailable", MOST_ALTERNATIVES, at, errors);
            for (one, at) in &all {
                let name = one.str_at("name");
                errors.each(&at.child("name"), name, names::dns_label(name));
                wanted(one, at, errors);
            }
            unique(&all, |r| r.str_at("name").into(), errors);
        }
    }
}

/// What a request says of the devices that it wants.
fn wanted(request: &Value, at: &Path, errors: &mut Errors) {
    let (class, place) = (request.str_at("deviceClassName"), at.child("deviceClassName"));
    if class.is_empty() {
        errors.required(&place, "");
    } else {
        errors.each(&place, class, names::dns_subdomain(class));
    }
    selectors(request, at, errors);
    let count = request.int_at("count").unwrap_or(0);
    match request.str_at("allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.invalid(&at.child("count"), count, why);
        }
        "All" => {}
        "ExactCount" if count <= 0 => errors.invalid(&at.child("count"), count, "must be greater than zero"),
        "ExactCount" => {}
        other => errors.not_supported(&at.child("allocationMode"), other, &["All", "ExactCount"]),
    }
}

fn selectors(holder: &Value, at: &Path, errors: &mut Errors) {
    for (selector, at) in listed(holder, "selectors", MOST, at, errors) {
        if !selector.has("cel") {
            errors.required(&at.child("cel"), "");
        } else if selector.at("cel").str_at("expression").len() > MOST_PARAMETERS {
            errors.too_long(&at.child("cel").child("expression"), MOST_PARAMETERS);
        }
    }
}

fn configuration(config: &Value, at: &Path, errors: &mut Errors) {
    let at = at.child("opaque");
    if !config.has("opaque") {
        errors.required(&at, "");
        return;
    }
    let opaque = config.at("opaque");
    driver(opaque.str_at("driver"), &at.child("driver"), errors);
    let (parameters, place) = (opaque.at("parameters"), at.child("parameters"));
    if parameters.is_null() {
        errors.required(&place, "");
    } else if !parameters.is_object() {
        errors.invalid(
            &place,
            "<value omitted>",
            "parameters must be a valid JSON object",
        );
    } else if parameters.to_string().len() > MOST_PARAMETERS {
        errors.too_long(&place, MOST_PARAMETERS);
    }
}

/// What is allocated for a claim, and who uses it.
pub(super) fn claim_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, at) = (new.at("status"), Path::new("status"));
    let names = Requests::of(new.at("spec.devices"));
    let users = listed(status, "reservedFor", MOST_USERS, &at, errors);
    for (user, at) in &users {
        for field in ["resource", "name", "uid"] {
            if user.is_empty_at(field) {
                errors.required(&at.child(field), "");
            }
        }
    }
    unique(&users, |user| user.str_at("uid").into(), errors);
    devices_of(status, &at, errors);
    let place = at.child("reservedFor");
    if !users.is_empty() && !status.has("allocation") {
        errors.forbidden(&place, "may not be specified when `allocated` is not set");
    } else if new.has("metadata.deletionTimestamp") {
        let before = old.list_at("status.reservedFor");
        if users.iter().any(|(user, _)| !before.contains(user)) {
            let why =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&place, why);
        }
    }
    let (allocation, at) = (status.at("allocation"), at.child("allocation"));
    match (old.has("status.allocation"), status.has("allocation")) {
        (true, true) if !same(allocation, old.at("status.allocation")) => {
            let shown = super::internal::line("AllocationResult", allocation);
            errors.invalid_shown(&at, &shown, IMMUTABLE);
        }
        (false, true) => allocated(allocation, &names, &at, errors),
        _ => {}
    }
}

fn allocated(allocation: &Value, names: &Requests, at: &Path, errors: &mut Errors) {
    let (devices, place) = (allocation.at("devices"), at.child("devices"));
    for (result, at) in listed(devices, "results", MOST, &place, errors) {
        names.refers(result.str_at("request"), &at.child("request"), errors);
        driver(result.str_at("driver"), &at.child("driver"), errors);
        pool_name(result.str_at("pool"), &at.child("pool"), errors);
        let device = result.str_at("device");
        errors.each(&at.child("device"), device, names::dns_label(device));
    }
    for (config, at) in listed(devices, "config", 2 * MOST, &place, errors) {
        errors.one_of(config, "source", &at, &SOURCES);
        names.referred(config, &at, errors);
        configuration(config, &at, errors);
    }
    node_selector(allocation, at, errors);
}

fn node_selector(holder: &Value, at: &Path, errors: &mut Errors) {
    if !holder.has("nodeSelector") {
        return;
    }
    let place = at.child("nodeSelector").child("nodeSelectorTerms");
    let terms = holder.at("nodeSelector").list_at("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&place, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        selector_term(term, true, &place.index(i), errors);
    }
}

/// Conditions and addresses that are reported of a device, and the bytes of names.
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const MOST_INTERFACE: usize = 256;
const MOST_HARDWARE: usize = 128;

/// What drivers report of the devices of a claim (KEP-4817).
fn devices_of(status: &Value, at: &Path, errors: &mut Errors) {
    let key = |d: &Value| ["driver", "pool", "device"].map(|field| d.str_at(field).to_owned());
    let results = status.list_at("allocation.devices.results").iter();
    let given: Vec<[String; 3]> = results.map(key).collect();
    let mut seen = Vec::new();
    for (device, at) in listed(status, "devices", usize::MAX, at, errors) {
        driver(device.str_at("driver"), &at.child("driver"), errors);
        pool_name(device.str_at("pool"), &at.child("pool"), errors);
        let name = device.str_at("device");
        errors.each(&at.child("device"), name, names::dns_label(name));
        let id = key(device);
        let [of, pool, name] = &id;
        let shown = format!("{{\"Driver\":{of:?},\"Pool\":{pool:?},\"Device\":{name:?},\"ShareID\":\"\"}}");
        if !given.contains(&id) {
            errors.invalid_shown(&at, &shown, "must be an allocated device in the claim");
        }
        let conditions = device.list_at("conditions");
        if conditions.len() > MOST_CONDITIONS {
            errors.too_many(&at.child("conditions"), conditions.len(), MOST_CONDITIONS);
        }
        conditions::check(conditions, &at.child("conditions"), errors);
        let (data, place) = (device.at("data"), at.child("data"));
        if data.to_string().len() > MOST_PARAMETERS {
            errors.too_long(&place, MOST_PARAMETERS);
        } else if !data.is_null() && !data.is_object() {
            errors.invalid(&place, "<value omitted>", "must be a valid JSON object");
        }
        network(device.at("networkData"), &at.child("networkData"), errors);
        if seen.contains(&id) {
            let error = FieldError::duplicate(&at, Value::Null);
            errors.0.push(error.shown_as(shown));
        }
        seen.push(id);
    }
}

fn network(data: &Value, at: &Path, errors: &mut Errors) {
    for (field, most) in [
        ("interfaceName", MOST_INTERFACE),
        ("hardwareAddress", MOST_HARDWARE),
    ] {
        if data.str_at(field).len() > most {
            errors.too_long(&at.child(field), most);
        }
    }
    let (addresses, place) = (data.strings_at("ips"), at.child("ips"));
    if addresses.len() > MOST_ADDRESSES {
        errors.too_many(&place, addresses.len(), MOST_ADDRESSES);
    }
    for (i, address) in addresses.iter().enumerate() {
        errors.each(&place.index(i), address, crate::ip::strict_interface(address));
        if addresses[..i].contains(address) {
            errors.duplicate(&place.index(i), *address);
        }
    }
}

/// A DeviceClass.
pub(super) fn class(spec: &Value, at: &Path, errors: &mut Errors) {
    selectors(spec, at, errors);
    for (config, at) in listed(spec, "config", MOST, at, errors) {
        configuration(config, &at, errors);
    }
    let name = spec.str_at("extendedResourceName");
    let domain = name.split_once('/').map_or("", |(domain, _)| domain);
    let native = domain.is_empty() || domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let bad = native
        || name.starts_with("requests.")
        || !names::qualified_name(&format!("requests.{name}")).is_empty();
    if spec.has("extendedResourceName") && bad {
        let why = "must be a valid extended resource name";
        errors.invalid(&at.child("extendedResourceName"), name, why);
    }
}

/// A ResourceSlice.
pub(super) fn slice(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    driver(spec.str_at("driver"), &at.child("driver"), errors);
    let (pool, place) = (spec.at("pool"), at.child("pool"));
    pool_name(pool.str_at("name"), &place.child("name"), errors);
    let count = pool.int_at("resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        errors.invalid(
            &place.child("resourceSliceCount"),
            count,
            "must be greater than zero",
        );
    }
    if let Some(generation) = pool.int_at("generation")
        && generation < 0
    {
        let why = "must be greater than or equal to zero";
        errors.invalid(&place.child("generation"), generation, why);
    }
    if !old.is_null() {
        slice_kept(spec, old, at, errors);
    }
    let mut set: Vec<&str> = Vec::new();
    if let Some(name) = spec.at("nodeName").as_str() {
        let place = at.child("nodeName");
        if name.is_empty() {
            errors.invalid(&place, name, "must be either unset or set to a non-empty string");
        } else {
            set.push("`nodeName`");
            errors.each(&place, name, names::dns_subdomain(name));
        }
    }
    if spec.has("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(spec, at, errors);
        if spec.list_at("nodeSelector.nodeSelectorTerms").len() != 1 {
            let terms = spec.at("nodeSelector.nodeSelectorTerms");
            let shown = super::internal::list_line("NodeSelectorTerm", terms);
            let place = at.child("nodeSelector").child("nodeSelectorTerms");
            errors.invalid_shown(&place, &shown, "must have exactly one node selector term");
        }
    }
    match spec.at("allNodes").as_bool() {
        Some(true) => set.push("`allNodes`"),
        Some(false) => errors.invalid(
            &at.child("allNodes"),
            false,
            "must be either unset or set to true",
        ),
        None => {}
    }
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.required(at, ONE),
        1 => {}
        _ => errors.invalid(
            at,
            format!("{{{}}}", set.join(", ")),
            format!("{ONE}, but multiple fields are set"),
        ),
    }
    let advanced = |device: &Value| !device.is_empty_at("taints") || !device.is_empty_at("consumesCounters");
    let most = match spec.list_at("devices").iter().any(advanced) {
        true => MOST_DEVICES_ADVANCED,
        false => MOST_DEVICES,
    };
    let devices = listed(spec, "devices", most, at, errors);
    for (device, at) in &devices {
        self::device(device, at, errors);
    }
    unique(&devices, |d| d.str_at("name").into(), errors);
}

fn device(device: &Value, at: &Path, errors: &mut Errors) {
    let name = device.str_at("name");
    errors.each(&at.child("name"), name, names::dns_label(name));
    let (attributes, capacities) = (device.entries_at("attributes"), device.entries_at("capacity"));
    let both = attributes.len() + capacities.len();
    if both > MOST_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}");
        errors.invalid(at, both as i64, why);
    }
    for (name, value) in attributes {
        let at = at.child("attributes");
        qualified(name, &at, errors);
        attribute(value, &at.key(name), errors);
    }
    for (name, _) in capacities {
        qualified(name, &at.child("capacity"), errors);
    }
}

fn attribute(value: &Value, at: &Path, errors: &mut Errors) {
    for field in ["string", "version"] {
        let text = value.str_at(field);
        if field == "version" && value.has(field) && !is_semver(text) {
            let why = "must be a string compatible with semver.org spec 2.0.0";
            errors.invalid(&at.child(field), text, why);
        }
        if text.len() > MOST_TEXT {
            errors.too_long(&at.child(field), MOST_TEXT);
        }
    }
    let set = ["bool", "int", "string", "version"];
    match set.into_iter().filter(|f| value.has(f)).count() {
        0 => errors.invalid(at, "", "exactly one value must be specified"),
        1 => {}
        _ => {
            let shown = super::internal::line("DeviceAttribute", value);
            errors.invalid_shown(at, &shown, "exactly one value must be specified");
        }
    }
}

/// A version as semver.org has it: three numbers, then what comes before a release, then a build.
fn is_semver(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(r, b)| (r, Some(b)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(c, p)| (c, Some(p)));
    let numeric = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let before = |part: &str| word(part) && (numeric(part) || !part.bytes().all(|b| b.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(numeric)
        && pre.is_none_or(|p| p.split('.').all(before))
        && build.is_none_or(|b| b.split('.').all(word))
}

/// What a slice is about stays; what is not there is no text to Go but for the node.
fn slice_kept(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    for (field, place) in [
        ("pool.name", at.child("pool").child("name")),
        ("driver", at.child("driver")),
        ("nodeName", at.child("nodeName")),
    ] {
        if !same(new.at(field), old.at(field)) {
            let value = match field {
                "nodeName" => new.at(field).clone(),
                _ => new.str_at(field).into(),
            };
            errors.invalid(&place, value, IMMUTABLE);
        }
    }
}
