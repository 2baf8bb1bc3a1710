//! What several steps ask of a Pod: its containers and what they request together.

use serde_json::Value;

pub(crate) use ::quota::{Amounts, amounts, total};

/// The items of a list field; nothing when it is missing.
pub(crate) fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object[list].as_array().into_iter().flatten()
}
