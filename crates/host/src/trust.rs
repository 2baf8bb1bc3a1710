//! Trust anchors for projected volumes: one bundle by its name, or all bundles of a signer that a selector finds, merged
//! and without repetition (kubelet: `clustertrustbundle_manager.go`, KEP-3257).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use kinds::selector::LabelSelector;
use x509_parser::pem::Pem;

/// All bundles of the cluster, by name.
pub type TrustBundles = BTreeMap<String, Arc<ClusterTrustBundle>>;

/// Characters in a line of PEM.
const LINE: usize = 64;

/// The content of the file that a source asks for; the error is what the event of the volume says.
pub fn anchors(source: &ClusterTrustBundleProjection, all: &TrustBundles) -> Result<Vec<u8>, String> {
    let found: Vec<&Arc<ClusterTrustBundle>> = match (&source.name, &source.signer_name) {
        (Some(name), _) => all.get(name).into_iter().collect(),
        (None, Some(signer)) => of_signer(source, signer, all)?,
        (None, None) => Vec::new(),
    };
    if found.is_empty() && source.optional != Some(true) {
        return Err(match &source.name {
            Some(name) => format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{name}\" not found"
            ),
            None => "combination of signerName and labelSelector matched zero ClusterTrustBundles".to_owned(),
        });
    }
    let mut anchors = BTreeSet::new();
    for bundle in found {
        for block in Pem::iter_from_buffer(bundle.spec.trust_bundle.as_bytes()) {
            let block = block.map_err(|error| format!("while normalizing trust anchors: {error}"))?;
            anchors.insert(block.contents);
        }
    }
    Ok(anchors.iter().flat_map(|der| pem(der).into_bytes()).collect())
}

/// Bundles of a signer. No selector finds none of them, an empty one finds all.
fn of_signer<'a>(
    source: &ClusterTrustBundleProjection,
    signer: &str,
    all: &'a TrustBundles,
) -> Result<Vec<&'a Arc<ClusterTrustBundle>>, String> {
    let Some(selector) = &source.label_selector else {
        return Ok(Vec::new());
    };
    let selector = serde_json::to_value(selector).map_err(|error| error.to_string())?;
    let selector = LabelSelector::from_json(&selector).map_err(|error| error.to_string())?;
    let none = BTreeMap::new();
    let fits = |bundle: &&Arc<ClusterTrustBundle>| {
        let labels = bundle.metadata.labels.as_ref().unwrap_or(&none);
        bundle.spec.signer_name.as_deref() == Some(signer) && selector.matches(labels)
    };
    Ok(all.values().filter(fits).collect())
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    lines + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bundles_are_found_and_merged() {
        // What is inside has been looked at by the API server.
        let (one, two) = (pem(&[1; 100]), pem(&[2; 3]));
        let bundle = |name: &str, signer: Option<&str>, label: &str, text: String| {
            let bundle = json!({"metadata": {"name": name, "labels": {"live": label}},
                "spec": {"signerName": signer, "trustBundle": text}});
            let bundle = serde_json::from_value(bundle).expect("a bundle");
            (name.to_owned(), Arc::new(bundle))
        };
        let all = TrustBundles::from([
            bundle("roots", None, "yes", format!("words\n{one}")),
            bundle("a.io:s:1", Some("a.io/s"), "yes", format!("{two}{one}")),
            bundle("a.io:s:2", Some("a.io/s"), "no", two.clone()),
            bundle("b.io:s:2", Some("b.io/s"), "no", one.clone()),
        ]);
        let cases = [
            (json!({"name": "roots"}), Ok(one.clone())),
            (json!({"name": "none", "optional": true}), Ok(String::new())),
            (
                json!({"name": "none"}),
                Err(
                    "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"none\" not found",
                ),
            ),
            (
                json!({"signerName": "a.io/s", "labelSelector": {}}),
                Ok(format!("{one}{two}")),
            ),
            (
                json!({"signerName": "a.io/s", "labelSelector": {"matchLabels": {"live": "no"}}}),
                Ok(two.clone()),
            ),
            (
                json!({"signerName": "a.io/s"}),
                Err("combination of signerName and labelSelector matched zero ClusterTrustBundles"),
            ),
            (
                json!({"signerName": "a.io/s", "optional": true}),
                Ok(String::new()),
            ),
        ];
        for (mut source, expected) in cases {
            source["path"] = json!("ca.pem");
            let asked = serde_json::from_value(source.clone()).expect("a source");
            let found = anchors(&asked, &all).map(|bytes| String::from_utf8(bytes).expect("PEM"));
            assert_eq!(found, expected.map_err(str::to_owned), "{source}");
        }
    }
}
