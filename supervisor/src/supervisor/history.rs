//! The recent past, for sparklines. Written by the main loop only.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::snapshot::HistoryPoint;

/// How far back the points go.
const SPAN: Duration = Duration::from_secs(600);
/// Most points, whatever the period between samples is.
const MOST: usize = 600;

/// A ring of points, one for each sample of the machine.
#[derive(Debug)]
pub(super) struct History {
    points: Mutex<VecDeque<HistoryPoint>>,
    capacity: usize,
}

impl History {
    /// For samples that come each `period`.
    pub(super) fn new(period: Duration) -> Self {
        let points = SPAN.as_millis() / period.as_millis().max(1);
        let capacity = usize::try_from(points).unwrap_or(MOST).clamp(1, MOST);
        Self { points: Mutex::default(), capacity }
    }

    pub(super) fn push(&self, point: HistoryPoint) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.len() == self.capacity {
            points.pop_front();
        }
        points.push_back(point);
    }

    pub(super) fn points(&self) -> Vec<HistoryPoint> {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        points.iter().copied().collect()
    }
}
