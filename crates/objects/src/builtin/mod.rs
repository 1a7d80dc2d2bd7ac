//! The kinds that are built in.
use std::sync::LazyLock;

use crate::schema::Types;

/// Every built-in type by name.
pub fn types() -> &'static Types {
    static TYPES: LazyLock<Types> = LazyLock::new(Types::new);
    &TYPES
}
