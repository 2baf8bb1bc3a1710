//! What is served: the kinds, their caches and the knobs in which resources differ.

pub mod fields;
