//! Why the limits are what they are, in words.

use std::fmt;
use std::time::Duration;

use jetpack::Bytes;

use super::memory::Door;

/// What limits the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Limiting {
    /// Nothing: the board bears all that the engine can do.
    Nothing,
    /// Nothing, because this machine is no Jetson and looks after itself.
    Ungoverned,
    Heat {
        zone: String,
        celsius: f64,
        held: f64,
        ahead: Ahead,
    },
    /// The machine slows itself down already.
    Throttled {
        zone: String,
        celsius: f64,
    },
    /// No temperature was read for so long; `None`: ever.
    Blind {
        unseen: Option<Duration>,
    },
    /// `watts` is `None` where power cannot be read.
    Budget {
        watts: Option<f64>,
        budget: f64,
    },
    /// The clock is held where a token costs least.
    Knee {
        profile: String,
    },
    /// Over-current events cost speed.
    OverCurrent {
        per_s: f64,
        slower: f64,
    },
    Memory(Door),
}

/// What the thermal model says of the time to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ahead {
    /// It has not been fitted, or fits badly: the temperature alone decides.
    Unknown,
    /// It settles here at the present power.
    Settles { celsius: f64 },
    /// It reaches what is to be held.
    Reaches { seconds: f64 },
}

impl Limiting {
    /// A constant for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Ungoverned => "ungoverned",
            Self::Heat { .. } => "heat",
            Self::Throttled { .. } => "throttled",
            Self::Blind { .. } => "blind",
            Self::Budget { .. } => "budget",
            Self::Knee { .. } => "profile",
            Self::OverCurrent { .. } => "over_current",
            Self::Memory(_) => "memory",
        }
    }
}

impl fmt::Display for Limiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("the board bears all that the engine can do"),
            Self::Ungoverned => {
                f.write_str("this machine is no Jetson: it is left to look after its own heat")
            }
            Self::Heat { zone, celsius, held, ahead } => {
                write!(f, "{zone} is at {celsius:.1} °C and is held at {held:.1} °C; {ahead}")
            }
            Self::Throttled { zone, celsius } => {
                write!(f, "the board slows itself down: {zone} is at {celsius:.1} °C")
            }
            Self::Blind { unseen: None } => {
                f.write_str("no temperature can be read, which counts as hot")
            }
            Self::Blind { unseen: Some(unseen) } => {
                write!(f, "no temperature was read for {} s, which counts as hot", unseen.as_secs())
            }
            Self::Budget { watts: Some(watts), budget } => {
                write!(f, "the machine takes {watts:.1} W of a budget of {budget:.0} W")
            }
            Self::Budget { watts: None, budget } => {
                write!(f, "the machine's power cannot be read, and its budget is {budget:.0} W")
            }
            Self::Knee { profile } => write!(
                f,
                "the profile \"{profile}\" holds or tries the clock at which a token costs least"
            ),
            Self::OverCurrent { per_s, slower } => write!(
                f,
                "{per_s:.1} over-current events a second make steps {:.0} % slower",
                slower * 100.0
            ),
            Self::Memory(door) => door.fmt(f),
        }
    }
}

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("how it will go on is not known yet"),
            Self::Settles { celsius } => write!(f, "at this power it settles at {celsius:.0} °C"),
            Self::Reaches { seconds } if *seconds < 1.0 => {
                f.write_str("at this power it gets hotter still")
            }
            Self::Reaches { seconds } if *seconds < 90.0 => {
                write!(f, "at this power it gets there in {seconds:.0} s")
            }
            Self::Reaches { seconds } => {
                write!(f, "at this power it gets there in {:.0} min", seconds / 60.0)
            }
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = |available: &Bytes, kept: &Bytes| {
            format!("the board has {available} of memory left and keeps {kept} back")
        };
        match self {
            Self::Open => f.write_str("there is memory enough"),
            Self::Waits { available, kept } => {
                write!(f, "{}: the next request waits until one has ended", left(available, kept))
            }
            Self::Shut { available, kept } => {
                write!(f, "{}: no request is taken", left(available, kept))
            }
        }
    }
}
