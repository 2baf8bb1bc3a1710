//! How many Pods and containers were started, and how many of these starts failed, since the agent began (kubelet:
//! `kubelet_started_pods_total` and its kin).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::prometheus::Page;

/// Tries and failures.
#[derive(Default)]
struct Count {
    tries: AtomicU64,
    failures: AtomicU64,
}

impl Count {
    fn add(&self, failed: bool) {
        let counter = if failed { &self.failures } else { &self.tries };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counts of a host.
#[derive(Default)]
pub struct Starts {
    pods: Count,
    with_users: Count,
    /// By kind of container.
    containers: Mutex<BTreeMap<&'static str, u64>>,
    /// By kind of container and reason.
    container_failures: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Starts {
    /// A VM for a Pod is begun, or that has failed.
    pub fn pod(&self, pod: &Pod, failed: bool) {
        self.pods.add(failed);
        if pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false) {
            self.with_users.add(failed);
        }
    }

    /// A container is begun, or that has failed for a reason.
    pub fn container(&self, pod: &Pod, name: &str, failed: Option<&'static str>) {
        let kind = kind(pod, name);
        match failed {
            None => *self.containers.lock().entry(kind).or_default() += 1,
            Some(reason) => *self.container_failures.lock().entry((kind, reason)).or_default() += 1,
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let only_linux = "This metric will only be collected on Linux.";
        let families = [
            (
                "pods",
                &self.pods,
                "Cumulative number of pods started".to_owned(),
                "Cumulative number of errors when starting pods".to_owned(),
            ),
            (
                "user_namespaced_pods",
                &self.with_users,
                format!("Cumulative number of pods with user namespaces started. {only_linux}"),
                format!("Cumulative number of errors when starting pods with user namespaces. {only_linux}"),
            ),
        ];
        for (name, count, tries, failures) in families {
            let values = [("", tries, &count.tries), ("_errors", failures, &count.failures)];
            for (part, help, value) in values {
                page.family(
                    &format!("kubelet_started_{name}{part}_total"),
                    "counter",
                    &format!("[ALPHA] {help}"),
                    [format!(" {}", value.load(Ordering::Relaxed))],
                );
            }
        }
        let containers = self.containers.lock();
        page.family(
            "kubelet_started_containers_total",
            "counter",
            "[ALPHA] Cumulative number of containers started",
            containers
                .iter()
                .map(|(kind, count)| format!("{{container_type=\"{kind}\"}} {count}")),
        );
        let failures = self.container_failures.lock();
        page.family(
            "kubelet_started_containers_errors_total",
            "counter",
            "[ALPHA] Cumulative number of errors when starting containers",
            failures.iter().map(|((kind, reason), count)| {
                format!("{{code=\"{reason}\",container_type=\"{kind}\"}} {count}")
            }),
        );
    }
}

fn kind(pod: &Pod, name: &str) -> &'static str {
    let spec = pod.spec.as_ref();
    let inits = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let ephemerals = spec
        .iter()
        .flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    if inits.into_iter().any(|container| container.name == name) {
        return "init_container";
    }
    if ephemerals.into_iter().any(|container| container.name == name) {
        return "ephemeral_container";
    }
    "container"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn starts_and_failures_are_counted_by_what_they_are() {
        let pod = |users: Option<bool>| -> Pod {
            let spec = json!({"hostUsers": users, "containers": [{"name": "app"}],
                "initContainers": [{"name": "first"}], "ephemeralContainers": [{"name": "look"}]});
            serde_json::from_value(json!({ "spec": spec })).expect("a Pod")
        };
        let starts = Starts::default();
        for (users, failed) in [
            (None, false),
            (Some(false), false),
            (Some(false), true),
            (Some(true), false),
        ] {
            starts.pod(&pod(users), failed);
        }
        for (name, failed) in [
            ("app", None),
            ("first", None),
            ("app", None),
            ("look", Some("RunContainerError")),
        ] {
            starts.container(&pod(None), name, failed);
        }
        let mut page = Page::default();
        starts.write(&mut page);
        let lines = page.lines();
        let expected = [
            "kubelet_started_pods_total 3",
            "kubelet_started_pods_errors_total 1",
            "kubelet_started_user_namespaced_pods_total 1",
            "kubelet_started_user_namespaced_pods_errors_total 1",
            "kubelet_started_containers_total{container_type=\"container\"} 2",
            "kubelet_started_containers_total{container_type=\"init_container\"} 1",
            "kubelet_started_containers_errors_total{code=\"RunContainerError\",container_type=\"ephemeral_container\"} 1",
        ];
        assert_eq!(lines, expected);
    }
}
