//! Python's pickles: showing those that hold plain data, and writing JSON as one.
//!
//! A pickle is a program that can call any function. Here no function is called: only the instructions that make
//! plain data are executed, and a pickle with any other instruction is shown as a pickle.

use serde_json::Value;

use crate::python;

/// The most bytes of text that one pickle is shown as, and about the most instructions that are executed.
const BUDGET: usize = 64 << 10;

/// How deep containers may be nested.
const DEPTH: usize = 100;

/// The content of a pickle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pickled {
    /// Plain data, as Python writes it: None, bool, int, float, str, bytes, list, tuple, dict, set.
    Data(String),
    /// Something else; the first class or function that it names, if it names one.
    Object(Option<String>),
}

/// The content of the pickle.
pub(crate) fn show(bytes: &[u8]) -> Pickled {
    let mut reader = Reader {
        rest: bytes,
        left: BUDGET,
        items: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        name: None,
    };
    match reader.run() {
        Some(data) => Pickled::Data(data),
        None => Pickled::Object(reader.name),
    }
}

/// A piece of data. Others refer to it by its place among all pieces, as a container may be part of several, or of
/// itself.
enum Item {
    Atom(String),
    /// A container: its type and its elements. Those of a dict are keys and values in turn.
    Many(Shape, Vec<usize>),
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    List,
    Tuple,
    Dict,
    Set,
    FrozenSet,
}

impl Shape {
    /// What is written before and after the elements.
    fn brackets(self) -> (&'static str, &'static str) {
        match self {
            Shape::List => ("[", "]"),
            Shape::Tuple => ("(", ")"),
            Shape::Dict | Shape::Set => ("{", "}"),
            Shape::FrozenSet => ("frozenset({", "})"),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The number of instructions and of bytes of atoms that may follow.
    left: usize,
    items: Vec<Item>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: Vec<usize>,
    /// The class or function at which it stopped.
    name: Option<String>,
}

impl<'a> Reader<'a> {
    /// The data; `None` if it is not plain.
    fn run(&mut self) -> Option<String> {
        loop {
            self.left = self.left.checked_sub(1)?;
            match self.byte()? {
                // PROTO, FRAME
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => {
                    let last = self.stack.pop()?;
                    self.stack.is_empty().then_some(())?;
                    let mut out = String::new();
                    self.write(last, &mut Vec::new(), &mut out)?;
                    return Some(out);
                }
                b'N' => self.atom("None".to_owned())?,
                0x88 => self.atom("True".to_owned())?,
                0x89 => self.atom("False".to_owned())?,
                b'J' => {
                    let number = i32::from_le_bytes(self.take(4)?.try_into().ok()?);
                    self.atom(number.to_string())?;
                }
                b'K' => {
                    let number = self.byte()?;
                    self.atom(number.to_string())?;
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
                    self.atom(number.to_string())?;
                }
                0x8a => self.long(1)?,
                0x8b => self.long(4)?,
                b'G' => {
                    let number = f64::from_be_bytes(self.take(8)?.try_into().ok()?);
                    self.atom(python::float(number))?;
                }
                0x8c => self.string(1)?,
                b'X' => self.string(4)?,
                0x8d => self.string(8)?,
                b'C' => self.bytes(1)?,
                b'B' => self.bytes(4)?,
                0x8e => self.bytes(8)?,
                b']' => self.push(Item::Many(Shape::List, Vec::new())),
                b'}' => self.push(Item::Many(Shape::Dict, Vec::new())),
                0x8f => self.push(Item::Many(Shape::Set, Vec::new())),
                b'(' => self.marks.push(self.stack.len()),
                b'a' => {
                    let item = self.pop_many(1)?;
                    self.extend(Shape::List, item)?;
                }
                b'e' => {
                    let items = self.take_to_mark()?;
                    self.extend(Shape::List, items)?;
                }
                b's' => {
                    let items = self.pop_many(2)?;
                    self.extend(Shape::Dict, items)?;
                }
                b'u' => {
                    let items = self.take_to_mark()?;
                    (items.len() % 2 == 0).then_some(())?;
                    self.extend(Shape::Dict, items)?;
                }
                0x90 => {
                    let items = self.take_to_mark()?;
                    self.extend(Shape::Set, items)?;
                }
                0x91 => {
                    let items = self.take_to_mark()?;
                    self.push(Item::Many(Shape::FrozenSet, items));
                }
                b')' => self.push(Item::Many(Shape::Tuple, Vec::new())),
                count @ 0x85..=0x87 => {
                    let items = self.pop_many(usize::from(count - 0x84))?;
                    self.push(Item::Many(Shape::Tuple, items));
                }
                b't' => {
                    let items = self.take_to_mark()?;
                    self.push(Item::Many(Shape::Tuple, items));
                }
                // MEMOIZE, BINPUT, LONG_BINPUT: they memoize items under consecutive numbers.
                0x94 => self.memoize()?,
                b'q' => {
                    let at = usize::from(self.byte()?);
                    (at == self.memo.len()).then_some(())?;
                    self.memoize()?;
                }
                b'r' => {
                    let at = self.length(4)?;
                    (at == self.memo.len()).then_some(())?;
                    self.memoize()?;
                }
                b'h' => {
                    let at = usize::from(self.byte()?);
                    self.recall(at)?;
                }
                b'j' => {
                    let at = self.length(4)?;
                    self.recall(at)?;
                }
                // POP, POP_MARK: the pickle of a tuple that contains itself.
                b'0' => drop(self.pop_many(1)?),
                b'1' => drop(self.take_to_mark()?),
                // STACK_GLOBAL
                0x93 => {
                    let names = self.pop_many(2)?;
                    let names = names.iter().map(|&it| match &self.items[it] {
                        Item::Atom(text) => text.trim_matches('\''),
                        Item::Many(..) => "",
                    });
                    self.name = Some(names.collect::<Vec<_>>().join("."));
                    return None;
                }
                _ => return None,
            }
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|it| it[0])
    }

    fn length(&mut self, bytes: usize) -> Option<usize> {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(self.take(bytes)?);
        usize::try_from(u64::from_le_bytes(word)).ok()
    }

    fn push(&mut self, item: Item) {
        self.stack.push(self.items.len());
        self.items.push(item);
    }

    fn atom(&mut self, text: String) -> Option<()> {
        self.left = self.left.checked_sub(text.len())?;
        self.push(Item::Atom(text));
        Some(())
    }

    fn long(&mut self, width: usize) -> Option<()> {
        let length = self.length(width)?;
        let number = python::integer(self.take(length)?)?;
        self.atom(number)
    }

    /// Bytes that are no longer than their text may be.
    fn counted(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.length(width)?;
        (length <= self.left).then_some(())?;
        self.take(length)
    }

    fn string(&mut self, width: usize) -> Option<()> {
        let text = python::text(self.counted(width)?)?;
        self.atom(text)
    }

    fn bytes(&mut self, width: usize) -> Option<()> {
        let text = python::bytes(self.counted(width)?);
        self.atom(text)
    }

    fn pop_many(&mut self, count: usize) -> Option<Vec<usize>> {
        let from = self.stack.len().checked_sub(count)?;
        // Nothing below a mark is taken.
        (from >= self.marks.last().copied().unwrap_or(0)).then_some(())?;
        Some(self.stack.split_off(from))
    }

    fn take_to_mark(&mut self) -> Option<Vec<usize>> {
        let from = self.marks.pop()?;
        (from <= self.stack.len()).then(|| self.stack.split_off(from))
    }

    fn extend(&mut self, shape: Shape, items: Vec<usize>) -> Option<()> {
        match &mut self.items[*self.stack.last()?] {
            Item::Many(of, all) if *of == shape => all.extend(items),
            _ => return None,
        }
        Some(())
    }

    fn memoize(&mut self) -> Option<()> {
        self.memo.push(*self.stack.last()?);
        Some(())
    }

    fn recall(&mut self, at: usize) -> Option<()> {
        self.stack.push(*self.memo.get(at)?);
        Some(())
    }

    /// Writes an item, which is inside of those in `around`. Each call writes something, so the limit of the text
    /// also limits how often an item is repeated.
    fn write(&self, item: usize, around: &mut Vec<usize>, out: &mut String) -> Option<()> {
        match &self.items[item] {
            Item::Atom(text) => out.push_str(text),
            Item::Many(Shape::Set, all) if all.is_empty() => out.push_str("set()"),
            Item::Many(Shape::FrozenSet, all) if all.is_empty() => out.push_str("frozenset()"),
            Item::Many(shape, all) => {
                let (open, close) = shape.brackets();
                out.push_str(open);
                if around.contains(&item) {
                    out.push_str("...");
                } else {
                    (around.len() < DEPTH).then_some(())?;
                    around.push(item);
                    for (at, &part) in all.iter().enumerate() {
                        out.push_str(match (at, shape) {
                            (0, _) => "",
                            (_, Shape::Dict) if at % 2 == 1 => ": ",
                            _ => ", ",
                        });
                        self.write(part, around, out)?;
                    }
                    around.pop();
                    if *shape == Shape::Tuple && all.len() == 1 {
                        out.push(',');
                    }
                }
                out.push_str(close);
            }
        }
        (out.len() <= BUDGET).then_some(())
    }
}

/// `value` as a pickle of protocol 4.
pub(crate) fn write(value: &Value) -> Vec<u8> {
    let mut out = vec![0x80, 4];
    write_to(value, &mut out);
    out.push(b'.');
    out
}

fn write_to(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'N'),
        Value::Bool(it) => out.push(if *it { 0x88 } else { 0x89 }),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (None, None) => {
                out.push(b'G');
                out.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
            }
            (signed, unsigned) => {
                let whole = signed.map_or(i128::from(unsigned.unwrap_or(0)), i128::from);
                match i32::try_from(whole) {
                    Ok(small) => {
                        out.push(b'J');
                        out.extend(small.to_le_bytes());
                    }
                    // LONG1, with a byte for the sign of a number of 64 bits.
                    Err(_) => {
                        out.extend([0x8a, 9]);
                        out.extend(&whole.to_le_bytes()[..9]);
                    }
                }
            }
        },
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.extend(b"](");
            items.iter().for_each(|it| write_to(it, out));
            out.push(b'e');
        }
        Value::Object(items) => {
            out.extend(b"}(");
            for (key, it) in items {
                write_text(key, out);
                write_to(it, out);
            }
            out.push(b'u');
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(0x8d);
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_shown_as_python_writes_it() {
        let json = r#"{"n": [1, -7, 2.5, 123456789012345], "on": true, "of": null, "s": "it's"}"#;
        let pickle = write(&serde_json::from_str(json).unwrap());
        let shown = r#"{'n': [1, -7, 2.5, 123456789012345], 'of': None, 'on': True, 's': "it's"}"#;
        assert_eq!(show(&pickle), Pickled::Data(shown.to_owned()));
    }

    #[test]
    fn a_pickle_that_calls_something_is_not_shown() {
        // os.system('true'), and the same by name on the stack.
        assert_eq!(show(b"cos\nsystem\n(S'true'\ntR."), Pickled::Object(None));
        assert_eq!(
            show(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."),
            Pickled::Object(Some("os.system".to_owned()))
        );
    }

    #[test]
    fn hostile_bytes_are_refused_within_the_budget() {
        // A memo that doubles what it repeats.
        let mut bomb = b"\x80\x04\x8c\x01a\x94".to_vec();
        for at in 0..60 {
            bomb.extend([b'h', at, b'h', at, 0x86, 0x94]);
        }
        bomb.push(b'.');
        assert_eq!(show(&bomb), Pickled::Object(None));
        let whole =
            b"\x80\x05\x95\x15\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94](K\x01K\x02eu.";
        let data = Pickled::Data("{'a': 1, 'b': [1, 2]}".to_owned());
        assert_eq!(show(whole), data);
        for end in 0..whole.len() {
            assert_eq!(show(&whole[..end]), Pickled::Object(None), "{end}");
        }
        for byte in 0..=u8::MAX {
            for at in 0..whole.len() {
                let mut forged = whole.to_vec();
                forged[at] = byte;
                let _ = show(&forged);
            }
        }
    }
}
