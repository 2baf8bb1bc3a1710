//! Defaults of the remaining groups: autoscaling, networking, RBAC, storage, admission, extensions, flow control and
//! devices. Sources: `pkg/apis/<group>/<version>/defaults.go` of Kubernetes v1.35 for each.

use crate::autoscaling::{autoscaler_to_v1, autoscaler_to_v2, drop_annotations};
use crate::walk::{At, each_mut, get_mut, or_set, or_set_empty, set};
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn autoscaler(obj: &mut Value, version: &str) {
    or_set(obj, "spec.minReplicas", 1);
    if version == "v1" {
        // Through the newer version, which is what is judged and stored.
        let newer = autoscaler_to_v2(std::mem::take(obj));
        *obj = autoscaler_to_v1(newer);
        return;
    }
    drop_annotations(obj);
    or_set_empty(
        obj,
        "spec.metrics",
        json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]),
    );
    if !obj.has("spec.behavior") {
        return;
    }
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    or_set(obj, "spec.behavior.scaleUp.stabilizationWindowSeconds", 0);
    for (direction, policies) in [
        ("scaleUp", vec![pods, percent.clone()]),
        ("scaleDown", vec![percent]),
    ] {
        or_set(obj, &format!("spec.behavior.{direction}.selectPolicy"), "Max");
        or_set(obj, &format!("spec.behavior.{direction}.policies"), policies);
    }
}

pub(super) fn network_policy(obj: &mut Value) {
    for rules in ["spec.ingress", "spec.egress"] {
        each_mut(obj, rules, |rule| {
            each_mut(rule, "ports", |port| or_set(port, "protocol", "TCP"));
        });
    }
    if obj.is_empty_at("spec.policyTypes") {
        let types = if obj.is_empty_at("spec.egress") {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        set(obj, "spec.policyTypes", types);
    }
}

pub(super) fn ingress_class(obj: &mut Value) {
    if obj.has("spec.parameters") {
        or_set(obj, "spec.parameters.scope", "Cluster");
    }
}

pub(super) fn role_binding(obj: &mut Value) {
    or_set_empty(obj, "roleRef.apiGroup", RBAC);
    each_mut(obj, "subjects", |subject| {
        if matches!(subject.str_at("kind"), "User" | "Group") {
            or_set_empty(subject, "apiGroup", RBAC);
        }
    });
}

pub(super) fn csi_driver(obj: &mut Value) {
    or_set(obj, "spec.attachRequired", true);
    for field in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        or_set(obj, &format!("spec.{field}"), false);
    }
    or_set(obj, "spec.fsGroupPolicy", "ReadWriteOnceWithFSType");
    or_set_empty(obj, "spec.volumeLifecycleModes", json!(["Persistent"]));
}

pub(super) fn webhooks(obj: &mut Value, mutating: bool) {
    each_mut(obj, "webhooks", |hook| {
        or_set(hook, "failurePolicy", "Fail");
        or_set(hook, "timeoutSeconds", 10);
        if mutating {
            or_set(hook, "reinvocationPolicy", "Never");
        }
        matching(hook, "rules");
        if hook.has("clientConfig.service") {
            or_set(hook, "clientConfig.service.port", 443);
        }
    });
}

/// How requests are matched: by everything, with equivalent versions.
fn matching(holder: &mut Value, rules: &str) {
    or_set(holder, "matchPolicy", "Equivalent");
    or_set(holder, "namespaceSelector", json!({}));
    or_set(holder, "objectSelector", json!({}));
    each_mut(holder, rules, |rule| or_set(rule, "scope", "*"));
}

pub(super) fn admission_policy(obj: &mut Value, kind: &str) {
    let at = if kind.ends_with("Binding") {
        "spec.matchResources"
    } else {
        "spec.matchConstraints"
    };
    if !kind.ends_with("Binding") {
        or_set(obj, "spec.failurePolicy", "Fail");
    }
    if let Some(constraints) = get_mut(obj, at) {
        matching(constraints, "resourceRules");
        each_mut(constraints, "excludeResourceRules", |rule| {
            or_set(rule, "scope", "*")
        });
    }
}

pub(super) fn custom_resource_definition(obj: &mut Value) {
    let kind = obj.str_at("spec.names.kind").to_string();
    if !kind.is_empty() {
        or_set_empty(obj, "spec.names.singular", kind.to_lowercase());
        or_set_empty(obj, "spec.names.listKind", format!("{kind}List"));
    }
    or_set(obj, "spec.conversion", json!({"strategy": "None"}));
    if obj.has("spec.conversion.webhook.clientConfig.service") {
        or_set(obj, "spec.conversion.webhook.clientConfig.service.port", 443);
    }
}

pub(super) fn priority_level(obj: &mut Value) {
    if obj.has("spec.exempt") {
        or_set(obj, "spec.exempt.nominalConcurrencyShares", 0);
        or_set(obj, "spec.exempt.lendablePercent", 0);
    }
    if obj.has("spec.limited") {
        or_set(obj, "spec.limited.nominalConcurrencyShares", 30);
        or_set(obj, "spec.limited.lendablePercent", 0);
        if let Some(queuing) = get_mut(obj, "spec.limited.limitResponse.queuing") {
            for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing.int_at(field).unwrap_or(0) == 0 {
                    set(queuing, field, value);
                }
            }
        }
    }
}

pub(super) fn device_requests(obj: &mut Value, devices: &str) {
    let one = |request: &mut Value| {
        or_set_empty(request, "allocationMode", "ExactCount");
        if request.str_at("allocationMode") == "ExactCount" && request.int_at("count").unwrap_or(0) == 0 {
            set(request, "count", 1);
        }
        each_mut(request, "tolerations", |t| or_set_empty(t, "operator", "Equal"));
    };
    each_mut(obj, &format!("{devices}.requests"), |request| {
        if let Some(exactly) = get_mut(request, "exactly") {
            one(exactly);
        }
        each_mut(request, "firstAvailable", one);
    });
}
