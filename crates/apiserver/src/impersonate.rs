//! Impersonation: a user who may do so acts as another (`kubectl --as`), with exactly the other's rights.

use crate::request::Attributes;
use crate::server::ApiServer;
use crate::user::{ANONYMOUS, GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, User};
use kinds::status::Status;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user a request acts as: the authenticated one, or another when headers say so and RBAC allows it.
pub async fn apply(server: &ApiServer, user: User, head: &http::request::Parts) -> Result<User, Status> {
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_string();
    let groups: Vec<String> =
        head.headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok().map(String::from)).collect();
    let (name, uid) = (text(USER), text(UID));
    let extra: Vec<(String, String)> = head
        .headers
        .iter()
        .filter_map(|(k, v)| {
            let key = crate::request::percent_decode(k.as_str().strip_prefix(EXTRA)?);
            Some((key, v.to_str().ok()?.to_string()))
        })
        .collect();
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal("requested to impersonate without impersonating a user"));
    }
    let mut asked: Vec<(&str, &str, String, String)> = Vec::new();
    match name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':')) {
        Some((ns, sa)) => asked.push(("", "serviceaccounts", ns.to_string(), sa.to_string())),
        None => asked.push(("", "users", String::new(), name.clone())),
    }
    asked.extend(groups.iter().map(|g| ("", "groups", String::new(), g.clone())));
    if !uid.is_empty() {
        asked.push(("authentication.k8s.io", "uids", String::new(), uid.clone()));
    }
    for (group, resource, namespace, object) in asked {
        let attributes = Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace,
            name: object,
            is_resource: true,
            ..Attributes::default()
        };
        server.authorized(&user, &attributes).await?;
    }
    let mut other = User { name: name.clone(), uid, groups, ..User::default() };
    for (key, value) in extra {
        let attributes = Attributes {
            verb: "impersonate".into(),
            group: "authentication.k8s.io".into(),
            version: "v1".into(),
            resource: "userextras".into(),
            subresource: key.clone(),
            name: value.clone(),
            is_resource: true,
            ..Attributes::default()
        };
        server.authorized(&user, &attributes).await?;
        other.extra.entry(key).or_default().push(value);
    }
    if let Some((namespace, _)) = name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':'))
        && other.groups.is_empty()
    {
        other.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
    }
    let everyone = if name == ANONYMOUS { GROUP_UNAUTHENTICATED } else { GROUP_AUTHENTICATED };
    if !other.is_in(everyone) {
        other.groups.push(everyone.into());
    }
    Ok(other)
}
