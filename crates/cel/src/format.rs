//! What is wrong with a call of `format` whose pattern and arguments are written out: told when an expression is compiled, where
//! upstream tells it, too. Source: cel-go, `ext/formatting.go`.

use crate::types::Type;

/// An argument.
#[derive(Debug, Default)]
pub(crate) struct Item {
    pub at: usize,
    pub ty: Type,
    /// What a list or map is made of that is written out.
    pub parts: Vec<Item>,
}

/// A fault, at an argument (or a part of it) or at the call as a whole.
pub(crate) struct Fault {
    pub at: Option<usize>,
    pub what: String,
}

/// What a clause takes.
struct Clause {
    takes: fn(&Type) -> bool,
    /// Whether it looks into lists and maps.
    deep: bool,
    rule: &'static str,
}

fn clause(verb: u8) -> Option<Clause> {
    let shallow = |takes, rule| Clause {
        takes,
        deep: false,
        rule,
    };
    Some(match verb {
        b's' => Clause {
            takes: |ty| {
                !matches!(
                    ty,
                    Type::Any | Type::Object(_) | Type::Optional(_) | Type::Opaque(_)
                )
            },
            deep: true,
            rule: "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
                   and timestamps",
        },
        b'd' => shallow(
            |ty| matches!(ty, Type::Dyn | Type::Int | Type::Uint),
            "decimal clause can only be used on integers",
        ),
        b'f' => shallow(
            |ty| matches!(ty, Type::Dyn | Type::Double | Type::String),
            "fixed-point clause can only be used on doubles",
        ),
        b'e' => shallow(
            |ty| matches!(ty, Type::Dyn | Type::Double | Type::String),
            "scientific clause can only be used on doubles",
        ),
        b'o' => shallow(
            |ty| matches!(ty, Type::Dyn | Type::Int | Type::Uint),
            "octal clause can only be used on integers",
        ),
        b'b' => shallow(
            |ty| matches!(ty, Type::Dyn | Type::Int | Type::Uint | Type::Bool),
            "only integers and bools can be formatted as binary",
        ),
        b'x' | b'X' => shallow(
            |ty| {
                matches!(
                    ty,
                    Type::Dyn | Type::Int | Type::Uint | Type::String | Type::Bytes
                )
            },
            "only integers, byte buffers, and strings can be formatted as hex",
        ),
        _ => return None,
    })
}

/// The first fault of a pattern with these arguments.
pub(crate) fn fault(pattern: &str, items: &[Item]) -> Option<Fault> {
    let whole = |what: String| Some(Fault { at: None, what });
    let (mut rest, mut used) = (pattern.as_bytes(), 0);
    while let Some(start) = rest.iter().position(|sign| *sign == b'%') {
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix(b"%") {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return whole("unexpected end of string".into());
        }
        let Some(item) = items.get(used) else {
            return whole(format!("index {used} out of range"));
        };
        rest = match after_precision(rest) {
            Ok(rest) => rest,
            Err(why) => {
                let what = format!("could not parse formatting clause: error while parsing precision: {why}");
                return whole(what);
            }
        };
        // Upstream takes the first byte for a character.
        let verb = rest.first().copied().unwrap_or_default();
        let Some(clause) = clause(verb) else {
            return whole(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{}\"",
                char::from(verb)
            ));
        };
        if let Some(bad) = refused(&clause, item) {
            let what = format!(
                "error during formatting: {}, was given {}",
                clause.rule,
                bad.ty.name()
            );
            return Some(Fault {
                at: Some(bad.at),
                what,
            });
        }
        rest = &rest[1..];
        used += 1;
    }
    let given = items.len();
    match used < given {
        true => whole(format!(
            "too many arguments supplied to string.format (expected {used}, got {given})"
        )),
        false => None,
    }
}

/// What is left of a clause after its precision.
fn after_precision(rest: &[u8]) -> Result<&[u8], String> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Ok(rest);
    };
    let Some(end) = rest.iter().position(|sign| !sign.is_ascii_digit()) else {
        return Err("could not find end of precision specifier".into());
    };
    let digits = String::from_utf8_lossy(&rest[..end]);
    let why = match digits.parse::<i64>() {
        Ok(_) => return Ok(&rest[end..]),
        Err(_) if digits.is_empty() => "invalid syntax",
        Err(_) => "value out of range",
    };
    Err(format!(
        "error while converting precision to integer: strconv.Atoi: parsing \"{digits}\": {why}"
    ))
}

/// What a clause does not take: an argument or a part of it.
fn refused<'i>(clause: &Clause, item: &'i Item) -> Option<&'i Item> {
    if !(clause.takes)(&item.ty) {
        return Some(item);
    }
    let mut parts = item.parts.iter().filter(|_| clause.deep);
    parts.find_map(|part| refused(clause, part))
}
