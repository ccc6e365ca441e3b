//! Values and keys: how they are read from the command line, and how they are shown.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::ValueEnum;
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::number::number;
use crate::output::{Failure, bytes, plain};
use crate::pickle::{self, Pickled};
use crate::python;

/// How the values on the command line are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// The bytes of the text
    Text,
    /// Hexadecimal digits of the bytes
    Hex,
    /// Base64 of the bytes
    Base64,
    /// A number of 64 bits: a counter of a map in any language
    Integer,
    /// JSON, stored as an object for Python's shoal.Queue, shoal.Map and shoal.List
    Python,
}

/// What a value is part of: Python encodes a whole number as a message differently from one as an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartOf {
    Message,
    Element,
}

impl Encoding {
    /// The bytes that `text` means.
    pub(crate) fn read(self, text: &[u8], part_of: PartOf) -> Result<Vec<u8>, Failure> {
        if self == Encoding::Text {
            return Ok(text.to_vec());
        }
        let usage = |why: &dyn fmt::Display| {
            let text = plain(&String::from_utf8_lossy(text));
            let shown: String = text.chars().take(60).collect();
            Failure::Usage(format!("invalid value {shown:?}: {why}"))
        };
        let text = str::from_utf8(text).map_err(|err| usage(&err))?;
        match self {
            Encoding::Text => Ok(text.into()),
            Encoding::Hex => {
                unhex(text).ok_or_else(|| usage(&"expected pairs of hexadecimal digits"))
            }
            Encoding::Base64 => {
                let expected =
                    "expected Base64: groups of 4 letters, the last one filled up with \"=\"";
                BASE64.decode(text.trim()).map_err(|_| usage(&expected))
            }
            Encoding::Integer => number(i64::MIN..=i64::MAX)(text.trim())
                .map(|it| it.to_le_bytes().to_vec())
                .map_err(|err| usage(&err)),
            Encoding::Python => {
                let json: serde_json::Value =
                    serde_json::from_str(text).map_err(|err| usage(&err))?;
                if let Some(number) = beyond_64_bits(text) {
                    return Err(usage(&format!("{number} is beyond 64 bits")));
                }
                if let (PartOf::Element, Some(number)) = (part_of, json.as_i64()) {
                    return Ok(number.to_le_bytes().to_vec());
                }
                let mut pickle = pickle::write(&json);
                // Eight bytes would be read as a number.
                if part_of == PartOf::Element && pickle.len() == 8 {
                    pickle.push(0);
                }
                Ok(pickle)
            }
        }
    }
}

/// A whole number in this JSON that does not fit 64 bits. The parser silently makes it a floating-point number.
fn beyond_64_bits(json: &str) -> Option<&str> {
    // Once escaped quotes are replaced, every second part between quotes is a string.
    let bare = json.replace("\\\\", "__").replace("\\\"", "__");
    let mut start = 0;
    for (part, piece) in bare.split('"').enumerate() {
        let end = start + piece.len();
        let is_part_of_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let numbers = json[start..end].split(|c| !is_part_of_number(c));
        let is_whole = |it: &&str| !it.is_empty() && !it.contains(['.', 'e', 'E']);
        let mut beyond = numbers
            .filter(is_whole)
            .filter(|it| it.parse::<i64>().is_err() && it.parse::<u64>().is_err());
        if part % 2 == 0
            && let Some(number) = beyond.next()
        {
            return Some(number);
        }
        start = end + 1;
    }
    None
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|it| !it.is_ascii_whitespace())
        .collect();
    let digit = |it: &u8| char::from(*it).to_digit(16);
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
            _ => None,
        })
        .collect()
}

/// How keys on the command line are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyEncoding {
    /// A text: a str in Python, its UTF-8 bytes elsewhere
    Text,
    /// Hexadecimal digits of the bytes
    Hex,
    /// A bytes object in Python
    PythonBytes,
    /// An int in Python
    PythonInt,
}

impl KeyEncoding {
    /// The bytes of the key that `text` means.
    pub(crate) fn read(self, text: &str) -> Result<Vec<u8>, Failure> {
        match self {
            KeyEncoding::Text => Ok(text.into()),
            KeyEncoding::Hex => Encoding::Hex.read(text.as_bytes(), PartOf::Element),
            KeyEncoding::PythonBytes => Ok([b"\xffb", text.as_bytes()].concat()),
            KeyEncoding::PythonInt => match number(i128::MIN..=i128::MAX)(text) {
                Ok(number) => Ok([b"\xffi", number.to_string().as_bytes()].concat()),
                Err(err) => Err(Failure::Usage(format!(
                    "invalid key {:?}: {err}",
                    plain(text)
                ))),
            },
        }
    }
}

/// A value, as recognised by its bytes.
pub(crate) enum Shown<'a> {
    Text(&'a str),
    Integer(i64),
    Pickle(Pickled),
    /// A pickle with this many out-of-band buffers.
    Frame(u32),
    Bytes,
}

/// The first bytes of a large object in a queue of Python.
const FRAME: &[u8] = b"\x93SHOAL5\0";

/// Recognises `value` by its bytes.
pub(crate) fn recognise(value: &[u8], part_of: PartOf) -> Shown<'_> {
    let is_text = |text: &&str| {
        !text
            .chars()
            .any(|c| c.is_control() && !"\n\r\t".contains(c))
    };
    if let Ok(text) = str::from_utf8(value)
        && is_text(&text)
    {
        return Shown::Text(text);
    }
    match value {
        [.., b'.'] | [.., b'.', 0] if matches!(value, [0x80, 2..=5, ..]) => {
            Shown::Pickle(pickle::show(value))
        }
        _ if value.starts_with(FRAME) => {
            let count = value.get(8..12).and_then(|it| it.try_into().ok());
            Shown::Frame(u32::from_le_bytes(count.unwrap_or_default()))
        }
        value => match (part_of, <[u8; 8]>::try_from(value)) {
            (PartOf::Element, Ok(word)) => Shown::Integer(i64::from_le_bytes(word)),
            _ => Shown::Bytes,
        },
    }
}

/// A pickle for people: its data, or the name of its class.
fn pickle_text(pickled: &Pickled, len: usize) -> String {
    let size = bytes(len as u64);
    match pickled {
        Pickled::Data(data) => data.clone(),
        Pickled::Object(Some(name)) => format!("<pickle of {size}: {name}>"),
        Pickled::Object(None) => format!("<pickle of {size}>"),
    }
}

/// `value` for a terminal: a text with its line breaks, anything else on one line.
pub(crate) fn for_terminal(value: &[u8], part_of: PartOf) -> String {
    match recognise(value, part_of) {
        Shown::Text(text) => {
            let lines = text.split('\n').map(|line| {
                let cells = line.split('\t').map(plain);
                cells.collect::<Vec<_>>().join("\t")
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        _ => one_line(value, part_of),
    }
}

/// `value` on one line, for people.
pub(crate) fn one_line(value: &[u8], part_of: PartOf) -> String {
    let size = || bytes(value.len() as u64);
    match recognise(value, part_of) {
        Shown::Text(text) => plain(text),
        Shown::Integer(number) => number.to_string(),
        Shown::Pickle(pickled) => plain(&pickle_text(&pickled, value.len())),
        Shown::Frame(buffers) => format!("<Python object of {}, {buffers} buffers>", size()),
        Shown::Bytes => {
            let shown = &value[..value.len().min(32)];
            let more = if shown.len() < value.len() { "…" } else { "" };
            format!("<{}: {}{more}>", size(), shown.escape_ascii())
        }
    }
}

/// A value as JSON.
///
/// `encoding` is `text`, `integer`, `pickle`, `frame` or `bytes`; `bytes` the length. A text has `text`;
/// all others have `base64`, and `integer`, `shown` (the data of a pickle) or `class` where that is known.
pub(crate) struct Json<'a>(pub(crate) &'a [u8], pub(crate) PartOf);

impl Serialize for Json<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Json(value, part_of) = *self;
        let mut map = to.serialize_map(None)?;
        let shown = recognise(value, part_of);
        map.serialize_entry(
            "encoding",
            match &shown {
                Shown::Text(_) => "text",
                Shown::Integer(_) => "integer",
                Shown::Pickle(_) => "pickle",
                Shown::Frame(_) => "frame",
                Shown::Bytes => "bytes",
            },
        )?;
        map.serialize_entry("bytes", &value.len())?;
        match shown {
            Shown::Text(text) => {
                map.serialize_entry("text", text)?;
                return map.end();
            }
            Shown::Integer(number) => map.serialize_entry("integer", &number)?,
            Shown::Pickle(Pickled::Data(data)) => map.serialize_entry("shown", &data)?,
            Shown::Pickle(Pickled::Object(Some(name))) => map.serialize_entry("class", &name)?,
            _ => {}
        }
        map.serialize_entry("base64", &BASE64.encode(value))?;
        map.end()
    }
}

/// A key on one line. A key that Python has written is shown in Python's notation.
pub(crate) fn key(key: &[u8]) -> String {
    match python_key(key, 8) {
        Some(text) => plain(&text),
        None => match str::from_utf8(key) {
            Ok(text) => plain(text),
            Err(_) => format!("<{}>", key.escape_ascii()),
        },
    }
}

/// A key of Python's `shoal.Map` that is not a str. Nested tuples are shown down to `depth`.
fn python_key(key: &[u8], depth: u8) -> Option<String> {
    let (tag, body) = match key {
        [0xff, tag, body @ ..] => (tag, body),
        _ => return None,
    };
    let text = || str::from_utf8(body).ok().map(str::to_owned);
    match tag {
        b'b' => Some(python::bytes(body)),
        b'i' | b'f' => text(),
        b'n' => Some("None".to_owned()),
        b't' | b's' if depth > 0 => {
            let mut parts = Vec::new();
            let mut rest = body;
            while !rest.is_empty() {
                let (length, after) = rest.split_at_checked(4)?;
                let length = u32::from_le_bytes(length.try_into().ok()?);
                let (part, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                let nested = python_key(part, depth - 1);
                parts.push(nested.or_else(|| python::text(part))?);
                rest = after;
            }
            let joined = parts.join(", ");
            Some(match tag {
                b't' if parts.len() == 1 => format!("({joined},)"),
                b't' => format!("({joined})"),
                _ if parts.is_empty() => "frozenset()".to_owned(),
                _ => format!("frozenset({{{joined}}})"),
            })
        }
        b'p' => Some(pickle_text(&pickle::show(body), body.len())),
        b'u' => python::text(body),
        _ => None,
    }
}

/// A key as JSON: `text` if it is a text, else `base64` and `shown`.
pub(crate) struct JsonKey<'a>(pub(crate) &'a [u8]);

impl Serialize for JsonKey<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match str::from_utf8(self.0) {
            Ok(text) => map.serialize_entry("text", text)?,
            Err(_) => {
                map.serialize_entry("shown", &key(self.0))?;
                map.serialize_entry("base64", &BASE64.encode(self.0))?;
            }
        }
        map.end()
    }
}
