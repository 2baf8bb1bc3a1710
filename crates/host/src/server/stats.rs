//! `/pods`, `/stats/summary`, `/metrics` with its parts, `/podmetrics`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Body, Server, chunks, json as answer, text};
use crate::metrics::{self, prometheus, summary};
use crate::podvm::View;

/// Between two figures of a watch.
const PERIOD: Duration = Duration::from_secs(1);

/// The Pods of this host, those of a kind, as the agent knows them.
pub fn objects(server: &Server, wanted: fn(&View) -> bool) -> Response<Body> {
    let views = server.pods.all().into_iter().map(|pod| pod.view()).filter(wanted);
    let items: Vec<Value> = views.map(|view| json!(*view.pod)).collect();
    answer(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The kubelet's summary.
pub async fn summary(server: &Server) -> Response<Body> {
    let mut pods = server.sampler.sample(server.pods.all()).await;
    let config = &server.context.config;
    // Files are counted for those who ask for this, and not for every figure.
    let counted = pods.iter_mut().map(async |(view, sample)| {
        if let Some(reply) = metrics::files(view).await {
            sample.guest = Some(reply);
        }
    });
    futures::future::join_all(counted).await;
    let host = server.host.sample(&config.data_dir);
    answer(&summary::summary(
        &config.data_dir,
        &config.node_name,
        &host,
        server.context.deps.images.space().ok(),
        &pods,
    ))
}

/// Which of Prometheus' figures are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Family {
    /// `/metrics`: the agent itself, volumes, VMs.
    Agent,
    /// `/metrics/resource`.
    Resource,
    /// `/metrics/cadvisor`.
    Cadvisor,
    /// `/metrics/probes`.
    Probes,
}

/// Prometheus' figures.
pub async fn figures_of(server: &Server, family: Family) -> Response<Body> {
    let pods = server.sampler.sample(server.pods.all()).await;
    let config = &server.context.config;
    let host = || server.host.sample(&config.data_dir);
    let written = match family {
        Family::Agent => prometheus::agent(&config.node_name, &server.context.starts, &pods),
        Family::Resource => prometheus::resource(&host(), &pods),
        Family::Cadvisor => prometheus::cadvisor(&host(), config.capacity.cpu_millis, &pods),
        Family::Probes => server.context.probes.to_text(&server.pods.all()),
    };
    let mut response = text(http::StatusCode::OK, written);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

/// Figures of all Pods once, or once a second. The first ones may have the history of the last hour with them.
pub async fn pods(server: Arc<Server>, watch: bool, mut history: bool) -> Response<Body> {
    if !watch {
        return answer(&Value::Array(figures(&server, history).await));
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            let past = std::mem::take(&mut history);
            let figures = figures(&server, past).await;
            // With their past, figures are long: one Pod a line.
            let size = if past { 1 } else { figures.len().max(1) };
            for items in figures.chunks(size) {
                let list = json!({
                    "kind": "PodMetricsList",
                    "apiVersion": "metrics.k8s.io/v1beta1",
                    "metadata": {},
                    "items": items,
                });
                if sender.send(Bytes::from(format!("{list}\n"))).await.is_err() {
                    return;
                }
            }
        }
    });
    let mut response = Response::new(chunks(receiver));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn figures(server: &Server, history: bool) -> Vec<Value> {
    let pods = server.sampler.sample(server.pods.all()).await;
    let figures = pods.iter().map(|(view, sample)| {
        let mut figures = metrics::pod_metrics(view, sample);
        if history && let Some(history) = server.sampler.history(view) {
            figures["vm"]["history"] = history;
        }
        figures
    });
    figures.collect()
}
