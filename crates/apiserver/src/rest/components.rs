//! `componentstatuses`: three lines of the old times, deprecated since v1.19 but still asked for by `kubectl get cs`.
//! Nothing is stored; scheduler and controllers live in this process and are as healthy as it is.

use super::{Ctx, render};
use crate::wire::Response;
use crate::wire::negotiate::Shape;
use crate::wire::options::ListOptions;
use http::StatusCode;
use kinds::status::Status;
use serde_json::{Value, json};

/// The components, as upstream names them.
const COMPONENTS: [&str; 3] = ["controller-manager", "scheduler", "etcd-0"];

/// Answers a get or list.
pub async fn answer(ctx: &Ctx) -> Result<Response, Status> {
    let store = ctx.server.store.health().await.map_err(|e| e.to_string());
    let wanted = ctx.wanted(true)?;
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
    let items: Vec<Value> = COMPONENTS.iter().map(|c| component(c, &store)).collect();
    let list = match wanted.shape {
        Shape::Table(version) => render::table(&ctx.served, &items, version, include)?,
        _ => json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items}),
    };
    render::value_answer(ctx, StatusCode::OK, &list, wanted)
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
