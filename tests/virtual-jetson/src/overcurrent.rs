//! What happens when more current is drawn than the board or its supply likes.
//!
//! The power monitors count three kinds of events, and each costs clocks:
//!
//! | counter | event | cost |
//! |---|---|---|
//! | OC1 | the supply's voltage falls below nine tenths | clocks quartered meanwhile |
//! | OC2 | the mean is beyond the limit | clocks halved for a millisecond |
//! | OC3 | a peak is beyond the limit | clocks halved for a millisecond |
//!
//! Peaks stand higher above the mean the higher the GPU's clock is, which is
//! why the unlimited mode sees 27 times the events of 25 W.

use crate::module::Supply;

/// Measured on an Orin Nano: one event's time, in which clocks are halved.
const EVENT_S: f64 = 1.07e-3;
/// Fitted: eight events a second while decoding in MAXN_SUPER, 27 times fewer
/// in the 25 W mode.
const RATE_AT: (f64, f64) = (1.08, 8.0);
/// Fitted to the same: growth with the peak's share of the limit.
const STEEPNESS: f64 = 21.0;
/// Guessed: more than this a second are not told apart.
const MOST_PEAKS: f64 = 400.0;
/// Guessed: events a second while the mean is beyond the limit.
const MEANS: f64 = 20.0;
/// Measured: an Orin Nano without a cap on its GPU counts one or two at rest.
const AT_REST: f64 = 1.5;
/// Published: about 4.5 of 5 V.
const UNDER_VOLTAGE: f64 = 0.9;
/// Guessed: from here on, clocks are quartered all the time.
const DEEP_UNDER_VOLTAGE: f64 = 0.85;
/// Guessed: regulators give up.
const BROWN_OUT: f64 = 0.8;
/// Guessed: events a second at the deepest.
const UNDER_VOLTAGES: f64 = 100.0;

/// What the supply and its monitors make of a power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) volts: f64,
    /// Events a second of OC1, OC2 and OC3.
    pub(crate) rates: [f64; 3],
    /// The share of their clocks that GPU and CPU keep.
    pub(crate) kept: f64,
    pub(crate) brown_out: bool,
}

impl Supply {
    /// `clock_share` is the GPU's clock as a share of its design clock, and
    /// `unlimited` whether nothing caps it on a Super board.
    pub(crate) fn judge(&self, watts: f64, clock_share: f64, busy: f64, ask: Ask) -> Verdict {
        let nominal = self.volts.get();
        let volts = self.volts_at(watts, ask.weak);
        let deep = (UNDER_VOLTAGE - volts / nominal) / (UNDER_VOLTAGE - DEEP_UNDER_VOLTAGE);
        let under = deep.clamp(0.0, 1.0);
        let ripple = self.ripple.get() * busy * clock_share.powi(3);
        let peak = watts * (1.0 + ripple) / self.limit.get();
        let (at, rate) = RATE_AT;
        let at_rest = if ask.unlimited { AT_REST } else { 0.0 };
        let peaks = (rate * (STEEPNESS * (peak - at)).exp() + at_rest).min(MOST_PEAKS);
        let means = if watts > self.limit.get() { MEANS } else { 0.0 };
        Verdict {
            volts,
            rates: [UNDER_VOLTAGES * under, means, peaks],
            kept: (1.0 - 0.5 * EVENT_S * (peaks + means)) * (1.0 - 0.75 * under),
            brown_out: volts < BROWN_OUT * nominal,
        }
    }

    /// The voltage at the board's input, where `watts = volts × amperes`.
    fn volts_at(&self, watts: f64, weak: bool) -> f64 {
        let ohm = if weak { self.weak_ohm } else { self.ohm }.get();
        let half = self.volts.get() / 2.0;
        // Beyond the most that the supply can give, its voltage halves.
        half + (half * half - ohm * watts).max(0.0).sqrt()
    }
}

/// What a verdict depends on beside the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) weak: bool,
    pub(crate) unlimited: bool,
}
