//! Validation of trust bundles, and of what projects them into a Pod: names that begin with their signer, and nothing
//! but certificates of authorities inside. Source: `pkg/apis/certificates/validation`.

use std::collections::BTreeMap;

use super::errors::{Errors, IMMUTABLE};
use super::{internal, names, selectors};
use crate::walk::At;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::field::Path;
use serde_json::Value;

/// Stands for a bundle in messages: it is long.
const OMITTED: &str = "<value omitted>";

pub(super) fn trust_bundle(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let signer = spec.str_at("signerName");
    let name = obj.str_at("metadata.name");
    let place = Path::new("metadata").child("name");
    let base = obj.str_at("metadata.generateName");
    if !base.is_empty() {
        let masked = names::masked(base);
        errors.each(
            &Path::new("metadata").child("generateName"),
            base,
            bundle_name(&masked, signer),
        );
    }
    if !name.is_empty() {
        errors.each(&place, name, bundle_name(name, signer));
    }
    if !signer.is_empty() {
        signer_name(&at.child("signerName"), signer, errors);
    }
    anchors(&at.child("trustBundle"), spec.str_at("trustBundle"), errors);
}

pub(super) fn trust_bundle_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (new.str_at("spec.signerName"), old.str_at("spec.signerName"));
    if now != before {
        errors.invalid(&Path::new("spec").child("signerName"), now, IMMUTABLE);
    }
}

/// A source of a projected volume: one bundle by its name, or all of a signer that a selector finds.
pub(super) fn projection(source: &Value, at: &Path, errors: &mut Errors) {
    let name_at = at.child("name");
    match (source.has("name"), source.has("signerName")) {
        (true, true) => {
            let shown = internal::line("ClusterTrustBundleProjection", source);
            errors.invalid_shown(at, &shown, "only one of name and signerName may be used");
        }
        (true, false) => {
            let name = source.str_at("name");
            if name.is_empty() {
                errors.required(&name_at, "must be a valid object name");
            }
            let signer = name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/"));
            for message in bundle_name(name, &signer.unwrap_or_default()) {
                let message = format!("not a valid clustertrustbundlename: {message}");
                errors.invalid(&name_at, name, message);
            }
            if source.has("labelSelector") {
                let (place, selector) = (at.child("labelSelector"), source.at("labelSelector"));
                let message = "labelSelector must be unset if name is specified";
                errors.invalid(&place, selector.clone(), message);
            }
        }
        (false, true) => {
            let (place, signer) = (at.child("signerName"), source.str_at("signerName"));
            if signer.is_empty() {
                errors.required(&place, "must be a valid signer name");
            }
            signer_name(&place, signer, errors);
            let place = at.child("labelSelector");
            selectors::label_selector(source.at("labelSelector"), &place, errors);
        }
        (false, false) => errors.required(at, "either name or signerName must be specified"),
    }
}

/// What is wrong with a bundle's name, given its signer's (`ValidateClusterTrustBundleName`).
fn bundle_name(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return names::dns_subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns_subdomain(rest),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

/// Checks `DOMAIN/NAME`.
pub(super) fn signer_name(at: &Path, signer: &str, errors: &mut Errors) {
    /// Bytes of a domain, and of a name, whose path has room for a label and a domain.
    const MOST_DOMAIN: usize = 253;
    const MOST: usize = MOST_DOMAIN + 1 + MOST_DOMAIN + 1 + 63;
    if signer.is_empty() {
        return errors.required(at, "");
    }
    let parts: Vec<&str> = signer.split('/').collect();
    let [domain, path] = parts.as_slice() else {
        let text = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(at, signer, text);
    };
    if domain.len() > MOST_DOMAIN {
        errors.too_long(at, MOST_DOMAIN);
    }
    each_label(domain, names::dns_label, at, errors);
    if !domain.contains('.') {
        let text = "should be a domain with at least two segments separated by dots";
        errors.invalid(at, *domain, text);
    }
    each_label(path, names::dns_subdomain, at, errors);
    if signer.len() > MOST {
        errors.too_long(at, MOST);
    }
}

/// Of labels that are no good, the first is told.
fn each_label(text: &str, rule: fn(&str) -> Vec<String>, at: &Path, errors: &mut Errors) {
    let judged = text.split('.').map(|label| (label, rule(label)));
    let mut bad = judged.filter(|(_, faults)| !faults.is_empty());
    if let Some((label, faults)) = bad.next() {
        for fault in faults {
            errors.invalid(at, text, format!("validating label {label:?}: {fault}"));
        }
    }
}

/// Checks that a text holds certificates of authorities, each once.
fn anchors(at: &Path, text: &str, errors: &mut Errors) {
    let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let before = errors.0.len();
    for (i, block) in blocks(text).into_iter().enumerate() {
        match fault(&block) {
            Some(fault) => errors.invalid(at, OMITTED, format!("entry {i} {fault}")),
            None => places.entry(block.content).or_default().push(i),
        }
    }
    if errors.0.len() > before {
        return;
    }
    if places.is_empty() {
        errors.invalid(at, OMITTED, "at least one trust anchor must be provided");
    }
    for indices in places.into_values().filter(|indices| indices.len() > 1) {
        let words: Vec<String> = indices.iter().map(usize::to_string).collect();
        let text = format!("duplicate trust anchor (indices [{}])", words.join(" "));
        errors.invalid(at, OMITTED, text);
    }
}

fn fault(block: &Block) -> Option<String> {
    if block.kind != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.kind));
    }
    if block.headers {
        return Some("has PEM block headers".to_owned());
    }
    let certificate = match x509_parser::parse_x509_certificate(&block.content) {
        Ok(([], certificate)) => certificate,
        Ok(_) | Err(_) => return Some("does not parse as X.509".to_owned()),
    };
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => None,
        Ok(_) => Some("does not have the CA bit set".to_owned()),
        Err(_) => Some("has invalid basic constraints".to_owned()),
    }
}

/// A block of PEM.
pub(crate) struct Block {
    pub(crate) kind: String,
    pub(crate) headers: bool,
    pub(crate) content: Vec<u8>,
}

/// The blocks in a text; what lies around them, and what is no whole block, is passed over (Go: `pem.Decode`).
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let begin = line.trim_end().strip_prefix("-----BEGIN ");
        let Some(kind) = begin.and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {kind}-----");
        let mut rest = lines.clone();
        let body: Vec<&str> = rest.by_ref().take_while(|line| line.trim_end() != end).collect();
        if body.iter().any(|line| line.starts_with("-----")) {
            continue;
        }
        let headers = body.iter().take_while(|line| line.contains(':')).count();
        let base64: String = body[headers..].concat().split_whitespace().collect();
        if let Ok(content) = STANDARD.decode(base64) {
            lines = rest;
            found.push(Block {
                kind: kind.to_owned(),
                headers: headers > 0,
                content,
            });
        }
    }
    found
}
