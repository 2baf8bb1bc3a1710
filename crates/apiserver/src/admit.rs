//! What an admission step is: it sees a write after authorization and before storage, may change it, or refuse it.
//!
//! The chain itself and its plugins live in [`crate::admission`]. As upstream, all mutating steps run first, then
//! the object is validated, then all validating steps run.

use crate::request::Attributes;
use crate::rest::Ctx;
use crate::user::User;
use crate::view::View;
use async_trait::async_trait;
use kinds::KindInfo;
use kinds::status::Status;
use machinery::Empties;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object (or a subresource that is created, such as a binding).
    Create,
    /// A change, by update, patch or apply.
    Update,
    /// A removal; the object of the request is null, the old object is what is removed.
    Delete,
    /// `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

impl Operation {
    /// The name that webhooks and messages use.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// One write under admission.
pub struct AdmissionRequest<'a> {
    /// Who writes.
    pub user: &'a User,
    /// The parsed request.
    pub attributes: &'a Attributes,
    /// What kind of write.
    pub operation: Operation,
    /// The kind of the object (the subresource's body kind is told by its own `apiVersion` and `kind`).
    pub kind: &'a KindInfo,
    /// The object as it would be stored; `Null` for deletions. Mutating steps change it in place.
    pub object: &'a mut Value,
    /// What was written into the object although there is nothing in it, where that is known.
    pub empties: &'a Empties,
    /// The stored object, for updates and deletions.
    pub old: Option<&'a Value>,
    /// Nothing will be written: steps must leave no trace elsewhere (quota accounting).
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions or DeleteOptions of the request; `Null` when none were sent.
    pub options: &'a Value,
    /// The whole request, for steps that ask others about it; without it they keep still.
    pub ctx: Option<&'a Ctx>,
    /// How often the mutating half has run.
    pub round: Round,
}

/// The mutating half may run a second time, when a webhook changed what steps before it have seen.
#[derive(Debug, Default)]
pub struct Round {
    /// This is the second time.
    pub again: bool,
    /// A second time is wanted.
    pub wanted: bool,
    /// Who owned which fields before the first webhook or policy changed the object.
    pub managed: Option<Value>,
    /// What the last webhook left.
    pub last: Option<Value>,
    /// What the last mutating policy left.
    pub policies: Option<Value>,
    /// Webhooks that were asked, may be asked again, and have seen every change so far.
    pub asked: BTreeSet<String>,
    /// Webhooks that must be asked again.
    pub due: BTreeSet<String>,
}

/// What the way of a request has to say beside its answer: warnings for the client; annotations, and which object the body
/// is about, for the audit log.
#[derive(Debug, Default)]
pub struct Notes {
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, String>>,
    object: Mutex<BTreeMap<&'static str, String>>,
}

impl Notes {
    /// Adds a warning, once.
    pub fn warn(&self, warning: impl Into<String>) {
        let (warning, mut warnings) = (warning.into(), self.warnings.lock());
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Adds several.
    pub fn warn_all(&self, warnings: impl IntoIterator<Item = String>) {
        warnings.into_iter().for_each(|warning| self.warn(warning));
    }

    /// Adds an annotation. The first of a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations.lock().entry(key.into()).or_insert(value.into());
    }

    /// Notes which object a body is about. Its uid is that of a stored object only if it `is_stored`.
    pub fn about(&self, object: &Value, is_stored: bool) {
        let fields = ["namespace", "name", "uid", "resourceVersion"];
        let mut about = self.object.lock();
        for field in fields.into_iter().filter(|field| *field != "uid" || is_stored) {
            let text = object["metadata"][field].as_str().unwrap_or_default();
            if !text.is_empty() {
                about.insert(field, text.to_owned());
            }
        }
    }

    /// Fields of the metadata of the object that the body is about.
    pub fn object(&self) -> BTreeMap<&'static str, String> {
        self.object.lock().clone()
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// The annotations so far.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }
}

/// One step of the chain.
#[async_trait]
pub trait AdmissionPlugin: Send + Sync {
    /// The name upstream gives it, e.g. `LimitRanger`.
    fn name(&self) -> &'static str;

    /// May change the object or refuse the request. Returns warnings for the client.
    async fn admit(
        &self,
        _request: &mut AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        Ok(Vec::new())
    }

    /// May refuse the request; must not change the object. Returns warnings for the client.
    async fn validate(
        &self,
        _request: &AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        Ok(Vec::new())
    }

    /// Told once the write that `validate` let through is over: `stored` says whether it happened; if so, the view
    /// shows it already.
    /// Steps that reserve (quota) settle here.
    async fn settle(&self, _request: &AdmissionRequest<'_>, _stored: bool) {}
}
