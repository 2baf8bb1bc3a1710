//! Parameters of operations: what each sort of request takes in the query.

use super::operations::Operation;
use super::texts;

/// A parameter in the path or the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub in_path: bool,
    /// OpenAPI's type word.
    pub ty: &'static str,
    /// The kind whose objects a `name` in the path names.
    pub kind: &'static str,
}

impl Parameter {
    /// What it is for.
    pub fn words(&self) -> String {
        match self.in_path {
            true => texts::path(self.name, self.kind),
            false => texts::query(self.name).to_owned(),
        }
    }

    /// Whether it may be told once for all operations. kubectl looks for two of them in each operation by itself, and the
    /// names of objects are told by kind.
    pub fn is_shared(&self) -> bool {
        !matches!(self.name, "dryRun" | "fieldValidation" | "name")
    }
}

pub(super) const fn path(name: &'static str) -> Parameter {
    Parameter {
        name,
        in_path: true,
        ty: "string",
        kind: "",
    }
}

pub(super) const fn query(name: &'static str, ty: &'static str) -> Parameter {
    Parameter {
        name,
        in_path: false,
        ty,
        kind: "",
    }
}

pub(super) const PRETTY: Parameter = query("pretty", "string");
/// What writes take.
pub(super) const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, PRETTY];
/// What patches take.
pub(super) const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE, PRETTY];
const DRY_RUN: Parameter = query("dryRun", "string");
const FIELD_MANAGER: Parameter = query("fieldManager", "string");
const FIELD_VALIDATION: Parameter = query("fieldValidation", "string");
const FORCE: Parameter = query("force", "boolean");
/// What lists and watches take.
pub(super) const LIST: &[Parameter] = &[
    PRETTY,
    query("allowWatchBookmarks", "boolean"),
    query("continue", "string"),
    query("fieldSelector", "string"),
    query("labelSelector", "string"),
    query("limit", "integer"),
    query("resourceVersion", "string"),
    query("resourceVersionMatch", "string"),
    query("sendInitialEvents", "boolean"),
    query("timeoutSeconds", "integer"),
    query("watch", "boolean"),
];
/// What deletions take.
pub(super) const DELETE: &[Parameter] = &[
    DRY_RUN,
    PRETTY,
    query("gracePeriodSeconds", "integer"),
    query("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    query("orphanDependents", "boolean"),
    query("propagationPolicy", "string"),
];
/// What logs take.
pub(super) const LOG: &[Parameter] = &[
    PRETTY,
    query("insecureSkipTLSVerifyBackend", "boolean"),
    query("container", "string"),
    query("follow", "boolean"),
    query("limitBytes", "integer"),
    query("previous", "boolean"),
    query("sinceSeconds", "integer"),
    query("stream", "string"),
    query("tailLines", "integer"),
    query("timestamps", "boolean"),
];
/// What attach takes, behind what exec takes more.
pub(super) const STREAMS: &[Parameter] = &[
    query("command", "string"),
    query("container", "string"),
    query("stderr", "boolean"),
    query("stdin", "boolean"),
    query("stdout", "boolean"),
    query("tty", "boolean"),
];

/// Takes those that all operations of a path have out of them: they are told once, of the path. All are in order then.
pub(super) fn take_shared(operations: &mut [Operation]) -> Vec<Parameter> {
    for operation in operations.iter_mut() {
        operation.parameters.sort_by_key(|p| (p.name, !p.in_path));
    }
    let Some((first, others)) = operations.split_first() else {
        return Vec::new();
    };
    let everywhere = |parameter: &&Parameter| others.iter().all(|other| other.parameters.contains(parameter));
    let shared: Vec<Parameter> = first.parameters.iter().filter(everywhere).copied().collect();
    for operation in operations {
        operation
            .parameters
            .retain(|parameter| !shared.contains(parameter));
    }
    shared
}
