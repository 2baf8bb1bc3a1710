//! What is wrong with a regular expression, in the words of Go's parser (`regexp/syntax`).

use std::str::Chars;

/// What may be repeated at most, a repetition of repetitions counted as their product.
const REPEATS: u64 = 1000;

/// The first fault; `None` when the expression is good.
pub fn fault(expression: &str) -> Option<String> {
    let mut reader = Reader {
        whole: expression,
        groups: vec![Group::default()],
    };
    reader.read().err().map(|fault| {
        let Fault(what, place) = fault;
        format!("{what}: `{place}`")
    })
}

struct Fault<'e>(&'static str, &'e str);

type Read<'e, T> = Result<T, Fault<'e>>;

/// What was read of a group.
#[derive(Default)]
struct Group {
    /// How often what is repeated most often is repeated.
    most: u64,
    /// The same of the last piece; nothing behind the group's start or a bar.
    last: Option<u64>,
}

impl Group {
    fn piece(&mut self, repeated: u64) {
        self.last = Some(repeated);
        self.most = self.most.max(repeated);
    }
}

struct Reader<'e> {
    whole: &'e str,
    groups: Vec<Group>,
}

/// The text between two ends of one text.
fn between<'e>(start: &'e str, end: &str) -> &'e str {
    &start[..start.len() - end.len()]
}

fn tail(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

impl<'e> Reader<'e> {
    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push(Group::default());
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    fn read(&mut self) -> Read<'e, ()> {
        let mut rest = self.whole;
        let mut repeated: Option<&'e str> = None;
        while let Some(sign) = rest.chars().next() {
            let before = rest;
            let after = tail(rest);
            let mut repeats = None;
            rest = match sign {
                '(' if after.starts_with('?') => self.flags(before)?,
                '(' => {
                    self.groups.push(Group::default());
                    after
                }
                ')' => {
                    let closed = self.groups.pop().unwrap_or_default();
                    if self.groups.is_empty() {
                        return Err(Fault("unexpected )", self.whole));
                    }
                    self.group().piece(closed.most.max(1));
                    after
                }
                '|' => {
                    self.group().last = None;
                    after
                }
                '*' | '+' | '?' => {
                    repeats = Some(before);
                    self.repeat(before, after, repeated, (0, 0))?
                }
                '{' => match counts(after) {
                    Some((least, most, after)) => {
                        if least > REPEATS || most.is_some_and(|most| most > REPEATS || most < least) {
                            return Err(Fault("invalid repeat count", between(before, after)));
                        }
                        repeats = Some(before);
                        self.repeat(before, after, repeated, (least, most.unwrap_or(least)))?
                    }
                    None => {
                        self.group().piece(1);
                        after
                    }
                },
                '[' => {
                    let after = class(before)?;
                    self.group().piece(1);
                    after
                }
                '\\' => {
                    let (after, is_piece) = escaped(before)?;
                    if is_piece {
                        self.group().piece(1);
                    }
                    after
                }
                _ => {
                    self.group().piece(1);
                    after
                }
            };
            repeated = repeats;
        }
        match self.groups.len() {
            1 => Ok(()),
            _ => Err(Fault("missing closing )", self.whole)),
        }
    }

    /// A repetition between `before` and `after`.
    fn repeat(
        &mut self,
        before: &'e str,
        after: &'e str,
        repeated: Option<&'e str>,
        (least, most): (u64, u64),
    ) -> Read<'e, &'e str> {
        let after = after.strip_prefix('?').unwrap_or(after);
        if let Some(start) = repeated {
            return Err(Fault("invalid nested repetition operator", between(start, after)));
        }
        let Some(inner) = self.group().last else {
            let place = between(before, after);
            return Err(Fault("missing argument to repetition operator", place));
        };
        let product = match most {
            0 => inner,
            _ => inner.max(1).saturating_mul(most),
        };
        if (least >= 2 || most >= 2) && product > REPEATS {
            return Err(Fault("invalid repeat count", between(before, after)));
        }
        self.group().piece(product);
        Ok(after)
    }

    /// A group that begins with a question mark: one with a name, flags, or flags for a group.
    fn flags(&mut self, start: &'e str) -> Read<'e, &'e str> {
        let long = start.len() > 4 && start.starts_with("(?P<");
        if long || start.len() > 3 && start.starts_with("(?<") {
            let Some(end) = start.find('>') else {
                return Err(Fault("invalid named capture", start));
            };
            let name = &start[if long { 4 } else { 3 }..end];
            let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(Fault("invalid named capture", &start[..=end]));
            }
            self.groups.push(Group::default());
            return Ok(&start[end + 1..]);
        }
        let mut chars: Chars<'e> = start[2..].chars();
        let (mut takes_back, mut seen) = (false, false);
        while let Some(sign) = chars.next() {
            match sign {
                'i' | 'm' | 's' | 'U' => seen = true,
                '-' if !takes_back => (takes_back, seen) = (true, false),
                ':' | ')' if !takes_back || seen => {
                    if sign == ':' {
                        self.groups.push(Group::default());
                    }
                    return Ok(chars.as_str());
                }
                _ => break,
            }
        }
        let place = between(start, chars.as_str());
        Err(Fault("invalid or unsupported Perl syntax", place))
    }
}

/// The counts of a repetition behind its brace, and what comes after it.
fn counts(text: &str) -> Option<(u64, Option<u64>, &str)> {
    let (inner, after) = text.split_once('}')?;
    let count = |digits: &str| {
        let good = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'));
        good.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    match inner.split_once(',') {
        None => count(inner).map(|n| (n, Some(n), after)),
        Some((least, "")) => count(least).map(|n| (n, None, after)),
        Some((least, most)) => Some((count(least)?, Some(count(most)?), after)),
    }
}

/// What comes after a sign with a backslash, and whether it can be repeated.
fn escaped(start: &str) -> Read<'_, (&str, bool)> {
    let after = tail(start);
    Ok(match after.chars().next() {
        Some('A' | 'b' | 'B' | 'z' | 'd' | 'D' | 's' | 'S' | 'w' | 'W') => (tail(after), true),
        Some('C') => return Err(Fault("invalid escape sequence", &start[..2])),
        Some('Q') => match after[1..].split_once("\\E") {
            Some((literal, rest)) => (rest, !literal.is_empty()),
            None => ("", after.len() > 1),
        },
        Some('p' | 'P') => (scripts(start)?, true),
        _ => (character(start)?.1, true),
    })
}

/// What comes after a class of Unicode.
fn scripts(start: &str) -> Read<'_, &str> {
    const RANGE: &str = "invalid character class range";
    let name = &start[2..];
    let end = match name.chars().next() {
        Some('{') => match start.find('}') {
            Some(end) => end + 1,
            None => return Err(Fault(RANGE, start)),
        },
        Some(letter) => 2 + letter.len_utf8(),
        None => return character(start).map(|(_, rest)| rest),
    };
    let written = &start[..end];
    let name = written[2..].trim_matches(['{', '}']).trim_start_matches('^');
    let known = matches!(name, "Any") || regex::Regex::new(&format!("\\p{{{name}}}")).is_ok();
    match known && !name.contains(['=', ':']) {
        true => Ok(&start[end..]),
        false => Err(Fault(RANGE, written)),
    }
}

/// A character with a backslash.
fn character(start: &str) -> Read<'_, (u32, &str)> {
    let after = tail(start);
    let Some(sign) = after.chars().next() else {
        return Err(Fault("trailing backslash at end of expression", ""));
    };
    let mut rest = tail(after);
    let octal = |text: &str| text.chars().next().and_then(|c| c.to_digit(8));
    let wrong = |rest: &str| Err(Fault("invalid escape sequence", between(start, rest)));
    Ok(match sign {
        '0'..='7' if sign == '0' || octal(rest).is_some() => {
            let mut value = sign.to_digit(8).unwrap_or_default();
            for _ in 0..2 {
                if let Some(digit) = octal(rest) {
                    value = value * 8 + digit;
                    rest = tail(rest);
                }
            }
            (value, rest)
        }
        'x' => {
            let braced = rest.strip_prefix('{');
            let end = match braced {
                Some(inner) => inner
                    .find(|c: char| !c.is_ascii_hexdigit())
                    .unwrap_or(inner.len()),
                None => rest.bytes().take(2).take_while(u8::is_ascii_hexdigit).count(),
            };
            let (digits, after) = braced.unwrap_or(rest).split_at(end);
            let value = u32::from_str_radix(digits, 16)
                .ok()
                .filter(|value| *value <= 0x0010_FFFF);
            match (value, braced) {
                (Some(value), Some(_)) if after.starts_with('}') => (value, &after[1..]),
                (Some(value), None) if digits.len() == 2 => (value, after),
                (_, Some(_)) => return wrong(tail(after)),
                // Two characters are read before they are looked at.
                (_, None) => return wrong(tail(tail(rest))),
            }
        }
        'a' => (7, rest),
        'f' => (12, rest),
        'n' => (10, rest),
        'r' => (13, rest),
        't' => (9, rest),
        'v' => (11, rest),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => (u32::from(c), rest),
        _ => return wrong(rest),
    })
}

/// What comes after a class in brackets.
fn class(start: &str) -> Read<'_, &str> {
    const RANGE: &str = "invalid character class range";
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    let one = |text: &str| -> Option<u32> { text.chars().next().map(u32::from) };
    let mut rest = &start[1..];
    rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if rest.len() > 2
            && rest.starts_with("[:")
            && let Some(end) = rest[2..].find(":]")
        {
            let name = &rest[2..2 + end];
            let written = &rest[..end + 4];
            if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                return Err(Fault(RANGE, &start[start.len() - rest.len()..][..written.len()]));
            }
            rest = &rest[end + 4..];
            continue;
        }
        if rest.starts_with("\\p") || rest.starts_with("\\P") {
            rest = scripts(rest)?;
            continue;
        }
        if let Some(letter) = rest.strip_prefix('\\').and_then(|rest| rest.chars().next())
            && matches!(letter, 'd' | 'D' | 's' | 'S' | 'w' | 'W')
        {
            rest = &rest[2..];
            continue;
        }
        let begun = rest;
        let single = |rest: &mut &'_ str| -> Option<u32> {
            let value = one(rest)?;
            *rest = tail(rest);
            Some(value)
        };
        let low = match rest.starts_with('\\') {
            true => {
                let (value, after) = character(rest)?;
                rest = after;
                value
            }
            false => single(&mut rest).ok_or(Fault("missing closing ]", start))?,
        };
        if rest.len() >= 2 && rest.starts_with('-') && !rest.starts_with("-]") {
            rest = &rest[1..];
            let high = match rest.starts_with('\\') {
                true => {
                    let (value, after) = character(rest)?;
                    rest = after;
                    value
                }
                false => single(&mut rest).ok_or(Fault("missing closing ]", start))?,
            };
            if high < low {
                return Err(Fault(RANGE, between(begun, rest)));
            }
        }
    }
    Ok(&rest[1..])
}
