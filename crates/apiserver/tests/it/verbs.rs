//! The verbs over real HTTP: each case says what is sent and what upstream would answer.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};
use std::sync::Arc;
use store::memory::MemoryStore;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}},
        "data": {"k": value}})
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A page of a state that was compacted away is refused with a token that goes on from the same key in the present state.
#[tokio::test]
async fn pages_end_with_compaction() {
    let interval = std::time::Duration::from_millis(5);
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.compaction_interval = interval).await;
    for name in ["a", "b", "c"] {
        s.json("POST", MAPS, &map(name, "1")).await;
    }
    let (_, first) = s.get(&format!("{MAPS}?limit=1")).await;
    let page = |list: &Value| {
        let token = at(list, "/metadata/continue").as_str().unwrap();
        format!("{MAPS}?limit=1&continue={token}")
    };
    let expired = async {
        for writes in 0.. {
            s.json(
                "PATCH",
                &format!("{MAPS}/a"),
                &json!({"data": {"k": writes.to_string()}}),
            )
            .await;
            let (code, answer) = s.get(&page(&first)).await;
            if code != 200 {
                return (code, answer);
            }
        }
        unreachable!("numbers do not end")
    };
    let limit = std::time::Duration::from_secs(20);
    let (code, expired) = tokio::time::timeout(limit, expired).await.unwrap();
    assert_eq!((code, at(&expired, "/reason")), (410, &json!("Expired")));
    let (code, second) = s.get(&page(&expired)).await;
    assert_eq!((code, at(&second, "/items/0/metadata/name")), (200, &json!("b")));
    assert_eq!(at(&second, "/metadata/remainingItemCount"), 1);
}

#[tokio::test]
async fn a_life() {
    let s = Server::start().await;
    let (code, made) = s.json("POST", MAPS, &map("a", "1")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(at(&made, "/metadata/namespace"), "default");
    let uid = at(&made, "/metadata/uid").clone();
    let first = at(&made, "/metadata/resourceVersion").clone();
    assert!(uid.is_string() && first.is_string());

    let (code, again) = s.json("POST", MAPS, &map("a", "1")).await;
    assert_eq!((code, at(&again, "/reason")), (409, &json!("AlreadyExists")));
    assert_eq!(at(&again, "/message"), "configmaps \"a\" already exists");

    let (code, got) = s.get(&format!("{MAPS}/a")).await;
    assert_eq!((code, &got), (200, &made));

    let mut next = made.clone();
    next["data"]["k"] = json!("2");
    let (code, put) = s.json("PUT", &format!("{MAPS}/a"), &next).await;
    assert_eq!((code, at(&put, "/data/k")), (200, &json!("2")));
    assert_eq!(at(&put, "/metadata/uid"), &uid);
    assert_ne!(at(&put, "/metadata/resourceVersion"), &first);

    let (code, lost) = s.json("PUT", &format!("{MAPS}/a"), &next).await;
    assert_eq!((code, at(&lost, "/reason")), (409, &json!("Conflict")));
    assert_eq!(
        at(&lost, "/message"),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );

    let (code, patched) = s
        .json(
            "PATCH",
            &format!("{MAPS}/a"),
            &json!({"data": {"k": null, "n": "3"}}),
        )
        .await;
    assert_eq!((code, at(&patched, "/data")), (200, &json!({"n": "3"})));
    let (_, same) = s
        .json("PATCH", &format!("{MAPS}/a"), &json!({"data": {"n": "3"}}))
        .await;
    assert_eq!(same, patched, "a patch that changes nothing writes nothing");

    let (code, gone) = s.json("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!((code, at(&gone, "/status")), (200, &json!("Success")));
    assert_eq!(at(&gone, "/details/uid"), &uid);
    let (code, missing) = s.get(&format!("{MAPS}/a")).await;
    assert_eq!(
        (code, at(&missing, "/message")),
        (404, &json!("configmaps \"a\" not found"))
    );
}

#[tokio::test]
async fn refusals() {
    let s = Server::start().await;
    s.json("POST", MAPS, &map("a", "1")).await;
    let other_ns = json!({"metadata": {"name": "b", "namespace": "other"}});
    let other_kind = json!({"kind": "Pod", "metadata": {"name": "b"}});
    let other_version = json!({"apiVersion": "v2", "metadata": {"name": "b"}});
    // method, path, body => code, words of the message
    let cases: Vec<(&str, String, Value, u16, &str)> = vec![
        (
            "POST",
            MAPS.into(),
            other_ns,
            400,
            "the namespace of the provided object does not match",
        ),
        (
            "POST",
            MAPS.into(),
            other_kind,
            400,
            "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion",
        ),
        (
            "POST",
            MAPS.into(),
            other_version,
            400,
            "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme",
        ),
        (
            "PUT",
            format!("{MAPS}/a"),
            map("b", "1"),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            "PUT",
            format!("{MAPS}/none"),
            map("none", "1"),
            404,
            "configmaps \"none\" not found",
        ),
        (
            "DELETE",
            format!("{MAPS}/none"),
            Value::Null,
            404,
            "configmaps \"none\" not found",
        ),
        (
            "DELETE",
            format!("{MAPS}/a"),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "x"}}),
            409,
            "the UID in the precondition (x) does not match the UID in record (",
        ),
        (
            "GET",
            format!("{MAPS}?resourceVersion=x"),
            Value::Null,
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "GET",
            format!("{MAPS}?resourceVersion=999999"),
            Value::Null,
            504,
            "Too large resource version: 999999",
        ),
        (
            "GET",
            format!("{MAPS}?fieldSelector=spec.x%3D1"),
            Value::Null,
            400,
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("GET", format!("{MAPS}?continue=x"), Value::Null, 400, "continue"),
        (
            "PATCH",
            format!("{MAPS}/a?force=true"),
            json!({}),
            422,
            "may not be specified for non-apply patch",
        ),
        (
            "POST",
            format!("{MAPS}?dryRun=Some"),
            map("c", "1"),
            422,
            "dryRun",
        ),
    ];
    for (method, path, body, code, words) in cases {
        let (got, answer) = s.json(method, &path, &body).await;
        let message = at(&answer, "/message").as_str().unwrap_or("").to_string();
        assert_eq!(got, code, "{method} {path}: {answer}");
        assert!(message.contains(words), "{method} {path}: {message}");
    }
    let (code, text) = s.text("/apis/nothing.io/v1/things", &[]).await;
    assert_eq!((code, text.as_str()), (404, "404 page not found\n"));
    for path in ["/api/v1/nothings", &format!("{MAPS}/a/nothing")] {
        let (code, answer) = s.json("GET", path, &Value::Null).await;
        let told = at(&answer, "/message").as_str().unwrap_or("");
        let expected = (404, "the server could not find the requested resource");
        assert_eq!((code, told), expected, "{path}");
    }
    assert_eq!(s.send("HEAD", MAPS, &[], "").await.status(), 405);
    let (code, _) = s.text(MAPS, &[("accept", "application/cbor")]).await;
    assert_eq!(code, 406);
    let response = s
        .send("POST", MAPS, &[("content-type", "application/cbor")], "x")
        .await;
    assert_eq!(response.status(), 415);
    let response = s.send("POST", MAPS, &[], vec![b' '; (3 << 20) + 1]).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn dry_run_and_generated_names() {
    let s = Server::start().await;
    // A copy of what is there may be tried with its version, which a real write refuses.
    let mut copy = map("dry", "1");
    copy["metadata"]["resourceVersion"] = json!("5");
    let (code, _) = s.json("POST", &format!("{MAPS}?dryRun=All"), &copy).await;
    assert_eq!(code, 201);
    let (code, made) = s
        .json("POST", &format!("{MAPS}?dryRun=All"), &map("dry", "1"))
        .await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(s.get(&format!("{MAPS}/dry")).await.0, 404);
    let generated = json!({"metadata": {"generateName": "g-"}});
    let (code, one) = s.json("POST", MAPS, &generated).await;
    assert_eq!(code, 201, "{one}");
    let name = at(&one, "/metadata/name").as_str().unwrap();
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
    s.json("DELETE", &format!("{MAPS}/{name}?dryRun=All"), &Value::Null)
        .await;
    assert_eq!(s.get(&format!("{MAPS}/{name}")).await.0, 200);
}

#[tokio::test]
async fn lists_and_pages() {
    let s = Server::start().await;
    for i in 0..7 {
        s.json("POST", MAPS, &map(&format!("m{i}"), "1")).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|i| at(i, "/metadata/name").as_str().unwrap().to_string())
            .collect()
    };
    let (_, all) = s.get(MAPS).await;
    assert_eq!(
        (at(&all, "/kind"), names(&all).len()),
        (&json!("ConfigMapList"), 7)
    );
    assert!(
        at(&all, "/items/0/kind").is_null(),
        "items of built-in lists carry no kind"
    );
    let (_, one) = s.get(&format!("{MAPS}?labelSelector=app%3Dm3")).await;
    assert_eq!(names(&one), ["m3"]);
    let (_, one) = s.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm4")).await;
    assert_eq!(names(&one), ["m4"]);
    let (_, first) = s.get(&format!("{MAPS}?limit=3")).await;
    assert_eq!(
        (names(&first).len(), at(&first, "/metadata/remainingItemCount")),
        (3, &json!(4))
    );
    // What happens meanwhile does not show in the pages that follow.
    s.json("DELETE", &format!("{MAPS}/m5"), &Value::Null).await;
    s.json("POST", MAPS, &map("m9", "1")).await;
    s.json("PATCH", &format!("{MAPS}/m4"), &json!({"data": {"k": "changed"}}))
        .await;
    let token = at(&first, "/metadata/continue").as_str().unwrap().to_string();
    let (_, second) = s.get(&format!("{MAPS}?limit=10&continue={token}")).await;
    assert_eq!(names(&second), ["m3", "m4", "m5", "m6"]);
    assert_eq!(at(&second, "/items/1/data/k"), "1");
    assert_eq!(
        at(&second, "/metadata/resourceVersion"),
        at(&first, "/metadata/resourceVersion")
    );
    let revision = at(&first, "/metadata/resourceVersion").as_str().unwrap();
    let (_, exact) = s
        .get(&format!(
            "{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact"
        ))
        .await;
    assert_eq!(names(&exact), ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    let (code, gone) = s
        .json("DELETE", &format!("{MAPS}?labelSelector=app!%3Dm0"), &Value::Null)
        .await;
    assert_eq!((code, names(&gone).len()), (200, 6), "{gone}");
    let (_, left) = s.get(MAPS).await;
    assert_eq!(names(&left), ["m0"]);
}

#[tokio::test]
async fn watches() {
    let s = Server::start().await;
    let (_, a) = s.json("POST", MAPS, &map("a", "1")).await;
    let revision = at(&a, "/metadata/resourceVersion").as_str().unwrap().to_string();
    let mut from_now = s.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(from_now.names(1).await, ["ADDED a"]);
    let mut later = s
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    let mut selected = s
        .watch(&format!(
            "{MAPS}?watch=1&labelSelector=app%3Da&resourceVersion={revision}"
        ))
        .await;
    let mut streamed = s
        .watch(&format!(
            "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(streamed.names(1).await, ["ADDED a"]);
    let mark = streamed.next().await.unwrap();
    assert_eq!(at(&mark, "/type"), "BOOKMARK");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    s.json("POST", MAPS, &map("b", "1")).await;
    s.json(
        "PATCH",
        &format!("{MAPS}/a"),
        &json!({"metadata": {"labels": {"app": "z"}}}),
    )
    .await;
    s.json(
        "PATCH",
        &format!("{MAPS}/a"),
        &json!({"metadata": {"labels": {"app": "a"}}}),
    )
    .await;
    s.json("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let all = ["ADDED b", "MODIFIED a", "MODIFIED a", "DELETED a"];
    assert_eq!(from_now.names(4).await, all);
    assert_eq!(later.names(4).await, all);
    assert_eq!(streamed.names(4).await, all);
    // Leaving and entering the selection is deletion and addition.
    assert_eq!(selected.names(3).await, ["DELETED a", "ADDED a", "DELETED a"]);
    let mut short = s
        .watch(&format!(
            "{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={revision}"
        ))
        .await;
    assert_eq!(short.names(4).await, all);
    assert!(short.next().await.is_none(), "the watch ends at its timeout");
}

#[tokio::test]
async fn finalizers_and_grace() {
    let s = Server::start().await;
    let mut held = map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    s.json("POST", MAPS, &held).await;
    let (code, pending) = s.json("DELETE", &format!("{MAPS}/held"), &Value::Null).await;
    assert_eq!(code, 200);
    assert!(
        at(&pending, "/metadata/deletionTimestamp").is_string(),
        "{pending}"
    );
    let (_, done) = s
        .json(
            "PATCH",
            &format!("{MAPS}/held"),
            &json!({"metadata": {"finalizers": null}}),
        )
        .await;
    assert!(at(&done, "/metadata/name").is_string());
    assert_eq!(s.get(&format!("{MAPS}/held")).await.0, 404);

    s.json("POST", MAPS, &map("parent", "1")).await;
    let (_, going) = s
        .json(
            "DELETE",
            &format!("{MAPS}/parent?propagationPolicy=Foreground"),
            &Value::Null,
        )
        .await;
    assert_eq!(at(&going, "/metadata/finalizers"), &json!(["foregroundDeletion"]));
}

#[tokio::test]
async fn shapes() {
    let s = Server::start().await;
    s.json("POST", MAPS, &map("a", "1")).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, text) = s.text(MAPS, &[("accept", table)]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (at(&value, "/kind"), at(&value, "/rows/0/cells/0")),
        (&json!("Table"), &json!("a"))
    );
    let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    let (_, text) = s.text(MAPS, &[("accept", old)]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    let told = [at(&value, "/apiVersion"), at(&value, "/rows/0/object/apiVersion")];
    assert_eq!(told, ["meta.k8s.io/v1beta1"; 2]);
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (_, text) = s.text(MAPS, &[("accept", partial)]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(at(&value, "/kind"), "PartialObjectMetadataList");
    assert!(at(&value, "/items/0/data").is_null());
    let (_, yaml) = s
        .text(&format!("{MAPS}/a"), &[("accept", "application/yaml")])
        .await;
    assert!(yaml.contains("kind: ConfigMap"), "{yaml}");
}

#[tokio::test]
async fn discovery_and_health() {
    let s = Server::start().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(s.text(path, &[]).await, (200, "ok".to_string()));
    }
    let (_, verbose) = s.text("/readyz?verbose", &[]).await;
    assert!(
        verbose.contains("[+]etcd ok") && verbose.ends_with("readyz check passed\n"),
        "{verbose}"
    );
    assert_eq!(s.get("/version").await.1["gitVersion"], "v1.35.0");
    assert_eq!(s.get("/api").await.1["versions"], json!(["v1"]));
    let (_, core) = s.get("/api/v1").await;
    let pods = core["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "pods")
        .unwrap();
    assert_eq!(
        (&pods["kind"], &pods["namespaced"]),
        (&json!("Pod"), &json!(true))
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let (_, text) = s.text("/apis", &[("accept", accept)]).await;
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&all["kind"], &all["apiVersion"]),
        (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2"))
    );
    let response = s.send("GET", "/apis", &[("accept", accept)], "").await;
    let etag = response.headers()["etag"].to_str().unwrap().to_string();
    let response = s
        .send(
            "GET",
            "/apis",
            &[("accept", accept), ("if-none-match", &etag)],
            "",
        )
        .await;
    assert_eq!(response.status(), 304);
}

#[tokio::test]
async fn restart_keeps_objects_and_watches_go_on() {
    let store = std::sync::Arc::new(store::memory::MemoryStore::new());
    let s = Server::on(store.clone()).await;
    let (_, a) = s.json("POST", MAPS, &map("a", "1")).await;
    let revision = at(&a, "/metadata/resourceVersion").as_str().unwrap().to_string();
    s.json("POST", MAPS, &map("b", "1")).await;
    drop(s);
    let s = Server::on(store).await;
    assert_eq!(s.get(&format!("{MAPS}/a")).await.1, a);
    let mut watch = s
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    assert_eq!(watch.names(1).await, ["ADDED b"]);
}

#[tokio::test]
async fn services_get_addresses() {
    let s = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let (_, kubernetes) = s.get(&format!("{services}/kubernetes")).await;
    assert_eq!(at(&kubernetes, "/spec/clusterIP"), "10.96.0.1");
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let port = json!([{"port": 80, "protocol": "TCP"}]);
    let (code, one) = s
        .json(
            "POST",
            services,
            &service(
                "one",
                json!({"type": "NodePort", "ports": port, "selector": {"a": "b"}}),
            ),
        )
        .await;
    assert_eq!(code, 201, "{one}");
    let ip = at(&one, "/spec/clusterIP").as_str().unwrap().to_string();
    assert!(ip.starts_with("10.96."), "{ip}");
    let node_port = at(&one, "/spec/ports/0/nodePort").as_u64().unwrap();
    assert!((30000..=32767).contains(&node_port));
    let (code, taken) = s
        .json(
            "POST",
            services,
            &service(
                "two",
                json!({"type": "ClusterIP", "clusterIP": ip, "ports": port}),
            ),
        )
        .await;
    assert_eq!(code, 422);
    assert!(
        at(&taken, "/message")
            .as_str()
            .unwrap()
            .contains("provided IP is already allocated"),
        "{taken}"
    );
    let mut again = port.clone();
    again[0]["nodePort"] = json!(node_port);
    let (code, taken) = s
        .json(
            "POST",
            services,
            &service("three", json!({"type": "NodePort", "ports": again})),
        )
        .await;
    assert_eq!(code, 422);
    assert!(
        at(&taken, "/message")
            .as_str()
            .unwrap()
            .contains("provided port is already allocated"),
        "{taken}"
    );
    let (_, headless) = s
        .json(
            "POST",
            services,
            &service(
                "four",
                json!({"type": "ClusterIP", "clusterIP": "None", "ports": port, "selector": {"a": "b"}}),
            ),
        )
        .await;
    assert_eq!(at(&headless, "/spec/clusterIPs"), &json!(["None"]));
    // A freed address can be had again.
    s.json("DELETE", &format!("{services}/one"), &Value::Null).await;
    let (code, _) = s
        .json(
            "POST",
            services,
            &service(
                "five",
                json!({"type": "ClusterIP", "clusterIP": ip, "ports": port}),
            ),
        )
        .await;
    assert_eq!(code, 201);
}

#[tokio::test]
async fn service_addresses_run_out() {
    // Six addresses: the cluster's own Service has one, and DNS's stays free for it.
    let range = "10.9.0.0/29".to_owned();
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.service_cidr = range).await;
    let mut answers = Vec::new();
    for n in 0..7 {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")},
            "spec": {"ports": [{"port": 80}]}});
        answers.push(
            s.json("POST", "/api/v1/namespaces/default/services", &service)
                .await,
        );
    }
    let (code, said) = answers.pop().unwrap();
    let why = "Internal error occurred: failed to allocate a serviceIP: range is full";
    assert_eq!((code, &said["message"]), (500, &json!(why)));
    assert_eq!(answers[0].0, 201);
}
