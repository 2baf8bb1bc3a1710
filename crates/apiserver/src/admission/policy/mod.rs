//! Policies in CEL. [`mutations`] has those that change; this one is ValidatingAdmissionPolicy: rules in CEL about any write, bound to where they count by ValidatingAdmissionPolicyBindings.
//!
//! A policy says what must hold ([`config`]), a binding says where, with which parameters, and what a violation does:
//! `Deny`, `Warn`, `Audit`. The order of upstream is kept: policies and bindings by name, the first denial decides.

mod bound;
mod config;
mod mutations;
mod params;
pub mod typecheck;

pub use mutations::MutatingPolicy;

use super::expressions::{CALL_LIMIT, Inputs, POLICY_BUDGET, Scope};
use super::{forbidden, hooks, in_order, matching};
use crate::admit::{AdmissionPlugin, AdmissionRequest};
use crate::view::View;
use async_trait::async_trait;
use cel::Value;
use config::{Binding, Policies, Policy};
use kinds::status::Status;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Bytes of an annotation at most.
const ANNOTATION: usize = 10 * 1024;
/// Bytes of an evaluated message at most.
const MESSAGE: usize = 5 * 1024;

/// The plugin `ValidatingAdmissionPolicy`.
#[derive(Default)]
pub struct ValidatingPolicy {
    policies: Policies,
}

/// One violation, or one expression that has no value.
struct Decision {
    index: usize,
    message: String,
    reason: String,
}

/// What a policy came to with one set of parameters.
#[derive(Default)]
struct Judgement {
    denied: Vec<Decision>,
    annotations: Vec<(String, String)>,
    /// Annotations that could not be made refuse, whatever the binding's actions are.
    broken: Vec<String>,
}

/// A refusal in the making: policy, binding, decision.
type Denial = (String, Option<String>, Decision);

#[async_trait]
impl AdmissionPlugin for ValidatingPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        let Some(ctx) = request.ctx else {
            return Ok(Vec::new());
        };
        let policies = self.policies.get(view);
        if policies.is_empty() || matching::is_policy(request) || matching::is_review(request) {
            return Ok(Vec::new());
        }
        let mut denials: Vec<Denial> = Vec::new();
        let misconfigured = |policy: &Policy, binding: Option<&Binding>, why: String| -> Option<Denial> {
            let what = if binding.is_some() { "binding" } else { "policy" };
            let decision = Decision {
                index: 0,
                message: format!("failed to configure {what}: {why}"),
                reason: String::new(),
            };
            policy
                .fail
                .then(|| (policy.name.clone(), binding.map(|b| b.name.clone()), decision))
        };
        for policy in policies.iter() {
            let matched = match policy.matcher.matches(request, view, false) {
                Ok(Some(matched)) => matched,
                Ok(None) => continue,
                Err(status) => {
                    denials.extend(misconfigured(policy, None, status.message));
                    continue;
                }
            };
            let param_kind = match params::kind(ctx, &policy.param_kind) {
                Ok(kind) => kind,
                Err(why) => {
                    denials.extend(misconfigured(policy, None, why));
                    continue;
                }
            };
            let mut inputs: Option<Inputs> = None;
            let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for binding in &policy.bindings {
                match binding.matcher.as_ref().map(|m| m.matches(request, view, true)) {
                    None | Some(Ok(Some(_))) => {}
                    Some(Ok(None)) => continue,
                    Some(Err(status)) => {
                        denials.extend(misconfigured(policy, Some(binding), status.message));
                        continue;
                    }
                }
                let params =
                    match params::collect(ctx, param_kind.as_deref(), binding, &request.attributes.namespace)
                        .await
                    {
                        Ok(params) => params,
                        Err(why) => {
                            denials.extend(misconfigured(policy, Some(binding), why));
                            continue;
                        }
                    };
                if inputs.is_none() {
                    inputs = Some(hooks::inputs(request, ctx, view, &matched).await?);
                }
                let Some(inputs) = &inputs else { continue };
                for params in &params {
                    let judgement = judge(policy, inputs, params);
                    for (key, value) in judgement.annotations {
                        let values = annotations.entry(key).or_default();
                        if !values.contains(&value) {
                            values.push(value);
                        }
                    }
                    let named = |decision| (policy.name.clone(), Some(binding.name.clone()), decision);
                    for decision in judgement.denied {
                        for action in &binding.actions {
                            match action.as_str() {
                                "Warn" => ctx.notes.warn(format!(
                                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                                    policy.name, binding.name, decision.message
                                )),
                                "Audit" => audit(ctx, policy, binding, &decision),
                                _ => {}
                            }
                        }
                        if binding.actions.iter().any(|a| a == "Deny") {
                            denials.push(named(decision));
                        }
                    }
                    denials.extend(judgement.broken.into_iter().map(|message| {
                        named(Decision {
                            index: 0,
                            message,
                            reason: String::new(),
                        })
                    }));
                }
            }
            for (key, values) in annotations {
                ctx.notes
                    .annotate(format!("{}/{key}", policy.name), values.join(", "));
            }
        }
        match denials.into_iter().next() {
            Some(denial) => Err(refusal(request, denial)),
            None => Ok(Vec::new()),
        }
    }
}

fn audit(ctx: &crate::rest::Ctx, policy: &Policy, binding: &Binding, decision: &Decision) {
    let failure = in_order(&[
        ("message", json!(decision.message)),
        ("policy", json!(policy.name)),
        ("binding", json!(binding.name)),
        ("expressionIndex", json!(decision.index)),
        ("validationActions", json!(binding.actions)),
    ]);
    ctx.notes.annotate(
        "validation.policy.admission.k8s.io/validation_failure",
        format!("[{failure}]"),
    );
}

fn refusal(request: &AdmissionRequest<'_>, (policy, binding, decision): Denial) -> Status {
    let with = binding
        .map(|b| format!(" with binding '{b}'"))
        .unwrap_or_default();
    let message = format!(
        "ValidatingAdmissionPolicy '{policy}'{with} denied request: {}",
        decision.message
    );
    let mut status = forbidden(request, &message);
    let (reason, code) = match decision.reason.as_str() {
        "Unauthorized" => ("Unauthorized", 401),
        "Forbidden" => ("Forbidden", 403),
        "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
        _ => ("Invalid", 422),
    };
    (status.reason, status.code) = (reason.into(), code);
    status.add_cause("", message, "");
    status
}

/// Evaluates a policy about one request with one set of parameters.
fn judge(policy: &Policy, inputs: &Inputs, params: &Json) -> Judgement {
    let scope = Scope::with(inputs, params, &policy.variables, POLICY_BUDGET);
    let mut out = Judgement::default();
    match policy.conditions.hold(&scope) {
        Ok(true) => {}
        Ok(false) => return out,
        Err(message) => {
            if policy.fail {
                out.denied.push(Decision {
                    index: 0,
                    message,
                    reason: String::new(),
                });
            }
            return out;
        }
    }
    let mut budget = POLICY_BUDGET;
    for (index, validation) in policy.validations.iter().enumerate() {
        let decision = match validation.expression.eval(&scope, &mut budget) {
            Ok(Value::Bool(true)) => continue,
            Ok(_) => Decision {
                index,
                message: validation
                    .message_expression
                    .as_ref()
                    .and_then(|e| usable(e.eval(&scope, &mut budget.min(CALL_LIMIT))))
                    .unwrap_or_else(|| validation.written()),
                reason: validation.reason.clone(),
            },
            Err(_) if !policy.fail => continue,
            Err(message) => Decision {
                index,
                message,
                reason: String::new(),
            },
        };
        out.denied.push(decision);
    }
    for (key, expression) in &policy.annotations {
        match expression.eval(&scope, &mut budget) {
            Ok(Value::Null) => {}
            Ok(Value::String(text)) => {
                let text: String = text.trim().chars().take(ANNOTATION).collect();
                if !text.is_empty() {
                    out.annotations.push((key.clone(), text));
                }
            }
            Ok(other) => out.broken.push(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                expression.text,
                other.type_name()
            )),
            Err(message) if policy.fail => out.broken.push(message),
            Err(_) => {}
        }
    }
    out
}

/// A message that an expression made, when it can be shown.
fn usable(made: Result<Value<'_>, String>) -> Option<String> {
    let text = made.ok()?.as_str()?.trim().to_string();
    (!text.is_empty() && text.len() <= MESSAGE && !text.contains('\n')).then_some(text)
}
