//! Arrows between our crates point down only (DESIGN: the house).

use cargo_metadata::{DependencyKind, Metadata};

/// The floors, lowest first. A crate may depend on crates of lower floors only.
const FLOORS: &[&[&str]] = &[
    &["kinds", "places", "store", "guest-api"],
    &["cache", "machinery", "cel", "vmm", "images", "dataplane"],
    &["quota"],
    &["apiserver", "identity", "controllers", "host", "guest", "console"],
    // Uses the shared watch caches of the controllers.
    &["scheduler"],
    &["podvisor"],
];
/// Crates beside the house: nothing of the house may depend on them.
const ASIDE: &[&str] = &["xtask", "e2e", "fuzz", "compare", "guestbook-frontend"];

/// Returns every arrow that points up or sideways. Tests may look sideways: dev-dependencies are left out.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let ours: Vec<_> = metadata.workspace_packages();
    let is_ours = |name: &str| ours.iter().any(|package| package.name == name);
    let mut wrong = Vec::new();
    for package in &ours {
        let name = package.name.as_str();
        if ASIDE.contains(&name) {
            continue;
        }
        let Some(floor) = floor_of(name) else {
            wrong.push(format!(
                "crate {name} stands on no floor: add it to xtask/src/tidy/layers.rs"
            ));
            continue;
        };
        let arrows = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development && is_ours(&dependency.name));
        for arrow in arrows {
            if floor_of(&arrow.name).is_none_or(|target| target >= floor) {
                wrong.push(format!(
                    "crate {name} must not depend on {}: arrows point down",
                    arrow.name
                ));
            }
        }
    }
    wrong
}

fn floor_of(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}
