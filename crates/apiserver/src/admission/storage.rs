//! Steps around classes and volumes: DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection,
//! DefaultIngressClass.

use super::{forbidden, is_on};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::view::{GroupResource, View};
use ::quota::usage::class_of;
use async_trait::async_trait;
use kinds::quantity::Quantity;
use kinds::status::Status;
use serde_json::{Value, json};
use std::sync::Arc;

/// The annotation of claims that named their class before there was a field for it.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The default of a class kind: marked by one of the annotations, the newest of several, by name among equals.
fn default_class(view: &dyn View, group: &str, resource: &str, annotations: &[&str]) -> Option<Arc<Value>> {
    let is_marked = |c: &Value| {
        let mut all = annotations.iter();
        all.any(|annotation| c["metadata"]["annotations"][*annotation] == "true")
    };
    let mut marked: Vec<Arc<Value>> = view
        .list(&GroupResource::new(group, resource), None)
        .into_iter()
        .filter(|c| is_marked(c))
        .collect();
    let text = |c: &Value, key: &str| c["metadata"][key].as_str().unwrap_or_default().to_string();
    marked.sort_by_key(|c| (std::cmp::Reverse(text(c, "creationTimestamp")), text(c, "name")));
    marked.into_iter().next()
}

/// Gives claims without class the default one.
pub struct DefaultStorageClass;

#[async_trait]
impl AdmissionPlugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "", "persistentvolumeclaims") {
            return Ok(Vec::new());
        }
        // An empty name is a choice: no class. The beta annotation still counts.
        let chosen = request.object["spec"]
            .get("storageClassName")
            .is_some_and(|n| !n.is_null())
            || request.object["metadata"]["annotations"]
                .get(BETA_CLASS)
                .is_some();
        if chosen {
            return Ok(Vec::new());
        }
        let annotations = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        if let Some(class) = default_class(view, "storage.k8s.io", "storageclasses", &annotations) {
            request.object["spec"]["storageClassName"] = class["metadata"]["name"].clone();
        }
        Ok(Vec::new())
    }
}

/// Only claims of classes that can grow may grow.
pub struct PersistentVolumeClaimResize;

#[async_trait]
impl AdmissionPlugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        let (Operation::Update, Some(old)) = (request.operation, request.old) else {
            return Ok(Vec::new());
        };
        if !is_on(request, "", "persistentvolumeclaims") {
            return Ok(Vec::new());
        }
        let size =
            |claim: &Value| Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]).ok();
        match (size(old), size(request.object)) {
            (Some(before), Some(after)) if after > before => {}
            _ => return Ok(Vec::new()),
        }
        if old["status"]["phase"] != "Bound" {
            return Err(forbidden(
                request,
                "Only bound persistent volume claims can be expanded",
            ));
        }
        let classes = GroupResource::new("storage.k8s.io", "storageclasses");
        let class = view.get(&classes, None, class_of(request.object));
        match class.is_some_and(|c| c["allowVolumeExpansion"] == true) {
            true => Ok(Vec::new()),
            false => Err(forbidden(
                request,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            )),
        }
    }
}

/// Gives claims, volumes and their classes of attributes the finalizers that keep them while they are used, from their first moment.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl AdmissionPlugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let finalizer = match request.operation {
            Operation::Create if is_on(request, "", "persistentvolumeclaims") => {
                "kubernetes.io/pvc-protection"
            }
            Operation::Create if is_on(request, "", "persistentvolumes") => "kubernetes.io/pv-protection",
            Operation::Create if is_on(request, "storage.k8s.io", "volumeattributesclasses") => {
                "kubernetes.io/vac-protection"
            }
            _ => return Ok(Vec::new()),
        };
        let mut all = request.object["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if !all.iter().any(|f| f == finalizer) {
            all.push(json!(finalizer));
            request.object["metadata"]["finalizers"] = json!(all);
        }
        Ok(Vec::new())
    }
}

/// Gives Ingresses without class the default one.
pub struct DefaultIngressClass;

#[async_trait]
impl AdmissionPlugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "networking.k8s.io", "ingresses") {
            return Ok(Vec::new());
        }
        let chosen = request.object["spec"]
            .get("ingressClassName")
            .is_some_and(|n| !n.is_null())
            || request.object["metadata"]["annotations"]
                .get("kubernetes.io/ingress.class")
                .is_some();
        let annotations = ["ingressclass.kubernetes.io/is-default-class"];
        let group = "networking.k8s.io";
        if !chosen && let Some(class) = default_class(view, group, "ingressclasses", &annotations) {
            request.object["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
        }
        Ok(Vec::new())
    }
}
