//! Tells kubelets how long they may keep Secrets and ConfigMaps without asking: the longer the more nodes there are
//! (upstream's controller `ttl`). Our own hosts watch instead; others' may read it.

use crate::manager::Reconciler;
use crate::obj::{annotation, deleting};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

const NODES: &str = "nodes";
/// The annotation, in seconds.
const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// From how many nodes on which time counts, and below how many the one before it counts again.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 0, 0),
    (101, 90, 15),
    (501, 450, 30),
    (1001, 900, 60),
    (2001, 1800, 300),
];

/// The controller, with the step that counts now.
#[derive(Default)]
pub(crate) struct Ttl(Mutex<usize>);

/// The step that counts with so many nodes.
fn step(now: usize, nodes: usize) -> usize {
    let mut step = now;
    while step + 1 < STEPS.len() && nodes >= STEPS[step + 1].0 {
        step += 1;
    }
    while step > 0 && nodes < STEPS[step].1 {
        step -= 1;
    }
    step
}

#[async_trait]
impl Reconciler for Ttl {
    fn name(&self) -> &'static str {
        "ttl"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NODES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let nodes = world.all(NODES);
        let step = {
            let mut now = self.0.lock();
            *now = step(*now, nodes.len());
            *now
        };
        let wanted = STEPS[step].2.to_string();
        for node in nodes
            .iter()
            .filter(|n| annotation(n, TTL) != wanted && !deleting(n))
        {
            let mut next = (**node).clone();
            next["metadata"]["annotations"][TTL] = wanted.as_str().into();
            settled(world.update(NODES, node, &next).await)?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn many_nodes_wait_longer() {
        let mut now = 0;
        for (nodes, seconds) in [
            (1, 0),
            (100, 0),
            (101, 15),
            (95, 15),
            (89, 0),
            (3000, 300),
            (1700, 60),
            (10, 0),
        ] {
            now = super::step(now, nodes);
            assert_eq!(super::STEPS[now].2, seconds, "{nodes}");
        }
    }
}
