//! Label and field selectors: parsed from the query language or from a `LabelSelector` object, and matched.

use std::collections::BTreeMap;

use serde_json::Value;

/// One condition on the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// The key is there and its value is one of these.
    In(String, Vec<String>),
    /// The key is not there, or its value is none of these.
    NotIn(String, Vec<String>),
    /// The key is there.
    Exists(String),
    /// The key is not there.
    Absent(String),
    /// The value is an integer greater than this.
    Greater(String, i64),
    /// The value is an integer less than this.
    Less(String, i64),
}

/// All conditions must hold; none at all holds for everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// The conditions.
    pub requirements: Vec<Requirement>,
}

impl std::fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::In(key, values) if values.len() == 1 => write!(formatter, "{key}={}", values[0]),
            Self::NotIn(key, values) if values.len() == 1 => write!(formatter, "{key}!={}", values[0]),
            Self::In(key, values) => write!(formatter, "{key} in ({})", values.join(",")),
            Self::NotIn(key, values) => write!(formatter, "{key} notin ({})", values.join(",")),
            Self::Exists(key) => formatter.write_str(key),
            Self::Absent(key) => write!(formatter, "!{key}"),
            Self::Greater(key, bound) => write!(formatter, "{key}>{bound}"),
            Self::Less(key, bound) => write!(formatter, "{key}<{bound}"),
        }
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

/// The text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(String);

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(ParseSelectorError(
                    "found ',', expected: !, identifier, or 'end of string'".to_owned(),
                ));
            }
            requirements.push(parse_requirement(part)?);
        }
        Ok(Self { requirements })
    }

    /// Reads a `meta.v1.LabelSelector`: `matchLabels` and `matchExpressions`.
    pub fn from_json(selector: &Value) -> Result<Self, ParseSelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value.as_str().unwrap_or_default();
            requirements.push(Requirement::In(key.clone(), vec![value.to_owned()]));
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array().into_iter().flatten();
            let values: Vec<String> = values
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            requirements.push(match expression["operator"].as_str().unwrap_or_default() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::Absent(key),
                other => {
                    return Err(ParseSelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            });
        }
        Ok(Self { requirements })
    }

    /// Reads a plain map of labels, as Services and ReplicationControllers have.
    pub fn from_map(map: &Value) -> Self {
        let entries = map.as_object().into_iter().flatten();
        let requirements = entries
            .map(|(key, value)| {
                Requirement::In(key.clone(), vec![value.as_str().unwrap_or_default().to_owned()])
            })
            .collect();
        Self { requirements }
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels satisfy all conditions.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object's `metadata.labels` satisfy all conditions.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }

    /// Whether labels, looked up by `get`, satisfy all conditions.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|value| values.iter().any(|v| v == value)),
            Requirement::NotIn(key, values) => get(key).is_none_or(|value| values.iter().all(|v| v != value)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::Absent(key) => get(key).is_none(),
            Requirement::Greater(key, bound) => number(get(key)).is_some_and(|value| value > *bound),
            Requirement::Less(key, bound) => number(get(key)).is_some_and(|value| value < *bound),
        })
    }
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok()
}

fn parse_requirement(part: &str) -> Result<Requirement, ParseSelectorError> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::Absent(check_key(key)?));
    }
    if let Some((head, list)) = part.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(|| unparsable(part))?;
        let values = list
            .split(',')
            .map(|value| check_value(value.trim()))
            .collect::<Result<_, _>>()?;
        let mut words = head.split_whitespace();
        let key = check_key(words.next().unwrap_or_default())?;
        return match (words.next(), words.next()) {
            (Some("in"), None) => Ok(Requirement::In(key, values)),
            (Some("notin"), None) => Ok(Requirement::NotIn(key, values)),
            _ => Err(unparsable(part)),
        };
    }
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(operator) {
            let (key, values) = (check_key(key)?, vec![check_value(value.trim())?]);
            return Ok(if equal {
                Requirement::In(key, values)
            } else {
                Requirement::NotIn(key, values)
            });
        }
    }
    for (operator, make) in [
        ('>', Requirement::Greater as fn(String, i64) -> Requirement),
        ('<', Requirement::Less),
    ] {
        if let Some((key, value)) = part.split_once(operator) {
            let bound = value.trim().parse().map_err(|_| unparsable(part))?;
            return Ok(make(check_key(key)?, bound));
        }
    }
    Ok(Requirement::Exists(check_key(part)?))
}

fn unparsable(part: &str) -> ParseSelectorError {
    ParseSelectorError(format!(
        "unable to parse requirement: {part:?} is not a condition such as key=value"
    ))
}

fn check_key(key: &str) -> Result<String, ParseSelectorError> {
    let key = key.trim();
    let good = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    if good {
        Ok(key.to_owned())
    } else {
        Err(unparsable(key))
    }
}

fn check_value(value: &str) -> Result<String, ParseSelectorError> {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let good = value.len() <= 63
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && edge(value.chars().next())
        && edge(value.chars().last());
    if good {
        Ok(value.to_owned())
    } else {
        Err(unparsable(value))
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `a=b,c!=d` on fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

/// One condition on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The field's path.
    pub field: String,
    /// Whether the value must be equal, or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

impl FieldSelector {
    /// Parses the query language; `\` escapes.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut terms = Vec::new();
        for part in split_escaped(text).into_iter().filter(|part| !part.is_empty()) {
            let found = ["!=", "==", "="].iter().find_map(|operator| {
                part.split_once(operator)
                    .map(|(field, value)| (field, value, *operator != "!="))
            });
            let Some((field, value, equal)) = found else {
                return Err(ParseSelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            terms.push(Term {
                field: field.to_owned(),
                equals: equal,
                value: unescape(value),
            });
        }
        Ok(Self { terms })
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether fields, looked up by `get`, satisfy all terms. A missing field is the empty string.
    pub fn matches_with(&self, get: impl Fn(&str) -> String) -> bool {
        self.terms
            .iter()
            .all(|term| (get(&term.field) == term.value) == term.equals)
    }

    /// The conditions.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }
}

fn split_escaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(&text[start..index]);
            start = index + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            c
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_match() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front", "n": "5"}}});
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (api, web)", true),
            ("app notin (api)", true),
            ("missing notin (x)", true),
            ("missing!=x", true),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("missing", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app=api", false),
        ];
        for (text, expected) in cases {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.matches_object(&object), expected, "{text}");
        }
        for bad in ["app=web,", "app in web", "=x", "a=b c", "app in (a"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn label_selector_objects_match() {
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        let selector = json!({"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]},
                                 {"key": "gone", "operator": "DoesNotExist"}]});
        assert!(
            LabelSelector::from_json(&selector)
                .expect("valid")
                .matches_object(&object)
        );
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
        assert!(LabelSelector::from_json(&bad).is_err());
    }

    #[test]
    fn field_selectors_match() {
        let get = |field: &str| {
            if field == "metadata.name" {
                "a".to_owned()
            } else {
                String::new()
            }
        };
        for (text, expected) in [
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("spec.nodeName=", true),
        ] {
            assert_eq!(
                FieldSelector::parse(text).expect(text).matches_with(get),
                expected,
                "{text}"
            );
        }
        assert!(FieldSelector::parse("metadata.name").is_err());
    }
}
