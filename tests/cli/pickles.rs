//! Pickles of Python as `shoal` shows them.

use shoal::Queue;

use crate::contents::{fed, lines};
use crate::{finish, shoal, unique};

/// Prints, as JSON, pairs of a pickle in hexadecimal digits and what Python writes for the data in it.
const PICKLES: &str = r#"
import json, pickle, random
random.seed(7)
marks = ["", "'", '"', "\\", "\t", "\r\n", "\0", "\x1b", "\x7f", "\xa0", "\xad", "\xe9", "e\u0301", "\u0301", "\u200b",
         "\u2028", "\u3000", "\u4e2d", "\ud800", "\udfff", "\ue000", "\ufeff", "\U0001f600", "\U000e0001", "\U0010ffff"]
atoms = [None, True, False, 0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e16, 9999999999999998.0, 1e-4, 1e-5,
         1e100, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, (), frozenset(), b"", b"it's", b"'\"", bytes(range(256))]
atoms += [sign * (1 << bits) + near for bits in (7, 8, 31, 63, 64, 127, 128, 1000, 2040, 8000)
          for sign in (1, -1) for near in (-1, 0, 1)]
atoms += [random.uniform(-1, 1) * 10.0 ** random.randint(-30, 30) for _ in range(1000)]
atoms += [2.0 ** power for power in range(-1074, 1024)]
atoms += marks + ["".join(random.choices(marks, k=4)) for _ in range(200)]

def value(depth):
    kind = random.randrange(8) if depth else 0
    some = lambda: [value(depth - 1) for _ in range(random.randrange(4))]
    if kind == 1:
        return some()
    if kind == 2:
        return tuple(some())
    if kind == 3:
        return {random.choice(marks): it for it in some()}
    if kind == 4:
        return {random.choice(atoms)}
    if kind == 5:
        return frozenset({random.choice(atoms)})
    if kind == 6:
        return [value(depth - 1)] * 2
    return random.choice(atoms)

ring, pair = [1], ([], {})
ring.append(ring)
pair[0].append(pair)
pair[1]["all"] = pair
values = atoms + [value(4) for _ in range(500)] + [set(), [[7]] * 3, ring, pair, (ring, ring, pair, 1)]
print(json.dumps([[pickle.dumps(it, protocol).hex(), repr(it)] for it in values for protocol in (4, 5)]))
"#;

#[test]
fn plain_data_is_shown_as_python_writes_it() {
    let mut python = std::process::Command::new("python3");
    let printed = finish(python.args(["-c", PICKLES]));
    let pairs: Vec<(String, String)> = serde_json::from_value(printed.json()).unwrap();
    let queue = Queue::create(&unique("literals")).unwrap();
    let pickles: String = pairs.iter().flat_map(|(it, _)| [it, "\n"]).collect();
    fed(
        &["queue", "put", queue.name(), "--lines", "--as", "hex"],
        pickles.as_bytes(),
    )
    .ok();
    let seen = lines(shoal(&[
        "queue",
        "peek",
        queue.name(),
        "--json",
        "-n",
        "50000",
    ]));
    assert_eq!(seen.len(), pairs.len());
    for (seen, (pickle, written)) in seen.iter().zip(&pairs) {
        assert_eq!(seen["value"]["shown"], written.as_str(), "{pickle}");
    }
}
