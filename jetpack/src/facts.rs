//! What changes rarely about a machine, read at most once a minute.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::absent::split;
use crate::group::Sensors;
use crate::{
    Absent, Board, Boot, Calendar, Desktop, GpuClient, Modes, Module, Root, Storage, Versions,
    Watchdog, fan, gpu_clients,
};

/// What changes rarely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// `None` on machines that are no Orin.
    pub module: Option<Module>,
    pub versions: Versions,
    pub power_modes: Modes,
    pub boot: Boot,
    pub watchdog: Watchdog,
    pub storage: Storage,
    pub desktop: Desktop,
    pub calendar: Calendar,
    /// What a Jetson's fan follows, for example `quiet`.
    pub fan_profile: Option<String>,
    /// Who has memory of a Jetson's GPU.
    pub gpu_clients: Option<Vec<GpuClient>>,
    /// Why `gpu_clients` is `None`.
    pub gpu_clients_absent: Option<Absent>,
}

impl Facts {
    pub(crate) fn read(root: &Root, board: &Board) -> Self {
        let (gpu_clients, gpu_clients_absent) = split(gpu_clients::read(root));
        Self {
            module: Module::of(board),
            versions: Versions::read(root, board.l4t),
            power_modes: Modes::read(root),
            boot: Boot::read(root),
            watchdog: Watchdog::read(root),
            storage: Storage::read(root),
            desktop: Desktop::read(root),
            calendar: Calendar::read(root),
            fan_profile: fan::profile(root),
            gpu_clients,
            gpu_clients_absent,
        }
    }
}

/// The facts as something that may not answer. The last ones then stay.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    root: Root,
    board: Board,
    facts: Arc<Facts>,
}

impl Source {
    pub(crate) fn new(root: &Root, board: &Board) -> Self {
        Self { root: root.clone(), board: board.clone(), facts: Arc::default() }
    }
}

impl Sensors for Source {
    type Reading = Arc<Facts>;

    fn find(&mut self) {
        self.facts = Arc::new(Facts::read(&self.root, &self.board));
    }

    fn read(&mut self, _: Instant) -> Arc<Facts> {
        Arc::clone(&self.facts)
    }

    fn silence(_: &mut Arc<Facts>, _: &Absent) {}
}
