//! Rules when a definition is written: what does not compile is refused, with the place of the mistake.

use super::{environment, schema_type, text};
use cel::{Program, Type};
use kinds::field::{FieldError, Path};
use serde_json::Value;

/// Reasons that a rule may give.
const REASONS: [&str; 4] = [
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
];
/// Bytes of a written message at most.
const MESSAGE: usize = 2048;

/// Checks all rules of a definition.
pub fn check(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let versions: Vec<&Value> = versions.into_iter().flatten().collect();
    let same = versions
        .windows(2)
        .all(|pair| pair[0]["schema"] == pair[1]["schema"]);
    for (i, version) in versions.iter().enumerate() {
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else {
            continue;
        };
        // Upstream keeps one schema when all versions have the same, and names it so.
        let at = match same {
            true => Path::new("spec").child("validation"),
            false => Path::new("spec").child("versions").index(i).child("schema"),
        };
        walk(
            schema,
            schema,
            true,
            None,
            &at.child("openAPIV3Schema"),
            &mut errors,
        );
        if same {
            break;
        }
    }
    errors
}

/// `lost`: where on the way here the present value got lost, so that `oldSelf` has no meaning.
fn walk(
    rules: &Value,
    schema: &Value,
    root: bool,
    lost: Option<&Path>,
    at: &Path,
    errors: &mut Vec<FieldError>,
) {
    let embedded = root || schema["x-kubernetes-embedded-resource"] == true;
    let listed = rules.get("x-kubernetes-validations").and_then(Value::as_array);
    if let Some(listed) = listed {
        let ty = schema_type(schema, embedded);
        for (i, rule) in listed.iter().enumerate() {
            one(
                rule,
                ty.as_ref(),
                lost,
                &at.child("x-kubernetes-validations").index(i),
                errors,
            );
        }
    }
    for (name, property) in rules["properties"].as_object().into_iter().flatten() {
        let own = schema["properties"].get(name).unwrap_or(property);
        let place = at.child("properties").key(name);
        let lost_here = match schema["x-kubernetes-map-type"] == "atomic" {
            true => lost.or(Some(at)),
            false => lost,
        };
        walk(property, own, false, lost_here, &place, errors);
    }
    if let Some(items) = rules.get("items").filter(|i| i.is_object()) {
        let own = schema.get("items").unwrap_or(items);
        let place = at.child("items");
        let lost_here = match schema["x-kubernetes-list-type"] == "map" {
            true => lost,
            false => lost.or(Some(at)),
        };
        walk(items, own, false, lost_here, &place, errors);
    }
    if let Some(values) = rules.get("additionalProperties").filter(|a| a.is_object()) {
        let own = schema.get("additionalProperties").unwrap_or(values);
        walk(
            values,
            own,
            false,
            lost,
            &at.child("additionalProperties"),
            errors,
        );
    }
    for (i, part) in rules["allOf"].as_array().into_iter().flatten().enumerate() {
        walk(part, schema, root, lost, &at.child("allOf").index(i), errors);
    }
}

fn one(rule: &Value, ty: Option<&Type>, lost: Option<&Path>, at: &Path, errors: &mut Vec<FieldError>) {
    let (expression, message) = (text(rule, "rule"), text(rule, "message"));
    let invalid = |field: &str, value: Value, why: String| FieldError::invalid(&at.child(field), value, why);
    if expression.is_empty() {
        errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
        return;
    }
    if rule.get("message").is_some_and(|m| m.is_string()) && message.is_empty() {
        let why = "message must be non-empty if specified";
        errors.push(invalid("message", rule["message"].clone(), why.into()));
    } else if message.len() > MESSAGE {
        errors.push(invalid(
            "message",
            rule["message"].clone(),
            format!("message must have a maximum length of {MESSAGE} characters"),
        ));
    } else if message.contains('\n') {
        errors.push(invalid(
            "message",
            rule["message"].clone(),
            "message must not contain line breaks".into(),
        ));
    } else if expression.contains('\n') && message.is_empty() {
        errors.push(FieldError::required(
            &at.child("message"),
            "message must be specified if rule contains line breaks",
        ));
    }
    let reason = text(rule, "reason");
    if !reason.is_empty() && !REASONS.contains(&reason.as_str()) {
        errors.push(FieldError::not_supported(
            &at.child("reason"),
            rule["reason"].clone(),
            &REASONS,
        ));
    }
    let env = environment(ty.unwrap_or(&Type::Dyn), rule["optionalOldSelf"] == true);
    match Program::compile(&expression, &env) {
        Err(error) => errors.push(invalid(
            "rule",
            rule.clone(),
            format!("compilation failed: {error}"),
        )),
        Ok(program) if !matches!(program.result_type(), Type::Bool | Type::Dyn) => {
            errors.push(invalid(
                "rule",
                rule.clone(),
                "cel expression must evaluate to a bool".into(),
            ));
        }
        Ok(program) => {
            if let (true, Some(place)) = (program.uses("oldSelf"), lost) {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                );
                errors.push(invalid("rule", rule["rule"].clone(), why));
            }
            if rule["optionalOldSelf"] == true && !program.uses("oldSelf") {
                let why = "may not be set if oldSelf is not used in rule";
                errors.push(invalid(
                    "optionalOldSelf",
                    rule["optionalOldSelf"].clone(),
                    why.into(),
                ));
            }
        }
    }
    let expression = text(rule, "messageExpression");
    if expression.is_empty() {
        return;
    }
    match Program::compile(&expression, &env) {
        Err(error) => {
            let why = format!("messageExpression compilation failed: {error}");
            errors.push(invalid("messageExpression", rule.clone(), why));
        }
        Ok(program) if !matches!(program.result_type(), Type::String | Type::Dyn) => {
            let why = "messageExpression must evaluate to a string";
            errors.push(invalid("messageExpression", rule.clone(), why.into()));
        }
        Ok(_) => {}
    }
}
