//! What must not cost more the more of it there is: Pods under a quota, Services, Deployments, StatefulSets. Each kind is
//! made in parts; the last part is compared with the first, which is the baseline beside it.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::load::{self, Make};
use super::server::Server;
use super::{CLIENTS, each, objects};
use crate::bench::Report;

const PARTS: usize = 4;
const NAMESPACE: &str = "bench-crowds";

/// A kind of which many are made.
struct Kind {
    /// What is reported: CPU time of one of the last part, and how many times that of the first it is.
    metrics: [&'static str; 2],
    path: &'static str,
    /// Names begin so.
    prefix: &'static str,
    object: fn(&str) -> Bytes,
}

const KINDS: [Kind; 4] = [
    Kind {
        metrics: ["create_quota_pod_64_cpu_ms", "create_quota_pod_growth"],
        path: "/api/v1/namespaces/bench-crowds/pods",
        prefix: "pod",
        object: objects::pod,
    },
    Kind {
        metrics: ["create_service_64_cpu_ms", "create_service_growth"],
        path: "/api/v1/namespaces/bench-crowds/services",
        prefix: "service",
        object: service,
    },
    Kind {
        metrics: ["create_deployment_64_cpu_ms", "create_deployment_growth"],
        path: "/apis/apps/v1/namespaces/bench-crowds/deployments",
        prefix: "deployment",
        object: deployment,
    },
    Kind {
        metrics: ["create_statefulset_64_cpu_ms", "create_statefulset_growth"],
        path: "/apis/apps/v1/namespaces/bench-crowds/statefulsets",
        prefix: "set",
        object: stateful_set,
    },
];

/// Makes `count` of each kind; reports the CPU time of one of the last part, and how many times that of the first it is.
pub async fn measure(server: &Server, count: usize, report: &mut Report) -> Result<()> {
    let mut client = server.target.connect().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"},
        "spec": {"hard": {"pods": "1000000", "requests.cpu": "1000000", "requests.memory": "1000Ti"}}});
    let quotas = format!("/api/v1/namespaces/{NAMESPACE}/resourcequotas");
    for (path, object) in [("/api/v1/namespaces", namespace), (&quotas, quota)] {
        client.call(Method::POST, path, bytes(&object)).await?;
        // Its controllers, which make the account of Pods among other things, are done.
        server.rest().await?;
    }
    for kind in &KINDS {
        let part = count / PARTS;
        let mut costs = Vec::new();
        for n in 0..PARTS {
            let make: Make = Arc::new(move |i| {
                let name = format!("{}-{}", kind.prefix, n * part + i);
                (Method::POST, kind.path.to_owned(), (kind.object)(&name))
            });
            let meter = server.meter()?;
            load::requests(&server.target, CLIENTS, part, make).await?;
            costs.push(each(&meter.stop().await?, part));
        }
        let (first, last) = (costs[0], costs[PARTS - 1]);
        report.add(kind.metrics[0], last);
        report.add(kind.metrics[1], last / first);
    }
    Ok(())
}

fn bytes(object: &Value) -> Bytes {
    Bytes::from(object.to_string())
}

fn service(name: &str) -> Bytes {
    bytes(
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}),
    )
}

/// A workload without Pods: what is measured is the keeping of it.
fn workload(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": "example/web"}]}}}})
}

fn deployment(name: &str) -> Bytes {
    bytes(&workload("Deployment", name))
}

fn stateful_set(name: &str) -> Bytes {
    let mut set = workload("StatefulSet", name);
    set["spec"]["serviceName"] = json!(name);
    bytes(&set)
}
