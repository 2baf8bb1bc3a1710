//! Random structural schemas for custom kinds, most of them good, and values of them, most of them good as well.

use crate::words;
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

/// Names of fields; some that expressions can only write escaped, or not at all.
const FIELDS: [&str; 10] = [
    "a", "b", "c", "name", "size", "in", "my-field", "x.y", "count", "kind",
];
const FORMATS: [&str; 20] = [
    "date",
    "date-time",
    "duration",
    "byte",
    "uuid",
    "uuid4",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "email",
    "hostname",
    "uri",
    "password",
    "bsonobjectid",
    "isbn10",
    "hexcolor",
    "k8s-short-name",
    "k8s-long-name",
    "whatever",
];
const TEXTS: [&str; 24] = [
    "a",
    "b",
    "abc",
    "",
    "A1",
    "x-1",
    "üß",
    "2020-02-29",
    "2026-01-01T00:00:00Z",
    "1h30m",
    "YQ==",
    "10.0.0.1",
    "2001:db8::1",
    "10.0.0.0/8",
    "00:00:5e:00:53:01",
    "a@example.com",
    "example.com",
    "https://example.com/x?y=z",
    "123e4567-e89b-12d3-a456-426614174000",
    "#fff",
    "0",
    "100m",
    "true",
    "abcdefghijklmnopqrstuvwxyz",
];
const PATTERNS: [&str; 6] = ["^[a-z]+$", "^a", "[0-9]", "^.{2,4}$", "(", "^\\S*$"];

/// Chance, in percent.
pub fn chance(random: &mut StdRng, percent: u32) -> bool {
    random.random_range(0..100) < percent
}

/// One of some.
pub fn one<'t>(random: &mut StdRng, of: &[&'t str]) -> &'t str {
    of.choose(random).copied().unwrap_or_default()
}

/// The schema of a whole object: `spec` and `status`, as most have, and now and then something besides.
pub fn whole(random: &mut StdRng) -> Value {
    let mut properties = Map::new();
    properties.insert("spec".into(), object(random, 1));
    if chance(random, 50) {
        properties.insert("status".into(), object(random, 2));
    }
    if chance(random, 15) {
        properties.insert("data".into(), schema(random, 2));
    }
    if chance(random, 8) {
        let name = json!({"type": "string", "maxLength": 20, "pattern": "^[a-z]"});
        properties.insert(
            "metadata".into(),
            json!({"type": "object", "properties": {"name": name}}),
        );
    }
    let mut root = json!({"type": "object", "properties": properties});
    if chance(random, 20) {
        root["required"] = json!(["spec"]);
    }
    rules(random, &mut root, 12);
    root
}

/// A schema of any type.
pub fn schema(random: &mut StdRng, depth: usize) -> Value {
    let deep = depth > 3;
    let mut made = match random.random_range(0..if deep { 60 } else { 100 }) {
        0..22 => text(random),
        22..36 => whole_number(random),
        36..42 => json!({"type": "number", "minimum": 0.5, "maximum": 10}),
        42..50 => json!({"type": "boolean"}),
        50..55 => json!({"x-kubernetes-int-or-string": true}),
        55..58 => json!({"x-kubernetes-preserve-unknown-fields": true}),
        58..60 => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        60..75 => object(random, depth),
        75..84 => map(random, depth),
        84..98 => list(random, depth),
        _ => {
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true})
        }
    };
    if chance(random, 12) {
        made["nullable"] = json!(chance(random, 80));
    }
    if chance(random, 6) {
        let all: Vec<Value> = (0..random.random_range(1..4))
            .map(|_| value(random, &made))
            .collect();
        made["enum"] = json!(all);
    }
    if chance(random, 5) {
        joined(random, &mut made);
    }
    rules(random, &mut made, 14);
    if chance(random, 12) {
        made["default"] = value(random, &made);
    }
    if chance(random, 3) {
        odd(random, &mut made);
    }
    made
}

fn text(random: &mut StdRng) -> Value {
    let mut made = json!({"type": "string"});
    if chance(random, 45) {
        made["maxLength"] = json!(random.random_range(0..30));
    }
    if chance(random, 15) {
        made["minLength"] = json!(random.random_range(0..4));
    }
    if chance(random, 15) {
        made["pattern"] = json!(one(random, &PATTERNS));
    }
    if chance(random, 25) {
        made["format"] = json!(one(random, &FORMATS));
    }
    made
}

fn whole_number(random: &mut StdRng) -> Value {
    let mut made = json!({"type": "integer"});
    if chance(random, 30) {
        made["minimum"] = json!(random.random_range(-2..3));
        made["exclusiveMinimum"] = json!(chance(random, 30));
    }
    if chance(random, 30) {
        made["maximum"] = json!(random.random_range(3..100));
        made["exclusiveMaximum"] = json!(chance(random, 30));
    }
    if chance(random, 10) {
        made["multipleOf"] = json!(random.random_range(1..4));
    }
    if chance(random, 20) {
        made["format"] = json!(one(random, &["int32", "int64", "x"]));
    }
    made
}

fn object(random: &mut StdRng, depth: usize) -> Value {
    let mut properties = Map::new();
    for _ in 0..random.random_range(1..4) {
        let name = one(random, &FIELDS).to_owned();
        properties.insert(name, schema(random, depth + 1));
    }
    let names: Vec<String> = properties.keys().cloned().collect();
    let mut made = json!({"type": "object", "properties": properties});
    if chance(random, 25) {
        made["required"] = json!([names.choose(random)]);
    }
    if chance(random, 8) {
        made["maxProperties"] = json!(random.random_range(0..4));
    }
    if chance(random, 5) {
        made["minProperties"] = json!(random.random_range(0..3));
    }
    if chance(random, 8) {
        made["x-kubernetes-map-type"] = json!(one(random, &["atomic", "granular", "granular", "x"]));
    }
    if chance(random, 6) {
        made["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    if chance(random, 8) {
        made["title"] = json!("A title");
        made["description"] = json!("What it is.");
    }
    rules(random, &mut made, 12);
    made
}

fn map(random: &mut StdRng, depth: usize) -> Value {
    let mut made = json!({"type": "object", "additionalProperties": schema(random, depth + 1)});
    if chance(random, 60) {
        made["maxProperties"] = json!(random.random_range(1..20));
    }
    made
}

fn list(random: &mut StdRng, depth: usize) -> Value {
    let mut made = json!({"type": "array", "items": schema(random, depth + 1)});
    match random.random_range(0..10) {
        0..3 => {
            let mut item = object(random, depth + 1);
            item["properties"]["k"] = json!({"type": "string", "maxLength": 8});
            let mut keys = vec!["k"];
            if chance(random, 25) {
                item["properties"]["n"] = json!({"type": "integer", "default": 1});
                keys.push("n");
            }
            item["required"] = json!(["k"]);
            made = json!({"type": "array", "items": item, "x-kubernetes-list-type": "map"});
            made["x-kubernetes-list-map-keys"] = json!(keys);
        }
        3..5 => {
            made["items"] = match chance(random, 60) {
                true => json!({"type": "string", "maxLength": 10}),
                false => json!({"type": "integer"}),
            };
            made["x-kubernetes-list-type"] = json!("set");
        }
        5..6 => made["x-kubernetes-list-type"] = json!("atomic"),
        _ => {}
    }
    if chance(random, 60) {
        made["maxItems"] = json!(random.random_range(1..20));
    }
    if chance(random, 10) {
        made["minItems"] = json!(random.random_range(0..3));
    }
    made
}

/// Adds schemas that only bound values.
fn joined(random: &mut StdRng, schema: &mut Value) {
    let bound = |random: &mut StdRng| match random.random_range(0..4) {
        0 => json!({"maxLength": 3}),
        1 => json!({"minimum": 2}),
        2 => json!({"enum": ["a", 1, true]}),
        _ => json!({"required": ["a"]}),
    };
    match random.random_range(0..4) {
        0 => schema["not"] = bound(random),
        at => {
            let field = ["anyOf", "oneOf", "allOf"][at - 1];
            schema[field] = json!([bound(random), bound(random)]);
        }
    }
}

/// Says something that upstream may refuse.
fn odd(random: &mut StdRng, schema: &mut Value) {
    let all = [
        ("type", json!("null")),
        ("type", json!("text")),
        ("uniqueItems", json!(true)),
        ("id", json!("x")),
        ("$schema", json!("x")),
        ("$ref", json!("#/x")),
        ("patternProperties", json!({"a": {"type": "string"}})),
        ("x-kubernetes-preserve-unknown-fields", json!(false)),
        ("x-kubernetes-list-type", json!("map")),
        ("x-kubernetes-map-type", json!("atomic")),
        ("x-kubernetes-embedded-resource", json!(true)),
        ("properties", json!({"metadata": {"type": "string"}})),
        ("additionalProperties", json!(false)),
        ("default", json!({"unknown": 1})),
        ("default", json!(null)),
        ("items", json!([{"type": "string"}])),
        ("maxLength", json!(-1)),
        ("unknownField", json!(1)),
        ("minimum", json!("x")),
    ];
    if let Some((field, value)) = all.choose(random) {
        schema[*field] = value.clone();
    }
}

/// Adds rules, with this chance.
fn rules(random: &mut StdRng, schema: &mut Value, percent: u32) {
    if !chance(random, percent) {
        return;
    }
    let mut all = Vec::new();
    for _ in 0..random.random_range(1..3) {
        let mut rule = json!({"rule": expression(random, schema)});
        if chance(random, 30) {
            rule["message"] = json!(one(random, &["must be so", " ", "two\nlines", "no"]));
        }
        if chance(random, 20) {
            rule["messageExpression"] = json!(one(
                random,
                &[
                    "'found ' + string(self)",
                    "'a' + 'b'",
                    "''",
                    "'a\\nb'",
                    "self",
                    "1",
                    "string(self.size())",
                    "nothing",
                    " ",
                    "'%s'.format([self])",
                ]
            ));
        }
        if chance(random, 20) {
            let reasons = [
                "FieldValueInvalid",
                "FieldValueForbidden",
                "FieldValueRequired",
                "FieldValueDuplicate",
                "Other",
            ];
            rule["reason"] = json!(one(random, &reasons));
        }
        if chance(random, 15) {
            let paths = [
                ".a",
                ".b",
                "['a']",
                ".a.b",
                "a",
                " ",
                ".nothing",
                ".my-field",
                "['x.y']",
            ];
            rule["fieldPath"] = json!(one(random, &paths));
        }
        if chance(random, 15) {
            rule["optionalOldSelf"] = json!(chance(random, 80));
            if chance(random, 60) {
                rule["rule"] = json!(one(
                    random,
                    &[
                        "oldSelf.hasValue()",
                        "!oldSelf.hasValue() || oldSelf.value() == self",
                        "oldSelf.orValue(self) == self",
                        "oldSelf.optMap(o, o == self).orValue(true)",
                    ]
                ));
            }
        }
        all.push(rule);
    }
    schema["x-kubernetes-validations"] = json!(all);
}

/// An expression about values of a schema.
fn expression(random: &mut StdRng, schema: &Value) -> String {
    const ANY: [&str; 22] = [
        "true",
        "false",
        "self == oldSelf",
        "self != oldSelf",
        "1 +",
        "self.nothing",
        "1",
        "has(self)",
        "size(self) > 1",
        "self == self",
        "type(self) == string",
        "ip('10.0.0.1').family() == 4",
        "cidr('10.0.0.0/8').containsIP('10.0.0.1')",
        "cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))",
        "quantity('1Gi').isGreaterThan(quantity('1Mi'))",
        "url('https://example.com').getHost() == 'example.com'",
        "!format.dns1123Label().validate('a').hasValue()",
        "semver('1.0.0').major() == 1",
        "duration('1h') > duration('1m')",
        "timestamp('2020-01-01T00:00:00Z').getFullYear() == 2020",
        "[1, 2].exists(x, x == 3)",
        "dyn(self) == dyn(oldSelf)",
    ];
    const TEXT: [&str; 24] = [
        "self.size() < 5",
        "self.startsWith('a')",
        "self.endsWith(self)",
        "self.matches('^[a-z]+$')",
        "self in ['a', 'b']",
        "self.contains('x')",
        "self.find('[0-9]+') == ''",
        "self.findAll('[a-z]').size() < 3",
        "self.split('').size() < 4",
        "self.lowerAscii() == self",
        "self.replace('a', 'b') != self",
        "self.substring(1) != ''",
        "self.charAt(0) == 'a'",
        "self.indexOf('a') >= 0",
        "self + self != oldSelf",
        "self.trim() == self",
        "isIP(self) || isCIDR(self)",
        "ip(self).family() == 4",
        "isQuantity(self) && quantity(self).isInteger()",
        "isURL(self)",
        "int(self) > 1",
        "duration(self) > duration('1m')",
        "self > oldSelf",
        "cidr('10.0.0.0/8').containsIP(self)",
    ];
    const NUMBER: [&str; 8] = [
        "self > 0",
        "self >= oldSelf",
        "self % 2 == 0",
        "10 / self > 1",
        "self < 5 && self > 1",
        "string(self) == '1'",
        "double(self) <= 1.5",
        "self + oldSelf < 9223372036854775807",
    ];
    const FLAG: [&str; 3] = ["self", "!oldSelf || self", "self ? true : false"];
    const LIST: [&str; 20] = [
        "self.size() <= 3",
        "self.all(x, x == x)",
        "self.exists_one(x, true)",
        "self.exists(x, x == self[0])",
        "self.all(x, self.all(y, x == y))",
        "self.filter(x, true).size() > 0",
        "self.map(x, x) == self",
        "self.map(x, true, x).size() > 1",
        "self[0] == self[0]",
        "self + self == oldSelf",
        "self.all(x, oldSelf.exists(y, x == y))",
        "sets.contains(self, oldSelf)",
        "sets.intersects(self, self)",
        "self.isSorted()",
        "self.sum() > 1",
        "self.max() == self.min()",
        "self.indexOf(self[0]) == 0",
        "self.join(',') != ''",
        "self.all(i, x, i < 3)",
        "self.all(x, x.k != '')",
    ];
    const MAP: [&str; 9] = [
        "self.all(k, k.startsWith('a'))",
        "self.exists(k, self[k] == self[k])",
        "'a' in self",
        "self['a'] == self['a']",
        "self.all(k, k in oldSelf)",
        "self.size() < 3",
        "self.map(k, k).size() > 0",
        "self.?a.hasValue()",
        "self.all(k, v, v == v)",
    ];
    if chance(random, 25) {
        return one(random, &ANY).to_owned();
    }
    let own: &[&str] = match schema["type"].as_str() {
        Some("string") => &TEXT,
        Some("integer" | "number") => &NUMBER,
        Some("boolean") => &FLAG,
        Some("array") => &LIST,
        Some("object") if schema["additionalProperties"].is_object() => &MAP,
        Some("object") => {
            let names: Vec<&String> = schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(Map::keys)
                .collect();
            let names: Vec<String> = names.into_iter().map(|name| escaped(name)).collect();
            let name = names.choose(random).map_or("a", String::as_str);
            let other = names.choose(random).map_or("b", String::as_str);
            let forms = [
                "has(self.A)",
                "!has(self.A) || self.A == self.A",
                "self.A == oldSelf.A",
                "self.A == self.B",
                "has(self.A) == has(oldSelf.A)",
                "self.?A.hasValue()",
                "self.?A.orValue(self.A) == self.A",
                "size(self.A) > 1",
                "self.A.all(x, x == x)",
                "has(self.A) && has(self.B)",
                "self.A > 1",
                "self.A != ''",
            ];
            return one(random, &forms).replace('A', name).replace('B', other);
        }
        _ => &ANY,
    };
    one(random, own).to_owned()
}

/// A field's name as expressions write it.
fn escaped(name: &str) -> String {
    match name {
        "in" => "__in__".to_owned(),
        name => name.replace('-', "__dash__").replace('.', "__dot__"),
    }
}

/// A value of a schema.
pub fn value(random: &mut StdRng, schema: &Value) -> Value {
    if chance(random, 4) {
        let odd = [
            Value::Null,
            json!(1),
            json!("x"),
            json!(true),
            json!([]),
            json!({}),
            json!({"a": 1}),
            json!(1.5),
        ];
        return odd.choose(random).cloned().unwrap_or_default();
    }
    if let Some(all) = schema["enum"].as_array().filter(|_| chance(random, 80)) {
        return all.choose(random).cloned().unwrap_or_default();
    }
    if schema["nullable"] == true && chance(random, 20) {
        return Value::Null;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return match chance(random, 50) {
            true => json!(words::integer(random)),
            false => json!(one(random, &["1", "50%", "a"])),
        };
    }
    match schema["type"].as_str() {
        Some("string") => json!(one(random, &TEXTS)),
        Some("integer") if chance(random, 70) => json!(random.random_range(0..7)),
        Some("integer") => json!(words::integer(random)),
        Some("number") => json!([1.5, 0.25, 3.0, 100.0, 7.0].choose(random)),
        Some("boolean") => json!(chance(random, 50)),
        Some("array") => {
            let length = random.random_range(0..4);
            let mut items: Vec<Value> = (0..length).map(|_| value(random, &schema["items"])).collect();
            if chance(random, 15)
                && let Some(first) = items.first().cloned()
            {
                items.push(first);
            }
            json!(items)
        }
        _ if schema["properties"].is_object() => fields(random, schema),
        _ if schema["additionalProperties"].is_object() => {
            let names = (0..random.random_range(0..3))
                .map(|_| one(random, &FIELDS))
                .collect::<Vec<_>>();
            let all = names
                .into_iter()
                .map(|name| (name.to_owned(), value(random, &schema["additionalProperties"])));
            Value::Object(all.collect())
        }
        _ if schema["x-kubernetes-embedded-resource"] == true => {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": one(random, &TEXTS)}, "x": 1})
        }
        _ => [json!({"x": {"y": [1, "2"]}}), json!("free"), json!(7)]
            .choose(random)
            .cloned()
            .unwrap_or_default(),
    }
}

/// An object with most of the fields of a schema.
pub fn fields(random: &mut StdRng, schema: &Value) -> Value {
    let mut made = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if chance(random, 75) {
            made.insert(name.clone(), value(random, property));
        }
    }
    if chance(random, 8) {
        made.insert(one(random, &["unknown", "a", "zz"]).to_owned(), json!(1));
    }
    Value::Object(made)
}
