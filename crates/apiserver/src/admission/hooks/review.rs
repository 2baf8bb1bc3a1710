//! AdmissionReview: the question a webhook gets and the answer it gives (`admission.k8s.io/v1` and `v1beta1`).

use super::Failure;
use super::config::Hook;
use crate::admission::matching::{self, Matched};
use crate::admit::{AdmissionRequest, Operation};
use crate::rest::Ctx;
use crate::subresources::scale;
use base64::Engine;
use kinds::status::{Cause, Details, Status};
use serde_json::{Map, Value, json};

/// What a webhook says.
#[derive(Default)]
pub struct Verdict {
    /// It does not let the request through.
    pub refused: Option<Status>,
    /// What it wants changed.
    pub patch: Option<Patch>,
    /// Warnings for the client.
    pub warnings: Vec<String>,
    /// Annotations for the audit log.
    pub annotations: Vec<(String, String)>,
}

/// A change that a webhook wants.
pub struct Patch {
    bytes: Vec<u8>,
    kind: String,
}

impl Patch {
    /// The operations of a JSON patch; none when it changes nothing: that may stand where nothing can be changed.
    pub fn operations(&self) -> Result<Option<Value>, Failure> {
        let read = serde_json::from_slice::<Option<Vec<Value>>>(&self.bytes);
        let read = read.map_err(|why| {
            Failure::Calling(format!("received undecodable patch in webhook response: {why}"))
        })?;
        Ok(read.filter(|list| !list.is_empty()).map(Value::Array))
    }

    /// Refuses a type that is none.
    pub fn check_type(&self) -> Result<(), Failure> {
        match self.kind.as_str() {
            "JSONPatch" => Ok(()),
            other => Err(Failure::Calling(format!("unsupported patch type {other:?}"))),
        }
    }
}

/// Object and old object as the request's own kind shows them: behind `scale` stands a Scale.
pub fn objects(request: &AdmissionRequest<'_>, ctx: &Ctx) -> (Value, Value) {
    let old = request.old.cloned().unwrap_or(Value::Null);
    let object = request.object.clone();
    match request.attributes.subresource.as_str() {
        "scale" if request.operation == Operation::Update => {
            let paths = scale::paths(ctx);
            (scale::scale_of(&object, &paths), scale::scale_of(&old, &paths))
        }
        _ => (object, old),
    }
}

/// Group, version and kind of the body of the request.
fn kind(request: &AdmissionRequest<'_>, ctx: &Ctx) -> Value {
    let kind = ctx.served.kind;
    let a = request.attributes;
    let sub = kind.subresource(&a.subresource).filter(|s| !s.version.is_empty());
    let own = request
        .object
        .get("kind")
        .and_then(Value::as_str)
        .filter(|_| request.operation == Operation::Connect);
    let (group, version, name) = match (sub, own) {
        (_, Some(own)) => ("", "v1", own),
        (Some(sub), None) => (sub.group, sub.version, sub.kind),
        (None, None) => (kind.group, kind.version, kind.kind),
    };
    json!({"group": group, "version": version, "kind": name})
}

/// The request without its objects.
pub fn describe(request: &AdmissionRequest<'_>, ctx: &Ctx, matched: &Matched, uid: &str) -> Value {
    let a = request.attributes;
    let request_kind = kind(request, ctx);
    let request_resource = json!({"group": a.group, "version": a.version, "resource": a.resource});
    let (kind, resource) = match matched {
        Matched::Same => (request_kind.clone(), request_resource.clone()),
        Matched::Other(other) => {
            let k = other.kind;
            let kind = match a.subresource.as_str() {
                "scale" => request_kind.clone(),
                _ => json!({"group": k.group, "version": k.version, "kind": k.kind}),
            };
            (
                kind,
                json!({"group": k.group, "version": k.version, "resource": k.plural}),
            )
        }
    };
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if value != "" {
            out.insert(name.to_string(), value);
        }
    };
    put("uid", json!(uid));
    put("kind", kind);
    put("resource", resource);
    put("subResource", json!(a.subresource));
    put("requestKind", request_kind);
    put("requestResource", request_resource);
    put("requestSubResource", json!(a.subresource));
    put("name", json!(matching::name(request)));
    put("namespace", json!(matching::namespace(request)));
    put("operation", json!(request.operation.as_str()));
    let mut user = json!({"username": request.user.name, "groups": request.user.groups});
    if !request.user.uid.is_empty() {
        user["uid"] = json!(request.user.uid);
    }
    if !request.user.extra.is_empty() {
        user["extra"] = json!(request.user.extra);
    }
    put("userInfo", user);
    put("dryRun", json!(request.dry_run));
    put("options", request.options.clone());
    Value::Object(out)
}

/// The review around a request.
pub fn wrap(request: Value, version: &str) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request})
}

/// Reads an answer (upstream's `VerifyAdmissionResponse`).
pub fn read(hook: &Hook, code: u16, bytes: &[u8], version: &str, uid: &str) -> Result<Verdict, Failure> {
    let failed = |why: String| Failure::Calling(format!("failed to call webhook: {why}"));
    let invalid = |why: String| Failure::Calling(format!("received invalid webhook response: {why}"));
    if !(200..300).contains(&code) {
        return Err(failed(crate::outbound::refusal(code, bytes)));
    }
    let review: Value = serde_json::from_slice(bytes)
        .map_err(|e| failed(format!("couldn't get version/kind; json parse error: {e}")))?;
    let text = |f: &str| review.get(f).and_then(Value::as_str).unwrap_or("");
    let expected = format!("admission.k8s.io/{version}, Kind=AdmissionReview");
    let got = format!("{}, Kind={}", text("apiVersion"), text("kind"));
    let Some(response) = review.get("response").filter(|r| r.is_object()) else {
        return Err(invalid("webhook response was absent".into()));
    };
    if version == "v1" {
        let answered = response["uid"].as_str().unwrap_or("");
        if answered != uid {
            return Err(invalid(format!(
                "expected response.uid={uid:?}, got {answered:?}"
            )));
        }
        if got != expected {
            return Err(invalid(format!(
                "expected webhook response of {expected}, got {got}"
            )));
        }
    }
    let mut verdict = Verdict {
        patch: patch(response, version, hook.mutating)?,
        warnings: strings(&response["warnings"]),
        ..Verdict::default()
    };
    if let Some(annotations) = response["auditAnnotations"].as_object() {
        let texts = annotations
            .iter()
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string())));
        verdict.annotations = texts.collect();
    }
    if response["allowed"] != true {
        let mut status = denial(&hook.name, &response["status"]);
        status.message = status.message.trim_end().to_string();
        verdict.refused = Some(status);
    }
    Ok(verdict)
}

/// The patch of an answer, which says its type beside it, and only where one is asked for. The old version needs no type, and
/// what validates may say there what it likes.
fn patch(response: &Value, version: &str, mutating: bool) -> Result<Option<Patch>, Failure> {
    let invalid = |why: String| Failure::Calling(format!("received invalid webhook response: {why}"));
    let patch = response.get("patch").and_then(Value::as_str).unwrap_or("");
    let kind = response.get("patchType").and_then(Value::as_str);
    let kind = match (version, mutating, patch, kind) {
        ("v1", false, "", None) => return Ok(None),
        ("v1", false, "", Some(_)) => {
            return Err(invalid(
                "validating webhook may not return response.patchType".into(),
            ));
        }
        ("v1", false, ..) => {
            return Err(invalid("validating webhook may not return response.patch".into()));
        }
        ("v1", true, "", Some(_)) => {
            let why = "webhook returned response.patchType but not response.patch";
            return Err(invalid(why.into()));
        }
        (_, false, ..) | (_, _, "", _) => return Ok(None),
        ("v1", true, _, None) => {
            let why = "webhook returned response.patch but not response.patchType";
            return Err(invalid(why.into()));
        }
        ("v1", true, _, Some("")) => {
            let why = "webhook returned invalid response.patchType of \"\"";
            return Err(invalid(why.into()));
        }
        ("v1", true, _, Some(kind)) => kind,
        _ => "JSONPatch",
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(patch);
    let bytes = bytes.map_err(|why| Failure::Calling(format!("failed to call webhook: {why}")))?;
    Ok(Some(Patch {
        bytes,
        kind: kind.to_owned(),
    }))
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|v| v.as_str().map(String::from)).collect()
}

/// The refusal of a webhook, with its own code, reason and words.
fn denial(hook: &str, status: &Value) -> Status {
    let by = format!("admission webhook {hook:?} denied the request");
    let text = |f: &str| status.get(f).and_then(Value::as_str).unwrap_or("");
    let mut out = Status::bad_request(match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    });
    out.reason = text("reason").to_owned().into();
    let code = status["code"]
        .as_u64()
        .and_then(|c| u16::try_from(c).ok())
        .unwrap_or(0);
    out.code = if (400..600).contains(&code) { code } else { 400 };
    if let Some(details) = status.get("details").filter(|d| d.is_object()) {
        let text = |v: &Value, f: &str| v.get(f).and_then(Value::as_str).unwrap_or("").to_string();
        let causes = details["causes"].as_array().into_iter().flatten();
        out.details = Some(Details {
            name: text(details, "name"),
            group: text(details, "group"),
            kind: text(details, "kind"),
            uid: text(details, "uid"),
            causes: causes
                .map(|c| Cause {
                    reason: text(c, "reason"),
                    message: text(c, "message"),
                    field: text(c, "field"),
                })
                .collect(),
            retry_after_seconds: details["retryAfterSeconds"].as_u64().unwrap_or(0) as u32,
        });
    }
    out
}
