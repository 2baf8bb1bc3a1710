//! What is sent: new objects, updates, statuses, patches, applied configurations.
//!
//! Cases are made in rounds from what was good before, so that the same seed sends the same requests; those of a round go
//! side by side.

use crate::client::{Answer, Call, Pair};
use crate::random;
use crate::report::Report;
use crate::schema::{Kind, Schemas};
use anyhow::Result;
use http::Method;
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Objects that upstream takes: what is changed at first.
const GOOD: &str = include_str!("../good.jsonl");
/// Cases on their way at a time.
const ROUND: u64 = 32;
/// Good objects that are kept of each kind.
const KEPT: usize = 60;

pub const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

/// A sort of cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// New objects, as dry runs.
    Objects,
    /// An object and another in its place.
    Updates,
    /// An object and a status.
    Statuses,
    /// An object and a patch of each form.
    Patches,
    /// Configurations of several managers, one after the other.
    Apply,
    /// Definitions of custom kinds and objects of them.
    Custom,
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Part; 6] = [
        Part::Objects,
        Part::Updates,
        Part::Statuses,
        Part::Patches,
        Part::Apply,
        Part::Custom,
    ];

    fn name(self) -> &'static str {
        match self {
            Part::Objects => "objects",
            Part::Updates => "updates",
            Part::Statuses => "statuses",
            Part::Patches => "patches",
            Part::Apply => "apply",
            Part::Custom => "custom",
        }
    }
}

/// Good objects by kind.
type Pool = BTreeMap<String, Vec<Value>>;

/// Makes what both servers need before anything else: the account of Pods, which a controller would make.
pub async fn prepare(pair: &Pair) -> Result<()> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = "/api/v1/namespaces/default/serviceaccounts";
    pair.call(&Call::json(Method::POST, path, &account)).await?;
    Ok(())
}

/// A case: calls in order, each judged until one differs.
struct Case {
    kind: Kind,
    calls: Vec<Call>,
    /// What may be taken as good when the first call was.
    object: Value,
    /// What is deleted afterwards.
    made: Option<String>,
}

/// Runs the cases of a part.
pub async fn run(
    part: Part,
    cases: u64,
    seed: u64,
    pair: &Arc<Pair>,
    schemas: &Arc<Schemas>,
    report: &mut Report,
) -> Result<()> {
    let mut pool = Pool::new();
    for line in GOOD.lines() {
        let object: Value = serde_json::from_str(line)?;
        if let Some(kind) = schemas.kind_of(&object) {
            pool.entry(kind.path.clone()).or_default().push(object);
        }
    }
    let mut next = 0;
    while next < cases {
        let mut round = JoinSet::new();
        for number in next..cases.min(next + ROUND) {
            let mut random = StdRng::seed_from_u64(seed << 32 | (part as u64) << 28 | number);
            let name = format!("{}-{seed}-{number}", part.name());
            let case = case(part, &mut random, &name, schemas, &pool);
            let pair = pair.clone();
            round.spawn(async move {
                let answers = send(&pair, &case).await;
                (number, case, answers)
            });
        }
        next += ROUND;
        let mut done = Vec::new();
        while let Some(one) = round.join_next().await {
            done.push(one?);
        }
        done.sort_by_key(|(number, ..)| *number);
        for (_, case, answers) in done {
            let answers = answers?;
            let good = answers.first().is_some_and(|(_, theirs)| theirs.code < 300);
            let count = answers.len();
            for (step, pair) in answers.into_iter().enumerate() {
                // Making what is to be changed is judged by the part of new objects.
                if step + 1 == count || part == Part::Apply {
                    report.judge(part.name(), &case.kind.kind, &case.calls[..=step], pair);
                }
            }
            if good && part == Part::Objects {
                let kept = pool.entry(case.kind.path.clone()).or_default();
                let mut random = StdRng::seed_from_u64(kept.len() as u64);
                match kept.len() < KEPT {
                    true => kept.push(case.object),
                    false => kept[random.random_range(0..KEPT)] = case.object,
                }
            }
        }
        if next % (ROUND * 32) == 0 {
            eprintln!("{}: {next} of {cases}", part.name());
        }
    }
    Ok(())
}

/// Sends the calls of a case in order until one is refused by both, or the answers are of different codes.
async fn send(pair: &Pair, case: &Case) -> Result<Vec<(Answer, Answer)>> {
    let mut answers = Vec::new();
    for call in &case.calls {
        let (ours, theirs) = pair.call(call).await?;
        let go_on = ours.code < 300 && theirs.code < 300;
        answers.push((ours, theirs));
        if !go_on {
            break;
        }
    }
    if let Some(path) = &case.made {
        let now = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        pair.call(&Call::json(Method::DELETE, path, &now)).await?;
        // What a controller would take away once it is not used any more.
        let free = json!({"metadata": {"finalizers": null}});
        let mut call = Call::json(Method::PATCH, path, &free);
        call.media = MERGE;
        pair.call(&call).await?;
    }
    Ok(answers)
}

fn case(part: Part, random: &mut StdRng, name: &str, schemas: &Schemas, pool: &Pool) -> Case {
    let kind = schemas.kinds.choose(random).expect("there are kinds").clone();
    let good = pool.get(&kind.path);
    let base = |random: &mut StdRng| {
        let chosen = good.and_then(|all| all.choose(random).cloned());
        let mut object = chosen.unwrap_or_else(|| random::whole(random, schemas, &kind, name));
        random::named(&mut object, &kind, name);
        object
    };
    let path = format!("{}/{name}", kind.path);
    let mut object = base(random);
    let create = |object: &Value| Call::json(Method::POST, kind.path.clone(), object);
    let changed = |random: &mut StdRng, object: &Value| {
        let mut other = object.clone();
        for _ in 0..random.random_range(1..4) {
            random::change(random, schemas, &kind, &mut other);
        }
        other
    };
    let (calls, made) = match part {
        Part::Objects => {
            if random.random_bool(0.35) {
                object = random::whole(random, schemas, &kind, name);
            } else {
                object = changed(random, &object);
            }
            let query = ["dryRun=All", "dryRun=All", "dryRun=All&fieldValidation=Strict"];
            let query = query.choose(random).copied().unwrap_or_default();
            let call = Call::json(Method::POST, format!("{}?{query}", kind.path), &object);
            (vec![call], None)
        }
        Part::Updates => {
            let other = changed(random, &object);
            let put = Call::json(Method::PUT, path.clone(), &other);
            (vec![create(&object), put], Some(path))
        }
        Part::Statuses => {
            let mut other = object.clone();
            let schema = schemas.definition(&kind.definition);
            let status = schemas.at(schema, &["status".to_owned()]);
            other["status"] = random::value(random, schemas, status, "status", 0.4, 2);
            let at = match kind.status {
                true => format!("{path}/status"),
                false => path.clone(),
            };
            (
                vec![create(&object), Call::json(Method::PUT, at, &other)],
                Some(path),
            )
        }
        Part::Patches => {
            let other = changed(random, &object);
            let media = *[MERGE, STRATEGIC, STRATEGIC, JSON_PATCH]
                .choose(random)
                .unwrap_or(&MERGE);
            let patch = match media {
                JSON_PATCH => operations(random, &object, &other),
                STRATEGIC => directed(random, difference(&object, &other)),
                _ => difference(&object, &other),
            };
            let mut call = Call::json(Method::PATCH, path.clone(), &patch);
            call.media = media;
            (vec![create(&object), call], Some(path))
        }
        // They have a module of their own.
        Part::Custom => (Vec::new(), None),
        Part::Apply => {
            let mut calls = Vec::new();
            for _ in 0..4 {
                object = changed(random, &object);
                let manager = *["one", "two", "three"].choose(random).unwrap_or(&"one");
                let force = random.random_bool(0.4);
                let at = format!("{path}?fieldManager={manager}&force={force}");
                let mut part = object.clone();
                // Each says only some of it.
                let spec = part.get_mut("spec").and_then(Value::as_object_mut);
                if let (Some(spec), true) = (spec, random.random_bool(0.5)) {
                    let some = spec.keys().filter(|_| random.random_bool(0.2)).cloned();
                    for key in some.collect::<Vec<_>>() {
                        spec.remove(&key);
                    }
                }
                let mut call = Call::json(Method::PATCH, at, &part);
                call.media = APPLY;
                calls.push(call);
            }
            (calls, Some(path))
        }
    };
    Case {
        kind,
        calls,
        object,
        made,
    }
}

/// The merge patch that makes `after` of `before`.
pub fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else {
        return after.clone();
    };
    let mut patch = Map::new();
    for (key, value) in after {
        match before.get(key) {
            Some(old) if old == value => {}
            Some(old) => drop(patch.insert(key.clone(), difference(old, value))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Puts directives of strategic merge patches into some of a patch.
fn directed(random: &mut StdRng, mut patch: Value) -> Value {
    match &mut patch {
        Value::Object(map) => {
            for value in map.values_mut() {
                *value = directed(random, value.take());
            }
            if random.random_bool(0.08) {
                let directive = ["replace", "delete", "merge", "x"].choose(random).copied();
                map.insert("$patch".into(), json!(directive));
            }
            let keys: Vec<String> = map.keys().cloned().collect();
            if let Some(key) = keys.choose(random).filter(|_| random.random_bool(0.05)) {
                let (name, value) = match random.random_range(0..3) {
                    0 => (
                        format!("$setElementOrder/{key}"),
                        json!([{"name": "a"}, {"name": "b"}]),
                    ),
                    1 => (format!("$deleteFromPrimitiveList/{key}"), json!(["a"])),
                    _ => ("$retainKeys".to_owned(), json!([key])),
                };
                map.insert(name, value);
            }
        }
        Value::Array(list) => {
            for value in list.iter_mut() {
                *value = directed(random, value.take());
            }
            if random.random_bool(0.1) {
                list.push(json!({"$patch": "delete", "name": "a"}));
            }
        }
        _ => {}
    }
    patch
}

/// Operations of a JSON patch, most of them for what has changed.
fn operations(random: &mut StdRng, before: &Value, after: &Value) -> Value {
    let mut found = Vec::new();
    pointers(before, after, &mut String::new(), &mut found);
    let mut list = Vec::new();
    for (pointer, value) in found.into_iter().take(4) {
        let operation = *["add", "replace", "remove", "test", "copy", "move"]
            .choose(random)
            .unwrap_or(&"add");
        list.push(match operation {
            "remove" => json!({"op": "remove", "path": pointer}),
            "copy" | "move" => json!({"op": operation, "from": pointer, "path": format!("{pointer}x")}),
            _ => json!({"op": operation, "path": pointer, "value": value}),
        });
    }
    json!(list)
}

fn pointers(before: &Value, after: &Value, place: &mut String, found: &mut Vec<(String, Value)>) {
    let length = place.len();
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in after {
                place.push('/');
                place.push_str(&key.replace('~', "~0").replace('/', "~1"));
                pointers(before.get(key).unwrap_or(&Value::Null), value, place, found);
                place.truncate(length);
            }
        }
        _ => found.push((place.clone(), after.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_what_is_new_what_is_other_and_what_is_gone() {
        let before = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        let after = json!({"a": 1, "b": {"c": 3}, "e": [1, 2], "f": null});
        let wanted = json!({"b": {"c": 3, "d": null}, "e": [1, 2], "f": null});
        assert_eq!(difference(&before, &after), wanted);
    }

    #[test]
    fn places_are_written_as_pointers() {
        let mut found = Vec::new();
        let (before, after) = (json!({"a/b": {"c~d": 1}}), json!({"a/b": {"c~d": 2}, "e": 3}));
        pointers(&before, &after, &mut String::new(), &mut found);
        assert_eq!(
            found,
            [("/a~1b/c~0d".to_owned(), json!(2)), ("/e".to_owned(), json!(3))]
        );
    }

    #[test]
    fn the_objects_to_begin_with_are_objects_of_some_kind() {
        for line in GOOD.lines() {
            let object: Value = serde_json::from_str(line).expect("JSON");
            assert!(
                object["kind"].is_string() && object["apiVersion"].is_string(),
                "{line}"
            );
        }
    }
}
