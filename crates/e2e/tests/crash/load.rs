//! Clients that write, read and watch, and note all of it; they go on through every crash of the server.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions, WatchEvent, WatchParams,
};

use crate::history::{Answer, Call, Change, Event, Moment, Wish, value};

/// Keys that all writers share.
const KEYS: u64 = 24;
/// Marks what belongs to the run.
const LABEL: (&str, &str) = ("part-of", "history");
/// How long a client waits after a call that was not answered.
const PAUSE: Duration = Duration::from_millis(20);

/// What the clients share.
pub struct Load {
    pub stop: AtomicBool,
    /// Writes that were answered.
    pub answered: AtomicU64,
    start: Instant,
    calls: Mutex<Vec<Call>>,
    /// The latest revision of each key that somebody knows; none when it is gone. A hint, nothing more.
    hints: Mutex<HashMap<String, Option<u64>>>,
}

/// Numbers that look random; each client has its own.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn revision(map: &ConfigMap) -> Option<u64> {
    map.metadata.resource_version.as_deref()?.parse().ok()
}

fn content(map: &ConfigMap) -> String {
    let value = map.data.as_ref().and_then(|data| data.get("value"));
    value.cloned().unwrap_or_default()
}

fn object(key: &str, value: &str, at: Option<u64>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(key.to_owned()),
            resource_version: at.map(|at| at.to_string()),
            labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// An error as an answer: refused when the server has said so for sure.
fn failure(error: &kube::Error) -> Answer {
    match error {
        kube::Error::Api(status) if (400..500).contains(&status.code) => {
            Answer::Refused(format!("{} {}", status.code, status.message))
        }
        _ => Answer::Unknown,
    }
}

impl Load {
    /// Nothing has happened yet.
    pub fn new() -> Arc<Load> {
        Arc::new(Load {
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            start: Instant::now(),
            calls: Mutex::default(),
            hints: Mutex::default(),
        })
    }

    fn now(&self) -> Moment {
        // Never 0, which means "unknown" in the history.
        self.start.elapsed().as_nanos() as u64 + 1
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().map(|calls| calls.clone()).unwrap_or_default()
    }

    fn hint(&self, key: &str) -> Option<u64> {
        self.hints.lock().ok()?.get(key).copied().flatten()
    }

    fn note(&self, call: Call) {
        let known = match (&call.wish, &call.answer) {
            (Wish::Delete(_), Answer::Written(_)) => Some(None),
            (_, Answer::Written(revision)) => Some(*revision),
            (_, Answer::Seen(seen)) => Some(seen.as_ref().map(|(revision, _)| *revision)),
            _ => None,
        };
        if let (Some(known), Ok(mut hints)) = (known, self.hints.lock()) {
            hints.insert(call.key.clone(), known);
        }
        if let Ok(mut calls) = self.calls.lock() {
            calls.push(call);
        }
    }

    /// Writes and reads until `stop`.
    pub async fn write(self: Arc<Self>, api: Api<ConfigMap>, writer: u64, seed: u64) {
        let mut random = Random(seed.wrapping_add(writer.wrapping_mul(0x9e37_79b9)) | 1);
        for number in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("key-{}", random.below(KEYS));
            let text = value(&format!("w{writer}-{number}"));
            let dice = random.below(100);
            let wish = match self.hint(&key) {
                _ if dice < 25 => Wish::Read,
                None => Wish::Create(text),
                Some(at) if dice < 85 => Wish::Update(text, at),
                Some(at) => Wish::Delete(at),
            };
            let answer = self.call(&api, &key, wish).await;
            match answer {
                Answer::Unknown => tokio::time::sleep(PAUSE).await,
                // Somebody was faster, or the hint was wrong: look.
                Answer::Refused(_) => drop(self.call(&api, &key, Wish::Read).await),
                Answer::Written(_) => drop(self.answered.fetch_add(1, Ordering::Relaxed)),
                Answer::Seen(_) => {}
            }
        }
    }

    async fn call(&self, api: &Api<ConfigMap>, key: &str, wish: Wish) -> Answer {
        let begin = self.now();
        let answer = match &wish {
            Wish::Create(value) => api
                .create(&PostParams::default(), &object(key, value, None))
                .await
                .map(|map| Answer::Written(revision(&map))),
            Wish::Update(value, at) => api
                .replace(key, &PostParams::default(), &object(key, value, Some(*at)))
                .await
                .map(|map| Answer::Written(revision(&map))),
            Wish::Delete(at) => {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions {
                        resource_version: Some(at.to_string()),
                        uid: None,
                    }),
                    ..DeleteParams::default()
                };
                api.delete(key, &parameters).await.map(|_| Answer::Written(None))
            }
            Wish::Read => api
                .get_opt(key)
                .await
                .map(|map| Answer::Seen(map.and_then(|map| Some((revision(&map)?, content(&map)))))),
        };
        let answer = answer.unwrap_or_else(|error| failure(&error));
        self.note(Call {
            key: key.to_owned(),
            wish,
            begin,
            end: self.now(),
            answer: answer.clone(),
        });
        answer
    }

    /// Watches from the empty beginning until the revision that `until` holds in the end; resumes after every break.
    pub async fn watch(
        self: Arc<Self>,
        api: Api<ConfigMap>,
        mut from: u64,
        until: tokio::sync::watch::Receiver<u64>,
    ) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let parameters = WatchParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        loop {
            if from >= *until.borrow() {
                return Ok(events);
            }
            let Ok(stream) = api.watch(&parameters, &from.to_string()).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let mut stream = pin!(stream);
            while from < *until.borrow() {
                let next = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
                // A pause is no end; it only lets this loop look at its goal.
                let Ok(next) = next else { continue };
                let (change, map) = match next {
                    Some(Ok(WatchEvent::Added(map))) => (Change::Added, map),
                    Some(Ok(WatchEvent::Modified(map))) => (Change::Modified, map),
                    Some(Ok(WatchEvent::Deleted(map))) => (Change::Deleted, map),
                    Some(Ok(WatchEvent::Bookmark(_))) => continue,
                    Some(Ok(WatchEvent::Error(status))) if status.code == 410 => {
                        bail!("a watcher cannot resume at revision {from}: {}", status.message)
                    }
                    _ => break,
                };
                let revision = revision(&map).context("an event without revision")?;
                events.push(Event {
                    change,
                    key: map.metadata.name.clone().unwrap_or_default(),
                    revision,
                    value: content(&map),
                });
                from = revision;
            }
        }
    }
}

/// The revision of the empty beginning.
pub async fn beginning(api: &Api<ConfigMap>) -> Result<u64> {
    let list = api
        .list(&ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1)))
        .await?;
    ensure!(list.items.is_empty(), "something is there before the beginning");
    Ok(list.metadata.resource_version.unwrap_or_default().parse()?)
}

/// A last write, by which watchers know that they have seen all; answers its revision. Each attempt has a name of its own: one
/// that was not answered may have been done.
pub async fn ending(load: &Load, api: &Api<ConfigMap>, attempt: u32) -> Result<u64> {
    let name = format!("ending-{attempt}");
    match load.call(api, &name, Wish::Create(value(&name))).await {
        Answer::Written(Some(revision)) => Ok(revision),
        other => bail!("the last write was answered by {other:?}"),
    }
}
