//! The one table of kinds. Adding a kind is a line in [`core`], [`workloads`] or [`cluster`].

mod build;
mod cluster;
mod core;
mod workloads;

use std::sync::LazyLock;

/// Everything that can be done with a stored object.
pub(crate) const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// A kind that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindInfo {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Kind of its list.
    pub list_kind: &'static str,
    /// Resource name, as in paths.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Short names for kubectl.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it. Without `get` nothing is stored.
    pub verbs: &'static [&'static str],
    /// What lies below an object.
    pub subresources: &'static [Subresource],
    /// Name of its definition in the schema table.
    pub schema: &'static str,
    /// Whether `status` is a subresource: spec and status are then written apart.
    pub has_status: bool,
}

/// Something below an object, such as `pods/log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    /// Name, as in paths.
    pub name: &'static str,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
    /// Group of its body; empty with an empty version for the parent's own kind.
    pub group: &'static str,
    /// Version of its body.
    pub version: &'static str,
    /// Kind of its body.
    pub kind: &'static str,
}

impl KindInfo {
    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether a verb is offered.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects are kept: reviews and the like are only answered.
    pub fn is_stored(&self) -> bool {
        self.has_verb("get") && self.group != "metrics.k8s.io"
    }

    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    /// Whether objects have a `metadata.generation` that counts changes of the spec.
    pub fn has_generation(&self) -> bool {
        self.has_status || matches!(self.kind, "ValidatingAdmissionPolicyBinding" | "NetworkPolicy")
    }
}

/// Every kind, in upstream's order of groups.
pub fn builtin() -> &'static [KindInfo] {
    static TABLE: LazyLock<Vec<KindInfo>> =
        LazyLock::new(|| [core::KINDS, workloads::KINDS, cluster::KINDS].concat());
    &TABLE
}

/// The kind of a resource name.
pub fn find_resource(group: &str, version: &str, plural: &str) -> Option<&'static KindInfo> {
    builtin()
        .iter()
        .find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
}

/// The kind of a kind name.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static KindInfo> {
    builtin()
        .iter()
        .find(|info| info.kind == kind && info.group == group && info.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_is_whole() {
        let mut seen = BTreeSet::new();
        for kind in builtin() {
            assert!(
                seen.insert((kind.group, kind.version, kind.plural)),
                "{} is there twice",
                kind.plural
            );
            assert!(!kind.verbs.is_empty() && !kind.plural.is_empty(), "{kind:?}");
            assert_eq!(kind.list_kind, format!("{}List", kind.kind));
            assert_eq!(
                kind.has_status,
                kind.subresource("status").is_some(),
                "{}",
                kind.kind
            );
            assert!(
                crate::schema::builtin().definition(kind.schema).is_some(),
                "{} has no definition {}",
                kind.kind,
                kind.schema
            );
        }
        assert!(builtin().len() > 70);
    }
}
