//! Dynamic resource allocation: the expressions that select devices, and who may ask for administrative access to them
//! (KEP-5018): only claims in a namespace that is labelled for it.

use crate::view::{GroupResource, View};
use cel::{Env, Field, ObjectType, Program, Type};
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::sync::Arc;

/// The label of a namespace whose claims may have administrative access.
const ADMIN: &str = "resource.kubernetes.io/admin-access";

/// What an expression sees of a device.
fn environment() -> Env {
    let fields = [
        ("driver", Type::String),
        ("attributes", Type::map(Type::map(Type::Any))),
        (
            "capacity",
            Type::map(Type::map(Type::Opaque("kubernetes.Quantity"))),
        ),
    ];
    Env::new().with_bindings().with("device", device(&fields))
}

fn device(fields: &[(&str, Type)]) -> Type {
    let field = |(name, ty): &(&str, Type)| {
        let json = (*name).to_owned();
        (json.clone(), Field { json, ty: ty.clone() })
    };
    Type::Object(Arc::new(ObjectType {
        name: "kubernetes.DRADevice".into(),
        fields: fields.iter().map(field).collect(),
    }))
}

fn list<'v>(holder: &'v Value, field: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    holder
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
}

/// The requests of a claim's spec that name a class, with their places: exact ones and alternatives.
fn requests<'v>(spec: &'v Value, at: &Path) -> Vec<(&'v Value, Path)> {
    let at = at.child("devices").child("requests");
    let mut all = Vec::new();
    for (i, request) in list(&spec["devices"], "requests") {
        if request["exactly"].is_object() {
            all.push((&request["exactly"], at.index(i).child("exactly")));
        }
        let first = at.index(i).child("firstAvailable");
        all.extend(list(request, "firstAvailable").map(|(n, one)| (one, first.index(n))));
    }
    all
}

/// The claim inside an object, and where it is.
fn claim<'v>(kind: &str, object: &'v Value) -> Option<(&'v Value, Path)> {
    match kind {
        "ResourceClaim" => Some((&object["spec"], Path::new("spec"))),
        "ResourceClaimTemplate" => Some((&object["spec"]["spec"], Path::new("spec").child("spec"))),
        _ => None,
    }
}

/// Checks the selectors of claims and classes.
pub fn expressions(kind: &str, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if kind == "DeviceClass" {
        selectors(&object["spec"], &Path::new("spec"), &mut errors);
    }
    if let Some((spec, at)) = claim(kind, object) {
        for (request, at) in requests(spec, &at) {
            selectors(request, &at, &mut errors);
        }
    }
    errors
}

fn selectors(holder: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (i, selector) in list(holder, "selectors") {
        let Some(text) = selector["cel"]["expression"].as_str() else {
            continue;
        };
        let at = at.child("selectors").index(i).child("cel").child("expression");
        let why = match Program::compile(text, &environment()) {
            Err(error) => format!("compilation failed: {error}"),
            Ok(program) if !matches!(program.result_type(), Type::Bool | Type::Any) => {
                let got = program.result_type().formal();
                format!("must evaluate to bool or the unknown type, not {got}")
            }
            Ok(program) => match program.fault() {
                Some(fault) => format!("program instantiation failed: {fault}"),
                None => continue,
            },
        };
        errors.push(FieldError::invalid(&at, Value::from(text), why));
    }
}

/// What is wrong with a claim, or its status, that asks for administrative access where it is not allowed; the first such
/// place is named. `old`: the object before the change of its status (upstream: `pkg/registry/resource/utils.go`).
pub fn unlabelled(kind: &str, object: &Value, old: Option<&Value>, view: &dyn View) -> Option<FieldError> {
    let asks = |one: &Value| one["adminAccess"] == true;
    let at = match old {
        // The spec is for life: what is wrong with it was said at the beginning.
        None => {
            let (spec, _) = claim(kind, object)?;
            let (i, _) = list(&spec["devices"], "requests").find(|(_, request)| asks(&request["exactly"]))?;
            // Of templates too the claim's own place is told.
            Path::new("spec").child("devices").child("requests").index(i)
        }
        Some(_) if kind != "ResourceClaim" => return None,
        Some(old) => {
            let results = |claim: &Value| {
                list(&claim["status"]["allocation"]["devices"], "results")
                    .find(|(_, result)| asks(result))
                    .map(|(i, _)| i)
            };
            if results(old).is_some() {
                return None;
            }
            let devices = Path::new("status").child("allocation").child("devices");
            devices.child("results").index(results(object)?)
        }
    };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
    let namespace = view.get(&GroupResource::new("", "namespaces"), None, namespace);
    if namespace.is_some_and(|n| n["metadata"]["labels"][ADMIN] == "true") {
        return None;
    }
    let why =
        format!("admin access to devices requires the `{ADMIN}: true` label on the containing namespace");
    Some(FieldError::forbidden(&at.child("adminAccess"), why))
}
