//! Every way through a boot, as a table and with any sequence of events.

use super::*;
use proptest::prelude::*;

const LATE: Duration = PATIENCE;
const EARLY: Duration = Duration::from_secs(10);
const FRESH: Firmware = Firmware::TwoSystems { other_boots: true, is_new: true, restarts: Some(0) };
const PROVEN: Firmware =
    Firmware::TwoSystems { other_boots: true, is_new: false, restarts: Some(0) };

fn health(engine: Engine, faults: &[bool]) -> Health {
    let fault = |&of_the_system: &bool| {
        let kind = if of_the_system { FaultKind::OfTheSystem } else { FaultKind::MayPass };
        Fault { words: "it is broken".into(), kind }
    };
    Health { engine, faults: faults.iter().map(fault).collect() }
}

fn well() -> Health {
    health(Engine::Answers, &[])
}

fn pending() -> Health {
    health(Engine::Pending("it loads".into()), &[])
}

fn safe_mode() -> Health {
    health(Engine::GivenUp("it died five times".into()), &[])
}

fn ill() -> Health {
    health(Engine::Answers, &[true])
}

fn step(mark: Mark, firmware: Firmware, health: &Health, waited: Duration) -> Step {
    next(mark, firmware, health, waited, PATIENCE)
}

#[test]
fn the_only_system_is_marked_before_anything_can_go_wrong() {
    let first = step(Mark::Open, Firmware::OneSystem, &Health::unknown(), Duration::ZERO);
    assert_eq!(first, Step::Mark);
    for (health, waited, then) in [
        (well(), EARLY, Step::End(Ending::Well)),
        (pending(), EARLY, Step::Wait),
        (ill(), EARLY, Step::Wait),
        (ill(), LATE, Step::End(Ending::Ill)),
    ] {
        assert_eq!(step(Mark::Good, Firmware::OneSystem, &health, waited), then, "{health:?}");
    }
}

#[test]
fn one_of_two_systems_is_marked_when_it_is_well_or_the_engine_is_what_fails() {
    for firmware in [FRESH, PROVEN] {
        for (health, waited, then) in [
            (Health::unknown(), EARLY, Step::Wait),
            (well(), EARLY, Step::Mark),
            (safe_mode(), EARLY, Step::Mark),
            (pending(), EARLY, Step::Wait),
            (pending(), LATE, Step::Mark),
            (ill(), EARLY, Step::Wait),
            // Another system would have this fault as well.
            (health(Engine::Answers, &[false]), LATE, Step::Mark),
        ] {
            assert_eq!(step(Mark::Open, firmware, &health, waited), then, "{health:?}");
        }
    }
}

#[test]
fn what_waiting_does_not_change_is_not_waited_for() {
    let fault = Fault { words: "the other one is given up".into(), kind: FaultKind::Lasts };
    let old = Health { engine: Engine::Answers, faults: vec![fault] };
    assert_eq!(step(Mark::Open, PROVEN, &old, EARLY), Step::Mark);
    assert_eq!(step(Mark::Good, PROVEN, &old, EARLY), Step::End(Ending::Ill));
}

#[test]
fn only_a_new_system_that_is_to_blame_goes_back_to_one_that_boots() {
    assert_eq!(step(Mark::Open, FRESH, &ill(), LATE), Step::GoBack);
    let new = |other_boots, restarts| Firmware::TwoSystems { other_boots, is_new: true, restarts };
    for firmware in [
        PROVEN,
        new(false, Some(0)),
        new(true, Some(MOST_RESTARTS)),
        // The disk does not keep the count.
        new(true, None),
    ] {
        assert_eq!(step(Mark::Open, firmware, &ill(), LATE), Step::Mark, "{firmware:?}");
    }
}

#[test]
fn a_refused_mark_is_tried_again_and_then_said() {
    let mut tried = 0;
    let mut mark = Mark::Open;
    let mut waited = Duration::ZERO;
    let end = loop {
        match step(mark, FRESH, &well(), waited) {
            Step::Mark => {
                tried += 1;
                mark = Mark::Refused { times: tried, at: waited };
            }
            Step::Wait => waited += Duration::from_secs(1),
            end => break end,
        }
    };
    assert_eq!((end, tried), (Step::End(Ending::NotMarked), MARK_TRIES));
    assert_eq!(waited, BETWEEN_TRIES * (MARK_TRIES - 1));
}

#[test]
fn where_nobody_counts_nothing_is_marked() {
    let ends = |firmware, health: &Health| step(Mark::Open, firmware, health, LATE);
    assert_eq!(ends(Firmware::CountsNothing, &well()), Step::End(Ending::Well));
    assert_eq!(ends(Firmware::CountsNothing, &safe_mode()), Step::End(Ending::Ill));
    assert_eq!(ends(Firmware::CannotBeTold, &well()), Step::End(Ending::NotMarked));
}

fn any_firmware() -> impl Strategy<Value = Firmware> {
    let two = (any::<bool>(), any::<bool>(), prop::option::of(0..5u32)).prop_map(
        |(other_boots, is_new, restarts)| Firmware::TwoSystems { other_boots, is_new, restarts },
    );
    prop_oneof![
        Just(Firmware::CountsNothing),
        Just(Firmware::CannotBeTold),
        Just(Firmware::OneSystem),
        two
    ]
}

fn any_health() -> impl Strategy<Value = Health> {
    let engine = prop_oneof![
        Just(Engine::Answers),
        Just(Engine::GivenUp("dead".into())),
        Just(Engine::Pending("loading".into())),
    ];
    (engine, prop::collection::vec(any::<bool>(), 0..3))
        .prop_map(|(engine, faults)| health(engine, &faults))
}

proptest! {
    /// It ends soon after its patience, whatever happens, and a boot that counts ends
    /// unmarked only where it was sent back or the firmware would not listen.
    #[test]
    fn every_boot_ends_marked_or_says_why_not(
        firmware in any_firmware(),
        looks in prop::collection::vec((any_health(), any::<bool>()), 1..20),
    ) {
        let (mut mark, mut waited, mut refused) = (Mark::Open, Duration::ZERO, 0);
        let mut looks = looks.iter().cycle();
        let ending = loop {
            prop_assert!(waited < PATIENCE + BETWEEN_TRIES * MARK_TRIES * 2);
            let (health, listens) = looks.next().unwrap();
            match step(mark, firmware, health, waited) {
                Step::Wait => waited += Duration::from_secs(2),
                Step::Mark if *listens => mark = Mark::Good,
                Step::Mark => {
                    refused += 1;
                    mark = Mark::Refused { times: refused, at: waited };
                }
                Step::GoBack => {
                    prop_assert!(mark == Mark::Open && firmware.has_better());
                    break Ending::WentBack;
                }
                Step::End(ending) => break ending,
            }
        };
        let unmarked = mark != Mark::Good && firmware.counts();
        let why = refused == MARK_TRIES || firmware == Firmware::CannotBeTold;
        match ending {
            Ending::WentBack => {}
            Ending::NotMarked => prop_assert!(unmarked && why),
            Ending::Well | Ending::Ill => prop_assert!(!unmarked),
        }
    }

    /// Boots of a new system that is ill in each of them: the machine is restarted
    /// three times at most, and then stays where it is or is back.
    #[test]
    fn there_is_no_loop(keeps_count in any::<bool>(), switches_after in 1..9u32) {
        let mut restarts = 0;
        for boot in 0..20u32 {
            if boot >= switches_after {
                break;
            }
            let count = keeps_count.then_some(restarts);
            let firmware = Firmware::TwoSystems { other_boots: true, is_new: true, restarts: count };
            match step(Mark::Open, firmware, &ill(), LATE) {
                Step::GoBack => restarts += 1,
                step => {
                    prop_assert_eq!(step, Step::Mark);
                    break;
                }
            }
        }
        prop_assert!(restarts <= MOST_RESTARTS);
    }
}
