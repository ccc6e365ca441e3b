//! The library as C and C++ programs see it: the tests in those languages, and the examples.

#[path = "../native/mod.rs"]
mod native;

mod cpp_headers;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use native::{Language, Program, root, succeed, unique, watched};

/// Builds and runs tests/c/<name>.c, which checks everything itself.
fn c_test(name: &str) {
    let program = Program::build(Language::C99, &format!("tests/c/{name}.c"));
    let mut run = Command::new(program.path());
    run.arg(unique("c-api"))
        .env("CUDA_VISIBLE_DEVICES", "4,5,6");
    assert_eq!(succeed(&mut run), format!("{name}: ok\n"));
}

/// Builds and runs tests/cpp/<name>.cpp, which checks everything itself.
fn cpp_test(name: &str) {
    let program = Program::build(Language::Cpp17, &format!("tests/cpp/{name}.cpp"));
    let mut run = Command::new(program.path());
    run.arg(unique("cpp-api"))
        .env_remove("CUDA_VISIBLE_DEVICES");
    assert_eq!(succeed(&mut run), format!("{name}: ok\n"));
}

/// Runs a program on a machine of four devices that do not exist, with leases of its own.
fn with_fake_devices(program: &Program) -> String {
    let leases = std::path::Path::new("/dev/shm").join(unique("leases"));
    let mut run = Command::new(program.path());
    run.env("SHOAL_FAKE_DEVICES", "cuda:4:24G:20G:15")
        .env("SHOAL_LEASE_DIR", &leases)
        .env_remove("CUDA_VISIBLE_DEVICES")
        .env_remove("CUDA_DEVICE_ORDER");
    let said = succeed(&mut run);
    std::fs::remove_dir_all(leases).unwrap();
    said
}

#[test]
fn leases_behave_in_c_as_the_header_says() {
    let program = Program::build(Language::C99, "tests/c/lease.c");
    assert_eq!(with_fake_devices(&program), "lease: ok\n");
}

#[test]
fn leases_work_in_cpp() {
    let program = Program::build(Language::Cpp17, "tests/cpp/leases.cpp");
    assert_eq!(with_fake_devices(&program), "leases: ok\n");
}

#[test]
fn the_example_of_leases_gives_each_worker_a_device() {
    let said = with_fake_devices(&Program::build(Language::C99, "examples/c/leases.c"));
    let mut lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "leased 0,1");
    lines.retain(|line| line.starts_with("worker"));
    lines.sort_unstable();
    assert_eq!(lines, ["worker on device 0", "worker on device 1"]);
}

#[test]
fn an_invalid_handle_is_refused_by_every_function() {
    c_test("handles");
}

#[test]
fn invalid_arguments_are_refused_and_change_nothing() {
    c_test("arguments");
}

#[test]
fn a_queue_behaves_in_c_as_the_header_says() {
    c_test("queue");
}

#[test]
fn a_map_behaves_in_c_as_the_header_says() {
    c_test("map");
}

#[test]
fn keys_have_versions_locks_views_and_expiry_in_c() {
    c_test("keys");
}

#[test]
fn a_list_behaves_in_c_as_the_header_says() {
    c_test("list");
}

#[test]
fn a_pipe_behaves_in_c_as_the_header_says() {
    c_test("pipe");
}

#[test]
fn an_array_behaves_in_c_as_the_header_says() {
    c_test("array");
}

#[test]
fn processes_and_devices_behave_in_c_as_the_header_says() {
    c_test("process");
}

#[test]
fn supervisors_behave_in_c_as_the_header_says() {
    c_test("supervisor");
}

#[test]
fn supervisors_work_in_cpp() {
    cpp_test("supervisor");
}

#[test]
fn every_function_needs_no_more_stack_than_the_header_says() {
    c_test("stacks");
}

#[test]
fn descriptors_and_wait_any_behave_in_c_as_the_header_says() {
    c_test("wait");
}

#[test]
fn locks_and_other_primitives_behave_in_c_as_the_header_says() {
    c_test("sync");
}

#[test]
fn empty_and_largest_sizes_are_stored_in_c_and_larger_ones_are_refused() {
    c_test("sizes");
}

#[test]
fn a_change_by_another_process_wakes_sleepers_in_c() {
    c_test("sleepers");
}

#[test]
fn freeing_a_handle_ends_its_waits_in_c() {
    c_test("end_waits");
}

#[test]
fn the_last_destructors_of_a_thread_may_wait_and_fail() {
    c_test("destructors");
}

#[test]
fn a_thread_that_is_cancelled_in_a_call_ends_after_the_call() {
    c_test("cancel");
}

#[test]
fn what_a_killed_process_held_is_released_in_c() {
    c_test("deaths");
}

#[test]
fn a_process_that_ends_by_exit_leaves_nothing_behind_in_c() {
    c_test("leave");
}

#[test]
fn the_cpp_wrapper_behaves_as_its_comments_say() {
    cpp_test("wrapper");
}

#[test]
fn many_keys_slices_and_limits_behave_in_cpp_as_the_wrapper_says() {
    cpp_test("objects");
}

#[test]
fn arguments_in_cpp_mean_what_they_say_or_are_refused() {
    cpp_test("arguments");
}

#[test]
fn waiters_in_cpp_notice_changes_and_deaths_of_other_processes() {
    cpp_test("processes");
}

#[test]
fn the_c_examples_print_the_documented_output() {
    let queue = Program::build(Language::C99, "examples/c/queue.c");
    assert_eq!(
        queue.run(&[]),
        "1 squared is 1\n2 squared is 4\n3 squared is 9\n4 squared is 16\n5 squared is 25\n\
         the child exited with 0\n"
    );
    let events = Program::build(Language::C99, "examples/c/events.c");
    assert_eq!(
        events.run(&[]),
        "the numbers add up to 55, and 6 letters were said\n"
    );
    let text = root().join("LICENSE-APACHE");
    let wordcount = Program::build(Language::C99, "examples/c/wordcount.c");
    let counted = wordcount.run(&[text.to_str().unwrap(), "4"]);
    assert_eq!(
        counted,
        count_words(&std::fs::read_to_string(text).unwrap())
    );
}

/// Builds and runs an example in both languages: they check what they claim, and print the same.
fn example(name: &str, expected: fn(&str) -> bool) {
    for (language, source) in [
        (Language::C99, format!("examples/c/{name}.c")),
        (Language::Cpp17, format!("examples/cpp/{name}.cpp")),
    ] {
        let printed = Program::build(language, &source).run(&[]);
        assert!(expected(&printed), "{source} printed\n{printed}");
    }
}

#[test]
fn the_cache_computes_each_square_once_although_a_worker_is_killed() {
    example("cache", |printed| {
        printed
            == "4 workers wanted 20 squares each, and 1 was killed\n\
                each square was worked out once\n\
                the square of 7 was forgotten, and worked out again\n"
    });
}

#[test]
fn the_counters_count_everything_although_a_worker_is_killed() {
    // The killed worker has added another number of times in each run.
    example("counters", |printed| {
        printed.starts_with("the workers know of ")
            && printed.ends_with("\none worker was killed, and no addition is missing\n")
    });
}

#[test]
fn the_settings_reach_every_sleeping_worker() {
    example("settings", |printed| {
        printed
            == "all 3 are calm\nall 3 are busy\nall 3 are stop\n\
                nobody changes it any more\n"
    });
}

#[test]
fn the_static_library_serves_a_c_program_too() {
    let program = Program::build_static(Language::C99, "examples/c/queue.c");
    assert!(program.run(&[]).ends_with("the child exited with 0\n"));
}

#[test]
fn the_library_stays_loaded_for_its_threads_when_a_program_unloads_it() {
    let path = CString::new(native::library().as_os_str().as_bytes()).unwrap();
    // SAFETY: a path that ends in NUL. The library is loaded, and nothing of it is called.
    unsafe {
        let loaded = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!loaded.is_null());
        assert_eq!(libc::dlclose(loaded), 0);
        let still = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        assert!(!still.is_null());
    }
}

/// What the example prints, counted by one process.
fn count_words(text: &str) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let words = text
        .split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty());
    for word in words {
        *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let (word, times) = counts.iter().max_by_key(|(_, times)| **times).unwrap();
    format!(
        "{total} words, {} different; \"{word}\" comes {times} times\n",
        counts.len()
    )
}

#[test]
fn the_cpp_examples_print_the_documented_output() {
    let workers = Program::build(Language::Cpp17, "examples/cpp/workers.cpp");
    assert_eq!(
        workers.run(&[]),
        "queue backwards is eueuq\nmap backwards is pam\nprocess backwards is ssecorp\n\
         device backwards is ecived\n4 jobs done\n"
    );
    let devices = Program::build(Language::Cpp17, "examples/cpp/devices.cpp");
    let mut run = Command::new(devices.path());
    assert_eq!(
        succeed(run.env("CUDA_VISIBLE_DEVICES", "2,3")),
        "this process sees: 2,3\n\
         given \"0\" a child has CUDA_VISIBLE_DEVICES=2\n\
         given \"1\" a child has CUDA_VISIBLE_DEVICES=3\n\
         given \"\" a child has CUDA_VISIBLE_DEVICES=-1\n"
    );
    // For a device that does not exist, it prints an error and fails.
    let (success, _, err) = watched(run.env("CUDA_VISIBLE_DEVICES", "2"));
    assert!(!success && err.contains("SHOAL_ERR_INVALID"), "{err}");
}

#[test]
fn c_cpp_and_rust_share_one_queue_and_one_map() {
    let peers = [
        ("c", Program::build(Language::C99, "examples/c/peer.c")),
        (
            "cpp",
            Program::build(Language::Cpp17, "examples/cpp/peer.cpp"),
        ),
    ];
    let queue = shoal::Queue::anonymous().unwrap();
    let map = shoal::Map::anonymous().unwrap();
    const COUNT: usize = 2000;

    let children: Vec<shoal::Process> = peers
        .iter()
        .map(|(who, program)| {
            let mut spawn = shoal::Spawn::new(program.path());
            spawn.args([
                queue.name(),
                queue.name(),
                map.name(),
                who,
                &COUNT.to_string(),
            ]);
            spawn.stdout(shoal::Stdio::Null).spawn().unwrap()
        })
        .collect();
    // This process is the third peer.
    for i in 0..COUNT {
        queue
            .put(format!("rust:{i}").as_bytes(), shoal::Timeout::Infinite)
            .unwrap();
    }
    for _ in 0..COUNT {
        let minute = std::time::Duration::from_secs(60);
        let message = queue.get_vec(shoal::Timeout::Val(minute)).unwrap();
        let sender = message.split(|&byte| byte == b':').next().unwrap();
        map.add(&[b"from:", sender].concat(), 1).unwrap();
    }
    for child in children {
        let minute = std::time::Duration::from_secs(60);
        assert!(child.join(shoal::Timeout::Val(minute)).unwrap().success());
    }
    assert!(queue.is_empty());
    for who in ["c", "cpp", "rust"] {
        let counted = map.add(format!("from:{who}").as_bytes(), 0).unwrap();
        assert_eq!(counted, COUNT as i64, "{who}");
    }
}
