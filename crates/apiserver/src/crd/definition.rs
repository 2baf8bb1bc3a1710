//! A whole definition, part by part in the order in which upstream tells what is wrong with one
//! (`ValidateCustomResourceDefinition` of `apiextensions-apiserver/pkg/apis/apiextensions/validation`).
//!
//! Upstream's internal form has what all versions share at the spec; places are named, and versions shown, by that form.

use super::structural::{has_default, list, text};
use super::{parts, shown, structural};
use kinds::field::{FieldError, Path};
use serde_json::Value;

/// The annotation that groups of the Kubernetes project must have.
const APPROVED: &str = "api-approved.kubernetes.io";
const IMMUTABLE: &str = "field is immutable";
const NONE: &Value = &Value::Null;

/// Checks a definition, which replaces `old` where there is one.
pub fn check(crd: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // What has been taken once is taken again.
    if old.is_none_or(|old| old["spec"] != crd["spec"]) {
        Spec::new(crd).check(&mut errors);
    }
    if let Some(old) = old {
        kept(crd, old, &mut errors);
    }
    stored_versions(crd, &mut errors);
    errors.extend(approval(crd, old));
    let keeps_all = |crd: &Value| crd["spec"]["preserveUnknownFields"] == true;
    if keeps_all(crd) && !old.is_some_and(keeps_all) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        let at = Path::new("spec").child("preserveUnknownFields");
        errors.push(FieldError::invalid(&at, Value::from(true), why));
    }
    errors
}

/// A spec, and what its versions share.
struct Spec<'v> {
    spec: &'v Value,
    versions: Vec<&'v Value>,
    at: Path,
}

/// What versions may share.
pub(super) const SHARED: [&str; 4] = [
    "schema",
    "subresources",
    "additionalPrinterColumns",
    "selectableFields",
];

impl<'v> Spec<'v> {
    fn new(crd: &'v Value) -> Spec<'v> {
        Spec {
            spec: &crd["spec"],
            versions: list(&crd["spec"], "versions").collect(),
            at: Path::new("spec"),
        }
    }

    /// Whether all versions have the same in a field.
    fn is_shared(&self, field: &str) -> bool {
        let pairs = self.versions.windows(2);
        pairs
            .into_iter()
            .all(|pair| is_same(&pair[0][field], &pair[1][field]))
    }

    /// What all versions have in a field; null when they differ in it.
    fn shared(&self, field: &str) -> &'v Value {
        match self.versions.first().filter(|_| self.is_shared(field)) {
            Some(first) => &first[field],
            None => NONE,
        }
    }

    /// What a version has in a field by itself.
    fn own(&self, version: &'v Value, field: &str) -> &'v Value {
        match self.is_shared(field) {
            true => NONE,
            false => &version[field],
        }
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        let at = |field: &str| self.at.child(field);
        group(text(self.spec, "group"), &at("group"), errors);
        one_of(
            text(self.spec, "scope"),
            &at("scope"),
            &["Cluster", "Namespaced"],
            errors,
        );
        self.schemas(errors);
        for (i, version) in self.versions.iter().enumerate() {
            self.version(version, &at("versions").index(i), errors);
        }
        self.marks(errors);
        // The internal form has the first name once more.
        if let Some(name) = self.versions.first().map(|version| text(version, "name")) {
            let faults = if name.is_empty() {
                String::new()
            } else {
                label(name)
            };
            invalid_unless_empty(&at("version"), name, faults, errors);
        }
        let names = &self.spec["names"];
        for field in ["plural", "singular", "kind", "listKind"] {
            if text(names, field).is_empty() {
                errors.push(FieldError::required(&at("names").child(field), ""));
            }
        }
        errors.extend(machinery::definition_names(names, &at("names")));
        let has_status = self
            .versions
            .iter()
            .any(|version| has_status(&version["subresources"]));
        let schema = self.shared("schema");
        structural::check(schema, &at("validation"), has_status, errors);
        let place = at("subresources").child("scale");
        parts::scale(&self.shared("subresources")["scale"], &place, errors);
        let place = at("additionalPrinterColumns");
        parts::columns(self.shared("additionalPrinterColumns"), &place, errors);
        let (fields, place) = (self.shared("selectableFields"), at("selectableFields"));
        if !is_empty(fields) && !schema.is_object() {
            let why = "may only be set when validations.schema is included";
            errors.push(FieldError::invalid(&place, Value::from(""), why));
        } else {
            parts::selectable(fields, &schema["openAPIV3Schema"], &place, errors);
        }
        self.conversion(errors);
    }

    /// Every version has a schema; one with defaults, where unknown fields are dropped.
    fn schemas(&self, errors: &mut Vec<FieldError>) {
        for (i, version) in self.versions.iter().enumerate() {
            if !version["schema"]["openAPIV3Schema"].is_object() {
                let place = self.at.child("versions").index(i);
                let place = place.child("schema").child("openAPIV3Schema");
                errors.push(FieldError::required(&place, ""));
            }
        }
        let has_default = |version: &&Value| has_default(&version["schema"]["openAPIV3Schema"]);
        if self.spec["preserveUnknownFields"] == true && self.versions.iter().any(has_default) {
            let why = "must be false in order to use defaults in the schema";
            let place = self.at.child("preserveUnknownFields");
            errors.push(FieldError::invalid(&place, Value::from(true), why));
        }
    }

    fn version(&self, version: &'v Value, at: &Path, errors: &mut Vec<FieldError>) {
        let name = text(version, "name");
        invalid_unless_empty(&at.child("name"), name, label(name), errors);
        parts::deprecation(version, &at.child("deprecationWarning"), errors);
        // Of two of one name the first counts.
        let named = self.versions.iter().find(|other| text(other, "name") == name);
        let has_status = has_status(&named.unwrap_or(&version)["subresources"]);
        let schema = self.own(version, "schema");
        structural::check(schema, &at.child("schema"), has_status, errors);
        let place = at.child("subresources").child("scale");
        parts::scale(&self.own(version, "subresources")["scale"], &place, errors);
        let columns = self.own(version, "additionalPrinterColumns");
        parts::columns(columns, &at.child("additionalPrinterColumns"), errors);
        let (fields, place) = (
            self.own(version, "selectableFields"),
            at.child("selectableFields"),
        );
        if !is_empty(fields) && !schema["openAPIV3Schema"].is_object() {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(FieldError::invalid(&place, Value::from(""), why));
        } else {
            parts::selectable(fields, &schema["openAPIV3Schema"], &place, errors);
        }
    }

    /// Names are told apart, and one version is stored.
    fn marks(&self, errors: &mut Vec<FieldError>) {
        let mut names: Vec<&str> = self
            .versions
            .iter()
            .map(|version| text(version, "name"))
            .collect();
        names.sort_unstable();
        let is_unique = names.windows(2).all(|pair| pair[0] != pair[1]);
        let stored = self.versions.iter().filter(|version| version["storage"] == true);
        let faults = [
            (!is_unique, "must contain unique version names"),
            (
                stored.count() != 1,
                "must have exactly one version marked as storage version",
            ),
        ];
        for (_, why) in faults.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            let own = |version: &&'v Value| SHARED.map(|field| self.own(version, field));
            let all = self.versions.iter().map(|version| (*version, own(version)));
            let text = match self.spec["versions"].is_array() {
                true => shown::versions(all),
                false => "null".to_owned(),
            };
            errors.push(FieldError::invalid_shown(&self.at.child("versions"), &text, why));
        }
    }

    fn conversion(&self, errors: &mut Vec<FieldError>) {
        let (conversion, at) = (&self.spec["conversion"], self.at.child("conversion"));
        if !conversion.is_object() {
            return;
        }
        let strategy = text(conversion, "strategy");
        if strategy != "None" && self.spec["preserveUnknownFields"] == true {
            let why = "must be None if spec.preserveUnknownFields is true";
            errors.push(FieldError::invalid(
                &at.child("strategy"),
                Value::from(strategy),
                why,
            ));
        }
        one_of(strategy, &at.child("strategy"), &["None", "Webhook"], errors);
        let (hook, client_at) = (&conversion["webhook"], at.child("webhookClientConfig"));
        let client = &hook["clientConfig"];
        let (versions, at) = (
            &hook["conversionReviewVersions"],
            at.child("conversionReviewVersions"),
        );
        if strategy == "Webhook" {
            match client.is_object() {
                true => errors.extend(machinery::webhook_client(client, &client_at)),
                false => {
                    let why = "required when strategy is set to Webhook";
                    errors.push(FieldError::required(&client_at, why));
                }
            }
            review_versions(versions, &at, errors);
            return;
        }
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_object() {
            errors.push(FieldError::forbidden(&client_at, why));
        }
        if !is_empty(versions) {
            errors.push(FieldError::forbidden(&at, why));
        }
    }
}

/// Whether two versions say the same in a field; a list that is empty says nothing.
fn is_same(one: &Value, other: &Value) -> bool {
    let said = |value: &Value| value.as_array().is_none_or(|list| !list.is_empty()) && !value.is_null();
    one == other || (!said(one) && !said(other))
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

fn has_status(subresources: &Value) -> bool {
    subresources["status"].is_object()
}

/// What is wrong with a name that is one word, in one text.
fn label(name: &str) -> String {
    machinery::dns_1035_label(name).join(",")
}

fn invalid_unless_empty(at: &Path, value: &str, faults: String, errors: &mut Vec<FieldError>) {
    if !faults.is_empty() {
        errors.push(FieldError::invalid(at, Value::from(value), faults));
    }
}

fn group(group: &str, at: &Path, errors: &mut Vec<FieldError>) {
    if group.is_empty() {
        return errors.push(FieldError::required(at, ""));
    }
    let faults = match machinery::dns_subdomain(group).join(",") {
        none if none.is_empty() && !group.contains('.') => {
            "should be a domain with at least one dot".to_owned()
        }
        faults => faults,
    };
    invalid_unless_empty(at, group, faults, errors);
}

fn one_of(value: &str, at: &Path, known: &[&str], errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if !known.contains(&value) {
        errors.push(FieldError::not_supported(at, Value::from(value), known));
    }
}

/// What a change must leave alone.
fn kept(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    // A definition that nobody uses yet may still be put right; its name cannot.
    let established = |c: &Value| text(c, "type") == "Established" && text(c, "status") == "True";
    let is_established = list(&old["status"], "conditions").any(established);
    if is_established && machinery::has_usable_bundle(old) && !machinery::has_usable_bundle(new) {
        let at = Path::new("spec").child("conversion").child("webhookClientConfig");
        let bundle = &new["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"];
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.push(FieldError::invalid(&at.child("caBundle"), bundle.clone(), why));
    }
    let used: &[&str] = if is_established {
        &["/scope", "/names/kind"]
    } else {
        &[]
    };
    for field in used.iter().chain(&["/group", "/names/plural"]) {
        let value = |crd: &Value| crd["spec"].pointer(field).cloned().unwrap_or_default();
        let said = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let (new, old) = (value(new), value(old));
        if new != old {
            let place = field[1..].split('/').fold(Path::new("spec"), |p, s| p.child(s));
            errors.push(FieldError::invalid(&place, Value::from(said(&new)), IMMUTABLE));
        }
    }
}

/// Versions in which objects are stored stay.
fn stored_versions(crd: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("status").child("storedVersions");
    let stored: Vec<&str> = list(&crd["status"], "storedVersions")
        .filter_map(Value::as_str)
        .collect();
    if stored.is_empty() {
        let why = "must have at least one stored version";
        return errors.push(FieldError::invalid(&at, Value::Null, why));
    }
    let all = Value::from(stored.clone());
    // A name counts once: two versions of it are told to be two.
    let mut left: Vec<(usize, &str)> = stored.into_iter().enumerate().collect();
    for version in list(&crd["spec"], "versions") {
        let name = text(version, "name");
        match left.iter().position(|(_, stored)| *stored == name) {
            Some(i) => drop(left.remove(i)),
            None if version["storage"] == true => {
                let why = format!("must have the storage version {name}");
                errors.push(FieldError::invalid(&at, all.clone(), why));
            }
            None => {}
        }
    }
    for (i, version) in left {
        let why = format!(
            "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions \
             until a storage migration ensures no data remains persisted in {version} and removes {version} from \
             status.storedVersions"
        );
        errors.push(FieldError::invalid(&at.index(i), Value::from(version), why));
    }
}

/// Versions of reviews that a converter understands: names, each said once, and one that we know.
fn review_versions(versions: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    const KNOWN: [&str; 2] = ["v1", "v1beta1"];
    let all = versions.as_array().into_iter().flatten();
    let all: Vec<&str> = all.filter_map(Value::as_str).collect();
    if all.is_empty() {
        return errors.push(FieldError::required(at, ""));
    }
    for (i, version) in all.iter().enumerate() {
        let faults = match all[..i].contains(version) {
            true => vec!["duplicate version".to_owned()],
            false => machinery::dns_1035_label(version),
        };
        for fault in faults {
            errors.push(FieldError::invalid(&at.index(i), Value::from(*version), fault));
        }
    }
    if !all.iter().any(|version| KNOWN.contains(version)) {
        let why = format!("must include at least one of {}", KNOWN.join(", "));
        errors.push(FieldError::invalid(at, versions.clone(), why));
    }
}

/// What the annotation of a group of the Kubernetes project says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// It is not there.
    Missing,
    /// It is neither an address nor a reason.
    Invalid,
    /// The group says why it does without.
    Bypassed,
    /// It says where the group was approved.
    Approved,
}

/// The approval of a definition, in words; of groups that need none, nothing.
pub fn approval_of(crd: &Value) -> Option<(Approval, String)> {
    let group = text(&crd["spec"], "group");
    let owned = |suffix: &str| group == suffix || group.ends_with(&format!(".{suffix}"));
    if !owned("k8s.io") && !owned("kubernetes.io") {
        return None;
    }
    let given = text(&crd["metadata"]["annotations"], APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    Some(if given.is_empty() {
        let why = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
        (Approval::Missing, why)
    } else if given.starts_with("unapproved") {
        (Approval::Bypassed, format!("not approved: {given:?}"))
    } else if given.contains("://") {
        (Approval::Approved, format!("approved in {given}"))
    } else {
        let why = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \
             \"unapproved\", {see}"
        );
        (Approval::Invalid, why)
    })
}

/// Checks the approval of a definition; one that is as it was before, `old`, is left alone.
fn approval(crd: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let at = Path::new("metadata").child("annotations").key(APPROVED);
    let state = |crd: &Value| approval_of(crd).map(|(state, _)| state);
    let before = old.map(state);
    match approval_of(crd) {
        Some((state, _)) if before == Some(Some(state)) => Vec::new(),
        Some((Approval::Missing, why)) => vec![FieldError::required(&at, why)],
        Some((Approval::Invalid, why)) => {
            let given = text(&crd["metadata"]["annotations"], APPROVED);
            vec![FieldError::invalid(&at, Value::from(given), why)]
        }
        _ => Vec::new(),
    }
}
