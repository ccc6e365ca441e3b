//! Pieces of HTML that the parts of the page are made of.

use super::figures::short;
use super::spread::Spread;

/// One part of the page: its anchor, its title and its text. A part without a text is left out.
pub(super) struct Part {
    pub(super) anchor: &'static str,
    pub(super) title: &'static str,
    pub(super) body: String,
}

/// Text as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A figure and how much it varied.
pub(super) fn spread(it: &Spread) -> String {
    let (median, least, most) = (short(it.median), short(it.least), short(it.most));
    match it.windows.len() {
        0 | 1 => median,
        _ => format!("{median} <small>({least} .. {most})</small>"),
    }
}

/// A ratio, with as many digits as are significant.
pub(super) fn factor(value: f64) -> String {
    match value {
        ..0.1 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        _ => short(value),
    }
}

/// Whether Shoal was slower, and not only without a result because a window was too short.
pub(super) fn is_loss(ratio: f64) -> bool {
    ratio > 0.0 && ratio < 1.0
}

/// How many times as fast Shoal was; red where it was slower.
pub(super) fn times(median: f64, rounds: Option<&Spread>) -> String {
    // In a window that is too short for the machine, one of the two has no result.
    if !median.is_finite() || median == 0.0 {
        return "-".to_owned();
    }
    let class = if is_loss(median) { "loss" } else { "gain" };
    let spread = rounds.filter(|it| it.windows.len() > 1).map(|it| {
        let (least, most) = (factor(it.least), factor(it.most));
        format!(" <small>({least} .. {most})</small>")
    });
    let spread = spread.unwrap_or_default();
    format!("<span class=\"{class}\">{}x</span>{spread}", factor(median))
}

/// A table of cells that are HTML. Columns whose title begins with `#` hold numbers.
pub(super) fn table(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let class = |title: &str| match title.starts_with('#') {
        true => " class=\"n\"",
        false => "",
    };
    let mut html = "<div class=\"wide\"><table>\n<tr>".to_owned();
    for title in titles {
        let text = escape(title.trim_start_matches('#'));
        html += &format!("<th scope=\"col\"{}>{text}</th>", class(title));
    }
    html += "</tr>\n";
    for row in rows {
        html += "<tr>";
        for (cell, title) in row.iter().zip(titles) {
            html += &format!("<td{}>{cell}</td>", class(title));
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
}

/// Details that the reader can open.
pub(super) fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n{body}</details>\n")
}

/// A chart with a title and the names of its lines, each with the number of its colour.
pub(super) fn figure(title: &str, inside: &str, legend: &[(String, usize)]) -> String {
    let mut html = format!("<figure><h3>{}</h3>\n{inside}", escape(title));
    if !legend.is_empty() {
        html += "<p class=\"legend\">";
        for (name, colour) in legend {
            html += &format!(
                "<span style=\"--c:var(--c{colour})\">{}</span>",
                escape(name)
            );
        }
        html += "</p>";
    }
    html + "</figure>\n"
}

/// Bars one below the other: a name, a length, what to write behind it, a colour.
pub(super) fn bars(rows: &[(String, f64, String, usize)]) -> String {
    let most = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    let mut html = "<div class=\"bars\">\n".to_owned();
    for (name, value, text, colour) in rows {
        let percent = if most > 0.0 {
            value / most * 100.0
        } else {
            0.0
        };
        html += &format!(
            "<span>{}</span><i style=\"width:{percent:.1}%;--c:var(--c{colour})\"></i><b>{text}</b>\n",
            escape(name)
        );
    }
    html + "</div>\n"
}
