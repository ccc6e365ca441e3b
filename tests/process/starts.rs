//! What a child gets, and what is refused before there is one.

use super::*;

#[test]
fn a_program_that_cannot_be_executed_is_an_error_of_the_spawn() {
    let _alone = alone();
    let dir = Scratch::new();
    let plain = dir.file("plain", "exit 0\n", 0o644);
    let shebang = dir.file("shebang", "#!/nowhere/at/all\n", 0o755);
    let binary = dir.file("binary", "\x7fELF\x02\x01\x01\0\n", 0o755);

    both_ways(|way| {
        let mut err = |spawn: &mut Spawn| {
            way(spawn);
            let err = spawn.spawn().unwrap_err();
            assert!(!has_children(), "{err}");
            err
        };
        for missing in ["no-such-program-anywhere", "/no/such/program", "./nowhere"] {
            let found = err(&mut Spawn::new(missing));
            let expected = Error::NotFound {
                what: "program",
                name: missing.to_owned(),
            };
            assert_eq!(found, expected);
        }
        let found = err(&mut Spawn::new(&plain));
        assert!(matches!(found, Error::Permission { .. }), "{found}");
        let found = err(Spawn::new("plain").env("PATH", &dir.0));
        assert!(matches!(found, Error::Permission { .. }), "{found}");
        let found = err(&mut Spawn::new(&dir.0));
        assert!(matches!(found, Error::Permission { .. }), "{found}");
        for (file, tells) in [(&shebang, "interpreter"), (&binary, "format")] {
            let found = err(&mut Spawn::new(file));
            assert!(matches!(found, Error::Invalid { .. }), "{found}");
            assert!(found.to_string().contains(tells), "{found}");
        }
        let huge = "x".repeat(200_000);
        let found = err(Spawn::new("true").arg(&huge));
        assert!(found.to_string().contains("larger"), "{found}");
    });
}

#[test]
fn a_script_that_names_no_interpreter_is_run_by_the_shell() {
    let _alone = alone();
    let dir = Scratch::new();
    let script = "printf '%s|' \"$0\" \"$@\"; exit 7\n";
    let file = dir.file("script", script, 0o755);
    dir.file("empty", "", 0o755);
    both_ways(|way| {
        let mut spawn = Spawn::new(&file);
        spawn.args(["a b", ""]);
        way(spawn.stdout(Stdio::Pipe));
        let child = spawn.spawn().unwrap();
        let mut said = String::new();
        let mut out = std::fs::File::from(child.take_stdout().unwrap());
        out.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("{}|a b||", file.display()));
        assert_eq!(child.join(Timeout::Infinite).unwrap().code, 7);

        for name in ["empty", "./empty"] {
            let mut spawn = Spawn::new(name);
            way(spawn.cwd(&dir.0).env("PATH", ":/bin"));
            let exit = spawn.spawn().unwrap().join(Timeout::Infinite).unwrap();
            assert!(exit.success(), "{exit}");
        }
    });
}

#[test]
fn a_wrong_description_starts_nothing() {
    let _alone = alone();
    let dir = Scratch::new();
    let file = dir.file("file", "", 0o644);
    let closed: RawFd = 987;
    type Edit<'a> = &'a dyn Fn(&mut Spawn);
    let wrong: &[(&str, Edit)] = &[
        ("NUL", &|s| drop(s.arg("a\0b"))),
        ("NUL", &|s| drop(s.env("A", "a\0b"))),
        ("is not a name", &|s| drop(s.env("", "x"))),
        ("is not a name", &|s| drop(s.env("A=B", "x"))),
        ("not a directory", &|s| drop(s.cwd(&file))),
        ("/no/such/place", &|s| drop(s.cwd("/no/such/place"))),
        ("987", &|s| drop(s.stdin(Stdio::Fd(closed)))),
        ("-5", &|s| drop(s.stdout(Stdio::Fd(-5)))),
        ("987", &|s| drop(s.fd(closed, 5))),
        ("within 3 and 1023", &|s| drop(s.fd(0, 2))),
        ("within 3 and 1023", &|s| drop(s.fd(0, 5000))),
        ("given twice", &|s| drop(s.fd(0, 5).fd(1, 5))),
        ("vulkan", &|s| drop(s.devices("vulkan", "0"))),
        ("\"x\"", &|s| drop(s.devices("cuda", "x"))),
        ("appears twice", &|s| drop(s.devices("cuda", "1,1"))),
        ("one kind", &|s| drop(s.devices("cuda", "0,GPU-1a"))),
        ("out of range", &|s| {
            s.env("CUDA_VISIBLE_DEVICES", "2,3").devices("cuda", "2");
        }),
        ("hides every device", &|s| {
            s.env("CUDA_VISIBLE_DEVICES", "").devices("cuda", "0");
        }),
        ("another mask", &|s| {
            drop(s.devices("cuda", "0").devices("cuda", "1"))
        }),
        ("another mask", &|s| {
            drop(s.devices("cuda", "0").devices("metax", "1"))
        }),
        ("documents no value", &|s| drop(s.devices("tpu", "none"))),
    ];
    both_ways(|way| {
        for (tells, edit) in wrong {
            let mut spawn = Spawn::new("true");
            edit(&mut spawn);
            way(&mut spawn);
            let err = spawn.spawn().unwrap_err();
            assert!(err.to_string().contains(tells), "{err} lacks {tells}");
            assert!(!has_children(), "{err}");
        }
    });
    assert!(matches!(Spawn::new("").spawn(), Err(Error::Invalid { .. })));
}

fn drop<T>(_: T) {}

#[test]
fn arguments_and_environment_arrive_as_given() {
    let _alone = alone();
    both_ways(|way| {
        let mut spawn = sh(r#"printf '%s|' "$0" "$@" "$KEPT" "${GONE-unset}""#);
        spawn.args(["zero", "", "a b", "*", "ü"]);
        spawn
            .env("KEPT", "two\nlines")
            .env("GONE", "x")
            .env_remove("GONE");
        way(&mut spawn);
        assert_eq!(output(&mut spawn), "zero||a b|*|ü|two\nlines|unset|");

        let mut spawn = Spawn::new("env");
        spawn.env("BEFORE", "1").env_clear().env("ONLY", "this");
        way(&mut spawn);
        assert_eq!(output(&mut spawn), "ONLY=this\n");
    });
}

#[test]
fn programs_are_searched_in_the_childs_path() {
    let _alone = alone();
    let dir = Scratch::new();
    dir.file("tool", "#!/bin/sh\necho found in $PWD\n", 0o755);
    let here = format!("found in {}\n", dir.0.display());
    both_ways(|way| {
        let mut found = |spawn: &mut Spawn| {
            way(spawn.cwd(&dir.0));
            output(spawn)
        };
        let path = format!("/nowhere:{}:/bin", dir.0.display());
        assert_eq!(found(Spawn::new("tool").env("PATH", path)), here);
        assert_eq!(found(Spawn::new("tool").env("PATH", ":/bin")), here);
        assert_eq!(found(&mut Spawn::new("./tool")), here);
        assert_eq!(
            found(Spawn::new("sh").env_clear().args(["-c", "echo ok"])),
            "ok\n"
        );
    });
}

#[test]
fn standard_streams_go_where_they_are_sent() {
    let _alone = alone();
    let dir = Scratch::new();
    both_ways(|way| {
        let mut spawn = sh("cat; echo to stderr >&2");
        way(spawn
            .stdin(Stdio::Pipe)
            .stdout(Stdio::Pipe)
            .stderr(Stdio::Pipe));
        let child = spawn.spawn().unwrap();
        let (stdin, stdout) = (child.take_stdin(), child.take_stdout());
        assert!(child.take_stdin().is_none(), "it can be taken once");
        let mut stdin = File::from(stdin.unwrap());
        stdin.write_all(b"through the pipe").unwrap();
        std::mem::drop(stdin);
        let mut text = String::new();
        File::from(stdout.unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let stderr = child.take_stderr().unwrap();
        File::from(stderr).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipeto stderr\n");
        assert_eq!(join(&child), exited(0));

        let mut spawn = sh("cat; echo vanishes");
        way(spawn.stdin(Stdio::Null).stdout(Stdio::Null));
        let child = spawn.spawn().unwrap();
        assert!(child.take_stdout().is_none());
        assert_eq!(join(&child), exited(0));

        // One file for both, shared position and all.
        let path = dir.0.join("log");
        let log = File::create(&path).unwrap();
        let fd = Stdio::Fd(log.as_raw_fd());
        let mut spawn = sh("echo one; echo two >&2; echo three");
        way(spawn.stdout(fd).stderr(fd));
        assert_eq!(join(&spawn.spawn().unwrap()), exited(0));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert!(log.metadata().is_ok(), "the caller's descriptor stays open");
    });
}

/// A descriptor at this very number that an exec would keep.
fn leaky(number: RawFd, of: RawFd) -> OwnedFd {
    // SAFETY: the number is free in this test, so it has no owner.
    unsafe {
        assert_eq!(libc::fcntl(number, libc::F_GETFD), -1, "{number} is in use");
        assert_eq!(libc::dup2(of, number), number);
        OwnedFd::from_raw_fd(number)
    }
}

#[test]
fn no_other_descriptor_reaches_the_child() {
    let _alone = alone();
    let null = File::open("/dev/null").unwrap();
    let _leaks = [leaky(199, null.as_raw_fd()), leaky(701, null.as_raw_fd())];
    let list = "for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; true";
    both_ways(|way| {
        let mut spawn = sh(list);
        way(&mut spawn);
        assert_eq!(output(&mut spawn), "0\n1\n2\n");
        let mut spawn = sh(list);
        way(spawn
            .stdin(Stdio::Pipe)
            .stderr(Stdio::Null)
            .fd(null.as_raw_fd(), 7));
        assert_eq!(output(&mut spawn), "0\n1\n2\n7\n");
    });
}

#[test]
fn descriptors_can_be_renumbered_for_the_child() {
    let _alone = alone();
    let ((left, mut to_left), (right, mut to_right)) = (pipe(), pipe());
    let (a, b) = (leaky(210, left.as_raw_fd()), leaky(211, right.as_raw_fd()));
    both_ways(|way| {
        to_left.write_all(b"left\n").unwrap();
        to_right.write_all(b"right\n").unwrap();
        // dash takes one digit only, hence the files.
        let mut spawn = sh("head -1 </proc/self/fd/210; head -1 </proc/self/fd/211");
        way(spawn.fd(a.as_raw_fd(), 211).fd(b.as_raw_fd(), 210));
        assert_eq!(output(&mut spawn), "right\nleft\n");
    });
}

#[test]
fn a_child_starts_with_signals_as_a_login_would() {
    let _alone = alone();
    // In a separate child, because it changes its signals.
    let child = forked(&ForkOptions::default(), || {
        // SAFETY: integers and initialised sets.
        unsafe {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        let bits = |spawn: &mut Spawn| {
            let field = |text: &str, name: &str| {
                let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap()
            };
            let status = output(spawn);
            (field(&status, "SigBlk:"), field(&status, "SigIgn:"))
        };
        // glibc reserves 32 and 33: their settings are inherited from the parent.
        let own: u64 = 0b11 << 31;
        let (hup, term) = (1 << (libc::SIGHUP - 1), 1 << (libc::SIGTERM - 1));
        both_ways(|way| {
            let mut spawn = Spawn::new("cat");
            way(spawn.arg("/proc/self/status"));
            let (blocked, ignored) = bits(&mut spawn);
            assert_eq!((blocked, ignored & !own), (0, 0));
            let (blocked, ignored) = bits(spawn.keep_signals());
            assert_eq!(blocked, term);
            assert_eq!(ignored & hup, hup);
        });
        0
    });
    assert_eq!(join(&child), exited(0));
}

#[test]
fn masks_compose_over_generations() {
    let _alone = alone();
    let show = "echo $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER";
    both_ways(|way| {
        let mut spawn = sh(show);
        way(spawn
            .env("CUDA_VISIBLE_DEVICES", "4,5,6")
            .devices("cuda", "2,0"));
        assert_eq!(output(&mut spawn), "6,4 PCI_BUS_ID\n");
        let mut spawn = sh(show);
        way(spawn
            .env_clear()
            .env("PATH", "/bin:/usr/bin")
            .devices("cuda", "none"));
        assert_eq!(output(&mut spawn), "-1 PCI_BUS_ID\n");
    });
    // Child, grandchild, great-grandchild, each with the descriptors that its parent passes on.
    let options = |mask: &str| ForkOptions {
        devices: vec![("cuda".into(), mask.into())],
        ..Default::default()
    };
    let child = forked(&options("4-7"), || {
        let grandchild = forked(&options("1,2,3"), || {
            assert_eq!(shoal::device::visible("cuda").unwrap().to_string(), "5,6,7");
            assert_eq!(output(sh(show).devices("cuda", "2")), "7 PCI_BUS_ID\n");
            let err = sh(show).devices("cuda", "3").spawn().unwrap_err();
            assert!(err.to_string().contains("\"5,6,7\""), "{err}");
            0
        });
        join(&grandchild).code
    });
    assert_eq!(join(&child), exited(0));
    // The parent's own environment has not changed.
    assert_eq!(std::env::var_os("CUDA_VISIBLE_DEVICES"), None);
}

#[test]
fn without_descriptors_there_is_an_error_and_no_child() {
    let _alone = alone();
    let child = forked(&ForkOptions::default(), || {
        // The spawning thread and its descriptors exist before the limit is reached.
        both_ways(|way| {
            let mut spawn = Spawn::new("true");
            way(&mut spawn);
            join(&spawn.spawn().unwrap());
        });
        let few = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        // SAFETY: an initialised limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) };
        let mut taken: Vec<File> = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        let mut started = 0;
        for _free in 0..12 {
            both_ways(|way| {
                let mut spawn = Spawn::new("cat");
                way(spawn.stdin(Stdio::Null).stdout(Stdio::Pipe));
                match spawn.spawn() {
                    Ok(child) => {
                        assert_eq!(join(&child), exited(0));
                        started += 1;
                    }
                    Err(err) => assert!(matches!(err, Error::Os { .. }), "{err}"),
                }
                assert!(!has_children());
            });
            taken.pop();
        }
        assert!(started > 0);
        0
    });
    assert_eq!(join(&child), exited(0));
}
