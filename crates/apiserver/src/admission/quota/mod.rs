//! ResourceQuota: no write takes a namespace over its quotas, however many come at once.
//!
//! Use is counted from the objects themselves, not from `status.used`, which a controller fills in later. What was let
//! through and is still on its way into the store is remembered as a reservation; check and reservation happen under
//! one lock. A write is settled after the view shows it, so at every moment each write is counted, and counted once:
//! the limit is exact under concurrency, and a refused or failed write gives back what it reserved.
//!
//! - [`usage`]: what an object uses.
//! - [`scope`]: which objects a quota is about.

mod scope;
mod usage;

use super::forbidden;
use super::pod::{Amounts, add, amounts};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::quantity::Quantity;
use kinds::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use usage::usage_of;

/// A write that has not come back after this time was given up by its client.
const ABANDONED: Duration = Duration::from_secs(60);

/// The step, with what it has let through and not seen yet.
#[derive(Default)]
pub struct ResourceQuota {
    /// By namespace.
    reserved: Mutex<HashMap<String, Vec<Reservation>>>,
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

impl Reservation {
    /// Whether the view shows the write (or a later one), so that counting the view counts it.
    fn is_visible(&self, view: &dyn View, namespace: &str) -> bool {
        let Some(shown) = view.get(&self.resource, Some(namespace), &self.name) else {
            return false;
        };
        match &self.replaces {
            None => true,
            Some(old) => shown["metadata"]["resourceVersion"].as_str() != Some(old),
        }
    }
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
        let quotas: Vec<_> = view
            .list(&GroupResource::new("", "resourcequotas"), Some(&a.namespace))
            .into_iter()
            .filter(|q| scope::matches(q, &resource, request.object))
            .collect();
        if quotas.is_empty() {
            return Ok(Vec::new());
        }
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

        let mut reserved = self.reserved.lock();
        let pending = reserved.entry(a.namespace.clone()).or_default();
        let now = Instant::now();
        pending.retain(|r| now.duration_since(r.since) < ABANDONED);
        let mut charged = false;
        for quota in &quotas {
            let hard = amounts(&quota["spec"]["hard"]);
            let mut delta = delta_of(quota);
            delta.retain(|name, _| hard.contains_key(name));
            if delta.is_empty() {
                continue;
            }
            charged = true;
            let used = used(quota, &delta, view, &a.namespace, pending);
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
            pending.push(Reservation {
                resource,
                name,
                object: request.object.clone(),
                replaces: request.old.map(version),
                since: now,
            });
        }
        if pending.is_empty() {
            reserved.remove(&a.namespace);
        }
        Ok(Vec::new())
    }

    async fn settle(&self, request: &AdmissionRequest<'_>, _stored: bool) {
        if !applies(request) || request.dry_run {
            return;
        }
        let (resource, name) = key(request);
        let mut reserved = self.reserved.lock();
        let Some(pending) = reserved.get_mut(&request.attributes.namespace) else {
            return;
        };
        // Stored, the view counts it from now on; not stored, nothing is used.
        if let Some(at) = pending
            .iter()
            .position(|r| r.resource == resource && r.name == name)
        {
            pending.remove(at);
        }
        if pending.is_empty() {
            reserved.remove(&request.attributes.namespace);
        }
    }
}

/// What the objects of a namespace use of the resources in `of`, as far as `quota` is about them.
fn used(quota: &Value, of: &Amounts, view: &dyn View, namespace: &str, pending: &[Reservation]) -> Amounts {
    let mut sum: Amounts = of.keys().map(|k| (k.clone(), Quantity::ZERO)).collect();
    let mut count = |resource: &GroupResource, object: &Value, minus: Option<&Value>| {
        if !scope::matches(quota, resource, object) {
            return;
        }
        let mut usage = usage_of(resource, object);
        let minus = minus.filter(|old| scope::matches(quota, resource, old));
        for (name, amount) in minus.map(|old| usage_of(resource, old)).unwrap_or_default() {
            if let Some(now) = usage.get_mut(&name) {
                *now = now.sub(&amount);
            }
        }
        usage.retain(|name, _| of.contains_key(name));
        add(&mut sum, &usage);
    };
    for resource in usage::resources(of.keys()) {
        for object in view.list(&resource, Some(namespace)) {
            count(&resource, &object, None);
        }
    }
    for reservation in pending.iter().filter(|r| !r.is_visible(view, namespace)) {
        let old = view.get(&reservation.resource, Some(namespace), &reservation.name);
        count(&reservation.resource, &reservation.object, old.as_deref());
    }
    sum
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
