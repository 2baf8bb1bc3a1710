//! The pieces of load: many clients with one request each at a time, lists, watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::task::{JoinHandle, JoinSet};

use super::client::Target;

/// How long the events of a bench may take to arrive.
const EVENTS_LIMIT: Duration = Duration::from_secs(120);

/// What request number `n` is.
pub type Make = Arc<dyn Fn(usize) -> (Method, String, Bytes) + Send + Sync>;

/// Sends requests `0..count` by `clients` connections, each with one request at a time; answers the latencies in ms.
pub async fn requests(target: &Target, clients: usize, count: usize, make: Make) -> Result<Vec<f64>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let mut client = target.connect().await?;
        let (next, make) = (next.clone(), make.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(latencies);
                }
                let (method, path, body) = make(number);
                let start = Instant::now();
                client.call(method, &path, body).await?;
                latencies.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

/// Lists `path` by `clients` at the same time; answers the bytes of one list.
pub async fn lists(target: &Target, clients: usize, path: &'static str) -> Result<usize> {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let mut client = target.connect().await?;
        tasks.spawn(async move { client.call(Method::GET, path, Bytes::new()).await });
    }
    let mut bytes = 0;
    while let Some(done) = tasks.join_next().await {
        bytes = done??;
    }
    Ok(bytes)
}

/// When each event of a watch arrived: the number at the end of the object's name, and the time.
pub type Arrivals = Vec<(usize, Instant)>;

/// Opens `count` watches on connections of their own, each of which ends after `events` events.
pub async fn watches(
    target: &Target,
    count: usize,
    path: &str,
    events: usize,
    name: &'static str,
) -> Result<Vec<JoinHandle<Result<Arrivals>>>> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let mut client = target.connect().await?;
        let response = client.open(Method::GET, path, Bytes::new()).await?;
        let reading = async move {
            // The connection lives as long as its client.
            let _client = client;
            let mut body = response.into_body();
            let mut arrived = Arrivals::with_capacity(events);
            let mut line = Vec::new();
            while arrived.len() < events {
                let frame = body.frame().await.context("the watch ended early")??;
                let now = Instant::now();
                let data = frame.data_ref().map_or(&[][..], |data| data);
                for part in data.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(part);
                    if part.last() == Some(&b'\n') {
                        arrived.push((number(&line, name).context("an event of something else")?, now));
                        line.clear();
                    }
                }
            }
            Ok(arrived)
        };
        tasks.push(tokio::spawn(async move {
            let read = tokio::time::timeout(EVENTS_LIMIT, reading).await;
            read.context("the events did not arrive in time")?
        }));
    }
    Ok(tasks)
}

/// The number in `"name":"PREFIX-NUMBER"`.
fn number(event: &[u8], prefix: &str) -> Option<usize> {
    let wanted = format!("\"name\":\"{prefix}-");
    let at = event
        .windows(wanted.len())
        .position(|window| window == wanted.as_bytes())?;
    let digits = event[at + wanted.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}
