//! Where objects of any kind are served, custom ones included, as discovery tells: by that their `scale` is read.

use crate::obj::{items, text};
use crate::world::{Resource, World};

/// The resource of a kind: of the version that is named, or of the preferred one of its group.
///
/// # Errors
/// In upstream's words, when there is none.
pub(crate) async fn resource(world: &World, api_version: &str, kind: &str) -> Result<Resource, String> {
    let (group, version) = match api_version.split_once('/') {
        Some((_, version)) if version.contains('/') => {
            return Err(format!("unexpected GroupVersion string: {api_version}"));
        }
        Some(parts) => parts,
        None => ("", api_version),
    };
    let unknown = || format!("no matches for kind {kind:?} in group {group:?}");
    let mut found = listed(world, group, version, kind).await;
    if found.is_none() && !group.is_empty() {
        let versions = world.read(&format!("/apis/{group}")).await;
        let versions = versions.map_err(|_| unknown())?;
        found = listed(world, group, text(&versions, "/preferredVersion/version"), kind).await;
    }
    found.ok_or_else(unknown)
}

async fn listed(world: &World, group: &str, version: &str, kind: &str) -> Option<Resource> {
    let path = match group.is_empty() {
        true => format!("/api/{version}"),
        false => format!("/apis/{group}/{version}"),
    };
    let list = world.read(&path).await.ok()?;
    let mut all = items(&list, "/resources").iter();
    let one = all.find(|one| one["kind"] == kind && !text(one, "/name").contains('/'))?;
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: text(one, "/name").to_owned(),
        namespaced: one["namespaced"] == true,
    })
}
