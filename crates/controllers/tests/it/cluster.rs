//! Everything around workloads: Services and their addresses, namespaces, owners, tenancy, hosts.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Plane, template};
use controllers::obj::{condition, deleting, items, meta, text};
use controllers::world::World;
use serde_json::{Value, json};

const SLICES: &str = "endpointslices.discovery.k8s.io";
const OWN: &str = "supervisornamespaces.podvisor.io";

fn replica_set(namespace: &str, name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, "one")}})
}

/// Waits until a namespace can be used: its service account is there.
async fn usable(plane: &Plane, namespace: &str) {
    let found = |w: &World| {
        w.get("serviceaccounts", namespace, "default")?;
        w.get("configmaps", namespace, "kube-root-ca.crt").map(drop)
    };
    plane.until("service account and root certificates", found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_anchors_are_a_bundle() {
    const BUNDLES: &str = "clustertrustbundles.certificates.k8s.io";
    const STALE: &str = "kubernetes.io:kube-apiserver-serving:0123";
    let plane = Plane::start(&[]).await;
    usable(&plane, "default").await;
    let root = plane
        .world
        .get("configmaps", "default", "kube-root-ca.crt")
        .unwrap();
    let anchors = root["data"]["ca.crt"].clone();
    // Of the same signer, with anchors of yesterday.
    let stale = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
        "metadata": {"name": STALE},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-serving", "trustBundle": anchors}});
    plane.create(BUNDLES, stale).await;
    let found = plane
        .until("one bundle, and not that one", |w: &World| {
            let [bundle] = <[_; 1]>::try_from(w.all(BUNDLES)).ok()?;
            (meta(&bundle, "name") != STALE).then_some(bundle)
        })
        .await;
    assert_eq!(found["spec"]["trustBundle"], anchors);
    let name = meta(&found, "name").strip_prefix("kubernetes.io:kube-apiserver-serving:");
    assert_eq!(name.map(str::len), Some(24), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_follow_their_pods() {
    let plane = Plane::start(&["host-1"]).await;
    usable(&plane, "default").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    plane.create("services", service).await;
    let set = plane
        .create("replicasets.apps", replica_set("default", "web", 2))
        .await;
    let addresses = |n: usize| {
        move |w: &World| {
            let classic = w.get("endpoints", "default", "web")?;
            let mut slices = w.list(SLICES, "default");
            slices.retain(|s| text(s, "/metadata/labels/kubernetes.io~1service-name") == "web");
            let sliced: usize = slices
                .iter()
                .flat_map(|s| items(s, "/endpoints"))
                .filter(|e| e["conditions"]["ready"] == true)
                .count();
            (items(&classic, "/subsets/0/addresses").len() == n && sliced == n).then_some(())
        }
    };
    plane.until("endpoints", addresses(2)).await;
    plane
        .world
        .patch("replicasets.apps", &set, "", &json!({"spec": {"replicas": 1}}))
        .await
        .unwrap();
    plane.until("fewer endpoints", addresses(1)).await;
    let vip = |w: &World| {
        let service = w.get("services", "default", "web")?;
        let ip = text(&service, "/status/loadBalancer/ingress/0/ip");
        (!ip.is_empty()).then(|| (ip.to_string(), service.clone()))
    };
    let (ip, service) = plane.until("virtual address", vip).await;
    assert_eq!(ip, "198.51.100.1");
    plane
        .world
        .delete("services", &service, "Background")
        .await
        .unwrap();
    let gone = |w: &World| {
        let classic = w.get("endpoints", "default", "web").is_none();
        let service = w.get("services", "default", "web").is_none();
        let slices = w
            .list(SLICES, "default")
            .iter()
            .all(|s| meta(s, "generateName") != "web-");
        (classic && service && slices).then_some(())
    };
    plane.until("Service, endpoints and slices gone", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_go_with_all_they_hold() {
    let plane = Plane::start(&["host-1"]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let namespace = plane.create("namespaces", namespace).await;
    usable(&plane, "team").await;
    plane
        .create("replicasets.apps", replica_set("team", "web", 3))
        .await;
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": "team", "finalizers": ["example.com/hold"]}});
    let held = plane.create("configmaps", held).await;
    plane
        .until("three Pods", |w| {
            (w.list("pods", "team").len() == 3).then_some(())
        })
        .await;
    plane
        .world
        .delete("namespaces", &namespace, "Background")
        .await
        .unwrap();
    let remaining = |w: &World| {
        let namespace = w.get("namespaces", "", "team")?;
        let told = condition(&namespace, "NamespaceContentRemaining")?;
        let others = text(told, "/message").contains("configmaps");
        (told["status"] == "True" && others && w.list("pods", "team").is_empty()).then_some(())
    };
    plane.until("something remains", remaining).await;
    plane
        .world
        .patch(
            "configmaps",
            &held,
            "",
            &json!({"metadata": {"finalizers": null}}),
        )
        .await
        .unwrap();
    plane
        .until("gone", |w| {
            w.get("namespaces", "", "team").is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_leave_a_namespace_before_everything_else() {
    let plane = Plane::start(&["host-1"]).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let namespace = plane.create("namespaces", namespace).await;
    usable(&plane, "team").await;
    let hold = json!(["example.com/hold"]);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": "team", "finalizers": hold}});
    let map = plane.create("configmaps", map).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "held", "namespace": "team", "finalizers": hold},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = plane.create("pods", pod).await;
    let world = &plane.world;
    let mut finalized = namespace.clone();
    finalized["spec"]["finalizers"] = json!(["kubernetes", "example.com/hold"]);
    finalized["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    world.put_sub("namespaces", &finalized, "finalize").await.unwrap();
    world
        .delete("namespaces", &namespace, "Background")
        .await
        .unwrap();
    let waits = |w: &World| {
        let told = w.get("namespaces", "", "team")?;
        let message = text(condition(&told, "NamespaceContentRemaining")?, "/message").to_string();
        (message == "Some resources are remaining: pods. has 1 resource instances").then_some(())
    };
    plane.until("the Pod is waited for", waits).await;
    assert!(
        world.get("configmaps", "team", "held").unwrap()["metadata"]
            .get("deletionTimestamp")
            .is_none()
    );
    let release = json!({"metadata": {"finalizers": null}});
    world.patch("pods", &pod, "", &release).await.unwrap();
    let leaves = |w: &World| {
        let map = w.get("configmaps", "team", "held")?;
        map["metadata"].get("deletionTimestamp").is_some().then_some(())
    };
    plane.until("the rest follows", leaves).await;
    world.patch("configmaps", &map, "", &release).await.unwrap();
    // Whoever else holds the namespace reads that it is empty.
    let empty = |w: &World| {
        let told = w.get("namespaces", "", "team")?;
        let done = text(condition(&told, "NamespaceContentRemaining")?, "/reason") == "ContentRemoved";
        (done && told["spec"]["finalizers"] == json!(["example.com/hold"])).then_some(())
    };
    plane.until("empty", empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_take_what_they_own_along_or_leave_it() {
    let plane = Plane::start(&["host-1"]).await;
    usable(&plane, "default").await;
    let two = |name: &'static str| {
        move |w: &World| {
            let pods = w.list("pods", "default");
            let mine = pods
                .iter()
                .filter(|p| text(p, "/metadata/labels/app") == name && text(p, "/status/phase") == "Running");
            (mine.count() == 2).then_some(())
        }
    };
    let kept = plane
        .create("replicasets.apps", replica_set("default", "kept", 2))
        .await;
    let first = plane
        .create("replicasets.apps", replica_set("default", "first", 2))
        .await;
    plane.until("Pods of kept", two("kept")).await;
    plane.until("Pods of first", two("first")).await;
    plane
        .world
        .delete("replicasets.apps", &kept, "Orphan")
        .await
        .unwrap();
    plane
        .world
        .delete("replicasets.apps", &first, "Foreground")
        .await
        .unwrap();
    let order = |w: &World| {
        // First the sets, then the Pods, which may have gone in between.
        let there = |name: &str| w.get("replicasets.apps", "default", name).is_some();
        let (first, kept) = (there("first"), there("kept"));
        let pods = w.list("pods", "default");
        let of = |name: &str| {
            pods.iter()
                .filter(|p| text(p, "/metadata/labels/app") == name)
                .count()
        };
        assert!(
            first || of("first") == 0,
            "the owner stays until its Pods are gone"
        );
        (!first && !kept).then(|| of("kept"))
    };
    assert_eq!(plane.until("both sets gone", order).await, 2);
    let orphans = plane.world.list("pods", "default");
    assert!(
        orphans
            .iter()
            .all(|p| items(p, "/metadata/ownerReferences").is_empty() && !deleting(p))
    );
    // A new set adopts them.
    plane
        .create("replicasets.apps", replica_set("default", "kept", 2))
        .await;
    let adopted = |w: &World| {
        let pods = w.list("pods", "default");
        (pods.len() == 2
            && pods
                .iter()
                .all(|p| items(p, "/metadata/ownerReferences").len() == 1))
        .then_some(pods)
    };
    let adopted = plane.until("adopted", adopted).await;
    let names = |pods: &[std::sync::Arc<Value>]| {
        pods.iter()
            .map(|p| meta(p, "uid").to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&adopted), names(&orphans));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_in_a_circle_end_though_they_change() {
    const MAPS: &str = "configmaps";
    let plane = Plane::start(&[]).await;
    usable(&plane, "default").await;
    let owned_by = |owner: &Value| {
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": meta(owner, "name"), "uid": meta(owner, "uid"),
            "blockOwnerDeletion": true}])
    };
    let map = |name: &str, owners: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "ownerReferences": owners}})
    };
    let first = plane.create(MAPS, map("first", json!([]))).await;
    let second = plane.create(MAPS, map("second", owned_by(&first))).await;
    let third = plane.create(MAPS, map("third", owned_by(&second))).await;
    let closed = json!({"metadata": {"ownerReferences": owned_by(&third)}});
    plane.world.patch(MAPS, &first, "", &closed).await.unwrap();
    plane.world.delete(MAPS, &first, "Foreground").await.unwrap();
    // Others write to what waits for its deletion, so that the collector's own writes come too late.
    for change in 0..40 {
        let data = json!({"data": {"change": change.to_string()}});
        if plane.world.patch(MAPS, &third, "", &data).await.is_err() {
            break;
        }
    }
    let gone = |w: &World| {
        let left = |name| w.get(MAPS, "default", name).is_some();
        (!["first", "second", "third"].into_iter().any(left)).then_some(())
    };
    plane.until("the end of the circle", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_in_another_place_is_no_reason_to_delete() {
    let plane = Plane::start(&["host-1"]).await;
    usable(&plane, "default").await;
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    let owner = plane.create("configmaps", map("owner")).await;
    let reference =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": meta(&owner, "uid")});
    // Nonsense, but nothing that would be deleted for it: what lies in no namespace cannot belong to what does.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "wide", "ownerReferences": [reference]}, "rules": []});
    let role = plane.create("clusterroles.rbac.authorization.k8s.io", role).await;
    let said = plane
        .until("a warning", |w| {
            let events = w.all("events");
            events
                .into_iter()
                .find(|e| e["reason"] == "OwnerRefInvalidNamespace")
        })
        .await;
    let uid = meta(&owner, "uid");
    let wanted = format!(
        "ownerRef [v1/ConfigMap, namespace: , name: owner, uid: {uid}] does not exist in namespace \"\""
    );
    assert_eq!(
        (&said["message"], &said["involvedObject"]["uid"]),
        (&json!(wanted), &role["metadata"]["uid"])
    );
    // The same without the owner, while a true dependent goes.
    let mut dependent = map("dependent");
    dependent["metadata"]["ownerReferences"] = json!([reference]);
    plane.create("configmaps", dependent).await;
    plane
        .world
        .delete("configmaps", &owner, "Background")
        .await
        .unwrap();
    let gone = |w: &World| {
        w.get("configmaps", "default", "dependent")
            .is_none()
            .then_some(())
    };
    plane.until("the dependent gone", gone).await;
    let role = plane
        .world
        .live("clusterroles.rbac.authorization.k8s.io", "", "wide")
        .await;
    assert!(role.unwrap().is_some_and(|role| !deleting(&role)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_namespace_is_kept_as_wished() {
    let plane = Plane::start(&["host-1"]).await;
    let own = json!({"apiVersion": "podvisor.io/v1alpha1", "kind": "SupervisorNamespace", "metadata": {"name": "demo"},
        "spec": {"limits": {"cpu": "4", "memory": "4Gi", "storage": "20Gi"}, "permissions": [
            {"subject": "alice@podvisor.local", "kind": "User", "role": "edit"}]}});
    let own = plane.create(OWN, own).await;
    usable(&plane, "demo").await;
    let active = |w: &World| (text(&*w.get(OWN, "", "demo")?, "/status/phase") == "Active").then_some(());
    plane.until("active", active).await;
    let quota = |w: &World| w.list("resourcequotas", "demo").first().cloned();
    let first = plane.until("quota", quota).await;
    assert_eq!(first["spec"]["hard"]["limits.memory"], "4Gi");
    // Six ordinary Pods without limits fit; what no longer fits is refused with the reason.
    plane
        .create("replicasets.apps", replica_set("demo", "web", 6))
        .await;
    plane
        .until("six Pods", |w| (w.list("pods", "demo").len() == 6).then_some(()))
        .await;
    let used = |w: &World| {
        let quota = quota(w)?;
        (quota["status"]["used"]["limits.memory"] == "3Gi").then_some(())
    };
    plane.until("usage", used).await;
    plane
        .create("replicasets.apps", replica_set("demo", "more", 6))
        .await;
    let refused = |w: &World| {
        let set = w.get("replicasets.apps", "demo", "more")?;
        condition(&set, "ReplicaFailure").map(|c| text(c, "/message").to_string())
    };
    let message = plane.until("refused", refused).await;
    assert!(message.contains("exceeded quota: supervisor"), "{message}");
    // What is changed by hand comes back; what is no longer wished for goes.
    let bindings = "rolebindings.rbac.authorization.k8s.io";
    let binding = plane
        .until("binding", |w| w.list(bindings, "demo").first().cloned())
        .await;
    assert_eq!(binding["subjects"][0]["name"], "sso:alice@podvisor.local");
    plane
        .world
        .delete(bindings, &binding, "Background")
        .await
        .unwrap();
    let back = |w: &World| {
        let again = w.list(bindings, "demo").first().cloned()?;
        (meta(&again, "uid") != meta(&binding, "uid")).then_some(())
    };
    plane.until("binding is back", back).await;
    plane
        .world
        .patch(
            "resourcequotas",
            &first,
            "",
            &json!({"spec": {"hard": {"limits.memory": "900Gi"}}}),
        )
        .await
        .unwrap();
    plane
        .until("quota is back", |w| {
            (quota(w)?["spec"]["hard"]["limits.memory"] == "4Gi").then_some(())
        })
        .await;
    plane
        .world
        .patch(OWN, &own, "", &json!({"spec": {"permissions": []}}))
        .await
        .unwrap();
    plane
        .until("binding is gone", |w| {
            w.list(bindings, "demo").is_empty().then_some(())
        })
        .await;
    plane.world.delete(OWN, &own, "Background").await.unwrap();
    plane
        .until("namespace is gone", |w| {
            w.get("namespaces", "", "demo").is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_get_addresses_and_lose_taints() {
    let plane = Plane::start(&["host-1", "host-2"]).await;
    let blocks = |w: &World| {
        let nodes = w.all("nodes");
        let mut blocks: Vec<String> = nodes
            .iter()
            .map(|n| text(n, "/spec/podCIDR").to_string())
            .collect();
        blocks.sort();
        let clean = nodes.iter().all(|n| items(n, "/spec/taints").is_empty());
        (blocks == ["10.244.0.0/24", "10.244.1.0/24"] && clean).then_some(())
    };
    plane.until("blocks of addresses, no taints", blocks).await;
    let node = plane.world.get("nodes", "", "host-2").unwrap();
    let mut status = node["status"].clone();
    status["conditions"][0]["status"] = json!("False");
    plane.world.update_status("nodes", &node, &status).await.unwrap();
    let tainted = |w: &World| {
        let node = w.get("nodes", "", "host-2")?;
        let effects: Vec<&str> = items(&node, "/spec/taints")
            .iter()
            .map(|t| text(t, "/effect"))
            .collect();
        (effects == ["NoSchedule", "NoExecute"]).then_some(())
    };
    plane.until("taints", tainted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_gather_the_rules_of_others() {
    const ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
    let plane = Plane::start(&[]).await;
    let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
    let role = |name: &str, label: &str, rules: Vec<Value>| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {"gather": label}}, "rules": rules})
    };
    let both = rule("secrets");
    plane
        .create(ROLES, role("part-b", "yes", vec![rule("pods"), both.clone()]))
        .await;
    let first = plane
        .create(ROLES, role("part-a", "also", vec![both.clone()]))
        .await;
    plane
        .create(ROLES, role("apart", "no", vec![rule("nodes")]))
        .await;
    let mut whole = role("whole", "yes", vec![rule("services")]);
    whole["aggregationRule"] = json!({"clusterRoleSelectors": [
        {"matchLabels": {"gather": "yes"}}, {"matchExpressions": [{"key": "gather", "operator": "In", "values": ["also"]}]}]});
    let whole = plane.create(ROLES, whole).await;
    let has = |wanted: Vec<Value>| {
        move |w: &World| {
            let role = w.get(ROLES, "", "whole")?;
            (role["rules"] == json!(wanted)).then_some(role)
        }
    };
    // Selector by selector, role by role in order of names, each rule once, and nothing that it had of its own.
    plane
        .until("the rules of both", has(vec![rule("pods"), both.clone()]))
        .await;

    // Whoever writes other rules into it is overruled; a role that goes takes its rules along.
    let written = json!({"rules": [rule("nodes")]});
    plane.world.patch(ROLES, &whole, "", &written).await.unwrap();
    plane
        .until("its rules again", has(vec![rule("pods"), both.clone()]))
        .await;
    plane
        .create(ROLES, role("part-c", "yes", vec![rule("events")]))
        .await;
    plane
        .until("a third", has(vec![rule("pods"), both.clone(), rule("events")]))
        .await;
    let part = plane.world.get(ROLES, "", "part-b").unwrap();
    plane.world.delete_now(ROLES, &part).await.unwrap();
    plane
        .until("one less", has(vec![rule("events"), both.clone()]))
        .await;
    plane.world.delete_now(ROLES, &first).await.unwrap();
    plane.until("one alone", has(vec![rule("events")])).await;
}
