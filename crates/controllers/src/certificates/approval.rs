//! Approves requests for client certificates of host agents, when whoever asks may have them: a bootstrap token for a new
//! host (`nodeclient`), a host for itself (`selfnodeclient`).

use super::{HOST_CLIENT, REQUESTS, Wish, is, issued};
use crate::concern::Concern;
use crate::manager::Reconciler;
use crate::obj::{items, meta, now, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const REVIEWS: &str = "subjectaccessreviews.authorization.k8s.io";

/// The controller.
pub(crate) struct Approver(Concern);

impl Default for Approver {
    fn default() -> Approver {
        Approver(Concern::new(REQUESTS, &[]))
    }
}

/// Whoever has no right to a certificate may get it: that is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(60);

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

async fn one(world: &World, request: &Value) -> Result<Option<Duration>, WorldError> {
    if text(request, "/spec/signerName") != HOST_CLIENT
        || issued(request)
        || is(request, "Approved")
        || is(request, "Denied")
    {
        return Ok(None);
    }
    let wish = match Wish::of(request) {
        Ok(wish) if wish.fits(HOST_CLIENT).is_ok() => wish,
        Ok(_) => return Ok(None),
        Err(why) => {
            tracing::warn!(
                request = meta(request, "name"),
                why,
                "a certificate request is no request"
            );
            return Ok(None);
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
        return settled(world.put_sub(REQUESTS, &next, "approval").await).map(|_| None);
    }
    // Nobody tells when it gets the right.
    Ok(Some(AGAIN))
}

#[async_trait]
impl Reconciler for Approver {
    fn name(&self) -> &'static str {
        "csrapproving"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(request) = round.next(world) {
            round.note(one(world, &request).await);
        }
        round.end()
    }
}
