//! Who is asking: the identity that authentication found, as authorization, admission and the audit see it.
//!
//! The fields are those of upstream's `user.Info`; `extra` keys are lower case.

use std::collections::BTreeMap;

/// The group of every request that was authenticated.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// The group of every request that was not.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Members of this group may do everything; it cannot be taken away by RBAC.
pub const GROUP_MASTERS: &str = "system:masters";

/// An authenticated (or anonymous) user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// User name, unique among active users: `system:node:a`, `sso:alice@podvisor.local`.
    pub name: String,
    /// Stable id of the user, empty when the authenticator knows none.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further facts an authenticator hands to authorizers, e.g. the Pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A named user in the given groups; `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> User {
        let mut all: Vec<String> = groups.iter().map(|g| g.to_string()).collect();
        if !all.iter().any(|g| g == GROUP_AUTHENTICATED) {
            all.push(GROUP_AUTHENTICATED.to_string());
        }
        User {
            name: name.into(),
            groups: all,
            ..User::default()
        }
    }

    /// The user of requests without credentials.
    pub fn anonymous() -> User {
        User {
            name: ANONYMOUS.into(),
            groups: vec![GROUP_UNAUTHENTICATED.into()],
            ..User::default()
        }
    }

    /// The server itself, for what it writes on its own account (bootstrap, allocator repair).
    pub fn system() -> User {
        User::new("system:apiserver", &[GROUP_MASTERS])
    }

    /// Whether the user is a member of `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
