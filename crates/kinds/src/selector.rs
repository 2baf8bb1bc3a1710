//! Label and field selectors: parsed from the query language or from a `LabelSelector` object, and matched.

mod language;

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
        let requirements = language::parse(text).map_err(ParseSelectorError)?;
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
    /// Parses the query language; `\` escapes. Terms are sorted as text, as upstream's: of two on one field, that decides
    /// which is the first.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut terms = Vec::new();
        let mut parts = split_escaped(text);
        parts.sort_unstable();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, value, equal)) = split_term(part) else {
                return Err(ParseSelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            // That nothing is, or is not, nothing selects everything.
            if !field.is_empty() || !value.is_empty() {
                terms.push(Term {
                    field: field.to_owned(),
                    equals: equal,
                    value: unescape(value)?,
                });
            }
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

    /// The one value that a field must have, if it must have one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let mut demands = self.terms.iter().filter(|term| term.equals);
        demands
            .find(|term| term.field == field)
            .map(|term| term.value.as_str())
    }
}

/// A value as it is written in a selector.
pub fn escape_value(value: &str) -> String {
    let escaped = value.chars().flat_map(|c| {
        let backslash = matches!(c, '\\' | ',' | '=').then_some('\\');
        backslash.into_iter().chain([c])
    });
    escaped.collect()
}

/// Field, value, and whether they must be equal: the first operator divides them.
fn split_term(part: &str) -> Option<(&str, &str, bool)> {
    let at = part.find("!=").into_iter().chain(part.find('=')).min()?;
    let (field, rest) = part.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, value, false));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, value, true))
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

fn unescape(text: &str) -> Result<String, ParseSelectorError> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => escaped,
                other => {
                    let sequence: String = [Some('\\'), other].into_iter().flatten().collect();
                    let why = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(ParseSelectorError(why));
                }
            },
            '=' | ',' => {
                let why = format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                );
                return Err(ParseSelectorError(why));
            }
            _ => c,
        });
    }
    Ok(plain)
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
        let operators = "expected: in, notin, =, ==, !=, gt, lt";
        for (bad, why) in [
            ("app=web,", "found '', expected: identifier after ','".to_owned()),
            ("app in web", "unable to parse requirement: found 'web' expected: '('".into()),
            ("=x", "found '=', expected: !, identifier, or 'end of string'".into()),
            ("a=b c", "found 'c', expected: ',' or 'end of string'".into()),
            ("app in (a", "unable to parse requirement: found '', expected: ',' or ')'".into()),
            ("a===b", "unable to parse requirement: found '=', expected: identifier".into()),
            ("!!a", "unable to parse requirement: found '!', expected: identifier".into()),
            ("a b", format!("unable to parse requirement: found 'b', {operators}")),
            (
                "a<x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an \
                 integer"
                    .into(),
            ),
        ] {
            assert_eq!(LabelSelector::parse(bad).map_err(|e| e.to_string()), Err(why), "{bad}");
        }
        // Nothing in parentheses is the empty value.
        let empty = LabelSelector::parse("a in ()").expect("valid");
        assert!(empty.matches_object(&json!({"metadata": {"labels": {"a": ""}}})));
        assert!(!empty.matches_object(&json!({"metadata": {"labels": {"a": "b"}}})));
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
        let invalid = "invalid field selector: ";
        for (bad, why) in [
            (
                "metadata.name",
                "invalid selector: 'metadata.name'; can't understand 'metadata.name'".to_owned(),
            ),
            ("a=b\\", format!("{invalid}invalid escape sequence: \\")),
            ("a=b\\x", format!("{invalid}invalid escape sequence: \\x")),
            ("a=b=c", format!("{invalid}unescaped character in value: 61")),
        ] {
            assert_eq!(
                FieldSelector::parse(bad).map_err(|e| e.to_string()),
                Err(why),
                "{bad}"
            );
        }
    }

    #[test]
    fn field_selectors_demand_values() {
        for (text, demanded) in [
            ("metadata.name=a", Some("a")),
            ("metadata.name==a,x=y", Some("a")),
            ("metadata.name=b,metadata.name=a", Some("a")),
            ("metadata.name!=a", None),
            ("type!=x\\,metadata.name\\=a", None),
            ("", None),
        ] {
            let selector = FieldSelector::parse(text).expect(text);
            assert_eq!(selector.exact("metadata.name"), demanded, "{text}");
        }
        let odd = "a,b=c\\d";
        let selector = FieldSelector::parse(&format!("x={}", escape_value(odd))).expect(odd);
        assert_eq!(selector.exact("x"), Some(odd));
    }
}
