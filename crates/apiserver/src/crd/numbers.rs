//! Numbers in custom objects, as upstream's validator of schemas takes them: with Go's ranges and with its idea of what a
//! whole number is. Source: `k8s.io/kube-openapi/pkg/validation/validate`.

use super::formats;
use kinds::field::{FieldError, Path};
use serde_json::{Value, json};

/// Beyond it a number with a fraction cannot tell one whole number from the next.
const MOST_EXACT: f64 = 9_007_199_254_740_991.0;
/// As near as a quotient must come to a whole number.
const NEAR: f64 = 1e-9;

/// Whether a number with a fraction stands for a whole one.
pub(super) fn is_whole(number: f64) -> bool {
    if !number.is_finite() || number.abs() > MOST_EXACT {
        return false;
    }
    let whole = number.trunc();
    if number == whole {
        return true;
    }
    number != 0.0 && whole != 0.0 && (number - whole).abs() / (number.abs() + whole.abs()) < NEAR
}

/// The form in which Go holds a value.
pub(super) fn format_of(value: &Value) -> &'static str {
    match value {
        Value::Number(number) if number.as_i64().is_some() => "int64",
        Value::Number(_) => "float64",
        _ => "",
    }
}

/// Whether a value is one of an `enum`. Numbers are made alike before.
pub(super) fn same(value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (Value::Number(_), Value::Number(whole)) if whole.as_i64().is_some() => {
            let truncated = value.as_i64().or(value.as_f64().map(|f| f as i64));
            truncated == whole.as_i64()
        }
        (Value::Number(_), Value::Number(_)) => value.as_f64() == allowed.as_f64(),
        // Upstream takes null for none of the values, though it may be among them.
        _ => value == allowed && !value.is_null(),
    }
}

/// Checks a number against the range of its format, and the limits of its schema.
pub(super) fn check(value: &Value, schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(n) = value.as_f64() else { return };
    let place = path.as_str();
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or("");
    let (ty, format) = (text("type"), formats::of(schema));
    let fits = match (ty, format) {
        ("integer", "int32") => whole(value).is_some_and(|n| i32::try_from(n).is_ok()),
        ("integer", _) => whole(value).is_some(),
        (_, "float") => n.abs() <= f64::from(f32::MAX),
        _ => true,
    };
    if !fits {
        let form = match format {
            "" => "(default format)".to_owned(),
            format => format!("with format {format}"),
        };
        let why = format!("Checked value must be of type {ty} {form} in {place}");
        errors.push(FieldError::invalid(&Path::root(), json!(""), why));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
    if let Some(of) = bound("multipleOf") {
        let why = multiple(value, n, of, path);
        errors.extend(why.map(|(shown, why)| FieldError::invalid(path, shown, why)));
    }
    let mut invalid = |why: String| errors.push(FieldError::invalid(path, value.clone(), why));
    if let Some(min) = bound("minimum") {
        if flag("exclusiveMinimum") && n <= min {
            invalid(format!("{place} in body should be greater than {min}"));
        } else if n < min {
            invalid(format!(
                "{place} in body should be greater than or equal to {min}"
            ));
        }
    }
    if let Some(max) = bound("maximum") {
        if flag("exclusiveMaximum") && n >= max {
            invalid(format!("{place} in body should be less than {max}"));
        } else if n > max {
            invalid(format!("{place} in body should be less than or equal to {max}"));
        }
    }
}

/// The whole number that a value is, or stands for.
fn whole(value: &Value) -> Option<i64> {
    let of_fraction = |f: f64| (f.trunc() == f && f.abs() < i64::MAX as f64).then_some(f as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(of_fraction))
}

/// What is wrong with a number that should be a multiple. Whole numbers are divided by a whole one.
fn multiple(value: &Value, n: f64, of: f64, path: &Path) -> Option<(Value, String)> {
    let not = |of: String| {
        Some((
            value.clone(),
            format!("{} in body should be a multiple of {of}", path.as_str()),
        ))
    };
    match value.as_i64() {
        Some(n) => match of as i64 {
            of if of <= 0 => {
                let why = format!(
                    "factor MultipleOf declared for {} must be positive: {of}",
                    path.as_str()
                );
                Some((json!(of), why))
            }
            of if n % of != 0 => not(of.to_string()),
            _ => None,
        },
        None => {
            let quotient = if of < 1.0 { 1.0 / of * n } else { n / of };
            if is_whole(quotient) {
                None
            } else {
                not(of.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_upstream_judges_them() {
        let told = |value: Value, schema: Value| {
            let mut errors = Vec::new();
            check(&value, &schema, &Path::new("m"), &mut errors);
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        };
        let (tenth, half) = (
            json!({"type": "number", "multipleOf": 0.1}),
            json!({"type": "number", "multipleOf": 2.5}),
        );
        let (five, short) = (
            json!({"type": "integer", "multipleOf": 5}),
            json!({"type": "integer", "format": "int32"}),
        );
        let (long, single) = (
            json!({"type": "integer", "format": "int64"}),
            json!({"type": "number", "format": "float"}),
        );
        for (value, schema, expected) in [
            (json!(0.3), &tenth, ""),
            (json!(0.7), &tenth, ""),
            (json!(-0.3), &tenth, ""),
            (json!(0.30000000000000004), &tenth, ""),
            (
                json!(0.35),
                &tenth,
                "m: Invalid value: 0.35: m in body should be a multiple of 0.1",
            ),
            (
                json!(1),
                &tenth,
                "m: Invalid value: 0: factor MultipleOf declared for m must be positive: 0",
            ),
            (json!(7.5), &half, ""),
            (
                json!(5),
                &half,
                "m: Invalid value: 5: m in body should be a multiple of 2",
            ),
            (
                json!(7.5),
                &five,
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in m; \
                 m: Invalid value: 7.5: m in body should be a multiple of 5",
            ),
            (
                json!(1_i64 << 31),
                &short,
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in m",
            ),
            (json!(2.0), &short, ""),
            (
                json!(1_u64 << 63),
                &long,
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int64 in m",
            ),
            (
                json!(1e39),
                &single,
                "<nil>: Invalid value: \"\": Checked value must be of type number with format float in m",
            ),
        ] {
            assert_eq!(told(value, schema.clone()), expected);
        }
        for (value, allowed, expected) in [
            (json!(1.0), json!(1), true),
            (json!(1.5), json!(1), true),
            (json!("1"), json!(1), false),
            (json!(2), json!(1.5), false),
            (json!("a"), json!("a"), true),
        ] {
            assert_eq!(same(&value, &allowed), expected, "{value} {allowed}");
        }
    }
}
