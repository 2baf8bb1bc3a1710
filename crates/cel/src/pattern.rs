//! Regular expressions as Go reads them (RE2), for a library that reads most of them alike. What differs:
//!
//! - `\d`, `\w`, `\s` and `\b` are about ASCII; as classes of all scripts they would also be thousands of times as large.
//! - In a class a bracket is a character, and so are `&&`, `--` and `~~`.
//! - A brace that begins no repetition is a character, as is every escaped sign; between `\Q` and `\E` everything is one.
//! - Characters may be given by an octal number.

mod faults;

pub use faults::fault;
use regex::{Error, Regex, RegexBuilder};

/// How deep groups, classes and repetitions may lie in each other: the library compiles them by recursion, which on the
/// small stacks of threads that answer requests must come to an end.
const NESTING: u32 = 64;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\x0C\r ";

/// Compiles an expression in Go's syntax.
///
/// # Errors
/// It is none, or too large.
pub fn compile(expression: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&translated(expression)?)
        .nest_limit(NESTING)
        .build()
}

/// The same, for one that comes with the values: of those only small ones.
pub(crate) fn compile_small(expression: &str) -> Result<Regex, Error> {
    RegexBuilder::new(&translated(expression)?)
        .nest_limit(NESTING)
        .size_limit(1 << 20)
        .build()
}

/// The characters that an escaped letter stands for, and whether it means all others.
fn class(letter: char) -> Option<(&'static str, bool)> {
    let class = match letter.to_ascii_lowercase() {
        'd' => DIGIT,
        'w' => WORD,
        's' => SPACE,
        _ => return None,
    };
    Some((class, letter.is_ascii_uppercase()))
}

fn translated(expression: &str) -> Result<String, Error> {
    if let Some(fault) = fault(expression) {
        return Err(Error::Syntax(fault));
    }
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escaped(after, &mut out),
            '[' => {
                out.push('[');
                bracketed(after, &mut out)
            }
            '{' if !is_repetition(after) => {
                out.push_str(r"\{");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    Ok(out)
}

/// Translates what stands behind a backslash outside a class; answers what comes after it.
fn escaped<'e>(rest: &'e str, out: &mut String) -> &'e str {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    let after = &rest[c.len_utf8()..];
    match (c, class(c)) {
        (_, Some((class, negated))) => {
            out.push_str(if negated { "[^" } else { "[" });
            out.push_str(class);
            out.push(']');
        }
        ('0'..='7', _) => return octal(rest, out),
        ('b', _) => out.push_str(r"(?-u:\b)"),
        ('Q', _) => {
            let (literal, after) = after.split_once(r"\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(literal));
            return after;
        }
        // A class of Unicode, a character by its number: the brace belongs to it.
        ('p' | 'P' | 'x', _) if after.starts_with('{') => {
            let end = after.find('}').map_or(after.len(), |end| end + 1);
            out.push('\\');
            out.push(c);
            out.push_str(&after[..end]);
            return &after[end..];
        }
        // To the library these would be the ends of words.
        ('<' | '>', _) => out.push(c),
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    after
}

/// Translates a character's octal number behind a backslash; answers what comes after it.
fn octal<'e>(rest: &'e str, out: &mut String) -> &'e str {
    let digits = rest
        .bytes()
        .take(3)
        .take_while(|b| matches!(b, b'0'..=b'7'))
        .count();
    let number = u32::from_str_radix(&rest[..digits], 8).unwrap_or_default();
    out.push_str(&format!("\\x{{{number:x}}}"));
    &rest[digits..]
}

/// Translates a class behind its bracket; answers what comes after it.
fn bracketed<'e>(mut rest: &'e str, out: &mut String) -> &'e str {
    for first in ["^", "]"] {
        if let Some(after) = rest.strip_prefix(first) {
            out.push_str(if first == "]" { r"\]" } else { first });
            rest = after;
        }
    }
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = after;
        match c {
            ']' => {
                out.push(']');
                return after;
            }
            '[' => match after.find(":]").filter(|_| after.starts_with(':')) {
                Some(end) => {
                    out.push('[');
                    out.push_str(&after[..end + 2]);
                    rest = &after[end + 2..];
                }
                None => out.push_str(r"\["),
            },
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '-' if after.starts_with('-') => {
                out.push_str(r"-\-");
                rest = &after[1..];
            }
            '\\' => {
                let Some(c) = after.chars().next() else {
                    out.push('\\');
                    return after;
                };
                rest = &after[c.len_utf8()..];
                match class(c) {
                    Some((class, false)) => out.push_str(class),
                    Some((class, true)) => {
                        out.push_str("[^");
                        out.push_str(class);
                        out.push(']');
                    }
                    None if c.is_digit(8) => rest = octal(after, out),
                    None => {
                        out.push('\\');
                        out.push(c);
                    }
                }
            }
            _ => out.push(c),
        }
    }
    rest
}

/// Whether a brace is followed by counts and its end.
fn is_repetition(rest: &str) -> bool {
    let Some((counts, _)) = rest.split_once('}') else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match counts.split_once(',') {
        Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
        None => is_number(counts),
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn what_lies_too_deep_is_none() {
        for depth in [20, 200, 20_000] {
            let deep = [
                format!("{}a{}", "(".repeat(depth), ")".repeat(depth)),
                format!("{}a{}", "(?:".repeat(depth), ")*".repeat(depth)),
            ];
            for expression in deep {
                assert_eq!(
                    compile(&expression).is_ok(),
                    depth == 20,
                    "{expression:.9} {depth}"
                );
                assert_eq!(super::compile_small(&expression).is_ok(), depth == 20);
            }
        }
    }

    #[test]
    fn expressions_are_read_as_go_reads_them() {
        for (expression, fits, does_not) in [
            (r"^\w{1,253}$", &["a_9"][..], &["ä", ""][..]),
            (r"^\d+$", &["12"], &["٣"]),
            (r"^[^\W\d]+$", &["ab"], &["a1", "ä"]),
            (r"^[\D]$", &["ä", "a"], &["1"]),
            (r"^[[a]+$", &["[a"], &["b"]),
            (r"^[a&&b]+$", &["a&b"], &["c"]),
            (r"^[+--]+$", &["+,-"], &["."]),
            (r"^[]a]+$", &["]a"], &["b"]),
            (r"^[[:alpha:]_]+$", &["a_"], &["1"]),
            (r"^\${a}{2}$", &["${a}}"], &["${a}"]),
            (r"^\${[a-z]+}$", &["${ab}"], &["ab"]),
            (r"^a{,2}$", &["a{,2}"], &["aa"]),
            (r"^\Qa.b\E+$", &["a.bb"], &["axb"]),
            (r"^\<a\>$", &["<a>"], &["a"]),
            (r"\bab\b", &["x ab", "äab"], &["xab"]),
            (r"^\s$", &[" ", "\t"], &["\u{a0}", "\u{b}"]),
            (r"^\p{L}+$", &["äb"], &["1", "p{L}"]),
            (r"^\P{Greek}\x{e4}{2}$", &["aää"], &["αää"]),
            (r"^(?:a{2}){3}?(?i)B*?$", &["aaaaaab"], &["aab"]),
        ] {
            let compiled = compile(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
            for text in fits {
                assert!(compiled.is_match(text), "{expression} {text}");
            }
            for text in does_not {
                assert!(!compiled.is_match(text), "{expression} {text}");
            }
        }
        for expression in ["(", "a**", "a+?*", "a{2}{3}", "a{2}+", "a{2}??", r"\d**", "[a]*+"] {
            assert!(compile(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn faults_are_told_as_go_tells_them() {
        for (expression, fault) in [
            ("a(b", "missing closing ): `a(b`"),
            ("a)b", "unexpected ): `a)b`"),
            ("a[b", "missing closing ]: `[b`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}?b", "invalid nested repetition operator: `{2}{3}?`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("(a{100}){11}", "invalid repeat count: `{11}`"),
            (r"a\y", r"invalid escape sequence: `\y`"),
            (r"a\xg(", r"invalid escape sequence: `\xg(`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
            ("(?P<n-m>a)", "invalid named capture: `(?P<n-m>`"),
        ] {
            assert_eq!(super::fault(expression).as_deref(), Some(fault), "{expression}");
        }
        for expression in [
            "a{,2}",
            "a{2}?",
            "(a{10}){100}",
            "(?i-s:a)*",
            r"[\]\-\07]",
            r"\Qa**\E",
        ] {
            assert_eq!(super::fault(expression), None, "{expression}");
        }
    }
}
