//! What changes rarely about a machine, read at most once a minute.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::group::Sensors;
use crate::{Absent, Board, Modes, Root};

/// What changes rarely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    pub power_modes: Modes,
}

impl Facts {
    pub(crate) fn read(root: &Root, _board: &Board) -> Self {
        Self { power_modes: Modes::read(root) }
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
