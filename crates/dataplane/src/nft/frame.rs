//! The fixed frame: declarations and base chains, and the rendering of a whole ruleset.

use super::{ARP_TABLE, Ruleset};
use crate::config::NetConfig;
use crate::{GATEWAY, TAP_GROUP};

/// A transaction that replaces whatever table of ours is there by this one, without a moment in between.
pub(crate) fn whole(config: &NetConfig, ruleset: &Ruleset) -> String {
    let mut text =
        String::from("add table inet podvisor\ndelete table inet podvisor\ntable inet podvisor {\n");
    text += &declarations();
    for name in ruleset.chains.keys() {
        // Declared before use: maps and base chains refer to them.
        text += &format!("\tchain {name} {{\n\t}}\n");
    }
    text += &base_chains(config);
    text += "}\n";
    text += &arp_table();
    text += &super::delta(
        &Ruleset {
            chains: empty_chains(ruleset),
            ..Ruleset::default()
        },
        ruleset,
    );
    text
}

/// The same chains without rules: what the declarations above have made.
fn empty_chains(ruleset: &Ruleset) -> std::collections::BTreeMap<String, Vec<String>> {
    ruleset
        .chains
        .keys()
        .map(|name| (name.clone(), Vec::new()))
        .collect()
}

fn declarations() -> String {
    let maps = [
        ("services", "ipv4_addr . inet_proto . inet_service : verdict"),
        ("nodeports", "inet_proto . inet_service : verdict"),
        ("refused", "ipv4_addr . inet_proto . inet_service : verdict"),
        ("refused_nodeports", "inet_proto . inet_service : verdict"),
        (
            "container_ports",
            "inet_proto . inet_service : ipv4_addr . inet_service",
        ),
        (
            "container_ports_at",
            "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
        ),
        ("isolated_in", "ipv4_addr : verdict"),
        ("isolated_out", "ipv4_addr : verdict"),
    ];
    let sets = [
        ("service_addresses", "ipv4_addr"),
        ("pods", "ifname . ether_addr . ipv4_addr"),
        ("hairpin", "ipv4_addr . ipv4_addr"),
        ("host_ports", "ipv4_addr . inet_proto . inet_service"),
    ];
    let mut text = String::new();
    for (name, kind) in maps {
        text += &format!("\tmap {name} {{ type {kind}; }}\n");
    }
    for (name, kind) in sets {
        text += &format!("\tset {name} {{ type {kind}; }}\n");
    }
    // Filled by packets: each Pod that opens something.
    text + "\tset flows { type ipv4_addr; size 65535; flags dynamic; }\n"
}

/// ARP passes no hook of the other table. A Pod that asks in the name of ever other addresses would fill the neighbour
/// table, which all devices of the host share.
fn arp_table() -> String {
    format!(
        "\
add table {ARP_TABLE}
delete table {ARP_TABLE}
table {ARP_TABLE} {{
\tset pods {{ type ifname . ether_addr . ipv4_addr; }}
\tchain anti_spoof {{
\t\ttype filter hook input priority filter; policy accept;
\t\tiifgroup {TAP_GROUP} iifname . arp saddr ether . arp saddr ip != @pods drop
\t}}
}}
"
    )
}

fn base_chains(config: &NetConfig) -> String {
    let (pods, flows) = (config.pod_cidr, config.flows_per_pod);
    format!(
        "\
\tchain refuse {{
\t\tmeta l4proto tcp reject with tcp reset
\t\treject
\t}}
\tchain anti_spoof {{
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifgroup {TAP_GROUP} jump from_tap
\t}}
\tchain from_tap {{
\t\tmeta nfproto != ipv4 drop
\t\tiifname . ether saddr . ip saddr != @pods drop
\t}}
\tchain flow_limit {{
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tiifgroup {TAP_GROUP} ct state new add @flows {{ ip saddr ct count over {flows} }} drop
\t}}
\tchain dispatch {{
\t\tip daddr . meta l4proto . th dport vmap @services
\t\tip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @nodeports
\t\tip daddr 127.0.0.0/8 return
\t\tip daddr . meta l4proto . th dport @host_ports return
\t\tmeta l4proto {{ tcp, udp, sctp }} fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @container_ports_at
\t\tmeta l4proto {{ tcp, udp, sctp }} fib daddr type local dnat ip to meta l4proto . th dport map @container_ports
\t}}
\tchain nat_prerouting {{
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tjump dispatch
\t}}
\tchain nat_output {{
\t\ttype nat hook output priority -100; policy accept;
\t\tjump dispatch
\t}}
\tchain nat_postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr . ip daddr @hairpin snat ip to {GATEWAY}
\t\tct status dnat ip saddr != {pods} oifgroup != {TAP_GROUP} oifname != \"lo\" masquerade
\t\tip saddr {pods} ip daddr != {pods} oifgroup != {TAP_GROUP} oifname != \"lo\" masquerade
\t}}
\tchain check_service {{
\t\tip daddr . meta l4proto . th dport @host_ports return
\t\tip daddr . meta l4proto . th dport vmap @refused
\t\tip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @refused_nodeports
\t\tip daddr @service_addresses meta l4proto {{ tcp, udp, sctp }} goto refuse
\t}}
\tchain may_in {{
\t\toifgroup {TAP_GROUP} ip daddr vmap @isolated_in
\t\taccept
\t}}
\tchain input {{
\t\ttype filter hook input priority filter; policy accept;
\t\tct state established,related accept
\t\tjump check_service
\t\tiifgroup {TAP_GROUP} jump pod_to_host
\t}}
\tchain output {{
\t\ttype filter hook output priority filter; policy accept;
\t\toifgroup {TAP_GROUP} icmp type redirect drop
\t\tct state established,related accept
\t\tjump check_service
\t}}
\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
\t\tct state established,related accept
\t\tjump check_service
\t\tiifgroup {TAP_GROUP} jump pod_egress
\t\toifgroup {TAP_GROUP} jump pod_ingress
\t\tiifgroup {TAP_GROUP} ip saddr vmap @isolated_out
\t\tgoto may_in
\t}}
\tchain pod_to_host {{
\t\tip daddr . meta l4proto . th dport @host_ports accept
\t\ticmp type echo-request accept
\t\treject with icmpx admin-prohibited
\t}}
\tchain pod_egress {{
\t\tct state invalid drop
\t\tip daddr 169.254.0.0/16 drop
\t}}
\tchain pod_ingress {{
\t\tct state invalid drop
\t}}
"
    )
}
