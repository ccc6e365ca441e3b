//! The devices of this machine and their holders, as `devices list`, `devices top` and `top` print them.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::Serialize;
use shoal::Result;
use shoal::device::lease::{self, HolderState};
use shoal::device::{self, Found, Machine};

use crate::output::{Paint, age, bytes, plain};
use crate::table::{Column, Row, number, text};

/// The devices, the waiting requests, and notes on what could not be determined.
#[derive(Serialize)]
pub(crate) struct Inventory {
    pub(crate) devices: Vec<Listed>,
    waiting: Vec<Claim>,
    notes: Vec<String>,
    /// How many of the notes are about the devices themselves; those come first.
    #[serde(skip)]
    of_devices: usize,
}

#[derive(Serialize)]
pub(crate) struct Listed {
    family: &'static str,
    id: String,
    index: u32,
    /// Its number under the mask of this process; `None` if the mask hides it.
    logical: Option<u32>,
    name: String,
    memory_total_bytes: Option<u64>,
    memory_free_bytes: Option<u64>,
    utilisation_percent: Option<u8>,
    holders: Vec<Claim>,
}

/// A lease, or a request for one.
#[derive(Clone, Serialize)]
struct Claim {
    lease: String,
    /// The leased part of the device. A request has `count` instead: the number of devices that it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    uid: u32,
    pid: Option<u32>,
    command: String,
    seconds: Option<u64>,
}

impl Claim {
    fn new(holder: &lease::Holder, share: Option<f64>) -> Self {
        let since = holder.since.map(|it| SystemTime::now().duration_since(it));
        Self {
            lease: holder.id.clone(),
            share,
            count: share.is_none().then_some(holder.count).flatten(),
            uid: holder.uid,
            pid: holder.pid,
            command: holder.command.clone(),
            seconds: since.map(|it| it.unwrap_or_default().as_secs()),
        }
    }

    /// `312 train.py`, and its share if that is not all.
    fn shown(&self) -> String {
        let pid = self.pid.map_or("?".to_owned(), |it| it.to_string());
        let command = plain(&self.command);
        match self.share {
            Some(share) if share < 0.9995 => format!("{pid} {command} ({:.0} %)", share * 100.0),
            _ => format!("{pid} {command}"),
        }
    }

    fn age(&self) -> String {
        let age = |seconds| age(std::time::Duration::from_secs(seconds));
        self.seconds.map_or("?".to_owned(), age)
    }
}

impl Inventory {
    /// The devices of one family, or of all. Waits for a vendor's library, for some seconds at most.
    pub(crate) fn new(family: Option<&str>) -> Result<Self> {
        let machine = Machine::from_environment();
        let found = machine.discover(family)?;
        let mut notes = found.notes;
        let of_devices = notes.len();
        let holders = lease::holders_among(&machine, &found.devices).unwrap_or_else(|err| {
            notes.push(format!(
                "which process has which device is not known: {err}"
            ));
            Vec::new()
        });
        let mut logical: HashMap<(&str, String), u32> = HashMap::new();
        let mut families: Vec<&str> = found.devices.iter().map(|it| it.family.name()).collect();
        families.dedup();
        for family in families {
            match device::seen(&machine, family) {
                Ok(seen) => logical.extend(
                    seen.into_iter()
                        .map(|it| ((family, it.found.id), it.logical)),
                ),
                Err(err) => notes.push(err.to_string()),
            }
        }
        let devices = found.devices.into_iter().map(|it| {
            let family = it.family.name();
            let has = |holder: &lease::Holder| {
                let mut devices = holder.devices.iter();
                let device = devices.find(|(id, _)| id.eq_ignore_ascii_case(&it.id));
                device
                    .filter(|_| holder.state == HolderState::Held)
                    .map(|(_, share)| *share)
            };
            let claims = holders
                .iter()
                .filter_map(|holder| Some(Claim::new(holder, Some(has(holder)?))));
            Listed {
                holders: claims.collect(),
                logical: logical.get(&(family, it.id.clone())).copied(),
                family,
                id: it.id,
                index: it.index,
                name: it.name,
                memory_total_bytes: it.memory_total,
                memory_free_bytes: it.memory_free,
                utilisation_percent: it.utilisation,
            }
        });
        let devices: Vec<Listed> = devices.collect();
        let waiting = holders.iter().filter(|it| it.state == HolderState::Waiting);
        Ok(Self {
            devices,
            waiting: waiting.map(|it| Claim::new(it, None)).collect(),
            notes,
            of_devices,
        })
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.devices.iter().map(Listed::row).collect()
    }

    /// One line about all devices.
    pub(crate) fn summary(&self) -> String {
        let leased = self
            .devices
            .iter()
            .filter(|it| !it.holders.is_empty())
            .count();
        let (all, waiting) = (self.devices.len(), self.waiting.len());
        format!("{leased} of {all} devices are leased, {waiting} requests wait")
    }

    /// The lines below the devices.
    pub(crate) fn rest(&self) -> Vec<String> {
        let waits = self.waiting.iter().map(|it| {
            let count = it.count.map_or("some".to_owned(), |it| it.to_string());
            format!("waiting for {count}: {} since {}", it.shown(), it.age())
        });
        let notes = self.notes.iter().map(|it| format!("note: {}", plain(it)));
        waits.chain(notes).collect()
    }

    /// The notes on the devices themselves, without those on leases and masks.
    pub(crate) fn notes_of_devices(&self) -> &[String] {
        &self.notes[..self.of_devices]
    }
}

/// The processes that have devices or wait for them, for a caller that asks repeatedly. The holders' files
/// name their devices. If a holder could not write that, the vendors' libraries are asked once.
#[derive(Default)]
pub(crate) struct Holders(Option<Vec<Found>>);

impl Holders {
    pub(crate) fn look(&mut self) -> Result<Vec<lease::Holder>> {
        let machine = Machine::from_environment();
        let said = lease::holders_among(&machine, self.0.as_deref().unwrap_or_default())?;
        if self.0.is_some() || said.iter().all(|it| !it.devices.is_empty()) {
            return Ok(said);
        }
        let found = machine.discover(None).unwrap_or_default().devices;
        lease::holders_among(&machine, self.0.insert(found))
    }
}

pub(crate) const COLUMNS: [Column; 9] = [
    number("NR", 0),
    number("SEEN", 3),
    text("FAMILY", 4),
    text("NAME", 5),
    number("FREE", 1),
    number("OF", 6),
    number("LOAD", 2),
    number("AGE", 3),
    text("LEASED BY", 0),
];

impl Listed {
    pub(crate) fn family(&self) -> &'static str {
        self.family
    }

    fn row(&self) -> Row {
        let or_none = |it: Option<String>| it.unwrap_or_else(|| "-".to_owned());
        let holders: Vec<String> = self.holders.iter().map(Claim::shown).collect();
        let oldest = self.holders.iter().max_by_key(|it| it.seconds);
        let cells = vec![
            self.index.to_string(),
            or_none(self.logical.map(|it| it.to_string())),
            self.family.to_owned(),
            match self.name.is_empty() {
                true => plain(&self.id),
                false => plain(&self.name),
            },
            or_none(self.memory_free_bytes.map(bytes)),
            or_none(self.memory_total_bytes.map(bytes)),
            or_none(self.utilisation_percent.map(|it| format!("{it} %"))),
            or_none(oldest.map(Claim::age)),
            or_none((!holders.is_empty()).then(|| holders.join(", "))),
        ];
        let paint = match self.holders.is_empty() {
            true => Paint::Good,
            false => Paint::Plain,
        };
        Row { cells, paint }
    }
}
