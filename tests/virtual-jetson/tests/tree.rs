//! The tree as the product reads it: what the sensors say is what the model says.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jetpack::{Celsius, Machine, Root, Sample};
use tempfile::TempDir;
use virtual_jetson::{Board, Conditions, Faults, Llm, Module, Readings, Tree, Work};

struct Rig {
    dir: TempDir,
    board: Board,
    tree: Tree,
}

impl Rig {
    fn new(name: &str, seed: u64) -> Self {
        let module = Module::named(name).expect("the module is in the table");
        let board = Board::new(module, Conditions::default(), seed);
        let dir = TempDir::new().expect("there is room for a directory");
        let mode = board.mode().id;
        let tree = Tree::create(dir.path(), module, mode, &board.readings(), seed)
            .expect("a fresh directory takes a tree");
        Self { dir, board, tree }
    }

    /// A minute of four answers; then the tree shows it.
    fn serve(&mut self, faults: &str) -> Readings {
        let faults = Faults::parse(faults).expect("the test's faults are faults");
        self.board.hold(&Llm::B1, 2000);
        let work = Work { sequences: 4, context_tokens: 2000, prefill_tokens: 0 };
        for _ in 0..600 {
            let step = self.board.speed().step(&Llm::B1, work);
            self.board.advance(Duration::from_millis(100), step.load);
        }
        let readings = self.board.readings();
        self.tree.show(&readings, &faults).expect("the directory still takes files");
        readings
    }

    fn sample(&self) -> Sample {
        Machine::open(Root::new(self.dir.path())).sample()
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }
}

fn celsius(sample: &Sample, name: &str) -> Option<f64> {
    let zone = sample.zones.iter().find(|zone| zone.name == name);
    zone.and_then(|zone| zone.celsius).map(Celsius::degrees)
}

fn near(shown: Option<f64>, modelled: f64) -> bool {
    shown.is_some_and(|shown| (shown - modelled).abs() < 0.002)
}

#[test]
fn every_module_reads_as_what_it_is() {
    for module in Module::all() {
        let mut rig = Rig::new(module.name, 7);
        let readings = rig.serve("");
        let sample = rig.sample();
        assert_eq!(sample.board.model.as_deref(), Some(module.identity.model));
        assert!(sample.board.is_tegra());
        assert_eq!(sample.board.l4t.map(|l4t| l4t.to_string()).as_deref(), Some("36.5.0"));
        assert_eq!(sample.board.kernel.as_deref(), Some("5.15.185-tegra"));
        let watts = sample.power_watts.map(jetpack::Watts::watts);
        assert!(near(watts, readings.watts), "{}: {watts:?}", module.name);
        assert_eq!(sample.rails.len(), if module.is_agx() { 4 } else { 3 });
        assert_eq!(sample.cpu.cores, Some(rig.board.mode().cores));
        let memory = sample.memory.expect("there is a meminfo");
        assert_eq!(memory.total_bytes.get(), module.memory.total_kib * 1024);
        assert_eq!(memory.available_bytes.get(), readings.memory_available_bytes / 1024 * 1024);
        assert!(memory.unified);
        assert_eq!(sample.fans[0].rpm, Some(readings.fan_rpm));
    }
}

#[test]
fn every_zone_says_its_temperature_and_its_limits() {
    for module in Module::all() {
        let mut rig = Rig::new(module.name, 3);
        let readings = rig.serve("");
        let sample = rig.sample();
        assert!(near(celsius(&sample, "tj-thermal"), readings.tj_celsius), "{}", module.name);
        assert!(near(celsius(&sample, "cpu-thermal"), readings.cpu_celsius));
        assert!(near(celsius(&sample, "soc2-thermal"), readings.soc_celsius[2]));
        assert_eq!(celsius(&sample, "cv1-thermal"), None);
        assert_eq!(celsius(&sample, "tboard-thermal").is_some(), module.is_agx());
        let limits = sample.zones.iter().find(|zone| zone.name == "tj-thermal");
        let limits = limits.map(|zone| (zone.limit_celsius, zone.critical_celsius));
        let at = |millidegrees| Some(Celsius::from_millidegrees(millidegrees));
        assert_eq!(limits, Some((at(99_000), at(104_500))), "{}", module.name);
    }
}

#[test]
fn another_boot_has_other_numbers_and_the_same_sensors() {
    let (one, other) = (Rig::new("agx-orin-64gb", 1), Rig::new("agx-orin-64gb", 2));
    let place = |rig: &Rig| {
        let zones = (0..11).map(|n| format!("sys/class/thermal/thermal_zone{n}/type"));
        zones.map(|path| fs::read_to_string(rig.path(&path)).unwrap()).collect::<Vec<_>>()
    };
    assert_ne!(place(&one), place(&other));
    let names =
        |rig: &Rig| rig.sample().zones.into_iter().map(|zone| zone.name).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
}

#[test]
fn a_cap_and_a_mode_that_are_written_are_read_back() {
    let rig = Rig::new("orin-nano-8gb-super", 1);
    let asked = rig.tree.asked();
    assert_eq!((asked.gpu_cap_hz, asked.mode), (Some(918_000_000), Some(1)));
    // Through the path that nvpmodel's file names, as a governor would.
    fs::write(rig.path("sys/devices/platform/17000000.gpu/devfreq_dev/max_freq"), "612000000")
        .unwrap();
    fs::write(rig.path("var/lib/nvpmodel/status"), "pmode:0002 fmode:fan_mode_quiet\n").unwrap();
    let asked = rig.tree.asked();
    assert_eq!((asked.gpu_cap_hz, asked.mode), (Some(612_000_000), Some(2)));
    fs::write(rig.path("sys/class/devfreq/17000000.gpu/max_freq"), "fast\n").unwrap();
    assert_eq!(rig.tree.asked().gpu_cap_hz, None);
}

#[test]
fn sensors_fail_as_they_are_told() {
    let mut rig = Rig::new("orin-nano-8gb-super", 1);
    let before = rig.sample();
    rig.serve("sensor tj-thermal frozen\nsensor gpu-thermal cold\nsensor cpu-thermal dead\nsensor VDD_IN dead\nsensor fan cold");
    let sample = rig.sample();
    assert_eq!(celsius(&sample, "tj-thermal"), celsius(&before, "tj-thermal"));
    assert_eq!((celsius(&sample, "gpu-thermal"), celsius(&sample, "cpu-thermal")), (None, None));
    assert_eq!((sample.power_watts, sample.fans[0].rpm), (None, Some(0)));
    let readings = rig.serve("");
    let sample = rig.sample();
    assert!(near(celsius(&sample, "tj-thermal"), readings.tj_celsius));
    assert!(celsius(&sample, "cpu-thermal").is_some() && sample.power_watts.is_some());
}

#[test]
fn a_hanging_sensor_is_a_pipe_and_heals() {
    use std::os::unix::fs::FileTypeExt;
    let mut rig = Rig::new("orin-nano-8gb-super", 1);
    let pipes = |rig: &Rig| {
        let zones = (0..9).map(|n| rig.path(&format!("sys/class/thermal/thermal_zone{n}/temp")));
        let kinds = zones.filter_map(|path| fs::symlink_metadata(path).ok());
        kinds.filter(|metadata| metadata.file_type().is_fifo()).count()
    };
    rig.serve("sensor soc0-thermal hanging");
    assert_eq!(pipes(&rig), 1);
    rig.serve("");
    assert_eq!(pipes(&rig), 0);
    assert!(celsius(&rig.sample(), "soc0-thermal").is_some());
}

#[test]
fn a_reader_never_sees_half_a_file() {
    let mut rig = Rig::new("orin-nano-8gb-super", 1);
    let path = rig.path("proc/meminfo");
    let reader = std::thread::spawn(move || {
        let whole = |path: &Path| fs::read_to_string(path).unwrap().ends_with(" kB\n");
        (0..500).all(|_| whole(&path))
    });
    let mut tokens = 0;
    while !reader.is_finished() {
        tokens += 1;
        rig.board.hold(&Llm::B1, tokens % 4000);
        rig.tree.show(&rig.board.readings(), &Faults::default()).unwrap();
    }
    assert!(reader.join().unwrap());
}

#[test]
fn what_rarely_changes_and_what_throttles_is_read_of_every_module() {
    for module in Module::all() {
        let mut rig = Rig::new(module.name, 5);
        let readings = rig.serve("");
        let sample = rig.sample();
        let facts = &sample.facts;
        let known = facts.module.as_ref().expect("the module is known");
        assert_eq!((known.sku, known.is_super), (module.identity.part, module.identity.is_super));
        assert_eq!(known.cores, module.cpu.cores, "{}", module.name);
        assert_eq!(facts.versions.jetpack, Some("6.2.2"));
        assert_eq!(facts.power_modes.default, Some(module.default_mode));
        let modes: Vec<_> =
            facts.power_modes.list.iter().map(|m| (m.id, m.name.as_str())).collect();
        assert_eq!(modes, module.modes.iter().map(|m| (m.id, m.name)).collect::<Vec<_>>());
        assert_eq!(sample.power_mode.as_ref().map(|mode| mode.id), Some(module.default_mode));
        let gpu = sample.clocks.gpu.as_ref().expect("there is a GPU");
        assert_eq!(gpu.available_hertz.len(), module.gpu.hz.len());
        assert!(sample.clocks.gpu_busy_share.is_some_and(|share| share > 0.5));
        assert_eq!(sample.clocks.cpus.len(), module.cpu.policies.len());
        let counted: u64 = readings.over_currents.iter().sum();
        assert_eq!(sample.throttle.over_current_events(), Some(counted));
        assert_eq!(sample.throttle.clocks_held_down().count(), 0);
        assert!(facts.boot.slots.iter().all(|slot| slot.status == Some(0)));
        assert!(facts.gpu_clients.as_ref().is_some_and(|clients| !clients.is_empty()));
        assert!(sample.silent.is_empty());
    }
}
