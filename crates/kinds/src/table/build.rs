//! Constant functions by which the lines of the table stay lines.

use super::{ALL_VERBS, KindInfo, Subresource};

/// Verbs of a `status` subresource.
const READ_WRITE: &[&str] = &["get", "patch", "update"];

/// A kind with all verbs, without status, subresources, short names and categories.
macro_rules! kind {
    ($group:literal $version:literal $kind:literal $plural:literal $singular:literal $scope:ident $schema:literal) => {
        crate::table::build::plain(
            $group,
            $version,
            $kind,
            concat!($kind, "List"),
            $plural,
            $singular,
            crate::table::build::$scope,
            $schema,
        )
    };
}
pub(super) use kind;

/// Objects live in namespaces.
pub(super) const NAMESPACED: bool = true;
/// Objects belong to the whole cluster.
pub(super) const CLUSTER: bool = false;

#[allow(clippy::too_many_arguments)]
pub(super) const fn plain(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    list_kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
    schema: &'static str,
) -> KindInfo {
    KindInfo {
        group,
        version,
        kind,
        list_kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        schema,
        has_status: false,
    }
}

impl KindInfo {
    pub(super) const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    pub(super) const fn in_categories(mut self, categories: &'static [&'static str]) -> Self {
        self.categories = categories;
        self
    }

    pub(super) const fn only(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    /// Sets the subresources; `status` among them gives the kind a status.
    pub(super) const fn below(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        let mut index = 0;
        while index < subresources.len() {
            if is_status(subresources[index].name) {
                self.has_status = true;
            }
            index += 1;
        }
        self
    }
}

/// String comparison that a constant function may do: no other subresource has this length and beginning.
const fn is_status(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() == 6 && bytes[0] == b's' && bytes[1] == b't' && bytes[5] == b's'
}

/// The parent's own kind.
pub(super) const fn own(name: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource {
        name,
        verbs,
        group: "",
        version: "",
        kind: "",
    }
}

/// A kind of its own.
pub(super) const fn other(
    name: &'static str,
    verbs: &'static [&'static str],
    group: &'static str,
    version: &'static str,
    kind: &'static str,
) -> Subresource {
    Subresource {
        name,
        verbs,
        group,
        version,
        kind,
    }
}

/// Spec and status are written apart.
pub(super) const STATUS: Subresource = own("status", READ_WRITE);
/// `autoscaling/v1` Scale.
pub(super) const SCALE: Subresource = other("scale", READ_WRITE, "autoscaling", "v1", "Scale");
