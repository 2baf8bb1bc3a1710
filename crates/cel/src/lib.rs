//! The Common Expression Language as Kubernetes speaks it: CRD rules, admission policies, match conditions.
//!
//! A text is compiled once ([`Program::compile`]) against an [`Env`] that names its variables and their types, and
//! evaluated many times over borrowed JSON. Evaluation counts cost as upstream does and stops at a limit, so that no
//! expression of a user can hold the server. Pure: no I/O, no clock, no threads.
//!
//! Of the language everything is here that Kubernetes v1.35 switches on: optional values (`self.?a.orValue(b)`),
//! two-variable comprehensions, `cel.bind`, cross-type comparison of numbers. The libraries are in [`library`].

mod ast;
mod check;
mod cost;
mod eval;
mod fold;
mod format;
mod infer;
mod lexer;
mod library;
mod literal;
mod macros;
mod parser;
pub mod pattern;
mod room;
mod root;
mod syntax;
mod types;
mod value;

pub use check::{Env, JSON_PATCH, OBJECT};
pub use cost::{Sizes, Sort, Step};
pub use eval::{EvalError, Outcome, Result as EvalResult, Variables};
pub use types::{Field, ListKind, ObjectType, Type, escape, unescape};
pub use value::{Host, Key, List, Map, Str, Value};

/// Why a text is no valid expression: all findings, each with its place, as upstream prints them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: ast::Expr,
    ty: Type,
    variables: Vec<String>,
}

impl Program {
    /// Parses and checks a text.
    pub fn compile(text: &str, env: &Env) -> Result<Program, CompileError> {
        let refused = |findings: Vec<ast::Finding>| CompileError(ast::render(text, &findings));
        let parsed = parser::parse(text, env.binds()).map_err(refused)?;
        let checked = check::check(parsed, env).map_err(refused)?;
        Ok(Program {
            root: checked.root,
            ty: checked.ty,
            variables: checked.variables,
        })
    }

    /// The type of the result, [`Type::Dyn`] when only evaluation tells.
    pub fn result_type(&self) -> &Type {
        &self.ty
    }

    /// Whether the expression mentions a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.iter().any(|v| v == variable)
    }

    /// Why no program can be made of the expression although it is well-formed: a constant in it cannot be converted.
    pub fn fault(&self) -> Option<EvalError> {
        fold::fault(&self.root)
    }

    /// What an evaluation costs at most, with values as large as `sizes` lets them be.
    pub fn most_cost(&self, sizes: &dyn Sizes) -> u64 {
        cost::most(&self.root, sizes)
    }

    /// Evaluates. `limit` bounds the cost of this one call; what it cost is part of the outcome either way.
    pub fn eval<'a>(&'a self, variables: &dyn Variables<'a>, limit: u64) -> Outcome<'a> {
        eval::run(&self.root, variables, limit)
    }
}
