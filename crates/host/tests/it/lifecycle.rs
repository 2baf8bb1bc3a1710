//! Pods from creation to the last trace, on a simulated hypervisor.

#![allow(clippy::unwrap_used)]
use super::common;

use common::{Host, Setup, await_limited, condition, eventually, object, restarts, state};
use futures::StreamExt;
use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::pin::pin;
use std::time::Duration;

fn container(args: &[&str]) -> serde_json::Value {
    json!({"name": "app", "image": "example.test/app:1", "args": args})
}

#[tokio::test]
async fn runs_and_leaves_nothing() {
    let host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    let pod = host.ready("web").await;
    let status = pod.status.clone().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.host_ip.as_deref(), Some("127.0.0.1"));
    assert!(status.pod_ip.as_ref().unwrap().starts_with("10.244.0."));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = &status.container_statuses.unwrap()[0];
    let uid = pod.metadata.uid.as_ref().unwrap();
    assert_eq!(
        container.container_id.as_ref().unwrap(),
        &format!("podvisor://{uid}/app_0")
    );
    assert!(container.image_id.starts_with("example.test/app@sha256:"));
    assert!(host.run_dir(&pod).exists());

    host.delete("web", None).await;
    // At the very moment the object is gone.
    assert_eq!(host.driver.count(), 0);
    assert!(!host.run_dir(&pod).exists());
    let logs = host.directory.path().join("data/logs/pods");
    assert_eq!(std::fs::read_dir(logs).unwrap().count(), 0);
    eventually("the last event", async || {
        host.events("web")
            .await
            .iter()
            .any(|event| event == "Killing: Stopping container app")
    })
    .await;
    for wanted in [
        "Pulled: Container image \"example.test/app:1\" already present on machine and can be accessed by the pod",
        "Created: Container created",
        "Started: Container started",
    ] {
        host.told("web", wanted, |event| event == wanted).await;
    }
}

#[tokio::test]
async fn ends_as_its_containers_end() {
    let host = Host::start().await;
    let cases = [
        ("good", "exit=0", "Succeeded", "Completed 0"),
        ("bad", "exit=3", "Failed", "Error 3"),
        ("fat", "oom", "Failed", "OOMKilled 137"),
    ];
    for (name, argument, phase, ended) in cases {
        let spec = json!({"restartPolicy": "Never", "containers": [container(&[argument])]});
        host.create(name, spec).await;
        let pod = host.phase(name, phase).await;
        assert_eq!(state(&pod, "app"), ended, "{name}");
        assert_eq!(condition(&pod, "Ready"), "False");
        eventually("the VM's end", async || !host.run_dir(&pod).exists()).await;
        host.delete(name, None).await;
    }
    assert_eq!(host.driver.count(), 0);
}

#[tokio::test]
async fn restarts_and_backs_off() {
    let host = Host::start().await;
    host.create("loop", json!({"containers": [container(&["exit=1"])]}))
        .await;
    let pod = host
        .wait("loop", "in a crash loop", |pod| {
            state(pod, "app") == "CrashLoopBackOff"
        })
        .await;
    assert_eq!(restarts(&pod), 1);
    let status = pod.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let last = status.container_statuses.unwrap()[0]
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    host.delete("loop", Some(0)).await;
}

/// Nobody hears of a moment between a container and the one of another image that takes its place.
#[tokio::test]
async fn another_image_takes_the_place_of_one() {
    let host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    let pod = host.ready("web").await;
    let version = pod.metadata.resource_version.unwrap();
    let mut changes = pin!(
        host.pods()
            .watch(&WatchParams::default(), &version)
            .await
            .unwrap()
    );
    let patch = json!({"spec": {"containers": [{"name": "app", "image": "example.test/app:2"}]}});
    host.pods()
        .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    loop {
        let change = await_limited(changes.next()).await.unwrap().unwrap();
        let WatchEvent::Modified(pod) = change else {
            panic!("{change:?}");
        };
        let told = (condition(&pod, "Ready"), state(&pod, "app"));
        assert_eq!(told, ("True".into(), "running".into()));
        if restarts(&pod) == 1 {
            break;
        }
    }
}

#[tokio::test]
async fn init_containers_come_first() {
    let host = Host::start().await;
    let spec = json!({
        "initContainers": [
            {"name": "one", "image": "example.test/init", "args": ["exit=0"]},
            {"name": "side", "image": "example.test/side", "restartPolicy": "Always"},
            {"name": "two", "image": "example.test/init", "args": ["exit=0"]},
        ],
        "containers": [container(&["serve"])],
    });
    host.create("web", spec).await;
    let pod = host.ready("web").await;
    assert_eq!(state(&pod, "one"), "Completed 0");
    assert_eq!(state(&pod, "side"), "running");
    assert_eq!(state(&pod, "two"), "Completed 0");
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "one", "image": "example.test/init", "args": ["exit=7"]}],
        "containers": [container(&["serve"])]});
    host.create("broken", spec).await;
    let pod = host.phase("broken", "Failed").await;
    assert_eq!(state(&pod, "one"), "Error 7");
}

#[tokio::test]
async fn waits_for_what_it_names() {
    let host = Host::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(host.admin.clone(), "default");
    let map = |value: &str| object(json!({"metadata": {"name": "cm"}, "data": {"key": value}}));
    let env = json!({"containers": [{"name": "app", "image": "example.test/app:1", "args": ["$(V)"],
        "env": [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "key"}}}]}]});
    host.create("env", env).await;
    host.wait("env", "missing its ConfigMap", |pod| {
        state(pod, "app") == "CreateContainerConfigError"
    })
    .await;
    let volume = json!({"containers": [{"name": "app", "image": "example.test/app:1",
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "configMap": {"name": "cm"}}]});
    host.create("volume", volume).await;
    eventually("the event", async || {
        let wanted = "FailedMount: MountVolume.SetUp failed for volume \"v\" : configmap \"cm\" not found";
        host.events("volume").await.iter().any(|event| event == wanted)
    })
    .await;
    maps.create(&PostParams::default(), &map("one")).await.unwrap();
    host.ready("env").await;
    let pod = host.ready("volume").await;
    let guest = host.guest(&pod);
    let content = || {
        guest
            .volume("v")
            .map(|files| files[0].data.clone())
            .unwrap_or_default()
    };
    assert_eq!(content(), b"one");
    let patch = json!({"data": {"key": "two"}});
    maps.patch("cm", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    eventually("the new content", async || content() == b"two").await;
}

/// Of runtimes a host has its own alone.
#[tokio::test]
async fn waits_for_a_runtime_that_is_not_here() {
    let host = Host::start().await;
    let classes: Api<RuntimeClass> = Api::all(host.admin.clone());
    for handler in ["podvisor", "gvisor"] {
        let class = object(json!({"metadata": {"name": handler}, "handler": handler}));
        classes.create(&PostParams::default(), &class).await.unwrap();
        let spec = json!({"runtimeClassName": handler, "containers": [container(&[])]});
        host.create(handler, spec).await;
    }
    eventually("the event", async || {
        let wanted = "FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get \
                      sandbox runtime: no runtime for \"gvisor\" is configured";
        host.events("gvisor").await.iter().any(|event| event == wanted)
    })
    .await;
    host.ready("podvisor").await;
    host.phase("gvisor", "Pending").await;
    host.delete("gvisor", None).await;
}

#[tokio::test]
async fn has_a_service_account_token() {
    let host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    let pod = host.ready("web").await;
    let volumes = pod.spec.as_ref().unwrap().volumes.clone().unwrap_or_default();
    let token = volumes
        .iter()
        .find(|volume| volume.name.starts_with("kube-api-access-"))
        .unwrap();
    let files = host.guest(&pod).volume(&token.name).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["token", "ca.crt", "namespace"]);
    assert_eq!(
        files[0].data.iter().filter(|byte| **byte == b'.').count(),
        2,
        "a JWT"
    );
}

#[tokio::test]
async fn trust_bundles_are_projected_and_followed() {
    let host = Host::start().await;
    let anchor = || {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem().replace('\r', "")
    };
    let bundles: Api<ClusterTrustBundle> = Api::all(host.admin.clone());
    let make = async |name: &str, text: &str| {
        let bundle =
            json!({"metadata": {"name": name}, "spec": {"signerName": "a.io/s", "trustBundle": text}});
        bundles
            .create(&PostParams::default(), &object(bundle))
            .await
            .unwrap();
    };
    let mut spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container(&["serve"])]});
    spec["volumes"] = json!([{"name": "roots", "projected": {"sources": [
        {"clusterTrustBundle": {"signerName": "a.io/s", "labelSelector": {}, "path": "all.pem"}},
        {"clusterTrustBundle": {"name": "later", "optional": true, "path": "later.pem"}}]}}]);
    host.create("trusts", spec).await;
    eventually("the event", async || {
        let words = "FailedMount: MountVolume.SetUp failed for volume \"roots\" : combination of signerName and \
                     labelSelector matched zero ClusterTrustBundles";
        host.events("trusts").await.iter().any(|event| event == words)
    })
    .await;
    let (one, two) = (anchor(), anchor());
    make("a.io:s:one", &one).await;
    let pod = host.ready("trusts").await;
    let file = |path: &str| {
        let files = host.guest(&pod).volume("roots").unwrap();
        let file = files.into_iter().find(|file| file.path == path).unwrap();
        String::from_utf8(file.data).unwrap()
    };
    assert_eq!((file("all.pem"), file("later.pem")), (one.clone(), String::new()));
    make("a.io:s:both", &format!("{one}{two}")).await;
    let later = json!({"metadata": {"name": "later"}, "spec": {"trustBundle": two}});
    bundles
        .create(&PostParams::default(), &object(later))
        .await
        .unwrap();
    eventually("all anchors", async || {
        let all = file("all.pem");
        let right = [&one, &two].iter().all(|anchor| all.contains(anchor.as_str()));
        right && all.len() == one.len() + two.len() && file("later.pem") == two
    })
    .await;
}

#[tokio::test]
async fn survives_its_agent() {
    let mut host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    let before = host.ready("web").await;
    let guest = host.guest(&before);
    host.restart_agent().await;
    // Only the new agent can see this end.
    host.create("other", json!({"containers": [container(&["serve"])]}))
        .await;
    host.ready("other").await;
    let after = host.pods().get("web").await.unwrap();
    let status =
        |pod: &k8s_openapi::api::core::v1::Pod| pod.status.clone().unwrap().container_statuses.unwrap();
    assert_eq!(status(&before), status(&after));
    guest.end("app_0", 5, false);
    let pod = host
        .wait("web", "restarted", |pod| {
            restarts(pod) == 1 && state(pod, "app") == "running"
        })
        .await;
    assert_eq!(pod.status.unwrap().pod_ip, before.status.unwrap().pod_ip);
    host.restart_agent().await;
    host.delete("web", None).await;
    host.delete("other", None).await;
    assert_eq!(host.driver.count(), 0);
}

/// On several threads a guest's list could reach the owner of a Pod before the VM did; then nobody probed any more.
#[tokio::test(flavor = "multi_thread")]
async fn probes_go_on_under_the_next_agent() {
    const PODS: usize = 8;
    let mut host = Host::start().await;
    let names: Vec<String> = (0..PODS).map(|number| format!("web-{number}")).collect();
    let mut probed = container(&["serve"]);
    probed["readinessProbe"] = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    for name in &names {
        host.create(name, json!({"containers": [probed]})).await;
    }
    let mut guests = Vec::new();
    for name in &names {
        guests.push(host.guest(&host.ready(name).await));
    }
    for _ in 0..3 {
        host.restart_agent().await;
        for words in [Some("connection refused"), None] {
            for guest in &guests {
                guest.set_sick(words);
            }
            let wanted = if words.is_some() { "False" } else { "True" };
            for name in &names {
                host.wait(name, wanted, |pod| condition(pod, "Ready") == wanted)
                    .await;
            }
        }
    }
}

/// The guest asks on while nobody listens; the next agent is told, and acts.
#[tokio::test]
async fn what_probes_find_while_no_agent_is_there_is_told_to_the_next() {
    let mut host = Host::start().await;
    let probe = |threshold: u32| {
        json!({"tcpSocket": {"port": 80}, "periodSeconds": 1, "timeoutSeconds": 1,
            "failureThreshold": threshold})
    };
    let mut app = container(&["serve"]);
    // Who begins anew before it is well has time to get well.
    (app["readinessProbe"], app["startupProbe"]) = (probe(1), probe(1000));
    for (name, threshold) in [("lives", 1000), ("dies", 2)] {
        app["livenessProbe"] = probe(threshold);
        host.create(name, json!({"containers": [app]})).await;
    }
    let guests = [
        host.guest(&host.ready("lives").await),
        host.guest(&host.ready("dies").await),
    ];
    host.stop_agent().await;
    for guest in &guests {
        guest.set_sick(Some("connection refused"));
        let before = guest.probes().len();
        eventually("more questions", async || guest.probes().len() >= before + 6).await;
    }
    host.start_agent().await;
    host.wait("lives", "not ready", |pod| condition(pod, "Ready") == "False")
        .await;
    for (name, words) in [
        ("lives", "Unhealthy: Readiness probe failed: connection refused"),
        ("dies", "Unhealthy: Liveness probe failed: connection refused"),
        (
            "dies",
            "Killing: Container app failed liveness probe, will be restarted",
        ),
    ] {
        eventually(words, async || {
            host.events(name).await.iter().any(|event| event == words)
        })
        .await;
    }
    guests.iter().for_each(|guest| guest.set_sick(None));
    let pod = host.ready("lives").await;
    assert_eq!(restarts(&pod), 0);
    host.wait("dies", "ready in another run", |pod| {
        restarts(pod) == 1 && condition(pod, "Ready") == "True"
    })
    .await;
}

#[tokio::test]
async fn ephemeral_containers_join_a_running_pod() {
    let mut host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    host.ready("web").await;
    let patch = json!({"spec": {"ephemeralContainers": [{"name": "doctor", "image": "example.test/tools",
        "args": ["look"], "targetContainerName": "app"}]}});
    host.pods()
        .patch_ephemeral_containers("web", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let doctor = |pod: &k8s_openapi::api::core::v1::Pod| {
        let list = pod.status.clone()?.ephemeral_container_statuses?;
        list.into_iter().next()
    };
    let runs = |pod: &k8s_openapi::api::core::v1::Pod| {
        doctor(pod).is_some_and(|status| status.state.unwrap().running.is_some())
    };
    let pod = host.wait("web", "looked at", runs).await;
    let request = host.guest(&pod).request("doctor_0").unwrap();
    assert_eq!(
        (request.target.as_str(), request.args),
        ("app_0", vec!["look".to_owned()])
    );
    let status = doctor(&pod).unwrap();
    assert_eq!((status.started, status.restart_count), (None, 0));
    assert!(status.image_id.starts_with("example.test/tools@sha256:"));

    host.restart_agent().await;
    host.create("other", json!({"containers": [container(&["serve"])]}))
        .await;
    host.ready("other").await;
    let after = host.pods().get("web").await.unwrap();
    assert_eq!(doctor(&after), Some(status));
    // It ends for good, and the Pod goes on.
    host.guest(&after).end("doctor_0", 3, false);
    host.wait("web", "left by the doctor", |pod| {
        let ended = doctor(pod).and_then(|status| status.state?.terminated);
        ended.is_some_and(|ended| ended.exit_code == 3)
    })
    .await;
    host.delete("web", None).await;
}

#[tokio::test]
async fn a_lost_vm_is_made_anew() {
    let host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    let pod = host.ready("web").await;
    use vmm::Hypervisor as _;
    let vm = host.driver.adopt(&host.run_dir(&pod)).await.unwrap().unwrap();
    vm.kill().await.unwrap();
    let pod = host
        .wait("web", "restarted", |pod| {
            restarts(pod) == 1 && state(pod, "app") == "running"
        })
        .await;
    let last = pod.status.unwrap().container_statuses.unwrap()[0]
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(last.exit_code, 137);
    assert_eq!(host.driver.count(), 1);
}

#[tokio::test]
async fn deleted_in_every_stage() {
    let host = Host::start().await;
    let wait_for_image =
        json!({"containers": [{"name": "app", "image": "NOT/A:name:x", "imagePullPolicy": "Always"}]});
    host.create("image", wait_for_image).await;
    host.wait("image", "refused", |pod| state(pod, "app") == "InvalidImageName")
        .await;
    host.delete("image", None).await;
    for round in 0..20 {
        host.create("again", json!({"containers": [container(&["serve"])]}))
            .await;
        if round % 2 == 0 {
            host.ready("again").await;
        }
        host.delete("again", Some(1)).await;
        assert_eq!(host.driver.count(), 0);
    }
}

#[tokio::test]
async fn the_node_is_complete() {
    let host = Host::start().await;
    let nodes: Api<Node> = Api::all(host.admin.clone());
    eventually("readiness", async || {
        let status = nodes.get("h1").await.unwrap().status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
    .await;
    let node = nodes.get("h1").await.unwrap();
    let status = node.status.unwrap();
    let (capacity, allocatable) = (status.capacity.unwrap(), status.allocatable.unwrap());
    // A twentieth of the memory is the host's own.
    let memory = ((8_u64 << 30) - (8_u64 << 30) / 20) / 1024;
    for (name, all, left) in [
        ("cpu", "4".to_owned(), "3900m".to_owned()),
        ("memory", "8Gi".to_owned(), format!("{memory}Ki")),
        ("pods", "50".to_owned(), "50".to_owned()),
        ("ephemeral-storage", "100Gi".to_owned(), "90Gi".to_owned()),
        ("hugepages-2Mi", "0".to_owned(), "0".to_owned()),
    ] {
        assert_eq!((&capacity[name].0, &allocatable[name].0), (&all, &left), "{name}");
    }
    let addresses = status
        .addresses
        .unwrap()
        .into_iter()
        .map(|one| (one.type_, one.address));
    let expected = [("InternalIP", "127.0.0.1"), ("Hostname", "h1")];
    let expected = expected.map(|(kind, address)| (kind.to_owned(), address.to_owned()));
    assert_eq!(addresses.collect::<Vec<_>>(), expected);
    let conditions = status.conditions.unwrap();
    for (kind, truth, reason, message) in [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        (
            "HardwareVirtualization",
            "False",
            "simulated",
            "this host is simulated: nothing runs",
        ),
    ] {
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap();
        assert_eq!(found.status, truth, "{kind}");
        assert_eq!(
            (found.reason.as_deref(), found.message.as_deref()),
            (Some(reason), Some(message))
        );
        assert!(
            found.last_heartbeat_time.is_some() && found.last_transition_time.is_some(),
            "{kind}"
        );
    }
    assert_eq!(conditions.len(), 5);
    let info = status.node_info.unwrap();
    assert_eq!(info.operating_system, "linux");
    assert!(
        ["amd64", "arm64"].contains(&info.architecture.as_str()),
        "{}",
        info.architecture
    );
    assert!(
        info.kubelet_version.starts_with("v1.35.0+podvisor-"),
        "{}",
        info.kubelet_version
    );
    assert!(info.container_runtime_version.starts_with("podvisor://"));
    let file = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(info.boot_id, file("/proc/sys/kernel/random/boot_id"));
    assert_eq!(info.kernel_version, file("/proc/sys/kernel/osrelease"));
    assert_eq!(
        (info.machine_id.clone(), info.system_uuid),
        (file("/etc/machine-id"), info.machine_id)
    );
    assert!(!info.os_image.is_empty());
    assert_eq!(status.images.unwrap_or_default(), []);
    let port = status.daemon_endpoints.unwrap().kubelet_endpoint.unwrap().port;
    assert_eq!(u16::try_from(port).unwrap(), host.agent.address().port());
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(host.admin.clone(), "kube-node-lease");
    eventually("its Lease", async || {
        let lease = leases.get_opt("h1").await.unwrap();
        lease.is_some_and(|lease| lease.spec.unwrap().renew_time.is_some())
    })
    .await;
    let told = [
        "Starting: Starting kubelet.",
        "NodeHasSufficientMemory: Node h1 status is now: NodeHasSufficientMemory",
        "NodeHasNoDiskPressure: Node h1 status is now: NodeHasNoDiskPressure",
        "NodeReady: Node h1 status is now: NodeReady",
    ];
    eventually("its events", async || {
        let events = host.events("h1").await;
        told.iter().all(|told| events.iter().any(|event| event == told))
    })
    .await;
}

#[tokio::test]
async fn a_guest_that_hangs_is_replaced() {
    let host = Host::set_up(Setup {
        silence: Duration::from_millis(500),
        ..Setup::default()
    })
    .await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    let once = json!({"restartPolicy": "Never", "containers": [container(&["serve"])]});
    host.create("once", once).await;
    for name in ["web", "once"] {
        let pod = host.ready(name).await;
        host.driver.hang(&host.run_dir(&pod));
    }
    let pod = host.wait("web", "running again", |pod| {
        restarts(pod) == 1 && state(pod, "app") == "running"
    });
    let status = pod.await.status.unwrap().container_statuses.unwrap().remove(0);
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("Error")));
    assert_eq!(last.message.as_deref(), Some("its VM no longer answered"));
    eventually("the event", async || {
        let words = "VmEnded: its VM no longer answered";
        host.events("web").await.iter().any(|event| event == words)
    })
    .await;
    host.phase("once", "Failed").await;
    for name in ["web", "once"] {
        host.delete(name, Some(0)).await;
    }
    // Without grace a Pod leaves the API at once, and its VM right after.
    eventually("no VM", async || host.driver.count() == 0).await;
}

#[tokio::test]
async fn what_others_write_over_a_status_is_set_right() {
    let host = Host::start().await;
    host.create("web", json!({"containers": [container(&["serve"])]}))
        .await;
    host.ready("web").await;
    // As the node controller does when the host is not heard of for a while.
    let lost = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let patched = host
        .pods()
        .patch_status("web", &PatchParams::default(), &Patch::Strategic(lost))
        .await
        .unwrap();
    assert_eq!(condition(&patched, "Ready"), "False");
    host.ready("web").await;
}

#[tokio::test]
async fn a_node_names_the_driver_of_its_volumes() {
    let host = Host::start().await;
    let nodes: Api<Node> = Api::all(host.admin.clone());
    let drivers: Api<k8s_openapi::api::storage::v1::CSINode> = Api::all(host.admin.clone());
    eventually("a CSINode", async || {
        drivers.get_opt(common::NODE).await.unwrap().is_some()
    })
    .await;
    // It comes after everything else that stands beside the status.
    let node = nodes.get(common::NODE).await.unwrap();
    let annotations = node.metadata.annotations.clone().unwrap_or_default();
    let attach = annotations.get("volumes.kubernetes.io/controller-managed-attach-detach");
    assert_eq!(attach.map(String::as_str), Some("true"));
    let found = drivers.get(common::NODE).await.unwrap();
    let owner = found.metadata.owner_references.unwrap().remove(0);
    assert_eq!(Some(owner.uid), node.metadata.uid);
    let driver = &found.spec.drivers[0];
    assert_eq!(
        (driver.name.as_str(), driver.node_id.as_str()),
        ("datastore.podvisor.io", common::NODE)
    );
    assert_eq!(
        driver.topology_keys.as_deref(),
        Some(&["kubernetes.io/hostname".to_owned()][..])
    );
}
