//! The collector that validators write into, and the few checks that stand at very many fields. One place that knows how
//! `kinds::field` builds errors; the words are upstream's (`apimachinery/pkg/util/validation/field`).

use crate::walk::At;
use kinds::field::{FieldError, Path};
use serde_json::Value;

/// A number below zero.
pub(crate) const NEGATIVE: &str = "must be greater than or equal to 0";
/// A number that is zero or below.
pub(crate) const NOT_POSITIVE: &str = "must be greater than zero";
/// A field that was changed and must not be.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// What is wrong with an object, in the order in which it was found.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Vec<FieldError>);

impl Errors {
    pub(crate) fn required(&mut self, at: &Path, detail: impl Into<String>) {
        self.0.push(FieldError::required(at, detail.into()));
    }
    pub(crate) fn invalid(&mut self, at: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.0.push(FieldError::invalid(at, value.into(), detail.into()));
    }
    pub(crate) fn forbidden(&mut self, at: &Path, detail: impl Into<String>) {
        self.0.push(FieldError::forbidden(at, detail.into()));
    }
    pub(crate) fn duplicate(&mut self, at: &Path, value: impl Into<Value>) {
        self.0.push(FieldError::duplicate(at, value.into()));
    }
    /// A malformed part for which a text stands as it is.
    pub(crate) fn invalid_shown(&mut self, at: &Path, shown: &str, detail: &str) {
        self.0.push(FieldError::invalid_shown(at, shown, detail));
    }

    pub(crate) fn duplicate_because(
        &mut self,
        at: &Path,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        let mut error = FieldError::duplicate(at, value.into());
        error.detail = detail.into();
        self.0.push(error);
    }
    /// A malformed part of which nothing is shown.
    pub(crate) fn invalid_itself(&mut self, at: &Path, detail: impl Into<String>) {
        let mut error = FieldError::invalid(at, Value::Null, detail.into());
        error.bad_value = None;
        self.0.push(error);
    }
    pub(crate) fn not_found(&mut self, at: &Path, value: impl Into<Value>) {
        self.0.push(FieldError::not_found(at, value.into()));
    }
    pub(crate) fn not_supported(&mut self, at: &Path, value: impl Into<Value>, valid: &[&str]) {
        self.0.push(FieldError::not_supported(at, value.into(), valid));
    }
    pub(crate) fn not_supported_in_order(&mut self, at: &Path, value: impl Into<Value>, valid: &[&str]) {
        self.0
            .push(FieldError::not_supported_in_order(at, value.into(), valid));
    }
    pub(crate) fn not_found_because(
        &mut self,
        at: &Path,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        let mut error = FieldError::not_found(at, value.into());
        error.detail = detail.into();
        self.0.push(error);
    }
    /// A list of more than `max` items.
    pub(crate) fn too_many(&mut self, at: &Path, actual: usize, max: usize) {
        self.0.push(FieldError::too_many(at, actual, max));
    }
    /// A value of more than `max` bytes.
    pub(crate) fn too_long(&mut self, at: &Path, max: usize) {
        self.0.push(FieldError::too_long(at, max));
    }

    /// Each message of a name check becomes an `Invalid value` error.
    pub(crate) fn each(&mut self, at: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(at, value, message);
        }
    }

    /// An enumerated string that must be there.
    pub(crate) fn one_of(&mut self, holder: &Value, field: &str, at: &Path, valid: &[&str]) {
        match holder.str_at(field) {
            "" => self.required(&at.child(field), ""),
            value if !valid.contains(&value) => self.not_supported(&at.child(field), value, valid),
            _ => {}
        }
    }

    /// An enumerated string that must be there, whose values upstream tells in an order of its own.
    pub(crate) fn one_of_in_order(&mut self, holder: &Value, field: &str, at: &Path, valid: &[&str]) {
        match holder.str_at(field) {
            "" => self.required(&at.child(field), ""),
            value if !valid.contains(&value) => self.not_supported_in_order(&at.child(field), value, valid),
            _ => {}
        }
    }

    /// An enumerated string that may be absent.
    pub(crate) fn one_of_if_set(&mut self, holder: &Value, field: &str, at: &Path, valid: &[&str]) {
        if !holder.is_empty_at(field) {
            self.one_of(holder, field, at, valid);
        }
    }

    /// An enumerated string that may be absent, but not empty.
    pub(crate) fn one_of_given(&mut self, holder: &Value, field: &str, at: &Path, valid: &[&str]) {
        if let Some(value) = holder.at(field).as_str()
            && !valid.contains(&value)
        {
            self.not_supported(&at.child(field), value, valid);
        }
    }

    /// An integer that, when there, is not below zero.
    pub(crate) fn not_negative(&mut self, holder: &Value, field: &str, at: &Path) {
        if let Some(value) = holder.int_at(field)
            && value < 0
        {
            self.invalid(&at.child(field), value, NEGATIVE);
        }
    }

    /// An integer that, when there, is above zero.
    pub(crate) fn positive(&mut self, holder: &Value, field: &str, at: &Path) {
        if let Some(value) = holder.int_at(field)
            && value <= 0
        {
            self.invalid(&at.child(field), value, NOT_POSITIVE);
        }
    }

    /// A field at the top of the object that an update must leave alone.
    pub(crate) fn immutable_top(&mut self, new: &Value, old: &Value, field: &str) {
        if !crate::walk::same(new.at(field), old.at(field)) {
            self.invalid(&Path::new(field), new.at(field).clone(), IMMUTABLE);
        }
    }

    /// A field that an update must leave alone.
    pub(crate) fn immutable(&mut self, new: &Value, old: &Value, field: &str, at: &Path) {
        if !crate::walk::same(new.at(field), old.at(field)) {
            self.invalid(&at.child(field), new.at(field).clone(), IMMUTABLE);
        }
    }
}

/// A string as Go's `%q` prints it.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}
