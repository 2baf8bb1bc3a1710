//! Expressions at the public face: a text and JSON in, a value or an error out.

#![allow(clippy::unwrap_used)]

use cel::{Env, Field, Key, ListKind, ObjectType, Program, Str, Type, Value};
use serde_json::{Value as Json, json};
use std::sync::Arc;

fn field(name: &str, ty: Type) -> (String, Field) {
    (
        cel::escape(name).unwrap(),
        Field {
            json: name.into(),
            ty,
        },
    )
}

fn object(name: &str, fields: Vec<(String, Field)>) -> Type {
    Type::Object(Arc::new(ObjectType {
        name: name.into(),
        fields: fields.into_iter().collect(),
    }))
}

fn typed() -> Type {
    object(
        "self",
        vec![
            field("replicas", Type::Int),
            field("price", Type::Double),
            field("name", Type::String),
            field("a.b-c", Type::Int),
            field("namespace", Type::String),
            field("since", Type::Timestamp),
            field("wait", Type::Duration),
            field("tags", Type::List(Arc::new(Type::String), ListKind::Set)),
            field("labels", Type::map(Type::String)),
            field("port", Type::Dyn),
            field("absent", Type::String),
            field("nothing", Type::String),
        ],
    )
}

fn value() -> Json {
    json!({"replicas": 3, "price": 2, "name": "wëb", "a.b-c": 7, "namespace": "n", "since": "2024-05-01T10:00:00Z",
        "wait": "1h30m", "tags": ["x", "y"], "labels": {"k": "v"}, "port": "http",
        "nothing": null})
}

/// A value as text, for comparison.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => format!("{n}u"),
        Value::Double(n) => format!("{n:?}"),
        Value::String(text) => format!("{:?}", &**text),
        Value::Null => "null".into(),
        Value::List(list) => format!(
            "[{}]",
            list.iter().map(|v| show(&v)).collect::<Vec<_>>().join(", ")
        ),
        Value::Map(map) => {
            let entry = |k: &Key<'_>| format!("{k}: {}", show(&map.get(k).unwrap()));
            format!(
                "{{{}}}",
                map.keys().iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Optional(None) => "none".into(),
        Value::Optional(Some(inner)) => format!("some({})", show(inner)),
        other => format!("{other:?}"),
    }
}

fn run(text: &str) -> String {
    let (ty, json) = (typed(), value());
    let env = Env::new()
        .with_bindings()
        .with("self", ty.clone())
        .with("any", Type::Dyn);
    let program = match Program::compile(text, &env) {
        Ok(program) => program,
        Err(error) => return format!("compile: {}", error.0.lines().next().unwrap()),
    };
    let variables = [
        ("self", Value::json(&json, &ty)),
        ("any", Value::json(&json, &Type::Dyn)),
    ];
    match program.eval(&variables, 1_000_000).value {
        Ok(value) => show(&value),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn values() {
    let cases = [
        ("self.replicas > 2 && self.name == 'wëb'", "true"),
        ("self.price == 2.0", "true"),
        ("self.replicas < self.price", "false"),
        ("self.a__dot__b__dash__c", "7"),
        ("self.__namespace__", "\"n\""),
        (
            "has(self.namespace) && self.namespace == self.?namespace.orValue('')",
            "true",
        ),
        ("size(self.name) + self.name.size()", "6"),
        ("has(self.absent) || has(self.name)", "true"),
        ("has(self.absent)", "false"),
        // A null is as good as absent in an object, and a value in what has no schema.
        ("has(self.nothing) || self.?nothing.hasValue()", "false"),
        ("has(any.nothing)", "true"),
        ("self.?absent.orValue('d')", "\"d\""),
        ("self.?name", "some(\"wëb\")"),
        ("any.?deep.?deeper.hasValue()", "false"),
        ("any[?'name'].orValue('x')", "\"wëb\""),
        ("optional.of(1).optMap(x, x + 1).value()", "2"),
        (
            "self.since + duration('24h') > timestamp('2024-05-02T09:00:00Z')",
            "true",
        ),
        ("self.since.getDayOfWeek()", "3"),
        (
            "self.wait == duration('90m') && string(self.wait) == '5400s'",
            "true",
        ),
        ("self.tags == ['y', 'x']", "true"),
        ("self.tags + ['x', 'z']", "[\"x\", \"y\", \"z\"]"),
        ("self.labels.k + self.labels['k']", "\"vv\""),
        (
            "'k' in self.labels && 'x' in self.tags && !('q' in self.labels)",
            "true",
        ),
        ("self.labels.all(k, self.labels[k] != '')", "true"),
        ("self.labels.all(k, v, k == 'k' && v == 'v')", "true"),
        ("[1, 2, 3].exists_one(x, x > 2)", "true"),
        ("[1, 2, 3].map(x, x > 1, x * 2)", "[4, 6]"),
        ("[3, 1, 2].filter(x, x != 2).sort()", "[1, 3]"),
        (
            "['a', 'b'].transformMap(i, v, v + string(i))",
            "{0: \"a0\", 1: \"b1\"}",
        ),
        ("{'a': 1}.transformList(k, v, k + string(v))", "[\"a1\"]"),
        ("{'a': 1, ?'b': optional.none()}", "{a: 1}"),
        ("cel.bind(x, self.replicas, x * x)", "9"),
        ("self.port == 'http' ? 1 : 2", "1"),
        ("type(self.since) == google.protobuf.Timestamp", "true"),
        ("{1: 'x', 2: 'y'}[2]", "\"y\""),
        ("'äß'.matches('^\\\\p{L}+$') && '\\x07'.matches('\\\\07')", "true"),
        ("[1].exists(x, .x == 1)", "true"),
        ("type(self.port) == string", "true"),
        ("'%s-%d-%.2f-%x'.format(['a', 5, 1.5, 255])", "\"a-5-1.50-ff\""),
        ("'a,b,c'.split(',', 2)", "[\"a\", \"b,c\"]"),
        ("'hello'.substring(1, 3) + 'x'.upperAscii()", "\"elX\""),
        ("'abcabc'.lastIndexOf('bc')", "4"),
        ("'abc 123'.find('[0-9]+')", "\"123\""),
        ("self.name.matches('^w')", "true"),
        (
            "[1, 2, 3].sum() == 6 && [1, 2].isSorted() && ['b', 'a'].max() == 'b'",
            "true",
        ),
        (
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('500m')).asInteger() == 1",
            "true",
        ),
        ("url('https://a.b:80/c?d=e').getHostname()", "\"a.b\""),
        ("url('https://a.b:80/c?d=e').getQuery()", "{d: [\"e\"]}"),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && ip('::1').isLoopback() && !isIP('x')",
            "true",
        ),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        ("!format.dns1123Label().validate('a-b').hasValue()", "true"),
        (
            "format.named('dns1123Label').value().validate('A').value().size()",
            "1",
        ),
        ("sets.contains([1, 2], [2]) && sign(quantity('-1')) == -1", "true"),
        ("[?self.?name, ?self.?absent]", "[\"wëb\"]"),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", "true"),
        ("r'\\d' + \"\\u00e9\" + '''a'b'''", "\"\\\\dé\" "),
        ("7 / 2 * 2 - -1 % 3", "7"),
        ("dyn(1) == 1.0 && 1 < 1.5 && 2u > 1", "true"),
        ("null == null", "true"),
        ("[1, 2][1] + {'a': 5}['a']", "7"),
        // What decides forgives the error of the other side.
        ("any.nothing == 1 || true", "true"),
        ("[1, 0].exists(x, 1 / x == 1)", "true"),
    ];
    for (text, want) in cases {
        let want = want.replace("\"\\\\dé\" ", "\"\\\\déa'b\"");
        assert_eq!(run(text), want, "{text}");
    }
}

/// Mistakes that are found before anything is evaluated.
const MISTAKES: [(&str, u32, &str); 31] = [
    (
        "'%d'.format(['a'])",
        14,
        "error during formatting: decimal clause can only be used on integers, was given string",
    ),
    (
        "'%s %x'.format([1, 1.5])",
        20,
        "error during formatting: only integers, byte buffers, and strings can be formatted as hex, was given double",
    ),
    (
        "'%z'.format([1])",
        12,
        "could not parse formatting clause: unrecognized formatting clause \"z\"",
    ),
    ("'%'.format([])", 11, "unexpected end of string"),
    ("'%d %d'.format([1])", 15, "index 1 out of range"),
    (
        "'%d%%'.format([1, 2])",
        14,
        "too many arguments supplied to string.format (expected 1, got 2)",
    ),
    (
        "'%e'.format([1])",
        14,
        "error during formatting: scientific clause can only be used on doubles, was given int",
    ),
    ("duration('x') == self.wait", 10, "invalid duration argument"),
    (
        "timestamp('2020-01-01') == self.since",
        11,
        "invalid timestamp argument",
    ),
    ("self.name.matches('(')", 19, "invalid matches argument"),
    ("self.name.matches('a{1001}')", 19, "invalid matches argument"),
    (
        "self.tags.sum() > 1",
        14,
        "found no matching overload for 'sum' applied to 'list(string).()'",
    ),
    (
        "self.tags.min() == 1",
        17,
        "found no matching overload for '_==_' applied to '(string, int)'",
    ),
    (
        "self.name.lowerAscii(1)",
        21,
        "found no matching overload for 'lowerAscii' applied to 'string.(int)'",
    ),
    (
        "self.name.hasValue()",
        19,
        "found no matching overload for 'hasValue' applied to 'string.()'",
    ),
    (
        "self.since == 1",
        12,
        "found no matching overload for '_==_' applied to '(timestamp, int)'",
    ),
    (
        "quantity('1').sign()",
        19,
        "found no matching overload for 'sign' applied to 'kubernetes.Quantity.()'",
    ),
    (
        "int() == 1",
        4,
        "found no matching overload for 'int' applied to '()'",
    ),
    ("true && self.name", 13, "expected type 'bool' but found 'string'"),
    (
        "self.tags.filter(x, x)",
        17,
        "found no matching overload for '_?_:_' applied to '(string, list(string), list(string))'",
    ),
    (
        "self.tags.exists_one(x, 1)",
        21,
        "found no matching overload for '_?_:_' applied to '(int, int, int)'",
    ),
    (
        "self.?name.optFlatMap(x, x)",
        22,
        "found no matching overload for '_?_:_' applied to '(bool, string, optional_type(dyn))'",
    ),
    ("has(self.zz)", 4, "undefined field 'zz'"),
    ("has('x')", 5, "invalid argument to has() macro"),
    ("self.tags.all(x, x, true)", 18, "duplicate variable name: x"),
    ("{'a': 1, 'b': 'x'}", 15, "expected type 'int' but found 'string'"),
    (
        "[?self.name]",
        7,
        "expected type 'optional_type(string)' but found 'string'",
    ),
    (
        "math.abs(1)",
        1,
        "undeclared reference to 'math' (in container '')",
    ),
    (
        "self.tags[?'x']",
        10,
        "found no matching overload for '_[?_]' applied to '(list(string), string)'",
    ),
    ("self.tags[0", 12, "Syntax error: missing ']' at '<EOF>'"),
    (
        "self.name)",
        10,
        "Syntax error: extraneous input ')' expecting <EOF>",
    ),
];

#[test]
fn errors() {
    let cases = [
        ("any.gone == 1", "error: no such key: gone"),
        ("any.tags[5]", "error: index out of bounds: 5"),
        ("1 / 0", "error: division by zero"),
        (
            "int(self.name) == 1",
            "error: type conversion error from 'string' to 'int'",
        ),
        (
            "timestamp(self.name) == self.since",
            "error: type conversion error from 'string' to 'google.protobuf.Timestamp'",
        ),
        (
            "any.name.all(x, true)",
            "error: got 'types.String', expected iterable type",
        ),
        ("any.name.join()", "error: no such overload: join(string)"),
        ("'a'.indexOf('a', 9)", "-1"),
        (
            "[1, 2].slice(1, 0)",
            "error: cannot slice(1, 0), start index must be less than or equal to end index",
        ),
        (
            "'%d'.format(any.tags)",
            "error: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        (
            "cidr('x') == cidr('1.1.1.1/1')",
            "error: network address parse error during conversion from string: network address parse error during conversion \
             from string: netip.ParsePrefix(\"x\"): no '/'",
        ),
        (
            "semver('1.0') == semver('1.0.0')",
            "error: No Major.Minor.Patch elements found",
        ),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("any.port + 1", "error: no such overload"),
        (
            "duration('1h' + '33333333333333333333333333333333333333333m')",
            "error: type conversion error from 'string' to 'google.protobuf.Duration'",
        ),
        (
            "self.since.getHours('2147483647:00')",
            "error: unknown time zone 2147483647:00",
        ),
        (
            ".nobody",
            "compile: ERROR: <input>:1:2: undeclared reference to '.nobody' (in container '')",
        ),
        (
            ".has(1)",
            "compile: ERROR: <input>:1:5: undeclared reference to '.has' (in container '')",
        ),
        (
            "[1].all(.x, .x > 0)",
            "compile: ERROR: <input>:1:14: undeclared reference to '.x' (in container '')",
        ),
        (
            ".self.name.size() > .size('a') && .optional.of(1).hasValue()",
            "true",
        ),
        ("has(has(self.name)) && !(-1 != -1)", "true"),
        (
            "self.nonsense",
            "compile: ERROR: <input>:1:5: undefined field 'nonsense'",
        ),
        (
            "nobody",
            "compile: ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')",
        ),
        (
            "nofunc(1)",
            "compile: ERROR: <input>:1:7: undeclared reference to 'nofunc' (in container '')",
        ),
        (
            "self.name == 1",
            "compile: ERROR: <input>:1:11: found no matching overload for '_==_' applied to '(string, int)'",
        ),
        (
            "self.replicas + 'x'",
            "compile: ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(int, string)'",
        ),
        (
            "self.replicas.startsWith('x')",
            "compile: ERROR: <input>:1:25: found no matching overload for 'startsWith' applied to 'int.(string)'",
        ),
        (
            "[1, 2].all(x, x)",
            "compile: ERROR: <input>:1:15: expected type 'bool' but found 'int'",
        ),
        (
            "lists.range(300000).all(x, lists.range(300000).all(y, true))",
            "error: operation cancelled: actual cost limit exceeded",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(run(text), want, "{text}");
    }
    // Each: a text, the column of the fault, and what it is.
    for (text, column, what) in MISTAKES {
        let want = format!("compile: ERROR: <input>:1:{column}: {what}");
        assert_eq!(run(text), want, "{text}");
    }
    let error = Program::compile("self.name ==\n  other", &Env::new().with("self", typed())).unwrap_err();
    assert_eq!(
        error.0,
        "ERROR: <input>:2:3: undeclared reference to 'other' (in container '')\n |   other\n | ..^"
    );
    assert!(Program::compile("1 +", &Env::new()).is_err());
    assert!(Program::compile(&"(".repeat(10_000), &Env::new()).is_err());
    // The deepest that is let through needs no more of a stack than a small thread has.
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let evaluated = small.spawn(|| {
        let chain = format!("1{}", "+1".repeat(240));
        let choices: String = (0..240).map(|i| format!("1 == 2 ? {i} : ")).collect();
        for (text, value) in [
            (format!("{}{chain}{}", "(".repeat(240), ")".repeat(240)), 241),
            (format!("{choices}7"), 7),
            (format!("size({}{})", "[".repeat(240), "]".repeat(240)), 1),
            (format!("size('a'{})", ".lowerAscii()".repeat(240)), 1),
        ] {
            let program = Program::compile(&text, &Env::new()).unwrap();
            let found = program.eval(&[], 10_000).value;
            assert!(
                matches!(found, Ok(Value::Int(n)) if n == value),
                "{text}: {found:?}"
            );
        }
    });
    evaluated.unwrap().join().unwrap();
    let long = vec!["true"; 5000].join(" && ");
    let program = Program::compile(&long, &Env::new()).unwrap();
    assert!(matches!(program.eval(&[], 10_000).value, Ok(Value::Bool(true))));
}

#[test]
fn names_of_properties() {
    for name in ["a.b", "a-b", "a/b", "a__b", "in", "plain_name"] {
        assert_eq!(cel::unescape(&cel::escape(name).unwrap()), name);
    }
    assert_eq!(cel::escape("a b"), None);
}

#[test]
fn types_and_uses() {
    let env = Env::new()
        .with("self", typed())
        .with("oldSelf", typed())
        .with("variables.x", Type::Int);
    let program = Program::compile("self.replicas >= oldSelf.replicas", &env).unwrap();
    assert_eq!(
        (program.result_type(), program.uses("oldSelf")),
        (&Type::Bool, true)
    );
    let program = Program::compile("variables.x + 1", &env).unwrap();
    let variables = [
        ("variables.x", Value::Int(4)),
        ("y", Value::String(Str::Borrowed(""))),
    ];
    assert!(matches!(program.eval(&variables, 100).value, Ok(Value::Int(5))));
}

#[test]
fn mutations_make_objects_and_patches() {
    let env = Env::new().with("object", Type::Dyn);
    let plain = Program::compile("Object{a: 1}", &env).unwrap_err();
    assert!(plain.0.contains("undeclared reference to 'Object'"), "{plain}");
    let env = env.with_messages();
    for (text, wanted) in [
        (
            "Object{spec: Object.spec{replicas: 1 + 1, ?absent: optional.none(), __in__: 'x'}}",
            serde_json::json!({"spec": {"replicas": 2, "in": "x"}}),
        ),
        (
            "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c~d'), value: {'k': [1, 2]}}]",
            serde_json::json!([{"op": "add", "path": "/a/b~1c~0d", "value": {"k": [1, 2]}}]),
        ),
    ] {
        let program = Program::compile(text, &env).unwrap_or_else(|error| panic!("{text}: {error}"));
        let made = program.eval(&[], 10_000).value.unwrap().to_json();
        assert_eq!(made, Some(wanted), "{text}");
    }
    for wrong in [
        "JSONPatch{op: 1}",
        "JSONPatch{other: 'x'}",
        "Other{a: 1}",
        "size(object){a: 1}",
    ] {
        assert!(Program::compile(wrong, &env).is_err(), "{wrong}");
    }
}
