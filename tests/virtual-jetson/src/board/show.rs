//! What a board's sensors make of its state.

use super::{Board, Life};
use crate::power::Load;
use crate::readings::{Rail, Readings};
use crate::rounding::{sensor_step, whole};

/// Fitted: how much cooler than the hottest each zone is. The part that works
/// is the hottest.
const AT_REST_K: f64 = 2.0;
const SOC_K: [f64; 3] = [3.0, 2.0, 3.5];
const BOARD_K: f64 = 10.0;

/// Published: the converter's steps.
const VOLTAGE_STEP_MV: f64 = 8.0;
const CURRENT_STEP_MA: f64 = 8.0;
const AGX_CURRENT_STEP_MA: f64 = 20.0;
/// AGX: what its 5 V rails measure.
const FIVE_VOLTS: f64 = 5.0;

/// From here on the GPU's governor leaves the lowest clock. Guessed.
const BUSY: f64 = 0.05;

impl Board {
    /// What the sensors show now.
    #[must_use]
    pub fn readings(&self) -> Readings {
        let die = self.heat.die;
        let cpu_leads = self.load.gpu_busy < BUSY;
        let (cpu_k, gpu_k) = if cpu_leads { (0.0, AT_REST_K) } else { (AT_REST_K, 0.0) };
        let rails = self.rails();
        let measured = if self.module.is_agx() { &rails[..3] } else { &rails[..1] };
        let cap = self.set.gpu_hz;
        let busy = self.load.gpu_busy >= BUSY;
        let clocks = self.clocks();
        Readings {
            uptime_s: self.uptime_s,
            off: match self.life {
                Life::Off(why) => Some(why),
                Life::On | Life::ShuttingDown { .. } => None,
            },
            tj_celsius: sensor_step(die),
            cpu_celsius: sensor_step(die - cpu_k),
            gpu_celsius: sensor_step(die - gpu_k),
            soc_celsius: SOC_K.map(|k| sensor_step(die - k)),
            board_celsius: sensor_step(self.heat.sink.min(die - BOARD_K)),
            rails,
            watts: measured.iter().map(|rail| rail.watts()).sum(),
            gpu_hz: if busy { cap } else { self.module.gpu.hz[0].min(cap) },
            gpu_cap_hz: cap,
            gpu_busy: self.load.gpu_busy,
            emc_hz: self.set.emc_hz,
            emc_busy: self.emc_busy(),
            cpu_khz: self.set.cpu_khz,
            cpu_effective_khz: small(
                f64::from(self.set.cpu_khz) * self.throttle.kept() * self.verdict.kept,
            ),
            cores_busy: self.load.cores_busy,
            fan_pwm: u8::try_from(whole(self.fan.told.pwm)).unwrap_or(u8::MAX),
            fan_rpm: small(self.fan.rpm),
            over_currents: self.shown,
            throttle_steps: u32::try_from(self.throttle.steps).unwrap_or(u32::MAX),
            firmware_throttled: self.throttle.firmware,
            memory_total_bytes: self.module.memory.total_bytes(),
            memory_available_bytes: self.module.memory.available_bytes(&self.held),
            memory_model_bytes: whole(self.held.model),
            die_celsius: die,
            true_watts: self.draw.total,
            gpu_effective_hz: clocks.gpu_effective_hz,
        }
    }

    /// The load that the board is under now.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    fn rails(&self) -> [Rail; 4] {
        let (volts, step) = (self.verdict.volts, CURRENT_STEP_MA);
        let [a, b, c, d] = self.rails;
        if self.module.is_agx() {
            let step = AGX_CURRENT_STEP_MA;
            let (input, five) = (|w| rail(w, volts, step), |w| rail(w, FIVE_VOLTS, step));
            [input(a), input(b), five(c), five(d)]
        } else {
            [rail(a, volts, step), rail(b, volts, step), rail(c, volts, step), Rail::default()]
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a clock fits a float exactly")]
    fn emc_busy(&self) -> f64 {
        let most = self.set.emc_hz as f64 * self.module.memory.bytes_per_clock.get();
        (self.load.bytes_per_s / most).min(1.0)
    }
}

fn rail(watts: f64, volts: f64, step_ma: f64) -> Rail {
    Rail {
        millivolts: stepped(volts * 1e3, VOLTAGE_STEP_MV),
        milliamperes: stepped(watts / volts * 1e3, step_ma),
    }
}

/// The nearest multiple of `step`, a whole number.
fn stepped(value: f64, step: f64) -> u32 {
    small(f64::from(small(value / step)) * step)
}

fn small(value: f64) -> u32 {
    u32::try_from(whole(value)).unwrap_or(u32::MAX)
}
