//! Figures of the three APIs of metrics: `metrics.k8s.io` (served by the API server itself), `custom.metrics.k8s.io`
//! and `external.metrics.k8s.io` (of adapters, such as those of Prometheus and KEDA, behind an APIService).

use super::replicas::{Figure, Figures};
use crate::obj::{items, meta, text};
use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use kinds::quantity::Quantity;
use serde_json::Value;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// The window of a figure that names none.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Use of a resource by the Pods of a selector, or by one container of each.
///
/// # Errors
/// The API does not answer, or has nothing.
pub(super) async fn resource(
    world: &World,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Figures, String> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let found = world.read(&query(&path, &[("labelSelector", selector)])).await;
    let found = found.map_err(|e| {
        format!(
            "unable to fetch metrics from resource metrics API: {}",
            e.message()
        )
    })?;
    if items(&found, "/items").is_empty() {
        return Err("no metrics returned from resource metrics API".into());
    }
    let mut figures = Figures::new();
    for pod in items(&found, "/items") {
        let all = items(pod, "/containers").iter();
        let wanted: Vec<&Value> = all
            .filter(|c| container.is_none_or(|name| c["name"] == name))
            .collect();
        let values: Option<Vec<i64>> = wanted.iter().map(|c| milli(&c["usage"][resource])).collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            continue;
        };
        let figure = Figure {
            at: time(&pod["timestamp"]),
            window: text(pod, "/window").parse().unwrap_or(WINDOW),
            milli: values.iter().sum(),
        };
        figures.insert(meta(pod, "name").to_owned(), figure);
    }
    Ok(figures)
}

/// A custom metric of each Pod of a selector.
///
/// # Errors
/// The API is not there, does not answer, or has nothing.
pub(super) async fn of_pods(
    world: &World,
    namespace: &str,
    selector: &str,
    metric: &Value,
) -> Result<Figures, String> {
    let path = format!("namespaces/{namespace}/pods/*/{}", text(metric, "/name"));
    let terms = [
        ("labelSelector", selector),
        ("metricLabelSelector", &super::selector_text(metric)?),
    ];
    let found = ask(world, CUSTOM, "custom", &path, &terms).await?;
    let figures = items(&found, "/items").iter().filter_map(|item| {
        let seconds = item["windowSeconds"].as_i64();
        let figure = Figure {
            at: time(&item["timestamp"]),
            window: seconds.map_or(WINDOW, SignedDuration::from_secs),
            milli: milli(&item["value"])?,
        };
        Some((text(item, "/describedObject/name").to_owned(), figure))
    });
    Ok(figures.collect())
}

/// A custom metric of one object, in thousandths.
///
/// # Errors
/// The API is not there, does not answer, or has nothing.
pub(super) async fn of_object(
    world: &World,
    namespace: &str,
    object: &Value,
    metric: &Value,
) -> Result<i64, String> {
    let (kind, api, name) = (
        text(object, "/kind"),
        text(object, "/apiVersion"),
        text(object, "/name"),
    );
    let path = match (kind, api.contains('/')) {
        ("Namespace", false) => format!("namespaces/{namespace}/metrics/{}", text(metric, "/name")),
        _ => {
            let resource = crate::scale::resource(world, api, kind).await?;
            let group = match resource.group.is_empty() {
                true => String::new(),
                false => format!(".{}", resource.group),
            };
            let plural = &resource.plural;
            format!(
                "namespaces/{namespace}/{plural}{group}/{name}/{}",
                text(metric, "/name")
            )
        }
    };
    let terms = [("metricLabelSelector", &*super::selector_text(metric)?)];
    let found = ask(world, CUSTOM, "custom", &path, &terms).await?;
    let value = items(&found, "/items")
        .first()
        .and_then(|item| milli(&item["value"]));
    value.ok_or_else(|| "unable to fetch metrics from custom metrics API: the value is no quantity".into())
}

/// The sum of an external metric, in thousandths.
///
/// # Errors
/// The API is not there, does not answer, or has nothing.
pub(super) async fn external(world: &World, namespace: &str, metric: &Value) -> Result<i64, String> {
    let path = format!("namespaces/{namespace}/{}", text(metric, "/name"));
    let terms = [("labelSelector", &*super::selector_text(metric)?)];
    let found = ask(world, EXTERNAL, "external", &path, &terms).await?;
    let values = items(&found, "/items")
        .iter()
        .filter_map(|item| milli(&item["value"]));
    Ok(values.fold(0, i64::saturating_add))
}

async fn ask(
    world: &World,
    group: &str,
    name: &str,
    path: &str,
    terms: &[(&str, &str)],
) -> Result<Value, String> {
    let failed = |words: String| format!("unable to fetch metrics from {name} metrics API: {words}");
    let versions = world.read(&format!("/apis/{group}")).await;
    let versions = versions.map_err(|_| failed(format!("no {name} metrics API ({group}) registered")))?;
    let version = text(&versions, "/preferredVersion/groupVersion");
    let path = query(&format!("/apis/{version}/{path}"), terms);
    let found = world.read(&path).await.map_err(|e| failed(e.message()))?;
    match items(&found, "/items").is_empty() {
        true => Err(format!("no metrics returned from {name} metrics API")),
        false => Ok(found),
    }
}

fn query(path: &str, terms: &[(&str, &str)]) -> String {
    let given = terms.iter().filter(|(_, value)| !value.is_empty());
    let terms = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(given)
        .finish();
    format!("{path}?{terms}")
}

fn milli(quantity: &Value) -> Option<i64> {
    i64::try_from(Quantity::from_json(quantity).ok()?.as_milli()).ok()
}

fn time(value: &Value) -> Timestamp {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.unwrap_or(Timestamp::UNIX_EPOCH)
}
