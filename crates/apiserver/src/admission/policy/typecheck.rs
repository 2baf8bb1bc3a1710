//! `status.typeChecking` of ValidatingAdmissionPolicies: the expressions of a policy against the schemas of the kinds
//! that it names. What does not fit is a warning for who reads the policy, never a refusal (KEP-3488).
//!
//! Woken by every change of a policy; looks at those whose generation was not observed yet.

use super::config::{GROUP, list, text};
use crate::crd::rules::schema_type;
use crate::registry::{Registry, Served};
use crate::rest::{Ctx, meta, update};
use crate::server::ApiServer;
use crate::view::{GroupResource, View};
use cel::{Env, Field, ListKind, ObjectType, Program, Type, escape};
use kinds::schema::{self, Definition};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Kinds that a policy is checked against at most.
const MAX_TYPES: usize = 10;
/// Depth at which recursive definitions are cut off.
const MAX_DEPTH: usize = 16;

/// Checks the policies that have changed.
pub async fn settle_all(server: &Arc<ApiServer>) {
    for policy in server
        .caches
        .list(&GroupResource::new(GROUP, "validatingadmissionpolicies"), None)
    {
        settle(server, &policy).await;
    }
}

/// Checks a policy that has changed, and writes what was found.
async fn settle(server: &Arc<ApiServer>, policy: &Arc<Value>) {
    let generation = policy["metadata"]["generation"].as_i64().unwrap_or(1);
    if policy["status"]["observedGeneration"].as_i64() == Some(generation) {
        return;
    }
    let (registry, checked) = (server.registry.load_full(), policy.clone());
    // Large schemas become types here: not on a thread that serves others.
    let Ok(warnings) = tokio::task::spawn_blocking(move || warnings(&checked, &registry)).await else {
        return;
    };
    let Some(ctx) = crate::bootstrap::context(server, policy, "update") else {
        return;
    };
    let mut typed = json!({});
    if !warnings.is_empty() {
        typed["expressionWarnings"] = json!(warnings);
    }
    if let Err(status) = write(&ctx, policy, typed).await
        && !matches!(status.code, 404 | 409)
    {
        tracing::warn!(policy = meta(policy, "name"), error = %status, "the types of a policy could not be told");
    }
}

/// Writes what was found of the policy `checked`, and nothing to another one of its name that has come meanwhile.
async fn write(ctx: &Ctx, checked: &Value, typed: Value) -> Result<(), kinds::status::Status> {
    let generation = checked["metadata"]["generation"].as_i64().unwrap_or(1);
    let uid = checked["metadata"]["uid"].clone();
    let edit = move |policy: &Value| {
        let mut next = policy.clone();
        if policy["metadata"]["uid"] != uid {
            return Ok(next);
        }
        next["status"]["observedGeneration"] = generation.into();
        next["status"]["typeChecking"] = typed.clone();
        Ok(next)
    };
    let options = crate::wire::options::WriteOptions {
        field_manager: "kube-apiserver".into(),
        ..Default::default()
    };
    let edit = crate::rest::transform::Transform::Edit(Box::new(edit));
    update::change(ctx, &edit, Some("status"), &options).await?;
    Ok(())
}

/// What does not fit, each as an `ExpressionWarning`.
pub fn warnings(policy: &Value, registry: &Registry) -> Vec<Value> {
    let spec = &policy["spec"];
    let kinds = named(spec, registry);
    let params = spec["paramKind"].is_object().then(|| {
        let kind = &spec["paramKind"];
        registry
            .find_kind(&text(kind, "apiVersion"), &text(kind, "kind"))
            .map_or(Type::Dyn, |served| type_of(&served))
    });
    let types: Vec<(String, Type)> = kinds.iter().map(|s| (shown(s), type_of(s))).collect();
    let mut found = Vec::new();
    for (i, validation) in list(spec, "validations").enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = text(validation, field);
            if expression.is_empty() {
                continue;
            }
            let faults: Vec<String> = types
                .iter()
                .filter_map(|(shown, ty)| {
                    let env = environment(spec, ty, params.as_ref());
                    let fault = Program::compile(&expression, &env).err()?;
                    Some(format!("{shown}: {fault}\n"))
                })
                .collect();
            if !faults.is_empty() {
                found.push(json!({"fieldRef": format!("spec.validations[{i}].{field}"), "warning": faults.join("\n")}));
            }
        }
    }
    found
}

/// A kind as upstream prints it.
fn shown(served: &Served) -> String {
    format!("{}, Kind={}", served.api_version(), served.kind.kind)
}

/// The kinds that the rules of a policy name one by one. Wildcards and subresources stand for nothing that has a schema.
fn named(spec: &Value, registry: &Registry) -> Vec<Arc<Served>> {
    let mut found: Vec<Arc<Served>> = Vec::new();
    let mut names = BTreeSet::new();
    for rule in list(&spec["matchConstraints"], "resourceRules") {
        let each = |field: &str| -> Vec<String> {
            let texts = list(rule, field).filter_map(Value::as_str);
            texts
                .filter(|t| !t.contains(['*', '/']))
                .map(String::from)
                .collect()
        };
        for group in each("apiGroups") {
            for version in each("apiVersions") {
                for plural in each("resources") {
                    if let Some(served) = registry.find(&group, &version, &plural)
                        && names.len() < MAX_TYPES
                        && names.insert(shown(&served))
                    {
                        found.push(served);
                    }
                }
            }
        }
    }
    found.sort_by_key(|s| shown(s));
    found
}

/// The variables of a policy about objects of a type.
fn environment(spec: &Value, ty: &Type, params: Option<&Type>) -> Env {
    let mut types: Vec<(String, Type)> = Vec::new();
    let with = |types: &[(String, Type)]| {
        let mut env = crate::admission::expressions::composed(params.is_some(), true, types)
            .with("object", ty.clone())
            .with("oldObject", ty.clone());
        if let Some(params) = params {
            env = env.with("params", params.clone());
        }
        env
    };
    for variable in list(spec, "variables") {
        let env = with(&types);
        let compiled = Program::compile(&text(variable, "expression"), &env);
        let ty = compiled.map_or(Type::Dyn, |p| p.result_type().clone());
        types.push((text(variable, "name"), ty));
    }
    with(&types)
}

/// The type of a kind's objects.
fn type_of(served: &Served) -> Type {
    match &served.custom {
        Some(custom) => schema_type(custom.schema(), true).unwrap_or(Type::Dyn),
        None => definition_type(served.kind.schema, 0),
    }
}

fn definition_type(name: &str, depth: usize) -> Type {
    match schema::builtin().definition(name) {
        Some(definition) if depth < MAX_DEPTH => object_type(name, definition, depth + 1),
        _ => Type::Dyn,
    }
}

fn object_type(name: &str, definition: &Definition, depth: usize) -> Type {
    let mut object = ObjectType {
        name: name.to_string(),
        ..ObjectType::default()
    };
    for (json, field) in definition.fields.iter() {
        if let Some(name) = escape(json) {
            let (json, ty) = (json.to_string(), field_type(&field.ty, depth));
            object.fields.insert(name, Field { json, ty });
        }
    }
    Type::Object(Arc::new(object))
}

fn field_type(ty: &schema::Type, depth: usize) -> Type {
    use schema::Type as Of;
    match ty {
        Of::String(format) => match format.as_str() {
            "byte" => Type::Bytes,
            "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        Of::Integer => Type::Int,
        Of::Number => Type::Double,
        Of::Boolean => Type::Bool,
        Of::Quantity => Type::String,
        Of::IntOrString | Of::Any => Type::Dyn,
        Of::Map(of) => Type::map(field_type(of, depth)),
        Of::List(list) => Type::List(Arc::new(field_type(&list.items, depth)), ListKind::Atomic),
        Of::Ref(reference) => definition_type(reference.name(), depth),
        Of::Object(definition) => object_type("object", definition, depth + 1),
    }
}
