//! What the server writes by itself because others have written: an IPAddress for every address of a Service, the state
//! of ServiceCIDRs, the checked types of policies, whether FlowSchemas lead anywhere. One loop, woken by every change, that looks only at what has changed.

use crate::admission::policy::typecheck;
use crate::alloc::addresses;
use crate::flow;
use crate::server::ApiServer;
use crate::view::{GroupResource, View};
use std::sync::Arc;

/// Starts the loop.
pub fn start(server: &Arc<ApiServer>) {
    tokio::spawn(run(server.clone()));
}

async fn run(server: Arc<ApiServer>) {
    let mut applied = server.caches.subscribe();
    let sources = [
        GroupResource::new("", "services"),
        GroupResource::new("networking.k8s.io", "servicecidrs"),
        GroupResource::new("networking.k8s.io", "ipaddresses"),
        GroupResource::new("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        GroupResource::new("flowcontrol.apiserver.k8s.io", "flowschemas"),
        GroupResource::new("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ];
    let mut seen = [u64::MAX; 6];
    let mut follower = addresses::Follower::default();
    loop {
        for (i, source) in sources.iter().enumerate() {
            let changed = server.caches.resource_revision(source);
            if std::mem::replace(&mut seen[i], changed) == changed {
                continue;
            }
            if matches!(i, 0 | 2) {
                follower.settle(&server).await;
            }
            match i {
                0 => {}
                // A range that goes waits for the last of its addresses.
                1 | 2 => addresses::settle_ranges(&server).await,
                3 => typecheck::settle_all(&server).await,
                _ => flow::settle(&server).await,
            }
        }
        tokio::select! {
            () = server.stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}
