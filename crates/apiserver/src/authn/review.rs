//! The create-only kinds of authentication: TokenReview, SelfSubjectReview and TokenRequest (`serviceaccounts/token`).
//!
//! Each takes the decoded object and fills in its `status`; nothing is stored.

use super::Authentication;
use super::service_account::{Binding, Reference};
use crate::rest::meta;
use crate::user::User;
use crate::view::{GroupResource, View};
use jiff::{SignedDuration, Timestamp};
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use serde_json::{Map, Value, json};

/// Life of a token when the request says nothing, in seconds.
const DEFAULT_SECONDS: i64 = 3600;
/// The shortest life, in seconds.
const MIN_SECONDS: i64 = 600;
/// What hosts ask for on behalf of Pods, in seconds. Programs that read such a token once and keep it must not fail: it is
/// good for a year, and its use after this time is noted (KEP-1205).
const POD_SECONDS: i64 = 3607;
/// How long such a token is good, in seconds.
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
/// The longest life, in seconds.
const MAX_SECONDS: i64 = 1 << 32;

/// A user as `userInfo` in reviews and admission requests.
pub fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

/// `POST …/selfsubjectreviews`
pub fn self_subject_review(object: &mut Value, user: &User) {
    // Made anew, whatever was sent.
    object["metadata"] = json!({"creationTimestamp": crate::rest::now()});
    object["status"] = json!({ "userInfo": user_info(user) });
}

/// `POST …/tokenreviews`
pub fn token_review(object: &mut Value, authentication: &Authentication) -> Result<(), Status> {
    let spec = &object["spec"];
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let audiences: Vec<String> = strings(&spec["audiences"]);
    object["status"] = match authentication.token(token, &audiences) {
        Ok(found) => json!({
            "authenticated": true,
            "user": user_info(&found.user),
            "audiences": found.audiences,
        }),
        Err(error) => json!({ "user": {}, "error": error.to_string() }),
    };
    Ok(())
}

/// `POST …/serviceaccounts/NAME/token`
pub fn token_request(
    object: &mut Value,
    namespace: &str,
    name: &str,
    authentication: &Authentication,
    view: &dyn View,
    now: Timestamp,
) -> Result<(), Status> {
    let core = |resource: &str| GroupResource::new("", resource);
    let account = view
        .get(&core("serviceaccounts"), Some(namespace), name)
        .ok_or_else(|| Status::not_found("serviceaccounts", "", name))?;
    let given = meta(object, "name");
    if !given.is_empty() && given != name {
        let why = "must match the service account name if specified";
        let at = Path::new("metadata").child("name");
        let error = FieldError::invalid(&at, given.into(), why);
        return Err(Status::invalid(
            "TokenRequest",
            "authentication.k8s.io",
            name,
            vec![error],
        ));
    }
    let given = meta(object, "namespace");
    if !given.is_empty() && given != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    let (asked, has) = (meta(object, "uid"), meta(&account, "uid"));
    if !asked.is_empty() && asked != has {
        return Err(Status::conflict(
            "TokenRequest",
            "authentication.k8s.io",
            name,
            format!(
                "the UID in the token request ({asked}) does not match the UID of the service account ({has})"
            ),
        ));
    }
    let spec = &object["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let at = Path::new("spec").child("expirationSeconds");
    let problem = match seconds {
        s if s < MIN_SECONDS => Some("may not specify a duration less than 10 minutes"),
        s if s > MAX_SECONDS => Some("may not specify a duration larger than 2^32 seconds"),
        _ => None,
    };
    if let Some(detail) = problem {
        let error = FieldError::invalid(&at, json!(seconds), detail);
        return Err(Status::invalid(
            "TokenRequest",
            "authentication.k8s.io",
            "",
            vec![error],
        ));
    }
    let mut audiences = strings(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(authentication.service_accounts().issuer().to_string());
    }
    let mut binding = Binding {
        namespace: namespace.to_string(),
        node: None,
        pod: None,
        secret: None,
        serviceaccount: reference(&account),
        warnafter: None,
    };
    bind(&mut binding, &spec["boundObjectRef"], view)?;

    let told = SignedDuration::from_secs(seconds);
    let mut life = told;
    let own = [authentication.service_accounts().issuer()];
    if binding.pod.is_some() && seconds == POD_SECONDS && audiences == own {
        binding.warnafter = Some((now + told).as_second());
        life = SignedDuration::from_secs(EXTENDED_SECONDS);
    }
    let token = authentication
        .service_accounts()
        .issue(binding, &audiences, life, now)
        .map_err(|e| Status::internal(e.to_string()))?;
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["uid"] = has.into();
    object["metadata"]["creationTimestamp"] = json!(second(now));
    object["spec"]["audiences"] = json!(audiences);
    object["spec"]["expirationSeconds"] = seconds.into();
    object["status"] = json!({ "token": token, "expirationTimestamp": second(now + told) });
    Ok(())
}

/// Ties the token to the object of `boundObjectRef`, which must exist.
fn bind(binding: &mut Binding, bound: &Value, view: &dyn View) -> Result<(), Status> {
    if bound.is_null() {
        return Ok(());
    }
    let text = |key: &str| bound[key].as_str().unwrap_or_default();
    let (kind, version, name, uid) = (text("kind"), text("apiVersion"), text("name"), text("uid"));
    let (resource, namespace) = match (version, kind) {
        ("v1" | "", "Pod") => ("pods", Some(binding.namespace.as_str())),
        ("v1" | "", "Secret") => ("secrets", Some(binding.namespace.as_str())),
        ("v1" | "", "Node") => ("nodes", None),
        _ => {
            let group = if version.contains('/') { "" } else { "/" };
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}{version}, Kind={kind}"
            )));
        }
    };
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let object = view
        .get(&GroupResource::new("", resource), namespace, name)
        .ok_or_else(|| Status::not_found(resource, "", name))?;
    let found = reference(&object);
    if !uid.is_empty() && uid != found.uid {
        return Err(Status::conflict(
            kind,
            "",
            name,
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    match kind {
        "Pod" => {
            let runs_as = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if runs_as != binding.serviceaccount.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    binding.serviceaccount.name
                )));
            }
            binding.pod = Some(found);
            if let Some(name) = object["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                let node = view.get(&GroupResource::new("", "nodes"), None, name);
                // Of a node that is not there yet, or no more, the name is told all the same.
                binding.node = Some(node.map_or_else(
                    || Reference {
                        name: name.to_owned(),
                        uid: String::new(),
                    },
                    |node| reference(&node),
                ));
            }
        }
        "Secret" => binding.secret = Some(found),
        _ => binding.node = Some(found),
    }
    Ok(())
}

fn reference(object: &Value) -> Reference {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_string();
    Reference {
        name: text("name"),
        uid: text("uid"),
    }
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|v| v.as_str().map(str::to_string)).collect()
}

/// API times have whole seconds.
fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
