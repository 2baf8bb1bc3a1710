//! OpenAPI documents at their public face: whole, unambiguous, and with what kubectl looks for.

use std::collections::BTreeSet;

use kinds::KindInfo;
use machinery::openapi::{v2, v2_protobuf, v3_group_version, v3_index};
use machinery::protobuf::{Content, Reader};
use serde_json::{Value, json};

fn all() -> Vec<&'static KindInfo> {
    kinds::builtin().iter().collect()
}

/// All values of `$ref` that are references.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(target)) => drop(found.insert(target.clone())),
            _ => references(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn check_references(document: &Value, prefix: &str, definitions: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let name = reference
            .strip_prefix(prefix)
            .unwrap_or_else(|| panic!("{reference} does not begin {prefix}"));
        assert!(definitions.get(name).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn documents_are_whole() {
    let document = v2(&all());
    check_references(&document, "#/definitions/", &document["definitions"]);
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            assert_ne!(operation["parameters"], json!([]), "{method} {path}");
            if let Some(id) = operation["operationId"].as_str() {
                assert!(ids.insert(id.to_owned()), "{method} {path}: {id} is there twice");
            }
        }
    }
    assert!(
        ids.contains("listCoreV1NamespacedPod") && ids.contains("replaceAppsV1NamespacedDeploymentScale")
    );
    assert!(ids.contains("createRbacAuthorizationV1ClusterRole"));
    for path in v3_index(&all())["paths"].as_object().expect("paths").keys() {
        let version = path.trim_start_matches("apis/").trim_start_matches("api/");
        let document = v3_group_version(&all(), version);
        check_references(
            &document,
            "#/components/schemas/",
            &document["components"]["schemas"],
        );
        let paths = document["paths"].as_object().expect("paths");
        assert!(!paths.is_empty(), "{path}");
        // Upstream's reader drops an empty list, so that a document would differ from what is read of it.
        let operations = paths
            .values()
            .flat_map(|item| item.as_object().into_iter().flatten());
        for (method, operation) in operations {
            assert_ne!(operation["parameters"], json!([]), "{method} {path}");
        }
    }
}

#[test]
fn patches_tell_what_kubectl_asks() {
    for kind in kinds::builtin().iter().filter(|kind| kind.has_verb("patch")) {
        let document = v3_group_version(&[kind], &kind.api_version());
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let patch = document["paths"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, item)| &item["patch"])
            .find(|patch| patch["x-kubernetes-group-version-kind"] == gvk)
            .unwrap_or_else(|| panic!("{}: no patch", kind.kind));
        for parameter in ["fieldValidation", "dryRun", "fieldManager", "force"] {
            let found = patch["parameters"].as_array().into_iter().flatten();
            assert!(
                found
                    .into_iter()
                    .any(|p| p["name"] == parameter && p["in"] == "query"),
                "{}",
                kind.kind
            );
        }
        let content = &patch["requestBody"]["content"];
        assert!(content.get("application/strategic-merge-patch+json").is_some());
        assert!(content.get("application/apply-patch+yaml").is_some());
        assert_eq!(
            document["components"]["schemas"][kind.schema]["x-kubernetes-group-version-kind"][0],
            gvk
        );
    }
}

#[test]
fn merge_keys_are_kept() {
    let document = v3_group_version(&all(), "v1");
    let containers =
        &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    let container = &document["components"]["schemas"]["io.k8s.api.core.v1.Container"]["properties"];
    assert_eq!(
        container["imagePullPolicy"]["enum"],
        json!(["Always", "IfNotPresent", "Never"])
    );
    let props = &v3_group_version(&all(), "apiextensions.k8s.io/v1")["components"]["schemas"]["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"]
        ["properties"];
    assert_eq!(
        props["$ref"],
        json!({"type": "string"}),
        "a field that is called $ref is no reference"
    );
}

#[test]
fn only_what_is_served_appears() {
    let kind = kinds::find_kind("", "v1", "ConfigMap").expect("there");
    let document = v2(&[kind]);
    assert!(document["definitions"].get("io.k8s.api.core.v1.Pod").is_none());
    assert!(
        document["paths"]
            .get("/api/v1/namespaces/{namespace}/configmaps/{name}")
            .is_some()
    );
    let (few, many) = (v3_index(&[kind]), v3_index(&all()));
    assert_ne!(
        few["paths"]["api/v1"], many["paths"]["api/v1"],
        "the hash tells contents apart"
    );
    assert_eq!(few, v3_index(&[kind]), "the hash is stable");
}

#[test]
fn gnostic_has_all_definitions() {
    let document = v2(&all());
    let bytes = v2_protobuf(&document);
    let mut reader = Reader::new(&bytes);
    let mut counts = [0_usize; 2];
    while let Some((tag, content)) = reader.field().expect("a message") {
        let Content::Bytes(inner) = content else { continue };
        let wanted = match tag {
            1 => {
                assert_eq!(inner, b"2.0");
                continue;
            }
            8 => (0, 2),
            9 => (1, 1),
            _ => continue,
        };
        let mut entries = Reader::new(inner);
        while let Some((tag, _)) = entries.field().expect("a message") {
            counts[wanted.0] += usize::from(tag == wanted.1);
        }
    }
    let sizes = ["paths", "definitions"].map(|key| document[key].as_object().map_or(0, |map| map.len()));
    assert_eq!(counts, sizes);
}
