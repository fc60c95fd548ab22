//! Machines to test against: directory trees with the files that kernels show.
//!
//! They are recreated from what is documented of those boards, not captured.
//! A plain tree cannot answer `EAGAIN`, so a zone without power has no `temp`.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "what is only there for tests is a test")]

mod orin;
mod rootfs;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub use orin::{agx_orin_64gb, orin_nano, orin_nano_jetpack_7, orin_nano_renumbered, orin_nx_16gb};

/// A tree that is deleted when it is dropped.
#[derive(Debug)]
pub struct Tree(TempDir);

impl Tree {
    /// Its top, as whoever reads the tree names directories.
    #[must_use]
    pub fn root<R: From<PathBuf>>(&self) -> R {
        self.path().to_owned().into()
    }

    /// The directory that it is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, in place of the one that is there.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.make_room_for(path.as_ref());
        std::fs::write(path, content).unwrap();
    }

    /// Makes a link to `target`, in place of what is there.
    pub fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        let path = self.make_room_for(path.as_ref());
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Takes a file away, if it is there.
    pub fn remove(&self, path: impl AsRef<Path>) {
        let _ = std::fs::remove_file(self.0.path().join(path));
    }

    /// Puts a file in place of another whose readers wait until somebody writes.
    pub fn hang(&self, path: impl AsRef<Path>) {
        let path = self.make_room_for(path.as_ref());
        let _ = std::fs::remove_file(&path);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    fn make_room_for(&self, path: &Path) -> PathBuf {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

/// A tree with these files.
#[must_use]
pub fn of(files: &[(&str, &str)]) -> Tree {
    let tree = Tree(TempDir::new().unwrap());
    for (path, content) in files {
        tree.write(path, content);
    }
    tree
}

/// A PC with a bit of everything that the kernel's documentation describes.
#[must_use]
pub fn pc() -> Tree {
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
