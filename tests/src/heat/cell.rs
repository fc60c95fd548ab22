//! What is run: a board in its surroundings, and what is asked of it.

use std::fmt;

use serde::Serialize;
use virtual_jetson::{Conditions, Llm, Module, Profile};

/// Degrees of the air around a board.
pub const AMBIENTS: [u8; 4] = [20, 30, 40, 50];

/// One place in the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    pub module: &'static str,
    pub ambient: u8,
    pub fan: Fan,
    pub load: Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fan {
    /// Driven by the cool curve.
    Healthy,
    /// Driven by the quiet curve, as boards come.
    Quiet,
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    Idle,
    OneUser,
    BurstOfEight,
    SustainedEight,
    LongPrefills,
}

impl Fan {
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Quiet, Self::Stuck];
}

impl Load {
    pub const ALL: [Self; 5] =
        [Self::Idle, Self::OneUser, Self::BurstOfEight, Self::SustainedEight, Self::LongPrefills];

    /// Whether it keeps the engine busy all the time.
    #[must_use]
    pub fn is_sustained(self) -> bool {
        matches!(self, Self::SustainedEight | Self::LongPrefills)
    }
}

impl Cell {
    /// All cells, of every module.
    #[must_use]
    pub fn grid() -> Vec<Self> {
        let mut cells = Vec::new();
        for module in Module::all() {
            for ambient in AMBIENTS {
                for fan in Fan::ALL {
                    for load in Load::ALL {
                        cells.push(Self { module: module.name, ambient, fan, load });
                    }
                }
            }
        }
        cells
    }

    /// The cell's board, as one of those that are made: every thermal constant
    /// off by up to a fifth, by the draw.
    ///
    /// # Panics
    /// The cell names a module that there is not.
    #[must_use]
    pub fn board(&self, draw: u64) -> Module {
        Module::named(self.module).expect("a cell names a module that there is").variant(draw)
    }

    #[must_use]
    pub fn conditions(&self) -> Conditions {
        Conditions {
            ambient_celsius: f64::from(self.ambient),
            fan: match self.fan {
                Fan::Healthy => Profile::Cool,
                Fan::Quiet | Fan::Stuck => Profile::Quiet,
            },
            fan_stuck: self.fan == Fan::Stuck,
            ..Conditions::default()
        }
    }

    /// A model that the module has room for.
    #[must_use]
    pub fn llm(&self) -> Llm {
        match self.module {
            name if name.contains("4gb") && name.contains("nano") => Llm::B1,
            name if name.contains("nano") || name.contains("nx-8gb") => Llm::B3,
            _ => Llm::B8,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, ambient, fan, load } = self;
        write!(f, "{module}, {ambient} °C, fan {fan}, {load}")
    }
}

impl fmt::Display for Fan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Quiet => "quiet",
            Self::Stuck => "stuck",
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::OneUser => "one user",
            Self::BurstOfEight => "burst of eight",
            Self::SustainedEight => "sustained eight",
            Self::LongPrefills => "long prefills",
        })
    }
}
