//! What is run: a board in its surroundings, and what is asked of it.

use std::fmt;

use serde::Serialize;
use virtual_jetson::{Board, Conditions, Llm, Mode, Module, Profile};

/// Degrees of the air around a board.
pub const AMBIENTS: [u8; 4] = [20, 30, 40, 50];

/// One place in the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    pub module: &'static str,
    pub mode: PowerMode,
    pub ambient: u8,
    pub fan: Fan,
    pub load: Load,
}

/// The power mode that the board is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerMode {
    /// The one that it comes in.
    #[default]
    Shipped,
    /// The one with most of the GPU, as an operator sets it who wants speed.
    Highest,
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
    /// All cells, of every module that has such a mode of its own.
    #[must_use]
    pub fn grid(mode: PowerMode) -> Vec<Self> {
        let mut cells = Vec::new();
        let has = |module: &Module| {
            mode == PowerMode::Shipped || highest(module).id != module.default_mode
        };
        for module in Module::all().iter().filter(|module| has(module)) {
            for ambient in AMBIENTS {
                for fan in Fan::ALL {
                    for load in Load::ALL {
                        cells.push(Self { module: module.name, mode, ambient, fan, load });
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

    /// The same, at rest in its surroundings. The draw also says when events fall.
    #[must_use]
    pub fn board_at_rest(&self, draw: u64) -> Board {
        let module = self.board(draw);
        let mut board = Board::new(&module, self.conditions(), draw);
        if self.mode == PowerMode::Highest {
            assert!(board.set_mode(highest(&module).id), "the mode is the module's own");
        }
        board
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

/// The mode with the most of the GPU, and of equals with the fastest processor.
fn highest(module: &Module) -> &'static Mode {
    let clocks = |mode: &Mode| {
        let hz = mode.gpu_hz.unwrap_or(u64::MAX).min(module.gpu_max_hz());
        let tpcs = module.gpu.tpcs - (mode.tpc_mask & ((1 << module.gpu.tpcs) - 1)).count_ones();
        let cpu = mode.cpu_khz.unwrap_or(u32::MAX).min(module.cpu.max_khz);
        (hz * u64::from(tpcs), cpu)
    };
    module.modes.iter().max_by_key(|mode| clocks(mode)).expect("a module has a mode")
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, mode, ambient, fan, load } = self;
        let mode = if *mode == PowerMode::Highest { " in its highest mode" } else { "" };
        write!(f, "{module}{mode}, {ambient} °C, fan {fan}, {load}")
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
