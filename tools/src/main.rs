//! The `block-img` program.
fn main() {}
