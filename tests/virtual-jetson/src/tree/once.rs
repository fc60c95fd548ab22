//! What does not change while a board is on: who it is, its release, its power
//! modes, its boot slots.

use std::fmt::Write;
use std::io;

use super::Tree;
use crate::dice::Dice;
use crate::module::{Mode, Module};
use crate::readings::Readings;

/// Published, all from Jetson Linux 36.5.0 (JetPack 6.2.2).
const RELEASE: &str = "\
# R36 (release), REVISION: 5.0, GCID: 43688277, BOARD: generic, EABI: aarch64, DATE: Fri Jan 16 03:50:45 UTC 2026
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia
";
const KERNEL: &str = "5.15.185-tegra";
const PACKAGES: [(&str, &str); 10] = [
    ("nvidia-l4t-core", "36.5.0-20260115194252"),
    ("nvidia-l4t-kernel", "5.15.185-tegra-36.5.0-20260115194252"),
    ("nvidia-l4t-bootloader", "36.5.0-20260115194252"),
    ("nvidia-l4t-cuda", "36.5.0-20260115194252"),
    ("nvidia-jetpack", "6.2.2+b24"),
    ("cuda-cudart-12-6", "12.6.68-1"),
    ("libcudnn9-cuda-12", "9.3.0.75-1"),
    ("libnvinfer10", "10.3.0.30-1+cuda12.5"),
    ("tensorrt", "10.3.0.30-1+cuda12.5"),
    ("systemd", "249.11-0ubuntu3.16"),
];

const SLOTS: [(&str, u8); 4] = [
    ("RootfsStatusSlotA", 0),
    ("RootfsStatusSlotB", 0),
    ("RootfsRedundancyLevel", 0),
    ("RootfsRetryCountMax", 3),
];
const SLOTS_GUID: &str = "781e084c-a330-417c-b678-38e696380cb9";

/// Rows of the quiet and the cool profile: margin, hysteresis, drive, turns.
const FAN_P3767: &str = include_str!("fan_p3767.conf");
const FAN_P3701: &str = include_str!("fan_p3701.conf");

impl Tree {
    pub(super) fn once(&mut self, mode: u32, first: &Readings, dice: &mut Dice) -> io::Result<()> {
        self.identity_once(dice)?;
        self.release_once()?;
        self.modes_once(mode)?;
        self.heat_once()?;
        self.power_once(first)?;
        if let Some(mode) = self.module.mode(mode) {
            self.clocks_once(mode)?;
        }
        self.disk_once(dice)?;
        self.boot_once()
    }

    /// Shows the caps of another power mode, as nvpmodel does.
    ///
    /// # Errors
    /// A file could not be written; the error names it.
    pub fn set_mode(&mut self, mode: &Mode) -> io::Result<()> {
        self.files.forget();
        self.clocks_once(mode)
    }

    fn identity_once(&mut self, dice: &mut Dice) -> io::Result<()> {
        let identity = self.module.identity;
        let (part, carrier) = (identity.part, identity.carrier);
        let suffix = if identity.is_super { "-super" } else { "" };
        let compatible =
            format!("nvidia,{carrier}+{part}{suffix}\0nvidia,{part}\0nvidia,tegra234\0");
        let tree = "sys/firmware/devicetree/base";
        self.files.put(&format!("{tree}/model"), format!("{}\0", identity.model))?;
        self.files.put(&format!("{tree}/compatible"), compatible)?;
        let serial = 1_420_000_000_000 + dice.next() % 10_000_000_000;
        self.files.put(&format!("{tree}/serial-number"), format!("{serial}\0"))?;
        self.files.link("proc/device-tree", "../sys/firmware/devicetree/base")
    }

    fn release_once(&mut self) -> io::Result<()> {
        self.files.put("etc/nv_tegra_release", RELEASE)?;
        self.files.line("proc/sys/kernel/osrelease", KERNEL)?;
        let version = format!("Linux version {KERNEL} (buildbrain) #1 SMP PREEMPT\n");
        self.files.put("proc/version", version)?;
        let driver = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0\n";
        self.files.put("proc/driver/nvidia/version", driver)?;
        let mut status = String::new();
        for (package, version) in PACKAGES {
            let _infallible = writeln!(
                status,
                "Package: {package}\nStatus: install ok installed\nArchitecture: arm64\n\
                 Version: {version}\n"
            );
        }
        self.files.put("var/lib/dpkg/status", status)?;
        let fan = if self.module.is_agx() { "p3701_0000" } else { "p3767_0000" };
        let conf = if self.module.is_agx() { FAN_P3701 } else { FAN_P3767 };
        self.files.put(&format!("etc/nvpower/nvfancontrol/nvfancontrol_{fan}.conf"), conf)?;
        self.files
            .link("etc/nvfancontrol.conf", &format!("nvpower/nvfancontrol/nvfancontrol_{fan}.conf"))
    }

    fn modes_once(&mut self, mode: u32) -> io::Result<()> {
        let name = self.module.identity.nvpmodel;
        let conf = conf(&self.module);
        self.files.put(&format!("etc/nvpmodel/{name}.conf"), conf)?;
        self.files.link("etc/nvpmodel.conf", &format!("nvpmodel/{name}.conf"))?;
        self.files.line("var/lib/nvpmodel/status", format_args!("pmode:{mode:04}"))
    }

    fn disk_once(&mut self, dice: &mut Dice) -> io::Result<()> {
        self.files.line("sys/fs/ext4/nvme0n1p1/errors_count", 0)?;
        self.files.line("sys/block/nvme0n1/size", 1_000_215_216)?;
        self.files.line("sys/block/nvme0n1/queue/rotational", 0)?;
        let root = "/dev/nvme0n1p1 / ext4 rw,relatime 0 0\n";
        self.files.put("proc/mounts", root)?;
        let mut swaps = String::from("Filename\tType\t\tSize\tUsed\tPriority\n");
        let cores = u64::from(self.module.cpu.cores);
        let each_kib = self.module.memory.total_kib / 2 / cores;
        for number in 0..cores {
            let dir = format!("sys/block/zram{number}");
            self.files.line(&format!("{dir}/disksize"), each_kib * 1024)?;
            self.files.line(&format!("{dir}/mm_stat"), "4096 64 4096 0 4096 0 0 0 0")?;
            let _infallible = writeln!(swaps, "/dev/zram{number}\tpartition\t{each_kib}\t0\t5");
        }
        self.files.put("proc/swaps", swaps)?;
        let (a, b) = (dice.next(), dice.next());
        let boot_id = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\n",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 48 & 0xfff,
            b & 0xffff_ffff_ffff
        );
        self.files.put("proc/sys/kernel/random/boot_id", boot_id)
    }

    fn boot_once(&mut self) -> io::Result<()> {
        let dog = "sys/class/watchdog/watchdog0";
        for (file, value) in [
            ("identity", "NVIDIA Tegra186 WDT"),
            ("timeout", "120"),
            ("timeleft", "97"),
            ("state", "active"),
            ("nowayout", "0"),
            ("bootstatus", "0"),
        ] {
            self.files.line(&format!("{dog}/{file}"), value)?;
        }
        for (name, value) in SLOTS {
            let path = format!("sys/firmware/efi/efivars/{name}-{SLOTS_GUID}");
            self.files.put(&path, [7, 0, 0, 0, value, 0, 0, 0])?;
        }
        let kit = match (self.module.is_agx(), self.module.identity.is_super) {
            (true, _) => "jetson-agx-orin-devkit",
            (false, true) => "jetson-orin-nano-devkit-super",
            (false, false) => "jetson-orin-nano-devkit",
        };
        let (board, sku) = self.module.identity.part.split_once('-').unwrap_or(("p3767", "0005"));
        let board = board.trim_start_matches('p');
        self.files.put(
            "etc/nv_boot_control.conf",
            format!(
                "TNSPEC {board}-300-{sku}-J.1-1-0-{kit}-\n\
                 COMPATIBLE_SPEC {board}-000-{sku}--1--{kit}-\n\
                 TEGRA_BOOT_STORAGE nvme0n1\nTEGRA_CHIPID 0x23\n\
                 TEGRA_OTA_BOOT_DEVICE /dev/mtdblock0\nTEGRA_OTA_GPT_DEVICE /dev/mtdblock0\n"
            ),
        )
    }
}

/// The power modes as NVIDIA writes them, its missing space included.
fn conf(module: &Module) -> String {
    let mut text = parameters(module);
    for mode in module.modes {
        text.push_str(&power_model(module, mode));
    }
    let _infallible = writeln!(text, "< PM_CONFIG DEFAULT={} >", module.default_mode);
    text
}

fn parameters(module: &Module) -> String {
    let mut text = String::from("< PARAM TYPE=FILE NAME=CPU_ONLINE >\n");
    for core in 0..module.cpu.cores {
        let _infallible = writeln!(text, "CORE_{core} /sys/devices/system/cpu/cpu{core}/online");
    }
    text.push_str(
        "< PARAM TYPE=FILE NAME=TPC_POWER_GATING >\n\
         TPC_PG_MASK /sys/devices/platform/gpu.0/tpc_pg_mask\n\
         TPC_PG_MASK_KNEXT /sys/devices/platform/gpu.0/tpc_pg_mask\n",
    );
    for first in module.cpu.policies {
        let dir = format!("/sys/devices/system/cpu/cpu{first}/cpufreq");
        let _infallible = writeln!(
            text,
            "< PARAM TYPE=CLOCK NAME=CPU_A78_{} >\n\
             FREQ_TABLE {dir}/scaling_available_frequencies\n\
             MAX_FREQ {dir}/scaling_max_freq\nMIN_FREQ {dir}/scaling_min_freq",
            first / 4
        );
    }
    text.push_str(
        "< PARAM TYPE=CLOCK NAME=GPU >\n\
         FREQ_TABLE_KNEXT /sys/devices/platform/17000000.gpu/devfreq_dev/available_frequencies\n\
         MAX_FREQ_KNEXT /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq\n\
         MIN_FREQ_KNEXT /sys/devices/platform/17000000.gpu/devfreq_dev/min_freq\n\
         <PARAM TYPE=CLOCK NAME=EMC >\n\
         MAX_FREQ /sys/kernel/nvpmodel_clk_cap/emc\n",
    );
    text
}

fn power_model(module: &Module, mode: &Mode) -> String {
    /// What the hardware can.
    const UNLIMITED: &str = "-1";
    let or_most = |value: Option<u64>| value.map_or(UNLIMITED.to_owned(), |v| v.to_string());
    let mut text = format!("< POWER_MODEL ID={} NAME={} >\n", mode.id, mode.name);
    for core in 0..module.cpu.cores {
        let on = u8::from(core < mode.cores);
        let _infallible = writeln!(text, "CPU_ONLINE CORE_{core} {on}");
    }
    let _infallible = writeln!(
        text,
        "FBP_POWER_GATING FBP_PG_MASK 2\nTPC_POWER_GATING TPC_PG_MASK {}\n\
         GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on",
        mode.tpc_mask
    );
    for first in module.cpu.policies {
        let _infallible = writeln!(
            text,
            "CPU_A78_{} MIN_FREQ 729600\nCPU_A78_{} MAX_FREQ {}",
            first / 4,
            first / 4,
            or_most(mode.cpu_khz.map(u64::from))
        );
    }
    let _infallible = writeln!(
        text,
        "GPU MIN_FREQ 0\nGPU MAX_FREQ {}\nGPU_POWER_CONTROL_DISABLE GPU_PWR_CNTL_DIS auto\n\
         EMC MAX_FREQ {}\n",
        or_most(mode.gpu_hz),
        or_most(mode.emc_hz)
    );
    text
}
