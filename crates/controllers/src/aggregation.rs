//! ClusterRoles with an `aggregationRule`: their `rules` are those of the roles their selectors match.
//!
//! The authorizer follows the rule by itself; what is written here is for people and tools that read the role.

use crate::claim::Sweep;
use crate::manager::Reconciler;
use crate::obj::{deleting, items, meta};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
/// Who has the rules, by upstream's name.
const MANAGER: &str = "clusterrole-aggregation-controller";

/// The controller of aggregated roles.
pub(crate) struct ClusterRoles;

/// The rules of all roles that `role` aggregates, in order of their names, each rule once.
pub(crate) fn rules(role: &Value, all: &[Arc<Value>]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in items(role, "/aggregationRule/clusterRoleSelectors") {
        let Ok(selector) = LabelSelector::from_json(selector) else {
            continue;
        };
        for other in all
            .iter()
            .filter(|o| meta(o, "name") != meta(role, "name") && selector.matches_object(o))
        {
            for rule in items(other, "/rules") {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[async_trait]
impl Reconciler for ClusterRoles {
    fn name(&self) -> &'static str {
        "clusterrole aggregation"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[ROLES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let all = world.all(ROLES);
        let mut sweep = Sweep::default();
        for role in all
            .iter()
            .filter(|r| r["aggregationRule"].is_object() && !deleting(r))
        {
            let wanted = rules(role, &all);
            if items(role, "/rules") != wanted {
                // Applied, so that whoever applies rules to it is told whose they are.
                let mine = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                    "metadata": {"name": meta(role, "name")}, "rules": wanted});
                sweep.note(settled(world.apply(ROLES, &mine, MANAGER).await).map(|_| None));
            }
        }
        sweep.outcome()
    }
}
