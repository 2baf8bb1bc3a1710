//! What is asked in odd ways, and the words of upstream's generic server for it: names that are taken, objects that are
//! others, revisions yet to come, bookmarks, warnings, metrics.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn map(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": "v"}})
}

fn lease(metadata: Value) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {"holderIdentity": "me"}})
}

#[tokio::test]
async fn names_that_are_taken() {
    let s = Server::start().await;
    let held = json!({"name": "going", "finalizers": ["example.com/f"]});
    s.json("POST", MAPS, &map(held)).await;
    s.json("DELETE", &format!("{MAPS}/going"), &Value::Null).await;
    s.json("POST", MAPS, &map(json!({"name": "there"}))).await;
    let unique = ", the server was not able to generate a unique name for the object";
    for (metadata, words, retry) in [
        (
            json!({"name": "there"}),
            "configmaps \"there\" already exists".to_string(),
            Value::Null,
        ),
        (
            json!({"name": "there", "generateName": "t"}),
            format!("configmaps \"there\" already exists{unique}"),
            json!(1),
        ),
        (
            json!({"name": "going"}),
            "object is being deleted: configmaps \"going\" already exists".to_string(),
            Value::Null,
        ),
    ] {
        let (code, refused) = s.json("POST", MAPS, &map(metadata)).await;
        assert_eq!(
            (code, &refused["message"], &refused["reason"]),
            (409, &json!(words), &json!("AlreadyExists"))
        );
        assert_eq!(refused["details"]["retryAfterSeconds"], retry);
    }
}

/// Reflectors ask for any state in pages, and get all of it.
#[tokio::test]
async fn any_state_comes_as_a_whole() {
    let s = Server::start().await;
    for name in ["a", "b", "c"] {
        s.json("POST", MAPS, &map(json!({"name": name}))).await;
    }
    for (query, paged) in [
        ("limit=1&resourceVersion=0", false),
        (
            "limit=1&resourceVersion=0&resourceVersionMatch=NotOlderThan",
            false,
        ),
        ("limit=1", true),
    ] {
        let (_, list) = s.get(&format!("{MAPS}?{query}")).await;
        let metadata = &list["metadata"];
        assert_eq!(metadata["continue"].is_string(), paged, "{query}: {metadata}");
        assert_eq!(
            metadata["remainingItemCount"].is_u64(),
            paged,
            "{query}: {metadata}"
        );
    }
}

/// Of who holds a lease no longer, and of whoever means another object than the one that is there.
#[tokio::test]
async fn other_objects_than_meant() {
    let s = Server::start().await;
    let (_, made) = s.json("POST", LEASES, &lease(json!({"name": "l"}))).await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let failed = |name: &str, has: &str| {
        format!(
            "Operation cannot be fulfilled on leases.coordination.k8s.io \"{name}\": StorageError: invalid object, Code: 4, \
             Key: /registry/leases/default/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
             precondition: other, UID in object meta: {has}"
        )
    };
    let named = |name: &str| lease(json!({"name": name, "uid": "other", "resourceVersion": "7"}));
    for (name, has) in [("l", uid), ("none", "")] {
        let (code, refused) = s.json("PUT", &format!("{LEASES}/{name}"), &named(name)).await;
        assert_eq!((code, &refused["message"]), (409, &json!(failed(name, has))));
    }
    let nodes = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "other"}});
    let (code, refused) = s.json("PUT", "/api/v1/nodes/n", &nodes).await;
    let words = refused["message"].as_str().unwrap();
    assert!(
        code == 409 && words.contains("Key: /registry/minions/n, "),
        "{words}"
    );

    let nameless = s.json("PUT", &format!("{LEASES}/l"), &lease(json!({}))).await;
    let words = "the name of the object (l based on URL) was undeterminable: name must be provided";
    assert_eq!((nameless.0, &nameless.1["message"]), (400, &json!(words)));
    let old = lease(json!({"name": "again", "resourceVersion": "7"}));
    assert_eq!(s.json("PUT", &format!("{LEASES}/again"), &old).await.0, 201);

    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{MAPS}/x?fieldManager=m");
    let body = map(json!({"name": "x", "uid": "other"})).to_string();
    let response = s.send("PATCH", &path, &apply, body).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let refused: Value = serde_json::from_slice(&bytes).unwrap();
    let words = "Operation cannot be fulfilled on configmaps \"x\": uid mismatch: the provided object specified uid other, \
                 and no existing object was found";
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!(409), &json!(words))
    );
}

/// A watch from a revision that is yet to come waits for it; one that wants the state of it is told in the stream.
#[tokio::test]
async fn revisions_yet_to_come() {
    let s = Server::start().await;
    let make = async |name: &str| -> u64 {
        let (_, made) = s.json("POST", MAPS, &map(json!({"name": name}))).await;
        let revision = made["metadata"]["resourceVersion"].as_str().unwrap();
        revision.parse().unwrap()
    };
    // Others write, too: what the first one behind the revision is called is seen when it is made.
    let begun = make("a").await + 10;
    let selected = format!("{MAPS}?watch=1&labelSelector=!none");
    let mut watch = s.watch(&format!("{selected}&resourceVersion={begun}")).await;
    let mut number = 0;
    while make(&format!("b{number}")).await <= begun {
        number += 1;
    }
    assert_eq!(watch.names(1).await, [format!("ADDED b{number}")]);
    let state = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = s
        .watch(&format!("{selected}&{state}&resourceVersion=999999"))
        .await;
    let told = watch.next().await.unwrap();
    assert_eq!(
        (&told["type"], &told["object"]["code"]),
        (&json!("ERROR"), &json!(504))
    );
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn bookmarks() {
    let s = Server::start().await;
    let revision = |object: &Value| {
        let text = object["metadata"]["resourceVersion"].as_str().unwrap();
        text.parse::<u64>().unwrap()
    };
    let (_, first) = s.json("POST", MAPS, &map(json!({"name": "a"}))).await;
    let marks = format!("{MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=3&labelSelector=!none");
    let end = |event: &Value| event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"].clone();
    for begin in ["", "&resourceVersion=0"] {
        let mut watch = s.watch(&format!("{marks}{begin}")).await;
        assert_eq!(watch.names(1).await, ["ADDED a"]);
        let mark = watch.next().await.unwrap();
        assert_eq!(
            (&mark["type"], end(&mark)),
            (&json!("BOOKMARK"), json!("true")),
            "{begin}"
        );
    }
    // Shortly before the end, so that the client goes on from there: behind what others have written meanwhile.
    let (_, other) = s
        .json(
            "POST",
            "/api/v1/namespaces/default/secrets",
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
        )
        .await;
    let mut watch = s
        .watch(&format!("{marks}&resourceVersion={}", revision(&first)))
        .await;
    let mark = watch.next().await.unwrap();
    assert_eq!((&mark["type"], end(&mark)), (&json!("BOOKMARK"), Value::Null));
    assert!(revision(&mark["object"]) >= revision(&other), "{mark}");
    assert!(watch.next().await.is_none());
}

/// What stands twice in an applied configuration is told after the conflicts.
#[tokio::test]
async fn conflicts_come_before_duplicates() {
    let s = Server::start().await;
    s.json("POST", MAPS, &map(json!({"name": "a"}))).await;
    let apply = [("content-type", "application/apply-patch+yaml")];
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n";
    for (data, code) in [("  k: w\n  k: x\n", 409), ("  other: w\n  other: x\n", 400)] {
        let path = format!("{MAPS}/a?fieldManager=m&fieldValidation=Strict");
        let response = s.send("PATCH", &path, &apply, format!("{head}{data}")).await;
        assert_eq!(response.status(), code, "{data}");
    }
}

#[tokio::test]
async fn what_is_counted() {
    let s = Server::start().await;
    let apply = [("content-type", "application/apply-patch+yaml")];
    let body = map(json!({"name": "a"})).to_string();
    s.send("PATCH", &format!("{MAPS}/a?fieldManager=m"), &apply, body)
        .await;
    s.json("POST", &format!("{MAPS}?dryRun=All"), &map(json!({"name": "b"})))
        .await;
    s.json("DELETE", &format!("{MAPS}?labelSelector=x"), &Value::Null)
        .await;
    s.get("/api/v1/namespaces/default/pods/none/log").await;
    s.get("/api/v1/namespaces/default/endpoints").await;
    let (_, text) = s.text("/metrics", &[]).await;
    let of = |dry_run: &str, resource: &str, scope: &str, sub: &str, verb: &str| {
        format!(
            "component=\"apiserver\",dry_run=\"{dry_run}\",group=\"\",resource=\"{resource}\",scope=\"{scope}\",\
             subresource=\"{sub}\",verb=\"{verb}\",version=\"v1\""
        )
    };
    for wanted in [
        format!(
            "apiserver_request_total{{code=\"201\",{}}} 1",
            of("", "configmaps", "resource", "", "APPLY")
        ),
        format!(
            "apiserver_request_total{{code=\"201\",{}}} 1",
            of("All", "configmaps", "resource", "", "POST")
        ),
        format!(
            "apiserver_request_total{{code=\"200\",{}}} 1",
            of("", "configmaps", "namespace", "", "DELETE")
        ),
        format!(
            "apiserver_request_total{{code=\"404\",{}}} 1",
            of("", "pods", "resource", "log", "CONNECT")
        ),
        "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",\
         version=\"v1\"} 1"
            .into(),
        "apiserver_resource_objects{group=\"apps\",resource=\"deployments\"} 0".into(),
    ] {
        assert!(text.lines().any(|line| line == wanted), "{wanted} in {text}");
    }
    let served = text
        .lines()
        .filter(|l| l.starts_with("apiserver_request_sli_duration_seconds_count"));
    assert!(!served.clone().any(|l| l.contains("verb=\"POST\"")), "{text}");
    assert!(served.count() > 0);
    let response = s.send("DELETE", "/metrics", &[], "").await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&bytes[..], b"metrics reset\n");
    let (_, text) = s.text("/metrics", &[]).await;
    assert!(
        !text.contains("verb=\"APPLY\"") && !text.contains("resource=\"endpoints\",sub"),
        "{text}"
    );
}

/// Programs of people get JSON that they can read.
#[tokio::test]
async fn who_gets_indented_json() {
    let s = Server::start().await;
    s.json("POST", MAPS, &map(json!({"name": "a"}))).await;
    for (agent, query, indented) in [
        ("curl/8.5.0", "", true),
        ("Mozilla/5.0 (X11)", "", true),
        ("kubectl/v1.35.0", "", false),
        ("curl/8.5.0", "?pretty=false", false),
        ("kubectl/v1.35.0", "?pretty=true", true),
        ("kubectl/v1.35.0", "?pretty=true&pretty=0", true),
    ] {
        for path in ["/a", "/none", ""] {
            let (_, text) = s
                .text(&format!("{MAPS}{path}{query}"), &[("user-agent", agent)])
                .await;
            assert_eq!(
                text.starts_with("{\n  \""),
                indented,
                "{agent} {path}{query}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn lists_of_what_is_served_in_other_encodings() {
    let s = Server::start().await;
    let yaml = "application/yaml";
    let protobuf = "application/vnd.kubernetes.protobuf";
    for (path, kind, pointer) in [
        ("/api", "APIVersions", "/versions/0"),
        ("/apis", "APIGroupList", "/groups/0/name"),
        ("/apis/apps", "APIGroup", "/preferredVersion/version"),
        ("/apis/apps/v1", "APIResourceList", "/resources/0/verbs/0"),
        ("/api/v1", "APIResourceList", "/resources/0/name"),
    ] {
        let (_, plain) = s.get(path).await;
        let wanted = plain.pointer(pointer);
        assert!(wanted.is_some(), "{plain}");
        let response = s.send("GET", path, &[("accept", protobuf)], "").await;
        assert_eq!(response.headers()["content-type"], protobuf, "{path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = machinery::protobuf::decode(&bytes).unwrap();
        assert_eq!(
            (&value["kind"], value.pointer(pointer)),
            (&json!(kind), wanted),
            "{path}"
        );
        let (_, text) = s.text(path, &[("accept", yaml)]).await;
        assert!(text.lines().any(|line| line == format!("kind: {kind}")), "{text}");
        let (code, text) = s.text(path, &[("accept", "application/cbor")]).await;
        let words = "Available representations: application/json, application/yaml, application/vnd.kubernetes.protobuf";
        assert!(code == 406 && text.contains(words), "{path}: {code} {text}");
    }
}

/// Metadata alone are asked for as an object or as a list, as the path has it.
#[tokio::test]
async fn metadata_of_the_other_number() {
    let s = Server::start().await;
    s.json("POST", MAPS, &map(json!({"name": "a"}))).await;
    let (one, list) = (format!("{MAPS}/a"), MAPS.to_string());
    for (path, kind, words) in [
        (
            &list,
            "PartialObjectMetadata",
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            &one,
            "PartialObjectMetadataList",
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
    ] {
        let accept = format!("application/json;as={kind};g=meta.k8s.io;v=v1");
        let (code, text) = s.text(path, &[("accept", &accept)]).await;
        assert!(code == 406 && text.contains(words), "{code} {text}");
    }
    // What is not there has no shape.
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let (code, text) = s.text(&format!("{MAPS}/none"), &[("accept", accept)]).await;
    assert!(code == 404 && text.contains("not found"), "{code} {text}");
}

/// Nothing that looks like HTML comes back from a refusal, and no browser guesses.
#[tokio::test]
async fn refusals_are_no_pages() {
    let s = Server::guarded_by(std::sync::Arc::new(Closed), |_| {}).await;
    let response = s.send("GET", "/a%3Cb%3E&c", &[], "").await;
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(!text.contains(['<', '>']), "{text}");
}

/// Too many words of warning are cut, each of them.
#[tokio::test]
async fn many_warnings_are_cut() {
    let s = Server::start().await;
    let fields: serde_json::Map<String, Value> = (0..30)
        .map(|i| (format!("{i:02}{}", "x".repeat(300)), json!(1)))
        .collect();
    let mut body = map(json!({"name": "a"}));
    for (name, value) in fields {
        body[name] = value;
    }
    let (code, told, _) = s.warned("POST", MAPS, &body).await;
    assert_eq!(code, 201);
    // 299, agent and quotes come on top of the words.
    assert_eq!(told.len(), 16, "{told:?}");
    assert!(
        told.iter()
            .all(|warning| warning.starts_with("299 - \"unknown field "))
    );
}

/// Nobody may do anything.
struct Closed;

#[async_trait::async_trait]
impl apiserver::authorize::Authorizer for Closed {
    async fn authorize(
        &self,
        _: &apiserver::user::User,
        _: &apiserver::request::Attributes,
    ) -> apiserver::authorize::Decision {
        apiserver::authorize::Decision::NoOpinion(String::new())
    }
    async fn rules_for(&self, _: &apiserver::user::User, _: &str) -> apiserver::authorize::Rules {
        apiserver::authorize::Rules::default()
    }
}

/// What options mean depends on the verb, and what is no option is told in Go's words.
#[tokio::test]
async fn options_by_the_verb() {
    let s = Server::start().await;
    s.json("POST", MAPS, &map(json!({"name": "a"}))).await;
    let range = "strconv.ParseInt: parsing \"99999999999999999999\": value out of range";
    for (method, path, code, message) in [
        ("GET", format!("{MAPS}/a?limit=x"), 200, ""),
        ("GET", format!("{MAPS}?timeoutSeconds=-1"), 200, ""),
        (
            "GET",
            format!("{MAPS}?limit="),
            400,
            "strconv.ParseInt: parsing \"\": invalid syntax",
        ),
        ("GET", format!("{MAPS}?limit=99999999999999999999"), 400, range),
        (
            "GET",
            format!("{MAPS}/a?resourceVersion=x"),
            500,
            "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "POST",
            "/api/v1/watch/configmaps".into(),
            405,
            "the server does not allow this method on the requested resource",
        ),
        (
            "DELETE",
            format!("{MAPS}/a?dryRun=All&propagationPolicy="),
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"\": supported values: \
             \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            "DELETE",
            format!("{MAPS}/a?dryRun=All&resourceVersion=1"),
            409,
            "",
        ),
    ] {
        let (got, answer) = s.json(method, &path, &Value::Null).await;
        assert_eq!(got, code, "{method} {path}: {answer}");
        if !message.is_empty() {
            assert_eq!(answer["message"], message, "{method} {path}");
        }
    }
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    for (path, told) in [
        ("/apis/apps/v1".to_owned(), types.to_owned()),
        (format!("{MAPS}/a"), types.to_owned()),
        (MAPS.to_owned(), format!("{types}, {streams}")),
    ] {
        let response = s.send("GET", &path, &[("accept", "text/html")], "").await;
        assert_eq!(response.status(), 406, "{path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap();
        let text = format!("406: Not Acceptable\n\nAvailable representations: {told}");
        assert_eq!(status["message"], text, "{path}");
        assert_eq!(status["details"], json!({}), "{path}");
    }
}
