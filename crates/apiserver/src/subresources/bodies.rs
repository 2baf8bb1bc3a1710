//! Bodies of requests on a subresource that are of a kind of their own. They are read and judged as other objects are, by a
//! request that is about that kind.

use crate::registry::Served;
use crate::rest::{Ctx, create};
use crate::wire::options::FieldValidation;
use bytes::Bytes;
use kinds::KindInfo;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

pub(super) static SCALE: KindInfo = kind("autoscaling", "Scale", "io.k8s.api.autoscaling.v1.Scale", true);
pub(super) static CLUSTER_SCALE: KindInfo =
    kind("autoscaling", "Scale", "io.k8s.api.autoscaling.v1.Scale", false);
pub(super) static EVICTION: KindInfo = kind("policy", "Eviction", "io.k8s.api.policy.v1.Eviction", true);
pub(super) static BINDING: KindInfo = kind("", "Binding", "io.k8s.api.core.v1.Binding", true);
pub(super) static TOKEN_REQUEST: KindInfo = kind(
    "authentication.k8s.io",
    "TokenRequest",
    "io.k8s.api.authentication.v1.TokenRequest",
    true,
);

const fn kind(group: &'static str, kind: &'static str, schema: &'static str, namespaced: bool) -> KindInfo {
    KindInfo {
        group,
        version: "v1",
        kind,
        list_kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced,
        verbs: &[],
        subresources: &[],
        schema,
        has_status: false,
    }
}

/// The request as one that is about the kind of its body.
pub(super) fn about(ctx: &Ctx, kind: &'static KindInfo) -> Ctx {
    Ctx {
        server: ctx.server.clone(),
        user: ctx.user.clone(),
        attributes: ctx.attributes.clone(),
        query: ctx.query.clone(),
        headers: ctx.headers.clone(),
        served: Arc::new(Served {
            kind,
            stored: kind,
            cache: ctx.served.cache.clone(),
            traits: ctx.served.traits,
            custom: None,
        }),
        notes: ctx.notes.clone(),
        deadline: ctx.deadline,
    }
}

/// Reads a whole body.
pub(super) fn read(
    ctx: &Ctx,
    kind: &'static KindInfo,
    bytes: &Bytes,
    mode: FieldValidation,
) -> Result<Value, Status> {
    let about = about(ctx, kind);
    let mut input = create::read_input(&about, bytes)?;
    // The older form of the same, which old clients send.
    if kind.kind == "Eviction" && input.value["apiVersion"] == "policy/v1beta1" {
        input.value["apiVersion"] = "policy/v1".into();
    }
    Ok(create::check_input(&about, input, mode)?.object)
}
