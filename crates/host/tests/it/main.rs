//! Tests of the public face of `host`: each module is one area. They are one program, linked once.

#[path = "../common/mod.rs"]
mod common;
mod datastore;
mod endings;
mod growth;
mod hooks;
mod hostile;
mod images;
mod lifecycle;
mod limits;
mod room;
mod streams;
