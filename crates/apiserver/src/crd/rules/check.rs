//! Rules when a definition is written: what does not compile is refused, with the place of the mistake.

use super::sizes::{Often, SchemaSizes};
use super::{environment, schema_type, text};
use cel::{Program, Type};
use kinds::field::{FieldError, Path, json_text};
use serde_json::{Value, json};

/// Reasons that a rule may give.
const REASONS: [&str; 4] = [
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
];

/// What one rule may cost at most, as often as it can be applied to one object.
const RULE_COST: u64 = 10_000_000;
/// What all rules of a schema may cost at most.
const TOTAL_COST: u64 = 100_000_000;
/// Rules named when all together cost too much.
const MOST_EXPENSIVE: usize = 4;

/// What the rules of one schema cost at most.
#[derive(Default)]
struct Costs {
    total: u64,
    /// Each with its place.
    each: Vec<(u64, Path)>,
}

impl Costs {
    /// Takes in a rule; refuses one that costs too much by itself.
    fn add(&mut self, what: &str, cost: u64, at: Path, errors: &mut Vec<FieldError>) {
        if cost > RULE_COST {
            errors.push(FieldError::forbidden(&at, too_much(what, cost, RULE_COST)));
        }
        self.total = self.total.saturating_add(cost);
        self.each.push((cost, at));
    }

    /// Refuses rules that together cost too much, and names the most expensive.
    fn judge(mut self, at: &Path, errors: &mut Vec<FieldError>) {
        if self.total <= TOTAL_COST {
            return;
        }
        self.each.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, place) in self.each.iter().take(MOST_EXPENSIVE) {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(place, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(at, too_much(what, self.total, TOTAL_COST)));
    }
}

fn too_much(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_string(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, \
         and maxLength where arrays, maps, and strings are declared)"
    )
}

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
        let at = at.child("openAPIV3Schema");
        let mut costs = Costs::default();
        let here = Here {
            root: true,
            lost: None,
            often: Often::ONCE,
        };
        walk(schema, schema, here, &at, &mut costs, &mut errors);
        costs.judge(&at, &mut errors);
        if same {
            break;
        }
    }
    errors
}

/// What is known of a place in a schema.
#[derive(Clone, Copy)]
struct Here<'p> {
    /// The schema is that of the whole object.
    root: bool,
    /// Where on the way here the present value got lost, so that `oldSelf` has no meaning.
    lost: Option<&'p Path>,
    /// How often a value can stand here.
    often: Often,
}

fn walk(
    rules: &Value,
    schema: &Value,
    here: Here<'_>,
    at: &Path,
    costs: &mut Costs,
    errors: &mut Vec<FieldError>,
) {
    let embedded = here.root || schema["x-kubernetes-embedded-resource"] == true;
    let listed = rules.get("x-kubernetes-validations").and_then(Value::as_array);
    if let Some(listed) = listed {
        let ty = schema_type(schema, embedded);
        for (i, rule) in listed.iter().enumerate() {
            let place = at.child("x-kubernetes-validations").index(i);
            one(rule, ty.as_ref(), schema, here, &place, costs, errors);
        }
    }
    let (lost, below) = (here.lost, here.often.below(schema));
    let child = |lost, often| Here {
        root: false,
        lost,
        often,
    };
    for (name, property) in rules["properties"].as_object().into_iter().flatten() {
        let own = schema["properties"].get(name).unwrap_or(property);
        let place = at.child("properties").key(name);
        let lost_here = match schema["x-kubernetes-map-type"] == "atomic" {
            true => lost.or(Some(at)),
            false => lost,
        };
        walk(property, own, child(lost_here, here.often), &place, costs, errors);
    }
    if let Some(items) = rules.get("items").filter(|i| i.is_object()) {
        let own = schema.get("items").unwrap_or(items);
        let place = at.child("items");
        let lost_here = match schema["x-kubernetes-list-type"] == "map" {
            true => lost,
            false => lost.or(Some(at)),
        };
        walk(items, own, child(lost_here, below), &place, costs, errors);
    }
    if let Some(values) = rules.get("additionalProperties").filter(|a| a.is_object()) {
        let own = schema.get("additionalProperties").unwrap_or(values);
        let place = at.child("additionalProperties");
        walk(values, own, child(lost, below), &place, costs, errors);
    }
    for (i, part) in rules["allOf"].as_array().into_iter().flatten().enumerate() {
        walk(part, schema, here, &at.child("allOf").index(i), costs, errors);
    }
}

/// Whether a path, `.a.b` or `.a['b']`, leads to a field of a schema.
fn leads_somewhere(schema: &Value, path: &str) -> bool {
    let (mut here, mut rest) = (schema, path);
    while !rest.is_empty() {
        let step;
        if let Some(after) = rest.strip_prefix("['") {
            let Some((name, after)) = after.split_once("']") else {
                return false;
            };
            (step, rest) = (name, after);
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            (step, rest) = after.split_at(end.unwrap_or(after.len()));
        } else {
            return false;
        }
        let below = here["properties"].get(step);
        let more = here.get("additionalProperties").filter(|more| more.is_object());
        match below.or(more) {
            Some(schema) if !step.is_empty() => here = schema,
            _ => return false,
        }
    }
    true
}

fn one(
    rule: &Value,
    ty: Option<&Type>,
    schema: &Value,
    here: Here<'_>,
    at: &Path,
    costs: &mut Costs,
    errors: &mut Vec<FieldError>,
) {
    let lost = here.lost;
    let cost_of = |program: &Program| {
        let each = program.most_cost(&SchemaSizes(schema));
        each.saturating_mul(here.often.times(schema))
    };
    // Upstream prints the rule as it has it inside.
    let shown = format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        json_text(&json!(rule["rule"].as_str().unwrap_or(""))),
        json_text(&json!(rule["message"].as_str().unwrap_or(""))),
        json_text(&json!(rule["messageExpression"].as_str().unwrap_or(""))),
        json_text(&rule["reason"]),
        json_text(&json!(rule["fieldPath"].as_str().unwrap_or(""))),
        rule["optionalOldSelf"],
    );
    let wrong = |field: &str, why: &str| FieldError::invalid_shown(&at.child(field), &shown, why);
    let (expression, message) = (text(rule, "rule"), text(rule, "message"));
    let before = errors.len();
    let invalid = |field: &str, value: Value, why: String| FieldError::invalid(&at.child(field), value, why);
    let path = text(rule, "fieldPath");
    if !path.is_empty() && !leads_somewhere(schema, &path) {
        errors.push(invalid("fieldPath", path.into(), "must be a valid path".into()));
    }
    if expression.is_empty() {
        errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
        return;
    }
    if rule.get("message").is_some_and(|m| m.is_string()) && message.is_empty() {
        let why = "message must be non-empty if specified";
        errors.push(invalid("message", rule["message"].clone(), why.into()));
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
    // What is not well-formed is not compiled.
    if errors.len() > before {
        return;
    }
    let expression = rule["rule"].as_str().unwrap_or("");
    let env = environment(ty.unwrap_or(&Type::Dyn), rule["optionalOldSelf"] == true);
    match Program::compile(expression, &env) {
        Err(error) => errors.push(wrong("rule", &format!("compilation failed: {error}"))),
        Ok(program) if *program.result_type() != Type::Bool => {
            errors.push(wrong("rule", "cel expression must evaluate to a bool"));
        }
        Ok(program) => {
            costs.add("estimated rule cost", cost_of(&program), at.child("rule"), errors);
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
    let expression = rule["messageExpression"].as_str().unwrap_or("");
    if expression.is_empty() {
        return;
    }
    match Program::compile(expression, &env) {
        Err(error) => {
            let why = format!("messageExpression compilation failed: {error}");
            errors.push(wrong("messageExpression", &why));
        }
        Ok(program) if *program.result_type() != Type::String => {
            let why = "messageExpression must evaluate to a string";
            errors.push(wrong("messageExpression", why));
        }
        Ok(program) => {
            let (what, place) = ("estimated messageExpression cost", at.child("messageExpression"));
            costs.add(what, cost_of(&program), place, errors);
        }
    }
}
