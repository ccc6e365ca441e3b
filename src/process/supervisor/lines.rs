//! Cutting a worker's output into lines, each with a label.

/// The longest line, in bytes. A longer one is split into several.
pub(super) const LONGEST: usize = 64 << 10;

/// Buffer that a stream keeps while it has no part of a line.
const KEPT: usize = 4 << 10;

/// One stream of one worker.
pub(super) struct Lines {
    label: Vec<u8>,
    /// The beginning of a line that is not complete: at most [`LONGEST`] bytes.
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn new(label: Vec<u8>) -> Self {
        let partial = Vec::new();
        Self { label, partial }
    }

    /// Appends to `out` the lines that `bytes` completes. Bytes are not changed; only `\n` ends a line.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            let is_whole = piece.ends_with(b"\n");
            let end = self.partial.len() - usize::from(is_whole);
            let mut from = 0;
            while end - from > LONGEST {
                self.put(from, from + LONGEST, out);
                from += LONGEST;
            }
            if is_whole {
                self.put(from, end, out);
                self.partial.clear();
                self.partial.shrink_to(KEPT);
            } else {
                self.partial.drain(..from);
            }
        }
    }

    /// Ends the stream: appends an incomplete last line.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.put(0, self.partial.len(), out);
            self.partial = Vec::new();
        }
    }

    fn put(&self, from: usize, to: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.label);
        out.extend_from_slice(&self.partial[from..to]);
        out.push(b'\n');
    }
}

/// How much of `bytes` to write at once, at most `most`: whole lines if one fits, so that another process's
/// output to the same place comes between lines.
pub(super) fn whole_lines(bytes: &[u8], most: usize) -> usize {
    if bytes.len() <= most {
        return bytes.len();
    }
    let last = bytes[..most].iter().rposition(|&byte| byte == b'\n');
    last.map_or(most, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labelled(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut lines, mut out) = (Lines::new(b"[7] ".to_vec()), Vec::new());
        for piece in pieces {
            lines.feed(piece, &mut out);
            assert!(lines.partial.len() <= LONGEST);
        }
        lines.end(&mut out);
        out
    }

    #[test]
    fn each_line_has_a_label_and_a_last_one_an_end() {
        assert_eq!(labelled(&[]), b"");
        assert_eq!(labelled(&[b""]), b"");
        assert_eq!(labelled(&[b"\n"]), b"[7] \n");
        assert_eq!(labelled(&[b"a\nb", b"c\n\n"]), b"[7] a\n[7] bc\n[7] \n");
        assert_eq!(labelled(&[b"\0\xff\r", b"z"]), b"[7] \0\xff\rz\n");
    }

    #[test]
    fn a_long_line_is_continued_with_its_label() {
        for (len, ends) in [
            (LONGEST - 1, 1),
            (LONGEST, 1),
            (LONGEST + 1, 2),
            (3 * LONGEST, 3),
        ] {
            let line = vec![b'x'; len];
            for end in [&b""[..], b"\n"] {
                let out = labelled(&[&line, end]);
                assert_eq!(
                    out.iter().filter(|&&byte| byte == b'\n').count(),
                    ends,
                    "{len} {end:?}"
                );
                assert_eq!(out.iter().filter(|&&byte| byte == b'x').count(), len);
                assert!(
                    out.split(|&byte| byte == b'\n')
                        .all(|it| it.len() <= LONGEST + 4)
                );
            }
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..500),
            step in 1usize..50,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
            let mut expected = Vec::new();
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                expected.extend_from_slice(b"[7] ");
                expected.extend_from_slice(line);
            }
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                expected.push(b'\n');
            }
            prop_assert_eq!(labelled(&pieces), expected);
        }
    }

    #[test]
    fn writes_end_with_lines_where_they_can() {
        assert_eq!(whole_lines(b"ab\ncd\nef", 100), 8);
        assert_eq!(whole_lines(b"ab\ncd\nef", 7), 6);
        assert_eq!(whole_lines(b"ab\ncd\nef", 3), 3);
        assert_eq!(whole_lines(b"ab\ncd\nef", 2), 2);
    }
}
