//! Validating webhooks: all at the same time, on the object as it would be stored.

use super::config::Hooks;
use super::mutating::versioned;
use super::{Failure, ask, closed, review, wanted};
use crate::admission::matching;
use crate::admit::{AdmissionPlugin, AdmissionRequest};
use crate::view::View;
use async_trait::async_trait;
use futures::future::join_all;
use kinds::status::Status;

/// The plugin `ValidatingAdmissionWebhook`.
pub struct ValidatingWebhook {
    hooks: Hooks,
}

impl Default for ValidatingWebhook {
    fn default() -> ValidatingWebhook {
        ValidatingWebhook {
            hooks: Hooks::of("validatingwebhookconfigurations"),
        }
    }
}

#[async_trait]
impl AdmissionPlugin for ValidatingWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        let Some(ctx) = request.ctx else {
            return Ok(Vec::new());
        };
        let hooks = self.hooks.get(view);
        if hooks.is_empty() || matching::is_exempt(request) {
            return Ok(Vec::new());
        }
        let mut relevant = Vec::new();
        for hook in hooks.iter() {
            if let Some(matched) = wanted(hook, request, ctx, view).await? {
                relevant.push((hook, matched));
            }
        }
        let (object, old) = match relevant.is_empty() {
            true => return Ok(Vec::new()),
            false => review::objects(request, ctx),
        };
        let asked = relevant.iter().map(|(hook, matched)| {
            let (object, old) = (object.clone(), old.clone());
            async move {
                let answered = async {
                    let object = versioned(ctx, object, matched).await?;
                    let old = versioned(ctx, old, matched).await?;
                    ask(hook, request, ctx, view, matched, (&object, &old)).await
                };
                (*hook, answered.await)
            }
        });
        let mut refused = None;
        for (index, (hook, answered)) in join_all(asked).await.into_iter().enumerate() {
            let status = match answered {
                Ok(_) => continue,
                Err(Failure::Refused(status)) => status,
                Err(Failure::Calling(why)) if hook.fail => closed(hook, &why),
                Err(Failure::Calling(why)) => {
                    tracing::warn!(
                        webhook = hook.name,
                        why,
                        "a webhook could not be asked; the request goes on"
                    );
                    let key =
                        format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                    ctx.notes.annotate(key, hook.name.clone());
                    continue;
                }
            };
            refused = refused.or(Some(status));
        }
        match refused {
            Some(status) => Err(status),
            None => Ok(Vec::new()),
        }
    }
}
