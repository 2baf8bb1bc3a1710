//! Small texts that many printers need: ages, lists with an end, selectors; and short ways to reach into an object.

use jiff::Timestamp;
use serde_json::{Value, json};

/// What stands for "nothing".
pub(super) const NONE: &str = "<none>";
/// What stands for "nobody said".
pub(super) const UNSET: &str = "<unset>";
/// What stands for "cannot be known".
pub(super) const UNKNOWN: &str = "<unknown>";

/// Time from `at` to `now` in upstream's short form, such as `5s`, `3m20s`, `2d4h`.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    human_duration(now.as_second() - at.as_second())
}

/// A duration in seconds in upstream's short form: two units while the first is small, then one.
pub(super) fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |first: i64, unit: char, second: i64, small: char| match second {
        0 => format!("{first}{unit}"),
        second => format!("{first}{unit}{second}{small}"),
    };
    if seconds < -1 {
        "<invalid>".to_owned()
    } else if seconds < 0 {
        "0s".to_owned()
    } else if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        pair(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        pair(days, 'd', hours % 24, 'h')
    } else if days < 730 {
        format!("{days}d")
    } else if days < 2920 {
        pair(days / 365, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}

/// Text at a JSON pointer; empty when there is none.
pub(super) fn at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Text at a pointer, or something else.
pub(super) fn or<'a>(object: &'a Value, pointer: &str, otherwise: &'a str) -> &'a str {
    match at(object, pointer) {
        "" => otherwise,
        text => text,
    }
}

/// Number at a pointer; 0 when there is none.
pub(super) fn int(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// Number at a pointer as text, or something else.
pub(super) fn int_or(object: &Value, pointer: &str, otherwise: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .map_or_else(|| otherwise.to_owned(), |n| n.to_string())
}

/// Whether there is `true` at a pointer.
pub(super) fn is(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer) == Some(&Value::Bool(true))
}

/// The list at a pointer.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// How many entries the map or list at a pointer has.
pub(super) fn count(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(items)) => items.len(),
        _ => 0,
    }
}

/// A text or number as it is written.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The texts of a list, or of a field of its elements, joined.
pub(super) fn joined(items: &[Value], field: &str, separator: &str) -> String {
    let texts: Vec<&str> = items
        .iter()
        .filter_map(|item| {
            if field.is_empty() {
                item.as_str()
            } else {
                item[field].as_str()
            }
        })
        .collect();
    texts.join(separator)
}

/// The texts, or something that says there are none.
pub(super) fn joined_or(items: &[Value], field: &str, otherwise: &str) -> String {
    if items.is_empty() {
        otherwise.to_owned()
    } else {
        joined(items, field, ",")
    }
}

/// At most three texts, and how many more there are.
pub(super) fn at_most_three(texts: &[String], otherwise: &str) -> String {
    match texts.len() {
        0 => otherwise.to_owned(),
        1..=3 => texts.join(","),
        all => format!("{} + {} more...", texts[..3].join(","), all - 3),
    }
}

/// The name.
pub(super) fn name(object: &Value) -> Value {
    json!(at(object, "/metadata/name"))
}

/// Whether it is being deleted.
pub(super) fn is_deleted(object: &Value) -> bool {
    !at(object, "/metadata/deletionTimestamp").is_empty()
}

/// The moment at a pointer.
pub(super) fn moment(object: &Value, pointer: &str) -> Option<Timestamp> {
    at(object, pointer).parse().ok()
}

/// Time since the moment at a pointer.
pub(super) fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    moment(object, pointer).map_or_else(|| UNKNOWN.to_owned(), |moment| age(moment, now))
}

/// Time since creation.
pub(super) fn created(object: &Value, now: Timestamp) -> Value {
    json!(since(object, "/metadata/creationTimestamp", now))
}

/// The condition of a type.
pub(super) fn condition<'a>(object: &'a Value, ty: &str) -> Option<&'a Value> {
    list(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == ty)
}

/// Whether the condition of a type is true.
pub(super) fn holds(object: &Value, ty: &str) -> bool {
    condition(object, ty).is_some_and(|condition| condition["status"] == "True")
}

/// `a=b,c=d`, sorted.
pub(super) fn labels(object: &Value, pointer: &str) -> String {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let mut texts: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    texts.sort();
    if texts.is_empty() {
        NONE.to_owned()
    } else {
        texts.join(",")
    }
}

/// A label selector object in the query language.
pub(super) fn selector(object: &Value, pointer: &str) -> String {
    let Some(selector) = object.pointer(pointer).filter(|value| !value.is_null()) else {
        return NONE.to_owned();
    };
    let mut texts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        texts.push((
            key.clone(),
            format!("{key}={}", value.as_str().unwrap_or_default()),
        ));
    }
    for term in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = term["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = term["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match term["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => continue,
        };
        texts.push((key.to_owned(), text));
    }
    texts.sort();
    if texts.is_empty() {
        return NONE.to_owned();
    }
    texts
        .into_iter()
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let (minute, hour, day) = (60, 3600, 86_400);
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (3 * minute + 20, "3m20s"),
            (10 * minute + 5, "10m"),
            (3 * hour - 1, "179m"),
            (3 * hour, "3h"),
            (7 * hour + 5 * minute, "7h5m"),
            (8 * hour + 5 * minute, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + 4 * hour, "2d4h"),
            (8 * day + 4 * hour, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (735 * day, "2y5d"),
            (8 * 365 * day + day, "8y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(human_duration(seconds), expected, "{seconds} s");
        }
    }
}
