//! The trust anchors of the API server as a ClusterTrustBundle, for projected volumes (KEP-3257: the publisher of
//! `kubernetes.io/kube-apiserver-serving`).

use crate::manager::{Config, Reconciler};
use crate::obj::{meta, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const BUNDLES: &str = "clustertrustbundles.certificates.k8s.io";
const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
/// Bytes of the hash in the name.
const HASH: usize = 12;

/// The publisher.
pub(crate) struct Anchors(pub(crate) Arc<Config>);

/// The signer's prefix and a hash: other anchors make another bundle, and the old one goes when the new one is there.
fn name(anchors: &str) -> String {
    let mut name = SIGNER.replace('/', ":") + ":";
    for byte in Sha256::digest(anchors).iter().take(HASH) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[async_trait]
impl Reconciler for Anchors {
    fn name(&self) -> &'static str {
        "kube-apiserver-serving-clustertrustbundle-publisher"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[BUNDLES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let wanted = name(&self.0.root_ca_pem);
        if world.get(BUNDLES, "", &wanted).is_none() {
            let bundle = json!({
                "apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
                "metadata": {"name": wanted},
                "spec": {"signerName": SIGNER, "trustBundle": self.0.root_ca_pem},
            });
            settled(world.create(BUNDLES, &bundle).await)?;
        }
        for bundle in world.all(BUNDLES) {
            if text(&bundle, "/spec/signerName") == SIGNER && meta(&bundle, "name") != wanted {
                settled(world.delete(BUNDLES, &bundle, "Background").await)?;
            }
        }
        Ok(None)
    }
}
