//! The `heaptrace` command.
fn main() {}
