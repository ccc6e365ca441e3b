//! Which devices are found: on machines whose files are in `trees`, and with libraries that were built for
//! the test in place of the vendor's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shoal::Error;
use shoal::device::{Found, Machine};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shoal-discovery-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// With the files of a tree.
    fn of(tree: &str) -> Self {
        let folder = Self::new();
        for file in tree.split("== ").skip(1) {
            let (path, content) = file.split_once('\n').unwrap();
            let path = folder.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn touch(&self, path: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::from_environment();
        machine.fake = None;
        machine.sysfs = self.0.join("sys");
        machine.procfs = self.0.join("proc");
        machine.dev = self.0.join("dev");
        machine.nvml = PathBuf::new();
        machine
    }

    /// A library made of this source.
    fn library(&self, source: &str) -> PathBuf {
        let (c, so) = (self.0.join("nvml.c"), self.0.join("nvml.so"));
        fs::write(&c, source).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&so)
            .arg(&c)
            .status();
        assert!(built.unwrap().success());
        so
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ids(found: &[Found]) -> Vec<&str> {
    found.iter().map(|it| &*it.id).collect()
}

fn find(machine: &Machine, family: &str) -> Vec<Found> {
    let found = machine.discover(Some(family)).unwrap().devices;
    let indices: Vec<u32> = found.iter().map(|it| it.index).collect();
    assert_eq!(indices, (0..found.len() as u32).collect::<Vec<_>>());
    assert!(found.iter().all(|it| it.family.name() == family));
    found
}

const NVIDIA: &str = include_str!("trees/nvidia.txt");

#[test]
fn nvidia_is_found_by_its_driver() {
    let folder = Folder::of(NVIDIA);
    let machine = folder.machine();
    let found = find(&machine, "cuda");
    // In the order of the bus. One that was not used yet has no unique id, and one is excluded.
    assert_eq!(
        ids(&found),
        ["0000:1a:00.0", "GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b"]
    );
    assert_eq!(found[1].name, "NVIDIA H100 80GB HBM3");
    assert_eq!((found[1].memory_total, found[1].utilisation), (None, None));
    // In a container that has one of them.
    folder.touch("dev/nvidia5");
    folder.touch("dev/nvidiactl");
    assert_eq!(ids(&find(&machine, "cuda")), [&*found[1].id]);
}

#[test]
fn nvidia_without_its_files_in_proc_is_found_on_the_bus() {
    let folder = Folder::new();
    for (address, class) in [("0000:1a:00.0", "0x030200"), ("0000:1a:00.1", "0x040300")] {
        let device = format!("sys/bus/pci/devices/{address}");
        fs::create_dir_all(folder.0.join(&device)).unwrap();
        fs::write(folder.0.join(&device).join("vendor"), "0x10de\n").unwrap();
        fs::write(folder.0.join(&device).join("class"), class).unwrap();
    }
    assert!(
        find(&folder.machine(), "cuda").is_empty(),
        "without a driver"
    );
    folder.touch("dev/nvidia0");
    assert_eq!(ids(&find(&folder.machine(), "cuda")), ["0000:1a:00.0"]);
}

#[test]
fn amd_is_found_by_the_topology_of_its_driver() {
    let folder = Folder::of(include_str!("trees/amd.txt"));
    let machine = folder.machine();
    let found = find(&machine, "rocm");
    let (by_address, last) = ("0001:c3:00.1", "GPU-00000000000000ff");
    let first = format!("GPU-{:016x}", 7_809_984_429_061_111_111u64);
    assert_eq!(ids(&found), [&*first, by_address, last]);
    assert_eq!(found[0].name, "AMD Instinct MI210");
    assert_eq!(found[0].memory_total, Some(68_702_699_520));
    assert_eq!(found[0].memory_free, Some(68_702_699_520 - (1 << 30)));
    assert_eq!(found[0].utilisation, Some(37));
    assert_eq!(found[2].name, "aldebaran");
    assert_eq!(
        (found[2].memory_total, found[2].memory_free),
        (Some(34_208_743_424), None)
    );
    assert_eq!(ids(&find(&machine, "hip")), ids(&found));
    // In a container that has one of them.
    folder.touch("dev/dri/renderD130");
    assert_eq!(ids(&find(&machine, "rocm")), [last]);
}

#[test]
fn intel_is_found_by_its_drivers() {
    let folder = Folder::of(include_str!("trees/intel.txt"));
    let found = find(&folder.machine(), "level_zero");
    assert_eq!(ids(&found), ["0000:4d:00.0", "0000:8a:00.0"]);
    assert_eq!(found[1].memory_total, Some(12 << 30));
    assert_eq!(found[0].memory_total, None);
    assert!(found[0].name.contains("8086:56C0") && found[0].name.contains("i915"));
    assert_eq!(ids(&find(&folder.machine(), "oneapi")), ids(&found));
}

#[test]
fn other_families_are_found_by_their_vendor() {
    let folder = Folder::of(include_str!("trees/pci.txt"));
    let machine = folder.machine();
    for (family, id) in [
        ("ascend", "0000:01:00.0"),
        ("tpu", "0000:00:04.0"),
        ("habana", "0000:33:00.0"),
        ("mlu", "0000:34:00.0"),
        ("musa", "0000:35:00.0"),
        ("supa", "0000:36:00.0"),
        ("tenstorrent", "0000:37:00.0"),
        ("furiosa", "0000:38:00.0"),
        ("metax", "0000:39:00.0"),
    ] {
        assert_eq!(ids(&find(&machine, family)), [id], "{family}");
    }
    let cores = [
        "0000:00:1e.0/core0",
        "0000:00:1e.0/core1",
        "0000:00:1f.0/core0",
        "0000:00:1f.0/core1",
    ];
    assert_eq!(ids(&find(&machine, "neuron")), cores);
    let all = machine.discover(None).unwrap().devices;
    assert_eq!(all.len(), 13);
}

#[test]
fn invalid_files_are_no_devices() {
    let folder = Folder::new();
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    for (path, content) in [
        (
            "proc/driver/nvidia/gpus/0000:1a:00.0/information",
            "\0\u{fffd}\nGPU UUID",
        ),
        (
            "proc/driver/nvidia/gpus/nonsense/information",
            "GPU UUID: GPU-1",
        ),
        (
            &format!("{nodes}/0/properties"),
            "simd_count 99999999999999999999\nunique_id x",
        ),
        (
            &format!("{nodes}/1/properties"),
            "simd_count 4\nlocation_id -1\nunique_id",
        ),
        (&format!("{nodes}/x/properties"), "simd_count 4\n"),
        (
            "sys/class/drm/card0/device/uevent",
            "DRIVER=xe\nPCI_SLOT_NAME=../../etc\n",
        ),
        ("sys/bus/pci/devices/0000:01:00.0/vendor", "0x19e5"),
        ("sys/bus/pci/devices/0000:01:00.0/class", "120000h"),
    ] {
        let path = folder.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let found = folder.machine().discover(None).unwrap();
    // What the directory's name says is enough for an NVIDIA device; and one of AMD computes.
    assert_eq!(ids(&found.devices), ["0000:1a:00.0", "0000:00:00.0"]);
}

#[test]
fn a_machine_without_files_has_no_devices() {
    let found = Folder::new().machine().discover(None).unwrap();
    assert!(found.devices.is_empty() && found.notes.is_empty());
}

#[test]
fn fake_devices_replace_the_machine() {
    let folder = Folder::of(NVIDIA);
    let mut machine = folder.machine();
    machine.fake = Some("cuda:2:24G:20G:15,rocm:1,cuda:1".to_owned());
    let found = find(&machine, "cuda");
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].memory_free, Some(20 << 30));
    assert_eq!(found[2].memory_total, None);
    for wrong in [
        "cuda",
        "cuda:x",
        "cuda:1:2:3:4:5",
        "abacus:1",
        "cuda:1:x",
        "cuda:1:1G:1G:101",
        "@/nowhere",
    ] {
        machine.fake = Some(wrong.to_owned());
        let err = machine.discover(None).unwrap_err();
        assert!(matches!(err, Error::Invalid { .. }), "{wrong}: {err}");
        assert!(err.to_string().contains("SHOAL_FAKE_DEVICES"), "{err}");
    }
}

/// The part of the library's public interface that is used, for two devices of which the second is
/// partitioned.
const NVML: &str = r#"
#include <string.h>
typedef struct { int index, part; } *device;
static struct { int index, part; } all[2] = {{0, -1}, {1, -1}}, parts[3] = {{1, 0}, {1, 1}, {1, 2}};
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = &all[i]; return 0; }
int nvmlDeviceGetUUID(void *p, char *buf, unsigned len) {
    device d = p;
    if (len < 96) return 7;
    strcpy(buf, d->part >= 0 ? "MIG-00000000-aaaa-bbbb-cccc-dddddddddddX"
                             : "GPU-00000000-aaaa-bbbb-cccc-dddddddddddX");
    buf[strlen(buf) - 1] = (char)('0' + (d->part >= 0 ? d->part : d->index));
    return 0;
}
int nvmlDeviceGetName(void *p, char *buf, unsigned len) { strcpy(buf, "Made\tup"); return len < 9; }
int nvmlDeviceGetMemoryInfo(void *p, unsigned long long *m) { m[0] = 80; m[1] = 60; m[2] = 20; return 0; }
int nvmlDeviceGetUtilizationRates(void *p, unsigned *u) {
    if (((device)p)->part >= 0) return 3;
    u[0] = 250; u[1] = 0; return 0;
}
int nvmlDeviceGetMigMode(void *p, unsigned *now, unsigned *next) { *now = *next = ((device)p)->index; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *p, unsigned *n) { *n = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *p, unsigned i, void **d) {
    if (i > 2 || i == 1) return 6;
    *d = &parts[i]; return 0;
}
"#;

/// A machine with NVIDIA's driver, whose library is this one.
fn with_library(folder: &Folder, library: &Path) -> Machine {
    let mut machine = folder.machine();
    machine.nvml = library.to_owned();
    machine.nvml_timeout = Duration::from_secs(60);
    machine
}

#[test]
fn the_library_reports_memory_load_and_partitions() {
    let folder = Folder::of(NVIDIA);
    let machine = with_library(&folder, &folder.library(NVML));
    let found = machine.discover(None).unwrap();
    assert_eq!(found.notes, [""; 0]);
    let expected = [
        "GPU-00000000-aaaa-bbbb-cccc-ddddddddddd0",
        "MIG-00000000-aaaa-bbbb-cccc-ddddddddddd0",
        "MIG-00000000-aaaa-bbbb-cccc-ddddddddddd2",
    ];
    assert_eq!(ids(&found.devices), expected);
    let first = &found.devices[0];
    assert_eq!(
        (first.memory_total, first.memory_free),
        (Some(80), Some(60))
    );
    assert_eq!((first.utilisation, &*first.name), (Some(100), "Made up"));
    assert_eq!(found.devices[1].utilisation, None);
    // It is asked again, and by a forked child too.
    assert_eq!(machine.discover(None).unwrap(), found);
    // SAFETY: the child uses the library and the allocator.
    let child = unsafe {
        shoal::fork(&shoal::ForkOptions::default(), || {
            i32::from(machine.discover(None).unwrap() != found)
        })
    };
    assert!(
        child
            .unwrap()
            .join(shoal::Timeout::Infinite)
            .unwrap()
            .success()
    );
}

/// The devices by the driver's files, and a note that says this.
fn falls_back(machine: &Machine, note: &str) {
    let found = machine.discover(None).unwrap();
    assert_eq!(found.devices.len(), 2);
    assert!(
        found.notes.len() == 1 && found.notes[0].contains(note),
        "{:?}",
        found.notes
    );
}

#[test]
fn a_library_that_is_missing_or_broken_is_a_note() {
    let folder = Folder::of(NVIDIA);
    falls_back(
        &with_library(&folder, Path::new("/nowhere/nvml.so")),
        "/nowhere/nvml.so",
    );
    let junk = folder.0.join("junk.so");
    fs::write(&junk, "no library").unwrap();
    falls_back(&with_library(&folder, &junk), "junk.so");
    let empty = folder.library("int nothing;");
    falls_back(&with_library(&folder, &empty), "nvmlInit_v2");
}

#[test]
fn a_library_that_fails_is_a_note() {
    let folder = Folder::of(NVIDIA);
    let failing = NVML.replace(
        "nvmlInit_v2(void) { return 0; }",
        "nvmlInit_v2(void) { return 9; }",
    );
    falls_back(&with_library(&folder, &folder.library(&failing)), "code 9");
}

#[test]
fn a_library_that_hangs_costs_its_deadline_once() {
    let folder = Folder::of(NVIDIA);
    let hanging = NVML.replace(
        "nvmlInit_v2(void) { return 0; }",
        "nvmlInit_v2(void) { for (;;) sleep(1000); }",
    );
    let hanging = format!("#include <unistd.h>\n{hanging}");
    let mut machine = with_library(&folder, &folder.library(&hanging));
    machine.nvml_timeout = Duration::from_millis(20);
    falls_back(&machine, "did not answer");
    // The answer of another library does not change that.
    let other = Folder::of(NVIDIA);
    let machine_beside = with_library(&other, &other.library(NVML));
    assert!(machine_beside.discover(None).unwrap().notes.is_empty());
    // A call that waited would not come back.
    machine.nvml_timeout = Duration::from_secs(100_000);
    falls_back(&machine, "did not answer");
}

#[test]
fn a_library_that_was_slow_is_used_again_when_it_answers() {
    let folder = Folder::of(NVIDIA);
    let gate = folder.0.join("gate");
    let slow = NVML.replace(
        "nvmlInit_v2(void) { return 0; }",
        &format!("nvmlInit_v2(void) {{ while (access({gate:?}, 0)) usleep(1000); return 0; }}"),
    );
    let slow = format!("#define _DEFAULT_SOURCE\n#include <unistd.h>\n{slow}");
    let mut machine = with_library(&folder, &folder.library(&slow));
    machine.nvml_timeout = Duration::from_millis(20);
    falls_back(&machine, "did not answer");
    fs::write(gate, "").unwrap();
    machine.nvml_timeout = Duration::from_secs(60);
    let start = std::time::Instant::now();
    while !machine.discover(None).unwrap().notes.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(machine.discover(None).unwrap().devices.len(), 3);
}
