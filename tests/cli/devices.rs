//! `shoal devices export | show | families`

use std::process::Command;

use crate::{command, finish, shoal, unique};

/// The output of `show` in a shell that has evaluated the output of `devices export` in this environment.
fn evaluated(args: &[&str], env: &[(&str, &str)], show: &str) -> String {
    let mut export = command(&[&["devices", "export"], args].concat());
    let lines = finish(export.envs(env.iter().copied())).ok();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &format!("{lines}\n{show}")]);
    finish(shell.envs(env.iter().copied())).ok()
}

#[test]
fn a_shell_that_evaluates_the_export_sees_those_devices() {
    let show = "echo \"$CUDA_VISIBLE_DEVICES\"";
    let inherited = [("CUDA_VISIBLE_DEVICES", "4,5,6")];
    assert_eq!(evaluated(&["2,0"], &inherited, show), "6,4\n");
    assert_eq!(evaluated(&["none"], &inherited, show), "-1\n");
    assert_eq!(evaluated(&["0-1"], &[], show), "0,1\n");
}

#[test]
fn variables_that_must_be_removed_are_unset() {
    let inherited = [
        ("ROCR_VISIBLE_DEVICES", "2,3"),
        ("HIP_VISIBLE_DEVICES", "1"),
    ];
    let show = "echo \"$ROCR_VISIBLE_DEVICES ${HIP_VISIBLE_DEVICES-unset}\"";
    let given = evaluated(&["0", "--family", "rocm"], &inherited, show);
    assert_eq!(given, "3 unset\n");
}

#[test]
fn export_as_json_names_each_variable() {
    let edits = shoal(&["devices", "export", "1", "--json"]).json();
    let edits = edits.as_array().unwrap();
    let cuda = edits
        .iter()
        .find(|it| it["variable"] == "CUDA_VISIBLE_DEVICES");
    assert_eq!(cuda.unwrap()["value"], "1");
}

#[test]
fn a_mask_that_is_refused_prints_nothing_to_evaluate() {
    for mask in ["1", "0,0", "-1", "x", "99999999999999999999"] {
        let mut export = command(&["devices", "export", mask]);
        finish(export.env("CUDA_VISIBLE_DEVICES", "7")).failed(2, "invalid cuda device mask");
    }
    shoal(&["devices", "export", "0", "--family", "gpu"]).failed(2, "cuda, rocm");
    shoal(&["devices", "export"]).failed(2, "Usage:");
    shoal(&["devices"]).failed(2, "Usage:");
}

#[test]
fn show_prints_the_masks_in_force() {
    assert_eq!(
        shoal(&["devices", "show"]).ok(),
        "no device of any family is masked\n"
    );
    let shown = |value: &str| {
        let mut show = command(&["devices", "show", "--json"]);
        let all = finish(show.env("CUDA_VISIBLE_DEVICES", value)).json();
        let mut all = all.as_array().unwrap().iter();
        let cuda = all.find(|it| it["family"] == "cuda").unwrap();
        cuda["visible"].as_str().unwrap().to_owned()
    };
    assert_eq!(shown("2,3"), "2,3");
    assert_eq!(shown(""), "none");
    // As CUDA reads it: the first invalid entry ends the list.
    assert_eq!(shown("2,-1,3"), "2");
}

#[test]
fn families_lists_every_variable_that_is_known() {
    let text = shoal(&["devices", "families"]).ok();
    let json = shoal(&["devices", "families", "--json"]).json();
    assert_eq!(text.lines().count(), shoal::device::families().count());
    for (index, family) in shoal::device::families().enumerate() {
        let line = format!("{:11} {}", family.name(), family.variable());
        assert!(
            text.lines().any(|it| it == line),
            "{line:?} is not in\n{text}"
        );
        assert_eq!(json[index]["variable"], family.variable());
    }
}

#[test]
fn a_mask_of_cuda_with_an_entry_that_is_no_device_is_read_as_cuda_reads_it() {
    let fake = std::env::temp_dir().join(unique("fake"));
    std::fs::write(&fake, "cuda GPU-1a 24G\ncuda GPU-1b 24G\ncuda GPU-2c 24G\n").unwrap();
    // The numbers that the devices have for a process with this mask.
    let seen = |mask: &str| -> Vec<Option<u64>> {
        let mut list = command(&["devices", "list", "--json"]);
        list.env("SHOAL_FAKE_DEVICES", format!("@{}", fake.display()));
        let found = finish(list.env("CUDA_VISIBLE_DEVICES", mask)).json();
        let devices = found["devices"].as_array().unwrap().iter();
        devices.map(|it| it["logical"].as_u64()).collect()
    };
    assert_eq!(seen("2,0"), [Some(1), None, Some(0)]);
    // The list ends at an entry that names no device, or several.
    assert_eq!(seen("9,0,1"), [None; 3]);
    assert_eq!(seen("0,9,1"), [Some(0), None, None]);
    assert_eq!(seen("GPU-2,GPU-1,GPU-1a"), [None, None, Some(0)]);
    // A device that is named twice empties the list.
    assert_eq!(seen("GPU-2,GPU-2c"), [None; 3]);
    std::fs::remove_file(fake).unwrap();
}

#[test]
fn a_variable_with_an_invalid_value_is_an_error_that_names_it() {
    for value in ["10s", "abc", "-1", "nan", "1e30"] {
        let mut list = command(&["devices", "list"]);
        let why = format!("SHOAL_NVML_TIMEOUT ({value:?})");
        finish(list.env("SHOAL_NVML_TIMEOUT", value)).failed(2, &why);
    }
    for value in ["", "0.5"] {
        let mut list = command(&["devices", "list"]);
        list.env("SHOAL_FAKE_DEVICES", "cuda:1");
        finish(list.env("SHOAL_NVML_TIMEOUT", value)).ok();
    }
    let leases = format!("/dev/shm/{}", unique("leases"));
    let lease = |value| {
        let mut run = command(&["run", "--lease", "1", "true"]);
        run.env("SHOAL_FAKE_DEVICES", "cuda:1")
            .env("SHOAL_LEASE", value);
        finish(run.env("SHOAL_LEASE_DIR", &leases))
    };
    lease("garbage").failed(125, "SHOAL_LEASE (\"garbage\")");
    lease("").ok();
    std::fs::remove_dir_all(&leases).unwrap();
}
