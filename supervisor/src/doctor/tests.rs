//! What the doctor says of recreated boards that have one fault each.

use expect_test::{Expect, expect};
use jetpack::{Bytes, Machine};
use recreated_boards::{self as tree, Tree};

use super::*;

fn seen(tree: &Tree) -> Seen {
    let gib = |gib: u64| Bytes::from_kib(gib * 1024 * 1024);
    let disk = Disk { total_bytes: gib(100), available_bytes: gib(50) };
    let sample = Machine::open(tree.root()).sample();
    Seen {
        sample,
        state_dir: "/var/lib/stoker".into(),
        disk: Some(disk),
        unsafe_shutdowns: Some(0),
    }
}

/// A board with nothing to find: those that are sold have compressed swap and
/// a quiet fan.
fn healthy() -> Tree {
    let tree = tree::orin_nano();
    let swap = "Filename Type Size Used Priority\n/swapfile file 8388604 0 -2\n";
    tree.write("proc/swaps", swap);
    tree.write("etc/nvfancontrol.conf", "<FAN 1>\n\tFAN_DEFAULT_PROFILE cool\n");
    tree
}

#[expect(clippy::needless_pass_by_value, reason = "as the macro makes it")]
fn check(seen: &Seen, expected: Expect) {
    expected.assert_eq(&report::Text(&Report::of(seen)).to_string());
}

fn check_tree(change: impl FnOnce(&Tree), expected: Expect) {
    let tree = healthy();
    change(&tree);
    check(&seen(&tree), expected);
}

#[test]
fn shutdowns_that_were_none_are_a_note_and_many_a_warning() {
    let tree = healthy();
    for (count, severity) in
        [(None, None), (Some(1), Some(Severity::Note)), (Some(5), Some(Severity::Warning))]
    {
        let report = Report::of(&Seen { unsafe_shutdowns: count, ..seen(&tree) });
        assert_eq!(report.findings.first().map(|finding| finding.severity), severity);
    }
}

#[test]
fn nothing_is_wrong_with_a_healthy_board() {
    check_tree(
        |_| {},
        expect![[r#"
        nothing is wrong
    "#]],
    );
    assert_eq!(Report::of(&seen(&healthy())).exit_code(), 0);
}

#[test]
fn a_board_as_it_is_sold() {
    check(
        &seen(&tree::orin_nano()),
        expect![[r#"
        warning  3.7 GiB of swap are compressed memory (zram) [zram]
                 why: what is swapped still takes memory, which the GPU's memory is part of, and processor time
                 do:  systemctl disable nvzramconfig.service, have swap on NVMe instead, reboot
        note     the fan follows the profile "quiet" [fan_profile_quiet]
                 why: under lasting load the board gets hotter than it has to, and sooner slow
                 do:  if noise does not matter: FAN_DEFAULT_PROFILE cool in /etc/nvfancontrol.conf, delete /var/lib/nvfancontrol/status, restart nvfancontrol.service
    "#]],
    );
}

#[test]
fn an_agx_orin_as_it_is_sold() {
    check(
        &seen(&tree::agx_orin_64gb()),
        expect![[r#"
            warning  the power mode is 30W, below 50W [power_mode_low]
                     why: 50W gives the most tokens for each joule (inferred from measurements of this chip at that clock), and more of them
                     do:  nvpmodel -m 3, if supply and cooling can bear it; it may ask for a reboot
            warning  3.7 GiB of swap are compressed memory (zram) [zram]
                     why: what is swapped still takes memory, which the GPU's memory is part of, and processor time
                     do:  systemctl disable nvzramconfig.service, have swap on NVMe instead, reboot
            note     the fan follows the profile "quiet" [fan_profile_quiet]
                     why: under lasting load the board gets hotter than it has to, and sooner slow
                     do:  if noise does not matter: FAN_DEFAULT_PROFILE cool in /etc/nvfancontrol.conf, delete /var/lib/nvfancontrol/status, restart nvfancontrol.service
        "#]],
    );
}

#[test]
fn a_board_on_jetpack_7_with_another_s_name() {
    let tree = tree::orin_nano_jetpack_7();
    check(
        &seen(&tree),
        expect![[r#"
            warning  3.7 GiB of swap are compressed memory (zram) [zram]
                     why: what is swapped still takes memory, which the GPU's memory is part of, and processor time
                     do:  systemctl disable nvzramconfig.service, have swap on NVMe instead, reboot
            note     the board calls itself "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super", but is a Jetson Orin Nano 8GB [model_disagrees]
                     why: tools that go by that name take wrong limits; this one goes by the part number
                     do:  nothing, if the module is a Jetson Orin Nano 8GB (p3767-0005)
            note     the fan follows the profile "quiet" [fan_profile_quiet]
                     why: under lasting load the board gets hotter than it has to, and sooner slow
                     do:  if noise does not matter: FAN_DEFAULT_PROFILE cool in /etc/nvfancontrol.conf, delete /var/lib/nvfancontrol/status, restart nvfancontrol.service
        "#]],
    );
}

#[test]
fn a_release_that_refuses_large_allocations() {
    let release = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic\n";
    check_tree(
        |tree| tree.write("etc/nv_tegra_release", release),
        expect![[r#"
        serious  Jetson Linux 36.4.7 refuses large allocations of GPU memory [nvmap_bug]
                 why: models that fit fail to load with "out of memory" or NvMap error 12
                 do:  update to Jetson Linux 36.5.0 or newer; until then, keep models well below half of the memory
    "#]],
    );
}

#[test]
fn a_clock_in_1970() {
    check_tree(
        |tree| tree.write("proc/stat", "cpu 1 2 3 4\nbtime 12\n"),
        expect![[r#"
        warning  the clock is earlier than the system that runs [clock_wrong]
                 why: connections to other servers fail, and times in logs mislead; a board without a battery forgets the time at each power cut
                 do:  connect a time server (timedatectl set-ntp true), or fit the clock's battery
    "#]],
    );
}

#[test]
fn a_power_mode_below_the_best() {
    check_tree(
        |tree| tree.write("var/lib/nvpmodel/status", "pmode:0000\n"),
        expect![[r#"
        warning  the power mode is 15W, below 25W [power_mode_low]
                 why: 25W gives the most tokens for each joule (measured on this module), and more of them
                 do:  nvpmodel -m 1, if supply and cooling can bear it; it may ask for a reboot
    "#]],
    );
}

#[test]
fn a_gpu_that_firmware_holds_down() {
    let steps = "306000000 408000000 510000000 612000000 624750000 \n";
    let path = "sys/class/devfreq/17000000.gpu/available_frequencies";
    check_tree(
        |tree| tree.write(path, steps),
        expect![[r#"
            serious  the GPU offers no clock above 624.8 MHz; this module has 1020 MHz [gpu_capped_by_firmware]
                     why: the firmware in flash is older than the system, or not the one for this module, and that part of the speed is missing in every power mode
                     do:  flash the board anew with its own configuration (for the higher power modes, the one whose name ends in -super)
        "#]],
    );
}

#[test]
fn a_fan_that_is_stuck() {
    check_tree(
        |tree| tree.write("sys/class/hwmon/hwmon2/rpm", "0\n"),
        expect![[r#"
        serious  the fan pwmfan is told to turn and does not [fan_stopped]
                 why: it is stuck, unplugged or broken; under load the board slows down and switches off
                 do:  see to the fan and its plug
    "#]],
    );
}

#[test]
fn a_fan_that_is_off_on_a_hot_board() {
    let hot = |tree: &Tree| {
        tree.write("sys/class/hwmon/hwmon0/pwm1", "0\n");
        tree.write("sys/class/hwmon/hwmon2/rpm", "0\n");
        tree.write("sys/class/thermal/thermal_zone8/temp", "91000\n");
    };
    check_tree(
        hot,
        expect![[r#"
        warning  no fan turns at 91.0 °C [fan_off]
                 why: the board will slow down at 99 °C and switch off at 104.5 °C
                 do:  see whether nvfancontrol.service runs
    "#]],
    );
}

#[test]
fn a_quiet_fan_is_worth_knowing_and_nothing_wrong() {
    let quiet = |tree: &Tree| tree.write("etc/nvfancontrol.conf", "FAN_DEFAULT_PROFILE quiet\n");
    check_tree(
        quiet,
        expect![[r#"
        note     the fan follows the profile "quiet" [fan_profile_quiet]
                 why: under lasting load the board gets hotter than it has to, and sooner slow
                 do:  if noise does not matter: FAN_DEFAULT_PROFILE cool in /etc/nvfancontrol.conf, delete /var/lib/nvfancontrol/status, restart nvfancontrol.service
        nothing is wrong, some things are worth knowing
    "#]],
    );
}

#[test]
fn no_swap() {
    check_tree(
        |tree| tree.write("proc/swaps", "Filename Type\n"),
        expect![[r#"
        warning  there is no swap [swap_missing]
                 why: when memory runs short, the kernel ends a program instead of moving what nobody uses
                 do:  make a swap file of 4 to 8 GiB, on NVMe if there is one
    "#]],
    );
}

#[test]
fn a_desktop() {
    let desktop = |tree: &Tree| {
        tree.link("etc/systemd/system/default.target", "/usr/lib/systemd/system/graphical.target");
        tree.link(
            "etc/systemd/system/display-manager.service",
            "/usr/lib/systemd/system/gdm.service",
        );
    };
    check_tree(
        desktop,
        expect![[r#"
        warning  a desktop starts at boot [desktop]
                 why: it takes up to 865 MB (NVIDIA's figure) of the memory that the model shares
                 do:  systemctl set-default multi-user.target, reboot
    "#]],
    );
}

#[test]
fn somebody_else_on_the_gpu() {
    let clients = "CLIENT PROCESS PID SIZE\nuser engine-worker 4321 524288K\n\
                   user gnome-shell 1543 220K\nuser ollama 77 3G\nuser python3 78 1G\ntotal 5G\n";
    check_tree(
        |tree| tree.write("sys/kernel/debug/nvmap/iovmm/clients", clients),
        expect![[r#"
            warning  ollama (process 77) and another have 4.0 GiB of the GPU's memory [gpu_memory_taken]
                     why: a model that would fit may not load, and work takes turns on the GPU
                     do:  end it, or choose a smaller model
        "#]],
    );
}

#[test]
fn a_disk_that_is_nearly_full() {
    let mut seen = seen(&healthy());
    seen.disk.as_mut().unwrap().available_bytes = Bytes::from_kib(3 * 1024 * 1024);
    check(
        &seen,
        expect![[r#"
        warning  3.0 GiB of 100.0 GiB are left on the disk that holds /var/lib/stoker [disk_nearly_full]
                 why: requests are not remembered and engines cannot be built without room
                 do:  remove engines that nobody uses, old logs, container images
    "#]],
    );
    seen.disk.as_mut().unwrap().available_bytes = Bytes::from_kib(100);
    assert_eq!(Report::of(&seen).exit_code(), SERIOUS);
}

#[test]
fn a_system_on_a_card_with_a_damaged_file_system() {
    let card = |tree: &Tree| {
        tree.write("proc/mounts", "/dev/mmcblk0p1 / ext4 rw 0 0\n");
        tree.write("sys/block/mmcblk0/device/type", "SD\n");
        tree.write("sys/fs/ext4/mmcblk0p1/errors_count", "2\n");
    };
    check_tree(
        card,
        expect![[r#"
        serious  the file system on mmcblk0p1 counts 2 errors [ext4_errors]
                 why: it is damaged, and a Jetson does not check its root at boot
                 do:  save the state directory, then check it with e2fsck -f /dev/mmcblk0p1 from another system
        warning  the system runs from an SD card [root_on_sd_card]
                 why: cards wear out and lose data at power cuts; it is the commonest end of such boards
                 do:  move the system to NVMe
    "#]],
    );
}

#[test]
fn a_watchdog_that_nobody_set() {
    let unset = |tree: &Tree| tree.write("sys/class/watchdog/watchdog0/state", "inactive\n");
    check_tree(
        unset,
        expect![[r#"
        warning  the hardware watchdog is not set [watchdog_unset]
                 why: a kernel that hangs stays so until somebody pulls the plug
                 do:  write RuntimeWatchdogSec=30s below [Manager] in /etc/systemd/system.conf.d/zz-appliance.conf and reboot
    "#]],
    );
}

#[test]
fn a_boot_slot_that_was_given_up_because_nobody_marks_boots() {
    let given_up = |tree: &Tree| {
        let slot = "RootfsStatusSlotA-781e084c-a330-417c-b678-38e696380cb9";
        tree.write(format!("sys/firmware/efi/efivars/{slot}"), [7, 0, 0, 0, 0xff, 0, 0, 0]);
        tree.remove("etc/systemd/system/multi-user.target.wants/nv-l4t-bootloader-config.service");
    };
    check_tree(
        given_up,
        expect![[r#"
        serious  the firmware has given up boot slot A (RootfsStatusSlotA is 0xFF) [boot_slot_given_up]
                 why: from now on it boots the recovery system, and this machine does not come back
                 do:  set RootfsStatusSlotA to 0 (in the firmware's shell, or in efivars after chattr -i), and see that nv-l4t-bootloader-config.service runs at each boot
        serious  nothing marks boots as good [boot_not_marked]
                 why: the firmware counts boots that nobody marks; after about three warm ones it boots the recovery system for ever
                 do:  systemctl enable nv-l4t-bootloader-config.service, then run `nvbootctrl verify`
    "#]],
    );
}

#[test]
fn one_of_two_systems_that_was_given_up() {
    let set = |tree: &Tree, name: &str, value: u8| {
        let variable = format!("{name}-781e084c-a330-417c-b678-38e696380cb9");
        let path = format!("sys/firmware/efi/efivars/{variable}");
        tree.write(path, [7, 0, 0, 0, value, 0, 0, 0]);
    };
    let given_up = |tree: &Tree| {
        set(tree, "RootfsRedundancyLevel", 1);
        set(tree, "RootfsStatusSlotB", 0xff);
    };
    check_tree(
        given_up,
        expect![[r#"
        warning  the firmware has given up system B, and starts the other one [boot_slot_given_up]
                 why: if that one fails as well, there is nothing to go back to but recovery
                 do:  see how the last update ended (`stoker update status`), and install another one: it is written over this system
    "#]],
    );
}

#[test]
fn sensors_that_lie() {
    let lie = |tree: &Tree| {
        tree.write("sys/class/thermal/thermal_zone0/temp", "-256000\n");
        tree.write("sys/class/hwmon/hwmon2/rpm", "many\n");
    };
    check_tree(
        lie,
        expect![[r#"
        warning  these sensors cannot be read: cpu-thermal (the sensor's answer makes no sense), fan pwmfan (the sensor's answer makes no sense) [sensors_broken]
                 why: what cannot be measured cannot be kept below its limit
                 do:  reboot; if it stays, look into the kernel's log (dmesg)
    "#]],
    );
}

#[test]
fn what_cannot_be_looked_at_is_neither_well_nor_ill() {
    let blind = |tree: &Tree| {
        for file in [
            "sys/kernel/debug/nvmap/iovmm/clients",
            "var/lib/nvpmodel/status",
            "sys/class/hwmon/hwmon9/name",
            "proc/swaps",
        ] {
            tree.remove(file);
        }
    };
    check_tree(
        blind,
        expect![[r#"
                 not looked at: the power mode (this machine does not report it)
                 not looked at: swap (the kernel does not tell)
                 not looked at: who has the GPU's memory (this machine does not report it)
                 not looked at: the power that the board takes (no sensor measures the whole machine)
        nothing is wrong
    "#]],
    );
}

#[test]
fn a_pc_is_not_measured_as_a_jetson() {
    let mut seen = seen(&tree::pc());
    seen.disk = None;
    check(
        &seen,
        expect![[r#"
                     not looked at: the clock (the kernel does not tell when it was started)
                     not looked at: swap (the kernel does not tell)
                     not looked at: room on the disk (it is not known for this root)
            nothing is wrong
        "#]],
    );
    assert_eq!(Report::of(&seen).exit_code(), 0);
}
