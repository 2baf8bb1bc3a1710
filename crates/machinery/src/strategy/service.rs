//! What an update of a Service keeps although it does not say so: addresses and node ports that were allocated for it.
//! Source: `patchAllocatedValues` in `pkg/registry/core/service/storage/alloc.go`.

use crate::walk::{At, each_mut, keep, set, unset};
use serde_json::Value;
use std::collections::BTreeSet;

/// Copies allocated values from the stored Service where the new one leaves them open.
pub(super) fn keep_allocated(new: &mut Value, old: &Value) {
    let (was, is) = (
        old.str_at("spec.type").to_string(),
        new.str_at("spec.type").to_string(),
    );
    // A type that nobody knows is refused later.
    let inside = |t: &str| t != "ExternalName";
    if inside(&was) && inside(&is) {
        for field in [
            "spec.clusterIP",
            "spec.clusterIPs",
            "spec.ipFamilies",
            "spec.ipFamilyPolicy",
        ] {
            let missing = match field {
                "spec.ipFamilyPolicy" => !new.has(field),
                _ => new.is_empty_at(field),
            };
            if missing {
                keep(new, old, field);
            }
        }
    }
    if is_given_ports(old) && is_given_ports(new) {
        let shared = &node_ports(old) & &node_ports(new);
        each_mut(new, "spec.ports", |port| {
            if port.int_at("nodePort").unwrap_or(0) != 0 {
                return;
            }
            // A port is known by its name, whatever else of it changes.
            let mut named = old.list_at("spec.ports").iter().rev();
            let same = named.find(|o| o.str_at("name") == port.str_at("name"));
            if let Some(number) = same.and_then(|o| o.int_at("nodePort"))
                && number != 0
                && !shared.contains(&number)
            {
                set(port, "nodePort", number);
            }
        });
    }
    if is_checked(old) && is_checked(new) && new.int_at("spec.healthCheckNodePort").unwrap_or(0) == 0 {
        keep(new, old, "spec.healthCheckNodePort");
    }
    same_addresses(new, old);
}

/// Whether a Service gets node ports that it does not ask for.
fn is_given_ports(service: &Value) -> bool {
    match service.str_at("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => service.at("spec.allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    }
}

/// Whether load balancers ask the nodes of a Service which of them have its Pods.
fn is_checked(service: &Value) -> bool {
    service.str_at("spec.type") == "LoadBalancer" && service.str_at("spec.externalTrafficPolicy") == "Local"
}

fn node_ports(service: &Value) -> BTreeSet<i64> {
    let ports = service.list_at("spec.ports").iter();
    ports
        .filter_map(|p| p.int_at("nodePort"))
        .filter(|number| *number != 0)
        .collect()
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
    // One that is none is left to be refused.
    let known = matches!(service.str_at("spec.internalTrafficPolicy"), "Cluster" | "Local");
    if service.str_at("spec.type") == "ExternalName" && known {
        unset(service, "spec.internalTrafficPolicy");
    }
}

/// Whether a Service has certain fields, and which these are.
type Rule<'a> = (&'a dyn Fn(&Value) -> bool, &'a [&'a str]);

/// Takes away what the old type needed, the new one does not, and the writer has left as it was.
/// Source: `dropTypeDependentFields` in `pkg/registry/core/service/strategy.go`.
pub(super) fn drop_unneeded(new: &mut Value, old: &Value) {
    let has_address = |s: &Value| s.str_at("spec.type") != "ExternalName";
    let has_node_ports = |s: &Value| matches!(s.str_at("spec.type"), "NodePort" | "LoadBalancer");
    let is_balanced = |s: &Value| s.str_at("spec.type") == "LoadBalancer";
    let is_outside = |s: &Value| {
        matches!(s.str_at("spec.type"), "NodePort" | "LoadBalancer")
            || (s.str_at("spec.type") == "ClusterIP" && !s.list_at("spec.externalIPs").is_empty())
    };
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
    if has_node_ports(old) && !has_node_ports(new) && node_ports(old).is_superset(&node_ports(new)) {
        each_mut(new, "spec.ports", |port| unset(port, "nodePort"));
    }
    // What balanced it is on its way out; nobody need know of that.
    if !is_balanced(new) {
        set(new, "status.loadBalancer", serde_json::json!({}));
    }
}
