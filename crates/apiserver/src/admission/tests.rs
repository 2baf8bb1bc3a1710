//! The chain at its public face: a write in, the changed object or the refusal out.

mod changes;

use super::*;
use crate::admit::Operation;
use crate::request::Attributes;
use crate::testing::MemoryView;
use crate::user::User;
use crate::view::View;
use serde_json::json;

/// The steps, run as the registry runs them.
struct Chain(Vec<Arc<dyn AdmissionPlugin>>);

impl Chain {
    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let mut warnings = Vec::new();
        for plugin in &self.0 {
            warnings.extend(plugin.admit(request, view).await?);
        }
        Ok(warnings)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        let mut warnings = Vec::new();
        for plugin in &self.0 {
            warnings.extend(plugin.validate(request, view).await?);
        }
        Ok(warnings)
    }

    async fn settle(&self, request: &AdmissionRequest<'_>, stored: bool) {
        for plugin in &self.0 {
            plugin.settle(request, stored).await;
        }
    }
}

fn chain(view: &Arc<MemoryView>) -> Chain {
    Chain(standard(Arc::new(Rbac::new(view.clone())), Vec::new()))
}

fn namespace(name: &str, labels: Value) -> (&'static str, Value) {
    (
        "namespaces",
        json!({ "metadata": { "name": name, "labels": labels } }),
    )
}

/// A view with a namespace `demo` and its default account.
fn demo(more: impl IntoIterator<Item = (&'static str, Value)>) -> Arc<MemoryView> {
    let view = MemoryView::of([
        namespace("demo", json!({})),
        (
            "serviceaccounts",
            json!({ "metadata": { "namespace": "demo", "name": "default" } }),
        ),
    ]);
    for (resource, object) in more {
        view.put(resource, object);
    }
    view
}

struct Write {
    user: User,
    operation: Operation,
    /// `resource[/sub][.group]`
    resource: &'static str,
    namespace: &'static str,
    old: Option<Value>,
    dry_run: bool,
}

fn create(resource: &'static str) -> Write {
    Write {
        user: User::new("alice", &[]),
        operation: Operation::Create,
        resource,
        namespace: "demo",
        old: None,
        dry_run: false,
    }
}

/// Runs both halves, stores a new object, and settles.
async fn run(
    chain: &Chain,
    view: &Arc<MemoryView>,
    write: &Write,
    object: &mut Value,
) -> Result<Vec<String>, String> {
    let (resource, group) = write.resource.split_once('.').unwrap_or((write.resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let old_name = write
        .old
        .as_ref()
        .and_then(|o| o["metadata"]["name"].as_str())
        .unwrap_or_default();
    let attributes = Attributes {
        verb: write.operation.as_str().to_lowercase(),
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: write.namespace.into(),
        name: old_name.into(),
        is_resource: true,
        ..Attributes::default()
    };
    let kind = kinds::builtin().iter().find(|k| k.plural == "pods").unwrap();
    let decoded = machinery::decode_faults(kind, &mut object.clone(), &[]);
    let empties = decoded.unwrap_or_default().empties;
    let mut request = AdmissionRequest {
        user: &write.user,
        attributes: &attributes,
        operation: write.operation,
        kind,
        object,
        empties: &empties,
        old: write.old.as_ref(),
        dry_run: write.dry_run,
        options: &Value::Null,
        ctx: None,
        round: Default::default(),
    };
    let mut warnings = chain
        .admit(&mut request, view.as_ref())
        .await
        .map_err(|s| s.message)?;
    warnings.extend(
        chain
            .validate(&request, view.as_ref())
            .await
            .map_err(|s| s.message)?,
    );
    // Others come in between, as they do while a write is on its way.
    tokio::task::yield_now().await;
    if write.operation == Operation::Create && subresource.is_empty() && !write.dry_run {
        view.put(write.resource, request.object.clone());
    }
    chain.settle(&request, true).await;
    Ok(warnings)
}

fn pod(resources: Value) -> Value {
    json!({
        "metadata": { "namespace": "demo", "name": "web" },
        "spec": { "containers": [{ "name": "c", "resources": resources }] },
    })
}

#[tokio::test]
async fn a_pod_gets_account_token_tolerations_and_priority() {
    let view = demo([]);
    let mut object = pod(json!({}));
    run(&chain(&view), &view, &create("pods"), &mut object)
        .await
        .unwrap();
    let spec = &object["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
    assert_eq!(spec["tolerations"][1]["tolerationSeconds"], 300);
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(
        volume.starts_with("kube-api-access-") && volume.len() == 21,
        "{volume}"
    );
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(
        mount["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(mount["name"], volume);

    // Twice is once.
    let mut again = object.clone();
    run(&chain(&view), &view, &create("pods"), &mut again)
        .await
        .unwrap();
    assert_eq!(again, object);

    let mut quiet = pod(json!({}));
    quiet["spec"]["automountServiceAccountToken"] = false.into();
    run(&chain(&view), &view, &create("pods"), &mut quiet)
        .await
        .unwrap();
    assert!(quiet["spec"].get("volumes").is_none());
}

#[tokio::test]
async fn namespaces() {
    let gone = json!({ "metadata": { "name": "gone", "deletionTimestamp": "2026-01-01T00:00:00Z" }, "status": { "phase": "Terminating" } });
    let view = demo([("namespaces", gone)]);
    let chain = chain(&view);
    let config_map = || json!({ "metadata": { "name": "c" } });
    let at = |namespace| Write {
        namespace,
        ..create("configmaps")
    };
    assert!(run(&chain, &view, &at("demo"), &mut config_map()).await.is_ok());
    assert_eq!(
        run(&chain, &view, &at("none"), &mut config_map())
            .await
            .unwrap_err(),
        "namespaces \"none\" not found"
    );
    assert_eq!(
        run(&chain, &view, &at("gone"), &mut config_map())
            .await
            .unwrap_err(),
        "configmaps \"c\" is forbidden: unable to create new content in namespace gone because it is being terminated"
    );
    let system = json!({ "metadata": { "name": "kube-system" } });
    let delete = Write {
        operation: Operation::Delete,
        old: Some(system),
        namespace: "kube-system",
        ..create("namespaces")
    };
    assert_eq!(
        run(&chain, &view, &delete, &mut Value::Null).await.unwrap_err(),
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn limit_ranges() {
    let range = json!({
        "metadata": { "namespace": "demo", "name": "limits" },
        "spec": { "limits": [{
            "type": "Container",
            "default": { "cpu": "500m", "memory": "256Mi" },
            "defaultRequest": { "cpu": "100m", "memory": "128Mi" },
            "min": { "cpu": "50m" },
            "max": { "cpu": "1" },
            "maxLimitRequestRatio": { "cpu": "10" },
        }] },
    });
    let view = demo([("limitranges", range)]);
    let chain = chain(&view);
    let mut object = pod(json!({ "requests": { "memory": "64Mi" } }));
    run(&chain, &view, &create("pods"), &mut object).await.unwrap();
    assert_eq!(
        object["spec"]["containers"][0]["resources"],
        json!({ "requests": { "memory": "64Mi", "cpu": "100m" }, "limits": { "cpu": "500m", "memory": "256Mi" } })
    );
    assert_eq!(
        object["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c"
    );
    let cases = [
        (
            json!({ "requests": { "cpu": "10m" }, "limits": { "cpu": "90m" } }),
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!({ "limits": { "cpu": "2" }, "requests": { "cpu": "1" } }),
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "60m" } }),
            "cpu max limit to request ratio per Container is 10, but provided ratio is 16.666667",
        ),
    ];
    for (resources, want) in cases {
        // A Pod that is resized is held to the same; one that is only changed or going is not.
        let old = |more: Value| {
            let mut old = pod(json!({}));
            old["metadata"]["deletionTimestamp"] = more;
            Some(old)
        };
        let change = |resource, old| Write {
            operation: Operation::Update,
            old,
            ..create(resource)
        };
        let resize = change("pods/resize", old(Value::Null));
        for write in [&create("pods"), &resize] {
            let error = run(&chain, &view, write, &mut pod(resources.clone()))
                .await
                .unwrap_err();
            assert_eq!(error, format!("pods \"web\" is forbidden: {want}"));
        }
        let going = old(json!("2026-01-01T00:00:00Z"));
        for write in [change("pods", old(Value::Null)), change("pods/resize", going)] {
            run(&chain, &view, &write, &mut pod(resources.clone()))
                .await
                .unwrap();
        }
    }
}

fn quota(hard: Value) -> (&'static str, Value) {
    (
        "resourcequotas",
        json!({ "metadata": { "namespace": "demo", "name": "q" }, "spec": { "hard": hard } }),
    )
}

#[tokio::test]
async fn quotas() {
    let view = demo([quota(
        json!({ "requests.cpu": "4", "limits.memory": "1Gi", "pods": "3", "count/configmaps": "1" }),
    )]);
    let chain = chain(&view);
    let sized = |name: &str, cpu: &str| {
        let mut object = pod(json!({ "requests": { "cpu": cpu }, "limits": { "memory": "128Mi" } }));
        object["metadata"]["name"] = name.into();
        object
    };
    let error = run(&chain, &view, &create("pods"), &mut pod(json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        "pods \"web\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
    );
    let mut first = sized("one", "3");
    run(&chain, &view, &create("pods"), &mut first).await.unwrap();
    let over = "pods \"two\" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=3, limited: requests.cpu=4";
    assert_eq!(
        run(&chain, &view, &create("pods"), &mut sized("two", "2"))
            .await
            .unwrap_err(),
        over
    );

    // A dry run reserves nothing; a Pod that has ended uses nothing.
    let dry = Write {
        dry_run: true,
        ..create("pods")
    };
    for _ in 0..3 {
        run(&chain, &view, &dry, &mut sized("two", "1")).await.unwrap();
    }
    first["status"] = json!({ "phase": "Succeeded" });
    view.put("pods", first);
    run(&chain, &view, &create("pods"), &mut sized("two", "4"))
        .await
        .unwrap();

    let config_map = |name: &str| json!({ "metadata": { "namespace": "demo", "name": name } });
    run(&chain, &view, &create("configmaps"), &mut config_map("a"))
        .await
        .unwrap();
    assert_eq!(
        run(&chain, &view, &create("configmaps"), &mut config_map("b"))
            .await
            .unwrap_err(),
        "configmaps \"b\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
    );
    // Changing what exists needs no further room.
    let update = Write {
        operation: Operation::Update,
        old: Some(config_map("a")),
        ..create("configmaps")
    };
    run(&chain, &view, &update, &mut config_map("a")).await.unwrap();
}

#[tokio::test]
async fn concurrent_creates_never_exceed_a_quota() {
    let view = demo([quota(json!({ "pods": "7" }))]);
    let chain = Arc::new(chain(&view));
    let tries: Vec<_> = (0..50)
        .map(|n| {
            let (chain, view) = (chain.clone(), view.clone());
            tokio::spawn(async move {
                let mut object = pod(json!({}));
                object["metadata"]["name"] = format!("p{n}").into();
                run(&chain, &view, &create("pods"), &mut object).await.is_ok()
            })
        })
        .collect();
    let mut stored = 0;
    for one in tries {
        stored += usize::from(one.await.unwrap());
    }
    assert_eq!(stored, 7);
}

#[tokio::test]
async fn failed_writes_give_back() {
    let view = demo([quota(json!({ "count/configmaps": "1" }))]);
    let chain = chain(&view);
    let attributes = Attributes {
        resource: "configmaps".into(),
        namespace: "demo".into(),
        is_resource: true,
        ..Attributes::default()
    };
    let user = User::new("alice", &[]);
    let kind = kinds::builtin()
        .iter()
        .find(|k| k.plural == "configmaps")
        .unwrap();
    for _ in 0..3 {
        let mut object = json!({ "metadata": { "name": "a" } });
        let request = AdmissionRequest {
            user: &user,
            attributes: &attributes,
            operation: Operation::Create,
            kind,
            object: &mut object,
            empties: &machinery::Empties::default(),
            old: None,
            dry_run: false,
            options: &Value::Null,
            ctx: None,
            round: Default::default(),
        };
        chain.validate(&request, view.as_ref()).await.unwrap();
        chain.settle(&request, false).await;
    }
}

#[tokio::test]
async fn scoped_quotas_and_other_kinds() {
    let scoped = json!({
        "metadata": { "namespace": "demo", "name": "best" },
        "spec": { "hard": { "pods": "0" }, "scopes": ["BestEffort"] },
    });
    let hard = json!({ "services.loadbalancers": "0", "requests.storage": "1Gi", "fast.storageclass.storage.k8s.io/requests.storage": "1Gi", "count/deployments.apps": "0" });
    let view = demo([("resourcequotas", scoped), quota(hard)]);
    let chain = chain(&view);
    let error = run(&chain, &view, &create("pods"), &mut pod(json!({})))
        .await
        .unwrap_err();
    assert!(
        error.contains("exceeded quota: best, requested: pods=1"),
        "{error}"
    );
    run(
        &chain,
        &view,
        &create("pods"),
        &mut pod(json!({ "requests": { "cpu": "1" } })),
    )
    .await
    .unwrap();

    let cases = [
        (
            "services",
            json!({ "type": "LoadBalancer", "ports": [{}] }),
            "requested: services.loadbalancers=1",
        ),
        ("services", json!({ "type": "ClusterIP" }), ""),
        (
            "persistentvolumeclaims",
            json!({ "storageClassName": "fast", "resources": { "requests": { "storage": "2Gi" } } }),
            "requested: fast.storageclass.storage.k8s.io/requests.storage=2Gi,requests.storage=2Gi",
        ),
        (
            "deployments.apps",
            json!({}),
            "requested: count/deployments.apps=1",
        ),
    ];
    for (resource, spec, want) in cases {
        let mut object = json!({ "metadata": { "name": "x" }, "spec": spec });
        match run(&chain, &view, &create(resource), &mut object).await {
            Ok(_) => assert_eq!(want, "", "{resource}"),
            Err(error) => assert!(!want.is_empty() && error.contains(want), "{error}"),
        }
    }
}

#[tokio::test]
async fn pod_security() {
    let view = MemoryView::of([
        namespace(
            "base",
            json!({ "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted" }),
        ),
        namespace(
            "strict",
            json!({ "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "v1.35" }),
        ),
        (
            "serviceaccounts",
            json!({ "metadata": { "namespace": "base", "name": "default" } }),
        ),
        (
            "serviceaccounts",
            json!({ "metadata": { "namespace": "strict", "name": "default" } }),
        ),
    ]);
    let chain = chain(&view);
    let base = || Write {
        namespace: "base",
        ..create("pods")
    };
    let spec = |more: Value| {
        let mut object = pod(json!({}));
        for (key, value) in more.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let plain = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    let warnings = run(&chain, &view, &base(), &mut pod(json!({}))).await.unwrap();
    assert_eq!(
        warnings,
        [format!(
            "would violate PodSecurity \"restricted:latest\": {plain}"
        )]
    );

    let container = |context: Value| json!({ "containers": [{ "name": "c", "securityContext": context }] });
    let cases = [
        (
            json!({ "hostNetwork": true, "hostPID": true }),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            container(json!({ "privileged": true })),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            container(json!({ "capabilities": { "add": ["NET_ADMIN", "CHOWN"] } })),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }),
            "hostPath volumes (volume \"v\")",
        ),
        (
            json!({ "containers": [{ "name": "c", "ports": [{ "hostPort": 80 }] }] }),
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax" }] } }),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            container(json!({ "procMount": "Unmasked" })),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            container(json!({ "seccompProfile": { "type": "Unconfined" } })),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ];
    for (more, want) in cases {
        let error = run(&chain, &view, &base(), &mut spec(more)).await.unwrap_err();
        assert_eq!(
            error,
            format!("pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": {want}")
        );
    }

    let strict = || Write {
        namespace: "strict",
        ..create("pods")
    };
    let error = run(&chain, &view, &strict(), &mut pod(json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        format!("pods \"web\" is forbidden: violates PodSecurity \"restricted:v1.35\": {plain}")
    );
    let mut hardened = spec(json!({
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": "c", "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
    }));
    assert!(
        run(&chain, &view, &strict(), &mut hardened)
            .await
            .unwrap()
            .is_empty()
    );
    // Root of a user namespace is nobody outside it; what it sees of /proc stays masked all the same.
    let mut root = hardened.clone();
    root["spec"]["hostUsers"] = json!(false);
    root["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    root["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(0);
    assert!(run(&chain, &view, &strict(), &mut root).await.is_ok());
    let mut unmasked = root.clone();
    unmasked["spec"]["containers"][0]["securityContext"]["procMount"] = json!("Unmasked");
    assert!(run(&chain, &view, &base(), &mut unmasked.clone()).await.is_ok());
    root["spec"]["hostUsers"] = json!(true);
    for (mut bad, want) in [
        (
            unmasked,
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            root,
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (container \"c\" \
             must not set runAsUser=0)",
        ),
    ] {
        let error = run(&chain, &view, &strict(), &mut bad).await.unwrap_err();
        assert_eq!(
            error,
            format!("pods \"web\" is forbidden: violates PodSecurity \"restricted:v1.35\": {want}")
        );
    }

    // Workloads are warned about, not refused.
    let mut deployment = json!({ "metadata": { "name": "d" }, "spec": { "template": { "spec": { "containers": [{ "name": "c" }] } } } });
    let write = Write {
        namespace: "base",
        ..create("deployments.apps")
    };
    assert_eq!(
        run(&chain, &view, &write, &mut deployment).await.unwrap().len(),
        1
    );

    let mut bad = json!({ "metadata": { "name": "n", "labels": { "pod-security.kubernetes.io/enforce": "bassline" } } });
    let write = Write {
        namespace: "n",
        ..create("namespaces")
    };
    let error = run(&chain, &view, &write, &mut bad).await.unwrap_err();
    assert!(
        error.contains("must be one of privileged, baseline, restricted"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_used_later_is_protected_from_the_first_moment() {
    let view = demo([]);
    let chain = chain(&view);
    for (resource, finalizer) in [
        ("persistentvolumes", "kubernetes.io/pv-protection"),
        ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
        (
            "volumeattributesclasses.storage.k8s.io",
            "kubernetes.io/vac-protection",
        ),
    ] {
        let mut object = json!({ "metadata": { "name": "gold" }, "spec": {} });
        let write = create(resource);
        run(&chain, &view, &write, &mut object).await.unwrap();
        assert_eq!(object["metadata"]["finalizers"], json!([finalizer]), "{resource}");
    }
}

#[tokio::test]
async fn classes() {
    let priority = |name: &str, value: i64, default: bool| {
        (
            "priorityclasses.scheduling.k8s.io",
            json!({ "metadata": { "name": name }, "value": value, "globalDefault": default }),
        )
    };
    let annotated = |name: &str, created: &str| json!({ "metadata": { "name": name, "creationTimestamp": created, "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } } });
    let runtime = json!({
        "metadata": { "name": "vm" },
        "overhead": { "podFixed": { "memory": "64Mi" } },
        "scheduling": { "nodeSelector": { "vm": "yes" } },
    });
    let view = demo([
        priority("high", 1000, false),
        priority("normal", 10, true),
        (
            "storageclasses.storage.k8s.io",
            annotated("old", "2026-01-01T00:00:00Z"),
        ),
        (
            "storageclasses.storage.k8s.io",
            annotated("new", "2026-02-01T00:00:00Z"),
        ),
        ("runtimeclasses.node.k8s.io", runtime),
    ]);
    let chain = chain(&view);
    let with = |key: &str, value: Value| {
        let mut object = pod(json!({}));
        object["spec"][key] = value;
        object
    };
    let mut object = with("priorityClassName", json!("high"));
    run(&chain, &view, &create("pods"), &mut object).await.unwrap();
    assert_eq!(object["spec"]["priority"], 1000);
    let mut object = with("runtimeClassName", json!("vm"));
    run(&chain, &view, &create("pods"), &mut object).await.unwrap();
    assert_eq!(object["spec"]["priorityClassName"], "normal");
    assert_eq!(object["spec"]["overhead"], json!({ "memory": "64Mi" }));
    assert_eq!(object["spec"]["nodeSelector"], json!({ "vm": "yes" }));
    for (key, value, want) in [
        (
            "priorityClassName",
            json!("none"),
            "no PriorityClass with name none was found",
        ),
        (
            "priority",
            json!(5),
            "the integer value of priority (5) must not be provided",
        ),
        (
            "runtimeClassName",
            json!("none"),
            "pod rejected: RuntimeClass \"none\" not found",
        ),
        (
            "serviceAccountName",
            json!("no"),
            "error looking up service account demo/no: serviceaccount \"no\" not found",
        ),
    ] {
        let error = run(&chain, &view, &create("pods"), &mut with(key, value))
            .await
            .unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    let mut claim = json!({ "metadata": { "name": "data" }, "spec": {} });
    run(&chain, &view, &create("persistentvolumeclaims"), &mut claim)
        .await
        .unwrap();
    assert_eq!(claim["spec"]["storageClassName"], "new");
    let mut second = json!({ "metadata": { "name": "other" }, "value": 1, "globalDefault": true });
    let write = Write {
        namespace: "",
        ..create("priorityclasses.scheduling.k8s.io")
    };
    let error = run(&chain, &view, &write, &mut second).await.unwrap_err();
    assert!(
        error.contains("PriorityClass normal is already marked as default"),
        "{error}"
    );
}

#[tokio::test]
async fn pods_are_told_their_zone() {
    let labels =
        json!({ "topology.kubernetes.io/zone": "east", "topology.kubernetes.io/region": "r", "other": "x" });
    let view = demo([("nodes", json!({ "metadata": { "name": "n1", "labels": labels } }))]);
    let chain = chain(&view);
    let target = |name: &str| json!({ "target": { "kind": "Node", "name": name } });
    let told = json!({ "topology.kubernetes.io/zone": "east", "topology.kubernetes.io/region": "r" });
    for (mut object, want) in [(target("n1"), told), (target("n2"), Value::Null)] {
        let write = create("pods/binding");
        run(&chain, &view, &write, &mut object).await.unwrap();
        assert_eq!(object["metadata"]["labels"], want);
    }
}

#[tokio::test]
async fn hosts_write_their_own() {
    let tokens = json!([{ "name": "t", "projected": { "sources": [
        { "serviceAccountToken": { "path": "a" } },
        { "serviceAccountToken": { "path": "b", "audience": "vault" } } ] } },
        { "name": "d", "azureFile": { "secretName": "s", "shareName": "d" } }]);
    let driver = json!({ "metadata": { "name": "file.csi.azure.com" }, "spec": { "tokenRequests": [{ "audience": "cloud" }] } });
    let mine = json!({ "metadata": { "namespace": "demo", "name": "web", "uid": "u" },
        "spec": { "nodeName": "n1", "volumes": tokens } });
    let theirs = json!({ "metadata": { "namespace": "demo", "name": "db", "uid": "v" }, "spec": { "nodeName": "n2" } });
    let view = demo([
        ("pods", mine.clone()),
        ("pods", theirs.clone()),
        ("csidrivers.storage.k8s.io", driver),
    ]);
    let chain = chain(&view);
    let write = |operation, resource, old: Option<Value>| Write {
        user: User::new("system:node:n1", &["system:nodes"]),
        operation,
        old,
        namespace: if resource == "nodes" { "" } else { "demo" },
        ..create(resource)
    };
    let node = |name: &str, more: Value| json!({ "metadata": { "name": name, "labels": more }, "spec": {} });
    let tainted = json!({ "metadata": { "name": "n1" }, "spec": { "taints": [{ "key": "a" }] } });
    let bound = |name: &str, uid: &str| json!({ "spec": { "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid } } });
    let audience = |audiences: Value| {
        let mut object = bound("web", "u");
        object["spec"]["audiences"] = audiences;
        object
    };
    use Operation::{Create, Delete, Update};
    let cases = [
        (
            write(Create, "serviceaccounts/token", None),
            audience(json!(["vault"])),
            "",
        ),
        (
            write(Create, "serviceaccounts/token", None),
            audience(json!(["cloud"])),
            "",
        ),
        (
            write(Create, "serviceaccounts/token", None),
            audience(json!(["bank"])),
            "audience \"bank\" not found in pod spec volume, system:node:n1 is not authorized",
        ),
        (
            write(Create, "serviceaccounts/token", None),
            audience(json!(["vault", "bank"])),
            "node may only request 0 or 1 audiences",
        ),
        (
            write(Create, "nodes", None),
            node(
                "n1",
                json!({ "kubernetes.io/hostname": "n1", "podvisor.io/x": "y" }),
            ),
            "",
        ),
        (
            write(Create, "nodes", None),
            node("n2", json!({})),
            "node \"n1\" is not allowed to modify node \"n2\"",
        ),
        (
            write(Create, "nodes", None),
            node("n1", json!({ "node-restriction.kubernetes.io/a": "b" })),
            "is not allowed to set the following labels: node-restriction.kubernetes.io/a",
        ),
        (
            write(Update, "nodes", Some(tainted)),
            node("n1", json!({})),
            "node \"n1\" is not allowed to modify taints",
        ),
        (write(Update, "pods/status", Some(mine.clone())), mine.clone(), ""),
        (
            write(Update, "pods/status", Some(theirs.clone())),
            theirs.clone(),
            "can only update pod status for pods with spec.nodeName set to itself",
        ),
        (write(Delete, "pods", Some(mine)), Value::Null, ""),
        (
            write(Delete, "pods", Some(theirs)),
            Value::Null,
            "can only delete pods with spec.nodeName set to itself",
        ),
        (
            write(Create, "pods", None),
            pod(json!({})),
            "can only create mirror pods",
        ),
        (
            write(Create, "serviceaccounts/token", None),
            bound("web", "u"),
            "",
        ),
        (
            write(Create, "serviceaccounts/token", None),
            bound("db", "v"),
            "node requested token bound to a pod scheduled on a different node",
        ),
        (
            write(Create, "serviceaccounts/token", None),
            json!({ "spec": {} }),
            "node requested token not bound to a pod",
        ),
    ];
    for (write, mut object, want) in cases {
        let resource = write.resource;
        match run(&chain, &view, &write, &mut object).await {
            Ok(_) => assert_eq!(want, "", "{resource}"),
            Err(error) => assert!(!want.is_empty() && error.contains(want), "{resource}: {error}"),
        }
    }
    // A new Node waits for its first report.
    let mut fresh = node("n1", json!({}));
    run(&chain, &view, &write(Create, "nodes", None), &mut fresh)
        .await
        .unwrap();
    assert_eq!(
        fresh["spec"]["taints"],
        json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }])
    );
}

#[test]
fn the_order_is_upstreams() {
    let names = chain(&demo([])).0;
    let names: Vec<&str> = names.iter().map(|p| p.name()).collect();
    let expected = [
        "NamespaceLifecycle",
        "LimitRanger",
        "ServiceAccount",
        "NodeRestriction",
        "TaintNodesByCondition",
        "PodSecurity",
        "Priority",
        "DefaultTolerationSeconds",
        "DefaultStorageClass",
        "StorageObjectInUseProtection",
        "PersistentVolumeClaimResize",
        "RuntimeClass",
        "Certificates",
        "DefaultIngressClass",
        "PodTopologyLabels",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionWebhook",
        // Upstream checks it before it writes: whatever became of the object by then.
        "RBACEscalation",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionWebhook",
        "ResourceQuota",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn certificate_requests() {
    let signer = "kubernetes.io/kube-apiserver-client";
    let rbac = |resource: &str, object: Value| {
        let view = demo([]);
        view.put(&format!("{resource}.rbac.authorization.k8s.io"), object);
        view
    };
    let view = rbac(
        "clusterroles",
        json!({ "metadata": { "name": "approver" }, "rules": [{
            "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"], "resourceNames": ["kubernetes.io/*"],
        }] }),
    );
    view.put(
        "clusterrolebindings.rbac.authorization.k8s.io",
        json!({ "metadata": { "name": "b" }, "roleRef": { "kind": "ClusterRole", "name": "approver" }, "subjects": [{ "kind": "User", "name": "alice" }] }),
    );
    let chain = chain(&view);
    let csr = |organization: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organization);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
        json!({ "metadata": { "name": "r" }, "spec": { "signerName": signer, "request": request, "username": "root" } })
    };
    let write = |operation, resource, old: Option<Value>| Write {
        operation,
        old,
        namespace: "",
        ..create(resource)
    };
    let requests = "certificatesigningrequests.certificates.k8s.io";
    let mut object = csr("dev");
    run(
        &chain,
        &view,
        &write(Operation::Create, requests, None),
        &mut object,
    )
    .await
    .unwrap();
    assert_eq!(object["spec"]["username"], "alice");
    assert_eq!(object["spec"]["groups"], json!(["system:authenticated"]));
    let error = run(
        &chain,
        &view,
        &write(Operation::Create, requests, None),
        &mut csr("system:masters"),
    )
    .await;
    assert!(
        error
            .unwrap_err()
            .contains("signer with system:masters group is not allowed")
    );

    let approval = write(
        Operation::Update,
        "certificatesigningrequests/approval.certificates.k8s.io",
        Some(object.clone()),
    );
    run(&chain, &view, &approval, &mut object.clone()).await.unwrap();
    let status = write(
        Operation::Update,
        "certificatesigningrequests/status.certificates.k8s.io",
        Some(object.clone()),
    );
    object["status"] = json!({ "certificate": "x" });
    let error = run(&chain, &view, &status, &mut object).await.unwrap_err();
    assert!(
        error.contains(&format!(
            "user not permitted to sign requests with signerName {signer:?}"
        )),
        "{error}"
    );

    let bundles = "clustertrustbundles.certificates.k8s.io";
    let mut bundle = json!({"metadata": {"name": "b"}, "spec": {"signerName": signer, "trustBundle": "x"}});
    let attested = write(Operation::Create, bundles, None);
    let error = run(&chain, &view, &attested, &mut bundle).await.unwrap_err();
    let words = format!("user not permitted to attest for signerName {signer:?}");
    assert!(error.contains(&words), "{error}");
    // Its labels may be changed, and nobody need vouch for what is of no signer.
    let labelled = write(Operation::Update, bundles, Some(bundle.clone()));
    run(&chain, &view, &labelled, &mut bundle).await.unwrap();
    bundle["spec"] = json!({"trustBundle": "x"});
    run(&chain, &view, &attested, &mut bundle).await.unwrap();
}
