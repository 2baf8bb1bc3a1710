//! Changes of what is there already: which of them are judged again, and by what; what Pods and claims count for a quota.

use super::*;
use crate::view::GroupResource;
use kinds::quantity::Quantity;

/// An update of `old` by the usual user.
fn update(resource: &'static str, old: &Value) -> Write {
    Write {
        operation: Operation::Update,
        old: Some(old.clone()),
        ..create(resource)
    }
}

fn range(limits: Value) -> (&'static str, Value) {
    (
        "limitranges",
        json!({ "metadata": { "namespace": "demo", "name": "limits" }, "spec": { "limits": limits } }),
    )
}

#[tokio::test]
async fn claims_that_go_are_not_held_to_limits() {
    let small = json!([{ "type": "PersistentVolumeClaim", "max": { "storage": "1Gi" } }]);
    let view = demo([range(small)]);
    let chain = chain(&view);
    let mut claim = json!({ "metadata": { "name": "data", "finalizers": ["kubernetes.io/pvc-protection"] },
        "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    let resource = "persistentvolumeclaims";
    let error = run(&chain, &view, &update(resource, &claim), &mut claim.clone()).await;
    let want = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
    assert!(error.unwrap_err().contains(want));
    claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut freed = claim.clone();
    freed["metadata"]["finalizers"] = json!([]);
    run(&chain, &view, &update(resource, &claim), &mut freed)
        .await
        .unwrap();
}

#[tokio::test]
async fn limits_tell_of_containers_first_and_each_once() {
    let limits = json!([{ "type": "Container", "default": { "cpu": "4", "memory": "4Gi" },
        "max": { "cpu": "1", "memory": "1Gi" } }]);
    let view = demo([range(limits)]);
    let chain = chain(&view);
    let mut object = json!({ "metadata": { "namespace": "demo", "name": "web" }, "spec": {
        "initContainers": [{ "name": "i", "resources": { "limits": { "cpu": "3" } } }],
        "containers": [{ "name": "a" }, { "name": "b" }] } });
    let error = run(&chain, &view, &create("pods"), &mut object)
        .await
        .unwrap_err();
    let max = |what: &str, most: &str, is: &str| {
        format!("maximum {what} usage per Container is {most}, but limit is {is}")
    };
    let told = [
        max("cpu", "1", "4"),
        max("memory", "1Gi", "4Gi"),
        max("cpu", "1", "3"),
    ];
    assert_eq!(error, format!("pods \"web\" is forbidden: [{}]", told.join(", ")));
    assert_eq!(
        object["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory limit for container a; cpu, memory limit for container b; \
         memory limit for init container i"
    );
}

#[tokio::test]
async fn pods_are_judged_again_for_images_and_containers_only() {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" });
    let view = demo([namespace("demo", labels)]);
    let chain = chain(&view);
    let old = json!({ "metadata": { "namespace": "demo", "name": "web" }, "spec": {
        "containers": [{ "name": "c", "image": "a" }], "ephemeralContainers": [{ "name": "e", "image": "a" }] } });
    let cases = [
        ("/spec/tolerations", json!([{ "operator": "Exists" }]), false),
        ("/spec/activeDeadlineSeconds", json!(5), false),
        ("/spec/containers/0/image", json!("b"), true),
        ("/spec/ephemeralContainers/0/image", json!("b"), true),
        ("/spec/ephemeralContainers", json!([]), false),
        (
            "/spec/ephemeralContainers",
            json!([{ "name": "f", "image": "a" }]),
            true,
        ),
        (
            "/spec/initContainers",
            json!([{ "name": "i", "image": "a" }]),
            true,
        ),
    ];
    for (place, value, judged) in cases {
        let mut new = old.clone();
        let (parent, field) = place.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[field] = value;
        let answer = run(&chain, &view, &update("pods", &old), &mut new).await;
        assert_eq!(answer.is_err(), judged, "{place}");
    }
    // Workloads are warned of whenever they are written.
    let mut deployment = json!({ "metadata": { "name": "d" }, "spec": { "template": { "spec": { "containers": [{ "name": "c" }] } } } });
    let write = update("deployments.apps", &deployment);
    let warnings = run(&chain, &view, &write, &mut deployment).await.unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[tokio::test]
async fn conditions_of_certificate_requests_are_their_signers() {
    let view = demo([]);
    let chain = chain(&view);
    let old = json!({ "metadata": { "name": "r" }, "spec": { "signerName": "example.com/s" },
        "status": { "conditions": [{ "type": "Approved", "status": "True" }] } });
    let write = Write {
        namespace: "",
        ..update("certificatesigningrequests/status.certificates.k8s.io", &old)
    };
    let error = |object: Value| {
        let (chain, view, write) = (&chain, &view, &write);
        async move { run(chain, view, write, &mut object.clone()).await }
    };
    assert!(error(old.clone()).await.is_ok());
    let mut failed = old.clone();
    let conditions = failed["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(json!({ "type": "Failed", "status": "True" }));
    let want = "user not permitted to sign requests with signerName \"example.com/s\"";
    assert!(error(failed).await.unwrap_err().contains(want));
}

#[tokio::test]
async fn the_old_annotations_of_classes_count() {
    let annotated = json!({ "metadata": { "name": "old", "annotations": { "storageclass.beta.kubernetes.io/is-default-class": "true" } },
        "allowVolumeExpansion": true });
    let view = demo([("storageclasses.storage.k8s.io", annotated)]);
    let chain = chain(&view);
    let mut claim = json!({ "metadata": { "name": "data" }, "spec": {} });
    run(&chain, &view, &create("persistentvolumeclaims"), &mut claim)
        .await
        .unwrap();
    assert_eq!(claim["spec"]["storageClassName"], "old");
    let old = json!({ "metadata": { "name": "data", "annotations": { "volume.beta.kubernetes.io/storage-class": "old" } },
        "spec": { "resources": { "requests": { "storage": "1Gi" } } }, "status": { "phase": "Bound" } });
    let mut grown = old.clone();
    grown["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    run(&chain, &view, &update("persistentvolumeclaims", &old), &mut grown)
        .await
        .unwrap();
}

#[test]
fn claims_use_what_they_were_given() {
    let used = |claim: Value| {
        let used = ::quota::usage_of(&GroupResource::new("", "persistentvolumeclaims"), &claim);
        let shown = |(name, amount): (&String, &Quantity)| format!("{name}={amount}");
        used.iter().map(shown).collect::<Vec<_>>().join(" ")
    };
    let claim = |size: &str, given: Value| {
        json!({ "metadata": { "annotations": { "volume.beta.kubernetes.io/storage-class": "c" } },
            "spec": { "storageClassName": "d", "resources": { "requests": { "storage": size } } },
            "status": { "allocatedResources": given } })
    };
    for (claim, size) in [
        (claim("1500m", Value::Null), "2"),
        (claim("1Gi", json!({ "storage": "4Gi" })), "4Gi"),
        (claim("8Gi", json!({ "storage": "4Gi" })), "8Gi"),
    ] {
        let class = "c.storageclass.storage.k8s.io";
        let want = format!(
            "{class}/persistentvolumeclaims=1 {class}/requests.storage={size} count/persistentvolumeclaims=1 \
             persistentvolumeclaims=1 requests.storage={size}"
        );
        assert_eq!(used(claim), want);
    }
}

#[tokio::test]
async fn pods_that_come_under_a_quota_are_charged_wholly() {
    let scoped = json!({ "metadata": { "namespace": "demo", "name": "ends" },
        "spec": { "hard": { "requests.cpu": "1" }, "scopes": ["Terminating"] } });
    let view = demo([("resourcequotas", scoped)]);
    let chain = chain(&view);
    for (cpu, fits) in [("1", true), ("2", false)] {
        let old = pod(json!({ "requests": { "cpu": cpu } }));
        let mut ends = old.clone();
        ends["spec"]["activeDeadlineSeconds"] = json!(60);
        let answer = run(&chain, &view, &update("pods", &old), &mut ends).await;
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
    }
}

#[tokio::test]
async fn containers_that_must_speak_for_themselves() {
    let view = demo([quota(json!({ "requests.cpu": "4", "memory": "1Gi" }))]);
    let chain = chain(&view);
    let spec = |resources: Value| {
        json!({ "metadata": { "namespace": "demo", "name": "web" }, "spec": { "resources": resources,
            "initContainers": [{ "name": "z" }], "containers": [{ "name": "b" }, { "name": "a" }] } })
    };
    let error = run(&chain, &view, &create("pods"), &mut spec(json!({})))
        .await
        .unwrap_err();
    let want = "failed quota: q: must specify memory for: a,b,z; requests.cpu for: a,b,z";
    assert!(error.ends_with(want), "{error}");
    // The Pod as a whole has said something.
    let mut object = spec(json!({ "requests": { "cpu": "1" } }));
    run(&chain, &view, &create("pods"), &mut object).await.unwrap();
}

#[tokio::test]
async fn what_hosts_may_not_change_of_their_node() {
    let view = demo([]);
    let chain = chain(&view);
    let node = |more: Value| {
        let node = json!({ "metadata": { "name": "n1", "labels": {} }, "spec": {} });
        machinery::merge_patch(&node, &more, true).unwrap()
    };
    let label = json!({ "metadata": { "labels": { "node-restriction.kubernetes.io/a": "b" } } });
    let mut owned = label.clone();
    owned["metadata"]["ownerReferences"] = json!([{ "uid": "u" }]);
    let mut sourced = label.clone();
    sourced["spec"] = json!({ "configSource": {}, "taints": [{ "key": "a" }] });
    let old = node(json!({}));
    let cases = [
        (
            None,
            sourced.clone(),
            "is not allowed to create pods with a non-nil configSource",
        ),
        (
            None,
            label.clone(),
            "is not allowed to set the following labels: node-restriction.kubernetes.io/a",
        ),
        (
            Some(&old),
            sourced,
            "is not allowed to update configSource to a new non-nil configSource",
        ),
        (Some(&old), owned, "is not allowed to modify ownerReferences"),
    ];
    let host = |write: Write| Write {
        user: User::new("system:node:n1", &["system:nodes"]),
        namespace: "",
        ..write
    };
    for (old, more, want) in cases {
        let write = host(old.map_or_else(|| create("nodes"), |old| update("nodes", old)));
        let error = run(&chain, &view, &write, &mut node(more)).await.unwrap_err();
        assert_eq!(error, format!("nodes \"n1\" is forbidden: node \"n1\" {want}"));
    }
    // Whose words have no name is so upstream.
    let error = run(&chain, &view, &host(update("nodes", &old)), &mut node(label))
        .await
        .unwrap_err();
    let want = "is not allowed to modify labels: node-restriction.kubernetes.io/a";
    assert_eq!(error, format!("nodes \"n1\" is forbidden: {want}"));
    // A Pod that is not there is not found before it is nobody's.
    let gone = json!({ "metadata": { "name": "gone" } });
    let operations = [("pods", Operation::Delete), ("pods/eviction", Operation::Create)];
    for (resource, operation) in operations {
        let write = Write {
            operation,
            namespace: "demo",
            ..host(update(resource, &gone))
        };
        let error = run(&chain, &view, &write, &mut gone.clone()).await.unwrap_err();
        assert_eq!(error, "pod \"gone\" not found", "{resource}");
    }
}

#[tokio::test]
async fn overheads_are_those_of_the_class() {
    let class = |name: &str, more: Value| {
        let class = json!({ "metadata": { "name": name } });
        let class = machinery::merge_patch(&class, &more, true).unwrap();
        ("runtimeclasses.node.k8s.io", class)
    };
    let fixed = json!({ "overhead": { "podFixed": { "memory": "64Mi" } } });
    let view = demo([class("plain", json!({})), class("vm", fixed)]);
    let chain = chain(&view);
    let none = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    let other = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
    for (class, want) in [(Value::Null, none), (json!("plain"), none), (json!("vm"), other)] {
        let mut object = pod(json!({}));
        object["spec"]["runtimeClassName"] = class;
        object["spec"]["overhead"] = json!({ "memory": "1Mi" });
        let error = run(&chain, &view, &create("pods"), &mut object)
            .await
            .unwrap_err();
        assert_eq!(error, format!("pods \"web\" is forbidden: {want}"));
    }
    // None at all, and no name at all, are something once they are written.
    for (field, value, want) in [
        (
            "overhead",
            json!({}),
            format!("pods \"web\" is forbidden: {none}"),
        ),
        (
            "runtimeClassName",
            json!(""),
            "resource name may not be empty".to_owned(),
        ),
    ] {
        let mut object = pod(json!({}));
        object["spec"][field] = value;
        let error = run(&chain, &view, &create("pods"), &mut object)
            .await
            .unwrap_err();
        assert_eq!(error, want);
    }
}
