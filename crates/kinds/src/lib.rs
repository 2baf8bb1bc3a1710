//! What a Kubernetes object is, without any I/O.
//!
//! - [`builtin`]: the one table of kinds that are served (group, version, names, verbs, subresources);
//! - [`schema`]: the types of their fields, generated from upstream's definitions by `cargo xtask gen-schema`;
//! - [`quantity`], [`selector`]: the two small languages inside objects;
//! - [`placement`]: which nodes a Pod may have;
//! - [`status`], [`field`]: every refusal, worded as upstream words it.
//!
//! Objects themselves are `serde_json::Value` everywhere: fields that this table does not know survive where
//! Kubernetes keeps them.

pub mod field;
pub mod names;
pub mod placement;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
mod table;

pub use table::{KindInfo, Subresource, builtin, find_kind, find_resource};

/// Group, version and kind of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
}

impl Gvk {
    /// Reads `apiVersion` and `kind`.
    pub fn of(object: &serde_json::Value) -> Option<Self> {
        let api_version = object.get("apiVersion")?.as_str()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: object.get("kind")?.as_str()?.to_owned(),
        })
    }

    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl std::fmt::Display for Gvk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, Kind={}", self.api_version(), self.kind)
    }
}
