//! Macros that bind names. Underneath they are a few operators and a walk, and upstream tells of them in these terms.

use super::Checker;
use crate::ast::{Comprehension, Expr, Through, Walk};
use crate::types::Type;
use std::sync::Arc;

/// The receiver of such a macro is looked at twice, those within it four times, and so on: as long as no more was looked at.
const LOOKED_AT: usize = 50_000;

impl Checker<'_> {
    /// `cel.bind(name, init, body)`: underneath a walk through an empty list.
    pub(super) fn bind(&mut self, name: &str, init: &mut Expr, body: &mut Expr) -> Type {
        self.known.open();
        let of = self.expr(init);
        self.bound(name, of, body)
    }

    fn bound(&mut self, name: &str, of: Type, body: &mut Expr) -> Type {
        self.locals.push((name.to_owned(), of));
        let out = self.expr(body);
        self.locals.pop();
        self.known.settled(&out, false)
    }

    /// `init.optMap(name, body)`: a condition, with the receiver in it twice.
    pub(super) fn through(
        &mut self,
        at: usize,
        name: &str,
        init: &mut Expr,
        body: &mut Expr,
        through: Through,
    ) -> Type {
        let receiver = self.expr(init);
        let has = self.resolve(at, "hasValue", true, vec![receiver.clone()]);
        self.known.open();
        let receiver = match self.looked_at < LOOKED_AT {
            true => {
                self.again.push(at);
                let receiver = self.expr(init);
                self.again.pop();
                receiver
            }
            false => receiver,
        };
        let value = self.resolve(at, "value", true, vec![receiver]);
        let mut some = self.bound(name, value, body);
        if through == Through::Map {
            some = self.resolve(at, "optional.of", false, vec![some]);
        }
        let none = self.resolve(at, "optional.none", false, Vec::new());
        self.resolve(at, "_?_:_", false, vec![has, some, none])
    }

    pub(super) fn comprehension(&mut self, at: usize, c: &mut Comprehension) -> Type {
        if c.walk != Walk::SortBy {
            let range = self.expr(&mut c.range);
            return self.walk(at, range, c);
        }
        // The list is bound to a name, walked through for the keys, and sorted by them.
        self.known.open();
        let range = self.expr(&mut c.range);
        let keys = self.walk(at, range.clone(), c);
        let sorted = self.resolve(at, "@sortByAssociatedKeys", true, vec![range, keys]);
        self.known.settled(&sorted, false)
    }

    fn walk(&mut self, at: usize, range: Type, c: &mut Comprehension) -> Type {
        let gathered = match c.walk {
            Walk::All | Walk::Exists => Type::Bool,
            Walk::ExistsOne => Type::Int,
            Walk::Map | Walk::Filter | Walk::TransformList | Walk::SortBy => Type::list(self.known.open()),
            Walk::TransformMap | Walk::TransformMapEntry => {
                Type::Map(Arc::new(self.known.open()), Arc::new(self.known.open()))
            }
        };
        let (key, value) = self.walked(at, &range, c);
        let element = match &c.second {
            Some(name) => {
                self.locals.push((c.first.clone(), key.clone()));
                self.locals.push((name.clone(), value));
                key
            }
            None => {
                self.locals.push((c.first.clone(), value.clone()));
                value
            }
        };
        let step = self.step(at, &gathered, element, c);
        if !self.known.fits(&gathered, &step) {
            self.mismatch(at, &gathered, &step);
        }
        self.locals.pop();
        if c.second.is_some() {
            self.locals.pop();
        }
        match c.walk {
            Walk::ExistsOne => self.resolve(at, "_==_", false, vec![Type::Int, Type::Int]),
            _ => self.known.settled(&gathered, false),
        }
    }

    /// What the names of a walk are: index or key, and value; with one name alone the second is what it stands for.
    fn walked(&mut self, at: usize, range: &Type, c: &Comprehension) -> (Type, Type) {
        let range = self.known.settled(range, false);
        match &range {
            Type::List(of, _) => (Type::Int, (**of).clone()),
            Type::Map(by, _) if c.second.is_none() => ((**by).clone(), (**by).clone()),
            Type::Map(by, of) => ((**by).clone(), (**of).clone()),
            Type::Dyn | Type::Error | Type::Open(_) => {
                self.known.fits(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let what = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                // What is sorted has a name by then.
                let at = if c.walk == Walk::SortBy { at } else { c.range.at };
                self.fail(at, what);
                (Type::Error, Type::Error)
            }
        }
    }

    /// What one step of a walk makes of what is gathered.
    fn step(&mut self, at: usize, gathered: &Type, element: Type, c: &mut Comprehension) -> Type {
        let mut filter = c.filter.as_mut().map(|filter| self.expr(filter));
        let body = self.expr(&mut c.body);
        let grown = match c.walk {
            Walk::All | Walk::Exists => {
                return match self.known.fits(&body, &Type::Bool) {
                    true => Type::Bool,
                    false => self.mismatch(c.body.at, &Type::Bool, &body),
                };
            }
            Walk::ExistsOne => {
                filter = Some(body);
                self.resolve(at, "_+_", false, vec![Type::Int, Type::Int])
            }
            Walk::Filter => {
                filter = Some(body);
                let more = vec![gathered.clone(), Type::list(element)];
                self.resolve(at, "_+_", false, more)
            }
            Walk::Map | Walk::TransformList | Walk::SortBy => {
                let more = vec![gathered.clone(), Type::list(body)];
                self.resolve(at, "_+_", false, more)
            }
            Walk::TransformMap => {
                let more = vec![gathered.clone(), element, body];
                self.resolve(at, "cel.@mapInsert", false, more)
            }
            Walk::TransformMapEntry => {
                self.resolve(at, "cel.@mapInsert", false, vec![gathered.clone(), body])
            }
        };
        match filter {
            Some(filter) => self.resolve(at, "_?_:_", false, vec![filter, grown, gathered.clone()]),
            None => grown,
        }
    }
}
