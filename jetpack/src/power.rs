//! Power, from `/sys/class/hwmon`: what chips report in watts, and the rails
//! of a Jetson's INA3221 monitors as voltage times current.

use std::path::PathBuf;

use serde::Serialize;

use crate::absent::split;
use crate::hwmon::{Channel, Chip};
use crate::root::read_number;
use crate::{Absent, Board, Watts};

/// One measured supply.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rail {
    /// The board's name for it, for example `VDD_IN`.
    pub label: String,
    pub watts: Option<Watts>,
    /// Why `watts` is `None`.
    pub absent: Option<Absent>,
}

/// Where a rail is read, found once.
#[derive(Debug)]
pub(crate) struct Sensor {
    label: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Microwatts(PathBuf),
    Product { millivolts: PathBuf, milliamperes: PathBuf },
}

impl Sensor {
    pub(crate) fn read(&self) -> Rail {
        let (watts, absent) = split(self.watts());
        Rail { label: self.label.clone(), watts, absent }
    }

    fn watts(&self) -> Result<Watts, Absent> {
        match &self.source {
            Source::Microwatts(path) => read_number(path).map(Watts::from_microwatts),
            Source::Product { millivolts, milliamperes } => {
                let (millivolts, milliamperes) =
                    (read_number::<u32>(millivolts)?, read_number::<u32>(milliamperes)?);
                Ok(Watts::from_microwatts(u64::from(millivolts) * u64::from(milliamperes)))
            }
        }
    }
}

/// All rails, in the order of their chips and channels.
pub(crate) fn sensors(chips: &[Chip]) -> Vec<Sensor> {
    let mut sensors = Vec::new();
    for chip in chips {
        sensors.extend(rails(chip));
        sensors.extend(meters(chip, "_input"));
        sensors.extend(meters(chip, "_average"));
    }
    sensors
}

/// A channel with a label, a voltage and a current is a rail. The sum channels
/// of an INA3221 have no current of their own; unused ones are labelled `NC`.
fn rails(chip: &Chip) -> Vec<Sensor> {
    let rail = |Channel { number, label }: Channel| {
        let label = label.filter(|label| label != "NC")?;
        let milliamperes = format!("curr{number}_input");
        chip.has(&milliamperes).then(|| Sensor {
            label,
            source: Source::Product {
                millivolts: chip.path(&format!("in{number}_input")),
                milliamperes: chip.path(&milliamperes),
            },
        })
    };
    if chip.name != "ina3221" {
        return Vec::new();
    }
    chip.channels("in", "_input").into_iter().filter_map(rail).collect()
}

fn meters(chip: &Chip, suffix: &str) -> Vec<Sensor> {
    let name = |channel: &Channel| match &channel.label {
        Some(label) => format!("{} {label}", chip.name),
        None => format!("{} power{}", chip.name, channel.number),
    };
    chip.channels("power", suffix)
        .into_iter()
        // A chip may offer both; the momentary value is enough.
        .filter(|channel| {
            suffix == "_input" || !chip.has(&format!("power{}_input", channel.number))
        })
        .map(|channel| Sensor {
            label: name(&channel),
            source: Source::Microwatts(chip.path(&format!("power{}{suffix}", channel.number))),
        })
        .collect()
}

/// What the whole machine takes: the rails that together are its input.
///
/// An AGX module's `VDDQ_VDD2_1V8AO` is fed from `VIN_SYS_5V0` and would count
/// twice. A PC that measures itself does it with an ACPI power meter.
pub(crate) fn total(board: &Board, rails: &[Rail]) -> Result<Watts, Absent> {
    let inputs: &[&str] = if board.has_module("p3767") {
        &["VDD_IN"]
    } else if board.has_module("p3701") {
        &["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    } else {
        &["power_meter power1"]
    };
    inputs
        .iter()
        .map(|input| {
            let rail = rails.iter().find(|rail| rail.label == *input).ok_or(Absent::NoTotal)?;
            rail.watts.ok_or_else(|| rail.absent.clone().unwrap_or(Absent::NoTotal))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hwmon::chips;
    use crate::tree::{self, Tree};

    fn rails(tree: &Tree) -> Vec<Rail> {
        sensors(&chips(&tree.root())).iter().map(Sensor::read).collect()
    }

    fn watts(tree: &Tree) -> Vec<(String, Option<f64>)> {
        rails(tree).into_iter().map(|rail| (rail.label, rail.watts.map(Watts::watts))).collect()
    }

    #[test]
    fn a_rail_is_voltage_times_current_by_its_label() {
        assert_eq!(
            watts(&tree::orin_nano()),
            [
                ("VDD_IN".to_owned(), Some(4.64)),
                ("VDD_CPU_GPU_CV".to_owned(), Some(0.56)),
                ("VDD_SOC".to_owned(), Some(1.48)),
            ]
        );
    }

    #[test]
    fn a_pc_s_meters_report_watts() {
        assert_eq!(
            watts(&tree::pc()),
            [("amdgpu PPT".to_owned(), Some(23.5)), ("power_meter power1".to_owned(), Some(88.0))]
        );
        let tree = tree::pc();
        assert_eq!(
            total(&Board::read(&tree.root()), &rails(&tree)),
            Ok(Watts::from_milliwatts(88_000))
        );
    }

    #[test]
    fn the_total_is_what_the_module_s_input_rails_say() {
        let board = |module: &str| Board {
            compatible: vec![format!("nvidia,{module}")],
            ..Board::default()
        };
        let rail = |label: &str, milliwatts| Rail {
            label: label.to_owned(),
            watts: Some(Watts::from_milliwatts(milliwatts)),
            absent: None,
        };
        let nano = [rail("VDD_IN", 9_000), rail("VDD_SOC", 2_000)];
        let agx = [
            rail("VDD_GPU_SOC", 3_178),
            rail("VDD_CPU_CV", 794),
            rail("VIN_SYS_5V0", 4_543),
            rail("VDDQ_VDD2_1V8AO", 700),
        ];
        assert_eq!(total(&board("p3767-0003"), &nano), Ok(Watts::from_milliwatts(9_000)));
        assert_eq!(total(&board("p3701-0005"), &agx), Ok(Watts::from_milliwatts(8_515)));
        assert_eq!(total(&board("p3701-0005"), &agx[..2]), Err(Absent::NoTotal));
        assert_eq!(total(&Board::default(), &nano), Err(Absent::NoTotal));
    }

    #[test]
    fn a_rail_that_cannot_be_read_takes_the_total_with_it() {
        let tree = tree::orin_nano();
        tree.write("sys/class/hwmon/hwmon1/curr1_input", "-8\n");
        let rails = rails(&tree);
        assert_eq!((rails[0].watts, &rails[0].absent), (None, &Some(Absent::Garbled)));
        assert_eq!(total(&Board::read(&tree.root()), &rails), Err(Absent::Garbled));
    }
}
