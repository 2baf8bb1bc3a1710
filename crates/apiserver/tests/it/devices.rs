//! Dynamic resource allocation (`resource.k8s.io/v1`): what claims, classes and slices may say, in upstream's words.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";

fn claim(requests: Value, more: Value) -> Value {
    let mut claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"},
        "spec": {"devices": {"requests": requests}}});
    for (field, value) in more.as_object().unwrap() {
        claim["spec"]["devices"][field] = value.clone();
    }
    claim
}

fn exactly(more: Value) -> Value {
    let mut request = json!({"deviceClassName": "gpu"});
    for (field, value) in more.as_object().unwrap() {
        request[field] = value.clone();
    }
    json!([{"name": "r", "exactly": request}])
}

/// The message without its beginning `Kind.group "name" is invalid: `.
fn fault(said: &Value) -> &str {
    let Some(message) = said["message"].as_str() else {
        panic!("no refusal: {said}");
    };
    message
        .split_once(" is invalid: ")
        .map_or(message, |(_, why)| why)
}

#[tokio::test]
async fn claims_say_what_they_want() {
    let s = Server::guarded().await;
    let none = json!({});
    let select = |text: &str| exactly(json!({"selectors": [{"cel": {"expression": text}}]}));
    for (body, wanted) in [
        (claim(exactly(none.clone()), none.clone()), ""),
        (
            claim(
                select(
                    "device.driver == 'gpu.example.com' && device.attributes['gpu.example.com'].model == 'x'",
                ),
                none.clone(),
            ),
            "",
        ),
        (
            claim(
                select("device.capacity['gpu.example.com'].memory.compareTo(quantity('1Gi')) >= 0"),
                none.clone(),
            ),
            "",
        ),
        (
            claim(
                json!([{"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "x"}, {"name": "b", "deviceClassName": "y"}]}]),
                json!({"constraints": [{"requests": ["r"], "matchAttribute": "a.b/c"}], "config": [{"requests": ["r/a"],
                    "opaque": {"driver": "a.b", "parameters": {"x": 1}}}]}),
            ),
            "",
        ),
        (
            claim(json!([{"name": "r"}]), none.clone()),
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            claim(json!([{"name": "r", "exactly": {}}]), none.clone()),
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
        ),
        (
            claim(exactly(json!({"count": -1})), none.clone()),
            "spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
        ),
        (
            claim(
                exactly(json!({"allocationMode": "All", "count": 1})),
                none.clone(),
            ),
            "spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'",
        ),
        (
            claim(exactly(json!({"allocationMode": "Some"})), none.clone()),
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ),
        (
            claim(exactly(json!({"selectors": [{}]})), none.clone()),
            "spec.devices.requests[0].exactly.selectors[0].cel: Required value",
        ),
        (
            claim(select("1"), none.clone()),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"1\": must evaluate to bool or the \
             unknown type, not int",
        ),
        (
            claim(select("device.nope"), none.clone()),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: \"device.nope\": compilation failed: \
             ERROR: <input>:1:7: undefined field 'nope'\n | device.nope\n | ......^",
        ),
        (
            claim(
                json!([{"name": "r", "exactly": {"deviceClassName": "x"}}, {"name": "r", "exactly": {"deviceClassName": "x"}}]),
                none.clone(),
            ),
            "spec.devices.requests[1]: Duplicate value: \"r\"",
        ),
        (
            claim(
                exactly(none.clone()),
                json!({"constraints": [{"requests": ["x"], "matchAttribute": "a"}]}),
            ),
            "[spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim or the \
             name of a request and a subrequest separated by '/', spec.devices.constraints[0].matchAttribute: Invalid value: \
             \"a\": a fully qualified name must be a domain and a name separated by a slash]",
        ),
        (
            claim(
                exactly(none.clone()),
                json!({"config": [{"opaque": {"driver": ""}}]}),
            ),
            "[spec.devices.config[0].opaque.driver: Required value, spec.devices.config[0].opaque.parameters: Required value]",
        ),
        (
            claim(exactly(json!({"adminAccess": true})), none.clone()),
            "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the \
             containing namespace",
        ),
    ] {
        let (code, said) = s.json("POST", &format!("{CLAIMS}?dryRun=All"), &body).await;
        match wanted {
            "" => assert_eq!(code, 201, "{said}"),
            wanted => assert_eq!((code, fault(&said)), (422, wanted)),
        }
    }
    let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    s.json("PATCH", "/api/v1/namespaces/default", &label).await;
    let admin = claim(exactly(json!({"adminAccess": true})), none);
    let path = format!("{CLAIMS}?dryRun=All");
    s.until("/api/v1/namespaces/default", |_, n| {
        n["metadata"]["labels"]
            .get("resource.kubernetes.io/admin-access")
            .is_some()
    })
    .await;
    let (code, said) = s.json("POST", &path, &admin).await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test]
async fn allocations_fit_their_claim() {
    let s = Server::start().await;
    let (code, said) = s
        .json("POST", CLAIMS, &claim(exactly(json!({})), json!({})))
        .await;
    assert_eq!(code, 201, "{said}");
    let path = format!("{CLAIMS}/c");
    let change = json!({"spec": {"devices": {"requests": []}}});
    let (code, said) = s.json("PATCH", &path, &change).await;
    assert!(
        code == 422 && fault(&said).ends_with("field is immutable"),
        "{said}"
    );
    let result = json!({"request": "r", "driver": "a.b", "pool": "p", "device": "d"});
    let user = json!({"resource": "pods", "name": "p", "uid": "u"});
    let mut administrator = result.clone();
    administrator["adminAccess"] = json!(true);
    for (status, wanted) in [
        (
            json!({"allocation": {"devices": {"results": [result, administrator]}}}),
            "status.allocation.devices.results[1].adminAccess: Forbidden: admin access to devices requires the \
             `resource.kubernetes.io/admin-access: true` label on the containing namespace",
        ),
        (
            json!({"reservedFor": [user]}),
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ),
        (
            json!({"allocation": {"devices": {"results": [{"request": "x", "driver": "", "pool": "", "device": "d"}]}}}),
            "[status.allocation.devices.results[0].request: Invalid value: \"x\": must be the name of a request in the claim or \
             the name of a request and a subrequest separated by '/', status.allocation.devices.results[0].driver: Required \
             value, status.allocation.devices.results[0].pool: Required value]",
        ),
        (
            json!({"devices": [{"driver": "a.b", "pool": "p", "device": "d"}]}),
            "status.devices[0]: Invalid value: {\"Driver\":\"a.b\",\"Pool\":\"p\",\"Device\":\"d\",\"ShareID\":\"\"}: must be an allocated device in the claim",
        ),
        (
            json!({"allocation": {"devices": {"results": [result]}}, "reservedFor": [user]}),
            "",
        ),
        (
            json!({"allocation": {"devices": {"results": []}}}),
            "status.allocation: Invalid value: {\"Devices\":{\"Results\":[],\"Config\":null},\"NodeSelector\":null,\"AllocationTimestamp\":null}: field is immutable",
        ),
        (
            json!({"reservedFor": [user, user]}),
            "status.reservedFor[1]: Duplicate value: \"u\"",
        ),
    ] {
        let (code, said) = s
            .json("PATCH", &format!("{path}/status"), &json!({"status": status}))
            .await;
        match wanted {
            "" => assert_eq!(code, 200, "{said}"),
            wanted => assert_eq!((code, fault(&said)), (422, wanted)),
        }
    }
    // Upstream answers what it deleted.
    let (code, said) = s.json("DELETE", &path, &json!({})).await;
    assert_eq!((code, &said["kind"]), (200, &json!("ResourceClaim")));
}

#[tokio::test]
async fn classes_and_slices() {
    let s = Server::start().await;
    let class = |spec: Value| ("deviceclasses", json!({"metadata": {"name": "d"}, "spec": spec}));
    let slice = |spec: Value| {
        let mut whole = json!({"driver": "a.b", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1, "generation": 1}});
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        (
            "resourceslices",
            json!({"metadata": {"name": "d"}, "spec": whole}),
        )
    };
    const ONE: &str =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    for ((resource, body), wanted) in [
        (class(json!({"selectors": [{"cel": {"expression": "device.driver == 'x'"}}], "extendedResourceName": "example.com/gpu"})), String::new()),
        (
            class(json!({"config": [{}], "extendedResourceName": "belongs to a feature that is off"})),
            "spec.config[0].opaque: Required value".into(),
        ),
        (slice(json!({"devices": [{"name": "d", "attributes": {"m": {"version": "1.2.3-a+b"}, "a.b/x": {"bool": true}}}]})), String::new()),
        (slice(json!({"nodeName": null})), format!("spec: Required value: {ONE}")),
        (
            slice(json!({"allNodes": true})),
            format!("spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {ONE}, but multiple fields are set"),
        ),
        (
            slice(json!({"driver": "", "pool": {"name": "p", "resourceSliceCount": 0, "generation": -1}})),
            "[spec.driver: Required value, spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero, \
             spec.pool.generation: Invalid value: -1: must be greater than or equal to zero]"
                .into(),
        ),
        (
            slice(json!({"devices": [{"name": "d", "attributes": {"x": {"string": "a", "int": 1}}}]})),
            "spec.devices[0].attributes[x]: Invalid value: {\"IntValue\":1,\"BoolValue\":null,\"StringValue\":\"a\",\"VersionValue\":null}: exactly one value must be specified".into(),
        ),
        (
            slice(json!({"devices": [{"name": "d", "attributes": {"x": {"version": "1.2"}}}]})),
            "spec.devices[0].attributes[x].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0".into(),
        ),
    ] {
        let path = format!("/apis/resource.k8s.io/v1/{resource}?dryRun=All");
        let (code, said) = s.json("POST", &path, &body).await;
        match wanted.as_str() {
            "" => assert_eq!(code, 201, "{said}"),
            wanted => assert_eq!((code, fault(&said)), (422, wanted)),
        }
    }
}
