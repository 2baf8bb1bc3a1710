//! `/stats/summary`, `/metrics/resource`, `/podmetrics`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Body, Server, chunks, json as answer, text};
use crate::metrics;

/// Between two figures of a watch.
const PERIOD: Duration = Duration::from_secs(1);

/// The kubelet's summary.
pub async fn summary(server: &Server) -> Response<Body> {
    let pods = server.sampler.sample(server.pods.all()).await;
    answer(&metrics::summary(
        &server.context.config.node_name,
        &server.host.sample(),
        &pods,
    ))
}

/// Prometheus' figures.
pub async fn resource(server: &Server) -> Response<Body> {
    let pods = server.sampler.sample(server.pods.all()).await;
    text(
        http::StatusCode::OK,
        metrics::resource_metrics(&server.host.sample(), &pods),
    )
}

/// Figures of all Pods once, or once a second.
pub async fn pods(server: Arc<Server>, watch: bool) -> Response<Body> {
    if !watch {
        return answer(&Value::Array(figures(&server).await));
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
            let list = json!({
                "kind": "PodMetricsList",
                "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {},
                "items": figures(&server).await,
            });
            if sender.send(Bytes::from(format!("{list}\n"))).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(chunks(receiver));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn figures(server: &Server) -> Vec<Value> {
    let pods = server.sampler.sample(server.pods.all()).await;
    pods.iter()
        .map(|(view, sample)| metrics::pod_metrics(view, sample))
        .collect()
}
