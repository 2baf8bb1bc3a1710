//! CronJobs: Jobs made by the clock.
//!
//! The Job of a time is named after it (minutes since 1970), so that the same time never makes two.

mod schedule;

use crate::concern::{By, Concern};
use crate::job::ended;
use crate::manager::Reconciler;
use crate::obj::{controlled_by, deleting, int, items, meta, owner_ref, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Uid;
use jiff::Timestamp;
use schedule::{Schedule, ScheduleError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const CRONS: &str = "cronjobs.batch";
const JOBS: &str = "jobs.batch";
const SOURCE: &str = "cronjob-controller";

/// The controller of CronJobs.
pub(crate) struct CronJobs(Concern);

impl Default for CronJobs {
    fn default() -> CronJobs {
        CronJobs(Concern::new(CRONS, &[(JOBS, &[By::Owner])]))
    }
}

/// The Job of a time.
fn job_of(cron: &Value, at: Timestamp) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let mut metadata = json!({
        "name": format!("{}-{}", meta(cron, "name"), at.as_second() / 60), "namespace": meta(cron, "namespace"),
        "ownerReferences": [owner_ref(cron)],
    });
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] =
        json!(schedule::in_zone(at, text(cron, "/spec/timeZone")));
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]})
}

fn reference(job: &Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "name": meta(job, "name"), "namespace": meta(job, "namespace"),
        "uid": meta(job, "uid"), "resourceVersion": meta(job, "resourceVersion")})
}

impl CronJobs {
    async fn one(&self, world: &World, cron: &Value) -> Result<Option<Duration>, WorldError> {
        let jobs = world.owned(JOBS, Uid::of(meta(cron, "uid")));
        let mut jobs: Vec<_> = jobs.iter().map(|job| world.value(job)).collect();
        jobs.retain(|j| controlled_by(j, meta(cron, "uid")));
        self.miss(world, cron, &jobs).await;
        let mut status = cron["status"].as_object().cloned().unwrap_or_default();
        self.settle_ended(world, cron, &jobs, &mut status).await?;
        self.trim(world, cron, &jobs).await;
        // Only what the schedule has made: a Job that somebody else made from the template runs beside it.
        let mut active = items(cron, "/status/active").to_vec();
        active.retain(|a| {
            let same = |j: &&Arc<Value>| a["uid"] == meta(j, "uid");
            jobs.iter().find(same).is_some_and(|j| ended(j).is_none())
        });
        for job in jobs.iter().filter(|j| ended(j).is_none()) {
            if !active.iter().any(|a| a["uid"] == meta(job, "uid")) {
                let name = meta(job, "name");
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                world.event(SOURCE, cron, true, "UnexpectedJob", &message).await;
            }
        }
        let wake = match self.clock(world, cron, &mut active, &mut status).await {
            Ok(wake) => wake,
            Err(e) if e.names("NamespaceTerminating") => None,
            Err(e) => {
                let message = format!("Error creating job: {}", e.message());
                world.event(SOURCE, cron, true, "FailedCreate", &message).await;
                Some(Duration::from_secs(10))
            }
        };
        match active.is_empty() {
            true => drop(status.remove("active")),
            false => drop(status.insert("active".into(), json!(active))),
        }
        settled(world.update_status(CRONS, cron, &Value::Object(status)).await)?;
        Ok(wake)
    }

    /// Says which Jobs were active at the last look and are no more.
    async fn miss(&self, world: &World, cron: &Value, jobs: &[Arc<Value>]) {
        for active in items(cron, "/status/active") {
            let name = text(active, "/name");
            let is_child = jobs.iter().any(|j| meta(j, "uid") == text(active, "/uid"));
            // One of the same name that is another's is there, too.
            if !is_child && world.get(JOBS, meta(cron, "namespace"), name).is_none() {
                let message = format!("Active job went missing: {name}");
                world.event(SOURCE, cron, false, "MissingJob", &message).await;
            }
        }
    }

    /// Says which Jobs ended since the last look.
    async fn settle_ended(
        &self,
        world: &World,
        cron: &Value,
        jobs: &[Arc<Value>],
        status: &mut serde_json::Map<String, Value>,
    ) -> Result<(), WorldError> {
        let was_active = |j: &Value| {
            items(cron, "/status/active")
                .iter()
                .any(|a| a["uid"] == meta(j, "uid"))
        };
        for job in jobs {
            let Some(end) = ended(job) else { continue };
            if end["type"] == "Complete" {
                let at = job["status"]["completionTime"].clone();
                let known = status
                    .get("lastSuccessfulTime")
                    .and_then(Value::as_str)
                    .unwrap_or("");
                if at.as_str().is_some_and(|at| at > known) {
                    status.insert("lastSuccessfulTime".into(), at);
                }
            }
            if was_active(job) {
                let message = format!(
                    "Saw completed job: {}, condition: {}",
                    meta(job, "name"),
                    text(end, "/type")
                );
                world
                    .event(SOURCE, cron, false, "SawCompletedJob", &message)
                    .await;
            }
        }
        Ok(())
    }

    /// Removes the oldest ended Jobs beyond the limits of the history.
    async fn trim(&self, world: &World, cron: &Value, jobs: &[Arc<Value>]) {
        for (kind, field, or) in [
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ] {
            let limit = usize::try_from(int(cron, &format!("/spec/{field}"), or)).unwrap_or(0);
            let mut done: Vec<_> = jobs
                .iter()
                .filter(|j| !deleting(j) && ended(j).is_some_and(|c| c["type"] == kind))
                .collect();
            done.sort_by_key(|j| {
                (
                    text(j, "/status/startTime").to_string(),
                    meta(j, "name").to_string(),
                )
            });
            for job in done.iter().take(done.len().saturating_sub(limit)) {
                let _ = self.remove(world, cron, job).await;
            }
        }
    }

    /// Deletes a Job and says so, or why not.
    async fn remove(&self, world: &World, cron: &Value, job: &Value) -> Result<(), WorldError> {
        let deleted = world.delete(JOBS, job, "Background").await;
        let (failed, reason, message) = match &deleted {
            Ok(()) => (
                false,
                "SuccessfulDelete",
                format!("Deleted job {}", meta(job, "name")),
            ),
            Err(e) => (true, "FailedDelete", format!("Deleted job: {}", e.message())),
        };
        world.event(SOURCE, cron, failed, reason, &message).await;
        deleted
    }

    /// Makes the Job of the latest time that has come, and says when the next one will.
    async fn clock(
        &self,
        world: &World,
        cron: &Value,
        active: &mut Vec<Value>,
        status: &mut serde_json::Map<String, Value>,
    ) -> Result<Option<Duration>, WorldError> {
        if deleting(cron) || cron["spec"]["suspend"] == true {
            return Ok(None);
        }
        let schedule = match Schedule::parse(text(cron, "/spec/schedule"), text(cron, "/spec/timeZone")) {
            Ok(schedule) => schedule,
            Err(error @ ScheduleError::Zone(_)) => {
                let zone = text(cron, "/spec/timeZone");
                let message = format!("invalid timeZone: {zone:?}: {error}");
                world.event(SOURCE, cron, true, "UnknownTimeZone", &message).await;
                return Ok(None);
            }
            Err(error) => {
                let message = format!(
                    "unparseable schedule: {:?} : {error}",
                    text(cron, "/spec/schedule")
                );
                world
                    .event(SOURCE, cron, true, "UnparseableSchedule", &message)
                    .await;
                return Ok(None);
            }
        };
        let now = Timestamp::now();
        let Some(next) = schedule.next(now) else {
            let message = format!(
                "invalid schedule: {} : time difference between two schedules is less than 1 second",
                text(cron, "/spec/schedule")
            );
            world.event(SOURCE, cron, true, "InvalidSchedule", &message).await;
            return Ok(None);
        };
        let wait = Some(next.duration_since(now).unsigned_abs() + Duration::from_millis(50));
        let deadline = cron["spec"]["startingDeadlineSeconds"].as_i64();
        let begin = |t: &str| t.parse::<Timestamp>().ok();
        let Some(mut after) =
            begin(text(cron, "/status/lastScheduleTime")).or_else(|| begin(meta(cron, "creationTimestamp")))
        else {
            return Ok(wait);
        };
        if let Some(earliest) =
            deadline.and_then(|d| now.checked_sub(jiff::SignedDuration::from_secs(d)).ok())
        {
            after = after.max(earliest);
        }
        let (Some(at), many) = schedule.latest(after, now) else {
            return Ok(wait);
        };
        if many {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            world
                .event(SOURCE, cron, true, "TooManyMissedTimes", message)
                .await;
        }
        match text(cron, "/spec/concurrencyPolicy") {
            "Forbid" if !active.is_empty() => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                world
                    .event(SOURCE, cron, false, "JobAlreadyActive", message)
                    .await;
                return Ok(wait);
            }
            "Replace" => {
                for running in active.drain(..) {
                    if let Some(job) = world.get(JOBS, meta(cron, "namespace"), text(&running, "/name")) {
                        self.remove(world, cron, &job).await?;
                    }
                }
            }
            _ => {}
        }
        let wanted = job_of(cron, at);
        match world.create(JOBS, &wanted).await {
            Ok(job) => {
                let message = format!("Created job {}", meta(&job, "name"));
                world
                    .event(SOURCE, cron, false, "SuccessfulCreate", &message)
                    .await;
                active.push(reference(&job));
            }
            // Made by an earlier round whose status was not written, or by somebody else.
            Err(e) if e.code() == 409 => {
                let name = meta(&wanted, "name");
                let known = world.get(JOBS, meta(cron, "namespace"), name);
                let known = known.filter(|job| controlled_by(job, meta(cron, "uid")));
                active.extend(
                    known
                        .filter(|job| ended(job).is_none())
                        .map(|job| reference(&job)),
                );
            }
            Err(e) => return Err(e),
        }
        status.insert("lastScheduleTime".into(), json!(at.to_string()));
        Ok(wait)
    }
}

#[async_trait]
impl Reconciler for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(cron) = round.next(world) {
            round.note(self.one(world, &cron).await);
        }
        round.end()
    }
}
