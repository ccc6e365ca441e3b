//! Files and folders, with errors that name them.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

/// Puts the name of a file or a program before an error.
pub(crate) fn at<E: Display>(name: impl AsRef<Path>) -> impl Fn(E) -> String {
    move |err| format!("{}: {err}", name.as_ref().display())
}

pub(crate) fn read(path: impl AsRef<Path>) -> Result<String, String> {
    fs::read_to_string(&path).map_err(at(path))
}

/// Writes the file, and creates its folder if it is missing.
pub(crate) fn write(path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> Result<(), String> {
    let path = path.as_ref();
    path.parent().map_or(Ok(()), create_dir)?;
    fs::write(path, text).map_err(at(path))
}

/// Creates the folder and those above it, unless they exist.
pub(crate) fn create_dir(path: impl AsRef<Path>) -> Result<(), String> {
    fs::create_dir_all(&path).map_err(at(path))
}

/// The paths of what is in a folder, in their order.
pub(crate) fn entries(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(&folder).map_err(at(folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Copies the file into a folder that exists.
pub(crate) fn copy_into(file: &Path, folder: &Path) -> Result<(), String> {
    let name = file.file_name().ok_or_else(|| at(file)("it has no name"))?;
    fs::copy(file, folder.join(name))
        .map(|_| ())
        .map_err(at(file))
}
