//! An answer without what chance, clock and counters put into it.

use crate::client::Answer;
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// Texts that differ between two servers by chance, and what stands for them.
static BY_CHANCE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let all = [
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "UID",
        ),
        (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-NAME"),
        (r"0xc[0-9a-f]{6,10}", "POINTER"),
        (r"selfType[0-9]+", "selfType"),
        (r"10\.96\.\d+\.\d+", "CLUSTERIP"),
    ];
    all.into_iter()
        .filter_map(|(pattern, text)| Some((Regex::new(pattern).ok()?, text)))
        .collect()
});

/// Times of this year are the clock's, those in requests of other years (see `words`).
fn is_now(text: &str) -> bool {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    // Days since the epoch suffice: requests name days that are long past or far ahead.
    let day = now / 86_400;
    date(text).is_some_and(|of| of.abs_diff(day) <= 1)
}

/// Days since the epoch of a time in the form of RFC 3339.
fn date(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    if text.len() < 20 || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let era_days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day;
    era_days.checked_sub(719_469)
}

/// The answer as both servers should give it.
pub fn answer(answer: &Answer) -> Answer {
    let mut body = answer.body.clone();
    value(&mut body, "");
    unordered(&mut body);
    let text = |text: &String| {
        let mut text = text.clone();
        string(&mut text);
        text
    };
    Answer {
        code: answer.code,
        warnings: answer.warnings.iter().map(text).collect(),
        body,
    }
}

/// Faults of schemas, and those that schemas find, in an order of their own: Go walks properties in a random one. What they say
/// together is said by each as well.
fn unordered(body: &mut Value) {
    // Of fields that are not known, only those are told that came first.
    if let Some(text) = body["message"]
        .as_str()
        .filter(|text| text.starts_with("failed to create typed patch"))
        && let Some((before, _)) = text.split_once("Kind=Thing): ")
    {
        body["message"] = Value::from(before);
    }
    let of_thing = body["details"]["kind"] == "Thing";
    let Some(causes) = body.pointer_mut("/details/causes").and_then(Value::as_array_mut) else {
        return;
    };
    let of_schema = |cause: &Value| {
        let field = cause["field"].as_str().unwrap_or_default();
        of_thing || field.contains("openAPIV3Schema")
    };
    if !causes.iter().any(of_schema) {
        return;
    }
    for run in causes.chunk_by_mut(|one, other| of_schema(one) && of_schema(other)) {
        run.sort_by_cached_key(Value::to_string);
    }
    if let Some(text) = body["message"]
        .as_str()
        .and_then(|text| text.split_once(" is invalid: "))
    {
        body["message"] = Value::from(text.0);
    }
}

fn value(of: &mut Value, key: &str) {
    match of {
        Value::String(text)
            if ["uid", "resourceVersion", "clusterIP", "continue"].contains(&key) && !text.is_empty() =>
        {
            *text = key.to_uppercase();
        }
        Value::String(text) if is_now(text) => *text = "NOW".to_owned(),
        Value::String(text) => string(text),
        Value::Number(_) if ["nodePort", "healthCheckNodePort"].contains(&key) => *of = Value::from("PORT"),
        Value::Array(list) => list.iter_mut().for_each(|of| value(of, "")),
        Value::Object(map) => map.iter_mut().for_each(|(key, of)| value(of, key)),
        _ => {}
    }
}

fn string(text: &mut String) {
    for (pattern, by) in BY_CHANCE.iter() {
        if pattern.is_match(text) {
            *text = pattern.replace_all(text, *by).into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(body: Value) -> Value {
        let told = Answer {
            code: 200,
            warnings: Vec::new(),
            body,
        };
        answer(&told).body
    }

    #[test]
    fn days_are_counted_as_everybody_does() {
        for (text, days) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-03-01T00:00:00Z", Some(59)),
            ("2000-02-29T12:00:00Z", Some(11_016)),
            ("2026-01-01T00:00:00Z", Some(20_454)),
            ("2026-01-01", None),
            ("not a time, but as long", None),
        ] {
            assert_eq!(date(text), days, "{text}");
        }
    }

    #[test]
    fn what_chance_gives_is_taken_out_and_nothing_else() {
        let object = json!({"metadata": {"uid": "a-uid", "name": "x", "resourceVersion": "7"},
            "spec": {"ports": [{"nodePort": 31_000, "port": 80}], "volumes": [{"name": "kube-api-access-ab1cd"}]},
            "message": "must be '01234567-89ab-cdef-0123-456789abcdef' at 0xc000123456"});
        let wanted = json!({"metadata": {"uid": "UID", "name": "x", "resourceVersion": "RESOURCEVERSION"},
            "spec": {"ports": [{"nodePort": "PORT", "port": 80}], "volumes": [{"name": "kube-api-access-NAME"}]},
            "message": "must be 'UID' at POINTER"});
        assert_eq!(said(object), wanted);
        let empty = json!({"metadata": {"uid": ""}, "time": "1970-01-01T00:00:00Z"});
        assert_eq!(said(empty.clone()), empty);
    }
}
