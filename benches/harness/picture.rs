//! The chart of throughput from one process to another as a separate image with the names of its lines, for a
//! page that has no room for more. It follows the light or dark setting of its reader.

use std::fmt::Write;

use super::charts::{self, SIZE};
use super::failure::Failure;
use super::html::escape;
use super::page_charts::of_topology;
use super::report::Report;

/// How many names are in a row, and how high a row is.
const COLUMNS: usize = 4;
const ROW: usize = 20;

pub(crate) fn picture(report: &Report) -> Result<String, Failure> {
    let (chart, names) = of_topology(report, "1x1", |it| it.batch == 1);
    let colours: Vec<usize> = chart.lines.iter().map(|it| it.colour).collect();
    let nothing =
        "the report has no throughput from one process to another (1x1) that can be drawn";
    let inside = chart.svg()?.ok_or_else(|| nothing.to_owned())?;
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let whole = height + names.len().div_ceil(COLUMNS) * ROW + 8;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {whole}\" width=\"{}\" role=\"img\" \
         aria-label=\"Messages a second by size, from one process to another\">\n<style>\n{}\
         text {{ font-family: system-ui, sans-serif }}\n</style>\n\
         <rect width=\"{width}\" height=\"{whole}\" rx=\"8\" style=\"fill:var(--back)\"/>\n",
        width * 3 / 2,
        charts::styles(),
    );
    svg += &inside.replacen(
        "<svg role=\"img\" ",
        &format!("<svg width=\"{width}\" height=\"{height}\" "),
        1,
    );
    for (at, (name, colour)) in names.iter().zip(colours).enumerate() {
        let x = 16 + at % COLUMNS * ((width - 16) / COLUMNS);
        let y = height + at / COLUMNS * ROW;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"11\" height=\"11\" rx=\"2\" style=\"fill:var(--c{colour})\"/>\
             <text x=\"{}\" y=\"{}\" font-size=\"13\" style=\"fill:var(--ink)\">{}</text>",
            x + 16,
            y + 10,
            escape(name),
        );
    }
    Ok(svg + "</svg>\n")
}
