//! MutatingAdmissionPolicy (KEP-3962): changes in CEL to any write, bound by MutatingAdmissionPolicyBindings.
//!
//! A mutation makes an apply configuration (`Object{spec: Object.spec{…}}`), which is merged into the object as
//! server-side apply merges, or a JSON patch (`[JSONPatch{op: …}]`). Policies run by name before the webhooks; one that
//! changes the object causes the second round of admission, in which those with `reinvocationPolicy: IfNeeded` take part.

use super::bound::Bound;
use super::config::{Binding, list, text};
use super::params;
use crate::admission::expressions::{
    Conditions, Expression, Inputs, POLICY_BUDGET, Scope, environment, mutating,
};
use crate::admission::matching::{self, Matched, Matcher};
use crate::admission::{forbidden, hooks};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::registry::Served;
use crate::rest::Ctx;
use crate::view::View;
use async_trait::async_trait;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

/// One policy that is bound somewhere.
struct Policy {
    name: String,
    matcher: Matcher,
    conditions: Conditions,
    /// What cannot be evaluated refuses.
    fail: bool,
    /// Takes part in the second round.
    again: bool,
    variables: Vec<(String, Expression)>,
    mutations: Vec<Mutation>,
    param_kind: Option<(String, String)>,
    bindings: Vec<Binding>,
}

struct Mutation {
    is_json_patch: bool,
    expression: Expression,
}

impl Policy {
    fn new(policy: &Value, bindings: Vec<Binding>) -> Policy {
        let spec = &policy["spec"];
        let params = spec["paramKind"].is_object();
        let mut names: Vec<(String, cel::Type)> = Vec::new();
        let mut variables = Vec::new();
        for variable in list(spec, "variables") {
            let name = text(variable, "name");
            let env = mutating(params, &names);
            let expression = Expression::new(&text(variable, "expression"), &env);
            names.push((name.clone(), expression.ty()));
            variables.push((name, expression));
        }
        let env = mutating(params, &names);
        let mutations = list(spec, "mutations").map(|mutation| {
            let is_json_patch = mutation["patchType"] == "JSONPatch";
            let field = if is_json_patch {
                "jsonPatch"
            } else {
                "applyConfiguration"
            };
            Mutation {
                is_json_patch,
                expression: Expression::new(&text(&mutation[field], "expression"), &env),
            }
        });
        Policy {
            name: text(&policy["metadata"], "name"),
            matcher: Matcher::new(&spec["matchConstraints"], "resourceRules"),
            conditions: Conditions::new(&spec["matchConditions"], &environment(params, true, &[])),
            fail: spec["failurePolicy"] != "Ignore",
            again: spec["reinvocationPolicy"] == "IfNeeded",
            mutations: mutations.collect(),
            param_kind: params.then(|| {
                let kind = &spec["paramKind"];
                (text(kind, "apiVersion"), text(kind, "kind"))
            }),
            variables,
            bindings,
        }
    }

    /// Among those that were asked in this request.
    fn id(&self) -> String {
        format!("MutatingAdmissionPolicy/{}", self.name)
    }
}

/// The plugin `MutatingAdmissionPolicy`.
#[derive(Default)]
pub struct MutatingPolicy {
    bound: Bound<Policy>,
}

impl MutatingPolicy {
    /// The bound policies in the order of their names.
    fn policies(&self, view: &dyn View) -> Arc<Vec<Policy>> {
        let resources = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings");
        self.bound.get(view, resources, Policy::new)
    }
}

#[async_trait]
impl AdmissionPlugin for MutatingPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let Some(ctx) = request.ctx else {
            return Ok(Vec::new());
        };
        let policies = self.policies(view);
        let stays = matches!(request.operation, Operation::Delete | Operation::Connect);
        if policies.is_empty() || stays || matching::is_policy(request) || matching::is_review(request) {
            return Ok(Vec::new());
        }
        let changed_since = request.round.again && request.round.policies.as_ref() != Some(request.object);
        let mut failures = Failures::default();
        for policy in policies.iter() {
            let due = || changed_since || request.round.due.contains(&policy.id());
            if request.round.again && !(policy.again && due()) {
                continue;
            }
            let found = match policy.matcher.matches(request, view, false) {
                Ok(Some(matched)) => params::kind(ctx, &policy.param_kind).map(|kind| (matched, kind)),
                Ok(None) => continue,
                Err(status) => Err(status.message),
            };
            let (matched, kind) = match found {
                Ok(found) => found,
                Err(why) => {
                    failures.configured(policy, None, format!("failed to configure policy: {why}"));
                    continue;
                }
            };
            for binding in &policy.bindings {
                let run = Run {
                    policy,
                    binding,
                    matched: &matched,
                    ctx,
                    view,
                };
                if run.all(kind.as_deref(), request, &mut failures).await {
                    let asked = std::mem::take(&mut request.round.asked);
                    request.round.due.extend(asked);
                    request.round.wanted = true;
                }
            }
            if policy.again {
                request.round.asked.insert(policy.id());
            }
        }
        request.round.policies = Some(request.object.clone());
        failures.refuse(request)
    }
}

/// What went wrong with policies that refuse then, each in its words: all are told, and the first decides.
#[derive(Default)]
struct Failures {
    configured: Vec<String>,
    mutated: Vec<String>,
}

impl Failures {
    fn configured(&mut self, policy: &Policy, binding: Option<&Binding>, why: String) {
        self.configured.extend(denied(policy, binding, &why));
    }

    fn mutated(&mut self, policy: &Policy, binding: &Binding, why: String) {
        self.mutated.extend(denied(policy, Some(binding), &why));
    }

    /// The refusal, bare of what usually stands before one (upstream's `policyDispatcher.Dispatch`).
    fn refuse(self, request: &AdmissionRequest<'_>) -> Result<Vec<String>, Status> {
        let mut status = forbidden(request, "");
        if self.configured.is_empty() {
            status.reason = "Invalid".into();
        }
        let all: Vec<String> = self.configured.into_iter().chain(self.mutated).collect();
        let Some(first) = all.first() else {
            return Ok(Vec::new());
        };
        status.message.clone_from(first);
        for message in all {
            status.add_cause("", message, "");
        }
        Err(status)
    }
}

/// How a failure of a policy refuses; of one that lets requests go on it is only logged.
fn denied(policy: &Policy, binding: Option<&Binding>, why: &str) -> Option<String> {
    let name = &policy.name;
    if !policy.fail {
        let binding = binding.map(|binding| &binding.name);
        tracing::warn!(
            name,
            ?binding,
            why,
            "a mutating policy failed; the request goes on"
        );
        return None;
    }
    Some(match binding {
        Some(binding) => format!(
            "policy '{name}' with binding '{}' denied request: {why}",
            binding.name
        ),
        None => format!("policy {name:?} denied request: {why}"),
    })
}

/// A policy, as one binding wants it, for one request.
struct Run<'a> {
    policy: &'a Policy,
    binding: &'a Binding,
    matched: &'a Matched,
    ctx: &'a Ctx,
    view: &'a dyn View,
}

impl Run<'_> {
    /// Runs the policy with each of its parameters; answers whether the object changed. What fails keeps nothing else from
    /// being run.
    async fn all(
        &self,
        kind: Option<&Served>,
        request: &mut AdmissionRequest<'_>,
        failures: &mut Failures,
    ) -> bool {
        let params = match self.params(kind, request).await {
            Ok(params) => params,
            Err(why) => {
                let why = format!("failed to configure binding: {why}");
                failures.configured(self.policy, Some(self.binding), why);
                return false;
            }
        };
        let mut changed = false;
        for params in &params {
            match self.holds(params, request).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    failures.mutated(self.policy, self.binding, why);
                    continue;
                }
            }
            let mut budget = POLICY_BUDGET;
            for mutation in &self.policy.mutations {
                match self.one(mutation, params, request, &mut budget).await {
                    Ok(has_changed) => changed |= has_changed,
                    Err(why) => failures.mutated(self.policy, self.binding, why),
                }
            }
        }
        changed
    }

    /// The parameters; none when the binding is not about the request.
    async fn params(
        &self,
        kind: Option<&Served>,
        request: &AdmissionRequest<'_>,
    ) -> Result<Vec<Value>, String> {
        let matches = self.binding.matcher.as_ref();
        match matches.map(|matcher| matcher.matches(request, self.view, true)) {
            None | Some(Ok(Some(_))) => {}
            Some(Ok(None)) => return Ok(Vec::new()),
            Some(Err(status)) => return Err(status.message),
        }
        params::collect(self.ctx, kind, self.binding, &request.attributes.namespace).await
    }

    async fn inputs(&self, request: &AdmissionRequest<'_>) -> Result<Inputs, String> {
        let inputs = hooks::inputs(request, self.ctx, self.view, self.matched).await;
        inputs.map_err(|status| status.message)
    }

    async fn holds(&self, params: &Value, request: &AdmissionRequest<'_>) -> Result<bool, String> {
        let inputs = self.inputs(request).await?;
        let scope = Scope::with(&inputs, params, &self.policy.variables, POLICY_BUDGET);
        self.policy.conditions.hold(&scope)
    }

    /// Makes one change, to what the one before left; answers whether it was any.
    async fn one(
        &self,
        mutation: &Mutation,
        params: &Value,
        request: &mut AdmissionRequest<'_>,
        budget: &mut u64,
    ) -> Result<bool, String> {
        let inputs = self.inputs(request).await?;
        let patched = {
            let scope = Scope::with(&inputs, params, &self.policy.variables, POLICY_BUDGET);
            let made = mutation.expression.eval(&scope, budget)?;
            let made = made.to_json().ok_or_else(|| {
                format!(
                    "expression '{}' evaluated to {}, which is no patch",
                    mutation.expression.text,
                    made.type_name()
                )
            })?;
            match (mutation.is_json_patch, self.ctx.attributes.subresource.as_str()) {
                (true, _) => {
                    let operations = made.as_array().map_or(&[][..], Vec::as_slice);
                    match machinery::apply_operations(&inputs.object, operations) {
                        Ok(patched) => patched,
                        // A test that does not come out leaves the object as it is.
                        Err(undone) if undone.is_test => return Ok(false),
                        Err(undone) => return Err(format!("JSON Patch: {undone}")),
                    }
                }
                (false, "scale") => {
                    return Err("apply configurations of the scale subresource are not supported".into());
                }
                (false, _) => {
                    let typed = match self.matched {
                        Matched::Other(other) => other.typed(),
                        Matched::Same => self.ctx.served.typed(),
                    };
                    machinery::apply::merge_configuration(typed, &inputs.object, &made)?
                }
            }
        };
        if patched == inputs.object {
            return Ok(false);
        }
        let taken = hooks::take_back(request, self.ctx, patched, self.matched).await;
        taken.map(|()| true).map_err(|status| status.message)
    }
}
