//! The table of device families: one row describes all that differs between vendors.
//!
//! ```text
//! family ── hardware, finder, ids ──> which devices the machine has   (discover)
//!        ── layers, ends_at_unknown ──> what the process sees now   (reading.rs, then Mask::compose)
//!        ── kinds, order, counts ──> what may be requested
//!        ── variable, style, hide ──> what is written
//!        ── with, neutral ──> what has to change with it
//! ```
//!
//! A row contains only what the vendor's documentation or source says: if no value is known that hides every
//! device, `hide` is `None` and requesting it is an error.

use super::mask::DeviceKind;
use super::reading::Reading;

/// A vendor's devices and the environment variable that masks them.
///
/// ```
/// let cuda = shoal::device::family("cuda")?;
/// assert_eq!(cuda.variable(), "CUDA_VISIBLE_DEVICES");
/// # Ok::<(), shoal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub(super) name: &'static str,
    /// The variable that is written.
    pub(super) variable: &'static str,
    /// The variables that are read, the layer nearest to the hardware first. An index of a layer counts
    /// within what the layer below it shows. Within a layer, the first variable that hides anything is used.
    pub(super) layers: &'static [&'static [Source]],
    pub(super) kinds: &'static [DeviceKind],
    pub(super) style: Style,
    /// The value that hides every device.
    pub(super) hide: Option<&'static str>,
    pub(super) order: Order,
    /// The numbers of devices that a process may have, and what to set for each; empty if any number
    /// is allowed. `None` removes the variable.
    pub(super) counts: &'static [(usize, Settings)],
    /// Set together with the mask, unless already set. They say in which order the program counts its devices.
    pub(super) with: &'static [(&'static str, &'static str)],
    /// Variables whose indices would count within the new mask: set to this value, or removed, if they are
    /// set. Their restriction is part of the composed mask.
    pub(super) neutral: Settings,
    /// Libraries that read the variable once, when they are loaded.
    pub(super) runtimes: &'static [&'static str],
    /// The family whose devices these are, if it is another name for them.
    pub(super) hardware: &'static str,
    pub(super) finder: Finder,
    pub(super) ids: Ids,
    /// An entry of a mask that names no device of the machine ends the list, and a device that is named twice
    /// empties it. Other runtimes skip such entries.
    pub(super) ends_at_unknown: bool,
}

/// How the devices of a machine are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finder {
    Nvidia,
    Amd,
    Intel,
    /// By the vendor's number on the bus.
    Bus(Chips),
    /// The same, for a runtime that counts the cores of the devices.
    Cores(Chips),
}

/// How to recognise devices on the bus, by the public list of PCI ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chips {
    pub(super) vendor: u64,
    /// Its device ids; empty for all accelerators and display controllers of the vendor. A vendor that has network
    /// or disk controllers as well has a list.
    pub(super) devices: &'static [u64],
}

/// All accelerators of a vendor.
const fn vendor(vendor: u64) -> Finder {
    Finder::Bus(Chips {
        vendor,
        devices: &[],
    })
}

/// How the ids of devices are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// The address on the bus.
    Bus,
    /// `GPU-` and a UUID.
    Uuid,
    /// `GPU-` and 16 hexadecimal digits, which the runtime compares in upper case.
    Unique,
}

/// Variables and their values; `None` removes the variable.
pub(super) type Settings = &'static [(&'static str, Option<&'static str>)];

/// A variable that masks devices, and how its runtime reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) variable: &'static str,
    pub(super) reading: Reading,
    pub(super) style: Style,
}

/// The order in which a runtime shows the devices of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As the list has them.
    Listed,
    /// As the list has them; the runtime takes ascending indices only.
    Ascending,
    /// That of the hardware, whatever the list's order is: lists are sorted when they are read and written.
    Physical,
}

/// How a list is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `0,1,2`
    List,
    /// `0-2` where the list is a range of two or more, else as `List`.
    Range,
    /// One prefix for the whole: `level_zero:0,1,2`.
    Once(&'static str),
    /// A prefix for each entry: `npu:0,npu:1`.
    Each(&'static str),
}

impl Family {
    /// Its name, for `family` parameters and `--family`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The environment variable that a mask is written to.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// Whether its runtime shows devices in ascending order only.
    pub(crate) fn is_ascending(&self) -> bool {
        self.order != Order::Listed
    }

    /// The variables that its runtime reads.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        let sources = self.layers.iter().flat_map(|layer| layer.iter());
        sources.map(|source| source.variable)
    }

    /// The kinds of entry its masks may hold.
    pub fn kinds(&self) -> &'static [DeviceKind] {
        self.kinds
    }

    /// The value that hides every device, if one is known.
    pub fn hiding_value(&self) -> Option<&'static str> {
        self.hide
    }
}

const fn source(variable: &'static str, reading: Reading) -> Source {
    Source {
        variable,
        reading,
        style: Style::List,
    }
}

/// A row with one variable and plain indices, for a family of which nothing else is known.
const fn plain(
    name: &'static str,
    variable: &'static str,
    layers: Layers,
    finder: Finder,
) -> Family {
    Family {
        name,
        variable,
        layers,
        kinds: &[DeviceKind::Index],
        style: Style::List,
        hide: None,
        order: Order::Listed,
        counts: &[],
        with: &[],
        neutral: &[],
        runtimes: &[],
        hardware: name,
        finder,
        ids: Ids::Bus,
        ends_at_unknown: false,
    }
}

type Layers = &'static [&'static [Source]];

const CUDA: Layers = &[&[source("CUDA_VISIBLE_DEVICES", Reading::Cuda)]];

/// HIP counts within what ROCr shows, and reads CUDA's variable if its own is unset or empty. OpenCL's
/// variable is the last: not every version of HIP reads it, and the mask shows only devices that a version
/// which reads it would show.
const ROCM: Layers = &[
    &[source("ROCR_VISIBLE_DEVICES", Reading::Rocr)],
    &[
        source("HIP_VISIBLE_DEVICES", Reading::Hip),
        source("CUDA_VISIBLE_DEVICES", Reading::Hip),
        source("GPU_DEVICE_ORDINAL", Reading::Hip),
    ],
];

/// SYCL counts within what Level Zero shows. Both filter the list of all devices, and keep its order.
const LEVEL_ZERO: Layers = &[
    &[source("ZE_AFFINITY_MASK", Reading::PlainOrUnset)],
    &[Source {
        variable: "ONEAPI_DEVICE_SELECTOR",
        reading: Reading::PlainOrUnset,
        style: Style::Once("level_zero:"),
    }],
];

/// Every family, in the order in which they are listed.
pub(super) static FAMILIES: &[Family] = &[
    Family {
        kinds: &[DeviceKind::Index, DeviceKind::Gpu, DeviceKind::Mig],
        // An empty value hides as well, but HIP reads it as unset, and so do scripts that
        // test a variable for emptiness. "-1" is no device to any runtime.
        hide: Some("-1"),
        // The default order puts the fastest device first and leaves the rest undefined;
        // indices mean what nvidia-smi shows only in this one.
        with: &[("CUDA_DEVICE_ORDER", "PCI_BUS_ID")],
        runtimes: &["libcuda.so"],
        ids: Ids::Uuid,
        ends_at_unknown: true,
        ..plain("cuda", "CUDA_VISIBLE_DEVICES", CUDA, Finder::Nvidia)
    },
    Family {
        kinds: &[DeviceKind::Index, DeviceKind::Gpu],
        hide: Some("-1"),
        neutral: &[
            ("HIP_VISIBLE_DEVICES", None),
            ("CUDA_VISIBLE_DEVICES", None),
            ("GPU_DEVICE_ORDINAL", None),
        ],
        runtimes: &["libhsa-runtime64.so"],
        ids: Ids::Unique,
        ..plain("rocm", "ROCR_VISIBLE_DEVICES", ROCM, Finder::Amd)
    },
    Family {
        // Empty means unset here.
        hide: Some("-1"),
        neutral: &[("ROCR_VISIBLE_DEVICES", None), ("GPU_DEVICE_ORDINAL", None)],
        runtimes: &["libamdhip64.so"],
        hardware: "rocm",
        ids: Ids::Unique,
        ..plain("hip", "HIP_VISIBLE_DEVICES", ROCM, Finder::Amd)
    },
    Family {
        kinds: &[DeviceKind::Index, DeviceKind::Tile],
        order: Order::Physical,
        // The selector also chooses the backend: the choice is kept, and its indices are removed.
        neutral: &[("ONEAPI_DEVICE_SELECTOR", Some("level_zero:*"))],
        runtimes: &["libze_loader.so"],
        ..plain("level_zero", "ZE_AFFINITY_MASK", LEVEL_ZERO, Finder::Intel)
    },
    Family {
        kinds: &[DeviceKind::Index, DeviceKind::Tile],
        style: Style::Once("level_zero:"),
        order: Order::Physical,
        neutral: &[("ZE_AFFINITY_MASK", None)],
        runtimes: &["libsycl.so"],
        hardware: "level_zero",
        ..plain(
            "oneapi",
            "ONEAPI_DEVICE_SELECTOR",
            LEVEL_ZERO,
            Finder::Intel,
        )
    },
    Family {
        // An invalid id ends the list.
        hide: Some("-1"),
        order: Order::Ascending,
        runtimes: &["libascendcl.so"],
        ..plain(
            "ascend",
            "ASCEND_RT_VISIBLE_DEVICES",
            &[&[source("ASCEND_RT_VISIBLE_DEVICES", Reading::Ascend)]],
            vendor(0x19e5),
        )
    },
    Family {
        style: Style::Range,
        runtimes: &["libnrt.so"],
        ..plain(
            "neuron",
            "NEURON_RT_VISIBLE_CORES",
            &[&[source("NEURON_RT_VISIBLE_CORES", Reading::Plain)]],
            Finder::Cores(Chips {
                vendor: 0x1d0f,
                devices: &[0x7064, 0x7164, 0x7264, 0x7364],
            }),
        )
    },
    Family {
        counts: &[
            (
                1,
                &[
                    ("TPU_CHIPS_PER_HOST_BOUNDS", Some("1,1,1")),
                    ("TPU_HOST_BOUNDS", Some("1,1,1")),
                ],
            ),
            (
                2,
                &[
                    ("TPU_CHIPS_PER_HOST_BOUNDS", Some("1,2,1")),
                    ("TPU_HOST_BOUNDS", Some("1,1,1")),
                ],
            ),
            (4, WHOLE_TPU_HOST),
            (8, WHOLE_TPU_HOST),
        ],
        runtimes: &["libtpu.so"],
        ..plain(
            "tpu",
            "TPU_VISIBLE_CHIPS",
            &[&[source("TPU_VISIBLE_CHIPS", Reading::Plain)]],
            Finder::Bus(Chips {
                vendor: 0x1ae0,
                devices: &[0x0027, 0x0056, 0x005e, 0x0062, 0x0063, 0x006f],
            }),
        )
    },
    plain(
        "habana",
        "HABANA_VISIBLE_MODULES",
        &[&[source("HABANA_VISIBLE_MODULES", Reading::Plain)]],
        vendor(0x1da3),
    ),
    Family {
        hide: Some("-1"),
        // The older name wins over the newer one.
        neutral: &[("CN_VISIBLE_DEVICES", None)],
        ..plain(
            "mlu",
            "MLU_VISIBLE_DEVICES",
            &[&[
                source("CN_VISIBLE_DEVICES", Reading::Mlu),
                source("MLU_VISIBLE_DEVICES", Reading::Mlu),
            ]],
            vendor(0xcabc),
        )
    },
    plain(
        "musa",
        "MUSA_VISIBLE_DEVICES",
        &[&[source("MUSA_VISIBLE_DEVICES", Reading::Plain)]],
        vendor(0x1ed5),
    ),
    plain(
        "supa",
        "SUPA_VISIBLE_DEVICES",
        &[&[source("SUPA_VISIBLE_DEVICES", Reading::Plain)]],
        vendor(0x1ee0),
    ),
    Family {
        order: Order::Physical,
        ..plain(
            "tenstorrent",
            "TT_VISIBLE_DEVICES",
            &[&[source("TT_VISIBLE_DEVICES", Reading::Plain)]],
            vendor(0x1e52),
        )
    },
    Family {
        style: Style::Each("npu:"),
        ..plain(
            "furiosa",
            "FURIOSA_DEVICES",
            &[&[Source {
                variable: "FURIOSA_DEVICES",
                reading: Reading::Plain,
                style: Style::Each("npu:"),
            }]],
            vendor(0x1ed2),
        )
    },
    plain(
        "metax",
        "CUDA_VISIBLE_DEVICES",
        &[&[source("CUDA_VISIBLE_DEVICES", Reading::Plain)]],
        vendor(0x9999),
    ),
];

/// From four chips on, the runtime finds the bounds itself.
const WHOLE_TPU_HOST: Settings = &[
    ("TPU_CHIPS_PER_HOST_BOUNDS", None),
    ("TPU_HOST_BOUNDS", None),
];
