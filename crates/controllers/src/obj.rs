//! Small readers and writers of objects: metadata, owners, conditions, readiness of Pods, names.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The alphabet of generated names: no vowels, no digits that look like letters.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Text at a JSON pointer, or "".
pub fn text<'a>(v: &'a Value, at: &str) -> &'a str {
    v.pointer(at).and_then(Value::as_str).unwrap_or("")
}

/// A number at a JSON pointer.
pub fn int(v: &Value, at: &str, or: i64) -> i64 {
    v.pointer(at).and_then(Value::as_i64).unwrap_or(or)
}

/// A field of `metadata`, or "".
pub fn meta<'a>(v: &'a Value, field: &str) -> &'a str {
    v["metadata"][field].as_str().unwrap_or("")
}

/// A list at a JSON pointer, or nothing.
pub fn items<'a>(v: &'a Value, at: &str) -> &'a [Value] {
    v.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A label, or "".
pub fn label<'a>(v: &'a Value, key: &str) -> &'a str {
    v["metadata"]["labels"][key].as_str().unwrap_or("")
}

/// An annotation, or "".
pub fn annotation<'a>(v: &'a Value, key: &str) -> &'a str {
    v["metadata"]["annotations"][key].as_str().unwrap_or("")
}

/// Deletion has begun.
pub fn deleting(v: &Value) -> bool {
    !meta(v, "deletionTimestamp").is_empty()
}

/// Now, in whole seconds.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Time that has passed since a timestamp; very long when there is none.
pub fn since(stamp: &str) -> SignedDuration {
    stamp
        .parse::<Timestamp>()
        .map_or(SignedDuration::MAX, |t| Timestamp::now().duration_since(t))
}

/// The controller among the owners.
pub fn controller_of(v: &Value) -> Option<&Value> {
    items(v, "/metadata/ownerReferences")
        .iter()
        .find(|o| o["controller"] == true)
}

/// `v` is controlled by the object with this uid.
pub fn controlled_by(v: &Value, uid: &str) -> bool {
    controller_of(v).is_some_and(|o| o["uid"] == uid)
}

/// A reference that makes `owner` the controller.
pub fn owner_ref(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta(owner, "name"),
        "uid": meta(owner, "uid"), "controller": true, "blockOwnerDeletion": true,
    })
}

/// Sets a condition (`lastTransitionTime` moves only with the status). `extra` names a further time field to set when
/// anything changed, such as `lastUpdateTime`.
pub fn set_condition(
    list: &mut Vec<Value>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    extra: Option<&str>,
) {
    let old = list.iter().position(|c| c["type"] == kind);
    let now = now();
    let mut next = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    if let Some(extra) = extra {
        next[extra] = json!(now);
    }
    let Some(at) = old else {
        list.push(next);
        return;
    };
    let had = &list[at];
    if had["status"] == status && had["reason"] == reason && had["message"] == message {
        return;
    }
    if had["status"] == status {
        next["lastTransitionTime"] = had["lastTransitionTime"].clone();
    }
    list[at] = next;
}

/// The condition of a type.
pub fn condition<'a>(v: &'a Value, kind: &str) -> Option<&'a Value> {
    items(v, "/status/conditions").iter().find(|c| c["type"] == kind)
}

/// The Pod has ended.
pub fn finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// The Pod counts: not ended, not being deleted.
pub fn active(pod: &Value) -> bool {
    !finished(pod) && !deleting(pod)
}

/// Condition `Ready` is true.
pub fn ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
}

/// Ready for at least `min_ready` seconds.
pub fn available(pod: &Value, min_ready: i64) -> bool {
    condition(pod, "Ready").is_some_and(|c| {
        c["status"] == "True"
            && (min_ready == 0 || since(text(c, "/lastTransitionTime")).as_secs() >= min_ready)
    })
}

/// How long it is until the next of some Pods is [`available`], if one of them will be by time alone.
pub fn until_available<'p>(pods: impl IntoIterator<Item = &'p Value>, min_ready: i64) -> Option<Duration> {
    if min_ready <= 0 {
        return None;
    }
    let left = pods.into_iter().filter_map(|pod| {
        let ready = condition(pod, "Ready").filter(|c| c["status"] == "True")?;
        let passed = since(text(ready, "/lastTransitionTime"));
        let left = SignedDuration::from_secs(min_ready).checked_sub(passed)?;
        left.is_positive().then(|| left.unsigned_abs())
    });
    left.min()
}

/// A label selector as upstream's words have it: the way Go prints the type.
pub(crate) fn go_selector(selector: &Value) -> String {
    if selector.is_null() {
        return "nil".into();
    }
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels: String = labels
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expressions = items(selector, "/matchExpressions").iter().map(|one| {
        let values = items(one, "/values").iter().filter_map(Value::as_str);
        let values: Vec<&str> = values.collect();
        let (key, operator) = (text(one, "/key"), text(one, "/operator"));
        format!(
            "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},",
            values.join(" ")
        )
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// `length` characters that stand for `input`, usable in names.
pub fn digest(input: &str, length: usize) -> String {
    let hash = Sha256::digest(input.as_bytes());
    let bytes: &[u8] = hash.as_ref();
    bytes
        .iter()
        .take(length)
        .map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]))
        .collect()
}

/// An absolute number or a share (`25%`) of `total`.
pub fn int_or_percent(v: &Value, total: i64, up: bool) -> i64 {
    if let Some(n) = v.as_i64() {
        return n;
    }
    let percent: i64 = v
        .as_str()
        .and_then(|s| s.strip_suffix('%'))
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    match up {
        true => (percent * total + 99) / 100,
        false => percent * total / 100,
    }
}
