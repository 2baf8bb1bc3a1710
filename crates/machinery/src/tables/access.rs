//! Rows of roles, accounts, certificates, admission, flow control, and who may use what.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, NONE, UNSET};
use super::{AGE, CREATED_AT, NAME, Printer, number, text as column, wide};

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => Printer {
            columns: const { &[NAME, CREATED_AT] },
            cells: |object, _| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/metadata/creationTimestamp")),
                ]
            },
        },
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Role"),
                    AGE,
                    wide("Users"),
                    wide("Groups"),
                    wide("ServiceAccounts"),
                ]
            },
            cells: binding,
        },
        ("", "ServiceAccount") => Printer {
            columns: const { &[NAME, AGE] },
            cells: |object, now| vec![text::name(object), text::created(object, now)],
        },
        ("certificates.k8s.io", "ClusterTrustBundle") => Printer {
            columns: const { &[NAME, column("SignerName")] },
            cells: |object, _| {
                vec![
                    text::name(object),
                    json!(text::or(object, "/spec/signerName", NONE)),
                ]
            },
        },
        ("certificates.k8s.io", "CertificateSigningRequest") => Printer {
            columns: const {
                &[
                    NAME,
                    AGE,
                    column("SignerName"),
                    column("Requestor"),
                    column("RequestedDuration"),
                    column("Condition"),
                ]
            },
            cells: signing_request,
        },
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => Printer {
            columns: const { &[NAME, number("Webhooks"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::count(object, "/webhooks")),
                    text::created(object, now),
                ]
            },
        },
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => Printer {
            columns: const { &[NAME, number("Validations"), column("ParamKind"), AGE] },
            cells: |object, now| {
                let kind = match text::at(object, "/spec/paramKind/kind") {
                    "" => UNSET.to_owned(),
                    kind => format!("{}/{kind}", text::at(object, "/spec/paramKind/apiVersion")),
                };
                vec![
                    text::name(object),
                    json!(text::count(object, "/spec/validations")),
                    json!(kind),
                    text::created(object, now),
                ]
            },
        },
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => Printer {
            columns: const { &[NAME, number("Mutations"), column("ParamKind"), AGE] },
            cells: |object, now| {
                let kind = match text::at(object, "/spec/paramKind/kind") {
                    "" => UNSET.to_owned(),
                    kind => format!("{}/{kind}", text::at(object, "/spec/paramKind/apiVersion")),
                };
                vec![
                    text::name(object),
                    json!(text::count(object, "/spec/mutations")),
                    json!(kind),
                    text::created(object, now),
                ]
            },
        },
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => Printer {
            columns: const { &[NAME, column("PolicyName"), column("ParamRef"), AGE] },
            cells: policy_binding,
        },
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => Printer {
            columns: const {
                &[
                    NAME,
                    column("PriorityLevel"),
                    column("MatchingPrecedence"),
                    column("DistinguisherMethod"),
                    AGE,
                    column("MissingPL"),
                ]
            },
            cells: flow_schema,
        },
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Type"),
                    column("NominalConcurrencyShares"),
                    column("Queues"),
                    column("HandSize"),
                    column("QueueLengthLimit"),
                    AGE,
                ]
            },
            cells: priority_level,
        },
        ("podvisor.io", "User") => Printer {
            columns: const { &[NAME, column("Display Name"), column("Groups"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/spec/displayName")),
                    json!(text::joined_or(text::list(object, "/spec/groups"), "", NONE)),
                    text::created(object, now),
                ]
            },
        },
        ("podvisor.io", "Group") => Printer {
            columns: const { &[NAME, number("Members"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::count(object, "/spec/members")),
                    text::created(object, now),
                ]
            },
        },
        _ => return None,
    })
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        text::at(object, "/roleRef/kind"),
        text::at(object, "/roleRef/name")
    );
    let subjects = |kind: &str| {
        let names: Vec<String> = text::list(object, "/subjects")
            .iter()
            .filter(|subject| subject["kind"] == kind)
            .map(|subject| match (kind, text::at(subject, "/namespace")) {
                ("ServiceAccount", namespace) => format!("{namespace}/{}", text::at(subject, "/name")),
                _ => text::at(subject, "/name").to_owned(),
            })
            .collect();
        json!(names.join(", "))
    };
    vec![
        text::name(object),
        json!(role),
        text::created(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let is = |ty: &str| text::condition(object, ty).is_some();
    let mut status = match (is("Denied"), is("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if is("Failed") {
        status.push_str(",Failed");
    }
    if !text::at(object, "/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    let duration = object.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    vec![
        text::name(object),
        text::created(object, now),
        json!(text::or(object, "/spec/signerName", NONE)),
        json!(text::at(object, "/spec/username")),
        json!(duration.map_or_else(|| NONE.to_owned(), text::human_duration)),
        json!(status),
    ]
}

/// A selector of labels as upstream's own type prints itself.
fn go_selector(selector: &Value) -> String {
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels: String = labels
        .map(|(key, value)| format!("{key}: {},", words(value)))
        .collect();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let expressions: String = expressions
        .map(|one| {
            let values = one["values"].as_array().into_iter().flatten().map(words);
            let values = values.collect::<Vec<_>>().join(" ");
            let (key, operator) = (words(&one["key"]), words(&one["operator"]));
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn policy_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let reference = match (
        text::at(object, "/spec/paramRef/namespace"),
        text::at(object, "/spec/paramRef/name"),
    ) {
        (_, "") if object["spec"]["paramRef"]["selector"].is_object() => {
            go_selector(&object["spec"]["paramRef"]["selector"])
        }
        (_, "") => UNSET.to_owned(),
        // Whether what it names has a namespace is not told here.
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        text::name(object),
        json!(text::at(object, "/spec/policyName")),
        json!(reference),
        text::created(object, now),
    ]
}

fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let dangling =
        text::condition(object, "Dangling").map_or("?", |condition| text::at(condition, "/status"));
    vec![
        text::name(object),
        json!(text::at(object, "/spec/priorityLevelConfiguration/name")),
        json!(text::int(object, "/spec/matchingPrecedence")),
        json!(text::or(object, "/spec/distinguisherMethod/type", NONE)),
        text::created(object, now),
        json!(dangling),
    ]
}

fn priority_level(object: &Value, now: Timestamp) -> Vec<Value> {
    let shares = object.pointer("/spec/limited/nominalConcurrencyShares");
    let queuing = |field: &str| {
        let pointer = format!("/spec/limited/limitResponse/queuing/{field}");
        object.pointer(&pointer).cloned().unwrap_or_else(|| json!(NONE))
    };
    vec![
        text::name(object),
        json!(text::at(object, "/spec/type")),
        shares.cloned().unwrap_or_else(|| json!(NONE)),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        text::created(object, now),
    ]
}
