//! Objects as answers: as stored, in another version, as a Table, as metadata only; JSON, YAML or protobuf.

use super::Ctx;
use crate::discovery::meaning;
use crate::registry::Served;
use crate::server::ApiServer;
use crate::wire::negotiate::{Encoding, Shape, Wanted};
use crate::wire::{Response, body, compress};
use bytes::Bytes;
use http::StatusCode;
use kinds::KindInfo;
use kinds::status::Status;
use machinery::tables::IncludeObject;
use serde_json::{Value, json};

/// Answers one object given in its storage version.
pub async fn object(
    ctx: &Ctx,
    code: StatusCode,
    stored: Bytes,
    wanted: Wanted,
    include: &str,
) -> Result<Response, Status> {
    if ctx.served.shows_stored()
        && wanted.shape == Shape::Object
        && wanted.encoding == Encoding::Json
        && !wanted.pretty
    {
        let mut whole = Vec::with_capacity(stored.len() + 1);
        whole.extend_from_slice(&stored);
        let answer = body::answer(code, body::JSON, body::ended(whole));
        return Ok(sized(ctx, answer, stored.len()));
    }
    ctx.fits(wanted, false)?;
    let value = decode(&ctx.server, &ctx.served, &stored).await?;
    let shaped = match wanted.shape {
        Shape::Object => value,
        Shape::Table(version) => table(&ctx.served, std::slice::from_ref(&value), version, include)?,
        Shape::Partial(version) => partial(&value, version),
    };
    value_answer(ctx, code, &shaped, wanted)
}

/// Answers a value that is no stored object: Status, Scale, review.
pub fn value_answer(ctx: &Ctx, code: StatusCode, value: &Value, wanted: Wanted) -> Result<Response, Status> {
    let (media, bytes) = encode(value, wanted)?;
    let length = bytes.len();
    Ok(sized(ctx, body::answer(code, media, bytes), length))
}

/// Answers what stands for the object and has shapes as one: its Scale.
pub fn stand_in(
    ctx: &Ctx,
    code: StatusCode,
    kind: &KindInfo,
    value: &Value,
    wanted: Wanted,
) -> Result<Response, Status> {
    ctx.fits(wanted, false)?;
    let shaped = match wanted.shape {
        Shape::Object => return value_answer(ctx, code, value, wanted),
        Shape::Table(version) => {
            let include = crate::request::parameter(&ctx.query, "includeObject").unwrap_or_default();
            let include = include_object(&include)?;
            let now = jiff::Timestamp::now();
            let objects = std::slice::from_ref(value);
            let table = machinery::tables::table(kind, objects.iter(), now, include, &meaning);
            finished(table, objects, version)
        }
        Shape::Partial(version) => partial(value, version),
    };
    value_answer(ctx, code, &shaped, wanted)
}

/// Compresses what is large.
pub fn sized(ctx: &Ctx, response: Response, length: usize) -> Response {
    if length > compress::THRESHOLD && compress::accepts_gzip(&ctx.headers) {
        return compress::gzip(response);
    }
    response
}

/// Encodes a value.
pub fn encode(value: &Value, wanted: Wanted) -> Result<(&'static str, Vec<u8>), Status> {
    let bytes = match wanted.encoding {
        Encoding::Json if wanted.pretty => serde_json::to_vec_pretty(value),
        Encoding::Json => serde_json::to_vec(value).map(body::ended),
        Encoding::Yaml => Ok(machinery::yaml::write(value).into_bytes()),
        Encoding::Protobuf => {
            let bytes = crate::wire::protobuf::encode(value)?;
            return Ok((wanted.encoding.media_type(), bytes));
        }
    };
    Ok((
        wanted.encoding.media_type(),
        bytes.map_err(|e| Status::internal(e.to_string()))?,
    ))
}

/// Decodes stored bytes into the served version.
pub async fn decode(server: &ApiServer, served: &Served, stored: &[u8]) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(stored).map_err(|e| Status::internal(e.to_string()))?;
    if served.shows_stored() {
        return Ok(value);
    }
    server.convert(served, value, served.stored, served.kind).await
}

/// Decodes many at once: a conversion webhook is asked but once.
pub async fn decode_all(
    server: &ApiServer,
    served: &Served,
    objects: &[std::sync::Arc<crate::cache::Object>],
) -> Result<Vec<Value>, Status> {
    let values: Result<Vec<Value>, _> = objects
        .iter()
        .map(|o| serde_json::from_slice(o.bytes()))
        .collect();
    let values = values.map_err(|e| Status::internal(e.to_string()))?;
    if served.shows_stored() {
        return Ok(values);
    }
    server
        .convert_all(served, values, served.stored, served.kind)
        .await
}

/// A Table of objects.
pub fn table(served: &Served, objects: &[Value], version: &str, include: &str) -> Result<Value, Status> {
    let include = include_object(include)?;
    let table = match &served.custom {
        Some(custom) => custom.table(objects, include),
        None => {
            let now = jiff::Timestamp::now();
            machinery::tables::table(served.kind, objects.iter(), now, include, &meaning)
        }
    };
    Ok(finished(table, objects, version))
}

/// A Table of the version that was asked for. That of one object has the object's revision.
fn finished(mut table: Value, objects: &[Value], version: &str) -> Value {
    of_version(&mut table, version);
    if let [only] = objects
        && let Some(revision) = only.pointer("/metadata/resourceVersion")
    {
        table["metadata"]["resourceVersion"] = revision.clone();
    }
    table
}

/// Tells the version that was asked for, in a Table and in the metadata of its rows.
pub fn of_version(table: &mut Value, version: &str) {
    if version == "v1" {
        return;
    }
    let told = json!(format!("meta.k8s.io/{version}"));
    let rows = table["rows"].as_array_mut().into_iter().flatten();
    for row in rows.filter(|row| row["object"]["kind"] == "PartialObjectMetadata") {
        row["object"]["apiVersion"] = told.clone();
    }
    table["apiVersion"] = told;
}

/// Reads `includeObject`.
pub fn include_object(text: &str) -> Result<IncludeObject, Status> {
    match text {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => Err(Status::bad_request(format!(
            "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', \
             'Object', 'None', or empty"
        ))),
    }
}

/// Metadata only.
pub fn partial(value: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": value.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// The Status that answers an immediate deletion and other requests without an object.
pub fn success(kind: &kinds::KindInfo, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    if !uid.is_empty() {
        details["uid"] = json!(uid);
    }
    json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":details})
}
