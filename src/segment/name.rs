//! Names of objects, and of their files.

use crate::error::{Error, Result};
use crate::sys;

/// The prefix of a published object's file.
pub(crate) const PUBLISHED: &str = "shoal.";
/// The prefix of a file that is still being filled. No object's name has it.
pub(crate) const PRIVATE: &str = "shoal~";

/// The prefix of a liveness file. No object's name has it.
pub(crate) const LIVENESS: &str = "shoal+";

/// The prefix of the FIFO of a queue that has a descriptor. The queue's number in its object, a dot and the
/// object's name follow. No object's name has this prefix.
pub(crate) const FIFO: &str = "shoal=";

/// The longest name, in bytes: what a file name can hold, less the prefix and some.
pub(crate) const LONGEST: usize = 200;

/// Checks a name and returns the file it stands for.
pub(crate) fn file_of(name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::invalid("name", "it is empty"));
    }
    if name.len() > LONGEST {
        let why = format!("it has {} bytes; the limit is {LONGEST}", name.len());
        return Err(Error::invalid("name", why));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
        let why = format!("{name:?} has {bad:?}; letters, digits, '.', '_' and '-' are allowed");
        return Err(Error::invalid("name", why));
    }
    Ok(format!("{PUBLISHED}{name}"))
}

const ANONYMOUS: &str = "anon-";

/// A name for an anonymous object.
pub(crate) fn anonymous() -> String {
    let [high, low] = sys::process::random();
    format!("{ANONYMOUS}{high:016x}{low:016x}")
}

/// A private file name for a new object `name`, which no other process or thread uses.
pub(crate) fn private_file(name: &str) -> String {
    // Only the random name itself: several processes may create a name that is derived from it.
    if name.starts_with(ANONYMOUS) && name.len() == ANONYMOUS.len() + 32 {
        return format!("{PRIVATE}{name}");
    }
    let [high, low] = sys::process::random();
    format!("{PRIVATE}{high:016x}{low:016x}")
}

/// The file of a liveness group.
pub(crate) fn liveness_file(group: u64) -> String {
    format!("{LIVENESS}{group:010x}")
}

/// The FIFO of queue number `way` of the object whose file is `file`.
pub(crate) fn fifo_file(file: &str, way: u32) -> String {
    let name = file.strip_prefix(PUBLISHED).unwrap_or(file);
    format!("{FIFO}{way}.{name}")
}

/// The file of the object that a FIFO belongs to; `None` for another file.
pub(crate) fn owner_of_fifo(fifo: &str) -> Option<String> {
    let (way, name) = fifo.strip_prefix(FIFO)?.split_once('.')?;
    way.parse::<u32>().ok()?;
    file_of(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_is_known_by_the_object_it_belongs_to() {
        for name in ["a", ".", "7.b", &"x".repeat(200)] {
            let file = file_of(name).unwrap();
            let fifo = fifo_file(&file, 1);
            assert_eq!(owner_of_fifo(&fifo), Some(file));
            assert!(fifo.len() <= 255);
        }
        for other in ["shoal.a", "shoal=a", "shoal=.a", "shoal=0.", "shoal=0.a/b"] {
            assert_eq!(owner_of_fifo(other), None);
        }
    }

    #[test]
    fn only_a_random_name_is_that_of_a_private_file() {
        let name = anonymous();
        assert_eq!(private_file(&name), format!("{PRIVATE}{name}"));
        for other in ["a".to_owned(), format!("{name}.dead"), "anon-x".to_owned()] {
            assert_ne!(private_file(&other), private_file(&other));
        }
    }

    #[test]
    fn names_that_could_escape_the_directory_are_refused() {
        for bad in [
            "",
            "a/b",
            "../x",
            "a b",
            "a\0b",
            "\u{e9}",
            "~x",
            &"x".repeat(201),
        ] {
            assert!(
                matches!(file_of(bad), Err(Error::Invalid { .. })),
                "{bad:?}"
            );
        }
        for good in ["a", ".", "..", "a.b-c_D9", &"x".repeat(200)] {
            assert_eq!(file_of(good).unwrap(), format!("shoal.{good}"));
        }
    }
}
