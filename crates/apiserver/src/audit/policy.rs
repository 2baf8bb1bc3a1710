//! The audit policy: the first rule that fits a request says how much of it is told.

use crate::request::Attributes;
use crate::user::User;
use serde_json::Value;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what, and what came of it.
    Metadata,
    /// The body of the request besides.
    Request,
    /// The body of the answer besides.
    RequestResponse,
}

impl Level {
    fn parse(text: &str) -> Result<Level, String> {
        Ok(match text {
            "None" => Level::None,
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            other => {
                return Err(format!(
                    "level {other:?} is none of None, Metadata, Request, RequestResponse"
                ));
            }
        })
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// What the policy says of a request.
pub(super) struct Ruling {
    pub level: Level,
    /// Stages that are not told.
    pub omitted: Vec<String>,
    /// Bodies keep their managed fields.
    pub managed_fields: bool,
}

struct Rule {
    level: Level,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    namespaces: Vec<String>,
    /// Group, resources, names.
    resources: Vec<(String, Vec<String>, Vec<String>)>,
    urls: Vec<String>,
    omitted: Vec<String>,
    omit_managed_fields: Option<bool>,
}

/// A policy.
pub(super) struct Policy {
    rules: Vec<Rule>,
    omitted: Vec<String>,
    omit_managed_fields: bool,
}

fn strings(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(String::from))
        .collect()
}

impl Policy {
    pub(super) fn parse(text: &str) -> Result<Policy, String> {
        let (policy, _) = machinery::parse_yaml_checked(text.as_bytes()).map_err(|s| s.message)?;
        if policy["kind"] != "Policy" || policy["apiVersion"] != "audit.k8s.io/v1" {
            return Err("it must be of kind Policy and apiVersion audit.k8s.io/v1".into());
        }
        let rules = policy["rules"]
            .as_array()
            .ok_or("rules: at least one is required")?;
        let rules: Result<Vec<Rule>, String> = rules
            .iter()
            .enumerate()
            .map(|(i, rule)| {
                let level = rule["level"].as_str().unwrap_or("");
                let resources = rule["resources"].as_array().into_iter().flatten();
                Ok(Rule {
                    level: Level::parse(level).map_err(|why| format!("rules[{i}].level: {why}"))?,
                    users: strings(rule, "users"),
                    groups: strings(rule, "userGroups"),
                    verbs: strings(rule, "verbs"),
                    namespaces: strings(rule, "namespaces"),
                    resources: resources
                        .map(|r| {
                            let group = r["group"].as_str().unwrap_or("").to_string();
                            (group, strings(r, "resources"), strings(r, "resourceNames"))
                        })
                        .collect(),
                    urls: strings(rule, "nonResourceURLs"),
                    omitted: strings(rule, "omitStages"),
                    omit_managed_fields: rule["omitManagedFields"].as_bool(),
                })
            })
            .collect();
        Ok(Policy {
            rules: rules?,
            omitted: strings(&policy, "omitStages"),
            omit_managed_fields: policy["omitManagedFields"] == true,
        })
    }

    pub(super) fn rule(&self, attributes: &Attributes, user: &User) -> Ruling {
        let rule = self.rules.iter().find(|rule| rule.matches(attributes, user));
        Ruling {
            level: rule.map_or(Level::None, |r| r.level),
            omitted: rule
                .map(|r| r.omitted.clone())
                .into_iter()
                .flatten()
                .chain(self.omitted.clone())
                .collect(),
            managed_fields: !rule
                .and_then(|r| r.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn matches(&self, a: &Attributes, user: &User) -> bool {
        let has = |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|item| item == wanted);
        let grouped = self.groups.is_empty() || self.groups.iter().any(|g| user.is_in(g));
        if !has(&self.users, &user.name) || !grouped || !has(&self.verbs, &a.verb) {
            return false;
        }
        match a.is_resource {
            true if !self.urls.is_empty() && self.resources.is_empty() => false,
            true => has(&self.namespaces, &a.namespace) && (self.resources.is_empty() || self.on_resource(a)),
            false if self.urls.is_empty() => self.resources.is_empty() && self.namespaces.is_empty(),
            false => self.urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => a.path.starts_with(prefix),
                None => a.path == *url,
            }),
        }
    }

    fn on_resource(&self, a: &Attributes) -> bool {
        let combined = match a.subresource.as_str() {
            "" => a.resource.clone(),
            sub => format!("{}/{sub}", a.resource),
        };
        self.resources.iter().any(|(group, resources, names)| {
            let named = names.is_empty() || names.contains(&a.name);
            let listed = resources.iter().any(|r| {
                r == "*"
                    || *r == combined
                    || r.strip_prefix("*/").is_some_and(|sub| sub == a.subresource)
                    || r.strip_suffix("/*")
                        .is_some_and(|resource| resource == a.resource)
            });
            (*group == a.group || group == "*") && (resources.is_empty() || (named && listed))
        })
    }
}
