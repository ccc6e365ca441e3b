//! Masks in environments: what a process sees, and what changes for it, or for a child, to see less.

use std::sync::OnceLock;

use super::family::{FAMILIES, Family, Ids, Order, Source, Style};
use super::mask::{Device, DeviceKind, Mask};
use super::reading::Reading;
use crate::error::{Error, Result};

/// One change to an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvEdit {
    /// Set the variable to this value.
    Set(String, String),
    /// Remove the variable.
    Unset(String),
}

impl EnvEdit {
    /// The variable that changes.
    pub fn variable(&self) -> &str {
        match self {
            EnvEdit::Set(variable, _) | EnvEdit::Unset(variable) => variable,
        }
    }
}

/// Every family that is known.
///
/// ```
/// assert!(shoal::device::families().any(|f| f.name() == "rocm"));
/// ```
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter()
}

/// The family of this name.
///
/// # Errors
///
/// [`Error::NotFound`] names the families there are.
///
/// ```
/// assert_eq!(shoal::device::family("hip")?.variable(), "HIP_VISIBLE_DEVICES");
///
/// let err = shoal::device::family("gpu").unwrap_err();
/// assert!(err.to_string().contains("cuda, rocm, hip"));
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn family(name: &str) -> Result<&'static Family> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    families()
        .find(|f| f.name == name)
        .ok_or_else(|| Error::NotFound {
            what: KNOWN.get_or_init(|| {
                let names: Vec<&str> = families().map(Family::name).collect();
                format!("device family (of {})", names.join(", "))
            }),
            name: name.to_owned(),
        })
}

/// The value of the family's variable for a child that shall see `logical`, if the variable is `inherited`
/// now (`None`: unset).
///
/// `logical` is read as a [`Mask`]: indices count within what `inherited` shows, `""` and `"none"` hide every
/// device. If the family's runtime ignores the order of a list (`level_zero`, `oneapi`, `tenstorrent`), both
/// lists are sorted.
///
/// # Errors
///
/// - [`Error::NotFound`]: no such family.
/// - [`Error::Invalid`]: `logical` is malformed, names a device that `inherited` does not
///   show, names one twice, mixes kinds, or cannot be written for this family; or
///   `inherited` cannot be read.
/// - [`Error::Unsupported`]: every device is to be hidden, and the runtime documents no value
///   that does so.
///
/// ```
/// use shoal::device::resolve;
///
/// assert_eq!(resolve("cuda", None, "0,2")?, "0,2");
/// assert_eq!(resolve("cuda", Some("GPU-1a2b,GPU-3c4d"), "1")?, "GPU-3c4d");
/// assert_eq!(resolve("cuda", Some("2,3"), "none")?, "-1");
/// assert_eq!(resolve("neuron", Some("4-7"), "0-1")?, "4-5");
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn resolve(family: &str, inherited: Option<&str>, logical: &str) -> Result<String> {
    let family = self::family(family)?;
    let source = family
        .layers
        .iter()
        .flat_map(|layer| layer.iter())
        .find(|source| source.variable == family.variable)
        .ok_or_else(|| Error::unsupported("a device family that does not read what it writes"))?;
    let inherited = match inherited {
        None => Mask::All,
        Some(value) => family.ordered(source.read(value)?),
    };
    family.render(&family.compose(&inherited, logical)?)
}

/// The changes to an environment that make a child see `mask`.
///
/// `lookup` gives the value that a variable has in that environment. Beside the family's own variable, other
/// variables may change: `CUDA_DEVICE_ORDER` is set to `PCI_BUS_ID` unless it is already set, and a second
/// variable whose indices would count within the new mask is removed, after its restriction was composed into
/// that mask.
///
/// # Errors
///
/// As [`resolve`].
///
/// ```
/// use shoal::device::{EnvEdit, environment};
///
/// let parent = |name: &str| (name == "CUDA_VISIBLE_DEVICES").then(|| "2,3".to_owned());
/// assert_eq!(
///     environment("cuda", "1", parent)?,
///     [
///         EnvEdit::Set("CUDA_VISIBLE_DEVICES".into(), "3".into()),
///         EnvEdit::Set("CUDA_DEVICE_ORDER".into(), "PCI_BUS_ID".into()),
///     ]
/// );
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn environment(
    family: &str,
    mask: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<EnvEdit>> {
    let family = self::family(family)?;
    let composed = family.compose(&family.inherited(&lookup)?, mask)?;
    let value = family.render(&composed)?;
    let count = composed.devices().map_or(0, <[Device]>::len);

    let mut edits = vec![EnvEdit::Set(family.variable.to_owned(), value)];
    let mut change = |variable: &str, value: Option<&str>| match value {
        Some(value) => edits.push(EnvEdit::Set(variable.to_owned(), value.to_owned())),
        None if lookup(variable).is_some() => edits.push(EnvEdit::Unset(variable.to_owned())),
        None => {}
    };
    for &(variable, value) in family.with {
        if lookup(variable).is_none() {
            change(variable, Some(value));
        }
    }
    for &(variable, value) in family.neutral {
        if lookup(variable).is_some() {
            change(variable, value);
        }
    }
    for &(n, settings) in family.counts {
        if n == count {
            settings
                .iter()
                .for_each(|&(variable, value)| change(variable, value));
        }
    }
    Ok(edits)
}

/// The mask this process runs under.
///
/// Reads the process environment as it is now; a runtime that was loaded earlier may have read another one.
///
/// # Errors
///
/// [`Error::NotFound`]: no such family. [`Error::Invalid`]: the variable is not text, or its
/// runtime's reading of it is unknown.
///
/// ```no_run
/// println!("this process sees {}", shoal::device::visible("cuda")?);
/// # Ok::<(), shoal::Error>(())
/// ```
pub fn visible(family: &str) -> Result<Mask> {
    self::family(family)?.inherited(&process_variable)
}

/// Makes this process itself see `mask`, for programs that do not start a child.
///
/// Returns whether the family's runtime was already loaded. It reads the variable once, when it starts, so
/// `true` means that the call most likely came too late.
///
/// Composes with the current mask: a second call narrows it further.
///
/// # Errors
///
/// As [`resolve`]; the environment is then unchanged.
///
/// # Safety
///
/// No other thread may read or write the environment at the same time, in Rust or in C: C
/// libraries read it without a lock. Call it at the beginning of `main`.
///
/// ```no_run
/// // SAFETY: no other thread runs yet.
/// let too_late = unsafe { shoal::device::set_visible("cuda", "0")? };
/// assert!(!too_late, "CUDA was loaded before the mask was set");
/// # Ok::<(), shoal::Error>(())
/// ```
pub unsafe fn set_visible(family: &str, mask: &str) -> Result<bool> {
    let edits = environment(family, mask, process_variable)?;
    let loaded = self::family(family)?.is_loaded();
    // SAFETY: the caller promises that no other thread uses the environment.
    unsafe { apply(&edits) };
    Ok(loaded)
}

/// Changes this process's environment.
///
/// # Safety
///
/// As [`set_visible`].
pub(crate) unsafe fn apply(edits: &[EnvEdit]) {
    for edit in edits {
        match edit {
            // SAFETY: the caller promises that no other thread uses the environment.
            EnvEdit::Set(variable, value) => unsafe { std::env::set_var(variable, value) },
            // SAFETY: as above.
            EnvEdit::Unset(variable) => unsafe { std::env::remove_var(variable) },
        }
    }
}

/// A variable of this process, converted lossily if it is not UTF-8: the result then fails to parse.
pub(crate) fn process_variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

impl Source {
    /// What this variable shows on its own when it has this value.
    fn read(&self, value: &str) -> Result<Mask> {
        let refuse = |why: String| Error::invalid(format!("{}={value:?}", self.variable), why);
        match self.style {
            Style::List | Style::Range => self.reading.read(value).map_err(refuse),
            Style::Each(prefix) => {
                let bare: Option<Vec<&str>> =
                    value.split(',').map(|s| s.strip_prefix(prefix)).collect();
                match bare {
                    _ if value.is_empty() => self.reading.read(value).map_err(refuse),
                    Some(bare) => self.reading.read(&bare.join(",")).map_err(refuse),
                    None => Err(refuse(format!("each entry begins with \"{prefix}\""))),
                }
            }
            Style::Once(prefix) => {
                if value.is_empty() || value == "*:*" || value.strip_prefix(prefix) == Some("*") {
                    return Ok(Mask::All);
                }
                let bare = value.strip_prefix(prefix).ok_or_else(|| {
                    refuse(format!(
                        "only values that begin with \"{prefix}\" can be composed with"
                    ))
                })?;
                self.reading.read(bare).map_err(refuse)
            }
        }
    }
}

impl Family {
    /// What an environment shows: the layers from the hardware up, each through the last.
    pub(super) fn inherited(&self, lookup: &impl Fn(&str) -> Option<String>) -> Result<Mask> {
        let mut seen = Mask::All;
        for layer in self.layers {
            for source in *layer {
                let Some(value) = lookup(source.variable) else {
                    continue;
                };
                let mask = self.ordered(source.read(&value)?);
                if mask == Mask::All {
                    continue;
                }
                seen = self.through(seen, mask, source)?;
                break;
            }
        }
        Ok(seen)
    }

    /// A mask in the order in which the runtime shows its devices.
    fn ordered(&self, mut mask: Mask) -> Mask {
        if let (Order::Physical, Mask::List(list)) = (self.order, &mut mask) {
            list.sort_by_key(|device| match device {
                Device::Index(index) => (*index, 0),
                Device::Tile { device, tile } => (*device, *tile),
                Device::Gpu(_) | Device::Mig(_) => (0, 0),
            });
        }
        mask
    }

    /// What `upper` shows, whose indices count within what `lower` shows.
    fn through(&self, lower: Mask, upper: Mask, source: &Source) -> Result<Mask> {
        let (Mask::List(_), Mask::List(list)) = (&lower, &upper) else {
            return Ok(upper);
        };
        if source.reading != Reading::Hip {
            return lower.compose(&upper);
        }
        // HIP silently stops at the first index that is out of range.
        let mut seen = Vec::new();
        for device in list {
            match lower.compose(&Mask::List(vec![device.clone()])) {
                Ok(Mask::List(one)) => seen.extend(one),
                _ => break,
            }
        }
        Ok(Mask::List(seen))
    }

    /// Composes the requested mask with the inherited one, under the rules of this family.
    fn compose(&self, inherited: &Mask, logical: &str) -> Result<Mask> {
        let refuse = |why: String| {
            let name = self.name;
            Error::invalid(format!("{name} device mask {logical:?}"), why)
        };
        let named = |err| match err {
            Error::Invalid { why, .. } => refuse(why.into_owned()),
            other => other,
        };
        let text = match self.ids {
            Ids::Unique if logical != "none" => logical.to_ascii_uppercase(),
            _ => logical.to_owned(),
        };
        let asked: Mask = text.parse().map_err(named)?;
        let wrong_kind = |d: &&Device| !self.kinds.contains(&d.kind());
        if let Some(device) = asked.devices().and_then(|l| l.iter().find(wrong_kind)) {
            return Err(refuse(format!(
                "\"{device}\" is {}, which {} does not take",
                device.kind().noun(),
                self.variable
            )));
        }
        let composed = self.ordered(inherited.compose(&asked).map_err(named)?);
        let list = composed.devices().unwrap_or_default();
        if let Some(device) = list.iter().find(wrong_kind) {
            return Err(refuse(format!(
                "it means \"{device}\" of the inherited mask \"{inherited}\", which {} \
                 cannot express",
                self.variable
            )));
        }
        if list.iter().filter(|d| d.kind() == DeviceKind::Mig).count() > 1 {
            return Err(refuse(
                "a process sees one MIG device only: the rest would be dropped silently".into(),
            ));
        }
        let index = |d: &Device| match d {
            Device::Index(i) => Some(*i),
            _ => None,
        };
        if self.order == Order::Ascending && !list.is_sorted_by_key(index) {
            return Err(refuse(format!(
                "{} takes indices in ascending order, this is \"{composed}\"",
                self.variable
            )));
        }
        if !self.counts.is_empty()
            && !list.is_empty()
            && !self.counts.iter().any(|&(n, _)| n == list.len())
        {
            let counts: Vec<String> = self.counts.iter().map(|(n, _)| n.to_string()).collect();
            return Err(refuse(format!(
                "{} devices: a process may have {}",
                list.len(),
                counts.join(", ")
            )));
        }
        Ok(composed)
    }

    /// The composed mask as the value of the variable.
    fn render(&self, mask: &Mask) -> Result<String> {
        let list = mask.devices().unwrap_or_default();
        if list.is_empty() {
            return self.hide.map(str::to_owned).ok_or_else(|| {
                Error::unsupported(
                    "hiding every device of a family whose runtime documents no value for it",
                )
            });
        }
        let range = match (list.first(), list.last()) {
            (Some(&Device::Index(first)), Some(&Device::Index(last))) if first < last => list
                .iter()
                .zip(first..=last)
                .all(|(d, i)| *d == Device::Index(i))
                .then_some((first, last))
                .filter(|_| list.len() == (last - first) as usize + 1),
            _ => None,
        };
        Ok(match (self.style, range) {
            (Style::Range, Some((first, last))) => format!("{first}-{last}"),
            (Style::List | Style::Range, _) => mask.to_string(),
            (Style::Once(prefix), _) => format!("{prefix}{mask}"),
            (Style::Each(prefix), _) => {
                let each: Vec<String> = list.iter().map(|d| format!("{prefix}{d}")).collect();
                each.join(",")
            }
        })
    }

    /// Whether a runtime that has read the variable is mapped into this process.
    fn is_loaded(&self) -> bool {
        std::fs::read_to_string("/proc/self/maps").is_ok_and(|maps| {
            maps.lines()
                .filter_map(|line| line.rsplit('/').next())
                .any(|file| self.runtimes.iter().any(|lib| file.starts_with(lib)))
        })
    }
}
