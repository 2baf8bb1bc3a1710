//! Addresses, routes and taps, as the text of `ip -batch -`.
//!
//! `ip` and not a netlink library: like the rules, the plan is then a text that a person can read, paste and test,
//! and every host has the tool. A tap takes one call.

use std::net::Ipv4Addr;

use crate::config::NetConfig;
use crate::{GATEWAY, ROUTE_PROTOCOL, TAP_GROUP};

/// What the host itself needs: its addresses on `lo`, the way to Services, and no way for strays.
pub(crate) fn host(config: &NetConfig, node_ip_is_ours: bool) -> String {
    let mut text = String::new();
    if node_ip_is_ours {
        text += &format!("address replace {}/32 dev lo\n", config.node_ip);
    }
    // The gateway and DNS are local addresses: the kernel answers ARP for them on every tap.
    text += &format!("address replace {GATEWAY}/32 dev lo scope link\n");
    text += &format!("address replace {}/32 dev lo\n", config.cluster_dns);
    // Programs on the host reach Services with an address that Pods can answer.
    text += &format!(
        "route replace {} dev lo scope link src {} proto {ROUTE_PROTOCOL}\n",
        config.service_cidr, config.node_ip
    );
    // Packets for a Pod that is gone must not follow the default route.
    text += &format!(
        "route replace unreachable {} proto {ROUTE_PROTOCOL}\n",
        config.pod_cidr
    );
    text
}

/// The reverse of [`host`].
pub(crate) fn remove_host(config: &NetConfig, node_ip_is_ours: bool) -> String {
    let mut text = format!(
        "route delete {} dev lo proto {ROUTE_PROTOCOL}\nroute delete unreachable {} proto {ROUTE_PROTOCOL}\n\
         address delete {GATEWAY}/32 dev lo\naddress delete {}/32 dev lo\n",
        config.service_cidr, config.pod_cidr, config.cluster_dns
    );
    if node_ip_is_ours {
        text += &format!("address delete {}/32 dev lo\n", config.node_ip);
    }
    text
}

/// A Pod's tap and route. The tap comes up last, after everything that guards it.
pub(crate) fn pod(tap: &str, ip: Ipv4Addr, node_ip: Ipv4Addr) -> String {
    format!(
        "link set dev {tap} group {TAP_GROUP}\nlink set dev {tap} addrgenmode none\nlink set dev {tap} up\n\
         route replace {ip}/32 dev {tap} src {node_ip} proto {ROUTE_PROTOCOL}\n"
    )
}

/// Removing the tap removes its route.
pub(crate) fn remove_pod(tap: &str) -> String {
    format!("link delete dev {tap}\n")
}

/// A VIP becomes a local address: the kernel answers ARP for it, and local programs reach it.
pub(crate) fn vip(vip: Ipv4Addr, node_ip: Ipv4Addr) -> String {
    format!("route replace local {vip}/32 dev lo table local src {node_ip} proto {ROUTE_PROTOCOL}\n")
}

/// The reverse of [`vip`].
pub(crate) fn remove_vip(vip: Ipv4Addr) -> String {
    format!("route delete local {vip}/32 dev lo table local proto {ROUTE_PROTOCOL}\n")
}
