//! The part of `cargo xtask header` for Python: the C interface for ctypes, in bindings/python/src/shoal: constants
//! and functions in _abi.py, structs of objects in _structs.py, which a program imports with its first object, and
//! those of processes, workers and leases of devices in _process_structs.py.
//!
//! Names are those of C without `SHOAL_`; a struct `shoal_queue_options` is the class `QueueOptions`.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Attribute, Expr, Fields, FnArg, Item, ItemEnum, ItemFn, ItemStruct, Lit, Meta, Type};

use crate::files::{self, at, root};
use crate::header;

const WIDTH: usize = 100;

const ABI: &str = "\"\"\"The constants and functions of the C interface, as ctypes sees them.

Generated from src/ffi by `cargo xtask header`; edit there.
\"\"\"

from __future__ import annotations

from ctypes import c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64
from ctypes import c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

";

const FUNCTIONS: &str = "
# Each function's result and arguments. A pointer is a `c_void_p`, which takes `byref()`, an array and
# an address; text is a `c_char_p`.
PROTOTYPES: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {
";

/// The files whose structs are those of processes and their devices.
const OF_PROCESSES: [&str; 4] = ["lease.rs", "process.rs", "spawn.rs", "supervisor.rs"];

/// What a file of structs may need from ctypes.
const CTYPES: [&str; 12] = [
    "POINTER",
    "Structure",
    "c_bool",
    "c_char",
    "c_char_p",
    "c_int",
    "c_int32",
    "c_int64",
    "c_size_t",
    "c_uint32",
    "c_uint64",
    "c_void_p",
];

/// Writes Python's files, or with `check` only checks that they are up to date.
pub(crate) fn declarations(check: bool) -> Result<(), String> {
    let Generated {
        abi,
        structs,
        process_structs,
    } = generate()?;
    let write = |file: &str, text: &str| {
        header::write(&format!("bindings/python/src/shoal/{file}"), text, check)
    };
    write("_abi.py", &abi)?;
    write("_structs.py", &structs)?;
    write("_process_structs.py", &process_structs)
}

/// The texts of the files.
struct Generated {
    abi: String,
    structs: String,
    process_structs: String,
}

fn generate() -> Result<Generated, String> {
    let names = c_names()?;
    let files = header::SECTIONS.iter().copied().flatten();
    let (mut constants, mut enums) = (String::new(), String::new());
    let (mut structs, mut process_structs) = (String::new(), String::new());
    let mut functions = String::new();
    for file in files.chain(&["bindings.rs"]) {
        let path = root().join("src/ffi").join(file);
        let parsed = syn::parse_file(&files::read(&path)?).map_err(at(&path))?;
        for item in &parsed.items {
            match item {
                Item::Const(it) if it.ident.to_string().starts_with("SHOAL_") => {
                    let name = it.ident.to_string();
                    let value = number(&it.expr).map_err(at(&path))?;
                    constants += &format!("{} = {value}\n", &name["SHOAL_".len()..]);
                }
                Item::Enum(it) if is_of_c(&it.attrs) => {
                    enums += &enumeration(it, &names).map_err(at(&path))?;
                }
                Item::Struct(it) if is_of_c(&it.attrs) => {
                    let to = match OF_PROCESSES.contains(file) {
                        true => &mut process_structs,
                        false => &mut structs,
                    };
                    *to += &structure(it, &names).map_err(at(&path))?;
                }
                Item::Fn(it) if it.sig.abi.is_some() => {
                    functions += &prototype(it).map_err(at(&path))?;
                }
                _ => {}
            }
        }
    }
    Ok(Generated {
        abi: format!("{ABI}{constants}\n{enums}{FUNCTIONS}{functions}}}\n"),
        structs: of_structs("objects", &structs),
        process_structs: of_structs("processes, workers and leases of devices", &process_structs),
    })
}

/// A file of structs, with the imports that it needs.
fn of_structs(of: &str, structs: &str) -> String {
    let is_part = |letter: char| !(letter.is_alphanumeric() || letter == '_');
    let words: BTreeSet<&str> = structs.split(is_part).collect();
    let used: Vec<&str> = CTYPES.into_iter().filter(|it| words.contains(it)).collect();
    let mut imports = String::new();
    for line in wrapped(&used.join(", "), WIDTH - "from ctypes import ".len()) {
        imports += &format!("from ctypes import {}\n", line.trim_end_matches(','));
    }
    format!(
        "\"\"\"The structs of {of} in the C interface, as ctypes sees them.\n\n\
         Generated from src/ffi by `cargo xtask header`; edit there.\n\"\"\"\n\n\
         from __future__ import annotations\n\n{imports}\nfrom ._sized import Sized\n\n\
         TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from typing import Any\n{structs}"
    )
}

/// The C name that cbindgen gives to each Rust type.
fn c_names() -> Result<BTreeMap<String, String>, String> {
    let config = files::read(root().join("cbindgen.toml"))?;
    let pairs = config.lines().filter_map(|line| line.split_once(" = "));
    let pairs = pairs.filter_map(|(name, new)| {
        let new = new.trim_matches('"').strip_prefix("shoal_")?;
        Some((name.trim_matches('"').to_owned(), new.to_owned()))
    });
    Ok(pairs.collect())
}

fn c_name<'a>(rust: &str, names: &'a BTreeMap<String, String>) -> Result<&'a str, String> {
    let found = names.get(rust).map(String::as_str);
    found.ok_or_else(|| format!("cbindgen.toml has no name for {rust}"))
}

fn is_of_c(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("repr") && list.tokens.to_string() == "C",
        _ => false,
    })
}

fn number(expr: &Expr) -> Result<i128, String> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().map_err(|err| err.to_string()),
            _ => Err("a constant is not an integer".to_owned()),
        },
        Expr::Unary(minus) => number(&minus.expr).map(|number| -number),
        _ => Err("a constant is not written as a number".to_owned()),
    }
}

/// The variants, prefixed with the name of the enum, as in C. Statuses have no prefix.
fn enumeration(it: &ItemEnum, names: &BTreeMap<String, String>) -> Result<String, String> {
    let prefix = match c_name(&it.ident.to_string(), names)? {
        "status" => String::new(),
        name => format!("{name}_"),
    };
    let mut out = String::new();
    for variant in &it.variants {
        let (_, value) = variant
            .discriminant
            .as_ref()
            .ok_or("a variant has no number")?;
        let name = format!("{prefix}{}", snake(&variant.ident.to_string()));
        out += &format!("{} = {}\n", name.to_uppercase(), number(value)?);
    }
    Ok(out)
}

fn structure(it: &ItemStruct, names: &BTreeMap<String, String>) -> Result<String, String> {
    let name = c_name(&it.ident.to_string(), names)?;
    let Fields::Named(fields) = &it.fields else {
        return Err(format!("{name} has no named fields"));
    };
    let mut list = String::new();
    let mut annotations = String::new();
    let mut base = "Structure";
    for (at, field) in fields.named.iter().enumerate() {
        let field_name = field
            .ident
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let (kind, python) = field_type(&field.ty)?;
        list += &format!("        (\"{field_name}\", {kind}),\n");
        if at == 0 && field_name == "size" {
            base = "Sized";
            continue;
        }
        // A keyword of Python, which cannot be annotated.
        if field_name == "from" {
            continue;
        }
        let about = first_sentence(&documentation(&field.attrs)).to_owned();
        for line in wrapped(&about, WIDTH - "    #: ".len()) {
            annotations += &format!("    #: {line}\n");
        }
        annotations += &format!("    {field_name}: {python}\n");
    }
    let class: String = name.split('_').map(capitalized).collect();
    let about = documentation(&it.attrs);
    let about = format!("\"\"\"``shoal_{name}``: {}\"\"\"", first_sentence(&about));
    let about = wrapped(&about, WIDTH - 4).join("\n    ");
    Ok(format!(
        "\n\nclass {class}({base}):\n    {about}\n\n    _fields_ = [\n{list}    ]\n{annotations}"
    ))
}

/// The ctypes type of a field, and its type in Python.
fn field_type(ty: &Type) -> Result<(String, &'static str), String> {
    match ty {
        Type::Array(array) => {
            let (item, _) = field_type(&array.elem)?;
            let python = if item == "c_char" { "bytes" } else { "Any" };
            Ok((format!("{item} * {}", number(&array.len)?), python))
        }
        Type::Ptr(outer) => match &*outer.elem {
            Type::Ptr(inner) if last_name(&inner.elem) == "c_char" => {
                Ok(("POINTER(c_char_p)".to_owned(), "Any"))
            }
            _ => Ok((argument(ty)?.to_owned(), "Any")),
        },
        _ => {
            let kind = argument(ty)?;
            let python = match kind {
                "c_bool" => "bool",
                "c_double" => "float",
                _ => "int",
            };
            Ok((kind.to_owned(), python))
        }
    }
}

/// The type of an argument or a result.
fn argument(ty: &Type) -> Result<&'static str, String> {
    if let Type::Ptr(pointer) = ty {
        let is_text = pointer.const_token.is_some() && last_name(&pointer.elem) == "c_char";
        return Ok(if is_text { "c_char_p" } else { "c_void_p" });
    }
    Ok(match last_name(ty).as_str() {
        "bool" => "c_bool",
        "c_char" => "c_char",
        "c_int" => "c_int",
        "f64" => "c_double",
        "i32" => "c_int32",
        "i64" => "c_int64",
        "usize" => "c_size_t",
        "u32" | "RawKind" | "Status" => "c_uint32",
        "u64" => "c_uint64",
        // A callback.
        "Option" => "c_void_p",
        other => return Err(format!("{other} has no counterpart in ctypes")),
    })
}

fn last_name(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
    .unwrap_or_default()
}

fn prototype(it: &ItemFn) -> Result<String, String> {
    let result = match &it.sig.output {
        syn::ReturnType::Default => "None",
        syn::ReturnType::Type(_, ty) => argument(ty)?,
    };
    let arguments = it.sig.inputs.iter().map(|input| match input {
        FnArg::Typed(typed) => argument(&typed.ty),
        FnArg::Receiver(_) => Err("a function takes self".to_owned()),
    });
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let comma = if arguments.len() == 1 { "," } else { "" };
    let arguments = format!("({}{comma})", arguments.join(", "));
    let name = &it.sig.ident;
    let line = format!("    \"{name}\": ({result}, {arguments}),\n");
    if line.len() <= WIDTH {
        return Ok(line);
    }
    Ok(format!(
        "    \"{name}\": (\n        {result},\n        {arguments},\n    ),\n"
    ))
}

/// The text of the first paragraph.
fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(text) => Some(text.value().trim().to_owned()),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        });
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    lines.join(" ").replace("[`", "`").replace("`]", "`")
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or("").trim_end()
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_types_have_the_ctypes_counterparts_that_are_passed() {
        let kind = |text: &str| field_type(&syn::parse_str(text).unwrap());
        for (rust, ctypes, python) in [
            ("*const c_char", "c_char_p", "Any"),
            ("*mut c_char", "c_void_p", "Any"),
            ("*const *const c_char", "POINTER(c_char_p)", "Any"),
            ("[c_char; 17]", "c_char * 17", "bytes"),
            ("[i32; 3]", "c_int32 * 3", "Any"),
            ("bool", "c_bool", "bool"),
        ] {
            assert_eq!(kind(rust), Ok((ctypes.to_owned(), python)));
        }
        assert!(kind("String").is_err());
        assert_eq!(snake("ErrNotFound"), "err_not_found");
        assert_eq!(number(&syn::parse_str("-0x10").unwrap()), Ok(-16));
    }
}
