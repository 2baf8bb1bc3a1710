//! What Go's encoder leaves out or writes in one form only. Upstream decodes an object into structs and encodes those:
//! empty lists and maps of fields tagged `omitempty` are gone then, and times have one form. Clients compare what they sent
//! with what they get back, so the same must happen here. Empty texts, zeros and `false` stay as they were sent: who
//! applies them owns them.

/// Fields of type `metav1.MicroTime`, by the type that has them.
const MICRO_TIMES: [(&str, &str); 6] = [
    ("LeaseSpec", "acquireTime"),
    ("LeaseSpec", "renewTime"),
    ("LeaseCandidateSpec", "pingTime"),
    ("LeaseCandidateSpec", "renewTime"),
    ("Event", "eventTime"),
    ("EventSeries", "lastObservedTime"),
];

/// Whether empty values of `omitempty` fields are left out. Our own kinds are written as they are given.
pub(super) fn leaves_out(owner: &str) -> bool {
    upstream(owner).is_some()
}

/// Whether an empty list is something else than none: it is refused where none is given a default, or it forgets who owns
/// what, where it is the object's own.
pub(super) fn empty_is_told(owner: &str, field: &str, of_object: bool) -> bool {
    match (upstream(owner), field) {
        (Some("HPAScalingRules"), "policies") | (Some("NodeStatus"), "allocatable") => true,
        (Some("ObjectMeta"), "managedFields") => of_object,
        _ => false,
    }
}

/// The short name of one of upstream's types.
fn upstream(owner: &str) -> Option<&str> {
    owner.starts_with("io.k8s.").then(|| owner.rsplit('.').next())?
}

/// Whether a field is a time to the microsecond.
pub(super) fn is_micro(owner: &str, field: &str) -> bool {
    upstream(owner).is_some_and(|short| MICRO_TIMES.contains(&(short, field)))
}

/// Writes a time, which has been checked, in UTC, with whole seconds or with six digits below them.
pub(super) fn canonical_time(owner: &str, field: &str, text: &mut String) {
    let Some(short) = upstream(owner) else { return };
    let micro = MICRO_TIMES.contains(&(short, field));
    if text.contains(',') {
        *text = text.replacen(',', ".", 1);
    }
    // Nearly always it is in that form already.
    let plain = text.len() == if micro { 27 } else { 20 };
    if plain && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T') {
        return;
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let form = if micro {
            "%Y-%m-%dT%H:%M:%S.%6fZ"
        } else {
            "%Y-%m-%dT%H:%M:%SZ"
        };
        *text = at.strftime(form).to_string();
    }
}
