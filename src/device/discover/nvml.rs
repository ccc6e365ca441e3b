//! NVIDIA's devices from its management library, which comes with the driver.
//!
//! The library is loaded if it exists, and only a separate thread calls it: with a faulty driver, its
//! functions hang. The caller waits for the thread until a deadline. After a missed deadline, later calls do
//! not wait until the thread has answered. A library that lacks the needed functions, or whose functions
//! fail, leads to a note.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::machine::Found;
use crate::device::family::Family;
use crate::sys::dl::Library;
use crate::sys::fork::hold_off;
use crate::sys::spawn::Blocked;
use crate::sys::thread;

/// The most devices, and partitions of a device, that are queried.
const MOST: c_uint = 256;
const SUCCESS: c_int = 0;

/// An `nvmlDevice_t`.
#[derive(Clone, Copy)]
struct Gpu(*mut c_void);

/// An `nvmlMemory_t`, in bytes.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// An `nvmlUtilization_t`, in percent.
#[repr(C)]
#[derive(Default)]
struct Utilisation {
    gpu: c_uint,
    memory: c_uint,
}

type Plain = unsafe extern "C" fn() -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut *mut c_void) -> c_int;
type Text = unsafe extern "C" fn(*mut c_void, *mut c_char, c_uint) -> c_int;
type MemoryInfo = unsafe extern "C" fn(*mut c_void, *mut Memory) -> c_int;
type Rates = unsafe extern "C" fn(*mut c_void, *mut Utilisation) -> c_int;
type MigMode = unsafe extern "C" fn(*mut c_void, *mut c_uint, *mut c_uint) -> c_int;
type MigCount = unsafe extern "C" fn(*mut c_void, *mut c_uint) -> c_int;
type MigByIndex = unsafe extern "C" fn(*mut c_void, c_uint, *mut *mut c_void) -> c_int;

/// The functions of the library. The last ones were added later, and not every device supports them.
struct Functions {
    count: Count,
    by_index: ByIndex,
    uuid: Text,
    name: Option<Text>,
    memory: Option<MemoryInfo>,
    rates: Option<Rates>,
    mig_mode: Option<MigMode>,
    mig_count: Option<MigCount>,
    mig_by_index: Option<MigByIndex>,
}

/// A device as the library describes it.
struct Described {
    id: String,
    index: u32,
    name: String,
    memory: Option<Memory>,
    load: Option<u8>,
}

impl Functions {
    /// Loads the library and starts it.
    fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: it is NVIDIA's library, or one that the user has named instead.
        let library = unsafe { Library::open(path) }?;
        // SAFETY: the types are those of the public header, whose functions keep them from version to
        // version: a changed one gets a new name (`_v2`).
        unsafe {
            let missing = |name: &str| format!("{} has no function {name}", path.display());
            let init: Plain = library
                .function(c"nvmlInit_v2")
                .ok_or_else(|| missing("nvmlInit_v2"))?;
            let functions = Self {
                count: library
                    .function(c"nvmlDeviceGetCount_v2")
                    .ok_or_else(|| missing("nvmlDeviceGetCount_v2"))?,
                by_index: library
                    .function(c"nvmlDeviceGetHandleByIndex_v2")
                    .ok_or_else(|| missing("nvmlDeviceGetHandleByIndex_v2"))?,
                uuid: library
                    .function(c"nvmlDeviceGetUUID")
                    .ok_or_else(|| missing("nvmlDeviceGetUUID"))?,
                name: library.function(c"nvmlDeviceGetName"),
                memory: library.function(c"nvmlDeviceGetMemoryInfo"),
                rates: library.function(c"nvmlDeviceGetUtilizationRates"),
                mig_mode: library.function(c"nvmlDeviceGetMigMode"),
                mig_count: library.function(c"nvmlDeviceGetMaxMigDeviceCount"),
                mig_by_index: library.function(c"nvmlDeviceGetMigDeviceHandleByIndex"),
            };
            match init() {
                SUCCESS => Ok(functions),
                code => Err(format!("nvmlInit_v2 failed with code {code}")),
            }
        }
    }

    /// All devices; partitioned ones are replaced by their partitions.
    fn devices(&self) -> Result<Vec<Described>, String> {
        let mut count = 0;
        // SAFETY: a place for the answer.
        let code = unsafe { (self.count)(&mut count) };
        if code != SUCCESS {
            return Err(format!("nvmlDeviceGetCount_v2 failed with code {code}"));
        }
        let mut described = Vec::new();
        for index in 0..count.min(MOST) {
            let mut gpu = std::ptr::null_mut();
            // SAFETY: a place for the answer. Lost devices, and those that this user may not use, have none.
            if unsafe { (self.by_index)(index, &mut gpu) } != SUCCESS || gpu.is_null() {
                continue;
            }
            let parts = self.partitions(Gpu(gpu));
            let each = if parts.is_empty() {
                vec![Gpu(gpu)]
            } else {
                parts
            };
            described.extend(each.into_iter().filter_map(|it| self.describe(it, index)));
        }
        Ok(described)
    }

    fn partitions(&self, gpu: Gpu) -> Vec<Gpu> {
        let (Some(mode), Some(count), Some(by_index)) =
            (self.mig_mode, self.mig_count, self.mig_by_index)
        else {
            return Vec::new();
        };
        let (mut now, mut pending, mut most) = (0, 0, 0);
        // SAFETY: a device of the library's, and places for the answers.
        let on = unsafe {
            mode(gpu.0, &mut now, &mut pending) == SUCCESS
                && now == 1
                && count(gpu.0, &mut most) == SUCCESS
        };
        let mut parts = Vec::new();
        for index in 0..if on { most.min(MOST) } else { 0 } {
            let mut part = std::ptr::null_mut();
            // SAFETY: as above. A number may have no partition.
            if unsafe { by_index(gpu.0, index, &mut part) } == SUCCESS && !part.is_null() {
                parts.push(Gpu(part));
            }
        }
        parts
    }

    fn describe(&self, gpu: Gpu, index: u32) -> Option<Described> {
        let text = |function: Text| {
            let mut buf = [0 as c_char; 128];
            // SAFETY: a device of the library's, and room for one byte more than the length, which stays NUL.
            let code = unsafe { function(gpu.0, buf.as_mut_ptr(), buf.len() as c_uint - 1) };
            // SAFETY: it ends with NUL at its last byte at the latest.
            let text = unsafe { CStr::from_ptr(buf.as_ptr()) };
            let text = text.to_string_lossy().replace(char::is_control, " ");
            (code == SUCCESS && !text.is_empty()).then_some(text)
        };
        let id = text(self.uuid).filter(|it| it.is_ascii())?;
        let memory = self.memory.and_then(|function| {
            let mut memory = Memory::default();
            // SAFETY: a device of the library's, and a place for the answer.
            (unsafe { function(gpu.0, &mut memory) } == SUCCESS).then_some(memory)
        });
        let load = self.rates.and_then(|function| {
            let mut rates = Utilisation::default();
            // SAFETY: as above.
            let known = unsafe { function(gpu.0, &mut rates) } == SUCCESS;
            known.then_some(rates.gpu.min(100) as u8)
        });
        Some(Described {
            id,
            index,
            name: self.name.and_then(text).unwrap_or_default(),
            memory,
            load,
        })
    }
}

type Answer = Result<Vec<Described>, String>;

/// How many requests were sent and answered, which shows whether the library hangs.
#[derive(Default)]
struct Progress {
    asked: AtomicU64,
    answered: AtomicU64,
    /// The number of answers at which the library is no longer late.
    late_for: AtomicU64,
}

impl Progress {
    fn is_late(&self) -> bool {
        self.answered.load(Ordering::Relaxed) < self.late_for.load(Ordering::Relaxed)
    }
}

/// The thread that calls the library.
#[derive(Clone)]
struct Service {
    /// The process whose thread it is: a forked child does not have it.
    process: u32,
    path: PathBuf,
    jobs: Sender<SyncSender<Answer>>,
    progress: Arc<Progress>,
}

/// One for each library that was used, so that a hanging one is remembered.
static SERVICES: Mutex<Vec<Service>> = Mutex::new(Vec::new());

impl Service {
    fn get(path: &Path) -> Result<Self, String> {
        let _signals = Blocked::new();
        // A fork must not find the mutex locked.
        let _forks = hold_off().map_err(|err| err.to_string())?;
        let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if services.iter().any(|it| it.process != process) {
            // The parent's services: their channels may have been in use at the fork.
            std::mem::forget(std::mem::take(&mut *services));
        }
        if let Some(known) = services.iter().find(|it| it.path == path) {
            return Ok(known.clone());
        }
        let (jobs, inbox) = channel();
        let progress = Arc::new(Progress::default());
        let (its_path, its_progress) = (path.to_owned(), Arc::clone(&progress));
        thread::start("shoal-nvml", move || {
            serve(&its_path, &inbox, &its_progress)
        })
        .map_err(|err| err.to_string())?;
        let started = Self {
            process,
            path: path.to_owned(),
            jobs,
            progress,
        };
        services.push(started.clone());
        Ok(started)
    }
}

fn serve(path: &Path, inbox: &Receiver<SyncSender<Answer>>, progress: &Progress) {
    let mut functions = None;
    for reply in inbox {
        let loaded = match functions.take() {
            Some(functions) => Ok(functions),
            // A driver that was missing may be loaded by now.
            None => Functions::load(path),
        };
        let answer = loaded.and_then(|it| functions.insert(it).devices());
        progress.answered.fetch_add(1, Ordering::Relaxed);
        // Fails if the caller has stopped waiting.
        let _ = reply.try_send(answer);
    }
}

/// The devices that the library reports, or why it could not be used.
pub(super) fn find(
    path: &Path,
    limit: Duration,
    family: &'static Family,
) -> Result<Vec<Found>, String> {
    let service = Service::get(path)?;
    let hangs = || format!("{} did not answer within {limit:?}", path.display());
    let progress = &service.progress;
    if progress.is_late() {
        return Err(hangs());
    }
    let (reply, answer) = sync_channel(1);
    let number = progress.asked.fetch_add(1, Ordering::Relaxed) + 1;
    service
        .jobs
        .send(reply)
        .map_err(|_| format!("the thread that calls {} has ended", path.display()))?;
    let Ok(answer) = answer.recv_timeout(limit) else {
        progress.late_for.fetch_max(number, Ordering::Relaxed);
        return Err(hangs());
    };
    let found = answer?.into_iter().map(|described| Found {
        family,
        id: described.id,
        index: described.index,
        name: described.name,
        memory_total: described.memory.as_ref().map(|it| it.total),
        memory_free: described.memory.as_ref().map(|it| it.free),
        utilisation: described.load,
    });
    Ok(found.collect())
}
