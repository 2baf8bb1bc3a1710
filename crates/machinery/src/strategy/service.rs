//! What an update of a Service keeps although it does not say so: addresses and node ports that were allocated for it.
//! Source: `patchAllocatedValues` in `pkg/registry/core/service/storage/alloc.go`.

use crate::walk::{At, each_mut, keep, set, unset};
use serde_json::Value;

/// Copies allocated values from the stored Service where the new one leaves them open.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    let (was, is) = (
        old.str_at("spec.type").to_string(),
        new.str_at("spec.type").to_string(),
    );
    same_addresses(new, old);
    let inside = |t: &str| matches!(t, "ClusterIP" | "NodePort" | "LoadBalancer");
    let outside = |t: &str| matches!(t, "NodePort" | "LoadBalancer");
    if inside(&was) && inside(&is) {
        for field in [
            "spec.clusterIP",
            "spec.clusterIPs",
            "spec.ipFamilies",
            "spec.ipFamilyPolicy",
        ] {
            if new.is_empty_at(field) {
                keep(new, old, field);
            }
        }
    }
    if outside(&was) && outside(&is) {
        let given: Vec<i64> = new
            .list_at("spec.ports")
            .iter()
            .filter_map(|p| p.int_at("nodePort"))
            .filter(|p| *p != 0)
            .collect();
        each_mut(new, "spec.ports", |port| {
            if port.int_at("nodePort").unwrap_or(0) != 0 {
                return;
            }
            let same = old
                .list_at("spec.ports")
                .iter()
                .find(|o| o.at("port") == port.at("port") && o.str_at("protocol") == port.str_at("protocol"));
            if let Some(number) = same.and_then(|o| o.int_at("nodePort"))
                && number != 0
                && !given.contains(&number)
            {
                set(port, "nodePort", number);
            }
        });
    }
    if was == "LoadBalancer"
        && is == "LoadBalancer"
        && new.int_at("spec.healthCheckNodePort").unwrap_or(0) == 0
    {
        keep(new, old, "spec.healthCheckNodePort");
    }
}

/// A client that knows one of the two address fields only means both (`normalizeClusterIPs`).
fn same_addresses(new: &mut Value, old: &Value) {
    let (is, was) = (new.str_at("spec.clusterIP"), old.str_at("spec.clusterIP"));
    if is == was {
        if new.is_empty_at("spec.clusterIPs") {
            keep(new, old, "spec.clusterIPs");
        }
    } else if new.at("spec.clusterIPs") == old.at("spec.clusterIPs") {
        if is.is_empty() {
            unset(new, "spec.clusterIPs");
        } else {
            let list = serde_json::json!([is]);
            set(new, "spec.clusterIPs", list);
        }
    }
}

/// The policy of traffic from inside says nothing of a name elsewhere (`defaultOnReadInternalTrafficPolicy`).
pub(super) fn drop_inside_policy(service: &mut Value) {
    if service.str_at("spec.type") == "ExternalName" {
        unset(service, "spec.internalTrafficPolicy");
    }
}

/// Whether a Service has certain fields, and which these are.
type Rule<'a> = (&'a dyn Fn(&Value) -> bool, &'a [&'a str]);

/// Takes away what the old type needed, the new one does not, and the writer has left as it was.
/// Source: `dropTypeDependentFields` in `pkg/registry/core/service/strategy.go`.
pub(super) fn drop_unneeded(new: &mut Value, old: &Value) {
    let has_address = |s: &Value| s.str_at("spec.type") != "ExternalName";
    let has_node_ports = |s: &Value| match s.str_at("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => s.at("spec.allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    };
    let is_balanced = |s: &Value| s.str_at("spec.type") == "LoadBalancer";
    let is_outside = |s: &Value| {
        matches!(s.str_at("spec.type"), "NodePort" | "LoadBalancer")
            || (s.str_at("spec.type") == "ClusterIP" && !s.list_at("spec.externalIPs").is_empty())
    };
    let is_checked = |s: &Value| is_balanced(s) && s.str_at("spec.externalTrafficPolicy") == "Local";
    let drops: [Rule<'_>; 4] = [
        (
            &has_address,
            &[
                "spec.clusterIP",
                "spec.clusterIPs",
                "spec.ipFamilies",
                "spec.ipFamilyPolicy",
            ],
        ),
        (&is_checked, &["spec.healthCheckNodePort"]),
        (
            &is_balanced,
            &["spec.allocateLoadBalancerNodePorts", "spec.loadBalancerClass"],
        ),
        (&is_outside, &["spec.externalTrafficPolicy"]),
    ];
    for (needs, fields) in drops {
        if !needs(old) || needs(new) {
            continue;
        }
        for field in fields {
            if new.at(field) == old.at(field) {
                unset(new, field);
            }
        }
    }
    let ports = |s: &Value| -> Vec<i64> {
        let ports = s.list_at("spec.ports").iter();
        ports.map(|p| p.int_at("nodePort").unwrap_or(0)).collect()
    };
    if has_node_ports(old) && !has_node_ports(new) && ports(old) == ports(new) {
        each_mut(new, "spec.ports", |port| unset(port, "nodePort"));
    }
}
