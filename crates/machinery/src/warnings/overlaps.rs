//! Warnings of files in a volume that are in each other's way: one path twice, or one below another.

use crate::walk::At;
use serde_json::Value;

/// A path, and what it comes from when that is told.
type Item = (String, String);

/// What is told of the volumes of a Pod.
pub(super) fn of(volumes: &[Value]) -> Vec<String> {
    let mut out = Vec::new();
    for volume in volumes {
        let name = volume.str_at("name");
        for field in ["configMap", "secret", "downwardAPI"] {
            let source = volume
                .get(field)
                .filter(|source| !source.list_at("items").is_empty());
            let Some(source) = source else { continue };
            let what = match field {
                "configMap" => format!("ConfigMap {:?}", source.str_at("name")),
                "secret" => format!("Secret {:?}", source.str_at("secretName")),
                _ => "DownwardAPI".to_owned(),
            };
            let mut before = Vec::new();
            told(name, &what, items(source, ""), &mut before, &mut out);
        }
        let Some(projected) = volume.get("projected") else {
            continue;
        };
        // What was of a feature that is off has been taken out before, and leaves a source of nothing.
        let mut before = Vec::new();
        for source in projected.list_at("sources") {
            if source.as_object().is_some_and(|s| s.values().all(Value::is_null)) {
                out.push(format!("volume {name:?} (Projected) has no sources provided"));
                continue;
            }
            told(name, "Projected", projection(source), &mut before, &mut out);
        }
    }
    out
}

fn items(source: &Value, what: &str) -> Vec<Item> {
    let items = source.list_at("items").iter();
    items
        .map(|item| (item.str_at("path").to_owned(), what.to_owned()))
        .collect()
}

fn projection(source: &Value) -> Vec<Item> {
    let has = |field: &str| source.at(field).has("items");
    let name = |field: &str| source.at(field).str_at("name");
    if has("configMap") {
        items(
            source.at("configMap"),
            &format!("ConfigMap {:?}", name("configMap")),
        )
    } else if has("secret") {
        items(source.at("secret"), &format!("Secret {:?}", name("secret")))
    } else if has("downwardAPI") {
        items(source.at("downwardAPI"), "DownwardAPI")
    } else if source.has("serviceAccountToken") {
        let path = source.str_at("serviceAccountToken.path").to_owned();
        vec![(path, "ServiceAccountToken".to_owned())]
    } else if source.has("clusterTrustBundle") {
        let bundle = source.at("clusterTrustBundle");
        let field = if bundle.has("name") { "name" } else { "signerName" };
        let what = format!("ClusterTrustBundle {:?}", bundle.str_at(field));
        vec![(bundle.str_at("path").to_owned(), what)]
    } else {
        Vec::new()
    }
}

fn told(volume: &str, what: &str, items: Vec<Item>, before: &mut Vec<Item>, out: &mut Vec<String>) {
    let below = |a: &str, b: &str| {
        a.strip_prefix(b)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let shown = |(path, what): &Item| match what.is_empty() {
        true => format!("{path:?}"),
        false => format!("{path:?} ({what})"),
    };
    for (path, source) in items {
        let item = (path.trim_end_matches('/').to_owned(), source);
        let others = before
            .iter()
            .filter(|(other, _)| !other.is_empty() && !item.0.is_empty());
        for other in others.filter(|(other, _)| below(other, &item.0) || below(&item.0, other)) {
            let pair = format!("{} with {}", shown(&item), shown(other));
            out.push(format!("volume {volume:?} ({what}): overlapping paths: {pair}"));
        }
        before.push(item);
    }
}
