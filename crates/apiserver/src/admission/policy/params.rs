//! Parameters of policies: the objects that a binding refers to.

use super::config::Binding;
use crate::registry::Served;
use crate::rest::{Ctx, render};
use kinds::selector::LabelSelector;
use serde_json::Value;
use std::sync::Arc;

/// The resource of a policy's parameters (`apiVersion`, `kind`); none when it has no parameters.
pub fn kind(ctx: &Ctx, wanted: &Option<(String, String)>) -> Result<Option<Arc<Served>>, String> {
    let Some((api_version, kind)) = wanted else {
        return Ok(None);
    };
    match ctx.server.registry.load().find_kind(api_version, kind) {
        Some(served) => Ok(Some(served)),
        None => Err(format!(
            "failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"
        )),
    }
}

/// The parameters of a binding: null once when it has none, nothing when a binding may do without what is missing.
pub async fn collect(
    ctx: &Ctx,
    kind: Option<&Served>,
    binding: &Binding,
    namespace: &str,
) -> Result<Vec<Value>, String> {
    let (Some(kind), Some(reference)) = (kind, &binding.param_ref) else {
        return Ok(vec![Value::Null]);
    };
    let text = |f: &str| reference.get(f).and_then(Value::as_str).unwrap_or("");
    let own = text("namespace");
    let namespace = match kind.kind.namespaced {
        false if !own.is_empty() => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
        false => "",
        true if !own.is_empty() => own,
        true if namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .into(),
            );
        }
        true => namespace,
    };
    let found = match text("name") {
        "" => {
            let selector = reference.get("selector").filter(|s| s.is_object());
            let selector = selector.ok_or("one of name or selector must be provided")?;
            let selector = LabelSelector::from_json(selector).map_err(|e| e.to_string())?;
            let all = kind.cache.current(namespace);
            let matching = all.into_iter().filter(|object| {
                selector.matches_with(|key| {
                    let label = object.labels().iter().find(|(k, _)| **k == *key);
                    label.map(|(_, v)| &**v)
                })
            });
            matching.collect()
        }
        name => kind.cache.get(namespace, name).into_iter().collect::<Vec<_>>(),
    };
    if found.is_empty() && text("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let decoded = render::decode_all(&ctx.server, kind, &found).await;
    decoded.map_err(|status| status.message)
}
