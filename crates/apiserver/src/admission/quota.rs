//! ResourceQuota: no write takes a namespace over its quotas, however many come at once.
//!
//! Use is counted from the objects themselves (crate `quota`), not from `status.used`. What was let through and is still
//! on its way into the store is remembered as a reservation; check and reservation happen under one lock for each
//! namespace. A write is settled after the view shows it, so at every moment each write is counted, and counted once:
//! the limit is exact under concurrency, and a refused or failed write gives back what it reserved.
//!
//! Who is answered finds the use of what was made in the quota's status, as with upstream: it is written before the
//! answer, once for all who wait for it.

use super::forbidden;
use super::pod::{Amounts, amounts};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::rest::{Ctx, now};
use crate::view::{GroupResource, View};
use ::quota::{Ledger, Pending, scope, usage, usage_of};
use async_trait::async_trait;
use kinds::quantity::Quantity;
use kinds::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A write that has not come back after this time was given up by its client.
const ABANDONED: Duration = Duration::from_secs(60);

/// The step.
#[derive(Default)]
pub struct ResourceQuota {
    /// Of the namespaces with quotas.
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

#[derive(Default)]
struct Namespace {
    books: Mutex<Books>,
    /// Held by who writes the status of the quotas.
    showing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Books {
    /// What was let through and has not been seen yet.
    reserved: Vec<Reservation>,
    /// By the name of the quota.
    ledgers: HashMap<String, Ledger>,
}

struct Reservation {
    resource: GroupResource,
    name: String,
    /// The object as let through.
    object: Value,
    /// The resourceVersion it replaces; `None` for a new object.
    replaces: Option<String>,
    /// When it was let through.
    since: Instant,
}

impl Books {
    /// The ledger of a quota, up to date.
    fn ledger(&mut self, quota: &Value, view: &dyn View) -> &Ledger {
        let ledger = self
            .ledgers
            .entry(name_of(quota).to_owned())
            .or_insert_with(|| Ledger::new(quota));
        if !ledger.is_of(quota) {
            *ledger = Ledger::new(quota);
        }
        ledger.follow(view);
        ledger
    }

    /// What is used of a quota, with what is on its way.
    fn used(&mut self, quota: &Value, view: &dyn View) -> Amounts {
        self.ledger(quota, view);
        let pending = self.reserved.iter().map(|r| Pending {
            resource: &r.resource,
            name: &r.name,
            object: &r.object,
            replaces: r.replaces.as_deref(),
        });
        self.ledgers[name_of(quota)].used_with(pending)
    }
}

impl ResourceQuota {
    fn namespace(&self, name: &str, view: &dyn View) -> Arc<Namespace> {
        let mut namespaces = self.namespaces.lock();
        if let Some(found) = namespaces.get(name) {
            return found.clone();
        }
        // Namespaces come and go.
        namespaces.retain(|name, _| !quotas_of(view, name).is_empty());
        namespaces.entry(name.to_owned()).or_default().clone()
    }

    /// Writes what is used now of each quota that counts a resource.
    async fn show(&self, ctx: &Ctx, namespace: &Namespace, resource: &GroupResource) {
        let kind = quotas();
        let (server, within) = (&ctx.server, &ctx.attributes.namespace);
        let Some(served) = server.resource_of(&kind) else {
            return;
        };
        // Who waits here finds done, most of the time, what it came for.
        let _turn = namespace.showing.lock().await;
        for quota in quotas_of(&*server.caches, within) {
            if !namespace
                .books
                .lock()
                .ledger(&quota, &*server.caches)
                .counts(resource)
            {
                continue;
            }
            let tell = |quota: &Value| {
                let mut books = namespace.books.lock();
                let status = books.ledger(quota, &*server.caches).status(&quota["status"]);
                let mut next = quota.clone();
                next["status"] = status;
                if next != *quota {
                    machinery::apply::update_managers(
                        served.typed(),
                        Some(quota),
                        &mut next,
                        "kube-apiserver",
                        "Update",
                        Some("status"),
                        &now(),
                    );
                }
                Ok(next)
            };
            // The controller of quotas comes after, whatever happens here.
            if let Err(error) = server.edit(&served, within, name_of(&quota), tell).await
                && !matches!(error.code, 404 | 409)
            {
                tracing::warn!(quota = name_of(&quota), namespace = %within, %error, "the use of a quota could not be written");
            }
        }
    }
}

fn quotas() -> GroupResource {
    GroupResource::new("", "resourcequotas")
}

fn quotas_of(view: &dyn View, namespace: &str) -> Vec<Arc<Value>> {
    view.list(&quotas(), Some(namespace))
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn key(request: &AdmissionRequest<'_>) -> (GroupResource, String) {
    let a = request.attributes;
    let name = request.object["metadata"]["name"].as_str().unwrap_or(&a.name);
    (GroupResource::new(&a.group, &a.resource), name.to_string())
}

fn applies(request: &AdmissionRequest<'_>) -> bool {
    let a = request.attributes;
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let whole = a.subresource.is_empty() || (a.resource == "pods" && a.subresource == "resize");
    writes && whole && !a.namespace.is_empty() && request.object.is_object()
}

/// Whether what a Pod uses is decided by this write: it is new, or resized, or begins or ceases to count as terminating.
fn states_use(request: &AdmissionRequest<'_>) -> bool {
    request.operation == Operation::Create
        || request.attributes.subresource == "resize"
        || request
            .old
            .is_some_and(|old| scope::is_terminating(old) != scope::is_terminating(request.object))
}

#[async_trait]
impl AdmissionPlugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        if !applies(request) {
            return Ok(Vec::new());
        }
        let a = request.attributes;
        let (resource, name) = key(request);
        let mut quotas = quotas_of(view, &a.namespace);
        if quotas.is_empty() {
            return Ok(Vec::new());
        }
        let namespace = self.namespace(&a.namespace, view);
        let names: Vec<String> = quotas.iter().map(|quota| name_of(quota).to_owned()).collect();
        quotas.retain(|q| scope::matches(q, &resource, request.object));
        let wanted = usage_of(&resource, request.object);
        for quota in &quotas {
            let hard = amounts(&quota["spec"]["hard"]);
            let quota_name = quota["metadata"]["name"].as_str().unwrap_or_default();
            // What a Pod does not state cannot be counted, so a quota on it makes stating it a duty.
            if resource == GroupResource::new("", "pods")
                && states_use(request)
                && let Some(missing) = usage::missing_in_pod(&hard, request.object)
            {
                return Err(forbidden(
                    request,
                    format!("failed quota: {quota_name}: must specify {missing}"),
                ));
            }
        }
        let before = request
            .old
            .map(|old| usage_of(&resource, old))
            .unwrap_or_default();
        let more = |before: &Amounts| -> Amounts {
            let more = wanted
                .iter()
                .map(|(k, v)| (k.clone(), before.get(k).map_or(*v, |b| v.sub(b))));
            more.filter(|(_, v)| !v.is_zero() && !v.is_negative()).collect()
        };
        // A quota that was not about the object before is charged for all of it.
        let delta_of = |quota: &Value| match request.old {
            Some(old) if !scope::matches(quota, &resource, old) => more(&Amounts::new()),
            _ => more(&before),
        };

        let mut books = namespace.books.lock();
        let now = Instant::now();
        books.reserved.retain(|r| now.duration_since(r.since) < ABANDONED);
        books.ledgers.retain(|name, _| names.contains(name));
        let mut charged = false;
        for quota in &quotas {
            let hard = amounts(&quota["spec"]["hard"]);
            let mut delta = delta_of(quota);
            delta.retain(|name, _| hard.contains_key(name));
            if delta.is_empty() {
                continue;
            }
            charged = true;
            let used = books.used(quota, view);
            if let Some(text) = exceeded(&delta, &used, &hard) {
                let name = quota["metadata"]["name"].as_str().unwrap_or_default();
                return Err(forbidden(request, format!("exceeded quota: {name}, {text}")));
            }
        }
        if !request.dry_run && charged {
            let version = |o: &Value| {
                o["metadata"]["resourceVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_string()
            };
            books.reserved.push(Reservation {
                resource,
                name,
                object: request.object.clone(),
                replaces: request.old.map(version),
                since: now,
            });
        }
        Ok(Vec::new())
    }

    async fn settle(&self, request: &AdmissionRequest<'_>, stored: bool) {
        if !applies(request) || request.dry_run {
            return;
        }
        let found = self.namespaces.lock().get(&request.attributes.namespace).cloned();
        let Some(namespace) = found else {
            return;
        };
        let (resource, name) = key(request);
        {
            // Stored, the view counts it from now on; not stored, nothing is used.
            let reserved = &mut namespace.books.lock().reserved;
            let at = reserved
                .iter()
                .position(|r| r.resource == resource && r.name == name);
            if let Some(at) = at {
                reserved.remove(at);
            }
        }
        if let (true, Some(ctx)) = (stored, request.ctx) {
            self.show(ctx, &namespace, &resource).await;
        }
    }
}

/// The message when `delta` does not fit: only the resources that are over.
fn exceeded(delta: &Amounts, used: &Amounts, hard: &Amounts) -> Option<String> {
    let over: Vec<&String> = delta
        .iter()
        .filter(|(name, more)| {
            let sum = used.get(*name).unwrap_or(&Quantity::ZERO).add(more);
            hard.get(*name).is_some_and(|limit| sum > *limit)
        })
        .map(|(name, _)| name)
        .collect();
    if over.is_empty() {
        return None;
    }
    let list = |amounts: &Amounts| {
        let parts: Vec<String> = over
            .iter()
            .map(|name| format!("{name}={}", amounts.get(*name).unwrap_or(&Quantity::ZERO)))
            .collect();
        parts.join(",")
    };
    Some(format!(
        "requested: {}, used: {}, limited: {}",
        list(delta),
        list(used),
        list(hard)
    ))
}
