//! `cargo xtask man`: the manual, from the comments of the C headers. It has a page of section 3 for each function
//! and struct, a page of section 7 for each section of the headers, and `shoal(7)`.
//!
//! The page of a function says what it does, how it fails, what a kill during the call leaves, and how to call it.
//! `manual` collects the contents of the pages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cheader::{Item, Kind, Section};
use crate::command::program;
use crate::files::{self, target};
use crate::manual::{
    Failure, Manual, description, first_sentence, killed, no_example, split_outside,
};
use crate::roff::{blocks, code, escaped, inline, page};

/// Writes the pages into `folder`, or into `target/man`, and prints the path.
pub(crate) fn run(folder: Option<&str>) -> Result<(), String> {
    let folder = folder.map_or_else(|| target().join("man"), PathBuf::from);
    let count = write(&folder)?;
    println!("{count} pages in {}", folder.display());
    Ok(())
}

/// Writes the pages into `man3` and `man7` of a folder. Returns their number.
pub(crate) fn write(folder: &Path) -> Result<usize, String> {
    let manual = Manual::read()?;
    let pages = manual.pages()?;
    for (name, text) in &pages {
        files::write(folder.join(name), text)?;
    }
    Ok(pages.len())
}

/// Reports missing documentation, broken references and warnings of the formatter.
pub(crate) fn check() -> Result<(), String> {
    let manual = Manual::read()?;
    let mut faults = manual.faults();
    if faults.is_empty() {
        faults = warnings(&manual.pages()?)?;
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults.join("\n")),
    }
}

/// The warnings of `groff` about the pages, if it is installed.
fn warnings(pages: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let folder = target().join(format!("man-{}", std::process::id()));
    write(&folder)?;
    let mut format = program("groff", "-man -z -ww -rLL=100n -Tutf8");
    // The pages refer to each other from the folder that has them all.
    format.args(pages.keys()).current_dir(&folder);
    let output = format.output();
    let _ = fs::remove_dir_all(&folder);
    match output {
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(printed.lines().map(str::to_owned).collect())
        }
        Err(_) => {
            println!("groff is not installed: the layout of the pages is not checked");
            Ok(Vec::new())
        }
    }
}

impl Manual {
    fn pages(&self) -> Result<BTreeMap<String, String>, String> {
        let mut pages = BTreeMap::new();
        for (section, item) in self.header.items() {
            let name = format!("man3/{}.3", item.name);
            match item.kind {
                Kind::Function => pages.insert(name, self.function(section, item)?),
                // A type is described on the page of its functions.
                Kind::Struct | Kind::Enum if item.name != section.page() => {
                    pages.insert(name, format!(".so man7/{}.7\n", section.page()))
                }
                _ => None,
            };
        }
        for section in &self.header.sections {
            pages.insert(format!("man7/{}.7", section.page()), self.section(section));
        }
        pages.insert("man7/shoal.7".to_owned(), self.overview());
        Ok(pages)
    }

    fn title(&self, name: &str, section: u8, about: &str) -> String {
        let about = first_sentence(about);
        format!(
            ".\\\" Generated from the C headers by `cargo xtask man`.\n.TH {} {section} \"\" \"Shoal {}\" \
             \"Shoal manual\"\n.SH NAME\n{} \\- {}\n",
            escaped(&name.to_uppercase()),
            self.version,
            escaped(name),
            inline(&about.replace('`', "")),
        )
    }

    fn function(&self, section: &Section, item: &Item) -> Result<String, String> {
        let mut out = self.title(&item.name, 3, &item.doc);
        out += ".SH SYNOPSIS\n.nf\n";
        out += &format!(".B #include <{}>\n.PP\n", section.file);
        out += &format!(
            "{}\n.fi\n.PP\nLink with \\fB\\-lshoal\\fR.\n",
            synopsis(item)
        );
        out += ".SH DESCRIPTION\n";
        out += &page(&description(item));
        out += &self.errors_page(item);
        if let Some(killed) = killed(section, item) {
            out += &format!(".SH IF THE PROCESS IS KILLED\n.PP\n{}\n", inline(&killed));
        }
        let example = self
            .example(section, item)
            .ok_or_else(|| no_example(item))?;
        out += ".SH EXAMPLES\n";
        if !example.0.is_empty() {
            out += &format!(".PP\n{}\n", inline(&example.0));
        }
        if example.1.contains("TRY(") {
            out += ".PP\nTRY ends the program with \\fBshoal_last_error()\\fR if the call fails.\n";
        }
        out += &code(&example.1);
        let mut others = self.referred(&item.doc);
        others.remove(&*item.name);
        let others = others
            .iter()
            .map(|name| format!(".BR {} (3),\n", escaped(name)));
        out += &format!(
            ".SH SEE ALSO\n{}.BR {} (7),\n.BR shoal (7)\n",
            others.collect::<String>(),
            escaped(&section.page()),
        );
        Ok(out)
    }

    /// How a function fails.
    fn errors_page(&self, item: &Item) -> String {
        let errors = self.errors(item);
        let entries = errors.iter().map(|error| match error {
            Failure::Text(text) => format!(".PP\n{}\n", inline(text)),
            Failure::Status(names, detail) => {
                format!(".TP\n.B {}\n{}\n", escaped(names), inline(detail))
            }
        });
        let entries: String = entries.collect();
        match entries.is_empty() {
            true => entries,
            false => format!(".SH ERRORS\n{entries}"),
        }
    }

    fn section(&self, section: &Section) -> String {
        let mut out = self.title(&section.page(), 7, &section.doc);
        out += &format!(
            ".SH SYNOPSIS\n.B #include <{}>\n.SH DESCRIPTION\n",
            section.file
        );
        out += &page(&blocks(&section.doc));
        let of = |kinds: &'static [Kind]| {
            let items = section.items.iter();
            items.filter(move |it| kinds.contains(&it.kind))
        };
        if of(&[Kind::Struct, Kind::Enum]).next().is_some() {
            out += ".SH TYPES\n";
        }
        for item in of(&[Kind::Struct, Kind::Enum]) {
            out += &format!(".SS {}\n{}", escaped(&item.name), page(&blocks(&item.doc)));
            for member in &item.members {
                let doc = page(&blocks(&member.doc));
                let doc = doc.strip_prefix(".PP\n").unwrap_or(&doc);
                out += &format!(".TP\n.B {}\n{doc}", escaped(&member.code));
            }
        }
        if of(&[Kind::Macro]).next().is_some() {
            out += ".SH CONSTANTS\n";
        }
        for item in of(&[Kind::Macro]) {
            out += &format!(".TP\n.B {}\n{}\n", escaped(&item.code), inline(&item.doc));
        }
        out += ".SH FUNCTIONS\n";
        for item in of(&[Kind::Function]) {
            let about = inline(&first_sentence(&item.doc));
            out += &format!(".TP\n.BR {} (3)\n{about}\n", escaped(&item.name));
        }
        out + ".SH SEE ALSO\n.BR shoal (7)\n"
    }

    fn overview(&self) -> String {
        let about =
            "shared-memory queues, maps, locks and processes that survive each other's death";
        let mut out = self.title("shoal", 7, about);
        out += ".SH SYNOPSIS\n.nf\n.B #include <shoal.h>\n.PP\n\
                .B cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs shoal)\n.fi\n.SH DESCRIPTION\n";
        out += &page(&blocks(&self.header.introduction));
        out += ".SH PAGES\n";
        for section in &self.header.sections {
            let about = inline(&first_sentence(&section.doc));
            out += &format!(".TP\n.BR {} (7)\n{about}\n", escaped(&section.page()));
        }
        out + ".SH SEE ALSO\n.BR shoal (1)\n"
    }
}

/// The declaration, with one parameter per line if it is long.
fn synopsis(item: &Item) -> String {
    let (before, rest) = item.code.split_once('(').unwrap_or((&item.code, ""));
    let head = format!(".BI \"{}(", escaped(before));
    if item.code.len() <= 76 {
        return format!(".B {}", escaped(&item.code));
    }
    let indent = " ".repeat(4);
    let parameters = split_outside(rest, ',');
    let lines = parameters
        .iter()
        .map(|it| format!(".B \"{indent}{}\"", escaped(it.trim())));
    let joined = lines
        .collect::<Vec<_>>()
        .join("\n")
        .replace("\"\n.B", ",\"\n.B");
    format!("{head}\"\n{joined}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_errors_what_a_kill_leaves_and_an_example() {
        let pages = Manual::read().unwrap().pages().unwrap();
        let put = &pages["man3/shoal_queue_put.3"];
        for part in [
            "shoal_queue_put \\- puts one message at the end of the queue",
            "const void *data",
            ".B SHOAL_ERR_CLOSED\n(the queue is closed)",
            ".SH IF THE PROCESS IS KILLED\n",
            "shoal_queue_put(jobs",
            ".BR shoal_queue (7)",
        ] {
            assert!(put.contains(part), "{part}\n{put}");
        }
        let queue = &pages["man7/shoal_queue.7"];
        assert!(queue.contains(".B uint64_t max_attempts\n"), "{queue}");
        assert_eq!(
            pages["man3/shoal_queue_options.3"],
            ".so man7/shoal_queue.7\n"
        );
    }
}
