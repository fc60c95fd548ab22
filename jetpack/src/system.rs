//! Memory and processors as one group of sensors: both are `/proc`, which
//! hardly ever hangs.

use std::time::Instant;

use crate::absent::split;
use crate::group::Sensors;
use crate::{Absent, Board, Cpu, Memory, Root, cpu, memory};

/// Where both are read.
#[derive(Debug, Clone)]
pub(crate) struct System {
    root: Root,
    unified: bool,
    cpu: cpu::Sensor,
    memory: Option<memory::Sensor>,
}

/// What both said.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) cpu: Cpu,
    pub(crate) memory: Option<Memory>,
    pub(crate) memory_absent: Option<Absent>,
}

impl System {
    pub(crate) fn new(root: &Root, board: &Board) -> Self {
        let cpu = cpu::Sensor::find(root);
        Self { root: root.clone(), unified: board.is_tegra(), cpu, memory: None }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self { cpu: Cpu::default(), memory: None, memory_absent: Some(Absent::NotYet) }
    }
}

impl Sensors for System {
    type Reading = Reading;

    fn find(&mut self) {
        self.memory = Some(memory::Sensor::find(&self.root, self.unified));
    }

    fn read(&mut self, _: Instant) -> Reading {
        let memory = self.memory.as_ref().map_or(Err(Absent::NotYet), memory::Sensor::read);
        let (memory, memory_absent) = split(memory);
        Reading { cpu: self.cpu.read(), memory, memory_absent }
    }

    fn silence(reading: &mut Reading, absent: &Absent) {
        *reading = Reading {
            cpu: Cpu { absent: Some(absent.clone()), ..Cpu::default() },
            memory: None,
            memory_absent: Some(absent.clone()),
        };
    }
}
