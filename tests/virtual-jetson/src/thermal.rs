//! Heat: a die on a heat sink in moved air.
//!
//! ```text
//! power ──► die ──[die_to_sink]──► sink ──[by the fan]──► air
//!            │                      │
//!       die_capacity           sink_capacity
//! ```
//!
//! Both nodes are stepped together and implicitly, so that a step of any
//! length is stable and stands still exactly at the closed form.

use crate::module::Thermal;

/// Guessed: how much worse air that does not get out cools.
const BLOCKED_VENT: f64 = 2.5;

/// Temperatures of the two nodes, °C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Heat {
    pub(crate) die: f64,
    pub(crate) sink: f64,
}

/// What carries heat away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cooling {
    pub(crate) ambient: f64,
    pub(crate) rpm: f64,
    pub(crate) vent_blocked: bool,
}

impl Thermal {
    /// K/W from the heat sink to the air at this speed of the fan.
    #[must_use]
    pub fn sink_to_air(&self, rpm: f64, vent_blocked: bool) -> f64 {
        let (still, moved) = (self.sink_to_still_air.get(), self.sink_to_moved_air.get());
        let open = moved + (still - moved) * (-rpm / self.fan_scale_rpm.get()).exp();
        if vent_blocked { open * BLOCKED_VENT } else { open }
    }

    /// Where the die settles at this power, the closed form.
    #[must_use]
    pub fn settled(&self, watts: f64, ambient: f64, rpm: f64, vent_blocked: bool) -> f64 {
        ambient + watts * (self.die_to_sink.get() + self.sink_to_air(rpm, vent_blocked))
    }

    /// Both nodes where they settle.
    pub(crate) fn rest(&self, watts: f64, air: Cooling) -> Heat {
        let sink = air.ambient + watts * self.sink_to_air(air.rpm, air.vent_blocked);
        Heat { die: sink + watts * self.die_to_sink.get(), sink }
    }

    /// `dt` seconds later: backward Euler, the two equations solved as one.
    pub(crate) fn step(&self, heat: Heat, dt: f64, watts: f64, air: Cooling) -> Heat {
        let inner = dt / self.die_to_sink.get();
        let outer = dt / self.sink_to_air(air.rpm, air.vent_blocked);
        let (a, b) = (self.die_capacity.get() + inner, self.sink_capacity.get() + inner + outer);
        let p = self.die_capacity.get() * heat.die + dt * watts;
        let q = self.sink_capacity.get() * heat.sink + outer * air.ambient;
        let determinant = a * b - inner * inner;
        Heat { die: (p * b + inner * q) / determinant, sink: (a * q + inner * p) / determinant }
    }
}
