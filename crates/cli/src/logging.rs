//! What is logged, and how.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::Command;

/// Begins to log to standard error: warnings by default, and more from an operator, whose log
/// nobody watches as it runs. A gateway is told by the variables that its deployments have;
/// `RUST_LOG` wins over everything.
pub(crate) fn begin(command: &Command) {
    let usual = match command {
        Command::Operator(_) | Command::Robot(_) => "info",
        Command::Gateway(_) => level(&variable("LOG_LEVEL"), &variable("DEBUG")),
        _ => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let is_gateway = matches!(command, Command::Gateway(_));
    if is_gateway && variable("LOG_FORMAT").eq_ignore_ascii_case("json") {
        format.json().init();
    } else {
        format.init();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default().trim().to_owned()
}

/// The level by the names that Python programs give to it.
fn level(name: &str, debug: &str) -> &'static str {
    let is_on = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "true" | "1");
    match name.to_ascii_uppercase().as_str() {
        _ if is_on(debug) => "debug",
        "TRACE" => "trace",
        "DEBUG" => "debug",
        "INFO" => "info",
        "ERROR" | "CRITICAL" => "error",
        _ => "warn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_names_that_deployments_use() {
        assert_eq!(level("INFO", ""), "info");
        assert_eq!(level("warning", "false"), "warn");
        assert_eq!(level("CRITICAL", ""), "error");
        assert_eq!(level("ERROR", "True"), "debug");
        assert_eq!(level("", ""), "warn");
    }
}
