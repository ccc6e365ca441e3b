//! The comments of the headers as text of a manual page (man(7) macros).
//!
//! A comment has paragraphs, lists of lines that start with `- `, headings that start with `# `, code between
//! fences, and words between backticks.

/// Text without commands for the formatter.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let text = text
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
        .replace('`', "\\(ga")
        // A macro joins the words between two quotation marks into one argument, and removes the marks.
        .replace('"', "\\(dq");
    match text.starts_with('.') {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// One line of running text. Text between backticks is bold.
pub(crate) fn inline(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        let part = escaped(part);
        match at % 2 {
            1 => out += &format!("\\fB{part}\\fR"),
            _ => out += &part,
        }
    }
    out
}

/// Code, line by line.
pub(crate) fn code(text: &str) -> String {
    let lines = text.lines().map(|line| format!("{}\n", escaped(line)));
    format!(".PP\n.RS 4\n.nf\n{}.fi\n.RE\n", lines.collect::<String>())
}

/// A part of a comment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    Heading(String),
    Paragraph(String),
    List(Vec<String>),
    Code(String),
}

/// The parts of a comment.
pub(crate) fn blocks(doc: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = doc.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
            blocks.push(Block::Code(code.collect::<Vec<_>>().join("\n")));
        } else if let Some(heading) = line.strip_prefix("# ") {
            blocks.push(Block::Heading(heading.to_owned()));
        } else if let Some(first) = line.strip_prefix("- ") {
            let mut entries = vec![first.to_owned()];
            while let Some(line) = lines.next_if(|line| !ends_block(line)) {
                match (line.strip_prefix("- "), entries.last_mut()) {
                    (None, Some(last)) => *last += &format!(" {}", line.trim()),
                    (entry, _) => entries.push(entry.unwrap_or_default().to_owned()),
                }
            }
            blocks.push(Block::List(entries));
        } else if !line.trim().is_empty() {
            let mut text = line.to_owned();
            while let Some(line) =
                lines.next_if(|line| !ends_block(line) && !line.starts_with("- "))
            {
                text += &format!(" {}", line.trim());
            }
            blocks.push(Block::Paragraph(text));
        }
    }
    blocks
}

fn ends_block(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with("```") || line.starts_with("# ")
}

/// The blocks as text of a page.
pub(crate) fn page(blocks: &[Block]) -> String {
    let texts = blocks.iter().map(|block| match block {
        Block::Heading(text) => format!(".SH {}\n", escaped(&text.to_uppercase())),
        Block::Paragraph(text) => format!(".PP\n{}\n", inline(text)),
        Block::List(entries) => {
            let entries = entries
                .iter()
                .map(|it| format!(".IP \\(bu 2\n{}\n", inline(it)));
            entries.collect()
        }
        Block::Code(text) => code(text),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_becomes_its_blocks() {
        let doc = "Takes\none.\n\n- a\n  b\n- c\n\n# Errors\n```c\nx = 'a';\n```\nEnd.";
        let found = blocks(doc);
        assert_eq!(
            found,
            [
                Block::Paragraph("Takes one.".to_owned()),
                Block::List(vec!["a b".to_owned(), "c".to_owned()]),
                Block::Heading("Errors".to_owned()),
                Block::Code("x = 'a';".to_owned()),
                Block::Paragraph("End.".to_owned()),
            ]
        );
    }

    #[test]
    fn text_is_never_a_command_for_the_formatter() {
        assert_eq!(inline(".5 is `a-b` \\n"), "\\&.5 is \\fBa\\-b\\fR \\en");
        assert_eq!(
            code("'x'\n.y"),
            ".PP\n.RS 4\n.nf\n\\(aqx\\(aq\n\\&.y\n.fi\n.RE\n"
        );
        assert_eq!(escaped("VERSION \"1\""), "VERSION \\(dq1\\(dq");
    }
}
