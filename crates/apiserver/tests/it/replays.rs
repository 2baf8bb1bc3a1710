//! Steps of upstream's conformance tests that once went wrong here.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

#[tokio::test]
async fn a_proxy_without_a_slash_leads_to_one_with_it() {
    let s = Server::start().await;
    // A namespace that is called as the subresource is must not be taken for it.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "proxy-1"}});
    s.json("POST", "/api/v1/namespaces", &namespace).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/proxy-1/pods";
    let (code, said) = s.json("POST", pods, &pod).await;
    assert_eq!(code, 201, "{said}");
    let status = json!({"status": {"podIP": "10.255.255.1", "podIPs": [{"ip": "10.255.255.1"}]}});
    let (code, said) = s.json("PATCH", &format!("{pods}/p/status"), &status).await;
    assert_eq!(code, 200, "{said}");
    for (method, name, query) in [
        ("GET", "p", ""),
        ("HEAD", "p", "?method=HEAD"),
        ("GET", "https:p:443", "?a=b"),
    ] {
        let path = format!("{pods}/{name}/proxy");
        let response = s.send(method, &format!("{path}{query}"), &[], "").await;
        assert_eq!(response.status(), 301, "{path}");
        let to = response.headers()["location"].to_str().unwrap();
        assert_eq!(to, format!("{path}/{query}"));
    }
}

#[tokio::test]
async fn flags_that_are_not_set_are_false() {
    let s = Server::start().await;
    let pod = |name: &str, host: bool| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        if host {
            pod["spec"]["hostNetwork"] = json!(true);
        }
        pod
    };
    let pods = "/api/v1/namespaces/default/pods";
    for (name, host) in [("a", false), ("b", true)] {
        let (code, said) = s.json("POST", pods, &pod(name, host)).await;
        assert_eq!(code, 201, "{said}");
    }
    for (selector, names) in [
        ("spec.hostNetwork=false", vec!["a"]),
        ("spec.hostNetwork=true", vec!["b"]),
        ("spec.hostNetwork!=true", vec!["a"]),
    ] {
        let path = format!("{pods}?fieldSelector={selector}");
        let many = |list: &Value| list["items"].as_array().map_or(0, Vec::len);
        let list = s.until(&path, |_, list| many(list) == names.len()).await;
        let got: Vec<&Value> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| &i["metadata"]["name"])
            .collect();
        assert_eq!(got, names, "{selector}");
    }
}

#[tokio::test]
async fn fields_that_are_not_set_are_zeros() {
    let s = Server::start().await;
    let nodes = "/api/v1/nodes";
    for (name, cordoned) in [("free", false), ("cordoned", true)] {
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        if cordoned {
            node["spec"] = json!({"unschedulable": true});
        }
        let (code, said) = s.json("POST", nodes, &node).await;
        assert_eq!(code, 201, "{said}");
    }
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let (code, said) = s.json("POST", jobs, &job).await;
    assert_eq!(code, 201, "{said}");
    let started = json!({"status": {"succeeded": 1, "startTime": "2026-01-01T00:00:00Z"}});
    let of = async |path: &str, selector: &str| {
        let (_, list) = s.get(&format!("{path}?fieldSelector={selector}")).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(nodes, "spec.unschedulable%3Dfalse").await, "free");
    assert_eq!(of(nodes, "spec.unschedulable%3Dtrue").await, "cordoned");
    assert_eq!(of(jobs, "status.successful%3D0").await, "j");
    let (code, said) = s.json("PATCH", &format!("{jobs}/j/status"), &started).await;
    assert_eq!(code, 200, "{said}");
    assert_eq!(of(jobs, "status.successful%3D0").await, "");
    assert_eq!(of(jobs, "status.successful%3D1").await, "j");
}

#[tokio::test]
async fn endpoints_are_an_old_way() {
    let s = Server::start().await;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"}});
    let (code, warnings, said) = s
        .warned("POST", "/api/v1/namespaces/default/endpoints", &endpoints)
        .await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(
        warnings,
        ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""]
    );
}

#[tokio::test]
async fn what_is_deleted_is_answered_or_told() {
    let s = Server::guarded().await;
    for (list, object, kind) in [
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"metadata": {"name": "x"}, "provisioner": "p"}),
            "StorageClass",
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers",
            json!({"metadata": {"name": "x"}, "spec": {}}),
            "CSIDriver",
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes",
            json!({"metadata": {"name": "x"}, "spec": {"drivers": []}}),
            "CSINode",
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattributesclasses",
            json!({"metadata": {"name": "x"}, "driverName": "d", "parameters": {"a": "b"}}),
            "VolumeAttributesClass",
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"metadata": {"name": "x"}, "value": 1}),
            "Status",
        ),
    ] {
        let (code, said) = s.json("POST", list, &object).await;
        assert_eq!(code, 201, "{said}");
        let (code, said) = s.json("DELETE", &format!("{list}/x"), &json!({})).await;
        assert_eq!((code, &said["kind"]), (200, &json!(kind)));
    }
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical";
    let (code, said) = s.json("DELETE", path, &json!({})).await;
    assert_eq!(code, 403, "{said}");
    let why = "is forbidden: this is a system priority class and cannot be deleted";
    assert!(said["message"].as_str().unwrap().ends_with(why), "{said}");

    // What every request needs comes back, and is only ever as it was.
    for (kind, name, change, shown) in [
        (
            "flowschemas",
            "catch-all",
            json!({"spec": {"matchingPrecedence": 5}}),
            "{\"PriorityLevelConfiguration\":{\"Name\":\"catch-all\"},\"MatchingPrecedence\":5,\
             \"DistinguisherMethod\":{\"Type\":\"ByUser\"},\"Rules\":[{\"Subjects\":[{\"Kind\":\"Group\",\"User\":null,\
             \"Group\":{\"Name\":\"system:unauthenticated\"},\"ServiceAccount\":null},{\"Kind\":\"Group\",\"User\":null,\
             \"Group\":{\"Name\":\"system:authenticated\"},\"ServiceAccount\":null}],\"ResourceRules\":[{\"Verbs\":[\"*\"],\
             \"APIGroups\":[\"*\"],\"Resources\":[\"*\"],\"ClusterScope\":true,\"Namespaces\":[\"*\"]}],\
             \"NonResourceRules\":[{\"Verbs\":[\"*\"],\"NonResourceURLs\":[\"*\"]}]}]}: spec of 'catch-all' must equal the \
             fixed value",
        ),
        (
            "prioritylevelconfigurations",
            "catch-all",
            json!({"spec": {"limited": {"nominalConcurrencyShares": 7}}}),
            "{\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":7,\"LimitResponse\":{\"Type\":\"Reject\",\
             \"Queuing\":null},\"LendablePercent\":0,\"BorrowingLimitPercent\":null},\"Exempt\":null}: spec of 'catch-all' \
             must equal the fixed value",
        ),
    ] {
        let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/{kind}/{name}");
        let (code, said) = s.json("PATCH", &path, &change).await;
        assert_eq!(code, 422, "{said}");
        let message = said["message"].as_str().unwrap();
        assert!(
            message.ends_with(&format!("is invalid: spec: Invalid value: {shown}")),
            "{message}"
        );
        let (code, said) = s
            .json("PATCH", &path, &json!({"metadata": {"labels": {"a": "b"}}}))
            .await;
        assert_eq!(code, 200, "{said}");
        let before = said["metadata"]["uid"].clone();
        let (code, said) = s.json("DELETE", &path, &json!({})).await;
        assert_eq!(code, 200, "{said}");
        s.until(&path, |code, now| code == 200 && now["metadata"]["uid"] != before)
            .await;
    }
    let lent = json!({"spec": {"exempt": {"lendablePercent": 3}}});
    let path = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/exempt";
    let (code, said) = s.json("PATCH", path, &lent).await;
    assert_eq!(code, 200, "{said}");
}

#[tokio::test]
async fn volumes_tell_since_when_they_are_in_their_phase() {
    let s = Server::start().await;
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "nfs": {"server": "1.2.3.4", "path": "/"}}});
    let (code, said) = s.json("POST", "/api/v1/persistentvolumes", &volume).await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(
        said["status"]["lastPhaseTransitionTime"],
        said["metadata"]["creationTimestamp"]
    );
    let range = json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.88.0.1/24"]}});
    let (code, said) = s
        .json("POST", "/apis/networking.k8s.io/v1/servicecidrs", &range)
        .await;
    let why =
        "spec.cidrs[0]: Invalid value: \"10.88.0.1/24\": must not have bits set beyond the prefix length";
    assert!(
        code == 422 && said["message"].as_str().unwrap().ends_with(why),
        "{said}"
    );
}

#[tokio::test]
async fn services_have_addresses_of_every_range() {
    let s = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.88.0.5", "ports": [{"port": 80}]}});
    let (code, said) = s.json("POST", services, &service).await;
    assert_eq!(code, 422, "{said}");
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.88.0.0/28"]}});
    let (code, said) = s.json("POST", ranges, &range).await;
    assert_eq!(code, 201, "{said}");
    let path = format!("{ranges}/more");
    let ready =
        |status: &'static str| move |_: u16, r: &Value| r["status"]["conditions"][0]["status"] == status;
    let held = s.until(&path, ready("True")).await;
    assert_eq!(
        held["metadata"]["finalizers"],
        json!(["networking.k8s.io/service-cidr-finalizer"])
    );
    let (code, said) = s.json("POST", services, &service).await;
    assert_eq!(code, 201, "{said}");
    s.until("/apis/networking.k8s.io/v1/ipaddresses/10.88.0.5", |code, _| {
        code == 200
    })
    .await;
    // A range with an address in use stays until that is given back.
    let (code, said) = s.json("DELETE", &path, &json!({})).await;
    assert_eq!(code, 200, "{said}");
    let told = s.until(&path, ready("False")).await;
    assert_eq!(told["status"]["conditions"][0]["reason"], "Terminating");
    let other =
        json!({"metadata": {"name": "t"}, "spec": {"clusterIP": "10.88.0.6", "ports": [{"port": 80}]}});
    let (code, said) = s.json("POST", services, &other).await;
    assert_eq!(code, 422, "{said}");
    let (code, said) = s.json("DELETE", &format!("{services}/s"), &json!({})).await;
    assert_eq!(code, 200, "{said}");
    s.until(&path, |code, _| code == 404).await;
}

#[tokio::test]
async fn quotas_count_whole_things() {
    let s = Server::start().await;
    for (spec, wanted) in [
        (
            json!({"hard": {"pods": "1.5"}}),
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
        ),
        (
            json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}]}}),
            "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or \
             'DoesNotExist' for scope selector",
        ),
    ] {
        let quota = json!({"metadata": {"name": "q"}, "spec": spec});
        let (code, said) = s
            .json("POST", "/api/v1/namespaces/default/resourcequotas", &quota)
            .await;
        assert!(
            code == 422 && said["message"].as_str().unwrap().ends_with(wanted),
            "{said}"
        );
    }
}

#[tokio::test]
async fn evicted_pods_say_why_they_go() {
    let s = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": ["example.com/wait"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, made) = s.json("POST", pods, &pod).await;
    assert_eq!(code, 201, "{made}");
    let evict = |uid: &Value| {
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
            "deleteOptions": {"preconditions": {"uid": uid}}})
    };
    let path = format!("{pods}/p/eviction");
    let (code, refused) = s.json("POST", &path, &evict(&json!("another"))).await;
    assert_eq!(code, 409, "{refused}");
    let (_, stays) = s.get(&format!("{pods}/p")).await;
    assert_eq!(
        stays["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let (code, said) = s.json("POST", &path, &evict(&made["metadata"]["uid"])).await;
    assert_eq!(code, 201, "{said}");
    let (_, going) = s.get(&format!("{pods}/p")).await;
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    let conditions = going["status"]["conditions"].as_array().unwrap();
    let condition = conditions
        .iter()
        .find(|c| c["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(condition["status"], "True");
    assert_eq!(condition["reason"], "EvictionByEvictionAPI");
    assert_eq!(condition["message"], "Eviction API: evicting");
}

#[tokio::test]
async fn events_are_found_by_who_reports_them() {
    let s = Server::start().await;
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "old"},
        "involvedObject": {"namespace": "default"}, "source": {"component": "a"}});
    let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "new"},
        "regarding": {"namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Do",
        "reason": "Test", "type": "Normal", "reportingController": "b", "reportingInstance": "n"});
    let (olds, news) = (
        "/api/v1/namespaces/default/events",
        "/apis/events.k8s.io/v1/namespaces/default/events",
    );
    for (path, event) in [(olds, old), (news, new)] {
        let (code, said) = s.json("POST", path, &event).await;
        assert_eq!(code, 201, "{said}");
    }
    for (path, selector, name) in [
        (olds, "source=a", "old"),
        (olds, "source=b", "new"),
        (olds, "reportingComponent=b", "new"),
        (news, "reportingController=b", "new"),
        (news, "reportingController=", "old"),
    ] {
        let path = format!("{path}?fieldSelector={selector}");
        let one = |list: &Value| list["items"].as_array().is_some_and(|items| items.len() == 1);
        let list = s.until(&path, |_, list| one(list)).await;
        assert_eq!(list["items"][0]["metadata"]["name"], name, "{path}");
    }
}
