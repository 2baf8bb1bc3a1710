//! Signs approved CertificateSigningRequests for the signers of upstream: clients of the API server, host agents, and the
//! servers of host agents. The key stays with whoever started the controllers; they see a [`Signer`] only.

use super::{CLIENT, HOST_CLIENT, HOST_SERVER, REQUESTS, Wish, is, issued};
use crate::concern::Concern;
use crate::manager::{Config, Reconciler};
use crate::obj::{int, items, set_condition, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use base64::Engine;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Life of a certificate at most, and by default.
const YEAR: i64 = 365 * 24 * 3600;

/// Who holds the authority's key.
pub trait Signer: Send + Sync + Debug {
    /// Signs a PEM certificate request for some usages (`client auth`, `digital signature`, …) and a life; answers the PEM
    /// certificate.
    ///
    /// # Errors
    /// Why the request cannot be signed.
    fn sign(&self, request_pem: &str, usages: &[String], life: Duration) -> Result<String, String>;
}

/// The controller.
pub(crate) struct Certificates {
    config: Arc<Config>,
    requests: Concern,
}

impl Certificates {
    /// Has the signer of this configuration sign.
    pub(crate) fn new(config: Arc<Config>) -> Certificates {
        let requests = Concern::new(REQUESTS, &[]);
        Certificates { config, requests }
    }

    async fn one(&self, world: &World, request: &Value) -> Result<(), WorldError> {
        let name = text(request, "/spec/signerName");
        let Some(signer) = &self.config.signer else {
            return Ok(());
        };
        if ![CLIENT, HOST_CLIENT, HOST_SERVER].contains(&name)
            || issued(request)
            || is(request, "Denied")
            || is(request, "Failed")
            || !is(request, "Approved")
        {
            return Ok(());
        }
        let life = int(request, "/spec/expirationSeconds", YEAR).clamp(600, YEAR);
        let signed = Wish::of(request).and_then(|wish| {
            wish.fits(name)?;
            let pem = base64::engine::general_purpose::STANDARD
                .decode(text(request, "/spec/request"))
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| "the request is no PEM text".to_owned())?;
            signer.sign(&pem, &wish.usages, Duration::from_secs(life.unsigned_abs()))
        });
        let mut status = request["status"].clone();
        match signed {
            Ok(certificate) => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
                status["certificate"] = json!(encoded);
            }
            Err(why) => {
                let mut conditions = items(request, "/status/conditions").to_vec();
                let reason = "SignerValidationFailure";
                set_condition(
                    &mut conditions,
                    "Failed",
                    "True",
                    reason,
                    &why,
                    Some("lastUpdateTime"),
                );
                status["conditions"] = json!(conditions);
            }
        }
        settled(world.update_status(REQUESTS, request, &status).await).map(|_| ())
    }
}

#[async_trait]
impl Reconciler for Certificates {
    fn name(&self) -> &'static str {
        "certificate signing"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.requests]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.requests.begin(world);
        while let Some(request) = round.next(world) {
            round.note(self.one(world, &request).await.map(|()| None));
        }
        round.end()
    }
}
