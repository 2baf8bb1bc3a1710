//! The question "may this user do that?" as the rest of the server asks it; the answers live in [`crate::authz`].

use crate::request::Attributes;
use crate::user::User;
use async_trait::async_trait;

/// What an authorizer says of a request. The first `Allow` or `Deny` of a chain decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// May do it; the reason is for the audit log and `SubjectAccessReview`.
    Allow(String),
    /// Must not do it, whatever authorizers further down say.
    Deny(String),
    /// This authorizer does not know; without an `Allow` from another the request is refused.
    NoOpinion(String),
}

impl Decision {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    /// The reason, possibly empty.
    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow(r) | Decision::Deny(r) | Decision::NoOpinion(r) => r,
        }
    }
}

/// What a user may do with resources: one rule of `SelfSubjectRulesReview`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceRule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    pub api_groups: Vec<String>,
    /// Resources, `*` for all, `pods/log` for subresources.
    pub resources: Vec<String>,
    /// Names the rule is limited to; empty for all.
    pub resource_names: Vec<String>,
}

/// What a user may do with paths that are no resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NonResourceRule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// Paths, `*` at the end matches any rest.
    pub non_resource_urls: Vec<String>,
}

/// Everything a user may do in a namespace, as far as the authorizer can enumerate it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Rules on resources.
    pub resource_rules: Vec<ResourceRule>,
    /// Rules on paths.
    pub non_resource_rules: Vec<NonResourceRule>,
    /// Whether more may be allowed than is listed.
    pub incomplete: bool,
    /// Why it is incomplete; empty when it is not.
    pub evaluation_error: String,
}

/// Decides requests.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Whether `user` may do what `attributes` say.
    async fn authorize(&self, user: &User, attributes: &Attributes) -> Decision;
    /// The rules of `user` in `namespace`, for `SelfSubjectRulesReview`.
    async fn rules_for(&self, user: &User, namespace: &str) -> Rules;
}
