//! Pure functions on Kubernetes objects, without any I/O: everything between the bytes of a request and the bytes in the
//! store that does not depend on other objects. An object is a `serde_json::Value`; what is known of its kind comes from
//! the tables of `kinds`.
//!
//! The way of a written object: [`parse_json_checked`], [`decode_check`], [`default`], admission (elsewhere),
//! [`prepare_create`] or [`prepare_update`], [`validate_create`] or [`validate_update`], and [`apply::update_managers`].
//! A patch ([`json_patch`], [`merge_patch`], [`strategic_merge_patch`], [`apply::apply`]) makes a new object out of the
//! old one and takes the same way.

pub mod apply;
mod autoscaling;
mod decode;
mod defaults;
mod der;
mod empties;
mod fields;
mod form;
mod ip;
pub mod openapi;
mod patch;
pub mod protobuf;
mod strategy;
pub mod tables;
mod validation;
mod walk;
mod warnings;
pub mod yaml;

pub use autoscaling::{autoscaler_to_v1, autoscaler_to_v2};
pub use decode::{
    Decoded, Duplicate, FieldValidation, Mismatch, Parsed, Source, decode_check, decode_faults,
    definition_faults, is_time, metadata_faults, parse_json_body, parse_json_checked, parse_yaml_checked,
    strict_text, whole_numbers,
};
pub use defaults::default;
pub use empties::Empties;
pub use form::write as write_form;
pub use ip::legacy_ipv4;
pub use patch::{apply_operations, go_text, json_patch, merge_patch, strategic_merge_patch};
pub use strategy::{
    count_empties, keep_verdicts, pod_quality_of_service, prepare_create, prepare_update, stamp,
};
pub use validation::{
    MANDATORY_FLOWS, definition_names, dns_1035_label, dns_subdomain, has_usable_bundle, mandatory_spec,
    path_segment, qualified_name, service_address_errors, validate_any_update, validate_create,
    validate_embedded, validate_metadata, validate_metadata_update, validate_update, webhook_client,
};
pub use warnings::{early_warnings, status_warnings, warnings};
