//! `sandlot doctor`: what this machine offers for isolation, and what is missing.

use anyhow::Result;

use crate::{
    args::{Doctor, Output},
    show,
};

/// Looks, and says what was found.
pub(crate) fn run(options: &Doctor) -> Result<()> {
    let machine = sandlot_node::doctor::probe();
    match options.output {
        Output::Text => show::text(&machine.to_string()),
        Output::Json => show::json(&machine),
    }
}
