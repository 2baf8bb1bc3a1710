//! Steps that prepare Pods and Nodes for the scheduler: Priority, DefaultTolerationSeconds, TaintNodesByCondition,
//! RuntimeClass, PodTopologyLabels.

use super::pod::{amounts, items};
use super::{forbidden, is_on};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::status::Status;
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a Pod stays on a node that is not ready or unreachable, in seconds, unless it says otherwise.
const TOLERATION_SECONDS: u32 = 300;

/// The labels of a node that its Pods get as well (KEP-4742).
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The PriorityClasses of the system; `kube-system` Pods use them.
pub(super) fn system_priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": { "name": name },
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority",
            "description": description,
        })
    };
    vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// Gives Pods the number of their PriorityClass.
pub struct Priority;

fn classes(view: &dyn View) -> Vec<Arc<Value>> {
    view.list(&GroupResource::new("scheduling.k8s.io", "priorityclasses"), None)
}

#[async_trait]
impl AdmissionPlugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "", "pods") {
            return Ok(Vec::new());
        }
        let named = request.object["spec"]["priorityClassName"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        let class = if named.is_empty() {
            // Of several defaults (a race made them) the lowest counts.
            classes(view)
                .into_iter()
                .filter(|c| c["globalDefault"] == true)
                .min_by_key(|c| c["value"].as_i64())
        } else {
            let found = view.get(
                &GroupResource::new("scheduling.k8s.io", "priorityclasses"),
                None,
                &named,
            );
            if found.is_none() {
                return Err(forbidden(
                    request,
                    format!("no PriorityClass with name {named} was found"),
                ));
            }
            found
        };
        let priority = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
        let policy = class
            .as_ref()
            .and_then(|c| c["preemptionPolicy"].as_str())
            .unwrap_or("PreemptLowerPriority")
            .to_string();
        let spec = &request.object["spec"];
        if let Some(given) = spec["priority"].as_i64().filter(|p| *p != priority) {
            return Err(forbidden(
                request,
                format!(
                    "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
                ),
            ));
        }
        if let Some(given) = spec["preemptionPolicy"].as_str().filter(|p| *p != policy) {
            return Err(forbidden(
                request,
                format!(
                    "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
                ),
            ));
        }
        let spec = &mut request.object["spec"];
        if let Some(name) = class.as_ref().and_then(|c| c["metadata"]["name"].as_str()) {
            spec["priorityClassName"] = name.into();
        }
        spec["priority"] = priority.into();
        spec["preemptionPolicy"] = policy.into();
        Ok(Vec::new())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes
            || !is_on(request, "scheduling.k8s.io", "priorityclasses")
            || request.object["globalDefault"] != true
        {
            return Ok(Vec::new());
        }
        let own = &request.object["metadata"]["name"];
        let other = classes(view)
            .into_iter()
            .find(|c| c["globalDefault"] == true && c["metadata"]["name"] != *own);
        match other {
            Some(class) => Err(forbidden(
                request,
                format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    class["metadata"]["name"].as_str().unwrap_or_default()
                ),
            )),
            None => Ok(Vec::new()),
        }
    }
}

/// Lets Pods stay on a failed node for a while.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl AdmissionPlugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !is_on(request, "", "pods") {
            return Ok(Vec::new());
        }
        let spec = &mut request.object["spec"];
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerated = items(spec, "tolerations").any(|t| {
                let all_keys = t["key"].as_str().unwrap_or_default().is_empty();
                let effect = t["effect"].as_str().unwrap_or_default();
                (all_keys || t["key"] == key) && (effect.is_empty() || effect == "NoExecute")
            });
            if !tolerated {
                let toleration = json!({
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": TOLERATION_SECONDS,
                });
                match spec.get_mut("tolerations").and_then(Value::as_array_mut) {
                    Some(list) => list.push(toleration),
                    None => spec["tolerations"] = json!([toleration]),
                }
            }
        }
        Ok(Vec::new())
    }
}

/// A new Node takes no Pods until it is known to be ready.
pub struct TaintNodesByCondition;

#[async_trait]
impl AdmissionPlugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "", "nodes") {
            return Ok(Vec::new());
        }
        let taint = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
        let spec = &mut request.object["spec"];
        let has = items(spec, "taints").any(|t| t["key"] == taint["key"] && t["effect"] == taint["effect"]);
        if !has {
            if !spec.is_object() {
                *spec = json!({});
            }
            match spec.get_mut("taints").and_then(Value::as_array_mut) {
                Some(list) => list.push(taint),
                None => spec["taints"] = json!([taint]),
            }
        }
        Ok(Vec::new())
    }
}

/// A Pod says another overhead than its class.
const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
/// A Pod says an overhead that no class does.
const NO_OVERHEAD: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// Gives Pods the overhead and scheduling rules of their RuntimeClass.
pub struct RuntimeClass;

#[async_trait]
impl AdmissionPlugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "", "pods") {
            return Ok(Vec::new());
        }
        let Some(class) = runtime_class(request, view)? else {
            return Ok(Vec::new());
        };
        let spec = &request.object["spec"];
        let fixed = &class["overhead"]["podFixed"];
        let given = amounts(&spec["overhead"]);
        if class["overhead"].is_object() && !given.is_empty() && given != amounts(fixed) {
            return Err(forbidden(request, OTHER_OVERHEAD));
        }
        let wanted = class["scheduling"]["nodeSelector"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        for (key, value) in &wanted {
            let have = &spec["nodeSelector"][key];
            if !have.is_null() && have != value {
                let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
                return Err(forbidden(
                    request,
                    format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                        text(value),
                        text(have)
                    ),
                ));
            }
        }
        let spec = &mut request.object["spec"];
        if fixed.as_object().is_some_and(|f| !f.is_empty()) {
            spec["overhead"] = fixed.clone();
        }
        for (key, value) in wanted {
            if !spec["nodeSelector"].is_object() {
                spec["nodeSelector"] = json!({});
            }
            spec["nodeSelector"][key] = value;
        }
        let missing: Vec<Value> = items(&class["scheduling"], "tolerations")
            .filter(|t| !items(spec, "tolerations").any(|have| have == *t))
            .cloned()
            .collect();
        if !missing.is_empty() {
            match spec.get_mut("tolerations").and_then(Value::as_array_mut) {
                Some(list) => list.extend(missing),
                None => spec["tolerations"] = Value::Array(missing),
            }
        }
        Ok(Vec::new())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "", "pods") {
            return Ok(Vec::new());
        }
        let class = runtime_class(request, view)?;
        let overhead = &request.object["spec"]["overhead"];
        match class
            .as_ref()
            .map(|class| &class["overhead"])
            .filter(|o| o.is_object())
        {
            Some(wanted) if amounts(&wanted["podFixed"]) != amounts(overhead) => {
                Err(forbidden(request, OTHER_OVERHEAD))
            }
            None if !overhead.is_null() || request.empties.has("spec.overhead") => {
                Err(forbidden(request, NO_OVERHEAD))
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// The class that a Pod names.
fn runtime_class(request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Option<Arc<Value>>, Status> {
    let Some(name) = request.object["spec"]["runtimeClassName"].as_str() else {
        return Ok(None);
    };
    if name.is_empty() {
        // What upstream's client says when it is asked for nothing.
        return Err(Status::plain("resource name may not be empty"));
    }
    let faults = machinery::path_segment(name);
    if !faults.is_empty() {
        let faults = faults.join(" ");
        return Err(Status::plain(format!(
            "invalid resource name {name:?}: [{faults}]"
        )));
    }
    match view.get(&GroupResource::new("node.k8s.io", "runtimeclasses"), None, name) {
        Some(class) => Ok(Some(class)),
        None => Err(forbidden(
            request,
            format!("pod rejected: RuntimeClass {name:?} not found"),
        )),
    }
}

/// Tells Pods in which zone and region their node is, when they are bound to it.
pub struct PodTopologyLabels;

#[async_trait]
impl AdmissionPlugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let a = request.attributes;
        if request.operation != Operation::Create || a.resource != "pods" || !a.group.is_empty() {
            return Ok(Vec::new());
        }
        let node = match a.subresource.as_str() {
            "" => &request.object["spec"]["nodeName"],
            "binding" if request.object["target"]["kind"] == "Node" => &request.object["target"]["name"],
            _ => return Ok(Vec::new()),
        };
        let node = node.as_str().unwrap_or_default();
        let Some(node) = view.get(&GroupResource::new("", "nodes"), None, node) else {
            return Ok(Vec::new());
        };
        for label in TOPOLOGY {
            if let Some(value) = node["metadata"]["labels"].get(label) {
                request.object["metadata"]["labels"][label] = value.clone();
            }
        }
        Ok(Vec::new())
    }
}
