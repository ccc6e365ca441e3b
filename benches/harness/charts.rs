//! Charts as SVG, in colours that the page chooses: it may be light or dark.
//!
//! Plotters draws in fixed colours. Each of them here stands for one of the page's, which replaces it by a
//! style for the attribute ([`styles`]).

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::element::PathElement;
use plotters::prelude::{
    ChartBuilder, Circle, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, RGBColor, SVGBackend,
};
use plotters::style::{Color, IntoTextStyle, TextStyle};

use super::failure::Failure;
use super::figures::size;

/// A narrow screen shows this width without making letters too small; a wide one shows three charts.
pub(super) const SIZE: (u32, u32) = (460, 300);
const LETTERS: u32 = 17;

const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(1, 1, 2);

/// How many colours there are for lines.
pub(super) const COLOURS: usize = 11;

const fn colour(index: usize) -> RGBColor {
    RGBColor(1, 2, (index % COLOURS) as u8)
}

/// The colours of a light and a dark page, and the rules by which each colour here becomes one of them.
pub(super) fn styles() -> String {
    let mut rules = include_str!("colours.css").to_owned();
    let mut rule = |of: RGBColor, name: &str| {
        let RGBColor(r, g, b) = of;
        let code = format!("#{r:02X}{g:02X}{b:02X}");
        rules += &format!(
            "svg [fill=\"{code}\"]{{fill:var(--{name})}}svg [stroke=\"{code}\"]{{stroke:var(--{name})}}\n"
        );
    };
    rule(INK, "ink");
    rule(GRID, "line");
    for index in 0..COLOURS {
        rule(colour(index), &format!("c{index}"));
    }
    rules
}

/// A line, with its points in order.
pub(super) struct Line {
    /// Which colour it has.
    pub(super) colour: usize,
    pub(super) points: Vec<Point>,
    /// Whether it is a baseline and not a measured transport. A baseline is drawn thin and without spread.
    pub(super) is_baseline: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// The horizontal axis.
pub(super) enum Across {
    Percent,
    /// By powers of ten.
    Powers,
    /// Numbers of bytes, by powers of eight.
    Bytes,
}

pub(super) struct Chart {
    pub(super) across: Across,
    pub(super) x_title: String,
    pub(super) y_title: String,
    pub(super) lines: Vec<Line>,
}

impl Chart {
    /// The chart as SVG; none if there is nothing to draw.
    pub(super) fn svg(&self) -> Result<Option<String>, Failure> {
        let all = || self.lines.iter().flat_map(|it| &it.points);
        let drawn = all().filter(|it| fits(it.x) && fits(it.y));
        let xs = range(drawn.clone().map(|it| it.x));
        let ys = drawn
            .flat_map(|it| [it.y, it.least, it.most])
            .filter(|y| fits(*y));
        let (Some((x0, x1)), Some((y0, y1))) = (xs, range(ys)) else {
            return Ok(None);
        };
        // At least a power of ten, so that a nearly level line looks level.
        let wider = (10.0 * y0 / y1).max(1.0).sqrt();
        let y = (y0 / wider / 1.3, y1 * wider * 1.3);
        let mut svg = String::new();
        match self.across {
            Across::Percent => self.draw(&mut svg, 0.0..100.0, y, &|x| format!("{x:.0} %"))?,
            Across::Powers => self.draw(&mut svg, (x0 / 1.2..x1 * 1.2).log_scale(), y, &tick)?,
            Across::Bytes => {
                let x = (x0 / 1.2..x1 * 1.2).log_scale().base(8.0);
                self.draw(&mut svg, x, y, &|x| size(x.round() as usize))?;
            }
        }
        // The page says how wide it is.
        let (width, height) = SIZE;
        Ok(Some(svg.replacen(
            &format!("width=\"{width}\" height=\"{height}\" "),
            "role=\"img\" ",
            1,
        )))
    }

    fn draw<X>(
        &self,
        svg: &mut String,
        x: X,
        (y0, y1): (f64, f64),
        label: &dyn Fn(f64) -> String,
    ) -> Result<(), Failure>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let letters: TextStyle = ("sans-serif", LETTERS)
            .into_font()
            .with_color(INK)
            .into_text_style(&area);
        let failed = |why: &dyn std::fmt::Display| format!("a chart cannot be drawn: {why}");
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(26)
            .x_label_area_size(46)
            .y_label_area_size(66)
            .build_cartesian_2d(x, (y0..y1).log_scale())
            .map_err(|why| failed(&why))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(letters.clone())
            .axis_desc_style(letters)
            .x_labels(6)
            // Labels are less than a decade apart if the axis has few decades.
            .y_labels(if y1 / y0 < 200.0 { 12 } else { 6 })
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|y| sparse(*y))
            .x_desc(self.x_title.as_str())
            .y_desc(self.y_title.as_str())
            .draw()
            .map_err(|why| failed(&why))?;
        for line in &self.lines {
            let colour = colour(line.colour);
            let points: Vec<_> = line
                .points
                .iter()
                .filter(|it| fits(it.x) && fits(it.y))
                .copied()
                .collect();
            let width = if line.is_baseline { 1 } else { 2 };
            let path = points.iter().map(|it| (it.x, it.y));
            chart
                .draw_series(LineSeries::new(path.clone(), colour.stroke_width(width)))
                .map_err(|why| failed(&why))?;
            if line.is_baseline {
                continue;
            }
            let spread = points.iter().filter(|it| fits(it.least) && fits(it.most));
            let spread = spread.map(|it| {
                let ends = vec![(it.x, it.least), (it.x, it.most)];
                PathElement::new(ends, colour.mix(0.5).stroke_width(4))
            });
            chart.draw_series(spread).map_err(|why| failed(&why))?;
            let dots = path.map(|at| Circle::new(at, 3, colour.filled()));
            chart.draw_series(dots).map_err(|why| failed(&why))?;
        }
        area.present().map_err(|why| failed(&why))?;
        Ok(())
    }
}

/// Whether a value can be drawn: it has a logarithm, and nothing that is measured is outside this range. An axis
/// that a forged report stretches over hundreds of powers of ten would take hours to divide.
fn fits(value: f64) -> bool {
    (1e-12..1e18).contains(&value)
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (least, most) = range.unwrap_or((value, value));
        Some((f64::min(least, value), f64::max(most, value)))
    })
}

/// A number at an axis with many numbers within a power of ten: only 1, 2 and 5 are written, because more would
/// overlap.
fn sparse(value: f64) -> String {
    let first = (value / 10f64.powf(value.log10().floor())).round();
    match [1.0, 2.0, 5.0, 10.0].contains(&first) {
        true => tick(value),
        false => String::new(),
    }
}

/// A number at an axis.
pub(super) fn tick(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Three digits.
    let digits = 2 - (scaled.abs().log10().floor() as i32).clamp(-6, 2);
    let text = format!("{scaled:.*}", digits as usize);
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    // `cargo bench` compiles this module without its tests, so each test imports what it uses.

    #[test]
    fn numbers_at_an_axis_have_three_digits() {
        use super::tick;
        let written = [
            0.0, 0.0001, 0.025, 1.0, 100.0, 1000.0, 764_917.7, 2e6, 1.25e9,
        ]
        .map(tick);
        let expected = [
            "0", "0.0001", "0.025", "1", "100", "1k", "765k", "2M", "1.25G",
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn there_is_no_chart_of_nothing_and_numbers_without_a_logarithm_are_left_out() {
        use super::{Across, Chart, Line, Point};
        let chart = |ys: &[f64]| {
            let point = |&y: &f64| Point {
                x: 64.0,
                y,
                least: y,
                most: y,
            };
            let line = Line {
                colour: 0,
                points: ys.iter().map(point).collect(),
                is_baseline: false,
            };
            let chart = Chart {
                across: Across::Bytes,
                x_title: "message".to_owned(),
                y_title: "rate".to_owned(),
                lines: vec![line],
            };
            chart.svg().unwrap()
        };
        assert_eq!(chart(&[]), None);
        assert_eq!(chart(&[0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX]), None);
        let svg = chart(&[0.0, 5.0, f64::NAN, 7.0, 5e-324]).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
