//! How the new state of an object follows from its present one: replaced by a body, or patched.
//!
//! A transform is pure, so that a write that lost a race can be tried again on what won.

use super::create::{self, Sent};
use super::{Ctx, meta, now};
use crate::wire::options::FieldValidation;
use kinds::field::{FieldError, Path, json_text};
use kinds::status::Status;
use machinery::{Decoded, Empties};
use serde_json::Value;

/// A change as a function of the present state.
pub type Edit = dyn Fn(&Value) -> Result<Value, Status> + Send + Sync;

/// A decoded patch.
pub struct Patch {
    /// What it says.
    pub value: Value,
    /// What a strict decoder finds wrong with the patch itself.
    pub faults: Vec<String>,
    /// The patch as it came, where a refusal shows it so: upstream reads merge patches into objects and shows those.
    pub text: Option<String>,
}

/// A way from the present state to the next.
pub enum Transform {
    /// PUT: this object.
    Replace(Sent),
    /// `application/json-patch+json`.
    Json(Patch),
    /// `application/merge-patch+json`.
    Merge(Patch),
    /// `application/strategic-merge-patch+json`.
    Strategic(Patch),
    /// `application/apply-patch+yaml`.
    Apply {
        /// What the manager wants to own, as it was written.
        applied: Value,
        /// How namespace and name in it are told.
        place: String,
        /// Who applies.
        manager: String,
        /// Take fields from other managers.
        force: bool,
        /// What stood twice in the body.
        twice: Vec<String>,
        /// What becomes of that.
        mode: FieldValidation,
    },
    /// A patch that cannot be read, which is told once there is something to patch.
    Unreadable(Status),
    /// A change made by the server itself (scale, binding).
    Edit(Box<Edit>),
}

impl Transform {
    /// Whether a missing object is made.
    pub fn creates(&self, ctx: &Ctx, sub: Option<&str>) -> bool {
        sub.is_none()
            && match self {
                Transform::Replace(_) => ctx.served.traits.create_on_update,
                Transform::Apply { .. } => true,
                _ => false,
            }
    }

    /// Whether the managed fields are written by the transform itself.
    pub fn is_apply(&self) -> bool {
        matches!(self, Transform::Apply { .. })
    }

    /// The object as it shall be made when there is none.
    pub fn new_object(&self, ctx: &Ctx) -> Result<Sent, Status> {
        match self {
            Transform::Replace(sent) => Ok(sent.clone()),
            Transform::Apply {
                applied,
                place,
                manager,
                force,
                ..
            } => {
                let mut new = machinery::apply::apply(
                    ctx.served.typed(),
                    None,
                    applied,
                    manager,
                    *force,
                    None,
                    &now(),
                )?;
                let empties = match ctx.served.custom {
                    Some(_) => Empties::default(),
                    None => {
                        let decoded = machinery::decode_faults(ctx.served.kind, &mut new, &[]);
                        decoded.map_err(|why| unconverted(ctx, place, &why))?.empties
                    }
                };
                self.judge_duplicates(ctx)?;
                Ok(Sent { object: new, empties })
            }
            _ => Err(ctx.not_found()),
        }
    }

    /// The next state. What field validation warns of is told however the request ends.
    pub fn apply(
        &self,
        ctx: &Ctx,
        current: &Value,
        sub: Option<&str>,
        mode: FieldValidation,
    ) -> Result<Sent, Status> {
        match self {
            Transform::Replace(sent) => Ok(sent.clone()),
            Transform::Edit(edit) => edit(current).map(Sent::from),
            Transform::Unreadable(why) => Err(why.clone()),
            Transform::Apply {
                applied,
                manager,
                force,
                ..
            } => {
                let new = machinery::apply::apply(
                    ctx.served.typed(),
                    Some(current),
                    applied,
                    manager,
                    *force,
                    sub,
                    &now(),
                )?;
                let sent = self.finish(ctx, new, current, FieldValidation::Ignore)?;
                self.judge_duplicates(ctx)?;
                Ok(sent)
            }
            Transform::Json(patch) | Transform::Merge(patch) | Transform::Strategic(patch) => {
                self.finish(ctx, self.patched(ctx, current, patch, mode)?, current, mode)
            }
        }
    }

    /// What stands twice in an applied configuration is told after the conflicts, as upstream's `applyPatcher` does.
    fn judge_duplicates(&self, ctx: &Ctx) -> Result<(), Status> {
        let Transform::Apply { twice, mode, .. } = self else {
            return Ok(());
        };
        if *mode == FieldValidation::Strict && !twice.is_empty() {
            let lines: String = twice.iter().map(|t| format!("\n  {t}")).collect();
            return Err(Status::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:{lines}"
            )));
        }
        if *mode == FieldValidation::Warn {
            ctx.notes.warn_all(twice.iter().cloned());
        }
        Ok(())
    }

    fn patched(
        &self,
        ctx: &Ctx,
        current: &Value,
        patch: &Patch,
        mode: FieldValidation,
    ) -> Result<Value, Status> {
        match self {
            Transform::Json(_) => {
                machinery::json_patch(current, &patch.value, mode != FieldValidation::Ignore)
            }
            Transform::Strategic(_) => {
                machinery::strategic_merge_patch(ctx.served.kind.schema, current, &patch.value)
                    .map(|patched| of_the_kind(patched, current))
            }
            _ => machinery::merge_patch(current, &patch.value, mode != FieldValidation::Ignore),
        }
    }

    /// What is patched keeps its kind: what is left out of it, or empty, is that of before.
    fn same_kind(&self, ctx: &Ctx, new: &mut Value, current: &Value) -> Result<(), String> {
        for field in ["kind", "apiVersion"] {
            let wrong = match &new[field] {
                Value::String(text) if !text.is_empty() => continue,
                Value::String(_) | Value::Null => None,
                other => Some(create::type_name(other)),
            };
            match wrong {
                None => new[field] = current[field].clone(),
                Some(found) => {
                    return Err(format!(
                        "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field \
                         .{field} of type string"
                    ));
                }
            }
        }
        create::without_empty_group(new);
        if new["kind"] == current["kind"] && new["apiVersion"] == current["apiVersion"] {
            return Ok(());
        }
        let text = |field: &str| new[field].as_str().unwrap_or("");
        Err(create::other_kind(&ctx.served, text("apiVersion"), text("kind")))
    }

    /// A patch must leave an object of the same kind, name and place.
    fn finish(
        &self,
        ctx: &Ctx,
        mut new: Value,
        current: &Value,
        mode: FieldValidation,
    ) -> Result<Sent, Status> {
        let refuse = |shown: String, why: String| {
            let error = FieldError::invalid(&Path::new("patch"), shown.into(), why);
            Status::invalid("", "", "", vec![error])
        };
        if !new.is_object() {
            return Err(refuse(new.to_string(), create::no_object(&new)));
        }
        if ctx.served.custom.is_some() && matches!(self, Transform::Json(_) | Transform::Merge(_)) {
            let is_empty = |field: &str| matches!(new[field].as_str(), None | Some(""));
            if new["kind"].is_null() || new["kind"] == "" {
                let text = new.to_string();
                return Err(refuse(
                    text.clone(),
                    format!("Object 'Kind' is missing in '{text}'"),
                ));
            }
            if is_empty("apiVersion") && (new["apiVersion"].is_null() || new["apiVersion"].is_string()) {
                return Err(Status::internal(
                    "Object 'apiVersion' is missing in 'object has no apiVersion field'",
                ));
            }
        }
        if ctx.served.custom.is_none() && matches!(self, Transform::Json(_) | Transform::Merge(_)) {
            unversioned(ctx, &new, mode).map_err(|why| match why {
                Some(faults) => refuse(json_text(&new), machinery::strict_text(&faults)),
                None => name_mismatch("", meta(current, "name")),
            })?;
        }
        if let Err(why) = self.same_kind(ctx, &mut new, current) {
            return Err(match ctx.served.custom {
                Some(_) => {
                    create::other_custom_kind(ctx, &new).unwrap_or_else(|| refuse(json_text(&new), why))
                }
                None => refuse(json_text(&new), why),
            });
        }
        let (patch, strategic) = match self {
            Transform::Json(patch) | Transform::Merge(patch) => (Some(patch), false),
            Transform::Strategic(patch) => (Some(patch), true),
            _ => (None, false),
        };
        let decoded = match &ctx.served.custom {
            Some(custom) => {
                if patch.is_some() {
                    custom.drop_nulls(&mut new);
                }
                custom.decode_faults(&mut new, &[]).map(|faults| Decoded {
                    faults,
                    empties: Empties::default(),
                })
            }
            None => machinery::decode_faults(ctx.served.kind, &mut new, &[]),
        };
        let mut warnings = patch.map(|p| p.faults.clone()).unwrap_or_default();
        let own = warnings.len();
        let empties = match (decoded, patch) {
            (Ok(decoded), _) => {
                warnings.extend(decoded.faults);
                decoded.empties
            }
            (Err(why), Some(patch)) if strategic => {
                return Err(refuse(machinery::go_text(&patch.value), why.restore));
            }
            // Shown as it was patched, and not as far as it has been read.
            (Err(why), Some(patch)) => {
                let shown = self.patched(ctx, current, patch, mode)?.to_string();
                return Err(refuse(shown, why.json));
            }
            (Err(why), None) => {
                return Err(match self {
                    Transform::Apply { place, .. } if ctx.served.custom.is_none() => {
                        unconverted(ctx, place, &why)
                    }
                    _ => Status::bad_request(why.json),
                });
            }
        };
        match (mode, patch) {
            (FieldValidation::Ignore, _) => warnings.clear(),
            (FieldValidation::Strict, Some(patch)) if !warnings.is_empty() => {
                let shown = match strategic {
                    true => machinery::go_text(&patch.value),
                    // Where only the patch is wrong, upstream shows it instead of what came of it.
                    false if warnings.len() == own => {
                        patch.text.clone().unwrap_or_else(|| patch.value.to_string())
                    }
                    // With what is unknown, which has been dropped from the new object.
                    false => self.patched(ctx, current, patch, mode)?.to_string(),
                };
                return Err(refuse(shown, machinery::strict_text(&warnings)));
            }
            _ => {}
        }
        ctx.notes.warn_all(warnings);
        if meta(&new, "namespace") != meta(current, "namespace") && !meta(&new, "namespace").is_empty() {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if meta(&new, "name") != meta(current, "name") {
            return Err(name_mismatch(meta(&new, "name"), meta(current, "name")));
        }
        create::default(ctx, &mut new);
        Ok(Sent { object: new, empties })
    }
}

/// An object without a version is one of upstream's own, of which it knows none of the fields: they are refused, or told and
/// dropped, and the name with them.
fn unversioned(ctx: &Ctx, new: &Value, mode: FieldValidation) -> Result<(), Option<Vec<String>>> {
    if !matches!(new.get("apiVersion"), None | Some(Value::Null)) {
        return Ok(());
    }
    let names = new
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = names
        .filter(|name| !matches!(*name, "kind" | "apiVersion"))
        .collect();
    names.sort_unstable();
    let faults: Vec<String> = names
        .iter()
        .map(|name| format!("unknown field {name:?}"))
        .collect();
    match mode {
        FieldValidation::Strict if !faults.is_empty() => return Err(Some(faults)),
        FieldValidation::Warn => ctx.notes.warn_all(faults),
        _ => {}
    }
    Err(None)
}

/// The refusal of an applied object with a value that its kind cannot have, which is found once it is merged. `place` is that
/// in the configuration.
fn unconverted(ctx: &Ctx, place: &str, why: &machinery::Mismatch) -> Status {
    let kind = format!(
        "{}, Kind={}",
        super::patch::group_and_version(&ctx.served),
        ctx.served.kind.kind
    );
    Status::plain(format!(
        "failed to convert new object ({place}; {kind}) to proper version: unable to convert unstructured object to {kind}: {}",
        why.restore
    ))
}

/// The 400 for a body whose name is not that of the URL.
pub fn name_mismatch(in_object: &str, in_url: &str) -> Status {
    if in_object.is_empty() {
        return Status::bad_request(format!(
            "the name of the object ({in_url} based on URL) was undeterminable: name must be provided"
        ));
    }
    Status::bad_request(format!(
        "the name of the object ({in_object}) does not match the name on the URL ({in_url})"
    ))
}

/// A strategic merge patch is laid on a typed object: what it calls the kind does not matter (Ansible sends the kind that is
/// scaled to a Scale).
pub(crate) fn of_the_kind(mut patched: Value, current: &Value) -> Value {
    for field in ["kind", "apiVersion"] {
        if let (Some(value), Some(fields)) = (current.get(field), patched.as_object_mut()) {
            fields.insert(field.to_owned(), value.clone());
        }
    }
    patched
}
