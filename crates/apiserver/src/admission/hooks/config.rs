//! Webhook configurations as they are used: read and compiled once for every state of their resource.

use crate::admission::expressions::{Conditions, environment};
use crate::admission::matching::Matcher;
use crate::outbound::Target;
use crate::view::{GroupResource, View};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// One webhook.
pub struct Hook {
    /// Name of its configuration.
    pub configuration: String,
    /// Its name.
    pub name: String,
    /// Which requests it is about.
    pub matcher: Matcher,
    /// What must hold besides.
    pub conditions: Conditions,
    /// A webhook that cannot be asked refuses.
    pub fail: bool,
    /// How long it may take.
    pub timeout: Duration,
    /// It may be asked about dry runs.
    pub dry_run: bool,
    /// It is asked for changes, not for a verdict alone.
    pub mutating: bool,
    /// Mutating: it may be asked again.
    pub again: bool,
    /// The version of AdmissionReview it gets.
    pub version: Option<&'static str>,
    /// Where it is.
    pub target: Target,
}

impl Hook {
    fn new(configuration: &str, hook: &Value, mutating: bool) -> Hook {
        let text = |f: &str| hook.get(f).and_then(Value::as_str).unwrap_or("");
        let accepted = hook["admissionReviewVersions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let version = accepted.iter().find_map(|v| match v.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        });
        Hook {
            configuration: configuration.to_string(),
            name: text("name").to_string(),
            matcher: Matcher::new(hook, "rules"),
            conditions: Conditions::new(&hook["matchConditions"], &environment(false, true, &[])),
            fail: text("failurePolicy") != "Ignore",
            timeout: Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
            dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            mutating,
            again: text("reinvocationPolicy") == "IfNeeded",
            version,
            target: Target::from_client_config(&hook["clientConfig"]),
        }
    }

    /// What tells it from all others.
    pub fn id(&self) -> String {
        format!("{}/{}", self.configuration, self.name)
    }
}

/// Revision of the resource, and what was read at it.
type Read = (u64, Arc<Vec<Hook>>);

/// The webhooks of one kind of configuration.
pub struct Hooks {
    resource: GroupResource,
    read: Mutex<Option<Read>>,
}

impl Hooks {
    /// Those of a resource of `admissionregistration.k8s.io`.
    pub fn of(resource: &str) -> Hooks {
        Hooks {
            resource: GroupResource::new("admissionregistration.k8s.io", resource),
            read: Mutex::default(),
        }
    }

    /// All webhooks, in the order in which they are asked.
    pub fn get(&self, view: &dyn View) -> Arc<Vec<Hook>> {
        let revision = view.resource_revision(&self.resource);
        let mut read = self.read.lock();
        if let Some((at, hooks)) = &*read
            && *at == revision
        {
            return hooks.clone();
        }
        let mut hooks = Vec::new();
        let mutating = self.resource.resource == "mutatingwebhookconfigurations";
        // Lists come in the order of names.
        for configuration in view.list(&self.resource, None) {
            let name = configuration["metadata"]["name"].as_str().unwrap_or("");
            let listed = configuration["webhooks"].as_array();
            hooks.extend(
                listed
                    .into_iter()
                    .flatten()
                    .map(|hook| Hook::new(name, hook, mutating)),
            );
        }
        let hooks = Arc::new(hooks);
        *read = Some((revision, hooks.clone()));
        hooks
    }
}
