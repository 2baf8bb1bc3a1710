//! Answers of upstream's own API server (1.36, as 1.35) to the same requests, seen side by side with ours: each case is a
//! difference that was mended.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn send(s: &Server, method: &str, path: &str, kind: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let response = s.send(method, path, &[("content-type", kind)], body).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}, "creationTimestamp": null}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn managers(object: &Value) -> Vec<(&str, &str, &str, bool)> {
    let list = object["metadata"]["managedFields"].as_array();
    let text = |entry: &'_ Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    list.into_iter()
        .flatten()
        .map(|entry| {
            let leak = |name: &str| &*text(entry, name).leak();
            (
                leak("manager"),
                leak("operation"),
                leak("subresource"),
                entry.get("time").is_some(),
            )
        })
        .collect()
}

#[tokio::test]
async fn discovery() {
    let s = Server::start().await;
    let find = |list: &Value, name: &str| {
        let list = list["resources"].as_array().unwrap().clone();
        list.into_iter().find(|r| r["name"] == name).unwrap()
    };
    let (_, core) = s.get("/api/v1").await;
    assert!(core.get("apiVersion").is_none());
    assert_eq!(find(&core, "configmaps")["storageVersionHash"], "qFsyl6wFWjQ=");
    assert_eq!(find(&core, "namespaces/status")["kind"], "Namespace");
    assert!(
        find(&core, "componentstatuses")
            .get("storageVersionHash")
            .is_none()
    );
    let (_, scalers) = s.get("/apis/autoscaling/v1").await;
    assert_eq!(scalers["apiVersion"], "v1");
    assert_eq!(
        find(&scalers, "horizontalpodautoscalers")["storageVersionHash"],
        "qwQve8ut294=",
        "that of the version in which they are stored"
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (_, text) = s.text("/api", &[("accept", accept)]).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    let group = &document["items"][0];
    assert_eq!(group["metadata"], json!({}));
    let pods = group["versions"][0]["resources"].as_array().unwrap();
    let pods = pods.iter().find(|r| r["resource"] == "pods").unwrap();
    assert_eq!(
        pods["responseKind"],
        json!({"group": "", "version": "", "kind": "Pod"})
    );
}

#[tokio::test]
async fn refusals() {
    let s = Server::start().await;
    send(
        &s,
        "POST",
        MAPS,
        "application/json",
        &json!({"metadata": {"name": "ok"}, "data": {"a": "b"}}),
    )
    .await;
    let method = "the server does not allow this method on the requested resource";
    let rejected = "the server rejected our request due to an error in our request";
    let one = format!("{MAPS}/ok");
    let add = "application/json-patch+json";
    let json = "application/json";
    let long = format!("{MAPS}?fieldManager={}", "x".repeat(129));
    // method, path, content type, body => code, message
    let cases = [
        ("DELETE", "/api/v1/namespaces", json, Value::Null, 405, method),
        ("POST", "/api/v1/pods", json, json!({}), 405, method),
        (
            "DELETE",
            "/api/v1/namespaces/default/pods/x/status",
            json,
            Value::Null,
            405,
            method,
        ),
        (
            "PATCH",
            &one,
            "text/plain",
            json!({}),
            415,
            "415: Unsupported Media Type",
        ),
        (
            "PATCH",
            &one,
            add,
            json!([{"op": "test", "path": "/data/a", "value": "z"}]),
            422,
            rejected,
        ),
        (
            "PATCH",
            &one,
            add,
            json!([{"op": "nop", "path": "/data/a"}]),
            422,
            rejected,
        ),
        (
            "PATCH",
            &one,
            add,
            json!({}),
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "PATCH",
            &one,
            MERGE,
            json!([]),
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            "PATCH",
            &one,
            MERGE,
            json!({"metadata": {"uid": "1"}}),
            422,
            "ConfigMap \"ok\" is invalid: metadata.uid: Invalid value: \"1\": field is immutable",
        ),
        (
            "POST",
            MAPS,
            json,
            json!({"metadata": {"name": "a", "resourceVersion": "5"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        // What is wrong with it comes first.
        (
            "POST",
            MAPS,
            json,
            json!({"metadata": {"name": "a", "resourceVersion": "5"}, "data": {"a/b": "c"}}),
            422,
            "ConfigMap \"a\" is invalid: data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ),
        (
            "POST",
            MAPS,
            json,
            json!([]),
            400,
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
        ),
        (
            "POST",
            &long,
            json,
            json!({}),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps?dryRun=x",
            json,
            json!({}),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?limit=x",
            json,
            Value::Null,
            400,
            "strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?resourceVersion=1&resourceVersionMatch=foo",
            json,
            Value::Null,
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
    ];
    for (method, path, kind, body, code, message) in cases {
        let (got, answer) = send(&s, method, path, kind, &body).await;
        assert_eq!(
            (got, answer["message"].as_str()),
            (code, Some(message)),
            "{method} {path}"
        );
        assert!(
            answer
                .pointer("/details/causes/0/reason")
                .is_none_or(|r| r != "UnexpectedServerResponse"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn applied_configurations_must_fit_their_types() {
    let s = Server::start().await;
    let path = format!("{DEPLOYMENTS}/d?fieldManager=m");
    let failed =
        |why: &str| format!("failed to create typed patch object (/d; apps/v1, Kind=Deployment): {why}");
    let cases = [
        (
            "/spec/replicas",
            json!("x"),
            500,
            failed(".spec.replicas: expected numeric (int or float), got string"),
        ),
        (
            "/spec/paused",
            json!(1),
            500,
            failed(".spec.paused: expected boolean, got &{1}"),
        ),
        (
            "/spec/template/spec/containers",
            json!([{"name": "c"}, {"name": "c"}]),
            500,
            failed(".spec.template.spec.containers: duplicate entries for key [name=\"c\"]"),
        ),
        (
            "/spec/template/spec/containers",
            json!({}),
            500,
            failed(".spec.template.spec.containers: expected list, got &{map[]}"),
        ),
        (
            "/kind",
            json!("Foo"),
            400,
            "invalid object type: apps/v1, Kind=Foo".into(),
        ),
        (
            "/apiVersion",
            json!("apps/v1beta1"),
            400,
            "invalid object type: apps/v1beta1, Kind=Deployment".into(),
        ),
        (
            "/metadata/managedFields",
            json!([]),
            400,
            "metadata.managedFields must be nil".into(),
        ),
    ];
    for (pointer, value, code, message) in cases {
        let mut body = deployment();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        let (got, answer) = send(&s, "PATCH", &path, APPLY, &body).await;
        assert_eq!(
            (got, answer["message"].as_str()),
            (code, Some(message.as_str())),
            "{pointer}"
        );
    }
}

#[tokio::test]
async fn who_owns_what() {
    let s = Server::start().await;
    let path = |manager: &str| format!("{DEPLOYMENTS}/d?fieldManager={manager}");
    let mut body = deployment();
    body["spec"]["paused"] = false.into();
    body["spec"]["template"]["spec"]["tolerations"] = json!([]);
    body["spec"]["template"]["spec"]["volumes"] = json!([]);
    let (code, made) = send(&s, "PATCH", &path("m"), APPLY, &body).await;
    assert_eq!(code, 201, "{made}");
    assert!(made["spec"].get("paused").is_none(), "false is left out");
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert!(
        fields.get("f:paused").is_some(),
        "and owned all the same: {fields}"
    );
    let template = &fields["f:template"];
    assert!(
        template["f:metadata"].get("f:creationTimestamp").is_some()
            && template["f:spec"].get("f:tolerations").is_some()
    );
    assert!(
        template["f:spec"].get("f:volumes").is_none(),
        "a keyed list without items owns nothing"
    );
    let (_, again) = send(&s, "PATCH", &path("m"), APPLY, &body).await;
    assert_eq!(again["metadata"], made["metadata"], "nothing is written");
    // Who comes to own what is there has no time.
    let mut same = deployment();
    same["spec"]["template"]["metadata"] = json!({"labels": {"a": "b"}});
    let (_, shared) = send(&s, "PATCH", &path("n"), APPLY, &same).await;
    assert_eq!(
        managers(&shared),
        [("n", "Apply", "", false), ("m", "Apply", "", true)]
    );

    // Writes of Scales keep their name, and conflict as such.
    let scale = format!("{DEPLOYMENTS}/d/scale");
    let seven = json!({"spec": {"replicas": 7}});
    send(&s, "PATCH", &format!("{scale}?fieldManager=h"), MERGE, &seven).await;
    let eight = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 8}});
    let (code, refused) = send(&s, "PATCH", &format!("{scale}?fieldManager=i"), APPLY, &eight).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            409,
            &json!(
                "Apply failed with 1 conflict: conflict with \"h\" with subresource \"scale\" using autoscaling/v1: .spec.replicas"
            )
        )
    );
    let (code, _) = send(
        &s,
        "PATCH",
        &format!("{scale}?fieldManager=i&force=true"),
        APPLY,
        &eight,
    )
    .await;
    assert_eq!(code, 200);
    let (_, scaled) = s.get(&format!("{DEPLOYMENTS}/d")).await;
    assert!(
        managers(&scaled).contains(&("i", "Apply", "scale", false)),
        "{scaled}"
    );

    // Whose managers were taken away is not watched before the next apply.
    send(
        &s,
        "PATCH",
        &path("x"),
        MERGE,
        &json!({"metadata": {"managedFields": [{}]}}),
    )
    .await;
    let (_, unwatched) = send(
        &s,
        "PATCH",
        &path("x"),
        MERGE,
        &json!({"metadata": {"labels": {"q": "r"}}}),
    )
    .await;
    assert_eq!(managers(&unwatched), []);
    let (_, applied) = send(
        &s,
        "PATCH",
        &format!("{}&force=true", path("m")),
        APPLY,
        &deployment(),
    )
    .await;
    assert_eq!(managers(&applied)[1], ("before-first-apply", "Update", "", true));
    // A program without a name.
    let response = s
        .send(
            "POST",
            MAPS,
            &[],
            json!({"metadata": {"name": "a"}, "data": {"a": "b"}}).to_string(),
        )
        .await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let made: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(managers(&made)[0].0, "unknown");
}

#[tokio::test]
async fn a_pod_is_marked_before_it_goes() {
    let s = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut watch = s.watch(&format!("{pods}?watch=1")).await;
    // The grace of each request, and what a watch shows of it.
    for (node, graces, shown) in [
        ("", vec![30], vec!["MODIFIED 0", "DELETED 0"]),
        ("n", vec![0], vec!["MODIFIED 0", "DELETED 0"]),
        ("n", vec![30, 0], vec!["MODIFIED 30", "MODIFIED 0", "DELETED 0"]),
    ] {
        let pod = json!({"metadata": {"name": "p"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        let (code, made) = send(&s, "POST", pods, "application/json", &pod).await;
        assert_eq!(code, 201, "{made}");
        assert_eq!(watch.next().await.unwrap()["type"], "ADDED");
        for grace in &graces {
            let path = format!("{pods}/p?gracePeriodSeconds={grace}");
            send(&s, "DELETE", &path, "application/json", &Value::Null).await;
        }
        for expected in shown {
            let event = watch.next().await.unwrap();
            let meta = &event["object"]["metadata"];
            assert!(meta["deletionTimestamp"].is_string(), "{event}");
            let grace = &meta["deletionGracePeriodSeconds"];
            let kind = event["type"].as_str().unwrap();
            assert_eq!(format!("{kind} {grace}"), expected, "{node} {graces:?}");
        }
    }
}

#[tokio::test]
async fn what_deletions_answer() {
    let s = Server::start().await;
    let json = "application/json";
    let container = json!([{"name": "c", "image": "i"}]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": container}});
    let (code, made) = send(&s, "POST", "/api/v1/namespaces/default/pods", json, &pod).await;
    assert_eq!(code, 201, "{made}");
    let (_, gone) = send(
        &s,
        "DELETE",
        "/api/v1/namespaces/default/pods/p?dryRun=All",
        json,
        &Value::Null,
    )
    .await;
    let meta = &gone["metadata"];
    assert_eq!(
        (&meta["deletionGracePeriodSeconds"], &meta["generation"]),
        (&json!(0), &json!(2))
    );
    assert!(meta["deletionTimestamp"].is_string());

    send(
        &s,
        "POST",
        "/api/v1/namespaces",
        json,
        &json!({"metadata": {"name": "n"}}),
    )
    .await;
    for dry in ["?dryRun=All", ""] {
        let (_, going) = send(
            &s,
            "DELETE",
            &format!("/api/v1/namespaces/n{dry}"),
            json,
            &Value::Null,
        )
        .await;
        assert_eq!(going["status"]["phase"], "Terminating");
        assert!(going["metadata"].get("deletionGracePeriodSeconds").is_none());
    }

    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": container}});
    let controller = json!({"metadata": {"name": "r"}, "spec": {"template": template}});
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    send(&s, "POST", controllers, json, &controller).await;
    let (_, going) = send(&s, "DELETE", &format!("{controllers}/r"), json, &Value::Null).await;
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["orphan"]),
        "its Pods stay, unless told otherwise"
    );

    let set = json!({"metadata": {"name": "s"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let sets = "/apis/apps/v1/namespaces/default/daemonsets";
    let (_, made) = send(&s, "POST", sets, json, &set).await;
    let generation =
        |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    assert_eq!(generation(&made), "1");
    let changed = json!({"spec": {"template": {"metadata": {"labels": {"c": "d"}}}}});
    let (_, changed) = send(&s, "PATCH", &format!("{sets}/s"), MERGE, &changed).await;
    assert_eq!(generation(&changed), "2");
}

#[tokio::test]
async fn definitions_come_and_go() {
    let s = Server::start().await;
    let json = "application/json";
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.ex.io"},
        "spec": {"group": "ex.io", "preserveUnknownFields": false, "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [version("v1", true)]}});
    let (code, made) = send(&s, "POST", DEFINITIONS, json, &definition).await;
    assert_eq!(
        (code, &made["status"]["storedVersions"]),
        (201, &json!(["v1"])),
        "{made}"
    );
    assert!(
        made["metadata"].get("finalizers").is_none() && made["spec"].get("preserveUnknownFields").is_none()
    );
    let foos = "/apis/ex.io/v1/namespaces/default/foos";
    let foo = json!({"apiVersion": "ex.io/v1", "kind": "Foo", "metadata": {"name": "a", "finalizers": ["ex.io/a"]}});
    s.until(foos, |code, _| code == 200).await;
    let (code, said) = send(&s, "POST", foos, json, &foo).await;
    assert_eq!(code, 201, "{said}");
    let one = format!("{DEFINITIONS}/foos.ex.io");
    let (_, going) = send(&s, "DELETE", &one, json, &Value::Null).await;
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let conditions = going["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c["type"] == "Terminating" && c["reason"] == "InstanceDeletionPending")
    );
    // It waits for its objects, whose own finalizers may take their time.
    assert_eq!(s.get(&one).await.0, 200);
    let (code, _) = send(
        &s,
        "PATCH",
        &format!("{foos}/a"),
        MERGE,
        &json!({"metadata": {"finalizers": null}}),
    )
    .await;
    assert_eq!(code, 200);
    s.until(&one, |code, _| code == 404).await;
}

#[tokio::test]
async fn columns_say_what_they_show() {
    let s = Server::start().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    // path, column, type, format, beginning of the description
    let cases = [
        (
            MAPS,
            "Name",
            "string",
            "name",
            "Name must be unique within a namespace.",
        ),
        (
            MAPS,
            "Age",
            "string",
            "",
            "CreationTimestamp is a timestamp representing the server time",
        ),
        (
            DEPLOYMENTS,
            "Up-to-date",
            "string",
            "",
            "Total number of non-terminating pods targeted by this deployment",
        ),
        (
            DEPLOYMENTS,
            "Ready",
            "string",
            "",
            "Number of the pod with ready state",
        ),
        (
            "/api/v1/events",
            "Count",
            "string",
            "",
            "The number of times this event has occurred.",
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattachments",
            "Attacher",
            "string",
            "name",
            "attacher indicates the name",
        ),
        (
            "/apis/storage.k8s.io/v1/csistoragecapacities",
            "Created At",
            "date",
            "",
            "CreationTimestamp",
        ),
    ];
    for (path, name, ty, format, beginning) in cases {
        let (_, text) = s.text(path, &[("accept", accept)]).await;
        let table: Value = serde_json::from_str(&text).unwrap();
        let columns = table["columnDefinitions"].as_array().unwrap();
        let column = columns.iter().find(|c| c["name"] == name).unwrap();
        assert_eq!(
            (&column["type"], &column["format"]),
            (&json!(ty), &json!(format)),
            "{path}"
        );
        let description = column["description"].as_str().unwrap();
        assert!(description.starts_with(beginning), "{path} {name}: {description}");
    }
}

#[tokio::test]
async fn flow_schemas_tell_whether_their_level_is_there() {
    let s = Server::start().await;
    let schemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let dangling = |schema: &Value| {
        let conditions = schema["status"]["conditions"].as_array()?;
        let condition = conditions.iter().find(|c| c["type"] == "Dangling")?;
        Some((
            condition["status"].clone(),
            condition["message"].as_str()?.to_owned(),
        ))
    };
    let body = json!({"metadata": {"name": "f"}, "spec": {"priorityLevelConfiguration": {"name": "mine"}}});
    let (code, said) = send(&s, "POST", schemas, "application/json", &body).await;
    assert_eq!(code, 201, "{said}");
    let one = format!("{schemas}/f");
    let words = "This FlowSchema references the PriorityLevelConfiguration object named \"mine\"";
    let missing = (json!("True"), format!("{words} but there is no such object"));
    s.until(&one, |_, f| dangling(f).as_ref() == Some(&missing)).await;
    let level = json!({"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    let levels = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
    send(&s, "POST", levels, "application/json", &level).await;
    let there = (json!("False"), format!("{words} and it exists"));
    s.until(&one, |_, f| dangling(f).as_ref() == Some(&there)).await;
}
