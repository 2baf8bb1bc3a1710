//! Finding mistakes before anything is evaluated: names that are not there, fields that do not exist, operators whose
//! sides cannot go together. What is not known for sure is let through; evaluation then decides.
//!
//! It goes the way of cel-go (`checker/checker.go`), whose types of what is wrong show in what is said further out.

mod env;
mod late;
mod walks;

use crate::ast::{Expr, Finding, Given, Kind};
use crate::format::Item;
use crate::infer::{Known, more_general};
use crate::room::with_room;
use crate::types::Type;
use crate::value::Value;
use crate::{library, root};
pub use env::{Env, JSON_PATCH, OBJECT};
use late::Late;
use std::sync::Arc;

/// A checked expression.
pub(crate) struct Checked {
    pub root: Expr,
    pub ty: Type,
    pub variables: Vec<String>,
}

/// Checks an expression and settles what its names mean.
pub(crate) fn check(mut root: Expr, env: &Env) -> Result<Checked, Vec<Finding>> {
    let mut checker = Checker {
        env,
        known: Known::default(),
        locals: Vec::new(),
        findings: Vec::new(),
        late: Late::default(),
        item: Item::default(),
        parts: Vec::new(),
        used: Vec::new(),
        again: Vec::new(),
        looked_at: 0,
    };
    let ty = checker.expr(&mut root);
    let ty = checker.known.settled(&ty, true);
    if checker.findings.is_empty() {
        checker.findings = checker.late.findings(&checker.known);
    }
    if !checker.findings.is_empty() {
        return Err(checker.findings);
    }
    Ok(Checked {
        root,
        ty,
        variables: checker.used,
    })
}

struct Checker<'e> {
    env: &'e Env,
    known: Known,
    locals: Vec<(String, Type)>,
    findings: Vec<Finding>,
    /// What is looked at only when everything else is right.
    late: Late,
    /// What was looked at last, where it is formatted, and the parts of what is looked at now.
    item: Item,
    parts: Vec<Item>,
    used: Vec<String>,
    /// Where the macros are that have the expression around this one looked at once more.
    again: Vec<usize>,
    /// How many expressions were looked at.
    looked_at: usize,
}

impl Checker<'_> {
    fn fail(&mut self, at: usize, what: impl Into<String>) -> Type {
        self.findings.push(Finding::new(at, what));
        Type::Error
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.fail(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn mismatch(&mut self, at: usize, wanted: &Type, found: &Type) -> Type {
        self.fail(at, format!("expected type '{wanted}' but found '{found}'"))
    }

    fn local(&self, name: &str) -> Option<Type> {
        self.locals
            .iter()
            .rev()
            .find(|(n, _)| n == name && !name.starts_with('.'))
            .map(|(_, t)| t.clone())
    }

    fn uses(&mut self, name: &str) {
        let name = name.split('.').next().unwrap_or(name);
        if !self.used.iter().any(|u| u == name) {
            self.used.push(name.to_string());
        }
    }

    /// The type of what a name stands for.
    fn name(&mut self, name: &str) -> Option<Type> {
        if let Some(local) = self.local(name) {
            return Some(local);
        }
        if let Some(ty) = self.env.find(name).cloned() {
            self.uses(name);
            return Some(ty);
        }
        let named = library::named(name).or_else(|| self.env.message(name));
        named.map(|ty| Type::Type(Some(Arc::new(ty))))
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        self.looked_at += 1;
        let ty = with_room(|| self.type_of(expr));
        if self.late.exempt > 0 {
            self.item = Item {
                at: expr.at,
                ty: ty.clone(),
                parts: std::mem::take(&mut self.parts),
            };
        }
        ty
    }

    fn type_of(&mut self, expr: &mut Expr) -> Type {
        root::leave(&mut expr.kind, self.env);
        // The name of a macro's variable is found with a dot before it, too.
        if let Kind::Ident(name) = &mut expr.kind
            && name
                .strip_prefix('.')
                .is_some_and(|rest| self.local(rest).is_some())
        {
            name.remove(0);
        }
        if let Some(ty) = self.dotted(expr) {
            return ty;
        }
        let at = expr.at;
        match &mut expr.kind {
            Kind::Literal(value) => literal(value),
            Kind::Ident(name) => match self.name(name) {
                Some(ty) => ty,
                None => {
                    let name = name.clone();
                    self.undeclared(at, &name)
                }
            },
            Kind::Select {
                operand,
                field,
                test,
                optional,
            } => {
                let of = self.expr(operand);
                let of = self.known.settled(&of, false);
                let found = self.select(at, &of, field, *optional);
                match test {
                    true => Type::Bool,
                    false => self.known.settled(&found, false),
                }
            }
            Kind::Index {
                operand,
                index,
                optional,
            } => {
                let function = if *optional { "_[?_]" } else { "_[_]" };
                let types = vec![self.expr(operand), self.expr(index)];
                self.resolve(at, function, false, types)
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List(items) => {
                let (mut of, mut each): (Option<Type>, Vec<(usize, Type)>) = (None, Vec::new());
                let mut parts = Vec::new();
                for (item, optional) in items {
                    let ty = self.element(item, *optional);
                    self.put_into(&mut parts);
                    each.push((item.at, ty.clone()));
                    of = Some(self.joined(of, ty));
                }
                self.parts = parts;
                self.late.alike(each, true);
                Type::list(of.unwrap_or_else(|| self.known.open()))
            }
            Kind::Map(entries) => {
                let (mut by, mut of): (Option<Type>, Option<Type>) = (None, None);
                let (mut keys, mut values, mut parts) = (Vec::new(), Vec::new(), Vec::new());
                for (key, value, optional) in entries {
                    let ty = self.expr(key);
                    self.put_into(&mut parts);
                    keys.push((key.at, ty.clone()));
                    by = Some(self.joined(by, ty));
                    let ty = self.element(value, *optional);
                    self.put_into(&mut parts);
                    values.push((value.at, ty.clone()));
                    of = Some(self.joined(of, ty));
                }
                self.late.alike(keys, false);
                self.late.alike(values, false);
                self.parts = parts;
                let by = by.unwrap_or_else(|| self.known.open());
                let of = of.unwrap_or_else(|| self.known.open());
                self.known.bounded(Type::Map(Arc::new(by), Arc::new(of)))
            }
            Kind::Message(name, fields) => self.message(at, name, fields),
            Kind::Bind {
                name,
                init,
                body,
                through: None,
            } => self.bind(name, init, body),
            Kind::Bind {
                name,
                init,
                body,
                through: Some(through),
            } => self.through(at, name, init, body, *through),
            Kind::Comprehension(walk) => self.comprehension(at, walk),
        }
    }

    /// Keeps what was looked at last, where it is formatted.
    fn put_into(&mut self, parts: &mut Vec<Item>) {
        if self.late.exempt > 0 {
            parts.push(std::mem::take(&mut self.item));
        }
    }

    /// A dotted name that the environment knows is one variable, or a type.
    fn dotted(&mut self, expr: &mut Expr) -> Option<Type> {
        let Kind::Select {
            operand,
            field,
            optional,
            test,
        } = &expr.kind
        else {
            return None;
        };
        let mut parts = vec![field.as_str()];
        let mut head = operand;
        while let Kind::Select {
            operand,
            field,
            test: false,
            optional: false,
        } = &head.kind
        {
            parts.push(field);
            head = operand;
        }
        let Kind::Ident(name) = &head.kind else {
            return None;
        };
        if self.local(name).is_some() {
            return None;
        }
        parts.push(name);
        parts.reverse();
        // A variable that is not looked at field by field has no field to test for.
        if (*test || *optional) && (parts.len() > 2 || matches!(self.env.find(name), Some(Type::Opaque(_)))) {
            return None;
        }
        let (dotted, test, optional) = (parts.join("."), *test, *optional);
        let ty = match test || optional {
            true => self.env.find(&dotted).cloned()?,
            false => self.name(&dotted)?,
        };
        self.uses(&dotted);
        if test {
            expr.kind = Kind::Literal(Value::Bool(true));
            return Some(Type::Bool);
        }
        expr.kind = Kind::Ident(dotted);
        if !optional {
            return Some(ty);
        }
        // The variable is there.
        let variable = std::mem::replace(&mut expr.kind, Kind::List(Vec::new()));
        expr.kind = Kind::Call {
            function: "optional.of".into(),
            target: None,
            args: vec![Expr::new(expr.at, variable)],
            regex: None,
        };
        Some(Type::Optional(Arc::new(ty)))
    }

    /// The type of an element of a list or map; one behind a question mark is an optional value.
    fn element(&mut self, item: &mut Expr, optional: bool) -> Type {
        match self.expr(item) {
            Type::Optional(inner) if optional => (*inner).clone(),
            ty if optional && !ty.is_dyn() => {
                self.mismatch(item.at, &Type::Optional(Arc::new(ty.clone())), &ty);
                ty
            }
            ty => ty,
        }
    }

    /// The type of elements of which those before are known.
    fn joined(&mut self, before: Option<Type>, ty: Type) -> Type {
        match before {
            None => ty,
            Some(before) if self.known.fits(&before, &ty) => more_general(&before, &ty),
            Some(_) => Type::Dyn,
        }
    }

    fn select(&mut self, at: usize, of: &Type, field: &str, optional: bool) -> Type {
        let (of, optional) = match of {
            Type::Optional(inner) => (&**inner, true),
            other => (other, optional),
        };
        let found = match of {
            Type::Map(_, of) => (**of).clone(),
            Type::Object(object) if self.env.message(&object.name).is_none() => match object.field(field) {
                Some(found) => found.ty.clone(),
                None => self.fail(at, format!("undefined field '{field}'")),
            },
            Type::Object(object) => self.env.message_field(&object.name, field).unwrap_or(Type::Dyn),
            Type::Opaque(name) if !name.is_empty() && !name.starts_with("net.") => {
                match self.env.message_field(name, field) {
                    Some(ty) => ty,
                    None => self.fail(at, format!("unexpected failed resolution of '{name}'")),
                }
            }
            Type::Open(_) => {
                self.known.fits(&Type::Dyn, of);
                Type::Dyn
            }
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            other => {
                self.fail(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        match optional {
            true => Type::Optional(Arc::new(found)),
            false => found,
        }
    }

    fn message(&mut self, at: usize, name: &str, fields: &mut [Given]) -> Type {
        let ty = match self.name(name) {
            Some(Type::Type(Some(of))) if self.env.message(name).is_some() => (*of).clone(),
            Some(Type::Type(Some(of))) if is_simple(&of) => {
                self.fail(at, format!("'{}' is not a message type", of.name()))
            }
            None | Some(Type::Type(_)) => return self.undeclared(at, name),
            Some(Type::Error) => Type::Error,
            Some(variable) => self.fail(at, format!("'{}' is not a type", variable.name())),
        };
        for field in fields {
            let mut given = self.expr(&mut field.value);
            // Of a copy the place is that of the macro that made it.
            let at = self.again.first().copied().unwrap_or(field.at);
            let wanted = match self.env.message_field(name, &field.name) {
                Some(wanted) => wanted,
                None if library::named(name).is_some() && !name.starts_with("net.") => {
                    self.fail(at, format!("undefined field '{}'", field.name))
                }
                None => self.fail(at, format!("unexpected failed resolution of '{name}'")),
            };
            if field.optional {
                given = match given {
                    Type::Optional(inner) => (*inner).clone(),
                    ty if ty.is_dyn() => ty,
                    ty => {
                        self.mismatch(field.value.at, &Type::Optional(Arc::new(ty.clone())), &ty);
                        ty
                    }
                };
            }
            if !self.known.fits(&wanted, &given) {
                let what = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{given}'",
                    field.name
                );
                self.fail(at, what);
            }
        }
        ty
    }

    fn call(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        let Kind::Call {
            function,
            target,
            args,
            regex,
        } = &mut expr.kind
        else {
            return Type::Error;
        };
        // What is formatted may be of several types.
        let formats = function == "format";
        self.late.exempt += usize::from(formats);
        let mut types: Vec<Type> = args.iter_mut().map(|arg| self.expr(arg)).collect();
        let items = std::mem::take(&mut self.item.parts);
        // `lists.range(a)` is a function of that whole name, not a member of a variable.
        if let Some(receiver) = target
            && let Kind::Ident(space) = &receiver.kind
            && self.env.knows(&format!("{space}.{function}"))
        {
            *function = format!("{space}.{function}");
            *target = None;
        }
        if let Some(target) = target {
            types.insert(0, self.expr(target));
        }
        self.late.exempt -= usize::from(formats);
        if matches!(function.as_str(), "_&&_" | "_||_") {
            let mut ty = Type::Bool;
            for (arg, given) in args.iter().zip(&types) {
                if !self.known.fits(given, &Type::Bool) {
                    ty = self.mismatch(arg.at, &Type::Bool, given);
                }
            }
            return ty;
        }
        if !self.env.knows(function) {
            let function = function.clone();
            return self.undeclared(at, &function);
        }
        self.late.literals(function, target.is_some(), args, regex);
        if formats
            && matches!(
                args.as_slice(),
                [Expr {
                    kind: Kind::List(_),
                    ..
                }]
            )
        {
            self.late.format(at, target.as_deref(), items);
        }
        self.resolve(at, function, target.is_some(), types)
    }

    /// The type of what a function gives. The receiver of a member is its first argument.
    fn resolve(&mut self, at: usize, function: &str, member: bool, types: Vec<Type>) -> Type {
        let ways = self.env.overloads(function).unwrap_or_default();
        let mut result: Option<Type> = None;
        for way in ways.iter().filter(|way| way.member == member) {
            let (takes, gives) = self.known.opened(way);
            if !self.known.all_fit(&types, &takes) {
                continue;
            }
            let gives = self.known.settled(&gives, false);
            result = Some(match result {
                None => gives,
                Some(before) if before.is_dyn() || before.is_same(&gives) => before,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(result) = result {
            return result;
        }
        let shown = |ty: &Type| self.known.settled(ty, true).to_string();
        let mut shown: Vec<String> = types.iter().map(shown).collect();
        let receiver = match member {
            true => format!("{}.", shown.remove(0)),
            false => String::new(),
        };
        let what = format!(
            "found no matching overload for '{function}' applied to '{receiver}({})'",
            shown.join(", ")
        );
        self.fail(at, what)
    }
}

/// Whether a type is none of messages, and none that a message of protocol buffers stands for.
fn is_simple(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::String
            | Type::Bytes
            | Type::Type(None)
            | Type::Opaque(_)
            | Type::List(..)
            | Type::Map(..)
    )
}

fn literal(value: &Value<'static>) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}
