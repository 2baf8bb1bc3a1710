//! Deletes certificate requests that nobody waits for any more: an hour after they were settled, a day after they were made or
//! approved and nothing happened, and when their certificate has ended.

use super::{REQUESTS, is, issued};
use crate::manager::Reconciler;
use crate::obj::{items, meta, since, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How often requests are looked at for their age alone.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// A settled request is kept for this time.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);
/// One that waits is kept for this time.
const WAITING: SignedDuration = SignedDuration::from_hours(24);

/// The controller.
pub(crate) struct Cleaner;

/// Whether a request is over at `now`.
fn over(request: &Value, now: Timestamp) -> bool {
    let conditions = items(request, "/status/conditions");
    if conditions.is_empty() && since(meta(request, "creationTimestamp")) > WAITING {
        return true;
    }
    let issued = issued(request);
    let aged = conditions.iter().any(|c| {
        let limit = match (text(c, "/type"), issued) {
            ("Denied" | "Failed", _) | ("Approved", true) => SETTLED,
            ("Approved", false) => WAITING,
            _ => return false,
        };
        let at = text(c, "/lastUpdateTime");
        !at.is_empty() && since(at) > limit
    });
    aged || (is(request, "Approved") && ended(request, now))
}

/// Whether the certificate is there and past its life.
fn ended(request: &Value, now: Timestamp) -> bool {
    let Ok(pem) = STANDARD.decode(text(request, "/status/certificate")) else {
        return false;
    };
    x509_parser::pem::parse_x509_pem(&pem).is_ok_and(|(_, pem)| {
        pem.parse_x509()
            .is_ok_and(|certificate| certificate.validity().not_after.timestamp() < now.as_second())
    })
}

#[async_trait]
impl Reconciler for Cleaner {
    fn name(&self) -> &'static str {
        "csrcleaner"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[REQUESTS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        for request in world.all(REQUESTS) {
            if over(&request, Timestamp::now()) {
                settled(world.delete(REQUESTS, &request, "Background").await)?;
            }
        }
        Ok(Some(EVERY))
    }
}
