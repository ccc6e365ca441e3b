//! A child has its three standard streams, whatever its parent has made of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use super::*;

/// What the parent has made of a stream.
#[derive(Debug, Clone, Copy)]
enum Own {
    Plain,
    CloseOnExec,
    Closed,
}

const OWN: [Own; 3] = [Own::Plain, Own::CloseOnExec, Own::Closed];

/// All ways to choose three.
fn triples<T: Copy>(of: [T; 3]) -> impl Iterator<Item = [T; 3]> {
    (0..27).map(move |n| [of[n % 3], of[n / 3 % 3], of[n / 9]])
}

/// Runs `test` in a process of its own, which may change its streams. A panic is told by the
/// standard error of before.
fn apart(test: impl FnOnce()) {
    let child = forked(&ForkOptions::default(), || {
        let stderr = std::io::stderr().as_raw_fd();
        // SAFETY: it only duplicates; the number is far from those of the test.
        let told = unsafe { File::from_raw_fd(libc::fcntl(stderr, libc::F_DUPFD_CLOEXEC, 100)) };
        std::panic::set_hook(Box::new(move |info| {
            let _ = writeln!(&told, "{info}");
        }));
        test();
        0
    });
    assert_eq!(join(&child), exited(0));
}

/// Makes this process's streams files of the folder, in these states; what each leads to.
fn set_own(dir: &Scratch, own: [Own; 3]) -> [String; 3] {
    let streams: [(RawFd, Own); 3] = [(0, own[0]), (1, own[1]), (2, own[2])];
    streams.map(|(stream, own)| {
        let path = dir.0.join(format!("own-{stream}"));
        let file = File::create(&path).unwrap();
        // It may have got the number of a stream that is closed.
        // SAFETY: integers only; the descriptors are of this process alone.
        unsafe {
            let high = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 50);
            drop(file);
            assert_eq!(libc::dup2(high, stream), stream);
            libc::close(high);
            match own {
                Own::Plain => {}
                Own::CloseOnExec => {
                    assert_eq!(libc::fcntl(stream, libc::F_SETFD, libc::FD_CLOEXEC), 0);
                }
                Own::Closed => {
                    libc::close(stream);
                    return "/dev/null".to_owned();
                }
            }
        }
        path.to_str().unwrap().to_owned()
    })
}

/// Where the descriptors of a child lead that has stopped itself.
fn links(child: &Process) -> BTreeMap<RawFd, String> {
    let mut status = 0;
    // SAFETY: room for one status.
    let stopped = unsafe { libc::waitpid(child.pid(), &mut status, libc::WUNTRACED) };
    assert!(stopped == child.pid() && libc::WIFSTOPPED(status));
    let dir = std::fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap();
    let links = dir.map(|entry| {
        let path = entry.unwrap().path();
        let number = path.file_name().unwrap().to_str().unwrap();
        let link = std::fs::read_link(&path).unwrap();
        (number.parse().unwrap(), link.to_str().unwrap().to_owned())
    });
    links.collect()
}

/// The name of a pipe, of which this is an end.
fn pipe_of(end: OwnedFd) -> String {
    assert!(end.as_raw_fd() > 2, "it stands where a stream of ours was");
    format!("pipe:[{}]", File::from(end).metadata().unwrap().ino())
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Inherit,
    Pipe,
    Fd,
}

const WANTED: [Wanted; 3] = [Wanted::Inherit, Wanted::Pipe, Wanted::Fd];

#[test]
fn a_child_has_the_streams_it_was_given_whatever_its_parent_closed() {
    let _alone = alone();
    let dir = Scratch::new();
    for own in triples(OWN) {
        apart(|| {
            let own_paths = set_own(&dir, own);
            let path = dir.0.join("given");
            let file = File::create(&path).unwrap();
            // SAFETY: it only duplicates.
            let given = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 60) };
            drop(file);
            // A descriptor that the library keeps open is no stream of a child.
            let queue = Queue::anonymous().unwrap();
            assert!(queue.fd().unwrap().as_raw_fd() > 2);
            for wanted in triples(WANTED) {
                both_ways(|way| {
                    let [stdin, stdout, stderr] = wanted.map(|wanted| match wanted {
                        Wanted::Inherit => Stdio::Inherit,
                        Wanted::Pipe => Stdio::Pipe,
                        Wanted::Fd => Stdio::Fd(given),
                    });
                    let mut spawn = sh("kill -STOP $$");
                    way(spawn.stdin(stdin).stdout(stdout).stderr(stderr));
                    let child = spawn.spawn().unwrap();
                    let mut pipes = [child.take_stdin(), child.take_stdout(), child.take_stderr()];
                    let pidfd = child.pidfd().unwrap().as_raw_fd();
                    assert!(pidfd > 2, "it stands where a stream of ours was");
                    let expected = (0..3).map(|stream| {
                        let to = match wanted[stream] {
                            Wanted::Inherit => own_paths[stream].clone(),
                            Wanted::Pipe => pipe_of(pipes[stream].take().unwrap()),
                            Wanted::Fd => path.to_str().unwrap().to_owned(),
                        };
                        (stream as RawFd, to)
                    });
                    let expected: BTreeMap<RawFd, String> = expected.collect();
                    assert_eq!(links(&child), expected, "{own:?}, {wanted:?}");
                    child.kill().unwrap();
                    join(&child);
                });
            }
        });
    }
}

#[test]
fn a_number_beyond_what_the_system_allows_is_refused_with_the_limit() {
    let _alone = alone();
    apart(|| {
        let few = libc::rlimit {
            rlim_cur: 300,
            rlim_max: 300,
        };
        // SAFETY: an initialised limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) };
        both_ways(|way| {
            for (to, fits) in [(298, true), (299, false), (1000, false)] {
                let mut spawn = Spawn::new("true");
                way(spawn.fd(0, to));
                match spawn.spawn() {
                    Ok(child) => assert!(fits && join(&child).success(), "{to}"),
                    Err(err) => {
                        assert!(!fits && matches!(err, Error::Invalid { .. }), "{err}");
                        let text = err.to_string();
                        assert!(text.contains(&to.to_string()), "{text}");
                        assert!(text.contains("300") && text.contains("ulimit -n"), "{text}");
                    }
                }
            }
        });
    });
}
