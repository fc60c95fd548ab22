//! The recreated boards' files that are not the kernel's own sensors: releases,
//! packages, power modes, memory, boot slots.

use std::fmt::Write;

use crate::Tree;
use crate::orin::Board;

const EFIVARS: &str = "sys/firmware/efi/efivars";
const GUID: &str = "781e084c-a330-417c-b678-38e696380cb9";

pub(super) fn write(board: &Board, tree: &Tree) {
    release(board, tree);
    power_modes(board, tree);
    memory(board, tree);
    boot(tree);
    disk(tree);
    for (path, content) in [
        ("proc/stat", "cpu  1000 20 300 5000 40 5 6 7 0 0\ncpu0 1 2 3 4\nbtime 1790000000\n"),
        ("proc/loadavg", "0.52 0.31 0.20 1/345 6789\n"),
        ("proc/uptime", "3600.25 20000.00\n"),
        ("sys/class/watchdog/watchdog0/identity", "NVIDIA Tegra186 WDT\n"),
        ("sys/class/watchdog/watchdog0/timeout", "120\n"),
        ("sys/class/watchdog/watchdog0/state", "active\n"),
        ("etc/systemd/system.conf.d/watchdog.conf", "[Manager]\nRuntimeWatchdogSec=120\n"),
        ("etc/nvfancontrol.conf", "<FAN 1>\n\tFAN_DEFAULT_PROFILE quiet\n"),
    ] {
        tree.write(path, content);
    }
    tree.write("sys/devices/system/cpu/online", format!("0-{}\n", board.cores - 1));
    tree.link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target");
}

fn release(board: &Board, tree: &Tree) {
    tree.write("etc/nv_tegra_release", board.release);
    tree.write("proc/sys/kernel/osrelease", format!("{}\n", board.kernel));
    let mut status =
        String::from("Package: adduser\nStatus: install ok installed\nVersion: 3.118\n");
    for (package, version) in board.packages {
        let _ = write!(
            status,
            "\nPackage: {package}\nStatus: install ok installed\nArchitecture: arm64\n\
             Version: {version}\nDescription: one of NVIDIA's\n and a second line\n"
        );
    }
    tree.write("var/lib/dpkg/status", status);
    let cuda = board.cuda;
    tree.write(
        "usr/local/cuda/version.json",
        format!("{{\n  \"cuda\" : {{\n    \"name\" : \"CUDA SDK\",\n    \"version\" : \"{cuda}\"\n  }}\n}}\n"),
    );
}

/// In NVIDIA's own words, in which one heading has no space.
fn power_modes(board: &Board, tree: &Tree) {
    let mut conf = String::from(
        "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n\
         <PARAM TYPE=CLOCK NAME=EMC >\nMAX_FREQ /sys/kernel/nvpmodel_clk_cap/emc\n",
    );
    for (id, name, cores, cpu, gpu, emc, mask) in board.modes {
        let _ = write!(conf, "\n< POWER_MODEL ID={id} NAME={name} >\n");
        for core in 0..board.cores {
            let _ = writeln!(conf, "CPU_ONLINE CORE_{core} {}", u8::from(core < *cores));
        }
        let _ = write!(
            conf,
            "FBP_POWER_GATING FBP_PG_MASK 2\nTPC_POWER_GATING TPC_PG_MASK {mask}\n\
             CPU_A78_0 MIN_FREQ 729600\nCPU_A78_0 MAX_FREQ {cpu}\n\
             GPU MIN_FREQ 0\nGPU MAX_FREQ {gpu}\nEMC MAX_FREQ {emc}\n"
        );
    }
    let _ = write!(conf, "\n< PM_CONFIG DEFAULT={} >\n", board.mode);
    tree.write(format!("etc/nvpmodel/{}", board.conf), conf);
    // NVIDIA's link is absolute.
    tree.link("etc/nvpmodel.conf", format!("/etc/nvpmodel/{}", board.conf));
    tree.write("var/lib/nvpmodel/status", format!("pmode:{:04}\n", board.mode));
}

fn memory(board: &Board, tree: &Tree) {
    let total = board.memory_kib;
    let (available, swap) = (total * 4 / 5, 3_894_960);
    tree.write(
        "proc/meminfo",
        format!(
            "MemTotal:        {total} kB\nMemFree:         4089000 kB\n\
             MemAvailable:    {available} kB\nBuffers:           92000 kB\n\
             SwapTotal:       {swap} kB\nSwapFree:        {swap} kB\n"
        ),
    );
    tree.write(
        "proc/swaps",
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
         /dev/zram0                              partition\t1947480\t\t0\t\t5\n\
         /dev/zram1                              partition\t1947480\t\t0\t\t5\n",
    );
    for device in ["zram0", "zram1"] {
        let stat = "  4096  64  524288  0  524288  0 0 0 0\n";
        tree.write(format!("sys/block/{device}/mm_stat"), stat);
    }
    tree.write(
        "sys/kernel/debug/nvmap/iovmm/clients",
        "CLIENT                        PROCESS                PID    SIZE\n\
         user                          engine-worker         4321    524288K\n\
         total                                                       524288K\n",
    );
}

fn boot(tree: &Tree) {
    let variables = [
        ("RootfsStatusSlotA", 0),
        ("RootfsStatusSlotB", 0),
        ("RootfsRedundancyLevel", 0),
        ("RootfsRetryCountMax", 3),
    ];
    for (name, value) in variables {
        tree.write(format!("{EFIVARS}/{name}-{GUID}"), [7, 0, 0, 0, value, 0, 0, 0]);
    }
    tree.link(
        "etc/systemd/system/multi-user.target.wants/nv-l4t-bootloader-config.service",
        "/etc/systemd/system/nv-l4t-bootloader-config.service",
    );
}

fn disk(tree: &Tree) {
    tree.write(
        "proc/mounts",
        "/dev/nvme0n1p1 / ext4 rw,relatime 0 0\ntmpfs /run tmpfs rw,nosuid 0 0\n",
    );
    tree.write("sys/fs/ext4/nvme0n1p1/errors_count", "0\n");
}
