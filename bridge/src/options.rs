//! The objects of a bridge as its arguments name them: `jobs:replicas=3,max-messages=100000`.

use std::str::FromStr;
use std::time::Duration;

use shoal::Kind;

use crate::error::{Error, Result};
use crate::settings::Choices;

/// A queue or map to carry, and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The object's name, here and on all machines.
    pub name: String,
    /// Settings of its stream or bucket.
    pub choices: Choices,
    /// How many messages of the server may be in the local queue and not acked. `None`: 1024.
    pub in_flight: Option<usize>,
    /// How often a message is delivered before it is a dead letter. `None`: the number with which the local queue
    /// was created, or no limit.
    pub max_attempts: Option<u8>,
    /// For a map: whether a set waits until the server has stored it.
    pub sets_wait: bool,
    /// For a map that was not bridged before: whether its present keys are removed.
    pub discard: bool,
}

/// The longest name of an object with a relay, in bytes.
const LONGEST: usize = 192;
/// The longest time of a setting: ten years. The server counts nanoseconds, up to 292 years.
const LONGEST_TIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// What a queue's dead letters have behind its name.
const DEAD_LETTERS: &str = ".dead";

/// The settings that [`Carried::from_str`] knows.
const KNOWN: &str = "there is no such setting. A queue has replicas, max-messages, max-bytes, dedup, ack-wait, in-flight and \
                     max-attempts; a map has replicas, max-bytes, dedup, sets-wait and discard";

impl Carried {
    /// An object with default settings.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            choices: Choices::default(),
            in_flight: None,
            max_attempts: None,
            sets_wait: false,
            discard: false,
        }
    }

    /// An error if no object of this kind can have this name and be carried.
    pub(crate) fn check_name(&self, kind: Kind) -> Result<()> {
        let refused = |why: &str| Err(Error::invalid(format!("name {:?}", self.name), why));
        // It does not have to exist, but an invalid name is refused first.
        match shoal::stat(&self.name) {
            // Of the name, or of the variable that names the directory of all objects.
            Err(shoal::Error::Invalid { what, why }) if what != "name" => {
                return Err(Error::invalid(what, why));
            }
            Err(shoal::Error::Invalid { why, .. }) => return refused(&why),
            Ok(info) => match info.kind {
                Some(found) if found != kind && !info.stale => {
                    return refused(&format!("it is a {found}, not a {kind}"));
                }
                _ => {}
            },
            Err(_) => {}
        }
        let most = match self.max_attempts {
            Some(_) => LONGEST - DEAD_LETTERS.len(),
            None => LONGEST,
        };
        match self.name.len() > most {
            true => refused(&format!(
                "it has {} bytes, the limit is {most}",
                self.name.len()
            )),
            false => Ok(()),
        }
    }

    /// An error if something was chosen that a queue does not have.
    pub(crate) fn check_queue(&self) -> Result<()> {
        self.check_kind(
            "queue",
            &[("sets-wait", self.sets_wait), ("discard", self.discard)],
        )
    }

    /// An error if something was chosen that a map does not have.
    pub(crate) fn check_map(&self) -> Result<()> {
        let choices = &self.choices;
        self.check_kind(
            "map",
            &[
                ("max-messages", choices.max_messages.is_some()),
                ("ack-wait", choices.ack_wait.is_some()),
                ("in-flight", self.in_flight.is_some()),
                ("max-attempts", self.max_attempts.is_some()),
            ],
        )
    }

    fn check_kind(&self, kind: &str, others: &[(&str, bool)]) -> Result<()> {
        match others.iter().find(|(_, is_chosen)| *is_chosen) {
            Some((setting, _)) => Err(Error::invalid(
                format!("{setting} of {}", self.name),
                format!("a {kind} has no such setting"),
            )),
            None => Ok(()),
        }
    }
}

impl FromStr for Carried {
    type Err = Error;

    /// `name`, or `name:setting=value,…`. Times are `500ms`, `30s`, `10m` or `2h`; sizes are bytes, or
    /// `64KiB`, `10MiB`, `2GiB`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Error::invalid(
                format!("object {text:?}"),
                "its name is empty",
            ));
        }
        let mut carried = Self::new(name);
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let what = || format!("{key} of {name}");
            let bad = |why: &str| Error::invalid(what(), format!("{value:?} is {why}"));
            let number = || value.parse::<u64>().map_err(|_| bad("not a number"));
            let time = || {
                duration(value)
                    .ok_or_else(|| bad("not a time up to ten years, such as 500ms, 30s, 10m or 2h"))
            };
            match key {
                "replicas" => match number()? {
                    replicas @ 1..=5 => carried.choices.replicas = Some(replicas as usize),
                    _ => return Err(bad("not 1 to 5")),
                },
                "max-messages" => {
                    let max = i64::try_from(number()?).ok().filter(|max| *max > 0);
                    carried.choices.max_messages = Some(max.ok_or_else(|| bad("not above 0"))?);
                }
                "max-bytes" => {
                    let max = bytes(value).filter(|max| *max > 0);
                    let max = max.ok_or_else(|| bad("not a size, such as 65536, 64KiB or 2GiB"))?;
                    carried.choices.max_bytes = Some(max);
                }
                "dedup" => match time()? {
                    // The server's minimum.
                    window if window >= Duration::from_millis(100) => {
                        carried.choices.dedup = Some(window);
                    }
                    _ => return Err(bad("below 100ms")),
                },
                "ack-wait" => match time()? {
                    wait if wait >= Duration::from_secs(1) => carried.choices.ack_wait = Some(wait),
                    _ => return Err(bad("below a second")),
                },
                "in-flight" => match number()? {
                    most @ 1..=100_000 => carried.in_flight = Some(most as usize),
                    _ => return Err(bad("not 1 to 100000")),
                },
                "max-attempts" => {
                    let most = u8::try_from(number()?).ok().filter(|most| *most > 0);
                    carried.max_attempts = Some(most.ok_or_else(|| bad("not 1 to 255"))?);
                }
                "sets-wait" if value.is_empty() => carried.sets_wait = true,
                "discard" if value.is_empty() => carried.discard = true,
                "sets-wait" | "discard" => return Err(bad("not expected: it has no value")),
                _ => return Err(Error::invalid(what(), KNOWN)),
            }
        }
        Ok(carried)
    }
}

fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let time = Duration::from_millis(number.checked_mul(ms)?);
    (time <= LONGEST_TIME).then_some(time)
}

/// A size as settings have it: bytes, or `64KiB`, `10MiB`, `2GiB`.
pub fn bytes(text: &str) -> Option<i64> {
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: i64 = number.parse().ok()?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_with_its_settings() {
        let jobs: Carried = "jobs".parse().unwrap();
        assert_eq!(jobs, Carried::new("jobs"));
        let text = "jobs:replicas=3,max-messages=10,max-bytes=2MiB,dedup=5m,ack-wait=30s,in-flight=7,max-attempts=4";
        let jobs: Carried = text.parse().unwrap();
        let choices = Choices {
            replicas: Some(3),
            max_messages: Some(10),
            max_bytes: Some(2 << 20),
            dedup: Some(Duration::from_secs(300)),
            ack_wait: Some(Duration::from_secs(30)),
        };
        assert_eq!(
            (jobs.choices, jobs.in_flight, jobs.max_attempts),
            (choices, Some(7), Some(4))
        );
    }

    #[test]
    fn a_setting_of_the_other_kind_is_refused() {
        for setting in ["sets-wait", "discard", "replicas=3", "dedup=1s"] {
            let carried: Carried = format!("config:{setting}").parse().unwrap();
            assert!(carried.check_map().is_ok());
            let is_both = setting.contains('=');
            assert_eq!(carried.check_queue().is_ok(), is_both, "{setting}");
        }
        for setting in [
            "max-messages=1",
            "ack-wait=1s",
            "in-flight=1",
            "max-attempts=1",
        ] {
            let carried: Carried = format!("jobs:{setting}").parse().unwrap();
            assert!(carried.check_queue().is_ok());
            let why = carried.check_map().unwrap_err().to_string();
            let name = setting.split('=').next().unwrap();
            assert!(why.contains(&format!("{name} of jobs")), "{why}");
        }
    }

    #[test]
    fn an_error_names_what_is_refused() {
        for (text, word) in [
            (":replicas=3", "empty"),
            ("jobs:replicas=9", "1 to 5"),
            ("jobs:replicas=three", "three"),
            ("jobs:max-messages=0", "above 0"),
            ("jobs:max-bytes=2XB", "2XB"),
            ("jobs:ack-wait=30", "not a time"),
            ("jobs:ack-wait=10ms", "below a second"),
            ("jobs:dedup=0s", "below 100ms"),
            ("jobs:dedup=9999999h", "up to ten years"),
            ("jobs:ack-wait=99999999999999999999h", "up to ten years"),
            ("jobs:in-flight=0", "1 to 100000"),
            ("jobs:max-attempts=256", "1 to 255"),
            ("jobs:speed=9", "A queue has replicas"),
            ("config:discard=yes", "no value"),
        ] {
            let why = text.parse::<Carried>().unwrap_err().to_string();
            assert!(why.contains(word), "{text}: {why}");
        }
    }
}
