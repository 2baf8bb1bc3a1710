//! The selectors of a review (KEP-4601): what an authorizer gets to see of them, and what is said of the parts that nobody
//! understands. Source: `pkg/registry/authorization/util/helpers.go` of v1.35.

use kinds::names;
use kinds::selector::{FieldSelector, LabelSelector, escape_value};
use serde_json::Value;

/// What is left of a selector.
struct Read {
    /// Terms that were understood.
    terms: Vec<String>,
    /// Something was not.
    faulty: bool,
}

/// The field selector of a review as text: raw, or its requirements.
pub(super) fn field_selector(resource: &Value) -> String {
    fields(&resource["fieldSelector"]).terms.join(",")
}

/// What was ignored of the selectors, in upstream's words; empty for nothing.
pub(super) fn evaluation_error(resource: &Value) -> String {
    let read = [
        ("fieldSelector", fields(&resource["fieldSelector"])),
        ("labelSelector", labels(&resource["labelSelector"])),
    ];
    let told: Vec<String> = read
        .iter()
        .filter(|(_, read)| read.faulty)
        .map(|(field, read)| {
            let how = match read.terms.is_empty() {
                true => "ignored",
                false => "partially ignored",
            };
            format!("spec.resourceAttributes.{field} {how} due to parse error")
        })
        .collect();
    told.join("; ")
}

fn raw(selector: &Value, parses: impl Fn(&str) -> bool) -> Read {
    let text = selector["rawSelector"].as_str().unwrap_or_default();
    let faulty = !parses(text);
    let terms = (!faulty && !text.is_empty()).then(|| text.to_owned());
    Read {
        terms: terms.into_iter().collect(),
        faulty,
    }
}

/// `one` answers a requirement as a term, or that it is none.
fn each(requirements: &[Value], one: impl Fn(&Value) -> Option<String>) -> Read {
    let terms: Vec<String> = requirements.iter().filter_map(one).collect();
    Read {
        faulty: terms.len() < requirements.len(),
        terms,
    }
}

fn requirements(selector: &Value) -> &[Value] {
    selector["requirements"].as_array().map_or(&[], Vec::as_slice)
}

fn fields(selector: &Value) -> Read {
    if requirements(selector).is_empty() {
        return raw(selector, |text| FieldSelector::parse(text).is_ok());
    }
    each(requirements(selector), |requirement| {
        let operator = match requirement["operator"].as_str()? {
            "In" => "=",
            "NotIn" => "!=",
            _ => return None,
        };
        let values = requirement["values"].as_array().filter(|v| v.len() == 1)?;
        let (key, value) = (requirement["key"].as_str()?, values[0].as_str()?);
        Some(format!("{key}{operator}{}", escape_value(value)))
    })
}

fn labels(selector: &Value) -> Read {
    if requirements(selector).is_empty() {
        return raw(selector, |text| LabelSelector::parse(text).is_ok());
    }
    each(requirements(selector), |requirement| {
        let operator = requirement["operator"].as_str().unwrap_or_default();
        if !matches!(operator, "In" | "NotIn" | "Exists" | "DoesNotExist") {
            return None;
        }
        let mut values = requirement["values"].as_array().into_iter().flatten();
        let valid = values.all(|v| names::label_value(v.as_str().unwrap_or_default()).is_empty());
        valid.then(|| requirement["key"].as_str().unwrap_or_default().to_owned())
    })
}
