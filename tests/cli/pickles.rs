//! Python objects are shown as Python writes them. `python3` tells how that is.

use std::process::Command;

use serde_json::Value;
use shoal::{Queue, Timeout};

use crate::{shoal, unique};

/// Prints each value's pickle in hexadecimal and the JSON of its `repr`, by protocols 4 and 5.
const PROGRAM: &str = r#"
import json, pickle, random, sys
pick = random.Random(7)
values = [
    None, True, False, 0, -1, 255, 256, -128, 65536, 2**31, -2**31, 2**63, -2**63, 2**64, 2**127, -2**127,
    2**200, -2**200, 2**2000 + 1, -(2**2000), 10**27, 0.0, -0.0, 1.0, 100.0, 0.1 + 0.2, 1e15, 1e16,
    123456789012345680.0, 1e22, 1e100, 1e-4, 1e-5, 1.5e-7, 5e-324, 1.7976931348623157e308, float("inf"),
    float("-inf"), float("nan"), "", "a", "'", '"', "'\"", "\\", "\n\t\r", "\x00\x1b\x7f\x80\xa0\xad",
    "\u00e9\u4e2d", "\u200b\u2028\u3000", "e\u0301", "\u0301", "\U0001f600", "\ue000\U000f0000", "\ufeff", b"", b"a",
    b"'", b'"', b"'\"", b"\\", bytes(range(256)), (), (1,), (1, 2), (1, 2, 3, 4), [], [[]], [1] * 3, {},
    {"a": [1, (2,)]}, {None: {}}, set(), {1}, frozenset(), frozenset([1]), [set(), frozenset()],
]
values += [pick.getrandbits(pick.randrange(1, 2000)) * pick.choice((1, -1)) for _ in range(100)]
values += [pick.uniform(-1, 1) * 10.0 ** pick.randrange(-30, 30) for _ in range(300)]
values += ["".join(chr(pick.randrange(0x250)) for _ in range(20)) for _ in range(100)]
values += [bytes(pick.randrange(256) for _ in range(20)) for _ in range(100)]
shared, itself, keyed, inside = [1], [], {}, ([],)
itself.append(itself)
keyed["k"] = keyed
inside[0].append(inside)
values += [[shared, shared], itself, keyed, inside, ["again", "again"]]
for protocol in (4, pickle.HIGHEST_PROTOCOL):
    for value in values:
        print(pickle.dumps(value, protocol).hex(), json.dumps(repr(value)))
"#;

#[test]
fn plain_data_is_shown_as_python_writes_it() {
    crate::common::watchdog();
    let python = Command::new("python3")
        .args(["-c", PROGRAM])
        .output()
        .unwrap();
    assert!(python.status.success(), "{python:?}");
    let text = String::from_utf8(python.stdout).unwrap();
    let queue = Queue::create(&unique("pickles")).unwrap();
    let mut wanted = Vec::new();
    for line in text.lines() {
        let (hex, repr) = line.split_once(' ').unwrap();
        let digits = hex.as_bytes().chunks(2);
        let pickle: Vec<u8> = digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect();
        queue.put(&pickle, Timeout::Infinite).unwrap();
        wanted.push(serde_json::from_str::<String>(repr).unwrap());
    }
    let count = wanted.len().to_string();
    let shown = shoal(&["queue", "peek", queue.name(), "-n", &count, "--json"]).ok();
    assert_eq!(shown.lines().count(), wanted.len());
    for (line, wanted) in shown.lines().zip(wanted) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["value"]["shown"], wanted);
    }
}
