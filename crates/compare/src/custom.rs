//! Custom kinds: a random definition is made for real on both servers, then objects of it are created, changed and applied,
//! and at last it is deleted. Every definition has a group of its own.

use crate::client::{Answer, Call, Pair};
use crate::parts::{APPLY, MERGE, difference};
use crate::report::Report;
use crate::structural::{self, chance, one};
use anyhow::{Context, Result};
use http::Method;
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Definitions at a time.
const ROUND: u64 = 6;
/// Objects of each definition.
const OBJECTS: u64 = 8;
/// How long a definition may take until it is served.
const SERVED_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at whether it is.
const LOOK: Duration = Duration::from_millis(40);
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Calls until the last that was answered, and both answers to that.
type Judged = (&'static str, Vec<Call>, (Answer, Answer));

/// Runs the cases.
pub async fn run(cases: u64, seed: u64, pair: &Arc<Pair>, report: &mut Report) -> Result<()> {
    let mut next = 0;
    while next < cases {
        let mut round = JoinSet::new();
        for number in next..cases.min(next + ROUND) {
            let pair = pair.clone();
            round.spawn(async move { (number, case(&pair, seed, number).await) });
        }
        next += ROUND;
        let mut done = round.join_all().await;
        done.sort_by_key(|(number, _)| *number);
        for (number, judged) in done {
            for (kind, calls, answers) in judged.with_context(|| format!("definition {number}"))? {
                report.judge("custom", kind, &calls, answers);
            }
        }
        eprintln!("custom: {} of {cases}", next.min(cases));
    }
    Ok(())
}

/// A definition and the objects of its kind.
async fn case(pair: &Pair, seed: u64, number: u64) -> Result<Vec<Judged>> {
    let mut random = StdRng::seed_from_u64(seed << 32 | 15 << 28 | number);
    let group = format!("g{seed}-{number}.compare.example.com");
    let definition = definition(&mut random, &group);
    let mut judged = Vec::new();
    let create = Call::json(Method::POST, DEFINITIONS, &definition);
    let answers = pair.call(&create).await?;
    let taken = answers.0.code < 300 && answers.1.code < 300;
    judged.push(("CustomResourceDefinition", vec![create.clone()], answers));
    let own = format!("{DEFINITIONS}/things.{group}");
    if taken {
        for (at, version) in definition["spec"]["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
        {
            let name = version["name"].as_str().unwrap_or_default();
            let place = match definition["spec"]["scope"] == "Namespaced" {
                true => format!("/apis/{group}/{name}/namespaces/default/things"),
                false => format!("/apis/{group}/{name}/things"),
            };
            served(pair, &own, &place).await?;
            let count = if at == 0 { OBJECTS } else { 2 };
            for object in 0..count {
                let name = format!("{name}-{object}");
                let calls = object_calls(&mut random, &create, version, &group, &place, &name);
                objects(pair, calls, &mut judged).await?;
            }
        }
        let changed = changed(&mut random, &definition);
        let mut call = Call::json(Method::PATCH, own.clone(), &difference(&definition, &changed));
        call.media = MERGE;
        let answers = pair.call(&call).await?;
        judged.push(("CustomResourceDefinition", vec![create, call], answers));
    }
    pair.call(&Call::json(Method::DELETE, own, &json!({}))).await?;
    Ok(judged)
}

/// Waits until both servers serve the objects of a definition.
async fn served(pair: &Pair, definition: &str, place: &str) -> Result<()> {
    let asking = async {
        loop {
            let (ours, theirs) = pair
                .call(&Call::json(Method::GET, definition, &Value::Null))
                .await?;
            let is_established = |answer: &Answer| {
                let all = answer.body["status"]["conditions"].as_array();
                let mut all = all.into_iter().flatten();
                all.any(|one| one["type"] == "Established" && one["status"] == "True")
            };
            if is_established(&ours) && is_established(&theirs) {
                let (ours, theirs) = pair.call(&Call::json(Method::GET, place, &Value::Null)).await?;
                if ours.code != 404 && theirs.code != 404 {
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let limit = tokio::time::timeout(SERVED_LIMIT, asking).await;
    limit.with_context(|| format!("{definition} is not served"))?
}

/// Calls about one object: it is made, then changed in some ways. The definition goes before them in what is told.
fn object_calls(
    random: &mut StdRng,
    definition: &Call,
    version: &Value,
    group: &str,
    place: &str,
    name: &str,
) -> Vec<Call> {
    let schema = &version["schema"]["openAPIV3Schema"];
    let api_version = format!("{group}/{}", version["name"].as_str().unwrap_or_default());
    let made = |random: &mut StdRng| {
        let mut object = structural::fields(random, schema);
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!("Thing");
        object["metadata"] = json!({"name": name});
        if chance(random, 5) {
            object["metadata"]["labels"] = json!({"a": "b", "-x": "?"});
        }
        object
    };
    let changed = |random: &mut StdRng, object: &Value| {
        let mut other = made(random);
        // Some stays as it was.
        for (field, part) in other["spec"].as_object_mut().into_iter().flatten() {
            let before = &object["spec"][field.as_str()];
            if !before.is_null() && chance(random, 60) {
                *part = before.clone();
            }
        }
        other
    };
    let mut object = made(random);
    let mut calls = vec![definition.clone()];
    if chance(random, 70) {
        let query = one(
            random,
            &["", "?fieldValidation=Strict", "?fieldValidation=Ignore"],
        );
        calls.push(Call::json(Method::POST, format!("{place}{query}"), &object));
    }
    for _ in 0..random.random_range(1..4) {
        let other = changed(random, &object);
        let at = format!("{place}/{name}");
        let status = chance(random, 20) && version["subresources"]["status"].is_object();
        let at = if status { format!("{at}/status") } else { at };
        let mut call = match random.random_range(0..3) {
            0 => Call::json(Method::PUT, at, &other),
            1 => {
                let mut call = Call::json(Method::PATCH, at, &difference(&object, &other));
                call.media = MERGE;
                call
            }
            _ => {
                let manager = one(random, &["one", "two"]);
                let force = chance(random, 40);
                let at = format!("{at}?fieldManager={manager}&force={force}");
                let mut call = Call::json(Method::PATCH, at, &other);
                call.media = APPLY;
                call
            }
        };
        if let Some(metadata) = call.body["metadata"].as_object_mut() {
            metadata.remove("creationTimestamp");
        }
        calls.push(call);
        object = other;
    }
    calls
}

/// Sends the calls about one object, all but the first, and judges each; a PUT with the version that each server has.
async fn objects(pair: &Pair, calls: Vec<Call>, judged: &mut Vec<Judged>) -> Result<()> {
    for at in 1..calls.len() {
        let call = &calls[at];
        let answers = match call.method == Method::PUT {
            true => {
                let path = call.path.trim_end_matches("/status");
                let (ours, theirs) = pair.call(&Call::json(Method::GET, path, &Value::Null)).await?;
                let with = |present: &Answer| {
                    let mut call = call.clone();
                    call.body["metadata"]["resourceVersion"] =
                        present.body["metadata"]["resourceVersion"].clone();
                    call
                };
                if ours.code != 200 || theirs.code != 200 {
                    continue;
                }
                pair.call_each(&with(&ours), &with(&theirs)).await?
            }
            false => pair.call(call).await?,
        };
        let is_same = answers.0.code == answers.1.code;
        judged.push(("Thing", calls[..=at].to_vec(), answers));
        // What follows would differ, too.
        if !is_same {
            break;
        }
    }
    Ok(())
}

/// A definition of things.
fn definition(random: &mut StdRng, group: &str) -> Value {
    let scope = if chance(random, 75) {
        "Namespaced"
    } else {
        "Cluster"
    };
    let mut versions = vec![version(random, "v1")];
    if chance(random, 25) {
        let mut other = match chance(random, 40) {
            true => versions[0].clone(),
            false => version(random, "v1beta1"),
        };
        other["name"] = json!("v1beta1");
        other["storage"] = json!(chance(random, 5));
        if chance(random, 30) {
            other["deprecated"] = json!(true);
        }
        versions.push(other);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": scope, "names": {"plural": "things", "kind": "Thing"}, "versions": versions},
    })
}

fn version(random: &mut StdRng, name: &str) -> Value {
    let mut version = json!({
        "name": name, "served": true, "storage": true, "schema": {"openAPIV3Schema": structural::whole(random)},
    });
    if chance(random, 40) {
        version["subresources"] = json!({"status": {}});
        if chance(random, 40) {
            let spec = one(
                random,
                &[".spec.count", ".spec.size", ".spec.a", "spec.a", ".status.a"],
            );
            version["subresources"]["scale"] =
                json!({"specReplicasPath": spec, "statusReplicasPath": ".status.count"});
        }
    }
    if chance(random, 25) {
        let path = one(
            random,
            &[
                ".spec.a",
                ".spec.b",
                ".metadata.name",
                ".spec.nothing",
                "spec",
                ".spec.a[0]",
            ],
        );
        version["selectableFields"] = json!([{"jsonPath": path}]);
    }
    if chance(random, 20) {
        let kind = one(random, &["string", "integer", "date", "text"]);
        version["additionalPrinterColumns"] = json!([{"name": "A", "type": kind, "jsonPath": ".spec.a"}]);
    }
    version
}

/// A definition that says something else.
fn changed(random: &mut StdRng, definition: &Value) -> Value {
    let mut other = definition.clone();
    let spec = &mut other["spec"];
    match random.random_range(0..6) {
        0 => spec["scope"] = json!("Cluster"),
        1 => spec["names"]["kind"] = json!("Other"),
        2 => spec["group"] = json!("other.example.com"),
        3 => spec["versions"][0]["name"] = json!("v2"),
        4 => spec["versions"][0]["storage"] = json!(false),
        _ => spec["versions"][0]["schema"]["openAPIV3Schema"] = structural::whole(random),
    }
    other
}
