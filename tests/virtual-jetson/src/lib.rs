//! A Jetson that is not there.
//!
//! [`Board`] is a physical model with time as a parameter: no clock, no files,
//! no threads, the same for the same seed. It takes what is computed and says
//! what the sensors show and how fast the board still is.
//!
//! ```text
//!            step(llm, work)                 advance(time, load)
//! Speed ─────────────────────► Step{time, load} ─────────────────► Readings
//!   ▲                                                                  │
//!   └──────────── clocks: mode, caps, throttling, over-current ◄───────┘
//! ```
//!
//! ```
//! use virtual_jetson::{Board, Conditions, Llm, Module, Work};
//!
//! let module = Module::named("orin-nano-8gb-super").unwrap();
//! let mut board = Board::new(module, Conditions::default(), 1);
//! let llm = Llm::B3;
//! board.hold(&llm, 4096);
//! let work = Work { sequences: 4, context_tokens: 2000, prefill_tokens: 0 };
//! let step = board.speed().step(&llm, work);
//! let readings = board.advance(step.time, step.load);
//! assert!(readings.tj_celsius > 20.0 && board.is_on());
//! ```
//!
//! [`Tree`] writes what the board shows as files, [`Faults`] are what can be wrong
//! with it, and [`Coupling`] is the way to an engine that runs beside it. The
//! program `virtual-jetson` puts them together and lets time pass.
//!
//! Every constant says whether it was published, measured, fitted or guessed
//! ([`Origin`]), and [`Module::variant`] draws boards whose thermal constants
//! are off by up to a fifth. Nothing here has been held against a board of
//! ours: the figures are other people's.

#![forbid(unsafe_code)]

pub use board::Board;
pub use conditions::{Conditions, Totals};
pub use constant::{Constant, Origin};
pub use coupling::{Activity, Coupling};
pub use fan::Profile;
pub use faults::{Faults, UnknownFault};
pub use llm::Llm;
pub use module::{Mode, Module};
pub use power::Load;
pub use readings::{Off, Rail, Readings};
pub use speed::{Speed, Step, Work};
pub use tree::{Asked, Tree};

mod board;

pub mod module;

mod conditions;
mod constant;
mod dice;
mod fan;
mod llm;
mod memory;
mod overcurrent;
mod power;
mod readings;
mod rounding;
mod speed;
mod thermal;
mod throttle;

pub mod coupling;
pub mod engine;
pub mod faults;
pub mod tree;
