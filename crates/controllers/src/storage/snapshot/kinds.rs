//! The kinds of `snapshot.storage.k8s.io/v1`: custom resources that every Supervisor has from its first start, with the
//! roles by which tenants use them.
//!
//! Fields, columns and rules are those of the API (KEP-177); whoever brings definitions of their own keeps them: what
//! exists is left alone.

use super::{CLASSES, CONTENTS, GROUP, SNAPSHOTS};
use crate::manager::Reconciler;
use crate::obj::meta;
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const ROLES: &str = "clusterroles.rbac.authorization.k8s.io";

/// Installs the kinds once a start.
#[derive(Default)]
pub(crate) struct SnapshotKinds(AtomicBool);

/// The three resources, as the caches watch them.
pub(super) fn resources() -> Vec<Resource> {
    let of = |kind: &str, key: &str, namespaced| Resource {
        group: GROUP.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: key.split('.').next().unwrap_or_default().into(),
        namespaced,
    };
    vec![
        of("VolumeSnapshot", SNAPSHOTS, true),
        of("VolumeSnapshotContent", CONTENTS, false),
        of("VolumeSnapshotClass", CLASSES, false),
    ]
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn fixed(mut field: Value) -> Value {
    field["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf", "message": "field is immutable"}]);
    field
}

/// Exactly one of two fields.
fn one_of(mut schema: Value, a: &str, b: &str) -> Value {
    schema["oneOf"] = json!([{"required": [a]}, {"required": [b]}]);
    schema
}

fn error() -> Value {
    let time = json!({"type": "string", "format": "date-time"});
    object(&[], json!({"message": text(), "time": time}))
}

fn policy() -> Value {
    json!({"type": "string", "enum": ["Delete", "Retain"]})
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

/// A definition: kind, plural, short names, scope, schema of the top-level fields, required ones, columns, status.
struct Definition {
    kind: &'static str,
    short: &'static [&'static str],
    scope: &'static str,
    required: &'static [&'static str],
    fields: Value,
    columns: Vec<Value>,
    status: bool,
}

impl Definition {
    fn object(self) -> Value {
        let singular = self.kind.to_lowercase();
        let plural = match singular.ends_with("class") {
            true => format!("{singular}es"),
            false => format!("{singular}s"),
        };
        let mut fields = self.fields;
        for name in ["apiVersion", "kind"] {
            fields[name] = text();
        }
        fields["metadata"] = json!({"type": "object"});
        let mut columns = self.columns;
        columns.push(column("Age", "date", ".metadata.creationTimestamp"));
        let mut version = json!({
            "name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns,
            "schema": {"openAPIV3Schema": object(self.required, fields)},
        });
        if self.status {
            version["subresources"] = json!({"status": {}});
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{GROUP}"),
                "annotations": {
                    // The group is Kubernetes' own: this names the change that approved the API.
                    "api-approved.kubernetes.io":
                        "https://github.com/kubernetes-csi/external-snapshotter/pull/814",
                },
            },
            "spec": {
                "group": GROUP, "scope": self.scope,
                "names": {"kind": self.kind, "listKind": format!("{}List", self.kind), "plural": plural,
                    "singular": singular, "shortNames": self.short},
                "versions": [version],
            },
        })
    }
}

fn definitions() -> [Value; 3] {
    let number = json!({"type": "integer", "format": "int64"});
    let time = json!({"type": "string", "format": "date-time"});
    let flag = json!({"type": "boolean"});
    let quantity = json!({
        "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
    });
    let source = object(
        &[],
        json!({"persistentVolumeClaimName": fixed(text()), "volumeSnapshotContentName": fixed(text())}),
    );
    let snapshot = Definition {
        kind: "VolumeSnapshot",
        short: &["vs"],
        scope: "Namespaced",
        required: &["spec"],
        fields: json!({
            "spec": object(&["source"], json!({
                "source": one_of(source, "persistentVolumeClaimName", "volumeSnapshotContentName"),
                "volumeSnapshotClassName": text(),
            })),
            "status": object(&[], json!({
                "boundVolumeSnapshotContentName": text(), "creationTime": time, "readyToUse": flag,
                "restoreSize": quantity, "error": error(), "volumeGroupSnapshotName": text(),
            })),
        }),
        columns: vec![
            column("ReadyToUse", "boolean", ".status.readyToUse"),
            column("SourcePVC", "string", ".spec.source.persistentVolumeClaimName"),
            column(
                "SourceSnapshotContent",
                "string",
                ".spec.source.volumeSnapshotContentName",
            ),
            column("RestoreSize", "string", ".status.restoreSize"),
            column("SnapshotClass", "string", ".spec.volumeSnapshotClassName"),
            column(
                "SnapshotContent",
                "string",
                ".status.boundVolumeSnapshotContentName",
            ),
            column("CreationTime", "date", ".status.creationTime"),
        ],
        status: true,
    };
    let reference = [
        "apiVersion",
        "fieldPath",
        "kind",
        "name",
        "namespace",
        "resourceVersion",
        "uid",
    ];
    let reference: serde_json::Map<String, Value> = reference
        .iter()
        .map(|name| ((*name).to_string(), text()))
        .collect();
    let source = object(
        &[],
        json!({"volumeHandle": fixed(text()), "snapshotHandle": fixed(text())}),
    );
    let content = Definition {
        kind: "VolumeSnapshotContent",
        short: &["vsc", "vscs"],
        scope: "Cluster",
        required: &["spec"],
        fields: json!({
            "spec": object(&["deletionPolicy", "driver", "source", "volumeSnapshotRef"], json!({
                "deletionPolicy": policy(), "driver": text(), "sourceVolumeMode": fixed(text()),
                "volumeSnapshotClassName": text(),
                "source": one_of(source, "volumeHandle", "snapshotHandle"),
                "volumeSnapshotRef": object(&[], Value::Object(reference)),
            })),
            "status": object(&[], json!({
                "creationTime": number, "readyToUse": flag, "snapshotHandle": text(), "error": error(),
                "restoreSize": {"type": "integer", "format": "int64", "minimum": 0},
                "volumeGroupSnapshotHandle": text(),
            })),
        }),
        columns: vec![
            column("ReadyToUse", "boolean", ".status.readyToUse"),
            column("RestoreSize", "integer", ".status.restoreSize"),
            column("DeletionPolicy", "string", ".spec.deletionPolicy"),
            column("Driver", "string", ".spec.driver"),
            column("VolumeSnapshotClass", "string", ".spec.volumeSnapshotClassName"),
            column("VolumeSnapshot", "string", ".spec.volumeSnapshotRef.name"),
            column(
                "VolumeSnapshotNamespace",
                "string",
                ".spec.volumeSnapshotRef.namespace",
            ),
        ],
        status: true,
    };
    let class = Definition {
        kind: "VolumeSnapshotClass",
        short: &["vsclass", "vsclasses"],
        scope: "Cluster",
        required: &["deletionPolicy", "driver"],
        fields: json!({
            "deletionPolicy": policy(), "driver": text(),
            "parameters": {"type": "object", "additionalProperties": text()},
        }),
        columns: vec![
            column("Driver", "string", ".driver"),
            column("DeletionPolicy", "string", ".deletionPolicy"),
        ],
        status: false,
    };
    [snapshot.object(), content.object(), class.object()]
}

/// Tenants make snapshots as they make claims; contents and classes are the administrator's.
fn roles() -> [Value; 2] {
    let role = |name: &str, into: &[&str], verbs: &[&str], resources: &[&str]| {
        let mut role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": {}},
            "rules": [{"apiGroups": [GROUP], "resources": resources, "verbs": verbs}],
        });
        for target in into {
            role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{target}")] =
                json!("true");
        }
        role
    };
    [
        role(
            "podvisor:volumesnapshots:edit",
            &["admin", "edit"],
            &["create", "delete", "deletecollection", "patch", "update"],
            &["volumesnapshots"],
        ),
        role(
            "podvisor:volumesnapshots:view",
            &["admin", "edit", "view"],
            &["get", "list", "watch"],
            &["volumesnapshots", "volumesnapshots/status"],
        ),
    ]
}

#[async_trait]
impl Reconciler for SnapshotKinds {
    fn name(&self) -> &'static str {
        "snapshot kinds"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[DEFINITIONS, ROLES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        if self.0.load(Ordering::Acquire) {
            return Ok(None);
        }
        let definitions = definitions().into_iter().map(|object| (DEFINITIONS, object));
        for (key, object) in definitions.chain(roles().into_iter().map(|object| (ROLES, object))) {
            if world.get(key, "", meta(&object, "name")).is_none() {
                settled(world.create(key, &object).await)?;
            }
        }
        self.0.store(true, Ordering::Release);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree() {
        let defined: Vec<String> = definitions()
            .iter()
            .map(|d| meta(d, "name").to_string())
            .collect();
        let watched: Vec<String> = resources().iter().map(Resource::key).collect();
        assert_eq!(defined, watched);
    }
}
