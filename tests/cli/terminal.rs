//! The commands on a terminal: live screens, colours, Ctrl-C. The terminal is a pseudo-terminal.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use shoal::{Map, Queue, Timeout};

use crate::objects::Directory;
use crate::{command, unique};

/// A command on a terminal of its own, and all that it has printed.
struct Terminal {
    master: File,
    slave: OwnedFd,
    before: libc::termios,
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

fn settings(fd: &OwnedFd) -> libc::termios {
    // SAFETY: an all-zero termios is valid and is overwritten.
    let mut settings = unsafe { std::mem::zeroed() };
    // SAFETY: an open terminal, and a place for the answer.
    assert_eq!(unsafe { libc::tcgetattr(fd.as_raw_fd(), &mut settings) }, 0);
    settings
}

impl Terminal {
    fn run(mut command: Command, columns: u16) -> Self {
        crate::common::watchdog();
        let (mut master, mut slave) = (-1, -1);
        let size = libc::winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let none: *mut libc::c_void = std::ptr::null_mut();
        // SAFETY: places for two descriptors, a size, and no name and no settings.
        let made =
            unsafe { libc::openpty(&mut master, &mut slave, none.cast(), none.cast(), &size) };
        assert_eq!(made, 0, "openpty");
        // SAFETY: two new descriptors, owned by no other value.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for stream in 0..3 {
            let copy = std::process::Stdio::from(slave.try_clone().unwrap());
            match stream {
                0 => command.stdin(copy),
                1 => command.stdout(copy),
                _ => command.stderr(copy),
            };
        }
        let parent = master.as_raw_fd();
        // SAFETY: system calls only; the child's first stream is the terminal.
        unsafe {
            command.pre_exec(move || {
                libc::close(parent);
                libc::setsid();
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let before = settings(&slave);
        // After the fork, the child is a participant of every object of this process until it executes its program.
        let alone = crate::common::alone();
        let child = command.spawn().unwrap();
        drop(alone);
        // Closes the last copies of the terminal in this process.
        drop(command);
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().unwrap(), Arc::clone(&printed));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails once the terminal is closed.
            while let Ok(count @ 1..) = std::io::Read::read(&mut from, &mut buffer) {
                to.lock().unwrap().extend(&buffer[..count]);
            }
        });
        Self {
            master,
            slave,
            before,
            child,
            printed,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned()
    }

    /// Waits until it has printed this.
    fn shows(&self, what: &str) {
        while !self.text().contains(what) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until it has ended, and checks that the terminal is as it was.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let after = settings(&self.slave);
        let (then, now) = (&self.before, &after);
        assert_eq!(
            (then.c_iflag, then.c_oflag, then.c_lflag),
            (now.c_iflag, now.c_oflag, now.c_lflag),
            "the terminal is not as it was"
        );
        drop(self.slave);
        self.reader.take().unwrap().join().unwrap();
        let text = String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned();
        (status, text)
    }
}

/// What stays on a screen: the pieces of text between the moves of the cursor, without colours.
fn pieces(printed: &str) -> Vec<String> {
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut rest = printed.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                let mut sequence = String::new();
                for c in rest.by_ref() {
                    sequence.push(c);
                    if c.is_ascii_alphabetic() {
                        break;
                    }
                }
                if sequence.ends_with('H') {
                    pieces.push(std::mem::take(&mut piece));
                }
            }
            '\r' | '\n' => pieces.push(std::mem::take(&mut piece)),
            c => piece.push(c),
        }
    }
    pieces.push(piece);
    pieces.retain(|it| !it.is_empty());
    pieces
}

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// `shoal` in a directory of its own, on a terminal that knows colours.
fn on_terminal(args: &[&str], directory: &Directory) -> Command {
    let mut command = command(args);
    command.env("SHOAL_DIR", &directory.0);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    command
}

#[test]
fn top_fits_a_narrow_terminal_and_restores_it() {
    let directory = Directory::new();
    for name in [
        "short",
        "a-name-that-is-much-longer-than-forty-columns-are-wide",
    ] {
        directory.leave(name);
    }
    for (keys, columns) in [("q", 40), ("\u{1b}", 20), ("ssr \u{1b}[Bq", 200)] {
        let top = on_terminal(&["top", "--interval", "0.05"], &directory);
        let mut terminal = Terminal::run(top, columns);
        terminal.shows("NAME");
        terminal.press(keys);
        let (status, printed) = terminal.end();
        assert!(status.success(), "{keys:?}: {status}");
        let (from, to) = (printed.find(ENTER), printed.rfind(LEAVE));
        assert!(from.is_some() && from < to, "{printed:?}");
        for piece in pieces(&printed) {
            let wide = piece.chars().count();
            assert!(wide <= usize::from(columns), "{wide} columns: {piece:?}");
        }
    }
}

#[test]
fn live_screens_end_after_the_requested_number_of_updates() {
    let directory = Directory::new();
    for args in [&["top"][..], &["devices", "top"]] {
        for count in ["0", "1", "2"] {
            let args = [args, &["-n", count, "--interval", "0.1"]].concat();
            let mut top = on_terminal(&args, &directory);
            top.env("SHOAL_FAKE_DEVICES", "cuda:2");
            assert!(Terminal::run(top, 80).end().0.success(), "{args:?}");
        }
    }
}

#[test]
fn a_live_screen_takes_any_interval() {
    let directory = Directory::new();
    for args in [&["top"][..], &["devices", "top"]] {
        let args = [args, &["--interval", "1e19"]].concat();
        let mut terminal = Terminal::run(on_terminal(&args, &directory), 80);
        terminal.shows("q quit");
        terminal.press("q");
        let (status, printed) = terminal.end();
        assert!(status.success(), "{args:?}: {printed}");
    }
}

#[test]
fn ctrl_c_ends_top_as_the_signal_does() {
    let directory = Directory::new();
    for args in [&["top"][..], &["devices", "top"]] {
        let mut terminal = Terminal::run(on_terminal(args, &directory), 80);
        terminal.shows("q quit");
        terminal.press("\u{3}");
        let (status, printed) = terminal.end();
        assert_eq!(status.signal(), Some(libc::SIGINT), "{args:?}: {status}");
        assert!(printed.contains(LEAVE), "{printed:?}");
    }
}

#[test]
fn a_signal_ends_top_and_the_terminal_is_restored() {
    let directory = Directory::new();
    for args in [&["top"][..], &["devices", "top"]] {
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            let mut top = on_terminal(args, &directory);
            top.env("SHOAL_FAKE_DEVICES", "cuda:2:24G:20G:15");
            let terminal = Terminal::run(top, 80);
            terminal.shows("q quit");
            // SAFETY: a child that was not waited for.
            unsafe { libc::kill(terminal.child.id() as i32, signal) };
            let (status, printed) = terminal.end();
            assert_eq!(status.signal(), Some(signal));
            assert!(printed.contains(LEAVE), "{printed:?}");
        }
    }
}

#[test]
fn ctrl_c_ends_every_wait_and_leaves_the_objects_consistent() {
    let queue = Queue::create(&unique("wait")).unwrap();
    let map = Map::create(&unique("wait")).unwrap();
    let closed_in = unique("full");
    let small = shoal::Options::create().capacity(4096).max_capacity(4096);
    let full = Queue::with_options(Some(&closed_in), &small).unwrap();
    while full.put(&[7; 512], Timeout::Val(Duration::ZERO)).is_ok() {}
    let waits: [(&str, &[&str]); 6] = [
        (queue.name(), &["queue", "get", queue.name()]),
        (queue.name(), &["queue", "tail", queue.name()]),
        (queue.name(), &["queue", "put", queue.name(), "--lines"]),
        (map.name(), &["map", "watch", map.name()]),
        (map.name(), &["map", "watch", map.name(), "key"]),
        (
            full.name(),
            &["queue", "put", full.name(), &"x".repeat(2000)],
        ),
    ];
    for (name, args) in waits {
        let mut terminal = Terminal::run(command(args), 80);
        // Children that other tests fork are participants too, for a moment.
        let pid = terminal.child.id();
        let is_attached = || {
            let info = shoal::stat(name).unwrap();
            info.participants.iter().any(|it| it.pid == pid)
        };
        while !is_attached() {
            std::thread::sleep(Duration::from_millis(2));
        }
        terminal.press("\u{3}");
        let (status, printed) = terminal.end();
        assert_eq!(
            status.signal(),
            Some(libc::SIGINT),
            "{args:?}: {status} {printed}"
        );
        assert!(!is_attached(), "{args:?} is still attached");
    }
    queue.put(b"after", Timeout::Infinite).unwrap();
    assert_eq!(queue.get_vec(Timeout::Infinite).unwrap(), b"after");
    assert_eq!((queue.leased(), full.leased()), (0, 0));
}

#[test]
fn colours_are_printed_only_on_terminals_that_allow_them() {
    let directory = Directory::new();
    directory.leave("dead");
    let printed = |name: &str, value: &str| {
        let mut ls = on_terminal(&["ls"], &directory);
        ls.env(name, value);
        Terminal::run(ls, 80).end().1
    };
    assert!(printed("TERM", "xterm").contains("\u{1b}[33m"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = printed(name, value);
        assert!(
            plain.contains("dead") && !plain.contains('\u{1b}'),
            "{plain:?}"
        );
    }
    assert!(!directory.shoal(&["ls"]).ok().contains('\u{1b}'));
}

#[test]
fn tables_and_findings_fit_forty_columns() {
    let directory = Directory::new();
    directory.leave("a-name-that-is-much-longer-than-forty-columns-are-wide");
    for args in [&["ls"][..], &["doctor"], &["devices", "list"]] {
        let mut command = on_terminal(args, &directory);
        command.env("SHOAL_FAKE_DEVICES", "cuda:3:24G:20G:15,rocm:1");
        let (status, printed) = Terminal::run(command, 40).end();
        assert!(status.success(), "{printed}");
        for piece in pieces(&printed) {
            let (wide, is_word) = (piece.chars().count(), !piece.trim().contains(' '));
            assert!(wide <= 40 || is_word, "{args:?}: {wide} columns: {piece:?}");
        }
    }
}

#[test]
fn the_bytes_of_a_message_cannot_disturb_the_terminal() {
    let queue = Queue::create(&unique("hostile")).unwrap();
    for message in [
        &b"\x1b[2Jgone"[..],
        b"\x80\x04\x8c\x04\x1b[2J.",
        "\u{202e}back".as_bytes(),
    ] {
        queue.put(message, Timeout::Infinite).unwrap();
    }
    for verb in ["peek", "get"] {
        let (status, printed) =
            Terminal::run(command(&["queue", verb, queue.name(), "-n", "3"]), 80).end();
        assert!(status.success());
        assert!(
            !printed.contains('\u{1b}') && !printed.contains('\u{202e}'),
            "{printed:?}"
        );
    }
}

#[test]
fn long_commands_show_their_progress_and_erase_it() {
    let queue = Queue::create(&unique("progress")).unwrap();
    let mut terminal = Terminal::run(command(&["queue", "put", queue.name(), "--lines"]), 80);
    let mut lines = 0;
    while !terminal.text().contains(" messages, ") {
        terminal.press("line\n");
        lines += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    // The end of the input.
    terminal.press("\u{4}");
    let (status, printed) = terminal.end();
    assert!(status.success(), "{printed:?}");
    assert!(printed.ends_with("\r\u{1b}[K"), "{printed:?}");
    assert_eq!(queue.len(), lines);
}
