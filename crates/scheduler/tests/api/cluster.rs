//! The scheduler against a real API server, under its own name and rights.

use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use controllers::obj::{condition, items, meta, text};
use controllers::world::World;
use kube::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

struct Plane {
    world: Arc<World>,
    api: Arc<ApiServer>,
    stop: CancellationToken,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
        self.api.stop();
    }
}

impl Plane {
    async fn start() -> Plane {
        let mut config = Config::new("test", Arc::new(MemoryStore::new()));
        config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let api = ApiServer::start(config).await.unwrap();
        let client =
            |name: &str, groups: &[&str]| Client::new(api.local_service(User::new(name, groups)), "default");
        let stop = CancellationToken::new();
        let own = client("system:kube-scheduler", &["system:authenticated"]);
        let own = World::new(own, api.view());
        let stopped = stop.clone();
        tokio::spawn(async move { scheduler::run(&own, stopped).await });
        let world = World::new(client("admin", &["system:masters"]), api.view());
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}});
        world.create("serviceaccounts", &account).await.unwrap();
        Plane { world, api, stop }
    }

    async fn node(&self, name: &str, cpu: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let node = self.world.create("nodes", &node).await.unwrap();
        // No controller runs here that would take the taint off which new Nodes get.
        self.world
            .patch("nodes", &node, "", &json!({"spec": {"taints": null}}))
            .await
            .unwrap();
        let room = json!({"cpu": cpu, "memory": "4Gi", "pods": "110"});
        self.world
            .update_status("nodes", &node, &json!({"capacity": room, "allocatable": room}))
            .await
            .unwrap();
    }

    /// A priority class `high`.
    async fn class(&self) {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000});
        self.world
            .create("priorityclasses.scheduling.k8s.io", &class)
            .await
            .unwrap();
    }

    async fn pod(&self, name: &str, cpu: &str, class: &str) -> Value {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": "x", "resources": {"requests": {"cpu": cpu}}}]}});
        if !class.is_empty() {
            pod["spec"]["priorityClassName"] = json!(class);
        }
        self.world.create("pods", &pod).await.unwrap()
    }

    async fn until<T>(&self, what: &str, look: impl Fn(&World) -> Option<T>) -> T {
        let mut changes = self.world.subscribe();
        let wait = async {
            loop {
                if let Some(found) = look(&self.world) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{what} did not come about: {:#?}",
                self.world.list("pods", "default")
            ),
        }
    }

    async fn event(&self, reason: &str) -> String {
        let told = self.told(reason).await;
        text(&told, "/message").to_string()
    }

    async fn told(&self, reason: &str) -> Arc<Value> {
        self.until(reason, |w| {
            let events = w.list("events", "default");
            events.into_iter().find(|e| e["reason"] == reason)
        })
        .await
    }
}

fn on(name: &'static str, node: &'static str) -> impl Fn(&World) -> Option<()> {
    move |w| (text(&*w.get("pods", "default", name)?, "/spec/nodeName") == node).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_bound_or_told_why_not() {
    let plane = Plane::start().await;
    plane.node("host-1", "2").await;
    plane.pod("fits", "1", "").await;
    plane.until("bound", on("fits", "host-1")).await;
    assert_eq!(
        plane.event("Scheduled").await,
        "Successfully assigned default/fits to host-1"
    );
    let scheduled = plane.told("Scheduled").await;
    let shape = |event: &Value| {
        ["/action", "/reportingComponent", "/source/component", "/count"]
            .map(|at| text(event, at).to_string())
    };
    assert_eq!(shape(&scheduled), ["Binding", "default-scheduler", "", ""]);
    assert!(
        scheduled["eventTime"].is_string() && scheduled["related"].is_null(),
        "{scheduled}"
    );
    plane.pod("large", "64", "").await;
    let expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(plane.event("FailedScheduling").await, expected);
    let told = |w: &World| {
        let pod = w.get("pods", "default", "large")?;
        let told = condition(&pod, "PodScheduled")?;
        Some((
            text(told, "/reason").to_string(),
            text(told, "/message").to_string(),
        ))
    };
    assert_eq!(
        plane.until("condition", told).await,
        ("Unschedulable".to_string(), expected.to_string())
    );
    // A host that can take it comes.
    plane.node("host-2", "96").await;
    plane.until("bound to the new host", on("large", "host-2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_important_make_room() {
    let plane = Plane::start().await;
    plane.node("host-1", "2").await;
    plane.class().await;
    let low = plane.pod("low", "2", "").await;
    plane.until("bound", on("low", "host-1")).await;
    let high = plane.pod("high", "2", "high").await;
    let message = plane.event("Preempted").await;
    assert_eq!(
        message,
        format!("Preempted by pod {} on node host-1", meta(&high, "uid"))
    );
    let told = plane.told("Preempted").await;
    assert_eq!(
        (text(&told, "/action"), text(&told, "/related/name")),
        ("Preempting", "high")
    );
    plane
        .until("the victim is marked or gone", |w| {
            match w.get("pods", "default", "low") {
                None => Some(()),
                Some(pod) => (!meta(&pod, "deletionTimestamp").is_empty()
                    && !items(&pod, "/status/conditions").is_empty())
                .then_some(()),
            }
        })
        .await;
    // What its host would do once it has stopped.
    let _ = plane.world.delete_now("pods", &low).await;
    plane.until("bound", on("high", "host-1")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_going_is_not_preempted() {
    let plane = Plane::start().await;
    plane.node("host-1", "2").await;
    plane.class().await;
    let low = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "low", "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 30, "containers": [
            {"name": "main", "image": "x", "resources": {"requests": {"cpu": "2"}}}]}});
    let low = plane.world.create("pods", &low).await.unwrap();
    plane.until("bound", on("low", "host-1")).await;
    plane.world.delete("pods", &low, "Background").await.unwrap();
    plane.pod("high", "2", "high").await;
    let nominated = |w: &World| {
        let pod = w.get("pods", "default", "high")?;
        (text(&pod, "/status/nominatedNodeName") == "host-1").then_some(())
    };
    plane.until("nominated", nominated).await;
    plane.world.delete_now("pods", &low).await.unwrap();
    plane.until("bound", on("high", "host-1")).await;
    let told = plane.world.list("events", "default");
    assert!(
        told.iter().all(|event| event["reason"] != "Preempted"),
        "{told:#?}"
    );
}
