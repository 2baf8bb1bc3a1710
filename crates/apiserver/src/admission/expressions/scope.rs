//! The values of the variables: `object`, `oldObject`, `request`, `namespaceObject`, `params`, `authorizer`, and the
//! `variables` of a policy, each evaluated when it is first asked for and at most once.

use super::Expression;
use cel::{EvalError, EvalResult, Type, Value};
use serde_json::{Value as Json, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

static DYN: Type = Type::Dyn;
static NULL: Json = Json::Null;

/// What an admission request gives to expressions.
pub struct Inputs {
    /// The object as it would be stored.
    pub object: Json,
    /// The stored object.
    pub old: Json,
    /// The request as AdmissionReview describes it, without objects.
    pub request: Json,
    /// The namespace, as expressions may see it.
    pub namespace: Json,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: Option<(Arc<dyn cel::Host>, Arc<dyn cel::Host>)>,
}

/// The variables of one evaluation.
pub struct Scope<'a> {
    inputs: &'a Inputs,
    params: &'a Json,
    variables: &'a [(String, Expression)],
    known: RefCell<HashMap<&'a str, EvalResult<Value<'a>>>>,
    budget: Cell<u64>,
}

impl<'a> Scope<'a> {
    /// A scope of a request alone.
    pub fn new(inputs: &'a Inputs) -> Scope<'a> {
        Scope::with(inputs, &NULL, &[], u64::MAX)
    }

    /// A scope with parameters and composed variables, which together may cost `budget`.
    pub fn with(
        inputs: &'a Inputs,
        params: &'a Json,
        variables: &'a [(String, Expression)],
        budget: u64,
    ) -> Scope<'a> {
        Scope {
            inputs,
            params,
            variables,
            known: RefCell::default(),
            budget: Cell::new(budget),
        }
    }

    fn composed(&self, name: &str) -> Option<EvalResult<Value<'a>>> {
        let (name, expression) = self.variables.iter().find(|(n, _)| n == name)?;
        if let Some(found) = self.known.borrow().get(name.as_str()) {
            return Some(found.clone());
        }
        // A variable sees only those before it, so this ends; the mark is for those that fail.
        let mut budget = self.budget.get();
        let before = budget;
        let value = expression.eval(self, &mut budget).map_err(|why| {
            // Upstream tells the fault alone.
            let said = format!("expression '{}' resulted in error: ", expression.text);
            let why = why.strip_prefix(&said).unwrap_or(&why);
            EvalError::Failed(format!("composited variable {name:?} fails to evaluate: {why}"))
        });
        self.budget.set(self.budget.get().saturating_sub(before - budget));
        self.known.borrow_mut().insert(name, value.clone());
        Some(value)
    }
}

impl<'a> cel::Variables<'a> for Scope<'a> {
    fn get(&self, name: &str) -> Option<EvalResult<Value<'a>>> {
        let json = match name {
            "object" => &self.inputs.object,
            "oldObject" => &self.inputs.old,
            "request" => &self.inputs.request,
            "namespaceObject" => &self.inputs.namespace,
            "params" => self.params,
            "authorizer" => {
                return self
                    .inputs
                    .authorizer
                    .as_ref()
                    .map(|(a, _)| Ok(Value::Host(a.clone())));
            }
            "authorizer.requestResource" => {
                return self
                    .inputs
                    .authorizer
                    .as_ref()
                    .map(|(_, r)| Ok(Value::Host(r.clone())));
            }
            name => return self.composed(name.strip_prefix("variables.")?),
        };
        Some(Ok(Value::json(json, &DYN)))
    }
}

/// A Namespace without what expressions are not shown (managed fields, owners).
pub fn namespace_object(namespace: &Json) -> Json {
    const SHOWN: [&str; 11] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
    ];
    let mut metadata = serde_json::Map::new();
    for field in SHOWN.iter().chain(&["finalizers"]) {
        if let Some(value) = namespace["metadata"].get(field) {
            metadata.insert((*field).to_string(), value.clone());
        }
    }
    json!({"metadata": metadata, "spec": namespace["spec"], "status": namespace["status"]})
}
