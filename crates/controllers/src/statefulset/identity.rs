//! What makes a Pod of a StatefulSet itself: its ordinal, its name, and the claims that stay when it goes.

use crate::obj::{items, label, meta, text};
use crate::replicaset::pod_from;
use crate::revision::{self, HASH};
use cache::Object;
use serde_json::{Value, json};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a Pod's name, if it is one of this set's names.
pub(super) fn ordinal(set: &Value, pod: &Value) -> Option<i64> {
    let tail = meta(pod, "name")
        .strip_prefix(meta(set, "name"))?
        .strip_prefix('-')?;
    // "web-01" is no name of ours.
    tail.parse().ok().filter(|n: &i64| n.to_string() == tail)
}

/// The claim of a template for an ordinal: `data-web-0`.
fn claim_name(set: &Value, template: &Value, ordinal: i64) -> String {
    format!("{}-{}-{ordinal}", meta(template, "name"), meta(set, "name"))
}

/// The sets of which a claim's name may be: where its template's name ends and the set's begins cannot be told.
pub(super) fn sets_of_claim(claim: &Object) -> Vec<String> {
    let Some((stem, _)) = claim.name().rsplit_once('-') else {
        return Vec::new();
    };
    let set = |(at, _)| format!("{}/{}", claim.namespace(), &stem[at + 1..]);
    stem.match_indices('-').map(set).collect()
}

/// The Pod of an ordinal at a revision.
pub(super) fn pod(set: &Value, ordinal: i64, revision: &Value) -> Value {
    let then = revision::template_at(set, revision);
    let mut pod = pod_from(set, &then["spec"]["template"]);
    let name = format!("{}-{ordinal}", meta(set, "name"));
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("generateName");
    }
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][HASH] = json!(meta(revision, "name"));
    pod["metadata"]["labels"][POD_NAME] = json!(name);
    pod["metadata"]["labels"][POD_INDEX] = json!(ordinal.to_string());
    pod["spec"]["hostname"] = json!(name);
    if !text(set, "/spec/serviceName").is_empty() {
        pod["spec"]["subdomain"] = set["spec"]["serviceName"].clone();
    }
    let templates = items(set, "/spec/volumeClaimTemplates");
    let mut volumes: Vec<Value> = templates
        .iter()
        .map(|t| {
            json!({"name": meta(t, "name"),
                "persistentVolumeClaim": {"claimName": claim_name(set, t, ordinal), "readOnly": false}})
        })
        .collect();
    // A claim template takes the place of a volume of the same name.
    let plain = items(&pod, "/spec/volumes").iter();
    volumes.extend(
        plain
            .filter(|v| !templates.iter().any(|t| meta(t, "name") == text(v, "/name")))
            .cloned(),
    );
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = json!(volumes);
    }
    pod
}

/// The claims that an ordinal needs.
pub(super) fn claims(set: &Value, ordinal: i64) -> Vec<Value> {
    let make = |template: &Value| {
        let mut claim = template.clone();
        claim["apiVersion"] = json!("v1");
        claim["kind"] = json!("PersistentVolumeClaim");
        claim["metadata"]["name"] = json!(claim_name(set, template, ordinal));
        claim["metadata"]["namespace"] = json!(meta(set, "namespace"));
        for (key, value) in set["spec"]["selector"]["matchLabels"]
            .as_object()
            .into_iter()
            .flatten()
        {
            claim["metadata"]["labels"][key] = value.clone();
        }
        if let Some(claim) = claim.as_object_mut() {
            claim.remove("status");
        }
        claim
    };
    items(set, "/spec/volumeClaimTemplates")
        .iter()
        .map(make)
        .collect()
}

/// The labels that a Pod of this ordinal lacks for being itself, as a patch of it.
pub(super) fn mending(pod: &Value, ordinal: i64) -> Option<Value> {
    let labels = json!({POD_NAME: meta(pod, "name"), POD_INDEX: ordinal.to_string()});
    (label(pod, POD_NAME) != meta(pod, "name")).then(|| json!({"metadata": {"labels": labels}}))
}

/// The revision a Pod was made from.
pub(super) fn revision_of(pod: &Value) -> &str {
    label(pod, HASH)
}
