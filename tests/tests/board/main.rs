//! The whole appliance on boards that are not there. One program: its tests mostly
//! wait, and do so side by side.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

mod governed;
mod heat;
mod hot_day;
