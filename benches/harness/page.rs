//! A report as one page of HTML, which needs neither a network nor scripts and has the samples in it.

use super::charts;
use super::failure::Failure;
use super::figures::short;
use super::html::escape;
use super::options::FAIR_WINDOW;
use super::report::{AROUND_JSON, Report, json};
use super::{page_charts, page_tables};

pub(crate) fn page(report: &Report) -> Result<String, Failure> {
    let mut parts = vec![page_tables::ratios(report)];
    parts.extend(page_charts::all(report)?);
    parts.extend(page_tables::all(report));
    parts.retain(|part| !part.body.is_empty());
    let mut html = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <title>Shoal's benchmark</title>\n<style>\n"
        .to_owned();
    html += &charts::styles();
    html += include_str!("page.css");
    html += "</style>\n</head>\n<body>\n<main>\n<h1>Shoal's benchmark</h1>\n";
    html += &head(report);
    html += "<nav>";
    for part in &parts {
        html += &format!("<a href=\"#{}\">{}</a>\n", part.anchor, escape(part.title));
    }
    html += "</nav>\n";
    for part in &parts {
        let (anchor, title, body) = (part.anchor, escape(part.title), &part.body);
        html += &format!("<section id=\"{anchor}\">\n<h2>{title}</h2>\n{body}</section>\n");
    }
    html += "<h2>The samples</h2>\n<p>All figures of this page and the samples behind them are in it as JSON, in \
        the element <code>report</code>. <code>shoal bench --from PAGE --json</code> prints them, and \
        <code>shoal bench --compare PAGE OTHER</code> compares them with those of another run.</p>\n";
    let [before, after] = AROUND_JSON;
    // Text of the report must not end the element that it is in.
    let samples = json(report).replace('<', "\\u003c");
    html += &format!(
        "{before}{}{after}\n</main>\n</body>\n</html>\n",
        samples.trim_end()
    );
    Ok(html)
}

fn head(report: &Report) -> String {
    let it = &report.machine;
    let mut rows = vec![("measured", it.when.clone())];
    let kind = if it.is_virtual {
        "virtual machine"
    } else {
        "machine"
    };
    rows.push((
        "machine",
        format!(
            "{}, {} cores, {} GiB, a {kind}, {}, Linux {}",
            it.processor,
            report.cores,
            it.memory_bytes >> 30,
            it.architecture,
            it.kernel
        ),
    ));
    rows.push(("Shoal", it.shoal.clone()));
    rows.push((
        "method",
        format!(
            "windows: {} of {} s each; figures are medians, in brackets the least and the most of them",
            report.repeated, report.window_seconds
        ),
    ));
    let pinned = match report.pinned_to {
        Some([one, other]) => format!(
            "pairs of processes have a core each, {one} and {other}; more processes run on any core"
        ),
        None => "there is one core, which all processes share".to_owned(),
    };
    rows.push(("cores", pinned));
    rows.push((
        "load before",
        format!("{} (of other programs)", short(it.load_before)),
    ));
    let mut html = "<dl>".to_owned();
    for (what, value) in rows {
        html += &format!("<dt>{what}</dt><dd>{}</dd>\n", escape(&value));
    }
    html += &format!("</dl>\n<pre>{}</pre>\n", escape(&it.command));
    let mut note = |text: &str| html += &format!("<p class=\"note\">{text}</p>\n");
    if report.window_seconds < FAIR_WINDOW || report.repeated < 3 {
        note("This was a quick run: single figures may be far off, and fairness is not judged.");
    }
    if it.load_before > 0.5 {
        note(
            "Other programs ran while this was measured. Ratios of one run still compare like with like; \
             single figures say little.",
        );
    }
    if report.busy > 0 {
        note(&format!("{} programs computed meanwhile.", report.busy));
    }
    html
}
