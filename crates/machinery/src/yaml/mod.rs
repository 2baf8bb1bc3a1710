//! YAML as upstream's server reads and writes it, which is that of Go's `yaml.v2`: version 1.1 with that library's own
//! choices. What is written is compared by scripts, and what is read decides between a text and a number (`yes`, `0o17`,
//! `2024-01-01`); what is said of a faulty text is what people search for. So both ways follow that library to the letter.
//!
//! Reading goes from characters (`text`) to tokens (`scan`) to a tree (`tree`) to a value (`read`); writing chooses how
//! each scalar is quoted (`scalar`) and lays out the rest (`write`). Both ask `plain` what an unquoted scalar means.

mod keys;
mod plain;
mod read;
mod scalar;
mod scalars;
mod scan;
mod tags;
mod text;
mod tree;
mod words;
mod write;

pub(crate) use plain::{float_text, json_number};
pub(crate) use read::read;
pub use write::write;
pub(crate) use write::write_wide;
