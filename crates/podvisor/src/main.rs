//! podvisor
fn main() {}
