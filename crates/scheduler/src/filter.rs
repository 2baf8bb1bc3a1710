//! Whether a node can take a Pod, and if not, why: in the words of upstream's plugins.

use controllers::obj::{items, meta, text};
use controllers::pod_amounts;
use kinds::placement::{affine, tolerates};
use kinds::quantity::Quantity;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Amounts in thousandths (cpu) or thousandths of a unit (everything else).
pub type Millis = BTreeMap<String, i128>;

/// A node and what runs on it.
#[derive(Debug, Clone)]
pub struct Host {
    /// The Node.
    pub node: Arc<Value>,
    /// What it has.
    pub allocatable: Millis,
    /// What its Pods asked for.
    pub used: Millis,
    /// Its Pods.
    pub pods: Vec<Arc<Value>>,
    /// Those of them that keep others away by required anti-affinity.
    pub jealous: Vec<Arc<Value>>,
}

fn millis(v: &Value) -> Millis {
    let map = v.as_object().into_iter().flatten();
    map.filter_map(|(k, v)| Quantity::from_json(v).ok().map(|q| (k.clone(), q.as_milli())))
        .collect()
}

/// What a Pod asks for, itself counted as one of `pods`.
pub fn requests(pod: &Value) -> Millis {
    let mut wanted: Millis = pod_amounts(pod, "requests")
        .into_iter()
        .map(|(k, q)| (k, q.as_milli()))
        .collect();
    wanted.insert("pods".into(), 1000);
    wanted
}

impl Host {
    /// A node without Pods.
    pub fn new(node: Arc<Value>) -> Host {
        let status = &node["status"];
        let from = if status["allocatable"].is_object() {
            "allocatable"
        } else {
            "capacity"
        };
        Host {
            allocatable: millis(&status[from]),
            used: Millis::new(),
            pods: Vec::new(),
            jealous: Vec::new(),
            node,
        }
    }

    /// Adds a Pod.
    pub fn add(&mut self, pod: Arc<Value>) {
        for (name, amount) in requests(&pod) {
            *self.used.entry(name).or_default() += amount;
        }
        if !items(
            &pod,
            "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        )
        .is_empty()
        {
            self.jealous.push(pod.clone());
        }
        self.pods.push(pod);
    }

    /// Takes a Pod away.
    pub fn remove(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|p| meta(p, "uid") == uid) else {
            return;
        };
        let pod = self.pods.swap_remove(at);
        self.jealous.retain(|p| meta(p, "uid") != uid);
        for (name, amount) in requests(&pod) {
            *self.used.entry(name).or_default() -= amount;
        }
    }

    /// The node's value of a topology key.
    pub fn domain(&self, key: &str) -> Option<&str> {
        self.node["metadata"]["labels"].get(key)?.as_str()
    }

    /// Why the node cannot take the Pod; empty when it can.
    pub fn refusals(&self, pod: &Value) -> Vec<String> {
        if let Some(why) = self
            .unschedulable(pod)
            .or_else(|| self.named(pod))
            .or_else(|| self.taint(pod))
        {
            return vec![why];
        }
        if !affine(pod, &self.node) {
            return vec!["node(s) didn't match Pod's node affinity/selector".into()];
        }
        if self.ports_taken(pod) {
            return vec!["node(s) didn't have free ports for the requested pod ports".into()];
        }
        let mut lacking = Vec::new();
        for (name, amount) in requests(pod) {
            let left = self.allocatable.get(&name).unwrap_or(&0) - self.used.get(&name).unwrap_or(&0);
            if amount > 0 && amount > left {
                lacking.push(match name.as_str() {
                    "pods" => "Too many pods".to_string(),
                    name => format!("Insufficient {name}"),
                });
            }
        }
        lacking
    }

    fn unschedulable(&self, pod: &Value) -> Option<String> {
        let taint = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        let tolerated = items(pod, "/spec/tolerations")
            .iter()
            .any(|t| tolerates(t, &taint));
        (self.node["spec"]["unschedulable"] == true && !tolerated)
            .then(|| "node(s) were unschedulable".into())
    }

    fn named(&self, pod: &Value) -> Option<String> {
        let name = text(pod, "/spec/nodeName");
        (!name.is_empty() && name != meta(&self.node, "name"))
            .then(|| "node(s) didn't match the requested node name".into())
    }

    fn taint(&self, pod: &Value) -> Option<String> {
        let tolerations = items(pod, "/spec/tolerations");
        let bad = items(&self.node, "/spec/taints").iter().any(|t| {
            matches!(text(t, "/effect"), "NoSchedule" | "NoExecute")
                && !tolerations.iter().any(|o| tolerates(o, t))
        });
        bad.then(|| "node(s) had untolerated taint(s)".into())
    }

    fn ports_taken(&self, pod: &Value) -> bool {
        let wanted = host_ports(pod);
        !wanted.is_empty()
            && self
                .pods
                .iter()
                .flat_map(|p| host_ports(p))
                .any(|(ip, protocol, port)| {
                    wanted.iter().any(|(i, pr, p)| {
                        *p == port && *pr == protocol && (*i == ip || i == "0.0.0.0" || ip == "0.0.0.0")
                    })
                })
    }
}

fn host_ports(pod: &Value) -> Vec<(String, String, i64)> {
    items(pod, "/spec/containers")
        .iter()
        .flat_map(|c| items(c, "/ports"))
        .filter_map(|p| {
            let port = p["hostPort"].as_i64().filter(|p| *p > 0)?;
            let ip = p["hostIP"]
                .as_str()
                .filter(|i| !i.is_empty())
                .unwrap_or("0.0.0.0");
            Some((
                ip.to_string(),
                p["protocol"].as_str().unwrap_or("TCP").to_string(),
                port,
            ))
        })
        .collect()
}
