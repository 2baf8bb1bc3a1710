//! A whole control plane in memory: API server, controllers, and hosts whose Pods run without doing anything.

#![allow(clippy::unwrap_used)]
#![allow(dead_code)]

use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use controllers::obj::{deleting, finished, meta, text};
use controllers::world::{World, WorldError};
use controllers::{Manager, WorkQueues};
use kube::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

/// The control plane; everything ends when it is dropped.
pub struct Plane {
    pub world: Arc<World>,
    pub client: Client,
    pub queues: Arc<WorkQueues>,
    api: Arc<ApiServer>,
    stop: CancellationToken,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
        self.api.stop();
    }
}

fn root_certificate() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

/// Signs with words instead of keys.
#[derive(Debug)]
struct Keys;

impl controllers::Signer for Keys {
    fn sign(&self, _: &str, usages: &[String], life: Duration) -> Result<String, String> {
        // A certificate whose name tells what it was asked to be.
        let mut params = rcgen::CertificateParams::default();
        let name = format!("{} for {} s", usages.join(", "), life.as_secs());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
        let made = params.self_signed(&key).map_err(|error| error.to_string())?;
        Ok(made.pem())
    }
}

impl controllers::TokenMaker for Keys {
    fn token(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Result<String, String> {
        Ok(format!("{namespace}/{secret} {account} {uid}"))
    }
}

impl Plane {
    /// Starts one with these hosts.
    pub async fn start(hosts: &[&str]) -> Plane {
        let mut config = Config::new("test", Arc::new(MemoryStore::new()));
        config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let api = ApiServer::start(config).await.unwrap();
        let client =
            |name: &str, groups: &[&str]| Client::new(api.local_service(User::new(name, groups)), "default");
        let stop = CancellationToken::new();
        let own = client("system:kube-controller-manager", &["system:authenticated"]);
        let manager = Manager::new(
            World::new(own, api.view()),
            controllers::Config {
                pod_cidr: "10.244.0.0/16".into(),
                node_block_prefix: 24,
                root_ca_pem: root_certificate(),
                vip_pool: vec!["198.51.100.0/24".into()],
                signer: Some(Arc::new(Keys)),
                tokens: Some(Arc::new(Keys)),
            },
        );
        let queues = WorkQueues::new();
        tokio::spawn(manager.told_to(queues.clone()).run(stop.clone()));
        let admin = client("admin", &["system:masters", "system:authenticated"]);
        let world = World::new(admin.clone(), api.view());
        let plane = Plane {
            world,
            client: admin,
            queues,
            api,
            stop,
        };
        for host in hosts {
            plane.add_host(host).await;
        }
        plane.spawn_hosts();
        // Without it, which the controllers make, Pods are refused.
        let account = |w: &World| w.get("serviceaccounts", "default", "default");
        plane.until("the service account of Pods", account).await;
        plane
    }

    /// A client of the API server as somebody.
    pub fn acting_as(&self, name: &str, groups: &[&str]) -> Arc<World> {
        let client = Client::new(self.api.local_service(User::new(name, groups)), "default");
        self.world.acting_through(client)
    }

    /// Adds a Node that is ready.
    pub async fn add_host(&self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let node = self.world.create("nodes", &node).await.unwrap();
        let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        let status = json!({"capacity": room, "allocatable": room, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]});
        self.world.update_status("nodes", &node, &status).await.unwrap();
    }

    /// Hosts and scheduler in one: binds Pods to the node they are pinned to, or to the first, and lets them run. The image
    /// says how a Pod goes on: `ok` succeeds, `bad` fails, everything else stays.
    fn spawn_hosts(&self) {
        let (world, stop) = (self.world.clone(), self.stop.clone());
        tokio::spawn(async move {
            let mut changes = world.subscribe();
            while !stop.is_cancelled() {
                for (at, pod) in world.all("pods").iter().enumerate() {
                    host(&world, pod, at).await;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Creates an object.
    pub async fn create(&self, key: &str, object: Value) -> Value {
        self.world.create(key, &object).await.unwrap()
    }

    /// Waits until something is there; at most 20 seconds.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&World) -> Option<T>) -> T {
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
            Err(_) => panic!("{what} did not come about; Pods: {:#?}", self.pods("")),
        }
    }

    /// Names, nodes and phases of Pods, for messages and comparisons.
    pub fn pods(&self, namespace: &str) -> Vec<String> {
        let all = if namespace.is_empty() {
            self.world.all("pods")
        } else {
            self.world.list("pods", namespace)
        };
        let mut names: Vec<String> = all
            .iter()
            .map(|p| {
                format!(
                    "{} {} {}",
                    meta(p, "name"),
                    text(p, "/spec/nodeName"),
                    text(p, "/status/phase")
                )
            })
            .collect();
        names.sort();
        names
    }
}

/// A refusal is no failure of a test by itself (somebody was faster), but its words help to understand one.
fn tell<T>(result: Result<T, WorldError>) {
    if let Err(error) = result {
        eprintln!("host: {}", error.message());
    }
}

async fn host(world: &World, pod: &Value, at: usize) {
    let node = text(pod, "/spec/nodeName");
    if deleting(pod) {
        tell(world.delete_now("pods", pod).await);
    } else if node.is_empty() {
        let pinned = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
        let nodes = world.all("nodes");
        let first = nodes.first().map_or("", |n| meta(n, "name"));
        let node = if text(pod, pinned).is_empty() {
            first
        } else {
            text(pod, pinned)
        };
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": meta(pod, "name"), "namespace": meta(pod, "namespace")},
            "target": {"kind": "Node", "name": node}});
        tell(
            world
                .post_sub(
                    "pods",
                    meta(pod, "namespace"),
                    meta(pod, "name"),
                    "binding",
                    &binding,
                )
                .await,
        );
    } else if !finished(pod) {
        let phase = match text(pod, "/spec/containers/0/image") {
            "ok" => "Succeeded",
            "bad" => "Failed",
            _ => "Running",
        };
        if phase != text(pod, "/status/phase") {
            let now = controllers::obj::now();
            let news = json!({"phase": phase, "podIP": format!("10.244.0.{}", at + 2),
                "podIPs": [{"ip": format!("10.244.0.{}", at + 2)}], "conditions": [
                {"type": "Ready", "status": if phase == "Running" { "True" } else { "False" }, "lastTransitionTime": now}]});
            let mut status = pod["status"].clone();
            for (key, value) in news.as_object().into_iter().flatten() {
                status[key] = value.clone();
            }
            tell(world.update_status("pods", pod, &status).await);
        }
    }
}

/// The Pod template of a workload.
pub fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": image, "ports": [{"containerPort": 80}]}]}})
}
