//! `shoal run`.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::{command, finish, shoal, unique};

const SHOW: &str = "echo \"${CUDA_VISIBLE_DEVICES-unset}\"";

#[test]
fn the_program_sees_devices_numbered_among_those_visible_here() {
    let run = |inherited: Option<&str>, mask: &str| {
        let mut run = command(&["run", "--devices", mask, "--", "sh", "-c", SHOW]);
        run.envs(inherited.map(|value| ("CUDA_VISIBLE_DEVICES", value)));
        finish(&mut run).ok()
    };
    assert_eq!(run(None, "0,1"), "0,1\n");
    assert_eq!(run(Some("2,3,7"), "2,0"), "7,2\n");
    assert_eq!(run(Some("GPU-aa,GPU-bb"), "1"), "GPU-bb\n");
    assert_eq!(run(Some("2,3"), "none"), "-1\n");
    assert_eq!(run(Some("2,3"), ""), "-1\n");
}

#[test]
fn without_devices_the_environment_is_as_it_was() {
    assert_eq!(shoal(&["run", "sh", "-c", SHOW]).ok(), "unset\n");
    let mut run = command(&["run", "--", "sh", "-c", SHOW]);
    run.env("CUDA_VISIBLE_DEVICES", "anything at all");
    assert_eq!(finish(&mut run).ok(), "anything at all\n");
}

#[test]
fn another_family_has_a_variable_of_its_own() {
    let show = "echo $ASCEND_RT_VISIBLE_DEVICES";
    let run = [
        "run",
        "--family",
        "ascend",
        "--devices",
        "1",
        "sh",
        "-c",
        show,
    ];
    assert_eq!(shoal(&run).ok(), "1\n");
}

#[test]
fn the_programs_arguments_are_its_own() {
    let printed = shoal(&[
        "run",
        "--devices",
        "0",
        "printf",
        "%s|",
        "--json",
        "--help",
        "-x",
    ]);
    assert_eq!(printed.ok(), "--json|--help|-x|");
    assert_eq!(
        shoal(&["run", "--", "printf", "%s|", "--", "a b", ""]).ok(),
        "--|a b||"
    );
}

#[test]
fn the_exit_code_and_the_signal_are_the_programs() {
    for code in [0, 1, 2, 3, 42, 255] {
        let done = shoal(&["run", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((done.code, done.err.as_str()), (Some(code), ""));
    }
    let status = command(&["run", "--", "sh", "-c", "kill -TERM $$"]).status();
    assert_eq!(status.unwrap().signal(), Some(15));
    // A shell reports that as 128 + 15.
    let shoal = env!("CARGO_BIN_EXE_shoal");
    let script = format!("'{shoal}' run -- sh -c 'kill -TERM $$'; echo $?");
    let mut shell = std::process::Command::new("sh");
    assert_eq!(finish(shell.args(["-c", &script])).out, "143\n");
}

#[test]
fn a_program_that_is_missing_is_127_and_one_that_cannot_run_126() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let without_interpreter = dir.join(unique("without-interpreter"));
    script(&without_interpreter, "#!/no/such/interpreter\n");
    let without_interpreter = without_interpreter.to_str().unwrap();
    let name = without_interpreter.rsplit('/').next().unwrap();
    // No shell may take it for a script.
    let of_another_machine = dir.join(unique("of-another-machine"));
    script(&of_another_machine, "\\0177ELF\\0\\0\\n echo started\\n");
    let of_another_machine = of_another_machine.to_str().unwrap();
    let too_long = format!("/{}", "x".repeat(5000));
    for how in [&["run", "--"][..], &["run", "-n", "1", "--"]] {
        let failed = |program: &str, code: i32, why: &str| {
            let mut run = command(&[how, &[program]].concat());
            finish(run.env("PATH", dir)).failed(code, why);
        };
        failed("/no/such/program", 127, "/no/such/program");
        failed("no-such-program-at-all", 127, "no-such-program-at-all");
        failed("/etc/passwd/program", 127, "/etc/passwd/program");
        failed("", 127, "");
        failed("/etc/passwd", 126, "/etc/passwd");
        failed("/", 126, "/");
        failed(without_interpreter, 126, "interpreter");
        failed(name, 126, "interpreter");
        failed(&too_long, 126, "");
        failed(of_another_machine, 126, "executable format");
    }
    std::fs::remove_file(without_interpreter).unwrap();
    std::fs::remove_file(of_another_machine).unwrap();
}

/// Makes an executable file. Another process writes it: children that other tests fork inherit a file that this
/// process has open for writing, and it cannot be executed then.
fn script(path: &Path, text: &str) {
    let write = "printf %b \"$1\" >\"$0\" && chmod +x \"$0\"";
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", write]).arg(path).arg(text);
    assert!(sh.status().unwrap().success());
}

#[test]
fn a_script_that_names_no_interpreter_is_run_by_the_shell() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("script"));
    script(&path, "echo \"$0 has $*\"; exit 7\n");
    let path = path.to_str().unwrap();
    for how in [
        &["run", "--"][..],
        &["run", "-n", "1", "--no-labels", "--"],
        &[
            "run",
            "-q",
            "--restart",
            "--max-restarts",
            "0",
            "--no-labels",
            "--",
        ],
    ] {
        let done = shoal(&[how, &[path, "a", "b"]].concat());
        let said = format!("{path} has a b\n");
        assert_eq!((done.code, done.out), (Some(7), said), "{how:?}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_lease_of_devices_that_a_mask_hides_is_an_error_that_names_the_mask() {
    let leases = unique("leases");
    for (mask, family, why) in [
        (
            "CUDA_VISIBLE_DEVICES",
            "cuda",
            "no device of cuda: CUDA_VISIBLE_DEVICES=\"-1\" hides all 2",
        ),
        (
            "ROCR_VISIBLE_DEVICES",
            "rocm",
            "no device of rocm: ROCR_VISIBLE_DEVICES=\"-1\" hides all 1",
        ),
    ] {
        let mut run = command(&["run", "--lease", "1", "--family", family, "true"]);
        run.env(mask, "-1")
            .env("SHOAL_FAKE_DEVICES", "cuda:2,rocm:1");
        run.env("SHOAL_LEASE_DIR", format!("/dev/shm/{leases}"));
        finish(&mut run).failed(125, why);
    }
}

#[test]
fn a_mask_that_is_refused_is_125_and_nothing_runs() {
    let refused = |mask: &str, why: &str| {
        let mut run = command(&["run", "--devices", mask, "--", "echo", "it ran"]);
        finish(run.env("CUDA_VISIBLE_DEVICES", "2,3")).failed(125, why);
    };
    refused("2", "out of range");
    refused("0,0", "0");
    refused("0,GPU-aa", "GPU-aa");
    refused("-1", "-1");
    refused("zero", "zero");
    shoal(&["run", "--devices", "0", "--family", "gpu", "--", "true"]).failed(125, "gpu");
    shoal(&["run", "--devices", "0"]).failed(125, "Usage:");
}

#[test]
fn masks_compose_through_as_many_runs_as_there_are() {
    let shoal = env!("CARGO_BIN_EXE_shoal");
    let inner = [shoal, "run", "--devices", "2,1", "sh", "-c", SHOW];
    let mut outer = command(&[&["run", "--devices", "1,3,5", "--"], &inner[..]].concat());
    outer.env("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,7");
    assert_eq!(finish(&mut outer).ok(), "7,3\n");
}

#[test]
fn the_program_inherits_input_and_output_unchanged() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = dir.join(unique("input"));
    std::fs::write(&path, "as it is").unwrap();
    let mut cat = command(&["run", "--devices", "0", "--", "cat"]);
    let printed = finish(cat.stdin(std::fs::File::open(&path).unwrap())).ok();
    assert_eq!(printed, "as it is");
    // A file that is no program, and not executable.
    shoal(&["run", path.to_str().unwrap()]).failed(126, "input");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_program_has_the_signals_that_its_caller_ignores_and_workers_ignore_none() {
    let ignored = |ignore: &str, how: &str| {
        let shell = format!("{ignore} exec {how} grep SigIgn /proc/self/status");
        let mut run = std::process::Command::new("sh");
        run.args(["-c", &shell, env!("CARGO_BIN_EXE_shoal")]);
        let done = finish(&mut run).ok();
        u64::from_str_radix(done.trim_start_matches("SigIgn:").trim(), 16).unwrap()
    };
    let [hup, pipe] = [libc::SIGHUP, libc::SIGPIPE].map(|signal| 1 << (signal - 1));
    for (ignore, bits) in [
        ("trap '' HUP PIPE;", hup | pipe),
        ("trap '' PIPE;", pipe),
        ("trap '' HUP;", hup),
        ("", 0),
    ] {
        // Others may be ignored by the caller of this test.
        assert_eq!(ignored(ignore, "env") & bits, bits);
        assert_eq!(ignored(ignore, "\"$0\" run"), ignored(ignore, "env"));
        let by_workers = ignored(ignore, "\"$0\" run -n 1 --no-labels");
        assert_eq!(by_workers & (hup | pipe), 0);
    }
}

#[test]
fn a_program_has_the_streams_that_its_caller_had_closed() {
    let shell = r#""$0" run sh -c '
        for n in 0 1 2; do all="$all $(readlink /proc/$$/fd/$n)"; done; echo $all >&9
    ' 9>&1 <&- >&- 2>&-"#;
    let mut run = std::process::Command::new("sh");
    run.args(["-c", shell, env!("CARGO_BIN_EXE_shoal")]);
    assert_eq!(finish(&mut run).ok(), "/dev/null /dev/null /dev/null\n");
}

#[test]
fn wrong_usage_is_125_because_other_codes_are_the_programs() {
    for (args, why) in [
        (&["--nosuch"][..], "--nosuch"),
        (&["--restart=sometimes"], "\"failed\" or \"always\""),
        (&["--min-free", "1G"], "--lease"),
        (&["--lease", "1", "--devices", "0"], "--devices"),
    ] {
        shoal(&[&["run"], args, &["--", "true"]].concat()).failed(125, why);
    }
    shoal(&["run"]).failed(125, "Usage: shoal run");
    assert!(shoal(&["run", "--help"]).ok().contains("--lease"));
    shoal(&["devices", "export", "run"]).failed(2, "\"run\"");
}

#[test]
fn an_invalid_number_is_an_error_that_names_its_limits() {
    let from = |least: &str, most: &str| format!("expected a whole number from {least} to {most}");
    for (option, value, why) in [
        ("-n", "-1", from("1", "4096")),
        ("-n", "0", from("1", "4096")),
        ("-n", "4097", from("1", "4096")),
        ("-n", "99999999999999999999", from("1", "4096")),
        ("--lease", "99999999999999999999", from("1", "4096")),
        ("--max-utilisation", "101", from("0", "100")),
        ("--max-utilisation", "500", from("0", "100")),
        ("--max-utilisation", "-1", from("0", "100")),
        ("--max-restarts", "4294967296", from("0", "4294967295")),
        ("--min-free", "x", "no number of bytes, such as".to_owned()),
        (
            "--min-free",
            "99999999999T",
            "limit of 18446744073709551615 bytes".to_owned(),
        ),
        (
            "--min-free",
            "99999999999999999999",
            "limit of 18446744073709551615 bytes".to_owned(),
        ),
        (
            "--share",
            "1/0",
            "a device is divided into 1 to 65536 slots".to_owned(),
        ),
        (
            "--share",
            "1/65537",
            "a device is divided into 1 to 65536 slots".to_owned(),
        ),
        (
            "--share",
            "5/4",
            "it is not 1 to 4 of the 4 slots".to_owned(),
        ),
        ("--share", "x/4", "of 65536 at most".to_owned()),
        (
            "--wait",
            "-1",
            "expected seconds, or a number with ms".to_owned(),
        ),
        (
            "--wait",
            "abc",
            "expected seconds, or a number with ms".to_owned(),
        ),
    ] {
        let lease = ["--lease", "1"];
        let others = if ["-n", "--lease"].contains(&option) {
            &[][..]
        } else {
            &lease
        };
        let restart = if option == "--max-restarts" {
            &["--restart"][..]
        } else {
            &[]
        };
        let option = [option, value];
        shoal(&[&["run"], others, restart, &option, &["--", "true"]].concat()).failed(125, &why);
    }
}
