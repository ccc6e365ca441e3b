//! Literals as Python writes them, by its function `repr`.

/// The longest int, in bytes, that is written: Python itself refuses ints of more than 4300 digits.
const LONGEST_INTEGER: usize = 1786;

/// A str. It is given as UTF-8 that may contain surrogates; `None` if it is something else.
pub(crate) fn text(utf8: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    let mut rest = utf8;
    while !rest.is_empty() {
        let (valid, other) = match str::from_utf8(rest) {
            Ok(valid) => (valid, &[][..]),
            Err(err) => {
                let (valid, other) = rest.split_at(err.valid_up_to());
                (str::from_utf8(valid).ok()?, other)
            }
        };
        out.extend(valid.chars().map(u32::from));
        rest = match *other {
            [] => other,
            [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] => {
                out.push(0xd000 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f));
                &other[3..]
            }
            _ => return None,
        };
    }
    Some(quoted(&out, is_printable))
}

/// A bytes object.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let codes: Vec<u32> = bytes.iter().copied().map(u32::from).collect();
    format!("b{}", quoted(&codes, |_| false))
}

/// The codes between quotes. `is_printable` is asked about those beyond ASCII.
fn quoted(codes: &[u32], is_printable: impl Fn(char) -> bool) -> String {
    let has = |quote: char| codes.contains(&u32::from(quote));
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(codes.len() + 2);
    out.push(quote);
    for &code in codes {
        match char::from_u32(code) {
            Some('\t') => out.push_str("\\t"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some(c) if c == quote || c == '\\' => out.extend(['\\', c]),
            Some(c @ ' '..='~') => out.push(c),
            Some(c) if !c.is_ascii() && is_printable(c) => out.push(c),
            _ => out += &escape(code),
        }
    }
    out.push(quote);
    out
}

fn escape(code: u32) -> String {
    match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

/// Whether Python prints this character as it is. The standard library's rule for debugging output is the same,
/// except for characters at the beginning that extend the one before them.
fn is_printable(c: char) -> bool {
    format!("a{c}").escape_debug().count() == 2
}

/// A float.
pub(crate) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    // The number of digits and the limits of the notation without an exponent are the same. Python rounds a last
    // digit between two to the even one.
    let shortest = format!("{number:?}");
    let decimals = |digits: &str| digits.split_once('.').map_or(0, |(_, it)| it.len());
    let rounded = match shortest.split_once('e') {
        Some((digits, _)) => format!("{number:.*e}", decimals(digits)),
        None => format!("{number:.*}", decimals(&shortest)),
    };
    let text = match rounded.parse() == Ok(number) {
        true => rounded,
        false => shortest,
    };
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

/// An int, given in two's complement from its lowest byte; `None` if it is longer than Python writes.
pub(crate) fn integer(bytes: &[u8]) -> Option<String> {
    const BASE: u32 = 1_000_000_000;
    if bytes.len() > LONGEST_INTEGER {
        return None;
    }
    let is_negative = bytes.last().is_some_and(|it| it & 0x80 != 0);
    // The decimal digits in groups of nine, the lowest group first. The complement of a negative number is one
    // less than its magnitude.
    let mut groups = vec![0u32];
    for byte in bytes.iter().rev() {
        multiply_add(&mut groups, 256, if is_negative { !byte } else { *byte });
    }
    multiply_add(&mut groups, 1, u8::from(is_negative));
    fn multiply_add(groups: &mut Vec<u32>, factor: u64, add: u8) {
        let mut carry = u64::from(add);
        for group in groups.iter_mut() {
            carry += u64::from(*group) * factor;
            *group = (carry % u64::from(BASE)) as u32;
            carry /= u64::from(BASE);
        }
        if carry > 0 {
            groups.push(carry as u32);
        }
    }
    let (highest, lower) = groups.split_last()?;
    let sign = if is_negative { "-" } else { "" };
    let lower = lower.iter().rev().map(|group| format!("{group:09}"));
    Some(format!("{sign}{highest}{}", lower.collect::<String>()))
}
