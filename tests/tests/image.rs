//! `scripts/build-image --l4t`: NVIDIA's archives become a tree that can be flashed. The
//! archives here are stand-ins of some files each, made for the test, and so are the tools
//! that run programs for arm64: dpkg is replaced by what unpacks our packages.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not there")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tests::machine::repository;

const BSP: &str = "Jetson_Linux_R36.5.0_aarch64.tbz2";
const SAMPLEFS: &str = "Tegra_Linux_Sample-Root-Filesystem_R36.5.0_aarch64.tbz2";
/// `e_machine` of ELF, at byte 18.
const AARCH64: u16 = 183;
const TREE: &str = "cache/l4t/Linux_for_Tegra/rootfs";
const LAYOUTS: &str = "Linux_for_Tegra/tools/kernel_flash";
const MARKS: &str = "etc/systemd/system/multi-user.target.wants/nv-l4t-bootloader-config.service";

/// Unpacks the packages that a chroot would have had dpkg install, and installs none that
/// are not here.
const UNSHARE: &str = r#"#!/bin/sh
[ "$1 $2" = "--mount sh" ] || exit 9
tree=$5
case "$*" in
*"apt-get install"*)
    cat "$tree/etc/resolv.conf" >/dev/null || exit 1
    echo "$*" >"$tree/installed"
    exit
    ;;
esac
for deb in "$tree"/tmp/debs/*.deb; do dpkg-deb --extract "$deb" "$tree" || exit 1; done
"#;

/// NVIDIA's script puts its release into the root file system.
const APPLY_BINARIES: &str = r#"#!/bin/sh
set -e
[ -d rootfs/etc ]
echo applied >>applied
printf '# R36 (release), REVISION: 5.0, GCID: 43688277, BOARD: generic\n' >rootfs/etc/nv_tegra_release
"#;

struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.program("stand-ins/unshare", UNSHARE);
        bench.program("stand-ins/arch-test", "#!/bin/sh\n");
        bench.program("stand-ins/qemu-aarch64-static", "#!/bin/sh\n");
        bench.program("bsp/Linux_for_Tegra/apply_binaries.sh", APPLY_BINARIES);
        for (path, content) in [
            ("etc/shadow", "root:*:19000:0:99999:7:::\ndaemon:!:19000::::::\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("etc/ssh/ssh_host_rsa_key", "everybody's"),
            ("etc/systemd/system/default.target", ""),
            ("lib/systemd/system/nv-oem-config.service", ""),
            ("lib/systemd/system/nv-l4t-bootloader-config.service", ""),
            ("usr/sbin/chpasswd", ""),
        ] {
            bench.write(&format!("samplefs/{path}"), content);
        }
        let marks = bench.path("samplefs").join(MARKS);
        fs::create_dir_all(marks.parent().unwrap()).unwrap();
        symlink("/lib/systemd/system/nv-l4t-bootloader-config.service", marks).unwrap();
        fs::create_dir(bench.path("programs")).unwrap();
        // Small, and for arm64 by what its header says. Nothing runs it.
        let mut small = fs::read("/bin/true").unwrap();
        small[18..20].copy_from_slice(&AARCH64.to_le_bytes());
        for name in ["stoker", "engine-worker", "indexer", "engine-builder"] {
            let program = bench.path("programs").join(name);
            fs::write(&program, &small).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        bench.pack();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes both archives, and says what they are.
    fn pack(&self) {
        let shell = format!(
            "mkdir -p l4t && tar -cjf l4t/{BSP} -C bsp . && tar -cjf l4t/{SAMPLEFS} -C samplefs . \
             && cd l4t && sha256sum *.tbz2 >SHA256SUMS"
        );
        let packed = Command::new("sh").args(["-c", &shell]).current_dir(self.0.path()).status();
        assert!(packed.unwrap().success());
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.path("stand-ins").display());
        Command::new(repository().join("scripts/build-image"))
            .args(["--l4t", "l4t", "--programs", "programs", "--cache", "cache"])
            .args(arguments)
            .current_dir(self.0.path())
            .env("PATH", path)
            .output()
            .unwrap()
    }

    /// What it says while it works.
    fn builds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let directory = String::from_utf8(output.stdout).unwrap();
        assert_eq!(Path::new(directory.trim()), self.path("cache/l4t"));
        said
    }

    fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn of_the_tree(&self, name: &str) -> PathBuf {
        self.path(TREE).join(name)
    }
}

#[test]
fn archives_become_a_tree_that_can_be_flashed() {
    let bench = Bench::new();
    let secret = "9f2c0d5e8a7b4c3d9f2c0d5e8a7b4c3d";
    bench.write("first.toml", &format!("api_keys = ['{secret}']\n"));
    let said = bench.builds(&["--first-boot", "first.toml"]);
    assert!(said.contains("nvidia: time left unknown"), "{said}");
    assert!(!said.contains(secret), "{said}");

    // Our packages are in it, what all boards would share is not, and what a screen's
    // dialogue would ask for is off.
    for there in ["usr/bin/stoker", "usr/lib/systemd/system/stoker-firstboot.service", MARKS] {
        assert!(bench.of_the_tree(there).symlink_metadata().is_ok(), "{there}");
    }
    assert_eq!(bench.read(&format!("{TREE}/etc/machine-id")), "");
    assert!(!bench.of_the_tree("etc/ssh/ssh_host_rsa_key").exists());
    assert!(!bench.of_the_tree("tmp/debs").exists());
    let ssh = bench.read(&format!("{TREE}/etc/ssh/sshd_config.d/10-stoker.conf"));
    assert!(ssh.contains("PasswordAuthentication no\n"), "{ssh}");
    let dialogue = bench.of_the_tree("etc/systemd/system/nv-oem-config.service");
    assert_eq!(fs::read_link(dialogue).unwrap(), Path::new("/dev/null"));
    let first = bench.of_the_tree("boot/stoker.toml");
    assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o600);

    let flash = bench.read("cache/l4t/flash.txt");
    for command in [
        "sudo ./tools/kernel_flash/l4t_initrd_flash.sh --external-device nvme0n1p1 \
         -c tools/kernel_flash/flash_l4t_t234_nvme.xml \
         -p \"-c bootloader/generic/cfg/flash_t234_qspi.xml\" \
         --showlogs --network usb0 jetson-orin-nano-devkit-super internal\n",
        "sudo ROOTFS_AB=1 ROOTFS_RETRY_COUNT_MAX=3 ./tools/kernel_flash/l4t_initrd_flash.sh \
         --external-device nvme0n1p1 -c tools/kernel_flash/flash_l4t_t234_nvme_rootfs_ab.xml \
         -p \"-c bootloader/generic/cfg/flash_t234_qspi.xml\" \
         --showlogs --network usb0 jetson-orin-nano-devkit-super external\n",
        "sudo ./flash.sh jetson-agx-orin-devkit internal\n",
        "--flash-only --massflash 5 ",
    ] {
        assert!(flash.contains(command), "{command}\n{flash}");
    }
    assert!(!flash.contains(secret));

    // What was done is not done again, and a file that is new is taken.
    bench.write("second.toml", "hostname = 'box'\n");
    let said = bench.builds(&["--first-boot", "second.toml"]);
    for step in ["archives", "nvidia", "packages"] {
        assert!(said.contains(&format!("{step}: as it was\n")), "{said}");
    }
    assert_eq!(fs::read_to_string(&first).unwrap(), "hostname = 'box'\n");
    let _ = bench.builds(&[]);
    assert!(!first.exists());
    assert_eq!(bench.read("cache/l4t/Linux_for_Tegra/applied"), "applied\n");
}

/// As NVIDIA's layout for two systems is made, with few of its partitions.
fn layout(last: &str) -> String {
    let partition = |name: &str, id: &str| {
        format!(
            "        <partition name=\"{name}\"{id} type=\"data\">\n            \
             <allocation_attribute> 8 </allocation_attribute>\n        </partition>\n"
        )
    };
    let middle = format!("{}{}", partition("UDA", " id=\"15\""), partition("APP", " id=\"1\""));
    format!(
        "<?xml version=\"1.0\"?>\n<!-- kept -->\n<partition_layout version=\"01.00.0000\">\n    \
         <device type=\"nvme\" instance=\"4\">\n{middle}{}{}    </device>\n</partition_layout>\n",
        partition(last, " id=\"2\""),
        partition("secondary_gpt", "")
    )
}

#[test]
fn two_systems_share_a_partition_that_takes_the_rest_of_the_disk() {
    let bench = Bench::new();
    let nvidias = layout("APP_b");
    bench.write(&format!("bsp/{LAYOUTS}/flash_l4t_t234_nvme_rootfs_ab.xml"), &nvidias);
    symlink("/run/systemd/resolve/none", bench.path("samplefs/etc/resolv.conf")).unwrap();
    bench.write("samplefs/var/lib/stoker-update/.keep", "");
    bench.pack();
    bench.write("system.pem", "-----BEGIN CERTIFICATE-----\n");
    bench.builds(&["--slots", "--update-certificate", "system.pem"]);

    let conf = bench.read(&format!("{TREE}/etc/rauc/system.conf"));
    assert!(conf.contains("\ncompatible=stoker-jetson-36.5.0\n"), "{conf}");
    let certificate = bench.of_the_tree("etc/stoker/update-keys.d/system.pem");
    assert!(certificate.exists() && !bench.of_the_tree("usr/sbin/nvbootctrl").exists());
    let fstab = bench.read(&format!("{TREE}/etc/fstab"));
    assert!(fstab.contains("\n/data/stoker /var/lib/stoker none bind,"), "{fstab}");
    let installed = bench.read(&format!("{TREE}/installed"));
    assert!(
        installed.trim().ends_with("- rauc rauc-service cloud-guest-utils fdisk"),
        "{installed}"
    );
    let resolv = fs::read_link(bench.of_the_tree("etc/resolv.conf")).unwrap();
    assert_eq!(resolv, Path::new("/run/systemd/resolve/none"));

    let ours = format!("cache/l4t/{LAYOUTS}/flash_stoker_nvme_rootfs_ab.xml");
    let (ours, added) = (bench.read(&ours), "name=\"stoker-data\" id=\"16\"");
    let at = ours.find("        <partition name=\"stoker-data\"").unwrap();
    let end = at + ours[at..].find("</partition>\n").unwrap() + "</partition>\n".len();
    assert_eq!([&ours[..at], &ours[end..]].concat(), nvidias);
    assert!(ours[at..end].contains(added) && ours[at..end].contains(" 0x808 "), "{ours}");
    let image = bench.path("cache/l4t/Linux_for_Tegra/bootloader/stoker-data.img");
    let look = Command::new("debugfs").args(["-R", "ls -p /"]).arg(image).output().unwrap();
    let names = String::from_utf8_lossy(&look.stdout).into_owned();
    for name in ["/stoker/", "/stoker-update/", "/journal/", "/rauc/"] {
        assert!(names.contains(name), "{names}");
    }
    let flash = bench.read("cache/l4t/flash.txt");
    assert!(flash.contains("-c tools/kernel_flash/flash_stoker_nvme_rootfs_ab.xml "), "{flash}");

    // A layout that is another one is not changed blindly.
    for (layout, why) in [
        (layout("other"), "the layout has 0 partitions APP_b"),
        (nvidias.replace(" 8 ", " 0x808 "), "takes the rest of the disk already"),
    ] {
        let bench = Bench::new();
        bench.write(&format!("bsp/{LAYOUTS}/flash_l4t_t234_nvme_rootfs_ab.xml"), &layout);
        bench.pack();
        let said = bench.refuses(&["--slots"]);
        assert!(said.contains(why), "{said}");
    }
    assert!(Bench::new().refuses(&["--update-certificate", "x"]).contains("goes with --slots"));
}

#[test]
fn what_would_not_do_on_a_board_is_refused() {
    let bench = Bench::new();
    let sums = bench.read("l4t/SHA256SUMS");
    fs::remove_file(bench.path("l4t/SHA256SUMS")).unwrap();
    let said = bench.refuses(&[]);
    assert!(said.contains("does not say what these files are to be"), "{said}");
    for line in sums.lines() {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let other: Vec<_> =
        sums.lines().map(|line| "0".repeat(64) + line.get(64..).unwrap() + "\n").collect();
    bench.write("l4t/SHA256SUMS", &other.concat());
    assert!(bench.refuses(&[]).contains("is damaged or another file"));
    bench.write("l4t/SHA256SUMS", &sums);
    for (name, why) in [("etc/shadow", "a password for: box"), (MARKS, "recovery for ever")] {
        let bench = Bench::new();
        fs::remove_file(bench.path("samplefs").join(name)).unwrap();
        if name == "etc/shadow" {
            bench.write("samplefs/etc/shadow", "root:*:1::::::\nbox:$6$x$y:1::::::\n");
        }
        bench.pack();
        let said = bench.refuses(&[]);
        assert!(said.contains(why), "{said}");
        assert!(!bench.path("cache/l4t").exists(), "half a tree is not flashed");
    }
    let faulty = |name: &str| name.replace("36.5.0", "36.4.7");
    for name in [BSP, SAMPLEFS] {
        fs::rename(bench.path("l4t").join(name), bench.path("l4t").join(faulty(name))).unwrap();
    }
    assert!(bench.refuses(&[]).contains("cannot give the GPU large pieces of memory"));
    fs::remove_file(bench.path("l4t").join(faulty(BSP))).unwrap();
    let said = bench.refuses(&[]);
    assert!(said.contains("has 0 files Jetson_Linux_[rR]*_aarch64.tbz2"), "{said}");
}
