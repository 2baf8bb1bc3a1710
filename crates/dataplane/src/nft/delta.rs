//! The difference of two rulesets as one transaction.
//!
//! Order matters inside it: sets and chains are made before a rule names them, and removed after the last verdict that
//! did. A changed map element is deleted and added again, which readers never see: the transaction is atomic.

use std::collections::BTreeSet;

use super::{ARP_TABLE, PODS, Ruleset};

const TABLE: &str = "inet podvisor";

/// The text that turns `old` into `new`; empty when they are equal.
pub(crate) fn delta(old: &Ruleset, new: &Ruleset) -> String {
    let mut text = String::new();
    for (name, seconds) in &new.clients {
        if !old.clients.contains_key(name) {
            text += &format!(
                "add set {TABLE} {name} {{ type ipv4_addr; size 65535; flags dynamic, timeout; timeout {seconds}s; }}\n"
            );
        }
    }
    for (name, (kind, members)) in &new.addresses {
        let before = old.addresses.get(name).map(|(_, members)| members);
        if before.is_none() {
            text += &format!("add set {TABLE} {name} {{ type {kind}; }}\n");
        }
        let none = BTreeSet::new();
        let before = before.unwrap_or(&none);
        for (verb, changed) in [("delete", before - members), ("add", members - before)] {
            if !changed.is_empty() {
                let changed: Vec<String> = changed.into_iter().collect();
                text += &format!("{verb} element {TABLE} {name} {{ {} }}\n", changed.join(", "));
            }
        }
    }
    for name in new.chains.keys().filter(|name| !old.chains.contains_key(*name)) {
        text += &format!("add chain {TABLE} {name}\n");
    }
    for (name, rules) in &new.chains {
        let before = old.chains.get(name);
        if before == Some(rules) {
            continue;
        }
        if before.is_some_and(|rules| !rules.is_empty()) {
            text += &format!("flush chain {TABLE} {name}\n");
        }
        for rule in rules {
            text += &format!("add rule {TABLE} {name} {rule}\n");
        }
    }
    for ((set, key), value) in &old.elements {
        if new.elements.get(&(*set, key.clone())) != Some(value) {
            for table in tables(set) {
                text += &format!("delete element {table} {set} {{ {key} }}\n");
            }
        }
    }
    for ((set, key), value) in &new.elements {
        if old.elements.get(&(*set, key.clone())) != Some(value) {
            let value = if value.is_empty() {
                String::new()
            } else {
                format!(" : {value}")
            };
            for table in tables(set) {
                text += &format!("add element {table} {set} {{ {key}{value} }}\n");
            }
        }
    }
    // All are emptied before any goes: one may lead to another.
    let gone: Vec<&String> = old
        .chains
        .keys()
        .filter(|name| !new.chains.contains_key(*name))
        .collect();
    for verb in ["flush", "delete"] {
        for name in &gone {
            text += &format!("{verb} chain {TABLE} {name}\n");
        }
    }
    let clients = old.clients.keys().filter(|name| !new.clients.contains_key(*name));
    let addresses = old
        .addresses
        .keys()
        .filter(|name| !new.addresses.contains_key(*name));
    for name in clients.chain(addresses) {
        text += &format!("delete set {TABLE} {name}\n");
    }
    text
}

/// Where a set is.
fn tables(set: &str) -> &'static [&'static str] {
    if set == PODS {
        &[TABLE, ARP_TABLE]
    } else {
        &[TABLE]
    }
}
