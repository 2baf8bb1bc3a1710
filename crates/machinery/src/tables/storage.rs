//! Rows of volumes, claims, classes and drivers; ConfigMaps and Secrets; devices.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, NONE, UNSET};
use super::{AGE, NAME, Printer, flag, number, text as column, wide};

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("", "ConfigMap") => Printer {
            // Upstream declares text and sends a number.
            columns: const { &[NAME, column("Data"), AGE] },
            cells: |object, now| {
                let entries = text::count(object, "/data") + text::count(object, "/binaryData");
                vec![text::name(object), json!(entries), text::created(object, now)]
            },
        },
        ("", "Secret") => Printer {
            columns: const { &[NAME, column("Type"), column("Data"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/type")),
                    json!(text::count(object, "/data")),
                    text::created(object, now),
                ]
            },
        },
        ("", "PersistentVolume") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Capacity"),
                    column("Access Modes"),
                    column("Reclaim Policy"),
                    column("Status"),
                    column("Claim"),
                    column("StorageClass"),
                    column("VolumeAttributesClass"),
                    column("Reason"),
                    AGE,
                    wide("VolumeMode"),
                ]
            },
            cells: volume,
        },
        ("", "PersistentVolumeClaim") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Status"),
                    column("Volume"),
                    column("Capacity"),
                    column("Access Modes"),
                    column("StorageClass"),
                    column("VolumeAttributesClass"),
                    AGE,
                    wide("VolumeMode"),
                ]
            },
            cells: claim,
        },
        ("storage.k8s.io", "StorageClass") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Provisioner"),
                    column("ReclaimPolicy"),
                    column("VolumeBindingMode"),
                    column("AllowVolumeExpansion"),
                    AGE,
                ]
            },
            cells: storage_class,
        },
        ("storage.k8s.io", "VolumeAttributesClass") => Printer {
            columns: const { &[NAME, column("DriverName"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/driverName")),
                    text::created(object, now),
                ]
            },
        },
        ("storage.k8s.io", "VolumeAttachment") => Printer {
            columns: const {
                &[
                    NAME,
                    super::Column {
                        name: "Attacher",
                        ..NAME
                    },
                    column("PV"),
                    column("Node"),
                    flag("Attached"),
                    AGE,
                ]
            },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/spec/attacher")),
                    json!(text::at(object, "/spec/source/persistentVolumeName")),
                    json!(text::at(object, "/spec/nodeName")),
                    json!(text::is(object, "/status/attached")),
                    text::created(object, now),
                ]
            },
        },
        ("storage.k8s.io", "CSINode") => Printer {
            columns: const { &[NAME, number("Drivers"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::count(object, "/spec/drivers")),
                    text::created(object, now),
                ]
            },
        },
        ("storage.k8s.io", "CSIDriver") => Printer {
            columns: const {
                &[
                    NAME,
                    flag("AttachRequired"),
                    flag("PodInfoOnMount"),
                    flag("StorageCapacity"),
                    column("TokenRequests"),
                    flag("RequiresRepublish"),
                    column("Modes"),
                    AGE,
                ]
            },
            cells: driver,
        },
        ("resource.k8s.io", "ResourceClaim") => Printer {
            columns: const { &[NAME, column("State"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(claim_state(object)),
                    text::created(object, now),
                ]
            },
        },
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => Printer {
            columns: const { &[NAME, AGE] },
            cells: |object, now| vec![text::name(object), text::created(object, now)],
        },
        ("resource.k8s.io", "ResourceSlice") => Printer {
            columns: const { &[NAME, column("Node"), column("Driver"), column("Pool"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::or(object, "/spec/nodeName", UNSET)),
                    json!(text::at(object, "/spec/driver")),
                    json!(text::at(object, "/spec/pool/name")),
                    text::created(object, now),
                ]
            },
        },
        _ => return None,
    })
}

/// `RWO,ROX`, in upstream's fixed order.
fn access_modes(object: &Value, pointer: &str) -> String {
    let modes = text::list(object, pointer);
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .iter()
    .filter(|(mode, _)| modes.iter().any(|have| have == mode))
    .map(|(_, short)| *short)
    .collect::<Vec<_>>()
    .join(",")
}

fn phase(object: &Value) -> &str {
    if text::is_deleted(object) {
        "Terminating"
    } else {
        text::at(object, "/status/phase")
    }
}

/// The class, or the annotation that stood for it once.
fn class(object: &Value) -> &str {
    const OLD: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
    text::or(object, OLD, text::at(object, "/spec/storageClassName"))
}

fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match (
        text::at(object, "/spec/claimRef/namespace"),
        text::at(object, "/spec/claimRef/name"),
    ) {
        ("", "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        text::name(object),
        json!(text::at(object, "/spec/capacity/storage")),
        json!(access_modes(object, "/spec/accessModes")),
        json!(text::at(object, "/spec/persistentVolumeReclaimPolicy")),
        json!(phase(object)),
        json!(claim),
        json!(class(object)),
        json!(text::or(object, "/spec/volumeAttributesClassName", UNSET)),
        json!(text::at(object, "/status/reason")),
        text::created(object, now),
        json!(text::or(object, "/spec/volumeMode", UNSET)),
    ]
}

fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text::at(object, "/spec/volumeName").is_empty();
    let (size, modes) = match bound {
        true => (
            // One that is bound by hand and not yet by the controller has none.
            text::or(object, "/status/capacity/storage", "0"),
            access_modes(object, "/status/accessModes"),
        ),
        false => ("", String::new()),
    };
    vec![
        text::name(object),
        json!(phase(object)),
        json!(text::at(object, "/spec/volumeName")),
        json!(size),
        json!(modes),
        json!(class(object)),
        json!(text::or(object, "/spec/volumeAttributesClassName", UNSET)),
        text::created(object, now),
        json!(text::or(object, "/spec/volumeMode", UNSET)),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"]
        .iter()
        .any(|domain| {
            text::at(
                object,
                &format!("/metadata/annotations/{domain}~1is-default-class"),
            ) == "true"
        });
    let name = text::at(object, "/metadata/name");
    vec![
        json!(if is_default {
            format!("{name} (default)")
        } else {
            name.to_owned()
        }),
        json!(text::at(object, "/provisioner")),
        json!(text::or(object, "/reclaimPolicy", "Delete")),
        json!(text::or(object, "/volumeBindingMode", UNSET)),
        json!(text::is(object, "/allowVolumeExpansion")),
        text::created(object, now),
    ]
}

fn driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let attach = object
        .pointer("/spec/attachRequired")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    vec![
        text::name(object),
        json!(attach),
        json!(text::is(object, "/spec/podInfoOnMount")),
        json!(text::is(object, "/spec/storageCapacity")),
        json!(text::joined_or(
            text::list(object, "/spec/tokenRequests"),
            "audience",
            UNSET
        )),
        json!(text::is(object, "/spec/requiresRepublish")),
        json!(text::joined_or(
            text::list(object, "/spec/volumeLifecycleModes"),
            "",
            NONE
        )),
        text::created(object, now),
    ]
}

fn claim_state(object: &Value) -> String {
    let mut states = Vec::new();
    if text::is_deleted(object) {
        states.push("deleted");
    }
    if object.pointer("/status/allocation").is_some_and(Value::is_object) {
        states.push("allocated");
        if text::count(object, "/status/reservedFor") > 0 {
            states.push("reserved");
        }
    } else if states.is_empty() {
        states.push("pending");
    }
    states.join(",")
}
