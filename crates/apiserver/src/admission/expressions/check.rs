//! Expressions when a webhook configuration or a policy is written: what does not compile is refused.

use super::{composed, environment, mutating};
use cel::{Env, Program, Type};
use kinds::field::{FieldError, Path};
use serde_json::Value;

/// Annotations of one policy.
const MAX_ANNOTATIONS: usize = 20;
/// Bytes of the expression of one.
const MAX_ANNOTATION: usize = 5 * 1024;

/// Checks the expressions of an object of `admissionregistration.k8s.io`.
pub fn check(kind: &str, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            let env = environment(false, true, &[]);
            for (i, hook) in list(object, "webhooks").enumerate() {
                let at = Path::new("webhooks").index(i);
                conditions(hook, &env, &at, &mut errors);
            }
        }
        "ValidatingAdmissionPolicy" => {
            let name = object["metadata"]["name"].as_str().unwrap_or("");
            policy(name, &object["spec"], &mut errors);
        }
        "MutatingAdmissionPolicy" => mutations(&object["spec"], &mut errors),
        _ => {}
    }
    errors
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn conditions(of: &Value, env: &Env, at: &Path, errors: &mut Vec<FieldError>) {
    let at = at.child("matchConditions");
    let mut names: Vec<&str> = Vec::new();
    for (i, condition) in list(of, "matchConditions").enumerate() {
        let at = at.index(i);
        one(condition, "expression", env, &[Type::Bool], "", &at, errors);
        let name = condition["name"].as_str().unwrap_or("");
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else if names.contains(&name) {
            errors.push(FieldError::duplicate(
                &at.child("name"),
                condition["name"].clone(),
            ));
        }
        names.push(name);
    }
}

/// Checks the variables of a policy; answers their names and types.
fn variables(
    spec: &Value,
    env_of: impl Fn(&[(String, Type)]) -> Env,
    at: &Path,
    errors: &mut Vec<FieldError>,
) -> Vec<(String, Type)> {
    let mut names: Vec<(String, Type)> = Vec::new();
    for (i, variable) in list(spec, "variables").enumerate() {
        let (at, name) = (
            at.child("variables").index(i),
            variable["name"].as_str().unwrap_or(""),
        );
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), "name is not specified"));
        }
        // A second one of the same name hides the first.
        let env = env_of(&names);
        let ty = one(
            variable,
            "expression",
            &env,
            &[],
            "expression is not specified",
            &at,
            errors,
        );
        // One without an expression is none.
        let text = variable["expression"].as_str().unwrap_or("");
        if !text.trim().is_empty() {
            names.push((name.to_string(), ty));
        }
    }
    names
}

fn mutations(spec: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("spec");
    let params = spec["paramKind"].is_object();
    conditions(spec, &environment(params, true, &[]), &at, errors);
    let names = variables(spec, |names| mutating(params, names), &at, errors);
    let env = mutating(params, &names);
    if list(spec, "mutations").next().is_none() {
        let why = "mutations must contain at least one item";
        errors.push(FieldError::required(&at.child("mutations"), why));
    }
    for (i, mutation) in list(spec, "mutations").enumerate() {
        let at = at.child("mutations").index(i);
        let (field, other, wanted) = match mutation["patchType"].as_str().unwrap_or("") {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Type::Opaque(cel::OBJECT)),
            "JSONPatch" => {
                let operations = Type::list(Type::Opaque(cel::JSON_PATCH));
                ("jsonPatch", "applyConfiguration", operations)
            }
            "" => {
                errors.push(FieldError::required(&at.child("patchType"), ""));
                continue;
            }
            _ => {
                let known = ["ApplyConfiguration", "JSONPatch"];
                let given = mutation["patchType"].clone();
                errors.push(FieldError::not_supported(&at.child("patchType"), given, &known));
                continue;
            }
        };
        let ty = mutation["patchType"].as_str().unwrap_or("");
        if mutation.get(field).is_none_or(Value::is_null) {
            let why = format!("must be specified when patchType is {ty}");
            errors.push(FieldError::required(&at.child(field), why));
        } else {
            let (text, place) = ("expression", at.child(field));
            one(&mutation[field], text, &env, &[wanted], "", &place, errors);
        }
        if mutation.get(other).is_some_and(Value::is_object) {
            let why = format!("must not be specified when patchType is {ty}");
            let shown = format!("{{{other}}}");
            errors.push(FieldError::invalid(&at.child(other), shown.into(), why));
        }
    }
    match spec["reinvocationPolicy"].as_str().unwrap_or("") {
        "Never" | "IfNeeded" => {}
        "" => errors.push(FieldError::required(&at.child("reinvocationPolicy"), "")),
        _ => {
            let given = spec["reinvocationPolicy"].clone();
            let at = at.child("reinvocationPolicy");
            errors.push(FieldError::not_supported(&at, given, &["IfNeeded", "Never"]));
        }
    }
}

fn policy(policy_name: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("spec");
    let params = spec["paramKind"].is_object();
    conditions(spec, &environment(params, true, &[]), &at, errors);
    let names = variables(spec, |names| composed(params, true, names), &at, errors);
    let some = list(spec, "variables").next().is_some();
    let seen = |authorizer| match some {
        // Not even that there might be some.
        false => environment(params, authorizer, &names),
        true => composed(params, authorizer, &names),
    };
    let (env, without) = (seen(true), seen(false));
    if list(spec, "validations").next().is_none() && list(spec, "auditAnnotations").next().is_none() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required(&at.child("validations"), why));
        errors.push(FieldError::required(&at.child("auditAnnotations"), why));
    }
    for (i, validation) in list(spec, "validations").enumerate() {
        let at = at.child("validations").index(i);
        one(
            validation,
            "expression",
            &env,
            &[Type::Bool],
            "expression is not specified",
            &at,
            errors,
        );
        one(
            validation,
            "messageExpression",
            &without,
            &[Type::String],
            OPTIONAL,
            &at,
            errors,
        );
    }
    annotations(spec, policy_name, &env, &at.child("auditAnnotations"), errors);
}

fn annotations(spec: &Value, policy_name: &str, env: &Env, at: &Path, errors: &mut Vec<FieldError>) {
    let mut keys: Vec<&str> = Vec::new();
    if list(spec, "auditAnnotations").count() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(at, spec["auditAnnotations"].clone(), why));
    }
    for (i, annotation) in list(spec, "auditAnnotations").enumerate() {
        let at = at.index(i);
        let key = annotation["key"].as_str().unwrap_or("");
        let place = at.child("key");
        if policy_name.is_empty() {
            let why = "requires metadata.name be non-empty";
            errors.push(FieldError::invalid(&place, key.into(), why));
        } else {
            let whole = format!("{policy_name}/{key}");
            for why in kinds::names::qualified_name(&whole) {
                errors.push(FieldError::invalid(&place, whole.clone().into(), why));
            }
        }
        let long = annotation["valueExpression"]
            .as_str()
            .is_some_and(|text| text.trim().len() > MAX_ANNOTATION);
        if long {
            let why = format!("must not exceed {MAX_ANNOTATION} bytes in length");
            errors.push(FieldError::required(&at.child("valueExpression"), why));
        } else {
            let wanted = [Type::String, Type::Null];
            let missing = "valueExpression is not specified";
            one(annotation, "valueExpression", env, &wanted, missing, &at, errors);
        }
        if keys.contains(&key) {
            errors.push(FieldError::duplicate(&place, key.into()));
        }
        keys.push(key);
    }
}

/// An expression need not be there.
const OPTIONAL: &str = "-";

/// Checks one expression; answers its type. `missing`: the words when it is not there.
fn one(
    of: &Value,
    field: &str,
    env: &Env,
    wanted: &[Type],
    missing: &str,
    at: &Path,
    errors: &mut Vec<FieldError>,
) -> Type {
    let at = at.child(field);
    let text = of.get(field).and_then(Value::as_str).unwrap_or("");
    if text.trim().is_empty() {
        if missing != OPTIONAL {
            errors.push(FieldError::required(&at, missing));
        }
        return Type::Dyn;
    }
    match Program::compile(text, env) {
        Err(error) => {
            let why = format!("compilation failed: {error}");
            errors.push(FieldError::invalid(&at, of[field].clone(), why));
            Type::Dyn
        }
        Ok(program) => {
            let ty = program.result_type();
            if !wanted.is_empty() && !wanted.contains(ty) {
                let got = ty.formal();
                let why = match wanted {
                    [only] => format!("must evaluate to {only} but got {got}"),
                    many => {
                        let names: Vec<String> = many.iter().map(Type::formal).collect();
                        format!("must evaluate to one of [{}] but got {got}", names.join(" "))
                    }
                };
                errors.push(FieldError::invalid(&at, of[field].clone(), why));
            } else if let Some(fault) = program.fault() {
                let why = format!("program instantiation failed: {fault}");
                errors.push(FieldError::internal(&at, why));
            }
            ty.clone()
        }
    }
}
