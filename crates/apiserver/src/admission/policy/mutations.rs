//! MutatingAdmissionPolicy (KEP-3962): changes in CEL to any write, bound by MutatingAdmissionPolicyBindings.
//!
//! A mutation makes an apply configuration (`Object{spec: Object.spec{…}}`), which is merged into the object as
//! server-side apply merges, or a JSON patch (`[JSONPatch{op: …}]`). Policies run by name before the webhooks; one that
//! changes the object causes the second round of admission, in which those with `reinvocationPolicy: IfNeeded` take part.

use super::bound::Bound;
use super::config::{Binding, list, text};
use super::params;
use crate::admission::expressions::{Conditions, Expression, POLICY_BUDGET, Scope, environment, mutating};
use crate::admission::matching::{self, Matched, Matcher};
use crate::admission::{forbidden, hooks};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
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
        for policy in policies.iter() {
            let due = || changed_since || request.round.due.contains(&policy.id());
            if request.round.again && !(policy.again && due()) {
                continue;
            }
            let matched = match policy.matcher.matches(request, view, false) {
                Ok(Some(matched)) => matched,
                Ok(None) => continue,
                Err(status) if policy.fail => {
                    let why = format!("failed to configure policy: {}", status.message);
                    return Err(refusal(request, policy, None, &why));
                }
                Err(_) => continue,
            };
            for binding in &policy.bindings {
                match bound(policy, binding, &matched, request, ctx, view).await {
                    Ok(false) => {}
                    Ok(true) => {
                        let asked = std::mem::take(&mut request.round.asked);
                        request.round.due.extend(asked);
                        request.round.wanted = true;
                    }
                    Err(why) if policy.fail => return Err(refusal(request, policy, Some(binding), &why)),
                    Err(why) => {
                        let (policy, binding) = (&policy.name, &binding.name);
                        tracing::warn!(
                            policy,
                            binding,
                            why,
                            "a mutating policy failed; the request goes on"
                        );
                    }
                }
            }
            if policy.again {
                request.round.asked.insert(policy.id());
            }
        }
        request.round.policies = Some(request.object.clone());
        Ok(Vec::new())
    }
}

fn refusal(request: &AdmissionRequest<'_>, policy: &Policy, binding: Option<&Binding>, why: &str) -> Status {
    let with = binding.map(|b| format!(" with binding '{}'", b.name));
    let message = format!(
        "policy '{}'{} denied request: {why}",
        policy.name,
        with.unwrap_or_default()
    );
    let mut status = forbidden(request, &message);
    (status.reason, status.code) = ("Invalid".into(), 422);
    status.add_cause("", message, "");
    status
}

/// Runs a policy as one binding wants it; answers whether the object changed.
async fn bound(
    policy: &Policy,
    binding: &Binding,
    matched: &Matched,
    request: &mut AdmissionRequest<'_>,
    ctx: &Ctx,
    view: &dyn View,
) -> Result<bool, String> {
    let misconfigured = |why: String| format!("failed to configure binding: {why}");
    if let Some(matcher) = &binding.matcher {
        match matcher.matches(request, view, true) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(status) => return Err(misconfigured(status.message)),
        }
    }
    let kind =
        params::kind(ctx, &policy.param_kind).map_err(|why| format!("failed to configure policy: {why}"))?;
    let namespace = &request.attributes.namespace;
    let params = params::collect(ctx, kind.as_deref(), binding, namespace)
        .await
        .map_err(misconfigured)?;
    let mut changed = false;
    for params in &params {
        let mut budget = POLICY_BUDGET;
        for (index, mutation) in policy.mutations.iter().enumerate() {
            // Each sees what the one before left.
            let inputs = hooks::inputs(request, ctx, view, matched)
                .await
                .map_err(|status| status.message)?;
            let scope = Scope::with(&inputs, params, &policy.variables, POLICY_BUDGET);
            if index == 0 && !policy.conditions.hold(&scope)? {
                break;
            }
            let made = mutation.expression.eval(&scope, &mut budget)?;
            let made = made.to_json().ok_or_else(|| {
                format!(
                    "expression '{}' evaluated to {}, which is no patch",
                    mutation.expression.text,
                    made.type_name()
                )
            })?;
            let patched = match (mutation.is_json_patch, ctx.attributes.subresource.as_str()) {
                (true, _) => machinery::json_patch(&inputs.object, &made)
                    .map_err(|status| format!("JSON Patch: {}", status.message))?,
                (false, "scale") => {
                    return Err("apply configurations of the scale subresource are not supported".into());
                }
                (false, _) => {
                    let typed = match matched {
                        Matched::Other(other) => other.typed(),
                        Matched::Same => ctx.served.typed(),
                    };
                    machinery::apply::merge_configuration(typed, &inputs.object, &made)?
                }
            };
            if patched != inputs.object {
                hooks::take_back(request, ctx, patched, matched)
                    .await
                    .map_err(|status| status.message)?;
                changed = true;
            }
        }
    }
    Ok(changed)
}
