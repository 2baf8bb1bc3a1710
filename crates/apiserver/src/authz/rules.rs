//! Policy rules of RBAC: what one says, whether it allows a request, whether some cover another.

use crate::request::Attributes;
use serde_json::Value;
use std::collections::BTreeMap;

/// One rule of a Role or ClusterRole.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Rule {
    /// API groups, `*` for all.
    pub api_groups: Vec<String>,
    /// Resources; `*` for all, `pods/log` and `*/scale` for subresources.
    pub resources: Vec<String>,
    /// Paths, `*` at the end for any rest; only in ClusterRoles.
    pub non_resource_urls: Vec<String>,
    /// Names; empty for all.
    pub resource_names: Vec<String>,
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
}

const ALL: &str = "*";

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|v| v == ALL || v == wanted)
}

impl Rule {
    /// Reads a rule from an object's `rules`.
    pub fn parse(value: &Value) -> Rule {
        let list = |key: &str| -> Vec<String> {
            let items = value[key].as_array().into_iter().flatten();
            items.filter_map(|v| v.as_str().map(str::to_string)).collect()
        };
        Rule {
            api_groups: list("apiGroups"),
            resources: list("resources"),
            non_resource_urls: list("nonResourceURLs"),
            resource_names: list("resourceNames"),
            verbs: list("verbs"),
        }
    }

    /// Reads the `rules` of a Role or ClusterRole.
    pub fn parse_all(role: &Value) -> Vec<Rule> {
        role["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Rule::parse)
            .collect()
    }

    /// Whether this rule alone allows the request.
    pub fn allows(&self, a: &Attributes) -> bool {
        if !has(&self.verbs, &a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.allows_path(&a.path);
        }
        has(&self.api_groups, &a.group)
            && self.allows_resource(&a.resource, &a.subresource)
            && (self.resource_names.is_empty() || self.resource_names.contains(&a.name))
    }

    /// A review may name both in one word, `pods/log`, which counts as much.
    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|r| {
            if r == ALL {
                return true;
            }
            if subresource.is_empty() {
                return r == resource;
            }
            let of = |main: &str| {
                r.strip_prefix(main).and_then(|rest| rest.strip_prefix('/')) == Some(subresource)
            };
            of(ALL) || of(resource)
        })
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls
            .iter()
            .any(|url| match url.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => url == path,
            })
    }

    /// The rule split into rules of one group, resource, name and verb each: what covering is decided on.
    fn atoms(&self) -> Vec<Rule> {
        let one = |s: &String| vec![s.clone()];
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let atom = Rule {
                        api_groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                        continue;
                    }
                    atoms.extend(self.resource_names.iter().map(|name| Rule {
                        resource_names: one(name),
                        ..atom.clone()
                    }));
                }
            }
            atoms.extend(self.non_resource_urls.iter().map(|url| Rule {
                non_resource_urls: one(url),
                verbs: one(verb),
                ..Rule::default()
            }));
        }
        atoms
    }

    /// Whether this rule grants all of `atom` (a rule with at most one entry in each list).
    fn covers(&self, atom: &Rule) -> bool {
        let all = |mine: &[String], theirs: &[String]| theirs.iter().all(|t| has(mine, t));
        if !all(&self.verbs, &atom.verbs) {
            return false;
        }
        if !atom.non_resource_urls.is_empty() {
            return atom.non_resource_urls.iter().all(|url| self.allows_path(url));
        }
        let names = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom
                    .resource_names
                    .iter()
                    .all(|n| self.resource_names.contains(n)));
        names && all(&self.api_groups, &atom.api_groups) && self.covers_resources(&atom.resources)
    }

    fn covers_resources(&self, wanted: &[String]) -> bool {
        wanted.iter().all(|w| {
            if has(&self.resources, w) {
                return true;
            }
            let sub = w.split_once('/').map(|(_, sub)| format!("*/{sub}"));
            sub.is_some_and(|sub| self.resources.contains(&sub))
        })
    }

    /// The form in which upstream names a rule in messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = parts
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted(list)))
            .collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", items.join(" "))
}

/// The parts of `wanted` that `owned` does not grant, merged into as few rules as they were; empty when all is covered.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !owned.iter().any(|rule| rule.covers(atom)))
        .collect();
    // Atoms of resources that differ in the verb only become one rule again.
    let mut merged: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    let (paths, missing): (Vec<Rule>, Vec<Rule>) = missing
        .into_iter()
        .partition(|atom| !atom.non_resource_urls.is_empty());
    for mut atom in missing {
        let verbs = std::mem::take(&mut atom.verbs);
        let known = merged.entry(atom).or_default();
        known.extend(
            verbs
                .into_iter()
                .filter(|v| !known.contains(v))
                .collect::<Vec<_>>(),
        );
    }
    merged
        .into_iter()
        .map(|(rule, verbs)| Rule { verbs, ..rule })
        .chain(paths)
        .collect()
}
