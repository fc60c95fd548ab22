//! Machines to test against: directory trees with the files that kernels show,
//! as captured from real ones.

use std::path::Path;

use tempfile::TempDir;

use crate::Root;

/// A tree that is deleted when it is dropped.
#[derive(Debug)]
pub(crate) struct Tree(TempDir);

impl Tree {
    pub(crate) fn root(&self) -> Root {
        Root::new(self.0.path())
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// A tree with these files.
pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
    let tree = Tree(TempDir::new().unwrap());
    for (path, content) in files {
        tree.write(path, content);
    }
    tree
}

/// A Jetson Orin Nano 8 GB Super at rest, on Jetson Linux 36.5. A plain tree
/// cannot answer `EAGAIN`, so `cv0-thermal` has no `temp` at all.
pub(crate) fn orin_nano() -> Tree {
    nano([0, 1, 2, 3])
}

/// The same board after a boot on which the kernel counted the other way round.
pub(crate) fn orin_nano_renumbered() -> Tree {
    nano([13, 12, 11, 10])
}

fn nano(numbers: [u32; 4]) -> Tree {
    let tree = of(&[
        (
            "proc/device-tree/model",
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        ),
        (
            "proc/device-tree/compatible",
            "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
        ),
        (
            "etc/nv_tegra_release",
            "# R36 (release), REVISION: 5.0, GCID: 43688277, BOARD: generic, EABI: aarch64\n\
             # KERNEL_VARIANT: oot\n",
        ),
        (
            "proc/meminfo",
            "MemTotal:        7789952 kB\nMemFree:         4089000 kB\n\
             MemAvailable:    6186000 kB\nBuffers:           92000 kB\n\
             SwapTotal:       3894960 kB\nSwapFree:        3894960 kB\n",
        ),
        ("proc/stat", "cpu  1000 20 300 5000 40 5 6 7 0 0\ncpu0 1 2 3 4\n"),
        ("proc/loadavg", "0.52 0.31 0.20 1/345 6789\n"),
        ("sys/devices/system/cpu/online", "0-5\n"),
        ("sys/block/zram0/mm_stat", "  4096  64  524288  0  524288  0 0 0 0\n"),
        ("sys/block/zram1/mm_stat", "  4096  64  524288  0  524288  0 0 0 0\n"),
        ("sys/class/hwmon/hwmon0/name", "pwmfan\n"),
        ("sys/class/hwmon/hwmon0/pwm1", "88\n"),
        ("sys/class/hwmon/hwmon2/name", "pwm_tach\n"),
        ("sys/class/hwmon/hwmon2/rpm", "1756\n"),
    ]);
    nano_zones(&tree, numbers);
    nano_rails(&tree);
    tree
}

fn nano_zones(tree: &Tree, numbers: [u32; 4]) {
    let zones = [
        ("tj-thermal", Some("50218\n")),
        ("cpu-thermal", Some("47875\n")),
        ("cv0-thermal", None),
        ("gpu-thermal", Some("49250\n")),
    ];
    for ((name, temp), number) in zones.into_iter().zip(numbers) {
        let write = |file: &str, content: &str| {
            tree.write(format!("sys/class/thermal/thermal_zone{number}/{file}"), content);
        };
        write("type", &format!("{name}\n"));
        if let Some(temp) = temp {
            write("temp", temp);
        }
        let trips: &[_] = if name == "tj-thermal" {
            &[("active", "74000"), ("critical", "104500"), ("active", "95000")]
        } else {
            &[("passive", "99000"), ("critical", "104500"), ("passive", "70000")]
        };
        for (trip, (kind, at)) in trips.iter().enumerate() {
            write(&format!("trip_point_{trip}_type"), &format!("{kind}\n"));
            write(&format!("trip_point_{trip}_temp"), &format!("{at}\n"));
        }
    }
}

fn nano_rails(tree: &Tree) {
    let write = |file: &str, content: &str| {
        tree.write(format!("sys/class/hwmon/hwmon1/{file}"), format!("{content}\n"));
    };
    write("name", "ina3221");
    let rails = [("VDD_IN", "928"), ("VDD_CPU_GPU_CV", "112"), ("VDD_SOC", "296")];
    for (channel, (label, milliamperes)) in (1..).zip(rails) {
        write(&format!("in{channel}_label"), label);
        write(&format!("in{channel}_input"), "5000");
        write(&format!("curr{channel}_input"), milliamperes);
    }
    write("in4_input", "4640");
    write("in7_label", "sum of shunt voltages");
    write("in7_input", "6680");
    write("curr4_input", "1336");
}

/// A PC with a bit of everything that the kernel's documentation describes.
pub(crate) fn pc() -> Tree {
    of(&[
        ("sys/class/thermal/thermal_zone0/type", "INT3400 Thermal\n"),
        ("sys/class/thermal/thermal_zone0/temp", "20000\n"),
        ("sys/class/thermal/thermal_zone1/type", "acpi-z\n"),
        ("sys/class/thermal/thermal_zone1/temp", "41000\n"),
        ("sys/class/thermal/thermal_zone1/trip_point_0_type", "critical\n"),
        ("sys/class/thermal/thermal_zone1/trip_point_0_temp", "119000\n"),
        ("sys/class/thermal/thermal_zone1/trip_point_1_type", "passive\n"),
        ("sys/class/thermal/thermal_zone1/trip_point_1_temp", "-274000\n"),
        ("sys/class/hwmon/hwmon0/name", "acpi_z\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "41000\n"),
        ("sys/class/hwmon/hwmon1/name", "coretemp\n"),
        ("sys/class/hwmon/hwmon1/temp1_label", "Package id 0\n"),
        ("sys/class/hwmon/hwmon1/temp1_input", "55000\n"),
        ("sys/class/hwmon/hwmon1/temp1_max", "80000\n"),
        ("sys/class/hwmon/hwmon1/temp1_crit", "100000\n"),
        ("sys/class/hwmon/hwmon1/temp2_label", "Core 0\n"),
        ("sys/class/hwmon/hwmon1/temp2_input", "54000\n"),
        ("sys/class/hwmon/hwmon2/name", "nvme\n"),
        ("sys/class/hwmon/hwmon2/temp1_label", "Composite\n"),
        ("sys/class/hwmon/hwmon2/temp1_input", "38850\n"),
        ("sys/class/hwmon/hwmon2/temp1_max", "81850\n"),
        ("sys/class/hwmon/hwmon2/temp1_crit", "84850\n"),
        ("sys/class/hwmon/hwmon2/temp2_label", "Sensor 1\n"),
        ("sys/class/hwmon/hwmon2/temp2_input", "-273150\n"),
        ("sys/class/hwmon/hwmon2/temp2_max", "65261850\n"),
        ("sys/class/hwmon/hwmon3/name", "k10temp\n"),
        ("sys/class/hwmon/hwmon3/temp1_label", "Tctl\n"),
        ("sys/class/hwmon/hwmon3/temp1_input", "60500\n"),
        ("sys/class/hwmon/hwmon4/name", "amdgpu\n"),
        ("sys/class/hwmon/hwmon4/power1_label", "PPT\n"),
        ("sys/class/hwmon/hwmon4/power1_average", "23500000\n"),
        ("sys/class/hwmon/hwmon5/name", "power_meter\n"),
        ("sys/class/hwmon/hwmon5/power1_average", "88000000\n"),
        ("sys/class/hwmon/hwmon6/name", "nct6775\n"),
        ("sys/class/hwmon/hwmon6/fan1_label", "CPU\n"),
        ("sys/class/hwmon/hwmon6/fan1_input", "900\n"),
        ("sys/class/hwmon/hwmon6/pwm1", "51\n"),
        ("sys/class/hwmon/hwmon6/fan2_input", "0\n"),
        ("sys/class/hwmon/hwmon7/in1_input", "1\n"),
    ])
}
