//! Options, selectors, paths and bodies that are odd or wrong: what upstream v1.35 answers to each, as compared with it.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
const JSON: &str = "application/json";
const NO_RESOURCE: &str = "the server could not find the requested resource";

async fn ask(s: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let response = s.send(method, path, headers, body.to_string()).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = || json!({"message": String::from_utf8_lossy(&bytes)});
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn fields_that_may_be_selected_by() {
    let s = Server::start().await;
    let only = r#"is not a known field selector: only "metadata.name", "metadata.namespace""#;
    let not = "field label not supported: ";
    let of_job = r#"field label "status.succeeded" not supported for Job"#;
    let of_slice = "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.x";
    // resource, field => words of the refusal, if there is one
    let cases = [
        ("api/v1/pods", "spec.host=", ""),
        ("api/v1/pods", "status.podIPs=", ""),
        ("api/v1/pods", "spec.x=", not),
        ("api/v1/nodes", "metadata.namespace=", not),
        ("api/v1/namespaces", "metadata.namespace=", not),
        ("api/v1/events", "source=", ""),
        ("api/v1/events", "source.component=", not),
        ("api/v1/events", "involvedObject.name=", ""),
        ("api/v1/events", "regarding.name=", not),
        ("api/v1/events", "reportingController=", not),
        ("apis/events.k8s.io/v1/events", "regarding.name=", ""),
        ("apis/events.k8s.io/v1/events", "reportingController=", ""),
        ("apis/events.k8s.io/v1/events", "involvedObject.name=", not),
        ("apis/events.k8s.io/v1/events", "source=", not),
        ("apis/apps/v1/replicasets", "status.replicas=", only),
        ("api/v1/replicationcontrollers", "status.replicas=", ""),
        ("apis/batch/v1/jobs", "status.successful=", ""),
        ("apis/batch/v1/jobs", "status.succeeded=", of_job),
        ("apis/resource.k8s.io/v1/resourceslices", "spec.x=", of_slice),
        (
            "apis/resource.k8s.io/v1/resourceslices",
            "metadata.namespace=",
            "metadata.namespace",
        ),
        (
            "apis/certificates.k8s.io/v1/certificatesigningrequests",
            "metadata.namespace=",
            not,
        ),
        ("api/v1/componentstatuses", "spec.x=", only),
    ];
    for (resource, field, why) in cases {
        let (code, answer) = s.get(&format!("/{resource}?fieldSelector={field}")).await;
        let message = answer["message"].as_str().unwrap_or_default();
        let wanted = if why.is_empty() { 200 } else { 400 };
        assert!(
            code == wanted && message.contains(why),
            "{resource} {field}: {code} {answer}"
        );
    }
    let components = "/api/v1/componentstatuses?fieldSelector=metadata.name";
    assert_eq!(names(&s.get(&format!("{components}=etcd-0")).await.1), ["etcd-0"]);
    assert_eq!(names(&s.get(&format!("{components}!=etcd-0")).await.1).len(), 2);
    let labelled = s.get("/api/v1/componentstatuses?labelSelector=a").await.1;
    assert_eq!(names(&labelled).len(), 0, "they have no labels");
}

#[tokio::test]
async fn tokens_go_on_in_another_namespace() {
    let s = Server::start().await;
    for (namespace, name) in [
        ("default", "a"),
        ("default", "b"),
        ("kube-system", "a"),
        ("kube-system", "b"),
    ] {
        let map = json!({"metadata": {"name": name, "labels": {"own": "yes"}}});
        let path = format!("/api/v1/namespaces/{namespace}/configmaps");
        assert_eq!(s.json("POST", &path, &map).await.0, 201);
    }
    let first = s.get(&format!("{MAPS}?labelSelector=own&limit=1")).await.1;
    assert_eq!(names(&first), ["a"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    for path in [MAPS, "/api/v1/namespaces/kube-system/configmaps"] {
        let (code, rest) = s.get(&format!("{path}?labelSelector=own&continue={token}")).await;
        assert_eq!((code, names(&rest)), (200, vec!["b"]), "{path}");
    }
    let to_come = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTk5OTk5OTksInN0YXJ0IjoiYlx1MDAwMCJ9";
    let (code, status) = s.get(&format!("{MAPS}?continue={to_come}")).await;
    assert_eq!(code, 504);
    assert_eq!(status["details"]["retryAfterSeconds"], 1, "{status}");
}

#[tokio::test]
async fn odd_requests() {
    let s = Server::start().await;
    let map = json!({"metadata": {"name": "m", "finalizers": ["a.io/b"]}});
    assert_eq!(s.json("POST", MAPS, &map).await.0, 201);
    let json = [("content-type", JSON)];
    let all = r#"dryRun: Unsupported value: ["All","x"]: supported values: "All""#;
    let none = r#"dryRun: Unsupported value: [""]: supported values: "All""#;
    let of_watch = "resourceVersionMatch is forbidden when continue is provided";
    let unnamed = "the name of the object (no based on URL) was undeterminable: name must be provided";
    let number = "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind";
    let no_watch = r#"watch is not supported on resources of kind "componentstatuses""#;
    let available = "406: Not Acceptable\n\nAvailable representations: application/json";
    let unknown = "the body of the request was in an unknown format";
    let scale = "/apis/apps/v1/namespaces/default/deployments/no/scale";
    // method, path, headers, body => code, words of the message
    type Case<'c> = (&'c str, String, &'c [(&'c str, &'c str)], &'c str, u16, &'c str);
    let cases: Vec<Case> = vec![
        // Queries: what Go cannot read is not there.
        ("GET", format!("{MAPS}?limit=%zz"), &[], "", 200, ""),
        ("GET", format!("{MAPS}?limit=x;y"), &[], "", 200, ""),
        ("GET", format!("{MAPS}?limit=x"), &[], "", 400, "strconv.ParseInt"),
        (
            "GET",
            format!("{MAPS}?watch=1&continue=x"),
            &[],
            "",
            422,
            of_watch,
        ),
        (
            "GET",
            format!("{MAPS}?watch=1&timeoutSeconds=1&includeObject=x"),
            &[],
            "",
            200,
            "",
        ),
        (
            "GET",
            format!("{MAPS}?resourceVersion=00&limit=1"),
            &[],
            "",
            200,
            "",
        ),
        // What is only tried.
        ("DELETE", format!("{MAPS}/m?dryRun="), &[], "", 422, none),
        (
            "DELETE",
            format!("{MAPS}/m?dryRun=All&dryRun=x"),
            &[],
            "",
            422,
            all,
        ),
        (
            "POST",
            format!("{MAPS}?dryRun=All&dryRun=x"),
            &json,
            r#"{"metadata":{"name":"n"}}"#,
            422,
            all,
        ),
        // Bodies of deletions.
        ("DELETE", format!("{MAPS}/m"), &json, r#"{"kind":5}"#, 400, number),
        (
            "DELETE",
            format!("{MAPS}/m"),
            &json,
            r#"{"kind":"DeleteOptions","apiVersion":"a/b/c"}"#,
            400,
            "unexpected GroupVersion string: a/b/c",
        ),
        // Paths.
        ("GET", format!("{MAPS}%2Fm"), &[], "", 200, ""),
        (
            "GET",
            "/api%2Fv1/namespaces/default/configmaps/m".into(),
            &[],
            "",
            200,
            "",
        ),
        ("GET", format!("{MAPS}/m%2Fx"), &[], "", 404, NO_RESOURCE),
        (
            "GET",
            "//api/v1/namespaces/default/configmaps/m".into(),
            &[],
            "",
            404,
            "404 page not found",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/pods/p/status/x".into(),
            &[],
            "",
            404,
            NO_RESOURCE,
        ),
        (
            "GET",
            "/api/v1/watch/configmaps/m".into(),
            &[],
            "",
            404,
            NO_RESOURCE,
        ),
        (
            "GET",
            "/api/v1/watch/componentstatuses".into(),
            &[],
            "",
            404,
            NO_RESOURCE,
        ),
        (
            "GET",
            format!("{REVIEWS}/watch/subjectaccessreviews"),
            &[],
            "",
            404,
            NO_RESOURCE,
        ),
        (
            "GET",
            "/api/v1/componentstatuses?watch=1".into(),
            &[],
            "",
            405,
            no_watch,
        ),
        // Media types.
        ("POST", MAPS.into(), &[("content-type", ";")], "{}", 415, unknown),
        (
            "POST",
            MAPS.into(),
            &[("content-type", "application/json; a=\"")],
            "{}",
            415,
            unknown,
        ),
        (
            "GET",
            "/version".into(),
            &[("accept", "text/html")],
            "",
            406,
            available,
        ),
        (
            "GET",
            "/version".into(),
            &[("accept", "text/html, */*;q=0.1")],
            "",
            200,
            "",
        ),
        (
            "GET",
            format!("{MAPS}/m"),
            &[("accept", "application/json;as=;v=;g=")],
            "",
            200,
            "",
        ),
        // A scale is read before what is scaled is looked for.
        ("PUT", scale.into(), &json, "{}", 400, unnamed),
        (
            "PATCH",
            scale.into(),
            &json,
            "{}",
            415,
            "415: Unsupported Media Type",
        ),
        (
            "GET",
            scale.into(),
            &[],
            "",
            404,
            "deployments.apps \"no\" not found",
        ),
    ];
    for (method, path, headers, body, code, why) in cases {
        let (got, answer) = match path.contains("timeoutSeconds") {
            true => (
                s.send(method, &path, headers, "").await.status().as_u16(),
                Value::Null,
            ),
            false => ask(&s, method, &path, headers, body).await,
        };
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(
            got == code && message.contains(why),
            "{method} {path} {body}: {got} {answer}"
        );
    }
    let long = format!("kind: {}", "x".repeat(40));
    let (_, status) = ask(&s, "POST", MAPS, &json, &long).await;
    let shown: String = long.bytes().take(30).map(|b| format!("{b:02x}")).collect();
    let message = status["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("({shown} ...)")), "{message}");
}

#[tokio::test]
async fn what_is_looked_at_first() {
    let s = Server::start().await;
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}"#;
    assert_eq!(ask(&s, "POST", MAPS, &[("content-type", JSON)], map).await.0, 201);
    let (odd, one) = (
        "application/xml",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    );
    let too_large = "Too large resource version";
    for (method, query, accept, code, why) in [
        // Numbers in the order of the fields, then selectors, then what they mean together, then the shape.
        (
            "GET",
            "limit=x&timeoutSeconds=y",
            JSON,
            400,
            "strconv.ParseInt: parsing \"y\": invalid syntax",
        ),
        (
            "GET",
            "labelSelector=a b&limit=x",
            JSON,
            400,
            "strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "GET",
            "sendInitialEvents=true&labelSelector=a b",
            JSON,
            400,
            "found 'b', expected: ",
        ),
        (
            "GET",
            "sendInitialEvents=true&fieldSelector=a",
            JSON,
            400,
            "can't understand 'a'",
        ),
        (
            "GET",
            "sendInitialEvents=true&fieldSelector=a=b",
            JSON,
            422,
            "sendInitialEvents is forbidden for list",
        ),
        (
            "GET",
            "fieldSelector=a=b",
            one,
            400,
            "\"a\" is not a known field selector",
        ),
        ("GET", "resourceVersion=99999", one, 504, too_large),
        ("GET", "", one, 406, "the requested object is a list"),
        (
            "DELETE",
            "dryRun=All&labelSelector=a b",
            one,
            400,
            "found 'b', expected: ",
        ),
        ("DELETE", "dryRun=All", one, 406, "the requested object is a list"),
        // Paths and methods before media types.
        (
            "PUT",
            "",
            odd,
            405,
            "the server does not allow this method on the requested resource",
        ),
        ("GET", "", odd, 406, "406: Not Acceptable"),
        // What is empty is no precondition, and what is nothing selects everything.
        ("DELETE", "dryRun=All&resourceVersion=&uid=", JSON, 200, ""),
        ("GET", "fieldSelector==,!=", JSON, 200, ""),
    ] {
        let path = format!("{MAPS}?{}", query.replace(' ', "%20"));
        let (answered, said) = ask(&s, method, &path, &[("accept", accept)], "").await;
        let message = said["message"].as_str().unwrap_or_default();
        assert_eq!(answered, code, "{method} {query} {accept}: {message}");
        assert!(message.contains(why), "{method} {query} {accept}: {message}");
        if code == 504 {
            assert_eq!(said["details"]["retryAfterSeconds"], 1, "{said}");
        }
    }
}

#[tokio::test]
async fn warnings_come_with_what_is_answered() {
    let s = Server::start().await;
    for (method, path, count) in [
        ("GET", "/api/v1/componentstatuses", 1),
        ("POST", "/api/v1/componentstatuses", 0),
        ("GET", "/api/v1/watch/componentstatuses", 0),
    ] {
        let response = s.send(method, path, &[], "").await;
        let told = response.headers().get_all("warning").iter().count();
        assert_eq!(told, count, "{method} {path}");
    }
}

#[tokio::test]
async fn reviews() {
    let s = Server::start().await;
    let selector = |requirement: Value| {
        let attributes = json!({"verb": "list", "resource": "pods", "namespace": "default",
            "labelSelector": {"requirements": [requirement]}});
        json!({"spec": {"user": "u", "resourceAttributes": attributes}}).to_string()
    };
    let newer = selector(json!({"key": "a", "operator": "Newer", "values": ["b"]}));
    let value = selector(json!({"key": "a", "operator": "In", "values": ["b c"]}));
    let one = r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#;
    let labelled = r#"{"metadata":{"labels":{"a":"b"}},"spec":{"user":"u","resourceAttributes":{"verb":"get","namespace":"default"}}}"#;
    let of_value = "labelSelector.requirements[0].values[0]: Invalid value: \"b c\": a valid label must be";
    let unrecognized = "the object provided is unrecognized (must be of type SelfSubjectAccessReview): couldn't get \
                        version/kind; json parse error: json: cannot unmarshal array into Go value";
    let own = format!("{REVIEWS}/selfsubjectaccessreviews");
    let others = format!("{REVIEWS}/subjectaccessreviews");
    let here = format!("{REVIEWS}/namespaces/default/localsubjectaccessreviews");
    let ordered = r#"metadata: Invalid value: {"labels":{"a":"b"},"managedFields":[{"manager":"#;
    let ordered_here =
        r#"metadata: Invalid value: {"namespace":"default","labels":{"a":"b"},"managedFields":[{"manager":"#;
    // path, body => code, words of the message
    let cases = [
        (&own, "[]", 400, unrecognized),
        (
            &own,
            "",
            400,
            "(must be of type SelfSubjectAccessReview): couldn't get version/kind",
        ),
        (&own, one, 201, ""),
        (&others, &newer, 201, ""),
        (&others, &value, 422, of_value),
        (&others, labelled, 422, ordered),
        (&here, labelled, 422, ordered_here),
        (&here, labelled, 422, "must be empty except for namespace"),
    ];
    for (path, body, code, why) in cases {
        let (got, answer) = ask(&s, "POST", path, &[("content-type", JSON)], body).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(
            got == code && message.contains(why),
            "{path} {body}: {got} {answer}"
        );
    }
    let (_, answer) = ask(&s, "POST", &others, &[], &newer).await;
    assert_eq!(
        answer["status"]["evaluationError"],
        "spec.resourceAttributes.labelSelector ignored due to parse error"
    );
    let wrong = format!("{own}?dryRun=x");
    let (_, answer) = ask(&s, "POST", &wrong, &[], one).await;
    assert_eq!(answer["details"]["kind"], "CreateOptions");
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (accept, code, kind) in [(metadata, 201, "PartialObjectMetadata"), (table, 406, "Status")] {
        let (got, answer) = ask(&s, "POST", &own, &[("accept", accept)], one).await;
        assert_eq!((got, &answer["kind"]), (code, &json!(kind)), "{answer}");
    }
    let rules = format!("{REVIEWS}/selfsubjectrulesreviews");
    let (_, answer) = ask(&s, "POST", &rules, &[], r#"{"spec":{"namespace":"default"}}"#).await;
    assert_eq!((&answer["metadata"], &answer["spec"]), (&json!({}), &json!({})));
}

#[tokio::test]
async fn bookmarks_have_a_revision_and_nothing_else() {
    let s = Server::start().await;
    let mut watch = s
        .watch(&format!("{MAPS}?watch=1&labelSelector=none&allowWatchBookmarks=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"))
        .await;
    let bookmark = watch.next().await.unwrap();
    let mut metadata = bookmark["object"]["metadata"].clone();
    assert!(metadata["resourceVersion"].is_string());
    metadata.as_object_mut().unwrap().remove("resourceVersion");
    let end = json!({"annotations": {"k8s.io/initial-events-end": "true"}});
    assert_eq!((&bookmark["type"], metadata), (&json!("BOOKMARK"), end));
}
