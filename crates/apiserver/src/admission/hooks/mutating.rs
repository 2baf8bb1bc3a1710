//! Mutating webhooks: one after the other, each on what the one before left.
//!
//! When a webhook changed the object, the whole mutating half of admission runs a second time. In that round only
//! those webhooks are asked again that wish it (`reinvocationPolicy: IfNeeded`), were asked before, and stand before
//! a change.

use super::config::{Hook, Hooks};
use super::{Failure, ask, closed, review, wanted};
use crate::admission::in_order;
use crate::admission::matching::{self, Matched};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::rest::{Ctx, create};
use crate::subresources::scale;
use crate::view::View;
use crate::wire::options::FieldValidation;
use async_trait::async_trait;
use kinds::status::Status;
use serde_json::{Value, json};

/// The plugin `MutatingAdmissionWebhook`.
pub struct MutatingWebhook {
    hooks: Hooks,
}

impl Default for MutatingWebhook {
    fn default() -> MutatingWebhook {
        MutatingWebhook {
            hooks: Hooks::of("mutatingwebhookconfigurations"),
        }
    }
}

#[async_trait]
impl AdmissionPlugin for MutatingWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let Some(ctx) = request.ctx else {
            return Ok(Vec::new());
        };
        let hooks = self.hooks.get(view);
        if hooks.is_empty() || matching::is_exempt(request) {
            return Ok(Vec::new());
        }
        if request.round.again && request.round.last.as_ref() != Some(request.object) {
            // A step of our own has changed the object since: all that were asked are due.
            let asked = std::mem::take(&mut request.round.asked);
            request.round.due.extend(asked);
        }
        for (index, hook) in hooks.iter().enumerate() {
            let Some(matched) = wanted(hook, request, ctx, view).await? else {
                continue;
            };
            if request.round.again && !request.round.due.contains(&hook.id()) {
                continue;
            }
            let place = format!("round_{}_index_{index}", u8::from(request.round.again));
            let outcome = self.one(hook, request, ctx, view, &matched, &place).await;
            if matches!(outcome, Ok(true)) {
                let asked = std::mem::take(&mut request.round.asked);
                request.round.due.extend(asked);
                request.round.wanted = true;
            }
            if hook.again {
                request.round.asked.insert(hook.id());
            }
            match outcome {
                Ok(_) => {}
                Err(Failure::Refused(status)) => return Err(status),
                Err(Failure::Calling(why)) if hook.fail => return Err(closed(hook, &why)),
                Err(Failure::Calling(why)) => {
                    tracing::warn!(
                        webhook = hook.name,
                        why,
                        "a webhook could not be asked; the request goes on"
                    );
                    let key = format!("failed-open.mutating.webhook.admission.k8s.io/{place}");
                    ctx.notes.annotate(key, hook.name.clone());
                }
            }
        }
        request.round.last = Some(request.object.clone());
        Ok(Vec::new())
    }
}

impl MutatingWebhook {
    /// Asks one webhook and applies its patch; answers whether the object changed. The audit log is told so of failures too.
    async fn one(
        &self,
        hook: &Hook,
        request: &mut AdmissionRequest<'_>,
        ctx: &Ctx,
        view: &dyn View,
        matched: &Matched,
        place: &str,
    ) -> Result<bool, Failure> {
        let by = [
            ("configuration", json!(hook.configuration)),
            ("webhook", json!(hook.name)),
        ];
        let outcome = self.patched(hook, request, ctx, view, matched).await;
        if let Ok(Some((patch, _))) = &outcome {
            let [configuration, webhook] = by.clone();
            let told = [
                configuration,
                webhook,
                ("patch", patch.clone()),
                ("patchType", json!("JSONPatch")),
            ];
            ctx.notes
                .annotate(format!("patch.webhook.admission.k8s.io/{place}"), in_order(&told));
        }
        let outcome = outcome.map(|patched| patched.is_some_and(|(_, changed)| changed));
        let [configuration, webhook] = by;
        let mutated = ("mutated", json!(matches!(outcome, Ok(true))));
        ctx.notes.annotate(
            format!("mutation.webhook.admission.k8s.io/{place}"),
            in_order(&[configuration, webhook, mutated]),
        );
        outcome
    }

    /// Asks one webhook and applies its patch; answers the patch, if there is one, and whether it changed the object.
    async fn patched(
        &self,
        hook: &Hook,
        request: &mut AdmissionRequest<'_>,
        ctx: &Ctx,
        view: &dyn View,
        matched: &Matched,
    ) -> Result<Option<(Value, bool)>, Failure> {
        let (object, old) = review::objects(request, ctx);
        let object = versioned(ctx, object, matched).await?;
        let old = versioned(ctx, old, matched).await?;
        let Some(patch) = ask(hook, request, ctx, view, matched, (&object, &old)).await? else {
            return Ok(None);
        };
        let Some(operations) = patch.operations()? else {
            return Ok(None);
        };
        if request.operation == Operation::Delete {
            let why = format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            );
            return Err(Failure::Refused(Status::internal(why)));
        }
        patch.check_type()?;
        let patched = machinery::apply_operations(&object, operations.as_array().map_or(&[], Vec::as_slice))
            .map_err(|undone| Failure::Refused(Status::internal(undone.to_string())))?;
        let changed = patched != object;
        if changed {
            take_back(request, ctx, patched, matched).await?;
        }
        Ok(Some((operations, changed)))
    }
}

/// The object in the version that a webhook wants.
pub(super) async fn versioned(ctx: &Ctx, object: Value, matched: &Matched) -> Result<Value, Failure> {
    match matched {
        Matched::Other(other) if !object.is_null() && ctx.attributes.subresource != "scale" => {
            let converted = ctx
                .server
                .convert(&ctx.served, object, ctx.served.kind, other.kind)
                .await;
            converted.map_err(Failure::Refused)
        }
        _ => Ok(object),
    }
}

/// Makes a patched object the object of the request: back in its version, pruned, defaulted.
pub(super) async fn take_back(
    request: &mut AdmissionRequest<'_>,
    ctx: &Ctx,
    patched: Value,
    matched: &Matched,
) -> Result<(), Failure> {
    let a = request.attributes;
    if a.subresource == "scale" {
        let replicas = patched.pointer("/spec/replicas").cloned().unwrap_or(json!(0));
        scale::put_replicas(request.object, &scale::paths(ctx), replicas);
        return Ok(());
    }
    let mut patched = match matched {
        Matched::Other(other) => ctx
            .server
            .convert(&ctx.served, patched, other.kind, ctx.served.kind)
            .await
            .map_err(Failure::Refused)?,
        Matched::Same => patched,
    };
    let own_kind = request.operation != Operation::Connect
        && patched.get("kind").and_then(Value::as_str) == Some(ctx.served.kind.kind);
    if own_kind {
        let checked = match &ctx.served.custom {
            Some(custom) => {
                custom.drop_nulls(&mut patched);
                custom
                    .decode_check(&mut patched, &[], FieldValidation::Ignore)
                    .map(|_| ())
            }
            None => machinery::decode_check(
                ctx.served.kind,
                &mut patched,
                &[],
                machinery::FieldValidation::Ignore,
            )
            .map(|_| ()),
        };
        checked.map_err(|s| Failure::Refused(Status::internal(s.message)))?;
        create::default(ctx, &mut patched);
    }
    let before = std::mem::replace(request.object, patched);
    request
        .round
        .managed
        .get_or_insert_with(|| before["metadata"]["managedFields"].clone());
    Ok(())
}
