//! Regular expressions from outside: bounded in size, compiled once.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use regex::{Regex, RegexBuilder};

/// How long an expression may be.
const MAX_PATTERN: usize = 4096;
/// How much memory a compiled expression may take.
const MAX_COMPILED: usize = 1 << 20;
/// How many compiled expressions are kept.
const MAX_KEPT: usize = 512;

/// Compiled expressions by their text. It only remembers what a pure function answered.
static KEPT: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);

/// Compiles an expression, or says why it cannot be had.
///
/// Matching is linear in the text (the engine does not backtrack), so a bound on the
/// compiled size is all that is needed to take expressions from strangers.
pub(crate) fn compile(pattern: &str) -> Result<Arc<Regex>, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("expression is longer than {MAX_PATTERN} bytes"));
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = kept.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(100)
        .build()
        .map_err(|error| error.to_string())?;
    if kept.len() >= MAX_KEPT {
        // Rare enough that starting over is cheaper than keeping an order of use.
        kept.clear();
    }
    let regex = Arc::new(regex);
    kept.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

/// Whether the expression is compiled already.
pub(crate) fn is_kept(pattern: &str) -> bool {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.contains_key(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_would_eat_memory_is_refused() {
        assert!(compile("^[a-z]+$").is_ok());
        assert!(compile("((((a{100}){100}){100}){100})").is_err());
        assert!(compile(&"a".repeat(MAX_PATTERN + 1)).is_err());
        assert!(compile(&"(".repeat(2000)).is_err());
        assert!(compile("(?=look)").is_err());
    }
}
