//! Tables that fit the terminal: if it is narrow, the least important columns are left out.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::Paint;

/// A column.
pub(crate) struct Column {
    pub(crate) head: &'static str,
    pub(crate) right: bool,
    /// Columns of the highest number are left out first; 0 never is.
    pub(crate) spare: u8,
}

/// A column of text.
pub(crate) const fn text(head: &'static str, spare: u8) -> Column {
    Column {
        head,
        right: false,
        spare,
    }
}

/// A column of numbers.
pub(crate) const fn number(head: &'static str, spare: u8) -> Column {
    Column {
        head,
        right: true,
        spare,
    }
}

/// A row: a cell for each column, and its emphasis.
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    pub(crate) paint: Paint,
}

/// The lines of a table, the header first, each at most `width` wide.
pub(crate) fn lines(
    columns: &[Column],
    rows: &[Row],
    width: Option<usize>,
    colours: bool,
) -> Vec<String> {
    let widest = |at: usize| {
        let cells = rows.iter().map(|row| row.cells[at].width());
        cells.chain([columns[at].head.width()]).max().unwrap_or(0)
    };
    let mut shown: Vec<(usize, usize)> = (0..columns.len()).map(|at| (at, widest(at))).collect();
    let total = |shown: &[(usize, usize)]| shown.iter().map(|(_, wide)| wide + 2).sum::<usize>();
    if let Some(width) = width {
        let spare = |at: usize| columns[at].spare;
        while total(&shown) > width + 2 {
            let most = shown.iter().map(|&(at, _)| spare(at)).max().unwrap_or(0);
            match shown.iter().rposition(|&(at, _)| spare(at) == most) {
                Some(last) if most > 0 => drop(shown.remove(last)),
                _ => break,
            }
        }
        // If leaving out columns is not enough, the widest one is cut.
        let over = total(&shown).saturating_sub(width + 2);
        if let Some((_, wide)) = shown.iter_mut().max_by_key(|(_, wide)| *wide) {
            *wide = wide.saturating_sub(over).max(4);
        }
    }
    let line = |cell: &dyn Fn(usize) -> String| {
        let mut line = String::new();
        for &(at, wide) in &shown {
            let cell = cut(&cell(at), wide);
            let fill = " ".repeat(wide.saturating_sub(cell.width()));
            let (before, after) = if columns[at].right {
                (&*fill, "")
            } else {
                ("", &*fill)
            };
            line.extend([before, &cell, after, "  "]);
        }
        let line = line.trim_end();
        width.map_or(line.to_owned(), |width| cut(line, width))
    };
    let head = Paint::Bold.on(&line(&|at| columns[at].head.to_owned()), colours);
    let body = rows
        .iter()
        .map(|row| row.paint.on(&line(&|at| row.cells[at].clone()), colours));
    std::iter::once(head).chain(body).collect()
}

/// `text`, cut to `width` columns, with an ellipsis if it is longer.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        text("NAME", 0),
        number("LEN", 1),
        number("MEMORY", 2),
        text("ATTACHED", 3),
    ];

    fn table(width: Option<usize>) -> Vec<String> {
        let row = |cells: [&str; 4]| Row {
            cells: cells.map(str::to_owned).to_vec(),
            paint: Paint::Plain,
        };
        let rows = [
            row(["jobs", "12", "1.0 MiB", "17 python3"]),
            row(["a-very-long-name-of-a-queue-世界", "1", "9.9 MiB", "-"]),
        ];
        lines(&COLUMNS, &rows, width, false)
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 1..100 {
            for line in table(Some(width)) {
                assert!(line.width() <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_narrow_terminal_loses_the_columns_that_matter_least() {
        assert!(table(None)[0].contains("ATTACHED"));
        let narrow = table(Some(40));
        assert_eq!(
            narrow[0].split_whitespace().collect::<Vec<_>>(),
            ["NAME", "LEN"]
        );
        assert!(narrow[1].starts_with("jobs ") && narrow[1].ends_with(" 12"));
        let tiny = table(Some(12));
        assert!(tiny[2].starts_with("a-very-long") && tiny[2].ends_with('…'));
    }
}
