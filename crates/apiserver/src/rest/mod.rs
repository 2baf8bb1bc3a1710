//! The verbs. One file per verb, all on the same [`Ctx`]; how a write reaches the store is in [`write`].

pub mod components;
pub mod create;
pub mod delete;
pub mod deletecollection;
pub mod frames;
pub mod get;
pub mod list;
mod owners;
pub mod patch;
pub mod render;
pub mod transform;
pub mod update;
pub mod watch;
mod websocket;
pub mod write;

use crate::admit::{AdmissionRequest, Notes, Operation, Round};
use crate::registry::Served;
use crate::request::Attributes;
use crate::server::ApiServer;
use crate::user::User;
use crate::wire::negotiate::{self, Offer, Shape, Wanted};
use crate::wire::options::is_print;
use http::header::HeaderMap;
use kinds::status::Status;
use machinery::Empties;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything about one resource request that its handler needs, but the body.
pub struct Ctx {
    /// The server.
    pub server: Arc<ApiServer>,
    /// Who asks.
    pub user: User,
    /// What is asked.
    pub attributes: Arc<Attributes>,
    /// The query string.
    pub query: String,
    /// Request headers.
    pub headers: HeaderMap,
    /// The resource.
    pub served: Arc<Served>,
    /// What the way of the request has to say beside its answer.
    pub notes: Arc<Notes>,
    /// Until then whoever is asked about the request may take his time.
    pub deadline: Instant,
}

/// The longest that a request may be thought about.
pub const LONGEST: Duration = Duration::from_secs(34);

impl Ctx {
    /// Namespace of the request, empty for cluster-scoped resources.
    pub fn namespace(&self) -> &str {
        if self.served.kind.namespaced {
            &self.attributes.namespace
        } else {
            ""
        }
    }

    /// Name of the request.
    pub fn name(&self) -> &str {
        &self.attributes.name
    }

    /// Negotiates the answer's form; built-in kinds also come as protobuf, the metadata of any kind do.
    pub fn wanted(&self, shapes: bool) -> Result<Wanted, Status> {
        negotiate::negotiate(&self.headers, &self.query, self.offer(shapes))
    }

    /// Refuses a list that is wanted as one object, or the other way round; `lists`: what there is to answer. Asked when
    /// there is: a Status has no such shape. The type that is told is the one inside upstream.
    pub fn fits(&self, wanted: Wanted, lists: bool) -> Result<(), Status> {
        if !matches!(wanted.shape, Shape::Partial(_)) || wanted.listed == lists {
            return Ok(());
        }
        let kind = self.served.kind;
        let inside = match &self.served.custom {
            // Upstream's type for them is a list too, until it is looked into.
            Some(_) if !lists => return Err(Status::plain("content is not a list")),
            Some(_) => "unstructured.Unstructured".to_owned(),
            None => format!("{}.{}", create::internal_package(kind.group), kind.kind),
        };
        Err(Status::not_acceptable(match lists {
            true => format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{inside}List)"
            ),
            false => format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list (*{inside})"
            ),
        }))
    }

    /// What the events of a watch are sent in.
    pub fn wanted_stream(&self) -> Result<Wanted, Status> {
        negotiate::negotiate_stream(&self.headers, &self.query, self.offer(true))
    }

    fn offer(&self, shapes: bool) -> Offer {
        let protobuf = crate::wire::protobuf::OFFERED
            && self.served.custom.is_none()
            && machinery::protobuf::has(self.served.kind);
        // Upstream's two small servers have no tables of a status.
        let of_status = self.attributes.subresource == "status"
            && matches!(
                self.served.kind.group,
                "apiextensions.k8s.io" | "apiregistration.k8s.io"
            );
        Offer {
            shapes,
            tables: shapes && !of_status,
            protobuf,
        }
    }

    /// The 404 for the object of the request.
    pub fn not_found(&self) -> Status {
        Status::not_found(self.served.kind.plural, self.served.kind.group, self.name())
    }

    /// The manager of fields this request writes: the parameter, or the program's name from `User-Agent`.
    pub fn field_manager(&self, given: &str) -> String {
        if !given.is_empty() {
            return given.to_string();
        }
        let agent = self
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        let program = match agent.split('/').next().unwrap_or("") {
            // Our own components call without a socket and without that header.
            "" => match self.user.name.strip_prefix("system:").unwrap_or("") {
                node if node.starts_with("node:") => "kubelet",
                account if account.is_empty() || account.starts_with("serviceaccount:") => "unknown",
                "apiserver" => "kube-apiserver",
                component => component,
            },
            program => program,
        };
        // As much as upstream takes of it, in bytes.
        let mut room = 128;
        let fits = |c: &char| {
            room -= c.len_utf8() as i32;
            room >= 0
        };
        program
            .chars()
            .filter(|c| is_print(*c))
            .take_while(fits)
            .collect()
    }

    /// Runs the mutating steps of admission on an object. What they warn of is told however the request ends. Answers whether
    /// a webhook or policy has written the object anew.
    pub async fn admit(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        options: &Value,
        dry_run: bool,
    ) -> Result<bool, Status> {
        if operation == Operation::Create {
            self.still_defined(object)?;
        }
        let started = Instant::now();
        // A patch is the client's difference, not its object: what it leads to is looked at once.
        if self.attributes.verb != "patch" {
            self.warn_of_owners(owners::deduplicate(object), "");
        }
        let mut request = AdmissionRequest {
            user: &self.user,
            attributes: &self.attributes,
            operation,
            kind: self.served.kind,
            object: &mut *object,
            empties: &Empties::default(),
            old,
            dry_run,
            options,
            ctx: Some(self),
            round: Round::default(),
        };
        let outcome = self.mutated(&mut request).await;
        let managed = request.round.managed;
        let rewritten = managed.is_some();
        if let Some(before) = managed {
            self.keep_managed(object, before);
        }
        self.warn_of_owners(owners::deduplicate(object), " after mutating admission happens");
        self.stepped("admit", operation, started, outcome.is_err());
        outcome.map(|()| rewritten)
    }

    /// Undoes what a webhook or policy did to the managed fields, when it left something that is none.
    fn keep_managed(&self, object: &mut Value, before: Value) {
        let after = object.pointer("/metadata/managedFields");
        let Some(fault) = after.and_then(machinery::apply::list_fault) else {
            return;
        };
        self.notes.warn(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
             mutating admission controller; please fix your requests: {fault}"
        ));
        match before {
            Value::Null => unset_meta(object, "managedFields"),
            before => set_meta(object, "managedFields", before),
        }
    }

    /// Refuses a new object of a definition that is going.
    fn still_defined(&self, object: &Value) -> Result<(), Status> {
        let kind = self.served.kind;
        if self.served.custom.is_none() || !crate::crd::is_terminating(&*self.server.caches, kind) {
            return Ok(());
        }
        let name = match meta(object, "name") {
            "" => self.name(),
            name => name,
        };
        let why = "create not allowed while custom resource definition is terminating";
        Err(Status::forbidden(kind.plural, kind.group, name, why))
    }

    fn warn_of_owners(&self, duplicates: Vec<String>, when: &str) {
        if !duplicates.is_empty() {
            self.notes.warn(owners::warning(&duplicates, when));
        }
    }

    /// Counts the time that a step of admission took.
    fn stepped(&self, step: &str, operation: Operation, started: Instant, rejected: bool) {
        let operation = format!("{operation:?}").to_uppercase();
        let labels = format!("operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\"");
        let metrics = &self.server.metrics;
        metrics.observe(
            crate::metrics::Histogram::AdmissionStep,
            labels,
            started.elapsed(),
        );
    }

    /// The mutating half, a second time where somebody wishes it.
    async fn mutated(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        for plugin in self.server.admission() {
            self.notes
                .warn_all(plugin.admit(request, &*self.server.caches).await?);
        }
        if std::mem::take(&mut request.round.wanted) {
            // A webhook has changed the object: our own steps look again, and who wishes it is asked again.
            request.round.again = true;
            for plugin in self.server.admission() {
                self.notes
                    .warn_all(plugin.admit(request, &*self.server.caches).await?);
            }
        }
        Ok(())
    }

    /// Runs the validating steps of admission on an object of which no more is known than what it holds.
    pub async fn validate(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        options: &Value,
        dry_run: bool,
    ) -> Result<usize, Status> {
        self.validate_written(operation, object, old, &Empties::default(), options, dry_run)
            .await
    }

    /// Runs the validating steps of admission. Answers how many steps have seen the object: they are to be told how
    /// the write went, by [`Ctx::settle`].
    pub async fn validate_written(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        empties: &Empties,
        options: &Value,
        dry_run: bool,
    ) -> Result<usize, Status> {
        let started = Instant::now();
        let mut passed = 0;
        let request = AdmissionRequest {
            user: &self.user,
            attributes: &self.attributes,
            operation,
            kind: self.served.kind,
            object,
            empties,
            old,
            dry_run,
            options,
            ctx: Some(self),
            round: Round::default(),
        };
        for plugin in self.server.admission() {
            passed += 1;
            match plugin.validate(&request, &*self.server.caches).await {
                Ok(more) => self.notes.warn_all(more),
                Err(status) => {
                    for plugin in self.server.admission().iter().take(passed) {
                        plugin.settle(&request, false).await;
                    }
                    self.stepped("validate", operation, started, true);
                    return Err(status);
                }
            }
        }
        self.stepped("validate", operation, started, false);
        Ok(passed)
    }

    /// Tells the first `passed` steps whether the write they let through happened.
    #[allow(clippy::too_many_arguments)]
    pub async fn settle(
        &self,
        passed: usize,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
        options: &Value,
        dry_run: bool,
        stored: bool,
    ) {
        let request = AdmissionRequest {
            user: &self.user,
            attributes: &self.attributes,
            operation,
            kind: self.served.kind,
            object,
            empties: &Empties::default(),
            old,
            dry_run,
            options,
            ctx: Some(self),
            round: Round::default(),
        };
        for plugin in self.server.admission().iter().take(passed) {
            plugin.settle(&request, stored && !dry_run).await;
        }
    }
}

/// A string field of an object's metadata, empty when absent.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|m| m.get(field))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Sets a field of an object's metadata.
pub fn set_meta(object: &mut Value, field: &str, value: impl Into<Value>) {
    if !object["metadata"].is_object() {
        object["metadata"] = Value::Object(serde_json::Map::new());
    }
    object["metadata"][field] = value.into();
}

/// Removes a field of an object's metadata.
pub fn unset_meta(object: &mut Value, field: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove(field);
    }
}

/// The finalizers of an object.
pub fn finalizers(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.map(|l| l.iter().filter_map(|f| f.as_str().map(String::from)).collect())
        .unwrap_or_default()
}

/// Now, to the second, as objects spell times.
pub fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// A time to the second, as objects spell it.
pub fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
