//! Finding mistakes before anything is evaluated: names that are not there, fields that do not exist, operators whose
//! sides cannot go together. What is not known for sure is let through; evaluation then decides.

use crate::ast::{Comprehension, Expr, Finding, Kind, Through, Walk};
use crate::types::Type;
use crate::value::Value;
use crate::{format, library, root};
use std::sync::Arc;

/// The variables of an expression, with their types.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: Vec<(String, Type)>,
    messages: bool,
    bindings: bool,
}

/// The type of `Object{…}` in mutations.
pub const OBJECT: &str = "Object";
/// The type of one operation of a JSON patch in mutations.
pub const JSON_PATCH: &str = "JSONPatch";

impl Env {
    /// An environment without variables.
    pub fn new() -> Env {
        Env::default()
    }

    /// Adds a variable. A dotted name stands for a field of a variable that is looked up on its own
    /// (`variables.NAME` of policies).
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, ty: Type) -> Env {
        self.variables.push((name.into(), ty));
        self
    }

    /// Lets expressions make what mutations are made of: `Object{…}` with `Object.PATH{…}` inside, and `JSONPatch{…}`.
    #[must_use]
    pub fn with_messages(mut self) -> Env {
        self.messages = true;
        self
    }

    /// Lets expressions name a part of themselves: `cel.bind(name, value, expression)`.
    #[must_use]
    pub fn with_bindings(mut self) -> Env {
        self.bindings = true;
        self
    }

    pub(crate) fn binds(&self) -> bool {
        self.bindings
    }

    /// Whether there is a function: those for patches are known only where patches are made.
    pub(crate) fn knows(&self, function: &str) -> bool {
        library::is_function(function) && (self.messages || !function.starts_with("jsonpatch."))
    }

    pub(crate) fn message(&self, name: &str) -> Option<Type> {
        let known = self.messages && (name == JSON_PATCH || name == OBJECT || name.starts_with("Object."));
        // What lies inside an object is judged where it is applied.
        known.then(|| match name {
            JSON_PATCH => Type::Opaque(JSON_PATCH),
            OBJECT => Type::Opaque(OBJECT),
            _ => Type::Dyn,
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Type> {
        self.variables
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, t)| t)
    }
}

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
        locals: Vec::new(),
        findings: Vec::new(),
        late: Vec::new(),
        used: Vec::new(),
        mixed: false,
        given: Vec::new(),
    };
    let ty = checker.expr(&mut root);
    if checker.findings.is_empty() {
        checker.findings.append(&mut checker.late);
    }
    if !checker.findings.is_empty() {
        checker.findings.sort_by_key(|f| f.at);
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
    locals: Vec<(String, Type)>,
    findings: Vec<Finding>,
    /// Faults of literals, told only when everything else is right.
    late: Vec<Finding>,
    used: Vec<String>,
    /// The arguments of `format` are the one list literal that may mix types.
    mixed: bool,
    /// Their types, of the one that was looked at last.
    given: Vec<Type>,
}

impl Checker<'_> {
    fn fail(&mut self, at: usize, what: impl Into<String>) -> Type {
        self.findings.push(Finding::new(at, what));
        Type::Dyn
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

    fn expr(&mut self, expr: &mut Expr) -> Type {
        root::leave(&mut expr.kind, self.env);
        // A dotted name that the environment knows is one variable.
        if let Kind::Select {
            operand,
            field,
            optional: false,
            ..
        } = &expr.kind
            && let Kind::Ident(head) = &operand.kind
            && self.local(head).is_none()
        {
            let dotted = format!("{head}.{field}");
            if let Some(ty) = self.env.find(&dotted).cloned() {
                self.uses(&dotted);
                let tests = matches!(&expr.kind, Kind::Select { test: true, .. });
                if tests {
                    expr.kind = Kind::Literal(Value::Bool(true));
                    return Type::Bool;
                }
                expr.kind = Kind::Ident(dotted);
                return ty;
            }
        }
        let at = expr.at;
        match &mut expr.kind {
            Kind::Literal(value) => literal(value),
            Kind::Ident(name) => match self.local(name) {
                Some(ty) => ty,
                None => match self.env.find(name).cloned() {
                    Some(ty) => {
                        let name = name.clone();
                        self.uses(&name);
                        ty
                    }
                    None if library::TYPES.contains(&name.as_str()) => Type::Type,
                    None => {
                        let what = format!("undeclared reference to '{name}' (in container '')");
                        self.fail(at, what)
                    }
                },
            },
            Kind::Select {
                operand,
                field,
                test,
                optional,
            } => {
                let of = self.expr(operand);
                let (test, optional) = (*test, *optional);
                let found = self.field(at, &of, field);
                match (test, optional || matches!(of, Type::Optional(_))) {
                    (true, _) => Type::Bool,
                    (false, true) => Type::Optional(Arc::new(found)),
                    (false, false) => found,
                }
            }
            Kind::Index {
                operand,
                index,
                optional,
            } => {
                let of = self.expr(operand);
                let by = self.expr(index);
                let written = *optional;
                let optional = written || matches!(of, Type::Optional(_));
                let inner = match &of {
                    Type::Optional(inner) => (**inner).clone(),
                    other => other.clone(),
                };
                let found = match &inner {
                    Type::List(of, _) if by.is_number() || by.is_dyn() => (**of).clone(),
                    Type::Map(of) if by.fits(&Type::String) => (**of).clone(),
                    Type::Dyn => Type::Dyn,
                    _ => {
                        let function = if written { "_[?_]" } else { "_[_]" };
                        let what =
                            format!("found no matching overload for '{function}' applied to '({of}, {by})'");
                        self.fail(at, what)
                    }
                };
                match optional {
                    true => Type::Optional(Arc::new(found)),
                    false => found,
                }
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List(items) => {
                let mixed = std::mem::take(&mut self.mixed);
                let (mut of, mut given): (Option<Type>, Vec<Type>) = (None, Vec::new());
                for (item, optional) in items {
                    let ty = self.element(item, *optional);
                    if mixed {
                        given.push(ty.clone());
                    }
                    match (mixed, &of) {
                        (true, Some(_)) => of = Some(Type::Dyn),
                        _ => self.alike(&mut of, item, ty),
                    }
                }
                if mixed {
                    self.given = given;
                }
                Type::list(of.unwrap_or(Type::Dyn))
            }
            Kind::Map(entries) => {
                let (mut by, mut of): (Option<Type>, Option<Type>) = (None, None);
                let mut text_keys = true;
                for (key, value, optional) in entries {
                    let ty = self.expr(key);
                    text_keys &= matches!(ty, Type::String);
                    self.alike(&mut by, key, ty);
                    let ty = self.element(value, *optional);
                    self.alike(&mut of, value, ty);
                }
                match text_keys {
                    true => Type::Map(Arc::new(of.unwrap_or(Type::Dyn))),
                    false => Type::Dyn,
                }
            }
            Kind::Message(name, fields) => {
                for (field, value, _) in fields.iter_mut() {
                    let ty = self.expr(value);
                    if name == JSON_PATCH {
                        let wanted = match field.as_str() {
                            "op" | "path" | "from" => &Type::String,
                            "value" => &Type::Dyn,
                            _ => {
                                self.fail(value.at, format!("undefined field '{field}'"));
                                continue;
                            }
                        };
                        if !ty.fits(wanted) {
                            let what = format!(
                                "expected type of field '{field}' is '{wanted}' but provided type is '{ty}'"
                            );
                            self.fail(value.at, what);
                        }
                    }
                }
                match self.env.message(name) {
                    Some(ty) => ty,
                    None => {
                        let what = format!("undeclared reference to '{name}' (in container '')");
                        self.fail(at, what)
                    }
                }
            }
            Kind::Bind {
                name,
                init,
                body,
                through,
            } => {
                let mut ty = self.expr(init);
                if through.is_some() {
                    ty = match ty {
                        Type::Optional(inner) => (*inner).clone(),
                        _ => Type::Dyn,
                    };
                }
                self.locals.push((name.clone(), ty));
                let out = self.expr(body);
                self.locals.pop();
                match through {
                    Some(Through::Map) => Type::Optional(Arc::new(out)),
                    Some(Through::FlatMap) if !matches!(out, Type::Optional(_) | Type::Dyn) => {
                        let what = format!(
                            "found no matching overload for '_?_:_' applied to '(bool, {out}, optional_type(dyn))'"
                        );
                        self.fail(at, what)
                    }
                    _ => out,
                }
            }
            Kind::Comprehension(walk) => self.comprehension(at, walk),
        }
    }

    /// The type of an element of a list or map; one behind a question mark is an optional value.
    fn element(&mut self, item: &mut Expr, optional: bool) -> Type {
        match self.expr(item) {
            Type::Optional(inner) if optional => (*inner).clone(),
            ty if optional && !ty.is_dyn() => {
                let what = format!("expected type 'optional_type({ty})' but found '{ty}'");
                self.fail(item.at, what)
            }
            ty => ty,
        }
    }

    /// Elements of a literal are of one type.
    fn alike(&mut self, of: &mut Option<Type>, item: &Expr, ty: Type) {
        let at = item.at;
        // Nothing is nothing of any type.
        if matches!(&item.kind, Kind::Call { function, .. } if function == "optional.none") {
            return;
        }
        match of {
            None => *of = Some(ty),
            Some(before) if before.is_dyn() == ty.is_dyn() && before.fits(&ty) => {}
            // What is wrong already has no type.
            Some(_) if !self.findings.is_empty() => {}
            Some(before) => {
                let what = format!("expected type '{before}' but found '{ty}'");
                self.fail(at, what);
            }
        }
    }

    /// Times and spans that are written out must be well-formed.
    fn literals(&mut self, function: &str, args: &[Expr]) {
        let [
            Expr {
                at,
                kind: Kind::Literal(value),
            },
        ] = args
        else {
            return;
        };
        let good = match (function, value) {
            ("duration", Value::String(text)) => library::parse_duration(text).is_some(),
            ("timestamp", Value::String(text)) => library::parse_time(text).is_some(),
            ("duration", Value::Int(_)) => false,
            ("timestamp", Value::Int(seconds)) => TIMES.contains(seconds),
            _ => true,
        };
        if !good {
            self.late
                .push(Finding::new(*at, format!("invalid {function} argument")));
        }
    }

    fn field(&mut self, at: usize, of: &Type, field: &str) -> Type {
        match of {
            Type::Object(object) => match object.field(field) {
                Some(found) => found.ty.clone(),
                None => self.fail(at, format!("undefined field '{field}'")),
            },
            Type::Map(of) => (**of).clone(),
            Type::Optional(inner) => self.field(at, inner, field),
            Type::Dyn => Type::Dyn,
            other => self.fail(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn comprehension(&mut self, at: usize, c: &mut Comprehension) -> Type {
        let range = self.expr(&mut c.range);
        let (first, second) = match &range {
            Type::List(of, _) => (Type::Int, (**of).clone()),
            Type::Map(of) => (Type::String, (**of).clone()),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let what = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fail(c.range.at, what);
                (Type::Dyn, Type::Dyn)
            }
        };
        match &c.second {
            Some(name) => {
                self.locals.push((c.first.clone(), first));
                self.locals.push((name.clone(), second.clone()));
            }
            None => {
                let element = if matches!(range, Type::Map(_)) {
                    first
                } else {
                    second.clone()
                };
                self.locals.push((c.first.clone(), element));
            }
        }
        let filter = c.filter.as_mut().map(|filter| self.expr(filter));
        let body = self.expr(&mut c.body);
        // These macros are conditional expressions underneath, and upstream tells of them in these terms.
        let item = if matches!(range, Type::Map(_)) {
            Type::String
        } else {
            second.clone()
        };
        match (c.walk, filter) {
            (Walk::All | Walk::Exists, _) => self.wants_bool(c.body.at.max(at), &body),
            (Walk::ExistsOne, _) => self.chooses(at, &body, &Type::Int),
            (Walk::Filter, _) => self.chooses(at, &body, &Type::list(item)),
            (Walk::TransformMap | Walk::TransformMapEntry, Some(filter)) => {
                self.chooses(at, &filter, &Type::Map(Arc::new(body.clone())));
            }
            (_, Some(filter)) => self.chooses(at, &filter, &Type::list(body.clone())),
            _ => {}
        }
        self.locals.pop();
        if c.second.is_some() {
            self.locals.pop();
        }
        match c.walk {
            Walk::All | Walk::Exists | Walk::ExistsOne => Type::Bool,
            Walk::Map | Walk::TransformList => Type::list(body),
            Walk::Filter => match range {
                Type::Map(_) => Type::list(Type::String),
                Type::List(of, _) => Type::List(of, crate::types::ListKind::Atomic),
                _ => Type::Dyn,
            },
            Walk::TransformMap => Type::Map(Arc::new(body)),
            Walk::TransformMapEntry => Type::Dyn,
            Walk::SortBy => range,
        }
    }

    /// Judges the condition of a macro between two values of one type.
    fn chooses(&mut self, at: usize, condition: &Type, of: &Type) {
        if !condition.fits(&Type::Bool) {
            let what =
                format!("found no matching overload for '_?_:_' applied to '({condition}, {of}, {of})'");
            self.fail(at, what);
        }
    }

    fn wants_bool(&mut self, at: usize, ty: &Type) {
        if !ty.fits(&Type::Bool) {
            self.fail(at, format!("expected type 'bool' but found '{ty}'"));
        }
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
            return Type::Dyn;
        };
        // `math.greatest(a)` is a function of that whole name, not a member of a variable.
        if let Some(receiver) = target
            && let Kind::Ident(space) = &receiver.kind
            && self.local(space).is_none()
            && self.env.find(space).is_none()
            && self.env.knows(&format!("{space}.{function}"))
        {
            *function = format!("{space}.{function}");
            *target = None;
        }
        let mut types = Vec::new();
        if let Some(target) = target {
            types.push(self.expr(target));
        }
        for arg in args.iter_mut() {
            self.mixed = function == "format" && matches!(arg.kind, Kind::List(_));
            types.push(self.expr(arg));
        }
        self.mixed = false;
        if matches!(function.as_str(), "_&&_" | "_||_") {
            for (arg, ty) in args.iter().zip(&types) {
                self.wants_bool(arg.at, ty);
            }
            return Type::Bool;
        }
        let receives_host = target.is_some() && matches!(types.first(), Some(Type::Opaque(_) | Type::Dyn));
        let known = self.env.knows(function) || (receives_host && library::is_host_function(function));
        if !known {
            let what = format!("undeclared reference to '{function}' (in container '')");
            return self.fail(at, what);
        }
        let pattern = match (function.as_str(), args.as_slice()) {
            ("matches" | "find" | "findAll", [pattern]) | ("matches", [_, pattern]) => Some(pattern),
            ("findAll", [pattern, _]) => Some(pattern),
            _ => None,
        };
        if let Some((Kind::Literal(Value::String(text)), place)) = pattern.map(|p| (&p.kind, p.at)) {
            match crate::pattern::compile(text) {
                Ok(compiled) if !repeats_too_often(text) => *regex = Some(compiled),
                _ => {
                    self.late.push(Finding::new(place, "invalid matches argument"));
                }
            }
        }
        self.literals(function, args);
        if let Some(Kind::Literal(Value::String(pattern))) = target.as_ref().map(|target| &target.kind)
            && let ("format", [argument]) = (function.as_str(), args.as_slice())
            && let Kind::List(items) = &argument.kind
            && let Some(fault) = format::fault(pattern, &self.given)
        {
            let item = fault.argument.and_then(|i| items.get(i));
            let place = item.map_or(at, |(item, _)| item.at);
            self.late.push(Finding::new(place, fault.what));
        }
        match library::result_type(function, target.is_some(), &types) {
            Ok(ty) => ty,
            Err(()) => {
                let mut shown: Vec<String> = types.iter().map(ToString::to_string).collect();
                let receiver = target.as_ref().map(|_| shown.remove(0));
                let what = match receiver {
                    Some(receiver) => format!(
                        "found no matching overload for '{function}' applied to '{receiver}.({})'",
                        shown.join(", ")
                    ),
                    None => format!(
                        "found no matching overload for '{function}' applied to '({})'",
                        shown.join(", ")
                    ),
                };
                self.fail(at, what)
            }
        }
    }
}

/// Seconds of times from the year 1 to the year 9999.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Upstream's patterns repeat nothing more often than this.
const REPEATS: u32 = 1000;

fn repeats_too_often(pattern: &str) -> bool {
    pattern.split('{').skip(1).any(|after| {
        let counts = after.split_once('}').map_or("", |(counts, _)| counts);
        counts
            .split(',')
            .any(|count| count.parse::<u32>().is_ok_and(|n| n > REPEATS))
    })
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
