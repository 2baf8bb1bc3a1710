//! Events that a reconciler says once, and again only after a while: sweeps come often, news does not.

use crate::obj::meta;
use crate::world::World;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same words about the same object are repeated after this time (upstream: the resync period of 15 seconds, and
/// the event correlator's rate beyond it).
const REPEAT: Duration = Duration::from_secs(60);

/// What was said about whom, and when.
#[derive(Default)]
pub(super) struct Teller(Mutex<HashMap<String, (String, Instant)>>);

impl Teller {
    /// Records an event unless it was recorded a moment ago.
    pub(super) async fn tell(
        &self,
        world: &World,
        about: &Value,
        warning: bool,
        reason: &str,
        message: &str,
    ) {
        self.tell_as(
            world,
            "persistentvolume-controller",
            about,
            warning,
            reason,
            message,
        )
        .await;
    }

    /// The same for another controller.
    pub(super) async fn tell_as(
        &self,
        world: &World,
        source: &str,
        about: &Value,
        warning: bool,
        reason: &str,
        message: &str,
    ) {
        let words = format!("{reason}: {message}");
        {
            let mut said = self.0.lock();
            said.retain(|_, (_, at)| at.elapsed() < REPEAT);
            if said
                .get(meta(about, "uid"))
                .is_some_and(|(last, _)| *last == words)
            {
                return;
            }
            said.insert(meta(about, "uid").to_string(), (words, Instant::now()));
        }
        world.event(source, about, warning, reason, message).await;
    }
}
