//! Names of CustomResourceDefinitions: what two of a group cannot have both, each field for itself, and the approval of
//! groups that belong to the Kubernetes project.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(group: &str, names: &Value) -> Value {
    let plural = names["plural"].as_str().unwrap();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [{"name": "v1", "served": true,
            "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    })
}

/// Waits until a condition has this reason; answers the definition.
async fn until(s: &Server, name: &str, kind: &str, reason: &str) -> Value {
    s.until(&format!("{CRDS}/{name}"), |_, crd| {
        condition(crd, kind)["reason"] == reason
    })
    .await
}

fn condition(crd: &Value, kind: &str) -> Value {
    let all = crd["status"]["conditions"].as_array();
    let found = all.into_iter().flatten().find(|c| c["type"] == kind);
    found.cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_name_is_had_once() {
    let first =
        json!({"plural": "as", "singular": "a", "kind": "A", "listKind": "AList", "shortNames": ["x", "y"]});
    // What the second wants, why not all of it, and what it has meanwhile.
    let cases = [
        (
            json!({"plural": "bs", "singular": "a", "kind": "B", "listKind": "BList"}),
            ("SingularConflict", "\"a\" is already in use"),
            json!({"plural": "bs", "kind": "B", "listKind": "BList"}),
        ),
        (
            json!({"plural": "bs", "singular": "b", "kind": "B", "listKind": "BList", "shortNames": ["x", "z", "y"]}),
            (
                "ShortNamesConflict",
                "[\"x\" is already in use, \"y\" is already in use]",
            ),
            json!({"plural": "bs", "singular": "b", "kind": "B", "listKind": "BList"}),
        ),
        (
            json!({"plural": "bs", "singular": "b", "kind": "A", "listKind": "BList", "categories": ["all"]}),
            ("KindConflict", "\"A\" is already in use"),
            json!({"plural": "bs", "singular": "b", "kind": "", "listKind": "BList", "categories": ["all"]}),
        ),
        (
            json!({"plural": "bs", "singular": "as", "kind": "B", "listKind": "A"}),
            ("ListKindConflict", "\"A\" is already in use"),
            json!({"plural": "bs", "kind": "B"}),
        ),
    ];
    for (names, (reason, message), accepted) in cases {
        let s = Server::start().await;
        s.json("POST", CRDS, &definition("x.example.com", &first)).await;
        until(&s, "as.x.example.com", "Established", "InitialNamesAccepted").await;
        s.json("POST", CRDS, &definition("x.example.com", &names)).await;
        let second = until(&s, "bs.x.example.com", "NamesAccepted", reason).await;
        assert_eq!(condition(&second, "NamesAccepted")["message"], message);
        assert_eq!(second["status"]["acceptedNames"], accepted);
        assert_eq!(condition(&second, "Established")["reason"], "NotAccepted");
        assert_eq!(s.get("/apis/x.example.com/v1/bs").await.0, 404);

        // What the first leaves behind is free.
        s.json("DELETE", &format!("{CRDS}/as.x.example.com"), &json!({}))
            .await;
        let second = until(&s, "bs.x.example.com", "Established", "InitialNamesAccepted").await;
        assert_eq!(second["status"]["acceptedNames"], names);
        assert_eq!(s.get("/apis/x.example.com/v1/bs").await.0, 200);
    }
}

#[tokio::test]
async fn a_refused_change_of_names_takes_nothing_away() {
    let s = Server::start().await;
    for (plural, kind, short) in [("as", "A", "x"), ("bs", "B", "y")] {
        let names = json!({"plural": plural, "kind": kind, "shortNames": [short]});
        s.json("POST", CRDS, &definition("x.example.com", &names)).await;
        let name = format!("{plural}.x.example.com");
        until(&s, &name, "Established", "InitialNamesAccepted").await;
    }
    let path = format!("{CRDS}/bs.x.example.com");
    let (_, mut second) = s.get(&path).await;
    second["spec"]["names"]["shortNames"] = json!(["x"]);
    let (code, said) = s.json("PUT", &path, &second).await;
    assert_eq!(code, 200, "{said}");
    let second = until(&s, "bs.x.example.com", "NamesAccepted", "ShortNamesConflict").await;
    assert_eq!(condition(&second, "Established")["status"], "True");
    assert_eq!(second["status"]["acceptedNames"]["shortNames"], json!(["y"]));
    assert_eq!(s.get("/apis/x.example.com/v1/bs").await.0, 200);
}

#[tokio::test]
async fn groups_of_the_project_tell_their_approval() {
    let s = Server::start().await;
    let url = "https://github.com/kubernetes/kubernetes/pull/79724";
    let cases = [
        (
            "as",
            url,
            ("True", "ApprovedAnnotation", format!("approved in {url}")),
        ),
        (
            "bs",
            "unapproved, a test",
            (
                "False",
                "UnapprovedAnnotation",
                "not approved: \"unapproved, a test\"".into(),
            ),
        ),
    ];
    for (plural, annotation, (status, reason, message)) in cases {
        let names = json!({"plural": plural, "kind": plural.to_uppercase()});
        let mut crd = definition("sigs.k8s.io", &names);
        crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": annotation});
        let (code, said) = s.json("POST", CRDS, &crd).await;
        assert_eq!(code, 201, "{said}");
        let name = format!("{plural}.sigs.k8s.io");
        let kind = "KubernetesAPIApprovalPolicyConformant";
        let said = condition(&until(&s, &name, kind, reason).await, kind);
        assert_eq!(
            (&said["status"], &said["message"]),
            (&json!(status), &json!(message))
        );
    }
}
