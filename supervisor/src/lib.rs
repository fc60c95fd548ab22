#![doc = include_str!("../ARCHITECTURE.md")]
#![forbid(unsafe_code)]

pub mod request;
pub mod snapshot;

pub mod api;

pub mod supervisor;

pub mod admission;
pub mod engines;
pub mod governor;
pub mod gpu_clock;
pub mod index;
pub mod memory;
pub mod store;
pub mod telemetry;

pub mod config;
pub mod console;
pub mod doctor;
pub mod ending;
pub mod firstboot;
pub mod health;
mod hexadecimal;
pub mod journal;
pub mod keys;
pub mod listener;
pub mod systemd;
pub mod tied;
pub mod update;
