//! Whether a node can take a Pod, and if not, why: in the words of upstream's plugins.

use controllers::obj::{deleting, items, label, meta, text};
use controllers::{pod_amounts, tolerates};
use kinds::quantity::Quantity;
use kinds::selector::LabelSelector;
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
            node,
        }
    }

    /// Adds a Pod.
    pub fn add(&mut self, pod: Arc<Value>) {
        for (name, amount) in requests(&pod) {
            *self.used.entry(name).or_default() += amount;
        }
        self.pods.push(pod);
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

    /// Share of the node that is free with this Pod on it, 0 to 100, averaged over cpu and memory.
    pub fn score(&self, pod: &Value) -> i128 {
        let wanted = requests(pod);
        let free = |name: &str, least: i128| {
            let all = *self.allocatable.get(name).unwrap_or(&0);
            // A Pod that asks for nothing still counts as a small one, as upstream.
            let own = wanted.get(name).copied().filter(|n| *n > 0).unwrap_or(least);
            let left = all - self.used.get(name).unwrap_or(&0) - own;
            if all > 0 { (left.max(0) * 100) / all } else { 0 }
        };
        let resources = (free("cpu", 100) + free("memory", 200 * 1024 * 1024 * 1000)) / 2;
        resources + preferred(pod, &self.node)
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

/// One term of a node selector.
fn term(term: &Value, node: &Value) -> bool {
    let (expressions, fields) = (items(term, "/matchExpressions"), items(term, "/matchFields"));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let labels = |key: &str| node["metadata"]["labels"][key].as_str().map(str::to_string);
    let field = |key: &str| (key == "metadata.name").then(|| meta(node, "name").to_string());
    expressions.iter().all(|e| expression(e, labels(text(e, "/key"))))
        && fields.iter().all(|e| expression(e, field(text(e, "/key"))))
}

fn expression(e: &Value, has: Option<String>) -> bool {
    let values = items(e, "/values");
    let one_of = || has.as_deref().is_some_and(|h| values.iter().any(|v| v == h));
    let compare = |f: fn(i64, i64) -> bool| {
        let right = values
            .first()
            .and_then(Value::as_str)
            .and_then(|v| v.parse().ok());
        matches!((has.as_deref().and_then(|h| h.parse().ok()), right), (Some(l), Some(r)) if f(l, r))
    };
    match text(e, "/operator") {
        "In" => one_of(),
        "NotIn" => !one_of(),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => compare(|l, r| l > r),
        "Lt" => compare(|l, r| l < r),
        _ => false,
    }
}

/// `nodeSelector` and required node affinity.
fn affine(pod: &Value, node: &Value) -> bool {
    let selector = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    let mut plain = selector
        .map(|(k, v)| v.as_str() == Some(label(node, k)) && node["metadata"]["labels"].get(k).is_some());
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let terms = pod.pointer(required).filter(|r| !r.is_null());
    plain.all(|ok| ok) && terms.is_none_or(|r| items(r, "/nodeSelectorTerms").iter().any(|t| term(t, node)))
}

/// Weight of the preferences the node meets, at most 100.
fn preferred(pod: &Value, node: &Value) -> i128 {
    let at = "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution";
    let met = items(pod, at).iter().filter(|p| term(&p["preference"], node));
    met.map(|p| i128::from(p["weight"].as_i64().unwrap_or(0)))
        .sum::<i128>()
        .min(100)
}

/// Another Pod matches an affinity term of `pod`.
fn matches(pod: &Value, term: &Value, other: &Value) -> bool {
    let namespaces = items(term, "/namespaces");
    let everywhere = term["namespaceSelector"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty);
    let near = match namespaces.is_empty() {
        true => everywhere || meta(other, "namespace") == meta(pod, "namespace"),
        false => namespaces.iter().any(|n| n == meta(other, "namespace")),
    };
    near && !deleting(other)
        && !term["labelSelector"].is_null()
        && LabelSelector::from_json(&term["labelSelector"]).is_ok_and(|s| s.matches_object(other))
}

/// Required affinity and anti-affinity between Pods; the reason when `host` does not do.
pub fn between_pods(pod: &Value, host: &Host, hosts: &[Host]) -> Option<String> {
    let domain = |term: &Value, h: &Host| {
        let key = text(term, "/topologyKey");
        h.node["metadata"]["labels"][key].as_str().map(str::to_string)
    };
    let same = |term: &Value, h: &Host| domain(term, host).is_some() && domain(term, host) == domain(term, h);
    let required = |p: &Value, which: &str| -> Vec<Value> {
        items(
            p,
            &format!("/spec/affinity/{which}/requiredDuringSchedulingIgnoredDuringExecution"),
        )
        .to_vec()
    };
    let all = || hosts.iter().flat_map(|h| h.pods.iter().map(move |p| (h, p)));
    for term in required(pod, "podAffinity") {
        let met = all().any(|(h, p)| same(&term, h) && matches(pod, &term, p));
        // The first of a group that wants to be together has nobody to join.
        let first = matches(pod, &term, pod) && !all().any(|(_, p)| matches(pod, &term, p));
        if domain(&term, host).is_none() || !(met || first) {
            return Some("node(s) didn't match pod affinity rules".into());
        }
    }
    for term in required(pod, "podAntiAffinity") {
        if all().any(|(h, p)| same(&term, h) && matches(pod, &term, p)) {
            return Some("node(s) didn't match pod anti-affinity rules".into());
        }
    }
    for (h, other) in all() {
        let hostile = required(other, "podAntiAffinity");
        if hostile.iter().any(|t| same(t, h) && matches(other, t, pod)) {
            return Some("node(s) didn't satisfy existing pods anti-affinity rules".into());
        }
    }
    None
}
