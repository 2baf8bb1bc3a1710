//! Rules when a definition is written: what does not compile is refused, with the place of the mistake.

use super::super::fieldpath;
use super::super::shown;
use super::super::structural::has_unsupported;
use super::sizes::{Often, SchemaSizes};
use super::{environment, schema_type, text};
use cel::{Env, Program, Type};
use kinds::field::{FieldError, Path};
use serde_json::Value;

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
    /// Those that count, each with its place.
    each: Vec<(u64, Path)>,
}

impl Costs {
    /// Takes in a rule; refuses one that costs too much by itself.
    fn add(&mut self, what: &str, cost: u64, at: Path, errors: &mut Vec<FieldError>) {
        if cost > RULE_COST {
            errors.push(FieldError::forbidden(&at, too_much(what, cost, RULE_COST)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= TOTAL_COST / 100 {
            self.each.push((cost, at));
        }
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

/// What is known of the rules of a schema so far.
struct Judged<'f> {
    costs: Costs,
    /// What is wrong with the schema and the form of its rules. A rule is compiled when nothing is, at its place or below.
    faults: &'f [FieldError],
    /// What is wrong with the expressions.
    errors: Vec<FieldError>,
}

impl Judged<'_> {
    fn has_fault_below(&self, at: &Path) -> bool {
        let is_below = |fault: &FieldError| {
            let rest = fault.path.as_str().strip_prefix(at.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.faults.iter().any(is_below)
    }
}

/// Compiles all rules of a structural schema, in which `faults` have been found already.
pub fn check(schema: &Value, at: &Path, faults: &[FieldError]) -> Vec<FieldError> {
    let mut judged = Judged {
        costs: Costs::default(),
        faults,
        errors: Vec::new(),
    };
    let here = Here {
        root: true,
        lost: None,
        often: Often::ONCE,
        untyped: false,
    };
    walk(schema, here, at, &mut judged);
    judged.costs.judge(at, &mut judged.errors);
    judged.errors
}

/// Checks what can be seen of the rules of a schema without compiling them.
pub fn check_form(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (rule, place) in rules_of(schema, at) {
        form(rule, schema, &place, errors);
    }
}

/// The rules of a schema, with their places.
fn rules_of<'s>(schema: &'s Value, at: &Path) -> Vec<(&'s Value, Path)> {
    let listed = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten();
    let place = |i: usize| at.child("x-kubernetes-validations").index(i);
    listed.enumerate().map(|(i, rule)| (rule, place(i))).collect()
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
    /// Nobody knows the type of something with rules on the way here.
    untyped: bool,
}

fn walk(schema: &Value, here: Here<'_>, at: &Path, judged: &mut Judged<'_>) {
    let (lost, below) = (here.lost, here.often.below(schema));
    let listed = rules_of(schema, at);
    let embedded = here.root || schema["x-kubernetes-embedded-resource"] == true;
    let ty = match listed.is_empty() || here.untyped {
        true => None,
        false => schema_type(schema, embedded),
    };
    let child = |lost, often| Here {
        root: false,
        lost,
        often,
        untyped: here.untyped || (!listed.is_empty() && ty.is_none()),
    };
    let values = &schema["additionalProperties"];
    if values.is_object() {
        let place = at.child("additionalProperties");
        walk(values, child(lost, below), &place, judged);
    }
    // Of maps of a sort that is not known, nothing is either.
    let lost_fields = match schema["x-kubernetes-map-type"].as_str() {
        None | Some("granular" | "atomic") => lost,
        Some(_) => lost.or(Some(at)),
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = at.child("properties").key(name);
        walk(property, child(lost_fields, here.often), &place, judged);
    }
    if schema["items"].is_object() {
        let lost_items = match schema["x-kubernetes-list-type"] == "map" {
            true => lost,
            false => lost.or(Some(at)),
        };
        walk(
            &schema["items"],
            child(lost_items, below),
            &at.child("items"),
            judged,
        );
    }
    if listed.is_empty() || judged.has_fault_below(at) {
        return;
    }
    let Some(ty) = ty else {
        let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to \
                   convert structural schema to CEL declarations";
        let place = at.child("x-kubernetes-validations");
        judged.errors.push(FieldError::internal(&place, why));
        return;
    };
    for (rule, place) in listed {
        one(rule, &ty, schema, here, &place, judged);
    }
}

/// Checks what can be seen of a rule without compiling it.
fn form(rule: &Value, schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let given = |field: &str| rule[field].as_str().unwrap_or("");
    let is_broken = |text: &str| text.contains(['\n', '\r']);
    let is_blank = |field: &str| !given(field).is_empty() && given(field).trim().is_empty();
    let (expression, message) = (text(rule, "rule"), text(rule, "message"));
    let invalid = |field: &str, why: &str| FieldError::invalid(&at.child(field), rule[field].clone(), why);
    if expression.is_empty() {
        errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
    } else if is_blank("message") {
        errors.push(invalid("message", "must be non-empty if specified"));
    } else if is_broken(&message) {
        errors.push(invalid("message", "must not contain line breaks"));
    } else if is_broken(&expression) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(&at.child("message"), why));
    }
    if is_blank("messageExpression") {
        let why = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&at.child("messageExpression"), why));
    }
    if !given("reason").is_empty() && !REASONS.contains(&given("reason")) {
        let place = at.child("reason");
        errors.push(FieldError::not_supported(
            &place,
            rule["reason"].clone(),
            &REASONS,
        ));
    }
    let path = given("fieldPath");
    if is_blank("fieldPath") {
        errors.push(invalid("fieldPath", "must be non-empty if specified"));
    }
    if is_broken(path) {
        errors.push(invalid("fieldPath", "must not contain line breaks"));
    }
    if !path.is_empty() && !has_unsupported(schema) && fieldpath::follow(path, schema, true).is_err() {
        errors.push(invalid("fieldPath", "must be a valid path"));
    }
}

/// Compiles a rule.
fn one(rule: &Value, ty: &Type, schema: &Value, here: Here<'_>, at: &Path, judged: &mut Judged<'_>) {
    let Judged { costs, errors, .. } = judged;
    let cost_of = |program: &Program| {
        let each = program.most_cost(&SchemaSizes(schema));
        each.saturating_mul(here.often.times(schema))
    };
    let shown = shown::rule(rule);
    let wrong = |field: &str, why: &str| FieldError::invalid_shown(&at.child(field), &shown, why);
    let invalid = |field: &str, why: &str| FieldError::invalid(&at.child(field), rule[field].clone(), why);
    let env = environment(ty, rule["optionalOldSelf"] == true);
    let (program, fault) = made(&rule["rule"], &env, |ty| match ty {
        Type::Bool => Ok(()),
        _ => Err("cel expression must evaluate to a bool"),
    });
    let (place, is_broken) = (at.child("rule"), fault.is_some());
    match (&program, fault) {
        (_, Some(fault)) => errors.push(wrong("rule", &fault)),
        (Some(program), None) => costs.add("estimated rule cost", cost_of(program), place, errors),
        (None, None) => {}
    }
    // Of a rule that is broken the message is not looked at.
    if !is_broken && !text(rule, "messageExpression").is_empty() {
        let (program, fault) = made(&rule["messageExpression"], &env, |ty| match ty {
            Type::String => Ok(()),
            _ => Err("must evaluate to a string"),
        });
        let place = at.child("messageExpression");
        match (&program, fault) {
            (_, Some(fault)) => {
                let why = format!("messageExpression {}", fault.trim_start_matches("program "));
                errors.push(wrong("messageExpression", &why));
            }
            (Some(program), None) => {
                // It counts once, however often values stand here.
                let cost = program.most_cost(&SchemaSizes(schema));
                costs.add("estimated messageExpression cost", cost, place, errors);
            }
            (None, None) => {}
        }
    }
    let uses_old = program.is_some_and(|program| program.uses("oldSelf"));
    if let (true, Some(place)) = (uses_old, here.lost) {
        let why =
            format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {place}");
        errors.push(invalid("rule", &why));
    }
    if !rule["optionalOldSelf"].is_null() && !uses_old {
        let why = "may not be set if oldSelf is not used in rule";
        errors.push(invalid("optionalOldSelf", why));
    }
}

/// Makes a program of an expression whose type is judged by `wanted`: what could be compiled, and what is wrong with it.
fn made(
    expression: &Value,
    env: &Env,
    wanted: impl Fn(&Type) -> Result<(), &'static str>,
) -> (Option<Program>, Option<String>) {
    match Program::compile(expression.as_str().unwrap_or(""), env) {
        Err(error) => (None, Some(format!("compilation failed: {error}"))),
        Ok(program) => match wanted(program.result_type()) {
            Err(why) => (None, Some(why.to_owned())),
            Ok(()) => {
                let fault = program.fault();
                let fault = fault.map(|fault| format!("program instantiation failed: {fault}"));
                (Some(program), fault)
            }
        },
    }
}
