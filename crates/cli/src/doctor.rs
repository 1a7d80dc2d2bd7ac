//! `sandlot doctor`: what this machine offers for isolation, and what is missing.

use anyhow::Result;

use crate::args::{Doctor, Output};

/// Looks, and says what was found.
pub(crate) fn run(options: &Doctor) -> Result<()> {
    let machine = sandlot_node::doctor::probe();
    match options.output {
        Output::Text => print!("{machine}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&machine)?),
    }
    Ok(())
}
