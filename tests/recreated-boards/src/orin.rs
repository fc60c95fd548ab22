//! Recreated Orin boards at rest, as the kernel shows them.

use crate::{Tree, of, rootfs};

/// What makes one board differ from another.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) model: &'static str,
    pub(super) compatible: &'static str,
    pub(super) cores: usize,
    pub(super) memory_kib: u64,
    /// Kernel and directory numbers: the first thermal zone and its step.
    zones_from: i32,
    zones_step: i32,
    /// Processor groups and their steps in kilohertz: base, cap, top.
    policies: &'static [usize],
    cpu_cap: u64,
    cpu_top: u64,
    /// Steps of the GPU in megahertz, and its cap.
    gpu_steps: &'static [u64],
    gpu_cap: u64,
    gpu_top: u64,
    emc_cap: u64,
    /// Rails of each INA3221 chip: label, millivolts, milliamperes.
    chips: &'static [[(&'static str, u32, u32); 3]],
    /// The limit of the first rail in milliamperes.
    limit: u32,
    pub(super) conf: &'static str,
    pub(super) modes: &'static [(u32, &'static str, usize, i64, i64, i64, u32)],
    pub(super) mode: u32,
    pub(super) release: &'static str,
    pub(super) kernel: &'static str,
    pub(super) packages: &'static [(&'static str, &'static str)],
    pub(super) cuda: &'static str,
    agx: bool,
}

const NANO: Board = Board {
    model: "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    compatible: "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    cores: 6,
    memory_kib: 7_789_952,
    zones_from: 0,
    zones_step: 1,
    policies: &[0, 4],
    cpu_cap: 1_344_000,
    cpu_top: 1_728_000,
    gpu_steps: &[306, 408, 510, 612, 714, 816, 918, 1020],
    gpu_cap: 918_000_000,
    gpu_top: 1_020_000_000,
    emc_cap: 3_199_000_000,
    chips: &[[("VDD_IN", 5000, 928), ("VDD_CPU_GPU_CV", 5000, 112), ("VDD_SOC", 5000, 296)]],
    limit: 4984,
    conf: "nvpmodel_p3767_0003_super.conf",
    modes: &[
        (0, "15W", 6, 1_497_600, 612_000_000, 2_133_000_000, 240),
        (1, "25W", 6, 1_344_000, 918_000_000, 3_199_000_000, 240),
        (2, "MAXN_SUPER", 6, -1, -1, -1, 240),
    ],
    mode: 1,
    release: "# R36 (release), REVISION: 5.0, GCID: 43688277, BOARD: generic, EABI: aarch64, \
              DATE: Fri Jan 16 03:50:45 UTC 2026\n# KERNEL_VARIANT: oot\n",
    kernel: "5.15.185-tegra",
    packages: &[
        ("nvidia-l4t-core", "36.5.0-20260115194252"),
        ("libcudnn9-cuda-12", "9.3.0.75-1"),
        ("libnvinfer10", "10.3.0.30-1+cuda12.5"),
        ("nvidia-jetpack", "6.2.2+b24"),
    ],
    cuda: "12.6.11",
    agx: false,
};

const NX: Board = Board {
    model: "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super\0",
    compatible: "nvidia,p3768-0000+p3767-0000-super\0nvidia,p3767-0000\0nvidia,tegra234\0",
    cores: 8,
    memory_kib: 16_032_768,
    cpu_cap: 1_497_600,
    cpu_top: 1_984_000,
    gpu_steps: &[306, 408, 510, 612, 714, 816, 918, 1020, 1122, 1173],
    gpu_cap: 1_173_000_000,
    gpu_top: 1_173_000_000,
    chips: &[[("VDD_IN", 5160, 900), ("VDD_CPU_GPU_CV", 5160, 120), ("VDD_SOC", 5160, 280)]],
    limit: 7784,
    conf: "nvpmodel_p3767_0000_super.conf",
    modes: &[
        (0, "MAXN_SUPER", 8, -1, -1, -1, 240),
        (1, "10W", 4, 1_190_400, 612_000_000, 2_133_000_000, 252),
        (2, "15W", 4, 1_420_800, 612_000_000, -1, 252),
        (3, "25W", 8, 1_497_600, 408_000_000, -1, 240),
        (4, "40W", 8, 1_497_600, 1_173_000_000, -1, 240),
    ],
    mode: 4,
    ..NANO
};

const AGX: Board = Board {
    model: "NVIDIA Jetson AGX Orin Developer Kit\0",
    compatible: "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
    cores: 12,
    memory_kib: 64_349_016,
    policies: &[0, 4, 8],
    cpu_cap: 1_728_000,
    cpu_top: 2_201_600,
    gpu_steps: &[306, 408, 510, 612, 714, 816, 918, 1020, 1122, 1224],
    gpu_cap: 612_000_000,
    gpu_top: 1_300_500_000,
    chips: &[
        [("VDD_GPU_SOC", 19_800, 160), ("VDD_CPU_CV", 19_800, 40), ("VIN_SYS_5V0", 19_800, 230)],
        [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 19_800, 35), ("NC", 0, 0)],
    ],
    limit: 0,
    conf: "nvpmodel_p3701_0000.conf",
    modes: &[
        (0, "MAXN", 12, -1, -1, -1, 240),
        (1, "15W", 4, 1_113_600, 408_000_000, 2_133_000_000, 248),
        (2, "30W", 8, 1_728_000, 612_000_000, -1, 240),
        (3, "50W", 12, 1_497_600, 816_000_000, -1, 240),
    ],
    mode: 2,
    agx: true,
    ..NANO
};

/// A Jetson Orin Nano 8 GB Super on Jetson Linux 36.5.
#[must_use]
pub fn orin_nano() -> Tree {
    NANO.tree()
}

/// The same board after a boot on which the kernel counted the other way round.
#[must_use]
pub fn orin_nano_renumbered() -> Tree {
    Board { zones_from: 13, zones_step: -1, ..NANO }.tree()
}

/// A Jetson Orin NX 16 GB Super.
#[must_use]
pub fn orin_nx_16gb() -> Tree {
    NX.tree()
}

/// A Jetson AGX Orin 64 GB, which has two power monitors.
#[must_use]
pub fn agx_orin_64gb() -> Tree {
    AGX.tree()
}

/// An Orin Nano on JetPack 7.2, whose `model` names another module.
#[must_use]
pub fn orin_nano_jetpack_7() -> Tree {
    let board = Board {
        model: "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super\0",
        release: "# R39 (release), REVISION: 2.0, GCID: 44000000, BOARD: generic, EABI: aarch64, \
                  DATE: Mon Jun  1 00:00:00 UTC 2026\n",
        kernel: "6.8.12-tegra",
        packages: &[("nvidia-l4t-core", "39.2.0-20260601000000")],
        cuda: "13.2.0",
        ..NANO
    };
    board.tree()
}

impl Board {
    fn tree(&self) -> Tree {
        let tree = of(&[
            ("proc/device-tree/model", self.model),
            ("proc/device-tree/compatible", self.compatible),
            ("proc/device-tree/serial-number", "1424123012345\0"),
        ]);
        rootfs::write(self, &tree);
        self.zones(&tree);
        self.cooling(&tree);
        self.rails(&tree);
        self.clocks(&tree);
        for (file, content) in [
            ("hwmon0/name", "pwmfan"),
            ("hwmon0/pwm1", "88"),
            ("hwmon2/name", "pwm_tach"),
            ("hwmon2/rpm", "1756"),
            ("hwmon3/name", "soctherm_oc"),
            ("hwmon3/oc1_event_cnt", "0"),
            ("hwmon3/oc2_event_cnt", "0"),
            ("hwmon3/oc3_event_cnt", "1843"),
            ("hwmon3/oc1_throt_en", "1"),
            ("hwmon3/oc2_throt_en", "1"),
            ("hwmon3/oc3_throt_en", "1"),
        ] {
            tree.write(format!("sys/class/hwmon/{file}"), format!("{content}\n"));
        }
        tree
    }

    fn zones(&self, tree: &Tree) {
        let mut zones = vec![
            ("cpu-thermal", Some("47875\n")),
            ("gpu-thermal", Some("49250\n")),
            ("cv0-thermal", None),
            ("cv1-thermal", None),
            ("cv2-thermal", None),
            ("soc0-thermal", Some("47281\n")),
            ("soc1-thermal", Some("48281\n")),
            ("soc2-thermal", Some("46750\n")),
            ("tj-thermal", Some("50218\n")),
        ];
        if self.agx {
            zones
                .extend([("tboard-thermal", Some("39500\n")), ("tdiode-thermal", Some("41250\n"))]);
        }
        for (index, (name, temp)) in (0..).zip(zones) {
            let number = self.zones_from + self.zones_step * index;
            let write = |file: &str, content: &str| {
                tree.write(format!("sys/class/thermal/thermal_zone{number}/{file}"), content);
            };
            write("type", &format!("{name}\n"));
            if let Some(temp) = temp {
                write("temp", temp);
            }
            let trips: &[_] = match name {
                "tj-thermal" => &[("active", 74000), ("critical", 104_500), ("active", 95000)],
                "tboard-thermal" | "tdiode-thermal" => &[("hot", 106_000)],
                _ if self.agx => &[("passive", 99000), ("critical", 104_500)],
                _ => &[("passive", 99000), ("critical", 104_500), ("passive", 70000)],
            };
            for (trip, (kind, at)) in trips.iter().enumerate() {
                write(&format!("trip_point_{trip}_type"), &format!("{kind}\n"));
                write(&format!("trip_point_{trip}_temp"), &format!("{at}\n"));
            }
        }
    }

    fn cooling(&self, tree: &Tree) {
        let mut devices = vec![
            ("pwm-fan".to_owned(), 3),
            ("devfreq-17000000.gpu".to_owned(), self.gpu_steps.len() - 1),
        ];
        devices.extend(self.policies.iter().map(|policy| (format!("cpufreq-cpu{policy}"), 25)));
        for zone in ["cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2"] {
            devices.push((format!("{zone}-throttle-alert"), 2));
        }
        if !self.agx {
            devices.push(("hot-surface-alert".to_owned(), 2));
        }
        for (number, (name, max)) in devices.into_iter().enumerate() {
            let at = format!("sys/class/thermal/cooling_device{number}");
            tree.write(format!("{at}/type"), format!("{name}\n"));
            tree.write(format!("{at}/cur_state"), if name == "pwm-fan" { "1\n" } else { "0\n" });
            tree.write(format!("{at}/max_state"), format!("{max}\n"));
        }
    }

    fn rails(&self, tree: &Tree) {
        for (chip, rails) in self.chips.iter().enumerate() {
            // The other way round, as after an unlucky boot.
            let number = if chip == 0 { 9 } else { 1 };
            let write = |file: &str, content: &str| {
                tree.write(format!("sys/class/hwmon/hwmon{number}/{file}"), format!("{content}\n"));
            };
            tree.link(
                format!("sys/class/hwmon/hwmon{number}/device"),
                format!("../../../devices/platform/i2c-1/1-004{chip}"),
            );
            write("name", "ina3221");
            for (channel, (label, millivolts, milliamperes)) in (1..).zip(rails) {
                write(&format!("in{channel}_label"), label);
                write(&format!("in{channel}_input"), &millivolts.to_string());
                write(&format!("curr{channel}_input"), &milliamperes.to_string());
            }
            if self.limit > 0 {
                write("curr1_max", &self.limit.to_string());
                write("curr1_crit", &self.limit.to_string());
            }
            write("in4_input", "4640");
            write("in7_label", "sum of shunt voltages");
            write("in7_input", "6680");
            write("curr4_input", "1336");
        }
    }

    fn clocks(&self, tree: &Tree) {
        let write = |file: &str, content: String| {
            tree.write(format!("sys/class/devfreq/17000000.gpu/{file}"), content + "\n");
        };
        let mut steps: Vec<String> =
            self.gpu_steps.iter().map(|mhz| (mhz * 1_000_000).to_string()).collect();
        if !steps.contains(&self.gpu_top.to_string()) {
            steps.push(self.gpu_top.to_string());
        }
        write("cur_freq", "306000000".into());
        write("min_freq", "306000000".into());
        write("max_freq", self.gpu_cap.to_string());
        write("available_frequencies", steps.join(" ") + " ");
        write("governor", "nvhost_podgov".into());
        tree.write("sys/devices/platform/bus@0/17000000.gpu/load", "620\n");
        tree.write("sys/kernel/nvpmodel_clk_cap/emc", format!("{}\n", self.emc_cap));
        let emc =
            [("rate", 2_133_000_000_u64), ("min_rate", 204_000_000), ("max_rate", 3_199_000_000)];
        for (file, hertz) in emc {
            tree.write(format!("sys/kernel/debug/bpmp/debug/clk/emc/{file}"), format!("{hertz}\n"));
        }
        for policy in self.policies {
            let write = |file: &str, content: String| {
                let at = format!("sys/devices/system/cpu/cpufreq/policy{policy}/{file}");
                tree.write(at, content + "\n");
            };
            write("scaling_cur_freq", "1190400".into());
            write("cpuinfo_cur_freq", "1190000".into());
            write("scaling_min_freq", "729600".into());
            write("scaling_max_freq", self.cpu_cap.to_string());
            write("cpuinfo_max_freq", self.cpu_top.to_string());
            write("scaling_governor", "schedutil".into());
            write("scaling_available_frequencies", format!("115200 729600 {} ", self.cpu_top));
        }
    }
}
