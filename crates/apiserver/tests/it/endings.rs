//! How objects go: deletions that are asked for twice, preconditions, who waits for whom, and what is answered.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}})
}

async fn delete(s: &Server, path: &str, query: &str) -> (u16, Value) {
    s.json("DELETE", &format!("{path}?{query}"), &Value::Null).await
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

fn grace(pod: &Value) -> &Value {
    &pod["metadata"]["deletionGracePeriodSeconds"]
}

/// Only a shorter grace changes a deletion that has begun, and it counts from the beginning.
#[tokio::test]
async fn a_second_deletion_of_a_pod() {
    let s = Server::start().await;
    s.json("POST", PODS, &pod("a")).await;
    let at = format!("{PODS}/a");
    let (code, first) = delete(&s, &at, "gracePeriodSeconds=600").await;
    assert_eq!((code, grace(&first)), (200, &json!(600)), "{first}");
    for same in [
        "",
        "gracePeriodSeconds=600",
        "gracePeriodSeconds=900",
        "propagationPolicy=Foreground",
    ] {
        let (code, again) = delete(&s, &at, same).await;
        assert_eq!((code, &again), (200, &first), "{same}");
    }
    // What has finished meanwhile still belongs to its host.
    let status = json!({"status": {"phase": "Succeeded"}});
    assert_eq!(s.json("PATCH", &format!("{at}/status"), &status).await.0, 200);
    assert_eq!(grace(&delete(&s, &at, "").await.1), &json!(600));
    let (_, shorter) = delete(&s, &at, "gracePeriodSeconds=300").await;
    assert_eq!(grace(&shorter), &json!(300));
    let seconds = |pod: &Value| {
        let end = pod["metadata"]["deletionTimestamp"].as_str().unwrap();
        end.parse::<jiff::Timestamp>().unwrap().as_second()
    };
    assert_eq!(seconds(&first) - seconds(&shorter), 300);
    let (_, gone) = delete(&s, &at, "gracePeriodSeconds=0").await;
    assert_eq!((grace(&gone), s.get(&at).await.0), (&json!(0), 404));
}

/// Events are no owners and no dependents: nobody would take a finalizer away.
#[tokio::test]
async fn events_wait_for_nobody() {
    let s = Server::start().await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"namespace": "default"}, "reason": "r", "message": "m"});
    for policy in ["Foreground", "Orphan"] {
        let events = "/api/v1/namespaces/default/events";
        assert_eq!(s.json("POST", events, &event).await.0, 201);
        let path = format!("{events}/e?propagationPolicy={policy}");
        assert_eq!(s.json("DELETE", &path, &Value::Null).await.0, 200);
        assert_eq!(s.get(&format!("{events}/e")).await.0, 404, "{policy}");
    }
}

/// The answer to a deletion has the revision of the event that tells of it; that to the last update has that of before.
#[tokio::test]
async fn revisions_of_what_is_gone() {
    let s = Server::start().await;
    let claims = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
    s.json("POST", claims, &account).await;
    let mut watch = s
        .watch(&format!("{claims}?watch=1&fieldSelector=metadata.name%3Da"))
        .await;
    assert_eq!(watch.names(1).await, ["ADDED a"]);
    let (_, gone) = s.json("DELETE", &format!("{claims}/a"), &Value::Null).await;
    let told = watch.next().await.unwrap();
    assert_eq!(told["type"], "DELETED");
    assert_eq!(
        told["object"]["metadata"]["resourceVersion"],
        gone["metadata"]["resourceVersion"]
    );

    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/f"]);
    s.json("POST", MAPS, &held).await;
    let (_, mut marked) = s.json("DELETE", &format!("{MAPS}/held"), &Value::Null).await;
    marked["metadata"]["finalizers"] = json!([]);
    let (code, freed) = s.json("PUT", &format!("{MAPS}/held"), &marked).await;
    assert_eq!(code, 200, "{freed}");
    assert_eq!(
        freed["metadata"]["resourceVersion"],
        marked["metadata"]["resourceVersion"]
    );
    assert_eq!(s.get(&format!("{MAPS}/held")).await.0, 404);
}

#[tokio::test]
async fn preconditions_of_namespaces_and_definitions() {
    let s = Server::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});
    s.json("POST", "/api/v1/namespaces", &namespace).await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    s.json("POST", definitions, &definition).await;
    for (path, shown) in [
        ("/api/v1/namespaces/x".to_string(), "namespaces \"x\""),
        (
            format!("{definitions}/things.example.com"),
            "customresourcedefinitions.apiextensions.k8s.io \"things.example.com\"",
        ),
    ] {
        let (_, present) = s.get(&path).await;
        let uid = present["metadata"]["uid"].as_str().unwrap();
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
        let (code, refused) = s.json("DELETE", &path, &options).await;
        let words = format!(
            "Operation cannot be fulfilled on {shown}: Precondition failed: UID in precondition: other, UID in object \
             meta: {uid}"
        );
        assert_eq!((code, &refused["message"]), (409, &json!(words)));
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"resourceVersion": "1"}});
        let (code, refused) = s.json("DELETE", &path, &options).await;
        let words = refused["message"].as_str().unwrap();
        assert!(
            code == 409
                && words.contains("ResourceVersion in precondition: 1, ResourceVersion in object meta: "),
            "{words}"
        );
    }
    // The first deletion of a definition waits for its objects and for nothing else.
    let path = format!("{definitions}/things.example.com?propagationPolicy=Foreground");
    let (code, marked) = s.json("DELETE", &path, &Value::Null).await;
    let finalizers = marked["metadata"]["finalizers"].to_string();
    assert!(
        code == 200 && !finalizers.contains("foregroundDeletion"),
        "{marked}"
    );
}

#[tokio::test]
async fn collections_answer_as_lists_do() {
    let s = Server::start().await;
    for name in ["a", "b", "c"] {
        s.json("POST", MAPS, &map(name)).await;
    }
    let (code, page) = s
        .json(
            "DELETE",
            &format!("{MAPS}?limit=1&labelSelector=!none"),
            &Value::Null,
        )
        .await;
    assert_eq!(
        (code, page["items"].as_array().unwrap().len()),
        (200, 1),
        "{page}"
    );
    assert!(page["metadata"]["continue"].is_string(), "{page}");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let response = s.send("DELETE", MAPS, &table, "").await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["kind"], "Table", "{answer}");
    let (_, left) = s.get(&format!("{MAPS}?labelSelector=!none")).await;
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn preconditions_of_evictions_and_bindings() {
    let s = Server::start().await;
    let mut free = pod("free");
    free["spec"].as_object_mut().unwrap().remove("nodeName");
    let (_, made) = s.json("POST", PODS, &free).await;
    let (uid, at) = (
        made["metadata"]["uid"].as_str().unwrap(),
        made["metadata"]["resourceVersion"].as_str().unwrap(),
    );
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "free"},
        "deleteOptions": {"preconditions": {"uid": "other"}}});
    let (code, refused) = s.json("POST", &format!("{PODS}/free/eviction"), &eviction).await;
    let words = format!(
        "Operation cannot be fulfilled on Pod \"free\": the UID in the precondition (other) does not match the UID in \
         record ({uid}). The object might have been deleted and then recreated"
    );
    assert_eq!((code, &refused["message"]), (409, &json!(words)));
    for (metadata, what) in [
        (
            json!({"name": "free", "uid": "other"}),
            format!("UID in precondition: other, UID in object meta: {uid}"),
        ),
        (
            json!({"name": "free", "resourceVersion": "1"}),
            format!("ResourceVersion in precondition: 1, ResourceVersion in object meta: {at}"),
        ),
    ] {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": {"kind": "Node", "name": "n"}});
        let (code, refused) = s.json("POST", &format!("{PODS}/free/binding"), &binding).await;
        let words = format!(
            "Operation cannot be fulfilled on pods \"free\": StorageError: invalid object, Code: 4, Key: \
             /registry/pods/default/free, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what}"
        );
        assert_eq!((code, &refused["message"]), (409, &json!(words)));
    }
}
