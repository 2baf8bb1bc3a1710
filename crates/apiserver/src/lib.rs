//! The Kubernetes API server: request -> authentication -> authorization -> admission -> registry -> store.
//!
//! An [`ApiServer`] is a value, made of a store prefix, a table of kinds and an authorizer; a process may hold many.
//! Objects are JSON (`serde_json::Value` or stored bytes) plus schema. Reads are served from the watch cache, which
//! holds every object as encoded bytes; a LIST or WATCH copies them and decodes nothing.
//!
//! Shared words live in small modules: [`user`], [`request`], [`authorize`], [`admit`], [`view`], [`config`].

pub mod admit;
pub mod authorize;
pub mod config;
pub mod request;
pub mod user;
pub mod view;
