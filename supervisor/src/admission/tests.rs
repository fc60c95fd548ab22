//! Turns, bounds and lanes, for the obvious cases and for any sequence.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn client(number: u8) -> Client {
    Client::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
}

/// A queue with `requests` of (client, priority), offered in that order.
fn queue(capacity: usize, requests: &[(u8, Priority)]) -> Admission {
    let mut admission = Admission::new(capacity);
    let now = Instant::now();
    for (id, (number, priority)) in (0..).zip(requests) {
        admission.offer(RequestId(id), client(*number), *priority, now).unwrap();
    }
    admission
}

fn order(admission: &Admission) -> Vec<u64> {
    admission.order().into_iter().map(|id| id.0).collect()
}

use Priority::{Bulk, Completion, Interactive};

#[test]
fn clients_take_turns() {
    let admission =
        queue(8, &[(1, Interactive), (1, Interactive), (1, Interactive), (2, Interactive)]);
    assert_eq!(order(&admission), [0, 3, 1, 2]);
}

#[test]
fn completions_go_first_and_bulk_goes_last() {
    let admission = queue(8, &[(1, Bulk), (1, Interactive), (1, Completion)]);
    assert_eq!(order(&admission), [2, 1, 0]);
}

#[test]
fn a_lane_is_passed_over_four_times_at_most() {
    let mut requests = vec![(1, Bulk)];
    requests.extend([(2, Completion); 8]);
    assert_eq!(order(&queue(16, &requests)), [1, 2, 3, 4, 0, 5, 6, 7, 8]);
}

#[test]
fn no_more_run_than_the_limit_allows() {
    let mut admission = queue(8, &[(1, Interactive), (1, Interactive), (2, Interactive)]);
    assert_eq!(admission.dispatch(), None);
    admission.set_limit(2);
    assert_eq!(admission.dispatch(), Some(RequestId(0)));
    assert_eq!(admission.dispatch(), Some(RequestId(2)));
    assert_eq!(admission.dispatch(), None);
    admission.finished(RequestId(0), Duration::from_secs(1));
    assert_eq!(admission.dispatch(), Some(RequestId(1)));
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let mut admission = queue(4, &[(1, Interactive); 4]);
    let offer = |admission: &mut Admission| {
        admission.offer(RequestId(9), client(2), Interactive, Instant::now())
    };
    let guess = Full { waiting: 4, retry_after: FIRST_GUESS * 5 };
    assert_eq!(offer(&mut admission), Err(guess));
    admission.set_limit(1);
    assert_eq!(admission.dispatch(), Some(RequestId(0)));
    admission.finished(RequestId(0), Duration::from_secs(15));
    assert_eq!(admission.dispatch(), Some(RequestId(1)));
    assert_eq!(offer(&mut admission), Ok(()));
    assert_eq!(offer(&mut admission), Ok(()));
    // Seven seconds is the average now, for four that wait and the new one.
    let full = offer(&mut admission).unwrap_err();
    assert_eq!(full.retry_after.as_secs(), 35);
}

#[test]
fn a_queue_of_no_places_still_lets_a_free_engine_work() {
    let mut admission = Admission::new(0);
    admission.set_limit(1);
    let now = Instant::now();
    assert!(admission.offer(RequestId(0), client(1), Interactive, now).is_ok());
    assert_eq!(admission.dispatch(), Some(RequestId(0)));
    assert!(admission.offer(RequestId(1), client(1), Interactive, now).is_err());
}

#[test]
fn those_who_waited_too_long_are_named() {
    let mut admission = queue(4, &[(1, Interactive)]);
    let now = Instant::now();
    let later = now + Duration::from_secs(60);
    admission.offer(RequestId(9), client(2), Bulk, later).unwrap();
    let bound = Duration::from_secs(30);
    assert_eq!(admission.overdue(bound, now), []);
    assert_eq!(admission.overdue(bound, later), [RequestId(0)]);
}

#[derive(Debug, Clone)]
enum Act {
    Offer(u8, Priority),
    Next,
    FinishOldest,
    Withdraw(u64),
    Limit(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let priority = prop_oneof![Just(Completion), Just(Interactive), Just(Bulk)];
    prop_oneof![
        4 => (0u8..6, priority).prop_map(|(client, priority)| Act::Offer(client, priority)),
        4 => Just(Act::Next),
        2 => Just(Act::FinishOldest),
        1 => (0u64..60).prop_map(Act::Withdraw),
        1 => (0usize..5).prop_map(Act::Limit),
    ]
}

proptest! {
    /// Every accepted request either waits, runs, was withdrawn or finished;
    /// neither the queue nor the engine holds more than its bound.
    #[test]
    fn nothing_is_lost_and_no_bound_is_broken(acts in prop::collection::vec(act(), 1..200)) {
        const CAPACITY: usize = 7;
        let now = Instant::now();
        let mut admission = Admission::new(CAPACITY);
        let (mut accepted, mut gone, mut limit) = (0, 0, 0);
        let mut running = std::collections::VecDeque::new();
        for (id, act) in (0..).zip(acts) {
            match act {
                Act::Offer(number, priority) => {
                    let result = admission.offer(RequestId(id), client(number), priority, now);
                    accepted += usize::from(result.is_ok());
                    if let Err(full) = result {
                        prop_assert!(full.waiting >= CAPACITY);
                    }
                }
                Act::Next => {
                    let expected = admission.order().first().copied();
                    if let Some(id) = admission.dispatch() {
                        prop_assert_eq!(Some(id), expected);
                        running.push_back(id);
                        prop_assert!(running.len() <= limit);
                    }
                }
                Act::FinishOldest => {
                    if let Some(id) = running.pop_front() {
                        admission.finished(id, Duration::from_secs(1));
                        gone += 1;
                    }
                }
                Act::Withdraw(id) => gone += usize::from(admission.withdraw(RequestId(id))),
                Act::Limit(new) => {
                    limit = new;
                    admission.set_limit(new);
                }
            }
            prop_assert_eq!(admission.running(), running.len());
            prop_assert_eq!(accepted, admission.waiting() + running.len() + gone);
            prop_assert!(admission.waiting() <= CAPACITY + 5);
        }
    }

    /// A client with one request waits for at most one turn of each client.
    #[test]
    fn a_single_request_waits_one_turn_of_each_client(others in prop::collection::vec(0u8..8, 0..60)) {
        let mut requests: Vec<_> = others.iter().map(|number| (*number, Interactive)).collect();
        requests.push((99, Interactive));
        let admission = queue(100, &requests);
        let last = RequestId(others.len() as u64);
        let turns = 1 + admission.order().iter().position(|id| *id == last).unwrap();
        prop_assert!(turns <= admission.shares().len());
    }
}
