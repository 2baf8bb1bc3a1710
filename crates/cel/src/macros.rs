//! Macros: calls that bind names or look at their arguments unevaluated.

use crate::ast::{Comprehension, Expr, Finding, Kind, Through, Walk};

/// A call without a target.
pub(crate) fn global(at: usize, name_at: usize, name: String, mut args: Vec<Expr>) -> Result<Expr, Finding> {
    if name == "has" && args.len() == 1 {
        let wrong = args.first().map_or(at, |arg| arg.at);
        let Some(Expr {
            kind:
                Kind::Select {
                    operand,
                    field,
                    test: false,
                    optional: false,
                },
            ..
        }) = args.pop()
        else {
            return Err(Finding::new(wrong, "invalid argument to has() macro"));
        };
        let kind = Kind::Select {
            operand,
            field,
            test: true,
            optional: false,
        };
        return Ok(Expr::new(at, kind));
    }
    let _ = name_at;
    let kind = Kind::Call {
        function: name,
        target: None,
        args,
        regex: None,
    };
    Ok(Expr::new(at, kind))
}

/// A call on a target.
pub(crate) fn member(
    at: usize,
    name_at: usize,
    target: Expr,
    name: String,
    args: Vec<Expr>,
    binds: bool,
) -> Result<Expr, Finding> {
    if binds && name == "bind" && args.len() == 3 && matches!(&target.kind, Kind::Ident(ns) if ns == "cel") {
        let mut args = args.into_iter();
        let variable = args
            .next()
            .map(|e| variable(&e))
            .unwrap_or(Err(Finding::new(at, "")))?;
        if let (Some(init), Some(body)) = (args.next(), args.next()) {
            return Ok(bind(at, variable, init, body, None));
        }
        return Err(Finding::new(name_at, "cel.bind() takes three arguments"));
    }
    let through = match name.as_str() {
        "optMap" => Some(Through::Map),
        "optFlatMap" => Some(Through::FlatMap),
        _ => None,
    };
    if let (Some(through), 2) = (through, args.len()) {
        let mut args = args.into_iter();
        if let (Some(name), Some(body)) = (args.next(), args.next()) {
            return Ok(bind(at, variable(&name)?, target, body, Some(through)));
        }
        return Err(Finding::new(name_at, "optMap() takes two arguments"));
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

fn comprehension(at: usize, walk: Walk, range: Expr, args: Vec<Expr>) -> Result<Expr, Finding> {
    let two = match walk {
        Walk::All | Walk::Exists | Walk::ExistsOne => args.len() == 3,
        Walk::Map | Walk::Filter | Walk::SortBy => false,
        Walk::TransformList | Walk::TransformMap | Walk::TransformMapEntry => true,
    };
    let few = || Finding::new(at, "too few arguments");
    let mut args = args.into_iter();
    let first = args.next().ok_or_else(few)?;
    let first = variable(&first).map_err(|error| match walk {
        Walk::Map | Walk::Filter => Finding::new(error.at, "argument is not an identifier"),
        _ => error,
    })?;
    let second = match two {
        true => {
            let second = args.next().ok_or_else(few)?;
            let name = variable(&second)?;
            if name == first {
                return Err(Finding::new(
                    second.at,
                    format!("duplicate variable name: {first}"),
                ));
            }
            Some(name)
        }
        false => None,
    };
    let body = args.next_back().ok_or_else(few)?;
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

fn variable(expr: &Expr) -> Result<String, Finding> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Finding::new(expr.at, "argument must be a simple name")),
    }
}
