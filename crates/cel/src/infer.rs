//! What is learnt of types that are open when they first appear: the elements of `[]`, the letters of a function. A type fits
//! another one way or not at all; what was supposed on the way is forgotten when it does not.

use crate::library::Overload;
use crate::room::with_room;
use crate::types::Type;
use std::sync::Arc;

/// Types are looked at so often in one expression; after that everything fits. No expression that anyone writes comes near.
const STEPS: u32 = 2_000_000;
/// A chain of suppositions that is longer holds.
const DEPTH: u32 = 300;
/// Parts of a type that are kept; of a larger one nothing more is known.
const PARTS: u32 = 2_000;

/// What is known of open types. The first two stand for what `list` and `map` are made of.
pub(crate) struct Known {
    types: Vec<Option<Type>>,
    /// What was known before, to be restored.
    trail: Vec<(usize, Option<Type>)>,
    steps: u32,
    depth: u32,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            types: vec![None; 2],
            trail: Vec::new(),
            steps: 0,
            depth: 0,
        }
    }
}

impl Known {
    /// A new open type.
    pub(crate) fn open(&mut self) -> Type {
        self.types.push(None);
        Type::Open(self.types.len() - 1)
    }

    /// What a way to call takes and gives, its letters open.
    pub(crate) fn opened(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        let first = self.types.len();
        self.types.extend((0..overload.letters).map(|_| None));
        let takes = overload.takes.iter().map(|ty| numbered(ty, first)).collect();
        (takes, numbered(&overload.gives, first))
    }

    /// Whether a value of the one type may stand for one of the other.
    pub(crate) fn fits(&mut self, one: &Type, other: &Type) -> bool {
        self.all_fit(std::slice::from_ref(one), std::slice::from_ref(other))
    }

    /// Whether all fit together.
    pub(crate) fn all_fit(&mut self, ones: &[Type], others: &[Type]) -> bool {
        self.trail.clear();
        let fit = ones.len() == others.len()
            && ones
                .iter()
                .zip(others)
                .all(|(one, other)| self.supposes(one, other));
        if !fit {
            for (number, before) in std::mem::take(&mut self.trail).into_iter().rev() {
                self.types[number] = before;
            }
        }
        fit
    }

    /// A type with all in it that is known. `ended`: what is open stays so no longer.
    pub(crate) fn settled(&self, ty: &Type, ended: bool) -> Type {
        self.resolve(ty, ended, &mut 0)
    }

    /// A type that may have become too large.
    pub(crate) fn bounded(&self, ty: Type) -> Type {
        match has_more(&ty, &mut { PARTS }) {
            true => self.settled(&ty, false),
            false => ty,
        }
    }

    fn resolve(&self, ty: &Type, ended: bool, parts: &mut u32) -> Type {
        *parts += 1;
        if *parts > PARTS {
            return Type::Dyn;
        }
        let mut ty = ty;
        while let Type::Open(number) = ty {
            match &self.types[*number] {
                Some(known) => ty = known,
                None if ended => return Type::Dyn,
                None => break,
            }
        }
        let mut inner = |of: &Type| Arc::new(self.resolve(of, ended, parts));
        match ty {
            Type::List(of, kind) => Type::List(inner(of), kind.clone()),
            Type::Map(by, of) => Type::Map(inner(by), inner(of)),
            Type::Optional(of) => Type::Optional(inner(of)),
            Type::Type(Some(of)) => Type::Type(Some(inner(of))),
            other => other.clone(),
        }
    }

    fn supposes(&mut self, one: &Type, other: &Type) -> bool {
        self.steps = self.steps.saturating_add(1);
        if self.steps > STEPS || self.depth > DEPTH {
            return true;
        }
        self.depth += 1;
        let fits = with_room(|| self.compare(one, other));
        self.depth -= 1;
        fits
    }

    fn compare(&mut self, one: &Type, other: &Type) -> bool {
        if let Type::Open(number) = other {
            match self.stands_for(one, *number) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Open(number) = one {
            return self.stands_for(other, *number).0;
        }
        match (one, other) {
            (Type::Dyn | Type::Any | Type::Error, _) | (_, Type::Dyn | Type::Any | Type::Error) => true,
            (Type::Null, ty) | (ty, Type::Null) => is_nullable(ty),
            (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => {
                self.supposes(a, b)
            }
            (Type::Map(a, x), Type::Map(b, y)) => self.supposes(a, b) && self.supposes(x, y),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a.is_same(b),
        }
    }

    /// Whether an open type may be this one, and whether something was known of it.
    fn stands_for(&mut self, ty: &Type, number: usize) -> (bool, bool) {
        if matches!(ty, Type::Open(same) if *same == number) {
            return (true, true);
        }
        let Some(known) = self.types[number].clone() else {
            let free = self.is_free(number, ty);
            if free {
                self.learn(number, ty.clone());
            }
            return (free, false);
        };
        if ty.is_same(&known) {
            return (true, true);
        }
        if !self.supposes(ty, &known) {
            return (false, true);
        }
        let general = more_general(ty, &known);
        if self.is_free(number, &general) {
            self.learn(number, general);
        }
        (true, true)
    }

    fn learn(&mut self, number: usize, ty: Type) {
        let before = self.types[number].replace(ty);
        self.trail.push((number, before));
    }

    /// Whether an open type is no part of another.
    fn is_free(&mut self, number: usize, within: &Type) -> bool {
        self.steps = self.steps.saturating_add(1);
        if self.steps > STEPS || self.depth > DEPTH {
            return false;
        }
        self.depth += 1;
        let free = match within {
            Type::Open(same) if *same == number => false,
            Type::Open(inner) => match self.types[*inner].clone() {
                Some(known) => self.is_free(number, &known),
                None => true,
            },
            Type::List(of, _) | Type::Optional(of) | Type::Type(Some(of)) => {
                with_room(|| self.is_free(number, of))
            }
            Type::Map(by, of) => self.is_free(number, by) && self.is_free(number, of),
            _ => true,
        };
        self.depth -= 1;
        free
    }
}

/// A type whose open parts are counted from another number on.
fn numbered(ty: &Type, first: usize) -> Type {
    let inner = |of: &Type| Arc::new(numbered(of, first));
    match ty {
        Type::Open(number) => Type::Open(first + number),
        Type::List(of, kind) => Type::List(inner(of), kind.clone()),
        Type::Map(by, of) => Type::Map(inner(by), inner(of)),
        Type::Optional(of) => Type::Optional(inner(of)),
        Type::Type(Some(of)) => Type::Type(Some(inner(of))),
        other => other.clone(),
    }
}

/// Whether a type has more parts than are left.
fn has_more(ty: &Type, left: &mut u32) -> bool {
    if *left == 0 {
        return true;
    }
    *left -= 1;
    match ty {
        Type::List(of, _) | Type::Optional(of) | Type::Type(Some(of)) => has_more(of, left),
        Type::Map(by, of) => has_more(by, left) || has_more(of, left),
        _ => false,
    }
}

/// Objects and what libraries have may be null.
fn is_nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Object(_) | Type::Opaque(_) | Type::Optional(_) | Type::Timestamp | Type::Duration
    )
}

/// Of two types that fit together the one that says less.
pub(crate) fn more_general(one: &Type, other: &Type) -> Type {
    match says_less(one, other) {
        true => one.clone(),
        false => other.clone(),
    }
}

fn says_less(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Any | Type::Open(_), _) => true,
        (_, Type::Dyn | Type::Any | Type::Open(_)) => false,
        (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => says_less(a, b),
        (Type::Map(a, x), Type::Map(b, y)) => says_less(a, b) && says_less(x, y),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a.is_same(b),
    }
}
