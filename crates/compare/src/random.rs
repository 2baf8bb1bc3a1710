//! Random values of a schema, and random changes of a value.

use crate::schema::{Kind, Schemas};
use crate::words;
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

/// No value nests deeper.
const DEPTH: usize = 12;
/// Fields that upstream fills in, and others write only by mistake.
const NOT_WRITTEN: [&str; 5] = [
    "managedFields",
    "selfLink",
    "uid",
    "creationTimestamp",
    "resourceVersion",
];

/// A value for the field `name` of this schema; `eagerness` (0 to 1) says how many optional fields it has.
pub fn value(
    random: &mut StdRng,
    schemas: &Schemas,
    schema: &Value,
    name: &str,
    eagerness: f64,
    depth: usize,
) -> Value {
    let description = schema["description"].as_str().unwrap_or_default();
    let (schema, of) = schemas.resolve(schema);
    let description = match description {
        "" => schema["description"].as_str().unwrap_or_default(),
        own => own,
    };
    let format = schema["format"].as_str().unwrap_or_default();
    match schema["type"].as_str() {
        Some("string") if format == "int-or-string" => match random.random_bool(0.6) {
            true => json!(words::integer(random)),
            false => json!(words::string(random, name, "IntOrString", "", "")),
        },
        Some("string") => json!(words::string(random, name, of, format, description)),
        Some("integer") => json!(words::integer(random)),
        Some("number") => json!(1.5),
        Some("boolean") => json!(random.random_bool(0.6)),
        Some("array") => {
            let length = *[0, 1, 1, 1, 2, 2, 3].choose(random).unwrap_or(&1);
            let item =
                |random: &mut StdRng| value(random, schemas, &schema["items"], name, eagerness, depth + 1);
            Value::Array((0..length).map(|_| item(random)).collect())
        }
        _ if schema["properties"].is_object() => object(random, schemas, schema, eagerness, depth),
        Some("object") if schema["additionalProperties"].is_object() => {
            let mut map = Map::new();
            for _ in 0..random.random_range(0..3) {
                let key = words::key(random, name);
                let of = &schema["additionalProperties"];
                map.insert(key, value(random, schemas, of, name, eagerness, depth + 1));
            }
            Value::Object(map)
        }
        // Raw JSON.
        _ => [
            json!({}),
            json!({"a": 1}),
            json!({"kind": "A", "apiVersion": "v1"}),
        ]
        .choose(random)
        .cloned()
        .unwrap_or_default(),
    }
}

fn object(random: &mut StdRng, schemas: &Schemas, schema: &Value, eagerness: f64, depth: usize) -> Value {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut map = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let wanted = match required.contains(&name.as_str()) {
            true => random.random_bool(0.95),
            false => depth < DEPTH && random.random_bool(eagerness),
        };
        if wanted && !NOT_WRITTEN.contains(&name.as_str()) && depth < 2 * DEPTH {
            map.insert(
                name.clone(),
                value(random, schemas, field, name, eagerness * 0.9, depth + 1),
            );
        }
    }
    Value::Object(map)
}

/// A random object of the kind, with this name.
pub fn whole(random: &mut StdRng, schemas: &Schemas, kind: &Kind, name: &str) -> Value {
    let eagerness = *[0.05, 0.1, 0.2, 0.35].choose(random).unwrap_or(&0.1);
    let schema = schemas.definition(&kind.definition).clone();
    let mut made = object(random, schemas, &schema, eagerness, 0);
    named(&mut made, kind, name);
    if let Some(map) = made.as_object_mut() {
        map.remove("status");
    }
    made
}

/// Gives an object its kind and a name.
pub fn named(object: &mut Value, kind: &Kind, name: &str) {
    if !object.is_object() {
        *object = json!({});
    }
    object["apiVersion"] = json!(kind.api_version);
    object["kind"] = json!(kind.kind);
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["name"] = json!(name);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "generateName",
            "namespace",
            "ownerReferences",
            "deletionTimestamp",
            "finalizers",
        ] {
            metadata.remove(field);
        }
    }
}

/// Where something stands in a value: keys and indexes.
type Place = Vec<String>;

/// All places of a value but the whole and those that name it.
fn places(value: &Value, here: &mut Place, found: &mut Vec<Place>) {
    let mut below = |step: String, value: &Value| {
        here.push(step);
        let text = here.join("/");
        let fixed = [
            "apiVersion",
            "kind",
            "metadata",
            "metadata/name",
            "metadata/namespace",
        ];
        if !fixed.contains(&text.as_str()) {
            found.push(here.clone());
        }
        places(value, here, found);
        here.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key.clone(), value)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(at, value)| below(at.to_string(), value)),
        _ => {}
    }
}

fn at<'a>(value: &'a mut Value, place: &[String]) -> &'a mut Value {
    place.iter().fold(value, |value, step| match value {
        Value::Array(list) => match step.parse::<usize>().ok().filter(|at| *at < list.len()) {
            Some(at) => &mut list[at],
            None => unreachable!("places are of this value"),
        },
        other => &mut other[step.as_str()],
    })
}

/// Changes something of an object of this kind.
pub fn change(random: &mut StdRng, schemas: &Schemas, kind: &Kind, object: &mut Value) {
    let mut found = Vec::new();
    places(object, &mut Vec::new(), &mut found);
    let Some(place) = found.choose(random).cloned() else {
        return;
    };
    let Some((last, above)) = place.split_last() else {
        return;
    };
    let schema = schemas.definition(&kind.definition);
    let name = place.iter().rev().find(|step| step.parse::<usize>().is_err());
    let name = name.map(String::as_str).unwrap_or_default();
    let here = schemas.at(schema, &place).clone();
    match random.random_range(0..12) {
        0..=1 => match at(object, above) {
            Value::Object(map) => drop(map.remove(last)),
            Value::Array(list) => drop(last.parse().ok().map(|at: usize| list.remove(at))),
            _ => {}
        },
        2..=5 => *at(object, &place) = value(random, schemas, &here, name, 0.2, 3),
        6..=8 => {
            // One more field, or element, of what stands there.
            let target = at(object, &place);
            match target {
                Value::Array(list) => {
                    let fresh = random.random_bool(0.6);
                    let more = match list.choose(random).cloned() {
                        Some(old) if !fresh => old,
                        _ => value(random, schemas, &here["items"], name, 0.2, 3),
                    };
                    list.push(more);
                }
                Value::Object(map) => {
                    let fields: Vec<(&String, &Value)> =
                        here["properties"].as_object().into_iter().flatten().collect();
                    if let Some((field, of)) = fields.choose(random) {
                        map.insert((*field).clone(), value(random, schemas, of, field, 0.2, 3));
                    } else {
                        let more = value(random, schemas, &here["additionalProperties"], name, 0.2, 3);
                        map.insert(words::key(random, name), more);
                    }
                }
                _ => *target = value(random, schemas, &here, name, 0.2, 3),
            }
        }
        9 => {
            let target = at(object, &place);
            *target = match target {
                Value::Array(_) => json!([]),
                Value::Object(_) => json!({}),
                Value::String(_) => json!(""),
                Value::Number(_) => json!(0),
                _ => Value::Null,
            };
        }
        10 => {
            if let Value::Array(list) = at(object, &place) {
                list.shuffle(random);
            }
        }
        // What is of another type, now and then.
        _ if random.random_bool(0.3) => {
            let others = [
                Value::Null,
                json!(1),
                json!("x"),
                json!(true),
                json!([]),
                json!({}),
            ];
            *at(object, &place) = others.choose(random).cloned().unwrap_or_default();
        }
        _ => *at(object, &place) = value(random, schemas, &here, name, 0.1, 3),
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    named_again(object, kind, &name);
}

/// A change may have taken the name away; it does not change who it is.
fn named_again(object: &mut Value, kind: &Kind, name: &str) {
    if object["kind"] != *kind.kind || object["metadata"]["name"] != *name {
        named(object, kind, name);
    }
}
