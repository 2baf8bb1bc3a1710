//! `x-kubernetes-validations`: the CEL rules of a structural schema, compiled once for a version of a definition and
//! evaluated on every write of its objects, under one cost budget for each object.
//!
//! Rules see `self`, and `oldSelf` where the present value at the same place is known: not below lists, except those
//! with keys. What failed before and did not change is told as a warning only (ratcheting).

mod check;
mod sizes;
mod types;

pub use check::{check, check_form};
pub use types::schema_type;

use super::fieldpath;
use cel::{Env, EvalError, Program, Type, Value};
use kinds::field::{ErrorType, FieldError, Path};
use serde_json::Value as Json;

/// What one rule may cost.
const CALL_LIMIT: u64 = 1_000_000;
/// What all rules together may cost for one object.
const BUDGET: u64 = 10_000_000;
/// Bytes of an evaluated message at most.
const MESSAGE: usize = 5 * 1024;

/// The rules at one place of a schema and below it.
pub struct Node {
    ty: Type,
    /// Nobody knows what values are here, so that nothing can be said of them.
    is_untyped: bool,
    json_type: String,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    /// Keys by which items are told apart; `None` for lists without.
    keys: Option<Vec<String>>,
    properties: Vec<(String, Node)>,
    additional: Option<Box<Node>>,
    all_of: Vec<Node>,
}

/// One rule.
struct Rule {
    text: String,
    program: Result<Program, String>,
    /// What is said instead of the rule; nothing, where that is blank.
    message: Option<String>,
    message_expression: Option<Program>,
    reason: String,
    field_path: String,
    optional_old: bool,
    uses_old: bool,
}

fn text(value: &Json, field: &str) -> String {
    value
        .get(field)
        .and_then(Json::as_str)
        .unwrap_or("")
        .trim()
        .to_string()
}

/// The variables of a rule.
fn environment(ty: &Type, optional_old: bool) -> Env {
    let old = match optional_old {
        true => Type::Optional(std::sync::Arc::new(ty.clone())),
        false => ty.clone(),
    };
    Env::new().with("self", ty.clone()).with("oldSelf", old)
}

impl Rule {
    fn new(rule: &Json, schema: &Json, ty: &Type) -> Rule {
        let optional_old = rule["optionalOldSelf"] == true;
        let env = environment(ty, optional_old);
        let program = Program::compile(&text(rule, "rule"), &env)
            .map_err(|why| format!("compilation failed: {why}"))
            .and_then(|program| match program.result_type() {
                Type::Bool => Ok(program),
                _ => Err("cel expression must evaluate to a bool".to_owned()),
            });
        let message_expression = match text(rule, "messageExpression") {
            empty if empty.is_empty() => None,
            // What does not compile was refused when the definition was written.
            expression => Program::compile(&expression, &env).ok(),
        };
        Rule {
            uses_old: program.as_ref().is_ok_and(|p| p.uses("oldSelf")),
            text: text(rule, "rule"),
            program,
            message: (!rule["message"].as_str().unwrap_or("").is_empty()).then(|| text(rule, "message")),
            message_expression,
            reason: text(rule, "reason"),
            field_path: fieldpath::follow(rule["fieldPath"].as_str().unwrap_or(""), schema, true)
                .map_or_else(|_| String::new(), |(path, _)| path.as_str().to_owned()),
            optional_old,
        }
    }

    /// How messages name the rule.
    fn shown(&self) -> &str {
        self.message.as_deref().unwrap_or(&self.text)
    }
}

impl Node {
    /// Compiles the rules of a schema; `None` when it has none.
    pub fn new(schema: &Json, root: bool) -> Option<Node> {
        let ty = schema_type(schema, root || schema["x-kubernetes-embedded-resource"] == true);
        Node::at(schema, schema, ty)
    }

    /// Rules of `rules` about values that `schema` describes: the same, but below `allOf`.
    fn at(rules: &Json, schema: &Json, ty: Option<Type>) -> Option<Node> {
        let list = |field: &str| rules.get(field).and_then(Json::as_array).into_iter().flatten();
        let typed = ty.clone().unwrap_or(Type::Dyn);
        let child = |rules: &Json, schema: &Json| {
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            Node::at(rules, schema, schema_type(schema, embedded))
        };
        let mut properties = Vec::new();
        for (name, property) in rules["properties"].as_object().into_iter().flatten() {
            if let Some(node) = schema["properties"]
                .get(name)
                .and_then(|schema| child(property, schema))
            {
                properties.push((name.clone(), node));
            }
        }
        let below = |field: &str| match (rules.get(field), schema.get(field)) {
            (Some(rules), Some(schema)) if rules.is_object() && schema.is_object() => {
                child(rules, schema).map(Box::new)
            }
            _ => None,
        };
        let keys = schema["x-kubernetes-list-map-keys"].as_array();
        let keys = keys.filter(|_| schema["x-kubernetes-list-type"] == "map");
        let node = Node {
            is_untyped: ty.is_none(),
            rules: list("x-kubernetes-validations")
                .map(|r| Rule::new(r, schema, &typed))
                .collect(),
            items: below("items"),
            additional: below("additionalProperties"),
            all_of: list("allOf")
                .filter_map(|part| Node::at(part, schema, ty.clone()))
                .collect(),
            properties,
            keys: keys.map(|k| k.iter().filter_map(|k| k.as_str().map(String::from)).collect()),
            json_type: text(schema, "type"),
            ty: typed,
        };
        let empty = node.rules.is_empty()
            && node.items.is_none()
            && node.additional.is_none()
            && node.all_of.is_empty()
            && node.properties.is_empty();
        (!empty).then_some(node)
    }

    /// Checks an object. Faults of other kinds come first: an object that is malformed is not judged by rules.
    pub fn validate(&self, object: &Json, old: Option<&Json>, errors: &mut Vec<FieldError>) -> Vec<String> {
        let blocks = |e: &FieldError| {
            matches!(
                e.ty,
                ErrorType::NotSupported
                    | ErrorType::Required
                    | ErrorType::TooLong
                    | ErrorType::TooMany
                    | ErrorType::TypeInvalid
            )
        };
        if errors.iter().any(blocks) {
            errors.push(FieldError::invalid(
                &Path::root(),
                Json::Null,
                "some validation rules were not checked because the object was invalid; correct the existing errors \
                 to complete validation",
            ));
            return Vec::new();
        }
        let mut judge = Judge::new(errors, true);
        let unchanged = old == Some(object);
        judge.node(self, object, old, unchanged, &Path::root());
        judge.warnings
    }

    /// Checks a default: as what was there before, and, if that is well, as what is new.
    pub fn validate_default(&self, default: &Json, at: &Path) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for old in [Some(default), None] {
            if errors.is_empty() {
                Judge::new(&mut errors, false).node(self, default, old, false, at);
            }
        }
        errors
    }
}

struct Judge<'e> {
    errors: &'e mut Vec<FieldError>,
    /// What is as it was before is only warned of.
    forgiving: bool,
    warnings: Vec<String>,
    budget: u64,
    /// The budget is used up: nothing more is evaluated.
    spent: bool,
}

impl<'e> Judge<'e> {
    fn new(errors: &'e mut Vec<FieldError>, forgiving: bool) -> Judge<'e> {
        Judge {
            errors,
            forgiving,
            warnings: Vec::new(),
            budget: BUDGET,
            spent: false,
        }
    }

    /// `unchanged`: the value, or what it stands in, is what was there before.
    fn node(&mut self, node: &Node, value: &Json, old: Option<&Json>, unchanged: bool, at: &Path) {
        if value.is_null() || self.spent {
            return;
        }
        let unchanged = unchanged || old == Some(value);
        self.rules(node, value, old, unchanged, at);
        for part in &node.all_of {
            self.node(part, value, old, unchanged, at);
        }
        match value {
            Json::Object(fields) => {
                let before = |name: &str| old.and_then(|o| o.get(name));
                for (name, child) in &node.properties {
                    if let Some(value) = fields.get(name) {
                        self.node(child, value, before(name), unchanged, &at.child(name));
                    }
                }
                if let Some(child) = &node.additional {
                    for (name, value) in fields {
                        self.node(child, value, before(name), unchanged, &at.key(name));
                    }
                }
            }
            Json::Array(items) => {
                let Some(child) = &node.items else { return };
                let before = |item: &Json| {
                    let keys = node.keys.as_ref()?;
                    let list = old?.as_array()?;
                    list.iter().find(|o| keys.iter().all(|k| o.get(k) == item.get(k)))
                };
                for (i, item) in items.iter().enumerate() {
                    self.node(child, item, before(item), unchanged, &at.index(i));
                }
            }
            _ => {}
        }
    }

    fn fail(&mut self, node: &Node, at: &Path, why: impl Into<String>) {
        let value = Json::from(node.json_type.as_str());
        self.errors.push(FieldError::invalid(at, value, why));
    }

    /// Takes cost off the budget; false when there was not enough.
    fn pay(&mut self, cost: u64) -> bool {
        match self.budget.checked_sub(cost) {
            Some(left) => self.budget = left,
            None => self.spent = true,
        }
        !self.spent
    }

    fn rules(&mut self, node: &Node, value: &Json, old: Option<&Json>, unchanged: bool, at: &Path) {
        let old = old.filter(|o| !o.is_null());
        if node.is_untyped && !node.rules.is_empty() {
            let why =
                "rule compiler initialization error: failed to convert to declType for CEL validation rules";
            return self.fail(node, at, why);
        }
        for rule in &node.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(error) => {
                    self.fail(node, at, format!("rule compile error: {error}"));
                    continue;
                }
            };
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let before = old.map(|o| Value::json(o, &node.ty));
            let before = match rule.optional_old {
                true => Value::Optional(before.map(std::sync::Arc::new)),
                false => before.unwrap_or(Value::Null),
            };
            let variables = [("self", Value::json(value, &node.ty)), ("oldSelf", before)];
            let outcome = program.eval(&variables, CALL_LIMIT);
            if !self.pay(outcome.cost) {
                self.fail(
                    node,
                    at,
                    "validation failed due to running out of cost budget, no further validation rules will be run",
                );
                return;
            }
            let shown = rule.shown();
            match outcome.value {
                Ok(Value::Bool(true)) => {}
                Ok(_) => {
                    let at = match rule.field_path.as_str() {
                        "" => at.clone(),
                        path => at.child(path),
                    };
                    let message = self.message(rule, &variables);
                    let mut error = refusal(rule, value, &at, message);
                    // Scalars are shown, objects and lists are not.
                    if matches!(node.json_type.as_str(), "object" | "array") {
                        error.bad_value = None;
                    }
                    if self.forgiving && !rule.uses_old && unchanged {
                        self.warnings.push(error.to_string());
                    } else {
                        self.errors.push(error);
                    }
                }
                Err(EvalError::TooCostly) => {
                    let why = format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}",
                        EvalError::TooCostly
                    );
                    self.fail(node, at, why);
                    self.spent = true;
                    return;
                }
                Err(error) if error.to_string().starts_with("no such overload") => {
                    let why = format!(
                        "'{error}': call arguments did not match a supported operator, function or macro signature \
                         for rule: {shown}"
                    );
                    self.fail(node, at, why);
                }
                Err(error) => self.fail(node, at, format!("{error} evaluating rule: {shown}")),
            }
        }
    }

    /// The words of a refusal: those that an expression makes, if they are usable, else those that are written.
    fn message<'a>(&mut self, rule: &'a Rule, variables: &dyn cel::Variables<'a>) -> String {
        let made = rule.message_expression.as_ref().and_then(|program| {
            let outcome = program.eval(variables, CALL_LIMIT);
            if !self.pay(outcome.cost) {
                return None;
            }
            let made = outcome.value.ok()?.as_str()?.trim().to_string();
            (!made.is_empty() && made.len() <= MESSAGE && !made.contains('\n')).then_some(made)
        });
        made.unwrap_or_else(|| match &rule.message {
            None => format!("failed rule: {}", rule.text),
            Some(message) => message.clone(),
        })
    }
}

/// What a rule that does not hold says.
fn refusal(rule: &Rule, value: &Json, at: &Path, message: String) -> FieldError {
    match rule.reason.as_str() {
        "FieldValueForbidden" => FieldError::forbidden(at, message),
        "FieldValueRequired" => FieldError::required(at, message),
        "FieldValueDuplicate" => FieldError::duplicate(at, value.clone()),
        _ => FieldError::invalid(at, value.clone(), message),
    }
}
