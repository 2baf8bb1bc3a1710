//! Who the users are and where they may go: read from the API objects of `podvisor.io`, behind a trait.
//!
//! [`Directory`] is what sign-on needs to know; [`ApiDirectory`] answers from `User`, `Group` and
//! `SupervisorNamespace` objects and keeps password hashes in Secrets of the namespace `podvisor-system`, out of reach
//! of everyone who may merely list users. Further directories (OpenID, LDAP) implement the same trait.
//!
//! User names are compared in lower case, as people type them; groups keep their spelling.

use crate::passwords::{self, PasswordError};
use crate::{ADMINISTRATORS, LOCAL_DOMAIN, SYSTEM_NAMESPACE};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The field manager of what this crate writes.
pub(crate) const MANAGER: &str = "podvisor-identity";
/// The key of a password Secret that holds the hash.
const HASH_KEY: &str = "hash";

/// The directory could not answer.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The API server refused or could not be reached.
    #[error("cannot {action}: {source}")]
    Api {
        /// What was tried.
        action: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The password cannot be used.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The user exists already.
    #[error("user {0} exists already: set its password with `podvisor user set-password {0}`")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user {0}: `podvisor user list` shows who is there")]
    Unknown(String),
    /// Not a user name.
    #[error("{0:?} is not a user name: expected NAME@DOMAIN in letters, digits, '-', '_' and '.'")]
    Name(String),
}

pub(crate) fn api_error(action: impl Into<String>) -> impl FnOnce(kube::Error) -> DirectoryError {
    let action = action.into();
    move |source| DirectoryError::Api {
        action,
        source: Box::new(source),
    }
}

/// What sign-on asks about users.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The password hash (PHC) of a user; `None` for unknown users and users without password.
    async fn password_hash(&self, user: &str) -> Result<Option<String>, DirectoryError>;
    /// The groups of a user, as `Group@domain`, sorted.
    async fn groups(&self, user: &str) -> Result<Vec<String>, DirectoryError>;
    /// The namespaces a user may use, sorted.
    async fn namespaces(&self, user: &str, groups: &[String]) -> Result<Vec<String>, DirectoryError>;
}

/// `alice` and `Alice@Podvisor.Local` both mean `alice@podvisor.local`; errors when it can be no user's name.
pub fn normalize(user: &str) -> Result<String, DirectoryError> {
    let lower = user.trim().to_lowercase();
    let full = match lower.rsplit_once('@') {
        Some(_) => lower,
        None => format!("{lower}@{LOCAL_DOMAIN}"),
    };
    let good = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    match full.rsplit_once('@') {
        Some((name, domain)) if good(name) && good(domain) && full.len() <= 200 => Ok(full),
        _ => Err(DirectoryError::Name(user.to_string())),
    }
}

/// A user as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// name@domain.
    pub name: String,
    /// The name for people, when one is given.
    pub display_name: Option<String>,
}

/// The directory kept in the API server.
#[derive(Clone)]
pub struct ApiDirectory {
    client: Client,
}

impl ApiDirectory {
    /// Reads and writes through `client`, which must be allowed to: users, groups, supervisornamespaces, and secrets in `podvisor-system`.
    pub fn new(client: Client) -> ApiDirectory {
        ApiDirectory { client }
    }

    fn api(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("podvisor.io", "v1alpha1", kind);
        Api::all_with(
            self.client.clone(),
            &ApiResource::from_gvk_with_plural(&gvk, plural),
        )
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    async fn list(&self, kind: &str, plural: &str) -> Result<Vec<DynamicObject>, DirectoryError> {
        let list = self.api(kind, plural).list(&ListParams::default()).await;
        Ok(list.map_err(api_error(format!("list {plural}")))?.items)
    }

    /// Makes a user, or leaves the existing one as it is, and sets its password when one is given.
    pub async fn ensure_user(
        &self,
        user: &str,
        display_name: &str,
        password: Option<&str>,
    ) -> Result<(), DirectoryError> {
        let name = normalize(user)?;
        if self.user(&name).await?.is_none() {
            let object: DynamicObject = typed(json!({
                "apiVersion": "podvisor.io/v1alpha1",
                "kind": "User",
                "metadata": { "name": name },
                "spec": { "displayName": display_name, "passwordSecret": secret_name(&name) },
            }))?;
            match self
                .api("User", "users")
                .create(&Default::default(), &object)
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => drop(other.map_err(api_error(format!("create user {name}")))?),
            }
        }
        match password {
            Some(password) => self.set_password(&name, password).await,
            None => Ok(()),
        }
    }

    /// Makes a user who can sign in; refuses when there is one of this name.
    pub async fn create_user(
        &self,
        user: &str,
        display_name: Option<&str>,
        password: &str,
    ) -> Result<(), DirectoryError> {
        let name = normalize(user)?;
        if self.user(&name).await?.is_some() {
            return Err(DirectoryError::Exists(name));
        }
        self.ensure_user(&name, display_name.unwrap_or_default(), Some(password))
            .await
    }

    /// Removes a user with its password and its memberships; tokens already issued stay valid until they end.
    pub async fn delete_user(&self, user: &str) -> Result<(), DirectoryError> {
        let name = normalize(user)?;
        let secret = self.secret_of(&name).await?;
        let gone = |result: Result<_, kube::Error>| match result {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            other => other.map(|()| true),
        };
        let params = DeleteParams::default();
        // The password first: a user left without one cannot sign in, whatever fails after this.
        let result = self.secrets().delete(&secret, &params).await.map(drop);
        gone(result).map_err(api_error(format!("delete the password of {name}")))?;
        for group in self.list("Group", "groups").await? {
            let members: Vec<String> = strings(&group.data["spec"]["members"]).collect();
            let rest: Vec<&String> = members
                .iter()
                .filter(|m| !m.eq_ignore_ascii_case(&name))
                .collect();
            if let Some(group) = group
                .metadata
                .name
                .as_deref()
                .filter(|_| rest.len() < members.len())
            {
                let patch = Patch::Merge(json!({ "spec": { "members": rest } }));
                let result = self
                    .api("Group", "groups")
                    .patch(group, &PatchParams::default(), &patch)
                    .await;
                result.map_err(api_error(format!("take {name} out of {group}")))?;
            }
        }
        let result = self.api("User", "users").delete(&name, &params).await.map(drop);
        match gone(result).map_err(api_error(format!("delete user {name}")))? {
            true => Ok(()),
            false => Err(DirectoryError::Unknown(name)),
        }
    }

    /// All users, sorted by name.
    pub async fn list_users(&self) -> Result<Vec<UserEntry>, DirectoryError> {
        let mut users: Vec<UserEntry> = self
            .list("User", "users")
            .await?
            .into_iter()
            .filter_map(|u| {
                let shown = u.data["spec"]["displayName"].as_str().filter(|n| !n.is_empty());
                Some(UserEntry {
                    display_name: shown.map(str::to_string),
                    name: u.metadata.name?,
                })
            })
            .collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    /// Sets the password of a user; tokens already issued stay valid until they end.
    pub async fn set_password(&self, user: &str, password: &str) -> Result<(), DirectoryError> {
        let name = normalize(user)?;
        if self.user(&name).await?.is_none() {
            return Err(DirectoryError::Unknown(name));
        }
        let hash = passwords::hash_aside(password.to_string()).await?;
        self.store_hash(&name, &hash).await
    }

    /// Keeps the hash of a password of a user who exists; `name` is in its normal form.
    pub(crate) async fn store_hash(&self, name: &str, hash: &str) -> Result<(), DirectoryError> {
        let secret_name = self.secret_of(name).await?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": secret_name,
                "annotations": { "podvisor.io/user": name },
            },
            "type": "podvisor.io/password",
            "data": { HASH_KEY: STANDARD.encode(hash) },
        });
        let params = PatchParams::apply(MANAGER).force();
        self.secrets()
            .patch(&secret_name, &params, &Patch::Apply(&secret))
            .await
            .map_err(api_error(format!("store the password of {name}")))?;
        Ok(())
    }

    /// Makes a group with `members`, or adds them to the existing one.
    pub async fn ensure_group(&self, group: &str, members: &[&str]) -> Result<(), DirectoryError> {
        let groups = self.api("Group", "groups");
        let existing = groups
            .get_opt(group)
            .await
            .map_err(api_error(format!("read group {group}")))?;
        let mut all: BTreeSet<String> = members.iter().map(|m| m.to_string()).collect();
        if let Some(existing) = &existing {
            all.extend(strings(&existing.data["spec"]["members"]));
            if all.len() == strings(&existing.data["spec"]["members"]).count() {
                return Ok(());
            }
        }
        let spec = json!({ "spec": { "members": all } });
        let result = match existing {
            Some(_) => {
                groups
                    .patch(group, &PatchParams::default(), &Patch::Merge(&spec))
                    .await
            }
            None => {
                let object: DynamicObject = typed(json!({
                    "apiVersion": "podvisor.io/v1alpha1",
                    "kind": "Group",
                    "metadata": { "name": group },
                    "spec": spec["spec"],
                }))?;
                groups.create(&Default::default(), &object).await
            }
        };
        result.map_err(api_error(format!("write group {group}")))?;
        Ok(())
    }

    async fn user(&self, name: &str) -> Result<Option<DynamicObject>, DirectoryError> {
        let found = self.api("User", "users").get_opt(name).await;
        found.map_err(api_error(format!("read user {name}")))
    }

    async fn secret_of(&self, user: &str) -> Result<String, DirectoryError> {
        let object = self.user(user).await?;
        let named = object
            .as_ref()
            .and_then(|o| o.data["spec"]["passwordSecret"].as_str());
        Ok(named.map_or_else(|| secret_name(user), str::to_string))
    }
}

#[async_trait]
impl Directory for ApiDirectory {
    async fn password_hash(&self, user: &str) -> Result<Option<String>, DirectoryError> {
        let object = self.api("User", "users").get_opt(user).await;
        let Some(object) = object.map_err(api_error(format!("read user {user}")))? else {
            return Ok(None);
        };
        let secret = object.data["spec"]["passwordSecret"]
            .as_str()
            .map_or_else(|| secret_name(user), str::to_string);
        let secret = self.secrets().get_opt(&secret).await;
        let secret = secret.map_err(api_error(format!("read the password of {user}")))?;
        Ok(secret
            .and_then(|s| s.data)
            .and_then(|data| String::from_utf8(data.get(HASH_KEY)?.0.clone()).ok()))
    }

    async fn groups(&self, user: &str) -> Result<Vec<String>, DirectoryError> {
        let object = self.api("User", "users").get_opt(user).await;
        let own = object.map_err(api_error(format!("read user {user}")))?;
        let own: Vec<String> = own
            .iter()
            .flat_map(|o| strings(&o.data["spec"]["groups"]))
            .collect();
        let groups: Vec<(String, Vec<String>)> = self
            .list("Group", "groups")
            .await?
            .into_iter()
            .filter_map(|g| {
                let members = strings(&g.data["spec"]["members"]).collect();
                Some((g.metadata.name?, members))
            })
            .collect();
        Ok(closure(user, own, &groups))
    }

    async fn namespaces(&self, user: &str, groups: &[String]) -> Result<Vec<String>, DirectoryError> {
        let all = self.list("SupervisorNamespace", "supervisornamespaces").await?;
        let mut names: Vec<String> = all
            .into_iter()
            .filter(|n| n.metadata.deletion_timestamp.is_none())
            .filter(|n| may_use(&n.data["spec"]["permissions"], user, groups))
            .filter_map(|n| n.metadata.name)
            .collect();
        names.sort();
        Ok(names)
    }
}

/// Groups of `user`: its own, and all that have it or one of those as a member.
fn closure(user: &str, own: Vec<String>, groups: &[(String, Vec<String>)]) -> Vec<String> {
    let mut found: BTreeSet<String> = own.into_iter().collect();
    // Every round adds at least one group, so there are at most as many rounds as groups.
    loop {
        let before = found.len();
        for (name, members) in groups {
            let is_member = |m: &String| m.eq_ignore_ascii_case(user) || found.contains(m);
            if !found.contains(name) && members.iter().any(is_member) {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

fn may_use(permissions: &Value, user: &str, groups: &[String]) -> bool {
    if groups.iter().any(|g| g == ADMINISTRATORS) {
        return true;
    }
    permissions.as_array().into_iter().flatten().any(|p| {
        let subject = p["subject"].as_str().unwrap_or_default();
        match p["kind"].as_str().unwrap_or("User") {
            "Group" => groups.iter().any(|g| g == subject),
            _ => subject.eq_ignore_ascii_case(user),
        }
    })
}

/// A legal Secret name for any user name: readable, and unique by a digest.
fn secret_name(user: &str) -> String {
    let readable: String = user
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let digest = Sha256::digest(user.as_bytes());
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("password-{}-{short}", readable.trim_matches('-'))
}

fn strings(list: &Value) -> impl Iterator<Item = String> + '_ {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|v| v.as_str().map(str::to_string))
}

fn typed(value: Value) -> Result<DynamicObject, DirectoryError> {
    serde_json::from_value(value).map_err(|e| api_error("build an object")(kube::Error::SerdeError(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("alice", Some("alice@podvisor.local")),
            (" Alice@Podvisor.Local ", Some("alice@podvisor.local")),
            ("a.b+c@corp.example", Some("a.b+c@corp.example")),
            ("", None),
            ("@podvisor.local", None),
            ("a b@c", None),
            ("a/b@c", None),
            ("a@b@c", None),
        ];
        for (given, want) in cases {
            assert_eq!(normalize(given).ok().as_deref(), want, "{given:?}");
        }
        assert_eq!(
            secret_name("alice@podvisor.local"),
            "password-alice-podvisor-local-c8c1da83"
        );
        assert_ne!(secret_name("a.b@c"), secret_name("a@b.c"));
    }

    #[test]
    fn groups_nest() {
        let groups = [
            ("Ops@d".to_string(), vec!["alice@d".to_string()]),
            ("All@d".to_string(), vec!["Ops@d".to_string()]),
            (
                "Loop@d".to_string(),
                vec!["All@d".to_string(), "Loop@d".to_string()],
            ),
            ("Other@d".to_string(), vec!["bob@d".to_string()]),
        ];
        assert_eq!(
            closure("alice@d", vec!["Own@d".into()], &groups),
            ["All@d", "Loop@d", "Ops@d", "Own@d"]
        );
        assert!(closure("eve@d", vec![], &groups).is_empty());
    }

    #[test]
    fn permissions() {
        let permissions = json!([
            { "subject": "alice@d", "kind": "User", "role": "edit" },
            { "subject": "Ops@d", "kind": "Group", "role": "view" },
        ]);
        let in_groups = |g: &[&str]| g.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert!(may_use(&permissions, "alice@d", &[]));
        assert!(may_use(&permissions, "bob@d", &in_groups(&["Ops@d"])));
        assert!(!may_use(&permissions, "bob@d", &in_groups(&["Dev@d"])));
        assert!(!may_use(&permissions, "ops@d", &[]), "a group's name is no user");
        assert!(may_use(&Value::Null, "root@d", &in_groups(&[ADMINISTRATORS])));
    }
}
