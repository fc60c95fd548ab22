//! One controller on one board for some hours.

use std::time::Duration;

use virtual_jetson::{Board, Load as BoardLoad, Readings};

use crate::heat::cell::Cell;
use crate::heat::clients::Clients;
use crate::heat::controller::{BOUNDS, Controller, Hand, Kind, Orders, PERIOD};
use crate::heat::engine::Engine;
use crate::heat::outcome::{Outcome, most_in_a_minute, percentile};

/// How long a board that switched itself off stays off.
const OFF_S: f64 = 120.0;
/// Longest rest that is taken at once.
const REST_S: f64 = 1.0;
/// From one point of a course to the next.
const POINT_S: f64 = 10.0;

/// A moment of a run, for a plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub at: f64,
    pub celsius: f64,
    pub watts: f64,
    /// Where the controller stands: 1 for full power.
    pub share: f64,
    /// The GPU's clock as a share of its highest.
    pub clock: f64,
    pub tokens_per_s: f64,
}

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub cell: Cell,
    pub kind: Kind,
    /// Draws the board's constants and the requests; the same for all controllers.
    pub draw: u64,
    pub hours: f64,
    /// The temperature that those hold which are not ours.
    pub rivals_hold: f64,
}

/// Runs it; `course` hears a point every ten seconds.
pub fn run(plan: Plan, course: impl FnMut(Point)) -> Outcome {
    let Plan { cell, kind, draw, hours, rivals_hold } = plan;
    let mut board = cell.board_at_rest(draw);
    let mut controller = Controller::new(kind, &board, &cell.llm(), rivals_hold);
    play(Stage { cell, draw, hours }, &mut board, &mut controller, course)
}

/// Where and for how long somebody decides.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    pub cell: Cell,
    pub draw: u64,
    pub hours: f64,
}

/// Lets `hand` decide over the stage's board.
pub fn play(
    stage: Stage,
    board: &mut Board,
    hand: &mut impl Hand,
    mut course: impl FnMut(Point),
) -> Outcome {
    let Stage { cell, draw, hours } = stage;
    let mut clients = Clients::new(cell.load, draw);
    let mut engine = Engine::new(cell.llm(), BOUNDS);
    let mut orders = Orders::FULL;
    let mut sums = Sums::default();
    let (mut now, mut look_at, mut sum_at, mut point_at) = (0.0, 0.0, 0.0, POINT_S);
    let (end, period) = (hours * 3600.0, hand.period().as_secs_f64());

    while now < end {
        if now >= look_at {
            let readings = board.readings();
            orders = hand.look(&readings, &engine, now);
            engine.set_limits(orders.limits);
            board.cap_gpu(orders.cap_hz);
            look_at = now + period;
        }
        if now >= sum_at {
            let readings = board.readings();
            sums.look(&readings, now - sum_at + PERIOD.as_secs_f64());
            if now >= point_at {
                course(sums.point(&readings, orders, now, board.module().gpu_max_hz()));
                point_at = now + POINT_S;
            }
            sum_at = now + PERIOD.as_secs_f64();
        }
        for arrival in clients.arrived(now) {
            engine.add(arrival);
        }
        if engine.is_idle() || orders.held {
            let until = clients.next_at().unwrap_or(f64::INFINITY).min(look_at).min(now + REST_S);
            let rest = (until - now).max(1e-3);
            board.advance(Duration::from_secs_f64(rest), BoardLoad::IDLE);
            now += rest;
        } else {
            let turn = engine.turn(board, &mut now);
            sums.tokens += u64::from(turn.tokens);
            sums.since_point += turn.tokens;
            sums.gaps.extend(turn.gaps);
            sums.first_tokens.extend(turn.first_tokens);
            for (client, _) in turn.answered {
                sums.answers += 1;
                clients.answered(client, now);
            }
        }
        if !board.is_on() {
            board.advance(Duration::from_secs_f64(OFF_S), BoardLoad::IDLE);
            now += OFF_S;
            board.power_on();
            for client in engine.lose_all() {
                sums.lost += 1;
                clients.answered(client, now);
            }
        }
    }
    sums.outcome(board, hand.changes())
}

#[derive(Debug, Default)]
struct Sums {
    tokens: u64,
    answers: u64,
    lost: u64,
    gaps: Vec<f64>,
    first_tokens: Vec<f64>,
    hottest: f64,
    seconds_above_95: f64,
    since_point: u32,
    point: f64,
}

impl Sums {
    fn look(&mut self, readings: &Readings, passed: f64) {
        self.hottest = self.hottest.max(readings.die_celsius);
        if readings.die_celsius > 95.0 {
            self.seconds_above_95 += passed;
        }
    }

    fn point(&mut self, readings: &Readings, orders: Orders, now: f64, highest: u64) -> Point {
        let tokens_per_s = f64::from(self.since_point) / (now - self.point);
        (self.since_point, self.point) = (0, now);
        let clock = readings.gpu_cap_hz as f64 / highest as f64;
        Point {
            at: now,
            celsius: readings.tj_celsius,
            watts: readings.watts,
            share: orders.share,
            clock,
            tokens_per_s,
        }
    }

    fn outcome(mut self, board: &Board, changes: &[f64]) -> Outcome {
        let totals = board.totals();
        let hours = totals.seconds / 3600.0;
        Outcome {
            hours,
            answers_per_hour: self.answers as f64 / hours,
            tokens_per_hour: self.tokens as f64 / hours,
            tokens_per_joule: (self.tokens > 0).then(|| self.tokens as f64 / totals.joules),
            p95_first_token_s: percentile(&mut self.first_tokens, 95),
            p95_gap_s: percentile(&mut self.gaps, 95),
            p99_gap_s: percentile(&mut self.gaps, 99),
            hottest_celsius: self.hottest,
            minutes_above_95: self.seconds_above_95 / 60.0,
            software_throttles: totals.software_throttles,
            firmware_throttles: totals.firmware_throttles,
            shutdowns: totals.shutdowns,
            answers_lost: self.lost,
            mean_watts: totals.joules / totals.seconds,
            changes_per_minute: changes.len() as f64 / (hours * 60.0),
            most_changes_in_a_minute: most_in_a_minute(changes),
        }
    }
}
