//! Expressions when a webhook configuration or a policy is written: what does not compile is refused.

use super::{environment, mutating};
use cel::{Env, Program, Type};
use kinds::field::{FieldError, Path};
use serde_json::Value;

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
        "ValidatingAdmissionPolicy" => policy(&object["spec"], &mut errors),
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
        one(condition, "expression", env, &[Type::Bool], true, &at, errors);
    }
}

/// Checks the variables of a policy; answers their names.
fn variables(
    spec: &Value,
    env_of: impl Fn(&[String]) -> Env,
    at: &Path,
    errors: &mut Vec<FieldError>,
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, variable) in list(spec, "variables").enumerate() {
        let (at, name) = (
            at.child("variables").index(i),
            variable["name"].as_str().unwrap_or(""),
        );
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), "name is not specified"));
        } else if names.iter().any(|n| n == name) {
            errors.push(FieldError::duplicate(&at.child("name"), variable["name"].clone()));
        }
        let env = env_of(&names);
        one(variable, "expression", &env, &[], true, &at, errors);
        names.push(name.to_string());
    }
    names
}

fn mutations(spec: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("spec");
    let params = spec["paramKind"].is_object();
    let names = variables(spec, |names| mutating(params, names), &at, errors);
    let env = mutating(params, &names);
    conditions(spec, &env, &at, errors);
    if list(spec, "mutations").next().is_none() {
        errors.push(FieldError::required(&at.child("mutations"), ""));
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
        if mutation.get(field).is_none_or(Value::is_null) {
            let why = format!(
                "must be specified when patchType is {}",
                mutation["patchType"].as_str().unwrap_or("")
            );
            errors.push(FieldError::required(&at.child(field), why));
            continue;
        }
        if mutation.get(other).is_some_and(Value::is_object) {
            let why = format!(
                "must not be specified when patchType is {}",
                mutation["patchType"].as_str().unwrap_or("")
            );
            errors.push(FieldError::invalid(
                &at.child(other),
                mutation[other].clone(),
                why,
            ));
        }
        one(
            &mutation[field],
            "expression",
            &env,
            &[wanted],
            true,
            &at.child(field),
            errors,
        );
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

fn policy(spec: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("spec");
    let params = spec["paramKind"].is_object();
    let names = variables(spec, |names| environment(params, true, names), &at, errors);
    let env = environment(params, true, &names);
    let without = environment(params, false, &names);
    conditions(spec, &env, &at, errors);
    if list(spec, "validations").next().is_none() && list(spec, "auditAnnotations").next().is_none() {
        let why = "validations or auditAnnotations must be set";
        errors.push(FieldError::required(&at.child("validations"), why));
    }
    for (i, validation) in list(spec, "validations").enumerate() {
        let at = at.child("validations").index(i);
        one(validation, "expression", &env, &[Type::Bool], true, &at, errors);
        one(
            validation,
            "messageExpression",
            &without,
            &[Type::String],
            false,
            &at,
            errors,
        );
    }
    for (i, annotation) in list(spec, "auditAnnotations").enumerate() {
        let at = at.child("auditAnnotations").index(i);
        one(
            annotation,
            "valueExpression",
            &env,
            &[Type::String, Type::Null],
            true,
            &at,
            errors,
        );
    }
}

fn one(
    of: &Value,
    field: &str,
    env: &Env,
    wanted: &[Type],
    required: bool,
    at: &Path,
    errors: &mut Vec<FieldError>,
) {
    let at = at.child(field);
    let text = of.get(field).and_then(Value::as_str).unwrap_or("");
    if text.trim().is_empty() {
        if required {
            errors.push(FieldError::required(&at, format!("{field} is not specified")));
        }
        return;
    }
    match Program::compile(text, env) {
        Err(error) => {
            let why = format!("compilation failed: {error}");
            errors.push(FieldError::invalid(&at, of[field].clone(), why));
        }
        Ok(program) => {
            let ty = program.result_type();
            if ty.is_dyn() || wanted.is_empty() || wanted.contains(ty) {
                return;
            }
            let why = match wanted {
                [only] => format!("must evaluate to {only}"),
                many => {
                    let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                    format!("must evaluate to one of the types: [{}]", names.join(" "))
                }
            };
            errors.push(FieldError::invalid(&at, of[field].clone(), why));
        }
    }
}
