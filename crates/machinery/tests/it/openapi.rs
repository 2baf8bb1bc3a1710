//! OpenAPI documents at their public face: whole, unambiguous, and with what kubectl looks for.

use std::collections::BTreeSet;

use kinds::KindInfo;
use machinery::openapi::{is_root, v2, v2_protobuf, v3_group_version, v3_index, v3_protobuf, v3_root};
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

fn check_references(document: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let place = reference.strip_prefix('#').and_then(|at| document.pointer(at));
        assert!(place.is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn documents_are_whole() {
    let document = v2(&all());
    check_references(&document);
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
        assert!(is_root(&all(), path), "{path}");
        let document = v3_root(&all(), path);
        // What is about tokens refers to nothing.
        if !path.contains("open") {
            check_references(&document);
        }
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
    let mut counts = [0_usize; 3];
    while let Some((tag, content)) = reader.field().expect("a message") {
        let Content::Bytes(inner) = content else { continue };
        let wanted = match tag {
            1 => {
                assert_eq!(inner, b"2.0");
                continue;
            }
            8 => (0, 2),
            9 => (1, 1),
            10 => (2, 1),
            _ => continue,
        };
        let mut entries = Reader::new(inner);
        while let Some((tag, _)) = entries.field().expect("a message") {
            counts[wanted.0] += usize::from(tag == wanted.1);
        }
    }
    let sizes = ["paths", "definitions", "parameters"]
        .map(|key| document[key].as_object().map_or(0, |map| map.len()));
    assert_eq!(counts, sizes);
}

/// What the fields of a message hold one of which leads to the next.
fn inside<'b>(mut bytes: &'b [u8], way: &[(u32, &str)]) -> Vec<(u32, Content<'b>)> {
    for (tag, name) in way {
        let mut reader = Reader::new(bytes);
        bytes = loop {
            let (found, content) = reader.field().expect("a message").expect("the field");
            let Content::Bytes(inner) = content else { continue };
            let is_named = || Reader::new(inner).field() == Ok(Some((1, Content::Bytes(name.as_bytes()))));
            if found == *tag && (name.is_empty() || is_named()) {
                break inner;
            }
        };
    }
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(|| reader.field().expect("a message")).collect()
}

#[test]
fn gnostic_of_v3_says_what_the_document_says() {
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.35.0"},
        "paths": {"/a": {"get": {"operationId": "readA", "responses": {"200": {"description": "OK"}}}}},
        "components": {"schemas": {
            "A": {"type": "object", "properties": {
                "flag": {"type": "boolean", "default": false},
                "map": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/B"}},
                "none": {"default": {}, "maximum": 1.5, "minLength": 0, "maxLength": 300},
            }},
            "B": {"type": "string", "enum": ["x"]},
        }},
    });
    let bytes = v3_protobuf(&document);
    let text = |tag, text: &'static str| (tag, Content::Bytes(text.as_bytes()));
    let schema = |name: &'static str| vec![(5, ""), (1, ""), (1, name), (2, ""), (1, "")];
    let property = |name: &'static str| {
        let mut way = schema("A");
        way.extend([(31, ""), (1, name), (2, ""), (1, "")]);
        way
    };
    let cases = [
        (vec![(2, "")], vec![text(1, "Kubernetes"), text(6, "v1.35.0")]),
        (
            vec![
                (4, ""),
                (1, "/a"),
                (2, ""),
                (4, ""),
                (8, ""),
                (2, "200"),
                (2, ""),
                (1, ""),
            ],
            vec![text(1, "OK")],
        ),
        ([schema("B"), vec![(24, "")]].concat(), vec![text(2, "x\n")]),
        (
            [property("flag"), vec![(33, "")]].concat(),
            vec![(2, Content::Varint(0))],
        ),
        (
            [property("map"), vec![(32, ""), (1, ""), (2, "")]].concat(),
            vec![text(1, "#/components/schemas/B")],
        ),
        (
            property("none"),
            vec![
                (11, Content::Fixed64(1.5_f64.to_bits())),
                (15, Content::Varint(300)),
                text(33, ""),
            ],
        ),
    ];
    for (way, wanted) in cases {
        assert_eq!(inside(&bytes, &way), wanted, "{way:?}");
    }
}

#[test]
fn gnostic_of_v3_has_all_schemas() {
    for group_version in ["v1", "apps/v1", "apiextensions.k8s.io/v1"] {
        let document = v3_group_version(&all(), group_version);
        let bytes = v3_protobuf(&document);
        let names = |way: &[(u32, &str)]| -> Vec<String> {
            let entries = inside(&bytes, way).into_iter();
            let name = |(_, content): (u32, Content)| match content {
                Content::Bytes(entry) => match Reader::new(entry).field() {
                    Ok(Some((1, Content::Bytes(name)))) => String::from_utf8_lossy(name).into_owned(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            entries.map(name).collect()
        };
        let keys = |value: &Value| Vec::from_iter(value.as_object().expect("a map").keys().cloned());
        assert_eq!(names(&[(4, "")]), keys(&document["paths"]));
        assert_eq!(
            names(&[(5, ""), (1, "")]),
            keys(&document["components"]["schemas"])
        );
    }
}

/// Names of parameters, those in the path with a slash before them, and those told for all documents looked up.
fn names(document: &Value, parameters: &Value) -> Vec<String> {
    let name = |p: &Value| {
        let shared = p["$ref"].as_str().map(|at| at.trim_start_matches('#'));
        let p = shared.map_or(p, |at| document.pointer(at).expect("a parameter of that name"));
        assert!(p["in"] == "body" || p["description"] != "", "{p} says nothing");
        let name = p["name"].as_str().unwrap_or_default();
        if p["in"] == "path" {
            format!("/{name}")
        } else {
            name.to_owned()
        }
    };
    parameters.as_array().into_iter().flatten().map(name).collect()
}

#[test]
fn what_all_operations_take_is_told_of_the_path() {
    let document = v2(&all());
    for (path, method, shared, own) in [
        (
            "/api/v1/namespaces/{namespace}/configmaps/{name}",
            "get",
            "/name /namespace pretty",
            "",
        ),
        (
            "/api/v1/namespaces/{namespace}/configmaps/{name}",
            "delete",
            "/name /namespace pretty",
            "body dryRun gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents propagationPolicy",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/binding",
            "post",
            "dryRun fieldManager fieldValidation /name /namespace pretty",
            "body",
        ),
        (
            "/api/v1/nodes/{name}/proxy/{path}",
            "options",
            "/name /path path",
            "",
        ),
        (
            "/api/v1/watch/namespaces/{name}",
            "get",
            "allowWatchBookmarks continue fieldSelector labelSelector limit /name pretty resourceVersion \
             resourceVersionMatch sendInitialEvents timeoutSeconds watch",
            "",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/log",
            "get",
            "container follow insecureSkipTLSVerifyBackend limitBytes /name /namespace pretty previous sinceSeconds \
             stream tailLines timestamps",
            "",
        ),
        ("/apis/apps/", "get", "", ""),
    ] {
        let item = &document["paths"][path];
        assert_eq!(names(&document, &item["parameters"]).join(" "), shared, "{path}");
        assert!(item[method].is_object(), "{method} {path}");
        assert_eq!(
            names(&document, &item[method]["parameters"]).join(" "),
            own,
            "{method} {path}"
        );
    }
}

#[test]
fn operations_and_parameters_say_what_they_are_for() {
    let document = v2(&all());
    let at = |pointer: &str| document.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
    for (path, method, words) in [
        ("~1api~1v1~1namespaces~1{namespace}~1pods", "post", "create a Pod"),
        (
            "~1api~1v1~1namespaces~1{namespace}~1endpoints",
            "post",
            "create Endpoints",
        ),
        (
            "~1apis~1networking.k8s.io~1v1~1namespaces~1{namespace}~1ingresses",
            "post",
            "create an Ingress",
        ),
        ("~1api~1v1~1pods", "get", "list or watch objects of kind Pod"),
        (
            "~1api~1v1~1namespaces~1{namespace}~1pods~1{name}~1status",
            "put",
            "replace status of the specified Pod",
        ),
        (
            "~1api~1v1~1namespaces~1{namespace}~1pods~1{name}~1eviction",
            "post",
            "create eviction of a Pod",
        ),
        (
            "~1api~1v1~1namespaces~1{namespace}~1pods~1{name}~1exec",
            "get",
            "connect GET requests to exec of Pod",
        ),
        (
            "~1apis~1apps~1v1~1namespaces~1{namespace}~1deployments~1{name}~1scale",
            "patch",
            "partially update scale of the specified Deployment",
        ),
        ("~1apis~1apps~1", "get", "get information of a group"),
    ] {
        assert_eq!(at(&format!("/paths/{path}/{method}/description")), words);
    }
    let scale = at("/paths/~1apis~1apps~1v1~1namespaces~1{namespace}~1deployments~1{name}~1scale/parameters");
    let name = scale
        .as_array()
        .into_iter()
        .flatten()
        .find(|p| p["name"] == "name");
    assert_eq!(name.expect("a name")["description"], "name of the Scale");
    // kubectl looks for these in the operation itself.
    let patch = at("/paths/~1api~1v1~1namespaces~1{namespace}~1configmaps~1{name}/patch/parameters");
    for wanted in ["dryRun", "fieldValidation"] {
        let found = patch.as_array().into_iter().flatten();
        assert!(found.into_iter().any(|p| p["name"] == wanted), "{wanted}");
    }
}

#[test]
fn operations_have_the_names_of_generated_clients() {
    let paths = &v2(&all())["paths"];
    for (path, method, id, action) in [
        (
            "/api/v1/watch/namespaces/{namespace}/pods",
            "get",
            "watchCoreV1NamespacedPodList",
            "watchlist",
        ),
        (
            "/apis/apps/v1/watch/deployments",
            "get",
            "watchAppsV1DeploymentListForAllNamespaces",
            "watchlist",
        ),
        ("/api/v1/watch/nodes/{name}", "get", "watchCoreV1Node", "watch"),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/proxy",
            "delete",
            "connectCoreV1DeleteNamespacedPodProxy",
            "connect",
        ),
        ("/api/v1/", "get", "getCoreV1APIResources", ""),
        (
            "/apis/rbac.authorization.k8s.io/",
            "get",
            "getRbacAuthorizationAPIGroup",
            "",
        ),
        ("/version/", "get", "getCodeVersion", ""),
    ] {
        let operation = &paths[path][method];
        assert_eq!(operation["operationId"], id);
        assert_eq!(
            operation["x-kubernetes-action"].as_str().unwrap_or_default(),
            action,
            "{id}"
        );
    }
}

#[test]
fn only_documents_of_v3_have_defaults() {
    let schemas = &v3_group_version(&all(), "v1")["components"]["schemas"];
    let old = &v2(&all())["definitions"];
    for (definition, field, default) in [
        ("core.v1.ContainerPort", "containerPort", json!(0)),
        ("core.v1.ContainerPort", "protocol", json!("TCP")),
        ("core.v1.ContainerPort", "hostPort", Value::Null),
        ("core.v1.ContainerStatus", "ready", json!(false)),
        ("core.v1.ServicePort", "targetPort", Value::Null),
        ("core.v1.Pod", "spec", json!({})),
        ("core.v1.Event", "involvedObject", json!({})),
        ("core.v1.LocalObjectReference", "name", json!("")),
    ] {
        let name = format!("io.k8s.api.{definition}");
        assert_eq!(
            schemas[&name]["properties"][field]["default"], default,
            "{definition} {field}"
        );
        assert_eq!(
            old[&name]["properties"][field]["default"],
            Value::Null,
            "{definition} {field}"
        );
    }
    let kinds =
        &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"]["x-kubernetes-group-version-kind"];
    assert_eq!(
        *kinds,
        json!([{"group": "", "kind": "DeleteOptions", "version": "v1"}])
    );
}
