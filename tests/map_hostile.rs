//! Maps with bytes that nobody should have written, and processes killed at random.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use shoal::{Error, Map, Options, Timeout};

const NOWAIT: Timeout = Timeout::Val(Duration::ZERO);

/// Fails a hang: the signal ends the process.
fn watchdog() {
    // SAFETY: sets a timer of the process, nothing else.
    unsafe { libc::alarm(240) };
}

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

// Where a map's own data begins in its file.
const DATA: u64 = 36_864;
const HEAP: u64 = DATA + 4096 + 64 * 640;

fn word_at(file: &File, offset: u64) -> u64 {
    let mut word = [0; 8];
    let _ = file.read_at(&mut word, offset);
    u64::from_le_bytes(word)
}

/// Where the file holds data, in words; the holes between stay holes.
fn words_of(file: &File) -> Vec<u64> {
    use std::os::fd::AsRawFd;
    let (mut words, mut at) = (Vec::new(), DATA as i64);
    loop {
        // SAFETY: seeks in our own descriptor.
        let (from, to) = unsafe {
            let from = libc::lseek(file.as_raw_fd(), at, libc::SEEK_DATA);
            (
                from,
                libc::lseek(file.as_raw_fd(), from.max(0), libc::SEEK_HOLE),
            )
        };
        if from < 0 {
            return words;
        }
        words.extend((from as u64..to as u64).step_by(8));
        at = to;
    }
}

fn use_everything(map: &Map, random: &mut Random) {
    let mut buf = [0; 4096];
    for i in 0..150u64 {
        let key = i.to_le_bytes();
        let _ = map.get(&key, &mut buf);
        match random.below(14) {
            0 => drop(map.set(&key, &buf[..random.below(4000) as usize])),
            1 => drop(map.remove(&key)),
            2 => drop(map.add(&key, 1)),
            3 => drop(map.take(&key)),
            4 => drop(map.set(&key, &vec![1; random.below(90_000) as usize])),
            5 => drop(map.set(&key, &vec![1; 256 << 10])),
            6 => drop(map.view(&key).map(|view| view.map(|view| view.to_vec()))),
            7 => drop(map.update(&key, |_| Some(b"y".to_vec()))),
            8 => drop(map.set_for(&key, b"z", Duration::ZERO)),
            9 => drop(map.expire(&key, Some(Duration::from_secs(9)))),
            10 => drop(map.wait_key(&key, 0, NOWAIT)),
            11 => drop(map.get_versioned(&key)),
            12 => drop(map.lock_key(&key, NOWAIT)),
            _ => drop(map.insert(&key, b"x")),
        }
    }
    let keys: Vec<_> = (0..150u64).map(u64::to_le_bytes).collect();
    let _ = map.get_many(&keys);
    let _ = map.set_many(&[(keys[0], b"a"), (keys[1], b"b")]);
    let _ = map.purge();
    let _ = map.wait_change(map.version(), NOWAIT);
    let _ = map.iter().take(2000).count();
    let _ = map.len();
    let _ = map.verify();
    let _ = map.clear();
    let _ = map.set(b"k", b"v");
}

#[test]
fn wounded_maps_answer_and_never_crash_or_hang() {
    watchdog();
    for seed in 1..=120 {
        let mut random = Random(seed);
        let mut how = Options::create();
        how.ordered = seed % 2 == 0;
        let map = Map::with_options(None, &how).unwrap();
        for i in 0..150u64 {
            map.set(&i.to_le_bytes(), &vec![i as u8; i as usize * 9])
                .unwrap();
        }
        map.set(b"large", &[1; 70_000]).unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .open(format!("/dev/shm/shoal.{}", map.name()))
            .unwrap();
        let words = words_of(&file);
        // Early words are the lists and the block map: half of the wounds go there.
        let vital = words.iter().filter(|at| **at < HEAP + 8192).count() as u64;
        for _ in 0..1 + random.below(60) {
            let range = if random.below(2) == 0 {
                vital
            } else {
                words.len() as u64
            };
            let at = words[random.below(range) as usize];
            let word = match random.below(5) {
                0 => random.next(),
                1 => random.below(200),
                2 => word_at(&file, at) ^ 1 << random.below(64),
                3 => word_at(&file, words[random.below(vital) as usize]),
                _ => word_at(&file, words[random.below(words.len() as u64) as usize]),
            };
            file.write_all_at(&word.to_le_bytes(), at).unwrap();
        }
        use_everything(&map, &mut random);
        // Who comes later gets an answer, too.
        if let Ok(other) = Map::open(map.name()) {
            use_everything(&other, &mut random);
        }
    }
}

#[test]
fn a_map_of_zeros_or_noise_is_refused_or_answers() {
    watchdog();
    let map = Map::anonymous().unwrap();
    map.set(b"k", b"v").unwrap();
    let path = format!("/dev/shm/shoal.{}", map.name());
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xff; 16], DATA).unwrap();
    assert!(matches!(Map::open(map.name()), Err(Error::Corrupt { .. })));
    file.write_all_at(&[0; 64], DATA).unwrap();
    assert!(matches!(Map::open(map.name()), Err(Error::Corrupt { .. })));
}

/// Not a test of its own: a process that writes until it is killed.
#[test]
fn a_child_writes_until_it_is_killed() {
    let Ok(name) = std::env::var("SHOAL_TEST_MAP") else {
        return;
    };
    watchdog();
    let map = Map::open(&name).unwrap();
    let mut random = Random(std::process::id() as u64 + 1);
    loop {
        let key = random.below(400).to_le_bytes();
        match random.below(8) {
            0 => drop(map.remove(&key).unwrap()),
            1 => {
                let len = random.below(100_000) as usize;
                map.set(&key, &vec![key[0]; len]).unwrap();
            }
            2 => drop(map.take(&key).unwrap()),
            3 if random.below(50) == 0 => map.clear().unwrap(),
            _ => map
                .set(&key, &vec![key[0]; random.below(2000) as usize])
                .unwrap(),
        }
        map.add(b"done", 1).unwrap();
    }
}

#[test]
fn writers_killed_at_random_leave_a_whole_map() {
    watchdog();
    let map = Map::anonymous().unwrap();
    let mut random = Random(42);
    let mut written = false;
    for _ in 0..25 {
        let mut writers: Vec<_> = (0..3)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "a_child_writes_until_it_is_killed",
                        "--nocapture",
                    ])
                    .env("SHOAL_TEST_MAP", map.name())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for writer in &mut writers {
            std::thread::sleep(Duration::from_micros(10_000 + random.below(15_000)));
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        map.verify().unwrap();
        let mut count = 0;
        for item in &map {
            let (key, value) = item.unwrap();
            assert!(key == b"done" || value.iter().all(|byte| *byte == key[0]));
            count += 1;
        }
        assert_eq!(map.len().unwrap(), count);
        written |= count > 0;
    }
    assert!(written, "the writers did nothing");
    map.clear().unwrap();
    map.verify().unwrap();
}
