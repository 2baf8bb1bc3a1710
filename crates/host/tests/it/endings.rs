//! How Pods and containers end and begin again: deadlines and evictions under agents that come and go, containers that were
//! ended to begin anew, grace periods, policies and rules of restarts, and their back-off, on a simulated host.

#![allow(clippy::unwrap_used)]

use super::common;

use std::sync::Arc;

use async_trait::async_trait;
use common::{Host, Setup, condition, eventually, restarts, state};
use dataplane::model::{HostPort, PodNic, Service};
use dataplane::policy::Policy;
use host::{NetworkError, NoNetwork, PodNetwork, TapHandle};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

fn container(args: &[&str]) -> Value {
    json!({"name": "app", "image": "example.test/app:1", "args": args})
}

fn verdict(pod: &Pod) -> (String, String) {
    let status = pod.status.clone().unwrap();
    (
        status.phase.unwrap_or_default(),
        status.reason.unwrap_or_default(),
    )
}

fn words(phase: &str, reason: &str) -> (String, String) {
    (phase.to_owned(), reason.to_owned())
}

async fn told(host: &Host, pod: &str, event: &str) {
    eventually(event, async || {
        host.events(pod).await.iter().any(|told| told.starts_with(event))
    })
    .await;
}

/// The end of a container's present or last run.
fn ended(pod: &Pod, name: &str) -> Option<ContainerStateTerminated> {
    let statuses = pod.status.clone()?.container_statuses?;
    let status = statuses.into_iter().find(|status| status.name == name)?;
    let now = status.state.and_then(|state| state.terminated);
    now.or_else(|| status.last_state?.terminated)
}

/// Sets a deadline that has passed already, or will within the second.
async fn deadline(host: &Host, pod: &str) {
    let patch = json!({"spec": {"activeDeadlineSeconds": 1}});
    let params = PatchParams::default();
    host.pods()
        .patch(pod, &params, &Patch::Merge(patch))
        .await
        .unwrap();
}

/// A network from which nobody gets away while it is held.
struct Held(watch::Receiver<bool>);

#[async_trait]
impl PodNetwork for Held {
    async fn attach(&self, nic: &PodNic) -> Result<TapHandle, NetworkError> {
        NoNetwork.attach(nic).await
    }

    async fn detach(&self, vm_id: &str) -> Result<(), NetworkError> {
        let _ = self.0.clone().wait_for(|held| !held).await;
        NoNetwork.detach(vm_id).await
    }

    async fn set_services(&self, services: Vec<Service>) -> Result<(), NetworkError> {
        NoNetwork.set_services(services).await
    }

    async fn set_host_ports(&self, ports: Vec<HostPort>) -> Result<(), NetworkError> {
        NoNetwork.set_host_ports(ports).await
    }

    async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), NetworkError> {
        NoNetwork.set_policies(policies).await
    }
}

#[tokio::test]
async fn a_deadline_leaves_the_phase_until_the_end() {
    let host = Host::start().await;
    let spec = json!({"terminationGracePeriodSeconds": 5, "containers": [container(&["stubborn"])]});
    host.create("late", spec).await;
    host.ready("late").await;
    deadline(&host, "late").await;
    told(&host, "late", "Killing: Stopping container app").await;
    let pod = host
        .wait("late", "without traffic", |pod| {
            condition(pod, "Ready") == "False"
        })
        .await;
    // Its container has its grace period still.
    assert_eq!(verdict(&pod), words("Running", ""));
    assert_eq!(state(&pod, "app"), "running");
    let pod = host.phase("late", "Failed").await;
    assert_eq!(verdict(&pod), words("Failed", "DeadlineExceeded"));
    assert_eq!(state(&pod, "app"), "Error 137");
    assert_eq!(condition(&pod, "DisruptionTarget"), "");
}

/// Whatever an agent has begun to end, the next one ends.
#[tokio::test]
async fn a_verdict_outlives_its_agent() {
    let (hold, held) = watch::channel(false);
    let mut host = Host::set_up(Setup {
        network: Arc::new(Held(held)),
        ..Setup::default()
    })
    .await;
    let mounts = json!([{"name": "cache", "mountPath": "/cache"}]);
    let mut full = container(&["stubborn"]);
    full["volumeMounts"] = mounts.clone();
    let volumes = json!([{"name": "cache", "emptyDir": {"sizeLimit": "10Mi"}}]);
    host.create("full", json!({"containers": [full], "volumes": volumes}))
        .await;
    let mut gone = container(&["serve"]);
    gone["volumeMounts"] = mounts;
    host.create("gone", json!({"containers": [gone], "volumes": volumes}))
        .await;
    let late = json!({"terminationGracePeriodSeconds": 3, "containers": [container(&["stubborn"])]});
    host.create("late", late).await;
    for name in ["full", "gone", "late"] {
        host.ready(name).await;
    }
    deadline(&host, "late").await;
    told(&host, "late", "DeadlineExceeded: ").await;
    hold.send_replace(true);
    for name in ["full", "gone"] {
        let pod = host.pods().get(name).await.unwrap();
        host.guest(&pod).fill("cache", 11 << 20);
    }
    // One has ended, and its VM is about to go; the others are within their grace period.
    let pod = host.phase("gone", "Failed").await;
    assert!(host.run_dir(&pod).exists());
    told(&host, "full", "Evicted: ").await;
    host.stop_agent().await;
    hold.send_replace(false);
    host.start_agent().await;
    for (name, reason, end) in [
        ("full", "Evicted", "Error 137"),
        ("gone", "Evicted", "Completed 0"),
        ("late", "DeadlineExceeded", "Error 137"),
    ] {
        let pod = host.phase(name, "Failed").await;
        assert_eq!(verdict(&pod), words("Failed", reason), "{name}");
        assert_eq!((restarts(&pod), state(&pod, "app").as_str()), (0, end), "{name}");
    }
    eventually("the end of all VMs", async || host.driver.count() == 0).await;
    for name in ["full", "gone", "late"] {
        let pod = host.pods().get(name).await.unwrap();
        eventually("no trace", async || !host.run_dir(&pod).exists()).await;
        assert_eq!(
            (pod.status.as_ref().unwrap().phase.as_deref(), restarts(&pod)),
            (Some("Failed"), 0)
        );
        host.delete(name, None).await;
    }
}

/// Who is ended for its health begins anew though it ends well, unless it never does.
#[tokio::test]
async fn the_unhealthy_begin_anew() {
    let host = Host::start().await;
    let probe = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    let mut lives = container(&["serve"]);
    lives["livenessProbe"] = probe.clone();
    let mut starts = container(&["serve"]);
    starts["startupProbe"] = probe;
    let mut side = lives.clone();
    (side["name"], side["restartPolicy"]) = (json!("side"), json!("Always"));
    let anew = |policy: &str, container: &Value| json!({"restartPolicy": policy, "containers": [container]});
    let mut never = lives.clone();
    never["restartPolicy"] = json!("Never");
    let mut beside = anew("OnFailure", &container(&["serve"]));
    beside["initContainers"] = json!([side]);
    let liveness = "Killing: Container app failed liveness probe";
    let cases = [
        (
            "lives",
            anew("OnFailure", &lives),
            format!("{liveness}, will be restarted"),
        ),
        ("never", anew("Never", &lives), liveness.to_owned()),
        ("own", anew("Always", &never), liveness.to_owned()),
        (
            "beside",
            beside,
            "Killing: Init container side failed liveness probe".to_owned(),
        ),
    ];
    for (name, spec, _) in &cases {
        host.create(name, spec.clone()).await;
    }
    for (name, _, event) in &cases {
        let pod = host.ready(name).await;
        let guest = host.guest(&pod);
        guest.set_sick(Some("connection refused"));
        eventually(event, async || host.events(name).await.contains(event)).await;
        guest.set_sick(None);
    }
    for name in ["never", "own"] {
        let pod = host.phase(name, "Succeeded").await;
        assert_eq!(
            (restarts(&pod), state(&pod, "app").as_str()),
            (0, "Completed 0"),
            "{name}"
        );
    }
    let lives = |pod: &Pod| restarts(pod) > 0 && state(pod, "app") == "running";
    let pod = host.wait("lives", "running again", lives).await;
    assert_eq!(ended(&pod, "app").unwrap().exit_code, 0);
    let beside = |pod: &Pod| {
        let statuses = pod.status.clone().unwrap().init_container_statuses.unwrap();
        statuses[0].restart_count > 0 && state(pod, "side") == "running"
    };
    host.wait("beside", "beside another", beside).await;
    // One that never got well when it began.
    let mut spec = anew("OnFailure", &starts);
    spec["initContainers"] = json!([{"name": "first", "image": "example.test/app:1", "args": ["serve"]}]);
    host.create("starts", spec).await;
    let pod = host
        .wait("starts", "in its first container", |pod| {
            state(pod, "first") == "running"
        })
        .await;
    // Ill before it is asked for the first time.
    let guest = host.guest(&pod);
    guest.set_sick(Some("connection refused"));
    guest.end("first_0", 0, false);
    told(
        &host,
        "starts",
        "Killing: Container app failed startup probe, will be restarted",
    )
    .await;
    guest.set_sick(None);
    host.wait("starts", "running again", lives).await;
}

/// To the second: a container that does not heed its signal has just its grace period.
#[tokio::test]
async fn grace_is_kept_to_the_second() {
    let host = Host::start().await;
    let spec = json!({"terminationGracePeriodSeconds": 3, "containers": [container(&["stubborn"])]});
    host.create("slow", spec).await;
    host.ready("slow").await;
    deadline(&host, "slow").await;
    let pod = host.phase("slow", "Failed").await;
    let end = ended(&pod, "app").unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("Error")));
    let events: Api<Event> = Api::namespaced(host.admin.clone(), "default");
    let all = events.list(&ListParams::default()).await.unwrap();
    let killing = all
        .into_iter()
        .find(|event| event.reason.as_deref() == Some("Killing"));
    // Times of objects have whole seconds.
    let told = killing.unwrap().first_timestamp.unwrap().0;
    let took = end.finished_at.unwrap().0.duration_since(told).as_secs();
    assert!((3..=5).contains(&took), "{took} seconds");
}

/// Who is to end at once, or whose object is taken away, has a moment all the same.
#[tokio::test]
async fn nobody_has_less_than_a_moment() {
    let host = Host::start().await;
    for (name, spec_seconds, asked) in [("forced", 30, Some(0)), ("hasty", 0, None)] {
        let spec =
            json!({"terminationGracePeriodSeconds": spec_seconds, "containers": [container(&["stubborn"])]});
        host.create(name, spec).await;
        let pod = host.ready(name).await;
        let since = std::time::Instant::now();
        host.delete(name, asked).await;
        eventually("the VM's end", async || !host.run_dir(&pod).exists()).await;
        let took = since.elapsed().as_secs();
        // Not the half minute that one of them has otherwise.
        assert!((2..25).contains(&took), "{name}: {took} seconds");
    }
}

/// Containers of one Pod with policies and rules of their own, init containers among them (KEP-5307).
#[tokio::test]
async fn every_container_by_its_own_rules() {
    let host = Host::start().await;
    let rule = |code: i32| json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [code]}}]);
    let with = |name: &str, policy: &str, rules: Option<Value>| {
        let mut container = container(&["serve"]);
        (container["name"], container["restartPolicy"]) = (json!(name), json!(policy));
        if let Some(rules) = rules {
            container["restartPolicyRules"] = rules;
        }
        container
    };
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [with("tries", "OnFailure", None), with("ruled", "Never", Some(rule(42)))],
        "containers": [with("always", "Always", None), with("never", "Never", Some(rule(42))),
            {"name": "plain", "image": "example.test/app:1", "args": ["serve"]}]});
    host.create("mixed", spec).await;
    let runs = |name: &'static str, count: i32| {
        move |pod: &Pod| {
            let status = pod.status.clone().unwrap_or_default();
            let mut all = status
                .init_container_statuses
                .into_iter()
                .chain(status.container_statuses);
            let found = all.find_map(|list| list.into_iter().find(|status| status.name == name));
            found.is_some_and(|status| status.restart_count == count) && state(pod, name) == "running"
        }
    };
    // The first init container fails once, the second ends once as its rule says.
    for (name, code) in [("tries", 1), ("ruled", 42)] {
        let pod = host.wait("mixed", name, runs(name, 0)).await;
        host.guest(&pod).end(&format!("{name}_0"), code, false);
        let pod = host.wait("mixed", "once more", runs(name, 1)).await;
        assert_eq!(
            pod.status.as_ref().unwrap().phase.as_deref(),
            Some("Pending"),
            "{name}"
        );
        host.guest(&pod).end(&format!("{name}_1"), 0, false);
    }
    let pod = host.ready("mixed").await;
    let guest = host.guest(&pod);
    guest.end("always_0", 0, false);
    host.wait("mixed", "always", runs("always", 1)).await;
    guest.end("never_0", 42, false);
    host.wait("mixed", "ruled", runs("never", 1)).await;
    // Its rule does not speak of this end, and the Pod's policy of the other.
    guest.end("never_1", 1, false);
    guest.end("plain_0", 42, false);
    let pod = host
        .wait("mixed", "without two", |pod| {
            state(pod, "never") == "Error 1" && state(pod, "plain") == "Error 42"
        })
        .await;
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    assert!(runs("always", 1)(&pod));
    // An init container that fails for good is the end of its Pod.
    let spec = json!({"restartPolicy": "Always", "initContainers": [with("ruled", "Never", Some(rule(42)))],
        "containers": [container(&["serve"])]});
    host.create("broken", spec).await;
    let pod = host.wait("broken", "ruled", runs("ruled", 0)).await;
    host.guest(&pod).end("ruled_0", 41, false);
    let pod = host.phase("broken", "Failed").await;
    assert_eq!(state(&pod, "ruled"), "Error 41");
}

/// Moves what an agent has noted of a Pod's back-off into the past, as if so much time had gone by.
fn age(host: &Host, pod: &Pod, seconds: i64) {
    let path = host.run_dir(pod).join("pod.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let since = &mut file["records"][0]["backoff"]["entry"][1];
    let then: jiff::Timestamp = since.as_str().unwrap().parse().unwrap();
    *since = json!(then - jiff::SignedDuration::from_secs(seconds));
    std::fs::write(path, file.to_string()).unwrap();
}

/// The first restart is at once, the ones after it wait, and ten minutes without one forget all that.
#[tokio::test]
async fn back_off_is_forgotten_after_ten_minutes() {
    let mut host = Host::start().await;
    host.create("loop", json!({"containers": [container(&["serve"])]}))
        .await;
    let pod = host.ready("loop").await;
    let guest = host.guest(&pod);
    let runs = |count: i32| move |pod: &Pod| restarts(pod) == count && state(pod, "app") == "running";
    let message = |pod: &Pod| {
        let status = pod.status.clone().unwrap().container_statuses.unwrap().remove(0);
        status.state.unwrap().waiting.unwrap().message.unwrap()
    };
    let waits = |pod: &Pod| state(pod, "app") == "CrashLoopBackOff";
    guest.end("app_0", 1, false);
    host.wait("loop", "running again", runs(1)).await;
    // Nine minutes later it is still known, eleven minutes later no more.
    host.stop_agent().await;
    age(&host, &pod, 540);
    host.start_agent().await;
    guest.end("app_1", 1, false);
    let pod = host.wait("loop", "waiting", waits).await;
    assert!(message(&pod).starts_with("back-off 10s restarting failed container=app pod=loop_default("));
    host.delete("loop", Some(0)).await;

    host.create("loop", json!({"containers": [container(&["serve"])]}))
        .await;
    let pod = host.ready("loop").await;
    let guest = host.guest(&pod);
    guest.end("app_0", 1, false);
    host.wait("loop", "running again", runs(1)).await;
    host.stop_agent().await;
    age(&host, &pod, 660);
    host.start_agent().await;
    guest.end("app_1", 1, false);
    host.wait("loop", "running at once", runs(2)).await;
    guest.end("app_2", 1, false);
    let pod = host.wait("loop", "waiting", waits).await;
    assert!(message(&pod).starts_with("back-off 10s "));
}
