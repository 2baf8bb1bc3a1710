//! The language of label selectors, `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`, read word by word, so that what is wrong is
//! told in the words of upstream's parser (`apimachinery/pkg/labels`).

use super::Requirement;
use crate::field::Path;
use crate::names;
use std::collections::BTreeSet;

/// A word of the language; what stands for itself is its own text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    End,
    Identifier,
    Symbol(&'static str),
    /// Symbols that mean nothing together.
    Unknown,
}

const SYMBOLS: [&str; 8] = ["==", "!=", "=", "!", "(", ")", ",", ">"];
const LESS: &str = "<";

/// The words of a text.
struct Reader {
    words: Vec<(Token, String)>,
    next: usize,
}

fn special(c: char) -> bool {
    "=!(),><".contains(c)
}

impl Reader {
    fn new(text: &str) -> Self {
        let (mut words, mut rest) = (Vec::new(), text);
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            let Some(first) = rest.chars().next() else {
                words.push((Token::End, String::new()));
                return Self { words, next: 0 };
            };
            if special(first) {
                let known = SYMBOLS.iter().chain([&LESS]).find(|s| rest.starts_with(**s));
                let (token, length) = known.map_or((Token::Unknown, 1), |s| (Token::Symbol(s), s.len()));
                words.push((token, rest[..length].to_owned()));
                rest = &rest[length..];
                continue;
            }
            let end = rest.find(|c: char| special(c) || " \t\r\n".contains(c));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            words.push((Token::Identifier, word.to_owned()));
            rest = after;
        }
    }

    /// The next word, where `in` and `notin` are words like others.
    fn peek(&self) -> (Token, &str) {
        let (token, text) = &self.words[self.next.min(self.words.len() - 1)];
        (*token, text)
    }

    fn take(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let taken = (token, text.to_owned());
        self.next += 1;
        taken
    }
}

/// Reads a whole selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut reader = Reader::new(text);
    let mut all = Vec::new();
    loop {
        match reader.peek() {
            (Token::Identifier | Token::Symbol("!"), _) => {
                let one = requirement(&mut reader);
                all.push(one.map_err(|why| format!("unable to parse requirement: {why}"))?);
                match reader.take() {
                    (Token::End, _) => return Ok(all),
                    (Token::Symbol(","), _) => {
                        if let (Token::End | Token::Symbol(_) | Token::Unknown, word) = reader.peek()
                            && word != "!"
                        {
                            return Err(format!("found '{word}', expected: identifier after ','"));
                        }
                    }
                    (_, word) => return Err(format!("found '{word}', expected: ',' or 'end of string'")),
                }
            }
            (Token::End, _) => return Ok(all),
            (_, word) => {
                return Err(format!(
                    "found '{word}', expected: !, identifier, or 'end of string'"
                ));
            }
        }
    }
}

fn requirement(reader: &mut Reader) -> Result<Requirement, String> {
    let (mut token, mut key) = reader.take();
    let absent = token == Token::Symbol("!");
    if absent {
        (token, key) = reader.take();
    }
    if token != Token::Identifier {
        return Err(format!("found '{key}', expected: identifier"));
    }
    let faults = names::qualified_name(&key);
    if !faults.is_empty() {
        return Err(format!("<nil>: Invalid value: {key:?}: {}", faults.join("; ")));
    }
    if absent {
        return Ok(Requirement::Absent(key));
    }
    if let (Token::End | Token::Symbol(","), _) = reader.peek() {
        return Ok(Requirement::Exists(key));
    }
    let (token, operator) = reader.take();
    let known = match token {
        Token::Identifier => matches!(operator.as_str(), "in" | "notin"),
        Token::Symbol(symbol) => matches!(symbol, "=" | "==" | "!=" | ">" | "<"),
        _ => false,
    };
    if !known {
        let expected = "in, notin, =, ==, !=, gt, lt";
        return Err(format!("found '{operator}', expected: {expected}"));
    }
    let values = match token {
        Token::Identifier => several(reader)?,
        _ => exact(reader)?,
    };
    // In order, each once.
    let values: Vec<String> = values.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    check(&key, &operator, &values)?;
    let number = || values.first().and_then(|v| v.parse().ok()).unwrap_or_default();
    Ok(match operator.as_str() {
        "in" | "=" | "==" => Requirement::In(key, values),
        ">" => Requirement::Greater(key, number()),
        "<" => Requirement::Less(key, number()),
        _ => Requirement::NotIn(key, values),
    })
}

fn check(key: &str, operator: &str, values: &[String]) -> Result<(), String> {
    let at = Path::new("values");
    let mut faults = Vec::new();
    if values.is_empty() {
        let text = "for 'in', 'notin' operators, values set can't be empty";
        faults.push(format!("{at}: Invalid value: []: {text}"));
    }
    for (i, value) in values.iter().enumerate() {
        if matches!(operator, ">" | "<") && value.parse::<i64>().is_err() {
            let text = "for 'Gt', 'Lt' operators, the value must be an integer";
            faults.push(format!("{}: Invalid value: {value:?}: {text}", at.index(i)));
        }
    }
    for (i, value) in values.iter().enumerate() {
        let bad = names::label_value(value);
        if !bad.is_empty() {
            let place = at.index(i).key(key);
            faults.push(format!("{place}: Invalid value: {value:?}: {}", bad.join("; ")));
        }
    }
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// The one value behind `=` and the like; none at all is the empty one.
fn exact(reader: &mut Reader) -> Result<Vec<String>, String> {
    if let (Token::End | Token::Symbol(","), _) = reader.peek() {
        return Ok(vec![String::new()]);
    }
    match reader.take() {
        (Token::Identifier, value) => Ok(vec![value]),
        (_, word) => Err(format!("found '{word}', expected: identifier")),
    }
}

/// The values in parentheses behind `in` and `notin`. Nothing between two commas is the empty value.
fn several(reader: &mut Reader) -> Result<Vec<String>, String> {
    let (token, word) = reader.take();
    if token != Token::Symbol("(") {
        return Err(format!("found '{word}' expected: '('"));
    }
    match reader.peek() {
        (Token::Identifier | Token::Symbol(","), _) => {}
        (Token::Symbol(")"), _) => {
            reader.take();
            return Ok(vec![String::new()]);
        }
        (_, word) => return Err(format!("found '{word}', expected: ',', ')' or identifier")),
    }
    let mut values = Vec::new();
    loop {
        match reader.take() {
            (Token::Identifier, value) => {
                values.push(value);
                match reader.peek() {
                    (Token::Symbol(","), _) => {}
                    (Token::Symbol(")"), _) => break,
                    (_, word) => return Err(format!("found '{word}', expected: ',' or ')'")),
                }
            }
            (Token::Symbol(","), _) => {
                if values.is_empty() {
                    values.push(String::new());
                }
                match reader.peek().0 {
                    Token::Symbol(")") => {
                        values.push(String::new());
                        break;
                    }
                    Token::Symbol(",") => {
                        reader.take();
                        values.push(String::new());
                    }
                    _ => {}
                }
            }
            (_, word) => return Err(format!("found '{word}', expected: ',', or identifier")),
        }
    }
    reader.take();
    Ok(values)
}
