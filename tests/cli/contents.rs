//! `shoal queue | map | list`: values of every kind are stored and returned unchanged.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use shoal::{List, Map, Queue, Timeout};

use crate::{Done, command, finish, shoal, unique};

/// `shoal` with this standard input.
pub(crate) fn fed(args: &[&str], input: &[u8]) -> Done {
    let mut child = command(args);
    let (reader, mut writer) = std::io::pipe().unwrap();
    child.stdin(Stdio::from(reader));
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(writer.write_all(&input)));
    let done = finish(&mut child);
    // This process's copy of the reading end.
    drop(child);
    feeder.join().unwrap();
    done
}

/// What it printed, byte for byte.
fn bytes(args: &[&str]) -> Vec<u8> {
    crate::common::watchdog();
    let done = command(args).output().unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    done.stdout
}

pub(crate) fn lines(done: Done) -> Vec<Value> {
    let text = done.ok();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

const BINARY: &[u8] = b"\0\x01\xff\n\r\0end";

#[test]
fn messages_go_in_and_come_out_byte_for_byte() {
    let queue = Queue::create(&unique("queue")).unwrap();
    let name = queue.name();
    assert_eq!(shoal(&["queue", "put", name, "one", "--", "-two"]).ok(), "");
    fed(&["queue", "put", name], BINARY).ok();
    assert_eq!(
        fed(&["queue", "put", name, "--lines"], b"a\n\nlast").ok(),
        ""
    );
    fed(&["queue", "put", name, "-0"], b"n1\0n2\0").ok();
    assert_eq!(queue.len(), 8);

    assert_eq!(bytes(&["queue", "get", name, "-n", "2"]), b"one\n-two\n");
    assert_eq!(bytes(&["queue", "peek", name, "-n", "1", "--raw"]), BINARY);
    assert_eq!(bytes(&["queue", "get", name, "--raw"]), BINARY);
    assert_eq!(
        bytes(&["queue", "get", name, "--all", "-0"]),
        b"a\0\0last\0n1\0n2\0"
    );
    assert_eq!(queue.unfinished().unwrap(), 0);

    let sent = fed(&["queue", "put", name, "--lines", "--json"], b"a\nbc\n").json();
    assert_eq!(sent, json!({"put": 2, "put_bytes": 3}));
}

#[test]
fn values_are_recognised_by_their_bytes_and_pickles_are_never_run() {
    let queue = Queue::create(&unique("kinds")).unwrap();
    let name = queue.name();
    shoal(&["queue", "put", name, "text"]).ok();
    shoal(&["queue", "put", name, "--as", "hex", "00 ff"]).ok();
    shoal(&["queue", "put", name, "--as", "base64", "AP8="]).ok();
    shoal(&[
        "queue",
        "put",
        name,
        "--as",
        "python",
        r#"{"n": [1, 2.5, null]}"#,
    ])
    .ok();
    // A pickle that would create a file if it was unpickled.
    let trap = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0atouch /tmp/x\x85R.";
    queue.put(trap, Timeout::Infinite).unwrap();
    queue
        .put(b"\x93SHOAL5\0\x02\0\0\0\0\0\0\0", Timeout::Infinite)
        .unwrap();

    let seen = lines(shoal(&["queue", "peek", name, "--json"]));
    let values: Vec<&Value> = seen.iter().map(|it| &it["value"]).collect();
    assert_eq!(
        *values[0],
        json!({"encoding": "text", "bytes": 4, "text": "text"})
    );
    let two = json!({"encoding": "bytes", "bytes": 2, "base64": "AP8="});
    assert_eq!((values[1], values[2]), (&two, &two));
    assert_eq!(values[3]["encoding"], "pickle");
    assert_eq!(values[3]["shown"], "{'n': [1, 2.5, None]}");
    assert_eq!(values[4]["encoding"], "pickle");
    assert_eq!(
        (values[4].get("shown"), &values[4]["class"]),
        (None, &"posix.system".into())
    );
    let shown = shoal(&["queue", "peek", name, "--show"]).ok();
    let shown: Vec<&str> = shown.lines().collect();
    let trap = "<pickle of 35 B: posix.system>";
    assert_eq!(shown[3..5], ["{'n': [1, 2.5, None]}", trap]);
    assert_eq!(values[5]["encoding"], "frame");
}

#[test]
fn a_mistake_puts_nothing() {
    let queue = Queue::create(&unique("mistake")).unwrap();
    let name = queue.name();
    let put = |arguments: &[&str]| shoal(&[&["queue", "put", name], arguments].concat());
    put(&["--as", "hex", "00", "0"]).failed(2, "hexadecimal");
    put(&["--as", "python", "1", "{"]).failed(2, "invalid value");
    put(&["--as", "integer", "1", "x"]).failed(2, "invalid value");
    put(&["--as", "base64", "*"]).failed(2, "invalid value");
    put(&["a", "--file", "b"]).failed(2, "give one of them");
    put(&["--file", "/no/such/file"]).failed(1, "/no/such/file");
    assert_eq!(queue.totals().put, 0);
}

#[test]
fn exit_codes_distinguish_empty_closed_and_missing_queues() {
    let queue = Queue::create(&unique("codes")).unwrap();
    let name = queue.name();
    shoal(&["queue", "get", name, "--timeout", "0"]).failed(4, "timed out");
    shoal(&["queue", "get", name, "--timeout", "20ms"]).failed(4, "timed out");
    assert_eq!(shoal(&["queue", "get", name, "--all"]).ok(), "");
    shoal(&["queue", "get", name, "--timeout", "soon"]).failed(2, "500ms");
    shoal(&["queue", "put", name, "last"]).ok();
    shoal(&["queue", "close", name]).ok();
    shoal(&["queue", "put", name, "late"]).failed(5, "closed");
    assert_eq!(shoal(&["queue", "get", name, "--follow"]).ok(), "last\n");
    shoal(&["queue", "get", name]).failed(5, "closed");
    let missing = unique("missing");
    shoal(&["queue", "get", &missing]).failed(3, &missing);
    shoal(&["map", "ls", name]).failed(1, "is a queue");
}

#[test]
fn a_message_whose_output_cannot_be_written_is_delivered_again() {
    let queue = Queue::create(&unique("full")).unwrap();
    queue.put(b"precious", Timeout::Infinite).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut get = command(&["queue", "get", queue.name()]);
    get.stdout(full.unwrap());
    finish(&mut get).failed(1, "cannot write");
    assert_eq!(queue.get_vec(Timeout::Infinite).unwrap(), b"precious");
}

#[test]
fn a_put_that_fails_says_how_many_messages_were_put_before() {
    let small = shoal::Options::create().capacity(4096).max_capacity(4096);
    let queue = Queue::with_options(Some(&unique("full")), &small).unwrap();
    let message = "x".repeat(1000);
    let put = ["queue", "put", queue.name(), "--timeout", "0"];
    let done = shoal(&[&put[..], &[message.as_str(); 9]].concat());
    let said = format!("shoal: {} messages were put\nshoal: \"", queue.len());
    assert_eq!(done.code, Some(4));
    assert!(done.err.starts_with(&said), "{}", done.err);
}

#[test]
fn tail_prints_new_messages_and_takes_nothing() {
    let queue = Queue::create(&unique("tail")).unwrap();
    queue.put(b"before", Timeout::Infinite).unwrap();
    let mut tail = command(&["queue", "tail", queue.name(), "--all", "--json", "-n", "3"]);
    let child = tail.stdout(Stdio::piped()).spawn().unwrap();
    queue.put(b"during", Timeout::Infinite).unwrap();
    queue.put(b"after", Timeout::Infinite).unwrap();
    crate::common::watchdog();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    let text = String::from_utf8(done.stdout).unwrap();
    let seen = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seen: Vec<(u64, String)> = seen
        .map(|it| {
            let number = it["number"].as_u64().unwrap();
            (number, it["value"]["text"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [(0, "before"), (1, "during"), (2, "after")];
    assert_eq!(
        seen,
        expected.map(|(number, text)| (number, text.to_owned()))
    );
    assert_eq!(queue.len(), 3);
    queue.close().unwrap();
    assert_eq!(
        shoal(&["queue", "tail", queue.name(), "--all"]).ok(),
        "before\nduring\nafter\n"
    );
}

#[test]
fn tail_says_how_many_messages_it_missed_until_the_end() {
    let queue = Queue::create(&unique("missed")).unwrap();
    let put = |text: &[u8]| queue.put(text, Timeout::Infinite).unwrap();
    put(b"first");
    let mut tail = command(&["queue", "tail", queue.name(), "--all"]);
    tail.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tail.spawn().unwrap();
    crate::common::watchdog();
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    for _ in 0..1000 {
        put(b"taken");
    }
    while !queue.is_empty() {
        queue.get_vec(Timeout::Infinite).unwrap();
    }
    queue.close().unwrap();
    let done = child.wait_with_output().unwrap();
    let seen = done.stdout.iter().filter(|&&it| it == b'\n').count();
    let said = String::from_utf8(done.stderr).unwrap();
    let missed = said.lines().map(|line| {
        let words = line.split(' ');
        let mut numbers = words.filter_map(|word| word.parse::<usize>().ok());
        numbers.next().unwrap()
    });
    assert_eq!(seen + missed.sum::<usize>(), 1000, "{said}");
}

#[test]
fn tail_ends_when_no_other_process_has_the_queue() {
    let queue = Queue::create(&unique("alone")).unwrap();
    queue.put(b"seen", Timeout::Infinite).unwrap();
    let mut tail = command(&["queue", "tail", queue.name(), "--all"]);
    let mut child = tail.stdout(Stdio::piped()).spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    drop(queue);
    crate::common::watchdog();
    assert!(child.wait().unwrap().success());
}

#[test]
fn keys_of_a_map_are_those_of_every_language() {
    let map = Map::create(&unique("map")).unwrap();
    let name = map.name();
    shoal(&["map", "set", name, "mode", "fast"]).ok();
    shoal(&["map", "set", name, "count", "--as", "integer", "7"]).ok();
    shoal(&[
        "map",
        "set",
        name,
        "7",
        "--key-as",
        "python-int",
        "--as",
        "python",
        "[1]",
    ])
    .ok();
    shoal(&["map", "set", name, "--as", "python", "n", "-3"]).ok();
    fed(&["map", "set", name, "raw"], BINARY).ok();
    assert_eq!(map.add(b"count", 1), Ok(8));
    assert_eq!(
        map.get_vec(b"\xffi7").unwrap().unwrap(),
        b"\x80\x04](J\x01\0\0\0e."
    );
    assert_eq!(map.get_vec(b"n").unwrap().unwrap(), (-3i64).to_le_bytes());
    // A tuple of Python: ('a', 1).
    map.set(b"\xfft\x01\0\0\0a\x03\0\0\0\xffi1", b"tuple")
        .unwrap();
    // A text with a surrogate: '\udcffé'.
    map.set(b"\xffu\xed\xb3\xbf\xc3\xa9", b"escaped").unwrap();

    assert_eq!(bytes(&["map", "get", name, "raw", "--raw"]), BINARY);
    let listed = shoal(&["map", "ls", name]).ok();
    for line in [
        "mode\tfast\n",
        "count\t8\n",
        "7\t[1]\n",
        "('a', 1)\ttuple\n",
        "'\\udcffé'\tescaped\n",
        "n\t-3\n",
    ] {
        assert!(listed.contains(line), "{line:?} is not in {listed}");
    }
    let keys = shoal(&["map", "ls", name, "mo", "--keys", "--json"]).json();
    assert_eq!(keys, json!([{"key": {"text": "mode"}}]));
    let got = shoal(&["map", "get", name, "count", "--json"]).json();
    assert_eq!(
        (&got["key"]["text"], &got["value"]["integer"]),
        (&"count".into(), &8.into())
    );

    shoal(&["map", "set", name, "mode", "slow", "--new"]).failed(1, "already");
    shoal(&["map", "set", name, "brief", "x", "--ttl", "1ms"]).ok();
    while map.get_vec(b"brief").unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    shoal(&["map", "del", name, "mode", "none", "raw"]).failed(3, "none");
    shoal(&["map", "get", name, "mode"]).failed(3, "mode");
    assert!(!map.contains(b"raw").unwrap());
}

#[test]
fn watch_prints_each_change_of_a_map() {
    let map = Map::create(&unique("watch")).unwrap();
    let name = map.name().to_owned();
    map.set(b"key", b"1").unwrap();
    let watch = |arguments: &[&str]| {
        let mut watch = command(&[&["map", "watch", &name, "--json"], arguments].concat());
        watch.stdout(Stdio::piped()).spawn().unwrap()
    };
    let one = watch(&["key", "-n", "2"]);
    let all = watch(&["-n", "1"]);
    let pids = [one.id(), all.id()];
    let attached = {
        let name = name.clone();
        move || {
            let info = shoal::stat(&name).unwrap();
            let is_there = |pid: &u32| info.participants.iter().any(|it| it.pid == *pid);
            pids.iter().filter(|pid| is_there(pid)).count()
        }
    };
    while attached() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    crate::common::watchdog();
    // Until both have begun to watch.
    let changing = std::thread::spawn({
        let name = name.clone();
        move || {
            let map = Map::open(&name).unwrap();
            for number in 2u64.. {
                map.set(b"key", number.to_string().as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                if attached() == 0 {
                    break;
                }
            }
        }
    });
    let last = |child: std::process::Child| -> Value {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
        let text = String::from_utf8(done.stdout).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    };
    for change in [last(one), last(all)] {
        assert_eq!(change["change"], "changed");
        assert_eq!(change["key"]["text"], "key");
        assert_eq!(change["value"]["encoding"], "text");
    }
    changing.join().unwrap();
}

#[test]
fn elements_of_a_list_are_read_and_changed_by_index() {
    let list = List::create(&unique("list")).unwrap();
    let name = list.name();
    let run = |arguments: &[&str]| {
        let (verb, rest) = arguments.split_first().unwrap();
        shoal(&[&["list", verb, name], rest].concat())
    };
    run(&["append", "a", "b", "c"]).ok();
    run(&["insert", "0", "first"]).ok();
    run(&["insert", "4", "end"]).ok();
    run(&["set", "-2", "C"]).ok();
    assert_eq!(run(&["ls"]).ok(), "0\tfirst\n1\ta\n2\tb\n3\tC\n4\tend\n");
    assert_eq!(run(&["get", "-1"]).ok(), "end\n");
    assert_eq!(run(&["pop"]).ok(), "end\n");
    assert_eq!(
        run(&["pop", "0", "--json"]).json()["value"]["text"],
        "first"
    );
    run(&["remove", "0", "-n", "2"]).ok();
    let left = run(&["ls", "--from", "-1", "--json"]).json();
    let left: Vec<(&Value, &Value)> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["index"], &it["value"]["text"]))
        .collect();
    assert_eq!(left, [(&0.into(), &"C".into())]);
    for verb in [
        &["get", "1"][..],
        &["get", "-2"],
        &["set", "7", "x"],
        &["remove", "1"],
    ] {
        run(verb).failed(3, "has no element");
    }
    run(&["insert", "9", "x"]).failed(3, "has no element");
    // Messages that could not be printed stay.
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut pop = command(&["list", "pop", name]);
    pop.stdout(full.unwrap());
    finish(&mut pop).failed(1, "cannot write");
    assert_eq!(list.get_vec(0).unwrap().unwrap(), b"C");
}

#[test]
fn create_makes_objects_that_stay() {
    let names = [unique("made"), unique("made"), unique("made")];
    shoal(&["queue", "put", &names[0], "--create", "x"]).ok();
    shoal(&["map", "set", &names[1], "k", "v", "--create"]).ok();
    shoal(&["list", "append", &names[2], "e", "--create"]).ok();
    let listed = shoal(&["ls", "cli-made", "--json"]).json();
    let listed = listed.as_array().unwrap();
    for name in &names {
        let it = listed.iter().find(|it| it["name"] == *name).unwrap();
        assert_eq!(
            (&it["state"], &it["len"]),
            (&"persistent".into(), &1.into())
        );
    }
    shoal(&["rm", &names[0], &names[1], &names[2]]).ok();
}

#[test]
fn a_closed_stream_is_a_failure_and_nothing_is_lost() {
    let queue = Queue::create(&unique("closed")).unwrap();
    let list = List::create(&unique("closed")).unwrap();
    queue.put(b"kept", Timeout::Infinite).unwrap();
    list.append(b"kept").unwrap();
    // `shoal` as a shell starts it, with this redirection.
    let run = |args: &[&str], closed: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\" \"$@\" {closed}")]);
        finish(shell.arg(env!("CARGO_BIN_EXE_shoal")).args(args))
    };
    for args in [&["--help"][..], &["ls", "--help"], &["--version"]] {
        run(args, ">&-").failed(1, "cannot write");
    }
    run(&["queue", "get", queue.name()], ">&-").failed(1, "cannot write");
    run(&["list", "pop", list.name()], ">&-").failed(1, "cannot write");
    for prints in [
        &["ls"][..],
        &["--help"],
        &["help"],
        &["ls", "--help"],
        &["--version"],
    ] {
        run(prints, ">&-").failed(1, "cannot write");
    }
    run(&["queue", "put", queue.name()], "<&-").failed(1, "cannot read");
    run(&["queue", "put", queue.name(), "--lines"], "<&-").failed(1, "cannot read");
    assert_eq!((queue.len(), list.len().unwrap()), (1, 1));
    // A command that neither reads nor prints needs neither stream.
    run(&["queue", "put", queue.name(), "more"], "<&- >&-").ok();
    assert_eq!(queue.len(), 2);
}

#[test]
fn a_watch_of_all_keys_prints_those_that_expire() {
    crate::common::watchdog();
    let map = Map::create(&unique("expire")).unwrap();
    let mut watch = command(&["map", "watch", map.name(), "--json"]);
    let mut child = watch.stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (sender, changes) = mpsc::channel();
    std::thread::spawn(move || {
        for line in out.lines() {
            let change: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(change["change"].clone()).is_err() {
                return;
            }
        }
    });
    // Until it has begun to watch, which its first line shows. Nothing changes the map after that.
    let life = Duration::from_millis(500);
    let mut values = 0u64..;
    let first = loop {
        let value = values.next().unwrap().to_le_bytes();
        map.set_for(b"key", &value, life).unwrap();
        if let Ok(change) = changes.recv_timeout(Duration::from_millis(20)) {
            break change;
        }
    };
    let mut rest = std::iter::once(first).chain(changes.iter());
    assert!(rest.any(|change| change == "removed"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_invalid_value_is_refused_and_not_stored() {
    let map = Map::create(&unique("mistyped")).unwrap();
    let name = map.name();
    shoal(&["map", "set", name, "key", "--foo"]).failed(2, "--foo");
    shoal(&["map", "set", name, "key", "--", "--foo"]).ok();
    assert_eq!(map.get_vec(b"key").unwrap().unwrap(), b"--foo");
    // An integer that Python would read as a float.
    for number in [
        "123456789012345678901234567890",
        "[1, {\"a\": -9223372036854775809}]",
    ] {
        let done = shoal(&["map", "set", name, "key", "--as", "python", number]);
        done.failed(2, "beyond 64 bits");
    }
    for value in [
        "18446744073709551615",
        "1e30",
        "\"\\\\\\\"123456789012345678901234567890\"",
    ] {
        shoal(&["map", "set", name, "key", "--as", "python", value]).ok();
    }
}

#[test]
fn an_invalid_number_is_an_error_that_names_its_limits() {
    let whole = "expected a whole number from";
    let place = "expected a whole number from -9223372036854775808 to 9223372036854775807";
    let name = &*unique("numbers");
    let value = ["list", "append", name, "--as"];
    shoal(&["queue", "get", name, "-n", "99999999999999999999"]).failed(2, whole);
    shoal(&["queue", "get", name, "-n", "-1"]).failed(2, whole);
    shoal(&["queue", "peek", name, "--skip", "x"]).failed(2, whole);
    shoal(&["queue", "tail", name, "-n", "-1"]).failed(2, whole);
    shoal(&["top", "-n", "-1"]).failed(2, whole);
    shoal(&["queue", "get", name, "--timeout", "-1"]).failed(2, "expected seconds");
    shoal(&["list", "get", name, "x"]).failed(2, place);
    shoal(&["list", "ls", name, "--from", "99999999999999999999"]).failed(2, place);
    shoal(&["list", "remove", name, "0", "-n", "-1"]).failed(2, whole);
    shoal(&["map", "get", name, "abc", "--key-as", "python-int"]).failed(2, whole);
    shoal(&[&value[..], &["integer", "99999999999999999999"]].concat()).failed(2, place);
    shoal(&[&value[..], &["base64", "*"]].concat()).failed(2, "expected Base64");
}

#[test]
fn a_time_that_is_too_long_is_the_longest_one() {
    let name = unique("forever");
    shoal(&["queue", "put", &name, "x", "--create"]).ok();
    let get = ["queue", "get", &name, "--timeout", "999999999999999999999"];
    assert_eq!(shoal(&get).ok(), "x\n");
    shoal(&["rm", &name]).ok();
}

#[test]
fn the_end_of_the_time_and_of_a_queue_name_the_queue() {
    let name = unique("named");
    shoal(&["queue", "put", &name, "x", "--create"]).ok();
    shoal(&["queue", "get", &name]).ok();
    let get = ["queue", "get", &name, "--timeout", "0"];
    shoal(&get).failed(4, &format!("{name:?}: timed out"));
    shoal(&["queue", "close", &name]).ok();
    shoal(&get).failed(5, &format!("{name:?}: closed"));
    shoal(&["queue", "put", &name, "x"]).failed(5, &format!("{name:?}: closed"));
    shoal(&["rm", &name]).ok();
}

#[test]
fn a_negative_number_is_a_value_like_another() {
    let (list, map) = (&*unique("numbers"), &*unique("numbers"));
    let integer = ["--as", "integer"];
    shoal(
        &[
            &["list", "append", list, "-5", "-6", "--create"],
            &integer[..],
        ]
        .concat(),
    )
    .ok();
    shoal(&[&["list", "set", list, "-1", "-7"], &integer[..]].concat()).ok();
    shoal(&[&["list", "insert", list, "0", "-4"], &integer[..]].concat()).ok();
    assert_eq!(shoal(&["list", "ls", list]).ok(), "0\t-4\n1\t-5\n2\t-7\n");
    let key = ["--key-as", "python-int"];
    shoal(&[&["map", "set", map, "-5", "-6", "--create"], &key[..]].concat()).ok();
    assert_eq!(shoal(&["map", "ls", map]).ok(), "-5\t-6\n");
    shoal(&[&["map", "del", map, "-5"], &key[..]].concat()).ok();
    shoal(&["rm", list, map]).ok();
}
