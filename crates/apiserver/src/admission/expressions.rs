//! CEL in admission: the variables that expressions of webhooks and policies see, and match conditions.

mod authorizer;
mod check;
mod order;
mod scope;
mod types;

pub use authorizer::authorizer;
pub use check::check;
pub use order::interleaved;
pub use scope::{Inputs, Scope, namespace_object};

use cel::{Env, Program, Type, Value};

/// What all match conditions of one webhook or policy may cost.
pub const CONDITIONS_BUDGET: u64 = 2_500_000;
/// What one expression may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all expressions of one policy may cost in one request.
pub const POLICY_BUDGET: u64 = 10_000_000;

/// An expression that may have failed to compile.
#[derive(Debug)]
pub struct Expression {
    /// Its text.
    pub text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles a text.
    pub fn new(text: &str, env: &Env) -> Expression {
        Expression {
            text: text.to_string(),
            program: Program::compile(text, env).map_err(|e| e.to_string()),
        }
    }

    /// The type of its value.
    pub fn ty(&self) -> Type {
        self.program
            .as_ref()
            .map_or(Type::Dyn, |p| p.result_type().clone())
    }

    /// Evaluates, and takes the cost off `budget`. The error is worded as upstream does.
    pub fn eval<'a>(&'a self, scope: &dyn cel::Variables<'a>, budget: &mut u64) -> Result<Value<'a>, String> {
        let program = self
            .program
            .as_ref()
            .map_err(|e| format!("compilation error: compilation failed: {e}"))?;
        let outcome = program.eval(scope, CALL_LIMIT);
        if outcome.cost > *budget {
            *budget = 0;
            return Err(
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            );
        }
        *budget -= outcome.cost;
        outcome
            .value
            .map_err(|e| format!("expression '{}' resulted in error: {e}", self.text))
    }
}

/// The variables of every admission expression.
pub fn environment(params: bool, authorizer: bool, variables: &[(String, Type)]) -> Env {
    let mut env = Env::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("request", types::request())
        .with("namespaceObject", types::namespace());
    if params {
        env = env.with("params", Type::Dyn);
    }
    if authorizer {
        env = env
            .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
            .with(
                "authorizer.requestResource",
                Type::Opaque("kubernetes.authorization.ResourceCheck"),
            );
    }
    for (name, ty) in variables {
        env = env.with(format!("variables.{name}"), ty.declared());
    }
    env
}

/// The variables of mutations, which may make objects and patches.
pub fn mutating(params: bool, variables: &[(String, Type)]) -> Env {
    composed(params, true, variables).with_messages()
}

/// The variables of expressions that see composed ones.
pub fn composed(params: bool, authorizer: bool, variables: &[(String, Type)]) -> Env {
    // What is not among the variables is a field that they have not.
    environment(params, authorizer, variables).with("variables", types::variables())
}

/// Conditions that must all hold before a webhook or policy is asked.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Expression>);

impl Conditions {
    /// Reads `matchConditions`.
    pub fn new(list: &serde_json::Value, env: &Env) -> Conditions {
        let list = list.as_array().into_iter().flatten();
        Conditions(
            list.map(|c| Expression::new(c["expression"].as_str().unwrap_or(""), env))
                .collect(),
        )
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not hold decides even if another fails.
    pub fn hold<'a>(&'a self, scope: &dyn cel::Variables<'a>) -> Result<bool, String> {
        let mut budget = CONDITIONS_BUDGET;
        let mut errors = Vec::new();
        for condition in &self.0 {
            match condition.eval(scope, &mut budget) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => errors.push(format!("expression '{}' must evaluate to bool", condition.text)),
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}
