//! A host agent on a simulated hypervisor, with an API server in the same process.

#![allow(clippy::unwrap_used)]
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use host::{Agent, Capacity, HostConfig, HostDeps, ImageGc, ImageSource, NoImages, NoNetwork, PodNetwork};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;
use vmm::Hypervisor;
use vmm::simulated::SimulatedDriver;

/// The host's name.
pub const NODE: &str = "h1";
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Everything a test works with.
pub struct Host {
    pub api: Arc<ApiServer>,
    pub admin: kube::Client,
    pub driver: Arc<SimulatedDriver>,
    pub agent: Arc<Agent>,
    pub directory: tempfile::TempDir,
    setup: Setup,
    stop: CancellationToken,
}

/// What a host is made of, and from where on it is short of something.
#[derive(Clone)]
pub struct Setup {
    pub pressure: host::pressure::Thresholds,
    pub image_gc: ImageGc,
    pub images: Arc<dyn ImageSource>,
    pub network: Arc<dyn PodNetwork>,
    /// After so much silence a guest counts as hung.
    pub silence: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pressure: host::pressure::Thresholds::default(),
            image_gc: ImageGc::default(),
            images: Arc::new(NoImages),
            network: Arc::new(NoNetwork),
            // Nobody is taken for hung because the machine is busy.
            silence: LIMIT,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
        self.api.stop();
    }
}

impl Host {
    pub async fn start() -> Self {
        Self::start_with(host::pressure::Thresholds::default()).await
    }

    /// A host that is under pressure from there on.
    pub async fn start_with(pressure: host::pressure::Thresholds) -> Self {
        Self::set_up(Setup {
            pressure,
            ..Setup::default()
        })
        .await
    }

    /// A host that is made of other parts.
    pub async fn set_up(setup: Setup) -> Self {
        Self::start_as(setup, |driver| driver).await
    }

    /// A host on another hypervisor, made of the simulated one.
    pub async fn start_on(hypervisor: impl FnOnce(Arc<SimulatedDriver>) -> Arc<dyn Hypervisor>) -> Self {
        Self::start_as(Setup::default(), hypervisor).await
    }

    async fn start_as(
        setup: Setup,
        hypervisor: impl FnOnce(Arc<SimulatedDriver>) -> Arc<dyn Hypervisor>,
    ) -> Self {
        let mut config = Config::new("cp", Arc::new(MemoryStore::new()));
        config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let api = ApiServer::start(config).await.unwrap();
        let admin = kube::Client::new(
            api.local_service(User::new("admin", &["system:masters"])),
            "default",
        );
        let account: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        account
            .create(
                &PostParams::default(),
                &object(json!({"metadata": {"name": "default"}})),
            )
            .await
            .unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
        let root = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "PEM"}});
        maps.create(&PostParams::default(), &object(root)).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let driver = Arc::new(SimulatedDriver::new());
        let (agent, stop) = Self::agent(&api, hypervisor(driver.clone()), &directory, &setup).await;
        let host = Self {
            api,
            admin,
            driver,
            agent,
            directory,
            setup,
            stop,
        };
        let nodes: Api<Node> = Api::all(host.admin.clone());
        await_limited(await_condition(nodes.clone(), NODE, |node: Option<&Node>| {
            node.is_some()
        }))
        .await
        .unwrap();
        let patch = json!({"spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}});
        nodes
            .patch(NODE, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
        host
    }

    async fn agent(
        api: &Arc<ApiServer>,
        hypervisor: Arc<dyn Hypervisor>,
        directory: &tempfile::TempDir,
        setup: &Setup,
    ) -> (Arc<Agent>, CancellationToken) {
        let user = User::new(format!("system:node:{NODE}"), &["system:nodes"]);
        let client = kube::Client::new(api.local_service(user), "default");
        let mut config = HostConfig::new(
            NODE,
            directory.path().join("data"),
            directory.path().join("run"),
            "127.0.0.1".parse().unwrap(),
        );
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.eviction_pause = Some(Duration::from_millis(50));
        config.pressure = setup.pressure;
        config.image_gc = setup.image_gc;
        config.silence = setup.silence;
        config.capacity = Capacity {
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            pods: 50,
            ephemeral_bytes: 100 << 30,
        };
        let deps = HostDeps {
            client,
            hypervisor,
            images: setup.images.clone(),
            network: setup.network.clone(),
        };
        let agent = Agent::start(config, deps).await.unwrap();
        let stop = CancellationToken::new();
        let (running, token) = (agent.clone(), stop.clone());
        tokio::spawn(async move { running.run(token).await });
        (agent, stop)
    }

    /// Ends the agent as a crash would, and starts another one.
    pub async fn restart_agent(&mut self) {
        self.stop_agent().await;
        self.start_agent().await;
    }

    /// Ends the agent as a crash would.
    pub async fn stop_agent(&self) {
        self.agent.shutdown(false).await;
    }

    /// Starts another one, on the same machine.
    pub async fn start_agent(&mut self) {
        let (agent, stop) = Self::agent(&self.api, self.driver.clone(), &self.directory, &self.setup).await;
        self.agent = agent;
        self.stop = stop;
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), "default")
    }

    /// Makes a Pod on the host.
    pub async fn create(&self, name: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["nodeName"] = json!(NODE);
        let pod = object(json!({"metadata": {"name": name}, "spec": spec}));
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    /// Waits until the Pod is as wanted; panics with its last state otherwise.
    pub async fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        let condition = |pod: Option<&Pod>| pod.is_some_and(&wanted);
        let found = tokio::time::timeout(LIMIT, await_condition(self.pods(), name, condition)).await;
        match found {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => {
                let pod = self.pods().get_opt(name).await.unwrap();
                let status = serde_json::to_string_pretty(&pod.and_then(|pod| pod.status)).unwrap();
                panic!("{name} is not {what}: {status}\n{:#?}", self.events(name).await);
            }
        }
    }

    pub async fn ready(&self, name: &str) -> Pod {
        self.wait(name, "ready", |pod| condition(pod, "Ready") == "True")
            .await
    }

    pub async fn phase(&self, name: &str, phase: &str) -> Pod {
        self.wait(name, phase, |pod| {
            pod.status.as_ref().unwrap().phase.as_deref() == Some(phase)
        })
        .await
    }

    /// Deletes the Pod and waits until its object is gone.
    pub async fn delete(&self, name: &str, grace: Option<u32>) {
        let params = DeleteParams {
            grace_period_seconds: grace,
            ..DeleteParams::default()
        };
        self.pods().delete(name, &params).await.unwrap();
        await_limited(await_condition(self.pods(), name, |pod: Option<&Pod>| {
            pod.is_none()
        }))
        .await
        .unwrap();
    }

    /// Waits for one of the Pod's events: they are written one after the other, beside everything else.
    pub async fn told(&self, name: &str, what: &str, is: impl Fn(&str) -> bool) {
        eventually(what, async || {
            self.events(name).await.iter().any(|event| is(event))
        })
        .await;
    }

    /// `reason: message` of the Pod's events.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.admin.clone(), "default");
        let list = api.list(&ListParams::default()).await.unwrap();
        let text = |event: Event| {
            format!(
                "{}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        };
        list.into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .map(text)
            .collect()
    }

    /// The run directory of a Pod's VM.
    pub fn run_dir(&self, pod: &Pod) -> std::path::PathBuf {
        let uid = pod.metadata.uid.as_ref().unwrap();
        self.directory.path().join("run").join("vms").join(uid)
    }

    /// The fake guest of a Pod.
    pub fn guest(&self, pod: &Pod) -> guest_api::simulated::SimulatedGuest {
        self.driver.guest(&self.run_dir(pod)).unwrap()
    }
}

pub async fn await_limited<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, what).await.expect("in time")
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + LIMIT;
    while !is().await {
        assert!(tokio::time::Instant::now() < until, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// The truth of a condition.
pub fn condition(pod: &Pod, name: &str) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == name)
        .map(|condition| condition.status.clone())
        .unwrap_or_default()
}

/// The state of a container as one word: `running`, or the reason.
pub fn state(pod: &Pod, name: &str) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let all = status
        .container_statuses
        .into_iter()
        .chain(status.init_container_statuses)
        .flatten();
    let Some(container) = all.into_iter().find(|container| container.name == name) else {
        return String::new();
    };
    let state = container.state.unwrap_or_default();
    if state.running.is_some() {
        return "running".into();
    }
    let waiting = state.waiting.and_then(|waiting| waiting.reason);
    waiting
        .or_else(|| {
            state
                .terminated
                .map(|ended| format!("{} {}", ended.reason.unwrap_or_default(), ended.exit_code))
        })
        .unwrap_or_default()
}

pub fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count
}
