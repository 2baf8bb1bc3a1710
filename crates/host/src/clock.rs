//! The clocks: whether somebody sets the host's, and how the guests' follow it.
//!
//! Whatever waits here waits by the monotonic clock. What must look again when the wall clock jumps (guests' clocks, the
//! life of tokens) subscribes to [`Clock`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use guest_api::GuestClient;
use guest_api::v1::ClockRequest;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks at the host's clock.
const LOOK: Duration = Duration::from_secs(5);
/// A clock that is adjusted gradually differs by some milliseconds in that time; more is a step.
const STEP: Duration = Duration::from_millis(500);
/// Between two looks at a guest's clock.
const GUEST_LOOK: Duration = Duration::from_secs(60);
/// How long a guest may take to tell its time.
const CALL: Duration = Duration::from_secs(30);
/// A guest's clock may differ by this much, beyond what the call leaves in doubt.
const TOLERANCE: Duration = Duration::from_millis(100);

/// Tells when the host's clock was set.
#[derive(Debug)]
pub struct Clock(watch::Sender<u64>);

impl Default for Clock {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Clock {
    /// Changes with each step of the clock.
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// Looks at the clock for as long as it is polled.
    pub async fn watch(&self) {
        let mut before = (Instant::now(), SystemTime::now());
        loop {
            tokio::time::sleep(LOOK).await;
            let now = (Instant::now(), SystemTime::now());
            let step = step(before.1, now.1, now.0 - before.0);
            if step > STEP {
                tracing::warn!(seconds = step.as_secs_f64(), "the host's clock was set");
                self.0.send_modify(|steps| *steps += 1);
            }
            before = now;
        }
    }
}

/// By how much a clock is not where it should be after this time.
fn step(before: SystemTime, now: SystemTime, passed: Duration) -> Duration {
    now.duration_since(before + passed)
        .unwrap_or_else(|early| early.duration())
}

/// Keeps a guest's clock with the host's for as long as it is polled: at once, every minute, and when the host's is set.
pub async fn keep(client: GuestClient, mut steps: watch::Receiver<u64>) {
    steps.mark_unchanged();
    let mut ticks = tokio::time::interval(GUEST_LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = steps.changed() => {}
        }
        // The next look tries again.
        match tokio::time::timeout(CALL, correct(client.clone())).await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => tracing::debug!(%status, "a guest's clock"),
            Err(_) => tracing::debug!("a guest does not tell its time"),
        }
    }
}

async fn correct(mut client: GuestClient) -> Result<(), tonic::Status> {
    let before = unix_ns();
    let reply = client.clock(ClockRequest { step_ns: 0 }).await?.into_inner();
    let after = unix_ns();
    let step_ns = error(before, reply.unix_time_ns, after);
    if step_ns != 0 {
        tracing::info!(
            seconds = step_ns as f64 / 1e9,
            "a guest's clock is moved to the host's"
        );
        client.clock(ClockRequest { step_ns }).await?;
    }
    Ok(())
}

/// How far a clock is behind that told `guest` some time between `before` and `after`; 0 if it may be right. Nanoseconds.
fn error(before: i64, guest: i64, after: i64) -> i64 {
    let doubt = after.saturating_sub(before).saturating_abs() / 2;
    let behind = before.saturating_add(doubt).saturating_sub(guest);
    let tolerance = i64::try_from(TOLERANCE.as_nanos()).unwrap_or(i64::MAX);
    if behind.saturating_abs() > doubt.saturating_add(tolerance) {
        behind
    } else {
        0
    }
}

fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_doubt_is_corrected() {
        const MS: i64 = 1_000_000;
        for (before, guest, after, expected) in [
            (0, 5 * MS, 10 * MS, 0),
            (0, 90 * MS, 10 * MS, 0),
            (0, 205 * MS, 10 * MS, -200 * MS),
            (3_600_000 * MS, 0, 3_600_000 * MS, 3_600_000 * MS),
            // A call that takes a second says little.
            (0, 1050 * MS, 1000 * MS, 0),
            (0, i64::MAX, 0, -i64::MAX),
        ] {
            assert_eq!(error(before, guest, after), expected, "{before} {guest} {after}");
        }
    }

    #[test]
    fn steps_are_seen_and_the_passing_of_time_is_none() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        for (now, passed, expected) in [(5, 5, 0), (3605, 5, 3600), (0, 3600, 3600), (100, 100, 0)] {
            let step = step(at(0), at(now), Duration::from_secs(passed));
            assert_eq!(step, Duration::from_secs(expected), "{now} after {passed}");
        }
    }
}
