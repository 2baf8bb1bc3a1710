//! What mutations need to write JSON patches.

use super::{Answer, Input};
use crate::value::Value;

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let ("jsonpatch.escapeKey", [Value::String(key)]) = (input.function, input.args) else {
        return None;
    };
    if let Err(error) = input.meter.charge(1) {
        return Some(Err(error));
    }
    Some(Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))))
}
