//! A slice of the governor's benchmark: it keeps boards safe that would throttle
//! without it, and costs nothing where boards stay cool.

use tests::heat::cell::{Cell, Fan, Load, PowerMode};
use tests::heat::controller::{Kind, RIVALS_HOLD};
use tests::heat::outcome::Outcome;
use tests::heat::run::{Plan, run};

/// Other boards than those that anything was tuned on.
const DRAWS: [u64; 2] = [2001, 2002];

fn outcome(cell: Cell, kind: Kind, draw: u64) -> Outcome {
    run(Plan { cell, kind, draw, hours: 0.75, rivals_hold: RIVALS_HOLD }, |_| {})
}

fn cells(fan: Fan, ambients: &[u8], loads: &[Load]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for module in ["orin-nano-8gb-super", "orin-nx-16gb", "agx-orin-64gb"] {
        for &ambient in ambients {
            let mode = PowerMode::Shipped;
            cells.extend(loads.iter().map(|&load| Cell { module, mode, ambient, fan, load }));
        }
    }
    cells
}

#[test]
fn boards_that_would_throttle_are_kept_below_it() {
    let loads = [Load::SustainedEight, Load::BurstOfEight, Load::LongPrefills];
    let mut bound = 0;
    for draw in DRAWS {
        for cell in cells(Fan::Stuck, &[25, 40], &loads) {
            bound += u32::from(!outcome(cell, Kind::Hardware, draw).is_unthrottled());
            for kind in [Kind::Governor, Kind::Balanced, Kind::NoClock] {
                let ours = outcome(cell, kind, draw);
                assert!(ours.is_safe(), "{cell}, draw {draw}, {kind:?}: {ours:?}");
                assert!(ours.most_changes_in_a_minute <= 6, "{cell}, {kind:?}: {ours:?}");
                assert!(ours.tokens_per_hour > 0.0, "{cell}, {kind:?}: {ours:?}");
            }
        }
    }
    assert!(bound >= 20, "only {bound} of 36 boards were in need of it");
}

#[test]
fn boards_that_stay_cool_are_not_held_back() {
    let loads = [Load::OneUser, Load::SustainedEight, Load::LongPrefills];
    for cell in cells(Fan::Healthy, &[20, 30], &loads) {
        let draw = DRAWS[0];
        let alone = outcome(cell, Kind::Hardware, draw).tokens_per_hour;
        let ours = outcome(cell, Kind::Governor, draw).tokens_per_hour;
        assert!(ours >= 0.97 * alone, "{cell}: {ours} tokens an hour, {alone} without it");
    }
}

#[test]
fn a_run_can_be_had_again() {
    let [cell, ..] = cells(Fan::Quiet, &[30], &[Load::OneUser])[..] else { return };
    let again = || outcome(cell, Kind::Governor, 7);
    assert_eq!(again(), again());
}
