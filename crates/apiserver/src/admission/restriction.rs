//! NodeRestriction: a host agent writes its own Node, the status of its own Pods, and nothing that would let it pass for
//! another host or gain labels that schedule sensitive Pods onto it.

use super::forbidden;
use super::pod::items;
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::authz::node;
use crate::request::Attributes;
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::status::Status;
use serde_json::Value;
use std::collections::BTreeSet;

/// Labels under `kubernetes.io` and `k8s.io` that a host agent may set on its Node.
const OWN_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
];

/// The step.
pub struct NodeRestriction;

#[async_trait]
impl AdmissionPlugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let Some(node) = node::identity(request.user) else {
            if request.user.is_in(node::GROUP) {
                let why = format!("could not determine node from user {:?}", request.user.name);
                return Err(forbidden(request, why));
            }
            return Ok(Vec::new());
        };
        if let Some(missing) = missing(request, node, view) {
            return Err(missing);
        }
        let a = request.attributes;
        let problem = match (a.group.as_str(), a.resource.as_str(), a.subresource.as_str()) {
            ("", "pods", "") => pods(request, node, view),
            ("", "pods", "status") => pod_status(request, node),
            ("", "pods", "eviction") => eviction(request, node, view),
            ("", "pods", other) => Some(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("", "nodes", _) => own_node(request, node),
            ("", "serviceaccounts", "token") => token(request, node, view),
            ("", "persistentvolumes", _) => volume(request, node, view),
            ("", "persistentvolumeclaims", "") => claim(request, node),
            ("", "persistentvolumeclaims", "status") => claim_status(request, node, view),
            ("snapshot.storage.k8s.io", "volumesnapshotcontents", _) => snapshot(request, node),
            ("coordination.k8s.io", "leases", _) => lease(request, node),
            ("storage.k8s.io", "csinodes", _) => named_as_node(request, node, "CSINode"),
            ("resource.k8s.io", "resourceslices", _) => slice(request, node),
            ("certificates.k8s.io", "certificatesigningrequests", _) => certificate(request, node),
            _ => None,
        };
        let asks_for_token = (a.group.as_str(), a.resource.as_str(), a.subresource.as_str())
            == ("", "serviceaccounts", "token");
        let problem = match problem {
            None if asks_for_token => foreign_audience(request, view).await,
            other => other,
        };
        match problem {
            Some(why) => Err(forbidden(request, why)),
            None => Ok(Vec::new()),
        }
    }
}

/// What a request is judged by may not be there, which is told as of every other object.
fn missing(request: &AdmissionRequest<'_>, node: &str, view: &dyn View) -> Option<Status> {
    let a = request.attributes;
    let place = (a.group.as_str(), a.resource.as_str(), a.subresource.as_str());
    let (resource, namespace, name) = match (request.operation, place) {
        (Operation::Delete, ("", "pods", "")) | (Operation::Create, ("", "pods", "eviction")) => {
            ("pods", Some(a.namespace.as_str()), a.name.as_str())
        }
        (Operation::Create, ("", "serviceaccounts", "token")) => {
            let bound = bound_pod(request.object)?;
            ("pods", Some(a.namespace.as_str()), bound["name"].as_str()?)
        }
        (Operation::Create, ("", "pods", "")) if is_owned_by(request.object, node) => ("nodes", None, node),
        _ => return None,
    };
    let kind = GroupResource::new("", resource);
    match view.get(&kind, namespace, name) {
        Some(_) => None,
        // Upstream's listers know kinds by one of them.
        None => Some(Status::not_found(resource.trim_end_matches('s'), "", name)),
    }
}

/// The Pod that a token is asked for, with its uid.
fn bound_pod(request: &Value) -> Option<&Value> {
    let bound = &request["spec"]["boundObjectRef"];
    let uid = bound["uid"].as_str().unwrap_or_default();
    (bound["kind"] == "Pod" && bound["apiVersion"] == "v1" && !uid.is_empty()).then_some(bound)
}

/// Whether a mirror Pod has its node for its only owner.
fn is_owned_by(pod: &Value, node: &str) -> bool {
    let mirror = pod["metadata"]["annotations"].get("kubernetes.io/config.mirror");
    mirror.is_some() && pod["spec"]["nodeName"] == node && owner_fault(pod, node).is_none()
}

fn pod_of(request: &AdmissionRequest<'_>, view: &dyn View) -> Option<String> {
    let a = request.attributes;
    let pod = view.get(&GroupResource::new("", "pods"), Some(&a.namespace), &a.name)?;
    Some(pod["spec"]["nodeName"].as_str().unwrap_or_default().to_string())
}

fn pods(request: &AdmissionRequest<'_>, node: &str, view: &dyn View) -> Option<String> {
    match request.operation {
        Operation::Create => {
            let pod = &request.object;
            if pod["metadata"]["annotations"]
                .get("kubernetes.io/config.mirror")
                .is_none()
            {
                return Some(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                ));
            }
            if pod["spec"]["nodeName"] != node {
                return Some(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ));
            }
            if let Some(why) = owner(pod, node, view) {
                return Some(why);
            }
            references(pod).map(|what| format!("node {node:?} can not create pods that reference {what}"))
        }
        Operation::Delete => match pod_of(request, view) {
            Some(bound) if bound != node => Some(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
            _ => None,
        },
        _ => Some(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            request.operation.as_str()
        )),
    }
}

/// A mirror Pod has its node for an owner, and nobody else: it goes with it.
fn owner(pod: &Value, node: &str, view: &dyn View) -> Option<String> {
    if let Some(fault) = owner_fault(pod, node) {
        return Some(fault);
    }
    let found = view.get(&GroupResource::new("", "nodes"), None, node)?;
    let uid = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let given = uid(&pod["metadata"]["ownerReferences"][0]["uid"]);
    let known = uid(&found["metadata"]["uid"]);
    (given != known).then(|| format!("node {node} UID mismatch: expected {given} got {known}"))
}

fn owner_fault(pod: &Value, node: &str) -> Option<String> {
    let owners: Vec<&Value> = items(&pod["metadata"], "ownerReferences").collect();
    let owner = match owners.as_slice() {
        [] => {
            return Some(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        [one] => one,
        _ => {
            return Some(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Some(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if owner["controller"] != true {
        return Some(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Some(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    None
}

fn pod_status(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    if request.operation != Operation::Update {
        return Some(format!("unexpected operation {:?}", request.operation.as_str()));
    }
    let old = request.old?;
    if old["spec"]["nodeName"] != node {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |o: &Value| o["metadata"].get("labels").filter(|l| !l.is_null()).cloned();
    if labels(old) != labels(request.object) {
        return Some(format!("node {node:?} cannot update labels through pod status"));
    }
    // They tell which claims on devices the node may read.
    let claims = |o: &Value, field: &str| {
        let told = o["status"].get(field).cloned().unwrap_or_default();
        Some(told).filter(|v| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty()))
    };
    for (field, words) in [
        ("resourceClaimStatuses", "resource claim statues"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
    ] {
        if claims(old, field) != claims(request.object, field) {
            return Some(format!("node {node:?} cannot update {words}"));
        }
    }
    None
}

/// Devices that a driver on the node announces are the node's own.
fn slice(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let (object, verb) = match request.operation {
        Operation::Create => (Some(&*request.object), "create"),
        Operation::Delete => (request.old, "delete"),
        _ => return None,
    };
    let own = object.is_some_and(|slice| slice["spec"]["nodeName"] == node);
    (!own).then(|| format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

/// A host asks for certificates under its own name alone.
fn certificate(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let spec = &request.object["spec"];
    let signer = spec["signerName"].as_str().unwrap_or_default();
    if request.operation != Operation::Create
        || !request.attributes.subresource.is_empty()
        || !matches!(
            signer,
            "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
        )
    {
        return None;
    }
    match super::certificates::common_name(spec["request"].as_str().unwrap_or_default()) {
        None => Some("unable to parse csr: PEM block type must be CERTIFICATE REQUEST".into()),
        Some(name) if name != format!("{}{node}", node::PREFIX) => {
            Some(format!("can only create a node CSR with CN=system:node:{node}"))
        }
        Some(_) => None,
    }
}

fn eviction(request: &AdmissionRequest<'_>, node: &str, view: &dyn View) -> Option<String> {
    match pod_of(request, view) {
        Some(bound) if bound != node => Some(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )),
        _ => None,
    }
}

fn own_node(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let a = request.attributes;
    let named = match request.operation {
        Operation::Create => request.object["metadata"]["name"].as_str().unwrap_or_default(),
        _ => a.name.as_str(),
    };
    if named != node {
        return Some(format!("node {node:?} is not allowed to modify node {named:?}"));
    }
    match (request.operation, request.old) {
        (Operation::Create, _) => own_node_made(request.object, node),
        (Operation::Update, Some(old)) => own_node_changed(request.object, old, node),
        _ => None,
    }
}

/// Labels of a Node that its agent may not touch, those that changed.
fn barred_labels(new: &Value, old: &Value) -> Option<String> {
    let changed = changed_labels(&old["metadata"]["labels"], &new["metadata"]["labels"]);
    let barred: Vec<String> = changed.into_iter().filter(|label| !may_set(label)).collect();
    (!barred.is_empty()).then(|| barred.join(", "))
}

fn own_node_made(new: &Value, node: &str) -> Option<String> {
    if !new["spec"]["configSource"].is_null() {
        return Some(format!(
            "node {node:?} is not allowed to create pods with a non-nil configSource"
        ));
    }
    let barred = barred_labels(new, &Value::Null)?;
    Some(format!(
        "node {node:?} is not allowed to set the following labels: {barred}"
    ))
}

fn own_node_changed(new: &Value, old: &Value, node: &str) -> Option<String> {
    let list = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let differ = |of: &str, field: &str| list(&new[of][field]) != list(&old[of][field]);
    let source = &new["spec"]["configSource"];
    let what = if !source.is_null() && *source != old["spec"]["configSource"] {
        "update configSource to a new non-nil configSource"
    } else if differ("spec", "taints") {
        "modify taints"
    } else if differ("metadata", "ownerReferences") {
        "modify ownerReferences"
    } else {
        let barred = barred_labels(new, old)?;
        return Some(format!("is not allowed to modify labels: {barred}"));
    };
    Some(format!("node {node:?} is not allowed to {what}"))
}

/// What a Pod refers to that a host agent might not read otherwise: a mirror Pod must not lend it rights.
fn references(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty()) {
        return Some("a service account");
    }
    let volumes: Vec<&Value> = items(spec, "volumes").collect();
    let projected = |source: &str| {
        let mut sources = volumes.iter().flat_map(|v| items(&v["projected"], "sources"));
        sources.any(|s| s.get(source).is_some())
    };
    let environment = |one: &str, all: &str| {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let mut containers = lists.into_iter().flat_map(|list| items(spec, list));
        containers.any(|c| {
            items(c, "env").any(|e| e["valueFrom"].get(one).is_some())
                || items(c, "envFrom").any(|e| e.get(all).is_some())
        })
    };
    let volume = |kind: &str| volumes.iter().any(|v| v.get(kind).is_some());
    if volume("secret")
        || projected("secret")
        || environment("secretKeyRef", "secretRef")
        || items(spec, "imagePullSecrets").next().is_some()
    {
        return Some("secrets");
    }
    if volume("configMap") || projected("configMap") || environment("configMapKeyRef", "configMapRef") {
        return Some("configmaps");
    }
    if projected("clusterTrustBundle") {
        return Some("clustertrustbundles");
    }
    if volume("persistentVolumeClaim") {
        return Some("persistentvolumeclaims");
    }
    items(spec, "resourceClaims").next().map(|_| "resourceclaims")
}

/// Names of labels that differ.
fn changed_labels(old: &Value, new: &Value) -> BTreeSet<String> {
    let names = |v: &Value| {
        v.as_object()
            .into_iter()
            .flatten()
            .map(|(k, _)| k.clone())
            .collect::<BTreeSet<_>>()
    };
    let all = names(old).into_iter().chain(names(new));
    all.filter(|name| old.get(name) != new.get(name)).collect()
}

fn may_set(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else {
        return true;
    };
    let within = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

fn token(request: &AdmissionRequest<'_>, node: &str, view: &dyn View) -> Option<String> {
    let bound = &request.object["spec"]["boundObjectRef"];
    if bound["kind"] != "Pod" || bound["apiVersion"] != "v1" {
        return Some("node requested token not bound to a pod".into());
    }
    if bound["uid"].as_str().unwrap_or_default().is_empty() {
        return Some("node requested token with a pod binding without a uid".into());
    }
    let name = bound["name"].as_str().unwrap_or_default();
    let pod = view.get(
        &GroupResource::new("", "pods"),
        Some(&request.attributes.namespace),
        name,
    );
    match pod {
        // It is gone since it was looked for.
        None => Some(format!("pod {name:?} not found")),
        Some(pod) if pod["metadata"]["uid"] != bound["uid"] => Some(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            bound["uid"].as_str().unwrap_or_default()
        )),
        Some(pod) if pod["spec"]["nodeName"] != node => {
            Some("node requested token bound to a pod scheduled on a different node".into())
        }
        Some(_) => None,
    }
}

/// A host asks for tokens with the audiences that its Pod has volumes for (KEP-4935), and others that it was given a
/// right on.
async fn foreign_audience(request: &AdmissionRequest<'_>, view: &dyn View) -> Option<String> {
    let asked: Vec<&Value> = items(&request.object["spec"], "audiences").collect();
    if asked.len() > 1 {
        return Some("node may only request 0 or 1 audiences".into());
    }
    let audience = asked.first().and_then(|a| a.as_str()).unwrap_or_default();
    let a = request.attributes;
    let pod = bound_pod(request.object)?["name"].as_str()?;
    let pod = view.get(&GroupResource::new("", "pods"), Some(&a.namespace), pod)?;
    match has_audience(&pod, &a.namespace, audience, view) {
        Ok(true) => return None,
        Ok(false) => {}
        Err(why) => return Some(format!("error validating audience {audience:?}: {why}")),
    }
    let question = Attributes {
        verb: "request-serviceaccounts-token-audience".into(),
        version: "v1".into(),
        resource: audience.into(),
        namespace: a.namespace.clone(),
        name: a.name.clone(),
        is_resource: true,
        ..Attributes::default()
    };
    if let Some(ctx) = request.ctx
        && let authorizer = &ctx.server.access.authorizer
        && authorizer.authorize(request.user, &question).await.is_allowed()
    {
        return None;
    }
    Some(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        request.user.name
    ))
}

/// Whether a volume of the Pod wants tokens with the audience: by itself, or by the CSI driver that is behind it.
fn has_audience(pod: &Value, namespace: &str, audience: &str, view: &dyn View) -> Result<bool, String> {
    let of = |v: &Value| v["audience"].as_str().unwrap_or_default() == audience;
    let mut faults = Vec::new();
    for volume in items(&pod["spec"], "volumes") {
        let mut sources = items(&volume["projected"], "sources");
        if sources.any(|s| s.get("serviceAccountToken").is_some_and(of)) {
            return Ok(true);
        }
        let found = driver_behind(pod, volume, namespace, view).and_then(|name| {
            let Some(name) = name else {
                return Ok(false);
            };
            let kind = GroupResource::new("storage.k8s.io", "csidrivers");
            let driver = view.get(&kind, None, &name);
            let driver = driver.ok_or_else(|| format!("csidriver.storage.k8s.io {name:?} not found"))?;
            Ok(items(&driver["spec"], "tokenRequests").any(of))
        });
        match found {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(fault) => faults.push(fault),
        }
    }
    match faults.as_slice() {
        [] => Ok(false),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// The CSI driver of a volume of a Pod, which may stand in the volume of its claim.
fn driver_behind(
    pod: &Value,
    volume: &Value,
    namespace: &str,
    view: &dyn View,
) -> Result<Option<String>, String> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let claim = if volume["ephemeral"]["volumeClaimTemplate"].is_object() {
        format!("{}-{}", text(&pod["metadata"]["name"]), text(&volume["name"]))
    } else if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
        claim.to_owned()
    } else {
        return Ok(driver_of(volume));
    };
    let core = |resource| GroupResource::new("", resource);
    let found = view.get(&core("persistentvolumeclaims"), Some(namespace), &claim);
    let found = found.ok_or_else(|| format!("persistentvolumeclaim {claim:?} not found"))?;
    let name = text(&found["spec"]["volumeName"]);
    let volume = view.get(&core("persistentvolumes"), None, &name);
    let volume = volume.ok_or_else(|| format!("persistentvolume {name:?} not found"))?;
    Ok(driver_of(&volume["spec"]))
}

/// Kinds of volumes that had code of their own once, with the drivers that have taken them over.
const TAKEN_OVER: [(&str, &str); 7] = [
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
];

/// The CSI driver that a volume's source comes from.
fn driver_of(source: &Value) -> Option<String> {
    let taken_over = TAKEN_OVER.iter().find(|(kind, _)| source[*kind].is_object());
    let driver = source["csi"]["driver"].as_str();
    driver
        .or(taken_over.map(|(_, driver)| *driver))
        .map(str::to_owned)
}

/// The driver of volumes in the hosts' own directories.
const DATASTORE: &str = "datastore.podvisor.io";

/// Whether a volume lies in the datastore of a node.
fn at_home(volume: &Value, node: &str) -> bool {
    let here = serde_json::json!([{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
    volume["spec"]["csi"]["driver"] == DATASTORE
        && volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] == here
}

fn volume(request: &AdmissionRequest<'_>, node: &str, view: &dyn View) -> Option<String> {
    let name = &request.attributes.name;
    let before = match request.operation {
        Operation::Create => true,
        _ => view
            .get(&GroupResource::new("", "persistentvolumes"), None, name)
            .is_none_or(|volume| at_home(&volume, node)),
    };
    let after = request.operation == Operation::Delete || at_home(request.object, node);
    (!before || !after).then(|| format!("node {node:?} can only write volumes of its own datastore"))
}

/// A claim goes back to the scheduler by the removal of one annotation; nothing else of it is a host's.
fn claim(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let refused = || {
        Some(format!(
            "node {node:?} can only give back claims that were given to it"
        ))
    };
    let (Operation::Update, Some(old)) = (request.operation, request.old) else {
        return refused();
    };
    let bare = |object: &Value| {
        let mut object = object.clone();
        for field in ["managedFields", "resourceVersion"] {
            object["metadata"][field] = Value::Null;
        }
        if let Some(all) = object
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
        {
            all.remove("volume.kubernetes.io/selected-node");
        }
        object
    };
    let given = old["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == node;
    match given && bare(old) == bare(request.object) {
        true => None,
        false => refused(),
    }
}

fn claim_status(request: &AdmissionRequest<'_>, node: &str, view: &dyn View) -> Option<String> {
    let name = request.object["spec"]["volumeName"].as_str().unwrap_or_default();
    let volume = view.get(&GroupResource::new("", "persistentvolumes"), None, name);
    let ours = volume.is_some_and(|volume| at_home(&volume, node));
    (!ours).then(|| {
        format!("node {node:?} can only update the status of claims on volumes of its own datastore")
    })
}

/// The content of a snapshot: its host writes how it stands, and lets it go.
fn snapshot(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    const NODE: &str = "datastore.podvisor.io/node";
    let ours = |object: &Value| object["metadata"]["annotations"][NODE] == node;
    let allowed = request.operation == Operation::Update
        && request
            .old
            .is_some_and(|old| ours(old) && ours(request.object) && old["spec"] == request.object["spec"]);
    (!allowed).then(|| format!("node {node:?} can only update snapshots of its own datastore"))
}

fn lease(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    if request.attributes.namespace != "kube-node-lease" {
        return Some("can only access leases in the \"kube-node-lease\" system namespace".into());
    }
    named_as_node(request, node, "node lease")
}

fn named_as_node(request: &AdmissionRequest<'_>, node: &str, what: &str) -> Option<String> {
    let named = match request.operation {
        Operation::Create => request.object["metadata"]["name"].as_str().unwrap_or_default(),
        _ => request.attributes.name.as_str(),
    };
    (named != node).then(|| format!("can only access {what} with the same name as the requesting node"))
}
