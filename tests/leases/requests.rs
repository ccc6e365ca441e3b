//! Requests for leases: preferences, filters, families, masks, and requests that can never be satisfied.

use shoal::device::lease::{Mode, Request, Share};
use shoal::device::{EnvEdit, parse_bytes};
use shoal::{Error, Spawn, Stdio, Timeout};
use std::io::Read;

use crate::place::{LONG, NOW, Place, numbers};

#[test]
fn preferred_devices_come_first_and_devices_in_use_last() {
    let place = Place::alone();
    std::fs::create_dir(&place.0).unwrap();
    let list = place.0.with_extension("list");
    let lines = "cuda GPU-a1 24G 24G 0 A\ncuda GPU-b2 24G 9G 0 B\ncuda GPU-c3 24G 24G 90 C\ncuda GPU-d4 24G 24G 0 D\n";
    std::fs::write(&list, lines).unwrap();
    let machine = place.machine(&format!("@{}", list.display()));
    let lease =
        |request: Request| numbers(&request.machine(machine.clone()).acquire(LONG).unwrap());
    assert_eq!(lease(Request::new(3)), [0, 3, 1]);
    assert_eq!(lease(Request::new(2).order(["2", "1"])), [2, 1]);
    assert_eq!(lease(Request::new(2).order(["GPU-d"])), [3, 0]);
    assert_eq!(
        lease(Request::new(2).min_free(10 << 30).order(["1", "2"])),
        [2, 0]
    );
    assert_eq!(lease(Request::new(1).max_utilisation(50).order(["2"])), [0]);
    let refused = |request: Request| request.machine(machine.clone()).acquire(NOW).unwrap_err();
    let err = refused(Request::new(1).order(["7"]));
    assert!(matches!(err, Error::NotFound { .. }), "{err}");
    let err = refused(Request::new(1).order(["0", "GPU-a1"]));
    assert!(err.to_string().contains("twice"), "{err}");
    // Three are free enough, and the fourth may be one day.
    assert_eq!(refused(Request::new(4).min_free(10 << 30)), Error::Timeout);
    std::fs::remove_file(list).unwrap();
}

#[test]
fn a_request_waits_for_programs_without_a_lease_to_end() {
    let place = Place::new();
    std::fs::create_dir(&place.0).unwrap();
    let list = place.0.with_extension("list");
    std::fs::write(&list, "cuda GPU-a1 24G 2G 99 A\n").unwrap();
    let machine = place.machine(&format!("@{}", list.display()));
    let ticket = Request::new(1)
        .machine(machine)
        .min_free(20 << 30)
        .queue()
        .unwrap();
    assert_eq!(ticket.wait(NOW).unwrap_err(), Error::Timeout);
    std::fs::write(&list, "cuda GPU-a1 24G 24G 0 A\n").unwrap();
    ticket.wait(LONG).unwrap();
    std::fs::remove_file(list).unwrap();
}

#[test]
fn a_request_that_can_never_be_satisfied_is_an_error_at_once() {
    let place = Place::new();
    let machine = place.machine("cuda:2:24G,rocm:1,tpu:1");
    let refused = |request: Request| {
        let request = request.machine(machine.clone());
        let err = request.acquire(Timeout::Infinite).unwrap_err();
        let queued = request.queue().unwrap_err();
        assert_eq!(err, queued);
        err
    };
    let cuda = |count| Request::new(count).family("cuda");
    let err = refused(cuda(3));
    let expected = Error::TooMany {
        what: "number of devices",
        count: 3,
        limit: 2,
    };
    assert_eq!(err, expected);
    assert!(refused(cuda(0)).to_string().contains("0"));
    assert!(
        refused(cuda(1).min_free(25 << 30))
            .to_string()
            .contains("25769803776")
    );
    for share in ["0/4", "5/4", "1/100000", "0", "25G"] {
        let err = refused(cuda(1).share(share.parse().unwrap()));
        assert!(matches!(err, Error::Invalid { .. }), "{share}: {err}");
    }
    // A device that does not report its memory.
    let err = refused(Request::new(1).family("tpu").share(Share::Memory(1)));
    assert!(
        err.to_string().contains("no device tells its memory"),
        "{err}"
    );
    let err = refused(Request::new(1));
    assert!(err.to_string().contains("cuda, rocm, tpu"), "{err}");
    let err = refused(Request::new(1).family("abacus"));
    assert!(matches!(err, Error::NotFound { .. }), "{err}");
    assert!(
        refused(cuda(1).max_utilisation(101))
            .to_string()
            .contains("100")
    );
    for wrong in ["", "1/", "/4", "a/b", "-1G", "1.5", "G", "9999999999999T"] {
        assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        assert!(parse_bytes(wrong).is_err(), "{wrong}");
    }
    // None of these has left a request in the queue.
    assert!(std::fs::read_dir(&place.0).map_or(0, Iterator::count) == 0);
}

#[test]
fn a_request_without_any_device_names_the_family_and_what_hides_them() {
    let place = Place::new();
    let refused = |fake: &str, request: Request| {
        let request = request.machine(place.machine(fake));
        let err = request.acquire(Timeout::Infinite).unwrap_err();
        assert!(matches!(err, Error::NoDevice { .. }), "{err}");
        assert_eq!(err, request.queue().unwrap_err());
        err.to_string()
    };
    let list = "(see `shoal devices list`)";
    assert_eq!(
        refused("cuda:0", Request::new(2)),
        format!("no device of any family: this machine has none {list}")
    );
    assert_eq!(
        refused("cuda:0", Request::new(2).family("rocm").order(["0"])),
        format!("no device of rocm: this machine has none {list}")
    );
    assert_eq!(
        refused("tpu:1,rocm:2", Request::new(2).family("cuda")),
        format!("no device of cuda: this machine has none, but devices of rocm, tpu {list}")
    );
}

#[test]
fn two_names_of_one_family_mean_the_same_devices() {
    let place = Place::new();
    let machine = place.machine("rocm:1");
    let rocm = Request::new(1).family("rocm").machine(machine.clone());
    let hip = Request::new(1).family("hip").machine(machine);
    let lease = rocm.acquire(LONG).unwrap();
    assert_eq!(hip.acquire(NOW).unwrap_err(), Error::Timeout);
    drop(lease);
    assert_eq!(hip.acquire(LONG).unwrap().family().name(), "hip");
}

/// What `echo` of some variables says in a child that has the lease.
fn child_sees(lease: &shoal::device::lease::Lease, mode: Mode, worker: usize, of: usize) -> String {
    let child = Spawn::new("sh")
        .args([
            "-c",
            "echo $CUDA_VISIBLE_DEVICES:$SHOAL_DEVICE_INDEX:$SHOAL_LEASE",
        ])
        .lease(lease, mode, worker, of)
        .stdout(Stdio::Pipe)
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut output = std::fs::File::from(child.take_stdout().unwrap());
    output.read_to_string(&mut said).unwrap();
    child.join(LONG).unwrap();
    let (seen, id) = said.trim().rsplit_once(':').unwrap();
    assert_eq!(id, lease.id());
    seen.to_owned()
}

#[test]
fn workers_see_their_devices_by_the_mode() {
    let place = Place::new();
    let machine = place.machine("cuda:5");
    let three = Request::new(3).order(["1", "3", "4"]).machine(machine);
    let lease = three.acquire(LONG).unwrap();
    let exclusive = |worker, of| child_sees(&lease, Mode::Exclusive, worker, of);
    assert_eq!(exclusive(0, 1), "1,3,4:0,1,2");
    assert_eq!(
        [exclusive(0, 3), exclusive(1, 3), exclusive(2, 3)],
        ["1:0", "3:0", "4:0"]
    );
    assert_eq!([exclusive(0, 2), exclusive(1, 2)], ["1:0", "3,4:0,1"]);
    assert_eq!([exclusive(3, 5), exclusive(4, 5)], ["1:0", "3:0"]);
    let rotate = |worker| child_sees(&lease, Mode::Rotate, worker, 3);
    assert_eq!(
        [rotate(0), rotate(1), rotate(2)],
        ["1,3,4:0", "3,4,1:0", "4,1,3:0"]
    );
    assert_eq!(child_sees(&lease, Mode::IndexOnly, 1, 3), ":3");
    let err = lease.environment(Mode::Exclusive, 3, 3).unwrap_err();
    assert!(matches!(err, Error::Invalid { .. }), "{err}");
}

#[test]
fn a_family_with_ascending_masks_can_be_leased_in_any_order_and_mode() {
    for (family, variable) in [
        ("ascend", "ASCEND_RT_VISIBLE_DEVICES"),
        ("level_zero", "ZE_AFFINITY_MASK"),
        ("tenstorrent", "TT_VISIBLE_DEVICES"),
    ] {
        let place = Place::new();
        let machine = place.machine(&format!("{family}:5"));
        let three = Request::new(3).order(["4", "1", "3"]).machine(machine);
        let lease = three.acquire(LONG).unwrap();
        let told = |mode, worker, of| {
            let edits = lease.environment(mode, worker, of).unwrap();
            let value = |name: &str| {
                let mut edits = edits.iter();
                edits.find_map(|it| match it {
                    EnvEdit::Set(its, value) if its == name => Some(value.clone()),
                    _ => None,
                })
            };
            (value(variable), value("SHOAL_DEVICE_INDEX").unwrap())
        };
        let shown = |mask: &str, index: &str| (Some(mask.to_owned()), index.to_owned());
        assert_eq!(told(Mode::Exclusive, 0, 1), shown("1,3,4", "0,1,2"));
        assert_eq!(told(Mode::Exclusive, 0, 3), shown("4", "0"));
        assert_eq!(told(Mode::Rotate, 0, 3), shown("1,3,4", "2"));
        assert_eq!(lease.mask(), "1,3,4");
        assert_eq!(told(Mode::Rotate, 1, 3), shown("1,3,4", "0"));
    }
}

#[test]
fn a_child_whose_descriptors_leave_no_number_for_its_lease_is_not_started() {
    let place = Place::new();
    let one = Request::new(1).machine(place.machine("cuda:1"));
    let lease = one.acquire(LONG).unwrap();
    let mut child = Spawn::new("true");
    child.lease(&lease, Mode::Exclusive, 0, 1);
    for to in 3..1024 {
        child.fd(1, to);
    }
    let err = child.spawn().unwrap_err();
    assert!(matches!(err, Error::Invalid { .. }), "{err}");
    assert!(
        err.to_string().contains("to 1023, of which 0 are free"),
        "{err}"
    );
}

#[test]
fn another_mask_for_a_child_with_a_lease_is_an_error() {
    let place = Place::new();
    let lease = Request::new(1)
        .machine(place.machine("cuda:2"))
        .acquire(LONG)
        .unwrap();
    let mut child = Spawn::new("true");
    child
        .lease(&lease, Mode::Exclusive, 0, 1)
        .devices("cuda", "1");
    assert!(matches!(child.spawn(), Err(Error::Invalid { .. })));
    let mut child = Spawn::new("true");
    child
        .lease(&lease, Mode::Exclusive, 0, 1)
        .env("CUDA_VISIBLE_DEVICES", "1");
    assert!(matches!(child.spawn(), Err(Error::Invalid { .. })));
    lease.release();
    let mut child = Spawn::new("true");
    child.lease(&lease, Mode::Exclusive, 0, 1);
    let err = child.spawn().unwrap_err();
    assert!(err.to_string().contains("released"), "{err}");
}

#[test]
fn unique_ids_are_used_where_numbers_are_not_certain() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let lease = Request::new(1)
        .order(["1"])
        .machine(machine)
        .acquire(LONG)
        .unwrap();
    let id = lease.devices()[0].found.id.clone();
    let mut child = Spawn::new("sh");
    child
        .args(["-c", "echo $CUDA_VISIBLE_DEVICES"])
        .stdout(Stdio::Pipe);
    child
        .env("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
        .lease(&lease, Mode::Exclusive, 0, 1);
    let child = child.spawn().unwrap();
    let mut said = String::new();
    let mut output = std::fs::File::from(child.take_stdout().unwrap());
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim(), id);
    // Without a mask there are only numbers, and what they mean in that order is not known.
    let mut child = Spawn::new("true");
    child.env("CUDA_DEVICE_ORDER", "FASTEST_FIRST");
    let err = child
        .lease(&lease, Mode::IndexOnly, 0, 1)
        .spawn()
        .unwrap_err();
    assert!(err.to_string().contains("PCI_BUS_ID"), "{err}");
}

#[test]
fn the_environment_of_a_lease_lists_all_changes() {
    let place = Place::new();
    let machine = place.machine("cuda:2");
    let lease = Request::new(1).machine(machine).acquire(LONG).unwrap();
    let edits = lease.environment(Mode::Exclusive, 0, 1).unwrap();
    let set = |name: &str, value: &str| EnvEdit::Set(name.to_owned(), value.to_owned());
    let expected = [
        set("CUDA_VISIBLE_DEVICES", "0"),
        set("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        set("SHOAL_DEVICE_INDEX", "0"),
        set("SHOAL_LEASE", &lease.id()),
    ];
    assert_eq!(edits, expected);
}
