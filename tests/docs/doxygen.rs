//! Doxygen understands the C headers, and finds nothing in them that has no description.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{self, Command};

use crate::native::{Scratch, root};

/// What Doxygen is told: every warning, and no output but XML. The macros that mark a function are left out, so
/// that it sees plain declarations.
const SETTINGS: &str = "
    QUIET = YES
    WARN_AS_ERROR = FAIL_ON_WARNINGS
    WARN_IF_UNDOCUMENTED = YES
    WARN_IF_DOC_ERROR = YES
    GENERATE_HTML = NO
    GENERATE_LATEX = NO
    GENERATE_XML = YES
    OPTIMIZE_OUTPUT_FOR_C = YES
    MACRO_EXPANSION = YES
    EXPAND_ONLY_PREDEF = YES
    PREDEFINED = SHOAL_API= SHOAL_NODISCARD=
";

/// Macros that are not part of the interface: they mark its functions.
const MARKS: [&str; 2] = ["SHOAL_API", "SHOAL_NODISCARD"];

/// The text between `<tag>` and `</tag>`, without what is marked up inside.
fn inside<'a>(xml: &'a str, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let rest = xml.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text)
}

#[test]
fn doxygen_finds_a_description_of_everything_in_the_c_headers() {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("doxygen-{}", process::id()));
    fs::create_dir_all(&output).unwrap();
    let headers = ["shoal.h", "shoal_bindings.h"].map(|it| root().join("include").join(it));
    let settings = format!(
        "{SETTINGS}\nOUTPUT_DIRECTORY = {}\nINPUT = {} {}\n",
        output.display(),
        headers[0].display(),
        headers[1].display(),
    );
    let file = Scratch::new("Doxyfile", &settings);
    let ran = match Command::new("doxygen").arg(file.source()).output() {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            return println!("skipped: doxygen is not installed");
        }
        ran => ran.unwrap(),
    };
    let complaints = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{complaints}");
    let (mut members, mut bare) = (0, Vec::new());
    for file in fs::read_dir(output.join("xml")).unwrap() {
        let xml = fs::read_to_string(file.unwrap().path()).unwrap();
        for member in xml.split("<memberdef ").skip(1) {
            let name = inside(member, "name");
            members += 1;
            let descriptions = ["briefdescription", "detaileddescription"];
            let described = descriptions.map(|it| inside(member, it).contains("<para>"));
            if !described.contains(&true) && !MARKS.contains(&name) {
                bare.push(name.to_owned());
            }
        }
    }
    let declared = headers.map(|header| {
        let text = fs::read_to_string(header).unwrap();
        text.matches("\nSHOAL_API ").count()
    });
    assert!(members > declared.iter().sum::<usize>(), "{members}");
    assert_eq!(bare, [""; 0], "no description");
    fs::remove_dir_all(output).unwrap();
}
