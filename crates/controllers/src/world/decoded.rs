//! Decoded objects that were asked for lately: reconcilers come round again and again, mostly to the same ones.
//!
//! Two generations; the older one is dropped when the younger is full. What is asked for again moves into the younger.

use cache::Object;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of JSON that one generation stands for; decoded they take some three times as much.
const GENERATION: usize = 3 << 20;

/// By the address of the cached object, which lives as long as it is remembered here.
type Generation = HashMap<usize, (Arc<Object>, Arc<Value>)>;

/// See the module's words.
#[derive(Default)]
pub(super) struct Decoded {
    young: Generation,
    old: Generation,
    size: usize,
}

impl Decoded {
    /// The decoded form of an object.
    pub(super) fn value(&mut self, object: &Arc<Object>) -> Arc<Value> {
        let address = Arc::as_ptr(object).addr();
        if let Some((_, value)) = self.young.get(&address) {
            return value.clone();
        }
        let (object, value) = self
            .old
            .remove(&address)
            .unwrap_or_else(|| (object.clone(), object.value()));
        self.size += object.bytes().len();
        if self.size > GENERATION {
            self.size = object.bytes().len();
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(address, (object, value.clone()));
        value
    }
}
