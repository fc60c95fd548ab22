//! The chips below `/sys/class/hwmon`: power monitors and over-current counters.

use std::io;

use super::Tree;
use super::heat::odd_second;
use crate::faults::{Faults, Sense};
use crate::readings::{Rail, Readings};
use crate::rounding::whole;

/// A channel that nothing is connected to.
const UNUSED: &str = "NC";

/// How far a jumping current jumps.
const JUMP_MA: u32 = 4000;

/// A power monitor: its chip's place in the numbers, address and three rails.
struct Monitor {
    chip: usize,
    address: &'static str,
    /// Label, and the place among [`Readings::rails`].
    channels: [(&'static str, Option<usize>); 3],
    shunt_microohm: u32,
}

const P3767: [Monitor; 1] = [Monitor {
    chip: 1,
    address: "1-0040",
    channels: [("VDD_IN", Some(0)), ("VDD_CPU_GPU_CV", Some(1)), ("VDD_SOC", Some(2))],
    shunt_microohm: 5000,
}];
const P3701: [Monitor; 2] = [
    Monitor {
        chip: 1,
        address: "1-0040",
        channels: [("VDD_GPU_SOC", Some(0)), ("VDD_CPU_CV", Some(1)), ("VIN_SYS_5V0", Some(2))],
        shunt_microohm: 2000,
    },
    Monitor {
        chip: 4,
        address: "1-0041",
        channels: [(UNUSED, None), ("VDDQ_VDD2_1V8AO", Some(3)), (UNUSED, None)],
        shunt_microohm: 2000,
    },
];

impl Tree {
    /// The directory of the chip at this place of the numbers.
    pub(super) fn chip(&self, at: usize) -> String {
        format!("sys/class/hwmon/hwmon{}", self.numbers.chips[at])
    }

    fn monitors(&self) -> &'static [Monitor] {
        if self.module.is_agx() { &P3701 } else { &P3767 }
    }

    pub(super) fn power_once(&mut self, first: &Readings) -> io::Result<()> {
        for (at, name) in [(0, "pwmfan"), (2, "pwm_tach"), (3, "soctherm_oc")] {
            self.files.line(&format!("{}/name", self.chip(at)), name)?;
        }
        for counter in 1..=3 {
            self.files.line(&format!("{}/oc{counter}_throt_en", self.chip(3)), 1)?;
        }
        for monitor in self.monitors() {
            self.monitor_once(monitor, first)?;
        }
        Ok(())
    }

    fn monitor_once(&mut self, monitor: &Monitor, first: &Readings) -> io::Result<()> {
        let dir = self.chip(monitor.chip);
        // As NVIDIA's script sets it at each boot, from the voltage of the moment.
        let volts = f64::from(first.rails[0].millivolts.max(1)) / 1e3;
        let limit = whole(self.module.supply.limit.get() * 1e3 / volts / 8.0) * 8;
        let line = |tree: &mut Self, file: &str, value: &dyn std::fmt::Display| {
            tree.files.line(&format!("{dir}/{file}"), value)
        };
        line(self, "name", &"ina3221")?;
        line(self, "samples", &512)?;
        line(self, "update_interval", &430)?;
        line(self, "in7_label", &"sum of shunt voltages")?;
        line(self, "curr4_crit", &limit)?;
        line(self, "curr4_crit_alarm", &0)?;
        for (channel, (label, _)) in (1..).zip(&monitor.channels) {
            line(self, &format!("in{channel}_label"), label)?;
            line(self, &format!("in{channel}_enable"), &u8::from(*label != UNUSED))?;
            line(self, &format!("shunt{channel}_resistor"), &monitor.shunt_microohm)?;
            let limited = *label == "VDD_IN";
            let most = if limited { limit } else { 32_760 };
            for kind in ["crit", "max"] {
                line(self, &format!("curr{channel}_{kind}"), &most)?;
                line(self, &format!("curr{channel}_{kind}_alarm"), &0)?;
            }
        }
        let number = self.numbers.chips[monitor.chip];
        let bus = format!("sys/bus/i2c/drivers/ina3221/{}/hwmon", monitor.address);
        self.files.link(
            &format!("{bus}/hwmon{number}"),
            &format!("../../../../../../class/hwmon/hwmon{number}"),
        )
    }

    pub(super) fn show_power(&mut self, readings: &Readings, faults: &Faults) -> io::Result<()> {
        for monitor in self.monitors() {
            self.show_monitor(monitor, readings, faults)?;
        }
        for (counter, events) in (1..).zip(readings.over_currents) {
            self.files.line(&format!("{}/oc{counter}_event_cnt", self.chip(3)), events)?;
            let debug = format!("sys/kernel/debug/bpmp/debug/soctherm/oc{}", counter - 1);
            self.files.line(&format!("{debug}/event_cnt"), events)?;
        }
        Ok(())
    }

    fn show_monitor(
        &mut self,
        monitor: &Monitor,
        readings: &Readings,
        faults: &Faults,
    ) -> io::Result<()> {
        let dir = self.chip(monitor.chip);
        let mut sum_ma = 0;
        for (channel, (label, rail)) in (1u32..).zip(monitor.channels) {
            let fault = faults.of(label);
            let mut shown = rail.map_or(Rail::default(), |rail| readings.rails[rail]);
            match fault {
                Some(Sense::Cold) => shown.milliamperes = 0,
                Some(Sense::Jumping) if odd_second(readings) => shown.milliamperes += JUMP_MA,
                _ => {}
            }
            sum_ma += shown.milliamperes;
            let shunt = shown.milliamperes * monitor.shunt_microohm / 1000;
            self.sense(&format!("{dir}/in{channel}_input"), shown.millivolts, fault)?;
            self.sense(&format!("{dir}/curr{channel}_input"), shown.milliamperes, fault)?;
            self.files.line(&format!("{dir}/in{}_input", channel + 3), shunt)?;
        }
        self.files.line(&format!("{dir}/curr4_input"), sum_ma)?;
        self.files.line(&format!("{dir}/in7_input"), sum_ma * monitor.shunt_microohm / 1000)
    }
}
