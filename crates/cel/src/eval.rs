//! Evaluation, with cost. What an operator costs follows upstream: one for a step, a tenth of the length for what walks
//! text, the length for what walks a list.
//!
//! `&&`, `||`, `all` and `exists` forgive an error on one side when the other side decides.

use crate::ast::{Comprehension, Expr, Kind, Through, Walk};
use crate::library;
use crate::room::with_room;
use crate::value::{Key, List, Map, Str, Value, join};
use indexmap::IndexMap;
use std::cell::Cell;
use std::sync::Arc;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An error of the expression, in upstream's words.
    #[error("{0}")]
    Failed(String),
    /// It costs too much.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooCostly,
}

impl EvalError {
    pub(crate) fn new(why: impl Into<String>) -> EvalError {
        EvalError::Failed(why.into())
    }

    pub(crate) fn no_overload() -> EvalError {
        EvalError::new("no such overload")
    }
}

/// What came of an evaluation.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The value.
    pub value: Result<Value<'a>>,
    /// What it cost.
    pub cost: u64,
}

/// Where variables get their values.
pub trait Variables<'a> {
    /// The value of a variable; `None` when it has none.
    fn get(&self, name: &str) -> Option<Result<Value<'a>>>;
}

impl<'a, const N: usize> Variables<'a> for [(&str, Value<'a>); N] {
    fn get(&self, name: &str) -> Option<Result<Value<'a>>> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| Ok(v.clone()))
    }
}

/// What evaluation comes to.
pub type Result<T> = std::result::Result<T, EvalError>;

/// Evaluates a tree.
pub(crate) fn run<'a>(root: &'a Expr, variables: &dyn Variables<'a>, limit: u64) -> Outcome<'a> {
    let machine = Machine {
        variables,
        meter: Meter {
            used: Cell::new(0),
            limit,
        },
    };
    let value = machine.eval(root, None);
    Outcome {
        value,
        cost: machine.meter.used.get(),
    }
}

/// Counts cost.
pub(crate) struct Meter {
    used: Cell<u64>,
    limit: u64,
}

impl Meter {
    /// Charges; an error beyond the limit.
    pub(crate) fn charge(&self, cost: u64) -> Result<()> {
        let used = self.used.get().saturating_add(cost);
        self.used.set(used);
        match used > self.limit {
            true => Err(EvalError::TooCostly),
            false => Ok(()),
        }
    }

    /// Charges a walk over text of some length.
    pub(crate) fn text(&self, length: u64) -> Result<()> {
        self.charge((length as f64 * 0.1).ceil() as u64)
    }
}

/// Local names, innermost first.
struct Locals<'s, 'a> {
    name: &'s str,
    value: Value<'a>,
    outer: Option<&'s Locals<'s, 'a>>,
}

struct Machine<'m, 'a> {
    variables: &'m dyn Variables<'a>,
    meter: Meter,
}

/// A boolean that may be an error, for operators that forgive.
fn truth(value: Result<Value<'_>>) -> Result<bool> {
    match value? {
        Value::Bool(b) => Ok(b),
        _ => Err(EvalError::no_overload()),
    }
}

impl<'m, 'a> Machine<'m, 'a> {
    fn eval(&self, expr: &'a Expr, locals: Option<&Locals<'_, 'a>>) -> Result<Value<'a>> {
        with_room(|| self.value(expr, locals))
    }

    fn value(&self, expr: &'a Expr, locals: Option<&Locals<'_, 'a>>) -> Result<Value<'a>> {
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Ident(name) => self.name(name, locals),
            Kind::Select {
                operand,
                field,
                test,
                optional,
            } => {
                // As upstream sets it, `has` costs what it looks into and nothing more.
                self.meter.charge(u64::from(!*test))?;
                let of = self.eval(operand, locals)?;
                self.select(of, field, *test, *optional)
            }
            Kind::Index {
                operand,
                index,
                optional,
            } => {
                self.meter.charge(1)?;
                let of = self.eval(operand, locals)?;
                let index = self.eval(index, locals)?;
                self.index(of, &index, *optional)
            }
            Kind::Call {
                function,
                target,
                args,
                regex,
            } => self.call(function, target.as_deref(), args, regex.as_ref(), locals),
            Kind::List(items) => {
                self.meter.charge(10)?;
                let mut out = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.eval(item, locals)?, optional) {
                        (Value::Optional(inner), true) => out.extend(inner.map(|v| (*v).clone())),
                        (_, true) => return Err(EvalError::no_overload()),
                        (value, false) => out.push(value),
                    }
                }
                Ok(Value::list(out))
            }
            Kind::Map(entries) => {
                self.meter.charge(30)?;
                let mut out = IndexMap::new();
                for (key, value, optional) in entries {
                    let key = self.eval(key, locals)?;
                    let key = Key::of(&key).ok_or_else(|| EvalError::new("unsupported key type"))?;
                    let value = match (self.eval(value, locals)?, optional) {
                        (Value::Optional(None), true) => continue,
                        (Value::Optional(Some(inner)), true) => (*inner).clone(),
                        (_, true) => return Err(EvalError::no_overload()),
                        (value, false) => value,
                    };
                    if out.contains_key(&key) {
                        return Err(EvalError::new(format!("repeated key: {key}")));
                    }
                    out.insert(key, value);
                }
                Ok(Value::Map(Map::Own(Arc::new(out))))
            }
            Kind::Message(_, fields) => {
                self.meter.charge(40)?;
                let mut out = IndexMap::new();
                for field in fields {
                    let value = match (self.eval(&field.value, locals)?, field.optional) {
                        (Value::Optional(None), true) => continue,
                        (Value::Optional(Some(inner)), true) => (*inner).clone(),
                        (_, true) => return Err(EvalError::no_overload()),
                        (value, false) => value,
                    };
                    let name = crate::types::unescape(&field.name);
                    out.insert(Key::String(Str::from(name)), value);
                }
                Ok(Value::Map(Map::Own(Arc::new(out))))
            }
            Kind::Bind {
                name,
                init,
                body,
                through,
            } => self.bind(name, init, body, *through, locals),
            Kind::Comprehension(c) => self.comprehension(c, locals),
        }
    }

    fn name(&self, name: &str, mut locals: Option<&Locals<'_, 'a>>) -> Result<Value<'a>> {
        self.meter.charge(1)?;
        while let Some(local) = locals {
            if local.name == name {
                return Ok(local.value.clone());
            }
            locals = local.outer;
        }
        match self.variables.get(name) {
            Some(value) => value,
            None if library::named(name).is_some() => Ok(Value::Type(Arc::from(name))),
            None => Err(EvalError::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&self, of: Value<'a>, field: &'a str, test: bool, optional: bool) -> Result<Value<'a>> {
        let key = Key::String(Str::Borrowed(field));
        let no_key = || EvalError::new(format!("no such key: {field}"));
        match of {
            Value::Map(map) => match (map.get(&key), test, optional) {
                (found, true, _) => Ok(Value::Bool(found.is_some())),
                (found, false, true) => Ok(Value::Optional(found.map(Arc::new))),
                (Some(value), false, false) => Ok(value),
                (None, false, false) => Err(no_key()),
            },
            Value::Optional(None) if test => Ok(Value::Bool(false)),
            Value::Optional(None) => Ok(Value::Optional(None)),
            // A field of an optional value is optional too.
            Value::Optional(Some(inner)) => self.select((*inner).clone(), field, test, true),
            Value::Null if test => Ok(Value::Bool(false)),
            _ if optional && !test => Ok(Value::Optional(None)),
            _ => Err(no_key()),
        }
    }

    fn index(&self, of: Value<'a>, index: &Value<'a>, optional: bool) -> Result<Value<'a>> {
        match of {
            Value::List(list) => {
                let at = match index {
                    Value::Int(n) => Some(*n),
                    Value::Uint(n) => i64::try_from(*n).ok(),
                    Value::Double(n) if n.fract() == 0.0 => Some(*n as i64),
                    _ => {
                        return Err(EvalError::new(format!(
                            "unsupported index type '{}' in list",
                            index.type_name()
                        )));
                    }
                };
                let found = at
                    .and_then(|at| usize::try_from(at).ok())
                    .and_then(|at| list.get(at));
                match (found, optional) {
                    (found, true) => Ok(Value::Optional(found.map(Arc::new))),
                    (Some(value), false) => Ok(value),
                    (None, false) => Err(EvalError::new(format!(
                        "index out of bounds: {}",
                        at.unwrap_or(i64::MAX)
                    ))),
                }
            }
            Value::Map(map) => {
                let key = Key::of(index).ok_or_else(EvalError::no_overload)?;
                match (map.get(&key), optional) {
                    (found, true) => Ok(Value::Optional(found.map(Arc::new))),
                    (Some(value), false) => Ok(value),
                    (None, false) => Err(EvalError::new(format!("no such key: {key}"))),
                }
            }
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => self.index((*inner).clone(), index, true),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn call(
        &self,
        function: &'a str,
        target: Option<&'a Expr>,
        args: &'a [Expr],
        regex: Option<&regex::Regex>,
        locals: Option<&Locals<'_, 'a>>,
    ) -> Result<Value<'a>> {
        match (function, args) {
            ("_&&_", [a, b]) => return self.both(a, b, false, locals),
            ("_||_", [a, b]) => return self.both(a, b, true, locals),
            ("_?_:_", [condition, yes, no]) => {
                self.meter.charge(1)?;
                let chosen = if truth(self.eval(condition, locals))? {
                    yes
                } else {
                    no
                };
                return self.eval(chosen, locals);
            }
            _ => {}
        }
        if let (Some(target), "or" | "orValue", [alternative]) = (target, function, args) {
            self.meter.charge(1)?;
            let value = self.eval(target, locals)?;
            return match (value, function) {
                (Value::Optional(Some(inner)), "orValue") => Ok((*inner).clone()),
                (Value::Optional(Some(inner)), _) => Ok(Value::Optional(Some(inner))),
                (Value::Optional(None), _) => self.eval(alternative, locals),
                _ => Err(EvalError::no_overload()),
            };
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target {
            values.push(self.eval(target, locals)?);
        }
        for arg in args {
            values.push(self.eval(arg, locals)?);
        }
        if let ("_+_", [Value::List(a), Value::List(b)]) = (function, values.as_slice()) {
            self.meter.charge(1)?;
            self.meter.charge((a.len() + b.len()) as u64 / 10)?;
            return Ok(Value::List(join(a, b)));
        }
        library::call(function, target.is_some(), values, regex, &self.meter)
    }

    /// `a && b` (`decides` false) and `a || b` (`decides` true).
    fn both(
        &self,
        a: &'a Expr,
        b: &'a Expr,
        decides: bool,
        locals: Option<&Locals<'_, 'a>>,
    ) -> Result<Value<'a>> {
        self.meter.charge(1)?;
        let first = truth(self.eval(a, locals));
        match first {
            Ok(found) if found == decides => return Ok(Value::Bool(decides)),
            Err(EvalError::TooCostly) => return Err(EvalError::TooCostly),
            _ => {}
        }
        match (first, truth(self.eval(b, locals))) {
            (_, Err(EvalError::TooCostly)) => Err(EvalError::TooCostly),
            (_, Ok(found)) if found == decides => Ok(Value::Bool(decides)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(_)) => Ok(Value::Bool(!decides)),
        }
    }

    fn bind(
        &self,
        name: &'a str,
        init: &'a Expr,
        body: &'a Expr,
        through: Option<Through>,
        locals: Option<&Locals<'_, 'a>>,
    ) -> Result<Value<'a>> {
        let mut value = self.eval(init, locals)?;
        if through.is_some() {
            value = match value {
                Value::Optional(Some(inner)) => (*inner).clone(),
                Value::Optional(None) => return Ok(Value::Optional(None)),
                _ => return Err(EvalError::no_overload()),
            };
        }
        let inner = Locals {
            name,
            value,
            outer: locals,
        };
        let out = self.eval(body, Some(&inner))?;
        Ok(match through {
            Some(Through::Map) => Value::some(out),
            _ => out,
        })
    }

    fn comprehension(&self, c: &'a Comprehension, locals: Option<&Locals<'_, 'a>>) -> Result<Value<'a>> {
        let range = self.eval(&c.range, locals)?;
        self.meter.charge(1)?;
        let items: Vec<(Value<'a>, Value<'a>)> = match &range {
            Value::List(list) => list
                .iter()
                .enumerate()
                .map(|(i, v)| (Value::Int(i as i64), v))
                .collect(),
            Value::Map(map) => map
                .keys()
                .into_iter()
                .filter_map(|k| Some((k.value(), map.get(&k)?)))
                .collect(),
            other => {
                let go = match other {
                    Value::String(_) => "String",
                    Value::Int(_) => "Int",
                    Value::Uint(_) => "Uint",
                    Value::Double(_) => "Double",
                    Value::Bool(_) => "Bool",
                    _ => return Err(EvalError::no_overload()),
                };
                return Err(EvalError::new(format!(
                    "got 'types.{go}', expected iterable type"
                )));
            }
        };
        let is_map = matches!(range, Value::Map(_));
        // Locals borrow each other, so the element's names live here while its body runs.
        let on = |key: &Value<'a>, value: &Value<'a>, expr: &'a Expr| -> Result<Value<'a>> {
            self.meter.charge(1)?;
            match &c.second {
                None => {
                    let element = if is_map { key.clone() } else { value.clone() };
                    let local = Locals {
                        name: &c.first,
                        value: element,
                        outer: locals,
                    };
                    self.eval(expr, Some(&local))
                }
                Some(second) => {
                    let outer = Locals {
                        name: &c.first,
                        value: key.clone(),
                        outer: locals,
                    };
                    let local = Locals {
                        name: second,
                        value: value.clone(),
                        outer: Some(&outer),
                    };
                    self.eval(expr, Some(&local))
                }
            }
        };
        let element = |key: &Value<'a>, value: &Value<'a>| if is_map { key.clone() } else { value.clone() };
        let passes = |key: &Value<'a>, value: &Value<'a>| match &c.filter {
            Some(filter) => truth(on(key, value, filter)),
            None => Ok(true),
        };
        match c.walk {
            Walk::All | Walk::Exists => {
                let decides = c.walk == Walk::Exists;
                let mut failed = None;
                for (key, value) in &items {
                    match truth(on(key, value, &c.body)) {
                        Ok(found) if found == decides => return Ok(Value::Bool(decides)),
                        Ok(_) => {}
                        Err(EvalError::TooCostly) => return Err(EvalError::TooCostly),
                        Err(error) => failed = failed.or(Some(error)),
                    }
                }
                match failed {
                    Some(error) => Err(error),
                    None => Ok(Value::Bool(!decides)),
                }
            }
            Walk::ExistsOne => {
                let mut count = 0;
                for (key, value) in &items {
                    count += usize::from(truth(on(key, value, &c.body))?);
                }
                Ok(Value::Bool(count == 1))
            }
            Walk::Filter => {
                let mut out = Vec::new();
                for (key, value) in &items {
                    if truth(on(key, value, &c.body))? {
                        out.push(element(key, value));
                    }
                }
                Ok(Value::list(out))
            }
            Walk::Map | Walk::TransformList => {
                let mut out = Vec::new();
                for (key, value) in &items {
                    if passes(key, value)? {
                        out.push(on(key, value, &c.body)?);
                    }
                }
                Ok(Value::list(out))
            }
            Walk::TransformMap => {
                let mut out = IndexMap::new();
                for (key, value) in &items {
                    if passes(key, value)?
                        && let Some(name) = Key::of(key)
                    {
                        out.insert(name, on(key, value, &c.body)?);
                    }
                }
                Ok(Value::Map(Map::Own(Arc::new(out))))
            }
            Walk::TransformMapEntry => {
                let mut out = IndexMap::new();
                for (key, value) in &items {
                    if !passes(key, value)? {
                        continue;
                    }
                    let Value::Map(entry) = on(key, value, &c.body)? else {
                        return Err(EvalError::no_overload());
                    };
                    for name in entry.keys() {
                        if out.contains_key(&name) {
                            return Err(EvalError::new(format!(
                                "insert failed: key {name} already exists"
                            )));
                        }
                        if let Some(value) = entry.get(&name) {
                            out.insert(name, value);
                        }
                    }
                }
                Ok(Value::Map(Map::Own(Arc::new(out))))
            }
            Walk::SortBy => {
                let Value::List(list) = &range else {
                    return Err(EvalError::no_overload());
                };
                let mut keyed = Vec::with_capacity(list.len());
                for (key, value) in &items {
                    keyed.push((on(key, value, &c.body)?, value.clone()));
                }
                library::sort(&mut keyed, |(key, _)| key)?;
                let sorted = keyed.into_iter().map(|(_, value)| value).collect();
                Ok(Value::List(List::Own(Arc::new(sorted))))
            }
        }
    }
}
