//! Approves requests for client certificates of host agents, when whoever asks may have them: a bootstrap token for a new
//! host (`nodeclient`), a host for itself (`selfnodeclient`).

use super::{HOST_CLIENT, REQUESTS, Wish, is, issued};
use crate::manager::Reconciler;
use crate::obj::{items, meta, now, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const REVIEWS: &str = "subjectaccessreviews.authorization.k8s.io";

/// The controller.
pub(crate) struct Approver;

/// The rights by which a request may be approved, the narrowest first, and what the approval then says.
fn rights(request: &Value, wish: &Wish) -> Vec<(&'static str, &'static str)> {
    let mut all = Vec::new();
    if text(request, "/spec/username") == wish.name {
        let told = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        all.push(("selfnodeclient", told));
    }
    let told = "Auto approving kubelet client certificate after SubjectAccessReview.";
    all.push(("nodeclient", told));
    all
}

/// Whether whoever made the request has the right.
async fn may(world: &World, request: &Value, right: &str) -> Result<bool, WorldError> {
    let mut spec = json!({
        "resourceAttributes": {"group": "certificates.k8s.io", "version": "*", "verb": "create",
            "resource": "certificatesigningrequests", "subresource": right},
    });
    for (from, to) in [
        ("username", "user"),
        ("uid", "uid"),
        ("groups", "groups"),
        ("extra", "extra"),
    ] {
        if let Some(value) = request["spec"].get(from) {
            spec[to] = value.clone();
        }
    }
    let review =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
    let answer = world.create(REVIEWS, &review).await?;
    Ok(answer["status"]["allowed"] == true)
}

async fn one(world: &World, request: &Value) -> Result<(), WorldError> {
    if text(request, "/spec/signerName") != HOST_CLIENT
        || issued(request)
        || is(request, "Approved")
        || is(request, "Denied")
    {
        return Ok(());
    }
    let wish = match Wish::of(request) {
        Ok(wish) if wish.fits(HOST_CLIENT).is_ok() => wish,
        Ok(_) => return Ok(()),
        Err(why) => {
            tracing::warn!(
                request = meta(request, "name"),
                why,
                "a certificate request is no request"
            );
            return Ok(());
        }
    };
    for (right, told) in rights(request, &wish) {
        if !may(world, request, right).await? {
            continue;
        }
        let mut next = request.clone();
        let mut conditions = items(request, "/status/conditions").to_vec();
        conditions.push(
            json!({"type": "Approved", "status": "True", "reason": "AutoApproved",
            "message": told, "lastUpdateTime": now()}),
        );
        next["status"]["conditions"] = json!(conditions);
        return settled(world.put_sub(REQUESTS, &next, "approval").await).map(|_| ());
    }
    Ok(())
}

#[async_trait]
impl Reconciler for Approver {
    fn name(&self) -> &'static str {
        "csrapproving"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[REQUESTS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        for request in world.all(REQUESTS) {
            if let Err(error) = one(world, &request).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
