//! Follows the CustomResourceDefinitions: registers what they define, writes their conditions, and empties a
//! definition that is deleted before it goes.
//!
//! Woken by every change of a definition; reads all of them; idempotent. Unchanged definitions keep their registered
//! versions, so other kinds notice nothing.

use super::conversion::Conversion;
use super::definition::{Approval, approval_of};
use super::names::{Decision, Used, decide};
use super::{CLEANUP, CustomVersion, kind_info};
use crate::registry::{Registry, Served, traits};
use crate::rest::write::Stored;
use crate::rest::{finalizers, meta, now, set_meta};
use crate::server::ApiServer;
use crate::view::{GroupResource, View};
use kinds::status::Status;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Definitions by name: what they were registered with, and the resources that came of it.
type Known = HashMap<String, (Value, Vec<Arc<Served>>)>;

/// What the resources of a definition follow from: its spec, and in which versions its objects may be stored.
fn basis(crd: &Value) -> Value {
    let mut basis = crd["spec"].clone();
    basis["storedVersions"] = crd["status"]["storedVersions"].clone();
    basis
}

/// The spec in a basis: that is what a definition says itself.
fn unversioned(basis: &Value) -> Value {
    let mut spec = basis.clone();
    spec["storedVersions"] = Value::Null;
    spec
}

fn resource() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Starts following. What is defined already is served when this returns.
pub fn start(server: &Arc<ApiServer>) {
    let mut known = Known::new();
    register(server, &server.caches.list(&resource(), None), &mut known);
    let (server, stop) = (server.clone(), server.stop.clone());
    tokio::spawn(run(server, known, stop));
}

async fn run(server: Arc<ApiServer>, mut known: Known, stop: CancellationToken) {
    let mut applied = server.caches.subscribe();
    let mut seen = u64::MAX;
    loop {
        let changed = server.caches.resource_revision(&resource());
        if changed != seen {
            seen = changed;
            // One reading for both: what has come since is not registered yet and must not be called established.
            let crds = server.caches.list(&resource(), None);
            register(&server, &crds, &mut known);
            for crd in crds {
                match settle(&server, &crd).await {
                    Ok(()) => list(&server, &known, meta(&crd, "name")),
                    // Objects of a definition that goes wait for finalizers of their own: their removal wakes us.
                    Err(status) if status.code == 409 => seen = u64::MAX,
                    Err(status) if status.code == 404 => {}
                    Err(status) => {
                        tracing::warn!(crd = meta(&crd, "name"), error = %status, "a definition could not be settled");
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}

/// Tells in discovery what a definition that is established defines: who finds a kind there may change its definition
/// without meeting ours of its conditions.
fn list(server: &Arc<ApiServer>, known: &Known, name: &str) {
    let registry = server.registry.load();
    let served = known.get(name).map_or(&[][..], |(_, served)| served);
    if served.iter().all(|s| registry.is_listed(s)) {
        return;
    }
    let mut registry = (**registry).clone();
    registry.list(served);
    server.registry.store(Arc::new(registry));
    server.documents.clear();
}

/// Whether the condition is there already.
fn established(crd: &Value) -> bool {
    let conditions = crd["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

/// Brings the registry in step with the definitions.
fn register(server: &Arc<ApiServer>, crds: &[Arc<Value>], known: &mut Known) {
    let mut registry = (**server.registry.load()).clone();
    let mut changed = false;
    let mut outdated = Vec::new();
    let gone: Vec<String> = known
        .keys()
        .filter(|n| !crds.iter().any(|c| meta(c, "name") == **n))
        .cloned()
        .collect();
    for name in gone {
        if let Some((spec, served)) = known.remove(&name) {
            let text = |p: &str| spec.pointer(p).and_then(Value::as_str).unwrap_or("");
            registry.remove_custom(text("/group"), text("/names/plural"));
            served.iter().for_each(|s| s.cache.end_watches());
            changed = true;
        }
    }
    for crd in crds {
        let (name, spec) = (meta(crd, "name").to_string(), basis(crd));
        if known.get(&name).is_some_and(|(s, _)| *s == spec) || !names_accepted(&registry, crds, crd, known) {
            continue;
        }
        let text = |p: &str| spec.pointer(p).and_then(Value::as_str).unwrap_or("");
        registry.remove_custom(text("/group"), text("/names/plural"));
        let served = versions(server, crd);
        for served in &served {
            match established(crd) {
                true => registry.add(served.clone()),
                false => registry.add_unlisted(served.clone()),
            }
        }
        let is_changed = |before: &Value| unversioned(before) != unversioned(&spec);
        if known.get(&name).is_some_and(|(before, _)| is_changed(before)) {
            outdated.extend(served.first().cloned());
        }
        known.insert(name, (spec, served));
        changed = true;
    }
    if changed {
        server.registry.store(Arc::new(registry));
        server.documents.clear();
    }
    // Who watches by a definition that has changed begins anew, by what it is now.
    outdated.iter().for_each(|served| served.cache.end_watches());
}

/// The served versions of a definition.
fn versions(server: &Arc<ApiServer>, crd: &Value) -> Vec<Arc<Served>> {
    made(server, crd, |version| version["served"] == true)
}

/// Some versions of a definition, as they are served.
fn made(server: &Arc<ApiServer>, crd: &Value, of: impl Fn(&Value) -> bool) -> Vec<Arc<Served>> {
    let text = |p: &str| crd.pointer(p).and_then(Value::as_str).unwrap_or("");
    let cache = server.caches.resource(&GroupResource::new(
        text("/spec/group"),
        text("/spec/names/plural"),
    ));
    let list = crd
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    // The fields of all versions, since most versions differ in their name only.
    let mut selectable: Vec<String> = list.iter().flat_map(super::selectable).collect();
    selectable.sort();
    selectable.dedup();
    cache.set_selectable_fields(selectable);
    let conversion = Arc::new(Conversion::new(&crd["spec"]["conversion"]));
    let kinds: Vec<_> = list.iter().map(|v| kind_info(crd, v)).collect();
    let stored = list.iter().position(|v| v["storage"] == true).unwrap_or(0);
    // Until all objects have been written anew, the storage holds them in more than one version.
    let before = crd["status"]["storedVersions"].as_array();
    let mixed = before
        .into_iter()
        .flatten()
        .any(|version| list.get(stored).is_some_and(|now| now["name"] != *version));
    let mut served = Vec::new();
    for (version, kind) in list.iter().zip(&kinds) {
        if !of(version) {
            continue;
        }
        let Some(stored) = kinds.get(stored) else { continue };
        served.push(Arc::new(Served {
            kind,
            stored,
            cache: cache.clone(),
            traits: traits::custom(),
            custom: Some(Arc::new(CustomVersion::new(
                crd,
                version,
                kind.kind,
                conversion.clone(),
                mixed,
            ))),
        }));
    }
    served
}

/// The names of a definition's group that others have, built-in kinds among them.
fn used(registry: &Registry, crds: &[Arc<Value>], crd: &Value) -> Used {
    let (mut used, group) = (Used::default(), &crd["spec"]["group"]);
    for other in crds {
        if other["spec"]["group"] == *group && meta(other, "name") != meta(crd, "name") {
            used.add(&other["status"]["acceptedNames"]);
        }
    }
    let built_in = registry.all().iter().filter(|s| s.custom.is_none());
    for served in built_in.filter(|s| *group == s.kind.group) {
        used.resources.insert(served.kind.plural.to_string());
        used.kinds.insert(served.kind.kind.to_string());
    }
    used
}

/// Whether nobody has the names already: by what was granted, and by what is registered but has not been granted yet.
fn names_accepted(registry: &Registry, crds: &[Arc<Value>], crd: &Value, known: &Known) -> bool {
    let (spec, name) = (&crd["spec"], meta(crd, "name"));
    let mut others = known.iter().filter(|(other, _)| *other != name);
    let taken = others.any(|(_, (other, _))| {
        other["group"] == spec["group"] && other["names"]["kind"] == spec["names"]["kind"]
    });
    !taken && decide(crd, &used(registry, crds, crd)).refused.is_none()
}

/// Marks a definition that is deleted: it stays until its objects are gone.
pub fn terminating(crd: &mut Value) {
    let mut list = finalizers(crd);
    if !list.iter().any(|f| f == CLEANUP) {
        list.push(CLEANUP.into());
        set_meta(crd, "finalizers", json!(list));
    }
    condition(
        crd,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    );
}

/// Whether the definition of a kind is going.
pub fn is_terminating(view: &dyn View, kind: &kinds::KindInfo) -> bool {
    let crd = view.get(&resource(), None, &format!("{}.{}", kind.plural, kind.group));
    crd.is_some_and(|crd| !meta(&crd, "deletionTimestamp").is_empty())
}

/// Writes conditions and stored versions; empties a deleted definition.
async fn settle(server: &Arc<ApiServer>, crd: &Value) -> Result<(), Status> {
    let Some(served) = server.resource_of(&resource()) else {
        return Ok(());
    };
    let name = meta(crd, "name");
    if !meta(crd, "deletionTimestamp").is_empty() {
        if finalizers(crd).iter().any(|f| f == CLEANUP) {
            end(server, &served, crd).await?;
        }
        return Ok(());
    }
    let others = server.caches.list(&resource(), None);
    let used = used(&server.registry.load(), &others, crd);
    // What has changed since it was registered is settled after the next reading.
    let settle = |current: &Value| match current["spec"] == crd["spec"] {
        true => settled(current, decide(current, &used)),
        false => current.clone(),
    };
    write(server, &served, name, settle).await.map(|_| ())
}

/// Changes a definition by way of its status, in the server's own name; answers what is stored then.
async fn write(
    server: &Arc<ApiServer>,
    served: &Served,
    name: &str,
    change: impl Fn(&Value) -> Value,
) -> Result<Stored, Status> {
    let edit = |crd: &Value| {
        let mut next = change(crd);
        if next != *crd {
            let (typed, status) = (served.typed(), Some("status"));
            let (by, how) = ("kube-apiserver", "Update");
            machinery::apply::update_managers(typed, Some(crd), &mut next, by, how, status, &now());
        }
        Ok(next)
    };
    server.edit(served, "", name, edit).await
}

fn settled(crd: &Value, names: Decision) -> Value {
    let mut next = crd.clone();
    if !meta(crd, "deletionTimestamp").is_empty() {
        return next;
    }
    if !next["status"].is_object() {
        next["status"] = json!({});
    }
    match names.refused {
        Some((reason, why)) => {
            condition(&mut next, "NamesAccepted", "False", reason, &why);
            // What was established stays so, under the names that it has.
            if !established(crd) {
                condition(
                    &mut next,
                    "Established",
                    "False",
                    "NotAccepted",
                    "not all names are accepted",
                );
            }
        }
        None => {
            condition(
                &mut next,
                "NamesAccepted",
                "True",
                "NoConflicts",
                "no conflicts found",
            );
            let (status, reason, why) = match established(crd) || machinery::has_usable_bundle(crd) {
                true => (
                    "True",
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                ),
                false => (
                    "False",
                    "InvalidCABundle",
                    "The conversion webhook CABundle is invalid",
                ),
            };
            condition(&mut next, "Established", status, reason, why);
        }
    }
    next["status"]["acceptedNames"] = names.accepted;
    if let Some((approval, why)) = approval_of(crd) {
        let (status, reason) = match approval {
            Approval::Missing => ("False", "MissingAnnotation"),
            Approval::Invalid => ("False", "InvalidAnnotation"),
            Approval::Bypassed => ("False", "UnapprovedAnnotation"),
            Approval::Approved => ("True", "ApprovedAnnotation"),
        };
        let kind = "KubernetesAPIApprovalPolicyConformant";
        condition(&mut next, kind, status, reason, &why);
    }
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let storage = versions
        .into_iter()
        .flatten()
        .find(|v| v["storage"] == true)
        .map(|v| v["name"].clone());
    let mut stored = next["status"]["storedVersions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if let Some(storage) = storage
        && !stored.contains(&storage)
    {
        stored.push(storage);
    }
    next["status"]["storedVersions"] = json!(stored);
    next
}

/// Sets a condition in its place. The time is that of the last change of its status.
fn condition(crd: &mut Value, kind: &str, status: &str, reason: &str, message: &str) {
    let mut list = crd["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] != status {
                old["lastTransitionTime"] = json!(now());
            }
            old["status"] = status.into();
            old["reason"] = reason.into();
            old["message"] = message.into();
        }
        None => list.push(
            json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now()}),
        ),
    }
    crd["status"]["conditions"] = json!(list);
}

/// Ends a definition: its objects first, if it ever had any, then itself. Its condition tells how far that is
/// (`crd_finalizer.go`).
async fn end(server: &Arc<ApiServer>, served: &Served, crd: &Value) -> Result<(), Status> {
    let name = meta(crd, "name");
    let tell = |status: &'static str, reason: &'static str, message: String| {
        move |crd: &Value| {
            let mut next = crd.clone();
            condition(&mut next, "Terminating", status, reason, &message);
            next
        }
    };
    // What failed once is tried again when something changes, and told when it fails otherwise.
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions = conditions.filter(|c| c["type"] == "Terminating");
    if !conditions.any(|c| c["reason"] == "InstanceDeletionFailed") {
        let message = "CustomResource deletion is in progress".to_owned();
        let progress = tell("True", "InstanceDeletionInProgress", message);
        write(server, served, name, progress).await?;
    }
    if !established(crd) {
        let why = "resource was never established".to_owned();
        return finish(server, served, name, tell("False", "NeverEstablished", why)).await;
    }
    match empty(server, crd).await {
        Ok(()) => {
            let done = "removed all instances".to_owned();
            finish(
                server,
                served,
                name,
                tell("False", "InstanceDeletionCompleted", done),
            )
            .await
        }
        // Some object waits for a finalizer of its own.
        Err(status) if status.code == 409 => Err(status),
        Err(status) => {
            let why = format!("could not issue all deletes: {}", status.message);
            write(server, served, name, tell("True", "InstanceDeletionFailed", why)).await?;
            Err(status)
        }
    }
}

/// Deletes all objects of a definition that is going, in the version that is stored: none need be served.
async fn empty(server: &Arc<ApiServer>, crd: &Value) -> Result<(), Status> {
    let is_stored = |version: &Value| version["storage"] == true;
    let text = |p: &str| crd.pointer(p).and_then(Value::as_str).unwrap_or("");
    let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    let mut stored = versions.filter(|version| is_stored(version));
    let version = stored.next().and_then(|version| version["name"].as_str());
    let found = version.and_then(|version| {
        let registry = server.registry.load();
        registry.find(text("/spec/group"), version, text("/spec/names/plural"))
    });
    let Some(served) = found.or_else(|| made(server, crd, is_stored).pop()) else {
        return Ok(());
    };
    for object in served.cache.current("") {
        let shown = object.value();
        let ctx = crate::bootstrap::context_of(server, served.clone(), &shown, "delete");
        match crate::rest::delete::remove(&ctx, object.namespace(), object.name(), &Default::default()).await
        {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    if served.cache.is_empty() {
        return Ok(());
    }
    // Its removal wakes us again only through the definition.
    Err(Status::conflict(
        served.kind.plural,
        served.kind.group,
        "",
        "objects still exist",
    ))
}

/// Lets a definition go, with its last word.
async fn finish(
    server: &Arc<ApiServer>,
    served: &Served,
    name: &str,
    tell: impl Fn(&Value) -> Value,
) -> Result<(), Status> {
    let change = |crd: &Value| {
        let mut next = tell(crd);
        let left: Vec<String> = finalizers(crd).into_iter().filter(|f| f != CLEANUP).collect();
        if left.is_empty() {
            crate::rest::unset_meta(&mut next, "finalizers");
        } else {
            set_meta(&mut next, "finalizers", json!(left));
        }
        next
    };
    let stored = write(server, served, name, change).await?;
    let value: Value = serde_json::from_slice(&stored.bytes).map_err(|e| Status::internal(e.to_string()))?;
    if crate::rest::update::is_finished(&value) {
        match server.remove(served, "", name, stored.revision).await {
            Ok(_) | Err(crate::rest::write::Refused::Raced(_)) => {}
            Err(crate::rest::write::Refused::Status(status)) => return Err(status),
        }
    }
    Ok(())
}
