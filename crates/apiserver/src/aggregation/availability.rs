//! Looks after the APIServices: ours are registered, those of others are asked whether they are there.
//!
//! Woken by every change of APIServices, Services and endpoints, and by a timer; reads all, is idempotent.

use super::{Remote, Remotes, openapi};
use crate::outbound::{Place, Target};
use crate::registry::Served;
use crate::rest::{create, meta, now};
use crate::server::ApiServer;
use crate::view::{GroupResource, View};
use crate::wire::options::WriteOptions;
use kinds::status::Status;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// When the OpenAPI of each version was asked for.
type Asked = BTreeMap<(String, String), Instant>;

/// Others are asked at least this often.
const PERIOD: Duration = Duration::from_secs(30);
/// Changes that come together are looked at together.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for another server to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Their OpenAPI is asked for again after this time.
const OPENAPI_PERIOD: Duration = Duration::from_secs(60);
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

fn resource() -> GroupResource {
    GroupResource::new("apiregistration.k8s.io", "apiservices")
}

/// Starts looking after them.
pub fn start(server: &Arc<ApiServer>) {
    tokio::spawn(run(server.clone()));
}

async fn run(server: Arc<ApiServer>) {
    let mut applied = server.caches.subscribe();
    let mut seen = None;
    let mut last = Instant::now();
    let mut asked = Asked::new();
    loop {
        let watched = [
            resource(),
            GroupResource::new("", "services"),
            GroupResource::new("", "endpoints"),
            GroupResource::new("discovery.k8s.io", "endpointslices"),
            GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions"),
        ];
        let state = watched.map(|r| server.caches.resource_revision(&r));
        let due = !server.remotes.load().is_empty() && last.elapsed() >= PERIOD;
        if seen != Some(state) || due {
            seen = Some(state);
            last = Instant::now();
            if let Err(status) = round(&server, &mut asked).await {
                tracing::debug!(error = %status, "the APIServices could not be settled");
            }
        }
        tokio::select! {
            () = server.stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
            changed = applied.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(server: &Arc<ApiServer>, asked: &mut Asked) -> Result<(), Status> {
    let Some(served) = server.resource_of(&resource()) else {
        return Ok(());
    };
    register(server, &served).await?;
    let before = server.remotes.load_full();
    let mut remotes = Remotes::new();
    let mut conditions = Vec::new();
    for service in server.caches.list(&resource(), None) {
        let spec = &service["spec"];
        let text = |v: &Value, f: &str| v[f].as_str().unwrap_or("").to_string();
        let place = (text(spec, "group"), text(spec, "version"));
        if !spec["service"].is_object() {
            let local = condition("True", "Local", "Local APIServices are always available");
            conditions.push((service.clone(), local));
            continue;
        }
        let target = target(spec);
        let (state, resources) = match look(server, &target, &place).await {
            Ok(resources) => (condition("True", "Passed", "all checks passed"), resources),
            Err((reason, message)) => {
                let kept = before.get(&place).map_or(Value::Null, |r| r.resources.clone());
                (condition("False", reason, &message), kept)
            }
        };
        let number = |f: &str| spec[f].as_i64().unwrap_or(0);
        let available = state["status"] == "True";
        conditions.push((service.clone(), state));
        let priority = (number("groupPriorityMinimum"), number("versionPriority"));
        let known = before.get(&place).map(|r| r.spec.clone()).unwrap_or_default();
        let old = asked.get(&place).is_none_or(|at| at.elapsed() >= OPENAPI_PERIOD);
        let spec = if available && (old || known.is_empty()) {
            let told = openapi::fetch(server, &target, &place).await;
            asked.insert(place.clone(), Instant::now());
            if told.is_empty() { known } else { Arc::new(told) }
        } else {
            known
        };
        remotes.insert(
            place,
            Remote {
                target,
                available,
                priority,
                resources,
                spec,
            },
        );
    }
    asked.retain(|place, _| remotes.contains_key(place));
    if *before != remotes {
        server.remotes.store(Arc::new(remotes));
        server.documents.clear();
    }
    // Who reads a condition finds the version behaving as it says.
    for (service, wanted) in conditions {
        settle(server, &served, &service, wanted).await?;
    }
    Ok(())
}

fn target(spec: &Value) -> Target {
    use base64::Engine;
    let service = &spec["service"];
    let ca = base64::engine::general_purpose::STANDARD.decode(spec["caBundle"].as_str().unwrap_or(""));
    Target {
        place: Place::Service {
            namespace: service["namespace"].as_str().unwrap_or("").to_string(),
            name: service["name"].as_str().unwrap_or("").to_string(),
            port: service["port"]
                .as_u64()
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(443),
            path: String::new(),
        },
        ca: ca.unwrap_or_default(),
        insecure: spec["insecureSkipTLSVerify"] == true,
    }
}

fn condition(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Available", "status": status, "reason": reason, "message": message})
}

/// Asks another server for its resources; the error is reason and message of the condition.
async fn look(
    server: &ApiServer,
    target: &Target,
    (group, version): &(String, String),
) -> Result<Value, (&'static str, String)> {
    let Place::Service {
        namespace,
        name,
        port,
        ..
    } = &target.place
    else {
        return Err(("ServiceNotFound", "no service".into()));
    };
    let service = server
        .caches
        .get(&GroupResource::new("", "services"), Some(namespace), name);
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Err(("ServiceNotFound", message));
    };
    if service["spec"]["type"] != "ExternalName" {
        let ports = service["spec"]["ports"].as_array();
        let listens = |p: &&Value| p["port"].as_u64() == Some(u64::from(*port));
        let Some(entry) = ports.into_iter().flatten().find(listens) else {
            let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return Err(("ServicePortError", message));
        };
        let found = crate::outbound::endpoints(&*server.caches, namespace, name, *port).await;
        if found.is_err() {
            let port = entry["name"].as_str().unwrap_or("");
            let message = format!(
                "endpoints for service/{name} in {namespace:?} have no addresses with port name {port:?}"
            );
            return Err(("MissingEndpoints", message));
        }
    }
    let path = format!("/apis/{group}/{version}");
    let shown = format!("https://{name}.{namespace}.svc:{port}{path}");
    let failed = |why: String| {
        let message = format!("failing or missing response from {shown}: {why}");
        ("FailedDiscoveryCheck", message)
    };
    match tokio::time::timeout(LIMIT, server.remote_json(target, &path)).await {
        Ok(Ok(list)) => Ok(list),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed("context deadline exceeded".into())),
    }
}

/// Writes the condition when it says something new.
async fn settle(
    server: &Arc<ApiServer>,
    served: &Served,
    service: &Value,
    wanted: Value,
) -> Result<(), Status> {
    let edit = |service: &Value| {
        let mut next = service.clone();
        let present = next["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let old = present.iter().find(|c| c["type"] == "Available");
        if old.is_some_and(|o| {
            ["status", "reason", "message"]
                .iter()
                .all(|f| o[*f] == wanted[*f])
        }) {
            return Ok(next);
        }
        let mut condition = wanted.clone();
        condition["lastTransitionTime"] = match old {
            Some(old) if old["status"] == wanted["status"] => old["lastTransitionTime"].clone(),
            _ => json!(now()),
        };
        let mut list: Vec<Value> = present.into_iter().filter(|c| c["type"] != "Available").collect();
        list.push(condition);
        if !next["status"].is_object() {
            next["status"] = json!({});
        }
        next["status"]["conditions"] = json!(list);
        Ok(next)
    };
    match server.edit(served, "", meta(service, "name"), edit).await {
        Err(status) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Priorities of our groups; custom ones stand behind them.
pub fn priority(group: &str) -> i64 {
    const ORDER: [&str; 20] = [
        "",
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "apiextensions.k8s.io",
        "admissionregistration.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "resource.k8s.io",
    ];
    if group == "apiregistration.k8s.io" {
        return 17_900;
    }
    match ORDER.iter().position(|g| *g == group) {
        Some(0) => 18_000,
        Some(at) => 17_900 - 100 * at as i64,
        None => 1_000,
    }
}

/// Groups that we answer unless somebody brings a server of their own: the APIService is theirs to make.
fn is_left_to_others(group: &str) -> bool {
    crate::registry::VIRTUAL_GROUPS.contains(&group)
}

/// An APIService for every version of our own; those of versions that are gone go.
async fn register(server: &Arc<ApiServer>, served: &Served) -> Result<(), Status> {
    let registry = server.registry.load_full();
    let mut wanted = BTreeSet::new();
    for own in registry.all() {
        let custom = own.custom.is_some();
        wanted.insert((own.kind.version, own.kind.group, custom));
    }
    for (version, group, custom) in &wanted {
        let name = format!("{version}.{group}");
        if *group == "apiregistration.k8s.io"
            || is_left_to_others(group)
            || served.cache.get("", &name).is_some()
        {
            continue;
        }
        let managed = if *custom { "true" } else { "onstart" };
        let object = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "labels": {MANAGED: managed}},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": priority(group),
                "versionPriority": if *custom { 100 } else { 15 }},
        });
        let Some(ctx) = crate::bootstrap::context(server, &object, "create") else {
            continue;
        };
        match create::store_new(&ctx, object, &WriteOptions::default(), None).await {
            Ok(_) => {}
            Err(status) if status.is_already_exists() => {}
            // The others do not wait for one that cannot be had.
            Err(status) => {
                tracing::warn!(name, error = %status, "an APIService of our own could not be registered")
            }
        }
    }
    for service in server.caches.list(&resource(), None) {
        let text = |f: &str| service["spec"][f].as_str().unwrap_or("");
        let managed = service["metadata"]["labels"][MANAGED] == "true";
        let served_here = wanted
            .iter()
            .any(|(v, g, _)| *v == text("version") && *g == text("group"));
        let left = is_left_to_others(text("group")) && !service["spec"]["service"].is_object();
        if !left && (!managed || served_here) {
            continue;
        }
        let Some(ctx) = crate::bootstrap::context(server, &service, "delete") else {
            continue;
        };
        match crate::rest::delete::remove(&ctx, "", meta(&service, "name"), &Default::default()).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}
