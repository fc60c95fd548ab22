//! Fans, from `/sys/class/hwmon`: how fast they turn and how fast they are told to.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::group::Sensors;
use crate::hwmon::{self, Chip};
use crate::root::read_number;
use crate::{Absent, Root};

/// One fan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fan {
    pub name: String,
    /// Turns a minute, where there is a tachometer.
    pub rpm: Option<u32>,
    /// What the fan is told: 0 is off, 1 is full speed.
    pub drive_share: Option<f64>,
    /// Why both are `None`, or why the tachometer could not be read.
    pub absent: Option<Absent>,
}

/// Where a fan is read, found now and then.
#[derive(Debug, Clone)]
struct Sensor {
    name: String,
    rpm: Option<PathBuf>,
    pwm: Option<PathBuf>,
}

/// All fans, in the order of their chips and channels.
#[derive(Debug, Clone)]
pub(crate) struct Fans {
    root: Root,
    sensors: Vec<Sensor>,
}

impl Fans {
    pub(crate) fn new(root: &Root) -> Self {
        Self { root: root.clone(), sensors: Vec::new() }
    }
}

impl Sensors for Fans {
    type Reading = Vec<Fan>;

    fn find(&mut self) {
        self.sensors = sensors(&hwmon::chips(&self.root));
    }

    fn read(&mut self, _: Instant) -> Vec<Fan> {
        self.sensors.iter().map(Sensor::read).collect()
    }

    fn silence(fans: &mut Vec<Fan>, absent: &Absent) {
        for fan in fans {
            (fan.rpm, fan.drive_share, fan.absent) = (None, None, Some(absent.clone()));
        }
    }
}

impl Sensor {
    fn read(&self) -> Fan {
        let rpm = self.rpm.as_deref().map(read_number::<u32>);
        let pwm = self.pwm.as_deref().map(read_number::<u8>);
        let absent = [
            rpm.as_ref().and_then(|r| r.as_ref().err()),
            pwm.as_ref().and_then(|r| r.as_ref().err()),
        ]
        .into_iter()
        .flatten()
        .next()
        .cloned();
        Fan {
            name: self.name.clone(),
            rpm: rpm.and_then(Result::ok),
            drive_share: pwm.and_then(Result::ok).map(|pwm| f64::from(pwm) / f64::from(u8::MAX)),
            absent,
        }
    }
}

fn sensors(chips: &[Chip]) -> Vec<Sensor> {
    let mut fans: Vec<Sensor> = chips.iter().flat_map(chip_fans).collect();
    // A Jetson's fan is two chips: one drives it, the other counts its turns.
    let tachometer = chips.iter().find(|chip| chip.name == "pwm_tach" && chip.has("rpm"));
    if let Some(chip) = tachometer {
        let rpm = Some(chip.path("rpm"));
        match fans.iter_mut().find(|fan| fan.name == "pwmfan" && fan.rpm.is_none()) {
            Some(fan) => fan.rpm = rpm,
            None => fans.push(Sensor { name: chip.name.clone(), rpm, pwm: None }),
        }
    }
    fans
}

fn chip_fans(chip: &Chip) -> Vec<Sensor> {
    let mut fans: Vec<Sensor> = chip
        .channels("fan", "_input")
        .into_iter()
        .map(|channel| {
            let (number, pwm) = (channel.number, format!("pwm{}", channel.number));
            let label = channel.label.unwrap_or_else(|| format!("fan{number}"));
            Sensor {
                name: format!("{} {label}", chip.name),
                rpm: Some(chip.path(&format!("fan{number}_input"))),
                pwm: chip.has(&pwm).then(|| chip.path(&pwm)),
            }
        })
        .collect();
    if chip.name == "pwmfan" && fans.is_empty() && chip.has("pwm1") {
        fans.push(Sensor { name: chip.name.clone(), rpm: None, pwm: Some(chip.path("pwm1")) });
    }
    fans
}

/// What NVIDIA's fan control follows: the profile it is configured to start with.
pub(crate) fn profile(root: &Root) -> Option<String> {
    let text = root.read("etc/nvfancontrol.conf").ok()?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "FAN_DEFAULT_PROFILE");
    words.nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwmon::chips;
    use crate::tree;

    fn fans(tree: &tree::Tree) -> Vec<Fan> {
        sensors(&chips(&tree.root())).iter().map(Sensor::read).collect()
    }

    #[test]
    fn a_jetson_s_driver_and_tachometer_are_one_fan() {
        let drive_share = Some(88.0 / 255.0);
        let fan = Fan { name: "pwmfan".into(), rpm: Some(1756), drive_share, absent: None };
        assert_eq!(fans(&tree::orin_nano()), [fan]);
    }

    #[test]
    fn a_pc_s_fans_have_labels_or_numbers() {
        let fan = |name: &str, rpm, drive_share| Fan {
            name: name.into(),
            rpm,
            drive_share,
            absent: None,
        };
        assert_eq!(
            fans(&tree::pc()),
            [fan("nct6775 CPU", Some(900), Some(0.2)), fan("nct6775 fan2", Some(0), None)]
        );
    }

    #[test]
    fn the_profile_is_the_one_that_is_configured() {
        assert_eq!(profile(&tree::orin_nano().root()).as_deref(), Some("quiet"));
        assert_eq!(profile(&tree::pc().root()), None);
    }

    #[test]
    fn a_drive_beyond_its_scale_is_no_reading() {
        let tree = tree::orin_nano();
        tree.write("sys/class/hwmon/hwmon0/pwm1", "256\n");
        let fan = fans(&tree).remove(0);
        assert_eq!(
            (fan.rpm, fan.drive_share, fan.absent),
            (Some(1756), None, Some(Absent::Garbled))
        );
    }
}
