//! `/configz`: the settings of this agent in the kubelet's words (`kubelet.config.k8s.io/v1beta1`).
//!
//! It says what is so here and no more: fields for what a host of VMs does not have, or does otherwise than any value of
//! theirs would say, are missing.

use std::time::Duration;

use http::Response;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Body, Server, json as answer};
use crate::config::{Capacity, HostConfig};
use crate::{backoff, logs, node};

/// Answers.
pub fn show(server: &Server) -> Response<Body> {
    let config = configuration(&server.context.config);
    let mut response = answer(&json!({ "kubeletconfig": config }));
    response.headers_mut().insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

fn configuration(config: &HostConfig) -> Value {
    let parts = [agent(config), pods(config), pressure(config), not_here()];
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}

/// How the agent is reached, and what it tells of itself.
fn agent(config: &HostConfig) -> Value {
    json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": true,
        "registerNode": true,
        "address": config.listen.ip().to_string(),
        "port": config.listen.port(),
        // Only the API server comes in, by its certificate, and it has authorised whom it comes for.
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false, "cacheTTL": "0s"},
            "x509": {},
        },
        "authorization": {"webhook": {"cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s"}},
        "nodeStatusUpdateFrequency": text(node::RENEW),
        "nodeStatusReportFrequency": text(node::REPORT),
        "nodeStatusMaxImages": node::MAX_IMAGES,
        "nodeLeaseDurationSeconds": node::LEASE_SECONDS,
        "enableDebuggingHandlers": true,
        "enableSystemLogHandler": true,
    })
}

/// What Pods are given.
fn pods(config: &HostConfig) -> Value {
    json!({
        "maxPods": config.capacity.pods,
        "podPidsLimit": -1,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": [config.cluster_dns.to_string()],
        "podLogsDir": logs::directories(&config.data_dir),
        "containerLogMaxSize": format!("{}Mi", logs::MAX_BYTES >> 20),
        "containerLogMaxFiles": logs::MAX_FILES,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "crashLoopBackOff": {"maxContainerRestartPeriod": text(backoff::MAX)},
        "allowedUnsafeSysctls": config.unsafe_sysctls,
        "userNamespaces": {"idsPerPod": 65_536},
        "cpuCFSQuota": true,
        "cpuCFSQuotaPeriod": "100ms",
        "serializeImagePulls": false,
        "imagePullCredentialsVerificationPolicy": "NeverVerifyPreloadedImages",
        "localStorageCapacityIsolation": true,
    })
}

/// What is kept from Pods, and what happens when the host runs low.
fn pressure(config: &HostConfig) -> Value {
    let (gc, pressure) = (&config.image_gc, &config.pressure);
    let reserved = reserved(&config.capacity);
    json!({
        "imageMinimumGCAge": text(gc.min_age),
        "imageMaximumGCAge": "0s",
        "imageGCHighThresholdPercent": gc.high_percent,
        "imageGCLowThresholdPercent": gc.low_percent,
        "evictionHard": {
            "memory.available": format!("{}Mi", pressure.memory_bytes >> 20),
            "nodefs.available": disk(config),
            "imagefs.available": disk(config),
            "nodefs.inodesFree": format!("{}%", pressure.inodes_percent),
        },
        "evictionPressureTransitionPeriod": text(pressure.calm),
        "kubeReserved": {
            "cpu": format!("{}m", reserved.cpu_millis),
            "memory": reserved.memory_bytes.to_string(),
            "ephemeral-storage": reserved.ephemeral_bytes.to_string(),
        },
    })
}

/// What other nodes may have.
fn not_here() -> Value {
    json!({
        "cgroupsPerQOS": false,
        "cgroupDriver": "cgroupfs",
        "cpuManagerPolicy": "none",
        "memoryManagerPolicy": "None",
        "topologyManagerPolicy": "none",
        "seccompDefault": false,
        "failSwapOn": false,
        "memorySwap": {},
        "enableControllerAttachDetach": false,
        "enableProfilingHandler": false,
        "enableDebugFlagsHandler": false,
        "enableSystemLogQuery": false,
        "containerRuntimeEndpoint": "",
    })
}

/// What is kept from Pods.
fn reserved(all: &Capacity) -> Capacity {
    let left = all.allocatable();
    Capacity {
        cpu_millis: all.cpu_millis - left.cpu_millis,
        memory_bytes: all.memory_bytes - left.memory_bytes,
        pods: 0,
        ephemeral_bytes: all.ephemeral_bytes - left.ephemeral_bytes,
    }
}

/// The smaller one of the two thresholds of the disk counts.
fn disk(config: &HostConfig) -> String {
    let pressure = &config.pressure;
    let share = config.capacity.ephemeral_bytes / 100 * u64::from(pressure.disk_percent);
    if share > pressure.disk_bytes {
        return pressure.disk_bytes.to_string();
    }
    format!("{}%", pressure.disk_percent)
}

/// A duration as Go prints whole seconds.
fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_that_of_the_agent() {
        let directory = std::path::PathBuf::from("/data");
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let mut config = HostConfig::new("n", directory.clone(), directory, address);
        config.capacity = Capacity {
            cpu_millis: 2000,
            memory_bytes: 8 << 30,
            pods: 77,
            ephemeral_bytes: 10 << 30,
        };
        let shown = configuration(&config);
        let cases = [
            ("/maxPods", json!(77)),
            ("/kubeReserved/cpu", json!("100m")),
            ("/evictionHard/nodefs.available", json!("10%")),
            ("/evictionHard/memory.available", json!("100Mi")),
            ("/evictionPressureTransitionPeriod", json!("5m0s")),
            ("/nodeStatusUpdateFrequency", json!("10s")),
            ("/containerLogMaxSize", json!("10Mi")),
            ("/imageGCLowThresholdPercent", json!(80)),
            ("/clusterDNS", json!(["10.96.0.10"])),
            ("/podLogsDir", json!("/data/logs/pods")),
        ];
        for (path, expected) in cases {
            assert_eq!(shown.pointer(path), Some(&expected), "{path}");
        }
        // A tenth of a large disk is no emergency.
        config.capacity.ephemeral_bytes = 100 << 30;
        let shown = configuration(&config);
        assert_eq!(
            shown["evictionHard"]["nodefs.available"],
            (2_u64 << 30).to_string()
        );
    }
}
