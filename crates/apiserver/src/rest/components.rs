//! `componentstatuses`: three lines of the old times, deprecated since v1.19 but still asked for by `kubectl get cs`.
//! Nothing is stored; scheduler and controllers live in this process and are as healthy as it is.

use super::{Ctx, render};
use crate::wire::Response;
use crate::wire::negotiate::Shape;
use crate::wire::options::ListOptions;
use http::StatusCode;
use kinds::selector::{FieldSelector, LabelSelector};
use kinds::status::Status;
use serde_json::{Value, json};

/// The components, as upstream names them.
const COMPONENTS: [&str; 3] = ["controller-manager", "scheduler", "etcd-0"];

/// Answers a get or list.
pub async fn answer(ctx: &Ctx) -> Result<Response, Status> {
    let store = ctx.server.store.health().await.map_err(|e| e.to_string());
    let wanted = ctx.wanted(true)?;
    ctx.fits(wanted, ctx.attributes.verb == "list")?;
    let options = ListOptions::parse(&ctx.query)?;
    let include = &options.include_object;
    if ctx.attributes.verb == "get" {
        let found = COMPONENTS.iter().find(|c| **c == ctx.name());
        let one = component(found.ok_or_else(|| ctx.not_found())?, &store);
        let shaped = match wanted.shape {
            Shape::Object => one,
            Shape::Table(version) => render::table(&ctx.served, &[one], version, include)?,
            Shape::Partial(version) => render::partial(&one, version),
        };
        return render::value_answer(ctx, StatusCode::OK, &shaped, wanted);
    }
    let names = COMPONENTS.into_iter().filter(selected(&options)?);
    let items: Vec<Value> = names.map(|c| component(c, &store)).collect();
    let list = match wanted.shape {
        Shape::Table(version) => render::table(&ctx.served, &items, version, include)?,
        Shape::Partial(version) => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": {},
            "items": items.iter().map(|v| render::partial(v, version)).collect::<Vec<_>>(),
        }),
        Shape::Object => {
            json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items})
        }
    };
    render::value_answer(ctx, StatusCode::OK, &list, wanted)
}

/// Which components the selectors of a list want. They lie in no namespace and have no labels.
fn selected(options: &ListOptions) -> Result<impl Fn(&&'static str) -> bool, Status> {
    let bad = |why: &dyn std::fmt::Display| Status::bad_request(why.to_string());
    let labels = LabelSelector::parse(&options.label_selector).map_err(|e| bad(&e))?;
    let fields = FieldSelector::parse(&options.field_selector).map_err(|e| bad(&e))?;
    let mut terms = Vec::new();
    for term in fields.terms() {
        match term.field.as_str() {
            "metadata.name" | "metadata.namespace" => {}
            other => return Err(crate::registry::select::only_metadata(other)),
        }
        terms.push((term.field == "metadata.name", term.equals, term.value.clone()));
    }
    Ok(move |name: &&'static str| {
        let of_fields = |(named, equals, value): &(bool, bool, String)| {
            (value == if *named { *name } else { "" }) == *equals
        };
        terms.iter().all(of_fields) && labels.matches_with(|_| None)
    })
}

fn component(name: &str, store: &Result<(), String>) -> Value {
    let condition = match store {
        Err(why) if name == "etcd-0" => {
            json!({"type": "Healthy", "status": "False", "message": "", "error": why})
        }
        _ => json!({"type": "Healthy", "status": "True", "message": "ok"}),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
}
