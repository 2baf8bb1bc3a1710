//! Deletes certificate requests that nobody waits for any more: an hour after they were settled, a day after they were made or
//! approved and nothing happened, and when their certificate has ended.

use super::{REQUESTS, is, issued};
use crate::manager::Reconciler;
use crate::obj::{items, meta, text};
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

/// Whether more than `limit` has passed between a time and `now`; never of what is no time.
fn longer(at: &str, limit: SignedDuration, now: Timestamp) -> bool {
    at.parse::<Timestamp>()
        .is_ok_and(|at| now.duration_since(at) > limit)
}

/// Whether a request is over at `now`.
fn over(request: &Value, now: Timestamp) -> bool {
    let conditions = items(request, "/status/conditions");
    if conditions.is_empty() && longer(meta(request, "creationTimestamp"), WAITING, now) {
        return true;
    }
    let issued = issued(request);
    let aged = conditions.iter().any(|c| {
        let limit = match (text(c, "/type"), issued) {
            ("Denied" | "Failed", _) | ("Approved", true) => SETTLED,
            ("Approved", false) => WAITING,
            _ => return false,
        };
        longer(text(c, "/lastUpdateTime"), limit, now)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    fn request(minutes: i64, condition: &str, certificate: Option<&str>) -> Value {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(-minutes);
        let mut request = json!({"metadata": {"creationTimestamp": at.to_string()}, "status": {}});
        if !condition.is_empty() {
            let condition = json!({"type": condition, "status": "True", "lastUpdateTime": at.to_string()});
            request["status"]["conditions"] = json!([condition]);
        }
        if let Some(pem) = certificate {
            request["status"]["certificate"] = STANDARD.encode(pem).into();
        }
        request
    }

    /// A certificate that ends in that year.
    fn certificate(year: i32) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1960, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn requests_are_kept_as_long_as_somebody_may_wait_for_them() {
        let (good, ended) = (certificate(1980), certificate(1965));
        let (hour, day) = (60, 24 * 60);
        let cases = [
            ("waits", request(day - 1, "", None), false),
            ("waited too long", request(day + 1, "", None), true),
            ("just denied", request(hour - 1, "Denied", None), false),
            ("denied", request(hour + 1, "Denied", None), true),
            ("failed", request(hour + 1, "Failed", None), true),
            ("approved, not signed", request(hour + 1, "Approved", None), false),
            ("approved, never signed", request(day + 1, "Approved", None), true),
            ("just signed", request(hour - 1, "Approved", Some(&good)), false),
            ("signed", request(hour + 1, "Approved", Some(&good)), true),
            (
                "its certificate has ended",
                request(1, "Approved", Some(&ended)),
                true,
            ),
        ];
        for (what, request, wanted) in cases {
            assert_eq!(over(&request, Timestamp::UNIX_EPOCH), wanted, "{what}");
        }
    }
}
