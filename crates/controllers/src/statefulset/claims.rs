//! Whose the claims of a StatefulSet are: `persistentVolumeClaimRetentionPolicy` as owners of claims, after upstream's
//! `isClaimOwnerUpToDate` and `updateClaimOwnerRefForSetAndPod` (pkg/controller/statefulset/stateful_set_utils.go).

use crate::obj::{items, meta, owner_ref, text};
use serde_json::Value;

/// What is to be done about the owners of a claim.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// They are right, or nobody's business here.
    Right,
    /// Somebody else is its controller; these are its owners without set and Pod.
    Conflict(Vec<Value>),
    /// These shall be its owners.
    Wrong(Vec<Value>),
}

/// The part of the policy for one occasion asks for deletion.
fn deletes(set: &Value, when: &str) -> bool {
    text(set, &format!("/spec/persistentVolumeClaimRetentionPolicy/{when}")) == "Delete"
}

/// A reference by kind and name, whoever had that name.
fn names(reference: &Value, object: &Value) -> bool {
    reference["apiVersion"] == object["apiVersion"]
        && reference["kind"] == object["kind"]
        && text(reference, "/name") == meta(object, "name")
}

/// A reference to an earlier object of that name: claims of those are left to the collector.
fn stale(claim: &Value, object: &Value) -> bool {
    owners(claim)
        .iter()
        .find(|o| names(o, object))
        .is_some_and(|o| o["uid"] != object["metadata"]["uid"])
}

fn owners(claim: &Value) -> &[Value] {
    items(claim, "/metadata/ownerReferences")
}

/// Somebody else manages the claim, which matters only where the set has a policy.
pub(super) fn conflicting(set: &Value, pod: &Value, claim: &Value) -> bool {
    if !deletes(set, "whenDeleted") && !deletes(set, "whenScaled") {
        return false;
    }
    stale(claim, set)
        || stale(claim, pod)
        || owners(claim)
            .iter()
            .any(|o| o["controller"] == true && !names(o, set) && !names(o, pod))
}

/// A claim that goes with an earlier Pod of the name, for which the next Pod has to wait.
pub(super) fn going(set: &Value, pod: &Value, claim: &Value) -> bool {
    deletes(set, "whenScaled") && stale(claim, pod)
}

/// The owners that the policy asks for; a Pod is condemned when the set is scaled down past it.
pub(super) fn judge(set: &Value, pod: &Value, claim: &Value, condemned: bool) -> Verdict {
    if stale(claim, set) || stale(claim, pod) {
        return Verdict::Right;
    }
    let had = owners(claim);
    let mut next: Vec<Value> = had
        .iter()
        .filter(|o| !names(o, set) && !names(o, pod))
        .cloned()
        .collect();
    if conflicting(set, pod, claim) {
        return match next.len() == had.len() {
            true => Verdict::Right,
            false => Verdict::Conflict(next),
        };
    }
    let owner = match (deletes(set, "whenDeleted"), deletes(set, "whenScaled")) {
        (_, true) if condemned => Some(pod),
        (true, _) => Some(set),
        _ => None,
    };
    next.extend(owner.map(owner_ref));
    let kept = |o: &Value| next.iter().any(|n| n["uid"] == o["uid"]);
    let ours = |o: &Value| names(o, set) || names(o, pod);
    let managing = had.iter().filter(|o| ours(o)).all(|o| o["controller"] == true);
    match next.len() == had.len() && managing && had.iter().all(kept) {
        true => Verdict::Right,
        false => Verdict::Wrong(next),
    }
}

#[cfg(test)]
mod tests {
    //! Owners as words: `set`, `pod`, `else` (a foreign controller), `friend` (an owner that manages nothing); `old-` before
    //! one is an earlier object of the name, a `?` behind it one that is no controller.

    use super::*;
    use serde_json::json;

    fn object(kind: &str, version: &str, name: &str, uid: &str) -> Value {
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "uid": uid}})
    }

    fn reference(word: &str) -> Value {
        let (uid, bare) = (word.trim_end_matches('?'), word.trim_start_matches("old-"));
        let of = match bare.trim_end_matches('?') {
            "set" => object("StatefulSet", "apps/v1", "web", uid),
            "pod" => object("Pod", "v1", "web-1", uid),
            other => object("ConfigMap", "v1", other, uid),
        };
        let mut reference = owner_ref(&of);
        if word.ends_with('?') || bare == "friend" {
            reference["controller"] = json!(false);
        }
        reference
    }

    fn verdict(when_deleted: &str, when_scaled: &str, had: &str, condemned: bool) -> String {
        let mut set = object("StatefulSet", "apps/v1", "web", "set");
        set["spec"]["persistentVolumeClaimRetentionPolicy"] =
            json!({"whenDeleted": when_deleted, "whenScaled": when_scaled});
        let pod = object("Pod", "v1", "web-1", "pod");
        let had: Vec<Value> = had.split_whitespace().map(reference).collect();
        let claim = json!({"metadata": {"name": "data-web-1", "ownerReferences": had}});
        let words = |list: Vec<Value>| {
            let words = list
                .iter()
                .map(|o| o["uid"].as_str().unwrap_or_default().to_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        match judge(&set, &pod, &claim, condemned) {
            Verdict::Right => "right".into(),
            Verdict::Conflict(list) => format!("conflict: {}", words(list)),
            Verdict::Wrong(list) => format!("-> {}", words(list)),
        }
    }

    #[test]
    fn owners_of_claims() {
        let (keep, delete) = ("Retain", "Delete");
        let cases = [
            (keep, keep, "", false, "right"),
            (keep, keep, "friend else", false, "right"),
            (keep, keep, "set", false, "-> "),
            (delete, keep, "", false, "-> set"),
            (delete, keep, "set", true, "right"),
            (delete, keep, "set?", true, "-> set"),
            (delete, keep, "friend", false, "-> friend set"),
            (keep, delete, "", false, "right"),
            (keep, delete, "", true, "-> pod"),
            (keep, delete, "pod", false, "-> "),
            (delete, delete, "", false, "-> set"),
            (delete, delete, "set", true, "-> pod"),
            (delete, delete, "set pod", true, "-> pod"),
            (delete, delete, "pod", false, "-> set"),
            (delete, keep, "else", false, "right"),
            (delete, keep, "else set?", false, "conflict: else"),
            (delete, delete, "old-set", false, "right"),
            (delete, delete, "old-pod", true, "right"),
        ];
        for (when_deleted, when_scaled, had, condemned, expected) in cases {
            assert_eq!(
                verdict(when_deleted, when_scaled, had, condemned),
                expected,
                "deleted: {when_deleted}, scaled: {when_scaled}, with {had:?}, condemned: {condemned}"
            );
        }
    }
}
