//! What is said of expressions whose parts do not go together, and of what type those are whose parts do.
//!
//! The cases are in `types.txt`: a line `=== ` with the variables there are and the text as JSON, then what is said of it.

#![allow(clippy::unwrap_used)]

use cel::{Env, Field, ObjectType, Program, Type};
use std::sync::Arc;

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let field = |(name, ty): &(&str, Type)| {
        let json = (*name).to_owned();
        (cel::escape(name).unwrap(), Field { json, ty: ty.clone() })
    };
    Type::Object(Arc::new(ObjectType {
        name: name.into(),
        fields: fields.iter().map(field).collect(),
    }))
}

/// The rules of a definition.
fn rule() -> Env {
    let item = object(
        "selfType.spec.items.@idx",
        &[("key", Type::String), ("n", Type::Int)],
    );
    let spec = [
        ("replicas", Type::Int),
        ("price", Type::Double),
        ("name", Type::String),
        ("on", Type::Bool),
        ("bytes", Type::Bytes),
        ("wait", Type::Duration),
        ("since", Type::Timestamp),
        ("port", Type::Dyn),
        ("tags", Type::list(Type::String)),
        ("labels", Type::map(Type::String)),
        ("counts", Type::map(Type::Int)),
        ("items", Type::list(item)),
        ("a-b.c", Type::Int),
        ("namespace", Type::String),
        ("free", object("selfType.spec.free", &[])),
        (
            "deep",
            object("selfType.spec.deep", &[("x", Type::map(Type::list(Type::Int)))]),
        ),
    ];
    let names = [("name", Type::String), ("generateName", Type::String)];
    let root = [
        ("apiVersion", Type::String),
        ("kind", Type::String),
        ("metadata", object("selfType.metadata", &names)),
        ("spec", object("selfType.spec", &spec)),
        ("status", object("selfType.status", &[("phase", Type::String)])),
    ];
    let ty = object("selfType", &root);
    let old = Type::Optional(Arc::new(ty.clone()));
    Env::new().with("self", ty).with("oldSelf", old)
}

/// Policies.
fn admission() -> Env {
    let kind = [
        ("group", Type::String),
        ("version", Type::String),
        ("kind", Type::String),
    ];
    let user = [
        ("username", Type::String),
        ("groups", Type::list(Type::String)),
        ("extra", Type::map(Type::list(Type::String))),
    ];
    let user = object("kubernetes.UserInfo", &user);
    let request = [
        ("kind", object("kubernetes.GroupVersionKind", &kind)),
        ("name", Type::String),
        ("operation", Type::String),
        ("userInfo", user.clone()),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ];
    let mut env = Env::new()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("params", Type::Dyn)
        .with("request", object("kubernetes.AdmissionRequest", &request))
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with(
            "authorizer.requestResource",
            Type::Opaque("kubernetes.authorization.ResourceCheck"),
        );
    let variables = [
        ("d", Type::Dyn),
        ("i", Type::Int),
        ("s", Type::String),
        ("l", Type::list(Type::String)),
        ("m", Type::map(Type::Int)),
        ("b", Type::Bool),
        ("o", Type::Optional(Arc::new(Type::Dyn))),
        ("r", user),
    ];
    for (name, ty) in variables {
        env = env.with(format!("variables.{name}"), ty.declared());
    }
    env.with("variables", object("kubernetes.variables", &[]))
}

/// Selectors of devices.
fn device() -> Env {
    let fields = [
        ("driver", Type::String),
        ("attributes", Type::map(Type::map(Type::Any))),
        (
            "capacity",
            Type::map(Type::map(Type::Opaque("kubernetes.Quantity"))),
        ),
    ];
    let device = object("kubernetes.DRADevice", &fields);
    Env::new().with_bindings().with("device", device)
}

fn said(text: &str, variables: &str) -> String {
    let env = match variables {
        "plain" => Env::new(),
        "rule" => rule(),
        "admission" => admission(),
        "mutation" => admission().with_messages(),
        "device" => device(),
        other => panic!("{other}"),
    };
    match Program::compile(text, &env) {
        // What selects devices needs no more.
        Ok(program) if variables == "device" && matches!(program.result_type(), Type::Bool | Type::Any) => {
            "good".into()
        }
        Ok(program) => format!("good: {}", program.result_type().formal()),
        Err(error) => error.0,
    }
}

#[test]
fn types_are_told_as_upstream_tells_them() {
    let cases = include_str!("types.txt");
    let mut count = 0;
    for case in cases.strip_prefix("=== ").unwrap().trim_end().split("\n=== ") {
        let (head, wanted) = case.split_once('\n').unwrap();
        let (variables, text) = head.split_once(' ').unwrap();
        let text: String = serde_json::from_str(text).unwrap();
        assert_eq!(said(&text, variables), wanted, "{variables}: {text}");
        count += 1;
    }
    assert!(count > 300);
}

/// What a type is made of may double with every step; it is looked at for a bounded time all the same.
#[test]
fn types_have_bounds() {
    let nested = (0..40).rev().fold("v40".to_string(), |inner, i| {
        format!("[{{v{i}: v{i}}}].map(v{}, {inner})", i + 1)
    });
    let nested = format!("[1].map(v0, {nested})");
    let chain = format!("[1]{}", ".map(v, {v: v})".repeat(45));
    let open = format!("[[]]{}", ".map(v, {v: [], {}: v})".repeat(45));
    let again = format!("x{}", ".optMap(v, v)".repeat(60));
    let joined = format!("[{}]", "[], {}, [[]], ".repeat(2_000));
    let bound = (0..20).rev().fold("v20 + 1".to_string(), |inner, i| {
        format!("cel.bind(v{}, {{v{i}: v{i}}}, {inner})", i + 1)
    });
    let bound = format!("cel.bind(v0, [], {bound})");
    for text in [nested, chain, open, again, joined, bound] {
        assert!(said(&text, "device").len() < 1_000_000, "{text:.80}");
    }
}
