//! `/containerLogs`: a run's log from its file, with the kubelet's words for what cannot be had
//! (`validateContainerLogStatus`).

use std::time::Duration;

use bytes::Bytes;
use guest_api::v1::ListContainersRequest;
use http::header::{CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::streaming::{Carrier, upgrade};
use super::{Body, Query, Refusal, Server, chunks};
use crate::logs::{Options, Progress, Source, read};
use crate::podvm::PodVm;
use crate::podvm::record::State;
use crate::status::waiting_reason;
use crate::streams::websocket;

/// For how long a new run may say nothing before its log is shown as empty.
const YOUNG: Duration = Duration::from_secs(1);
/// For how long a log is waited for at all.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Answers a request for a log.
pub async fn logs(
    server: &Server,
    query: &Query,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let found = server.pod(namespace, pod)?;
    let view = found.view();
    let record = view
        .record(container)
        .ok_or_else(|| Refusal::missing(format!("container \"{container}\" not found in pod \"{pod}\"")))?;
    let mut options = options(query)?;
    // Of a Pod without a VM nothing more will come.
    options.follow &= view.machine.is_some() && !query.flag("previous");
    let run = if query.flag("previous") {
        if record.last.is_none() || record.runs == 0 {
            return Err(Refusal::bad(format!(
                "previous terminated container \"{container}\" in pod \"{pod}\" not found"
            )));
        }
        // While a restart waits, the run before is the latest that began.
        match record.state {
            State::Waiting { .. } => record.runs - 1,
            _ => record.runs.saturating_sub(2),
        }
    } else {
        match &record.state {
            State::Waiting { reason, .. } | State::Starting { reason, .. } if record.last.is_none() => {
                let words = match waiting_reason(&view.records, reason) {
                    "ErrImagePull" => "image can't be pulled",
                    "ImagePullBackOff" => "trying and failing to pull image",
                    reason => reason,
                };
                return Err(Refusal::bad(format!(
                    "container \"{container}\" in pod \"{pod}\" is waiting to start: {words}"
                )));
            }
            State::Starting { .. } => record.runs.saturating_sub(2),
            _ => record.runs.saturating_sub(1),
        }
    };
    caught_up(&found, container, run).await;
    let receiver = read(
        found.logs.path(container, run),
        options,
        found.logs.progress(container, run),
    )
    .await;
    let receiver = match receiver {
        Ok(receiver) => receiver,
        // The run has begun and has not written yet: an empty log, unless it is to be followed from its start.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (_, empty) = mpsc::channel::<Bytes>(1);
            empty
        }
        Err(error) => {
            return Err(Refusal(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                format!("log of {container}: {error}"),
            ));
        }
    };
    Ok(receiver)
}

/// Waits a moment for what a run has written and the files do not have yet: whoever is told that a container runs, or has
/// ended, shall read what it wrote until then.
///
/// A kubelet looks for new containers once a second, so that whoever hears of one hears of it late, and its first words
/// are there; here they hear at once, and so a run that began just now is given that second for them.
async fn caught_up(pod: &PodVm, container: &str, run: u32) {
    let mut progress = pod.logs.progress(container, run);
    let view = pod.view();
    let (Some(record), Some(machine)) = (view.record(container), &view.machine) else {
        return;
    };
    let wait = async {
        let State::Running { id, .. } = &record.state else {
            // The run before this one, or the last.
            let _ = progress.wait_for(|progress| !progress.writing).await;
            return;
        };
        if run + 1 != record.runs {
            return;
        }
        let age = progress
            .borrow()
            .since
            .map_or(Duration::ZERO, |since| since.elapsed());
        let first = progress.wait_for(|progress| progress.records > 0 || progress.ended);
        let _ = tokio::time::timeout(YOUNG.saturating_sub(age), first).await;
        let Ok(mut client) = machine.guest.client().await else {
            return;
        };
        let Ok(list) = client.list_containers(ListContainersRequest {}).await else {
            return;
        };
        let written = list
            .into_inner()
            .containers
            .iter()
            .find(|known| known.id == *id)
            .map(|known| known.log_records);
        let done = |progress: &Progress| progress.ended || Some(progress.records) >= written;
        let _ = progress.wait_for(done).await;
    };
    // A guest that does not answer has its log read all the same.
    let _ = tokio::time::timeout(CATCH_UP, wait).await;
}

/// The log as the client wants it: as a body, or in messages of a WebSocket.
pub fn answer(
    receiver: mpsc::Receiver<Bytes>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if !request.headers().contains_key(UPGRADE) {
        let mut response = Response::new(chunks(receiver));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return Ok(response);
    }
    let (response, carrier) = upgrade(&request, |_| None, websocket::choose_reader)?;
    tokio::spawn(async move {
        if let (Ok(upgraded), Carrier::WebSocket(protocol)) = (hyper::upgrade::on(request).await, carrier) {
            websocket::send(TokioIo::new(upgraded), protocol, receiver).await;
        }
    });
    Ok(response)
}

fn options(query: &Query) -> Result<Options, Refusal> {
    let since_seconds: Option<i64> = query.number("sinceSeconds")?;
    let since_time: Option<Timestamp> = query.number("sinceTime")?;
    let since = match since_seconds {
        Some(seconds) => Timestamp::now()
            .checked_sub(jiff::SignedDuration::from_secs(seconds))
            .ok(),
        None => since_time,
    };
    Ok(Options {
        follow: query.flag("follow"),
        // The older name comes first.
        tail: match query.get("tail") {
            None | Some("") => query.number("tailLines")?,
            Some("all") => None,
            Some(_) => query.number("tail")?,
        },
        since,
        timestamps: query.flag("timestamps"),
        limit_bytes: query.number("limitBytes")?,
        source: match query.get("stream") {
            Some("Stdout") => Some(Source::Stdout),
            Some("Stderr") => Some(Source::Stderr),
            _ => None,
        },
    })
}
