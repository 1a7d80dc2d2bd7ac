//! The project's own chores: generate, test, package.

fn main() {}
