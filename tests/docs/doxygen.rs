//! Doxygen understands the headers for C and C++, and finds nothing in them that has no description.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::native::{Scratch, root, unique};

/// What Doxygen is told: every warning, and no output but XML. It sees plain declarations: without the macros
/// that mark a function, and in a plain namespace.
const SETTINGS: &str = "
    QUIET = YES
    WARN_IF_UNDOCUMENTED = YES
    WARN_IF_DOC_ERROR = YES
    GENERATE_HTML = NO
    GENERATE_LATEX = NO
    GENERATE_XML = YES
    MACRO_EXPANSION = YES
    EXPAND_ONLY_PREDEF = YES
    PREDEFINED = SHOAL_API= SHOAL_NODISCARD= \"SHOAL_BEGIN=namespace shoal {\" SHOAL_END=}
";

/// Macros that are not part of the interface.
const MARKS: [&str; 5] = [
    "SHOAL_API",
    "SHOAL_NODISCARD",
    "SHOAL_BEGIN",
    "SHOAL_END",
    "SHOAL_EXCEPTIONS",
];

/// The text between `<tag>` and `</tag>`, without what is marked up inside.
fn inside<'a>(xml: &'a str, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let rest = xml.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text)
}

/// Runs Doxygen on these headers. They contain `declaration` at most once for each function.
fn everything_is_described(headers: &[PathBuf], more_settings: &str, declaration: &str) {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("doxygen"));
    fs::create_dir_all(&output).unwrap();
    let mut settings = format!(
        "{SETTINGS}\n{more_settings}\nOUTPUT_DIRECTORY = {}\n",
        output.display()
    );
    for header in headers {
        writeln!(settings, "INPUT += {}", header.display()).unwrap();
    }
    let file = Scratch::new("Doxyfile", &settings);
    let ran = match Command::new("doxygen").arg(file.source()).output() {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            fs::remove_dir(output).unwrap();
            return println!("skipped: doxygen is not installed");
        }
        ran => ran.unwrap(),
    };
    // Other complaints are about settings, which differ between versions.
    let complaints = String::from_utf8_lossy(&ran.stderr);
    let is_of_header = |line: &&str| line.starts_with(&*root().to_string_lossy());
    let complaints: Vec<_> = complaints.lines().filter(is_of_header).collect();
    assert!(
        ran.status.success() && complaints.is_empty(),
        "{complaints:#?}"
    );
    let (mut members, mut bare) = (0, Vec::new());
    for file in fs::read_dir(output.join("xml")).unwrap() {
        let xml = fs::read_to_string(file.unwrap().path()).unwrap();
        // Doxygen itself complains about members of types, but not about those of files and namespaces.
        let unchecked = xml.contains(" kind=\"file\"") || xml.contains(" kind=\"namespace\"");
        for member in xml.split("<memberdef ").skip(1) {
            let name = inside(member, "name");
            members += 1;
            let descriptions = ["briefdescription", "detaileddescription"];
            let described = descriptions.map(|it| inside(member, it).contains("<para>"));
            if unchecked && !described.contains(&true) && !MARKS.contains(&name) {
                bare.push(name.to_owned());
            }
        }
    }
    let declared = headers.iter().map(|header| {
        let text = fs::read_to_string(header).unwrap();
        text.matches(declaration).count()
    });
    let declared = declared.sum::<usize>();
    assert!(
        members > declared && declared > 0,
        "{members} members, {declared} declarations"
    );
    assert_eq!(bare, [""; 0], "no description");
    fs::remove_dir_all(output).unwrap();
}

#[test]
fn doxygen_finds_a_description_of_everything_in_the_c_headers() {
    let headers = ["shoal.h", "shoal_bindings.h"].map(|it| root().join("include").join(it));
    everything_is_described(&headers, "OPTIMIZE_OUTPUT_FOR_C = YES", "\nSHOAL_API ");
}

#[test]
fn doxygen_finds_a_description_of_everything_in_the_cpp_headers() {
    let folder = root().join("bindings/cpp");
    let parts = fs::read_dir(folder.join("shoal")).unwrap();
    let mut headers: Vec<_> = parts.map(|it| it.unwrap().path()).collect();
    headers.push(folder.join("shoal.hpp"));
    everything_is_described(&headers, "", "[[nodiscard]]");
}
