//! What is wrong with a call of `format` whose pattern and arguments are written out: told when an expression is compiled, where
//! upstream tells it, too. Source: cel-go, `ext/formatting.go`.

use crate::types::Type;

/// A fault, at an argument or at the call as a whole.
pub(crate) struct Fault {
    pub argument: Option<usize>,
    pub what: String,
}

/// The first fault of a pattern with arguments of these types.
pub(crate) fn fault(pattern: &str, types: &[Type]) -> Option<Fault> {
    let whole = |what: String| Some(Fault { argument: None, what });
    let (mut chars, mut used) = (pattern.chars().peekable(), 0);
    while let Some(c) = chars.next() {
        if c != '%' {
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            continue;
        }
        if chars.next_if_eq(&'.').is_some() {
            while chars.next_if(char::is_ascii_digit).is_some() {}
        }
        let Some(verb) = chars.next() else {
            return whole("unexpected end of string".into());
        };
        let wanted = match verb {
            's' | 'f' => "",
            'd' => "decimal clause can only be used on integers",
            'e' => "scientific clause can only be used on doubles",
            'o' => "octal clause can only be used on integers",
            'b' => "only integers and bools can be formatted as binary",
            'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
            other => {
                return whole(format!(
                    "could not parse formatting clause: unrecognized formatting clause \"{other}\""
                ));
            }
        };
        let Some(ty) = types.get(used) else {
            return whole(format!("index {used} out of range"));
        };
        let fits = matches!(
            (verb, ty),
            ('s' | 'f', _)
                | (_, Type::Dyn)
                | ('d', Type::Int | Type::Uint | Type::Double)
                | ('e', Type::Double)
                | ('o', Type::Int | Type::Uint)
                | ('b', Type::Int | Type::Uint | Type::Bool)
                | ('x' | 'X', Type::Int | Type::Uint | Type::String | Type::Bytes)
        );
        if !fits {
            return Some(Fault {
                argument: Some(used),
                what: format!("error during formatting: {wanted}, was given {ty}"),
            });
        }
        used += 1;
    }
    let given = types.len();
    match used < given {
        true => whole(format!(
            "too many arguments supplied to string.format (expected {used}, got {given})"
        )),
        false => None,
    }
}
