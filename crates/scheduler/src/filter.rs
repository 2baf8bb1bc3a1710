//! Whether a node can take a Pod, and if not, why: in the words of upstream's plugins, and in their order, since the
//! first that refuses is the one that is told (`pkg/scheduler/framework/plugins`).

use crate::amounts::{Millis, count, millis, presumed, requests, uid};
use crate::plan::Known;
use crate::{between, devices, spread};
use controllers::obj::{items, meta, text};
use kinds::placement::{affine, tolerates};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A node and what runs on it.
#[derive(Debug, Clone)]
pub struct Host {
    /// The Node.
    pub node: Arc<Value>,
    /// What it has.
    pub allocatable: Millis,
    /// What its Pods asked for.
    pub used: Millis,
    /// Processors and memory of its Pods, where those that ask for nothing count too.
    pub presumed: Millis,
    /// Its Pods.
    pub pods: Vec<Arc<Value>>,
    /// Those of them that keep others away by required anti-affinity.
    pub jealous: Vec<Arc<Value>>,
    /// Those of them that say anything about other Pods.
    pub social: Vec<Arc<Value>>,
}

/// Why a node cannot take a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In upstream's words.
    pub why: Cow<'static, str>,
    /// Removing other Pods would not change it (upstream: `UnschedulableAndUnresolvable`).
    pub is_final: bool,
}

impl Refusal {
    /// That other Pods' leaving may change.
    pub(crate) fn crowded(why: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            why: why.into(),
            is_final: false,
        }
    }

    /// That no other Pod's leaving changes.
    pub(crate) fn lasting(why: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            why: why.into(),
            is_final: true,
        }
    }
}

/// Why a host cannot take a Pod; empty when it can. Several reasons are only given for several amounts that are lacking.
pub(crate) fn refusals(pod: &Value, at: usize, hosts: &[Host], known: &Known) -> Vec<Refusal> {
    let host = &hosts[at];
    let own = host.refusals(pod);
    if !own.is_empty() {
        return own;
    }
    let storage = &known.snapshot.storage;
    let other = storage
        .refusal(pod, host, hosts, &known.promised)
        .or_else(|| spread::uneven(pod, host, hosts))
        .or_else(|| between::refusal(pod, host, hosts, &known.snapshot.namespaces))
        .or_else(|| devices::refusal(pod));
    other.into_iter().collect()
}

/// The only nodes that a Pod's node affinity names, if it names any: the others are not even looked at
/// (`plugins/nodeaffinity`, `PreFilter`).
pub(crate) fn named_nodes<'p>(pod: &'p Value) -> Option<BTreeSet<&'p str>> {
    let at = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let mut all = BTreeSet::new();
    for term in items(pod, at) {
        let fields = items(term, "/matchFields").iter();
        let sets = fields
            .filter(|f| f["key"] == "metadata.name" && f["operator"] == "In")
            .map(|f| items(f, "/values").iter().filter_map(Value::as_str).collect());
        let both = |a: BTreeSet<&'p str>, b: BTreeSet<&'p str>| a.intersection(&b).copied().collect();
        all.extend(sets.reduce(both)?);
    }
    (!items(pod, at).is_empty()).then_some(all)
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
            presumed: Millis::new(),
            pods: Vec::new(),
            jealous: Vec::new(),
            social: Vec::new(),
            node,
        }
    }

    /// Adds a Pod.
    pub fn add(&mut self, pod: Arc<Value>) {
        count(&mut self.used, requests(&pod), 1);
        count(&mut self.presumed, presumed(&pod), 1);
        let relations = &pod["spec"]["affinity"];
        if relations["podAffinity"].is_object() || relations["podAntiAffinity"].is_object() {
            self.social.push(pod.clone());
            if !between::required(&pod, "podAntiAffinity").is_empty() {
                self.jealous.push(pod.clone());
            }
        }
        self.pods.push(pod);
    }

    /// Takes a Pod away.
    pub fn remove(&mut self, gone: &str) {
        let Some(at) = self.pods.iter().position(|p| uid(p) == gone) else {
            return;
        };
        let pod = self.pods.swap_remove(at);
        self.jealous.retain(|p| uid(p) != gone);
        self.social.retain(|p| uid(p) != gone);
        count(&mut self.used, requests(&pod), -1);
        count(&mut self.presumed, presumed(&pod), -1);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        meta(&self.node, "name")
    }

    /// The node's value of a topology key.
    pub fn domain(&self, key: &str) -> Option<&str> {
        self.node["metadata"]["labels"].get(key)?.as_str()
    }

    /// Why the node cannot take the Pod, as far as other nodes are of no account; empty when it can.
    fn refusals(&self, pod: &Value) -> Vec<Refusal> {
        let first = self
            .unschedulable(pod)
            .or_else(|| self.named(pod))
            .or_else(|| self.taint(pod))
            .or_else(|| {
                let why = "node(s) didn't match Pod's node affinity/selector";
                (!affine(pod, &self.node)).then(|| Refusal::lasting(why))
            })
            .or_else(|| {
                let why = "node(s) didn't have free ports for the requested pod ports";
                self.ports_taken(pod).then(|| Refusal::crowded(why))
            });
        first.map_or_else(|| self.lacking(pod), |refusal| vec![refusal])
    }

    /// What there is too little of. More than the node has in all is beyond help (`plugins/noderesources/fit.go`).
    fn lacking(&self, pod: &Value) -> Vec<Refusal> {
        let mut lacking = Vec::new();
        for (name, amount) in requests(pod) {
            let all = *self.allocatable.get(&name).unwrap_or(&0);
            if amount == 0 || amount <= all - self.used.get(&name).unwrap_or(&0) {
                continue;
            }
            lacking.push(match name.as_str() {
                "pods" => Refusal::crowded("Too many pods"),
                name if amount > all => Refusal::lasting(format!("Insufficient {name}")),
                name => Refusal::crowded(format!("Insufficient {name}")),
            });
        }
        lacking
    }

    fn unschedulable(&self, pod: &Value) -> Option<Refusal> {
        let taint = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        let tolerated = items(pod, "/spec/tolerations")
            .iter()
            .any(|t| tolerates(t, &taint));
        (self.node["spec"]["unschedulable"] == true && !tolerated)
            .then(|| Refusal::lasting("node(s) were unschedulable"))
    }

    fn named(&self, pod: &Value) -> Option<Refusal> {
        let name = text(pod, "/spec/nodeName");
        (!name.is_empty() && name != self.name())
            .then(|| Refusal::lasting("node(s) didn't match the requested node name"))
    }

    fn taint(&self, pod: &Value) -> Option<Refusal> {
        self.repels(pod)
            .then(|| Refusal::lasting("node(s) had untolerated taint(s)"))
    }

    /// The node has a taint that keeps the Pod from being placed here.
    pub(crate) fn repels(&self, pod: &Value) -> bool {
        let tolerations = items(pod, "/spec/tolerations");
        items(&self.node, "/spec/taints").iter().any(|t| {
            matches!(text(t, "/effect"), "NoSchedule" | "NoExecute")
                && !tolerations.iter().any(|o| tolerates(o, t))
        })
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

/// The ports of the host that containers which stay ask for (`pkg/scheduler/util/utils.go`, `GetHostPorts`).
fn host_ports(pod: &Value) -> Vec<(String, String, i64)> {
    let sidecars = items(pod, "/spec/initContainers")
        .iter()
        .filter(|c| c["restartPolicy"] == "Always");
    items(pod, "/spec/containers")
        .iter()
        .chain(sidecars)
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
