//! The JSONPath of printer columns: fields, indexes, slices, filters, unions, wildcards and recursive descent, in the dialect
//! of `kubectl -o jsonpath`. Source of the behaviour: `client-go/util/jsonpath`.

use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// A path that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Node>);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Field(String),
    Slice(Slice),
    Filter(Vec<Node>, String, Vec<Node>),
    Exists(Vec<Node>),
    Union(Vec<Vec<Node>>),
    Everything,
    Recursive,
    Constant(Value),
    /// A word that means nothing in a path.
    Word,
}

#[derive(Debug, Clone, PartialEq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    /// The end was not written: one element is meant.
    single: bool,
    step: Option<i64>,
}

/// A path that cannot be read, or that does not fit the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfit;

type Found<'a> = Vec<Cow<'a, Value>>;

impl JsonPath {
    /// Reads `.spec.list[0].field`, `.status.conditions[?(@.type=="Ready")].status`, `.items[-1:]..name`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<JsonPath, Misfit> {
        if text.contains(['{', '}', '\n']) {
            return Err(Misfit);
        }
        nodes(text).map(JsonPath)
    }

    /// What it finds; a field that is missing is no error.
    ///
    /// # Errors
    /// It asks for elements of what is no list, or for those beyond its end, or compares what cannot be compared.
    pub fn find<'a>(&self, value: &'a Value) -> Result<Found<'a>, Misfit> {
        all(vec![Cow::Borrowed(value)], &self.0)
    }
}

/// Reads a sequence of steps.
fn nodes(text: &str) -> Result<Vec<Node>, Misfit> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("[?(") {
            rest = filter(after, &mut found)?;
            continue;
        }
        if let Some(after) = rest.strip_prefix("..") {
            if found.last() == Some(&Node::Recursive) {
                return Err(Misfit);
            }
            found.push(Node::Recursive);
            rest = after;
            if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                rest = field(rest, &mut found);
            }
            continue;
        }
        let after = &rest[first.len_utf8()..];
        rest = match first {
            ' ' | '@' | '$' => after,
            '[' => {
                let (inner, after) = after.split_once(']').ok_or(Misfit)?;
                found.extend(brackets(inner)?);
                after
            }
            '"' | '\'' => {
                let end = closing(after, first).ok_or(Misfit)?;
                found.push(Node::Constant(unescaped(&after[..end]).into()));
                &after[end + 1..]
            }
            '.' => field(after, &mut found),
            '+' | '-' | '0'..='9' => number(rest, &mut found)?,
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(ends_name).unwrap_or(rest.len());
                found.push(match &rest[..end] {
                    "true" => Node::Constant(true.into()),
                    "false" => Node::Constant(false.into()),
                    _ => Node::Word,
                });
                &rest[end..]
            }
            _ => return Err(Misfit),
        };
    }
    Ok(found)
}

fn ends_name(c: char) -> bool {
    c.is_whitespace() || ['.', ',', '[', ']', '$', '@'].contains(&c)
}

/// Reads a field, in which a backslash makes the next character ordinary; answers what follows.
fn field<'a>(text: &'a str, found: &mut Vec<Node>) -> &'a str {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = !escaped && ends_name(c);
        escaped = !escaped && c == '\\';
        ends
    });
    let end = end.unwrap_or(text.len());
    found.push(match &text[..end] {
        "*" => Node::Everything,
        name => Node::Field(name.replace('\\', "")),
    });
    &text[end..]
}

fn number<'a>(text: &'a str, found: &mut Vec<Node>) -> Result<&'a str, Misfit> {
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text[sign..].find(|c: char| c != '.' && !c.is_ascii_digit());
    let end = digits.map_or(text.len(), |end| sign + end);
    let (shown, after) = text.split_at(end);
    let whole = shown.parse::<i64>().map(Value::from);
    let value = whole.or_else(|_| shown.parse::<f64>().map(Value::from));
    found.push(Node::Constant(value.map_err(|_| Misfit)?));
    Ok(after)
}

/// Where a quoted text ends.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.find(|c: char| {
        let ends = !escaped && c == quote;
        escaped = !escaped && c == '\\';
        ends
    })
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(match c {
            '\\' => chars.next().map(|c| match c {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => Some(other),
        });
    }
    out
}

/// Reads what stands between brackets, but for filters.
fn brackets(text: &str) -> Result<Vec<Node>, Misfit> {
    if text == "*" {
        return brackets(":");
    }
    if text.contains(',') {
        let parts = text.split(',').map(|part| brackets(part.trim_matches(' ')));
        return Ok(vec![Node::Union(parts.collect::<Result<_, _>>()?)]);
    }
    if let Some(key) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        // It is read as if it stood behind a dot, so that a dot in it must be escaped.
        return nodes(&format!(".{key}"));
    }
    let mut parts = text.split(':');
    let mut part = || -> Result<Option<Option<i64>>, Misfit> {
        parts.next().map_or(Ok(None), |part| match part {
            "" => Ok(Some(None)),
            digits => digits.parse().map(|n| Some(Some(n))).map_err(|_| Misfit),
        })
    };
    let (start, end, step) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return Err(Misfit);
    }
    let start = start.flatten();
    Ok(vec![Node::Slice(Slice {
        start,
        end: match end {
            Some(end) => end,
            None => Some(start.unwrap_or(0) + 1),
        },
        single: end.is_none(),
        step: step.flatten(),
    })])
}

/// Reads a filter behind its `[?(`; answers what follows it.
fn filter<'a>(text: &'a str, found: &mut Vec<Node>) -> Result<&'a str, Misfit> {
    let (mut quote, mut escaped) = (None, false);
    let end = text.find(|c: char| {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open && !escaped => quote = None,
            (None, ')') => return true,
            _ => {}
        }
        escaped = !escaped && c == '\\';
        false
    });
    let (inner, after) = text.split_at(end.ok_or(Misfit)?);
    let after = after.strip_prefix(")]").ok_or(Misfit)?;
    let operators = ['!', '<', '>', '='];
    match inner.find(operators) {
        None => found.push(Node::Exists(nodes(inner)?)),
        Some(at) => {
            let (left, rest) = inner.split_at(at);
            let length = rest.find(|c| !operators.contains(&c)).ok_or(Misfit)?;
            let (operator, right) = rest.split_at(length);
            if !["<", ">", "==", "!=", "<=", ">="].contains(&operator) {
                return Err(Misfit);
            }
            found.push(Node::Filter(nodes(left)?, operator.to_owned(), nodes(right)?));
        }
    }
    Ok(after)
}

fn all<'a>(values: Found<'a>, nodes: &[Node]) -> Result<Found<'a>, Misfit> {
    nodes.iter().try_fold(values, step)
}

/// The parts of a value that a borrowed or owned value has.
fn parts<'a>(value: &Cow<'a, Value>) -> Found<'a> {
    match value {
        Cow::Borrowed(Value::Array(list)) => list.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        // Only constants are owned, and those have no parts.
        _ => Vec::new(),
    }
}

fn step<'a>(values: Found<'a>, node: &Node) -> Result<Found<'a>, Misfit> {
    let mut found = Vec::new();
    match node {
        Node::Word => return Err(Misfit),
        Node::Constant(constant) => found.push(Cow::Owned(constant.clone())),
        Node::Union(ways) => {
            for way in ways {
                found.extend(all(values.clone(), way)?);
            }
        }
        _ => {
            for value in values {
                one(value, node, &mut found)?;
            }
        }
    }
    Ok(found)
}

fn one<'a>(value: Cow<'a, Value>, node: &Node, found: &mut Found<'a>) -> Result<(), Misfit> {
    match node {
        Node::Field(name) => {
            if let Cow::Borrowed(Value::Object(map)) = value {
                found.extend(map.get(name).map(Cow::Borrowed));
            }
        }
        Node::Everything => found.extend(parts(&value)),
        Node::Recursive => {
            let below = parts(&value);
            if !below.is_empty() {
                found.push(value);
                for part in below {
                    one(part, node, found)?;
                }
            }
        }
        Node::Slice(slice) if !value.is_null() => {
            let list = parts(&value);
            if !value.is_array() {
                return Err(Misfit);
            }
            found.extend(slice.of(list)?);
        }
        Node::Filter(..) | Node::Exists(_) => {
            if !value.is_array() {
                return Err(Misfit);
            }
            for item in parts(&value) {
                if passes(&item, node)? {
                    found.push(item);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

impl Slice {
    fn of<'a>(&self, list: Found<'a>) -> Result<Found<'a>, Misfit> {
        let length = i64::try_from(list.len()).map_err(|_| Misfit)?;
        let from_end = |at: i64| if at < 0 { at + length } else { at };
        let start = from_end(self.start.unwrap_or(0));
        let end = match self.end {
            None => length,
            // The element behind the last one but none is the last one.
            Some(0) if self.single => length,
            Some(end) => from_end(end),
        };
        if start == end {
            return Ok(Vec::new());
        }
        let step = self.step.unwrap_or(1);
        if start < 0 || start >= length || end < 0 || end > length || start > end || step <= 0 {
            return Err(Misfit);
        }
        let at = |n: i64| usize::try_from(n).map_err(|_| Misfit);
        let (start, end, step) = (at(start)?, at(end)?, at(step)?);
        Ok(list.into_iter().take(end).skip(start).step_by(step).collect())
    }
}

fn passes(item: &Value, node: &Node) -> Result<bool, Misfit> {
    let side = |nodes: &[Node]| all(vec![Cow::Borrowed(item)], nodes);
    let (left, operator, right) = match node {
        Node::Exists(nodes) => return Ok(side(nodes).is_ok_and(|found| !found.is_empty())),
        Node::Filter(left, operator, right) => (side(left)?, operator.as_str(), side(right)?),
        _ => return Err(Misfit),
    };
    let (left, right) = match (&left[..], &right[..]) {
        ([], _) | (_, []) => return Ok(false),
        ([left], [right]) => (left, right),
        _ => return Err(Misfit),
    };
    let order = order(left, right, ["==", "!="].contains(&operator))?;
    Ok(match operator {
        "<" => order == Ordering::Less,
        ">" => order == Ordering::Greater,
        "==" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<=" => order != Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// How two scalars of the same kind compare; truths only for equality.
fn order(left: &Value, right: &Value, equality: bool) -> Result<Ordering, Misfit> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) if equality => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            (None, None) => {
                let (a, b) = (a.as_f64().ok_or(Misfit)?, b.as_f64().ok_or(Misfit)?);
                a.partial_cmp(&b).ok_or(Misfit)
            }
            _ => Err(Misfit),
        },
        _ => Err(Misfit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({"spec": {"list": [1, 2, 3], "a.b": "x", "a": {"b": "y"}, "none": null},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Synced", "status": "False", "n": 2, "reason": "x"}]}});
        let cases = [
            (".spec.list[1]", json!([2])),
            (".spec.list[-1]", json!([3])),
            (".spec.list[-2:]", json!([2, 3])),
            (".spec.list[:2]", json!([1, 2])),
            (".spec.list[0:3:2]", json!([1, 3])),
            (".spec.list[*]", json!([1, 2, 3])),
            (".spec.list[0,2]", json!([1, 3])),
            (".spec.a\\.b", json!(["x"])),
            (".spec['a\\.b']", json!(["x"])),
            (".spec['a.b']", json!(["y"])),
            (".spec.none[0]", json!([])),
            (".spec.missing.x", json!([])),
            (".status.conditions[-1:].type", json!(["Synced"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type == 'Ready')].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
            (".status.conditions[?(@.n>1)].type", json!(["Synced"])),
            (".status.conditions[?(@.n<=1)].type", json!(["Ready"])),
            (".status.conditions[?(@.reason)].type", json!(["Synced"])),
            (".status.conditions[?(@.type=='a)b')].status", json!([])),
            (".status..type", json!(["Ready", "Synced"])),
            (
                ".status.conditions[*]['type','n']",
                json!(["Ready", "Synced", 1, 2]),
            ),
        ];
        for (path, want) in cases {
            let found = JsonPath::parse(path).unwrap();
            assert_eq!(json!(found.find(&object).unwrap()), want, "{path}");
        }
        for path in [
            ".spec.list[3]",
            ".spec.a[0]",
            ".status.conditions[?(@.n=='1')].type",
        ] {
            assert_eq!(
                JsonPath::parse(path).unwrap().find(&object),
                Err(Misfit),
                "{path}"
            );
        }
        for path in [".a[", ".a[x]", ".a[?(@.b]", "{.a}", ".a....b", ".a[?(@.b=~'c')]"] {
            assert_eq!(JsonPath::parse(path), Err(Misfit), "{path}");
        }
    }
}
