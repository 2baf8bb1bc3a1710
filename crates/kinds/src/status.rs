//! Refusals: the `Status` object with the reasons, codes and messages of upstream's API errors.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Value, json};

use crate::field::FieldError;

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// A word for programs, such as `NotFound`.
    pub reason: Cow<'static, str>,
    /// A sentence for people.
    pub message: String,
    /// What it is about.
    pub details: Option<Details>,
    /// With which a list may go on although its snapshot is gone; empty otherwise.
    pub continue_token: String,
}

/// What a refusal is about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its kind, or its resource where only that is known.
    pub kind: String,
    /// Its uid.
    pub uid: String,
    /// One entry for each thing that is wrong.
    pub causes: Vec<Cause>,
    /// When to try again; 0 says nothing.
    pub retry_after_seconds: u32,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// A word for programs.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The field in question.
    pub field: String,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            details: None,
            continue_token: String::new(),
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details = Some(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..Details::default()
        });
        self
    }

    /// 404: no such object.
    pub fn not_found(resource: &str, group: &str, name: &str) -> Self {
        let qualified = qualified(resource, group);
        Self::new(404, "NotFound", format!("{qualified} {name:?} not found")).about(group, resource, name)
    }

    /// 404 for a path that leads nowhere.
    pub fn no_such_path() -> Self {
        let mut status = Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
        status.details = Some(Details::default());
        status
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &str, group: &str, name: &str) -> Self {
        let qualified = qualified(resource, group);
        Self::new(
            409,
            "AlreadyExists",
            format!("{qualified} {name:?} already exists"),
        )
        .about(group, resource, name)
    }

    /// 409: the object has changed, or cannot be changed now.
    pub fn conflict(resource: &str, group: &str, name: &str, why: impl fmt::Display) -> Self {
        let qualified = qualified(resource, group);
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {qualified} {name:?}: {why}"),
        )
        .about(group, resource, name)
    }

    /// 409 of server-side apply: others own the fields.
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        let mut status = Self::new(409, "Conflict", message);
        status.details = Some(Details {
            causes,
            ..Details::default()
        });
        status
    }

    /// 422: the object is not valid.
    pub fn invalid(kind: &str, group: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let qualified = qualified(kind, group);
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = if errors.is_empty() {
            format!("{qualified} {name:?} is invalid")
        } else {
            format!("{qualified} {name:?} is invalid: {text}")
        };
        let mut status = Self::new(422, "Invalid", message).about(group, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = errors
                .iter()
                .map(|error| Cause {
                    reason: error.ty.reason().to_owned(),
                    message: error.body(),
                    field: error.path.to_string(),
                })
                .collect();
        }
        status
    }

    /// 403: not allowed.
    pub fn forbidden(resource: &str, group: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{} is forbidden: {why}", qualified(resource, group)),
            (false, false) => format!("{} {name:?} is forbidden: {why}", qualified(resource, group)),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: who are you?
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource knows no such verb.
    pub fn method_not_supported(resource: &str, group: &str, verb: &str) -> Self {
        let kind = qualified(resource, group);
        let text = format!("{verb} is not supported on resources of kind {kind:?}");
        Self::new(405, "MethodNotAllowed", text).about(group, resource, "")
    }

    /// 405: there is no such verb here.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .about("", "", "")
    }

    /// 404: within an API that is served, there is nothing at this path.
    pub fn no_resource() -> Self {
        let text = "the server could not find the requested resource";
        Self::new(404, "NotFound", text).about("", "", "")
    }

    /// 406: none of the accepted media types can be had.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429: later, please.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = Some(Details {
            retry_after_seconds,
            ..Details::default()
        });
        status
    }

    /// 410: the revision or the continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 500: our own fault.
    pub fn internal(message: impl fmt::Display) -> Self {
        let mut status = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        );
        status.details = Some(Details {
            causes: vec![Cause {
                reason: String::new(),
                message: message.to_string(),
                field: String::new(),
            }],
            ..Details::default()
        });
        status
    }

    /// 500 with the words alone: what upstream's server makes of an error that says no more.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 504: not in time.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(504, "Timeout", format!("Timeout: {message}"));
        status.details = Some(Details {
            retry_after_seconds,
            ..Details::default()
        });
        status
    }

    /// 413: the body is too large.
    pub fn request_entity_too_large(message: impl fmt::Display) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {message}"),
        )
    }

    /// 503: not now.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// Offers a token with which the list may go on, inconsistently.
    pub fn set_continue(&mut self, token: String) {
        self.continue_token = token;
    }

    /// Adds a cause.
    pub fn add_cause(&mut self, reason: &str, message: impl Into<String>, field: &str) {
        self.details
            .get_or_insert_with(Details::default)
            .causes
            .push(Cause {
                reason: reason.to_owned(),
                message: message.into(),
                field: field.to_owned(),
            });
    }

    /// Adds a cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.add_cause(reason, message, field);
        self
    }

    /// The `v1.Status` object.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        });
        if !self.reason.is_empty() {
            object["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            object["details"] = details.to_json();
        }
        object["code"] = json!(self.code);
        if !self.continue_token.is_empty() {
            object["metadata"]["continue"] = json!(self.continue_token);
        }
        object
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut object = serde_json::Map::new();
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                object.insert(key.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes: Vec<Value> = self.causes.iter().map(Cause::to_json).collect();
            object.insert("causes".to_owned(), Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            object.insert("retryAfterSeconds".to_owned(), json!(self.retry_after_seconds));
        }
        Value::Object(object)
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut object = serde_json::Map::new();
        for (key, text) in [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ] {
            if !text.is_empty() {
                object.insert(key.to_owned(), json!(text));
            }
        }
        Value::Object(object)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `deployments.apps`, or `pods` in the core group.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    #[test]
    fn messages_are_upstreams() {
        let required = FieldError::required(&Path::new("spec").child("x"), "");
        let cases = [
            (Status::not_found("pods", "", "a"), "pods \"a\" not found"),
            (
                Status::not_found("deployments", "apps", "a"),
                "deployments.apps \"a\" not found",
            ),
            (
                Status::already_exists("pods", "", "a"),
                "pods \"a\" already exists",
            ),
            (
                Status::conflict("pods", "", "a", "it changed"),
                "Operation cannot be fulfilled on pods \"a\": it changed",
            ),
            (
                Status::invalid("Pod", "", "a", vec![required.clone()]),
                "Pod \"a\" is invalid: spec.x: Required value",
            ),
            (
                Status::invalid(
                    "Deployment",
                    "apps",
                    "a",
                    vec![required.clone(), FieldError::forbidden(&Path::new("y"), "no")],
                ),
                "Deployment.apps \"a\" is invalid: [spec.x: Required value, y: Forbidden: no]",
            ),
            (
                Status::forbidden("pods", "", "", "User \"u\" cannot"),
                "pods is forbidden: User \"u\" cannot",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(status.message, expected);
        }
        let json = Status::invalid("Pod", "", "a", vec![required]).to_json();
        assert_eq!(json["details"]["causes"][0]["reason"], "FieldValueRequired");
        assert_eq!(json["code"], 422);
    }
}
