//! Device masks: what a mask is, how it is written, and how two masks compose.
//!
//! Nothing here reads the environment or the machine. A mask is either *all* (the variable is unset) or a
//! list, and composing answers one question: if a process sees `inherited` and its child asks for `logical`,
//! which devices does the child see?
//!
//! ```text
//! inherited  2 , 3 , 5      what the parent's variable says
//! logical    2 , 0          the request, counted within what the parent sees
//! composed   5 , 2          composed[i] = inherited[logical[i]]
//! ```
//!
//! Invariants of a composed list:
//! - M1: every entry names a device of the inherited mask, or a part of one;
//! - M2: no two entries name the same device, as far as their text shows;
//! - M3: indices and unique ids are never mixed.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// The largest device index a mask may name.
///
/// No machine has that many devices; a larger number is a mistake, such as a process id.
pub const MAX_INDEX: u32 = 4095;

/// One entry of a mask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The n-th device in the order of the runtime.
    Index(u32),
    /// One tile of a device: `1.0` is tile 0 of device 1.
    Tile {
        /// The device.
        device: u32,
        /// Its tile.
        tile: u32,
    },
    /// A whole device by its unique id, or a prefix of it: `GPU-1a2b…`.
    Gpu(String),
    /// A partition of a device: `MIG-<uuid>`, or the older `MIG-GPU-<uuid>/<gi>/<ci>`.
    Mig(String),
}

/// The four ways in which an entry can name a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// [`Device::Index`].
    Index,
    /// [`Device::Tile`].
    Tile,
    /// [`Device::Gpu`].
    Gpu,
    /// [`Device::Mig`].
    Mig,
}

impl DeviceKind {
    /// Its name in messages.
    pub(super) fn noun(self) -> &'static str {
        match self {
            DeviceKind::Index => "an index",
            DeviceKind::Tile => "a tile",
            DeviceKind::Gpu => "a GPU- id",
            DeviceKind::Mig => "a MIG- id",
        }
    }

    /// Whether entries of the two kinds may stand in one mask (M3).
    fn mixes_with(self, other: DeviceKind) -> bool {
        let numeric = |k| matches!(k, DeviceKind::Index | DeviceKind::Tile);
        self == other || (numeric(self) && numeric(other))
    }
}

impl Device {
    /// How this entry names its device.
    pub fn kind(&self) -> DeviceKind {
        match self {
            Device::Index(_) => DeviceKind::Index,
            Device::Tile { .. } => DeviceKind::Tile,
            Device::Gpu(_) => DeviceKind::Gpu,
            Device::Mig(_) => DeviceKind::Mig,
        }
    }

    /// Whether the two entries name one device, or one is a part of the other (M2).
    ///
    /// If one id begins with the other, either both name the same device or the shorter one is ambiguous: in
    /// both cases they cannot stand in one mask.
    fn overlaps(&self, other: &Device) -> bool {
        match (self, other) {
            (Device::Index(a), Device::Tile { device: b, .. })
            | (Device::Tile { device: a, .. }, Device::Index(b)) => a == b,
            (Device::Gpu(a), Device::Gpu(b)) | (Device::Mig(a), Device::Mig(b)) => {
                a.starts_with(b.as_str()) || b.starts_with(a.as_str())
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Index(i) => write!(f, "{i}"),
            Device::Tile { device, tile } => write!(f, "{device}.{tile}"),
            Device::Gpu(id) | Device::Mig(id) => f.write_str(id),
        }
    }
}

/// A set of devices in order: what a process sees, or what it requests.
///
/// As what a process sees, [`Mask::All`] means that nothing is hidden and the number of devices is unknown.
/// As a request, it means "no change".
///
/// ```
/// use shoal::device::{Device, Mask};
///
/// let mask: Mask = "0,2-3".parse()?;
/// assert_eq!(mask, Mask::List(vec![Device::Index(0), Device::Index(2), Device::Index(3)]));
/// assert_eq!("none".parse::<Mask>()?, Mask::NONE);
/// assert!("0,0".parse::<Mask>().is_err());
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Every device.
    All,
    /// Exactly these, in this order. Empty hides every device.
    List(Vec<Device>),
}

impl Mask {
    /// The mask that hides every device.
    pub const NONE: Mask = Mask::List(Vec::new());

    /// The devices listed, or `None` where nothing is hidden.
    pub fn devices(&self) -> Option<&[Device]> {
        match self {
            Mask::All => None,
            Mask::List(list) => Some(list),
        }
    }

    /// What a child sees that asks for `logical` in a process that sees `self`.
    ///
    /// Indices in `logical` count within what `self` shows; ids are looked up in it. The order is that of
    /// `logical`. Composing is associative: asking for `b` of (`a` of `self`) is asking for (`b` of `a`) of
    /// `self`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the entry, the limit it broke and the inherited mask, when an
    /// index is out of range; an id is not in the inherited mask, is ambiguous there, or
    /// cannot be looked up because the inherited mask lists indices; or a device would appear
    /// twice.
    ///
    /// ```
    /// use shoal::device::Mask;
    ///
    /// let parent: Mask = "2,3,5".parse()?;
    /// assert_eq!(parent.compose(&"2,0".parse()?)?.to_string(), "5,2");
    ///
    /// let err = parent.compose(&"3".parse()?).unwrap_err();
    /// assert!(err.to_string().contains("\"2,3,5\""));
    /// # Ok::<(), shoal::Error>(())
    /// ```
    pub fn compose(&self, logical: &Mask) -> Result<Mask> {
        let refuse = |why: String| Error::invalid(format!("device mask \"{logical}\""), why);
        let Mask::List(wanted) = logical else {
            return Ok(self.clone());
        };
        let list = match self {
            Mask::All => wanted.clone(),
            Mask::List(have) => wanted
                .iter()
                .map(|device| pick(have, device, self))
                .collect::<Result<Vec<_>, String>>()
                .map_err(refuse)?,
        };
        consistent(&list).map_err(refuse)?;
        Ok(Mask::List(list))
    }

    /// The positions, in a machine's list of unique ids, of the devices this mask shows.
    ///
    /// This is the second half of how CUDA reads a mask, once the machine is known: an entry
    /// that names no device, or an id that several begin with, ends the list; a device named
    /// twice empties it. Tiles have no position of their own and end the list too.
    ///
    /// ```
    /// use shoal::device::Mask;
    ///
    /// let machine = ["GPU-1a", "GPU-1b", "GPU-2c"];
    /// let seen = |mask| Mask::from_cuda(Some(mask)).ordinals(&machine);
    /// assert_eq!(seen("2,0"), [2, 0]);
    /// assert_eq!(seen("0,7,1"), [0]);
    /// assert_eq!(seen("GPU-2,GPU-1"), [2]);
    /// assert_eq!(seen("GPU-2,GPU-2c"), []);
    /// ```
    pub fn ordinals<S: AsRef<str>>(&self, machine: &[S]) -> Vec<usize> {
        let Mask::List(list) = self else {
            return (0..machine.len()).collect();
        };
        let mut seen = Vec::new();
        for device in list {
            let position = match device {
                Device::Index(i) => Some(*i as usize).filter(|&i| i < machine.len()),
                Device::Gpu(id) | Device::Mig(id) => {
                    let mut hits = machine
                        .iter()
                        .enumerate()
                        .filter(|(_, full)| full.as_ref().starts_with(id.as_str()))
                        .map(|(i, _)| i);
                    hits.next().filter(|_| hits.next().is_none())
                }
                Device::Tile { .. } => None,
            };
            match position {
                None => break,
                Some(i) if seen.contains(&i) => return Vec::new(),
                Some(i) => seen.push(i),
            }
        }
        seen
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mask::All => f.write_str("all"),
            Mask::List(list) if list.is_empty() => f.write_str("none"),
            Mask::List(list) => {
                for (i, device) in list.iter().enumerate() {
                    write!(f, "{}{device}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// Parses a requested mask strictly, without guessing.
///
/// `""` and `"none"` hide every device. Otherwise the text is a list, separated by commas without spaces, of
/// indices (`0`), ranges (`1-3`), tiles (`0.1`), or unique ids (`GPU-…`, `MIG-…`, or prefixes of these).
/// Indices and ids do not mix, and nothing appears twice.
///
/// # Errors
///
/// [`Error::Invalid`] names the entry and what is wrong with it.
impl std::str::FromStr for Mask {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mask> {
        if text.is_empty() || text == "none" {
            return Ok(Mask::NONE);
        }
        let mut list = Vec::new();
        for token in text.split(',') {
            entry(token, &mut list)
                .map_err(|why| Error::invalid(format!("device mask {text:?}"), why))?;
        }
        consistent(&list).map_err(|why| Error::invalid(format!("device mask {text:?}"), why))?;
        Ok(Mask::List(list))
    }
}

/// Appends what one token of a requested mask stands for.
fn entry(token: &str, list: &mut Vec<Device>) -> Result<(), String> {
    if token.starts_with("GPU-") || token.starts_with("MIG-") {
        list.push(unique_id(token)?);
    } else if let Some((device, tile)) = token.split_once('.') {
        list.push(Device::Tile {
            device: index(device, token)?,
            tile: index(tile, token)?,
        });
    } else if let Some((first, last)) = token.split_once('-')
        && !first.is_empty()
    {
        list.extend(range(first, last, token)?.map(Device::Index));
    } else {
        list.push(Device::Index(index(token, token)?));
    }
    Ok(())
}

/// The indices of a range, of which there is at least one; `token` is what the message shows.
pub(super) fn range(first: &str, last: &str, token: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = (index(first, token)?, index(last, token)?);
    match first <= last {
        true => Ok(first..=last),
        false => Err(format!("the range \"{token}\" runs backwards")),
    }
}

/// A decimal index within [`MAX_INDEX`]; `token` is what the message shows.
pub(super) fn index(digits: &str, token: &str) -> Result<u32, String> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "\"{token}\" is not an index (0), range (1-3), tile (0.1) or id (GPU-…, MIG-…)"
        ));
    }
    match digits.parse() {
        Ok(i) if i <= MAX_INDEX => Ok(i),
        _ => Err(format!(
            "\"{token}\" is larger than the largest index, {MAX_INDEX}"
        )),
    }
}

/// A `GPU-` or `MIG-` id with at least one digit, so that it can mean one device only.
fn unique_id(token: &str) -> Result<Device, String> {
    let is_uuid = |s: &str| {
        s.bytes().any(|b| b.is_ascii_hexdigit())
            && s.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
    };
    let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let refuse = || format!("\"{token}\" is not a unique id: hexadecimal digits follow the prefix");

    if let Some(id) = token.strip_prefix("GPU-") {
        return Some(Device::Gpu(token.to_owned()))
            .filter(|_| is_uuid(id))
            .ok_or_else(refuse);
    }
    let id = token.strip_prefix("MIG-").ok_or_else(refuse)?;
    let valid = match id.strip_prefix("GPU-") {
        None => is_uuid(id),
        Some(rest) => {
            let parts: Vec<&str> = rest.split('/').collect();
            parts.len() == 3 && is_uuid(parts[0]) && is_number(parts[1]) && is_number(parts[2])
        }
    };
    valid
        .then(|| Device::Mig(token.to_owned()))
        .ok_or_else(refuse)
}

/// Checks M2 and M3: no device twice, and indices and ids are not mixed.
fn consistent(list: &[Device]) -> Result<(), String> {
    for (i, device) in list.iter().enumerate() {
        for earlier in &list[..i] {
            if !device.kind().mixes_with(earlier.kind()) {
                return Err(format!(
                    "\"{earlier}\" is {} and \"{device}\" is {}: a mask holds one kind",
                    earlier.kind().noun(),
                    device.kind().noun()
                ));
            }
            if earlier.overlaps(device) {
                return Err(if earlier == device {
                    format!("\"{device}\" appears twice")
                } else {
                    format!("\"{earlier}\" and \"{device}\" are the same device")
                });
            }
        }
    }
    Ok(())
}

/// The entry of the inherited list that `wanted` names.
fn pick(have: &[Device], wanted: &Device, inherited: &Mask) -> Result<Device, String> {
    match wanted {
        Device::Index(i) => at(have, *i, wanted, inherited),
        Device::Tile { device, tile } => match at(have, *device, wanted, inherited)? {
            Device::Index(device) => Ok(Device::Tile {
                device,
                tile: *tile,
            }),
            whole => Err(format!(
                "\"{wanted}\" asks for a tile of \"{whole}\", which has none \
                 (inherited mask \"{inherited}\")"
            )),
        },
        Device::Gpu(id) | Device::Mig(id) => by_id(have, id, wanted, inherited),
    }
}

fn at(have: &[Device], i: u32, wanted: &Device, inherited: &Mask) -> Result<Device, String> {
    // The child may see the tiles of one device as one device with tiles or as a device each: that
    // depends on the driver's configuration, so what an index means is not known here.
    let device_of = |d: &Device| match d {
        Device::Tile { device, .. } => Some(*device),
        _ => None,
    };
    for (n, d) in have.iter().enumerate() {
        if device_of(d).is_some() && have[..n].iter().any(|e| device_of(e) == device_of(d)) {
            return Err(format!(
                "index {wanted} is ambiguous: the inherited mask \"{inherited}\" splits a \
                 device into tiles"
            ));
        }
    }
    have.get(i as usize)
        .cloned()
        .ok_or_else(|| match have.len() {
            0 => format!("\"{wanted}\" is out of range: the inherited mask hides every device"),
            1 => format!(
                "\"{wanted}\" is out of range: the inherited mask \"{inherited}\" shows one \
                 device, index 0"
            ),
            n => format!(
                "\"{wanted}\" is out of range: the inherited mask \"{inherited}\" shows {n} \
                 devices, 0 to {}",
                n - 1
            ),
        })
}

fn by_id(have: &[Device], id: &str, wanted: &Device, inherited: &Mask) -> Result<Device, String> {
    if have
        .iter()
        .any(|d| matches!(d.kind(), DeviceKind::Index | DeviceKind::Tile))
    {
        return Err(format!(
            "\"{wanted}\" cannot be looked up: the inherited mask \"{inherited}\" lists \
             indices, so ask by index"
        ));
    }
    let ids = have.iter().filter_map(|d| match d {
        Device::Gpu(full) | Device::Mig(full) if d.kind() == wanted.kind() => Some((full, d)),
        _ => None,
    });
    if ids.clone().any(|(full, _)| full == id) {
        return Ok(wanted.clone());
    }
    let mut longer = ids.clone().filter(|(full, _)| full.starts_with(id));
    match (longer.next(), longer.next()) {
        (Some((_, device)), None) => return Ok(device.clone()),
        (Some((a, _)), Some((b, _))) => {
            return Err(format!(
                "\"{wanted}\" is ambiguous: the inherited mask has \"{a}\" and \"{b}\""
            ));
        }
        (None, _) => {}
    }
    // The inherited entry may itself be a prefix. The longer id then names that device or none, so
    // passing it on cannot show another device (M1).
    if ids.clone().any(|(full, _)| id.starts_with(full.as_str())) {
        return Ok(wanted.clone());
    }
    Err(format!(
        "\"{wanted}\" is not in the inherited mask \"{inherited}\""
    ))
}
