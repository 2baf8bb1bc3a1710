//! Macros: calls that bind names or look at their arguments unevaluated.

use crate::ast::{Comprehension, Expr, Kind, Through, Walk};
use crate::parser::Refused;

/// Names that the results of comprehensions go by, which no variable may take.
pub(crate) const ACCUMULATORS: [&str; 2] = ["@result", "__result__"];

/// A call without a target.
pub(crate) fn global(at: usize, name: String, mut args: Vec<Expr>) -> Result<Expr, Refused> {
    if name != "has" || args.len() != 1 {
        let kind = Kind::Call {
            function: name,
            target: None,
            args,
            regex: None,
        };
        return Ok(Expr::new(at, kind));
    }
    match args.pop().map(|arg| arg.kind) {
        Some(Kind::Select {
            operand,
            field,
            optional: false,
            ..
        }) => {
            let kind = Kind::Select {
                operand,
                field,
                test: true,
                optional: false,
            };
            Ok(Expr::new(at, kind))
        }
        _ => Err(Refused::Broken),
    }
}

/// A call on a target.
pub(crate) fn member(
    at: usize,
    target: Expr,
    name: String,
    args: Vec<Expr>,
    binds: bool,
) -> Result<Expr, Refused> {
    if binds && name == "bind" && args.len() == 3 && matches!(&target.kind, Kind::Ident(ns) if ns == "cel") {
        let mut args = args.into_iter();
        let (Some(variable), Some(init), Some(body)) = (args.next(), args.next(), args.next()) else {
            return Err(Refused::Broken);
        };
        return Ok(bind(at, simple_name(variable)?, init, body, None));
    }
    let through = match name.as_str() {
        "optMap" => Some(Through::Map),
        "optFlatMap" => Some(Through::FlatMap),
        _ => None,
    };
    if let (Some(through), 2) = (through, args.len()) {
        let mut args = args.into_iter();
        let (Some(variable), Some(body)) = (args.next(), args.next()) else {
            return Err(Refused::Broken);
        };
        return Ok(bind(at, simple_name(variable)?, target, body, Some(through)));
    }
    let walk = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => Some(Walk::All),
        ("exists", 2 | 3) => Some(Walk::Exists),
        ("exists_one" | "existsOne", 2 | 3) => Some(Walk::ExistsOne),
        ("map", 2 | 3) => Some(Walk::Map),
        ("filter", 2) => Some(Walk::Filter),
        ("transformList", 3 | 4) => Some(Walk::TransformList),
        ("transformMap", 3 | 4) => Some(Walk::TransformMap),
        ("transformMapEntry", 3 | 4) => Some(Walk::TransformMapEntry),
        ("sortBy", 2) => Some(Walk::SortBy),
        _ => None,
    };
    let Some(walk) = walk else {
        let kind = Kind::Call {
            function: name,
            target: Some(Box::new(target)),
            args,
            regex: None,
        };
        return Ok(Expr::new(at, kind));
    };
    comprehension(at, walk, target, args)
}

fn comprehension(at: usize, walk: Walk, range: Expr, args: Vec<Expr>) -> Result<Expr, Refused> {
    let two = match walk {
        Walk::All | Walk::Exists | Walk::ExistsOne => args.len() == 3,
        Walk::Map | Walk::Filter | Walk::SortBy => false,
        Walk::TransformList | Walk::TransformMap | Walk::TransformMapEntry => true,
    };
    let sortable = !matches!(range.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Message(..));
    if walk == Walk::SortBy && !sortable {
        return Err(Refused::Broken);
    }
    let mut args = args.into_iter();
    let mut variable = || {
        let name = simple_name(args.next().ok_or(Refused::Broken)?)?;
        match ACCUMULATORS.contains(&name.as_str()) {
            true => Err(Refused::Broken),
            false => Ok(name),
        }
    };
    let first = variable()?;
    let second = if two { Some(variable()?) } else { None };
    if second.as_ref() == Some(&first) {
        return Err(Refused::Broken);
    }
    let body = args.next_back().ok_or(Refused::Broken)?;
    let filter = args.next();
    Ok(Expr::new(
        at,
        Kind::Comprehension(Box::new(Comprehension {
            walk,
            range,
            first,
            second,
            filter,
            body,
        })),
    ))
}

fn bind(at: usize, name: String, init: Expr, body: Expr, through: Option<Through>) -> Expr {
    let (init, body) = (Box::new(init), Box::new(body));
    Expr::new(
        at,
        Kind::Bind {
            name,
            init,
            body,
            through,
        },
    )
}

fn simple_name(expr: Expr) -> Result<String, Refused> {
    match expr.kind {
        Kind::Ident(name) => Ok(name),
        _ => Err(Refused::Broken),
    }
}
