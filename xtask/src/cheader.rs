//! Parses the generated C headers: their declarations, each with its comment.
//!
//! `header` writes them in one form, so a few rules are enough: a comment that starts with `/**` belongs to the
//! declaration that follows it, and a section starts with a comment that starts with a line of dashes.

use crate::files::{self, root};

/// The files, and the title of the section for declarations before the first heading.
const FILES: [(&str, &str); 2] = [("shoal.h", "General"), ("shoal_bindings.h", "Bindings")];

/// Both headers.
pub(crate) struct Header {
    /// The introduction of shoal.h.
    pub(crate) introduction: String,
    pub(crate) sections: Vec<Section>,
}

/// A part of a header, under one heading.
pub(crate) struct Section {
    /// The header that it is in.
    pub(crate) file: &'static str,
    pub(crate) title: String,
    pub(crate) doc: String,
    pub(crate) items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Function,
    Macro,
    Struct,
    Enum,
}

/// One declaration.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Empty if there is no comment.
    pub(crate) doc: String,
    /// The declaration in one line, without the attributes of a function.
    pub(crate) code: String,
    /// The fields of a struct, the values of an enum.
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) code: String,
    pub(crate) doc: String,
}

impl Header {
    /// Reads the headers of the checkout.
    pub(crate) fn read() -> Result<Self, String> {
        let mut texts = Vec::new();
        for (name, _) in FILES {
            texts.push(files::read(root().join("include").join(name))?);
        }
        let mut header = Self::parse(FILES[0].0, FILES[0].1, &texts[0]);
        let bindings = Self::parse(FILES[1].0, FILES[1].1, &texts[1]);
        let doc = bindings.introduction;
        for mut section in bindings.sections {
            section.doc = doc.clone();
            header.sections.push(section);
        }
        Ok(header)
    }

    /// Reads one header.
    pub(crate) fn parse(file: &'static str, first: &str, text: &str) -> Self {
        let mut lines = text.lines().peekable();
        let mut introduction = None;
        let mut sections: Vec<Section> = Vec::new();
        let mut doc = String::new();
        while let Some(line) = lines.next() {
            if line.starts_with("/* ---") {
                let inside = lines.by_ref().take_while(|line| !line.contains("--- */"));
                let inside = inside.map(|line| line.strip_prefix("   ").unwrap_or(line));
                let inside = inside.collect::<Vec<_>>().join("\n");
                let (title, about) = inside.split_once('\n').unwrap_or((&inside, ""));
                sections.push(Section::new(file, title, about.trim()));
            } else if line.starts_with("/**") {
                doc = comment(line, &mut lines);
                introduction.get_or_insert_with(|| std::mem::take(&mut doc));
            } else if let Some(item) = declaration(line, &mut lines) {
                // The include guard, and macros that are not part of the interface.
                let is_private = item.kind == Kind::Macro
                    && (item.name.ends_with("_H")
                        || item.name.starts_with("SHOAL_VERSION")
                        || ["SHOAL_API", "SHOAL_NODISCARD", "SHOAL_WITH_TSAN"]
                            .contains(&&*item.name));
                if sections.is_empty() && !is_private {
                    sections.push(Section::new(file, first, ""));
                }
                if let (Some(section), false) = (sections.last_mut(), is_private) {
                    let doc = std::mem::take(&mut doc);
                    section.items.push(Item { doc, ..item });
                }
                doc.clear();
            }
        }
        merge_first(&mut sections);
        Self {
            introduction: introduction.unwrap_or_default(),
            sections,
        }
    }

    /// All declarations, each with its section.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&Section, &Item)> {
        let of = |section| std::iter::repeat(section);
        let sections = self.sections.iter();
        sections.flat_map(move |section| of(section).zip(&section.items))
    }

    /// All functions, each with its section.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&Section, &Item)> {
        self.items().filter(|(_, it)| it.kind == Kind::Function)
    }
}

/// Moves the declarations before the first heading into the section of that title, if there is one.
fn merge_first(sections: &mut Vec<Section>) {
    if sections.len() > 1 && sections[0].doc.is_empty() && sections[0].title == sections[1].title {
        let first = sections.remove(0);
        sections[0].items.splice(0..0, first.items);
    }
}

impl Section {
    fn new(file: &'static str, title: &str, doc: &str) -> Self {
        Self {
            file,
            title: title.trim().to_owned(),
            doc: doc.to_owned(),
            items: Vec::new(),
        }
    }

    /// The name of its page in the manual: the common prefix of the names of its functions.
    pub(crate) fn page(&self) -> String {
        let functions = self.items.iter().filter(|it| it.kind == Kind::Function);
        let mut objects = functions.filter_map(|it| it.name.split('_').nth(1));
        let first = objects.next().unwrap_or_default();
        match objects.all(|object| object == first) {
            true => format!("shoal_{first}"),
            false => format!("shoal_{}", self.title.to_lowercase().replace(' ', "_")),
        }
    }
}

/// The text of a comment whose first line is `line`, without the comment marks.
fn comment<'a>(line: &str, rest: &mut impl Iterator<Item = &'a str>) -> String {
    let line = line.trim_start().trim_start_matches("/**").trim();
    if let Some(whole) = line.strip_suffix("*/") {
        return whole.trim_end().to_owned();
    }
    let mut text = vec![line];
    for line in rest {
        let line = line.trim_start();
        if line == "*/" {
            break;
        }
        let line = line.strip_prefix('*').unwrap_or(line);
        text.push(line.strip_prefix(' ').unwrap_or(line));
    }
    text.join("\n").trim().to_owned()
}

/// The declaration that starts in `line`, if there is one.
fn declaration<'a>(line: &str, rest: &mut impl Iterator<Item = &'a str>) -> Option<Item> {
    let item = |kind, name: &str, code: String, members| {
        let name = name.to_owned();
        let doc = String::new();
        Some(Item {
            kind,
            name,
            doc,
            code,
            members,
        })
    };
    if let Some(defined) = line.strip_prefix("#define ") {
        let name = defined.split([' ', '(']).next()?;
        return item(Kind::Macro, name, defined.to_owned(), Vec::new());
    }
    if line.starts_with("SHOAL_API") {
        let mut code = line.to_owned();
        while !code.ends_with(';') {
            code.push(' ');
            code.push_str(rest.next()?.trim());
        }
        let code = code.trim_start_matches("SHOAL_API").trim_start();
        let code = code.trim_start_matches("SHOAL_NODISCARD").trim_start();
        let (before, _) = code.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        return item(Kind::Function, name, code.to_owned(), Vec::new());
    }
    let (kind, rest_of_line) = match line.strip_prefix("typedef ")?.split_once(' ')? {
        ("struct", rest) => (Kind::Struct, rest),
        ("enum", rest) => (Kind::Enum, rest),
        _ => return None,
    };
    let name = rest_of_line.split([' ', ';']).next()?;
    let mut members = Vec::new();
    if rest_of_line.ends_with('{') {
        let mut doc = String::new();
        while let Some(line) = rest.next().filter(|line| !line.starts_with('}')) {
            match line.trim() {
                "" => {}
                text if text.starts_with("/**") => doc = comment(text, rest),
                text => {
                    let code = text.trim_end_matches([',', ';']).to_owned();
                    let doc = std::mem::take(&mut doc);
                    members.push(Member { code, doc });
                }
            }
        }
    }
    item(kind, name, line.to_owned(), members)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "/**\n * About.\n *\n * More.\n */\n#define SHOAL_H\n\
        /** Of all. */\n#define SHOAL_STDIO_FD(n) ((n) + 1)\n\
        /* -----\n   Queue\n\n   Messages.\n   ----- */\n\
        /** A queue. */\ntypedef struct shoal_queue shoal_queue;\n\
        /** How. */\ntypedef struct shoal_o {\n    /** Bytes. */\n    size_t size;\n} shoal_o;\n\
        /**\n * Puts.\n *\n * Errors: none.\n */\nSHOAL_API SHOAL_NODISCARD\nshoal_status shoal_queue_put(shoal_queue *q,\n\
        \x20                   size_t n);\n\
        SHOAL_API void shoal_queue_free(shoal_queue *q);\n";

    #[test]
    fn each_declaration_has_its_comment_and_its_section() {
        let header = Header::parse("shoal.h", "General", TEXT);
        assert_eq!(header.introduction, "About.\n\nMore.");
        let [general, queue] = &header.sections[..] else {
            panic!("two sections");
        };
        assert_eq!(
            (&*general.title, &*general.items[0].doc),
            ("General", "Of all.")
        );
        assert_eq!((&*queue.title, &*queue.doc), ("Queue", "Messages."));
        assert_eq!(queue.page(), "shoal_queue");
        let names: Vec<&str> = queue.items.iter().map(|it| &*it.name).collect();
        assert_eq!(
            names,
            [
                "shoal_queue",
                "shoal_o",
                "shoal_queue_put",
                "shoal_queue_free"
            ]
        );
        let field = Member {
            code: "size_t size".to_owned(),
            doc: "Bytes.".to_owned(),
        };
        assert_eq!(queue.items[1].members, [field]);
        let put = &queue.items[2];
        assert_eq!(put.doc, "Puts.\n\nErrors: none.");
        assert_eq!(
            put.code,
            "shoal_status shoal_queue_put(shoal_queue *q, size_t n);"
        );
        assert_eq!(queue.items[3].doc, "");
    }

    #[test]
    fn the_headers_of_the_checkout_are_read_whole() {
        let header = Header::read().unwrap();
        let text = ["shoal.h", "shoal_bindings.h"]
            .map(|name| files::read(root().join("include").join(name)).unwrap())
            .concat();
        let declared = text.matches("\nSHOAL_API").count();
        assert_eq!(header.functions().count(), declared);
        let structs = header.items().filter(|(_, it)| it.kind == Kind::Struct);
        assert_eq!(structs.count(), text.matches("\ntypedef struct ").count());
    }
}
