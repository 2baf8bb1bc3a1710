//! Policies and their bindings as they are used: read and compiled once for every state of their resources.

use super::bound::Bound;
use crate::admission::expressions::{Conditions, Expression, composed, environment};
use crate::admission::matching::Matcher;
use crate::view::View;
use serde_json::Value;
use std::sync::Arc;

/// The group of policies and bindings.
pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// One policy that is bound somewhere.
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Which requests it is about.
    pub matcher: Matcher,
    /// What must hold besides.
    pub conditions: Conditions,
    /// What cannot be evaluated refuses.
    pub fail: bool,
    /// Composed variables, each seeing those before it.
    pub variables: Vec<(String, Expression)>,
    /// What must hold.
    pub validations: Vec<Validation>,
    /// Annotations for the audit log.
    pub annotations: Vec<(String, Expression)>,
    /// `apiVersion` and `kind` of the parameters.
    pub param_kind: Option<(String, String)>,
    /// Where it counts.
    pub bindings: Vec<Binding>,
}

/// One thing that must hold.
pub struct Validation {
    /// The expression.
    pub expression: Expression,
    /// Words when it does not hold, made by an expression.
    pub message_expression: Option<Expression>,
    message: String,
    /// Reason of the refusal; empty for `Invalid`.
    pub reason: String,
}

impl Validation {
    /// The words that need no evaluation.
    pub fn written(&self) -> String {
        match self.message.is_empty() {
            true => format!("failed expression: {}", self.expression.text.trim()),
            false => self.message.clone(),
        }
    }
}

/// Where a policy counts.
pub struct Binding {
    /// Its name.
    pub name: String,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
    /// Which of the policy's requests it is about; all without.
    pub matcher: Option<Matcher>,
    /// Where the parameters are.
    pub param_ref: Option<Value>,
}

pub(super) fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or("").to_string()
}

pub(super) fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

impl Policy {
    fn new(policy: &Value, bindings: Vec<Binding>) -> Policy {
        let spec = &policy["spec"];
        let params = spec["paramKind"].is_object();
        let mut names: Vec<(String, cel::Type)> = Vec::new();
        let mut variables = Vec::new();
        for variable in list(spec, "variables") {
            let name = text(variable, "name");
            let env = composed(params, true, &names);
            let expression = Expression::new(&text(variable, "expression"), &env);
            names.push((name.clone(), expression.ty()));
            variables.push((name, expression));
        }
        let env = composed(params, true, &names);
        let without = composed(params, false, &names);
        let validations = list(spec, "validations").map(|v| Validation {
            expression: Expression::new(&text(v, "expression"), &env),
            message_expression: match text(v, "messageExpression") {
                empty if empty.is_empty() => None,
                expression => Some(Expression::new(&expression, &without)),
            },
            message: text(v, "message").trim().to_string(),
            reason: text(v, "reason"),
        });
        Policy {
            name: text(&policy["metadata"], "name"),
            matcher: Matcher::new(&spec["matchConstraints"], "resourceRules"),
            conditions: Conditions::new(&spec["matchConditions"], &environment(params, true, &[])),
            fail: spec["failurePolicy"] != "Ignore",
            validations: validations.collect(),
            annotations: list(spec, "auditAnnotations")
                .map(|a| (text(a, "key"), Expression::new(&text(a, "valueExpression"), &env)))
                .collect(),
            param_kind: params.then(|| {
                let kind = &spec["paramKind"];
                (text(kind, "apiVersion"), text(kind, "kind"))
            }),
            variables,
            bindings,
        }
    }
}

impl Binding {
    /// Reads a binding of either sort of policy.
    pub(super) fn new(binding: &Value) -> Binding {
        let spec = &binding["spec"];
        let actions = list(spec, "validationActions");
        let resources = spec.get("matchResources").filter(|m| m.is_object());
        Binding {
            name: text(&binding["metadata"], "name"),
            actions: actions.filter_map(|a| a.as_str().map(String::from)).collect(),
            matcher: resources.map(|m| Matcher::new(m, "resourceRules")),
            param_ref: spec.get("paramRef").filter(|p| p.is_object()).cloned(),
        }
    }
}

/// All policies that are bound.
#[derive(Default)]
pub struct Policies(Bound<Policy>);

impl Policies {
    /// The policies in the order of their names.
    pub fn get(&self, view: &dyn View) -> Arc<Vec<Policy>> {
        let resources = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");
        self.0.get(view, resources, Policy::new)
    }
}
