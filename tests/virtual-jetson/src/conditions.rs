//! What a board cannot choose: the air, its fan, its supply, and what else runs.

use crate::fan::Profile;

/// May be changed at any time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    pub ambient_celsius: f64,
    pub fan: Profile,
    /// The fan is told to turn and does not.
    pub fan_stuck: bool,
    /// The air that the fan moves does not get out.
    pub vent_blocked: bool,
    /// A bad adapter or cable: the voltage falls with the current.
    pub supply_weak: bool,
}

impl Default for Conditions {
    /// An office, and the fan as it comes.
    fn default() -> Self {
        Self {
            ambient_celsius: 25.0,
            fan: Profile::Quiet,
            fan_stuck: false,
            vent_blocked: false,
            supply_weak: false,
        }
    }
}

/// Sums since the board was made. They outlast a shutdown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    pub seconds: f64,
    pub joules: f64,
    /// Times at which the kernel began to lower clocks for heat.
    pub software_throttles: u64,
    /// Times at which the firmware divided the clocks.
    pub firmware_throttles: u64,
    /// Events of OC1 (under-voltage), OC2 (mean current) and OC3 (peaks).
    pub over_currents: [u64; 3],
    /// Times at which the board switched itself off or lost its power.
    pub shutdowns: u64,
}
