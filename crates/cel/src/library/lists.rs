//! Functions on lists, and lists taken as sets.

use super::{Answer, Input, fail, operators};
use crate::eval::EvalError;
use crate::value::{List, Value};
use std::cmp::Ordering;

/// Elements that `lists.range` makes at most.
const RANGE: i64 = 1_000_000;

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    if let ("lists.range", [Value::Int(n)]) = (input.function, input.args) {
        if *n > RANGE {
            return fail(format!("lists.range: {n} is too large"));
        }
        if let Err(error) = input.meter.charge(u64::try_from(*n).unwrap_or(0)) {
            return Some(Err(error));
        }
        return Some(Ok(Value::list((0..*n).map(Value::Int).collect())));
    }
    let Some(Value::List(list)) = input.args.first() else {
        return None;
    };
    let length = list.len() as u64;
    let cost = match (input.function, input.args.get(1)) {
        ("sets.contains" | "sets.equivalent" | "sets.intersects", Some(other)) => length * other.size(),
        _ => length,
    };
    if let Err(error) = input.meter.charge(cost + 1) {
        return Some(Err(error));
    }
    match (input.function, &input.args[1..]) {
        ("isSorted", []) => {
            let items: Vec<Value<'a>> = list.iter().collect();
            let mut sorted = true;
            for pair in items.windows(2) {
                match pair[0].compare(&pair[1]) {
                    Some(order) => sorted &= order != Ordering::Greater,
                    None => return None,
                }
            }
            Some(Ok(Value::Bool(sorted)))
        }
        ("sum", []) => {
            let mut total: Option<Value<'a>> = None;
            for item in list.iter() {
                total = match total {
                    None => Some(item),
                    Some(before) => {
                        let args = [before, item];
                        let added = operators::call(&Input {
                            function: "_+_",
                            args: &args,
                            regex: None,
                            meter: input.meter,
                        })?;
                        match added {
                            Ok(value) => Some(value),
                            Err(error) => return Some(Err(error)),
                        }
                    }
                };
            }
            Some(Ok(total.unwrap_or(Value::Int(0))))
        }
        ("min" | "max", []) => {
            let wanted = if input.function == "min" {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            extreme(list.iter(), wanted)
                .unwrap_or_else(|| fail(format!("{} called on empty list", input.function)))
        }
        ("indexOf", [item]) => {
            let at = list.iter().position(|i| i.equals(item));
            Some(Ok(Value::Int(at.map_or(-1, |at| at as i64))))
        }
        ("lastIndexOf", [item]) => {
            let items: Vec<Value<'a>> = list.iter().collect();
            let at = items.iter().rposition(|i| i.equals(item));
            Some(Ok(Value::Int(at.map_or(-1, |at| at as i64))))
        }
        ("distinct", []) => {
            if let Err(error) = input.meter.charge(length * length) {
                return Some(Err(error));
            }
            let mut out: Vec<Value<'a>> = Vec::new();
            for item in list.iter() {
                if !out.iter().any(|o| o.equals(&item)) {
                    out.push(item);
                }
            }
            Some(Ok(Value::list(out)))
        }
        ("reverse", []) => {
            let mut items: Vec<Value<'a>> = list.iter().collect();
            items.reverse();
            Some(Ok(Value::list(items)))
        }
        ("sort", []) => {
            let mut items: Vec<Value<'a>> = list.iter().collect();
            Some(sort(&mut items, |v| v).map(|()| Value::list(items)))
        }
        ("slice", [Value::Int(from), Value::Int(to)]) => {
            let why = match () {
                () if *from < 0 || *to < 0 => "negative indexes not supported".to_string(),
                () if from > to => "start index must be less than or equal to end index".into(),
                () if *to > length as i64 => format!("list is length {length}"),
                () => String::new(),
            };
            if !why.is_empty() {
                return fail(format!("cannot slice({from}, {to}), {why}"));
            }
            let part = list.iter().skip(*from as usize).take((to - from) as usize);
            Some(Ok(Value::list(part.collect())))
        }
        ("flatten", []) => Some(Ok(Value::list(flatten(list, 1)))),
        ("flatten", [Value::Int(depth)]) if *depth >= 0 => Some(Ok(Value::list(flatten(list, *depth)))),
        ("flatten", [Value::Int(_)]) => fail("level must be non-negative"),
        ("first", []) => Some(Ok(list.get(0).map_or(Value::Optional(None), Value::some))),
        ("last", []) => {
            let last = list.len().checked_sub(1).and_then(|at| list.get(at));
            Some(Ok(last.map_or(Value::Optional(None), Value::some)))
        }
        ("sets.contains", [Value::List(other)]) => Some(Ok(Value::Bool(covers(list, other)))),
        ("sets.equivalent", [Value::List(other)]) => {
            Some(Ok(Value::Bool(covers(list, other) && covers(other, list))))
        }
        ("sets.intersects", [Value::List(other)]) => Some(Ok(Value::Bool(
            other.iter().any(|o| list.iter().any(|i| i.equals(&o))),
        ))),
        _ => None,
    }
}

fn covers(list: &List<'_>, other: &List<'_>) -> bool {
    other.iter().all(|o| list.iter().any(|i| i.equals(&o)))
}

fn flatten<'a>(list: &List<'a>, depth: i64) -> Vec<Value<'a>> {
    let mut out = Vec::new();
    for item in list.iter() {
        match item {
            Value::List(inner) if depth > 0 => out.extend(flatten(&inner, depth - 1)),
            other => out.push(other),
        }
    }
    out
}

/// The smallest or largest value; `None` of nothing.
fn extreme<'a>(items: impl Iterator<Item = Value<'a>>, wanted: Ordering) -> Option<Answer<'a>> {
    let mut best: Option<Value<'a>> = None;
    for item in items {
        best = Some(match best {
            None => item,
            Some(before) => match item.compare(&before) {
                Some(order) if order == wanted => item,
                Some(_) => before,
                None => return Some(None),
            },
        });
    }
    best.map(|value| Some(Ok(value)))
}

/// Sorts by keys that must be comparable.
pub(crate) fn sort<'a, T>(items: &mut [T], key: impl Fn(&T) -> &Value<'a>) -> Result<(), EvalError> {
    let mut comparable = true;
    items.sort_by(|a, b| {
        key(a).compare(key(b)).unwrap_or_else(|| {
            comparable = false;
            Ordering::Equal
        })
    });
    match comparable {
        true => Ok(()),
        false => Err(EvalError::new("list elements must have the same type")),
    }
}
