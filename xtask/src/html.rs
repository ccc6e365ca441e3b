//! `cargo xtask man --html`: the manual as one self-contained page.
//!
//! It has the contents of the pages of [`man`](crate::man), in the order of the headers.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::cheader::{Item, Kind, Section};
use crate::files::{self, target};
use crate::manual::{Failure, Manual, description, first_sentence, killed, no_example};
use crate::roff::{Block, blocks};

/// Writes the page to `file`, or to `target/manual.html`, and prints the path.
pub(crate) fn run(file: Option<&str>) -> Result<(), String> {
    let file = file.map_or_else(|| target().join("manual.html"), PathBuf::from);
    write(&file)?;
    println!("{}", file.display());
    Ok(())
}

/// Writes the page into a file.
pub(crate) fn write(file: &Path) -> Result<(), String> {
    let text = Manual::read()?.html()?;
    files::write(file, text)
}

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8884; --code: #8881 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem }
pre, code { font: 0.9em/1.45 ui-monospace, monospace; background: var(--code) }
pre { padding: 0.7rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 4px }
pre code { background: none; font-size: inherit }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line) }
h3 { margin-top: 2.2rem; overflow-wrap: anywhere }
h4 { margin: 1rem 0 0.3rem }
dt { margin-top: 0.5rem; overflow-wrap: anywhere }
dd { margin-left: 1.5rem } dd p { margin: 0.2rem 0 }
nav ul { columns: 16rem; padding-left: 1.2rem }
a { text-decoration: none } a:hover { text-decoration: underline }
";

impl Manual {
    fn html(&self) -> Result<String, String> {
        let mut out = String::new();
        let version = escaped(&self.version);
        let _ = write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Shoal {version}: the C interface</title>\n<style>\n{STYLE}</style>\n\
             <h1>Shoal {version}: the C interface</h1>\n\
             <pre><code>#include &lt;shoal.h&gt;\n\ncc program.c $(pkg-config --cflags --libs shoal)</code></pre>\n"
        );
        out += &self.text(&blocks(&self.header.introduction), 2);
        out += &self.contents();
        for section in &self.header.sections {
            let (id, title) = (section.page(), escaped(&section.title));
            let _ = writeln!(out, "<h2 id=\"part-{id}\">{title}</h2>");
            let _ = writeln!(out, "<p><code>#include &lt;{}&gt;</code></p>", section.file);
            out += &self.text(&blocks(&section.doc), 3);
            for item in &section.items {
                out += &match item.kind {
                    Kind::Function => self.function_part(section, item)?,
                    Kind::Struct | Kind::Enum => self.type_part(item),
                    Kind::Macro => {
                        let about = self.text(&blocks(&item.doc), 4);
                        format!("{}{about}", heading(&item.name, &item.code))
                    }
                };
            }
        }
        Ok(out + "</html>\n")
    }

    /// Each section with its functions, as links.
    fn contents(&self) -> String {
        let mut out = "<nav>\n<h2>Functions</h2>\n".to_owned();
        for section in &self.header.sections {
            let (id, title) = (section.page(), escaped(&section.title));
            let about = self.inline(&first_sentence(&section.doc));
            let _ = writeln!(
                out,
                "<p><a href=\"#part-{id}\">{title}</a>: {about}</p>\n<ul>"
            );
            for item in section.items.iter().filter(|it| it.kind == Kind::Function) {
                let _ = writeln!(out, "<li>{}</li>", link(&item.name));
            }
            out += "</ul>\n";
        }
        out + "</nav>\n"
    }

    fn function_part(&self, section: &Section, item: &Item) -> Result<String, String> {
        let mut out = heading(&item.name, &item.name);
        let _ = writeln!(
            out,
            "<pre><code>{};</code></pre>",
            escaped(item.code.trim_end_matches(';'))
        );
        out += &self.text(&description(item), 4);
        let errors = self.errors(item);
        if !errors.is_empty() {
            out += "<h4>Errors</h4>\n";
        }
        for error in errors {
            let _ = match error {
                Failure::Text(text) => writeln!(out, "<p>{}</p>", self.inline(&text)),
                Failure::Status(names, when) => writeln!(
                    out,
                    "<dl><dt><code>{}</code></dt><dd>{}</dd></dl>",
                    escaped(&names),
                    self.inline(&when)
                ),
            };
        }
        if let Some(killed) = killed(section, item) {
            let killed = self.inline(&killed);
            let _ = writeln!(out, "<h4>If the process is killed</h4>\n<p>{killed}</p>");
        }
        let (title, code) = self
            .example(section, item)
            .ok_or_else(|| no_example(item))?;
        let (title, code) = (self.inline(&title), escaped(&code));
        let _ = writeln!(
            out,
            "<h4>Example</h4>\n<p>{title}</p>\n<pre><code>{code}</code></pre>"
        );
        Ok(out)
    }

    fn type_part(&self, item: &Item) -> String {
        let mut out = heading(&item.name, &item.name);
        out += &self.text(&blocks(&item.doc), 4);
        if item.members.is_empty() {
            return out;
        }
        out += "<dl>\n";
        for member in &item.members {
            let (code, about) = (escaped(&member.code), self.text(&blocks(&member.doc), 4));
            let _ = writeln!(out, "<dt><code>{code}</code></dt><dd>{about}</dd>");
        }
        out + "</dl>\n"
    }

    /// Parts of a comment, with headings of this level.
    fn text(&self, blocks: &[Block], level: u8) -> String {
        let parts = blocks.iter().map(|block| match block {
            Block::Heading(text) => format!("<h{level}>{}</h{level}>\n", escaped(text)),
            Block::Paragraph(text) => format!("<p>{}</p>\n", self.inline(text)),
            Block::List(entries) => {
                let entries = entries
                    .iter()
                    .map(|it| format!("<li>{}</li>\n", self.inline(it)));
                format!("<ul>\n{}</ul>\n", entries.collect::<String>())
            }
            Block::Code(text) => format!("<pre><code>{}</code></pre>\n", escaped(text)),
        });
        parts.collect()
    }

    /// Running text: text between backticks is code, and a function is a link.
    fn inline(&self, text: &str) -> String {
        let mut out = String::new();
        for (at, part) in text.split('`').enumerate() {
            let name = part.trim_end_matches("()");
            let is_known = || self.header.items().any(|(_, it)| it.name == name);
            out += &match at % 2 {
                0 => escaped(part),
                _ if is_known() => link(name),
                _ => format!("<code>{}</code>", escaped(part)),
            };
        }
        out
    }
}

fn heading(id: &str, text: &str) -> String {
    format!("<h3 id=\"{id}\"><code>{}</code></h3>\n", escaped(text))
}

fn link(name: &str) -> String {
    format!("<a href=\"#{name}\"><code>{name}</code></a>")
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The texts that follow each `before`, up to a quotation mark.
    fn quoted<'a>(page: &'a str, before: &str) -> Vec<&'a str> {
        let parts = page.split(before).skip(1);
        parts.filter_map(|it| it.split('"').next()).collect()
    }

    #[test]
    fn the_page_has_every_declaration_once_and_every_link_has_a_target() {
        let manual = Manual::read().unwrap();
        let page = manual.html().unwrap();
        let ids = quoted(&page, " id=\"");
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), ids.len(), "an id is used twice");
        for (_, item) in manual.header.items() {
            assert!(distinct.contains(&*item.name), "{}", item.name);
        }
        for link in quoted(&page, "href=\"#") {
            assert!(distinct.contains(link), "#{link}");
        }
        // Nothing is loaded from elsewhere.
        assert!(
            !page.contains("src=") && !page.contains("http"),
            "a reference to elsewhere"
        );
    }

    #[test]
    fn text_is_escaped_and_names_are_links() {
        let manual = Manual::read().unwrap();
        assert_eq!(
            manual.inline("a<b & `x>y`"),
            "a&lt;b &amp; <code>x&gt;y</code>"
        );
        assert_eq!(
            manual.inline("`shoal_queue_put()`"),
            "<a href=\"#shoal_queue_put\"><code>shoal_queue_put</code></a>"
        );
    }
}
