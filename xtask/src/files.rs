//! The folders of the project, and files, with errors that name them.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

/// The project's top folder.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder in which cargo puts its results, such as `release/libshoal.so`.
pub(crate) fn target() -> PathBuf {
    let program = std::env::current_exe();
    let folder = program.ok().and_then(|it| folder_of_results(&it));
    folder.unwrap_or_else(|| root().join("target"))
}

/// The folder of cargo's results, from the path of this program, which is one of them: `debug/xtask`. It is right with
/// CARGO_TARGET_DIR, with CARGO_BUILD_TARGET, and with any configuration of cargo.
fn folder_of_results(program: &Path) -> Option<PathBuf> {
    let mut above = program.ancestors().skip(1);
    // Its own tests are in `debug/deps`.
    let profile = above.find(|it| !it.ends_with("deps"))?;
    profile.parent().map(Path::to_path_buf)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_cargo_are_found_wherever_it_puts_them() {
        for (program, folder) in [
            ("/shoal/target/debug/xtask", "/shoal/target"),
            (
                "/shoal/target/debug/deps/xtask-0123456789abcdef",
                "/shoal/target",
            ),
            (
                "/elsewhere/x86_64-unknown-linux-gnu/debug/xtask",
                "/elsewhere/x86_64-unknown-linux-gnu",
            ),
        ] {
            let found = folder_of_results(Path::new(program));
            assert_eq!(found, Some(PathBuf::from(folder)));
        }
    }
}
