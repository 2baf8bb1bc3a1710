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
    let (mut asked, mut known) = (Asked::new(), BTreeSet::new());
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
            if let Err(status) = round(&server, &mut asked, &mut known).await {
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

async fn round(
    server: &Arc<ApiServer>,
    asked: &mut Asked,
    known: &mut BTreeSet<String>,
) -> Result<(), Status> {
    let Some(served) = server.resource_of(&resource()) else {
        return Ok(());
    };
    register(server, &served, known).await?;
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
    if service["spec"]["type"] == "ClusterIP" {
        listens(server, &service, *port)?;
    }
    let path = format!("/apis/{group}/{version}");
    let shown = format!("https://{}{path}", address(&service, *port));
    let failed = |why: String| {
        let message = format!("failing or missing response from {shown}: {why}");
        ("FailedDiscoveryCheck", message)
    };
    match tokio::time::timeout(LIMIT, server.remote_json(target, &path, &shown)).await {
        Ok(Ok(list)) => Ok(list),
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => {
            let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            Err(failed(format!("Get {shown:?}: {why}")))
        }
    }
}

/// Checks that a Service listens on a port, and that somebody stands behind it.
fn listens(server: &ApiServer, service: &Value, port: u16) -> Result<(), (&'static str, String)> {
    let (namespace, name) = (meta(service, "namespace"), meta(service, "name"));
    let ports = service["spec"]["ports"].as_array();
    let listens = |p: &&Value| p["port"].as_u64() == Some(u64::from(port));
    let Some(entry) = ports.into_iter().flatten().find(listens) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(("ServicePortError", message));
    };
    let slices = server.caches.list(
        &GroupResource::new("discovery.k8s.io", "endpointslices"),
        Some(namespace),
    );
    let own = |slice: &&Arc<Value>| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name;
    let slices: Vec<&Arc<Value>> = slices.iter().filter(own).collect();
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(("EndpointsNotFound", message));
    }
    let port = entry["name"].as_str().unwrap_or("");
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_there = |slice: &&&Arc<Value>| {
        let ready = |endpoint: &Value| endpoint["conditions"]["ready"] != false;
        let named = |p: &Value| p["name"].as_str().unwrap_or("") == port;
        items(&slice["endpoints"]).iter().any(ready) && items(&slice["ports"]).iter().any(named)
    };
    match slices.iter().any(|slice| is_there(&slice)) {
        true => Ok(()),
        false => {
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}"
            );
            Err(("MissingEndpoints", message))
        }
    }
}

/// Where a Service is found, as it is told.
fn address(service: &Value, port: u16) -> String {
    let text = |field: &str| service["spec"][field].as_str().unwrap_or("");
    match (text("type"), text("clusterIP")) {
        ("ExternalName", _) => format!("{}:{port}", text("externalName")),
        (_, ip) if ip.contains(':') => format!("[{ip}]:{port}"),
        (_, ip) => format!("{ip}:{port}"),
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

/// Priorities of our groups (`cmd/kube-apiserver/app/aggregator.go`); custom ones stand behind them.
pub fn priority(group: &str) -> i64 {
    match group {
        "" => 18_000,
        "apiregistration.k8s.io" => 17_900,
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "admissionregistration.k8s.io" | "apiextensions.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" | "resource.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        _ => 1_000,
    }
}

/// Priorities of our versions within their groups.
fn version_priority(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
        ("admissionregistration.k8s.io", "v1beta1") => 12,
        ("certificates.k8s.io", "v1beta1") => 9,
        _ => 15,
    }
}

/// Groups that we answer unless somebody brings a server of their own: the APIService is theirs to make.
fn is_left_to_others(group: &str) -> bool {
    crate::registry::VIRTUAL_GROUPS.contains(&group)
}

/// An APIService for every version of our own; those of versions that are gone go. Those of built-in kinds are made and put
/// right once, those of custom ones always (`autoregister_controller.go`).
async fn register(
    server: &Arc<ApiServer>,
    served: &Served,
    known: &mut BTreeSet<String>,
) -> Result<(), Status> {
    let registry = server.registry.load_full();
    // Of a version with built-in kinds these count.
    let mut wanted = BTreeMap::new();
    for own in registry.all() {
        let is_custom = wanted.entry((own.kind.version, own.kind.group)).or_insert(true);
        *is_custom &= own.custom.is_some();
    }
    for ((version, group), custom) in &wanted {
        let name = format!("{version}.{group}");
        if *group == "apiregistration.k8s.io" || is_left_to_others(group) {
            continue;
        }
        if !custom && known.contains(&name) {
            continue;
        }
        let managed = if *custom { "true" } else { "onstart" };
        let priority = match custom {
            true => 100,
            false => version_priority(group, version),
        };
        let object = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": name, "labels": {MANAGED: managed}},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": self::priority(group),
                "versionPriority": priority},
        });
        let outcome = match served.cache.get("", &name) {
            Some(present) => put_right(server, served, &present.value(), &object["spec"]).await,
            None => make(server, object).await,
        };
        match outcome {
            Ok(()) => drop(known.insert(name)),
            // The others do not wait for one that cannot be had.
            Err(status) => {
                tracing::warn!(name, error = %status, "an APIService of our own could not be registered");
            }
        }
    }
    for service in server.caches.list(&resource(), None) {
        let text = |f: &str| service["spec"][f].as_str().unwrap_or("");
        let managed = service["metadata"]["labels"][MANAGED] == "true";
        let served_here = wanted.contains_key(&(text("version"), text("group")));
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

async fn make(server: &Arc<ApiServer>, object: Value) -> Result<(), Status> {
    let Some(ctx) = crate::bootstrap::context(server, &object, "create") else {
        return Ok(());
    };
    match create::store_new(&ctx, object, &WriteOptions::default(), None).await {
        Ok(_) => Ok(()),
        Err(status) if status.is_already_exists() => Ok(()),
        Err(status) => Err(status),
    }
}

/// Writes what an APIService of our own should say, when it is still ours and says something else.
async fn put_right(
    server: &Arc<ApiServer>,
    served: &Served,
    present: &Value,
    wanted: &Value,
) -> Result<(), Status> {
    let own = |service: &Value| {
        let managed = service["metadata"]["labels"][MANAGED].as_str();
        managed.is_some_and(|managed| ["true", "onstart"].contains(&managed))
    };
    let differs = |service: &Value| {
        let spec = &service["spec"];
        let numbers = ["groupPriorityMinimum", "versionPriority"];
        spec["service"].is_object() || numbers.iter().any(|number| spec[*number] != wanted[*number])
    };
    if !own(present) || !differs(present) {
        return Ok(());
    }
    let edit = |service: &Value| {
        let mut next = service.clone();
        if own(service) && differs(service) {
            next["spec"] = wanted.clone();
        }
        Ok(next)
    };
    match server.edit(served, "", meta(present, "name"), edit).await {
        Err(status) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(|_| ()),
    }
}
