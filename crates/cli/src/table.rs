//! Lists for people and for scripts.

use anyhow::Result;
use serde::Serialize;

use crate::{args::Output, show};

/// Prints the items as aligned columns, or whole as JSON.
pub(crate) fn print<T: Serialize>(
    output: Output,
    headings: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match output {
        Output::Json => show::json(items),
        Output::Text => {
            let headings = headings.iter().map(|h| (*h).to_owned()).collect();
            let rows: Vec<Vec<String>> = std::iter::once(headings)
                .chain(items.iter().map(row))
                .collect();
            show::text(&aligned(&rows))
        }
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["NAME".into(), "PHASE".into()],
            vec!["a-long-name".into(), "Ready".into()],
        ];
        assert_eq!(aligned(&rows), "NAME          PHASE\na-long-name   Ready\n");
    }
}
