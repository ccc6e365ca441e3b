//! A child's environment, and the lookup of a program by name in it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::device::lease::{Lease, Mode};
use crate::device::{self, EnvEdit};
use crate::error::{Error, Result};
use crate::sys::spawn::is_executable;

/// The directories that are searched for programs when `PATH` is unset.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A child's environment, before it exists.
pub(super) struct Environment(pub(super) BTreeMap<OsString, OsString>);

impl Environment {
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    fn apply(&mut self, edit: EnvEdit) {
        match edit {
            EnvEdit::Set(name, value) => self.0.insert(name.into(), value.into()),
            EnvEdit::Unset(name) => self.0.remove(OsStr::new(&name)),
        };
    }

    /// Restricts the devices a child sees, each family within what it would see otherwise.
    pub(super) fn mask(&mut self, devices: &[(String, String)]) -> Result<()> {
        let edits = device_edits(devices, |name| {
            self.get(name).map(|v| v.to_string_lossy().into_owned())
        })?;
        edits.into_iter().for_each(|edit| self.apply(edit));
        Ok(())
    }

    /// Makes the child run under a lease, whose devices count within what this process sees.
    pub(super) fn lease(
        &mut self,
        mode: Mode,
        worker: usize,
        workers: usize,
        lease: &Lease,
    ) -> Result<()> {
        let own = |name: &str| self.get(name).map(|it| it.to_string_lossy().into_owned());
        for variable in lease.family().variables() {
            if own(variable).is_some_and(|it| Some(it) != device::process_variable(variable)) {
                let why =
                    format!("the child is given another {variable}, or a mask of the same family");
                return Err(Error::invalid(format!("lease {}", lease.id()), why));
            }
        }
        let edits = lease.environment_in(mode, worker, workers, |name| {
            own(name).or_else(|| device::process_variable(name))
        })?;
        edits.into_iter().for_each(|edit| self.apply(edit));
        Ok(())
    }

    /// In the form that `exec` takes: `NAME=value`.
    pub(super) fn to_exec(&self) -> Result<Vec<CString>> {
        let entry = |(name, value): (&OsString, &OsString)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            c_string(&entry, "environment variable")
        };
        self.0.iter().map(entry).collect()
    }
}

/// The environment edits of several families, all against the same environment.
///
/// Two requests that change the same variable are an error.
pub(super) fn device_edits(
    devices: &[(String, String)],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<EnvEdit>> {
    let mut edits: Vec<EnvEdit> = Vec::new();
    for (family, mask) in devices {
        for edit in device::environment(family, mask, &lookup)? {
            if edits.iter().any(|e| e.variable() == edit.variable()) {
                return Err(Error::invalid(
                    format!("{family} device mask {mask:?}"),
                    format!("another mask of this child changes {} too", edit.variable()),
                ));
            }
            edits.push(edit);
        }
    }
    Ok(edits)
}

/// A string for the kernel, which may not contain a NUL byte.
pub(super) fn c_string(text: &OsStr, what: &'static str) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::invalid(what, format!("{text:?} contains a NUL byte")))
}

/// Checks that a name can stand left of `=`.
pub(super) fn check_name(name: &OsStr) -> Result<()> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(Error::invalid(
            "environment variable",
            format!("{name:?} is not a name: it is empty or contains \"=\""),
        ));
    }
    Ok(())
}

/// Checks that the directory to start in exists and is a directory.
pub(super) fn check_directory(path: &Path) -> Result<()> {
    let name = || path.display().to_string();
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::invalid(
            "working directory",
            format!("{:?} is not a directory", name()),
        )),
        Err(err) => Err(match err.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Error::NotFound {
                what: "working directory",
                name: name(),
            },
            Some(libc::EACCES) => Error::Permission {
                name: name(),
                why: "a directory on the way to it may not be searched".to_owned(),
            },
            errno => Error::Os {
                call: "stat",
                errno: errno.unwrap_or(libc::EINVAL),
            },
        }),
    }
}

/// The file to execute: `program` itself if it has a slash, else the first of that name in
/// the child's `PATH` that may be executed.
///
/// A relative path is relative to the directory the child starts in.
pub(super) fn find(program: &OsStr, env: &Environment, cwd: Option<&Path>) -> Result<CString> {
    if program.is_empty() {
        return Err(Error::invalid("program", "the name is empty"));
    }
    let exact = c_string(program, "program")?;
    if program.as_bytes().contains(&b'/') {
        return Ok(exact);
    }
    let path = env.get("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut refused = false;
    for directory in path.as_bytes().split(|&b| b == b':') {
        // An empty entry is the current directory, by convention.
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let found = Path::new(OsStr::from_bytes(directory)).join(program);
        let seen = cwd.map_or(found.clone(), |cwd| cwd.join(&found));
        if seen.is_file() {
            if is_executable(&c_string(seen.as_os_str(), "program")?) {
                return c_string(found.as_os_str(), "program");
            }
            refused = true;
        }
    }
    Err(if refused {
        refusal(program)
    } else {
        missing(program)
    })
}

fn missing(program: &OsStr) -> Error {
    Error::NotFound {
        what: "program",
        name: program.to_string_lossy().into_owned(),
    }
}

fn refusal(program: &OsStr) -> Error {
    Error::Permission {
        name: program.to_string_lossy().into_owned(),
        why: "it may not be executed".to_owned(),
    }
}

/// The error of a failed exec.
pub(super) fn exec_error(program: &OsStr, file: CString, cwd: Option<&Path>, errno: i32) -> Error {
    let file = OsString::from_vec(file.into_bytes());
    let seen = cwd.map_or(file.clone().into(), |cwd| cwd.join(&file));
    let cannot = |why: &str| Error::invalid(format!("program {program:?}"), why.to_owned());
    match errno {
        libc::ENOENT if seen.exists() => {
            cannot("it exists, but the interpreter or loader it names does not")
        }
        libc::ENOENT | libc::ENOTDIR => missing(program),
        libc::EACCES | libc::EPERM => refusal(program),
        libc::ENOEXEC => cannot("it is neither in an executable format nor a script"),
        libc::E2BIG => cannot("its arguments and environment are larger than the system allows"),
        errno => Error::Os {
            call: "exec",
            errno,
        },
    }
}
