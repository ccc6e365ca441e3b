//! Tables of plain text.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

pub(super) use comfy_table::CellAlignment::{Left, Right};

/// Rows below a line of titles. Each line ends with a newline.
pub(super) fn table(
    columns: &[(&str, CellAlignment)],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let titles = columns.iter().map(|(title, _)| (*title).to_owned());
    let sides: Vec<_> = columns.iter().map(|(_, side)| *side).collect();
    aligned(&sides, std::iter::once(titles.collect()).chain(rows))
}

/// Rows without titles. Each column is aligned to its side.
pub(super) fn aligned(
    sides: &[CellAlignment],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for row in rows {
        table.add_row(row);
    }
    for (column, side) in table.column_iter_mut().zip(sides) {
        column.set_cell_alignment(*side);
        column.set_padding((2, 0));
    }
    table.trim_fmt() + "\n"
}
