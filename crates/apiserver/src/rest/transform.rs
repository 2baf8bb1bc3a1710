//! How the new state of an object follows from its present one: replaced by a body, or patched.
//!
//! A transform is pure, so that a write that lost a race can be tried again on what won.

use super::create::{self, strictness};
use super::{Ctx, meta, now};
use crate::wire::options::FieldValidation;
use kinds::status::Status;
use serde_json::Value;

/// A change as a function of the present state.
pub type Edit = dyn Fn(&Value) -> Result<Value, Status> + Send + Sync;

/// A way from the present state to the next.
pub enum Transform {
    /// PUT: this object.
    Replace(Value),
    /// `application/json-patch+json`.
    Json(Value),
    /// `application/merge-patch+json`.
    Merge(Value),
    /// `application/strategic-merge-patch+json`.
    Strategic(Value),
    /// `application/apply-patch+yaml`.
    Apply {
        /// What the manager wants to own.
        applied: Value,
        /// Who applies.
        manager: String,
        /// Take fields from other managers.
        force: bool,
    },
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
    pub fn new_object(&self, ctx: &Ctx) -> Result<Value, Status> {
        match self {
            Transform::Replace(object) => Ok(object.clone()),
            Transform::Apply {
                applied,
                manager,
                force,
            } => machinery::apply::apply(ctx.served.typed(), None, applied, manager, *force, None, &now()),
            _ => Err(ctx.not_found()),
        }
    }

    /// The next state. The warnings are those of field validation.
    pub fn apply(
        &self,
        ctx: &Ctx,
        current: &Value,
        sub: Option<&str>,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let kind = ctx.served.kind;
        let patched = match self {
            Transform::Replace(object) => return Ok((object.clone(), Vec::new())),
            Transform::Edit(edit) => return Ok((edit(current)?, Vec::new())),
            Transform::Apply {
                applied,
                manager,
                force,
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
                return self.finish(ctx, new, current, FieldValidation::Ignore);
            }
            Transform::Json(patch) => machinery::json_patch(current, patch)?,
            Transform::Merge(patch) => machinery::merge_patch(current, patch)?,
            Transform::Strategic(patch) => machinery::strategic_merge_patch(kind.schema, current, patch)?,
        };
        self.finish(ctx, patched, current, mode)
    }

    /// A patch must leave an object of the same kind, name and place.
    fn finish(
        &self,
        ctx: &Ctx,
        mut new: Value,
        current: &Value,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        if !new.is_object() {
            return Err(Status::bad_request("the patch does not leave an object"));
        }
        for field in ["apiVersion", "kind"] {
            if new.get(field) != current.get(field) {
                return Err(Status::bad_request(format!(
                    "the {field} of an object cannot be patched"
                )));
            }
        }
        let warnings = match &ctx.served.custom {
            Some(custom) => custom.decode_check(&mut new, &[], mode)?,
            None => machinery::decode_check(ctx.served.kind, &mut new, &[], strictness(mode))?,
        };
        if meta(&new, "name") != meta(current, "name") {
            return Err(name_mismatch(meta(&new, "name"), meta(current, "name")));
        }
        create::default(ctx, &mut new);
        Ok((new, warnings))
    }
}

/// The 400 for a body whose name is not that of the URL.
pub fn name_mismatch(in_object: &str, in_url: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({in_object}) does not match the name on the URL ({in_url})"
    ))
}
