//! From bytes to an object that may be worked on: parsing JSON and YAML within bounds, noticing what a plain parser hides
//! (duplicate keys), and checking the result against the schema of its kind (`check`), where what Go's encoder would not write
//! is left out (`omit`), and what is wrong is told in the words of Go (`go`). Faults are told in the order of the body (`order`).

mod check;
mod fault;
mod numbers;
mod omit;
mod order;
mod parse;
mod schemas;
mod time;

pub use check::{
    Decoded, FieldValidation, Mismatch, decode_check, decode_faults, definition_faults, metadata_faults,
    strict_text,
};
pub(crate) use fault::json_fault;
pub use numbers::whole_numbers;
pub use order::Source;
pub(crate) use order::Step;
pub use parse::{Duplicate, Parsed, parse_json_body, parse_json_checked, parse_yaml_checked};
pub(crate) use schemas::{PROPS, below as schemas_below};
pub use time::is_time;
