//! Impersonation: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-KEY` headers, each allowed by the verb `impersonate`.

use super::service_account;
use crate::authorize::Authorizer;
use crate::authz;
use crate::request::{Attributes, percent_decode};
use crate::user::{ANONYMOUS, GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, User};
use http::HeaderMap;
use kinds::status::Status;
use std::collections::BTreeMap;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// The user that `user` acts as: itself without such headers, refused without the right to.
pub async fn impersonate(
    user: User,
    headers: &HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<User, Status> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let name = text(USER).to_string();
    let uid = text(UID).to_string();
    let mut groups: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_string)
        .collect();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let value = value.to_str().unwrap_or_default().to_string();
            extra
                .entry(percent_decode(key).to_lowercase())
                .or_default()
                .push(value);
        }
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(nameless(&groups, &extra, &uid));
    }

    let mut questions = Vec::new();
    let account = service_account::split_user_name(&name);
    match account {
        Some((namespace, account)) => questions.push(question("", "serviceaccounts", "", namespace, account)),
        None => questions.push(question("", "users", "", "", &name)),
    }
    questions.extend(groups.iter().map(|g| question("", "groups", "", "", g)));
    if !uid.is_empty() {
        questions.push(question("authentication.k8s.io", "uids", "", "", &uid));
    }
    for (key, values) in &extra {
        questions.extend(
            values
                .iter()
                .map(|v| question("authentication.k8s.io", "userextras", key, "", v)),
        );
    }
    for attributes in &questions {
        let decision = authorizer.authorize(&user, attributes).await;
        if !decision.is_allowed() {
            return Err(authz::forbidden(&user, attributes, decision.reason()));
        }
    }

    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = service_account::groups(namespace);
    }
    let has = |group: &str| groups.iter().any(|g| g == group);
    if name == ANONYMOUS {
        if !has(GROUP_UNAUTHENTICATED) {
            groups.push(GROUP_UNAUTHENTICATED.to_string());
        }
    } else if !has(GROUP_AUTHENTICATED) && !has(GROUP_UNAUTHENTICATED) {
        groups.push(GROUP_AUTHENTICATED.to_string());
    }
    Ok(User {
        name,
        uid,
        groups,
        extra,
    })
}

/// Refuses to act as somebody without a name, in upstream's words: what was asked for as Go prints it.
fn nameless(groups: &[String], extra: &BTreeMap<String, Vec<String>>, uid: &str) -> Status {
    const VERSION: &str = "authentication.k8s.io/v1";
    let groups = groups.iter().map(|group| format!("{{Group  {group}    }}"));
    let extra = extra.iter().flat_map(|(key, values)| {
        let asked = values
            .iter()
            .map(move |v| format!("{{UserExtra  {v}  {VERSION}  {key}}}"));
        asked.collect::<Vec<_>>()
    });
    let uid = (!uid.is_empty()).then(|| format!("{{UID  {uid}  {VERSION}  }}"));
    let asked: Vec<String> = groups.chain(extra).chain(uid).collect();
    let mut status = Status::bad_request(format!(
        "requested [{}] without impersonating a user",
        asked.join(" ")
    ));
    status.details = None;
    status
}

fn question(group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> Attributes {
    Attributes {
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: namespace.into(),
        name: name.into(),
        is_resource: true,
        ..Attributes::default()
    }
}
