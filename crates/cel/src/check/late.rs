//! What is looked at only when the types of an expression are right: literals that mix types, patterns and times that are
//! written out, calls of `format`.

use crate::ast::{Expr, Finding, Kind};
use crate::format::{self, Item};
use crate::infer::Known;
use crate::types::Type;
use crate::value::Value;
use crate::{library, pattern};

/// What was seen on the way.
#[derive(Default)]
pub(super) struct Late {
    /// Calls of `format` around this place: there types may be mixed.
    pub exempt: usize,
    alike: Vec<Alike>,
    literals: Vec<Finding>,
    formats: Vec<Format>,
}

/// Elements that must be of one type.
struct Alike {
    each: Vec<(usize, Type)>,
    /// One that is not is enough to tell.
    once: bool,
}

/// A call of `format` with everything written out.
struct Format {
    at: usize,
    pattern: String,
    items: Vec<Item>,
}

impl Late {
    /// Elements of a literal, each with its place.
    pub(super) fn alike(&mut self, each: Vec<(usize, Type)>, once: bool) {
        if self.exempt == 0 && each.len() > 1 {
            self.alike.push(Alike { each, once });
        }
    }

    /// A pattern or time that is written out; a good pattern is made ready.
    pub(super) fn literals(
        &mut self,
        function: &str,
        member: bool,
        args: &[Expr],
        regex: &mut Option<regex::Regex>,
    ) {
        let text = |arg: &Expr| match &arg.kind {
            Kind::Literal(Value::String(text)) => Some((arg.at, text.to_string())),
            _ => None,
        };
        let given = match (function, member, args) {
            ("matches" | "find" | "findAll", true, [pattern, ..]) | ("matches", false, [_, pattern]) => {
                text(pattern)
            }
            _ => None,
        };
        if let Some((at, pattern)) = given {
            *regex = pattern::compile(&pattern).ok();
            if regex.is_none() && member && function == "matches" {
                self.invalid(at, "matches");
            }
        }
        // Of the function that is no member upstream looks at the text, as if it were the pattern.
        if let ("matches", false, [first, ..]) = (function, member, args)
            && let Some((at, pattern)) = text(first)
            && pattern::compile(&pattern).is_err()
        {
            self.invalid(at, "matches");
        }
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
            ("duration", Value::Int(_)) | ("duration" | "timestamp", Value::Null) => false,
            ("timestamp", Value::Int(seconds)) => TIMES.contains(seconds),
            _ => true,
        };
        if !good {
            self.invalid(*at, function);
        }
    }

    fn invalid(&mut self, at: usize, function: &str) {
        let what = format!("invalid {function} argument");
        self.literals.push(Finding::new(at, what));
    }

    /// A call of `format` with these items.
    pub(super) fn format(&mut self, at: usize, target: Option<&Expr>, items: Vec<Item>) {
        if let Some(Kind::Literal(Value::String(pattern))) = target.map(|target| &target.kind) {
            let pattern = pattern.to_string();
            self.formats.push(Format { at, pattern, items });
        }
    }

    /// What is wrong.
    pub(super) fn findings(self, known: &Known) -> Vec<Finding> {
        let mut findings = Vec::new();
        for alike in self.alike {
            let mut each = alike.each.iter().map(|(at, ty)| (*at, known.settled(ty, true)));
            let Some((_, first)) = each.next() else {
                continue;
            };
            let mut others = each.filter(|(_, ty)| !ty.is_same(&first)).map(|(at, ty)| {
                let what = format!("expected type '{first}' but found '{ty}'");
                Finding::new(at, what)
            });
            match alike.once {
                true => findings.extend(others.next()),
                false => findings.extend(others),
            }
        }
        findings.extend(self.literals);
        for mut call in self.formats {
            settle(&mut call.items, known);
            if let Some(fault) = format::fault(&call.pattern, &call.items) {
                findings.push(Finding::new(fault.at.unwrap_or(call.at), fault.what));
            }
        }
        findings
    }
}

fn settle(items: &mut [Item], known: &Known) {
    for item in items {
        item.ty = known.settled(&item.ty, true);
        settle(&mut item.parts, known);
    }
}

/// Seconds of times from the year 1 to the year 9999.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
