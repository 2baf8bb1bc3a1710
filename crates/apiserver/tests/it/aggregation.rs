//! Aggregated APIs: another server behind an APIService, its availability, its place in discovery, who it is told asks.

#![allow(clippy::unwrap_used)]

use super::common;
use super::hook;

use apiserver::aggregation::ProxyClient;
use common::Server;
use hook::Hook;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// One that could not be asked in time is asked again after half a minute.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for a condition of an APIService; answers it.
async fn available(s: &Server, name: &str, reason: &str) -> Value {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let (_, service) = s.get(&format!("{SERVICES}/{name}")).await;
        let condition = service["status"]["conditions"][0].clone();
        if condition["reason"] == reason {
            return condition;
        }
        assert!(tokio::time::Instant::now() < deadline, "{service}");
        tokio::task::yield_now().await;
    }
}

/// An authority and a client certificate that it signed.
fn client() -> (rustls_pki_types::CertificateDer<'static>, ProxyClient) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let proxy = ProxyClient {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        ca_pem: authority.pem(),
    };
    (authority.der().clone(), proxy)
}

/// What the other server says of itself: a kind of its own, a definition like ours, one unlike ours, and more than is asked.
fn openapi_v2() -> Value {
    let to = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1";
    json!({"swagger": "2.0", "paths": {
            "/apis/agg.example.com/v1/things": {"get": {"responses": {"200": {"schema": to("com.example.agg.v1.Thing")}}}},
            "/apis/other.example.com/v1/things": {"get": {}}},
        "definitions": {
            "com.example.agg.v1.Thing": {"type": "object", "description": "A thing.", "properties": {
                "metadata": to(&format!("{meta}.ObjectMeta")), "group": to(&format!("{meta}.GroupVersionForDiscovery"))}},
            format!("{meta}.ObjectMeta"): {"type": "object", "properties": {"name": {"type": "string"}}},
            format!("{meta}.GroupVersionForDiscovery"): {"type": "object", "description": "theirs",
                "required": ["groupVersion", "version"],
                "properties": {"groupVersion": {"type": "string"}, "version": {"type": "string"}}},
            "com.example.unused": {"type": "object"}}})
}

#[tokio::test]
async fn another_server() {
    let (authority, proxy) = client();
    let hook = Hook::trusting(Some(authority), |path, _| match path {
        "/apis/agg.example.com/v1" => (200, json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "agg.example.com/v1",
            "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"]},
                {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]}]})),
        "/openapi/v3" => (200, json!({"paths": {"apis/agg.example.com/v1": {
            "serverRelativeURL": "/openapi/v3/apis/agg.example.com/v1?hash=ABC"}}})),
        "/openapi/v3/apis/agg.example.com/v1?hash=ABC" => (200, json!({"openapi": "3.0.0", "info": {"title": "theirs"}})),
        "/openapi/v2" => (200, openapi_v2()),
        _ => (200, json!({"kind": "Thing", "path": path})),
    })
    .await;
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.proxy_client = Some(proxy)).await;
    let service = |port: u16| {
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.agg.example.com"},
            "spec": {"group": "agg.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "caBundle": hook.ca, "service": {"namespace": "default", "name": "agg", "port": port}}})
    };
    let (code, made) = s.json("POST", SERVICES, &service(hook.port)).await;
    assert_eq!(code, 201, "{made}");
    let missing = available(&s, "v1.agg.example.com", "ServiceNotFound").await;
    assert_eq!(
        (&missing["status"], &missing["message"]),
        (
            &json!("False"),
            &json!("service/agg in \"default\" is not present")
        )
    );
    let things = "/apis/agg.example.com/v1/namespaces/default/things/a?x=1";
    assert_eq!(s.text(things, &[]).await, (503, "service unavailable\n".into()));

    let services = "/api/v1/namespaces/default/services";
    let inner = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "agg"},
        "spec": {"ports": [{"name": "https", "port": hook.port}]}});
    assert_eq!(s.json("POST", services, &inner).await.0, 201);
    let none = available(&s, "v1.agg.example.com", "EndpointsNotFound").await;
    let told = "cannot find endpointslices for service/agg in \"default\"";
    assert_eq!(none["message"], told);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "agg", "labels": {"kubernetes.io/service-name": "agg"}}, "endpoints": [], "ports": []});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    assert_eq!(s.json("POST", slices, &slice).await.0, 201);
    let none = available(&s, "v1.agg.example.com", "MissingEndpoints").await;
    let told = "endpointslices for service/agg in \"default\" have no addresses with port name \"https\"";
    assert_eq!(none["message"], told);
    for path in [format!("{services}/agg"), format!("{slices}/agg")] {
        assert_eq!(s.json("DELETE", &path, &Value::Null).await.0, 200);
    }
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "agg"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    let (code, made) = s
        .json("POST", "/api/v1/namespaces/default/services", &external)
        .await;
    assert_eq!(code, 201, "{made}");
    let passed = available(&s, "v1.agg.example.com", "Passed").await;
    assert_eq!(
        (&passed["status"], &passed["message"]),
        (&json!("True"), &json!("all checks passed"))
    );

    let headers = [
        ("x-user", "alice"),
        ("authorization", "Bearer secret"),
        ("x-remote-user", "root"),
    ];
    let (code, text) = s.text(things, &headers).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &answer["path"]), (200, &json!(things)));
    // The server asks for itself, too, whenever something changes.
    let seen = hook.headers.lock()[things].clone();
    let all = |name: &str| {
        seen.get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("x-remote-user"), ["alice"]);
    assert_eq!(all("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert!(all("authorization").is_empty(), "credentials stay here");

    // A group stands where the highest priority of its versions puts it, behind what they register with.
    for (version, group, priority) in [("v1", "first", 20_000), ("v2", "first", 1), ("v1", "last", 1)] {
        let name = format!("{version}.{group}.example.com");
        let other = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
            "spec": {"group": format!("{group}.example.com"), "version": version, "groupPriorityMinimum": priority,
                "versionPriority": 10, "caBundle": hook.ca, "service": {"namespace": "default", "name": "none"}}});
        assert_eq!(s.json("POST", SERVICES, &other).await.0, 201);
        available(&s, &name, "ServiceNotFound").await;
    }
    let (_, groups) = s.get("/apis").await;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names[..3],
        ["apiregistration.k8s.io", "first.example.com", "apps"]
    );
    assert_eq!(names[names.len() - 2..], ["agg.example.com", "last.example.com"]);
    let (code, group) = s.get("/apis/agg.example.com").await;
    assert_eq!(
        (code, &group["preferredVersion"]["groupVersion"]),
        (200, &json!("agg.example.com/v1"))
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (_, text) = s.text("/apis", &[("accept", accept)]).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    let item = document["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|i| i["metadata"]["name"] == "agg.example.com")
        .unwrap();
    let resource = &item["versions"][0]["resources"][0];
    assert_eq!(
        (
            &resource["resource"],
            &resource["scope"],
            &resource["responseKind"]["kind"]
        ),
        (&json!("things"), &json!("Namespaced"), &json!("Thing"))
    );
    assert_eq!(resource["subresources"][0]["subresource"], "status");

    // Its OpenAPI is found with ours: merged in v2, by the index in v3.
    let (_, index) = s.get("/openapi/v3").await;
    let address = &index["paths"]["apis/agg.example.com/v1"]["serverRelativeURL"];
    assert_eq!(address, "/openapi/v3/apis/agg.example.com/v1?hash=ABC");
    let (code, document) = s.get(address.as_str().unwrap()).await;
    assert_eq!((code, &document["info"]["title"]), (200, &json!("theirs")));
    let (_, document) = s.get("/openapi/v2").await;
    let definitions = &document["definitions"];
    let thing = &definitions["com.example.agg.v1.Thing"];
    assert_eq!(thing["description"], "A thing.");
    let unlike = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta_v2";
    assert_eq!(
        thing["properties"]["metadata"]["$ref"],
        format!("#/definitions/{unlike}")
    );
    assert!(definitions[unlike].is_object());
    let alike = "io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionForDiscovery";
    assert_eq!(
        thing["properties"]["group"]["$ref"],
        format!("#/definitions/{alike}")
    );
    assert!(document["paths"]["/apis/agg.example.com/v1/things"].is_object());
    assert!(document["paths"]["/apis/other.example.com/v1/things"].is_null());
    assert!(definitions["com.example.unused"].is_null());

    let (_, map) = s
        .get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        .await;
    assert_eq!(
        map["data"]["requestheader-username-headers"],
        "[\"X-Remote-User\"]"
    );
    assert_ne!(
        map["data"]["requestheader-allowed-names"], "[]",
        "an empty list would allow all"
    );
    // Our own versions are registered too.
    let local = available(&s, "v1.apps", "Local").await;
    assert_eq!(local["message"], "Local APIServices are always available");
    let (code, _) = s
        .json("DELETE", &format!("{SERVICES}/v1.agg.example.com"), &Value::Null)
        .await;
    assert_eq!(code, 200);
    s.until("/apis/agg.example.com", |code, _| code == 404).await;
}

#[tokio::test]
async fn services_of_our_own_have_their_places() {
    let s = Server::start().await;
    for (name, group, version) in [
        ("v1.", 18_000, 1),
        ("v1.events.k8s.io", 17_750, 15),
        ("v2.autoscaling", 17_500, 30),
        ("v1.resource.k8s.io", 16_200, 21),
        ("v1.apiextensions.k8s.io", 16_700, 15),
    ] {
        available(&s, name, "Local").await;
        let (_, found) = s.get(&format!("{SERVICES}/{name}")).await;
        let spec = &found["spec"];
        assert_eq!(
            (&spec["groupPriorityMinimum"], &spec["versionPriority"]),
            (&json!(group), &json!(version)),
            "{name}"
        );
    }
    let (_, groups) = s.get("/apis").await;
    let groups = groups["groups"].as_array().unwrap().iter();
    let names: Vec<&str> = groups.map(|g| g["name"].as_str().unwrap()).collect();
    let place = |name: &str| names.iter().position(|n| *n == name).unwrap();
    assert_eq!(
        place("apiextensions.k8s.io"),
        place("admissionregistration.k8s.io") + 1
    );
    assert_eq!(place("resource.k8s.io"), place("discovery.k8s.io") + 1);
    // What is made for a definition stays as it is made; what is made once is left alone.
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.own.example.com"}, "spec": {"group": "own.example.com", "scope": "Cluster",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    assert_eq!(s.json("POST", crds, &crd).await.0, 201);
    let own = format!("{SERVICES}/v1.own.example.com");
    s.until(&own, |code, _| code == 200).await;
    for (name, kept) in [("v1.batch", 5), ("v1.own.example.com", 100)] {
        let path = format!("{SERVICES}/{name}");
        let (code, said) = s
            .json("PATCH", &path, &json!({"spec": {"versionPriority": 5}}))
            .await;
        assert_eq!(code, 200, "{said}");
        s.until(&path, |_, found| found["spec"]["versionPriority"] == kept)
            .await;
    }
}
