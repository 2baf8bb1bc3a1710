//! `authorizer` of expressions: asks whether the user of the request may do something else.
//!
//! Checks are built step by step (`authorizer.group('').resource('pods').namespace('a').check('create')`) and answered
//! by the server's own authorizer, which decides from memory and never waits.

use crate::authorize::Decision;
use crate::request::Attributes;
use crate::server::ApiServer;
use crate::user::User;
use cel::{Host, Value};
use futures::FutureExt;
use kinds::names;
use std::fmt;
use std::sync::Arc;

/// What is being asked, so far.
#[derive(Clone)]
enum Step {
    Authorizer,
    Path,
    Group,
    Resource,
    Decision(Decision),
}

#[derive(Clone)]
struct Asking {
    server: Arc<ApiServer>,
    user: User,
    attributes: Attributes,
    step: Step,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

/// `authorizer`, and `authorizer.requestResource` for the resource of a request.
pub fn authorizer(
    server: &Arc<ApiServer>,
    user: &User,
    request: &Attributes,
) -> (Arc<dyn Host>, Arc<dyn Host>) {
    let asking = |attributes: Attributes, step: Step| -> Arc<dyn Host> {
        Arc::new(Asking {
            server: server.clone(),
            user: user.clone(),
            attributes,
            step,
        })
    };
    let resource = Attributes {
        is_resource: true,
        group: request.group.clone(),
        version: request.version.clone(),
        resource: request.resource.clone(),
        subresource: request.subresource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        ..Attributes::default()
    };
    (
        asking(Attributes::default(), Step::Authorizer),
        asking(resource, Step::Resource),
    )
}

impl Asking {
    fn next(&self, step: Step, set: impl FnOnce(&mut Asking)) -> Value<'static> {
        let mut next = Asking { step, ..self.clone() };
        set(&mut next);
        Value::Host(Arc::new(next))
    }

    /// What nobody can be asked about.
    fn refused(&self, function: &str, texts: &[&str]) -> Option<&'static str> {
        Some(match (&self.step, function, texts) {
            (Step::Authorizer, "path", [""]) => "path must not be empty",
            (Step::Group, "resource", [""]) => "resource must not be empty",
            (Step::Authorizer, "serviceAccount", [_, name]) if !names::dns_subdomain(name).is_empty() => {
                "Invalid service account name"
            }
            (Step::Authorizer, "serviceAccount", [namespace, _])
                if !names::dns_label(namespace).is_empty() =>
            {
                "Invalid service account namespace"
            }
            _ => return None,
        })
    }

    fn check(&self, verb: &str) -> Result<Value<'static>, String> {
        let mut attributes = self.attributes.clone();
        attributes.verb = verb.to_string();
        let authorizer = &self.server.access.authorizer;
        let decision = authorizer.authorize(&self.user, &attributes).now_or_never();
        let decision = decision.ok_or("the authorizer did not decide at once")?;
        Ok(self.next(Step::Decision(decision), |_| {}))
    }
}

impl Host for Asking {
    fn type_name(&self) -> &'static str {
        match self.step {
            Step::Authorizer => "kubernetes.authorization.Authorizer",
            Step::Path => "kubernetes.authorization.PathCheck",
            Step::Group => "kubernetes.authorization.GroupCheck",
            Step::Resource => "kubernetes.authorization.ResourceCheck",
            Step::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    fn call(&self, function: &str, args: &[Value<'_>]) -> Option<Result<Value<'static>, String>> {
        let texts: Option<Vec<String>> = args.iter().map(|a| a.as_str().map(String::from)).collect();
        let texts = texts?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if let Some(wrong) = self.refused(function, &texts) {
            return Some(Err(wrong.into()));
        }
        Some(Ok(match (&self.step, function, texts.as_slice()) {
            (Step::Authorizer, "path", [path]) => {
                self.next(Step::Path, |n| n.attributes.path = (*path).to_string())
            }
            (Step::Authorizer, "group", [group]) => self.next(Step::Group, |n| {
                n.attributes.group = (*group).to_string();
                n.attributes.version = "*".into();
            }),
            (Step::Authorizer, "serviceAccount", [namespace, name]) => self.next(Step::Authorizer, |n| {
                let groups = [
                    "system:serviceaccounts",
                    &format!("system:serviceaccounts:{namespace}"),
                ];
                n.user = User::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
            }),
            (Step::Group, "resource", [resource]) => self.next(Step::Resource, |n| {
                n.attributes.is_resource = true;
                n.attributes.resource = (*resource).to_string();
            }),
            (Step::Resource, "subresource", [sub]) => {
                self.next(Step::Resource, |n| n.attributes.subresource = (*sub).to_string())
            }
            (Step::Resource, "namespace", [namespace]) => self.next(Step::Resource, |n| {
                n.attributes.namespace = (*namespace).to_string()
            }),
            (Step::Resource, "name", [name]) => {
                self.next(Step::Resource, |n| n.attributes.name = (*name).to_string())
            }
            // Selectors narrow what is asked; an authorizer that ignores them judges the wider question.
            (Step::Resource, "fieldSelector", [selector]) => self.next(Step::Resource, |n| {
                n.attributes.field_selector = (*selector).to_string()
            }),
            (Step::Resource, "labelSelector", [_]) => self.next(Step::Resource, |_| {}),
            (Step::Resource | Step::Path, "check", [verb]) => return Some(self.check(verb)),
            (Step::Decision(decision), "allowed", []) => Value::Bool(decision.is_allowed()),
            (Step::Decision(decision), "reason", []) => Value::text(decision.reason()),
            (Step::Decision(_), "errored", []) => Value::Bool(false),
            (Step::Decision(_), "error", []) => Value::text(""),
            _ => return None,
        }))
    }
}
