//! Literals of Python, as its `repr` writes them.

use std::fmt::Write;

use serde_json::Number;

/// A whole number of any size, in two's complement with the lowest byte first.
pub(crate) fn integer(bytes: &[u8]) -> String {
    let is_negative = bytes.last().is_some_and(|it| it & 0x80 != 0);
    // The highest part first, each of 32 bits; of a negative number its complement, which is one less than its
    // magnitude.
    let flip = if is_negative { 0xff } else { 0 };
    let mut parts: Vec<u32> = bytes
        .chunks(4)
        .map(|chunk| {
            let mut word = [flip; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word.map(|byte| byte ^ flip))
        })
        .rev()
        .collect();
    let mut carry = u64::from(is_negative);
    // The highest bit of the complement is 0, so this does not overflow.
    for part in parts.iter_mut().rev() {
        let sum = u64::from(*part) + carry;
        (*part, carry) = (sum as u32, sum >> 32);
    }
    let mut groups = Vec::new();
    while parts.iter().any(|part| *part != 0) {
        let mut rest = 0;
        for part in &mut parts {
            let whole = rest << 32 | u64::from(*part);
            (*part, rest) = ((whole / GROUP) as u32, whole % GROUP);
        }
        groups.push(rest);
    }
    let mut out = if is_negative { "-" } else { "" }.to_owned();
    let highest = groups.pop().unwrap_or(0);
    let _ = write!(out, "{highest}");
    for group in groups.iter().rev() {
        let _ = write!(out, "{group:09}");
    }
    out
}

/// Decimal digits are found in groups of nine.
const GROUP: u64 = 1_000_000_000;

/// The shortest number that reads as the same, with an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    // The library of JSON finds the same digits as Python, also where two numbers are equally near.
    let text = Number::from_f64(number).map_or_else(String::new, |it| it.to_string());
    let (text, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |it| ("-", it));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let exponent = exponent.parse().unwrap_or(0) + whole.len() as i32;
    // The number is 0.DIGITS times 10^exponent.
    let all = format!("{whole}{part}");
    let digits = all.trim_start_matches('0');
    let exponent = exponent - (all.len() - digits.len()) as i32;
    let digits = match digits.trim_end_matches('0') {
        "" => return format!("{sign}0.0"),
        digits => digits,
    };
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    match usize::try_from(exponent) {
        Ok(point @ 1..=16) if point < digits.len() => {
            let (whole, part) = digits.split_at(point);
            format!("{sign}{whole}.{part}")
        }
        Ok(1..=16) => {
            let zeros = zeros(exponent - digits.len() as i32);
            format!("{sign}{digits}{zeros}.0")
        }
        _ if (-3..=0).contains(&exponent) => format!("{sign}0.{}{digits}", zeros(-exponent)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let (power, minus) = ((exponent - 1).abs(), if exponent < 1 { '-' } else { '+' });
            format!("{sign}{first}{point}{rest}e{minus}{power:02}")
        }
    }
}

/// A `str`.
pub(crate) fn text(text: &str) -> String {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        let _ = match (c, u32::from(c)) {
            _ if c == quote || c == '\\' => write!(out, "\\{c}"),
            ('\n', _) => write!(out, "\\n"),
            ('\r', _) => write!(out, "\\r"),
            ('\t', _) => write!(out, "\\t"),
            _ if is_printable(c) => write!(out, "{c}"),
            (_, code @ ..0x100) => write!(out, "\\x{code:02x}"),
            (_, code @ ..0x1_0000) => write!(out, "\\u{code:04x}"),
            (_, code) => write!(out, "\\U{code:08x}"),
        };
    }
    out.push(quote);
    out
}

/// A `bytes`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let quote = quote_for(bytes.contains(&b'\''), bytes.contains(&b'"'));
    let mut out = format!("b{quote}");
    for &byte in bytes {
        let _ = match char::from(byte) {
            c if c == quote || c == '\\' => write!(out, "\\{c}"),
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            c @ ' '..='~' => write!(out, "{c}"),
            _ => write!(out, "\\x{byte:02x}"),
        };
    }
    out.push(quote);
    out
}

fn quote_for(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

/// Whether a terminal shows the character: it is assigned, and neither a control nor a separator but the space.
/// Python and Rust's `escape_debug` decide that by the same categories of Unicode; the latter also escapes
/// characters that combine with the one before, if there is none.
fn is_printable(c: char) -> bool {
    let after_another = String::from_iter(['a', c]);
    matches!(c, '\'' | '"') || after_another.escape_debug().nth(1) != Some('\\')
}
