//! Clocks of recreated boards, and a cap that is set on one.

use super::*;
use crate::tree;
use proptest::prelude::*;

fn clocks(tree: &tree::Tree) -> Clocks {
    let root = tree.root();
    let mut sources = Sources::new(&root, &Board::read(&root));
    sources.find();
    sources.read(Instant::now())
}

const MHZ: fn(u64) -> Hertz = |mhz| Hertz::from_kilohertz(mhz * 1000);

#[test]
fn an_orin_nano_s_clocks_are_read_by_their_names() {
    let clocks = clocks(&tree::orin_nano());
    let gpu = clocks.gpu.unwrap();
    assert_eq!(gpu.current_hertz, Some(MHZ(306)));
    assert_eq!((gpu.cap_hertz, gpu.top_hertz), (Some(MHZ(918)), Some(MHZ(1020))));
    assert_eq!(gpu.available_hertz.len(), 8);
    assert_eq!(gpu.governor.as_deref(), Some("nvhost_podgov"));
    assert_eq!(clocks.gpu_busy_share, Some(0.62));
    let names: Vec<_> = clocks.cpus.iter().map(|cpu| cpu.name.as_str()).collect();
    assert_eq!(names, ["policy0", "policy4"]);
    assert_eq!(clocks.cpus[0].cap_hertz, Some(MHZ(1344)));
    assert_eq!(clocks.cpus[0].real_hertz, Some(MHZ(1190)));
    let emc = clocks.emc.unwrap();
    assert_eq!((emc.cap_hertz, emc.current_hertz), (Some(MHZ(3199)), Some(MHZ(2133))));
}

#[test]
fn a_pc_has_none_of_them_and_says_so() {
    let clocks = clocks(&tree::pc());
    assert_eq!((clocks.gpu, clocks.gpu_absent), (None, Some(Absent::NotReported)));
    assert_eq!((clocks.emc, clocks.emc_absent), (None, Some(Absent::NotReported)));
    assert_eq!(clocks.gpu_busy_absent, Some(Absent::NotReported));
}

#[test]
fn more_than_always_busy_makes_no_sense() {
    let tree = tree::orin_nano();
    tree.write("sys/devices/platform/bus@0/17000000.gpu/load", "1001\n");
    assert_eq!(clocks(&tree).gpu_busy_absent, Some(Absent::Garbled));
}

#[test]
fn a_cap_is_the_step_below_and_what_the_kernel_then_says() {
    let tree = tree::orin_nano();
    let clock = GpuClock::find(&tree.root()).unwrap();
    let set = |mhz| clock.set_cap(MHZ(mhz)).unwrap();
    assert_eq!(set(700), Capped { written: MHZ(612), achieved: MHZ(612) });
    assert_eq!(set(5), Capped { written: MHZ(306), achieved: MHZ(306) });
    assert_eq!(set(9000), Capped { written: MHZ(1020), achieved: MHZ(1020) });
    assert_eq!(clocks(&tree).gpu.unwrap().cap_hertz, Some(MHZ(1020)));
}

#[test]
fn a_cap_that_cannot_be_set_is_an_error_with_its_path() {
    let tree = tree::orin_nano();
    let clock = GpuClock::find(&tree.root()).unwrap();
    let cap = tree.path().join("sys/class/devfreq/17000000.gpu/max_freq");
    std::fs::remove_file(&cap).unwrap();
    std::fs::create_dir(&cap).unwrap();
    let error = clock.set_cap(MHZ(612)).unwrap_err().to_string();
    assert_eq!(error, format!("write the GPU's clock cap to {}", cap.display()));
    assert_eq!(GpuClock::find(&tree::pc().root()).unwrap_err(), Absent::NotReported);
}

proptest! {
    #[test]
    fn steps_are_ascending_whatever_the_text(text in "[0-9 x\n-]{0,80}") {
        let steps = parse_steps(&text, Hertz::from_kilohertz);
        prop_assert!(steps.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
