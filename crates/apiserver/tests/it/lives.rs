//! What definitions go through between their making and their end, and what is published of them meanwhile.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(group: &str, plural: &str, kind: &str, schema: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn is(crd: &Value, kind: &str, status: &str) -> bool {
    let mut conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == kind && c["status"] == status)
}

/// Makes a definition, and waits until it is served.
async fn define(s: &Server, crd: &Value) -> String {
    let (code, said) = s.json("POST", CRDS, crd).await;
    assert_eq!(code, 201, "{said}");
    let path = format!("{CRDS}/{}", crd["metadata"]["name"].as_str().unwrap());
    s.until(&path, |_, crd| is(crd, "Established", "True")).await;
    let (group, plural) = (&crd["spec"]["group"], &crd["spec"]["names"]["plural"]);
    let place = format!(
        "/apis/{}/v1/{}",
        group.as_str().unwrap(),
        plural.as_str().unwrap()
    );
    s.until(&place, |code, _| code == 200).await;
    path
}

#[tokio::test]
async fn a_status_that_is_no_subresource_is_part_of_the_object() {
    let s = Server::start().await;
    define(&s, &definition("one.example.com", "foos", "Foo", open())).await;
    let place = "/apis/one.example.com/v1/namespaces/default/foos";
    let foo = json!({"apiVersion": "one.example.com/v1", "kind": "Foo", "metadata": {"name": "a"}});
    assert_eq!(s.json("POST", place, &foo).await.0, 201);
    for (patch, generation) in [
        (json!({"status": {"ready": true}}), 2),
        (json!({"metadata": {"labels": {"a": "b"}}}), 2),
        (json!({"spec": {"a": 1}}), 3),
    ] {
        let (_, now) = s.json("PATCH", &format!("{place}/a"), &patch).await;
        assert_eq!(now["metadata"]["generation"], generation, "{now}");
    }
}

#[tokio::test]
async fn names_that_nobody_uses_yet_can_be_put_right() {
    let s = Server::start().await;
    let first = define(&s, &definition("names.example.com", "foos", "Foo", open())).await;
    let second = definition("names.example.com", "bars", "Foo", open());
    assert_eq!(s.json("POST", CRDS, &second).await.0, 201);
    let path = format!("{CRDS}/bars.names.example.com");
    s.until(&path, |_, crd| is(crd, "NamesAccepted", "False")).await;
    let names = json!({"spec": {"names": {"kind": "Bar", "listKind": "BarList", "singular": "bar"}}});
    let (code, said) = s.json("PATCH", &path, &names).await;
    assert_eq!(code, 200, "{said}");
    s.until(&path, |_, crd| is(crd, "Established", "True")).await;
    let both = json!({"spec": {"scope": "Cluster", "names": {"kind": "Baz", "listKind": "BazList"}}});
    let (code, said) = s.json("PATCH", &first, &both).await;
    let told = said["message"].as_str().unwrap();
    let wanted = "[spec.scope: Invalid value: \"Cluster\": field is immutable, spec.names.kind: Invalid value: \"Baz\": \
                  field is immutable]";
    assert!(code == 422 && told.ends_with(wanted), "{told}");
}

#[tokio::test]
async fn an_approval_may_not_be_taken_away() {
    let s = Server::start().await;
    let mut crd = definition("x.k8s.io", "foos", "Foo", open());
    crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "https://example.com/1"});
    let path = define(&s, &crd).await;
    let approval = |value: Value| json!({"metadata": {"annotations": {"api-approved.kubernetes.io": value}}});
    let at = "metadata.annotations[api-approved.kubernetes.io]";
    for (value, wanted) in [
        (Value::Null, "Required value"),
        (json!("yes"), "Invalid value: \"yes\""),
    ] {
        let (code, said) = s.json("PATCH", &path, &approval(value)).await;
        let told = said["message"].as_str().unwrap();
        assert!(code == 422 && told.contains(&format!("{at}: {wanted}")), "{told}");
    }
    let (code, said) = s
        .json("PATCH", &path, &approval(json!("unapproved, a test")))
        .await;
    assert_eq!(code, 200, "{said}");
}

#[tokio::test]
async fn one_version_is_stored() {
    let s = Server::start().await;
    let mut crd = definition("none.example.com", "foos", "Foo", open());
    crd["spec"]["versions"] = json!([]);
    let (code, said) = s.json("POST", CRDS, &crd).await;
    let told = said["message"].as_str().unwrap();
    for wanted in [
        "must have exactly one version marked as storage version, status.storedVersions: ",
        "status.storedVersions: Invalid value: null: must have at least one stored version]",
    ] {
        assert!(code == 422 && told.contains(wanted), "{told}");
    }
    // The version that is stored from now on is told with the change.
    let crd = definition("two.example.com", "foos", "Foo", open());
    let path = define(&s, &crd).await;
    let mut versions = crd["spec"]["versions"].clone();
    versions[0]["storage"] = json!(false);
    let mut next = versions[0].clone();
    (next["name"], next["storage"]) = (json!("v2"), json!(true));
    versions.as_array_mut().unwrap().push(next);
    let (code, said) = s
        .json("PATCH", &path, &json!({"spec": {"versions": versions}}))
        .await;
    assert_eq!(
        (code, &said["status"]["storedVersions"]),
        (200, &json!(["v1", "v2"]))
    );
}

#[tokio::test]
async fn nothing_is_left_of_a_definition_that_is_not_served() {
    let s = Server::start().await;
    let crd = definition("gone.example.com", "foos", "Foo", open());
    let path = define(&s, &crd).await;
    let place = "/apis/gone.example.com/v1/namespaces/default/foos";
    let foo = json!({"apiVersion": "gone.example.com/v1", "kind": "Foo", "metadata": {"name": "a"}});
    assert_eq!(s.json("POST", place, &foo).await.0, 201);
    let mut versions = crd["spec"]["versions"].clone();
    versions[0]["served"] = json!(false);
    let patch = json!({"spec": {"versions": versions}});
    assert_eq!(s.json("PATCH", &path, &patch).await.0, 200);
    s.until(place, |code, _| code == 404).await;
    assert_eq!(s.json("DELETE", &path, &Value::Null).await.0, 200);
    s.until(&path, |code, _| code == 404).await;
    define(&s, &crd).await;
    let (_, list) = s.get(place).await;
    assert_eq!(list["items"], json!([]), "{list}");
}

#[tokio::test]
async fn the_end_of_a_definition_is_told() {
    let s = Server::start().await;
    let path = define(&s, &definition("ends.example.com", "foos", "Foo", open())).await;
    let place = "/apis/ends.example.com/v1/namespaces/default/foos";
    let foo = json!({"apiVersion": "ends.example.com/v1", "kind": "Foo",
        "metadata": {"name": "a", "finalizers": ["example.com/wait"]}});
    assert_eq!(s.json("POST", place, &foo).await.0, 201);
    let (_, now) = s.get(&path).await;
    let revision = now["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut events = s
        .watch(&format!("{CRDS}?watch=true&resourceVersion={revision}"))
        .await;
    assert_eq!(s.json("DELETE", &path, &Value::Null).await.0, 200);
    let reason = |crd: &Value| {
        let conditions = crd["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == "Terminating").unwrap();
        (
            found["status"].clone(),
            found["reason"].clone(),
            found["message"].clone(),
        )
    };
    let progress = (
        json!("True"),
        json!("InstanceDeletionInProgress"),
        json!("CustomResource deletion is in progress"),
    );
    s.until(&path, |_, crd| reason(crd) == progress).await;
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(s.json("PATCH", &format!("{place}/a"), &free).await.0, 200);
    let last = loop {
        let event = events.next().await.unwrap();
        if event["type"] == "DELETED" {
            break event;
        }
    };
    let done = (
        json!("False"),
        json!("InstanceDeletionCompleted"),
        json!("removed all instances"),
    );
    assert_eq!(reason(&last["object"]), done);
}

#[tokio::test]
async fn built_in_versions_list_what_is_built_in() {
    let s = Server::start().await;
    let mut crd = definition("networking.k8s.io", "foos", "Foo", open());
    crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved"});
    define(&s, &crd).await;
    let (_, list) = s.get("/apis/networking.k8s.io/v1").await;
    let names = |list: &Value, field: &str| -> Vec<String> {
        let each = list["resources"].as_array().unwrap().iter();
        each.map(|r| r[field].as_str().unwrap().to_owned()).collect()
    };
    let plain = names(&list, "name");
    assert!(
        plain.contains(&"ingresses".into()) && !plain.contains(&"foos".into()),
        "{plain:?}"
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (_, text) = s.text("/apis", &[("accept", accept)]).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    let groups = document["items"].as_array().unwrap();
    let group = groups
        .iter()
        .find(|g| g["metadata"]["name"] == "networking.k8s.io")
        .unwrap();
    assert!(
        !names(&group["versions"][0], "resource").contains(&"foos".into()),
        "{group}"
    );
}

/// Kubectl before 1.27 holds objects against the old document.
#[tokio::test]
async fn documents_say_what_clients_can_use() {
    let s = Server::start().await;
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "required": ["maybe", "port"], "properties": {
        "maybe": {"type": "object", "nullable": true, "properties": {"a": text}},
        "list": {"type": "array", "nullable": true, "items": text},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": text}},
        "port": {"x-kubernetes-int-or-string": true},
        "nullable": {"type": "boolean"},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "required": ["spec"],
            "properties": {"spec": text}}}});
    define(&s, &definition("docs.example.com", "foos", "Foo", schema)).await;
    let name = "com.example.docs.v1.Foo";
    let is_there = |_: u16, v2: &Value| v2["definitions"][name].is_object();
    let v2 = s.until("/openapi/v2", is_there).await["definitions"][name].clone();
    let preserves = "x-kubernetes-preserve-unknown-fields";
    for (field, wanted) in [
        ("maybe", json!({})),
        ("list", json!({})),
        ("open", json!({preserves: true})),
        ("port", json!({"x-kubernetes-int-or-string": true})),
        ("nullable", json!({"type": "boolean"})),
    ] {
        assert_eq!(v2["properties"][field], wanted, "{field}");
    }
    assert_eq!(v2["required"], json!(["port"]));
    let (_, v3) = s.get("/openapi/v3/apis/docs.example.com/v1").await;
    let v3 = &v3["components"]["schemas"][name];
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    assert_eq!(v3["properties"]["port"]["anyOf"], either);
    for document in [&v2, v3] {
        let embedded = &document["properties"]["embedded"];
        assert_eq!(embedded["required"], json!(["spec", "kind", "apiVersion"]));
        let properties = &embedded["properties"];
        assert_eq!(properties["kind"]["type"], "string");
        let metadata = properties["metadata"].to_string();
        assert!(metadata.contains("meta.v1.ObjectMeta"), "{metadata}");
    }
}
