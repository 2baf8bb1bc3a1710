//! The types of what expressions of admission see beside the objects, which have none.

use cel::{Field, ObjectType, Type};
use std::sync::Arc;

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let field = |(name, ty): &(&str, Type)| {
        let json = (*name).to_owned();
        (json.clone(), Field { json, ty: ty.clone() })
    };
    Type::Object(Arc::new(ObjectType {
        name: name.into(),
        fields: fields.iter().map(field).collect(),
    }))
}

fn texts(name: &str, fields: &[&str]) -> Type {
    let fields: Vec<(&str, Type)> = fields.iter().map(|field| (*field, Type::String)).collect();
    object(name, &fields)
}

/// The request.
pub(super) fn request() -> Type {
    let kind = texts("kubernetes.GroupVersionKind", &["group", "version", "kind"]);
    let resource = texts(
        "kubernetes.GroupVersionResource",
        &["group", "version", "resource"],
    );
    let user = [
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", Type::list(Type::String)),
        ("extra", Type::map(Type::list(Type::String))),
    ];
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Type::String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Type::String),
            ("name", Type::String),
            ("namespace", Type::String),
            ("operation", Type::String),
            ("userInfo", object("kubernetes.UserInfo", &user)),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

/// The Namespace of the request's object.
pub(super) fn namespace() -> Type {
    let map = || Type::map(Type::String);
    let list = || Type::list(Type::String);
    let metadata = [
        ("name", Type::String),
        ("generateName", Type::String),
        ("namespace", Type::String),
        ("labels", map()),
        ("annotations", map()),
        ("UID", Type::String),
        ("creationTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("deletionTimestamp", Type::Timestamp),
        ("generation", Type::Int),
        ("resourceVersion", Type::String),
        ("finalizers", list()),
    ];
    let condition = [
        ("status", Type::String),
        ("type", Type::String),
        ("lastTransitionTime", Type::Timestamp),
        ("message", Type::String),
        ("reason", Type::String),
    ];
    let conditions = Type::list(object("kubernetes.NamespaceCondition", &condition));
    let status = [("conditions", conditions), ("phase", Type::String)];
    object(
        "kubernetes.Namespace",
        &[
            ("metadata", object("kubernetes.NamespaceMetadata", &metadata)),
            (
                "spec",
                object("kubernetes.NamespaceSpec", &[("finalizers", list())]),
            ),
            ("status", object("kubernetes.NamespaceStatus", &status)),
        ],
    )
}

/// The composed variables that are not there.
pub(super) fn variables() -> Type {
    object("kubernetes.variables", &[])
}
